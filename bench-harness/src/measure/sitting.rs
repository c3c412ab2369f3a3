//! All contenders of one workload in one sitting: every round visits them in a fresh random order.

use std::time::{Duration, Instant};

use super::block::Block;
use super::budget::{self, TRUSTED_ROUNDS};
use super::contender::Contender;
use super::pulse::{self, Pulse};
use crate::statistics::{self, Interval};

/// With fewer clean blocks than this share, all blocks are used instead, and that is said.
const FEWEST_CLEAN: f64 = 0.3;

/// How long, how exact, and in which order.
#[derive(Debug, Clone, Copy)]
pub struct Sitting {
    /// Rounds end before this time is over (the first one always takes place).
    pub budget: Duration,
    /// They also end when every ratio to the first contender is known to this relative half width, or to a twentieth of
    /// its distance from 1: how much slower the slowest are is nobody's question.
    pub precision: f64,
    /// Of the visiting orders and the bootstrap.
    pub seed: u64,
}

/// Why the rounds ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stopped {
    /// Every ratio is known well enough.
    Precise,
    /// The time was over.
    Budget,
    /// Somebody asked for it.
    Interrupted,
    /// The slow contender was only run once, when it was checked.
    Once,
}

/// The blocks of one contender, in the order of the rounds.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// One of each round.
    pub blocks: Vec<Block>,
}

impl Series {
    /// The share of blocks that nobody interrupted, or shared the core with.
    pub fn clean_share(&self) -> f64 {
        let clean = self.blocks.iter().filter(|b| b.is_clean()).count();
        clean as f64 / self.blocks.len().max(1) as f64
    }

    /// Whether dirty blocks had to be used.
    pub fn uses_dirty(&self) -> bool {
        self.clean_share() < FEWEST_CLEAN
    }

    /// The time of one run in each round; `None` where the block does not count.
    pub fn times(&self) -> impl Iterator<Item = Option<f64>> + '_ {
        self.times_with(self.uses_dirty())
    }

    /// Likewise; dirty blocks count where `all` do.
    pub fn times_with(&self, all: bool) -> impl Iterator<Item = Option<f64>> + '_ {
        self.blocks.iter().map(move |b| (all || b.is_clean()).then(|| b.ns_per_run()))
    }

    /// The quantile `p` of the times of one run, in nanoseconds.
    pub fn quantile(&self, p: f64) -> f64 {
        statistics::quantile(&self.times().flatten().collect::<Vec<_>>(), p)
    }

    /// Runs in all blocks.
    pub fn runs(&self) -> u64 {
        self.blocks.iter().map(|b| u64::from(b.runs)).sum()
    }

    /// The ratio of times of `other` to this one. `None`: one of them has no time.
    pub fn ratio_of(&self, other: &Self, seed: u64) -> Option<Interval> {
        let (own, others): (Vec<_>, Vec<_>) = (self.times().collect(), other.times().collect());
        Some(statistics::ratio(&[&own], &[&others], seed)?.interval)
    }
}

impl Sitting {
    /// Visits `contenders` until precise, out of budget, or `interrupted`. `firsts`: about how long one run of each
    /// takes. Returns a series for each: empty for one that failed.
    pub fn hold(
        &self,
        contenders: &mut [&mut dyn Contender],
        firsts: &[Duration],
        interrupted: &dyn Fn() -> bool,
    ) -> (Vec<Series>, Stopped) {
        let pulse = Pulse::of_this_core();
        self.hold_beside(contenders, firsts, interrupted, &|| pulse.beat())
    }

    /// The same, with the beats from elsewhere.
    fn hold_beside(
        &self,
        contenders: &mut [&mut dyn Contender],
        firsts: &[Duration],
        interrupted: &dyn Fn() -> bool,
        beat: &dyn Fn() -> Duration,
    ) -> (Vec<Series>, Stopped) {
        assert_eq!(contenders.len(), firsts.len(), "a time for each contender");
        let start = Instant::now();
        let mut random = fastrand::Rng::with_seed(self.seed);
        let mut series = vec![Series::default(); contenders.len()];
        let mut order: Vec<usize> = (0..contenders.len()).collect();
        let runs: Vec<u32> =
            contenders.iter_mut().zip(firsts).map(|(c, &first)| runs_per_block(*c, first)).collect();
        let crowded = contenders.iter().any(|c| !c.shares_buffers());
        let mut next_look = TRUSTED_ROUNDS;
        let mut round = 0;
        loop {
            let begun = Instant::now();
            random.shuffle(&mut order);
            for &i in &order {
                if interrupted() {
                    // Rounds stay whole.
                    series.iter_mut().for_each(|s| s.blocks.truncate(round as usize));
                    mark_shared(&mut series);
                    return (series, Stopped::Interrupted);
                }
                let before = beat();
                let block = visit(contenders[i], runs[i], crowded);
                series[i].blocks.push(Block { beat: before.max(beat()), ..block });
            }
            round += 1;
            order.retain(|&i| {
                let fit = contenders[i].failure().is_none();
                if !fit {
                    series[i].blocks.clear();
                }
                fit
            });
            if start.elapsed() + begun.elapsed() > self.budget {
                mark_shared(&mut series);
                return (series, Stopped::Budget);
            }
            if round >= next_look {
                mark_shared(&mut series);
                if self.is_precise(&series) {
                    return (series, Stopped::Precise);
                }
                // Each look costs a bootstrap: look less and less often.
                next_look = round + round.div_ceil(4);
            }
        }
    }

    fn is_precise(&self, series: &[Series]) -> bool {
        let Some((first, others)) = series.split_first() else { return true };
        // Who failed has no blocks, and is not waited for.
        let mut others = others.iter().filter(|other| !other.blocks.is_empty());
        others.all(|other| first.ratio_of(other, self.seed).is_some_and(|ratio| self.is_met_by(&ratio)))
    }

    /// Whether a ratio is known well enough.
    pub fn is_met_by(&self, ratio: &Interval) -> bool {
        ratio.half_width() <= self.precision.max((ratio.estimate - 1.0).abs() / 20.0)
    }
}

/// Tells the blocks beside which the core was slow: slower than at its quickest in this sitting.
fn mark_shared(series: &mut [Series]) {
    let beats: Vec<Duration> = series.iter().flat_map(|s| &s.blocks).map(|block| block.beat).collect();
    let blocks = series.iter_mut().flat_map(|s| &mut s.blocks);
    for (block, slow) in blocks.zip(pulse::are_slow(&beats)) {
        block.shared = slow;
    }
}

/// Warms the caches, which another contender has just used, then times a block. `crowded`: even a long run does not find
/// its tensors there, since not all contenders share them.
fn visit(contender: &mut dyn Contender, runs: u32, crowded: bool) -> Block {
    if contender.is_cold() {
        return contender.run(runs);
    }
    if runs > 1 {
        contender.run(1);
        return contender.run(runs);
    }
    let block = contender.run(1);
    // A run of a few milliseconds may still find the caches as the last contender left them.
    if crowded || block.wall < budget::WARMED { contender.run(1) } else { block }
}

/// From a first guess, which holds cold caches and page faults, to the number of runs that fill a block.
fn runs_per_block(contender: &mut dyn Contender, first: Duration) -> u32 {
    if contender.is_cold() {
        return 1;
    }
    let mut runs = budget::runs_per_block(first);
    for _ in 0..4 {
        if runs == 1 && first > budget::WARMED {
            break;
        }
        let block = contender.run(runs);
        if block.wall >= budget::BLOCK / 2 {
            break;
        }
        runs = budget::runs_per_block(block.wall / block.runs.max(1)).max(runs);
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with invented times; every second block is interrupted where `dirty`.
    struct Invented {
        ns: u64,
        blocks: u64,
        dirty: bool,
    }

    impl Contender for Invented {
        fn name(&self) -> &str {
            "invented"
        }
        fn run(&mut self, k: u32) -> Block {
            self.blocks += 1;
            let interrupted = self.dirty && self.blocks.is_multiple_of(2);
            let ns = u64::from(k) * self.ns * if interrupted { 3 } else { 1 } + self.blocks % 3;
            Block {
                runs: k,
                wall: Duration::from_nanos(ns),
                switches: u64::from(interrupted),
                ..Block::default()
            }
        }
    }

    const SITTING: Sitting = Sitting { budget: Duration::from_secs(60), precision: 0.005, seed: 1 };

    fn invented(ns: u64, dirty: bool) -> Invented {
        Invented { ns, blocks: 0, dirty }
    }

    fn hold(sitting: Sitting, all: &mut [Invented], stop: &dyn Fn() -> bool) -> (Vec<Series>, Stopped) {
        hold_beside(sitting, all, stop, &|| Duration::from_nanos(100))
    }

    fn hold_beside(
        sitting: Sitting,
        all: &mut [Invented],
        stop: &dyn Fn() -> bool,
        beat: &dyn Fn() -> Duration,
    ) -> (Vec<Series>, Stopped) {
        let firsts: Vec<_> = all.iter().map(|c| Duration::from_nanos(c.ns)).collect();
        let mut contenders: Vec<&mut dyn Contender> = all.iter_mut().map(|c| c as _).collect();
        sitting.hold_beside(&mut contenders, &firsts, stop, beat)
    }

    #[test]
    fn it_stops_when_precise_and_finds_the_ratio() {
        let mut all = [invented(10_000, false), invented(12_000, true), invented(9_000_000, false)];
        let (series, stopped) = hold(SITTING, &mut all, &|| false);
        assert_eq!(stopped, Stopped::Precise);
        assert!(series.iter().all(|s| s.blocks.len() == series[0].blocks.len()));
        assert!(series[0].blocks.len() >= TRUSTED_ROUNDS as usize);
        assert_eq!(series[0].blocks[0].runs, 250);
        assert_eq!(series[2].blocks[0].runs, 1);
        let ratio = series[0].ratio_of(&series[1], 1).unwrap();
        assert!((ratio.estimate - 1.2).abs() < 1e-3, "{ratio:?}");
        assert_eq!(series[0].clean_share(), 1.0);
    }

    #[test]
    fn dirty_blocks_do_not_count_unless_nearly_all_are() {
        let clean = Block { runs: 1, wall: Duration::from_nanos(100), ..Block::default() };
        let dirty = Block { switches: 2, wall: Duration::from_nanos(900), ..clean };
        let few = Series { blocks: vec![clean, dirty, clean] };
        assert_eq!((few.quantile(0.5), few.uses_dirty()), (100.0, false));
        let most = Series { blocks: vec![dirty, dirty, dirty, clean] };
        assert_eq!((most.quantile(0.5), most.uses_dirty(), most.clean_share()), (900.0, true, 0.25));
    }

    #[test]
    fn blocks_beside_slow_beats_do_not_count() {
        // Every third beat is slow: that before a block, that after it, or neither.
        let beats = std::cell::Cell::new(0u64);
        let beat = || {
            beats.set(beats.get() + 1);
            Duration::from_nanos(if beats.get().is_multiple_of(3) { 180 } else { 100 })
        };
        let (series, _) = hold_beside(SITTING, &mut [invented(10_000, false)], &|| false, &beat);
        let clean: Vec<bool> = series[0].blocks.iter().map(Block::is_clean).collect();
        assert!(
            clean.len() >= 6 && clean.iter().zip([true, false, false].iter().cycle()).all(|(a, b)| a == b)
        );
        assert!(!series[0].uses_dirty());
    }

    #[test]
    fn a_budget_of_nothing_gives_one_round() {
        let sitting = Sitting { budget: Duration::ZERO, ..SITTING };
        let (series, stopped) = hold(sitting, &mut [invented(1000, false), invented(1, false)], &|| false);
        assert_eq!((stopped, series[0].blocks.len(), series[1].blocks.len()), (Stopped::Budget, 1, 1));
    }

    #[test]
    fn an_interruption_keeps_whole_rounds() {
        let asked = std::cell::Cell::new(0);
        let stop = || {
            asked.set(asked.get() + 1);
            asked.get() > 6
        };
        let sitting = Sitting { precision: 0.0, ..SITTING };
        let (series, stopped) =
            hold(sitting, &mut [invented(1000, false), invented(2000, false), invented(30, false)], &stop);
        assert_eq!(stopped, Stopped::Interrupted);
        assert!(series.iter().all(|s| s.blocks.len() == 2));
    }

    #[test]
    fn the_seed_decides_the_order() {
        // Visits are not recorded, but the calls of each contender before a stop are.
        let visits = |seed| {
            let asked = std::cell::Cell::new(0);
            let stop = || {
                asked.set(asked.get() + 1);
                asked.get() > 10
            };
            let mut all = [9_000_000, 8_000_000, 7_000_000, 6_000_000].map(|ns| invented(ns, false));
            hold(Sitting { seed, precision: 0.0, ..SITTING }, &mut all, &stop);
            all.map(|c| c.blocks)
        };
        assert_eq!(visits(3), visits(3));
        assert!((0..20).any(|seed| visits(seed) != visits(3)));
    }
}
