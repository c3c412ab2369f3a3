//! Upsampling by outer products: weights `w[z][y][x] = f[z]·f[y]·f[x]` of one input channel each, recognised in the values.
//!
//! Bilinear upsampling (FCN, DLA) is of this kind; FCN stores it as dense weights, all but the diagonal of which are
//! zeros. Three passes, each over one axis, replace the sum over all taps. The one along y comes last: it makes all
//! outputs, and is no more than a few neighbouring rows, each times a number, in the order in which they lie in memory.
//!
//! ```text
//!  input ─ its one channel, zeros beside ─▶ × f[z], planes added ─▶ row of inputs
//!          ─ × f[x], phases side by side ─▶ ring of widened rows          (level-1 cache)
//!  output ◀─ activation ─ bias + Σ f[y] · widened row
//! ```
//!
//! Error: an output of n = a·b·c products is rounded a + b + c times on the way, and the product of the factors lies within
//! rounding of the weight ([`Factors`] says how near). Direct summation rounds n times: the ratio is largest where n = 1.
//!
//! Where weights are zeros, the channels that they would have read are not read by the passes; but a NaN or an infinity
//! there still makes a NaN of what it meets: 0·x of all channels of the group is added to each.

mod blocking;
mod pack;
mod passes;
mod rows;
mod run;

use crate::contract::kernel::{Exactness, Guarantees, Kernel, Prepared, Revisions, Specials};
use crate::contract::request::{Cost, Declined, Refusal, Request, Variant, Weights};
use crate::contract::separable::{Factors, Separable as Found};
use crate::machine::tensor::Dtype;

use blocking::Blocking;
use run::PreparedSeparable;

/// The most scratch of a thread, in bytes.
const MOST_SCRATCH: usize = 2 << 20;

/// Outer products of one input channel.
#[derive(Debug, Clone, Copy)]
pub struct Separable;

impl Kernel for Separable {
    fn name(&self) -> &'static str {
        "separable"
    }

    fn summary(&self) -> &'static str {
        "weights that are outer products of one input channel each (bilinear upsampling): a pass for each axis"
    }

    fn revisions(&self) -> Revisions {
        Revisions { numerics: 2, speed: 1 }
    }

    fn guarantees(&self) -> Guarantees {
        Guarantees {
            exactness: Exactness::Bounded { factor: Factors::<f64>::GROWTH },
            specials: Specials::MaySpread,
            allocates_in_run: false,
        }
    }

    fn supports(&self, request: &Request<'_>) -> Result<(), Declined> {
        match request.weights {
            None => Err(Declined::because("takes certain weights alone, and these are not known")),
            Some(facts) => match facts.separable {
                Found::Yes { .. } => {
                    let slot = Blocking::new(request).slot() * request.dtype.size();
                    if slot > MOST_SCRATCH {
                        return Err(Declined::because(format!(
                            "needs {slot} bytes of scratch for each thread: the limit is {MOST_SCRATCH}"
                        )));
                    }
                    Ok(())
                }
                found => Err(Declined::because(found.to_string())),
            },
        }
    }

    fn remark(&self, request: &Request<'_>) -> Option<String> {
        request.weights.map(|facts| facts.separable.to_string())
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
            packed_bytes: blocking.packed_elements(request.geometry) * request.dtype.size(),
            multiply_adds: Blocking::multiply_adds(request.geometry),
        }
    }

    fn prepare(
        &self,
        r: &Request<'_>,
        _: &Variant,
        weights: Weights<'_>,
    ) -> Result<Box<dyn Prepared>, Refusal> {
        Ok(match r.dtype {
            Dtype::F32 => Box::new(PreparedSeparable::<f32>::new(r, weights)?),
            Dtype::F64 => Box::new(PreparedSeparable::<f64>::new(r, weights)?),
        })
    }
}
