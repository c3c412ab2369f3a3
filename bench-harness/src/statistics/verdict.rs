//! From intervals to words: what counts as a difference, alone and among many.

use std::fmt;

use super::bootstrap::{Interval, NORMAL_95};

/// Bands are never narrower than this: a smaller difference is of no use to anybody.
const SMALLEST_BAND: f64 = 0.01;
/// Nor is anything called the same within a wider band: on such a day nobody knows.
const WIDEST_SAME: f64 = 0.05;
/// The share of false claims among all claims of difference that many comparisons may hold.
const FALSE_DISCOVERIES: f64 = 0.05;

/// How the second of two candidates stands to the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// The whole interval lies below the band.
    Faster,
    /// The whole interval lies above the band.
    Slower,
    /// The whole interval lies inside the band, and the band is narrow.
    Same,
    /// The interval crosses an end of the band: more time, or a quieter machine, may tell.
    Unresolved,
}

impl Verdict {
    /// Whether it claims a difference.
    pub fn is_difference(self) -> bool {
        matches!(self, Self::Faster | Self::Slower)
    }
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
        r if r.low >= low && r.high <= high && band <= WIDEST_SAME => Verdict::Same,
        _ => Verdict::Unresolved,
    }
}

/// Judges many ratios at once: differences that Benjamini and Hochberg's procedure does not confirm stay unresolved.
pub fn verdicts(ratios: &[Interval], noise_floor: f64) -> Vec<Verdict> {
    let chances: Vec<f64> = ratios.iter().map(|r| chance_within(r, band(noise_floor))).collect();
    let confirmed = benjamini_hochberg(&chances, FALSE_DISCOVERIES);
    let judge = |(ratio, confirmed): (&Interval, bool)| match verdict(ratio, noise_floor) {
        claim if claim.is_difference() && !confirmed => Verdict::Unresolved,
        other => other,
    };
    ratios.iter().zip(confirmed).map(judge).collect()
}

/// How likely a ratio so far beyond the band is, if the true one lies at its nearer end: from the normal distribution of
/// logarithms whose 95 % interval this is.
fn chance_within(ratio: &Interval, band: f64) -> f64 {
    let spread = (ratio.high.ln() - ratio.low.ln()) / (2.0 * NORMAL_95);
    let beyond = if ratio.estimate < 1.0 {
        (1.0 - band).ln() - ratio.estimate.ln()
    } else {
        ratio.estimate.ln() - (1.0 + band).ln()
    };
    match beyond / spread {
        z if z.is_nan() => 1.0,
        z => 0.5 * libm::erfc(z / std::f64::consts::SQRT_2),
    }
}

/// Which of these hypotheses may be given up so that at most the share `rate` of those given up was true: all up to the
/// largest p-value that is below its rank times `rate` over their number.
pub fn benjamini_hochberg(p_values: &[f64], rate: f64) -> Vec<bool> {
    let mut sorted = p_values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let bound = |rank: usize| rate * (rank + 1) as f64 / sorted.len() as f64;
    let limit = (0..sorted.len()).rev().find(|&rank| sorted[rank] <= bound(rank)).map(|rank| sorted[rank]);
    p_values.iter().map(|&p| limit.is_some_and(|limit| p <= limit)).collect()
}

/// The noise floor of a run from the ratios of identical code to itself: the root mean square of their distance from 1,
/// 0 of none.
pub fn noise_floor(self_ratios: &[f64]) -> f64 {
    let squares: f64 = self_ratios.iter().map(|r| (r - 1.0).powi(2)).sum();
    if self_ratios.is_empty() { 0.0 } else { (squares / self_ratios.len() as f64).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::super::bootstrap::tests::{ratio_of, rounds};
    use super::*;

    fn interval(low: f64, high: f64) -> Interval {
        Interval { estimate: (low + high) / 2.0, low, high }
    }

    #[test]
    fn identical_code_is_never_faster_and_a_true_difference_is_found() {
        for seed in 0..40 {
            let same = ratio_of(&rounds(200, 1.0, seed), seed).interval;
            assert!(!verdict(&same, 0.002).is_difference(), "seed {seed}: {same:?}");
            let slower = ratio_of(&rounds(200, 1.05, seed), seed).interval;
            assert_eq!(verdict(&slower, 0.002), Verdict::Slower, "seed {seed}: {slower:?}");
            let faster = ratio_of(&rounds(200, 0.95, seed), seed).interval;
            assert_eq!(verdict(&faster, 0.002), Verdict::Faster, "seed {seed}: {faster:?}");
        }
    }

    #[test]
    fn verdicts_follow_the_band() {
        assert_eq!(verdict(&interval(0.95, 0.98), 0.0), Verdict::Faster);
        assert_eq!(verdict(&interval(1.02, 1.04), 0.0), Verdict::Slower);
        assert_eq!(verdict(&interval(0.995, 1.005), 0.0), Verdict::Same);
        assert_eq!(verdict(&interval(0.98, 1.005), 0.0), Verdict::Unresolved);
        // A noisy day widens the band.
        assert_eq!(verdict(&interval(0.95, 0.98), 0.02), Verdict::Unresolved);
        assert_eq!(verdict(&interval(0.97, 1.03), 0.02), Verdict::Same);
        // On a hopeless one nothing is claimed.
        assert_eq!(verdict(&interval(0.97, 1.03), 0.2), Verdict::Unresolved);
        assert_eq!(band(0.0), 0.01);
        assert_eq!(band(0.03), 0.06);
    }

    /// The example of Benjamini and Hochberg (1995), section 3.2: 4 of 15 are given up at 0.05.
    #[test]
    fn the_published_example_of_false_discovery_rates() {
        let p = [
            0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719,
            0.6528, 0.7590, 1.0,
        ];
        assert_eq!(benjamini_hochberg(&p, 0.05).iter().filter(|&&given_up| given_up).count(), 4);
        assert_eq!(benjamini_hochberg(&[], 0.05), [false; 0]);
        // The order does not matter.
        assert_eq!(benjamini_hochberg(&[0.9, 0.001], 0.05), [false, true]);
    }

    #[test]
    fn chances_are_those_of_a_normal_distribution() {
        // The lower end of the interval touches the band: 1.96 standard deviations.
        let touching = Interval { estimate: 1.05, low: 1.01, high: 1.05 * 1.05 / 1.01 };
        assert!((chance_within(&touching, 0.01) - 0.025).abs() < 1e-6);
        assert_eq!(chance_within(&interval(1.0, 1.0), 0.01), 1.0);
        assert_eq!(chance_within(&interval(1.5, 1.5), 0.01), 0.0);
    }

    #[test]
    fn one_weak_claim_among_many_is_not_enough() {
        let weak = Interval { estimate: 1.04, low: 1.0105, high: 1.0704 };
        assert_eq!(verdicts(&[weak], 0.0), [Verdict::Slower]);
        // Among thirty that are the same it may be chance; beside thirty clear ones it is believed.
        let beside = |other| verdicts(&[&[weak][..], &[other; 30]].concat(), 0.0)[0];
        assert_eq!(beside(interval(0.995, 1.005)), Verdict::Unresolved);
        assert_eq!(beside(interval(1.2, 1.21)), Verdict::Slower);
    }

    #[test]
    fn the_noise_floor_is_a_root_mean_square() {
        assert_eq!(noise_floor(&[]), 0.0);
        assert!((noise_floor(&[1.03, 0.96]) - 0.035_355).abs() < 1e-5);
    }
}
