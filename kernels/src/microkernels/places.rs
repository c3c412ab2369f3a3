//! Where the sums of a register tile go when they are outputs: from the registers to their places, phases interleaved.
//!
//! A tile of R rows × V vectors becomes R/Z rows of outputs: Z neighbouring rows are interleaved, whole vectors are stored
//! as they are, and the others (at the ends of rows, where outputs are cropped) piece by piece.

// The loops over rows and vectors index several arrays in step, and unroll as they are.
#![allow(clippy::needless_range_loop)]

use std::mem::MaybeUninit;

use pulp::{Simd, WithSimd};

use super::activation::{activate, activate_vector};
use super::interleave::interleave_vectors;
use super::vector::Float;
use crate::problem::epilogue::Activation;

/// Sums of a tile: R rows of V vectors.
pub type Sums<X, const V: usize, const R: usize> = [[X; V]; R];

/// Rows of the tallest tile.
pub const MOST_ROWS: usize = 8;
/// Sums of the largest tile.
pub const MOST_SUMS: usize = 24;
/// Vectors of outputs of the largest tile: of each sum, and of as many rows without products.
const MOST_STORED: usize = 2 * MOST_SUMS;
/// Vectors of outputs in one row of a tile, Z·V at most.
const MOST_OUTPUTS: usize = 16;
/// Cache lines of one row of outputs, at most: hints for more are left out.
pub const MOST_LINES: usize = 32;
/// Pieces of one row of outputs, at most: a vector of one-pixel rows has as many as lanes.
const MOST_PIECES: usize = 96;

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
        assert!(lanes.is_power_of_two());
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
        self.lines = [0; MOST_LINES];
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
            // Lanes are a power of two: divided by at run time, it would be a division for each vector.
            let (vector, lane) = (at >> self.lanes.trailing_zeros(), at & (self.lanes - 1));
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

    /// One place in every cache line of a row.
    #[inline(always)]
    pub fn lines(&self) -> &[usize] {
        &self.lines[..self.line_count]
    }

    /// The same with place 0 for those that it lacks.
    #[inline(always)]
    pub fn all_lines(&self) -> &[usize; MOST_LINES] {
        &self.lines
    }

    /// Fills the places of a row with one value.
    ///
    /// # Safety
    /// The places, counted from `to`, may be written, and nobody else accesses them meanwhile.
    #[inline(always)]
    pub unsafe fn fill<T: Float, S: Simd>(&self, simd: S, value: T, to: *mut T) {
        assert!(self.lanes == T::lanes::<S>());
        let value = T::splat(simd, value);
        let mut left = self.whole;
        while left != 0 {
            let to = to.wrapping_add(self.firsts[left.trailing_zeros() as usize]);
            // SAFETY: as promised.
            unsafe { to.cast::<T::Vector<S>>().write_unaligned(value) };
            left &= left - 1;
        }
        for &Piece { to: place, len, .. } in &self.pieces[..self.count] {
            // SAFETY: as promised.
            unsafe { T::store_lanes(simd, 0..len as usize, to.wrapping_add(place), value) };
        }
    }

    /// They are of so many vectors of outputs, of `lanes` elements each.
    #[inline(always)]
    pub fn check(&self, lanes: usize, vectors: usize) {
        assert!(self.lanes == lanes && self.vectors == vectors);
    }

    /// Whether no output has a place.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.whole == 0
    }
}

/// Where the sums go: `R/Z` rows, row r to the places from `to + offsets[r]` on. By reference, as all that a tile is
/// told: a copy would read in one what was just written in parts, and wait for all stores before it.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a, T> {
    places: &'a Places,
    to: *mut T,
    offsets: &'a [usize; MOST_ROWS],
}

impl<'a, T> Rows<'a, T> {
    /// Rows at `to + offsets[r]`.
    ///
    /// # Safety
    /// The places of all rows may be written, and nobody else accesses them while the tile runs.
    pub unsafe fn new(places: &'a Places, to: *mut T, offsets: &'a [usize; MOST_ROWS]) -> Self {
        Self { places, to, offsets }
    }

    /// See [`Places::check`].
    #[inline(always)]
    pub fn check(&self, lanes: usize, vectors: usize) {
        self.places.check(lanes, vectors);
    }
}

impl<T: Float> Rows<'_, T> {
    /// Stores the sums of a tile that was [checked](Rows::check), activated.
    #[inline(always)]
    pub fn store<S: Simd, const V: usize, const R: usize, const Z: usize>(
        &self,
        simd: S,
        sums: Sums<T::Vector<S>, V, R>,
        activation: Activation,
    ) {
        self.store_live::<S, V, R, Z, Z>(simd, sums, &[], activation);
    }

    /// The same, where the first L of Z rows that are interleaved have sums. The others are `rest[L·r]` in row r of outputs.
    #[inline(always)]
    pub fn store_live<S: Simd, const V: usize, const R: usize, const Z: usize, const L: usize>(
        &self,
        simd: S,
        mut sums: Sums<T::Vector<S>, V, R>,
        rest: &[T],
        activation: Activation,
    ) {
        assert!(R <= MOST_ROWS && R / L <= 6 && R * V <= MOST_SUMS && Z * V <= MOST_OUTPUTS && Z <= 2 * L);
        let outputs = Z * V;
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
        match activation {
            Activation::Identity => {}
            Activation::Relu => each!(vector(Activation::Relu)),
            Activation::LeakyRelu { slope } => each!(vector(Activation::LeakyRelu { slope })),
            Activation::Clamp { low, high } => each!(vector(Activation::Clamp { low, high })),
            Activation::Sigmoid | Activation::Tanh => left = activation,
        }
        // Whole vectors go to the outputs; others, and what is not activated yet, to a buffer from which they are put.
        let mut buffer = MaybeUninit::<[T::Vector<S>; MOST_STORED]>::uninit();
        let aside = buffer.as_mut_ptr().cast::<T::Vector<S>>();
        let whole = if left == Activation::Identity { self.places.whole } else { 0 };
        macro_rules! place {
            (all $there:ident $at:expr, $j:ident) => {
                $there
            };
            (some $there:ident $at:expr, $j:ident) => {
                if whole >> $j & 1 != 0 { $there } else { aside.wrapping_add($at) }
            };
        }
        macro_rules! store {
            ($of:ident: $($r:literal)*) => {
                $(if $r * L < R {
                    let rest = if L < Z { T::splat(simd, rest[$r * L]) } else { sums[0][0] };
                    let rest = if L < Z { vector(activation)(rest) } else { rest };
                    let row = self.to.wrapping_add(self.offsets[$r]);
                    for v in 0..V {
                        let mut interleaved = [rest; Z];
                        for z in 0..L {
                            interleaved[z] = sums[($r * L + z) % R][v];
                        }
                        let interleaved = interleave_vectors::<T, S, Z>(simd, interleaved);
                        for z in 0..Z {
                            let j = v * Z + z;
                            let there = row.wrapping_add(self.places.firsts[j]).cast::<T::Vector<S>>();
                            let to = place!($of there $r * outputs + j, j);
                            // SAFETY: places of whole vectors may be written, as promised to `new`; the buffer has room for
                            // all R/L·Z·V vectors.
                            unsafe { to.write_unaligned(interleaved[z]) };
                        }
                    }
                })*
            };
        }
        // Most often all are whole: asked once for all of them, not for each.
        if whole == (1 << outputs) - 1 {
            store!(all: 0 1 2 3 4 5);
            return;
        }
        store!(some: 0 1 2 3 4 5);
        if whole.count_ones() as usize != outputs {
            let buffer = aside.cast::<T>();
            simd.vectorize(Put { buffer, height: R / L, rows: self, activation: left, whole });
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
