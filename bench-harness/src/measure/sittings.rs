//! Several sittings of one duel, each with plans and tensors of its own, and what they say together.
//!
//! The rounds of a sitting agree better than they should: they share every page and every alignment. Whether the code is faster
//! or the place where its data lies shows only when all is laid out anew.

use std::time::{Duration, Instant};

use super::duel::SIDES;
use super::sitting::{Series, Sitting, Stopped};
use crate::statistics::{self, FEWEST, Ratio};

/// So many sittings share the time. Many short ones tell more than a few long ones: places differ more than rounds do.
const SHARES: u32 = 48;
/// A shorter one has too few rounds for a ratio of its own where half of them are disturbed.
const SHORTEST: Duration = Duration::from_millis(100);
/// Where time is so short, there are at least so many.
const FEWEST_SHARES: u32 = 8;
/// Rounds get this many times what laying out took.
const ROUNDS_TO_SET_UP: u32 = 3;

/// How it went.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Time of the second relative to the first; none where one of them has no time.
    pub ratio: Option<Ratio>,
    /// Each one's second visits relative to its first ones.
    pub self_ratios: Vec<f64>,
    /// Median time of one run of each.
    pub median_ns: [f64; 2],
    /// Blocks of each that nobody interrupted.
    pub clean_share: [f64; 2],
    /// Sittings …
    pub sittings: usize,
    /// … and their whole rounds.
    pub rounds: usize,
    /// Why they ended.
    pub stopped: Stopped,
}

/// One sitting.
#[derive(Debug)]
pub struct Held {
    /// Of each lane.
    pub series: Vec<Series>,
    /// Why its rounds ended.
    pub stopped: Stopped,
    /// What it took before the rounds.
    pub set_up: Duration,
}

/// Holds sittings until the ratio is known as well as `whole` asks, its time is over, or somebody interrupts. `sit` is told
/// how long and in which order; its error ends it all.
pub fn hold<E>(whole: &Sitting, mut sit: impl FnMut(&Sitting) -> Result<Held, E>) -> Result<Figures, E> {
    let start = Instant::now();
    let mut share = (whole.budget / SHARES).max(SHORTEST.min(whole.budget / FEWEST_SHARES));
    let mut all: Vec<Vec<Series>> = Vec::new();
    loop {
        let seed = whole.seed.wrapping_add((all.len() as u64) << 32);
        let Held { series, stopped, set_up } = sit(&Sitting { budget: share, seed, ..*whole })?;
        all.push(series);
        let ended = |stopped| Ok(figures(&all, stopped, whole.seed));
        if stopped == Stopped::Interrupted {
            return ended(stopped);
        }
        if all.len() >= FEWEST {
            let so_far: Vec<Sides> = all.iter().map(|series| sides(series)).collect();
            if ratio(&so_far, whole.seed).is_some_and(|ratio| whole.is_met_by(&ratio.interval)) {
                return ended(Stopped::Precise);
            }
        }
        share = share.max(set_up * ROUNDS_TO_SET_UP);
        let left = whole.budget.saturating_sub(start.elapsed() + set_up);
        if left.is_zero() || left < share / 2 {
            return ended(Stopped::Budget);
        }
        share = share.min(left);
    }
}

/// The times of one run in the rounds of one sitting, of one lane.
type Lane = Vec<Option<f64>>;
/// The lanes of both sides.
type Sides = [Vec<Lane>; 2];

/// In one sitting dirty blocks count for all lanes or for none.
fn sides(series: &[Series]) -> Sides {
    let all = series.iter().any(Series::uses_dirty);
    [0, 1].map(|side| {
        let own = SIDES.iter().zip(series).filter(|(owner, _)| **owner == side);
        own.map(|(_, series)| series.times_with(all).collect()).collect()
    })
}

/// Time of the second side relative to the first. Where runs are so long that hardly any sitting has a ratio of its own, the
/// rounds of all are taken together: with so few of them in each, rounds are as good as sittings.
fn ratio(sittings: &[Sides], seed: u64) -> Option<Ratio> {
    let one = |sides: &Sides, seed: u64| {
        let [first, second] =
            sides.each_ref().map(|lanes| lanes.iter().map(Vec::as_slice).collect::<Vec<_>>());
        statistics::ratio(&first, &second, seed)
    };
    let numbered = sittings.iter().enumerate();
    let each: Vec<Ratio> = numbered.filter_map(|(i, s)| one(s, seed.wrapping_add(i as u64))).collect();
    statistics::ratio_over_sittings(&each, seed).or_else(|| one(&together(sittings), seed))
}

/// The rounds of all sittings as if they were of one.
fn together(sittings: &[Sides]) -> Sides {
    [0, 1].map(|side| {
        let lanes = sittings.iter().map(|sides| sides[side].len()).min().unwrap_or_default();
        (0..lanes).map(|lane| sittings.iter().flat_map(|s| s[side][lane].iter().copied()).collect()).collect()
    })
}

fn figures(sittings: &[Vec<Series>], stopped: Stopped, seed: u64) -> Figures {
    let all: Vec<Sides> = sittings.iter().map(|series| sides(series)).collect();
    // Of one side, its second lane against its first.
    let own = |side: usize| {
        let lanes =
            |sides: &Sides| Some([vec![sides[side].first()?.clone()], vec![sides[side].get(1)?.clone()]]);
        ratio(&all.iter().filter_map(lanes).collect::<Vec<_>>(), seed)
    };
    let times = |side: usize| -> Vec<f64> {
        all.iter().flat_map(|s| &s[side]).flatten().copied().flatten().collect()
    };
    let clean = |side: usize| {
        let lanes = sittings.iter().flat_map(|series| SIDES.iter().zip(series));
        let own: Vec<f64> =
            lanes.filter(|(owner, _)| **owner == side).map(|(_, series)| series.clean_share()).collect();
        own.iter().sum::<f64>() / own.len().max(1) as f64
    };
    Figures {
        ratio: ratio(&all, seed),
        self_ratios: [0, 1].into_iter().filter_map(|side| Some(own(side)?.interval.estimate)).collect(),
        median_ns: [0, 1].map(|side| statistics::median(&times(side))),
        clean_share: [0, 1].map(clean),
        sittings: sittings.len(),
        rounds: sittings.iter().map(|series| series[0].blocks.len()).sum(),
        stopped,
    }
}

#[cfg(test)]
mod tests {
    use super::super::block::Block;
    use super::*;

    /// Sittings of so many rounds in which the second side takes `factor` times as long, and either side by chance up to 3 % longer,
    /// the same for all rounds of a sitting.
    fn sittings(rounds: usize, factor: f64) -> impl FnMut(&Sitting) -> Result<Held, ()> {
        let mut random = fastrand::Rng::with_seed(7);
        move |sitting| {
            assert_eq!(sitting.precision, 0.005);
            let lane = |side: usize, random: &mut fastrand::Rng| {
                let place = [1.0, factor][side] * (1.0 + 0.03 * random.f64());
                let block = |noise: f64| Block {
                    runs: 1,
                    wall: Duration::from_nanos((1e6 * place * (1.0 + 0.001 * noise)) as u64),
                    ..Block::default()
                };
                Series { blocks: (0..rounds).map(|_| block(random.f64())).collect() }
            };
            let series = SIDES.iter().map(|&side| lane(side, &mut random)).collect();
            Ok(Held { series, stopped: Stopped::Precise, set_up: Duration::ZERO })
        }
    }

    const WHOLE: Sitting = Sitting { budget: Duration::from_secs(3600), precision: 0.005, seed: 1 };

    #[test]
    fn it_sits_until_the_places_have_averaged_out() {
        let f = hold(&WHOLE, sittings(20, 1.0)).unwrap();
        assert_eq!(f.stopped, Stopped::Precise);
        assert!(f.sittings > FEWEST && f.rounds == 20 * f.sittings, "{f:?}");
        let ratio = f.ratio.unwrap().interval;
        assert!(ratio.low < 1.0 && ratio.high > 1.0 && ratio.half_width() <= 0.005, "{ratio:?}");
        assert_eq!((f.self_ratios.len(), f.clean_share), (2, [1.0, 1.0]));
        let slower = hold(&WHOLE, sittings(20, 1.1)).unwrap();
        let ratio = slower.ratio.unwrap().interval;
        assert!(ratio.low < 1.1 && ratio.high > 1.1, "{ratio:?}");
        assert!(slower.median_ns[1] > 1.05 * slower.median_ns[0], "{:?}", slower.median_ns);
    }

    #[test]
    fn sittings_of_single_rounds_count_together() {
        let mut sit = sittings(1, 1.0);
        let mut left = 12;
        let f = hold(&Sitting { precision: 0.005, ..WHOLE }, |sitting| {
            left -= 1;
            let held = sit(sitting)?;
            Ok::<_, ()>(Held { stopped: if left == 0 { Stopped::Interrupted } else { held.stopped }, ..held })
        });
        let f = f.unwrap();
        assert_eq!((f.sittings, f.rounds), (12, 12));
        assert!(f.ratio.is_some());
    }

    #[test]
    fn without_time_there_is_one_sitting_and_an_error_ends_it() {
        let f = hold(&Sitting { budget: Duration::ZERO, ..WHOLE }, sittings(20, 1.0)).unwrap();
        assert_eq!((f.sittings, f.stopped), (1, Stopped::Budget));
        assert_eq!(hold(&WHOLE, |_| Err::<Held, _>("no")).unwrap_err(), "no");
    }
}
