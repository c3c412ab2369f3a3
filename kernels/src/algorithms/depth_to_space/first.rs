//! Channels first: pixels in the lanes, flattened over rows and images; rows of a tile are channels × phases along x.

use std::array::from_fn;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::blocking::{Blocking, MOST_SHARING, Parts, WeightTile};
use super::pack::{fetch, fill};
use super::prepared::PreparedDirect;
use super::tiles::{MOST_HINTS, Tile};
use crate::machine::parallel::SharedOutput;
use crate::microkernels::direct_tile::{self, Call, Factors, Hint, Part, Shape, Start, Turn};
use crate::microkernels::errand::{Errand, Source};
use crate::microkernels::places::{MOST_ROWS, Places};
use crate::microkernels::vector::Float;
use crate::problem::geometry::Geometry;

/// Inputs are asked for about so many steps before they are copied.
const FETCH_STEPS: usize = 64;

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

/// The pixels of some tiles side by side, whose inputs are packed together; or of one tile.
#[derive(Debug, Clone)]
struct Panel {
    pixels: Range<usize>,
    vectors: usize,
    /// Its tiles, in vectors.
    sharing: Parts,
    /// Where the outputs of the first pixel begin in phase 0, were none cropped.
    start: isize,
}

impl Panel {
    fn new(g: &Geometry, b: &Blocking, units: Range<usize>) -> Self {
        let pixels = units.start * b.lanes..(units.end * b.lanes).min(b.pixels);
        let (axes, p) = (&b.axes, b.axes.pixel(pixels.start));
        let at = |i: usize, axis: &super::axes::PhasedAxis| (i * axis.stride) as isize - axis.crop as isize;
        let [_, height, width] = g.output().map(|o| o as isize);
        let image = p.n * g.problem().out_channels() * g.output_plane();
        let row = at(p.z, &axes.z) * height + at(p.y, &axes.y);
        let (vectors, start) = (units.len(), image as isize + row * width + at(p.x, &axes.x));
        Self { pixels, vectors, sharing: Parts::new(vectors, vectors.div_ceil(b.vectors)), start }
    }

    /// A part of it.
    fn part(&self, b: &Blocking, vectors: Range<usize>) -> Range<usize> {
        let at = |v: usize| (self.pixels.start + v * b.lanes).min(self.pixels.end);
        at(vectors.start)..at(vectors.end)
    }

    /// Where its outputs of one phase lie in the first channel.
    fn place(
        g: &Geometry,
        b: &Blocking,
        pixels: Range<usize>,
        vectors: usize,
        tile: WeightTile,
        places: &mut Places,
    ) {
        places.clear(vectors * b.z);
        let (axes, x) = (&b.axes, &b.axes.x);
        let (mut done, mut pixel) = (0, axes.pixel(pixels.start));
        while done < pixels.len() {
            let len = (x.positions - pixel.x).min(pixels.len() - done);
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
        let (mut done, mut pixel) = (0, axes.pixel(self.pixels.start));
        while done < self.pixels.len() {
            if !axes.z.has_all(pixel.z) || !axes.y.has_all(pixel.y) {
                return false;
            }
            done += axes.x.positions - pixel.x;
            pixel = axes.next_row(pixel);
        }
        true
    }

    /// Its inputs in some vectors, row by row, if they fill them: together in all windows, or in one and on both sides of the end of an
    /// image.
    fn source(&self, b: &Blocking, group: usize, vectors: Range<usize>) -> Option<Source> {
        let (axes, at) = (&b.axes, self.pixels.start + vectors.start * b.lanes);
        let width = vectors.len() * b.lanes;
        if at + width > self.pixels.end {
            return None;
        }
        let channels = b.channels_before(group);
        let all = |start, together, jump| Source {
            start,
            together,
            jump,
            rows: b.group_in,
            step: axes.plane,
            windows: axes.windows,
            back: axes.back,
            next: self.vectors * b.lanes,
        };
        if let Some(start) = axes.together(at, width, channels) {
            return Some(all(start, width, 0));
        }
        let first = axes.run(0, 0, at, width, channels);
        let second = axes.run(0, first.len, at + first.len, width - first.len, channels);
        let (start, rest) = (first.from?, second.from?);
        let in_two = axes.windows == 1 && first.len + second.len == width && start + first.len <= rest;
        in_two.then(|| all(start, first.len, rest - start))
    }

    /// Whether all vectors of all tiles have a source.
    fn is_carried(&self, b: &Blocking, group: usize) -> bool {
        (0..self.sharing.count).all(|part| self.source(b, group, self.sharing.of(part)).is_some())
    }
}

impl<T: Float> WithSimd for Task<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { plan, input, output, slot, group, units, tiles } = self;
        let (g, b) = (&plan.geometry, &plan.blocking);
        let parts = Parts::new(units.len(), units.len().div_ceil(b.wide));
        let count = parts.count;
        let panel = |i: usize| {
            let own = parts.of(i);
            Panel::new(g, b, units.start + own.start..units.start + own.end)
        };
        let (mut here, mut there) = slot.split_at_mut(b.panel());
        let mut placed: [[Places; MOST_SHARING]; 2] =
            from_fn(|_| from_fn(|_| Places::new(b.lanes, size_of::<T>())));
        let (tiles, turns) = (&plan.tiles[tiles.clone()], &plan.turns[tiles]);
        let (mut own, mut filled) = (panel(0), false);
        for i in 0..count {
            if !filled {
                let sharing = own.sharing;
                for part in 0..sharing.count {
                    let vectors = sharing.of(part);
                    let here = &mut here[vectors.start * b.lanes * b.sources..];
                    let width = vectors.len() * b.lanes;
                    fill(simd, b, group, input, own.part(b, vectors), width, here);
                }
            }
            let next = (i + 1 < count).then(|| panel(i + 1));
            let next_of = next.as_ref();
            let carried =
                next_of.filter(|next| b.ahead && next.vectors == own.vectors && next.is_carried(b, group));
            let block = Block { plan, input, output, group, own: &own, tiles, turns, next: next_of, carried };
            block.run(simd, here, there, &mut placed);
            filled = carried.is_some();
            if filled {
                std::mem::swap(&mut here, &mut there);
            }
            if let Some(next) = next {
                own = next;
            }
        }
    }
}

/// The pixels of one panel, for all tiles of weights of a task.
struct Block<'a, 'o, T> {
    plan: &'a PreparedDirect<T>,
    input: &'a [T],
    output: SharedOutput<'o, T>,
    group: usize,
    own: &'a Panel,
    /// The tiles of weights, and what each does.
    tiles: &'a [Tile],
    turns: &'a [Turn],
    next: Option<&'a Panel>,
    /// The next panel, if its inputs are copied meanwhile.
    carried: Option<&'a Panel>,
}

impl<T: Float> Block<'_, '_, T> {
    #[inline(always)]
    fn run<S: Simd>(&self, simd: S, here: &[T], there: &mut [T], placed: &mut [[Places; MOST_SHARING]; 2]) {
        let (g, b, own) = (&self.plan.geometry, &self.plan.blocking, self.own);
        let plane = g.output_plane();
        // SAFETY: the task owns the outputs of its pixels in the phases and channels of its tiles; no others are accessed.
        let base = unsafe { self.output.slice_ptr(0, self.output.len()) };
        let base = base.wrapping_add(self.group * b.group_out * plane);
        let offsets: [usize; MOST_ROWS] = from_fn(|r| r * plane);
        let sharing = own.sharing;
        // The phases lie alike, but where rows are cropped: there, two kinds of them most often, and of a third the places are worked out again. Of which kind the places are, and
        // what they hold of the phase.
        let alike = b.axes.rows_are_whole() || own.is_whole(b);
        let (mut kinds, mut phases, mut now) = ([usize::MAX; 2], [0; 2], 0);
        let width = |part: usize| sharing.of(part).len() * b.lanes;
        let live = self.tiles.iter().filter(|tile| tile.live).count();
        let rows_carried = b.sources.div_ceil(live.max(1));
        let mut errands = self.errands(there, rows_carried * (FETCH_STEPS / b.sources).max(1));
        // Where nothing is copied, what the next panel reads is asked for, a part with each tile.
        let fetches = self.next.filter(|_| self.carried.is_none());
        let sources = Parts::new(b.sources, self.tiles.len());
        let mut number = 0;
        while number < self.tiles.len() {
            let tile = &self.tiles[number];
            if let Some(next) = fetches {
                fetch(b, self.group, self.input, next.pixels.clone(), sources.of(number));
            }
            let kind = if alike { 0 } else { tile.positions };
            if kinds[now] != kind {
                now = 1 - now;
            }
            if kinds[now] != kind {
                (kinds[now], phases[now]) = (kind, tile.phase);
                for (part, places) in placed[now].iter_mut().take(sharing.count).enumerate() {
                    let vectors = sharing.of(part);
                    Panel::place(g, b, own.part(b, vectors.clone()), vectors.len(), tile.number, places);
                }
            }
            let places = &placed[now];
            // The places hold a phase already.
            let to = base.wrapping_sub(phases[now]);
            let of_group = self.group * b.bias_step();
            if !tile.live {
                let turn = &self.turns[number];
                for places in &places[..sharing.count] {
                    for c in 0..tile.units {
                        // SAFETY: as above; the rows are channels of the tile, one output plane apart.
                        unsafe {
                            let value = self.plan.rest[of_group + turn.start + c * b.unit];
                            places.fill(simd, value, to.wrapping_add(turn.to + c * plane));
                        }
                    }
                }
                number += 1;
                continue;
            }
            // Tiles of the same rows and places take turns.
            let like = |next: &&Tile| {
                next.live && next.units == tile.units && (alike || next.positions == tile.positions)
            };
            let most = if fetches.is_some() { 1 } else { usize::MAX };
            let count = self.tiles[number..].iter().take(most).take_while(like).count();
            let turns = &self.turns[number..][..count];
            number += count;
            // What comes next: phases without taps, and the next tile of weights, or the first one for the next pixels.
            let following = &self.turns[number..];
            let fills = self.tiles[number - 1].fills.min(following.len());
            let mut beside = [base.cast_const(); MOST_HINTS];
            for (hint, fill) in beside.iter_mut().zip(&following[..fills]) {
                *hint = to.wrapping_add(fill.to);
            }
            let beside = &beside[..fills.min(MOST_HINTS)];
            let (then_to, then_channels) = match (following.get(fills), self.next) {
                (Some(then), _) => (to.wrapping_add(then.to), self.tiles[number + fills].units),
                (None, Some(next)) => {
                    let first = to.wrapping_add(self.turns[0].to);
                    (first.wrapping_offset(next.start - own.start), self.tiles[0].units)
                }
                (None, None) => (to, 0),
            };
            let rows = tile.units * b.unit;
            // Tiles of equal width together: the wider ones, then the others.
            let mut part = 0;
            while part < sharing.count {
                let (first, vectors) = (part, sharing.of(part).len());
                let mut parts = [Part { start: 0, places: &places[0] }; MOST_SHARING];
                while part < sharing.count && sharing.of(part).len() == vectors {
                    let start = sharing.of(part).start * b.lanes * b.sources;
                    parts[part - first] = Part { start, places: &places[part] };
                    part += 1;
                }
                let parts = &parts[..part - first];
                if parts.iter().all(|part| part.places.is_empty()) {
                    continue;
                }
                let (then, then_lines) = if part < sharing.count {
                    let to = to.wrapping_add(turns[0].to);
                    (Hint { to, offsets: &offsets[..tile.units] }, places[part].lines())
                } else {
                    (Hint { to: then_to, offsets: &offsets[..then_channels] }, places[0].lines())
                };
                let factors = Factors {
                    lanes: here,
                    lane_step: vectors * b.lanes,
                    scalars: &self.plan.weights[self.group * b.group_weights()..][..b.group_weights()],
                    row_step: 1,
                    scalar_step: rows,
                };
                let call = Call {
                    factors,
                    start: Start::Rows(&self.plan.bias[of_group..][..b.bias_step()]),
                    activation: self.plan.epilogue.activation,
                    parts,
                    turns,
                    to,
                    offsets: &offsets,
                    then,
                    then_lines,
                    beside,
                    rows_carried,
                };
                let shape = Shape { rows, vectors, z: b.z, live: b.unit };
                let errands = if self.carried.is_some() { &mut errands[first..part] } else { &mut [] };
                // SAFETY: as above; the rows are channels of the tile, one output plane apart. Errands are as wide as their tiles.
                unsafe { direct_tile::run(simd, shape, &call, errands) };
            }
        }
        for (part, errand) in errands[..sharing.count].iter_mut().enumerate() {
            // SAFETY: as wide as their tiles.
            unsafe { errand.copy_rows(simd, width(part)) };
        }
    }

    /// What is copied of the next panel meanwhile, for each tile beside the others; asked for `lead` rows before.
    #[inline(always)]
    fn errands(&self, there: &mut [T], lead: usize) -> [Errand<T>; MOST_SHARING] {
        let (b, own) = (&self.plan.blocking, self.own);
        let mut errands = [Errand::NONE; MOST_SHARING];
        let Some(next) = self.carried else { return errands };
        let (sharing, mut left) = (own.sharing, there);
        for (part, errand) in errands[..sharing.count].iter_mut().enumerate() {
            let width = sharing.of(part).len() * b.lanes;
            let (to, others) = left.split_at_mut(b.sources * width);
            left = others;
            let source = next.source(b, self.group, sharing.of(part)).expect("a panel that is carried");
            // SAFETY: the panel is read when all of it is copied; inputs are not written.
            *errand = unsafe { Errand::new(self.input, source, to, width, lead) };
        }
        errands
    }
}
