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
