//! `tconv compare` as a user meets it. No test asserts a time: the one slowdown here is tenfold.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tconv_bench::cli::Failure;
use tconv_bench::record::{Comparison, Record};
use tconv_bench::runs::{self, RecordedRun};
use tconv_bench::statistics::Verdict;

fn compare(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tconv"));
    command.arg("compare").args(args).output().expect("the program starts")
}

/// Between a header and an end, the final ones.
fn comparisons(output: &Output) -> Vec<Comparison> {
    let text = String::from_utf8_lossy(&output.stdout);
    let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    let records: Vec<Record> = text.lines().map(read).collect();
    let [Record::Header(header), between @ .., Record::End(end)] = &records[..] else {
        panic!("{records:?}: {}", String::from_utf8_lossy(&output.stderr))
    };
    assert!(header.command.starts_with("tconv compare") && end.complete, "{header:?} {end:?}");
    let one = |record: &Record| match record {
        Record::Comparison(comparison) => (**comparison).clone(),
        other => panic!("{other:?}"),
    };
    let all: Vec<Comparison> = between.iter().map(one).collect();
    let (early, last): (Vec<_>, Vec<_>) = all.into_iter().partition(|comparison| comparison.provisional);
    let names = |all: &[Comparison]| all.iter().filter_map(|c| c.descriptor.clone()).collect::<Vec<_>>();
    assert_eq!(names(&early), names(&last), "each was written when it was known, and again in the end");
    last
}

/// A comparison of many layers, stopped by this signal when the first was measured: what it left in its file.
#[cfg(unix)]
fn stopped_by(signal: libc::c_int) -> RecordedRun {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("stopped-{signal}.jsonl"));
    let _ = std::fs::remove_file(&path);
    let mut child = Command::new(env!("CARGO_BIN_EXE_tconv"))
        .args(["compare", "scatter", "scatter", "--budget", "100000", "--ci", "90%", "-w", "", "-o"])
        .arg(&path)
        .stdout(Stdio::null())
        .spawn()
        .expect("the program starts");
    let written =
        || std::fs::read_to_string(&path).is_ok_and(|text| text.contains("\"record\":\"comparison\""));
    while !written() {
        assert_eq!(child.try_wait().expect("a child"), None, "it ended by itself");
        std::thread::sleep(Duration::from_millis(5));
    }
    // SAFETY: sends a signal to a child that is not waited for yet, which touches no memory of this process.
    assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, signal) }, 0);
    let status = child.wait().expect("a child");
    assert_eq!(status.code().is_none(), signal == libc::SIGKILL, "{status}");
    let mut runs = runs::read(&path).unwrap_or_else(|Failure(message)| panic!("{message}"));
    assert_eq!(runs.len(), 1);
    runs.remove(0)
}

#[cfg(unix)]
#[test]
fn an_interrupted_comparison_keeps_what_it_has() {
    let ended = stopped_by(libc::SIGINT);
    assert!(ended.end.is_some() && !ended.complete(), "{:?}", ended.end);
    assert!(!ended.comparisons.is_empty() && ended.comparisons.iter().all(|c| !c.provisional));
    let killed = stopped_by(libc::SIGKILL);
    assert!(killed.end.is_none());
    let first = &killed.comparisons[0];
    assert!(first.provisional && first.workload.is_some() && first.sittings.is_some(), "{first:?}");
}

#[test]
fn a_tenfold_slowdown_is_slower_and_the_other_way_round_faster() {
    let common = ["-w", "d2l_basic", "--budget", "30", "--json"];
    for (names, verdict, code) in
        [(["scatter", "scatter+900%"], Verdict::Slower, 1), (["scatter+900%", "scatter"], Verdict::Faster, 0)]
    {
        let output = compare(&[&names[..], &common].concat());
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
        let [comparison] = &comparisons(&output)[..] else { panic!("one line for one layer") };
        assert_eq!(comparison.verdict, verdict, "{comparison:?}");
        assert!(comparison.rounds > 0 && comparison.band >= 0.01, "{comparison:?}");
        assert!(comparison.sittings.is_some_and(|sittings| sittings >= 5), "{comparison:?}");
    }
}

#[test]
fn several_layers_have_a_mean_and_a_declined_one_says_why() {
    let output = compare(&[
        "scatter",
        "depthwise",
        "-w",
        "d2l_multi|dla_up_dw",
        "--budget",
        "60",
        "--ci",
        "90%",
        "--json",
    ]);
    let all = comparisons(&output);
    assert!(all.len() >= 2, "{all:?}");
    assert!(all.iter().any(|c| c.problem.as_ref().is_some_and(|p| p.contains("declines"))), "{all:?}");
    let output = compare(&["scatter", "scatter", "-w", "^d2l_", "--budget", "60", "--ci", "90%", "--json"]);
    let all = comparisons(&output);
    assert!(all.len() == 3 && all[2].workload.is_none() && all[2].rounds == 2, "{all:?}");
}

#[test]
fn unknown_names_get_the_nearest() {
    for (args, words) in [
        (["scater", "scatter"], "no kernel or peer matches 'scater'; nearest: scatter"),
        (["scatter", "scater+2%"], "nearest: scatter"),
        (["scatter", "onednn-3.2/sny"], "onednn-3.2/any"),
        (["bin:no/such/program", "scatter"], "no/such/program is no program"),
    ] {
        let output = compare(&args);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(words), "{words}: {message}");
    }
}

/// In a repository of its own, which holds a program of that name and nothing of this one.
#[test]
fn commits_are_built_beside_the_working_tree_and_unknown_ones_get_the_nearest_branch() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("compare-repository");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("made");
    let manifest = "[workspace]\n[package]\nname = \"tconv-bench\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
                    [[bin]]\nname = \"tconv\"\npath = \"main.rs\"\n";
    let lock = "version = 4\n\n[[package]]\nname = \"tconv-bench\"\nversion = \"0.1.0\"\n";
    let program = "fn main() {\n    eprintln!(\"too old to serve\");\n    std::process::exit(2)\n}\n";
    for (name, text) in [("Cargo.toml", manifest), ("Cargo.lock", lock), ("main.rs", program)] {
        std::fs::write(folder.join(name), text).expect("written");
    }
    let git = |args: &[&str]| {
        let identity = ["-c", "user.name=x", "-c", "user.email=x"];
        let output =
            Command::new("git").args(identity).args(args).current_dir(&folder).output().expect("git");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    git(&["init", "-q", "-b", "trunk"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "x"]);
    let compare = |reference: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tconv"));
        command.args(["compare", reference, "scatter", "-w", "d2l_basic", "--json"]);
        command.current_dir(&folder).env_remove("CARGO_TARGET_DIR").output().expect("it starts")
    };

    let output = compare("git:trnk");
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("no commit matches 'trnk'; nearest: trunk"), "{message}");

    // What is not committed is not built.
    std::fs::write(folder.join("main.rs"), "no program at all").expect("written");
    for _ in 0..2 {
        let output = compare("git:HEAD");
        let [comparison] = &comparisons(&output)[..] else { panic!("one line for one layer") };
        let problem = comparison.problem.as_deref().unwrap_or_default();
        assert!(
            problem.contains("git:HEAD crashed") && problem.contains("too old to serve"),
            "{comparison:?}"
        );
    }
    let commit = git(&["rev-parse", "HEAD"]);
    let built = folder.join("target/builds").join(commit.trim());
    assert!(
        built.join(format!("tconv{}", std::env::consts::EXE_SUFFIX)).is_file()
            && !built.join("source").exists()
    );
    assert_eq!(git(&["worktree", "list"]).lines().count(), 1);
}

#[test]
fn other_builds_are_asked_as_programs_and_so_is_the_kernel_beside_them() {
    let build = format!("bin:{}", env!("CARGO_BIN_EXE_tconv"));
    let common = ["-w", "d2l_basic", "--budget", "30", "--json"];
    for (names, options, verdict) in [
        (["scatter", build.as_str()], &["-k", "scatter+900%", "--layout", "nhwc"][..], Verdict::Slower),
        ([&build, "scatter"], &["-k", "scatter+900%", "--dtype", "f64", "--threads", "2"], Verdict::Faster),
    ] {
        let output = compare(&[&names[..], options, &common].concat());
        let [comparison] = &comparisons(&output)[..] else { panic!("one line for one layer") };
        assert_eq!(comparison.verdict, verdict, "{comparison:?}");
        assert!(
            comparison.first != build && comparison.second != build,
            "absolute paths stay out of results"
        );
    }
    let declining = ["scatter", &build, "-k", "depthwise", "-w", "d2l_multi", "--json"];
    let output = compare(&declining);
    let [comparison] = &comparisons(&output)[..] else { panic!("one line for one layer") };
    assert!(comparison.problem.as_ref().is_some_and(|p| p.contains("declines")), "{comparison:?}");
}

#[test]
fn a_program_that_is_no_build_is_told() {
    // It ends at once, and says nothing.
    let output = compare(&["scatter", "bin:/bin/true", "-w", "d2l_multi", "--json"]);
    let [comparison] = &comparisons(&output)[..] else { panic!("one line for one layer") };
    assert!(comparison.problem.as_ref().is_some_and(|p| p.contains("bin:true crashed")), "{comparison:?}");
}
