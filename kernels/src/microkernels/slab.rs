//! The packed input of one task, and how the positions of an axis are cut into tasks.

use std::ops::Range;

use pulp::Simd;

use super::copy::{copy_rows, zero, zero_over};
use super::transpose::{Rows, transpose};
use super::vector::Float;
use crate::machine::parallel::SharedOutput;
use crate::machine::prefetch;
use crate::problem::geometry::{Geometry, Phase};
use crate::problem::problem::Layout;

/// How one axis is cut: task `i` takes the positions `i·step..(i + 1)·step` of every phase.
#[derive(Debug, Clone)]
pub struct AxisBlocks {
    /// Positions of the longest phase.
    pub positions: usize,
    /// Positions of one task.
    pub step: usize,
    /// Input elements relative to a position that any tap of any phase may read.
    reach: Range<i64>,
    /// Taps of all phases before each phase, and of all.
    pub taps_before: Vec<usize>,
}

impl AxisBlocks {
    /// For an axis of these phases.
    pub fn new(phases: &[Phase]) -> Self {
        let mut reach: Option<Range<i64>> = None;
        let mut taps_before = vec![0];
        for p in phases {
            if p.taps > 0 {
                let (first, last) = (p.base - ((p.taps - 1) * p.input_step) as i64, p.base + 1);
                reach = Some(reach.map_or(first..last, |r| r.start.min(first)..r.end.max(last)));
            }
            taps_before.push(taps_before[taps_before.len() - 1] + p.taps);
        }
        let positions = phases.iter().map(|p| p.outputs).max().unwrap_or(0);
        Self { positions, step: positions, reach: reach.unwrap_or(0..0), taps_before }
    }

    /// Taps of all phases.
    pub fn taps(&self) -> usize {
        self.taps_before[self.taps_before.len() - 1]
    }

    /// Number of tasks along the axis.
    pub fn tasks(&self) -> usize {
        self.positions.div_ceil(self.step)
    }

    /// Positions of task `i`.
    pub fn positions_of(&self, i: usize) -> Range<usize> {
        i * self.step..((i + 1) * self.step).min(self.positions)
    }

    /// The inputs that positions `q` may read; not clipped to the input.
    pub fn inputs_of(&self, q: &Range<usize>) -> Range<i64> {
        if self.reach.is_empty() {
            0..0
        } else {
            q.start as i64 + self.reach.start..q.end as i64 - 1 + self.reach.end
        }
    }

    /// Inputs of a task of `step` positions, at most.
    pub fn span(&self, step: usize, clip: Option<usize>) -> usize {
        let span = self.inputs_of(&(0..step));
        let all = (span.end - span.start) as usize;
        clip.map_or(all, |input| all.min(input))
    }
}

/// The packed input of one task: `[z][y][channel][x]`, only rows inside the input, zeros beside them along x.
#[derive(Debug, Clone)]
pub struct Slab {
    /// Input rows along z and y.
    pub rows: [Range<usize>; 2],
    /// Input index of the first packed element of a row; may be negative.
    pub first: i64,
    /// Elements of a row of one channel.
    pub pitch: usize,
    /// Elements of one (z, y) row of all channels.
    pub row: usize,
}

impl Slab {
    /// For the positions of one task; rows of one channel lie `pitch` apart, at least the inputs that positions read.
    pub fn new(
        axes: &[AxisBlocks; 3],
        inputs: [usize; 3],
        channels: usize,
        pitch: usize,
        positions: &[Range<usize>; 3],
    ) -> Self {
        let clip = |a: usize| {
            let r = axes[a].inputs_of(&positions[a]);
            let clip = |v: i64| v.clamp(0, inputs[a] as i64) as usize;
            clip(r.start)..clip(r.end)
        };
        let x = axes[2].inputs_of(&positions[2]);
        Self { rows: [clip(0), clip(1)], first: x.start, pitch, row: pitch * channels }
    }

    /// Where the row (z, y) of channel 0 starts.
    pub fn row_at(&self, z: usize, y: usize) -> usize {
        ((z - self.rows[0].start) * self.rows[1].len() + (y - self.rows[1].start)) * self.row
    }

    /// The part of a packed row that lies inside the input.
    pub fn inside(&self, geometry: &Geometry) -> Range<usize> {
        let width = geometry.input()[2] as i64;
        let begin = self.first.clamp(0, width);
        begin as usize..(self.first + self.pitch as i64).clamp(begin, width) as usize
    }

    /// Copies the rows of image `n`, group `group`. `slab` has room for a vector more, which may be overwritten.
    #[inline(always)]
    pub fn fill<T: Float, S: Simd>(
        &self,
        simd: S,
        geometry: &Geometry,
        n: usize,
        group: usize,
        input: &[T],
        slab: &mut [T],
    ) {
        let (channels, step) = (geometry.problem().group_in(), geometry.problem().in_channels());
        let begin = self.inside(geometry).start;
        let (left, inside) = ((begin as i64 - self.first) as usize, self.inside(geometry).len());
        // All but the last row of a channel end with the zeros that the next one starts with.
        let after = self.pitch - (left + inside).min(self.pitch);
        let next_row =
            geometry.input()[2] * if geometry.problem().layout() == Layout::Nhwc { step } else { 1 };
        for z in self.rows[0].clone() {
            for y in self.rows[1].clone() {
                let row = &mut slab[self.row_at(z, y)..];
                if inside == 0 {
                    zero(simd, &mut row[..self.row]);
                    continue;
                }
                let from = &input[geometry.input_at(n, group * channels, [z, y, begin])..];
                zero_over(simd, row, left);
                match geometry.problem().layout() {
                    Layout::Nchw => {
                        let (plane, row) = (geometry.input_plane(), &mut row[left..]);
                        let gaps = [after + left, after];
                        copy_rows(simd, from, plane, next_row, row, self.pitch, [channels, inside], gaps);
                    }
                    Layout::Nhwc => {
                        for c in 0..channels {
                            let gap = if c + 1 < channels { after + left } else { after };
                            zero_over(simd, &mut row[c * self.pitch + left + inside..], gap);
                        }
                        if y + 1 < self.rows[1].end {
                            prefetch::rows(&from[next_row..], step, [inside, channels]);
                        }
                        let to = Rows { output: SharedOutput::new(row), start: left, step: self.pitch };
                        // SAFETY: the row is borrowed mutably here.
                        unsafe { transpose(simd, from, step, to, channels, inside) };
                    }
                }
            }
        }
    }
}

/// The positions along z, y and x of task number `task`, x running fastest, and the number that remains for what lies outside.
pub fn positions_of_task(axes: &[AxisBlocks; 3], mut task: usize) -> ([Range<usize>; 3], usize) {
    let mut positions = [0..0, 0..0, 0..0];
    for (positions, axis) in positions.iter_mut().zip(axes).rev() {
        *positions = axis.positions_of(task % axis.tasks());
        task /= axis.tasks();
    }
    (positions, task)
}

/// The step that cuts `whole` into the fewest parts of at most `most`, all nearly equal.
pub fn equal_parts(whole: usize, most: usize) -> usize {
    let parts = whole.div_ceil(most.max(1)).max(1);
    whole.div_ceil(parts).max(1)
}
