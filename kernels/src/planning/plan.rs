//! What a user runs: a typed façade that checks lengths once, then executes.

use std::marker::PhantomData;

use crate::contract::kernel::{Guarantees, Kernel, Prepared};
use crate::contract::request::{Refusal, Variant, Weights};
use crate::error::{Error, expect_len};
use crate::machine::scratch::{Bytes64, Scratch};
use crate::machine::tensor::Element;
use crate::planning::choice::{Choice, ChosenBy};
use crate::planning::planner::check_weights;
use crate::problem::epilogue::Epilogue;
use crate::problem::geometry::Geometry;

/// A prepared transposed convolution: packed weights, a fixed kernel, reusable and shareable.
pub struct Plan<T> {
    geometry: Geometry,
    epilogue: Epilogue,
    kernel: &'static dyn Kernel,
    variant: Variant,
    choice: Choice,
    prepared: Box<dyn Prepared>,
    element: PhantomData<fn(T) -> T>,
}

impl<T> std::fmt::Debug for Plan<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan")
            .field("kernel", &self.kernel.name())
            .field("variant", &self.variant)
            .field("choice", &self.choice)
            .field("problem", self.geometry.problem())
            .field("prepared", &self.prepared)
            .finish()
    }
}

impl<T: Element> Plan<T> {
    pub(super) fn new(
        geometry: Geometry,
        epilogue: Epilogue,
        kernel: &'static dyn Kernel,
        variant: Variant,
        choice: Choice,
        prepared: Box<dyn Prepared>,
    ) -> Self {
        Self { geometry, epilogue, kernel, variant, choice, prepared, element: PhantomData }
    }

    /// The same, chosen by a pin.
    pub(super) fn pinned(mut self, warning: Option<String>) -> Self {
        self.choice.by = ChosenBy::Pin;
        self.choice.warnings.extend(warning);
        self
    }

    /// The kernel's name.
    pub fn name(&self) -> &'static str {
        self.kernel.name()
    }

    /// The kernel's variant.
    pub fn variant(&self) -> &Variant {
        &self.variant
    }

    /// What the kernel promises.
    pub fn guarantees(&self) -> Guarantees {
        self.kernel.guarantees()
    }

    /// Who chose the kernel, what was expected of it, and what its user should know.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// Sizes and lengths.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// What [`Plan::execute_with`] needs.
    pub fn scratch(&self) -> Scratch {
        self.prepared.scratch()
    }

    /// Computes the output; allocates the scratch. Reuse it with [`Plan::execute_with`] where that matters.
    pub fn execute(&self, input: &[T], output: &mut [T]) -> Result<(), Error> {
        self.check(input, output)?;
        let mut scratch = self.scratch().allocate()?;
        self.prepared.run(T::tensor(input), T::tensor_mut(output), &mut scratch);
        Ok(())
    }

    /// Computes the output with the caller's scratch, which may be dirty; every output element is written, none is read.
    pub fn execute_with(&self, input: &[T], output: &mut [T], scratch: &mut [Bytes64]) -> Result<(), Error> {
        self.check(input, output)?;
        let needed = self.scratch().units();
        if scratch.len() < needed {
            return Err(Error::BufferLenMismatch { which: "scratch", got: scratch.len(), expected: needed });
        }
        self.prepared.run(T::tensor(input), T::tensor_mut(output), scratch);
        Ok(())
    }

    /// Takes new weights of the same shape. When they are refused, the plan keeps the old ones.
    pub fn repack(&mut self, weights: Weights<'_>) -> Result<(), Error> {
        check_weights::<T>(&self.geometry, &weights, self.epilogue)?;
        self.prepared.repack(weights).map_err(|refusal| match refusal {
            Refusal::Error(error) => error,
            Refusal::Declined(d) => Error::NoKernel { reasons: format!("{}: {d}", self.kernel.name()) },
        })
    }

    fn check(&self, input: &[T], output: &[T]) -> Result<(), Error> {
        expect_len("input", input.len(), self.geometry.input_len())?;
        expect_len("output", output.len(), self.geometry.output_len())
    }
}
