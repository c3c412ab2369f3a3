//! Measures candidates until the database knows the problems that it was asked for.

use std::fmt;
use std::time::{Duration, Instant};

use tconv::planning::choice::{Candidate, Line};
use tconv::{Descriptor, Dtype, Element, Fingerprint, Geometry, Planner, Registry, Target, Weights};

use super::{Database, lines};
use crate::cli::Failure;
use crate::measure::run::{Run, interrupted, listen_for_interruption};
use crate::measure::{Buffers, CacheMode, Contender, Crew, PlanContender};

/// Candidates of the model that `measure` looks at.
const SHORT_LIST: usize = 3;

/// How thoroughly a problem is measured. The order is that of thoroughness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Effort {
    /// Nothing is measured: what is known already, and the cost model
    Estimate,
    /// The three that the model expects to be the fastest
    Measure,
    /// Every kernel that takes the problem
    Patient,
    /// Every kernel, until intervals are four times narrower
    Exhaustive,
}

impl Effort {
    /// As the database has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Estimate => "estimate",
            Self::Measure => "measure",
            Self::Patient => "patient",
            Self::Exhaustive => "exhaustive",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Estimate, Self::Measure, Self::Patient, Self::Exhaustive]
            .into_iter()
            .find(|e| e.name() == name)
    }

    /// Time for a problem where no budget is given.
    pub fn time(self) -> Duration {
        match self {
            Self::Estimate => Duration::ZERO,
            Self::Measure => Duration::from_secs(2),
            Self::Patient => Duration::from_secs(6),
            Self::Exhaustive => Duration::from_secs(30),
        }
    }

    /// Relative half width of a ratio that ends the rounds.
    fn precision(self) -> f64 {
        if self == Self::Exhaustive { 0.00125 } else { 0.005 }
    }
}

impl fmt::Display for Effort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What is to be measured, and how.
#[derive(Debug)]
pub struct Tuning<'a> {
    /// The kernels.
    pub registry: &'a Registry,
    /// Instruction set and threads.
    pub target: Target,
    /// At least so thoroughly.
    pub effort: Effort,
    /// For everything.
    pub budget: Duration,
    /// Of everything that is left to chance.
    pub seed: u64,
    /// The command line, for the records.
    pub command: String,
}

/// What became of a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The database knew it.
    Known,
    /// It does now.
    Measured,
}

impl Tuning<'_> {
    /// Whether the database has the problem as thoroughly as is asked, with the kernels as they are now.
    pub fn knows(&self, database: &Database, descriptor: &Descriptor) -> bool {
        let line = database.get(&descriptor.to_string(), self.target.isa.name(), self.target.threads);
        line.is_some_and(|line| self.suffices(line, descriptor))
    }

    fn suffices(&self, line: &Line, descriptor: &Descriptor) -> bool {
        let current = line
            .measured()
            .all(|m| self.registry.get(&m.kernel).is_some_and(|kernel| m.is_of(kernel.revisions())));
        // One that declined may have learned to take the problem.
        let takes = |kernel: &str| {
            let verdicts = self.planner().only(kernel, None).explain_descriptor(descriptor);
            verdicts.is_ok_and(|verdicts| verdicts.iter().any(|v| v.answer.is_ok()))
        };
        let says = |c: &Candidate| !matches!(c, Candidate::Declined { kernel, .. } if takes(kernel));
        let listed = |kernel: &str| line.candidates.iter().any(|c| c.kernel() == kernel && says(c));
        let complete = self.registry.iter().all(|kernel| listed(kernel.name()));
        Effort::parse(&line.effort).is_some_and(|done| done >= self.effort) && current && complete
    }

    /// Measures the problems that the database does not know well enough, one after the other; each is written at once. `tell`
    /// hears of every problem: its place, and the time that is left.
    pub fn perform(
        &self,
        problems: &[(String, Descriptor)],
        database: &mut Database,
        tell: &mut dyn FnMut(usize, Progress, Duration),
    ) -> Result<bool, Failure> {
        listen_for_interruption();
        let start = Instant::now();
        let mut pending = problems.iter().filter(|(_, d)| !self.knows(database, d)).count();
        for (i, (name, descriptor)) in problems.iter().enumerate() {
            let left = self.budget.saturating_sub(start.elapsed());
            if self.effort == Effort::Estimate || self.knows(database, descriptor) {
                tell(i, Progress::Known, left);
                continue;
            }
            let line = self.measure(name, descriptor, left / pending.max(1) as u32, database)?;
            if interrupted() {
                return Ok(false);
            }
            database.put(line)?;
            pending -= 1;
            tell(i, Progress::Measured, self.budget.saturating_sub(start.elapsed()));
        }
        Ok(true)
    }

    fn measure(
        &self,
        name: &str,
        descriptor: &Descriptor,
        budget: Duration,
        database: &Database,
    ) -> Result<Line, Failure> {
        let listed = self.short_list(descriptor, database)?;
        let run = Run {
            workloads: vec![(name.to_owned(), *descriptor)],
            registry: self.registry,
            kernels: listed.clone(),
            peers: Vec::new(),
            accuracy: tconv::Accuracy::default(),
            isa: self.target.isa,
            threads: vec![self.target.threads],
            caches: vec![CacheMode::Warm],
            dtype: descriptor.dtype,
            budget,
            precision: self.effort.precision(),
            seed: self.seed,
            shard: None,
            command: self.command.clone(),
        };
        let outcome = run.perform(&mut |_| Ok(()))?;
        let effort = self.effort.name();
        let mut found = lines::of_measurements(Fingerprint::here(), effort, &outcome.measurements);
        let mut line = found.pop().ok_or_else(|| Failure(format!("{name} ({descriptor}): interrupted")))?;
        for kernel in self.registry.iter().map(|k| k.name()).filter(|k| !listed.contains(k)) {
            let skipped = format!("not among the {SHORT_LIST} that were expected to be the fastest");
            line.candidates.push(Candidate::Skipped {
                kernel: kernel.into(),
                variant: String::new(),
                skipped,
            });
        }
        self.look_at_bits(&mut line, descriptor)?;
        Ok(line)
    }

    /// Names of the kernels to measure.
    fn short_list(&self, descriptor: &Descriptor, database: &Database) -> Result<Vec<&'static str>, Failure> {
        if self.effort > Effort::Measure {
            return Ok(self.registry.iter().map(|k| k.name()).collect());
        }
        let planner = self.planner().choices(database.choices().0);
        let verdicts = planner.explain_descriptor(descriptor)?;
        let able = verdicts.iter().filter(|v| v.answer.is_ok());
        Ok(able.map(|v| v.kernel.name()).take(SHORT_LIST).collect())
    }

    fn planner(&self) -> Planner {
        Planner::new().with_registry(self.registry.clone()).on(self.target)
    }

    /// Runs the fast candidates twice more: do they give the same bits?
    fn look_at_bits(&self, line: &mut Line, descriptor: &Descriptor) -> Result<(), Failure> {
        let fastest = line.measured().next().map_or(f64::INFINITY, |m| m.ns[0]);
        for candidate in &mut line.candidates {
            if let Candidate::Measured(m) = candidate
                && m.ns[0] <= 3.0 * fastest
            {
                let planner = self.planner().only(&m.kernel, Some(&m.variant));
                m.deterministic = Some(match descriptor.dtype {
                    Dtype::F32 => self.same_bits_twice::<f32>(&planner, descriptor),
                    Dtype::F64 => self.same_bits_twice::<f64>(&planner, descriptor),
                }?);
            }
        }
        Ok(())
    }

    /// The second run finds the scratch as the first one left it.
    fn same_bits_twice<T: Element>(
        &self,
        planner: &Planner,
        descriptor: &Descriptor,
    ) -> Result<bool, Failure> {
        let Descriptor { problem, epilogue, structure, .. } = descriptor;
        let geometry = Geometry::new(problem)?;
        let buffers = Buffers::<T>::new(&geometry, *structure, self.seed)?;
        let bias = Buffers::<T>::uniform(if epilogue.bias { problem.out_channels() } else { 0 }, !self.seed)?;
        let weights = Weights::new(&buffers.weights);
        let weights = if epilogue.bias { weights.with_bias(&bias) } else { weights };
        let crew = Crew::new(self.target.threads)?;
        let plan = crew.install(|| planner.plan::<T>(problem, weights, *epilogue))?;
        let mut contender = PlanContender::new(&plan, &buffers, &crew)?;
        let mut bits = || {
            buffers.poison();
            contender.run(1);
            buffers.output().iter().map(|x| x.to_f64().to_bits()).collect::<Vec<u64>>()
        };
        Ok(bits() == bits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn efforts_have_an_order_and_names() {
        assert!(Effort::Estimate < Effort::Measure && Effort::Patient < Effort::Exhaustive);
        for effort in [Effort::Estimate, Effort::Measure, Effort::Patient, Effort::Exhaustive] {
            assert_eq!(Effort::parse(effort.name()), Some(effort));
        }
    }
}
