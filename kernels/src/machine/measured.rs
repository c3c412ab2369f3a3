//! What recorded runs say of machines, and of predictions. Written by scripts/ship-choices.py: do not edit.

/// Machine, instruction set; f32 GFLOP/s, and GB/s from DRAM and the level-2 cache, of one core.
pub(super) const MEASURED: [(&str, &str, [f64; 3]); 4] = [
    ("authenticamd-25-1-avx2-32k-512k-32m-2c", "avx2", [104.0, 19.0, 103.0]),
    ("authenticamd-25-17-avx512-32k-1m-32m-2c", "avx512", [118.0, 21.7, 118.0]),
    ("genuineintel-6-167-avx512-48k-2m-480m-2c", "avx512", [233.0, 14.7, 189.0]),
    ("genuineintel-6-207-avx512-48k-2m-260m-2c", "avx512", [179.0, 14.3, 137.0]),
];

/// Two of three predictions of a kernel lie within this factor (logarithm) of the measured time.
pub(crate) const SPREADS: [(&str, f64); 12] = [
    ("depth-to-space", 0.23),
    ("depthwise", 0.61),
    ("gemm-col2im", 0.41),
    ("grouped-polyphase", 0.26),
    ("phase-merged", 0.24),
    ("pixel-lanes", 0.29),
    ("polyphase", 0.22),
    ("scatter", 0.54),
    ("sparse-csr", 0.48),
    ("weight-streaming", 0.26),
    ("winograd-polyphase", 0.21),
    ("zero-insert", 0.25),
];
