//! A choice that is held fast: the kernel, its variant, and the revisions that it had.

use crate::contract::kernel::Kernel;
use crate::contract::request::Weights;
use crate::error::Error;
use crate::machine::isa::{Isa, Target};
use crate::machine::tensor::Element;
use crate::planning::plan::Plan;
use crate::planning::planner::Planner;
use crate::planning::registry::Registry;
use crate::problem::descriptor::Descriptor;
use crate::problem::problem::Accuracy;

/// A choice as `tconv choose --emit rust` writes it. It plans exactly this, or fails and says why; a kernel that has merely
/// become faster or slower since gives a warning ([`crate::planning::choice::Choice::warnings`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// Name of the layer, for messages.
    pub layer: &'static str,
    /// The problem, as a [`Descriptor`].
    pub problem: &'static str,
    /// Instruction set that the variant is for.
    pub isa: &'static str,
    /// Threads of the plan.
    pub threads: usize,
    /// The kernel.
    pub kernel: &'static str,
    /// Its variant.
    pub variant: &'static str,
    /// Revision of its numerics: another one may round otherwise, and is refused.
    pub numerics: u32,
    /// Revision of its speed: another one gives a warning.
    pub speed: u32,
}

impl Pin {
    /// Plans the pinned kernel, from the built-in ones.
    pub fn plan<T: Element>(&self, weights: Weights<'_>) -> Result<Plan<T>, Error> {
        self.plan_with(&Registry::builtin(), weights)
    }

    /// Plans the pinned kernel, from these.
    pub fn plan_with<T: Element>(&self, registry: &Registry, weights: Weights<'_>) -> Result<Plan<T>, Error> {
        let descriptor: Descriptor = self.problem.parse()?;
        if descriptor.dtype != T::DTYPE {
            return Err(Error::DtypeMismatch { which: "plan", got: T::DTYPE, expected: descriptor.dtype });
        }
        let warning = self.check(registry.get(self.kernel))?;
        let target = Target { isa: Isa::by_name(self.isa)?, threads: self.threads };
        // Who names a kernel accepts its accuracy.
        let planner = Planner::new()
            .with_registry(registry.clone())
            .on(target)
            .accuracy(Accuracy::Normwise)
            .only(self.kernel, Some(self.variant));
        let planned = planner.plan(&descriptor.problem, weights, descriptor.epilogue);
        planned.map(|plan| plan.pinned(warning)).map_err(|error| match error {
            Error::UnknownVariant { available, .. } => self.broken(format!(
                "kernel '{}' has no variant '{}' any more (it has: {available})",
                self.kernel, self.variant
            )),
            Error::NoKernel { reasons } => self.broken(reasons),
            other => other,
        })
    }

    /// A warning, where the speed is another one.
    fn check(&self, kernel: Option<&'static dyn Kernel>) -> Result<Option<String>, Error> {
        let name = self.kernel;
        let Some(kernel) = kernel else {
            return Err(self.broken(format!("there is no kernel '{name}' any more")));
        };
        let now = kernel.revisions();
        if now.numerics != self.numerics {
            return Err(self.broken(format!(
                "kernel '{name}' rounds otherwise now: numerics revision {}, pinned {}",
                now.numerics, self.numerics
            )));
        }
        Ok((now.speed != self.speed).then(|| {
            format!(
                "layer {}: kernel '{name}' has another speed now (revision {}, pinned {}): choose again",
                self.layer, now.speed, self.speed
            )
        }))
    }

    fn broken(&self, problem: String) -> Error {
        Error::PinBroken { layer: self.layer.into(), problem }
    }
}
