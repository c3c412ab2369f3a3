//! The register tile whose sums are outputs: V vectors × R rows, stored from the registers to where they belong.
//!
//! ```text
//!               V·lanes →
//!   R rows   ┌─────┬─────┐    acc[r][v] += splat(scalar[k][r]) · lanes[k][v]     for every step k
//!      ↓     │ acc │ acc │
//!            └─────┴─────┘    then Z neighbouring rows are interleaved, and the vectors stored
//! ```
//!
//! For layers whose outputs are one product each (kernel = stride), where the stores decide. So the steps carry what else a
//! run must do: the first of them ask for the cache lines that the next tile will write, the following ones copy a part of
//! the next panel of inputs. Each of the three is a loop of its own: a branch within one would spill the sums.

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

/// Rows of the tallest tile whose rows come interleaved by `z`: 1, 2 or 4.
pub const fn tallest(registers: usize, z: usize) -> usize {
    if z < 4 {
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
    /// The scalar of live row r in step k lies at `r·row_step + k·scalar_step`.
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

/// Inputs that a tile copies for later, a panel's V vectors for each of `count` channels. Distances in elements.
#[derive(Debug)]
pub struct Errand<'a, T> {
    /// Channel c from `c·from_step` on.
    pub from: &'a [T],
    /// See `from`.
    pub from_step: usize,
    /// Channel c to `c·V·lanes`.
    pub to: &'a mut [T],
    /// Channels.
    pub count: usize,
    /// What the next tile will copy, to be fetched: like `from`, but need not exist.
    pub soon: *const T,
}

impl<T: Float> Errand<'_, T> {
    /// Nothing to do.
    pub fn none() -> Self {
        Self { from: &[], from_step: 0, to: &mut [], count: 0, soon: std::ptr::null() }
    }

    /// Does it at once.
    #[inline(always)]
    pub fn run<S: Simd>(self, simd: S, vectors: usize) {
        let _ = simd;
        let width = vectors * T::lanes::<S>();
        for (c, to) in self.to.chunks_exact_mut(width.max(1)).take(self.count).enumerate() {
            super::copy::copy(simd, &self.from[c * self.from_step..][..width], to);
        }
    }
}

/// A tile of `rows` rows × `vectors` vectors whose rows are interleaved by `z`.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// R.
    pub rows: usize,
    /// V.
    pub vectors: usize,
    /// Z: 1, 2 or 4.
    pub z: usize,
    /// Of Z rows, those that have products: all, or the first half. The others stay what the sums start from.
    pub live: usize,
}

/// All that a tile is told.
#[derive(Debug)]
pub struct Call<'a, T> {
    /// Its size.
    pub shape: Shape,
    /// What it multiplies.
    pub factors: Factors<'a, T>,
    /// Where the sums start.
    pub start: Start<'a, T>,
    /// What happens to them at the end.
    pub activation: Activation,
    /// Where they go.
    pub rows: Rows<'a, T>,
    /// What is copied meanwhile.
    pub errand: Errand<'a, T>,
}

/// Runs a tile.
#[inline(always)]
pub fn run<T: Float, S: Simd>(simd: S, call: &mut Call<'_, T>) {
    let shape = call.shape;
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
            if const { $v <= widest(S::REGISTER_COUNT, $r) && $r <= tallest(S::REGISTER_COUNT, $z) } {
                simd.vectorize(Tile::<T, $v, $r, $z, $l>(call))
            } else {
                unreachable!("{shape:?}")
            }
        };
    }
    dispatch!(1 of 1: 1 2 3 4 5 6; 2 of 2: 2 4 6; 1 of 2: 2 4 6; 4 of 4: 4 8; 2 of 4: 4 8;);
}

struct Tile<'a, 'c, T, const V: usize, const R: usize, const Z: usize, const L: usize>(&'c mut Call<'a, T>);

impl<T: Float, const V: usize, const R: usize, const Z: usize, const L: usize> WithSimd
    for Tile<'_, '_, T, V, R, Z, L>
{
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Call { factors: f, start, activation, rows, errand, .. } = self.0;
        let lanes = T::lanes::<S>();
        let width = V * lanes;
        rows.check(lanes, Z * V);
        if f.depth > 0 {
            let last = f.depth - 1;
            assert!(last * f.lane_step + width <= f.lanes.len());
            assert!(last * f.scalar_step + (R / Z * L - 1) * f.row_step < f.scalars.len());
        }
        if errand.count > 0 {
            assert!((errand.count - 1) * errand.from_step + width <= errand.from.len());
            assert!(errand.count * width <= errand.to.len());
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
        if let Some(next) = rows.next() {
            // A count that the compiler does not know: were it a constant, it would unroll and spill the sums in all three loops.
            let lines = rows.lines();
            for offset in &next.offsets[..(f.depth / lines.len().max(1)).min(R / Z)] {
                for line in lines {
                    prefetch::write(next.to.wrapping_add(offset + line));
                    // SAFETY: there are `depth` steps, asserted above to lie inside both factors.
                    sums = unsafe { f.step::<S, V, R, Z, L>(simd, k, sums) };
                    k += 1;
                }
            }
        }
        let copies = errand.count.min(f.depth - k);
        for c in 0..copies {
            // SAFETY: `count` channels were asserted to lie inside both.
            unsafe { errand.copy::<S, V>(c) };
            // SAFETY: as above.
            sums = unsafe { f.step::<S, V, R, Z, L>(simd, k, sums) };
            k += 1;
        }
        while k < f.depth {
            // SAFETY: as above.
            sums = unsafe { f.step::<S, V, R, Z, L>(simd, k, sums) };
            k += 1;
        }
        for c in copies..errand.count {
            // SAFETY: as above.
            unsafe { errand.copy::<S, V>(c) };
        }
        rows.store::<S, V, R, Z>(simd, sums, *activation);
    }
}

impl<T: Float> Factors<'_, T> {
    /// Adds the products of step `k`.
    ///
    /// # Safety
    /// V vectors and a scalar for each live row of that step lie inside.
    #[inline(always)]
    unsafe fn step<S: Simd, const V: usize, const R: usize, const Z: usize, const L: usize>(
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
            for live in 0..R / Z * L {
                let scalar = T::splat(simd, *scalars.add(live * self.row_step));
                let r = live / L * Z + live % L;
                for v in 0..V {
                    sums[r][v] = T::mul_add(simd, values[v], scalar, sums[r][v]);
                }
            }
        }
        sums
    }
}

impl<T: Float> Errand<'_, T> {
    /// Copies channel `c`.
    ///
    /// # Safety
    /// V vectors of it lie inside both.
    #[inline(always)]
    unsafe fn copy<S: Simd, const V: usize>(&mut self, c: usize) {
        // SAFETY: as promised.
        unsafe {
            let from = self.from.as_ptr().add(c * self.from_step).cast::<T::Vector<S>>();
            let to = self.to.as_mut_ptr().cast::<T::Vector<S>>().add(c * V);
            for v in 0..V {
                to.add(v).write_unaligned(from.add(v).read_unaligned());
            }
        }
        let soon = self.soon.wrapping_add(c * self.from_step).cast::<T::Vector<S>>();
        for v in 0..V {
            prefetch::read(soon.wrapping_add(v));
        }
    }
}
