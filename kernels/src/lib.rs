//! Transposed convolutions on CPUs.
#![doc = ""]

pub mod algorithms;
pub mod contract;
mod error;
pub mod machine;
pub mod microkernels;
pub mod planning;
pub mod problem;
pub mod reference;

pub use contract::kernel::{Exactness, Guarantees, Kernel, Prepared, Revisions, Specials};
pub use contract::request::{Cost, Declined, Refusal, Request, Variant, WeightFacts, Weights};
pub use error::Error;
pub use machine::isa::{ISA_VARIABLE, Isa, Target};
pub use machine::roofs::Roofs;
pub use machine::scratch::{Bytes64, Scratch};
pub use machine::tensor::{Dtype, Element, Tensor, TensorMut};
pub use planning::plan::{ChosenBy, Plan};
pub use planning::planner::{Planner, Verdict};
pub use planning::registry::Registry;
pub use problem::auto_pad::{AutoPad, Convention};
pub use problem::descriptor::Descriptor;
pub use problem::epilogue::{Activation, Epilogue};
pub use problem::geometry::Geometry;
pub use problem::limits::Limits;
pub use problem::problem::{Accuracy, Axis, Layout, Problem};
pub use problem::spec::{PerAxis, Spec};
pub use reference::oracle::{Exact, Oracle};
