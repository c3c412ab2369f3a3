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

/// Taps and points of a run of input channels, in f64 (bytes): they stay in the level-2 cache, and loops over them are long.
const RUN_BYTES: usize = 128 << 10;

/// What [`Pack`] needs beside: which taps meet which inputs, and room for a block of output channels from a run of input channels.
pub struct Buffers<T> {
    parts: Vec<Part>,
    /// Input channels of one run.
    run: usize,
    /// All taps, `[tap][input channel][channel of the block]`, as they came and in f64; there zeros follow.
    taps: Vec<T>,
    wide: Vec<f64>,
    /// What has been turned along x, y and z.
    turned: [Vec<f64>; 2],
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
        let most = parts.iter().map(Part::points).max().unwrap_or(0);
        let of_input = (taps + 1 + 2 * most) * b.block() * size_of::<f64>();
        let run = (RUN_BYTES / of_input).clamp(1, b.group_in);
        let plane = run * b.block();
        let turned = || filled_vec("points of weights", most * plane, 0.0);
        Ok(Self {
            parts,
            run,
            taps: filled_vec("taps of weights", taps * plane, T::default())?,
            wide: filled_vec("taps of weights", (taps + 1) * plane, 0.0)?,
            turned: [turned()?, turned()?],
        })
    }
}

impl<T: Float> WithSimd for Pack<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { geometry, blocking: b, group, weights, packed, buffers } = self;
        let Buffers { parts, run, taps, wide, turned } = buffers;
        let kernel = geometry.kernel_taps();
        for first in (0..b.group_out).step_by(b.block()) {
            let width = b.vectors(first) * b.lanes;
            let filled = width.min(b.group_out - first);
            for first_in in (0..b.group_in).step_by(*run) {
                let inputs = (b.group_in - first_in).min(*run);
                let plane = inputs * width;
                if filled < width {
                    taps.fill(T::default());
                }
                for ci in 0..inputs {
                    let from = geometry.weight_at(group * b.group_in + first_in + ci, first, [0; 3]);
                    let rows = Rows { output: SharedOutput::new(taps), start: ci * width, step: plane };
                    // SAFETY: the taps are borrowed mutably here.
                    unsafe { transpose(simd, &weights[from..], kernel, rows, kernel, filled) };
                }
                let (wide_taps, zeros) = wide.split_at_mut(kernel * plane);
                for (to, from) in wide_taps.iter_mut().zip(&*taps) {
                    *to = from.to_f64();
                }
                zeros[..plane].fill(0.0);
                for part in &*parts {
                    let start = b.weights_at(0, &b.pairs[part.pair], first);
                    let start = start + (part.before * b.padded_in() + first_in) * width;
                    let rows = packed[start..].chunks_mut(b.padded_in() * width);
                    for (to, from) in rows.zip(part.turn(plane, wide, turned).chunks_exact(plane)) {
                        for (to, from) in to[..plane].iter_mut().zip(from) {
                            *to = T::from_f64(*from);
                        }
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

    /// Its points of `plane` taps side by side, turned axis by axis from x to z; in which buffer they end is returned.
    #[inline(always)]
    fn turn<'a>(&self, plane: usize, wide: &[f64], [first, second]: &'a mut [Vec<f64>; 2]) -> &'a [f64] {
        let [z, y, x] = self.forms;
        let runs = first.chunks_exact_mut(x.points() * plane);
        for (taps, to) in self.rows.chunks_exact(x.taps()).zip(runs) {
            weights(x, |tap| &wide[taps[tap] * plane..][..plane], to);
        }
        let (mut from, mut to) = (first, second);
        let mut run = x.points() * plane;
        for (form, outer) in [(y, z.taps()), (z, 1)] {
            // One tap is its own point.
            if form != Form::F11 {
                let runs = from.chunks_exact(form.taps() * run).zip(to.chunks_exact_mut(form.points() * run));
                for (from, to) in runs.take(outer) {
                    weights(form, |tap| &from[tap * run..][..run], to);
                }
                (from, to) = (to, from);
            }
            run *= form.points();
        }
        &from[..run]
    }
}
