//! Compares transposed-convolution kernels for correctness and throughput.
//!
//! The whole program `tconv` is a library, so that kernels of other crates are compared like the built-in ones:
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     tconv_bench::main_with(tconv::Registry::builtin()) // .with(&MyKernel)
//! }
//! ```

pub mod builds;
pub mod choices;
pub mod cli;
pub mod commands;
pub mod data;
pub mod format;
pub mod golden;
pub mod import;
pub mod machine;
pub mod measure;
pub mod output;
pub mod peers;
pub mod record;
pub mod report;
pub mod runs;
pub mod sample;
pub mod selection;
pub mod statistics;
pub mod verify;
pub mod workloads;

/// Parses the command line, runs the command on these kernels, and says how it went.
pub fn main_with(registry: tconv::Registry) -> std::process::ExitCode {
    cli::main(cli::Context { registry })
}
