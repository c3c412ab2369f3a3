//! The register tile of grouped layers: F stride phases along x × P positions, one vector of output channels of several
//! groups, summed over a box of taps and a run of input channels.
//!
//! Each lane multiplies an input of its own group. So an input is no broadcast: a packed vector holds, for some pixel, the
//! same few input channels of each group, and a permutation puts channel c of the lane's group into each lane. What that
//! costs is shared by all products of the permuted vector: position p of a phase meets input p − m through tap m, so that one
//! vector serves up to R taps of F phases.
//!
//! ```text
//!   inputs p − R + 1 … p + P − 1, one permutation each      acc[f][p] += w[f][m] · x[p − m]
//!   weights w[f][m] stay in registers meanwhile
//! ```

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::permute::permute;
use super::vector::Float;
use crate::machine::prefetch;

/// Which taps a tile has along x: `phases` (1 or 2) phases, of which the first `full` have `taps` taps (1 to [`MOST_TAPS`]),
/// the others one less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// 1 or 2.
    pub phases: usize,
    /// Of the phases that have the more.
    pub taps: usize,
    /// Phases that have so many.
    pub full: usize,
}

/// Taps along x of one tile.
pub const MOST_TAPS: usize = 3;

impl Shape {
    /// One phase.
    pub const fn one(taps: usize) -> Self {
        Self { phases: 1, taps, full: 1 }
    }

    /// Two phases of up to two taps, the first with the more.
    pub const fn two(taps: [usize; 2]) -> Self {
        Self { phases: 2, taps: taps[0], full: if taps[1] == taps[0] { 2 } else { 1 } }
    }

    /// Products of one position, which are the vectors of weights of one input channel.
    pub const fn products(self) -> usize {
        self.full * self.taps + (self.phases - self.full) * (self.taps - 1)
    }

    /// Positions of the tiles that exist, with so many registers, in rising order from 1 on.
    pub fn widths(self, registers: usize) -> &'static [usize] {
        match (registers >= 32, self.phases) {
            (true, 1) => &[1, 2, 4, 8, 14, 20],
            (true, _) => &[1, 2, 4, 6, 8, 11],
            (false, 1) => &[1, 2, 4, 7, 10],
            (false, _) => &[1, 2, 3, 4, 5],
        }
    }
}

/// Where the operands of a tile lie. Distances in elements.
#[derive(Debug, Clone, Copy)]
pub struct Operands<'a, T> {
    /// Packed input: the first vector of position p for tap (z, y, m) lies at
    /// `input_start − z·input_steps[0] − y·input_steps[1] + (p − m)·pixel`; the others of a pixel follow it.
    pub input: &'a [T],
    /// Position 0, tap (0, 0, 0).
    pub input_start: usize,
    /// How far back each further tap along z, y reads.
    pub input_steps: [usize; 2],
    /// Distance of neighbouring positions of the tile, and of taps along x.
    pub pixel: usize,
    /// Input channels of each group in one packed vector.
    pub per_vector: usize,
    /// For each of these, the indices that put it into the lanes of its group.
    pub indices: &'a [T],
    /// Packed weights; those of channel c of tap (z, y) lie at `weight_start + z·weight_steps[0] + y·weight_steps[1]`,
    /// channel after channel, for each phase and each of its taps a vector.
    pub weights: &'a [T],
    /// Channel 0, tap (0, 0).
    pub weight_start: usize,
    /// Distance of the taps' weights along z, y.
    pub weight_steps: [usize; 2],
    /// Taps along z, y.
    pub taps: [usize; 2],
    /// Input channels of a group.
    pub channels: usize,
}

/// Where the sums of a tile go.
#[derive(Debug)]
pub enum Place<'s, T> {
    /// A buffer of vectors.
    Sums {
        /// The buffer.
        sums: &'s mut [T],
        /// Vector of position 0 of each phase.
        starts: [usize; 2],
        /// Vectors from one position to the next.
        step: usize,
    },
    /// The output itself.
    Output {
        /// Position 0 of each phase.
        to: [*mut T; 2],
        /// Elements from one position to the next.
        step: usize,
        /// Positions of each phase that are outputs.
        valid: [Range<usize>; 2],
    },
}

/// Runs a tile. Sums begin with the vector `start`, or with what their place, which is [`Place::Sums`] then, holds.
///
/// # Safety
/// Every valid vector of [`Place::Output`] may be written, and nobody else accesses it meanwhile.
#[inline(always)]
pub unsafe fn accumulate<T: Float, S: Simd>(
    simd: S,
    shape: Shape,
    positions: usize,
    operands: &Operands<'_, T>,
    start: Option<&[T]>,
    place: Place<'_, T>,
) {
    macro_rules! tile {
        ($f:literal $r:literal $e:literal: $($p:literal)*) => {
            match positions {
                $($p => simd.vectorize(Tile::<T, $f, $r, $e, $p> { operands, start, place }),)*
                _ => unreachable!("{positions} positions"),
            }
        };
    }
    macro_rules! shapes {
        ([$($one:literal)*] [$($two:literal)*]) => {
            match (shape.phases, shape.taps, shape.full) {
                (1, 1, _) => tile!(1 1 1: $($one)*),
                (1, 2, _) => tile!(1 2 1: $($one)*),
                (1, 3, _) => tile!(1 3 1: $($one)*),
                (2, 1, _) => tile!(2 1 2: $($two)*),
                (2, 2, 1) => tile!(2 2 1: $($two)*),
                (2, 2, 2) => tile!(2 2 2: $($two)*),
                _ => unreachable!("{shape:?}"),
            }
        };
    }
    if const { S::REGISTER_COUNT >= 32 } {
        shapes!([1 2 4 8 14 20] [1 2 4 6 8 11])
    } else {
        shapes!([1 2 4 7 10] [1 2 3 4 5])
    }
}

/// `F` phases, the first `E` of `R` taps, the others of one less; `P` positions.
struct Tile<'a, 's, T, const F: usize, const R: usize, const E: usize, const P: usize> {
    operands: &'a Operands<'a, T>,
    start: Option<&'s [T]>,
    place: Place<'s, T>,
}

impl<T: Float, const F: usize, const R: usize, const E: usize, const P: usize> WithSimd
    for Tile<'_, '_, T, F, R, E, P>
{
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let o = self.operands;
        let lanes = T::lanes::<S>();
        let taps = |f: usize| if f < E { R } else { R - 1 };
        let products = const { E * R + (F - E) * (R - 1) };
        let zero = T::splat(simd, T::default());
        let mut acc = [[zero; P]; F];
        if let Some(start) = self.start {
            acc = [[T::load(simd, start); P]; F];
        } else if let Place::Sums { sums, starts, step } = &self.place {
            let sums: &[T::Vector<S>] = bytemuck::cast_slice(sums);
            for (f, acc) in acc.iter_mut().enumerate() {
                for (p, acc) in acc.iter_mut().enumerate() {
                    *acc = sums[starts[f] + p * step];
                }
            }
        }
        if let Place::Output { to, step, .. } = &self.place {
            for to in &to[..F] {
                for p in 0..P {
                    prefetch::write(to.wrapping_add(p * step));
                }
            }
        }
        let boxes = o.taps[0] * o.taps[1];
        if boxes > 0 && o.channels > 0 {
            // The extremes of what the loops below read.
            let back =
                (o.taps[0] - 1) * o.input_steps[0] + (o.taps[1] - 1) * o.input_steps[1] + (R - 1) * o.pixel;
            let vectors = o.channels.div_ceil(o.per_vector);
            assert!(o.input_start >= back);
            assert!(o.input_start + (P - 1) * o.pixel + vectors * lanes <= o.input.len());
            assert!(o.indices.len() >= o.per_vector.min(o.channels) * lanes);
            let on = (o.taps[0] - 1) * o.weight_steps[0] + (o.taps[1] - 1) * o.weight_steps[1];
            assert!(o.weight_start + on + o.channels * products * lanes <= o.weights.len());
            let indices = o.indices.as_ptr().cast::<T::Vector<S>>();
            for z in 0..o.taps[0] {
                for y in 0..o.taps[1] {
                    let back = z * o.input_steps[0] + y * o.input_steps[1] + (R - 1) * o.pixel;
                    let on = z * o.weight_steps[0] + y * o.weight_steps[1];
                    // SAFETY: inside both slices by the assertions.
                    let (mut input, mut weights) = unsafe {
                        let input = o.input.as_ptr().add(o.input_start - back);
                        (input, o.weights.as_ptr().add(o.weight_start + on).cast::<T::Vector<S>>())
                    };
                    let mut left = o.channels;
                    while left > 0 {
                        let channels = o.per_vector.min(left);
                        for c in 0..channels {
                            // SAFETY: as asserted: c is below `per_vector` and `channels`, and each channel has `products`
                            // vectors of weights.
                            let index = unsafe { indices.add(c).read_unaligned() };
                            let mut w = [[zero; R]; F];
                            for (f, w) in w.iter_mut().enumerate() {
                                for w in &mut w[..taps(f)] {
                                    // SAFETY: as above.
                                    unsafe {
                                        *w = weights.read_unaligned();
                                        weights = weights.add(1);
                                    }
                                }
                            }
                            let mut at = input;
                            // Written out for every input: a loop would keep the sums in memory.
                            macro_rules! inputs {
                                ($($i:literal)*) => {
                                    $(if $i < P + R - 1 {
                                        // SAFETY: vector `i` of P + R − 1 at distance `pixel`, as asserted.
                                        let x = unsafe { at.cast::<T::Vector<S>>().read_unaligned() };
                                        let x = permute::<T, S>(simd, index, x);
                                        at = at.wrapping_add(o.pixel);
                                        for m in 0..R {
                                            let p = ($i + m).wrapping_sub(R - 1);
                                            if p < P {
                                                for f in 0..F {
                                                    if m < taps(f) {
                                                        acc[f][p] = T::mul_add(simd, w[f][m], x, acc[f][p]);
                                                    }
                                                }
                                            }
                                        }
                                    })*
                                };
                            }
                            inputs!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21);
                            let _ = at;
                        }
                        left -= channels;
                        input = input.wrapping_add(lanes);
                    }
                }
            }
        }
        match self.place {
            Place::Sums { sums, starts, step } => {
                let sums: &mut [T::Vector<S>] = bytemuck::cast_slice_mut(sums);
                for (f, acc) in acc.iter().enumerate() {
                    for (p, acc) in acc.iter().enumerate() {
                        sums[starts[f] + p * step] = *acc;
                    }
                }
            }
            Place::Output { to, step, valid } => {
                for (f, acc) in acc.iter().enumerate() {
                    for (p, acc) in acc.iter().enumerate() {
                        if valid[f].contains(&p) {
                            // SAFETY: as promised by the caller.
                            unsafe {
                                to[f].wrapping_add(p * step).cast::<T::Vector<S>>().write_unaligned(*acc)
                            };
                        }
                    }
                }
            }
        }
    }
}
