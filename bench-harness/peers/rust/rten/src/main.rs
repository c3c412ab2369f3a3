//! rten's operator, with the buffer pool of its model runner: outputs go back to it.

use peer_base::{Library, Operator, Problem, Refusal, Tensors, declined, failed, serve, version_of};
use rten::{BufferPool, ThreadPool, ops};
use rten_tensor::prelude::*;
use rten_tensor::{NdTensor, Tensor};

struct Rten {
    threads: usize,
}

impl Library for Rten {
    fn name(&self) -> &str {
        "rten"
    }
    fn version(&self) -> String {
        version_of("rten")
    }
    fn threads(&mut self, n: usize) -> usize {
        self.threads = n;
        n
    }
    fn prepare(&mut self, problem: &Problem, tensors: Tensors) -> Result<Box<dyn Operator>, Refusal> {
        if problem.input.len() > 2 {
            return declined("no 3-D operator");
        }
        let mut up = Up {
            input: Tensor::from_data(&problem.input_shape(), tensors.input),
            weights: Tensor::from_data(&problem.weight_shape(), tensors.weights),
            bias: tensors.bias.map(|bias| NdTensor::from_data([problem.out_channels], bias)),
            problem: problem.clone(),
            threads: ThreadPool::with_num_threads(self.threads),
            buffers: BufferPool::new(),
            output: None,
        };
        // Whether it takes the problem shows when it runs.
        up.run().map_err(failed)?;
        Ok(Box::new(up))
    }
}

struct Up {
    problem: Problem,
    input: Tensor,
    weights: Tensor,
    bias: Option<NdTensor<f32, 1>>,
    threads: ThreadPool,
    buffers: BufferPool,
    output: Option<Tensor>,
}

impl Operator for Up {
    fn run(&mut self) -> Result<(), String> {
        if let Some(output) = self.output.take() {
            self.buffers.add(output.into_data());
        }
        let (p, input, weights, bias) = (&self.problem, &self.input, &self.weights, &self.bias);
        let padding = ops::Padding::Fixed([&p.padding_begin[..], &p.padding_end[..]].concat().into());
        let buffers = &self.buffers;
        let result = self.threads.run(|| {
            ops::conv_transpose(
                buffers,
                input.view(),
                weights.view(),
                bias.as_ref().map(|b| b.view()),
                padding,
                p.groups,
                &p.stride,
                &p.dilation,
                Some(&p.output_padding),
            )
        });
        self.output = Some(result.map_err(|e| format!("{e:?}"))?);
        Ok(())
    }

    fn output(&mut self) -> Result<Vec<f32>, String> {
        self.output.as_ref().map(|y| y.to_vec()).ok_or_else(|| "it did not run".into())
    }
}

fn main() {
    serve(Rten { threads: 1 });
}
