//! The only caller of rayon: runs numbered tasks on a fixed number of slots, on the caller's pool.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::machine::isa::Target;
use crate::machine::prefetch;
use crate::machine::scratch::{Bytes64, Scratch};
use crate::machine::tensor::Element;

/// Runs `task(slot, i)` once for every `i` in `0..tasks`, at most `slots.len()` at the same time.
///
/// Every slot is one worker's own state. Which slot takes which task is left to chance, so that a slow core holds nobody
/// up: tasks must write disjoint outputs, and each must compute the same bits whichever slot it gets. With one slot, or
/// one task, nothing leaves the calling thread. Allocates nothing itself.
pub fn run<S: Send>(slots: &mut [S], tasks: usize, task: impl Fn(&mut S, usize) + Sync) {
    let workers = slots.len().min(tasks);
    let next = AtomicUsize::new(0);
    let work = |slots: &mut [S]| drain(&next, tasks, |i| task(&mut slots[0], i));
    fork(slots, workers, &|slots, n| slots.split_at_mut(n), &work);
}

/// [`run`] where a worker's own state is a slot of `elements` elements of the scratch (see [`Scratch::slots`]); dirty.
pub fn run_scratch<T: Element>(
    threads: usize,
    scratch: &mut [Bytes64],
    elements: usize,
    tasks: usize,
    task: impl Fn(&mut [T], usize) + Sync,
) {
    let units = Scratch::slots::<T>(1, elements).units();
    let next = AtomicUsize::new(0);
    let work = |slot: &mut [Bytes64]| {
        let slot = &mut bytemuck::cast_slice_mut::<Bytes64, T>(slot)[..elements];
        drain(&next, tasks, |i| task(slot, i));
    };
    fork(scratch, threads.min(tasks), &|scratch, n| scratch.split_at_mut(n * units), &work);
}

/// Takes task after task until none is left.
fn drain(next: &AtomicUsize, tasks: usize, mut task: impl FnMut(usize)) {
    loop {
        let i = next.fetch_add(1, Ordering::Relaxed);
        if i >= tasks {
            break;
        }
        task(i);
    }
}

/// Splits `state` into one piece for each worker and works on all of them at the same time.
fn fork<P: Send>(
    state: P,
    workers: usize,
    split: &(impl Fn(P, usize) -> (P, P) + Sync),
    work: &(impl Fn(P) + Sync),
) {
    match workers {
        0 => {}
        1 => work(state),
        _ => {
            let half = workers / 2;
            let (left, right) = split(state, half);
            rayon::join(|| fork(left, half, split, work), || fork(right, workers - half, split, work));
        }
    }
}

/// Cuts `output` into chunks of `chunk` elements and runs `task(i, chunk i)` for each, at most `threads` at a time.
///
/// # Panics
///
/// Where chunks of that length do not make up the output.
pub fn run_chunks<T: Element>(
    threads: usize,
    output: &mut [T],
    chunk: usize,
    task: impl Fn(usize, &mut [T]) + Sync,
) {
    let tasks = output.len() / chunk.max(1);
    assert_eq!(tasks * chunk, output.len(), "chunks of {chunk} elements leave a rest");
    let shared = SharedOutput::new(output);
    run_numbered(threads, tasks, |i| {
        // SAFETY: every task number is handed out once, and chunks do not overlap.
        task(i, unsafe { shared.slice_mut(i * chunk, chunk) });
    });
}

/// Runs `task(i)` for every `i` in `0..tasks`, at most `threads` at a time, without state of its own.
pub fn run_numbered(threads: usize, tasks: usize, task: impl Fn(usize) + Sync) {
    const MOST: usize = Target::MOST_THREADS;
    run(&mut [(); MOST][..threads.clamp(1, MOST)], tasks, |(), i| task(i));
}

/// An output that several tasks write at disjoint, interleaved places, where no slice per task exists.
///
/// Carries the length, so that every access can be checked in debug builds.
#[derive(Debug, Clone, Copy)]
pub struct SharedOutput<'a, T> {
    data: *mut T,
    len: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: the pointer comes from a `&mut [T]` that is borrowed for 'a; all access goes through `slice_mut`, whose
// contract makes concurrent accesses disjoint.
unsafe impl<T: Element> Send for SharedOutput<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Element> Sync for SharedOutput<'_, T> {}

impl<'a, T: Element> SharedOutput<'a, T> {
    /// Borrows the whole output.
    pub fn new(data: &'a mut [T]) -> Self {
        Self { data: data.as_mut_ptr(), len: data.len(), borrow: PhantomData }
    }

    /// Elements of the whole output.
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The elements `start..start + len`. Panics when they are not inside.
    ///
    /// # Safety
    /// While the returned slice lives, nobody else reads or writes these elements.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice_mut(&self, start: usize, len: usize) -> &'a mut [T] {
        assert!(start <= self.len && len <= self.len - start, "output range {start}+{len} of {}", self.len);
        // SAFETY: in bounds by the assertion, exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(start), len) }
    }

    /// A pointer to element `start`, of which `len` elements lie inside. Panics otherwise.
    ///
    /// # Safety
    /// Whoever uses the pointer accesses only elements that nobody else accesses meanwhile.
    #[inline(always)]
    pub unsafe fn slice_ptr(&self, start: usize, len: usize) -> *mut T {
        assert!(start <= self.len && len <= self.len - start, "output range {start}+{len} of {}", self.len);
        // SAFETY: in bounds by the assertion.
        unsafe { self.data.add(start) }
    }

    /// Where element `at` lies, or would: only for hints.
    #[inline(always)]
    pub fn address(&self, at: usize) -> *const T {
        self.data.wrapping_add(at)
    }

    /// Asks for the cache lines of every `step`-th element of a range, to write them soon; only a hint, and none
    /// outside.
    #[inline(always)]
    pub fn prefetch(&self, range: Range<usize>, step: usize) {
        for at in (range.start..range.end.min(self.len)).step_by(step) {
            prefetch::write(self.data.wrapping_add(at));
        }
    }
}
