//! The prepared kernel: tasks, chunks of output rows, tiles, stores.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::blocking::Blocking;
use super::fetch::Fetch;
use super::pack::pack_group;
use crate::contract::kernel::Prepared;
use crate::contract::request::{Refusal, Request, Weights};
use crate::error::Error;
use crate::machine::isa::Isa;
use crate::machine::parallel::{self, SharedOutput};
use crate::machine::scratch::{AlignedVec, Bytes64, Scratch};
use crate::machine::tensor::{Tensor, TensorMut};
use crate::microkernels::activation::activate;
use crate::microkernels::copy::{copy, pad_groups};
use crate::microkernels::slab::{Slab, positions_of_task};
use crate::microkernels::tile::{Operands, Soon, accumulate};
use crate::microkernels::transpose::{Rows, transpose};
use crate::microkernels::vector::Float;
use crate::problem::epilogue::Epilogue;
use crate::problem::geometry::{Geometry, Phase};
use crate::problem::problem::Layout;

#[derive(Debug)]
pub struct PreparedPolyphase<T> {
    geometry: Geometry,
    epilogue: Epilogue,
    isa: Isa,
    threads: usize,
    blocking: Blocking,
    scratch: Scratch,
    /// Non-finite weights: no tap may meet the zeros beside a row, since 0·∞ is not 0.
    exact_taps: bool,
    weights: AlignedVec<T>,
    /// One value for each output channel of a group padded to whole vectors, group after group.
    bias: AlignedVec<T>,
}

impl<T: Float> PreparedPolyphase<T> {
    pub fn new(request: &Request<'_>, weights: Weights<'_>) -> Result<Self, Error> {
        let blocking = Blocking::new(request);
        let (threads, scratch) = blocking.workers(request);
        let mut prepared = Self {
            geometry: request.geometry.clone(),
            epilogue: request.epilogue,
            isa: request.target.isa,
            threads,
            scratch,
            exact_taps: false,
            weights: AlignedVec::zeroed("packed weights", blocking.packed_weights())?,
            bias: AlignedVec::zeroed("bias", blocking.groups * blocking.padded_out())?,
            blocking,
        };
        prepared.pack(weights)?;
        Ok(prepared)
    }

    fn pack(&mut self, weights: Weights<'_>) -> Result<(), Error> {
        let (kernel, bias) = weights.typed::<T>()?;
        let b = &self.blocking;
        self.exact_taps = !weights.kernel.all_finite();
        for (group, packed) in self.weights.chunks_exact_mut(b.group_weights().max(1)).enumerate() {
            pack_group(&self.geometry, b, group, kernel, packed);
        }
        if let Some(bias) = bias {
            pad_groups(bias, b.group_out, &mut self.bias, b.padded_out());
        }
        Ok(())
    }
}

impl<T> PreparedPolyphase<T> {
    fn place(&self, task: usize) -> Place {
        let b = &self.blocking;
        let (part, task) = (task % b.channel_parts, task / b.channel_parts);
        let (positions, task) = positions_of_task(&b.axes, task);
        let groups = self.geometry.problem().groups();
        Place { n: task / groups, group: task % groups, part, positions }
    }

    fn slab(&self, positions: &[Range<usize>; 3]) -> Slab {
        let b = &self.blocking;
        Slab::new(&b.axes, self.geometry.input(), b.group_in, b.pitch, positions)
    }
}

impl<T: Float> Prepared for PreparedPolyphase<T> {
    fn scratch(&self) -> Scratch {
        self.scratch
    }

    fn run(&self, input: Tensor<'_>, output: TensorMut<'_>, scratch: &mut [Bytes64]) {
        let input = T::slice(&input).expect("checked by the plan");
        let output = SharedOutput::new(T::slice_mut(output).expect("checked by the plan"));
        let (b, p) = (&self.blocking, self.geometry.problem());
        parallel::run_scratch(self.threads, scratch, b.slot(), b.all_tasks(p.batch()), |slot, task| {
            let next = task + self.threads;
            let next = (next < b.all_tasks(p.batch())).then(|| self.place(next));
            self.isa.enter(Task { plan: self, input, output, slot, place: self.place(task), next });
        });
    }

    fn repack(&mut self, weights: Weights<'_>) -> Result<(), Refusal> {
        Ok(self.pack(weights)?)
    }
}

/// All outputs of some positions, for some channel blocks of one group of one image.
struct Task<'a, 'o, T> {
    plan: &'a PreparedPolyphase<T>,
    input: &'a [T],
    output: SharedOutput<'o, T>,
    slot: &'a mut [T],
    place: Place,
    /// What this worker is likely to do next.
    next: Option<Place>,
}

/// Which outputs a task calculates.
struct Place {
    n: usize,
    group: usize,
    part: usize,
    positions: [Range<usize>; 3],
}

/// One output row of a chunk: its phase positions along z and y.
type Row = [usize; 2];

impl<T: Float> WithSimd for Task<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { plan, input, place: Place { n, group, part, ref positions }, .. } = self;
        let (g, b) = (&plan.geometry, &plan.blocking);
        let (packed, sums) = self.slot.split_at_mut(b.slab);
        let slab = plan.slab(positions);
        slab.fill(simd, g, n, group, input, packed);

        let blocks = b.blocks();
        let blocks = blocks * part / b.channel_parts..blocks * (part + 1) / b.channel_parts;
        let rows_along = |a: usize| {
            let outputs = |p: &Phase| p.outputs.min(positions[a].end).saturating_sub(positions[a].start);
            g.axes()[a].phases.iter().map(outputs).sum::<usize>()
        };
        let rows = blocks.len() * rows_along(0) * rows_along(1);
        let next = self.next.map(|next| (next.n, next.group, plan.slab(&next.positions)));
        let mut fetch = Fetch::new(g, input, next, rows);
        for block in blocks {
            for (iz, pz) in g.axes()[0].phases.iter().enumerate() {
                for (iy, py) in g.axes()[1].phases.iter().enumerate() {
                    let z = positions[0].start..positions[0].end.min(pz.outputs);
                    let y = positions[1].start..positions[1].end.min(py.outputs);
                    let rows = z.len() * y.len();
                    let chunk = Chunk {
                        plan,
                        slab: &slab,
                        packed,
                        output: self.output,
                        n,
                        group,
                        block,
                        phases: [iz, iy],
                        x: positions[2].clone(),
                    };
                    let row = |i: usize| [z.start + i / y.len(), y.start + i % y.len()];
                    let mut first = 0;
                    while first < rows {
                        let last = (first + b.rows).min(rows);
                        simd.vectorize(Rowwise {
                            chunk: &chunk,
                            fetch: &mut fetch,
                            sums,
                            rows: (first..last).map(row),
                        });
                        first = last;
                    }
                }
            }
        }
    }
}

/// Output rows of one phase along z and y, one channel block.
struct Chunk<'a, 'o, T> {
    plan: &'a PreparedPolyphase<T>,
    slab: &'a Slab,
    packed: &'a [T],
    output: SharedOutput<'o, T>,
    n: usize,
    group: usize,
    block: usize,
    phases: [usize; 2],
    x: Range<usize>,
}

struct Rowwise<'a, 'c, 'o, T, R> {
    chunk: &'a Chunk<'c, 'o, T>,
    fetch: &'a mut Fetch<T>,
    sums: &'a mut [T],
    rows: R,
}

impl<T: Float, R: Iterator<Item = Row> + Clone> WithSimd for Rowwise<'_, '_, '_, T, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { chunk, fetch, sums, rows } = self;
        let (g, b) = (&chunk.plan.geometry, &chunk.plan.blocking);
        let first_channel = chunk.block * b.block();
        let width = b.vectors(first_channel) * b.lanes;
        let stride = g.axes()[2].axis.stride;
        // Outputs of one row in this chunk.
        let begin = chunk.x.start * stride;
        let outputs = (chunk.x.end * stride).min(g.output()[2]) - begin;
        let mut pass = 0;
        while pass < b.group_in {
            let channels = pass..(pass + b.pass).min(b.group_in);
            let share = rows.clone().count();
            for (r, row) in rows.clone().enumerate() {
                let sums = &mut sums[r * outputs * width..][..outputs * width];
                if pass == 0 {
                    let start = chunk.output_row(row, begin);
                    let sizes = [outputs, chunk.channels(), channels.len()];
                    fetch.row(g, &chunk.output, start, sizes);
                }
                for phase in 0..g.axes()[2].phases.len() {
                    chunk.row_phase(simd, row, phase, channels.clone(), (r, share), fetch, sums);
                }
            }
            pass = channels.end;
        }
        for (r, row) in rows.enumerate() {
            let sums = &mut sums[r * outputs * width..][..outputs * width];
            activate(chunk.plan.epilogue.activation, sums);
            chunk.store(simd, row, begin, sums);
        }
    }
}

impl<T: Float> Chunk<'_, '_, T> {
    /// Adds one pass over `channels` to the sums of one phase along x of one output row, number `share.0` of `share.1` that
    /// use the same weights.
    #[inline(always)]
    fn row_phase<S: Simd>(
        &self,
        simd: S,
        row: Row,
        phase: usize,
        channels: Range<usize>,
        share: (usize, usize),
        fetch: &mut Fetch<T>,
        sums: &mut [T],
    ) {
        let (g, b) = (&self.plan.geometry, &self.plan.blocking);
        let [az, ay, ax] = g.axes();
        let (pz, py, px) = (&az.phases[self.phases[0]], &ay.phases[self.phases[1]], &ax.phases[phase]);
        let first_channel = self.block * b.block();
        let vectors = b.vectors(first_channel);
        let width = vectors * b.lanes;
        let [tz, ty] = [pz.valid_taps(row[0]), py.valid_taps(row[1])];

        // Weights: block, phase, then taps. All taps of all phases before this one come first.
        let [bz, by, bx] = [&b.axes[0], &b.axes[1], &b.axes[2]];
        let phase_taps = bz.taps_before[self.phases[0]] * by.taps() * bx.taps()
            + pz.taps * (by.taps_before[self.phases[1]] * bx.taps() + py.taps * bx.taps_before[phase]);
        let block_start = first_channel * b.group_in * b.taps;
        let tap = b.group_in * width;
        let weight_steps = [py.taps * px.taps * tap, px.taps * tap, tap];
        let weight_start = self.group * b.group_weights()
            + block_start
            + phase_taps * tap
            + tz.start * weight_steps[0]
            + ty.start * weight_steps[1]
            + channels.start * width;

        // Input: the packed row that the first valid tap reads.
        let rows = self.slab.rows[1].len();
        let input_row = if tz.is_empty() || ty.is_empty() {
            0
        } else {
            let z = pz.input_index(row[0], tz.start) as usize;
            self.slab.row_at(z, py.input_index(row[1], ty.start) as usize)
        };
        let operands = Operands {
            input: self.packed,
            input_start: input_row + channels.start * self.slab.pitch,
            input_steps: [pz.input_step * rows * self.slab.row, py.input_step * self.slab.row, px.input_step],
            channel_step: self.slab.pitch,
            weights: &self.plan.weights,
            weight_start,
            weight_steps,
            taps: [tz.len(), ty.len(), 0],
            channels: channels.len(),
            soon: Soon::nothing(self.plan.weights.as_ptr()),
        };
        // The weights of the next pass, or of the next phase along y, which lies as far on as this one is long: every row
        // fetches its share of them.
        let next = if channels.end < b.group_in {
            channels.len() * width
        } else {
            py.taps * bx.taps() * tap - channels.start * width
        };
        let ahead = (next + share.0 * channels.len() * width / share.1, width / share.1);
        let bias_at = self.group * b.padded_out() + first_channel;
        let bias = (channels.start == 0).then(|| &self.plan.bias[bias_at..][..width]);
        let x = self.x.start..self.x.end.min(px.outputs);
        let stride = ax.axis.stride;
        let mut q = x.start;
        while q < x.end {
            let (end, taps) = self.run_of_pixels(px, q, x.end);
            let tiles = b.tiles_of(end - q, vectors);
            for i in 0..tiles {
                let (from, to) = (q + (end - q) * i / tiles, q + (end - q) * (i + 1) / tiles);
                let mut o = operands;
                o.taps[2] = taps.len();
                o.weight_start += taps.start * weight_steps[2];
                if !taps.is_empty() {
                    o.input_start += (px.input_index(from, taps.start) - self.slab.first) as usize;
                }
                if i == 0 && b.streams_weights {
                    let at = self.plan.weights.as_ptr().wrapping_add(o.weight_start + ahead.0);
                    o.soon = Soon { at, steps: [tap, ahead.1], last: [usize::MAX; 2] };
                } else if channels.start == 0 {
                    o.soon = fetch.take(o.taps.iter().product()).unwrap_or(o.soon);
                }
                let at = px.first_output + (from - self.x.start) * stride;
                accumulate(simd, vectors, to - from, o, bias, &mut sums[at * width..], stride * vectors);
            }
            q = end;
        }
    }

    /// The longest run of positions from `q` on that have the same taps along x, and these taps. Zeros beside the row
    /// stand in for missing inputs unless weights are not finite.
    #[inline(always)]
    fn run_of_pixels(&self, px: &Phase, q: usize, end: usize) -> (usize, Range<usize>) {
        if !self.plan.exact_taps {
            return (end, 0..px.taps);
        }
        let taps = px.valid_taps(q);
        let last = (q + 1..end).find(|&next| px.valid_taps(next) != taps).unwrap_or(end);
        (last, taps)
    }

    /// Where the block's channels of an output row begin, at position `x`.
    #[inline(always)]
    fn output_row(&self, row: Row, x: usize) -> usize {
        let (g, b) = (&self.plan.geometry, &self.plan.blocking);
        let position = |a: usize| {
            let axis = &g.axes()[a];
            axis.phases[self.phases[a]].first_output + row[a] * axis.axis.stride
        };
        let channel = self.group * b.group_out + self.block * b.block();
        g.output_at(self.n, channel, [position(0), position(1), x])
    }

    /// Channels of the block.
    #[inline(always)]
    fn channels(&self) -> usize {
        let (b, first) = (&self.plan.blocking, self.block * self.plan.blocking.block());
        (b.vectors(first) * b.lanes).min(b.group_out - first)
    }

    /// Stores the finished sums of one output row, from position `begin` on.
    #[inline(always)]
    fn store<S: Simd>(&self, simd: S, row: Row, begin: usize, sums: &[T]) {
        let (g, b) = (&self.plan.geometry, &self.plan.blocking);
        let width = b.vectors(self.block * b.block()) * b.lanes;
        let (start, channels) = (self.output_row(row, begin), self.channels());
        match g.problem().layout() {
            Layout::Nchw => {
                let to = Rows { output: self.output, start, step: g.output_plane() };
                // SAFETY: this row, these positions and these channels belong to this task alone.
                unsafe { transpose(simd, sums, width, to, channels, sums.len() / width) };
            }
            Layout::Nhwc => {
                let step = g.problem().out_channels();
                if step == width && channels == width {
                    // SAFETY: as above.
                    copy(simd, sums, unsafe { self.output.slice_mut(start, sums.len()) });
                    return;
                }
                for (i, pixel) in sums.chunks_exact(width).enumerate() {
                    // SAFETY: as above.
                    let to = unsafe { self.output.slice_mut(start + i * step, channels) };
                    copy(simd, &pixel[..channels], to);
                }
            }
        }
    }
}
