//! The factors, in the order in which the passes read them.

use super::blocking::{Blocking, Widening};
use crate::contract::request::{Declined, Refusal, Weights};
use crate::contract::separable::{Factors, Separable, block, only_input};
use crate::error::Error;
use crate::machine::scratch::{AlignedVec, filled_vec};
use crate::microkernels::vector::Float;
use crate::problem::geometry::Geometry;

/// What the passes need to know of the weights.
#[derive(Debug)]
pub struct Packed<T> {
    /// The input channel of each output channel.
    pub source: Vec<usize>,
    /// Whether that is always its own number.
    pub in_place: bool,
    /// Along z: `[output channel][tap]`, or `[tap][output channel]` where a position is many channels.
    pub z: AlignedVec<T>,
    /// Along x: the same, or `[output channel][input, the last first][output of a position]`.
    pub x: AlignedVec<T>,
    /// Along y: `[output channel][tap]`; where a position is many channels `[tap][element of the period]`.
    pub y: AlignedVec<T>,
    /// `[output channel]`, or `[element of the period]`.
    pub bias: AlignedVec<T>,
    /// Vectors after which factors along y and bias repeat; 0 where all channels have the same.
    pub period: usize,
}

impl<T: Float> Packed<T> {
    pub fn new(geometry: &Geometry, b: &Blocking, weights: Weights<'_>) -> Result<Self, Refusal> {
        let (kernel, bias) = weights.typed::<T>()?;
        if !weights.kernel.all_finite() {
            return Err(declined(Separable::NotFinite));
        }
        let channels = geometry.problem().out_channels();
        let mut factors = Factors::new(geometry.kernel())?;
        let mut packed = Self {
            source: filled_vec("input channels", channels, 0)?,
            in_place: true,
            z: AlignedVec::zeroed("factors along z", b.z_line(geometry.kernel()[0]))?,
            x: AlignedVec::zeroed("factors along x", b.x_line(geometry))?,
            y: AlignedVec::zeroed("factors along y", 0)?,
            bias: AlignedVec::zeroed("bias", 0)?,
            period: 0,
        };
        let ky = geometry.kernel()[1];
        let mut y = filled_vec("factors along y", channels * ky, T::default())?;
        for output in 0..channels {
            let found = only_input(geometry, kernel, output)
                .map_err(|inputs| declined(Separable::Mixed { output, inputs }))?;
            // Without weights, any channel of the group will do.
            let input =
                found.unwrap_or(output / geometry.problem().group_out() * geometry.problem().group_in());
            if !factors.find(block(geometry, kernel, input, output)) {
                return Err(declined(Separable::Full { output, input }));
            }
            packed.source[output] = input;
            packed.in_place &= input == output;
            packed.put(geometry, b, output, &factors);
            y[output * ky..][..ky].copy_from_slice(factors.line(1));
        }
        packed.put_period(b, ky, &y, bias)?;
        Ok(packed)
    }

    /// The factors of one channel along z and x.
    fn put(&mut self, geometry: &Geometry, b: &Blocking, channel: usize, factors: &Factors<'_, T>) {
        let [kz, _, kx] = geometry.kernel();
        let at = |taps: usize, k: usize| match b.widening {
            Widening::Channels => k * b.padded() + channel,
            _ => channel * taps + k,
        };
        for (k, factor) in factors.line(0).iter().enumerate() {
            self.z[at(kz, k)] = *factor;
        }
        let (Widening::Outputs { span } | Widening::Interleaved { span }) = b.widening else {
            for (k, factor) in factors.line(2).iter().enumerate() {
                self.x[at(kx, k)] = *factor;
            }
            return;
        };
        let columns = b.columns(geometry);
        let table = &mut self.x[channel * span * columns..][..span * columns];
        for (rho, phase) in geometry.axes()[2].phases.iter().enumerate() {
            for m in 0..phase.taps {
                let back = (b.reach_x.end - 1 - phase.input_index(0, m)) as usize;
                table[back * columns + rho] = factors.line(2)[phase.tap(m)];
            }
        }
    }

    /// The factors along y and the bias, repeated until vectors and channels come together again.
    fn put_period(&mut self, b: &Blocking, ky: usize, y: &[T], bias: Option<&[T]>) -> Result<(), Error> {
        let channels = y.len() / ky;
        let bias_of = |channel: usize| bias.map_or(T::default(), |bias| bias[channel]);
        if b.unit == 1 {
            self.y = AlignedVec::zeroed("factors along y", y.len())?;
            self.y.copy_from_slice(y);
            self.bias = AlignedVec::zeroed("bias", channels)?;
            for (channel, to) in self.bias.iter_mut().enumerate() {
                *to = bias_of(channel);
            }
            return Ok(());
        }
        let same = (1..channels).all(|c| y[c * ky..][..ky] == y[..ky] && bias_of(c) == bias_of(0));
        self.period = if same { 0 } else { b.period() };
        let len = self.period.max(1) * b.lanes;
        self.y = AlignedVec::zeroed("factors along y", ky * len)?;
        self.bias = AlignedVec::zeroed("bias", len)?;
        for i in 0..len {
            for k in 0..ky {
                self.y[k * len + i] = y[i % channels * ky + k];
            }
            self.bias[i] = bias_of(i % channels);
        }
        Ok(())
    }
}

fn declined(found: Separable) -> Refusal {
    Declined::because(found.to_string()).into()
}
