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
        let twice = |v| add(simd, v, v);
        put(0, twice(add(simd, work[0], work[1])));
        put(1, twice(sub(simd, work[0], work[1])));
        let mut bin = |k: usize, re, im| {
            put(point_of(k), add(simd, re, im));
            put(point_of(k) + 1, re);
            put(point_of(k) + 2, im);
        };
        for k in 1..=half / 2 {
            let other = half - k;
            let (a, b) = ([work[2 * k], work[2 * k + 1]], [work[2 * other], work[2 * other + 1]]);
            let (s, d) = apart::<T, S>(simd, a, b);
            let t = rotate::<T, S>(simd, d, self.separate[k]);
            bin(k, add(simd, s[0], t[0]), add(simd, s[1], t[1]));
            if other != k {
                bin(other, sub(simd, s[0], t[0]), sub(simd, t[1], s[1]));
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
        let bin = |k: usize| {
            let [p, q, r] = [0, 1, 2].map(|i| get(point_of(k) + i));
            [sub(simd, p, r), add(simd, p, q)]
        };
        for k in 1..=half / 2 {
            let other = half - k;
            let (s, d) = apart::<T, S>(simd, bin(k), bin(other));
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
    let [re, im] = w.map(|w| T::splat(simd, w));
    let minus = T::splat(simd, T::from_f64(-w[1].to_f64()));
    [
        T::mul_add(simd, z[0], re, <T as Float>::mul(simd, z[1], minus)),
        T::mul_add(simd, z[0], im, <T as Float>::mul(simd, z[1], re)),
    ]
}
