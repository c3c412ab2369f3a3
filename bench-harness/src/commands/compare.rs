//! `tconv compare`: two kernels against each other, interleaved, with a verdict for each workload and over all.

use std::path::PathBuf;
use std::time::Duration;

use tconv::{Descriptor, Dtype, Layout, Planner, Target};

use super::rank::{dtype, layout, seconds, threads};
use crate::cli::{Context, Failure, Outcome};
use crate::measure::duel::{self, Duel};
use crate::measure::{Crew, Sitting, run, slowed};
use crate::output::{self, OutputArgs};
use crate::record::Comparison;
use crate::statistics::{self, Interval, Ratio, Verdict};
use crate::{selection, workloads};

/// What to compare.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 nothing is slower, 1 the second is slower somewhere, 3 (with --strict) unresolved.\n\
    KERNEL+P% is that kernel made P % slower, to see what a comparison can find here."
)]
pub struct Args {
    /// Name of the first kernel
    first: String,
    /// Name of the second kernel: FASTER and SLOWER are said of it
    second: String,
    /// Workloads whose name matches, or one descriptor (all without)
    #[arg(short, long = "workload", value_name = "RE")]
    workload: Option<String>,
    /// Workloads of this TOML file instead of the built-in ones
    #[arg(long, value_name = "FILE")]
    workloads: Option<PathBuf>,
    /// Order of the axes: nchw (default) or nhwc
    #[arg(long, value_name = "LAYOUT", value_parser = layout)]
    layout: Option<Layout>,
    /// Element type: f32 (default) or f64
    #[arg(long, value_name = "TYPE", value_parser = dtype)]
    dtype: Option<Dtype>,
    /// Threads of both
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = threads, allow_negative_numbers = true)]
    threads: usize,
    /// Seconds for each workload
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds, allow_negative_numbers = true)]
    budget: Duration,
    /// Of data, samples, orders and intervals
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Exit with 3 where a verdict stays open
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Relative half width at which a ratio is known well enough.
const PRECISION: f64 = 0.005;

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    let all = match &args.workloads {
        Some(path) => workloads::load(path)?,
        None => workloads::zoo(),
    };
    let chosen = workloads::select(all, args.workload.as_deref())?;
    let mut registry = context.registry.clone();
    for name in [&args.first, &args.second] {
        registry = slowed::with_slowed(registry, name);
        if registry.get(name).is_none() {
            let names: Vec<&str> = context.registry.iter().map(|k| k.name()).collect();
            return Err(selection::unknown("kernel", name, &names));
        }
    }
    let dtype = args.dtype.or_else(|| chosen.first().and_then(|w| w.dtype)).unwrap_or(Dtype::F32);
    let target = Target::detect()?.with_threads(args.threads);
    let planner = Planner::new().with_registry(registry).on(target);
    let crew = Crew::new(args.threads)?;
    let mut lines = args.output.open()?;
    run::listen_for_interruption();

    let mut measured: Vec<(String, Descriptor, duel::Outcome)> = Vec::new();
    for w in chosen {
        let problem = args.layout.map_or(w.problem, |layout| w.problem.with_layout(layout));
        let descriptor = Descriptor { problem, dtype, epilogue: w.epilogue };
        let duel = Duel {
            descriptor,
            planner: &planner,
            kernels: [&args.first, &args.second],
            crew: &crew,
            sitting: Sitting { budget: args.budget, precision: PRECISION, seed: args.seed },
            interrupted: &run::interrupted,
        };
        let outcome = match dtype {
            Dtype::F32 => duel.run::<f32>(),
            Dtype::F64 => duel.run::<f64>(),
        };
        let outcome = outcome.map_err(|Failure(e)| Failure(format!("{} ({descriptor}): {e}", w.name)))?;
        measured.push((w.name, descriptor, outcome));
        if run::interrupted() {
            break;
        }
    }

    let comparisons = judge(args, &measured);
    for comparison in &comparisons {
        lines.write(&crate::record::Record::Comparison(Box::new(comparison.clone())))?;
    }
    if !args.output.json {
        output::print(&text(&comparisons))?;
    }
    let wrong = measured.iter().any(|(_, _, o)| matches!(o, Err(problem) if problem.contains(" is wrong: ")));
    let any = |verdict| comparisons.iter().any(|c| c.problem.is_none() && c.verdict == verdict);
    Ok(match () {
        () if wrong || any(Verdict::Slower) => Outcome::Bad,
        () if args.strict && (any(Verdict::Unresolved) || run::interrupted()) => Outcome::Unresolved,
        () => Outcome::Good,
    })
}

/// All verdicts at once: the noise floor is that of all workloads, and many claims are held to a stricter measure.
fn judge(args: &Args, measured: &[(String, Descriptor, duel::Outcome)]) -> Vec<Comparison> {
    let figures = || measured.iter().filter_map(|(_, _, outcome)| outcome.as_ref().ok());
    let self_ratios: Vec<f64> = figures().flat_map(|f| f.self_ratios.iter().copied()).collect();
    let floor = statistics::noise_floor(&self_ratios);
    let ratios: Vec<&Ratio> = figures().filter_map(|f| f.ratio.as_ref()).collect();
    let intervals: Vec<Interval> = ratios.iter().map(|r| r.interval).collect();
    let mut verdicts = statistics::verdicts(&intervals, floor).into_iter();
    let blank = |dtype: Dtype| Comparison {
        workload: None,
        descriptor: None,
        first: args.first.clone(),
        second: args.second.clone(),
        layout: None,
        dtype: dtype.name().into(),
        threads: Some(args.threads),
        cache: "warm".into(),
        median_ns: None,
        ratio: None,
        verdict: Verdict::Unresolved,
        band: statistics::band(floor),
        clean_share: None,
        rounds: 0,
        stopped: None,
        problem: None,
    };
    let mut comparisons: Vec<Comparison> = Vec::new();
    for (name, descriptor, outcome) in measured {
        let named = Comparison {
            workload: Some(name.clone()),
            descriptor: Some(descriptor.to_string()),
            layout: Some(descriptor.problem.layout().name().into()),
            ..blank(descriptor.dtype)
        };
        comparisons.push(match outcome {
            Err(problem) => Comparison { problem: Some(problem.clone()), ..named },
            Ok(f) => Comparison {
                median_ns: Some(f.median_ns),
                ratio: f.ratio.as_ref().map(|r| r.interval.to_array()),
                verdict: f.ratio.as_ref().and_then(|_| verdicts.next()).unwrap_or(Verdict::Unresolved),
                clean_share: Some(f.clean_share),
                rounds: f.rounds,
                stopped: Some(f.stopped),
                ..named
            },
        });
    }
    if let (Some(mean), [_, _, ..]) = (statistics::geometric_mean_ratio(&ratios, args.seed), &ratios[..]) {
        comparisons.push(Comparison {
            ratio: Some(mean.to_array()),
            verdict: statistics::verdict(&mean, floor),
            rounds: ratios.len(),
            ..blank(measured[0].1.dtype)
        });
    }
    comparisons
}

fn text(comparisons: &[Comparison]) -> String {
    let Some(any) = comparisons.first() else { return String::new() };
    let head = [
        "layer",
        "verdict",
        any.first.as_str(),
        any.second.as_str(),
        "ratio",
        "95 % interval",
        "rounds",
        "clean",
    ];
    let mut table = output::table(&head, 2);
    for c in comparisons {
        let name = c.workload.clone().unwrap_or_else(|| format!("geomean of {} layers", c.rounds));
        if let Some(problem) = &c.problem {
            table.add_row([name, problem.clone()]);
            continue;
        }
        let time = |side: usize| c.median_ns.map_or(String::new(), |m| format!("{:.4} ms", m[side] / 1e6));
        let (ratio, interval) = c.ratio.map_or(Default::default(), |[estimate, low, high]| {
            (format!("{estimate:.4}"), format!("{low:.4} – {high:.4}"))
        });
        let rounds = if c.workload.is_some() { c.rounds.to_string() } else { String::new() };
        let clean = c.clean_share.map_or(String::new(), |[a, b]| format!("{:.0} %", 50.0 * (a + b)));
        table.add_row([name, c.verdict.to_string(), time(0), time(1), ratio, interval, rounds, clean]);
    }
    let band = 100.0 * any.band;
    format!(
        "{}\nratio: time of the second over the first, lower quartiles; within ± {band:.1} % counts as the same.\n",
        output::render(&table)
    )
}
