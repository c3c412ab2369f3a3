//! Channels first: pixels in the lanes, flattened over rows and images; rows of a tile are channels × phases along x.

use std::array::from_fn;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::blocking::{Blocking, Parts, WeightTile};
use super::pack::{fetch, fill, tile_start};
use super::prepared::PreparedDirect;
use crate::machine::parallel::SharedOutput;
use crate::microkernels::direct_tile::{self, Call, Errand, Factors, Shape, Start};
use crate::microkernels::places::{Next, Places, Rows};
use crate::microkernels::vector::Float;
use crate::problem::geometry::Geometry;

/// Some vectors of pixels, for some tiles of weights of one group.
pub struct Task<'a, 'o, T> {
    pub plan: &'a PreparedDirect<T>,
    pub input: &'a [T],
    pub output: SharedOutput<'o, T>,
    pub slot: &'a mut [T],
    pub group: usize,
    pub units: Range<usize>,
    pub tiles: Range<usize>,
}

/// The pixels of one tile.
#[derive(Debug, Clone)]
struct Panel {
    pixels: Range<usize>,
    vectors: usize,
    /// Where the outputs of the first pixel begin in phase 0, were none cropped.
    start: isize,
}

impl Panel {
    fn new(g: &Geometry, b: &Blocking, units: Range<usize>) -> Self {
        let pixels = units.start * b.lanes..(units.end * b.lanes).min(b.pixels);
        let (axes, p) = (&b.axes, b.axes.pixel(pixels.start));
        let at = |i: usize, axis: &super::axes::DisjointAxis| (i * axis.stride) as isize - axis.crop as isize;
        let [_, height, width] = g.output().map(|o| o as isize);
        let image = p.n * g.problem().out_channels() * g.output_plane();
        let row = at(p.z, &axes.z) * height + at(p.y, &axes.y);
        Self { pixels, vectors: units.len(), start: image as isize + row * width + at(p.x, &axes.x) }
    }

    /// Where its outputs of one phase lie in the first channel.
    fn place(&self, g: &Geometry, b: &Blocking, tile: WeightTile, places: &mut Places) {
        places.clear(self.vectors * b.z);
        let (axes, x) = (&b.axes, &b.axes.x);
        let (mut done, mut pixel) = (0, axes.pixel(self.pixels.start));
        while done < self.pixels.len() {
            let len = (x.input - pixel.x).min(self.pixels.len() - done);
            if let (Some(z), Some(y)) = (axes.z.output_of(pixel.z, tile.z), axes.y.output_of(pixel.y, tile.y))
            {
                let (first, end) = (pixel.x * x.stride, (pixel.x + len) * x.stride);
                let (from, to) = (first.max(x.crop), end.min(x.crop + x.output));
                if from < to {
                    let start = g.output_at(pixel.n, 0, [z, y, from - x.crop]);
                    places.push(done * x.stride + from - first, start, to - from);
                }
            }
            done += len;
            pixel = axes.next_row(pixel);
        }
    }

    /// Whether every row that it meets has all its outputs along z and y.
    fn is_whole(&self, b: &Blocking) -> bool {
        let axes = &b.axes;
        let whole = |axis: &super::axes::DisjointAxis, i: usize| {
            axis.output_of(i, 0).is_some() && axis.output_of(i, axis.stride - 1).is_some()
        };
        let (mut done, mut pixel) = (0, axes.pixel(self.pixels.start));
        while done < self.pixels.len() {
            if !whole(&axes.z, pixel.z) || !whole(&axes.y, pixel.y) {
                return false;
            }
            done += axes.x.input - pixel.x;
            pixel = axes.next_row(pixel);
        }
        true
    }

    /// Where its inputs of channel 0 begin, if they lie together and fill all vectors.
    fn plain(&self, b: &Blocking, group: usize) -> Option<usize> {
        let (n, at) = (self.pixels.start / b.axes.plane, self.pixels.start % b.axes.plane);
        let width = self.vectors * b.lanes;
        let together = self.pixels.len() == width && at + width <= b.axes.plane;
        together.then_some((n * b.groups + group) * b.group_in * b.axes.plane + at)
    }
}

impl<T: Float> WithSimd for Task<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { plan, input, output, slot, group, units, tiles } = self;
        let (g, b) = (&plan.geometry, &plan.blocking);
        let parts = Parts::new(units.len(), units.len().div_ceil(b.vectors));
        let count = parts.count;
        let panel = |i: usize| {
            let own = parts.of(i);
            Panel::new(g, b, units.start + own.start..units.start + own.end)
        };
        let (mut here, mut there) = slot.split_at_mut(b.panel());
        let mut places = Places::new(b.lanes, size_of::<T>());
        let errands = Parts::new(b.group_in, tiles.len());
        let first = b.weight_tile(tiles.start);
        let (mut own, mut filled) = (panel(0), false);
        for i in 0..count {
            if !filled {
                fill(simd, b, group, input, own.pixels.clone(), own.vectors * b.lanes, here);
            }
            let next = (i + 1 < count).then(|| panel(i + 1));
            let from = next
                .as_ref()
                .filter(|next| b.ahead && next.vectors == own.vectors)
                .and_then(|next| next.plain(b, group));
            let block =
                Block { plan, input, output, group, own: &own, first, errands, next: next.as_ref(), from };
            block.run(simd, here, there, &mut places);
            filled = from.is_some();
            if filled {
                std::mem::swap(&mut here, &mut there);
            }
            if let Some(next) = next {
                own = next;
            }
        }
    }
}

/// The pixels of one tile, for all tiles of weights of a task.
struct Block<'a, 'o, T> {
    plan: &'a PreparedDirect<T>,
    input: &'a [T],
    output: SharedOutput<'o, T>,
    group: usize,
    own: &'a Panel,
    /// The first tile of weights, and the channels of the next panel that are copied with each.
    first: WeightTile,
    errands: Parts,
    next: Option<&'a Panel>,
    /// Where the inputs of the next panel begin, if they are copied meanwhile.
    from: Option<usize>,
}

impl<T: Float> Block<'_, '_, T> {
    #[inline(always)]
    fn run<S: Simd>(&self, simd: S, here: &[T], there: &mut [T], places: &mut Places) {
        let (g, b, own) = (&self.plan.geometry, &self.plan.blocking, self.own);
        let plane = g.output_plane();
        // SAFETY: the task owns the outputs of its pixels in the phases and channels of its tiles; no others are accessed.
        let base = unsafe { self.output.slice_ptr(0, self.output.len()) };
        let base = base.wrapping_add(self.group * b.group_out * plane);
        let offsets = from_fn(|r| r * plane);
        let [_, height, width] = g.output();
        let row = |tile: WeightTile| (tile.z * height + tile.y) * width;
        let to = |tile: WeightTile| b.sides.of(tile.side).start * plane + row(tile);
        // The phases lie alike, but where rows are cropped.
        let (alike, mut tile) = (b.axes.rows_are_whole() || own.is_whole(b), self.first);
        if alike {
            own.place(g, b, WeightTile::default(), places);
        }
        for number in 0..self.errands.count {
            if !alike {
                own.place(g, b, tile, places);
            }
            // What the places hold already.
            let held = if alike { 0 } else { row(tile) };
            // What comes next: the next tile of weights, or the first one for the next pixels.
            let last = number + 1 == self.errands.count;
            let (then, from) = if last { (self.first, self.next) } else { (b.next_tile(tile), Some(own)) };
            let channels = b.sides.of(tile.side);
            let rows = channels.len() * b.z;
            let errand = self.errand(number, there);
            if places.is_empty() {
                errand.run(simd, own.vectors);
                tile = then;
                continue;
            }
            let next = from.map(|from| {
                let to = base.wrapping_add(to(then)).wrapping_sub(held);
                Next { to: to.wrapping_offset(from.start - own.start), offsets: &offsets }
            });
            let to = base.wrapping_add(to(tile)).wrapping_sub(held);
            let weights = tile_start(b, tile);
            let factors = Factors {
                lanes: here,
                lane_step: own.vectors * b.lanes,
                scalars: &self.plan.weights[self.group * b.group_weights() + weights.unwrap_or(0)..],
                row_step: 1,
                scalar_step: channels.len() * b.unit,
                depth: if weights.is_some() { b.group_in } else { 0 },
            };
            let bias = &self.plan.bias[self.group * b.bias_step() + channels.start * b.z..][..rows];
            let mut call = Call {
                shape: Shape { rows, vectors: own.vectors, z: b.z, live: b.unit },
                factors,
                start: Start::Rows(bias),
                activation: self.plan.epilogue.activation,
                // SAFETY: as above; the rows are channels of the tile, one output plane apart.
                rows: unsafe { Rows::new(places, to, &offsets, next) },
                errand,
            };
            direct_tile::run(simd, &mut call);
            tile = then;
        }
    }

    /// The part of the next panel that is copied during tile number `tile`.
    #[inline(always)]
    fn errand<'s>(&'s self, tile: usize, there: &'s mut [T]) -> Errand<'s, T> {
        let b = &self.plan.blocking;
        let (plane, width) = (b.axes.plane, self.own.vectors * b.lanes);
        let channels = self.errands.of(tile);
        let Some(from) = self.from else {
            if let Some(next) = self.next {
                fetch(b, self.group, self.input, next.pixels.clone(), channels);
            }
            return Errand::none();
        };
        // Of more tiles than channels, the last have none to copy.
        if channels.is_empty() {
            return Errand::none();
        }
        // After the last part comes the first one of the panel after the next.
        let soon = if channels.end < b.group_in { from + channels.end * plane } else { from + width };
        Errand {
            from: &self.input[from + channels.start * plane..],
            from_step: plane,
            to: &mut there[channels.start * width..channels.end * width],
            count: channels.len(),
            soon: self.input.as_ptr().wrapping_add(soon),
        }
    }
}
