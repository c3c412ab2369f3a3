//! Pairs of neighbours that read nearly the same inputs: output rows along y, phases along x.

use crate::error::Error;
use crate::machine::scratch::filled_vec;
use crate::microkernels::row_tile::{PAIR, Run, Span, Taps, spans};
use crate::problem::geometry::{AxisGeometry, Phase};

/// Elements from one input, and from one tap, to the next.
#[derive(Debug, Clone, Copy)]
pub struct Steps {
    pub input: usize,
    pub weight: usize,
}

/// Spans as a tile reads them.
fn runs(spans: &[Span; 3], sides: [&Phase; PAIR], steps: Steps) -> [Run; 3] {
    spans.map(|s| Run::new(&s, steps.input, |side, tap| sides[side].tap(tap) * steps.weight))
}

/// Two neighbours, with all their taps, where the first is at position 0.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    /// The second phase, if any.
    second: Option<usize>,
    /// Outputs of each phase.
    pub outputs: [usize; PAIR],
    pub runs: [Run; 3],
    /// The inputs that they read: the first, and the one after the last.
    reads: (i64, i64),
}

impl Pair {
    fn new(
        axis: &AxisGeometry,
        (first, second): (usize, Option<usize>),
        second_position: usize,
        steps: Steps,
    ) -> Self {
        let at = |phase: usize, q: usize| {
            let p = &axis.phases[phase];
            Taps { first: p.base + q as i64, start: 0, len: p.taps }
        };
        let a = at(first, 0);
        let b = second.map_or(Taps::NONE, |s| at(s, second_position));
        let step = axis.phases[first].input_step;
        let spans = spans(a, b, step.max(1));
        let live = spans.iter().filter(|s| s.len > 0);
        let reads = live
            .map(|s| (s.first - ((s.len - 1) * step) as i64, s.first + 1))
            .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
            .unwrap_or((0, 0));
        let sides = [&axis.phases[first], &axis.phases[second.unwrap_or(first)]];
        let outputs = [sides[0].outputs, second.map_or(0, |_| sides[1].outputs)];
        Self { second, outputs, runs: runs(&spans, sides, steps), reads }
    }

    /// Whether there are taps at all.
    #[inline(always)]
    pub fn is_alive(&self) -> bool {
        self.reads.0 < self.reads.1
    }

    /// Whether all taps meet the input where the first is at position `q`.
    #[inline(always)]
    pub fn is_inside(&self, q: usize, input: usize) -> bool {
        self.second.is_some() && q as i64 + self.reads.0 >= 0 && q as i64 + self.reads.1 <= input as i64
    }
}

/// The pairs of output rows, by the phase of the first: the second is the next row.
pub fn row_pairs(axis: &AxisGeometry, steps: Steps) -> Result<Vec<Pair>, Error> {
    let phases = axis.phases.len();
    let pair = |first: usize| {
        if first + 1 < phases {
            Pair::new(axis, (first, Some(first + 1)), 0, steps)
        } else {
            // Around: the first phase, one position later; missing where there are fewer outputs than phases.
            Pair::new(axis, (first, (phases == axis.axis.stride).then_some(0)), 1, steps)
        }
    };
    collect(phases, pair)
}

/// The phases along x, two by two.
pub fn x_pairs(axis: &AxisGeometry, steps: Steps) -> Result<Vec<Pair>, Error> {
    let phases = axis.phases.len();
    collect(phases.div_ceil(PAIR), |i| {
        Pair::new(axis, (PAIR * i, (PAIR * i + 1 < phases).then_some(PAIR * i + 1)), 0, steps)
    })
}

fn collect(count: usize, pair: impl Fn(usize) -> Pair) -> Result<Vec<Pair>, Error> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let mut pairs = filled_vec("pairs of phases", count, pair(0))?;
    for (i, p) in pairs.iter_mut().enumerate() {
        *p = pair(i);
    }
    Ok(pairs)
}

/// The taps that meet the input in `count` (1 or 2) output rows from `output` on.
pub fn valid_runs(axis: &AxisGeometry, output: usize, count: usize, steps: Steps) -> [Run; 3] {
    let taps = |output: usize| {
        let (phase, q) = axis.phase_of(output);
        let valid = phase.valid_taps(q);
        Taps { first: phase.input_index(q, valid.start), start: valid.start, len: valid.len() }
    };
    let b = if count == PAIR { taps(output + 1) } else { Taps::NONE };
    let sides = [axis.phase_of(output).0, axis.phase_of(output + count - 1).0];
    runs(&spans(taps(output), b, axis.phases[0].input_step.max(1)), sides, steps)
}
