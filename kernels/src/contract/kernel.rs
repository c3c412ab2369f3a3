//! The two traits: a stateless [`Kernel`], listed once, and what it makes of a request, a [`Prepared`] one.

use std::fmt::Debug;

use super::request::{Cost, Declined, Refusal, Request, Variant, Weights};
use crate::machine::scratch::{Bytes64, Scratch};
use crate::machine::tensor::{Tensor, TensorMut};
use crate::problem::problem::Accuracy;

/// Two counters that grow by hand, so that stored facts are voided when they should be, and only then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revisions {
    /// Grows when the rounding of any result may differ: voids pinned choices.
    pub numerics: u32,
    /// Grows when it became so much slower or faster that recorded times would choose wrongly: voids measurements only.
    pub speed: u32,
}

/// How exact the results are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Exactness {
    /// Direct summation in any order: exact on small integers, else within γ(n+1)·Σ|x||w|.
    Direct,
    /// Within `factor` times that bound, but integers are not exact: sums of inputs are multiplied by sums of weights.
    Bounded {
        /// Growth over direct summation, at least 1.
        factor: f64,
    },
    /// Only a norm of the error is bounded: every output lies within γ(transforms + 4·(ci + 4))·Σ‖w‖₁‖x‖₂ (+ |bias|), the sum
    /// over the ci input channels of its group, w the taps of its stride phase, x the whole channel of the image (see
    /// [`crate::Norms`]). Integers are not exact, and small outputs beside large ones may have few right digits.
    Normwise {
        /// Roundings of the transforms of inputs, weights and outputs together, in units of u.
        transforms: usize,
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

impl Exactness {
    /// Growth over the bound of its kind: that of direct summation, but for [`Exactness::Normwise`].
    pub fn growth(self) -> f64 {
        match self {
            Self::Direct | Self::Normwise { .. } => 1.0,
            Self::Bounded { factor } => factor,
        }
    }

    /// The m of the bound γ(m)·Σ: `products` met in an output, of `group_in` input channels.
    pub fn roundings(self, products: usize, group_in: usize) -> usize {
        match self {
            Self::Direct | Self::Bounded { .. } => products + 1,
            Self::Normwise { transforms } => transforms + 4 * (group_in + 4) + 1,
        }
    }

    /// Whether its bound is one of [`crate::Norms`], and not of each output's own Σ|x||w|.
    pub fn is_normwise(self) -> bool {
        matches!(self, Self::Normwise { .. })
    }
}

impl Guarantees {
    /// Whether a planner that was asked for this accuracy may choose such a kernel, or why not.
    pub fn allowed_by(&self, accuracy: Accuracy) -> Result<(), Declined> {
        let growth = self.exactness.growth();
        if self.exactness.is_normwise() && accuracy != Accuracy::Normwise {
            return Err(Declined::because(
                "only the norm of its error is bounded, which normwise accuracy allows",
            ));
        }
        match accuracy {
            Accuracy::Strict if self.exactness != Exactness::Direct => Err(Declined::because(format!(
                "its error is up to {growth} times that of direct summation, which strict accuracy asks for"
            ))),
            Accuracy::Strict if self.specials == Specials::MaySpread => {
                Err(Declined::because("NaN and infinities may spread, which strict accuracy forbids"))
            }
            Accuracy::Standard if growth > Accuracy::STANDARD_GROWTH => Err(Declined::because(format!(
                "its error is up to {growth} times that of direct summation: {} are allowed",
                Accuracy::STANDARD_GROWTH
            ))),
            _ => Ok(()),
        }
    }
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

    /// What a reader should know of a request that it supports: what it found in the weights.
    fn remark(&self, _: &Request<'_>) -> Option<String> {
        None
    }

    /// The ways in which it can run a request that it supports, its own advice first; never empty.
    fn variants(&self, request: &Request<'_>) -> Vec<Variant>;

    /// What a run would cost.
    fn cost(&self, request: &Request<'_>, variant: &Variant) -> Cost;

    /// [`Kernel::supports`], [`Kernel::variants`] and [`Kernel::cost`] at once: what a planner asks. A kernel that searches for its
    /// sizes answers from one search here.
    fn candidates(&self, request: &Request<'_>) -> Result<Vec<(Variant, Cost)>, Declined> {
        self.supports(request)?;
        let with_cost = |variant: Variant| {
            let cost = self.cost(request, &variant);
            (variant, cost)
        };
        Ok(self.variants(request).into_iter().map(with_cost).collect())
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accuracy_is_held_against_promises() {
        let direct =
            |specials| Guarantees { exactness: Exactness::Direct, specials, allocates_in_run: false };
        let bounded =
            |factor| Guarantees { exactness: Exactness::Bounded { factor }, ..direct(Specials::MaySpread) };
        let allowed = |g: Guarantees| Accuracy::ALL.map(|accuracy| g.allowed_by(accuracy).is_ok());
        assert_eq!(allowed(direct(Specials::Exact)), [true; 3]);
        assert_eq!(allowed(direct(Specials::DeclinesNonFiniteWeights)), [true; 3]);
        assert_eq!(allowed(direct(Specials::MaySpread)), [false, true, true]);
        assert_eq!(allowed(bounded(4.0)), [false, true, true]);
        assert_eq!(allowed(bounded(4.5)), [false, false, true]);
        let normwise = Guarantees { exactness: Exactness::Normwise { transforms: 100 }, ..bounded(1.0) };
        assert_eq!(allowed(normwise), [false, false, true]);
        let reason = bounded(4.5).allowed_by(Accuracy::Standard).unwrap_err().reason;
        assert!(reason.contains("4.5 times") && reason.contains("4 are allowed"), "{reason}");
    }
}
