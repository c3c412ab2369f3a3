//! The stride (d2l 14.10.2) spaces the copies in the output: with stride 2 and a 2 × 2 kernel they touch and do not
//! overlap, so the output shows the four scaled kernels side by side.

use tconv::{Error, Spec};
use tconv_examples::{print_rows, trans_conv};

fn main() -> Result<(), Error> {
    let x = [0.0, 1.0, 2.0, 3.0];
    let (_, y) = trans_conv(Spec::new(&[1, 1, 2, 2], &[1, 1, 2, 2]).stride(2), &x, &x)?;

    print_rows("X = K", &x, 2);
    print_rows("stride 2", &y, 4);
    let expected = [[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 2.0, 3.0], [0.0, 2.0, 0.0, 3.0], [4.0, 6.0, 6.0, 9.0]];
    assert_eq!(y, expected.as_flattened());
    Ok(())
}
