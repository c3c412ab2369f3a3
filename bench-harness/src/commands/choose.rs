//! `tconv choose`: which kernel runs a layer best, how that is known, and what it would cost to do without it.

use std::path::PathBuf;

use tconv::planning::choice::Line;
use tconv::{Accuracy, Isa, Planner};

use super::layers::LayerArgs;
use super::options::{command_line, share};
use super::tune::TuneArgs;
use crate::choices::audit::{self, Judged, MEAN_LIMIT, Regret, Source, WORST_LIMIT};
use crate::choices::{Answer, Effort, answer, emit};
use crate::cli::{Context, Failure, Outcome};
use crate::output::{self, OutputArgs};
use crate::workloads::accuracy_argument;
use crate::{format, runs};

/// Choices that are shown by an audit: those that lose most.
const SHOWN: usize = 12;

/// What to choose for.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tconv choose 'ConvTranspose2d(256, 128, kernel_size=4, stride=2, padding=1)@1x256x32x32' --effort measure
  tconv choose unet_up1 --threads 2 --max-scratch 8M --explain
  tconv choose --model model.onnx --dim batch=1 --emit rust -o src/kernels.rs
  tconv choose --audit results/runs/*.jsonl")]
pub struct Args {
    #[command(flatten)]
    layers: LayerArgs,
    #[command(flatten)]
    tuning: TuneArgs,
    /// No kernel that needs more scratch than this: 0, 64K, 8M
    #[arg(long, value_name = "BYTES", value_parser = size)]
    max_scratch: Option<usize>,
    /// No kernel that was seen to give different bits in two runs
    #[arg(long)]
    deterministic: bool,
    /// What may be given up for speed: strict, standard (default) or normwise
    #[arg(long, value_name = "NAME", value_parser = accuracy_argument)]
    accuracy: Option<Accuracy>,
    /// Show every kernel, and why the others decline
    #[arg(long)]
    explain: bool,
    /// Leave the choices out that come with the library
    #[arg(long)]
    without_shipped: bool,
    /// Write the choice down for a program that ships
    #[arg(long, value_enum, value_name = "FORM", conflicts_with = "explain")]
    emit: Option<emit::Form>,
    /// Judge choices on recorded runs, each layer by a planner that never saw it
    #[arg(long, value_name = "RUN", num_args = 1.., conflicts_with_all = ["layer", "pattern", "model", "workloads", "emit"])]
    audit: Vec<PathBuf>,
    /// With --audit: judge these runs by what those say
    #[arg(long, value_name = "RUN", num_args = 1.., requires = "audit")]
    held_out: Vec<PathBuf>,
    /// With --audit: the most that any choice may lose
    #[arg(long, value_name = "SHARE", value_parser = share, requires = "audit", default_value_t = WORST_LIMIT)]
    worst: f64,
    #[command(flatten)]
    output: OutputArgs,
}

/// `0`, `512`, `64K`, `8M`, `1G`; also with `iB`.
fn size(text: &str) -> Result<usize, String> {
    let bad = || "expected bytes, such as 0, 64K, 8M or 1G".to_owned();
    let text = text.trim_end_matches("iB").trim_end_matches('B');
    let (number, shift) = match text.chars().last().map(|c| c.to_ascii_uppercase()) {
        Some('K') => (&text[..text.len() - 1], 10),
        Some('M') => (&text[..text.len() - 1], 20),
        Some('G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: usize = number.parse().map_err(|_| bad())?;
    number.checked_mul(1 << shift).ok_or_else(bad)
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    if !args.audit.is_empty() {
        return judge(args, context);
    }
    if args.layers.is_empty() {
        return Err(Failure("no layer: name one, or --model FILE, --workloads FILE, or --audit RUN…".into()));
    }
    let mut database = args.tuning.open()?;
    let effort = args.tuning.effort.unwrap_or(Effort::Estimate);
    if effort > Effort::Estimate && !args.tuning.perform(effort, &args.layers, context, &mut database)? {
        return Err(Failure("interrupted: the same command goes on from here".into()));
    }
    let target = args.layers.target()?;
    let mut planner = Planner::new()
        .with_registry(context.registry.clone())
        .on(target)
        .choices(database.choices().0)
        .shipped(!args.without_shipped)
        .deterministic(args.deterministic)
        .accuracy(args.accuracy.unwrap_or_default());
    if let Some(bytes) = args.max_scratch {
        planner = planner.max_scratch(bytes);
    }
    let mut answers = Vec::new();
    for (name, descriptor) in args.layers.layers()? {
        answers.push(Answer::ask(&planner, target, &name, &descriptor)?);
    }
    if let Some(form) = args.emit {
        let command = command_line();
        let text = match form {
            emit::Form::Rust => emit::rust(&answers, &command),
            emit::Form::Json => serde_json::to_string_pretty(&emit::json(&answers, &command))? + "\n",
        };
        write(args, &text)?;
        return Ok(Outcome::Good);
    }
    let mut lines = args.output.open()?;
    for answer in &answers {
        lines.write(&answer.json())?;
    }
    if !args.output.json {
        let text = match &answers[..] {
            [one] => one.text(args.explain),
            all if args.explain => all.iter().map(|a| a.text(true) + "\n").collect(),
            all => answer::table(all),
        };
        output::print(&text)?;
    }
    Ok(Outcome::Good)
}

fn write(args: &Args, text: &str) -> Result<(), Failure> {
    match &args.output.output {
        None => output::print(text),
        Some(path) => {
            std::fs::write(path, text).map_err(|e| Failure(format!("cannot write {}: {e}", path.display())))
        }
    }
}

/// The audit: exit code 1 where the limits do not hold.
fn judge(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    let read = |paths: &[PathBuf]| -> Result<Vec<Source>, Failure> {
        Ok(runs::read_all(paths)?.iter().map(Source::of).collect())
    };
    let (known, held_out) = (read(&args.audit)?, read(&args.held_out)?);
    let available = Isa::available();
    let here = |line: &&Line| available.iter().any(|isa| isa.name() == line.isa);
    let foreign = known.iter().chain(&held_out).flat_map(|s| &s.lines).find(|line| !here(line));
    if let Some(line) = foreign {
        return Err(Failure(format!(
            "{} was recorded on {}, which this machine lacks",
            line.problem, line.isa
        )));
    }
    let lines: Vec<&Line> = known.iter().flat_map(|s| &s.lines).collect();
    let (sources, others): (Vec<&Source>, Vec<&Source>) =
        if held_out.is_empty() { &known } else { &held_out }.iter().partition(|s| s.is_predicted_here());
    if !others.is_empty() {
        eprintln!(
            "{} of {} runs are of machines that nothing is predicted for here: not judged",
            others.len(),
            others.len() + sources.len()
        );
    }
    let mut judged = Vec::new();
    for source in sources {
        let cases = audit::judge(&source.lines, &lines, &context.registry)?;
        judged.push(Judged { name: source.name.clone(), open: source.lines.len() - cases.len(), cases });
    }
    let mut records = args.output.open()?;
    for Judged { name, cases, open } in &judged {
        let Regret { mean, worst } = Regret::of(cases);
        records.write(&serde_json::json!({
            "record": "audit", "judged": name, "layers": cases.len(), "open": open, "mean": mean, "worst": worst,
            "holds": Regret::of(cases).holds(args.worst),
        }))?;
    }
    let holds = judged.iter().all(|j| Regret::of(&j.cases).holds(args.worst));
    if !args.output.json {
        output::print(&audit::text(&judged, SHOWN))?;
        let limits = format!("mean {}, worst {}", format::percent(MEAN_LIMIT), format::percent(args.worst));
        let verdict = match (judged.is_empty(), holds) {
            (true, _) => "nothing judged",
            (false, true) => "kept",
            (false, false) => "not kept",
        };
        output::print(&format!("\nlimits ({limits}): {verdict}\n"))?;
    }
    Ok(if holds { Outcome::Good } else { Outcome::Bad })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [("0", 0), ("512", 512), ("64K", 65536), ("8MiB", 8 << 20), ("1g", 1 << 30)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "M", "-1", "1.5M", "99999999999999999G"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
