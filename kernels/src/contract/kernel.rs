//! The two traits: a stateless [`Kernel`], listed once, and what it makes of a request, a [`Prepared`] one.

use std::fmt::Debug;

use super::request::{Cost, Declined, Refusal, Request, Variant, Weights};
use crate::machine::scratch::{Bytes64, Scratch};
use crate::machine::tensor::{Tensor, TensorMut};

/// Two counters that grow by hand, so that stored facts are voided when they should be, and only then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revisions {
    /// Grows when the rounding of any result may differ: voids pinned choices.
    pub numerics: u32,
    /// Grows when it may have become slower or faster: voids measurements only.
    pub speed: u32,
}

/// How exact the results are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Exactness {
    /// Direct summation in any order: exact on small integers, else within γ(n+1)·Σ|x||w|.
    Direct,
    /// Within `factor` · u · Σ|x||w| over the direct bound.
    Bounded {
        /// Growth over direct summation.
        factor: f64,
    },
}

/// What happens to NaN and infinities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Specials {
    /// Exactly where IEEE arithmetic on the definition puts them.
    Exact,
    /// The same for finite weights; declines others, since it multiplies inserted zeros.
    DeclinesNonFiniteWeights,
    /// Never vanish, but may spread to neighbouring outputs.
    MaySpread,
}

/// What a kernel promises about every run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guarantees {
    /// Rounding.
    pub exactness: Exactness,
    /// NaN and infinities.
    pub specials: Specials,
    /// Whether `run` allocates (a library inside does), beyond the scratch.
    pub allocates_in_run: bool,
}

/// An implementation: stateless, listed once in a registry, the same object for every dtype.
pub trait Kernel: Send + Sync {
    /// Its name, in lower case with dashes: `"gemm-col2im"`.
    fn name(&self) -> &'static str;

    /// One line for a reader: what it does.
    fn summary(&self) -> &'static str;

    /// See [`Revisions`].
    fn revisions(&self) -> Revisions;

    /// See [`Guarantees`].
    fn guarantees(&self) -> Guarantees;

    /// Whether it takes the request, or why not. Must be cheap.
    fn supports(&self, request: &Request<'_>) -> Result<(), Declined>;

    /// The ways in which it can run a request that it supports, its own advice first; never empty.
    fn variants(&self, request: &Request<'_>) -> Vec<Variant>;

    /// What a run would cost.
    fn cost(&self, request: &Request<'_>, variant: &Variant) -> Cost;

    /// Packs the weights and fixes tiling and task split. `weights` has the right types and lengths.
    fn prepare(
        &self,
        request: &Request<'_>,
        variant: &Variant,
        weights: Weights<'_>,
    ) -> Result<Box<dyn Prepared>, Refusal>;
}

/// Packed weights and a fixed tiling: immutable while it runs, shareable between threads.
pub trait Prepared: Send + Sync + Debug {
    /// What [`Prepared::run`] needs.
    fn scratch(&self) -> Scratch;

    /// Writes every output element and reads none. `scratch` holds at least [`Prepared::scratch`] and may be dirty.
    /// Types and lengths were checked by the caller ([`crate::Plan`]); a kernel may panic on others.
    fn run(&self, input: Tensor<'_>, output: TensorMut<'_>, scratch: &mut [Bytes64]);

    /// Takes new weights of the same shape; refused: the old ones stay.
    fn repack(&mut self, weights: Weights<'_>) -> Result<(), Refusal>;
}
