//! From sums to outputs: bias first, activation in registers, phases interleaved.

use std::ops::Range;

use pulp::Simd;

use super::blocking::Blocking;
use crate::machine::parallel::SharedOutput;
use crate::microkernels::activation::activate_vector;
use crate::microkernels::interleave::{interleave, interleave_pair};
use crate::microkernels::row_tile::{Lanes, Operands, PAIR, Sums, VectorCount};
use crate::microkernels::vector::Float;
use crate::problem::epilogue::Activation;
use crate::problem::geometry::Geometry;

/// Where one or two output rows lie.
pub struct Place<'a, T> {
    output: SharedOutput<'a, T>,
    /// First output of the piece in row 0, and the distance of rows.
    first: usize,
    row_step: usize,
    /// The same in the rows at hand; rows that there are.
    start: [usize; PAIR],
    rows: usize,
    /// Outputs along x in the piece, and their distance.
    outputs: usize,
    step: usize,
    stride: usize,
    channels: usize,
    lanes_are: Lanes,
    /// Elements of one phase among the waiting ones; 0 where none wait. And phases of a row.
    waiting: usize,
    phases: usize,
}

impl<'a, T: Float> Place<'a, T> {
    /// Positions `x` of the output rows of `z`.
    #[inline(always)]
    pub fn new(
        output: SharedOutput<'a, T>,
        (geometry, blocking): (&Geometry, &Blocking),
        (image, channel, channels): (usize, usize, usize),
        z: usize,
        x: &Range<usize>,
    ) -> Self {
        let axis = &geometry.axes()[2];
        let stride = axis.axis.stride;
        let begin = x.start * stride;
        let at = |y: usize| geometry.output_at(image, channel, [z, y, begin]);
        Self {
            output,
            first: at(0),
            row_step: at(1) - at(0),
            start: [0; PAIR],
            rows: 0,
            outputs: (x.end * stride).min(axis.output) - begin,
            step: if blocking.lanes_are == Lanes::Positions { 1 } else { geometry.problem().out_channels() },
            stride,
            channels,
            lanes_are: blocking.lanes_are,
            waiting: if blocking.phases_len > 0 { blocking.positions } else { 0 },
            phases: axis.phases.len(),
        }
    }

    /// Moves on to `rows` output rows from `y` on.
    #[inline(always)]
    pub fn set_rows(&mut self, y: usize, rows: usize) {
        let first = self.first + y * self.row_step;
        (self.start, self.rows) = ([first, first + self.row_step], rows);
    }

    /// Calls `f` with every contiguous run of outputs of a row.
    #[inline(always)]
    pub fn each_run(&self, row: usize, f: impl Fn(&mut [T])) {
        let (runs, len) = match self.lanes_are {
            Lanes::Positions => (1, self.outputs),
            Lanes::Channels => (self.outputs, self.channels),
        };
        for run in 0..runs {
            // SAFETY: the row belongs to this piece alone, and no other slice of it is alive.
            f(unsafe { self.output.slice_mut(self.start[row] + run * self.step, len) });
        }
    }

    /// Brings the waiting phases of all rows to their outputs.
    #[inline(always)]
    pub fn interleave_phases<S: Simd>(&self, simd: S, phases: &[T]) {
        // Positions that every phase has; fewer outputs than the stride are a remainder, too.
        let count = self.outputs / self.stride;
        for row in 0..self.rows {
            let from = &phases[row * self.phases * self.waiting..][..self.phases * self.waiting];
            // SAFETY: as above.
            let to = unsafe { self.output.slice_mut(self.start[row], self.outputs) };
            let (whole, rest) = to.split_at_mut(count * self.stride);
            if count > 0 {
                interleave(simd, self.stride, from, self.waiting, count, whole);
            }
            for (p, to) in rest.iter_mut().enumerate() {
                *to = from[p * self.waiting + count];
            }
        }
    }
}

/// One tile: sums, then stores.
pub struct Tile<'a, 'o, T> {
    pub operands: &'a Operands<'a, T>,
    /// One value, or one for each channel of a vector.
    pub bias: &'a [T],
    pub activation: Activation,
    pub place: &'a Place<'o, T>,
    /// Where phases wait.
    pub waiting: SharedOutput<'a, T>,
    /// Phases along x, two by two: the number of this pair.
    pub pair: usize,
    /// Positions before the tile, and those of each phase in the piece.
    pub done: usize,
    pub outputs: [usize; PAIR],
}

impl<T: Float> VectorCount for &Tile<'_, '_, T> {
    #[inline(always)]
    fn run<S: Simd, const V: usize>(self, simd: S) {
        match self.place.lanes_are {
            Lanes::Positions => {
                let bias = [T::splat(simd, self.bias[0]); V];
                let sums = Sums { a0: bias, a1: bias, b0: bias, b1: bias };
                let sums = self.operands.accumulate::<S, V, false>(simd, sums);
                let sums = self.activate(simd, sums);
                if self.place.waiting == 0 && self.place.stride == PAIR {
                    self.store_interleaved(simd, 0, sums.a0, sums.a1);
                    self.store_interleaved(simd, 1, sums.b0, sums.b1);
                } else {
                    self.store_positions::<S, V>(simd, 0, 0, sums.a0);
                    self.store_positions::<S, V>(simd, 0, 1, sums.a1);
                    self.store_positions::<S, V>(simd, 1, 0, sums.b0);
                    self.store_positions::<S, V>(simd, 1, 1, sums.b1);
                }
            }
            Lanes::Channels => {
                let bias: [T::Vector<S>; V] = [bytemuck::cast_slice(self.bias)[0]; V];
                let sums = Sums { a0: bias, a1: bias, b0: bias, b1: bias };
                let sums = self.operands.accumulate::<S, V, true>(simd, sums);
                let sums = self.activate(simd, sums);
                self.store_channels::<S, V>(simd, 0, 0, sums.a0);
                self.store_channels::<S, V>(simd, 0, 1, sums.a1);
                self.store_channels::<S, V>(simd, 1, 0, sums.b0);
                self.store_channels::<S, V>(simd, 1, 1, sums.b1);
            }
        }
    }
}

impl<T: Float> Tile<'_, '_, T> {
    #[inline(always)]
    fn activate<S: Simd, const V: usize>(
        &self,
        simd: S,
        mut sums: Sums<T::Vector<S>, V>,
    ) -> Sums<T::Vector<S>, V> {
        macro_rules! every {
            ($activation:expr) => {
                for v in 0..V {
                    sums.a0[v] = activate_vector::<T, S>(simd, $activation, sums.a0[v]);
                    sums.a1[v] = activate_vector::<T, S>(simd, $activation, sums.a1[v]);
                    sums.b0[v] = activate_vector::<T, S>(simd, $activation, sums.b0[v]);
                    sums.b1[v] = activate_vector::<T, S>(simd, $activation, sums.b1[v]);
                }
            };
        }
        // One decision for the whole tile.
        match self.activation {
            Activation::Identity | Activation::Sigmoid | Activation::Tanh => {}
            Activation::Relu => every!(Activation::Relu),
            Activation::LeakyRelu { slope } => every!(Activation::LeakyRelu { slope }),
            Activation::Clamp { low, high } => every!(Activation::Clamp { low, high }),
        }
        sums
    }

    /// Both phases of stride 2 of one row, interleaved in registers.
    #[inline(always)]
    fn store_interleaved<S: Simd, const V: usize>(
        &self,
        simd: S,
        row: usize,
        even: [T::Vector<S>; V],
        odd: [T::Vector<S>; V],
    ) {
        let lanes = T::lanes::<S>();
        let begin = PAIR * self.done;
        let len = (self.place.outputs - begin).min(PAIR * V * lanes);
        if row >= self.place.rows {
            return;
        }
        let mut whole = [[T::splat(simd, T::default()); PAIR]; V];
        for v in 0..V {
            whole[v] = interleave_pair::<T, S>(simd, even[v], odd[v]);
        }
        // SAFETY: these outputs belong to this piece alone.
        let to = unsafe { self.place.output.slice_mut(self.place.start[row] + begin, len) };
        if len == PAIR * V * lanes {
            for (v, both) in whole.into_iter().enumerate() {
                put::<T, S>(&mut to[PAIR * v * lanes..], both[0]);
                put::<T, S>(&mut to[(PAIR * v + 1) * lanes..], both[1]);
            }
        } else {
            for (v, both) in whole.into_iter().enumerate() {
                put_part(simd, to, PAIR * v * lanes, both[0]);
                put_part(simd, to, (PAIR * v + 1) * lanes, both[1]);
            }
        }
    }

    /// One phase of one row: stride 1, or phases that wait.
    #[inline(always)]
    fn store_positions<S: Simd, const V: usize>(
        &self,
        simd: S,
        row: usize,
        phase: usize,
        sums: [T::Vector<S>; V],
    ) {
        let lanes = T::lanes::<S>();
        let len = self.outputs[phase].saturating_sub(self.done).min(V * lanes);
        if row >= self.place.rows || len == 0 {
            return;
        }
        let (output, start) = if self.place.waiting > 0 {
            let phase = row * self.place.phases + PAIR * self.pair + phase;
            (self.waiting, phase * self.place.waiting)
        } else {
            (self.place.output, self.place.start[row])
        };
        // SAFETY: these outputs belong to this piece alone; what waits, to this worker.
        let to = unsafe { output.slice_mut(start + self.done, len) };
        if len == V * lanes {
            for (v, sums) in sums.into_iter().enumerate() {
                put::<T, S>(&mut to[v * lanes..], sums);
            }
        } else {
            for (v, sums) in sums.into_iter().enumerate() {
                put_part(simd, to, v * lanes, sums);
            }
        }
    }

    /// One phase of one row: every vector is the channels of one output.
    #[inline(always)]
    fn store_channels<S: Simd, const V: usize>(
        &self,
        simd: S,
        row: usize,
        phase: usize,
        sums: [T::Vector<S>; V],
    ) {
        let (lanes, place) = (T::lanes::<S>(), self.place);
        if row >= place.rows {
            return;
        }
        let first = self.done * place.stride + PAIR * self.pair + phase;
        for (v, sums) in sums.into_iter().enumerate() {
            if self.done + v < self.outputs[phase] {
                let at = place.start[row] + (first + v * place.stride) * place.step;
                // SAFETY: as above.
                let to = unsafe { place.output.slice_mut(at, place.channels) };
                if place.channels == lanes {
                    put::<T, S>(to, sums);
                } else {
                    T::store_partial(simd, to, sums);
                }
            }
        }
    }
}

/// Stores a whole vector.
#[inline(always)]
fn put<T: Float, S: Simd>(to: &mut [T], vector: T::Vector<S>) {
    let to = &mut to[..T::lanes::<S>()];
    // SAFETY: the slice was cut to one vector.
    unsafe { to.as_mut_ptr().cast::<T::Vector<S>>().write_unaligned(vector) };
}

/// Stores as much of a vector as there is room for from element `at` on.
#[inline(always)]
fn put_part<T: Float, S: Simd>(simd: S, to: &mut [T], at: usize, vector: T::Vector<S>) {
    let lanes = T::lanes::<S>();
    if at < to.len() {
        let to = &mut to[at..];
        let len = to.len().min(lanes);
        T::store_partial(simd, &mut to[..len], vector);
    }
}
