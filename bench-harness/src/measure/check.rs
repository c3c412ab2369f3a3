//! A wrong answer is no measurement: checks the very output that a timed plan wrote.

use std::fmt;

use tconv::{Element, Epilogue, Exact, Exactness, Geometry, Norms, Oracle, Weights};

use super::contender::Buffers;
use crate::sample;

/// Outputs that are compared at least (all, where there are fewer).
pub const AT_LEAST: usize = 4096;

/// What the outputs of one workload must be: exact values at sampled positions, computed once for all kernels.
#[derive(Debug, Clone)]
pub struct Expected {
    epilogue: Epilogue,
    outputs: usize,
    group_in: usize,
    samples: Vec<Sample>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: (usize, usize, [usize; 3]),
    index: usize,
    exact: Exact,
    /// What bounds the error where only its norm is promised.
    norm: Option<f64>,
}

/// An output that cannot be right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum WrongAnswer {
    /// NaN came out of finite numbers, or was left there: how many, and the flat index of the first.
    Unwritten {
        /// Elements that are NaN.
        count: usize,
        /// Flat index of the first.
        first: usize,
    },
    /// An element is further from its exact value than any order of summation explains.
    Inexact {
        /// Image, channel, position.
        at: (usize, usize, [usize; 3]),
        /// What the kernel wrote.
        got: f64,
        /// The exact value.
        expected: f64,
        /// The largest error that rounding can cause.
        bound: f64,
    },
}

impl fmt::Display for WrongAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unwritten { count, first } => {
                write!(f, "{count} outputs are NaN or were never written, the first at flat index {first}")
            }
            Self::Inexact { at: (n, c, [z, y, x]), got, expected, bound } => {
                write!(
                    f,
                    "output n={n} c={c} z={z} y={y} x={x} is {got}: expected {expected} within {bound:.3e}"
                )
            }
        }
    }
}

impl Expected {
    /// Asks the oracle at positions chosen by `seed`. No bias.
    pub fn new<T: Element>(
        geometry: &Geometry,
        buffers: &Buffers<T>,
        epilogue: Epilogue,
        bias: Option<&[T]>,
        seed: u64,
    ) -> Self {
        let mut weights = Weights::new(&buffers.weights);
        if let Some(bias) = bias {
            weights = weights.with_bias(bias);
        }
        let oracle = Oracle::new(geometry, weights, epilogue);
        let input = T::tensor(&buffers.input);
        let samples = sample::positions(geometry, AT_LEAST, seed)
            .into_iter()
            .map(|at @ (n, c, position)| Sample {
                at,
                index: geometry.output_at(n, c, position),
                exact: oracle.at(input, n, c, position),
                norm: None,
            })
            .collect();
        let group_in = geometry.problem().group_in();
        Self { epilogue, outputs: geometry.output_len(), group_in, samples }
    }

    /// Also for kernels that promise only a norm of their error: with the same data as before.
    pub fn with_norms<T: Element>(
        mut self,
        geometry: &Geometry,
        buffers: &Buffers<T>,
        bias: Option<&[T]>,
    ) -> Self {
        let mut weights = Weights::new(&buffers.weights);
        if let Some(bias) = bias {
            weights = weights.with_bias(bias);
        }
        let norms = Norms::new(geometry, weights, T::tensor(&buffers.input));
        for sample in &mut self.samples {
            let (n, c, position) = sample.at;
            sample.norm = Some(norms.at(n, c, position));
        }
        self
    }

    /// Compares every sample and looks for NaN everywhere. Returns the largest error in units of u·Σ|x||w|, also of a kernel that
    /// promises only a norm (for which [`Expected::with_norms`] must have been asked).
    pub fn check<T: Element>(&self, output: &[T], exactness: Exactness) -> Result<f64, WrongAnswer> {
        assert_eq!(output.len(), self.outputs, "an output of this workload");
        let is_nan = |x: &T| x.to_f64().is_nan();
        if let Some(first) = output.iter().position(is_nan) {
            let count = output.iter().filter(|x| is_nan(x)).count();
            return Err(WrongAnswer::Unwritten { count, first });
        }
        let u = T::DTYPE.unit_roundoff();
        let growth = exactness.growth();
        let mut worst: f64 = 0.0;
        for Sample { at, index, exact, norm } in &self.samples {
            let held = exact.held_to(exactness, self.group_in, || norm.expect("norms were asked for"));
            let (got, expected) = (output[*index].to_f64(), exact.value);
            let (error, bound) = ((got - expected).abs(), growth * held.bound(self.epilogue, u));
            if error > bound {
                return Err(WrongAnswer::Inexact { at: *at, got, expected, bound });
            }
            if exact.magnitude > 0.0 {
                worst = worst.max(error / (u * exact.magnitude));
            }
        }
        Ok(worst)
    }
}

#[cfg(test)]
mod tests {
    use tconv::{Axis, Layout, Planner, Problem, Structure};

    use super::*;
    use crate::measure::{Contender, Crew, PlanContender};

    #[test]
    fn a_right_answer_passes_and_a_wrong_one_is_named() {
        let axes = [Axis { padding: (1, 1), ..Axis::new(9, 4, 2) }, Axis::new(7, 3, 3)];
        for layout in Layout::ALL {
            let problem = Problem::new(2, 5, 6, 1, &axes, layout).unwrap();
            let geometry = Geometry::new(&problem).unwrap();
            let buffers = Buffers::<f32>::new(&geometry, Structure::General, 1).unwrap();
            let expected = Expected::new(&geometry, &buffers, Epilogue::NONE, None, 2);
            let plan =
                Planner::new().plan::<f32>(&problem, Weights::new(&buffers.weights), Epilogue::NONE).unwrap();
            let crew = Crew::new(1).unwrap();

            let check = |output: &[f32]| expected.check(output, Exactness::Direct);
            let left = check(&buffers.output());
            assert_eq!(left, Err(WrongAnswer::Unwritten { count: geometry.output_len(), first: 0 }));

            PlanContender::new(&plan, &buffers, &crew).unwrap().run(1);
            let error = check(&buffers.output()).unwrap();
            assert!(error > 0.0 && error < 5.0 * 4.0 * 2.0, "{error}");

            let mut output = buffers.output().to_vec();
            let index = geometry.output_at(1, 3, [0, 2, 4]);
            output[index] += 1e-3;
            let wrong = check(&output).unwrap_err();
            assert!(matches!(wrong, WrongAnswer::Inexact { at: (1, 3, [0, 2, 4]), .. }), "{wrong}");
            assert!(wrong.to_string().contains("n=1 c=3 z=0 y=2 x=4"), "{wrong}");
            output[index] = f32::NAN;
            assert_eq!(check(&output), Err(WrongAnswer::Unwritten { count: 1, first: index }));
        }
    }
}
