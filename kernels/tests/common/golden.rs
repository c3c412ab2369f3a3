//! Reads a golden set (format: `tests/data/README.md`) and judges outputs by its rules.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tconv::{Axis, Dtype, Epilogue, Exactness, Geometry, Layout, Problem, Specials};

/// One case, as NCHW.
pub struct Case {
    pub id: String,
    pub problem: Problem,
    pub input: Vec<f32>,
    pub weights: Vec<f32>,
    pub bias: Option<Vec<f32>>,
    /// The most products that meet in one output.
    products: f64,
    expected: Expected,
}

enum Expected {
    /// Every partial sum is a small integer: exact.
    Int { y: Vec<f64> },
    /// Within γ(n + 1)·a.
    Real { y: Vec<f64>, a: Vec<f64> },
    /// Published by another project, in f32: within tol + 2(n + 1)·u·a.
    Literal { y: Vec<f64>, a: Vec<f64>, tol: f64 },
    /// NaN and infinities at the same places, the rest as `Real`, with the oracle's magnitudes.
    Special { y: Vec<f64> },
    /// Integers made from a seed; the output's fingerprint: exact.
    Proc { seed: u64, len: usize, sum: i64, abs_sum: i64, hash: u64, samples: Vec<(usize, f64)> },
}

/// Reads the set below `folder`.
pub fn read(folder: &Path) -> Vec<Case> {
    let open = |name| {
        let path = folder.join(name);
        fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    let data = open("data.bin");
    let index = String::from_utf8(open("index.jsonl")).expect("UTF-8");
    index.lines().map(|line| Case::parse(&serde_json::from_str(line).expect(line), &data)).collect()
}

impl Case {
    fn parse(v: &Value, data: &[u8]) -> Self {
        let size = |name: &str| v[name].as_u64().unwrap_or_else(|| panic!("{name} in {v}")) as usize;
        let word = |name: &str| v[name].as_str().unwrap_or_else(|| panic!("{name} in {v}"));
        let seed_like = |name: &str| word(name).parse::<u64>().expect(name);
        let list = |name: &str| -> Vec<usize> {
            v[name].as_array().expect(name).iter().map(|n| n.as_u64().expect(name) as usize).collect()
        };
        let array = |name: &str| (!v[name].is_null()).then(|| numbers(&v[name], data));
        let (input, kernel, stride) = (list("in"), list("kernel"), list("stride"));
        let (begin, end) = (list("pads_begin"), list("pads_end"));
        let (output_padding, dilation) = (list("outpad"), list("dilation"));
        let axes: Vec<Axis> = (0..size("dims"))
            .map(|i| Axis {
                input: input[i],
                kernel: kernel[i],
                stride: stride[i],
                padding: (begin[i], end[i]),
                output_padding: output_padding[i],
                dilation: dilation[i],
            })
            .collect();
        let problem = Problem::new(size("n"), size("cin"), size("cout"), size("groups"), &axes, Layout::Nchw)
            .expect("a legal case");
        let y = || array("y").expect("y");
        let a = || array("a").expect("a");
        let expected = match word("kind") {
            "int" => Expected::Int { y: y() },
            "real" => Expected::Real { y: y(), a: a() },
            "literal" => Expected::Literal { y: y(), a: a(), tol: v["tol"].as_f64().expect("tol") },
            "special" => Expected::Special { y: y() },
            "proc" => Expected::Proc {
                seed: seed_like("seed"),
                len: size("y_len"),
                sum: v["y_sum"].as_i64().expect("y_sum"),
                abs_sum: v["y_abs_sum"].as_i64().expect("y_abs_sum"),
                hash: seed_like("y_hash"),
                samples: samples(&v["samples"]),
            },
            other => panic!("kind {other}"),
        };
        let floats = |data: Vec<f64>| data.into_iter().map(|x| x as f32).collect::<Vec<_>>();
        let g = Geometry::new(&problem).expect("a legal case");
        let (input, weights, bias) = if let Expected::Proc { seed, .. } = expected {
            let bias = v["bias"].as_bool().expect("bias");
            (
                drawn(seed, g.input_len()),
                drawn(seed ^ 0x1111, g.weight_len()),
                bias.then(|| drawn(seed ^ 0x2222, problem.out_channels())),
            )
        } else {
            (floats(array("x").expect("x")), floats(array("w").expect("w")), array("b").map(floats))
        };
        Self {
            id: format!("{} ({}: {})", word("id"), word("source"), word("name")),
            problem,
            input,
            weights,
            bias,
            products: size("n_acc") as f64,
            expected,
        }
    }

    pub fn epilogue(&self) -> Epilogue {
        if self.bias.is_some() { Epilogue::BIAS } else { Epilogue::NONE }
    }

    /// Judges an output in NCHW order; `magnitudes` answers Σ|x||w| + |bias| of an output where the set does not store it,
    /// or the norms for a kernel that promises a bound of these.
    pub fn judge(
        &self,
        dtype: Dtype,
        exactness: Exactness,
        specials: Specials,
        got: &[f64],
        magnitudes: impl Fn() -> Vec<f64>,
    ) -> Result<(), String> {
        let u = dtype.unit_roundoff();
        let (direct, growth) = (exactness == Exactness::Direct, exactness.growth());
        let (normwise, products) = match exactness {
            Exactness::Normwise { .. } => (true, exactness.roundings(0, self.problem.group_in()) as f64),
            _ => (false, self.products + 1.0),
        };
        let gamma = |u: f64| products * u / (1.0 - products * u);
        // The reference of f64 runs is itself rounded to f64.
        let slack = (if dtype == Dtype::F64 { 2.0 } else { 1.0 }) * gamma(u) * growth;
        match &self.expected {
            Expected::Int { y } if direct => all(got, y, |got, y, _| got == y),
            Expected::Int { y } => {
                let a = magnitudes();
                all(got, y, |got, y, i| (got - y).abs() <= slack * a[i])
            }
            Expected::Real { y, .. } if normwise => {
                let a = magnitudes();
                all(got, y, |got, y, i| (got - y).abs() <= slack * a[i])
            }
            Expected::Real { y, a } => all(got, y, |got, y, i| (got - y).abs() <= slack * a[i]),
            Expected::Literal { y, tol, .. } if normwise => {
                let a = magnitudes();
                let bound = 2.0 * gamma(Dtype::F32.unit_roundoff());
                all(got, y, |got, y, i| (got - y).abs() <= tol + bound * a[i])
            }
            Expected::Literal { y, a, tol } => {
                let u = Dtype::F32.unit_roundoff(); // the published numbers are f32
                let bound = 2.0 * (self.products + 1.0) * u * growth;
                all(got, y, |got, y, i| (got - y).abs() <= tol + bound * a[i])
            }
            Expected::Special { y } => {
                let a = magnitudes();
                let spreads = specials == Specials::MaySpread;
                all(got, y, |got, y, i| {
                    let same = (got.is_nan() && y.is_nan()) || (y.is_infinite() && got == y);
                    let finite = y.is_finite() && (got - y).abs() <= slack * a[i];
                    same || finite || (spreads && !got.is_finite())
                })
            }
            Expected::Proc { seed, len, sum, abs_sum, hash, samples } if direct => {
                if got.len() != *len {
                    return Err(format!("{} outputs, expected {len}", got.len()));
                }
                for &(i, y) in samples {
                    if got[i] != y {
                        return Err(format!("output {i} is {}, expected {y}", got[i]));
                    }
                }
                if let Some(i) = got.iter().position(|v| v.fract() != 0.0 || v.abs() >= 2f64.powi(24)) {
                    return Err(format!("output {i} is {:e}, expected a small integer", got[i]));
                }
                let (s, t) =
                    (got.iter().sum::<f64>() as i64, got.iter().map(|v| v.abs()).sum::<f64>() as i64);
                if (s, t) != (*sum, *abs_sum) {
                    return Err(format!("Σy is {s}, expected {sum}; Σ|y| is {t}, expected {abs_sum}"));
                }
                if fingerprint(*seed, got) != *hash {
                    return Err("the sums are right, the hash is not: outputs at wrong places".into());
                }
                Ok(())
            }
            Expected::Proc { samples, .. } => {
                let a = magnitudes();
                let within = |&(i, y): &(usize, f64)| (got[i] - y).abs() <= slack * a[i];
                match samples.iter().find(|sample| !within(sample)) {
                    Some(&(i, y)) => Err(format!("output {i} is {}, expected {y}", got[i])),
                    None => Ok(()),
                }
            }
        }
    }
}

/// The first output that is not good, if any.
fn all(got: &[f64], expected: &[f64], good: impl Fn(f64, f64, usize) -> bool) -> Result<(), String> {
    if got.len() != expected.len() {
        return Err(format!("{} outputs, expected {}", got.len(), expected.len()));
    }
    match (0..got.len()).find(|&i| !good(got[i], expected[i], i)) {
        Some(i) => Err(format!("output {i} is {:e}, expected {:e}", got[i], expected[i])),
        None => Ok(()),
    }
}

fn numbers(array: &Value, data: &[u8]) -> Vec<f64> {
    let at = array["off"].as_u64().expect("off") as usize;
    let len = array["len"].as_u64().expect("len") as usize;
    fn cut<const N: usize>(data: &[u8], len: usize) -> impl Iterator<Item = [u8; N]> + '_ {
        data[..len * N].as_chunks::<N>().0.iter().copied()
    }
    let data = &data[at..];
    match array["dt"].as_str() {
        Some("i8") => cut(data, len).map(|b| i8::from_le_bytes(b).into()).collect(),
        Some("i32") => cut(data, len).map(|b| i32::from_le_bytes(b).into()).collect(),
        Some("f32") => cut(data, len).map(|b| f32::from_le_bytes(b).into()).collect(),
        Some("f64") => cut(data, len).map(f64::from_le_bytes).collect(),
        other => panic!("dt {other:?}"),
    }
}

fn samples(pairs: &Value) -> Vec<(usize, f64)> {
    let pair = |p: &Value| (p[0].as_u64().expect("index") as usize, p[1].as_f64().expect("value"));
    pairs.as_array().expect("samples").iter().map(pair).collect()
}

/// Value number `i` of a stream of 64-bit numbers (SplitMix64).
fn mix(seed: u64, i: u64) -> u64 {
    let mut z = seed.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Integers from −5 to 5.
fn drawn(seed: u64, len: usize) -> Vec<f32> {
    (1..=len as u64).map(|i| ((mix(seed, i) >> 33) % 11) as f32 - 5.0).collect()
}

fn fingerprint(seed: u64, y: &[f64]) -> u64 {
    let terms = y.iter().zip(1..).map(|(&y, i)| (y as i64 as u64).wrapping_mul(mix(seed ^ 0x3333, i)));
    terms.fold(0, u64::wrapping_add)
}
