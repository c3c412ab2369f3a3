//! One line of a choice database: a problem on a machine, and every candidate.

use serde::{Deserialize, Serialize};

use crate::contract::kernel::Revisions;

/// Grows when a field changes its meaning or vanishes; lines of other versions are rejected.
pub const SCHEMA: u32 = 1;

/// What was measured for one problem. A later line of a file replaces an earlier one for the same problem.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// [`SCHEMA`].
    pub schema: u32,
    /// [`crate::Fingerprint`] of the machine.
    pub machine: String,
    /// Instruction set.
    pub isa: String,
    /// Of the plan.
    pub threads: usize,
    /// State of the caches before each run: `warm`.
    pub cache: String,
    /// The layer, as [`crate::Descriptor`] prints it.
    pub problem: String,
    /// How thoroughly it was measured: `measure`, `patient` or `exhaustive`.
    pub effort: String,
    /// The fastest first, then those without a time. A kernel that is not listed came later, one that declined may have learned to take
    /// the problem: both may win by their prediction.
    pub candidates: Vec<Candidate>,
}

/// A way to run the problem. The forms are told apart by their fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Candidate {
    /// Verified, then timed.
    Measured(Measured),
    /// It does not take the problem.
    Declined {
        /// The kernel.
        kernel: String,
        /// Why not.
        declined: String,
    },
    /// It was not timed.
    Skipped {
        /// The kernel.
        kernel: String,
        /// Its variant.
        variant: String,
        /// Why not: too slow to be worth it, or its answer was wrong.
        skipped: String,
    },
}

/// A verified candidate with its time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The kernel.
    pub kernel: String,
    /// Its variant.
    pub variant: String,
    /// `[numerics, speed]` of the kernel at that time.
    pub revisions: [u32; 2],
    /// Lower quartile of the time of one run, in nanoseconds, and the ends of its 95 % interval.
    pub ns: [f64; 3],
    /// Of the plan.
    pub scratch_bytes: usize,
    /// Whether two runs gave the same bits, where that was looked at.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub deterministic: Option<bool>,
    /// Largest error of the verification, in units of u·Σ|x||w|.
    pub max_error_u: f64,
}

impl Candidate {
    /// Name of the kernel.
    pub fn kernel(&self) -> &str {
        match self {
            Self::Measured(m) => &m.kernel,
            Self::Declined { kernel, .. } | Self::Skipped { kernel, .. } => kernel,
        }
    }
}

impl Measured {
    /// Whether the kernel is still as fast as the one that was measured. One that rounds otherwise may be: that voids pins, not times.
    pub fn is_of(&self, revisions: Revisions) -> bool {
        self.revisions[1] == revisions.speed
    }

    /// A time that can be one.
    pub(super) fn check(&self) -> Result<(), String> {
        let [ns, low, high] = self.ns;
        if ns.is_finite() && low > 0.0 && low <= ns && ns <= high && high.is_finite() {
            return Ok(());
        }
        Err(format!("kernel '{}': the times {:?} are no interval", self.kernel, self.ns))
    }
}

impl Line {
    /// Candidates with a time.
    pub fn measured(&self) -> impl Iterator<Item = &Measured> {
        self.candidates.iter().filter_map(|candidate| match candidate {
            Candidate::Measured(measured) => Some(measured),
            _ => None,
        })
    }
}
