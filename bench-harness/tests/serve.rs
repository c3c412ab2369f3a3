//! `tconv serve` answers every request with one line, whatever it is asked.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use tconv::{Descriptor, Geometry};
use tconv_bench::peers::protocol::{Files, PROTOCOL, Prepare, Reply, Request};

/// All replies to these lines.
fn serve(kernel: &str, lines: &[String]) -> Vec<Reply> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tconv"))
        .args(["serve", "--kernel", kernel])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    // Fewer bytes than a pipe holds.
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn line(request: &Request) -> String {
    serde_json::to_string(request).expect("JSON")
}

#[test]
fn a_problem_is_prepared_executed_and_fetched_channels_first() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("serve");
    std::fs::create_dir_all(&folder).expect("made");
    let descriptor: Descriptor = "f32:nhwc:1x1x2x2:o2:k2x2:bias".parse().unwrap();
    let geometry = Geometry::new(&descriptor.problem).unwrap();
    let write = |name: &str, values: &[f32]| {
        let path = folder.join(name);
        std::fs::write(&path, values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())
            .expect("written");
        path
    };
    let files = Files {
        input: write("input", &[1.0, 2.0, 3.0, 4.0]),
        weights: write("weights", &[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 10.0]),
        bias: Some(write("bias", &[0.5, 0.0])),
    };
    let prepare = Prepare::new(&descriptor, &geometry, files.clone());
    let mut short = prepare.clone();
    short.files.input = files.bias.clone().unwrap();
    let output = folder.join("output");
    let requests = [
        line(&Request::Hello { protocol: PROTOCOL, threads: 2 }),
        line(&Request::Run { k: 1 }),
        line(&Request::Prepare(Box::new(short))),
        "nonsense".into(),
        line(&Request::Prepare(Box::new(prepare))),
        line(&Request::Run { k: 3 }),
        line(&Request::Fetch { output: output.clone() }),
        line(&Request::Release),
        line(&Request::Fetch { output: output.clone() }),
        line(&Request::Bye),
        line(&Request::Run { k: 1 }),
    ];
    let replies = serve("scatter", &requests);
    let failed = |reply: &Reply, words: &str| match reply {
        Reply::Failed { failed } => assert!(failed.contains(words), "{words}: {failed}"),
        other => panic!("{words}: {other:?}"),
    };
    assert_eq!(replies.len(), 9, "nothing is answered after bye: {replies:?}");
    assert!(
        matches!(&replies[0], Reply::Hello(h) if h.protocol == PROTOCOL && h.threads == 2),
        "{replies:?}"
    );
    failed(&replies[1], "nothing is prepared");
    failed(&replies[2], "8 bytes: expected 16");
    failed(&replies[3], "not a request");
    assert!(
        matches!(&replies[4], Reply::Prepared { implementation: Some(i), .. } if i.starts_with("scatter"))
    );
    assert!(matches!(&replies[5], Reply::Ran(ran) if ran.runs == 3), "{replies:?}");
    assert_eq!(replies[6..8], [Reply::Fetched, Reply::Released]);
    failed(&replies[8], "nothing is prepared");

    let bytes = std::fs::read(&output).expect("fetched");
    let values: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    // The first channel is the input with a bias, the second the input moved by one and ten times as large.
    let first = [1.5, 2.5, 0.5, 3.5, 4.5, 0.5, 0.5, 0.5, 0.5];
    let second = [0.0, 0.0, 0.0, 0.0, 10.0, 20.0, 0.0, 30.0, 40.0];
    assert_eq!(values, [first, second].concat());
}
