//! Where sums go: from the tile's registers, or from memory.

use std::ops::Range;

use super::{Chunk, Row};
use crate::microkernels::activation::activate;
use crate::microkernels::strip_tile::{MOST_STRIPS, Strips};
use crate::microkernels::strips::copy_strips;
use crate::microkernels::vector::Float;
use crate::problem::epilogue::Activation;

impl<T: Float> Chunk<'_, '_, T> {
    /// Where run 0 of an output row starts.
    #[inline(always)]
    pub(super) fn row_start(&self, row: Row) -> usize {
        let g = &self.plan.geometry;
        let position = |a: usize| {
            let axis = &g.axes()[a];
            axis.phases[self.phases[a]].first_output + row[a] * axis.axis.stride
        };
        g.output_at(self.n, self.group * g.problem().group_out(), [position(0), position(1), 0])
    }

    /// Asks for the cache lines that the sums of some positions will be stored to: they arrive while these are summed.
    #[inline(always)]
    pub(super) fn announce(&self, row_start: usize, x: &Range<usize>) {
        let c = &self.plan.blocking.columns;
        let line = 64 / size_of::<T>();
        for held in &self.panel.held[..self.panel.vectors] {
            let first = (x.start * c.width + held.offset).saturating_sub(c.crop);
            let last = ((x.end - 1) * c.width + held.offset + held.len).saturating_sub(c.crop).min(c.row);
            // Neighbouring lines, or one in each position.
            let step = if c.width < 2 * line { line } else { c.width };
            for r in 0..held.runs {
                let start = row_start + (held.first_run + r) * c.run_step;
                self.output.prefetch(start + first..start + last, step);
            }
        }
    }

    /// Whether whole positions go to the output from the registers: nothing has to be done to them on the way.
    #[inline(always)]
    pub(super) fn is_direct(&self) -> bool {
        self.plan.blocking.columns.divides()
            && self.plan.epilogue.activation == Activation::Identity
            && !self.plan.exact_taps
    }

    /// Where the whole positions of an output row go.
    #[inline(always)]
    pub(super) fn strips(&self, row_start: usize) -> Strips<T> {
        let (c, x) = (&self.plan.blocking.columns, &self.x);
        let per_vector = c.runs_per_vector();
        let mut starts = [[std::ptr::null_mut(); MOST_STRIPS]; 2];
        let (mut positions, mut lanes) = ([[0; 2]; 2], [0; 2]);
        for v in 0..self.panel.vectors {
            let (held, whole) = (&self.panel.held[v], self.whole(v, x));
            positions[v] = [whole.start - x.start, whole.len()];
            lanes[v] = held.len;
            for (r, start) in starts[v][..per_vector].iter_mut().enumerate() {
                // A vector may lack its last runs: their strips are written before run 0, and to its place.
                let run = held.first_run + if r < held.runs { r } else { 0 };
                // SAFETY: of this row only outputs that `held` and positions `x` own are written: this task's alone.
                let row = unsafe { self.output.slice_ptr(row_start + run * c.run_step, c.row) };
                // Outputs cropped from the first positions lie before the row; they are not stored.
                *start = row.wrapping_add(x.start * c.width + held.offset).wrapping_sub(c.crop);
            }
        }
        // SAFETY: whole positions own outputs inside the row, and they are this task's alone. A vector of one strip holds
        // `held.len` of them; strips of several are whole, since they divide a position's outputs.
        unsafe { Strips::new(per_vector, starts, c.width, lanes, positions) }
    }

    /// The positions of `x` whose outputs of vector `v` lie inside the row, all of them.
    #[inline(always)]
    pub(super) fn whole(&self, v: usize, x: &Range<usize>) -> Range<usize> {
        let whole = &self.panel.whole[v];
        let first = whole.start.clamp(x.start, x.end);
        first..whole.end.clamp(first, x.end)
    }

    /// Stores what lies inside the row at those of the positions `x` that are not whole, for all vectors.
    #[inline(always)]
    pub(super) fn store_all_cut(&self, row_start: usize, x: &Range<usize>, sums: &[T]) {
        for v in 0..self.panel.vectors {
            self.store_cut(row_start, v, x, sums);
        }
    }

    /// The same for vector `v`.
    #[inline(always)]
    pub(super) fn store_cut(&self, row_start: usize, v: usize, x: &Range<usize>, sums: &[T]) {
        let c = &self.plan.blocking.columns;
        let (held, whole) = (&self.panel.held[v], self.whole(v, x));
        for j in (x.start..whole.start).chain(whole.end..x.end) {
            let at = j * c.width + held.offset;
            let clip = |at: usize| at.clamp(c.crop, c.crop + c.row) - c.crop;
            let outputs = clip(at)..clip(at + held.len);
            if outputs.is_empty() {
                continue;
            }
            let sums = &sums[((j - x.start) * self.panel.vectors + v) * c.lanes..][..c.lanes];
            for r in 0..held.runs {
                let start = row_start + (held.first_run + r) * c.run_step + outputs.start;
                let lane = r * held.len + outputs.start + c.crop - at;
                // SAFETY: outputs inside the row that `held` and position j own: this task's alone.
                let to = unsafe { self.output.slice_mut(start, outputs.len()) };
                for (to, from) in to.iter_mut().zip(&sums[lane..]) {
                    *to = *from;
                }
            }
        }
    }

    /// Applies the activation to complete sums and stores them: every vector in strips of neighbouring outputs.
    #[inline(always)]
    pub(super) fn finish(&self, row_start: usize, x: &Range<usize>, sums: &mut [T]) {
        let c = &self.plan.blocking.columns;
        let sum_step = self.panel.vectors * c.lanes;
        let sums = &mut sums[..x.len() * sum_step];
        activate(self.plan.epilogue.activation, sums);
        for v in 0..self.panel.vectors {
            let (held, whole) = (self.panel.held[v], self.whole(v, x));
            if !whole.is_empty() {
                for r in 0..held.runs {
                    let start = row_start + (held.first_run + r) * c.run_step;
                    let from = &sums[(whole.start - x.start) * sum_step + v * c.lanes + r * held.len..];
                    // SAFETY: whole positions lie inside the row; of it only outputs that `held` and positions `x` own are
                    // written: this task's alone.
                    unsafe {
                        let to = self.output.slice_ptr(start, c.row);
                        let to = to.add(whole.start * c.width + held.offset - c.crop);
                        copy_strips(from, sum_step, to, c.width, held.len, whole.len());
                    }
                }
            }
            self.store_cut(row_start, v, x, sums);
        }
    }
}
