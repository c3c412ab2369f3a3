//! A measuring run: many workloads, one budget, one file of records.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use indicatif::{ProgressBar, ProgressStyle};
use tconv::{Descriptor, Dtype, Planner, Registry, Target};

use super::block::Crew;
use super::budget;
use super::workload::{Job, Results};
use crate::cli::Failure;
use crate::machine::{CpuTime, Environment, Fingerprint, Roofs, Toolchain};
use crate::peers::{Candidate, Visitors};
use crate::record::{End, Header, Measurement, Record, SCHEMA};
use crate::statistics;

/// Set by Ctrl-C: the run ends after the current block, and writes what it has.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// What to measure, and how.
#[derive(Debug)]
pub struct Run<'a> {
    /// Name and problem of every workload; all of one type and layout.
    pub workloads: Vec<(String, Descriptor)>,
    /// Where plans come from.
    pub registry: &'a Registry,
    /// Names of the kernels to measure.
    pub kernels: Vec<&'static str>,
    /// Other libraries to measure beside them.
    pub peers: Vec<Candidate>,
    /// Instruction set and threads.
    pub target: Target,
    /// Type of all workloads.
    pub dtype: Dtype,
    /// For everything.
    pub budget: Duration,
    /// Relative half width at which a ratio is known well enough.
    pub precision: f64,
    /// Of everything that is left to chance.
    pub seed: u64,
    /// The command line, for the records.
    pub command: String,
}

/// All that a run gave, in memory.
#[derive(Debug)]
pub struct Outcome {
    /// What it was measured on.
    pub header: Header,
    /// In the order of the workloads.
    pub measurements: Vec<Measurement>,
    /// How it ended.
    pub end: End,
}

impl Run<'_> {
    /// Measures every workload, and hands each record to `write` as soon as it is known.
    pub fn perform(&self, write: &mut dyn FnMut(&Record) -> Result<(), Failure>) -> Result<Outcome, Failure> {
        let (start, cpu_time) = (Instant::now(), CpuTime::now());
        listen_for_interruption();

        let crew = Crew::new(self.target.threads)?;
        let header = self.header(&crew)?;
        write(&Record::Header(Box::new(header.clone())))?;

        let predictions = self.predictions()?;
        let everything: Vec<f64> = predictions.iter().flatten().copied().collect();
        let longest_run_ns = budget::longest_run_ns(&everything, self.budget);
        let needs: Vec<f64> = predictions
            .iter()
            .map(|runs| {
                let possible: Vec<f64> = runs.iter().copied().filter(|&ns| ns <= longest_run_ns).collect();
                budget::need_ns(&possible)
            })
            .collect();

        let progress = Progress::new(self.workloads.len(), start, self.budget);
        let mut visitors = Visitors::new(&self.peers, self.target.threads)?;
        let before = Instant::now();
        visitors.start(&|name| progress.tell(0, name, "starting"), &interrupted);
        // The budget is for planning, checking and rounds: peers get ready on top of it.
        let mut inviting = before.elapsed();
        let (mut measurements, mut self_ratios) = (Vec::new(), Vec::new());
        let mut complete = true;
        for (i, (name, descriptor)) in self.workloads.iter().enumerate() {
            let left = (self.budget + inviting).saturating_sub(start.elapsed());
            let job = Job {
                name,
                descriptor: *descriptor,
                planner: self.planner(),
                kernels: &self.kernels,
                isa: self.target.isa.name(),
                crew: &crew,
                budget: budget::share(&needs[i..], left),
                longest_run_ns,
                precision: self.precision,
                seed: self.seed,
                peak: header.roofs.peak(self.target.threads),
                tell: &|doing| progress.tell(i, name, doing),
                interrupted: &interrupted,
            };
            let results = match self.dtype {
                Dtype::F32 => job.run::<f32>(&mut visitors),
                Dtype::F64 => job.run::<f64>(&mut visitors),
            };
            let Results { measurements: found, self_ratio, inviting: also } =
                results.map_err(|e| Failure(format!("{name} ({descriptor}): {e}")))?;
            inviting += also;
            self_ratios.extend(self_ratio);
            for measurement in found {
                let record = Record::Measurement(Box::new(measurement));
                write(&record)?;
                if let Record::Measurement(measurement) = record {
                    measurements.push(*measurement);
                }
            }
            if interrupted() {
                complete = false;
                break;
            }
        }
        progress.finish();
        let end = End {
            complete,
            noise_floor: (!self_ratios.is_empty()).then(|| statistics::noise_floor(&self_ratios)),
            noise_workloads: self_ratios.len(),
            steal_share: cpu_time.zip(CpuTime::now()).map(|(then, now)| now.shares_since(then).0),
            wall_s: start.elapsed().as_secs_f64(),
        };
        write(&Record::End(end))?;
        Ok(Outcome { header, measurements, end })
    }

    fn header(&self, crew: &Crew) -> Result<Header, Failure> {
        let environment = Environment::capture();
        let machine = Fingerprint::capture();
        let roofs = Roofs::measure(self.target.isa, self.dtype, &[crew], &machine.caches)?;
        Ok(Header {
            schema: SCHEMA,
            utc: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            command: self.command.clone(),
            seed: self.seed,
            budget_s: self.budget.as_secs_f64(),
            precision: self.precision,
            shard: None,
            toolchain: Toolchain::of_this_build(),
            machine,
            environment,
            roofs,
        })
    }

    fn planner(&self) -> Planner {
        Planner::new().with_registry(self.registry.clone()).on(self.target)
    }

    /// The predicted run of every kernel that takes the workload, and of the peers, for every workload.
    fn predictions(&self) -> Result<Vec<Vec<f64>>, Failure> {
        let of = |(name, descriptor): &(String, Descriptor)| {
            let explained =
                self.planner().explain(&descriptor.problem, self.dtype, descriptor.epilogue, None);
            let verdicts = explained.map_err(|e| Failure(format!("{name} ({descriptor}): {e}")))?;
            let wanted = verdicts.into_iter().filter(|v| self.kernels.contains(&v.kernel.name()));
            let costs = wanted.filter_map(|v| v.answer.ok());
            let mut runs: Vec<f64> = costs.map(|(_, cost)| cost.nanoseconds).collect();
            // Peers predict nothing: about as long as our best, twice.
            let best = runs.iter().copied().fold(f64::INFINITY, f64::min);
            if best.is_finite() {
                runs.extend(std::iter::repeat_n(2.0 * best, self.peers.len()));
            }
            Ok(runs)
        };
        self.workloads.iter().map(of).collect()
    }
}

/// From now on Ctrl-C asks for an end after the current block; a second one ends the program at once.
pub fn listen_for_interruption() {
    // Another handler of this process (in tests) may stay.
    let _ = ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    });
    INTERRUPTED.store(false, Ordering::Relaxed);
}

/// Whether somebody asked for an end.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// A bar on standard error. It moves only between measurements: a thread that redraws it would disturb them.
struct Progress {
    bar: ProgressBar,
    start: Instant,
    budget: Duration,
}

impl Progress {
    fn new(workloads: usize, start: Instant, budget: Duration) -> Self {
        let bar = ProgressBar::new(workloads as u64);
        let style =
            ProgressStyle::with_template("{bar:24} {pos}/{len} {wide_msg}").expect("a valid template");
        bar.set_style(style);
        Self { bar, start, budget }
    }

    fn tell(&self, index: usize, workload: &str, doing: &str) {
        let left = self.budget.saturating_sub(self.start.elapsed()).as_secs();
        self.bar.set_position(index as u64);
        self.bar.set_message(format!("{workload}: {doing} (about {}:{:02} left)", left / 60, left % 60));
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
