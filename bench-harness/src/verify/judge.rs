//! The rules by which outputs are right or wrong.

use tconv::{Dtype, Element, Epilogue, Geometry, Guarantees, Specials};

use crate::data::mix;

/// The right answer, in NCHW.
#[derive(Debug, Clone)]
pub struct Truth {
    /// Which outputs are known.
    pub places: Places,
    /// Their values.
    pub value: Vec<f64>,
    /// Σ|x||w| + |bias| of each; empty where only equality is asked for.
    pub magnitude: Vec<f64>,
    /// Products that meet in each, or one number for all.
    pub products: Vec<usize>,
    /// How they are compared.
    pub rule: Rule,
    /// What is known of all outputs together.
    pub digest: Option<Digest>,
}

/// Which outputs are known.
#[derive(Debug, Clone)]
pub enum Places {
    /// All, in order.
    All,
    /// These flat indices.
    Some(Vec<usize>),
}

/// How outputs are compared.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// Equal.
    Exact,
    /// Within γ(products + 1)·Σ|x||w|, through the activation.
    Bound,
    /// Values published by others, rounded to f32: within a tolerance and the error of both sides.
    Literal {
        /// Allowed beside rounding.
        tolerance: f64,
    },
    /// NaN and infinities in their places, the others within the bound.
    Special,
}

/// Checksums of a whole output of integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// Seed of the case.
    pub seed: u64,
    /// Σ y.
    pub sum: i64,
    /// Σ |y|.
    pub abs_sum: i64,
    /// Wrapping Σ `y[i] · mix(seed ^ 0x3333, i + 1)`.
    pub hash: u64,
}

/// What a kernel is held to.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    u: f64,
    /// Growth over the bound of direct summation.
    factor: f64,
    /// NaN and infinities may reach their neighbours.
    spreads: bool,
    epilogue: Epilogue,
}

impl Terms {
    /// From what the kernel promises.
    pub fn new(dtype: Dtype, guarantees: Guarantees, epilogue: Epilogue) -> Self {
        // References are computed in f64 too: against an f64 kernel, both sides err.
        let sides = if dtype == Dtype::F64 { 2.0 } else { 1.0 };
        Self {
            u: dtype.unit_roundoff(),
            factor: guarantees.exactness.growth() * sides,
            spreads: guarantees.specials == Specials::MaySpread,
            epilogue,
        }
    }

    /// The largest error allowed of an output.
    fn bound(&self, value: f64, magnitude: f64, products: usize) -> f64 {
        let activation = self.epilogue.activation;
        // The activation's own rounding: 4 ulp where it is transcendental, else at most two operations.
        let own = match activation {
            tconv::Activation::Identity => 0.0,
            a if a.is_transcendental() => 8.0 * self.u * value.abs() + 4.0 * f64::from(f32::from_bits(1)),
            _ => 2.0 * self.u * value.abs(),
        };
        self.factor * (gamma(products + 1, self.u) * magnitude * activation.lipschitz() + own)
    }
}

/// γ(m) = m·u / (1 − m·u).
fn gamma(m: usize, u: f64) -> f64 {
    let mu = m as f64 * u;
    mu / (1.0 - mu)
}

/// Judges a whole output in NCHW: the largest error in units of u·Σ|x||w| (0 where equality was asked for), or what
/// is wrong.
pub fn judge<T: Element>(
    got: &[T],
    truth: &Truth,
    geometry: &Geometry,
    terms: &Terms,
) -> Result<f64, String> {
    if truth.rule != Rule::Special {
        nothing_is_nan(got, geometry)?;
    }
    let known = truth.value.len();
    let mut worst = 0.0f64;
    let mut wrong = 0usize;
    let mut first = None;
    for k in 0..known {
        let flat = match &truth.places {
            Places::All => k,
            Places::Some(places) => places[k],
        };
        let y = got[flat].to_f64();
        match one(y, k, truth, terms) {
            Ok(error) => worst = worst.max(error),
            Err(allowed) => {
                wrong += 1;
                first.get_or_insert((flat, y, truth.value[k], allowed));
            }
        }
    }
    if let Some((flat, y, expected, allowed)) = first {
        return Err(format!(
            "{wrong} of {known} outputs are wrong, first {}: got {y:e}, expected {expected:e} {allowed}",
            place(geometry, flat)
        ));
    }
    match &truth.digest {
        Some(digest) => check_digest(got, digest).map(|()| worst),
        None => Ok(worst),
    }
}

/// One output: its error in units of u·Σ|x||w|, or what would have been allowed.
fn one(y: f64, k: usize, truth: &Truth, terms: &Terms) -> Result<f64, String> {
    let expected = truth.value[k];
    let magnitude = || truth.magnitude[k];
    let products = || truth.products[if truth.products.len() == 1 { 0 } else { k }];
    let error = (y - expected).abs();
    let within = |bound: f64| match error <= bound {
        true if terms.epilogue.activation == Default::default() && magnitude() > 0.0 => {
            Ok(error / (terms.u * magnitude()))
        }
        true => Ok(0.0),
        false => Err(format!("± {bound:e} (off by {error:e})")),
    };
    match truth.rule {
        Rule::Exact if y == expected => Ok(0.0),
        Rule::Exact => Err("exactly".into()),
        Rule::Bound => within(terms.bound(expected, magnitude(), products())),
        Rule::Literal { tolerance } => {
            let rounding = 2.0 * (products() + 1) as f64 * Dtype::F32.unit_roundoff() * magnitude();
            within(tolerance + rounding * terms.factor).map(|_| 0.0)
        }
        Rule::Special if !expected.is_finite() => {
            let same = y == expected || (y.is_nan() && expected.is_nan());
            if same || (terms.spreads && !y.is_finite()) { Ok(0.0) } else { Err("there".into()) }
        }
        Rule::Special if terms.spreads && !y.is_finite() => Ok(0.0),
        Rule::Special => within(terms.bound(expected, magnitude(), products())),
    }
}

/// Outputs are filled with NaN before a run: one that is left was never written.
fn nothing_is_nan<T: Element>(got: &[T], geometry: &Geometry) -> Result<(), String> {
    let is_nan = |y: &T| y.to_f64().is_nan();
    match got.iter().position(is_nan) {
        None => Ok(()),
        Some(first) => Err(format!(
            "{} of {} outputs are NaN or were never written, first {}",
            got.iter().filter(|y| is_nan(y)).count(),
            got.len(),
            place(geometry, first)
        )),
    }
}

fn check_digest<T: Element>(got: &[T], digest: &Digest) -> Result<(), String> {
    let (mut sum, mut abs_sum, mut hash) = (0i64, 0i64, 0u64);
    for (i, y) in got.iter().enumerate() {
        let exact = y.to_f64();
        let y = exact as i64;
        if y as f64 != exact {
            return Err(format!("output {i} is {exact:e}: an integer is expected"));
        }
        sum = sum.wrapping_add(y);
        abs_sum = abs_sum.wrapping_add(y.wrapping_abs());
        hash = hash.wrapping_add((y as u64).wrapping_mul(mix(digest.seed ^ 0x3333, i as u64 + 1)));
    }
    let found = Digest { seed: digest.seed, sum, abs_sum, hash };
    if found == *digest {
        return Ok(());
    }
    Err(format!(
        "checksums differ: got sum {sum}, absolute sum {abs_sum}, hash {hash}; expected {}, {}, {}",
        digest.sum, digest.abs_sum, digest.hash
    ))
}

/// A flat NCHW index for a reader.
pub fn place(geometry: &Geometry, flat: usize) -> String {
    let (p, [_, height, width]) = (geometry.problem(), geometry.output());
    let (channel, at) = (flat / geometry.output_plane(), flat % geometry.output_plane());
    let position = [at / width / height, at / width % height, at % width];
    let position: Vec<String> = position[3 - p.rank()..].iter().map(usize::to_string).collect();
    format!(
        "at image {}, channel {}, position ({})",
        channel / p.out_channels(),
        channel % p.out_channels(),
        position.join(", ")
    )
}
