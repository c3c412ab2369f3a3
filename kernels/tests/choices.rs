//! Measured choices: which of them decide, what becomes of those that cannot be used, and pins.

use std::sync::OnceLock;

use tconv::planning::choice::{Candidate, Line, Measured, SCHEMA};
use tconv::{
    Accuracy, Choices, ChosenBy, Descriptor, Error, Fingerprint, Isa, Pin, Plan, Planner, Registry, Target,
    Verdict, Weights,
};

const LAYER: &str = "f32:nchw:1x32x16x16:o16:k4x4:s2x2:p1x1";
/// Half as many channels.
const SMALLER: &str = "f32:nchw:1x16x16x16:o8:k4x4:s2x2:p1x1";
const OTHER_KIND: &str = "f32:nchw:1x16x64:o8:k3";

fn descriptor(text: &str) -> Descriptor {
    text.parse().expect("a descriptor")
}

fn target(threads: usize) -> Target {
    Target::detect().expect("an instruction set").with_threads(threads)
}

/// A candidate as it is registered now, with an interval of ± 2 %.
fn timed(kernel: &str, problem: &str, ns: f64) -> Candidate {
    let now = Registry::builtin().get(kernel).expect("registered").revisions();
    let verdict = explain(&plain().only(kernel, None), problem).swap_remove(0);
    let (variant, cost) = verdict.answer.expect("it takes the layer");
    Candidate::Measured(Measured {
        kernel: kernel.into(),
        variant: variant.name().into(),
        revisions: [now.numerics, now.speed],
        ns: [ns, ns * 0.98, ns * 1.02],
        scratch_bytes: cost.scratch_bytes,
        deterministic: Some(true),
        max_error_u: 1.0,
    })
}

/// With all other kernels left out.
fn line(problem: &str, threads: usize, mut candidates: Vec<Candidate>) -> Line {
    for name in Registry::builtin().iter().map(|k| k.name()) {
        if !candidates.iter().any(|c| c.kernel() == name) {
            let (kernel, variant, skipped) = (name.into(), String::new(), "left out".into());
            candidates.push(Candidate::Skipped { kernel, variant, skipped });
        }
    }
    Line {
        schema: SCHEMA,
        machine: Fingerprint::here().into(),
        isa: target(1).isa.name().into(),
        threads,
        cache: "warm".into(),
        problem: problem.into(),
        effort: "patient".into(),
        candidates,
    }
}

fn json(lines: &[Line]) -> String {
    lines.iter().map(|l| serde_json::to_string(l).expect("JSON") + "\n").collect()
}

fn choices(lines: &[Line]) -> Choices {
    let choices = Choices::parse(json(lines).as_bytes());
    assert_eq!((choices.report().used, &choices.report().rejected[..]), (lines.len(), &[][..]));
    choices
}

/// Without any measurement.
fn plain() -> Planner {
    Planner::new().on(target(1)).shipped(false)
}

fn explain(planner: &Planner, problem: &str) -> Vec<Verdict> {
    let d = descriptor(problem);
    planner.explain(&d.problem, d.dtype, d.epilogue, None).expect("a verdict of each")
}

fn first(planner: &Planner, problem: &str) -> (&'static str, ChosenBy) {
    let verdicts = explain(planner, problem);
    (verdicts[0].kernel.name(), verdicts[0].estimate.expect("it agrees").source)
}

fn plan(planner: &Planner, problem: &str) -> Result<Plan<f32>, Error> {
    let d = descriptor(problem);
    let weights = vec![0.5f32; tconv::Geometry::new(&d.problem).expect("sizes").weight_len()];
    planner.plan(&d.problem, Weights::new(&weights), d.epilogue)
}

/// Candidates in an order that no model would give, and faster than any: the plain definition is the fastest.
fn upside_down() -> Vec<Candidate> {
    vec![timed("polyphase", LAYER, 9e3), timed("scatter", LAYER, 1e3), timed("gemm-col2im", LAYER, 5e3)]
}

#[test]
fn a_measured_layer_is_planned_as_it_was_measured() {
    let planner = plain().choices(choices(&[line(LAYER, 1, upside_down())]));
    let plan = plan(&planner, LAYER).expect("planned");
    let choice = plan.choice();
    assert_eq!((plan.name(), choice.by), ("scatter", ChosenBy::Measured));
    let estimate = choice.estimate;
    assert_eq!((estimate.nanoseconds, estimate.low, estimate.high), (1e3, 1e3 * 0.98, 1e3 * 1.02));

    // Measured ones first, in their order; then what was not measured.
    let names: Vec<_> = explain(&planner, LAYER).iter().map(|v| v.kernel.name()).take(3).collect();
    assert_eq!(names, ["scatter", "gemm-col2im", "polyphase"]);
    // The same sizes with a bias, and another number of images, are other problems.
    for other in [&format!("{LAYER}:bias"), &LAYER.replace(":1x32", ":2x32")] {
        assert_ne!(first(&planner, other).1, ChosenBy::Measured, "{other}");
    }
    assert_eq!(first(&plain(), LAYER).1, ChosenBy::CostModel);
    let named = plan_by(&planner.only("polyphase", None));
    assert_eq!(named, ("polyphase", ChosenBy::Caller));
}

fn plan_by(planner: &Planner) -> (&'static str, ChosenBy) {
    let plan = plan(planner, LAYER).expect("planned");
    (plan.name(), plan.choice().by)
}

#[test]
fn constraints_filter_at_query_time() {
    let lines = [line(LAYER, 1, vec![timed("gemm-col2im", LAYER, 1e4), timed("scatter", LAYER, 1e5)])];
    let planner = plain().choices(choices(&lines));
    assert_eq!(plan_by(&planner), ("gemm-col2im", ChosenBy::Measured));
    assert_eq!(plan_by(&planner.max_scratch(64)), ("scatter", ChosenBy::Measured));

    // A kernel whose bits were seen to differ is out where that matters, and says so.
    let mut lines = lines;
    let Candidate::Measured(gemm) = &mut lines[0].candidates[0] else { panic!("measured") };
    gemm.deterministic = Some(false);
    let planner = plain().choices(choices(&lines));
    assert_eq!(plan_by(&planner), ("gemm-col2im", ChosenBy::Measured));
    let strict = planner.deterministic(true);
    assert_eq!(plan_by(&strict), ("scatter", ChosenBy::Measured));
    let verdicts = explain(&strict, LAYER);
    let gemm = verdicts.iter().find(|v| v.kernel.name() == "gemm-col2im").expect("listed");
    assert!(gemm.answer.as_ref().unwrap_err().reason.contains("different bits"));
}

#[test]
fn ties_go_to_the_smaller_scratch() {
    // 1 % apart, with intervals of ± 2 %; then 10 % apart.
    for (ns, winner) in [(1.01e5, "scatter"), (1.1e5, "gemm-col2im")] {
        let candidates = vec![timed("gemm-col2im", LAYER, 1e5), timed("scatter", LAYER, ns)];
        let planner = plain().choices(choices(&[line(LAYER, 1, candidates)]));
        assert_eq!(plan_by(&planner), (winner, ChosenBy::Measured));
    }
}

/// One that declined may have learned to take the layer; nothing is known of it but its prediction.
#[test]
fn who_declined_may_win_by_prediction() {
    let slow = || vec![timed("scatter", LAYER, 1e12)];
    let by_time = plain().choices(choices(&[line(LAYER, 1, slow())]));
    assert_eq!(first(&by_time, LAYER), ("scatter", ChosenBy::Measured));
    let declined = Candidate::Declined { kernel: "polyphase".into(), declined: "dilation".into() };
    let open = plain().choices(choices(&[line(LAYER, 1, [slow(), vec![declined]].concat())]));
    let (kernel, by) = first(&open, LAYER);
    assert_eq!(kernel, "polyphase");
    assert_ne!(by, ChosenBy::Measured);
}

#[test]
fn other_rounding_voids_no_time() {
    let mut candidates = upside_down();
    for candidate in &mut candidates {
        if let Candidate::Measured(m) = candidate {
            m.revisions[0] += 1;
        }
    }
    let choices = choices(&[line(LAYER, 1, candidates)]);
    assert_eq!(choices.void(&Registry::builtin()), (0, 0));
    assert_eq!(first(&plain().choices(choices), LAYER), ("scatter", ChosenBy::Measured));
}

#[test]
fn a_new_revision_voids_its_own_candidate_alone() {
    let older = |kernel: &str| {
        let mut candidates = upside_down();
        for candidate in &mut candidates {
            if let Candidate::Measured(m) = candidate
                && m.kernel == kernel
            {
                m.revisions[1] += 1;
            }
        }
        choices(&[line(LAYER, 1, candidates)])
    };
    assert_eq!(older("polyphase").void(&Registry::builtin()), (1, 1));
    // A slower one of the line changed: the rest still decides.
    let planner = plain().choices(older("polyphase"));
    assert_eq!(first(&planner, LAYER), ("scatter", ChosenBy::Measured));
    // The fastest changed: nobody knows how fast it is now.
    let verdicts = explain(&plain().choices(older("scatter")), LAYER);
    let guess =
        |kernel: &str| verdicts.iter().find(|v| v.kernel.name() == kernel).unwrap().estimate.unwrap().source;
    assert_eq!(["scatter", "polyphase"].map(guess), [ChosenBy::CostModel, ChosenBy::Measured]);
}

#[test]
fn a_kernel_that_came_later_may_win_by_its_prediction() {
    let winner = first(&plain(), LAYER).0;
    let mut line = line(LAYER, 1, vec![timed("scatter", LAYER, 1e7)]);
    let with = |line: &Line| first(&plain().choices(choices(std::slice::from_ref(line))), LAYER);
    assert_eq!(with(&line), ("scatter", ChosenBy::Measured));
    line.candidates.retain(|c| c.kernel() != winner);
    assert_eq!(with(&line), (winner, ChosenBy::CostModel));
    // Not by a narrow lead, which may be an error of the model.
    let Candidate::Measured(scatter) = &mut line.candidates[0] else { panic!("measured") };
    let verdicts = explain(&plain(), LAYER);
    let predicted = verdicts[0].estimate.expect("it agrees").nanoseconds;
    scatter.ns = [predicted * 1.01; 3];
    assert_eq!(with(&line), ("scatter", ChosenBy::Measured));
}

#[test]
fn the_later_line_and_the_users_file_go_first() {
    let other = vec![timed("gemm-col2im", LAYER, 1e4), timed("scatter", LAYER, 1e5)];
    let text = json(&[line(LAYER, 1, upside_down()), line(LAYER, 1, other)]);
    let twice = Choices::parse(text.as_bytes());
    assert_eq!(twice.report().used, 1);
    assert_eq!(plan_by(&plain().choices(twice)), ("gemm-col2im", ChosenBy::Measured));
}

/// The whole way down: exact, nearest of its class, another number of threads, the model.
#[test]
fn what_was_measured_elsewhere_is_carried_over() {
    // On the smaller layer scatter is a thousand times faster than anybody would predict.
    let near =
        choices(&[line(SMALLER, 1, vec![timed("scatter", SMALLER, 1.0), timed("polyphase", SMALLER, 1e7)])]);
    let planner = plain().choices(near);
    let verdicts = explain(&planner, LAYER);
    let estimate = verdicts[0].estimate.expect("it agrees");
    assert_eq!((verdicts[0].kernel.name(), estimate.source), ("scatter", ChosenBy::Nearest));
    assert_eq!(estimate.like.expect("a neighbour").to_string(), SMALLER);
    assert!(estimate.low < estimate.nanoseconds && estimate.nanoseconds < estimate.high);
    // A layer of another kind does not speak for this one.
    assert_eq!(first(&planner, OTHER_KIND).1, ChosenBy::CostModel);
    assert_eq!(first(&planner, OTHER_KIND).0, first(&plain(), OTHER_KIND).0);

    let one_thread = plain().choices(choices(&[line(LAYER, 1, vec![timed("scatter", LAYER, 1.0)])]));
    assert_eq!(first(&one_thread.on(target(2)), LAYER), ("scatter", ChosenBy::OtherThreads));
}

/// Times of another kind of machine say who is fast, with less certainty, until this machine has its own.
#[test]
fn another_machine_speaks_where_this_one_has_nothing() {
    let fast = |kernel: &str, layer: &str| line(layer, 1, vec![timed(kernel, layer, 1.0)]);
    let elsewhere = choices(&[fast("scatter", LAYER)]).of_other_machine();
    let planner = plain().choices(elsewhere);
    let verdicts = explain(&planner, LAYER);
    let estimate = verdicts[0].estimate.expect("it agrees");
    assert_eq!((verdicts[0].kernel.name(), estimate.source), ("scatter", ChosenBy::OtherMachine));
    assert!(estimate.low < 1.0 && estimate.high > 1.0, "{estimate:?}");
    // A layer like it is carried over.
    let near = plain().choices(choices(&[fast("scatter", SMALLER)]).of_other_machine());
    assert_eq!(first(&near, LAYER), ("scatter", ChosenBy::OtherMachine));
    // This machine's own speak for themselves.
    let own = plain().choices(choices(&[fast("scatter", SMALLER)]));
    assert_eq!(first(&own, LAYER), ("scatter", ChosenBy::Nearest));
}

#[test]
fn lines_that_cannot_be_used_are_counted_and_told() {
    let good = line(LAYER, 1, upside_down());
    let text = |change: &dyn Fn(&mut Line)| {
        let mut line = good.clone();
        change(&mut line);
        json(&[line]).into_bytes()
    };
    let interval = |ns: [f64; 3]| {
        text(&move |l| {
            if let Candidate::Measured(m) = &mut l.candidates[0] {
                m.ns = ns;
            }
        })
    };
    let all: Vec<(Vec<u8>, &str)> = vec![
        (text(&|l| l.machine = "acme-1-2".into()), "measured on acme-1-2: this is"),
        (text(&|l| l.schema = 0), "schema 0 is older than 1"),
        (text(&|l| l.schema = 9), "schema 9 is newer than 1"),
        (text(&|l| l.isa = "mmx".into()), "instruction set 'mmx' is not available"),
        (text(&|l| l.cache = "cold".into()), "cache state 'cold'"),
        (text(&|l| l.problem = "f32:nchw:1x1".into()), "f32:nchw:1x1"),
        (text(&|l| l.candidates.clear()), "no candidate has a time"),
        (interval([1.0, 2.0, 3.0]), "'polyphase': the times [1.0, 2.0, 3.0] are no interval"),
        (interval([-1.0, -1.0, -1.0]), "are no interval"),
        (b"{\"schema\":1,\"machine\"\n".to_vec(), "no choice: EOF"),
        (b"tconv\n".to_vec(), "no choice"),
        (vec![0xff, 0xfe, b'\n'], "not UTF-8"),
    ];
    for (bytes, words) in &all {
        let report = Choices::parse(bytes).report().clone();
        assert_eq!((report.used, report.rejected.len()), (0, 1), "{words}: {report}");
        assert!(report.rejected[0].why.contains(words), "'{words}' is not in: {report}");
    }
    // None of them spoils the others, nor the plan.
    let mut bytes: Vec<u8> = all.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
    bytes.extend(json(std::slice::from_ref(&good)).into_bytes());
    let file = std::env::temp_dir().join(format!("tconv-choices-{}.jsonl", std::process::id()));
    std::fs::write(&file, &bytes).expect("written");
    let loaded = Choices::load(&file).expect("readable");
    std::fs::remove_file(&file).expect("removed");
    let report = loaded.report().to_string();
    assert!(report.starts_with(&format!("used 1, rejected {}: line 1: measured on", all.len())), "{report}");
    assert_eq!(plan_by(&plain().choices(loaded)), ("scatter", ChosenBy::Measured));

    let error = Choices::load("absent/choices.jsonl").unwrap_err().to_string();
    assert!(error.contains("absent/choices.jsonl"), "{error}");
    // Of many lines with one reason the first is named.
    let twice = [all[0].0.clone(), all[0].0.clone()].concat();
    let report = Choices::parse(&twice).report().to_string();
    assert!(report.contains("line 1 and 1 more: measured on"), "{report}");
}

#[test]
fn damaged_files_are_read_or_rejected() {
    let bytes =
        json(&[line(LAYER, 1, upside_down()), line(SMALLER, 1, vec![timed("scatter", SMALLER, 7.0)])])
            .into_bytes();
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..2000 {
        let mut damaged = bytes.clone();
        let at = random.usize(..bytes.len());
        if random.bool() {
            damaged.truncate(at);
        } else {
            damaged[at] = random.u8(..);
        }
        let choices = Choices::parse(&damaged);
        assert!(choices.report().used <= 2 && choices.report().rejected.len() <= 3);
        // Whatever was read, the planner still answers.
        assert!(explain(&plain().choices(choices), LAYER)[0].answer.is_ok());
    }
}

#[test]
fn kernels_and_variants_that_are_gone_do_not_decide() {
    let mut candidates = upside_down();
    for candidate in &mut candidates {
        if let Candidate::Measured(m) = candidate
            && m.kernel == "scatter"
        {
            m.kernel = "retired".into();
        }
    }
    let planner = plain().choices(choices(&[line(LAYER, 1, candidates)]));
    assert_eq!(first(&planner, LAYER), ("gemm-col2im", ChosenBy::Measured));
}

/// What was compiled in is of this schema, and every line of it can be used on its machine.
#[test]
fn shipped_choices_are_whole() {
    let text = include_str!("../src/planning/choice/shipped.jsonl");
    for (i, text) in text.lines().enumerate() {
        let line: Line = serde_json::from_str(text).unwrap_or_else(|e| panic!("line {}: {e}", i + 1));
        assert_eq!(line.schema, SCHEMA, "line {}", i + 1);
        if Isa::available().iter().any(|isa| isa.name() == line.isa) {
            let report = Choices::from_lines([&line]).report().clone();
            assert_eq!((report.used, report.rejected), (1, vec![]), "line {}", i + 1);
        }
    }
}

fn pin() -> &'static Pin {
    static PIN: OnceLock<Pin> = OnceLock::new();
    PIN.get_or_init(|| {
        let Candidate::Measured(m) = timed("polyphase", LAYER, 1.0) else { panic!("measured") };
        Pin {
            layer: "up",
            problem: LAYER,
            isa: target(1).isa.name(),
            threads: 2,
            kernel: "polyphase",
            variant: m.variant.leak(),
            numerics: m.revisions[0],
            speed: m.revisions[1],
        }
    })
}

fn plan_pin(pin: &Pin) -> Result<Plan<f32>, String> {
    let weights = vec![0.5f32; 32 * 16 * 4 * 4];
    pin.plan(Weights::new(&weights)).map_err(|e| e.to_string())
}

#[test]
fn pins_hold_or_say_why_not() {
    let pin = pin();
    let plan = plan_pin(pin).expect("planned");
    assert_eq!((plan.name(), plan.variant().name()), (pin.kernel, pin.variant));
    assert_eq!((plan.choice().by, plan.choice().warnings.len()), (ChosenBy::Pin, 0));

    let faster = plan_pin(&Pin { speed: pin.speed + 1, ..*pin }).expect("only a warning");
    let warning = &faster.choice().warnings[0];
    assert!(warning.contains("layer up") && warning.contains("another speed"), "{warning}");

    for (broken, words) in [
        (Pin { kernel: "retired", ..*pin }, "there is no kernel 'retired' any more"),
        (
            Pin { variant: "mmx-1x1", ..*pin },
            "kernel 'polyphase' has no variant 'mmx-1x1' any more (it has: ",
        ),
        (Pin { numerics: pin.numerics + 1, ..*pin }, "rounds otherwise now"),
        (Pin { isa: "mmx", ..*pin }, "mmx"),
        (Pin { problem: "f64:nchw:1x32x16x16:o16:k4x4", ..*pin }, "f64"),
    ] {
        let message = plan_pin(&broken).expect_err(words);
        assert!(message.contains(words), "'{words}' is not in: {message}");
    }
    // Whoever names a kernel accepts its accuracy.
    let long = "f32:nchw:1x32x64:o16:k64:s16";
    let registry = Registry::builtin();
    let kernel = registry.get("fft-overlap-save").expect("registered");
    let planner = plain().accuracy(Accuracy::Normwise).only(kernel.name(), None);
    let verdict = explain(&planner, long).swap_remove(0);
    let variant = verdict.answer.expect("it takes the layer").0.name().to_owned().leak();
    let tconv::Revisions { numerics, speed } = kernel.revisions();
    let normwise = Pin { problem: long, kernel: kernel.name(), variant, numerics, speed, ..*pin };
    let planned = normwise.plan::<f32>(Weights::new(&[0.5f32; 32 * 16 * 64])).expect("planned");
    assert_eq!(planned.name(), kernel.name());

    let declined = Pin { kernel: "depthwise", ..*pin };
    let now = Registry::builtin().get("depthwise").expect("registered").revisions();
    let message = plan_pin(&Pin { numerics: now.numerics, ..declined }).expect_err("it declines");
    assert!(message.starts_with("pinned layer up: "), "{message}");
}
