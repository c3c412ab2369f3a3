//! A kernel that lives outside the library: planned like the built-in ones, verified and compared with them.
//!
//! Without arguments it computes the example of d2l 14.10 with its own kernel; with arguments it is the program `tconv`
//! with one kernel more (`cargo run -- verify -k gather`, `cargo run -- rank -k 'gather|scatter'`).

mod gather;

use std::process::ExitCode;

use gather::Gather;
use tconv::{Axis, Epilogue, Error, Layout, Planner, Problem, Registry, Weights};

fn main() -> ExitCode {
    let registry = Registry::builtin().with(&Gather);
    if std::env::args().len() > 1 {
        return tconv_bench::main_with(registry);
    }
    match stride_two(registry) {
        Ok(output) => {
            output.chunks(4).for_each(|row| println!("{row:?}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// X = K = [[0, 1], [2, 3]], stride 2: every input element writes one 2 × 2 block of the 4 × 4 output.
fn stride_two(registry: Registry) -> Result<Vec<f32>, Error> {
    let problem = Problem::new(1, 1, 1, 1, &[Axis::new(2, 2, 2); 2], Layout::Nchw)?;
    let x = [0.0f32, 1.0, 2.0, 3.0];
    let planner = Planner::new().with_registry(registry).only("gather", None);
    let plan = planner.plan::<f32>(&problem, Weights::new(&x), Epilogue::NONE)?;
    let mut output = vec![0.0; plan.geometry().output_len()];
    plan.execute(&x, &mut output)?;
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_planner_takes_a_kernel_from_outside() {
        let output = stride_two(Registry::builtin().with(&Gather)).unwrap();
        assert_eq!(output, [0., 0., 0., 1., 0., 0., 2., 3., 0., 2., 0., 3., 4., 6., 6., 9.]);
    }

    #[test]
    fn without_it_the_name_is_unknown() {
        assert!(matches!(stride_two(Registry::builtin()), Err(Error::UnknownKernel { .. })));
    }
}
