//! The definition, input-stationary: every input element scales the kernel, and the scaled copies are added at their
//! places (d2l 14.10.1). Frozen: the reference of every history.

use crate::contract::kernel::{Exactness, Guarantees, Kernel, Prepared, Revisions, Specials};
use crate::contract::request::{Cost, Declined, Refusal, Request, Variant, Weights};
use crate::error::Error;
use crate::machine::parallel;
use crate::machine::roofs::Roofs;
use crate::machine::scratch::{Bytes64, Scratch, filled_vec};
use crate::machine::tensor::{Dtype, Element, Tensor, TensorMut};
use crate::microkernels::activation::activate;
use crate::problem::epilogue::Epilogue;
use crate::problem::geometry::Geometry;
use crate::problem::problem::Layout;

/// Naive scatter: works on everything, fast at nothing.
#[derive(Debug, Clone, Copy)]
pub struct Scatter;

const PLAIN: Variant = Variant::named("plain");

impl Kernel for Scatter {
    fn name(&self) -> &'static str {
        "scatter"
    }

    fn summary(&self) -> &'static str {
        "the definition: each input scales the kernel, the copies are added"
    }

    fn revisions(&self) -> Revisions {
        Revisions { numerics: 2, speed: 1 }
    }

    fn guarantees(&self) -> Guarantees {
        Guarantees { exactness: Exactness::Direct, specials: Specials::Exact, allocates_in_run: false }
    }

    fn supports(&self, _: &Request<'_>) -> Result<(), Declined> {
        Ok(())
    }

    fn variants(&self, _: &Request<'_>) -> Vec<Variant> {
        vec![PLAIN]
    }

    fn cost(&self, request: &Request<'_>, _: &Variant) -> Cost {
        let g = request.geometry;
        let (p, multiply_adds) = (g.problem(), g.multiply_adds());
        // One product at a time, through memory; a tap and a row of it take longer to begin. Whatever the machine.
        let taps = p.batch() as f64 * g.weight_len() as f64;
        let rows = taps * g.input()[0] as f64 * g.input()[1] as f64;
        let output = (g.output_len() * request.dtype.size()) as f64;
        Cost {
            nanoseconds: 0.6 * multiply_adds as f64
                + 30.0 * taps
                + 12.0 * rows
                + Roofs::assumed(request.target.isa, request.dtype).dram_ns(output),
            scratch_bytes: 0,
            packed_bytes: g.weight_len() * request.dtype.size(),
            multiply_adds,
        }
    }

    fn prepare(
        &self,
        r: &Request<'_>,
        _: &Variant,
        weights: Weights<'_>,
    ) -> Result<Box<dyn Prepared>, Refusal> {
        Ok(match r.dtype {
            Dtype::F32 => Box::new(PreparedScatter::<f32>::new(r, weights)?),
            Dtype::F64 => Box::new(PreparedScatter::<f64>::new(r, weights)?),
        })
    }
}

#[derive(Debug)]
struct PreparedScatter<T> {
    geometry: Geometry,
    epilogue: Epilogue,
    threads: usize,
    kernel: Vec<T>,
    bias: Vec<T>,
}

impl<T: Element> PreparedScatter<T> {
    fn new(request: &Request<'_>, weights: Weights<'_>) -> Result<Self, Error> {
        let (kernel, bias) = weights.typed::<T>()?;
        let mut prepared = Self {
            geometry: request.geometry.clone(),
            epilogue: request.epilogue,
            threads: request.target.threads,
            kernel: filled_vec("weights", kernel.len(), T::default())?,
            bias: filled_vec("bias", request.geometry.problem().out_channels(), T::default())?,
        };
        prepared.copy(kernel, bias);
        Ok(prepared)
    }

    fn copy(&mut self, kernel: &[T], bias: Option<&[T]>) {
        self.kernel.copy_from_slice(kernel);
        if let Some(bias) = bias {
            self.bias.copy_from_slice(bias);
        }
    }

    /// One output channel of one image: `output[position · stride]`.
    fn channel(&self, input: &[T], output: &mut [T], stride: usize, n: usize, channel: usize) {
        let (g, p) = (&self.geometry, self.geometry.problem());
        let [_, height, width] = g.output();
        let (group, local) = (channel / p.group_out(), channel % p.group_out());
        for y in output.iter_mut().step_by(stride) {
            *y = self.bias[channel];
        }
        let [axis_z, axis_y, axis_x] = g.axes();
        let [depth_taps, height_taps, width_taps] = g.kernel();
        for ci in group * p.group_in()..(group + 1) * p.group_in() {
            for kz in 0..depth_taps {
                for ky in 0..height_taps {
                    for kx in 0..width_taps {
                        let w = self.kernel[g.weight_at(ci, local, [kz, ky, kx])];
                        for iz in axis_z.valid_inputs(kz) {
                            for iy in axis_y.valid_inputs(ky) {
                                let row = axis_z.output_index(iz, kz) * height + axis_y.output_index(iy, ky);
                                for ix in axis_x.valid_inputs(kx) {
                                    let x = input[g.input_at(n, ci, [iz, iy, ix])];
                                    output[(row * width + axis_x.output_index(ix, kx)) * stride] += x * w;
                                }
                            }
                        }
                    }
                }
            }
        }
        for y in output.iter_mut().step_by(stride) {
            activate(self.epilogue.activation, std::slice::from_mut(y));
        }
    }
}

impl<T: Element> Prepared for PreparedScatter<T> {
    fn scratch(&self) -> Scratch {
        Scratch::NONE
    }

    fn run(&self, input: Tensor<'_>, output: TensorMut<'_>, _: &mut [Bytes64]) {
        let input = T::slice(&input).expect("checked by the plan");
        let output = T::slice_mut(output).expect("checked by the plan");
        let (g, channels) = (&self.geometry, self.geometry.problem().out_channels());
        match g.problem().layout() {
            Layout::Nchw => parallel::run_chunks(self.threads, output, g.output_plane(), |i, plane| {
                self.channel(input, plane, 1, i / channels, i % channels);
            }),
            Layout::Nhwc => {
                parallel::run_chunks(self.threads, output, g.output_plane() * channels, |n, image| {
                    for channel in 0..channels {
                        self.channel(input, &mut image[channel..], channels, n, channel);
                    }
                })
            }
        }
    }

    fn repack(&mut self, weights: Weights<'_>) -> Result<(), Refusal> {
        let (kernel, bias) = weights.typed::<T>()?;
        self.copy(kernel, bias);
        Ok(())
    }
}
