//! Everything that must be refused, with its class; and the legal neighbours of it.

use std::path::Path;

use serde_json::Value;
use tconv::{
    AutoPad, Convention, Epilogue, Error, Geometry, Layout, Limits, PerAxis, Planner, Problem, Spec, Weights,
};

/// Large enough for every legal row, small enough for every row that must be refused for its size.
const LIMITS: Limits = Limits::bytes(1 << 32);

fn list(value: &Value) -> Vec<i64> {
    value.as_array().expect("a list").iter().map(|v| v.as_i64().expect("an integer")).collect()
}

fn per_axis(value: &Value) -> PerAxis {
    value.as_i64().map_or_else(|| list(value).into(), PerAxis::from)
}

fn spec(row: &Value) -> Spec {
    let (x, w) = (list(&row["x"]), list(&row["w"]));
    // The operator's rank is in its name; the rows leave it out.
    let rank = if row["why"] == "weight rank" { x.len() } else { w.len() } - 2;
    let spec = Spec::new(&x, &w)
        .rank(rank)
        .stride(per_axis(&row["stride"]))
        .padding(per_axis(&row["padding"]))
        .output_padding(per_axis(&row["output_padding"]))
        .dilation(per_axis(&row["dilation"]))
        .groups(row["groups"].as_i64().expect("groups"));
    if row["b"].is_null() { spec } else { spec.bias(&list(&row["b"])) }
}

fn check_rows(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (mut refused, mut legal, mut in_words) = (0, 0, 0);
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).expect("JSON");
        let class = row["cls"].as_str().expect("cls");
        if row.get("x").is_none() {
            in_words += 1;
            continue;
        }
        for layout in Layout::ALL {
            match spec(&row).layout(layout).check(LIMITS) {
                Err(error) => assert_eq!(error.class(), class, "{error}\n{line}"),
                Ok(problem) => {
                    assert!(class.starts_with("(legal"), "accepted: {line}");
                    let output = Geometry::new(&problem).expect("sizes").output();
                    let shape = row["torch"].as_str().and_then(|t| t.strip_prefix("ACCEPTED -> "));
                    let shape: Vec<i64> =
                        list(&serde_json::from_str(shape.expect("PyTorch's shape")).expect("JSON"));
                    let ours = output[3 - problem.rank()..].iter().map(|&o| o as i64);
                    let head = [problem.batch() as i64, problem.out_channels() as i64];
                    assert_eq!(head.into_iter().chain(ours).collect::<Vec<_>>(), shape, "{line}");
                }
            }
        }
        *(if class.starts_with("(legal") { &mut legal } else { &mut refused }) += 1;
    }
    assert_eq!((refused + in_words, legal), (90, 6), "rows of {}", path.display());
    assert_eq!(in_words, 8, "rows in words: each has a test of its own");
}

#[test]
fn stored_rows() {
    check_rows(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/illegal.jsonl"));
}

/// The shared set may have grown; without it the stored copy has already run.
#[test]
fn shared_rows_are_the_stored_ones_or_pass_too() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance/illegal.jsonl");
    if shared.exists() {
        check_rows(&shared);
    }
}

fn class<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.expect_err("must be refused").class()
}

#[test]
fn buffers_one_short_or_one_long() {
    let problem = Spec::new(&[1, 4, 5], &[4, 2, 3]).padding(1).bias(&[2]).check(LIMITS).unwrap();
    let planner = Planner::new();
    let (x, w, b) = ([0f32; 20], [0f32; 24], [0f32; 2]);
    let mut plan =
        planner.plan::<f32>(&problem, Weights::new(&w).with_bias(&b), Epilogue::BIAS).expect("a plan");
    let y_len = plan.geometry().output_len();
    assert_eq!(y_len, 2 * 5);
    plan.execute(&x, &mut vec![0.0; y_len]).expect("the right lengths");

    for (w_len, b_len) in [(23, 2), (25, 2), (24, 1), (24, 3), (24, 0), (0, 2)] {
        let (w, b) = (vec![0f32; w_len], vec![0f32; b_len]);
        let weights = Weights::new(&w).with_bias(&b);
        assert_eq!(class(planner.plan::<f32>(&problem, weights, Epilogue::BIAS)), "BufferLenMismatch");
        assert_eq!(class(plan.repack(weights)), "BufferLenMismatch");
    }
    for x_len in [19, 21, 0] {
        let refused = plan.execute(&vec![0.0; x_len], &mut vec![0.0; y_len]);
        assert_eq!(refused, Err(Error::BufferLenMismatch { which: "input", got: x_len, expected: 20 }));
    }
    // 14: sized for the output that is not cropped.
    for got in [y_len - 1, y_len + 1, 14, 0] {
        let refused = plan.execute(&x, &mut vec![0.0; got]);
        assert_eq!(refused, Err(Error::BufferLenMismatch { which: "output", got, expected: y_len }));
    }
}

#[test]
fn same_padding_needs_a_convention() {
    for mode in ["SAME_UPPER", "SAME_LOWER"] {
        assert_eq!(class(AutoPad::parse(mode, None)), "AutoPadUnsupported");
        assert!(AutoPad::parse(mode, Some(Convention::OnnxRuntime)).is_ok());
    }
    for mode in ["NOTSET", "VALID"] {
        assert!(AutoPad::parse(mode, None).is_ok());
    }
    assert_eq!(class(AutoPad::parse("SAME", Some(Convention::Onnx))), "AutoPadUnsupported");
}

#[test]
fn kernel_shape_is_the_spatial_shape() {
    let spec = Spec::new(&[1, 1, 1, 5], &[1, 1, 1, 5]);
    assert_eq!(class(spec.clone().kernel_shape(&[1, 1, 1, 5]).check(LIMITS)), "KernelShapeMismatch");
    assert_eq!(class(spec.clone().kernel_shape(&[1, 4]).check(LIMITS)), "KernelShapeMismatch");
    assert!(spec.kernel_shape(&[1, 5]).check(LIMITS).is_ok());
}

#[test]
fn products_that_overflow() {
    let quarter = i64::MAX / 2 + 1; // usize::MAX / 4 + 1 on 64 bits
    for (input, weight, groups) in [
        ([1, 1, 5], [1, quarter, 3], 1),             // Cout alone
        ([1, 4, 5], [4, quarter, 3], 4),             // groups · (Cout / groups)
        ([1, 1 << 31, 1], [1 << 31, 1 << 31, 3], 1), // Cin · Cout · K
        ([1 << 40, 1, 5], [1, 1, 3], 1),             // batch: 5·2⁴⁰ elements, above the limit
        ([0, 1, 5], [1, 1 << 40, 3], 1),             // an empty batch hides no weights
    ] {
        for limits in [LIMITS, Limits::bytes(1 << 40)] {
            let refused = Spec::new(&input, &weight).groups(groups).check(limits);
            assert_eq!(class(refused), "SizeOverflow", "{input:?} {weight:?}");
        }
    }
    // The byte above the limit decides, in the stated type.
    let spec = Spec::new(&[1, 4, 5], &[4, 2, 3]).bias(&[2]);
    let elements = 20 + 24 + 2 + 14;
    assert!(spec.check(Limits::bytes(4 * elements)).is_ok());
    assert_eq!(class(spec.check(Limits::bytes(4 * elements - 1))), "SizeOverflow");
    let wide = spec.dtype(tconv::Dtype::F64);
    assert!(wide.check(Limits::bytes(8 * elements)).is_ok());
    assert_eq!(class(wide.check(Limits::bytes(8 * elements - 1))), "SizeOverflow");
}

#[test]
fn an_input_of_other_channels() {
    let problem: Problem = Spec::new(&[1, 4, 5], &[4, 2, 3]).check(LIMITS).unwrap();
    let geometry = Geometry::new(&problem).unwrap();
    assert_eq!(geometry.check_input(&[1, 4, 5]), Ok(()));
    assert_eq!(geometry.check_input(&[1, 1, 5]), Err(Error::ChannelMismatch { got: 1, expected: 4 }));
    assert_eq!(class(geometry.check_input(&[4, 5])), "InputRankMismatch");
    assert_eq!(class(geometry.check_input(&[])), "InputRankMismatch");
    assert_eq!(class(geometry.check_input(&[5, 4, 1])), "InputShapeMismatch");
}

#[test]
fn output_sizes_out_of_reach() {
    // PyTorch's own test: 6 inputs, kernel 3, stride 3, a stated output padding of 2 that output_size replaces: 18 to 20.
    // With dilation 2 the same range is that of padding 1.
    let dense = Spec::new(&[2, 3, 6, 6], &[3, 4, 3, 3]).stride(3).output_padding(2);
    let dilated = Spec::new(&[2, 3, 6, 6], &[3, 4, 3, 3]).stride(3).dilation(2).padding(1);
    for spec in [dense, dilated] {
        for size in (10..30).chain([i64::MIN, -1, 0, i64::MAX]) {
            for wanted in [vec![size, 18], vec![2, 4, size, 18]] {
                let checked = spec.clone().output_size(&wanted).check(LIMITS);
                if (18..=20).contains(&size) {
                    let geometry = Geometry::new(&checked.unwrap()).unwrap();
                    assert_eq!(geometry.output()[1..], [size as usize, 18]);
                } else {
                    let expected =
                        Error::OutputSizeUnreachable { axis: 0, requested: size, min: 18, max: 20 };
                    assert_eq!(checked, Err(expected));
                }
            }
        }
        assert_eq!(class(spec.output_size(&[18]).check(LIMITS)), "ParamArity");
    }
}

#[test]
fn negative_sizes_and_other_lists() {
    assert_eq!(class(Spec::new(&[-1, 4, 5], &[4, 2, 3]).check(LIMITS)), "NegativeDimension");
    assert_eq!(class(Spec::new(&[1, 4, 5], &[4, 2, -3]).check(LIMITS)), "NegativeDimension");
    assert_eq!(class(Spec::new(&[1, 4, 5], &[4, 2, 3]).pads(&[1]).check(LIMITS)), "ParamArity");
    assert_eq!(class(Spec::new(&[1, 4, 5], &[4, 2, 3]).stride([]).check(LIMITS)), "ParamArity");
    assert_eq!(class(Spec::new(&[1, 4, 5], &[4, 2, 3]).pads(&[0, -1]).check(LIMITS)), "NegativePadding");
    for shape in [&[][..], &[1], &[1, 1], &[1; 6]] {
        assert_eq!(class(Spec::new(shape, shape).check(LIMITS)), "InputRankMismatch");
    }
    assert_eq!(class(Spec::new(&[1; 3], &[1; 3]).rank(4).check(LIMITS)), "InputRankMismatch");
    assert_eq!(class(Spec::new(&[1; 3], &[1; 3]).rank(usize::MAX).check(LIMITS)), "InputRankMismatch");
}
