//! What a choice costs where it could not be measured: every layer is judged by a planner that never saw it.

use tconv::planning::choice::{Candidate, Line};
use tconv::{Choices, ChosenBy, Descriptor, Fingerprint, Isa, Layout, Planner, Registry, Target};

use crate::cli::Failure;
use crate::format::percent;
use crate::output;
use crate::runs::RecordedRun;
use crate::statistics::geometric_mean;

use super::lines;

/// The most that the mean choice may lose against the best.
pub const MEAN_LIMIT: f64 = 0.03;
/// The most that any choice may lose, unless somebody asks for another limit.
pub const WORST_LIMIT: f64 = 0.25;

/// A recorded run as lines of a database.
#[derive(Debug)]
pub struct Source {
    /// Name of the file.
    pub name: String,
    /// Fingerprint of the machine.
    pub machine: String,
    /// Only kernels of ours, with warm caches.
    pub lines: Vec<Line>,
}

impl Source {
    /// Every run of one file, each a source.
    pub fn of(run: &RecordedRun) -> Self {
        let warm = run.measurements.iter().filter(|m| m.cache == "warm");
        let machine = run.header.machine.to_string();
        let lines = lines::of_measurements(&machine, "patient", warm);
        Self { name: run.source.clone(), machine, lines }
    }

    /// Whether the kernels of this process predict for its machine: predictions for another one cannot be judged by it.
    pub fn is_predicted_here(&self) -> bool {
        let recorded = |isa: &Isa| Fingerprint::recorded(*isa) == Some(&*self.machine);
        self.machine == Fingerprint::here()
            || Isa::available()
                .iter()
                .any(|isa| self.lines.iter().all(|l| l.isa == isa.name()) && recorded(isa))
    }
}

/// One judged choice.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// The layer.
    pub descriptor: Descriptor,
    /// Threads of the plan.
    pub threads: usize,
    /// What was chosen without knowing it.
    pub pick: String,
    /// Where that came from.
    pub source: ChosenBy,
    /// What was the fastest.
    pub best: String,
    /// Time of the pick over that of the best, less 1; infinite where the pick has no time.
    pub regret: f64,
}

/// Judges every line of `judged` by what `known` says of other layers. A line may give no case.
pub fn judge(judged: &[Line], known: &[&Line], registry: &Registry) -> Result<Vec<Case>, Failure> {
    let parsed = |line: &Line| line.problem.parse::<Descriptor>();
    let layer = |d: &Descriptor| d.problem.with_layout(Layout::Nchw);
    let known: Vec<(Descriptor, &Line)> =
        known.iter().map(|line| Ok((parsed(line)?, *line))).collect::<Result<_, tconv::Error>>()?;
    let mut cases = Vec::new();
    for line in judged {
        let descriptor = parsed(line)?;
        // The same sizes in another layout, type or number of threads would give it away.
        let others =
            known.iter().filter(|(d, other)| layer(d) != layer(&descriptor) && other.machine == line.machine);
        let choices = Choices::from_lines(others.map(|(_, line)| *line));
        let target = Target { isa: Isa::by_name(&line.isa)?, threads: line.threads };
        let planner =
            Planner::new().with_registry(registry.clone()).on(target).choices(choices).shipped(false);
        // A kernel that has changed since has no time to be judged by, and judges nobody.
        let mut line = line.clone();
        line.candidates.retain(|c| match c {
            Candidate::Measured(m) => registry.get(&m.kernel).is_some_and(|k| m.is_of(k.revisions())),
            _ => true,
        });
        cases.extend(case(&line, descriptor, &planner)?);
    }
    Ok(cases)
}

/// None where the line has no time, or the pick ran but once, cold: such a time says little.
fn case(line: &Line, descriptor: Descriptor, planner: &Planner) -> Result<Option<Case>, Failure> {
    let Some(best) = line.measured().min_by(|a, b| a.ns[0].total_cmp(&b.ns[0])) else { return Ok(None) };
    let verdicts = planner.explain(&descriptor.problem, descriptor.dtype, descriptor.epilogue, None)?;
    // Kernels that came later, or that have learnt to take the layer since, have no time to be judged by.
    let took_part = |name: &str| {
        line.candidates.iter().any(|c| c.kernel() == name && !matches!(c, Candidate::Declined { .. }))
    };
    let pick = verdicts.iter().find(|v| v.answer.is_ok() && took_part(v.kernel.name()));
    let Some((pick, estimate)) = pick.and_then(|v| Some((v.kernel.name(), v.estimate?))) else {
        return Ok(None);
    };
    let of_pick = line.measured().find(|m| m.kernel == pick);
    if of_pick.is_some_and(|m| m.ns[1] == m.ns[2] && m.kernel != best.kernel) {
        return Ok(None);
    }
    let time = of_pick.map_or(f64::INFINITY, |m| m.ns[0]);
    Ok(Some(Case {
        descriptor,
        threads: line.threads,
        pick: pick.into(),
        source: estimate.source,
        best: best.kernel.clone(),
        regret: time / best.ns[0] - 1.0,
    }))
}

/// A source and what its layers gave.
#[derive(Debug)]
pub struct Judged {
    /// Of the source.
    pub name: String,
    /// In its order.
    pub cases: Vec<Case>,
    /// Layers that gave none.
    pub open: usize,
}

/// Mean and worst of some cases.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Regret {
    /// Geometric mean of the ratios, less 1.
    pub mean: f64,
    /// The largest.
    pub worst: f64,
}

impl Regret {
    /// Of no case it is none at all.
    pub fn of(cases: &[Case]) -> Self {
        let worst = cases.iter().map(|c| c.regret).fold(0.0, f64::max);
        let mean =
            if cases.is_empty() { 0.0 } else { geometric_mean(cases.iter().map(|c| 1.0 + c.regret)) - 1.0 };
        Self { mean, worst }
    }

    /// Whether both are small enough.
    pub fn holds(self, worst: f64) -> bool {
        self.mean <= MEAN_LIMIT && self.worst <= worst
    }
}

/// The sources with their regret, and the choices that lose most.
pub fn text(judged: &[Judged], shown: usize) -> String {
    let mut table = output::table(&["judged", "layers", "open", "best chosen", "mean", "worst"], 1);
    for Judged { name, cases, open } in judged {
        let Regret { mean, worst } = Regret::of(cases);
        let right = cases.iter().filter(|c| c.pick == c.best).count();
        let counts = [cases.len(), *open, right].map(|n| n.to_string());
        table.add_row([std::slice::from_ref(name), &counts[..], &[percent(mean), percent(worst)]].concat());
    }
    let mut text = output::render(&table);
    let mut all: Vec<&Case> = judged.iter().flat_map(|j| &j.cases).filter(|c| c.regret > 0.0).collect();
    all.sort_by(|a, b| b.regret.total_cmp(&a.regret));
    if !all.is_empty() && shown > 0 {
        let mut table = output::table(&["regret", "threads", "chosen", "source", "best", "layer"], 6);
        for c in all.iter().take(shown) {
            table.add_row([
                percent(c.regret),
                c.threads.to_string(),
                c.pick.clone(),
                c.source.to_string(),
                c.best.clone(),
                c.descriptor.to_string(),
            ]);
        }
        text += &format!("\n{}", output::render(&table));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regret_has_two_limits() {
        let case = |regret| Case {
            descriptor: "f32:nchw:1x1x2x2:o1:k2x2".parse().unwrap(),
            threads: 1,
            pick: "a".into(),
            source: ChosenBy::CostModel,
            best: "b".into(),
            regret,
        };
        assert!(Regret::of(&[]).holds(WORST_LIMIT));
        let two = Regret::of(&[case(0.21), case(0.0)]);
        assert!((two.mean - 0.1).abs() < 1e-12 && two.worst == 0.21 && !two.holds(WORST_LIMIT));
        let mut many = vec![case(0.0); 20];
        many.push(case(0.24));
        assert!(Regret::of(&many).holds(WORST_LIMIT));
        many.push(case(0.26));
        assert!(!Regret::of(&many).holds(WORST_LIMIT));
        many.push(case(f64::INFINITY));
        assert_eq!(Regret::of(&many).worst, f64::INFINITY);
    }
}
