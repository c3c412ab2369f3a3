//! Output-stationary: every output element collects the products that land on it, phase by phase.

use tconv::machine::parallel;
use tconv::machine::scratch::filled_vec;
use tconv::microkernels::activation::activate;
use tconv::problem::geometry::Phase;
use tconv::{
    Bytes64, Cost, Declined, Dtype, Element, Epilogue, Exactness, Geometry, Guarantees, Kernel, Layout,
    Prepared, Refusal, Request, Revisions, Scratch, Specials, Tensor, TensorMut, Variant, Weights,
};

/// The kernel: stateless, so one constant serves every registry.
#[derive(Debug)]
pub struct Gather;

impl Kernel for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn summary(&self) -> &'static str {
        "each output collects its products; nothing is written twice"
    }

    fn revisions(&self) -> Revisions {
        Revisions { numerics: 2, speed: 1 }
    }

    fn guarantees(&self) -> Guarantees {
        // Only pairs that land inside the output are multiplied: no inserted zero ever meets a NaN.
        Guarantees { exactness: Exactness::Direct, specials: Specials::Exact, allocates_in_run: false }
    }

    fn supports(&self, _: &Request<'_>) -> Result<(), Declined> {
        Ok(())
    }

    fn variants(&self, _: &Request<'_>) -> Vec<Variant> {
        vec![Variant::named("plain")]
    }

    fn cost(&self, request: &Request<'_>, _: &Variant) -> Cost {
        let (g, multiply_adds) = (request.geometry, request.geometry.multiply_adds());
        Cost {
            // One product at a time, and the search for the taps of every output.
            nanoseconds: 2.0 * multiply_adds as f64 + 10.0 * g.output_len() as f64,
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
            Dtype::F32 => Box::new(PreparedGather::<f32>::new(r, weights)?),
            Dtype::F64 => Box::new(PreparedGather::<f64>::new(r, weights)?),
        })
    }
}

#[derive(Debug)]
struct PreparedGather<T> {
    geometry: Geometry,
    epilogue: Epilogue,
    threads: usize,
    kernel: Vec<T>,
    /// One value for each output channel; zeros without a bias.
    bias: Vec<T>,
}

impl<T: Element> PreparedGather<T> {
    fn new(request: &Request<'_>, weights: Weights<'_>) -> Result<Self, Refusal> {
        let mut prepared = Self {
            geometry: request.geometry.clone(),
            epilogue: request.epilogue,
            threads: request.target.threads,
            kernel: Vec::new(),
            bias: Vec::new(),
        };
        prepared.repack(weights)?;
        Ok(prepared)
    }

    /// Output element q of the phases (z, y, x): the sum over input channels and over the taps that meet the input.
    fn sum(&self, input: &[T], n: usize, channel: usize, phases: [&Phase; 3], q: [usize; 3]) -> T {
        let (g, p) = (&self.geometry, self.geometry.problem());
        let (group, local) = (channel / p.group_out(), channel % p.group_out());
        let [taps_z, taps_y, taps_x] = [0, 1, 2].map(|a| phases[a].valid_taps(q[a]));
        let mut sum = self.bias[channel];
        for ci in group * p.group_in()..(group + 1) * p.group_in() {
            for mz in taps_z.clone() {
                for my in taps_y.clone() {
                    for mx in taps_x.clone() {
                        let m = [mz, my, mx];
                        // Inside the input: that is what `valid_taps` says.
                        let at = [0, 1, 2].map(|a| phases[a].input_index(q[a], m[a]) as usize);
                        let tap = [0, 1, 2].map(|a| phases[a].tap(m[a]));
                        sum += input[g.input_at(n, ci, at)] * self.kernel[g.weight_at(ci, local, tap)];
                    }
                }
            }
        }
        sum
    }

    /// One output channel of one image; its elements lie `step` apart in `output`.
    fn channel(&self, input: &[T], output: &mut [T], step: usize, n: usize, channel: usize) {
        let g = &self.geometry;
        let [axis_z, axis_y, axis_x] = g.axes();
        let [_, height, width] = g.output();
        let [stride_z, stride_y, stride_x] = g.problem().axes().map(|a| a.stride);
        for z in &axis_z.phases {
            for y in &axis_y.phases {
                for x in &axis_x.phases {
                    for qz in 0..z.outputs {
                        for qy in 0..y.outputs {
                            let row =
                                (z.first_output + qz * stride_z) * height + y.first_output + qy * stride_y;
                            for qx in 0..x.outputs {
                                let mut value = [self.sum(input, n, channel, [z, y, x], [qz, qy, qx])];
                                activate(self.epilogue.activation, &mut value);
                                output[(row * width + x.first_output + qx * stride_x) * step] = value[0];
                            }
                        }
                    }
                }
            }
        }
    }
}

impl<T: Element> Prepared for PreparedGather<T> {
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
        let mut packed = filled_vec("weights", kernel.len(), T::default())?;
        packed.copy_from_slice(kernel);
        let mut values = filled_vec("bias", self.geometry.problem().out_channels(), T::default())?;
        if let Some(bias) = bias {
            values.copy_from_slice(bias);
        }
        (self.kernel, self.bias) = (packed, values);
        Ok(())
    }
}
