//! Packing of the weights, once per plan, and of the indices that bring inputs to them.

use super::blocking::Blocking;
use crate::microkernels::permute::write_indices;
use crate::microkernels::vector::Float;
use crate::problem::geometry::Geometry;

/// Weights of vector `v` of output channels, in the order in which tiles read them:
/// `[phase z][phase y][chunk x][tap z][tap y][input channel of the group][phase x][tap x][lane]`.
pub fn pack_vector<T: Float>(g: &Geometry, b: &Blocking, v: usize, weights: &[T], packed: &mut [T]) {
    let [az, ay, ax] = g.axes();
    let mut vectors = packed.chunks_exact_mut(b.lanes);
    for pz in &az.phases {
        for py in &ay.phases {
            for unit in &b.units {
                for chunk in &unit.chunks {
                    for (z, y) in (0..pz.taps).flat_map(|z| (0..py.taps).map(move |y| (z, y))) {
                        for ci in 0..b.group_in {
                            for (number, phase) in unit.phases().enumerate() {
                                let short = usize::from(number >= chunk.shape.full);
                                for m in chunk.first..chunk.first + chunk.shape.taps - short {
                                    let tap = [pz.tap(z), py.tap(y), ax.phases[phase].tap(m)];
                                    let vector = vectors.next().expect("room for every tap");
                                    for (to, channel) in vector.iter_mut().zip(b.channels_of(v)) {
                                        let (group, co) = (channel / b.group_out, channel % b.group_out);
                                        *to = weights[g.weight_at(group * b.group_in + ci, co, tap)];
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Indices of vector `v` of output channels: for each input channel of a packed vector, those that put it into the lanes
/// of its group. Lanes without a channel repeat the first group.
pub fn pack_indices<T: Float>(b: &Blocking, v: usize, packed: &mut [T]) {
    let first = b.groups_of(v).start;
    let mut from = vec![0; b.lanes];
    for (c, packed) in packed.chunks_exact_mut(b.lanes).enumerate() {
        from.fill(c);
        for (from, channel) in from.iter_mut().zip(b.channels_of(v)) {
            *from = (channel / b.group_out - first) * b.per_vector + c;
        }
        write_indices(&from, packed);
    }
}
