//! Fractionally strided convolution, the literature's baseline: S − 1 zeros are inserted between the inputs, the result
//! is padded by (K − 1)·D − crop, and an ordinary convolution of stride 1 with the flipped kernel runs over it, as im2col
//! and GEMM.
//!
//! ```text
//! patches [ci·∏K, pixels], weights [co, ci·∏K]   (nchw)      patches [pixels, ∏K·ci], weights [∏K·ci, co]   (nhwc)
//! ```
//!
//! The upsampled image is never stored: patches of a block of output pixels are filled with zeros, then with the inputs
//! that are there, so scratch stays bounded. A crop larger than (K − 1)·D (negative padding) needs no case of its own.
//! Every inserted or padded zero is multiplied: about ∏S times the work. Zero times a finite weight adds nothing, and
//! inputs meet only the weights of their own taps; but 0·∞ would put NaN where none belongs, so weights that are not
//! finite are declined.

mod prepared;

use crate::contract::kernel::{Exactness, Guarantees, Kernel, Prepared, Revisions, Specials};
use crate::contract::request::{Cost, Declined, Refusal, Request, Variant, Weights};
use crate::machine::roofs::Roofs;
use crate::machine::scratch;
use crate::machine::tensor::{Dtype, Tensor};
use crate::microkernels::matmul::{CALL_NS, packing_ns};
use crate::problem::geometry::Geometry;
use crate::problem::problem::Layout;

use prepared::PreparedZeroInsert;

/// Inserted zeros, then im2col and GEMM with the flipped kernel.
#[derive(Debug, Clone, Copy)]
pub struct ZeroInsert;

const IM2COL: Variant = Variant::named("im2col");

impl Kernel for ZeroInsert {
    fn name(&self) -> &'static str {
        "zero-insert"
    }

    fn summary(&self) -> &'static str {
        "zeros inserted between the inputs, then an ordinary convolution by im2col and GEMM"
    }

    fn revisions(&self) -> Revisions {
        Revisions { numerics: 2, speed: 1 }
    }

    fn guarantees(&self) -> Guarantees {
        Guarantees {
            exactness: Exactness::Direct,
            specials: Specials::DeclinesNonFiniteWeights,
            allocates_in_run: true,
        }
    }

    fn supports(&self, request: &Request<'_>) -> Result<(), Declined> {
        if let Some(facts) = request.weights {
            require_finite(facts.all_finite)?;
        }
        let blocks = Blocks::new(request.geometry, request.target.threads);
        let (bytes, limit) = (blocks.scratch_bytes(request.dtype), scratch::limit());
        if bytes > limit as u128 {
            return Err(Declined::because(format!(
                "patches take {bytes} bytes of scratch: the limit is {limit}"
            )));
        }
        Ok(())
    }

    fn variants(&self, _: &Request<'_>) -> Vec<Variant> {
        vec![IM2COL]
    }

    fn cost(&self, request: &Request<'_>, _: &Variant) -> Cost {
        let (g, p) = (request.geometry, request.geometry.problem());
        let blocks = Blocks::new(g, request.target.threads);
        let roofs = Roofs::assumed(request.target.isa, request.dtype);
        let pixels = p.batch() as u128 * p.groups() as u128 * g.output_plane() as u128;
        let patches = pixels * blocks.depth as u128;
        let multiply_adds = patches * p.group_out() as u128;
        // The product at 80 % of the peak, less where few output channels leave the tile empty, or few taps and input channels
        // make it an outer product. Patches are filled with
        // zeros, written, read and packed, in cache: four times their bytes at the speed of level 2. A call of the library
        // allocates and packs.
        let part = |size: f64, half: f64| size / (size + half);
        let narrow = match p.layout() {
            Layout::Nchw => 8.0,
            Layout::Nhwc => 16.0,
        };
        let share = 0.8 * part(p.group_out() as f64, narrow) * part(blocks.depth as f64, 12.0);
        let fill = 4.0 * (patches * request.dtype.size() as u128) as f64 / roofs.l2;
        // Of its packing, that of the weights: they are the left factor or the right one.
        let [channels, depth] = [p.group_out(), blocks.depth].map(|size| size as f64);
        let packing = match p.layout() {
            Layout::Nchw => packing_ns(channels, depth, 0.0),
            Layout::Nhwc => packing_ns(0.0, depth, channels),
        };
        let calls = (CALL_NS + packing) * blocks.tasks as f64;
        let work = roofs.compute_ns(multiply_adds, share) + fill + calls;
        Cost {
            nanoseconds: work / blocks.slots.max(1) as f64
                + roofs.dram_ns((g.output_len() * request.dtype.size()) as f64),
            scratch_bytes: usize::try_from(blocks.scratch_bytes(request.dtype)).unwrap_or(usize::MAX),
            packed_bytes: g.weight_len() * request.dtype.size(),
            multiply_adds,
        }
    }

    fn prepare(
        &self,
        request: &Request<'_>,
        _: &Variant,
        weights: Weights<'_>,
    ) -> Result<Box<dyn Prepared>, Refusal> {
        scan(weights.kernel)?;
        self.supports(request)?;
        Ok(match request.dtype {
            Dtype::F32 => Box::new(PreparedZeroInsert::<f32>::new(request, weights)?),
            Dtype::F64 => Box::new(PreparedZeroInsert::<f64>::new(request, weights)?),
        })
    }
}

/// Declines weights that are not finite.
fn scan(kernel: Tensor<'_>) -> Result<(), Declined> {
    require_finite(kernel.all_finite())
}

fn require_finite(all_finite: bool) -> Result<(), Declined> {
    if all_finite {
        return Ok(());
    }
    Err(Declined::because("it multiplies inserted zeros, and some weights are not finite (0·∞ is NaN)"))
}

/// How the work is cut: a task is one image, one group, one block of successive output pixels.
#[derive(Debug, Clone, Copy)]
struct Blocks {
    /// ci·∏K: the inner dimension of the product.
    depth: usize,
    /// Output pixels of a block; the last block of an image may have fewer.
    pixels: usize,
    /// Blocks of an image.
    count: usize,
    /// Tasks of a run.
    tasks: usize,
    /// Tasks that run at the same time: each has patches and a result of its own.
    slots: usize,
    /// co: rows or columns of the result.
    channels: usize,
}

impl Blocks {
    /// Elements of the patches of one block, where blocks of 16 to 512 pixels can hold to it.
    const PATCHES: usize = 1 << 20;

    fn new(geometry: &Geometry, threads: usize) -> Self {
        let p = geometry.problem();
        let depth = p.group_in() * geometry.kernel_taps(); // no larger than the weights
        let pixels = (Self::PATCHES / depth).clamp(16, 512).min(geometry.output_plane());
        let count = geometry.output_plane().div_ceil(pixels);
        let tasks = p.batch() * p.groups() * count; // no larger than the output
        Self { depth, pixels, count, tasks, slots: threads.min(tasks), channels: p.group_out() }
    }

    /// Patches and result of one slot, in elements.
    fn slot_len(&self) -> u128 {
        (self.depth as u128 + self.channels as u128) * self.pixels as u128
    }

    fn scratch_bytes(&self, dtype: Dtype) -> u128 {
        self.slot_len() * self.slots as u128 * dtype.size() as u128
    }
}
