//! From measured choices to an order of the kernels that agree to run a request.

use std::cmp::Ordering;
use std::fmt;

use super::database::{Choices, Entry, Key};
use super::line::Measured;
use super::nearest;
use crate::contract::request::{Declined, Request};
use crate::planning::planner::Verdict;
use crate::problem::descriptor::Descriptor;

/// Part of the way to the upper end of its interval at which a prediction counts. Fitted as the constants of `nearest`.
const CAUTION: f64 = 0.75;
/// Two of three times of another kind of machine lie within this factor, once both machines' peaks are taken out.
const ELSEWHERE: f64 = 1.2;

/// Where the choice of a kernel came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChosenBy {
    /// The caller named it.
    Caller,
    /// A pin named it, with its revision.
    Pin,
    /// Measured for exactly this problem, in the database of the caller.
    Measured,
    /// Measured for exactly this problem before the release.
    Shipped,
    /// Measured for exactly this problem, or for one like it, on a machine of another kind.
    OtherMachine,
    /// Measured for problems like this one; the cost model carries it over.
    Nearest,
    /// Measured for this problem with another number of threads; the cost model carries it over.
    OtherThreads,
    /// Predicted by the kernels themselves.
    CostModel,
    /// No kernel predicts anything: the first of the registry.
    Default,
}

impl fmt::Display for ChosenBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Caller => "named by the caller",
            Self::Pin => "pinned",
            Self::Measured => "measured here",
            Self::Shipped => "shipped",
            Self::OtherMachine => "other machine",
            Self::Nearest => "nearest",
            Self::OtherThreads => "other threads",
            Self::CostModel => "model",
            Self::Default => "default",
        })
    }
}

/// How long a run of a candidate is expected to take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Nanoseconds of one run.
    pub nanoseconds: f64,
    /// Lower end of the interval: of a measurement the 95 % interval of its noise, of a prediction what holds for two
    /// problems of three.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// What it rests on.
    pub source: ChosenBy,
    /// The measured problem that it was carried over from.
    pub like: Option<Descriptor>,
}

/// Why a plan has the kernel that it has.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Who chose.
    pub by: ChosenBy,
    /// What was expected of the kernel.
    pub estimate: Estimate,
    /// What its user should know: a pinned kernel has become faster or slower.
    pub warnings: Vec<String>,
}

/// The databases that may be asked.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::planning) struct Sources<'a> {
    pub(in crate::planning) user: Option<&'a Choices>,
    pub(in crate::planning) shipped: Option<&'a Choices>,
}

impl<'a> Sources<'a> {
    pub(super) fn all(self) -> impl Iterator<Item = (&'a Choices, ChosenBy)> {
        let user = self.user.map(|c| (c, ChosenBy::Measured));
        let all = user.into_iter().chain(self.shipped.map(|c| (c, ChosenBy::Shipped)));
        all.map(|(c, by)| (c, if c.elsewhere() { ChosenBy::OtherMachine } else { by }))
    }

    /// The variant of a kernel that was fastest for exactly this request.
    pub(in crate::planning) fn variant(self, key: &Key, kernel: &str) -> Option<&'a str> {
        let mut lines = self.all().filter_map(|(choices, _)| choices.get(key));
        lines.find_map(|e| e.measured.iter().find(|m| m.kernel == kernel)).map(|m| m.variant.as_str())
    }
}

/// Gives every kernel that agrees an estimate, and puts the one to choose first.
pub(in crate::planning) fn order(
    sources: Sources<'_>,
    request: &Request<'_>,
    verdicts: &mut [Verdict],
    deterministic: bool,
) {
    let key = Key::of(request);
    let lines = || sources.all().filter_map(|(choices, by)| Some((choices.get(&key)?, by)));
    if deterministic {
        let strays = |v: &Verdict| lines().any(|(entry, _)| entry.is_seen_to_stray(v));
        for verdict in verdicts.iter_mut().filter(|v| strays(v)) {
            let reason = "two of its runs gave different bits when it was measured";
            verdict.answer = Err(Declined::because(reason));
        }
    }
    let exact = lines().find(|(entry, _)| verdicts.iter().any(|v| entry.valid(v).is_some()));
    let standing = |v: &Verdict| match (&v.answer, exact) {
        (Err(_), _) => Standing::Out,
        (Ok(_), Some((entry, _))) if entry.valid(v).is_none() && !entry.leaves_open(v) => Standing::Beaten,
        (Ok(_), _) => Standing::InTheRace,
    };
    // Where everybody was measured, nobody needs to know more.
    let open = verdicts.iter().any(|v| exact.is_none_or(|(entry, _)| entry.leaves_open(v)));
    let neighbours = if open { nearest::neighbours(sources, &key, request) } else { Vec::new() };
    for verdict in verdicts.iter_mut() {
        let Ok((_, cost)) = &verdict.answer else { continue };
        let measured = exact.and_then(|(entry, by)| Some((entry.valid(verdict)?, by)));
        verdict.estimate = Some(match measured {
            Some((m, source)) => {
                let [nanoseconds, low, high] = m.ns;
                let spread = if source == ChosenBy::OtherMachine { ELSEWHERE } else { 1.0 };
                let (low, high) = (low / spread, high * spread);
                Estimate { nanoseconds, low, high, source, like: None }
            }
            None => nearest::carry_over(&neighbours, verdict.kernel, cost.nanoseconds),
        });
    }
    // The sort keeps the order of the registry between equals.
    verdicts.sort_by(|a, b| standing(a).cmp(&standing(b)).then(worth(a).total_cmp(&worth(b))));
    prefer_small_scratch(verdicts);
}

/// Who may be chosen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// By its time.
    InTheRace,
    /// It takes the request, but a measurement left it out: too slow, or wrong.
    Beaten,
    /// It declines.
    Out,
}

fn is_measured(verdict: &Verdict) -> bool {
    let source = verdict.estimate.map(|e| e.source);
    matches!(source, Some(ChosenBy::Measured | ChosenBy::Shipped))
}

/// The time that counts. A prediction counts for more than it says, and the more so the less its kernel's are to be trusted: of
/// two candidates the surer one is worth some time, and a measured one is beaten by a clear lead alone.
fn worth(verdict: &Verdict) -> f64 {
    let Some(e) = &verdict.estimate else { return f64::INFINITY };
    let sure = is_measured(verdict) || !e.nanoseconds.is_finite();
    if sure { e.nanoseconds } else { e.nanoseconds * (e.high / e.nanoseconds).powf(CAUTION) }
}

/// Measured ties within the interval of the fastest go to the smaller scratch.
fn prefer_small_scratch(verdicts: &mut [Verdict]) {
    let Some(best) = verdicts.first().filter(|v| is_measured(v)).and_then(|v| v.estimate) else { return };
    let ties = verdicts.iter().take_while(|v| {
        is_measured(v) && v.estimate.is_some_and(|e| e.low <= best.high && e.nanoseconds <= best.high)
    });
    let scratch = |v: &Verdict| v.answer.as_ref().map_or(usize::MAX, |(_, cost)| cost.scratch_bytes);
    let least = ties.enumerate().min_by(|(i, a), (j, b)| match scratch(a).cmp(&scratch(b)) {
        Ordering::Equal => i.cmp(j),
        unequal => unequal,
    });
    if let Some((i, _)) = least {
        verdicts[..=i].rotate_right(1);
    }
}

impl Entry {
    fn of(&self, verdict: &Verdict) -> Option<&Measured> {
        let (variant, _) = verdict.answer.as_ref().ok()?;
        self.measured.iter().find(|m| m.kernel == verdict.kernel.name() && m.variant == variant.name())
    }

    fn valid(&self, verdict: &Verdict) -> Option<&Measured> {
        self.of(verdict).filter(|m| m.is_of(verdict.kernel.revisions()))
    }

    /// Whether the line says nothing of a kernel as it is now: it is newer than the line, declined then, or has another revision of its speed.
    fn leaves_open(&self, verdict: &Verdict) -> bool {
        let name = verdict.kernel.name();
        let listed = self.others.iter().any(|other| other == name);
        verdict.answer.is_ok() && !listed && self.valid(verdict).is_none()
    }

    fn is_seen_to_stray(&self, verdict: &Verdict) -> bool {
        self.valid(verdict).is_some_and(|m| m.deterministic == Some(false))
    }
}
