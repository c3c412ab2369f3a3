//! `tconv measure`: verifies and measures in any number of settings, into a file that is kept.

use std::path::PathBuf;
use std::time::Duration;

use tconv::{Accuracy, Layout, Target};

use super::options::{self, Layers, layout, seconds, share, threads};
use super::rank::judge;
use crate::cli::{Context, Failure, Outcome};
use crate::measure::run::Run;
use crate::measure::{CacheMode, Shard};
use crate::output::{self, OutputArgs};
use crate::record::{Header, Record};
use crate::report::board::Board;
use crate::workloads::accuracy_argument;
use crate::{peers, selection};

/// What to measure.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Every line is written when it is known: an interrupted run (Ctrl-C) leaves a valid file. \
    `tconv rank FILE…` and `tconv report FILE…` read it."
)]
pub struct Args {
    #[command(flatten)]
    layers: Layers,
    /// Kernels whose name matches (all without)
    #[arg(short, long = "kernel", value_name = "RE")]
    kernel: Option<String>,
    /// Other libraries to measure beside them, where the caches are warm: none, all that are installed, or names with or
    /// without a mode, such as onednn-3.2,pytorch/packed
    #[arg(long, value_name = "LIST", default_value = "none")]
    peers: String,
    /// Orders of the axes: nchw (default), nhwc, or both with a comma between
    #[arg(long, value_name = "LAYOUT", value_delimiter = ',', value_parser = layout)]
    layout: Vec<Layout>,
    /// Numbers of threads
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1", value_parser = threads,
        allow_negative_numbers = true)]
    threads: Vec<usize>,
    /// What a run finds in the caches: warm, weights (these are cold) or cold (everything is)
    #[arg(long, value_name = "MODE", value_delimiter = ',', default_value = "warm", value_parser = cache)]
    cache: Vec<CacheMode>,
    /// Seconds for everything (default: 2.4 for each workload in each setting, and 0.5 for each peer there)
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    budget: Option<Duration>,
    /// Half width of its interval at which a ratio is known well enough
    #[arg(long, value_name = "SHARE", default_value = "0.5%", value_parser = share, allow_negative_numbers = true)]
    ci: f64,
    /// What plans may give up: strict, standard or normwise
    #[arg(long, value_name = "NAME", default_value = "standard", value_parser = accuracy_argument)]
    accuracy: Accuracy,
    /// Of data, samples, orders and intervals
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Only part I of N of the workloads, which `tconv merge` puts together
    #[arg(long, value_name = "I/N", value_parser = shard)]
    shard: Option<Shard>,
    /// Print JSON lines to standard output instead of a table
    #[arg(long)]
    json: bool,
    /// A new file for the JSON lines (default: in results/runs, named after time, commit and machine)
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn cache(text: &str) -> Result<CacheMode, String> {
    CacheMode::parse(text).ok_or_else(|| "expected warm, weights or cold".into())
}

fn shard(text: &str) -> Result<Shard, String> {
    Shard::parse(text).ok_or_else(|| "expected a part such as 2/4".into())
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    let mut workloads = Vec::new();
    let (first, dtype) = args.layers.choose(args.layout.first().copied())?;
    workloads.extend(first);
    for &layout in args.layout.iter().skip(1) {
        workloads.extend(args.layers.choose(Some(layout))?.0);
    }
    if let Some(shard) = args.shard {
        workloads = shard.part_of(workloads, |(name, _)| name);
    }
    let kernels = selection::kernels(&context.registry, args.kernel.as_deref())?;
    let peers = peers::list::select(&args.peers)?;
    let sittings = workloads.len() * args.threads.len() * args.cache.len();
    let run = Run {
        budget: args.budget.unwrap_or_else(|| options::budget(sittings, peers.len())),
        workloads,
        registry: &context.registry,
        kernels: kernels.iter().map(|k| k.name()).collect(),
        peers,
        accuracy: args.accuracy,
        isa: Target::detect()?.isa,
        threads: args.threads.clone(),
        caches: args.cache.clone(),
        dtype,
        precision: args.ci,
        seed: args.seed,
        shard: args.shard,
        command: options::command_line(),
    };

    let mut lines = OutputArgs { json: args.json, output: None }.open()?;
    // A file that cannot be made is no news for the end of a long run.
    if let Some(path) = &args.output {
        lines.add_new_file(path)?;
    }
    let mut written = args.output.clone();
    let result = run.perform(&mut |record| {
        if let (Record::Header(header), None) = (record, &written) {
            let path = results("runs").join(file_name(header, args.shard));
            lines.add_new_file(&path)?;
            written = Some(path);
        }
        lines.write(record)
    })?;
    let outcome = judge(result.measurements.iter());
    if !args.json {
        output::print(&Board::new(&[result])?.text())?;
        if let Some(path) = &written {
            output::print(&format!("\n{}\n", path.display()))?;
        }
    }
    Ok(outcome)
}

/// `results/<kind>` here or in a folder above; where there is none, one is made here.
pub(super) fn results(kind: &str) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    let above = here.ancestors().map(|folder| folder.join("results")).find(|path| path.is_dir());
    above.unwrap_or_else(|| "results".into()).join(kind)
}

/// `<utc>-<commit>-<fingerprint>[-s2of4].jsonl`
fn file_name(header: &Header, shard: Option<Shard>) -> String {
    let utc: String = header.utc.chars().filter(|c| !"-:".contains(*c)).collect();
    let commit = header.toolchain.commit.replace('+', "-changed");
    let shard = shard.map_or(String::new(), |shard| format!("-{}", shard.slug()));
    format!("{utc}-{commit}-{}{shard}.jsonl", header.machine)
}
