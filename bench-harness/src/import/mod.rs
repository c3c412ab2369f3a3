//! From what users have (a model file, a line of PyTorch, a benchdnn batch) to workloads.

pub mod benchdnn;
pub mod onnx;
pub mod pytorch;

use std::collections::HashSet;
use std::path::Path;

use tconv::problem::auto_pad::Convention;
use tconv::{Element, Epilogue, Geometry, Limits, Separable, Spec, Structure, WeightFacts};

use self::onnx::Onnx;
use crate::cli::Failure;
use crate::selection;
use crate::workloads::Workload;

/// Sizes that the caller adds to a source that lacks them.
#[derive(Debug, Clone, Default)]
pub struct Sizes {
    dims: Vec<(String, i64)>,
    at: Vec<(String, Vec<i64>)>,
}

impl Sizes {
    /// From `NAME=SIZE` (a dynamic size of a model) and `NAME=NxCxspatial` (the input shape of a layer).
    pub fn new(dims: &[String], at: &[String]) -> Result<Self, Failure> {
        let split = |option: &str, text: &str| {
            let (name, value) = text.rsplit_once('=').unwrap_or((text, ""));
            let sizes = shape(value).filter(|_| !name.is_empty());
            sizes.map(|sizes| (name.to_owned(), sizes)).ok_or_else(|| match option {
                "--dim" => Failure(format!("--dim '{text}': NAME=SIZE is expected")),
                _ => Failure(format!("--at '{text}': NAME=NxCxspatial is expected, such as up1=1x256x32x32")),
            })
        };
        let dims = dims.iter().map(|text| match split("--dim", text)? {
            (name, sizes) if sizes.len() == 1 => Ok((name, sizes[0])),
            _ => Err(Failure(format!("--dim '{text}': one size is expected"))),
        });
        Ok(Self {
            dims: dims.collect::<Result<_, _>>()?,
            at: at.iter().map(|text| split("--at", text)).collect::<Result<_, _>>()?,
        })
    }

    fn dim(&self, name: &str) -> Option<i64> {
        self.dims.iter().find(|(n, _)| n == name).map(|(_, size)| *size)
    }

    fn at(&self, layer: &str) -> Option<&[i64]> {
        self.at.iter().find(|(n, _)| n == layer).map(|(_, shape)| &shape[..])
    }

    /// A size for a layer that nobody has is a slip of the pen.
    fn check_layers(&self, layers: &[String]) -> Result<(), Failure> {
        let stranger = self.at.iter().map(|(name, _)| name).find(|name| !layers.contains(name));
        stranger.map_or(Ok(()), |name| Err(selection::unknown("layer", name, layers)))
    }

    fn check_dims(&self, names: &[String]) -> Result<(), Failure> {
        let stranger = self.dims.iter().map(|(name, _)| name).find(|name| !names.contains(name));
        stranger.map_or(Ok(()), |name| Err(selection::unknown("dynamic size", name, names)))
    }
}

/// `1x256x32x32`.
fn shape(text: &str) -> Option<Vec<i64>> {
    text.split('x').map(|n| n.trim().parse().ok().filter(|&n: &i64| n >= 0)).collect()
}

/// Workloads of one source, and what a reader should know about them.
#[derive(Debug, Default)]
pub struct Imported {
    /// In the order of the source.
    pub workloads: Vec<Workload>,
    /// One sentence each.
    pub notes: Vec<String>,
}

/// Whether a text is a layer or a model as PyTorch prints it, rather than the path of a file.
pub fn is_pytorch(text: &str) -> bool {
    text.contains("ConvTranspose") && text.contains('(')
}

/// A PyTorch text, or a file: an ONNX model, or a printed PyTorch model.
pub fn model(source: &str, sizes: &Sizes, convention: Convention) -> Result<Imported, Failure> {
    if is_pytorch(source) {
        return pytorch::import(source, "a PyTorch layer", sizes);
    }
    let path = Path::new(source);
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx")) {
        return onnx_workloads(&Onnx::open(path)?, &file_name(path), sizes, convention);
    }
    let text = read_text(path)?;
    if !is_pytorch(&text) {
        return Err(Failure(format!(
            "{source}: neither an ONNX model (*.onnx) nor a printed PyTorch model with a ConvTranspose layer"
        )));
    }
    pytorch::import(&text, &file_name(path), sizes)
}

/// A file of benchdnn problems.
pub fn benchdnn_file(path: &Path) -> Result<Imported, Failure> {
    benchdnn::import(&read_text(path)?, &file_name(path))
}

fn read_text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|e| Failure(format!("cannot read {}: {e}", path.display())))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn onnx_workloads(
    model: &Onnx,
    file: &str,
    sizes: &Sizes,
    convention: Convention,
) -> Result<Imported, Failure> {
    let mut imported = Imported::default();
    let mut names = Names::default();
    for layer in model.layers(sizes, convention)? {
        if let Some(foreign) = layer.foreign_type() {
            imported.notes.push(format!("{}: its weights are {foreign}; kernels compute in f32", layer.name));
        }
        let (structure, found) = structure_of(&layer)?;
        imported.notes.extend(found.map(|found| format!("{}: {found}", layer.name)));
        imported.workloads.push(Workload {
            name: names.unique(&layer.name),
            problem: layer.problem,
            epilogue: if layer.has_bias { Epilogue::BIAS } else { Epilogue::NONE },
            structure,
            dtype: None,
            source: format!("{file}, opset {}", layer.opset),
            tags: vec!["onnx".into()],
        });
    }
    if imported.workloads.is_empty() {
        return Err(Failure(format!(
            "{file}: no ConvTranspose node (written by {})",
            or_unknown(model.producer())
        )));
    }
    Ok(imported)
}

/// What the weights of a layer are like, where the file holds them, and what to say of it.
fn structure_of(layer: &onnx::Layer<'_>) -> Result<(Structure, Option<String>), Failure> {
    // Shapes alone are enough to import a layer: data that are kept elsewhere may be missing.
    let Some(Ok(weights)) = layer.weights() else { return Ok((Structure::General, None)) };
    let geometry = Geometry::new(&layer.problem)?;
    if weights.len() != geometry.weight_len() {
        return Ok((Structure::General, None));
    }
    let facts = WeightFacts::scan(&geometry, f32::tensor(&weights))?;
    Ok(match facts.separable {
        // Nothing but zeros is a file without weights rather than a layer.
        Separable::Yes { blocks: 0, .. } => (Structure::General, None),
        found @ Separable::Yes { .. } => (facts.structure(), Some(found.to_string())),
        _ => (Structure::General, None),
    })
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { "an unknown program" } else { text }
}

/// A checked workload.
fn workload(
    name: String,
    spec: &Spec,
    bias: bool,
    source: String,
    tag: &str,
) -> Result<Workload, tconv::Error> {
    Ok(Workload {
        name,
        problem: spec.check(Limits::default())?,
        epilogue: if bias { Epilogue::BIAS } else { Epilogue::NONE },
        structure: Structure::General,
        dtype: None,
        source,
        tags: vec![tag.into()],
    })
}

/// Names of a set are unique: a repeated one gets a number.
#[derive(Debug, Default)]
struct Names(HashSet<String>);

impl Names {
    fn unique(&mut self, name: &str) -> String {
        let mut candidate = name.to_owned();
        let mut number = 2;
        while !self.0.insert(candidate.clone()) {
            candidate = format!("{name}_{number}");
            number += 1;
        }
        candidate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_or_refused() {
        let text = |list: &[&str]| list.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        let sizes = Sizes::new(&text(&["batch=2"]), &text(&["a=b=1x3x8"])).unwrap();
        assert_eq!((sizes.dim("batch"), sizes.at("a=b")), (Some(2), Some(&[1, 3, 8][..])));
        for bad in ["batch", "batch=", "=2", "batch=-1", "batch=1x2"] {
            assert!(Sizes::new(&text(&[bad]), &[]).is_err(), "{bad}");
        }
        for bad in ["up1", "up1=1x", "up1=axb", "=1x2x3"] {
            let Failure(message) = Sizes::new(&[], &text(&[bad])).unwrap_err();
            assert!(message.contains(bad), "{message}");
        }
        let Failure(message) = sizes.check_layers(&text(&["up1", "up2"])).unwrap_err();
        assert!(message.contains("a=b") && message.contains("up1"), "{message}");
    }

    #[test]
    fn names_become_unique() {
        let mut names = Names::default();
        assert_eq!(["up", "up", "up_2"].map(|n| names.unique(n)), ["up", "up_2", "up_2_2"]);
    }
}
