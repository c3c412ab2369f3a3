//! Choices from the command line: answered at once, measured, kept, written down, judged.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tconv::planning::choice::{Candidate, Line, Measured, SCHEMA};
use tconv::{ChosenBy, Descriptor, Fingerprint, Planner, Registry, Target};
use tconv_bench::choices::audit::judge;

const LAYER: &str = "ConvTranspose2d(16, 8, kernel_size=4, stride=2, padding=1)@1x16x8x8";
const DESCRIPTOR: &str = "f32:nchw:1x16x8x8:o8:k4x4:s2x2:p1x1:bias";

struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn tconv(args: &[&str]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_tconv")).args(args).output().expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran {
        code: output.status.code().expect("no signal"),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

/// A file of this test alone, not there yet.
fn file(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_file(&path);
    path.to_str().expect("UTF-8").to_owned()
}

fn json(ran: &Ran) -> Vec<Value> {
    assert_eq!(ran.code, 0, "{}", ran.err);
    ran.out.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

#[test]
fn a_pasted_layer_is_answered_at_once_and_by_measuring() {
    let choices = file("pasted.jsonl");
    let at_once = tconv(&["choose", LAYER, "--choices", &choices, "--without-shipped", "--explain"]);
    assert_eq!(at_once.code, 0, "{}", at_once.err);
    for words in [DESCRIPTOR, "pick", "model", "Without ", "depthwise declines: "] {
        assert!(at_once.out.contains(words), "'{words}' is not in: {}", at_once.out);
    }
    assert!(!std::fs::exists(&choices).expect("readable"), "nothing was measured");

    let args = ["choose", LAYER, "--choices", &choices, "--effort", "measure", "--budget", "1", "--json"];
    let measured = tconv(&args);
    let answer = &json(&measured)[0];
    assert!(measured.err.contains("[1/1] ConvTranspose2d: measured"), "{}", measured.err);
    let pick = &answer["pick"];
    assert_eq!((&answer["descriptor"], &pick["source"]), (&DESCRIPTOR.into(), &"measured here".into()));
    let [ns, low, high] = [0, 1, 2].map(|i| pick["ns"][i].as_f64().expect("a number"));
    assert!(0.0 < low && low <= ns && ns <= high, "{pick}");
    assert!(answer["without_it"]["factor"].as_f64().expect("a number") > 0.0);

    // It is known now; more thoroughness is not.
    let again = tconv(&args);
    assert_eq!((&json(&again)[0]["pick"], again.err.contains("known")), (pick, true), "{}", again.err);
    let kept = std::fs::read_to_string(&choices).expect("written");
    let line: Line = serde_json::from_str(kept.trim()).expect("one line");
    assert_eq!((line.effort.as_str(), line.problem.as_str()), ("measure", DESCRIPTOR));
    assert_eq!(line.measured().count(), 3);
    // Those that could be chosen were run twice.
    let looked_at: Vec<_> = line.measured().map(|m| m.deterministic).collect();
    assert!(looked_at[0] == Some(true) && !looked_at.contains(&Some(false)), "{looked_at:?}");
    assert_eq!(line.candidates.len(), Registry::builtin().iter().count());
    let patient = tconv(&["tune", DESCRIPTOR, "--choices", &choices, "--effort", "patient", "--budget", "1"]);
    assert!(patient.code == 0 && patient.err.contains("measured"), "{}", patient.err);
    let kept = std::fs::read_to_string(&choices).expect("written");
    assert!(kept.lines().count() == 1 && kept.contains("\"effort\":\"patient\""), "{kept}");
}

#[test]
fn constraints_decide() {
    let choose = |more: &[&str]| {
        let base = ["choose", "unet_up4", "--json", "--choices", "absent.jsonl"];
        let ran = tconv(&[&base[..], more].concat());
        json(&ran).remove(0)
    };
    let declined = |answer: &Value, words: &str| {
        let all = answer["declined"].as_array().expect("a list");
        all.iter().any(|d| d["declined"].as_str().is_some_and(|why| why.contains(words)))
    };
    let small = choose(&["--max-scratch", "0"]);
    assert_eq!(small["pick"]["scratch_bytes"], 0);
    assert!(declined(&small, "bytes of scratch: 0 are allowed"));
    let other = choose(&["--layout", "nhwc", "--threads", "2", "--deterministic", "--accuracy", "strict"]);
    assert_eq!(other["threads"], 2);
    assert!(other["descriptor"].as_str().is_some_and(|d| d.starts_with("f32:nhwc:")));
}

/// As PyTorch exports them (scripts/export-generators.py).
#[test]
fn every_exported_generator_is_answered() {
    for (name, layers) in [("dcgan", 5), ("unet", 4), ("pix2pix", 8), ("hifigan", 4)] {
        let model = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/onnx/{name}.onnx"));
        let model = model.to_str().expect("UTF-8");
        let ran =
            tconv(&["choose", "--model", model, "--dim", "batch=2", "--choices", "absent.jsonl", "--json"]);
        let answers = json(&ran);
        assert_eq!(answers.len(), layers, "{name}");
        for answer in answers {
            let descriptor = answer["descriptor"].as_str().expect("a text");
            assert!(descriptor.starts_with("f32:nchw:2x"), "{name}: {descriptor}");
            assert!(answer["pick"]["kernel"].is_string(), "{name}: {answer}");
        }
    }
}

#[test]
fn models_are_answered_and_written_down() {
    let model = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx/unet.onnx");
    let model = model.to_str().expect("UTF-8");
    let choose = |more: &[&str]| {
        tconv(
            &[&["choose", "--model", model, "--dim", "batch=1", "--choices", "absent.jsonl"], more].concat(),
        )
    };
    let table = choose(&[]);
    assert!(table.code == 0 && table.out.contains("4 layers: together"), "{}{}", table.out, table.err);
    let rust = choose(&["--emit", "rust"]).out;
    for words in ["pub const UP1_UP_CONVTRANSPOSE: Pin = Pin {", "pub const ALL: [&Pin; 4]", "    numerics: "]
    {
        assert!(rust.contains(words), "'{words}' is not in: {rust}");
    }
    let json: Value = serde_json::from_str(&choose(&["--emit", "json"]).out).expect("JSON");
    assert_eq!(json["layers"][3]["problem"], "f32:nchw:1x128x128x128:o64:k2x2:s2x2:bias");
    assert_eq!(json["machine"], Fingerprint::here());
    let lacking = tconv(&["choose", "--model", model]);
    assert!(lacking.code == 2 && lacking.err.contains("unresolved sizes: batch"), "{}", lacking.err);
    assert_eq!(tconv(&["choose"]).code, 2);
}

#[test]
fn a_damaged_database_is_told_and_kept() {
    let choices = file("damaged.jsonl");
    std::fs::write(&choices, "{\"schema\":0}\nnonsense\n").expect("written");
    let ran = tconv(&["choose", DESCRIPTOR, "--choices", &choices]);
    assert!(
        ran.code == 0 && ran.err.contains("used 0, rejected 2: line 1: schema 0 is older"),
        "{}",
        ran.err
    );
    let ran = tconv(&["tune", DESCRIPTOR, "--choices", &choices, "--budget", "0.5"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let kept = std::fs::read_to_string(&choices).expect("there");
    assert!(kept.starts_with("{\"schema\":0}\nnonsense\n{\"schema\":1,"), "{kept}");
}

#[test]
fn times_of_older_kernels_are_told() {
    let choices = file("older.jsonl");
    let mut line = line(DESCRIPTOR, &[("polyphase", 1e3), ("scatter", 2e3)]);
    line.machine = Fingerprint::here().into();
    let told = |line: &Line| {
        std::fs::write(&choices, serde_json::to_string(line).expect("JSON")).expect("written");
        let ran = tconv(&["choose", DESCRIPTOR, "--choices", &choices]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.err.contains("1 times of 1 layers are void")
    };
    assert!(!told(&line));
    let Candidate::Measured(first) = &mut line.candidates[0] else { panic!("measured") };
    first.revisions[1] += 1;
    assert!(told(&line));
}

fn line(problem: &str, times: &[(&str, f64)]) -> Line {
    let d: Descriptor = problem.parse().expect("a descriptor");
    let target = Target::detect().expect("an instruction set").with_threads(1);
    let verdicts = Planner::new().on(target).explain(&d.problem, d.dtype, d.epilogue, None).expect("legal");
    let measured = |&(kernel, ns): &(&str, f64)| {
        let now = Registry::builtin().get(kernel).expect("registered").revisions();
        let verdict = verdicts.iter().find(|v| v.kernel.name() == kernel).expect("registered");
        let (variant, _) = verdict.answer.as_ref().expect("it takes the problem");
        Candidate::Measured(Measured {
            kernel: kernel.into(),
            variant: variant.name().into(),
            revisions: [now.numerics, now.speed],
            ns: [ns, ns * 0.99, ns * 1.01],
            scratch_bytes: 0,
            deterministic: None,
            max_error_u: 1.0,
        })
    };
    Line {
        schema: SCHEMA,
        machine: "acme".into(),
        isa: target.isa.name().into(),
        threads: 1,
        cache: "warm".into(),
        problem: problem.into(),
        effort: "patient".into(),
        candidates: times.iter().map(measured).collect(),
    }
}

/// Judged by others alone: not by the layer itself, nor by the same sizes in another layout.
#[test]
fn audits_leave_the_layer_out() {
    let judged =
        [line("f32:nchw:1x32x16x16:o16:k4x4:s2x2:p1x1", &[("polyphase", 100.0), ("scatter", 150.0)])];
    let itself = line("f32:nhwc:1x32x16x16:o16:k4x4:s2x2:p1x1", &[("polyphase", 1e9), ("scatter", 1.0)]);
    let near = line("f32:nchw:1x16x16x16:o8:k4x4:s2x2:p1x1", &[("polyphase", 1e7), ("scatter", 1.0)]);
    let registry = Registry::builtin();
    let blind = judge(&judged, &[&judged[0], &itself], &registry).expect("judged");
    assert_eq!((blind[0].source, blind[0].best.as_str()), (ChosenBy::CostModel, "polyphase"));
    assert_eq!((blind[0].pick.as_str(), blind[0].regret), ("polyphase", 0.0));
    // The neighbour misleads: that is what regret is.
    let misled = judge(&judged, &[&judged[0], &itself, &near], &registry).expect("judged");
    assert_eq!((misled[0].pick.as_str(), misled[0].source), ("scatter", ChosenBy::Nearest));
    assert!((misled[0].regret - 0.5).abs() < 1e-12, "{misled:?}");
}
