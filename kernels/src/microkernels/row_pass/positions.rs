//! Passes whose lanes are neighbouring positions: input rows are read where they lie.
//!
//! A step makes V vectors of positions. Steps at the ends of a row would read beyond it: they load by masks, which are
//! the same for all rows. The last step of a row ends where the row does and so repeats some positions of the one before.
//! A row is finished before the next one begins: its ends share cache lines with their neighbours.

// The loops over taps, phases and vectors index several arrays in step, and unroll as they are.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::{Line, RowPass, Weights};
use crate::machine::prefetch;
use crate::microkernels::activation::activate_vector;
use crate::microkernels::interleave::interleave_pair;
use crate::microkernels::row_tile::{PAIR, Sums};
use crate::microkernels::vector::Float;

/// Offsets along x, at most; and steps of a row that load by masks.
const OFFSETS: usize = 8;
const MASKED: usize = 12;

/// YA, YB: taps along y of rows a and b, which both read input row 0 first; YB = 0: there is no row b. X0, X1: taps of the
/// phases; X1 = 0: stride 1. LEAD: inputs by which phase 1 reads later. V: vectors of a step.
pub(super) struct Positions<
    'a,
    T,
    const V: usize,
    const YA: usize,
    const YB: usize,
    const LEAD: usize,
    const X0: usize,
    const X1: usize,
> {
    pub operands: &'a RowPass<'a, T>,
    pub first: Range<usize>,
    pub a: &'a Line<'a, T>,
    pub b: &'a Line<'a, T>,
}

/// The steps of a row: those of `plain` read only what lies in the row.
struct Steps {
    all: usize,
    plain: Range<usize>,
    /// First position of the last one.
    last: usize,
    /// Outputs of the last one.
    last_len: usize,
}

impl<
    T: Float,
    const V: usize,
    const YA: usize,
    const YB: usize,
    const LEAD: usize,
    const X0: usize,
    const X1: usize,
> Positions<'_, T, V, YA, YB, LEAD, X0, X1>
{
    /// Input offsets that any phase reads.
    const OFFSETS: usize = if X0 + LEAD > X1 { X0 + LEAD } else { X1 };
    /// Outputs of a position.
    const PHASES: usize = if X1 > 0 { PAIR } else { 1 };

    /// The last input that any tap reads for position 0.
    #[inline(always)]
    fn start(&self) -> i64 {
        self.operands.x_first + LEAD as i64
    }

    #[inline(always)]
    fn steps<S: Simd>(&self) -> Steps {
        let (o, wide) = (self.operands, V * T::lanes::<S>());
        let [first, second] = o.outputs;
        let all = first.div_ceil(wide);
        // Positions from which on, and up to which, a step reads nothing outside.
        let from = (Self::OFFSETS as i64 - 1 - self.start()).max(0) as usize;
        let to = (o.width as i64 - wide as i64 - self.start()).max(-1) + 1;
        let begin = from.div_ceil(wide).min(all - 1);
        let end = (to as usize).div_ceil(wide).clamp(begin, all - 1);
        let last = first.saturating_sub(wide);
        let outputs = first + if X1 > 0 { second } else { 0 };
        Steps { all, plain: begin..end, last, last_len: outputs - Self::PHASES * last }
    }

    /// That no access leaves the input, the weights or the outputs.
    #[inline(always)]
    fn check<S: Simd>(&self, steps: &Steps) {
        let (o, lanes) = (self.operands, T::lanes::<S>());
        let [first, second] = o.outputs;
        assert!(X1 == 0 || second <= first && first - second <= 1);
        assert!(o.height == 0 || (o.height - 1) * o.pitch + o.width <= o.rows.len());
        assert!(o.width <= o.pitch || o.height == 1);
        assert!(Self::OFFSETS + first.next_multiple_of(V * lanes) <= o.zeros.len());
        let ([ya, yb], y_step) = o.y_weights;
        let ([x0, x1], x_step) = o.x_weights;
        let y = (ya + (YA - 1) * y_step).max(if YB > 0 { yb + (YB - 1) * y_step } else { 0 });
        let x = (x0 + (X0 - 1) * x_step).max(if X1 > 0 { x1 + (X1 - 1) * x_step } else { 0 });
        assert!(y + x < o.weights.len() && !o.bias.is_empty());
        let end = Self::PHASES * steps.last + steps.last_len;
        assert!(self.a.holds(end) && self.b.holds(end));
    }

    /// All weights of one row and one phase.
    #[inline(always)]
    fn weights<const Y: usize, const X: usize>(&self, row: usize, phase: usize) -> [[T; X]; Y] {
        let o = self.operands;
        let mut weights = [[T::default(); X]; Y];
        for (m, weights) in weights.iter_mut().enumerate() {
            for (j, weight) in weights.iter_mut().enumerate() {
                let at = o.y_weights.0[row] + m * o.y_weights.1 + o.x_weights.0[phase] + j * o.x_weights.1;
                // SAFETY: inside, as `check` found.
                *weight = unsafe { *o.weights.as_ptr().add(at) };
            }
        }
        weights
    }

    /// The sums of one step, activated. `rows`: the last input that is read for its first position, in each input row.
    ///
    /// # Safety
    /// V vectors may be read at each offset; of a masked step, the lanes of `masks`.
    #[inline(always)]
    unsafe fn sums<S: Simd, const MASK: bool>(
        &self,
        simd: S,
        rows: [*const T; YA],
        masks: &[[T::Mask<S>; V]; OFFSETS],
        (weights, stored): (Weights<T::Vector<S>, YA, YB, X0, X1>, &Weights<T, YA, YB, X0, X1>),
        bias: T::Vector<S>,
    ) -> Sums<T::Vector<S>, V> {
        let lanes = T::lanes::<S>();
        let mut sums = Sums { a0: [bias; V], a1: [bias; V], b0: [bias; V], b1: [bias; V] };
        for m in 0..YA {
            for e in 0..Self::OFFSETS {
                let mut input = [bias; V];
                for v in 0..V {
                    let from = rows[m].wrapping_add(v * lanes).wrapping_sub(e);
                    // SAFETY: as promised.
                    input[v] = unsafe {
                        if MASK {
                            T::load_masked(simd, masks[e][v], from)
                        } else {
                            from.cast::<T::Vector<S>>().read_unaligned()
                        }
                    };
                }
                macro_rules! add {
                    ($sum:ident, $j:expr) => {
                        let weight =
                            if V == 1 { weights.$sum[m][$j] } else { T::splat(simd, stored.$sum[m][$j]) };
                        for v in 0..V {
                            sums.$sum[v] = T::mul_add(simd, input[v], weight, sums.$sum[v]);
                        }
                    };
                }
                if e >= LEAD && e - LEAD < X0 {
                    add!(a0, e - LEAD);
                    if m < YB {
                        add!(b0, e - LEAD);
                    }
                }
                if e < X1 {
                    add!(a1, e);
                    if m < YB {
                        add!(b1, e);
                    }
                }
            }
        }
        sums
    }

    /// Asks for the lines of the next pair of rows, to write them soon; only a hint.
    #[inline(always)]
    fn ahead<S: Simd>(&self, to_a: *mut T, to_b: *mut T, a_step: usize, b_step: usize) {
        for vector in 0..Self::PHASES * V {
            prefetch::write(to_a.wrapping_add(a_step + vector * T::lanes::<S>()));
            if YB > 0 {
                prefetch::write(to_b.wrapping_add(b_step + vector * T::lanes::<S>()));
            }
        }
    }

    /// Applies the activation to a step.
    #[inline(always)]
    fn activate<S: Simd>(&self, simd: S, mut sums: Sums<T::Vector<S>, V>) -> Sums<T::Vector<S>, V> {
        let activation = self.operands.activation;
        for v in 0..V {
            sums.a0[v] = activate_vector::<T, S>(simd, activation, sums.a0[v]);
            if X1 > 0 {
                sums.a1[v] = activate_vector::<T, S>(simd, activation, sums.a1[v]);
            }
            if YB > 0 {
                sums.b0[v] = activate_vector::<T, S>(simd, activation, sums.b0[v]);
                if X1 > 0 {
                    sums.b1[v] = activate_vector::<T, S>(simd, activation, sums.b1[v]);
                }
            }
        }
        sums
    }

    /// Stores one row of a step, the phases interleaved: all, or (`PART`) the first `len` outputs.
    ///
    /// # Safety
    /// They may be written.
    #[inline(always)]
    unsafe fn store<S: Simd, const PART: bool>(
        &self,
        simd: S,
        to: *mut T,
        len: usize,
        even: [T::Vector<S>; V],
        odd: [T::Vector<S>; V],
    ) {
        let lanes = T::lanes::<S>();
        for v in 0..V {
            let mut both = [even[v], odd[v]];
            if X1 > 0 {
                both = interleave_pair::<T, S>(simd, even[v], odd[v]);
            }
            for p in 0..Self::PHASES {
                let at = (Self::PHASES * v + p) * lanes;
                // SAFETY: as promised.
                unsafe {
                    if PART && at + lanes > len {
                        let left = len.saturating_sub(at);
                        if left > 0 {
                            T::store_lanes(simd, 0..left, to.wrapping_add(at), both[p]);
                        }
                    } else {
                        to.wrapping_add(at).cast::<T::Vector<S>>().write_unaligned(both[p]);
                    }
                }
            }
        }
    }
}

impl<
    T: Float,
    const V: usize,
    const YA: usize,
    const YB: usize,
    const LEAD: usize,
    const X0: usize,
    const X1: usize,
> WithSimd for Positions<'_, T, V, YA, YB, LEAD, X0, X1>
{
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (o, lanes) = (self.operands, T::lanes::<S>());
        let wide = V * lanes;
        if self.first.is_empty() || o.outputs[0] == 0 {
            return;
        }
        let steps = self.steps::<S>();
        self.check::<S>(&steps);
        // SAFETY: nobody reads what is written there.
        let dust = unsafe { o.dust.slice_ptr(0, Self::PHASES * o.outputs[0].next_multiple_of(wide)) };
        let bias = T::splat(simd, o.bias[0]);
        let stored = Weights {
            a0: self.weights(0, 0),
            a1: self.weights(0, 1),
            b0: self.weights(1, 0),
            b1: self.weights(1, 1),
        };
        // One vector: the weights stay in registers. Two, where registers are few: they are broadcast from memory each time,
        // which the compiler would do once and for all, only to keep them in memory as whole vectors.
        let stored = if V == 1 { &stored } else { std::hint::black_box(&stored) };
        let weights = (stored.splat(simd), stored);
        // In registers: what is stored might be the operands, for all that the compiler knows.
        let (plain, ask, pitch, height, row_step) = (o.plain, o.ask, o.pitch, o.height, o.row_step);
        let (a_step, b_step) = (self.a.steps[2], self.b.steps[2]);
        let zeros = o.zeros.as_ptr().wrapping_add(Self::OFFSETS - 1);
        let start = o.rows.as_ptr().wrapping_offset(self.start() as isize);
        let rows_of = |t: usize| {
            let mut rows: [*const T; YA] = [zeros; YA];
            let mut row = t;
            for from in &mut rows {
                if row < height {
                    *from = start.wrapping_add(row * pitch);
                }
                row = row.wrapping_sub(row_step);
            }
            rows
        };
        let (begin, inner) = (steps.plain.start, steps.plain.len());
        let position = |k: usize| if k + 1 == steps.all { steps.last } else { k * wide };
        // The masks of the steps that are not plain.
        let mut masks = [[[T::mask(simd, 0..0); V]; OFFSETS]; MASKED];
        assert!(steps.all - inner <= MASKED);
        for (slot, masks) in masks[..steps.all - inner].iter_mut().enumerate() {
            let q = position(if slot < begin { slot } else { slot + inner });
            for (e, masks) in masks[..Self::OFFSETS].iter_mut().enumerate() {
                for (v, mask) in masks.iter_mut().enumerate() {
                    let from = self.start() + (q + v * lanes) as i64 - e as i64;
                    let clip = |at: i64| (at - from).clamp(0, lanes as i64) as usize;
                    *mask = T::mask(simd, clip(0)..clip(o.width as i64));
                }
            }
        }
        let (all, last, last_len) = (steps.all, steps.last, steps.last_len);
        let whole = last_len == Self::PHASES * wide;
        for t in self.first.clone() {
            let rows = rows_of(t);
            let (to_a, to_b) = (self.a.row(t).unwrap_or(dust), self.b.row(t).unwrap_or(dust));
            let mut ends = masks.iter();
            let (mut next, mut left) = (0, all);
            while left > 0 {
                left -= 1;
                let q = if left == 0 { last } else { next };
                let rows = rows.map(|row| row.wrapping_add(q));
                let (to_a, to_b) = (to_a.wrapping_add(Self::PHASES * q), to_b.wrapping_add(Self::PHASES * q));
                // SAFETY: plain steps read only what lies in the row, and the masks of the others have no more; every step
                // but the last ends before the line does, as `check` found.
                unsafe {
                    let mut s = if (begin * wide..(begin + inner) * wide).contains(&next) {
                        self.sums::<S, false>(simd, rows, &masks[0], weights, bias)
                    } else {
                        let masks = ends.next().unwrap_unchecked();
                        self.sums::<S, true>(simd, rows, masks, weights, bias)
                    };
                    if !plain {
                        s = self.activate(simd, s);
                    }
                    if ask {
                        self.ahead::<S>(to_a, to_b, a_step, b_step);
                    }
                    if whole || left > 0 {
                        self.store::<S, false>(simd, to_a, 0, s.a0, s.a1);
                        if YB > 0 {
                            self.store::<S, false>(simd, to_b, 0, s.b0, s.b1);
                        }
                    } else {
                        self.store::<S, true>(simd, to_a, last_len, s.a0, s.a1);
                        if YB > 0 {
                            self.store::<S, true>(simd, to_b, last_len, s.b0, s.b1);
                        }
                    }
                }
                next += wide;
            }
        }
    }
}
