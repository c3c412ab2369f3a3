//! Stores: the sums of a chunk become output rows, phases interleaved or channels together.

use std::ops::Range;

use pulp::Simd;

use super::run::Chunk;
use crate::machine::parallel::SharedOutput;
use crate::microkernels::interleave::interleave;
use crate::microkernels::pixel_tile::MOST_COLUMNS;
use crate::microkernels::strips::gather_strips;
use crate::microkernels::vector::Float;
use crate::problem::problem::Layout;

/// Lines of an output row that are worth to be asked for.
const WORTH_ASKING: usize = 16;

impl<T: Float> Chunk<'_, T> {
    /// Writes all outputs of the chunk.
    #[inline(always)]
    pub fn store<S: Simd>(&self, simd: S, sums: &[T], output: SharedOutput<'_, T>) {
        let (g, b) = (&self.plan.geometry, &self.plan.blocking);
        let [az, ay, ax] = &*b.axes;
        let Some(oz) = az.output_of(self.place.z, self.columns.z_phase) else { return };
        let x = &self.place.x;
        let along = Along { whole: ax.whole(x), phase_step: self.columns.per_phase() * self.step };
        // One channel is the same in both layouts.
        let together = g.problem().layout() == Layout::Nhwc && g.problem().out_channels() > 1;
        for (row, y) in self.rows.clone().enumerate() {
            for ry in self.columns.y_phases.clone() {
                let Some(oy) = ay.output_of(self.place.y.start + y, ry) else { continue };
                let sums = &sums[self.columns.at(0, ry, 0) * self.step + row * b.sum_pitch()..];
                let channel = self.place.group * b.group_out + self.columns.channels.start;
                let to = g.output_at(self.place.n, channel, [oz, oy, 0]);
                if together {
                    self.store_pixels(simd, sums, &along, output, to);
                } else {
                    self.store_channels(simd, sums, &along, output, to);
                }
            }
        }
    }

    /// Asks for the outputs of a part of the chunk: as many of its rows as `vectors` are of all of its vectors.
    #[inline(always)]
    pub fn ask_for_outputs(&self, output: SharedOutput<'_, T>, vectors: Range<usize>, all: usize) {
        let (g, b) = (&self.plan.geometry, &self.plan.blocking);
        let [az, ay, ax] = &*b.axes;
        let Some(oz) = az.output_of(self.place.z, self.columns.z_phase) else { return };
        let (channels, phases) = (self.columns.channels.len(), self.columns.y_phases.len());
        let rows = self.rows.len() * phases * channels;
        let line = 64 / size_of::<T>();
        if ax.output < WORTH_ASKING * line || g.output_len() * size_of::<T>() < 1 << 20 {
            return;
        }
        if g.problem().layout() == Layout::Nhwc && self.columns.channels.start > 0 {
            // The same lines as the first channels'.
            return;
        }
        for i in vectors.start * rows / all..vectors.end * rows / all {
            let (c, row) = (i % channels, i / channels);
            let (phase, y) = (self.columns.y_phases.start + row % phases, self.rows.start + row / phases);
            let Some(oy) = ay.output_of(self.place.y.start + y, phase) else { continue };
            let channel = self.place.group * b.group_out + self.columns.channels.start + c;
            let at = |x| g.output_at(self.place.n, channel, [oz, oy, x]);
            let end = (self.place.x.end * ax.stride).min(ax.output);
            let first = (self.place.x.start * ax.stride).min(end);
            match g.problem().layout() {
                Layout::Nchw => output.prefetch(at(first)..at(first) + end - first, line),
                // The rows of all channels are one.
                Layout::Nhwc => {
                    let pixels = end - first;
                    let part = first + pixels * c / channels..first + pixels * (c + 1) / channels;
                    let all = g.problem().out_channels();
                    output.prefetch(at(0) + part.start * all..at(0) + part.end * all, line);
                }
            }
        }
    }

    /// The outputs of positions that lack some, at both ends of a row: phase, position and output.
    fn edges(&self, along: &Along) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
        let ax = &self.plan.blocking.axes[2];
        let x = &self.place.x;
        (x.start..along.whole.start).chain(along.whole.end..x.end).flat_map(move |q| {
            (0..ax.stride).filter_map(move |rx| ax.output_of(q, rx).map(|o| (rx, q - x.start, o)))
        })
    }

    /// One output row of each channel; the first begins at `to`.
    #[inline(always)]
    fn store_channels<S: Simd>(
        &self,
        simd: S,
        sums: &[T],
        along: &Along,
        output: SharedOutput<'_, T>,
        to: usize,
    ) {
        let (whole, phase_step) = (&along.whole, along.phase_step);
        let ax = &self.plan.blocking.axes[2];
        let plane = self.plan.geometry.output_plane();
        let channels = self.columns.channels.len();
        if !whole.is_empty() {
            let first = whole.start * ax.stride - ax.crop;
            let len = ax.stride * whole.len();
            for c in 0..channels {
                let sums = &sums[c * self.step + whole.start - self.place.x.start..];
                // SAFETY: these outputs belong to this task and column block alone.
                let to = unsafe { output.slice_mut(to + c * plane + first, len) };
                interleave(simd, ax.stride, sums, phase_step, whole.len(), to);
            }
        }
        for (rx, position, o) in self.edges(along) {
            for c in 0..channels {
                // SAFETY: as above.
                let to = unsafe { output.slice_mut(to + c * plane + o, 1) };
                to[0] = sums[rx * phase_step + c * self.step + position];
            }
        }
    }

    /// The channels of each pixel of one output row; the first begins at `to`.
    #[inline(always)]
    fn store_pixels<S: Simd>(
        &self,
        simd: S,
        sums: &[T],
        along: &Along,
        output: SharedOutput<'_, T>,
        to: usize,
    ) {
        let (whole, phase_step) = (&along.whole, along.phase_step);
        let ax = &self.plan.blocking.axes[2];
        let channels = self.columns.channels.len();
        let all = self.plan.geometry.problem().out_channels();
        if !whole.is_empty() {
            let (count, step) = (whole.len(), ax.stride * all);
            let sums = &sums[whole.start - self.place.x.start..];
            // All channels of all phases of a position are neighbours, as many as columns of a tile.
            let together = if channels == all { ax.stride } else { 1 };
            for rx in (0..ax.stride).step_by(together) {
                let mut rows = [0; MOST_COLUMNS];
                let rows = &mut rows[..together * channels];
                for (i, row) in rows.iter_mut().enumerate() {
                    *row = (rx + i / channels) * phase_step + i % channels * self.step;
                }
                let first = to + (whole.start * ax.stride + rx - ax.crop) * all;
                // SAFETY: these outputs belong to this task and column block alone.
                unsafe {
                    let to = output.slice_ptr(first, (count - 1) * step + rows.len());
                    gather_strips(simd, sums, rows, to, step, count);
                }
            }
        }
        for (rx, position, o) in self.edges(along) {
            // SAFETY: as above.
            let to = unsafe { output.slice_mut(to + o * all, channels) };
            for (c, to) in to.iter_mut().enumerate() {
                *to = sums[rx * phase_step + c * self.step + position];
            }
        }
    }
}

/// What the rows of a chunk have in common.
struct Along {
    /// The positions of which every output exists.
    whole: Range<usize>,
    /// Distance of the sums of successive phases.
    phase_step: usize,
}
