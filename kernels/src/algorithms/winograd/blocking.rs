//! Every size that the kernel chooses: blocks of tiles, tasks, and the scratch that follows.

use std::ops::Range;

use super::axes::{Axis, SubPhase};
use crate::contract::request::{Declined, Request};
use crate::machine::scratch::{Scratch, spread};
use crate::microkernels::slab::equal_parts;
use crate::microkernels::tile::max_pixels;

/// Points of the inputs of one block, and of its sums, at most (bytes): they stay in the level-2 cache while the weights
/// stream by.
const BLOCK_BYTES: usize = 800 << 10;
/// The same where fewer tiles than a register tile takes would fit: each point's weights are then read for too few.
const LARGE_BLOCK_BYTES: usize = 1200 << 10;
/// Packed weights of a group (bytes) that are worth them.
const HEAVY_BYTES: usize = 8 << 20;
/// Scratch of one worker, at most (bytes).
const SCRATCH_BYTES: usize = 2 << 20;
/// Fewer input channels than this decline: the transforms would cost more than the products that they save, and the error
/// of few products leaves no room for the growth that is allowed.
const LEAST_IN: usize = 32;
const CACHE_LINE: usize = 64;
/// Vectors of output channels in a full tile.
const VECTORS: usize = 2;

/// One sub-phase along z with one along y.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Their numbers.
    pub subs: [usize; 2],
    /// Points along z and y together.
    pub points: usize,
    /// Tile rows of all images: (image, tile along z, tile along y).
    pub rows: usize,
    /// Tile rows of a block.
    pub step: usize,
    /// Weights of one input and one output channel before those of this pair, which others may share.
    pub weights_before: usize,
}

impl Pair {
    /// Blocks of rows.
    fn blocks(&self) -> usize {
        self.rows.div_ceil(self.step)
    }
}

/// The sizes, all fixed when the plan is made.
#[derive(Debug, Clone)]
pub struct Blocking {
    /// Elements of one vector, and of a cache line.
    pub lanes: usize,
    pub line: usize,
    /// Pixels of the widest tile.
    pub pixels: usize,
    /// Channels of one group.
    pub group_in: usize,
    pub group_out: usize,
    pub groups: usize,
    pub axes: [Axis; 3],
    pub pairs: Vec<Pair>,
    /// Points along x before those of each sub-phase, which others may share; and of all.
    pub x_before: Vec<usize>,
    x_points: usize,
    /// Weights of one input and one output channel.
    weights: usize,
    /// Outputs of every sub-phase along x in a block.
    pub x_step: usize,
    /// Blocks along x.
    pub x_blocks: usize,
    /// The first input along x that the first block reads, and how many it reads.
    pub first: i64,
    pub width: usize,
    /// Whether blocks are larger than most.
    large: bool,
    /// Parts into which the channel blocks are split, to feed all threads.
    pub channel_parts: usize,
    /// Distance of the channels of a staged row, in whole vectors.
    pub pitch: usize,
    /// Elements of one worker's buffers: a staged row, raw rows (twice), points of inputs, points of sums (twice), an
    /// output row.
    pub stage: usize,
    pub raw: usize,
    pub points: usize,
    pub sums: usize,
    pub outputs: usize,
}

/// One task: a block of tiles of one pair, for some channel blocks of one group.
#[derive(Debug, Clone)]
pub struct Task {
    pub pair: usize,
    pub group: usize,
    /// Tile rows.
    pub rows: Range<usize>,
    /// Block along x.
    pub x: usize,
    /// Channel blocks.
    pub blocks: Range<usize>,
}

impl Blocking {
    /// With axes whose phases may be cut into parts of two forms where `mixed`.
    pub fn new(request: &Request<'_>, mixed: [bool; 3]) -> Result<Self, Declined> {
        let (g, p) = (request.geometry, request.geometry.problem());
        if p.group_in() < LEAST_IN {
            return Err(Declined::because(format!(
                "{} input channels in a group: at least {LEAST_IN} are worth transforming",
                p.group_in()
            )));
        }
        let [z, y, x] = g.axes();
        let axes = [Axis::new(z, mixed[0])?, Axis::new(y, mixed[1])?, Axis::new(x, mixed[2])?];
        if !axes.iter().any(Axis::saves) {
            return Err(Declined::because("every phase has one tap: there is no product to save"));
        }
        let size = request.dtype.size();
        let mut blocking = Self::with(request, axes.clone(), LARGE_BLOCK_BYTES);
        if blocking.slot() * size > SCRATCH_BYTES {
            blocking = Self::with(request, axes, BLOCK_BYTES);
        }
        if mixed[2] && blocking.x_blocks > 1 {
            return Err(Declined::because("parts of different forms along x lie in different blocks"));
        }
        let bytes = blocking.slot() * size;
        if bytes > SCRATCH_BYTES {
            return Err(Declined::because(format!(
                "needs {bytes} bytes of scratch: the limit is {SCRATCH_BYTES}"
            )));
        }
        let wanted = if request.target.threads > 1 { 4 * request.target.threads } else { 1 };
        blocking.channel_parts = wanted.div_ceil(blocking.tasks().max(1)).clamp(1, blocking.blocks());
        Ok(blocking)
    }

    /// For these axes; blocks are `large` (bytes, at most) where a register tile would not fill.
    fn with(request: &Request<'_>, axes: [Axis; 3], large: usize) -> Self {
        let p = request.geometry.problem();
        let size = request.dtype.size();
        let lanes = request.target.isa.f32_lanes() * 4 / size;
        let padded_in = p.group_in().next_multiple_of(lanes);
        let x = &axes[2];
        let (mut x_before, mut x_points) = (Vec::with_capacity(x.subs.len()), 0);
        let [z_first, y_first, x_first] = axes.each_ref().map(Axis::first_with_weights);
        for (i, sub) in x.subs.iter().enumerate() {
            let shared = x_first[i] < i;
            x_before.push(if shared { x_before[x_first[i]] } else { x_points });
            x_points += if shared { 0 } else { sub.form.points() };
        }

        // Along x as much of a row as the cache allows, in equal parts; then as many rows.
        let block = VECTORS.min(p.group_out().div_ceil(lanes)) * lanes;
        let points_of = |outputs: usize| -> usize {
            x.subs.iter().map(|s| s.form.points() * s.tiles.min(outputs / s.form.outputs())).sum()
        };
        let mut pairs = Vec::with_capacity(axes[0].subs.len() * axes[1].subs.len());
        for (iz, z) in axes[0].subs.iter().enumerate() {
            for (iy, y) in axes[1].subs.iter().enumerate() {
                let points = z.form.points() * y.form.points();
                let rows = p.batch() * z.tiles * y.tiles;
                pairs.push(Pair { subs: [iz, iy], points, rows, step: 1, weights_before: 0 });
            }
        }
        let most_points = pairs.iter().map(|pair| pair.points).max().unwrap_or(1);
        let units = x.longest.div_ceil(x.unit);
        let pixels = max_pixels(request.target.isa.registers());
        let x_step_in = |room: usize| match room / most_points {
            room if points_of(units * x.unit) <= room => units * x.unit,
            room => x.unit * equal_parts(units, (room / points_of(x.unit)).max(1)),
        };
        let rows_in = |room: usize, x_step: usize, pair: &Pair| {
            equal_parts(pair.rows, (room / (pair.points * points_of(x_step))).max(1))
        };
        // Tiles of a point in a block, the fewest of the pairs that are cut; none where all of a pair is one block.
        let together = |room: usize| {
            let x_step = x_step_in(room);
            let x_is_cut = x_step < units * x.unit;
            let of_sub = |s: &SubPhase| s.tiles.min(x_step / s.form.outputs());
            let tiles = x.subs.iter().map(of_sub).max().unwrap_or(0);
            let rows = pairs.iter().map(|pair| (rows_in(room, x_step, pair), pair.rows));
            rows.filter(|(rows, all)| x_is_cut || rows < all).map(|(rows, _)| rows * tiles).min()
        };
        let room_of = |bytes: usize| bytes / size / (padded_in + 2 * block);
        let (small, large) = (room_of(BLOCK_BYTES), room_of(large));
        // Residues of a dilation gain too little to be worth it, and light weights are near anyway.
        let is_dense = p.axes().iter().all(|axis| axis.dilation == 1);
        let points = pairs.iter().map(|pair| pair.points).sum::<usize>() * x_points;
        let is_heavy = points * padded_in * p.group_out().next_multiple_of(lanes) * size >= HEAVY_BYTES;
        let room = match together(small) {
            Some(tiles)
                if is_dense
                    && is_heavy
                    && tiles < pixels
                    && together(large).is_none_or(|more| more > tiles) =>
            {
                large
            }
            _ => small,
        };
        let is_large = room > small;
        let x_step = x_step_in(room);
        let mut weights = 0;
        for i in 0..pairs.len() {
            let [z, y] = pairs[i].subs;
            let first = z_first[z] * axes[1].subs.len() + y_first[y];
            let before = if first < i { pairs[first].weights_before } else { weights };
            let pair = &mut pairs[i];
            pair.step = rows_in(room, x_step, pair);
            pair.weights_before = before;
            weights += if first < i { 0 } else { pair.points * x_points };
        }

        let first = x.subs.iter().map(|s| s.first_input).min().unwrap_or(0);
        let end =
            |s: &SubPhase| s.first_input + s.span(s.tiles.min(x_step / s.form.outputs()), x.step) as i64;
        let width = (x.subs.iter().map(end).max().unwrap_or(0) - first) as usize;
        let most = |elements: &dyn Fn(&Pair) -> usize| pairs.iter().map(elements).max().unwrap_or(0);
        let pitch = spread(width.next_multiple_of(lanes), size);
        Self {
            lanes,
            line: CACHE_LINE / size,
            pixels,
            group_in: p.group_in(),
            group_out: p.group_out(),
            groups: p.groups(),
            x_before,
            x_points,
            weights,
            x_step,
            x_blocks: x.longest.div_ceil(x_step),
            first,
            width,
            large: is_large,
            channel_parts: 1,
            pitch,
            stage: pitch * lanes,
            // The last row of a buffer is transposed in whole vectors.
            raw: (most_points * width + lanes) * lanes,
            points: most(&|pair| pair.step * pair.points * points_of(x_step) * padded_in),
            sums: most(&|pair| pair.step * pair.points * points_of(x_step) * block),
            outputs: x_step * x.distance * block,
            pairs,
            axes,
        }
    }

    /// Vectors of the channel block that starts at channel `first` of the group.
    pub fn vectors(&self, first: usize) -> usize {
        (self.group_out - first).div_ceil(self.lanes).min(VECTORS)
    }

    /// Channels of a full block.
    pub fn block(&self) -> usize {
        self.vectors(0) * self.lanes
    }

    /// Channel blocks of one group.
    pub fn blocks(&self) -> usize {
        self.group_out.div_ceil(self.block())
    }

    /// Input channels of one group, padded to whole vectors.
    pub fn padded_in(&self) -> usize {
        self.group_in.next_multiple_of(self.lanes)
    }

    /// Output channels of one group, padded to whole vectors.
    pub fn padded_out(&self) -> usize {
        self.group_out.next_multiple_of(self.lanes)
    }

    /// Points of one pair, over all sub-phases along x.
    pub fn pair_points(&self, pair: &Pair) -> usize {
        pair.points * self.x_points
    }

    /// Packed elements of one group.
    pub fn group_weights(&self) -> usize {
        self.weights * self.padded_in() * self.padded_out()
    }

    /// Where the packed weights of a channel block of a pair start.
    pub fn weights_at(&self, group: usize, pair: &Pair, first_channel: usize) -> usize {
        let of_pair = pair.weights_before * self.padded_out() + first_channel * self.pair_points(pair);
        group * self.group_weights() + of_pair * self.padded_in()
    }

    /// Elements of one worker's scratch.
    pub fn slot(&self) -> usize {
        self.stage + 2 * self.raw + self.points + 2 * self.sums + self.outputs
    }

    /// Tasks of a run.
    pub fn tasks(&self) -> usize {
        self.pairs.iter().map(Pair::blocks).sum::<usize>() * self.x_blocks * self.groups * self.channel_parts
    }

    /// Block `i` of the rows of all pairs: which pair, and which of its blocks. The pairs advance side by side, in as many rounds as
    /// the longest has blocks: what the phases of one part of an image read and write lies together, still in the cache.
    fn block_of_rows(&self, mut i: usize) -> (usize, usize) {
        let rounds = self.pairs.iter().map(Pair::blocks).max().unwrap_or(1);
        let before = |pair: &Pair, round: usize| {
            (round as u128 * pair.blocks() as u128 / rounds as u128) as usize // at most its blocks
        };
        let all_before = |round| self.pairs.iter().map(|pair| before(pair, round)).sum::<usize>();
        let (mut round, mut end) = (0, rounds);
        while end - round > 1 {
            let middle = round + (end - round) / 2;
            if all_before(middle) <= i { round = middle } else { end = middle }
        }
        i -= all_before(round);
        for (pair, p) in self.pairs.iter().enumerate() {
            let (first, next) = (before(p, round), before(p, round + 1));
            if i < next - first {
                return (pair, first + i);
            }
            i -= next - first;
        }
        unreachable!("block {i} beyond those of the last round")
    }

    /// Task number `i`.
    pub fn task(&self, i: usize) -> Task {
        let (part, i) = (i % self.channel_parts, i / self.channel_parts);
        let (x, i) = (i % self.x_blocks, i / self.x_blocks);
        let (group, i) = (i % self.groups, i / self.groups);
        let (pair, block) = self.block_of_rows(i);
        let Pair { rows, step, .. } = self.pairs[pair];
        let first = block * step;
        let share = |part: usize| self.blocks() * part / self.channel_parts;
        Task { pair, group, rows: first..(first + step).min(rows), x, blocks: share(part)..share(part + 1) }
    }

    /// Tiles of sub-phase `sub` along x in block `x`.
    pub fn x_tiles(&self, sub: usize, x: usize) -> usize {
        let sub = &self.axes[2].subs[sub];
        let step = self.x_step / sub.form.outputs();
        sub.tiles.saturating_sub(x * step).min(step)
    }

    /// Workers of a run, and the scratch of all of them.
    pub fn workers(&self, request: &Request<'_>) -> (usize, Scratch) {
        Scratch::workers(request.target.threads, self.tasks(), self.slot(), request.dtype)
    }

    /// Multiply-adds done: whole tiles, whole vectors.
    pub fn multiply_adds(&self) -> u128 {
        let x: usize = self.axes[2].subs.iter().map(|s| s.form.points() * s.tiles).sum();
        let pixels: u128 = self.pairs.iter().map(|pair| (pair.points * pair.rows) as u128 * x as u128).sum();
        pixels * (self.padded_in() * self.padded_out() * self.groups) as u128
    }

    /// The tile's name: `"avx512-14x32"` is 14 tiles × 32 channels, `"avx512-14x32-large"` the same with large blocks.
    pub fn name(&self, request: &Request<'_>) -> String {
        let large = if self.large { "-large" } else { "" };
        format!("{}-{}x{}{large}", request.target.isa.name(), self.pixels, self.block())
    }
}
