//! `tconv tune --verify-shipped`: a shipped choice that a new measurement does not bear out is told.

use std::path::PathBuf;
use std::process::Command;

use tconv::planning::choice::{Candidate, Line, Measured};
use tconv::{ChosenBy, Descriptor, Fingerprint, Planner, Target, Verdict};

/// As the library ships them.
const SHIPPED: &str = include_str!("../../kernels/src/planning/choice/shipped.jsonl");

struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn tune(args: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tconv"));
    let output = command.arg("tune").args(args).output().expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran {
        code: output.status.code().expect("no signal"),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

/// What every kernel answers to a layer, the planner's choice first.
fn explain(problem: &str) -> Vec<Verdict> {
    let d: Descriptor = problem.parse().expect("a problem");
    let target = Target::detect().expect("an instruction set").with_threads(1);
    Planner::new().on(target).explain(&d.problem, d.dtype, d.epilogue, None).expect("explained")
}

/// A layer that was shipped for this machine and that the planner chooses by; none on a machine of another kind.
fn shipped_here() -> Option<(Line, Vec<Verdict>)> {
    let isa = Target::detect().expect("an instruction set").isa.name();
    let lines = SHIPPED.lines().map(|line| serde_json::from_str::<Line>(line).expect("a line"));
    lines.filter(|l| l.machine == Fingerprint::here() && l.isa == isa && l.threads == 1).find_map(|line| {
        let verdicts = explain(&line.problem);
        let shipped = verdicts[0].estimate.as_ref().is_some_and(|e| e.source == ChosenBy::Shipped);
        shipped.then_some((line, verdicts))
    })
}

/// What a thorough measurement might have found: the first takes so long, all others 100 µs.
fn found(line: &Line, verdicts: &[Verdict], first_ns: f64) -> Line {
    let candidate = |(i, verdict): (usize, &Verdict)| {
        let kernel = verdict.kernel.name().to_owned();
        let ns = if i == 0 { first_ns } else { 1e5 };
        match &verdict.answer {
            Err(declined) => Candidate::Declined { kernel, declined: declined.reason.clone() },
            Ok((variant, _)) => Candidate::Measured(Measured {
                kernel,
                variant: variant.name().into(),
                revisions: [verdict.kernel.revisions().numerics, verdict.kernel.revisions().speed],
                ns: [ns, ns * 0.999, ns * 1.001],
                scratch_bytes: 0,
                deterministic: None,
                max_error_u: 1.0,
            }),
        }
    };
    let candidates = verdicts.iter().enumerate().map(candidate).collect();
    Line { effort: "patient".into(), candidates, ..line.clone() }
}

#[test]
fn shipped_choices_are_held_against_a_new_measurement() {
    let Some((line, verdicts)) = shipped_here() else {
        eprintln!("nothing is shipped for {}", Fingerprint::here());
        return;
    };
    let choices = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("verify-shipped.jsonl");
    let choices_argument = choices.to_str().expect("UTF-8");
    for (ns, code, words) in [
        (5e4, 0, "1 shipped choices checked, 0 do not hold".to_owned()),
        // Within what a shipped choice may lose.
        (1.05e5, 0, "1 shipped choices checked, 0 do not hold".to_owned()),
        (1.5e5, 1, format!("shipped {} takes 1.50 times as long as ", verdicts[0].kernel.name())),
    ] {
        let text = serde_json::to_string(&found(&line, &verdicts, ns)).expect("JSON") + "\n";
        std::fs::write(&choices, text).expect("written");
        let ran = tune(&[&line.problem, "--choices", choices_argument, "--verify-shipped"]);
        assert!(ran.err.contains("known"), "nothing is measured: {}", ran.err);
        assert!(ran.code == code && ran.out.contains(&words), "{ns}: {} {}{}", ran.code, ran.out, ran.err);
    }
}

/// A layer that nobody ships: measured, and nothing to check.
#[test]
fn a_layer_that_is_not_shipped_is_not_judged() {
    let choices = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("not-shipped.jsonl");
    let _ = std::fs::remove_file(&choices);
    let layer = "f32:nchw:1x3x5x7:o2:k3x2:s2x1:p1x0";
    let args = [layer, "--choices", choices.to_str().expect("UTF-8"), "--budget", "1", "--verify-shipped"];
    let ran = tune(&args);
    assert!(ran.code == 0 && ran.err.contains("measured"), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("0 shipped choices checked, 0 do not hold"), "{}", ran.out);
}
