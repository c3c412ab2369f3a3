//! What `tconv choose --emit rust` writes is a module that compiles: the one in `data/pins.rs` is that text, and this test is
//! the program that holds it.

use std::path::{Path, PathBuf};
use std::process::Command;

use expect_test::expect_file;
use tconv::planning::choice::{Candidate, Line, Measured, SCHEMA};
use tconv::{
    ChosenBy, Descriptor, Dtype, Error, Fingerprint, Geometry, Oracle, Pin, Registry, Tensor, Weights,
};

#[path = "data/pins.rs"]
mod pins;

/// What every machine has, so that the module is the same everywhere.
const ISA: &str = "portable";
/// The layers of the model and the kernels that a database recommends for them, with their variants.
const CHOSEN: [(&str, &str, &str); 2] = [
    ("f32:nchw:1x24x8x8:o24:k2x2:s2x2", "scatter", "plain"),
    ("f32:nchw:1x24x16x16:o1:k2x2:s2x2", "gemm-col2im", "column"),
];

fn line((problem, kernel, variant): (&str, &str, &str)) -> Line {
    let now = Registry::builtin().get(kernel).expect("registered").revisions();
    Line {
        schema: SCHEMA,
        machine: Fingerprint::here().to_string(),
        isa: ISA.into(),
        threads: 1,
        cache: "warm".into(),
        problem: problem.into(),
        effort: "patient".into(),
        // No prediction is that quick.
        candidates: vec![Candidate::Measured(Measured {
            kernel: kernel.into(),
            variant: variant.into(),
            revisions: [now.numerics, now.speed],
            ns: [1.0, 1.0, 1.0],
            scratch_bytes: 0,
            deterministic: None,
            max_error_u: 1.0,
        })],
    }
}

/// `UPDATE_EXPECT=1` writes the module again, where a revision has grown.
#[test]
fn the_module_is_what_the_program_writes() {
    let choices = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("pins.jsonl");
    let lines: Vec<String> =
        CHOSEN.iter().map(|&c| serde_json::to_string(&line(c)).expect("serialises") + "\n").collect();
    std::fs::write(&choices, lines.concat()).expect("written");
    let model =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data/ppocr-v4-det-head.onnx").canonicalize();
    let output = Command::new(env!("CARGO_BIN_EXE_tconv"))
        .args(["choose", "--emit", "rust", "--model"])
        .arg(model.expect("there"))
        .arg("--choices")
        .arg(choices)
        .env("TCONV_ISA", ISA)
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let text = text.replace(&Fingerprint::here().to_string(), "a machine");
    expect_file!["data/pins.rs"].assert_eq(&text);
}

fn floats(len: usize, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| random.f32() * 2.0 - 1.0).collect()
}

#[test]
fn its_pins_plan_and_run() {
    assert_eq!(pins::ALL, [&pins::P2O_CONVTRANSPOSE_0, &pins::P2O_CONVTRANSPOSE_2]);
    for (pin, (problem, kernel, variant)) in pins::ALL.into_iter().zip(CHOSEN) {
        assert_eq!((pin.problem, pin.isa, pin.threads), (problem, ISA, 1));
        let descriptor: Descriptor = pin.problem.parse().expect("a problem");
        let geometry = Geometry::new(&descriptor.problem).expect("a problem");
        let (input, kernel_values) = (floats(geometry.input_len(), 1), floats(geometry.weight_len(), 2));
        let weights = Weights::new(&kernel_values);
        let plan = pin.plan::<f32>(weights).expect(pin.layer);
        assert_eq!((plan.name(), plan.variant().name(), plan.choice().by), (kernel, variant, ChosenBy::Pin));
        assert!(plan.choice().warnings.is_empty(), "{:?}", plan.choice());

        let mut output = vec![f32::NAN; geometry.output_len()];
        plan.execute(&input, &mut output).expect("lengths come from the plan");
        let oracle = Oracle::new(&geometry, weights, descriptor.epilogue);
        let corner = oracle.at(Tensor::F32(&input), 0, 0, [0; 3]);
        let bound = corner.bound(descriptor.epilogue, Dtype::F32.unit_roundoff());
        assert!((f64::from(output[0]) - corner.value).abs() <= bound, "{} {corner:?}", output[0]);
        assert!(output.iter().all(|y| y.is_finite()));
    }
}

/// What becomes of a program whose pins were made for another release.
#[test]
fn a_pin_of_another_release_fails_clearly_or_warns() {
    let now = pins::P2O_CONVTRANSPOSE_0;
    let values = floats(24 * 24 * 4, 3);
    let plan = |pin: Pin| pin.plan::<f32>(Weights::new(&values));
    for (pin, words) in [
        (Pin { kernel: "scatter-of-old", ..now }, "there is no kernel 'scatter-of-old' any more"),
        (
            Pin { variant: "plainer", ..now },
            "kernel 'scatter' has no variant 'plainer' any more (it has: plain)",
        ),
        (
            Pin { numerics: now.numerics + 1, ..now },
            "kernel 'scatter' rounds otherwise now: numerics revision",
        ),
    ] {
        let error = plan(pin).expect_err(words);
        assert!(matches!(error, Error::PinBroken { .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.contains(words) && message.contains(now.layer), "'{words}' is not in: {message}");
    }
    let slower = plan(Pin { speed: now.speed + 1, ..now }).expect("it plans all the same");
    let [warning] = &slower.choice().warnings[..] else { panic!("{:?}", slower.choice()) };
    assert!(warning.contains(now.layer) && warning.contains("another speed now"), "{warning}");
}
