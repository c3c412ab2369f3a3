//! `tconv report` as a user meets it, on a recorded sample.
//!
//! The sample was recorded with `tconv rank` (the command is in each header). After a change of the schema or of the report:
//! record it again, run this test with `UPDATE_EXPECT=1`, and read the difference.

use std::path::{Path, PathBuf};
use std::process::Command;

use expect_test::expect_file;

const SAMPLE: [&str; 2] = ["nchw-1t.jsonl", "nchw-2t.jsonl"];

fn sample(name: &str) -> String {
    format!("{}/tests/data/runs/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Exit code and messages.
fn report(args: &[&str]) -> (i32, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_tconv")).arg("report").args(args).output().expect("it starts");
    (output.status.code().expect("no signal"), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A folder of its own for each test, empty.
fn fresh(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("report-{name}"));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("made");
    path
}

fn read(path: PathBuf) -> String {
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_sample_gives_this_report() {
    let files = SAMPLE.map(sample);
    let folder = fresh("snapshot");
    for name in ["once", "again"] {
        let to = folder.join(name);
        let (code, error) = report(&[&files[0], &files[1], "-o", to.to_str().unwrap()]);
        assert_eq!(code, 0, "{error}");
    }
    let both = |name: &str| ["once", "again"].map(|run| read(folder.join(run).join(name)));
    let ([page, same_page], [text, same_text]) = (both("index.html"), both("report.md"));
    assert!(page == same_page && text == same_text, "two reports of the same runs differ");
    expect_file!["data/report.md"].assert_eq(&text);
    // The words and figures of the page; its style and script are files of their own.
    let body = page.split_once("<body>").expect("a body").1.split_once("<script>").expect("a script").0;
    expect_file!["data/report.html"].assert_eq(&body.replace("><", ">\n<"));
    for row in text.lines().filter(|l| l.starts_with("| polyphase")) {
        let figure = row.split(" | ").nth(1).expect("a cell").trim();
        assert!(page.contains(figure), "'{figure}' is in one report only");
    }
}

#[test]
fn marked_parts_of_a_document_are_rewritten() {
    let path = fresh("splice").join("README.md");
    let name = path.to_str().unwrap();
    let marked = |id: &str| format!("<!-- tconv:{id}:begin -->\nold\n<!-- tconv:{id}:end -->\n");
    std::fs::write(&path, format!("top\n{}{}bottom\n", marked("machine"), marked("layers-nchw-1t"))).unwrap();
    let (code, error) = report(&[&sample(SAMPLE[0]), "--splice", name]);
    assert_eq!(code, 0, "{error}");
    let text = read(path.clone());
    assert!(text.starts_with("top\n") && text.ends_with("bottom\n") && !text.contains("old"), "{text}");
    assert!(text.contains("From tconv rank") && text.contains("| fingerprint |"), "{text}");
    assert!(text.contains("| layer | best | GFLOP/s |"), "{text}");

    std::fs::write(&path, marked("layrs-nchw-1t")).unwrap();
    let (code, error) = report(&[&sample(SAMPLE[0]), "--splice", name]);
    assert!(code == 2 && error.contains("layrs-nchw-1t") && error.contains("layers-nchw-1t"), "{error}");
    assert_eq!(read(path.clone()), marked("layrs-nchw-1t"), "nothing is written");

    std::fs::write(&path, "plain").unwrap();
    let (code, error) = report(&[&sample(SAMPLE[0]), "--splice", name]);
    assert!(code == 2 && error.contains("marker"), "{error}");
}

#[test]
fn bad_files_are_named_with_the_line() {
    let folder = fresh("bad");
    let bad = folder.join("bad.jsonl");
    let name = bad.to_str().unwrap();
    let good = read(sample(SAMPLE[0]).into());
    let header = good.lines().next().unwrap();
    for (text, words) in [
        (good[..40].to_owned(), "bad.jsonl:1: the line is cut off"),
        (header.replacen("\"schema\":", "\"schema\":9", 1), "bad.jsonl:1: schema 9"),
        (format!("{header}\n"), "no measurements"),
        (good.replacen("f32:nchw:1x1x2x2", "f32:nchw:1x0x2x2", 1), "d2l_basic"),
    ] {
        std::fs::write(&bad, text).unwrap();
        let (code, error) = report(&[name, "-o", folder.join("out").to_str().unwrap()]);
        assert!(code == 2 && error.contains(words), "{words}: {code} {error}");
    }
    assert!(!folder.join("out").exists(), "nothing is written from bad files");
    assert_eq!(report(&[&sample(SAMPLE[0])]).0, 2, "neither folder nor document");
    assert_eq!(report(&["no/such.jsonl", "-o", "out"]).0, 2);
}
