//! `tconv compare`: two kernels, other libraries or builds against each other, interleaved, with a verdict for each workload
//! and over all.

use std::path::Path;
use std::time::{Duration, Instant};

use tconv::{Descriptor, Dtype, Layout, Planner, Registry, Target};

use super::options::{self, Layers, layout, published, seconds, share, threads};
use crate::cli::{Context, Failure, Outcome};
use crate::machine::CpuTime;
use crate::measure::duel::{self, Duel, Problem};
use crate::measure::{Crew, Sitting, run, slowed};
use crate::output::{self, OutputArgs};
use crate::peers::{Candidate, Launch, Patience, Visitors, list};
use crate::record::{Comparison, End, Header, Record};
use crate::statistics::{self, Interval, Ratio, Verdict};
use crate::{builds, selection};

/// What to compare.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 nothing is slower, 1 the second is slower somewhere, 2 usage or environment, 3 (with --strict) \
    unresolved.\nKERNEL+P% is that kernel made P % slower, to see what a comparison can find here."
)]
pub struct Args {
    /// A kernel, a peer such as onednn-3.2/any, another build as bin:PATH, or a commit as git:REF, which is built first
    first: String,
    /// Likewise; FASTER and SLOWER are said of this one
    second: String,
    #[command(flatten)]
    layers: Layers,
    /// The kernel that builds and commits are asked for (default: what each of them chooses)
    #[arg(short, long = "kernel", value_name = "NAME")]
    kernel: Option<String>,
    /// Order of the axes: nchw (default) or nhwc
    #[arg(long, value_name = "LAYOUT", value_parser = layout)]
    layout: Option<Layout>,
    /// Threads of both
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = threads, allow_negative_numbers = true)]
    threads: usize,
    /// Seconds for everything (default: 5 for each workload)
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    budget: Option<Duration>,
    /// Half width of its interval at which a ratio is known well enough
    #[arg(long, value_name = "SHARE", default_value = "0.5%", value_parser = share, allow_negative_numbers = true)]
    ci: f64,
    /// Of data, samples, orders and intervals
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Exit with 3 where a verdict stays open
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Seconds for each workload where no budget is given.
const SECONDS_PER_WORKLOAD: f64 = 5.0;

/// One of the two.
enum Side {
    /// A kernel of this process, by name.
    Kernel(String),
    /// Anything else.
    Program(Box<Candidate>),
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    let (start, cpu_time) = (Instant::now(), CpuTime::now());
    let (workloads, dtype) = args.layers.choose(args.layout)?;
    let mut registry = context.registry.clone();
    let first = side(&args.first, args, &mut registry)?;
    let second = side(&args.second, args, &mut registry)?;
    let target = Target::detect()?.with_threads(args.threads);
    let planner = Planner::new().with_registry(registry).on(target);
    let crew = Crew::new(args.threads)?;
    let mut opponents = Opponents::new(first, second, args.threads)?;
    let mut lines = args.output.open()?;
    run::listen_for_interruption();

    // Building a commit is not measuring.
    let measuring = Instant::now();
    let seconds = SECONDS_PER_WORKLOAD * workloads.len() as f64;
    let budget = args.budget.unwrap_or(Duration::from_secs_f64(seconds));
    lines.write(&Record::Header(Box::new(Header {
        command: options::command_line(),
        seed: args.seed,
        budget_s: budget.as_secs_f64(),
        precision: args.ci,
        ..Header::capture(target.isa, dtype, &[&crew])?
    })))?;
    let mut measured: Vec<Measured> = Vec::new();
    let total = workloads.len();
    for (i, (name, descriptor)) in workloads.into_iter().enumerate() {
        let left = budget.saturating_sub(measuring.elapsed());
        let duel = Duel {
            descriptor,
            planner: &planner,
            crew: &crew,
            sitting: Sitting { budget: left / (total - i) as u32, precision: args.ci, seed: args.seed },
            interrupted: &run::interrupted,
        };
        let outcome = match dtype {
            Dtype::F32 => opponents.meet::<f32>(&duel),
            Dtype::F64 => opponents.meet::<f64>(&duel),
        };
        let outcome = outcome.map_err(|Failure(e)| Failure(format!("{name} ({descriptor}): {e}")))?;
        if outcome.as_ref().is_ok_and(|figures| figures.rounds == 0) {
            break; // interrupted before its first round was whole
        }
        measured.push((name, descriptor, outcome));
        // What was measured is not lost with what comes after.
        for alone in judge(args, dtype, &measured[i..]) {
            lines.write(&Record::Comparison(Box::new(Comparison { provisional: true, ..alone })))?;
        }
        if run::interrupted() {
            break;
        }
    }

    let comparisons = judge(args, dtype, &measured);
    for comparison in &comparisons {
        lines.write(&Record::Comparison(Box::new(comparison.clone())))?;
    }
    let self_ratios = self_ratios(&measured);
    lines.write(&Record::End(End {
        complete: measured.len() == total && !run::interrupted(),
        noise_floor: (!self_ratios.is_empty()).then(|| statistics::noise_floor(&self_ratios)),
        noise_workloads: self_ratios.len() / 2,
        steal_share: cpu_time.zip(CpuTime::now()).map(|(then, now)| now.shares_since(then).0),
        wall_s: start.elapsed().as_secs_f64(),
    }))?;
    if !args.output.json {
        output::print(&text(&comparisons))?;
    }
    let wrong = measured.iter().any(|(_, _, outcome)| matches!(outcome, Err(Problem::Wrong(_))));
    let any = |verdict| comparisons.iter().any(|c| c.problem.is_none() && c.verdict == verdict);
    Ok(match () {
        () if wrong || any(Verdict::Slower) => Outcome::Bad,
        () if args.strict && (any(Verdict::Unresolved) || run::interrupted()) => Outcome::Unresolved,
        () => Outcome::Good,
    })
}

/// What a name on the command line stands for. A kernel that is slower on purpose is added to the registry.
fn side(name: &str, args: &Args, registry: &mut Registry) -> Result<Side, Failure> {
    if let Some(path) = name.strip_prefix("bin:") {
        let program = Path::new(path);
        if !program.is_file() {
            return Err(Failure(format!("{path} is no program: bin:PATH names a build of tconv")));
        }
        return Ok(Side::Program(Box::new(build(name, program, args.kernel.as_deref()))));
    }
    if let Some(reference) = name.strip_prefix("git:") {
        let program = builds::of_commit(reference)?;
        return Ok(Side::Program(Box::new(build(name, &program, args.kernel.as_deref()))));
    }
    *registry = slowed::with_slowed(registry.clone(), name);
    if registry.get(name).is_some() {
        return Ok(Side::Kernel(name.into()));
    }
    let peers = list::all();
    let peer = name.split('/').next().and_then(|word| peers.iter().find(|peer| peer.name == word));
    if peer.is_some() {
        let modes = list::select(name)?;
        return match <[Candidate; 1]>::try_from(modes) {
            Ok([only]) => Ok(Side::Program(Box::new(only))),
            Err(modes) => {
                let names: Vec<String> = modes.into_iter().map(|mode| mode.name).collect();
                Err(Failure(format!(
                    "peer {name} can be asked in several ways, name one: {}",
                    names.join(", ")
                )))
            }
        };
    }
    let modes = |peer: &crate::peers::Peer| {
        peer.modes.iter().map(|mode| format!("{}/{}", peer.name, mode.name)).collect::<Vec<_>>()
    };
    let mut names: Vec<String> = registry.iter().map(|k| k.name().to_owned()).collect();
    names.extend(peers.iter().flat_map(modes));
    Err(selection::unknown("kernel or peer", name, &names))
}

/// A build of this program, asked for a kernel or for its own choice.
fn build(name: &str, program: &Path, kernel: Option<&str>) -> Candidate {
    let mut command = vec![program.as_os_str().to_owned(), "serve".into()];
    command.extend(kernel.map(|kernel| format!("--kernel={kernel}").into()));
    Candidate {
        name: published(name),
        mode: kernel.unwrap_or("default").into(),
        layout: "any".into(),
        settings: Vec::new(),
        launch: Launch { command, env: Vec::new() },
        patience: Patience::default(),
    }
}

/// Both, ready to meet.
enum Opponents {
    Kernels([String; 2]),
    Programs(Visitors),
}

impl Opponents {
    /// Where one is a program, so is the other: what that costs, it costs both. Each runs in two processes, since no two
    /// processes lay out their memory alike: that, too, is noise.
    fn new(first: Side, second: Side, threads: usize) -> Result<Self, Failure> {
        let program = |side| -> Result<Candidate, Failure> {
            match side {
                Side::Program(candidate) => Ok(*candidate),
                Side::Kernel(name) => Ok(build(&name, &std::env::current_exe()?, Some(&name))),
            }
        };
        Ok(match (first, second) {
            (Side::Kernel(first), Side::Kernel(second)) => Self::Kernels([first, second]),
            (first, second) => {
                let sides = [program(first)?, program(second)?];
                Self::Programs(Visitors::new(&duel::SIDES.map(|side| sides[side].clone()), threads)?)
            }
        })
    }

    fn meet<T: tconv::Element>(&mut self, duel: &Duel<'_>) -> Result<duel::Outcome, Failure> {
        match self {
            Self::Kernels([first, second]) => duel.kernels::<T>([first, second]),
            Self::Programs(visitors) => duel.programs::<T>(visitors),
        }
    }
}

/// A workload, and what came of it.
type Measured = (String, Descriptor, duel::Outcome);

/// Of all workloads: how far identical code differs.
fn self_ratios(measured: &[Measured]) -> Vec<f64> {
    let figures = measured.iter().filter_map(|(_, _, outcome)| outcome.as_ref().ok());
    figures.flat_map(|f| f.self_ratios.iter().copied()).collect()
}

/// All verdicts at once: the noise floor is that of all workloads, and many claims are held to a stricter measure.
fn judge(args: &Args, dtype: Dtype, measured: &[Measured]) -> Vec<Comparison> {
    let floor = statistics::noise_floor(&self_ratios(measured));
    let figures = measured.iter().filter_map(|(_, _, outcome)| outcome.as_ref().ok());
    let ratios: Vec<&Ratio> = figures.filter_map(|f| f.ratio.as_ref()).collect();
    let intervals: Vec<Interval> = ratios.iter().map(|r| r.interval).collect();
    let mut verdicts = statistics::verdicts(&intervals, floor).into_iter();
    let blank = || Comparison {
        workload: None,
        descriptor: None,
        first: published(&args.first),
        second: published(&args.second),
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
        sittings: None,
        stopped: None,
        problem: None,
        provisional: false,
    };
    let mut comparisons: Vec<Comparison> = Vec::new();
    for (name, descriptor, outcome) in measured {
        let named = Comparison {
            workload: Some(name.clone()),
            descriptor: Some(descriptor.to_string()),
            layout: Some(descriptor.problem.layout().name().into()),
            ..blank()
        };
        comparisons.push(match outcome {
            Err(Problem::None(problem) | Problem::Wrong(problem)) => {
                Comparison { problem: Some(problem.clone()), ..named }
            }
            Ok(f) => Comparison {
                median_ns: Some(f.median_ns),
                ratio: f.ratio.as_ref().map(|r| r.interval.to_array()),
                verdict: f.ratio.as_ref().and_then(|_| verdicts.next()).unwrap_or(Verdict::Unresolved),
                clean_share: Some(f.clean_share),
                rounds: f.rounds,
                sittings: Some(f.sittings),
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
            ..blank()
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
        let rounds = c.sittings.map_or(String::new(), |sittings| format!("{} in {sittings}", c.rounds));
        let clean = c.clean_share.map_or(String::new(), |[a, b]| format!("{:.0} %", 50.0 * (a + b)));
        table.add_row([name, c.verdict.to_string(), time(0), time(1), ratio, interval, rounds, clean]);
    }
    let band = 100.0 * any.band;
    format!(
        "{}\nratio: time of the second over the first, lower quartiles; within ± {band:.1} % counts as the same.\n",
        output::render(&table)
    )
}
