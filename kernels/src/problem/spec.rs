//! The front door: a layer as frameworks state it, and the checks that make it a [`Problem`].

use super::auto_pad::AutoPad;
use super::geometry::lengths;
use super::limits::Limits;
use super::problem::{Axis, Layout, Problem};
use crate::error::Error;
use crate::machine::tensor::Dtype;

/// One value for all spatial axes, or one for each, outermost first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerAxis(Vec<i64>);

impl From<i64> for PerAxis {
    fn from(value: i64) -> Self {
        Self(vec![value])
    }
}
impl<const N: usize> From<[i64; N]> for PerAxis {
    fn from(values: [i64; N]) -> Self {
        Self(values.to_vec())
    }
}
impl From<&[i64]> for PerAxis {
    fn from(values: &[i64]) -> Self {
        Self(values.to_vec())
    }
}
impl From<Vec<i64>> for PerAxis {
    fn from(values: Vec<i64>) -> Self {
        Self(values)
    }
}

impl PerAxis {
    fn expand(&self, name: &'static str, rank: usize) -> Result<Vec<i64>, Error> {
        match self.0[..] {
            [value] => Ok(vec![value; rank]),
            ref values if values.len() == rank => Ok(values.to_vec()),
            ref values => Err(Error::ParamArity { name, got: values.len(), expected: rank }),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Padding {
    Both(PerAxis),
    BeginsThenEnds(Vec<i64>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    Nothing,
    /// PyTorch: reached through the output padding.
    Size(Vec<i64>),
    /// ONNX: reached through the padding.
    Shape(Vec<i64>),
}

/// A transposed convolution in the words of PyTorch's `ConvTranspose1d/2d/3d` and ONNX's `ConvTranspose`: signed numbers,
/// nothing checked yet. Defaults: stride 1, no padding, no output padding, dilation 1 (dense), one group, no bias,
/// channels first, f32.
///
/// Shapes are always stated channels first, `[N, C, spatial…]`; [`Spec::layout`] alone says how input and output lie in
/// memory. Weights are `[Cin, Cout/groups, kernel…]`, not flipped, in either layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    input: Vec<i64>,
    weight: Vec<i64>,
    bias: Option<Vec<i64>>,
    rank: Option<usize>,
    stride: PerAxis,
    padding: Padding,
    output_padding: PerAxis,
    dilation: PerAxis,
    groups: i64,
    layout: Layout,
    dtype: Dtype,
    wanted: Wanted,
    kernel_shape: Option<Vec<i64>>,
    auto_pad: AutoPad,
}

impl Spec {
    /// Input `[N, Cin, spatial…]` and weights `[Cin, Cout/groups, kernel…]`.
    pub fn new(input: &[i64], weight: &[i64]) -> Self {
        Self {
            input: input.to_vec(),
            weight: weight.to_vec(),
            bias: None,
            rank: None,
            stride: 1.into(),
            padding: Padding::Both(0.into()),
            output_padding: 0.into(),
            dilation: 1.into(),
            groups: 1,
            layout: Layout::Nchw,
            dtype: Dtype::F32,
            wanted: Wanted::Nothing,
            kernel_shape: None,
            auto_pad: AutoPad::NotSet,
        }
    }

    /// The number of spatial axes, as the name of `ConvTranspose1d/2d/3d` states it. Default: the weights have the right one.
    pub fn rank(self, rank: usize) -> Self {
        Self { rank: Some(rank), ..self }
    }
    /// Shape of the bias, to be checked: `[Cout]` is the only legal one. Whether a plan adds one says its [`crate::Epilogue`].
    pub fn bias(self, shape: &[i64]) -> Self {
        Self { bias: Some(shape.to_vec()), ..self }
    }
    /// Distance of the copies in the output, at least 1.
    pub fn stride(self, stride: impl Into<PerAxis>) -> Self {
        Self { stride: stride.into(), ..self }
    }
    /// Outputs cropped at the begin and at the end of each axis: one value, or one for each axis (PyTorch's `padding`).
    pub fn padding(self, padding: impl Into<PerAxis>) -> Self {
        Self { padding: Padding::Both(padding.into()), ..self }
    }
    /// Crops of all begins, then of all ends (ONNX's `pads`): two for each axis.
    pub fn pads(self, pads: &[i64]) -> Self {
        Self { padding: Padding::BeginsThenEnds(pads.to_vec()), ..self }
    }
    /// Outputs added at the end; smaller than stride or dilation.
    pub fn output_padding(self, output_padding: impl Into<PerAxis>) -> Self {
        Self { output_padding: output_padding.into(), ..self }
    }
    /// Distance of the taps, at least 1 (dense).
    pub fn dilation(self, dilation: impl Into<PerAxis>) -> Self {
        Self { dilation: dilation.into(), ..self }
    }
    /// Groups; they divide both channel counts.
    pub fn groups(self, groups: i64) -> Self {
        Self { groups, ..self }
    }
    /// How input and output lie in memory.
    pub fn layout(self, layout: Layout) -> Self {
        Self { layout, ..self }
    }
    /// The element type that [`Limits::max_bytes`] is counted in.
    pub fn dtype(self, dtype: Dtype) -> Self {
        Self { dtype, ..self }
    }
    /// PyTorch's `output_size`, spatial or with N and C in front: replaces the output padding by what reaches that size,
    /// `min ..= min + max(stride, dilation) − 1`, where `min` is the size without output padding. (PyTorch itself stops at
    /// `min + stride − 1`, although it takes the larger output padding when it is stated as such.)
    pub fn output_size(self, size: &[i64]) -> Self {
        Self { wanted: Wanted::Size(size.to_vec()), ..self }
    }
    /// ONNX's `output_shape`, spatial or with N and C in front: replaces the padding by what reaches that size, split as
    /// `auto_pad` says ([`crate::problem::auto_pad`]). The later one of `output_size` and `output_shape` holds.
    pub fn output_shape(self, shape: &[i64]) -> Self {
        Self { wanted: Wanted::Shape(shape.to_vec()), ..self }
    }
    /// ONNX's `kernel_shape`: must repeat the spatial sizes of the weights.
    pub fn kernel_shape(self, shape: &[i64]) -> Self {
        Self { kernel_shape: Some(shape.to_vec()), ..self }
    }
    /// ONNX's `auto_pad`; anything but `NotSet` replaces the padding.
    pub fn auto_pad(self, auto_pad: AutoPad) -> Self {
        Self { auto_pad, ..self }
    }

    /// Checks everything: the only arithmetic on unchecked numbers. Allocates nothing that grows with the sizes.
    pub fn check(&self, limits: Limits) -> Result<Problem, Error> {
        let rank = self.checked_rank()?;
        for (tensor, shape) in [("input", &self.input), ("weight", &self.weight)] {
            if let Some(axis) = shape.iter().position(|&d| d < 0) {
                return Err(Error::NegativeDimension { tensor, axis, value: shape[axis] });
            }
        }
        let numbers = self.numbers(rank)?;
        let (in_channels, out_channels) = self.checked_channels()?;
        for axis in 0..rank {
            if self.input[2 + axis] == 0 {
                return Err(Error::EmptySpatial { axis });
            }
            if self.weight[2 + axis] == 0 {
                return Err(Error::EmptyKernel { axis });
            }
        }
        if let Some(attribute) = &self.kernel_shape
            && attribute[..] != self.weight[2..]
        {
            let weight = self.weight[2..].to_vec();
            return Err(Error::KernelShapeMismatch { attribute: attribute.clone(), weight });
        }
        if let Some(bias) = &self.bias
            && bias[..] != [out_channels]
        {
            return Err(Error::BiasShapeMismatch { got: bias.clone(), expected: out_channels });
        }
        let mut axes = Vec::with_capacity(rank);
        for (axis, numbers) in numbers.into_iter().enumerate() {
            axes.push(self.axis(axis, numbers)?);
        }
        let [batch, cin, cout, groups] = [self.input[0], in_channels, out_channels, self.groups]
            .map(|value| to_usize("batch or channels", value.into()));
        let problem = Problem::new(batch?, cin?, cout?, groups?, &axes, self.layout)?;
        self.check_bytes(&problem, limits)?;
        Ok(problem)
    }

    fn checked_rank(&self) -> Result<usize, Error> {
        let (input, weight) = (self.input.len(), self.weight.len());
        // Without a stated rank the weights have it: a layer owns its weights, inputs come and go.
        let of_weight = if (3..=5).contains(&weight) { weight - 2 } else { input.saturating_sub(2) };
        let rank = self.rank.unwrap_or(of_weight);
        if !(1..=3).contains(&rank) || input != rank + 2 {
            let got = if (1..=3).contains(&rank) { input } else { rank.saturating_add(2) };
            return Err(Error::InputRankMismatch {
                got,
                expected: match rank {
                    1..=3 => format!("{} (batch, channels, {rank} spatial)", rank + 2),
                    _ => "3 to 5 (batch, channels, one to three spatial)".into(),
                },
            });
        }
        if weight != rank + 2 {
            return Err(self.weight_mismatch(format!("{} dimensions", rank + 2)));
        }
        Ok(rank)
    }

    fn weight_mismatch(&self, expected: String) -> Error {
        Error::WeightShapeMismatch { got: self.weight.clone(), expected }
    }

    /// Signs and list lengths of the parameters.
    fn numbers(&self, rank: usize) -> Result<Vec<Numbers>, Error> {
        if self.groups < 1 {
            return Err(Error::GroupsNotPositive { value: self.groups });
        }
        let strides = self.stride.expand("stride", rank)?;
        let output_paddings = self.output_padding.expand("output_padding", rank)?;
        let dilations = self.dilation.expand("dilation", rank)?;
        let pads = match &self.padding {
            Padding::Both(padding) => padding.expand("padding", rank)?.repeat(2),
            Padding::BeginsThenEnds(pads) if pads.len() == 2 * rank => pads.clone(),
            Padding::BeginsThenEnds(pads) => {
                return Err(Error::ParamArity { name: "pads", got: pads.len(), expected: 2 * rank });
            }
        };
        let wanted = match &self.wanted {
            Wanted::Nothing => None,
            Wanted::Size(sizes) => Some(("output_size", sizes)),
            Wanted::Shape(sizes) => Some(("output_shape", sizes)),
        };
        let wanted = match wanted {
            None => None,
            Some((_, sizes)) if sizes.len() == rank => Some(&sizes[..]),
            Some((_, sizes)) if sizes.len() == rank + 2 => Some(&sizes[2..]),
            Some((name, sizes)) => {
                return Err(Error::ParamArity { name, got: sizes.len(), expected: rank });
            }
        };
        let mut numbers = Vec::with_capacity(rank);
        for axis in 0..rank {
            let n = Numbers {
                stride: strides[axis],
                pads: (pads[axis], pads[rank + axis]),
                output_padding: output_paddings[axis],
                dilation: dilations[axis],
                wanted: wanted.map(|sizes| sizes[axis]),
            };
            if n.stride < 1 {
                return Err(Error::StrideNotPositive { axis, value: n.stride });
            }
            if let Some(value) = [n.pads.0, n.pads.1].into_iter().find(|&p| p < 0) {
                return Err(Error::NegativePadding { axis, value });
            }
            if n.output_padding < 0 {
                return Err(Error::NegativeOutputPadding { axis, value: n.output_padding });
            }
            if n.dilation < 1 {
                return Err(Error::DilationNotPositive { axis, value: n.dilation });
            }
            numbers.push(n);
        }
        Ok(numbers)
    }

    /// (Cin, Cout), in the order in which a reader would look: present, of the weights, divisible.
    fn checked_channels(&self) -> Result<(i64, i64), Error> {
        let (cin, group_out) = (self.input[1], self.weight[1]);
        for (which, channels) in [("input", cin), ("output", group_out)] {
            if channels == 0 {
                return Err(Error::ZeroChannels { which });
            }
        }
        if self.weight[0] != cin {
            return Err(self.weight_mismatch(format!("{cin} (input channels) in front")));
        }
        if cin % self.groups != 0 {
            return Err(Error::ChannelsNotDivisible {
                channels: to_usize("input channels", cin.into())?,
                groups: to_usize("groups", self.groups.into())?,
            });
        }
        let cout = group_out.checked_mul(self.groups).ok_or_else(|| Error::SizeOverflow {
            what: "output channels",
            detail: format!("{group_out} for each of {} groups", self.groups),
        })?;
        Ok((cin, cout))
    }

    /// Turns wanted sizes and `auto_pad` into padding and output padding. `i128` holds every sum of two products of `i64`.
    fn axis(&self, axis: usize, n: Numbers) -> Result<Axis, Error> {
        let [input, kernel, stride, dilation] =
            [self.input[2 + axis], self.weight[2 + axis], n.stride, n.dilation].map(i128::from);
        let shape = matches!(self.wanted, Wanted::Shape(_));
        // PyTorch's output_size replaces the output padding.
        let stated = if shape || n.wanted.is_none() { i128::from(n.output_padding) } else { 0 };
        let full = (input - 1) * stride + (kernel - 1) * dilation + 1 + stated;
        let most_added = stride.max(dilation) - 1;
        let wanted = n.wanted.map(i128::from);
        let unreachable = |requested: i128, min: i128, max: i128| Error::OutputSizeUnreachable {
            axis,
            requested: saturate(requested),
            min: saturate(min),
            max: saturate(max),
        };

        let explicit = (i128::from(n.pads.0), i128::from(n.pads.1));
        let (begin, mut end) =
            self.auto_pad.crop(full, wanted.filter(|_| shape), input * stride).unwrap_or(explicit);
        let mut added = stated;
        if end < 0 {
            (added, end) = (added - end, 0);
        }
        let bare = full - stated - begin - end; // the size without output padding
        match wanted {
            Some(requested) if shape && requested < 1 => {
                return Err(unreachable(requested, 1, full - stated + most_added));
            }
            Some(requested) if !shape => {
                added = requested - bare;
                if !(0..=most_added).contains(&added) {
                    return Err(unreachable(requested, bare, bare + most_added));
                }
            }
            _ => {}
        }
        if begin < 0 {
            return Err(unreachable(bare + added, 1, full));
        }
        if added > most_added && added != stated {
            return Err(unreachable(bare + added, 1, full - stated + most_added));
        }
        Ok(Axis {
            input: to_usize("input size", input)?,
            kernel: to_usize("kernel size", kernel)?,
            stride: to_usize("stride", stride)?,
            padding: (to_usize("padding", begin)?, to_usize("padding", end)?),
            output_padding: to_usize("output padding", added)?,
            dilation: to_usize("dilation", dilation)?,
        })
    }

    fn check_bytes(&self, problem: &Problem, limits: Limits) -> Result<(), Error> {
        let bias = if self.bias.is_some() { problem.out_channels() } else { 0 };
        let [input, weights, output] = lengths(problem)?;
        // Four lengths that each fit 60 bits.
        let bytes = [input, weights, bias, output].map(|n| n as u128 * self.dtype.size() as u128);
        let sum: u128 = bytes.iter().sum();
        if sum > limits.max_bytes as u128 {
            let [input, weights, bias, output] = bytes;
            return Err(Error::SizeOverflow {
                what: "problem",
                detail: format!(
                    "{sum} bytes (input {input}, weights {weights}, bias {bias}, output {output}), limit {}",
                    limits.max_bytes
                ),
            });
        }
        Ok(())
    }
}

/// The parameters of one axis, with their signs checked.
struct Numbers {
    stride: i64,
    pads: (i64, i64),
    output_padding: i64,
    dilation: i64,
    wanted: Option<i64>,
}

fn to_usize(what: &'static str, value: i128) -> Result<usize, Error> {
    usize::try_from(value).map_err(|_| Error::SizeOverflow { what, detail: value.to_string() })
}

fn saturate(value: i128) -> i64 {
    value.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}
