//! What a caller may hand the planner: every public field at its edge, a typed error or the right answer.

use tconv::{
    Activation, AutoPad, Bytes64, Dtype, Element, Epilogue, Error, Geometry, Isa, Layout, Limits, Planner,
    Problem, Registry, Spec, Target, WeightFacts, Weights,
};

fn layer() -> Problem {
    let spec = Spec::new(&[2, 3, 5, 6], &[3, 4, 3, 3]).stride(2).padding(1);
    spec.check(Limits::default()).unwrap()
}

/// Integers from -3 to 3.
fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 37 % 7) as f32 - 3.0).collect()
}

fn run(planner: &Planner, problem: &Problem) -> (Vec<f32>, usize) {
    let w = values(problem.in_channels() * problem.group_out() * 9);
    let plan = planner.plan::<f32>(problem, Weights::new(&w), Epilogue::NONE).unwrap();
    let mut output = vec![f32::NAN; plan.geometry().output_len()];
    plan.execute(&values(plan.geometry().input_len()), &mut output).unwrap();
    (output, plan.scratch().bytes)
}

#[test]
fn any_number_of_threads_has_an_answer() {
    let problem = layer();
    for kernel in Registry::builtin().iter() {
        for isa in Isa::available() {
            let with = |threads| Planner::new().on(Target { isa, threads }).only(kernel.name(), None);
            let one = with(1);
            let verdict = one.explain(&problem, Dtype::F32, Epilogue::NONE, None).unwrap();
            if verdict[0].answer.is_err() {
                continue;
            }
            let (expected, scratch) = run(&one, &problem);
            for threads in [0, 7, 1_000_000, usize::MAX] {
                let (output, bytes) = run(&with(threads), &problem);
                assert_eq!(output, expected, "{} {isa:?} {threads} threads", kernel.name());
                // Two images of 11 × 9 outputs in 4 channels cannot occupy a thousand workers.
                assert!(bytes <= 200 * scratch.max(64), "{} {threads} threads: {bytes} bytes", kernel.name());
            }
        }
    }
}

#[test]
fn activations_without_meaning_are_refused() {
    let problem = layer();
    let w = values(3 * 4 * 9);
    let nan = f64::NAN;
    for activation in [
        Activation::Clamp { low: 1.0, high: 0.5 },
        Activation::Clamp { low: nan, high: 0.5 },
        Activation::Clamp { low: 0.0, high: nan },
        Activation::LeakyRelu { slope: nan },
    ] {
        let epilogue = Epilogue::NONE.with(activation);
        let planned = Planner::new().plan::<f32>(&problem, Weights::new(&w), epilogue);
        assert!(matches!(planned, Err(Error::Activation { .. })), "{activation:?}: {planned:?}");
        let explained = Planner::new().explain(&problem, Dtype::F32, epilogue, None);
        assert!(matches!(explained, Err(Error::Activation { .. })), "{activation:?}");
    }
    for activation in [
        Activation::Clamp { low: 2.0, high: 2.0 },
        Activation::Clamp { low: f64::NEG_INFINITY, high: f64::INFINITY },
        Activation::LeakyRelu { slope: -1.0 },
    ] {
        Planner::new().plan::<f32>(&problem, Weights::new(&w), Epilogue::NONE.with(activation)).unwrap();
    }
}

#[test]
fn weights_bias_and_buffers_are_checked() {
    let problem = layer();
    let (w, b) = (values(108), values(4));
    let weights = Weights::new(&w);
    let planner = Planner::new();
    let len = |which, got, expected| Error::BufferLenMismatch { which, got, expected };
    let refused = |weights, epilogue| planner.plan::<f32>(&problem, weights, epilogue).unwrap_err();
    assert_eq!(refused(Weights::new(&w[1..]), Epilogue::NONE), len("weights", 107, 108));
    assert_eq!(refused(weights, Epilogue::BIAS), len("bias", 0, 4));
    assert_eq!(refused(weights.with_bias(&b), Epilogue::NONE), len("bias", 4, 0));
    assert_eq!(refused(weights.with_bias(&b[..3]), Epilogue::BIAS), len("bias", 3, 4));
    let wide = vec![0.0f64; 108];
    let mixed = refused(weights.with_bias(&[0.0f64; 4]), Epilogue::BIAS);
    for error in [refused(Weights::new(&wide), Epilogue::NONE), mixed] {
        assert!(matches!(error, Error::DtypeMismatch { .. }), "{error}");
    }

    let explained =
        |weights| planner.explain(&problem, Dtype::F32, Epilogue::NONE, Some(weights)).unwrap_err();
    assert_eq!(explained(f32::tensor(&w[1..])), len("weights", 107, 108));
    assert_eq!(explained(f32::tensor(&[])), len("weights", 0, 108));
    assert!(matches!(explained(f64::tensor(&wide)), Error::DtypeMismatch { .. }));
    let scanned = WeightFacts::scan(&Geometry::new(&problem).unwrap(), f32::tensor(&w[1..]));
    assert_eq!(scanned.unwrap_err(), len("weights", 107, 108));

    let mut plan = planner.plan::<f32>(&problem, weights.with_bias(&b), Epilogue::BIAS).unwrap();
    let (x, mut y) = (values(plan.geometry().input_len()), vec![0.0; plan.geometry().output_len()]);
    assert!(plan.execute(&x[1..], &mut y).is_err());
    assert!(plan.execute(&x, &mut y[1..]).is_err());
    let units = plan.scratch().units();
    if units > 0 {
        let mut scratch: Vec<Bytes64> = plan.scratch().allocate().unwrap();
        let short = plan.execute_with(&x, &mut y, &mut scratch[1..]).unwrap_err();
        assert_eq!(short, len("scratch", units - 1, units));
    }
    assert!(matches!(plan.repack(Weights::new(&w)), Err(Error::BufferLenMismatch { .. })));
    assert!(matches!(plan.repack(Weights::new(&wide)), Err(Error::DtypeMismatch { .. })));
    plan.execute(&x, &mut y).unwrap();
}

#[test]
fn one_plan_serves_many_threads() {
    let problem = layer();
    for kernel in Registry::builtin().iter() {
        let planner = Planner::new().only(kernel.name(), None);
        let Ok(plan) = planner.plan::<f32>(&problem, Weights::new(&values(108)), Epilogue::NONE) else {
            continue;
        };
        let x = values(plan.geometry().input_len());
        let execute = || {
            let mut y = vec![f32::NAN; plan.geometry().output_len()];
            plan.execute(&x, &mut y).unwrap();
            y
        };
        let expected = execute();
        std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(execute));
            for thread in threads {
                assert_eq!(thread.join().unwrap(), expected, "{}", kernel.name());
            }
        });
    }
}

#[test]
fn a_name_that_nobody_has() {
    let error = |planner: Planner| {
        planner.plan::<f32>(&layer(), Weights::new(&values(108)), Epilogue::NONE).unwrap_err().to_string()
    };
    let unknown = error(Planner::new().only("fft", None));
    assert!(unknown.contains("'fft'") && unknown.contains("polyphase"), "{unknown}");
    let variant = error(Planner::new().only("scatter", Some("avx9")));
    assert!(variant.contains("'avx9'"), "{variant}");
    assert!(Isa::by_name("sse5").unwrap_err().to_string().contains("'sse5'"));
}

/// The same layer at every rank, without images, and in both layouts.
#[test]
fn ranks_and_empty_batches() {
    for rank in 1..=3 {
        for batch in [0, 1] {
            for layout in Layout::ALL {
                let input = [&[batch, 2][..], &[4; 3][..rank]].concat();
                let weight = [&[2, 3][..], &[3; 3][..rank]].concat();
                let spec = Spec::new(&input, &weight).stride(2).layout(layout).auto_pad(AutoPad::Valid);
                let problem = spec.check(Limits::default()).unwrap();
                let w = values(6 * 3usize.pow(rank as u32));
                for kernel in Registry::builtin().iter() {
                    let planner = Planner::new().only(kernel.name(), None);
                    let Ok(plan) = planner.plan::<f32>(&problem, Weights::new(&w), Epilogue::NONE) else {
                        continue;
                    };
                    assert_eq!(plan.geometry().output_len(), batch as usize * 3 * 9usize.pow(rank as u32));
                    let mut y = vec![f32::NAN; plan.geometry().output_len()];
                    plan.execute(&values(plan.geometry().input_len()), &mut y).unwrap();
                    assert!(y.iter().all(|v| v.is_finite()), "{} {rank}-D", kernel.name());
                }
            }
        }
    }
}
