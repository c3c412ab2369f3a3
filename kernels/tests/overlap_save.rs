//! Overlap-save against the definition, where its own bound says nothing: the algebra in f64, other images, and what it costs.

mod common;

use common::isas;
use common::random::outputs;
use fastrand::Rng;
use tconv::{
    Accuracy, Axis, Dtype, Element, Epilogue, Error, Geometry, Layout, Oracle, Plan, Planner, Problem,
    Target, Weights,
};

const NAME: &str = "fft-overlap-save";

fn planner(target: Target) -> Planner {
    Planner::new().accuracy(Accuracy::Normwise).on(target).only(NAME, None)
}

/// One axis with 3 to 40 taps in a phase, crops of any size that leave something, one or two groups.
fn problem(rng: &mut Rng) -> Option<Problem> {
    let stride = rng.usize(1..=20);
    let kernel = stride * rng.usize(2..=(200 / stride).clamp(2, 40)) + rng.usize(1..=stride);
    let axis = Axis {
        padding: (rng.usize(0..=kernel), rng.usize(0..=kernel)),
        output_padding: rng.usize(0..stride),
        ..Axis::new(rng.usize(1..=60), kernel, stride)
    };
    let (groups, ci, co) = (rng.usize(1..=2), rng.usize(16..=35), rng.usize(1..=20));
    Problem::new(rng.usize(1..=3), groups * ci, groups * co, groups, &[axis], Layout::Nchw).ok()
}

fn reals(rng: &mut Rng, len: usize) -> Vec<f64> {
    (0..len).map(|_| 2.0 * rng.f64() - 1.0).collect()
}

/// In f64, with numbers of one size, every output agrees to ten digits of its neighbours' size: far below what any wrong
/// tap, window or sign would do.
#[test]
fn the_algebra_is_that_of_the_definition() {
    let mut rng = Rng::with_seed(3);
    let mut taken = 0;
    while taken < 60 {
        let Some(problem) = problem(&mut rng) else { continue };
        let mut counted = false;
        for layout in Layout::ALL {
            let problem = problem.with_layout(layout);
            let g = Geometry::new(&problem).unwrap();
            let (x, w) = (reals(&mut rng, g.input_len()), reals(&mut rng, g.weight_len()));
            let b = reals(&mut rng, problem.out_channels());
            let weights = Weights::new(&w).with_bias(&b);
            let oracle = Oracle::new(&g, weights, Epilogue::BIAS);
            for isa in isas() {
                let plan = planner(Target { isa, threads: 2 }).plan::<f64>(&problem, weights, Epilogue::BIAS);
                let plan: Plan<f64> = match plan {
                    Err(Error::NoKernel { .. }) => continue,
                    plan => plan.unwrap(),
                };
                counted = true;
                let mut y = vec![f64::NAN; g.output_len()];
                plan.execute(&x, &mut y).unwrap();
                for (n, c, at) in outputs(&g).step_by(7) {
                    let exact = oracle.at(f64::tensor(&x), n, c, at).value;
                    let got = y[g.output_at(n, c, at)];
                    let scale = (problem.group_in() as f64 * problem.axes()[2].kernel as f64).sqrt();
                    assert!((got - exact).abs() <= 1e-10 * scale, "{got} {exact} {problem:?} {}", isa.name());
                }
            }
        }
        taken += usize::from(counted);
    }
}

/// What is not finite stays in its image and its group; in its window nothing hides it.
#[test]
fn a_nan_stays_in_its_image_and_group() {
    let axis = Axis::new(50, 32, 8);
    let problem = Problem::new(2, 32, 4, 2, &[axis], Layout::Nchw).unwrap();
    let g = Geometry::new(&problem).unwrap();
    let mut x = vec![1f32; g.input_len()];
    let w = vec![1f32; g.weight_len()];
    for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        x[g.input_at(1, 3, [0, 0, 20])] = special;
        for isa in isas() {
            let plan =
                planner(Target { isa, threads: 1 }).plan::<f32>(&problem, Weights::new(&w), Epilogue::NONE);
            let mut y = vec![0f32; g.output_len()];
            plan.unwrap().execute(&x, &mut y).unwrap();
            for (n, c, at) in outputs(&g) {
                let (y, meets) = (y[g.output_at(n, c, at)], (160..192).contains(&at[2]));
                let same_group = n == 1 && c < 2;
                assert!(same_group || y.is_finite(), "{n} {c} {at:?}");
                assert!(!same_group || !meets || !y.is_finite(), "{n} {c} {at:?}: {y}");
            }
        }
    }
}

/// Under the default accuracy it is never asked; where allowed, it does fewer products, and says how many.
#[test]
fn it_is_opt_in_and_saves_products() {
    let problem = Problem::new(1, 1026, 1, 1, &[Axis::new(224, 1024, 256)], Layout::Nchw).unwrap();
    let g = Geometry::new(&problem).unwrap();
    for accuracy in Accuracy::ALL {
        let planner = Planner::new().accuracy(accuracy).shipped(false);
        let verdicts = planner.explain(&problem, Dtype::F32, Epilogue::NONE, None).unwrap();
        let answer = &verdicts.iter().find(|v| v.kernel.name() == NAME).unwrap().answer;
        match accuracy {
            Accuracy::Normwise => {
                let done = answer.as_ref().unwrap().1.multiply_adds;
                assert!(3 * done < 2 * g.multiply_adds(), "{done} of {}", g.multiply_adds());
                assert_eq!(verdicts[0].kernel.name(), NAME);
            }
            _ => assert!(answer.as_ref().unwrap_err().reason.contains("norm"), "{answer:?}"),
        }
    }
}
