//! What may differ from one run to the next on the same machine.

use std::fs;

use serde::{Deserialize, Serialize};

/// What built this program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Toolchain {
    /// Version of the harness.
    pub tconv: String,
    /// Commit that it was built from, with a `+` where files differed from it; `unknown` outside a repository.
    pub commit: String,
    /// What the compiler says of itself.
    pub rustc: String,
    /// Target triple.
    pub target: String,
    /// Optimisation level.
    pub opt_level: String,
    /// Further compiler flags.
    pub flags: String,
}

impl Toolchain {
    /// Of this very program.
    pub fn of_this_build() -> Self {
        Self {
            tconv: env!("CARGO_PKG_VERSION").into(),
            commit: env!("TCONV_BUILD_COMMIT").into(),
            rustc: env!("TCONV_BUILD_RUSTC").into(),
            target: env!("TCONV_BUILD_TARGET").into(),
            opt_level: env!("TCONV_BUILD_OPT_LEVEL").into(),
            flags: env!("TCONV_BUILD_FLAGS").into(),
        }
    }
}

/// How this process runs, and beside what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Environment {
    /// Load averages over 1, 5 and 15 minutes, where the system tells.
    pub load: Option<[f64; 3]>,
    /// Processors that this process may use, where the system tells.
    pub allowed_cpus: Option<usize>,
    /// Whether these are fewer than there are. The harness never pins anything itself.
    pub pinned: Option<bool>,
    /// Processors' worth of time that a control group may use; none where there is no such limit.
    pub quota_cpus: Option<f64>,
    /// Who sets the frequency; none where the system does not show it, as in most virtual machines.
    pub governor: Option<String>,
    /// Name of the CPU, for readers.
    pub cpu: Option<String>,
    /// Kernel of the operating system.
    pub os: String,
}

impl Environment {
    /// As it is now.
    pub fn capture() -> Self {
        let allowed_cpus = allowed_cpus();
        let online = online_cpus();
        Self {
            load: fs::read_to_string("/proc/loadavg").ok().and_then(|text| parse_load(&text)),
            allowed_cpus,
            pinned: allowed_cpus.zip(online).map(|(allowed, online)| allowed < online),
            quota_cpus: fs::read_to_string("/sys/fs/cgroup/cpu.max").ok().and_then(|text| parse_quota(&text)),
            governor: read_word("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            cpu: cpu_name(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            os: match read_word("/proc/sys/kernel/osrelease") {
                // Behind the version stands whatever the builder of the kernel liked.
                Some(release) => {
                    format!("{} {}", std::env::consts::OS, release.split('-').next().unwrap_or(""))
                }
                None => std::env::consts::OS.into(),
            },
        }
    }
}

/// Counters of processor time since the system started, all processors together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTime {
    all: u64,
    idle: u64,
    stolen: u64,
}

impl CpuTime {
    /// As it is now; none where the system does not tell.
    pub fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// Of the line `cpu  user nice system idle iowait irq softirq steal …`.
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.lines().next()?.split_whitespace();
        let times: Vec<u64> =
            (words.next()? == "cpu").then(|| words.map_while(|w| w.parse().ok()).take(8).collect())?;
        let &[_, _, _, idle, waiting, _, _, stolen] = &times[..] else { return None };
        Some(Self { all: times.iter().sum(), idle: idle + waiting, stolen })
    }

    /// The part of all time since then that a hypervisor gave to others, and the part in which something ran.
    pub fn shares_since(self, then: Self) -> (f64, f64) {
        let all = self.all.saturating_sub(then.all).max(1) as f64;
        let idle = self.idle.saturating_sub(then.idle) as f64;
        (self.stolen.saturating_sub(then.stolen) as f64 / all, 1.0 - idle / all)
    }
}

fn read_word(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned()).filter(|word| !word.is_empty())
}

fn cpu_name(cpuinfo: &str) -> Option<String> {
    let (_, name) = cpuinfo.lines().find(|l| l.starts_with("model name"))?.split_once(':')?;
    Some(name.trim().to_owned())
}

/// `"200000 100000"` is two processors, `"max 100000"` is no limit.
fn parse_quota(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0.0).then(|| quota / period)
}

fn parse_load(text: &str) -> Option<[f64; 3]> {
    let mut numbers = text.split_whitespace().map(|word| word.parse().ok());
    Some([numbers.next()??, numbers.next()??, numbers.next()??])
}

/// Processors that are switched on, whoever may use them.
fn online_cpus() -> Option<usize> {
    count_list(&fs::read_to_string("/sys/devices/system/cpu/online").ok()?)
}

/// Counts a list such as `0-3,8`.
fn count_list(text: &str) -> Option<usize> {
    text.trim().split(',').try_fold(0usize, |sum, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

#[cfg(target_os = "linux")]
fn allowed_cpus() -> Option<usize> {
    // SAFETY: an all-zero set is a valid, empty one; the call writes at most the size that it is told.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let failed = libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0;
        (!failed).then(|| libc::CPU_COUNT(&set) as usize)
    }
}

#[cfg(not(target_os = "linux"))]
fn allowed_cpus() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_counted() {
        assert_eq!(count_list("0-1\n"), Some(2));
        assert_eq!(count_list("0,2-4,9"), Some(5));
        assert_eq!(count_list(""), None);
        assert_eq!(count_list("3-1"), None);
    }

    #[test]
    fn loads_are_read() {
        assert_eq!(parse_load("0.05 0.12 1.50 1/89 6108\n"), Some([0.05, 0.12, 1.5]));
        assert_eq!(parse_load("0.05 high"), None);
    }

    #[test]
    fn quotas_and_names_are_read() {
        assert_eq!(parse_quota("150000 100000\n"), Some(1.5));
        assert_eq!(parse_quota("max 100000\n"), None);
        assert_eq!(
            cpu_name("processor\t: 0\nmodel\t\t: 17\nmodel name\t: Some CPU\n").as_deref(),
            Some("Some CPU")
        );
        assert_eq!(cpu_name(""), None);
    }

    #[test]
    fn processor_time_is_divided() {
        let read = |text| CpuTime::parse(text).expect("a line of times");
        let then = read("cpu  100 0 50 800 20 0 10 20 0 0\ncpu0 1 2\n");
        let now = read("cpu  130 0 60 840 30 0 10 30 0 0\n");
        assert_eq!(now.shares_since(then), (0.1, 0.5));
        assert_eq!(CpuTime::parse("intr 1 2 3"), None);
    }

    #[test]
    fn the_build_is_named() {
        let toolchain = Toolchain::of_this_build();
        assert!(toolchain.rustc.starts_with("rustc "), "{toolchain:?}");
        assert!(toolchain.target.contains(std::env::consts::ARCH), "{toolchain:?}");
    }
}
