//! The register tile of two stride phases: C channels × 2 phases × V vectors of neighbouring pixels, stored interleaved.
//!
//! ```text
//!   taps that both phases read     acc[c][0][v], acc[c][1][v] += splat(w) · x[v]    one vector load for 2·C products
//!   taps of the first one alone    acc[c][0][v]               += splat(w) · x[v]
//!   taps of the second one alone                acc[c][1][v]  += splat(w) · x[v]
//! ```
//!
//! The three loops follow one another with the sums in registers, so that every tap is multiplied exactly once and the outputs
//! are written once, from the registers.

// The loops over channels, phases and vectors index several arrays in step, and unroll as they are.
#![allow(clippy::needless_range_loop)]

use pulp::{Simd, WithSimd};

use super::pixel_tile::Hints;
use super::places::{MOST_LINES, Rows, Sums};
use super::vector::Float;
use crate::machine::prefetch;
use crate::problem::epilogue::Activation;

/// Output channels of the widest tile.
pub const MOST_CHANNELS: usize = 3;
/// Vectors of the widest tile.
pub const MOST_VECTORS: usize = 4;

/// Vectors of the widest tile of so many channels; the narrower one has two.
pub const fn widest(registers: usize, channels: usize) -> usize {
    if registers >= 32 || channels == 1 { 4 } else { 2 }
}

/// A box of taps, for both phases or one. Distances in elements.
#[derive(Debug, Clone, Copy)]
pub struct Taps<'a, T> {
    /// What the first tap reads for a vector that starts at 0, channel 0.
    pub start: usize,
    /// How far on each further tap reads, along z, y, x.
    pub steps: [usize; 3],
    /// Taps along z, y, x; one of them 0: none.
    pub counts: [usize; 3],
    /// Packed weights of exactly these taps: `[tap z][tap y][tap x][input channel][phase][channel]`.
    pub weights: &'a [T],
}

impl<T> Taps<'_, T> {
    /// None at all.
    pub const NONE: Self = Self { start: 0, steps: [0; 3], counts: [0; 3], weights: &[] };

    fn count(&self) -> usize {
        self.counts.iter().product()
    }
}

/// All that a tile is told.
#[derive(Debug)]
pub struct Call<'a, T> {
    /// Packed input.
    pub input: &'a [T],
    /// Distance of input channels.
    pub channel_step: usize,
    /// Input channels, at least 1.
    pub channels: usize,
    /// Taps of both phases, of the first alone, of the second alone.
    pub taps: &'a [Taps<'a, T>; 3],
    /// What the sums start from: `[phase][channel]`.
    pub start: &'a [T],
    /// Applied to them at the end.
    pub activation: Activation,
    /// Where they go: a row for each channel, its phases interleaved.
    pub rows: Rows<'a, T>,
    /// Input lines asked for meanwhile, one for each tap and channel.
    pub hints: Hints<T>,
}

/// Runs a tile of `starts.len()` (2 or [`widest`]) vectors.
#[inline(always)]
pub fn run<T: Float, S: Simd>(simd: S, call: &Call<'_, T>, starts: &[usize]) {
    macro_rules! dispatch {
        ($($c:literal)*) => {
            match (starts.len(), call.start.len()) {
                $(
                    (2, r) if r == 2 * $c => dispatch!(@ 2 $c),
                    (4, r) if r == 2 * $c => dispatch!(@ 4 $c),
                )*
                (vectors, rows) => unreachable!("tile of {rows} rows × {vectors} vectors"),
            }
        };
        (@ $v:literal $c:literal) => {
            if const { $v <= widest(S::REGISTER_COUNT, $c) } {
                alone::<T, S, $v, $c, { 2 * $c }>(simd, call, starts)
            } else {
                unreachable!("{} vectors of {} channels", $v, $c)
            }
        };
    }
    dispatch!(1 2 3);
}

/// In a function of its own: inlined, the tiles would share one set of registers.
#[inline(never)]
fn alone<T: Float, S: Simd, const V: usize, const C: usize, const R: usize>(
    simd: S,
    call: &Call<'_, T>,
    starts: &[usize],
) {
    simd.vectorize(Tile::<T, V, C, R> { call, starts });
}

struct Tile<'a, 'c, T, const V: usize, const C: usize, const R: usize> {
    call: &'c Call<'a, T>,
    starts: &'c [usize],
}

impl<T: Float, const V: usize, const C: usize, const R: usize> WithSimd for Tile<'_, '_, T, V, C, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let call = self.call;
        let lanes = T::lanes::<S>();
        let starts: [usize; V] = self.starts.try_into().expect("V vectors");
        assert!(R == 2 * C && call.start.len() == R && call.channels > 0);
        call.rows.check(lanes, 2 * V);
        for (taps, phases) in call.taps.iter().zip([2, 1, 1]) {
            if taps.count() > 0 {
                let last = |d: usize| (taps.counts[d] - 1) * taps.steps[d];
                let reach =
                    taps.start + last(0) + last(1) + last(2) + (call.channels - 1) * call.channel_step;
                assert!(
                    starts.iter().all(|s| s + reach + lanes <= call.input.len()),
                    "a tile reads outside the packed input"
                );
                assert!(
                    taps.weights.len() == taps.count() * call.channels * phases * C,
                    "weights of exactly these taps"
                );
            }
        }
        let mut ask = Ask::new(&call.rows, C);
        let mut sums = [[T::splat(simd, T::default()); V]; R];
        for c in 0..C {
            for phase in 0..2 {
                sums[2 * c + phase] = [T::splat(simd, call.start[phase * C + c]); V];
            }
        }
        let mut hint = call.hints;
        // SAFETY: the extremes of what each box reads were asserted above.
        unsafe {
            sums = call.add::<S, V, C, R, 0, 2>(simd, &call.taps[0], starts, &mut hint, &mut ask, sums);
            sums = call.add::<S, V, C, R, 0, 1>(simd, &call.taps[1], starts, &mut hint, &mut ask, sums);
            sums = call.add::<S, V, C, R, 1, 2>(simd, &call.taps[2], starts, &mut hint, &mut ask, sums);
        }
        call.rows.store::<S, V, R, 2>(simd, sums, call.activation);
    }
}

impl<T: Float> Call<'_, T> {
    /// Adds the products of a box to the phases FROM..TO.
    ///
    /// # Safety
    /// For every tap and channel, V vectors lie inside the input and (TO − FROM)·C weights inside the box's.
    #[inline(always)]
    unsafe fn add<
        S: Simd,
        const V: usize,
        const C: usize,
        const R: usize,
        const FROM: usize,
        const TO: usize,
    >(
        &self,
        simd: S,
        taps: &Taps<'_, T>,
        starts: [usize; V],
        hints: &mut Hints<T>,
        ask: &mut Ask<'_, T>,
        mut sums: Sums<T::Vector<S>, V, R>,
    ) -> Sums<T::Vector<S>, V, R> {
        let mut weights = taps.weights.as_ptr();
        let first = self.input.as_ptr();
        for z in 0..taps.counts[0] {
            for y in 0..taps.counts[1] {
                for x in 0..taps.counts[2] {
                    let on = taps.start + z * taps.steps[0] + y * taps.steps[1] + x * taps.steps[2];
                    let mut pixels = starts.map(|s| first.wrapping_add(s + on));
                    let mut hint = hints.at;
                    hints.at = hints.at.wrapping_add(hints.steps[0]);
                    let row = ask.next_row();
                    for channel in 0..self.channels {
                        prefetch::read(hint);
                        prefetch::write(row.wrapping_add(ask.lines[channel % MOST_LINES]));
                        hint = hint.wrapping_add(hints.steps[1]);
                        let mut values = [T::splat(simd, T::default()); V];
                        for v in 0..V {
                            // SAFETY: a vector lies there, as promised.
                            values[v] = unsafe { pixels[v].cast::<T::Vector<S>>().read_unaligned() };
                            pixels[v] = pixels[v].wrapping_add(self.channel_step);
                        }
                        for phase in FROM..TO {
                            for c in 0..C {
                                // SAFETY: so many weights are there for each tap and channel, as promised.
                                let weight = T::splat(simd, unsafe { *weights.add((phase - FROM) * C + c) });
                                for v in 0..V {
                                    let sum = &mut sums[2 * c + phase][v];
                                    *sum = T::mul_add(simd, values[v], weight, *sum);
                                }
                            }
                        }
                        weights = weights.wrapping_add((TO - FROM) * C);
                    }
                }
            }
        }
        sums
    }
}

/// The output lines of the tile that follows: one for each tap and channel, a row of outputs with each tap. Asked for in
/// a loop of their own they would be waited for; some are asked for again, which costs next to nothing.
struct Ask<'a, T> {
    to: *const T,
    offsets: &'a [usize],
    lines: &'a [usize; MOST_LINES],
    row: usize,
}

impl<'a, T> Ask<'a, T> {
    #[inline(always)]
    fn new(of: &Rows<'a, T>, rows: usize) -> Self {
        let next = of.next_or_own();
        Self { to: next.to, offsets: &next.offsets[..rows], lines: of.all_lines(), row: 0 }
    }

    /// Where the next row begins.
    #[inline(always)]
    fn next_row(&mut self) -> *const T {
        let offset = self.offsets[self.row];
        self.row = if self.row + 1 == self.offsets.len() { 0 } else { self.row + 1 };
        self.to.wrapping_add(offset)
    }
}
