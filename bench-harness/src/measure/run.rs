//! A measuring run: many workloads, one budget, one file of records.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tconv::{Accuracy, Descriptor, Dtype, Error, Isa, Planner, Registry, Target};

use super::block::Crew;
use super::budget;
use super::cache::{CacheMode, Sweeper};
use super::shard::Shard;
use super::workload::{Job, Results};
use crate::cli::Failure;
use crate::machine::CpuTime;
use crate::peers::{Candidate, Visitors};
use crate::record::{End, Header, Record};
use crate::runs::RecordedRun;
use crate::statistics;

/// Set by Ctrl-C: the run ends after the current block, and writes what it has.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// What to measure, and how.
#[derive(Debug)]
pub struct Run<'a> {
    /// Name and problem of every workload; all of one type.
    pub workloads: Vec<(String, Descriptor)>,
    /// Where plans come from.
    pub registry: &'a Registry,
    /// Names of the kernels to measure.
    pub kernels: Vec<&'static str>,
    /// Other libraries to measure beside them, where the caches are warm.
    pub peers: Vec<Candidate>,
    /// What plans may give up.
    pub accuracy: Accuracy,
    /// Instruction set of every plan.
    pub isa: Isa,
    /// Every workload is measured with each of these numbers of threads …
    pub threads: Vec<usize>,
    /// … and in each of these states of the caches.
    pub caches: Vec<CacheMode>,
    /// Type of all workloads.
    pub dtype: Dtype,
    /// For everything.
    pub budget: Duration,
    /// Relative half width at which a ratio is known well enough.
    pub precision: f64,
    /// Of everything that is left to chance.
    pub seed: u64,
    /// Of which part of a larger set the workloads are.
    pub shard: Option<Shard>,
    /// The command line, for the records.
    pub command: String,
}

/// A sitting to come.
struct Turn<'a> {
    name: &'a str,
    descriptor: Descriptor,
    /// Place of the number of threads in [`Run::threads`].
    crew: usize,
    cache: CacheMode,
    /// Predicted runs of all contenders.
    predicted_ns: Vec<f64>,
}

impl Run<'_> {
    /// Measures every workload, and hands each record to `write` as soon as it is known. Returns what it wrote.
    pub fn perform(
        &self,
        write: &mut dyn FnMut(&Record) -> Result<(), Failure>,
    ) -> Result<RecordedRun, Failure> {
        let (start, cpu_time) = (Instant::now(), CpuTime::now());
        listen_for_interruption();

        let crews = self.threads.iter().map(|&n| Crew::new(n)).collect::<Result<Vec<_>, _>>()?;
        let header = self.header(&crews)?;
        write(&Record::Header(Box::new(header.clone())))?;

        let swept = self.caches.iter().any(|&cache| cache != CacheMode::Warm);
        let sweeper = |crew| Sweeper::new(&header.machine.caches, crew);
        let sweepers: Vec<Option<Sweeper>> =
            crews.iter().map(|crew| swept.then(|| sweeper(crew)).transpose()).collect::<Result<_, _>>()?;
        let turns = self.turns(&sweepers)?;
        let everything: Vec<f64> = turns.iter().flat_map(|turn| &turn.predicted_ns).copied().collect();
        let longest_run_ns = budget::longest_run_ns(&everything, self.budget);
        let needs: Vec<f64> = turns
            .iter()
            .map(|turn| {
                let runs = turn.predicted_ns.iter().copied();
                budget::need_ns(&runs.filter(|&ns| ns <= longest_run_ns).collect::<Vec<_>>())
            })
            .collect();

        let progress = Progress::new(turns.len(), start, self.budget);
        let mut nobody = Visitors::new(&[], 1)?;
        let mut visitors = (usize::MAX, Visitors::new(&[], 1)?);
        // The budget is for planning, checking and rounds: peers get ready on top of it.
        let mut inviting = Duration::ZERO;
        let (mut measurements, mut self_ratios) = (Vec::new(), Vec::new());
        let mut complete = true;
        for (i, turn) in turns.iter().enumerate() {
            let (name, descriptor, crew) = (turn.name, turn.descriptor, &crews[turn.crew]);
            if visitors.0 != turn.crew {
                let before = Instant::now();
                visitors = (turn.crew, Visitors::new(&self.peers, crew.threads())?);
                visitors.1.start(&|peer| progress.tell(i, peer, "starting"), &interrupted);
                inviting += before.elapsed();
            }
            let left = (self.budget + inviting).saturating_sub(start.elapsed());
            let job = Job {
                name,
                descriptor,
                planner: self.planner(crew.threads()),
                kernels: &self.kernels,
                isa: self.isa.name(),
                crew,
                cache: turn.cache,
                sweeper: sweepers[turn.crew].as_ref(),
                budget: budget::share(&needs[i..], left),
                longest_run_ns,
                precision: self.precision,
                seed: self.seed,
                peak: header.roofs.peak(crew.threads()),
                tell: &|doing| progress.tell(i, name, doing),
                interrupted: &interrupted,
            };
            let visitors = if turn.cache == CacheMode::Warm { &mut visitors.1 } else { &mut nobody };
            let results = match self.dtype {
                Dtype::F32 => job.run::<f32>(visitors),
                Dtype::F64 => job.run::<f64>(visitors),
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
        let source = String::new();
        Ok(RecordedRun { source, header, measurements, comparisons: Vec::new(), end: Some(end) })
    }

    fn header(&self, crews: &[Crew]) -> Result<Header, Error> {
        Ok(Header {
            command: self.command.clone(),
            seed: self.seed,
            budget_s: self.budget.as_secs_f64(),
            precision: self.precision,
            accuracy: Some(self.accuracy.name().to_owned()).filter(|_| self.accuracy != Accuracy::default()),
            shard: self.shard.map(|shard| shard.to_string()),
            ..Header::capture(self.isa, self.dtype, &crews.iter().collect::<Vec<_>>())?
        })
    }

    fn planner(&self, threads: usize) -> Planner {
        let target = Target { isa: self.isa, threads };
        Planner::new().with_registry(self.registry.clone()).on(target).accuracy(self.accuracy)
    }

    /// All sittings in their order: by threads, since peers are started for a number of them.
    fn turns(&self, sweepers: &[Option<Sweeper>]) -> Result<Vec<Turn<'_>>, Failure> {
        let mut turns = Vec::new();
        for (crew, &threads) in self.threads.iter().enumerate() {
            for (name, descriptor) in &self.workloads {
                let runs = self.predictions(descriptor, threads);
                let runs = runs.map_err(|e| Failure(format!("{name} ({descriptor}): {e}")))?;
                for &cache in &self.caches {
                    let sweep = match (cache, &sweepers[crew]) {
                        (CacheMode::Weights | CacheMode::Cold, Some(sweeper)) => sweeper.time(),
                        _ => Duration::ZERO,
                    };
                    let predicted_ns = runs.iter().map(|run| run + sweep.as_nanos() as f64).collect();
                    turns.push(Turn { name, descriptor: *descriptor, crew, cache, predicted_ns });
                }
            }
        }
        Ok(turns)
    }

    /// The predicted run of every kernel that takes the workload, and of the peers.
    fn predictions(&self, descriptor: &Descriptor, threads: usize) -> Result<Vec<f64>, Error> {
        let planner = self.planner(threads);
        let verdicts = planner.explain(&descriptor.problem, self.dtype, descriptor.epilogue, None)?;
        let wanted = verdicts.into_iter().filter(|v| self.kernels.contains(&v.kernel.name()));
        let costs = wanted.filter_map(|v| v.answer.ok());
        let mut runs: Vec<f64> = costs.map(|(_, cost)| cost.nanoseconds).collect();
        // Peers predict nothing: about as long as our best, twice.
        let best = runs.iter().copied().fold(f64::INFINITY, f64::min);
        if best.is_finite() {
            runs.extend(std::iter::repeat_n(2.0 * best, self.peers.len()));
        }
        Ok(runs)
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
