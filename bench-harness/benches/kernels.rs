//! `cargo bench`: every registered kernel on a few layers, in criterion's own statistics, with rates in GFLOP/s.
//!
//! For development on one kernel; kernels are compared with each other by `tconv rank`, which interleaves them.

use std::time::{Duration, Instant};

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkId, Criterion, Throughput};
use tconv::{Dtype, Geometry, Planner, Registry, Target, Weights};
use tconv_bench::measure::{Buffers, Contender, Crew, Expected, PlanContender};
use tconv_bench::workloads::{self, Workload};

/// One layer of each kind that kernels treat differently: few outputs, GAN, U-Net, large kernel, weight-bound, depthwise,
/// one axis, three axes.
const LAYERS: [&str; 8] =
    ["d2l_multi", "dcgan_rgb", "unet_up4", "fcn8s", "pose_up1", "dla_up_dw", "hifigan_up3", "voxgan3d"];
/// A kernel that predicts a longer run would need minutes for ten samples.
const LONGEST_RUN: Duration = Duration::from_millis(300);
const SEED: u64 = 1;

fn main() {
    let mut criterion = Criterion::default()
        .with_measurement(Gflops(WallTime))
        .without_plots()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let target = Target::detect().unwrap_or_else(|e| panic!("{e}")).with_threads(1);
    let zoo = workloads::zoo();
    for name in LAYERS {
        let workload = zoo.iter().find(|w| w.name == name).unwrap_or_else(|| panic!("{name} is in the zoo"));
        layer(&mut criterion, workload, target);
    }
    criterion.final_summary();
}

/// All kernels on one layer, each checked before it is timed.
fn layer(criterion: &mut Criterion<Gflops>, workload: &Workload, target: Target) {
    let (name, problem, epilogue) = (&workload.name, &workload.problem, workload.epilogue);
    let geometry = Geometry::new(problem).expect("a layer of the zoo");
    let buffers = Buffers::<f32>::new(&geometry, workload.structure, SEED).expect("memory");
    let expected = Expected::new(&geometry, &buffers, epilogue, None, SEED);
    let crew = Crew::new(1).unwrap_or_else(|e| panic!("{}", e.0));
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(geometry.conventional_flops() as u64));
    for kernel in Registry::builtin().iter() {
        let planner = Planner::new().on(target).only(kernel.name(), None);
        let weights = Weights::new(&buffers.weights);
        let verdicts =
            planner.explain(problem, Dtype::F32, epilogue, Some(weights.kernel)).expect("registered");
        match &verdicts[0].answer {
            Err(declined) => {
                println!("{name}/{}: declined: {declined}", kernel.name());
                continue;
            }
            Ok((_, cost)) if cost.nanoseconds > LONGEST_RUN.as_nanos() as f64 => {
                let seconds = cost.nanoseconds / 1e9;
                println!("{name}/{}: skipped: one run is predicted to take {seconds:.1} s", kernel.name());
                continue;
            }
            Ok(_) => {}
        }
        group.bench_function(BenchmarkId::from_parameter(kernel.name()), |bencher| {
            let plan = planner.plan::<f32>(problem, weights, epilogue).expect("supported");
            let mut contender = PlanContender::new(&plan, &buffers, &crew).expect("memory");
            buffers.poison();
            contender.run(1);
            let checked = expected.check(&buffers.output(), kernel.guarantees().exactness);
            checked.unwrap_or_else(|wrong| panic!("{name}/{}: {wrong}", kernel.name()));
            bencher.iter_custom(|runs| {
                let mut left = runs;
                let mut time = Duration::ZERO;
                while left > 0 {
                    let block = contender.run(u32::try_from(left).unwrap_or(u32::MAX));
                    time += block.wall;
                    left -= u64::from(block.runs);
                }
                time
            });
        });
    }
    group.finish();
}

/// Wall time whose throughput is printed as what it is.
struct Gflops(WallTime);

impl Measurement for Gflops {
    type Intermediate = Instant;
    type Value = Duration;

    fn start(&self) -> Instant {
        self.0.start()
    }
    fn end(&self, start: Instant) -> Duration {
        self.0.end(start)
    }
    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        self.0.add(a, b)
    }
    fn zero(&self) -> Duration {
        self.0.zero()
    }
    fn to_f64(&self, value: &Duration) -> f64 {
        self.0.to_f64(value)
    }
    fn formatter(&self) -> &dyn ValueFormatter {
        self
    }
}

impl ValueFormatter for Gflops {
    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        self.0.formatter().scale_values(typical, values)
    }

    /// FLOPs per nanosecond.
    fn scale_throughputs(&self, typical: f64, throughput: &Throughput, values: &mut [f64]) -> &'static str {
        let &Throughput::Elements(flops) = throughput else {
            return self.0.formatter().scale_throughputs(typical, throughput, values);
        };
        values.iter_mut().for_each(|ns| *ns = flops as f64 / *ns);
        "GFLOP/s"
    }

    fn scale_for_machines(&self, values: &mut [f64]) -> &'static str {
        self.0.formatter().scale_for_machines(values)
    }
}
