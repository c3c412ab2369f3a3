//! The command line: parse, dispatch, exit code.

use std::fmt::Display;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tconv::Registry;

use crate::commands::{
    choose, compare, describe, doctor, import, list, measure, merge, rank, report, serve, tune, verify,
};

/// What every command is given.
#[derive(Debug, Clone)]
pub struct Context {
    /// The kernels to compare.
    pub registry: Registry,
}

/// How a command ended that ran to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Exit code 0.
    Good,
    /// Something is wrong or regressed: exit code 1.
    Bad,
    /// A comparison stayed open where the caller asked for an answer: exit code 3.
    Unresolved,
}

/// A command that could not run: usage or environment, exit code 2, with this message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(pub String);

impl<E: Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

#[derive(Debug, Parser)]
#[command(
    name = "tconv",
    version,
    about = "Compares transposed-convolution kernels for correctness and throughput"
)]
#[command(after_help = "Exit codes: 0 good, 1 wrong or regressed, 2 usage or environment, 3 unresolved.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// One variant for each file in `commands/`.
#[derive(Debug, Subcommand)]
enum Command {
    /// List the kernels, the workloads, and the peers
    List(list::Args),
    /// Tell what a layer is made of, and what every kernel would do with it
    Describe(describe::Args),
    /// Check kernels against the oracle, a conformance set, and drawn problems
    Verify(verify::Args),
    /// Turn a model into a set of workloads
    Import(import::Args),
    /// Verify and measure kernels, in any number of settings, into a file
    Measure(measure::Args),
    /// Rank kernels: those of recorded runs, or measured now
    Rank(rank::Args),
    /// Measure two kernels, libraries or builds against each other, and say which is faster
    Compare(compare::Args),
    /// Say which kernel runs a layer best, how that is known, and what it would cost to do without it
    Choose(choose::Args),
    /// Measure candidates, so that choices rest on this machine
    Tune(tune::Args),
    /// Turn recorded runs into a page, a Markdown report, or tables of a document
    Report(report::Args),
    /// Put recorded runs into one file
    Merge(merge::Args),
    /// Tell what this machine is, what disturbs measurements on it, and what they can tell now
    Doctor(doctor::Args),
    /// Answer the live protocol with a kernel, as `compare` asks other builds
    Serve(serve::Args),
}

/// Runs the command line of this process.
pub fn main(context: Context) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to tell when even the message cannot be written.
            let _ = error.print();
            return ExitCode::from(error.exit_code().clamp(0, 255) as u8);
        }
    };
    let result = match &cli.command {
        Command::List(args) => list::run(args, &context),
        Command::Describe(args) => describe::run(args, &context),
        Command::Verify(args) => verify::run(args, &context),
        Command::Import(args) => import::run(args),
        Command::Measure(args) => measure::run(args, &context),
        Command::Rank(args) => rank::run(args, &context),
        Command::Compare(args) => compare::run(args, &context),
        Command::Choose(args) => choose::run(args, &context),
        Command::Tune(args) => tune::run(args, &context),
        Command::Report(args) => report::run(args, &context),
        Command::Merge(args) => merge::run(args, &context),
        Command::Doctor(args) => doctor::run(args, &context),
        Command::Serve(args) => serve::run(args, &context),
    };
    match result {
        Ok(Outcome::Good) => ExitCode::SUCCESS,
        Ok(Outcome::Bad) => ExitCode::from(1),
        Ok(Outcome::Unresolved) => ExitCode::from(3),
        Err(Failure(message)) => {
            eprintln!("tconv: {message}");
            ExitCode::from(2)
        }
    }
}
