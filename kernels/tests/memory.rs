//! Memory of the SIMD kernels on large real layers: `execute` allocates the scratch that the plan states and nothing else,
//! and that scratch is small: of a large layer no copy of the input, no column matrix and no copy of the output ever exists. One test,
//! since the allocator is that of the whole process.

use std::alloc::{GlobalAlloc, Layout as Block, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use tconv::{Epilogue, Error, Layout, Limits, Planner, Registry, Spec, Target, Weights};

/// Kernels that need memory by their nature: matrices of columns, of W, the upsampled input, and spectra.
const BY_DESIGN: [&str; 4] = ["gemm-col2im", "zero-insert", "sparse-csr", "fft-overlap-save"];
/// Bytes for each thread.
const MOST_SCRATCH: usize = 2 << 20;
/// Bytes of input, weights and output.
const LARGE: usize = 16 << 20;

/// Bytes that others may allocate meanwhile: the pool of threads, and the test runner when it reports a long test.
const OTHERS: usize = 4096;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

fn more(bytes: usize) {
    let now = NOW.fetch_add(bytes, Ordering::SeqCst) + bytes;
    PEAK.fetch_max(now, Ordering::SeqCst);
}

// SAFETY: every call is passed on unchanged to the system's allocator; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Block) -> *mut u8 {
        more(layout.size());
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Block) -> *mut u8 {
        more(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, old: *mut u8, layout: Block, size: usize) -> *mut u8 {
        more(size);
        NOW.fetch_sub(layout.size(), Ordering::SeqCst);
        // SAFETY: as above; `old` came from `System`, through this allocator.
        unsafe { System.realloc(old, layout, size) }
    }
    unsafe fn dealloc(&self, old: *mut u8, layout: Block) {
        NOW.fetch_sub(layout.size(), Ordering::SeqCst);
        // SAFETY: as above.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that `work` held beside those held before.
fn growth(work: impl FnOnce()) -> usize {
    let before = NOW.load(Ordering::SeqCst);
    PEAK.store(before, Ordering::SeqCst);
    work();
    PEAK.load(Ordering::SeqCst) - before
}

/// Sizes of the last upsampling of U-Net, FCN-8s and a 3-D U-Net, of a style layer, a vocoder's, a depthwise and an RGB one,
/// with fewer channels where a narrow instruction set would take minutes.
fn layers() -> Vec<Spec> {
    vec![
        Spec::new(&[1, 8, 340, 340], &[8, 8, 2, 2]).stride(2),
        Spec::new(&[1, 4, 60, 80], &[4, 4, 16, 16]).stride(8).padding(4),
        Spec::new(&[1, 8, 32, 32, 32], &[8, 16, 2, 2, 2]).stride(2),
        Spec::new(&[1, 8, 128, 128], &[8, 16, 3, 3]).stride(2),
        Spec::new(&[1, 32, 4096], &[32, 32, 4]).stride(2).padding(1),
        Spec::new(&[1, 64, 128, 128], &[64, 1, 4, 4]).stride(2).padding(1).groups(64),
        Spec::new(&[1, 6, 256, 256], &[6, 3, 4, 4]).stride(2).padding(1),
        Spec::new(&[1, 256, 4, 4], &[256, 256, 4, 4]).stride(2).padding(1),
    ]
}

#[test]
fn scratch_is_small_and_as_stated() {
    let mut planned = 0;
    for spec in layers() {
        for layout in [Layout::Nchw, Layout::Nhwc] {
            let problem = spec.clone().layout(layout).check(Limits::default()).expect("legal");
            let geometry = tconv::Geometry::new(&problem).expect("small");
            let x = vec![1f32; geometry.input_len()];
            let w = vec![1f32; geometry.weight_len()];
            let mut y = vec![0f32; geometry.output_len()];
            let buffers = 4 * (x.len() + w.len() + y.len());
            for kernel in Registry::builtin().iter().filter(|k| !BY_DESIGN.contains(&k.name())) {
                // Its time is that of no real use, and it has no scratch.
                if kernel.name() == "scatter" {
                    continue;
                }
                for threads in [1, 2] {
                    let target = Target::detect().expect("a target").with_threads(threads);
                    let planner = Planner::new().on(target).only(kernel.name(), None);
                    let before = NOW.load(Ordering::SeqCst);
                    let plan = match planner.plan::<f32>(&problem, Weights::new(&w), Epilogue::NONE) {
                        Ok(plan) => plan,
                        Err(Error::NoKernel { .. }) => continue,
                        Err(error) => panic!("{error}"),
                    };
                    let packed = NOW.load(Ordering::SeqCst) - before;
                    planned += 1;
                    let what = format!("{} {threads} threads {layout:?} {spec:?}", kernel.name());
                    let stated = plan.scratch().bytes;
                    assert!(stated <= threads * MOST_SCRATCH, "{what}: scratch of {stated} bytes");

                    plan.execute(&x, &mut y).expect("memory"); // the pool of threads starts
                    let added = growth(|| plan.execute(&x, &mut y).expect("memory"));
                    assert!(added <= stated + OTHERS, "{what}: {added} bytes allocated, {stated} stated");
                    // Of small layers even a few rows are a tenth.
                    assert!(
                        buffers < LARGE || 10 * (added + packed + buffers) <= 11 * (packed + buffers),
                        "{what}: {added} bytes of scratch beside {packed} packed and {buffers} given"
                    );

                    let mut scratch = plan.scratch().allocate().expect("memory");
                    let added = growth(|| plan.execute_with(&x, &mut y, &mut scratch).expect("lengths"));
                    assert!(added <= OTHERS, "{what}: {added} bytes allocated");
                }
            }
        }
    }
    assert!(planned > 40, "{planned} plans: the test tests little");
}
