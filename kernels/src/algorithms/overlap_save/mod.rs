//! Overlap-save: long kernels of one axis through the Fourier transform.
//!
//! A stride phase is a convolution of the input with the phase's own taps. Windows of P inputs overlap by R − 1 (R taps in a
//! phase); a cyclic convolution of length P gives the P − R + 1 sums of each that no wrap-around touches. One transform of
//! the input serves all phases and output channels; sums over the input channels are made bin by bin, as matrix products
//! of windows × channels with channels × columns; one transform back for each column.
//!
//! ```text
//!  input ─ windows of P ─▶ transform ─▶ points [point][channel][window]
//!                                          │ × spectra of the weights [point][ci][phase·co]   (realfft, once per plan)
//!  output ◀─ bias, activation ─ P − R + 1 of P ◀─ transform back ─ sums [point][window][phase·co]
//! ```
//!
//! For P − R + 1 positions of a column the definition has (P − R + 1)·R products with each input channel; here they are
//! 3·P/2 − 1: four taps and P = 16 save a factor of 2.26, two taps at most 1.33.
//!
//! # The error
//! With u the unit roundoff, a transform of length P errs by at most L·η·‖·‖₂, L = log₂P + 1 levels (those of the complex
//! transform of half the length and two that separate the reals), η = u + γ₄(√2 + 1) < 6.7·u (Higham, Accuracy and
//! Stability of Numerical Algorithms, theorem 24.2). The products of a bin, three for two and summed over ci channels, err by
//! at most 4·γ(ci + 4)·Σ|W||X|: each part is a difference of two sums whose terms are at most √2·|W||X|. With
//! |W| ≤ ‖w‖₁ and ‖X‖₂ = √P·‖x‖₂ all of it adds up to
//!
//! ```text
//! |ŷ − y| ≤ γ(3·L·η/u + 4·(ci + 4)) · Σ ‖w‖₁·‖x‖₂        over the input channels; w: the taps of the output's phase
//! ```
//!
//! No factor of the output's own Σ|x||w| is in there: where an output is far smaller than its neighbours, few of its digits
//! are right. Hence [`Exactness::Normwise`].

mod blocking;
mod fourier;
mod pack;
mod run;

use crate::contract::kernel::{Exactness, Guarantees, Kernel, Prepared, Revisions, Specials};
use crate::contract::request::{Cost, Declined, Refusal, Request, Variant, Weights};
use crate::machine::tensor::Dtype;

use blocking::{Blocking, LENGTHS};
use run::PreparedOverlapSave;

/// Overlap-save.
#[derive(Debug, Clone, Copy)]
pub struct OverlapSave;

/// 3·L·η/u of the longest windows, η/u rounded up.
const TRANSFORMS: usize = (3 * 67 * (LENGTHS[LENGTHS.len() - 1].trailing_zeros() as usize + 1)).div_ceil(10);

/// The blocking of that name.
fn named(request: &Request<'_>, variant: &Variant) -> Result<Blocking, Declined> {
    let found = Blocking::all(request)?.into_iter().find(|b| b.name(request) == variant.name());
    found.ok_or_else(|| Declined::because(format!("there is no variant {variant}")))
}

/// Whether it takes such weights.
fn takes(request: &Request<'_>) -> Result<(), Declined> {
    match request.weights {
        Some(facts) if !facts.all_finite => {
            Err(Declined::because("a spectrum of weights that are not finite says nothing"))
        }
        _ => Ok(()),
    }
}

impl Kernel for OverlapSave {
    fn name(&self) -> &'static str {
        "fft-overlap-save"
    }

    fn summary(&self) -> &'static str {
        "long kernels of one axis: products of spectra, one transform of the input for all phases"
    }

    fn revisions(&self) -> Revisions {
        Revisions { numerics: 2, speed: 1 }
    }

    fn guarantees(&self) -> Guarantees {
        Guarantees {
            exactness: Exactness::Normwise { transforms: TRANSFORMS },
            specials: Specials::MaySpread,
            allocates_in_run: false,
        }
    }

    fn supports(&self, request: &Request<'_>) -> Result<(), Declined> {
        takes(request)?;
        Blocking::all(request).map(drop)
    }

    fn variants(&self, request: &Request<'_>) -> Vec<Variant> {
        let all = Blocking::all(request).unwrap_or_default();
        all.iter().map(|b| Variant(b.name(request).into())).collect()
    }

    fn cost(&self, request: &Request<'_>, variant: &Variant) -> Cost {
        named(request, variant).map_or(Cost::NEVER, |b| b.cost(request, request.target.threads))
    }

    fn candidates(&self, request: &Request<'_>) -> Result<Vec<(Variant, Cost)>, Declined> {
        takes(request)?;
        let with_cost =
            |b: &Blocking| (Variant(b.name(request).into()), b.cost(request, request.target.threads));
        Ok(Blocking::all(request)?.iter().map(with_cost).collect())
    }

    fn prepare(
        &self,
        r: &Request<'_>,
        variant: &Variant,
        weights: Weights<'_>,
    ) -> Result<Box<dyn Prepared>, Refusal> {
        let blocking = named(r, variant)?;
        Ok(match r.dtype {
            Dtype::F32 => Box::new(PreparedOverlapSave::<f32>::new(r, blocking, weights)?),
            Dtype::F64 => Box::new(PreparedOverlapSave::<f64>::new(r, blocking, weights)?),
        })
    }
}
