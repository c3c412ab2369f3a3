//! From a problem and its weights to a plan: asks every kernel, takes the cheapest that agrees.

use std::sync::Arc;

use crate::contract::kernel::Kernel;
use crate::contract::request::{Cost, Declined, Refusal, Request, Variant, WeightFacts, Weights};
use crate::error::{Error, expect_len};
use crate::machine::isa::Target;
use crate::machine::tensor::{Dtype, Element, Tensor};
use crate::planning::choice::{self, Choice, Choices, ChosenBy, Estimate, Key, Sources};
use crate::planning::plan::Plan;
use crate::planning::registry::Registry;
use crate::problem::descriptor::Descriptor;
use crate::problem::epilogue::Epilogue;
use crate::problem::geometry::Geometry;
use crate::problem::problem::{Accuracy, Problem};

/// What one kernel answers to a request.
pub struct Verdict {
    /// The kernel.
    pub kernel: &'static dyn Kernel,
    /// Its variant and cost, or the reason why it declines.
    pub answer: Result<(Variant, Cost), Declined>,
    /// What a reader should know beside: what it found in the weights. None where it declines.
    pub remark: Option<String>,
    /// How long it will take, from all that is known; none where it declines.
    pub estimate: Option<Estimate>,
}

impl std::fmt::Debug for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verdict")
            .field("kernel", &self.kernel.name())
            .field("answer", &self.answer)
            .field("remark", &self.remark)
            .field("estimate", &self.estimate)
            .finish()
    }
}

/// Chooses a kernel and makes plans.
#[derive(Debug, Clone, Default)]
pub struct Planner {
    registry: Registry,
    target: Option<Target>,
    only: Option<(String, Option<String>)>,
    max_scratch: Option<usize>,
    accuracy: Accuracy,
    deterministic: bool,
    choices: Option<Arc<Choices>>,
    without_shipped: bool,
}

impl Planner {
    /// The built-in kernels on the detected machine.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another list of kernels.
    pub fn with_registry(self, registry: Registry) -> Self {
        Self { registry, ..self }
    }

    /// Another target than the detected one.
    pub fn on(self, target: Target) -> Self {
        Self { target: Some(target), ..self }
    }

    /// This kernel alone, in this variant or (`None`) in the one that it advises.
    pub fn only(self, kernel: &str, variant: Option<&str>) -> Self {
        Self { only: Some((kernel.into(), variant.map(str::to_owned))), ..self }
    }

    /// No kernel that needs more scratch than this, over all threads.
    pub fn max_scratch(self, bytes: usize) -> Self {
        Self { max_scratch: Some(bytes), ..self }
    }

    /// What may be given up for speed.
    pub fn accuracy(self, accuracy: Accuracy) -> Self {
        Self { accuracy, ..self }
    }

    /// The same bits in every run: every built-in kernel promises that on one target. `true` also drops a kernel that was
    /// seen to break the promise when it was measured. Which kernel is chosen may still change with measurements and
    /// releases: a [`crate::Pin`] holds it.
    pub fn deterministic(self, deterministic: bool) -> Self {
        Self { deterministic, ..self }
    }

    /// Measured choices, which go before the shipped ones.
    pub fn choices(self, choices: impl Into<Arc<Choices>>) -> Self {
        Self { choices: Some(choices.into()), ..self }
    }

    /// Whether the choices that come with the library are used (they are, by default).
    pub fn shipped(self, used: bool) -> Self {
        Self { without_shipped: !used, ..self }
    }

    /// The kernels that it may choose from.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Asks every kernel: the candidates, the one to choose first, then those that decline. `weights`, of this type: their facts are
    /// used where given.
    pub fn explain(
        &self,
        problem: &Problem,
        dtype: Dtype,
        epilogue: Epilogue,
        weights: Option<Tensor<'_>>,
    ) -> Result<Vec<Verdict>, Error> {
        let geometry = Geometry::new(problem)?;
        if let Some(weights) = weights {
            let len = match dtype {
                Dtype::F32 => weights.typed::<f32>("weights")?.len(),
                Dtype::F64 => weights.typed::<f64>("weights")?.len(),
            };
            expect_len("weights", len, geometry.weight_len())?;
        }
        self.verdicts(&self.request(&geometry, dtype, epilogue, weights)?)
    }

    /// The same where the values of the weights are not at hand, but their structure is.
    pub fn explain_descriptor(&self, descriptor: &Descriptor) -> Result<Vec<Verdict>, Error> {
        let geometry = Geometry::new(&descriptor.problem)?;
        let request = self.request(&geometry, descriptor.dtype, descriptor.epilogue, None)?;
        self.verdicts(&Request { weights: WeightFacts::assumed(descriptor.structure), ..request })
    }

    /// Makes a plan: checks the weights, asks the kernels, packs for the first that agrees.
    pub fn plan<T: Element>(
        &self,
        problem: &Problem,
        weights: Weights<'_>,
        epilogue: Epilogue,
    ) -> Result<Plan<T>, Error> {
        let geometry = Geometry::new(problem)?;
        check_weights::<T>(&geometry, &weights, epilogue)?;
        let request = self.request(&geometry, T::DTYPE, epilogue, Some(weights.kernel))?;
        let mut reasons = Vec::new();
        for Verdict { kernel, answer, estimate, .. } in self.verdicts(&request)? {
            let refusal = match answer {
                Err(declined) => declined.into(),
                Ok((variant, _)) => match kernel.prepare(&request, &variant, weights) {
                    Ok(prepared) => {
                        let choice = self.choice(estimate);
                        return Ok(Plan::new(geometry.clone(), epilogue, kernel, variant, choice, prepared));
                    }
                    Err(refusal) => refusal,
                },
            };
            match refusal {
                // Another kernel may need less memory.
                Refusal::Declined(_) | Refusal::Error(Error::OutOfMemory { .. }) => {
                    reasons.push(format!("{}: {refusal}", kernel.name()));
                }
                Refusal::Error(error) => return Err(error),
            }
        }
        Err(Error::NoKernel { reasons: reasons.join("; ") })
    }

    fn choice(&self, estimate: Option<Estimate>) -> Choice {
        let nothing = Estimate {
            nanoseconds: f64::NAN,
            low: f64::NAN,
            high: f64::NAN,
            source: ChosenBy::Default,
            like: None,
        };
        let estimate = estimate.unwrap_or(nothing);
        let by = if self.only.is_some() { ChosenBy::Caller } else { estimate.source };
        Choice { by, estimate, warnings: Vec::new() }
    }

    fn request<'a>(
        &self,
        geometry: &'a Geometry,
        dtype: Dtype,
        epilogue: Epilogue,
        weights: Option<Tensor<'_>>,
    ) -> Result<Request<'a>, Error> {
        epilogue.activation.check()?;
        let target = match self.target {
            Some(target) => target,
            None => Target::detect()?,
        };
        Ok(Request {
            geometry,
            dtype,
            epilogue,
            accuracy: self.accuracy,
            target: target.with_threads(target.threads),
            weights: weights.map(|weights| WeightFacts::scan(geometry, weights)).transpose()?,
        })
    }

    fn verdicts(&self, request: &Request<'_>) -> Result<Vec<Verdict>, Error> {
        let shipped = (!self.without_shipped).then(|| choice::shipped(request.target.isa));
        let sources = Sources { user: self.choices.as_deref(), shipped };
        let mut verdicts = Vec::new();
        match &self.only {
            None => {
                let key = Key::of(request);
                for kernel in self.registry.iter() {
                    let tuned = sources.variant(&key, kernel.name());
                    verdicts.push(self.verdict(kernel, tuned.map_or(Wish::Advice, Wish::Tuned), request)?);
                }
            }
            Some((name, variant)) => {
                let kernel = self.registry.get(name).ok_or_else(|| Error::UnknownKernel {
                    name: name.clone(),
                    registered: self.registry.iter().map(|k| k.name()).collect::<Vec<_>>().join(", "),
                })?;
                let wish = variant.as_deref().map_or(Wish::Advice, Wish::Exactly);
                verdicts.push(self.verdict(kernel, wish, request)?);
            }
        }
        choice::order(sources, request, &mut verdicts, self.deterministic);
        Ok(verdicts)
    }

    fn verdict(
        &self,
        kernel: &'static dyn Kernel,
        wish: Wish<'_>,
        request: &Request<'_>,
    ) -> Result<Verdict, Error> {
        let answer = self.ask(kernel, wish, request)?;
        let remark = if answer.is_ok() { kernel.remark(request) } else { None };
        Ok(Verdict { kernel, answer, remark, estimate: None })
    }

    fn ask(
        &self,
        kernel: &'static dyn Kernel,
        wish: Wish<'_>,
        request: &Request<'_>,
    ) -> Result<Result<(Variant, Cost), Declined>, Error> {
        let allowed = kernel.guarantees().allowed_by(request.accuracy);
        let candidates = match allowed.and_then(|()| kernel.candidates(request)) {
            Ok(candidates) => candidates,
            Err(declined) => return Ok(Err(declined)),
        };
        let named = |name: &str| candidates.iter().find(|(v, _)| v.name() == name);
        let chosen = match wish {
            Wish::Advice => candidates.first(),
            Wish::Tuned(name) => named(name).or(candidates.first()),
            Wish::Exactly(name) => named(name),
        };
        let (variant, cost) = chosen.ok_or_else(|| Error::UnknownVariant {
            kernel: kernel.name().into(),
            name: if let Wish::Exactly(name) = wish { name.into() } else { String::new() },
            available: candidates.iter().map(|(v, _)| v.name()).collect::<Vec<_>>().join(", "),
        })?;
        if let Some(limit) = self.max_scratch
            && cost.scratch_bytes > limit
        {
            let needed = cost.scratch_bytes;
            return Ok(Err(Declined::because(format!(
                "needs {needed} bytes of scratch: {limit} are allowed"
            ))));
        }
        Ok(Ok((variant.clone(), *cost)))
    }
}

/// Which variant of a kernel.
#[derive(Clone, Copy)]
enum Wish<'a> {
    /// Its own advice.
    Advice,
    /// The fastest when it was measured, where it still exists.
    Tuned(&'a str),
    /// This one.
    Exactly(&'a str),
}

pub(super) fn check_weights<T: Element>(
    geometry: &Geometry,
    weights: &Weights<'_>,
    epilogue: Epilogue,
) -> Result<(), Error> {
    let (kernel, bias) = weights.typed::<T>()?;
    expect_len("weights", kernel.len(), geometry.weight_len())?;
    let expected = if epilogue.bias { geometry.problem().out_channels() } else { 0 };
    expect_len("bias", bias.map_or(0, <[T]>::len), expected)
}
