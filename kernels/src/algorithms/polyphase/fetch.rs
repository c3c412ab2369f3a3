//! What a task wants soon, asked for in the loops of its tiles: the output rows that it is about to store, and the input of
//! the worker's next task. A burst of requests would fill the queue that the tiles' own loads wait in.

use crate::machine::parallel::SharedOutput;
use crate::microkernels::slab::Slab;
use crate::microkernels::tile::Soon;
use crate::microkernels::vector::Float;
use crate::problem::geometry::Geometry;
use crate::problem::problem::Layout;

/// Cache lines in the order in which they are asked for. Request number `i` is for the lines at
/// `at + (i / along)·row_step + (i % along)·step + k·each`, `k` up to `last`. They need not exist.
struct Lines<T> {
    at: *const T,
    along: usize,
    step: usize,
    row_step: usize,
    each: usize,
    last: usize,
    /// Requests done, and those that shall be when the current output row is.
    done: usize,
    wanted: usize,
}

impl<T> Lines<T> {
    const LINE: usize = 64 / size_of::<T>();

    fn none(at: *const T) -> Self {
        Self { at, along: 1, step: 0, row_step: 0, each: 0, last: 0, done: 0, wanted: 0 }
    }

    /// One request for each tap of a tile, as far as they lie along one row.
    #[inline(always)]
    fn take(&mut self, taps: usize) -> Option<Soon<T>> {
        if self.done >= self.wanted || taps == 0 {
            return None;
        }
        let (row, i) = (self.done / self.along, self.done % self.along);
        let taken = taps.min(self.along - i);
        self.done += taken;
        let at = self.at.wrapping_add(row * self.row_step + i * self.step);
        Some(Soon { at, steps: [self.step, self.each], last: [taken - 1, self.last] })
    }
}

/// The requests of one task.
pub struct Fetch<T> {
    input: Lines<T>,
    output: Lines<T>,
    /// Requests for the next input in all.
    inputs: usize,
    /// Output rows begun, and those of the whole task, each counted once for each channel block.
    begun: usize,
    rows: usize,
}

impl<T: Float> Fetch<T> {
    /// For a task of `rows` output rows. The worker's next task packs `next` of some image and group.
    pub fn new(geometry: &Geometry, input: &[T], next: Option<(usize, usize, Slab)>, rows: usize) -> Self {
        let none = || Lines::none(input.as_ptr());
        let mut fetch = Self { input: none(), output: none(), inputs: 0, begun: 0, rows };
        let Some((n, group, slab)) = next else { return fetch };
        let p = geometry.problem();
        let (channels, inside) = (p.group_in(), slab.inside(geometry));
        let line = Lines::<T>::LINE;
        let (along, step, each) = match p.layout() {
            // Each request is for one line of every channel,
            Layout::Nchw => (inside.len().div_ceil(line) + 1, line, geometry.input_plane()),
            // or for as many neighbouring pixels as one line holds elements; groups lie apart.
            Layout::Nhwc if p.groups() == 1 => (inside.len().div_ceil(line), line * channels, line),
            Layout::Nhwc => return fetch,
        };
        // Of the first plane along z alone: packing asks for all rows but the first by itself.
        let [z, y] = slab.rows.clone();
        if inside.is_empty() || z.is_empty() || y.is_empty() {
            return fetch;
        }
        let first = geometry.input_at(n, group * channels, [z.start, y.start, inside.start]);
        let at = input.as_ptr().wrapping_add(first);
        let row_step = geometry.input_at(0, 0, [0, 1, 0]);
        fetch.input = Lines { at, along, step, row_step, each, last: channels - 1, ..none() };
        fetch.inputs = y.len() * along;
        fetch
    }

    /// An output row begins, whose part from element `start` on, of so many outputs and channels, will be stored. Tiles run
    /// over `depth` input channels.
    #[inline(always)]
    pub fn row(
        &mut self,
        geometry: &Geometry,
        output: &SharedOutput<'_, T>,
        start: usize,
        [outputs, channels, depth]: [usize; 3],
    ) {
        let (all, line) = (geometry.problem().out_channels(), Lines::<T>::LINE);
        // As for the input; NHWC: where other channels lie between, one line of many pixels.
        let pixels = outputs.min(depth);
        let (along, rows, step, row_step, each, last) = match geometry.problem().layout() {
            Layout::Nchw => {
                (outputs.div_ceil(line) + 1, 1, line, 0, geometry.output_plane(), channels.min(depth) - 1)
            }
            Layout::Nhwc if channels == all => {
                ((outputs * all).div_ceil(line * depth), 1, line * depth, 0, line, depth - 1)
            }
            Layout::Nhwc => {
                let groups = outputs.div_ceil(pixels.max(1));
                (channels.div_ceil(line), groups, line, pixels * all, all, pixels.max(1) - 1)
            }
        };
        let at = output.address(start);
        self.output = Lines { at, along, step, row_step, each, last, done: 0, wanted: along * rows };
        self.begun += 1;
        self.input.wanted = self.inputs * self.begun / self.rows;
    }

    /// What a tile of so many taps shall ask for.
    #[inline(always)]
    pub fn take(&mut self, taps: usize) -> Option<Soon<T>> {
        self.output.take(taps).or_else(|| self.input.take(taps))
    }
}
