//! Output rows from columns: what overlaps is added, bias first, then the activation.

use std::ops::Range;

use pulp::Simd;

use super::blocking::taps_of_run;
use super::run::PreparedOverlapAdd;
use crate::error::Error;
use crate::machine::parallel::SharedOutput;
use crate::machine::scratch::filled_vec;
use crate::microkernels::activation::activate;
use crate::microkernels::interleave::interleave;
use crate::microkernels::vector::Float;
use crate::problem::geometry::AxisGeometry;
use crate::problem::problem::Layout;

/// Taps along x whose outputs lie side by side; see [`taps_of_run`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Run {
    first_tap: usize,
    taps: usize,
    /// The output of the first tap for input 0.
    shift: i64,
}

/// All runs of an axis.
pub fn runs(axis: &AxisGeometry) -> Result<Vec<Run>, Error> {
    let a = &axis.axis;
    let most = taps_of_run(a);
    let mut runs = filled_vec("runs of taps", a.kernel.div_ceil(most), Run::default())?;
    for (run, first_tap) in runs.iter_mut().zip((0..a.kernel).step_by(most)) {
        let shift = (first_tap * a.dilation) as i64 - a.padding.0 as i64;
        *run = Run { first_tap, taps: most.min(a.kernel - first_tap), shift };
    }
    Ok(runs)
}

/// Where the columns of a band lie, and what they belong to.
pub struct Ring<'a, 'o, T> {
    pub plan: &'a PreparedOverlapAdd<T>,
    pub output: SharedOutput<'o, T>,
    pub columns: &'a [T],
    /// The first slab of the band.
    pub first: usize,
    pub image: usize,
}

impl<T: Float> Ring<'_, '_, T> {
    /// Writes these outputs of the cut axis, all of the other axes.
    #[inline(always)]
    pub fn write<S: Simd>(&self, simd: S, outputs: Range<usize>, phases: &mut [T]) {
        let (g, b) = (&self.plan.geometry, &self.plan.blocking);
        let [depth, height, width] = g.output();
        let mut ranges = [0..depth, 0..height, 0..width];
        ranges[b.cut] = outputs;
        let [zs, ys, xs] = ranges;
        if xs.is_empty() {
            return;
        }
        for z in zs {
            for y in ys.clone() {
                match b.layout {
                    Layout::Nchw => self.row_of_channels(simd, z, y, &xs, phases),
                    Layout::Nhwc => self.row_of_pixels(z, y, &xs),
                }
            }
        }
    }

    /// Calls `visit` with every pair of taps along z and y that meets an input row for this output row: their number, and
    /// where pixel 0 of the input row would lie in the ring.
    #[inline(always)]
    fn taps(&self, z: usize, y: usize, mut visit: impl FnMut(usize, i64)) {
        let (g, b) = (&self.plan.geometry, &self.plan.blocking);
        let [az, ay, _] = g.axes();
        let [_, kh, _] = g.kernel();
        let width = g.input()[2];
        let ((pz, qz), (py, qy)) = (az.phase_of(z), ay.phase_of(y));
        for mz in pz.valid_taps(qz) {
            for my in py.valid_taps(qy) {
                let (iz, iy) = (pz.input_index(qz, mz) as usize, py.input_index(qy, my) as usize);
                let tap = pz.tap(mz) * kh + py.tap(my);
                let (slab, row) = match b.cut {
                    0 => (iz, iy * width),
                    1 => (iy, 0),
                    _ => {
                        visit(tap, -(self.first as i64));
                        continue;
                    }
                };
                visit(tap, (b.place(slab - self.first) + row) as i64);
            }
        }
    }

    /// Channels first: each phase of a row is a sum of rows of columns.
    #[inline(always)]
    fn row_of_channels<S: Simd>(&self, simd: S, z: usize, y: usize, xs: &Range<usize>, phases: &mut [T]) {
        let Self { plan, output, columns, image, .. } = *self;
        let (g, b) = (&plan.geometry, &plan.blocking);
        let (kernel, kw) = (g.kernel_taps(), g.kernel()[2]);
        let axis = &g.axes()[2];
        let stride = axis.phases.len();
        let first = xs.start / stride;
        for (channel, &bias) in plan.bias.iter().enumerate() {
            let at = g.output_at(image, channel, [z, y, xs.start]);
            // SAFETY: the row belongs to this band alone, and no other slice of it is alive.
            let row = unsafe { output.slice_mut(at, xs.len()) };
            for (p, phase) in axis.phases.iter().enumerate() {
                let count = (xs.len() + stride - 1 - p) / stride;
                let sums = if stride == 1 { &mut *row } else { &mut phases[p * b.phase_pitch..][..count] };
                sums.fill(bias);
                self.taps(z, y, |tap, start| {
                    for m in 0..phase.taps {
                        let valid = phase.valid_outputs(m);
                        let (begin, end) = (valid.start.max(first), valid.end.min(first + count));
                        if begin < end {
                            let column = channel * kernel + tap * kw + phase.tap(m);
                            let pixel = (start + phase.input_index(begin, m)) as usize;
                            let from = &columns[column * b.pitch + pixel..][..end - begin];
                            for (sum, &value) in sums[begin - first..end - first].iter_mut().zip(from) {
                                *sum += value;
                            }
                        }
                    }
                });
            }
            if stride > 1 {
                // Positions that every phase has; the others are a remainder.
                let count = xs.len() / stride;
                let (whole, rest) = row.split_at_mut(count * stride);
                if count > 0 {
                    interleave(simd, stride, phases, b.phase_pitch, count, whole);
                }
                for (p, to) in rest.iter_mut().enumerate() {
                    *to = phases[p * b.phase_pitch + count];
                }
            }
            activate(plan.epilogue.activation, row);
        }
    }

    /// Channels last: the taps of a run and all channels lie side by side, in columns as in outputs.
    #[inline(always)]
    fn row_of_pixels(&self, z: usize, y: usize, xs: &Range<usize>) {
        let Self { plan, output, columns, image, .. } = *self;
        let (g, b) = (&plan.geometry, &plan.blocking);
        let (channels, kw) = (g.problem().out_channels(), g.kernel()[2]);
        let axis = &g.axes()[2].axis;
        let at = g.output_at(image, 0, [z, y, xs.start]);
        // SAFETY: the row belongs to this band alone, and no other slice of it is alive.
        let row = unsafe { output.slice_mut(at, xs.len() * channels) };
        for pixel in row.chunks_exact_mut(channels) {
            pixel.copy_from_slice(&plan.bias);
        }
        let (stride, inputs) = (axis.stride as i64, axis.input as i64);
        self.taps(z, y, |tap, start| {
            for run in &plan.runs {
                let (len, shift) = (run.taps as i64, run.shift - xs.start as i64);
                let end = xs.len() as i64;
                // Inputs of which a part, and of which all of the run lands in the row.
                let clip = |at: i64| at.clamp(0, inputs);
                let some = clip((1 - len - shift + stride - 1).div_euclid(stride))
                    ..clip((end - 1 - shift).div_euclid(stride) + 1);
                let all = clip((-shift + stride - 1).div_euclid(stride))
                    ..clip((end - len - shift).div_euclid(stride) + 1);
                let column = (tap * kw + run.first_tap) * channels;
                let place = |input: i64| (start + input) as usize * b.pitch + column;
                let clipped = |row: &mut [T], input: i64| {
                    let at = input * stride + shift;
                    let (from, to) = ((-at).max(0), len.min(end - at));
                    if from < to {
                        let range = from as usize * channels..to as usize * channels;
                        let sums = &mut row[(at + from) as usize * channels..][..range.len()];
                        add(&columns[place(input)..][range], sums);
                    }
                };
                if all.is_empty() {
                    some.for_each(|input| clipped(row, input));
                    continue;
                }
                (some.start..all.start).for_each(|input| clipped(row, input));
                let first = (all.start * stride + shift) as usize * channels;
                let step = axis.stride * channels;
                let count = (all.end - all.start) as usize;
                add_runs(
                    &columns[place(all.start)..],
                    b.pitch,
                    &mut row[first..],
                    step,
                    count,
                    run.taps * channels,
                );
                (all.end..some.end).for_each(|input| clipped(row, input));
            }
        });
        activate(plan.epilogue.activation, row);
    }
}

#[inline(always)]
fn add<T: Float>(from: &[T], sums: &mut [T]) {
    for (sum, &value) in sums.iter_mut().zip(from) {
        *sum += value;
    }
}

/// Adds `count` runs of `len` elements. Short ones have a loop of their own.
#[inline(always)]
fn add_runs<T: Float>(from: &[T], from_step: usize, sums: &mut [T], step: usize, count: usize, len: usize) {
    #[inline(always)]
    fn exactly<T: Float, const N: usize>(
        from: &[T],
        from_step: usize,
        sums: &mut [T],
        step: usize,
        count: usize,
    ) {
        for i in 0..count {
            let from: &[T; N] = from[i * from_step..][..N].try_into().expect("N elements");
            let sums: &mut [T; N] = (&mut sums[i * step..][..N]).try_into().expect("N elements");
            for l in 0..N {
                sums[l] += from[l];
            }
        }
    }
    match len {
        1 => exactly::<T, 1>(from, from_step, sums, step, count),
        2 => exactly::<T, 2>(from, from_step, sums, step, count),
        3 => exactly::<T, 3>(from, from_step, sums, step, count),
        4 => exactly::<T, 4>(from, from_step, sums, step, count),
        6 => exactly::<T, 6>(from, from_step, sums, step, count),
        8 => exactly::<T, 8>(from, from_step, sums, step, count),
        16 => exactly::<T, 16>(from, from_step, sums, step, count),
        _ => {
            for i in 0..count {
                add(&from[i * from_step..][..len], &mut sums[i * step..][..len]);
            }
        }
    }
}
