//! What the front door makes of a layer: sizes by the formula in `i128`, `auto_pad` as its owners compute it.

use proptest::prelude::*;
use tconv::{AutoPad, Axis, Convention, Error, Geometry, Limits, Problem, Spec};

const CONVENTIONS: [Convention; 3] =
    [Convention::Onnx, Convention::OnnxRuntime, Convention::OnnxRuntimeTo112];

/// Mostly numbers from `usual`, so that whole layers pass; sometimes those at the edges of the types, or anything.
fn number(usual: std::ops::Range<i64>) -> impl Strategy<Value = i64> {
    let edges = vec![i64::MIN, i64::MAX, i64::MAX - 1, -1, 0, 1 << 31, 1 << 32, 1 << 62, (1 << 62) - 1];
    prop_oneof![60 => usual, 1 => prop::sample::select(edges), 1 => any::<i64>()]
}

fn auto_pad() -> impl Strategy<Value = AutoPad> {
    let convention = || prop::sample::select(CONVENTIONS.to_vec());
    prop_oneof![
        3 => Just(AutoPad::NotSet),
        1 => Just(AutoPad::Valid),
        1 => convention().prop_map(AutoPad::SameUpper),
        1 => convention().prop_map(AutoPad::SameLower),
    ]
}

fn numbers(
    usual: std::ops::Range<i64>,
    len: impl Into<prop::collection::SizeRange>,
) -> impl Strategy<Value = Vec<i64>> {
    prop::collection::vec(number(usual), len)
}

fn size(a: &Axis) -> i128 {
    let [i, k, s, d] = [a.input, a.kernel, a.stride, a.dilation].map(|v| v as i128);
    (i - 1) * s + d * (k - 1) + 1 + a.output_padding as i128 - a.padding.0 as i128 - a.padding.1 as i128
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any numbers at all: an answer, never a panic; and what passes is what was stated.
    #[test]
    fn any_numbers(
        (rank, input, weight, lists, size_list) in (1usize..4).prop_flat_map(|rank| (
            Just(rank),
            numbers(1..9, rank + 2),
            numbers(1..9, rank + 2),
            (numbers(1..4, rank), numbers(0..3, rank), numbers(0..2, rank), numbers(1..4, rank)),
            numbers(1..20, rank),
        )),
        (groups, fits, wanted, auto_pad) in (number(1..3), 0..8, 0..4, auto_pad()),
    ) {
        // Most weights fit the input, or next to nothing would pass.
        let mut weight = weight;
        if fits > 0 { weight[0] = input[1]; }
        let (stride, padding, output_padding, dilation) = lists;
        let mut spec = Spec::new(&input, &weight)
            .stride(stride.clone()).padding(padding).output_padding(output_padding).dilation(dilation)
            .groups(groups).auto_pad(auto_pad);
        match wanted {
            1 => spec = spec.output_size(&size_list),
            2 => spec = spec.output_shape(&size_list),
            _ => {}
        }
        if let Ok(problem) = spec.check(Limits::NONE) {
            prop_assert_eq!(problem.rank(), rank);
            for (axis, a) in problem.spatial().iter().enumerate() {
                prop_assert_eq!(a.input as i64, input[2 + axis]);
                prop_assert_eq!(a.kernel as i64, weight[2 + axis]);
                prop_assert_eq!(a.stride as i64, stride[axis]);
                let output = size(a);
                prop_assert!(output > 0);
prop_assert_eq!(a.output().map(i128::from), Some(output));
                if wanted == 1 || wanted == 2 {
                    prop_assert_eq!(output, i128::from(size_list[axis]));
                } else if matches!(auto_pad, AutoPad::SameUpper(Convention::Onnx)) {
                    prop_assert_eq!(output, i128::from(input[2 + axis]) * i128::from(stride[axis]));
                }
            }
        }
    }

    /// Lists of any length.
    #[test]
    fn any_lists(input in numbers(1..9, 0..7), weight in numbers(1..9, 0..7), list in numbers(1..4, 0..7), rank in 0usize..6) {
        let spec = Spec::new(&input, &weight).stride(list.clone()).pads(&list).output_shape(&list);
        let _ = spec.check(Limits::default());
        let _ = spec.bias(&list).kernel_shape(&list).rank(rank).check(Limits::default());
    }

    /// Small legal layers all pass, and the geometry has the sizes of the formula.
    #[test]
    fn small_layers(
        (i, k, s, d) in (1i64..9, 1i64..6, 1i64..5, 1i64..4),
        (begin, end, op) in (0i64..4, 0i64..4, 0i64..5),
        (n, ci, co, g) in (0i64..3, 1i64..4, 1i64..4, 1i64..4),
    ) {
        let spec = Spec::new(&[n, ci * g, i, 3], &[ci * g, co, k, 2])
            .stride([s, 1]).dilation([d, 1]).pads(&[begin, 0, end, 0]).output_padding([op, 0]).groups(g);
        let output = (i - 1) * s + d * (k - 1) + 1 + op - begin - end;
        match spec.check(Limits::default()) {
            Ok(problem) => {
                let geometry = Geometry::new(&problem).unwrap();
                prop_assert_eq!(geometry.output(), [1, output as usize, 4]);
                prop_assert_eq!(geometry.output_len(), (n * co * g * output * 4) as usize);
            }
            Err(Error::OutputPaddingTooLarge { .. }) => prop_assert!(op >= s.max(d)),
            Err(Error::OutputSizeNotPositive { .. }) => prop_assert!(output <= 0),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}

/// (begin, end, output padding) of a one-dimensional layer of three inputs.
fn padding(kernel: i64, stride: i64, change: impl Fn(Spec) -> Spec) -> Result<(usize, usize, usize), Error> {
    let spec = Spec::new(&[1, 1, 3], &[1, 1, kernel]).stride(stride);
    let problem: Problem = change(spec).check(Limits::default())?;
    let [axis] = problem.spatial() else { panic!("one axis") };
    Ok((axis.padding.0, axis.padding.1, axis.output_padding))
}

/// Every figure here was observed: ONNX's reference evaluator 1.23.2, ONNX Runtime 1.32.0.
#[test]
fn auto_pad_as_observed() {
    use AutoPad::{SameLower, SameUpper};
    let same = |kernel, stride, op, mode: AutoPad| {
        padding(kernel, stride, move |spec| spec.output_padding(op).auto_pad(mode))
    };
    for convention in [Convention::Onnx, Convention::OnnxRuntime] {
        assert_eq!(same(3, 2, 0, SameUpper(convention)), Ok((0, 1, 0)));
        assert_eq!(same(3, 2, 0, SameLower(convention)), Ok((1, 0, 0)));
        assert_eq!(same(3, 2, 1, SameUpper(convention)), Ok((1, 1, 1)));
        assert_eq!(same(3, 2, 1, SameLower(convention)), Ok((1, 1, 1)));
    }
    // Up to ONNX Runtime 1.12 the halves are swapped.
    assert_eq!(same(3, 2, 0, SameUpper(Convention::OnnxRuntimeTo112)), Ok((1, 0, 0)));
    assert_eq!(same(3, 2, 0, SameLower(Convention::OnnxRuntimeTo112)), Ok((0, 1, 0)));
    // A kernel that does not fill the stride: ONNX keeps input·stride, ONNX Runtime keeps the full size.
    let unreachable = |requested, max| Err(Error::OutputSizeUnreachable { axis: 0, requested, min: 1, max });
    assert_eq!(same(1, 2, 0, SameLower(Convention::Onnx)), Ok((0, 0, 1)));
    assert_eq!(same(1, 2, 0, SameUpper(Convention::Onnx)), unreachable(6, 5));
    assert_eq!(same(1, 3, 0, SameLower(Convention::Onnx)), unreachable(9, 7));
    for mode in [SameUpper(Convention::OnnxRuntime), SameLower(Convention::OnnxRuntime)] {
        assert_eq!(same(1, 2, 0, mode), Ok((0, 0, 0)));
        assert_eq!(same(1, 3, 0, mode), Ok((0, 0, 0)));
    }
    assert_eq!(same(3, 2, 0, AutoPad::Valid), Ok((0, 0, 0)));
}

#[test]
fn output_shape_as_observed() {
    let shape =
        |size, mode: AutoPad| padding(3, 2, move |spec| spec.padding(5).output_shape(&[size]).auto_pad(mode));
    // 7 is the full size; the stated padding is replaced.
    assert_eq!(shape(7, AutoPad::NotSet), Ok((0, 0, 0)));
    assert_eq!(shape(6, AutoPad::NotSet), Ok((1, 0, 0)));
    assert_eq!(shape(5, AutoPad::NotSet), Ok((1, 1, 0)));
    assert_eq!(shape(6, AutoPad::SameUpper(Convention::Onnx)), Ok((0, 1, 0)));
    assert_eq!(shape(6, AutoPad::SameUpper(Convention::OnnxRuntime)), Ok((0, 1, 0)));
    assert_eq!(shape(6, AutoPad::SameLower(Convention::OnnxRuntime)), Ok((1, 0, 0)));
    // Beyond the full size.
    assert_eq!(shape(8, AutoPad::NotSet), Ok((0, 0, 1)));
    assert_eq!(shape(8, AutoPad::SameUpper(Convention::OnnxRuntime)), Ok((0, 0, 1)));
    assert_eq!(shape(8, AutoPad::SameLower(Convention::Onnx)), Ok((0, 0, 1)));
    assert!(shape(8, AutoPad::SameUpper(Convention::Onnx)).is_err());
    for size in [9, 100, 0, -1, i64::MIN, i64::MAX] {
        for convention in CONVENTIONS {
            let refused = shape(size, AutoPad::SameLower(convention)).expect_err("out of reach");
            assert_eq!(refused.class(), "OutputSizeUnreachable", "{size} {convention:?}");
        }
    }
    // ONNX's own example: both are stated, and agree.
    let spec =
        Spec::new(&[1, 1, 3, 3], &[1, 2, 3, 3]).stride([3, 2]).output_padding(1).output_shape(&[10, 8]);
    let problem = spec.check(Limits::default()).unwrap();
    assert_eq!(Geometry::new(&problem).unwrap().output(), [1, 10, 8]);
}
