//! The layers whose taps have a pass of their own: whole output rows in one call.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::blocking::Blocking;
use super::rows::Source;
use super::run::{Activate, Piece};
use super::store::Place;
use crate::contract::request::Request;
use crate::machine::parallel::SharedOutput;
use crate::microkernels::row_pass::{Form, Line, RowPass, alone};
use crate::microkernels::row_tile::Lanes;
use crate::microkernels::vector::Float;
use crate::problem::epilogue::Activation;

/// Bytes of an output that lies far away: to ask for its lines costs less than to wait for them.
const FAR_OUTPUT: usize = 12 << 20;

/// The pass of this layer, if it has one: vectors, no taps along z, stride 1 or 2.
pub fn form(request: &Request<'_>) -> Option<Form> {
    let [az, ay, ax] = request.geometry.axes();
    if !request.target.isa.has_vectors() || az.axis.kernel != 1 || az.axis.stride != 1 {
        return None;
    }
    let y = match (ay.axis.stride, ay.axis.dilation) {
        (1, _) => [ay.axis.kernel, 0],
        (2, 1) => [ay.axis.kernel.div_ceil(2), ay.axis.kernel / 2],
        _ => return None,
    };
    match (ax.axis.stride, &ax.phases[..]) {
        (1, [all]) if ax.axis.dilation == 1 => Form::find(y, 0, [all.taps, 0]),
        (2, [first, second]) if ax.axis.dilation == 1 => {
            let lead = usize::try_from(second.base - first.base).ok()?;
            Form::find(y, lead, [first.taps, second.taps])
        }
        _ => None,
    }
}

impl<T: Float> Piece<'_, '_, T> {
    /// The zeros beside all rows of the ring: they stay while the positions along x do.
    #[inline(always)]
    pub fn clear_sides(&mut self) {
        let (g, b) = (&self.plan.geometry, &self.plan.blocking);
        let source = Source::new(g, b, self.input, (self.image, self.channel, self.channels), self.x.start);
        for row in self.rows[b.spare..].chunks_exact_mut(b.pitch) {
            source.clear_sides(row);
        }
    }

    /// The output rows (z, y) of one z, which reads input `z_input`.
    #[inline(always)]
    pub fn pass_rows<S: Simd>(&mut self, simd: S, form: Form, z: usize, z_input: usize, y: Range<usize>) {
        let (plan, g, b) = (self.plan, &self.plan.geometry, &self.plan.blocking);
        let (channel, channels) = (self.channel, self.channels);
        let [_, ay, ax] = g.axes();
        let source = Source::new(g, b, self.input, (self.image, channel, channels), self.x.start);
        let (kw, taps) = (g.kernel()[2], g.kernel_taps());
        let (first, second) = (&ax.phases[0], &ax.phases[ax.phases.len() - 1]);
        let outputs = [first, second].map(|p| p.outputs.min(self.x.end).saturating_sub(self.x.start));
        // From one position and one phase to the next; elements of a row from its first output to its last.
        let stride = ax.axis.stride;
        let (all, pixels) = (g.problem().out_channels(), outputs[..stride].iter().sum::<usize>());
        let (steps, len) = match b.lanes_are {
            Lanes::Positions => ([stride, 1], pixels),
            Lanes::Channels => ([stride * all, all], (pixels - 1) * all + channels),
        };
        let start = g.output_at(self.image, channel, [z, 0, self.x.start * stride]);
        let row_step = g.output_at(0, 0, [0, 1, 0]);
        let place = if b.in_place {
            &self.input[g.input_at(self.image, channel / g.problem().group_out(), [z_input, 0, 0])..]
        } else {
            &[]
        };

        // Output o reads input (o + crop) / stride first, and then upwards: both rows of a pair the same ones.
        let (crop, stride, height) = (ay.axis.padding.0, ay.axis.stride, g.input()[1]);
        let (begin, end) = ((y.start + crop) / stride, (y.end - 1 + crop) / stride + 1);
        let back = (ay.axis.kernel - 1) / stride * ay.axis.dilation;
        let chunk = if b.in_place { usize::MAX } else { b.ring.saturating_sub(back).max(1) };
        let mut filled = begin.saturating_sub(back);
        let mut t = begin;
        while t < end {
            let next = end.min(t.saturating_add(chunk));
            let (spare, ring) = self.rows.split_at_mut(b.spare);
            let (zeros, dust) = spare.split_at_mut(b.zeros);
            if !b.in_place {
                alone(
                    simd,
                    Fill {
                        source: &source,
                        z: z_input,
                        y: filled..next.min(height),
                        ring: b,
                        rows: &mut *ring,
                    },
                );
                filled = filled.max(next.min(height));
            }
            let mut lines = [Line::none(), Line::none()];
            for (side, line) in lines[..stride].iter_mut().enumerate() {
                // The pairs that have this row.
                let from = (y.start + crop).saturating_sub(side).div_ceil(stride).max(t);
                let to = (y.end + crop).saturating_sub(side).div_ceil(stride).min(next);
                if from < to {
                    let at = start + (stride * from + side - crop) * row_step;
                    let len = (to - from - 1) * stride * row_step + len;
                    // SAFETY: the rows belong to this piece alone.
                    *line = unsafe {
                        Line::new(self.output, (at, len), [steps[0], steps[1], stride * row_step], from..to)
                    };
                }
            }
            let in_place = b.in_place;
            let activation = plan.epilogue.activation;
            let pass = RowPass {
                lanes_are: b.lanes_are,
                rows: if in_place { place } else { ring },
                ring: if in_place { height.next_power_of_two() } else { b.ring },
                pitch: if in_place { g.input_at(0, 0, [0, 1, 0]) } else { b.pitch },
                width: if in_place { g.input()[2] } else { b.pitch / b.unit },
                pixel: if in_place { g.input_at(0, 0, [0, 0, 1]) } else { b.unit },
                zeros,
                dust: SharedOutput::new(dust),
                height,
                row_step: ay.axis.dilation,
                x_first: first.base + if in_place { self.x.start as i64 } else { b.x_start / b.unit as i64 },
                weights: &plan.weights[self.packed * taps..][..taps * b.unit * self.units],
                y_weights: ([0, kw * b.unit], stride * kw * b.unit),
                x_weights: ([first.first_tap * b.unit, second.first_tap * b.unit], first.tap_step * b.unit),
                bias: &plan.bias[self.packed..][..b.unit * self.units],
                activation,
                plain: activation == Activation::Identity || activation.is_transcendental(),
                outputs,
                channels: channels.min(b.unit),
                units: self.units,
                unit_weights: taps * b.unit,
                last_unit: if self.units > 1 { channels - b.unit } else { 0 },
                ask: g.output_len() * size_of::<T>() >= FAR_OUTPUT,
            };
            pass.run(simd, form, t..next, &lines);
            t = next;
        }
        if plan.epilogue.activation.is_transcendental() {
            let mut place = Place::new(self.output, (g, b), (self.image, channel, channels), z, &self.x);
            for y in y {
                place.set_rows(y, 1);
                simd.vectorize(Activate { place: &place, rows: 1, activation: plan.epilogue.activation });
            }
        }
    }
}

/// Copies input rows into the ring; the zeros beside them are there.
struct Fill<'a, T> {
    source: &'a Source<'a, T>,
    z: usize,
    y: Range<usize>,
    ring: &'a Blocking,
    rows: &'a mut [T],
}

impl<T: Float> WithSimd for Fill<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (mask, pitch) = (self.ring.ring - 1, self.ring.pitch);
        for y in self.y {
            self.source.fill_inside(simd, self.z, y, &mut self.rows[(y & mask) * pitch..][..pitch]);
        }
    }
}
