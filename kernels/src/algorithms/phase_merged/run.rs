//! The prepared kernel: tasks, panels, chunks of output rows, tiles, stores.

mod store;

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
use crate::microkernels::slab::{Slab, positions_of_task};
use crate::microkernels::strip_tile::{self, Strips};
use crate::microkernels::vector::Float;
use crate::problem::epilogue::Epilogue;
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
        let direct = chunk.is_direct();
        // Where sums are complete after one pass, but have to be stored from memory, that is done tile by tile, while
        // their cache lines are still at hand.
        let piecewise = b.pass == b.group_in && !direct;
        let pieces = if piecewise { chunk.x.len().div_ceil(b.pixels) } else { 1 };
        let row_sums = chunk.x.len() * chunk.panel.vectors * b.columns.lanes;
        let mut pass = 0;
        while pass < b.group_in {
            let channels = pass..(pass + b.pass).min(b.group_in);
            let bias = if pass == 0 { chunk.bias() } else { None };
            for (row, sums) in rows.clone().zip(sums.chunks_exact_mut(row_sums)) {
                let row_start = chunk.row_start(row);
                for x in cut(chunk.x.clone(), pieces) {
                    if piecewise {
                        chunk.announce(row_start, &x);
                    }
                    let strips = (direct && channels.end == b.group_in).then(|| chunk.strips(row_start));
                    chunk.sum(simd, row, channels.clone(), bias, &x, sums, strips);
                    if piecewise {
                        chunk.finish(row_start, &x, sums);
                    } else if direct && channels.end == b.group_in {
                        chunk.store_all_cut(row_start, &x, sums);
                    }
                }
            }
            pass = channels.end;
        }
        if !direct && !piecewise {
            for (row, sums) in rows.zip(sums.chunks_exact_mut(row_sums)) {
                chunk.finish(chunk.row_start(row), &chunk.x, sums);
            }
        }
    }
}

/// `whole` in so many parts of nearly equal length.
#[inline(always)]
fn cut(whole: Range<usize>, parts: usize) -> impl Iterator<Item = Range<usize>> {
    let (width, wider) = (whole.len() / parts, whole.len() % parts);
    let at = move |i: usize| whole.start + i * width + i.min(wider);
    (0..parts).map(move |i| at(i)..at(i + 1))
}

impl<T: Float> Chunk<'_, '_, T> {
    /// The operands of one pass over `channels` for an output row, without positions and taps along x.
    #[inline(always)]
    fn row(&self, row: Row, channels: Range<usize>) -> strip_tile::Row<'_, T> {
        let (g, b) = (&self.plan.geometry, &self.plan.blocking);
        let (pz, py) = (&g.axes()[0].phases[self.phases[0]], &g.axes()[1].phases[self.phases[1]]);
        let [tz, ty] = [pz.valid_taps(row[0]), py.valid_taps(row[1])];
        let (panel, lanes) = (self.panel, b.columns.lanes);

        // Weights: panel, phase, then taps.
        let channel = b.x.taps * panel.vectors * lanes;
        let weight_steps = [py.taps * b.group_in * channel, b.group_in * channel, channel];
        let [bz, by, _] = &b.axes;
        let phase_taps =
            bz.taps_before[self.phases[0]] * by.taps() + pz.taps * by.taps_before[self.phases[1]];
        let weight_start = self.group * b.group_weights()
            + panel.first_vector * lanes * b.group_in * b.taps()
            + phase_taps * b.group_in * channel
            + tz.start * weight_steps[0]
            + ty.start * weight_steps[1]
            + channels.start * channel;

        // Input: the packed row that the first valid tap reads.
        let input_row = if tz.is_empty() || ty.is_empty() {
            0
        } else {
            let z = pz.input_index(row[0], tz.start) as usize;
            self.slab.row_at(z, py.input_index(row[1], ty.start) as usize)
        };
        strip_tile::Row {
            input: self.packed,
            input_start: input_row + channels.start * self.slab.pitch,
            input_steps: [
                pz.input_step * self.slab.rows[1].len() * self.slab.row,
                py.input_step * self.slab.row,
            ],
            channel_step: self.slab.pitch,
            weights: &self.plan.weights,
            weight_start,
            weight_steps,
            taps: [tz.len(), ty.len(), 0],
            channels: channels.len(),
            start: None,
            positions: 0,
            widest: b.pixels,
            strips: None,
        }
    }

    /// What the sums start with.
    #[inline(always)]
    fn bias(&self) -> Option<&[T]> {
        let b = &self.plan.blocking;
        let at = self.group * b.padded_columns() + self.panel.first_vector * b.columns.lanes;
        Some(&self.plan.bias[at..][..self.panel.vectors * b.columns.lanes])
    }

    /// Adds one pass to the sums of positions `x` of one output row; what `strips` takes is stored instead.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    fn sum<S: Simd>(
        &self,
        simd: S,
        row: Row,
        channels: Range<usize>,
        start: Option<&[T]>,
        x: &Range<usize>,
        sums: &mut [T],
        strips: Option<Strips<T>>,
    ) {
        let b = &self.plan.blocking;
        let width = self.panel.vectors * b.columns.lanes;
        let all = self.row(row, channels);
        let mut j = x.start;
        while j < x.end {
            let (end, taps) = self.run_of_positions(j, x.end);
            let mut row = strip_tile::Row { start, positions: end - j, strips, ..all };
            row.taps[2] = taps.len();
            row.weight_start += taps.start * width;
            if !taps.is_empty() {
                row.input_start += (b.x.input_index(j, taps.start) - self.slab.first) as usize;
            }
            strip_tile::run(simd, self.panel.vectors, &row, &mut sums[(j - x.start) * width..]);
            j = end;
        }
    }

    /// The longest run of positions from `j` on that have the same taps along x, and these taps. Zeros beside the row
    /// stand in for missing inputs unless weights are not finite.
    #[inline(always)]
    fn run_of_positions(&self, j: usize, end: usize) -> (usize, Range<usize>) {
        let own = self.panel.taps;
        if !self.plan.exact_taps {
            return (end, 0..own);
        }
        let valid = |j: usize| {
            let taps = self.plan.blocking.x.valid_taps(j);
            taps.start.min(own)..taps.end.min(own)
        };
        let taps = valid(j);
        let last = (j + 1..end).find(|&next| valid(next) != taps).unwrap_or(end);
        (last, taps)
    }
}
