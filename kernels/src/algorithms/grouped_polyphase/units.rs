//! The phases along x, one or two to a unit: what tiles share an input vector among.
//!
//! Time t of a unit is position t − base of each of its phases, so tap m of all of them reads input t − m·step.

use std::ops::Range;

use crate::microkernels::grouped_tile::{MOST_TAPS, Shape};
use crate::problem::geometry::Phase;

/// Phases whose sums one tile keeps.
#[derive(Debug, Clone)]
pub struct Unit {
    /// Numbers of the phases; the second is [`None`] for a single one.
    pub phases: (usize, Option<usize>),
    /// Taps m that one run of the tile adds. None where the phase has no taps at all.
    pub chunks: Vec<Chunk>,
}

/// Neighbouring taps along x.
#[derive(Debug, Clone, Copy)]
pub struct Chunk {
    pub shape: Shape,
    /// The first of its taps.
    pub first: usize,
    /// Taps of all chunks of all units before it.
    pub before: usize,
}

impl Unit {
    /// Numbers of its phases.
    #[inline(always)]
    pub fn phases(&self) -> impl Iterator<Item = usize> {
        [Some(self.phases.0), self.phases.1].into_iter().flatten()
    }

    /// Times at which any of its phases has an output among the positions `x`.
    #[inline(always)]
    pub fn times(&self, phases: &[Phase], x: &Range<usize>) -> Range<i64> {
        let of = |f: usize| {
            let p = &phases[f];
            x.start as i64 + p.base..x.end.min(p.outputs) as i64 + p.base
        };
        let all = self.phases().map(of).filter(|r| !r.is_empty());
        all.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
    }
}

/// All phases, in units. Two phases go together where a tile fits both, and their times are the same but for one.
pub fn units(phases: &[Phase]) -> Vec<Unit> {
    let fits = |a: &Phase, b: &Phase| {
        let (more, less) = (a.taps.max(b.taps), a.taps.min(b.taps));
        let even = more == less || more % 2 == 0 && more == less + 1;
        less > 0 && even && a.base.abs_diff(b.base) <= 1
    };
    let (mut units, mut before, mut taken) = (Vec::new(), 0, vec![false; phases.len()]);
    for f in 0..phases.len() {
        if taken[f] {
            continue;
        }
        // An equal one rather than an unequal one, the next rather than one further on; not all pairs of a huge stride.
        let near =
            || (f + 1..phases.len().min(f + 64)).filter(|&g| !taken[g] && fits(&phases[f], &phases[g]));
        let second = near().find(|&g| phases[g].taps == phases[f].taps).or_else(|| near().next());
        let pair = match second {
            Some(g) if phases[g].taps > phases[f].taps => (g, Some(f)),
            _ => (f, second),
        };
        if let Some(g) = second {
            taken[g] = true;
        }
        let of = |f: Option<usize>| f.map_or(0, |f| phases[f].taps);
        let chunks = chunks([of(Some(pair.0)), of(pair.1)], &mut before);
        units.push(Unit { phases: pair, chunks });
    }
    units
}

/// The taps of one phase, or of two, cut into chunks that tiles have.
fn chunks(taps: [usize; 2], before: &mut usize) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut first = 0;
    while first < taps[0] {
        let left = taps[0] - first;
        let shape = if taps[1] == 0 {
            // Equal parts: a single tap would have an input vector for itself.
            Shape::one(left.div_ceil(left.div_ceil(MOST_TAPS)))
        } else {
            Shape::two([left.min(2), (taps[1] - first).min(2)])
        };
        chunks.push(Chunk { shape, first, before: *before });
        *before += shape.products();
        first += shape.taps;
    }
    chunks
}

/// Inputs relative to a position that tiles may read for it, valid or not; empty without taps.
pub fn reach(units: &[Unit], phases: &[Phase]) -> Range<i64> {
    let live = units.iter().filter(|u| !u.chunks.is_empty());
    let of = |u: &Unit| {
        let bases = || u.phases().map(|f| phases[f].base);
        let taps = phases[u.phases.0].taps;
        let back = (taps - 1).saturating_mul(phases[u.phases.0].input_step) as i64;
        bases().min().unwrap_or(0) - back..bases().max().unwrap_or(0) + 1
    };
    live.map(of).reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
}

/// For each number of positions up to `most`, the width of the first tile: widths add up to the number, as cheaply as they can.
pub fn splits(shape: Shape, most: usize, registers: usize, latency: usize) -> Vec<u8> {
    let widths = shape.widths(registers);
    // A tile takes a multiply-add for each sum, at least until the last one is done, and some time before and after.
    let cost = |width: usize| (width * shape.phases).max(latency) as f64 + 1.5;
    let (mut best, mut first) = (vec![0.0; most + 1], vec![0u8; most + 1]);
    for n in 1..=most {
        let of = |w: usize| best[n - w] + cost(w);
        let w = widths.iter().copied().filter(|&w| w <= n).min_by(|&a, &b| of(a).total_cmp(&of(b)));
        let w = w.expect("a tile of one position exists");
        (best[n], first[n]) = (of(w), w as u8);
    }
    first
}
