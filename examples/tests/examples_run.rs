//! Every program runs to its end: each asserts its own numbers.

use std::process::Command;

fn run(program: &str) {
    let output = Command::new(program).output().expect(program);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {errors}");
    assert!(!output.stdout.is_empty(), "{program} prints nothing");
}

macro_rules! examples {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                run(env!(concat!("CARGO_BIN_EXE_", stringify!($name))));
            }
        )*
    };
}
examples!(trans_conv padding stride channels kernel2matrix values_are_not_inverted onnx_decoder);
