//! Transposed convolutions (1-D, 2-D, 3-D; f32, f64) on CPUs: a layer is described, checked, planned onto one of several
//! interchangeable kernels with its weights packed, and then run as often as you like.
//!
//! ```text
//!   Spec ──check──▶ Problem ──▶ Geometry ──Planner──▶ Kernel::prepare ──▶ Plan ──execute──▶ output
//!   as stated       legal       all sizes, tap        asks each kernel,   packed weights,
//!                               ranges, phases        takes the cheapest  fixed tiling
//! ```
//!
//! Data flows one way. What is wrong with a layer is said by [`Spec::check`], as an [`Error`] that names the numbers;
//! what a kernel would cost, or why it declines, by [`Planner::explain`]; after that, `execute` has nothing left to decide.
//!
//! ```
//! use tconv::{Epilogue, Limits, Planner, Spec, Weights};
//!
//! // ConvTranspose2d(8, 4, kernel_size=4, stride=2, padding=1) on one image of 8 channels, 16 by 12: 32 by 24 comes out.
//! let (x, w, b) = (vec![0.5f32; 8 * 16 * 12], vec![0.1f32; 8 * 4 * 4 * 4], vec![0.0f32; 4]);
//! let problem = Spec::new(&[1, 8, 16, 12], &[8, 4, 4, 4]).stride(2).padding(1).bias(&[4]).check(Limits::default())?;
//! let plan = Planner::new().plan(&problem, Weights::new(&w).with_bias(&b), Epilogue::BIAS)?;
//! let mut y = vec![0.0f32; plan.geometry().output_len()];
//! plan.execute(&x, &mut y)?;
//! assert_eq!(plan.geometry().output(), [1, 32, 24]); // D, H, W
//! assert!((y[24 + 1] - 8.0 * 4.0 * 0.5 * 0.1).abs() < 1e-5); // inside, 2·2 taps of all 8 channels meet
//! # Ok::<(), tconv::Error>(())
//! ```
//!
//! A layer fits on a line of text, too, for logs and command lines: [`Descriptor`], `f32:nchw:1x8x16x12:o4:k4x4:s2x2:p1x1:bias`.
//!
//! # The rooms of the crate
//!
//! In the order in which data passes them; each uses only those before it: [`problem`] (what is computed),
//! [`machine`] (instruction sets, tensors, scratch, threads), [`contract`] (what a kernel promises), [`mod@reference`] (the
//! oracle in f64), [`microkernels`] (register tiles), [`algorithms`] (the kernels), [`planning`] (which one). A kernel of your
//! own implements [`Kernel`] and joins with [`Registry::with`].
//!
//! # Features and versions
//!
//! One cargo feature, on by default: `shipped-choices` compiles in which kernel was fastest on the machines and layers that
//! were measured before the release ([`planning::choice`]). The instruction set (portable, AVX2, AVX-512, NEON) is found when the program runs, and
//! [`ISA_VARIABLE`] (`TCONV_ISA`) overrides it. Threads are those of the caller's rayon pool.
#![doc = concat!("Rust ", env!("CARGO_PKG_RUST_VERSION"), " or later.")]
//!
//! # What this is not
//!
//! No tensor library, no autograd, no GPU, no whole networks: one operator, on slices that you own. It does not read model
//! files, and it does not copy between layouts behind your back.

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
pub use contract::separable::Separable;
pub use error::Error;
pub use machine::fingerprint::Fingerprint;
pub use machine::isa::{ISA_VARIABLE, Isa, Target};
pub use machine::roofs::Roofs;
pub use machine::scratch::{AlignedVec, Bytes64, Scratch};
pub use machine::tensor::{Dtype, Element, Tensor, TensorMut};
pub use planning::choice::{Choice, Choices, ChosenBy, Estimate, Pin};
pub use planning::plan::Plan;
pub use planning::planner::{Planner, Verdict};
pub use planning::registry::Registry;
pub use problem::auto_pad::{AutoPad, Convention};
pub use problem::descriptor::{Descriptor, Structure};
pub use problem::epilogue::{Activation, Epilogue};
pub use problem::geometry::Geometry;
pub use problem::limits::Limits;
pub use problem::problem::{Accuracy, Axis, Layout, Problem};
pub use problem::spec::{PerAxis, Spec};
pub use reference::convolution::{convolution, gradient_bias, gradient_input, gradient_weights};
pub use reference::norms::Norms;
pub use reference::oracle::{Exact, Oracle};
pub use reference::weight_matrix::weight_matrix;

/// The README's example, compiled and run. The file lies outside the package, where nobody builds doctests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
