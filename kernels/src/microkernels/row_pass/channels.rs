//! Passes whose lanes are the channels of one position.
//!
//! A step makes V neighbouring positions. The first and the last step of a row read zeros for what lies beside it. Vectors of
//! channels lie side by side: a few positions of all of them come before the next positions, so that memory is read and written
//! in its order.

// The loops over taps, phases and vectors index several arrays in step, and unroll as they are.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::{Line, RowPass, Weights};
use crate::microkernels::activation::activate_vector;
use crate::microkernels::row_tile::{PAIR, Sums};
use crate::microkernels::vector::Float;

/// Inputs of one step in one row: V positions, their offsets together.
const INPUTS: usize = 8;

/// Positions of one vector of channels before the next vector.
const BLOCK: usize = 16;

/// As [`super::positions::Positions`]; V: positions of a step.
pub(super) struct Channels<
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

impl<
    T: Float,
    const V: usize,
    const YA: usize,
    const YB: usize,
    const LEAD: usize,
    const X0: usize,
    const X1: usize,
> Channels<'_, T, V, YA, YB, LEAD, X0, X1>
{
    /// Input offsets that any phase reads; inputs of a step.
    const OFFSETS: usize = if X0 + LEAD > X1 { X0 + LEAD } else { X1 };
    const INPUTS: usize = Self::OFFSETS + V - 1;

    /// The first input that any tap reads for position 0.
    #[inline(always)]
    fn start(&self) -> i64 {
        self.operands.x_first + LEAD as i64 - (Self::OFFSETS as i64 - 1)
    }

    /// That no access leaves the input, the weights or the outputs.
    #[inline(always)]
    fn check<S: Simd>(&self) {
        let (o, lanes) = (self.operands, T::lanes::<S>());
        let [first, second] = o.outputs;
        assert!(X1 == 0 || second <= first && first - second <= 1);
        assert!(o.ring.is_power_of_two() && o.width > 0);
        let rows = o.height.min(o.ring);
        // Vectors side by side: none begins after the last one, which reaches farthest.
        assert!(o.units > 0 && (o.units == 1 || o.channels == lanes));
        let before = o.units - 1;
        assert!(before.saturating_sub(1) * lanes <= o.last_unit);
        let reach = o.last_unit + lanes;
        assert!(rows == 0 || (rows - 1) * o.pitch + (o.width - 1) * o.pixel + reach <= o.rows.len());
        assert!(o.zeros.len() >= lanes);
        let ([ya, yb], y_step) = o.y_weights;
        let ([x0, x1], x_step) = o.x_weights;
        let y = (ya + (YA - 1) * y_step).max(if YB > 0 { yb + (YB - 1) * y_step } else { 0 });
        let x = (x0 + (X0 - 1) * x_step).max(if X1 > 0 { x1 + (X1 - 1) * x_step } else { 0 });
        assert!(before * o.unit_weights + y + x + lanes <= o.weights.len());
        assert!(before * lanes + lanes <= o.bias.len());
        assert!(o.channels <= lanes);
        for line in [self.a, self.b] {
            // Position after position, phase after phase; the last may lack its second phase.
            let [step, phase, _] = line.steps;
            let last = if X1 > 0 && second == first { phase } else { 0 };
            assert!(line.holds((first - 1) * step + last + o.last_unit + o.channels));
        }
    }

    /// All weights of vector `unit` in one row and one phase.
    #[inline(always)]
    fn weights<S: Simd, const Y: usize, const X: usize>(
        &self,
        simd: S,
        unit: usize,
        row: usize,
        phase: usize,
    ) -> [[T::Vector<S>; X]; Y] {
        let o = self.operands;
        let first = o.weights.as_ptr().wrapping_add(unit * o.unit_weights);
        let mut weights = [[T::splat(simd, T::default()); X]; Y];
        for (m, weights) in weights.iter_mut().enumerate() {
            for (j, weight) in weights.iter_mut().enumerate() {
                let at = o.y_weights.0[row] + m * o.y_weights.1 + o.x_weights.0[phase] + j * o.x_weights.1;
                // SAFETY: inside, as `check` found.
                *weight = unsafe { first.add(at).cast::<T::Vector<S>>().read_unaligned() };
            }
        }
        weights
    }

    /// The sums of one step; `inputs`: where each input of each row lies.
    ///
    /// # Safety
    /// A vector may be read at each.
    #[inline(always)]
    unsafe fn sums<S: Simd>(
        &self,
        simd: S,
        inputs: [[*const T; INPUTS]; YA],
        (weights, stored): (Weights<T::Vector<S>, YA, YB, X0, X1>, &Weights<T::Vector<S>, YA, YB, X0, X1>),
        bias: T::Vector<S>,
    ) -> Sums<T::Vector<S>, V> {
        let mut sums = Sums { a0: [bias; V], a1: [bias; V], b0: [bias; V], b1: [bias; V] };
        for m in 0..YA {
            let mut row = [bias; INPUTS];
            for i in 0..Self::INPUTS {
                // SAFETY: as promised.
                row[i] = unsafe { inputs[m][i].cast::<T::Vector<S>>().read_unaligned() };
            }
            for e in 0..Self::OFFSETS {
                macro_rules! add {
                    ($sum:ident, $j:expr) => {
                        let weight = if V == 1 { weights.$sum[m][$j] } else { stored.$sum[m][$j] };
                        for v in 0..V {
                            let input = row[Self::OFFSETS - 1 - e + v];
                            sums.$sum[v] = T::mul_add(simd, input, weight, sums.$sum[v]);
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

    /// Applies the activation to a step.
    #[inline(always)]
    fn activate<S: Simd>(&self, simd: S, mut sums: Sums<T::Vector<S>, V>) -> Sums<T::Vector<S>, V> {
        let activation = self.operands.activation;
        for v in 0..V {
            sums.a0[v] = activate_vector::<T, S>(simd, activation, sums.a0[v]);
            sums.a1[v] = activate_vector::<T, S>(simd, activation, sums.a1[v]);
            sums.b0[v] = activate_vector::<T, S>(simd, activation, sums.b0[v]);
            sums.b1[v] = activate_vector::<T, S>(simd, activation, sums.b1[v]);
        }
        sums
    }

    /// Stores the outputs of a step in one row at `to`, positions and phases `steps` apart: those of the first `left`
    /// positions of each phase; all lanes, or (`PART`) the first `channels`.
    ///
    /// # Safety
    /// They may be written.
    #[inline(always)]
    unsafe fn store<S: Simd, const PART: bool>(
        &self,
        simd: S,
        (to, [step, phase]): (*mut T, [usize; 2]),
        left: [usize; PAIR],
        sums: [[T::Vector<S>; V]; PAIR],
    ) {
        for v in 0..V {
            let to = to.wrapping_add(v * step);
            for p in 0..if X1 > 0 { PAIR } else { 1 } {
                if v < left[p] {
                    let to = to.wrapping_add(p * phase);
                    // SAFETY: as promised.
                    unsafe {
                        if PART {
                            let to = std::slice::from_raw_parts_mut(to, self.operands.channels);
                            T::store_partial(simd, to, sums[p][v]);
                        } else {
                            to.cast::<T::Vector<S>>().write_unaligned(sums[p][v]);
                        }
                    }
                }
            }
        }
    }

    /// Activates, unless it is `plain`, and stores a step in both rows; `whole`: all lanes. A method: a closure that is called
    /// twice would be a call, without the instruction set.
    ///
    /// # Safety
    /// As for `store`.
    #[inline(always)]
    unsafe fn finish<S: Simd>(
        &self,
        simd: S,
        (plain, whole): (bool, bool),
        [a, b]: [(*mut T, [usize; 2]); PAIR],
        left: [usize; PAIR],
        mut sums: Sums<T::Vector<S>, V>,
    ) {
        if !plain {
            sums = self.activate(simd, sums);
        }
        let s = sums;
        // SAFETY: as promised.
        unsafe {
            if whole {
                self.store::<S, false>(simd, a, left, [s.a0, s.a1]);
                if YB > 0 {
                    self.store::<S, false>(simd, b, left, [s.b0, s.b1]);
                }
            } else {
                self.store::<S, true>(simd, a, left, [s.a0, s.a1]);
                if YB > 0 {
                    self.store::<S, true>(simd, b, left, [s.b0, s.b1]);
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
> WithSimd for Channels<'_, T, V, YA, YB, LEAD, X0, X1>
{
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (o, lanes) = (self.operands, T::lanes::<S>());
        if self.first.is_empty() || o.outputs[0] == 0 {
            return;
        }
        self.check::<S>();
        // Steps before position `from` and from `to` on read beyond the row or lack outputs.
        let (start, width, outputs) = (self.start(), o.width as i64, o.outputs);
        let all = outputs[0].next_multiple_of(V);
        let complete = if X1 > 0 { outputs[1] } else { outputs[0] } / V * V;
        let from = ((-start).max(0) as usize).next_multiple_of(V).min(all);
        let inside = (width - Self::INPUTS as i64 + 1 - start).max(0) as usize;
        let to = inside.next_multiple_of(V).clamp(from, complete.max(from));
        // SAFETY: nobody reads what is written there.
        let dust = unsafe { o.dust.slice_ptr(0, lanes) };
        // In registers: what is stored might be the operands, for all that the compiler knows.
        let (pitch, pixel, height, ring, row_step) = (o.pitch, o.pixel, o.height, o.ring - 1, o.row_step);
        let how = (o.plain, o.channels == lanes);
        let (first_row, zeros) = (o.rows.as_ptr(), o.zeros.as_ptr());
        let place = |line: &Line<'_, T>, t: usize| {
            line.row(t).map_or((dust, [0; 2]), |to| (to, [line.steps[0], line.steps[1]]))
        };
        let rows_of = |t: usize| {
            // Without a row, all positions are the same zeros.
            let mut rows = [(zeros, 0); YA];
            let mut row = t;
            for from in &mut rows {
                if row < height {
                    *from = (first_row.wrapping_add((row & ring) * pitch), pixel);
                }
                row = row.wrapping_sub(row_step);
            }
            rows
        };
        let (units, last_unit) = (o.units, o.last_unit);
        for t in self.first.clone() {
            let rows = rows_of(t);
            let ((to_a, steps_a), (to_b, steps_b)) = (place(self.a, t), place(self.b, t));
            let mut begin = 0;
            while begin < all {
                let end = if units == 1 { all } else { all.min(begin + BLOCK.next_multiple_of(V)) };
                for unit in 0..units {
                    let lane = if unit + 1 == units { last_unit } else { unit * lanes };
                    // What there is not is the same for all.
                    let own = |step: usize| if step > 0 { lane } else { 0 };
                    // SAFETY: a vector for each unit, as `check` found.
                    let bias =
                        unsafe { o.bias.as_ptr().add(unit * lanes).cast::<T::Vector<S>>().read_unaligned() };
                    let stored = Weights {
                        a0: self.weights(simd, unit, 0, 0),
                        a1: self.weights(simd, unit, 0, 1),
                        b0: self.weights(simd, unit, 1, 0),
                        b1: self.weights(simd, unit, 1, 1),
                    };
                    // One position: the weights stay in registers. Two, where registers are few: in memory, side by side.
                    let stored = if V == 1 { &stored } else { std::hint::black_box(&stored) };
                    let weights = (*stored, stored);
                    let mut rows = rows;
                    let mut inner = rows;
                    for (row, inner) in rows.iter_mut().zip(&mut inner) {
                        row.0 = row.0.wrapping_add(own(row.1));
                        let on = (start + begin as i64) as isize * row.1 as isize;
                        *inner = (row.0.wrapping_offset(on), row.1);
                    }
                    let mut at_a = to_a.wrapping_add(own(steps_a[0]) + begin * steps_a[0]);
                    let mut at_b = to_b.wrapping_add(own(steps_b[0]) + begin * steps_b[0]);
                    let mut q = begin;
                    while q < end {
                        let mut inputs = [[zeros; INPUTS]; YA];
                        // SAFETY: inside the row, or zeros beside it; outputs that there are.
                        unsafe {
                            if (from..to).contains(&q) {
                                for (inputs, (row, step)) in inputs.iter_mut().zip(inner) {
                                    for (i, input) in inputs[..Self::INPUTS].iter_mut().enumerate() {
                                        *input = row.wrapping_add(i * step);
                                    }
                                }
                                let sums = self.sums(simd, inputs, weights, bias);
                                self.finish(simd, how, [(at_a, steps_a), (at_b, steps_b)], [V; PAIR], sums);
                            } else {
                                for (inputs, (row, step)) in inputs.iter_mut().zip(rows) {
                                    for (i, input) in inputs[..Self::INPUTS].iter_mut().enumerate() {
                                        let x = start + (q + i) as i64;
                                        if (0..width).contains(&x) {
                                            *input = row.wrapping_add(x as usize * step);
                                        }
                                    }
                                }
                                let sums = self.sums(simd, inputs, weights, bias);
                                let left = [outputs[0].saturating_sub(q), outputs[1].saturating_sub(q)];
                                self.finish(simd, how, [(at_a, steps_a), (at_b, steps_b)], left, sums);
                            }
                        }
                        q += V;
                        for (inner, step) in &mut inner {
                            *inner = inner.wrapping_add(V * *step);
                        }
                        at_a = at_a.wrapping_add(V * steps_a[0]);
                        at_b = at_b.wrapping_add(V * steps_b[0]);
                    }
                }
                begin = end;
            }
        }
    }
}
