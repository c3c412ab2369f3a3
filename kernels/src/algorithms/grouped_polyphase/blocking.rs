//! Every size that the kernel chooses: what a packed vector holds, tasks, and the scratch that follows.

use std::ops::Range;

use super::units::{Unit, reach, splits, units};
use crate::contract::request::Request;
use crate::machine::scratch::{Scratch, spread};
use crate::microkernels::grouped_tile::Shape;
use crate::microkernels::slab::{AxisBlocks, equal_parts};
use crate::problem::problem::Layout;

/// Packed input of one task, at most (bytes), if one row has room: a part of the level-2 cache.
const SLAB_BYTES: usize = 256 << 10;
/// Sums of one output row, at most (bytes): they stay in the level-1 cache.
const SUMS_BYTES: usize = 16 << 10;
const CACHE_LINE: usize = 64;

/// The sizes, all fixed when the plan is made.
#[derive(Debug, Clone)]
pub struct Blocking {
    /// Elements of one vector.
    pub lanes: usize,
    /// Channels of one group.
    pub group_in: usize,
    pub group_out: usize,
    pub groups: usize,
    /// Vectors of output channels: whole ones but for the last, across the borders of groups.
    pub vectors: usize,
    /// Whether tiles write the output themselves: whole vectors, each finished by one tile.
    pub direct: bool,
    /// Input channels of each group of a vector in one packed vector, and packed vectors of a pixel.
    pub per_vector: usize,
    pub pixel_vectors: usize,
    /// Positions q of one task along z, y, x.
    pub axes: [AxisBlocks; 3],
    /// Phases along x, and what tiles read for a position.
    pub units: Vec<Unit>,
    pub reach: Range<i64>,
    /// Pixels of a packed row.
    pub span: usize,
    /// Distance of the rows before they are transposed (channels first), else 0.
    pub pitch: usize,
    /// How numbers of positions are cut into tiles, for each shape there is.
    splits: Vec<(Shape, Vec<u8>)>,
    /// Elements of the packed input, of rows before they are transposed, and of the sums.
    pub slab: usize,
    pub rows: usize,
    pub sums: usize,
    /// Taps that any phase has, over all axes.
    pub taps: usize,
}

impl Blocking {
    pub fn new(request: &Request<'_>) -> Self {
        let (g, p) = (request.geometry, request.geometry.problem());
        let size = request.dtype.size();
        let isa = request.target.isa;
        let lanes = isa.f32_lanes() * 4 / size;
        let (group_in, group_out) = (p.group_in(), p.group_out());
        let vectors = p.out_channels().div_ceil(lanes);
        // The groups that a vector meets depend on where it starts; starts repeat with the period of group_out.
        let groups_of = |v: usize| {
            let last = ((v + 1) * lanes).min(p.out_channels()) - 1;
            last / group_out - v * lanes / group_out + 1
        };
        let most_groups = (0..vectors.min(group_out)).map(groups_of).max().unwrap_or(1);
        let per_vector = (lanes / most_groups).min(group_in);
        let pixel_vectors = group_in.div_ceil(per_vector);

        let phases = &g.axes()[2].phases;
        let units = units(phases);
        let reach = reach(&units, phases);
        let mut axes = [0, 1, 2].map(|a| AxisBlocks::new(&g.axes()[a].phases));
        let pitch = phases.len();
        axes[2].step = equal_parts(axes[2].positions, (SUMS_BYTES / (pitch * lanes * size)).max(16));
        let span = |axes: &[AxisBlocks; 3]| match reach.is_empty() {
            true => 0,
            false => axes[2].step + (reach.end - reach.start) as usize - 1,
        };
        let slab = |axes: &[AxisBlocks; 3]| {
            let rows = [0, 1].map(|a| axes[a].span(axes[a].step, Some(g.input()[a])));
            // A huge dilation, cropped away, makes a span that is declined.
            (rows[0] * rows[1] * pixel_vectors * lanes).saturating_mul(span(axes)).min(usize::MAX >> 16)
        };
        for a in [0, 1] {
            while slab(&axes) * size > SLAB_BYTES && axes[a].step > 1 {
                axes[a].step = equal_parts(axes[a].positions, axes[a].step.div_ceil(2));
            }
        }
        let tasks = |axes: &[AxisBlocks; 3]| {
            p.batch() * vectors * axes.iter().map(AxisBlocks::tasks).product::<usize>()
        };
        let wanted = if request.target.threads > 1 { 4 * request.target.threads } else { 1 };
        for a in [0, 1] {
            while tasks(&axes) < wanted && axes[a].step > 4 {
                axes[a].step = equal_parts(axes[a].positions, axes[a].step.div_ceil(2));
            }
        }

        let direct = p.layout() == Layout::Nhwc
            && p.out_channels().is_multiple_of(lanes)
            && units.iter().all(|u| u.chunks.len() == 1);

        let longest = axes[2].step + 1;
        let mut shapes: Vec<Shape> = Vec::new();
        for chunk in units.iter().flat_map(|u| &u.chunks) {
            if !shapes.contains(&chunk.shape) {
                shapes.push(chunk.shape);
            }
        }
        let latency = if isa.f32_lanes() == 8 { 8 } else { 4 };
        let split = |s: Shape| (s, splits(s, longest, isa.registers(), latency));
        let span = span(&axes);
        let first_channels = p.layout() == Layout::Nchw;
        let row_pitch =
            if first_channels { spread(span.min(usize::MAX >> 16).next_multiple_of(lanes), size) } else { 0 };
        let line = |elements: usize| elements.next_multiple_of(CACHE_LINE / size);
        Self {
            lanes,
            group_in,
            group_out,
            groups: p.groups(),
            vectors,
            direct,
            per_vector,
            pixel_vectors,
            slab: line(slab(&axes) + lanes),
            rows: line(row_pitch * lanes),
            sums: line((axes[2].step + 2) * pitch * lanes),
            taps: axes.iter().map(AxisBlocks::taps).product(),
            splits: shapes.into_iter().map(split).collect(),
            axes,
            units,
            reach,
            span,
            pitch: row_pitch,
        }
    }

    /// Elements of a packed pixel.
    pub fn pixel(&self) -> usize {
        self.pixel_vectors * self.lanes
    }

    /// Width of the next tile where so many positions are left.
    #[inline(always)]
    pub fn width(&self, shape: Shape, left: usize) -> usize {
        let (_, first) = self.splits.iter().find(|(s, _)| *s == shape).expect("all shapes are there");
        usize::from(first[left])
    }

    /// The groups whose outputs vector `v` holds.
    pub fn groups_of(&self, v: usize) -> Range<usize> {
        let first = v * self.lanes / self.group_out;
        first..((v + 1) * self.lanes).div_ceil(self.group_out).min(self.groups)
    }

    /// Output channels of vector `v`.
    pub fn channels_of(&self, v: usize) -> Range<usize> {
        v * self.lanes..((v + 1) * self.lanes).min(self.groups * self.group_out)
    }

    /// Packed elements of the weights of one vector of output channels.
    pub fn vector_weights(&self) -> usize {
        self.taps * self.group_in * self.lanes
    }

    /// Packed elements of all weights.
    pub fn packed_weights(&self) -> usize {
        self.vector_weights() * self.vectors
    }

    /// Elements of the indices of one vector of output channels.
    pub fn vector_indices(&self) -> usize {
        self.per_vector * self.lanes
    }

    /// Elements of one task's scratch.
    pub fn slot(&self) -> usize {
        self.slab + self.rows + self.sums
    }

    /// Tasks of a run over so many images.
    pub fn all_tasks(&self, batch: usize) -> usize {
        batch * self.vectors * self.axes.iter().map(AxisBlocks::tasks).product::<usize>()
    }

    /// Workers of a run, and the scratch of all of them.
    pub fn workers(&self, request: &Request<'_>) -> (usize, Scratch) {
        let tasks = self.all_tasks(request.geometry.problem().batch());
        Scratch::workers(request.target.threads, tasks, self.slot(), request.dtype)
    }
}
