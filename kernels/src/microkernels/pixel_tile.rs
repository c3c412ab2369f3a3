//! The register tile with pixels in the lanes: C columns (an output channel at a stride phase) × V vectors of
//! neighbouring pixels, summed over a box of taps and a run of input channels.
//!
//! ```text
//!              V·lanes pixels →
//!   C columns  ┌ acc ┐   acc[c][v] += splat(w[tap][ci][c]) · x[tap][ci][v]
//!       ↓      └─────┘   inputs: one vector load for C products; weights: one broadcast for V products
//! ```

use pulp::{Simd, WithSimd};

use super::vector::Float;
use crate::machine::prefetch;

/// Columns of any tile, at most.
pub const MOST_COLUMNS: usize = 14;

/// Where the operands of a tile lie. Distances in elements.
#[derive(Debug, Clone, Copy)]
pub struct PixelOperands<'a, T> {
    /// Packed input; the first pixel of vector `v` and channel `c` for tap (z, y, x) lies at
    /// `input_start + starts[v] + Σ tap·input_steps + c·channel_step`.
    pub input: &'a [T],
    /// First pixel of a vector that starts at 0, channel 0, tap (0, 0, 0).
    pub input_start: usize,
    /// How far on each further tap reads.
    pub input_steps: [usize; 3],
    /// Distance of input channels.
    pub channel_step: usize,
    /// Packed weights of exactly these taps: `[tap z][tap y][tap x]`, then `[channel][column]`; those of this run of channels begin at
    /// the start, and the next tap's `weight_step` later.
    pub weights: &'a [T],
    /// See `weights`.
    pub weight_step: usize,
    /// Taps along z, y, x.
    pub taps: [usize; 3],
    /// Input channels, at least 1.
    pub channels: usize,
    /// Where the sums of each column lie, counted from the tile's first sum.
    pub columns: &'a [usize],
    /// Lines asked for meanwhile.
    pub hints: Hints<T>,
    /// What the sums start from, one value for each column; none: from what they hold.
    pub start: Option<&'a [T]>,
}

/// Cache lines to ask for while a tile runs, one for each tap and channel: they are read later. Only hints: any address will
/// do.
#[derive(Debug)]
pub struct Hints<T> {
    /// For the first tap and channel.
    pub at: *const T,
    /// How far on for each further tap and each further channel.
    pub steps: [usize; 2],
}

impl<T> Clone for Hints<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Hints<T> {}

impl<T> Hints<T> {
    /// One line that is there anyway.
    pub fn none(of: &[T]) -> Self {
        Self { at: of.as_ptr(), steps: [0, 0] }
    }
}

/// Vectors of any tile, at most; and of those that one call takes.
pub const MOST_VECTORS: usize = 6;

/// Columns of the widest tile of two vectors: V·C sums, the fewer of V inputs and C weights, and one more fill the registers.
pub const fn max_columns(registers: usize) -> usize {
    if registers >= 32 { MOST_COLUMNS } else { 6 }
}

/// Vectors of the widest tile of so many columns. Where two multiply-adds start in each of the four cycles that one takes, fewer than
/// eight sums leave some of them idle.
pub const fn widest(registers: usize, columns: usize) -> usize {
    match (registers >= 32, columns) {
        (true, 0..=6) => 4,
        (true, _) => 2,
        (false, 0..=2) => 6,
        (false, 3) => 4,
        (false, 4) => 3,
        (false, _) => 2,
    }
}

/// Vectors of the first tile, where `left` (an even number) are left.
pub const fn piece(registers: usize, columns: usize, left: usize) -> usize {
    let widest = widest(registers, columns);
    if left <= widest {
        left
    } else if left.is_multiple_of(widest) {
        widest
    } else {
        widest / 2 * 2
    }
}

/// Sums over 2, 4 or 6 vectors, in as many tiles as it takes.
#[inline(always)]
pub fn accumulate_pixels<T: Float, S: Simd>(
    simd: S,
    operands: &PixelOperands<'_, T>,
    starts: &[usize],
    sums: &mut [T],
) {
    macro_rules! dispatch {
        ($($v:literal: $($c:literal)*;)*) => {{
            let columns = operands.columns.len();
            let mut first = 0;
            while first < starts.len() {
                let vectors = piece(S::REGISTER_COUNT, columns, starts.len() - first);
                let starts = &starts[first..first + vectors];
                let sums = &mut sums[first * T::lanes::<S>()..];
                match (vectors, columns) {
                    $($(($v, $c) => alone::<T, S, $v, $c>(simd, operands, starts, sums),)*)*
                    _ => unreachable!("tile of {columns} columns × {vectors} vectors"),
                }
                first += vectors;
            }
        }};
    }
    if const { S::REGISTER_COUNT >= 32 } {
        dispatch!(2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14; 4: 1 2 3 4 5 6;)
    } else {
        dispatch!(2: 1 2 3 4 5 6; 3: 4; 4: 1 2 3; 6: 1 2;)
    }
}

/// In a function of its own: inlined, the tiles would share one set of registers.
#[inline(never)]
fn alone<T: Float, S: Simd, const V: usize, const C: usize>(
    simd: S,
    operands: &PixelOperands<'_, T>,
    starts: &[usize],
    sums: &mut [T],
) {
    simd.vectorize(Tile::<T, V, C> { operands, starts, sums });
}

struct Tile<'a, 's, T, const V: usize, const C: usize> {
    operands: &'a PixelOperands<'a, T>,
    starts: &'a [usize],
    sums: &'s mut [T],
}

impl<T: Float, const V: usize, const C: usize> WithSimd for Tile<'_, '_, T, V, C> {
    type Output = ();

    #[allow(clippy::needless_range_loop)] // loops of constant length, unrolled
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let o = self.operands;
        let lanes = T::lanes::<S>();
        let starts: [usize; V] = self.starts.try_into().expect("V vectors");
        let columns: [usize; C] = o.columns.try_into().expect("C columns");
        let last = |d: usize| (o.taps[d] - 1) * o.input_steps[d];
        let reach = o.input_start + last(0) + last(1) + last(2) + (o.channels - 1) * o.channel_step + lanes;
        assert!(starts.iter().all(|s| s + reach <= o.input.len()), "a tile reads outside the packed input");
        let taps: usize = o.taps.iter().product();
        assert!((taps - 1) * o.weight_step + o.channels * C <= o.weights.len(), "weights of these taps");
        assert!(columns.iter().all(|c| c + V * lanes <= self.sums.len()), "sums of every column");
        assert!(o.start.is_none_or(|s| s.len() == C), "a start for every column");

        let sums = self.sums.as_mut_ptr();
        let mut acc = [[T::splat(simd, T::default()); V]; C];
        for c in 0..C {
            for v in 0..V {
                // SAFETY: inside `start` and the sums, as asserted.
                acc[c][v] = unsafe {
                    match o.start {
                        Some(start) => T::splat(simd, *start.get_unchecked(c)),
                        None => sums.add(columns[c] + v * lanes).cast::<T::Vector<S>>().read_unaligned(),
                    }
                };
            }
        }
        let mut of_tap = o.weights.as_ptr();
        let mut hints = o.hints.at;
        let mut first = [o.input.as_ptr(); V];
        for v in 0..V {
            first[v] = o.input[o.input_start + starts[v]..].as_ptr();
        }
        for z in 0..o.taps[0] {
            for y in 0..o.taps[1] {
                for x in 0..o.taps[2] {
                    let on = z * o.input_steps[0] + y * o.input_steps[1] + x * o.input_steps[2];
                    let mut pixels = first.map(|p| p.wrapping_add(on));
                    let mut hint = hints;
                    let mut weights = of_tap;
                    of_tap = of_tap.wrapping_add(o.weight_step);
                    hints = hints.wrapping_add(o.hints.steps[0]);
                    for _ in 0..o.channels {
                        prefetch::read(hint);
                        hint = hint.wrapping_add(o.hints.steps[1]);
                        // SAFETY: a vector lies there, as asserted.
                        let value = |v: usize| unsafe { pixels[v].cast::<T::Vector<S>>().read_unaligned() };
                        // SAFETY: the weights hold C for each tap and channel, as asserted.
                        let weight = |c: usize| T::splat(simd, unsafe { *weights.add(c) });
                        // The fewer of both stay in registers.
                        if const { C < V } {
                            let mut all = [T::splat(simd, T::default()); C];
                            for c in 0..C {
                                all[c] = weight(c);
                            }
                            for v in 0..V {
                                let value = value(v);
                                for c in 0..C {
                                    acc[c][v] = T::mul_add(simd, value, all[c], acc[c][v]);
                                }
                            }
                        } else {
                            let mut all = [T::splat(simd, T::default()); V];
                            for v in 0..V {
                                all[v] = value(v);
                            }
                            for c in 0..C {
                                let weight = weight(c);
                                for v in 0..V {
                                    acc[c][v] = T::mul_add(simd, all[v], weight, acc[c][v]);
                                }
                            }
                        }
                        weights = weights.wrapping_add(C);
                        for v in 0..V {
                            pixels[v] = pixels[v].wrapping_add(o.channel_step);
                        }
                    }
                }
            }
        }
        for c in 0..C {
            for v in 0..V {
                // SAFETY: inside the sums, as asserted.
                unsafe {
                    sums.add(columns[c] + v * lanes).cast::<T::Vector<S>>().write_unaligned(acc[c][v]);
                }
            }
        }
    }
}
