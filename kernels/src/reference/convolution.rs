//! The forward convolution, and the gradients of the transposed one: its adjoints.
//!
//! Both operators belong to one [`Geometry`], read in two directions. With W of [`super::weight_matrix`]:
//!
//! | function | computes | from | to |
//! |---|---|---|---|
//! | a plan | z = Wᵀ·x (+ bias) | `[N, Cin, I…]` | `[N, Cout, O…]` |
//! | [`convolution`] | W·z | `[N, Cout, O…]` | `[N, Cin, I…]` |
//! | [`gradient_input`] | ∂L/∂x = W·∂L/∂z | `[N, Cout, O…]` | `[N, Cin, I…]` |
//! | [`gradient_weights`] | ∂L/∂w | both | `[Cin, Cout/groups, K…]` |
//! | [`gradient_bias`] | ∂L/∂b | `[N, Cout, O…]` | `[Cout]` |
//!
//! So a convolution of stride S, padding p and kernel w goes from the transposed convolution's output shape back to its
//! input shape, and "the transposed convolution of a convolution has the shape of the input" holds by construction.
//! Sizes that an ordinary convolution would round down are stated exactly: `output_padding` and the two crops name the
//! one shape that is meant. Input and output lie in the problem's layout. Sums run in f64 and are rounded once: these
//! are references, not fast.

use crate::contract::request::Weights;
use crate::error::{Error, expect_len};
use crate::machine::scratch::filled_vec;
use crate::machine::tensor::Element;
use crate::problem::geometry::Geometry;

/// The forward convolution W·z, without bias: `z` of the transposed convolution's output shape, the result of its input
/// shape. `result[n, g·ci + j, i] = Σ_{c, k} z[n, g·co + c, i·S + k·D − pb] · w[g·ci + j, c, k]`, over the taps that land
/// inside z; taps elsewhere meet the padding, zeros that are not multiplied.
///
/// # Errors
/// [`Error::BufferLenMismatch`], [`Error::DtypeMismatch`], [`Error::OutOfMemory`].
pub fn convolution<T: Element>(geometry: &Geometry, z: &[T], weights: Weights<'_>) -> Result<Vec<T>, Error> {
    let (kernel, _) = weights.typed::<T>()?;
    expect_len("weights", kernel.len(), geometry.weight_len())?;
    expect_len("output", z.len(), geometry.output_len())?;
    let mut sums = filled_vec("convolution", geometry.input_len(), 0f64)?;
    each_product(geometry, |x, w, y| sums[x] += z[y].to_f64() * kernel[w].to_f64());
    rounded("convolution", &sums)
}

/// The gradient of a loss with respect to the transposed convolution's input, from `gradient`, the one with respect to
/// its output (before the activation): the forward convolution. Shapes and errors as there.
pub fn gradient_input<T: Element>(
    geometry: &Geometry,
    gradient: &[T],
    weights: Weights<'_>,
) -> Result<Vec<T>, Error> {
    convolution(geometry, gradient, weights)
}

/// The gradient with respect to the weights `[Cin, Cout/groups, K…]`, from the input and the gradient with respect to the
/// output (before the activation), summed over the batch.
///
/// # Errors
/// [`Error::BufferLenMismatch`], [`Error::OutOfMemory`].
pub fn gradient_weights<T: Element>(
    geometry: &Geometry,
    input: &[T],
    gradient: &[T],
) -> Result<Vec<T>, Error> {
    expect_len("input", input.len(), geometry.input_len())?;
    expect_len("output", gradient.len(), geometry.output_len())?;
    let mut sums = filled_vec("weight gradient", geometry.weight_len(), 0f64)?;
    each_product(geometry, |x, w, y| sums[w] += input[x].to_f64() * gradient[y].to_f64());
    rounded("weight gradient", &sums)
}

/// The gradient with respect to the bias `[Cout]`: the sums of the output's gradient over images and positions.
///
/// # Errors
/// [`Error::BufferLenMismatch`], [`Error::OutOfMemory`].
pub fn gradient_bias<T: Element>(geometry: &Geometry, gradient: &[T]) -> Result<Vec<T>, Error> {
    expect_len("output", gradient.len(), geometry.output_len())?;
    let p = geometry.problem();
    let mut sums = filled_vec("bias gradient", p.out_channels(), 0f64)?;
    let [depth, height, width] = geometry.output();
    for n in 0..p.batch() {
        for (c, sum) in sums.iter_mut().enumerate() {
            for z in 0..depth {
                for y in 0..height {
                    for x in 0..width {
                        *sum += gradient[geometry.output_at(n, c, [z, y, x])].to_f64();
                    }
                }
            }
        }
    }
    rounded("bias gradient", &sums)
}

/// Every product of the definition, as flat indices of input, weight and output.
fn each_product(geometry: &Geometry, mut visit: impl FnMut(usize, usize, usize)) {
    let p = geometry.problem();
    let ([axis_z, axis_y, axis_x], [taps_z, taps_y, taps_x]) = (geometry.axes(), geometry.kernel());
    for n in 0..p.batch() {
        for ci in 0..p.in_channels() {
            for c in 0..p.group_out() {
                let channel = ci / p.group_in() * p.group_out() + c;
                for kz in 0..taps_z {
                    for ky in 0..taps_y {
                        for kx in 0..taps_x {
                            let w = geometry.weight_at(ci, c, [kz, ky, kx]);
                            for iz in axis_z.valid_inputs(kz) {
                                let oz = axis_z.output_index(iz, kz);
                                for iy in axis_y.valid_inputs(ky) {
                                    let oy = axis_y.output_index(iy, ky);
                                    for ix in axis_x.valid_inputs(kx) {
                                        let ox = axis_x.output_index(ix, kx);
                                        visit(
                                            geometry.input_at(n, ci, [iz, iy, ix]),
                                            w,
                                            geometry.output_at(n, channel, [oz, oy, ox]),
                                        );
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn rounded<T: Element>(what: &'static str, sums: &[f64]) -> Result<Vec<T>, Error> {
    let mut values = filled_vec(what, sums.len(), T::default())?;
    values.iter_mut().zip(sums).for_each(|(v, &s)| *v = T::from_f64(s));
    Ok(values)
}
