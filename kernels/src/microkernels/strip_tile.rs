//! The register tile of merged phases: V vectors of neighbouring outputs × P positions, tile after tile along an output row.
//!
//! ```text
//!            P positions →
//!   V·lanes  ┌ acc ┐   acc[v][p] += w[tap][v] · splat(x[ci][p − tap])
//!   columns  │     │   for each input channel all taps along x, which read the same cache lines
//!      ↓     └─────┘
//! ```
//!
//! Complete sums go from the registers to where they belong, in strips of neighbouring outputs. One call runs all tiles of a row:
//! a tile of a few channels takes a few hundred cycles, and would lose as many to finding its places.

// The loops over positions and vectors index several arrays in step, and unroll as they are.
#![allow(clippy::needless_range_loop)]

use pulp::{Simd, WithSimd};

use super::vector::Float;
use crate::machine::prefetch;

/// Strips of one vector, at most.
pub const MOST_STRIPS: usize = 4;

/// Where complete sums go: strips of neighbouring outputs, each a power of 2 of them to a vector.
#[derive(Debug, Clone, Copy)]
pub struct Strips<T> {
    /// Equal strips of one vector: 1, 2 or 4.
    per_vector: usize,
    /// Strip `r` of vector `v` of position p goes to `starts[v][r] + p·step`.
    starts: [[*mut T; MOST_STRIPS]; 2],
    step: usize,
    /// Lanes of vector `v` that are stored: fewer than all only where there is one strip.
    lanes: [usize; 2],
    /// First position and number of positions of each vector that go there; the others go to the sums.
    positions: [[usize; 2]; 2],
}

impl<T> Strips<T> {
    /// `per_vector` is 1, 2 or 4; `positions[v]` is the first position and the number of positions of vector `v`. Strips are
    /// written from the last to the first: one that stands for nothing may share the place of strip 0.
    ///
    /// # Safety
    /// For every position p of `positions[v]`, the strips at `starts[v][..per_vector] + p·step` may be written, and nobody
    /// else accesses them while tiles with these strips run; where there is one strip, its first `lanes[v]` elements.
    pub unsafe fn new(
        per_vector: usize,
        starts: [[*mut T; MOST_STRIPS]; 2],
        step: usize,
        lanes: [usize; 2],
        positions: [[usize; 2]; 2],
    ) -> Self {
        assert!([1, 2, MOST_STRIPS].contains(&per_vector));
        Self { per_vector, starts, step, lanes, positions }
    }
}

/// The positions of an output row and what is summed there. Distances in elements.
#[derive(Debug)]
pub struct Row<'a, T> {
    /// Packed input; position `p` of input channel `c` for tap (z, y, x) lies at
    /// `input_start − z·input_steps[0] − y·input_steps[1] − x + c·channel_step + p`.
    pub input: &'a [T],
    /// Position 0, channel 0, tap (0, 0, 0).
    pub input_start: usize,
    /// How far back each further tap along z and y reads.
    pub input_steps: [usize; 2],
    /// Distance of input channels.
    pub channel_step: usize,
    /// Packed weights; channel `c` of tap (z, y, x) lies at
    /// `weight_start + z·weight_steps[0] + y·weight_steps[1] + c·weight_steps[2] + x·V·lanes`.
    pub weights: &'a [T],
    /// Channel 0, tap (0, 0, 0).
    pub weight_start: usize,
    /// Distance of the weights of taps along z and y, and of input channels.
    pub weight_steps: [usize; 3],
    /// Taps along z, y, x.
    pub taps: [usize; 3],
    /// Input channels.
    pub channels: usize,
    /// What sums start from, one value for each lane of a tile; without, from what `sums` holds.
    pub start: Option<&'a [T]>,
    /// How many.
    pub positions: usize,
    /// How many of them a tile takes, at most; no more than [`super::tile::max_pixels`].
    pub widest: usize,
    /// Where complete sums go; without, all go to the sums.
    pub strips: Option<Strips<T>>,
}

/// Runs a row in tiles of `vectors` (1 or 2). `sums[(p·V + v)·lanes ..]` is vector v of position p, for those that `strips` does
/// not take.
#[inline(always)]
pub fn run<T: Float, S: Simd>(simd: S, vectors: usize, row: &Row<'_, T>, sums: &mut [T]) {
    row.check(vectors * T::lanes::<S>(), sums.len());
    // Tiles of nearly equal width, the wider ones first.
    let tiles = row.positions.div_ceil(row.widest);
    let (width, wider) = (row.positions / tiles.max(1), row.positions % tiles.max(1));
    let mut first = 0;
    for (width, tiles) in [(width + 1, wider), (width, tiles - wider)] {
        if tiles == 0 {
            continue;
        }
        let sums = &mut *sums;
        macro_rules! dispatch {
            ($($p:literal)*) => {
                match (vectors, width) {
                    $(
                        (1, $p) => simd.vectorize(Tiles::<T, 1, $p> { row, first, tiles, sums }),
                        (2, $p) => simd.vectorize(Tiles::<T, 2, $p> { row, first, tiles, sums }),
                    )*
                    _ => unreachable!("tile {vectors}×{width}"),
                }
            };
        }
        if const { S::REGISTER_COUNT >= 32 } {
            dispatch!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
        } else {
            dispatch!(1 2 3 4 5 6)
        }
        first += tiles * width;
    }
}

impl<T: Float> Row<'_, T> {
    /// Panics unless all that tiles of `width` elements read and write lies inside; `sums`: how many there are.
    #[inline(always)]
    fn check(&self, width: usize, sums: usize) {
        assert!(self.widest > 0 && self.channels > 0 && self.positions <= sums / width);
        assert!(self.start.is_none_or(|start| start.len() >= width));
        if self.taps.contains(&0) || self.positions == 0 {
            return;
        }
        let [z, y, x] = self.taps.map(|taps| taps - 1);
        let (back, on) = (self.input_steps, self.weight_steps);
        let last = self.channels - 1;
        assert!(z * back[0] + y * back[1] + x <= self.input_start);
        assert!(self.input_start + last * self.channel_step + self.positions <= self.input.len());
        let weights = self.weight_start + z * on[0] + y * on[1] + last * on[2] + (x + 1) * width;
        assert!(weights <= self.weights.len());
    }
}

/// Some tiles of a row, all of one width.
struct Tiles<'a, 'r, T, const V: usize, const P: usize> {
    row: &'a Row<'r, T>,
    first: usize,
    tiles: usize,
    sums: &'a mut [T],
}

impl<T: Float, const V: usize, const P: usize> WithSimd for Tiles<'_, '_, T, V, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { row, first, tiles, sums } = self;
        let strips = row.strips.as_ref();
        let sums: &mut [T::Vector<S>] = bytemuck::cast_slice_mut(sums);
        let mut at = first;
        for _ in 0..tiles {
            if let Some(strips) = strips {
                strips.announce::<V, P>(at);
            }
            let mut acc = [[T::splat(simd, T::default()); V]; P];
            match row.start {
                Some(start) => {
                    let start: &[T::Vector<S>] = bytemuck::cast_slice(start);
                    for acc in &mut acc {
                        acc.copy_from_slice(&start[..V]);
                    }
                }
                None => {
                    for (p, acc) in acc.iter_mut().enumerate() {
                        acc.copy_from_slice(&sums[(at + p) * V..][..V]);
                    }
                }
            }
            for z in 0..row.taps[0] {
                for y in 0..row.taps[1] {
                    let back = z * row.input_steps[0] + y * row.input_steps[1];
                    let on = z * row.weight_steps[0] + y * row.weight_steps[1];
                    let mut input = row.input.as_ptr().wrapping_add(row.input_start + at).wrapping_sub(back);
                    let mut weights = row.weights.as_ptr().wrapping_add(row.weight_start + on);
                    for _ in 0..row.channels {
                        // Taps innermost: a short loop is foretold, where the end of one over channels is not.
                        let (mut values, mut vectors) = (input, weights.cast::<[T::Vector<S>; V]>());
                        for _ in 0..row.taps[2] {
                            // SAFETY: `run` checked the extremes of both, over all taps, channels and positions.
                            let w = unsafe { vectors.read_unaligned() };
                            for p in 0..P {
                                // SAFETY: as above.
                                let value = T::splat(simd, unsafe { *values.wrapping_add(p) });
                                for v in 0..V {
                                    acc[p][v] = T::mul_add(simd, w[v], value, acc[p][v]);
                                }
                            }
                            vectors = vectors.wrapping_add(1);
                            values = values.wrapping_sub(1);
                        }
                        weights = weights.wrapping_add(row.weight_steps[2]);
                        input = input.wrapping_add(row.channel_step);
                    }
                }
            }
            match strips {
                None => {
                    for (p, acc) in acc.iter().enumerate() {
                        sums[(at + p) * V..][..V].copy_from_slice(acc);
                    }
                }
                Some(strips) => match strips.per_vector {
                    1 => strips.put::<S, V, P, 1>(simd, at, acc, sums),
                    2 => strips.put::<S, V, P, 2>(simd, at, acc, sums),
                    _ => strips.put::<S, V, P, 4>(simd, at, acc, sums),
                },
            }
            at += P;
        }
    }
}

impl<T: Float> Strips<T> {
    /// Asks for the lines that a tile will be stored to: they arrive while it is summed.
    #[inline(always)]
    fn announce<const V: usize, const P: usize>(&self, at: usize) {
        for starts in &self.starts[..V] {
            for start in &starts[..self.per_vector] {
                for p in 0..P {
                    prefetch::write(start.wrapping_add((at + p) * self.step));
                }
            }
        }
    }

    /// Stores a tile, `R` strips from each vector. Written out for every position: a loop would keep the sums in memory.
    #[inline(always)]
    fn put<S: Simd, const V: usize, const P: usize, const R: usize>(
        &self,
        simd: S,
        at: usize,
        acc: [[T::Vector<S>; V]; P],
        sums: &mut [T::Vector<S>],
    ) {
        macro_rules! positions {
            ($v:literal: $($p:literal)*) => {
                if $v < V {
                    let [first, count] = self.positions[$v];
                    $(if $p < P {
                        let value = acc[$p % P][$v % V];
                        if (at + $p).wrapping_sub(first) < count {
                            // SAFETY: a position that goes there, as promised to `new`.
                            unsafe { self.put_one::<S, R>(simd, value, $v, (at + $p) * self.step) };
                        } else {
                            sums[(at + $p) * V + $v] = value;
                        }
                    })*
                }
            };
        }
        positions!(0: 0 1 2 3 4 5 6 7 8 9 10 11 12 13);
        positions!(1: 0 1 2 3 4 5 6 7 8 9 10 11 12 13);
    }

    /// Stores the `R` strips of vector `v`.
    ///
    /// # Safety
    /// The strips at `starts[v][..R] + at` may be written.
    #[inline(always)]
    unsafe fn put_one<S: Simd, const R: usize>(&self, simd: S, vector: T::Vector<S>, v: usize, at: usize) {
        let starts = &self.starts[v];
        if R == 1 && self.lanes[v] < T::lanes::<S>() {
            // SAFETY: so many lanes may be written.
            return unsafe { T::store_lanes(simd, 0..self.lanes[v], starts[0].wrapping_add(at), vector) };
        }
        let bytes = size_of::<T::Vector<S>>() / R;
        let from: *const T::Vector<S> = &vector;
        for (r, start) in starts[..R].iter().enumerate().rev() {
            // SAFETY: read inside the vector, written as the caller allows.
            unsafe {
                let to = start.wrapping_add(at).cast::<u8>();
                to.copy_from_nonoverlapping(from.cast::<u8>().add(r * bytes), bytes);
            }
        }
    }
}
