//! The prepared kernel: parts of the batch, blocks of output channels, phases, passes, tiles.

use pulp::{Simd, WithSimd};

use super::blocking::{Blocking, Pixels};
use super::pack::{CHANNELS, PackInput, pack_group};
use super::program::Program;
use crate::contract::kernel::Prepared;
use crate::contract::request::{Refusal, Request, Weights};
use crate::error::Error;
use crate::machine::isa::Isa;
use crate::machine::parallel::{self, SharedOutput};
use crate::machine::scratch::{AlignedVec, Bytes64, Scratch};
use crate::machine::tensor::{Tensor, TensorMut};
use crate::microkernels::activation::activate;
use crate::microkernels::copy::pad_groups;
use crate::microkernels::small_tile::{MOST_LINES, Operands};
use crate::microkernels::transpose::{Rows, transpose};
use crate::microkernels::vector::Float;
use crate::problem::epilogue::Epilogue;
use crate::problem::geometry::Geometry;
use crate::problem::problem::Layout;

#[derive(Debug)]
pub struct PreparedStreaming<T> {
    geometry: Geometry,
    epilogue: Epilogue,
    isa: Isa,
    threads: usize,
    blocking: Blocking,
    scratch: Scratch,
    /// For a whole part of the batch, and for the last part where it is shorter.
    whole: Program,
    rest: Option<Program>,
    weights: AlignedVec<T>,
    /// One value for each output channel of a group padded to whole blocks, group after group.
    bias: AlignedVec<T>,
}

impl<T: Float> PreparedStreaming<T> {
    pub fn new(request: &Request<'_>, blocking: Blocking, weights: Weights<'_>) -> Result<Self, Error> {
        let (threads, scratch) = blocking.scratch(request);
        let program = |images| Program::new(request.geometry, &blocking, images);
        let rest = blocking.batch % blocking.part;
        let mut prepared = Self {
            geometry: request.geometry.clone(),
            epilogue: request.epilogue,
            isa: request.target.isa,
            threads,
            scratch,
            whole: program(blocking.part)?,
            rest: (rest > 0).then(|| program(rest)).transpose()?,
            weights: AlignedVec::zeroed("packed weights", blocking.packed_weights())?,
            bias: AlignedVec::zeroed("bias", blocking.groups * blocking.padded_out())?,
            blocking,
        };
        prepared.pack(weights)?;
        Ok(prepared)
    }

    fn pack(&mut self, weights: Weights<'_>) -> Result<(), Error> {
        let (kernel, bias) = weights.typed::<T>()?;
        let b = &self.blocking;
        let group_weights = b.blocks() * b.block_weights();
        for (group, packed) in self.weights.chunks_exact_mut(group_weights.max(1)).enumerate() {
            pack_group(&self.geometry, b, group, kernel, packed);
        }
        if let Some(bias) = bias {
            pad_groups(bias, b.group_out, &mut self.bias, b.padded_out());
        }
        Ok(())
    }

    /// The input of images `n..n + images`, as tiles read it.
    fn fill(&self, input: &[T], n: usize, images: usize, packed: &mut [T]) {
        let (b, channels) = (&self.blocking, self.geometry.problem().in_channels());
        let at_once = if b.kind == Pixels::Images { b.pixels } else { 1 };
        let (chunks, len) = (channels.div_ceil(CHANNELS), packed.len());
        let packed = SharedOutput::new(packed);
        parallel::run_numbered(self.threads, images.div_ceil(at_once) * chunks, |task| {
            let (block, first) = (task / chunks, task % chunks * CHANNELS);
            let start = (block * channels + first) * b.channel_step;
            let length = (CHANNELS.min(channels - first) * b.channel_step).min(len - start);
            // SAFETY: every task has channels of its own.
            let to = unsafe { packed.slice_mut(start, length) };
            let images = [n + block * at_once, at_once.min(images - block * at_once)];
            self.isa.enter(PackInput { geometry: &self.geometry, blocking: b, images, first, input, to });
        });
    }
}

impl<T: Float> Prepared for PreparedStreaming<T> {
    fn scratch(&self) -> Scratch {
        self.scratch
    }

    fn run(&self, input: Tensor<'_>, output: TensorMut<'_>, scratch: &mut [Bytes64]) {
        let input = T::slice(&input).expect("checked by the plan");
        let output = SharedOutput::new(T::slice_mut(output).expect("checked by the plan"));
        let b = &self.blocking;
        let (packed, slots) = scratch.split_at_mut(Scratch::slots::<T>(1, b.packed).units());
        let packed = &mut bytemuck::cast_slice_mut::<Bytes64, T>(packed)[..b.packed];
        let mut n = 0;
        while n < b.batch {
            let images = b.part.min(b.batch - n);
            let program = match &self.rest {
                Some(rest) if images < b.part => rest,
                _ => &self.whole,
            };
            let input = if b.direct {
                &input[self.geometry.input_at(n, 0, [0; 3])..]
            } else {
                self.fill(input, n, images, packed);
                &*packed
            };
            parallel::run_scratch(self.threads, slots, b.sums, b.tasks(), |sums, task| {
                let (group, block) = (task / b.blocks(), task % b.blocks());
                self.isa.enter(Task { plan: self, program, input, output, sums, n, images, group, block });
            });
            n += images;
        }
    }

    fn repack(&mut self, weights: Weights<'_>) -> Result<(), Refusal> {
        Ok(self.pack(weights)?)
    }
}

/// All outputs of one block of output channels, in one part of the batch.
struct Task<'a, 'o, T> {
    plan: &'a PreparedStreaming<T>,
    program: &'a Program,
    input: &'a [T],
    output: SharedOutput<'o, T>,
    sums: &'a mut [T],
    n: usize,
    images: usize,
    group: usize,
    block: usize,
}

impl<T: Float> WithSimd for Task<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { plan, program, input, output, sums, n, images, group, block } = self;
        let (g, b) = (&plan.geometry, &plan.blocking);
        let width = b.width();
        let weights = &plan.weights[(group * b.blocks() + block) * b.block_weights()..];
        let bias = &plan.bias[group * b.padded_out() + block * width..][..width];
        for phase in &program.phases {
            let mut done = 0;
            while done < b.group_in {
                let channels = b.pass.min(b.group_in - done);
                let panel = (phase.taps_before * b.group_in + phase.taps * done) * width;
                for tile in phase.tiles.clone() {
                    let mut operands = Operands {
                        input: &input[(group * b.group_in + done) * b.channel_step..],
                        channel_step: b.channel_step,
                        channels,
                        weights: &weights[panel..][..phase.taps * channels * width],
                        start: (done == 0).then_some(bias),
                        sums: &mut *sums,
                        fetches: if b.streams_weights {
                            lines_of(tile - phase.tiles.start, phase.tiles.len())
                        } else {
                            0
                        },
                    };
                    program.tiles.run(simd, tile, &mut operands);
                }
                done += if phase.taps > 0 { channels } else { b.group_in };
            }
        }
        let image = b.outputs * width;
        let sums = &mut sums[..images * image];
        activate(plan.epilogue.activation, sums);
        let first = block * width;
        let channels = width.min(b.group_out - first);
        for (i, sums) in sums.chunks_exact(image).enumerate() {
            let start = g.output_at(n + i, group * b.group_out + first, [0; 3]);
            match g.problem().layout() {
                Layout::Nchw => {
                    let to = Rows { output, start, step: g.output_plane() };
                    // SAFETY: these images and channels belong to this task alone.
                    unsafe { transpose(simd, sums, width, to, channels, b.outputs) };
                }
                Layout::Nhwc => {
                    let step = g.problem().out_channels();
                    let vectors: &[T::Vector<S>] = bytemuck::cast_slice(sums);
                    // SAFETY: as above; of what lies between, nothing is accessed.
                    let to = unsafe { output.slice_ptr(start, (b.outputs - 1) * step + channels) };
                    for v in 0..b.vectors {
                        let first = v * b.lanes;
                        let mask = T::mask(simd, 0..b.lanes.min(channels.saturating_sub(first)));
                        for (pixel, vectors) in vectors.chunks_exact(b.vectors).enumerate() {
                            let to = to.wrapping_add(pixel * step + first);
                            // SAFETY: these are lanes of the `channels` elements of the pixel.
                            unsafe { T::store_masked(simd, mask, to, vectors[v]) };
                        }
                    }
                }
            }
        }
    }
}

/// The cache lines that tile `i` of `tiles` fetches: all tiles share them, so that memory is busy all the time.
#[inline(always)]
fn lines_of(i: usize, tiles: usize) -> u32 {
    (0..MOST_LINES).filter(|line| line % tiles.min(MOST_LINES) == i).map(|line| 1 << line).sum()
}
