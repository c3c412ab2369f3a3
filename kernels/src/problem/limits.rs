//! How large a problem may be before it is refused.

use std::sync::OnceLock;

/// What a checked problem may need at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of input, weights, bias and output together. The default is the physical memory.
    pub max_bytes: usize,
}

impl Limits {
    /// Only what the address space refuses.
    pub const NONE: Self = Self { max_bytes: isize::MAX as usize };

    /// At most `max_bytes` for input, weights, bias and output together.
    pub const fn bytes(max_bytes: usize) -> Self {
        Self { max_bytes }
    }
}

impl Default for Limits {
    fn default() -> Self {
        static PHYSICAL: OnceLock<usize> = OnceLock::new();
        Self { max_bytes: *PHYSICAL.get_or_init(physical_memory) }
    }
}

/// Physical memory in bytes where the OS tells it without a library (Linux), else what the address space holds.
fn physical_memory() -> usize {
    std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text)).unwrap_or(isize::MAX as usize)
}

/// The line `MemTotal: <n> kB`.
fn total(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kilobytes: usize = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kilobytes.checked_mul(1024).filter(|&bytes| bytes > 0).map(|bytes| bytes.min(isize::MAX as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_or_unlimited() {
        assert_eq!(total("MemTotal:       24520188 kB\nMemFree: 1 kB\n"), Some(24520188 * 1024));
        assert_eq!(total("MemTotal: many kB\n"), None);
        assert_eq!(total(""), None);
        assert!(Limits::default().max_bytes >= 1 << 20);
    }
}
