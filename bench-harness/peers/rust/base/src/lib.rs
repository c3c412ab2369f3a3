//! What all Rust peers share: the conversation of `bench-harness/src/peers/protocol.rs`, tensors, clocks and counters.
//!
//! A peer implements [`Library`] and calls [`serve`].

mod counters;

use std::fmt::Display;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Deserialize;
use serde_json::{Value, json};

/// A library behind the protocol.
pub trait Library {
    /// What it calls itself.
    fn name(&self) -> &str;
    /// Of the crate that was linked.
    fn version(&self) -> String;
    /// Sets the number of threads; the one that is in force.
    fn threads(&mut self, n: usize) -> usize;
    /// Makes an operator, weights packed where it can.
    fn prepare(&mut self, problem: &Problem, tensors: Tensors) -> Result<Box<dyn Operator>, Refusal>;
}

/// A problem, ready to run.
pub trait Operator {
    /// Executes once, and keeps the output.
    fn run(&mut self) -> Result<(), String>;
    /// The output of the last execution, channels first.
    fn output(&mut self) -> Result<Vec<f32>, String>;
}

/// Why there is no operator.
#[derive(Debug)]
pub enum Refusal {
    /// The library has none for this.
    Declined(String),
    /// It went wrong.
    Failed(String),
}

/// The library has no operator for this.
pub fn declined<T>(why: &str) -> Result<T, Refusal> {
    Err(Refusal::Declined(why.into()))
}

/// An error of the library.
pub fn failed(error: impl Display) -> Refusal {
    Refusal::Failed(format!("{error:#}"))
}

/// A request `prepare`. Spatial fields: a value for each axis, outermost first.
#[derive(Debug, Clone, Deserialize)]
pub struct Problem {
    dtype: String,
    activation: String,
    pub batch: usize,
    pub in_channels: usize,
    pub out_channels: usize,
    pub groups: usize,
    pub input: Vec<usize>,
    pub kernel: Vec<usize>,
    pub stride: Vec<usize>,
    pub padding_begin: Vec<usize>,
    pub padding_end: Vec<usize>,
    pub output_padding: Vec<usize>,
    pub dilation: Vec<usize>,
    pub output: Vec<usize>,
    files: Files,
}

#[derive(Debug, Clone, Deserialize)]
struct Files {
    input: PathBuf,
    weights: PathBuf,
    bias: Option<PathBuf>,
}

/// The tensors of a problem.
#[derive(Debug)]
pub struct Tensors {
    /// `[N, Cin, spatial…]`.
    pub input: Vec<f32>,
    /// `[Cin, Cout/groups, kernel…]`.
    pub weights: Vec<f32>,
    /// `[Cout]`.
    pub bias: Option<Vec<f32>>,
}

impl Problem {
    /// `[N, Cin, spatial…]`.
    pub fn input_shape(&self) -> Vec<usize> {
        [&[self.batch, self.in_channels], &self.input[..]].concat()
    }

    /// `[Cin, Cout/groups, kernel…]`.
    pub fn weight_shape(&self) -> Vec<usize> {
        [&[self.in_channels, self.out_channels / self.groups], &self.kernel[..]].concat()
    }

    /// One padding for both ends and further outputs at the end, for libraries that state it so.
    pub fn one_padding(&self) -> Result<(Vec<usize>, Vec<usize>), Refusal> {
        let mut more = Vec::new();
        for axis in 0..self.input.len() {
            let begin = self.padding_begin[axis] + self.output_padding[axis];
            match begin.checked_sub(self.padding_end[axis]) {
                Some(m) if m < self.stride[axis].max(self.dilation[axis]) => more.push(m),
                _ => return declined("no such uneven padding"),
            }
        }
        Ok((self.padding_begin.clone(), more))
    }

    fn tensors(&self) -> Result<Tensors, Refusal> {
        if self.dtype != "f32" {
            return declined("only f32 is asked of this library");
        }
        if self.activation != "identity" {
            return declined("activations are not asked of this library");
        }
        let bias = self.files.bias.as_ref().map(|path| read(path)).transpose()?;
        Ok(Tensors { input: read(&self.files.input)?, weights: read(&self.files.weights)?, bias })
    }
}

fn read(path: &Path) -> Result<Vec<f32>, Refusal> {
    let bytes = std::fs::read(path).map_err(failed)?;
    let (values, _) = bytes.as_chunks::<4>();
    Ok(values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
}

/// The version of a crate in the lock file of these peers.
pub fn version_of(name: &str) -> String {
    let lock = include_str!("../../Cargo.lock");
    let after = lock.split(&format!("name = \"{name}\"\nversion = \"")).nth(1);
    after.and_then(|rest| rest.split('"').next()).unwrap_or("unknown").into()
}

/// Answers until `bye`.
pub fn serve(mut library: impl Library) {
    let mut operator = None;
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let reply = match serde_json::from_str::<Value>(&line) {
            Ok(request) if request["do"] == "bye" => break,
            Ok(request) => answer(&mut library, &mut operator, request),
            Err(error) => Err(failed(error)),
        };
        let reply = reply.unwrap_or_else(|refusal| match refusal {
            Refusal::Declined(why) => json!({ "reply": "declined", "declined": why }),
            Refusal::Failed(why) => json!({ "reply": "failed", "failed": why }),
        });
        let mut out = std::io::stdout().lock();
        if writeln!(out, "{reply}").and_then(|()| out.flush()).is_err() {
            break;
        }
    }
}

fn answer(
    library: &mut impl Library,
    operator: &mut Option<Box<dyn Operator>>,
    request: Value,
) -> Result<Value, Refusal> {
    match (request["do"].as_str().unwrap_or_default(), operator) {
        ("hello", _) => {
            let threads = library.threads(request["threads"].as_u64().unwrap_or(1) as usize);
            let (name, version) = (library.name(), library.version());
            Ok(json!({ "reply": "hello", "protocol": 1, "name": name, "version": version, "threads": threads }))
        }
        ("prepare", operator) => {
            *operator = None;
            let problem: Problem = serde_json::from_value(request).map_err(failed)?;
            let tensors = problem.tensors()?;
            let start = Instant::now();
            *operator = Some(library.prepare(&problem, tensors)?);
            Ok(json!({ "reply": "prepared", "plan_ns": start.elapsed().as_nanos() as f64 }))
        }
        ("release", operator) => {
            *operator = None;
            Ok(json!({ "reply": "released" }))
        }
        ("run", Some(operator)) => {
            counters::run(operator.as_mut(), request["k"].as_u64().unwrap_or(1)).map_err(Refusal::Failed)
        }
        ("fetch", Some(operator)) => {
            let values = operator.output().map_err(Refusal::Failed)?;
            let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            std::fs::write(request["output"].as_str().unwrap_or_default(), bytes).map_err(failed)?;
            Ok(json!({ "reply": "fetched" }))
        }
        (other, _) => Err(Refusal::Failed(format!("nothing is prepared for '{other}'"))),
    }
}
