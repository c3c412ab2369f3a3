//! Packing: weights once per plan, input rows once per task.

use std::ops::Range;

use pulp::Simd;

use super::blocking::Blocking;
use crate::machine::parallel::SharedOutput;
use crate::microkernels::copy::{copy, zero};
use crate::microkernels::transpose::{Rows, transpose};
use crate::microkernels::vector::Float;
use crate::problem::geometry::Geometry;
use crate::problem::problem::Layout;

/// One column block: a phase along z, phases along y, output channels of the group.
#[derive(Debug, Clone)]
pub struct Columns {
    pub z_phase: usize,
    pub y_phases: Range<usize>,
    pub channels: Range<usize>,
}

impl Columns {
    /// Block number `block` of [`Blocking::blocks`].
    pub fn new(b: &Blocking, block: usize) -> Self {
        let (channel, block) = (block % b.channel_blocks(), block / b.channel_blocks());
        let (y, z_phase) = (block % b.y_blocks(), block / b.y_blocks());
        let first = channel * b.channels;
        Self {
            z_phase,
            y_phases: y * b.y_phases..(y + 1) * b.y_phases,
            channels: first..(first + b.channels).min(b.group_out),
        }
    }

    /// Columns of one phase along x.
    pub fn per_phase(&self) -> usize {
        self.y_phases.len() * self.channels.len()
    }

    /// Number of the column (phase along x, phase along y, channel), all counted from the block's first.
    pub fn at(&self, x_phase: usize, y: usize, channel: usize) -> usize {
        (x_phase * self.y_phases.len() + y) * self.channels.len() + channel
    }
}

/// Weights of one group, block after block: `[tap z][tap y][tap x][input channel][column]`. Taps that a phase lacks stay
/// zero and are never read.
pub fn pack_group<T: Float>(
    geometry: &Geometry,
    b: &Blocking,
    group: usize,
    weights: &[T],
    packed: &mut [T],
) {
    let [az, ay, ax] = &b.axes;
    for (block, panel) in packed.chunks_exact_mut(b.panel()).enumerate() {
        let columns = Columns::new(b, block);
        let width = columns.per_phase() * ax.stride;
        for mz in 0..az.taps(columns.z_phase) {
            for my in 0..ay.most_taps() {
                for mx in 0..ax.most_taps() {
                    let tap = (mz * ay.most_taps() + my) * ax.most_taps() + mx;
                    let panel = &mut panel[tap * b.group_in * width..][..b.group_in * width];
                    for (ci, row) in panel.chunks_exact_mut(width).enumerate() {
                        for rx in 0..ax.stride {
                            for (y, ry) in columns.y_phases.clone().enumerate() {
                                let k = [
                                    columns.z_phase + mz * az.stride,
                                    ry + my * ay.stride,
                                    rx + mx * ax.stride,
                                ];
                                if k[1] >= ay.kernel || k[2] >= ax.kernel {
                                    continue;
                                }
                                for (c, co) in columns.channels.clone().enumerate() {
                                    let from = geometry.weight_at(group * b.group_in + ci, co, k);
                                    row[columns.at(rx, y, c)] = weights[from];
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The input rows of one task: groups `y` of group `z`, groups `x`.
#[derive(Debug, Clone)]
pub struct Place {
    pub n: usize,
    pub group: usize,
    pub z: usize,
    pub y: Range<usize>,
    pub x: Range<usize>,
}

/// Fills the packed input `[channel][tap z][row][x]`: zeros where a row or an element lies outside the input.
#[inline(always)]
pub fn fill<T: Float, S: Simd>(
    simd: S,
    geometry: &Geometry,
    b: &Blocking,
    at: &Place,
    input: &[T],
    slab: &mut [T],
) {
    let [az, ay, ax] = &b.axes;
    let layout = geometry.problem().layout();
    // Packed element e of a row is input x.start − halo + e.
    let first = at.x.start as i64 - ax.halo() as i64;
    let begin = first.clamp(0, ax.input as i64);
    let end = (at.x.end as i64).clamp(begin, ax.input as i64);
    let (left, inside) = ((begin - first) as usize, (end - begin) as usize);
    let rows = at.y.len() + ay.halo();
    // What follows the last row of a channel: zeros that the last row shares with nobody.
    let packed = az.most_taps() * rows * b.pitch;
    let (width, height) = (ax.input, ay.input);
    let source = |mz: usize, row: usize| {
        let z = at.z.checked_sub(mz * az.step).filter(|&z| z < az.input)?;
        let y = (at.y.start + row).checked_sub(ay.halo()).filter(|&y| y < height)?;
        (inside > 0).then_some((z * height + y) * width + begin as usize)
    };
    let image = geometry.input_at(at.n, at.group * b.group_in, [0; 3]);
    let plane = geometry.input_plane();
    // One channel after another, so that the input is read along its rows.
    for (channel, to) in slab.chunks_exact_mut(b.channel_step).take(b.group_in).enumerate() {
        zero(simd, &mut to[packed..]);
        for mz in 0..az.most_taps() {
            for row in 0..rows {
                let to = &mut to[(mz * rows + row) * b.pitch..][..b.pitch];
                let from = source(mz, row);
                let inside = if from.is_some() { inside } else { 0 };
                zero(simd, &mut to[..left.min(b.pitch)]);
                zero(simd, &mut to[(left + inside).min(b.pitch)..]);
                if let (Some(from), Layout::Nchw) = (from, layout) {
                    let from = &input[image + channel * plane + from..][..inside];
                    copy(simd, from, &mut to[left..left + inside]);
                }
            }
        }
    }
    zero(simd, &mut slab[b.group_in * b.channel_step..]);
    if layout == Layout::Nhwc {
        let channels = geometry.problem().in_channels();
        for mz in 0..az.most_taps() {
            for row in 0..rows {
                let Some(from) = source(mz, row) else { continue };
                let start = (mz * rows + row) * b.pitch + left;
                let to = Rows { output: SharedOutput::new(slab), start, step: b.channel_step };
                // SAFETY: the slab is borrowed mutably here.
                unsafe {
                    transpose(simd, &input[image + from * channels..], channels, to, b.group_in, inside)
                };
            }
        }
    }
}
