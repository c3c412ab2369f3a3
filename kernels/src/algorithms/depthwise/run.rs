//! The prepared kernel: tasks, pieces, pairs of output rows.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::blocking::Blocking;
use super::exact::{Outputs, exact_rows};
use super::pairs::{Pair, Steps, row_pairs, valid_runs, x_pairs};
use super::rows::Source;
use super::store::{Place, Tile};
use crate::contract::kernel::Prepared;
use crate::contract::request::{Refusal, Request, Weights};
use crate::error::Error;
use crate::machine::isa::Isa;
use crate::machine::parallel::{self, SharedOutput};
use crate::machine::scratch::{AlignedVec, Bytes64, Scratch};
use crate::machine::tensor::{Tensor, TensorMut};
use crate::microkernels::activation::activate;
use crate::microkernels::row_tile::{Lanes, Operands, PAIR, max_vectors, with_vectors};
use crate::microkernels::vector::Float;
use crate::problem::epilogue::{Activation, Epilogue};
use crate::problem::geometry::Geometry;

#[derive(Debug)]
pub struct PreparedDepthwise<T> {
    pub geometry: Geometry,
    pub epilogue: Epilogue,
    isa: Isa,
    threads: usize,
    pub blocking: Blocking,
    scratch: Scratch,
    /// By phase along y of the first row.
    row_pairs: Vec<Pair>,
    /// Phases along x, two by two.
    x_pairs: Vec<Pair>,
    /// Non-finite weights: no tap may meet the zeros beside a row, since 0·∞ is not 0.
    exact_taps: bool,
    /// `[unit][tap][channel of the unit]`.
    pub weights: AlignedVec<T>,
    pub bias: AlignedVec<T>,
}

impl<T: Float> PreparedDepthwise<T> {
    pub fn new(request: &Request<'_>, weights: Weights<'_>) -> Result<Self, Error> {
        let blocking = Blocking::new(request);
        let (threads, scratch) = blocking.workers(request);
        let axes = request.geometry.axes();
        let mut prepared = Self {
            geometry: request.geometry.clone(),
            epilogue: request.epilogue,
            isa: request.target.isa,
            threads,
            scratch,
            row_pairs: row_pairs(&axes[1], steps_y(request.geometry, &blocking))?,
            x_pairs: x_pairs(&axes[2], Steps { input: blocking.unit, weight: blocking.unit })?,
            exact_taps: false,
            weights: AlignedVec::zeroed("packed weights", blocking.packed_weights(request))?,
            bias: AlignedVec::zeroed("bias", blocking.channels())?,
            blocking,
        };
        prepared.pack(weights)?;
        Ok(prepared)
    }

    fn pack(&mut self, weights: Weights<'_>) -> Result<(), Error> {
        let (kernel, bias) = weights.typed::<T>()?;
        self.exact_taps = !weights.kernel.all_finite();
        let (b, taps) = (&self.blocking, self.geometry.kernel_taps());
        for unit in 0..b.units {
            let first = b.first_channel(unit);
            for lane in 0..b.unit.min(kernel.len() / taps.max(1) - first) {
                for tap in 0..taps {
                    self.weights[(unit * taps + tap) * b.unit + lane] = kernel[(first + lane) * taps + tap];
                }
                if let Some(bias) = bias {
                    self.bias[unit * b.unit + lane] = bias[first + lane];
                }
            }
        }
        Ok(())
    }

    /// Where the weight of an output channel for a tap (flat) lies.
    pub fn weight_at(&self, channel: usize, tap: usize) -> usize {
        let unit = self.blocking.unit;
        (channel / unit * self.geometry.kernel_taps() + tap) * unit + self.bias_at(channel) % unit
    }

    /// Where its bias lies.
    pub fn bias_at(&self, channel: usize) -> usize {
        let (b, unit) = (&self.blocking, channel / self.blocking.unit);
        unit * b.unit + channel - b.first_channel(unit)
    }
}

impl<T: Float> Prepared for PreparedDepthwise<T> {
    fn scratch(&self) -> Scratch {
        self.scratch
    }

    fn run(&self, input: Tensor<'_>, output: TensorMut<'_>, scratch: &mut [Bytes64]) {
        let input = T::slice(&input).expect("checked by the plan");
        let output = SharedOutput::new(T::slice_mut(output).expect("checked by the plan"));
        let b = &self.blocking;
        parallel::run_scratch(self.threads, scratch, b.slot(), b.tasks, |slot, task| {
            self.isa.enter(Task {
                plan: self,
                input,
                output,
                slot,
                pieces: task * b.pieces..(task + 1) * b.pieces,
            });
        });
    }

    fn repack(&mut self, weights: Weights<'_>) -> Result<(), Refusal> {
        Ok(self.pack(weights)?)
    }
}

/// Along y, inputs are rows of the ring.
fn steps_y(geometry: &Geometry, blocking: &Blocking) -> Steps {
    Steps { input: 1, weight: geometry.kernel()[2] * blocking.unit }
}

struct Task<'a, 'o, T> {
    plan: &'a PreparedDepthwise<T>,
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
        let [_, height, _] = g.output();
        let all = g.problem().batch() * b.sides * b.row_pieces * b.x_pieces;
        let (rows, phases) = slot.split_at_mut(b.rows_len);
        let mut cleared = None;
        if b.form.is_some() {
            rows[..b.zeros].fill(T::default());
        }
        for piece in pieces.start..pieces.end.min(all) {
            // Channels of a position lie together: all of them before the next positions.
            let (inner, piece) = match b.lanes_are {
                Lanes::Positions => (0, piece),
                Lanes::Channels => (piece % b.sides, piece / b.sides),
            };
            let (x, rest) = (piece % b.x_pieces, piece / b.x_pieces);
            let (r, rest) = (rest % b.row_pieces, rest / b.row_pieces);
            let (side, image) = match b.lanes_are {
                Lanes::Positions => (rest % b.sides, rest / b.sides),
                Lanes::Channels => (inner, rest),
            };
            // Vectors of channels that passes make together.
            let unit = side * b.side;
            let units = b.side.min(b.units - unit);
            let (channel, last) = (b.first_channel(unit), b.first_channel(unit + units - 1));
            let mut piece = Piece {
                plan,
                input,
                output,
                image,
                channel,
                packed: unit * b.unit,
                units,
                channels: (last - channel + b.unit).min(g.problem().out_channels() - channel),
                x: x * b.positions..(x + 1) * b.positions,
                rows: &mut *rows,
                phases: &mut *phases,
            };
            if b.form.is_some() && !b.in_place && cleared != Some(x) {
                piece.clear_sides();
                cleared = Some(x);
            }
            let end = ((r + 1) * b.rows).min(g.output()[0] * height);
            let mut row = r * b.rows;
            while row < end {
                let (z, y) = (row / height, row % height);
                let next = end.min((z + 1) * height);
                let z_input = Some(z + g.axes()[0].axis.padding.0).filter(|&z| z < g.input()[0]);
                let y = y..y + next - row;
                match (b.form, z_input) {
                    _ if plan.exact_taps => exact_rows(&piece.outputs(), z, y),
                    (Some(form), Some(z_input)) => piece.pass_rows(simd, form, z, z_input, y),
                    (Some(_), None) => exact_rows(&piece.outputs(), z, y),
                    (None, _) => piece.rows(simd, z, y),
                }
                row = next;
            }
        }
    }
}

/// Some output rows of one channel, or of one vector of channels; some positions along x.
pub struct Piece<'a, 'o, T> {
    pub plan: &'a PreparedDepthwise<T>,
    pub input: &'a [T],
    pub output: SharedOutput<'o, T>,
    pub image: usize,
    pub channel: usize,
    pub channels: usize,
    /// Where weights and bias of the first channel lie, in channels.
    pub packed: usize,
    /// Vectors of channels, or 1.
    pub units: usize,
    pub x: Range<usize>,
    /// Where there is a form, what it spares; then the ring of padded rows.
    pub rows: &'a mut [T],
    phases: &'a mut [T],
}

impl<T: Float> Piece<'_, '_, T> {
    /// Where the outputs of the piece lie.
    #[inline(always)]
    fn outputs(&self) -> Outputs<'_, T> {
        let Self { plan, input, output, image, channel, channels, .. } = *self;
        let stride = plan.geometry.axes()[2].axis.stride;
        let end = (self.x.end * stride).min(plan.geometry.output()[2]);
        Outputs {
            plan,
            input,
            output,
            image,
            channels: channel..channel + channels,
            x: self.x.start * stride..end,
        }
    }

    /// The output rows (z, y) of one z.
    #[inline(always)]
    fn rows<S: Simd>(&mut self, simd: S, z: usize, y: Range<usize>) {
        let (plan, g, b) = (self.plan, &self.plan.geometry, &self.plan.blocking);
        let [az, ay, ax] = g.axes();
        let (pz, qz) = az.phase_of(z);
        let depth = pz.valid_taps(qz);
        let source = Source::new(g, b, self.input, (self.image, self.channel, self.channels), self.x.start);
        let [_, kh, kw] = g.kernel();
        let taps = g.kernel_taps();
        let plane = kh * kw * b.unit;
        let skipped = if depth.is_empty() { 0 } else { pz.tap(depth.start) * plane };
        let weights = self.channel * taps;
        let (py, px) = (&ay.phases[0], &ax.phases[0]);
        let weights = &plan.weights[weights + skipped..weights + taps * b.unit];
        let bias = &plan.bias[self.channel..][..b.unit];
        let (vector_step, vectors_of) = match b.lanes_are {
            Lanes::Positions => (T::lanes::<S>(), T::lanes::<S>()),
            Lanes::Channels => (b.unit, 1),
        };
        let steps = steps_y(g, b);
        let mut place =
            Place::new(self.output, (g, b), (self.image, self.channel, self.channels), z, &self.x);

        // The phase of the first row of a pair, its position, and padded rows so far and to come.
        let stride = ay.axis.stride;
        let (mut phase, mut q) = (y.start % stride, y.start / stride);
        let mut filled = (q as i64 + b.reach_y.start).max(0) as usize;
        let last = ((y.end - 1) / stride) as i64 + b.reach_y.end;
        let last = last.clamp(0, g.input()[1] as i64) as usize;
        let ahead = b.reach_y.end + b.ahead as i64;
        let mask = b.ring - 1;
        let mut at = y.start;
        while at < y.end {
            let count = PAIR.min(y.end - at);
            let needed = ((q as i64 + ahead).max(0) as usize).min(last);
            while filled < needed {
                for i in 0..depth.len() {
                    let row = (i * b.ring + (filled & mask)) * b.pitch;
                    let z = pz.input_index(qz, depth.start + i) as usize;
                    source.fill(simd, z, filled, &mut self.rows[row..][..b.pitch]);
                }
                filled += 1;
            }
            place.set_rows(at, count);

            // The same runs as in every inner pair, or, near an edge, only the taps that are valid there.
            let inner = &plan.row_pairs[phase];
            let edge;
            let (y_runs, base) = if count == PAIR && inner.is_inside(q, g.input()[1]) {
                (&inner.runs, q as i64)
            } else {
                edge = valid_runs(ay, at, count, steps);
                (&edge, 0)
            };
            let ring_row = |run: usize| (base + y_runs[run].first) as usize & mask;
            let mut operands = Operands {
                rows: &*self.rows,
                pitch: b.pitch,
                ring: b.ring,
                vector_step,
                weights,
                depth: depth.len(),
                y: y_runs,
                y_at: [ring_row(0), ring_row(1), ring_row(2)],
                x: &plan.x_pairs[0].runs,
                x_at: 0,
                weight_steps: [pz.tap_step * plane, py.tap_step * kw * b.unit, px.tap_step * b.unit],
                input_steps: [py.input_step, px.input_step * b.unit],
            };
            for i in 0..plan.x_pairs.len() {
                let pair = &plan.x_pairs[i];
                operands.x = &pair.runs;
                operands.depth = if pair.is_alive() { depth.len() } else { 0 };
                let outputs = [
                    pair.outputs[0].min(self.x.end).saturating_sub(self.x.start),
                    pair.outputs[1].min(self.x.end).saturating_sub(self.x.start),
                ];
                let positions = outputs[0].max(outputs[1]);
                let mut done = 0;
                while done < positions {
                    let vectors = (positions - done).div_ceil(vectors_of).min(max_vectors(S::REGISTER_COUNT));
                    operands.x_at = b.x_start + (done * b.unit) as i64;
                    let tile = Tile {
                        operands: &operands,
                        bias,
                        activation: plan.epilogue.activation,
                        place: &place,
                        waiting: SharedOutput::new(&mut *self.phases),
                        pair: i,
                        done,
                        outputs,
                    };
                    with_vectors(simd, vectors, &tile);
                    done += vectors * vectors_of;
                }
            }
            if b.phases_len > 0 {
                place.interleave_phases(simd, &*self.phases);
            }
            if plan.epilogue.activation.is_transcendental() {
                simd.vectorize(Activate { place: &place, rows: count, activation: plan.epilogue.activation });
            }
            at += count;
            phase += count;
            while phase >= stride {
                (phase, q) = (phase - stride, q + 1);
            }
        }
    }
}

/// In a function of its own: the constants would fill the registers of every row.
pub struct Activate<'a, 'o, T> {
    pub place: &'a Place<'o, T>,
    pub rows: usize,
    pub activation: Activation,
}

impl<T: Float> WithSimd for Activate<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for row in 0..self.rows {
            self.place.each_run(row, |run| activate(self.activation, run));
        }
    }
}
