//! Small images with heavy weights: all pixels of a phase in registers, every weight read once.
//!
//! The first layers of a generator have images of 1×1 to 8×8 pixels and megabytes of weights. Output channels lie in the
//! lanes; a tile holds several rows of a phase, of one image or (from four images on) pixels of as many images; every
//! pixel has exactly the taps that meet its input, so that nothing is spent on what the crop removes. Weights are the outermost
//! loop: for each block of output channels, phase and pass over input channels, all pixels of all images that they reach.
//! What a pass needs is fetched while the one before computes.

mod blocking;
mod pack;
mod program;
mod run;

use crate::contract::kernel::{Exactness, Guarantees, Kernel, Prepared, Revisions, Specials};
use crate::contract::request::{Cost, Declined, Refusal, Request, Variant, Weights};
use crate::machine::roofs::Roofs;
use crate::machine::tensor::Dtype;

use blocking::Blocking;
use run::PreparedStreaming;

/// An output (bytes) that the level-2 cache does not hold.
const FAR_OUTPUT: usize = 4 << 20;

/// Weights as the outermost loop over small images.
#[derive(Debug, Clone, Copy)]
pub struct WeightStreaming;

impl Kernel for WeightStreaming {
    fn name(&self) -> &'static str {
        "weight-streaming"
    }

    fn summary(&self) -> &'static str {
        "small images: a whole phase in registers with exact taps, each weight read once"
    }

    fn revisions(&self) -> Revisions {
        Revisions { numerics: 2, speed: 3 }
    }

    fn guarantees(&self) -> Guarantees {
        Guarantees { exactness: Exactness::Direct, specials: Specials::Exact, allocates_in_run: false }
    }

    fn supports(&self, request: &Request<'_>) -> Result<(), Declined> {
        Blocking::new(request).map(|_| ())
    }

    fn variants(&self, request: &Request<'_>) -> Vec<Variant> {
        Blocking::new(request).map(|b| Variant(b.name(request).into())).into_iter().collect()
    }

    fn cost(&self, request: &Request<'_>, _: &Variant) -> Cost {
        let Ok(b) = Blocking::new(request) else { return Cost::NEVER };
        let (g, size) = (request.geometry, request.dtype.size());
        let roofs = Roofs::assumed(request.target.isa, request.dtype);
        let multiply_adds = b.multiply_adds(request);
        // Fitted to timings (AVX-512; root mean square of the logarithm .11 on 102 of them): large tiles run at the peak, small ones wait
        // for their sums; each pass of a tile and each tap has a start; outputs pass through the sums, and those of a long batch go
        // where no near cache holds them.
        let share = 1.2 * (b.tile_sums() as f64 / b.full_tile(request) as f64).min(1.0);
        let per_output = if g.output_len() * size > FAR_OUTPUT { 6.0 } else { 1.0 };
        let work = roofs.compute_ns(multiply_adds + b.passed_over(request), share)
            + 110.0
            + 6.0 * b.tile_runs() as f64
            + b.tap_runs(request)
            + per_output / b.lanes as f64 * g.output_len() as f64
            + 0.2 * b.packed_inputs(request) as f64;
        let work = work * b.split_tiles() / b.threads as f64;
        // The weights of a pass arrive while the one before computes; inputs and outputs do not.
        let images = (g.input_len() + g.output_len()) as f64;
        let weights = (g.compulsory_elements() as f64 - images) * b.weight_reads() as f64;
        let dram = |elements: f64| roofs.dram_ns(elements * size as f64);
        Cost {
            nanoseconds: (work + 0.1 * dram(weights)).max(0.85 * dram(weights)) + 0.4 * dram(images),
            scratch_bytes: b.scratch(request).1.bytes,
            packed_bytes: b.packed_weights() * size,
            multiply_adds,
        }
    }

    fn prepare(
        &self,
        r: &Request<'_>,
        _: &Variant,
        weights: Weights<'_>,
    ) -> Result<Box<dyn Prepared>, Refusal> {
        let blocking = Blocking::new(r)?;
        Ok(match r.dtype {
            Dtype::F32 => Box::new(PreparedStreaming::<f32>::new(r, blocking, weights)?),
            Dtype::F64 => Box::new(PreparedStreaming::<f64>::new(r, blocking, weights)?),
        })
    }
}
