//! The Fourier transform of P neighbouring reals, P a power of two: one sequence in each lane of the vectors.
//!
//! Pairs of neighbours are the complex numbers of a transform of half the length (radix 2, decimation in time), from which
//! the P/2 + 1 bins of the reals are separated. A bin is kept as the three *points* that the product of two complex numbers
//! needs, x₁ = xᵣ + xᵢ, x₂ = xᵣ, x₃ = xᵢ: with w₁ = wᵣ, w₂ = wᵢ − wᵣ, w₃ = wᵣ + wᵢ,
//!
//! ```text
//! (xᵣ + i·xᵢ)(wᵣ + i·wᵢ) = (x₁w₁ − x₃w₃) + i·(x₁w₁ + x₂w₂)          3 products instead of 4
//! ```
//!
//! The first and the last bin are real: one point each. Nothing is scaled here: there and back is a factor of 2·P, by which
//! the weights are divided.

use pulp::Simd;

use crate::microkernels::vector::Float;

/// Tables for one length.
#[derive(Debug, Clone)]
pub struct Fourier<T> {
    length: usize,
    /// Of the stage that joins halves of h: e^(−πi·j/h) for j in 0..h, from entry h − 1 on.
    twiddles: Vec<[T; 2]>,
    /// −i·e^(−2πi·k/P) for k in 0..=P/4.
    separate: Vec<[T; 2]>,
    /// Where a complex number lies before the first stage.
    reversed: Vec<usize>,
}

/// Points of a transform of `length` reals.
pub const fn points(length: usize) -> usize {
    3 * length / 2 - 1
}

/// The first point of bin `k`, 0 < k < P/2. Bins 0 and P/2 are points 0 and 1.
pub const fn point_of(bin: usize) -> usize {
    3 * bin - 1
}

impl<T: Float> Fourier<T> {
    /// For a power of two from 8 on.
    pub fn new(length: usize) -> Self {
        assert!(length >= 8 && length.is_power_of_two(), "{length} points");
        let half = length / 2;
        let bits = half.trailing_zeros();
        let turn = |share: f64| {
            let (sin, cos) = (std::f64::consts::TAU * share).sin_cos();
            [T::from_f64(cos), T::from_f64(-sin)]
        };
        let stage = |h: usize| (0..h).map(move |j| turn(j as f64 / (2 * h) as f64));
        Self {
            length,
            twiddles: (0..bits).flat_map(|s| stage(1 << s)).collect(),
            separate: (0..=length / 4)
                .map(|k| {
                    let (sin, cos) = (std::f64::consts::TAU * k as f64 / length as f64).sin_cos();
                    [T::from_f64(-sin), T::from_f64(-cos)]
                })
                .collect(),
            reversed: (0..half).map(|j| j.reverse_bits() >> (usize::BITS - bits)).collect(),
        }
    }

    /// From `window`, P vectors, to points, one after the other to `put`. `work` has room for P vectors.
    #[inline(always)]
    pub fn forward<S: Simd>(
        &self,
        simd: S,
        window: &[T],
        work: &mut [T],
        mut put: impl FnMut(usize, T::Vector<S>),
    ) {
        let (add, sub) = (<T as Float>::add::<S>, <T as Float>::sub::<S>);
        let half = self.length / 2;
        let window: &[T::Vector<S>] = &bytemuck::cast_slice(window)[..self.length];
        let work: &mut [T::Vector<S>] = &mut bytemuck::cast_slice_mut(work)[..self.length];
        for (to, &from) in work.chunks_exact_mut(2).zip(&self.reversed) {
            to.copy_from_slice(&window[2 * from..2 * from + 2]);
        }
        self.butterflies(simd, work);
        let (sum, difference) = (add(simd, work[0], work[1]), sub(simd, work[0], work[1]));
        put(0, add(simd, sum, sum));
        put(1, add(simd, difference, difference));
        // Not closures, here and below: they do not have the instruction set, and every addition would be a call.
        macro_rules! bin {
            ($k:expr, $re:expr, $im:expr) => {{
                let (at, re, im) = (point_of($k), $re, $im);
                put(at, add(simd, re, im));
                put(at + 1, re);
                put(at + 2, im);
            }};
        }
        for k in 1..=half / 2 {
            let other = half - k;
            let (a, b) = ([work[2 * k], work[2 * k + 1]], [work[2 * other], work[2 * other + 1]]);
            let (s, d) = apart::<T, S>(simd, a, b);
            let t = rotate::<T, S>(simd, d, self.separate[k]);
            bin!(k, add(simd, s[0], t[0]), add(simd, s[1], t[1]));
            if other != k {
                bin!(other, sub(simd, s[0], t[0]), sub(simd, t[1], s[1]));
            }
        }
    }

    /// From the points of products, which `get` gives, to P reals in `work`: that of place j lies at vector j ^ 1.
    #[inline(always)]
    pub fn inverse<S: Simd>(&self, simd: S, get: impl Fn(usize) -> T::Vector<S>, work: &mut [T]) {
        let (add, sub) = (<T as Float>::add::<S>, <T as Float>::sub::<S>);
        let half = self.length / 2;
        let work: &mut [T::Vector<S>] = &mut bytemuck::cast_slice_mut(work)[..self.length];
        // Real and imaginary parts change places: the same stages then turn the other way.
        let put = |work: &mut [T::Vector<S>], k: usize, re, im| {
            let at = 2 * self.reversed[k];
            (work[at], work[at + 1]) = (im, re);
        };
        let (first, last) = (get(0), get(1));
        put(work, 0, add(simd, first, last), sub(simd, first, last));
        macro_rules! bin {
            ($k:expr) => {{
                let at = point_of($k);
                let (p, q, r) = (get(at), get(at + 1), get(at + 2));
                [sub(simd, p, r), add(simd, p, q)]
            }};
        }
        for k in 1..=half / 2 {
            let other = half - k;
            let (s, d) = apart::<T, S>(simd, bin!(k), bin!(other));
            let [re, im] = self.separate[k];
            let t = rotate::<T, S>(simd, d, [re, T::from_f64(-im.to_f64())]);
            put(work, k, add(simd, s[0], t[0]), add(simd, s[1], t[1]));
            if other != k {
                put(work, other, sub(simd, s[0], t[0]), sub(simd, t[1], s[1]));
            }
        }
        self.butterflies(simd, work);
    }

    /// The stages of the complex transform, in place.
    #[inline(always)]
    fn butterflies<S: Simd>(&self, simd: S, work: &mut [T::Vector<S>]) {
        let mut h = 1;
        while 2 * h < self.length {
            let twiddles = &self.twiddles[h - 1..2 * h - 1];
            for both in work.chunks_exact_mut(4 * h) {
                let (low, high) = both.split_at_mut(2 * h);
                let pairs = low.chunks_exact_mut(2).zip(high.chunks_exact_mut(2)).zip(twiddles);
                for (j, ((a, b), &w)) in pairs.enumerate() {
                    let t = match j {
                        0 => [b[0], b[1]],
                        _ => rotate::<T, S>(simd, [b[0], b[1]], w),
                    };
                    (b[0], b[1]) = (<T as Float>::sub(simd, a[0], t[0]), <T as Float>::sub(simd, a[1], t[1]));
                    (a[0], a[1]) = (<T as Float>::add(simd, a[0], t[0]), <T as Float>::add(simd, a[1], t[1]));
                }
            }
            h *= 2;
        }
    }
}

/// a + b̄ and a − b̄.
#[inline(always)]
fn apart<T: Float, S: Simd>(
    simd: S,
    a: [T::Vector<S>; 2],
    b: [T::Vector<S>; 2],
) -> ([T::Vector<S>; 2], [T::Vector<S>; 2]) {
    (
        [<T as Float>::add(simd, a[0], b[0]), <T as Float>::sub(simd, a[1], b[1])],
        [<T as Float>::sub(simd, a[0], b[0]), <T as Float>::add(simd, a[1], b[1])],
    )
}

/// z · w.
#[inline(always)]
fn rotate<T: Float, S: Simd>(simd: S, z: [T::Vector<S>; 2], w: [T; 2]) -> [T::Vector<S>; 2] {
    let (re, im) = (T::splat(simd, w[0]), T::splat(simd, w[1]));
    let minus = T::splat(simd, T::from_f64(-w[1].to_f64()));
    [
        T::mul_add(simd, z[0], re, <T as Float>::mul(simd, z[1], minus)),
        T::mul_add(simd, z[0], im, <T as Float>::mul(simd, z[1], re)),
    ]
}

#[cfg(test)]
mod tests {
    use pulp::WithSimd;
    use realfft::RealFftPlanner;

    use super::*;
    use crate::machine::isa::Isa;

    /// The points of `lanes` sequences, and these back through the products with the spectrum of a single one.
    struct ThereAndBack<'a> {
        fourier: &'a Fourier<f64>,
        window: &'a [f64],
    }

    impl WithSimd for ThereAndBack<'_> {
        type Output = (Vec<f64>, Vec<f64>);

        fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
            let Self { fourier, window } = self;
            let (lanes, length) = (f64::lanes::<S>(), fourier.length);
            let aligned = |elements: usize| vec![<f64 as Float>::splat(simd, f64::NAN); elements];
            let (mut places, mut work) = (aligned(length), aligned(length));
            let mut points = aligned(points(length));
            for (to, from) in places.iter_mut().zip(window.chunks_exact(lanes)) {
                *to = f64::load(simd, from);
            }
            let (places, work) = (bytemuck::cast_slice(&places), bytemuck::cast_slice_mut(&mut work));
            fourier.forward(simd, places, work, |point, value| points[point] = value);
            let scale = 1.0 / (2 * length) as f64;
            let product = |point: usize| {
                let minus = point >= 2 && point.is_multiple_of(3); // the second of a bin: w₂ = wᵢ − wᵣ
                let w = <f64 as Float>::splat(simd, if minus { -scale } else { scale });
                <f64 as Float>::mul(simd, points[point], w)
            };
            fourier.inverse(simd, product, work);
            let back = (0..length).flat_map(|j| work[(j ^ 1) * lanes..][..lanes].to_vec());
            let back = back.collect();
            (bytemuck::cast_slice(&points).to_vec(), back)
        }
    }

    #[test]
    fn spectra_are_those_of_realfft_and_come_back() {
        let mut rng = fastrand::Rng::with_seed(7);
        for isa in Isa::available() {
            let lanes = isa.f32_lanes() / 2;
            for length in [8, 16, 32, 64, 128] {
                let window: Vec<f64> = (0..length * lanes).map(|_| rng.f64() - 0.5).collect();
                let fourier = Fourier::new(length);
                let (found, back) = isa.enter(ThereAndBack { fourier: &fourier, window: &window });
                for lane in 0..lanes {
                    let mut one: Vec<f64> = window[lane..].iter().step_by(lanes).copied().collect();
                    let transform = RealFftPlanner::<f64>::new().plan_fft_forward(length);
                    let mut bins = transform.make_output_vec();
                    transform.process(&mut one, &mut bins).unwrap();
                    let near = |point: usize, value: f64| {
                        let found = found[point * lanes + lane];
                        assert!(
                            (found - 2.0 * value).abs() < 1e-12,
                            "{length}, point {point}: {found} {value}"
                        );
                    };
                    near(0, bins[0].re);
                    near(1, bins[length / 2].re);
                    for (k, bin) in bins.iter().enumerate().take(length / 2).skip(1) {
                        let values = [bin.re + bin.im, bin.re, bin.im];
                        values.iter().enumerate().for_each(|(i, &value)| near(point_of(k) + i, value));
                    }
                }
                let error = window.iter().zip(&back).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(error < 1e-14, "{length}: {error:e}");
            }
        }
    }
}
