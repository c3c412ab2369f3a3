//! `tconv verify`: every kernel against the oracle, a conformance set, and problems drawn at random.

use std::panic;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use comfy_table::Cell;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use tconv::{Accuracy, Dtype, Layout};

use crate::cli::{Context, Failure, Outcome};
use crate::data::{DTYPES, Numbers};
use crate::golden;
use crate::output::{self, OutputArgs};
use crate::selection;
use crate::verify::{self, Case, Options, Report, fuzz};
use crate::workloads::{self, Workload};

/// The variable that names an instruction set which must have run.
const REQUIRED_ISA: &str = "TCONV_REQUIRE_ISA";

/// What to verify. Without -w, --golden or --fuzz: all workloads.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Workloads whose name matches, or one descriptor
    #[arg(short, long, value_name = "RE|DESCRIPTOR")]
    workload: Option<String>,
    /// Workloads of this TOML file instead of the built-in ones
    #[arg(long, value_name = "FILE")]
    workloads: Option<PathBuf>,
    /// A conformance set: index.jsonl and data.bin
    #[arg(long, value_name = "DIR")]
    golden: Option<PathBuf>,
    /// Only this case of the conformance set (repeatable)
    #[arg(long, value_name = "ID", requires = "golden")]
    case: Vec<String>,
    /// As many problems drawn at random
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    fuzz: Option<u64>,
    /// Seed of the numbers and of the drawn problems
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Kernels whose name matches
    #[arg(short, long, value_name = "RE")]
    kernel: Option<String>,
    /// But not kernels whose name matches
    #[arg(long, value_name = "RE")]
    except: Option<String>,
    /// Every variant of the kernels, not only the one that they advise
    #[arg(long)]
    all_variants: bool,
    /// One instruction set instead of all that this CPU has (or of the one that TCONV_ISA names)
    #[arg(long, value_name = "NAME")]
    isa: Option<String>,
    /// Numbers of threads: all must give the same bits
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1,2", allow_negative_numbers = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Vec<u16>,
    /// One type instead of both
    #[arg(long, value_parser = workloads::dtype_argument)]
    dtype: Option<Dtype>,
    /// What plans may give up: strict, standard or normwise
    #[arg(long, default_value = "standard", value_parser = workloads::accuracy_argument)]
    accuracy: Accuracy,
    /// One layout instead of both
    #[arg(long, value_parser = workloads::layout_argument)]
    layout: Option<Layout>,
    /// Slow references (predicted at 0.6 ns a multiply-add or more, or at 2 ns a useful one, packing included) skip cases of more multiply-adds than this
    #[arg(long, value_name = "MACS", default_value_t = 50_000_000)]
    proc_limit: u128,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    let mut kernels = selection::kernels(&context.registry, args.kernel.as_deref())?;
    if args.except.is_some() {
        let unwanted = selection::kernels(&context.registry, args.except.as_deref())?;
        kernels.retain(|kernel| unwanted.iter().all(|other| other.name() != kernel.name()));
        if kernels.is_empty() {
            return Err(Failure("--except leaves no kernel".to_owned()));
        }
    }
    let options = Options {
        registry: context.registry.clone(),
        isas: selection::isas(args.isa.as_deref())?,
        layouts: args.layout.map_or_else(|| Layout::ALL.to_vec(), |l| vec![l]),
        dtypes: args.dtype.map_or_else(|| DTYPES.to_vec(), |d| vec![d]),
        threads: args.threads.iter().map(|&t| usize::from(t)).collect(),
        accuracy: args.accuracy,
        all_variants: args.all_variants,
        work_limit: args.proc_limit,
    };
    let cases = cases(args)?;
    let count = cases.len();

    only_first_panic_in_full();
    let lines = Mutex::new(args.output.open()?);
    let progress = progress(count as u64);
    let report = verify::verify(cases, &kernels, &options, |failures| {
        progress.inc(1);
        let mut lines = lines.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        failures.iter().try_for_each(|failed| lines.write(failed))
    })?;
    progress.finish_and_clear();

    let mut lines = lines.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    for tally in report.iter() {
        lines.write(tally)?;
    }
    for reason in &report.declined {
        lines
            .write(&json!({ "kernel": reason.kernel, "declined": reason.count, "reason": reason.example }))?;
    }
    if !args.output.json {
        output::print(&text(&report, count, &options))?;
    }
    require_isa(&report)?;
    let failed: usize = report.iter().map(|t| t.failed).sum();
    Ok(if failed == 0 { Outcome::Good } else { Outcome::Bad })
}

/// Everything that was asked for.
fn cases(args: &Args) -> Result<Vec<Case>, Failure> {
    let mut cases = Vec::new();
    if args.workload.is_some() || (args.golden.is_none() && args.fuzz.is_none()) {
        let all = match &args.workloads {
            Some(path) => workloads::load(path)?,
            None => workloads::zoo(),
        };
        for workload in workloads::select(all, args.workload.as_deref())? {
            drawn(&mut cases, &workload, args.seed)?;
        }
    }
    if let Some(directory) = &args.golden {
        let set = Arc::new(golden::Set::read(directory)?);
        let ids: Vec<&str> = set.cases.iter().map(|c| c.id.as_str()).collect();
        if args.case.is_empty() {
            cases.extend((0..ids.len()).map(|index| Case::golden(&set, index)));
        }
        for id in &args.case {
            let index =
                ids.iter().position(|i| i == id).ok_or_else(|| selection::unknown("case", id, &ids))?;
            cases.push(Case::golden(&set, index));
        }
    }
    for index in 0..args.fuzz.unwrap_or(0) {
        let (workload, seed) = fuzz::draw(args.seed, index);
        drawn(&mut cases, &workload, seed)?;
    }
    if cases.is_empty() {
        return Err("there is nothing to verify".into());
    }
    Ok(cases)
}

fn drawn(cases: &mut Vec<Case>, workload: &Workload, seed: u64) -> Result<(), Failure> {
    for numbers in [Numbers::Integer, Numbers::Real] {
        cases.push(Case::drawn(workload, numbers, seed)?);
    }
    Ok(())
}

/// A kernel that panics usually does it in many cases: every one is reported as a failure, the first with its trace.
fn only_first_panic_in_full() {
    let (full, seen) = (panic::take_hook(), AtomicBool::new(false));
    panic::set_hook(Box::new(move |info| {
        if !seen.swap(true, Ordering::Relaxed) {
            full(info);
        }
    }));
}

/// On standard error, and only where a person looks at it.
fn progress(count: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} cases, {eta} left");
    ProgressBar::with_draw_target(Some(count), ProgressDrawTarget::stderr())
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A path that was skipped is a failure where it is required.
fn require_isa(report: &Report) -> Result<(), Failure> {
    let Ok(name) = std::env::var(REQUIRED_ISA) else { return Ok(()) };
    let ran = |t: &&verify::report::Tally| t.isa == name && t.passed + t.failed > 0;
    match name.is_empty() || report.iter().any(|t| ran(&t)) {
        true => Ok(()),
        false => Err(Failure(format!("{REQUIRED_ISA}={name}: nothing ran on it"))),
    }
}

fn text(report: &Report, count: usize, options: &Options) -> String {
    let header = ["kernel", "isa", "passed", "failed", "declined", "skipped", "worst error"];
    let mut table = output::table(&header, 2);
    for t in report.iter() {
        let counts = [t.passed, t.failed, t.declined, t.skipped];
        let mut row = vec![Cell::new(t.kernel), Cell::new(t.isa)];
        row.extend(counts.map(Cell::new));
        row.push(Cell::new(format!("{:.2}", t.max_error_u)));
        table.add_row(row);
    }
    let names = |list: Vec<&str>| list.join(", ");
    let mut text = output::render(&table);
    text += &format!(
        "\n{count} cases in {} and {}, on {:?} threads; worst error in units of u·Σ|x||w|{}.\n",
        names(options.dtypes.iter().map(|d| d.name()).collect()),
        names(options.layouts.iter().map(|l| l.name()).collect()),
        options.threads,
        match options.accuracy {
            Accuracy::Normwise => " (kernels that bound a norm: of u·Σ‖w‖₁‖x‖₂)",
            _ => "",
        },
    );
    let skipped: usize = report.iter().map(|t| t.skipped).sum();
    if skipped > 0 {
        let limit = options.work_limit;
        text += &format!(
            "Skipped: {skipped}, slow references on more than {limit} multiply-adds (--proc-limit).\n"
        );
    }
    for reason in &report.declined {
        let (kernel, count) = (reason.kernel, reason.count);
        text += &format!("Declined by {kernel}: {count} × {}\n", reason.example);
    }
    for f in &report.failures {
        text += &format!(
            "FAILED {} ({}) {} {} {} {} {}: {}\n    {}\n",
            f.case, f.kind, f.kernel, f.variant, f.isa, f.dtype, f.layout, f.problem, f.reproduce
        );
    }
    text
}
