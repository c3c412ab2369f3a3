//! ONNX models: every `ConvTranspose` node, also in bodies of control flow and in functions of the model.

pub mod schema;
mod scope;
mod tensor;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use prost::Message;
use tconv::problem::auto_pad::{AutoPad, Convention};
use tconv::{Limits, Problem, Spec};

use self::schema::{Function, Graph, Model, Node, OperatorSet, Size, Tensor, ValueInfo, data_type};
use self::scope::{Dim, Scope};
use super::Sizes;
use crate::cli::Failure;

/// Functions that call functions are followed this far: a file may hold a circle.
const DEEPEST: usize = 32;

/// A model file.
#[derive(Debug)]
pub struct Onnx {
    model: Model,
    folder: PathBuf,
    file: String,
}

/// A transposed convolution of a model.
#[derive(Debug)]
pub struct Layer<'m> {
    /// The node's name, behind those of the nodes whose body it is in.
    pub name: String,
    /// Checked.
    pub problem: Problem,
    /// Whether the node has a bias.
    pub has_bias: bool,
    /// Version of the operator set.
    pub opset: i64,
    weight: Option<&'m Tensor>,
    bias: Option<&'m Tensor>,
    folder: &'m Path,
}

impl Layer<'_> {
    /// The weights, where the file holds them: `[Cin, Cout/groups, kernel…]`.
    pub fn weights(&self) -> Option<Result<Vec<f32>, Failure>> {
        self.weight.map(|t| tensor::floats(t, self.folder))
    }

    /// The bias, where there is one and the file holds it.
    pub fn bias(&self) -> Option<Result<Vec<f32>, Failure>> {
        self.bias.map(|t| tensor::floats(t, self.folder))
    }

    /// Set where the weights are of a type that the kernels do not compute in.
    pub fn foreign_type(&self) -> Option<&'static str> {
        match self.weight?.data_type {
            data_type::FLOAT | data_type::DOUBLE => None,
            data_type::FLOAT16 => Some("float16"),
            data_type::BFLOAT16 => Some("bfloat16"),
            _ => Some("no floating-point type"),
        }
    }
}

/// Why a node is no layer yet.
#[derive(Debug)]
enum Trouble {
    /// Nothing tells the shape of its input.
    NoShape { value: String },
    /// Some sizes of its input have names, or not even that.
    Dynamic { value: String, dims: Vec<Dim> },
    /// Whatever else.
    Bad(String),
}

impl Onnx {
    /// Reads a model. External data stays where it is.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let file = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let bytes =
            std::fs::read(path).map_err(|e| Failure(format!("cannot read {}: {e}", path.display())))?;
        let model = Model::decode(&bytes[..])
            .map_err(|e| Failure(format!("{}: no ONNX model: {e}", path.display())))?;
        if model.graph.is_none() {
            return Err(Failure(format!("{}: an ONNX model without a graph", path.display())));
        }
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Self { model, folder, file })
    }

    /// The program that wrote the file.
    pub fn producer(&self) -> &str {
        &self.model.producer
    }

    /// Every transposed convolution. The failure lists all nodes that lack something, and tells what adds it.
    pub fn layers(&self, sizes: &Sizes, convention: Convention) -> Result<Vec<Layer<'_>>, Failure> {
        let Some(graph) = &self.model.graph else { return Ok(Vec::new()) };
        let mut walk = Walk { onnx: self, sizes, convention, found: Vec::new() };
        let scope = Scope::of_graph(graph, None);
        walk.nodes(&graph.node, &scope, "", &self.model.opset_import, 0);
        let names: Vec<String> = walk.found.iter().map(|(name, _)| name.clone()).collect();
        sizes.check_layers(&names)?;
        sizes.check_dims(&dim_names(&self.model))?;
        let (mut layers, mut troubles) = (Vec::new(), Vec::new());
        for (name, found) in walk.found {
            match found {
                Ok(layer) => layers.push(layer),
                Err(trouble) => troubles.push((name, trouble)),
            }
        }
        if troubles.is_empty() { Ok(layers) } else { Err(self.failure(graph, &troubles)) }
    }

    /// What is missing, node by node, and the commands that add it.
    fn failure(&self, graph: &Graph, troubles: &[(String, Trouble)]) -> Failure {
        let mut text = format!("{}: these ConvTranspose nodes cannot be imported:", self.file);
        let mut named = BTreeSet::new();
        let (mut anonymous, mut shapeless) = (false, false);
        for (name, trouble) in troubles {
            let what = match trouble {
                Trouble::Bad(problem) => problem.clone(),
                Trouble::NoShape { value } => {
                    shapeless = true;
                    format!("no shape is declared for its input '{value}'")
                }
                Trouble::Dynamic { value, dims } => {
                    for dim in dims {
                        match dim {
                            Dim::Named(dim) => drop(named.insert(dim.clone())),
                            Dim::Unknown => anonymous = true,
                            Dim::Known(_) => {}
                        }
                    }
                    format!("its input '{value}' is {}", shape_text(dims))
                }
            };
            text += &format!("\n  {name}: {what}");
        }
        if !named.is_empty() {
            let list: Vec<String> = named.into_iter().collect();
            text += &format!("\nunresolved sizes: {}; set them with --dim NAME=SIZE", list.join(", "));
        }
        if let Some((name, _)) = troubles.iter().find(|(_, t)| !matches!(t, Trouble::Bad(_))) {
            text += &format!("\nor state a node's input shape with --at '{name}=NxCxspatial'");
        }
        if shapeless || anonymous {
            text += &self.recipe(graph);
        }
        Failure(text)
    }

    /// The calls that write shapes into the file.
    fn recipe(&self, graph: &Graph) -> String {
        let scope = Scope::of_graph(graph, None);
        let is_constant = |name: &str| graph.initializer.iter().any(|t| t.name == name);
        let mut text = String::from("\nor let the file tell it:");
        let (stem, mut file) = (self.file.trim_end_matches(".onnx"), self.file.clone());
        for input in graph.input.iter().filter(|i| !is_constant(&i.name)) {
            let shape = scope.shape(&input.name).unwrap_or_default();
            if shape.iter().any(|d| !matches!(d, Dim::Known(_))) {
                let sizes: Vec<String> = shape.iter().map(dim_text).collect();
                text += &format!(
                    "\n  python -m onnxruntime.tools.make_dynamic_shape_fixed --input_name {} --input_shape {} {file} {stem}.fixed.onnx   # with your sizes",
                    input.name,
                    sizes.join(","),
                );
                file = format!("{stem}.fixed.onnx");
            }
        }
        text + &format!(
            "\n  python -c \"import onnx; onnx.shape_inference.infer_shapes_path('{file}', '{stem}.shapes.onnx', data_prop=True)\""
        )
    }
}

/// The named sizes of a model, also inside bodies and functions.
fn dim_names(model: &Model) -> Vec<String> {
    let mut names = BTreeSet::new();
    model.graph.iter().for_each(|graph| graph_dims(graph, &mut names));
    for function in &model.functions {
        value_dims(&function.value_info, &mut names);
        body_dims(&function.node, &mut names);
    }
    names.into_iter().collect()
}

fn graph_dims(graph: &Graph, names: &mut BTreeSet<String>) {
    [&graph.input, &graph.value_info, &graph.output].into_iter().for_each(|v| value_dims(v, names));
    body_dims(&graph.node, names);
}

fn body_dims(nodes: &[Node], names: &mut BTreeSet<String>) {
    let attributes = nodes.iter().flat_map(|node| &node.attribute);
    attributes.flat_map(|a| a.g.iter().chain(&a.graphs)).for_each(|body| graph_dims(body, names));
}

fn value_dims(values: &[ValueInfo], names: &mut BTreeSet<String>) {
    let shapes = values.iter().filter_map(|v| v.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref());
    names.extend(shapes.flat_map(|s| &s.dim).filter_map(|d| match &d.size {
        Some(Size::Param(name)) => Some(name.clone()),
        _ => None,
    }));
}

fn dim_text(dim: &Dim) -> String {
    match dim {
        Dim::Known(size) => size.to_string(),
        Dim::Named(name) => name.clone(),
        Dim::Unknown => "?".into(),
    }
}

fn shape_text(dims: &[Dim]) -> String {
    dims.iter().map(dim_text).collect::<Vec<_>>().join(" × ")
}

fn is_standard(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// Collects layers from a graph and everything inside it.
struct Walk<'m, 's> {
    onnx: &'m Onnx,
    sizes: &'s Sizes,
    convention: Convention,
    found: Vec<(String, Result<Layer<'m>, Trouble>)>,
}

impl<'m> Walk<'m, '_> {
    fn nodes(
        &mut self,
        nodes: &'m [Node],
        scope: &Scope<'m, '_>,
        prefix: &str,
        opsets: &'m [OperatorSet],
        depth: usize,
    ) {
        for (index, node) in nodes.iter().enumerate() {
            let own = match (&node.name, node.output.first()) {
                (name, _) if !name.is_empty() => name.clone(),
                (_, Some(output)) if !output.is_empty() => output.clone(),
                _ => format!("{}_{index}", node.op_type),
            };
            let name = format!("{prefix}{own}");
            if node.op_type == "ConvTranspose" && is_standard(&node.domain) {
                let opset = opsets.iter().find(|o| is_standard(&o.domain)).map_or(1, |o| o.version);
                let layer = self.layer(node, scope, &name, opset);
                self.found.push((name, layer));
                continue;
            }
            if let Some(function) = self.function(node) {
                if depth < DEEPEST {
                    self.call(function, node, scope, &name, depth);
                } else {
                    let problem = format!("functions are nested more than {DEEPEST} deep");
                    self.found.push((name, Err(Trouble::Bad(problem))));
                }
                continue;
            }
            for attribute in &node.attribute {
                for body in attribute.g.iter().chain(&attribute.graphs) {
                    let inner = Scope::of_graph(body, Some(scope));
                    self.nodes(&body.node, &inner, &format!("{name}/{}/", attribute.name), opsets, depth);
                }
            }
        }
    }

    fn function(&self, node: &Node) -> Option<&'m Function> {
        let functions = &self.onnx.model.functions;
        functions.iter().find(|f| f.name == node.op_type && f.domain == node.domain)
    }

    fn call(
        &mut self,
        function: &'m Function,
        node: &'m Node,
        caller: &Scope<'m, '_>,
        name: &str,
        depth: usize,
    ) {
        let mut scope = Scope::of_function(&function.node, &function.value_info);
        for (formal, actual) in function.input.iter().zip(&node.input) {
            scope.bind(formal, caller, actual);
        }
        // What the call states replaces the default.
        for attribute in function.attribute_proto.iter().chain(&node.attribute) {
            if let Some(value) = caller.resolve(attribute) {
                scope.bind_attribute(&attribute.name, value);
            }
        }
        let opsets = if function.opset_import.is_empty() {
            &self.onnx.model.opset_import
        } else {
            &function.opset_import
        };
        self.nodes(&function.node, &scope, &format!("{name}/"), opsets, depth + 1);
    }

    fn layer(
        &self,
        node: &'m Node,
        scope: &Scope<'m, '_>,
        name: &str,
        opset: i64,
    ) -> Result<Layer<'m>, Trouble> {
        let bad = |problem: String| Trouble::Bad(problem);
        let input = |i: usize| node.input.get(i).filter(|name| !name.is_empty());
        let (Some(x), Some(w)) = (input(0), input(1)) else {
            return Err(bad("it has no input or no weights".into()));
        };
        let known = |dims: Vec<Dim>, what: &str| -> Result<Vec<i64>, Trouble> {
            let sizes: Option<Vec<i64>> = dims.iter().map(|d| self.resolve(d)).collect();
            sizes.ok_or_else(|| match what {
                "input" => Trouble::Dynamic { value: x.clone(), dims: self.unresolved(dims) },
                _ => bad(format!("the shape of its {what} is {}", shape_text(&dims))),
            })
        };
        let weight = scope.shape(w).ok_or_else(|| {
            bad(format!(
                "the shape of its weights '{w}' is unknown: neither constant, nor declared, nor an input of the graph"
            ))
        })?;
        let weight = known(weight, "weights")?;
        let shape = match self.sizes.at(name) {
            Some(stated) => stated.to_vec(),
            None => known(scope.shape(x).ok_or(Trouble::NoShape { value: x.clone() })?, "input")?,
        };
        let bias = input(2);
        let mut spec = Spec::new(&shape, &weight);
        if let Some(bias) = bias {
            // An undeclared bias can only be one value for each channel.
            if let Some(shape) = scope.shape(bias) {
                spec = spec.bias(&known(shape, "bias")?);
            }
        }
        let spec = self.attributes(spec, node, scope, opset).map_err(|e| bad(e.to_string()))?;
        let problem = spec.check(Limits::default()).map_err(|e| bad(e.to_string()))?;
        Ok(Layer {
            name: name.to_owned(),
            problem,
            has_bias: bias.is_some(),
            opset,
            weight: scope.tensor(w),
            bias: bias.and_then(|b| scope.tensor(b)),
            folder: &self.onnx.folder,
        })
    }

    /// With the sizes that are set put in, so that the message shows only what is left.
    fn unresolved(&self, dims: Vec<Dim>) -> Vec<Dim> {
        dims.into_iter().map(|d| self.resolve(&d).map_or(d, Dim::Known)).collect()
    }

    fn resolve(&self, dim: &Dim) -> Option<i64> {
        match dim {
            Dim::Known(size) => Some(*size),
            Dim::Named(name) => self.sizes.dim(name),
            Dim::Unknown => None,
        }
    }

    fn attributes(
        &self,
        mut spec: Spec,
        node: &'m Node,
        scope: &Scope<'m, '_>,
        opset: i64,
    ) -> Result<Spec, tconv::Error> {
        // The text of version 1 puts the odd element on the other side.
        let convention = match (self.convention, opset) {
            (Convention::Onnx, ..11) => Convention::OnnxRuntimeTo112,
            (convention, _) => convention,
        };
        for attribute in &node.attribute {
            // One that refers to nothing is absent.
            let Some(value) = scope.resolve(attribute) else { continue };
            let ints = &value.ints[..];
            spec = match attribute.name.as_str() {
                "strides" => spec.stride(ints),
                "dilations" => spec.dilation(ints),
                "output_padding" => spec.output_padding(ints),
                "group" => spec.groups(value.i),
                "kernel_shape" => spec.kernel_shape(ints),
                "output_shape" if !ints.is_empty() => spec.output_shape(ints),
                "pads" if !ints.is_empty() => spec.pads(ints),
                "auto_pad" => {
                    spec.auto_pad(AutoPad::parse(&String::from_utf8_lossy(&value.s), Some(convention))?)
                }
                _ => spec,
            };
        }
        Ok(spec)
    }
}
