//! Which layers a command is about: from the zoo, a file, a model, a descriptor or a line of PyTorch.

use std::path::PathBuf;

use tconv::{Descriptor, Dtype, Layout, Target};

use super::import::ModelArgs;
use super::options::{dtype, layout, threads};
use crate::cli::Failure;
use crate::import;
use crate::workloads::{self, Workload};

/// The layers, and how they run.
#[derive(Debug, clap::Args)]
pub struct LayerArgs {
    /// A descriptor, a workload's name (or a regular expression), or a PyTorch layer: 'ConvTranspose2d(8, 4, 2, 2)@1x8x16x16'
    #[arg(value_name = "LAYER", conflicts_with = "pattern")]
    layer: Option<String>,
    /// Workloads whose name matches, or one descriptor
    #[arg(short = 'w', long = "workload", value_name = "RE")]
    pattern: Option<String>,
    /// Workloads of this TOML file instead of the built-in ones
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    workloads: Option<PathBuf>,
    /// All layers of an ONNX model, or of a file with what print(model) shows
    #[arg(long, value_name = "FILE")]
    model: Option<String>,
    #[command(flatten)]
    sizes: ModelArgs,
    /// Order of the axes: nchw (default) or nhwc
    #[arg(long, value_name = "LAYOUT", value_parser = layout)]
    layout: Option<Layout>,
    /// Element type: f32 (default) or f64
    #[arg(long, value_name = "TYPE", value_parser = dtype)]
    dtype: Option<Dtype>,
    /// Threads of every plan
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = threads, allow_negative_numbers = true)]
    threads: usize,
}

impl LayerArgs {
    /// Whether nothing was named.
    pub fn is_empty(&self) -> bool {
        self.layer.is_none() && self.pattern.is_none() && self.workloads.is_none() && self.model.is_none()
    }

    /// Name and problem of each; all of the zoo where nothing was named.
    pub fn layers(&self) -> Result<Vec<(String, Descriptor)>, Failure> {
        let pattern = self.layer.as_deref().or(self.pattern.as_deref());
        let chosen = match (&self.model, &self.workloads, pattern) {
            (Some(model), _, pattern) => workloads::select(self.import(model)?, pattern)?,
            (None, None, Some(text)) if import::is_pytorch(text) => self.import(text)?,
            (None, Some(path), pattern) => named(workloads::load(path)?, pattern)?,
            (None, None, pattern) => named(workloads::zoo(), pattern)?,
        };
        Ok(chosen.into_iter().map(|w| self.descriptor(w)).collect())
    }

    fn import(&self, source: &str) -> Result<Vec<Workload>, Failure> {
        let imported = self.sizes.import(source)?;
        imported.notes.iter().for_each(|note| eprintln!("tconv: {note}"));
        Ok(imported.workloads)
    }

    /// What a descriptor fixes stays, unless an option says otherwise.
    fn descriptor(&self, w: Workload) -> (String, Descriptor) {
        let problem = self.layout.map_or(w.problem, |layout| w.problem.with_layout(layout));
        let dtype = self.dtype.or(w.dtype).unwrap_or(Dtype::F32);
        let descriptor = Descriptor { problem, dtype, epilogue: w.epilogue, structure: w.structure };
        let name = if w.dtype.is_some() { descriptor.to_string() } else { w.name };
        (name, descriptor)
    }

    /// Where they run.
    pub fn target(&self) -> Result<Target, Failure> {
        Ok(Target::detect()?.with_threads(self.threads))
    }
}

/// A name that is one counts before a pattern that it is, too.
fn named(all: Vec<Workload>, pattern: Option<&str>) -> Result<Vec<Workload>, Failure> {
    match all.iter().find(|w| Some(w.name.as_str()) == pattern) {
        Some(named) => Ok(vec![named.clone()]),
        None => workloads::select(all, pattern),
    }
}
