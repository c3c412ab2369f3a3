//! The prepared kernel: for each block the points of its inputs, then for each channel block products, sums and stores.

use pulp::{Simd, WithSimd};

use super::blocking::{Blocking, Pair, Task};
use super::forms::{Form, Turn, back};
use super::pack::pack_group;
use super::transform::Source;
use crate::contract::kernel::Prepared;
use crate::contract::request::{Declined, Refusal, Request, Weights};
use crate::machine::isa::Isa;
use crate::machine::parallel::{self, SharedOutput};
use crate::machine::scratch::{AlignedVec, Bytes64, Scratch};
use crate::machine::tensor::{Dtype, Tensor, TensorMut};
use crate::microkernels::activation::activate;
use crate::microkernels::point_tile::{PointOperands, accumulate_point};
use crate::microkernels::transpose::{Rows, transpose};
use crate::microkernels::vector::Float;
use crate::problem::epilogue::Epilogue;
use crate::problem::geometry::Geometry;
use crate::problem::problem::Layout;

#[derive(Debug)]
pub struct PreparedWinograd<T> {
    geometry: Geometry,
    epilogue: Epilogue,
    isa: Isa,
    threads: usize,
    blocking: Blocking,
    scratch: Scratch,
    weights: AlignedVec<T>,
    /// One value for each output channel of a group padded to whole vectors, group after group.
    bias: AlignedVec<T>,
}

impl<T: Float> PreparedWinograd<T> {
    pub fn new(request: &Request<'_>, weights: Weights<'_>) -> Result<Self, Refusal> {
        let blocking = Blocking::new(request)?;
        let (threads, scratch) = blocking.workers(request);
        let packed = blocking.group_weights() * blocking.groups;
        let mut prepared = Self {
            geometry: request.geometry.clone(),
            epilogue: request.epilogue,
            isa: request.target.isa,
            threads,
            scratch,
            weights: AlignedVec::zeroed("packed weights", packed)?,
            bias: AlignedVec::zeroed("bias", blocking.groups * blocking.padded_out())?,
            blocking,
        };
        prepared.pack(weights)?;
        Ok(prepared)
    }

    fn pack(&mut self, weights: Weights<'_>) -> Result<(), Refusal> {
        let (kernel, bias) = weights.typed::<T>()?;
        // A point of weights is at most 31/15 times the largest of them, along each axis.
        let most = match T::DTYPE {
            Dtype::F32 => f64::from(f32::MAX) / 16.0,
            Dtype::F64 => f64::MAX / 16.0,
        };
        if let Some(weight) = kernel.iter().map(|w| w.to_f64()).find(|w| w.is_nan() || w.abs() > most) {
            return Err(
                Declined::because(format!("a weight is {weight:e}: its points may be infinite")).into()
            );
        }
        let b = &self.blocking;
        for (group, packed) in self.weights.chunks_exact_mut(b.group_weights().max(1)).enumerate() {
            pack_group(&self.geometry, b, group, kernel, packed)?;
        }
        if let Some(bias) = bias {
            let padded = b.padded_out();
            for (group, values) in bias.chunks_exact(b.group_out).enumerate() {
                self.bias[group * padded..][..b.group_out].copy_from_slice(values);
            }
        }
        Ok(())
    }
}

impl<T: Float> Prepared for PreparedWinograd<T> {
    fn scratch(&self) -> Scratch {
        self.scratch
    }

    fn run(&self, input: Tensor<'_>, output: TensorMut<'_>, scratch: &mut [Bytes64]) {
        let input = T::slice(&input).expect("checked by the plan");
        let output = SharedOutput::new(T::slice_mut(output).expect("checked by the plan"));
        let b = &self.blocking;
        parallel::run_scratch(self.threads, scratch, b.slot(), b.tasks(), |slot, task| {
            self.isa.enter(Block { plan: self, input, output, slot, task: b.task(task) });
        });
    }

    fn repack(&mut self, weights: Weights<'_>) -> Result<(), Refusal> {
        self.pack(weights)
    }
}

/// One task at work.
struct Block<'a, 'o, T> {
    plan: &'a PreparedWinograd<T>,
    input: &'a [T],
    output: SharedOutput<'o, T>,
    slot: &'a mut [T],
    task: Task,
}

impl<T: Float> WithSimd for Block<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { plan, input, output, slot, task } = self;
        let b = &plan.blocking;
        let (points, rest) = slot.split_at_mut(b.points);
        let (raw, rest) = rest.split_at_mut(2 * b.raw);
        let (sums, rest) = rest.split_at_mut(2 * b.sums);
        let source = Source { geometry: &plan.geometry, blocking: b, task: &task, input };
        simd.vectorize(Fill { source, raw, points });
        for block in task.blocks.clone() {
            let part = Channels { plan, task: &task, pair: &b.pairs[task.pair], output, block };
            simd.vectorize(Finish { part, points, sums, outputs: &mut rest[..b.outputs] });
        }
    }
}

struct Fill<'a, T> {
    source: Source<'a, T>,
    raw: &'a mut [T],
    points: &'a mut [T],
}

impl<T: Float> WithSimd for Fill<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.source.points(simd, self.raw, self.points);
    }
}

/// One channel block of a task.
struct Channels<'a, 'o, T> {
    plan: &'a PreparedWinograd<T>,
    task: &'a Task,
    pair: &'a Pair,
    output: SharedOutput<'o, T>,
    block: usize,
}

struct Finish<'a, 'o, T> {
    part: Channels<'a, 'o, T>,
    points: &'a [T],
    sums: &'a mut [T],
    outputs: &'a mut [T],
}

impl<T: Float> WithSimd for Finish<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { part, mut points, sums, outputs } = self;
        let b = &part.plan.blocking;
        let width = part.vectors() * b.lanes;
        let x = &b.axes[2];
        let begin = part.task.x * b.x_step * x.distance;
        let row = (part.plan.geometry.output()[2] - begin).min(b.x_step * x.distance);
        // Whole tiles may reach beyond the row.
        let pitch = b.x_step * x.distance * width;
        for (s, sub) in x.subs.iter().enumerate() {
            let pixels = part.task.rows.len() * b.x_tiles(s, part.task.x);
            let all = part.pair.points * sub.form.points();
            let (own, rest) = points.split_at(all * b.padded_in() * pixels);
            points = rest;
            if pixels > 0 {
                part.products(simd, s, own, &mut sums[..all * pixels * width]);
                part.turn_back(simd, s, sums, outputs, pitch);
            }
        }
        part.store(simd, begin, row, pitch, outputs);
    }
}

impl<T: Float> Channels<'_, '_, T> {
    fn first_channel(&self) -> usize {
        self.block * self.plan.blocking.block()
    }

    fn vectors(&self) -> usize {
        self.plan.blocking.vectors(self.first_channel())
    }

    /// Sums over the input channels of every point of sub-phase `s` along x: `[point][tile row][tile][width]`.
    #[inline(always)]
    fn products<S: Simd>(&self, simd: S, s: usize, points: &[T], sums: &mut [T]) {
        let b = &self.plan.blocking;
        let (vectors, lanes) = (self.vectors(), b.lanes);
        let (width, channels) = (vectors * lanes, b.padded_in());
        let all = self.pair.points * b.axes[2].subs[s].form.points();
        let pixels = sums.len() / (all * width);
        let weights = b.weights_at(self.task.group, self.pair, self.first_channel())
            + self.pair.points * b.x_before[s] * channels * width;
        let weights = &self.plan.weights[weights..][..all * channels * width];
        let panels = pixels.div_ceil(b.pixels);
        for point in 0..all {
            let points = &points[point * channels * pixels..][..channels * pixels];
            let sums = &mut sums[point * pixels * width..][..pixels * width];
            for i in 0..panels {
                let (from, to) = (pixels * i / panels, pixels * (i + 1) / panels);
                let operands = PointOperands {
                    input: &points[from * lanes..],
                    block_step: pixels * lanes,
                    blocks: channels / lanes,
                    weights: &weights[point * channels * width..],
                    ahead: channels * width,
                };
                let sums = &mut sums[from * width..to * width];
                accumulate_point(simd, vectors, to - from, operands, false, sums);
            }
        }
    }

    /// Turns the sums of sub-phase `s` along x back: along z and y between the two halves of `sums`, along x with the bias
    /// to the output rows, `[tile row][output z][output y][x][width]`, rows at distance `pitch`.
    #[inline(always)]
    fn turn_back<S: Simd>(&self, simd: S, s: usize, sums: &mut [T], outputs: &mut [T], pitch: usize) {
        let b = &self.plan.blocking;
        let [z, y] = self.forms();
        let (x, sub) = (&b.axes[2], &b.axes[2].subs[s]);
        let width = self.vectors() * b.lanes;
        let tiles = b.x_tiles(s, self.task.x);
        let point = self.task.rows.len() * tiles * width;
        let row = sub.form.points() * point;
        let (mut from, mut to) = sums.split_at_mut(b.sums);
        if z != Form::F11 {
            let run = y.points() * row;
            back(simd, z, Turn::single(run, 0, run, 0, run), from, None, to);
            (from, to) = (to, from);
        }
        if y != Form::F11 {
            for oz in 0..z.outputs() {
                let turn = Turn::single(row, oz * y.points() * row, row, oz * y.outputs() * row, row);
                back(simd, y, turn, from, None, to);
            }
            from = to;
        }
        let bias = &self.plan.bias[self.task.group * b.padded_out() + self.first_channel()..][..width];
        for r in 0..self.task.rows.len() {
            for o in 0..z.outputs() * y.outputs() {
                let turn = Turn {
                    windows: tiles,
                    run: width,
                    from: o * row + r * tiles * width,
                    from_window: width,
                    from_step: point,
                    to: (r * z.outputs() * y.outputs() + o) * pitch + sub.first_output * width,
                    to_window: sub.form.outputs() * x.distance * width,
                    to_step: x.distance * width,
                };
                back(simd, sub.form, turn, from, Some(bias), outputs);
            }
        }
    }

    /// Forms along z and y.
    fn forms(&self) -> [Form; 2] {
        [0, 1].map(|a| self.plan.blocking.axes[a].subs[self.pair.subs[a]].form)
    }

    /// Activates and stores the output rows, `length` elements of each from `begin` on.
    #[inline(always)]
    fn store<S: Simd>(&self, simd: S, begin: usize, length: usize, pitch: usize, outputs: &mut [T]) {
        let b = &self.plan.blocking;
        let [mz, my] = self.forms().map(Form::outputs);
        let width = self.vectors() * b.lanes;
        let mut rows = outputs.chunks_exact_mut(pitch);
        for tile_row in self.task.rows.clone() {
            let [z, y] = [0, 1].map(|a| b.axes[a].subs[self.pair.subs[a]]);
            let (ty, rest) = (tile_row % y.tiles, tile_row / y.tiles);
            let (tz, n) = (rest % z.tiles, rest / z.tiles);
            for oz in tz * mz..(tz + 1) * mz {
                for oy in ty * my..(ty + 1) * my {
                    let row = rows.next().expect("a row for each");
                    if oz < z.outputs && oy < y.outputs {
                        let at = [
                            z.first_output + oz * b.axes[0].distance,
                            y.first_output + oy * b.axes[1].distance,
                            begin,
                        ];
                        let row = &mut row[..length * width];
                        activate(self.plan.epilogue.activation, row);
                        self.store_row(simd, n, at, row);
                    }
                }
            }
        }
    }

    /// Stores one row of finished outputs, from position `at` of image `n` on.
    #[inline(always)]
    fn store_row<S: Simd>(&self, simd: S, n: usize, at: [usize; 3], row: &[T]) {
        let (g, b) = (&self.plan.geometry, &self.plan.blocking);
        let first = self.first_channel();
        let width = self.vectors() * b.lanes;
        let channels = width.min(b.group_out - first);
        let start = g.output_at(n, self.task.group * b.group_out + first, at);
        match g.problem().layout() {
            Layout::Nchw => {
                let to = Rows { output: self.output, start, step: g.output_plane() };
                // SAFETY: this row, these positions and these channels belong to this task alone.
                unsafe { transpose(simd, row, width, to, channels, row.len() / width) };
            }
            Layout::Nhwc => {
                let step = g.problem().out_channels();
                for (i, pixel) in row.chunks_exact(width).enumerate() {
                    // SAFETY: as above.
                    let to = unsafe { self.output.slice_mut(start + i * step, channels) };
                    to.copy_from_slice(&pixel[..channels]);
                }
            }
        }
    }
}
