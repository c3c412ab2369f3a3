//! The passes along x and y: a row of inputs becomes a widened row, and a few of those an output row.

use std::array::from_fn;

use pulp::Simd;

use super::blocking::{Blocking, Widening};
use crate::machine::prefetch;
use crate::microkernels::activation::activate_vector;
use crate::microkernels::interleave::interleave;
use crate::microkernels::vector::Float;
use crate::problem::epilogue::Activation;
use crate::problem::geometry::AxisGeometry;

/// The pass along x of one channel, or of all channels of a position.
#[derive(Debug, Clone, Copy)]
pub struct Widen<'a, T> {
    pub axis: &'a AxisGeometry,
    pub blocking: &'a Blocking,
    /// Its factors.
    pub factors: &'a [T],
    /// Outputs of the piece.
    pub outputs: usize,
}

impl<T: Float> Widen<'_, T> {
    /// From a padded row to a widened one; phases may wait in between.
    #[inline(always)]
    pub fn run<S: Simd>(&self, simd: S, row: &[T], waiting: &mut [T], wide: &mut [T]) {
        match self.blocking.widening {
            Widening::Phases => self.phases(simd, row, waiting, wide),
            Widening::Outputs { span } => self.positions(simd, span, row, wide),
            Widening::Channels => self.channels(simd, row, wide),
        }
    }

    /// Element of a padded row that tap 0 of a phase reads at its first output.
    #[inline(always)]
    fn start(&self, base: i64) -> usize {
        (base - self.blocking.reach_x.start) as usize
    }

    #[inline(always)]
    fn phases<S: Simd>(&self, simd: S, row: &[T], waiting: &mut [T], wide: &mut [T]) {
        let (b, lanes, stride) = (self.blocking, T::lanes::<S>(), self.axis.axis.stride);
        for (rho, phase) in self.axis.phases.iter().enumerate() {
            let outputs = self.outputs.saturating_sub(rho).div_ceil(stride);
            let to = if stride == 1 { &mut *wide } else { &mut waiting[rho * b.waiting..][..b.waiting] };
            let to = &mut to[..outputs.next_multiple_of(lanes)];
            let start = if phase.taps > 0 { self.start(phase.base) } else { 0 };
            for (v, to) in to.chunks_exact_mut(lanes).enumerate() {
                let mut sum = T::splat(simd, T::default());
                for m in 0..phase.taps {
                    let factor = T::splat(simd, self.factors[phase.tap(m)]);
                    let from = &row[start + v * lanes - m * phase.input_step..];
                    sum = T::mul_add(simd, factor, T::load(simd, from), sum);
                }
                T::store_partial(simd, to, sum);
            }
        }
        if stride == 1 {
            return;
        }
        // Positions that every phase has; what is left is a part of one.
        let count = self.outputs / stride;
        let (whole, rest) = wide[..self.outputs].split_at_mut(count * stride);
        if count > 0 {
            interleave(simd, stride, waiting, b.waiting, count, whole);
        }
        for (rho, to) in rest.iter_mut().enumerate() {
            *to = waiting[rho * b.waiting + count];
        }
    }

    /// All outputs of one position after another: whole vectors, whose ends the next position overwrites.
    #[inline(always)]
    fn positions<S: Simd>(&self, simd: S, span: usize, row: &[T], wide: &mut [T]) {
        let (lanes, stride) = (T::lanes::<S>(), self.axis.axis.stride);
        let columns = self.axis.phases.len().next_multiple_of(lanes);
        for q in 0..self.outputs.div_ceil(stride) {
            let from = &row[q..q + span];
            let to = &mut wide[q * stride..][..columns];
            for (v, to) in to.chunks_exact_mut(lanes).enumerate() {
                let mut sum = T::splat(simd, T::default());
                for (back, from) in from.iter().rev().enumerate() {
                    let factors = &self.factors[back * columns + v * lanes..];
                    sum = T::mul_add(simd, T::load(simd, factors), T::splat(simd, *from), sum);
                }
                T::store_partial(simd, to, sum);
            }
        }
    }

    /// The channels of one output after another: whole vectors, whose ends the next output overwrites.
    #[inline(always)]
    fn channels<S: Simd>(&self, simd: S, row: &[T], wide: &mut [T]) {
        let (b, lanes, stride) = (self.blocking, T::lanes::<S>(), self.axis.axis.stride);
        let (unit, padded) = (b.unit, b.padded());
        let (mut q, mut rho) = (0, 0);
        for output in 0..self.outputs {
            let phase = &self.axis.phases[rho];
            let start = if phase.taps > 0 { (self.start(phase.base) + q) * unit } else { 0 };
            let to = &mut wide[output * unit..][..padded];
            for (v, to) in to.chunks_exact_mut(lanes).enumerate() {
                let mut sum = T::splat(simd, T::default());
                for m in 0..phase.taps {
                    let factors = &self.factors[phase.tap(m) * padded + v * lanes..];
                    let from = &row[start + v * lanes - m * phase.input_step * unit..];
                    sum = T::mul_add(simd, T::load(simd, factors), T::load(simd, from), sum);
                }
                T::store_partial(simd, to, sum);
            }
            rho += 1;
            if rho == stride {
                (q, rho) = (q + 1, 0);
            }
        }
    }
}

/// The pass along y: bias + Σ factor · widened row, activated.
#[derive(Debug, Clone, Copy)]
pub struct Combine<'a, T> {
    /// Widened rows by input row (modulo their number), and elements of one.
    pub ring: &'a [T],
    pub wide: usize,
    /// The input row that the first tap reads; each further one reads `step` earlier.
    pub first: usize,
    pub step: usize,
    pub taps: usize,
    /// The factor of the first tap; each further one lies `factor_step` on.
    pub factors: &'a [T],
    pub factor_step: usize,
    pub bias: &'a [T],
    /// Vectors after which factors and bias repeat; 0 where each is one number.
    pub period: usize,
    pub activation: Activation,
    /// Elements to an output that is asked for, since it is written soon; 0: none is.
    pub ahead: usize,
}

impl<T: Float> Combine<'_, T> {
    /// Writes one output row of a piece.
    #[inline(always)]
    pub fn run<S: Simd>(&self, simd: S, to: &mut [T]) {
        match (self.period, self.taps) {
            (0, 0) => self.few::<S, 0>(simd, to),
            (0, 1) => self.few::<S, 1>(simd, to),
            (0, 2) => self.few::<S, 2>(simd, to),
            (0, 3) => self.few::<S, 3>(simd, to),
            _ => self.any(simd, to),
        }
    }

    /// The widened row of a tap.
    #[inline(always)]
    fn row(&self, tap: usize, len: usize) -> &[T] {
        let rows = self.ring.len() / self.wide;
        &self.ring[((self.first - tap * self.step) & (rows - 1)) * self.wide..][..len]
    }

    /// All factors in registers.
    #[inline(always)]
    fn few<S: Simd, const TAPS: usize>(&self, simd: S, to: &mut [T]) {
        let lanes = T::lanes::<S>();
        let rows: [&[T]; TAPS] = from_fn(|tap| self.row(tap, to.len().next_multiple_of(lanes)));
        let factors: [T::Vector<S>; TAPS] =
            from_fn(|tap| T::splat(simd, self.factors[tap * self.factor_step]));
        let bias = T::splat(simd, self.bias[0]);
        let plain = is_plain(self.activation);
        for (v, to) in to.chunks_mut(lanes).enumerate() {
            let mut sum = bias;
            for tap in 0..TAPS {
                // SAFETY: each row has as many whole vectors as there are chunks.
                let from =
                    unsafe { rows[tap].as_ptr().add(v * lanes).cast::<T::Vector<S>>().read_unaligned() };
                sum = T::mul_add(simd, factors[tap], from, sum);
            }
            self.store(simd, plain, sum, to);
        }
    }

    #[inline(always)]
    fn any<S: Simd>(&self, simd: S, to: &mut [T]) {
        let lanes = T::lanes::<S>();
        let len = to.len().next_multiple_of(lanes);
        let plain = is_plain(self.activation);
        let mut place = 0;
        for (v, to) in to.chunks_mut(lanes).enumerate() {
            let at = |values: &[T], start: usize| match self.period {
                0 => T::splat(simd, values[start]),
                _ => T::load(simd, &values[start + place * lanes..]),
            };
            let mut sum = at(self.bias, 0);
            for tap in 0..self.taps {
                let from = T::load(simd, &self.row(tap, len)[v * lanes..]);
                sum = T::mul_add(simd, at(self.factors, tap * self.factor_step), from, sum);
            }
            self.store(simd, plain, sum, to);
            place += 1;
            if place == self.period {
                place = 0;
            }
        }
    }

    #[inline(always)]
    fn store<S: Simd>(&self, simd: S, plain: bool, sum: T::Vector<S>, to: &mut [T]) {
        let sum = if plain { sum } else { activate_vector::<T, S>(simd, self.activation, sum) };
        if self.ahead > 0 {
            prefetch::write(to.as_ptr().wrapping_add(self.ahead));
        }
        if to.len() == T::lanes::<S>() {
            // SAFETY: room for a vector.
            unsafe { to.as_mut_ptr().cast::<T::Vector<S>>().write_unaligned(sum) };
        } else {
            T::store_partial(simd, to, sum);
        }
    }
}

/// Whether nothing is done in registers: there is nothing to do, or it takes a call.
fn is_plain(activation: Activation) -> bool {
    activation == Activation::Identity || activation.is_transcendental()
}
