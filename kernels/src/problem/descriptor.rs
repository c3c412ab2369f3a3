//! A problem in one line of text: canonical, for messages, records and the command line.
//!
//! `f32:nchw:1x256x32x24:o256:k4x4:s2x2:p1x1:op1x1:d2x2:g2:bias:relu`: element type, layout, N×Cin×spatial (in this
//! order whatever the layout; the rank follows), output channels, kernel; then stride, padding, output padding, dilation and
//! groups where they are not 1, 0, 0, 1, 1; then the epilogue: `bias`, and `relu`, `leaky=0.1`, `clamp=-1,6`, `sigmoid` or
//! `tanh`. Where begin and end of an axis differ, its padding is `begin+end`: `p1+0x1`. Printed are all axes; one value
//! for all is accepted (`k4`). After the sizes the fields may come in any order.

use std::fmt;
use std::str::FromStr;

use super::epilogue::{Activation, Epilogue};
use super::problem::{Axis, Layout, Problem};
use crate::error::Error;
use crate::machine::tensor::Dtype;

/// What is known of the weights' values, where it makes a difference to the choice of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Structure {
    /// Nothing.
    #[default]
    General,
    /// Each output channel has weights from one input channel, whose kernel is an outer product: bilinear upsampling.
    Separable,
}

/// A problem, its element type and its epilogue: prints as one line, and is parsed from it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Descriptor {
    /// Sizes and layout.
    pub problem: Problem,
    /// Type of all tensors.
    pub dtype: Dtype,
    /// Bias and activation.
    pub epilogue: Epilogue,
    /// Of the weights.
    pub structure: Structure,
}

impl fmt::Display for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p = &self.problem;
        write!(f, "{}:{}:{}x{}", self.dtype, p.layout().name(), p.batch(), p.in_channels())?;
        for axis in p.spatial() {
            write!(f, "x{}", axis.input)?;
        }
        write!(f, ":o{}", p.out_channels())?;
        let mut field = |key: &str, default: Option<&str>, value: &dyn Fn(&Axis) -> String| {
            let values: Vec<String> = p.spatial().iter().map(value).collect();
            let shown = default.is_none_or(|d| values.iter().any(|v| v != d));
            if shown { write!(f, ":{key}{}", values.join("x")) } else { Ok(()) }
        };
        field("k", None, &|a| a.kernel.to_string())?;
        field("s", Some("1"), &|a| a.stride.to_string())?;
        field("p", Some("0"), &|a| match a.padding {
            (begin, end) if begin == end => begin.to_string(),
            (begin, end) => format!("{begin}+{end}"),
        })?;
        field("op", Some("0"), &|a| a.output_padding.to_string())?;
        field("d", Some("1"), &|a| a.dilation.to_string())?;
        if p.groups() != 1 {
            write!(f, ":g{}", p.groups())?;
        }
        if self.structure == Structure::Separable {
            f.write_str(":separable")?;
        }
        if self.epilogue.bias {
            f.write_str(":bias")?;
        }
        match self.epilogue.activation {
            Activation::Identity => Ok(()),
            Activation::Relu => f.write_str(":relu"),
            Activation::LeakyRelu { slope } => write!(f, ":leaky={}", Shortest(slope)),
            Activation::Clamp { low, high } => write!(f, ":clamp={},{}", Shortest(low), Shortest(high)),
            Activation::Sigmoid => f.write_str(":sigmoid"),
            Activation::Tanh => f.write_str(":tanh"),
        }
    }
}

/// The shortest text that parses to the same number, without a trailing `.0`.
struct Shortest(f64);

impl fmt::Display for Shortest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:?}", self.0);
        f.write_str(text.strip_suffix(".0").unwrap_or(&text))
    }
}

impl FromStr for Descriptor {
    type Err = Error;

    /// [`Error::Descriptor`] where the text is none; the problem's own error where the sizes are illegal.
    fn from_str(text: &str) -> Result<Self, Error> {
        let fields = Fields::read(text.trim()).map_err(|problem| Error::Descriptor {
            // A message stays readable, whatever the text.
            text: text.trim().chars().take(200).collect(),
            problem,
        })?;
        let (batch, cin, cout) = (fields.batch, fields.in_channels, fields.out_channels);
        Ok(Self {
            problem: Problem::new(batch, cin, cout, fields.groups, &fields.axes, fields.layout)?,
            dtype: fields.dtype,
            epilogue: fields.epilogue,
            structure: fields.structure,
        })
    }
}

/// The numbers of a text, not yet checked against each other.
struct Fields {
    dtype: Dtype,
    layout: Layout,
    batch: usize,
    in_channels: usize,
    out_channels: usize,
    groups: usize,
    axes: Vec<Axis>,
    epilogue: Epilogue,
    structure: Structure,
}

const ORDER: &str = "dtype:layout:NxCxspatial:o…:k…";

impl Fields {
    fn read(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':').map(str::trim);
        let mut next = |what: &str| {
            parts.next().filter(|p| !p.is_empty()).ok_or_else(|| format!("no {what}: {ORDER} is expected"))
        };
        let dtype = next("dtype")?;
        let dtype = Dtype::parse(dtype).ok_or_else(|| format!("unknown dtype '{dtype}' (f32, f64)"))?;
        let layout = next("layout")?;
        let layout =
            Layout::parse(layout).ok_or_else(|| format!("unknown layout '{layout}' (nchw, nhwc)"))?;
        let sizes = next("sizes")?;
        let sizes: Vec<usize> = sizes.split('x').map(|n| number("sizes", n)).collect::<Result<_, _>>()?;
        let [batch, in_channels, ref inputs @ ..] = sizes[..] else {
            return Err(format!("{} sizes: NxCxspatial is expected", sizes.len()));
        };
        if !(1..=3).contains(&inputs.len()) {
            return Err(format!("{} spatial axes: 1 to 3 are expected", inputs.len()));
        }
        let axes = inputs.iter().map(|&input| Axis { input, ..Axis::UNIT }).collect();
        let (epilogue, structure) = (Epilogue::NONE, Structure::General);
        let mut fields =
            Self { dtype, layout, batch, in_channels, out_channels: 0, groups: 1, axes, epilogue, structure };
        let mut seen: Vec<&str> = Vec::new();
        for part in parts {
            let key = fields.field(part)?;
            if seen.contains(&key) {
                return Err(format!("field '{part}': '{key}' is stated twice"));
            }
            seen.push(key);
        }
        for (key, what) in [("o", "output channels"), ("k", "kernel")] {
            if !seen.contains(&key) {
                return Err(format!("no {what}: {ORDER} is expected"));
            }
        }
        Ok(fields)
    }

    /// Reads one field and tells its key.
    fn field(&mut self, part: &str) -> Result<&'static str, String> {
        let unknown = || {
            format!(
                "unknown field '{part}' (o, k, s, p, op, d, g, separable, bias, relu, leaky, clamp, sigmoid, tanh)"
            )
        };
        let mut activate = |activation| {
            self.epilogue.activation = activation;
            Ok("activation")
        };
        match part {
            "separable" => {
                self.structure = Structure::Separable;
                return Ok("separable");
            }
            "bias" => {
                self.epilogue.bias = true;
                return Ok("bias");
            }
            "relu" => return activate(Activation::Relu),
            "sigmoid" => return activate(Activation::Sigmoid),
            "tanh" => return activate(Activation::Tanh),
            _ => {}
        }
        if let Some(slope) = part.strip_prefix("leaky=") {
            return activate(Activation::LeakyRelu { slope: real(part, slope)? });
        }
        if let Some(bounds) = part.strip_prefix("clamp=") {
            let (low, high) = bounds
                .split_once(',')
                .ok_or_else(|| format!("field '{part}': clamp=low,high is expected"))?;
            let (low, high) = (real(part, low)?, real(part, high)?);
            if low > high {
                return Err(format!("field '{part}': low is above high"));
            }
            return activate(Activation::Clamp { low, high });
        }
        let digits = part.find(|c: char| c.is_ascii_digit()).ok_or_else(unknown)?;
        let (key, values) = part.split_at(digits);
        match key {
            "o" => self.out_channels = number(part, values)?,
            "g" => self.groups = number(part, values)?,
            "k" => self.each(part, values, number, |axis, v| axis.kernel = v)?,
            "s" => self.each(part, values, number, |axis, v| axis.stride = v)?,
            "p" => self.each(part, values, pair, |axis, v| axis.padding = v)?,
            "op" => self.each(part, values, number, |axis, v| axis.output_padding = v)?,
            "d" => self.each(part, values, number, |axis, v| axis.dilation = v)?,
            _ => return Err(unknown()),
        }
        Ok(["o", "g", "k", "s", "p", "op", "d"].into_iter().find(|k| *k == key).unwrap_or_default())
    }

    /// One value for all axes, or one for each.
    fn each<V: Copy>(
        &mut self,
        part: &str,
        values: &str,
        read: fn(&str, &str) -> Result<V, String>,
        set: fn(&mut Axis, V),
    ) -> Result<(), String> {
        let values: Vec<V> = values.split('x').map(|v| read(part, v)).collect::<Result<_, _>>()?;
        let rank = self.axes.len();
        if values.len() != 1 && values.len() != rank {
            return Err(format!("field '{part}' has {} values: 1 or {rank} are expected", values.len()));
        }
        for (axis, &value) in self.axes.iter_mut().zip(values.iter().cycle()) {
            set(axis, value);
        }
        Ok(())
    }
}

fn number(field: &str, text: &str) -> Result<usize, String> {
    // `parse` alone takes a sign.
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("field '{field}': '{text}' is no number"));
    }
    text.parse().map_err(|e| format!("field '{field}': '{text}': {e}"))
}

fn pair(field: &str, text: &str) -> Result<(usize, usize), String> {
    match text.split_once('+') {
        None => number(field, text).map(|both| (both, both)),
        Some((begin, end)) => Ok((number(field, begin)?, number(field, end)?)),
    }
}

fn real(field: &str, text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if !value.is_nan() => Ok(value),
        _ => Err(format!("field '{field}': '{text}' is no number")),
    }
}
