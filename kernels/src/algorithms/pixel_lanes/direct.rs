//! Tiles that store what they sum: two phases along x, interleaved in registers, channels-first.

use std::array::from_fn;
use std::cmp::Reverse;
use std::ops::Range;

use pulp::Simd;

use super::ahead::Ahead;
use super::blocking::Blocking;
use super::pack::{Columns, Place};
use super::run::PreparedPixelLanes;
use crate::error::Error;
use crate::machine::parallel::SharedOutput;
use crate::machine::scratch::filled_vec;
use crate::microkernels::phase_tile::{self, Call, Reads};
use crate::microkernels::pixel_tile::Hints;
use crate::microkernels::places::Places;
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
    /// Its number within the group.
    number: usize,
    z_phase: usize,
    y_phase: usize,
    /// Output channels of the group.
    first: usize,
    channels: usize,
    /// Taps along y, and windows along x: of the first phase alone, of both, of the second alone.
    taps: usize,
    windows: [usize; 3],
    /// Packed rows before what the first tap reads, and to the next.
    row: usize,
    step: usize,
    /// Weights of one window along z.
    plane: usize,
}

impl Block {
    /// All of a group, those with equally many channels together; none where tiles do not store.
    pub fn all(b: &Blocking) -> Result<Vec<Self>, Error> {
        let mut all = filled_vec("column blocks", if b.direct { b.blocks() } else { 0 }, Self::default())?;
        for (number, block) in all.iter_mut().enumerate() {
            *block = Self::new(b, number);
        }
        all.sort_by_key(|block| (block.z_phase, Reverse(block.channels)));
        Ok(all)
    }

    fn new(b: &Blocking, number: usize) -> Self {
        let columns = Columns::new(b, number);
        let [_, ay, ax] = &*b.axes;
        let y = &ay.alone[columns.y_phases.start];
        let windows = ax.windows_by_phases();
        let [first, both, second] = windows;
        Self {
            number,
            z_phase: columns.z_phase,
            y_phase: columns.y_phases.start,
            first: columns.channels.start,
            channels: columns.channels.len(),
            taps: y.windows,
            windows,
            row: if y.windows == 0 { 0 } else { (y.first - ay.reach.start) as usize },
            step: y.step,
            plane: y.windows * (first + 2 * both + second) * b.group_in * columns.channels.len(),
        }
    }
}

/// Where a vector of positions begins: the same in all tasks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Vector {
    /// Packed elements before it, from the task's first position on.
    start: usize,
    /// The row of positions, and the position in it.
    row: usize,
    position: usize,
}

impl Vector {
    /// All of the largest task; none where tiles do not store.
    pub fn all(b: &Blocking) -> Result<Vec<Self>, Error> {
        let count = if b.direct { b.vectors_of(b.rows) } else { 0 };
        let mut all = filled_vec("vectors of positions", count, Self::default())?;
        for (number, vector) in all.iter_mut().enumerate() {
            let start = b.vector_at(number);
            *vector = Self { start, row: start / b.pitch, position: start % b.pitch };
        }
        Ok(all)
    }
}

/// The planes of a task in one phase along z.
struct Planes<T> {
    /// Where output 0 of row 0 of the task lies, or would where rows are cropped, in channel 0 of the group.
    to: *mut T,
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
        let mut placed = Placed { places: Places::new(b.lanes, size_of::<T>()), like: None };
        let vectors = b.vectors_of(self.place.y.len());
        for own in self.plan.blocks[blocks].chunk_by(|a, b| a.z_phase == b.z_phase) {
            let Some(planes) = self.planes(own[0].z_phase) else { continue };
            for some in own.chunks(KNOWN_BLOCKS) {
                let mut columns = [self.columns(&some[0], &planes); KNOWN_BLOCKS];
                let mut rows = [const { 0..0 }; KNOWN_BLOCKS];
                for ((columns, rows), block) in columns.iter_mut().zip(&mut rows).zip(some) {
                    (*columns, *rows) = (self.columns(block, &planes), self.rows_of(block.y_phase));
                }
                let ready = Ready { columns: &columns[..some.len()], rows: &rows[..some.len()] };
                placed.like = None;
                let mut vector = 0;
                while vector < vectors {
                    let tile = Tile {
                        number: vector,
                        vectors: from_fn(|i| self.plan.vectors[(vector + i).min(vectors - 1)]),
                        real: b.vectors.min(vectors - vector),
                    };
                    vector += b.vectors;
                    let next = &self.plan.vectors[vector.min(vectors - 1)];
                    self.tiles(simd, &ready, &tile, next, &mut placed, ahead);
                }
            }
        }
    }

    /// The tiles of some column blocks over the same vectors; those from vector `next` on follow.
    #[inline(always)]
    fn tiles<S: Simd>(
        &self,
        simd: S,
        ready: &Ready<'_, T>,
        tile: &Tile,
        next: &Vector,
        placed: &mut Placed,
        ahead: &mut Ahead<T>,
    ) {
        let out_plane = self.plan.geometry.output_plane();
        let offsets = from_fn(|c| c * out_plane);
        let starts = tile.vectors.map(|v| v.start);
        let on = self.elements_before(next).wrapping_sub(self.elements_before(&tile.vectors[0]));
        let mut left = 0..ready.columns.len();
        while !left.is_empty() {
            // Those of equally many channels. The phases along y lie alike, but where rows are cropped.
            let rows = &ready.rows[left.start];
            let count = ready.columns[left.start].channels();
            let same = |&i: &usize| ready.columns[i].channels() == count && ready.rows[i] == *rows;
            let own = left.start..left.start + left.clone().take_while(same).count();
            left.start = own.end;
            let shift = self.place(tile, rows, placed);
            let places = &placed.places;
            if places.is_empty() {
                continue;
            }
            let next = match ready.columns.get(own.end) {
                Some(next) => next.to(),
                None => ready.columns[0].to().wrapping_add(on),
            };
            let columns = &ready.columns[own];
            let loops = columns.iter().map(|c| c.loops()).sum();
            let call = Call {
                columns,
                activation: self.plan.epilogue.activation,
                places,
                on: shift,
                offsets: &offsets,
                next: next.wrapping_add(shift),
                hints: ahead.next(loops, Hints::none(self.slab)),
            };
            phase_tile::run(simd, &call, &starts[..self.plan.blocking.vectors]);
        }
    }

    /// Outputs of one row of outputs and channel, or so, before those of a vector: for hints alone.
    fn elements_before(&self, vector: &Vector) -> usize {
        let [_, ay, ax] = &*self.plan.blocking.axes;
        vector.row * ay.stride * ax.output + vector.position * 2
    }

    /// None where the task has no outputs in that phase along z.
    fn planes(&self, z_phase: usize) -> Option<Planes<T>> {
        let (g, b, place) = (&self.plan.geometry, &self.plan.blocking, self.place);
        let [az, ay, ax] = &*b.axes;
        let output = az.output_of(place.z, z_phase)?;
        let rows = place.y.len() + ay.halo();
        let z_run = &az.alone[z_phase];
        let windows = z_run.valid(place.z, az.input);
        let plane =
            if windows.is_empty() { 0 } else { (z_run.window(windows.start) - az.reach.start) as usize };
        let begin = (2 * place.x.start).saturating_sub(ax.crop);
        let image = g.output_at(place.n, place.group * b.group_out, [output, 0, begin]);
        // SAFETY: the task owns the outputs of its positions in the phases and channels of its blocks; no others are accessed.
        let base = unsafe { self.output.slice_ptr(0, self.output.len()) };
        let to = base.wrapping_add(image + place.y.start * ay.stride * ax.output);
        let to = to.wrapping_sub(ay.crop * ax.output);
        Some(Planes { to, windows, row: plane * rows, step: z_run.step * rows })
    }

    /// A block, as its tiles want it.
    fn columns(&self, block: &Block, planes: &Planes<T>) -> phase_tile::Columns<'_, T> {
        let b = &self.plan.blocking;
        let number = self.place.group * b.blocks() + block.number;
        let panel = &self.plan.weights[number * b.panel..][..b.panel];
        let z = &planes.windows;
        let reads = Reads {
            input: self.slab,
            channel_step: b.channel_step,
            channels: b.group_in,
            start: (planes.row + block.row) * b.pitch,
            taps: [z.len(), block.taps],
            steps: [planes.step * b.pitch, block.step * b.pitch],
            windows: block.windows,
            weights: &panel[z.start * block.plane..z.end * block.plane],
            bias: &self.plan.bias[number * b.columns()..][..2 * block.channels],
        };
        let rows = block.first * self.plan.geometry.output_plane() + block.y_phase * b.axes[2].output;
        // SAFETY: the task owns the outputs of its positions in the phases and channels of its blocks, and the places are
        // among them; the channels of a block are one output plane apart.
        unsafe { phase_tile::Columns::new(reads, planes.to.wrapping_add(rows)) }
    }

    /// The task's rows of positions that have an output in phase `phase`.
    fn rows_of(&self, phase: usize) -> Range<usize> {
        let (y, ay) = (&self.place.y, &self.plan.blocking.axes[1]);
        let has = |r: usize| ay.output_of(y.start + r, phase).is_some();
        let begin = (0..y.len()).find(|&r| has(r)).unwrap_or(y.len());
        let end = (begin..y.len()).rfind(|&r| has(r)).map_or(begin, |r| r + 1);
        begin..end
    }

    /// Where the outputs of a tile go, counted from where output 0 of the row of position 0 would lie, and how much further on than
    /// placed: most tiles lie like the one before, some rows on.
    #[inline(always)]
    fn place(&self, tile: &Tile, rows: &Range<usize>, placed: &mut Placed) -> usize {
        let b = &self.plan.blocking;
        let [_, ay, ax] = &*b.axes;
        if let Some((like, valid)) = &placed.like {
            let inside = |tile: &Tile, rows: &Range<usize>| {
                rows.start <= tile.vectors[0].row && tile.vectors[tile.real - 1].row < rows.end
            };
            let whole = !b.running && inside(tile, rows) && inside(like, valid);
            let on = tile.vectors[0].row - like.vectors[0].row;
            let whole_rows = tile.number - like.number == on * b.row_vectors();
            if whole_rows && like.real == tile.real && (whole || on == 0 && valid == rows) {
                return on * ay.stride * ax.output;
            }
        }
        self.place_rows(tile, rows, &mut placed.places);
        placed.like = Some((*tile, rows.clone()));
        0
    }

    /// The same, from the start.
    #[inline(always)]
    fn place_rows(&self, tile: &Tile, rows: &Range<usize>, places: &mut Places) {
        let b = &self.plan.blocking;
        let [_, ay, ax] = &*b.axes;
        let x = &self.place.x;
        places.clear(2 * b.vectors);
        // Outputs of a row of the task, counted from its first position.
        let first = ax.crop.saturating_sub(x.start * 2);
        let end = (2 * x.len()).min(ax.crop + ax.output - 2 * x.start);
        for (v, vector) in tile.vectors[..tile.real].iter().enumerate() {
            let Vector { mut row, mut position, .. } = *vector;
            let mut done = 0;
            while done < b.lanes {
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
                (row, position) = (row + 1, 0);
            }
        }
    }
}

/// Column blocks in one plane of outputs.
struct Ready<'a, T> {
    columns: &'a [phase_tile::Columns<'a, T>],
    /// For each of them, the task's rows of positions that have an output.
    rows: &'a [Range<usize>],
}

/// What was placed last, and for which tile and rows of positions.
struct Placed {
    places: Places,
    like: Option<(Tile, Range<usize>)>,
}

/// The vectors of one tile.
#[derive(Clone, Copy)]
struct Tile {
    /// The first one's number in the task.
    number: usize,
    vectors: [Vector; phase_tile::MOST_VECTORS],
    /// How many exist; the others repeat the last.
    real: usize,
}
