//! The SIMD-tiled kernel: phase decomposition, output channels in the lanes, pixels of one row in the tile.
//!
//! Every output row belongs to one phase along z and y; along x its phases alternate. For each row the taps along z and y
//! that meet the input are known, the others are skipped. The input rows are packed once as `[row][channel][x]`, padded
//! with zeros along x, so that a tile reads P neighbouring inputs for any tap at a constant distance. Sums are kept in
//! output order in a small buffer, where the phases along x interleave by themselves; from there they go to the output
//! through activation and, for channels-first layouts, a transposition.

mod blocking;
mod fetch;
mod pack;
mod run;

use crate::contract::kernel::{Exactness, Guarantees, Kernel, Prepared, Revisions, Specials};
use crate::contract::request::{Cost, Declined, Refusal, Request, Variant, Weights};
use crate::machine::roofs::Roofs;
use crate::machine::tensor::Dtype;

use blocking::Blocking;
use run::PreparedPolyphase;

/// Phase decomposition with register tiles.
#[derive(Debug, Clone, Copy)]
pub struct Polyphase;

impl Kernel for Polyphase {
    fn name(&self) -> &'static str {
        "polyphase"
    }

    fn summary(&self) -> &'static str {
        "stride phases as stride-1 correlations; register tiles of output channels × pixels"
    }

    fn revisions(&self) -> Revisions {
        Revisions { numerics: 2, speed: 3 }
    }

    fn guarantees(&self) -> Guarantees {
        Guarantees { exactness: Exactness::Direct, specials: Specials::Exact, allocates_in_run: false }
    }

    fn supports(&self, _: &Request<'_>) -> Result<(), Declined> {
        Ok(())
    }

    fn variants(&self, request: &Request<'_>) -> Vec<Variant> {
        vec![Variant(Blocking::new(request).name(request).into())]
    }

    fn cost(&self, request: &Request<'_>, _: &Variant) -> Cost {
        let blocking = Blocking::new(request);
        let (g, size) = (request.geometry, request.dtype.size());
        let roofs = Roofs::assumed(request.target.isa, request.dtype);
        let multiply_adds = blocking.multiply_adds(request);
        // Fitted to a timing of the zoo: the tiles run at 1.08 of the assumed peak; each costs a start and an end; outputs
        // pass through the sums; packing goes row by row; and what no cache holds comes from memory, input and output
        // half hidden behind the tiles.
        let threads = request.target.threads as f64;
        let call = if threads > 1.0 { 3000.0 } else { 150.0 };
        let work = roofs.compute_ns(multiply_adds, 1.08)
            + 40.0 * blocking.tiles(request) as f64
            + 2.4 / blocking.lanes as f64 * g.output_len() as f64
            + 8.0 * blocking.packed_rows(request) as f64;
        let hidden = 0.5 * (g.input_len() + g.output_len()) as f64;
        let moved = (g.compulsory_elements() as f64 - hidden) * size as f64;
        Cost {
            nanoseconds: call + work / threads + roofs.dram_ns(moved),
            scratch_bytes: blocking.workers(request).1.bytes,
            packed_bytes: blocking.packed_weights() * size,
            multiply_adds,
        }
    }

    fn prepare(
        &self,
        r: &Request<'_>,
        _: &Variant,
        weights: Weights<'_>,
    ) -> Result<Box<dyn Prepared>, Refusal> {
        Ok(match r.dtype {
            Dtype::F32 => Box::new(PreparedPolyphase::<f32>::new(r, weights)?),
            Dtype::F64 => Box::new(PreparedPolyphase::<f64>::new(r, weights)?),
        })
    }
}
