//! The prepared kernel: tasks, panels, chunks of output rows, tiles, stores.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::blocking::{Blocking, Panel};
use super::pack::{pack_bias, pack_group};
use crate::contract::kernel::Prepared;
use crate::contract::request::{Refusal, Request, Weights};
use crate::error::Error;
use crate::machine::isa::Isa;
use crate::machine::parallel::{self, SharedOutput};
use crate::machine::scratch::{AlignedVec, Bytes64, Scratch, filled_vec};
use crate::machine::tensor::{Tensor, TensorMut};
use crate::microkernels::activation::activate;
use crate::microkernels::slab::{Slab, positions_of_task};
use crate::microkernels::strips::copy_strips;
use crate::microkernels::tile::{Operands, Strips, accumulate};
use crate::microkernels::vector::Float;
use crate::problem::epilogue::{Activation, Epilogue};
use crate::problem::geometry::Geometry;

#[derive(Debug)]
pub struct PreparedMerged<T> {
    geometry: Geometry,
    epilogue: Epilogue,
    isa: Isa,
    threads: usize,
    blocking: Blocking,
    panels: Vec<Panel>,
    scratch: Scratch,
    /// Non-finite weights: no tap may meet the zeros beside a row, since 0·∞ is not 0.
    exact_taps: bool,
    weights: AlignedVec<T>,
    /// One value for each padded column, group after group.
    bias: AlignedVec<T>,
}

impl<T: Float> PreparedMerged<T> {
    pub fn new(request: &Request<'_>, weights: Weights<'_>) -> Result<Self, Error> {
        let blocking = Blocking::new(request);
        let (threads, scratch) = blocking.workers(request);
        let mut panels = filled_vec("panels", blocking.panels(), Panel::default())?;
        for (i, panel) in panels.iter_mut().enumerate() {
            *panel = blocking.panel(i);
        }
        let mut prepared = Self {
            panels,
            geometry: request.geometry.clone(),
            epilogue: request.epilogue,
            isa: request.target.isa,
            threads,
            scratch,
            exact_taps: false,
            weights: AlignedVec::zeroed("packed weights", blocking.packed_weights())?,
            bias: AlignedVec::zeroed("bias", blocking.groups * blocking.padded_columns())?,
            blocking,
        };
        prepared.pack(weights)?;
        Ok(prepared)
    }

    fn pack(&mut self, weights: Weights<'_>) -> Result<(), Error> {
        let (kernel, bias) = weights.typed::<T>()?;
        let (g, b) = (&self.geometry, &self.blocking);
        self.exact_taps = !weights.kernel.all_finite();
        for (group, packed) in self.weights.chunks_exact_mut(b.group_weights().max(1)).enumerate() {
            pack_group(g, b, group, kernel, packed);
        }
        if let Some(bias) = bias {
            let groups = bias.chunks_exact(g.problem().group_out());
            for (values, packed) in groups.zip(self.bias.chunks_exact_mut(b.padded_columns())) {
                pack_bias(g, b, values, packed);
            }
        }
        Ok(())
    }
}

impl<T: Float> Prepared for PreparedMerged<T> {
    fn scratch(&self) -> Scratch {
        self.scratch
    }

    fn run(&self, input: Tensor<'_>, output: TensorMut<'_>, scratch: &mut [Bytes64]) {
        let input = T::slice(&input).expect("checked by the plan");
        let output = SharedOutput::new(T::slice_mut(output).expect("checked by the plan"));
        let (b, p) = (&self.blocking, self.geometry.problem());
        parallel::run_scratch(self.threads, scratch, b.slot(), b.all_tasks(p.batch()), |slot, task| {
            let (part, task) = (task % b.parts, task / b.parts);
            let (positions, task) = positions_of_task(&b.axes, task);
            let (group, n) = (task % p.groups(), task / p.groups());
            self.isa.enter(Task { plan: self, input, output, slot, n, group, part, positions });
        });
    }

    fn repack(&mut self, weights: Weights<'_>) -> Result<(), Refusal> {
        Ok(self.pack(weights)?)
    }
}

/// All outputs of some positions, for some panels of one group of one image.
struct Task<'a, 'o, T> {
    plan: &'a PreparedMerged<T>,
    input: &'a [T],
    output: SharedOutput<'o, T>,
    slot: &'a mut [T],
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
        let Self { plan, input, output, n, group, ref positions, .. } = self;
        let (g, b) = (&plan.geometry, &plan.blocking);
        let (packed, sums) = self.slot.split_at_mut(b.slab);
        let slab = &Slab::new(&b.axes, g.input(), b.group_in, b.pitch, positions);
        slab.fill(simd, g, n, group, input, packed);

        let [axis_z, axis_y, _] = g.axes();
        let [panels_together, phases_together] = b.turns;
        let panels = b.panels() * self.part / b.parts..b.panels() * (self.part + 1) / b.parts;
        for panels in blocks(panels, panels_together) {
            for iz in 0..axis_z.phases.len() {
                for phases in blocks(0..axis_y.phases.len(), phases_together) {
                    // The rows of the longest of these phases.
                    let z = positions[0].start..positions[0].end.min(axis_z.phases[iz].outputs);
                    let y = positions[1].start..positions[1].end.min(axis_y.phases[phases.start].outputs);
                    let row = |i: usize| [z.start + i / y.len(), y.start + i % y.len()];
                    for rows in blocks(0..z.len() * y.len(), b.rows) {
                        let panels = &plan.panels[panels.clone()];
                        for (iy, panel) in phases.clone().flat_map(|iy| panels.iter().map(move |p| (iy, p))) {
                            let own = &panel.positions;
                            let x = positions[2].start.max(own.start)..positions[2].end.min(own.end);
                            if x.is_empty() {
                                continue;
                            }
                            let phases = [iz, iy];
                            let outputs = axis_y.phases[iy].outputs;
                            let rows = rows.clone().map(row).filter(move |row| row[1] < outputs);
                            let chunk = Chunk { plan, slab, packed, output, n, group, panel, phases, x };
                            simd.vectorize(Rowwise { chunk: &chunk, sums, rows });
                        }
                    }
                }
            }
        }
    }
}

/// `whole` in blocks of `step`.
fn blocks(whole: Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> {
    whole.clone().step_by(step).map(move |start| start..(start + step).min(whole.end))
}

/// Output rows of one phase along z and y, one panel.
struct Chunk<'a, 'o, T> {
    plan: &'a PreparedMerged<T>,
    slab: &'a Slab,
    packed: &'a [T],
    output: SharedOutput<'o, T>,
    n: usize,
    group: usize,
    panel: &'a Panel,
    phases: [usize; 2],
    x: Range<usize>,
}

struct Rowwise<'a, 'c, 'o, T, R> {
    chunk: &'a Chunk<'c, 'o, T>,
    sums: &'a mut [T],
    rows: R,
}

impl<T: Float, R: Iterator<Item = Row> + Clone> WithSimd for Rowwise<'_, '_, '_, T, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { chunk, sums, rows } = self;
        let b = &chunk.plan.blocking;
        if b.pass == b.group_in {
            // A tile's sums are complete: they leave while their cache lines are still at hand.
            for row in rows {
                let (operands, start) = (chunk.operands(row, 0..b.group_in), chunk.row_start(row));
                for tile in chunk.tiles(chunk.x.clone()) {
                    chunk.announce(start, &tile);
                    let strips = chunk.strips(start, &tile);
                    chunk.sum(simd, operands, chunk.bias(), &tile, sums, strips.as_ref());
                    chunk.finish(start, &tile, sums, strips.is_some());
                }
            }
            return;
        }
        let row_sums = chunk.x.len() * chunk.panel.vectors * b.columns.lanes;
        let mut pass = 0;
        while pass < b.group_in {
            let channels = pass..(pass + b.pass).min(b.group_in);
            for (row, sums) in rows.clone().zip(sums.chunks_exact_mut(row_sums)) {
                let bias = if pass == 0 { chunk.bias() } else { None };
                chunk.sum(simd, chunk.operands(row, channels.clone()), bias, &chunk.x, sums, None);
            }
            pass = channels.end;
        }
        for (row, sums) in rows.zip(sums.chunks_exact_mut(row_sums)) {
            chunk.finish(chunk.row_start(row), &chunk.x, sums, false);
        }
    }
}

impl<T: Float> Chunk<'_, '_, T> {
    /// Positions cut into tiles of nearly equal width.
    #[inline(always)]
    fn tiles(&self, x: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let tiles = x.len().div_ceil(self.plan.blocking.pixels);
        let (width, wider) = (x.len() / tiles, x.len() % tiles);
        let at = move |i: usize| x.start + i * width + i.min(wider);
        (0..tiles).map(move |i| at(i)..at(i + 1))
    }

    /// The operands of one pass over `channels` for position 0 of an output row, without taps along x.
    #[inline(always)]
    fn operands(&self, row: Row, channels: Range<usize>) -> Operands<'_, T> {
        let (g, b) = (&self.plan.geometry, &self.plan.blocking);
        let (pz, py) = (&g.axes()[0].phases[self.phases[0]], &g.axes()[1].phases[self.phases[1]]);
        let [tz, ty] = [pz.valid_taps(row[0]), py.valid_taps(row[1])];
        let (panel, lanes) = (self.panel, b.columns.lanes);
        let width = panel.vectors * lanes;

        // Weights: panel, phase, then taps.
        let tap = b.group_in * width;
        let [bz, by, _] = &b.axes;
        let phase_taps =
            bz.taps_before[self.phases[0]] * by.taps() + pz.taps * by.taps_before[self.phases[1]];
        let weight_steps = [py.taps * b.x.taps * tap, b.x.taps * tap, tap];
        let weight_start = self.group * b.group_weights()
            + panel.first_vector * lanes * b.group_in * b.taps()
            + phase_taps * b.x.taps * tap
            + tz.start * weight_steps[0]
            + ty.start * weight_steps[1]
            + channels.start * width;

        // Input: the packed row that the first valid tap reads.
        let input_row = if tz.is_empty() || ty.is_empty() {
            0
        } else {
            let z = pz.input_index(row[0], tz.start) as usize;
            self.slab.row_at(z, py.input_index(row[1], ty.start) as usize)
        };
        Operands {
            input: self.packed,
            input_start: input_row + channels.start * self.slab.pitch,
            input_steps: [
                pz.input_step * self.slab.rows[1].len() * self.slab.row,
                py.input_step * self.slab.row,
                1,
            ],
            channel_step: self.slab.pitch,
            weights: &self.plan.weights,
            weight_start,
            weight_steps,
            taps: [tz.len(), ty.len(), 0],
            channels: channels.len(),
            ahead: 0,
            ahead_step: 0,
        }
    }

    /// What the sums start with.
    #[inline(always)]
    fn bias(&self) -> Option<&[T]> {
        let b = &self.plan.blocking;
        let at = self.group * b.padded_columns() + self.panel.first_vector * b.columns.lanes;
        Some(&self.plan.bias[at..][..self.panel.vectors * b.columns.lanes])
    }

    /// Adds one pass to the sums of some positions of one output row.
    #[inline(always)]
    fn sum<S: Simd>(
        &self,
        simd: S,
        operands: Operands<'_, T>,
        start: Option<&[T]>,
        x: &Range<usize>,
        sums: &mut [T],
        strips: Option<&Strips<T>>,
    ) {
        let b = &self.plan.blocking;
        let width = self.panel.vectors * b.columns.lanes;
        let mut j = x.start;
        while j < x.end {
            let (end, taps) = self.run_of_positions(j, x.end);
            for tile in self.tiles(j..end) {
                let mut o = operands;
                o.taps[2] = taps.len();
                o.weight_start += taps.start * o.weight_steps[2];
                if !taps.is_empty() {
                    o.input_start += (b.x.input_index(tile.start, taps.start) - self.slab.first) as usize;
                }
                let sums = &mut sums[(tile.start - x.start) * width..];
                accumulate(simd, self.panel.vectors, tile.len(), o, start, sums, self.panel.vectors, strips);
            }
            j = end;
        }
    }

    /// The longest run of positions from `j` on that have the same taps along x, and these taps. Zeros beside the row
    /// stand in for missing inputs unless weights are not finite.
    #[inline(always)]
    fn run_of_positions(&self, j: usize, end: usize) -> (usize, Range<usize>) {
        let x = &self.plan.blocking.x;
        if !self.plan.exact_taps {
            return (end, 0..x.taps);
        }
        let taps = x.valid_taps(j);
        let last = (j + 1..end).find(|&next| x.valid_taps(next) != taps).unwrap_or(end);
        (last, taps)
    }

    /// Where run 0 of an output row starts.
    #[inline(always)]
    fn row_start(&self, row: Row) -> usize {
        let g = &self.plan.geometry;
        let position = |a: usize| {
            let axis = &g.axes()[a];
            axis.phases[self.phases[a]].first_output + row[a] * axis.axis.stride
        };
        g.output_at(self.n, self.group * g.problem().group_out(), [position(0), position(1), 0])
    }

    /// Asks for the cache lines that the sums of some positions will be stored to: they arrive while these are summed.
    #[inline(always)]
    fn announce(&self, row_start: usize, x: &Range<usize>) {
        let c = &self.plan.blocking.columns;
        let line = 64 / size_of::<T>();
        for held in &self.panel.held[..self.panel.vectors] {
            let first = (x.start * c.width + held.offset).saturating_sub(c.crop);
            let last = ((x.end - 1) * c.width + held.offset + held.len).saturating_sub(c.crop).min(c.row);
            // Neighbouring lines, or one in each position.
            let step = if c.width < 2 * line { line } else { c.width };
            for r in 0..held.runs {
                let start = row_start + (held.first_run + r) * c.run_step;
                self.output.prefetch(start + first..start + last, step);
            }
        }
    }

    /// Where the whole positions of a tile go from the registers, if nothing has to be done to them on the way.
    #[inline(always)]
    fn strips(&self, row_start: usize, x: &Range<usize>) -> Option<Strips<T>> {
        let c = &self.plan.blocking.columns;
        let per_vector = c.lanes / c.piece;
        let divides = per_vector * c.piece == c.lanes && [1, 2, 4].contains(&per_vector);
        if !divides || self.plan.epilogue.activation != Activation::Identity || self.plan.exact_taps {
            return None;
        }
        let mut starts = [[std::ptr::null_mut(); 4]; 2];
        let mut pixels = [[0; 2]; 2];
        for v in 0..self.panel.vectors {
            let (held, whole) = (&self.panel.held[v], &self.panel.whole[v]);
            if held.runs != per_vector || held.len != c.piece {
                return None;
            }
            let first = whole.start.clamp(x.start, x.end);
            pixels[v] = [first - x.start, whole.end.clamp(first, x.end) - first];
            for (r, start) in starts[v][..per_vector].iter_mut().enumerate() {
                // SAFETY: of this row only outputs that `held` and positions `x` own are written: this task's alone.
                let row =
                    unsafe { self.output.slice_ptr(row_start + (held.first_run + r) * c.run_step, c.row) };
                // Outputs cropped from the first positions lie before the row; they are not stored.
                *start = row.wrapping_add(x.start * c.width + held.offset).wrapping_sub(c.crop);
            }
        }
        // SAFETY: whole positions own outputs inside the row, and they are this task's alone.
        Some(unsafe { Strips::new(per_vector, starts, c.width, pixels) })
    }

    /// Applies the activation to complete sums and stores them: every vector in strips of neighbouring outputs.
    #[inline(always)]
    fn finish(&self, row_start: usize, x: &Range<usize>, sums: &mut [T], whole_are_stored: bool) {
        let c = &self.plan.blocking.columns;
        let sum_step = self.panel.vectors * c.lanes;
        let sums = &mut sums[..x.len() * sum_step];
        activate(self.plan.epilogue.activation, sums);
        let sums = &*sums;
        for v in 0..self.panel.vectors {
            let (held, whole) = (self.panel.held[v], &self.panel.whole[v]);
            let whole = whole.start.clamp(x.start, x.end)..whole.end.clamp(x.start, x.end);
            for r in 0..held.runs {
                let start = row_start + (held.first_run + r) * c.run_step;
                // SAFETY: of this row only outputs that `held` and positions `x` own are written: this task's alone.
                let to = unsafe { self.output.slice_ptr(start, c.row) };
                let lane = v * c.lanes + r * held.len;
                let sums_of = |j: usize| &sums[(j - x.start) * sum_step + lane..];
                // Outputs of position j inside the row.
                let inside = |j: usize| {
                    let first = j * c.width + held.offset;
                    let clip = |at: usize| at.clamp(c.crop, c.crop + c.row) - c.crop;
                    (first, clip(first)..clip(first + held.len))
                };
                if !whole.is_empty() && !whole_are_stored {
                    let (_, outputs) = inside(whole.start);
                    // SAFETY: whole positions lie inside the row.
                    unsafe {
                        let to = to.add(outputs.start);
                        copy_strips(sums_of(whole.start), sum_step, to, c.width, held.len, whole.len());
                    }
                }
                for j in (x.start..whole.start).chain(whole.end..x.end) {
                    let (first, outputs) = inside(j);
                    for o in outputs {
                        // SAFETY: inside the row.
                        unsafe { *to.add(o) = sums_of(j)[o + c.crop - first] };
                    }
                }
            }
        }
    }
}
