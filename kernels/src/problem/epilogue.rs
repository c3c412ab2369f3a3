//! What happens to a sum before it is stored: bias, then activation.

use crate::error::Error;

/// The activation after the bias. A NaN propagates through every one of them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Activation {
    /// None.
    #[default]
    Identity,
    /// `max(x, 0)`.
    Relu,
    /// `x` where `x ≥ 0`, `slope · x` elsewhere.
    LeakyRelu {
        /// Factor of the negative half.
        slope: f64,
    },
    /// `min(max(x, low), high)`.
    Clamp {
        /// Lower bound.
        low: f64,
        /// Upper bound, not below `low`.
        high: f64,
    },
    /// `1 / (1 + e⁻ˣ)`, within 4 ulp.
    Sigmoid,
    /// Hyperbolic tangent, within 4 ulp.
    Tanh,
}

impl Activation {
    /// [`Error::Activation`] where a parameter is NaN, or `low` above `high`.
    pub fn check(self) -> Result<(), Error> {
        let refuse = |problem| Err(Error::Activation { activation: self, problem });
        match self {
            Self::LeakyRelu { slope } if slope.is_nan() => refuse("the slope is no number"),
            Self::Clamp { low, high } if low.is_nan() || high.is_nan() => refuse("a bound is no number"),
            Self::Clamp { low, high } if low > high => refuse("low is above high"),
            _ => Ok(()),
        }
    }

    /// The exact value in f64: what every kernel is checked against.
    pub fn exact(self, x: f64) -> f64 {
        match self {
            Self::Identity => x,
            Self::Relu => {
                if x < 0.0 {
                    0.0
                } else {
                    x
                }
            }
            Self::LeakyRelu { slope } => {
                if x < 0.0 {
                    x * slope
                } else {
                    x
                }
            }
            Self::Clamp { low, high } => {
                if x < low {
                    low
                } else if x > high {
                    high
                } else {
                    x
                }
            }
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Tanh => x.tanh(),
        }
    }

    /// The largest slope: how much an error before the activation can grow.
    pub fn lipschitz(self) -> f64 {
        match self {
            Self::Sigmoid => 0.25,
            Self::LeakyRelu { slope } => slope.abs().max(1.0),
            _ => 1.0,
        }
    }

    /// Whether the function itself is rounded (sigmoid, tanh: up to 4 ulp).
    pub fn is_transcendental(self) -> bool {
        matches!(self, Self::Sigmoid | Self::Tanh)
    }
}

/// The epilogue that a plan is made for.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Epilogue {
    /// Whether one value for each output channel is added.
    pub bias: bool,
    /// What is applied after the bias.
    pub activation: Activation,
}

impl Epilogue {
    /// No bias, no activation.
    pub const NONE: Self = Self { bias: false, activation: Activation::Identity };
    /// Bias alone.
    pub const BIAS: Self = Self { bias: true, activation: Activation::Identity };

    /// The same with another activation.
    pub fn with(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }
}
