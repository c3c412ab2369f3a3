//! `tconv rank` as a user meets it, and what it does to a kernel that computes wrong answers.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tconv::algorithms::scatter::Scatter;
use tconv::{
    Bytes64, Cost, Declined, Descriptor, Dtype, Element, Guarantees, Kernel, Prepared, Refusal, Registry,
    Request, Revisions, Scratch, Target, Tensor, TensorMut, Variant, Weights,
};
use tconv_bench::measure::CacheMode;
use tconv_bench::measure::run::Run;
use tconv_bench::record::{Outcome, Record, SCHEMA};

fn tconv(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tconv")).args(args).output().expect("the program starts")
}

fn records(text: &[u8]) -> Vec<Record> {
    let text = std::str::from_utf8(text).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// A path in the temporary folder of this test run, and nothing there.
fn fresh(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

#[test]
fn json_lines_have_a_header_figures_and_an_end() {
    for options in [&[][..], &["--layout", "nhwc", "--dtype", "f64"], &["--threads", "2"]] {
        let mut args = vec!["rank", "-w", "^d2l_", "-k", "^(scatter|polyphase)$", "--budget", "1", "--json"];
        args.extend(options);
        let output = tconv(&args);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let records = records(&output.stdout);
        assert!(matches!(&records[0], Record::Header(h) if h.schema == SCHEMA && h.command.contains("d2l_")));
        assert!(matches!(records.last(), Some(Record::End(end)) if end.complete));
        let measured = &records[1..records.len() - 1];
        assert_eq!(measured.len(), 4, "two layers, two kernels");
        for record in measured {
            let Record::Measurement(m) = record else { panic!("{record:?}") };
            let Outcome::Figures(f) = &m.outcome else { panic!("{m:?}") };
            assert!(f.verified && f.median_ns > 0.0 && f.blocks > 0 && f.plan_ns > 0.0, "{m:?}");
            assert!(f.q1_ns <= f.median_ns && (0.0..=1.0).contains(&f.clean_share), "{m:?}");
            assert!(
                options.is_empty() || m.threads == 2 || (m.layout == "nhwc" && m.dtype == "f64"),
                "{m:?}"
            );
            assert!(m.descriptor.parse::<Descriptor>().is_ok(), "{}", m.descriptor);
        }
    }
}

#[test]
fn a_readme_gets_its_table() {
    let path = fresh("README.md");
    std::fs::write(&path, "before\n<!-- tconv:rank:begin -->\n<!-- tconv:rank:end -->\nafter\n").unwrap();
    let name = path.to_str().unwrap();
    let output = tconv(&["rank", "-w", "d2l_basic", "-k", "scatter", "--budget", "0.2", "--splice", name]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("before\n") && text.ends_with("after\n"), "{text}");
    assert!(text.contains("| layer | scatter | best | of peak |"), "{text}");
    assert!(text.contains("`tconv rank -w d2l_basic"), "{text}");
    assert!(!text.contains(name), "absolute paths stay out of documents: {text}");
}

#[test]
fn bad_usage_is_told_before_anything_is_measured() {
    let plain = fresh("plain.md");
    std::fs::write(&plain, "no markers").unwrap();
    for (args, words) in [
        (&["rank", "-w", "no_such_layer"][..], "no_such_layer"),
        (&["rank", "-k", "no_such_kernel"], "no_such_kernel"),
        (&["rank", "--threads", "0"], "threads"),
        (&["rank", "--budget", "soon"], "budget"),
        (&["rank", "--budget", "-1"], "budget"),
        (&["rank", "--threads", "-1"], "threads"),
        (&["verify", "--fuzz", "-3"], "fuzz"),
        (&["rank", "--layout", "chwn"], "nhwc"),
        (&["rank", "--workloads", "no/such.toml"], "such.toml"),
        (&["rank", "--splice", plain.to_str().unwrap()], "marker"),
    ] {
        let output = tconv(args);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {message}");
        assert!(message.contains(words), "{args:?}: {message}");
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_leaves_a_valid_file() {
    let path = fresh("interrupted.jsonl");
    let mut child = Command::new(env!("CARGO_BIN_EXE_tconv"))
        .args(["rank", "-w", "^d2l_", "-k", "scatter", "--budget", "600", "-o", path.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    // The first line says that the handler is in place.
    while std::fs::read(&path).unwrap_or_default().is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(Duration::from_millis(20));
    }
    // SAFETY: sends a signal to a child that was not waited for yet, so that its number is still its own.
    assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) }, 0);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let records = records(&std::fs::read(&path).unwrap());
    assert!(matches!(records[0], Record::Header(_)));
    // It may also have been precise enough with everything before the signal came.
    assert!(matches!(records.last(), Some(Record::End(_))), "{records:?}");
}

/// Scatter, then one element in the middle is spoilt: by a little, or by not being written.
struct Broken {
    by: f64,
}

impl Kernel for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }
    fn summary(&self) -> &'static str {
        "computes one wrong output"
    }
    fn revisions(&self) -> Revisions {
        Scatter.revisions()
    }
    fn guarantees(&self) -> Guarantees {
        Scatter.guarantees()
    }
    fn supports(&self, request: &Request<'_>) -> Result<(), Declined> {
        Scatter.supports(request)
    }
    fn variants(&self, request: &Request<'_>) -> Vec<Variant> {
        Scatter.variants(request)
    }
    fn cost(&self, request: &Request<'_>, variant: &Variant) -> Cost {
        Scatter.cost(request, variant)
    }
    fn prepare(&self, r: &Request<'_>, v: &Variant, w: Weights<'_>) -> Result<Box<dyn Prepared>, Refusal> {
        Ok(Box::new(Spoilt { right: Scatter.prepare(r, v, w)?, by: self.by }))
    }
}

#[derive(Debug)]
struct Spoilt {
    right: Box<dyn Prepared>,
    by: f64,
}

impl Prepared for Spoilt {
    fn scratch(&self) -> Scratch {
        self.right.scratch()
    }
    fn run(&self, input: Tensor<'_>, output: TensorMut<'_>, scratch: &mut [Bytes64]) {
        let output = f32::slice_mut(output).expect("only f32 is tested");
        self.right.run(input, TensorMut::F32(output), scratch);
        let middle = output.len() / 2;
        output[middle] += self.by as f32;
    }
    fn repack(&mut self, weights: Weights<'_>) -> Result<(), Refusal> {
        self.right.repack(weights)
    }
}

#[test]
fn a_wrong_kernel_gets_no_figures_and_a_command_to_repeat_it() {
    static SLIGHTLY: Broken = Broken { by: 1e-3 };
    static UNWRITTEN: Broken = Broken { by: f64::NAN };
    for (broken, words) in [(&SLIGHTLY, "expected"), (&UNWRITTEN, "never written")] {
        let registry = Registry::builtin().with(broken);
        let descriptor: Descriptor = "f32:nchw:2x3x9x8:o5:k4x3:s2x2:p1x1:bias:relu".parse().unwrap();
        let run = Run {
            workloads: vec![("small".into(), descriptor)],
            registry: &registry,
            kernels: vec!["scatter", "broken"],
            peers: Vec::new(),
            accuracy: tconv::Accuracy::default(),
            isa: Target::detect().unwrap().isa,
            threads: vec![1],
            caches: vec![CacheMode::Warm],
            dtype: Dtype::F32,
            budget: Duration::from_millis(300),
            precision: 0.05,
            seed: 3,
            shard: None,
            command: "tconv rank".into(),
        };
        let outcome = run.perform(&mut |_| Ok(())).unwrap_or_else(|e| panic!("{}", e.0));
        let [right, wrong] = &outcome.measurements[..] else { panic!("{:?}", outcome.measurements) };
        assert!(matches!(&right.outcome, Outcome::Figures(f) if f.verified), "{right:?}");
        let Outcome::Wrong { wrong, verified, repro } = &wrong.outcome else { panic!("{wrong:?}") };
        assert!(wrong.contains(words) && !verified, "{wrong}");
        assert!(repro.contains("f32:nchw:2x3x9x8") && repro.contains("'^broken$'"), "{repro}");
    }
}
