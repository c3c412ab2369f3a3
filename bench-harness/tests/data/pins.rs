use tconv::Pin;
pub const P2O_CONVTRANSPOSE_0: Pin = Pin { layer: "", problem: "", isa: "", threads: 1, kernel: "", variant: "", numerics: 0, speed: 0 };
pub const P2O_CONVTRANSPOSE_2: Pin = P2O_CONVTRANSPOSE_0;
pub const ALL: [&Pin; 2] = [&P2O_CONVTRANSPOSE_0, &P2O_CONVTRANSPOSE_2];
