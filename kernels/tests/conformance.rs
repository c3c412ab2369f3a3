//! The stored golden set through every kernel, variant, instruction set, layout and type.

mod common;

use std::path::PathBuf;

use common::golden::{self, Case};
use rayon::prelude::*;
use tconv::{
    Accuracy, Bytes64, Dtype, Element, Error, Exactness, Geometry, Isa, Kernel, Layout, Norms, Oracle,
    Planner, Registry, Request, Target, WeightFacts, Weights,
};

/// How many cases of the stored set each kernel declines (f32, NCHW, portable: the number of lanes matters to some); one
/// that is not named declines none.
/// `zero-insert`: the special cases with weights that are not finite. `pixel-lanes`: more phases along x than a tile has columns. `weight-streaming`: images whose sums are no small ones. `phase-merged`: all but dense kernels of a whole
/// multiple of the stride along x. `depth-to-space`: all but kernels that
/// do not overlap, of the stride along x or half of it, or overlap along one other axis. `depthwise`: more than one input
/// channel in a group. `winograd-polyphase`: fewer than 32 input channels in a group, all but a few.
/// `overlap-add`: groups, and one of more scratch than it takes.
/// `grouped-polyphase`: one group, or one input channel in a group.
/// `separable`: weights that are no outer products of one input channel, all but a few.
/// `fft-overlap-save`: all but one axis with phases of three taps, 16 input channels and 8 neighbouring outputs: all. Its own
/// tests (`overlap_save.rs`) draw such.
const DECLINES: &[(&str, usize)] = &[
    ("zero-insert", 4),
    ("overlap-add", 78),
    ("grouped-polyphase", 235),
    ("pixel-lanes", 45),
    ("phase-merged", 247),
    ("depth-to-space", 227),
    ("separable", 268),
    ("depthwise", 185),
    ("weight-streaming", 16),
    ("winograd-polyphase", 269),
    ("fft-overlap-save", 281),
];

fn cases() -> Vec<Case> {
    golden::read(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden"))
}

#[test]
fn every_kernel_passes_the_stored_set() {
    let (cases, isas, registry) = (cases(), common::isas(), Registry::builtin());
    assert!(cases.len() >= 250, "only {} cases", cases.len());
    let failures: Vec<String> = cases
        .par_iter()
        .flat_map_iter(|case| {
            let mut failures = Vec::new();
            for kernel in registry.iter() {
                for &isa in &isas {
                    for layout in Layout::ALL {
                        failures.extend(check::<f32>(case, kernel, isa, layout).err());
                        failures.extend(check::<f64>(case, kernel, isa, layout).err());
                    }
                }
            }
            failures
        })
        .collect();
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures[..failures.len().min(20)].join("\n")
    );
}

#[test]
fn kernels_decline_as_many_cases_as_stated() {
    let cases = cases();
    for kernel in Registry::builtin().iter() {
        // The same on all instruction sets, but that this one declines portable lanes, whatever the case.
        let isa = match kernel.name() {
            "grouped-polyphase" => common::isas()[common::isas().len() - 1],
            _ => Isa::PORTABLE,
        };
        if kernel.name() == "grouped-polyphase" && !isa.has_vectors() {
            continue;
        }
        let stated = DECLINES.iter().find(|(name, _)| *name == kernel.name()).map_or(0, |&(_, count)| count);
        let declines = |case: &&Case| {
            let weights = typed::<f32>(&case.weights);
            let bias = case.bias.as_deref();
            let plan = planner(kernel, isa, None).plan::<f32>(
                &case.problem,
                with_bias(&weights, bias),
                case.epilogue(),
            );
            match plan {
                Ok(_) => false,
                Err(Error::NoKernel { .. }) => true,
                Err(error) => panic!("{} on {}: {error}", kernel.name(), case.id),
            }
        };
        let declined: Vec<&str> = cases.iter().filter(declines).map(|case| case.id.as_str()).collect();
        assert_eq!(declined.len(), stated, "{} declines {declined:#?}", kernel.name());
    }
}

/// Every variant of one kernel on one case, with an output full of NaN and dirty scratch.
fn check<T: Element>(
    case: &Case,
    kernel: &'static dyn Kernel,
    isa: Isa,
    layout: Layout,
) -> Result<(), String> {
    let problem = case.problem.with_layout(layout);
    let geometry = Geometry::new(&problem).map_err(|e| e.to_string())?;
    let nchw = Geometry::new(&case.problem).map_err(|e| e.to_string())?;
    let input = reorder(&case.input, &nchw, &geometry, Side::Input);
    let (input, weights) = (typed::<T>(&input), typed::<T>(&case.weights));
    let bias = case.bias.as_deref().map(typed::<T>);
    let weights = with_bias(&weights, bias.as_deref());
    let magnitudes = || magnitudes(case, &nchw, kernel.guarantees().exactness);
    for variant in variants::<T>(case, &geometry, kernel, isa, weights) {
        let named = |problem: String| {
            format!(
                "{} {variant} on {}, {}, {}, {}: {problem}",
                kernel.name(),
                isa.name(),
                T::DTYPE,
                layout.name(),
                case.id
            )
        };
        let plan = match planner(kernel, isa, Some(&variant)).plan::<T>(&problem, weights, case.epilogue()) {
            Ok(plan) => plan,
            Err(Error::NoKernel { .. }) => continue, // counted by the other test
            Err(error) => return Err(named(error.to_string())),
        };
        let mut output = vec![T::from_f64(f64::NAN); geometry.output_len()];
        let mut scratch = plan.scratch().allocate().map_err(|e| named(e.to_string()))?;
        scratch.fill(bytemuck::cast::<_, Bytes64>([0xFFu8; 64]));
        plan.execute_with(&input, &mut output, &mut scratch).map_err(|e| named(e.to_string()))?;
        let output = reorder(&output, &geometry, &nchw, Side::Output);
        let got: Vec<f64> = output.iter().map(|y| y.to_f64()).collect();
        let promised = kernel.guarantees();
        case.judge(T::DTYPE, promised.exactness, promised.specials, &got, magnitudes).map_err(named)?;
    }
    Ok(())
}

fn planner(kernel: &'static dyn Kernel, isa: Isa, variant: Option<&str>) -> Planner {
    Planner::new().accuracy(Accuracy::Normwise).on(Target { isa, threads: 2 }).only(kernel.name(), variant)
}

fn variants<T: Element>(
    case: &Case,
    geometry: &Geometry,
    kernel: &'static dyn Kernel,
    isa: Isa,
    weights: Weights<'_>,
) -> Vec<String> {
    let request = Request {
        geometry,
        dtype: T::DTYPE,
        epilogue: case.epilogue(),
        accuracy: Accuracy::Normwise,
        target: Target { isa, threads: 2 },
        weights: Some(WeightFacts::scan(geometry, weights.kernel).unwrap()),
    };
    match kernel.supports(&request) {
        Ok(()) => kernel.variants(&request).iter().map(|v| v.name().to_owned()).collect(),
        Err(_) => Vec::new(),
    }
}

fn typed<T: Element>(data: &[f32]) -> Vec<T> {
    data.iter().map(|&x| T::from_f64(x.into())).collect()
}

fn with_bias<'a, T: Element>(weights: &'a [T], bias: Option<&'a [T]>) -> Weights<'a> {
    match bias {
        Some(bias) => Weights::new(weights).with_bias(bias),
        None => Weights::new(weights),
    }
}

#[derive(Clone, Copy)]
enum Side {
    Input,
    Output,
}

/// The same tensor in the order of another geometry's layout.
fn reorder<T: Copy + Default>(data: &[T], from: &Geometry, to: &Geometry, side: Side) -> Vec<T> {
    let p = from.problem();
    let (channels, [depth, height, width]) = match side {
        Side::Input => (p.in_channels(), from.input()),
        Side::Output => (p.out_channels(), from.output()),
    };
    let at = |g: &Geometry, n, c, position| match side {
        Side::Input => g.input_at(n, c, position),
        Side::Output => g.output_at(n, c, position),
    };
    let mut moved = vec![T::default(); data.len()];
    for n in 0..p.batch() {
        for c in 0..channels {
            for z in 0..depth {
                for y in 0..height {
                    for x in 0..width {
                        moved[at(to, n, c, [z, y, x])] = data[at(from, n, c, [z, y, x])];
                    }
                }
            }
        }
    }
    moved
}

/// Σ|x||w| + |bias| of every output, in NCHW order, or the norms that bound it.
fn magnitudes(case: &Case, geometry: &Geometry, exactness: Exactness) -> Vec<f64> {
    let oracle = Oracle::new(geometry, with_bias(&case.weights, case.bias.as_deref()), case.epilogue());
    let input = <f32 as Element>::tensor(&case.input);
    let norms = exactness
        .is_normwise()
        .then(|| Norms::new(geometry, with_bias(&case.weights, case.bias.as_deref()), input));
    let mut all = vec![0.0; geometry.output_len()];
    let [depth, height, width] = geometry.output();
    for n in 0..case.problem.batch() {
        for c in 0..case.problem.out_channels() {
            for z in 0..depth {
                for y in 0..height {
                    for x in 0..width {
                        let at = [z, y, x];
                        all[geometry.output_at(n, c, at)] = match &norms {
                            Some(norms) => norms.at(n, c, at),
                            None => oracle.at(input, n, c, at).magnitude,
                        };
                    }
                }
            }
        }
    }
    all
}

/// The judge itself: a wrong answer of each kind is found.
#[test]
fn a_wrong_output_is_found() {
    let (isa, registry) = (Isa::PORTABLE, Registry::builtin());
    let kernel = registry.get("scatter").expect("built in");
    for case in cases() {
        let geometry = Geometry::new(&case.problem).unwrap();
        if geometry.output_len() == 0 {
            continue;
        }
        let weights = with_bias(&case.weights, case.bias.as_deref());
        let plan = planner(kernel, isa, None).plan::<f32>(&case.problem, weights, case.epilogue()).unwrap();
        let mut output = vec![f32::NAN; geometry.output_len()];
        plan.execute(&case.input, &mut output).unwrap();
        let mut got: Vec<f64> = output.iter().map(|&y| y.into()).collect();
        let promised = kernel.guarantees();
        let judge = |got: &[f64]| {
            case.judge(Dtype::F32, promised.exactness, promised.specials, got, || {
                magnitudes(&case, &geometry, promised.exactness)
            })
        };
        let middle = got.len() / 2;
        let right = got[middle];
        for wrong in [f64::NAN, f64::INFINITY, right + 1.0 + 0.1 * right.abs()] {
            if right.is_finite() {
                got[middle] = wrong;
                assert!(judge(&got).is_err(), "{}: {wrong} instead of {right} passed", case.id);
                got[middle] = right;
            }
        }
        assert_eq!(judge(&got), Ok(()), "{}", case.id);
        got.push(0.0);
        assert!(judge(&got).is_err(), "{}: a longer output passed", case.id);
    }
}
