//! Indices beyond 2³¹ elements, where 32-bit arithmetic would wrap: memory that is large by address only.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

use tconv::{Epilogue, Error, Layout, Limits, Planner, Registry, Spec, Target, Weights};

const FAR: usize = 1 << 31;

/// Anonymous memory, of which only the touched pages exist.
struct Sparse {
    start: *mut f32,
    len: usize,
}

impl Sparse {
    /// Zeros. With `fold`, all of it shows the same pages, `fold` bytes again and again, so that it may be written.
    fn new(len: usize, fold: Option<usize>) -> Self {
        let bytes = len * size_of::<f32>();
        let shared = fold.map(|_| {
            // SAFETY: a name without interior zero; the result is checked.
            let file = unsafe { libc::memfd_create(c"tconv".as_ptr(), 0) };
            assert!(file >= 0, "memfd_create");
            file
        });
        // SAFETY: a new mapping at an address of the system's choice.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        assert!(start != libc::MAP_FAILED, "{bytes} bytes of addresses");
        if let (Some(fold), Some(file)) = (fold, shared) {
            // SAFETY: a file of our own.
            assert_eq!(unsafe { libc::ftruncate(file, fold as libc::off_t) }, 0);
            for at in (0..bytes).step_by(fold) {
                // SAFETY: replaces a part of the mapping made above by pages of the file, which is `fold` bytes long.
                let part = unsafe {
                    libc::mmap(
                        start.byte_add(at),
                        fold.min(bytes - at),
                        libc::PROT_READ | libc::PROT_WRITE,
                        libc::MAP_SHARED | libc::MAP_FIXED,
                        file,
                        0,
                    )
                };
                assert!(part != libc::MAP_FAILED, "folding");
            }
            // SAFETY: the mappings keep the file.
            unsafe { libc::close(file) };
        }
        Self { start: start.cast(), len }
    }

    fn slice(&mut self) -> &mut [f32] {
        // SAFETY: mapped, zeroed, of this length, and borrowed from `self` alone. Where it is folded, reads and writes of
        // one element show in others; f32 has no invalid values, and the test looks only at what was written last.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

impl Drop for Sparse {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`, not used after this.
        unsafe { libc::munmap(self.start.cast(), self.len * size_of::<f32>()) };
    }
}

fn planner(kernel: &str) -> Planner {
    Planner::new().on(Target::detect().expect("a target").with_threads(1)).only(kernel, None)
}

/// All but the last outputs are cropped, so that only the end of the input counts.
#[test]
fn the_end_of_a_large_input_is_read() {
    let input = FAR + 24;
    let mut memory = Sparse::new(input, None);
    let x = memory.slice();
    for (i, x) in x[FAR..].iter_mut().enumerate() {
        *x = 1.0 + i as f32;
    }
    let w = [2f32, 3.0];
    let spec = Spec::new(&[1, 1, input as i64], &[1, 1, 2]).pads(&[FAR as i64 + 1, 0]);
    let problem = spec.check(Limits::NONE).expect("legal");
    let mut ran = 0;
    for kernel in Registry::builtin().iter() {
        // Those with matrices or an upsampled input decline for memory; scatter walks over all of it.
        let Ok(plan) = planner(kernel.name()).plan::<f32>(&problem, Weights::new(&w), Epilogue::NONE) else {
            continue;
        };
        let mut y = [f32::NAN; 24];
        plan.execute(x, &mut y).expect("lengths");
        // y[o] = 2·x[FAR + 1 + o] + 3·x[FAR + o]
        for (o, &y) in y.iter().enumerate() {
            let next = if o + 1 < 24 { 2.0 * (2.0 + o as f32) } else { 0.0 };
            assert_eq!(y, next + 3.0 * (1.0 + o as f32), "{} at {o}", kernel.name());
        }
        ran += 1;
    }
    assert!(ran >= 2, "{ran} kernels: at least scatter and polyphase decline nothing");
}

/// The output is folded: its end is written last, and looked at.
#[test]
fn the_end_of_a_large_output_is_written() {
    // No divisor of 2³¹ elements: a wrapped index would show elsewhere.
    const FOLD: usize = 3 << 20;
    // Sixteen channels fill the lanes: less time for as many outputs.
    const CHANNELS: usize = 16;
    let input = FAR / 64 + 2;
    let output = CHANNELS * 4 * input;
    let mut memory = (Sparse::new(input, None), Sparse::new(output, Some(FOLD)));
    let (x, y) = (memory.0.slice(), memory.1.slice());
    x[input - 2..].copy_from_slice(&[1.0, 2.0]);
    let w: Vec<f32> = (1..=CHANNELS).flat_map(|c| [2.0, 3.0, 5.0, 7.0].map(|w: f32| w * c as f32)).collect();
    let spec = Spec::new(&[1, 1, input as i64], &[1, CHANNELS as i64, 4]).stride(4);
    for layout in Layout::ALL {
        let problem = spec.clone().layout(layout).check(Limits::NONE).expect("legal");
        // Of the last input, 2, in the order of the memory.
        let last = |channel: usize, tap: usize| 2.0 * ([2.0, 3.0, 5.0, 7.0][tap] * channel as f32);
        let expected: Vec<f32> = match layout {
            Layout::Nchw => (0..4).map(|tap| last(CHANNELS, tap)).collect(),
            Layout::Nhwc => (1..=CHANNELS).map(|channel| last(channel, 3)).collect(),
        };
        let mut ran = 0;
        for kernel in ["polyphase", "depth-to-space", "phase-merged", "pixel-lanes"] {
            let planned = planner(kernel).plan::<f32>(&problem, Weights::new(&w), Epilogue::NONE);
            let plan = match planned {
                Ok(plan) => plan,
                Err(Error::NoKernel { .. }) => continue,
                Err(error) => panic!("{error}"),
            };
            y[output - 64..].fill(f32::NAN);
            plan.execute(x, y).expect("lengths");
            assert_eq!(y[output - expected.len()..], expected, "{kernel} {layout:?}");
            // 2³¹ elements before the end only zeros belong.
            assert_eq!(y[output - FAR - 8..][..8], [0.0; 8], "{kernel} {layout:?}");
            ran += 1;
        }
        assert!(ran >= 2, "{ran} kernels in {layout:?}");
    }
}
