//! What may differ from one run to the next on the same machine.

use std::fs;

use serde::{Deserialize, Serialize};

/// What built this program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolchain {
    /// Version of the harness.
    pub tconv: String,
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
            rustc: env!("TCONV_BUILD_RUSTC").into(),
            target: env!("TCONV_BUILD_TARGET").into(),
            opt_level: env!("TCONV_BUILD_OPT_LEVEL").into(),
            flags: env!("TCONV_BUILD_FLAGS").into(),
        }
    }
}

/// How this process runs, and beside what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Load averages over 1, 5 and 15 minutes, where the system tells.
    pub load: Option<[f64; 3]>,
    /// Processors that this process may use, where the system tells.
    pub allowed_cpus: Option<usize>,
    /// Whether these are fewer than there are. The harness never pins anything itself.
    pub pinned: Option<bool>,
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
        }
    }
}

fn parse_load(text: &str) -> Option<[f64; 3]> {
    let mut numbers = text.split_whitespace().map(|word| word.parse().ok());
    Some([numbers.next()??, numbers.next()??, numbers.next()??])
}

/// Processors that are switched on, whoever may use them.
pub(super) fn online_cpus() -> Option<usize> {
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
    fn the_build_is_named() {
        let toolchain = Toolchain::of_this_build();
        assert!(toolchain.rustc.starts_with("rustc "), "{toolchain:?}");
        assert!(toolchain.target.contains(std::env::consts::ARCH), "{toolchain:?}");
    }
}
