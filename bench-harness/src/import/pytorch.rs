//! Layers as PyTorch writes them: `ConvTranspose2d(256, 128, kernel_size=4, stride=2, padding=1)`, alone or inside what
//! `print(model)` shows. Such texts hold no input sizes: `@1x256x32x32` behind a layer, or the caller, adds them.

use regex_lite::Regex;
use tconv::Spec;

use super::{Imported, Names, Sizes, shape, workload};
use crate::cli::Failure;

/// A module, with its name where it has one: `(up1): nn.Class(`, `self.up1 = nn.Class(`, `Class(`.
const MODULE: &str =
    r"(?:\(([^()\s]+)\):\s*(?:\d+ x )?|(?:self\.)?([A-Za-z_]\w*)\s*=\s*)?([A-Za-z_][\w.]*)\(";
/// Behind a layer.
const STATED: &str = r"^[ \t]*@[ \t]*([^\s)]*)";
/// Models are nested less than this; a text that is no model may be nested more.
const DEEPEST: usize = 100;
/// Arguments in PyTorch's order.
const ORDER: [&str; 10] = [
    "in_channels",
    "out_channels",
    "kernel_size",
    "stride",
    "padding",
    "output_padding",
    "groups",
    "bias",
    "dilation",
    "padding_mode",
];

/// All transposed convolutions of `text`. Without a size for each, the failure lists those that lack one.
pub fn import(text: &str, source: &str, sizes: &Sizes) -> Result<Imported, Failure> {
    let mut reader = Reader::new();
    reader.modules(text, &[String::new()], 0)?;
    let printed = reader.found;
    if printed.is_empty() {
        return Err(Failure(format!("{source}: no ConvTranspose1d, 2d or 3d layer")));
    }
    let names: Vec<String> = printed.iter().map(|layer| layer.name.clone()).collect();
    sizes.check_layers(&names)?;
    let (mut imported, mut unique, mut lacking) = (Imported::default(), Names::default(), Vec::new());
    for layer in &printed {
        let named = |problem: String| Failure(format!("{source}: layer {}: {problem}", layer.name));
        let stated = layer.stated.as_deref().map(|text| {
            shape(text)
                .ok_or_else(|| named(format!("'@{text}': @NxCxspatial is expected, such as @1x256x32x32")))
        });
        let input = match sizes.at(&layer.name) {
            Some(shape) => Some(shape.to_vec()),
            None => stated.transpose()?,
        };
        let arguments = Arguments::read(layer).map_err(named)?;
        let Some(input) = input else {
            lacking.push(layer);
            continue;
        };
        let spec = arguments.spec(&input, layer.rank);
        let from = format!("{source}: {}", layer.text());
        let made = workload(unique.unique(&layer.name), &spec, arguments.bias, from, "pytorch");
        imported.workloads.push(made.map_err(|e| named(e.to_string()))?);
    }
    match lacking.first() {
        None => Ok(imported),
        Some(first) => {
            let list: String = lacking.iter().map(|l| format!("\n  {}: {}", l.name, l.text())).collect();
            Err(Failure(format!(
                "{source}: a printed layer holds no input size, and these lack one:{list}\n\
                 add it to each with --at '{}=NxCxspatial', or behind a layer: '…)@1x256x32x32'",
                first.name
            )))
        }
    }
}

/// A layer as it is printed.
#[derive(Debug, Clone, PartialEq)]
struct Printed {
    /// Where it is: `decoder.up1`; its class where it stands alone.
    name: String,
    rank: usize,
    /// What stands between the parentheses.
    arguments: String,
    /// What stands behind an `@`.
    stated: Option<String>,
}

impl Printed {
    fn text(&self) -> String {
        format!("ConvTranspose{}d({})", self.rank, self.arguments)
    }
}

struct Reader {
    module: Regex,
    stated: Regex,
    found: Vec<Printed>,
}

impl Reader {
    fn new() -> Self {
        let [module, stated] = [MODULE, STATED].map(|p| Regex::new(p).expect("a valid pattern"));
        Self { module, stated, found: Vec::new() }
    }

    /// The modules of a text, one after the other, all inside what `paths` name.
    fn modules(&mut self, text: &str, paths: &[String], depth: usize) -> Result<(), Failure> {
        if depth > DEEPEST {
            return Err(Failure(format!(
                "no printed model: parentheses are nested more than {DEEPEST} deep"
            )));
        }
        let mut rest = text;
        while let Some(module) = self.module.captures(rest) {
            let whole = module.get(0).map_or(0, |m| m.end());
            let label = module.get(1).or(module.get(2)).map(|m| m.as_str());
            let class = module.get(3).map_or("", |m| m.as_str());
            let class = class.rsplit('.').next().unwrap_or(class);
            let (inside, after) = closed(&rest[whole..])
                .ok_or_else(|| Failure(format!("'{class}(' is never closed: the text is not complete")))?;
            let inner: Vec<String> = match label {
                None => paths.to_vec(),
                Some(label) => paths.iter().flat_map(|path| extended(path, label)).collect(),
            };
            match rank(class) {
                None => self.modules(inside, &inner, depth + 1)?,
                Some(_) if class.starts_with("Lazy") => {
                    let problem = "has no channels until it has run once: print the model after that";
                    return Err(Failure(format!("{class} {problem}")));
                }
                Some(rank) => {
                    // A parametrized layer prints its children behind its arguments.
                    let children = self.module.captures(inside).and_then(|c| Some(c.get(1)?.start() - 1));
                    let own = &inside[..children.unwrap_or(inside.len())];
                    let arguments = own.split_whitespace().collect::<Vec<_>>().join(" ");
                    let stated =
                        self.stated.captures(after).and_then(|c| Some(c.get(1)?.as_str().to_owned()));
                    for name in inner {
                        let name = if name.is_empty() { class.to_owned() } else { name };
                        let (arguments, stated) = (arguments.clone(), stated.clone());
                        self.found.push(Printed { name, rank, arguments, stated });
                    }
                }
            }
            rest = after;
        }
        Ok(())
    }
}

/// `2` of `ConvTranspose2d`, also of classes derived from it by name.
fn rank(class: &str) -> Option<usize> {
    match class.split_once("ConvTranspose")?.1 {
        "1d" => Some(1),
        "2d" => Some(2),
        "3d" => Some(3),
        _ => None,
    }
}

/// What lies before the parenthesis that closes an open one, and what behind.
fn closed(text: &str) -> Option<(&str, &str)> {
    let mut open = 1;
    for (i, c) in text.char_indices() {
        match c {
            '(' => open += 1,
            ')' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some((&text[..i], &text[i + 1..]));
        }
    }
    None
}

/// Repeated blocks are printed once: `(0-3): 4 x Block(`. Each is a path of its own.
fn extended(path: &str, label: &str) -> Vec<String> {
    let range = label.split_once('-').and_then(|(a, b)| Some(a.parse::<u32>().ok()?..=b.parse().ok()?));
    let labels = match range {
        Some(range) if range.clone().count() <= 1000 => range.map(|n| n.to_string()).collect(),
        _ => vec![label.to_owned()],
    };
    labels.into_iter().map(|l| if path.is_empty() { l } else { format!("{path}.{l}") }).collect()
}

/// The arguments of a layer; lists have one value or one for each axis.
struct Arguments {
    in_channels: i64,
    out_channels: i64,
    kernel: Vec<i64>,
    stride: Vec<i64>,
    padding: Vec<i64>,
    output_padding: Vec<i64>,
    dilation: Vec<i64>,
    groups: i64,
    bias: bool,
}

impl Arguments {
    fn read(layer: &Printed) -> Result<Self, String> {
        let mut stated: Vec<(&str, &str)> = Vec::new();
        for (i, part) in split(&layer.arguments).into_iter().enumerate() {
            let (key, value) = match part.split_once('=') {
                Some((key, value)) => (key.trim(), value.trim()),
                None => (*ORDER.get(i).ok_or("too many arguments")?, part),
            };
            if !ORDER.contains(&key) && !["device", "dtype"].contains(&key) {
                let Failure(message) = crate::selection::unknown("argument", key, &ORDER);
                return Err(message);
            }
            if stated.iter().any(|(k, _)| *k == key) {
                return Err(format!("argument '{key}' is stated twice"));
            }
            stated.push((key, value));
        }
        let get = |key: &str| stated.iter().find(|(k, _)| *k == key).map(|(_, value)| *value);
        let list = |key: &str, default: Option<i64>| match (get(key), default) {
            (Some(text), _) => integers(text, layer.rank).map_err(|problem| format!("{key}: {problem}")),
            (None, Some(default)) => Ok(vec![default]),
            (None, None) => Err(format!("no {key}")),
        };
        let one = |key: &str, default| match list(key, default)?[..] {
            [value] => Ok(value),
            _ => Err(format!("{key}: one number is expected")),
        };
        let bias = match get("bias") {
            None | Some("True") => true,
            Some("False") => false,
            Some(other) => return Err(format!("bias: True or False is expected, not '{other}'")),
        };
        if let Some(mode) = get("padding_mode")
            && mode.trim_matches(['\'', '"']) != "zeros"
        {
            return Err(format!("padding_mode {mode}: only 'zeros' exists for transposed convolutions"));
        }
        Ok(Self {
            in_channels: one("in_channels", None)?,
            out_channels: one("out_channels", None)?,
            kernel: list("kernel_size", None)?,
            stride: list("stride", Some(1))?,
            padding: list("padding", Some(0))?,
            output_padding: list("output_padding", Some(0))?,
            dilation: list("dilation", Some(1))?,
            groups: one("groups", Some(1))?,
            bias,
        })
    }

    fn spec(&self, input: &[i64], rank: usize) -> Spec {
        let group_out = match self.groups {
            groups if groups > 0 && self.out_channels % groups == 0 => self.out_channels / groups,
            // Spec refuses this many groups, or finds that they do not divide the channels.
            _ => self.out_channels,
        };
        let mut weight = vec![self.in_channels, group_out];
        weight.extend(self.kernel.iter().cycle().take(rank));
        let spec = Spec::new(input, &weight)
            .rank(rank)
            .stride(&self.stride[..])
            .padding(&self.padding[..])
            .output_padding(&self.output_padding[..])
            .dilation(&self.dilation[..])
            .groups(self.groups);
        if self.bias { spec.bias(&[self.out_channels]) } else { spec }
    }
}

/// Splits at the commas outside of parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (i, c) in text.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..i].trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

/// `4`, `(4, 4)` or `(16,)`.
fn integers(text: &str, rank: usize) -> Result<Vec<i64>, String> {
    let inner = text.trim().trim_start_matches(['(', '[']).trim_end_matches([')', ']']);
    let values: Option<Vec<i64>> =
        inner.split(',').map(str::trim).filter(|v| !v.is_empty()).map(|v| v.parse().ok()).collect();
    match values {
        Some(values) if values.len() == 1 || values.len() == rank => Ok(values),
        Some(values) => Err(format!("'{text}' has {} values: 1 or {rank} are expected", values.len())),
        None => Err(format!("'{text}' is no number and no list of numbers")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(text: &str, at: &[&str]) -> Result<Vec<(String, String)>, String> {
        let at: Vec<String> = at.iter().map(|s| s.to_string()).collect();
        let imported = import(text, "text", &Sizes::new(&[], &at).unwrap()).map_err(|Failure(m)| m)?;
        let text = |w: crate::workloads::Workload| (w.name.clone(), w.descriptor(tconv::Dtype::F32));
        Ok(imported.workloads.into_iter().map(text).collect())
    }

    fn one(text: &str) -> Result<String, String> {
        layers(text, &[]).map(|l| l[0].1.clone())
    }

    #[test]
    fn a_pasted_layer() {
        let expected = "f32:nchw:1x256x32x32:o128:k4x4:s2x2:p1x1:bias";
        for text in [
            "ConvTranspose2d(256, 128, kernel_size=4, stride=2, padding=1)@1x256x32x32",
            "ConvTranspose2d(256, 128, kernel_size=(4, 4), stride=(2, 2), padding=(1, 1)) @ 1x256x32x32",
            "nn.ConvTranspose2d(256, 128, 4, 2, 1)@1x256x32x32",
            "torch.nn.ConvTranspose2d(in_channels=256, out_channels=128, kernel_size=4, stride=2, padding=1, bias=True)@1x256x32x32",
        ] {
            assert_eq!(one(text).as_deref(), Ok(expected), "{text}");
        }
        let text = "ConvTranspose1d(6, 4, (3,), stride=(2,), output_padding=(1,), groups=2, bias=False, dilation=(3,))@2x6x9";
        assert_eq!(one(text).as_deref(), Ok("f32:nchw:2x6x9:o4:k3:s2:op1:d3:g2"));
        let named = layers("self.up1 = nn.ConvTranspose3d(8, 4, 2, 2)", &["up1=1x8x4x5x6"]);
        assert_eq!(named.unwrap()[0].0, "up1");
    }

    #[test]
    fn bad_layers_are_named_with_their_numbers() {
        for (text, words) in [
            ("ConvTranspose2d(256, 128, 4)@1x256x32", &["ConvTranspose2d", "3 dimensions"][..]),
            ("ConvTranspose2d(256, 128, 4)@1x200x32x32", &["[256, 128, 4, 4]", "200"]),
            ("ConvTranspose2d(256, 128, 4)@1xAx3x3", &["@1xAx3x3"]),
            ("ConvTranspose2d(256, 128)@1x256x3x3", &["no kernel_size"]),
            ("ConvTranspose2d(256, 128, (1, 2, 3))@1x256x3x3", &["kernel_size", "3 values"]),
            ("ConvTranspose2d(256, 128, kernel=4)@1x256x3x3", &["'kernel'", "kernel_size"]),
            ("ConvTranspose2d(256, 128, 4, kernel_size=4)@1x256x3x3", &["kernel_size", "twice"]),
            ("ConvTranspose2d(256, 128, 4, bias=1)@1x256x3x3", &["bias", "'1'"]),
            ("ConvTranspose2d(256, 128, 4, groups=3)@1x256x3x3", &["256", "3 groups"]),
            ("ConvTranspose2d(256, 127, 4, groups=2)@1x256x3x3", &["127"]),
            ("ConvTranspose2d(256, 128, 4, stride=0)@1x256x3x3", &["stride 0"]),
            ("ConvTranspose2d(256, 128, 4, padding_mode='reflect')@1x256x3x3", &["reflect"]),
            ("LazyConvTranspose2d(0, 128, kernel_size=(4, 4))", &["run once"]),
            ("ConvTranspose2d(256, 128, kernel_size=(4, 4)", &["never closed"]),
            ("Sequential((0): ReLU())", &["no ConvTranspose"]),
        ] {
            let message = one(text).expect_err(text);
            for word in words {
                assert!(message.contains(word), "{text}: '{word}' is not in: {message}");
            }
        }
        assert!(one(&"a(".repeat(5000)).is_err());
        assert!(one(&("a(".repeat(5000) + &")".repeat(5000))).expect_err("deep").contains("deep"));
    }

    const MODEL: &str = "Generator(
  (stem): Conv2d(3, 64, kernel_size=(4, 4), stride=(2, 2))
  (ups): ModuleList(
    (0-1): 2 x Sequential(
      (0): ReLU(inplace=True)
      (1): ConvTranspose2d(64, 64, kernel_size=(4, 4), stride=(2, 2), padding=(1, 1), bias=False)
    )
  )
  (vocoder): ParametrizedConvTranspose1d(
    512, 256, kernel_size=(16,), stride=(8,), padding=(4,)
    (parametrizations): ModuleDict(
      (weight): ParametrizationList(
        (0): _WeightNorm()
      )
    )
  )
  (head): ConvTranspose2d(64, 3, kernel_size=(2, 2), stride=(2, 2))
)";

    #[test]
    fn a_printed_model() {
        let at = ["ups.0.1=1x64x8x8", "ups.1.1=1x64x16x16", "vocoder=1x512x32", "head=1x64x32x32"];
        let found = layers(MODEL, &at).unwrap();
        let expected = [
            ("ups.0.1", "f32:nchw:1x64x8x8:o64:k4x4:s2x2:p1x1"),
            ("ups.1.1", "f32:nchw:1x64x16x16:o64:k4x4:s2x2:p1x1"),
            ("vocoder", "f32:nchw:1x512x32:o256:k16:s8:p4:bias"),
            ("head", "f32:nchw:1x64x32x32:o3:k2x2:s2x2:bias"),
        ];
        assert_eq!(found, expected.map(|(n, d)| (n.to_owned(), d.to_owned())));

        let lacking = layers(MODEL, &at[..2]).unwrap_err();
        assert!(lacking.contains("\n  vocoder: ConvTranspose1d(512, 256") && lacking.contains("\n  head: "));
        assert!(!lacking.contains("ups.0.1") && lacking.contains("--at 'vocoder="), "{lacking}");
        let stranger = layers(MODEL, &["hed=1x64x8x8"]).unwrap_err();
        assert!(stranger.contains("'hed'") && stranger.contains("head"), "{stranger}");
    }
}
