//! No allocation that fails may crash: every one of at least 4 KiB is refused in turn, while a layer is checked, planned
//! and run with each kernel. (Smaller ones are names, lists of candidates and the like.) One test, since the allocator is
//! that of the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};

use tconv::{Accuracy, Epilogue, Error, Limits, Planner, Registry, Spec, Target, Weights};

const LARGE: usize = 4096;

/// Large allocations still to be granted before one is refused; negative: none will be.
static GRANTED: AtomicIsize = AtomicIsize::new(-1);

struct Refusing;

fn refuses(bytes: usize) -> bool {
    bytes >= LARGE
        && GRANTED.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| (n >= 0).then_some(n - 1)) == Ok(0)
}

// SAFETY: every call is passed on unchanged to the system's allocator, or answered with null, which means "refused".
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that `System` asks for.
        if refuses(layout.size()) { std::ptr::null_mut() } else { unsafe { System.alloc(layout) } }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        if refuses(layout.size()) { std::ptr::null_mut() } else { unsafe { System.alloc_zeroed(layout) } }
    }
    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above; `old` came from `System`, through this allocator.
        if refuses(size) { std::ptr::null_mut() } else { unsafe { System.realloc(old, layout, size) } }
    }
    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

/// Runs `work` with the `n`-th large allocation refused (from 0); tells also whether there was an `n`-th.
fn refusing<T>(n: isize, work: impl FnOnce() -> T) -> (T, bool) {
    GRANTED.store(n, Ordering::SeqCst);
    let result = work();
    (result, GRANTED.swap(-1, Ordering::SeqCst) < 0)
}

#[test]
fn every_large_allocation_may_fail() {
    // Packed weights, column matrices and the like; and many phases (one axis of stride 97).
    let layers = [
        Spec::new(&[2, 24, 9, 11], &[24, 20, 4, 4]).stride(2).padding(1),
        Spec::new(&[1, 24, 37], &[24, 20, 200]).stride(97),
        // Four taps in a phase: spectra.
        Spec::new(&[1, 24, 37], &[24, 20, 64]).stride(16),
    ];
    let mut refused = 0;
    for spec in &layers {
        let problem = spec.check(Limits::default()).expect("legal");
        let geometry = tconv::Geometry::new(&problem).expect("small");
        let x = vec![1f32; geometry.input_len()];
        let w = vec![1f32; geometry.weight_len()];
        let mut y = vec![0f32; geometry.output_len()];
        for kernel in Registry::builtin().iter() {
            for threads in [1, 2] {
                let target = Target::detect().expect("a target").with_threads(threads);
                let planner =
                    Planner::new().accuracy(Accuracy::Normwise).on(target).only(kernel.name(), None);
                let plan =
                    || planner.plan::<f32>(&spec.check(Limits::default())?, Weights::new(&w), Epilogue::NONE);
                // Without a refusal first: a kernel may decline, and the pool of threads starts.
                let Ok(whole) = plan() else { continue };
                whole.execute(&x, &mut y).expect("memory");
                let expected = y.clone();

                for n in 0.. {
                    // On a thread of its own, which remembers no search.
                    let (result, reached) = refusing(n, || {
                        std::thread::scope(|scope| scope.spawn(plan).join().expect("no panic"))
                    });
                    if !reached {
                        assert!(result.is_ok(), "{result:?}");
                        break;
                    }
                    refused += 1;
                    let error = result.expect_err("memory was refused");
                    let known = matches!(error, Error::OutOfMemory { .. } | Error::NoKernel { .. });
                    assert!(known, "{}: {error}", kernel.name());
                }
                // A library inside that allocates in every run aborts; its kernel says so.
                if kernel.guarantees().allocates_in_run {
                    continue;
                }
                for n in 0.. {
                    let (result, reached) = refusing(n, || whole.execute(&x, &mut y));
                    if !reached {
                        assert_eq!(result, Ok(()));
                        break;
                    }
                    refused += 1;
                    let error = result.expect_err("memory was refused");
                    assert!(matches!(error, Error::OutOfMemory { .. }), "{}: {error}", kernel.name());
                }
                // The plan is unharmed.
                y.fill(f32::NAN);
                whole.execute(&x, &mut y).expect("memory");
                assert!(y == expected, "{}", kernel.name());
            }
        }
    }
    assert!(refused > 0, "nothing was refused: the test tests nothing");
}
