//! What a run costs: products at nearly the peak, and vectors that pass through the transforms.

use super::blocking::{Blocking, Pair};
use crate::contract::request::{Cost, Request};
use crate::machine::roofs::Roofs;

/// Nanoseconds for a vector, fitted to a timing of the zoo (AVX-512, one thread): of raw rows, of points of inputs, of points of
/// sums, of outputs.
const RAW: f64 = 2.0;
const POINT: f64 = 0.9;
const SUM: f64 = 1.1;
const OUTPUT: f64 = 2.5;
/// Share of the assumed peak at which products are made.
const SHARE: f64 = 1.1;
/// Steps of the products that the start and the end of a tile cost; a tile has one for each input channel.
const TILE_STEPS: f64 = 16.0;
/// Bytes per nanosecond at which weights come from beyond the level-2 cache.
const STREAM: f64 = 24.0;

/// See [`crate::Kernel::cost`].
pub fn cost(request: &Request<'_>, b: &Blocking) -> Cost {
    let roofs = Roofs::assumed(request.target.isa, request.dtype);
    Cost {
        nanoseconds: nanoseconds(request, b, &roofs),
        scratch_bytes: b.workers(request).1.bytes,
        packed_bytes: b.group_weights() * b.groups * request.dtype.size(),
        multiply_adds: b.multiply_adds(),
    }
}

/// Predicted time of one run.
pub fn nanoseconds(request: &Request<'_>, b: &Blocking, roofs: &Roofs) -> f64 {
    let (g, size) = (request.geometry, request.dtype.size());
    let threads = request.target.threads as f64;
    let sum = |count: &dyn Fn(&Pair) -> usize| -> f64 { b.pairs.iter().map(|pair| count(pair) as f64).sum() };

    let x_points: usize = b.axes[2].subs.iter().map(|s| s.form.points() * s.tiles).sum();
    let inputs = (b.padded_in() * b.groups * b.channel_parts) as f64;
    let raw = inputs * sum(&|pair| pair.points * pair.rows * b.x_blocks * b.width);
    let pixels = sum(&|pair| pair.points * pair.rows * x_points);
    let outputs = (b.padded_out() * b.groups) as f64;
    let vectors =
        RAW * raw + POINT * pixels * inputs + SUM * pixels * outputs + OUTPUT * g.output_len() as f64;
    let products =
        roofs.compute_ns(b.multiply_adds(), SHARE) * (1.0 + TILE_STEPS / b.padded_in().max(1) as f64);
    // Every block of tiles reads the weights of its pair.
    let blocks = sum(&|pair| pair.rows.div_ceil(pair.step) * b.x_blocks * b.pair_points(pair));
    let streamed = blocks * (b.padded_in() * b.padded_out() * b.groups * size) as f64 / STREAM;
    let moved = ((g.input_len() + g.output_len()) * size) as f64;
    (products.max(streamed) + vectors / b.lanes as f64) / threads + roofs.dram_ns(moved)
}
