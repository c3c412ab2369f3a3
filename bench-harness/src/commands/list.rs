//! `tconv list`: the kernels and the workloads.

use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::json;
use tconv::Dtype;

use crate::cli::{Context, Failure, Outcome};
use crate::output::{self, OutputArgs};
use crate::workloads;

/// What to list.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only one of the two lists
    what: Option<What>,
    /// Workloads of this TOML file instead of the built-in ones
    #[arg(long, value_name = "FILE")]
    workloads: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Kernels,
    Workloads,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    let mut lines = args.output.open()?;
    let mut text = String::new();
    if args.what != Some(What::Workloads) {
        let mut table = output::table(&["kernel", "revision", "what it does"], 3);
        for kernel in context.registry.iter() {
            let revisions = kernel.revisions();
            let revision = format!("{}.{}", revisions.numerics, revisions.speed);
            lines.write(&json!({
                "kernel": kernel.name(),
                "revision": revision,
                "summary": kernel.summary(),
                "allocates_in_run": kernel.guarantees().allocates_in_run,
            }))?;
            table.add_row([kernel.name(), &revision, kernel.summary()]);
        }
        text += &output::render(&table);
    }
    if args.what != Some(What::Kernels) {
        let all = match &args.workloads {
            Some(path) => workloads::load(path)?,
            None => workloads::zoo(),
        };
        let mut table = output::table(&["workload", "layer", "from"], 3);
        for w in all {
            let layer = workloads::descriptor(w.problem, w.dtype.unwrap_or(Dtype::F32), w.epilogue);
            lines
                .write(&json!({ "workload": w.name, "layer": layer, "source": w.source, "tags": w.tags }))?;
            table.add_row([w.name, layer, w.source]);
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text += &output::render(&table);
    }
    if !args.output.json {
        output::print(&text)?;
    }
    Ok(Outcome::Good)
}
