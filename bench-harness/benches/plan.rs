//! `cargo bench --bench plan`: what making the first plan of a layer costs, beside copying its weights into fresh memory. `cargo bench --bench plan -- unet`:
//! layers of this name alone.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use criterion::Criterion;
use tconv::{Epilogue, Geometry, Planner, Target, Weights};
use tconv_bench::data;
use tconv_bench::workloads;

fn main() {
    // Else the allocator would keep large memory that is freed, and no copy but the first would go into fresh memory.
    #[cfg(target_env = "gnu")]
    // SAFETY: it changes a setting of the allocator, before other threads run.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10);
    }
    let mut criterion = Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
        .sample_size(10)
        .configure_from_args();
    let target = Target::detect().unwrap_or_else(|e| panic!("{e}")).with_threads(1);
    let planner = Planner::new().on(target);
    for workload in workloads::zoo() {
        let geometry = Geometry::new(&workload.problem).expect("a layer of the zoo");
        let weights: Vec<f32> = data::reals(1, geometry.weight_len());
        let mut group = criterion.benchmark_group(&workload.name);
        let plan = || {
            let weights = Weights::new(black_box(&weights));
            planner.plan::<f32>(&workload.problem, weights, Epilogue::NONE).expect("every layer has a kernel")
        };
        group.bench_function("plan", |b| b.iter_custom(|times| on_new_threads(times, plan)));
        group.bench_function("copy", |b| {
            b.iter_custom(|times| on_new_threads(times, || black_box(&weights).clone()))
        });
        group.finish();
    }
    criterion.final_summary();
}

/// The time of `work`, each time on a thread of its own: planners remember what their last requests took a search for.
fn on_new_threads<T>(times: u64, work: impl Fn() -> T + Sync) -> Duration {
    let once = || {
        let start = Instant::now();
        let result = work();
        let took = start.elapsed();
        drop(black_box(result));
        took
    };
    (0..times).map(|_| thread::scope(|scope| scope.spawn(once).join().expect("no panic"))).sum()
}
