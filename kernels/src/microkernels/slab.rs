//! The packed input of one task, and how the positions of an axis are cut into tasks.

use std::ops::Range;

use pulp::Simd;

use super::copy::{copy, zero};
use super::transpose::{Rows, transpose};
use super::vector::Float;
use crate::machine::parallel::SharedOutput;
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

    /// Copies the rows of image `n`, group `group`.
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
        let channels = geometry.problem().group_in();
        let width = geometry.input()[2] as i64;
        // The part of a packed row that lies inside the input.
        let begin = self.first.clamp(0, width);
        let end = (self.first + self.pitch as i64).clamp(begin, width);
        let (left, inside) = ((begin - self.first) as usize, (end - begin) as usize);
        for z in self.rows[0].clone() {
            for y in self.rows[1].clone() {
                let row = &mut slab[self.row_at(z, y)..][..self.row];
                for channel in row.chunks_exact_mut(self.pitch.max(1)) {
                    zero(simd, &mut channel[..left.min(self.pitch)]);
                    zero(simd, &mut channel[(left + inside).min(self.pitch)..]);
                }
                if inside == 0 {
                    continue;
                }
                let from = geometry.input_at(n, group * channels, [z, y, begin as usize]);
                match geometry.problem().layout() {
                    Layout::Nchw => {
                        let plane = geometry.input_plane();
                        for (c, to) in row.chunks_exact_mut(self.pitch).enumerate() {
                            copy(simd, &input[from + c * plane..][..inside], &mut to[left..left + inside]);
                        }
                    }
                    Layout::Nhwc => {
                        let to = Rows { output: SharedOutput::new(row), start: left, step: self.pitch };
                        let step = geometry.problem().in_channels();
                        // SAFETY: the row is borrowed mutably here.
                        unsafe { transpose(simd, &input[from..], step, to, channels, inside) };
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
