//! The one schema of recorded results: JSON lines, a header, one line per (workload, kernel, threads, cache), an end.

use serde::{Deserialize, Serialize};

use crate::machine::{Environment, Fingerprint, Roofs, Toolchain};
use crate::measure::Stopped;

/// Grows when a field changes its meaning or vanishes; readers refuse other versions.
pub const SCHEMA: u32 = 1;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// The first line.
    Header(Box<Header>),
    /// Any number of them.
    Measurement(Box<Measurement>),
    /// The last line; without it the run was cut off.
    End(End),
}

/// Everything that a measurement depends on and that is the same for the whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The command line, from the name of the program on.
    pub command: String,
    /// Of inputs, samples, orders and bootstraps.
    pub seed: u64,
    /// Seconds that the run may take.
    pub budget_s: f64,
    /// What built the program.
    pub toolchain: Toolchain,
    /// The machine.
    pub machine: Fingerprint,
    /// Its load, and what the process may use.
    pub environment: Environment,
    /// What it can do at most.
    pub roofs: Roofs,
}

/// What happened to one kernel on one workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Name of the layer.
    pub workload: String,
    /// The layer itself, as `-w` takes it back.
    pub descriptor: String,
    /// Name of the kernel.
    pub kernel: String,
    /// Its variant; none where it declined.
    pub variant: Option<String>,
    /// Whether the planner would have chosen it among the measured kernels.
    pub default: bool,
    /// `nchw` or `nhwc`.
    pub layout: String,
    /// `f32` or `f64`.
    pub dtype: String,
    /// Instruction set.
    pub isa: String,
    /// Threads of the plan.
    pub threads: usize,
    /// Cache mode: `warm`.
    pub cache: String,
    /// Figures, or why there are none.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Told apart by their fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Outcome {
    /// Verified and timed.
    Figures(Figures),
    /// The kernel does not take this request.
    Declined {
        /// Its reason.
        declined: String,
    },
    /// It would have taken too long.
    Skipped {
        /// Why.
        skipped: String,
        /// Predicted time of one run.
        predicted_ns: f64,
    },
    /// A wrong answer is no measurement.
    Wrong {
        /// What is wrong.
        wrong: String,
        /// Always false.
        verified: bool,
        /// A command that shows it again.
        repro: String,
    },
}

/// Figures of one kernel on one workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Median wall time of one run.
    pub median_ns: f64,
    /// Lower quartile, which comparisons use.
    pub q1_ns: f64,
    /// Conventional FLOPs (2·N·Cin·co·∏K·∏I) per nanosecond of the median.
    pub gflops: f64,
    /// Part of the measured FMA peak of all threads of the run.
    pub share_of_peak: f64,
    /// Whether fewer multiply-adds are done than the convention counts: the rate is effective and may exceed the peak.
    pub effective: bool,
    /// Multiply-adds really done, as the kernel states.
    pub multiply_adds: f64,
    /// Of the plan.
    pub scratch_bytes: usize,
    /// Time of making the plan, weights packed.
    pub plan_ns: f64,
    /// Time of one run that the kernel predicted.
    pub predicted_ns: f64,
    /// Always true: what was not verified has no figures.
    pub verified: bool,
    /// Largest error of the sampled outputs, in units of u·Σ|x||w|.
    pub max_error_u: f64,
    /// Blocks that were timed.
    pub blocks: usize,
    /// Runs in them.
    pub runs: u64,
    /// Part of the blocks that nobody interrupted.
    pub clean_share: f64,
    /// Whether so few were clean that the figures come from all blocks.
    pub uses_dirty: bool,
    /// CPU time over wall time: about the number of threads where nothing else ran.
    pub cpu_share: f64,
    /// Minor page faults in all blocks.
    pub faults: u64,
    /// Time relative to the default kernel, with a 95 % interval, where both were in the same rounds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ratio_to_default: Option<[f64; 3]>,
    /// The default kernel against itself, likewise: the noise of this workload.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ratio_to_itself: Option<[f64; 3]>,
    /// Why the rounds ended.
    pub stopped: Stopped,
}

/// How the run ended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// Whether every workload had its turn.
    pub complete: bool,
    /// Root mean square distance from 1 of the default kernel's ratio to itself; none where nothing was measured.
    pub noise_floor: Option<f64>,
    /// Workloads behind the noise floor.
    pub noise_workloads: usize,
    /// Seconds that the run took.
    pub wall_s: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(outcome: Outcome) -> Record {
        Record::Measurement(Box::new(Measurement {
            workload: "up".into(),
            descriptor: "f32:nchw:1x1x2x2:o1:k2x2".into(),
            kernel: "scatter".into(),
            variant: Some("plain".into()),
            default: true,
            layout: "nchw".into(),
            dtype: "f32".into(),
            isa: "avx2".into(),
            threads: 1,
            cache: "warm".into(),
            outcome,
        }))
    }

    fn figures() -> Figures {
        Figures {
            median_ns: 10.5,
            q1_ns: 10.25,
            gflops: 3.0,
            share_of_peak: 0.03,
            effective: false,
            multiply_adds: 16.0,
            scratch_bytes: 0,
            plan_ns: 99.0,
            predicted_ns: 32.0,
            verified: true,
            max_error_u: 0.5,
            blocks: 8,
            runs: 2000,
            clean_share: 0.875,
            uses_dirty: false,
            cpu_share: 1.0,
            faults: 0,
            ratio_to_default: None,
            ratio_to_itself: Some([1.0, 0.99, 1.01]),
            stopped: Stopped::Precise,
        }
    }

    #[test]
    fn every_outcome_is_read_back_as_it_was_written() {
        for outcome in [
            Outcome::Figures(figures()),
            Outcome::Declined { declined: "needs 9 bytes".into() },
            Outcome::Skipped { skipped: "too long".into(), predicted_ns: 9e9 },
            Outcome::Wrong { wrong: "NaN".into(), verified: false, repro: "tconv rank".into() },
        ] {
            let record = measurement(outcome);
            let line = serde_json::to_string(&record).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record, "{line}");
        }
    }

    #[test]
    fn the_agreed_names_are_there() {
        let line = serde_json::to_value(measurement(Outcome::Figures(figures()))).unwrap();
        for name in
            "record workload descriptor kernel variant layout dtype threads median_ns gflops share_of_peak \
                     scratch_bytes plan_ns verified max_error_u q1_ns clean_share blocks runs effective"
                .split_whitespace()
        {
            assert!(line.get(name).is_some(), "{name}: {line}");
        }
    }
}
