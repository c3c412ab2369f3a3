//! The prepared kernel: tasks, column blocks, chunks of rows, tiles.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::ahead::Ahead;
use super::axis::PositionAxis;
use super::blocking::Blocking;
use super::direct::{Block, Direct, Vector};
use super::pack::{Columns, Place, fill, pack_weights};
use crate::contract::kernel::Prepared;
use crate::contract::request::{Declined, Refusal, Request, Weights};
use crate::machine::isa::Isa;
use crate::machine::parallel::{self, SharedOutput};
use crate::machine::scratch::{AlignedVec, Bytes64, Scratch};
use crate::machine::tensor::{Tensor, TensorMut};
use crate::microkernels::activation::activate;
use crate::microkernels::pixel_tile::{Hints, MOST_COLUMNS, MOST_VECTORS, PixelOperands, accumulate_pixels};
use crate::microkernels::vector::Float;
use crate::problem::epilogue::Epilogue;
use crate::problem::geometry::Geometry;

/// Boxes of a column block, at most: an axis has three runs.
const MOST_BOXES: usize = 9;

#[derive(Debug)]
pub struct PreparedPixelLanes<T> {
    pub geometry: Geometry,
    pub epilogue: Epilogue,
    isa: Isa,
    threads: usize,
    pub blocking: Blocking,
    scratch: Scratch,
    pub weights: AlignedVec<T>,
    /// One value for each column, block after block.
    pub bias: AlignedVec<T>,
    /// Column blocks of a group, where tiles store.
    pub blocks: Vec<Block>,
    /// Vectors of the positions of a task, where tiles store.
    pub vectors: Vec<Vector>,
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
            blocks: Block::all(&blocking)?,
            vectors: Vector::all(&blocking)?,
            blocking,
        };
        prepared.repack(weights)?;
        Ok(prepared)
    }
}

impl<T> PreparedPixelLanes<T> {
    /// Which positions a task has.
    fn place(&self, task: usize) -> Place {
        let b = &self.blocking;
        let ([tz, ty, tx], task) = (b.tasks(), task / b.parts);
        let (x, task) = (task % tx, task / tx);
        let (y, task) = (task % ty, task / ty);
        let (z, task) = (task % tz, task / tz);
        let [_, ay, ax] = &*b.axes;
        let part_of = |positions: usize, i: usize, step: usize| i * step..((i + 1) * step).min(positions);
        Place {
            n: task / b.groups,
            group: task % b.groups,
            z,
            y: part_of(ay.positions, y, b.rows),
            x: part_of(ax.positions, x, b.width),
        }
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
        parallel::run_scratch(self.threads, scratch, b.slot(), b.all_tasks(batch), |slot, task| {
            let (next, count) = (task + self.threads, b.all_tasks(batch));
            let next = (next < count).then(|| self.place(next));
            let (place, part) = (self.place(task), task % b.parts);
            self.isa.enter(Task { plan: self, input, output, slot, place, next, part });
        });
    }

    fn repack(&mut self, weights: Weights<'_>) -> Result<(), Refusal> {
        if !weights.kernel.all_finite() {
            return Err(Declined::because("weights are not finite, and padded zeros are multiplied").into());
        }
        let (kernel, bias) = weights.typed::<T>()?;
        let b = &self.blocking;
        pack_weights(&self.geometry, b, kernel, &mut self.weights);
        if let Some(bias) = bias {
            for (i, values) in self.bias.chunks_exact_mut(b.columns()).enumerate() {
                let (group, columns) = (i / b.blocks(), Columns::new(b, i % b.blocks()));
                for rx in 0..b.axes[2].stride {
                    for ry in columns.y_phases.clone() {
                        for (c, co) in columns.channels.clone().enumerate() {
                            values[columns.at(rx, ry, c)] = bias[group * b.group_out + co];
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// All outputs of some positions, for a part of the column blocks.
struct Task<'a, 'o, T> {
    plan: &'a PreparedPixelLanes<T>,
    input: &'a [T],
    output: SharedOutput<'o, T>,
    slot: &'a mut [T],
    place: Place,
    /// What this worker is likely to do next.
    next: Option<Place>,
    part: usize,
}

impl<T: Float> WithSimd for Task<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { plan, input, output, slot, place, next, part } = self;
        let b = &plan.blocking;
        let (slab, sums) = slot.split_at_mut(b.slab);
        fill(simd, &plan.geometry, b, &place, input, slab);
        let blocks = b.blocks();
        let mut ahead = Ahead::new(plan, &place, next.as_ref(), input);
        if b.direct {
            let of = blocks * part / b.parts..blocks * (part + 1) / b.parts;
            return Direct { plan, place: &place, slab, output }.run(simd, of, &mut ahead);
        }
        let (mut row, rows) = (0, place.y.len());
        while row < rows {
            let end = (row + b.chunk).min(rows);
            // All column blocks of a chunk after one another: its inputs stay near, and so do its outputs.
            for number in blocks * part / b.parts..blocks * (part + 1) / b.parts {
                let columns = &Columns::new(b, number);
                if b.axes[0].output_of(place.z, columns.z_phase).is_none() {
                    continue;
                }
                let chunk = Chunk { plan, place: &place, number, columns, rows: row..end, step: b.sum_step };
                let sums = &mut sums[..columns.per_phase() * b.axes[2].stride * b.sum_step];
                chunk.accumulate(simd, slab, sums, output, &mut ahead);
                activate(plan.epilogue.activation, sums);
                chunk.store(simd, sums, output);
            }
            row = end;
        }
    }
}

/// One column block over some rows of a task.
pub struct Chunk<'a, T> {
    pub plan: &'a PreparedPixelLanes<T>,
    pub place: &'a Place,
    /// Number of the block within its group.
    pub number: usize,
    pub columns: &'a Columns,
    /// Counted from the task's first.
    pub rows: Range<usize>,
    /// Distance of the columns' sums.
    pub step: usize,
}

/// A box of taps, ready for its tiles.
#[derive(Clone, Copy)]
struct Work<'a, T> {
    operands: PixelOperands<'a, T>,
    /// Where the sums of its columns lie.
    columns: [usize; MOST_COLUMNS],
    count: usize,
}

impl<T: Float> Chunk<'_, T> {
    #[inline(always)]
    fn accumulate<S: Simd>(
        &self,
        simd: S,
        slab: &[T],
        sums: &mut [T],
        output: SharedOutput<'_, T>,
        ahead: &mut Ahead<T>,
    ) {
        let b = &self.plan.blocking;
        let [az, ay, ax] = &*b.axes;
        let block = self.place.group * b.blocks() + self.number;
        let all = self.columns.per_phase() * ax.stride;
        let bias = &self.plan.bias[block * b.columns()..][..all];
        let z_run = &az.alone[self.columns.z_phase];
        let z = z_run.valid(self.place.z, az.input);
        let rows = self.place.y.len() + ay.halo();
        let window = |first: i64, of: &PositionAxis| (first - of.reach.start) as usize;

        // The boxes of this block, and what lies where.
        let mut panel = &self.plan.weights[block * b.panel..];
        let mut works = [const { None }; MOST_BOXES];
        let mut boxes = 0;
        for pair in self.columns.boxes(b) {
            let count = pair.count(self.columns);
            let plane = pair.y.windows * pair.x.windows * b.group_in * count;
            let (weights, others) = panel.split_at(z_run.windows * plane);
            panel = others;
            if z.is_empty() {
                continue;
            }
            let mut columns = [0; MOST_COLUMNS];
            for (column, (rx, ry, c)) in columns.iter_mut().zip(pair.columns(self.columns)) {
                *column = self.columns.at(rx, ry, c) * self.step;
            }
            let planes = window(z_run.window(z.start), az);
            let operands = PixelOperands {
                input: slab,
                input_start: (planes * rows + self.rows.start + window(pair.y.first, ay)) * b.pitch
                    + window(pair.x.first, ax),
                input_steps: [z_run.step * rows * b.pitch, pair.y.step * b.pitch, pair.x.step],
                channel_step: b.channel_step,
                weights: &weights[z.start * plane..z.end * plane],
                taps: [z.len(), pair.y.windows, pair.x.windows],
                weight_step: b.group_in * count,
                channels: b.group_in,
                columns: &[],
                hints: Hints::none(slab),
                start: None,
            };
            works[boxes] = Some(Work { operands, columns, count });
            boxes += 1;
        }
        // A box of all columns goes first and starts from the bias; without one, the sums do.
        let whole = works[..boxes].iter().position(|w| w.as_ref().is_some_and(|w| w.count == all));
        match whole {
            Some(i) => works.swap(0, i),
            None => {
                for (sums, bias) in sums.chunks_exact_mut(self.step).zip(bias) {
                    sums.fill(*bias);
                }
            }
        }
        if let (Some(_), Some(work)) = (whole, &mut works[0]) {
            work.operands.start = Some(bias);
        }
        let vectors = b.vectors_of(self.rows.len());
        let mut vector = 0;
        while vector < vectors {
            self.ask_for_outputs(output, vector..(vector + b.vectors).min(vectors), vectors);
            let wide = (vectors - vector).next_multiple_of(2).min(b.vectors);
            let mut starts = [0; MOST_VECTORS];
            for (i, start) in starts[..wide].iter_mut().enumerate() {
                *start = b.vector_at((vector + i).min(vectors - 1));
            }
            let sums = &mut sums[vector * b.lanes..];
            let mut channel = 0;
            while channel < b.group_in {
                let channels = b.pass.min(b.group_in - channel);
                for work in works[..boxes].iter().flatten() {
                    let all = &work.operands;
                    let hints = if channel == 0 {
                        ahead.next(all.taps.iter().product(), all.hints)
                    } else {
                        all.hints
                    };
                    let operands = PixelOperands {
                        columns: &work.columns[..work.count],
                        hints,
                        channels,
                        input_start: all.input_start + channel * b.channel_step,
                        weights: &all.weights[channel * work.count..],
                        start: if channel == 0 { all.start } else { None },
                        ..*all
                    };
                    accumulate_pixels(simd, &operands, &starts[..wide], sums);
                }
                channel += channels;
            }
            vector += wide;
        }
    }
}
