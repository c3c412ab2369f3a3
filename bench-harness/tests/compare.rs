//! `tconv compare` as a user meets it. No test asserts a time: the one slowdown here is tenfold.

use std::process::{Command, Output};

use tconv_bench::record::{Comparison, Record};
use tconv_bench::statistics::Verdict;

fn compare(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tconv"));
    command.arg("compare").args(args).output().expect("the program starts")
}

/// Between a header and an end.
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
    between.iter().map(one).collect()
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

/// In a repository of its own: a test may run where there is none.
#[test]
fn an_unknown_commit_gets_the_nearest_branch() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("compare-repository");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("made");
    let identity = ["-c", "user.name=x", "-c", "user.email=x"];
    for args in [&["init", "-q", "-b", "trunk"][..], &["commit", "-q", "--allow-empty", "-m", "x"]] {
        let status = Command::new("git").args(identity).args(args).current_dir(&folder).status();
        assert!(status.expect("git").success(), "{args:?}");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_tconv"));
    let output = command.args(["compare", "git:trnk", "scatter"]).current_dir(&folder).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(2) && message.contains("no commit matches 'trnk'; nearest: trunk"),
        "{message}"
    );
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
