//! The prepared kernel: pieces of some channels, one output plane, a band of rows, some positions along x.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::blocking::{Blocking, Widening};
use super::pack::Packed;
use super::passes::{Combine, Widen};
use super::rows::Source;
use crate::contract::kernel::Prepared;
use crate::contract::request::{Refusal, Request, Weights};
use crate::machine::isa::Isa;
use crate::machine::parallel::{self, SharedOutput};
use crate::machine::scratch::{Bytes64, Scratch};
use crate::machine::tensor::{Tensor, TensorMut};
use crate::microkernels::activation::activate;
use crate::microkernels::vector::Float;
use crate::problem::epilogue::Epilogue;
use crate::problem::geometry::Geometry;

/// Bytes of an output that lies far away: to ask for its lines costs less than to wait for them.
const FAR_OUTPUT: usize = 12 << 20;

#[derive(Debug)]
pub struct PreparedSeparable<T> {
    geometry: Geometry,
    epilogue: Epilogue,
    isa: Isa,
    threads: usize,
    scratch: Scratch,
    blocking: Blocking,
    packed: Packed<T>,
}

impl<T: Float> PreparedSeparable<T> {
    pub fn new(request: &Request<'_>, weights: Weights<'_>) -> Result<Self, Refusal> {
        let blocking = Blocking::new(request);
        let packed = Packed::new(request.geometry, &blocking, weights)?;
        let (threads, scratch) = blocking.workers(request);
        Ok(Self {
            geometry: request.geometry.clone(),
            epilogue: request.epilogue,
            isa: request.target.isa,
            threads,
            scratch,
            blocking,
            packed,
        })
    }
}

impl<T: Float> Prepared for PreparedSeparable<T> {
    fn scratch(&self) -> Scratch {
        self.scratch
    }

    fn run(&self, input: Tensor<'_>, output: TensorMut<'_>, scratch: &mut [Bytes64]) {
        let input = T::slice(&input).expect("checked by the plan");
        let output = SharedOutput::new(T::slice_mut(output).expect("checked by the plan"));
        let b = &self.blocking;
        parallel::run_scratch(self.threads, scratch, b.slot(), b.tasks, |slot, task| {
            let pieces = task * b.pieces_per_task..((task + 1) * b.pieces_per_task).min(b.pieces);
            self.isa.enter(Task { plan: self, input, output, slot, pieces });
        });
    }

    fn repack(&mut self, weights: Weights<'_>) -> Result<(), Refusal> {
        self.packed = Packed::new(&self.geometry, &self.blocking, weights)?;
        Ok(())
    }
}

/// Some pieces, on one worker.
struct Task<'a, 'o, T> {
    plan: &'a PreparedSeparable<T>,
    input: &'a [T],
    output: SharedOutput<'o, T>,
    slot: &'a mut [T],
    pieces: Range<usize>,
}

impl<T: Float> WithSimd for Task<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { plan, input, output, slot, pieces } = self;
        let (g, b) = (&plan.geometry, &plan.blocking);
        let mut rest = slot;
        let [rows, added, waiting, suspects, ring] = b.parts().map(|len| {
            let (part, others) = std::mem::take(&mut rest).split_at_mut(len);
            rest = others;
            part
        });
        for piece in pieces {
            let (x, piece) = (piece % b.x_pieces, piece / b.x_pieces);
            let (band, piece) = (piece % b.bands, piece / b.bands);
            let (z, piece) = (piece % g.output()[0], piece / g.output()[0]);
            let (unit, image) = (piece % b.units, piece / b.units);
            let x = x * b.positions;
            let mut piece = Piece {
                plan,
                output,
                source: Source::new((g, b, &plan.packed), input, image, x),
                z,
                y: band * b.rows..((band + 1) * b.rows).min(g.output()[1]),
                x,
                rows: &mut *rows,
                added: &mut *added,
                waiting: &mut *waiting,
                suspects: &mut *suspects,
                ring: &mut *ring,
            };
            let first = unit * b.channels;
            piece.find_suspects(simd, first);
            for channel in first..first + b.channels {
                piece.channel(simd, channel);
            }
        }
    }
}

/// A band of one output plane, the channels of one unit.
struct Piece<'a, 'o, T> {
    plan: &'a PreparedSeparable<T>,
    output: SharedOutput<'o, T>,
    source: Source<'a, T>,
    z: usize,
    y: Range<usize>,
    x: usize,
    /// Some rows of inputs; one that is added to another.
    rows: &'a mut [T],
    added: &'a mut [T],
    waiting: &'a mut [T],
    /// `[plane][row]`: NaN where some channel of the group is not finite.
    suspects: &'a mut [T],
    ring: &'a mut [T],
}

impl<T: Float> Piece<'_, '_, T> {
    /// The input rows that the band reads, and the taps along z that meet the input.
    #[inline(always)]
    fn reads(&self) -> (Range<usize>, Range<usize>) {
        let (g, b) = (&self.plan.geometry, &self.plan.blocking);
        let [az, ay, _] = g.axes();
        let clip = |row: i64| row.clamp(0, g.input()[1] as i64) as usize;
        let begin = clip(ay.phase_of(self.y.start).1 as i64 + b.reach_y.start);
        let end = clip(ay.phase_of(self.y.end - 1).1 as i64 + b.reach_y.end);
        let (phase, q) = az.phase_of(self.z);
        (begin..end.max(begin), phase.valid_taps(q))
    }

    /// Looks at all input channels of the group of `channel`.
    #[inline(always)]
    fn find_suspects<S: Simd>(&mut self, simd: S, channel: usize) {
        let (g, b) = (&self.plan.geometry, &self.plan.blocking);
        if b.suspects == 0 {
            return;
        }
        let group = channel / g.problem().group_out();
        let (rows, planes) = self.reads();
        let (phase, q) = g.axes()[0].phase_of(self.z);
        for (i, tap) in planes.enumerate() {
            let z = phase.input_index(q, tap) as usize;
            for y in rows.clone() {
                let at = (i * b.suspects + y - rows.start) * b.narrow;
                self.source.suspects(simd, group, z, y, &mut self.suspects[at..][..b.narrow]);
            }
        }
    }

    /// All rows of one channel, or of all where a position is many.
    #[inline(always)]
    fn channel<S: Simd>(&mut self, simd: S, channel: usize) {
        let (g, b, packed) = (&self.plan.geometry, &self.plan.blocking, &self.plan.packed);
        let [_, ay, ax] = g.axes();
        let (rows, planes) = self.reads();
        let [_, ky, _] = g.kernel();
        let stride = ax.axis.stride;
        let outputs = (b.positions.saturating_mul(stride)).min(ax.output - self.x * stride);
        let [xs, ys] = match b.widening {
            Widening::Channels => [&packed.x[..], &packed.y[..]],
            _ => {
                let per_channel = b.x_line(g) / g.problem().out_channels();
                [&packed.x[channel * per_channel..][..per_channel], &packed.y[channel * ky..][..ky]]
            }
        };
        let per_tap = if b.unit == 1 { 1 } else { packed.period.max(1) * b.lanes };
        let bias = if b.unit == 1 { &packed.bias[channel..=channel] } else { &packed.bias[..] };
        let widen = Widen { axis: ax, blocking: b, factors: xs, outputs };
        let row_step = g.output_at(0, 0, [0, 1, 0]);
        let far = g.output_len() * size_of::<T>() >= FAR_OUTPUT;
        let start = g.output_at(self.source.image, channel, [self.z, 0, self.x * stride]);
        let mut filled = rows.start;
        for y in self.y.clone() {
            let (phase, q) = ay.phase_of(y);
            if (filled as i64) < (q as i64 + b.reach_y.end).min(rows.end as i64) {
                let end = (q as i64 + b.reach_y.end + b.ahead as i64 - 1).min(rows.end as i64) as usize;
                while filled < end {
                    let next = end.min(filled + b.ahead);
                    for (i, y) in (filled..next).enumerate() {
                        self.fetch(simd, channel, (y, rows.start), planes.clone(), i);
                    }
                    for (row, y) in self.rows.chunks_exact(b.narrow).zip(filled..next) {
                        let wide = &mut self.ring[(y & (b.ring - 1)) * b.wide..][..b.wide];
                        widen.run(simd, row, self.waiting, wide);
                    }
                    filled = next;
                }
            }
            // Almost always all of them.
            let inside = phase.taps > 0
                && phase.input_index(q, 0) < phase.input as i64
                && phase.input_index(q, phase.taps - 1) >= 0;
            let taps = if inside { 0..phase.taps } else { phase.valid_taps(q) };
            let first = if taps.is_empty() { 0 } else { phase.input_index(q, taps.start) as usize };
            let factors = if taps.is_empty() { ys } else { &ys[phase.tap(taps.start) * per_tap..] };
            let combine = Combine {
                ring: self.ring,
                wide: b.wide,
                first,
                step: phase.input_step,
                taps: taps.len(),
                factors,
                factor_step: phase.tap_step * per_tap,
                bias,
                period: packed.period,
                activation: self.plan.epilogue.activation,
                ahead: if far { row_step } else { 0 },
            };
            // SAFETY: these outputs belong to this piece alone.
            let to = unsafe { self.output.slice_mut(start + y * row_step, outputs * b.unit) };
            combine.run(simd, to);
            if self.plan.epilogue.activation.is_transcendental() {
                simd.vectorize(Activate { plan: self.plan, row: to });
            }
        }
    }

    /// The row of inputs `y`, as one of those at hand; planes along z are added, each times its factor.
    #[inline(always)]
    fn fetch<S: Simd>(
        &mut self,
        simd: S,
        channel: usize,
        (y, begin): (usize, usize),
        planes: Range<usize>,
        number: usize,
    ) {
        let (g, b) = (&self.plan.geometry, &self.plan.blocking);
        let (phase, q) = g.axes()[0].phase_of(self.z);
        let kz = g.kernel()[0];
        let row = &mut self.rows[number * b.narrow..][..b.narrow];
        if kz > 1 || planes.is_empty() {
            row.fill(T::default());
        }
        for (i, tap) in planes.enumerate() {
            let z = phase.input_index(q, tap) as usize;
            let suspects = match b.suspects {
                0 => &[][..],
                rows => &self.suspects[(i * rows + y - begin) * b.narrow..][..b.narrow],
            };
            if kz == 1 {
                self.source.fetch(simd, channel, [z, y], suspects, row);
                continue;
            }
            self.source.fetch(simd, channel, [z, y], suspects, self.added);
            let factors = &self.plan.packed.z;
            let k = phase.tap(tap);
            match b.widening {
                Widening::Channels => {
                    let factors = &factors[k * b.padded()..][..b.unit];
                    let positions = row.chunks_exact_mut(b.unit).zip(self.added.chunks_exact(b.unit));
                    for (to, from) in positions {
                        for ((to, from), factor) in to.iter_mut().zip(from).zip(factors) {
                            *to += *from * *factor;
                        }
                    }
                }
                _ => {
                    let factor = factors[channel * kz + k];
                    for (to, from) in row.iter_mut().zip(&*self.added) {
                        *to += *from * factor;
                    }
                }
            }
        }
    }
}

/// In a function of its own: the constants would fill the registers of every row.
struct Activate<'a, T> {
    plan: &'a PreparedSeparable<T>,
    row: &'a mut [T],
}

impl<T: Float> WithSimd for Activate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        activate(self.plan.epilogue.activation, self.row);
    }
}
