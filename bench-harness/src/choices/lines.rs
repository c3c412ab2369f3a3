//! From measurements to lines of a choice database.

use tconv::planning::choice::{Candidate, Line, Measured, SCHEMA};

use crate::record::{Figures, Measurement, Outcome, five_digits};
use crate::statistics::{lower_quartile, quantile_of_sorted};

/// One line for each problem that was measured: every setting of a run is a problem of its own.
pub fn of_measurements<'m>(
    machine: &str,
    effort: &str,
    measurements: impl IntoIterator<Item = &'m Measurement>,
) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for m in measurements.into_iter().filter(|m| m.peer.is_none()) {
        let same = |l: &&mut Line| {
            (&l.problem, &l.isa, l.threads, &l.cache) == (&m.descriptor, &m.isa, m.threads, &m.cache)
        };
        let line = match lines.iter_mut().rev().find(same) {
            Some(line) => line,
            None => {
                lines.push(Line {
                    schema: SCHEMA,
                    machine: machine.into(),
                    isa: m.isa.clone(),
                    threads: m.threads,
                    cache: m.cache.clone(),
                    problem: m.descriptor.clone(),
                    effort: effort.into(),
                    candidates: Vec::new(),
                });
                let last = lines.len() - 1;
                &mut lines[last]
            }
        };
        line.candidates.push(candidate(m));
    }
    lines.iter_mut().for_each(sort);
    lines
}

/// The fastest first, then those without a time.
fn sort(line: &mut Line) {
    let ns = |c: &Candidate| match c {
        Candidate::Measured(m) => m.ns[0],
        _ => f64::INFINITY,
    };
    line.candidates.sort_by(|a, b| ns(a).total_cmp(&ns(b)));
}

fn candidate(m: &Measurement) -> Candidate {
    let (kernel, variant) = (m.kernel.clone(), m.variant.clone().unwrap_or_default());
    match &m.outcome {
        Outcome::Figures(figures) => Candidate::Measured(Measured {
            kernel,
            variant,
            revisions: revisions(m.revision.as_deref()),
            ns: interval(figures),
            scratch_bytes: figures.scratch_bytes.unwrap_or(0),
            deterministic: None,
            max_error_u: five_digits(figures.max_error_u),
        }),
        Outcome::Declined { declined } => Candidate::Declined { kernel, declined: declined.clone() },
        Outcome::Skipped { skipped, .. } => Candidate::Skipped { kernel, variant, skipped: skipped.clone() },
        Outcome::Wrong { wrong, .. } => {
            Candidate::Skipped { kernel, variant, skipped: format!("a wrong answer: {wrong}") }
        }
        Outcome::Failed { failed } => Candidate::Skipped { kernel, variant, skipped: failed.clone() },
    }
}

/// `"1.2"`; a record without one belongs to no kernel of today.
fn revisions(text: Option<&str>) -> [u32; 2] {
    let parts = text.and_then(|text| text.split_once('.'));
    parts.and_then(|(a, b)| Some([a.parse().ok()?, b.parse().ok()?])).unwrap_or([0, 0])
}

/// The lower quartile of the rounds with its 95 % interval from order statistics. Without rounds (a slow kernel, run once)
/// all that was seen.
fn interval(figures: &Figures) -> [f64; 3] {
    let mut rounds: Vec<f64> = figures.rounds_ns.iter().flatten().copied().collect();
    rounds.sort_by(f64::total_cmp);
    let [fastest, .., slowest] = figures.quantiles_ns;
    let (ns, low, high) = match rounds.len() {
        0..2 => (figures.q1_ns, fastest.min(figures.q1_ns), slowest.max(figures.q1_ns)),
        n => {
            let ns = lower_quartile(&rounds);
            // The rank of the true quartile is binomial: n·p ± 1.96·√(n·p·(1 − p)).
            let half = 1.96 * (0.25 * 0.75 / n as f64).sqrt();
            let at = |p: f64| quantile_of_sorted(&rounds, p);
            (ns, at(0.25 - half).min(ns), at(0.25 + half).max(ns))
        }
    };
    [ns, low, high].map(five_digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_are_numbers() {
        assert_eq!(
            [Some("1.2"), Some("3"), Some("a.b"), None].map(revisions),
            [[1, 2], [0, 0], [0, 0], [0, 0]]
        );
    }
}
