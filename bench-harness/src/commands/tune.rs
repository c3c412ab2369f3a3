//! `tconv tune`: measures candidates and writes what it finds into the database of choices.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tconv::Planner;

use super::layers::LayerArgs;
use super::options::{command_line, seconds};
use crate::choices::audit::Source;
use crate::choices::database::DEFAULT_FILE;
use crate::choices::tune::{Progress, Tuning};
use crate::choices::{Answer, Database, Effort, answer};
use crate::cli::{Context, Failure, Outcome};
use crate::{output, runs};

/// A shipped choice that is slower than the fastest by more than this does not hold any more.
const SHIPPED_LIMIT: f64 = 1.10;

/// What to measure.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A problem that the database knows as thoroughly, with the kernels as they are, is not measured again: an interrupted
run goes on where it was.

Examples:
  tconv tune -w unet --effort patient
  tconv tune --model model.onnx --dim batch=1 --threads 2 --budget 10m
  tconv tune --from results/runs/<file>.jsonl"
)]
pub struct Args {
    #[command(flatten)]
    layers: LayerArgs,
    #[command(flatten)]
    tuning: TuneArgs,
    /// Check the shipped choices of these layers against a new measurement
    #[arg(long)]
    verify_shipped: bool,
    /// Measure nothing: take over what runs of `tconv rank` recorded
    #[arg(long, value_name = "RUN", num_args = 1.., conflicts_with_all = ["verify_shipped", "layer", "pattern", "model", "workloads"])]
    from: Vec<PathBuf>,
}

/// How to measure, and where to keep it.
#[derive(Debug, clap::Args)]
pub struct TuneArgs {
    /// How thoroughly to measure
    #[arg(long, value_enum, value_name = "EFFORT")]
    pub effort: Option<Effort>,
    /// Time for everything, such as 90s or 10m (default: 2, 6 or 30 seconds for each layer, by effort)
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    budget: Option<Duration>,
    /// The database of choices
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    choices: PathBuf,
    /// Of data, samples and orders
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
}

impl TuneArgs {
    /// The database; what is wrong in it goes to standard error.
    pub fn open(&self) -> Result<Database, Failure> {
        let database = Database::open(&self.choices)?;
        if let (_, Some(note)) = database.choices() {
            eprintln!("tconv: {note}");
        }
        Ok(database)
    }

    /// Measures what is not known. False: interrupted.
    pub fn perform(
        &self,
        effort: Effort,
        layers: &LayerArgs,
        context: &Context,
        database: &mut Database,
    ) -> Result<bool, Failure> {
        let problems = layers.layers()?;
        let mut tuning = Tuning {
            registry: &context.registry,
            target: layers.target()?,
            effort,
            budget: Duration::ZERO,
            seed: self.seed,
            command: command_line(),
        };
        let pending = problems.iter().filter(|(_, d)| !tuning.knows(database, d)).count();
        tuning.budget = self.budget.unwrap_or(effort.time() * pending as u32);
        let count = problems.len();
        tuning.perform(&problems, database, &mut |i, progress, left| {
            let left = left.as_secs();
            let what = match progress {
                Progress::Known => "known",
                Progress::Measured => "measured",
            };
            let name = &problems[i].0;
            eprintln!("[{}/{count}] {name}: {what} (about {}:{:02} left)", i + 1, left / 60, left % 60);
        })
    }
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    let mut database = args.tuning.open()?;
    if !args.from.is_empty() {
        return take_over(&args.from, &mut database, &args.tuning.choices);
    }
    let effort = args.tuning.effort.unwrap_or(Effort::Measure);
    let finished = args.tuning.perform(effort, &args.layers, context, &mut database)?;
    let target = args.layers.target()?;
    let planner = Planner::new().with_registry(context.registry.clone()).on(target);
    let measured = planner.clone().choices(database.choices().0);
    let mut answers = Vec::new();
    for (name, descriptor) in args.layers.layers()? {
        answers.push(Answer::ask(&measured, target, &name, &descriptor)?);
    }
    output::print(&answer::table(&answers))?;
    if !finished {
        return Err(Failure("interrupted: the same command goes on from here".into()));
    }
    if args.verify_shipped { verify_shipped(&planner, &answers) } else { Ok(Outcome::Good) }
}

/// What the shipped choice takes by the new measurement, against the fastest.
fn verify_shipped(shipped: &Planner, measured: &[Answer]) -> Result<Outcome, Failure> {
    let (mut checked, mut slower) = (0, 0);
    for now in measured {
        let then = Answer::ask(shipped, now.target, &now.layer, &now.descriptor)?;
        if then.pick().estimate.source != tconv::ChosenBy::Shipped {
            continue;
        }
        checked += 1;
        let name = then.pick().kernel.name();
        let best = now.pick().estimate.nanoseconds;
        let time = now.offers.iter().find(|o| o.kernel.name() == name).map(|o| o.estimate.nanoseconds);
        let factor = time.map_or(f64::INFINITY, |ns| ns / best);
        if factor > SHIPPED_LIMIT {
            slower += 1;
            let best = now.pick().kernel.name();
            println!(
                "{}: shipped {name} takes {factor:.2} times as long as {best}\n  tconv tune '{}' --effort patient --verify-shipped",
                now.layer, now.descriptor
            );
        }
    }
    println!("{checked} shipped choices checked, {slower} do not hold");
    Ok(if slower == 0 { Outcome::Good } else { Outcome::Bad })
}

fn take_over(files: &[PathBuf], database: &mut Database, path: &Path) -> Result<Outcome, Failure> {
    let mut runs = runs::read_all(files)?;
    // The younger measurement of a problem replaces the older.
    runs.sort_by(|a, b| a.header.utc.cmp(&b.header.utc));
    let mut count = 0;
    for run in &runs {
        for line in Source::of(run).lines {
            database.put(line)?;
            count += 1;
        }
    }
    println!("{count} problems of {} runs in {}", runs.len(), path.display());
    Ok(Outcome::Good)
}
