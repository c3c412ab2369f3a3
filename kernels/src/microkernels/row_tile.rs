//! The register tile of depthwise layers: two neighbouring output rows × two stride phases along x × V vectors.
//!
//! One input channel makes one output channel, so no tile can share inputs between channels. What neighbours share is
//! the input itself: two output rows, and two phases along x, read nearly the same inputs through different taps.
//! [`spans`] finds which: each input vector is loaded once for up to four products.
//!
//! ```text
//!                 phase 0   phase 1
//!   output row a ┌ acc V ┐ ┌ acc V ┐   for every input row, for every input offset along x:
//!                └───────┘ └───────┘     load V vectors of the input,
//!   output row b ┌ acc V ┐ ┌ acc V ┐     multiply them by the weights of those of the four
//!                └───────┘ └───────┘     that have a tap there
//! ```
//!
//! Lanes are neighbouring positions of one phase ([`Lanes::Positions`], a weight is broadcast), or channels
//! ([`Lanes::Channels`], a weight is a vector).

use pulp::{Simd, WithSimd};

use super::vector::Float;

/// Two output rows, two phases along x.
pub const PAIR: usize = 2;

/// The taps of one output that meet the input: `len` of them from number `start` on, which reads input `first`; each
/// further one reads `step` earlier.
#[derive(Debug, Clone, Copy)]
pub struct Taps {
    /// Input of the first of them.
    pub first: i64,
    /// Its number.
    pub start: usize,
    /// How many.
    pub len: usize,
}

impl Taps {
    /// None at all.
    pub const NONE: Self = Self { first: 0, start: 0, len: 0 };
}

/// A run of inputs, downwards from `first`, that the taps of a (from number `a` on), of b, or of both read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// The last input of the run.
    pub first: i64,
    /// Inputs of the run.
    pub len: usize,
    /// Number of the tap of a that reads `first`.
    pub a: Option<usize>,
    /// The same for b.
    pub b: Option<usize>,
}

/// The inputs of two outputs, so that those which both read come once. Each output meets its taps in order, whatever
/// the other is: its sum has the same bits in any company.
pub fn spans(a: Taps, b: Taps, step: usize) -> [Span; 3] {
    let step = step as i64;
    let apart = a.first - b.first;
    let aligned = a.len > 0 && b.len > 0 && apart % step == 0;
    // The leader reads the later inputs.
    let leads = apart >= 0;
    let (leader, follower) = if leads { (a, b) } else { (b, a) };
    let lead = if aligned { usize::try_from((apart / step).abs()).unwrap_or(usize::MAX) } else { usize::MAX };
    let head = lead.min(leader.len);
    let both = if head == lead { (leader.len - head).min(follower.len) } else { 0 };
    let alone = |taps: Taps, done: usize, of_leader: bool, len: usize| Span {
        first: taps.first - done as i64 * step,
        len,
        a: (of_leader == leads).then_some(taps.start + done),
        b: (of_leader != leads).then_some(taps.start + done),
    };
    let (of_leader, of_follower) = (leader.start + head, follower.start);
    let shared = Span {
        first: follower.first,
        len: both,
        a: Some(if leads { of_leader } else { of_follower }),
        b: Some(if leads { of_follower } else { of_leader }),
    };
    let rest = leader.len - head - both;
    let tail = if rest > 0 {
        alone(leader, head + both, true, rest)
    } else {
        alone(follower, both, false, follower.len - both)
    };
    [alone(leader, 0, true, head), shared, tail]
}

/// What a lane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lanes {
    /// Neighbouring positions of one phase.
    Positions,
    /// Channels of one position.
    Channels,
}

/// Which of two neighbours have taps in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The first alone.
    A,
    /// The second alone.
    B,
    /// Both.
    Both,
}

/// A [`Span`] as a tile reads it.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Where its first input lies: rows along y, elements along x.
    pub first: i64,
    /// Taps.
    pub len: usize,
    /// Who has them.
    pub part: Part,
    /// Elements before the weights of the first tap, for a and for b; 0 for who has none.
    pub weights: [usize; PAIR],
}

impl Run {
    /// Of `span`, with inputs `step` apart; `weight_at`: where the weight of a tap of a (0) or of b (1) lies.
    pub fn new(span: &Span, step: usize, weight_at: impl Fn(usize, usize) -> usize) -> Self {
        let part = match (span.a, span.b) {
            (Some(_), Some(_)) => Part::Both,
            (Some(_), None) => Part::A,
            _ => Part::B,
        };
        let at = |side: usize, tap: Option<usize>| {
            if span.len > 0 { tap.map_or(0, |tap| weight_at(side, tap)) } else { 0 }
        };
        Self { first: span.first * step as i64, len: span.len, part, weights: [at(0, span.a), at(1, span.b)] }
    }
}

/// Where the operands of a tile lie. Distances in elements.
#[derive(Debug, Clone, Copy)]
pub struct Operands<'a, T> {
    /// Padded input rows: `ring` (a power of 2) rows for each tap along z, each of `pitch` elements.
    pub rows: &'a [T],
    /// Distance of the rows.
    pub pitch: usize,
    /// Rows for each tap along z.
    pub ring: usize,
    /// Distance of the tile's vectors.
    pub vector_step: usize,
    /// Weights `[tap z][tap y][tap x]` of this channel, or of this vector of channels.
    pub weights: &'a [T],
    /// Taps along z, all valid; their weights lie `steps[0]` apart.
    pub depth: usize,
    /// For the two output rows; and the row of the ring in which each run starts, to go downwards and around.
    pub y: &'a [Run; 3],
    /// See `y`.
    pub y_at: [usize; 3],
    /// For the two phases, downwards; `first` counts from element `x_at` of a row.
    pub x: &'a [Run; 3],
    /// See `x`.
    pub x_at: i64,
    /// Distance of the weights of successive taps along z, y, x.
    pub weight_steps: [usize; 3],
    /// Distance of the inputs of successive taps: rows along y, elements along x.
    pub input_steps: [usize; 2],
}

/// Sums of N vectors for each of two rows (a, b) and two phases (0, 1). Four names, not one array: loops over rows and
/// phases would keep them in memory.
#[derive(Debug, Clone, Copy)]
pub struct Sums<V, const N: usize> {
    /// Row a, phase 0.
    pub a0: [V; N],
    /// Row a, phase 1.
    pub a1: [V; N],
    /// Row b, phase 0.
    pub b0: [V; N],
    /// Row b, phase 1.
    pub b1: [V; N],
}

impl<T: Float> Operands<'_, T> {
    /// `sums` and all products.
    #[inline(always)]
    pub fn accumulate<S: Simd, const V: usize, const CHANNELS: bool>(
        &self,
        simd: S,
        mut sums: Sums<T::Vector<S>, V>,
    ) -> Sums<T::Vector<S>, V> {
        self.check::<S, V>(CHANNELS);
        let mut z = 0;
        while z < self.depth {
            let from = z * self.weight_steps[0];
            let mut i = 0;
            while i < 3 {
                let (y, [a, b]) = (&self.y[i], self.y[i].weights);
                let (at, weights) = (self.y_at[i], [from + a, from + b]);
                sums = match y.part {
                    Part::Both => {
                        self.rows_of::<S, V, CHANNELS, true, true>(simd, z, at, y.len, weights, sums)
                    }
                    Part::A => self.rows_of::<S, V, CHANNELS, true, false>(simd, z, at, y.len, weights, sums),
                    Part::B => self.rows_of::<S, V, CHANNELS, false, true>(simd, z, at, y.len, weights, sums),
                };
                i += 1;
            }
            z += 1;
        }
        sums
    }

    /// That no access of the tile leaves its row or the weights.
    #[inline(always)]
    fn check<S: Simd, const V: usize>(&self, channels: bool) {
        let lanes = T::lanes::<S>();
        let most = |runs: &[Run; 3], step: usize| {
            let last =
                |r: &Run| if r.len > 0 { r.weights[0].max(r.weights[1]) + (r.len - 1) * step } else { 0 };
            last(&runs[0]).max(last(&runs[1])).max(last(&runs[2]))
        };
        for x in self.x {
            if x.len > 0 {
                let (at, back) = (self.x_at + x.first, (x.len - 1) * self.input_steps[1]);
                assert!(at >= back as i64 && at as usize + (V - 1) * self.vector_step + lanes <= self.pitch);
            }
        }
        let last = self.depth.saturating_sub(1) * self.weight_steps[0]
            + most(self.y, self.weight_steps[1])
            + most(self.x, self.weight_steps[2]);
        let read = if channels { lanes } else { 1 };
        assert!(self.depth == 0 || last + read <= self.weights.len());
    }

    #[inline(always)]
    fn rows_of<S: Simd, const V: usize, const CHANNELS: bool, const YA: bool, const YB: bool>(
        &self,
        simd: S,
        z: usize,
        mut at: usize,
        mut left: usize,
        mut weights: [usize; PAIR],
        mut sums: Sums<T::Vector<S>, V>,
    ) -> Sums<T::Vector<S>, V> {
        while left > 0 {
            let row = &self.rows[(z * self.ring + at) * self.pitch..][..self.pitch];
            let mut i = 0;
            while i < 3 {
                let x = &self.x[i];
                sums = match x.part {
                    Part::Both => self.run::<S, V, CHANNELS, YA, YB, true, true>(simd, row, x, weights, sums),
                    Part::A => self.run::<S, V, CHANNELS, YA, YB, true, false>(simd, row, x, weights, sums),
                    Part::B => self.run::<S, V, CHANNELS, YA, YB, false, true>(simd, row, x, weights, sums),
                };
                i += 1;
            }
            at = at.wrapping_sub(self.input_steps[0]) & (self.ring - 1);
            weights = [weights[0] + self.weight_steps[1], weights[1] + self.weight_steps[1]];
            left -= 1;
        }
        sums
    }

    /// One span along x in one input row.
    #[inline(always)]
    fn run<
        S: Simd,
        const V: usize,
        const CHANNELS: bool,
        const YA: bool,
        const YB: bool,
        const XA: bool,
        const XB: bool,
    >(
        &self,
        simd: S,
        row: &[T],
        x: &Run,
        y_weights: [usize; PAIR],
        mut sums: Sums<T::Vector<S>, V>,
    ) -> Sums<T::Vector<S>, V> {
        let mut i = 0;
        while i < x.len {
            let at = (self.x_at + x.first) as usize - i * self.input_steps[1];
            let mut input = [T::splat(simd, T::default()); V];
            for (v, input) in input.iter_mut().enumerate() {
                debug_assert!(at + v * self.vector_step + T::lanes::<S>() <= row.len());
                // SAFETY: inside the row, as `check` found.
                *input = unsafe {
                    row.as_ptr().add(at + v * self.vector_step).cast::<T::Vector<S>>().read_unaligned()
                };
            }
            macro_rules! add {
                ($takes_part:expr, $sums:ident, $row:literal, $phase:literal) => {
                    if const { $takes_part } {
                        let at = y_weights[$row] + x.weights[$phase] + i * self.weight_steps[2];
                        debug_assert!(at < self.weights.len());
                        // SAFETY: inside the weights, as `check` found.
                        let weight = unsafe {
                            let from = self.weights.as_ptr().add(at);
                            if const { CHANNELS } {
                                from.cast::<T::Vector<S>>().read_unaligned()
                            } else {
                                T::splat(simd, *from)
                            }
                        };
                        for v in 0..V {
                            sums.$sums[v] = T::mul_add(simd, input[v], weight, sums.$sums[v]);
                        }
                    }
                };
            }
            add!(YA && XA, a0, 0, 0);
            add!(YA && XB, a1, 0, 1);
            add!(YB && XA, b0, 1, 0);
            add!(YB && XB, b1, 1, 1);
            i += 1;
        }
        sums
    }
}

/// The most vectors of a tile: 4·V sums, V inputs and 4 weights fill the registers.
pub fn max_vectors(registers: usize) -> usize {
    if registers >= 32 { 4 } else { 2 }
}

/// Runs `tile` with `vectors` (1 to [`max_vectors`]) as a constant.
#[inline(always)]
pub fn with_vectors<S: Simd, R: VectorCount>(simd: S, vectors: usize, tile: R) {
    if const { S::REGISTER_COUNT >= 32 } {
        match vectors {
            1 => simd.vectorize(Counted::<R, 1>(tile)),
            2 => simd.vectorize(Counted::<R, 2>(tile)),
            3 => simd.vectorize(Counted::<R, 3>(tile)),
            4 => simd.vectorize(Counted::<R, 4>(tile)),
            _ => unreachable!("{vectors} vectors"),
        }
    } else {
        match vectors {
            1 => simd.vectorize(Counted::<R, 1>(tile)),
            2 => simd.vectorize(Counted::<R, 2>(tile)),
            _ => unreachable!("{vectors} vectors"),
        }
    }
}

/// What runs with a constant number of vectors, in a function of its own.
pub trait VectorCount {
    /// Runs with V vectors.
    fn run<S: Simd, const V: usize>(self, simd: S);
}

struct Counted<R, const V: usize>(R);

impl<R: VectorCount, const V: usize> WithSimd for Counted<R, V> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.0.run::<S, V>(simd);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every (output, tap, input) comes exactly once, in the order of the taps.
    #[test]
    fn spans_hold_every_tap_once() {
        for step in 1..4 {
            for apart in -7..8 {
                for (len_a, len_b) in (0..5).flat_map(|a| (0..5).map(move |b| (a, b))) {
                    let a = Taps { first: 20 + apart, start: 1, len: len_a };
                    let b = Taps { first: 20, start: 2, len: len_b };
                    let mut seen = [Vec::new(), Vec::new()];
                    for span in spans(a, b, step) {
                        for i in 0..span.len {
                            let input = span.first - (i * step) as i64;
                            for (seen, taps) in seen.iter_mut().zip([span.a, span.b]) {
                                seen.extend(taps.map(|t| (t + i, input)));
                            }
                        }
                    }
                    for (seen, taps) in seen.iter().zip([a, b]) {
                        let expected: Vec<_> =
                            (0..taps.len).map(|m| (taps.start + m, taps.first - (m * step) as i64)).collect();
                        assert_eq!(*seen, expected, "{a:?} {b:?} step {step}");
                    }
                }
            }
        }
    }

    #[test]
    fn neighbours_share_what_both_read() {
        // A kernel of 4 and stride 2, cropped by 1: inputs q, q − 1 and q + 1, q.
        let [head, both, tail] =
            spans(Taps { first: 0, start: 0, len: 2 }, Taps { first: 1, start: 0, len: 2 }, 1);
        assert_eq!(head, Span { first: 1, len: 1, a: None, b: Some(0) });
        assert_eq!(both, Span { first: 0, len: 1, a: Some(0), b: Some(1) });
        assert_eq!(tail, Span { first: -1, len: 1, a: Some(1), b: None });
    }
}
