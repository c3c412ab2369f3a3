//! Peak rate and bandwidths, from which kernels predict their cost.

use crate::machine::fingerprint::Fingerprint;
use crate::machine::isa::Isa;
use crate::machine::measured::MEASURED;
use crate::machine::tensor::Dtype;

/// Part of the measured peak that the kernels' own constants refer to: what a loop with loads sustains.
const SUSTAINED: f64 = 0.85;

/// What one core can do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Roofs {
    /// Sustained multiply-adds: floating-point operations per nanosecond (GFLOP/s), one core.
    pub gflops: f64,
    /// Bytes per nanosecond (GB/s) from and to DRAM.
    pub dram: f64,
    /// Bytes per nanosecond (GB/s) from and to the level-2 cache.
    pub l2: f64,
}

impl Roofs {
    /// What kernels predict from: as measured on the machine most like this one that was recorded with this instruction set (`scripts/ship-choices.py`), else
    /// orders of magnitude. Nothing is measured here.
    pub fn assumed(isa: Isa, dtype: Dtype) -> Self {
        let recorded = MEASURED
            .iter()
            .find(|(kind, name, _)| *name == isa.name() && Some(*kind) == Fingerprint::recorded(isa));
        recorded.map_or_else(|| Self::typical(isa, dtype), |(.., roofs)| Self::of(*roofs, dtype))
    }

    /// Orders of magnitude that are the same on every machine: of one that nobody measured only ratios between kernels count, and where
    /// a choice decides how results are rounded, all machines with an instruction set must make the same.
    pub fn typical(isa: Isa, dtype: Dtype) -> Self {
        let peak = match isa.name() {
            "avx512" | "avx2" => 118.0,
            "neon" => 47.0,
            _ => 14.0,
        };
        Self::of([peak, 20.0, 100.0], dtype)
    }

    /// From f32 peak and bandwidths.
    fn of([peak, dram, l2]: [f64; 3], dtype: Dtype) -> Self {
        let per_element = dtype.size() as f64 / 4.0;
        Self { gflops: SUSTAINED * peak / per_element, dram, l2 }
    }

    /// Nanoseconds of `multiply_adds` at `share` of the peak.
    pub fn compute_ns(&self, multiply_adds: u128, share: f64) -> f64 {
        2.0 * multiply_adds as f64 / (self.gflops * share)
    }

    /// Nanoseconds of moving `bytes` through DRAM.
    pub fn dram_ns(&self, bytes: f64) -> f64 {
        bytes / self.dram
    }
}
