//! GEMM, then col2im: im2col's adjoint. One matrix product gives every product of an input pixel with every tap, summed
//! over the input channels: the column matrix, `∏K·co × ∏I`. col2im then adds its entries at their places in the output.
//!
//! ```text
//! nchw: column [co, taps, ∏I] = Wᵀ [co·taps, ci] · X [ci, ∏I]      nhwc: column [∏I, taps, co] = X [∏I, ci] · W [ci, taps·co]
//! ```
//!
//! It is what frameworks run where they have no kernel of their own for the operator. The column matrix lies in scratch
//! and is larger than the output by ∏K/∏S; taps whose every copy is cropped get no rows. No zero is multiplied that the
//! definition does not multiply, so NaN and infinities stay where they belong.

mod col2im;
mod prepared;

use crate::contract::kernel::{Exactness, Guarantees, Kernel, Prepared, Revisions, Specials};
use crate::contract::request::{Cost, Declined, Refusal, Request, Variant, Weights};
use crate::machine::roofs::Roofs;
use crate::machine::scratch;
use crate::machine::tensor::Dtype;
use crate::microkernels::matmul::{CALL_NS, packing_ns};
use crate::problem::geometry::{AxisGeometry, Geometry};
use crate::problem::problem::Layout;

use prepared::PreparedGemm;

/// One GEMM per image and group into a column matrix, then scatter-add.
#[derive(Debug, Clone, Copy)]
pub struct GemmCol2im;

const COLUMN: Variant = Variant::named("column");

impl Kernel for GemmCol2im {
    fn name(&self) -> &'static str {
        "gemm-col2im"
    }

    fn summary(&self) -> &'static str {
        "one GEMM per image and group into a column matrix, its entries added at their places"
    }

    fn revisions(&self) -> Revisions {
        Revisions { numerics: 2, speed: 1 }
    }

    fn guarantees(&self) -> Guarantees {
        Guarantees { exactness: Exactness::Direct, specials: Specials::Exact, allocates_in_run: true }
    }

    fn supports(&self, request: &Request<'_>) -> Result<(), Declined> {
        let split = Split::new(request.geometry, request.target.threads);
        let (bytes, limit) = (split.column_bytes(request.dtype), scratch::limit());
        if bytes > limit as u128 {
            return Err(Declined::because(format!(
                "the column matrix takes {bytes} bytes of scratch: the limit is {limit}"
            )));
        }
        Ok(())
    }

    fn variants(&self, _: &Request<'_>) -> Vec<Variant> {
        vec![COLUMN]
    }

    fn cost(&self, request: &Request<'_>, _: &Variant) -> Cost {
        let (g, p) = (request.geometry, request.geometry.problem());
        let split = Split::new(g, request.target.threads);
        let roofs = Roofs::assumed(request.target.isa, request.dtype);
        let size = request.dtype.size();
        let taps = split.taps as u128;
        let columns = p.batch() as u128 * p.out_channels() as u128 * taps * g.input_plane() as u128;
        let multiply_adds = columns * p.group_in() as u128;
        // The product at 90 % of the peak, less where few input channels make it an outer product, or few rows or pixels leave the
        // library's tile idle; the library packs both factors in each call; the column matrix is
        // written and read; every entry is added at a place of its own, and channels-last every run of
        // channels costs four nanoseconds more. Fitted to timings of four kinds of machines, within a factor of 1.5 for most.
        let part = |size: usize, half: f64| size as f64 / (size as f64 + half);
        // One at least: a share of nothing would be no number.
        let (rows, plane) = ((split.width * split.taps).max(1), g.input_plane());
        let share = 0.9 * part(p.group_in(), 8.0) * part(plane, 4.0) * part(rows, 4.0);
        let [m, k, n] = [rows, p.group_in(), plane].map(|size| size as f64);
        let packing = match p.layout() {
            Layout::Nchw => packing_ns(m, k, n),
            Layout::Nhwc => packing_ns(n, k, m),
        };
        let moved = 2.0 * columns as f64 * size as f64 + (g.output_len() * size) as f64;
        let per_entry = match p.layout() {
            Layout::Nchw => 0.8,
            Layout::Nhwc => 0.8 + 4.0 / split.width as f64,
        };
        let calls = (CALL_NS + packing) * split.tasks as f64;
        let work = roofs.compute_ns(multiply_adds, share) + per_entry * columns as f64 + calls;
        Cost {
            nanoseconds: work / split.slots.max(1) as f64 + roofs.dram_ns(moved),
            scratch_bytes: usize::try_from(split.column_bytes(request.dtype)).unwrap_or(usize::MAX),
            packed_bytes: p.in_channels() * p.group_out() * split.taps * size,
            multiply_adds,
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
            Dtype::F32 => Box::new(PreparedGemm::<f32>::new(request, weights)?),
            Dtype::F64 => Box::new(PreparedGemm::<f64>::new(request, weights)?),
        })
    }
}

/// How the work is cut: a task is one image, one group, one block of its output channels.
#[derive(Debug, Clone, Copy)]
struct Split {
    /// Taps that have rows in the column matrix: those of which at least one copy is not cropped.
    taps: usize,
    /// Output channels of a block; the last block of a group may have fewer.
    width: usize,
    /// Blocks of a group.
    blocks: usize,
    /// Tasks of a run.
    tasks: usize,
    /// Tasks that run at the same time: each has a column matrix of its own.
    slots: usize,
    /// ∏I: pixels of one image.
    pixels: usize,
}

impl Split {
    fn new(geometry: &Geometry, threads: usize) -> Self {
        let p = geometry.problem();
        let pairs = p.batch() * p.groups(); // no larger than the input
        // Images and groups first; channels are cut only where threads would idle, since every block packs X again.
        let wanted = threads.div_ceil(pairs.max(1)).clamp(1, p.group_out());
        let width = p.group_out().div_ceil(wanted);
        let blocks = p.group_out().div_ceil(width);
        let taps = geometry.axes().iter().map(|axis| live_taps(axis).count()).product();
        let tasks = pairs * blocks;
        Self { taps, width, blocks, tasks, slots: threads.min(tasks), pixels: geometry.input_plane() }
    }

    /// The column matrices of all slots.
    fn column_bytes(&self, dtype: Dtype) -> u128 {
        let factors = [self.slots, self.width, self.taps, self.pixels, dtype.size()];
        // Each factor fits 64 bits, so the product of the later ones may saturate but not wrap.
        factors.iter().fold(1u128, |product, &f| product.saturating_mul(f as u128))
    }
}

/// The taps of one axis of which at least one copy is not cropped.
fn live_taps(axis: &AxisGeometry) -> impl Iterator<Item = usize> + '_ {
    (0..axis.axis.kernel).filter(|&k| !axis.valid_inputs(k).is_empty())
}
