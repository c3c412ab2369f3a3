//! Peers on one workload: prepared, verified like our kernels, then measured beside them.

use tconv::{Element, Exactness, Geometry};

use super::block::Block;
use super::check::Expected;
use super::contender::{Buffers, Contender};
use super::sitting::{Series, Stopped};
use super::workload::{Job, Results};
use crate::peers::protocol::Prepare;
use crate::peers::{Live, Prepared, Trouble, Visitors, live};
use crate::record::{Figures, Measurement, Outcome};

/// A peer that gave the right answer.
pub(super) struct Guest<'a> {
    pub(super) live: &'a mut Live,
    pub(super) entry: Entry,
}

/// What is known of a peer before the rounds.
pub(super) struct Entry {
    pub(super) first: Block,
    plan_ns: f64,
    one_shot_ns: f64,
    implementation: Option<String>,
    max_error_u: f64,
}

impl Guest<'_> {
    /// Frees what the peer holds.
    pub(super) fn leave(self) {
        self.live.release();
    }

    pub(super) fn figures(
        &self,
        geometry: &Geometry,
        peak: f64,
        measured: Option<&Series>,
        stopped: Stopped,
    ) -> Figures {
        let flops = geometry.conventional_flops();
        Figures {
            plan_ns: self.entry.plan_ns,
            one_shot_ns: Some(self.entry.one_shot_ns),
            max_error_u: self.entry.max_error_u,
            ..Figures::of_rounds(measured, stopped, self.entry.first, flops, peak)
        }
    }
}

impl Job<'_> {
    /// Asks every peer for its answer; who is right takes part, of the others it is written down what happened.
    pub(super) fn invite<'v, T: Element>(
        &self,
        visitors: &'v mut Visitors,
        geometry: &Geometry,
        (buffers, bias): (&Buffers<T>, Option<&[T]>),
        expected: &Expected,
        results: &mut Results,
    ) -> Vec<Guest<'v>> {
        let mut guests = Vec::new();
        if visitors.is_empty() {
            return guests;
        }
        let tensors = (&buffers.input[..], &buffers.weights[..], bias);
        let problem = live::write_tensors(visitors.folder(), &self.descriptor, geometry, tensors)
            .map_err(|e| Trouble::Failed(format!("the tensors cannot be written to files: {e}")));
        for live in visitors.iter_mut() {
            if (self.interrupted)() {
                break;
            }
            match self.admit::<T>(live, &problem, geometry, expected) {
                Ok(entry) => guests.push(Guest { live, entry }),
                Err(outcome) => {
                    results.measurements.push(self.peer_measurement(live, None, *outcome));
                    live.release();
                }
            }
        }
        guests
    }

    /// Prepares, executes, and checks.
    fn admit<T: Element>(
        &self,
        live: &mut Live,
        problem: &Result<Prepare, Trouble>,
        geometry: &Geometry,
        expected: &Expected,
    ) -> Result<Entry, Box<Outcome>> {
        let failed = |trouble: Trouble| Box::new(Outcome::Failed { failed: trouble.to_string() });
        let problem = problem.as_ref().map_err(|trouble| failed(trouble.clone()))?;
        (self.tell)(&format!("{}: preparing", live.name()));
        let (plan_ns, implementation) = match live.prepare(problem).map_err(failed)? {
            Prepared::Ready { plan_ns, implementation } => (plan_ns, implementation),
            Prepared::Declined(declined) => return Err(Box::new(Outcome::Declined { declined })),
        };
        (self.tell)(&format!("{}: checking", live.name()));
        // The first execution may hold work that a library puts off until then, and the second one may find what the first has
        // overwritten: that one is checked.
        let one_shot_ns = plan_ns + live.execute(1).map_err(failed)?.ns_per_run();
        let first = live.execute(1).map_err(failed)?;
        let output: Vec<T> = live.fetch(geometry).map_err(failed)?;
        let max_error_u = expected.check(&output, Exactness::Direct).map_err(|wrong| {
            let (descriptor, name, threads) = (&self.descriptor, live.name(), self.crew.threads());
            let seed = self.seed;
            Box::new(Outcome::Wrong {
                wrong: wrong.to_string(),
                verified: false,
                repro: format!(
                    "tconv rank -w '{descriptor}' --peers {name} --threads {threads} --seed {seed}"
                ),
            })
        })?;
        Ok(Entry { first, plan_ns, one_shot_ns, implementation, max_error_u })
    }

    /// A line of the records about a peer that took part.
    pub(super) fn guest_measurement(&self, guest: &Guest<'_>, outcome: Outcome) -> Measurement {
        self.peer_measurement(guest.live, guest.entry.implementation.clone(), outcome)
    }

    fn peer_measurement(&self, live: &Live, implementation: Option<String>, outcome: Outcome) -> Measurement {
        let peer = live.record(implementation);
        let plain = self.measurement(live.name(), Some(peer.mode.clone()), false, outcome);
        Measurement { isa: "own".into(), peer: Some(peer), ..plain }
    }
}
