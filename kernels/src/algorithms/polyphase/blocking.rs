//! Every size that the kernel chooses: tiles, tasks, passes, and the scratch that follows.

use crate::contract::request::Request;
use crate::machine::scratch::{Scratch, spread};
use crate::microkernels::slab::{AxisBlocks, equal_parts};
use crate::microkernels::tile::most_pixels;
use crate::problem::geometry::Phase;

/// Packed input of one task, at most (bytes): it shares the level-2 cache with the weights of one channel block.
const SLAB_BYTES: usize = 384 << 10;
/// Sums of one chunk of output rows, at most (bytes): it stays in the level-1 cache.
const SUMS_BYTES: usize = 24 << 10;
/// Weights of one pass, at most (bytes), where several rows use them again.
const PASS_BYTES: usize = 256 << 10;
/// Weights of one group (bytes) from which on they are fetched early.
const STREAMED_BYTES: usize = 512 << 10;
const CACHE_LINE: usize = 64;
/// Vectors of output channels in a tile, at most.
const MOST_VECTORS: usize = 3;

/// The sizes, all fixed when the plan is made.
#[derive(Debug, Clone)]
pub struct Blocking {
    /// Elements of one vector.
    pub lanes: usize,
    /// Pixels of the widest tile of one vector, of two and of three.
    pub pixels: [usize; MOST_VECTORS],
    /// Vectors of output channels in a full tile.
    pub full: usize,
    /// Channels of one group.
    pub group_in: usize,
    pub group_out: usize,
    pub groups: usize,
    /// Positions q of one task along z, y, x (see [`AxisBlocks`]).
    pub axes: [AxisBlocks; 3],
    /// Parts into which a task's channel blocks are split, to feed all threads.
    pub channel_parts: usize,
    /// Output rows of one chunk.
    pub rows: usize,
    /// Input channels of one pass over the taps.
    pub pass: usize,
    /// Whether the weights come from beyond the level-2 cache, and each is used a few times only: then the next are
    /// fetched early.
    pub streams_weights: bool,
    /// Elements of the packed input and of the sums, for one task.
    pub slab: usize,
    pub sums: usize,
    /// Taps that any phase has, over all axes.
    pub taps: usize,
    /// Distance of the packed rows of one channel after another.
    pub pitch: usize,
}

impl Blocking {
    pub fn new(request: &Request<'_>) -> Self {
        let (g, p) = (request.geometry, request.geometry.problem());
        let size = request.dtype.size();
        let lanes = request.target.isa.f32_lanes() * 4 / size;
        let pixels = [1, 2, 3].map(|vectors| most_pixels(request.target.isa.registers(), vectors));
        let mut axes = [0, 1, 2].map(|a| AxisBlocks::new(&g.axes()[a].phases));
        let inputs = g.input();
        let full = full_tile(p.group_out().div_ceil(lanes));
        let block = full * lanes;

        // Along x: as many positions as the sums of one output row allow, in equal parts.
        let stride = g.axes()[2].phases.len();
        let row_bytes = |positions: usize| positions * stride * block * size;
        axes[2].step = equal_parts(axes[2].positions, (SUMS_BYTES / row_bytes(1)).max(pixels[1].min(16)));
        // Along y, then z: as many rows as the packed input allows.
        let slab = |axes: &[AxisBlocks; 3]| {
            axes[0].span(axes[0].step, Some(inputs[0]))
                * axes[1].span(axes[1].step, Some(inputs[1]))
                * spread(axes[2].span(axes[2].step, None), size)
                * p.group_in()
        };
        for a in [0, 1] {
            while slab(&axes) * size > SLAB_BYTES && axes[a].step > 1 {
                axes[a].step = equal_parts(axes[a].positions, axes[a].step.div_ceil(2));
            }
        }
        let tasks = p.batch() * p.groups() * axes.iter().map(AxisBlocks::tasks).product::<usize>();
        let blocks = p.group_out().div_ceil(block);
        let wanted = if request.target.threads > 1 { 4 * request.target.threads } else { 1 };
        let channel_parts = wanted.div_ceil(tasks.max(1)).clamp(1, blocks);

        let rows = (SUMS_BYTES / row_bytes(axes[2].step)).clamp(1, (axes[0].step * axes[1].step).max(1));
        let sums = rows * stride * axes[2].step * block;
        let taps = axes.iter().map(AxisBlocks::taps).product();
        let most_taps = |a: usize| g.axes()[a].phases.iter().map(|p| p.taps).max().unwrap_or(0);
        let row_taps = most_taps(0) * most_taps(1) * axes[2].taps();
        let pass = (PASS_BYTES / (row_taps.max(1) * block * size)).max(16);
        let pitch = spread(axes[2].span(axes[2].step, None), size);
        let slab = (slab(&axes) + lanes).next_multiple_of(CACHE_LINE / size);
        let sums = sums.next_multiple_of(CACHE_LINE / size);
        Self {
            lanes,
            pixels,
            full,
            group_in: p.group_in(),
            group_out: p.group_out(),
            groups: p.groups(),
            axes,
            channel_parts,
            rows,
            streams_weights: taps * p.group_in() * p.group_out() * size > STREAMED_BYTES,
            pass: if rows > 1 { equal_parts(p.group_in(), pass) } else { p.group_in() },
            slab,
            sums,
            taps,
            pitch,
        }
    }

    /// Vectors of the channel block that starts at channel `first` of the group.
    pub fn vectors(&self, first: usize) -> usize {
        (self.group_out - first).div_ceil(self.lanes).min(self.full)
    }

    /// Channels of a full block.
    pub fn block(&self) -> usize {
        self.vectors(0) * self.lanes
    }

    /// Number of channel blocks of one group.
    pub fn blocks(&self) -> usize {
        self.group_out.div_ceil(self.block())
    }

    /// Channels of one group, padded to whole vectors.
    pub fn padded_out(&self) -> usize {
        self.group_out.next_multiple_of(self.lanes)
    }

    /// Packed elements of one group: every channel block with all its taps.
    pub fn group_weights(&self) -> usize {
        self.padded_out() * self.group_in * self.taps
    }

    /// Packed elements of all groups.
    pub fn packed_weights(&self) -> usize {
        self.group_weights() * self.groups
    }

    /// Elements of one task's scratch: packed input, then sums, each on whole cache lines.
    pub fn slot(&self) -> usize {
        self.slab + self.sums
    }

    /// Tasks of a run over so many images.
    pub fn all_tasks(&self, batch: usize) -> usize {
        batch * self.groups * self.axes.iter().map(AxisBlocks::tasks).product::<usize>() * self.channel_parts
    }

    /// Workers of a run, and the scratch of all of them.
    pub fn workers(&self, request: &Request<'_>) -> (usize, Scratch) {
        let tasks = self.all_tasks(request.geometry.problem().batch());
        Scratch::workers(request.target.threads, tasks, self.slot(), request.dtype)
    }

    /// Multiply-adds done: taps along z and y are exact, along x every position has all taps of its phase, and
    /// channels fill whole vectors.
    pub fn multiply_adds(&self, request: &Request<'_>) -> u128 {
        let axes = request.geometry.axes();
        let along_x: u128 = axes[2].phases.iter().map(|p| (p.taps * p.outputs) as u128).sum();
        let channels = self.group_out.next_multiple_of(self.lanes) * self.group_in * self.groups;
        let pixels = axes[0].landing_pairs() * axes[1].landing_pairs() * along_x;
        request.geometry.problem().batch() as u128 * channels as u128 * pixels
    }

    /// Tiles that so many positions of one row are cut into.
    pub fn tiles_of(&self, positions: usize, vectors: usize) -> usize {
        positions.div_ceil(self.pixels[vectors - 1])
    }

    /// Tiles of a run: for every output row and channel block, those of every phase along x, once for each pass.
    pub fn tiles(&self, request: &Request<'_>) -> usize {
        let axes = request.geometry.axes();
        let rows = request.geometry.problem().batch() * axes[0].output * axes[1].output;
        let of_block = |block: usize| {
            let vectors = self.vectors(block * self.block());
            let of_phase = |p: &Phase| self.tiles_of(p.outputs.min(self.axes[2].step), vectors);
            axes[2].phases.iter().map(of_phase).sum::<usize>()
        };
        // All blocks but the last are alike.
        let last = self.blocks() - 1;
        let of_row = last * of_block(0) + of_block(last);
        let passes = self.group_in.div_ceil(self.pass);
        rows * self.axes[2].tasks() * of_row * self.groups * passes
    }

    /// Rows of single channels that a run packs.
    pub fn packed_rows(&self, request: &Request<'_>) -> usize {
        let input = request.geometry.input();
        let packed = |a: usize| self.axes[a].tasks() * self.axes[a].span(self.axes[a].step, Some(input[a]));
        let channels = request.geometry.problem().batch() * self.groups * self.group_in * self.channel_parts;
        channels * packed(0) * packed(1) * self.axes[2].tasks()
    }

    /// The tile's name: `"avx512-14x32"` is 14 pixels × 32 channels.
    pub fn name(&self, request: &Request<'_>) -> String {
        format!("{}-{}x{}", request.target.isa.name(), self.pixels[self.vectors(0) - 1], self.block())
    }
}

/// Vectors of a full tile, where channels are so many vectors: two, or three where a single one would be left over and
/// threes leave none. Alone, a vector is loaded for few products.
fn full_tile(vectors: usize) -> usize {
    match vectors {
        0 | 1 => vectors,
        n if n % 2 == 1 && n % 3 != 1 => 3,
        _ => 2,
    }
}
