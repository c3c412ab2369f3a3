//! How some executions went, by the clocks and counters of this process.

use std::time::Instant;

use serde_json::{Value, json};

use crate::Operator;

pub(crate) fn run(operator: &mut dyn Operator, k: u64) -> Result<Value, String> {
    let before = Usage::now();
    let start = Instant::now();
    for _ in 0..k {
        operator.run()?;
    }
    let wall = start.elapsed();
    let after = Usage::now();
    Ok(json!({
        "reply": "ran",
        "runs": k,
        "wall_ns": wall.as_nanos() as u64,
        "cpu_ns": after.cpu_ns - before.cpu_ns,
        "switches": after.switches - before.switches,
        "faults": after.faults - before.faults,
    }))
}

struct Usage {
    cpu_ns: u64,
    switches: u64,
    faults: u64,
}

impl Usage {
    fn now() -> Self {
        // SAFETY: all zeros is a valid value of this structure of numbers.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: writes the structure that it is given.
        unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
        let ns = |t: libc::timeval| t.tv_sec as u64 * 1_000_000_000 + t.tv_usec as u64 * 1000;
        Self {
            cpu_ns: ns(usage.ru_utime) + ns(usage.ru_stime),
            switches: usage.ru_nivcsw as u64,
            faults: usage.ru_minflt as u64,
        }
    }
}
