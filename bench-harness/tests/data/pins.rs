//! Kernels of 2 layers, chosen on a machine.
//!
//!     tconv choose --emit rust --model ppocr-v4-det-head.onnx --choices pins.jsonl
//!
//! A pin plans exactly this kernel and variant with this rounding, or fails and says what is gone. Where only the speed
//! of the kernel has changed since, the plan carries a warning.

use tconv::Pin;

/// p2o.ConvTranspose.0: measured here, 1 ns.
pub const P2O_CONVTRANSPOSE_0: Pin = Pin {
    layer: "p2o.ConvTranspose.0",
    problem: "f32:nchw:1x24x8x8:o24:k2x2:s2x2",
    isa: "portable",
    threads: 1,
    kernel: "scatter",
    variant: "plain",
    numerics: 2,
    speed: 1,
};

/// p2o.ConvTranspose.2: measured here, 1 ns.
pub const P2O_CONVTRANSPOSE_2: Pin = Pin {
    layer: "p2o.ConvTranspose.2",
    problem: "f32:nchw:1x24x16x16:o1:k2x2:s2x2",
    isa: "portable",
    threads: 1,
    kernel: "gemm-col2im",
    variant: "column",
    numerics: 2,
    speed: 1,
};

/// All of them, in the order of the model.
#[rustfmt::skip]
pub const ALL: [&Pin; 2] = [
    &P2O_CONVTRANSPOSE_0,
    &P2O_CONVTRANSPOSE_2,
];
