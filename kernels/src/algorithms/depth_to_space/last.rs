//! Channels last: the outputs of a pixel in the lanes, (phase along x, channel); rows of a tile are pixels, read where they lie.

use std::array::from_fn;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::blocking::{Blocking, part};
use super::pack::tile_start;
use super::prepared::PreparedDirect;
use crate::machine::parallel::SharedOutput;
use crate::microkernels::direct_tile::{
    self, Call, Errand, Factors, MOST_ROWS, MOST_VECTORS, Next, Places, Rows, Shape, Start,
};
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

/// A tile of weights.
struct Side {
    phase: usize,
    run: usize,
    number: usize,
    vectors: Range<usize>,
}

impl Side {
    fn new(b: &Blocking, tile: usize) -> Self {
        let (number, rest) = (tile % b.side_tiles(), tile / b.side_tiles());
        let vectors = part(b.sides(), b.side_tiles(), number);
        Self { phase: rest / b.runs, run: rest % b.runs, number, vectors }
    }

    /// Where its outputs begin, from those of a pixel in phase 0.
    fn start(&self, g: &Geometry, b: &Blocking, group: usize) -> usize {
        let ([z, y], [_, height, width]) = (b.axes.phase(self.phase), g.output());
        let row = (z * height + y) * width;
        (row + self.run) * g.problem().out_channels() + group * b.group_out + self.vectors.start * b.lanes
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
        let mut whole: [Places; MOST_VECTORS] = from_fn(|_| Places::new(b.lanes));
        for (places, vectors) in whole.iter_mut().zip(1..) {
            places.clear(vectors);
            places.push(0, 0, vectors * b.lanes);
        }
        let mut last = Places::new(b.lanes);
        let of_last = part(b.sides(), b.side_tiles(), b.side_tiles() - 1);
        last.clear(of_last.len());
        last.push(0, 0, b.run - of_last.start * b.lanes);

        let count = units.len().div_ceil(b.rows);
        let pixels = |i: usize| {
            let own = part(units.len(), count, i);
            units.start + own.start..units.start + own.end
        };
        let mut begin = 0;
        let mut here = starts(g, b, units.start);
        while begin < count {
            let end = (begin + b.block).min(count);
            let first = here;
            for tile in tiles.clone() {
                let side = Side::new(b, tile);
                let vectors = side.vectors.len();
                let places = if side.number + 1 == b.side_tiles() { &last } else { &whole[vectors - 1] };
                let width = vectors * b.lanes;
                let (depth, weights) = match b.axes.with_tap(side.phase) {
                    Some(phase) => (b.group_in, tile_start(b, phase, side.run, side.number)),
                    None => (0, 0),
                };
                let bias = &plan.bias[group * b.step() + side.vectors.start * b.lanes..][..width];
                let to = base.wrapping_add(side.start(g, b, group));
                for i in begin..end {
                    let own = pixels(i);
                    // What comes next: the next pixels, or the next tile of weights, or the next block.
                    let (there, then) = if i + 1 < end {
                        (Some(starts(g, b, own.end)), to)
                    } else if tile + 1 < tiles.end {
                        let then = Side::new(b, tile + 1).start(g, b, group);
                        (Some(first), base.wrapping_add(then))
                    } else {
                        let then = Side::new(b, tiles.start).start(g, b, group);
                        ((end < count).then(|| starts(g, b, own.end)), base.wrapping_add(then))
                    };
                    let next = there.as_ref().map(|offsets| Next { to: then.cast_const(), offsets });
                    // SAFETY: as above; the rows are the task's own pixels, whose outputs in this phase begin there.
                    let rows = unsafe { Rows::new(places, to, &here, next) };
                    let factors = Factors {
                        lanes: &plan.weights[group * b.group_weights() + weights..],
                        lane_step: width,
                        scalars: &input[own.start * channels + group * b.group_in..],
                        row_step: channels,
                        scalar_step: 1,
                        depth,
                    };
                    let mut call = Call {
                        shape: Shape { rows: own.len(), vectors, z: 1 },
                        factors,
                        start: Start::Lanes(bias),
                        activation: plan.epilogue.activation,
                        rows,
                        errand: Errand::none(),
                    };
                    direct_tile::run(simd, &mut call);
                    here = there.unwrap_or(here);
                }
            }
            begin = end;
        }
    }
}
