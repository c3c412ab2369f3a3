//! What a kernel is asked, and how it answers.

use std::borrow::Cow;
use std::fmt;

use super::separable::Separable;
use crate::error::Error;
use crate::machine::isa::Target;
use crate::machine::tensor::{Dtype, Element, Tensor};
use crate::problem::descriptor::Structure;
use crate::problem::epilogue::Epilogue;
use crate::problem::geometry::Geometry;
use crate::problem::problem::Accuracy;

/// Everything that a decision may depend on.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The problem, with all sizes.
    pub geometry: &'a Geometry,
    /// Type of input, weights, output and accumulation.
    pub dtype: Dtype,
    /// Bias and activation.
    pub epilogue: Epilogue,
    /// What may be given up for speed.
    pub accuracy: Accuracy,
    /// Instruction set and threads.
    pub target: Target,
    /// Known once the weights are there.
    pub weights: Option<WeightFacts>,
}

/// What one scan of the weights tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightFacts {
    /// No weight is NaN or infinite.
    pub all_finite: bool,
    /// Whether each output channel has one input channel and an outer product for a kernel.
    pub separable: Separable,
}

impl WeightFacts {
    /// Scans the weights of this problem; of another number it makes an error.
    pub fn scan(geometry: &Geometry, weights: Tensor<'_>) -> Result<Self, Error> {
        let all_finite = weights.all_finite();
        let separable = match weights {
            _ if !all_finite => Separable::NotFinite,
            Tensor::F32(weights) => Separable::scan(geometry, weights)?,
            Tensor::F64(weights) => Separable::scan(geometry, weights)?,
        };
        Ok(Self { all_finite, separable })
    }

    /// Of weights of which nobody knows more than their structure.
    pub fn assumed(structure: Structure) -> Option<Self> {
        (structure == Structure::Separable)
            .then_some(Self { all_finite: true, separable: Separable::Yes { blocks: 0, stored: 0 } })
    }

    /// As measured choices tell weights apart.
    pub fn structure(&self) -> Structure {
        match self.separable {
            Separable::Yes { .. } => Structure::Separable,
            _ => Structure::General,
        }
    }
}

/// Weights `[Cin, Cout/groups, kernel…]` and one bias value for each output channel, if any.
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a> {
    /// The kernel, not flipped.
    pub kernel: Tensor<'a>,
    /// The bias.
    pub bias: Option<Tensor<'a>>,
}

impl<'a> Weights<'a> {
    /// Without bias.
    pub fn new<T: Element>(kernel: &'a [T]) -> Self {
        Self { kernel: T::tensor(kernel), bias: None }
    }

    /// With a bias.
    pub fn with_bias<T: Element>(self, bias: &'a [T]) -> Self {
        Self { bias: Some(T::tensor(bias)), ..self }
    }

    /// Both as typed slices. Lengths are the planner's business.
    pub fn typed<T: Element>(&self) -> Result<(&'a [T], Option<&'a [T]>), Error> {
        let bias = self.bias.as_ref().map(|b| b.typed("bias")).transpose()?;
        Ok((self.kernel.typed("weights")?, bias))
    }
}

/// One way in which a kernel can run a request, by name: `"avx512-14x32"`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Variant(pub Cow<'static, str>);

impl Variant {
    /// A variant of a fixed name.
    pub const fn named(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }
    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a kernel expects to need.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Predicted time of one `run`, in nanoseconds.
    pub nanoseconds: f64,
    /// Scratch over all threads, in bytes.
    pub scratch_bytes: usize,
    /// Packed weights held by the plan, in bytes.
    pub packed_bytes: usize,
    /// Multiply-adds really done, wasted ones included.
    pub multiply_adds: u128,
}

impl Cost {
    /// Of what the kernel does not support: never the cheapest.
    pub const NEVER: Self =
        Self { nanoseconds: f64::INFINITY, scratch_bytes: 0, packed_bytes: 0, multiply_adds: u128::MAX };
}

/// Why a kernel does not take a request, for a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declined {
    /// One sentence, with the numbers.
    pub reason: String,
}

impl Declined {
    /// For this reason.
    pub fn because(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

impl fmt::Display for Declined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// A kernel did not prepare: it declined after a look at the weights (the planner takes the next), or failed.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// Not this kernel.
    Declined(Declined),
    /// Something is wrong.
    Error(Error),
}

impl From<Declined> for Refusal {
    fn from(declined: Declined) -> Self {
        Self::Declined(declined)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declined(d) => d.fmt(f),
            Self::Error(e) => e.fmt(f),
        }
    }
}
