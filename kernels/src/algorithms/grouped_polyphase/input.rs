//! The packed input of one task: for every pixel the input channels of the groups of one vector of output channels, some
//! of each group in one packed vector. Only rows inside the input; zeros beside them along x.

use std::ops::Range;

use pulp::Simd;

use super::blocking::Blocking;
use crate::machine::parallel::SharedOutput;
use crate::microkernels::copy::{copy, zero};
use crate::microkernels::slab::Slab;
use crate::microkernels::strips::copy_strips;
use crate::microkernels::transpose::{Rows, transpose};
use crate::microkernels::vector::Float;
use crate::problem::geometry::Geometry;
use crate::problem::problem::Layout;

/// What a task reads.
pub struct Source<'a, T> {
    pub geometry: &'a Geometry,
    pub blocking: &'a Blocking,
    pub input: &'a [T],
    pub n: usize,
    /// Number of the vector of output channels.
    pub vector: usize,
}

impl<T: Float> Source<'_, T> {
    /// Packs all rows of `slab` into `packed`; `rows` is scratch.
    #[inline(always)]
    pub fn fill<S: Simd>(&self, simd: S, slab: &Slab, packed: &mut [T], rows: &mut [T]) {
        let (g, b) = (self.geometry, self.blocking);
        let width = g.input()[2] as i64;
        let begin = slab.first.clamp(0, width);
        let end = (slab.first + b.span as i64).clamp(begin, width);
        // The pixels of a packed row that lie inside the input.
        let inside = (begin - slab.first) as usize..(end - slab.first) as usize;
        zero(simd, rows);
        for z in slab.rows[0].clone() {
            for y in slab.rows[1].clone() {
                // A vector more: pixels are written by whole vectors, each over the end of the one before.
                let row = &mut packed[slab.row_at(z, y)..][..slab.row + b.lanes];
                if inside.is_empty() {
                    zero(simd, row);
                    continue;
                }
                let at = [z, y, begin as usize];
                match g.problem().layout() {
                    Layout::Nchw => self.transposed(simd, at, &inside, row, rows),
                    Layout::Nhwc => self.copied(simd, at, &inside, row),
                }
            }
        }
    }

    /// Channels first: the rows of all channels of a packed vector side by side, then a transposition. What lies beside
    /// them is zero, and so are the rows of lanes without a channel.
    #[inline(always)]
    fn transposed<S: Simd>(
        &self,
        simd: S,
        at: [usize; 3],
        inside: &Range<usize>,
        row: &mut [T],
        rows: &mut [T],
    ) {
        let (g, b) = (self.geometry, self.blocking);
        let groups = b.groups_of(self.vector);
        let plane = g.input_plane();
        for j in 0..b.pixel_vectors {
            let channels = b.per_vector.min(b.group_in - j * b.per_vector);
            for (a, group) in groups.clone().enumerate() {
                let from = g.input_at(self.n, group * b.group_in + j * b.per_vector, at);
                for c in 0..channels {
                    let to = &mut rows[(a * b.per_vector + c) * b.pitch..][inside.clone()];
                    copy(simd, &self.input[from + c * plane..][..inside.len()], to);
                }
            }
            let to = Rows { output: SharedOutput::new(row), start: j * b.lanes, step: b.pixel() };
            // SAFETY: the row is borrowed mutably here.
            unsafe { transpose(simd, rows, b.pitch, to, b.span, b.lanes) };
        }
    }

    /// Channels last: the channels of a group lie side by side in the input, too.
    #[inline(always)]
    fn copied<S: Simd>(&self, simd: S, at: [usize; 3], inside: &Range<usize>, row: &mut [T]) {
        let (g, b) = (self.geometry, self.blocking);
        let groups = b.groups_of(self.vector);
        let from = g.input_at(self.n, groups.start * b.group_in, at);
        let step = g.problem().in_channels();
        zero(simd, &mut row[..inside.start * b.pixel()]);
        if b.pixel_vectors == 1 && groups.len() * b.group_in == b.pixel() {
            // A packed pixel is what lies side by side in the input.
            let to = &mut row[inside.start * b.pixel()..];
            // SAFETY: the slice holds as many pixels, and more.
            unsafe {
                copy_strips(&self.input[from..], step, to.as_mut_ptr(), b.pixel(), b.pixel(), inside.len());
            }
            return zero(simd, &mut to[inside.len() * b.pixel()..]);
        }
        // With all channels of a group in one packed vector, the groups follow one another there as they do in the input.
        let pieces = if b.pixel_vectors == 1 { 1 } else { groups.len() };
        let len = if pieces == 1 { groups.len() * b.group_in } else { b.per_vector };
        for (i, x) in inside.clone().enumerate() {
            for j in 0..b.pixel_vectors {
                for a in 0..pieces {
                    let from = from + i * step + a * b.group_in + j * b.per_vector;
                    let to = x * b.pixel() + j * b.lanes + a * b.per_vector;
                    if from + b.lanes <= self.input.len() {
                        let vector = T::load(simd, &self.input[from..]);
                        let to: &mut [T] = &mut row[to..][..T::lanes::<S>()];
                        // SAFETY: the slice is one vector long.
                        unsafe { to.as_mut_ptr().cast::<T::Vector<S>>().write_unaligned(vector) };
                    } else {
                        // The very end of the input.
                        let len = len.min(self.input.len() - from);
                        row[to..][..len].copy_from_slice(&self.input[from..][..len]);
                    }
                }
            }
        }
        zero(simd, &mut row[inside.end * b.pixel()..]);
    }
}
