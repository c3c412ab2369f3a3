//! Two candidates on one workload, each visited twice in every round: the second visits tell how far identical code differs.

use std::time::Duration;

use tconv::{Descriptor, Element, Error, Exactness, Geometry, Plan, Planner, Weights};

use super::block::Crew;
use super::check::Expected;
use super::contender::{Buffers, Contender, PlanContender};
use super::sitting::{Series, Sitting, Stopped};
use crate::cli::Failure;
use crate::peers::protocol::Prepare;
use crate::peers::{Live, Prepared, Trouble, Visitors, live};
use crate::statistics::{self, Ratio};

/// What the two are compared on.
#[allow(missing_debug_implementations)] // holds a closure
pub struct Duel<'a> {
    /// The problem, in the layout and type to measure.
    pub descriptor: Descriptor,
    /// Makes plans for the target to measure; knows all kernels by name.
    pub planner: &'a Planner,
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

/// Why a candidate has no figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// It does not take the workload, or did not come to an answer.
    None(String),
    /// Its answer is wrong.
    Wrong(String),
}

/// Figures, or why there are none.
pub type Outcome = Result<Figures, Problem>;

/// Whose every lane of a round is. Not in turns: memory that is handed out in equal steps would give each side places of its
/// own kind.
pub const SIDES: [usize; 4] = [0, 1, 1, 0];
/// At most so many bytes are left free before each plan, by chance: where things lie in memory is part of the noise.
const GAP: usize = 1 << 14;

impl Duel<'_> {
    /// Two kernels in this process. Plans, verifies and measures. The outer error is of the environment.
    pub fn kernels<T: Element>(&self, names: [&str; 2]) -> Result<Outcome, Failure> {
        let setting = Setting::<T>::new(self)?;
        let (problem, epilogue) = (&self.descriptor.problem, self.descriptor.epilogue);
        let mut random = fastrand::Rng::with_seed(self.sitting.seed);
        // A plan of its own for every lane.
        let (mut plans, mut gaps): (Vec<Plan<T>>, Vec<Vec<u8>>) = Default::default();
        let mut firsts = Vec::new();
        for side in SIDES {
            let (name, weights) = (names[side], setting.weights());
            gaps.push(Vec::with_capacity(random.usize(1..GAP)));
            let planner = self.planner.clone().only(name, None);
            let plan = match self.crew.install(|| planner.plan::<T>(problem, weights, epilogue)) {
                Ok(plan) => plan,
                Err(Error::NoKernel { reasons }) => {
                    return Ok(Err(Problem::None(format!("{name} declines: {reasons}"))));
                }
                Err(error) => return Err(error.into()),
            };
            setting.buffers.poison();
            let first = PlanContender::new(&plan, &setting.buffers, self.crew)?.run(1);
            let checked = setting.expected.check(&setting.buffers.output(), plan.guarantees().exactness);
            if let Err(wrong) = checked {
                return Ok(Err(Problem::Wrong(format!("{name} is wrong: {wrong}"))));
            }
            plans.push(plan);
            firsts.push(first.wall);
        }
        let mut contenders = Vec::new();
        for plan in &plans {
            contenders.push(PlanContender::new(plan, &setting.buffers, self.crew)?);
        }
        let visited = contenders.iter_mut().map(|c| c as &mut dyn Contender);
        Ok(self.hold(&mut visited.collect::<Vec<_>>(), &firsts))
    }

    /// Two programs, of each two processes, in the order of [`SIDES`].
    pub fn programs<T: Element>(&self, visitors: &mut Visitors) -> Result<Outcome, Failure> {
        let setting = Setting::<T>::new(self)?;
        let tensors = (&setting.buffers.input[..], &setting.buffers.weights[..], setting.bias.as_deref());
        let files = live::write_tensors(visitors.folder(), &self.descriptor, &setting.geometry, tensors)
            .map_err(|e| Failure(format!("the tensors cannot be written to files: {e}")))?;
        let admitted: Result<Vec<_>, _> =
            visitors.iter_mut().map(|live| self.admit::<T>(live, &files, &setting)).collect();
        let firsts = match admitted {
            Ok(firsts) => firsts,
            Err(problem) => {
                visitors.iter_mut().for_each(Live::release);
                return Ok(Err(problem));
            }
        };
        let outcome = self.hold(&mut visitors.iter_mut().map(|l| l as _).collect::<Vec<_>>(), &firsts);
        let fallen = visitors.iter_mut().find_map(|live| Some((live.name().to_owned(), live.failure()?)));
        visitors.iter_mut().for_each(Live::release);
        Ok(match fallen {
            Some((name, trouble)) => Err(Problem::None(format!("{name} {trouble}"))),
            None => outcome,
        })
    }

    /// Prepares, executes and checks one program; about how long a run of it takes.
    fn admit<T: Element>(
        &self,
        live: &mut Live,
        files: &Prepare,
        setting: &Setting<T>,
    ) -> Result<Duration, Problem> {
        let name = live.name().to_owned();
        let none = |trouble: Trouble| Problem::None(format!("{name} {trouble}"));
        let implementation = match live.prepare(files).map_err(none)? {
            Prepared::Ready { implementation, .. } => implementation.unwrap_or_default(),
            Prepared::Declined(reason) => return Err(Problem::None(format!("{name} declines: {reason}"))),
        };
        let first = live.execute(1).map_err(none)?;
        let output: Vec<T> = live.fetch(&setting.geometry).map_err(none)?;
        // Another build of ours says which kernel it took: what that one promises is known here.
        let kernel = implementation.split(' ').next().and_then(|name| self.planner.registry().get(name));
        let exactness = kernel.map_or(Exactness::Direct, |kernel| kernel.guarantees().exactness);
        if let Err(wrong) = setting.expected.check(&output, exactness) {
            return Err(Problem::Wrong(format!("{name} is wrong: {wrong}")));
        }
        // The first execution may hold work that a library puts off until then.
        let second = live.execute(1).map_err(none)?;
        Ok(first.wall.min(second.wall))
    }

    fn hold(&self, visited: &mut [&mut dyn Contender], firsts: &[Duration]) -> Outcome {
        let (series, stopped) = self.sitting.hold(visited, firsts, self.interrupted);
        Ok(figures(&series, stopped, self.sitting.seed))
    }
}

/// What both candidates get, and what they must answer.
struct Setting<T> {
    geometry: Geometry,
    buffers: Buffers<T>,
    bias: Option<Vec<T>>,
    expected: Expected,
}

impl<T: Element> Setting<T> {
    fn new(duel: &Duel<'_>) -> Result<Self, Failure> {
        let (problem, epilogue, seed) =
            (&duel.descriptor.problem, duel.descriptor.epilogue, duel.sitting.seed);
        let geometry = Geometry::new(problem)?;
        let buffers = Buffers::new(&geometry, seed)?;
        let bias = epilogue.bias.then(|| Buffers::<T>::uniform(problem.out_channels(), !seed)).transpose()?;
        let expected = Expected::new(&geometry, &buffers, epilogue, bias.as_deref(), seed);
        Ok(Self { geometry, buffers, bias, expected })
    }

    fn weights(&self) -> Weights<'_> {
        let weights = Weights::new(&self.buffers.weights);
        match &self.bias {
            Some(bias) => weights.with_bias(bias),
            None => weights,
        }
    }
}

/// `series`: of each lane.
fn figures(series: &[Series], stopped: Stopped, seed: u64) -> Figures {
    let times: Vec<Vec<Option<f64>>> = series.iter().map(|s| s.times().collect()).collect();
    let lanes = [0, 1].map(|side| {
        let own = SIDES.iter().zip(&times).filter(|(owner, _)| **owner == side);
        own.map(|(_, times)| &times[..]).collect::<Vec<_>>()
    });
    let ratio = statistics::ratio(&lanes[0], &lanes[1], seed);
    let own = |lanes: &Vec<_>| Some(statistics::ratio(&lanes[..1], &lanes[1..], seed)?.interval.estimate);
    let all = |side: usize| lanes[side].iter().copied().flatten().flatten().copied().collect::<Vec<f64>>();
    let clean = |side: usize| {
        let own = SIDES.iter().zip(series).filter(|(owner, _)| **owner == side);
        own.map(|(_, series)| series.clean_share()).sum::<f64>() / lanes[side].len() as f64
    };
    Figures {
        ratio,
        self_ratios: lanes.iter().filter_map(own).collect(),
        median_ns: [0, 1].map(|side| statistics::median(&all(side))),
        clean_share: [0, 1].map(clean),
        rounds: series[0].blocks.len(),
        stopped,
    }
}
