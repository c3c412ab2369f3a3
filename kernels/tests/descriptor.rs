//! The one-line text: canonical, and its own inverse.

use proptest::prelude::*;
use tconv::{Activation, Axis, Descriptor, Dtype, Epilogue, Error, Layout, Problem, Structure};

fn axis() -> impl Strategy<Value = Axis> {
    let size = || prop_oneof![1usize..9, Just(1 << 20)];
    (size(), size(), 1usize..6, (0usize..4, 0usize..4), 0usize..5, 1usize..5).prop_filter_map(
        "no output",
        |(input, kernel, stride, padding, op, dilation)| {
            let output_padding = op % stride.max(dilation);
            let axis = Axis { input, kernel, stride, padding, output_padding, dilation };
            axis.output().filter(|&o| o > 0).map(|_| axis)
        },
    )
}

fn activation() -> impl Strategy<Value = Activation> {
    let real = || any::<f64>().prop_filter("a number", |v| !v.is_nan());
    prop_oneof![
        Just(Activation::Identity),
        Just(Activation::Relu),
        Just(Activation::Sigmoid),
        Just(Activation::Tanh),
        real().prop_map(|slope| Activation::LeakyRelu { slope }),
        (real(), real()).prop_map(|(a, b)| Activation::Clamp { low: a.min(b), high: a.max(b) }),
    ]
}

fn descriptor() -> impl Strategy<Value = Descriptor> {
    let sizes = (0usize..4, 1usize..9, 1usize..9, 1usize..5);
    (sizes, prop::collection::vec(axis(), 1..4), any::<bool>(), any::<bool>(), any::<bool>(), activation())
        .prop_map(|((n, ci, co, g), axes, nhwc, wide, bias, activation)| Descriptor {
            problem: Problem::new(n, ci * g, co * g, g, &axes, Layout::ALL[nhwc as usize]).expect("legal"),
            dtype: if wide { Dtype::F64 } else { Dtype::F32 },
            epilogue: Epilogue { bias, activation },
            structure: if co % 2 == 0 { Structure::Separable } else { Structure::General },
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parse_is_the_inverse_of_print(d in descriptor()) {
        let text = d.to_string();
        prop_assert_eq!(text.parse::<Descriptor>(), Ok(d), "{}", &text);
        prop_assert_eq!(format!("  {text}\n").parse::<Descriptor>(), Ok(d));
        prop_assert!(!text.contains(char::is_whitespace));
    }

    #[test]
    fn any_text_has_an_answer(text in any::<String>()) {
        let _ = text.parse::<Descriptor>();
    }

    /// Closer to a descriptor, and with numbers of any length.
    #[test]
    fn any_broken_text_has_an_answer(
        d in descriptor(), at in any::<prop::sample::Index>(), junk in "[-+x:=.,a-z0-9é]{0,24}",
    ) {
        let mut text = d.to_string();
        let at = at.index(text.len() + 1);
        text.insert_str(at, &junk);
        if let Ok(parsed) = text.parse::<Descriptor>() {
            prop_assert_eq!(parsed.to_string().parse::<Descriptor>(), Ok(parsed));
        }
    }
}

#[test]
fn the_documented_texts() {
    let full = "f32:nchw:1x256x32x24:o256:k4x4:s2x2:p1x1:op1x1:d2x2:g2:bias:relu";
    let d: Descriptor = full.parse().unwrap();
    assert_eq!(d.to_string(), full);
    let axes =
        [32, 24].map(|i| Axis { padding: (1, 1), output_padding: 1, dilation: 2, ..Axis::new(i, 4, 2) });
    assert_eq!(d.problem, Problem::new(1, 256, 256, 2, &axes, Layout::Nchw).unwrap());
    assert_eq!(d.epilogue, Epilogue::BIAS.with(Activation::Relu));

    for (accepted, canonical) in [
        (" f32:nchw:1x256x32x24 : k4 : o256:s2:p1 ", "f32:nchw:1x256x32x24:o256:k4x4:s2x2:p1x1"),
        ("f64:nhwc:0x1x5:o1:k3:s1:p0:op0:d1:g1", "f64:nhwc:0x1x5:o1:k3"),
        ("f32:nchw:1x1x5x5:o1:k3:p1+0", "f32:nchw:1x1x5x5:o1:k3x3:p1+0x1+0"),
        ("f32:nchw:1x1x5x5:o1:k3:p1x1+1", "f32:nchw:1x1x5x5:o1:k3x3:p1x1"),
        ("f32:nchw:1x1x5x5:o1:k3:p0x2+1:bias", "f32:nchw:1x1x5x5:o1:k3x3:p0x2+1:bias"),
        ("f32:nchw:1x1x5:o1:k3:leaky=0.10", "f32:nchw:1x1x5:o1:k3:leaky=0.1"),
        ("f32:nchw:1x1x5:o1:k3:clamp=-1.0,6", "f32:nchw:1x1x5:o1:k3:clamp=-1,6"),
        ("f32:nchw:1x1x5:o1:k3:clamp=0,inf", "f32:nchw:1x1x5:o1:k3:clamp=0,inf"),
    ] {
        assert_eq!(accepted.parse::<Descriptor>().unwrap().to_string(), canonical);
    }
}

#[test]
fn refusals_name_what_is_wrong() {
    for (text, part) in [
        ("", "dtype"),
        ("f16:nchw:1x1x5:o1:k3", "'f16'"),
        ("f32:chwn:1x1x5:o1:k3", "'chwn'"),
        ("f32:nchw", "sizes"),
        ("f32:nchw:1x1:o1:k3", "spatial"),
        ("f32:nchw:1x1x5x5x5x5:o1:k3", "4 spatial"),
        ("f32:nchw:1x-1x5:o1:k3", "'-1'"),
        ("f32:nchw:1x1x+5:o1:k3", "'+5'"),
        ("f32:nchw:1x1x99999999999999999999:o1:k3", "99999999999999999999"),
        ("f32:nchw:1x1x5:k3", "output channels"),
        ("f32:nchw:1x1x5:o1", "kernel"),
        ("f32:nchw:1x1x5:o1:k3x3", "2 values"),
        ("f32:nchw:1x1x5:o1:k3:z7", "'z7'"),
        ("f32:nchw:1x1x5:o1:k3:gelu", "'gelu'"),
        ("f32:nchw:1x1x5:o1:k3:s1:s2", "twice"),
        ("f32:nchw:1x1x5:o1:k3:relu:tanh", "twice"),
        ("f32:nchw:1x1x5:o1:k3:", "unknown field ''"),
        ("f32:nchw:1x1x5:o1:k3:leaky=NaN", "NaN"),
        ("f32:nchw:1x1x5:o1:k3:clamp=1", "low,high"),
        ("f32:nchw:1x1x5:o1:k3:clamp=2,1", "above"),
    ] {
        match text.parse::<Descriptor>() {
            Err(Error::Descriptor { problem, .. }) => assert!(problem.contains(part), "{text}: {problem}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    for (text, class) in [
        ("f32:nchw:1x1x5:o1:k0", "EmptyKernel"),
        ("f32:nchw:1x1x5:o1:k3:s0", "StrideNotPositive"),
        ("f32:nchw:1x0x5:o1:k3", "ZeroChannels"),
        ("f32:nchw:1x1x5:o1:k3:op1", "OutputPaddingTooLarge"),
        ("f32:nchw:1x4x5:o4:k3:g3", "ChannelsNotDivisible"),
        ("f32:nchw:1x4x1:o4:k2:p1", "OutputSizeNotPositive"),
        ("f32:nchw:1x4x5:o4:k3:s4611686018427387904", "SizeOverflow"),
    ] {
        assert_eq!(text.parse::<Descriptor>().expect_err(text).class(), class, "{text}");
    }
}
