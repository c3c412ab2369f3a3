//! The f64 oracle: output-stationary, straight from the definition, for any single output element.
//!
//! It shares nothing with the kernels but the flat indices: every output asks which (input, tap) pairs land on it, by
//! divisibility, one axis at a time. Its own proof: the printed numbers of d2l 14.10, published literal cases, and exact
//! adjointness with the forward convolution (`tests/oracle.rs`).

use crate::contract::kernel::Exactness;
use crate::contract::request::Weights;
use crate::machine::tensor::Tensor;
use crate::problem::epilogue::Epilogue;
use crate::problem::geometry::Geometry;
use crate::problem::problem::Axis;

/// The exact value of one output element and what bounds its error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exact {
    /// Sum and bias, before the activation.
    pub sum: f64,
    /// After the activation.
    pub value: f64,
    /// Σ|x||w| + |bias|.
    pub magnitude: f64,
    /// Products that met.
    pub products: usize,
}

impl Exact {
    /// With the bound that a kernel of this exactness is held to, `group_in` input channels in a group: for
    /// [`Exactness::Normwise`] it rests on `norm`, which [`crate::Norms::at`] tells.
    pub fn held_to(self, exactness: Exactness, group_in: usize, norm: impl FnOnce() -> f64) -> Self {
        match exactness {
            Exactness::Normwise { .. } => {
                let products = exactness.roundings(self.products, group_in) - 1;
                Self { magnitude: norm(), products, ..self }
            }
            _ => self,
        }
    }

    /// The componentwise bound for direct summation in a type with unit roundoff `u`, in any order:
    /// γ(n + 1)·Σ|x||w| before the activation, through its slope, and 4 ulp of its own rounding.
    pub fn bound(&self, epilogue: Epilogue, u: f64) -> f64 {
        let m = (self.products + 1) as f64 * u;
        let gamma = m / (1.0 - m);
        let act = epilogue.activation;
        let own = if act.is_transcendental() { 8.0 * u * self.value.abs() } else { u * self.value.abs() };
        gamma * self.magnitude * act.lipschitz() + if act == Default::default() { 0.0 } else { own }
    }
}

/// Evaluates single output elements.
#[derive(Debug, Clone, Copy)]
pub struct Oracle<'a> {
    geometry: &'a Geometry,
    weights: Weights<'a>,
    epilogue: Epilogue,
}

impl<'a> Oracle<'a> {
    /// For a problem with its weights.
    ///
    /// # Panics
    ///
    /// Not here: [`Oracle::at`] does where weights, bias, input or position are not those of the problem.
    pub fn new(geometry: &'a Geometry, weights: Weights<'a>, epilogue: Epilogue) -> Self {
        Self { geometry, weights, epilogue }
    }

    /// Output element (image, channel, position).
    ///
    /// # Panics
    ///
    /// See [`Oracle::new`].
    pub fn at(&self, input: Tensor<'_>, n: usize, channel: usize, position: [usize; 3]) -> Exact {
        let p = self.geometry.problem();
        let group = channel / p.group_out();
        let local = channel % p.group_out();
        let [pz, py, px] = [0, 1, 2].map(|a| landing(&p.axes()[a], position[a]));
        let bias = self.weights.bias.filter(|_| self.epilogue.bias).map_or(0.0, |b| b.get(channel));
        let (mut sum, mut magnitude, mut products) = (0.0, bias.abs(), 0);
        for j in 0..p.group_in() {
            let ci = group * p.group_in() + j;
            for &(iz, kz) in &pz {
                for &(iy, ky) in &py {
                    for &(ix, kx) in &px {
                        let x = input.get(self.geometry.input_at(n, ci, [iz, iy, ix]));
                        let w = self.weights.kernel.get(self.geometry.weight_at(ci, local, [kz, ky, kx]));
                        sum += x * w;
                        magnitude += (x * w).abs();
                        products += 1;
                    }
                }
            }
        }
        sum += bias;
        Exact { sum, value: self.epilogue.activation.exact(sum), magnitude, products }
    }
}

/// The pairs (input, tap) of one axis that land on output `o`: i·S + k·D = o + pb.
fn landing(axis: &Axis, o: usize) -> Vec<(usize, usize)> {
    let position = o + axis.padding.0;
    let mut pairs = Vec::new();
    for k in 0..axis.kernel {
        let Some(reach) = k.checked_mul(axis.dilation).and_then(|kd| position.checked_sub(kd)) else { break };
        if reach % axis.stride == 0 && reach / axis.stride < axis.input {
            pairs.push((reach / axis.stride, k));
        }
    }
    pairs
}
