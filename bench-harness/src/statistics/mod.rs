//! Quantiles, confidence intervals of ratios, verdicts. Everything here is a pure function of its arguments.

mod bootstrap;
mod verdict;

pub use bootstrap::{
    CONFIDENCE, FEWEST, Interval, Ratio, Times, geometric_mean_ratio, ratio, ratio_over_sittings,
};
pub use verdict::{Verdict, band, benjamini_hochberg, noise_floor, verdict, verdicts};

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
    fn geometric_means() {
        assert!((geometric_mean([1.0, 4.0, 16.0]) - 4.0).abs() < 1e-12);
        assert!(geometric_mean([]).is_nan());
    }
}
