//! Runs kernels on cases whose answer is known, and judges every output. No timing.
//!
//! ```text
//! Case ──▶ Material (inputs, truth; made once) ──▶ Trial (one kernel on one target) ──▶ judgement ──▶ Report
//! ```

pub mod case;
pub mod fuzz;
pub mod judge;
pub mod report;
pub mod trial;

use std::sync::Mutex;

use rayon::prelude::*;
use tconv::{Accuracy, Cost, Dtype, Element, Isa, Kernel, Layout, Registry};

pub use case::{Case, Material};
pub use report::{FailedTrial, Report};

use crate::cli::Failure;
use judge::Terms;
use trial::{Ran, Stage, Trial};

/// Cases of at most this many multiply-adds are also run a second time and repacked.
const LIGHT: u128 = 5_000_000;
/// A kernel that predicts as many nanoseconds for each useful multiply-add wastes most of its work.
const SLOW_NS: f64 = 2.0;
/// A kernel that predicts as many for each multiply-add that it does works like one product at a time.
const PLAIN_NS: f64 = 0.6;
/// How fast weights are packed, roughly.
const PACKED_BYTES_PER_NS: f64 = 4.0;

/// What to run on every case.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where kernels are planned from.
    pub registry: Registry,
    /// Instruction sets.
    pub isas: Vec<Isa>,
    /// Layouts, where the case does not fix one.
    pub layouts: Vec<Layout>,
    /// Types, where the case does not fix one.
    pub dtypes: Vec<Dtype>,
    /// Numbers of threads; all must give the same bits.
    pub threads: Vec<usize>,
    /// What plans may give up for speed.
    pub accuracy: Accuracy,
    /// Every variant of a kernel, not only the one that it advises.
    pub all_variants: bool,
    /// Slow references skip cases for which they predict more multiply-adds than this.
    pub work_limit: u128,
}

/// One kernel on one case, type, layout and instruction set.
#[derive(Debug)]
pub enum Verdict {
    /// Every output is right.
    Passed {
        /// The largest error in units of u·Σ|x||w|.
        worst: f64,
    },
    /// Something is wrong.
    Failed(Box<FailedTrial>),
    /// The kernel does not take it, for this reason.
    Declined(String),
    /// A slow reference, and too much work.
    Skipped,
}

/// Runs `kernels` on `cases`, the heaviest first, on all cores. `done` is called after every case; an error of it ends
/// the run.
pub fn verify(
    mut cases: Vec<Case>,
    kernels: &[&'static dyn Kernel],
    options: &Options,
    done: impl Fn(&[FailedTrial]) -> Result<(), Failure> + Sync,
) -> Result<Report, Failure> {
    cases.sort_by_key(|case| std::cmp::Reverse(case.work()));
    let report = Mutex::new(Report::new(kernels, &options.isas));
    cases.par_iter().with_max_len(1).try_for_each(|case| {
        let material = case.material();
        let mut failures = Vec::new();
        let mut verdicts = Vec::new();
        for dtype in case.dtypes(&options.dtypes) {
            let run = match dtype {
                Dtype::F32 => check::<f32>,
                Dtype::F64 => check::<f64>,
            };
            run(&material, kernels, options, &mut |kernel, isa, verdict| {
                if let Verdict::Failed(failed) = &verdict {
                    failures.push((**failed).clone());
                }
                verdicts.push((kernel, isa, verdict));
            });
        }
        let mut report = report.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for (kernel, isa, verdict) in verdicts {
            report.add(kernel, isa, case, verdict);
        }
        done(&failures)
    })?;
    let mut report = report.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    report.failures.sort_by(|a, b| (&a.kernel, &a.isa, &a.case).cmp(&(&b.kernel, &b.isa, &b.case)));
    Ok(report)
}

/// One case in one type: every layout, kernel and instruction set; reports by the indices of kernel and set.
fn check<T: Element>(
    material: &Material<'_>,
    kernels: &[&'static dyn Kernel],
    options: &Options,
    tell: &mut dyn FnMut(usize, usize, Verdict),
) {
    for layout in material.case.layouts(&options.layouts) {
        let stage = Stage::<T>::new(material, layout);
        for (k, &kernel) in kernels.iter().enumerate() {
            for (i, &isa) in options.isas.iter().enumerate() {
                let trial = Trial { kernel, isa, options, stage: &stage };
                for verdict in one(material, &trial) {
                    tell(k, i, verdict);
                }
            }
        }
    }
}

/// Whether a kernel with this cost is one of the slow references, for `work` useful multiply-adds.
fn slow(cost: &Cost, work: u128) -> bool {
    // Packing counts: a kernel that builds a matrix for one run is as slow as the building.
    let predicted = cost.nanoseconds + cost.packed_bytes as f64 / PACKED_BYTES_PER_NS;
    predicted >= SLOW_NS * work as f64 || cost.nanoseconds >= PLAIN_NS * cost.multiply_adds as f64
}

/// One kernel on one target: a verdict for each of its variants.
fn one<T: Element>(material: &Material<'_>, trial: &Trial<'_, T>) -> Vec<Verdict> {
    let case = material.case;
    let variants = match trial.variants() {
        Ok(variants) => variants,
        Err(declined) => return vec![Verdict::Declined(declined.reason)],
    };
    let judged = |(place, (variant, cost)): (usize, (tconv::Variant, tconv::Cost))| {
        if slow(&cost, case.work()) && cost.multiply_adds > trial.options.work_limit {
            return Verdict::Skipped;
        }
        let light = cost.multiply_adds <= LIGHT;
        let problem = match trial.run(&variant, light) {
            Ok(Ran::Declined(reason)) => return Verdict::Declined(reason),
            Ok(Ran::Output(output)) => {
                let guarantees = trial.kernel.guarantees();
                let truth = material.truth_for(guarantees.exactness);
                let terms = Terms::new(T::DTYPE, guarantees, case.epilogue);
                match judge::judge(&output, truth, &material.geometry, &terms) {
                    Ok(worst) => return Verdict::Passed { worst },
                    Err(problem) => problem,
                }
            }
            Err(problem) => problem,
        };
        let (dtype, layout) = (T::DTYPE, trial.stage.layout());
        Verdict::Failed(Box::new(FailedTrial {
            case: case.name(dtype, layout),
            kind: case.kind(),
            kernel: trial.kernel.name(),
            variant: variant.to_string(),
            isa: trial.isa.name(),
            dtype: dtype.name(),
            layout: layout.name(),
            reproduce: case.reproduce(trial.kernel.name(), trial.isa, dtype, layout, &trial.options.threads)
                + &match trial.options.accuracy {
                    Accuracy::Standard => String::new(),
                    other => format!(" --accuracy {}", other.name()),
                }
                + if place > 0 { " --all-variants" } else { "" },
            problem,
        }))
    };
    variants.into_iter().enumerate().map(judged).collect()
}

#[cfg(test)]
mod tests {
    use tconv::{Epilogue, Geometry, Planner, Target};

    use super::*;
    use crate::workloads;

    /// Were the plain loop not told apart, large cases would take hours; were a fast kernel taken for it, they would be
    /// left out.
    #[test]
    fn the_plain_loop_is_slow_and_the_general_kernel_is_not() {
        for workload in
            workloads::zoo().iter().filter(|w| ["pose_up3", "fcn32s", "voxgan3d"].contains(&&*w.name))
        {
            let work = Geometry::new(&workload.problem).unwrap().multiply_adds();
            for isa in Isa::available() {
                let planner = Planner::new().on(Target { isa, threads: 1 });
                let verdicts = planner.explain(&workload.problem, Dtype::F32, Epilogue::NONE, None).unwrap();
                let slow = |name: &str| {
                    let verdict = verdicts.iter().find(|v| v.kernel.name() == name).unwrap();
                    slow(&verdict.answer.as_ref().unwrap().1, work)
                };
                assert!(slow("scatter") && !slow("polyphase"), "{} on {}", workload.name, isa.name());
            }
        }
    }
}
