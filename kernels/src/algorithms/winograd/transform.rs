//! The points of the inputs of one block.
//!
//! For each tile row and each vector of channels: the rows of its windows along z and y, as `[row][x][lanes]` with zeros
//! outside the input, turned along z, then y, then x, where every sub-phase reads its own windows of the same rows.

use std::ops::Range;

use pulp::Simd;

use super::blocking::{Blocking, Task};
use super::forms::{Form, Turn, forward};
use crate::machine::parallel::SharedOutput;
use crate::machine::prefetch;
use crate::microkernels::copy::{copy, zero};
use crate::microkernels::transpose::{Rows, transpose};
use crate::microkernels::vector::Float;
use crate::problem::geometry::Geometry;
use crate::problem::problem::Layout;

/// The input, and what of it a task reads.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a, T> {
    pub geometry: &'a Geometry,
    pub blocking: &'a Blocking,
    pub task: &'a Task,
    pub input: &'a [T],
}

impl<T: Float> Source<'_, T> {
    /// Fills `points`: for each sub-phase along x `[point z][point y][point x][channel block][tile row][tile][lanes]`.
    /// `stage` and `raw` (two buffers) are as [`Blocking`] says.
    #[inline(always)]
    pub fn points<S: Simd>(&self, simd: S, stage: &mut [T], raw: &mut [T], points: &mut [T]) {
        let (b, task) = (self.blocking, self.task);
        let pair = &b.pairs[task.pair];
        let [z, y] = [0, 1].map(|a| b.axes[a].subs[pair.subs[a]]);
        let (first, second) = raw.split_at_mut(b.raw);
        let (lanes, blocks) = (b.lanes, b.padded_in() / b.lanes);
        let row = b.width * lanes;
        let columns = self.columns();
        zero(simd, stage);
        for (r, tile_row) in task.rows.clone().enumerate() {
            let (ty, rest) = (tile_row % y.tiles, tile_row / y.tiles);
            let (tz, n) = (rest % z.tiles, rest / z.tiles);
            for block in 0..blocks {
                let (mut from, mut to) = (&mut *first, &mut *second);
                for jz in 0..z.form.points() {
                    for jy in 0..y.form.points() {
                        let inside = |a: usize, tile: usize, j: usize| {
                            let sub = b.axes[a].subs[pair.subs[a]];
                            let index = (tile * sub.form.outputs() + j) * b.axes[a].step;
                            let index = sub.first_input + index as i64;
                            (0..self.geometry.input()[a] as i64).contains(&index).then_some(index as usize)
                        };
                        let at = inside(0, tz, jz).zip(inside(1, ty, jy));
                        let to = &mut from[(jz * y.form.points() + jy) * row..];
                        self.fill_row(simd, n, block, at, &columns, stage, to);
                    }
                }
                if z.form != Form::F11 {
                    let run = y.form.points() * row;
                    forward(simd, z.form, Turn::single(run, 0, run, 0, run), from, to);
                    (from, to) = (to, from);
                }
                if y.form != Form::F11 {
                    for pz in 0..z.form.points() {
                        let at = pz * y.form.points() * row;
                        forward(simd, y.form, Turn::single(row, at, row, at, row), from, to);
                    }
                    from = to;
                }
                self.turn_x(simd, r, block, from, points);
            }
        }
    }

    /// Turns the rows of one tile row and channel block along x.
    #[inline(always)]
    fn turn_x<S: Simd>(&self, simd: S, r: usize, block: usize, from: &[T], points: &mut [T]) {
        let (b, task) = (self.blocking, self.task);
        let (pair, x, lanes) = (&b.pairs[task.pair], &b.axes[2], b.lanes);
        let blocks = b.padded_in() / lanes;
        let mut start = 0;
        for (s, sub) in x.subs.iter().enumerate() {
            let tiles = b.x_tiles(s, task.x);
            let point = blocks * task.rows.len() * tiles * lanes;
            for zy in 0..pair.points {
                let turn = Turn {
                    windows: tiles,
                    run: lanes,
                    from: (zy * b.width + (sub.first_input - b.first) as usize) * lanes,
                    from_window: sub.form.outputs() * x.step * lanes,
                    from_step: x.step * lanes,
                    to: start
                        + zy * sub.form.points() * point
                        + (block * task.rows.len() + r) * tiles * lanes,
                    to_window: lanes,
                    to_step: point,
                };
                forward(simd, sub.form, turn, from, points);
            }
            start += pair.points * sub.form.points() * point;
        }
    }

    /// The part of a raw row that lies inside the input, and where it starts there.
    fn columns(&self) -> (Range<usize>, usize) {
        let b = self.blocking;
        let first = b.first + (self.task.x * b.x_step * b.axes[2].step) as i64;
        let width = self.geometry.input()[2] as i64;
        let begin = first.clamp(0, width);
        let end = (first + b.width as i64).clamp(begin, width);
        ((begin - first) as usize..(end - first) as usize, begin as usize)
    }

    /// One raw row, `[x][lanes]`: at (z, y) of image `n`, or zeros. May write some vectors beyond it.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    fn fill_row<S: Simd>(
        &self,
        simd: S,
        n: usize,
        block: usize,
        at: Option<(usize, usize)>,
        (inside, begin): &(Range<usize>, usize),
        stage: &mut [T],
        to: &mut [T],
    ) {
        let (b, g) = (self.blocking, self.geometry);
        let lanes = b.lanes;
        let Some((z, y)) = at.filter(|_| !inside.is_empty()) else {
            return zero(simd, &mut to[..b.width * lanes]);
        };
        let channel = block * lanes;
        let channels = lanes.min(b.group_in - channel);
        let from = &self.input[g.input_at(n, self.task.group * b.group_in + channel, [z, y, *begin])..];
        match g.problem().layout() {
            Layout::Nchw => {
                // Through a small buffer: the planes of channels often lie a power of two apart, where few of their lines fit
                // the cache together. Beside the rows it holds zeros.
                let plane = g.input_plane();
                for c in 0..channels {
                    let from = &from[c * plane..];
                    let to = &mut stage[c * b.pitch..][inside.clone()];
                    copy(simd, &from[..to.len()], to);
                    // The same row of the next block of channels.
                    for line in (0..to.len()).step_by(b.line) {
                        prefetch::read_later(from.as_ptr().wrapping_add(lanes * plane + line));
                    }
                }
                for c in channels..lanes {
                    zero(simd, &mut stage[c * b.pitch..][inside.clone()]);
                }
                let rows = b.width.next_multiple_of(lanes);
                let to = Rows { output: SharedOutput::new(to), start: 0, step: lanes };
                // SAFETY: the rows are borrowed mutably here.
                unsafe { transpose(simd, stage, b.pitch, to, rows, lanes) };
            }
            Layout::Nhwc => {
                zero(simd, &mut to[..inside.start * lanes]);
                zero(simd, &mut to[inside.end * lanes..b.width * lanes]);
                let to = &mut to[inside.start * lanes..inside.end * lanes];
                if channels < lanes {
                    zero(simd, to);
                }
                for (to, from) in to.chunks_exact_mut(lanes).zip(from.chunks(g.problem().in_channels())) {
                    copy(simd, &from[..channels], &mut to[..channels]);
                    prefetch::read_later(from.as_ptr().wrapping_add(lanes));
                }
            }
        }
    }
}
