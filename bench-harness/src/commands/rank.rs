//! `tconv rank`: verifies the kernels, measures them, and prints who is how fast where.

use std::path::PathBuf;
use std::time::Duration;

use tconv::{Descriptor, Dtype, Layout, Target};

use crate::cli::{Context, Failure, Outcome};
use crate::measure::run::Run;
use crate::output::{self, OutputArgs};
use crate::record::{self, Measurement};
use crate::report::rank::Ranking;
use crate::report::splice;
use crate::report::versus::Versus;
use crate::{peers, selection, workloads};

/// Seconds for each workload where no budget is given: two minutes for the whole built-in set.
const SECONDS_PER_WORKLOAD: f64 = 2.4;
/// Seconds more for each peer on each workload.
const SECONDS_PER_PEER: f64 = 0.5;
/// Relative half width at which a ratio is known well enough.
const PRECISION: f64 = 0.005;
const MOST_THREADS: usize = Target::MOST_THREADS;

/// What to rank.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Workloads whose name matches, or one descriptor (all without)
    #[arg(short, long = "workload", value_name = "RE")]
    workload: Option<String>,
    /// Kernels whose name matches (all without)
    #[arg(short, long = "kernel", value_name = "RE")]
    kernel: Option<String>,
    /// Other libraries to measure beside them: none, all that are installed, or names with or without a mode, such
    /// as onednn-3.2,pytorch/packed
    #[arg(long, value_name = "LIST", default_value = "none")]
    peers: String,
    /// Workloads of this TOML file instead of the built-in ones
    #[arg(long, value_name = "FILE")]
    workloads: Option<PathBuf>,
    /// Order of the axes: nchw (default) or nhwc
    #[arg(long, value_name = "LAYOUT", value_parser = layout)]
    layout: Option<Layout>,
    /// Element type: f32 (default) or f64
    #[arg(long, value_name = "TYPE", value_parser = dtype)]
    dtype: Option<Dtype>,
    /// Threads of every plan
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = threads, allow_negative_numbers = true)]
    threads: usize,
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

pub(super) fn layout(text: &str) -> Result<Layout, String> {
    Layout::parse(text).ok_or_else(|| "expected nchw or nhwc".into())
}

pub(super) fn dtype(text: &str) -> Result<Dtype, String> {
    Dtype::parse(text).ok_or_else(|| "expected f32 or f64".into())
}

pub(super) fn threads(text: &str) -> Result<usize, String> {
    let bad = || format!("expected 1 to {MOST_THREADS}");
    text.parse().ok().filter(|n| (1..=MOST_THREADS).contains(n)).ok_or_else(bad)
}

/// `90`, `90s` or `1.5m`.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60.0),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let value = number.parse::<f64>().ok().map(|n| n * unit).filter(|s| *s > 0.0 && *s <= 1e6);
    value.map(Duration::from_secs_f64).ok_or_else(|| "expected seconds, such as 90, 90s or 1.5m".into())
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    let all = match &args.workloads {
        Some(path) => workloads::load(path)?,
        None => workloads::zoo(),
    };
    let chosen = workloads::select(all, args.workload.as_deref())?;
    let kernels = selection::kernels(&context.registry, args.kernel.as_deref())?;
    // Only a descriptor states a type, and then it is alone.
    let dtype = args.dtype.or_else(|| chosen.first().and_then(|w| w.dtype)).unwrap_or(Dtype::F32);
    let peers = peers::list::select(&args.peers)?;
    let each = SECONDS_PER_WORKLOAD + SECONDS_PER_PEER * peers.len() as f64;
    let budget = Duration::from_secs_f64(each * chosen.len() as f64);
    let document = args.splice.as_ref().map(|path| read_document(path)).transpose()?;
    let mut lines = args.output.open()?;

    let run = Run {
        workloads: chosen
            .into_iter()
            .map(|w| {
                let problem = args.layout.map_or(w.problem, |layout| w.problem.with_layout(layout));
                (w.name, Descriptor { problem, dtype, epilogue: w.epilogue })
            })
            .collect(),
        registry: &context.registry,
        kernels: kernels.iter().map(|k| k.name()).collect(),
        peers,
        target: Target::detect()?.with_threads(args.threads),
        dtype,
        budget: args.budget.unwrap_or(budget),
        precision: PRECISION,
        seed: args.seed,
        command: command_line(std::env::args().skip(1)),
    };
    let result = run.perform(&mut |record| lines.write(record))?;

    let ranking = Ranking::new(&result.header, &result.measurements, &result.end);
    let versus = Versus::new(&result.measurements, &result.end, args.seed);
    if !args.output.json {
        output::print(&ranking.text())?;
        if let Some(versus) = &versus {
            output::print(&format!("\n{}", versus.text()))?;
        }
    }
    if let Some((path, document)) = args.splice.as_ref().zip(document) {
        let versus = versus.map_or(String::new(), |versus| format!("\n{}", versus.markdown()));
        let text = splice::splice(&document, "rank", &(ranking.markdown() + &versus))?;
        std::fs::write(path, text).map_err(|e| Failure(format!("cannot write {}: {e}", path.display())))?;
    }
    // What another library does wrong is reported, but it is no fault of ours.
    let wrong = result.measurements.iter().filter(|m| report_if_wrong(m) && m.peer.is_none()).count();
    Ok(if wrong == 0 { Outcome::Good } else { Outcome::Bad })
}

/// Reads it before anything is measured: a missing marker is no news for the end of a long run.
fn read_document(path: &std::path::Path) -> Result<String, Failure> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|e| Failure(format!("cannot read {name}: {e}")))?;
    splice::splice(&text, "rank", "").map_err(|Failure(problem)| Failure(format!("{name}: {problem}")))?;
    Ok(text)
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

/// The command as a reader would type it. Results are published: of an absolute path only the file name is kept.
fn command_line(args: impl Iterator<Item = String>) -> String {
    let mut line = "tconv".to_owned();
    for arg in args {
        let arg = match std::path::Path::new(&arg) {
            path if path.is_absolute() => {
                path.file_name().map_or(arg.clone(), |f| f.to_string_lossy().into())
            }
            _ => arg,
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+".contains(c);
        if !arg.is_empty() && arg.chars().all(plain) {
            line += &format!(" {arg}");
        } else {
            line += &format!(" '{}'", arg.replace('\'', r"'\''"));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_have_units() {
        assert_eq!(seconds("90").unwrap(), Duration::from_secs(90));
        assert_eq!(seconds("2.5s").unwrap(), Duration::from_millis(2500));
        assert_eq!(seconds("1.5m").unwrap(), Duration::from_secs(90));
        for bad in ["", "0", "-1", "soon", "1h", "nan", "inf", "1e9"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn commands_can_be_typed_again() {
        let line = |args: &[&str]| command_line(args.iter().map(|a| a.to_string()));
        assert_eq!(line(&["rank", "-w", "^pose_up[13]$"]), "tconv rank -w '^pose_up[13]$'");
        assert_eq!(line(&["rank", "-o", "/somewhere/private/run.jsonl"]), "tconv rank -o run.jsonl");
        assert_eq!(line(&["rank", "-k", "it's"]), r"tconv rank -k 'it'\''s'");
    }
}
