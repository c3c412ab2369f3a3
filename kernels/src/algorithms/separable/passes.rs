//! The passes along x and y: a row of inputs becomes a widened row, and a few of those an output row.

use pulp::Simd;

use super::blocking::{Blocking, Widening};
use crate::machine::prefetch;
use crate::microkernels::activation::activate_vector;
use crate::microkernels::interleave::{interleave, interleave_vectors};
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
            Widening::Interleaved { span } => match (self.axis.axis.stride, span) {
                (1, 2) => self.interleaved::<S, 1, 2>(simd, row, wide),
                (1, _) => self.interleaved::<S, 1, 3>(simd, row, wide),
                (2, 2) => self.interleaved::<S, 2, 2>(simd, row, wide),
                (2, _) => self.interleaved::<S, 2, 3>(simd, row, wide),
                (_, 2) => self.interleaved::<S, 4, 2>(simd, row, wide),
                _ => self.interleaved::<S, 4, 3>(simd, row, wide),
            },
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
                put::<T, S>(to, sum);
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

    /// Stride `Z`, all phases of a vector of positions at once.
    #[inline(always)]
    fn interleaved<S: Simd, const Z: usize, const SPAN: usize>(&self, simd: S, row: &[T], wide: &mut [T]) {
        let lanes = T::lanes::<S>();
        let columns = Z.next_multiple_of(lanes);
        let mut factors = [[T::splat(simd, T::default()); Z]; SPAN];
        for (factors, from) in factors.iter_mut().zip(self.factors.chunks_exact(columns)) {
            for (to, factor) in factors.iter_mut().zip(from) {
                *to = T::splat(simd, *factor);
            }
        }
        let vectors = self.outputs.div_ceil(Z * lanes);
        let (row, wide) = (&row[..vectors * lanes + SPAN - 1], &mut wide[..vectors * Z * lanes]);
        for (v, to) in wide.chunks_exact_mut(Z * lanes).enumerate() {
            let mut sums = [T::splat(simd, T::default()); Z];
            for (back, factors) in factors.iter().enumerate() {
                let at = v * lanes + SPAN - 1 - back;
                // SAFETY: the row has a vector there, for the last of them, too.
                let from = unsafe { row.as_ptr().add(at).cast::<T::Vector<S>>().read_unaligned() };
                for (sum, factor) in sums.iter_mut().zip(factors) {
                    *sum = T::mul_add(simd, *factor, from, *sum);
                }
            }
            let sums = interleave_vectors::<T, S, Z>(simd, sums);
            for (to, sum) in to.chunks_exact_mut(lanes).zip(sums) {
                put::<T, S>(to, sum);
            }
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
                put::<T, S>(to, sum);
            }
        }
    }

    /// Lanes are channels. Whole vectors are written, whose ends reach into the next output: where a position has more than
    /// one, the last of all outputs come first, and the next output's first are written later; else outputs come in order.
    #[inline(always)]
    fn channels<S: Simd>(&self, simd: S, row: &[T], wide: &mut [T]) {
        let stride = self.axis.axis.stride;
        let vectors = self.blocking.padded() / T::lanes::<S>();
        if vectors == 1 {
            for output in 0..self.outputs {
                self.phase_of_channels(simd, row, wide, 0, output..output + 1);
            }
            return;
        }
        for v in (0..vectors).rev() {
            for rho in 0..stride.min(self.outputs) {
                self.phase_of_channels(simd, row, wide, v, rho..self.outputs);
            }
        }
    }

    /// Vector `v` of the channels of the first of `outputs` and of all others of its phase.
    #[inline(always)]
    fn phase_of_channels<S: Simd>(
        &self,
        simd: S,
        row: &[T],
        wide: &mut [T],
        v: usize,
        outputs: std::ops::Range<usize>,
    ) {
        match self.axis.phases[outputs.start % self.axis.axis.stride].taps {
            1 => self.taps_of_channels::<S, 1>(simd, row, wide, v, outputs),
            2 => self.taps_of_channels::<S, 2>(simd, row, wide, v, outputs),
            taps => {
                // More taps, or none: vector after vector.
                let (b, lanes, stride) = (self.blocking, T::lanes::<S>(), self.axis.axis.stride);
                for output in outputs.step_by(stride) {
                    let phase = &self.axis.phases[output % stride];
                    let mut sum = T::splat(simd, T::default());
                    for m in 0..taps {
                        let factors = &self.factors[phase.tap(m) * b.padded() + v * lanes..];
                        let at = self.start(phase.base) + output / stride - m * phase.input_step;
                        let from = T::load(simd, &row[at * b.unit + v * lanes..]);
                        sum = T::mul_add(simd, T::load(simd, factors), from, sum);
                    }
                    put::<T, S>(&mut wide[output * b.unit + v * lanes..], sum);
                }
            }
        }
    }

    #[inline(always)]
    fn taps_of_channels<S: Simd, const TAPS: usize>(
        &self,
        simd: S,
        row: &[T],
        wide: &mut [T],
        v: usize,
        outputs: std::ops::Range<usize>,
    ) {
        let (b, lanes, stride) = (self.blocking, T::lanes::<S>(), self.axis.axis.stride);
        let phase = &self.axis.phases[outputs.start % stride];
        let mut factors = [T::splat(simd, T::default()); TAPS];
        for (m, factor) in factors.iter_mut().enumerate() {
            *factor = T::load(simd, &self.factors[phase.tap(m) * b.padded() + v * lanes..]);
        }
        let first = self.start(phase.base) + outputs.start / stride;
        let steps = outputs.len().div_ceil(stride);
        let mut rows = [row; TAPS];
        for (m, from) in rows.iter_mut().enumerate() {
            *from = &row[(first - m * phase.input_step) * b.unit + v * lanes..];
        }
        let wide = &mut wide[outputs.start * b.unit + v * lanes..];
        let last = steps - 1;
        assert!(rows.iter().all(|row| row.len() >= last * b.unit + lanes));
        assert!(wide.len() >= last * stride * b.unit + lanes);
        for q in 0..steps {
            let mut sum = T::splat(simd, T::default());
            for m in 0..TAPS {
                // SAFETY: `last` is inside, as asserted.
                let from =
                    unsafe { rows[m].as_ptr().add(q * b.unit).cast::<T::Vector<S>>().read_unaligned() };
                sum = T::mul_add(simd, factors[m], from, sum);
            }
            // SAFETY: as above.
            unsafe { wide.as_mut_ptr().add(q * stride * b.unit).cast::<T::Vector<S>>().write_unaligned(sum) };
        }
    }
}

/// A vector to the beginning of a slice that has room for it.
#[inline(always)]
fn put<T: Float, S: Simd>(to: &mut [T], vector: T::Vector<S>) {
    assert!(to.len() >= T::lanes::<S>());
    // SAFETY: so it is.
    unsafe { to.as_mut_ptr().cast::<T::Vector<S>>().write_unaligned(vector) };
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
        let (mut rows, mut factors) = ([self.ring; TAPS], [T::splat(simd, T::default()); TAPS]);
        for tap in 0..TAPS {
            rows[tap] = self.row(tap, to.len().next_multiple_of(lanes));
            factors[tap] = T::splat(simd, self.factors[tap * self.factor_step]);
        }
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
            let mut sum = self.numbers(simd, self.bias, 0, place * lanes);
            for tap in 0..self.taps {
                let from = T::load(simd, &self.row(tap, len)[v * lanes..]);
                let factors = self.numbers(simd, self.factors, tap * self.factor_step, place * lanes);
                sum = T::mul_add(simd, factors, from, sum);
            }
            self.store(simd, plain, sum, to);
            place += 1;
            if place == self.period {
                place = 0;
            }
        }
    }

    /// One number, or those of a vector of the period.
    #[inline(always)]
    fn numbers<S: Simd>(&self, simd: S, values: &[T], start: usize, place: usize) -> T::Vector<S> {
        match self.period {
            0 => T::splat(simd, values[start]),
            _ => T::load(simd, &values[start + place..]),
        }
    }

    #[inline(always)]
    fn store<S: Simd>(&self, simd: S, plain: bool, sum: T::Vector<S>, to: &mut [T]) {
        let sum = if plain { sum } else { activate_vector::<T, S>(simd, self.activation, sum) };
        if self.ahead > 0 {
            prefetch::write(to.as_ptr().wrapping_add(self.ahead));
        }
        if to.len() == T::lanes::<S>() {
            put::<T, S>(to, sum);
        } else {
            T::store_partial(simd, to, sum);
        }
    }
}

/// Whether nothing is done in registers: there is nothing to do, or it takes a call.
fn is_plain(activation: Activation) -> bool {
    activation == Activation::Identity || activation.is_transcendental()
}
