//! Intervals of ratios, by resampling whole rounds.

use super::quantile_of_sorted;

/// Resamples behind a confidence interval.
const RESAMPLES: usize = 1000;
/// Fewer rounds than these have no spread to speak of: even the range of five misses the median once in sixteen times. So it is
/// with sittings.
pub const FEWEST: usize = 5;
/// Confidence of every interval.
pub const CONFIDENCE: f64 = 0.95;
/// Standard deviations from the middle of a normal distribution to the ends of its 95 % interval.
pub(super) const NORMAL_95: f64 = 1.959_964;

/// The time of one candidate in each round; nothing where the block does not count.
pub type Times<'a> = &'a [Option<f64>];

/// An estimate with its confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// From all the data.
    pub estimate: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Half its width, relative to the estimate.
    pub fn half_width(&self) -> f64 {
        (self.high - self.low) / 2.0 / self.estimate
    }

    /// As results record it.
    pub fn to_array(self) -> [f64; 3] {
        [self.estimate, self.low, self.high]
    }

    /// From the resamples of so many observations.
    fn of_resamples(estimate: f64, resamples: &[f64], observations: usize) -> Self {
        let mut sorted = resamples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let tail = tail(observations);
        let (low, high) = (quantile_of_sorted(&sorted, tail), quantile_of_sorted(&sorted, 1.0 - tail));
        Self { estimate, low, high }
    }
}

/// The part of the resamples that lies beyond each end of an interval.
///
/// Resamples of few observations scatter too little: for a mean of n, by √((n − 1)/n), and like a normal distribution where
/// Student's is right. The interval is widened by both (Hesterberg, 2015: the expanded percentile interval); with many
/// observations this is the plain percentile.
fn tail(observations: usize) -> f64 {
    let Some(freedom) = observations.checked_sub(1).filter(|&f| f > 0) else { return 0.0 };
    let (z, f) = (NORMAL_95, freedom as f64);
    // Student's quantile by the expansion of Cornish and Fisher.
    let t = z
        + (z.powi(3) + z) / (4.0 * f)
        + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * f * f)
        + (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / (384.0 * f.powi(3));
    let n = observations as f64;
    0.5 * libm::erfc(t * (n / (n - 1.0)).sqrt() / std::f64::consts::SQRT_2)
}

/// A ratio of times, and what it would have been had other rounds of the same kind been measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Ratio {
    /// The ratio, with its 95 % interval by the percentile bootstrap.
    pub interval: Interval,
    /// Every resample, in the order in which it was drawn.
    resamples: Vec<f64>,
}

/// The ratio second ÷ first of the lower quartiles. Each candidate may have several lanes: it was visited so often in each
/// round, and all its times count alike.
///
/// Whole rounds are drawn: what disturbed both candidates of a round stays together. `None`: hardly any times of one of them.
pub fn ratio(first: &[Times<'_>], second: &[Times<'_>], seed: u64) -> Option<Ratio> {
    let rounds = first.iter().chain(second).map(|lane| lane.len()).max()?;
    let observed = |lanes: &[Times<'_>]| {
        (0..rounds)
            .filter(|&round| lanes.iter().any(|lane| lane.get(round).is_some_and(Option::is_some)))
            .count()
    };
    let observations = observed(first).min(observed(second));
    if observations < FEWEST {
        return None;
    }
    let mut columns = Columns::default();
    let estimate = columns.ratio(first, second, 0..rounds)?;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut drawn = vec![0; rounds];
    let mut resamples = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        drawn.fill_with(|| random.usize(..rounds));
        // A draw that misses one candidate altogether says nothing.
        resamples.extend(columns.ratio(first, second, drawn.iter().copied()));
    }
    Some(Ratio { interval: Interval::of_resamples(estimate, &resamples, observations), resamples })
}

/// The geometric mean over workloads, by a bootstrap of two levels: workloads are drawn, and of each one a resample of its
/// rounds. The interval holds for layers like these. `None` of none.
pub fn geometric_mean_ratio(workloads: &[&Ratio], seed: u64) -> Option<Interval> {
    of_two_levels(workloads, seed).map(|mean| mean.interval)
}

/// One ratio from those of several sittings, likewise: what differs from one sitting to the next, such as where things lie
/// in memory, widens its interval. `None`: too few sittings to tell.
pub fn ratio_over_sittings(sittings: &[Ratio], seed: u64) -> Option<Ratio> {
    of_two_levels(&sittings.iter().collect::<Vec<_>>(), seed).filter(|_| sittings.len() >= FEWEST)
}

fn of_two_levels(groups: &[&Ratio], seed: u64) -> Option<Ratio> {
    let mean = |logarithms: f64| (logarithms / groups.len() as f64).exp();
    match groups {
        [] => return None,
        [only] => return Some((*only).clone()),
        _ => {}
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let resamples: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let one = |_| {
                let resamples = &groups[random.usize(..groups.len())].resamples;
                resamples[random.usize(..resamples.len())].ln()
            };
            mean((0..groups.len()).map(one).sum())
        })
        .collect();
    let estimate = mean(groups.iter().map(|group| group.interval.estimate.ln()).sum());
    Some(Ratio { interval: Interval::of_resamples(estimate, &resamples, groups.len()), resamples })
}

/// Room for the two columns of a resample, reused.
#[derive(Default)]
struct Columns {
    first: Vec<f64>,
    second: Vec<f64>,
}

impl Columns {
    fn ratio(
        &mut self,
        first: &[Times<'_>],
        second: &[Times<'_>],
        rounds: impl Iterator<Item = usize>,
    ) -> Option<f64> {
        let times = |lanes: &[Times<'_>], round: usize, column: &mut Vec<f64>| {
            lanes.iter().for_each(|lane| column.extend(lane.get(round).copied().flatten()));
        };
        self.first.clear();
        self.second.clear();
        for round in rounds {
            times(first, round, &mut self.first);
            times(second, round, &mut self.second);
        }
        if self.first.is_empty() || self.second.is_empty() {
            return None;
        }
        Some(quartile_in_place(&mut self.second) / quartile_in_place(&mut self.first))
    }
}

/// The lower quartile by selection: resampling sorts nothing.
fn quartile_in_place(values: &mut [f64]) -> f64 {
    let position = 0.25 * (values.len() - 1) as f64;
    let at = position.floor() as usize;
    let (_, &mut below, rest) = values.select_nth_unstable_by(at, f64::total_cmp);
    let above = rest.iter().copied().min_by(f64::total_cmp).unwrap_or(below);
    below + (position - at as f64) * (above - below)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::lower_quartile;
    use super::*;

    /// The tails that belong to Student's quantiles 2.365, 2.093 and 1.984 (7, 19 and 99 degrees of freedom).
    #[test]
    fn few_observations_widen_the_interval() {
        for (n, tail_of_table) in [(8, 0.005_73), (20, 0.015_88), (100, 0.023_07)] {
            assert!((tail(n) - tail_of_table).abs() < 2e-4, "{n}: {}", tail(n));
        }
        assert!((tail(1_000_000) - 0.025).abs() < 1e-6);
        assert_eq!((tail(0), tail(1)), (0.0, 0.0));
        assert!(tail(2) < 1e-6);
    }

    /// Of identical code: how often the interval of a few rounds misses 1.
    #[test]
    fn intervals_of_few_rounds_hold_what_they_promise() {
        for count in [10, 20, 40] {
            let missed = (0..400).filter(|&seed| {
                let Interval { low, high, .. } = ratio_of(&rounds(count, 1.0, seed), seed).interval;
                low > 1.0 || high < 1.0
            });
            let missed = missed.count();
            assert!(missed <= 32, "{missed} of 400 intervals of {count} rounds miss");
        }
    }

    /// Identical code that lies better or worse in memory, anew in each sitting: rounds of one sitting never show that.
    #[test]
    fn what_differs_between_sittings_is_in_the_interval() {
        let misses = |Interval { low, high, .. }: Interval| low > 1.0 || high < 1.0;
        let (mut single, mut several) = (0, 0);
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let sittings: Vec<Ratio> = (0..8)
                .map(|i| {
                    let places = 1.0 + 0.03 * (random.f64() - 0.5);
                    ratio_of(&rounds(40, places, 1000 * seed + i), i)
                })
                .collect();
            single += usize::from(misses(sittings[0].interval));
            several += usize::from(misses(ratio_over_sittings(&sittings, seed).unwrap().interval));
        }
        assert!(single > 60, "{single} of 200 single sittings mislead");
        assert!(several <= 20, "{several} of 200 intervals miss");
    }

    #[test]
    fn few_sittings_tell_nothing() {
        let sittings: Vec<Ratio> = (0..5).map(|seed| ratio_of(&rounds(40, 1.0, seed), seed)).collect();
        assert!(ratio_over_sittings(&sittings, 1).is_some());
        assert_eq!(ratio_over_sittings(&sittings[1..], 1), None);
    }

    #[test]
    fn selection_agrees_with_sorting() {
        let mut random = fastrand::Rng::with_seed(1);
        for len in 1..40 {
            let values: Vec<f64> = (0..len).map(|_| random.f64()).collect();
            assert_eq!(quartile_in_place(&mut values.clone()), lower_quartile(&values), "{len}");
        }
    }

    /// Noise common to a round, own noise, and now and then an outlier, as on a shared machine.
    pub fn rounds(count: usize, factor: f64, seed: u64) -> [Vec<Option<f64>>; 2] {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut block = |common: f64| {
            let outlier = if random.f64() < 0.15 { 1.0 + random.f64() } else { 1.0 };
            let time = common * (1.0 + 0.01 * random.f64()) * outlier;
            (random.f64() > 0.1).then_some(time)
        };
        let mut common = fastrand::Rng::with_seed(!seed);
        let pairs = (0..count).map(|_| {
            let common = 1000.0 * (1.0 + 0.05 * common.f64());
            (block(common), block(common).map(|t| t * factor))
        });
        let (first, second) = pairs.unzip();
        [first, second]
    }

    pub fn ratio_of([first, second]: &[Vec<Option<f64>>; 2], seed: u64) -> Ratio {
        ratio(&[first], &[second], seed).expect("both have times")
    }

    #[test]
    fn ratios_are_deterministic_and_the_seed_matters() {
        let data = rounds(60, 1.0, 5);
        assert_eq!(ratio_of(&data, 1), ratio_of(&data, 1));
        assert_ne!(ratio_of(&data, 1), ratio_of(&data, 2));
        let Interval { estimate, low, high } = ratio_of(&data, 1).interval;
        assert!(low <= estimate && estimate <= high);
    }

    #[test]
    fn lanes_of_a_candidate_count_together() {
        let some = |times: &[f64]| times.iter().map(|&t| Some(t)).collect::<Vec<_>>();
        let (a, b) = (some(&[1.0, 3.0, 5.0, 7.0, 9.0]), some(&[2.0, 4.0, 6.0, 8.0, 10.0]));
        let ratio = ratio(&[&a, &b], &[&some(&[7.0; 5])], 1).unwrap();
        assert_eq!(ratio.interval.estimate, 7.0 / 3.25);
    }

    #[test]
    fn two_lanes_narrow_the_interval() {
        let [[a, b], [c, d]] = [rounds(100, 1.0, 3), rounds(100, 1.0, 4)];
        let one = ratio(&[&a], &[&b], 1).unwrap().interval;
        let two = ratio(&[&a, &c], &[&b, &d], 1).unwrap().interval;
        assert!(two.half_width() < one.half_width(), "{one:?} {two:?}");
    }

    #[test]
    fn without_times_there_is_no_ratio() {
        let five = [Some(1.0); 5];
        assert_eq!(ratio(&[], &[], 1), None);
        assert_eq!(ratio(&[&five], &[&[None; 5]], 1), None);
        assert!(ratio(&[&five], &[&five], 1).is_some());
        assert_eq!(ratio(&[&five], &[&five[1..]], 1), None);
        assert_eq!(geometric_mean_ratio(&[], 1), None);
    }

    #[test]
    fn means_over_workloads_have_intervals_of_both_levels() {
        let factors = [0.8, 1.0, 1.25];
        let ratios: Vec<Ratio> =
            factors.iter().zip(1..).map(|(&f, seed)| ratio_of(&rounds(60, f, seed), 1)).collect();
        let mean = geometric_mean_ratio(&ratios.iter().collect::<Vec<_>>(), 1).unwrap();
        assert!((mean.estimate - 1.0).abs() < 0.01, "{mean:?}");
        // The layers differ by far more than the rounds of each one.
        assert!(mean.half_width() > 5.0 * ratios[0].interval.half_width(), "{mean:?}");
        assert_eq!(geometric_mean_ratio(&[&ratios[0]], 1), Some(ratios[0].interval));
    }
}
