//! All index arithmetic, derived once and checked: output sizes, lengths, tap ranges, stride phases.
//!
//! With `o + pb = i·S + k·D`, the outputs of one axis fall into S residue classes ("phases") of `o + pb` modulo S. Inside one
//! phase the operator is an ordinary stride-1 correlation: neighbouring outputs of the phase read neighbouring inputs, tap by tap.
//! With g = gcd(S, D): a phase whose residue g does not divide has no taps; every other one has the taps
//! `k₀, k₀ + S/g, k₀ + 2·S/g, …`, and each further tap reads the input D/g elements earlier.

use std::ops::Range;
use std::sync::Arc;

use super::problem::{Axis, Layout, Problem};
use crate::error::Error;

/// One residue class of output positions on one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phase {
    /// The first output position of the class; the others follow at distance S.
    pub first_output: usize,
    /// Output positions of the class.
    pub outputs: usize,
    /// The first tap (k₀); the others follow at distance [`Phase::tap_step`].
    pub first_tap: usize,
    /// Number of taps; 0 where the class receives the bias only.
    pub taps: usize,
    /// Distance of successive taps (S/g).
    pub tap_step: usize,
    /// Input index that tap 0 reads for output 0 of the class; may lie outside the input.
    pub base: i64,
    /// Inputs that each further tap lies further back (D/g).
    pub input_step: usize,
    /// Input elements of the axis.
    pub input: usize,
}

impl Phase {
    /// Kernel index of tap number `m`.
    pub fn tap(&self, m: usize) -> usize {
        self.first_tap + m * self.tap_step
    }

    /// Input index that tap `m` reads for output `q` of the class; outside `0..input` nothing is read.
    pub fn input_index(&self, q: usize, m: usize) -> i64 {
        self.base + q as i64 - (m * self.input_step) as i64
    }

    /// The outputs of the class for which tap `m` meets the input.
    pub fn valid_outputs(&self, m: usize) -> Range<usize> {
        let shift = (m * self.input_step) as i64 - self.base;
        let clip = |v: i64| v.clamp(0, self.outputs as i64) as usize;
        let begin = clip(shift);
        begin..clip(shift + self.input as i64).max(begin)
    }

    /// The taps that meet the input for output `q` of the class.
    pub fn valid_taps(&self, q: usize) -> Range<usize> {
        let at = self.base + q as i64; // input index of tap 0
        let step = self.input_step as i64;
        let clip = |v: i64| v.clamp(0, self.taps as i64) as usize;
        // at − m·step ≤ input − 1  and  at − m·step ≥ 0
        let begin = clip((at - self.input as i64 + 1 + step - 1).div_euclid(step));
        let end = if at < 0 { 0 } else { clip(at / step + 1) };
        begin..end.max(begin)
    }
}

/// One axis: sizes and phases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AxisGeometry {
    /// The axis as stated.
    pub axis: Axis,
    /// Output elements (O).
    pub output: usize,
    /// The non-empty residue classes, in the order of their first output (at most min(S, O)).
    pub phases: Vec<Phase>,
}

impl AxisGeometry {
    fn new(axis: Axis, index: usize) -> Result<Self, Error> {
        let overflow =
            || Error::SizeOverflow { what: "output size", detail: format!("axis {index}: {axis:?}") };
        let output = axis.output().filter(|&o| o > 0).ok_or_else(overflow)? as usize;
        let (stride, dilation) = (axis.stride, axis.dilation);
        let g = gcd(stride, dilation);
        let (tap_step, input_step) = (stride / g, dilation / g);
        let inverse = inverse_mod(input_step % tap_step.max(1), tap_step);
        let classes = stride.min(output);
        let mut phases = Vec::new();
        phases
            .try_reserve_exact(classes)
            .map_err(|_| Error::OutOfMemory { what: "phases", bytes: classes * size_of::<Phase>() })?;
        for first_output in 0..classes {
            let position = first_output + axis.padding.0;
            let (taps, first_tap, base) = if position.is_multiple_of(g) {
                // k₀·D ≡ position (mod S)  ⇔  k₀ ≡ (position/g)·(D/g)⁻¹ (mod S/g)
                let first_tap =
                    ((position / g % tap_step) as u128 * inverse as u128 % tap_step as u128) as usize;
                let taps =
                    if first_tap < axis.kernel { (axis.kernel - first_tap).div_ceil(tap_step) } else { 0 };
                let base = (position as i128 - first_tap as i128 * dilation as i128) / stride as i128;
                (taps, first_tap, i64::try_from(base).map_err(|_| overflow())?)
            } else {
                (0, 0, 0)
            };
            phases.push(Phase {
                first_output,
                outputs: (output - first_output).div_ceil(stride),
                first_tap,
                taps,
                tap_step,
                base,
                input_step,
                input: axis.input,
            });
        }
        Ok(Self { axis, output, phases })
    }

    /// Inputs relative to a position of a phase (number q of its outputs) that taps of any phase may read.
    pub fn reach(&self) -> Range<i64> {
        let of = |p: &Phase| p.base - ((p.taps - 1) * p.input_step) as i64..p.base + 1;
        let live = self.phases.iter().filter(|p| p.taps > 0).map(of);
        live.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
    }

    /// The phase of an output, and its position in the phase.
    #[inline(always)]
    pub fn phase_of(&self, output: usize) -> (&Phase, usize) {
        let stride = self.axis.stride;
        (&self.phases[output % stride], output / stride)
    }

    /// Pairs (input, tap) that land inside the output (T).
    pub fn landing_pairs(&self) -> u128 {
        self.phases.iter().map(|p| (0..p.taps).map(|m| p.valid_outputs(m).len() as u128).sum::<u128>()).sum()
    }

    /// Taps with a product inside the output: those of a crop, or of an image smaller than the kernel, may have none.
    pub fn live_taps(&self) -> usize {
        let live = |p: &Phase| (0..p.taps).filter(|&m| !p.valid_outputs(m).is_empty()).count();
        self.phases.iter().map(live).sum()
    }

    /// The inputs that tap `k` scatters inside the output: `i·S + k·D − pb ∈ 0..O`.
    pub fn valid_inputs(&self, k: usize) -> Range<usize> {
        self.inputs_landing_in(k, 0..self.output)
    }

    /// The inputs that tap `k` scatters inside `outputs` (a part of `0..O`): `i·S + k·D − pb ∈ outputs`.
    pub fn inputs_landing_in(&self, k: usize, outputs: Range<usize>) -> Range<usize> {
        let (s, shift) =
            (self.axis.stride as i128, k as i128 * self.axis.dilation as i128 - self.axis.padding.0 as i128);
        let clip = |v: i128| v.clamp(0, self.axis.input as i128) as usize;
        let first_at_or_after = |o: usize| clip((o as i128 - shift + s - 1).div_euclid(s));
        let begin = first_at_or_after(outputs.start);
        begin..first_at_or_after(outputs.end).max(begin)
    }

    /// Output position of input `i` through tap `k`, for `i` in [`AxisGeometry::valid_inputs`].
    pub fn output_index(&self, i: usize, k: usize) -> usize {
        i * self.axis.stride + k * self.axis.dilation - self.axis.padding.0
    }
}

/// A problem with everything that follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Geometry {
    problem: Problem,
    /// Shared, since every kernel keeps a copy: the phases of a large stride are many, and a clone cannot be refused.
    axes: Arc<[AxisGeometry; 3]>,
    input_len: usize,
    weight_len: usize,
    output_len: usize,
}

impl Geometry {
    /// Derives sizes and phases. Every length in bytes of f64 fits `isize`, or this is an error.
    pub fn new(problem: &Problem) -> Result<Self, Error> {
        let [input_len, weight_len, output_len] = lengths(problem)?;
        let a = problem.axes();
        let axes = [AxisGeometry::new(a[0], 0)?, AxisGeometry::new(a[1], 1)?, AxisGeometry::new(a[2], 2)?];
        let axes = Arc::new(axes);
        Ok(Self { problem: *problem, axes, input_len, weight_len, output_len })
    }

    /// Whether an input of this shape, `[N, C, spatial…]` whatever the layout, is the one that was planned for.
    pub fn check_input(&self, shape: &[usize]) -> Result<(), Error> {
        let p = &self.problem;
        let expected: Vec<usize> =
            [p.batch(), p.in_channels()].into_iter().chain(p.spatial().iter().map(|a| a.input)).collect();
        if shape.len() != expected.len() {
            return Err(Error::InputRankMismatch { got: shape.len(), expected: expected.len().to_string() });
        }
        if shape[1] != p.in_channels() {
            return Err(Error::ChannelMismatch { got: shape[1], expected: p.in_channels() });
        }
        if shape != expected {
            return Err(Error::InputShapeMismatch { got: shape.to_vec(), expected });
        }
        Ok(())
    }

    /// The problem this was derived from.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }
    /// The three axes (D, H, W).
    pub fn axes(&self) -> &[AxisGeometry; 3] {
        &self.axes
    }
    /// Input sizes (D, H, W).
    pub fn input(&self) -> [usize; 3] {
        self.problem.axes().map(|a| a.input)
    }
    /// Kernel sizes (D, H, W).
    pub fn kernel(&self) -> [usize; 3] {
        self.problem.axes().map(|a| a.kernel)
    }
    /// Output sizes (D, H, W).
    pub fn output(&self) -> [usize; 3] {
        [self.axes[0].output, self.axes[1].output, self.axes[2].output]
    }
    /// Input elements of one channel of one image.
    pub fn input_plane(&self) -> usize {
        self.input().iter().product()
    }
    /// Output elements of one channel of one image.
    pub fn output_plane(&self) -> usize {
        self.output().iter().product()
    }
    /// Kernel taps (∏K).
    pub fn kernel_taps(&self) -> usize {
        self.kernel().iter().product()
    }
    /// Elements of the whole input.
    pub fn input_len(&self) -> usize {
        self.input_len
    }
    /// Elements of the weights.
    pub fn weight_len(&self) -> usize {
        self.weight_len
    }
    /// Elements of the whole output.
    pub fn output_len(&self) -> usize {
        self.output_len
    }

    /// Useful multiply-adds: N·Cin·co·∏T, only pairs that land inside the output.
    pub fn multiply_adds(&self) -> u128 {
        let p = &self.problem;
        let taps: u128 = self.axes.iter().map(AxisGeometry::landing_pairs).product();
        p.batch() as u128 * p.in_channels() as u128 * p.group_out() as u128 * taps
    }

    /// The FLOP convention of every table: 2·N·Cin·co·∏K·∏I, cropped products included.
    pub fn conventional_flops(&self) -> f64 {
        let p = &self.problem;
        let factors = [p.batch(), p.in_channels(), p.group_out(), self.kernel_taps(), self.input_plane()];
        2.0 * factors.iter().map(|&f| f as f64).product::<f64>()
    }

    /// Input + weights of taps with products + output, in elements: what must move at least once.
    pub fn compulsory_elements(&self) -> u128 {
        let live: u128 = self.axes.iter().map(|a| a.live_taps() as u128).product();
        let weights = self.weight_len as u128 / self.kernel_taps() as u128 * live;
        self.input_len as u128 + weights + self.output_len as u128
    }

    /// The most products that can meet in one output element (for error bounds).
    pub fn max_accumulation(&self) -> usize {
        let most = |a: &AxisGeometry| {
            a.phases.iter().flat_map(|p| (0..p.outputs).map(|q| p.valid_taps(q).len())).max().unwrap_or(0)
        };
        self.problem.group_in() * self.axes.iter().map(most).product::<usize>()
    }

    /// Flat index of an input element.
    pub fn input_at(&self, n: usize, c: usize, [z, y, x]: [usize; 3]) -> usize {
        flat(self.problem.layout(), n, c, self.problem.in_channels(), [z, y, x], self.input())
    }

    /// Flat index of an output element.
    pub fn output_at(&self, n: usize, c: usize, [z, y, x]: [usize; 3]) -> usize {
        flat(self.problem.layout(), n, c, self.problem.out_channels(), [z, y, x], self.output())
    }

    /// Flat index of a weight: input channel (of all), output channel (of the group), tap.
    pub fn weight_at(&self, ci: usize, co: usize, [z, y, x]: [usize; 3]) -> usize {
        let [kd, kh, kw] = self.kernel();
        let _ = kd;
        (((ci * self.problem.group_out() + co) * kd + z) * kh + y) * kw + x
    }
}

fn flat(
    layout: Layout,
    n: usize,
    c: usize,
    channels: usize,
    [z, y, x]: [usize; 3],
    [d, h, w]: [usize; 3],
) -> usize {
    match layout {
        Layout::Nchw => (((n * channels + c) * d + z) * h + y) * w + x,
        Layout::Nhwc => (((n * d + z) * h + y) * w + x) * channels + c,
    }
}

/// Elements of input, weights and output; each in bytes of f64 fits `isize`. Allocates nothing.
pub(super) fn lengths(problem: &Problem) -> Result<[usize; 3], Error> {
    let mut outputs = [0; 3];
    for (index, (output, axis)) in outputs.iter_mut().zip(problem.axes()).enumerate() {
        *output = axis.output().and_then(|o| usize::try_from(o).ok()).ok_or_else(|| Error::SizeOverflow {
            what: "output size",
            detail: format!("axis {index}: {axis:?}"),
        })?;
    }
    let inputs = problem.axes().map(|a| a.input);
    let kernels = problem.axes().map(|a| a.kernel);
    Ok([
        product("input", &[&[problem.batch(), problem.in_channels()], &inputs])?,
        product("weights", &[&[problem.in_channels(), problem.group_out()], &kernels])?,
        product("output", &[&[problem.batch(), problem.out_channels()], &outputs])?,
    ])
}

/// Product of all factors; 0 stays 0, but every other prefix must fit too, so that batch 0 hides no overflow.
fn product(what: &'static str, factors: &[&[usize]]) -> Result<usize, Error> {
    let all = || factors.iter().flat_map(|f| f.iter().copied());
    let nonzero = all().filter(|&f| f > 0).try_fold(1usize, usize::checked_mul);
    match nonzero.filter(|&n| n <= isize::MAX as usize / size_of::<f64>()) {
        None => {
            Err(Error::SizeOverflow { what, detail: format!("{:?} elements", all().collect::<Vec<_>>()) })
        }
        Some(n) => Ok(if all().any(|f| f == 0) { 0 } else { n }),
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The inverse of `a` modulo `m` (coprime), by the extended Euclidean algorithm; 0 where m = 1.
fn inverse_mod(a: usize, m: usize) -> usize {
    let (mut r0, mut r1, mut t0, mut t1) = (m as i128, a as i128, 0i128, 1i128);
    while r1 != 0 {
        let q = r0 / r1;
        (r0, r1) = (r1, r0 - q * r1);
        (t0, t1) = (t1, t0 - q * t1);
    }
    t0.rem_euclid(m as i128) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every (output, tap, input) triple of the definition, and no other, on many small axes.
    #[test]
    fn phases_are_the_definition() {
        for input in 1..5 {
            for kernel in 1..6 {
                for stride in 1..5 {
                    for dilation in 1..5 {
                        for begin in 0..4 {
                            for end in 0..3 {
                                let axis = Axis {
                                    padding: (begin, end),
                                    dilation,
                                    ..Axis::new(input, kernel, stride)
                                };
                                if axis.output().unwrap() > 0 {
                                    check(AxisGeometry::new(axis, 0).unwrap());
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    fn check(g: AxisGeometry) {
        let a = g.axis;
        let mut defined = Vec::new();
        for i in 0..a.input {
            for k in 0..a.kernel {
                let o = (i * a.stride + k * a.dilation) as i64 - a.padding.0 as i64;
                if (0..g.output as i64).contains(&o) {
                    defined.push((o as usize, k, i));
                    assert!(g.valid_inputs(k).contains(&i));
                    assert_eq!(g.inputs_landing_in(k, o as usize..o as usize + 1), i..i + 1);
                    assert_eq!(g.output_index(i, k), o as usize);
                } else {
                    assert!(!g.valid_inputs(k).contains(&i), "{a:?} {i} {k}");
                }
            }
        }
        defined.sort();
        let mut found = Vec::new();
        let mut outputs = 0;
        for p in &g.phases {
            outputs += p.outputs;
            for q in 0..p.outputs {
                let o = p.first_output + q * a.stride;
                for m in 0..p.taps {
                    let i = p.input_index(q, m);
                    let inside = (0..a.input as i64).contains(&i);
                    assert_eq!(inside, p.valid_outputs(m).contains(&q), "{a:?} {p:?} q{q} m{m}");
                    assert_eq!(inside, p.valid_taps(q).contains(&m), "{a:?} {p:?} q{q} m{m}");
                    if inside {
                        found.push((o, p.tap(m), i as usize));
                    }
                }
            }
        }
        found.sort();
        assert_eq!(outputs, g.output, "{a:?}");
        assert_eq!(found, defined, "{a:?}");
        assert_eq!(g.landing_pairs(), defined.len() as u128);
        let taps: std::collections::BTreeSet<usize> = defined.iter().map(|&(_, k, _)| k).collect();
        assert_eq!(g.live_taps(), taps.len(), "{a:?}");
    }
}
