//! Reads a conformance set: `index.jsonl`, one case a line, and `data.bin`, the arrays of all cases.
//!
//! Everything is checked while reading (fields, lengths, ranges inside the file), so that using a case cannot fail.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tconv::{Axis, Geometry, Layout, Problem};

use crate::cli::Failure;
use crate::data::{Tensors, integers};

/// The range of the numbers of a procedural case.
const PROC_RANGE: u64 = 5;

/// A set, all of it in memory.
#[derive(Debug, Clone)]
pub struct Set {
    /// Where it was read from.
    pub directory: PathBuf,
    /// Its cases, in the order of the file.
    pub cases: Vec<Case>,
    data: Vec<u8>,
}

/// One case.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name in the set.
    pub id: String,
    /// In NCHW.
    pub geometry: Geometry,
    /// Whether there is a bias.
    pub bias: bool,
    /// The most products that meet in one output.
    pub accumulation: usize,
    /// How it is checked, and against what.
    pub check: Check,
    inputs: Inputs,
}

/// How a case is checked.
#[derive(Debug, Clone)]
pub enum Check {
    /// Integers: equal.
    Int(Array),
    /// Values and Σ|x||w|: within the componentwise bound.
    Real(Array, Array),
    /// Published by others: within the bound of both, and a tolerance.
    Literal(Array, Array, f64),
    /// NaN and infinities in their places.
    Special(Array),
    /// Full-size layers: checksums and samples, equal.
    Proc(Digest),
}

impl Check {
    /// The name in the file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Int(_) => "int",
            Self::Real(..) => "real",
            Self::Literal(..) => "literal",
            Self::Special(_) => "special",
            Self::Proc(_) => "proc",
        }
    }
}

/// What is stored of an output that is too large to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// The seed of the inputs and of the hash.
    pub seed: u64,
    /// Σ y.
    pub sum: i64,
    /// Σ |y|.
    pub abs_sum: i64,
    /// Wrapping Σ `y[i] · mix(seed ^ 0x3333, i + 1)`.
    pub hash: u64,
    /// Flat index and value.
    pub samples: Vec<(usize, i64)>,
}

#[derive(Debug, Clone)]
enum Inputs {
    Stored { x: Array, w: Array, b: Option<Array> },
    Seed(u64),
}

/// A range of `data.bin`, known to lie inside.
#[derive(Debug, Clone)]
pub struct Array {
    bytes: Range<usize>,
    dtype: StoredType,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredType {
    I8,
    I32,
    F32,
    F64,
}

impl StoredType {
    fn size(self) -> usize {
        match self {
            Self::I8 => 1,
            Self::I32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }
}

impl Set {
    /// Reads and checks a set.
    pub fn read(directory: &Path) -> Result<Self, Failure> {
        let file = |name: &str| directory.join(name);
        let read = |name: &str| {
            std::fs::read(file(name))
                .map_err(|e| Failure(format!("cannot read {}: {e}", file(name).display())))
        };
        let index = String::from_utf8(read("index.jsonl")?)
            .map_err(|e| Failure(format!("{}: {e}", file("index.jsonl").display())))?;
        let data = read("data.bin")?;
        let mut cases = Vec::new();
        for (i, line) in index.lines().enumerate() {
            let at = |problem: String| {
                Failure(format!("{} line {}: {problem}", file("index.jsonl").display(), i + 1))
            };
            let mut deserializer = serde_json::Deserializer::from_str(line);
            let row: Row = serde_path_to_error::deserialize(&mut deserializer)
                .map_err(|e| at(format!("field '{}': {}", e.path(), e.inner())))?;
            let id = row.id.clone();
            cases.push(row.check(data.len()).map_err(|Failure(problem)| at(format!("({id}) {problem}")))?);
        }
        if cases.is_empty() {
            return Err(Failure(format!("{} holds no case", file("index.jsonl").display())));
        }
        Ok(Self { directory: directory.to_owned(), cases, data })
    }

    /// The inputs of one of its cases.
    pub fn tensors(&self, case: &Case) -> Tensors {
        match &case.inputs {
            Inputs::Stored { x, w, b } => {
                let load = |a: &Array| self.values(a).iter().map(|&v| v as f32).collect();
                Tensors { input: load(x), weights: load(w), bias: b.as_ref().map(load) }
            }
            Inputs::Seed(seed) => {
                let stream = |seed, len| integers(seed, len, PROC_RANGE);
                Tensors::from_streams(&case.geometry, case.bias, *seed, stream)
            }
        }
    }

    /// The numbers of an array, exactly.
    pub fn values(&self, array: &Array) -> Vec<f64> {
        fn decode<const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> f64) -> Vec<f64> {
            bytes.as_chunks().0.iter().map(|&b| f(b)).collect()
        }
        let bytes = &self.data[array.bytes.clone()];
        match array.dtype {
            StoredType::I8 => decode(bytes, |b| f64::from(i8::from_le_bytes(b))),
            StoredType::I32 => decode(bytes, |b| f64::from(i32::from_le_bytes(b))),
            StoredType::F32 => decode(bytes, |b| f64::from(f32::from_le_bytes(b))),
            StoredType::F64 => decode(bytes, f64::from_le_bytes),
        }
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct StoredArray {
    off: usize,
    len: usize,
    dt: StoredType,
}

/// A line as it is written; fields for readers alone are passed over.
#[derive(Debug, Deserialize)]
struct Row {
    id: String,
    kind: String,
    n: usize,
    cin: usize,
    cout: usize,
    groups: usize,
    r#in: Vec<usize>,
    kernel: Vec<usize>,
    stride: Vec<usize>,
    pads_begin: Vec<usize>,
    pads_end: Vec<usize>,
    outpad: Vec<usize>,
    dilation: Vec<usize>,
    out: Vec<usize>,
    bias: bool,
    n_acc: usize,
    x: Option<StoredArray>,
    w: Option<StoredArray>,
    b: Option<StoredArray>,
    y: Option<StoredArray>,
    a: Option<StoredArray>,
    tol: Option<f64>,
    seed: Option<String>,
    y_len: Option<usize>,
    y_sum: Option<i64>,
    y_abs_sum: Option<i64>,
    y_hash: Option<String>,
    samples: Option<Vec<(usize, i64)>>,
}

impl Row {
    fn check(self, data_len: usize) -> Result<Case, Failure> {
        let geometry = self.geometry()?;
        let output = geometry.output_len();
        let array = |field: &str, stored: Option<StoredArray>, len: usize| -> Result<Array, Failure> {
            let stored = needed(field, stored)?;
            if stored.len != len {
                return Err(Failure(format!("field '{field}': {} elements: expected {len}", stored.len)));
            }
            let end = len.checked_mul(stored.dt.size()).and_then(|bytes| bytes.checked_add(stored.off));
            match end {
                Some(end) if end <= data_len => Ok(Array { bytes: stored.off..end, dtype: stored.dt }),
                _ => Err(Failure(format!(
                    "field '{field}': {len} elements from byte {} pass the end of data.bin ({data_len} bytes)",
                    stored.off
                ))),
            }
        };
        let check = match self.kind.as_str() {
            "int" => Check::Int(array("y", self.y, output)?),
            "real" => Check::Real(array("y", self.y, output)?, array("a", self.a, output)?),
            "literal" => Check::Literal(
                array("y", self.y, output)?,
                array("a", self.a, output)?,
                needed("tol", self.tol)?,
            ),
            "special" => Check::Special(array("y", self.y, output)?),
            "proc" => Check::Proc(self.digest(output)?),
            other => return Err(Failure(format!("field 'kind': unknown kind '{other}'"))),
        };
        let inputs = match &check {
            Check::Proc(digest) => Inputs::Seed(digest.seed),
            _ => Inputs::Stored {
                x: array("x", self.x, geometry.input_len())?,
                w: array("w", self.w, geometry.weight_len())?,
                b: match self.bias {
                    true => Some(array("b", self.b, self.cout)?),
                    false => None,
                },
            },
        };
        Ok(Case { id: self.id, geometry, bias: self.bias, accumulation: self.n_acc, check, inputs })
    }

    fn geometry(&self) -> Result<Geometry, Failure> {
        let rank = self.r#in.len();
        for (field, values) in [
            ("kernel", &self.kernel),
            ("stride", &self.stride),
            ("pads_begin", &self.pads_begin),
            ("pads_end", &self.pads_end),
            ("outpad", &self.outpad),
            ("dilation", &self.dilation),
            ("out", &self.out),
        ] {
            if values.len() != rank {
                let got = values.len();
                return Err(Failure(format!("field '{field}' has {got} values: 'in' has {rank}")));
            }
        }
        let axes: Vec<Axis> = (0..rank)
            .map(|a| Axis {
                input: self.r#in[a],
                kernel: self.kernel[a],
                stride: self.stride[a],
                padding: (self.pads_begin[a], self.pads_end[a]),
                output_padding: self.outpad[a],
                dilation: self.dilation[a],
            })
            .collect();
        let problem = Problem::new(self.n, self.cin, self.cout, self.groups, &axes, Layout::Nchw)?;
        let geometry = Geometry::new(&problem)?;
        let got = &geometry.output()[3 - rank..];
        if got != self.out {
            return Err(Failure(format!("field 'out': {:?}, but the sizes give {got:?}", self.out)));
        }
        Ok(geometry)
    }

    fn digest(&self, output: usize) -> Result<Digest, Failure> {
        let number = |field: &str, text: &Option<String>| -> Result<u64, Failure> {
            let text = needed(field, text.as_ref())?;
            text.parse().map_err(|e| Failure(format!("field '{field}': '{text}': {e}")))
        };
        let samples = needed("samples", self.samples.clone())?;
        if let Some((index, _)) = samples.iter().find(|(index, _)| *index >= output) {
            return Err(Failure(format!("field 'samples': index {index} of {output} outputs")));
        }
        let y_len = needed("y_len", self.y_len)?;
        if y_len != output {
            return Err(Failure(format!("field 'y_len': {y_len}, but the sizes give {output}")));
        }
        Ok(Digest {
            seed: number("seed", &self.seed)?,
            sum: needed("y_sum", self.y_sum)?,
            abs_sum: needed("y_abs_sum", self.y_abs_sum)?,
            hash: number("y_hash", &self.y_hash)?,
            samples,
        })
    }
}

fn needed<T>(field: &str, value: Option<T>) -> Result<T, Failure> {
    value.ok_or_else(|| Failure(format!("field '{field}' is missing")))
}
