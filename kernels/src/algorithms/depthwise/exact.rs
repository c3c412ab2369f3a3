//! Weights that are not finite: only the taps that the definition has, one output after the other.

use std::ops::Range;

use super::run::PreparedDepthwise;
use crate::machine::parallel::SharedOutput;
use crate::microkernels::activation::activate;
use crate::microkernels::vector::Float;

/// The outputs of one piece of work.
pub struct Outputs<'a, T> {
    pub plan: &'a PreparedDepthwise<T>,
    pub input: &'a [T],
    pub output: SharedOutput<'a, T>,
    pub image: usize,
    pub channels: Range<usize>,
    pub x: Range<usize>,
}

/// The output rows `y` of `z`.
pub fn exact_rows<T: Float>(outputs: &Outputs<'_, T>, z: usize, y: Range<usize>) {
    let g = &outputs.plan.geometry;
    for y in y {
        for x in outputs.x.clone() {
            for channel in outputs.channels.clone() {
                let at = g.output_at(outputs.image, channel, [z, y, x]);
                // SAFETY: this output belongs to this piece alone.
                let to = unsafe { outputs.output.slice_mut(at, 1) };
                to[0] = outputs.sum(channel, [z, y, x]);
                activate(outputs.plan.epilogue.activation, to);
            }
        }
    }
}

impl<T: Float> Outputs<'_, T> {
    fn sum(&self, channel: usize, output: [usize; 3]) -> T {
        let (plan, g) = (self.plan, &self.plan.geometry);
        let axes = g.axes();
        let [(pz, qz), (py, qy), (px, qx)] = [0, 1, 2].map(|a| axes[a].phase_of(output[a]));
        let [_, kh, kw] = g.kernel();
        let from = channel / g.problem().group_out();
        let mut sum = plan.bias[plan.bias_at(channel)];
        for z in pz.valid_taps(qz) {
            for y in py.valid_taps(qy) {
                for x in px.valid_taps(qx) {
                    let tap = (pz.tap(z) * kh + py.tap(y)) * kw + px.tap(x);
                    let input = [pz.input_index(qz, z), py.input_index(qy, y), px.input_index(qx, x)];
                    let input = g.input_at(self.image, from, input.map(|i| i as usize));
                    sum += self.input[input] * plan.weights[plan.weight_at(channel, tap)];
                }
            }
        }
        sum
    }
}
