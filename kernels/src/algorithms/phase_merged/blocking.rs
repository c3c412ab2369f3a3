//! Every size that the kernel chooses: panels, tasks, passes, and the scratch that follows.

use std::ops::Range;

use super::columns::{Columns, Held};
use crate::contract::request::Request;
use crate::machine::scratch::{Scratch, spread};
use crate::microkernels::slab::{AxisBlocks, equal_parts};
use crate::microkernels::tile::max_pixels;
use crate::problem::geometry::Phase;

/// Packed input of one task, at most (bytes): it shares the level-2 cache with the weights of one panel.
const SLAB_BYTES: usize = 384 << 10;
/// The same where weights are so many (bytes) that each task has to fetch them from far away: fewer tasks are worth more.
const SLAB_BYTES_BESIDE_HEAVY: usize = 768 << 10;
/// From so many on they are heavy: more than a level-2 cache holds.
const HEAVY_BYTES: usize = 8 << 20;
/// Sums of one chunk of output rows, at most (bytes): it stays in the level-1 cache.
const SUMS_BYTES: usize = 24 << 10;
/// Weights of one pass, and of the panels and phases that take turns, at most (bytes): they stay in the level-2 cache.
const PASS_BYTES: usize = 256 << 10;
const CACHE_LINE: usize = 64;
/// Vectors of a panel.
const VECTORS: usize = 2;

/// The sizes, all fixed when the plan is made.
#[derive(Debug, Clone)]
pub struct Blocking {
    pub columns: Columns,
    /// The positions along x: all phases of a position read the same inputs.
    pub x: Phase,
    /// Pixels of the widest tile.
    pub pixels: usize,
    /// Input channels of one group, and groups.
    pub group_in: usize,
    pub groups: usize,
    /// Positions of one task along z, y, x (see [`AxisBlocks`]).
    pub axes: [AxisBlocks; 3],
    /// Parts into which a task's panels are split, to feed all threads.
    pub parts: usize,
    /// Output rows of one chunk: more than one where there are several passes.
    pub rows: usize,
    /// Panels and phases along y that take turns, so that neighbouring outputs are stored soon after each other.
    pub turns: [usize; 2],
    /// Input channels of one pass over the taps.
    pub pass: usize,
    /// Distance of the packed rows of one channel after another.
    pub pitch: usize,
    /// Elements of the packed input and of the sums, for one task.
    pub slab: usize,
    pub sums: usize,
}

/// What the inner loops ask of a panel: looked up, since divisions for every row would show.
#[derive(Debug, Clone, Default)]
pub struct Panel {
    pub first_vector: usize,
    pub vectors: usize,
    /// Taps along x of its outputs.
    pub taps: usize,
    /// Positions that own an output of the row, for any vector.
    pub positions: Range<usize>,
    /// What each vector holds.
    pub held: [Held; VECTORS],
    /// Positions whose outputs lie inside the row, all of them, for each vector.
    pub whole: [Range<usize>; VECTORS],
}

impl Blocking {
    pub fn new(request: &Request<'_>) -> Self {
        let (g, p) = (request.geometry, request.geometry.problem());
        let size = request.dtype.size();
        let lanes = request.target.isa.f32_lanes() * 4 / size;
        let columns = Columns::new(g, lanes);
        let along_x = &g.axes()[2].axis;
        let x = Phase {
            first_output: 0,
            outputs: columns.all_positions(),
            first_tap: 0,
            taps: along_x.kernel.div_ceil(along_x.stride),
            tap_step: along_x.stride,
            base: 0,
            input_step: 1,
            input: along_x.input,
        };
        let [z, y, _] = g.axes();
        let mut axes = [&z.phases[..], &y.phases[..], &[x]].map(AxisBlocks::new);
        let pixels = max_pixels(request.target.isa.registers());
        let panel = VECTORS.min(columns.vectors()) * lanes;

        // Along x: as many positions as the sums of one row allow, and the packed input of one.
        let inputs = g.input();
        let slab = |axes: &[AxisBlocks; 3]| {
            axes[0].span(axes[0].step, Some(inputs[0]))
                * axes[1].span(axes[1].step, Some(inputs[1]))
                * spread(axes[2].span(axes[2].step, None), size)
                * p.group_in()
        };
        let taps: usize = axes[..2].iter().map(AxisBlocks::taps).product::<usize>() * x.taps;
        let weights = columns.vectors() * lanes * p.group_in() * taps * size;
        let slab_bytes = if weights < HEAVY_BYTES { SLAB_BYTES } else { SLAB_BYTES_BESIDE_HEAVY };
        let most = SUMS_BYTES / (panel * size);
        axes[2].step = equal_parts(axes[2].positions, most.max(pixels));
        for a in [0, 1, 2] {
            let least = if a == 2 { 4 * pixels } else { 1 };
            while slab(&axes) * size > slab_bytes && axes[a].step > least {
                axes[a].step = equal_parts(axes[a].positions, axes[a].step.div_ceil(2));
            }
        }
        let tasks = p.batch() * p.groups() * axes.iter().map(AxisBlocks::tasks).product::<usize>();
        let panels = columns.panels();
        let wanted = if request.target.threads > 1 { 4 * request.target.threads } else { 1 };
        let parts = wanted.div_ceil(tasks.max(1)).clamp(1, panels);

        let row = axes[2].step * panel;
        let most_taps = |phases: &[Phase]| phases.iter().map(|p| p.taps).max().unwrap_or(0);
        let depth = most_taps(&z.phases) * most_taps(&y.phases) * x.taps;
        let pass = (PASS_BYTES / (depth.max(1) * panel * size)).max(16);
        let pass = equal_parts(p.group_in(), pass);
        let rows = if pass == p.group_in() { 1 } else { SUMS_BYTES / (row * size) };
        let rows = rows.clamp(1, (axes[0].step * axes[1].step).max(1));
        let held = PASS_BYTES / (depth.max(1) * panel * p.group_in() * size);
        let panels_together = held.clamp(1, columns.parts());
        let turns = [panels_together, (held / panels_together).clamp(1, y.phases.len())];
        let whole_lines = |elements: usize| elements.next_multiple_of(CACHE_LINE / size);
        Self {
            columns,
            x,
            pixels,
            group_in: p.group_in(),
            groups: p.groups(),
            parts,
            rows,
            turns,
            pass,
            pitch: spread(axes[2].span(axes[2].step, None), size),
            slab: whole_lines(slab(&axes) + lanes),
            sums: whole_lines(rows * row),
            axes,
        }
    }

    /// Number of panels.
    pub fn panels(&self) -> usize {
        self.columns.panels()
    }

    /// Panel `i`.
    pub fn panel(&self, i: usize) -> Panel {
        let c = &self.columns;
        let (first, vectors) = (c.panel(i).start, c.panel(i).len());
        let mut panel = Panel { first_vector: first, vectors, ..Panel::default() };
        panel.taps = self.x.taps - usize::from(c.held(first).offset >= c.long);
        for v in 0..panel.vectors {
            let (all, own) = (&mut panel.positions, c.positions(first + v)); // never empty but for outputs cropped away
            *all = if v == 0 { own } else { all.start.min(own.start)..all.end.max(own.end) };
            panel.held[v] = c.held(first + v);
            panel.whole[v] = c.whole_positions(first + v);
        }
        panel
    }

    /// Packed columns of one group: whole vectors.
    pub fn padded_columns(&self) -> usize {
        self.columns.vectors() * self.columns.lanes
    }

    /// Taps of all phases along z and y, with those of one position along x.
    pub fn taps(&self) -> usize {
        self.axes.iter().map(AxisBlocks::taps).product()
    }

    /// Packed elements of one group: every panel with all its taps.
    pub fn group_weights(&self) -> usize {
        self.padded_columns() * self.group_in * self.taps()
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
        batch * self.groups * self.axes.iter().map(AxisBlocks::tasks).product::<usize>() * self.parts
    }

    /// Workers of a run, and the scratch of all of them.
    pub fn workers(&self, request: &Request<'_>) -> (usize, Scratch) {
        let tasks = self.all_tasks(request.geometry.problem().batch());
        Scratch::workers(request.target.threads, tasks, self.slot(), request.dtype)
    }

    /// Multiply-adds done: taps along z and y are exact; along x every position that a panel needs has all taps of the panel, and
    /// columns fill whole vectors.
    pub fn multiply_adds(&self, request: &Request<'_>) -> u128 {
        let axes = request.geometry.axes();
        let rows =
            axes[0].landing_pairs() * axes[1].landing_pairs() * request.geometry.problem().batch() as u128;
        let panels = (0..self.panels()).map(|i| self.panel(i));
        let along_x = panels.map(|p| p.positions.len() * p.vectors * p.taps).sum::<usize>();
        rows * (along_x * self.columns.lanes) as u128 * (self.group_in * self.groups) as u128
    }

    /// Tiles of a run: for every output row and panel, once for each pass.
    pub fn tiles(&self, request: &Request<'_>) -> usize {
        let axes = request.geometry.axes();
        let rows = request.geometry.problem().batch() * self.groups * axes[0].output * axes[1].output;
        let along_x = self.axes[2].tasks() * self.axes[2].step.div_ceil(self.pixels);
        rows * along_x * self.panels() * self.group_in.div_ceil(self.pass)
    }

    /// The tile's name: `"avx512-14x32"` is 14 pixels × 32 columns.
    pub fn name(&self, request: &Request<'_>) -> String {
        let width = self.panel(0).vectors * self.columns.lanes;
        format!("{}-{}x{}", request.target.isa.name(), self.pixels, width)
    }
}
