//! Packing: weights once per plan, input rows once per task.

use std::ops::Range;

use pulp::Simd;

use super::axis::{PositionAxis, Run};
use super::blocking::Blocking;
use crate::machine::parallel::SharedOutput;
use crate::microkernels::copy::{copy_rows, zero_over};
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

    /// Number of the column (phase along x, phase along y, channel); channels are counted from the block's first.
    pub fn at(&self, x_phase: usize, y_phase: usize, channel: usize) -> usize {
        (x_phase * self.y_phases.len() + y_phase - self.y_phases.start) * self.channels.len() + channel
    }

    /// The pairs of runs that the block's columns read, in the order of their packed weights.
    pub fn boxes<'a>(&self, b: &'a Blocking) -> impl Iterator<Item = Box2<'a>> + use<'a> {
        let x = &b.axes[2].together;
        b.y_runs(&self.y_phases)
            .iter()
            .filter(|y| y.windows > 0)
            .flat_map(move |y| x.iter().map(move |x| Box2 { y, x }))
    }
}

/// Windows along y and x that the same phases read.
#[derive(Debug, Clone, Copy)]
pub struct Box2<'a> {
    pub y: &'a Run,
    pub x: &'a Run,
}

impl Box2<'_> {
    /// The columns of a block that read it: phase along x, phase along y, channel, the last running fastest.
    pub fn columns<'a>(&'a self, of: &'a Columns) -> impl Iterator<Item = (usize, usize, usize)> + 'a {
        let y = self.y.phases.clone();
        self.x.phases.clone().flat_map(move |rx| {
            y.clone().flat_map(move |ry| (0..of.channels.len()).map(move |c| (rx, ry, c)))
        })
    }

    /// How many there are.
    pub fn count(&self, of: &Columns) -> usize {
        self.x.phases.len() * self.y.phases.len() * of.channels.len()
    }
}

/// Weights, group after group, block after block, box after box: `[window z][window y][window x][input channel][column]`. Where
/// tiles store, as [`Reads`](crate::microkernels::phase_tile::Reads) wants them.
pub fn pack_weights<T: Float>(geometry: &Geometry, b: &Blocking, weights: &[T], packed: &mut [T]) {
    let (blocks, kernel) = (b.blocks(), geometry.kernel_taps());
    for block in 0..blocks {
        let columns = Columns::new(b, block);
        let (first, channels) = (columns.channels.start, columns.channels.len());
        let mut done = 0;
        // All groups have the same taps.
        each_step(geometry, b, &columns, |taps| {
            let len = b.group_in * taps.len() * channels;
            for group in 0..b.groups {
                let start = (group * blocks + block) * b.panel + done;
                let mut to = packed[start..start + len].iter_mut();
                for ci in group * b.group_in..(group + 1) * b.group_in {
                    let first = geometry.weight_at(ci, first, [0; 3]);
                    for tap in taps {
                        let from = weights[first + tap..].iter().step_by(kernel);
                        for (from, to) in from.take(channels).zip(&mut to) {
                            *to = *from;
                        }
                    }
                }
            }
            done += len;
        });
    }
}

/// Visits the taps of every step of a block's tiles, as places in a kernel: of each the weights of all input channels follow one
/// another.
fn each_step(geometry: &Geometry, b: &Blocking, columns: &Columns, mut visit: impl FnMut(&[usize])) {
    let [az, ay, ax] = &*b.axes;
    let z = &az.alone[columns.z_phase];
    // Of one window: the taps of its phases.
    let add = |steps: &mut Vec<usize>, [ez, ey, ex]: [i64; 3], [y_phases, x_phases]: [&Range<usize>; 2]| {
        for rx in x_phases.clone() {
            for ry in y_phases.clone() {
                let taps = [az.tap(columns.z_phase, ez), ay.tap(ry, ey), ax.tap(rx, ex)];
                let taps = taps.map(|tap| tap.expect("a run's phases have a tap"));
                steps.push(geometry.weight_at(0, 0, taps));
            }
        }
    };
    let mut taps = Vec::new();
    if b.direct {
        let y = &ay.alone[columns.y_phases.start];
        for (ez, ey) in z.all().flat_map(|ez| y.all().map(move |ey| (ez, ey))) {
            for run in &ax.together {
                for ex in run.all() {
                    add(&mut taps, [ez, ey, ex], [&y.phases, &run.phases]);
                    if !b.inside() {
                        visit(&taps);
                        taps.clear();
                    }
                }
            }
            if b.inside() {
                visit(&taps);
                taps.clear();
            }
        }
        return;
    }
    for pair in columns.boxes(b) {
        for ez in z.all() {
            for ey in pair.y.all() {
                for ex in pair.x.all() {
                    add(&mut taps, [ez, ey, ex], [&pair.y.phases, &pair.x.phases]);
                    visit(&taps);
                    taps.clear();
                }
            }
        }
    }
}

/// The positions of one task: `y` and `x` of plane `z`.
#[derive(Debug, Clone)]
pub struct Place {
    pub n: usize,
    pub group: usize,
    pub z: usize,
    pub y: Range<usize>,
    pub x: Range<usize>,
}

/// The inputs of one axis that some positions read.
pub struct Window {
    /// Those before the first that exists.
    before: usize,
    /// Those that exist.
    pub inside: Range<usize>,
    /// All.
    len: usize,
}

impl Window {
    /// Those of `positions`.
    pub fn new(axis: &PositionAxis, positions: &Range<usize>) -> Self {
        let first = positions.start as i64 + axis.reach.start;
        let end = positions.end as i64 - 1 + axis.reach.end;
        let begin = first.clamp(0, axis.input as i64);
        let inside = begin as usize..end.clamp(begin, axis.input as i64) as usize;
        let before = if inside.is_empty() { 0 } else { (begin - first) as usize };
        Self { before, inside, len: (end - first) as usize }
    }

    /// Those after the last that exists; all where none does.
    fn after(&self) -> usize {
        self.len - self.before - self.inside.len()
    }
}

/// Fills the packed input `[channel][z][row][x]`: zeros where a row or an element lies outside the input.
#[inline(always)]
pub fn fill<T: Float, S: Simd>(
    simd: S,
    geometry: &Geometry,
    b: &Blocking,
    at: &Place,
    input: &[T],
    slab: &mut [T],
) {
    let [az, ay, ax] = &*b.axes;
    let z = Window::new(az, &(at.z..at.z + 1));
    let y = Window::new(ay, &at.y);
    let x = Window::new(ax, &at.x);
    let (len, rows, plane) = (x.inside.len(), y.inside.len(), y.len * b.pitch);
    let nchw = geometry.problem().layout() == Layout::Nchw;
    let (row_step, plane_step) = (ax.input, ay.input * ax.input);
    // Behind a row, zeros up to the first element of the next one; behind the last, those that its vectors read.
    let gap = b.pitch - len.min(b.pitch);
    let last_gap = (b.pitch + b.shared).saturating_sub(x.before + len);
    let zero_rows = |to: &mut [T], rows: usize| {
        if rows > 0 {
            zero_over(simd, to, rows * b.pitch + b.shared);
        }
    };
    // Forwards, so that what a vector writes too much is mended by what follows.
    for channel in 0..b.group_in {
        let slab = &mut slab[channel * b.channel_step..];
        let image = geometry.input_at(at.n, at.group * b.group_in + channel, [0; 3]);
        zero_rows(slab, z.before * y.len);
        for (i, iz) in z.inside.clone().enumerate() {
            let slab = &mut slab[(z.before + i) * plane..];
            if len == 0 || rows == 0 {
                zero_rows(slab, y.len);
                continue;
            }
            zero_rows(slab, y.before);
            let slab = &mut slab[y.before * b.pitch..];
            zero_over(simd, slab, x.before);
            let to = &mut slab[x.before..];
            let from = if nchw {
                &input[image + iz * plane_step + y.inside.start * row_step + x.inside.start..]
            } else {
                &[]
            };
            copy_rows(
                simd,
                from,
                row_step,
                geometry.input_plane(),
                to,
                b.pitch,
                [rows, len],
                [gap, last_gap],
            );
            zero_rows(&mut slab[rows * b.pitch..], y.after());
        }
        zero_rows(&mut slab[(z.before + z.inside.len()) * plane..], z.after() * y.len);
    }
    if !nchw {
        let channels = geometry.problem().in_channels();
        for (i, iz) in z.inside.clone().enumerate() {
            for (row, iy) in y.inside.clone().enumerate() {
                let start = (z.before + i) * plane + (y.before + row) * b.pitch + x.before;
                let to = Rows { output: SharedOutput::new(slab), start, step: b.channel_step };
                let from = geometry.input_at(at.n, at.group * b.group_in, [iz, iy, x.inside.start]);
                // SAFETY: the slab is borrowed mutably here.
                unsafe { transpose(simd, &input[from..], channels, to, b.group_in, len) };
            }
        }
    }
}
