//! The register tile of two stride phases: C channels × 2 phases × V vectors of neighbouring pixels, stored interleaved.
//!
//! ```text
//!   windows of the first phase alone    acc[c][0][v]               += splat(w) · x[v]
//!   windows that both phases read       acc[c][0][v], acc[c][1][v] += splat(w) · x[v]    one vector load for 2·C products
//!   windows of the second one alone                   acc[c][1][v] += splat(w) · x[v]
//! ```
//!
//! The windows along x follow one another pixel by pixel, so that every tap is multiplied exactly once and the outputs are
//! written once, from the registers. The commonest cases, at most one window of each kind (kernels 3 and 4), are one loop over
//! channels.

// The loops over channels, phases and vectors index several arrays in step, and unroll as they are.
#![allow(clippy::needless_range_loop)]

use pulp::{Simd, WithSimd};

use super::pixel_tile::Hints;
use super::places::{MOST_LINES, MOST_ROWS, Places, Rows, Sums};
use super::vector::Float;
use crate::machine::prefetch;
use crate::problem::epilogue::Activation;

/// Output channels of the widest tile.
pub const MOST_CHANNELS: usize = 3;
/// Vectors of any tile, at most.
pub const MOST_VECTORS: usize = 4;

/// Vectors of all tiles.
pub const fn vectors(registers: usize) -> usize {
    if registers >= 32 { 4 } else { 2 }
}

/// Whether weights lie channel after channel, and the windows of each side by side: so the tile that takes all windows in one
/// loop wants them.
pub fn windows_inside(windows: [usize; 3]) -> bool {
    matches!(windows, [1, 1, 1] | [0, 1, 1] | [1, 1, 0])
}

/// What a column block reads. Distances in elements.
#[derive(Debug, Clone, Copy)]
pub struct Reads<'a, T> {
    /// Packed input.
    pub input: &'a [T],
    /// Distance of its channels.
    pub channel_step: usize,
    /// Input channels, at least 1.
    pub channels: usize,
    /// What the first window reads for a vector that starts at 0, channel 0.
    pub start: usize,
    /// Taps along z and y.
    pub taps: [usize; 2],
    /// How far on each further one reads.
    pub steps: [usize; 2],
    /// Windows along x, each one pixel further: of the first phase alone, of both, of the second alone.
    pub windows: [usize; 3],
    /// Packed weights of exactly these: `[tap z][tap y][window][input channel][phase][output channel]`, or channels outside the
    /// windows where these are [inside](windows_inside).
    pub weights: &'a [T],
    /// What the sums start from: `[phase][output channel]`.
    pub bias: &'a [T],
}

/// A column block of which is known how far its tiles read, and where they store: the same for all of them.
#[derive(Debug, Clone, Copy)]
pub struct Columns<'a, T> {
    reads: Reads<'a, T>,
    /// The last element that is read for a vector that starts at 0, and lane 0.
    reach: usize,
    /// Where the places of the first channel are counted from.
    to: *mut T,
}

impl<'a, T> Columns<'a, T> {
    /// Panics where weights or bias have another number of elements than `reads` says.
    ///
    /// # Safety
    /// The places that a [`Call`] with these columns tells, counted from `to`, may be written, and nobody else accesses them
    /// meanwhile.
    pub unsafe fn new(reads: Reads<'a, T>, to: *mut T) -> Self {
        let Reads { channels, taps, steps, windows: [first, both, second], .. } = reads;
        let count = taps[0] * taps[1];
        let per_channel = (first + 2 * both + second) * reads.bias.len() / 2;
        assert!(channels > 0 && reads.weights.len() == count * channels * per_channel);
        let last = |d: usize| taps[d].saturating_sub(1) * steps[d];
        let windows = (first + both + second).max(1);
        let reach = reads.start + last(0) + last(1) + (channels - 1) * reads.channel_step + windows - 1;
        Self { reads, reach, to }
    }

    /// Where the places of the first channel are counted from.
    pub fn to(&self) -> *const T {
        self.to
    }

    /// Output channels.
    pub fn channels(&self) -> usize {
        self.reads.bias.len() / 2
    }

    /// Loops over channels.
    pub fn loops(&self) -> usize {
        let windows = self.reads.windows;
        let taps: usize = self.reads.taps.iter().product();
        taps * if windows_inside(windows) { 1 } else { windows.iter().sum() }
    }
}

/// All that the tiles over some pixels are told: one for each of some column blocks.
#[derive(Debug)]
pub struct Call<'a, T> {
    /// At least one, of equally many channels.
    pub columns: &'a [Columns<'a, T>],
    /// Applied to the sums at the end.
    pub activation: Activation,
    /// Where they go: a row for each channel, its phases interleaved.
    pub places: &'a Places,
    /// How far on the places of the first channel lie.
    pub on: usize,
    /// The same of the channels, from there.
    pub offsets: &'a [usize; MOST_ROWS],
    /// Where the call that follows is likely to write, with the same places: for hints alone.
    pub next: *const T,
    /// Input lines asked for meanwhile, one for each step of each [loop](Columns::loops).
    pub hints: Hints<T>,
}

/// Runs tiles of `starts.len()` vectors, as many as [`vectors`] says.
#[inline(always)]
pub fn run<T: Float, S: Simd>(simd: S, call: &Call<'_, T>, starts: &[usize]) {
    macro_rules! dispatch {
        ($v:literal: $($c:literal)*) => {
            match (starts.len(), call.columns[0].channels()) {
                $(($v, $c) => alone::<T, S, $v, $c, { 2 * $c }>(simd, call, starts),)*
                (vectors, channels) => unreachable!("tile of {channels} channels × {vectors} vectors"),
            }
        };
    }
    if const { vectors(S::REGISTER_COUNT) == 4 } { dispatch!(4: 1 2 3) } else { dispatch!(2: 1 2 3) }
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
        let last = starts.iter().fold(0, |last, s| last.max(*s)) + lanes;
        let mut hints = call.hints;
        for (i, columns) in call.columns.iter().enumerate() {
            let reads = &columns.reads;
            assert!(R == 2 * C && reads.bias.len() == R);
            assert!(last + columns.reach <= reads.input.len(), "a tile reads outside the packed input");
            let next = call.columns.get(i + 1).map_or(call.next, |next| next.to().wrapping_add(call.on));
            let mut ask =
                Ask { to: next, offsets: &call.offsets[..C], lines: call.places.all_lines(), row: 0 };
            // SAFETY: promised to `Columns::new`.
            let rows = unsafe { Rows::new(call.places, columns.to.wrapping_add(call.on), call.offsets) };
            rows.check(lanes, 2 * V);
            let mut sums = [[T::splat(simd, T::default()); V]; R];
            for c in 0..C {
                for phase in 0..2 {
                    sums[2 * c + phase] = [T::splat(simd, reads.bias[phase * C + c]); V];
                }
            }
            // SAFETY: what is read was asserted above.
            unsafe { reads.add_all::<S, V, C, R>(simd, starts, &mut hints, &mut ask, &mut sums) };
            rows.store::<S, V, R, 2>(simd, sums, call.activation);
        }
    }
}

impl<T: Float> Reads<'_, T> {
    /// Adds all products.
    ///
    /// # Safety
    /// What is read for vectors at `starts` lies inside the input.
    #[inline(always)]
    unsafe fn add_all<S: Simd, const V: usize, const C: usize, const R: usize>(
        &self,
        simd: S,
        starts: [usize; V],
        hints: &mut Hints<T>,
        ask: &mut Ask<'_, T>,
        sums: &mut Sums<T::Vector<S>, V, R>,
    ) {
        let mut weights = self.weights.as_ptr();
        let first = self.input.as_ptr();
        for z in 0..self.taps[0] {
            for y in 0..self.taps[1] {
                let on = self.start + z * self.steps[0] + y * self.steps[1];
                let pixels = starts.map(|s| first.wrapping_add(s + on));
                macro_rules! add {
                    ($pixels:expr; $first:literal $both:literal $second:literal; $asked:tt) => {
                        // SAFETY: as promised; and `Columns::new` saw that the weights are exactly these.
                        unsafe {
                            self.add::<S, V, C, R, $first, $both, $second, $asked>(
                                simd,
                                $pixels,
                                &mut weights,
                                hints,
                                ask,
                                sums,
                            )
                        }
                    };
                }
                // As `windows_inside` says.
                match self.windows {
                    [1, 1, 1] => add!(pixels; 1 1 1; 2),
                    [0, 1, 1] => add!(pixels; 0 1 1; 2),
                    [1, 1, 0] => add!(pixels; 1 1 0; 2),
                    // No other loop would ask for the other rows.
                    [0, 1, 0] => add!(pixels; 0 1 0; MOST_CHANNELS),
                    [first, both, second] => {
                        let mut pixels = pixels;
                        macro_rules! each {
                            ($count:expr; $($window:literal)*) => {
                                for _ in 0..$count {
                                    add!(pixels; $($window)*; 1);
                                    pixels = pixels.map(|p| p.wrapping_add(1));
                                }
                            };
                        }
                        each!(first; 1 0 0);
                        each!(both; 0 1 0);
                        each!(second; 0 0 1);
                    }
                }
            }
        }
    }

    /// Adds the products of one tap along z and y with windows that follow one another: 0 or 1 of the first phase alone, of
    /// both, of the second alone. Meanwhile it asks for lines of ASKED rows of outputs, as far
    /// as there is time.
    ///
    /// # Safety
    /// For every channel, V vectors lie inside the input from `pixels` on for each of the windows, and C weights for each window and
    /// phase from `weights` on.
    #[inline(always)]
    unsafe fn add<
        S: Simd,
        const V: usize,
        const C: usize,
        const R: usize,
        const FIRST: usize,
        const BOTH: usize,
        const SECOND: usize,
        const ASKED: usize,
    >(
        &self,
        simd: S,
        mut pixels: [*const T; V],
        weights: &mut *const T,
        hints: &mut Hints<T>,
        ask: &mut Ask<'_, T>,
        sums: &mut Sums<T::Vector<S>, V, R>,
    ) {
        let mut hint = hints.at;
        hints.at = hints.at.wrapping_add(hints.steps[0]);
        // All, or two where a step of a large tile is long.
        let asked = const {
            if ASKED == MOST_CHANNELS {
                C
            } else if V > 2 && ASKED <= C {
                ASKED
            } else {
                1
            }
        };
        let mut rows = [ask.to; MOST_CHANNELS];
        for row in &mut rows[..asked] {
            *row = ask.next_row();
        }
        for channel in 0..self.channels {
            prefetch::read(hint);
            hint = hint.wrapping_add(hints.steps[1]);
            for row in &rows[..asked] {
                prefetch::write(row.wrapping_add(ask.lines[channel % MOST_LINES]));
            }
            // SAFETY: the vectors and weights of one channel, window by window, as promised.
            unsafe {
                if FIRST > 0 {
                    products::<T, S, V, C, R, 0, 1>(simd, pixels, *weights, sums);
                    *weights = weights.wrapping_add(C);
                }
                if BOTH > 0 {
                    let pixels = pixels.map(|p| p.wrapping_add(FIRST));
                    products::<T, S, V, C, R, 0, 2>(simd, pixels, *weights, sums);
                    *weights = weights.wrapping_add(2 * C);
                }
                if SECOND > 0 {
                    let pixels = pixels.map(|p| p.wrapping_add(FIRST + BOTH));
                    products::<T, S, V, C, R, 1, 2>(simd, pixels, *weights, sums);
                    *weights = weights.wrapping_add(C);
                }
            }
            pixels = pixels.map(|p| p.wrapping_add(self.channel_step));
        }
    }
}

/// Adds the products of V vectors with the weights `[phase][channel]` of one channel and window.
///
/// # Safety
/// The vectors and (TO − FROM)·C weights can be read.
#[inline(always)]
unsafe fn products<
    T: Float,
    S: Simd,
    const V: usize,
    const C: usize,
    const R: usize,
    const FROM: usize,
    const TO: usize,
>(
    simd: S,
    pixels: [*const T; V],
    weights: *const T,
    sums: &mut Sums<T::Vector<S>, V, R>,
) {
    let mut values = [T::splat(simd, T::default()); V];
    for v in 0..V {
        // SAFETY: as promised.
        values[v] = unsafe { pixels[v].cast::<T::Vector<S>>().read_unaligned() };
    }
    for phase in FROM..TO {
        for c in 0..C {
            // SAFETY: as promised.
            let weight = T::splat(simd, unsafe { *weights.add((phase - FROM) * C + c) });
            for v in 0..V {
                let sum = &mut sums[2 * c + phase][v];
                *sum = T::mul_add(simd, values[v], weight, *sum);
            }
        }
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

impl<T> Ask<'_, T> {
    /// Where the next row begins.
    #[inline(always)]
    fn next_row(&mut self) -> *const T {
        let offset = self.offsets[self.row];
        self.row = if self.row + 1 == self.offsets.len() { 0 } else { self.row + 1 };
        self.to.wrapping_add(offset)
    }
}
