//! How fast the core is at this moment: where it lends half of its execution units to another guest of the same machine, no counter
//! of the operating system tells, but everything takes up to twice as long.

use std::time::{Duration, Instant};

use tconv::Isa;

use crate::machine;

/// Of one burst, about.
const BURST: Duration = Duration::from_micros(4);
/// Times that a burst does it all, at most.
const MOST: usize = 1 << 16;
/// Bursts of a beat: the quickest counts, since a tick of the system's clock is longer than one.
const BURSTS: usize = 3;
/// A beat that takes so much longer than the quickest one is slow.
const SLOW: f64 = 1.1;

/// Elements that a burst reads: a part of the level-1 cache.
const READ: usize = 2048;

/// Bursts of multiply-adds, and of loads from the level-1 cache, all of equal length: what kernels live from.
#[derive(Debug)]
pub struct Pulse {
    isa: Isa,
    times: usize,
    data: Vec<f32>,
}

impl Pulse {
    /// With the widest vectors of the machine.
    pub fn of_this_core() -> Self {
        let isa = Isa::available().pop().unwrap_or(Isa::PORTABLE);
        let mut pulse = Self { isa, times: 1, data: vec![1.0; READ] };
        while pulse.beat() < BURST && pulse.times < MOST {
            pulse.times *= 2;
        }
        pulse
    }

    /// The time of a burst now, on the calling thread.
    pub fn beat(&self) -> Duration {
        let burst = |_| {
            let start = Instant::now();
            machine::burst(self.isa, self.times, &self.data);
            start.elapsed()
        };
        (0..BURSTS).map(burst).min().unwrap_or_default()
    }
}

/// Whether each of these beats was slow beside the quickest of them. One that was not taken is not.
pub fn are_slow(beats: &[Duration]) -> impl Iterator<Item = bool> + '_ {
    let taken = beats.iter().filter(|beat| !beat.is_zero());
    let limit = taken.min().map_or(f64::INFINITY, |quickest| SLOW * quickest.as_secs_f64());
    beats.iter().map(move |beat| beat.as_secs_f64() > limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_takes_as_long_as_it_was_made_for() {
        let pulse = Pulse::of_this_core();
        let beat = (0..50).map(|_| pulse.beat()).min().unwrap();
        // Twice as much until it was long enough: one that somebody disturbed meanwhile is shorter.
        assert!(!beat.is_zero() && pulse.times < MOST, "{beat:?}");
    }

    #[test]
    fn slow_is_a_tenth_more_than_the_quickest() {
        let beats = [0, 100, 109, 112, 200].map(Duration::from_nanos);
        assert!(are_slow(&beats).eq([false, false, false, true, true]));
        assert!(are_slow(&[]).next().is_none());
        assert!(are_slow(&[Duration::ZERO; 2]).eq([false, false]));
    }
}
