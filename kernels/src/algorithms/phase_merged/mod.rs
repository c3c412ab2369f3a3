//! The SIMD-tiled kernel for large strides: neighbouring phases along x in the lanes.
//!
//! Position j of an output row owns the outputs `S·j + ρ − crop` of all phases ρ. They all read the same inputs
//! `j − m`, with the weights `ρ + S·m`: one product of positions × (channel, ρ), whose lanes are neighbouring outputs
//! that are stored as they are, without any transposition.
//!
//! ```text
//!   outputs of one channel   │· · · ·│· · · ·│· · · ·│   S = 4: a position owns four
//!   position                     j      j+1     j+2      and reads the inputs j, j − 1, … j − (K/S − 1)
//! ```
//!
//! Where the stride does not divide the kernel, the first phases have a tap more than the others: they have vectors of their own.
//!
//! Along z and y the phases stay apart, as in `polyphase`: taps that miss the input are skipped.

mod blocking;
mod columns;
mod pack;
mod run;

use crate::contract::kernel::{Exactness, Guarantees, Kernel, Prepared, Revisions, Specials};
use crate::contract::request::{Cost, Declined, Refusal, Request, Variant, Weights};
use crate::machine::roofs::Roofs;
use crate::machine::tensor::Dtype;
use crate::problem::problem::Layout;

use blocking::Blocking;
use columns::Columns;
use run::PreparedMerged;

/// Phase-merged register tiles.
#[derive(Debug, Clone, Copy)]
pub struct PhaseMerged;

impl Kernel for PhaseMerged {
    fn name(&self) -> &'static str {
        "phase-merged"
    }

    fn summary(&self) -> &'static str {
        "all phases along x as columns of one product; lanes are neighbouring outputs (large strides)"
    }

    fn revisions(&self) -> Revisions {
        Revisions { numerics: 3, speed: 2 }
    }

    fn guarantees(&self) -> Guarantees {
        Guarantees { exactness: Exactness::Direct, specials: Specials::Exact, allocates_in_run: false }
    }

    fn supports(&self, request: &Request<'_>) -> Result<(), Declined> {
        let (g, p) = (request.geometry, request.geometry.problem());
        let x = &g.axes()[2].axis;
        let no = |reason: String| Err(Declined::because(reason));
        if x.stride == 1 {
            return no("has one phase along the last axis: nothing to merge".into());
        }
        if x.dilation != 1 {
            return no(format!("merges phases of dense taps: dilation {} along the last axis", x.dilation));
        }
        if p.layout() == Layout::Nhwc && p.groups() > 1 {
            return no(format!("channels-last outputs of {} groups are no neighbours", p.groups()));
        }
        let lanes = request.target.isa.f32_lanes() * 4 / request.dtype.size();
        let all = Columns::new(g, lanes);
        if x.kernel < x.stride || !all.is_even() {
            return no(format!(
                "wants equally many taps in all phases of a vector, and at least one: kernel {}, stride {}",
                x.kernel, x.stride
            ));
        }
        let (columns, filled) = all.filling();
        if filled * 4 > columns * 5 {
            return no(format!("{columns} columns would fill {filled} lanes: more than a quarter idle"));
        }
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
        // As for `polyphase`: tiles at 1.08 of the assumed peak, each with a start and an end; then a store for each piece
        // of neighbouring outputs, and memory traffic. Within a sixth of the measured times on the zoo's large strides.
        let piece = blocking.columns.piece;
        let piece_ns = if piece < 4 { 2.0 } else { 0.6 }; // two or three lanes leave through the sums
        let tile_ns = if blocking.columns.divides() { 15.0 } else { 40.0 }; // stored from the registers, or from the sums
        let threads = request.target.threads as f64;
        let work = roofs.compute_ns(multiply_adds, 1.08)
            + tile_ns * blocking.tiles(request) as f64
            + piece_ns / piece as f64 * g.output_len() as f64;
        let moved = (g.compulsory_elements() * size as u128) as f64;
        Cost {
            nanoseconds: work / threads + roofs.dram_ns(moved),
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
            Dtype::F32 => Box::new(PreparedMerged::<f32>::new(r, weights)?),
            Dtype::F64 => Box::new(PreparedMerged::<f64>::new(r, weights)?),
        })
    }
}
