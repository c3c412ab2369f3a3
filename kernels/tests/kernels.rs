//! Every kernel of the built-in registry on every instruction set: small random problems against the oracle, in both
//! layouts and types, with dirty memory, for several numbers of threads.

mod common;

use common::isas;
use common::random::{integers, outputs, problems, reals};
use fastrand::Rng;
use tconv::{
    Accuracy, Activation, Axis, Bytes64, Dtype, Element, Epilogue, Error, Exact, Exactness, Geometry, Kernel,
    Layout, Norms, Oracle, Plan, Planner, Problem, Registry, Request, Specials, Target, Variant, WeightFacts,
    Weights,
};

/// Kernels for a part of the geometry, which they name when they decline. Every other kernel takes every problem here.
const SPECIALISED: [&str; 10] = [
    "overlap-add",
    "grouped-polyphase",
    "pixel-lanes",
    "phase-merged",
    "depth-to-space",
    "separable",
    "depthwise",
    "weight-streaming",
    "winograd-polyphase",
    "fft-overlap-save",
];

const THREADS: [usize; 4] = [1, 2, 3, 8];

/// Problems that random ones rarely are.
fn special_problems() -> Vec<Problem> {
    let make =
        |n, ci, co, groups, axes: &[Axis]| Problem::new(n, ci, co, groups, axes, Layout::Nchw).unwrap();
    let cropped = |input, kernel, stride, begin, end| Axis {
        padding: (begin, end),
        ..Axis::new(input, kernel, stride)
    };
    vec![
        make(1, 600, 5, 1, &[Axis::new(3, 2, 2)]), // deeper than one block of a GEMM
        make(2, 6, 12, 6, &[Axis::new(4, 3, 2); 2]), // depthwise, multiplier 2
        make(1, 1, 70, 1, &[Axis::new(5, 3, 1); 2]), // an outer product
        make(0, 3, 4, 1, &[Axis::new(5, 3, 2); 2]), // no image
        make(1, 2, 3, 1, &[Axis::new(3, 2, 7); 2]), // stride beyond the kernel: bias alone between
        make(1, 3, 2, 1, &[cropped(6, 3, 2, 6, 4), cropped(5, 2, 3, 7, 2)]), // crop beyond the kernel's reach
        make(1, 2, 2, 1, &[cropped(2, 9, 1, 4, 5)]), // taps whose every copy is cropped
        make(1, 2, 2, 1, &[Axis { dilation: 6, output_padding: 3, ..Axis::new(4, 3, 4) }]), // gcd 2
        make(3, 4, 40, 2, &[cropped(30, 16, 8, 4, 4)]), // more pixels than one block
        make(1, 3, 17, 1, &[Axis::new(2, 2, 2), Axis::new(3, 4, 2), Axis::new(5, 3, 2)]),
        make(1, 1, 1, 1, &[cropped(1, 1, 1, 0, 0)]),
        make(1, 3, 7, 1, &[cropped(3, 8, 4, 2, 1), cropped(19, 8, 4, 2, 2)]), // four phases side by side
        make(2, 4, 6, 2, &[cropped(3, 2, 1, 0, 0), cropped(31, 16, 8, 5, 12)]), // whole groups of phases cropped
        make(1, 2, 3, 1, &[cropped(4, 64, 32, 17, 33), cropped(5, 32, 32, 9, 9)]), // longer than any vector
        make(1, 5, 2, 1, &[Axis { output_padding: 3, ..cropped(40, 60, 20, 0, 7) }]), // no multiple of a vector
        make(1, 700, 1, 1, &[cropped(9, 64, 16, 3, 0)]),                              // several passes
        // A tap more in some phases than in others, by vectors: odd numbers of vectors of either kind, crops of whole positions, outputs
        // behind the last tap.
        make(2, 3, 3, 1, &[cropped(4, 3, 2, 1, 0), cropped(7, 90, 40, 33, 12)]),
        make(1, 9, 40, 1, &[Axis { output_padding: 4, ..cropped(5, 7, 5, 2, 0) }]),
        make(1, 5, 7, 1, &[Axis { output_padding: 2, ..cropped(6, 8, 3, 4, 0) }]),
        make(1, 20, 2, 1, &[cropped(9, 45, 20, 50, 3)]),
        // Deep enough for transforms: two and one taps, three and two, five of each of two residues, and a volume.
        make(2, 64, 34, 2, &[cropped(5, 3, 2, 0, 1), cropped(9, 4, 2, 1, 1)]),
        make(1, 33, 17, 1, &[cropped(4, 5, 2, 2, 1), Axis { dilation: 2, ..cropped(8, 5, 1, 4, 4) }]),
        make(1, 32, 3, 1, &[cropped(2, 2, 1, 0, 0), cropped(3, 4, 2, 1, 1), cropped(2, 6, 3, 2, 1)]),
        make(1, 256, 2, 1, &[cropped(16, 4, 2, 1, 1); 2]), // few tiles fit a block
        make(1, 600, 1, 1, &[cropped(400, 4, 2, 1, 1)]),   // packed rows beyond the caches
        make(1, 2, 3, 1, &[cropped(2, 1, 5, 1, 1)]),       // no tap meets an output
        // Sums beyond the level-1 cache; many phases side by side.
        make(
            1,
            7,
            5,
            1,
            &[Axis { dilation: 2, ..Axis::new(6, 3, 1) }, Axis { dilation: 2, ..Axis::new(56, 3, 1) }],
        ),
        make(1, 40, 1, 1, &[cropped(75, 20, 10, 3, 1)]),
        // Long enough for spectra: four taps with crops, seven in groups (channels first alone), stride 1 (channels last alone),
        // windows that no input reaches, and three taps in some phases where others have two.
        make(2, 18, 2, 1, &[cropped(40, 64, 16, 24, 25)]),
        make(1, 40, 6, 2, &[cropped(23, 61, 9, 3, 8)]),
        make(2, 34, 18, 2, &[cropped(30, 5, 1, 2, 1)]),
        make(1, 16, 3, 1, &[Axis { output_padding: 7, ..cropped(5, 90, 8, 0, 0) }]),
        make(0, 16, 3, 1, &[Axis::new(9, 37, 12)]),
        // Kernels that do not overlap: more tiles than channels, images that end within vectors; crops; groups; holes; one phase.
        make(3, 2, 20, 1, &[Axis::new(7, 2, 2), Axis::new(39, 2, 2)]),
        make(2, 9, 5, 1, &[cropped(5, 2, 2, 1, 1), cropped(37, 2, 2, 1, 2)]),
        make(1, 6, 6, 2, &[Axis::new(3, 4, 4), cropped(50, 4, 4, 3, 2)]),
        make(1, 3, 4, 1, &[Axis::new(3, 1, 3), Axis::new(21, 2, 2)]),
        make(1, 4, 9, 1, &[Axis::new(4, 2, 2), Axis::new(40, 1, 1)]),
        // Kernels that overlap along one axis, but not the last: windows of rows and of planes, crops of whole positions, positions
        // beyond the input, phases of unequally many taps, holes beside them.
        make(2, 5, 7, 1, &[cropped(6, 8, 4, 2, 2), Axis::new(21, 1, 1)]),
        make(1, 6, 8, 2, &[cropped(4, 3, 1, 1, 1), cropped(10, 2, 2, 1, 0)]),
        make(2, 3, 5, 1, &[cropped(3, 4, 2, 3, 1), Axis::new(3, 2, 2), Axis::new(11, 1, 2)]),
        make(
            1,
            4,
            3,
            1,
            &[Axis::new(3, 2, 3), Axis { output_padding: 1, ..cropped(2, 7, 2, 5, 0) }, Axis::new(9, 4, 4)],
        ),
        make(1, 40, 6, 1, &[Axis { output_padding: 2, ..Axis::new(1, 11, 4) }, cropped(33, 1, 1, 0, 0)]),
        // Several groups: of equal and unequal sizes, that end within vectors; two, one and unequal taps side by side; more than
        // a tile has; residues of a dilation; phases without taps; a volume; more channels than a packed vector holds.
        make(1, 24, 40, 8, &[cropped(4, 4, 2, 1, 1), cropped(37, 4, 2, 1, 1)]),
        make(2, 45, 18, 9, &[cropped(5, 3, 2, 1, 0), Axis { output_padding: 1, ..cropped(25, 3, 2, 1, 1) }]),
        make(1, 22, 33, 11, &[cropped(3, 9, 2, 4, 2), cropped(12, 9, 2, 3, 4)]),
        make(2, 12, 12, 2, &[Axis { dilation: 2, ..cropped(33, 5, 1, 3, 2) }]),
        make(1, 8, 28, 4, &[Axis { dilation: 6, output_padding: 3, ..cropped(9, 3, 4, 1, 2) }]),
        make(1, 10, 35, 5, &[cropped(2, 2, 2, 0, 0), cropped(3, 5, 3, 2, 1), cropped(11, 7, 3, 1, 3)]),
        make(1, 200, 6, 2, &[cropped(3, 1, 3, 0, 0), cropped(9, 4, 4, 1, 0)]),
        make(1, 6, 10, 2, &[cropped(700, 11, 5, 17, 3)]),
    ]
}

fn epilogues() -> [Epilogue; 8] {
    use Activation::*;
    [
        Epilogue::NONE,
        Epilogue::BIAS,
        Epilogue::BIAS.with(Relu),
        Epilogue::BIAS.with(LeakyRelu { slope: 0.25 }),
        Epilogue::NONE.with(Clamp { low: -3.0, high: 6.0 }),
        Epilogue::BIAS.with(Sigmoid),
        Epilogue::NONE.with(Tanh),
        Epilogue::NONE.with(Relu),
    ]
}

#[derive(Clone, Copy, PartialEq)]
enum Data {
    Integers,
    Reals,
}

/// A problem with data and the truth about it.
struct Case<T> {
    geometry: Geometry,
    epilogue: Epilogue,
    data: Data,
    x: Vec<T>,
    w: Vec<T>,
    b: Vec<T>,
    /// By flat output index.
    truth: Vec<Exact>,
}

impl<T: Element> Case<T> {
    fn new(problem: &Problem, epilogue: Epilogue, data: Data, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let geometry = Geometry::new(problem).unwrap();
        let mut values = |n| match data {
            Data::Integers => integers(&mut rng, n),
            Data::Reals => reals(&mut rng, n),
        };
        let (x, w) = (values(geometry.input_len()), values(geometry.weight_len()));
        let b = values(if epilogue.bias { problem.out_channels() } else { 0 });
        let mut case = Self { geometry, epilogue, data, x, w, b, truth: Vec::new() };
        case.find_truth();
        case
    }

    fn find_truth(&mut self) {
        let g = &self.geometry;
        let none = Exact { sum: f64::NAN, value: f64::NAN, magnitude: 0.0, products: 0 };
        let mut truth = vec![none; g.output_len()];
        let oracle = Oracle::new(g, self.weights(), self.epilogue);
        for (n, c, at) in outputs(g) {
            truth[g.output_at(n, c, at)] = oracle.at(T::tensor(&self.x), n, c, at);
        }
        self.truth = truth;
    }

    /// By flat output index.
    fn norms(&self) -> Vec<f64> {
        let g = &self.geometry;
        let norms = Norms::new(g, self.weights(), T::tensor(&self.x));
        let mut all = vec![f64::NAN; g.output_len()];
        for (n, c, at) in outputs(g) {
            all[g.output_at(n, c, at)] = norms.at(n, c, at);
        }
        all
    }

    fn weights(&self) -> Weights<'_> {
        let weights = Weights::new(&self.w);
        if self.epilogue.bias { weights.with_bias(&self.b) } else { weights }
    }

    fn plan(&self, kernel: &dyn Kernel, variant: &Variant, target: Target) -> Result<Plan<T>, Error> {
        let planner = any_accuracy().on(target).only(kernel.name(), Some(variant.name()));
        planner.plan(self.geometry.problem(), self.weights(), self.epilogue)
    }

    fn variants(&self, kernel: &dyn Kernel, target: Target) -> Vec<Variant> {
        let request = Request {
            geometry: &self.geometry,
            dtype: T::DTYPE,
            epilogue: self.epilogue,
            accuracy: Accuracy::Normwise,
            target,
            weights: Some(WeightFacts::scan(&self.geometry, T::tensor(&self.w)).unwrap()),
        };
        match kernel.supports(&request) {
            Ok(()) => kernel.variants(&request),
            Err(_) if SPECIALISED.contains(&kernel.name()) => Vec::new(),
            Err(declined) => panic!("{} declines: {declined} ({:?})", kernel.name(), self.geometry.problem()),
        }
    }

    /// A run into NaN with scratch full of NaN.
    fn run(&self, plan: &Plan<T>) -> Vec<T> {
        let mut output = vec![T::from_f64(f64::NAN); self.geometry.output_len()];
        let mut scratch = dirty_scratch(plan.scratch().units());
        plan.execute_with(&self.x, &mut output, &mut scratch).unwrap();
        output
    }

    fn check(&self, got: &[T], kernel: &dyn Kernel, context: &str) {
        let unit = T::DTYPE.unit_roundoff();
        // The oracle sums in f64, too.
        let own = if T::DTYPE == Dtype::F64 { 2.0 } else { 1.0 };
        let exact = self.data == Data::Integers
            && !self.epilogue.activation.is_transcendental()
            && kernel.guarantees().exactness == Exactness::Direct;
        let exactness = kernel.guarantees().exactness;
        let (growth, group_in) = (exactness.growth(), self.geometry.problem().group_in());
        let norms = if exactness.is_normwise() { self.norms() } else { Vec::new() };
        for (i, (got, truth)) in got.iter().zip(&self.truth).enumerate() {
            let truth = truth.held_to(exactness, group_in, || norms[i]);
            let allowed = if exact { 0.0 } else { own * growth * truth.bound(self.epilogue, unit) };
            let error = (got.to_f64() - truth.value).abs();
            assert!(
                error <= allowed,
                "{context} [{i}]: {got:?}, exact {}, allowed {allowed:e}\n{:?} {:?}",
                truth.value,
                self.geometry.problem(),
                self.epilogue
            );
        }
    }
}

/// Every kernel is allowed.
fn any_accuracy() -> Planner {
    Planner::new().accuracy(Accuracy::Normwise)
}

/// All bits set: NaN in every type.
fn dirty_scratch(units: usize) -> Vec<Bytes64> {
    let ones = vec![u8::MAX; units * 64];
    ones.chunks_exact(64).map(bytemuck::pod_read_unaligned).collect()
}

fn bits<T: Element>(values: &[T]) -> &[u8] {
    bytemuck::cast_slice(values)
}

/// Problems × layouts × epilogues × data, with a number to seed and to rotate by.
fn for_every_case<T: Element>(count: usize, mut visit: impl FnMut(usize, Case<T>)) {
    let all = special_problems().into_iter().chain(problems(5, count));
    for (i, problem) in all.enumerate() {
        for (l, layout) in Layout::ALL.into_iter().enumerate() {
            for (d, data) in [Data::Integers, Data::Reals].into_iter().enumerate() {
                let epilogue = epilogues()[(i + 3 * l + 5 * d) % 8];
                visit(i, Case::new(&problem.with_layout(layout), epilogue, data, i as u64));
            }
        }
    }
}

fn right_everywhere<T: Element>() {
    let isas = isas();
    for_every_case::<T>(150, |i, case| {
        for kernel in Registry::builtin().iter() {
            for &isa in &isas {
                for variant in case.variants(kernel, Target { isa, threads: 1 }) {
                    let mut first: Option<Vec<T>> = None;
                    for threads in THREADS {
                        let context = format!(
                            "{} {variant} {} {} threads, problem {i}",
                            kernel.name(),
                            isa.name(),
                            threads
                        );
                        let plan = case.plan(kernel, &variant, Target { isa, threads }).expect(&context);
                        let output = case.run(&plan);
                        case.check(&output, kernel, &context);
                        match &first {
                            None => first = Some(output),
                            Some(first) => assert_eq!(bits(first), bits(&output), "{context}: other bits"),
                        }
                    }
                }
            }
        }
    });
}

#[test]
fn every_kernel_is_right_everywhere_f32() {
    right_everywhere::<f32>();
}

#[test]
fn every_kernel_is_right_everywhere_f64() {
    right_everywhere::<f64>();
}

/// Whatever a kernel takes, it predicts a time for: a number, or the order of kernels is none.
#[test]
fn every_prediction_is_a_time() {
    let isas = isas();
    for problem in special_problems().into_iter().chain(problems(7, 100)) {
        for layout in Layout::ALL {
            let geometry = Geometry::new(&problem.with_layout(layout)).unwrap();
            for (&isa, threads) in isas.iter().flat_map(|isa| [(isa, 1), (isa, 2)]) {
                let request = Request {
                    geometry: &geometry,
                    dtype: Dtype::F32,
                    epilogue: Epilogue::BIAS,
                    accuracy: Accuracy::Normwise,
                    target: Target { isa, threads },
                    weights: None,
                };
                for kernel in Registry::builtin().iter() {
                    for (variant, cost) in kernel.candidates(&request).unwrap_or_default() {
                        let ns = cost.nanoseconds;
                        assert!(
                            ns.is_finite() && ns >= 0.0,
                            "{} {variant}: {ns} for {problem:?}",
                            kernel.name()
                        );
                    }
                }
            }
        }
    }
}

/// New weights in an old plan give what a new plan gives, to the bit.
#[test]
fn repack_is_a_new_plan() {
    let isa = *isas().last().unwrap();
    for_every_case::<f32>(40, |i, case| {
        for kernel in Registry::builtin().iter() {
            let target = Target { isa, threads: 2 };
            let variants = case.variants(kernel, target);
            let Some(variant) = variants.first() else { continue };
            let old = Case::<f32>::new(case.geometry.problem(), case.epilogue, Data::Reals, 1000 + i as u64);
            let mut plan = old.plan(kernel, variant, target).unwrap();
            plan.repack(case.weights()).unwrap();
            let expected = case.run(&case.plan(kernel, variant, target).unwrap());
            assert_eq!(bits(&case.run(&plan)), bits(&expected), "{}", kernel.name());
        }
    });
}

/// The pool that runs a plan changes neither scratch nor bits.
#[test]
fn any_pool_gives_the_same_bits() {
    let isa = *isas().last().unwrap();
    let pools = [1, 3, 5].map(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap());
    for_every_case::<f32>(20, |_, case| {
        for kernel in Registry::builtin().iter() {
            for threads in [2, 8] {
                let target = Target { isa, threads };
                let variants = case.variants(kernel, target);
                let Some(variant) = variants.first() else { continue };
                let plan = case.plan(kernel, variant, target).unwrap();
                let expected = case.run(&plan);
                for pool in &pools {
                    let output = pool.install(|| case.run(&plan));
                    assert_eq!(bits(&output), bits(&expected), "{}", kernel.name());
                }
            }
        }
    });
}

/// NaN and infinities of the input, and of the weights, end where the definition puts them, or the kernel says that it
/// does not promise it.
fn specials<T: Element>(in_weights: bool) {
    let isas = isas();
    let mut declined = 0;
    for_every_case::<T>(60, |i, mut case| {
        let mut rng = Rng::with_seed(i as u64);
        let values = if in_weights { &mut case.w } else { &mut case.x };
        if values.is_empty() {
            return;
        }
        for special in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0] {
            let at = rng.usize(0..values.len());
            values[at] = T::from_f64(special);
        }
        let finite = case.w.iter().all(|w| w.to_f64().is_finite());
        case.find_truth();
        for kernel in Registry::builtin().iter() {
            let promise = kernel.guarantees().specials;
            for &isa in &isas {
                let target = Target { isa, threads: 2 };
                if SPECIALISED.contains(&kernel.name()) && case.variants(kernel, target).is_empty() {
                    continue;
                }
                let planner = any_accuracy().on(target).only(kernel.name(), None);
                let plan = planner.plan::<T>(case.geometry.problem(), case.weights(), case.epilogue);
                if promise == Specials::DeclinesNonFiniteWeights && !finite {
                    assert!(matches!(plan, Err(Error::NoKernel { .. })), "{}", kernel.name());
                    declined += 1;
                    continue;
                }
                let plan = match plan {
                    Err(Error::NoKernel { .. }) if SPECIALISED.contains(&kernel.name()) => continue,
                    plan => plan.unwrap(),
                };
                let output = case.run(&plan);
                for (got, truth) in output.iter().zip(&case.truth) {
                    let (got, expected) = (got.to_f64(), truth.value);
                    let same = if expected.is_nan() {
                        got.is_nan()
                    } else if !truth.sum.is_finite() {
                        got == expected
                    } else {
                        got.is_finite()
                    };
                    let same = same || promise == Specials::MaySpread && !got.is_finite();
                    assert!(same, "{}: {got}, exact {truth:?} {:?}", kernel.name(), case.geometry.problem());
                }
            }
        }
    });
    assert_eq!(declined > 0, in_weights, "only weights are declined");
}

#[test]
fn specials_of_the_input_stay_where_they_belong() {
    specials::<f32>(false);
    specials::<f64>(false);
}

#[test]
fn specials_of_the_weights_stay_where_they_belong() {
    specials::<f32>(true);
    specials::<f64>(true);
}

/// A refused repack leaves the plan as it was.
#[test]
fn a_refused_repack_changes_nothing() {
    // A layer that almost every kernel takes, and one for which `depth-to-space` pads.
    for axes in [[Axis::new(5, 2, 2); 2], [Axis::new(5, 4, 2), Axis::new(5, 2, 2)]] {
        let problem = Problem::new(2, 3, 6, 3, &axes, Layout::Nchw).unwrap();
        refuses_what_it_must(&Case::<f32>::new(&problem, Epilogue::NONE, Data::Reals, 1));
    }
}

fn refuses_what_it_must(case: &Case<f32>) {
    let overlaps = case.geometry.problem().axes()[1].kernel > 2;
    let target = Target { isa: *isas().last().unwrap(), threads: 2 };
    for kernel in Registry::builtin().iter() {
        let Some(variant) = case.variants(kernel, target).into_iter().next() else { continue };
        let mut plan = case.plan(kernel, &variant, target).unwrap();
        let before = case.run(&plan);
        let bad = vec![f32::INFINITY; case.w.len()];
        let pads = overlaps && kernel.name() == "depth-to-space";
        if pads || kernel.guarantees().specials == Specials::DeclinesNonFiniteWeights {
            assert!(matches!(plan.repack(Weights::new(&bad)), Err(Error::NoKernel { .. })));
        }
        assert!(matches!(plan.repack(Weights::new(&bad[1..])), Err(Error::BufferLenMismatch { .. })));
        assert_eq!(bits(&case.run(&plan)), bits(&before), "{}", kernel.name());
    }
}

/// A stride is a number like any other: with one input it says nothing of the output.
#[test]
fn strides_beyond_all_bounds_are_answered() {
    let target = Target { isa: *isas().last().unwrap(), threads: 2 };
    for strides in [[1 << 32, 1 << 32, 1], [1 << 40, 1, 2], [1, 1 << 24, 1], [1, 1 << 40, 1 << 40]] {
        for layout in Layout::ALL {
            let axes = strides.map(|stride| Axis::new(1, 1, stride));
            let problem = Problem::new(1, 1, 1, 1, &axes, layout).unwrap();
            let case = Case::<f32>::new(&problem, Epilogue::BIAS, Data::Integers, 1);
            let plan =
                any_accuracy().on(target).plan::<f32>(&problem, case.weights(), case.epilogue).unwrap();
            assert_eq!(f64::from(case.run(&plan)[0]), case.truth[0].value, "{strides:?} {layout:?}");
        }
    }
}

/// Kernels that run out of memory decline with the number of bytes.
#[test]
fn memory_is_declined_with_the_number() {
    let axis = Axis::new(8192, 64, 1);
    let problem = Problem::new(1, 512, 512, 1, &[axis; 2], Layout::Nchw).unwrap();
    let target = Target { isa: isas()[0], threads: 1 };
    let verdicts = Planner::new().on(target).explain(&problem, Dtype::F32, Epilogue::NONE, None).unwrap();
    let reason = |name: &str| {
        let verdict = verdicts.iter().find(|v| v.kernel.name() == name).unwrap();
        verdict.answer.as_ref().err().map(|d| d.reason.clone())
    };
    let column = 4u128 * 512 * 64 * 64 * 8192 * 8192;
    assert!(
        reason("gemm-col2im").unwrap().contains(&format!("{column} bytes")),
        "{:?}",
        reason("gemm-col2im")
    );
    let entries = 512u128 * 512 * 64 * 64 * 8192 * 8192;
    assert!(reason("sparse-csr").unwrap().contains(&format!("{entries} non-zeros")));
    assert_eq!((reason("scatter"), reason("zero-insert")), (None, None));
}

/// Zero insertion knows what it wastes: every output pixel meets every tap, about ∏S times the useful products.
#[test]
fn zero_insertion_predicts_its_blow_up() {
    let axis = Axis { padding: (2, 2), ..Axis::new(64, 8, 4) };
    let problem = Problem::new(2, 6, 8, 2, &[axis; 2], Layout::Nchw).unwrap();
    let g = Geometry::new(&problem).unwrap();
    let verdicts = Planner::new().explain(&problem, Dtype::F32, Epilogue::NONE, None).unwrap();
    let done = |name: &str| {
        let verdict = verdicts.iter().find(|v| v.kernel.name() == name).unwrap();
        verdict.answer.as_ref().unwrap().1.multiply_adds
    };
    assert_eq!(done("zero-insert"), 2 * 6 * 4 * 64 * 256 * 256);
    assert_eq!((done("scatter"), done("sparse-csr")), (g.multiply_adds(), g.multiply_adds()));
    assert_eq!(done("gemm-col2im"), 2 * 6 * 4 * 64 * 64 * 64);
}
