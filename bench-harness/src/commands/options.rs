//! What several commands are asked in the same words.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tconv::{Descriptor, Dtype, Layout, Target};

use crate::cli::Failure;
use crate::workloads;

/// Relative half width at which a ratio is known well enough, where nothing else is asked.
pub(super) const PRECISION: f64 = 0.005;
/// Seconds for each workload where no budget is given: two minutes for the whole built-in set.
const SECONDS_PER_SITTING: f64 = 2.4;
/// Seconds more for each peer on each workload.
const SECONDS_PER_PEER: f64 = 0.5;
const MOST_THREADS: usize = Target::MOST_THREADS;

/// Which layers.
#[derive(Debug, clap::Args)]
pub struct Layers {
    /// Workloads whose name matches, or one descriptor (all without)
    #[arg(short, long = "workload", value_name = "RE")]
    pub workload: Option<String>,
    /// Workloads of this TOML file instead of the built-in ones
    #[arg(long, value_name = "FILE")]
    pub workloads: Option<PathBuf>,
    /// Element type: f32 (default) or f64
    #[arg(long, value_name = "TYPE", value_parser = dtype)]
    pub dtype: Option<Dtype>,
}

impl Layers {
    /// Name and problem of each, and the type of all. Without a layout each keeps its own.
    pub fn choose(&self, layout: Option<Layout>) -> Result<(Vec<(String, Descriptor)>, Dtype), Failure> {
        let all = match &self.workloads {
            Some(path) => workloads::load(path)?,
            None => workloads::zoo(),
        };
        let chosen = workloads::select(all, self.workload.as_deref())?;
        // Only a descriptor states a type, and then it is alone.
        let dtype = self.dtype.or_else(|| chosen.first().and_then(|w| w.dtype)).unwrap_or(Dtype::F32);
        let described = chosen.into_iter().map(|w| {
            let problem = layout.map_or(w.problem, |layout| w.problem.with_layout(layout));
            (w.name, Descriptor { problem, dtype, epilogue: w.epilogue, structure: w.structure })
        });
        Ok((described.collect(), dtype))
    }
}

pub(super) fn layout(text: &str) -> Result<Layout, String> {
    Layout::parse(text).ok_or_else(|| "expected nchw or nhwc".into())
}

pub(super) fn dtype(text: &str) -> Result<Dtype, String> {
    Dtype::parse(text).ok_or_else(|| "expected f32 or f64".into())
}

pub(super) fn threads(text: &str) -> Result<usize, String> {
    let bad = || format!("expected 1 to {MOST_THREADS}");
    text.parse().ok().filter(|n| (1..=MOST_THREADS).contains(n)).ok_or_else(bad)
}

/// What so many sittings take where nothing else is asked, with so many peers in each.
pub(super) fn budget(sittings: usize, peers: usize) -> Duration {
    Duration::from_secs_f64((SECONDS_PER_SITTING + SECONDS_PER_PEER * peers as f64) * sittings as f64)
}

/// `90`, `90s` or `1.5m`.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60.0),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let value = number.parse::<f64>().ok().map(|n| n * unit).filter(|s| *s > 0.0 && *s <= 1e6);
    value.map(Duration::from_secs_f64).ok_or_else(|| "expected seconds, such as 90, 90s or 1.5m".into())
}

/// `0.5%` or `0.005`.
pub(super) fn share(text: &str) -> Result<f64, String> {
    let (number, unit) = match text.strip_suffix('%') {
        Some(percent) => (percent.trim_end(), 0.01),
        None => (text, 1.0),
    };
    let value = number.parse::<f64>().ok().map(|x| x * unit).filter(|x| *x > 0.0 && *x < 1.0);
    value.ok_or_else(|| "expected a share, such as 0.5% or 0.005".into())
}

/// The command as a reader would type it. Results are published: of an absolute path only the file name is kept.
pub(super) fn command_line() -> String {
    typed(std::env::args().skip(1))
}

/// An argument, where it is or holds an absolute path the file name alone.
pub(super) fn published(arg: &str) -> String {
    let (kind, path) = match arg.strip_prefix("bin:") {
        Some(path) => ("bin:", Path::new(path)),
        None => ("", Path::new(arg)),
    };
    match path.file_name().filter(|_| path.is_absolute()) {
        Some(name) => format!("{kind}{}", name.to_string_lossy()),
        None => arg.to_owned(),
    }
}

fn typed(args: impl Iterator<Item = String>) -> String {
    let mut line = "tconv".to_owned();
    for arg in args {
        let arg = published(&arg);
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+%".contains(c);
        if !arg.is_empty() && arg.chars().all(plain) {
            line += &format!(" {arg}");
        } else {
            line += &format!(" '{}'", arg.replace('\'', r"'\''"));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_have_units() {
        assert_eq!(seconds("90").unwrap(), Duration::from_secs(90));
        assert_eq!(seconds("2.5s").unwrap(), Duration::from_millis(2500));
        assert_eq!(seconds("1.5m").unwrap(), Duration::from_secs(90));
        for bad in ["", "0", "-1", "soon", "1h", "nan", "inf", "1e9"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shares_are_numbers_or_percentages() {
        assert_eq!(share("0.005").unwrap(), 0.005);
        assert_eq!(share("0.5%").unwrap(), 0.005);
        assert_eq!(share("2 %").unwrap(), 0.02);
        for bad in ["", "0", "-1%", "100%", "1", "%", "nan", "few"] {
            assert!(share(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn commands_can_be_typed_again() {
        let line = |args: &[&str]| typed(args.iter().map(|a| a.to_string()));
        assert_eq!(line(&["rank", "-w", "^pose_up[13]$"]), "tconv rank -w '^pose_up[13]$'");
        assert_eq!(line(&["rank", "-o", "/somewhere/private/run.jsonl"]), "tconv rank -o run.jsonl");
        assert_eq!(line(&["compare", "bin:/a/b/tconv", "x"]), "tconv compare bin:tconv x");
        assert_eq!(line(&["rank", "-k", "it's"]), r"tconv rank -k 'it'\''s'");
    }
}
