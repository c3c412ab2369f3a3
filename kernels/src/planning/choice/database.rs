//! Lines, checked and indexed. What cannot be used is reported, never fatal and never silent.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use super::line::{Candidate, Line, Measured, SCHEMA};
use crate::contract::request::Request;
use crate::error::Error;
use crate::machine::fingerprint::Fingerprint;
use crate::machine::isa::Isa;
use crate::machine::tensor::Dtype;
use crate::planning::registry::Registry;
use crate::problem::descriptor::{Descriptor, Structure};
use crate::problem::epilogue::Activation;
use crate::problem::problem::Problem;

/// Measured choices of one machine: read once, then looked up.
#[derive(Debug, Clone, Default)]
pub struct Choices {
    entries: Vec<Entry>,
    index: HashMap<Key, usize>,
    report: Report,
    elsewhere: bool,
}

/// What was measured for one problem.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) measured: Vec<Measured>,
    /// Kernels that were left out: too slow, or wrong.
    pub(super) others: Vec<String>,
}

/// What a look-up asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::planning) struct Key {
    pub(super) problem: Problem,
    pub(super) dtype: Dtype,
    pub(super) isa: &'static str,
    pub(super) threads: usize,
    bias: bool,
    activation: u8,
    pub(super) structure: Structure,
}

impl Key {
    pub(in crate::planning) fn of(request: &Request<'_>) -> Self {
        let target = request.target;
        let descriptor = Descriptor {
            problem: *request.geometry.problem(),
            dtype: request.dtype,
            epilogue: request.epilogue,
            structure: request.weights.map(|facts| facts.structure()).unwrap_or_default(),
        };
        Self::new(descriptor, target.isa.name(), target.threads)
    }

    fn new(descriptor: Descriptor, isa: &'static str, threads: usize) -> Self {
        let Descriptor { problem, dtype, epilogue, structure } = descriptor;
        // What an activation costs depends on its kind, not on its parameters.
        let activation = match epilogue.activation {
            Activation::Identity => 0,
            Activation::Relu => 1,
            Activation::LeakyRelu { .. } => 2,
            Activation::Clamp { .. } => 3,
            Activation::Sigmoid => 4,
            Activation::Tanh => 5,
        };
        Self { problem, dtype, isa, threads, bias: epilogue.bias, activation, structure }
    }
}

/// What became of the lines of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Problems that can be looked up.
    pub used: usize,
    /// Lines that cannot, in the order of the file.
    pub rejected: Vec<Rejected>,
}

/// A line that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// From 1.
    pub line: usize,
    /// For a reader.
    pub why: String,
}

impl fmt::Display for Report {
    /// `used 3, rejected 2: line 4: …; line 7: …`; of many lines with the same reason the first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "used {}, rejected {}", self.used, self.rejected.len())?;
        let mut reasons: Vec<(&Rejected, usize)> = Vec::new();
        for rejected in &self.rejected {
            match reasons.iter_mut().find(|(first, _)| first.why == rejected.why) {
                Some((_, count)) => *count += 1,
                None => reasons.push((rejected, 1)),
            }
        }
        for (i, (first, count)) in reasons.iter().enumerate() {
            write!(f, "{} line {}", if i == 0 { ":" } else { ";" }, first.line)?;
            if *count > 1 {
                write!(f, " and {} more", count - 1)?;
            }
            write!(f, ": {}", first.why)?;
        }
        Ok(())
    }
}

impl Choices {
    /// Reads a database (JSON lines, as `tconv tune` writes them). Fails only where the file cannot be read; what is wrong
    /// inside it is in [`Choices::report`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let bytes = std::fs::read(path)
            .map_err(|e| Error::Choices { path: path.display().to_string(), problem: e.to_string() })?;
        Ok(Self::parse(&bytes))
    }

    /// Reads a database from memory.
    pub fn parse(bytes: &[u8]) -> Self {
        Self::of_machine(bytes, Fingerprint::here())
    }

    /// Takes the lines of one machine.
    pub(super) fn of_machine(bytes: &[u8], machine: &str) -> Self {
        let mut choices = Self::default();
        for (i, bytes) in bytes.split(|&b| b == b'\n').enumerate() {
            let text = std::str::from_utf8(bytes).map(str::trim);
            if text == Ok("") {
                continue;
            }
            let line = match text {
                Err(_) => Err("not UTF-8".into()),
                Ok(text) => read(text).and_then(|line| check(line, machine)),
            };
            match line {
                Ok(entry) => choices.insert(entry),
                Err(why) => choices.report.rejected.push(Rejected { line: i + 1, why }),
            }
        }
        choices.report.used = choices.entries.len();
        choices
    }

    /// Takes lines as they are, whatever machine they were measured on: for judging recorded data.
    pub fn from_lines<'l>(lines: impl IntoIterator<Item = &'l Line>) -> Self {
        let mut choices = Self::default();
        for (i, line) in lines.into_iter().enumerate() {
            match check(line.clone(), &line.machine) {
                Ok(entry) => choices.insert(entry),
                Err(why) => choices.report.rejected.push(Rejected { line: i + 1, why }),
            }
        }
        choices.report.used = choices.entries.len();
        choices
    }

    /// The same, marked as times of another kind of machine: they tell who is fast, but are less sure, and are not mixed
    /// with this machine's.
    pub fn of_other_machine(self) -> Self {
        Self { elsewhere: true, ..self }
    }

    fn insert(&mut self, entry: Entry) {
        match self.index.get(&entry.key) {
            Some(&i) => self.entries[i] = entry,
            None => {
                self.index.insert(entry.key, self.entries.len());
                self.entries.push(entry);
            }
        }
    }

    /// How many problems it knows, and what was wrong with the other lines.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Problems with a candidate that was measured with another revision of its kernel's speed than `registry` holds: those need a
    /// new measurement. `(such problems, such candidates)`.
    pub fn void(&self, registry: &Registry) -> (usize, usize) {
        let void = |m: &&Measured| registry.get(&m.kernel).is_none_or(|k| !m.is_of(k.revisions()));
        let counts = self.entries.iter().map(|e| e.measured.iter().filter(void).count());
        counts.filter(|&n| n > 0).fold((0, 0), |(lines, all), n| (lines + 1, all + n))
    }

    /// The measured candidates of exactly this request: kernel, variant and nanoseconds, the fastest first.
    pub fn look_up(&self, request: &Request<'_>) -> Option<&[Measured]> {
        self.get(&Key::of(request)).map(|entry| &entry.measured[..])
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Entry> {
        self.index.get(key).map(|&i| &self.entries[i])
    }

    pub(super) fn elsewhere(&self) -> bool {
        self.elsewhere
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

fn read(text: &str) -> Result<Line, String> {
    // The version first: fields of other versions may have other types.
    #[derive(serde::Deserialize)]
    struct Version {
        schema: u32,
    }
    let version: Version = serde_json::from_str(text).map_err(|e| format!("no choice: {e}"))?;
    match version.schema {
        SCHEMA => serde_json::from_str(text).map_err(|e| format!("no choice: {e}")),
        older if older < SCHEMA => Err(format!("schema {older} is older than {SCHEMA}")),
        newer => Err(format!("schema {newer} is newer than {SCHEMA}")),
    }
}

fn check(line: Line, machine: &str) -> Result<Entry, String> {
    if line.machine != machine {
        return Err(format!("measured on {}: this is {machine}", line.machine));
    }
    if line.cache != "warm" {
        return Err(format!("cache state '{}' is not used", line.cache));
    }
    // An instruction set that this machine lacks, or that is switched off, cannot be asked for.
    let available = Isa::available();
    let isa = available.iter().find(|isa| isa.name() == line.isa);
    let isa = isa.ok_or_else(|| format!("instruction set '{}' is not available", line.isa))?;
    let descriptor: Descriptor = line.problem.parse().map_err(|e: Error| e.to_string())?;
    let mut measured: Vec<Measured> = line.measured().cloned().collect();
    measured.iter().try_for_each(Measured::check)?;
    if measured.is_empty() {
        return Err(format!("{}: no candidate has a time", line.problem));
    }
    measured.sort_by(|a, b| a.ns[0].total_cmp(&b.ns[0]));
    let key = Key::new(descriptor, isa.name(), line.threads);
    let others = line.candidates.iter().filter(|c| matches!(c, Candidate::Skipped { .. }));
    Ok(Entry { key, measured, others: others.map(|c| c.kernel().to_owned()).collect() })
}
