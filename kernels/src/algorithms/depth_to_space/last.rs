//! Channels last: the outputs of a pixel in the lanes, (phase along x, channel); rows of a tile are pixels, read where they lie.

use std::array::from_fn;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::axes::{Axes, PhasedAxis, Pixel};
use super::blocking::{Blocking, Parts, WeightTile};
use super::prepared::PreparedDirect;
use super::tiles::{MOST_HINTS, Stripe, Tile};
use crate::machine::parallel::SharedOutput;
use crate::machine::prefetch;
use crate::microkernels::copy::copy;
use crate::microkernels::direct_tile::{self, Call, Factors, Hint, MOST_VECTORS, Part, Shape, Start};
use crate::microkernels::places::{MOST_ROWS, Places};
use crate::microkernels::vector::Float;
use crate::problem::geometry::Geometry;

/// Inputs of a pixel (bytes): of so many, the next ones are asked for by one tile of weights as well as by several, one after another.
const SHORT_PIXEL: usize = 256;
/// Tiles of weights that take turns in one call, at most.
const MOST_TURNS: usize = 8;

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
    /// Those that lack outputs of some phase: bit r.
    edges: u32,
}

impl Spots {
    #[inline(always)]
    fn new(g: &Geometry, b: &Blocking, first: usize) -> Self {
        let (axes, first) = (&b.axes, b.axes.pixel(first));
        let ([_, height, width], channels) = (g.output(), g.problem().out_channels());
        let start = |p: &Pixel| {
            let at = |axis: &PhasedAxis, i: usize| (i * axis.stride).wrapping_sub(axis.crop);
            let row = at(&axes.z, p.z).wrapping_mul(height).wrapping_add(at(&axes.y, p.y));
            let start = row.wrapping_mul(width).wrapping_add(at(&axes.x, p.x)).wrapping_mul(channels);
            start.wrapping_add(p.n * g.output_plane() * channels)
        };
        let inside = |p: &Pixel| axes.z.has_all(p.z) && axes.y.has_all(p.y);
        let (mut spots, step) = (Self { first, offsets: [0; MOST_ROWS], edges: 0 }, axes.x.stride * channels);
        let (mut pixel, mut offset, mut row_inside) = (first, start(&first), inside(&first));
        for (r, to) in spots.offsets.iter_mut().enumerate() {
            *to = offset;
            spots.edges |= u32::from(!row_inside || !axes.x.has_all(pixel.x)) << r;
            pixel.x += 1;
            offset = offset.wrapping_add(step);
            if pixel.x == axes.x.positions {
                pixel = axes.next_row(pixel);
                (offset, row_inside) = (start(&pixel), inside(&pixel));
            }
        }
        spots
    }

    /// Whether the first `count` pixels have all outputs.
    #[inline(always)]
    fn is_inside(&self, count: usize) -> bool {
        self.edges & ((1 << count) - 1) == 0
    }

    /// Its pixels.
    #[inline(always)]
    fn pixels(&self, axes: &Axes, count: usize) -> impl Iterator<Item = Pixel> {
        let mut next = self.first;
        (0..count).map(move |_| {
            let pixel = next;
            next.x += 1;
            if next.x == axes.x.positions {
                next = axes.next_row(next);
            }
            pixel
        })
    }

    /// Which of `count` pixels have outputs in the phases of a tile of weights: bit r.
    #[inline(always)]
    fn present(&self, axes: &Axes, tile: WeightTile, count: usize) -> u32 {
        let mut present = (1 << count) - 1;
        if !self.is_inside(count) {
            for (r, pixel) in self.pixels(axes, count).enumerate() {
                // A run over all phases along x is of a whole axis.
                let x = axes.x.is_whole() || axes.x.output_of(pixel.x, tile.run).is_some();
                let zy = axes.z.output_of(pixel.z, tile.z).and(axes.y.output_of(pixel.y, tile.y));
                present &= !(u32::from(!x || zy.is_none()) << r);
            }
        }
        present
    }
}

/// Copies phases without taps of `count` pixels to their outputs, which begin at `start` for outputs that begin at 0.
///
/// # Safety
/// Nobody else accesses these outputs meanwhile.
#[inline(always)]
unsafe fn fill<T: Float, S: Simd>(
    simd: S,
    plan: &PreparedDirect<T>,
    output: SharedOutput<'_, T>,
    group: usize,
    stripe: &Stripe,
    spots: &Spots,
    count: usize,
) {
    let (b, unit) = (&plan.blocking, plan.blocking.group_out);
    let rest = &plan.rest[group * b.rest_step()..][..stripe.count * unit];
    let start = group * unit + stripe.phase;
    let offsets = spots.offsets[..count].iter().map(|offset| offset.wrapping_add(start));
    if spots.is_inside(count) {
        for offset in offsets {
            // SAFETY: as promised.
            copy(simd, rest, unsafe { output.slice_mut(offset, rest.len()) });
        }
        return;
    }
    for (offset, pixel) in offsets.zip(spots.pixels(&b.axes, count)) {
        let phases = stripe.of(&b.axes, &pixel);
        if !phases.is_empty() {
            let (offset, rest) = (offset.wrapping_add(phases.start * unit), &rest[..phases.len() * unit]);
            // SAFETY: as promised.
            copy(simd, rest, unsafe { output.slice_mut(offset, rest.len()) });
        }
    }
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
        // Phases without taps are filled after the tiles of weights, some with each.
        let stripes = Parts::new(plan.stripes.len(), plan.tiles.len());
        let stripes = |number: usize| &plan.stripes[stripes.of(tiles.start + number)];
        let (own_tiles, all_turns) = (&plan.tiles[tiles.clone()], &plan.turns[tiles.clone()]);
        let base = base.wrapping_add(group * b.group_out);
        // Each tile of pixels takes all tiles of weights; or each of those a block of pixels.
        let in_turn = b.block == 1;
        let short = channels * size_of::<T>() <= SHORT_PIXEL;
        let mut begin = 0;
        // Of this tile and the next, in turn: a copy would wait until what was just written in parts has left the store queue.
        let mut spots = [Spots::new(g, b, units.start); 2];
        let mut here = 0;
        while begin < count {
            let end = (begin + b.block).min(count);
            let first = spots[here];
            let mut number = 0;
            while number < own_tiles.len() {
                let tile = &own_tiles[number];
                let places = places_of(tile.number);
                // Tiles of the same vectors take turns in one call, where they have the same pixels.
                let all_present = in_turn && spots[here].is_inside(pixels(begin).len());
                let most = if all_present && short { MOST_TURNS } else { 1 };
                let like = |next: &&Tile| std::ptr::eq(places_of(next.number), places);
                let turns = match own_tiles[number..].iter().take(most).take_while(like).count() {
                    some if plan.stripes.is_empty() => &all_turns[number..][..some],
                    _ => &all_turns[number..][..1],
                };
                let of_turns = number..number + turns.len();
                number = of_turns.end;
                let side = b.sides.of(tile.number.side);
                let width = side.len() * b.lanes;
                let stripes = stripes(of_turns.start);
                for i in begin..end {
                    let (own, there) = (pixels(i), 1 - here);
                    // What comes next: the next pixels, or the next tile of weights, or the next block.
                    let (then, later) = match own_tiles.len() - number {
                        _ if i + 1 < end => (of_turns.start, there),
                        0 => (0, there),
                        _ => (number, if in_turn { here } else { there }),
                    };
                    if later == there {
                        if i + 1 == end && number < own_tiles.len() {
                            spots[there] = first;
                        } else if own.end < units.end {
                            spots[there] = Spots::new(g, b, own.end);
                        }
                    }
                    // What the next pixels read, a part with each tile of weights.
                    if in_turn {
                        let soon = fetches.of(of_turns.start).start..fetches.of(number - 1).end;
                        let from = (own.end * channels) * size_of::<T>() / 64;
                        let from = input.as_ptr().cast::<u8>().wrapping_add(from * 64);
                        for line in soon {
                            prefetch::read(from.wrapping_add(64 * line));
                        }
                    }
                    let mut beside = [base.cast_const(); MOST_HINTS];
                    let mut hints = 0;
                    for stripe in stripes {
                        let to = base.wrapping_add(stripe.phase).cast_const();
                        let lines = (0..stripe.count * b.group_out).step_by(width);
                        for at in lines.take(MOST_HINTS - hints) {
                            beside[hints] = to.wrapping_add(at);
                            hints += 1;
                        }
                    }
                    let then_lines = places_of(own_tiles[then].number).lines();
                    let to_then = base.wrapping_add(all_turns[then].to);
                    let then = Hint { to: to_then, offsets: &spots[later].offsets[..own.len()] };
                    let offsets = &spots[here].offsets;
                    let mut left = spots[here].present(&b.axes, tile.number, own.len());
                    while left != 0 {
                        let from = left.trailing_zeros() as usize;
                        let rows = (!(left >> from)).trailing_zeros() as usize;
                        left &= !(((1 << rows) - 1) << from);
                        let moved: [usize; MOST_ROWS];
                        let offsets = if from > 0 {
                            moved = from_fn(|r| offsets[(from + r).min(MOST_ROWS - 1)]);
                            &moved
                        } else {
                            offsets
                        };
                        let factors = Factors {
                            lanes: &plan.weights[group * b.group_weights()..][..b.group_weights()],
                            lane_step: width,
                            scalars: &input[(own.start + from) * channels + group * b.group_in..],
                            row_step: channels,
                            scalar_step: 1,
                        };
                        let call = Call {
                            factors,
                            start: Start::Lanes(&plan.bias[group * b.bias_step()..][..b.bias_step()]),
                            activation: plan.epilogue.activation,
                            parts: &[Part { start: 0, places }],
                            turns,
                            to: base,
                            offsets,
                            then,
                            then_lines,
                            beside: &beside[..hints],
                            rows_carried: 0,
                        };
                        let shape = Shape { rows, vectors: side.len(), z: 1, live: 1 };
                        // SAFETY: as above; the rows are the task's own pixels, whose outputs in this phase begin there.
                        unsafe { direct_tile::run(simd, shape, &call, &mut []) };
                    }
                    for stripe in stripes {
                        // SAFETY: as above; stripes are shared out with the tiles, too.
                        unsafe { fill(simd, plan, output, group, stripe, &spots[here], own.len()) };
                    }
                    here = later;
                }
            }
            begin = end;
        }
    }
}
