//! What bounds the error of a kernel that promises only a norm of it.

use crate::contract::request::Weights;
use crate::machine::tensor::Tensor;
use crate::problem::geometry::Geometry;

/// Σ‖w‖₁‖x‖₂ of single outputs, over the input channels of their group: w are the taps of the output's stride phase, x the
/// whole channel of its image. See [`crate::Exactness::Normwise`].
#[derive(Debug)]
pub struct Norms<'a> {
    geometry: &'a Geometry,
    weights: Weights<'a>,
    /// ‖x‖₂ of every channel of every image.
    inputs: Vec<f64>,
}

impl<'a> Norms<'a> {
    /// For a problem with its weights and an input.
    ///
    /// # Panics
    ///
    /// Where weights or input are not those of the problem.
    pub fn new(geometry: &'a Geometry, weights: Weights<'a>, input: Tensor<'_>) -> Self {
        let p = geometry.problem();
        let [depth, height, width] = geometry.input();
        let square = |n, c, at| input.get(geometry.input_at(n, c, at)).powi(2);
        let norm = |n, c| -> f64 {
            let rows = (0..depth).flat_map(|z| (0..height).map(move |y| (z, y)));
            rows.map(|(z, y)| (0..width).map(|x| square(n, c, [z, y, x])).sum::<f64>()).sum::<f64>().sqrt()
        };
        let channels = p.in_channels();
        Self {
            geometry,
            weights,
            inputs: (0..p.batch()).flat_map(|n| (0..channels).map(move |c| norm(n, c))).collect(),
        }
    }

    /// Of output element (image, channel, position), plus |bias|. Panics where there is none.
    pub fn at(&self, n: usize, channel: usize, position: [usize; 3]) -> f64 {
        let p = self.geometry.problem();
        let (group, local) = (channel / p.group_out(), channel % p.group_out());
        // The taps that ever meet an output of this phase, crop or not: k·D ≡ o + pb (mod S).
        let [tz, ty, tx] = [0, 1, 2].map(|a| -> Vec<usize> {
            let axis = &p.axes()[a];
            let residue = (position[a] + axis.padding.0) % axis.stride;
            (0..axis.kernel).filter(|k| k * axis.dilation % axis.stride == residue).collect()
        });
        let weight = |ci| -> f64 {
            let at = |z, y, x| self.weights.kernel.get(self.geometry.weight_at(ci, local, [z, y, x])).abs();
            let row = |z, y| tx.iter().map(|&x| at(z, y, x)).sum::<f64>();
            tz.iter().map(|&z| ty.iter().map(|&y| row(z, y)).sum::<f64>()).sum()
        };
        let bias = self.weights.bias.map_or(0.0, |bias| bias.get(channel).abs());
        (group * p.group_in()..(group + 1) * p.group_in())
            .map(|ci| weight(ci) * self.inputs[n * p.in_channels() + ci])
            .sum::<f64>()
            + bias
    }
}
