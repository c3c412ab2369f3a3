//! Padded input rows: a ring of few, so that a task copies each row once and a tile may read past both ends.

use pulp::Simd;

use super::blocking::Blocking;
use crate::microkernels::copy::copy;
use crate::microkernels::row_tile::Lanes;
use crate::microkernels::vector::Float;
use crate::problem::geometry::Geometry;

/// Where the rows of one piece come from, and where in a padded row they go.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a, T> {
    input: &'a [T],
    lanes_are: Lanes,
    /// The first input element of row (0, 0); distances of z, y and x.
    start: usize,
    steps: [usize; 3],
    /// Elements before the padded row, of zeros before the input, of the input, and of zeros after it.
    lead: usize,
    left: usize,
    inside: usize,
    right: usize,
    /// Output channels of one input channel; the first one's number among them; and how many there are in all.
    multiplier: usize,
    first: usize,
    channels: usize,
}

impl<'a, T: Float> Source<'a, T> {
    /// Of `channels` output channels (one vector at most) from `channel` on; for the positions of a piece from `x` on.
    #[inline(always)]
    pub fn new(
        geometry: &Geometry,
        blocking: &Blocking,
        input: &'a [T],
        (image, channel, channels): (usize, usize, usize),
        x: usize,
    ) -> Self {
        let reach = &blocking.reach_x;
        let positions = (blocking.positions + (reach.end - reach.start) as usize).saturating_sub(1);
        let width = geometry.input()[2] as i64;
        let first = x as i64 + reach.start;
        let begin = first.clamp(0, width);
        let end = (first + positions as i64).clamp(begin, width);
        let left = ((begin - first) as usize).min(positions);
        let inside = (end - begin) as usize;
        let multiplier = geometry.problem().group_out();
        let at = |position| geometry.input_at(image, channel / multiplier, position);
        let origin = at([0; 3]);
        Self {
            input,
            lanes_are: blocking.lanes_are,
            start: at([0, 0, begin as usize]),
            steps: [at([1, 0, 0]) - origin, at([0, 1, 0]) - origin, at([0, 0, 1]) - origin],
            lead: blocking.lead,
            left: left * blocking.unit,
            inside: inside * blocking.unit,
            right: (positions - left - inside) * blocking.unit,
            multiplier,
            first: channel % multiplier,
            channels,
        }
    }

    /// Fills one padded row with input row (z, y): zeros where there is no input.
    #[inline(always)]
    pub fn fill<S: Simd>(&self, simd: S, z: usize, y: usize, row: &mut [T]) {
        self.clear_sides(row);
        self.fill_inside(simd, z, y, row);
    }

    /// The zeros before and after the input.
    #[inline(always)]
    pub fn clear_sides(&self, row: &mut [T]) {
        let row = &mut row[self.lead..][..self.left + self.inside + self.right];
        row[..self.left].fill(T::default());
        row[self.left + self.inside..].fill(T::default());
    }

    /// The input alone.
    #[inline(always)]
    pub fn fill_inside<S: Simd>(&self, simd: S, z: usize, y: usize, row: &mut [T]) {
        let row = &mut row[self.lead + self.left..][..self.inside];
        if row.is_empty() {
            return;
        }
        let input = &self.input[self.start + z * self.steps[0] + y * self.steps[1]..];
        match self.lanes_are {
            Lanes::Positions => copy(simd, &input[..row.len()], row),
            Lanes::Channels => self.fill_channels(simd, input, row),
        }
    }

    /// `lanes` channels of each position.
    #[inline(always)]
    fn fill_channels<S: Simd>(&self, simd: S, input: &[T], row: &mut [T]) {
        let (lanes, step) = (T::lanes::<S>(), self.steps[2]);
        let row = row.chunks_exact_mut(lanes);
        if self.multiplier == 1 && self.channels == lanes {
            for (i, to) in row.enumerate() {
                copy(simd, &input[i * step..][..lanes], to);
            }
        } else if self.multiplier == 1 {
            for (i, to) in row.enumerate() {
                let from = &input[i * step..][..self.channels];
                for (to, from) in to.iter_mut().zip(from) {
                    *to = *from;
                }
            }
        } else if self.first + self.channels <= self.multiplier {
            for (i, to) in row.enumerate() {
                to.fill(input[i * step]);
            }
        } else {
            for (i, to) in row.enumerate() {
                let mut from = input[i * step..].iter();
                let (mut value, mut left) = (from.next(), self.multiplier - self.first);
                for to in &mut to[..self.channels] {
                    if left == 0 {
                        (value, left) = (from.next(), self.multiplier);
                    }
                    *to = value.copied().unwrap_or_default();
                    left -= 1;
                }
            }
        }
    }
}
