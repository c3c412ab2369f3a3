//! The register tile: V vectors of output channels × P neighbouring pixels, summed over a box of taps and a run of input
//! channels.
//!
//! ```text
//!            P pixels →
//!   V·lanes  ┌ acc ┐   acc[v][p] += w[tap][ci][v] · splat(x[tap][ci][p])
//!   channels │     │   weights: one vector load for P products; inputs: one broadcast for V products
//!      ↓     └─────┘
//! ```

use pulp::{Simd, WithSimd};

use super::vector::Float;
use crate::machine::prefetch;

/// Where the operands of a tile lie. Distances in elements.
#[derive(Debug, Clone, Copy)]
pub struct Operands<'a, T> {
    /// Packed input; pixel `p` of input channel `c` for tap (z, y, x) lies at
    /// `input_start − Σ tap·input_steps + c·channel_step + p`.
    pub input: &'a [T],
    /// Pixel 0, channel 0, tap (0, 0, 0).
    pub input_start: usize,
    /// How far back each further tap reads.
    pub input_steps: [usize; 3],
    /// Distance of input channels; at least P.
    pub channel_step: usize,
    /// Packed weights; channel `c` of tap (z, y, x) lies at `weight_start + Σ tap·weight_steps + c·V·lanes`.
    pub weights: &'a [T],
    /// Channel 0, tap (0, 0, 0).
    pub weight_start: usize,
    /// Distance of the taps' weights.
    pub weight_steps: [usize; 3],
    /// Taps along z, y, x.
    pub taps: [usize; 3],
    /// Input channels.
    pub channels: usize,
    /// Asked for meanwhile.
    pub soon: Soon<T>,
}

/// Cache lines that are wanted soon: with channel `c` of tap number `t`, the line at `at + t·steps[0] + c·steps[1]`, `t` and
/// `c` no more than `last`. None of them need exist.
#[derive(Debug, Clone, Copy)]
pub struct Soon<T> {
    /// The first.
    pub at: *const T,
    /// Distances along taps and channels.
    pub steps: [usize; 2],
    /// The last tap and the last channel that ask for a line of their own.
    pub last: [usize; 2],
}

impl<T> Soon<T> {
    /// Always the same line, which had better be in the cache.
    pub fn nothing(at: *const T) -> Self {
        Self { at, steps: [0; 2], last: [0; 2] }
    }
}

/// Runs a tile of `vectors` (1 to 3) × `pixels` (at most [`most_pixels`]): adds to `start` (one value for each channel), or
/// to what `sums` holds.
/// `sums[(p · sum_step + v) · lanes ..]` is vector v of pixel p, `sum_step` counted in vectors.
#[inline(always)]
pub fn accumulate<T: Float, S: Simd>(
    simd: S,
    vectors: usize,
    pixels: usize,
    operands: Operands<'_, T>,
    start: Option<&[T]>,
    sums: &mut [T],
    sum_step: usize,
) {
    macro_rules! dispatch {
        ($($one:literal)*; $($two:literal)*; $($three:literal)*) => {
            match (vectors, pixels) {
                $((1, $one) => simd.vectorize(Tile::<T, 1, $one> { operands, start, sums, sum_step }),)*
                $((2, $two) => simd.vectorize(Tile::<T, 2, $two> { operands, start, sums, sum_step }),)*
                $((3, $three) => simd.vectorize(Tile::<T, 3, $three> { operands, start, sums, sum_step }),)*
                _ => unreachable!("tile {vectors}×{pixels}"),
            }
        };
    }
    if const { S::REGISTER_COUNT >= 32 } {
        dispatch!(1 2 3 4 5 6 7 8 9 10 11 12 13 14; 1 2 3 4 5 6 7 8 9 10 11 12 13 14; 1 2 3 4 5 6 7 8 9)
    } else {
        dispatch!(1 2 3 4 5 6 7 8 9 10 11 12; 1 2 3 4 5 6; 1 2 3 4)
    }
}

/// The widest tile of two vectors: V·P accumulators, V weights and a broadcast fill the registers.
pub fn max_pixels(registers: usize) -> usize {
    if registers >= 32 { 14 } else { 6 }
}

/// The widest tile of one vector, two or three. With one vector and few registers, more pixels hide the latency of the
/// additions; where there are many registers, so are the pixels.
pub fn most_pixels(registers: usize, vectors: usize) -> usize {
    match vectors {
        1 if registers < 32 => 12,
        3 => (registers - 4) / 3,
        _ => max_pixels(registers),
    }
}

struct Tile<'a, 's, T, const V: usize, const P: usize> {
    operands: Operands<'a, T>,
    start: Option<&'s [T]>,
    sums: &'s mut [T],
    sum_step: usize,
}

impl<T: Float, const V: usize, const P: usize> WithSimd for Tile<'_, '_, T, V, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let o = self.operands;
        assert!(o.channels > 0);
        // Without taps no input is read: the packed row may be empty.
        debug_assert!(o.taps.contains(&0) || o.channel_step >= P);
        let lanes = T::lanes::<S>();
        let sums: &mut [T::Vector<S>] = bytemuck::cast_slice_mut(self.sums);
        let mut acc = [[T::splat(simd, T::default()); V]; P];
        match self.start {
            Some(start) => {
                let start: &[T::Vector<S>] = bytemuck::cast_slice(start);
                for acc in &mut acc {
                    acc.copy_from_slice(&start[..V]);
                }
            }
            None => {
                for (p, acc) in acc.iter_mut().enumerate() {
                    acc.copy_from_slice(&sums[p * self.sum_step..][..V]);
                }
            }
        }
        let mut tap = 0;
        for z in 0..o.taps[0] {
            for y in 0..o.taps[1] {
                for x in 0..o.taps[2] {
                    let back = z * o.input_steps[0] + y * o.input_steps[1] + x * o.input_steps[2];
                    let on = z * o.weight_steps[0] + y * o.weight_steps[1] + x * o.weight_steps[2];
                    let input = &o.input[o.input_start - back..][..(o.channels - 1) * o.channel_step + P];
                    let weights = &o.weights[o.weight_start + on..][..o.channels * V * lanes];
                    let weights: &[T::Vector<S>] = bytemuck::cast_slice(weights);
                    let soon = o.soon.at.wrapping_add(tap.min(o.soon.last[0]) * o.soon.steps[0]);
                    tap += 1;
                    for c in 0..o.channels {
                        prefetch::read_later(soon.wrapping_add(c.min(o.soon.last[1]) * o.soon.steps[1]));
                        // SAFETY: both slices were cut to exactly the elements of `channels` steps just above.
                        let (w, row) = unsafe {
                            (
                                weights.get_unchecked(c * V..c * V + V),
                                input.get_unchecked(c * o.channel_step..c * o.channel_step + P),
                            )
                        };
                        let w: &[T::Vector<S>; V] = w.try_into().expect("V vectors");
                        for p in 0..P {
                            let value = T::splat(simd, row[p]);
                            for v in 0..V {
                                acc[p][v] = T::mul_add(simd, w[v], value, acc[p][v]);
                            }
                        }
                    }
                }
            }
        }
        for (p, acc) in acc.iter().enumerate() {
            sums[p * self.sum_step..][..V].copy_from_slice(acc);
        }
    }
}
