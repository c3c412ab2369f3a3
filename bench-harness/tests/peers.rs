//! Peers of every kind of behaviour beside our kernels: what they do wrong is written down, and the run goes on.
#![cfg(unix)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use tconv::{Descriptor, Dtype, Epilogue, Geometry, Layout, Planner, Registry, Structure, Target, Weights};
use tconv_bench::measure::Buffers;
use tconv_bench::measure::CacheMode;
use tconv_bench::measure::run::Run;
use tconv_bench::peers::{Candidate, Launch, Live, Patience, Prepared, live};
use tconv_bench::record::{Measurement, Outcome};

const SEED: u64 = 3;

fn descriptor(layout: &str) -> Descriptor {
    format!("f32:{layout}:2x3x9x8:o5:k4x3:s2x2:p1x1").parse().unwrap()
}

/// The right answer to `descriptor` in channels-first order, in a file, and one with a single wrong element.
fn answers(descriptor: &Descriptor, name: &str) -> [PathBuf; 2] {
    let nchw = descriptor.problem.with_layout(Layout::Nchw);
    let geometry = Geometry::new(&nchw).unwrap();
    let buffers = Buffers::<f32>::new(&geometry, Structure::General, SEED).unwrap();
    let (problem, plane) = (descriptor.problem, geometry.input_plane());
    let layout = problem.layout();
    let input = tconv_bench::data::from_layout(buffers.input.to_vec(), layout, problem.in_channels(), plane);
    let plan = Planner::new().plan::<f32>(&nchw, Weights::new(&buffers.weights), Epilogue::NONE).unwrap();
    let mut output = vec![0.0; geometry.output_len()];
    plan.execute(&input, &mut output).unwrap();
    let file = |what: &str, output: &[f32]| {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}-{what}", std::process::id()));
        let bytes: Vec<u8> = output.iter().flat_map(|x| x.to_le_bytes()).collect();
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let right = file("right", &output);
    output[7] += 1e-3;
    [right, file("wrong", &output)]
}

fn fake(how: &str, [right, wrong]: &[PathBuf; 2]) -> Candidate {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake_peer.sh");
    let run = Duration::from_millis(if how == "hanging" { 300 } else { 60_000 });
    let start = Duration::from_millis(if how == "mute" { 300 } else { 60_000 });
    Candidate {
        name: format!("fake/{how}"),
        mode: how.into(),
        layout: "nchw".into(),
        settings: Vec::new(),
        launch: Launch {
            command: vec!["sh".into(), script.into(), how.into()],
            env: vec![("ANSWER".into(), right.into()), ("WRONG_ANSWER".into(), wrong.into())],
        },
        patience: Patience { start, prepare: Duration::from_secs(60), run },
    }
}

fn measure(workloads: &[&str], layout: &str, peers: Vec<Candidate>) -> Vec<Measurement> {
    let run = Run {
        workloads: workloads.iter().map(|name| (name.to_string(), descriptor(layout))).collect(),
        registry: &Registry::builtin(),
        kernels: vec!["scatter", "polyphase"],
        peers,
        accuracy: tconv::Accuracy::default(),
        isa: Target::detect().unwrap().isa,
        threads: vec![1],
        caches: vec![CacheMode::Warm],
        dtype: Dtype::F32,
        // They end when precise, long before.
        budget: Duration::from_secs(20),
        precision: 0.05,
        seed: SEED,
        shard: None,
        command: "tconv rank".into(),
    };
    run.perform(&mut |_| Ok(())).unwrap_or_else(|e| panic!("{}", e.0)).measurements
}

#[test]
fn every_kind_of_peer_gets_its_line_and_the_run_goes_on() {
    let files = answers(&descriptor("nchw"), "all");
    let cases = [
        ("right", ""),
        ("wrong", "n=0 c=0 z=0 y=0 x=7"),
        ("choosy", "no operator for this"),
        ("crashing", "last words"),
        ("tired", "out of breath"),
        ("hanging", "hangs: no answer to 'run'"),
        ("mute", "hangs: no answer to 'hello'"),
        ("broken", "no such library"),
        ("babbling", "computing, please wait"),
        ("greedy", "works with 9 threads: 1 were asked for"),
        ("crowded", "more than 1 threads can"),
        ("short", "has 2 bytes"),
        ("absent", "does not start"),
    ];
    let peers = cases.iter().map(|(how, _)| {
        let mut peer = fake(how, &files);
        if *how == "absent" {
            peer.launch.command = vec!["no-such-program".into()];
        }
        peer
    });
    let measurements = measure(&["one", "two"], "nchw", peers.collect());
    for workload in ["one", "two"] {
        let here: Vec<&Measurement> = measurements.iter().filter(|m| m.workload == workload).collect();
        assert_eq!(here.len(), 2 + cases.len(), "{here:?}");
        for kernel in &here[..2] {
            let Outcome::Figures(f) = &kernel.outcome else { panic!("{kernel:?}") };
            assert!(kernel.peer.is_none() && f.blocks > 0, "{kernel:?}");
        }
        for (m, (how, words)) in here[2..].iter().zip(cases) {
            assert_eq!(m.kernel, format!("fake/{how}"), "in the order of the list");
            assert_eq!(m.peer.as_ref().unwrap().mode, how);
            match (&m.outcome, how) {
                (Outcome::Figures(f), "right") => {
                    // What the peer says of its own time, not what the harness waited.
                    assert_eq!((f.median_ns, f.plan_ns), (50_000.0, 1000.0), "{m:?}");
                    assert_eq!(f.one_shot_ns, Some(51_000.0), "its plan and its first run");
                    assert!(f.blocks > 1 && f.verified && f.ratio_to_best_kernel.is_some(), "{m:?}");
                    assert_eq!((f.scratch_bytes, f.multiply_adds), (None, None));
                }
                (Outcome::Wrong { wrong, verified: false, repro }, "wrong") => {
                    assert!(wrong.contains(words) && repro.contains("--peers fake/wrong"), "{m:?}");
                }
                (Outcome::Declined { declined }, "choosy") => assert_eq!(declined, words),
                (Outcome::Failed { failed }, _) if how != "right" => {
                    assert!(failed.contains(words), "{how}: {failed}");
                }
                _ => panic!("{m:?}"),
            }
        }
    }
}

#[test]
fn channels_last_tensors_are_turned_for_a_peer_and_back() {
    let files = answers(&descriptor("nhwc"), "nhwc");
    let measurements = measure(&["one"], "nhwc", vec![fake("right", &files), fake("wrong", &files)]);
    let outcomes: Vec<&Outcome> = measurements[2..].iter().map(|m| &m.outcome).collect();
    assert!(matches!(outcomes[..], [Outcome::Figures(_), Outcome::Wrong { .. }]), "{outcomes:?}");
}

/// The state of a process, as Linux shows it: `T` is stopped.
#[cfg(target_os = "linux")]
fn state(process: &str) -> Option<char> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    text.rsplit(')').next()?.trim().chars().next()
}

#[cfg(target_os = "linux")]
#[test]
fn an_idle_peer_is_stopped_and_ends_with_the_run() {
    let descriptor = descriptor("nchw");
    let geometry = Geometry::new(&descriptor.problem).unwrap();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-stopped", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let buffers = Buffers::<f32>::new(&geometry, Structure::General, SEED).unwrap();
    let tensors = (&buffers.input[..], &buffers.weights[..], None);
    let problem = live::write_tensors(&folder, &descriptor, &geometry, tensors).unwrap();

    let mut peer = Live::new(fake("right", &answers(&descriptor, "stopped")), 1, &folder);
    let process = |peer: &Live| peer.record(None).version.expect("it says its number");
    assert!(matches!(peer.prepare(&problem), Ok(Prepared::Ready { .. })));
    for _ in 0..3 {
        peer.execute(2).unwrap();
        // The signal takes a moment.
        while state(&process(&peer)) != Some('T') {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let number = process(&peer);
    drop(peer);
    assert!(!matches!(state(&number), Some('T' | 'S' | 'R')), "it is gone, or waits to be collected");
    std::fs::remove_dir_all(&folder).unwrap();
}
