//! TOML sets of layers, turned into problems.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tconv::{Accuracy, Axis, Descriptor, Dtype, Epilogue, Layout, Problem, Structure};

use crate::cli::Failure;
use crate::selection;

const ZOO: &str = include_str!("../workloads/zoo.toml");

/// A layer to verify, describe or measure.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// Its name in the set, or the descriptor that stated it.
    pub name: String,
    /// The layer (in NCHW, unless a descriptor says otherwise).
    pub problem: Problem,
    /// Bias and activation; a set states the bias alone.
    pub epilogue: Epilogue,
    /// Set where a descriptor fixes the type (and with it the layout of `problem`).
    pub dtype: Option<Dtype>,
    /// What is known of the weights; their values are made after it.
    pub structure: Structure,
    /// The network that it comes from.
    pub source: String,
    /// Free words to group by.
    pub tags: Vec<String>,
}

impl Workload {
    /// Its one-line text.
    pub fn descriptor(&self, dtype: Dtype) -> String {
        descriptor(self.problem, dtype, self.epilogue, self.structure)
    }
}

/// The compiled-in set: layers of published networks.
pub fn zoo() -> Vec<Workload> {
    parse("zoo.toml", ZOO).unwrap_or_else(|Failure(message)| unreachable!("tested: {message}"))
}

/// Reads a set from a file.
pub fn load(path: &Path) -> Result<Vec<Workload>, Failure> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|e| Failure(format!("cannot read {name}: {e}")))?;
    parse(&name, &text)
}

/// The workloads whose name matches a regular expression, or the one that a descriptor states; all without either.
pub fn select(all: Vec<Workload>, pattern: Option<&str>) -> Result<Vec<Workload>, Failure> {
    if let Some(stated) = pattern.and_then(from_descriptor) {
        return Ok(vec![stated?]);
    }
    selection::matching("workload", all, |w| &w.name, pattern)
}

/// A text that begins like a descriptor (with a type) is taken for one: its errors are worth more than "no match".
fn from_descriptor(text: &str) -> Option<Result<Workload, Failure>> {
    let (first, _) = text.split_once(':')?;
    Dtype::parse(first)?;
    Some(match text.parse::<Descriptor>() {
        Err(error) => Err(error.into()),
        Ok(descriptor) => Ok(Workload {
            name: descriptor.to_string(),
            problem: descriptor.problem,
            epilogue: descriptor.epilogue,
            structure: descriptor.structure,
            dtype: Some(descriptor.dtype),
            source: String::new(),
            tags: Vec::new(),
        }),
    })
}

/// The one-line text that [`select`] takes back.
pub fn descriptor(problem: Problem, dtype: Dtype, epilogue: Epilogue, structure: Structure) -> String {
    Descriptor { problem, dtype, epilogue, structure }.to_string()
}

/// An element type as the value of an option.
pub fn dtype_argument(name: &str) -> Result<Dtype, String> {
    Dtype::parse(name).ok_or_else(|| "f32 or f64".into())
}

/// A layout as the value of an option.
pub fn layout_argument(name: &str) -> Result<Layout, String> {
    Layout::parse(name).ok_or_else(|| "nchw or nhwc".into())
}

/// An accuracy as the value of an option.
pub fn accuracy_argument(name: &str) -> Result<Accuracy, String> {
    Accuracy::parse(name).ok_or_else(|| "strict, standard or normwise".into())
}

/// One `[[layer]]`. Spatial fields: a value per axis, outermost first; `padding` crops both ends.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Layer {
    name: String,
    batch: usize,
    in_channels: usize,
    out_channels: usize,
    #[serde(default = "one")]
    groups: usize,
    input: Vec<usize>,
    kernel: Vec<usize>,
    stride: Vec<usize>,
    padding: Vec<usize>,
    /// The crop at the end, where it differs from that at the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    padding_end: Option<Vec<usize>>,
    output_padding: Vec<usize>,
    dilation: Vec<usize>,
    /// Whether a bias is added.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    bias: bool,
    /// What the weights look like.
    #[serde(default, skip_serializing_if = "Look::is_random")]
    weights: Look,
    #[serde(default)]
    source: String,
    #[serde(default)]
    tags: Vec<String>,
}

/// The values of weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Look {
    #[default]
    Random,
    /// Each channel is enlarged by a bilinear kernel; without groups, most of the stored weights are zeros.
    Bilinear,
}

impl Look {
    fn is_random(&self) -> bool {
        *self == Self::Random
    }
}

fn one() -> usize {
    1
}

fn parse(file: &str, text: &str) -> Result<Vec<Workload>, Failure> {
    let mut table: toml::Table = toml::from_str(text).map_err(|e| Failure(format!("{file}: {e}")))?;
    let Some(toml::Value::Array(layers)) = table.remove("layer") else {
        return Err(Failure(format!("{file}: holds no [[layer]]")));
    };
    if let Some(key) = table.keys().next() {
        return Err(Failure(format!("{file}: unknown field '{key}' beside [[layer]]")));
    }
    let mut all: Vec<Workload> = Vec::new();
    for (i, layer) in layers.into_iter().enumerate() {
        let name = layer.get("name").and_then(|n| n.as_str()).unwrap_or("without a name").to_owned();
        let entry =
            |problem: &str| Failure(format!("{file}: layer {} ({name}): {}", i + 1, problem.trim_end()));
        let layer: Layer = layer.try_into().map_err(|e: toml::de::Error| entry(&e.to_string()))?;
        let workload = layer.check().map_err(|Failure(problem)| entry(&problem))?;
        if all.iter().any(|w| w.name == workload.name) {
            return Err(entry("field 'name' repeats an earlier layer"));
        }
        all.push(workload);
    }
    Ok(all)
}

/// A set as the text of a file: [`load`] gives the same workloads back. `comment`: its first lines.
pub fn to_toml(comment: &str, workloads: &[Workload]) -> Result<String, Failure> {
    let mut text: String = comment.lines().map(|line| format!("# {line}\n")).collect();
    for workload in workloads {
        text += &format!("\n[[layer]]\n{}", toml::to_string(&Layer::of(workload))?);
    }
    Ok(text)
}

impl Layer {
    fn of(w: &Workload) -> Self {
        let axes = w.problem.spatial();
        let each = |value: fn(&Axis) -> usize| axes.iter().map(value).collect::<Vec<_>>();
        let (padding, padding_end) = (each(|a| a.padding.0), each(|a| a.padding.1));
        Self {
            name: w.name.clone(),
            batch: w.problem.batch(),
            in_channels: w.problem.in_channels(),
            out_channels: w.problem.out_channels(),
            groups: w.problem.groups(),
            input: each(|a| a.input),
            kernel: each(|a| a.kernel),
            stride: each(|a| a.stride),
            padding_end: (padding_end != padding).then_some(padding_end),
            padding,
            output_padding: each(|a| a.output_padding),
            dilation: each(|a| a.dilation),
            bias: w.epilogue.bias,
            weights: match w.structure {
                Structure::General => Look::Random,
                Structure::Separable => Look::Bilinear,
            },
            source: w.source.clone(),
            tags: w.tags.clone(),
        }
    }

    fn check(self) -> Result<Workload, Failure> {
        let rank = self.input.len();
        let padding_end = self.padding_end.as_ref().unwrap_or(&self.padding);
        for (field, values) in [
            ("kernel", &self.kernel),
            ("stride", &self.stride),
            ("padding", &self.padding),
            ("padding_end", padding_end),
            ("output_padding", &self.output_padding),
            ("dilation", &self.dilation),
        ] {
            if values.len() != rank {
                let got = values.len();
                return Err(Failure(format!("field '{field}' has {got} values: 'input' has {rank}")));
            }
        }
        let axes: Vec<Axis> = (0..rank)
            .map(|a| Axis {
                input: self.input[a],
                kernel: self.kernel[a],
                stride: self.stride[a],
                padding: (self.padding[a], padding_end[a]),
                output_padding: self.output_padding[a],
                dilation: self.dilation[a],
            })
            .collect();
        let problem =
            Problem::new(self.batch, self.in_channels, self.out_channels, self.groups, &axes, Layout::Nchw)?;
        tconv::Geometry::new(&problem)?;
        Ok(Workload {
            name: self.name,
            problem,
            epilogue: if self.bias { Epilogue::BIAS } else { Epilogue::NONE },
            structure: match self.weights {
                Look::Random => Structure::General,
                Look::Bilinear => Structure::Separable,
            },
            dtype: None,
            source: self.source,
            tags: self.tags,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [[layer]]
        name = "up"
        batch = 1
        in_channels = 4
        out_channels = 2
        input = [5, 5]
        kernel = [4, 4]
        stride = [2, 2]
        padding = [1, 1]
        output_padding = [0, 0]
        dilation = [1, 1]
    "#;

    #[test]
    fn the_zoo_is_good_and_its_names_are_unique() {
        let zoo = zoo();
        assert!(zoo.len() >= 49, "{}", zoo.len());
        let pose = zoo.iter().find(|w| w.name == "pose_up3").expect("in the zoo");
        assert_eq!(tconv::Geometry::new(&pose.problem).expect("legal").output(), [1, 64, 48]);
        assert_eq!(zoo.iter().find(|w| w.name == "hifigan_up1").expect("in the zoo").problem.rank(), 1);
    }

    #[test]
    fn bad_fields_are_named_with_their_entry() {
        assert_eq!(parse("set", GOOD).expect("good").len(), 1);
        for (from, to, words) in [
            ("stride = [2, 2]", "stride = [2]", &["layer 1 (up)", "'stride' has 1"][..]),
            ("stride = [2, 2]", "stride = [2, 0]", &["layer 1 (up)", "stride 0", "axis 1"]),
            ("stride = [2, 2]", "stride = [2, -1]", &["layer 1 (up)", "stride", "-1"]),
            ("stride = [2, 2]", "stride = \"2\"", &["layer 1 (up)", "stride"]),
            ("stride = [2, 2]", "", &["layer 1 (up)", "missing", "stride"]),
            ("batch = 1", "batch = 1\ngroups = 3", &["layer 1 (up)", "3 groups"]),
            ("batch = 1", "batch = 1\nweights = \"ones\"", &["layer 1 (up)", "ones", "bilinear"]),
            ("batch = 1", "batch = 1\nbach = 2", &["layer 1 (up)", "bach"]),
            ("input = [5, 5]", "input = []", &["layer 1 (up)", "'kernel' has 2"]),
            ("name = \"up\"", "", &["layer 1", "name"]),
            ("[[layer]]", "[[layers]]", &["no [[layer]]"]),
        ] {
            let text = GOOD.replace(from, to);
            let Failure(message) = parse("set", &text).expect_err(to);
            for word in words {
                assert!(message.contains(word), "{to}: '{word}' is not in: {message}");
            }
        }
        let Failure(message) = parse("set", &[GOOD, GOOD].concat()).expect_err("twice");
        assert!(message.contains("layer 2 (up)") && message.contains("repeats"), "{message}");
    }

    #[test]
    fn a_written_set_is_read_back() {
        let mut all = zoo();
        all[0].epilogue = Epilogue::BIAS;
        all[1].structure = Structure::Separable;
        all[1].source = "a \"quoted\" source".into();
        let text = to_toml("what\nit is", &all).expect("written");
        assert!(text.starts_with("# what\n# it is\n\n[[layer]]\nname = "), "{}", &text[..60]);
        assert_eq!(parse("set", &text).expect("read"), all);
    }

    #[test]
    fn selection_is_by_regular_expression_and_helps() {
        let names = |p| select(zoo(), Some(p)).map(|l| l.into_iter().map(|w| w.name).collect::<Vec<_>>());
        assert_eq!(names("^pose_up[13]$").expect("match"), ["pose_up1", "pose_up3"]);
        assert!(names("pose_upp").expect_err("no such").0.contains("pose_up3"));
        assert!(names("(").expect_err("bad").0.contains("pattern"));
    }
}
