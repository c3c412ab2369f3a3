//! The kernel `separable`: what it takes, what it makes of it, and who is asked where it declines.

mod common;

use common::random::{outputs, problems};
use fastrand::Rng;
use tconv::machine::scratch::Bytes64;
use tconv::planning::choice::{Candidate, Line, Measured, SCHEMA};
use tconv::{
    Accuracy, Activation, Axis, Choices, ChosenBy, Descriptor, Dtype, Element, Epilogue, Error, Exact,
    Fingerprint, Geometry, Isa, Layout, Oracle, Plan, Planner, Problem, Registry, Separable, Structure,
    Target, WeightFacts, Weights,
};

const THREADS: [usize; 4] = [1, 2, 3, 8];
const NAME: &str = "separable";

/// What the lines of an outer product are drawn from.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Lines {
    /// Bilinear, the same for all channels.
    Bilinear,
    /// Small integers, zeros among them.
    Integers,
    /// Reals, so that the products are rounded.
    Reals,
}

fn bilinear(taps: usize) -> Vec<f64> {
    let half = taps.div_ceil(2) as f64;
    let center = if taps % 2 == 1 { half - 1.0 } else { half - 0.5 };
    (0..taps).map(|i| 1.0 - (i as f64 - center).abs() / half).collect()
}

/// Weights of which each output channel reads one input channel, or none.
fn weights<T: Element>(g: &Geometry, lines: Lines, rng: &mut Rng) -> Vec<T> {
    let p = g.problem();
    let mut weights = vec![T::default(); g.weight_len()];
    for output in 0..p.out_channels() {
        if lines != Lines::Bilinear && rng.u8(..6) == 0 {
            continue;
        }
        let [z, y, x] = g.kernel().map(|taps| match lines {
            Lines::Bilinear => bilinear(taps),
            Lines::Integers => (0..taps).map(|_| f64::from(rng.i32(-3..=3))).collect(),
            Lines::Reals => (0..taps).map(|_| rng.f64() * 2.0 - 1.0).collect(),
        });
        let input = match lines {
            Lines::Bilinear => output % p.group_out() % p.group_in(),
            _ => rng.usize(..p.group_in()),
        };
        let input = output / p.group_out() * p.group_in() + input;
        let at = g.weight_at(input, output % p.group_out(), [0; 3]);
        let zy: Vec<f64> = z.iter().flat_map(|z| y.iter().map(move |y| z * y)).collect();
        let all = zy.iter().flat_map(|zy| x.iter().map(move |x| T::from_f64(zy * x)));
        weights[at..].iter_mut().zip(all).for_each(|(to, weight)| *to = weight);
    }
    weights
}

fn axis(input: usize, kernel: usize, stride: usize, padding: (usize, usize)) -> Axis {
    Axis { padding, ..Axis::new(input, kernel, stride) }
}

/// Layers of networks, and problems that random ones rarely are.
fn chosen() -> Vec<Problem> {
    let make =
        |n, ci, co, groups, axes: &[Axis]| Problem::new(n, ci, co, groups, axes, Layout::Nchw).unwrap();
    let dilated = |input, kernel, stride, dilation| Axis { dilation, ..Axis::new(input, kernel, stride) };
    vec![
        make(1, 18, 18, 18, &[axis(9, 4, 2, (1, 1)), axis(37, 4, 2, (1, 1))]), // DLA
        make(1, 5, 5, 5, &[axis(7, 8, 4, (2, 2)), axis(21, 8, 4, (2, 2))]),
        make(2, 3, 3, 3, &[axis(5, 16, 8, (4, 4)), axis(6, 16, 8, (4, 4))]),
        make(1, 5, 5, 1, &[axis(3, 64, 32, (0, 0)), axis(4, 64, 32, (0, 0))]), // FCN, most weights zero
        make(1, 21, 21, 1, &[axis(5, 4, 2, (0, 0)), axis(18, 4, 2, (0, 0))]),
        make(1, 4, 10, 2, &[axis(6, 5, 3, (1, 2)), axis(7, 5, 3, (0, 1))]), // groups with several channels
        make(1, 3, 6, 3, &[axis(6, 3, 2, (1, 0)), Axis { output_padding: 1, ..axis(40, 3, 2, (1, 1)) }]),
        make(2, 4, 5, 1, &[axis(70, 6, 2, (2, 2))]), // one axis
        make(1, 1, 1, 1, &[axis(3, 3, 1, (1, 1)), axis(300, 5, 1, (2, 2))]),
        make(1, 2, 2, 2, &[axis(4, 2, 5, (0, 0)), axis(5, 3, 7, (1, 0))]), // stride beyond the kernel
        make(1, 2, 2, 2, &[axis(4, 2, 6, (0, 0)), axis(3, 2, 33, (0, 0))]),
        make(1, 3, 3, 3, &[dilated(6, 3, 2, 3), dilated(7, 3, 2, 2)]),
        make(1, 3, 3, 3, &[dilated(5, 3, 6, 4), dilated(9, 4, 8, 3)]),
        make(2, 2, 4, 2, &[axis(3, 4, 2, (1, 1)), axis(4, 4, 2, (1, 1)), axis(5, 4, 2, (1, 1))]),
        make(1, 3, 3, 1, &[axis(3, 3, 2, (0, 1)), axis(4, 2, 2, (0, 0)), axis(5, 6, 5, (1, 1))]),
        make(0, 3, 3, 3, &[axis(4, 4, 2, (1, 1)), axis(4, 4, 2, (1, 1))]), // no image
        make(1, 2, 2, 2, &[axis(2, 9, 1, (6, 3)), axis(3, 2, 3, (7, 0))]), // more cropped than reached
        make(1, 2, 2, 2, &[axis(5000, 3, 2, (1, 1)), axis(2, 3, 2, (1, 1))]),
        make(1, 40, 40, 40, &[axis(3, 4, 2, (1, 1)), axis(900, 4, 2, (1, 1))]), // several pieces along x
    ]
}

struct Case<T> {
    geometry: Geometry,
    epilogue: Epilogue,
    x: Vec<T>,
    w: Vec<T>,
    b: Vec<T>,
}

impl<T: Element> Case<T> {
    fn new(problem: &Problem, epilogue: Epilogue, lines: Lines, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let geometry = Geometry::new(problem).unwrap();
        let x = common::random::reals(&mut rng, geometry.input_len());
        let b = common::random::reals(&mut rng, if epilogue.bias { problem.out_channels() } else { 0 });
        let w = weights(&geometry, lines, &mut rng);
        Self { geometry, epilogue, x, w, b }
    }

    fn weights(&self) -> Weights<'_> {
        let weights = Weights::new(&self.w);
        if self.epilogue.bias { weights.with_bias(&self.b) } else { weights }
    }

    fn facts(&self) -> Separable {
        WeightFacts::scan(&self.geometry, T::tensor(&self.w)).unwrap().separable
    }

    fn plan(&self, target: Target) -> Result<Plan<T>, Error> {
        let planner = Planner::new().on(target).only(NAME, None);
        planner.plan(self.geometry.problem(), self.weights(), self.epilogue)
    }

    /// A run into NaN, with scratch full of NaN.
    fn run(&self, plan: &Plan<T>) -> Vec<T> {
        let mut output = vec![T::from_f64(f64::NAN); self.geometry.output_len()];
        let mut scratch: Vec<Bytes64> = plan.scratch().allocate().unwrap();
        bytemuck::cast_slice_mut::<Bytes64, u8>(&mut scratch).fill(0xFF);
        plan.execute_with(&self.x, &mut output, &mut scratch).unwrap();
        output
    }

    fn truth(&self) -> Vec<(usize, Exact)> {
        let oracle = Oracle::new(&self.geometry, self.weights(), self.epilogue);
        let exact = |(n, c, at)| (self.geometry.output_at(n, c, at), oracle.at(T::tensor(&self.x), n, c, at));
        outputs(&self.geometry).map(exact).collect()
    }

    /// Within the bound on every instruction set, the same bits on any number of threads. False: it declines.
    fn check(&self, context: &str) -> bool {
        let growth = Registry::builtin().get(NAME).unwrap().guarantees().exactness.growth();
        let own = if T::DTYPE == Dtype::F64 { 2.0 } else { 1.0 }; // the oracle sums in f64, too
        let truth = self.truth();
        for isa in common::isas() {
            let mut first: Option<Vec<T>> = None;
            for threads in THREADS {
                let plan = match self.plan(Target { isa, threads }) {
                    Err(Error::NoKernel { .. }) => return false,
                    plan => plan.unwrap(),
                };
                assert!(plan.scratch().bytes <= threads * (2 << 20), "{context}: {:?}", plan.scratch());
                let output = self.run(&plan);
                let first = first.get_or_insert_with(|| output.clone());
                let same = |(a, b): (&T, &T)| a.to_f64().to_bits() == b.to_f64().to_bits();
                assert!(first.iter().zip(&output).all(same), "{context}: {threads} threads");
            }
            for (i, exact) in &truth {
                let got = first.as_ref().unwrap()[*i].to_f64();
                let allowed = own * growth * exact.bound(self.epilogue, T::DTYPE.unit_roundoff());
                assert!(
                    (got - exact.value).abs() <= allowed,
                    "{context} {isa:?}: output {i} is {got}, exact {exact:?}"
                );
            }
        }
        true
    }
}

fn epilogue(i: usize) -> Epilogue {
    match i % 5 {
        0 => Epilogue::NONE,
        1 => Epilogue::BIAS,
        2 => Epilogue::BIAS.with(Activation::Relu),
        3 => Epilogue::BIAS.with(Activation::Tanh),
        _ => Epilogue::NONE.with(Activation::LeakyRelu { slope: 0.25 }),
    }
}

fn all_within_the_bound<T: Element>() {
    let mut taken = [0; 3];
    for (i, problem) in chosen().into_iter().chain(problems(11, 240)).enumerate() {
        for layout in Layout::ALL {
            for (k, lines) in [Lines::Bilinear, Lines::Integers, Lines::Reals].into_iter().enumerate() {
                let problem = problem.with_layout(layout);
                let case = Case::<T>::new(&problem, epilogue(i), lines, i as u64);
                let recognised = matches!(case.facts(), Separable::Yes { .. });
                let checked = case.check(&format!("{lines:?} {problem:?}"));
                // Rounded products of three lines may be too far from any.
                let certain = lines != Lines::Reals || problem.rank() < 3;
                assert!(recognised || !certain || case.facts() == Separable::Plain, "{lines:?} {problem:?}");
                assert_eq!(checked, recognised, "{lines:?} {problem:?}");
                taken[k] += usize::from(checked);
            }
        }
    }
    assert!(taken.iter().all(|&n| n > 300), "{taken:?}");
}

#[test]
fn outputs_are_within_the_bound_in_f32() {
    all_within_the_bound::<f32>();
}

#[test]
fn outputs_are_within_the_bound_in_f64() {
    all_within_the_bound::<f64>();
}

fn refusals<T: Element>() {
    let dense = Problem::new(1, 3, 4, 1, &[axis(5, 4, 2, (1, 1)); 2], Layout::Nchw).unwrap();
    let target = Target { isa: common::isas()[0], threads: 1 };
    let reason = |case: &Case<T>| case.plan(target).unwrap_err().to_string();
    let good = || Case::<T>::new(&dense, Epilogue::BIAS, Lines::Bilinear, 3);
    let mut plan = good().plan(target).unwrap();
    let before = good().run(&plan);
    let nan = T::from_f64(f64::NAN);
    for (at, value, words) in [
        ([2, 2], T::from_f64(0.1), "channels 2 → 2 are no outer product"),
        ([0, 1], T::from_f64(1e-30), "output channel 1 reads input channels 0 and 1"),
        ([1, 1], nan, "not finite"),
    ] {
        let mut case = good();
        let index = case.geometry.weight_at(at[0], at[1], [0, 1, 2]);
        case.w[index] = value;
        assert!(reason(&case).contains(words), "{}", reason(&case));
        // The planner takes the next one; a plan keeps the weights that it has.
        let next = Planner::new().on(target).plan::<T>(&dense, case.weights(), case.epilogue).unwrap();
        assert_ne!(next.name(), NAME);
        let refused = plan.repack(case.weights()).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
        assert_eq!(good().run(&plan), before);
    }
    let other = Case::<T>::new(&dense, Epilogue::BIAS, Lines::Integers, 4);
    plan.repack(other.weights()).unwrap();
    assert_eq!(good().x.len(), other.x.len());
    assert_eq!(
        other.run(&plan),
        other.run(&other.plan(target).unwrap()),
        "new weights are as good as planned ones"
    );

    // Strict accuracy asks for direct summation, whose specials are exact.
    let case = good();
    let strict = Planner::new().on(target).accuracy(Accuracy::Strict);
    let planned = strict.plan::<T>(&dense, case.weights(), case.epilogue).unwrap();
    assert_ne!(planned.name(), NAME);
    let only = strict.only(NAME, None).plan::<T>(&dense, case.weights(), case.epilogue);
    assert!(only.unwrap_err().to_string().contains("strict"));
}

#[test]
fn other_weights_are_refused_with_their_channel() {
    refusals::<f32>();
    refusals::<f64>();
}

#[test]
fn specials_never_vanish() {
    let specials = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    let mut rng = Rng::with_seed(5);
    let mut seen = 0;
    for (i, problem) in chosen().into_iter().chain(problems(12, 120)).enumerate() {
        for layout in Layout::ALL {
            let problem = problem.with_layout(layout);
            let mut case = Case::<f32>::new(&problem, Epilogue::BIAS, Lines::Integers, i as u64);
            for _ in 0..3.min(case.x.len()) {
                let at = rng.usize(..case.x.len());
                case.x[at] = specials[rng.usize(..3)];
            }
            let truth = case.truth();
            for isa in common::isas() {
                let Ok(plan) = case.plan(Target { isa, threads: 2 }) else { continue };
                let output = case.run(&plan);
                for (i, exact) in truth.iter().filter(|(_, exact)| !exact.value.is_finite()) {
                    assert!(!output[*i].is_finite(), "{isa:?} {problem:?}: output {i}, exact {exact:?}");
                    seen += 1;
                }
                // One finite image is left alone by another.
                if problem.batch() == 2 {
                    let (half, images) = (output.len() / 2, case.x.len() / 2);
                    for n in 0..2 {
                        if case.x[n * images..][..images].iter().all(|x| x.is_finite()) {
                            assert!(output[n * half..][..half].iter().all(|y| y.is_finite()), "{problem:?}");
                        }
                    }
                }
            }
        }
    }
    assert!(seen > 10_000, "{seen}");
}

/// A choice names a kernel; whether it takes the weights is asked again, every time.
#[test]
fn recorded_choices_hold_for_weights_of_their_structure_alone() {
    let problem = Problem::new(1, 8, 8, 8, &[axis(12, 8, 4, (2, 2)); 2], Layout::Nchw).unwrap();
    let target = Target { isa: Isa::detect().unwrap(), threads: 1 };
    let case = Case::<f32>::new(&problem, Epilogue::NONE, Lines::Bilinear, 1);
    let geometry = case.geometry.clone();
    let random: Vec<f32> = common::random::reals(&mut Rng::with_seed(2), geometry.weight_len());
    let of = |structure| Descriptor { problem, dtype: Dtype::F32, epilogue: Epilogue::NONE, structure };
    // Separable was measured to be the slowest of two, depthwise for other weights, too: absurdly fast.
    let line = |structure, times: &[(&str, f64)]| Line {
        schema: SCHEMA,
        machine: Fingerprint::here().into(),
        isa: target.isa.name().into(),
        threads: 1,
        cache: "warm".into(),
        problem: of(structure).to_string(),
        effort: "patient".into(),
        candidates: times
            .iter()
            .map(|&(kernel, ns)| {
                let found = Registry::builtin().get(kernel).unwrap();
                let planned = Planner::new().on(target).only(kernel, None);
                let plan = planned.plan::<f32>(&problem, case.weights(), Epilogue::NONE).unwrap();
                Candidate::Measured(Measured {
                    kernel: kernel.into(),
                    variant: plan.variant().name().into(),
                    revisions: [found.revisions().numerics, found.revisions().speed],
                    ns: [ns, ns, ns],
                    scratch_bytes: plan.scratch().bytes,
                    deterministic: None,
                    max_error_u: 1.0,
                })
            })
            .chain(
                Registry::builtin().iter().filter(|k| times.iter().all(|(name, _)| *name != k.name())).map(
                    |k| Candidate::Skipped {
                        kernel: k.name().into(),
                        variant: String::new(),
                        skipped: "left out".into(),
                    },
                ),
            )
            .collect(),
    };
    let choices = |lines: &[Line]| {
        let text: String = lines.iter().map(|l| serde_json::to_string(l).unwrap() + "\n").collect();
        let choices = Choices::parse(text.as_bytes());
        assert_eq!(choices.report().used, lines.len(), "{}", choices.report());
        choices
    };
    let chosen = |choices: Choices, weights: &[f32]| {
        let planner = Planner::new().on(target).shipped(false).choices(choices);
        let plan = planner.plan::<f32>(&problem, Weights::new(weights), Epilogue::NONE).unwrap();
        (plan.name(), plan.choice().by)
    };
    let both = || {
        choices(&[
            line(Structure::Separable, &[(NAME, 10.0), ("polyphase", 20.0)]),
            line(Structure::General, &[("scatter", 10.0), ("polyphase", 20.0)]),
        ])
    };
    assert_eq!(chosen(both(), &case.w), (NAME, ChosenBy::Measured));
    assert_eq!(chosen(both(), &random), ("scatter", ChosenBy::Measured));
    // For other weights nothing was measured.
    let separable = || choices(&[line(Structure::Separable, &[("polyphase", 1e4)])]);
    assert_eq!(chosen(separable(), &case.w), ("polyphase", ChosenBy::Measured));
    assert_ne!(chosen(separable(), &random).1, ChosenBy::Measured);
    // Where a line of ordinary weights names it all the same, the next one is taken.
    let wrong = choices(&[line(Structure::General, &[(NAME, 10.0), ("polyphase", 20.0)])]);
    assert_eq!(chosen(wrong, &random), ("polyphase", ChosenBy::Measured));
    // Without weights nobody knows; with their structure, it is foreseen.
    let planner = Planner::new().on(target).shipped(false);
    let verdicts = planner.explain(&problem, Dtype::F32, Epilogue::NONE, None).unwrap();
    let declined = verdicts.iter().find(|v| v.kernel.name() == NAME).unwrap().answer.as_ref();
    assert!(declined.unwrap_err().reason.contains("not known"));
    let verdicts = planner.explain_descriptor(&of(Structure::Separable)).unwrap();
    assert!(verdicts.iter().any(|v| v.kernel.name() == NAME && v.answer.is_ok()));
}

#[test]
fn the_planner_prefers_it_for_bilinear_layers_of_fcn_and_dla() {
    let make = |ci: usize, groups, input, kernel, stride, crop| {
        let axes = [axis(input, kernel, stride, (crop, crop)); 2];
        Problem::new(1, ci, ci, groups, &axes, Layout::Nchw).unwrap()
    };
    for problem in [
        make(21, 1, 16, 64, 32, 0),
        make(21, 1, 16, 4, 2, 0),
        make(21, 1, 34, 16, 8, 0),
        make(64, 64, 32, 8, 4, 2),
    ] {
        for layout in Layout::ALL {
            let case = Case::<f32>::new(&problem.with_layout(layout), Epilogue::NONE, Lines::Bilinear, 1);
            let plan = Planner::new()
                .on(Target { isa: Isa::detect().unwrap(), threads: 1 })
                .shipped(false)
                .plan::<f32>(case.geometry.problem(), case.weights(), case.epilogue)
                .unwrap();
            assert_eq!(plan.name(), NAME, "{problem:?}");
            assert_eq!(plan.variant().name().ends_with("diagonal"), problem.groups() == 1);
            let verdicts = Planner::new()
                .explain(case.geometry.problem(), Dtype::F32, case.epilogue, Some(f32::tensor(&case.w)))
                .unwrap();
            let found = verdicts.iter().find_map(|v| v.remark.as_deref()).expect("what was recognised");
            let pairs = problem.in_channels() * problem.group_out();
            assert!(found.starts_with(&format!("{} of {pairs} pairs", problem.out_channels())), "{found}");
        }
    }
}
