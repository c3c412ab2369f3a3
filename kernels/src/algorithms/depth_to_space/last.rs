//! Channels last: the outputs of a pixel in the lanes, (phase along x, channel); rows of a tile are pixels, read where they lie.

use std::array::from_fn;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::blocking::{Blocking, Parts, WeightTile};
use super::pack::tile_start;
use super::prepared::PreparedDirect;
use crate::machine::parallel::SharedOutput;
use crate::machine::prefetch;
use crate::microkernels::direct_tile::{self, Call, Errand, Factors, MOST_VECTORS, Shape, Start};
use crate::microkernels::places::{MOST_ROWS, Next, Places, Rows};
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

/// Where the outputs of the pixels from `first` on begin, in phase 0.
fn starts(g: &Geometry, b: &Blocking, first: usize) -> [usize; MOST_ROWS] {
    let (axes, mut pixel) = (&b.axes, b.axes.pixel(first));
    from_fn(|_| {
        let [z, y, x] = [pixel.z * axes.z.stride, pixel.y * axes.y.stride, pixel.x * axes.x.stride];
        let start = g.output_at(pixel.n, 0, [z, y, x]);
        pixel.x += 1;
        if pixel.x == axes.x.input {
            pixel = axes.next_row(pixel);
        }
        start
    })
}

/// Where the outputs of a tile of weights begin, from those of a pixel in phase 0.
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
        let channels = g.problem().in_channels();
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

        let parts = Parts::new(units.len(), units.len().div_ceil(b.rows));
        let count = parts.count;
        let pixels = |i: usize| {
            let own = parts.of(i);
            units.start + own.start..units.start + own.end
        };
        let fetches = Parts::new((b.rows * channels * size_of::<T>()).div_ceil(64), tiles.len());
        let mut begin = 0;
        let mut here = starts(g, b, units.start);
        while begin < count {
            let end = (begin + b.block).min(count);
            let first = here;
            let mut tile = b.weight_tile(tiles.start);
            for number in tiles.clone() {
                let then =
                    if number + 1 < tiles.end { b.next_tile(tile) } else { b.weight_tile(tiles.start) };
                let side = b.sides.of(tile.side);
                let (vectors, width) = (side.len(), side.len() * b.lanes);
                let places = if tile.side + 1 == b.sides.count { &last } else { &whole[vectors - 1] };
                let weights = tile_start(b, tile);
                let depth = if weights.is_some() { b.group_in } else { 0 };
                let weights = group * b.group_weights() + weights.unwrap_or(0);
                let bias = &plan.bias[group * b.bias_step() + side.start * b.lanes..][..width];
                let to = base.wrapping_add(start(g, b, group, tile));
                let then_to = base.wrapping_add(start(g, b, group, then));
                for i in begin..end {
                    let own = pixels(i);
                    // What comes next: the next pixels, or the next tile of weights, or the next block.
                    let (there, then) = if i + 1 < end {
                        (Some(starts(g, b, own.end)), to)
                    } else if number + 1 < tiles.end {
                        (Some(first), then_to)
                    } else {
                        ((end < count).then(|| starts(g, b, own.end)), then_to)
                    };
                    let next = there.as_ref().map(|offsets| Next { to: then.cast_const(), offsets });
                    // What the next pixels read, a part with each tile of weights.
                    if i + 1 == end && b.block == 1 {
                        let soon = fetches.of(number - tiles.start);
                        let from = (own.end * channels) * size_of::<T>() / 64;
                        let from = input.as_ptr().cast::<u8>().wrapping_add(from * 64);
                        for line in soon {
                            prefetch::read(from.wrapping_add(64 * line));
                        }
                    }
                    // SAFETY: as above; the rows are the task's own pixels, whose outputs in this phase begin there.
                    let rows = unsafe { Rows::new(places, to, &here, next) };
                    let factors = Factors {
                        lanes: &plan.weights[weights..],
                        lane_step: width,
                        scalars: &input[own.start * channels + group * b.group_in..],
                        row_step: channels,
                        scalar_step: 1,
                        depth,
                    };
                    let mut call = Call {
                        shape: Shape { rows: own.len(), vectors, z: 1, live: 1 },
                        factors,
                        start: Start::Lanes(bias),
                        activation: plan.epilogue.activation,
                        rows,
                        errand: Errand::none(),
                    };
                    direct_tile::run(simd, &mut call);
                    here = there.unwrap_or(here);
                }
                tile = then;
            }
            begin = end;
        }
    }
}
