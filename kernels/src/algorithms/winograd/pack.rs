//! The points of the weights, once per plan.

use pulp::{Simd, WithSimd};

use super::axes::SubPhase;
use super::blocking::Blocking;
use crate::error::Error;
use crate::machine::scratch::filled_vec;
use crate::microkernels::vector::Float;
use crate::problem::geometry::Geometry;

/// Weights of one group, in the order in which tiles read them:
/// `[pair][channel block][sub-phase x][point z][point y][point x][input channel][channel of the block]`.
/// Computed in f64, rounded once.
pub struct Pack<'a, T> {
    pub geometry: &'a Geometry,
    pub blocking: &'a Blocking,
    pub group: usize,
    pub weights: &'a [T],
    pub packed: &'a mut [T],
    pub buffers: &'a mut Buffers,
}

/// Taps and points of one input channel, in turn.
pub struct Buffers([Vec<f64>; 2]);

impl Buffers {
    /// For [`Pack`].
    pub fn new(b: &Blocking) -> Result<Self, Error> {
        const MOST: usize = 6 * 6 * 6;
        let buffer = || filled_vec("points of weights", MOST * b.block(), 0.0);
        Ok(Self([buffer()?, buffer()?]))
    }
}

impl<T: Float> WithSimd for Pack<'_, T> {
    type Output = ();

    // Nothing here names a vector: entered for what the compiler makes of it.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { geometry, blocking: b, group, weights, packed, buffers } = self;
        for pair in &b.pairs {
            for block in 0..b.blocks() {
                let first = block * b.block();
                let width = b.vectors(first) * b.lanes;
                let start = b.weights_at(0, pair, first);
                for (sub, x) in b.axes[2].subs.iter().enumerate() {
                    let subs = [&b.axes[0].subs[pair.subs[0]], &b.axes[1].subs[pair.subs[1]], x];
                    let start = start + pair.points * b.x_before[sub] * b.padded_in() * width;
                    for ci in 0..b.group_in {
                        let channels = [group * b.group_in + ci, first, width.min(b.group_out - first)];
                        gather(geometry, subs, weights, channels, width, &mut buffers.0[0]);
                        let points = turn(subs, width, &mut buffers.0);
                        for (point, from) in points.chunks_exact(width).enumerate() {
                            let at = start + (point * b.padded_in() + ci) * width;
                            for (to, from) in packed[at..at + width].iter_mut().zip(from) {
                                *to = T::from_f64(*from);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The taps that three sub-phases have in common, `[z][y][x][width]`, in the order of the inputs that they meet: of one
/// input channel and some output channels (`channels`: input, first output, how many).
#[inline(always)]
fn gather<T: Float>(
    geometry: &Geometry,
    subs: [&SubPhase; 3],
    weights: &[T],
    channels: [usize; 3],
    width: usize,
    to: &mut [f64],
) {
    let [ci, first, filled] = channels;
    let [tz, ty, tx] = subs.map(|s| s.form.taps());
    to[..tz * ty * tx * width].fill(0.0);
    for z in 0..tz {
        for y in 0..ty {
            for x in 0..tx {
                let (Some(kz), Some(ky), Some(kx)) = (subs[0].tap(z), subs[1].tap(y), subs[2].tap(x)) else {
                    continue;
                };
                let from = weights[geometry.weight_at(ci, first, [kz, ky, kx])..].iter();
                let to = &mut to[((z * ty + y) * tx + x) * width..][..filled];
                for (to, from) in to.iter_mut().zip(from.step_by(geometry.kernel_taps())) {
                    *to = from.to_f64();
                }
            }
        }
    }
}

/// Taps in the first buffer to points, axis by axis from x to z; in which buffer they end is returned.
#[inline(always)]
fn turn<'a>(subs: [&SubPhase; 3], width: usize, buffers: &'a mut [Vec<f64>; 2]) -> &'a [f64] {
    let [first, second] = buffers;
    let (mut from, mut to) = (first, second);
    let mut run = width;
    for axis in [2, 1, 0] {
        let form = subs[axis].form;
        let outer: usize = subs[..axis].iter().map(|s| s.form.taps()).product();
        for i in 0..outer {
            form.weights(run, &from[i * form.taps() * run..], &mut to[i * form.points() * run..]);
        }
        run *= form.points();
        (from, to) = (to, from);
    }
    &from[..run]
}
