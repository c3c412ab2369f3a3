//! Kernels that do not overlap (K = S on every axis, or K < S): a 1×1 convolution to S·S·Cout channels, then depth to space.
//!
//! Every output is one product, a sum over the input channels. Where all else is a matrix product, what decides is how
//! outputs reach memory: they are written once, from the registers, in whole cache lines that were asked for a tile ahead.
//!
//! ```text
//!   channels first    lanes: pixels, over row ends             channels last     lanes: (phase along x, channel)
//!                     rows: channels × phases along x                            rows: pixels
//!                     the phases interleave in registers                         outputs of a pixel are neighbours
//! ```
//!
//! Phases along z and y are tiles of their own: other rows of the output. A phase without a tap (K < S) holds the bias.
//!
//! Channels first, one other axis than the last may overlap, such as the frequencies of a spectrogram (kernel 8 × 1, stride
//! 4 × 1): the sum goes over its taps, too, as if they were input channels. Inputs are packed for each window, a row of positions
//! apart.

mod axes;
mod blocking;
mod first;
mod last;
mod pack;
mod prepared;
mod tiles;

use crate::contract::kernel::{Exactness, Guarantees, Kernel, Prepared, Revisions, Specials};
use crate::contract::request::{Cost, Declined, Refusal, Request, Variant, Weights};
use crate::machine::roofs::Roofs;
use crate::machine::tensor::Dtype;
use crate::problem::problem::Layout;

use blocking::Blocking;
use prepared::PreparedDirect;

/// Outputs whose phases along the last axis have one tap each, stored from the registers.
#[derive(Debug, Clone, Copy)]
pub struct DepthToSpace;

impl Kernel for DepthToSpace {
    fn name(&self) -> &'static str {
        "depth-to-space"
    }

    fn summary(&self) -> &'static str {
        "kernel = stride (along the last axis): a product of pixels whose phases go from the registers to their places"
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
        let multiply_adds = b.multiply_adds();
        // Fitted to timings. What surrounds a tile shows where it is short.
        let (share, tile_ns) = match (b.lanes * size, b.layout) {
            (64, _) => (1.14, 12.0),
            (_, Layout::Nchw) => (1.03, 8.0),
            (_, Layout::Nhwc) => (1.03, 25.0),
        };
        let work = roofs.compute_ns(multiply_adds, share)
            + tile_ns * b.tiles() as f64
            + 1.0 / b.lanes as f64 * g.output_len() as f64;
        // A line of the output is read before it is written.
        let moved = 0.6 * g.compulsory_elements() as f64 + 0.4 * g.output_len() as f64;
        Cost {
            nanoseconds: 200.0 + work / request.target.threads as f64 + roofs.dram_ns(moved * size as f64),
            scratch_bytes: b.workers(request).1.bytes,
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
            Dtype::F32 => Box::new(PreparedDirect::<f32>::new(r, blocking, weights)?),
            Dtype::F64 => Box::new(PreparedDirect::<f64>::new(r, blocking, weights)?),
        })
    }
}
