//! What the example programs share: a layer in one call, and matrices that a person can read.

use tconv::{Dtype, Epilogue, Error, Geometry, Limits, Planner, Spec, Weights};

/// The transposed convolution of `input` with `weights`, without bias, by the kernel that the planner chooses.
///
/// Input and output are `[N, C, H, W]`, weights `[Cin, Cout/groups, K, K]`; the geometry tells the output's shape.
pub fn trans_conv(spec: Spec, input: &[f64], weights: &[f64]) -> Result<(Geometry, Vec<f64>), Error> {
    let problem = spec.dtype(Dtype::F64).check(Limits::default())?;
    let plan = Planner::new().plan(&problem, Weights::new(weights), Epilogue::NONE)?;
    let mut output = vec![0.0; plan.geometry().output_len()];
    plan.execute(input, &mut output)?;
    Ok((plan.geometry().clone(), output))
}

/// Rows of `width` values under a title.
pub fn print_rows(title: &str, values: &[f64], width: usize) {
    println!("{title}");
    for row in values.chunks(width) {
        println!("   {}", row.iter().map(|v| format!("{v:>4}")).collect::<Vec<_>>().join(" "));
    }
}

/// `[N, C, H, W]` of the input.
pub fn input_shape(geometry: &Geometry) -> [usize; 4] {
    let ([_, height, width], p) = (geometry.input(), geometry.problem());
    [p.batch(), p.in_channels(), height, width]
}

/// `[N, C, H, W]` of the output.
pub fn output_shape(geometry: &Geometry) -> [usize; 4] {
    let ([_, height, width], p) = (geometry.output(), geometry.problem());
    [p.batch(), p.out_channels(), height, width]
}
