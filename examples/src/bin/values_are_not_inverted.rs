//! The chapter's first exercise: the convolution's input and the transposed convolution's output have the same shape. Do
//! they have the same values?
//!
//! No: Wᵀ is not W⁻¹. What does hold is ⟨W·x, y⟩ = ⟨x, Wᵀ·y⟩. A convolution that makes 4 numbers of 9 has no inverse at
//! all; one whose W is orthogonal, as the Haar transform's, is inverted by its transpose.

use tconv::{Error, Geometry, Limits, Spec, Weights, convolution};
use tconv_examples::{print_rows, trans_conv};

fn main() -> Result<(), Error> {
    let x: Vec<f64> = (0..9).map(f64::from).collect();
    let k = [1.0, 2.0, 3.0, 4.0];
    let (y, z) = there_and_back(Spec::new(&[1, 1, 2, 2], &[1, 1, 2, 2]), &x, &k)?;
    print_rows("x", &x, 3);
    print_rows("Wᵀ·W·x: the same shape, other values", &z, 3);
    assert_ne!(z, x);
    assert_eq!(z, [27.0, 91.0, 74.0, 138.0, 400.0, 282.0, 171.0, 429.0, 268.0]);

    let (left, right) = (dot(&y, &y), dot(&x, &z));
    println!("⟨W·x, y⟩ = {left}, ⟨x, Wᵀ·y⟩ = {right} for y = W·x");
    assert_eq!(left, right);

    // Sum, two differences and their difference of every 2 × 2 square, halved: the rows of W are orthonormal, and as
    // many as its columns.
    let haar = [[0.5, 0.5, 0.5, 0.5], [0.5, -0.5, 0.5, -0.5], [0.5, 0.5, -0.5, -0.5], [0.5, -0.5, -0.5, 0.5]];
    let x: Vec<f64> = (0..16).map(f64::from).collect();
    let (_, z) = there_and_back(Spec::new(&[1, 4, 2, 2], &[4, 1, 2, 2]).stride(2), &x, haar.as_flattened())?;
    print_rows("Haar kernels, stride 2: Wᵀ·W·x is x", &z, 4);
    assert_eq!(z, x);
    Ok(())
}

/// W·x, and Wᵀ of that.
fn there_and_back(spec: Spec, x: &[f64], weights: &[f64]) -> Result<(Vec<f64>, Vec<f64>), Error> {
    let geometry = Geometry::new(&spec.check(Limits::default())?)?;
    let y = convolution(&geometry, x, Weights::new(weights))?;
    let (_, z) = trans_conv(spec, &y, weights)?;
    Ok((y, z))
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
