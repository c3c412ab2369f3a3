//! The machine that results belong to: what it is, what built the program, how busy it is, and its measured roofs.

mod environment;
mod roofs;
pub(crate) mod shape;
mod sheet;

pub use environment::{CpuTime, Environment, Toolchain};
pub(crate) use roofs::burst;
pub use roofs::{Bandwidth, Peak, Roofs, fma_peak, read_bandwidths};
pub use sheet::{SHEET_SCHEMA, Sheet};
pub use tconv::Fingerprint;
