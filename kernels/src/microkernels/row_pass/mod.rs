//! Whole output rows of depthwise layers, the weights in registers: for the few kernels and strides that layers have.
//!
//! One call makes one output row, or two that read the same input rows. All weights are loaded once; then, for each
//! position (one vector of positions, or one vector of channels), every input vector is loaded once and meets the taps
//! of both rows and both stride phases. What varies between layers is in the type ([`Form`]): no branch is left inside.
//! Input rows are read where they lie: to copy them first costs a quarter of the time, and as much again in waiting.
//! Few registers do not hold the weights: there a step makes two vectors, which share each weight that is loaded.
//!
//! ```text
//!   input rows                   for each position i:            output rows
//!   tap 0   ──────▒▒▒──────       load ▒ at each offset,    a    ──────██████──────
//!   tap 1   ──────▒▒▒──────  ──▶  multiply by all the   ──▶ b    ──────██████──────
//!   …                             taps that read there           phases interleaved
//! ```

mod channels;
mod positions;

use std::marker::PhantomData;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use channels::Channels;
use positions::Positions;

use super::row_tile::{Lanes, PAIR};
use super::vector::Float;
use crate::machine::isa::has_vectors;
use crate::machine::parallel::SharedOutput;
use crate::problem::epilogue::Activation;

/// Where one output row goes, and those of the pairs after it.
#[derive(Debug)]
pub struct Line<'a, T> {
    to: *mut T,
    /// Elements that may be written.
    len: usize,
    /// Distance of successive positions, of the phases of one position, and of the rows of successive pairs.
    steps: [usize; 3],
    /// The pairs that have this row.
    live: Range<usize>,
    borrow: PhantomData<&'a mut [T]>,
}

impl<'a, T: Float> Line<'a, T> {
    /// The `len` elements of `output` from `start` on, for the pairs `live`; `steps`: from one position, from one phase and
    /// from one pair of rows to the next.
    ///
    /// # Safety
    /// While the line lives, nobody else accesses those of the elements that a pass writes.
    #[inline(always)]
    pub unsafe fn new(
        output: SharedOutput<'a, T>,
        (start, len): (usize, usize),
        steps: [usize; 3],
        live: Range<usize>,
    ) -> Self {
        // SAFETY: the promise is passed on; the passes check that every access is inside.
        Self { to: unsafe { output.slice_ptr(start, len) }, len, steps, live, borrow: PhantomData }
    }

    /// No pair has it.
    #[inline(always)]
    pub fn none() -> Self {
        Self { to: std::ptr::null_mut(), len: 0, steps: [0; 3], live: 0..0, borrow: PhantomData }
    }

    /// Where the first position of a pair goes, if it has this row.
    #[inline(always)]
    fn row(&self, pair: usize) -> Option<*mut T> {
        let live = self.live.contains(&pair);
        live.then(|| self.to.wrapping_add((pair - self.live.start) * self.steps[2]))
    }

    /// Whether there is room for the first `end` elements of the row of every pair.
    #[inline(always)]
    fn holds(&self, end: usize) -> bool {
        self.live.is_empty() || (self.live.len() - 1) * self.steps[2] + end <= self.len
    }
}

/// Weights of two rows (a, b) and two phases (0, 1), tap by tap.
#[derive(Clone, Copy)]
struct Weights<W, const YA: usize, const YB: usize, const X0: usize, const X1: usize> {
    a0: [[W; X0]; YA],
    a1: [[W; X1]; YA],
    b0: [[W; X0]; YB],
    b1: [[W; X1]; YB],
}

impl<T: Float, const YA: usize, const YB: usize, const X0: usize, const X1: usize>
    Weights<T, YA, YB, X0, X1>
{
    /// Each of them in all lanes. Not by `map`: a closure does not have the instruction set, and every weight would be a call.
    #[inline(always)]
    fn splat<S: Simd>(&self, simd: S) -> Weights<T::Vector<S>, YA, YB, X0, X1> {
        #[inline(always)]
        fn all<T: Float, S: Simd, const Y: usize, const X: usize>(
            simd: S,
            weights: &[[T; X]; Y],
        ) -> [[T::Vector<S>; X]; Y] {
            let mut vectors = [[T::splat(simd, T::default()); X]; Y];
            for y in 0..Y {
                for x in 0..X {
                    vectors[y][x] = T::splat(simd, weights[y][x]);
                }
            }
            vectors
        }
        Weights {
            a0: all(simd, &self.a0),
            a1: all(simd, &self.a1),
            b0: all(simd, &self.b0),
            b1: all(simd, &self.b1),
        }
    }
}

/// Operands of one pass. Distances in elements.
#[derive(Debug)]
pub struct RowPass<'a, T> {
    /// What a lane is.
    pub lanes_are: Lanes,
    /// Input rows from the first one on, or a ring of them.
    pub rows: &'a [T],
    /// Rows of the ring (a power of 2); where lanes are positions, there is none.
    pub ring: usize,
    /// Distance of the rows.
    pub pitch: usize,
    /// Inputs of a row, and their distance, which is 1 where lanes are positions.
    pub width: usize,
    /// See `width`.
    pub pixel: usize,
    /// As many as a row that a pass reads, or one vector where lanes are channels.
    pub zeros: &'a [T],
    /// As many again for each phase: rows that there are not go there.
    pub dust: SharedOutput<'a, T>,
    /// Input rows.
    pub height: usize,
    /// Rows between successive taps along y.
    pub row_step: usize,
    /// The input along x that the first tap of phase 0 reads for position 0; each further tap reads one position earlier.
    pub x_first: i64,
    /// Weights of this channel, or of these vectors of channels.
    pub weights: &'a [T],
    /// First weights of the two output rows, and the distance of successive taps along y.
    pub y_weights: ([usize; PAIR], usize),
    /// The same for the two phases along x.
    pub x_weights: ([usize; PAIR], usize),
    /// One value, or one for each channel of a vector.
    pub bias: &'a [T],
    /// Applied in registers, where it is a comparison or two.
    pub activation: Activation,
    /// Whether there is nothing to apply.
    pub plain: bool,
    /// Outputs of each phase; the first has at most one more.
    pub outputs: [usize; PAIR],
    /// Channels of a vector, where lanes are channels.
    pub channels: usize,
    /// Where lanes are channels: vectors side by side, each with as many weights as one and a bias of its own.
    pub units: usize,
    /// See `units`.
    pub unit_weights: usize,
    /// Where the last of them begins, which may overlap the one before it: channels after the first one.
    pub last_unit: usize,
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
                match form {
                    _ if const { !has_vectors::<S>() } => unreachable!("portable lanes have no pass"),
                    $(Form::$name if const { S::REGISTER_COUNT >= 32 } => {
                        self.run_form::<S, 1, $ya, $yb, $lead, $x0, $x1>(simd, first, lines);
                    }
                    Form::$name => self.run_form::<S, 2, $ya, $yb, $lead, $x0, $x1>(simd, first, lines),)+
                }
            }
        }
    };
}

impl<T: Float> RowPass<'_, T> {
    #[inline(always)]
    fn run_form<
        S: Simd,
        const V: usize,
        const YA: usize,
        const YB: usize,
        const LEAD: usize,
        const X0: usize,
        const X1: usize,
    >(
        &self,
        simd: S,
        first: Range<usize>,
        [a, b]: &[Line<'_, T>; PAIR],
    ) {
        match self.lanes_are {
            Lanes::Positions => {
                alone(simd, Positions::<T, V, YA, YB, LEAD, X0, X1> { operands: self, first, a, b });
            }
            Lanes::Channels => {
                alone(simd, Channels::<T, V, YA, YB, LEAD, X0, X1> { operands: self, first, a, b });
            }
        }
    }
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
