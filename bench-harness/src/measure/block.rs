//! One timed block, and what the operating system did to it meanwhile.

use std::hint::black_box;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::cli::Failure;

/// A few runs timed as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Block {
    /// Runs in the block.
    pub runs: u32,
    /// Wall time of all of them.
    pub wall: Duration,
    /// CPU time of all threads that worked on them.
    pub cpu: Duration,
    /// How often one of these threads was interrupted for another one.
    pub switches: u64,
    /// Pages that were first touched, over these threads.
    pub faults: u64,
    /// The slower of two [beats](super::pulse::Pulse), just before and just after; zero where none was taken.
    pub beat: Duration,
    /// Whether that was slow, for its sitting: somebody else used the core.
    pub shared: bool,
}

impl Block {
    /// Wall nanoseconds of one run.
    pub fn ns_per_run(&self) -> f64 {
        self.wall.as_nanos() as f64 / f64::from(self.runs.max(1))
    }

    /// Whether nobody interrupted it or took a part of the core: only such blocks count for comparisons.
    pub fn is_clean(&self) -> bool {
        self.switches == 0 && !self.shared
    }
}

impl AddAssign for Block {
    /// Both as one: only clean if both are.
    fn add_assign(&mut self, other: Self) {
        self.runs += other.runs;
        self.wall += other.wall;
        self.cpu += other.cpu;
        self.switches += other.switches;
        self.faults += other.faults;
        self.beat = self.beat.max(other.beat);
        self.shared |= other.shared;
    }
}

/// Depths of the stack at which a block may run: together more than a page, whose length decides which addresses collide.
const DEPTHS: u32 = 128;
/// What makes a frame (with what the compiler adds) no multiple of 32 bytes: every alignment to a cache line occurs.
const FRAME: usize = 80;
/// 2⁶⁴ over the golden ratio: multiples of it, modulo 2⁶⁴, are spread evenly.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The threads that work: the calling one, or a pool of several.
#[derive(Debug)]
pub struct Crew {
    pool: Option<rayon::ThreadPool>,
    /// Of the blocks so far, a multiple of [`GOLDEN`].
    blocks: AtomicU64,
}

impl Crew {
    /// `threads` workers; one is the calling thread itself.
    pub fn new(threads: usize) -> Result<Self, Failure> {
        let pool = match threads {
            0 | 1 => None,
            _ => Some(rayon::ThreadPoolBuilder::new().num_threads(threads).build()?),
        };
        Ok(Self { pool, blocks: AtomicU64::new(0) })
    }

    /// How many there are.
    pub fn threads(&self) -> usize {
        self.pool.as_ref().map_or(1, rayon::ThreadPool::current_num_threads)
    }

    /// Runs `work` where rayon's tasks go to this crew.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            None => work(),
            Some(pool) => pool.install(work),
        }
    }

    /// Runs `work` on every thread of the crew at the same time.
    pub fn everywhere<R: Send>(&self, work: impl Fn() -> R + Sync) -> Vec<R> {
        match &self.pool {
            None => vec![work()],
            Some(pool) => pool.broadcast(|_| work()),
        }
    }

    /// Times `runs` runs of `work`. The counters are read outside the timed span.
    ///
    /// Each block finds the stack at another place. Where a kernel's variables lie relative to its tensors can be worth several
    /// percent; it is chance (a caller's frame, the length of the environment), the same for a whole process, and must not pass for
    /// a difference between two kernels.
    pub fn time(&self, runs: u32, mut work: impl FnMut() + Send) -> Block {
        let block = self.blocks.fetch_add(GOLDEN, Ordering::Relaxed);
        let depth = (block >> 32) as u32 / (u32::MAX / DEPTHS + 1);
        let before = self.usage();
        let wall = self.install(|| {
            let mut wall = Duration::ZERO;
            at_depth(depth, &mut || {
                let start = Instant::now();
                for _ in 0..runs {
                    work();
                }
                wall = start.elapsed();
            });
            wall
        });
        let after = self.usage();
        Block {
            runs,
            wall,
            cpu: after.cpu.saturating_sub(before.cpu),
            switches: after.switches.saturating_sub(before.switches),
            faults: after.faults.saturating_sub(before.faults),
            ..Block::default()
        }
    }

    fn usage(&self) -> Usage {
        self.everywhere(Usage::of_this_thread).into_iter().fold(Usage::default(), |sum, one| Usage {
            cpu: sum.cpu + one.cpu,
            switches: sum.switches + one.switches,
            faults: sum.faults + one.faults,
        })
    }
}

/// Calls `work` so many frames of about a hundred bytes further down.
#[inline(never)]
fn at_depth(depth: u32, work: &mut dyn FnMut()) {
    let frame = [0u8; FRAME];
    black_box(&frame);
    match depth.checked_sub(1) {
        None => work(),
        Some(depth) => at_depth(depth, work),
    }
    // It is needed until here: no tail call.
    black_box(&frame);
}

/// Counters of one thread since it started.
#[derive(Debug, Clone, Copy, Default)]
struct Usage {
    cpu: Duration,
    switches: u64,
    faults: u64,
}

impl Usage {
    #[cfg(target_os = "linux")]
    fn of_this_thread() -> Self {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        let mut clock = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: both calls write to the structure that they are given, which lives here; all-zero is a valid rusage, so
        // that even a failed call leaves something to read.
        let usage = unsafe {
            libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
            libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut clock);
            usage.assume_init()
        };
        Self {
            cpu: Duration::new(clock.tv_sec as u64, clock.tv_nsec as u32),
            switches: usage.ru_nivcsw as u64,
            faults: usage.ru_minflt as u64,
        }
    }

    /// Elsewhere these counters do not exist for one thread: every block counts as clean.
    #[cfg(not(target_os = "linux"))]
    fn of_this_thread() -> Self {
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn blocks_run_all_over_a_page_of_the_stack() {
        for threads in [1, 2] {
            let crew = Crew::new(threads).unwrap();
            let places = Mutex::new(BTreeSet::new());
            for _ in 0..20 * DEPTHS {
                crew.time(1, || {
                    let here = 0u8;
                    places.lock().unwrap().insert(black_box(&raw const here).addr());
                });
            }
            let places = places.into_inner().unwrap();
            let distinct =
                |of: fn(usize) -> usize| places.iter().map(|&p| of(p)).collect::<BTreeSet<_>>().len();
            let (lines, alignments) = (distinct(|place| place % 4096 / 64), distinct(|place| place % 64));
            assert!(lines >= 48 && alignments >= 4, "{lines} of 64 lines, {alignments} of 4 alignments");
        }
    }

    #[test]
    fn a_block_counts_its_runs() {
        for threads in [1, 2] {
            let count = AtomicU32::new(0);
            let block = Crew::new(threads).unwrap().time(5, || {
                count.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!((block.runs, count.into_inner()), (5, 5));
            assert!(block.ns_per_run() * 5.0 <= block.wall.as_nanos() as f64 * 1.001);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn work_and_fresh_pages_are_seen_on_every_thread() {
        // Touched by each of `threads` tasks: huge pages may make few faults of it.
        const BYTES: usize = 16 << 20;
        for threads in [1, 3] {
            let crew = Crew::new(threads).unwrap();
            let block = crew.time(1, || {
                tconv::machine::parallel::run_numbered(threads, threads, |_| {
                    std::hint::black_box(vec![1u8; BYTES]);
                });
            });
            assert!(block.faults >= threads as u64, "{block:?}");
            assert!(block.cpu > Duration::ZERO, "{block:?}");
        }
    }
}
