//! From a model file to a kernel for each of its transposed convolutions: the last layers of a text detector, read from ONNX,
//! planned with a database of choices, run on their own weights, and held against what ONNX Runtime computed.
//!
//!     cargo run --release -p tconv-examples --bin onnx_decoder [CHOICES]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tconv::problem::auto_pad::Convention;
use tconv::{Choices, Dtype, Element, Epilogue, Oracle, Planner, Weights};
use tconv_bench::import::Sizes;
use tconv_bench::import::onnx::Onnx;

fn main() -> Result<(), Box<dyn Error>> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    let model = Onnx::open(&data.join("ppocr-v4-det-head.onnx")).map_err(|failure| failure.0)?;
    let layers = model.layers(&Sizes::default(), Convention::Onnx).map_err(|failure| failure.0)?;

    // What `tconv tune --model ppocr-v4-det-head.onnx` measured. On another machine it is reported, and does not decide.
    let file = std::env::args().nth(1).map_or_else(|| data.join("choices.jsonl"), PathBuf::from);
    let choices = Arc::new(Choices::load(&file)?);
    println!("choices: {}", choices.report());
    let planner = Planner::new().choices(choices);

    for (i, layer) in layers.iter().enumerate() {
        let kernel = layer.weights().ok_or("the file holds no weights")?.map_err(|failure| failure.0)?;
        let bias = layer.bias().transpose().map_err(|failure| failure.0)?;
        let mut weights = Weights::new(&kernel);
        if let Some(bias) = &bias {
            weights = weights.with_bias(bias);
        }
        let epilogue = if layer.has_bias { Epilogue::BIAS } else { Epilogue::NONE };
        let plan = planner.plan::<f32>(&layer.problem, weights, epilogue)?;
        let choice = plan.choice();
        println!("{}: {} {}, {}", layer.name, plan.name(), plan.variant().name(), choice.by);

        let input = floats(&data.join(format!("{}.input.f32", i + 1)))?;
        let expected = floats(&data.join(format!("{}.output.f32", i + 1)))?;
        let mut output = vec![f32::NAN; plan.geometry().output_len()];
        plan.execute(&input, &mut output)?;

        // Both programs may sum in any order: each is within the bound of the exact value, so that they differ by two at most.
        assert_eq!(output.len(), expected.len());
        let (geometry, oracle) = (plan.geometry(), Oracle::new(plan.geometry(), weights, epilogue));
        let [depth, height, width] = geometry.output();
        let (mut worst, mut equal) = (0.0f64, 0);
        for n in 0..layer.problem.batch() {
            for channel in 0..layer.problem.out_channels() {
                for position in
                    (0..depth * height * width).map(|p| [p / (height * width), p / width % height, p % width])
                {
                    let at = geometry.output_at(n, channel, position);
                    let exact = oracle.at(f32::tensor(&input), n, channel, position);
                    let bound = exact.bound(epilogue, Dtype::F32.unit_roundoff());
                    let difference = f64::from((output[at] - expected[at]).abs());
                    assert!(difference <= 2.0 * bound, "element {at}: {} and {}", output[at], expected[at]);
                    worst = worst.max(difference / (2.0 * bound).max(f64::MIN_POSITIVE));
                    equal += usize::from(output[at] == expected[at]);
                }
            }
        }
        println!(
            "  {} outputs, {equal} of them equal to ONNX Runtime's, the others within {:.0} % of the bound",
            output.len(),
            (100.0 * worst).ceil()
        );
    }
    assert_eq!(layers.len(), 2);
    Ok(())
}

/// Little-endian numbers of a file.
fn floats(path: &Path) -> Result<Vec<f32>, Box<dyn Error>> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect())
}
