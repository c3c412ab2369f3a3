//! The algebra of polyphase Winograd, end to end: on numbers whose every intermediate value is an integer in f64, the result
//! is that of the definition to the bit, whatever forms, tiles, layouts and instruction sets meet.

mod common;

use common::isas;
use common::random::outputs;
use fastrand::Rng;
use tconv::{
    Axis, Bytes64, Element, Epilogue, Error, Geometry, Layout, Oracle, Planner, Problem, Target, Weights,
};

/// Weights are multiples of what their points are divided by, 30 along each axis; inputs of the halves in the transforms.
const WEIGHTS: f64 = 27_000.0;
const INPUTS: f64 = 64.0;

fn problem(rng: &mut Rng) -> Option<Problem> {
    let rank = rng.usize(1..=3);
    let most = [70, 13, 5][rank - 1];
    let axes: Vec<Axis> = (0..rank)
        .map(|_| {
            let (stride, dilation) = (rng.usize(1..=3), [1, 1, 1, 2, 3][rng.usize(0..5)]);
            let kernel = rng.usize(1..=(if rank == 3 { 4 } else { 5 * stride }));
            let reach = dilation * (kernel - 1);
            let output_padding = if rng.u8(0..4) == 0 { rng.usize(0..stride.max(dilation)) } else { 0 };
            Axis {
                padding: (rng.usize(0..=reach), rng.usize(0..=reach)),
                dilation,
                output_padding,
                ..Axis::new(rng.usize(1..=most), kernel, stride)
            }
        })
        .collect();
    let (groups, ci, co) = (rng.usize(1..=2), [32, 33, 40][rng.usize(0..3)], rng.usize(1..=40));
    Problem::new(rng.usize(1..=2), groups * ci, groups * co, groups, &axes, Layout::Nchw).ok()
}

/// Multiples of `unit`.
fn multiples(rng: &mut Rng, unit: f64, len: usize) -> Vec<f64> {
    (0..len).map(|_| unit * f64::from(rng.i32(-3..=3))).collect()
}

#[test]
fn integers_are_exact_in_f64() {
    let isas = isas();
    let mut rng = Rng::with_seed(11);
    let mut taken = 0;
    while taken < 60 {
        let Some(problem) = problem(&mut rng) else { continue };
        let mut counted = false;
        for layout in Layout::ALL {
            let problem = problem.with_layout(layout);
            let g = Geometry::new(&problem).unwrap();
            let x = multiples(&mut rng, INPUTS, g.input_len());
            let w = multiples(&mut rng, WEIGHTS, g.weight_len());
            let b = multiples(&mut rng, WEIGHTS, problem.out_channels());
            let weights = Weights::new(&w).with_bias(&b);
            let mut truth = None;
            for &isa in &isas {
                let planner = Planner::new().on(Target { isa, threads: 2 }).only("winograd-polyphase", None);
                let plan = match planner.plan::<f64>(&problem, weights, Epilogue::BIAS) {
                    Ok(plan) => plan,
                    Err(Error::NoKernel { .. }) => continue,
                    Err(error) => panic!("{error}"),
                };
                counted = true;
                let mut y = vec![f64::NAN; g.output_len()];
                let ones = vec![u8::MAX; plan.scratch().units() * 64];
                let mut dirty: Vec<Bytes64> =
                    ones.chunks_exact(64).map(bytemuck::pod_read_unaligned).collect();
                plan.execute_with(&x, &mut y, &mut dirty).unwrap();
                let truth = truth.get_or_insert_with(|| {
                    let oracle = Oracle::new(&g, weights, Epilogue::BIAS);
                    let mut truth = vec![f64::NAN; g.output_len()];
                    for (n, c, at) in outputs(&g) {
                        truth[g.output_at(n, c, at)] = oracle.at(f64::tensor(&x), n, c, at).value;
                    }
                    truth
                });
                assert!(y == *truth, "{} {problem:?}", isa.name());
            }
        }
        taken += usize::from(counted);
    }
}
