//! Problems drawn at random: small in work, wide in shape.

use fastrand::Rng;
use tconv::{Activation, Axis, Epilogue, Geometry, Layout, Problem, Structure};

use crate::data::mix;
use crate::workloads::Workload;

/// A drawn problem does at most this many multiply-adds, kernels that do needless ones a few times as many.
const MOST_WORK: u128 = 1_000_000;
/// Elements of its largest tensor.
const MOST_ELEMENTS: usize = 200_000;

/// Problem number `index` of the stream `seed`, and the seed of its numbers.
pub fn draw(seed: u64, index: u64) -> (Workload, u64) {
    let own = mix(seed, index + 1);
    let mut random = Rng::with_seed(own);
    // Most draws are legal and small; nothing is gained from counting the others.
    let (problem, epilogue) = loop {
        let (problem, epilogue) = (problem(&mut random), epilogue(&mut random));
        if let Some(problem) = problem {
            break (problem, epilogue);
        }
    };
    let structure = if random.u8(..4) == 0 { Structure::Separable } else { Structure::General };
    let workload = Workload {
        name: format!("fuzz {index}"),
        problem,
        epilogue,
        structure,
        dtype: None,
        source: String::new(),
        tags: Vec::new(),
    };
    (workload, own)
}

fn problem(random: &mut Rng) -> Option<Problem> {
    let rank = random.usize(1..=3);
    let batch = *choose(random, &[0, 1, 1, 1, 1, 1, 2, 2, 3]);
    let (groups, group_in, group_out) = match random.u8(..4) {
        0 => (random.usize(2..=24), 1, random.usize(1..=2)), // depthwise, with a multiplier
        1 => (random.usize(2..=4), channels(random), channels(random)),
        _ => (1, channels(random), channels(random)),
    };
    let axes: Vec<Axis> = (0..rank).map(|_| axis(random, rank)).collect();
    let problem =
        Problem::new(batch, groups * group_in, groups * group_out, groups, &axes, Layout::Nchw).ok()?;
    let geometry = Geometry::new(&problem).ok()?;
    let largest = geometry.input_len().max(geometry.weight_len()).max(geometry.output_len());
    (geometry.multiply_adds() <= MOST_WORK && largest <= MOST_ELEMENTS).then_some(problem)
}

/// Few, or just around the widths of vectors and tiles.
fn channels(random: &mut Rng) -> usize {
    if random.bool() {
        random.usize(1..=6)
    } else {
        *choose(random, &[7, 8, 9, 15, 16, 17, 19, 24, 31, 32, 33, 48])
    }
}

fn axis(random: &mut Rng, rank: usize) -> Axis {
    let (input, kernel) = match rank {
        1 => (random.usize(1..=70), random.usize(1..=20)),
        2 => (random.usize(1..=20), random.usize(1..=7)),
        _ => (random.usize(1..=7), random.usize(1..=4)),
    };
    let stride = *choose(random, &[1, 1, 2, 2, 2, 3, 4, 5, 8]);
    let dilation = *choose(random, &[1, 1, 1, 2, 3, 4]);
    let reach = dilation * (kernel - 1);
    // Now and then more is cropped than the kernel reaches over the edge.
    let crop = |random: &mut Rng| {
        if random.u8(..8) == 0 { random.usize(..=reach + 3) } else { random.usize(..=reach) }
    };
    let begin = crop(random);
    let end = if random.bool() { begin } else { crop(random) };
    let output_padding = if random.bool() { 0 } else { random.usize(..stride.max(dilation)) };
    Axis { input, kernel, stride, padding: (begin, end), output_padding, dilation }
}

fn epilogue(random: &mut Rng) -> Epilogue {
    let activation = *choose(
        random,
        &[
            Activation::Identity,
            Activation::Identity,
            Activation::Relu,
            Activation::LeakyRelu { slope: 0.125 },
            Activation::LeakyRelu { slope: 0.01 },
            Activation::Clamp { low: -0.5, high: 1.5 },
            Activation::Sigmoid,
            Activation::Tanh,
        ],
    );
    Epilogue { bias: random.bool(), activation }
}

fn choose<'a, T>(random: &mut Rng, from: &'a [T]) -> &'a T {
    &from[random.usize(..from.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_repeat_and_cover() {
        let all: Vec<_> = (0..400).map(|i| draw(7, i).0).collect();
        assert_eq!(all[17], draw(7, 17).0);
        let some = |f: &dyn Fn(&Workload) -> bool| all.iter().filter(|w| f(w)).count();
        for rank in 1..=3 {
            assert!(some(&|w| w.problem.rank() == rank) > 20, "rank {rank}");
        }
        for batch in 0..=3 {
            assert!(some(&|w| w.problem.batch() == batch) > 10, "batch {batch}");
        }
        let any = |f: fn(&Axis) -> bool| some(&|w| w.problem.spatial().iter().any(f));
        assert!(any(|a| a.padding.0 != a.padding.1) > 50);
        assert!(any(|a| a.output_padding > 0) > 50);
        assert!(any(|a| a.dilation > 1 && a.stride > 1) > 50);
        assert!(any(|a| a.stride > a.kernel) > 30);
        assert!(some(&|w| w.problem.groups() > 1 && w.problem.group_in() == 1) > 30);
        assert!(some(&|w| w.structure == Structure::Separable) > 50);
        assert!(some(&|w| w.epilogue.activation == Activation::Tanh && w.epilogue.bias) > 10);
    }
}
