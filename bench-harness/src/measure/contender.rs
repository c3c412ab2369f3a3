//! What is measured: anything that runs k times and reports a block.

use std::cell::{Ref, RefCell};

use tconv::machine::scratch::AlignedVec;
use tconv::{Bytes64, Element, Error, Geometry, Plan, Structure};

use super::block::{Block, Crew};
use super::cache::{CacheMode, Sweeper, touch};
use crate::data;

/// A candidate of a sitting.
pub trait Contender {
    /// Its name in tables and records.
    fn name(&self) -> &str;
    /// Runs `k` times, back to back, and says how that went.
    fn run(&mut self, k: u32) -> Block;
    /// Whether every run finds cold caches: then a block is one run, and none before it warms anything.
    fn is_cold(&self) -> bool {
        false
    }
    /// Why it cannot run any more; its blocks do not count then.
    fn failure(&self) -> Option<String> {
        None
    }
    /// Whether it works on the tensors that the contenders of this process share: others evict them from the caches.
    fn shares_buffers(&self) -> bool {
        true
    }
}

/// Input, weights, output and scratch of one workload, shared by all its contenders, so that no one has better pages. They begin on
/// cache lines, as tensors do in the libraries that they are compared with.
#[derive(Debug)]
pub struct Buffers<T> {
    /// The input.
    pub input: AlignedVec<T>,
    /// `[Cin, Cout/groups, kernel…]`.
    pub weights: AlignedVec<T>,
    work: RefCell<Work<T>>,
}

/// What a run writes: one contender runs at a time.
#[derive(Debug)]
struct Work<T> {
    output: AlignedVec<T>,
    scratch: Vec<Bytes64>,
}

impl<T: Element> Buffers<T> {
    /// Random input and weights in −1..1, by `seed`, or weights of another structure; everything is touched.
    pub fn new(geometry: &Geometry, structure: Structure, seed: u64) -> Result<Self, Error> {
        let mut output = AlignedVec::tensor("output", geometry.output_len())?;
        output.fill(T::from_f64(f64::NAN));
        Ok(Self {
            input: Self::uniform(geometry.input_len(), seed)?,
            weights: match structure {
                Structure::General => Self::uniform(geometry.weight_len(), seed ^ 1)?,
                Structure::Separable => {
                    let mut weights = AlignedVec::tensor("weights", geometry.weight_len())?;
                    weights.copy_from_slice(&data::cast(&data::bilinear(geometry)));
                    weights
                }
            },
            work: RefCell::new(Work { output, scratch: Vec::new() }),
        })
    }

    /// Random numbers in −1..1.
    pub fn uniform(len: usize, seed: u64) -> Result<AlignedVec<T>, Error> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut data = AlignedVec::tensor("random data", len)?;
        data.iter_mut().for_each(|x| *x = T::from_f64(random.f64() * 2.0 - 1.0));
        Ok(data)
    }

    /// The output of whoever ran last.
    pub fn output(&self) -> Ref<'_, [T]> {
        Ref::map(self.work.borrow(), |work| &work.output[..])
    }

    /// Fills the output with NaN, so that an element that nobody writes is seen.
    pub fn poison(&self) {
        self.work.borrow_mut().output.fill(T::from_f64(f64::NAN));
    }

    /// Makes room for `units` of scratch, touched and dirty.
    fn reserve(&self, units: usize) -> Result<(), Error> {
        let scratch = &mut self.work.borrow_mut().scratch;
        if let Some(more) = units.checked_sub(scratch.len()) {
            let bytes = units.saturating_mul(size_of::<Bytes64>());
            scratch.try_reserve_exact(more).map_err(|_| Error::OutOfMemory { what: "scratch", bytes })?;
            scratch.resize(units, bytemuck::cast([f32::NAN; 16]));
        }
        Ok(())
    }
}

/// A plan of this process.
#[derive(Debug)]
pub struct PlanContender<'a, T: Element> {
    plan: &'a Plan<T>,
    buffers: &'a Buffers<T>,
    crew: &'a Crew,
    name: String,
    /// Empties the caches before each run, where they are not warm.
    swept: Option<(&'a Sweeper, CacheMode)>,
}

impl<'a, T: Element> PlanContender<'a, T> {
    /// Times `plan` on these buffers and threads; reserves its scratch.
    pub fn new(plan: &'a Plan<T>, buffers: &'a Buffers<T>, crew: &'a Crew) -> Result<Self, Error> {
        buffers.reserve(plan.scratch().units())?;
        Ok(Self { plan, buffers, crew, name: plan.name().to_owned(), swept: None })
    }

    /// Under another name: a second entry of the same plan.
    pub fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// With caches in this state before each run.
    pub fn swept(self, sweeper: &'a Sweeper, cache: CacheMode) -> Self {
        Self { swept: (cache != CacheMode::Warm).then_some((sweeper, cache)), ..self }
    }
}

impl<T: Element> Contender for PlanContender<'_, T> {
    fn name(&self) -> &str {
        &self.name
    }

    fn run(&mut self, k: u32) -> Block {
        let Work { output, scratch } = &mut *self.buffers.work.borrow_mut();
        let (plan, input) = (self.plan, &self.buffers.input);
        let Some((sweeper, cache)) = self.swept else {
            return self.crew.time(k, || execute(plan, input, output, scratch));
        };
        let mut sum = Block::default();
        for _ in 0..k {
            sweeper.sweep(self.crew);
            if cache == CacheMode::Weights {
                self.crew.install(|| {
                    touch(input);
                    touch(output);
                    touch(bytemuck::cast_slice::<_, f64>(&scratch[..plan.scratch().units()]));
                });
            }
            sum += self.crew.time(1, || execute(plan, input, output, scratch));
        }
        sum
    }

    fn is_cold(&self) -> bool {
        self.swept.is_some()
    }
}

fn execute<T: Element>(plan: &Plan<T>, input: &[T], output: &mut [T], scratch: &mut [Bytes64]) {
    plan.execute_with(input, output, scratch).expect("lengths come from the plan");
}
