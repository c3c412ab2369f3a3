//! Packing: weights once per plan, inputs of a tile of pixels (channels first).

use std::ops::Range;

use pulp::Simd;

use super::axes::Run;
use super::blocking::{Blocking, WeightTile};
use crate::machine::prefetch;
use crate::microkernels::copy::{copy, zero};
use crate::microkernels::vector::Float;
use crate::problem::geometry::Geometry;
use crate::problem::problem::Layout;

/// Input channels whose weights are packed together.
const PACKED_TOGETHER: usize = 32;

/// Where step 0 of a tile lies in the packed weights of a group, the others follow; `None` where its phase has no tap, along
/// z and y or, channels last, along x.
#[inline(always)]
pub fn tile_start(b: &Blocking, tile: WeightTile) -> Option<usize> {
    let [taps, before, _] = b.axes.taps(tile.z, tile.y);
    if taps == 0 || tile.run >= b.live_runs() {
        return None;
    }
    let runs = before * b.live_runs() + tile.run;
    Some((runs * b.step() + b.sides.of(tile.side).start * b.unit * taps) * b.group_in)
}

/// Weights of one group: `[phase with a tap][run][tile][tap][input channel][row or lane]`. What lanes are left stays zero.
pub fn pack_group<T: Float>(g: &Geometry, b: &Blocking, group: usize, weights: &[T], packed: &mut [T]) {
    // Some input channels for all tiles: their weights are read from the caches once they came.
    for first in (0..b.group_in).step_by(PACKED_TOGETHER) {
        let channels = first..b.group_in.min(first + PACKED_TOGETHER);
        let mut tile = b.weight_tile(0);
        for _ in 0..b.weight_tiles() {
            if let Some(start) = tile_start(b, tile) {
                pack_tile(g, b, group, tile, channels.clone(), weights, &mut packed[start..]);
            }
            tile = b.next_tile(tile);
        }
    }
}

/// The same of some input channels and one tile.
fn pack_tile<T: Float>(
    g: &Geometry,
    b: &Blocking,
    group: usize,
    tile: WeightTile,
    channels: Range<usize>,
    weights: &[T],
    packed: &mut [T],
) {
    let (axes, kx, kernel) = (&b.axes, g.kernel()[2], g.kernel_taps());
    let units = b.sides.of(tile.side);
    let width = units.len() * b.unit;
    let taps = (tile.z..axes.z.kernel)
        .step_by(axes.z.stride)
        .flat_map(|z| (tile.y..axes.y.kernel).step_by(axes.y.stride).map(move |y| (z, y)));
    for (tap, (z, y)) in taps.enumerate() {
        for ci in channels.clone() {
            let to = &mut packed[(tap * b.group_in + ci) * width..][..width];
            let ci = group * b.group_in + ci;
            match b.layout {
                Layout::Nchw => {
                    let from = &weights[g.weight_at(ci, units.start, [z, y, 0])..];
                    match kx {
                        1 => copy_rows::<T, 1>(from, kernel, to),
                        2 => copy_rows::<T, 2>(from, kernel, to),
                        _ => copy_rows::<T, 4>(from, kernel, to),
                    }
                }
                Layout::Nhwc => {
                    let first = units.start * b.lanes;
                    for (column, to) in (first..b.run.min(first + width)).zip(to) {
                        let (x, co) = (tile.run + column / b.group_out, column % b.group_out);
                        *to = weights[g.weight_at(ci, co, [z, y, x])];
                    }
                }
            }
        }
    }
}

/// Copies the first K of every `step` elements: a length that is known is no call.
#[inline(always)]
fn copy_rows<T: Float, const K: usize>(from: &[T], step: usize, to: &mut [T]) {
    let (rows, rest) = to.as_chunks_mut::<K>();
    assert!(rest.is_empty(), "kernels of 1, 2 or 4 along x");
    for (to, from) in rows.iter_mut().zip(from.chunks(step)) {
        to.copy_from_slice(&from[..K]);
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

/// Bias of one group, as outputs without products take it: channels first as [`pack_bias`], channels last once for each phase along x.
pub fn pack_bias_of_phases<T: Float>(b: &Blocking, group: usize, bias: &[T], packed: &mut [T]) {
    match b.layout {
        Layout::Nchw => pack_bias(b, group, bias, packed),
        Layout::Nhwc => {
            for phase in packed.chunks_exact_mut(b.group_out) {
                phase.copy_from_slice(&bias[group * b.group_out..][..b.group_out]);
            }
        }
    }
}

/// Inputs of the pixels `pixels` (of all images), `[window][channel][pixel]`, `width` elements for each channel: zeros follow.
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
    for (window, panel) in panel.chunks_mut(b.group_in * width).take(b.axes.windows).enumerate() {
        for run in runs(b, group, window, &pixels) {
            for (c, to) in panel.chunks_exact_mut(width).enumerate() {
                let to = &mut to[run.done..run.done + run.len];
                match run.from {
                    Some(from) => copy(simd, &input[from + c * b.axes.plane..][..run.len], to),
                    None => zero(simd, to),
                }
            }
        }
        if pixels.len() < width {
            for to in panel.chunks_exact_mut(width) {
                zero(simd, &mut to[pixels.len()..]);
            }
        }
    }
}

/// Asks for what [`fill`] will read of some sources.
#[inline(always)]
pub fn fetch<T>(b: &Blocking, group: usize, input: &[T], pixels: Range<usize>, sources: Range<usize>) {
    for (window, channels) in windows(b, sources) {
        for run in runs(b, group, window, &pixels) {
            let Some(from) = run.from else { continue };
            for c in channels.clone() {
                prefetch::run(input.as_ptr().wrapping_add(from + c * b.axes.plane), run.len);
            }
        }
    }
}

/// Sources as windows and their channels.
#[inline(always)]
fn windows(b: &Blocking, sources: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
    let channels = b.group_in;
    (0..b.axes.windows).filter_map(move |window| {
        let all = window * channels;
        let (start, end) = (sources.start.max(all), sources.end.min(all + channels));
        (start < end).then(|| (window, start - all..end - all))
    })
}

/// The runs of pixels whose inputs lie together in a window.
#[inline(always)]
fn runs<'a>(
    b: &'a Blocking,
    group: usize,
    window: usize,
    pixels: &'a Range<usize>,
) -> impl Iterator<Item = Run> + 'a {
    let mut done = 0;
    std::iter::from_fn(move || {
        let left = pixels.len() - done;
        (left > 0).then(|| {
            let run = b.axes.run(window, done, pixels.start + done, left, b.channels_before(group));
            done += run.len;
            run
        })
    })
}
