//! Which output elements are checked where checking all would take too long.

use std::collections::BTreeSet;

use tconv::Geometry;

/// Outputs next to either end of an axis that count as its edge.
const EDGE: usize = 4;
/// Samples on every edge position of every axis.
const PER_EDGE: usize = 24;

/// Output positions `(n, c, [z, y, x])`, sorted, each once: at least `at_least`, or all where there are not many more.
///
/// Together they visit every output channel and image (round robin over random permutations), every combination of
/// stride phases that `at_least` has room for, all eight corners, and the first and last few positions of every axis:
/// wherever a kernel changes its code path. The rest is left to chance, by `seed`.
pub fn positions(geometry: &Geometry, at_least: usize, seed: u64) -> Vec<(usize, usize, [usize; 3])> {
    let (problem, output) = (geometry.problem(), geometry.output());
    let (batch, channels) = (problem.batch(), problem.out_channels());
    if geometry.output_len() <= at_least.saturating_mul(2) {
        return everything(batch, channels, output);
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let mut images = Cycle::new(batch);
    let mut blocks = Cycle::new(channels);
    let mut found = BTreeSet::new();

    for (axis, &size) in output.iter().enumerate() {
        for edge in (0..size).filter(|&i| i < EDGE || i + EDGE >= size) {
            for _ in 0..PER_EDGE {
                let mut at = output.map(|size| random.usize(..size));
                at[axis] = edge;
                found.insert((images.next(&mut random), blocks.next(&mut random), at));
            }
        }
    }
    for corner in 0..8 {
        let at = [0, 1, 2].map(|axis| if corner >> axis & 1 == 0 { 0 } else { output[axis] - 1 });
        found.insert((images.next(&mut random), blocks.next(&mut random), at));
    }

    // One step visits the next combination of phases; channels and images go round at their own pace, so that over many
    // steps every phase meets many channels.
    let phases = geometry.axes().each_ref().map(|a| a.phases.len());
    let mut combinations = Cycle::new(phases.iter().product());
    let mut steps = 0;
    while found.len() < at_least || steps < channels.max(batch) {
        let combination = combinations.next(&mut random);
        let chosen = [
            combination / phases[1] / phases[2],
            combination / phases[2] % phases[1],
            combination % phases[2],
        ];
        let at = [0, 1, 2].map(|axis| {
            let (axis, phase) = (&geometry.axes()[axis], chosen[axis]);
            let phase = &axis.phases[phase];
            phase.first_output + random.usize(..phase.outputs) * axis.axis.stride
        });
        found.insert((images.next(&mut random), blocks.next(&mut random), at));
        steps += 1;
    }
    found.into_iter().collect()
}

fn everything(
    batch: usize,
    channels: usize,
    [depth, height, width]: [usize; 3],
) -> Vec<(usize, usize, [usize; 3])> {
    let mut all = Vec::new();
    for n in 0..batch {
        for c in 0..channels {
            for z in 0..depth {
                for y in 0..height {
                    all.extend((0..width).map(|x| (n, c, [z, y, x])));
                }
            }
        }
    }
    all
}

/// The numbers below a bound, in a random order that is new in every round.
struct Cycle {
    order: Vec<usize>,
    next: usize,
}

impl Cycle {
    /// Of the numbers below `bound`, which is not 0.
    fn new(bound: usize) -> Self {
        Self { order: (0..bound).collect(), next: 0 }
    }

    fn next(&mut self, random: &mut fastrand::Rng) -> usize {
        if self.next == 0 {
            random.shuffle(&mut self.order);
        }
        let value = self.order[self.next];
        self.next = (self.next + 1) % self.order.len();
        value
    }
}

#[cfg(test)]
mod tests {
    use tconv::{Axis, Layout, Problem};

    use super::*;

    fn geometry(batch: usize, channels: usize, axes: &[Axis]) -> Geometry {
        Geometry::new(&Problem::new(batch, 3, channels, 1, axes, Layout::Nchw).unwrap()).unwrap()
    }

    #[test]
    fn small_outputs_are_checked_whole() {
        let g = geometry(2, 3, &[Axis::new(3, 2, 2), Axis::new(2, 2, 1)]);
        let all = positions(&g, 4096, 1);
        assert_eq!(all.len(), g.output_len());
        let flat: BTreeSet<_> = all.iter().map(|&(n, c, at)| g.output_at(n, c, at)).collect();
        assert_eq!(flat.len(), g.output_len());
    }

    #[test]
    fn an_empty_batch_has_no_positions() {
        assert!(positions(&geometry(0, 3, &[Axis::new(3, 2, 2)]), 4096, 1).is_empty());
    }

    #[test]
    fn every_phase_channel_image_and_edge_is_visited() {
        let g = geometry(5, 700, &[Axis::new(2, 2, 1), Axis::new(9, 40, 32), Axis::new(11, 16, 8)]);
        let found = positions(&g, 4096, 7);
        assert!(found.len() >= 4096);
        assert!(found.windows(2).all(|w| w[0] < w[1]), "sorted, each once");
        let [_, height, width] = g.output();
        assert!(found.iter().all(|&(_, _, [_, y, x])| y < height && x < width));
        let channels: BTreeSet<_> = found.iter().map(|f| f.1).collect();
        let images: BTreeSet<_> = found.iter().map(|f| f.0).collect();
        let phases: BTreeSet<_> = found.iter().map(|&(_, _, [_, y, x])| (y % 32, x % 8)).collect();
        assert_eq!((channels.len(), images.len(), phases.len()), (700, 5, 32 * 8));
        for edge in [0, 1, 2, 3, width - 4, width - 3, width - 2, width - 1] {
            assert!(found.iter().filter(|f| f.2[2] == edge).count() >= 20, "x = {edge}");
        }
        for y in [0, height - 1] {
            for x in [0, width - 1] {
                assert!(found.iter().any(|f| f.2[1] == y && f.2[2] == x), "corner {y}, {x}");
            }
        }
    }

    #[test]
    fn the_seed_decides() {
        let g = geometry(1, 64, &[Axis::new(40, 4, 2), Axis::new(40, 4, 2)]);
        assert_eq!(positions(&g, 4096, 3), positions(&g, 4096, 3));
        assert_ne!(positions(&g, 4096, 3), positions(&g, 4096, 4));
    }
}
