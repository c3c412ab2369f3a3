//! `cargo bench --bench plan`: what making a plan costs, beside copying its weights into fresh memory. `cargo bench --bench plan -- unet`:
//! layers of this name alone.

use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;
use tconv::{Epilogue, Geometry, Planner, Target, Weights};
use tconv_bench::data;
use tconv_bench::workloads;

fn main() {
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
        group.bench_function("plan", |b| {
            b.iter_with_large_drop(|| {
                planner.plan::<f32>(&workload.problem, Weights::new(black_box(&weights)), Epilogue::NONE)
            });
        });
        group.bench_function("copy", |b| b.iter_with_large_drop(|| black_box(&weights).clone()));
        group.finish();
    }
    criterion.final_summary();
}
