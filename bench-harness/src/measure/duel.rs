//! Two kernels on one workload, each visited twice in every round: the second visits tell how far identical code differs.

use std::time::Duration;

use tconv::{Descriptor, Element, Error, Geometry, Plan, Planner, Weights};

use super::block::Crew;
use super::check::Expected;
use super::contender::{Buffers, Contender, PlanContender};
use super::sitting::{Series, Sitting, Stopped};
use crate::cli::Failure;
use crate::statistics::{self, Ratio};

/// What the two are compared on.
#[allow(missing_debug_implementations)] // holds a closure
pub struct Duel<'a> {
    /// The problem, in the layout and type to measure.
    pub descriptor: Descriptor,
    /// Makes plans for the target to measure; knows both kernels.
    pub planner: &'a Planner,
    /// Names of the kernels.
    pub kernels: [&'a str; 2],
    /// The threads of the target.
    pub crew: &'a Crew,
    /// For the rounds.
    pub sitting: Sitting,
    /// Whether somebody asked to stop.
    pub interrupted: &'a dyn Fn() -> bool,
}

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
    /// Whole rounds.
    pub rounds: usize,
    /// Why they ended.
    pub stopped: Stopped,
}

/// Figures, or why one of the kernels has none.
pub type Outcome = Result<Figures, String>;

impl Duel<'_> {
    /// Plans, verifies and measures. The outer error is of the environment.
    pub fn run<T: Element>(&self) -> Result<Outcome, Failure> {
        let (problem, epilogue, seed) =
            (&self.descriptor.problem, self.descriptor.epilogue, self.sitting.seed);
        let geometry = Geometry::new(problem)?;
        let buffers = Buffers::<T>::new(&geometry, seed)?;
        let bias = epilogue.bias.then(|| Buffers::<T>::uniform(problem.out_channels(), !seed)).transpose()?;
        let mut weights = Weights::new(&buffers.weights);
        if let Some(bias) = &bias {
            weights = weights.with_bias(bias);
        }
        let expected = Expected::new(&geometry, &buffers, epilogue, bias.as_deref(), seed);

        let mut plans: Vec<Plan<T>> = Vec::new();
        let mut firsts = Vec::new();
        for kernel in self.kernels {
            let planner = self.planner.clone().only(kernel, None);
            let plan = match self.crew.install(|| planner.plan::<T>(problem, weights, epilogue)) {
                Ok(plan) => plan,
                Err(Error::NoKernel { reasons }) => return Ok(Err(format!("{kernel} declines: {reasons}"))),
                Err(error) => return Err(error.into()),
            };
            buffers.poison();
            let first = PlanContender::new(&plan, &buffers, self.crew)?.run(1);
            if let Err(wrong) = expected.check(&buffers.output(), plan.guarantees().exactness) {
                return Ok(Err(format!("{kernel} is wrong: {wrong}")));
            }
            plans.push(plan);
            firsts.push(first.wall);
        }

        let lanes = [0, 1, 0, 1];
        let mut contenders = Vec::new();
        for lane in lanes {
            contenders.push(PlanContender::new(&plans[lane], &buffers, self.crew)?);
        }
        let mut visited: Vec<&mut dyn Contender> = contenders.iter_mut().map(|c| c as _).collect();
        let firsts: Vec<Duration> = lanes.iter().map(|&lane| firsts[lane]).collect();
        let (series, stopped) = self.sitting.hold(&mut visited, &firsts, self.interrupted);
        Ok(Ok(figures(&series, stopped, seed)))
    }
}

/// `series`: the first visits of both, then the second ones.
fn figures(series: &[Series], stopped: Stopped, seed: u64) -> Figures {
    let times: Vec<Vec<Option<f64>>> = series.iter().map(|s| s.times().collect()).collect();
    let ratio = statistics::ratio(&[&times[0], &times[2]], &[&times[1], &times[3]], seed);
    let own =
        |side: usize| Some(statistics::ratio(&[&times[side]], &[&times[side + 2]], seed)?.interval.estimate);
    let median = |side: usize| {
        let all: Vec<f64> = times[side].iter().chain(&times[side + 2]).flatten().copied().collect();
        statistics::median(&all)
    };
    Figures {
        ratio,
        self_ratios: (0..2).filter_map(own).collect(),
        median_ns: [median(0), median(1)],
        clean_share: [0, 1].map(|side| (series[side].clean_share() + series[side + 2].clean_share()) / 2.0),
        rounds: series[0].blocks.len(),
        stopped,
    }
}
