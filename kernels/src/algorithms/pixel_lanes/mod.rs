//! Pixels in the lanes: for few output channels, and for channels-first outputs where the store decides.
//!
//! With o = S·q + σ, all S outputs of position q read inputs q + e, and most windows e serve every phase σ. So one vector of
//! neighbouring positions, loaded once for a window, serves every phase and every output channel: these are the columns
//! of the tile, their weights are broadcast; every tap is multiplied exactly once. Rows are packed one after another
//! with the zeros between them shared, so that vectors may run on across row ends and narrow images waste no lanes. A row
//! of outputs is finished by interleaving the S phases: one or two shuffles for each vector where they are 2 or 4, a transposition
//! in registers where they are many.

mod ahead;
mod axis;
mod blocking;
mod direct;
mod pack;
mod predict;
mod run;
mod store;

use crate::contract::kernel::{Exactness, Guarantees, Kernel, Prepared, Revisions, Specials};
use crate::contract::request::{Cost, Declined, Refusal, Request, Variant, Weights};
use crate::machine::roofs::Roofs;
use crate::machine::tensor::Dtype;
use crate::microkernels::pixel_tile::max_columns;

use blocking::Blocking;
use run::PreparedPixelLanes;

/// Phases along the other axes: each is a column block of its own.
const MOST_ROW_PHASES: usize = 64;

/// Pixels in the lanes, output channels × stride phases broadcast.
#[derive(Debug, Clone, Copy)]
pub struct PixelLanes;

impl Kernel for PixelLanes {
    fn name(&self) -> &'static str {
        "pixel-lanes"
    }

    fn summary(&self) -> &'static str {
        "neighbouring pixels in the lanes, weights of channels × phases broadcast; phases interleave in registers"
    }

    fn revisions(&self) -> Revisions {
        Revisions { numerics: 9, speed: 5 }
    }

    fn guarantees(&self) -> Guarantees {
        Guarantees {
            exactness: Exactness::Direct,
            specials: Specials::DeclinesNonFiniteWeights,
            allocates_in_run: false,
        }
    }

    fn supports(&self, request: &Request<'_>) -> Result<(), Declined> {
        takes(request)?;
        Blocking::fits(request)
    }

    fn variants(&self, request: &Request<'_>) -> Vec<Variant> {
        Blocking::new(request).map(|b| Variant(b.name(request).into())).into_iter().collect()
    }

    fn cost(&self, request: &Request<'_>, _: &Variant) -> Cost {
        Blocking::new(request).map_or(Cost::NEVER, |blocking| cost(request, &blocking))
    }

    fn candidates(&self, request: &Request<'_>) -> Result<Vec<(Variant, Cost)>, Declined> {
        takes(request)?;
        let blocking = Blocking::new(request)?;
        Ok(vec![(Variant(blocking.name(request).into()), cost(request, &blocking))])
    }

    fn prepare(
        &self,
        r: &Request<'_>,
        _: &Variant,
        weights: Weights<'_>,
    ) -> Result<Box<dyn Prepared>, Refusal> {
        Ok(match r.dtype {
            Dtype::F32 => Box::new(PreparedPixelLanes::<f32>::new(r, weights)?),
            Dtype::F64 => Box::new(PreparedPixelLanes::<f64>::new(r, weights)?),
        })
    }
}

/// Whether it takes such a request, if there is room.
fn takes(request: &Request<'_>) -> Result<(), Declined> {
    if request.weights.is_some_and(|w| !w.all_finite) {
        return Err(Declined::because("weights are not finite, and padded zeros are multiplied"));
    }
    for (axis, a) in request.geometry.problem().spatial().iter().enumerate() {
        if a.stride > 1 && a.dilation > 1 {
            return Err(Declined::because(format!(
                "stride {} and dilation {} on spatial axis {axis}: phases read different inputs",
                a.stride, a.dilation
            )));
        }
    }
    let stride = request.geometry.problem().axes()[2].stride;
    let most = max_columns(request.target.isa.registers());
    if stride > most {
        return Err(Declined::because(format!("{stride} phases along x: a tile takes {most}")));
    }
    if let Some(a) = request.geometry.problem().axes().iter().find(|a| a.stride > MOST_ROW_PHASES) {
        return Err(Declined::because(format!("{} phases: at most {MOST_ROW_PHASES}", a.stride)));
    }
    Ok(())
}

/// What a run with these sizes costs.
fn cost(request: &Request<'_>, blocking: &Blocking) -> Cost {
    let size = request.dtype.size();
    let roofs = Roofs::assumed(request.target.isa, request.dtype);
    let g = request.geometry;
    let work = blocking.work_ns(request, &roofs);
    let moved = (g.compulsory_elements() * size as u128) as f64;
    Cost {
        nanoseconds: 100.0 + work / request.target.threads as f64 + roofs.dram_ns(moved),
        scratch_bytes: blocking.workers(request).1.bytes,
        packed_bytes: blocking.packed_weights() * size,
        multiply_adds: g.multiply_adds(),
    }
}
