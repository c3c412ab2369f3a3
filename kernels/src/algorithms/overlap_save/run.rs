//! The prepared kernel: the points of a block of windows, then for each part of the columns products, sums and stores.

use pulp::{Simd, WithSimd};

use super::blocking::{Blocking, Task};
use super::fourier::Fourier;
use super::pack::{column, pack_group};
use crate::contract::kernel::Prepared;
use crate::contract::request::{Declined, Refusal, Request, Weights};
use crate::machine::isa::Isa;
use crate::machine::parallel::{self, SharedOutput};
use crate::machine::scratch::{AlignedVec, Bytes64, Scratch};
use crate::machine::tensor::{Tensor, TensorMut};
use crate::microkernels::activation::activate;
use crate::microkernels::copy::{copy, zero};
use crate::microkernels::point_tile::{PointOperands, accumulate_point};
use crate::microkernels::transpose::{Rows, transpose};
use crate::microkernels::vector::Float;
use crate::problem::epilogue::Epilogue;
use crate::problem::geometry::Geometry;
use crate::problem::problem::Layout;

#[derive(Debug)]
pub struct PreparedOverlapSave<T> {
    geometry: Geometry,
    epilogue: Epilogue,
    isa: Isa,
    threads: usize,
    blocking: Blocking,
    scratch: Scratch,
    fourier: Fourier<T>,
    weights: AlignedVec<T>,
    /// One value for each column of a group padded to whole vectors, group after group.
    bias: AlignedVec<T>,
}

impl<T: Float> PreparedOverlapSave<T> {
    pub fn new(request: &Request<'_>, blocking: Blocking, weights: Weights<'_>) -> Result<Self, Refusal> {
        let (threads, scratch) = blocking.workers(request);
        let packed = blocking.group_weights() * blocking.groups;
        let mut prepared = Self {
            geometry: request.geometry.clone(),
            epilogue: request.epilogue,
            isa: request.target.isa,
            threads,
            scratch,
            fourier: Fourier::new(blocking.length),
            weights: AlignedVec::zeroed("spectra of the weights", packed)?,
            bias: AlignedVec::zeroed("bias", blocking.groups * blocking.padded_columns())?,
            blocking,
        };
        prepared.pack(weights)?;
        Ok(prepared)
    }

    fn pack(&mut self, weights: Weights<'_>) -> Result<(), Refusal> {
        if !weights.kernel.all_finite() {
            return Err(Declined::because("a spectrum of weights that are not finite says nothing").into());
        }
        let (kernel, bias) = weights.typed::<T>()?;
        let b = &self.blocking;
        for (group, packed) in self.weights.chunks_exact_mut(b.group_weights()).enumerate() {
            pack_group(&self.geometry, b, group, kernel, packed);
        }
        if let Some(bias) = bias {
            for (group, to) in self.bias.chunks_exact_mut(b.padded_columns()).enumerate() {
                for (c, to) in to[..b.columns].iter_mut().enumerate() {
                    *to = bias[group * b.group_out + column(&self.geometry, b, c).0];
                }
            }
        }
        Ok(())
    }
}

impl<T: Float> Prepared for PreparedOverlapSave<T> {
    fn scratch(&self) -> Scratch {
        self.scratch
    }

    fn run(&self, input: Tensor<'_>, output: TensorMut<'_>, scratch: &mut [Bytes64]) {
        let input = T::slice(&input).expect("checked by the plan");
        let output = SharedOutput::new(T::slice_mut(output).expect("checked by the plan"));
        let b = &self.blocking;
        let buffers = b.buffers(T::DTYPE.size());
        parallel::run_scratch(self.threads, scratch, buffers.iter().sum(), b.tasks(), |slot, task| {
            self.isa.enter(Block { plan: self, input, output, slot, task: b.task(task) });
        });
    }

    fn repack(&mut self, weights: Weights<'_>) -> Result<(), Refusal> {
        self.pack(weights)
    }
}

/// One task at work.
struct Block<'a, 'o, T> {
    plan: &'a PreparedOverlapSave<T>,
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
        let [staged, places, work, points, sums, _] = plan.blocking.buffers(T::DTYPE.size());
        let (staged, rest) = slot.split_at_mut(staged);
        let (places, rest) = rest.split_at_mut(places);
        let (work, rest) = rest.split_at_mut(work);
        let (points, rest) = rest.split_at_mut(points);
        let (sums, outputs) = rest.split_at_mut(sums);
        simd.vectorize(Fill { plan, task: &task, input, staged, places, work, points });
        for part in task.parts.clone() {
            let part = Part { plan, task: &task, part };
            simd.vectorize(Products { part, points, sums });
            simd.vectorize(Finish { part, sums, work, outputs, output });
        }
    }
}

/// Transforms the windows of a task: `points` becomes `[point][channel block][row][lanes]`.
struct Fill<'a, T> {
    plan: &'a PreparedOverlapSave<T>,
    task: &'a Task,
    input: &'a [T],
    staged: &'a mut [T],
    places: &'a mut [T],
    work: &'a mut [T],
    points: &'a mut [T],
}

impl<T: Float> WithSimd for Fill<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { plan, task, input, staged, places, work, points } = self;
        let (b, lanes) = (&plan.blocking, plan.blocking.lanes);
        let (blocks, rows) = (b.padded_in() / lanes, task.rows.len());
        let mut row = task.rows.start;
        while row < task.rows.end {
            // The windows of one image.
            let (n, window) = (row / b.windows, row % b.windows);
            let count = (b.windows - window).min(task.rows.end - row);
            let first = b.positions.start + (window * b.step()) as i64 - (b.taps - 1) as i64;
            let source = Source { plan, input, group: task.group, n, first, len: b.reads(count) };
            zero(simd, staged);
            for block in 0..blocks {
                source.gather(simd, block, staged, places);
                for i in 0..count {
                    let from = &places[i * b.step() * lanes..][..b.length * lanes];
                    let at = (block * rows + row - task.rows.start + i) * lanes;
                    let step = blocks * rows * lanes;
                    plan.fourier.forward(simd, from, work, |point, value| {
                        let to = &mut points[at + point * step..][..lanes];
                        bytemuck::cast_slice_mut::<T, T::Vector<S>>(to)[0] = value;
                    });
                }
            }
            row += count;
        }
    }
}

/// Successive inputs of one image and group, from a place that may lie outside.
struct Source<'a, T> {
    plan: &'a PreparedOverlapSave<T>,
    input: &'a [T],
    group: usize,
    n: usize,
    first: i64,
    len: usize,
}

impl<T: Float> Source<'_, T> {
    /// `[position][lanes]` of one block of channels; zeros outside the input and beyond the channels. `staged` was zeroed
    /// before the first block.
    #[inline(always)]
    fn gather<S: Simd>(&self, simd: S, block: usize, staged: &mut [T], places: &mut [T]) {
        let (g, b) = (&self.plan.geometry, &self.plan.blocking);
        let lanes = b.lanes;
        let width = g.input()[2] as i64;
        let begin = self.first.clamp(0, width);
        let end = (self.first + self.len as i64).clamp(begin, width);
        let inside = (begin - self.first) as usize..(end - self.first) as usize;
        let channels = lanes.min(b.group_in - block * lanes);
        let channel = self.group * b.group_in + block * lanes;
        if inside.is_empty() {
            return zero(simd, &mut places[..self.len * lanes]);
        }
        let from = &self.input[g.input_at(self.n, channel, [0, 0, begin as usize])..];
        match g.problem().layout() {
            Layout::Nchw => {
                let pitch = b.pitch(T::DTYPE.size());
                for c in 0..channels {
                    let to = &mut staged[c * pitch..][inside.clone()];
                    copy(simd, &from[c * g.input_plane()..][..to.len()], to);
                }
                for c in channels..lanes {
                    zero(simd, &mut staged[c * pitch..][inside.clone()]);
                }
                let to = Rows { output: SharedOutput::new(places), start: 0, step: lanes };
                // SAFETY: the places are borrowed mutably here.
                unsafe { transpose(simd, staged, pitch, to, self.len.next_multiple_of(lanes), lanes) };
            }
            Layout::Nhwc => {
                zero(simd, &mut places[..inside.start * lanes]);
                zero(simd, &mut places[inside.end * lanes..self.len * lanes]);
                let to = &mut places[inside.start * lanes..inside.end * lanes];
                if channels < lanes {
                    zero(simd, to);
                }
                for (to, from) in to.chunks_exact_mut(lanes).zip(from.chunks(g.problem().in_channels())) {
                    copy(simd, &from[..channels], &mut to[..channels]);
                }
            }
        }
    }
}

/// One part of the columns in a task.
#[derive(Clone, Copy)]
struct Part<'a, T> {
    plan: &'a PreparedOverlapSave<T>,
    task: &'a Task,
    part: usize,
}

/// Sums over the input channels of every point: `[point][tile][row][column of the tile]`.
struct Products<'a, T> {
    part: Part<'a, T>,
    points: &'a [T],
    sums: &'a mut [T],
}

impl<T: Float> WithSimd for Products<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { part: Part { plan, task, part }, points, sums } = self;
        let b = &plan.blocking;
        let (lanes, channels, rows) = (b.lanes, b.padded_in(), task.rows.len());
        let columns = b.part_columns(part);
        let weights = &plan.weights[task.group * b.group_weights()..][..b.group_weights()];
        let weights = &weights[b.points() * channels * part * b.part..];
        let panels = rows.div_ceil(b.pixels);
        for point in 0..b.points() {
            let points = &points[point * channels * rows..][..channels * rows];
            for (at, vectors) in b.tiles(part) {
                let width = vectors * lanes;
                let weights = &weights[(point * columns + at) * channels..][..channels * width];
                let sums = &mut sums[(point * columns + at) * rows..][..rows * width];
                for i in 0..panels {
                    let (from, to) = (rows * i / panels, rows * (i + 1) / panels);
                    let operands = PointOperands {
                        input: &points[from * lanes..],
                        block_step: rows * lanes,
                        blocks: channels / lanes,
                        weights,
                        ahead: channels * width,
                    };
                    let sums = &mut sums[from * width..to * width];
                    accumulate_point(simd, vectors, to - from, operands, false, sums);
                }
            }
        }
    }
}

/// Transforms sums back, with bias and activation, and stores them.
struct Finish<'a, 'o, T> {
    part: Part<'a, T>,
    sums: &'a [T],
    work: &'a mut [T],
    outputs: &'a mut [T],
    output: SharedOutput<'o, T>,
}

impl<T: Float> WithSimd for Finish<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { part: place @ Part { plan, task, part }, sums, work, outputs, output } = self;
        let (b, lanes, rows) = (&plan.blocking, plan.blocking.lanes, task.rows.len());
        let columns = b.part_columns(part);
        for (at, vectors) in b.tiles(part) {
            let width = vectors * lanes;
            let first = part * b.part + at;
            let bias = &plan.bias[task.group * b.padded_columns() + first..][..width];
            let bias: &[T::Vector<S>] = bytemuck::cast_slice(bias);
            for row in 0..rows {
                for (v, &bias) in bias.iter().enumerate() {
                    let from = at * rows + row * width + v * lanes;
                    let get = |point: usize| T::load(simd, &sums[from + point * columns * rows..]);
                    plan.fourier.inverse(simd, get, work);
                    let work: &[T::Vector<S>] = bytemuck::cast_slice(work);
                    let outputs: &mut [T::Vector<S>] = bytemuck::cast_slice_mut(outputs);
                    for (q, to) in outputs[v..].iter_mut().step_by(vectors).take(b.step()).enumerate() {
                        *to = <T as Float>::add(simd, work[(b.taps - 1 + q) ^ 1], bias);
                    }
                }
                let outputs = &mut outputs[..b.step() * width];
                activate(plan.epilogue.activation, outputs);
                place.store(simd, task.rows.start + row, first, width, outputs, output);
            }
        }
    }
}

impl<T: Float> Part<'_, T> {
    /// Stores the outputs of a row, `[position][width]`, of the columns from `first` on.
    #[inline(always)]
    fn store<S: Simd>(
        &self,
        simd: S,
        row: usize,
        first: usize,
        width: usize,
        outputs: &[T],
        to: SharedOutput<'_, T>,
    ) {
        let (g, b) = (&self.plan.geometry, &self.plan.blocking);
        let p = g.problem();
        let (n, window) = (row / b.windows, row % b.windows);
        let channel = self.task.group * b.group_out;
        let columns = width.min(b.columns - first);
        let axis = &g.axes()[2];
        let left = (b.positions.end - b.positions.start) as usize - window * b.step();
        for (q, outputs) in outputs.chunks_exact(width).take(left).enumerate() {
            // The place that the first phase has at this position; outputs before 0 and from O on were cropped.
            let position = b.positions.start + (window * b.step() + q) as i64;
            let place = position * b.stride as i64 - axis.axis.padding.0 as i64;
            let mut c = 0;
            while c < columns {
                let (strip, within) = ((first + c) / b.run, (first + c) % b.run);
                let len = (b.run - within).min(columns - c);
                let (base, at, limit) = match p.layout() {
                    Layout::Nchw => {
                        (g.output_at(n, channel + strip, [0; 3]), place + within as i64, axis.output)
                    }
                    Layout::Nhwc => (
                        g.output_at(n, 0, [0; 3]),
                        (place + strip as i64) * p.out_channels() as i64 + (channel + within) as i64,
                        axis.output * p.out_channels(),
                    ),
                };
                let begin = at.clamp(0, limit as i64);
                let end = (at + len as i64).clamp(begin, limit as i64);
                if begin < end {
                    let from = &outputs[c + (begin - at) as usize..][..(end - begin) as usize];
                    // SAFETY: these columns and positions belong to this task alone.
                    let to = unsafe { to.slice_mut(base + begin as usize, from.len()) };
                    copy(simd, from, to);
                }
                c += len;
            }
        }
    }
}
