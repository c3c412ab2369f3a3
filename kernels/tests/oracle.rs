//! The proof of the oracle: the printed numbers of d2l 14.10, published literal cases, and exact adjointness with the
//! forward convolution. And of the reference functions: W as a matrix, the gradients.

mod common;

use std::path::Path;

use common::golden;
use common::random::{dot, integers, outputs, problems};
use fastrand::Rng;
use tconv::{
    Axis, Dtype, Element, Epilogue, Error, Exactness, Geometry, Layout, Oracle, Problem, Specials, Weights,
    convolution, gradient_bias, gradient_input, gradient_weights, weight_matrix,
};

/// The whole output by the oracle, in the problem's layout.
fn transposed(g: &Geometry, x: &[f64], w: &[f64], bias: Option<&[f64]>) -> Vec<f64> {
    let weights = Weights::new(w);
    let (weights, epilogue) = match bias {
        Some(b) => (weights.with_bias(b), Epilogue::BIAS),
        None => (weights, Epilogue::NONE),
    };
    let oracle = Oracle::new(g, weights, epilogue);
    let mut y = vec![f64::NAN; g.output_len()];
    for (n, c, at) in outputs(g) {
        y[g.output_at(n, c, at)] = oracle.at(f64::tensor(x), n, c, at).value;
    }
    y
}

fn square(input: usize, kernel: usize, stride: usize, padding: usize) -> Geometry {
    let axis = Axis { padding: (padding, padding), ..Axis::new(input, kernel, stride) };
    Geometry::new(&Problem::new(1, 1, 1, 1, &[axis; 2], Layout::Nchw).unwrap()).unwrap()
}

#[test]
fn the_chapter() {
    let k = [0.0, 1.0, 2.0, 3.0];
    let basic = square(2, 2, 1, 0);
    assert_eq!(transposed(&basic, &k, &k, None), [0.0, 0.0, 1.0, 0.0, 4.0, 6.0, 4.0, 12.0, 9.0]);
    assert_eq!(transposed(&square(2, 2, 1, 1), &k, &k, None), [4.0]);
    let stride_2 = [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 2.0, 3.0, 0.0, 2.0, 0.0, 3.0, 4.0, 6.0, 6.0, 9.0];
    assert_eq!(transposed(&square(2, 2, 2, 0), &k, &k, None), stride_2);

    let (x, k) = ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], [1.0, 2.0, 3.0, 4.0]);
    let y = convolution(&basic, &x, Weights::new(&k)).unwrap();
    assert_eq!(y, [27.0, 37.0, 57.0, 67.0]);
    let z = [27.0, 91.0, 74.0, 138.0, 400.0, 282.0, 171.0, 429.0, 268.0];
    assert_eq!(transposed(&basic, &y, &k, None), z);

    let w = weight_matrix::<f64>(&basic, Weights::new(&k)).unwrap();
    let mut dense = [[0.0; 9]; 4];
    for (&v, (row, column)) in &w {
        dense[row][column] = v;
    }
    for (row, first) in [0, 1, 3, 4].into_iter().enumerate() {
        let mut expected = [0.0; 9];
        expected[first..first + 5].copy_from_slice(&[1.0, 2.0, 0.0, 3.0, 4.0]);
        assert_eq!(dense[row], expected);
    }
}

/// X of 1 × 10 × 16 × 16, convolved 10 → 20 with kernel 5, padding 2, stride 3, then transposed with the same numbers.
#[test]
fn shapes_invert() {
    let axis = Axis { padding: (2, 2), ..Axis::new(6, 5, 3) };
    let g = Geometry::new(&Problem::new(1, 20, 10, 1, &[axis; 2], Layout::Nchw).unwrap()).unwrap();
    let mut rng = Rng::with_seed(14_10);
    let (x, w) = (integers(&mut rng, 10 * 16 * 16), integers(&mut rng, g.weight_len()));
    let hidden = convolution::<f64>(&g, &x, Weights::new(&w)).unwrap();
    assert_eq!(hidden.len(), 20 * 6 * 6);
    let back = transposed(&g, &hidden, &w, None);
    assert_eq!(back.len(), x.len());
    assert_ne!(back, x, "only the shape is inverted");
}

/// From the ONNX backend tests of ConvTranspose: x counts from 0, w is 1 everywhere.
#[test]
fn onnx_literals() {
    let counted: Vec<f64> = (0..9).map(f64::from).collect();
    let case = |axes: &[Axis], out: &[f64]| {
        let g = Geometry::new(&Problem::new(1, 1, 1, 1, axes, Layout::Nchw).unwrap()).unwrap();
        let y = transposed(&g, &counted[..g.input_len()], &vec![1.0; g.weight_len()], None);
        assert_eq!(y, out, "{axes:?}");
    };
    // test_convtranspose_1d
    case(&[Axis::new(3, 3, 1)], &[0.0, 1.0, 3.0, 3.0, 2.0]);
    // test_convtranspose (one of its two equal channels)
    let plain = [
        [0.0, 1.0, 3.0, 3.0, 2.0],
        [3.0, 8.0, 15.0, 12.0, 7.0],
        [9.0, 21.0, 36.0, 27.0, 15.0],
        [9.0, 20.0, 33.0, 24.0, 13.0],
        [6.0, 13.0, 21.0, 15.0, 8.0],
    ];
    case(&[Axis::new(3, 3, 1); 2], plain.as_flattened());
    // test_convtranspose_pads: strides 3 2, pads 1 2 1 2
    let pads = [
        [1.0, 1.0, 3.0],
        [1.0, 1.0, 3.0],
        [7.0, 4.0, 9.0],
        [7.0, 4.0, 9.0],
        [7.0, 4.0, 9.0],
        [13.0, 7.0, 15.0],
        [13.0, 7.0, 15.0],
    ];
    let axes =
        [Axis { padding: (1, 1), ..Axis::new(3, 3, 3) }, Axis { padding: (2, 2), ..Axis::new(3, 3, 2) }];
    case(&axes, pads.as_flattened());
    // test_convtranspose_dilations: x and w of its own
    let axis = Axis { dilation: 2, ..Axis::new(3, 2, 1) };
    let g = Geometry::new(&Problem::new(1, 1, 1, 1, &[axis; 2], Layout::Nchw).unwrap()).unwrap();
    let dilated = [
        [21.0, 56.0, 13.0, 16.0, 2.0],
        [63.0, 35.0, 67.0, 10.0, 14.0],
        [24.0, 22.0, 76.0, 76.0, 21.0],
        [9.0, 5.0, 88.0, 45.0, 63.0],
        [3.0, 2.0, 33.0, 18.0, 54.0],
    ];
    let x = [3.0, 8.0, 1.0, 9.0, 5.0, 7.0, 3.0, 2.0, 6.0];
    assert_eq!(transposed(&g, &x, &[7.0, 2.0, 1.0, 9.0], None), dilated.as_flattened());
}

/// The stored golden set, all but its full-size cases: computed by others, and for its literal cases published by others.
#[test]
fn golden_set() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden");
    let mut cases = 0;
    for case in golden::read(&folder) {
        let g = Geometry::new(&case.problem).unwrap();
        if g.multiply_adds() > 1 << 24 {
            continue;
        }
        let wide = |data: &[f32]| data.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let (x, w, bias) = (wide(&case.input), wide(&case.weights), case.bias.as_deref().map(wide));
        let weights = Weights::new(&w);
        let weights = bias.as_ref().map_or(weights, |b| weights.with_bias(b));
        let oracle = Oracle::new(&g, weights, case.epilogue());
        let exact: Vec<_> = outputs(&g).map(|(n, c, at)| oracle.at(f64::tensor(&x), n, c, at)).collect();
        let values: Vec<_> = exact.iter().map(|e| e.value).collect();
        let magnitudes = || exact.iter().map(|e| e.magnitude).collect();
        let verdict = case.judge(Dtype::F64, Exactness::Direct, Specials::Exact, &values, magnitudes);
        verdict.unwrap_or_else(|problem| panic!("{}: {problem}", case.id));
        cases += 1;
    }
    assert!(cases > 200, "only {cases} cases");
}

/// ⟨conv(z), x⟩ = ⟨z, convᵀ(x)⟩, exactly, on integers; and W and the gradients agree with both.
#[test]
fn adjointness() {
    let mut rng = Rng::with_seed(3);
    for (i, problem) in problems(1, 400).into_iter().enumerate() {
        let g = Geometry::new(&problem.with_layout(Layout::ALL[i % 2])).unwrap();
        let [x, w, z] = [g.input_len(), g.weight_len(), g.output_len()].map(|n| integers::<f64>(&mut rng, n));
        let weights = Weights::new(&w);
        let y = transposed(&g, &x, &w, None);
        let back = convolution(&g, &z, weights).unwrap();
        assert_eq!(dot(&back, &x), dot(&z, &y), "{problem:?}");

        // The operator is bilinear: its derivative in w along w, and in b along b, are values of itself.
        assert_eq!(gradient_input(&g, &z, weights).unwrap(), back);
        assert_eq!(dot(&gradient_weights(&g, &x, &z).unwrap(), &w), dot(&z, &y), "{problem:?}");
        let b = integers::<f64>(&mut rng, problem.out_channels());
        let only_bias = transposed(&g, &vec![0.0; x.len()], &w, Some(&b));
        assert_eq!(dot(&gradient_bias(&g, &z).unwrap(), &b), dot(&z, &only_bias), "{problem:?}");
        matrix_is_the_operator(&g, &x, &w, &y);
    }
}

/// Wᵀ·x, image by image, by a walk over the entries of W.
fn matrix_is_the_operator(g: &Geometry, x: &[f64], w: &[f64], y: &[f64]) {
    let matrix = weight_matrix::<f64>(g, Weights::new(w)).unwrap();
    let (rows, columns) = matrix.shape();
    assert!(matrix.is_csr());
    for n in 0..g.problem().batch() {
        let mut product = vec![0.0; columns];
        for (&v, (row, column)) in &matrix {
            product[column] += v * x[n * rows + row];
        }
        assert_eq!(product, &y[n * columns..][..columns], "{:?}", g.problem());
    }
}

#[test]
fn zeros_stay_stored_in_the_matrix() {
    let g = square(2, 2, 1, 0);
    let w = weight_matrix::<f32>(&g, Weights::new(&[0f32; 4])).unwrap();
    assert_eq!((w.shape(), w.nnz()), ((4, 9), 16));
}

#[test]
fn references_refuse_with_the_numbers() {
    let g = square(2, 2, 1, 0);
    let wrong = |which, got, expected| Err(Error::BufferLenMismatch { which, got, expected });
    let k = [1f32; 4];
    assert_eq!(convolution(&g, &k, Weights::new(&k)), wrong("output", 4, 9));
    assert_eq!(convolution(&g, &[0f32; 9], Weights::new(&k[..3])), wrong("weights", 3, 4));
    assert_eq!(gradient_weights(&g, &k[..2], &[0f32; 9]), wrong("input", 2, 4));
    assert!(matches!(weight_matrix::<f32>(&g, Weights::new(&[1f64; 4])), Err(Error::DtypeMismatch { .. })));

    let large = square(1024, 8, 8, 0);
    let error = weight_matrix::<f32>(&large, Weights::new(&[0f32; 64])).unwrap_err().to_string();
    assert!(error.contains("67108864 non-zeros, 813694984 bytes"), "{error}");
}
