//! What is asked of a choice: who, from where, how fast, at which price, and what it would cost to do without.

use serde_json::{Value, json};
use tconv::{Descriptor, Estimate, Geometry, Kernel, Planner, Target};

use crate::cli::Failure;
use crate::format::{bytes, percent, plural, rate, time};
use crate::measure::workload::revision;
use crate::output;

/// Runners-up that are shown.
const RUNNERS_UP: usize = 3;

/// The answer for one layer.
#[derive(Debug)]
pub struct Answer {
    /// Name of the layer.
    pub layer: String,
    /// The layer.
    pub descriptor: Descriptor,
    /// Where it runs.
    pub target: Target,
    /// Who takes it: the pick, then the others in the planner's order.
    pub offers: Vec<Offer>,
    /// Who does not, and why.
    pub declined: Vec<(&'static str, String)>,
    flops: f64,
}

/// A kernel that takes the layer.
pub struct Offer {
    /// The kernel.
    pub kernel: &'static dyn Kernel,
    /// Its variant.
    pub variant: String,
    /// How long it will take, and how that is known.
    pub estimate: Estimate,
    /// What it needs.
    pub scratch_bytes: usize,
    /// What it says about the weights.
    pub remark: Option<String>,
}

impl std::fmt::Debug for Offer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Offer").field(&self.kernel.name()).field(&self.variant).field(&self.estimate).finish()
    }
}

impl Answer {
    /// Asks a planner, with its databases and constraints; fails where no kernel takes the layer.
    pub fn ask(
        planner: &Planner,
        target: Target,
        layer: &str,
        descriptor: &Descriptor,
    ) -> Result<Self, Failure> {
        let (mut offers, mut declined) = (Vec::new(), Vec::new());
        for verdict in planner.explain_descriptor(descriptor)? {
            match (verdict.answer, verdict.estimate) {
                (Ok((variant, cost)), Some(estimate)) => offers.push(Offer {
                    kernel: verdict.kernel,
                    variant: variant.name().into(),
                    estimate,
                    scratch_bytes: cost.scratch_bytes,
                    remark: verdict.remark,
                }),
                (Err(reason), _) => declined.push((verdict.kernel.name(), reason.reason.to_string())),
                (Ok(_), None) => declined.push((verdict.kernel.name(), "it predicts nothing".into())),
            }
        }
        if offers.is_empty() {
            let reasons: String = declined.iter().map(|(name, why)| format!("\n  {name}: {why}")).collect();
            return Err(Failure(format!("{layer} ({descriptor}): no kernel takes it:{reasons}")));
        }
        let flops = Geometry::new(&descriptor.problem)?.conventional_flops();
        Ok(Self { layer: layer.into(), descriptor: *descriptor, target, offers, declined, flops })
    }

    /// The choice.
    pub fn pick(&self) -> &Offer {
        &self.offers[0]
    }

    /// The next one, and its time relative to the pick's: what it would cost to forbid the pick.
    pub fn without(&self) -> Option<(&Offer, f64)> {
        let second = self.offers.get(1)?;
        Some((second, second.estimate.nanoseconds / self.pick().estimate.nanoseconds))
    }

    /// Everything, as one line of JSON.
    pub fn json(&self) -> Value {
        let offer = |offer: &Offer| {
            json!({
                "kernel": offer.kernel.name(),
                "variant": offer.variant,
                "revision": revision(offer.kernel),
                "source": offer.estimate.source.to_string(),
                "like": offer.estimate.like.map(|d| d.to_string()),
                "ns": [offer.estimate.nanoseconds, offer.estimate.low, offer.estimate.high],
                "gflops": self.flops / offer.estimate.nanoseconds,
                "scratch_bytes": offer.scratch_bytes,
                "remark": offer.remark,
            })
        };
        let declined = |(kernel, reason): &(&str, String)| json!({ "kernel": kernel, "declined": reason });
        json!({
            "record": "choice",
            "layer": self.layer,
            "descriptor": self.descriptor.to_string(),
            "isa": self.target.isa.name(),
            "threads": self.target.threads,
            "pick": offer(self.pick()),
            "without_it": self.without().map(|(second, factor)| json!({ "kernel": second.kernel.name(), "factor": factor })),
            "runners_up": self.offers[1..].iter().map(offer).collect::<Vec<_>>(),
            "declined": self.declined.iter().map(declined).collect::<Vec<_>>(),
        })
    }

    /// For a reader. `explain`: every kernel, also those that decline.
    pub fn text(&self, explain: bool) -> String {
        let named = if self.layer == self.descriptor.to_string() {
            String::new()
        } else {
            format!("{}  ", self.layer)
        };
        let (isa, threads) = (self.target.isa.name(), plural(self.target.threads, "thread"));
        let mut text = format!("{named}{}\n{isa}, {threads}\n\n", self.descriptor);
        let shown = if explain { self.offers.len() } else { self.offers.len().min(1 + RUNNERS_UP) };
        let mut table = output::table(
            &["", "kernel", "variant", "time", "interval", "GFLOP/s", "scratch", "times", "source"],
            3,
        );
        let best = self.pick().estimate.nanoseconds;
        for (i, offer) in self.offers[..shown].iter().enumerate() {
            let e = &offer.estimate;
            table.add_row([
                if i == 0 { "pick".to_owned() } else { format!("{}.", i + 1) },
                offer.kernel.name().into(),
                offer.variant.clone(),
                time(e.nanoseconds),
                format!("{} – {}", time(e.low), time(e.high)),
                rate(self.flops / e.nanoseconds),
                bytes(offer.scratch_bytes as f64),
                format!("{:.2}", e.nanoseconds / best),
                e.source.to_string(),
            ]);
        }
        text += &output::render(&table);
        for offer in &self.offers[..shown] {
            if let Some(remark) = &offer.remark {
                text += &format!("{}: {remark}\n", offer.kernel.name());
            }
        }
        if explain {
            for (kernel, reason) in &self.declined {
                text += &format!("{kernel} declines: {reason}\n");
            }
        }
        text.push('\n');
        if let Some(like) = &self.pick().estimate.like {
            text += &format!("The nearest layer that was measured: {like}\n");
        }
        text += &match self.without() {
            None => "Nobody else takes it.\n".into(),
            Some((second, factor)) => {
                format!("Without {}: {}.\n", self.pick().kernel.name(), replacement(second, factor))
            }
        };
        text
    }
}

fn replacement(second: &Offer, factor: f64) -> String {
    let name = second.kernel.name();
    match factor {
        f if f >= 2.0 => format!("{name}, {f:.1} times as long"),
        f if f >= 1.0 => format!("{name}, {} longer", percent(f - 1.0)),
        f => format!("{name}, {} shorter, within the noise, with more scratch", percent(1.0 - f)),
    }
}

/// Several layers in one table, with what they need together.
pub fn table(answers: &[Answer]) -> String {
    let mut table = output::table(
        &["layer", "kernel", "variant", "source", "time", "interval", "scratch", "without it"],
        4,
    );
    for answer in answers {
        let pick = answer.pick();
        let e = &pick.estimate;
        table.add_row([
            answer.layer.clone(),
            pick.kernel.name().into(),
            pick.variant.clone(),
            e.source.to_string(),
            time(e.nanoseconds),
            format!("{} – {}", time(e.low), time(e.high)),
            bytes(pick.scratch_bytes as f64),
            answer.without().map_or("nobody".into(), |(second, factor)| replacement(second, factor)),
        ]);
    }
    let total: f64 = answers.iter().map(|a| a.pick().estimate.nanoseconds).sum();
    let scratch = answers.iter().map(|a| a.pick().scratch_bytes).max().unwrap_or(0);
    let sum = format!("together {}, scratch {}", time(total), bytes(scratch as f64));
    format!("{}\n{}: {sum}\n", output::render(&table), plural(answers.len(), "layer"))
}
