//! Deterministic inputs: the same seed gives the same numbers everywhere.
//!
//! All values are f32, so that one set of inputs serves both types and the oracle without rounding.

use tconv::{Dtype, Element, Geometry, Layout, Structure, Weights};

/// Number `i` of the stream `seed` (splitmix64).
pub fn mix(seed: u64, i: u64) -> u64 {
    let z = seed.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

/// `len` integers in −range..=range.
pub fn integers(seed: u64, len: usize, range: u64) -> Vec<f32> {
    let one = |i| ((mix(seed, i) >> 33) % (2 * range + 1)) as f32 - range as f32;
    (1..=len as u64).map(one).collect()
}

/// `len` reals in [−1, 1), multiples of 2⁻²³.
pub fn reals(seed: u64, len: usize) -> Vec<f32> {
    let one = |i| (mix(seed, i) >> 40) as f32 / (1 << 23) as f32 - 1.0;
    (1..=len as u64).map(one).collect()
}

/// What kind of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// Small integers: every sum of products is exact in any order, in either type.
    Integer,
    /// Reals in [−1, 1).
    Real,
}

/// The largest integer for which every partial sum of products stays below 2²⁴, at most 8; `None`: even 1 is too large.
pub fn integer_range(geometry: &Geometry) -> Option<u64> {
    let n = geometry.max_accumulation() as u64;
    (1..=8).rev().find(|r| n * r * r + r < 1 << 24)
}

/// What a plan is made of and run on, in NCHW: input, weights, and bias if there is one.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensors {
    /// `[N, Cin, D, H, W]`.
    pub input: Vec<f32>,
    /// `[Cin, Cout/groups, D, H, W]`.
    pub weights: Vec<f32>,
    /// `[Cout]`.
    pub bias: Option<Vec<f32>>,
}

impl Tensors {
    /// Draws all of them. Integers that would have to be smaller than 1 are replaced by reals.
    pub fn draw(geometry: &Geometry, bias: bool, numbers: Numbers, seed: u64) -> Self {
        match (numbers, integer_range(geometry)) {
            (Numbers::Integer, Some(range)) => {
                Self::from_streams(geometry, bias, seed, |s, len| integers(s, len, range))
            }
            _ => Self::from_streams(geometry, bias, seed, reals),
        }
    }

    /// Weights of another structure, where one is asked for; integers stay integers.
    pub fn with_structure(
        self,
        geometry: &Geometry,
        structure: Structure,
        numbers: Numbers,
        seed: u64,
    ) -> Self {
        match structure {
            Structure::General => self,
            Structure::Separable => Self { weights: outer_products(geometry, numbers, seed), ..self },
        }
    }

    /// Draws input, weights and bias from the three streams that belong to `seed`.
    pub fn from_streams(
        geometry: &Geometry,
        bias: bool,
        seed: u64,
        stream: impl Fn(u64, usize) -> Vec<f32>,
    ) -> Self {
        Self {
            input: stream(seed, geometry.input_len()),
            weights: stream(seed ^ 0x1111, geometry.weight_len()),
            bias: bias.then(|| stream(seed ^ 0x2222, geometry.problem().out_channels())),
        }
    }

    /// Weights and bias.
    pub fn weights(&self) -> Weights<'_> {
        let weights = Weights::new(&self.weights);
        match &self.bias {
            Some(bias) => weights.with_bias(bias),
            None => weights,
        }
    }
}

/// Weights of bilinear (linear, trilinear) enlargement, as FCN and DLA fill them: output channel c of a group reads its input
/// channel c, around where there are fewer; the others are zeros.
pub fn bilinear(geometry: &Geometry) -> Vec<f32> {
    let line = |taps: usize| {
        let half = taps.div_ceil(2) as f64;
        let center = if taps % 2 == 1 { half - 1.0 } else { half - 0.5 };
        (0..taps).map(|i| 1.0 - (i as f64 - center).abs() / half).collect()
    };
    let lines = geometry.kernel().map(line);
    let group_in = geometry.problem().group_in();
    products(geometry, |channel| Some((channel % group_in, lines.clone())))
}

/// Weights of which every output channel has one input channel, drawn, or none, and for a kernel an outer product. Few bits:
/// the products are exact.
fn outer_products(geometry: &Geometry, numbers: Numbers, seed: u64) -> Vec<f32> {
    let group_in = geometry.problem().group_in();
    // Of at most three factors.
    let range = match numbers {
        Numbers::Integer if integer_range(geometry).is_some_and(|range| range < 8) => 1,
        Numbers::Integer => 2,
        Numbers::Real => 127,
    };
    let scale = if numbers == Numbers::Integer { 1.0 } else { 1.0 / 64.0 };
    let output = |channel: usize, group: usize| {
        let own = mix(seed ^ 0x3333, (group * geometry.problem().group_out() + channel) as u64);
        let line = |axis: usize| {
            let factors = integers(own ^ axis as u64, geometry.kernel()[axis], range);
            factors.into_iter().map(|factor| f64::from(factor) * scale).collect()
        };
        (!own.is_multiple_of(8)).then(|| ((own >> 8) as usize % group_in, [line(0), line(1), line(2)]))
    };
    let mut number = 0;
    products(geometry, |channel| {
        number += usize::from(channel == 0);
        output(channel, number)
    })
}

/// The channel inside its group that an output channel reads, and three lines whose outer product its kernel is.
type OneKernel = (usize, [Vec<f64>; 3]);

/// Weights of such kernels, by group after group and output channel of the group.
fn products(geometry: &Geometry, mut output: impl FnMut(usize) -> Option<OneKernel>) -> Vec<f32> {
    let p = geometry.problem();
    let mut weights = vec![0.0; geometry.weight_len()];
    for group in 0..p.groups() {
        for channel in 0..p.group_out() {
            let Some((input, [z, y, x])) = output(channel) else { continue };
            let at = geometry.weight_at(group * p.group_in() + input, channel, [0; 3]);
            let yx = z.iter().flat_map(|z| y.iter().map(move |y| z * y));
            let zyx = yx.flat_map(|yx| x.iter().map(move |x| (yx * x) as f32));
            weights[at..].iter_mut().zip(zyx).for_each(|(to, weight)| *to = weight);
        }
    }
    weights
}

/// Values of another type, all exact.
pub fn cast<T: Element>(values: &[f32]) -> Vec<T> {
    values.iter().map(|&v| T::from_f64(f64::from(v))).collect()
}

/// An NCHW tensor of `batch` images, `channels` and `plane` positions in another layout.
pub fn to_layout<T: Copy>(values: Vec<T>, layout: Layout, channels: usize, plane: usize) -> Vec<T> {
    match layout {
        Layout::Nchw => values,
        Layout::Nhwc => transpose_images(&values, channels, plane),
    }
}

/// The inverse of [`to_layout`].
pub fn from_layout<T: Copy>(values: Vec<T>, layout: Layout, channels: usize, plane: usize) -> Vec<T> {
    match layout {
        Layout::Nchw => values,
        Layout::Nhwc => transpose_images(&values, plane, channels),
    }
}

/// Transposes the `rows` × `columns` matrix of every image.
fn transpose_images<T: Copy>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(values.len());
    for image in values.chunks_exact(rows * columns) {
        for c in 0..columns {
            out.extend(image[c..].iter().step_by(columns));
        }
    }
    out
}

/// Every type, for whoever wants to try all.
pub const DTYPES: [Dtype; 2] = [Dtype::F32, Dtype::F64];

#[cfg(test)]
mod tests {
    use tconv::{Axis, Problem};

    use super::*;

    #[test]
    fn splitmix_has_its_published_first_values() {
        // Reference values of splitmix64 from state 1234567.
        let got: Vec<u64> = (1..=3).map(|i| mix(1_234_567, i)).collect();
        assert_eq!(got, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn ranges_are_kept() {
        assert!(reals(3, 10_000).iter().all(|v| (-1.0..1.0).contains(v)));
        let drawn = integers(3, 10_000, 2);
        for v in -2..=2 {
            assert!(drawn.contains(&(v as f32)), "{v}");
        }
        assert!(drawn.iter().all(|v| v.abs() <= 2.0));
    }

    #[test]
    fn integer_sums_stay_exact() {
        let range = |channels: usize| {
            let p = Problem::new(1, channels, 1, 1, &[Axis::new(4, 4, 2)], Layout::Nchw).expect("legal");
            integer_range(&Geometry::new(&p).expect("legal"))
        };
        assert_eq!(range(4), Some(8));
        assert_eq!(range(1 << 20), Some(2)); // 2²¹ products meet: 2²¹ · 3² is too much
        assert_eq!(range(1 << 24), None);
    }

    #[test]
    fn layouts_are_inverse() {
        let values: Vec<i32> = (0..24).collect();
        let nhwc = to_layout(values.clone(), Layout::Nhwc, 3, 4);
        assert_eq!(nhwc[..6], [0, 4, 8, 1, 5, 9]);
        assert_eq!(nhwc[12..15], [12, 16, 20]);
        assert_eq!(from_layout(nhwc, Layout::Nhwc, 3, 4), values);
    }
}
