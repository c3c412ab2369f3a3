//! The operator as a sparse matrix (d2l 14.10.3): Wᵀ is built once, as a [`sprs`] CSR matrix whose rows are the outputs
//! of one image, and every output is the product of its row with the input. Tasks are runs of rows.
//!
//! Weights are stored once for every place where they act, with an index beside each: Cin·co·∏T entries. So it is for
//! small images; larger ones are declined with the number. Zeros among the weights stay stored, since 0·∞ is NaN.

use sprs::CsMatI;

use crate::contract::kernel::{Exactness, Guarantees, Kernel, Prepared, Revisions, Specials};
use crate::contract::request::{Cost, Declined, Refusal, Request, Variant, Weights};
use crate::error::Error;
use crate::machine::parallel::{self, SharedOutput};
use crate::machine::roofs::Roofs;
use crate::machine::scratch::{Bytes64, Scratch, filled_vec};
use crate::machine::tensor::{Dtype, Element, Tensor, TensorMut};
use crate::microkernels::activation::activate;
use crate::problem::epilogue::Epilogue;
use crate::problem::geometry::Geometry;
use crate::problem::problem::Layout;
use crate::reference::weight_matrix::{non_zeros, transposed_bytes, weight_matrix_transposed};

/// Wᵀ as a CSR matrix, times the input.
#[derive(Debug, Clone, Copy)]
pub struct SparseCsr;

/// Column numbers: half the memory of `usize`. A matrix whose input needs more is over the limit anyway.
type Column = u32;

const CSR: Variant = Variant::named("csr");

impl Kernel for SparseCsr {
    fn name(&self) -> &'static str {
        "sparse-csr"
    }

    fn summary(&self) -> &'static str {
        "W as a sparse matrix, as in d2l 14.10.3; every output is a sparse row times the input"
    }

    fn revisions(&self) -> Revisions {
        Revisions { numerics: 2, speed: 1 }
    }

    fn guarantees(&self) -> Guarantees {
        Guarantees { exactness: Exactness::Direct, specials: Specials::Exact, allocates_in_run: false }
    }

    fn supports(&self, request: &Request<'_>) -> Result<(), Declined> {
        match transposed_bytes(request.geometry, request.dtype.size(), size_of::<Column>()) {
            Ok(_) => Ok(()),
            Err(error) => Err(Declined::because(error.to_string())),
        }
    }

    fn variants(&self, _: &Request<'_>) -> Vec<Variant> {
        vec![CSR]
    }

    fn cost(&self, request: &Request<'_>, _: &Variant) -> Cost {
        let g = request.geometry;
        let batch = g.problem().batch();
        let (entries, size) = (non_zeros(g), request.dtype.size());
        let bytes = transposed_bytes(g, size, size_of::<Column>()).unwrap_or(usize::MAX);
        let roofs = Roofs::assumed(request.target.isa, request.dtype);
        // A chain of dependent additions, half a nanosecond each, and three nanoseconds for a row; the matrix passes once for each
        // image, from memory where it is larger than a cache.
        let tasks = batch * image_len(g).div_ceil(ROWS);
        let work = batch as f64 * (0.5 * entries as f64 + 3.0 * image_len(g) as f64);
        let stream = if bytes > 1 << 20 { roofs.dram_ns(bytes as f64 * batch as f64) } else { 0.0 };
        Cost {
            nanoseconds: work / request.target.threads.min(tasks).max(1) as f64 + stream,
            scratch_bytes: 0,
            packed_bytes: bytes,
            multiply_adds: entries * batch as u128,
        }
    }

    fn prepare(
        &self,
        request: &Request<'_>,
        _: &Variant,
        weights: Weights<'_>,
    ) -> Result<Box<dyn Prepared>, Refusal> {
        self.supports(request)?;
        Ok(match request.dtype {
            Dtype::F32 => Box::new(PreparedCsr::<f32>::new(request, weights)?),
            Dtype::F64 => Box::new(PreparedCsr::<f64>::new(request, weights)?),
        })
    }
}

/// Rows of one task.
const ROWS: usize = 256;

/// Output elements of one image: the rows of Wᵀ.
fn image_len(geometry: &Geometry) -> usize {
    geometry.output_plane() * geometry.problem().out_channels()
}

struct PreparedCsr<T> {
    geometry: Geometry,
    epilogue: Epilogue,
    threads: usize,
    transposed: CsMatI<T, Column, usize>,
    bias: Vec<T>,
}

impl<T> std::fmt::Debug for PreparedCsr<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PreparedCsr")
            .field("shape", &self.transposed.shape())
            .field("non_zeros", &self.transposed.nnz())
            .finish_non_exhaustive()
    }
}

impl<T: Element> PreparedCsr<T> {
    fn new(request: &Request<'_>, weights: Weights<'_>) -> Result<Self, Error> {
        let channels = request.geometry.problem().out_channels();
        let mut bias = filled_vec("bias", channels, T::default())?;
        if let (_, Some(values)) = weights.typed::<T>()? {
            bias.copy_from_slice(values);
        }
        Ok(Self {
            geometry: request.geometry.clone(),
            epilogue: request.epilogue,
            threads: request.target.threads,
            transposed: weight_matrix_transposed(request.geometry, weights)?,
            bias,
        })
    }

    /// The rows from `first` on, of one image.
    fn rows(&self, image: &[T], first: usize, output: &mut [T]) {
        let (layout, channels) = (self.geometry.problem().layout(), self.bias.len());
        for (row, y) in (first..).zip(output.iter_mut()) {
            let entries = self.transposed.outer_view(row).expect("a row for every output");
            let mut sum = T::default();
            for (column, &w) in entries.iter() {
                sum += image[column] * w;
            }
            let channel = match layout {
                Layout::Nchw => row / self.geometry.output_plane(),
                Layout::Nhwc => row % channels,
            };
            *y = sum + self.bias[channel];
        }
        activate(self.epilogue.activation, output);
    }
}

impl<T: Element> Prepared for PreparedCsr<T> {
    fn scratch(&self) -> Scratch {
        Scratch::NONE
    }

    fn run(&self, input: Tensor<'_>, output: TensorMut<'_>, _: &mut [Bytes64]) {
        let input = T::slice(&input).expect("checked by the plan");
        let output = SharedOutput::new(T::slice_mut(output).expect("checked by the plan"));
        let (rows, columns) = self.transposed.shape();
        let blocks = rows.div_ceil(ROWS);
        parallel::run_numbered(self.threads, self.geometry.problem().batch() * blocks, |task| {
            let (n, first) = (task / blocks, task % blocks * ROWS);
            // SAFETY: tasks have different images or different rows.
            let block = unsafe { output.slice_mut(n * rows + first, ROWS.min(rows - first)) };
            self.rows(&input[n * columns..][..columns], first, block);
        });
    }

    fn repack(&mut self, weights: Weights<'_>) -> Result<(), Refusal> {
        let transposed = weight_matrix_transposed(&self.geometry, weights)?;
        if let (_, Some(bias)) = weights.typed::<T>()? {
            self.bias.copy_from_slice(bias);
        }
        self.transposed = transposed;
        Ok(())
    }
}
