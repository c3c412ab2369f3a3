//! Tiles that store what they sum: two phases along x, interleaved in registers, channels-first.

use std::array::from_fn;
use std::ops::Range;

use pulp::Simd;

use super::blocking::Blocking;
use super::pack::{Columns, Place};
use super::run::{Ahead, PreparedPixelLanes};
use crate::error::Error;
use crate::machine::parallel::SharedOutput;
use crate::machine::scratch::filled_vec;
use crate::microkernels::phase_tile::{self, Call, Taps};
use crate::microkernels::pixel_tile::Hints;
use crate::microkernels::places::{Next, Places, Rows};
use crate::microkernels::vector::Float;

/// Column blocks whose taps are found once for all tiles of a task.
const KNOWN_BLOCKS: usize = 16;

/// All outputs of the positions of one task.
pub struct Direct<'a, 'o, T> {
    pub plan: &'a PreparedPixelLanes<T>,
    pub place: &'a Place,
    /// Packed input.
    pub slab: &'a [T],
    pub output: SharedOutput<'o, T>,
}

/// A column block, as tiles want it: the same for all groups.
#[derive(Debug, Clone, Copy, Default)]
pub struct Block {
    z_phase: usize,
    y_phase: usize,
    /// Output channels of the group.
    first: usize,
    channels: usize,
    /// Boxes of both phases along x, of the first alone, of the second alone.
    boxes: [Box3; 3],
}

/// A box of taps.
#[derive(Debug, Clone, Copy, Default)]
struct Box3 {
    /// Windows along y and x.
    windows: [usize; 2],
    /// Packed rows, and elements of a row, before what the first window reads.
    row: usize,
    element: usize,
    /// Packed rows and elements to the next window along y and x.
    steps: [usize; 2],
    /// Where its weights begin in the block's panel, and those of one window along z.
    weights: usize,
    plane: usize,
}

impl Block {
    /// All of a group; none where tiles do not store.
    pub fn all(b: &Blocking) -> Result<Vec<Self>, Error> {
        let mut all = filled_vec("column blocks", if b.direct { b.blocks() } else { 0 }, Self::default())?;
        for (number, block) in all.iter_mut().enumerate() {
            *block = Self::new(b, &Columns::new(b, number));
        }
        Ok(all)
    }

    fn new(b: &Blocking, columns: &Columns) -> Self {
        let [az, ay, ax] = &b.axes;
        let mut boxes = [Box3::default(); 3];
        let mut weights = 0;
        for pair in columns.boxes(b) {
            let kind = if pair.x.phases.len() == 2 { 0 } else { 1 + pair.x.phases.start };
            let plane = pair.y.windows * pair.x.windows * b.group_in * pair.count(columns);
            boxes[kind] = Box3 {
                windows: [pair.y.windows, pair.x.windows],
                row: (pair.y.first - ay.reach.start) as usize,
                element: (pair.x.first - ax.reach.start) as usize,
                steps: [pair.y.step, pair.x.step],
                weights,
                plane,
            };
            weights += az.alone[columns.z_phase].windows * plane;
        }
        Self {
            z_phase: columns.z_phase,
            y_phase: columns.y_phases.start,
            first: columns.channels.start,
            channels: columns.channels.len(),
            boxes,
        }
    }
}

/// The planes of a task in one phase along z.
struct Planes {
    /// Of the outputs.
    output: usize,
    /// Windows along z that meet the input; packed rows before those of the first, and to the next.
    windows: Range<usize>,
    row: usize,
    step: usize,
}

impl<T: Float> Direct<'_, '_, T> {
    /// Those of some column blocks.
    #[inline(always)]
    pub fn run<S: Simd>(&self, simd: S, blocks: Range<usize>, ahead: &mut Ahead<T>) {
        let b = &self.plan.blocking;
        let [az, ay, _] = &b.axes;
        let mut places = Places::new(b.lanes, size_of::<T>());
        let vectors = b.vectors_of(self.place.y.len());
        let rows = self.place.y.len() + ay.halo();
        for own in self.plan.blocks[blocks.clone()].chunk_by(|a, b| a.z_phase == b.z_phase) {
            let z_phase = own[0].z_phase;
            let first =
                blocks.start + self.plan.blocks[blocks.clone()].partition_point(|b| b.z_phase < z_phase);
            let Some(output) = az.output_of(self.place.z, z_phase) else { continue };
            let z_run = &az.alone[z_phase];
            let windows = z_run.valid(self.place.z, az.input);
            let plane =
                if windows.is_empty() { 0 } else { (z_run.window(windows.start) - az.reach.start) as usize };
            let planes = Planes { output, windows, row: plane * rows, step: z_run.step * rows };
            let mut known = [[Taps::NONE; 3]; KNOWN_BLOCKS];
            for (i, (taps, block)) in known.iter_mut().zip(own).enumerate() {
                *taps = self.taps(first + i, block, &planes);
            }
            let mut vector = 0;
            while vector < vectors {
                let wide = if vectors - vector > 2 { b.vectors } else { 2 };
                let starts: [usize; phase_tile::MOST_VECTORS] =
                    from_fn(|i| b.vector_at((vector + i).min(vectors - 1)));
                let on = self.elements_before(vector + wide) - self.elements_before(vector);
                let tile = Tile { starts, wide, real: wide.min(vectors - vector), on };
                let mut valid = None;
                let mut phase = usize::MAX;
                for (i, block) in own.iter().enumerate() {
                    // The phases along y lie alike, but where rows are cropped.
                    if phase != block.y_phase {
                        phase = block.y_phase;
                        let rows = self.rows_of(phase);
                        if valid.as_ref() != Some(&rows) {
                            self.place_rows(&tile, &rows, &mut places);
                            valid = Some(rows);
                        }
                    }
                    if !places.is_empty() {
                        let next = own.get(i + 1).unwrap_or(&own[0]);
                        let on = if i + 1 < own.len() { 0 } else { tile.on };
                        let own_taps;
                        let taps = match known.get(i) {
                            Some(known) => known,
                            None => {
                                own_taps = self.taps(first + i, block, &planes);
                                &own_taps
                            }
                        };
                        self.tile(
                            simd,
                            first + i,
                            [block, next],
                            on,
                            planes.output,
                            taps,
                            &tile,
                            &places,
                            ahead,
                        );
                    }
                }
                vector += wide;
            }
        }
    }

    /// Outputs of one row of outputs and channel, or so, before those of a vector: for hints alone.
    fn elements_before(&self, vector: usize) -> usize {
        let b = &self.plan.blocking;
        let at = b.vector_at(vector);
        at / b.pitch * b.axes[1].stride * b.axes[2].output + at % b.pitch * 2
    }

    /// What block number `number` of the group reads.
    fn taps(&self, number: usize, block: &Block, planes: &Planes) -> [Taps<'_, T>; 3] {
        let b = &self.plan.blocking;
        let panel = &self.plan.weights[(self.place.group * b.blocks() + number) * b.panel..][..b.panel];
        let z = &planes.windows;
        from_fn(|kind| {
            let of = &block.boxes[kind];
            Taps {
                start: (planes.row + of.row) * b.pitch + of.element,
                steps: [planes.step * b.pitch, of.steps[0] * b.pitch, of.steps[1]],
                counts: [z.len(), of.windows[0], of.windows[1]],
                weights: &panel[of.weights + z.start * of.plane..of.weights + z.end * of.plane],
            }
        })
    }

    /// The task's rows of positions that have an output in phase `phase`.
    fn rows_of(&self, phase: usize) -> Range<usize> {
        let (y, ay) = (&self.place.y, &self.plan.blocking.axes[1]);
        let has = |r: usize| ay.output_of(y.start + r, phase).is_some();
        let begin = (0..y.len()).find(|&r| has(r)).unwrap_or(y.len());
        let end = (begin..y.len()).rfind(|&r| has(r)).map_or(begin, |r| r + 1);
        begin..end
    }

    /// Where the outputs of a tile go, counted from where output 0 of the row of position 0 would lie.
    #[inline(always)]
    fn place_rows(&self, tile: &Tile, rows: &Range<usize>, places: &mut Places) {
        let b = &self.plan.blocking;
        let [_, ay, ax] = &b.axes;
        let x = &self.place.x;
        places.clear(2 * tile.wide);
        // Outputs of a row of the task, counted from its first position.
        let first = ax.crop.saturating_sub(x.start * 2);
        let end = (2 * x.len()).min(ax.crop + ax.output - 2 * x.start);
        for v in 0..tile.real {
            let begin = tile.starts[v];
            let mut done = 0;
            while done < b.lanes {
                let (row, position) = ((begin + done) / b.pitch, (begin + done) % b.pitch);
                if row >= rows.end {
                    break;
                }
                // Positions up to the end of the row; those between rows have no outputs.
                let len = (b.pitch - position).min(b.lanes - done);
                let from = (2 * position).max(first);
                let to = (2 * (position + len)).min(end);
                if row >= rows.start && from < to {
                    let at = 2 * (v * b.lanes + done) + from - 2 * position;
                    places.push(at, row * ay.stride * ax.output + from - first, to - from);
                }
                if !b.running {
                    break;
                }
                done += len;
            }
        }
    }

    /// One column block of one tile in one output plane, and the block that follows, `on` elements further on.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    fn tile<S: Simd>(
        &self,
        simd: S,
        number: usize,
        [block, next]: [&Block; 2],
        on: usize,
        plane: usize,
        taps: &[Taps<'_, T>; 3],
        tile: &Tile,
        places: &Places,
        ahead: &mut Ahead<T>,
    ) {
        let (g, b) = (&self.plan.geometry, &self.plan.blocking);
        let [_, ay, ax] = &b.axes;
        let bias = &self.plan.bias[(self.place.group * b.blocks() + number) * b.columns()..];
        // SAFETY: the task owns the outputs of its positions in the phases and channels of its blocks; no others are accessed.
        let base = unsafe { self.output.slice_ptr(0, self.output.len()) };
        let out_plane = g.output_plane();
        // Row 0 of the places lies before the output where rows are cropped.
        let begin = (2 * self.place.x.start).saturating_sub(ax.crop);
        let image = g.output_at(self.place.n, self.place.group * b.group_out, [plane, 0, begin]);
        let first_row = self.place.y.start * ay.stride;
        let to = |block: &Block| {
            let rows = image + block.first * out_plane + (first_row + block.y_phase) * ax.output;
            base.wrapping_add(rows).wrapping_sub(ay.crop * ax.output)
        };
        let offsets = from_fn(|c| c * out_plane);
        let next = Next { to: to(next).wrapping_add(on).cast_const(), offsets: &offsets };
        let count: usize = taps.iter().map(|t| t.counts.iter().product::<usize>()).sum();
        let call = Call {
            input: self.slab,
            channel_step: b.channel_step,
            channels: b.group_in,
            taps,
            start: &bias[..2 * block.channels],
            activation: self.plan.epilogue.activation,
            // SAFETY: as above; the rows are channels of the block, one output plane apart.
            rows: unsafe { Rows::new(places, to(block), &offsets, Some(next)) },
            hints: ahead.next(count, Hints::none(self.slab)),
        };
        phase_tile::run(simd, &call, &tile.starts[..tile.wide]);
    }
}

/// The vectors of one tile.
struct Tile {
    /// Where they begin, counted from the task's first position.
    starts: [usize; phase_tile::MOST_VECTORS],
    /// How many the tile takes, and how many of them exist; the others repeat the last.
    wide: usize,
    real: usize,
    /// How far on, or so, the outputs of the next tile lie.
    on: usize,
}
