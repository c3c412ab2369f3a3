//! What a run finds in the caches: everything, all but the weights, or nothing of its own.

use std::hint::black_box;
use std::time::{Duration, Instant};

use tconv::machine::scratch::{Bytes64, filled_vec};
use tconv::{Element, Error};

use super::block::Crew;

/// State of the caches before a timed run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheMode {
    /// As the run before left them: the usual state of a benchmark, and of a small layer in a loop.
    #[default]
    Warm,
    /// Input and output are there, the packed weights are not: as in a network, where other layers ran in between.
    Weights,
    /// Nothing is there.
    Cold,
}

impl CacheMode {
    /// From warm to cold.
    pub const ALL: [Self; 3] = [Self::Warm, Self::Weights, Self::Cold];

    /// As options and records have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Weights => "weights",
            Self::Cold => "cold",
        }
    }

    /// The inverse of [`Self::name`].
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

/// Where the system does not tell its caches, they are taken for this large.
const UNKNOWN: usize = 64 << 20;
/// More than any cache of today, and still swept in a tenth of a second.
const MOST: usize = 1 << 30;

/// Memory that nobody needs: reading it drives everything else out of the caches.
#[derive(Debug)]
pub struct Sweeper {
    data: Vec<Bytes64>,
    /// Lines that every thread reads.
    share: usize,
    time: Duration,
}

impl Sweeper {
    /// For the caches of this crew, in bytes by level. Reads everything once to see how long that takes.
    pub fn new(caches: &[usize], crew: &Crew) -> Result<Self, Error> {
        let last = caches.last().copied().unwrap_or(UNKNOWN);
        let private = caches.iter().rev().nth(1).copied().unwrap_or(0);
        // Twice: no cache forgets strictly in order.
        let lines = (2 * last).min(MOST) / size_of::<Bytes64>();
        let share = lines.div_ceil(crew.threads()).max(2 * private / size_of::<Bytes64>()).min(lines);
        let data = filled_vec("memory to empty the caches with", lines, bytemuck::cast([1.0f32; 16]))?;
        let mut sweeper = Self { data, share, time: Duration::ZERO };
        let start = Instant::now();
        sweeper.sweep(crew);
        sweeper.time = start.elapsed();
        Ok(sweeper)
    }

    /// Drives everything else out: out of the private caches of every thread, and out of those that they share.
    pub fn sweep(&self, crew: &Crew) {
        crew.everywhere(|| {
            let thread = rayon::current_thread_index().unwrap_or(0);
            let start = (thread * self.share).min(self.data.len() - self.share);
            self.data[start..][..self.share].iter().for_each(|line| {
                black_box(bytemuck::cast::<_, [u64; 8]>(*line)[0]);
            });
        });
    }

    /// About how long that takes.
    pub fn time(&self) -> Duration {
        self.time
    }
}

/// Brings values into the caches of the calling thread, one of every line.
pub fn touch<T: Element>(values: &[T]) {
    let step = (64 / size_of::<T>()).max(1);
    values.iter().step_by(step).for_each(|value| {
        black_box(*value);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for mode in CacheMode::ALL {
            assert_eq!(CacheMode::parse(mode.name()), Some(mode));
        }
        assert_eq!(CacheMode::parse("hot"), None);
    }

    #[test]
    fn every_thread_sweeps_its_part_and_its_own_cache() {
        for threads in [1, 2, 3] {
            let crew = Crew::new(threads).unwrap();
            let sweeper = Sweeper::new(&[1 << 12, 1 << 16, 1 << 18], &crew).unwrap();
            let lines = sweeper.data.len();
            assert_eq!(lines, (2 << 18) / 64);
            assert!(sweeper.share * threads >= lines && sweeper.share * 64 >= 2 << 16, "{}", sweeper.share);
        }
        let small = Sweeper::new(&[4096], &Crew::new(1).unwrap()).unwrap();
        assert_eq!(small.share, small.data.len());
    }
}
