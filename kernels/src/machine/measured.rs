//! What recorded runs say of machines, and of predictions. Written by scripts/ship-choices.py: do not edit.

/// Machine, instruction set; f32 GFLOP/s, and GB/s from DRAM and the level-2 cache, of one core.
pub(super) const MEASURED: [(&str, &str, [f64; 3]); 1] =
    [("authenticamd-25-17-avx512-32k-1m-32m-2c", "avx512", [118.0, 21.6, 118.0])];

/// Two of three predictions of a kernel lie within this factor (logarithm) of the measured time.
pub(crate) const SPREADS: [(&str, f64); 12] = [
    ("depth-to-space", 0.17),
    ("depthwise", 0.50),
    ("gemm-col2im", 0.45),
    ("grouped-polyphase", 0.23),
    ("phase-merged", 0.18),
    ("pixel-lanes", 0.37),
    ("polyphase", 0.24),
    ("scatter", 0.78),
    ("sparse-csr", 0.56),
    ("weight-streaming", 0.23),
    ("winograd-polyphase", 0.20),
    ("zero-insert", 0.30),
];
