//! ONNX's `auto_pad` and `output_shape`: from a wanted output size to a crop on both sides.
//!
//! All of them compute `total = S·(I − 1) + op + D·(K − 1) + 1 − O` and split it; they differ in the odd element and below 0.
//!
//! | | wanted O under `SAME_*` | `SAME_UPPER` | `SAME_LOWER`, and `output_shape` under `NOTSET` | total < 0 |
//! |---|---|---|---|---|
//! | [`Convention::Onnx`] | I·S | begin = ⌊total/2⌋ | end = ⌊total/2⌋ | same split: the sides grow |
//! | [`Convention::OnnxRuntime`] | I·S | begin = ⌊total/2⌋ | end = ⌊total/2⌋ | no crop: `SAME_*` gives the full size; what `output_shape` lacks is added at the end |
//! | [`Convention::OnnxRuntimeTo112`] | I·S | end = ⌊total/2⌋ | begin = ⌊total/2⌋ | as `OnnxRuntime` |
//!
//! Where the facts come from: the operator text of ONNX (versions 11 and 22; version 1 states the halves the other way round,
//! onnx/onnx#1609) and its reference evaluator, run in version 1.23.2; `ComputeTotalPad` and `DistributePadding` of ONNX
//! Runtime, run in version 1.32.0; microsoft/onnxruntime#12537, which swapped the halves in 1.13. ONNX's own shape
//! inference disagrees with its reference evaluator where `output_padding` > 0 (I·S + op) or total < 0.

use crate::error::Error;

/// Whose reading of `SAME_UPPER` and `SAME_LOWER` (table in the module's text).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Convention {
    /// The ONNX operator text from opset 11 on, and its reference evaluator.
    Onnx,
    /// ONNX Runtime since version 1.13.
    OnnxRuntime,
    /// ONNX Runtime up to version 1.12: the odd element on the other side.
    OnnxRuntimeTo112,
}

/// ONNX's `auto_pad` attribute. Anything but `NotSet` replaces the explicit padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AutoPad {
    /// Explicit padding.
    #[default]
    NotSet,
    /// No padding.
    Valid,
    /// Output = input · stride; the odd element is cropped at the end (under [`Convention::Onnx`]).
    SameUpper(Convention),
    /// Output = input · stride; the odd element is cropped at the begin (under [`Convention::Onnx`]).
    SameLower(Convention),
}

impl AutoPad {
    /// From the text of the attribute. `SAME_UPPER` and `SAME_LOWER` without a convention, and unknown texts:
    /// [`Error::AutoPadUnsupported`].
    pub fn parse(text: &str, convention: Option<Convention>) -> Result<Self, Error> {
        let refuse = |problem| Error::AutoPadUnsupported { mode: text.into(), problem };
        let named = convention.ok_or_else(|| refuse("ambiguous: name the convention, or give explicit pads"));
        match text {
            "NOTSET" | "" => Ok(Self::NotSet),
            "VALID" => Ok(Self::Valid),
            "SAME_UPPER" => named.map(Self::SameUpper),
            "SAME_LOWER" => named.map(Self::SameLower),
            _ => Err(refuse("unknown: NOTSET, VALID, SAME_UPPER or SAME_LOWER is expected")),
        }
    }

    /// The crop at begin and end of an axis whose uncropped output has `full` elements and which shall have `wanted`
    /// (`None`: what the mode itself wants, for SAME_* that is `same`). A negative crop extends that side.
    /// `None`: explicit padding holds.
    pub(super) fn crop(self, full: i128, wanted: Option<i128>, same: i128) -> Option<(i128, i128)> {
        let convention = match self {
            Self::SameUpper(convention) | Self::SameLower(convention) => convention,
            Self::NotSet | Self::Valid => Convention::Onnx,
        };
        let total = match (self, wanted) {
            (_, Some(wanted)) => full - wanted,
            (Self::SameUpper(_) | Self::SameLower(_), None) => full - same,
            (Self::Valid, None) => 0,
            (Self::NotSet, None) => return None,
        };
        if total < 0 && convention != Convention::Onnx {
            return Some((0, if wanted.is_some() { total } else { 0 }));
        }
        let small = total.div_euclid(2);
        let upper = matches!(self, Self::SameUpper(_)) != (convention == Convention::OnnxRuntimeTo112);
        Some(if upper { (small, total - small) } else { (total - small, small) })
    }
}
