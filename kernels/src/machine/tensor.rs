//! Element types and dtype-tagged slices: one registry of kernels serves all of them.

use std::fmt;

use crate::error::Error;

/// An element type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE binary32.
    F32,
    /// IEEE binary64.
    F64,
}

impl Dtype {
    /// `"f32"` or `"f64"`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }

    /// The inverse of [`Dtype::name`].
    pub fn parse(name: &str) -> Option<Self> {
        [Self::F32, Self::F64].into_iter().find(|d| d.name() == name)
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// Unit roundoff u: half the distance from 1 to the next number.
    pub fn unit_roundoff(self) -> f64 {
        match self {
            Self::F32 => f32::EPSILON as f64 / 2.0,
            Self::F64 => f64::EPSILON / 2.0,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// f32 or f64.
pub trait Element:
    sealed::Sealed
    + bytemuck::Pod
    + Default
    + PartialOrd
    + fmt::Debug
    + Send
    + Sync
    + 'static
    + std::ops::Add<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::AddAssign
{
    /// The tag of this type.
    const DTYPE: Dtype;
    /// Rounded from f64.
    fn from_f64(x: f64) -> Self;
    /// Exactly as f64.
    fn to_f64(self) -> f64;
    /// Tags a slice.
    fn tensor(data: &[Self]) -> Tensor<'_>;
    /// Tags a mutable slice.
    fn tensor_mut(data: &mut [Self]) -> TensorMut<'_>;
    /// The slice behind a tag, if it is of this type.
    fn slice<'a>(tensor: &Tensor<'a>) -> Option<&'a [Self]>;
    /// The mutable slice behind a tag, if it is of this type.
    fn slice_mut<'a>(tensor: TensorMut<'a>) -> Option<&'a mut [Self]>;
}

macro_rules! element {
    ($type:ty, $tag:ident) => {
        impl Element for $type {
            const DTYPE: Dtype = Dtype::$tag;
            #[inline(always)]
            fn from_f64(x: f64) -> Self {
                x as $type
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            fn tensor(data: &[Self]) -> Tensor<'_> {
                Tensor::$tag(data)
            }
            fn tensor_mut(data: &mut [Self]) -> TensorMut<'_> {
                TensorMut::$tag(data)
            }
            fn slice<'a>(tensor: &Tensor<'a>) -> Option<&'a [Self]> {
                match tensor {
                    Tensor::$tag(data) => Some(data),
                    _ => None,
                }
            }
            fn slice_mut<'a>(tensor: TensorMut<'a>) -> Option<&'a mut [Self]> {
                match tensor {
                    TensorMut::$tag(data) => Some(data),
                    _ => None,
                }
            }
        }
    };
}
element!(f32, F32);
element!(f64, F64);

/// A read-only buffer with its type.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub enum Tensor<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
}

impl<'a> Tensor<'a> {
    /// Its element type.
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::F64(_) => Dtype::F64,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(d) => d.len(),
            Self::F64(d) => d.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The slice, or an error that names both types.
    pub fn typed<T: Element>(&self, which: &'static str) -> Result<&'a [T], Error> {
        T::slice(self).ok_or(Error::DtypeMismatch { which, got: self.dtype(), expected: T::DTYPE })
    }

    /// Element `i` as f64.
    pub fn get(&self, i: usize) -> f64 {
        match self {
            Self::F32(d) => f64::from(d[i]),
            Self::F64(d) => d[i],
        }
    }

    /// Whether no element is NaN or infinite.
    pub fn all_finite(&self) -> bool {
        match self {
            Self::F32(d) => all(d, |x| x.is_finite()),
            Self::F64(d) => all(d, |x| x.is_finite()),
        }
    }
}

/// Whether `holds` for all; some at a time without a branch, which the compiler makes vectors of.
pub fn all<T>(data: &[T], holds: impl Fn(&T) -> bool) -> bool {
    const SOME: usize = 256;
    data.chunks(SOME).all(|some| some.iter().fold(true, |all, x| all & holds(x)))
}

/// A buffer to write, with its type. What it held before is never read.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum TensorMut<'a> {
    F32(&'a mut [f32]),
    F64(&'a mut [f64]),
}

impl TensorMut<'_> {
    /// Its element type.
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::F64(_) => Dtype::F64,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(d) => d.len(),
            Self::F64(d) => d.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
