//! The file of measured choices: JSON lines, replaced whole so that an interruption never leaves half a line.

use std::path::{Path, PathBuf};

use tconv::planning::choice::Line;
use tconv::{Choices, Fingerprint, Registry};

use crate::cli::Failure;

/// Where choices are kept unless somebody says otherwise.
pub const DEFAULT_FILE: &str = "tconv-choices.jsonl";

/// Lines of a file, and what cannot be read of it. Foreign lines stay in the file.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    text: Vec<Entry>,
}

#[derive(Debug)]
enum Entry {
    /// Of this version of the schema.
    Line(Box<Line>),
    /// As it stands in the file.
    Other(Vec<u8>),
}

impl Database {
    /// Opens a file; one that does not exist is empty.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(Failure(format!("cannot read {}: {e}", path.display()))),
        };
        let lines = bytes.split(|&b| b == b'\n').filter(|line| !line.trim_ascii().is_empty());
        let entry = |line: &[u8]| match serde_json::from_slice(line) {
            Ok(line) => Entry::Line(Box::new(line)),
            Err(_) => Entry::Other(line.to_vec()),
        };
        Ok(Self { path: path.to_owned(), text: lines.map(entry).collect() })
    }

    /// Its lines for this machine, for a planner; the second part says what was wrong with the others, and which are void by now.
    pub fn choices(&self) -> (Choices, Option<String>) {
        let choices = Choices::parse(&self.bytes());
        let report = choices.report();
        let rejected = (!report.rejected.is_empty()).then(|| report.to_string());
        let void = match choices.void(&Registry::builtin()) {
            (0, _) => None,
            (lines, all) => Some(format!(
                "{all} times of {lines} layers are void, their kernels have another speed now: tune them again"
            )),
        };
        let notes: Vec<String> = rejected.into_iter().chain(void).collect();
        let note = (!notes.is_empty()).then(|| format!("{}: {}", self.path.display(), notes.join("; ")));
        (choices, note)
    }

    /// What this machine measured for a problem.
    pub fn get(&self, problem: &str, isa: &str, threads: usize) -> Option<&Line> {
        let of = |line: &&Line| {
            line.problem == problem
                && line.isa == isa
                && line.threads == threads
                && line.cache == "warm"
                && line.machine == Fingerprint::here()
        };
        let lines = self.text.iter().filter_map(|entry| match entry {
            Entry::Line(line) => Some(&**line),
            Entry::Other(_) => None,
        });
        lines.rev().find(of)
    }

    /// Takes a line, in the place of one for the same problem, and writes the file.
    pub fn put(&mut self, line: Line) -> Result<(), Failure> {
        self.text.retain(|entry| match entry {
            Entry::Line(old) => {
                (&old.problem, &old.isa, old.threads, &old.cache, &old.machine)
                    != (&line.problem, &line.isa, line.threads, &line.cache, &line.machine)
            }
            Entry::Other(_) => true,
        });
        self.text.push(Entry::Line(Box::new(line)));
        let cannot = |e: std::io::Error| Failure(format!("cannot write {}: {e}", self.path.display()));
        let mut beside = self.path.clone().into_os_string();
        beside.push(".part");
        std::fs::write(&beside, self.bytes()).map_err(cannot)?;
        std::fs::rename(&beside, &self.path).map_err(cannot)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for entry in &self.text {
            match entry {
                Entry::Line(line) => bytes.extend(serde_json::to_vec(line).unwrap_or_default()),
                Entry::Other(text) => bytes.extend(text),
            }
            bytes.push(b'\n');
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(problem: &str, effort: &str) -> Line {
        Line {
            schema: 1,
            machine: Fingerprint::here().into(),
            isa: "portable".into(),
            threads: 1,
            cache: "warm".into(),
            problem: problem.into(),
            effort: effort.into(),
            candidates: Vec::new(),
        }
    }

    #[test]
    fn lines_replace_their_elders_and_strangers_stay() {
        let path = std::env::temp_dir().join(format!("tconv-database-{}.jsonl", std::process::id()));
        let foreign = Line { machine: "acme".into(), ..line("a", "patient") };
        let text = format!("{}\nnot a line\n", serde_json::to_string(&foreign).unwrap());
        std::fs::write(&path, text).unwrap();
        let mut database = Database::open(&path).unwrap();
        assert!(database.get("a", "portable", 1).is_none());
        for effort in ["measure", "patient"] {
            database.put(line("a", effort)).unwrap();
        }
        database.put(line("b", "measure")).unwrap();
        let again = Database::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(again.get("a", "portable", 1).unwrap().effort, "patient");
        assert!(again.get("b", "portable", 1).is_some() && again.get("b", "portable", 2).is_none());
        assert_eq!(again.text.len(), 4);
        assert!(
            again.choices().1.unwrap().contains("not a line")
                || again.choices().0.report().rejected.len() == 4
        );
    }
}
