//! Packing: the weights once per plan, the input of a part of the batch in every run.

use pulp::{Simd, WithSimd};

use super::blocking::{Blocking, Pixels};
use crate::machine::parallel::SharedOutput;
use crate::microkernels::transpose::{Rows, transpose};
use crate::microkernels::vector::Float;
use crate::problem::geometry::Geometry;
use crate::problem::problem::Layout;

/// Input channels that are packed together.
pub const CHANNELS: usize = 16;

/// Weights of one group, in the order in which tiles read them:
/// `[channel block][phase z][phase y][phase x][pass][tap z][tap y][tap x][input channel of the pass][channel of the block]`.
pub fn pack_group<T: Float>(
    geometry: &Geometry,
    b: &Blocking,
    group: usize,
    weights: &[T],
    packed: &mut [T],
) {
    let [az, ay, ax] = geometry.axes();
    let (kernel, width) = (geometry.kernel_taps(), b.width());
    for (block, packed) in packed.chunks_exact_mut(b.block_weights().max(1)).enumerate() {
        let first = block * width;
        let filled = width.min(b.group_out - first);
        for ci in 0..b.group_in {
            let start = geometry.weight_at(group * b.group_in + ci, first, [0; 3]);
            let weights = &weights[start..start + filled * kernel];
            let (done, in_pass) = (ci / b.pass * b.pass, ci % b.pass);
            let pass = b.pass.min(b.group_in - done);
            let mut phase_at = 0;
            for pz in &az.phases {
                for py in &ay.phases {
                    for px in &ax.phases {
                        let taps = pz.taps * py.taps * px.taps;
                        let mut at = phase_at + taps * done * width + in_pass * width;
                        for z in 0..pz.taps {
                            for y in 0..py.taps {
                                for x in 0..px.taps {
                                    let tap = geometry.weight_at(0, 0, [pz.tap(z), py.tap(y), px.tap(x)]);
                                    let channels = weights[tap..].iter().step_by(kernel);
                                    for (to, from) in packed[at..at + filled].iter_mut().zip(channels) {
                                        *to = *from;
                                    }
                                    at += pass * width;
                                }
                            }
                        }
                        phase_at += taps * b.group_in * width;
                    }
                }
            }
        }
    }
}

/// Channels `first..first + CHANNELS` of one image, or of one block of images (the first, and how many); `to` starts at channel
/// `first`.
pub struct PackInput<'a, T> {
    pub geometry: &'a Geometry,
    pub blocking: &'a Blocking,
    pub images: [usize; 2],
    pub first: usize,
    pub input: &'a [T],
    pub to: &'a mut [T],
}

impl<T: Float> WithSimd for PackInput<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { geometry, blocking: b, images: [n, images], first, input, to } = self;
        let p = geometry.problem();
        let plane = geometry.input_plane();
        let channels = CHANNELS.min(p.in_channels() - first);
        // Elements between neighbouring positions, as tiles read them.
        let unit = if b.kind == Pixels::Images { b.pixels } else { 1 };
        for i in 0..images {
            let from = &input[geometry.input_at(n + i, first, [0; 3])..];
            match p.layout() {
                Layout::Nchw => {
                    for (c, from) in from.chunks_exact(plane).take(channels).enumerate() {
                        let to = to[c * b.channel_step + i..].iter_mut().step_by(unit);
                        for (to, from) in to.zip(from) {
                            *to = *from;
                        }
                    }
                }
                Layout::Nhwc if unit == 1 => {
                    let to = Rows { output: SharedOutput::new(to), start: i, step: b.channel_step };
                    // SAFETY: `to` is borrowed mutably.
                    unsafe { transpose(simd, from, p.in_channels(), to, channels, plane) };
                }
                Layout::Nhwc => {
                    for position in 0..plane {
                        let from = &from[position * p.in_channels()..][..channels];
                        let to = to[position * unit + i..].iter_mut().step_by(b.channel_step);
                        for (to, from) in to.zip(from) {
                            *to = *from;
                        }
                    }
                }
            }
        }
    }
}
