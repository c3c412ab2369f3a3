//! Packing of weights and bias, once per plan.

use super::blocking::Blocking;
use super::columns::Held;
use crate::microkernels::vector::Float;
use crate::problem::geometry::Geometry;
use crate::problem::problem::Layout;

/// Weights of one group, in the order in which tiles read them:
/// `[panel][phase z][phase y][tap z][tap y][input channel][tap x][column of the panel]`; a panel with a tap less leaves room for it.
pub fn pack_group<T: Float>(
    geometry: &Geometry,
    b: &Blocking,
    group: usize,
    weights: &[T],
    packed: &mut [T],
) {
    let [az, ay, _] = geometry.axes();
    let lanes = b.columns.lanes;
    let mut to = packed.chunks_exact_mut(lanes);
    for panel in (0..b.panels()).map(|i| b.panel(i)) {
        for (pz, py) in az.phases.iter().flat_map(|pz| ay.phases.iter().map(move |py| (pz, py))) {
            for (z, y) in (0..pz.taps).flat_map(|z| (0..py.taps).map(move |y| (pz.tap(z), py.tap(y)))) {
                for ci in 0..b.group_in {
                    for m in 0..b.x.taps {
                        let x = b.x.tap(m);
                        for held in &panel.held[..panel.vectors] {
                            let to = to.next().expect("as many vectors as were counted");
                            if m >= panel.taps {
                                continue;
                            }
                            let at = |co, x| geometry.weight_at(group * b.group_in + ci, co, [z, y, x]);
                            pack_vector(geometry, *held, to, |co, phase, to| match to {
                                [one] => *one = weights[at(co, x + phase)],
                                many => many.copy_from_slice(&weights[at(co, x + phase)..][..many.len()]),
                            });
                        }
                    }
                }
            }
        }
    }
}

/// Bias of one group: a value for each column.
pub fn pack_bias<T: Float>(geometry: &Geometry, b: &Blocking, bias: &[T], packed: &mut [T]) {
    for (v, to) in packed.chunks_exact_mut(b.columns.lanes).enumerate() {
        pack_vector(geometry, b.columns.held(v), to, |co, _, to| to.fill(bias[co]));
    }
}

/// Calls `write(channel, first phase, lanes)` for every run of lanes of one vector that are phases of one channel.
#[inline(always)]
fn pack_vector<T>(geometry: &Geometry, held: Held, to: &mut [T], write: impl Fn(usize, usize, &mut [T])) {
    match geometry.problem().layout() {
        Layout::Nchw => {
            for (r, to) in to.chunks_exact_mut(held.len).take(held.runs).enumerate() {
                write(held.first_run + r, held.offset, to);
            }
        }
        Layout::Nhwc => {
            let channels = geometry.problem().out_channels();
            for (c, to) in to[..held.len].chunks_exact_mut(1).enumerate() {
                write((held.offset + c) % channels, (held.offset + c) / channels, to);
            }
        }
    }
}
