//! `tconv doctor` as a user meets it.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tconv_bench::machine::{Fingerprint, SHEET_SCHEMA, Sheet};

#[test]
fn the_machine_is_told_and_its_roofs_are_kept() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("doctor");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(folder.join("results")).expect("made");
    let doctor = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tconv"));
        let output = command.arg("doctor").args(args).current_dir(&folder).output().expect("it starts");
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let fingerprint = Fingerprint::capture().to_string();
    let text = doctor(&[]);
    for words in
        [fingerprint.as_str(), "instruction sets", "governor", "load", "steal", "peer onednn", "rustc"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!folder.join("results/machines").exists());

    let found: Value = serde_json::from_str(&doctor(&["--calibrate", "--noise", "--json"])).expect("JSON");
    assert_eq!(found["fingerprint"], fingerprint.as_str());
    let noise = found["noise"].as_array().expect("a list");
    assert_eq!(noise.len(), 2, "{found}");
    // Absent where a busy machine left too few rounds.
    let told: Vec<f64> = noise.iter().filter_map(|layer| layer["resolvable"].as_f64()).collect();
    assert!(told.iter().all(|&share| share >= 0.01), "{found}");
    let path = folder.join(format!("results/machines/{fingerprint}.json"));
    let sheet: Sheet =
        serde_json::from_str(&std::fs::read_to_string(path).expect("written")).expect("a sheet");
    assert_eq!(sheet.schema, SHEET_SCHEMA);
    assert_eq!(sheet.noise_floor.is_some(), !told.is_empty(), "{sheet:?}");
    // Every instruction set in both types, on one thread and, where there are more, on all.
    let counts = if found["usable_threads"] == 1 { 1 } else { 2 };
    assert_eq!(sheet.roofs.peaks.len(), sheet.machine.isas.len() * 2 * counts);
    assert!(sheet.roofs.peaks.iter().all(|p| p.gflops > 0.0), "{sheet:?}");
    assert_eq!(sheet.roofs.read.len(), (sheet.machine.caches.len() + 1) * counts);
}
