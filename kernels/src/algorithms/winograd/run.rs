//! The prepared kernel: for each block the points of its inputs, then for each channel block products, sums and stores.

use pulp::{Simd, WithSimd};

use super::blocking::{Blocking, Pair, Task};
use super::forms::{Form, Turn, back};
use super::pack::{Buffers, Pack};
use super::transform::Source;
use crate::contract::kernel::Prepared;
use crate::contract::request::{Declined, Refusal, Request, Weights};
use crate::machine::isa::Isa;
use crate::machine::parallel::{self, SharedOutput};
use crate::machine::scratch::{AlignedVec, Bytes64, Scratch};
use crate::machine::tensor::{Dtype, Tensor, TensorMut, all};
use crate::microkernels::activation::activate;
use crate::microkernels::copy::{copy, pad_groups};
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
    pub fn new(request: &Request<'_>, blocking: Blocking, weights: Weights<'_>) -> Result<Self, Refusal> {
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
        // A point of weights is at most 31/15 times the largest of them, along each axis; the sums before the division are up to 31
        // times, and calculated in f64.
        let most = match T::DTYPE {
            Dtype::F32 => f64::from(f32::MAX) / 16.0,
            Dtype::F64 => f64::MAX / 512.0,
        };
        let beyond = |w: &T| w.to_f64().is_nan() | (w.to_f64().abs() > most);
        if !all(kernel, |w| !beyond(w))
            && let Some(weight) = kernel.iter().find(|w| beyond(w))
        {
            let weight = weight.to_f64();
            return Err(
                Declined::because(format!("a weight is {weight:e}: its points may be infinite")).into()
            );
        }
        let b = &self.blocking;
        let mut buffers = Buffers::new(&self.geometry, b)?;
        for (group, packed) in self.weights.chunks_exact_mut(b.group_weights().max(1)).enumerate() {
            let buffers = &mut buffers;
            let (geometry, weights) = (&self.geometry, kernel);
            self.isa.enter(Pack { geometry, blocking: b, group, weights, packed, buffers });
        }
        if let Some(bias) = bias {
            pad_groups(bias, b.group_out, &mut self.bias, b.padded_out());
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
        let (stage, rest) = rest.split_at_mut(b.stage);
        let (raw, rest) = rest.split_at_mut(2 * b.raw);
        let (sums, rest) = rest.split_at_mut(2 * b.sums);
        let source = Source { geometry: &plan.geometry, blocking: b, task: &task, input };
        simd.vectorize(Fill { source, stage, raw, points });
        for block in task.blocks.clone() {
            let part = Channels { plan, task: &task, pair: &b.pairs[task.pair], output, block };
            simd.vectorize(Finish { part, points, sums, row: &mut rest[..b.outputs] });
        }
    }
}

struct Fill<'a, T> {
    source: Source<'a, T>,
    stage: &'a mut [T],
    raw: &'a mut [T],
    points: &'a mut [T],
}

impl<T: Float> WithSimd for Fill<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.source.points(simd, self.stage, self.raw, self.points);
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
    row: &'a mut [T],
}

impl<T: Float> WithSimd for Finish<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { part, points, sums, row } = self;
        let b = &part.plan.blocking;
        let width = part.vectors() * b.lanes;
        let (mut sums, mut other) = sums.split_at_mut(b.sums);
        for (s, at, all) in part.subs() {
            let pixels = part.pixels(s);
            if pixels > 0 {
                let points = &points[at * b.padded_in()..][..all * pixels * b.padded_in()];
                part.products(simd, s, points, &mut sums[at * width..][..all * pixels * width]);
            }
        }
        let [z, y] = part.forms();
        for (axis, form) in [z, y].into_iter().enumerate() {
            if form != Form::F11 {
                for (s, at, all) in part.subs() {
                    // Points of the axes further in, all that is left of this one's; a window for each output further out.
                    let (windows, inner) = match axis {
                        0 => (1, all / z.points()),
                        _ => (z.outputs(), all / z.points() / y.points()),
                    };
                    let run = inner * part.pixels(s) * width;
                    let turn = Turn {
                        windows,
                        run,
                        from: at * width,
                        from_window: form.points() * run,
                        from_step: run,
                        to: at * width,
                        to_window: form.outputs() * run,
                        to_step: run,
                    };
                    back(simd, form, turn, sums, None, other);
                }
                (sums, other) = (other, sums);
            }
        }
        part.rows(simd, sums, row);
    }
}

impl<T: Float> Channels<'_, '_, T> {
    fn first_channel(&self) -> usize {
        self.block * self.plan.blocking.block()
    }

    fn vectors(&self) -> usize {
        self.plan.blocking.vectors(self.first_channel())
    }

    /// Forms along z and y.
    fn forms(&self) -> [Form; 2] {
        [0, 1].map(|a| self.plan.blocking.axes[a].subs[self.pair.subs[a]].form)
    }

    /// Tiles of sub-phase `s` along x in the block.
    fn pixels(&self, s: usize) -> usize {
        self.task.rows.len() * self.plan.blocking.x_tiles(s, self.task.x)
    }

    /// Every sub-phase along x, with the points × tiles before it, and its points.
    fn subs(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let mut before = 0;
        self.plan.blocking.axes[2].subs.iter().enumerate().map(move |(s, sub)| {
            let (at, all) = (before, self.pair.points * sub.form.points());
            before += all * self.pixels(s);
            (s, at, all)
        })
    }

    /// Sums over the input channels of every point of sub-phase `s` along x: `[point][tile row][tile][width]`.
    #[inline(always)]
    fn products<S: Simd>(&self, simd: S, s: usize, points: &[T], sums: &mut [T]) {
        let b = &self.plan.blocking;
        let (vectors, lanes) = (self.vectors(), b.lanes);
        let (width, channels) = (vectors * lanes, b.padded_in());
        let all = self.pair.points * b.axes[2].subs[s].form.points();
        let pixels = self.pixels(s);
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

    /// Image and position of output row `o` of the windows of a tile row, if it lies inside the output.
    #[inline(always)]
    fn place(&self, tile_row: usize, o: usize) -> Option<(usize, [usize; 3])> {
        let b = &self.plan.blocking;
        let [z, y] = [0, 1].map(|a| b.axes[a].subs[self.pair.subs[a]]);
        let (ty, rest) = (tile_row % y.tiles, tile_row / y.tiles);
        let (tz, n) = (rest % z.tiles, rest / z.tiles);
        let my = y.form.outputs();
        let (oz, oy) = (tz * z.form.outputs() + o / my, ty * my + o % my);
        let begin = self.task.x * b.x_step * b.axes[2].distance;
        let z_at = z.first_output + oz * b.axes[0].distance;
        let y_at = y.first_output + oy * b.axes[1].distance;
        (oz < z.outputs && oy < y.outputs).then_some((n, [z_at, y_at, begin]))
    }

    /// Outputs of a row in the block; whole tiles may reach beyond them.
    fn length(&self) -> usize {
        let b = &self.plan.blocking;
        let step = b.x_step * b.axes[2].distance;
        (self.plan.geometry.output()[2] - self.task.x * step).min(step)
    }

    /// Asks for the cache lines of a row that [`Channels::store_row`] will write.
    #[inline(always)]
    fn expect(&self, n: usize, at: [usize; 3]) {
        let (g, b) = (&self.plan.geometry, &self.plan.blocking);
        let first = self.first_channel();
        let channels = (self.vectors() * b.lanes).min(b.group_out - first);
        let start = g.output_at(n, self.task.group * b.group_out + first, at);
        let (strips, step, length) = match g.problem().layout() {
            Layout::Nchw => (channels, g.output_plane(), self.length()),
            Layout::Nhwc => (self.length(), g.problem().out_channels(), channels),
        };
        for start in (0..strips).map(|i| start + i * step) {
            self.output.prefetch(start..start + length, b.line);
        }
    }

    /// Turns one output row after the other back along x, with the bias, activates and stores it: it stays in the level-1
    /// cache. `sums`: for each sub-phase along x `[output z][output y][point x][tile row][tile][width]`.
    #[inline(always)]
    fn rows<S: Simd>(&self, simd: S, sums: &[T], row: &mut [T]) {
        let b = &self.plan.blocking;
        let rows: usize = self.forms().map(Form::outputs).iter().product();
        let (x, width) = (&b.axes[2], self.vectors() * b.lanes);
        let bias = &self.plan.bias[self.task.group * b.padded_out() + self.first_channel()..][..width];
        for (r, tile_row) in self.task.rows.clone().enumerate() {
            for o in 0..rows {
                let Some((n, at)) = self.place(tile_row, o) else { continue };
                self.expect(n, at);
                for (s, before, _) in self.subs() {
                    let sub = &x.subs[s];
                    let (tiles, point) = (b.x_tiles(s, self.task.x), self.pixels(s) * width);
                    let turn = Turn {
                        windows: tiles,
                        run: width,
                        from: before * width + o * sub.form.points() * point + r * tiles * width,
                        from_window: width,
                        from_step: point,
                        to: sub.first_output * width,
                        to_window: sub.form.outputs() * x.distance * width,
                        to_step: x.distance * width,
                    };
                    back(simd, sub.form, turn, sums, Some(bias), row);
                }
                let row = &mut row[..self.length() * width];
                activate(self.plan.epilogue.activation, row);
                self.store_row(simd, n, at, row);
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
                    copy(simd, &pixel[..channels], to);
                }
            }
        }
    }
}
