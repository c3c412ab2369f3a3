//! `tconv rank`: who is how fast where, of a fresh run of one setting, or of recorded ones.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tconv::{Accuracy, Layout, Target};

use super::options::{self, Layers, layout, seconds, threads};
use crate::cli::{Context, Failure, Outcome};
use crate::measure::CacheMode;
use crate::measure::run::Run;
use crate::output::{self, OutputArgs};
use crate::record::{self, Measurement};
use crate::report::board::Board;
use crate::report::splice;
use crate::runs::{self, RecordedRun};
use crate::workloads::accuracy_argument;
use crate::{peers, selection};

/// What to rank.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recorded runs to read instead of measuring; -w and -k choose among what they hold
    #[arg(
        value_name = "FILE",
        conflicts_with_all = ["workloads", "dtype", "layout", "threads", "accuracy", "budget", "seed", "peers"]
    )]
    files: Vec<PathBuf>,
    #[command(flatten)]
    layers: Layers,
    /// Kernels whose name matches (all without)
    #[arg(short, long = "kernel", value_name = "RE")]
    kernel: Option<String>,
    /// Other libraries to measure beside them: none, all that are installed, or names with or without a mode, such
    /// as onednn-3.2,pytorch/packed
    #[arg(long, value_name = "LIST", default_value = "none")]
    peers: String,
    /// Order of the axes: nchw (default) or nhwc
    #[arg(long, value_name = "LAYOUT", value_parser = layout)]
    layout: Option<Layout>,
    /// Threads of every plan
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = threads, allow_negative_numbers = true)]
    threads: usize,
    /// What plans may give up: strict, standard or normwise
    #[arg(long, value_name = "NAME", default_value = "standard", value_parser = accuracy_argument)]
    accuracy: Accuracy,
    /// Seconds for everything but what peers need to get ready (default: 2.4 for each workload, and 0.5 for each peer there)
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    budget: Option<Duration>,
    /// Of data, samples, orders and intervals
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Rewrite the table between the rank markers of this Markdown file
    #[arg(long, value_name = "FILE")]
    splice: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    let document = args.splice.as_ref().map(|path| read_document(path)).transpose()?;
    let runs = if args.files.is_empty() { vec![measure(args, context)?] } else { read(args)? };
    let board = Board::new(&runs)?;
    if !args.output.json {
        output::print(&board.text())?;
    }
    if let Some((path, document)) = args.splice.as_ref().zip(document) {
        let text = splice::splice(&document, "rank", &board.markdown())?;
        std::fs::write(path, text).map_err(|e| Failure(format!("cannot write {}: {e}", path.display())))?;
    }
    Ok(judge(runs.iter().flat_map(|run| &run.measurements)))
}

fn measure(args: &Args, context: &Context) -> Result<RecordedRun, Failure> {
    let (workloads, dtype) = args.layers.choose(args.layout)?;
    let kernels = selection::kernels(&context.registry, args.kernel.as_deref())?;
    let peers = peers::list::select(&args.peers)?;
    let mut lines = args.output.open()?;
    let run = Run {
        budget: args.budget.unwrap_or_else(|| options::budget(workloads.len(), peers.len())),
        workloads,
        registry: &context.registry,
        kernels: kernels.iter().map(|k| k.name()).collect(),
        peers,
        accuracy: args.accuracy,
        isa: Target::detect()?.isa,
        threads: vec![args.threads],
        caches: vec![CacheMode::Warm],
        dtype,
        precision: options::PRECISION,
        seed: args.seed,
        shard: None,
        command: options::command_line(),
    };
    run.perform(&mut |record| lines.write(record))
}

fn read(args: &Args) -> Result<Vec<RecordedRun>, Failure> {
    let mut runs = runs::read_all(&args.files)?;
    keep(&mut runs, "workload", args.layers.workload.as_deref(), |m| &m.workload)?;
    keep(&mut runs, "kernel", args.kernel.as_deref(), |m| &m.kernel)?;
    let mut lines = args.output.open()?;
    runs.iter().flat_map(RecordedRun::records).try_for_each(|record| lines.write(&record))?;
    Ok(runs)
}

/// Keeps the measurements whose name matches; no match is a failure that names the nearest names.
fn keep(
    runs: &mut [RecordedRun],
    what: &str,
    pattern: Option<&str>,
    name: fn(&Measurement) -> &String,
) -> Result<(), Failure> {
    let mut names: Vec<String> = runs.iter().flat_map(|r| &r.measurements).map(|m| name(m).clone()).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Ok(());
    }
    let wanted = selection::matching(what, names, |n| n, pattern)?;
    runs.iter_mut().for_each(|run| run.measurements.retain(|m| wanted.binary_search(name(m)).is_ok()));
    Ok(())
}

/// Reads it before anything is measured: a missing marker is no news for the end of a long run.
fn read_document(path: &Path) -> Result<String, Failure> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|e| Failure(format!("cannot read {name}: {e}")))?;
    splice::splice(&text, "rank", "").map_err(|Failure(problem)| Failure(format!("{name}: {problem}")))?;
    Ok(text)
}

/// Tells what was wrong. What another library does wrong is reported, but it is no fault of ours.
pub(super) fn judge<'a>(measurements: impl Iterator<Item = &'a Measurement>) -> Outcome {
    let wrong = measurements.filter(|m| report_if_wrong(m) && m.peer.is_none()).count();
    if wrong == 0 { Outcome::Good } else { Outcome::Bad }
}

fn report_if_wrong(m: &Measurement) -> bool {
    match &m.outcome {
        record::Outcome::Wrong { wrong, repro, .. } => {
            eprintln!("WRONG {} {}: {wrong}\n  {repro}", m.kernel, m.workload);
            true
        }
        record::Outcome::Failed { failed } => {
            eprintln!("FAILED {} {}: {failed}", m.kernel, m.workload);
            false
        }
        _ => false,
    }
}
