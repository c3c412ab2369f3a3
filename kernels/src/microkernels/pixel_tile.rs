//! The register tile with pixels in the lanes: C columns (an output channel at a stride phase) × V vectors of
//! neighbouring pixels, summed over a box of taps and a run of input channels.
//!
//! ```text
//!              V·lanes pixels →
//!   C columns  ┌ acc ┐   acc[c][v] += splat(w[tap][ci][c]) · x[tap][ci][v]
//!       ↓      └─────┘   inputs: one vector load for C products; weights: one broadcast for V products
//! ```

use pulp::{Simd, WithSimd};

use super::vector::Float;

/// Where the operands of a tile lie. Distances in elements.
#[derive(Debug, Clone, Copy)]
pub struct PixelOperands<'a, T> {
    /// Packed input; the first pixel of channel `c` for tap (z, y, x) lies at
    /// `input_start − Σ tap·input_steps + c·channel_step`.
    pub input: &'a [T],
    /// First pixel, channel 0, tap (0, 0, 0).
    pub input_start: usize,
    /// How far back each further tap reads.
    pub input_steps: [usize; 3],
    /// Distance of input channels.
    pub channel_step: usize,
    /// Packed weights; column 0 of channel `c` for tap (z, y, x) lies at
    /// `weight_start + Σ tap·weight_steps + c·column_step`.
    pub weights: &'a [T],
    /// Column 0, channel 0, tap (0, 0, 0).
    pub weight_start: usize,
    /// Distance of the taps' weights.
    pub weight_steps: [usize; 3],
    /// Distance of the channels' weights; at least C.
    pub column_step: usize,
    /// Taps along z, y, x.
    pub taps: [usize; 3],
    /// Input channels, at least 1.
    pub channels: usize,
}

/// The widest tile of `vectors` vectors (1, 2 or 4): V·C accumulators, V inputs and a broadcast fill the registers.
pub fn max_columns(registers: usize, vectors: usize) -> usize {
    match (registers >= 32, vectors) {
        (true, 4) => 6,
        (true, _) => 14,
        (false, 4) => 2,
        (false, _) => 6,
    }
}

/// Runs a tile of `columns` × `vectors` (1, 2 or 4): adds to `start` (one value for each column), or to what `sums` holds.
/// `sums[c · sum_step ..]` are the pixels of column c.
#[inline(always)]
pub fn accumulate_pixels<T: Float, S: Simd>(
    simd: S,
    vectors: usize,
    columns: usize,
    operands: PixelOperands<'_, T>,
    start: Option<&[T]>,
    sums: &mut [T],
    sum_step: usize,
) {
    macro_rules! dispatch {
        ($($v:literal: $($c:literal)*;)*) => {
            match (vectors, columns) {
                $($(($v, $c) => simd.vectorize(Tile::<T, $v, $c> { operands, start, sums, sum_step }),)*)*
                _ => unreachable!("tile of {columns} columns × {vectors} vectors"),
            }
        };
    }
    if const { S::REGISTER_COUNT >= 32 } {
        dispatch!(1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14; 2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14; 4: 1 2 3 4 5 6;)
    } else {
        dispatch!(1: 1 2 3 4 5 6; 2: 1 2 3 4 5 6; 4: 1 2;)
    }
}

struct Tile<'a, 's, T, const V: usize, const C: usize> {
    operands: PixelOperands<'a, T>,
    start: Option<&'s [T]>,
    sums: &'s mut [T],
    sum_step: usize,
}

impl<T: Float, const V: usize, const C: usize> WithSimd for Tile<'_, '_, T, V, C> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let o = self.operands;
        let lanes = T::lanes::<S>();
        let zero = T::splat(simd, T::default());
        let mut acc = [[zero; V]; C];
        for (c, acc) in acc.iter_mut().enumerate() {
            match self.start {
                Some(start) => *acc = [T::splat(simd, start[c]); V],
                None => {
                    let row = &self.sums[c * self.sum_step..][..V * lanes];
                    acc.copy_from_slice(bytemuck::cast_slice(row));
                }
            }
        }
        for z in 0..o.taps[0] {
            for y in 0..o.taps[1] {
                for x in 0..o.taps[2] {
                    let back = z * o.input_steps[0] + y * o.input_steps[1] + x * o.input_steps[2];
                    let on = z * o.weight_steps[0] + y * o.weight_steps[1] + x * o.weight_steps[2];
                    let last = o.channels - 1;
                    let input = &o.input[o.input_start - back..][..last * o.channel_step + V * lanes];
                    let weights = &o.weights[o.weight_start + on..][..last * o.column_step + C];
                    for channel in 0..o.channels {
                        // SAFETY: both slices were cut to exactly the elements of `channels` steps just above.
                        let (pixels, weights) = unsafe {
                            (
                                input.as_ptr().add(channel * o.channel_step).cast::<T::Vector<S>>(),
                                weights.get_unchecked(channel * o.column_step..channel * o.column_step + C),
                            )
                        };
                        let mut values = [zero; V];
                        for (v, value) in values.iter_mut().enumerate() {
                            // SAFETY: V vectors lie there, as above.
                            *value = unsafe { pixels.add(v).read_unaligned() };
                        }
                        for c in 0..C {
                            let weight = T::splat(simd, weights[c]);
                            for v in 0..V {
                                acc[c][v] = T::mul_add(simd, values[v], weight, acc[c][v]);
                            }
                        }
                    }
                }
            }
        }
        for (c, acc) in acc.iter().enumerate() {
            let row = &mut self.sums[c * self.sum_step..][..V * lanes];
            row.copy_from_slice(bytemuck::cast_slice(acc));
        }
    }
}
