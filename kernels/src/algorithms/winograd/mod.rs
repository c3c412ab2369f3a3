//! Polyphase Winograd: every stride phase as minimal filters F(m, r), with fewer products than the definition has.
//!
//! A phase is a correlation of neighbours; along each axis its outputs are cut into tiles of m, and each tile makes its
//! products on n = m + r − 1 *points* instead of m·r pairs. Between the turns of `forms` lie as many independent
//! matrix products as there are points: input channels × tiles against packed points of weights.
//!
//! ```text
//!  input ─ rows, zeros beside ─▶ windows ─ forward along z, y, x ─▶ points [point][channel][tile]   (level-2 cache)
//!                                                                     │ × weights [point][ci][co]   (streamed)
//!  output ◀─ activation, store ─ rows [x][co] ◀─ back along z, y, x ─ sums [point][tile][co]
//! ```
//!
//! Sums of inputs meet sums of weights: integers need not come out exact, and what is not finite spreads over its tile.

mod axes;
mod blocking;
mod cost;
mod forms;
mod pack;
mod run;
mod transform;

use crate::contract::kernel::{Exactness, Guarantees, Kernel, Prepared, Revisions, Specials};
use crate::contract::request::{Cost, Declined, Refusal, Request, Variant, Weights};
use crate::contract::searched::Searched;
use crate::machine::isa::Target;
use crate::machine::roofs::Roofs;
use crate::machine::tensor::Dtype;
use crate::problem::problem::Accuracy;

use axes::Axis;
use blocking::Blocking;
use run::PreparedWinograd;

/// Polyphase Winograd.
#[derive(Debug, Clone, Copy)]
pub struct Winograd;

/// The sizes of the cheapest way: with two forms on an axis or with one. Forms round differently, so the way is the one that
/// is cheapest on one thread of a typical machine, for any number of them on any machine.
fn blocking(request: &Request<'_>) -> Result<Blocking, Declined> {
    thread_local!(static SEARCHED: Searched<Blocking> = const { Searched::none_yet() });
    // While a thread ends there is no memory.
    let kept = SEARCHED.try_with(|searched| searched.answer(request, || search(request)));
    kept.unwrap_or_else(|_| search(request))
}

fn search(request: &Request<'_>) -> Result<Blocking, Declined> {
    let alone = Request { target: Target { threads: 1, ..request.target }, ..*request };
    let roofs = Roofs::typical(request.target.isa, request.dtype);
    let (mut best, mut least) = ([false; 3], f64::INFINITY);
    let axes = request.geometry.axes().each_ref();
    let mixes = axes.map(Axis::mixes);
    for mixed in (0..8).map(|ways| [0, 1, 2].map(|axis| ways >> axis & 1 == 1)) {
        if (0..3).any(|axis| mixed[axis] && !mixes[axis]) {
            continue;
        }
        let nanoseconds = match Blocking::new(&alone, mixed) {
            Ok(blocking) => cost::nanoseconds(&alone, &blocking, &roofs),
            Err(declined) if mixed == [false; 3] => return Err(declined),
            Err(_) => continue,
        };
        if nanoseconds < least {
            (best, least) = (mixed, nanoseconds);
        }
    }
    Blocking::new(request, best)
}

/// Whether it takes such weights.
fn takes(request: &Request<'_>) -> Result<(), Declined> {
    match request.weights {
        Some(facts) if !facts.all_finite => {
            Err(Declined::because("sums of weights that are not finite say nothing"))
        }
        _ => Ok(()),
    }
}

impl Kernel for Winograd {
    fn name(&self) -> &'static str {
        "winograd-polyphase"
    }

    fn summary(&self) -> &'static str {
        "stride phases as minimal filters F(m, r): fewer multiplications than the definition"
    }

    fn revisions(&self) -> Revisions {
        Revisions { numerics: 4, speed: 1 }
    }

    fn guarantees(&self) -> Guarantees {
        Guarantees {
            exactness: Exactness::Bounded { factor: Accuracy::STANDARD_GROWTH },
            specials: Specials::MaySpread,
            allocates_in_run: false,
        }
    }

    fn supports(&self, request: &Request<'_>) -> Result<(), Declined> {
        takes(request)?;
        // What one form on each axis declines is declined.
        Blocking::new(request, [false; 3]).map(drop)
    }

    fn variants(&self, request: &Request<'_>) -> Vec<Variant> {
        blocking(request).map(|b| Variant(b.name(request).into())).into_iter().collect()
    }

    fn cost(&self, request: &Request<'_>, _: &Variant) -> Cost {
        blocking(request).map_or(Cost::NEVER, |blocking| cost::cost(request, &blocking))
    }

    fn candidates(&self, request: &Request<'_>) -> Result<Vec<(Variant, Cost)>, Declined> {
        takes(request)?;
        let blocking = blocking(request)?;
        Ok(vec![(Variant(blocking.name(request).into()), cost::cost(request, &blocking))])
    }

    fn prepare(
        &self,
        r: &Request<'_>,
        _: &Variant,
        weights: Weights<'_>,
    ) -> Result<Box<dyn Prepared>, Refusal> {
        Ok(match r.dtype {
            Dtype::F32 => Box::new(PreparedWinograd::<f32>::new(r, blocking(r)?, weights)?),
            Dtype::F64 => Box::new(PreparedWinograd::<f64>::new(r, blocking(r)?, weights)?),
        })
    }
}
