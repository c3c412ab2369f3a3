//! Two candidates on one workload, each visited twice in every round: the second visits tell how far identical code differs.

use std::time::{Duration, Instant};

use tconv::machine::scratch::AlignedVec;
use tconv::{Descriptor, Element, Error, Exactness, Geometry, Plan, Planner, Weights};

use super::block::Crew;
use super::check::Expected;
use super::contender::{Buffers, Contender, PlanContender};
use super::sitting::Sitting;
use super::sittings::{self, Figures, Held};
use crate::cli::Failure;
use crate::peers::protocol::Prepare;
use crate::peers::{Live, Prepared, Trouble, Visitors, live};

/// What the two are compared on.
#[allow(missing_debug_implementations)] // holds a closure
pub struct Duel<'a> {
    /// The problem, in the layout and type to measure.
    pub descriptor: Descriptor,
    /// Makes plans for the target to measure; knows all kernels by name.
    pub planner: &'a Planner,
    /// The threads of the target.
    pub crew: &'a Crew,
    /// For all sittings together.
    pub sitting: Sitting,
    /// Whether somebody asked to stop.
    pub interrupted: &'a dyn Fn() -> bool,
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
/// At most so many bytes are left free before the tensors and before each plan, by chance: where things lie in memory is part of the
/// noise.
const GAP: usize = 1 << 14;

impl Duel<'_> {
    /// Two kernels in this process. Plans, verifies and measures. The outer error is of the environment.
    pub fn kernels<T: Element>(&self, names: [&str; 2]) -> Result<Outcome, Failure> {
        let setting = Setting::<T>::new(self)?;
        self.hold(|sitting| self.sit_kernels(names, &setting, sitting))
    }

    /// One sitting of two kernels: a plan of its own for every lane, tensors for all of them.
    fn sit_kernels<T: Element>(
        &self,
        names: [&str; 2],
        setting: &Setting<T>,
        sitting: &Sitting,
    ) -> Result<Held, Ended> {
        let start = Instant::now();
        let (problem, epilogue) = (&self.descriptor.problem, self.descriptor.epilogue);
        let mut random = fastrand::Rng::with_seed(sitting.seed);
        let mut gap = || Vec::<u8>::with_capacity(random.usize(1..GAP));
        let mut gaps = vec![gap()];
        let buffers = Buffers::<T>::new(&setting.geometry, self.descriptor.structure, self.sitting.seed)?;
        let (mut plans, mut firsts): (Vec<Plan<T>>, Vec<_>) = Default::default();
        for side in SIDES {
            let (name, weights) = (names[side], setting.weights(&buffers));
            gaps.push(gap());
            let planner = self.planner.clone().only(name, None);
            let plan = match self.crew.install(|| planner.plan::<T>(problem, weights, epilogue)) {
                Ok(plan) => plan,
                Err(Error::NoKernel { reasons }) => {
                    return Err(Problem::None(format!("{name} declines: {reasons}")).into());
                }
                Err(error) => return Err(error.into()),
            };
            buffers.poison();
            let first = PlanContender::new(&plan, &buffers, self.crew)?.run(1);
            let checked = setting.expected.check(&buffers.output(), plan.guarantees().exactness);
            checked.map_err(|wrong| Problem::Wrong(format!("{name} is wrong: {wrong}")))?;
            plans.push(plan);
            firsts.push(first.wall);
        }
        let mut contenders = Vec::new();
        for plan in &plans {
            contenders.push(PlanContender::new(plan, &buffers, self.crew)?);
        }
        let set_up = start.elapsed();
        let mut visited: Vec<_> = contenders.iter_mut().map(|c| c as &mut dyn Contender).collect();
        let (series, stopped) = sitting.hold(&mut visited, &firsts, self.interrupted);
        Ok(Held { series, stopped, set_up })
    }

    /// Two programs, of each two processes, in the order of [`SIDES`].
    pub fn programs<T: Element>(&self, visitors: &mut Visitors) -> Result<Outcome, Failure> {
        let setting = Setting::<T>::new(self)?;
        let buffers = Buffers::<T>::new(&setting.geometry, self.descriptor.structure, self.sitting.seed)?;
        let tensors = (&buffers.input[..], &buffers.weights[..], setting.bias.as_deref());
        let files = live::write_tensors(visitors.folder(), &self.descriptor, &setting.geometry, tensors)
            .map_err(|e| Failure(format!("the tensors cannot be written to files: {e}")))?;
        drop(buffers);
        self.hold(|sitting| {
            let held = self.sit_programs(visitors, &files, &setting, sitting);
            visitors.iter_mut().for_each(Live::release);
            held
        })
    }

    /// One sitting of two programs, which prepare anew.
    fn sit_programs<T: Element>(
        &self,
        visitors: &mut Visitors,
        files: &Prepare,
        setting: &Setting<T>,
        sitting: &Sitting,
    ) -> Result<Held, Ended> {
        let start = Instant::now();
        let admitted: Result<Vec<_>, _> =
            visitors.iter_mut().map(|live| self.admit::<T>(live, files, setting)).collect();
        let (firsts, set_up) = (admitted?, start.elapsed());
        let mut visited: Vec<_> = visitors.iter_mut().map(|l| l as &mut dyn Contender).collect();
        let (series, stopped) = sitting.hold(&mut visited, &firsts, self.interrupted);
        let fallen = visitors.iter_mut().find_map(|live| Some((live.name().to_owned(), live.failure()?)));
        match fallen {
            Some((name, trouble)) => Err(Problem::None(format!("{name} {trouble}")).into()),
            None => Ok(Held { series, stopped, set_up }),
        }
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

    fn hold(&self, sit: impl FnMut(&Sitting) -> Result<Held, Ended>) -> Result<Outcome, Failure> {
        match sittings::hold(&self.sitting, sit) {
            Ok(figures) => Ok(Ok(figures)),
            Err(Ended::Problem(problem)) => Ok(Err(problem)),
            Err(Ended::Failure(failure)) => Err(failure),
        }
    }
}

/// Why a sitting came to nothing.
enum Ended {
    Problem(Problem),
    Failure(Failure),
}

impl From<Problem> for Ended {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Failure(error.into())
    }
}

/// What does not change from one sitting to the next.
struct Setting<T> {
    geometry: Geometry,
    bias: Option<AlignedVec<T>>,
    expected: Expected,
}

impl<T: Element> Setting<T> {
    fn new(duel: &Duel<'_>) -> Result<Self, Failure> {
        let (problem, epilogue, seed) =
            (&duel.descriptor.problem, duel.descriptor.epilogue, duel.sitting.seed);
        let geometry = Geometry::new(problem)?;
        let buffers = Buffers::new(&geometry, duel.descriptor.structure, seed)?;
        let bias = epilogue.bias.then(|| Buffers::<T>::uniform(problem.out_channels(), !seed)).transpose()?;
        let expected = Expected::new(&geometry, &buffers, epilogue, bias.as_deref(), seed);
        Ok(Self { geometry, bias, expected })
    }

    fn weights<'a>(&'a self, buffers: &'a Buffers<T>) -> Weights<'a> {
        let weights = Weights::new(&buffers.weights);
        match &self.bias {
            Some(bias) => weights.with_bias(bias),
            None => weights,
        }
    }
}
