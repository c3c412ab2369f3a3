//! Depthwise layers: one input channel in each group, any number of output channels.
//!
//! Phase decomposition without a sum over channels: each output row is a few input rows times a few weights, so the work
//! is in the loads and stores. Channels first, lanes are neighbouring positions of one stride phase, and two phases are
//! interleaved in registers. Channels last, lanes are channels. Either way a tile takes two output rows and two phases at
//! once, which read almost the same inputs. Input rows pass through a ring of few padded rows in the level-1 cache.
//!
//! Small kernels of stride 1 or 2 have it simpler (`passes`): one call makes many whole rows, the weights in registers, the
//! input where it lies.

mod blocking;
mod exact;
mod pairs;
mod passes;
mod rows;
mod run;
mod store;

use crate::contract::kernel::{Exactness, Guarantees, Kernel, Prepared, Revisions, Specials};
use crate::contract::request::{Cost, Declined, Refusal, Request, Variant, Weights};
use crate::machine::tensor::Dtype;

use blocking::Blocking;
use run::PreparedDepthwise;

/// Depthwise layers, with a multiplier or not.
#[derive(Debug, Clone, Copy)]
pub struct Depthwise;

impl Kernel for Depthwise {
    fn name(&self) -> &'static str {
        "depthwise"
    }

    fn summary(&self) -> &'static str {
        "one input channel per group: tiles of two rows × two stride phases, lanes along x or along channels"
    }

    fn revisions(&self) -> Revisions {
        Revisions { numerics: 2, speed: 2 }
    }

    fn guarantees(&self) -> Guarantees {
        Guarantees { exactness: Exactness::Direct, specials: Specials::Exact, allocates_in_run: false }
    }

    fn supports(&self, request: &Request<'_>) -> Result<(), Declined> {
        match request.geometry.problem().group_in() {
            1 => Ok(()),
            more => Err(Declined::because(format!("{more} input channels in a group: takes 1"))),
        }
    }

    fn variants(&self, request: &Request<'_>) -> Vec<Variant> {
        vec![Variant(Blocking::new(request).name(request).into())]
    }

    fn cost(&self, request: &Request<'_>, _: &Variant) -> Cost {
        let blocking = Blocking::new(request);
        let threads = request.target.threads.min(blocking.tasks).max(1);
        Cost {
            nanoseconds: Blocking::predicted_ns(request) / threads as f64,
            scratch_bytes: blocking.workers(request).1.bytes,
            packed_bytes: blocking.packed_weights(request) * request.dtype.size(),
            multiply_adds: Blocking::multiply_adds(request),
        }
    }

    fn prepare(
        &self,
        r: &Request<'_>,
        _: &Variant,
        weights: Weights<'_>,
    ) -> Result<Box<dyn Prepared>, Refusal> {
        Ok(match r.dtype {
            Dtype::F32 => Box::new(PreparedDepthwise::<f32>::new(r, weights)?),
            Dtype::F64 => Box::new(PreparedDepthwise::<f64>::new(r, weights)?),
        })
    }
}
