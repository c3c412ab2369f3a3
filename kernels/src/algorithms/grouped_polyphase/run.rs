//! The prepared kernel: tasks, output rows, tiles, stores.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::blocking::Blocking;
use super::input::Source;
use super::pack::{pack_indices, pack_vector};
use super::units::Unit;
use crate::contract::kernel::Prepared;
use crate::contract::request::{Declined, Refusal, Request, Weights};
use crate::machine::isa::{Isa, has_vectors};
use crate::machine::parallel::{self, SharedOutput};
use crate::machine::scratch::{AlignedVec, Bytes64, Scratch};
use crate::machine::tensor::{Tensor, TensorMut};
use crate::microkernels::activation::activate;
use crate::microkernels::grouped_tile::{Operands, Place, accumulate};
use crate::microkernels::slab::{Slab, positions_of_task};
use crate::microkernels::strips::copy_strips;
use crate::microkernels::transpose::{Rows, transpose};
use crate::microkernels::vector::Float;
use crate::problem::epilogue::{Activation, Epilogue};
use crate::problem::geometry::Geometry;
use crate::problem::problem::Layout;

#[derive(Debug)]
pub struct PreparedGrouped<T> {
    geometry: Geometry,
    epilogue: Epilogue,
    isa: Isa,
    threads: usize,
    blocking: Blocking,
    scratch: Scratch,
    weights: AlignedVec<T>,
    indices: AlignedVec<T>,
    /// One value for each output channel, padded to whole vectors.
    bias: AlignedVec<T>,
}

impl<T: Float> PreparedGrouped<T> {
    pub fn new(request: &Request<'_>, weights: Weights<'_>) -> Result<Self, Refusal> {
        let blocking = Blocking::new(request);
        let (threads, scratch) = blocking.workers(request);
        let mut prepared = Self {
            geometry: request.geometry.clone(),
            epilogue: request.epilogue,
            isa: request.target.isa,
            threads,
            scratch,
            weights: AlignedVec::zeroed("packed weights", blocking.packed_weights())?,
            indices: AlignedVec::zeroed("indices", blocking.vectors * blocking.vector_indices())?,
            bias: AlignedVec::zeroed("bias", blocking.vectors * blocking.lanes)?,
            blocking,
        };
        let b = &prepared.blocking;
        for (v, packed) in prepared.indices.chunks_exact_mut(b.vector_indices()).enumerate() {
            pack_indices(b, v, packed);
        }
        prepared.pack(weights)?;
        Ok(prepared)
    }

    fn pack(&mut self, weights: Weights<'_>) -> Result<(), Refusal> {
        if !weights.kernel.all_finite() {
            let because = "non-finite weights, which it would multiply by zeros beside rows";
            return Err(Declined::because(because).into());
        }
        let (kernel, bias) = weights.typed::<T>()?;
        let b = &self.blocking;
        for (v, packed) in self.weights.chunks_exact_mut(b.vector_weights().max(1)).enumerate() {
            pack_vector(&self.geometry, b, v, kernel, packed);
        }
        if let Some(bias) = bias {
            self.bias[..bias.len()].copy_from_slice(bias);
        }
        Ok(())
    }
}

impl<T: Float> Prepared for PreparedGrouped<T> {
    fn scratch(&self) -> Scratch {
        self.scratch
    }

    fn run(&self, input: Tensor<'_>, output: TensorMut<'_>, scratch: &mut [Bytes64]) {
        let input = T::slice(&input).expect("checked by the plan");
        let output = SharedOutput::new(T::slice_mut(output).expect("checked by the plan"));
        let (b, p) = (&self.blocking, self.geometry.problem());
        parallel::run_scratch(self.threads, scratch, b.slot(), b.all_tasks(p.batch()), |slot, task| {
            let (positions, task) = positions_of_task(&b.axes, task);
            let (vector, n) = (task % b.vectors, task / b.vectors);
            self.isa.enter(Task { plan: self, input, output, slot, n, vector, positions });
        });
    }

    fn repack(&mut self, weights: Weights<'_>) -> Result<(), Refusal> {
        self.pack(weights)
    }
}

/// All outputs of some positions, for one vector of output channels of one image.
struct Task<'a, 'o, T> {
    plan: &'a PreparedGrouped<T>,
    input: &'a [T],
    output: SharedOutput<'o, T>,
    slot: &'a mut [T],
    n: usize,
    vector: usize,
    positions: [Range<usize>; 3],
}

impl<T: Float> WithSimd for Task<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if const { !has_vectors::<S>() } {
            unreachable!("declined: no code for portable lanes");
        }
        let Self { plan, input, n, vector, ref positions, .. } = self;
        let (g, b) = (&plan.geometry, &plan.blocking);
        let (packed, rest) = self.slot.split_at_mut(b.slab);
        let (rows, sums) = rest.split_at_mut(b.rows);
        let mut slab = Slab::new(&b.axes, g.input(), 1, b.span * b.pixel(), positions);
        slab.first = positions[2].start as i64 + b.reach.start;
        Source { geometry: g, blocking: b, input, n, vector }.fill(simd, &slab, packed, rows);

        let part =
            Part { plan, slab: &slab, packed, output: self.output, n, vector, x: positions[2].clone() };
        for (iz, pz) in g.axes()[0].phases.iter().enumerate() {
            for (iy, py) in g.axes()[1].phases.iter().enumerate() {
                for z in positions[0].start..positions[0].end.min(pz.outputs) {
                    for y in positions[1].start..positions[1].end.min(py.outputs) {
                        let row = Row { phases: [iz, iy], positions: [z, y] };
                        simd.vectorize(Rowwise { part: &part, sums, row });
                    }
                }
            }
        }
    }
}

/// What the rows of a task share.
struct Part<'a, 'o, T> {
    plan: &'a PreparedGrouped<T>,
    slab: &'a Slab,
    packed: &'a [T],
    output: SharedOutput<'o, T>,
    n: usize,
    vector: usize,
    /// Positions along x.
    x: Range<usize>,
}

/// An output row: its phases along z and y, and its positions there.
#[derive(Clone, Copy)]
struct Row {
    phases: [usize; 2],
    positions: [usize; 2],
}

struct Rowwise<'a, 'p, 'o, T> {
    part: &'a Part<'p, 'o, T>,
    sums: &'a mut [T],
    row: Row,
}

impl<T: Float> WithSimd for Rowwise<'_, '_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { part, sums, row } = self;
        let (g, b) = (&part.plan.geometry, &part.plan.blocking);
        let stride = g.axes()[2].axis.stride;
        for unit in &b.units {
            part.sum(simd, row, unit, sums);
        }
        // The sums of positions x lie behind those of one position before, for what a partner computes too much.
        let begin = part.x.start * stride;
        let outputs = (part.x.end * stride).min(g.output()[2]) - begin;
        if let Some(start) = part.row_start(row) {
            return part.activate_row(start, begin..begin + outputs);
        }
        let sums = &mut sums[g.axes()[2].phases.len() * b.lanes..][..outputs * b.lanes];
        activate(part.plan.epilogue.activation, sums);
        part.store(simd, row, begin, sums);
    }
}

impl<T: Float> Part<'_, '_, T> {
    /// The sums of the phases of one unit in one output row.
    #[inline(always)]
    fn sum<S: Simd>(&self, simd: S, row: Row, unit: &Unit, sums: &mut [T]) {
        let (g, b) = (&self.plan.geometry, &self.plan.blocking);
        let [az, ay, ax] = g.axes();
        let (pz, py) = (&az.phases[row.phases[0]], &ay.phases[row.phases[1]]);
        // Outputs of one position: all phases there are, fewer than the stride where the whole row is shorter.
        let pitch = ax.phases.len();
        let bias = &self.plan.bias[self.vector * b.lanes..][..b.lanes];
        let first = &ax.phases[unit.phases.0];
        let times = unit.times(&ax.phases, &self.x);
        // Where the sum at time t goes, in outputs from the start of the sums: a position before those of this part.
        let place = |f: usize, t: i64| {
            let p = &ax.phases[f];
            (t - p.base + 1 - self.x.start as i64) as usize * pitch + p.first_output
        };
        let row_start = self.row_start(row);
        if unit.chunks.is_empty() {
            for t in times {
                sums[place(unit.phases.0, t) * b.lanes..][..b.lanes].copy_from_slice(bias);
            }
            return;
        }
        let [tz, ty] = [pz.valid_taps(row.positions[0]), py.valid_taps(row.positions[1])];
        let rows = self.slab.rows[1].len();
        let input_row = if tz.is_empty() || ty.is_empty() {
            0
        } else {
            let z = pz.input_index(row.positions[0], tz.start) as usize;
            self.slab.row_at(z, py.input_index(row.positions[1], ty.start) as usize)
        };
        // All taps of all phases before this one come first.
        let [bz, by, bx] = [&b.axes[0], &b.axes[1], &b.axes[2]];
        let phase_taps = bz.taps_before[row.phases[0]] * by.taps() * bx.taps()
            + pz.taps * by.taps_before[row.phases[1]] * bx.taps();
        let channel = b.group_in * b.lanes;
        // A distance of taps that no phase has two of may be anything, and is not used.
        let step = first.input_step;
        for (number, chunk) in unit.chunks.iter().enumerate() {
            let tap = chunk.shape.products() * channel;
            let weight_steps = [py.taps * tap, tap];
            let operands = Operands {
                input: self.packed,
                input_start: 0,
                input_steps: [
                    pz.input_step.saturating_mul(rows * self.slab.row),
                    py.input_step.saturating_mul(self.slab.row),
                ],
                pixel: step.saturating_mul(b.pixel()),
                per_vector: b.per_vector,
                indices: &self.plan.indices[self.vector * b.vector_indices()..][..b.vector_indices()],
                weights: &self.plan.weights,
                weight_start: self.vector * b.vector_weights()
                    + (phase_taps + pz.taps * py.taps * chunk.before) * channel
                    + tz.start * weight_steps[0]
                    + ty.start * weight_steps[1],
                weight_steps,
                taps: [tz.len(), ty.len()],
                channels: b.group_in,
            };
            let bias = (number == 0).then_some(bias);
            // Taps that lie `step` inputs apart are neighbours for every `step`-th position.
            for residue in 0..(step as i64).min(times.end - times.start) {
                let mut t = times.start + residue;
                while t < times.end {
                    let left = ((times.end - t) as usize).div_ceil(step);
                    let width = b.width(chunk.shape, left);
                    let input = (t - (chunk.first * step) as i64 - self.slab.first) as usize;
                    let o = Operands { input_start: input_row + input * b.pixel(), ..operands };
                    let to = match row_start {
                        Some(start) => self.outputs(unit, t, start),
                        None => Place::Sums {
                            sums: &mut *sums,
                            starts: [place(unit.phases.0, t), unit.phases.1.map_or(0, |f| place(f, t))],
                            step: pitch.saturating_mul(step),
                        },
                    };
                    // SAFETY: this row, these positions and these channels belong to this task alone.
                    unsafe { accumulate(simd, chunk.shape, width, &o, bias, to) };
                    t = t.saturating_add((width as i64).saturating_mul(step as i64));
                }
            }
        }
    }

    /// Where the outputs of a row start along z and y.
    #[inline(always)]
    fn position(&self, row: Row, a: usize) -> usize {
        let axis = &self.plan.geometry.axes()[a];
        axis.phases[row.phases[a]].first_output + row.positions[a] * axis.axis.stride
    }

    /// Where outputs go directly: where those of a row start. [`None`] where they pass through sums.
    #[inline(always)]
    fn row_start(&self, row: Row) -> Option<*mut T> {
        let (g, b) = (&self.plan.geometry, &self.plan.blocking);
        b.direct.then(|| {
            let channel = b.channels_of(self.vector).start;
            let start = g.output_at(self.n, channel, [self.position(row, 0), self.position(row, 1), 0]);
            let len = (g.output()[2] - 1) * g.problem().out_channels() + b.lanes;
            // SAFETY: only what belongs to this task is written through the pointer.
            unsafe { self.output.slice_ptr(start, len) }
        })
    }

    /// Applies the activation to outputs that tiles have written, in the row that starts at `start`.
    #[inline(always)]
    fn activate_row(&self, start: *mut T, outputs: Range<usize>) {
        let activation = self.plan.epilogue.activation;
        if activation == Activation::Identity {
            return;
        }
        for x in outputs {
            let at = start.wrapping_add(x * self.plan.geometry.problem().out_channels());
            // SAFETY: the vector of an output of this row, which belongs to this task alone.
            activate(activation, unsafe { std::slice::from_raw_parts_mut(at, self.plan.blocking.lanes) });
        }
    }

    /// The outputs of a tile of `unit` from time `t` on, in the row that starts at `start`.
    #[inline(always)]
    fn outputs(&self, unit: &Unit, t: i64, start: *mut T) -> Place<'static, T> {
        let g = &self.plan.geometry;
        let (axis, channels) = (&g.axes()[2], g.problem().out_channels());
        let step = axis.phases[unit.phases.0].input_step;
        let (mut to, mut valid) = ([start; 2], [0..0, 0..0]);
        for (i, f) in unit.phases().enumerate() {
            let p = &axis.phases[f];
            let q = t - p.base;
            let output = p.first_output as i64 + q * axis.axis.stride as i64;
            to[i] = start.wrapping_offset(output as isize * channels as isize);
            // The first tile position that is no output before `end`.
            let until = |end: usize| (end as i64 - q).max(0) as usize;
            let until = |end: usize| if step == 1 { until(end) } else { until(end).div_ceil(step) };
            valid[i] = until(self.x.start)..until(self.x.end.min(p.outputs));
        }
        let step = axis.axis.stride.saturating_mul(step).saturating_mul(channels);
        Place::Output { to, step, valid }
    }

    /// Stores the finished sums of one output row, from output `begin` on.
    #[inline(always)]
    fn store<S: Simd>(&self, simd: S, row: Row, begin: usize, sums: &[T]) {
        let (g, b) = (&self.plan.geometry, &self.plan.blocking);
        let channels = b.channels_of(self.vector);
        let start =
            g.output_at(self.n, channels.start, [self.position(row, 0), self.position(row, 1), begin]);
        let outputs = sums.len() / b.lanes;
        match g.problem().layout() {
            Layout::Nchw => {
                let to = Rows { output: self.output, start, step: g.output_plane() };
                // SAFETY: this row, these positions and these channels belong to this task alone.
                unsafe { transpose(simd, sums, b.lanes, to, channels.len(), outputs) };
            }
            Layout::Nhwc => {
                let step = g.problem().out_channels();
                let len = (outputs - 1) * step + channels.len();
                // SAFETY: as above; `slice_ptr` checks that they lie inside the output.
                unsafe {
                    let to = self.output.slice_ptr(start, len);
                    copy_strips(sums, b.lanes, to, step, channels.len(), outputs);
                }
            }
        }
    }
}
