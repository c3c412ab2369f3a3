//! Every size that the kernel chooses: the tile, what its pixels are, passes, parts of the batch, and the scratch that follows.

use crate::contract::request::{Declined, Request};
use crate::machine::scratch::{Scratch, spread};
use crate::microkernels::slab::equal_parts;
use crate::microkernels::small_tile::{MOST_PIXELS, exists, has_masks, tallest};
use crate::problem::problem::Layout;

/// Sums of the narrowest block of output channels (one vector, two where registers are few) of several images, at most (bytes): they stay
/// in the level-1 cache.
const SUMS_BYTES: usize = 32 << 10;
/// The same of one image: in the level-2 cache reading them again costs more, but less than heavy weights that come again.
const IMAGE_SUMS_BYTES: usize = 128 << 10;
/// Packed input, at most (bytes): it shares the level-2 cache with a pass of weights.
const INPUT_BYTES: usize = 1 << 20;
/// Weights of one pass, at most (bytes).
const PASS_BYTES: usize = 128 << 10;
/// Packed weights (bytes) from which on they are fetched early.
const STREAMED_BYTES: usize = 768 << 10;
/// Rows of all phases × their taps, at most: what the list of tiles may hold.
const MOST_ENTRIES: usize = 1 << 16;
/// From so many images on, the pixels of a tile are those of as many images.
const MANY_IMAGES: usize = 4;
/// Multiply-adds that are worth a thread.
const GRAIN: u128 = 1 << 21;
const CACHE_LINE: usize = 64;

/// What the neighbouring pixels of a tile are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pixels {
    /// Neighbours along x: rows are rows.
    Columns,
    /// The same position of several images: rows are positions.
    Images,
}

/// The sizes, all fixed when the plan is made.
#[derive(Debug, Clone)]
pub struct Blocking {
    /// Elements of one vector.
    pub lanes: usize,
    /// Vector registers.
    pub registers: usize,
    /// The tile of the longest phase; where a phase is shorter along x, its tiles may be taller.
    pub vectors: usize,
    pub rows: usize,
    pub pixels: usize,
    pub kind: Pixels,
    /// Channels of one group.
    pub group_in: usize,
    pub group_out: usize,
    pub groups: usize,
    /// Images that one part takes; all weights are read once for each part.
    pub part: usize,
    pub batch: usize,
    /// Input channels of one pass.
    pub pass: usize,
    /// Taps of all phases.
    pub taps: usize,
    /// Whether the input is read where it lies.
    pub direct: bool,
    /// Distance of input channels, as tiles read them.
    pub channel_step: usize,
    /// Elements of the packed input of a part; 0 where it is read directly.
    pub packed: usize,
    /// Output pixels of one image.
    pub outputs: usize,
    /// Elements of the sums of a part.
    pub sums: usize,
    pub streams_weights: bool,
    /// Whether sums are beyond what several images may have.
    pub far: bool,
    pub threads: usize,
}

impl Blocking {
    pub fn new(request: &Request<'_>) -> Result<Self, Declined> {
        let (g, p) = (request.geometry, request.geometry.problem());
        let size = request.dtype.size();
        let lanes = request.target.isa.f32_lanes() * 4 / size;
        let registers = request.target.isa.registers();
        let (outputs, plane) = (g.output_plane(), g.input_plane());

        let least = if registers < 32 { 2 } else { 1 };
        let pixel_bytes = least * lanes * size;
        if outputs > IMAGE_SUMS_BYTES / pixel_bytes {
            return Err(Declined::because(format!(
                "not a small image: the sums of {outputs} outputs need {} bytes, {IMAGE_SUMS_BYTES} are allowed",
                outputs as u128 * pixel_bytes as u128
            )));
        }
        let image_bytes = p.in_channels() as u128 * spread(plane, size) as u128 * size as u128;
        if image_bytes > INPUT_BYTES as u128 {
            return Err(Declined::because(format!(
                "not a small image: {image_bytes} bytes of input, {INPUT_BYTES} are allowed"
            )));
        }
        let axes = g.axes();
        let taps: usize = axes.iter().map(|a| a.phases.iter().map(|p| p.taps).sum::<usize>()).product();
        if taps > MOST_ENTRIES / outputs.max(1) {
            return Err(Declined::because(format!(
                "{outputs} outputs with {taps} taps: the product of at most {MOST_ENTRIES} is allowed"
            )));
        }

        // The batch, in equal parts.
        let by_sums = SUMS_BYTES / (outputs * pixel_bytes).max(1);
        let by_input = INPUT_BYTES / (image_bytes as usize).max(1);
        let by_entries = MOST_ENTRIES / (outputs * taps).max(1);
        let part = equal_parts(p.batch(), by_sums.min(by_input).min(by_entries * MOST_PIXELS).max(1));
        let kind = if part >= MANY_IMAGES { Pixels::Images } else { Pixels::Columns };

        let positions = |a: usize| axes[a].phases.iter().map(|p| p.outputs).max().unwrap_or(1);
        let (inner, outer) = match kind {
            Pixels::Columns => (positions(2), part * positions(0) * positions(1)),
            Pixels::Images => (part, positions(0) * positions(1) * positions(2)),
        };
        let (vectors, rows, pixels) = tile(registers, p.group_out().div_ceil(lanes), outer, inner);

        let width = vectors * lanes;
        let most_taps = |a: usize| axes[a].phases.iter().map(|p| p.taps).max().unwrap_or(0);
        let phase_taps = (most_taps(0) * most_taps(1) * most_taps(2)).max(1);
        let pass = equal_parts(p.group_in(), (PASS_BYTES / (phase_taps * width * size)).max(32));
        let direct = kind == Pixels::Columns && p.layout() == Layout::Nchw;
        let (channel_step, blocks) = match kind {
            Pixels::Columns if direct => (plane, part),
            Pixels::Columns => (spread(plane, size), part),
            Pixels::Images => (spread(plane * pixels, size), part.div_ceil(pixels)),
        };
        let packed = if direct { 0 } else { blocks * p.in_channels() * channel_step };
        let mut blocking = Self {
            lanes,
            registers,
            vectors,
            rows,
            pixels,
            kind,
            group_in: p.group_in(),
            group_out: p.group_out(),
            groups: p.groups(),
            part,
            batch: p.batch(),
            pass,
            taps,
            direct,
            channel_step,
            packed: packed.next_multiple_of(CACHE_LINE / size),
            outputs,
            sums: (part * outputs * width).next_multiple_of(CACHE_LINE / size),
            streams_weights: false,
            far: outputs > SUMS_BYTES / pixel_bytes,
            threads: 1,
        };
        blocking.streams_weights = blocking.packed_weights() * size > STREAMED_BYTES;
        let worth = (blocking.multiply_adds(request) / GRAIN).clamp(1, 1 << 16) as usize;
        blocking.threads = request.target.threads.min(worth).min(blocking.tasks()).max(1);
        Ok(blocking)
    }

    /// Channels of a block.
    pub fn width(&self) -> usize {
        self.vectors * self.lanes
    }

    /// Blocks of output channels in one group.
    pub fn blocks(&self) -> usize {
        self.group_out.div_ceil(self.width())
    }

    /// Tasks of one part.
    pub fn tasks(&self) -> usize {
        self.groups * self.blocks()
    }

    /// Channels of one group, padded to whole blocks.
    pub fn padded_out(&self) -> usize {
        self.blocks() * self.width()
    }

    /// Packed elements of one block with all its taps.
    pub fn block_weights(&self) -> usize {
        self.taps * self.group_in * self.width()
    }

    /// Packed elements of all weights.
    pub fn packed_weights(&self) -> usize {
        self.tasks() * self.block_weights()
    }

    /// Packed input of a part, in bytes, then a slot of sums for each thread.
    pub fn scratch(&self, request: &Request<'_>) -> (usize, Scratch) {
        let (workers, slots) = Scratch::workers(self.threads, self.tasks(), self.sums, request.dtype);
        (workers, Scratch { bytes: self.packed * request.dtype.size() + slots.bytes })
    }

    /// Multiply-adds done: taps are exact, channels fill whole blocks.
    pub fn multiply_adds(&self, request: &Request<'_>) -> u128 {
        let pairs: u128 = request.geometry.axes().iter().map(|a| a.landing_pairs()).product();
        (self.batch * self.group_in * self.groups * self.padded_out()) as u128 * pairs
    }

    /// Multiply-adds of the time that it takes to pass over pixels without the tap: a branch instead of V vectors of them, at about
    /// 0.3 of one. Fitted; where many images share a tile, or registers are few, no tile has such pixels.
    pub fn passed_over(&self, request: &Request<'_>) -> u128 {
        if self.kind == Pixels::Images || !has_masks(self.registers) {
            return 0;
        }
        let axes = request.geometry.axes();
        let pairs: u128 = axes.iter().map(|a| a.landing_pairs()).product();
        let of_axis =
            |a: usize| axes[a].phases.iter().map(|p| p.outputs as u128 * p.taps as u128).sum::<u128>();
        let all = of_axis(0) * of_axis(1) * of_axis(2);
        let products = (self.batch * self.group_in * self.groups * self.padded_out()) as u128;
        products * (all - pairs.min(all)) * 3 / (10 * self.vectors as u128)
    }

    /// Times that heavy weights are read.
    pub fn weight_reads(&self) -> usize {
        if self.far { self.batch.div_ceil(self.part) } else { 1 }
    }

    /// Sums of the largest tile, in vectors.
    pub fn tile_sums(&self) -> usize {
        self.vectors * self.rows * self.pixels
    }

    /// Sums of a tile that never waits for them.
    pub fn full_tile(&self, request: &Request<'_>) -> usize {
        if request.target.isa.name() == "avx512" { 6 } else { 10 }
    }

    /// Time of the work over that of tiles whose pixels are images: pixels of one image differ in their taps, which splits
    /// tiles, and few registers hold fewer sums then. Fitted.
    pub fn split_tiles(&self) -> f64 {
        match self.kind {
            Pixels::Images => 1.0,
            Pixels::Columns if self.registers < 32 => 1.32,
            Pixels::Columns => 1.02,
        }
    }

    /// Times that a tile runs, about.
    pub fn tile_runs(&self) -> usize {
        let tiles = (self.batch * self.outputs).div_ceil(self.rows * self.pixels);
        tiles * self.tasks() * self.group_in.div_ceil(self.pass)
    }

    /// Times that a tile begins with a tap, about.
    pub fn tap_runs(&self, request: &Request<'_>) -> f64 {
        let axes = request.geometry.axes();
        let pairs: u128 = axes.iter().map(|a| a.landing_pairs()).product();
        let outputs = request.geometry.output_plane().max(1);
        self.tile_runs() as f64 * pairs as f64 / outputs as f64
    }

    /// Input elements that are packed.
    pub fn packed_inputs(&self, request: &Request<'_>) -> usize {
        if self.direct { 0 } else { request.geometry.input_len() }
    }

    /// The tile's name: `"avx512-3x8x16"` is 3 rows × 8 pixels × 16 channels.
    pub fn name(&self, request: &Request<'_>) -> String {
        format!("{}-{}x{}x{}", request.target.isa.name(), self.rows, self.pixels, self.width())
    }
}

/// The tile (vectors, rows, pixels) with the most sums at work, for blocks of `vectors` and an area of `outer` rows of `inner` pixels;
/// beyond 20 sums, more are no gain. Of equals, two vectors win: they halve the branches of one, and reuse weights more than four.
fn tile(registers: usize, vectors: usize, outer: usize, inner: usize) -> (usize, usize, usize) {
    let mut best = (0.0, (2, 1, 1));
    for v in [4, 1, 2] {
        let most = (1..=MOST_PIXELS).rev().find(|&p| exists(registers, v, 1, p)).unwrap_or(0);
        if most == 0 {
            continue;
        }
        let pixels = equal_parts(inner, most);
        let rows = equal_parts(outer, tallest(registers, v, pixels));
        let filled = vectors as f64 / vectors.next_multiple_of(v) as f64;
        let score = filled * (v * rows * pixels).min(20) as f64;
        if score >= best.0 {
            best = (score, (v, rows, pixels));
        }
    }
    best.1
}
