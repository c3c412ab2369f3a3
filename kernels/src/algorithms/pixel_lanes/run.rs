//! The prepared kernel: tasks, column blocks, tiles, interleaving stores.

use pulp::{Simd, WithSimd};

use super::blocking::Blocking;
use super::pack::{Columns, Place, fill, pack_group};
use crate::contract::kernel::Prepared;
use crate::contract::request::{Declined, Refusal, Request, Weights};
use crate::machine::isa::Isa;
use crate::machine::parallel::{self, SharedOutput};
use crate::machine::scratch::{AlignedVec, Bytes64, Scratch};
use crate::machine::tensor::{Tensor, TensorMut};
use crate::microkernels::activation::activate;
use crate::microkernels::interleave::interleave;
use crate::microkernels::pixel_tile::{PixelOperands, accumulate_pixels};
use crate::microkernels::vector::Float;
use crate::problem::epilogue::Epilogue;
use crate::problem::geometry::Geometry;
use crate::problem::problem::Layout;

#[derive(Debug)]
pub struct PreparedPixelLanes<T> {
    geometry: Geometry,
    epilogue: Epilogue,
    isa: Isa,
    threads: usize,
    blocking: Blocking,
    scratch: Scratch,
    weights: AlignedVec<T>,
    /// One value for each column, block after block.
    bias: AlignedVec<T>,
}

impl<T: Float> PreparedPixelLanes<T> {
    pub fn new(request: &Request<'_>, weights: Weights<'_>) -> Result<Self, Refusal> {
        let blocking = Blocking::new(request)?;
        let (threads, scratch) = blocking.workers(request);
        let mut prepared = Self {
            geometry: request.geometry.clone(),
            epilogue: request.epilogue,
            isa: request.target.isa,
            threads,
            scratch,
            weights: AlignedVec::zeroed("packed weights", blocking.packed_weights())?,
            bias: AlignedVec::zeroed("bias", blocking.groups * blocking.blocks() * blocking.columns())?,
            blocking,
        };
        prepared.repack(weights)?;
        Ok(prepared)
    }
}

impl<T: Float> Prepared for PreparedPixelLanes<T> {
    fn scratch(&self) -> Scratch {
        self.scratch
    }

    fn run(&self, input: Tensor<'_>, output: TensorMut<'_>, scratch: &mut [Bytes64]) {
        let input = T::slice(&input).expect("checked by the plan");
        let output = SharedOutput::new(T::slice_mut(output).expect("checked by the plan"));
        let (b, batch) = (&self.blocking, self.geometry.problem().batch());
        let [tz, ty, tx] = b.tasks();
        parallel::run_scratch(self.threads, scratch, b.slot(), b.all_tasks(batch), |slot, task| {
            let (part, task) = (task % b.parts, task / b.parts);
            let (x, task) = (task % tx, task / tx);
            let (y, task) = (task % ty, task / ty);
            let (z, task) = (task % tz, task / tz);
            let [az, ay, ax] = &b.axes;
            let part_of = |groups: &std::ops::Range<usize>, i: usize, step: usize| {
                groups.start + i * step..(groups.start + (i + 1) * step).min(groups.end)
            };
            let place = Place {
                n: task / b.groups,
                group: task % b.groups,
                z: az.groups.start + z,
                y: part_of(&ay.groups, y, b.rows),
                x: part_of(&ax.groups, x, b.width),
            };
            self.isa.enter(Task { plan: self, input, output, slot, place, part });
        });
    }

    fn repack(&mut self, weights: Weights<'_>) -> Result<(), Refusal> {
        if !weights.kernel.all_finite() {
            return Err(Declined::because("weights are not finite, and padded zeros are multiplied").into());
        }
        let (kernel, bias) = weights.typed::<T>()?;
        let b = &self.blocking;
        for (group, packed) in self.weights.chunks_exact_mut(b.blocks() * b.panel()).enumerate() {
            pack_group(&self.geometry, b, group, kernel, packed);
        }
        if let Some(bias) = bias {
            for (i, values) in self.bias.chunks_exact_mut(b.columns()).enumerate() {
                let (group, columns) = (i / b.blocks(), Columns::new(b, i % b.blocks()));
                for rx in 0..b.axes[2].stride {
                    for y in 0..columns.y_phases.len() {
                        for (c, co) in columns.channels.clone().enumerate() {
                            values[columns.at(rx, y, c)] = bias[group * b.group_out + co];
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// All outputs of some groups, for a part of the column blocks.
struct Task<'a, 'o, T> {
    plan: &'a PreparedPixelLanes<T>,
    input: &'a [T],
    output: SharedOutput<'o, T>,
    slot: &'a mut [T],
    place: Place,
    part: usize,
}

impl<T: Float> WithSimd for Task<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { plan, input, output, slot, place, part } = self;
        let b = &plan.blocking;
        let (slab, sums) = slot.split_at_mut(b.slab);
        fill(simd, &plan.geometry, b, &place, input, slab);
        let blocks = b.blocks();
        for block in blocks * part / b.parts..blocks * (part + 1) / b.parts {
            let columns = Columns::new(b, block);
            if b.axes[0].output_of(place.z, columns.z_phase).is_none() {
                continue;
            }
            let work = Block { plan, slab, output, place: &place, block, columns };
            work.accumulate(simd, sums);
            activate(plan.epilogue.activation, &mut sums[..]);
            work.store(simd, sums);
        }
    }
}

/// One column block over the groups of one task.
struct Block<'a, 'o, T> {
    plan: &'a PreparedPixelLanes<T>,
    slab: &'a [T],
    output: SharedOutput<'o, T>,
    place: &'a Place,
    block: usize,
    columns: Columns,
}

impl<T: Float> Block<'_, '_, T> {
    /// Distance of the columns' sums.
    fn sum_step(&self) -> usize {
        let b = &self.plan.blocking;
        (self.place.y.len() * b.pitch).next_multiple_of(b.lanes)
    }

    #[inline(always)]
    fn accumulate<S: Simd>(&self, simd: S, sums: &mut [T]) {
        let b = &self.plan.blocking;
        let [az, ay, ax] = &b.axes;
        let width = self.columns.per_phase() * ax.stride;
        let number = self.place.group * b.blocks() + self.block;
        let tap = b.group_in * width;
        let weight_steps = [ay.most_taps() * ax.most_taps() * tap, ax.most_taps() * tap, tap];
        let z_taps = az.valid_taps(self.place.z, self.columns.z_phase);
        let rows = self.place.y.len() + ay.halo();
        // Tap z reads the packed plane of the same number: the start lies behind, the steps go forward.
        let planes = rows * b.pitch;
        let common = ax.kernel / ax.stride;
        let rest = ax.kernel % ax.stride;
        let bias = &self.plan.bias[number * b.columns()..][..width];
        let vectors = (self.place.y.len() * b.pitch).div_ceil(b.lanes);
        let mut vector = 0;
        while vector < vectors {
            let left = vectors - vector;
            let wide = if left >= b.vectors {
                b.vectors
            } else if left >= 2 {
                2
            } else {
                1
            };
            let at = vector * b.lanes;
            for z in z_taps.clone().map(Some).chain(z_taps.is_empty().then_some(None)) {
                let plane = z.unwrap_or(0);
                let first = z.is_none_or(|z| z == z_taps.start);
                let operands = PixelOperands {
                    input: self.slab,
                    input_start: plane * planes + ay.halo() * b.pitch + ax.halo() + at,
                    input_steps: [0, ay.step * b.pitch, ax.step],
                    channel_step: b.channel_step,
                    weights: &self.plan.weights,
                    weight_start: number * b.panel() + plane * weight_steps[0],
                    weight_steps,
                    column_step: width,
                    taps: [usize::from(z.is_some()), ay.taps(self.columns.y_phases.start), common],
                    channels: b.group_in,
                };
                let start = first.then_some(bias);
                let step = self.sum_step();
                accumulate_pixels(simd, wide, width, operands, start, &mut sums[at..], step);
                if rest > 0 {
                    // The last tap, which only the first phases have.
                    let mut o = operands;
                    o.taps[2] = 1;
                    o.input_start -= common * ax.step;
                    o.weight_start += common * tap;
                    let columns = rest * self.columns.per_phase();
                    accumulate_pixels(simd, wide, columns, o, None, &mut sums[at..], step);
                }
            }
            vector += wide;
        }
    }

    #[inline(always)]
    fn store<S: Simd>(&self, simd: S, sums: &[T]) {
        let (g, b) = (&self.plan.geometry, &self.plan.blocking);
        let [az, ay, ax] = &b.axes;
        let Some(oz) = az.output_of(self.place.z, self.columns.z_phase) else { return };
        let step = self.sum_step();
        let phase_step = self.columns.per_phase() * step;
        // Groups along x whose outputs all exist are interleaved; at most one cropped group lies on either side.
        let (from, to) = (self.place.x.start, self.place.x.end);
        let (full_from, full_to) = match g.problem().layout() {
            Layout::Nchw => {
                let full_from = from.max(ax.crop.div_ceil(ax.stride)).min(to);
                (full_from, to.min((ax.crop + ax.output) / ax.stride).max(full_from))
            }
            Layout::Nhwc => (from, from),
        };
        for (row, jy) in self.place.y.clone().enumerate() {
            for (y, ry) in self.columns.y_phases.clone().enumerate() {
                let Some(oy) = ay.output_of(jy, ry) else { continue };
                for (c, co) in self.columns.channels.clone().enumerate() {
                    let channel = self.place.group * b.group_out + co;
                    let sums = &sums[self.columns.at(0, y, c) * step + row * b.pitch..];
                    if full_from < full_to {
                        let first = full_from * ax.stride - ax.crop;
                        let count = full_to - full_from;
                        let start = g.output_at(self.place.n, channel, [oz, oy, first]);
                        // SAFETY: these outputs belong to this task and column block alone.
                        let to = unsafe { self.output.slice_mut(start, ax.stride * count) };
                        interleave(simd, ax.stride, &sums[full_from - from..], phase_step, count, to);
                    }
                    for jx in (from..full_from).chain(full_to..to) {
                        for rx in 0..ax.stride {
                            let Some(ox) = ax.output_of(jx, rx) else { continue };
                            let at = g.output_at(self.place.n, channel, [oz, oy, ox]);
                            // SAFETY: as above.
                            let to = unsafe { self.output.slice_mut(at, 1) };
                            to[0] = sums[rx * phase_step + jx - from];
                        }
                    }
                }
            }
        }
    }
}
