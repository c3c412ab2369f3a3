//! The points of the weights, once per plan.

use pulp::{Simd, WithSimd};

use super::blocking::Blocking;
use super::forms::{Form, weights};
use crate::error::Error;
use crate::machine::parallel::SharedOutput;
use crate::machine::scratch::filled_vec;
use crate::microkernels::transpose::{Rows, transpose};
use crate::microkernels::vector::Float;
use crate::problem::geometry::Geometry;

/// Weights of one group, in the order in which tiles read them:
/// `[pair][channel block][sub-phase x][point z][point y][point x][input channel][channel of the block]`.
/// Pairs and sub-phases with equal weights lie there once. Computed in f64, rounded once.
pub struct Pack<'a, T> {
    pub geometry: &'a Geometry,
    pub blocking: &'a Blocking,
    pub group: usize,
    pub weights: &'a [T],
    pub packed: &'a mut [T],
    pub buffers: &'a mut Buffers<T>,
}

/// What [`Pack`] needs beside: which taps meet which inputs, and room for one vector of output channels from one input channel.
pub struct Buffers<T> {
    parts: Vec<Part>,
    /// All taps, `[tap][lanes]`, as they came and in f64; there zeros follow.
    taps: Vec<T>,
    wide: Vec<f64>,
    /// What has been turned along x, y and z.
    turned: [Vec<f64>; 2],
    /// The points of one part, rounded.
    points: Vec<T>,
}

/// One sub-phase along each axis.
struct Part {
    /// The number of a pair with its weights, and the points before it along x.
    pair: usize,
    before: usize,
    forms: [Form; 3],
    /// The taps that the sub-phases have in common, `[z][y][x]` in the order of the inputs that they meet: numbers of rows of `wide`.
    rows: Vec<usize>,
}

impl<T: Float> Buffers<T> {
    /// For [`Pack`].
    pub fn new(geometry: &Geometry, b: &Blocking) -> Result<Self, Error> {
        let taps = geometry.kernel_taps();
        let mut parts = Vec::new();
        let mut pairs_end = 0;
        for (number, pair) in b.pairs.iter().enumerate() {
            // Those that share the weights of an earlier one are packed with it.
            if pair.weights_before < pairs_end {
                continue;
            }
            pairs_end += b.pair_points(pair);
            let mut x_end = 0;
            for (x, before) in b.axes[2].subs.iter().zip(&b.x_before) {
                if *before < x_end {
                    continue;
                }
                x_end += x.form.points();
                let subs = [&b.axes[0].subs[pair.subs[0]], &b.axes[1].subs[pair.subs[1]], x];
                let row = |at: [usize; 3]| {
                    let at = [subs[0].tap(at[0])?, subs[1].tap(at[1])?, subs[2].tap(at[2])?];
                    Some(geometry.weight_at(0, 0, at))
                };
                let forms = subs.map(|sub| sub.form);
                let [z, y, x] = forms.map(Form::taps);
                let all = (0..z * y * x).map(|i| [i / x / y, i / x % y, i % x]);
                let rows = all.map(|at| row(at).unwrap_or(taps)).collect();
                parts.push(Part { pair: number, before: pair.points * before, forms, rows });
            }
        }
        let most = parts.iter().map(Part::points).max().unwrap_or(0) * b.lanes;
        let turned = || filled_vec("points of weights", most, 0.0);
        Ok(Self {
            parts,
            taps: filled_vec("taps of weights", taps * b.lanes, T::default())?,
            wide: filled_vec("taps of weights", (taps + 1) * b.lanes, 0.0)?,
            turned: [turned()?, turned()?],
            points: filled_vec("points of weights", most, T::default())?,
        })
    }
}

impl<T: Float> WithSimd for Pack<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { geometry, blocking: b, group, weights, packed, buffers } = self;
        let Buffers { parts, taps, wide, turned, points } = buffers;
        let (lanes, kernel) = (T::lanes::<S>(), geometry.kernel_taps());
        for channel in (0..b.group_out).step_by(lanes) {
            let first = channel / b.block() * b.block();
            let width = b.vectors(first) * lanes;
            let filled = lanes.min(b.group_out - channel);
            taps.fill(T::default());
            for ci in 0..b.group_in {
                let from = geometry.weight_at(group * b.group_in + ci, channel, [0; 3]);
                let rows = Rows { output: SharedOutput::new(taps), start: 0, step: lanes };
                // SAFETY: the taps are borrowed mutably here.
                unsafe { transpose(simd, &weights[from..], kernel, rows, kernel, filled) };
                // Many at a time: of one vector the compiler would make single conversions.
                for (to, from) in wide.iter_mut().zip(&*taps) {
                    *to = from.to_f64();
                }
                for part in &*parts {
                    let turned = part.turn(simd, lanes, wide, turned);
                    let points = &mut points[..turned.len()];
                    for (to, from) in points.iter_mut().zip(turned) {
                        *to = T::from_f64(*from);
                    }
                    let start = b.weights_at(0, &b.pairs[part.pair], first) + channel - first;
                    let start = start + (part.before * b.padded_in() + ci) * width;
                    let rows = packed[start..].chunks_mut(b.padded_in() * width);
                    for (to, from) in rows.zip(points.chunks_exact(lanes)) {
                        to[..lanes].copy_from_slice(from);
                    }
                }
            }
        }
    }
}

impl Part {
    fn points(&self) -> usize {
        self.forms.map(Form::points).iter().product()
    }

    /// Its points of one vector, turned axis by axis from x to z; in which buffer they end is returned.
    #[inline(always)]
    fn turn<'a, S: Simd>(
        &self,
        simd: S,
        lanes: usize,
        wide: &[f64],
        [first, second]: &'a mut [Vec<f64>; 2],
    ) -> &'a [f64] {
        let [z, y, x] = self.forms;
        let runs = first.chunks_exact_mut(x.points() * lanes);
        for (taps, to) in self.rows.chunks_exact(x.taps()).zip(runs) {
            weights(simd, x, |tap| &wide[taps[tap] * lanes..][..lanes], to);
        }
        let (mut from, mut to) = (first, second);
        let mut run = x.points() * lanes;
        for (form, outer) in [(y, z.taps()), (z, 1)] {
            // One tap is its own point.
            if form != Form::F11 {
                let runs = from.chunks_exact(form.taps() * run).zip(to.chunks_exact_mut(form.points() * run));
                for (from, to) in runs.take(outer) {
                    weights(simd, form, |tap| &from[tap * run..][..run], to);
                }
                (from, to) = (to, from);
            }
            run *= form.points();
        }
        &from[..run]
    }
}
