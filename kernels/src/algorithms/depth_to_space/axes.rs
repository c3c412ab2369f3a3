//! Axes whose kernels do not overlap: output u = o + crop belongs to input u / S alone, through tap u mod S.

use crate::contract::request::Declined;
use crate::problem::geometry::{AxisGeometry, Geometry};

/// One axis.
#[derive(Debug, Clone, Copy)]
pub struct DisjointAxis {
    /// Phases (S).
    pub stride: usize,
    /// Taps (K ≤ S): the first phases have one each.
    pub kernel: usize,
    /// Cropped outputs at the begin.
    pub crop: usize,
    /// Outputs.
    pub output: usize,
    /// Inputs.
    pub input: usize,
}

impl DisjointAxis {
    fn new(number: usize, axis: &AxisGeometry) -> Result<Self, Declined> {
        let a = &axis.axis;
        if a.kernel > 1 && (a.kernel > a.stride || a.dilation > 1) {
            return Err(Declined::because(format!(
                "kernel {} with stride {} and dilation {} on axis {number}: outputs are sums of several products",
                a.kernel, a.stride, a.dilation
            )));
        }
        let (all, needed) = (a.input * a.stride, a.padding.0 + axis.output);
        if needed > all {
            return Err(Declined::because(format!(
                "axis {number} has {} outputs beyond the {all} of its inputs",
                needed - all
            )));
        }
        Ok(Self {
            stride: a.stride,
            kernel: a.kernel,
            crop: a.padding.0,
            output: axis.output,
            input: a.input,
        })
    }

    /// Whether every input has all its outputs.
    pub fn is_whole(&self) -> bool {
        self.crop == 0 && self.output == self.input * self.stride
    }

    /// Output of phase `rho` of input `i`, if it is one.
    pub fn output_of(&self, i: usize, rho: usize) -> Option<usize> {
        (i * self.stride + rho).checked_sub(self.crop).filter(|&o| o < self.output)
    }
}

/// All three, and how many pixels of all images there are.
#[derive(Debug, Clone, Copy)]
pub struct Axes {
    pub z: DisjointAxis,
    pub y: DisjointAxis,
    pub x: DisjointAxis,
    /// Inputs of one channel of one image.
    pub plane: usize,
}

/// A pixel: image, z, y, x.
#[derive(Debug, Clone, Copy)]
pub struct Pixel {
    pub n: usize,
    pub z: usize,
    pub y: usize,
    pub x: usize,
}

impl Axes {
    pub fn new(g: &Geometry) -> Result<Self, Declined> {
        let axis = |a: usize| DisjointAxis::new(a, &g.axes()[a]);
        Ok(Self { z: axis(0)?, y: axis(1)?, x: axis(2)?, plane: g.input_plane() })
    }

    pub fn is_whole(&self) -> bool {
        self.rows_are_whole() && self.x.is_whole()
    }

    /// Whether the phases along z and y of a pixel lie alike: nothing is cropped there.
    pub fn rows_are_whole(&self) -> bool {
        self.z.is_whole() && self.y.is_whole()
    }

    /// Number `i` of all pixels, image after image.
    pub fn pixel(&self, i: usize) -> Pixel {
        let (row, x) = (i / self.x.input, i % self.x.input);
        let (plane, y) = (row / self.y.input, row % self.y.input);
        Pixel { n: plane / self.z.input, z: plane % self.z.input, y, x }
    }

    /// The same one row further on, at its begin.
    pub fn next_row(&self, p: Pixel) -> Pixel {
        let mut next = Pixel { x: 0, y: p.y + 1, ..p };
        if next.y == self.y.input {
            (next.y, next.z) = (0, p.z + 1);
        }
        if next.z == self.z.input {
            (next.z, next.n) = (0, p.n + 1);
        }
        next
    }

    /// Phases along z and y.
    pub fn phases(&self) -> usize {
        self.z.stride * self.y.stride
    }

    /// Number of phase (z, y) among those that have a tap.
    pub fn with_tap(&self, z: usize, y: usize) -> Option<usize> {
        (z < self.z.kernel && y < self.y.kernel).then_some(z * self.y.kernel + y)
    }
}
