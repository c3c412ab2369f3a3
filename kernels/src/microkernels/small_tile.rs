//! The register tile of small images: R rows × P neighbouring pixels × V vectors of output channels, every pixel with
//! exactly the taps that meet its input.
//!
//! ```text
//!                   P pixels →            one tap: its weights meet the pixels that have the tap
//!   R rows   ┌ acc ┬ acc ┬ acc ┐              · × ×
//!      ↓     │     │     │     │   V          · × ×
//!            └─────┴─────┴─────┘              · · ·
//! ```
//!
//! A small image is mostly edge. Where other tiles multiply zeros beside a row, this one skips the product: the pixels of
//! each tap are a bit mask, and its branches are the same for all input channels. A weight is loaded once for all pixels of
//! the tile, so that a tile that holds a whole phase of the image reads every weight once.

// The loops over rows, pixels and vectors index several arrays in step, and unroll as they are.
#![allow(clippy::needless_range_loop)]

use pulp::{Simd, WithSimd};

use super::register::in_register;
use super::vector::Float;
use crate::error::Error;
use crate::machine::prefetch;

/// Rows of the tallest tile.
pub const MOST_ROWS: usize = 6;
/// Cache lines that the weights of one channel fill at most: four vectors.
pub const MOST_LINES: usize = 4;
/// Pixels of the widest tile.
pub const MOST_PIXELS: usize = 8;

/// Whether there is a tile of these sizes: V·R·P sums, V weights and, where inputs are not broadcast from memory, one input
/// fill the registers. Few sizes, since each is compiled for every instruction set.
pub const fn exists(registers: usize, vectors: usize, rows: usize, pixels: usize) -> bool {
    let sums = vectors * rows * pixels;
    if registers < 32 {
        return vectors == 2 && rows <= 4 && sums <= 12;
    }
    match vectors {
        1 => sums <= 30,
        2 => rows <= 4 && sums <= 28,
        4 => rows <= 4 && sums <= 24,
        _ => false,
    }
}

/// Rows of the tallest tile of so many pixels; 0 where there is none.
pub fn tallest(registers: usize, vectors: usize, pixels: usize) -> usize {
    (1..=MOST_ROWS).rev().find(|&rows| exists(registers, vectors, rows, pixels)).unwrap_or(0)
}

/// Whether tiles can leave out single pixels: the branches need registers to spare.
pub const fn has_masks(registers: usize) -> bool {
    registers >= 32
}

/// A tap of a tile.
#[derive(Debug, Clone, Copy)]
pub struct Tap {
    /// Its number among the packed taps.
    pub number: usize,
    /// Where it reads, relative to a row's `input`.
    pub shift: isize,
    /// The pixels that have it: bit r·P + p.
    pub pixels: u32,
}

/// One row of a tile.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Input of pixel 0 for a tap of shift 0; neighbours follow. May lie outside where no pixel has such a tap.
    pub input: isize,
    /// Sums of pixel 0, in vectors.
    pub sums: usize,
}

#[derive(Debug, Clone)]
struct Tile {
    rows: usize,
    pixels: usize,
    input: [isize; MOST_ROWS],
    sums: [usize; MOST_ROWS],
    first_tap: usize,
    end_tap: usize,
    /// Inputs of one channel that it needs: all that it reads lie before.
    inputs: usize,
}

/// Tiles of one height of vectors, each with its rows and taps.
#[derive(Debug)]
pub struct Tiles {
    vectors: usize,
    /// Distance of the sums of neighbouring pixels, in vectors.
    pixel_step: usize,
    /// Whether some pixel lacks a tap of its tile.
    masks: bool,
    /// Vectors of sums that all tiles need.
    sums: usize,
    tiles: Vec<Tile>,
    taps: Vec<Tap>,
}

impl Tiles {
    /// None yet.
    pub fn new(vectors: usize, pixel_step: usize) -> Self {
        Self { vectors, pixel_step, masks: false, sums: 0, tiles: Vec::new(), taps: Vec::new() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tiles.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tiles.is_empty()
    }

    /// Taps of tile `i`.
    pub fn taps(&self, i: usize) -> &[Tap] {
        &self.taps[self.tiles[i].first_tap..self.tiles[i].end_tap]
    }

    /// Adds a tile; taps without pixels are left out. Panics where a pixel would read before the input.
    pub fn push(
        &mut self,
        rows: &[Row],
        pixels: usize,
        taps: impl Iterator<Item = Tap>,
    ) -> Result<(), Error> {
        assert!((1..=MOST_ROWS).contains(&rows.len()) && (1..=MOST_PIXELS).contains(&pixels));
        let first_tap = self.taps.len();
        let all = u32::MAX >> (32 - rows.len() * pixels);
        let mut inputs = 0;
        for tap in taps.filter(|t| t.pixels != 0) {
            assert!(tap.pixels <= all);
            self.masks |= tap.pixels != all;
            for (r, row) in rows.iter().enumerate() {
                let here = tap.pixels >> (r * pixels) & (u32::MAX >> (32 - pixels));
                if here != 0 {
                    let first = row.input + tap.shift + here.trailing_zeros() as isize;
                    assert!(first >= 0, "a pixel reads {first}");
                    let end = row.input + tap.shift + (32 - here.leading_zeros()) as isize;
                    inputs = inputs.max(end as usize);
                }
            }
            push("taps of tiles", &mut self.taps, tap)?;
        }
        let mut tile = Tile {
            rows: rows.len(),
            pixels,
            input: [0; MOST_ROWS],
            sums: [0; MOST_ROWS],
            first_tap,
            end_tap: self.taps.len(),
            inputs,
        };
        for (r, row) in rows.iter().enumerate() {
            (tile.input[r], tile.sums[r]) = (row.input, row.sums);
            self.sums = self.sums.max(row.sums + (pixels - 1) * self.pixel_step + self.vectors);
        }
        push("tiles", &mut self.tiles, tile)
    }

    /// Runs tile `i`: adds to `start` (one value for each channel), or to what the sums hold.
    #[inline(always)]
    pub fn run<T: Float, S: Simd>(&self, simd: S, i: usize, operands: &mut Operands<'_, T>) {
        let (tiles, tile) = (self, &self.tiles[i]);
        macro_rules! dispatch {
            ($($v:literal: $($r:literal)*;)*) => {
                match (self.vectors, tile.rows, tile.pixels) {
                    $($(
                        dispatch!(@ $v $r 1 pattern) => dispatch!(@ $v $r 1 body),
                        dispatch!(@ $v $r 2 pattern) => dispatch!(@ $v $r 2 body),
                        dispatch!(@ $v $r 3 pattern) => dispatch!(@ $v $r 3 body),
                        dispatch!(@ $v $r 4 pattern) => dispatch!(@ $v $r 4 body),
                        dispatch!(@ $v $r 5 pattern) => dispatch!(@ $v $r 5 body),
                        dispatch!(@ $v $r 6 pattern) => dispatch!(@ $v $r 6 body),
                        dispatch!(@ $v $r 7 pattern) => dispatch!(@ $v $r 7 body),
                        dispatch!(@ $v $r 8 pattern) => dispatch!(@ $v $r 8 body),
                    )*)*
                    (v, r, p) => unreachable!("tile {v}×{r}×{p}"),
                }
            };
            (@ $v:literal $r:literal $p:literal pattern) => { ($v, $r, $p) };
            (@ $v:literal $r:literal $p:literal body) => {
                if const { exists(S::REGISTER_COUNT, $v, $r, $p) } {
                    alone(simd, Body::<T, $v, $r, $p> { tiles, tile, operands })
                } else {
                    unreachable!("tile {}×{}×{}", $v, $r, $p)
                }
            };
        }
        dispatch!(1: 1 2 3 4 5 6; 2: 1 2 3 4; 4: 1 2 3 4;);
    }
}

/// In a function of its own: inlined, all tiles would share one set of registers.
#[inline(never)]
fn alone<T: Float, S: Simd, const V: usize, const R: usize, const P: usize>(
    simd: S,
    body: Body<'_, '_, T, V, R, P>,
) {
    simd.vectorize(body);
}

/// Pushes, or refuses where memory is short.
pub fn push<X>(what: &'static str, to: &mut Vec<X>, value: X) -> Result<(), Error> {
    if to.len() == to.capacity() {
        let more = to.len().max(8);
        to.try_reserve(more)
            .map_err(|_| Error::OutOfMemory { what, bytes: (to.len() + more) * size_of::<X>() })?;
    }
    to.push(value);
    Ok(())
}

/// What a tile works on. Distances in elements.
#[derive(Debug)]
pub struct Operands<'a, T> {
    /// From the first input channel of the pass on.
    pub input: &'a [T],
    /// Distance of input channels.
    pub channel_step: usize,
    /// Input channels of the pass.
    pub channels: usize,
    /// `[tap][input channel][V·lanes]`.
    pub weights: &'a [T],
    /// What the sums start from, V·lanes values.
    pub start: Option<&'a [T]>,
    /// Sums of all tiles, vector after vector.
    pub sums: &'a mut [T],
    /// Which cache lines of every channel's weights are fetched for the next pass, a bit for each; its weights lie as far on
    /// as these weights are long.
    pub fetches: u32,
}

struct Body<'a, 'o, T, const V: usize, const R: usize, const P: usize> {
    tiles: &'a Tiles,
    tile: &'a Tile,
    operands: &'a mut Operands<'o, T>,
}

impl<T: Float, const V: usize, const R: usize, const P: usize> WithSimd for Body<'_, '_, T, V, R, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { tiles, tile, operands: o } = self;
        assert!(o.channels > 0 && tile.inputs <= o.input.len());
        assert!((o.channels - 1) <= (o.input.len() - tile.inputs) / o.channel_step.max(1));
        assert!(has_masks(S::REGISTER_COUNT) || !tiles.masks);
        let sums: &mut [T::Vector<S>] = bytemuck::cast_slice_mut(o.sums);
        assert!(tiles.sums <= sums.len() && tiles.vectors == V);
        let (sums, pixel_step) = (sums.as_mut_ptr(), tiles.pixel_step);
        let mut acc = [[[T::splat(simd, T::default()); V]; P]; R];
        if let Some(start) = o.start {
            let start: &[T::Vector<S>; V] =
                bytemuck::cast_slice(start).try_into().expect("a value for each channel");
            for r in 0..R {
                for p in 0..P {
                    acc[r][p] = *start;
                }
            }
        } else {
            for r in 0..R {
                for p in 0..P {
                    for v in 0..V {
                        // SAFETY: all tiles' sums lie inside, as asserted.
                        acc[r][p][v] = unsafe { *sums.add(tile.sums[r] + p * pixel_step + v) };
                    }
                }
            }
        }
        let panel: &[T::Vector<S>] = bytemuck::cast_slice(o.weights);
        let mut rows = [o.input.as_ptr(); R];
        for r in 0..R {
            rows[r] = rows[r].wrapping_offset(tile.input[r]);
        }
        let all = u32::MAX >> (32 - R * P);
        for tap in &tiles.taps[tile.first_tap..tile.end_tap] {
            let weights = &panel[tap.number * o.channels * V..][..o.channels * V];
            let run = Run::<T, S, V, R, P> {
                simd,
                rows: &rows,
                shift: tap.shift,
                pixels: tap.pixels,
                channel_step: o.channel_step as isize,
                weights,
                ahead: panel.len(),
                fetches: o.fetches,
            };
            // SAFETY: every pixel of the tap reads inside the input: not before it, as `push` asserted, and in the last
            // channel not beyond it, as asserted above.
            unsafe {
                if tap.pixels == all {
                    run.all(&mut acc);
                } else if const { has_masks(S::REGISTER_COUNT) } {
                    run.some(&mut acc);
                } else {
                    unreachable!("asserted above")
                }
            }
        }
        for r in 0..R {
            for p in 0..P {
                for v in 0..V {
                    // SAFETY: as above.
                    unsafe { *sums.add(tile.sums[r] + p * pixel_step + v) = acc[r][p][v] };
                }
            }
        }
    }
}

/// One tap over all channels of a pass.
struct Run<'a, T: Float, S: Simd, const V: usize, const R: usize, const P: usize> {
    simd: S,
    rows: &'a [*const T; R],
    shift: isize,
    pixels: u32,
    channel_step: isize,
    weights: &'a [T::Vector<S>],
    /// Vectors from a weight to the one that is fetched.
    ahead: usize,
    fetches: u32,
}

type Sums<X, const V: usize, const R: usize, const P: usize> = [[[X; V]; P]; R];

impl<T: Float, S: Simd, const V: usize, const R: usize, const P: usize> Run<'_, T, S, V, R, P> {
    /// All pixels have the tap.
    ///
    /// # Safety
    /// Pixel `p` of row `r` may be read at `rows[r] + shift + p` for every channel.
    #[inline(always)]
    unsafe fn all(&self, acc: &mut Sums<T::Vector<S>, V, R, P>) {
        let mut at = self.shift;
        for weights in self.weights.chunks_exact(V) {
            self.fetch(weights);
            for r in 0..R {
                let row = self.rows[r].wrapping_offset(at);
                for p in 0..P {
                    // SAFETY: as promised by the caller.
                    let value = T::splat(self.simd, unsafe { *row.wrapping_add(p) });
                    for v in 0..V {
                        acc[r][p][v] = T::mul_add(self.simd, weights[v], value, acc[r][p][v]);
                    }
                }
            }
            at += self.channel_step;
        }
    }

    /// The pixels of the mask have the tap.
    ///
    /// # Safety
    /// As for [`Run::all`], for these pixels.
    #[inline(always)]
    unsafe fn some(&self, acc: &mut Sums<T::Vector<S>, V, R, P>) {
        let mut at = self.shift;
        for weights in self.weights.chunks_exact(V) {
            self.fetch(weights);
            let weights: [T::Vector<S>; V] =
                std::array::from_fn(|v| in_register::<T, S>(self.simd, weights[v]));
            for r in 0..R {
                for p in 0..P {
                    if self.pixels >> (r * P + p) & 1 != 0 {
                        let row = self.rows[r].wrapping_offset(at);
                        // SAFETY: as promised by the caller.
                        let value = T::splat(self.simd, unsafe { *row.wrapping_add(p) });
                        for v in 0..V {
                            acc[r][p][v] = T::mul_add(self.simd, weights[v], value, acc[r][p][v]);
                        }
                    }
                }
            }
            at += self.channel_step;
        }
    }

    #[inline(always)]
    fn fetch(&self, weights: &[T::Vector<S>]) {
        const LINE: usize = 64;
        let size = size_of::<T::Vector<S>>();
        let next = weights.as_ptr().wrapping_add(self.ahead).cast::<u8>();
        for line in 0..(V * size).div_ceil(LINE) {
            if self.fetches >> line & 1 != 0 {
                prefetch::read_later(next.wrapping_add(line * LINE));
            }
        }
    }
}
