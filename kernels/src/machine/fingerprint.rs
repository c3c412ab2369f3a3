//! What identifies a kind of machine: never its frequency or its name, which change without any change of speed.

use std::fmt;
use std::fs;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::machine::isa::Isa;
use crate::machine::measured::MEASURED;

/// A kind of machine. Results of machines with equal fingerprints may be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Maker of the CPU.
    pub vendor: String,
    /// CPU family (x86) or architecture (ARM).
    pub family: String,
    /// CPU model (x86) or part (ARM).
    pub model: String,
    /// Instruction sets that the library can use, narrowest first.
    pub isas: Vec<String>,
    /// Bytes of data cache by level, from level 1.
    pub caches: Vec<usize>,
    /// Cores that the system shows.
    pub cores: usize,
}

impl Fingerprint {
    /// Of this machine, captured once.
    pub fn here() -> &'static str {
        static HERE: OnceLock<String> = OnceLock::new();
        HERE.get_or_init(|| Self::capture().to_string())
    }

    /// Of the kinds of machines that were recorded with this instruction set the one most like this: the longest common beginning of
    /// maker, family, model, instruction set, caches and cores. Predictions and shipped choices for the instruction set are those of
    /// that kind. Equal to [`Self::here`] where such a machine was recorded; none where nobody recorded the instruction set.
    pub fn recorded(isa: Isa) -> Option<&'static str> {
        static RECORDED: OnceLock<[Option<&str>; Isa::NAMES.len()]> = OnceLock::new();
        let kinds_with = |isa: &'static str| {
            MEASURED.iter().filter(move |(_, name, _)| *name == isa).map(|(kind, ..)| *kind)
        };
        let all = RECORDED.get_or_init(|| Isa::NAMES.map(|isa| most_like(Self::here(), kinds_with(isa))));
        all[isa.number()]
    }

    /// Of this machine; `unknown` and 0 where the system does not tell.
    pub fn capture() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |x86: &str, arm: &str| {
            let found = value_of(&cpuinfo, x86).or_else(|| value_of(&cpuinfo, arm));
            found.unwrap_or("unknown").to_owned()
        };
        let available = || std::thread::available_parallelism().map_or(1, |n| n.get());
        Self {
            vendor: field("vendor_id", "CPU implementer"),
            family: field("cpu family", "CPU architecture"),
            model: field("model", "CPU part"),
            isas: Isa::available().into_iter().map(|isa| isa.name().to_owned()).collect(),
            caches: caches(),
            cores: online_cpus().unwrap_or_else(available),
        }
    }
}

/// As a file name: `authenticamd-25-17-avx512-32k-1m-32m-2c`.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for word in [&self.vendor, &self.family, &self.model] {
            let word: String = word.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
            write!(f, "{}-", word.to_ascii_lowercase())?;
        }
        write!(f, "{}", self.isas.last().map_or("unknown", String::as_str))?;
        for &bytes in &self.caches {
            match bytes {
                b if b.is_multiple_of(1 << 20) => write!(f, "-{}m", b >> 20)?,
                b => write!(f, "-{}k", b >> 10)?,
            }
        }
        write!(f, "-{}c", self.cores)
    }
}

/// The first of those with the most leading parts in common.
fn most_like<'k>(machine: &str, kinds: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let common = |kind: &str| machine.split('-').zip(kind.split('-')).take_while(|(a, b)| a == b).count();
    kinds.min_by_key(|kind| std::cmp::Reverse(common(kind)))
}

/// The value of the first line `key : value`.
fn value_of<'a>(cpuinfo: &'a str, key: &str) -> Option<&'a str> {
    let mut pairs = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    pairs.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim())
}

/// Processors that are switched on, whoever may use them: a list such as `0-3,8`.
fn online_cpus() -> Option<usize> {
    let list = fs::read_to_string("/sys/devices/system/cpu/online").ok()?;
    list.trim().split(',').try_fold(0usize, |sum, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

/// Data and unified caches of the first core.
fn caches() -> Vec<usize> {
    let mut found = Vec::new();
    for index in 0..8 {
        let read = |name: &str| {
            fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{name}")).ok()
        };
        let (Some(level), Some(kind), Some(size)) = (read("level"), read("type"), read("size")) else {
            continue;
        };
        if let (Ok(level), Some(bytes)) = (level.trim().parse::<usize>(), parse_size(&size))
            && kind.trim() != "Instruction"
        {
            found.push((level, bytes));
        }
    }
    found.sort_unstable();
    found.into_iter().map(|(_, bytes)| bytes).collect()
}

/// `"32K"`, `"1024K"` or `"1M"`.
fn parse_size(text: &str) -> Option<usize> {
    let text = text.trim();
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        _ => (text, 0),
    };
    digits.parse::<usize>().ok().map(|n| n << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_like_has_the_longest_common_beginning() {
        let kinds = ["amd-25-17-avx512-32k-2c", "intel-6-85-avx512-32k-2c", "intel-6-207-avx512-48k-2c"];
        let like = |machine| most_like(machine, kinds.into_iter()).unwrap();
        assert_eq!(like("amd-25-17-avx512-32k-8c"), kinds[0]);
        assert_eq!(like("intel-6-207-avx2-48k-2c"), kinds[2]);
        assert_eq!(like("intel-6-143-avx512-48k-2c"), kinds[1]);
        // Machines that have nothing in common with it: the first.
        assert_eq!(like("arm-8-1-neon-64k-4c"), kinds[0]);
        assert_eq!(most_like("amd", std::iter::empty()), None);
    }

    #[test]
    fn cpuinfo_fields_are_whole_names() {
        let text = "vendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\nmodel\t\t: 17\n\nmodel\t\t: 18\n";
        assert_eq!(value_of(text, "model"), Some("17"));
        assert_eq!(value_of(text, "cpu family"), None);
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse_size("32K\n"), Some(32 << 10));
        assert_eq!(parse_size("1M"), Some(1 << 20));
        assert_eq!(parse_size("64"), Some(64));
        assert_eq!(parse_size("much"), None);
    }

    #[test]
    fn its_name_holds_everything() {
        let machine = Fingerprint {
            vendor: "AuthenticAMD".into(),
            family: "25".into(),
            model: "0xd0c".into(),
            isas: vec!["portable".into(), "avx512".into()],
            caches: vec![32 << 10, 1 << 20, 32 << 20],
            cores: 2,
        };
        assert_eq!(machine.to_string(), "authenticamd-25-0xd0c-avx512-32k-1m-32m-2c");
    }

    #[test]
    fn times_of_another_instruction_set_tell_nothing() {
        for isa in Isa::available() {
            let recorded = Fingerprint::recorded(isa);
            let of = |kind| MEASURED.iter().any(|(k, name, _)| (*k, *name) == (kind, isa.name()));
            assert_eq!(recorded.is_some(), MEASURED.iter().any(|(_, name, _)| *name == isa.name()));
            assert!(recorded.is_none_or(of), "{recorded:?} was not recorded with {}", isa.name());
        }
    }

    #[test]
    fn the_same_machine_is_captured_twice() {
        assert_eq!(Fingerprint::capture(), Fingerprint::capture());
    }
}
