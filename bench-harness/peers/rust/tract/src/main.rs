//! tract: a model of one deconvolution, optimised.

use peer_base::{Library, Operator, Problem, Refusal, Tensors, failed, serve, version_of};
use tract_core::internal::*;
use tract_core::ops::cnn::{Deconv, KernelFormat, PaddingSpec, PoolSpec};
use tract_core::ops::nn::DataFormat;
use tract_linalg::multithread::{Executor, set_default_executor};

struct Tract;

impl Library for Tract {
    fn name(&self) -> &str {
        "tract"
    }
    fn version(&self) -> String {
        version_of("tract-core")
    }
    fn threads(&mut self, n: usize) -> usize {
        if n > 1 {
            set_default_executor(Executor::multithread(n));
        }
        n
    }
    fn prepare(&mut self, problem: &Problem, tensors: Tensors) -> Result<Box<dyn Operator>, Refusal> {
        Ok(Box::new(up(problem, tensors).map_err(failed)?))
    }
}

fn up(problem: &Problem, tensors: Tensors) -> TractResult<Up> {
    let (groups, cout) = (problem.groups, problem.out_channels);
    let weights = outputs_first(problem, &tensors.weights);
    let shape = [&[cout, problem.in_channels / groups], &problem.kernel[..]].concat();
    let mut model = TypedModel::default();
    let x = model.add_source("x", f32::fact(problem.input_shape()))?;
    let w = model.add_const("w", Tensor::from_shape(&shape, &weights)?)?;
    let bias = match &tensors.bias {
        Some(bias) => tensor1(bias),
        None => Tensor::zero_scalar::<f32>()?,
    };
    let b = model.add_const("b", bias)?;
    let pool = PoolSpec::new(
        DataFormat::NCHW,
        problem.kernel.clone().into(),
        PaddingSpec::Explicit(problem.padding_begin.clone().into(), problem.padding_end.clone().into()),
        Some(problem.dilation.clone().into()),
        Some(problem.stride.clone().into()),
        problem.in_channels,
        cout,
    );
    let op = Deconv::new(pool, KernelFormat::OIHW, problem.output_padding.clone().into(), groups);
    let y = model.wire_node("up", op, &[x, w, b])?;
    model.select_output_outlets(&y)?;
    let plan = model.into_optimized()?.into_runnable()?;
    let input = Tensor::from_shape(&problem.input_shape(), &tensors.input)?.into_tvalue();
    Ok(Up { state: plan.spawn()?, input, output: None })
}

/// `[Cin, Cout/groups, kernel…]` to `[Cout, Cin/groups, kernel…]`.
fn outputs_first(problem: &Problem, weights: &[f32]) -> Vec<f32> {
    let (inputs, outputs) = (problem.in_channels / problem.groups, problem.out_channels / problem.groups);
    let taps: usize = problem.kernel.iter().product();
    let mut turned = Vec::with_capacity(weights.len());
    for group in 0..problem.groups {
        for output in 0..outputs {
            for input in 0..inputs {
                let at = ((group * inputs + input) * outputs + output) * taps;
                turned.extend_from_slice(&weights[at..at + taps]);
            }
        }
    }
    turned
}

struct Up {
    state: TypedSimpleState,
    input: TValue,
    output: Option<TVec<TValue>>,
}

impl Operator for Up {
    fn run(&mut self) -> Result<(), String> {
        self.output = None;
        self.output = Some(self.state.run(tvec!(self.input.clone())).map_err(|e| format!("{e:#}"))?);
        Ok(())
    }

    fn output(&mut self) -> Result<Vec<f32>, String> {
        let output = self.output.as_ref().ok_or("it did not run")?;
        let view = output[0].to_plain_array_view::<f32>().map_err(|e| format!("{e:#}"))?;
        Ok(view.iter().copied().collect())
    }
}

fn main() {
    serve(Tract);
}
