//! The register tile of few columns, channels last: V vectors of columns (taps × output channels) × P pixels, summed over all
//! input channels.
//!
//! ```text
//!            P pixels →
//!   V·lanes  ┌ acc ┐   acc[p][v] += w[ci][v] · splat(x[p][ci])
//!   columns  │     │   the channels of a pixel lie together: every input line is read once, from its first element to its last
//!      ↓     └─────┘
//! ```

// The loops over pixels and vectors index several arrays in step, and unroll as they are.
#![allow(clippy::needless_range_loop)]

use pulp::{Simd, WithSimd};

use super::vector::Float;
use crate::machine::prefetch;

/// Pixels of a tile, at most.
pub const MOST_PIXELS: usize = 8;

/// Vectors of the widest tile.
pub const fn max_vectors(registers: usize) -> usize {
    if registers >= 32 { 3 } else { 2 }
}

/// Pixels of a tile of so many vectors: V·P sums, V weights and a broadcast fill the registers.
pub const fn pixels(registers: usize, vectors: usize) -> usize {
    match vectors {
        2 if registers < 32 => 6,
        _ => MOST_PIXELS,
    }
}

/// Where the operands of a row of tiles lie. Distances in elements.
#[derive(Debug, Clone, Copy)]
pub struct ColumnOperands<'a, T> {
    /// From channel 0 of the first pixel on.
    pub input: &'a [T],
    /// Pixels, at least 1, and their distance.
    pub pixels: usize,
    /// See `pixels`.
    pub pixel_step: usize,
    /// Input channels, at least 1, side by side.
    pub channels: usize,
    /// `[channel][V·lanes]`.
    pub weights: &'a [T],
}

/// Runs tiles of `vectors` over all pixels: vector v of pixel p goes to `sums[p·sum_step + v·lanes ..]`, for all pixels of whole
/// tiles; those after the last pixel get what the last one gets.
#[inline(always)]
pub fn run<T: Float, S: Simd>(
    simd: S,
    vectors: usize,
    operands: &ColumnOperands<'_, T>,
    sums: &mut [T],
    sum_step: usize,
) {
    if const { S::REGISTER_COUNT >= 32 } {
        match vectors {
            1 => alone(simd, Tiles::<T, 1, 8> { operands, sums, sum_step }),
            2 => alone(simd, Tiles::<T, 2, 8> { operands, sums, sum_step }),
            3 => alone(simd, Tiles::<T, 3, 8> { operands, sums, sum_step }),
            _ => unreachable!("tile of {vectors} vectors"),
        }
    } else {
        match vectors {
            1 => alone(simd, Tiles::<T, 1, 8> { operands, sums, sum_step }),
            2 => alone(simd, Tiles::<T, 2, 6> { operands, sums, sum_step }),
            _ => unreachable!("tile of {vectors} vectors"),
        }
    }
}

/// In a function of its own: inlined, the tiles would share one set of registers.
#[inline(never)]
fn alone<S: Simd, W: WithSimd>(simd: S, tiles: W) -> W::Output {
    simd.vectorize(tiles)
}

struct Tiles<'a, T, const V: usize, const P: usize> {
    operands: &'a ColumnOperands<'a, T>,
    sums: &'a mut [T],
    sum_step: usize,
}

impl<T: Float, const V: usize, const P: usize> WithSimd for Tiles<'_, T, V, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { operands: o, sums, sum_step } = self;
        let lanes = T::lanes::<S>();
        let tiles = o.pixels.div_ceil(P);
        assert!(o.pixels > 0 && o.channels > 0);
        assert!((o.pixels - 1) * o.pixel_step + o.channels <= o.input.len(), "pixels outside the input");
        assert!(o.channels * V * lanes <= o.weights.len(), "weights of all channels");
        assert!((tiles * P - 1) * sum_step + V * lanes <= sums.len(), "sums of all pixels");
        let sums = sums.as_mut_ptr();
        for tile in 0..tiles {
            let row = |p: usize| {
                let pixel = (tile * P + p).min(o.pixels - 1);
                o.input.as_ptr().wrapping_add(pixel * o.pixel_step)
            };
            let mut rows = [o.input.as_ptr(); P];
            for p in 0..P {
                rows[p] = row(p);
            }
            // What the next tile reads, P elements with each channel.
            let soon = row(0).wrapping_add(P * o.pixel_step);
            let mut weights = o.weights.as_ptr().cast::<[T::Vector<S>; V]>();
            let mut acc = [[T::splat(simd, T::default()); V]; P];
            for c in 0..o.channels {
                prefetch::read(soon.wrapping_add(c * P));
                // SAFETY: `channels` groups of V vectors lie there, as asserted.
                let w = unsafe { weights.read_unaligned() };
                weights = weights.wrapping_add(1);
                for p in 0..P {
                    // SAFETY: all channels of every pixel lie inside the input, as asserted.
                    let value = T::splat(simd, unsafe { *rows[p].add(c) });
                    for v in 0..V {
                        acc[p][v] = T::mul_add(simd, w[v], value, acc[p][v]);
                    }
                }
            }
            for p in 0..P {
                for v in 0..V {
                    let at = (tile * P + p) * sum_step + v * lanes;
                    // SAFETY: inside the sums, as asserted.
                    unsafe { sums.wrapping_add(at).cast::<T::Vector<S>>().write_unaligned(acc[p][v]) };
                }
            }
        }
    }
}
