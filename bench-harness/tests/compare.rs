//! `tconv compare` as a user meets it. No test asserts a time: the one slowdown here is tenfold.

use std::process::{Command, Output};

use tconv_bench::record::{Comparison, Record};
use tconv_bench::statistics::Verdict;

fn compare(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tconv"));
    command.arg("compare").args(args).output().expect("the program starts")
}

fn comparisons(output: &Output) -> Vec<Comparison> {
    let text = String::from_utf8_lossy(&output.stdout);
    let one = |line: &str| match serde_json::from_str(line) {
        Ok(Record::Comparison(comparison)) => *comparison,
        other => panic!("{line}: {other:?}"),
    };
    text.lines().map(one).collect()
}

#[test]
fn a_tenfold_slowdown_is_slower_and_the_other_way_round_faster() {
    let common = ["-w", "d2l_multi", "--budget", "1", "--json"];
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
    let output = compare(&["scatter", "depthwise", "-w", "d2l_multi|dla_up_dw", "--budget", "0.3", "--json"]);
    let all = comparisons(&output);
    assert!(all.len() >= 2, "{all:?}");
    assert!(all.iter().any(|c| c.problem.as_ref().is_some_and(|p| p.contains("declines"))), "{all:?}");
    let output = compare(&["scatter", "scatter", "-w", "^d2l_", "--budget", "0.3", "--json"]);
    let all = comparisons(&output);
    assert!(all.len() == 3 && all[2].workload.is_none() && all[2].rounds == 2, "{all:?}");
}

#[test]
fn unknown_kernels_get_the_nearest_name() {
    for args in [["scater", "scatter"], ["scatter", "scater+2%"]] {
        let output = compare(&args);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains("scater") && message.contains("nearest: scatter"), "{message}");
    }
}
