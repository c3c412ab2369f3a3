//! Every size that the kernel chooses: tiles, blocks, tasks, and the scratch that follows.

use std::ops::Range;

use super::axes::Axes;
use crate::contract::request::{Declined, Request};
use crate::machine::scratch::Scratch;
use crate::microkernels::direct_tile::{tallest, widest};
use crate::microkernels::slab::equal_parts;
use crate::problem::problem::Layout;

/// Channels last, packed weights (bytes) that stay in the level-2 cache beside the inputs of a tile: each tile of pixels takes
/// all of them. Of more than that, each tile of weights takes a block of pixels.
const KEPT_WEIGHTS: usize = 512 << 10;
/// Inputs of such a block (bytes).
const BLOCK_BYTES: usize = 384 << 10;
/// Channels first, inputs of one channel in a panel (bytes): several tiles share it where vectors are short, since one cache
/// line of each channel at a time comes too late.
const PANEL_ROW: usize = 256;
/// Such a panel (bytes): it stays in the level-2 cache beside the next one, and is read for each tile of weights.
const PANEL_BYTES: usize = 64 << 10;
/// The same of four phases in long vectors: what a tile writes lies far apart, and more of it together is worth more.
const WIDE_PANEL_ROW: usize = 1024;
const WIDE_PANEL_BYTES: usize = 256 << 10;
/// Tiles side by side that share a panel, at most.
pub const MOST_SHARING: usize = 4;
/// Tiles of weights, at most: beyond it the kernel declines.
const MOST_TILES: usize = 1 << 20;
/// Scratch of one thread, at most (bytes): beyond it the kernel declines.
const SLOT_BYTES: usize = 2 << 20;

/// The sizes, all fixed when the plan is made.
#[derive(Debug, Clone)]
pub struct Blocking {
    pub axes: Axes,
    pub layout: Layout,
    pub lanes: usize,
    pub registers: usize,
    /// Channels of one group, and groups.
    pub group_in: usize,
    pub group_out: usize,
    pub groups: usize,
    /// What an output sums over at most: input channels of a group, of each window.
    pub sources: usize,
    /// Positions of all images ("pixels": most often they are inputs).
    pub pixels: usize,
    /// Rows that are interleaved: the phases along x, channels first; else 1.
    pub z: usize,
    /// Rows and vectors of the largest tile.
    pub rows: usize,
    pub vectors: usize,
    /// Channels first: vectors of a panel, whose inputs are packed together: those of several tiles side by side.
    pub wide: usize,
    /// Channels last: outputs of a pixel that lie together, and how many such runs there are.
    pub run: usize,
    pub runs: usize,
    /// What tiles share out beside the pixels, in one phase and run: channels, or vectors.
    pub sides: Parts,
    /// Packed weights of one of them, for a step of the sum.
    pub unit: usize,
    /// Channels last: tiles of pixels in a block.
    pub block: usize,
    /// Channels first: whether the inputs of the next tile of pixels are copied while one is multiplied.
    pub ahead: bool,
    /// Parts along the pixels of all images, and along the tiles of weights.
    pub chunks: usize,
    pub parts: usize,
}

impl Blocking {
    pub fn new(request: &Request<'_>) -> Result<Self, Declined> {
        let (g, p) = (request.geometry, request.geometry.problem());
        let axes = Axes::new(g)?;
        let size = request.dtype.size();
        let lanes = request.target.isa.f32_lanes() * 4 / size;
        let registers = request.target.isa.registers();
        let layout = p.layout();
        if axes.windows > 1 && layout == Layout::Nhwc {
            let (kernel, strides) = (g.kernel(), p.axes().map(|a| a.stride));
            return Err(Declined::because(format!(
                "kernel {kernel:?} with stride {strides:?}, channels last: kernels must not overlap"
            )));
        }
        if axes.windows > 1 && request.weights.is_some_and(|w| !w.all_finite) {
            return Err(not_finite());
        }
        let mut blocking = Self {
            axes,
            layout,
            lanes,
            registers,
            group_in: p.group_in(),
            group_out: p.group_out(),
            groups: p.groups(),
            sources: p.group_in() * axes.windows,
            pixels: p.batch() * axes.positions(),
            z: 1,
            rows: 1,
            vectors: 1,
            wide: 1,
            run: 0,
            runs: 1,
            sides: Parts::new(1, 1),
            unit: 1,
            block: 1,
            ahead: false,
            chunks: 1,
            parts: 1,
        };
        match layout {
            Layout::Nchw => blocking.channels_first(size)?,
            Layout::Nhwc => blocking.channels_last(size)?,
        }
        let tiles = blocking.runs.checked_mul(blocking.sides.count * blocking.axes.phases());
        if tiles.is_none_or(|tiles| tiles > MOST_TILES) {
            return Err(Declined::because(format!("more than {MOST_TILES} tiles of weights")));
        }
        let threads = request.target.threads;
        let wanted = if threads > 1 { 4 * threads } else { 1 };
        blocking.chunks = wanted.div_ceil(blocking.groups).clamp(1, blocking.units().max(1));
        let tasks = blocking.chunks * blocking.groups;
        blocking.parts = wanted.div_ceil(tasks).clamp(1, blocking.live_tiles());
        Ok(blocking)
    }

    fn channels_first(&mut self, size: usize) -> Result<(), Declined> {
        let stride = self.axes.x.stride;
        if ![1, 2, 4].contains(&stride) {
            return Err(Declined::because(format!(
                "stride {stride} along x: 1, 2 or 4 phases are interleaved in registers"
            )));
        }
        let kernel = self.axes.x.kernel;
        if kernel < stride && 2 * kernel != stride {
            return Err(Declined::because(format!(
                "kernel {kernel} with stride {stride} along x: all phases have a tap, or half of them"
            )));
        }
        self.z = stride;
        let live = kernel.min(stride);
        let channels = equal_parts(self.group_out, tallest(self.registers, stride, live) / live);
        self.rows = channels * live;
        (self.sides, self.unit) = (Parts::new(self.group_out, self.group_out.div_ceil(channels)), kernel);
        let vectors = widest(self.registers, self.rows);
        self.vectors = vectors.min(self.units()).max(1);
        let panel = |vectors: usize| self.sources * vectors * self.lanes * size;
        if panel(1) > SLOT_BYTES {
            return Err(Declined::because(format!(
                "{} bytes for a vector of pixels of all {} inputs of a sum: {SLOT_BYTES} are allowed",
                panel(1),
                self.sources
            )));
        }
        while panel(self.vectors) > SLOT_BYTES {
            self.vectors -= 1;
        }
        let (row, bytes) = match (stride, self.lanes * size) {
            (4, 64) => (WIDE_PANEL_ROW, WIDE_PANEL_BYTES),
            _ => (PANEL_ROW, PANEL_BYTES),
        };
        let sharing = (row / (self.vectors * self.lanes * size)).clamp(1, MOST_SHARING);
        let fits = |&wide: &usize| panel(wide) <= bytes;
        self.wide = (1..=sharing).rev().map(|n| n * self.vectors).find(fits).unwrap_or(self.vectors);
        self.ahead = 2 * panel(self.wide) <= SLOT_BYTES;
        Ok(())
    }

    fn channels_last(&mut self, size: usize) -> Result<(), Declined> {
        let stride = self.axes.x.stride;
        (self.run, self.runs) = if self.groups == 1 && self.axes.x.kernel == stride && self.axes.x.is_whole()
        {
            (stride * self.group_out, 1)
        } else {
            (self.group_out, stride)
        };
        self.rows = tallest(self.registers, 1, 1);
        let vectors = self.run.div_ceil(self.lanes);
        self.vectors = widest(self.registers, self.rows).min(vectors);
        (self.sides, self.unit) = (Parts::new(vectors, vectors.div_ceil(self.vectors)), self.lanes);
        let tile = self.rows * self.group_in * size;
        if self.packed_weights() * size > KEPT_WEIGHTS {
            self.block = (BLOCK_BYTES / tile).max(1);
        }
        Ok(())
    }

    /// What outputs of one group without products are: a value for each row; or all phases of a pixel along x, of each channel.
    pub fn rest_step(&self) -> usize {
        match self.layout {
            Layout::Nchw => self.bias_step(),
            Layout::Nhwc => self.axes.x.stride * self.group_out,
        }
    }

    /// Input channels of an image, and those before a group.
    pub fn channels_before(&self, group: usize) -> [usize; 2] {
        [self.groups * self.group_in, group * self.group_in]
    }

    /// What is shared out along the pixels: vectors, or single ones.
    pub fn units(&self) -> usize {
        match self.layout {
            Layout::Nchw => self.pixels.div_ceil(self.lanes),
            Layout::Nhwc => self.pixels,
        }
    }

    /// Units of a tile, at most.
    pub fn tile_units(&self) -> usize {
        match self.layout {
            Layout::Nchw => self.vectors,
            Layout::Nhwc => self.rows,
        }
    }

    /// Tiles for each tile of pixels: phases along z and y, runs, then side by side.
    pub fn weight_tiles(&self) -> usize {
        self.axes.phases() * self.runs * self.sides.count
    }

    /// What tasks share out of them: channels last, those with taps.
    fn live_tiles(&self) -> usize {
        match self.layout {
            Layout::Nchw => self.weight_tiles(),
            Layout::Nhwc => self.axes.live_phases() * self.live_runs() * self.sides.count,
        }
    }

    /// Tile of weights number `i`. Channels first, the phases of a channel follow one another: their rows share cache lines.
    /// Channels last, the outputs of a pixel do.
    pub fn weight_tile(&self, i: usize) -> WeightTile {
        let (sides, phases) = (self.sides.count, self.axes.phases());
        let (phase, run, side) = match self.layout {
            Layout::Nchw => (i % phases, 0, i / phases),
            Layout::Nhwc => (i / sides / self.runs, i / sides % self.runs, i % sides),
        };
        WeightTile { z: phase / self.axes.y.stride, y: phase % self.axes.y.stride, run, side }
    }

    /// The one after it.
    #[inline(always)]
    pub fn next_tile(&self, tile: WeightTile) -> WeightTile {
        let mut next = tile;
        if self.layout == Layout::Nhwc {
            next.side += 1;
            if next.side < self.sides.count {
                return next;
            }
            (next.side, next.run) = (0, next.run + 1);
            if next.run < self.runs {
                return next;
            }
            next.run = 0;
        }
        next.y += 1;
        if next.y == self.axes.y.stride {
            (next.y, next.z) = (0, next.z + 1);
        }
        if next.z == self.axes.z.stride && self.layout == Layout::Nchw {
            (next.z, next.side) = (0, next.side + 1);
        }
        next
    }

    /// Packed weights of one step of the sum, in one phase and run.
    pub fn step(&self) -> usize {
        self.sides.of(self.sides.count).start * self.unit
    }

    /// Runs that have products: those of the phases along x that have a tap.
    pub fn live_runs(&self) -> usize {
        self.runs.min(self.axes.x.kernel)
    }

    /// What the sums of one group start from: a value for each row, or for each lane of one run.
    pub fn bias_step(&self) -> usize {
        match self.layout {
            Layout::Nchw => self.group_out * self.unit,
            Layout::Nhwc => self.step(),
        }
    }

    /// Packed weights of one group: `[phase with a tap][live run][tile][tap][input channel][row or lane]`.
    pub fn group_weights(&self) -> usize {
        let [_, _, taps] = self.axes.taps(0, 0);
        taps * self.live_runs() * self.group_in * self.step()
    }

    /// Packed weights of all groups.
    pub fn packed_weights(&self) -> usize {
        self.groups * self.group_weights()
    }

    /// Elements of a thread's scratch: the inputs of a panel, and of the next where they are copied ahead.
    pub fn slot(&self) -> usize {
        match self.layout {
            Layout::Nchw => (1 + usize::from(self.ahead)) * self.panel(),
            Layout::Nhwc => 0,
        }
    }

    /// Elements of the inputs of a panel.
    pub fn panel(&self) -> usize {
        (self.sources * self.wide * self.lanes).next_multiple_of(16)
    }

    /// Tasks of a run.
    pub fn tasks(&self) -> usize {
        if self.pixels == 0 { 0 } else { self.groups * self.chunks * self.parts }
    }

    /// Workers of a run, and the scratch of all of them.
    pub fn workers(&self, request: &Request<'_>) -> (usize, Scratch) {
        Scratch::workers(request.target.threads, self.tasks(), self.slot(), request.dtype)
    }

    /// Multiply-adds done: cropped outputs and filled-up vectors count.
    pub fn multiply_adds(&self) -> u128 {
        let pixels = match self.layout {
            Layout::Nchw => self.units() * self.lanes,
            Layout::Nhwc => self.pixels,
        };
        self.packed_weights() as u128 * pixels as u128
    }

    /// Tiles of a run.
    pub fn tiles(&self) -> usize {
        self.groups * self.weight_tiles() * self.units().div_ceil(self.tile_units())
    }

    /// The tile's name: `"avx512-6x64"` is 6 rows × 64 lanes.
    pub fn name(&self, request: &Request<'_>) -> String {
        format!("{}-{}x{}", request.target.isa.name(), self.rows, self.vectors * self.lanes)
    }
}

/// Zeros stand in for inputs that a window lacks.
pub fn not_finite() -> Declined {
    Declined::because("weights are not finite, and padded zeros are multiplied")
}

/// A tile of weights: its phase along z and y, its run, and its number side by side.
#[derive(Debug, Clone, Copy)]
pub struct WeightTile {
    pub z: usize,
    pub y: usize,
    pub run: usize,
    pub side: usize,
}

/// `0..whole` in nearly equal parts, the larger ones first. Divided once: tiles are too short for divisions.
#[derive(Debug, Clone, Copy)]
pub struct Parts {
    pub count: usize,
    least: usize,
    longer: usize,
}

impl Parts {
    pub fn new(whole: usize, count: usize) -> Self {
        Self { count, least: whole / count, longer: whole % count }
    }

    /// Part `i`.
    #[inline(always)]
    pub fn of(&self, i: usize) -> Range<usize> {
        let start = i * self.least + i.min(self.longer);
        start..start + self.least + usize::from(i < self.longer)
    }
}
