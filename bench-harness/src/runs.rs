//! Reads recorded runs back: the one reader of what [`crate::record`] writes.

use std::path::Path;

use serde::Deserialize;

use crate::cli::Failure;
use crate::record::{Comparison, End, Header, Measurement, Record, SCHEMA};

/// A run as it was recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedRun {
    /// Name of the file, without its folders.
    pub source: String,
    /// What the run depended on.
    pub header: Header,
    /// In the order in which they were measured.
    pub measurements: Vec<Measurement>,
    /// Of a comparison, instead; provisional ones only where the run was cut off.
    pub comparisons: Vec<Comparison>,
    /// How it ended; none where it was cut off.
    pub end: Option<End>,
}

impl RecordedRun {
    /// Whether every workload had its turn.
    pub fn complete(&self) -> bool {
        self.end.is_some_and(|end| end.complete)
    }

    /// The lines that it is made of.
    pub fn records(&self) -> Vec<Record> {
        let mut records = vec![Record::Header(Box::new(self.header.clone()))];
        records.extend(self.measurements.iter().cloned().map(|m| Record::Measurement(Box::new(m))));
        records.extend(self.comparisons.iter().cloned().map(|c| Record::Comparison(Box::new(c))));
        records.extend(self.end.map(Record::End));
        records
    }
}

/// All runs of some files, in their order.
pub fn read_all(paths: &[impl AsRef<Path>]) -> Result<Vec<RecordedRun>, Failure> {
    let mut runs = Vec::new();
    for path in paths {
        runs.extend(read(path.as_ref())?);
    }
    Ok(runs)
}

/// The runs of one file: more than one where files were put together. A last line that is cut off, as a run leaves it that
/// was killed, is told on standard error; what is before it counts.
pub fn read(path: &Path) -> Result<Vec<RecordedRun>, Failure> {
    let name = path.display();
    let bytes = std::fs::read(path).map_err(|e| Failure(format!("cannot read {name}: {e}")))?;
    let source = path.file_name().map_or_else(|| name.to_string(), |f| f.to_string_lossy().into_owned());
    let Parsed { runs, cut } = parse(&name.to_string(), &source, &bytes)?;
    if let Some(cut) = cut {
        eprintln!("tconv: {cut}");
    }
    Ok(runs)
}

/// What a file holds.
#[derive(Debug)]
struct Parsed {
    runs: Vec<RecordedRun>,
    /// The message about a last line that is cut off.
    cut: Option<String>,
}

/// `name` is for messages. Every message about a line names it as `FILE:LINE`.
fn parse(name: &str, source: &str, bytes: &[u8]) -> Result<Parsed, Failure> {
    let mut runs: Vec<RecordedRun> = Vec::new();
    let whole = bytes.strip_suffix(b"\n");
    let lines: Vec<&[u8]> = whole.unwrap_or(bytes).split(|&byte| byte == b'\n').collect();
    for (i, line) in lines.iter().enumerate() {
        let message = |problem: &str| format!("{name}:{}: {problem}", i + 1);
        let at = |problem: String| Failure(message(&problem));
        let record = match record(line) {
            // Every line is written whole, with its end: what has none was cut off while it was written.
            Err(problem) if whole.is_none() && i + 1 == lines.len() && !runs.is_empty() => {
                let cut = message(&format!("{problem}; the lines before it are whole and count"));
                return Ok(Parsed { runs, cut: Some(cut) });
            }
            other => other.map_err(at)?,
        };
        match (record, runs.last_mut()) {
            (Record::Header(header), _) => {
                let source = source.to_owned();
                runs.push(RecordedRun {
                    source,
                    header: *header,
                    measurements: Vec::new(),
                    comparisons: Vec::new(),
                    end: None,
                });
            }
            (_, None) => return Err(at("a recorded run begins with its header".into())),
            (_, Some(run)) if run.end.is_some() => return Err(at("goes on after the end of the run".into())),
            (Record::Measurement(measurement), Some(run)) => run.measurements.push(*measurement),
            (Record::Comparison(comparison), Some(run)) => {
                let replaced = |old: &Comparison| old.provisional && old.descriptor == comparison.descriptor;
                run.comparisons.retain(|old| !replaced(old));
                run.comparisons.push(*comparison);
            }
            (Record::End(end), Some(run)) => run.end = Some(end),
        }
    }
    Ok(Parsed { runs, cut: None })
}

fn record(line: &[u8]) -> Result<Record, String> {
    /// What all versions of the schema have in common.
    #[derive(Deserialize)]
    struct Version {
        record: String,
        schema: Option<u64>,
    }
    let explain = |error: serde_json::Error| match error.classify() {
        serde_json::error::Category::Eof if line.is_empty() => "an empty line".to_owned(),
        serde_json::error::Category::Eof => "the line is cut off".to_owned(),
        _ => format!("not a line of a recorded run: {error}"),
    };
    let version: Version = serde_json::from_slice(line).map_err(explain)?;
    if version.record == "header" && version.schema != Some(u64::from(SCHEMA)) {
        let found = version.schema.map_or("no schema".into(), |v| format!("schema {v}"));
        return Err(format!("{found}; this program reads schema {SCHEMA}"));
    }
    serde_json::from_slice(line).map_err(explain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Bandwidth, Environment, Fingerprint, Peak, Roofs, Toolchain};
    use crate::record::Outcome;

    fn lines() -> Vec<String> {
        let roofs = Roofs {
            peaks: vec![Peak { isa: "avx2".into(), dtype: "f32".into(), threads: 1, gflops: 100.0 }],
            read: vec![Bandwidth { level: "L1".into(), bytes: 16384, threads: 1, gbytes_per_s: 200.0 }],
        };
        let header = Record::Header(Box::new(Header {
            schema: SCHEMA,
            utc: "2026-01-02T03:04:05Z".into(),
            command: "tconv rank".into(),
            seed: 1,
            budget_s: 1.0,
            precision: 0.005,
            accuracy: None,
            shard: None,
            toolchain: Toolchain::of_this_build(),
            machine: Fingerprint::capture(),
            environment: Environment::capture(),
            roofs,
        }));
        let measurement = Record::Measurement(Box::new(Measurement {
            workload: "up".into(),
            descriptor: "f32:nchw:1x1x2x2:o1:k2x2".into(),
            kernel: "scatter".into(),
            revision: Some("1.1".into()),
            variant: None,
            default: false,
            layout: "nchw".into(),
            dtype: "f32".into(),
            isa: "avx2".into(),
            threads: 1,
            cache: "warm".into(),
            peer: None,
            outcome: Outcome::Declined { declined: "no".into() },
        }));
        let end = Record::End(End {
            complete: true,
            noise_floor: None,
            noise_workloads: 0,
            steal_share: None,
            wall_s: 1.0,
        });
        [header, measurement, end].iter().map(|r| serde_json::to_string(r).expect("JSON")).collect()
    }

    fn parse_text(text: &str) -> Result<Vec<RecordedRun>, String> {
        parsed(text).map(|parsed| parsed.runs)
    }

    fn parsed(text: &str) -> Result<Parsed, String> {
        parse("folder/run.jsonl", "run.jsonl", text.as_bytes()).map_err(|Failure(message)| message)
    }

    #[test]
    fn a_last_line_that_is_cut_off_spoils_nothing() {
        let [header, measurement, end] = &lines()[..] else { panic!() };
        for length in 1..measurement.len() {
            let part: String = measurement.chars().take(length).collect();
            let Parsed { runs, cut } = parsed(&format!("{header}\n{measurement}\n{part}")).unwrap();
            assert_eq!((runs.len(), runs[0].measurements.len(), runs[0].end), (1, 1, None), "{part}");
            assert!(cut.is_some_and(|cut| cut.contains("run.jsonl:3: ")), "{part}");
        }
        let whole = format!("{header}\n{measurement}\n{end}");
        assert!(parsed(&whole).unwrap().cut.is_none(), "only its line feed is missing");
    }

    #[test]
    fn records_are_the_lines() {
        let text = lines().join("\n") + "\n";
        let written = parse_text(&text).unwrap()[0].records();
        let written: Vec<String> = written.iter().map(|r| serde_json::to_string(r).unwrap()).collect();
        assert_eq!(written.join("\n") + "\n", text);
    }

    #[test]
    fn runs_are_read_back_one_or_more_in_a_file() {
        let [header, measurement, end] = &lines()[..] else { panic!() };
        let whole = parse_text(&format!("{header}\n{measurement}\n{end}\n")).unwrap();
        assert_eq!((whole.len(), whole[0].measurements.len()), (1, 1));
        assert!(whole[0].complete() && whole[0].source == "run.jsonl");
        let cut = parse_text(&format!("{header}\n{measurement}\n")).unwrap();
        assert!(!cut[0].complete());
        let two = parse_text(&format!("{header}\n{end}\n{header}\n{measurement}\n{end}")).unwrap();
        assert_eq!(two.iter().map(|run| run.measurements.len()).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn bad_lines_are_named() {
        let [header, measurement, end] = &lines()[..] else { panic!() };
        let other = header.replace(&format!("\"schema\":{SCHEMA}"), "\"schema\":4711");
        let half = &measurement[..measurement.len() / 2];
        for (text, words) in [
            (String::new(), "run.jsonl:1: an empty line"),
            (other, "run.jsonl:1: schema 4711; this program reads schema"),
            (measurement.clone(), "run.jsonl:1: a recorded run begins with its header"),
            (half.to_owned(), "run.jsonl:1: the line is cut off"),
            (format!("{header}\n{half}\n"), "run.jsonl:2: the line is cut off"),
            (format!("{header}\n{half}\n{end}\n"), "run.jsonl:2: the line is cut off"),
            (format!("{header}\n{end}\n{measurement}"), "run.jsonl:3: goes on after the end"),
            (format!("{header}\n\n{end}"), "run.jsonl:2: an empty line"),
            (format!("{header}\n{{\"record\":\"surprise\"}}\n"), "run.jsonl:2: not a line of a recorded run"),
            (format!("{header}\n\u{fffd}\n"), "run.jsonl:2: not a line"),
        ] {
            let message = parse_text(&text).unwrap_err();
            assert!(message.starts_with("folder/") && message.contains(words), "{words}: {message}");
        }
    }
}
