//! `tconv measure`, and what reads its files: `rank FILE…` and `merge`, as a user meets them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tconv_bench::record::{Outcome, Record};

fn tconv(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tconv")).args(args).current_dir(folder).output().expect("it starts")
}

/// Standard output of a command that must succeed.
fn good(folder: &Path, args: &[&str]) -> String {
    let output = tconv(folder, args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A folder of its own for each test, empty.
fn fresh(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("measure-{name}"));
    let _ = std::fs::remove_dir_all(&path);
    // Or those of the repository would be found, further up.
    std::fs::create_dir_all(path.join("results")).expect("made");
    path
}

fn records(text: &str) -> Vec<Record> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// Rounds end as soon as they may, long before the budget does.
const QUICK: [&str; 7] = ["measure", "-k", "^(scatter|polyphase)$", "--budget", "60", "--ci", "90%"];

#[test]
fn every_setting_is_measured_into_a_file_of_its_own_name() {
    let folder = fresh("settings");
    // To empty the caches of a large machine takes as long as thousands of runs: few settings of that kind, or none of them is
    // measured within the budget.
    let warm = ["--layout", "nchw,nhwc", "--threads", "1,2"];
    let others = ["--layout", "nhwc", "--threads", "2", "--cache", "cold,weights"];
    let mut seen = Vec::new();
    let mut measure = |settings: &[&str], threads: &[usize], title: &str| {
        let shown = good(&folder, &[&QUICK[..], &["-w", "^d2l_basic$"], settings].concat());
        assert!(shown.contains(title), "{title}: {shown}");
        let path = folder.join(shown.lines().last().expect("the file is named"));
        assert!(path.starts_with(folder.join("results/runs")) && path.extension().is_some(), "{path:?}");
        let records = records(&std::fs::read_to_string(&path).expect("written"));
        let Record::Header(header) = &records[0] else { panic!("{:?}", records[0]) };
        assert_eq!(header.roofs.peaks.iter().map(|p| p.threads).collect::<Vec<_>>(), threads);
        for record in &records[1..records.len() - 1] {
            let Record::Measurement(m) = record else { panic!("{record:?}") };
            let Outcome::Figures(f) = &m.outcome else { panic!("{m:?}") };
            assert!(
                f.verified && f.one_shot_ns.is_some_and(|ns| ns > 0.0) && !f.rounds_ns.is_empty(),
                "{m:?}"
            );
            seen.push((m.kernel.clone(), m.layout.clone(), m.threads, m.cache.clone()));
        }
        (shown, path)
    };
    let (shown, path) = measure(&warm, &[1, 2], "NCHW, f32, 1 thread, warm caches");
    measure(&others, &[2], "NHWC, f32, 2 threads, weights out of the caches");
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 2 * (2 * 2 + 2), "{seen:?}");

    // The same tables come from the file, and a choice of them.
    let file = path.to_str().unwrap();
    let read = good(&folder, &["rank", file]);
    assert!(shown.starts_with(&read), "{read}\n---\n{shown}");
    let one = good(&folder, &["rank", file, "-k", "scatter"]);
    assert!(one.contains("scatter") && !one.contains("polyphase"), "{one}");
}

#[test]
fn parts_are_merged_once_and_gaps_are_named() {
    let folder = fresh("shards");
    for part in ["1/3", "3/3"] {
        let name = format!("{}.jsonl", &part[..1]);
        let args = ["-w", "^d2l_|^dla_up_dw$", "--shard", part, "-o", &name];
        good(&folder, &[&QUICK[..], &args].concat());
    }
    let merge = |files: &[&str]| good(&folder, &[&["merge"][..], files, &["-o", "all.jsonl"]].concat());
    let read = || std::fs::read_to_string(folder.join("all.jsonl")).expect("written");
    let told = merge(&["3.jsonl", "1.jsonl"]);
    assert!(told.contains("2 runs") && told.contains("part 2/3 of the workloads is missing"), "{told}");
    let first = read();
    let told = merge(&["all.jsonl", "1.jsonl", "3.jsonl"]);
    assert!(told.contains("2 more were there twice"), "{told}");
    assert_eq!(read(), first, "merging again changes nothing");
    let shown = good(&folder, &["rank", "all.jsonl"]);
    assert!(shown.contains("d2l_basic") && shown.contains("dla_up_dw"), "{shown}");
    assert!(!shown.contains("d2l_multi"), "it belongs to the part that is missing: {shown}");
}

#[test]
fn what_was_measured_is_never_spoilt() {
    let folder = fresh("spoilt");
    let path = folder.join("run.jsonl");
    good(&folder, &[&QUICK[..], &["-w", "d2l_basic", "-o", "run.jsonl"]].concat());
    let whole = std::fs::read_to_string(&path).expect("written");
    let output = tconv(&folder, &[&QUICK[..], &["-w", "d2l_basic", "-o", "run.jsonl"]].concat());
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && message.contains("run.jsonl is there already"), "{message}");
    assert_eq!(std::fs::read_to_string(&path).expect("still there"), whole);

    // A run that was killed while it wrote.
    let cut = folder.join("cut.jsonl");
    std::fs::write(&cut, &whole[..whole.len() - 40]).expect("written");
    for command in [
        &["rank", "cut.jsonl"][..],
        &["report", "cut.jsonl", "-o", "page"],
        &["merge", "cut.jsonl", "-o", "m"],
    ] {
        let output = tconv(&folder, command);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{command:?}: {message}");
        assert!(message.contains("cut.jsonl:4: the line is cut off"), "{command:?}: {message}");
    }
    assert_eq!(records(&std::fs::read_to_string(folder.join("m")).expect("written")).len(), 3);
}

#[test]
fn bad_usage_is_named_before_anything_is_measured() {
    let folder = fresh("usage");
    std::fs::write(folder.join("empty.jsonl"), "").expect("written");
    for (args, words) in [
        (&["measure", "-w", "pose_upp3"][..], "pose_up3"),
        (&["measure", "-k", "polyphse"], "polyphase"),
        (&["measure", "--cache", "hot"], "warm, weights or cold"),
        (&["measure", "--threads", "1,0"], "threads"),
        (&["measure", "--ci", "0"], "a share"),
        (&["measure", "--shard", "3/2"], "2/4"),
        (&["measure", "--peers", "onednnn"], "nearest"),
        (&["rank", "no-such.jsonl"], "no-such.jsonl"),
        (&["rank", "empty.jsonl"], "empty.jsonl:1"),
        (&["rank", "empty.jsonl", "--threads", "2"], "cannot be used with"),
        (&["merge", "empty.jsonl", "-o", "m"], "empty.jsonl:1"),
    ] {
        let output = tconv(&folder, args);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {message}");
        assert!(message.contains(words), "{args:?}: {message}");
    }
    assert!(!folder.join("results/runs").exists());
}
