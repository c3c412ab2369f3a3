//! Packing of the weights, once per plan.

use super::blocking::Blocking;
use crate::microkernels::vector::Float;
use crate::problem::geometry::{Geometry, Phase};

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
    let kernel = geometry.kernel_taps();
    let mut rest = packed;
    for block in 0..blocking.blocks() {
        let first = block * blocking.block();
        let width = blocking.vectors(first) * blocking.lanes;
        let filled = width.min(blocking.group_out - first);
        let (packed, after) = rest.split_at_mut(blocking.taps * blocking.group_in * width);
        rest = after;
        // One input channel after another: the weights of a block of output channels lie together, and are read once.
        for ci in 0..blocking.group_in {
            let start = geometry.weight_at(group * blocking.group_in + ci, first, [0; 3]);
            let weights = &weights[start..start + filled * kernel];
            let mut at = ci * width;
            for pz in &az.phases {
                for py in &ay.phases {
                    for px in &ax.phases {
                        for tap in taps(pz, py, px) {
                            let channels = weights[geometry.weight_at(0, 0, tap)..].iter().step_by(kernel);
                            for (to, from) in packed[at..at + filled].iter_mut().zip(channels) {
                                *to = *from;
                            }
                            at += blocking.group_in * width;
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
