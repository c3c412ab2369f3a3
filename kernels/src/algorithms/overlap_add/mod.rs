//! Overlap-add: for each input pixel the sums of all its taps, which are then added where they overlap.
//!
//! A pixel meets every tap of every output channel: so many columns, each a sum over the input channels. No zero beside the image is
//! multiplied, no row is padded, and narrow images waste no lanes: the product is one dense block of pixels × columns. Where
//! input channels are many and columns few, adding the columns up costs next to nothing.
//!
//! ```text
//!   pixels of some rows  ──▶  columns [co·taps] × pixels, in the cache  ──▶  output rows whose inputs are complete
//!   nchw: lanes are pixels, copied a few at a time      nhwc: lanes are columns, inputs are read where they lie
//! ```
//!
//! Rows of columns stay in a ring until the last output that needs them is written. `gemm-col2im` has the same sums, of the whole
//! image at once and by a library.

mod add;
mod blocking;
mod products;
mod run;

use crate::contract::kernel::{Exactness, Guarantees, Kernel, Prepared, Revisions, Specials};
use crate::contract::request::{Cost, Declined, Refusal, Request, Variant, Weights};
use crate::machine::roofs::Roofs;
use crate::machine::tensor::Dtype;

use blocking::Blocking;
use run::PreparedOverlapAdd;

/// Scratch of one thread, at most.
const MOST_SCRATCH: usize = 2 << 20;

/// All taps of a pixel at once, added where they overlap.
#[derive(Debug, Clone, Copy)]
pub struct OverlapAdd;

impl Kernel for OverlapAdd {
    fn name(&self) -> &'static str {
        "overlap-add"
    }

    fn summary(&self) -> &'static str {
        "sums of all taps of an input pixel at once, in a ring of rows, added where they overlap: many channels to few"
    }

    fn revisions(&self) -> Revisions {
        Revisions { numerics: 1, speed: 1 }
    }

    fn guarantees(&self) -> Guarantees {
        Guarantees { exactness: Exactness::Direct, specials: Specials::Exact, allocates_in_run: false }
    }

    fn supports(&self, request: &Request<'_>) -> Result<(), Declined> {
        match request.geometry.problem().groups() {
            1 => {}
            groups => return Err(Declined::because(format!("{groups} groups: takes 1"))),
        }
        let bytes = Blocking::new(request).slot().saturating_mul(request.dtype.size());
        if bytes > MOST_SCRATCH {
            return Err(Declined::because(format!(
                "{bytes} bytes of scratch for a thread: at most {MOST_SCRATCH}"
            )));
        }
        Ok(())
    }

    fn variants(&self, request: &Request<'_>) -> Vec<Variant> {
        vec![Variant(Blocking::new(request).name(request).into())]
    }

    fn cost(&self, request: &Request<'_>, _: &Variant) -> Cost {
        let blocking = Blocking::new(request);
        let roofs = Roofs::assumed(request.target.isa, request.dtype);
        let size = request.dtype.size();
        let moved = request.geometry.compulsory_elements() as f64 * size as f64;
        let (threads, scratch) = blocking.workers(request);
        Cost {
            nanoseconds: 300.0
                + blocking.work_ns(request, &roofs) / threads as f64
                + blocking.waiting() * roofs.dram_ns(moved),
            scratch_bytes: scratch.bytes,
            packed_bytes: blocking.packed_weights(request.geometry.problem().in_channels()) * size,
            multiply_adds: blocking.multiply_adds(request),
        }
    }

    fn prepare(
        &self,
        r: &Request<'_>,
        _: &Variant,
        weights: Weights<'_>,
    ) -> Result<Box<dyn Prepared>, Refusal> {
        self.supports(r)?;
        Ok(match r.dtype {
            Dtype::F32 => Box::new(PreparedOverlapAdd::<f32>::new(r, weights)?),
            Dtype::F64 => Box::new(PreparedOverlapAdd::<f64>::new(r, weights)?),
        })
    }
}
