//! `cargo bench --bench look_up`: what a planner pays for asking a database of choices, once it is loaded.

use std::hint::black_box;

use criterion::Criterion;
use tconv::planning::choice::shipped;
use tconv::{Accuracy, Dtype, Epilogue, Geometry, Planner, Request, Target};
use tconv_bench::workloads;

fn main() {
    let mut criterion = Criterion::default().without_plots().configure_from_args();
    let target = Target::detect().unwrap_or_else(|e| panic!("{e}")).with_threads(1);
    let choices = shipped(target.isa);
    println!("shipped choices of this machine: {}", choices.report());
    let unet = workloads::zoo().into_iter().find(|w| w.name == "unet_up1").expect("in the zoo");
    let geometry = Geometry::new(&unet.problem).expect("a layer of the zoo");
    let request = Request {
        geometry: &geometry,
        dtype: Dtype::F32,
        epilogue: Epilogue::NONE,
        accuracy: Accuracy::Standard,
        target,
        weights: None,
    };
    criterion.bench_function("look up a measured layer", |b| b.iter(|| choices.look_up(black_box(&request))));
    let planner = Planner::new().on(target);
    for (name, planner) in
        [("explain with choices", planner.clone()), ("explain without", planner.shipped(false))]
    {
        criterion.bench_function(name, |b| {
            b.iter(|| planner.explain(black_box(&unet.problem), Dtype::F32, Epilogue::NONE, None))
        });
    }
    criterion.final_summary();
}
