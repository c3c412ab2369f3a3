//! Many channels (d2l 14.10.2): a convolution, then a transposed convolution with the same numbers, and the shape is that
//! of the input again.

use tconv::{Error, Geometry, Limits, Spec, Weights, convolution};
use tconv_examples::{input_shape, output_shape, trans_conv};

fn main() -> Result<(), Error> {
    // 20 → 10 channels, kernel 5, padding 2, stride 3. Read backwards it is the convolution 10 → 20.
    let spec = Spec::new(&[1, 20, 6, 6], &[20, 10, 5, 5]).padding(2).stride(3);
    let weights: Vec<f64> = (0..20 * 10 * 5 * 5).map(|i| f64::from(i % 7) - 3.0).collect();
    let geometry = Geometry::new(&spec.check(Limits::default())?)?;

    let x: Vec<f64> = (0..10 * 16 * 16).map(|i| f64::from(i % 11) - 5.0).collect();
    let hidden = convolution(&geometry, &x, Weights::new(&weights))?;
    let (_, back) = trans_conv(spec, &hidden, &weights)?;

    println!("X                 {:?}", output_shape(&geometry));
    println!("conv(X)           {:?}", input_shape(&geometry));
    println!("tconv(conv(X))    {:?}", output_shape(&geometry));
    assert_eq!((output_shape(&geometry), input_shape(&geometry)), ([1, 10, 16, 16], [1, 20, 6, 6]));
    assert_eq!((hidden.len(), back.len()), (20 * 6 * 6, x.len()));
    Ok(())
}
