//! burn's processor backend, flex. Threads: RAYON_NUM_THREADS, which the harness sets.

use burn_backend::ops::{ConvTransposeOptions, FloatTensorOps, ModuleOps};
use burn_backend::{TensorData, read_sync};
use burn_flex::{Flex, FlexDevice, FlexTensor};
use peer_base::{Library, Operator, Problem, Refusal, Tensors, serve, version_of};

struct Burn;

impl Library for Burn {
    fn name(&self) -> &str {
        "burn-flex"
    }
    fn version(&self) -> String {
        version_of("burn-flex")
    }
    fn threads(&mut self, n: usize) -> usize {
        let set = std::env::var("RAYON_NUM_THREADS").ok().and_then(|text| text.parse().ok());
        set.unwrap_or(n)
    }
    fn prepare(&mut self, problem: &Problem, tensors: Tensors) -> Result<Box<dyn Operator>, Refusal> {
        let (padding, more) = problem.one_padding()?;
        let new = |data, shape: Vec<usize>| Flex::float_from_data(TensorData::new(data, shape), &FlexDevice);
        Ok(Box::new(Up {
            input: new(tensors.input, problem.input_shape()),
            weights: new(tensors.weights, problem.weight_shape()),
            bias: tensors.bias.map(|bias| new(bias, vec![problem.out_channels])),
            problem: problem.clone(),
            padding,
            more,
            output: None,
        }))
    }
}

struct Up {
    problem: Problem,
    padding: Vec<usize>,
    more: Vec<usize>,
    input: FlexTensor,
    weights: FlexTensor,
    bias: Option<FlexTensor>,
    output: Option<FlexTensor>,
}

impl Up {
    fn options<const N: usize>(&self) -> ConvTransposeOptions<N> {
        let p = &self.problem;
        let each = |values: &[usize]| std::array::from_fn(|axis| values[axis]);
        ConvTransposeOptions::new(each(&p.stride), each(&self.padding), each(&self.more), each(&p.dilation), p.groups)
    }
}

impl Operator for Up {
    fn run(&mut self) -> Result<(), String> {
        self.output = None;
        let (x, w, b) = (self.input.clone(), self.weights.clone(), self.bias.clone());
        self.output = Some(match self.problem.input.len() {
            1 => Flex::conv_transpose1d(x, w, b, self.options()),
            2 => Flex::conv_transpose2d(x, w, b, self.options()),
            _ => Flex::conv_transpose3d(x, w, b, self.options()),
        });
        Ok(())
    }

    fn output(&mut self) -> Result<Vec<f32>, String> {
        let output = self.output.clone().ok_or("it did not run")?;
        let data = read_sync(Flex::float_into_data(output)).map_err(|e| format!("{e:?}"))?;
        data.try_to_vec().map_err(|e| format!("{e:?}"))
    }
}

fn main() {
    serve(Burn);
}
