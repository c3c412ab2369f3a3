//! Every refusal, typed, with the numbers that caused it.

use std::fmt;

use crate::machine::tensor::Dtype;
use crate::problem::epilogue::Activation;

/// Why a request was refused. Spatial axes are counted from the outermost one (D, H, W).
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are the numbers of the message
pub enum Error {
    /// A stride below 1.
    #[error("stride {value} on spatial axis {axis} is not positive")]
    StrideNotPositive { axis: usize, value: i64 },
    /// A padding (crop) below 0.
    #[error("padding {value} on spatial axis {axis} is negative")]
    NegativePadding { axis: usize, value: i64 },
    /// An output padding below 0.
    #[error("output padding {value} on spatial axis {axis} is negative")]
    NegativeOutputPadding { axis: usize, value: i64 },
    /// A dilation below 1 (1 = dense).
    #[error("dilation {value} on spatial axis {axis} is not positive")]
    DilationNotPositive { axis: usize, value: i64 },
    /// A number of groups below 1.
    #[error("groups {value} is not positive")]
    GroupsNotPositive { value: i64 },
    /// Channels that the groups do not divide.
    #[error("{channels} input channels are not divisible by {groups} groups")]
    ChannelsNotDivisible { channels: usize, groups: usize },
    /// Output padding must be smaller than the stride or the dilation.
    #[error(
        "output padding {output_padding} on spatial axis {axis} must be smaller than stride {stride} or dilation {dilation}"
    )]
    OutputPaddingTooLarge { axis: usize, output_padding: usize, stride: usize, dilation: usize },
    /// Nothing is left of the output after the crop.
    #[error("output size {size} on spatial axis {axis} is not positive")]
    OutputSizeNotPositive { axis: usize, size: i64 },
    /// The weight tensor does not fit the input: `[Cin, Cout/groups, kernel…]` is expected.
    #[error("weight shape {got:?} does not fit: expected {expected}")]
    WeightShapeMismatch { got: Vec<i64>, expected: String },
    /// The bias is not one value for each output channel.
    #[error("bias shape {got:?}: expected [{expected}]")]
    BiasShapeMismatch { got: Vec<i64>, expected: i64 },
    /// Input is not `[N, C, spatial…]` with one to three spatial axes, or not of the weight's rank.
    #[error("input of {got} dimensions: expected {expected}")]
    InputRankMismatch { got: usize, expected: String },
    /// A kernel axis of length 0.
    #[error("kernel size on spatial axis {axis} is 0")]
    EmptyKernel { axis: usize },
    /// A spatial input axis of length 0 (a batch of 0 is legal).
    #[error("input size on spatial axis {axis} is 0")]
    EmptySpatial { axis: usize },
    /// A negative size in a shape. Here `axis` counts all axes of the tensor.
    #[error("size {value} on axis {axis} of the {tensor} is negative")]
    NegativeDimension { tensor: &'static str, axis: usize, value: i64 },
    /// No input or no output channels.
    #[error("number of {which} channels is 0")]
    ZeroChannels { which: &'static str },
    /// A list with neither one value nor one for each spatial axis.
    #[error("{name} has {got} values: expected 1 or {expected}")]
    ParamArity { name: &'static str, got: usize, expected: usize },
    /// A size that does not fit the integer types, or passes `Limits::max_bytes`.
    #[error("{what} is too large: {detail}")]
    SizeOverflow { what: &'static str, detail: String },
    /// A buffer of the wrong number of elements.
    #[error("{which} buffer has {got} elements: expected {expected}")]
    BufferLenMismatch { which: &'static str, got: usize, expected: usize },
    /// `SAME_UPPER` / `SAME_LOWER` without a named convention (ONNX and ONNX Runtime differ), or no such mode.
    #[error("auto_pad {mode} is {problem}")]
    AutoPadUnsupported { mode: String, problem: &'static str },
    /// The `kernel_shape` attribute disagrees with the weight tensor.
    #[error("kernel_shape {attribute:?} disagrees with the weight's spatial shape {weight:?}")]
    KernelShapeMismatch { attribute: Vec<i64>, weight: Vec<i64> },
    /// A tensor with other channels than planned.
    #[error("input has {got} channels: planned for {expected}")]
    ChannelMismatch { got: usize, expected: usize },
    /// A tensor of another shape than planned (channels first, whatever the layout).
    #[error("input shape {got:?}: planned for {expected:?}")]
    InputShapeMismatch { got: Vec<usize>, expected: Vec<usize> },
    /// An output size that no output padding reaches.
    #[error("output size {requested} on spatial axis {axis} is out of reach: {min} to {max}")]
    OutputSizeUnreachable { axis: usize, requested: i64, min: i64, max: i64 },
    /// An activation whose parameters are no numbers, or in the wrong order.
    #[error("activation {activation:?}: {problem}")]
    Activation { activation: Activation, problem: &'static str },
    /// The allocator refused.
    #[error("out of memory: {bytes} bytes for {what}")]
    OutOfMemory { what: &'static str, bytes: usize },
    /// A tensor of another type than planned.
    #[error("{which} is {got}: expected {expected}")]
    DtypeMismatch { which: &'static str, got: Dtype, expected: Dtype },
    /// An instruction set that is unknown, or that this CPU lacks.
    #[error("instruction set '{name}': {problem} (available: {available})")]
    Isa { name: String, problem: &'static str, available: String },
    /// A text that is no descriptor.
    #[error("descriptor '{text}': {problem}")]
    Descriptor { text: String, problem: String },
    /// No kernel of that name is registered.
    #[error("no kernel '{name}' (registered: {registered})")]
    UnknownKernel { name: String, registered: String },
    /// The kernel has no variant of that name for this request.
    #[error("kernel '{kernel}' has no variant '{name}' here (it has: {available})")]
    UnknownVariant { kernel: String, name: String, available: String },
    /// A pinned choice that cannot be planned as it was pinned.
    #[error("pinned layer {layer}: {problem}")]
    PinBroken { layer: String, problem: String },
    /// A file of choices that cannot be read.
    #[error("cannot read the choices in {path}: {problem}")]
    Choices { path: String, problem: String },
    /// Every kernel declined; the reasons of all.
    #[error("no kernel takes this problem: {reasons}")]
    NoKernel { reasons: String },
}

impl Error {
    /// The name of the class alone, as in the conformance set (`"StrideNotPositive"`).
    pub fn class(&self) -> String {
        struct Name(String);
        impl fmt::Write for Name {
            fn write_str(&mut self, s: &str) -> fmt::Result {
                let word = s.split(|c: char| !c.is_alphanumeric()).next().unwrap_or("");
                self.0.push_str(word);
                // The variant's name comes first: stop at the first other character.
                if word.len() < s.len() { Err(fmt::Error) } else { Ok(()) }
            }
        }
        let mut name = Name(String::new());
        let _ = fmt::Write::write_fmt(&mut name, format_args!("{self:?}"));
        name.0
    }
}

/// [`Error::BufferLenMismatch`] unless both are equal.
pub(crate) fn expect_len(which: &'static str, got: usize, expected: usize) -> Result<(), Error> {
    if got == expected { Ok(()) } else { Err(Error::BufferLenMismatch { which, got, expected }) }
}
