//! What is known about the values of one graph: constants, declared shapes, and who makes them.

use std::collections::HashMap;

use super::schema::{Attribute, Graph, Node, Size, Tensor, ValueInfo};

/// Chains of values that repeat each other are followed this far: a file may hold a circle.
const FURTHEST: usize = 64;

/// One axis of a shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    /// A size.
    Known(i64),
    /// A size that is known by name until the model runs.
    Named(String),
    /// Nothing is known.
    Unknown,
}

/// The values of a graph; bodies of `If`, `Loop` and `Scan` also see those around them.
#[derive(Debug, Default)]
pub struct Scope<'m, 'p> {
    parent: Option<&'p Scope<'m, 'p>>,
    tensors: HashMap<&'m str, &'m Tensor>,
    shapes: HashMap<&'m str, Vec<Dim>>,
    producers: HashMap<&'m str, &'m Node>,
    /// Attributes of the call, in the body of a function.
    attributes: HashMap<&'m str, &'m Attribute>,
}

impl<'m, 'p> Scope<'m, 'p> {
    /// The values of `graph`, inside `parent` where it is a body.
    pub fn of_graph(graph: &'m Graph, parent: Option<&'p Self>) -> Self {
        let mut scope = Self { parent, ..Self::default() };
        scope.tensors.extend(graph.initializer.iter().map(|t| (t.name.as_str(), t)));
        for value in graph.value_info.iter().chain(&graph.output).chain(&graph.input) {
            scope.declare(value);
        }
        scope.produce(&graph.node);
        scope
    }

    /// An empty one, to be filled for the body of a function.
    pub fn of_function(nodes: &'m [Node], declared: &'m [ValueInfo]) -> Self {
        let mut scope = Self::default();
        declared.iter().for_each(|value| scope.declare(value));
        scope.produce(nodes);
        scope
    }

    /// Inside, `formal` is what `actual` is in `caller`.
    pub fn bind(&mut self, formal: &'m str, caller: &Self, actual: &str) {
        if let Some(tensor) = caller.tensor(actual) {
            self.tensors.insert(formal, tensor);
        }
        if let Some(shape) = caller.shape(actual) {
            self.shapes.insert(formal, shape);
        }
    }

    /// Inside, attributes that refer to `name` are `attribute`.
    pub fn bind_attribute(&mut self, name: &'m str, attribute: &'m Attribute) {
        self.attributes.insert(name, attribute);
    }

    fn declare(&mut self, value: &'m ValueInfo) {
        let shape = value.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()).and_then(|t| t.shape.as_ref());
        let Some(shape) = shape else { return };
        let dims = shape.dim.iter().map(|d| match &d.size {
            Some(Size::Value(size)) => Dim::Known(*size),
            Some(Size::Param(name)) if !name.is_empty() => Dim::Named(name.clone()),
            _ => Dim::Unknown,
        });
        self.shapes.insert(&value.name, dims.collect());
    }

    fn produce(&mut self, nodes: &'m [Node]) {
        for node in nodes {
            self.producers.extend(node.output.iter().map(|name| (name.as_str(), node)));
        }
    }

    /// The attribute itself, or what it refers to in the call of the function.
    pub fn resolve<'a>(&'a self, attribute: &'m Attribute) -> Option<&'m Attribute> {
        if attribute.ref_attr_name.is_empty() {
            return Some(attribute);
        }
        self.chain().find_map(|scope| scope.attributes.get(attribute.ref_attr_name.as_str()).copied())
    }

    /// The constant of that name: an initialiser or a `Constant` node, also through nodes that keep it.
    pub fn tensor(&self, name: &str) -> Option<&'m Tensor> {
        self.follow(name, |scope, name| {
            if let Some(tensor) = scope.tensors.get(name) {
                return Some(*tensor);
            }
            let node = scope.producers.get(name).filter(|node| node.op_type == "Constant")?;
            let value = node.attribute.iter().find(|a| a.name == "value")?;
            self.resolve(value)?.t.as_ref()
        })
    }

    /// The shape of that value, as far as it is declared or constant.
    pub fn shape(&self, name: &str) -> Option<Vec<Dim>> {
        let constant = || self.tensor(name).map(|t| t.dims.iter().map(|&d| Dim::Known(d)).collect());
        constant().or_else(|| self.follow(name, |scope, name| scope.shapes.get(name).cloned()))
    }

    /// Asks for a value, then for those that it merely repeats.
    fn follow<R>(&self, name: &str, ask: impl Fn(&Self, &str) -> Option<R>) -> Option<R> {
        let mut name = name;
        for _ in 0..FURTHEST {
            let mut holders = self.chain();
            if let Some(found) = holders.find_map(|scope| ask(scope, name)) {
                return Some(found);
            }
            let node = self.chain().find_map(|scope| scope.producers.get(name))?;
            name = match node.op_type.as_str() {
                "Identity" | "Cast" => node.input.first()?,
                _ => return None,
            };
        }
        None
    }

    fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |scope| scope.parent)
    }
}
