//! The register tile of one point: V vectors of output channels × P pixels, summed over whole blocks of input channels.
//!
//! Inputs lie as `[channel block][pixel][lanes]`: neighbouring pixels one vector apart, so that all P broadcasts of a channel
//! read at constant distances, and a producer that holds channels in its lanes stores whole vectors.

use pulp::{Simd, WithSimd};

use super::vector::Float;
use crate::machine::prefetch;

/// Where the operands of a tile lie. Distances in elements.
#[derive(Debug, Clone, Copy)]
pub struct PointOperands<'a, T> {
    /// Channel `c` of block `b` of pixel `p` lies at `b·block_step + p·lanes + c`.
    pub input: &'a [T],
    /// Distance of the channel blocks; at least P vectors.
    pub block_step: usize,
    /// Blocks of `lanes` input channels.
    pub blocks: usize,
    /// Vector `v` of channel `c` of block `b` lies at `((b·lanes + c)·V + v)·lanes`.
    pub weights: &'a [T],
    /// With every channel, the line so far beyond its weights is fetched into the cache. It need not exist.
    pub ahead: usize,
}

/// Runs a tile of `vectors` (1 or 2) × `pixels` (at most [`super::tile::max_pixels`]); `sums[(p·V + v)·lanes ..]` is vector v
/// of pixel p, and is added to what is there where `add`.
#[inline(always)]
pub fn accumulate_point<T: Float, S: Simd>(
    simd: S,
    vectors: usize,
    pixels: usize,
    operands: PointOperands<'_, T>,
    add: bool,
    sums: &mut [T],
) {
    macro_rules! dispatch {
        ($($p:literal)*) => {
            match (vectors, pixels) {
                $(
                    (1, $p) => simd.vectorize(Tile::<T, 1, $p> { operands, add, sums }),
                    (2, $p) => simd.vectorize(Tile::<T, 2, $p> { operands, add, sums }),
                )*
                _ => unreachable!("tile {vectors}×{pixels}"),
            }
        };
    }
    if const { S::REGISTER_COUNT >= 32 } {
        dispatch!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    } else {
        dispatch!(1 2 3 4 5 6)
    }
}

struct Tile<'a, 's, T, const V: usize, const P: usize> {
    operands: PointOperands<'a, T>,
    add: bool,
    sums: &'s mut [T],
}

impl<T: Float, const V: usize, const P: usize> WithSimd for Tile<'_, '_, T, V, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let o = self.operands;
        let lanes = T::lanes::<S>();
        let sums: &mut [T::Vector<S>] = bytemuck::cast_slice_mut(&mut self.sums[..P * V * lanes]);
        let mut acc = [[T::splat(simd, T::default()); V]; P];
        if self.add {
            for (p, acc) in acc.iter_mut().enumerate() {
                acc.copy_from_slice(&sums[p * V..][..V]);
            }
        }
        for block in 0..o.blocks {
            let rows = &o.input[block * o.block_step..][..P * lanes];
            let weights: &[T::Vector<S>] =
                bytemuck::cast_slice(&o.weights[block * lanes * V * lanes..][..lanes * V * lanes]);
            let ahead = weights.as_ptr().cast::<T>().wrapping_add(o.ahead);
            for c in 0..lanes {
                for v in 0..V {
                    prefetch::read_later(ahead.wrapping_add((c * V + v) * lanes));
                }
                // SAFETY: `c < lanes`, and both slices were cut to `lanes` channels just above.
                let w: &[T::Vector<S>; V] =
                    unsafe { weights.get_unchecked(c * V..c * V + V) }.try_into().expect("V vectors");
                for (p, acc) in acc.iter_mut().enumerate() {
                    // SAFETY: as above.
                    let value = T::splat(simd, unsafe { *rows.get_unchecked(p * lanes + c) });
                    for (acc, w) in acc.iter_mut().zip(w) {
                        *acc = T::mul_add(simd, *w, value, *acc);
                    }
                }
            }
        }
        for (p, acc) in acc.iter().enumerate() {
            sums[p * V..][..V].copy_from_slice(acc);
        }
    }
}
