//! Seeded random problems and data for the integration tests.

use fastrand::Rng;
use tconv::{Axis, Element, Geometry, Layout, Problem};

/// A random small problem of `rank` axes: groups (depthwise included), strides, dilations that share factors with them,
/// crops that may differ at both ends and reach past the kernel, output padding, batch 0 now and then.
pub fn problem(rng: &mut Rng, rank: usize) -> Problem {
    loop {
        let most = [10, 6, 4][rank - 1];
        let axes: Vec<_> = (0..rank)
            .map(|_| {
                let (stride, dilation) = (rng.usize(1..=4), [1, 1, 2, 3, 4][rng.usize(0..5)]);
                Axis {
                    padding: if rng.bool() { (0, 0) } else { (rng.usize(0..6), rng.usize(0..6)) },
                    output_padding: if rng.bool() { 0 } else { rng.usize(0..stride.max(dilation)) },
                    dilation,
                    ..Axis::new(rng.usize(1..=most), rng.usize(1..=5), stride)
                }
            })
            .collect();
        let groups = rng.usize(1..=3);
        let (ci, co) = (rng.usize(1..=4), rng.usize(1..=9));
        let batch = if rng.u8(0..32) == 0 { 0 } else { rng.usize(1..=2) };
        if let Ok(p) = Problem::new(batch, groups * ci, groups * co, groups, &axes, Layout::Nchw) {
            return p;
        }
    }
}

/// `count` random problems of every rank in turn.
pub fn problems(seed: u64, count: usize) -> Vec<Problem> {
    let mut rng = Rng::with_seed(seed);
    (0..count).map(|i| problem(&mut rng, i % 3 + 1)).collect()
}

/// Small integers: every sum of products is exact in f32.
pub fn integers<T: Element>(rng: &mut Rng, len: usize) -> Vec<T> {
    (0..len).map(|_| T::from_f64(f64::from(rng.i32(-5..=5)))).collect()
}

/// Numbers in −1..1.
pub fn reals<T: Element>(rng: &mut Rng, len: usize) -> Vec<T> {
    (0..len).map(|_| T::from_f64(rng.f64() * 2.0 - 1.0)).collect()
}

/// Every output element as (image, channel, position), in the order of the flat NCHW index.
pub fn outputs(g: &Geometry) -> impl Iterator<Item = (usize, usize, [usize; 3])> + '_ {
    let [depth, height, width] = g.output();
    let p = g.problem();
    (0..p.batch()).flat_map(move |n| {
        (0..p.out_channels()).flat_map(move |c| {
            (0..depth)
                .flat_map(move |z| (0..height).flat_map(move |y| (0..width).map(move |x| (n, c, [z, y, x]))))
        })
    })
}

/// Σ aᵢ·bᵢ in f64.
pub fn dot<T: Element>(a: &[T], b: &[T]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64()).sum()
}
