//! Channels last: the outputs of a pixel in the lanes, (phase along x, channel); rows of a tile are pixels, read where they lie.

use std::array::from_fn;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::axes::Pixel;
use super::blocking::{Blocking, Parts, WeightTile};
use super::pack::tile_start;
use super::prepared::PreparedDirect;
use crate::machine::parallel::SharedOutput;
use crate::machine::prefetch;
use crate::microkernels::copy::copy;
use crate::microkernels::direct_tile::{self, Call, Factors, Hint, MOST_VECTORS, Part, Shape, Start};
use crate::microkernels::places::{MOST_ROWS, Places};
use crate::microkernels::vector::Float;
use crate::problem::geometry::Geometry;

/// Some pixels, for some tiles of weights of one group.
pub struct Task<'a, 'o, T> {
    pub plan: &'a PreparedDirect<T>,
    pub input: &'a [T],
    pub output: SharedOutput<'o, T>,
    pub group: usize,
    pub units: Range<usize>,
    pub tiles: Range<usize>,
}

/// The pixels of a tile: the first, and where the outputs of each begin in phase 0, were none cropped (wrapping around).
#[derive(Debug, Clone, Copy)]
struct Spots {
    first: Pixel,
    offsets: [usize; MOST_ROWS],
}

impl Spots {
    #[inline(always)]
    fn new(g: &Geometry, b: &Blocking, first: usize) -> Self {
        let (axes, first) = (&b.axes, b.axes.pixel(first));
        let ([_, height, width], channels) = (g.output(), g.problem().out_channels());
        let mut pixel = first;
        let offsets = from_fn(|_| {
            let at = |axis: &super::axes::PhasedAxis, i: usize| (i * axis.stride).wrapping_sub(axis.crop);
            let row = at(&axes.z, pixel.z).wrapping_mul(height).wrapping_add(at(&axes.y, pixel.y));
            let start = row.wrapping_mul(width).wrapping_add(at(&axes.x, pixel.x)).wrapping_mul(channels);
            let start = start.wrapping_add(pixel.n * g.output_plane() * channels);
            pixel.x += 1;
            if pixel.x == axes.x.positions {
                pixel = axes.next_row(pixel);
            }
            start
        });
        Self { first, offsets }
    }

    /// Which of `count` pixels have outputs in the phases of a tile of weights: bit r.
    #[inline(always)]
    fn present(&self, b: &Blocking, tile: WeightTile, count: usize) -> u32 {
        let (axes, mut pixel, mut present) = (&b.axes, self.first, 0);
        if axes.is_whole() {
            return (1 << count) - 1;
        }
        for r in 0..count {
            // A run over all phases along x is of a whole axis.
            let x = axes.x.is_whole() || axes.x.output_of(pixel.x, tile.run).is_some();
            let zy = axes.z.output_of(pixel.z, tile.z).and(axes.y.output_of(pixel.y, tile.y));
            present |= u32::from(x && zy.is_some()) << r;
            pixel.x += 1;
            if pixel.x == axes.x.positions {
                pixel = axes.next_row(pixel);
            }
        }
        present
    }
}

/// Where the outputs of a tile of weights begin, from those of a pixel in phase 0.
#[inline(always)]
fn start(g: &Geometry, b: &Blocking, group: usize, tile: WeightTile) -> usize {
    let [_, height, width] = g.output();
    let pixel = (tile.z * height + tile.y) * width + tile.run;
    pixel * g.problem().out_channels() + group * b.group_out + b.sides.of(tile.side).start * b.lanes
}

impl<T: Float> WithSimd for Task<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { plan, input, output, group, units, tiles } = self;
        let (g, b) = (&plan.geometry, &plan.blocking);
        // SAFETY: the task owns the outputs of its pixels in the phases and channels of its tiles; no others are accessed.
        let base = unsafe { output.slice_ptr(0, output.len()) };
        let (channels, cropped) = (g.problem().in_channels(), !b.axes.is_whole());
        // Of tiles by their vectors; the last one of a run may end earlier.
        let mut whole: [Places; MOST_VECTORS] = from_fn(|_| Places::new(b.lanes, size_of::<T>()));
        for (places, vectors) in whole.iter_mut().zip(1..) {
            places.clear(vectors);
            places.push(0, 0, vectors * b.lanes);
        }
        let mut last = Places::new(b.lanes, size_of::<T>());
        let of_last = b.sides.of(b.sides.count - 1);
        last.clear(of_last.len());
        last.push(0, 0, b.run - of_last.start * b.lanes);
        let places_of = |tile: WeightTile| {
            if tile.side + 1 == b.sides.count { &last } else { &whole[b.sides.of(tile.side).len() - 1] }
        };

        let parts = Parts::new(units.len(), units.len().div_ceil(b.rows));
        let count = parts.count;
        let pixels = |i: usize| {
            let own = parts.of(i);
            units.start + own.start..units.start + own.end
        };
        let fetches = Parts::new((b.rows * channels * size_of::<T>()).div_ceil(64), tiles.len());
        let mut begin = 0;
        // Of this tile and the next, in turn: a copy would wait until what was just written in parts has left the store queue.
        let mut spots = [Spots::new(g, b, units.start); 2];
        let mut here = 0;
        while begin < count {
            let end = (begin + b.block).min(count);
            let first = spots[here];
            let mut tile = b.weight_tile(tiles.start);
            for number in tiles.clone() {
                let then =
                    if number + 1 < tiles.end { b.next_tile(tile) } else { b.weight_tile(tiles.start) };
                let side = b.sides.of(tile.side);
                let (vectors, width) = (side.len(), side.len() * b.lanes);
                let places = places_of(tile);
                let weights = tile_start(b, tile);
                let own_start = start(g, b, group, tile);
                let then_start = start(g, b, group, then);
                let lanes = b.run.min(side.end * b.lanes) - side.start * b.lanes;
                let of_tile = group * b.bias_step() + side.start * b.lanes;
                for i in begin..end {
                    let own = pixels(i);
                    // What comes next: the next pixels, or the next tile of weights, or the next block.
                    let (next, then_start, then_places) = if i + 1 < end {
                        (Some(own.end), own_start, places)
                    } else if number + 1 < tiles.end {
                        (None, then_start, places_of(then))
                    } else {
                        ((end < count).then_some(own.end), then_start, places_of(then))
                    };
                    let there = 1 - here;
                    if i + 1 == end && number + 1 < tiles.end {
                        if b.block > 1 {
                            spots[there] = first;
                        }
                    } else if let Some(next) = next {
                        spots[there] = Spots::new(g, b, next);
                    }
                    // What the next pixels read, a part with each tile of weights.
                    if i + 1 == end && b.block == 1 {
                        let soon = fetches.of(number - tiles.start);
                        let from = (own.end * channels) * size_of::<T>() / 64;
                        let from = input.as_ptr().cast::<u8>().wrapping_add(from * 64);
                        for line in soon {
                            prefetch::read(from.wrapping_add(64 * line));
                        }
                    }
                    let present = spots[here].present(b, tile, own.len());
                    let stays = b.block == 1 && number + 1 < tiles.end;
                    let later = if stays { &spots[here] } else { &spots[there] };
                    let then = Hint {
                        to: base.wrapping_add(then_start).cast_const(),
                        offsets: &later.offsets[..own.len()],
                    };
                    let offset = |r: usize| spots[here].offsets[r].wrapping_add(own_start);
                    let mut left = present;
                    while left != 0 {
                        let from = left.trailing_zeros() as usize;
                        let rows = (!(left >> from)).trailing_zeros() as usize;
                        left &= !(((1 << rows) - 1) << from);
                        let Some(weights) = weights else {
                            for r in from..from + rows {
                                // SAFETY: as above.
                                let to = unsafe { output.slice_mut(offset(r), lanes) };
                                copy(simd, &plan.rest[of_tile..][..lanes], to);
                            }
                            continue;
                        };
                        let moved: [usize; MOST_ROWS];
                        let (to, offsets) = if cropped {
                            moved = from_fn(|r| offset((from + r).min(MOST_ROWS - 1)));
                            (base, &moved)
                        } else {
                            (base.wrapping_add(own_start), &spots[here].offsets)
                        };
                        let factors = Factors {
                            lanes: &plan.weights[group * b.group_weights() + weights..],
                            lane_step: width,
                            scalars: &input[(own.start + from) * channels + group * b.group_in..],
                            row_step: channels,
                            scalar_step: 1,
                            depth: b.group_in,
                        };
                        let call = Call {
                            factors,
                            start: Start::Lanes(&plan.bias[of_tile..][..width]),
                            activation: plan.epilogue.activation,
                            parts: &[Part { start: 0, places }],
                            to,
                            offsets,
                            then,
                            then_lines: then_places.lines(),
                            beside: &[],
                        };
                        let shape = Shape { rows, vectors, z: 1, live: 1 };
                        // SAFETY: as above; the rows are the task's own pixels, whose outputs in this phase begin there.
                        unsafe { direct_tile::run(simd, shape, &call) };
                    }
                    if !stays {
                        here = there;
                    }
                }
                tile = then;
            }
            begin = end;
        }
    }
}
