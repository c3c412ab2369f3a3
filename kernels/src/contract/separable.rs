//! Weights that are less than they look: one input channel for each output channel, each kernel an outer product.
//!
//! FCN and DLA upsample by bilinear kernels, `w[y][x] = f[y]·f[x]`; FCN stores them as dense weights, most of whose blocks
//! (all taps of one pair of channels) are zeros. [`Separable`] says whether weights are of this kind, and if not, which
//! channel is the first that is not; [`Factors`] are the lines whose product a block is.

use std::fmt;

use crate::error::{Error, expect_len};
use crate::machine::scratch::filled_vec;
use crate::machine::tensor::{Dtype, Element, all};
use crate::problem::geometry::Geometry;

/// What a scan found. It ends at the first channel that is not of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Separable {
    /// All output channels are.
    Yes {
        /// Blocks that are not zero: at most one for each output channel.
        blocks: usize,
        /// Blocks that are stored.
        stored: usize,
    },
    /// This output channel reads two input channels (numbers among all).
    Mixed {
        /// The output channel.
        output: usize,
        /// The first two input channels whose blocks are not zero.
        inputs: [usize; 2],
    },
    /// The block of these two channels is no outer product within rounding.
    Full {
        /// The output channel.
        output: usize,
        /// The input channel.
        input: usize,
    },
    /// Some weight is NaN or infinite.
    NotFinite,
    /// Of one input channel and one axis: nothing to look for.
    Plain,
}

impl Separable {
    /// Looks at the weights of this problem; of another number it makes an error.
    pub fn scan<T: Element>(geometry: &Geometry, weights: &[T]) -> Result<Self, Error> {
        expect_len("weights", weights.len(), geometry.weight_len())?;
        if geometry.problem().group_in() == 1 && axes(geometry.kernel()) < 2 {
            return Ok(Self::Plain);
        }
        let mut factors = Factors::new(geometry.kernel())?;
        let mut blocks = 0;
        for output in 0..geometry.problem().out_channels() {
            let input = match only_input(geometry, weights, output) {
                Ok(None) => continue,
                Ok(Some(input)) => input,
                Err(inputs) => return Ok(Self::Mixed { output, inputs }),
            };
            if !factors.find(block(geometry, weights, input, output)) {
                return Ok(Self::Full { output, input });
            }
            blocks += 1;
        }
        Ok(Self::Yes { blocks, stored: geometry.problem().in_channels() * geometry.problem().group_out() })
    }
}

impl fmt::Display for Separable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yes { stored: 0, .. } => f.write_str("weights are taken to be outer products"),
            Self::Yes { blocks, stored } => {
                write!(f, "{blocks} of {stored} pairs of channels have weights, outer products all of them")
            }
            Self::Mixed { output, inputs: [a, b] } => {
                write!(f, "output channel {output} reads input channels {a} and {b}: takes one")
            }
            Self::Full { output, input } => {
                write!(f, "the weights of channels {input} → {output} are no outer product")
            }
            Self::NotFinite => f.write_str("factors of weights that are not finite say nothing"),
            Self::Plain => {
                f.write_str("one input channel in a group, and one axis with taps: nothing to separate")
            }
        }
    }
}

/// All taps from an input channel to an output channel of its group (numbers among all), of the weights of this problem.
pub fn block<'w, T>(geometry: &Geometry, weights: &'w [T], input: usize, output: usize) -> &'w [T] {
    let in_group = output % geometry.problem().group_out();
    &weights[geometry.weight_at(input, in_group, [0; 3])..][..geometry.kernel_taps()]
}

/// The one input channel from which an output channel has weights that are not all zero; the first two, if more. Of the weights of this
/// problem.
pub fn only_input<T: Element>(
    geometry: &Geometry,
    weights: &[T],
    output: usize,
) -> Result<Option<usize>, [usize; 2]> {
    let p = geometry.problem();
    let group = output / p.group_out();
    let mut found = None;
    for input in group * p.group_in()..(group + 1) * p.group_in() {
        if !is_zero(block(geometry, weights, input, output)) {
            if let Some(first) = found {
                return Err([first, input]);
            }
            found = Some(input);
        }
    }
    Ok(found)
}

/// Axes with more than one tap.
fn axes(kernel: [usize; 3]) -> usize {
    kernel.iter().filter(|&&taps| taps > 1).count()
}

/// Whether all are 0.
fn is_zero<T: Element>(values: &[T]) -> bool {
    let zero = T::default();
    all(values, |w| *w == zero)
}

/// Three lines, one for each axis, whose outer product a block of weights is.
#[derive(Debug)]
pub struct Factors<'w, T> {
    lines: [Vec<T>; 3],
    /// The block that they were found for: neighbouring channels often share one, and then the work is done.
    found: Option<&'w [T]>,
}

impl<'w, T: Element> Factors<'w, T> {
    /// The growth of the error over direct summation that passes over the axes stay below: each of the n = a·b·c products of
    /// an output is rounded at most a + b + c + 1 times on the way (the 1: where the bias is added without fusing), and with
    /// the deviation of the factors that is less than GROWTH·(n + 1) units.
    pub const GROWTH: f64 = 4.0;

    /// How far products of the factors may lie from the weights, in units of u·|w|, with `axes` axes of more than one tap:
    /// what n = 1 leaves, where the ratio is largest. (A thousandth pays for products of roundings.)
    fn deviation(axes: usize) -> f64 {
        2.0 * Self::GROWTH - 1.001 - axes as f64
    }

    /// Room for the factors of a kernel.
    pub fn new(kernel: [usize; 3]) -> Result<Self, Error> {
        let line = |taps| filled_vec("factors of weights", taps, T::default());
        Ok(Self { lines: [line(kernel[0])?, line(kernel[1])?, line(kernel[2])?], found: None })
    }

    /// The factor of each tap along an axis (z, y, x).
    pub fn line(&self, axis: usize) -> &[T] {
        &self.lines[axis]
    }

    /// Finds the factors of a block of finite weights; false where there are none within rounding.
    ///
    /// They are the lines through the largest weight, divided so that their product there is that weight again: by equal
    /// parts of it if that makes all products exact, as with bilinear kernels whose sizes are powers of two; else all of it
    /// stays with the first axis of (z, x, y) that has several taps. Either way no pass in that order overflows by far
    /// before the sum of products does. Whatever they are, their product is compared with every weight.
    pub fn find(&mut self, block: &'w [T]) -> bool {
        if self.found == Some(block) {
            return true;
        }
        let kernel = [0, 1, 2].map(|axis| self.lines[axis].len());
        let largest = |(at, most): (usize, f64), (i, w): (usize, &T)| {
            let size = w.to_f64().abs();
            if size > most { (i, size) } else { (at, most) }
        };
        let (pivot, size) = block.iter().enumerate().fold((0, 0.0), largest);
        let carrier = [0, 2, 1].into_iter().find(|&axis| kernel[axis] > 1).unwrap_or(2);
        let scale = if size > 0.0 { block[pivot].to_f64() } else { 1.0 };
        let several = axes(kernel);
        // What a line through the largest weight has too much: the equal parts that belong to the other axes.
        let (others, sign) = match several {
            2 => (scale.abs().sqrt(), scale.signum()),
            3 => (scale.abs().cbrt().powi(2), 1.0),
            _ => (1.0, 1.0),
        };
        let equal = [0, 1, 2].map(|axis| match axis {
            _ if axis == carrier => others * sign,
            _ if kernel[axis] > 1 => others,
            _ => scale,
        });
        let carried = [0, 1, 2].map(|axis| if axis == carrier { 1.0 } else { scale });
        let allowed = Self::deviation(several) * T::DTYPE.unit_roundoff();
        let found = [(equal, 0.0), (carried, allowed)].into_iter().any(|(scales, allowed)| {
            self.divide(block, pivot, scales);
            self.lie_within(allowed, block)
        });
        self.found = found.then_some(block);
        found
    }

    /// The lines through weight `pivot`, divided by the scales.
    fn divide(&mut self, block: &[T], pivot: usize, scales: [f64; 3]) {
        let [_, kh, kw] = [0, 1, 2].map(|axis| self.lines[axis].len());
        for ((line, scale), step) in self.lines.iter_mut().zip(scales).zip([kh * kw, kw, 1]) {
            let first = pivot - pivot / step % line.len() * step;
            for (k, factor) in line.iter_mut().enumerate() {
                *factor = T::from_f64(block[first + k * step].to_f64() / scale);
            }
        }
    }

    /// Whether all products lie so near to the weights, relative to these.
    fn lie_within(&self, allowed: f64, block: &[T]) -> bool {
        let [z, y, x] = &self.lines;
        let mut weights = block.iter();
        z.iter().all(|z| {
            y.iter().all(|y| {
                x.iter().zip(&mut weights).all(|(x, weight)| {
                    let weight = weight.to_f64();
                    let factors = [z, y, x].map(|factor| factor.to_f64());
                    deviation::<T>(factors, weight).abs() <= allowed * weight.abs()
                })
            })
        })
    }
}

/// The product of three factors less `weight`, as good as exactly.
fn deviation<T: Element>([a, b, c]: [f64; 3], weight: f64) -> f64 {
    let product = a * b;
    match T::DTYPE {
        // 24 bits by 24 are exact, and another 24 of them are rounded far below the unit of f32.
        Dtype::F32 => product * c - weight,
        Dtype::F64 => {
            let low = a.mul_add(b, -product);
            let whole = product * c;
            (whole - weight) + (product.mul_add(c, -whole) + low * c)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::problem::{Axis, Layout, Problem};

    /// `f[y]·f[x]`, as FCN fills its weights.
    fn bilinear<T: Element>(taps: usize) -> Vec<T> {
        let half = taps.div_ceil(2) as f64;
        let center = if taps % 2 == 1 { half - 1.0 } else { half - 0.5 };
        let line: Vec<f64> = (0..taps).map(|i| 1.0 - (i as f64 - center).abs() / half).collect();
        line.iter().flat_map(|y| line.iter().map(move |x| T::from_f64(x * y))).collect()
    }

    fn products<T: Element>(factors: &Factors<'_, T>) -> Vec<f64> {
        let line = |axis| factors.line(axis).iter().map(|f: &T| f.to_f64()).collect::<Vec<_>>();
        let (z, y, x) = (line(0), line(1), line(2));
        let zy: Vec<f64> = z.iter().flat_map(|z| y.iter().map(move |y| z * y)).collect();
        zy.iter().flat_map(|zy| x.iter().map(move |x| zy * x)).collect()
    }

    fn bilinear_of<T: Element>() {
        for taps in 1..=64 {
            let block = bilinear::<T>(taps);
            let mut factors = Factors::<T>::new([1, taps, taps]).unwrap();
            assert!(factors.find(&block), "{taps} taps");
            let exact = products(&factors).iter().zip(&block).all(|(p, w)| *p == w.to_f64());
            assert!(exact || !taps.is_power_of_two(), "{taps} taps");
        }
    }

    #[test]
    fn bilinear_kernels_are_found_and_exact_where_a_power_of_two() {
        bilinear_of::<f32>();
        bilinear_of::<f64>();
    }

    fn almost<T: Element>() {
        let unit = T::DTYPE.unit_roundoff();
        for at in 0..16 {
            let mut block = bilinear::<T>(4);
            let found = |block: &[T]| Factors::<T>::new([1, 4, 4]).unwrap().find(block);
            block[at] = T::from_f64(block[at].to_f64() * (1.0 + 3.0 * unit));
            assert!(found(&block), "rounding noise of weight {at}");
            block[at] = T::from_f64(block[at].to_f64() * (1.0 + 40.0 * unit));
            assert!(!found(&block), "weight {at} is another");
            block[at] = T::default();
            assert!(!found(&block), "weight {at} is missing");
        }
    }

    #[test]
    fn a_block_that_comes_again_keeps_its_factors_and_another_does_not() {
        let (first, same, other) = (bilinear::<f32>(4), bilinear::<f32>(4), vec![0.5f32; 16]);
        let mut full = other.clone();
        full[7] = 1.0;
        let mut factors = Factors::new([1, 4, 4]).unwrap();
        for (block, separable) in
            [(&first, true), (&same, true), (&other, true), (&full, false), (&first, true)]
        {
            assert_eq!(factors.find(block), separable);
            let exact = products(&factors).iter().zip(block).all(|(p, w)| *p == f64::from(*w));
            assert_eq!(exact, separable);
        }
    }

    #[test]
    fn rounding_is_forgiven_and_no_more() {
        almost::<f32>();
        almost::<f64>();
    }

    #[test]
    fn three_axes_zeros_and_tiny_weights() {
        let line = [1.0f32, -3.0, 0.0, 0.5];
        let cube = |scale: f32| {
            let yx = line.iter().flat_map(|y| line.iter().map(move |x| x * y));
            let yx: Vec<f32> = yx.collect();
            line.iter().flat_map(|z| yx.iter().map(move |w| z * w * scale)).collect::<Vec<_>>()
        };
        let found = |block: &[f32]| Factors::new([4, 4, 4]).unwrap().find(block);
        for scale in [1.0, 0.0, 1e30, 1e-30] {
            assert!(found(&cube(scale)), "{scale}");
        }
        let mut one_more = cube(1.0);
        one_more[63] = 0.126;
        assert!(!found(&one_more));
        // Where weights underflow, products of factors need not be what was stored.
        let tiny = cube(1e-43);
        let mut factors = Factors::new([4, 4, 4]).unwrap();
        if factors.find(&tiny) {
            assert!(
                products(&factors).iter().zip(&tiny).all(|(p, w)| (*p as f32 - w).abs() <= 1e-6 * w.abs())
            );
        }
    }

    #[test]
    fn a_scan_names_the_first_channel_that_fails() {
        let problem =
            Problem::new(1, 3, 6, 1, &[Axis::new(5, 4, 2), Axis::new(5, 4, 2)], Layout::Nchw).unwrap();
        let geometry = Geometry::new(&problem).unwrap();
        let kernel = bilinear::<f32>(4);
        let mut weights = vec![0.0; geometry.weight_len()];
        let at = |input: usize, output: usize| geometry.weight_at(input, output, [0; 3]);
        for (output, input) in [2, 0, 1, 1, 0].into_iter().enumerate() {
            weights[at(input, output)..][..16].copy_from_slice(&kernel);
        }
        let scan = |weights: &[f32]| Separable::scan(&geometry, weights).unwrap();
        assert_eq!(scan(&weights), Separable::Yes { blocks: 5, stored: 18 });
        assert!(scan(&weights).to_string().contains("5 of 18"));
        let mut full = weights.clone();
        full[at(1, 3) + 7] += 0.01;
        assert_eq!(scan(&full), Separable::Full { output: 3, input: 1 });
        assert!(scan(&full).to_string().contains("1 → 3"));
        let mut mixed = weights;
        mixed[at(2, 4) + 15] = 1e-30;
        assert_eq!(scan(&mixed), Separable::Mixed { output: 4, inputs: [0, 2] });
    }
}
