//! The relation to matrix transposition (d2l 14.10.3): a convolution is a product with a sparse matrix W, the transposed
//! convolution a product with Wᵀ.

use sprs::CsMat;
use tconv::{Error, Geometry, Limits, Spec, Weights, convolution, weight_matrix};
use tconv_examples::{print_rows, trans_conv};

fn main() -> Result<(), Error> {
    let x: Vec<f64> = (0..9).map(f64::from).collect();
    let k = [1.0, 2.0, 3.0, 4.0];
    let spec = Spec::new(&[1, 1, 2, 2], &[1, 1, 2, 2]);
    let geometry = Geometry::new(&spec.check(Limits::default())?)?;

    // The convolution of X, both ways.
    let w = weight_matrix::<f64>(&geometry, Weights::new(&k))?;
    let y = convolution(&geometry, &x, Weights::new(&k))?;
    print_rows("X", &x, 3);
    print_rows("K", &k, 2);
    let size = format!("{} × {} with {} entries", w.rows(), w.cols(), w.nnz());
    print_rows(&format!("W, {size}: k = (1, 2, 0, 3, 4), shifted"), &dense(&w), w.cols());
    print_rows("conv(X) = W·x", &y, 2);
    assert_eq!(y, [27.0, 37.0, 57.0, 67.0]);
    assert_eq!(y, product(&w, &x));
    let rows = [
        [1.0, 2.0, 0.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 1.0, 2.0, 0.0, 3.0, 4.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 3.0, 4.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 3.0, 4.0],
    ];
    assert_eq!(dense(&w), rows.as_flattened());

    // The transposed convolution of the result, both ways.
    let (_, z) = trans_conv(spec, &y, &k)?;
    print_rows("tconv(conv(X)) = Wᵀ·y", &z, 3);
    assert_eq!(z, [27.0, 91.0, 74.0, 138.0, 400.0, 282.0, 171.0, 429.0, 268.0]);
    assert_eq!(z, product(&w.transpose_view().to_csr(), &y));
    Ok(())
}

/// The matrix row by row, zeros included.
fn dense(matrix: &CsMat<f64>) -> Vec<f64> {
    let mut values = vec![0.0; matrix.rows() * matrix.cols()];
    for (&value, (row, column)) in matrix {
        values[row * matrix.cols() + column] = value;
    }
    values
}

fn product(matrix: &CsMat<f64>, vector: &[f64]) -> Vec<f64> {
    matrix
        .outer_iterator()
        .map(|row| row.iter().map(|(column, value)| value * vector[column]).sum())
        .collect()
}
