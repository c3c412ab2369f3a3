//! The checked problem: plain data that every later step may trust.

use crate::error::Error;

/// One spatial axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Axis {
    /// Input elements (I).
    pub input: usize,
    /// Kernel taps (K).
    pub kernel: usize,
    /// Distance of the copies in the output (S).
    pub stride: usize,
    /// Outputs cropped at the begin and at the end.
    pub padding: (usize, usize),
    /// Outputs added at the end; smaller than stride or dilation.
    pub output_padding: usize,
    /// Distance of the taps (D); 1 = dense.
    pub dilation: usize,
}

impl Axis {
    /// What an unused leading axis holds: it changes nothing.
    pub const UNIT: Self =
        Self { input: 1, kernel: 1, stride: 1, padding: (0, 0), output_padding: 0, dilation: 1 };

    /// A dense axis without padding; change the fields that differ.
    pub const fn new(input: usize, kernel: usize, stride: usize) -> Self {
        Self { input, kernel, stride, ..Self::UNIT }
    }

    /// O = (I − 1)·S + D·(K − 1) + 1 + op − pb − pe, in checked arithmetic; may be ≤ 0.
    /// `None`: a term does not fit 63 bits.
    pub fn output(&self) -> Option<i64> {
        let int = |v: usize| i64::try_from(v).ok();
        let reach = (int(self.input)? - 1).checked_mul(int(self.stride)?)?;
        let span = (int(self.kernel)? - 1).checked_mul(int(self.dilation)?)?;
        let full = reach.checked_add(span)?.checked_add(1)?.checked_add(int(self.output_padding)?)?;
        let crop = int(self.padding.0)?.checked_add(int(self.padding.1)?)?;
        full.checked_sub(crop)
    }
}

/// Order of the axes of input and output. Weights are `[Cin, Cout/groups, D, H, W]` in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Layout {
    /// `[N, C, D, H, W]`, channels first (NCW, NCHW, NCDHW).
    #[default]
    Nchw,
    /// `[N, D, H, W, C]`, channels last (NWC, NHWC, NDHWC).
    Nhwc,
}

impl Layout {
    /// Both, for whoever wants to try all.
    pub const ALL: [Self; 2] = [Self::Nchw, Self::Nhwc];

    /// `"nchw"` or `"nhwc"`, whatever the rank.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nchw => "nchw",
            Self::Nhwc => "nhwc",
        }
    }

    /// The inverse of [`Layout::name`].
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|l| l.name() == name)
    }
}

/// What an answer may cost in exactness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Accuracy {
    /// Direct summation only; NaN and infinities exactly where IEEE arithmetic puts them.
    Strict,
    /// Error at most [`Accuracy::STANDARD_GROWTH`] times the bound of direct summation; a NaN or infinity never vanishes, but may
    /// spread to neighbouring outputs.
    #[default]
    Standard,
    /// Only the norm of the error is bounded.
    Normwise,
}

impl Accuracy {
    /// All, the most exact first.
    pub const ALL: [Self; 3] = [Self::Strict, Self::Standard, Self::Normwise];

    /// How many times the bound of direct summation [`Accuracy::Standard`] allows.
    pub const STANDARD_GROWTH: f64 = 4.0;

    /// `"strict"`, `"standard"` or `"normwise"`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Standard => "standard",
            Self::Normwise => "normwise",
        }
    }

    /// The inverse of [`Accuracy::name`].
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.name() == name)
    }
}

/// A transposed convolution, checked: made by [`crate::Spec::check`] or [`Problem::new`].
///
/// `y[n, g·co + c, i·S + k·D − pb] += x[n, g·ci + j, i] · w[g·ci + j, c, k]` on every axis, for all pairs (i, k)
/// that land inside the output; then the epilogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Problem {
    batch: usize,
    in_channels: usize,
    out_channels: usize,
    groups: usize,
    rank: usize,
    axes: [Axis; 3],
    layout: Layout,
}

impl Problem {
    /// Checks channels, groups and every axis. `axes`: one to three spatial axes, outermost first.
    pub fn new(
        batch: usize,
        in_channels: usize,
        out_channels: usize,
        groups: usize,
        axes: &[Axis],
        layout: Layout,
    ) -> Result<Self, Error> {
        if axes.is_empty() || axes.len() > 3 {
            return Err(Error::InputRankMismatch {
                got: axes.len() + 2,
                expected: "3 to 5 (batch, channels, one to three spatial axes)".into(),
            });
        }
        for (which, channels) in [("input", in_channels), ("output", out_channels)] {
            if channels == 0 {
                return Err(Error::ZeroChannels { which });
            }
        }
        if groups == 0 {
            return Err(Error::GroupsNotPositive { value: 0 });
        }
        for channels in [in_channels, out_channels] {
            if channels % groups != 0 {
                return Err(Error::ChannelsNotDivisible { channels, groups });
            }
        }
        for (axis, a) in axes.iter().enumerate() {
            if a.input == 0 {
                return Err(Error::EmptySpatial { axis });
            }
            if a.kernel == 0 {
                return Err(Error::EmptyKernel { axis });
            }
            if a.stride == 0 {
                return Err(Error::StrideNotPositive { axis, value: 0 });
            }
            if a.dilation == 0 {
                return Err(Error::DilationNotPositive { axis, value: 0 });
            }
            if a.output_padding > 0 && a.output_padding >= a.stride.max(a.dilation) {
                return Err(Error::OutputPaddingTooLarge {
                    axis,
                    output_padding: a.output_padding,
                    stride: a.stride,
                    dilation: a.dilation,
                });
            }
            match a.output() {
                None => {
                    return Err(Error::SizeOverflow {
                        what: "output size",
                        detail: format!("axis {axis}: {a:?}"),
                    });
                }
                Some(size) if size <= 0 => return Err(Error::OutputSizeNotPositive { axis, size }),
                Some(_) => {}
            }
        }
        let mut all = [Axis::UNIT; 3];
        all[3 - axes.len()..].copy_from_slice(axes);
        Ok(Self { batch, in_channels, out_channels, groups, rank: axes.len(), axes: all, layout })
    }

    /// Images (N); 0 is legal.
    pub fn batch(&self) -> usize {
        self.batch
    }
    /// Input channels (Cin).
    pub fn in_channels(&self) -> usize {
        self.in_channels
    }
    /// Output channels (Cout).
    pub fn out_channels(&self) -> usize {
        self.out_channels
    }
    /// Groups (G); they divide both channel counts.
    pub fn groups(&self) -> usize {
        self.groups
    }
    /// Spatial axes as stated: 1, 2 or 3.
    pub fn rank(&self) -> usize {
        self.rank
    }
    /// Always three axes (D, H, W): unused leading ones are [`Axis::UNIT`].
    pub fn axes(&self) -> &[Axis; 3] {
        &self.axes
    }
    /// The axes as stated.
    pub fn spatial(&self) -> &[Axis] {
        &self.axes[3 - self.rank..]
    }
    /// Order of the axes in memory.
    pub fn layout(&self) -> Layout {
        self.layout
    }
    /// The same problem in another layout.
    pub fn with_layout(self, layout: Layout) -> Self {
        Self { layout, ..self }
    }
    /// The same problem with another batch.
    pub fn with_batch(self, batch: usize) -> Self {
        Self { batch, ..self }
    }
    /// Input channels of one group (ci).
    pub fn group_in(&self) -> usize {
        self.in_channels / self.groups
    }
    /// Output channels of one group (co).
    pub fn group_out(&self) -> usize {
        self.out_channels / self.groups
    }
}
