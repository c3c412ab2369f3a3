//! The basic operation (d2l 14.10.1): every input element scales the kernel, and the scaled copies are added at their
//! places. A 2 × 2 input and a 2 × 2 kernel give a 3 × 3 output.

use tconv::{Error, Spec};
use tconv_examples::{print_rows, trans_conv};

fn main() -> Result<(), Error> {
    let x = [0.0, 1.0, 2.0, 3.0];
    let k = [0.0, 1.0, 2.0, 3.0];
    let spec = Spec::new(&[1, 1, 2, 2], &[1, 1, 2, 2]);

    // As the chapter writes it: Y[i: i + h, j: j + w] += X[i, j] * K.
    let mut by_hand = [[0.0; 3]; 3];
    for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        for (a, b) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            by_hand[i + a][j + b] += x[2 * i + j] * k[2 * a + b];
        }
    }
    let (_, y) = trans_conv(spec, &x, &k)?;

    print_rows("X", &x, 2);
    print_rows("K", &k, 2);
    print_rows("transposed convolution of X by K", &y, 3);
    assert_eq!(y, [0.0, 0.0, 1.0, 0.0, 4.0, 6.0, 4.0, 12.0, 9.0]);
    assert_eq!(y, by_hand.as_flattened());
    Ok(())
}
