//! The register tile whose sums are outputs: V vectors × R rows, stored from the registers to where they belong.
//!
//! ```text
//!               V·lanes →
//!   R rows   ┌─────┬─────┐    acc[r][v] += splat(scalar[k][r]) · lanes[k][v]     for every step k
//!      ↓     │ acc │ acc │
//!            └─────┴─────┘    then Z neighbouring rows are interleaved, and the vectors stored
//! ```
//!
//! For layers whose outputs are one product each (kernel = stride), where the stores decide. So the first steps ask for the
//! cache lines that are written next. They are a loop of their own: a branch within one would spill the sums.

// The loops over rows and vectors index several arrays in step, and unroll as they are.
#![allow(clippy::needless_range_loop)]

use pulp::{Simd, WithSimd};

use super::places::{MOST_SUMS, Rows, Sums};
use super::vector::Float;
use crate::machine::prefetch;
use crate::problem::epilogue::Activation;

/// Vectors of the widest tile.
pub const MOST_VECTORS: usize = 4;
/// Vectors of the widest tile of `rows` rows: its sums, vectors and a scalar fill the registers, but for one where they are
/// few (the compiler loads a scalar early, and a sum that it spills for that is waited for in every step).
pub const fn widest(registers: usize, rows: usize) -> usize {
    let (sums, most) = if registers >= 32 { (MOST_SUMS, MOST_VECTORS) } else { (12, 2) };
    if rows == 0 || sums / rows > most { most } else { sums / rows }
}

/// Rows of the tallest tile whose rows come interleaved by `z`: 1, 2 or 4, `live` of which have products.
pub const fn tallest(registers: usize, z: usize, live: usize) -> usize {
    if live < 4 || z < 4 {
        6
    } else if registers >= 32 {
        8
    } else {
        4
    }
}

/// What a tile multiplies. Distances in elements.
#[derive(Debug, Clone, Copy)]
pub struct Factors<'a, T> {
    /// The V vectors of step k lie at `k·lane_step`.
    pub lanes: &'a [T],
    /// See `lanes`.
    pub lane_step: usize,
    /// The scalar of row r in step k lies at `r·row_step + k·scalar_step`.
    pub scalars: &'a [T],
    /// See `scalars`.
    pub row_step: usize,
    /// See `scalars`.
    pub scalar_step: usize,
    /// Steps; none leaves what the sums start from.
    pub depth: usize,
}

/// What the sums start from.
#[derive(Debug, Clone, Copy)]
pub enum Start<'a, T> {
    /// One value for each row.
    Rows(&'a [T]),
    /// V vectors, the same for all rows.
    Lanes(&'a [T]),
}

/// Lines that are likely to be written soon, for hints alone.
#[derive(Debug, Clone, Copy)]
pub struct Hint<'a, T> {
    /// Where those of a row lie, from the row's pointer.
    pub lines: &'a [usize],
    /// Whether two lines are asked for in each step, since there are few steps.
    pub twice: bool,
    /// Where row 0 would lie without its offset.
    pub to: *const T,
    /// Of its rows.
    pub offsets: &'a [usize],
}

/// A tile of `rows` rows × `vectors` vectors whose rows are interleaved by `z`.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// R: those that have products.
    pub rows: usize,
    /// V.
    pub vectors: usize,
    /// Z: 1, 2 or 4.
    pub z: usize,
    /// Of Z rows that are interleaved, those that have products: all, or the first half. The others, which take no registers,
    /// are what the sums of the first one start from.
    pub live: usize,
}

/// All that a tile is told.
#[derive(Debug)]
pub struct Call<'a, T> {
    /// What it multiplies.
    pub factors: Factors<'a, T>,
    /// Where the sums start.
    pub start: Start<'a, T>,
    /// What happens to them at the end.
    pub activation: Activation,
    /// Where they go.
    pub rows: Rows<'a, T>,
    /// What is written next: lines are asked for in each step, as far as there are steps.
    pub hints: &'a [Hint<'a, T>],
}

/// Runs a tile. Its shape by value: read back as a whole from memory to which its parts were just written, it would wait for
/// all stores before it, those of the last tile's outputs.
#[inline(always)]
pub fn run<T: Float, S: Simd>(simd: S, shape: Shape, call: &Call<'_, T>) {
    macro_rules! dispatch {
        ($($l:literal of $z:literal: $($r:literal)*;)*) => {
            match (shape.live, shape.z, shape.rows, shape.vectors) {
                $($(
                    ($l, $z, $r, 1) => dispatch!(@ $l $z $r 1),
                    ($l, $z, $r, 2) => dispatch!(@ $l $z $r 2),
                    ($l, $z, $r, 3) => dispatch!(@ $l $z $r 3),
                    ($l, $z, $r, 4) => dispatch!(@ $l $z $r 4),
                )*)*
                _ => unreachable!("{shape:?}"),
            }
        };
        (@ $l:literal $z:literal $r:literal $v:literal) => {
            if const { $v <= widest(S::REGISTER_COUNT, $r) && $r <= tallest(S::REGISTER_COUNT, $z, $l) } {
                simd.vectorize(Tile::<T, $v, $r, $z, $l>(call))
            } else {
                unreachable!("{shape:?}")
            }
        };
    }
    dispatch!(1 of 1: 1 2 3 4 5 6; 2 of 2: 2 4 6; 1 of 2: 1 2 3 4 5 6; 4 of 4: 4 8; 2 of 4: 2 4 6;);
}

struct Tile<'a, 'c, T, const V: usize, const R: usize, const Z: usize, const L: usize>(&'c Call<'a, T>);

impl<T: Float, const V: usize, const R: usize, const Z: usize, const L: usize> WithSimd
    for Tile<'_, '_, T, V, R, Z, L>
{
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Call { factors: f, start, activation, rows, hints } = self.0;
        let lanes = T::lanes::<S>();
        let width = V * lanes;
        rows.check(lanes, Z * V);
        if f.depth > 0 {
            let last = f.depth - 1;
            assert!(last * f.lane_step + width <= f.lanes.len());
            assert!(last * f.scalar_step + (R - 1) * f.row_step < f.scalars.len());
        }
        let mut sums = [[T::splat(simd, T::default()); V]; R];
        match *start {
            Start::Rows(values) => {
                let values = &values[..R];
                for r in 0..R {
                    sums[r] = [T::splat(simd, values[r]); V];
                }
            }
            Start::Lanes(values) => {
                let values: &[T::Vector<S>] = bytemuck::cast_slice(&values[..width]);
                let row: [T::Vector<S>; V] = values.try_into().expect("V vectors");
                sums = [row; R];
            }
        }

        let mut k = 0;
        let asked = |hint: &Hint<'_, T>| {
            if hint.twice { hint.lines.len().div_ceil(2) } else { hint.lines.len() }
        };
        let all: usize = hints.iter().map(|hint| hint.offsets.len() * asked(hint)).sum();
        // Between them, since a core waits for few lines at a time.
        let pause = (f.depth / all.max(1)).saturating_sub(1);
        for hint in *hints {
            // Counts that the compiler does not know: were they constants, it would unroll and spill the sums in both loops.
            let lines = hint.lines.len();
            let (half, count) = if hint.twice { (lines / 2, lines.div_ceil(2)) } else { (0, lines) };
            let second = &hint.lines[half..];
            for offset in hint.offsets {
                let to = hint.to.wrapping_add(*offset);
                for (first, second) in hint.lines.iter().zip(second).take(count) {
                    if k == f.depth {
                        break;
                    }
                    prefetch::write(to.wrapping_add(*first));
                    prefetch::write(to.wrapping_add(*second));
                    // SAFETY: `k < depth`, and `depth` steps were asserted to lie inside both factors.
                    sums = unsafe { f.step::<S, V, R>(simd, k, sums) };
                    k += 1;
                    let soon = (k + pause).min(f.depth);
                    while k < soon {
                        // SAFETY: as above.
                        sums = unsafe { f.step::<S, V, R>(simd, k, sums) };
                        k += 1;
                    }
                }
            }
        }
        while k < f.depth {
            // SAFETY: as above.
            sums = unsafe { f.step::<S, V, R>(simd, k, sums) };
            k += 1;
        }
        let rest: &[T] = if let (true, Start::Rows(values)) = (L < Z, start) { values } else { &[] };
        rows.store_live::<S, V, R, Z, L>(simd, sums, rest, *activation);
    }
}

impl<T: Float> Factors<'_, T> {
    /// Adds the products of step `k`.
    ///
    /// # Safety
    /// V vectors and a scalar for each row of that step lie inside.
    #[inline(always)]
    unsafe fn step<S: Simd, const V: usize, const R: usize>(
        &self,
        simd: S,
        k: usize,
        mut sums: Sums<T::Vector<S>, V, R>,
    ) -> Sums<T::Vector<S>, V, R> {
        // SAFETY: as promised.
        unsafe {
            let vectors = self.lanes.as_ptr().add(k * self.lane_step).cast::<T::Vector<S>>();
            let scalars = self.scalars.as_ptr().add(k * self.scalar_step);
            let mut values = [T::splat(simd, T::default()); V];
            for v in 0..V {
                values[v] = vectors.add(v).read_unaligned();
            }
            for r in 0..R {
                let scalar = T::splat(simd, *scalars.add(r * self.row_step));
                for v in 0..V {
                    sums[r][v] = T::mul_add(simd, values[v], scalar, sums[r][v]);
                }
            }
        }
        sums
    }
}
