//! Splits a stretch of time: what is run at all, what is run often, and how long each workload gets.

use std::time::Duration;

/// What a block should last: long against the clock, short against a scheduler's time slice.
pub const BLOCK: Duration = Duration::from_micros(2500);
/// A run longer than this is not repeated to warm the caches: it evicts its own data.
pub const WARMED: Duration = Duration::from_millis(5);
/// Fewer rounds than this say little about spread: nobody joins for fewer.
const FEWEST_ROUNDS: u32 = 8;
/// Before so many rounds no ratio counts as known, however narrow its interval.
pub const TRUSTED_ROUNDS: u32 = 20;
/// A contender this many times slower than the fastest is out of the race: it may not cost the others their rounds.
const HOPELESS: u32 = 10;
/// What a workload may take beyond its share, so that the fast kernels are never judged by one cold run.
const LEAST: Duration = Duration::from_millis(500);
/// The share of the whole budget that may go into the first run of every kernel, which is checked.
const FIRST_RUNS: f64 = 0.4;
/// What a workload costs besides its runs (allocation, packing, the oracle), in nanoseconds.
const SET_UP_NS: f64 = 0.15e9;

/// Runs of `run` that fill a block.
pub fn runs_per_block(run: Duration) -> u32 {
    let runs = BLOCK.as_nanos() / run.as_nanos().max(1);
    runs.clamp(1, 1_000_000) as u32
}

/// What one visit costs: a block and the run before it that warms the caches.
pub fn visit(run: Duration) -> Duration {
    let warm_up = if run < WARMED { run } else { Duration::ZERO };
    run * runs_per_block(run) + warm_up
}

/// The longest predicted run that still fits when the shorter ones go first: longer ones are skipped.
/// Infinite where everything fits.
pub fn longest_run_ns(predicted_ns: &[f64], budget: Duration) -> f64 {
    let mut sorted = predicted_ns.to_vec();
    sorted.sort_by(f64::total_cmp);
    let mut left = budget.as_nanos() as f64 * FIRST_RUNS;
    let mut longest = 0.0;
    for run in sorted {
        left -= run;
        if left < 0.0 {
            return longest;
        }
        longest = run;
    }
    f64::INFINITY
}

/// Which contenders take part in the rounds: the slowest leave until `FEWEST_ROUNDS` fit (with a hopeless one, four
/// times as many). One always stays.
pub fn joining(runs: &[Duration], budget: Duration) -> Vec<bool> {
    let mut order: Vec<usize> = (0..runs.len()).collect();
    order.sort_by_key(|&i| runs[i]);
    let mut joins = vec![false; runs.len()];
    let mut round = Duration::ZERO;
    for (rank, &i) in order.iter().enumerate() {
        round += visit(runs[i]);
        let hopeless = runs[i] > runs[order[0]] * HOPELESS && runs[i] > BLOCK;
        let rounds = if hopeless { 4 * FEWEST_ROUNDS } else { FEWEST_ROUNDS };
        joins[i] = rank == 0 || round * rounds <= budget;
    }
    joins
}

/// What `FEWEST_ROUNDS` of the contenders near the fastest take, but no more than half a second: they get this even where
/// plans and slow kernels have used the workload's share up.
pub fn least(runs: &[Duration]) -> Duration {
    let Some(&fastest) = runs.iter().min() else { return Duration::ZERO };
    let near = runs.iter().filter(|&&run| run <= fastest * 3);
    (near.map(|&run| visit(run)).sum::<Duration>() * FEWEST_ROUNDS).min(LEAST)
}

/// How much of a budget a workload asks for, in nanoseconds, given the predicted runs of the kernels that will run.
pub fn need_ns(predicted_ns: &[f64]) -> f64 {
    let often = |&run: &f64| {
        let run = Duration::from_nanos(run as u64);
        let rounds = if run > Duration::from_millis(100) { 0 } else { 2 * FEWEST_ROUNDS };
        (run + visit(run) * rounds).as_nanos() as f64
    };
    SET_UP_NS + predicted_ns.iter().map(often).sum::<f64>()
}

/// The part of `left` for the first of several workloads.
pub fn share(needs_ns: &[f64], left: Duration) -> Duration {
    match needs_ns {
        [] => left,
        [first, ..] => left.mul_f64((first / needs_ns.iter().sum::<f64>()).clamp(0.0, 1.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn blocks_hold_as_many_runs_as_fit() {
        assert_eq!(runs_per_block(Duration::from_micros(10)), 250);
        assert_eq!(runs_per_block(Duration::from_micros(2600)), 1);
        assert_eq!(runs_per_block(Duration::ZERO), 1_000_000);
        assert_eq!(visit(MS), 3 * MS);
        assert_eq!(visit(40 * MS), 40 * MS);
    }

    #[test]
    fn the_longest_runs_are_skipped_first() {
        let second = Duration::from_secs(1);
        assert_eq!(longest_run_ns(&[1e8, 1e8, 1e8], second), f64::INFINITY);
        assert_eq!(longest_run_ns(&[3e8, 1e8, 2e8], second), 2e8);
        assert_eq!(longest_run_ns(&[9e9], second), 0.0);
    }

    #[test]
    fn slow_contenders_leave_the_rounds() {
        assert_eq!(joining(&[500 * MS, MS, 2 * MS], Duration::from_secs(1)), [false, true, true]);
        assert_eq!(joining(&[500 * MS, MS], Duration::from_secs(10)), [false, true]);
        assert_eq!(joining(&[500 * MS, 60 * MS], Duration::from_secs(10)), [true, true]);
        assert_eq!(joining(&[500 * MS, MS], Duration::from_secs(20)), [true, true]);
        assert_eq!(joining(&[500 * MS], MS), [true]);
        assert_eq!(joining(&[], MS), [false; 0]);
    }

    #[test]
    fn the_fast_ones_always_get_their_rounds() {
        assert_eq!(least(&[2 * MS, 40 * MS, 2 * MS]), 8 * 2 * visit(2 * MS));
        assert_eq!(least(&[200 * MS, 200 * MS]), LEAST);
        assert_eq!(least(&[]), Duration::ZERO);
    }

    #[test]
    fn shares_follow_the_needs_and_use_everything_up() {
        let second = Duration::from_secs(1);
        assert_eq!(share(&[1.0, 3.0], second), 250 * MS);
        assert_eq!(share(&[3.0], second), second);
        assert!(need_ns(&[1e6]) < need_ns(&[2e7]));
    }
}
