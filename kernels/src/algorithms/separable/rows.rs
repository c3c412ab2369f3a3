//! Rows of inputs with zeros beside them: of the one channel that each output channel reads, planes along z already added.

use pulp::Simd;

use super::blocking::{Blocking, Widening};
use super::pack::Packed;
use crate::microkernels::copy::copy;
use crate::microkernels::vector::Float;
use crate::problem::geometry::Geometry;

/// Where the rows of one piece come from.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a, T> {
    pub geometry: &'a Geometry,
    pub blocking: &'a Blocking,
    pub packed: &'a Packed<T>,
    pub input: &'a [T],
    pub image: usize,
    /// Positions before the input, the first of the input, and how many of it.
    pub left: usize,
    pub begin: usize,
    pub inside: usize,
}

impl<'a, T: Float> Source<'a, T> {
    /// For the positions from `x` on.
    #[inline(always)]
    pub fn new(
        (geometry, blocking, packed): (&'a Geometry, &'a Blocking, &'a Packed<T>),
        input: &'a [T],
        image: usize,
        x: usize,
    ) -> Self {
        let reach = &blocking.reach_x;
        let width = geometry.input()[2] as i64;
        let first = x as i64 + reach.start;
        let end = x as i64 + blocking.positions as i64 + reach.end - 1;
        let begin = first.clamp(0, width);
        let end = end.clamp(begin, width);
        let left = (begin - first).clamp(0, (blocking.narrow / blocking.unit) as i64);
        Self {
            geometry,
            blocking,
            packed,
            input,
            image,
            left: left as usize,
            begin: begin as usize,
            inside: (end - begin) as usize,
        }
    }

    /// The inputs of a channel (0 where a position is all channels) in row (z, y).
    #[inline(always)]
    fn inputs(&self, channel: usize, z: usize, y: usize) -> &'a [T] {
        if self.inside == 0 {
            return &[];
        }
        let each = match self.blocking.widening {
            Widening::Channels => self.geometry.problem().in_channels(),
            _ => 1,
        };
        let at = self.geometry.input_at(self.image, channel, [z, y, self.begin]);
        &self.input[at..at + self.inside * each]
    }

    /// Row (z, y) of an output channel, or of all; `suspects`: what is added, where a group has several channels and they
    /// lie apart.
    #[inline(always)]
    pub fn fetch<S: Simd>(&self, simd: S, channel: usize, [z, y]: [usize; 2], suspects: &[T], to: &mut [T]) {
        let unit = self.blocking.unit;
        let (left, rest) = to.split_at_mut(self.left * unit);
        left.fill(T::default());
        let (inside, right) = rest.split_at_mut(self.inside * unit);
        right.fill(T::default());
        if inside.is_empty() {
            return;
        }
        if self.blocking.widening == Widening::Channels {
            return self.gather(simd, self.inputs(0, z, y), inside);
        }
        let from = self.inputs(self.packed.source[channel], z, y);
        if suspects.is_empty() {
            copy(simd, from, inside);
        } else {
            for ((to, from), suspect) in inside.iter_mut().zip(from).zip(suspects) {
                *to = *from + *suspect;
            }
        }
    }

    /// The channel of each output channel, position after position.
    #[inline(always)]
    fn gather<S: Simd>(&self, simd: S, from: &[T], to: &mut [T]) {
        let p = self.geometry.problem();
        let (cin, cout) = (p.in_channels(), p.out_channels());
        let (group_in, group_out) = (p.group_in(), p.group_out());
        if self.packed.in_place && !self.blocking.diagonal && cin == cout {
            return copy(simd, from, to);
        }
        for (from, to) in from.chunks_exact(cin).zip(to.chunks_exact_mut(cout)) {
            if self.packed.in_place {
                to.copy_from_slice(&from[..cout]);
            } else {
                for (to, source) in to.iter_mut().zip(&self.packed.source) {
                    *to = from[*source];
                }
            }
            if self.blocking.diagonal {
                let groups = from.chunks_exact(group_in).zip(to.chunks_exact_mut(group_out));
                for (from, to) in groups {
                    let suspect = zero_times_sum(simd, from);
                    to.iter_mut().for_each(|to| *to += suspect);
                }
            }
        }
    }

    /// 0 for each position of row (z, y) where all channels of the group are finite, else NaN.
    #[inline(always)]
    pub fn suspects<S: Simd>(&self, simd: S, group: usize, z: usize, y: usize, to: &mut [T]) {
        let group_in = self.geometry.problem().group_in();
        let to = &mut to[..self.inside];
        to.fill(T::default());
        for channel in group * group_in..(group + 1) * group_in {
            let from = self.inputs(channel, z, y);
            let zero = T::splat(simd, T::default());
            let lanes = T::lanes::<S>();
            let (whole, rest) = from.split_at(from.len() / lanes * lanes);
            let (to_whole, to_rest) = to.split_at_mut(whole.len());
            for (to, from) in to_whole.chunks_exact_mut(lanes).zip(whole.chunks_exact(lanes)) {
                let sum = T::mul_add(simd, T::load(simd, from), zero, T::load(simd, to));
                T::store_partial(simd, to, sum);
            }
            for (to, from) in to_rest.iter_mut().zip(rest) {
                *to += *from * T::default();
            }
        }
    }
}

/// 0 where all values are finite, else NaN.
#[inline(always)]
fn zero_times_sum<T: Float, S: Simd>(simd: S, values: &[T]) -> T {
    let (zero, lanes) = (T::splat(simd, T::default()), T::lanes::<S>());
    let (mut sum, whole) = (zero, values.chunks_exact(lanes));
    let rest = whole.remainder();
    for values in whole {
        sum = T::mul_add(simd, T::load(simd, values), zero, sum);
    }
    let sum = [sum];
    let lanes: &[T] = bytemuck::cast_slice(&sum);
    let total = lanes.iter().fold(T::default(), |total, lane| total + *lane);
    rest.iter().fold(total, |total, value| total + *value * T::default())
}
