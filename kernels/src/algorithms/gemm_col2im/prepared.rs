//! Packed weights and the run: for every task one product, then col2im.

use super::col2im::Col2im;
use super::{Split, live_taps};
use crate::contract::kernel::Prepared;
use crate::contract::request::{Refusal, Request, Weights};
use crate::error::Error;
use crate::machine::parallel::{self, SharedOutput};
use crate::machine::scratch::{AlignedVec, Bytes64, Scratch, filled_vec};
use crate::machine::tensor::{Tensor, TensorMut};
use crate::microkernels::matmul::{MatMul, Matrix, multiply};
use crate::problem::epilogue::Epilogue;
use crate::problem::geometry::Geometry;
use crate::problem::problem::Layout;

/// Weights in the order of the column matrix, block by block.
#[derive(Debug)]
pub(super) struct PreparedGemm<T> {
    geometry: Geometry,
    epilogue: Epilogue,
    split: Split,
    /// For each axis the taps that have rows in the column matrix.
    live: [Vec<usize>; 3],
    /// For every group and block `[ci][channel][tap]` (NCHW) or `[ci][tap][channel]` (NHWC).
    packed: AlignedVec<T>,
    bias: Vec<T>,
}

/// One block of output channels of one group.
#[derive(Clone, Copy)]
struct Block {
    group: usize,
    /// First channel within the group.
    first: usize,
    channels: usize,
}

impl<T: MatMul> PreparedGemm<T> {
    pub(super) fn new(request: &Request<'_>, weights: Weights<'_>) -> Result<Self, Error> {
        let (geometry, p) = (request.geometry.clone(), *request.geometry.problem());
        let split = Split::new(&geometry, request.target.threads);
        let packed_len = p.in_channels() * p.group_out() * split.taps;
        let mut prepared = Self {
            packed: AlignedVec::zeroed("packed weights", packed_len)?,
            bias: filled_vec("bias", p.out_channels(), T::default())?,
            epilogue: request.epilogue,
            live: [live(&geometry, 0)?, live(&geometry, 1)?, live(&geometry, 2)?],
            geometry,
            split,
        };
        prepared.pack(weights)?;
        Ok(prepared)
    }

    fn pack(&mut self, weights: Weights<'_>) -> Result<(), Error> {
        let (kernel, bias) = weights.typed::<T>()?;
        let (g, p) = (&self.geometry, *self.geometry.problem());
        let taps = self.split.taps;
        let mut at = 0;
        for group in 0..p.groups() {
            for block in 0..self.split.blocks {
                let block = self.block(group, block);
                let (rows, columns) = match p.layout() {
                    Layout::Nchw => (taps, 1),
                    Layout::Nhwc => (1, block.channels),
                };
                for ci in group * p.group_in()..(group + 1) * p.group_in() {
                    for c in 0..block.channels {
                        let mut tap = 0;
                        for &kz in &self.live[0] {
                            for &ky in &self.live[1] {
                                for &kx in &self.live[2] {
                                    let w = kernel[g.weight_at(ci, block.first + c, [kz, ky, kx])];
                                    self.packed[at + c * rows + tap * columns] = w;
                                    tap += 1;
                                }
                            }
                        }
                    }
                    at += block.channels * taps;
                }
            }
        }
        if let Some(bias) = bias {
            self.bias.copy_from_slice(bias);
        }
        Ok(())
    }

    fn block(&self, group: usize, block: usize) -> Block {
        let first = block * self.split.width;
        let channels = self.split.width.min(self.geometry.problem().group_out() - first);
        Block { group, first, channels }
    }

    /// Elements of one column matrix; at least 1, so that every slot exists.
    fn column_len(&self) -> usize {
        (self.split.width * self.split.taps * self.split.pixels).max(1)
    }

    /// `column = W · X` for one image and block, in the order of the layout.
    fn product(&self, input: &[T], n: usize, block: Block, column: &mut [T]) {
        let (g, p) = (&self.geometry, self.geometry.problem());
        let (depth, taps, pixels) = (p.group_in(), self.split.taps, self.split.pixels);
        let width = block.channels * taps;
        let start = (block.group * p.group_out() + block.first) * taps * depth;
        let w = Matrix::rows_of(&self.packed[start..start + depth * width], width);
        let x = &input[g.input_at(n, block.group * depth, [0; 3])..];
        match p.layout() {
            Layout::Nchw => {
                multiply([width, depth, pixels], w.transposed(), Matrix::rows_of(x, pixels), column)
            }
            Layout::Nhwc => multiply([pixels, depth, width], Matrix::rows_of(x, p.in_channels()), w, column),
        }
    }
}

impl<T: MatMul> Prepared for PreparedGemm<T> {
    fn scratch(&self) -> Scratch {
        Scratch::slots::<T>(self.split.slots, self.column_len())
    }

    fn run(&self, input: Tensor<'_>, output: TensorMut<'_>, scratch: &mut [Bytes64]) {
        let input = T::slice(&input).expect("checked by the plan");
        let output = SharedOutput::new(T::slice_mut(output).expect("checked by the plan"));
        let (groups, blocks) = (self.geometry.problem().groups(), self.split.blocks);
        let col2im =
            Col2im { geometry: &self.geometry, activation: self.epilogue.activation, live: &self.live };
        parallel::run_scratch(
            self.split.slots,
            scratch,
            self.column_len(),
            self.split.tasks,
            |column: &mut [T], task| {
                let (n, group, block) = (task / (groups * blocks), task / blocks % groups, task % blocks);
                let block = self.block(group, block);
                let column = &mut column[..block.channels * self.split.taps * self.split.pixels];
                self.product(input, n, block, column);
                let first = group * self.geometry.problem().group_out() + block.first;
                // SAFETY: tasks have different images or different output channels.
                unsafe { col2im.add(column, n, first, &self.bias[first..first + block.channels], output) };
            },
        );
    }

    fn repack(&mut self, weights: Weights<'_>) -> Result<(), Refusal> {
        Ok(self.pack(weights)?)
    }
}

fn live(geometry: &Geometry, axis: usize) -> Result<Vec<usize>, Error> {
    let axis = &geometry.axes()[axis];
    let mut taps = filled_vec("taps", live_taps(axis).count(), 0)?;
    taps.iter_mut().zip(live_taps(axis)).for_each(|(tap, k)| *tap = k);
    Ok(taps)
}
