//! Phase decomposition for layers of several small groups: the lanes of a vector are the output channels of neighbouring
//! groups, one after another, whatever the size of a group.
//!
//! Each lane multiplies an input of its own group, so the broadcast of the `polyphase` tile becomes a permutation: packed
//! vectors hold a few input channels of each group that a vector of outputs meets, and a permutation in registers puts
//! one channel of each group into its lanes. One permuted vector serves all taps and up to two phases along x that read
//! the pixel, so that permutations hide behind the multiplications (`microkernels/grouped_tile.rs`).
//!
//! With channels last and no padded vector, tiles write the output themselves; else sums pass through a buffer of one
//! output row.

mod blocking;
mod cost;
mod input;
mod pack;
mod run;
mod units;

use crate::contract::kernel::{Exactness, Guarantees, Kernel, Prepared, Revisions, Specials};
use crate::contract::request::{Cost, Declined, Refusal, Request, Variant, Weights};
use crate::machine::tensor::Dtype;

use blocking::Blocking;
use run::PreparedGrouped;

/// Scratch of one thread, at most (bytes): more is a row that no cache holds.
const MOST_SCRATCH: usize = 2 << 20;

/// Phase decomposition with the channels of several groups in the lanes.
#[derive(Debug, Clone, Copy)]
pub struct GroupedPolyphase;

impl Kernel for GroupedPolyphase {
    fn name(&self) -> &'static str {
        "grouped-polyphase"
    }

    fn summary(&self) -> &'static str {
        "stride phases as stride-1 correlations; output channels of neighbouring groups in the lanes"
    }

    fn revisions(&self) -> Revisions {
        Revisions { numerics: 2, speed: 2 }
    }

    fn guarantees(&self) -> Guarantees {
        Guarantees {
            exactness: Exactness::Direct,
            specials: Specials::DeclinesNonFiniteWeights,
            allocates_in_run: false,
        }
    }

    fn supports(&self, request: &Request<'_>) -> Result<(), Declined> {
        let p = request.geometry.problem();
        if !request.target.isa.has_vectors() {
            return Err(Declined::because(
                "no vector instructions: a permutation costs as much as its products",
            ));
        }
        if p.groups() < 2 {
            return Err(Declined::because("one group: its lanes are the channels of several groups"));
        }
        if p.group_in() < 2 {
            return Err(Declined::because(
                "one input channel in each group: no two groups share a permutation",
            ));
        }
        if request.weights.is_some_and(|w| !w.all_finite) {
            return Err(Declined::because(
                "non-finite weights, which it would multiply by zeros beside rows",
            ));
        }
        let bytes = Blocking::new(request).slot() * request.dtype.size();
        if bytes > MOST_SCRATCH {
            return Err(Declined::because(format!(
                "needs {bytes} bytes of scratch for each thread: the limit is {MOST_SCRATCH}"
            )));
        }
        Ok(())
    }

    fn variants(&self, request: &Request<'_>) -> Vec<Variant> {
        let blocking = Blocking::new(request);
        vec![Variant(blocking.name(request).into())]
    }

    fn cost(&self, request: &Request<'_>, _: &Variant) -> Cost {
        Blocking::new(request).cost(request)
    }

    fn prepare(
        &self,
        r: &Request<'_>,
        _: &Variant,
        weights: Weights<'_>,
    ) -> Result<Box<dyn Prepared>, Refusal> {
        Ok(match r.dtype {
            Dtype::F32 => Box::new(PreparedGrouped::<f32>::new(r, weights)?),
            Dtype::F64 => Box::new(PreparedGrouped::<f64>::new(r, weights)?),
        })
    }
}
