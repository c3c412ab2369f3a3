//! Problems like the asked one: what their measurements say about the errors of the cost model.
//!
//! Near problems of the same class differ from the asked one in size, so their times cannot be taken as they are. Their
//! *ratio* to the model's prediction can: a kernel that was a third slower than predicted on a layer of half the width will
//! be so here, too. The prediction is corrected by the mean of these ratios (of their logarithms), weighted by nearness and
//! drawn towards 1 where nothing is near. How far to trust the model of a kernel is recorded, too ([`SPREADS`]). Constants: fitted
//! with `tconv choose --audit` on the recorded runs; its held-out layers had no part in it.

use super::database::{Entry, Key};
use super::estimate::{ChosenBy, Estimate, Sources};
use super::line::Measured;
use crate::contract::kernel::Kernel;
use crate::contract::request::{Request, Variant, WeightFacts};
use crate::machine::isa::Target;
use crate::machine::measured::SPREADS;
use crate::problem::descriptor::Descriptor;
use crate::problem::epilogue::Epilogue;
use crate::problem::geometry::Geometry;
use crate::problem::problem::{Accuracy, Axis, Layout, Problem};

/// At most so many are asked.
const MOST: usize = 4;
/// Distance (in doublings of a size, roughly) at which a problem is no longer like another.
const RADIUS: f64 = 4.0;
/// Distance at which the weight has fallen to 1/e.
const REACH: f64 = 1.0;
/// Weight of the uncorrected model.
const MODEL: f64 = 0.5;
/// Two of three predictions lie within this factor (logarithm) of the measured time, where nothing is known of the kernel.
const SPREAD: f64 = 0.3;
/// The same between a problem and one that is very near.
const NEAR_SPREAD: f64 = 0.05;

/// A measured problem that is asked.
pub(super) struct Neighbour<'e> {
    pub(super) entry: &'e Entry,
    /// With the sizes, to ask kernels for their prediction.
    geometry: Geometry,
    weight: f64,
    source: ChosenBy,
    target: Target,
    epilogue: Epilogue,
    accuracy: Accuracy,
}

/// The problems to ask about this one, the nearest first: those like it, else the same with other numbers of threads.
pub(super) fn neighbours<'e>(sources: Sources<'e>, key: &Key, request: &Request<'_>) -> Vec<Neighbour<'e>> {
    let of_kind = |e: &&'e Entry| e.key.dtype == key.dtype && e.key.isa == key.isa;
    let here = Features::of(&key.problem);
    let like_it = |elsewhere: bool| {
        let source = if elsewhere { ChosenBy::OtherMachine } else { ChosenBy::Nearest };
        let entries = sources.all().filter(move |(choices, _)| choices.elsewhere() == elsewhere);
        entries
            .flat_map(|(choices, _)| choices.entries())
            .filter(of_kind)
            .filter(|e| e.key.threads == key.threads)
            .filter_map(|e| Some((here.distance(&Features::of(&e.key.problem))?, e, source)))
            .filter(|(distance, ..)| *distance <= RADIUS)
            .collect::<Vec<_>>()
    };
    let mut near: Vec<(f64, &Entry, ChosenBy)> = like_it(false);
    if near.is_empty() {
        // Times of two machines are not mixed.
        near = like_it(true);
    }
    if near.is_empty() {
        let entries = sources.all().flat_map(|(choices, _)| choices.entries());
        let same = entries.filter(of_kind).filter(|e| e.key.problem == key.problem);
        near = same
            .map(|e| {
                ((e.key.threads as f64 / key.threads as f64).log2().abs() / 2.0, e, ChosenBy::OtherThreads)
            })
            .collect();
    }
    // A problem may be in both databases: the caller's comes first, and counts.
    near.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut chosen: Vec<Neighbour<'e>> = Vec::new();
    for (distance, entry, source) in near {
        if chosen.len() == MOST {
            break;
        }
        if chosen.iter().any(|n| n.entry.key == entry.key) {
            continue;
        }
        let Ok(geometry) = Geometry::new(&entry.key.problem) else { continue };
        chosen.push(Neighbour {
            entry,
            geometry,
            weight: (-(distance / REACH).powi(2)).exp(),
            source,
            target: request.target.with_threads(entry.key.threads),
            epilogue: request.epilogue,
            accuracy: request.accuracy,
        });
    }
    chosen
}

impl Neighbour<'_> {
    /// What the kernel predicts for this problem, where it takes it: with which variant, and how long.
    fn predicted(&self, kernel: &dyn Kernel) -> Option<(Variant, f64)> {
        let request = Request {
            geometry: &self.geometry,
            dtype: self.entry.key.dtype,
            epilogue: self.epilogue,
            accuracy: self.accuracy,
            target: self.target,
            weights: WeightFacts::assumed(self.entry.key.structure),
        };
        let (variant, cost) = kernel.candidates(&request).ok()?.into_iter().next()?;
        Some((variant, cost.nanoseconds)).filter(|(_, ns)| ns.is_finite() && *ns > 0.0)
    }

    fn descriptor(&self) -> Descriptor {
        let Key { problem, dtype, structure, .. } = self.entry.key;
        Descriptor { problem, dtype, epilogue: Epilogue::NONE, structure }
    }
}

/// The prediction, corrected by what was measured on the neighbours.
pub(super) fn carry_over(
    neighbours: &[Neighbour<'_>],
    kernel: &'static dyn Kernel,
    predicted: f64,
) -> Estimate {
    let known = SPREADS.iter().find(|(name, _)| *name == kernel.name());
    let of_model = known.map_or(SPREAD, |(_, spread)| *spread);
    let (mut sum, mut weights) = (0.0, MODEL);
    let mut squares = MODEL * of_model * of_model;
    let mut first = None;
    for neighbour in neighbours {
        // Another revision or variant has another speed: its times say nothing about the predictions of this one.
        let current = |m: &&Measured| m.kernel == kernel.name() && m.is_of(kernel.revisions());
        if !neighbour.entry.measured.iter().any(|m| current(&m)) {
            continue;
        }
        let Some((variant, predicted)) = neighbour.predicted(kernel) else { continue };
        let mut of_kernel = neighbour.entry.measured.iter().filter(current);
        let Some(measured) = of_kernel.find(|m| m.variant == variant.name()).map(|m| m.ns[0]) else {
            continue;
        };
        let error = (measured / predicted).ln();
        sum += neighbour.weight * error;
        squares += neighbour.weight * NEAR_SPREAD * NEAR_SPREAD;
        weights += neighbour.weight;
        first = first.or(Some(neighbour));
    }
    let mean = sum / weights;
    let spread = (squares / weights).sqrt();
    let nanoseconds = predicted * mean.exp();
    Estimate {
        nanoseconds,
        low: nanoseconds * (-spread).exp(),
        high: nanoseconds * spread.exp(),
        source: match first {
            Some(neighbour) => neighbour.source,
            None if predicted.is_finite() => ChosenBy::CostModel,
            None => ChosenBy::Default,
        },
        like: first.map(Neighbour::descriptor),
    }
}

/// What the speed of a kernel depends on.
struct Features {
    class: Class,
    /// Logarithms to base 2 of sizes.
    sizes: [f64; 7],
}

/// Problems of different classes say nothing about each other.
#[derive(PartialEq, Eq)]
struct Class {
    layout: Layout,
    grouping: u8,
    strided: bool,
    dilated: bool,
}

impl Features {
    fn of(p: &Problem) -> Self {
        let axes = p.axes();
        let product = |value: fn(&Axis) -> usize| axes.iter().map(|a| value(a) as f64).product::<f64>();
        let x = axes[2];
        let grouping = match (p.groups(), p.group_in()) {
            (1, _) => 0,
            (_, 1) => 1,
            _ => 2,
        };
        let pixels = product(|a| a.input) * p.batch().max(1) as f64;
        Self {
            class: Class {
                layout: p.layout(),
                grouping,
                strided: axes.iter().any(|a| a.stride > 1),
                dilated: axes.iter().any(|a| a.dilation > 1),
            },
            sizes: [
                p.group_in() as f64,
                p.group_out() as f64,
                pixels,
                x.input as f64,
                product(|a| a.kernel),
                product(|a| a.stride),
                x.kernel as f64 / x.stride as f64,
            ]
            .map(f64::log2),
        }
    }

    /// Euclidean, with sizes that decide between kernels counting more; none between classes.
    fn distance(&self, other: &Self) -> Option<f64> {
        const WEIGHTS: [f64; 7] = [0.5, 1.0, 0.4, 0.6, 0.8, 0.8, 0.8];
        let pairs = self.sizes.iter().zip(&other.sizes).zip(WEIGHTS);
        let sum: f64 = pairs.map(|((a, b), w)| (w * (a - b)).powi(2)).sum();
        (self.class == other.class).then(|| sum.sqrt())
    }
}
