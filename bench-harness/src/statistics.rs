//! Quantiles, confidence intervals of ratios, verdicts. Everything here is a pure function of its arguments.

use std::fmt;

/// Bands are never narrower than this: a smaller difference is of no use to anybody.
const SMALLEST_BAND: f64 = 0.01;
/// Resamples behind a confidence interval.
const RESAMPLES: usize = 1000;
/// Confidence of every interval.
pub const CONFIDENCE: f64 = 0.95;

/// The quantile `p` in 0..=1 of sorted values, interpolated between neighbours (Hyndman and Fan's type 7); NaN of none.
pub fn quantile_of_sorted(sorted: &[f64], p: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let position = p.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (position - below as f64) * (sorted[above] - sorted[below])
}

/// The quantile `p` of values in any order; NaN of none.
pub fn quantile(values: &[f64], p: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile_of_sorted(&sorted, p)
}

/// What headline figures are made from.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// What comparisons are made from: on a busy machine it scatters least of all estimators.
pub fn lower_quartile(values: &[f64]) -> f64 {
    quantile(values, 0.25)
}

/// The geometric mean of positive values; NaN of none.
pub fn geometric_mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0);
    for value in values {
        sum += value.ln();
        count += 1;
    }
    if count == 0 { f64::NAN } else { (sum / f64::from(count)).exp() }
}

/// One round of two candidates: the time of each, or nothing where the block was dirty.
pub type Pair = (Option<f64>, Option<f64>);

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
}

/// The ratio second ÷ first of the lower quartiles over rounds, with its 95 % interval by the percentile bootstrap.
///
/// Whole rounds are drawn: what disturbed both candidates of a round stays together. `None`: no time of one of them.
pub fn ratio(rounds: &[Pair], seed: u64) -> Option<Interval> {
    let everything = 0..rounds.len();
    let mut columns = Columns::default();
    let estimate = columns.ratio(everything.map(|i| rounds[i]))?;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut ratios = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        let drawn = (0..rounds.len()).map(|_| rounds[random.usize(..rounds.len())]);
        // A draw that misses one candidate altogether says nothing.
        ratios.extend(columns.ratio(drawn));
    }
    ratios.sort_by(f64::total_cmp);
    let tail = (1.0 - CONFIDENCE) / 2.0;
    Some(Interval {
        estimate,
        low: quantile_of_sorted(&ratios, tail),
        high: quantile_of_sorted(&ratios, 1.0 - tail),
    })
}

/// Room for the two columns of a resample, reused.
#[derive(Default)]
struct Columns {
    first: Vec<f64>,
    second: Vec<f64>,
}

impl Columns {
    fn ratio(&mut self, rounds: impl Iterator<Item = Pair>) -> Option<f64> {
        self.first.clear();
        self.second.clear();
        for (first, second) in rounds {
            self.first.extend(first);
            self.second.extend(second);
        }
        if self.first.is_empty() || self.second.is_empty() {
            return None;
        }
        Some(quartile_in_place(&mut self.second) / quartile_in_place(&mut self.first))
    }
}

/// [`lower_quartile`] by selection: resampling sorts nothing.
fn quartile_in_place(values: &mut [f64]) -> f64 {
    let position = 0.25 * (values.len() - 1) as f64;
    let at = position.floor() as usize;
    let (_, &mut below, rest) = values.select_nth_unstable_by(at, f64::total_cmp);
    let above = rest.iter().copied().min_by(f64::total_cmp).unwrap_or(below);
    below + (position - at as f64) * (above - below)
}

/// How the second of two candidates stands to the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The whole interval lies below the band.
    Faster,
    /// The whole interval lies above the band.
    Slower,
    /// The whole interval lies inside the band.
    Same,
    /// The interval crosses an end of the band: more time, or a quieter machine, may tell.
    Unresolved,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Faster => "FASTER",
            Self::Slower => "SLOWER",
            Self::Same => "SAME",
            Self::Unresolved => "UNRESOLVED",
        })
    }
}

/// The half width around 1 that counts as no difference: 1 %, or twice the noise floor where that is more.
pub fn band(noise_floor: f64) -> f64 {
    SMALLEST_BAND.max(2.0 * noise_floor)
}

/// Judges a ratio of times second ÷ first against [`band`].
pub fn verdict(ratio: &Interval, noise_floor: f64) -> Verdict {
    let band = band(noise_floor);
    let (low, high) = (1.0 - band, 1.0 + band);
    match ratio {
        r if r.high < low => Verdict::Faster,
        r if r.low > high => Verdict::Slower,
        r if r.low >= low && r.high <= high => Verdict::Same,
        _ => Verdict::Unresolved,
    }
}

/// The noise floor of a run from the ratios of identical code to itself: the root mean square of their distance from 1,
/// 0 of none.
pub fn noise_floor(self_ratios: &[f64]) -> f64 {
    let squares: f64 = self_ratios.iter().map(|r| (r - 1.0).powi(2)).sum();
    if self_ratios.is_empty() { 0.0 } else { (squares / self_ratios.len() as f64).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate() {
        let values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(quantile(&values, 0.0), 1.0);
        assert_eq!(lower_quartile(&values), 1.75);
        assert_eq!(median(&values), 2.5);
        assert_eq!(quantile(&values, 1.0), 4.0);
        assert_eq!(median(&[7.0]), 7.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn selection_agrees_with_sorting() {
        let mut random = fastrand::Rng::with_seed(1);
        for len in 1..40 {
            let values: Vec<f64> = (0..len).map(|_| random.f64()).collect();
            assert_eq!(quartile_in_place(&mut values.clone()), lower_quartile(&values), "{len}");
        }
    }

    #[test]
    fn geometric_means() {
        assert!((geometric_mean([1.0, 4.0, 16.0]) - 4.0).abs() < 1e-12);
        assert!(geometric_mean([]).is_nan());
    }

    /// Noise common to a round, own noise, and now and then an outlier, as on a shared machine.
    fn rounds(count: usize, factor: f64, seed: u64) -> Vec<Pair> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut block = |common: f64| {
            let outlier = if random.f64() < 0.15 { 1.0 + random.f64() } else { 1.0 };
            let time = common * (1.0 + 0.01 * random.f64()) * outlier;
            (random.f64() > 0.1).then_some(time)
        };
        let mut common = fastrand::Rng::with_seed(!seed);
        (0..count)
            .map(|_| {
                let common = 1000.0 * (1.0 + 0.05 * common.f64());
                (block(common), block(common).map(|t| t * factor))
            })
            .collect()
    }

    #[test]
    fn ratios_are_deterministic_and_the_seed_matters() {
        let data = rounds(60, 1.0, 5);
        assert_eq!(ratio(&data, 1), ratio(&data, 1));
        assert_ne!(ratio(&data, 1), ratio(&data, 2));
        let interval = ratio(&data, 1).unwrap();
        assert!(interval.low <= interval.estimate && interval.estimate <= interval.high);
    }

    #[test]
    fn identical_code_is_never_faster_and_a_true_difference_is_found() {
        for seed in 0..40 {
            let same = ratio(&rounds(200, 1.0, seed), seed).unwrap();
            assert!(
                matches!(verdict(&same, 0.002), Verdict::Same | Verdict::Unresolved),
                "seed {seed}: {same:?}"
            );
            let slower = ratio(&rounds(200, 1.05, seed), seed).unwrap();
            assert_eq!(verdict(&slower, 0.002), Verdict::Slower, "seed {seed}: {slower:?}");
            let faster = ratio(&rounds(200, 0.95, seed), seed).unwrap();
            assert_eq!(verdict(&faster, 0.002), Verdict::Faster, "seed {seed}: {faster:?}");
        }
    }

    #[test]
    fn without_clean_blocks_there_is_no_ratio() {
        assert_eq!(ratio(&[], 1), None);
        assert_eq!(ratio(&[(Some(1.0), None), (Some(2.0), None)], 1), None);
    }

    #[test]
    fn verdicts_follow_the_band() {
        let interval = |low, high| Interval { estimate: (low + high) / 2.0, low, high };
        assert_eq!(verdict(&interval(0.95, 0.98), 0.0), Verdict::Faster);
        assert_eq!(verdict(&interval(1.02, 1.04), 0.0), Verdict::Slower);
        assert_eq!(verdict(&interval(0.995, 1.005), 0.0), Verdict::Same);
        assert_eq!(verdict(&interval(0.98, 1.005), 0.0), Verdict::Unresolved);
        // A noisy day widens the band.
        assert_eq!(verdict(&interval(0.95, 0.98), 0.02), Verdict::Unresolved);
        assert_eq!(verdict(&interval(0.97, 1.03), 0.02), Verdict::Same);
        assert_eq!(band(0.0), 0.01);
        assert_eq!(band(0.03), 0.06);
    }

    #[test]
    fn the_noise_floor_is_a_root_mean_square() {
        assert_eq!(noise_floor(&[]), 0.0);
        assert!((noise_floor(&[1.03, 0.96]) - 0.035_355).abs() < 1e-5);
    }
}
