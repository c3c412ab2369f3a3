//! Every size that the kernel chooses: columns, vectors, tasks, and the scratch that follows.

use std::ops::Range;

use crate::contract::request::{Declined, Request};
use crate::machine::scratch::{Scratch, spread};
use crate::microkernels::pixel_tile::max_columns;
use crate::microkernels::slab::equal_parts;
use crate::problem::geometry::AxisGeometry;

/// Packed input of one task, at most (bytes), where one row allows it.
const SLAB_BYTES: usize = 512 << 10;
/// Sums of one column block, at most (bytes): they stay in the level-1 cache.
const SUMS_BYTES: usize = 24 << 10;
/// Scratch of one thread, at most (bytes): beyond it the kernel declines.
const SLOT_BYTES: usize = 2 << 20;

/// One axis in groups: output u = o + pb = S·j + ρ reads the inputs j − m·step through taps ρ + m·S.
#[derive(Debug, Clone)]
pub struct GroupedAxis {
    /// Phases (S).
    pub stride: usize,
    /// Taps (K).
    pub kernel: usize,
    /// Distance of the inputs of successive taps.
    pub step: usize,
    /// Cropped outputs at the begin.
    pub crop: usize,
    /// Outputs.
    pub output: usize,
    /// Inputs.
    pub input: usize,
    /// The groups that have outputs.
    pub groups: Range<usize>,
}

impl GroupedAxis {
    fn new(axis: &AxisGeometry) -> Self {
        let a = &axis.axis;
        let crop = a.padding.0;
        Self {
            stride: a.stride,
            kernel: a.kernel,
            step: a.dilation,
            crop,
            output: axis.output,
            input: a.input,
            groups: crop / a.stride..(crop + axis.output - 1) / a.stride + 1,
        }
    }

    /// Taps of phase `rho`.
    pub fn taps(&self, rho: usize) -> usize {
        self.kernel.saturating_sub(rho).div_ceil(self.stride)
    }

    /// Taps of phase 0, the most.
    pub fn most_taps(&self) -> usize {
        self.taps(0)
    }

    /// Inputs that a group reads before its own.
    pub fn halo(&self) -> usize {
        (self.most_taps() - 1) * self.step
    }

    /// Output of phase `rho` of group `j`, if it is one.
    pub fn output_of(&self, j: usize, rho: usize) -> Option<usize> {
        (j * self.stride + rho).checked_sub(self.crop).filter(|&o| o < self.output)
    }

    /// The taps of phase `rho` that meet the input for group `j`.
    pub fn valid_taps(&self, j: usize, rho: usize) -> Range<usize> {
        let end = self.taps(rho).min(j / self.step + 1);
        let begin = (j + 1).saturating_sub(self.input).div_ceil(self.step);
        begin.min(end)..end
    }
}

/// The sizes, all fixed when the plan is made.
#[derive(Debug, Clone)]
pub struct Blocking {
    pub axes: [GroupedAxis; 3],
    pub lanes: usize,
    /// Vectors of the widest tile.
    pub vectors: usize,
    pub groups: usize,
    pub group_in: usize,
    pub group_out: usize,
    /// Output channels of one column block.
    pub channels: usize,
    /// Phases along y in one column block: all, or one.
    pub y_phases: usize,
    /// Groups of one task along y and x.
    pub rows: usize,
    pub width: usize,
    /// Distance of packed rows.
    pub pitch: usize,
    /// Elements of a packed input channel, of the packed input, and of the sums.
    pub channel_step: usize,
    pub slab: usize,
    pub sums: usize,
    /// Parts into which a task's column blocks are split, to feed all threads.
    pub parts: usize,
}

impl Blocking {
    /// Columns of a tile, at most.
    pub fn most_columns(request: &Request<'_>) -> usize {
        max_columns(request.target.isa.registers(), 2)
    }

    pub fn new(request: &Request<'_>) -> Result<Self, Declined> {
        let (g, p) = (request.geometry, request.geometry.problem());
        let size = request.dtype.size();
        let registers = request.target.isa.registers();
        let lanes = request.target.isa.f32_lanes() * 4 / size;
        let axes = [0, 1, 2].map(|a| GroupedAxis::new(&g.axes()[a]));
        let [z, y, x] = &axes;

        // Columns: all phases along x, and along y too where everything fits in one tile.
        let most = Self::most_columns(request);
        let all = p.group_out() * x.stride * y.stride;
        let y_phases = if all <= most && y.kernel % y.stride == 0 { y.stride } else { 1 };
        let channels = equal_parts(p.group_out(), most / (x.stride * y_phases));
        let columns = channels * x.stride * y_phases;
        let vectors = if columns <= max_columns(registers, 4) { 4 } else { 2 };

        // Pixels: whole rows one after another, or a part of one row.
        let most_pixels = (SUMS_BYTES / (columns * size)).max(4 * lanes);
        let width = equal_parts(x.groups.len(), most_pixels);
        let whole = width == x.groups.len();
        // Zeros to the right of a row are those to the left of the next.
        let shared = if whole {
            let left = x.halo().saturating_sub(x.groups.start);
            left.min(x.groups.end.saturating_sub(x.input))
        } else {
            0
        };
        let pitch = width + x.halo() - shared;
        let planes = z.most_taps();
        let channel_step = |rows: usize| spread(planes * (rows + y.halo()) * pitch + x.halo(), size);
        let mut rows = 1;
        if whole {
            rows = equal_parts(y.groups.len(), most_pixels / pitch);
            while rows > 1 && channel_step(rows) * p.group_in() * size > SLAB_BYTES {
                rows = equal_parts(y.groups.len(), rows.div_ceil(2));
            }
        }
        let channel_step = channel_step(rows);
        let line = 64 / size;
        let slab = (channel_step * p.group_in() + vectors * lanes + shared).next_multiple_of(line);
        let sums = (columns * (rows * pitch).next_multiple_of(lanes)).next_multiple_of(line);
        if (slab + sums) * size > SLOT_BYTES {
            return Err(Declined::because(format!(
                "one task needs {} bytes of scratch: {SLOT_BYTES} are allowed",
                (slab + sums) * size
            )));
        }
        let mut blocking = Self {
            lanes,
            vectors,
            groups: p.groups(),
            group_in: p.group_in(),
            group_out: p.group_out(),
            channels,
            y_phases,
            rows,
            width,
            pitch,
            channel_step,
            slab,
            sums,
            parts: 1,
            axes,
        };
        let tasks = p.batch() * p.groups() * blocking.tasks().iter().product::<usize>();
        let wanted = if request.target.threads > 1 { 4 * request.target.threads } else { 1 };
        blocking.parts = wanted.div_ceil(tasks.max(1)).clamp(1, blocking.blocks());
        Ok(blocking)
    }

    /// Tasks along z, y and x.
    pub fn tasks(&self) -> [usize; 3] {
        let [z, y, x] = &self.axes;
        [z.groups.len(), y.groups.len().div_ceil(self.rows), x.groups.len().div_ceil(self.width)]
    }

    /// Column blocks of one group: phases along z, then along y, then channels.
    pub fn blocks(&self) -> usize {
        self.axes[0].stride * self.y_blocks() * self.channel_blocks()
    }

    /// Blocks of phases along y.
    pub fn y_blocks(&self) -> usize {
        self.axes[1].stride / self.y_phases
    }

    /// Blocks of output channels.
    pub fn channel_blocks(&self) -> usize {
        self.group_out.div_ceil(self.channels)
    }

    /// Columns of a full block.
    pub fn columns(&self) -> usize {
        self.channels * self.axes[2].stride * self.y_phases
    }

    /// Elements of a full block's packed weights: `[tap z][tap y][tap x][input channel][column]`, padded alike for every phase.
    pub fn panel(&self) -> usize {
        self.axes.iter().map(GroupedAxis::most_taps).product::<usize>() * self.group_in * self.columns()
    }

    /// Packed elements of all groups.
    pub fn packed_weights(&self) -> usize {
        self.groups * self.blocks() * self.panel()
    }

    /// Elements of one thread's scratch: packed input, then sums.
    pub fn slot(&self) -> usize {
        self.slab + self.sums
    }

    /// Tasks of a run over so many images.
    pub fn all_tasks(&self, batch: usize) -> usize {
        batch * self.groups * self.tasks().iter().product::<usize>() * self.parts
    }

    /// Workers of a run, and the scratch of all of them.
    pub fn workers(&self, request: &Request<'_>) -> (usize, Scratch) {
        let tasks = self.all_tasks(request.geometry.problem().batch());
        Scratch::workers(request.target.threads, tasks, self.slot(), request.dtype)
    }

    /// Multiply-adds done: rows outside the input along y are multiplied as zeros, and vectors are filled up.
    pub fn multiply_adds(&self, request: &Request<'_>) -> u128 {
        let [z, y, x] = &self.axes;
        let along = |a: &GroupedAxis| (0..a.stride).map(|rho| a.taps(rho)).sum::<usize>() as u128;
        let [_, tasks_y, tasks_x] = self.tasks();
        let pixels = (self.rows * self.pitch).next_multiple_of(self.lanes) * tasks_y * tasks_x;
        let channels = self.groups * self.group_in * self.group_out;
        request.geometry.problem().batch() as u128
            * channels as u128
            * (along(z) * z.groups.len() as u128)
            * (along(y) * along(x))
            * pixels as u128
    }

    /// Tiles of a run.
    pub fn tiles(&self, request: &Request<'_>) -> usize {
        let x = &self.axes[2];
        let wide = self.vectors * self.lanes;
        let along_y_x = (self.rows * self.pitch).div_ceil(wide) * self.tasks()[1..].iter().product::<usize>();
        let boxes = 1 + usize::from(!x.kernel.is_multiple_of(x.stride));
        let batch = request.geometry.problem().batch();
        batch * self.groups * self.blocks() * self.tasks()[0] * along_y_x * boxes
    }

    /// Rows of single channels that a run packs.
    pub fn packed_rows(&self, request: &Request<'_>) -> usize {
        let [z, y, _] = &self.axes;
        let rows = z.most_taps() * (self.rows + y.halo()) * self.tasks().iter().product::<usize>();
        request.geometry.problem().batch() * self.groups * self.group_in * self.parts * rows
    }

    /// The tile's name: `"avx512-12x32"` is 12 columns × 32 pixels.
    pub fn name(&self, request: &Request<'_>) -> String {
        format!("{}-{}x{}", request.target.isa.name(), self.columns(), self.vectors * self.lanes)
    }
}
