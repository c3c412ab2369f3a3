//! Kernels that are wrong in the ways that happen: verification must see each, and tell how to see it again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tconv::algorithms::scatter::Scatter;
use tconv::{
    Bytes64, Cost, Declined, Dtype, Guarantees, Isa, Kernel, Layout, Prepared, Refusal, Registry, Request,
    Revisions, Scratch, Tensor, TensorMut, Variant, Weights,
};
use tconv_bench::data::Numbers;
use tconv_bench::verify::{Case, Options, Report, verify};
use tconv_bench::workloads;

/// What goes wrong in a run of an otherwise right kernel.
#[derive(Debug, Clone, Copy)]
enum Fault {
    None,
    /// One output is slightly off.
    Off,
    /// One output is never written.
    Unwritten,
    /// What stood in the output is used.
    ReadsOutput,
    /// The last bits depend on the number of threads.
    Threads,
    /// Every second run of a plan differs.
    Unsteady,
    Panics,
    /// Takes new weights without looking at them.
    IgnoresRepack,
}

struct Faulty(Fault);

impl Kernel for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }
    fn summary(&self) -> &'static str {
        "wrong on purpose"
    }
    fn revisions(&self) -> Revisions {
        Scatter.revisions()
    }
    fn guarantees(&self) -> Guarantees {
        Scatter.guarantees()
    }
    fn supports(&self, request: &Request<'_>) -> Result<(), Declined> {
        if request.dtype == Dtype::F64 { Err(Declined::because("only f32")) } else { Ok(()) }
    }
    fn variants(&self, request: &Request<'_>) -> Vec<Variant> {
        Scatter.variants(request)
    }
    fn cost(&self, request: &Request<'_>, variant: &Variant) -> Cost {
        Scatter.cost(request, variant)
    }
    fn prepare(
        &self,
        request: &Request<'_>,
        variant: &Variant,
        weights: Weights<'_>,
    ) -> Result<Box<dyn Prepared>, Refusal> {
        let inner = Scatter.prepare(request, variant, weights)?;
        Ok(Box::new(FaultyPlan {
            fault: self.0,
            threads: request.target.threads,
            inner,
            runs: Arc::default(),
        }))
    }
}

#[derive(Debug)]
struct FaultyPlan {
    fault: Fault,
    threads: usize,
    inner: Box<dyn Prepared>,
    runs: Arc<AtomicUsize>,
}

impl Prepared for FaultyPlan {
    fn scratch(&self) -> Scratch {
        self.inner.scratch()
    }
    fn run(&self, input: Tensor<'_>, output: TensorMut<'_>, scratch: &mut [Bytes64]) {
        let TensorMut::F32(output) = output else { unreachable!("only f32 is supported") };
        let last = output.len() - 1;
        let before = output[last];
        self.inner.run(input, TensorMut::F32(output), scratch);
        let runs = self.runs.fetch_add(1, Ordering::Relaxed);
        let y = &mut output[last];
        match self.fault {
            Fault::Off => *y += 0.5,
            Fault::Unwritten => *y = before,
            Fault::ReadsOutput if before.is_finite() => *y = y.next_up(),
            Fault::Threads if self.threads > 1 => *y = y.next_up(),
            Fault::Unsteady if runs % 2 == 1 => *y = y.next_up(),
            Fault::Panics => panic!("on purpose"),
            _ => {}
        }
    }
    fn repack(&mut self, weights: Weights<'_>) -> Result<(), Refusal> {
        match self.fault {
            Fault::IgnoresRepack => {
                // Takes the first new weights and stays with them.
                if self.runs.swap(usize::MAX / 2, Ordering::Relaxed) < usize::MAX / 2 {
                    self.inner.repack(weights)?;
                }
                Ok(())
            }
            _ => self.inner.repack(weights),
        }
    }
}

fn report(fault: Fault, numbers: Numbers) -> Report {
    let kernel: &'static dyn Kernel = Box::leak(Box::new(Faulty(fault)));
    let registry = Registry::builtin().with(kernel);
    let options = Options {
        registry,
        isas: vec![Isa::PORTABLE],
        layouts: Layout::ALL.to_vec(),
        dtypes: vec![Dtype::F32, Dtype::F64],
        threads: vec![1, 2],
        accuracy: Default::default(),
        all_variants: false,
        work_limit: u128::MAX,
    };
    let workload = workloads::select(workloads::zoo(), Some("^d2l_multi$")).expect("in the zoo").remove(0);
    let case = Case::drawn(&workload, numbers, 3).expect("legal");
    verify(vec![case], &[kernel], &options, |_| Ok(())).expect("nothing is written")
}

#[test]
fn the_right_kernel_passes_and_declines_are_counted() {
    for numbers in [Numbers::Integer, Numbers::Real] {
        let report = report(Fault::None, numbers);
        let tally = report.iter().next().expect("one kernel on one set");
        assert_eq!((tally.passed, tally.failed, tally.declined), (2, 0, 2));
        assert_eq!(report.declined[0].example, "only f32");
    }
}

#[test]
fn every_fault_is_found_with_its_reason() {
    for (fault, reason) in [
        (Fault::Off, "1 of"),
        (Fault::Unwritten, "never written"),
        (Fault::ReadsOutput, "second run"),
        (Fault::Threads, "on 2 threads"),
        (Fault::Unsteady, "second run"),
        (Fault::Panics, "panicked: on purpose"),
        (Fault::IgnoresRepack, "after other weights"),
    ] {
        for numbers in [Numbers::Integer, Numbers::Real] {
            let report = report(fault, numbers);
            assert_eq!(report.failures.len(), 2, "{fault:?}: one for each layout");
            for failed in &report.failures {
                assert!(failed.problem.contains(reason), "{fault:?}: {}", failed.problem);
            }
        }
    }
}

#[test]
fn a_failure_names_the_command_that_repeats_it() {
    let report = report(Fault::Off, Numbers::Integer);
    let commands: Vec<&str> = report.failures.iter().map(|f| f.reproduce.as_str()).collect();
    let expected = |layout: &str| {
        format!(
            "tconv verify -w 'f32:{layout}:1x20x6x6:o10:k5x5:s3x3:p2x2' --seed 3 -k '^faulty$' --isa portable --threads 1,2"
        )
    };
    assert_eq!(commands, [expected("nchw"), expected("nhwc")]);
    // The descriptor states the very case.
    let text = "f32:nhwc:1x20x6x6:o10:k5x5:s3x3:p2x2";
    let stated = workloads::select(Vec::new(), Some(text)).expect("a descriptor").remove(0);
    assert_eq!(
        Case::drawn(&stated, Numbers::Integer, 3).expect("legal").name(Dtype::F32, Layout::Nhwc),
        text
    );
}
