//! candle on the processor. Threads: RAYON_NUM_THREADS, which the harness sets.

use candle_core::{Device, Tensor, utils};
use peer_base::{Library, Operator, Problem, Refusal, Tensors, declined, failed, serve, version_of};

struct Candle;

impl Library for Candle {
    fn name(&self) -> &str {
        "candle"
    }
    fn version(&self) -> String {
        version_of("candle-core")
    }
    fn threads(&mut self, _: usize) -> usize {
        utils::get_num_threads()
    }
    fn prepare(&mut self, problem: &Problem, tensors: Tensors) -> Result<Box<dyn Operator>, Refusal> {
        let rank = problem.input.len();
        if rank > 2 {
            return declined("no 3-D operator");
        }
        if rank == 2 && problem.groups > 1 {
            return declined("no groups in 2-D");
        }
        let (padding, more) = problem.one_padding()?;
        let mut numbers = [&problem.stride, &problem.dilation, &padding, &more].into_iter();
        if numbers.any(|values| values.iter().any(|v| *v != values[0])) {
            return declined("one stride, dilation and padding for both axes");
        }
        let new = |data, shape: &[usize]| Tensor::from_vec(data, shape, &Device::Cpu).map_err(failed);
        let bias_shape = [&[1, problem.out_channels][..], &vec![1; rank]].concat();
        Ok(Box::new(Up {
            input: new(tensors.input, &problem.input_shape())?,
            weights: new(tensors.weights, &problem.weight_shape())?,
            bias: tensors.bias.map(|bias| new(bias, &bias_shape)).transpose()?,
            numbers: [padding[0], more[0], problem.stride[0], problem.dilation[0], problem.groups],
            output: None,
        }))
    }
}

struct Up {
    input: Tensor,
    weights: Tensor,
    bias: Option<Tensor>,
    numbers: [usize; 5],
    output: Option<Tensor>,
}

impl Up {
    fn up(&self) -> candle_core::Result<Tensor> {
        let [padding, more, stride, dilation, groups] = self.numbers;
        let output = match self.input.rank() {
            3 => self.input.conv_transpose1d(&self.weights, padding, more, stride, dilation, groups)?,
            _ => self.input.conv_transpose2d(&self.weights, padding, more, stride, dilation)?,
        };
        match &self.bias {
            Some(bias) => output.broadcast_add(bias),
            None => Ok(output),
        }
    }
}

impl Operator for Up {
    fn run(&mut self) -> Result<(), String> {
        self.output = None;
        self.output = Some(self.up().map_err(|e| e.to_string())?);
        Ok(())
    }

    fn output(&mut self) -> Result<Vec<f32>, String> {
        let output = self.output.as_ref().ok_or("it did not run")?;
        output.flatten_all().and_then(|y| y.to_vec1()).map_err(|e| e.to_string())
    }
}

fn main() {
    serve(Candle);
}
