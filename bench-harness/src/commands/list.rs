//! `tconv list`: the kernels, the workloads and the peers.

use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::json;
use tconv::Dtype;

use crate::cli::{Context, Failure, Outcome};
use crate::output::{self, OutputArgs};
use crate::peers::{self, State};
use crate::workloads;

/// What to list.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only one of the lists
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
    Peers,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    let mut lines = args.output.open()?;
    let mut text = String::new();
    let wanted = |what| args.what.is_none_or(|only| only == what);
    if wanted(What::Kernels) {
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
    if wanted(What::Workloads) {
        let all = match &args.workloads {
            Some(path) => workloads::load(path)?,
            None => workloads::zoo(),
        };
        let mut table = output::table(&["workload", "layer", "from"], 3);
        for w in all {
            let layer = w.descriptor(w.dtype.unwrap_or(Dtype::F32));
            lines
                .write(&json!({ "workload": w.name, "layer": layer, "source": w.source, "tags": w.tags }))?;
            table.add_row([w.name, layer, w.source]);
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text += &output::render(&table);
    }
    if wanted(What::Peers) {
        let folder = peers::list::folder();
        let mut table = output::table(&["peer", "modes", "state", "what it is"], 4);
        for peer in peers::list::all() {
            let modes: Vec<&str> = peer.modes.iter().map(|m| m.name.as_str()).collect();
            let (state, reason) = match peer.state(&folder)? {
                State::Installed { version, .. } => ("installed", version),
                State::Missing => ("not installed", format!("scripts/setup-peers.sh {}", peer.name)),
                State::Refused(why) => ("not to be had", why),
            };
            lines.write(&json!({
                "peer": peer.name, "modes": modes, "state": state, "detail": reason, "summary": peer.summary,
            }))?;
            table.add_row([&peer.name, &modes.join(" "), &format!("{state}: {reason}"), &peer.summary]);
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
