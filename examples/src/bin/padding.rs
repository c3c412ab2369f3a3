//! Padding (d2l 14.10.2) is applied to the output: padding 1 removes the first and last rows and columns.

use tconv::{Error, Spec};
use tconv_examples::{print_rows, trans_conv};

fn main() -> Result<(), Error> {
    let x = [0.0, 1.0, 2.0, 3.0];
    let spec = Spec::new(&[1, 1, 2, 2], &[1, 1, 2, 2]);
    let (_, whole) = trans_conv(spec.clone(), &x, &x)?;
    let (_, cropped) = trans_conv(spec.padding(1), &x, &x)?;

    print_rows("padding 0", &whole, 3);
    print_rows("padding 1: its frame is cropped", &cropped, 1);
    assert_eq!(cropped, [4.0]);
    assert_eq!(cropped[0], whole[4]);
    Ok(())
}
