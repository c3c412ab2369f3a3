//! Activations: the same bits in every instruction set, since every operation is an IEEE add, multiply or divide (no
//! fused multiply-add) in the type of the values. Written for the auto-vectoriser: no branches, no calls.

use pulp::Simd;

use super::vector::Float;
use crate::machine::tensor::{Dtype, Element};
use crate::problem::epilogue::Activation;

/// Applies `activation` to every value.
#[inline(always)]
pub fn activate<T: Element>(activation: Activation, values: &mut [T]) {
    let zero = T::default();
    match activation {
        Activation::Identity => {}
        Activation::Relu => map(values, |x| if x < zero { zero } else { x }),
        Activation::LeakyRelu { slope } => {
            let slope = T::from_f64(slope);
            map(values, |x| if x < zero { x * slope } else { x });
        }
        Activation::Clamp { low, high } => {
            let (low, high) = (T::from_f64(low), T::from_f64(high));
            map(values, |x| if x < low { low } else { x });
            map(values, |x| if x > high { high } else { x });
        }
        Activation::Sigmoid => match T::DTYPE {
            Dtype::F32 => map(values, |x| T::from_f64(f64::from(single::sigmoid(x.to_f64() as f32)))),
            Dtype::F64 => map(values, |x| T::from_f64(double::sigmoid(x.to_f64()))),
        },
        Activation::Tanh => match T::DTYPE {
            Dtype::F32 => map(values, |x| T::from_f64(f64::from(single::tanh(x.to_f64() as f32)))),
            Dtype::F64 => map(values, |x| T::from_f64(double::tanh(x.to_f64()))),
        },
    }
}

/// The activations that are a comparison or two, on a vector, to the same bits; the others pass unchanged.
#[inline(always)]
pub fn activate_vector<T: Float, S: Simd>(simd: S, activation: Activation, x: T::Vector<S>) -> T::Vector<S> {
    let splat = |v: f64| T::splat(simd, T::from_f64(v));
    match activation {
        Activation::Identity | Activation::Sigmoid | Activation::Tanh => x,
        Activation::Relu => T::select_less(simd, x, splat(0.0), splat(0.0), x),
        Activation::LeakyRelu { slope } => {
            T::select_less(simd, x, splat(0.0), <T as Float>::mul(simd, x, splat(slope)), x)
        }
        Activation::Clamp { low, high } => {
            let x = T::select_less(simd, x, splat(low), splat(low), x);
            T::select_less(simd, splat(high), x, splat(high), x)
        }
    }
}

#[inline(always)]
fn map<T: Copy>(values: &mut [T], f: impl Fn(T) -> T) {
    for v in values {
        *v = f(*v);
    }
}

/// Sigmoid and hyperbolic tangent from e^−|x|, in one type: `$most` is where e^−|x| is 0 even as a subnormal number, `$high` + `$low` is
/// ln 2 (k · `$high` is exact), and `$taylor` are the coefficients of e^r − 1 but for the first, the highest first.
macro_rules! exponentials {
    ($type:ident, mantissa $mantissa:literal, bias $bias:literal, $most:literal, $high:literal, $low:literal, $taylor:expr) => {
        /// Adding it rounds to an integer, which the last bits hold then.
        const TO_INTEGER: $type = 1.5 * (1u64 << $mantissa) as $type;

        /// 1 / (1 + e⁻ˣ) from e^−|x|, so that neither end overflows.
        #[inline(always)]
        pub fn sigmoid(x: $type) -> $type {
            let (scale1, scale2, p) = exp_minus_abs(x);
            let e = (scale1 + scale1 * p) * scale2;
            let numerator = if x < 0.0 { e } else { 1.0 };
            numerator / (1.0 + e)
        }

        /// −t / (t + 2) with t = e^(−2|x|) − 1, exact to the last places near 0.
        #[inline(always)]
        pub fn tanh(x: $type) -> $type {
            let (scale1, scale2, p) = exp_minus_abs(2.0 * x);
            let scale = scale1 * scale2;
            let t = scale * p + (scale - 1.0);
            (-t / (t + 2.0)).copysign(x)
        }

        /// e^−|x| = scale1 · scale2 · (1 + p): argument reduction by ln 2 (in two parts, Cody and Waite), then the Taylor series
        /// of e^r − 1 on |r| ≤ ln 2 / 2, cut where the next term is below a quarter of the last place of the result.
        #[inline(always)]
        fn exp_minus_abs(x: $type) -> ($type, $type, $type) {
            let a = x.abs();
            let y = -(if a > $most { $most } else { a }); // NaN stays NaN
            let shifted = y * std::$type::consts::LOG2_E + TO_INTEGER;
            let k = shifted - TO_INTEGER;
            let r = (y - k * $high) - k * $low;
            let mut p = $taylor[0];
            for c in &$taylor[1..] {
                p = p * r + c;
            }
            let p = p * (r * r) + r;
            // 2^k in two factors, so that a subnormal result is rounded once.
            let half = k * 0.5 + TO_INTEGER;
            let rest = (k - (half - TO_INTEGER)) + TO_INTEGER;
            let power = |v: $type| $type::from_bits(v.to_bits().wrapping_add($bias) << $mantissa);
            (power(half), power(rest), p)
        }
    };
}

mod double {
    const TAYLOR: [f64; 12] = [
        1.0 / 6_227_020_800.0,
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        1.0 / 2.0,
    ];
    exponentials!(f64, mantissa 52, bias 1023, 760.0, 0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10, TAYLOR);
}

mod single {
    const TAYLOR: [f32; 6] = [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 1.0 / 2.0];
    exponentials!(f32, mantissa 23, bias 127, 110.0, 0.693_145_75, 1.428_606_8e-6, TAYLOR);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ulps(got: f64, expected: f64, ulp: impl Fn(f64) -> f64) -> f64 {
        if got == expected { 0.0 } else { (got - expected).abs() / ulp(expected) }
    }

    /// References that do not share the formula: `exp` and `exp_m1` of the platform.
    fn reference(activation: Activation, x: f64) -> f64 {
        match activation {
            Activation::Sigmoid if x < 0.0 => x.exp() / (1.0 + x.exp()),
            other => other.exact(x),
        }
    }

    #[test]
    fn transcendental_activations_are_within_4_ulp() {
        let mut points =
            vec![0.0, -0.0, 1e-300, 1e-20, 0.17, 0.3466, 0.3467, 1.04, 19.0, 22.0, 88.0, 104.0, 709.0, 745.0];
        points.extend((0..200_000).map(|i| (f64::from(i) - 1e5) * 4e-4));
        points.extend((0..2000).map(|i| 2f64.powi(i / 20 - 90) * (1.0 + f64::from(i % 20) / 20.0)));
        for activation in [Activation::Sigmoid, Activation::Tanh] {
            for &p in &points {
                for x in [p, -p] {
                    let mut got = [x];
                    activate(activation, &mut got);
                    let ulp = |v: f64| (v.abs().next_up() - v.abs()).max(f64::from_bits(1));
                    let error = ulps(got[0], reference(activation, x), ulp);
                    assert!(error <= 4.0, "{activation:?}({x:e}) = {:e}: {error} ulp", got[0]);

                    let x = x as f32;
                    let mut got = [x];
                    activate(activation, &mut got);
                    let ulp = |v: f64| {
                        f64::from(((v as f32).abs().next_up() - (v as f32).abs()).max(f32::from_bits(1)))
                    };
                    let error = ulps(f64::from(got[0]), reference(activation, f64::from(x)), ulp);
                    assert!(error <= 3.0, "{activation:?}({x:e}f32) = {:e}: {error} ulp", got[0]);
                }
            }
        }
    }

    #[test]
    fn limits_and_specials() {
        let all = [
            Activation::Identity,
            Activation::Relu,
            Activation::LeakyRelu { slope: 0.1 },
            Activation::Clamp { low: -1.0, high: 6.0 },
            Activation::Sigmoid,
            Activation::Tanh,
        ];
        for activation in all {
            let mut values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.5, 0.5, 7.0];
            let expected = values.map(|x| reference(activation, x));
            activate(activation, &mut values);
            assert!(values[0].is_nan(), "{activation:?} lost a NaN");
            for (got, expected) in values.iter().zip(expected).skip(1) {
                assert!(
                    *got == expected || (got - expected).abs() < 1e-15,
                    "{activation:?}: {got} {expected}"
                );
            }
        }
    }
}
