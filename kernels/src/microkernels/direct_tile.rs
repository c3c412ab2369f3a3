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

use std::mem::MaybeUninit;

use pulp::{Simd, WithSimd};

use super::activation::{activate, activate_vector};
use super::interleave::interleave_vectors;
use super::vector::Float;
use crate::machine::prefetch;
use crate::problem::epilogue::Activation;

/// Rows of the tallest tile.
pub const MOST_ROWS: usize = 8;
/// Vectors of the widest tile.
pub const MOST_VECTORS: usize = 4;
/// Sums of the largest tile.
const MOST_SUMS: usize = 24;
/// Vectors of outputs in one row of a tile, Z·V at most.
const MOST_OUTPUTS: usize = 16;
/// Cache lines of one row of outputs, at most: hints for more are left out.
const MOST_LINES: usize = 32;
/// Pieces of one row of outputs, at most: a vector of one-pixel rows has as many as lanes.
const MOST_PIECES: usize = 96;

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

/// A part of a row's outputs inside one vector: `len` of them from number `at` on, to `to`.
#[derive(Debug, Clone, Copy, Default)]
struct Piece {
    to: usize,
    at: u32,
    len: u32,
}

/// Where the outputs of a row go, in elements from the row's pointer: the same for all rows of a tile.
#[derive(Debug, Clone)]
pub struct Places {
    lanes: usize,
    /// Vectors of a row.
    vectors: usize,
    /// The vectors that go somewhere as they are: bit j.
    whole: u32,
    /// Where they go.
    firsts: [usize; MOST_OUTPUTS],
    /// One place in every cache line of all.
    lines: [usize; MOST_LINES],
    line_count: usize,
    /// Parts of the others.
    pieces: [Piece; MOST_PIECES],
    count: usize,
    /// Elements of a cache line.
    line: usize,
}

impl Places {
    /// None yet, in vectors of `lanes` elements of `size` bytes.
    pub fn new(lanes: usize, size: usize) -> Self {
        let pieces = [Piece::default(); MOST_PIECES];
        Self {
            lanes,
            vectors: 0,
            whole: 0,
            firsts: [0; MOST_OUTPUTS],
            lines: [0; MOST_LINES],
            line_count: 0,
            pieces,
            count: 0,
            line: 64 / size,
        }
    }

    /// None again, of rows of `vectors` vectors of outputs.
    pub fn clear(&mut self, vectors: usize) {
        assert!(vectors <= MOST_OUTPUTS);
        (self.vectors, self.whole, self.count, self.line_count) = (vectors, 0, 0, 0);
    }

    /// `len` outputs from number `at` on lie one after another from `to` on. Every output has at most one place.
    #[inline(always)]
    pub fn push(&mut self, mut at: usize, mut to: usize, mut len: usize) {
        assert!(at + len <= self.vectors * self.lanes);
        // Lines begin anywhere: the last one of the run may be one more. Of too many, hints are left out.
        let lines = (to..to + len - 1).step_by(self.line).chain([to + len - 1]);
        for (line, place) in self.lines[self.line_count..].iter_mut().zip(lines) {
            *line = place;
            self.line_count += 1;
        }
        while len > 0 {
            let (vector, lane) = (at / self.lanes, at % self.lanes);
            let part = len.min(self.lanes - lane);
            if part == self.lanes {
                self.whole |= 1 << vector;
                self.firsts[vector] = to;
            } else {
                self.pieces[self.count] = Piece { to, at: at as u32, len: part as u32 };
                self.count += 1;
            }
            (at, to, len) = (at + part, to + part, len - part);
        }
    }

    /// Whether no output has a place.
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.whole == 0
    }
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

/// Where the sums go: `R/Z` rows, row r to the places from `to + offsets[r]` on. By reference, as all that a tile is
/// told: a copy would read in one what was just written in parts, and wait for all stores before it.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a, T> {
    places: &'a Places,
    to: *mut T,
    offsets: &'a [usize; MOST_ROWS],
    next: Option<Next<'a, T>>,
}

/// Where the tile that follows is likely to write, with the same places: for hints alone.
#[derive(Debug, Clone, Copy)]
pub struct Next<'a, T> {
    /// Where row 0 would lie without its offset.
    pub to: *const T,
    /// Of its rows.
    pub offsets: &'a [usize; MOST_ROWS],
}

impl<'a, T> Rows<'a, T> {
    /// Rows at `to + offsets[r]`.
    ///
    /// # Safety
    /// The places of all rows may be written, and nobody else accesses them while the tile runs.
    pub unsafe fn new(
        places: &'a Places,
        to: *mut T,
        offsets: &'a [usize; MOST_ROWS],
        next: Option<Next<'a, T>>,
    ) -> Self {
        Self { places, to, offsets, next }
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
        ($($z:literal: $($r:literal)*;)*) => {
            match (shape.z, shape.rows, shape.vectors) {
                $($(
                    ($z, $r, 1) => dispatch!(@ $z $r 1),
                    ($z, $r, 2) => dispatch!(@ $z $r 2),
                    ($z, $r, 3) => dispatch!(@ $z $r 3),
                    ($z, $r, 4) => dispatch!(@ $z $r 4),
                )*)*
                _ => unreachable!("{shape:?}"),
            }
        };
        (@ $z:literal $r:literal $v:literal) => {
            if const { $v <= widest(S::REGISTER_COUNT, $r) && $r <= tallest(S::REGISTER_COUNT, $z) } {
                simd.vectorize(Tile::<T, $v, $r, $z>(call))
            } else {
                unreachable!("{shape:?}")
            }
        };
    }
    dispatch!(1: 1 2 3 4 5 6; 2: 2 4 6; 4: 4 8;);
}

struct Tile<'a, 'c, T, const V: usize, const R: usize, const Z: usize>(&'c mut Call<'a, T>);

type Sums<X, const V: usize, const R: usize> = [[X; V]; R];

impl<T: Float, const V: usize, const R: usize, const Z: usize> WithSimd for Tile<'_, '_, T, V, R, Z> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Call { factors: f, start, activation, rows, errand, .. } = self.0;
        let lanes = T::lanes::<S>();
        let width = V * lanes;
        assert!(rows.places.lanes == lanes && rows.places.vectors == Z * V);
        if f.depth > 0 {
            let last = f.depth - 1;
            assert!(last * f.lane_step + width <= f.lanes.len());
            assert!(last * f.scalar_step + (R - 1) * f.row_step < f.scalars.len());
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
        let outputs = Z * V;
        if let Some(next) = rows.next {
            // A count that the compiler does not know: were it a constant, it would unroll and spill the sums in all three loops.
            let lines = &rows.places.lines[..rows.places.line_count];
            for offset in &next.offsets[..(f.depth / lines.len().max(1)).min(R / Z)] {
                for line in lines {
                    prefetch::write(next.to.wrapping_add(offset + line));
                    // SAFETY: there are `depth` steps, asserted above to lie inside both factors.
                    sums = unsafe { f.step(simd, k, sums) };
                    k += 1;
                }
            }
        }
        let copies = errand.count.min(f.depth - k);
        for c in 0..copies {
            // SAFETY: `count` channels were asserted to lie inside both.
            unsafe { errand.copy::<S, V>(c) };
            // SAFETY: as above.
            sums = unsafe { f.step(simd, k, sums) };
            k += 1;
        }
        while k < f.depth {
            // SAFETY: as above.
            sums = unsafe { f.step(simd, k, sums) };
            k += 1;
        }
        for c in copies..errand.count {
            // SAFETY: as above.
            unsafe { errand.copy::<S, V>(c) };
        }

        // Written out for every row: a loop would keep the sums in memory.
        let mut left = Activation::Identity;
        macro_rules! each {
            ($f:expr) => { each!($f; 0 1 2 3 4 5 6 7) };
            ($f:expr; $($r:literal)*) => {{
                let f = $f;
                $(if $r < R {
                    for v in 0..V {
                        sums[$r % R][v] = f(sums[$r % R][v]);
                    }
                })*
            }};
        }
        let vector = |activation| move |x| activate_vector::<T, S>(simd, activation, x);
        match *activation {
            Activation::Identity => {}
            Activation::Relu => each!(vector(Activation::Relu)),
            Activation::LeakyRelu { slope } => each!(vector(Activation::LeakyRelu { slope })),
            Activation::Clamp { low, high } => each!(vector(Activation::Clamp { low, high })),
            Activation::Sigmoid | Activation::Tanh => left = *activation,
        }
        // Whole vectors go to the outputs; others, and what is not activated yet, to a buffer from which they are put.
        let mut buffer = MaybeUninit::<[T::Vector<S>; MOST_SUMS]>::uninit();
        let aside = buffer.as_mut_ptr().cast::<T::Vector<S>>();
        let whole = if left == Activation::Identity { rows.places.whole } else { 0 };
        macro_rules! store {
            ($($r:literal)*) => {
                $(if $r * Z < R {
                    for v in 0..V {
                        let mut interleaved = [sums[$r * Z % R][v]; Z];
                        for z in 0..Z {
                            interleaved[z] = sums[($r * Z + z) % R][v];
                        }
                        let interleaved = interleave_vectors::<T, S, Z>(simd, interleaved);
                        for z in 0..Z {
                            let j = v * Z + z;
                            let there = rows.to.wrapping_add(rows.offsets[$r] + rows.places.firsts[j]);
                            let direct = whole >> j & 1 != 0;
                            let to = if direct { there.cast() } else { aside.wrapping_add($r * outputs + j) };
                            // SAFETY: places of whole vectors may be written, as promised to `new`; the buffer has room for
                            // all R·V vectors.
                            unsafe { to.write_unaligned(interleaved[z]) };
                        }
                    }
                })*
            };
        }
        store!(0 1 2 3 4 5);
        if whole.count_ones() as usize != outputs {
            let buffer = aside.cast::<T>();
            simd.vectorize(Put { buffer, height: R / Z, rows, activation: left, whole });
        }
    }
}

impl<T: Float> Factors<'_, T> {
    /// Adds the products of step `k`.
    ///
    /// # Safety
    /// V vectors and R scalars of that step lie inside.
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

/// Puts the outputs of a buffer to their places: `height` rows, of which the vectors `whole` are not there.
struct Put<'r, T> {
    buffer: *mut T,
    height: usize,
    rows: &'r Rows<'r, T>,
    activation: Activation,
    whole: u32,
}

impl<T: Float> WithSimd for Put<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { buffer, height, rows, activation, whole } = self;
        let places = rows.places;
        let width = places.vectors * places.lanes;
        let to = |row: usize, place: usize| rows.to.wrapping_add(rows.offsets[row] + place);
        if activation != Activation::Identity {
            // SAFETY: no vector went elsewhere: all of the buffer was written.
            activate(activation, unsafe { std::slice::from_raw_parts_mut(buffer, height * width) });
            for j in (0..places.vectors).filter(|j| (places.whole & !whole) >> j & 1 != 0) {
                for row in 0..height {
                    // SAFETY: inside the buffer; places may be written as promised to `Rows::new`.
                    unsafe {
                        let from = buffer.add(row * width + j * places.lanes).cast::<T::Vector<S>>();
                        to(row, places.firsts[j]).cast::<T::Vector<S>>().write_unaligned(from.read());
                    }
                }
            }
        }
        // By value: what is stored might be the table, for all that the compiler knows.
        let offsets = *rows.offsets;
        for &Piece { to, at, len } in &places.pieces[..places.count] {
            let (at, len) = (at as usize, len as usize);
            let lane = at & (places.lanes - 1);
            let (from, to) = (buffer.wrapping_add(at - lane), rows.to.wrapping_add(to).wrapping_sub(lane));
            for row in 0..height {
                // SAFETY: a whole vector of the buffer, which is written since pieces are parts of vectors that are not whole;
                // its lanes have their places, which may be written as promised to `Rows::new`.
                unsafe {
                    let from = from.add(row * width).cast::<T::Vector<S>>();
                    T::store_lanes(simd, lane..lane + len, to.wrapping_add(offsets[row]), from.read());
                }
            }
        }
    }
}
