//! Peak rate and bandwidths, from which kernels predict their cost.

use crate::machine::isa::Isa;
use crate::machine::tensor::Dtype;

/// What one core can do at most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Roofs {
    /// Floating-point operations per nanosecond in f32 multiply-adds (GFLOP/s), one core.
    pub gflops: f64,
    /// Bytes per nanosecond (GB/s) from and to DRAM.
    pub dram: f64,
    /// Bytes per nanosecond (GB/s) from and to the level-2 cache.
    pub l2: f64,
}

impl Roofs {
    /// Orders of magnitude for a machine that nobody measured: only ratios between kernels depend on them.
    pub fn assumed(isa: Isa, dtype: Dtype) -> Self {
        let f32_rate = match isa.name() {
            "avx512" | "avx2" => 100.0,
            "neon" => 40.0,
            _ => 12.0,
        };
        let per_element = dtype.size() as f64 / 4.0;
        Self { gflops: f32_rate / per_element, dram: 20.0, l2: 100.0 }
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
