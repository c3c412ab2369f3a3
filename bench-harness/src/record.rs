//! The one schema of recorded results: JSON lines, a header, one line per (workload, kernel, threads, cache), an end.
//!
//! `results/schema/` states the same as JSON schema.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tconv::{Dtype, Error, Isa};

use crate::machine::{Environment, Fingerprint, Roofs, Toolchain};
use crate::measure::{Crew, Stopped};
use crate::statistics::Verdict;

/// Grows when a field changes its meaning or vanishes; readers refuse other versions.
pub const SCHEMA: u32 = 2;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// The first line.
    Header(Box<Header>),
    /// Any number of them.
    Measurement(Box<Measurement>),
    /// Lines of `tconv compare`: instead of measurements.
    Comparison(Box<Comparison>),
    /// The last line; without it the run was cut off.
    End(End),
}

/// Everything that a measurement depends on and that is the same for the whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Header {
    /// [`SCHEMA`].
    pub schema: u32,
    /// When it began: RFC 3339, UTC, whole seconds.
    pub utc: String,
    /// The command line, from the name of the program on.
    pub command: String,
    /// Of inputs, samples, orders and bootstraps.
    pub seed: u64,
    /// Seconds that the run may take.
    pub budget_s: f64,
    /// Relative half width at which a ratio counts as known.
    pub precision: f64,
    /// What plans might give up: `strict` or `normwise`; none for the default.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub accuracy: Option<String>,
    /// `"1/4"`: the first of four parts of the workloads; none for all of them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub shard: Option<String>,
    /// What built the program.
    pub toolchain: Toolchain,
    /// The machine.
    #[schemars(with = "crate::machine::shape::Fingerprint")]
    pub machine: Fingerprint,
    /// Its load, and what the process may use.
    pub environment: Environment,
    /// What it can do at most.
    pub roofs: Roofs,
}

impl Header {
    /// This build on this machine as it is now, with the roofs of these crews. What the run is about is left blank.
    pub fn capture(isa: Isa, dtype: Dtype, crews: &[&Crew]) -> Result<Self, Error> {
        let environment = Environment::capture();
        let machine = Fingerprint::capture();
        let roofs = Roofs::measure(isa, dtype, crews, &machine.caches)?;
        Ok(Self {
            schema: SCHEMA,
            utc: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            command: String::new(),
            seed: 0,
            budget_s: 0.0,
            precision: 0.0,
            accuracy: None,
            shard: None,
            toolchain: Toolchain::of_this_build(),
            machine,
            environment,
            roofs,
        })
    }
}

/// What happened to one implementation on one workload. All lines of a run with the same workload, layout, type, threads
/// and cache come from one sitting: their rounds belong together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Measurement {
    /// Name of the layer.
    pub workload: String,
    /// The layer itself, as `-w` takes it back.
    pub descriptor: String,
    /// Name of the implementation: a kernel, or `peer/mode`.
    pub kernel: String,
    /// Of a kernel: `numerics.speed`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revision: Option<String>,
    /// Its variant; none where it declined, or has only one.
    pub variant: Option<String>,
    /// Whether the planner would have chosen it among the measured kernels.
    pub default: bool,
    /// `nchw` or `nhwc`.
    pub layout: String,
    /// `f32` or `f64`.
    pub dtype: String,
    /// Instruction set; `own` where the implementation chooses by itself.
    pub isa: String,
    /// Threads of the plan.
    pub threads: usize,
    /// Cache mode: `warm`, `weights` (these are cold) or `cold`.
    pub cache: String,
    /// Set where it is no kernel of ours but another library, with `peer/mode` for a kernel name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peer: Option<PeerRecord>,
    /// Figures, or why there are none.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What is known of another library.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PeerRecord {
    /// How it was asked.
    pub mode: String,
    /// The order of axes in which it computed: `nchw`, `nhwc`, or its own, `any`.
    pub layout: String,
    /// As it says itself; none where it did not start.
    pub version: Option<String>,
    /// What was set for it alone.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub settings: Vec<String>,
    /// What it says of its own choice.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub implementation: Option<String>,
}

/// Told apart by their fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
#[allow(clippy::large_enum_variant)] // nearly all are figures
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
    /// A peer crashed, hung, or did not keep to the protocol.
    Failed {
        /// How.
        failed: String,
    },
}

/// Figures of one implementation on one workload. A peer does not tell everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Figures {
    /// Median wall time of one run.
    pub median_ns: f64,
    /// Lower quartile, which comparisons use.
    pub q1_ns: f64,
    /// Quantiles 0, 10, 25, 50, 75, 90 and 100 % of the time of one run.
    pub quantiles_ns: [f64; 7],
    /// Conventional FLOPs (2·N·Cin·co·∏K·∏I) per nanosecond of the median.
    pub gflops: f64,
    /// Part of the measured FMA peak of all threads of the run.
    pub share_of_peak: f64,
    /// Whether fewer multiply-adds are done than the convention counts: the rate is effective and may exceed the peak.
    pub effective: bool,
    /// Multiply-adds really done, as the kernel states; peers do not tell.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub multiply_adds: Option<f64>,
    /// Of the plan; peers do not tell.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub scratch_bytes: Option<usize>,
    /// Time of making the plan, weights packed.
    pub plan_ns: f64,
    /// Time from the problem to the result where nothing was prepared: plan, fresh buffers, one run. Of a peer: its plan and its
    /// first run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub one_shot_ns: Option<f64>,
    /// Time of one run that the kernel predicted; peers do not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub predicted_ns: Option<f64>,
    /// Always true: what was not verified has no figures.
    pub verified: bool,
    /// Largest error of the sampled outputs, in units of u·Σ|x||w|.
    pub max_error_u: f64,
    /// Blocks that were timed.
    pub blocks: usize,
    /// Runs in them.
    pub runs: u64,
    /// Part of the blocks that nobody interrupted; the rest is dirty.
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
    /// Time of a peer relative to the fastest kernel of ours, likewise.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ratio_to_best_kernel: Option<[f64; 3]>,
    /// The default kernel against itself, likewise: the noise of this workload.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ratio_to_itself: Option<[f64; 3]>,
    /// Why the rounds ended.
    pub stopped: Stopped,
    /// Time of one run in each round of the sitting, to five digits; null where the block does not count. Empty where there
    /// were no rounds. From these any two lines of a sitting can be compared, long after.
    #[serde(default)]
    pub rounds_ns: Vec<Option<f64>>,
}

impl Figures {
    /// Multiply-adds really done, as operations for each nanosecond: never above the peak. Peers do not tell.
    pub fn done_gflops(&self) -> Option<f64> {
        self.multiply_adds.map(|n| 2.0 * n / self.median_ns)
    }

    /// A star where the rate is effective: every table says what it means.
    pub fn mark(&self) -> &'static str {
        if self.effective { "*" } else { "" }
    }
}

/// Five digits: more than any clock here can tell.
pub fn five_digits(x: f64) -> f64 {
    format!("{x:.4e}").parse().unwrap_or(x)
}

/// Two contenders on one workload, or over all of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Comparison {
    /// Name of the layer; none for the geometric mean over all.
    pub workload: Option<String>,
    /// The layer itself; none likewise.
    pub descriptor: Option<String>,
    /// As the command line named it.
    pub first: String,
    /// Likewise.
    pub second: String,
    /// `nchw` or `nhwc`; none where the mean is over both.
    pub layout: Option<String>,
    /// `f32` or `f64`.
    pub dtype: String,
    /// Threads of both; none where the mean is over several.
    pub threads: Option<usize>,
    /// Cache mode.
    pub cache: String,
    /// Median time of one run of each.
    pub median_ns: Option<[f64; 2]>,
    /// Time of the second relative to the first, with a 95 % interval; none where one of them has no time.
    pub ratio: Option<[f64; 3]>,
    /// How the second stands to the first.
    pub verdict: Verdict,
    /// Half width around 1 that counts as no difference.
    pub band: f64,
    /// Blocks of each that nobody interrupted.
    pub clean_share: Option<[f64; 2]>,
    /// Rounds, or workloads behind a mean.
    pub rounds: usize,
    /// Sittings in which they took place, each with plans and tensors of its own; none for a mean.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sittings: Option<usize>,
    /// Why the rounds ended; none for a mean.
    pub stopped: Option<Stopped>,
    /// Why there is no ratio.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
    /// Written as soon as this workload was measured, and judged by it alone. Another line, judged beside all others, comes at
    /// the end of the run.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub provisional: bool,
}

/// How the run ended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct End {
    /// Whether every workload had its turn.
    pub complete: bool,
    /// Root mean square distance from 1 of the default kernel's ratio to itself; none where nothing was measured.
    pub noise_floor: Option<f64>,
    /// Workloads behind the noise floor.
    pub noise_workloads: usize,
    /// Part of all CPU time during the run that a hypervisor gave to others, where the system tells.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub steal_share: Option<f64>,
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
            revision: Some("1.1".into()),
            variant: Some("plain".into()),
            default: true,
            layout: "nchw".into(),
            dtype: "f32".into(),
            isa: "avx2".into(),
            threads: 1,
            cache: "warm".into(),
            peer: None,
            outcome,
        }))
    }

    fn figures() -> Figures {
        Figures {
            median_ns: 10.5,
            q1_ns: 10.25,
            quantiles_ns: [10.0, 10.125, 10.25, 10.5, 11.0, 12.0, 99.0],
            gflops: 3.0,
            share_of_peak: 0.03,
            effective: false,
            multiply_adds: Some(16.0),
            scratch_bytes: Some(0),
            plan_ns: 99.0,
            one_shot_ns: None,
            predicted_ns: Some(32.0),
            verified: true,
            max_error_u: 0.5,
            blocks: 8,
            runs: 2000,
            clean_share: 0.875,
            uses_dirty: false,
            cpu_share: 1.0,
            faults: 0,
            ratio_to_default: None,
            ratio_to_best_kernel: None,
            ratio_to_itself: Some([1.0, 0.99, 1.01]),
            stopped: Stopped::Precise,
            rounds_ns: vec![Some(10.25), None],
        }
    }

    #[test]
    fn every_outcome_is_read_back_as_it_was_written() {
        for outcome in [
            Outcome::Figures(figures()),
            Outcome::Declined { declined: "needs 9 bytes".into() },
            Outcome::Skipped { skipped: "too long".into(), predicted_ns: 9e9 },
            Outcome::Wrong { wrong: "NaN".into(), verified: false, repro: "tconv rank".into() },
            Outcome::Failed { failed: "crashed".into() },
        ] {
            let record = measurement(outcome);
            let line = serde_json::to_string(&record).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record, "{line}");
        }
    }

    #[test]
    fn five_digits_are_kept() {
        assert_eq!(five_digits(123_456.789), 123_460.0);
        assert_eq!(five_digits(0.012_345_678), 0.012_346);
        assert_eq!(five_digits(0.0), 0.0);
    }

    #[test]
    fn the_agreed_names_are_there() {
        let line = serde_json::to_value(measurement(Outcome::Figures(figures()))).unwrap();
        for name in
            "record workload descriptor kernel revision variant layout dtype threads median_ns gflops share_of_peak \
                     scratch_bytes plan_ns verified max_error_u q1_ns clean_share blocks runs effective quantiles_ns rounds_ns"
                .split_whitespace()
        {
            assert!(line.get(name).is_some(), "{name}: {line}");
        }
    }
}
