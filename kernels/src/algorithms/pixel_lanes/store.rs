//! Stores: the sums of a chunk become output rows, phases interleaved or channels together.

use std::ops::Range;

use pulp::Simd;

use super::run::Chunk;
use crate::machine::parallel::SharedOutput;
use crate::microkernels::interleave::interleave;
use crate::microkernels::strips::gather_strips;
use crate::microkernels::vector::Float;
use crate::problem::problem::Layout;

/// Lines of an output row that are worth to be asked for.
const WORTH_ASKING: usize = 16;

impl<T: Float> Chunk<'_, T> {
    /// Writes all outputs of the chunk.
    #[inline(always)]
    pub fn store<S: Simd>(&self, simd: S, sums: &[T], output: SharedOutput<'_, T>) {
        let b = &self.plan.blocking;
        let [az, ay, _] = &b.axes;
        let Some(oz) = az.output_of(self.place.z, self.columns.z_phase) else { return };
        let several = self.plan.geometry.problem().out_channels() > 1;
        for (row, y) in self.rows.clone().enumerate() {
            for ry in self.columns.y_phases.clone() {
                let Some(oy) = ay.output_of(self.place.y.start + y, ry) else { continue };
                let first = self.columns.at(0, ry, 0) * self.step + row * b.sum_pitch();
                match self.plan.geometry.problem().layout() {
                    Layout::Nhwc if several => self.store_pixels(&sums[first..], [oz, oy], output),
                    _ => self.store_channels(simd, &sums[first..], [oz, oy], output),
                }
            }
        }
    }

    /// Asks for the outputs of a part of the chunk: as many of its rows as `vectors` are of all of its vectors.
    #[inline(always)]
    pub fn ask_for_outputs(&self, output: SharedOutput<'_, T>, vectors: Range<usize>, all: usize) {
        let (g, b) = (&self.plan.geometry, &self.plan.blocking);
        let [az, ay, ax] = &b.axes;
        let Some(oz) = az.output_of(self.place.z, self.columns.z_phase) else { return };
        let (channels, phases) = (self.columns.channels.len(), self.columns.y_phases.len());
        let rows = self.rows.len() * phases * channels;
        let line = 64 / size_of::<T>();
        if ax.output < WORTH_ASKING * line || g.output_len() * size_of::<T>() < 1 << 20 {
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

    /// One output row of each channel.
    #[inline(always)]
    fn store_channels<S: Simd>(
        &self,
        simd: S,
        sums: &[T],
        [oz, oy]: [usize; 2],
        output: SharedOutput<'_, T>,
    ) {
        let (g, b) = (&self.plan.geometry, &self.plan.blocking);
        let ax = &b.axes[2];
        let x = &self.place.x;
        let whole = ax.whole(x);
        let phase_step = self.columns.per_phase() * self.step;
        for (c, co) in self.columns.channels.clone().enumerate() {
            let channel = self.place.group * b.group_out + co;
            let sums = &sums[c * self.step..];
            let row = g.output_at(self.place.n, channel, [oz, oy, 0]);
            if !whole.is_empty() {
                let start = row + whole.start * ax.stride - ax.crop;
                // SAFETY: these outputs belong to this task and column block alone.
                let to = unsafe { output.slice_mut(start, ax.stride * whole.len()) };
                interleave(simd, ax.stride, &sums[whole.start - x.start..], phase_step, whole.len(), to);
            }
            for q in (x.start..whole.start).chain(whole.end..x.end) {
                for rx in 0..ax.stride {
                    let Some(ox) = ax.output_of(q, rx) else { continue };
                    // SAFETY: as above.
                    let to = unsafe { output.slice_mut(row + ox, 1) };
                    to[0] = sums[rx * phase_step + q - x.start];
                }
            }
        }
    }

    /// The channels of each pixel of one output row.
    #[inline(always)]
    fn store_pixels(&self, sums: &[T], [oz, oy]: [usize; 2], output: SharedOutput<'_, T>) {
        let (g, b) = (&self.plan.geometry, &self.plan.blocking);
        let ax = &b.axes[2];
        let x = &self.place.x;
        let whole = ax.whole(x);
        let phase_step = self.columns.per_phase() * self.step;
        let channels = &self.columns.channels;
        let all = g.problem().out_channels();
        let row = g.output_at(self.place.n, self.place.group * b.group_out + channels.start, [oz, oy, 0]);
        for rx in 0..ax.stride {
            let sums = &sums[rx * phase_step..];
            if !whole.is_empty() {
                let start = row + (whole.start * ax.stride + rx - ax.crop) * all;
                let (count, step) = (whole.len(), ax.stride * all);
                let from = &sums[whole.start - x.start..];
                // SAFETY: these outputs belong to this task and column block alone.
                unsafe {
                    let to = output.slice_ptr(start, (count - 1) * step + channels.len());
                    gather_strips(from, self.step, to, step, channels.len(), count);
                }
            }
            for q in (x.start..whole.start).chain(whole.end..x.end) {
                let Some(ox) = ax.output_of(q, rx) else { continue };
                // SAFETY: as above.
                let to = unsafe { output.slice_mut(row + ox * all, channels.len()) };
                for (c, to) in to.iter_mut().enumerate() {
                    *to = sums[c * self.step + q - x.start];
                }
            }
        }
    }
}
