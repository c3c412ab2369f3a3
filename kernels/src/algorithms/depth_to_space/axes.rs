//! Axes by positions and phases: output u·S + ρ (crop and all) of position u is a sum over the taps ρ + s·S, of inputs u − s.
//!
//! Kernels that do not overlap (K ≤ S) have one tap in a phase, or none, and positions are inputs. One axis may overlap, but
//! for the last one: its phases read windows of inputs, each a row of positions before the other.

use crate::contract::request::Declined;
use crate::problem::geometry::{AxisGeometry, Geometry};

/// Phases along the first two axes, at most: each is a tile of weights at least.
const MOST_PHASES: usize = 1 << 12;
/// Windows, at most: all are packed for each tile.
const MOST_WINDOWS: usize = 1 << 12;

/// One axis.
#[derive(Debug, Clone, Copy)]
pub struct PhasedAxis {
    /// Phases (S).
    pub stride: usize,
    /// Taps (K).
    pub kernel: usize,
    /// Cropped outputs at the begin; of an axis that overlaps, those of its first position.
    pub crop: usize,
    /// Outputs.
    pub output: usize,
    /// Inputs.
    pub input: usize,
    /// Positions.
    pub positions: usize,
    /// The input that window 0 of position 0 reads.
    first: usize,
}

impl PhasedAxis {
    fn new(number: usize, axis: &AxisGeometry) -> Result<Self, Declined> {
        let a = &axis.axis;
        if a.kernel > 1 && a.dilation > 1 {
            return Err(Declined::because(format!("dilation {} on axis {number}", a.dilation)));
        }
        let whole = Self {
            stride: a.stride,
            kernel: a.kernel,
            crop: a.padding.0,
            output: axis.output,
            input: a.input,
            positions: a.input,
            first: 0,
        };
        if whole.windows() > MOST_WINDOWS {
            let windows = whole.windows();
            return Err(Declined::because(format!("{windows} taps of a phase: {MOST_WINDOWS} at most")));
        }
        if whole.windows() > 1 {
            let (first, crop) = (whole.crop / a.stride, whole.crop % a.stride);
            let positions = (crop + axis.output).div_ceil(a.stride);
            return Ok(Self { crop, positions, first, ..whole });
        }
        let (all, needed) = (a.input * a.stride, a.padding.0 + axis.output);
        if needed > all {
            return Err(Declined::because(format!(
                "axis {number} has {} outputs beyond the {all} of its inputs",
                needed - all
            )));
        }
        Ok(whole)
    }

    /// Windows: the most taps of a phase.
    pub fn windows(&self) -> usize {
        self.kernel.div_ceil(self.stride)
    }

    /// Taps of a phase.
    pub fn taps(&self, rho: usize) -> usize {
        self.kernel / self.stride + usize::from(rho < self.kernel % self.stride)
    }

    /// Taps of the phases before it.
    fn taps_before(&self, rho: usize) -> usize {
        self.kernel / self.stride * rho + rho.min(self.kernel % self.stride)
    }

    /// Whether every position has all its outputs.
    pub fn is_whole(&self) -> bool {
        self.crop == 0 && self.output == self.positions * self.stride
    }

    /// Positions that have an output of phase `rho`: the first, and the one after the last.
    pub fn positions_of(&self, rho: usize) -> [usize; 2] {
        let end = (self.crop + self.output).saturating_sub(rho).div_ceil(self.stride).min(self.positions);
        [self.crop.saturating_sub(rho).div_ceil(self.stride).min(end), end]
    }

    /// Whether position `u` has outputs of all phases.
    pub fn has_all(&self, u: usize) -> bool {
        self.output_of(u, 0).is_some() && self.output_of(u, self.stride - 1).is_some()
    }

    /// Output of phase `rho` of position `u`, if it is one.
    pub fn output_of(&self, u: usize, rho: usize) -> Option<usize> {
        (u * self.stride + rho).checked_sub(self.crop).filter(|&o| o < self.output)
    }
}

/// All three, and how they lie in memory.
#[derive(Debug, Clone, Copy)]
pub struct Axes {
    pub z: PhasedAxis,
    pub y: PhasedAxis,
    pub x: PhasedAxis,
    /// Windows of the axis that overlaps, or one.
    pub windows: usize,
    /// Inputs of one channel of one image.
    pub plane: usize,
    /// Positions and inputs of a segment: where the inputs of neighbouring positions are neighbours.
    segment: usize,
    segment_input: usize,
    /// Segments of an image.
    segments: usize,
    /// Inputs from one window back to the next, and those before the first of window 0 in a segment.
    pub back: usize,
    first: usize,
}

/// A position of all images: image, z, y, x.
#[derive(Debug, Clone, Copy)]
pub struct Pixel {
    pub n: usize,
    pub z: usize,
    pub y: usize,
    pub x: usize,
}

/// Neighbouring positions, as a window reads them.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Positions before.
    pub done: usize,
    /// Where the input of the first one lies in channel 0 of the group; `None` where they read beyond the input.
    pub from: Option<usize>,
    pub len: usize,
}

impl Axes {
    pub fn new(g: &Geometry) -> Result<Self, Declined> {
        let axis = |a: usize| PhasedAxis::new(a, &g.axes()[a]);
        let (z, y, x) = (axis(0)?, axis(1)?, axis(2)?);
        let overlapping = |a: &PhasedAxis| a.windows() > 1;
        if overlapping(&x) || overlapping(&z) && overlapping(&y) {
            return Err(Declined::because(format!(
                "kernel {:?} with stride {:?}: outputs are sums along the last axis, or along two",
                [z.kernel, y.kernel, x.kernel],
                [z.stride, y.stride, x.stride]
            )));
        }
        if z.stride.checked_mul(y.stride).is_none_or(|phases| phases > MOST_PHASES) {
            let strides = [z.stride, y.stride];
            return Err(Declined::because(format!("strides {strides:?}: {MOST_PHASES} phases at most")));
        }
        let (windows, plane) = (z.windows().max(y.windows()), g.input_plane());
        let (line, rows) = (x.input, y.input * x.input);
        Ok(if overlapping(&y) {
            let (segment, first) = (y.positions * line, y.first * line);
            Self {
                z,
                y,
                x,
                windows,
                plane,
                segment,
                segment_input: rows,
                segments: z.input,
                back: line,
                first,
            }
        } else {
            let (segment, first) = (z.positions * rows, z.first * rows);
            Self { z, y, x, windows, plane, segment, segment_input: plane, segments: 1, back: rows, first }
        })
    }

    /// Positions of an image.
    pub fn positions(&self) -> usize {
        self.z.positions * self.y.positions * self.x.positions
    }

    /// Whether the phases along z and y of a position lie alike: nothing is cropped there.
    pub fn rows_are_whole(&self) -> bool {
        self.z.is_whole() && self.y.is_whole()
    }

    /// Number `i` of all positions, image after image.
    pub fn pixel(&self, i: usize) -> Pixel {
        let (row, x) = (i / self.x.positions, i % self.x.positions);
        let (plane, y) = (row / self.y.positions, row % self.y.positions);
        Pixel { n: plane / self.z.positions, z: plane % self.z.positions, y, x }
    }

    /// The same one row further on, at its begin.
    pub fn next_row(&self, p: Pixel) -> Pixel {
        let mut next = Pixel { x: 0, y: p.y + 1, ..p };
        if next.y == self.y.positions {
            (next.y, next.z) = (0, p.z + 1);
        }
        if next.z == self.z.positions {
            (next.z, next.n) = (0, p.n + 1);
        }
        next
    }

    /// What a window reads for position `i` of all and those after it, `most` at most. `channels`: those of an image, and those before
    /// the group.
    #[inline(always)]
    pub fn run(&self, window: usize, done: usize, i: usize, most: usize, channels: [usize; 2]) -> Run {
        let (segment, at) = (i / self.segment, i % self.segment);
        let (n, part) = (segment / self.segments, segment % self.segments);
        let (at, left) = (at + self.first, most.min(self.segment - at));
        let before = window * self.back;
        if at < before {
            return Run { done, from: None, len: left.min(before - at) };
        }
        let at = at - before;
        if at >= self.segment_input {
            return Run { done, from: None, len: left };
        }
        let from = (n * channels[0] + channels[1]) * self.plane + part * self.segment_input + at;
        Run { done, from: Some(from), len: left.min(self.segment_input - at) }
    }

    /// Where the inputs of `len` positions from number `i` of all on begin in window 0, if they lie together in all windows.
    pub fn together(&self, i: usize, len: usize, channels: [usize; 2]) -> Option<usize> {
        let all = |window: &usize| {
            let run = self.run(*window, 0, i, len, channels);
            run.from.filter(|_| run.len == len)
        };
        all(&(self.windows - 1)).and(all(&0))
    }

    /// Phases along z and y.
    pub fn phases(&self) -> usize {
        self.z.stride * self.y.stride
    }

    /// Those of them that have a tap.
    pub fn live_phases(&self) -> usize {
        self.z.kernel.min(self.z.stride) * self.y.kernel.min(self.y.stride)
    }

    /// Taps of phase (z, y), all of those before it, and of all.
    pub fn taps(&self, z: usize, y: usize) -> [usize; 3] {
        let taps = self.z.taps(z);
        let before = self.z.taps_before(z) * self.y.kernel + taps * self.y.taps_before(y);
        [taps * self.y.taps(y), before, self.z.kernel * self.y.kernel]
    }
}
