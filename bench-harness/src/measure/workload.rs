//! One workload from problem to figures: plan, verify on the buffers that are timed, then sit.

use std::time::{Duration, Instant};

use tconv::machine::scratch::AlignedVec;
use tconv::{
    Cost, Declined, Descriptor, Element, Error, Geometry, Kernel, Plan, Planner, Variant, Verdict, Weights,
};

use super::block::{Block, Crew};
use super::budget;
use super::cache::{CacheMode, Sweeper};
use super::check::Expected;
use super::contender::{Buffers, Contender, PlanContender};
use super::guest::Guest;
use super::sitting::{Series, Sitting, Stopped};
use crate::peers::Visitors;
use crate::record::{Figures, Measurement, Outcome, five_digits};
use crate::statistics;

/// What is recorded of the times of one run.
const QUANTILES: [f64; 7] = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0];

/// A first run of so many times its prediction was interrupted, or the prediction is far off: another tells which …
const FAR_TOO_SLOW: f64 = 3.0;
/// … unless it takes long.
const LONGEST_SECOND_GO: Duration = Duration::from_millis(500);

/// Whole calls of a kernel that takes longer to plan are not timed: the time belongs to the rounds of the next layer.
const LONGEST_PLAN_NS: f64 = 0.25e9;
/// So many whole calls …
const MOST_CALLS: usize = 5;
/// … or as many as begin within this time.
const CALLS: Duration = Duration::from_millis(20);

/// What one workload is measured with.
#[allow(missing_debug_implementations)] // holds closures
pub struct Job<'a> {
    /// Its name.
    pub name: &'a str,
    /// The problem, in the layout and type to measure.
    pub descriptor: Descriptor,
    /// Makes plans for the target to measure.
    pub planner: Planner,
    /// Names of the kernels to measure, in the order of the results.
    pub kernels: &'a [&'static str],
    /// The instruction set of the target.
    pub isa: &'static str,
    /// The threads of the target.
    pub crew: &'a Crew,
    /// What a run finds in the caches.
    pub cache: CacheMode,
    /// For caches that are not warm.
    pub sweeper: Option<&'a Sweeper>,
    /// Time for everything: planning, checking, rounds; what peers need to get ready comes on top.
    pub budget: Duration,
    /// Kernels that predict a longer run are skipped.
    pub longest_run_ns: f64,
    /// Relative half width at which a ratio is known well enough.
    pub precision: f64,
    /// Of data, samples and orders.
    pub seed: u64,
    /// Measured FMA peak of the crew, GFLOP/s.
    pub peak: f64,
    /// Told what is being done, for a progress bar.
    pub tell: &'a dyn Fn(&str),
    /// Whether somebody asked to stop.
    pub interrupted: &'a dyn Fn() -> bool,
}

/// A kernel on its way to figures.
struct Entry<T: Element> {
    kernel: &'static dyn Kernel,
    variant: Variant,
    cost: Cost,
    plan: Plan<T>,
    plan_ns: f64,
    first: Block,
    max_error_u: f64,
}

/// What a workload gave.
#[derive(Debug, Default)]
pub struct Results {
    /// One for each kernel that was asked, in the order of the registry, then for each peer, as far as it came.
    pub measurements: Vec<Measurement>,
    /// The ratio of the default kernel to itself, if rounds took place.
    pub self_ratio: Option<f64>,
    /// How long the peers took to get ready, which is not our planning's fault.
    pub inviting: Duration,
}

impl Job<'_> {
    /// Measures. Errors are of the environment (memory); what a kernel or a peer does wrong is a measurement.
    pub fn run<T: Element>(&self, visitors: &mut Visitors) -> Result<Results, Error> {
        let start = Instant::now();
        let (problem, epilogue) = (&self.descriptor.problem, self.descriptor.epilogue);
        let geometry = Geometry::new(problem)?;
        (self.tell)("filling buffers");
        let buffers = Buffers::<T>::new(&geometry, self.descriptor.structure, self.seed)?;
        let bias =
            epilogue.bias.then(|| Buffers::<T>::uniform(problem.out_channels(), !self.seed)).transpose()?;
        let mut weights = Weights::new(&buffers.weights);
        if let Some(bias) = &bias {
            weights = weights.with_bias(bias);
        }
        (self.tell)("asking the oracle");
        let mut expected = Expected::new(&geometry, &buffers, epilogue, bias.as_deref(), self.seed);

        let verdicts = self.planner.explain(problem, T::DTYPE, epilogue, Some(weights.kernel))?;
        let normwise = |v: &Verdict| v.answer.is_ok() && v.kernel.guarantees().exactness.is_normwise();
        if verdicts.iter().any(normwise) {
            expected = expected.with_norms(&geometry, &buffers, bias.as_deref());
        }
        let mut results = Results::default();
        let mut entries: Vec<Entry<T>> = Vec::new();
        for Verdict { kernel, answer, .. } in verdicts {
            if !self.kernels.contains(&kernel.name()) {
                continue;
            }
            if (self.interrupted)() {
                break;
            }
            match self.prepare(kernel, answer, weights, &buffers, &expected)? {
                Ok(entry) => entries.push(entry),
                Err((variant, outcome)) => {
                    results.measurements.push(self.kernel_measurement(kernel, variant, false, outcome))
                }
            }
        }
        let planned = start.elapsed();
        let mut guests =
            self.invite(visitors, &geometry, (&buffers, bias.as_deref()), &expected, &mut results);
        results.inviting = start.elapsed() - planned;
        let left = self.budget.saturating_sub(planned);
        self.sit(&entries, &mut guests, &buffers, &geometry, left, &mut results)?;
        guests.into_iter().for_each(Guest::leave);
        self.call_once(&entries, weights, &buffers, &mut results);
        let place = |m: &Measurement| match &m.peer {
            None => self.kernels.iter().position(|&name| name == m.kernel).unwrap_or_default(),
            Some(_) => self.kernels.len() + visitors.place(&m.kernel),
        };
        results.measurements.sort_by_key(place);
        Ok(results)
    }

    /// Plans one kernel, runs it once on poisoned output, and checks what it wrote. The inner error is an outcome
    /// without figures.
    #[allow(clippy::type_complexity)]
    fn prepare<T: Element>(
        &self,
        kernel: &'static dyn Kernel,
        answer: Result<(Variant, Cost), Declined>,
        weights: Weights<'_>,
        buffers: &Buffers<T>,
        expected: &Expected,
    ) -> Result<Result<Entry<T>, (Option<Variant>, Outcome)>, Error> {
        let (variant, cost) = match answer {
            Ok(answer) => answer,
            Err(declined) => return Ok(Err((None, Outcome::Declined { declined: declined.reason }))),
        };
        let without = |outcome| Ok(Err((Some(variant.clone()), outcome)));
        if cost.nanoseconds > self.longest_run_ns {
            return without(Outcome::Skipped {
                skipped: "one run is predicted to take too long for the budget".into(),
                predicted_ns: cost.nanoseconds,
            });
        }
        (self.tell)(&format!("{}: planning", kernel.name()));
        let (problem, epilogue) = (&self.descriptor.problem, self.descriptor.epilogue);
        let start = Instant::now();
        let only = self.planner.clone().only(kernel.name(), Some(variant.name()));
        let planned = self.crew.install(|| only.plan::<T>(problem, weights, epilogue));
        let plan_ns = start.elapsed().as_nanos() as f64;
        let plan = match planned {
            Ok(plan) => plan,
            Err(Error::NoKernel { reasons }) => return without(Outcome::Declined { declined: reasons }),
            Err(error) => return Err(error),
        };
        let mut contender = match self.contender(&plan, buffers) {
            Ok(contender) => contender,
            Err(error @ Error::OutOfMemory { .. }) => {
                return without(Outcome::Declined { declined: error.to_string() });
            }
            Err(error) => return Err(error),
        };
        (self.tell)(&format!("{}: checking", kernel.name()));
        buffers.poison();
        let mut first = contender.run(1);
        let checked = expected.check(&buffers.output(), kernel.guarantees().exactness);
        // A run that somebody interrupted would leave a quick kernel out of the rounds: what looks far too slow has another go.
        let suspicious = first.wall.as_nanos() as f64 > FAR_TOO_SLOW * cost.nanoseconds;
        if suspicious && first.wall < LONGEST_SECOND_GO {
            let again = contender.run(1);
            if again.wall < first.wall {
                first = again;
            }
        }
        match checked {
            Ok(max_error_u) => Ok(Ok(Entry { kernel, variant, cost, plan, plan_ns, first, max_error_u })),
            Err(wrong) => without(Outcome::Wrong {
                wrong: wrong.to_string(),
                verified: false,
                repro: format!(
                    "tconv rank -w '{}' -k '^{}$' --threads {} --seed {}",
                    self.descriptor,
                    kernel.name(),
                    self.crew.threads(),
                    self.seed
                ),
            }),
        }
    }

    /// Rounds over those that are quick enough, the default kernel twice; the others keep their first run.
    fn sit<T: Element>(
        &self,
        entries: &[Entry<T>],
        guests: &mut [Guest<'_>],
        buffers: &Buffers<T>,
        geometry: &Geometry,
        left: Duration,
        results: &mut Results,
    ) -> Result<(), Error> {
        // The planner's order: its choice comes first. Then its twin, then the guests.
        let (default, twin) = (0, entries.len());
        let first_guest = if entries.is_empty() { 0 } else { twin + 1 };
        let mut firsts: Vec<Duration> = entries.iter().map(|e| e.first.wall).collect();
        firsts.extend(entries.first().map(|e| e.first.wall));
        firsts.extend(guests.iter().map(|g| g.entry.first.wall));
        if let Some(sweeper) = self.sweeper.filter(|_| self.cache != CacheMode::Warm) {
            firsts.iter_mut().for_each(|first| *first += sweeper.time());
        }
        let left = left.max(budget::least(&firsts));
        // Among guests every block is warmed by a run, however long.
        let joins = budget::joining(&firsts, if guests.is_empty() { left } else { left / 2 });
        (self.tell)("measuring");

        let mut contenders = Vec::new();
        for (i, entry) in entries.iter().enumerate().filter(|(i, _)| joins[*i]) {
            contenders.push((i, self.contender(&entry.plan, buffers)?));
        }
        if let Some(entry) = entries.first().filter(|_| joins[default] && joins[twin]) {
            contenders.push((twin, self.contender(&entry.plan, buffers)?.named("itself")));
        }
        let mut visited: Vec<(usize, &mut dyn Contender)> =
            contenders.iter_mut().map(|(i, c)| (*i, c as _)).collect();
        let joining = |(j, _): &(usize, &mut Guest<'_>)| joins[first_guest + j];
        visited.extend(
            guests.iter_mut().enumerate().filter(joining).map(|(j, g)| (first_guest + j, &mut *g.live as _)),
        );
        let (places, mut visited): (Vec<usize>, Vec<&mut dyn Contender>) = visited.into_iter().unzip();
        let times: Vec<Duration> = places.iter().map(|&i| firsts[i]).collect();
        let sitting = Sitting { budget: left, precision: self.precision, seed: self.seed };
        let (series, stopped) = match visited.len() {
            0 => (Vec::new(), Stopped::Budget),
            _ => sitting.hold(&mut visited, &times, self.interrupted),
        };
        let series_of = |place: usize| {
            let at = places.iter().position(|&p| p == place)?;
            Some(&series[at]).filter(|s| !s.blocks.is_empty())
        };

        let against = |series: &Series, other: &Series| {
            series.ratio_of(other, self.seed).map(|r| [r.estimate, r.low, r.high])
        };
        let reference = series_of(default).filter(|_| !entries.is_empty());
        let itself = reference
            .filter(|s| s.blocks.len() > 1)
            .and_then(|reference| against(reference, series_of(twin)?));
        results.self_ratio = itself.map(|r| r[0]);
        for (i, entry) in entries.iter().enumerate() {
            let measured = series_of(i);
            let mut figures = self.figures_of(entry, geometry, measured, stopped);
            if i == default {
                figures.ratio_to_itself = itself;
            } else {
                figures.ratio_to_default = reference.zip(measured).and_then(|(r, m)| against(r, m));
            }
            let (variant, outcome) = (Some(entry.variant.clone()), Outcome::Figures(figures));
            results.measurements.push(self.kernel_measurement(entry.kernel, variant, i == default, outcome));
        }

        let own = (0..entries.len()).filter_map(series_of);
        let best = own.min_by(|a, b| a.quantile(0.25).total_cmp(&b.quantile(0.25)));
        for (j, guest) in guests.iter().enumerate() {
            let measured = series_of(first_guest + j);
            let outcome = match guest.live.failure() {
                Some(failed) => Outcome::Failed { failed },
                None => {
                    let mut figures = guest.figures(geometry, self.peak, measured, stopped);
                    figures.ratio_to_default = reference.zip(measured).and_then(|(r, m)| against(r, m));
                    figures.ratio_to_best_kernel = best.zip(measured).and_then(|(b, m)| against(b, m));
                    Outcome::Figures(figures)
                }
            };
            results.measurements.push(self.guest_measurement(guest, outcome));
        }
        Ok(())
    }

    /// A plan in the state of the caches that is measured.
    fn contender<'p, T: Element>(
        &'p self,
        plan: &'p Plan<T>,
        buffers: &'p Buffers<T>,
    ) -> Result<PlanContender<'p, T>, Error> {
        let contender = PlanContender::new(plan, buffers, self.crew)?;
        Ok(match self.sweeper {
            Some(sweeper) => contender.swept(sweeper, self.cache),
            None => contender,
        })
    }

    /// Fills in what the whole call takes where nothing was prepared: plan, fresh output and scratch, one run. Of those
    /// that were in the rounds and plan quickly, the median of a few calls.
    fn call_once<T: Element>(
        &self,
        entries: &[Entry<T>],
        weights: Weights<'_>,
        buffers: &Buffers<T>,
        results: &mut Results,
    ) {
        for entry in entries.iter().filter(|e| e.plan_ns < LONGEST_PLAN_NS) {
            let mut all = results.measurements.iter_mut();
            let found = all.find(|m| m.peer.is_none() && m.kernel == entry.kernel.name());
            let Some(Outcome::Figures(figures)) = found.map(|m| &mut m.outcome) else { continue };
            if figures.rounds_ns.is_empty() || (self.interrupted)() {
                continue;
            }
            (self.tell)(&format!("{}: whole calls", entry.kernel.name()));
            let (problem, epilogue) = (&self.descriptor.problem, self.descriptor.epilogue);
            let planner = self.planner.clone().only(entry.kernel.name(), Some(entry.variant.name()));
            let input = &buffers.input;
            let call = || -> Result<(), Error> {
                let plan = planner.plan::<T>(problem, weights, epilogue)?;
                let mut output = AlignedVec::tensor("output", plan.geometry().output_len())?;
                plan.execute(input, &mut output)?;
                std::hint::black_box(output);
                Ok(())
            };
            let (start, mut times_ns) = (Instant::now(), Vec::new());
            while times_ns.is_empty() || (times_ns.len() < MOST_CALLS && start.elapsed() < CALLS) {
                let begun = Instant::now();
                if self.crew.install(call).is_err() {
                    break; // no memory for a second output: no figure
                }
                times_ns.push(begun.elapsed().as_nanos() as f64);
            }
            figures.one_shot_ns = Some(statistics::median(&times_ns)).filter(|median| median.is_finite());
        }
    }

    fn figures_of<T: Element>(
        &self,
        entry: &Entry<T>,
        geometry: &Geometry,
        measured: Option<&Series>,
        stopped: Stopped,
    ) -> Figures {
        let flops = geometry.conventional_flops();
        Figures {
            effective: 2.0 * entry.cost.multiply_adds as f64 + 0.5 < flops,
            multiply_adds: Some(entry.cost.multiply_adds as f64),
            scratch_bytes: Some(entry.plan.scratch().bytes),
            plan_ns: entry.plan_ns,
            predicted_ns: Some(entry.cost.nanoseconds),
            max_error_u: entry.max_error_u,
            ..Figures::of_rounds(measured, stopped, entry.first, flops, self.peak)
        }
    }

    fn kernel_measurement(
        &self,
        kernel: &dyn Kernel,
        variant: Option<Variant>,
        default: bool,
        outcome: Outcome,
    ) -> Measurement {
        let variant = variant.map(|v| v.name().to_owned());
        let plain = self.measurement(kernel.name(), variant, default, outcome);
        Measurement { revision: Some(revision(kernel)), ..plain }
    }

    /// A line of the records.
    pub(super) fn measurement(
        &self,
        kernel: &str,
        variant: Option<String>,
        default: bool,
        outcome: Outcome,
    ) -> Measurement {
        Measurement {
            workload: self.name.into(),
            descriptor: self.descriptor.to_string(),
            kernel: kernel.into(),
            revision: None,
            variant,
            default,
            layout: self.descriptor.problem.layout().name().into(),
            dtype: self.descriptor.dtype.name().into(),
            isa: self.isa.into(),
            threads: self.crew.threads(),
            cache: self.cache.name().into(),
            peer: None,
            outcome,
        }
    }
}

impl Figures {
    /// What the blocks alone tell: those of the rounds, or one of a contender that was too slow to take part.
    pub(super) fn of_rounds(
        measured: Option<&Series>,
        stopped: Stopped,
        once: Block,
        flops: f64,
        peak: f64,
    ) -> Self {
        let once = Series { blocks: vec![once] };
        let series = measured.unwrap_or(&once);
        let median_ns = series.quantile(0.5);
        let gflops = flops / median_ns;
        let sum = |of: fn(&Block) -> f64| series.blocks.iter().map(of).sum::<f64>();
        Self {
            median_ns,
            q1_ns: series.quantile(0.25),
            quantiles_ns: QUANTILES.map(|p| series.quantile(p)),
            gflops,
            share_of_peak: gflops / peak,
            effective: false,
            multiply_adds: None,
            scratch_bytes: None,
            plan_ns: 0.0,
            one_shot_ns: None,
            predicted_ns: None,
            verified: true,
            max_error_u: 0.0,
            blocks: series.blocks.len(),
            runs: series.runs(),
            clean_share: series.clean_share(),
            uses_dirty: series.uses_dirty(),
            cpu_share: sum(|b| b.cpu.as_secs_f64()) / sum(|b| b.wall.as_secs_f64()).max(1e-9),
            faults: series.blocks.iter().map(|b| b.faults).sum(),
            ratio_to_default: None,
            ratio_to_best_kernel: None,
            ratio_to_itself: None,
            stopped: if measured.is_some() { stopped } else { Stopped::Once },
            rounds_ns: measured.map_or(Vec::new(), |s| s.times().map(|t| t.map(five_digits)).collect()),
        }
    }
}

/// The revisions of a kernel, as results name them.
pub fn revision(kernel: &dyn Kernel) -> String {
    let revisions = kernel.revisions();
    format!("{}.{}", revisions.numerics, revisions.speed)
}
