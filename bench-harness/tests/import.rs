//! Models of other programs become workloads: what is read, and what is said where something is missing.

use std::path::PathBuf;
use std::process::Command;

use prost::Message;
use tconv::problem::auto_pad::Convention;
use tconv::{Dtype, Geometry, Structure};
use tconv_bench::cli::Failure;
use tconv_bench::import::onnx::Onnx;
use tconv_bench::import::onnx::schema::{Attribute, Graph, Model, Node, Tensor, data_type};
use tconv_bench::import::{self, Sizes};
use tconv_bench::workloads;

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx").join(name)
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| s.to_string()).collect()
}

/// Name and descriptor of every layer, or the message.
fn layers(file: &str, dims: &[&str], at: &[&str]) -> Result<Vec<(String, String)>, String> {
    let path = data(file);
    let sizes = Sizes::new(&strings(dims), &strings(at)).map_err(|Failure(m)| m)?;
    let source = path.to_str().expect("a path in UTF-8");
    let imported = import::model(source, &sizes, Convention::Onnx).map_err(|Failure(m)| m)?;
    let text = |w: workloads::Workload| {
        let descriptor = w.descriptor(Dtype::F32);
        (w.name, descriptor)
    };
    Ok(imported.workloads.into_iter().map(text).collect())
}

fn one(file: &str) -> String {
    let all = layers(file, &[], &[]).unwrap_or_else(|m| panic!("{file}: {m}"));
    assert_eq!(all.len(), 1, "{file}");
    all[0].1.clone()
}

/// The backend tests of the onnx package and four generators as PyTorch exports them: our output shapes are those of its shape
/// inference.
#[test]
fn output_shapes_are_those_of_onnx() {
    let expected = std::fs::read_to_string(data("expected.tsv")).expect("the list of models");
    let mut rows: Vec<Vec<&str>> = Vec::new();
    rows.extend(expected.lines().filter(|l| !l.starts_with('#')).map(|l| l.split('\t').collect()));
    let mut models: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    models.dedup();
    assert_eq!(models.len(), 18);
    for model in models {
        let onnx = Onnx::open(&data(&format!("{model}.onnx"))).expect(model);
        let generator = !model.starts_with("test_");
        let dims: &[&str] = if generator { &["batch=3"] } else { &[] };
        let sizes = Sizes::new(&strings(dims), &[]).expect("sizes");
        let layers =
            onnx.layers(&sizes, Convention::Onnx).unwrap_or_else(|Failure(m)| panic!("{model}: {m}"));
        let found: Vec<(String, String)> = layers
            .iter()
            .map(|layer| {
                let p = &layer.problem;
                let geometry = Geometry::new(p).expect("checked");
                let mut shape = vec![p.batch(), p.out_channels()];
                shape.extend(&geometry.output()[3 - p.rank()..]);
                let text = shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
                (layer.name.clone(), text)
            })
            .collect();
        let wanted: Vec<(String, String)> = rows
            .iter()
            .filter(|row| row[0] == model)
            .map(|row| (row[1].to_owned(), row[2].replace("batch", "3")))
            .collect();
        assert_eq!(found, wanted, "{model}");
    }
}

#[test]
fn attributes_are_read() {
    for (file, descriptor) in [
        ("test_convtranspose_pads.onnx", "f32:nchw:1x1x3x3:o2:k3x3:s3x2:p1x2"),
        ("test_convtranspose_dilations.onnx", "f32:nchw:1x1x3x3:o1:k2x2:d2x2"),
        ("test_convtranspose_group_2_image_3.onnx", "f32:nchw:3x2x3x3:o2:k3x3:g2"),
        ("test_convtranspose_output_shape.onnx", "f32:nchw:1x1x3x3:o2:k3x3:s3x2:op1x1"),
        ("test_ConvTranspose2d.onnx", "f32:nchw:1x3x7x6:o4:k3x3:s3x2:p1x1:op1x1:bias"),
    ] {
        assert_eq!(one(file), descriptor, "{file}");
    }
}

/// Which side loses the odd element changed with version 11 of the operators.
#[test]
fn the_forms_of_both_operator_versions() {
    for (file, padding) in [
        ("opset1_same_upper.onnx", "1+0x1+0"),
        ("opset11_same_upper.onnx", "0+1x0+1"),
        ("opset1_same_lower.onnx", "0+1x0+1"),
        ("opset11_same_lower.onnx", "1+0x1+0"),
    ] {
        assert_eq!(one(file), format!("f32:nchw:1x3x5x6:o2:k3x3:s2x2:p{padding}"), "{file}");
    }
}

#[test]
fn layers_inside_control_flow_and_functions() {
    for (file, expected) in [
        (
            "control_flow.onnx",
            [
                ("loop/body/choice/else_branch/else", "f32:nchw:1x3x5x6:o2:k4x4:s3x3:p2x4+3"),
                ("loop/body/choice/then_branch/then", "f32:nchw:1x3x5x6:o2:k4x4:s2x2:p0x1"),
            ],
        ),
        (
            "functions.onnx",
            [
                ("first/up", "f32:nchw:1x3x5x6:o2:k4x4:s2x2:p1x1"),
                ("second/up", "f32:nchw:1x2x10x12:o1:k3x3:s3x1"),
            ],
        ),
    ] {
        let found = layers(file, &[], &[]).expect("all is declared");
        assert_eq!(found, expected.map(|(n, d)| (n.to_owned(), d.to_owned())), "{file}");
    }
}

#[test]
fn weights_are_read_where_the_file_has_them() {
    let first = |file: &str, at: &[&str]| {
        let onnx = Onnx::open(&data(file)).expect(file);
        let sizes = Sizes::new(&[], &strings(at)).expect("sizes");
        let layers = onnx.layers(&sizes, Convention::Onnx).expect(file);
        let read = |values: Option<Result<Vec<f32>, Failure>>| values.map(|v| v.map_err(|Failure(m)| m));
        (read(layers[0].weights()), read(layers[0].bias()))
    };
    let w: Vec<f32> = (0..96).map(|i| i as f32 / 16.0 - 1.0).collect();
    assert_eq!(
        first("constant_weights.onnx", &["up=1x3x5x6"]),
        (Some(Ok(w.clone())), Some(Ok(w[..2].to_vec())))
    );
    assert_eq!(first("external.onnx", &[]), (Some(Ok(w)), None));
    assert_eq!(first("test_convtranspose.onnx", &[]), (None, None)); // they are an input of the graph
    let (absent, _) = first(
        "dcgan.onnx",
        &[
            "/main/main.0/ConvTranspose=1x100x1x1",
            "/main/main.3/ConvTranspose=1x512x4x4",
            "/main/main.6/ConvTranspose=1x256x8x8",
            "/main/main.9/ConvTranspose=1x128x16x16",
            "/main/main.12/ConvTranspose=1x64x32x32",
        ],
    );
    assert!(absent.expect("declared").expect_err("not there").contains("dcgan.weights"));
}

/// FCN's way to upsample: dense weights, bilinear on the diagonal of the channels, zeros beside it.
#[test]
fn bilinear_weights_are_recognised_in_the_file() {
    const CHANNELS: usize = 3;
    let line = [0.25f32, 0.75, 0.75, 0.25];
    let weights: Vec<f32> = (0..CHANNELS * CHANNELS * 16)
        .map(|i| if i / 16 / CHANNELS == i / 16 % CHANNELS { line[i % 16 / 4] * line[i % 4] } else { 0.0 })
        .collect();
    let import = |name: &str, weights: &[f32]| {
        let node = Node {
            name: "up".into(),
            op_type: "ConvTranspose".into(),
            input: vec!["x".into(), "w".into()],
            output: vec!["y".into()],
            attribute: vec![Attribute { name: "strides".into(), ints: vec![2, 2], ..Attribute::default() }],
            ..Node::default()
        };
        let kernel = Tensor {
            name: "w".into(),
            dims: vec![CHANNELS as i64, CHANNELS as i64, 4, 4],
            data_type: data_type::FLOAT,
            float_data: weights.to_vec(),
            ..Tensor::default()
        };
        let graph = Graph { node: vec![node], initializer: vec![kernel], ..Graph::default() };
        let model = Model { graph: Some(graph), ..Model::default() };
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&path, model.encode_to_vec()).expect("written");
        let sizes = Sizes::new(&[], &strings(&["up=1x3x5x6"])).expect("sizes");
        import::model(path.to_str().expect("UTF-8"), &sizes, Convention::Onnx)
            .unwrap_or_else(|Failure(m)| panic!("{m}"))
    };
    let found = import("bilinear.onnx", &weights);
    assert_eq!(found.workloads[0].structure, Structure::Separable);
    assert!(found.notes[0].contains("up: 3 of 9 pairs of channels"), "{:?}", found.notes);
    let mut other = weights;
    other[40] = 1e-3;
    let found = import("ordinary.onnx", &other);
    assert_eq!((found.workloads[0].structure, found.notes.len()), (Structure::General, 0));
    let empty = import("zeros.onnx", &[0.0; CHANNELS * CHANNELS * 16]);
    assert_eq!(empty.workloads[0].structure, Structure::General);
}

#[test]
fn what_is_missing_is_listed_with_what_adds_it() {
    let message = |file: &str, dims: &[&str], at: &[&str]| layers(file, dims, at).expect_err(file);
    for (message, words) in [
        (
            message("dcgan.onnx", &[], &[]),
            &[
                "/main/main.12/ConvTranspose",
                "batch × 64 × 32 × 32",
                "--dim NAME=SIZE",
                "unresolved sizes: batch",
            ][..],
        ),
        (message("dcgan.onnx", &["bach=1"], &[]), &["'bach'", "batch"]),
        (message("dcgan.onnx", &["batch=1"], &["main=1x2x3x3"]), &["'main'", "/main/main.0/ConvTranspose"]),
        (
            message("constant_weights.onnx", &["height=4"], &[]),
            &[
                "? × 3 × 4 × width",
                "width",
                "make_dynamic_shape_fixed --input_name x --input_shape ?,3,height,width constant_weights.onnx",
            ],
        ),
        (
            message("undeclared.onnx", &[], &[]),
            &[
                "up: no shape is declared for its input 'r'",
                "infer_shapes_path('undeclared.onnx', 'undeclared.shapes.onnx'",
                "--at 'up=",
            ],
        ),
        (
            message("ppocr_v4_det.onnx", &[], &[]),
            &[
                "p2o.ConvTranspose.0",
                "p2o.ConvTranspose.2",
                "--input_name x --input_shape p2o.DynamicDimension.0,3,",
                "infer_shapes_path('ppocr_v4_det.fixed.onnx'",
            ],
        ),
        (message("no_layer.onnx", &[], &[]), &["no ConvTranspose node", "onnx-test-models"]),
        (
            message("undeclared.onnx", &[], &["up=1x4x5x6"]),
            &["up: weight shape [3, 2, 4, 4]", "4 (input channels)"],
        ),
        (message("expected.tsv", &[], &[]), &["neither an ONNX model"]),
        (message("absent.onnx", &[], &[]), &["cannot read", "absent.onnx"]),
    ] {
        for word in words {
            assert!(message.contains(word), "'{word}' is not in: {message}");
        }
    }
}

/// The detector with its dynamic sizes: weights from `Constant` nodes, as PaddlePaddle's exporter writes them.
#[test]
fn the_text_detector() {
    let at = ["p2o.ConvTranspose.0=1x24x160x160", "p2o.ConvTranspose.2=1x24x320x320"];
    let found = layers("ppocr_v4_det.onnx", &[], &at).expect("sizes are stated");
    assert_eq!(found[0].1, "f32:nchw:1x24x160x160:o24:k2x2:s2x2");
    assert_eq!(found[1].1, "f32:nchw:1x24x320x320:o1:k2x2:s2x2");
}

/// Every file, cut off anywhere or with any byte changed, is read or refused: no panic, no endless loop.
#[test]
fn damaged_models_are_refused_or_read() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("damaged");
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("model.onnx");
    let mut random = fastrand::Rng::with_seed(5);
    for file in ["control_flow.onnx", "functions.onnx", "constant_weights.onnx", "external.onnx"] {
        let bytes = std::fs::read(data(file)).expect(file);
        for round in 0..400 {
            let mut damaged = bytes.clone();
            match round % 2 {
                0 => damaged.truncate(random.usize(..bytes.len())),
                _ => damaged[random.usize(..bytes.len())] = random.u8(..),
            }
            std::fs::write(&path, &damaged).expect("written");
            let Ok(onnx) = Onnx::open(&path) else { continue };
            if let Ok(layers) = onnx.layers(&Sizes::default(), Convention::Onnx) {
                layers.iter().for_each(|layer| drop((layer.weights(), layer.bias())));
            }
        }
    }
}

#[test]
fn the_command_writes_a_set_that_is_read_back() {
    let tconv = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_tconv")).args(args).output().expect("it starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().expect("no signal"), text(&output.stdout), text(&output.stderr))
    };
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let file = folder.join("imported.toml");
    let (file, model) = (file.to_str().expect("UTF-8"), data("hifigan.onnx"));
    let (code, _, error) = tconv(&["import", model.to_str().expect("UTF-8"), "--dim", "batch=1", "-o", file]);
    assert_eq!(code, 0, "{error}");
    let (code, text, _) = tconv(&["list", "workloads", "--workloads", file]);
    assert!(code == 0 && text.contains("f32:nchw:1x256x256:o128:k16:s8:p4:bias"), "{text}");

    let layer = "ConvTranspose2d(256, 128, kernel_size=4, stride=2, padding=1)@1x256x32x32";
    let (code, text, _) = tconv(&["import", layer]);
    assert!(code == 0 && text.contains("in_channels = 256") && text.contains("bias = true"), "{text}");
    let (code, _, error) = tconv(&["import", "ConvTranspose2d(256, 128, 4)"]);
    assert!(code == 2 && error.contains("--at 'ConvTranspose2d="), "{error}");
    assert_eq!(tconv(&["import"]).0, 2);
    assert_eq!(tconv(&["import", "--benchdnn", "absent.txt"]).0, 2);
}
