//! `tconv merge`: puts recorded runs into one file, such as the parts of a set that several machines measured.

use std::path::PathBuf;

use crate::cli::{Context, Failure, Outcome};
use crate::format::plural;
use crate::measure::Shard;
use crate::output;
use crate::record::Record;
use crate::runs::{self, RecordedRun};

/// What to put together.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Nothing is computed anew: ratios hold within one run, and the runs stay as they are. \
    A run that is there twice is kept once, so that merging again changes nothing."
)]
pub struct Args {
    /// Recorded runs
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where to write them; may be one of the files
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Runs the command.
pub fn run(args: &Args, _: &Context) -> Result<Outcome, Failure> {
    let all = runs::read_all(&args.files)?;
    let read = all.len();
    let merged = merge(all);
    write(args, &merged)?;
    let twice = read - merged.len();
    let mut text = format!("{} in {}", plural(merged.len(), "run"), args.output.display());
    if twice > 0 {
        text += &format!("; {twice} more were there twice");
    }
    for missing in missing_parts(&merged) {
        text += &format!("\npart {missing} of the workloads is missing");
    }
    output::print(&(text + "\n"))?;
    Ok(Outcome::Good)
}

/// By time; each once.
fn merge(runs: Vec<RecordedRun>) -> Vec<RecordedRun> {
    let mut merged: Vec<RecordedRun> = Vec::new();
    for run in runs {
        let run = RecordedRun { source: String::new(), ..run };
        if !merged.contains(&run) {
            merged.push(run);
        }
    }
    merged.sort_by(|a, b| key(a).cmp(&key(b)));
    merged
}

fn key(run: &RecordedRun) -> (&str, Option<&str>, &str, bool) {
    (&run.header.utc, run.header.shard.as_deref(), &run.header.command, run.end.is_none())
}

/// Parts that complete no whole: of each number of parts, those that no run measured.
fn missing_parts(runs: &[RecordedRun]) -> Vec<Shard> {
    let present: Vec<Shard> =
        runs.iter().filter_map(|run| Shard::parse(run.header.shard.as_deref()?)).collect();
    let mut missing: Vec<Shard> = Vec::new();
    for part in present.iter().flat_map(|part| part.missing(&present)) {
        if !missing.contains(&part) {
            missing.push(part);
        }
    }
    missing
}

/// Beside its place first, so that nothing is lost if that fails.
fn write(args: &Args, runs: &[RecordedRun]) -> Result<(), Failure> {
    let cannot = |e: std::io::Error| Failure(format!("cannot write {}: {e}", args.output.display()));
    let mut text = String::new();
    let mut line = |record: &Record| -> Result<(), Failure> {
        text += &serde_json::to_string(record)?;
        text.push('\n');
        Ok(())
    };
    for run in runs {
        run.records().iter().try_for_each(&mut line)?;
    }
    let mut beside = args.output.clone().into_os_string();
    beside.push(".part");
    std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, &args.output)).map_err(cannot)
}
