//! Every size that the kernel chooses: columns, vectors, tasks, and the scratch that follows.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use super::axis::{PositionAxis, Run};
use crate::contract::request::{Declined, Request};
use crate::contract::searched::Searched;
use crate::machine::roofs::Roofs;
use crate::machine::scratch::{Scratch, spread};
use crate::microkernels::phase_tile;
use crate::microkernels::pixel_tile::{MOST_VECTORS, max_columns, widest};
use crate::microkernels::slab::equal_parts;
use crate::problem::problem::Layout;

/// Packed input of one task, at most (bytes), where one row allows it. In the level-2 cache lie also what it was packed from
/// and what the next task packs.
const SLAB_BYTES: usize = 512 << 10;
/// The same where even then a row in five at most is packed twice.
const SMALL_SLAB_BYTES: usize = 200 << 10;
/// Sums of the rows that are stored together, at most (bytes), where one row allows it: beside the inputs and weights of
/// a tile they stay in the level-1 cache.
const SUMS_BYTES: usize = 20 << 10;
/// Lines that the windows of a tile read of the channels of one pass, at most (bytes), where vectors are short: they stay in the
/// level-1 cache from window to window. Long vectors multiply longer with each line.
const PASS_BYTES: usize = 40 << 10;
/// Scratch of one thread, at most (bytes): beyond it the kernel declines.
const SLOT_BYTES: usize = 2 << 20;
/// Vectors of a part of a row that is not cut further to fit [`SLAB_BYTES`].
const NARROW: usize = 16;
/// Parts of a row that are tried.
const PARTS: [usize; 8] = [1, 2, 3, 4, 6, 8, 16, 64];

/// How sums become outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Kept for a chunk of rows, which is stored at once.
    Sums,
    /// Stored by each tile, its vectors running on across the ends of rows.
    Running,
    /// Stored by each tile, every row beginning with a vector of its own.
    Rows,
}

/// The sizes, all fixed when the plan is made.
#[derive(Debug, Clone)]
pub struct Blocking {
    /// Shared by all that are tried.
    pub axes: Arc<[PositionAxis; 3]>,
    pub size: usize,
    pub lanes: usize,
    /// Vectors of the positions that all boxes of a column block go over together: of one tile, or of a few.
    pub vectors: usize,
    /// Vector registers.
    pub registers: usize,
    pub groups: usize,
    pub group_in: usize,
    pub group_out: usize,
    /// Output channels of one column block.
    pub channels: usize,
    /// Phases along y in one column block: all, or one.
    pub y_phases: usize,
    /// Positions of one task along y and x.
    pub rows: usize,
    pub width: usize,
    /// Rows of positions whose sums are stored together.
    pub chunk: usize,
    /// Distance of packed rows, and the zeros at the end of one that the next one shares.
    pub pitch: usize,
    pub shared: usize,
    /// Whether vectors run on across the ends of rows; else each row begins with a vector of its own.
    pub running: bool,
    /// Whether tiles store what they sum, two phases interleaved; else sums are kept, and a chunk of rows is stored at once.
    pub direct: bool,
    /// Elements of a packed input channel, of the packed input, and of the sums.
    pub channel_step: usize,
    pub slab: usize,
    pub sums: usize,
    /// Distance of the columns' sums.
    pub sum_step: usize,
    /// Input channels of one pass over the windows of a tile whose sums are kept.
    pub pass: usize,
    /// Parts into which a task's column blocks are split, to feed all threads.
    pub parts: usize,
    /// Elements of the largest block's packed weights.
    pub panel: usize,
    /// Predicted time of one thread, in vector multiply-adds.
    pub cycles: f64,
}

impl Blocking {
    /// The fastest by the prediction, on a typical machine: some sum in another order than others, and all machines must choose the same.
    pub fn new(request: &Request<'_>) -> Result<Self, Declined> {
        thread_local!(static SEARCHED: Searched<Blocking> = const { Searched::none_yet() });
        // While a thread ends there is no memory.
        let kept = SEARCHED.try_with(|searched| searched.answer(request, || Self::search(request)));
        kept.unwrap_or_else(|_| Self::search(request))
    }

    fn search(request: &Request<'_>) -> Result<Self, Declined> {
        let roofs = Roofs::typical(request.target.isa, request.dtype);
        let mut best: Option<(f64, Self)> = None;
        Self::each(request, |b| {
            let ns = b.work_ns(request, &roofs);
            if best.as_ref().is_none_or(|(least, _)| ns < *least) {
                best = Some((ns, b));
            }
            ControlFlow::Continue(())
        });
        best.map(|(_, best)| best.split(request)).ok_or_else(Self::too_large)
    }

    /// Whether there is one.
    pub fn fits(request: &Request<'_>) -> Result<(), Declined> {
        let mut any = false;
        Self::each(request, |_| {
            any = true;
            ControlFlow::Break(())
        });
        if any { Ok(()) } else { Err(Self::too_large()) }
    }

    fn too_large() -> Declined {
        let reason = format!("one task needs more than the {SLOT_BYTES} bytes of scratch that are allowed");
        Declined::because(reason)
    }

    /// Visits all that have room, before tasks are split, until the visitor has seen enough.
    fn each(request: &Request<'_>, mut visit: impl FnMut(Self) -> ControlFlow<()>) {
        let axes = request.geometry.axes();
        let lanes = request.target.isa.f32_lanes() * 4 / request.dtype.size();
        let z = PositionAxis::new(&axes[0], 0);
        for y_crop in PositionAxis::crops(&axes[1]) {
            let y = PositionAxis::new(&axes[1], y_crop);
            for x_crop in PositionAxis::crops(&axes[2]) {
                let axes = Arc::new([z.clone(), y.clone(), PositionAxis::new(&axes[2], x_crop)]);
                for y_phases in [1, y.stride].into_iter().take(if y.stride > 1 { 2 } else { 1 }) {
                    let mut last = 0;
                    for parts in PARTS {
                        // Small rows have few widths.
                        let width = part_width(axes[2].positions, parts, lanes);
                        if parts > 1 && width == last {
                            continue;
                        }
                        last = if parts > 1 { width } else { 0 };
                        for form in [Form::Sums, Form::Running, Form::Rows] {
                            let found = Self::with(request, &axes, y_phases, parts, form);
                            if found.is_some_and(|b| visit(b).is_break()) {
                                return;
                            }
                        }
                    }
                }
            }
        }
    }

    /// With columns of so many phases along y, and rows in so many parts; `None` where that has no room.
    fn with(
        request: &Request<'_>,
        axes: &Arc<[PositionAxis; 3]>,
        y_phases: usize,
        parts: usize,
        form: Form,
    ) -> Option<Self> {
        let p = request.geometry.problem();
        let size = request.dtype.size();
        let registers = request.target.isa.registers();
        let lanes = request.target.isa.f32_lanes() * 4 / size;
        let [z, y, x] = &**axes;
        let direct = form != Form::Sums;
        let together = p.layout() == Layout::Nhwc && p.out_channels() > 1;
        if direct && (x.stride != 2 || y_phases > 1 || together) {
            return None;
        }
        let most = if direct { 2 * phase_tile::MOST_CHANNELS } else { max_columns(registers) };
        let phases = x.stride * y_phases;
        if phases > most || (y_phases > 1 && phases * p.group_out() > most) {
            return None;
        }
        let channels = equal_parts(p.group_out(), most / phases);
        let columns = channels * phases;
        let vectors = match direct {
            true => phase_tile::vectors(registers),
            // Whole tiles, also in the boxes that fewer columns read.
            false if registers >= 32 => widest(registers, columns),
            false if matches!(columns, 3 | 5..) => 4,
            false => MOST_VECTORS,
        };

        let whole = parts == 1;
        let width = part_width(x.positions, parts, lanes);
        // Zeros to the right of a row are those to the left of the next.
        let right = (width as i64 - 1 + x.reach.end - x.input as i64).max(0);
        let shared = if whole { right.min(-x.reach.start).max(0) as usize } else { 0 };
        let pitch = width + x.halo() - shared;
        let planes = z.halo() + 1;
        let rows_up_to = |most: usize| equal_parts(y.positions, most);
        let channel_step = |rows: usize| spread(planes * (rows + y.halo()) * pitch + shared, size);
        let slab = |rows: usize| channel_step(rows) * p.group_in() + 2 * lanes;
        if planes as u128 * y.halo() as u128 * pitch as u128 * p.group_in() as u128 > SLOT_BYTES as u128 {
            return None;
        }
        let rows_within = |bytes: usize| {
            let mut rows = y.positions;
            while rows > 1 && slab(rows) * size > bytes {
                rows = rows_up_to((rows * bytes / (slab(rows) * size)).clamp(1, rows - 1));
            }
            rows
        };
        let mut rows = rows_within(SMALL_SLAB_BYTES);
        if rows < 4 * y.halo().max(1) {
            rows = rows_within(SLAB_BYTES);
        }
        let last = parts == PARTS[PARTS.len() - 1];
        if !last && rows == 1 && slab(1) * size > SLAB_BYTES && width > (NARROW * lanes).max(2 * x.halo()) {
            // A smaller part of the row comes nearer to it.
            return None;
        }
        let running = whole && pitch < width.next_multiple_of(lanes);
        if form == Form::Running && !running {
            return None;
        }
        let running = running && form != Form::Rows;
        let line = 64 / size;
        let mut blocking = Self {
            size,
            lanes,
            vectors,
            registers,
            groups: p.groups(),
            group_in: p.group_in(),
            group_out: p.group_out(),
            channels,
            y_phases,
            rows,
            width,
            chunk: 1,
            pitch,
            shared,
            running,
            direct,
            channel_step: channel_step(rows),
            slab: slab(rows).next_multiple_of(line),
            sums: 0,
            sum_step: 0,
            pass: p.group_in(),
            parts: 1,
            panel: 0,
            cycles: 0.0,
            axes: Arc::clone(axes),
        };
        blocking.panel = blocking.largest_panel();
        if direct {
            blocking.chunk = rows;
            blocking.cycles = blocking.predict() * p.batch() as f64;
            return (blocking.slot() * size <= SLOT_BYTES).then_some(blocking);
        }
        if lanes * size < 64 {
            let rows = (z.halo() + 1) * (y.halo() + 1);
            blocking.pass = equal_parts(p.group_in(), PASS_BYTES / (rows * blocking.tile_lines() * 64));
        }
        // The rows that fill their tiles best.
        let mut least = blocking.tiles(1);
        for chunk in 2..=rows {
            let vectors = blocking.vectors_of(chunk);
            if columns * blocking.step_for(vectors) * size > SUMS_BYTES {
                break;
            }
            let now = blocking.tiles_of(vectors) / chunk as f64;
            if now <= least {
                (blocking.chunk, least) = (chunk, now);
            }
        }
        blocking.sum_step = blocking.step_for(blocking.vectors_of(blocking.chunk));
        blocking.sums = (columns * blocking.sum_step).next_multiple_of(line);
        blocking.cycles = blocking.predict() * p.batch() as f64;
        (blocking.slot() * size <= SLOT_BYTES).then_some(blocking)
    }

    /// Smaller tasks, and parts of them, until all threads have some.
    fn split(mut self, request: &Request<'_>) -> Self {
        let threads = request.target.threads;
        let others = request.geometry.problem().batch() * self.groups;
        let tasks = |b: &Self| others * b.tasks().iter().product::<usize>();
        if threads > 1 {
            let wanted = 4 * threads;
            let missing = wanted.div_ceil(tasks(&self).max(1));
            self.rows = self.rows.min(equal_parts(self.axes[1].positions, self.rows.div_ceil(missing)));
            self.chunk = self.chunk.min(self.rows);
            self.parts = wanted.div_ceil(tasks(&self).max(1)).clamp(1, self.blocks());
        }
        self
    }

    /// Tasks along z, y and x.
    pub fn tasks(&self) -> [usize; 3] {
        let [z, y, x] = &*self.axes;
        [z.positions, y.positions.div_ceil(self.rows), x.positions.div_ceil(self.width)]
    }

    /// Vectors of so many rows of positions.
    pub fn vectors_of(&self, rows: usize) -> usize {
        if self.running {
            ((rows - 1) * self.pitch + self.width).div_ceil(self.lanes)
        } else {
            rows * self.row_vectors()
        }
    }

    /// Whether a step of a tile takes all windows along x.
    pub fn inside(&self) -> bool {
        self.direct && phase_tile::windows_inside(self.axes[2].windows_by_phases())
    }

    /// Vectors of one row of positions that begins with a vector of its own.
    pub fn row_vectors(&self) -> usize {
        self.width.div_ceil(self.lanes)
    }

    /// Tiles of so many rows of positions, in parts of the widest: a tile of two vectors is the narrowest, where tiles do not store.
    pub fn tiles(&self, rows: usize) -> f64 {
        self.tiles_of(self.vectors_of(rows))
    }

    /// The same of so many vectors.
    fn tiles_of(&self, vectors: usize) -> f64 {
        if self.direct {
            return vectors.div_ceil(self.vectors) as f64;
        }
        (vectors / self.vectors) as f64
            + (vectors % self.vectors).div_ceil(2) as f64 * 2.0 / self.vectors as f64
    }

    /// Where a vector of a chunk begins, counted from its first packed element.
    pub fn vector_at(&self, vector: usize) -> usize {
        if self.running {
            return vector * self.lanes;
        }
        let of_row = self.row_vectors();
        vector / of_row * self.pitch + vector % of_row * self.lanes
    }

    /// Distance of the sums of successive rows.
    pub fn sum_pitch(&self) -> usize {
        if self.running { self.pitch } else { self.width.next_multiple_of(self.lanes) }
    }

    /// Cache lines that a tile reads of a row of one channel, begun anywhere.
    pub fn tile_lines(&self) -> usize {
        self.vectors * self.lanes * self.size / 64 + 1
    }

    /// Distance of the columns' sums, for a chunk of so many vectors: whole tiles.
    fn step_for(&self, vectors: usize) -> usize {
        spread(vectors.next_multiple_of(self.vectors) * self.lanes, self.size)
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

    /// The windows along y of the block with the phases `phases`.
    pub fn y_runs(&self, phases: &Range<usize>) -> &[Run] {
        let y = &self.axes[1];
        if self.y_phases == y.stride { &y.together } else { &y.alone[phases.clone()] }
    }

    /// See [`Blocking::panel`].
    fn largest_panel(&self) -> usize {
        let [z, _, x] = &*self.axes;
        let served = |runs: &[Run]| runs.iter().map(|r| r.windows * r.phases.len()).sum::<usize>();
        let along_z = z.alone.iter().map(|r| r.windows).max().unwrap_or(0);
        let along_y = (0..self.y_blocks())
            .map(|i| served(self.y_runs(&(i * self.y_phases..(i + 1) * self.y_phases))))
            .max()
            .unwrap_or(0);
        along_z * along_y * served(&x.together) * self.group_in * self.channels
    }

    /// Packed elements of all groups.
    pub fn packed_weights(&self) -> usize {
        self.groups * self.blocks() * self.panel
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

    /// The tile's name: `"avx512-12x32"` is 12 columns × 32 pixels.
    pub fn name(&self, request: &Request<'_>) -> String {
        let form = if self.direct { "-stored" } else { "" };
        format!("{}-{}x{}{form}", request.target.isa.name(), self.columns(), self.vectors * self.lanes)
    }
}

/// Positions of a row in so many parts; of several, whole vectors.
fn part_width(positions: usize, parts: usize, lanes: usize) -> usize {
    let width = positions.div_ceil(parts);
    if parts == 1 { width } else { width.next_multiple_of(lanes) }
}
