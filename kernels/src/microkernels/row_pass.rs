//! Whole output rows of depthwise layers, the weights in registers: for the few kernels and strides that layers have.
//!
//! One call makes one output row, or two that read the same input rows. All weights are loaded once; then, for each
//! position (one vector of positions, or one vector of channels), every input vector is loaded once and meets the taps
//! of both rows and both stride phases. What varies between layers is in the type ([`Form`]): no branch is left inside.
//!
//! ```text
//!   input rows (padded)          for each position i:            output rows
//!   tap 0   ──────▒▒▒──────       load ▒ at each offset,    a    ──────██████──────
//!   tap 1   ──────▒▒▒──────  ──▶  multiply by all the   ──▶ b    ──────██████──────
//!   …                             taps that read there           phases interleaved
//! ```

use std::marker::PhantomData;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::activation::activate_vector;
use super::interleave::interleave_pair;
use super::row_tile::{Lanes, PAIR};
use super::vector::Float;
use crate::machine::parallel::SharedOutput;
use crate::machine::prefetch;
use crate::problem::epilogue::Activation;

/// Where one output row goes, and those of the pairs after it.
#[derive(Debug)]
pub struct Line<'a, T> {
    to: *mut T,
    /// Elements that may be written.
    len: usize,
    /// Distance of successive positions, of the phases of one position, and of the rows of successive pairs.
    steps: [usize; 3],
    borrow: PhantomData<&'a mut [T]>,
}

impl<'a, T: Float> Line<'a, T> {
    /// The `len` elements of `output` from `start` on; `steps`: from one position (or vector of them) to the next,
    /// from one phase and from one pair of rows to the next.
    ///
    /// # Safety
    /// While the line lives, nobody else accesses those of the elements that a pass writes.
    #[inline(always)]
    pub unsafe fn new(output: SharedOutput<'a, T>, start: usize, len: usize, steps: [usize; 3]) -> Self {
        // SAFETY: the promise is passed on; `RowPass::check` keeps every access inside.
        Self { to: unsafe { output.slice_ptr(start, len) }, len, steps, borrow: PhantomData }
    }

    /// Where the phases of the first position of a pair go.
    #[inline(always)]
    fn phases(&self, pair: usize) -> [*mut T; PAIR] {
        let to = self.to.wrapping_add(pair * self.steps[2]);
        [to, to.wrapping_add(self.steps[1])]
    }

    /// Throws everything away: two vectors that are written again and again.
    #[inline(always)]
    pub fn nowhere<S: Simd>(to: &'a mut [T::Vector<S>; PAIR]) -> Self {
        let lanes = T::lanes::<S>();
        Self { to: to.as_mut_ptr().cast(), len: PAIR * lanes, steps: [0, lanes, 0], borrow: PhantomData }
    }
}

/// Operands of one pass. Distances in elements.
#[derive(Debug)]
pub struct RowPass<'a, T> {
    /// What a lane is.
    pub lanes_are: Lanes,
    /// Padded input rows, `ring` (a power of 2) of them, each of `pitch` elements.
    pub rows: &'a [T],
    /// Rows that are held at a time.
    pub ring: usize,
    /// Distance of the rows.
    pub pitch: usize,
    /// A row where there is no input.
    pub zeros: &'a [T],
    /// Input rows.
    pub height: usize,
    /// Rows between successive taps along y.
    pub row_step: usize,
    /// Element of an input row that the first tap of phase 0 reads for position 0; each further tap reads one position
    /// earlier.
    pub x_at: usize,
    /// Weights of this channel, or of this vector of channels.
    pub weights: &'a [T],
    /// First weights of the two output rows, and the distance of successive taps along y.
    pub y_weights: ([usize; PAIR], usize),
    /// The same for the two phases along x.
    pub x_weights: ([usize; PAIR], usize),
    /// One value, or one for each channel of a vector.
    pub bias: &'a [T],
    /// Applied in registers, where it is a comparison or two.
    pub activation: Activation,
    /// Outputs of each phase; the first has at most one more.
    pub outputs: [usize; PAIR],
    /// Channels of a vector, where lanes are channels.
    pub channels: usize,
    /// Whether the outputs of the next pair of rows are asked for meanwhile, where lanes are positions: they are far away.
    pub ask: bool,
}

macro_rules! forms {
    ($($name:ident: $ya:literal $yb:literal, $lead:literal $x0:literal $x1:literal; $text:literal)+) => {
        /// Numbers of taps that have a pass of their own.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Form {
            $(#[doc = $text] $name,)+
        }

        impl Form {
            /// For rows with `y` taps and phases with `x` taps, 0 where there is no second one; phase 1 reads `lead`
            /// inputs later than phase 0.
            pub fn find(y: [usize; PAIR], lead: usize, x: [usize; PAIR]) -> Option<Self> {
                [$((Self::$name, ([$ya, $yb], $lead, [$x0, $x1]))),+]
                    .into_iter()
                    .find_map(|(form, taps)| (taps == (y, lead, x)).then_some(form))
            }
        }

        impl<T: Float> RowPass<'_, T> {
            /// Writes pairs of rows, or single ones, one for each of `first`: the first input row that they read.
            #[inline(always)]
            pub fn run<S: Simd>(
                &self,
                simd: S,
                form: Form,
                first: Range<usize>,
                lines: &[Line<'_, T>; PAIR],
            ) {
                let [a, b] = lines;
                match (form, self.lanes_are) {
                    $((Form::$name, Lanes::Positions) =>
                        alone(simd, Pass::<T, false, $ya, $yb, $lead, $x0, $x1> { operands: self, first, a, b }),
                    (Form::$name, Lanes::Channels) =>
                        alone(simd, Pass::<T, true, $ya, $yb, $lead, $x0, $x1> { operands: self, first, a, b }),)+
                }
            }
        }
    };
}

forms! {
    K2S2: 1 1, 0 1 1; "Kernel 2, stride 2."
    K3S2: 2 1, 0 2 1; "Kernel 3, stride 2."
    K3S2Odd: 2 1, 1 1 2; "Kernel 3, stride 2, cropped by 1."
    K4S2: 2 2, 0 2 2; "Kernel 4, stride 2."
    K4S2Odd: 2 2, 1 2 2; "Kernel 4, stride 2, cropped by 1."
    K5S2: 3 2, 0 3 2; "Kernel 5, stride 2, cropped by 2."
    K3S1: 3 0, 0 3 0; "Kernel 3, stride 1."
    Line4S2Odd: 1 0, 1 2 2; "One dimension, kernel 4, stride 2, cropped by 1."
    Line12S2Odd: 1 0, 1 6 6; "One dimension, kernel 12, stride 2, cropped by 5."
}

/// In a function of its own: inlined, the passes of all forms would share one set of registers.
#[inline(never)]
pub fn alone<S: Simd, P: WithSimd>(simd: S, pass: P) -> P::Output {
    simd.vectorize(pass)
}

/// YA, YB: taps along y of rows a and b, which both read input row 0 first; YB = 0: there is no row b. X0, X1: taps of the
/// phases; X1 = 0: stride 1. LEAD: inputs by which phase 1 reads later.
struct Pass<
    'a,
    T,
    const CHANNELS: bool,
    const YA: usize,
    const YB: usize,
    const LEAD: usize,
    const X0: usize,
    const X1: usize,
> {
    operands: &'a RowPass<'a, T>,
    first: Range<usize>,
    a: &'a Line<'a, T>,
    b: &'a Line<'a, T>,
}

impl<
    T: Float,
    const CHANNELS: bool,
    const YA: usize,
    const YB: usize,
    const LEAD: usize,
    const X0: usize,
    const X1: usize,
> Pass<'_, T, CHANNELS, YA, YB, LEAD, X0, X1>
{
    /// Input offsets that any phase reads.
    const OFFSETS: usize = if X0 + LEAD > X1 { X0 + LEAD } else { X1 };

    /// Positions, or vectors of them; and those of which every phase is whole.
    #[inline(always)]
    fn iterations<S: Simd>(&self) -> (usize, usize) {
        let [first, second] = self.operands.outputs;
        let last = if X1 > 0 { second } else { first };
        assert!(last <= first && first - last <= 1);
        if CHANNELS {
            (first, last)
        } else {
            let lanes = T::lanes::<S>();
            (first.div_ceil(lanes), last / lanes)
        }
    }

    /// That no access leaves its row, the weights or the outputs.
    #[inline(always)]
    fn check<S: Simd>(&self, iterations: usize, whole: usize) {
        let (o, lanes) = (self.operands, T::lanes::<S>());
        let step = if CHANNELS { lanes } else { 1 };
        let last = o.x_at + LEAD * step + iterations * lanes;
        assert!(o.x_at + LEAD * step >= (Self::OFFSETS - 1) * step);
        assert!(o.ring.is_power_of_two() && o.rows.len() >= o.ring * o.pitch);
        assert!(last <= o.pitch && last <= o.zeros.len());
        let read = if CHANNELS { lanes } else { 1 };
        let ([ya, yb], y_step) = o.y_weights;
        let ([x0, x1], x_step) = o.x_weights;
        let y = (ya + (YA - 1) * y_step).max(if YB > 0 { yb + (YB - 1) * y_step } else { 0 });
        let x = (x0 + (X0 - 1) * x_step).max(if X1 > 0 { x1 + (X1 - 1) * x_step } else { 0 });
        assert!(y + x + read <= o.weights.len());
        assert!(o.bias.len() >= read && o.channels <= lanes);
        for line in [self.a, self.b] {
            let [step, phase, pair] = line.steps;
            let end = if CHANNELS {
                // Position after position, phase after phase; the last may lack its second phase.
                let (count, last) =
                    if whole == iterations && X1 > 0 { (iterations, phase) } else { (iterations, 0) };
                if count > 0 { (count - 1) * step + last + o.channels } else { 0 }
            } else if step == 0 {
                PAIR * lanes
            } else {
                assert!(step == if X1 > 0 { PAIR * lanes } else { lanes });
                o.outputs[0] + if X1 > 0 { o.outputs[1] } else { 0 }
            };
            assert!(end + (self.first.len() - 1) * pair <= line.len);
        }
    }

    /// The weights of one row and one phase.
    #[inline(always)]
    fn weights<S: Simd, const Y: usize, const X: usize>(
        &self,
        simd: S,
        row: usize,
        phase: usize,
    ) -> [[T::Vector<S>; X]; Y] {
        let o = self.operands;
        let mut weights = [[T::splat(simd, T::default()); X]; Y];
        for (m, weights) in weights.iter_mut().enumerate() {
            for (j, weight) in weights.iter_mut().enumerate() {
                let at = o.y_weights.0[row] + m * o.y_weights.1 + o.x_weights.0[phase] + j * o.x_weights.1;
                // SAFETY: inside, as `check` found.
                *weight = unsafe {
                    let from = o.weights.as_ptr().add(at);
                    if CHANNELS {
                        from.cast::<T::Vector<S>>().read_unaligned()
                    } else {
                        T::splat(simd, *from)
                    }
                };
            }
        }
        weights
    }

    /// Both phases of one position of one row.
    ///
    /// # Safety
    /// Where lanes are channels, `channels` elements may be written at both places; else a vector may, at the second one
    /// where there is a second phase.
    #[inline(always)]
    unsafe fn store<S: Simd>(&self, simd: S, to: [*mut T; PAIR], sums: [T::Vector<S>; PAIR]) {
        let channels = self.operands.channels;
        // SAFETY: as promised.
        unsafe {
            if CHANNELS && channels < T::lanes::<S>() {
                T::store_partial(simd, std::slice::from_raw_parts_mut(to[0], channels), sums[0]);
                if X1 > 0 {
                    T::store_partial(simd, std::slice::from_raw_parts_mut(to[1], channels), sums[1]);
                }
                return;
            }
            let sums =
                if CHANNELS || X1 == 0 { sums } else { interleave_pair::<T, S>(simd, sums[0], sums[1]) };
            to[0].cast::<T::Vector<S>>().write_unaligned(sums[0]);
            if X1 > 0 {
                to[1].cast::<T::Vector<S>>().write_unaligned(sums[1]);
            }
        }
    }
}

impl<
    T: Float,
    const CHANNELS: bool,
    const YA: usize,
    const YB: usize,
    const LEAD: usize,
    const X0: usize,
    const X1: usize,
> WithSimd for Pass<'_, T, CHANNELS, YA, YB, LEAD, X0, X1>
{
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (o, lanes) = (self.operands, T::lanes::<S>());
        let (iterations, whole) = self.iterations::<S>();
        if self.first.is_empty() {
            return;
        }
        self.check::<S>(iterations, whole);
        let bias: T::Vector<S> =
            if CHANNELS { bytemuck::cast_slice(&o.bias[..lanes])[0] } else { T::splat(simd, o.bias[0]) };
        let a0: [[T::Vector<S>; X0]; YA] = self.weights(simd, 0, 0);
        let a1: [[T::Vector<S>; X1]; YA] = self.weights(simd, 0, 1);
        let b0: [[T::Vector<S>; X0]; YB] = self.weights(simd, 1, 0);
        let b1: [[T::Vector<S>; X1]; YB] = self.weights(simd, 1, 1);
        // The last input that any tap reads for position 0.
        let step = if CHANNELS { lanes } else { 1 };
        let at = o.x_at + LEAD * step;
        let plain = matches!(o.activation, Activation::Identity | Activation::Sigmoid | Activation::Tanh);
        let mut rest = [[T::splat(simd, T::default()); PAIR]; PAIR];
        let (step_a, step_b) = (self.a.steps[0], self.b.steps[0]);
        for pair in 0..self.first.len() {
            let mut rows: [*const T; YA] = [o.zeros.as_ptr().wrapping_add(at); YA];
            let mut row = self.first.start + pair;
            for from in &mut rows {
                if row < o.height {
                    *from = o.rows.as_ptr().wrapping_add((row & (o.ring - 1)) * o.pitch + at);
                }
                row = row.wrapping_sub(o.row_step);
            }
            // Whole positions first. What is left is one position at most: it goes to `rest`, or, where lanes are
            // channels, its second phase does.
            let (mut to_a, mut to_b) = (self.a.phases(pair), self.b.phases(pair));
            let mut left = whole;
            for last in [false, true] {
                if last {
                    left = iterations - whole;
                    if left == 0 {
                        break;
                    }
                    let [rest_a, rest_b] = rest.each_mut().map(|r| r.as_mut_ptr().cast::<T>());
                    for p in if CHANNELS { 1 } else { 0 }..PAIR {
                        (to_a[p], to_b[p]) = (rest_a.wrapping_add(p * lanes), rest_b.wrapping_add(p * lanes));
                    }
                }
                while left > 0 {
                    if !CHANNELS && o.ask {
                        ahead(to_a, self.a.steps[2]);
                        if YB > 0 {
                            ahead(to_b, self.b.steps[2]);
                        }
                    }
                    let (mut sum_a, mut sum_b) = ([bias; PAIR], [bias; PAIR]);
                    for m in 0..YA {
                        for e in 0..Self::OFFSETS {
                            // SAFETY: inside the row, as `check` found.
                            let input =
                                unsafe { rows[m].sub(e * step).cast::<T::Vector<S>>().read_unaligned() };
                            if e >= LEAD && e - LEAD < X0 {
                                sum_a[0] = T::mul_add(simd, input, a0[m][e - LEAD], sum_a[0]);
                                if m < YB {
                                    sum_b[0] = T::mul_add(simd, input, b0[m][e - LEAD], sum_b[0]);
                                }
                            }
                            if e < X1 {
                                sum_a[1] = T::mul_add(simd, input, a1[m][e], sum_a[1]);
                                if m < YB {
                                    sum_b[1] = T::mul_add(simd, input, b1[m][e], sum_b[1]);
                                }
                            }
                        }
                        rows[m] = rows[m].wrapping_add(lanes);
                    }
                    if !plain {
                        sum_a = activate_both::<T, S>(simd, o.activation, sum_a);
                        sum_b = activate_both::<T, S>(simd, o.activation, sum_b);
                    }
                    // SAFETY: inside the lines, as `check` found, or in `rest`.
                    unsafe {
                        self.store(simd, to_a, sum_a);
                        if YB > 0 {
                            self.store(simd, to_b, sum_b);
                        }
                    }
                    to_a = to_a.map(|to| to.wrapping_add(step_a));
                    to_b = to_b.map(|to| to.wrapping_add(step_b));
                    left -= 1;
                }
            }
            if !CHANNELS && whole < iterations {
                let each = if X1 > 0 { PAIR * lanes } else { lanes };
                let len = o.outputs[0] + if X1 > 0 { o.outputs[1] } else { 0 } - whole * each;
                for (line, rest) in
                    [self.a, self.b].into_iter().zip(&rest).take(if YB > 0 { PAIR } else { 1 })
                {
                    let rest: &[T] = bytemuck::cast_slice(rest);
                    let to = line.phases(pair)[0].wrapping_add(whole * line.steps[0]);
                    // SAFETY: `len` elements are left in the line, as `check` found; nowhere has two vectors.
                    unsafe { std::ptr::copy_nonoverlapping(rest[..len].as_ptr(), to, len) };
                }
            }
        }
    }
}

#[inline(always)]
fn activate_both<T: Float, S: Simd>(
    simd: S,
    activation: Activation,
    sums: [T::Vector<S>; PAIR],
) -> [T::Vector<S>; PAIR] {
    let [first, second] = sums;
    [activate_vector::<T, S>(simd, activation, first), activate_vector::<T, S>(simd, activation, second)]
}

/// Asks for the lines of the next pair of rows, to write them soon; only a hint.
#[inline(always)]
fn ahead<T>(to: [*mut T; PAIR], step: usize) {
    for to in to {
        prefetch::write(to.wrapping_add(step));
    }
}
