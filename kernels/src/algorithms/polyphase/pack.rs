//! Packing: weights once per plan, input rows once per task.

use std::ops::Range;

use pulp::Simd;

use super::blocking::Blocking;
use crate::machine::parallel::SharedOutput;
use crate::microkernels::copy::{copy, zero};
use crate::microkernels::transpose::{Rows, transpose};
use crate::microkernels::vector::Float;
use crate::problem::geometry::{Geometry, Phase};
use crate::problem::problem::Layout;

/// Weights of one group, in the order in which tiles read them:
/// `[channel block][phase z][phase y][phase x][tap z][tap y][tap x][input channel][channel of the block]`.
pub fn pack_group<T: Float>(
    geometry: &Geometry,
    blocking: &Blocking,
    group: usize,
    weights: &[T],
    packed: &mut [T],
) {
    let [az, ay, ax] = geometry.axes();
    let mut at = 0;
    for block in 0..blocking.blocks() {
        let first = block * blocking.block();
        let width = blocking.vectors(first) * blocking.lanes;
        let filled = width.min(blocking.group_out - first);
        for pz in &az.phases {
            for py in &ay.phases {
                for px in &ax.phases {
                    for tap in taps(pz, py, px) {
                        for ci in 0..blocking.group_in {
                            let to = &mut packed[at..at + width];
                            for (c, to) in to[..filled].iter_mut().enumerate() {
                                *to = weights
                                    [geometry.weight_at(group * blocking.group_in + ci, first + c, tap)];
                            }
                            at += width;
                        }
                    }
                }
            }
        }
    }
}

/// Kernel indices of the taps of a phase along all axes, x innermost.
fn taps<'a>(pz: &'a Phase, py: &'a Phase, px: &'a Phase) -> impl Iterator<Item = [usize; 3]> + 'a {
    (0..pz.taps).flat_map(move |z| {
        (0..py.taps).flat_map(move |y| (0..px.taps).map(move |x| [pz.tap(z), py.tap(y), px.tap(x)]))
    })
}

/// The packed input of one task: `[z][y][channel][x]`, only rows inside the input, zeros beside them along x.
#[derive(Debug, Clone)]
pub struct Slab {
    /// Input rows along z and y.
    pub rows: [Range<usize>; 2],
    /// Input index of the first packed element of a row; may be negative.
    pub first: i64,
    /// Elements of a row of one channel.
    pub pitch: usize,
    /// Elements of one (z, y) row of all channels.
    pub row: usize,
}

impl Slab {
    /// For the positions of one task.
    pub fn new(blocking: &Blocking, inputs: [usize; 3], positions: &[Range<usize>; 3]) -> Self {
        let clip = |a: usize| {
            let r = blocking.axes[a].inputs_of(&positions[a]);
            let clip = |v: i64| v.clamp(0, inputs[a] as i64) as usize;
            clip(r.start)..clip(r.end)
        };
        let x = blocking.axes[2].inputs_of(&positions[2]);
        let pitch = blocking.pitch;
        Self { rows: [clip(0), clip(1)], first: x.start, pitch, row: pitch * blocking.group_in }
    }

    /// Where the row (z, y) of channel 0 starts.
    pub fn row_at(&self, z: usize, y: usize) -> usize {
        ((z - self.rows[0].start) * self.rows[1].len() + (y - self.rows[1].start)) * self.row
    }

    /// Copies the rows of image `n`, group `group`.
    #[inline(always)]
    pub fn fill<T: Float, S: Simd>(
        &self,
        simd: S,
        geometry: &Geometry,
        n: usize,
        group: usize,
        input: &[T],
        slab: &mut [T],
    ) {
        let channels = geometry.problem().group_in();
        let width = geometry.input()[2] as i64;
        // The part of a packed row that lies inside the input.
        let begin = self.first.clamp(0, width);
        let end = (self.first + self.pitch as i64).clamp(begin, width);
        let (left, inside) = ((begin - self.first) as usize, (end - begin) as usize);
        for z in self.rows[0].clone() {
            for y in self.rows[1].clone() {
                let row = &mut slab[self.row_at(z, y)..][..self.row];
                for channel in row.chunks_exact_mut(self.pitch.max(1)) {
                    zero(simd, &mut channel[..left.min(self.pitch)]);
                    zero(simd, &mut channel[(left + inside).min(self.pitch)..]);
                }
                if inside == 0 {
                    continue;
                }
                let from = geometry.input_at(n, group * channels, [z, y, begin as usize]);
                match geometry.problem().layout() {
                    Layout::Nchw => {
                        let plane = geometry.input_plane();
                        for (c, to) in row.chunks_exact_mut(self.pitch).enumerate() {
                            copy(simd, &input[from + c * plane..][..inside], &mut to[left..left + inside]);
                        }
                    }
                    Layout::Nhwc => {
                        let to = Rows { output: SharedOutput::new(row), start: left, step: self.pitch };
                        let step = geometry.problem().in_channels();
                        // SAFETY: the row is borrowed mutably here.
                        unsafe { transpose(simd, &input[from..], step, to, channels, inside) };
                    }
                }
            }
        }
    }
}
