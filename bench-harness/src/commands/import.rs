//! `tconv import`: a model, a line of PyTorch or a benchdnn batch, as a set of workloads.

use std::path::PathBuf;

use tconv::problem::auto_pad::Convention;

use crate::cli::{Failure, Outcome};
use crate::import::{self, Imported, Sizes};
use crate::output;
use crate::workloads;

/// What to import.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tconv import model.onnx --dim batch=1 -o model.toml
  tconv import 'ConvTranspose2d(256, 128, kernel_size=4, stride=2, padding=1)@1x256x32x32'
  tconv import printed-model.txt --at decoder.up1=1x256x32x32
  tconv import --benchdnn shapes.txt")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// A file of benchdnn deconvolutions
    #[arg(long, value_name = "FILE", conflicts_with = "source", required_unless_present = "source")]
    benchdnn: Option<PathBuf>,
    /// An ONNX model, a file with what print(model) shows, or such a text itself
    #[arg(value_name = "MODEL|LAYER")]
    source: Option<String>,
    /// Write the set to this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What a model lacks.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ModelArgs {
    /// A dynamic size of an ONNX model
    #[arg(long = "dim", value_name = "NAME=SIZE")]
    dims: Vec<String>,
    /// The input shape of a layer, channels first
    #[arg(long = "at", value_name = "LAYER=NxCxSPATIAL")]
    at: Vec<String>,
    /// Who reads auto_pad SAME_UPPER and SAME_LOWER: onnx (default), onnxruntime or onnxruntime-1.12
    #[arg(long, value_name = "NAME", value_parser = convention)]
    convention: Option<Convention>,
}

fn convention(text: &str) -> Result<Convention, String> {
    match text {
        "onnx" => Ok(Convention::Onnx),
        "onnxruntime" => Ok(Convention::OnnxRuntime),
        "onnxruntime-1.12" => Ok(Convention::OnnxRuntimeTo112),
        _ => Err("expected onnx, onnxruntime or onnxruntime-1.12".into()),
    }
}

impl ModelArgs {
    /// The layers of a model or of a PyTorch text.
    pub fn import(&self, source: &str) -> Result<Imported, Failure> {
        let sizes = Sizes::new(&self.dims, &self.at)?;
        import::model(source, &sizes, self.convention.unwrap_or(Convention::Onnx))
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Outcome, Failure> {
    let imported = match (&args.source, &args.benchdnn) {
        (Some(source), _) => args.model.import(source)?,
        (None, Some(path)) => import::benchdnn_file(path)?,
        (None, None) => return Err(Failure("nothing to import".into())),
    };
    for note in &imported.notes {
        eprintln!("tconv: {note}");
    }
    let from = match &args.source {
        Some(source) if !import::is_pytorch(source) => {
            let path = std::path::Path::new(source);
            path.file_name().map_or(source.clone(), |name| name.to_string_lossy().into_owned())
        }
        Some(_) => "a PyTorch layer".into(),
        None => "a benchdnn batch".into(),
    };
    let count = imported.workloads.len();
    let comment = format!("{count} transposed convolution{} of {from}", if count == 1 { "" } else { "s" });
    let text = workloads::to_toml(&comment, &imported.workloads)?;
    match &args.output {
        None => output::print(&text)?,
        Some(path) => {
            std::fs::write(path, text)
                .map_err(|e| Failure(format!("cannot write {}: {e}", path.display())))?;
        }
    }
    Ok(Outcome::Good)
}
