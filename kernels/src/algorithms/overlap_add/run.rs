//! The prepared kernel: packed weights, and bands of outputs, each with a ring of columns.

use pulp::{Simd, WithSimd};

use super::add::{Ring, Run, runs};
use super::blocking::Blocking;
use super::products::multiply;
use crate::contract::kernel::Prepared;
use crate::contract::request::{Refusal, Request, Weights};
use crate::error::Error;
use crate::machine::isa::Isa;
use crate::machine::parallel::{self, SharedOutput};
use crate::machine::scratch::{AlignedVec, Bytes64, Scratch, filled_vec};
use crate::machine::tensor::{Tensor, TensorMut};
use crate::microkernels::pixel_tile::MOST_COLUMNS;
use crate::microkernels::vector::Float;
use crate::problem::epilogue::Epilogue;
use crate::problem::geometry::Geometry;
use crate::problem::problem::Layout;

#[derive(Debug)]
pub struct PreparedOverlapAdd<T> {
    pub geometry: Geometry,
    pub epilogue: Epilogue,
    isa: Isa,
    threads: usize,
    scratch: Scratch,
    pub blocking: Blocking,
    /// Tile after tile `[input channel][column of the tile]`. Columns are `[channel][tap]` (NCHW) or `[tap][channel]` (NHWC).
    pub weights: AlignedVec<T>,
    pub bias: Vec<T>,
    /// Channels first: what tiles start from, where their columns lie, where vectors of a panel begin.
    pub zeros: Vec<T>,
    pub column_places: Vec<usize>,
    pub vector_places: Vec<usize>,
    /// Channels last: taps along x whose outputs lie side by side.
    pub runs: Vec<Run>,
}

impl<T: Float> PreparedOverlapAdd<T> {
    pub fn new(request: &Request<'_>, weights: Weights<'_>) -> Result<Self, Error> {
        let blocking = Blocking::new(request);
        let p = request.geometry.problem();
        let (threads, scratch) = blocking.workers(request);
        let steps = |what, count: usize, step: usize| {
            let mut places = filled_vec(what, count, 0)?;
            places.iter_mut().enumerate().for_each(|(i, place)| *place = i * step);
            Ok::<_, Error>(places)
        };
        let mut prepared = Self {
            geometry: request.geometry.clone(),
            epilogue: request.epilogue,
            isa: request.target.isa,
            threads,
            scratch,
            weights: AlignedVec::zeroed("packed weights", blocking.packed_weights(p.in_channels()))?,
            bias: filled_vec("bias", p.out_channels(), T::default())?,
            zeros: filled_vec("zeros", MOST_COLUMNS, T::default())?,
            column_places: steps("places of columns", MOST_COLUMNS, blocking.pitch)?,
            vector_places: steps(
                "places of vectors",
                blocking.panel_pixels / blocking.lanes,
                blocking.lanes,
            )?,
            runs: runs(&request.geometry.axes()[2])?,
            blocking,
        };
        prepared.pack(weights)?;
        Ok(prepared)
    }

    fn pack(&mut self, weights: Weights<'_>) -> Result<(), Error> {
        let (kernel, bias) = weights.typed::<T>()?;
        let (p, taps) = (self.geometry.problem(), self.geometry.kernel_taps());
        let (depth, channels, columns) = (p.in_channels(), p.out_channels(), self.blocking.columns);
        for tile in self.blocking.tiles() {
            let width = tile.len();
            let packed = &mut self.weights[tile.start * depth..tile.end * depth];
            for (ci, to) in packed.chunks_exact_mut(width).enumerate() {
                // All columns of an input channel lie together, channel by channel.
                let from = &kernel[ci * columns..][..columns];
                match self.blocking.layout {
                    Layout::Nchw => to.copy_from_slice(&from[tile.clone()]),
                    Layout::Nhwc => {
                        for (column, to) in (tile.start..tile.end.min(columns)).zip(to) {
                            *to = from[column % channels * taps + column / channels];
                        }
                    }
                }
            }
        }
        if let Some(bias) = bias {
            self.bias.copy_from_slice(bias);
        }
        Ok(())
    }
}

impl<T: Float> Prepared for PreparedOverlapAdd<T> {
    fn scratch(&self) -> Scratch {
        self.scratch
    }

    fn run(&self, input: Tensor<'_>, output: TensorMut<'_>, scratch: &mut [Bytes64]) {
        let input = T::slice(&input).expect("checked by the plan");
        let output = SharedOutput::new(T::slice_mut(output).expect("checked by the plan"));
        let b = &self.blocking;
        parallel::run_scratch(self.threads, scratch, b.slot(), b.tasks, |slot, task| {
            let (image, band) = (task / b.bands, task % b.bands);
            self.isa.enter(Band { plan: self, input, output, slot, image, band });
        });
    }

    fn repack(&mut self, weights: Weights<'_>) -> Result<(), Refusal> {
        Ok(self.pack(weights)?)
    }
}

/// Some outputs of one image along the cut axis.
struct Band<'a, 'o, T> {
    plan: &'a PreparedOverlapAdd<T>,
    input: &'a [T],
    output: SharedOutput<'o, T>,
    slot: &'a mut [T],
    image: usize,
    band: usize,
}

impl<T: Float> WithSimd for Band<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { plan, input, output, slot, image, band } = self;
        let (g, b) = (&plan.geometry, &plan.blocking);
        let [columns_len, panel_len, _] = b.parts();
        let (columns, rest) = slot.split_at_mut(columns_len);
        let (panel, phases) = rest.split_at_mut(panel_len);
        let input = &input[g.input_at(image, 0, [0; 3])..];
        let axis = &g.axes()[b.cut].axis;
        let (outputs, slabs) = b.band(g, band);
        let chunk = b.chunk;
        let (mut slab, mut written) = (slabs.start, outputs.start);
        loop {
            let next = slabs.end.min(slab + chunk);
            if slab < next {
                let pixel = b.place(slab - slabs.start);
                let at = pixel * if b.layout == Layout::Nhwc { b.pitch } else { 1 };
                multiply(simd, plan, input, slab * b.inner..next * b.inner, panel, &mut columns[at..]);
            }
            // Outputs of which all inputs are there.
            let complete = if next == slabs.end {
                outputs.end
            } else {
                (next * axis.stride).saturating_sub(axis.padding.0).clamp(written, outputs.end)
            };
            let ring = Ring { plan, output, columns, first: slabs.start, image };
            ring.write(simd, written..complete, phases);
            (slab, written) = (next, complete);
            if slab == slabs.end {
                break;
            }
        }
    }
}
