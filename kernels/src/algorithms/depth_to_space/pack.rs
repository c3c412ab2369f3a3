//! Packing: weights once per plan, inputs of a tile of pixels (channels first).

use std::ops::Range;

use pulp::Simd;

use super::blocking::{Blocking, WeightTile};
use crate::machine::prefetch;
use crate::microkernels::copy::{copy, zero};
use crate::microkernels::vector::Float;
use crate::problem::geometry::Geometry;
use crate::problem::problem::Layout;

/// Where step 0 of a tile lies in the packed weights of a group, the others follow; `None` where its phase has no tap, along
/// z and y or, channels last, along x.
#[inline(always)]
pub fn tile_start(b: &Blocking, tile: WeightTile) -> Option<usize> {
    let phase = b.axes.with_tap(tile.z, tile.y)?;
    if tile.run >= b.live_runs() {
        return None;
    }
    Some(((phase * b.live_runs() + tile.run) * b.step() + b.sides.of(tile.side).start * b.unit) * b.group_in)
}

/// Weights of one group: `[phase with a tap][run][tile][input channel][row or lane]`. What lanes are left stays zero.
pub fn pack_group<T: Float>(g: &Geometry, b: &Blocking, group: usize, weights: &[T], packed: &mut [T]) {
    let kx = g.kernel()[2];
    let mut tile = b.weight_tile(0);
    for _ in 0..b.weight_tiles() {
        if let Some(start) = tile_start(b, tile) {
            let units = b.sides.of(tile.side);
            let width = units.len() * b.unit;
            let packed = &mut packed[start..][..b.group_in * width];
            for (ci, to) in packed.chunks_exact_mut(width).enumerate() {
                let ci = group * b.group_in + ci;
                match b.layout {
                    Layout::Nchw => {
                        for (co, to) in units.clone().zip(to.chunks_exact_mut(kx)) {
                            let start = g.weight_at(ci, co, [tile.z, tile.y, 0]);
                            to.copy_from_slice(&weights[start..][..kx]);
                        }
                    }
                    Layout::Nhwc => {
                        let first = units.start * b.lanes;
                        for (column, to) in (first..b.run.min(first + width)).zip(to) {
                            let (x, co) = (tile.run + column / b.group_out, column % b.group_out);
                            *to = weights[g.weight_at(ci, co, [tile.z, tile.y, x])];
                        }
                    }
                }
            }
        }
        tile = b.next_tile(tile);
    }
}

/// Bias of one group, as the sums start from it: a value for each row, or for each lane of one run.
pub fn pack_bias<T: Float>(b: &Blocking, group: usize, bias: &[T], packed: &mut [T]) {
    let bias = &bias[group * b.group_out..][..b.group_out];
    match b.layout {
        Layout::Nchw => {
            for (to, &value) in packed.chunks_exact_mut(b.unit).zip(bias) {
                to.fill(value);
            }
        }
        Layout::Nhwc => {
            for (to, &value) in packed[..b.run].iter_mut().zip(bias.iter().cycle()) {
                *to = value;
            }
        }
    }
}

/// Inputs of the pixels `pixels` (of all images), `[channel][pixel]`, `width` elements for each channel: zeros follow.
#[inline(always)]
pub fn fill<T: Float, S: Simd>(
    simd: S,
    b: &Blocking,
    group: usize,
    input: &[T],
    pixels: Range<usize>,
    width: usize,
    panel: &mut [T],
) {
    for (done, first, len) in runs(b, group, &pixels) {
        for (c, to) in panel.chunks_exact_mut(width).take(b.group_in).enumerate() {
            copy(simd, &input[first + c * b.axes.plane..][..len], &mut to[done..done + len]);
        }
    }
    if pixels.len() < width {
        for to in panel.chunks_exact_mut(width).take(b.group_in) {
            zero(simd, &mut to[pixels.len()..]);
        }
    }
}

/// Asks for what [`fill`] will read of some channels.
#[inline(always)]
pub fn fetch<T>(b: &Blocking, group: usize, input: &[T], pixels: Range<usize>, channels: Range<usize>) {
    for (_, first, len) in runs(b, group, &pixels) {
        for c in channels.clone() {
            prefetch::run(input.as_ptr().wrapping_add(first + c * b.axes.plane), len);
        }
    }
}

/// The runs of pixels that lie in one image: pixels before, where the first lies in channel 0 of the group, how many.
#[inline(always)]
fn runs<'a>(
    b: &'a Blocking,
    group: usize,
    pixels: &'a Range<usize>,
) -> impl Iterator<Item = (usize, usize, usize)> + 'a {
    let plane = b.axes.plane;
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = pixels.start + done;
        let left = pixels.len() - done;
        (left > 0).then(|| {
            let (n, at) = (at / plane, at % plane);
            let len = left.min(plane - at);
            let run = (done, (n * b.groups + group) * b.group_in * plane + at, len);
            done += len;
            run
        })
    })
}
