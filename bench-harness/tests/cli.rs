//! The program as a user runs it: exit codes, messages, and that a wrong kernel is found.

use std::path::PathBuf;
use std::process::{Command, Output};

const TCONV: &str = env!("CARGO_BIN_EXE_tconv");

fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).env_remove("TCONV_REQUIRE_ISA").output().expect("the program starts")
}

fn tconv(args: &[&str]) -> (i32, String, String) {
    let output = run(TCONV, args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("no signal"), text(&output.stdout), text(&output.stderr))
}

/// A directory of its own for each test.
fn directory(name: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&directory).expect("the test directory can be made");
    directory
}

/// A set of one case: d2l 14.10.1, with `x` at the byte `x_offset`.
fn golden(name: &str, y_last: i32, x_offset: usize) -> PathBuf {
    let directory = directory(name);
    let mut data = vec![0u8, 1, 2, 3, 0, 1, 2, 3];
    for y in [0i32, 0, 1, 0, 4, 6, 4, 12, y_last] {
        data.extend(y.to_le_bytes());
    }
    let line = format!(
        r#"{{"id":"D1","kind":"int","n":1,"cin":1,"cout":1,"groups":1,"in":[2,2],"kernel":[2,2],"stride":[1,1],"pads_begin":[0,0],"pads_end":[0,0],"outpad":[0,0],"dilation":[1,1],"out":[3,3],"bias":false,"n_acc":4,"x":{{"off":{x_offset},"len":4,"dt":"i8"}},"w":{{"off":4,"len":4,"dt":"i8"}},"y":{{"off":8,"len":9,"dt":"i32"}}}}"#
    );
    std::fs::write(directory.join("index.jsonl"), line + "\n").expect("written");
    std::fs::write(directory.join("data.bin"), data).expect("written");
    directory
}

#[test]
fn help_and_usage() {
    assert_eq!(tconv(&["--help"]).0, 0);
    assert_eq!(tconv(&[]).0, 2);
    assert_eq!(tconv(&["verify", "--threads", "0"]).0, 2);
    let (code, _, error) = tconv(&["verify", "--isa", "avx1024"]);
    assert_eq!(code, 2);
    assert!(error.contains("avx1024") && error.contains("portable"), "{error}");
}

#[test]
fn unknown_names_get_the_nearest() {
    let (code, _, error) = tconv(&["verify", "-w", "pose_upp"]);
    assert_eq!(code, 2);
    assert!(error.contains("pose_up1"), "{error}");
    let (code, _, error) = tconv(&["describe", "unet_up9"]);
    assert_eq!(code, 2);
    assert!(error.contains("unet_up4"), "{error}");
    let (code, _, error) = tconv(&["verify", "-k", "scater", "-w", "d2l"]);
    assert_eq!(code, 2);
    assert!(error.contains("scatter"), "{error}");
    let (code, _, error) = tconv(&["describe", "f32:nchw:1x4x8x8:o4:k0x4"]);
    assert_eq!(code, 2);
    assert!(error.contains("kernel size on spatial axis 0"), "{error}");
}

#[test]
fn every_kernel_passes_a_small_verification() {
    let (code, text, error) = tconv(&["verify", "-w", "d2l", "--fuzz", "20"]);
    assert_eq!(code, 0, "{text}{error}");
    for isa in tconv::Isa::available() {
        if std::env::var(tconv::ISA_VARIABLE).is_ok_and(|name| name != isa.name()) {
            continue;
        }
        assert!(text.contains(isa.name()), "{text}");
    }
}

#[test]
fn lists_and_descriptions() {
    let (code, text, _) = tconv(&["list"]);
    assert_eq!(code, 0);
    assert!(text.contains("scatter") && text.contains("f32:nchw:1x256x32x24:o256:k4x4:s2x2:p1x1"), "{text}");
    let (code, text, _) = tconv(&["describe", "stylegan2_up"]);
    assert_eq!(code, 0);
    for words in
        ["512 channels, 65 × 65", "phases           2 × 2 of 1 × 1 to 2 × 2 taps", "checkerboard", "scatter"]
    {
        assert!(text.contains(words), "'{words}' is not in: {text}");
    }
    let (code, text, _) = tconv(&["describe", "pose_up3", "--json"]);
    assert_eq!(code, 0);
    let line: serde_json::Value = serde_json::from_str(&text).expect("one line of JSON");
    assert_eq!(line["facts"]["output"], serde_json::json!([64, 48]));
    assert_eq!(line["facts"]["uneven_overlap"], false);
    assert_eq!(line["facts"]["exceeds_memory"], false);
    let (code, text, _) = tconv(&["describe", "f32:nchw:1x4096x65536x65536:o4096:k2x2:s2x2"]);
    assert_eq!(code, 0);
    assert!(text.contains("too large        320.00 TiB for the tensors"), "{text}");
}

#[test]
fn a_conformance_set_is_checked_and_its_errors_are_named() {
    let good = golden("golden-good", 9, 0);
    let good = good.to_str().expect("UTF-8");
    let (code, text, error) = tconv(&["verify", "--golden", good]);
    assert_eq!(code, 0, "{text}{error}");
    let (code, _, error) = tconv(&["verify", "--golden", good, "--case", "D2"]);
    assert_eq!(code, 2);
    assert!(error.contains("D1"), "{error}");

    let (code, text, _) = tconv(&["verify", "--golden", good, "-k", "s", "--except", "^s"]);
    assert_eq!(code, 0);
    assert!(!text.contains("scatter") && text.contains("polyphase"), "{text}");
    let (code, _, error) = tconv(&["verify", "--golden", good, "-k", "scatter", "--except", "scatter"]);
    assert!(code == 2 && error.contains("leaves no kernel"), "{error}");

    let wrong = golden("golden-wrong", 10, 0);
    let (code, text, _) = tconv(&["verify", "--golden", wrong.to_str().expect("UTF-8"), "-k", "scatter"]);
    assert_eq!(code, 1);
    assert!(text.contains("1 of 9 outputs are wrong") && text.contains("position (2, 2)"), "{text}");
    // The line that ends the failure does it again.
    let command =
        text.lines().filter_map(|l| l.trim().strip_prefix("tconv verify")).next().expect("a command");
    let again = run("sh", &["-c", &format!("'{TCONV}' verify {command}")]);
    let text = String::from_utf8_lossy(&again.stdout);
    assert_eq!(again.status.code(), Some(1), "{text}");
    assert!(text.contains("1 of 9 outputs are wrong") && text.contains("1 cases in"), "{text}");

    let outside = golden("golden-outside", 9, 60);
    let (code, _, error) = tconv(&["verify", "--golden", outside.to_str().expect("UTF-8")]);
    assert_eq!(code, 2);
    assert!(
        error.contains("line 1") && error.contains("field 'x'") && error.contains("index.jsonl"),
        "{error}"
    );
}

#[test]
fn a_truncated_set_is_a_failure_of_the_environment() {
    let set = golden("golden-truncated", 9, 0);
    let path = set.to_str().expect("UTF-8");
    let data = std::fs::read(set.join("data.bin")).expect("there");
    std::fs::write(set.join("data.bin"), &data[..data.len() - 1]).expect("written");
    let (code, _, error) = tconv(&["verify", "--golden", path]);
    assert_eq!(code, 2);
    assert!(error.contains("field 'y'") && error.contains("data.bin"), "{error}");

    let index = std::fs::read_to_string(set.join("index.jsonl")).expect("there");
    std::fs::write(set.join("index.jsonl"), &index[..index.len() / 2]).expect("written");
    let (code, _, error) = tconv(&["verify", "--golden", path]);
    assert_eq!(code, 2);
    assert!(error.contains("line 1"), "{error}");
}

#[test]
fn a_required_instruction_set_must_have_run() {
    let verify = |required: &str| {
        Command::new(TCONV)
            .args(["verify", "-w", "d2l_basic", "-k", "scatter", "--isa", "portable"])
            .env("TCONV_REQUIRE_ISA", required)
            .output()
            .expect("the program starts")
            .status
            .code()
    };
    assert_eq!(verify("portable"), Some(0));
    assert_eq!(verify("avx512"), Some(2));
}

#[test]
fn records_are_json_lines() {
    let file = directory("records").join("verify.jsonl");
    let path = file.to_str().expect("UTF-8");
    let (code, text, _) = tconv(&["verify", "-w", "d2l_basic", "-k", "scatter", "--json", "-o", path]);
    assert_eq!(code, 0);
    assert_eq!(std::fs::read_to_string(&file).expect("written"), text);
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(line["failed"], 0);
        assert!(line["passed"].as_u64().expect("a count") > 0);
    }
}
