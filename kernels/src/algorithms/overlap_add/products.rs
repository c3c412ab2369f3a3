//! The product of some pixels with all columns.

use std::ops::Range;

use pulp::Simd;

use super::run::PreparedOverlapAdd;
use crate::microkernels::column_tile::{self, ColumnOperands};
use crate::microkernels::copy::copy_rows;
use crate::microkernels::pixel_tile::{Hints, PixelOperands, accumulate_pixels};
use crate::microkernels::vector::Float;
use crate::problem::problem::Layout;

/// Columns of `pixels` of an image that begins at `image`; the first pixel's lie at `columns`.
#[inline(always)]
pub fn multiply<T: Float, S: Simd>(
    simd: S,
    plan: &PreparedOverlapAdd<T>,
    image: &[T],
    pixels: Range<usize>,
    panel: &mut [T],
    columns: &mut [T],
) {
    let (g, b) = (&plan.geometry, &plan.blocking);
    let depth = g.problem().in_channels();
    match b.layout {
        Layout::Nhwc => {
            for tile in b.tiles() {
                let operands = ColumnOperands {
                    input: &image[pixels.start * depth..],
                    pixels: pixels.len(),
                    pixel_step: depth,
                    channels: depth,
                    weights: &plan.weights[tile.start * depth..tile.end * depth],
                };
                column_tile::run(simd, tile.len() / b.lanes, &operands, &mut columns[tile.start..], b.pitch);
            }
        }
        Layout::Nchw => {
            let plane = g.input_plane();
            for start in pixels.clone().step_by(b.panel_pixels) {
                let len = b.panel_pixels.min(pixels.end - start);
                let width = len.next_multiple_of(b.unit);
                let gap = width - len;
                copy_rows(
                    simd,
                    &image[start..],
                    plane,
                    b.panel_pixels,
                    panel,
                    width,
                    [depth, len],
                    [gap, gap],
                );
                for tile in b.tiles() {
                    let operands = PixelOperands {
                        input: panel,
                        input_start: 0,
                        input_steps: [0; 3],
                        channel_step: width,
                        weights: &plan.weights[tile.start * depth..tile.end * depth],
                        weight_step: 0,
                        taps: [1; 3],
                        channels: depth,
                        columns: &plan.column_places[..tile.len()],
                        hints: Hints::none(panel),
                        start: Some(&plan.zeros[..tile.len()]),
                    };
                    let sums = &mut columns[tile.start * b.pitch + start - pixels.start..];
                    accumulate_pixels(simd, &operands, &plan.vector_places[..width / b.lanes], sums);
                }
            }
        }
    }
}
