//! What a run costs, in vector multiply-adds: by this the sizes are chosen, and the kernel.

use super::blocking::Blocking;
use crate::contract::request::Request;
use crate::machine::roofs::Roofs;
use crate::microkernels::pixel_tile::piece;
use crate::problem::problem::Layout;

/// Loads, stores and jumps of a tile beside its multiply-adds: of each vector of sums, and of the tile.
const PER_SUM: f64 = 2.0;
const PER_TILE: f64 = 25.0;
/// The same of a tile that stores what it sums: of each output vector, of the tile (twice where vectors are shorter than 64
/// bytes, two of which are multiplied in a cycle), and of each end of a row that falls inside.
const PER_OUTPUT: f64 = 3.0;
const PER_STORED_TILE: f64 = 80.0;
const PER_END: f64 = 25.0;
/// A cache line from level 2, and how many of the inputs level 1 holds: where vectors are short, and a tile has more steps, it holds more
/// weights beside them.
const PER_LINE: f64 = 1.3;
const LEVEL_1_LINES: f64 = 512.0;
const LEVEL_1_LINES_SHORT: f64 = 384.0;
/// Packing: of each vector, and of each row.
const PER_PACKED: f64 = 5.0;
const PER_ROW: f64 = 20.0;

impl Blocking {
    /// Predicted time of all images on one thread, before what memory adds.
    ///
    /// Fitted to a timing of the zoo, as for the kernel with channels in the lanes: kept sums are stored by rows.
    pub fn work_ns(&self, request: &Request<'_>, roofs: &Roofs) -> f64 {
        let g = request.geometry;
        let (per_output, per_row) = match g.problem().layout() {
            _ if self.direct => (0.7, 0.0),
            Layout::Nchw => (2.4, 20.0),
            Layout::Nhwc => (5.0, 20.0),
        };
        // By long vectors, in one loop over all windows, much of what surrounds the products hides behind them.
        let one_loop = self.inside() && self.lanes * self.size >= 64;
        let share = if one_loop { 1.25 } else { 1.05 };
        roofs.compute_ns(self.cycles as u128 * self.lanes as u128, share)
            + per_output / self.lanes as f64 * g.output_len() as f64
            + per_row * (g.output_len() / g.output()[2]) as f64
    }

    /// Predicted time for one image.
    pub fn predict(&self) -> f64 {
        let [z, y, x] = &*self.axes;
        let [_, tasks_y, tasks_x] = self.tasks();
        let chunks = self.rows as f64 / self.chunk as f64 * (tasks_y * tasks_x) as f64;
        let tiles = chunks * self.tiles(self.chunk);
        let z_windows: usize = z.alone.iter().map(|r| r.windows).sum();
        let mut of_tile = if self.direct { self.storing() } else { 0.0 };
        for block in 0..self.y_blocks() {
            let runs = self.y_runs(&(block * self.y_phases..(block + 1) * self.y_phases));
            let rows_read = |along_y: usize| (z.halo() + 1) * along_y;
            let mut before = rows_read(runs.iter().map(|r| r.windows).sum());
            // Of several passes, each begins with what the last tile read long ago.
            let mut first = self.pass < self.group_in;
            for along_y in runs {
                for (i, along_x) in x.together.iter().enumerate() {
                    let phases = along_y.phases.len() * along_x.phases.len();
                    let taps = z_windows * along_y.windows * along_x.windows;
                    let rows = rows_read(along_y.windows);
                    // One step reads all windows, where they are inside; they share their lines.
                    let again = i > 0 && self.inside();
                    let reading =
                        if again { 0.0 } else { self.reading(rows, before, along_x.windows, first) };
                    (before, first) = (rows, false);
                    let full = self.group_out / self.channels;
                    let rest = self.group_out % self.channels;
                    of_tile += full as f64 * (reading + self.tile(taps, phases * self.channels));
                    if rest > 0 {
                        of_tile += reading + self.tile(taps, phases * rest);
                    }
                }
                before = rows_read(runs.iter().map(|r| r.windows).sum());
            }
        }
        let rows = (z.halo() + 1) * (self.rows + y.halo());
        let packed = (z.positions * tasks_y * tasks_x * self.group_in * rows) as f64;
        let pack = packed * (PER_ROW + PER_PACKED * (self.pitch as f64 / self.lanes as f64).ceil());
        self.groups as f64 * (tiles * z.positions as f64 * of_tile + pack)
    }

    /// Inputs of a box that the level-1 cache does not hold: `rows` of each channel, all of them at `first`, else where `since` rows
    /// were read since they were, and again for each further window along x where they are too many.
    fn reading(&self, rows: usize, since: usize, windows: usize, first: bool) -> f64 {
        let passes = self.group_in.div_ceil(self.pass) as f64;
        let lines = (self.pass * self.tile_lines()) as f64;
        let held = if self.lanes * self.size < 64 { LEVEL_1_LINES_SHORT } else { LEVEL_1_LINES };
        let missed = |rows: f64| (1.0 - held / (rows * lines)).max(0.0);
        let again = (windows as f64 - 1.0) * missed(1.0);
        // The steps of the widest tiles are long enough to hide some.
        let seen = if self.direct && self.lanes * self.size >= 64 { 0.4 } else { 1.0 };
        let before = if first { 1.0 } else { missed(since as f64) };
        passes * seen * PER_LINE * rows as f64 * lines * (before + again)
    }

    /// The tiles of one box over so many taps.
    fn tile(&self, taps: usize, columns: usize) -> f64 {
        let (mut step, mut left) = (0.0, self.vectors);
        while left > 0 {
            let vectors = if self.direct { left } else { piece(self.registers, columns, left) };
            step += self.step(columns as f64, vectors as f64);
            left -= vectors;
        }
        let own = if self.direct { 0.0 } else { PER_SUM * (columns * self.vectors) as f64 + PER_TILE };
        (taps * self.group_in) as f64 * step + self.group_in.div_ceil(self.pass) as f64 * own
    }

    /// One step of a tile: bound by multiply-adds, by loads (the inputs' cross cache lines), or by latency.
    fn step(&self, columns: f64, vectors: f64) -> f64 {
        let (loads, latency) = if self.lanes * self.size < 64 {
            // Two multiply-adds or two loads in a cycle; every other vector of inputs crosses.
            (1.5 * vectors + columns + 1.0, 8.0)
        } else {
            (2.0 * vectors + 0.5 * columns, 4.0)
        };
        let products = columns * vectors;
        if !self.direct {
            return products.max(loads).max(latency);
        }
        // Where all windows are one step, others fill the time; else each has a loop of its own, and five instructions start in a
        // cycle.
        let inside = self.inside();
        let own = if inside { 0.0 } else { latency };
        let instructions = if self.lanes * self.size < 64 {
            0.4 * (products + vectors + columns + if inside { 6.0 } else { 14.0 })
        } else {
            0.0
        };
        products.max(loads).max(own).max(instructions)
    }

    /// What tiles over the same positions cost beside their taps where they store: all blocks of a group.
    fn storing(&self) -> f64 {
        let [z, y, _] = &*self.axes;
        let phases = (z.stride * y.stride) as f64;
        let vectors = (self.vectors * self.lanes) as f64;
        let ends = if self.running {
            vectors / self.pitch as f64
        } else {
            self.vectors as f64 / self.row_vectors() as f64
        };
        let broken = self.running || !self.width.is_multiple_of(self.lanes);
        let of_channel = 2.0 * PER_OUTPUT * self.vectors as f64 + if broken { PER_END * ends } else { 0.0 };
        let of_tile = if self.lanes * self.size < 64 { 2.0 * PER_STORED_TILE } else { PER_STORED_TILE };
        phases * (self.group_out as f64 * of_channel + self.channel_blocks() as f64 * of_tile)
    }
}
