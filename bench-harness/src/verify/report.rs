//! What a verification found, for each kernel and instruction set.

use std::collections::BTreeMap;

use serde::Serialize;
use tconv::{Isa, Kernel};

use super::{Case, Verdict};

/// Everything that was found.
#[derive(Debug, Clone)]
pub struct Report {
    /// By kernel, then by instruction set, in the order in which they were given.
    pub tallies: Vec<Vec<Tally>>,
    /// Why kernels declined.
    pub declined: Vec<Reason>,
    /// Every failure, in order of kernel and instruction set.
    pub failures: Vec<FailedTrial>,
}

/// Counts of one kernel on one instruction set: a case counts once for each type and layout.
#[derive(Debug, Clone, Serialize)]
pub struct Tally {
    /// The kernel.
    pub kernel: &'static str,
    /// The instruction set.
    pub isa: &'static str,
    /// Right in every output, run and number of threads.
    pub passed: usize,
    /// Wrong somewhere.
    pub failed: usize,
    /// Not taken by the kernel.
    pub declined: usize,
    /// Left out by a slow reference.
    pub skipped: usize,
    /// The largest error in units of u·Σ|x||w|, where a bound and not equality was asked for.
    pub max_error_u: f64,
    /// Passed, failed, declined, skipped by kind of case.
    pub kinds: BTreeMap<&'static str, [usize; 4]>,
}

/// A reason for declining, its numbers left out so that equal reasons meet.
#[derive(Debug, Clone, Serialize)]
pub struct Reason {
    /// Who declined.
    pub kernel: &'static str,
    /// How often.
    pub count: usize,
    /// One of them, with its numbers.
    pub example: String,
    #[serde(skip)]
    class: String,
}

/// One failure.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)] // the names of a results row
pub struct FailedTrial {
    pub case: String,
    pub kind: &'static str,
    pub kernel: &'static str,
    pub variant: String,
    pub isa: &'static str,
    pub dtype: &'static str,
    pub layout: &'static str,
    pub problem: String,
    /// A command that does it again.
    pub reproduce: String,
}

impl Report {
    /// Nothing yet.
    pub fn new(kernels: &[&'static dyn Kernel], isas: &[Isa]) -> Self {
        let tally = |kernel: &&'static dyn Kernel, isa: &Isa| Tally {
            kernel: kernel.name(),
            isa: isa.name(),
            passed: 0,
            failed: 0,
            declined: 0,
            skipped: 0,
            max_error_u: 0.0,
            kinds: BTreeMap::new(),
        };
        let row = |k| isas.iter().map(|isa| tally(k, isa)).collect();
        Self { tallies: kernels.iter().map(row).collect(), declined: Vec::new(), failures: Vec::new() }
    }

    /// Counts a verdict of kernel number `kernel` on instruction set number `isa`.
    pub fn add(&mut self, kernel: usize, isa: usize, case: &Case, verdict: Verdict) {
        let tally = &mut self.tallies[kernel][isa];
        let kind = tally.kinds.entry(case.kind()).or_default();
        match verdict {
            Verdict::Passed { worst } => {
                tally.passed += 1;
                tally.max_error_u = tally.max_error_u.max(worst);
                kind[0] += 1;
            }
            Verdict::Failed(failed) => {
                tally.failed += 1;
                kind[1] += 1;
                self.failures.push(*failed);
            }
            Verdict::Declined(reason) => {
                tally.declined += 1;
                kind[2] += 1;
                let kernel = tally.kernel;
                self.decline(kernel, reason);
            }
            Verdict::Skipped => {
                tally.skipped += 1;
                kind[3] += 1;
            }
        }
    }

    /// All tallies in one line.
    pub fn iter(&self) -> impl Iterator<Item = &Tally> {
        self.tallies.iter().flatten()
    }

    fn decline(&mut self, kernel: &'static str, example: String) {
        let class = without_numbers(&example);
        match self.declined.iter_mut().find(|r| r.kernel == kernel && r.class == class) {
            Some(reason) => reason.count += 1,
            None => self.declined.push(Reason { kernel, count: 1, example, class }),
        }
    }
}

fn without_numbers(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit() && *c != '.').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_reasons_meet() {
        let mut report = Report::new(&[], &[]);
        report.decline("a", "needs 12.5 GB".into());
        report.decline("a", "needs 7 GB".into());
        report.decline("a", "weights are not finite".into());
        report.decline("b", "needs 7 GB".into());
        let counts: Vec<_> =
            report.declined.iter().map(|r| (r.kernel, r.count, r.example.as_str())).collect();
        assert_eq!(
            counts,
            [("a", 2, "needs 12.5 GB"), ("a", 1, "weights are not finite"), ("b", 1, "needs 7 GB")]
        );
    }
}
