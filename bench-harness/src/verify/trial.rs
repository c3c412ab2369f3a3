//! One kernel on one target: every way of running it that must give the same bits.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tconv::{
    Bytes64, Cost, Declined, Element, Error, Geometry, Isa, Kernel, Layout, Plan, Planner, Request, Target,
    Variant, WeightFacts, Weights,
};

use super::Options;
use super::case::Material;
use super::judge::place;
use crate::data::{cast, from_layout, to_layout};

/// The inputs of a case in one type and layout.
#[derive(Debug)]
pub struct Stage<T> {
    geometry: Geometry,
    epilogue: tconv::Epilogue,
    input: Vec<T>,
    kernel: Vec<T>,
    bias: Option<Vec<T>>,
}

impl<T: Element> Stage<T> {
    /// Converts them.
    pub fn new(material: &Material<'_>, layout: Layout) -> Self {
        let nchw = &material.geometry;
        let problem = nchw.problem().with_layout(layout);
        let tensors = &material.tensors;
        Self {
            geometry: Geometry::new(&problem).expect("the same sizes as in NCHW"),
            epilogue: material.case.epilogue,
            input: to_layout(cast(&tensors.input), layout, problem.in_channels(), nchw.input_plane()),
            kernel: cast(&tensors.weights),
            bias: tensors.bias.as_deref().map(cast),
        }
    }

    /// Its layout.
    pub fn layout(&self) -> Layout {
        self.geometry.problem().layout()
    }

    fn weights(&self) -> Weights<'_> {
        let weights = Weights::new(&self.kernel);
        match &self.bias {
            Some(bias) => weights.with_bias(bias),
            None => weights,
        }
    }
}

/// A kernel on a stage.
#[derive(Clone, Copy)]
pub struct Trial<'a, T> {
    /// What runs.
    pub kernel: &'static dyn Kernel,
    /// With these instructions.
    pub isa: Isa,
    /// On these numbers of threads.
    pub options: &'a Options,
    /// On this.
    pub stage: &'a Stage<T>,
}

/// How running ended that did not fail.
#[derive(Debug)]
pub enum Ran<T> {
    /// The output in NCHW.
    Output(Vec<T>),
    /// After a look at the weights.
    Declined(String),
}

impl<T: Element> Trial<'_, T> {
    /// The variants to run with what they predict, the advised one first, or why there is none.
    pub fn variants(&self) -> Result<Vec<(Variant, Cost)>, Declined> {
        let facts = WeightFacts::scan(&self.stage.geometry, T::tensor(&self.stage.kernel))
            .map_err(|error| Declined::because(error.to_string()))?;
        let request = Request {
            geometry: &self.stage.geometry,
            dtype: T::DTYPE,
            epilogue: self.stage.epilogue,
            accuracy: self.options.accuracy,
            target: Target { isa: self.isa, threads: self.options.threads[0] },
            weights: Some(facts),
        };
        self.kernel.guarantees().allowed_by(request.accuracy)?;
        self.kernel.supports(&request)?;
        let mut variants = self.kernel.variants(&request);
        if !self.options.all_variants {
            variants.truncate(1);
        }
        let cost = |v: &Variant| self.kernel.cost(&request, v);
        Ok(variants.into_iter().map(|v| (v.clone(), cost(&v))).collect())
    }

    /// Runs one variant on every number of threads, each on a NaN-filled output with NaN-filled scratch; light work also a
    /// second time on a finite output with dirty scratch, and a third time after a change of weights and back. All must
    /// agree in every bit.
    pub fn run(&self, variant: &Variant, light: bool) -> Result<Ran<T>, String> {
        catch_unwind(AssertUnwindSafe(|| self.run_all(variant, light))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(format!("panicked: {text}"))
        })
    }

    fn run_all(&self, variant: &Variant, light: bool) -> Result<Ran<T>, String> {
        let stage = self.stage;
        let nan = T::from_f64(f64::NAN);
        let mut reference: Option<Vec<T>> = None;
        for &threads in &self.options.threads {
            let planner = Planner::new()
                .with_registry(self.options.registry.clone())
                .on(Target { isa: self.isa, threads })
                .accuracy(self.options.accuracy)
                .only(self.kernel.name(), Some(variant.name()));
            let planned = planner.plan::<T>(stage.geometry.problem(), stage.weights(), stage.epilogue);
            let mut plan = match planned {
                Ok(plan) => plan,
                Err(Error::NoKernel { reasons }) => return Ok(Ran::Declined(reasons)),
                Err(error) => return Err(format!("cannot be planned: {error}")),
            };
            let mut scratch = plan.scratch().allocate().map_err(|e| e.to_string())?;
            bytemuck::cast_slice_mut::<Bytes64, u8>(&mut scratch).fill(0xFF); // NaN in either type
            let mut output = vec![nan; stage.geometry.output_len()];
            execute(&plan, stage, &mut output, &mut scratch)?;
            let first = reference.get_or_insert_with(|| output.clone());
            self.same(first, &output, || format!("on {threads} threads"))?;
            // Heavy work has its second run on the other number of threads, if there is one.
            if light || self.options.threads.len() == 1 {
                output.fill(T::from_f64(1.0));
                execute(&plan, stage, &mut output, &mut scratch)?;
                self.same(first, &output, || "in a second run of the same plan".into())?;
            }
            if light {
                repack(&mut plan, stage)?;
                output.fill(nan);
                execute(&plan, stage, &mut output, &mut scratch)?;
                self.same(first, &output, || "after other weights and these again".into())?;
            }
        }
        let output = reference.unwrap_or_default();
        let g = &stage.geometry;
        Ok(Ran::Output(from_layout(output, stage.layout(), g.problem().out_channels(), g.output_plane())))
    }

    fn same(&self, first: &[T], output: &[T], when: impl Fn() -> String) -> Result<(), String> {
        if bytemuck::cast_slice::<T, u8>(first) == bytemuck::cast_slice::<T, u8>(output) {
            return Ok(());
        }
        let bits = |v: &T| v.to_f64().to_bits();
        let at = first.iter().zip(output).position(|(a, b)| bits(a) != bits(b)).unwrap_or(0);
        let nchw = match self.stage.layout() {
            Layout::Nchw => at,
            Layout::Nhwc => {
                let channels = self.stage.geometry.problem().out_channels();
                let plane = self.stage.geometry.output_plane();
                let (image, inside) = (at / (channels * plane), at % (channels * plane));
                (image * channels + inside % channels) * plane + inside / channels
            }
        };
        let hint = if first[at].to_f64().is_nan() { " (was it never written?)" } else { "" };
        Err(format!(
            "other bits {}{hint}: {:e} instead of {:e} {}",
            when(),
            output[at].to_f64(),
            first[at].to_f64(),
            place(&self.stage.geometry, nchw)
        ))
    }
}

fn execute<T: Element>(
    plan: &Plan<T>,
    stage: &Stage<T>,
    output: &mut [T],
    scratch: &mut [Bytes64],
) -> Result<(), String> {
    plan.execute_with(&stage.input, output, scratch).map_err(|e| format!("cannot be run: {e}"))
}

/// Gives the plan other weights, then its own again. A kernel may refuse the others (they differ in what it looks
/// at); it may not refuse what it was planned with.
fn repack<T: Element>(plan: &mut Plan<T>, stage: &Stage<T>) -> Result<(), String> {
    let kernel: Vec<T> = stage.kernel.iter().rev().copied().collect();
    let bias: Option<Vec<T>> = stage.bias.as_ref().map(|b| vec![T::from_f64(1.0); b.len()]);
    let other = Weights::new(&kernel);
    let other = match &bias {
        Some(bias) => other.with_bias(bias),
        None => other,
    };
    let _ = plan.repack(other);
    plan.repack(stage.weights()).map_err(|e| format!("cannot be repacked with its own weights: {e}"))
}
