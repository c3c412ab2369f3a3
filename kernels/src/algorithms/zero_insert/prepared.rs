//! Packed weights and the run: for every task patches, one product, then bias and activation into the output.

use std::ops::Range;

use super::{Blocks, scan};
use crate::contract::kernel::Prepared;
use crate::contract::request::{Refusal, Request, Weights};
use crate::error::Error;
use crate::machine::parallel::{self, SharedOutput};
use crate::machine::scratch::{AlignedVec, Bytes64, Scratch, filled_vec};
use crate::machine::tensor::{Tensor, TensorMut};
use crate::microkernels::activation::activate;
use crate::microkernels::matmul::{MatMul, Matrix, multiply};
use crate::problem::epilogue::Epilogue;
use crate::problem::geometry::Geometry;
use crate::problem::problem::Layout;

#[derive(Debug)]
pub(super) struct PreparedZeroInsert<T> {
    geometry: Geometry,
    epilogue: Epilogue,
    blocks: Blocks,
    /// For every group `[co][ci][taps]` (NCHW) or `[taps][ci][co]` (NHWC). Patches name every tap by what it reads, so
    /// the flip of the kernel is in them.
    packed: AlignedVec<T>,
    bias: Vec<T>,
}

impl<T: MatMul> PreparedZeroInsert<T> {
    pub(super) fn new(request: &Request<'_>, weights: Weights<'_>) -> Result<Self, Error> {
        let geometry = request.geometry.clone();
        let mut prepared = Self {
            epilogue: request.epilogue,
            blocks: Blocks::new(&geometry, request.target.threads),
            packed: AlignedVec::zeroed("packed weights", geometry.weight_len())?,
            bias: filled_vec("bias", geometry.problem().out_channels(), T::default())?,
            geometry,
        };
        prepared.pack(weights)?;
        Ok(prepared)
    }

    fn pack(&mut self, weights: Weights<'_>) -> Result<(), Error> {
        let (kernel, bias) = weights.typed::<T>()?;
        let (p, taps) = (*self.geometry.problem(), self.geometry.kernel_taps());
        let (inputs, outputs) = (p.group_in(), p.group_out());
        let (group, channel, input, tap) = match p.layout() {
            Layout::Nchw => (inputs * outputs * taps, inputs * taps, taps, 1),
            Layout::Nhwc => (inputs * outputs * taps, 1, outputs, inputs * outputs),
        };
        for (i, of_pair) in kernel.chunks_exact(taps).enumerate() {
            let (ci, c) = (i / outputs, i % outputs);
            let start = ci / inputs * group + c * channel + ci % inputs * input;
            for (k, &w) in of_pair.iter().enumerate() {
                self.packed[start + k * tap] = w;
            }
        }
        if let Some(bias) = bias {
            self.bias.copy_from_slice(bias);
        }
        Ok(())
    }

    /// What every tap reads, for the output pixels `block` of image `n`, from the input channels of a group: zero, except
    /// where an input element stands.
    fn fill(&self, input: &[T], n: usize, group: usize, block: Range<usize>, patches: &mut [T]) {
        let (g, p) = (&self.geometry, self.geometry.problem());
        let (pixels, channels, taps) = (block.len(), p.group_in(), g.kernel_taps());
        let first = group * channels;
        let stride = g.axes()[2].axis.stride;
        patches.fill(T::default());
        self.landings(block, |tap, [iz, iy], inputs, pixel| match p.layout() {
            Layout::Nchw => {
                for c in 0..channels {
                    let from = g.input_at(n, first + c, [iz, iy, inputs.start]);
                    let row = &mut patches[(c * taps + tap) * pixels..][..pixels];
                    let to = row[pixel..].iter_mut().step_by(stride);
                    to.zip(&input[from..][..inputs.len()]).for_each(|(to, &x)| *to = x);
                }
            }
            Layout::Nhwc => {
                for (i, ix) in inputs.enumerate() {
                    let from = g.input_at(n, first, [iz, iy, ix]);
                    let to = ((pixel + i * stride) * taps + tap) * channels;
                    patches[to..][..channels].copy_from_slice(&input[from..][..channels]);
                }
            }
        });
    }

    /// For every tap and every part of an output row inside `block`: the inputs of one row that tap brings there. The
    /// visitor gets the tap's number, the input row, the range of inputs, and the place of the first within the block;
    /// the others follow at distance S.
    fn landings(&self, block: Range<usize>, mut visit: impl FnMut(usize, [usize; 2], Range<usize>, usize)) {
        let [axis_z, axis_y, axis_x] = self.geometry.axes();
        let ([_, height, width], [taps_z, taps_y, taps_x]) = (self.geometry.output(), self.geometry.kernel());
        for row in block.start / width..block.end.div_ceil(width) {
            let (z, y) = (row / height, row % height);
            let begin = block.start.max(row * width);
            let outputs = begin - row * width..block.end.min((row + 1) * width) - row * width;
            for kz in 0..taps_z {
                let Some(iz) = axis_z.inputs_landing_in(kz, z..z + 1).next() else { continue };
                for ky in 0..taps_y {
                    let Some(iy) = axis_y.inputs_landing_in(ky, y..y + 1).next() else { continue };
                    for kx in 0..taps_x {
                        let inputs = axis_x.inputs_landing_in(kx, outputs.clone());
                        if !inputs.is_empty() {
                            let at = row * width + axis_x.output_index(inputs.start, kx) - block.start;
                            visit((kz * taps_y + ky) * taps_x + kx, [iz, iy], inputs, at);
                        }
                    }
                }
            }
        }
    }

    /// `result = weights · patches` for one group, in the order of the layout.
    fn product(&self, group: usize, pixels: usize, patches: &[T], result: &mut [T]) {
        let Blocks { depth, channels, .. } = self.blocks;
        let w = &self.packed[group * depth * channels..][..depth * channels];
        match self.geometry.problem().layout() {
            Layout::Nchw => {
                let (w, patches) = (Matrix::rows_of(w, depth), Matrix::rows_of(patches, pixels));
                multiply([channels, depth, pixels], w, patches, result);
            }
            Layout::Nhwc => {
                let (patches, w) = (Matrix::rows_of(patches, depth), Matrix::rows_of(w, channels));
                multiply([pixels, depth, channels], patches, w, result);
            }
        }
    }

    /// Adds the bias, activates, and copies into the output.
    ///
    /// # Safety
    /// Nobody else reads or writes these pixels of this image and group meanwhile.
    unsafe fn store(
        &self,
        n: usize,
        group: usize,
        block: Range<usize>,
        result: &mut [T],
        output: SharedOutput<'_, T>,
    ) {
        let (g, p) = (&self.geometry, self.geometry.problem());
        let first = group * p.group_out();
        let bias = &self.bias[first..first + p.group_out()];
        let activation = self.epilogue.activation;
        match p.layout() {
            Layout::Nchw => {
                for (c, row) in result.chunks_exact_mut(block.len()).enumerate() {
                    row.iter_mut().for_each(|y| *y += bias[c]);
                    activate(activation, row);
                    let at = g.output_at(n, first + c, [0; 3]) + block.start;
                    // SAFETY: a part of one channel; exclusive by the caller's promise.
                    unsafe { output.slice_mut(at, row.len()) }.copy_from_slice(row);
                }
            }
            Layout::Nhwc => {
                for (pixel, row) in block.zip(result.chunks_exact_mut(bias.len())) {
                    row.iter_mut().zip(bias).for_each(|(y, &b)| *y += b);
                    activate(activation, row);
                    let at = g.output_at(n, first, [0; 3]) + pixel * p.out_channels();
                    // SAFETY: the group's channels of one pixel; exclusive by the caller's promise.
                    unsafe { output.slice_mut(at, row.len()) }.copy_from_slice(row);
                }
            }
        }
    }

    fn slot_len(&self) -> usize {
        usize::try_from(self.blocks.slot_len()).expect("within the limit that `supports` checks")
    }
}

impl<T: MatMul> Prepared for PreparedZeroInsert<T> {
    fn scratch(&self) -> Scratch {
        Scratch::slots::<T>(self.blocks.slots, self.slot_len())
    }

    fn run(&self, input: Tensor<'_>, output: TensorMut<'_>, scratch: &mut [Bytes64]) {
        let input = T::slice(&input).expect("checked by the plan");
        let output = SharedOutput::new(T::slice_mut(output).expect("checked by the plan"));
        let Blocks { depth, count, channels, .. } = self.blocks;
        let groups = self.geometry.problem().groups();
        let Blocks { slots, tasks, .. } = self.blocks;
        parallel::run_scratch(slots, scratch, self.slot_len(), tasks, |slot: &mut [T], task| {
            let (n, group, block) = (task / (groups * count), task / count % groups, task % count);
            let begin = block * self.blocks.pixels;
            let block = begin..self.geometry.output_plane().min(begin + self.blocks.pixels);
            let (patches, result) = slot.split_at_mut(depth * self.blocks.pixels);
            let patches = &mut patches[..depth * block.len()];
            let result = &mut result[..channels * block.len()];
            self.fill(input, n, group, block.clone(), patches);
            self.product(group, block.len(), patches, result);
            // SAFETY: tasks have different images, groups or pixels.
            unsafe { self.store(n, group, block, result, output) };
        });
    }

    fn repack(&mut self, weights: Weights<'_>) -> Result<(), Refusal> {
        scan(weights.kernel)?;
        Ok(self.pack(weights)?)
    }
}
