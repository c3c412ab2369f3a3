//! Roofs of machines that runs were recorded on. Written by scripts/ship-choices.py: do not edit.

/// Machine, instruction set; f32 GFLOP/s, and GB/s from DRAM and the level-2 cache, of one core.
pub(super) const MEASURED: [(&str, &str, [f64; 3]); 1] =
    [("authenticamd-25-17-avx512-32k-1m-32m-2c", "avx512", [118.0, 19.6, 118.0])];
