//! The operator as a matrix (d2l 14.10.3): a convolution of one image is W·x, the transposed convolution Wᵀ·x.
//!
//! Matrices are sparse ([`sprs`]), built directly in compressed form: the entries of every row are counted first, so
//! nothing is sorted and nothing is grown. An entry that is 0 stays stored: 0·∞ must be NaN in a product, too.

use sprs::{CsMat, CsMatI, SpIndex};

use crate::contract::request::Weights;
use crate::error::{Error, expect_len};
use crate::machine::scratch::filled_vec;
use crate::machine::tensor::Element;
use crate::problem::geometry::{AxisGeometry, Geometry};
use crate::problem::problem::Layout;

/// The most bytes that a matrix may take, indices included. A constant, not a share of the memory: what is refused on
/// one machine is refused on all.
pub const MAX_BYTES: usize = 512 << 20;

/// W as a CSR matrix: `∏I·Cin` rows (the elements of one input image), `∏O·Cout` columns (those of one output image).
///
/// Rows and columns are numbered as the problem's layout lays out one image; the batch does not matter. For an image x and
/// no bias, the transposed convolution is `z = Wᵀ·x`, and the convolution that it is the adjoint of is `x' = W·z'`. The
/// bias of `weights` is ignored. Every (input, tap) pair that lands inside the output is one entry, zeros included:
/// Cin·Cout/groups·∏T of them.
///
/// # Errors
/// [`Error::BufferLenMismatch`] and [`Error::DtypeMismatch`] for weights that do not fit, [`Error::SizeOverflow`] with
/// the number of non-zeros and bytes above [`MAX_BYTES`], [`Error::OutOfMemory`].
pub fn weight_matrix<T: Element>(geometry: &Geometry, weights: Weights<'_>) -> Result<CsMat<T>, Error> {
    build(geometry, weights, Rows::Inputs)
}

/// Wᵀ as a CSR matrix: the rows of [`weight_matrix`] are its columns. One output element is the product of one sparse
/// row with the input. Same errors; indices may be of 32 bits.
pub fn weight_matrix_transposed<T: Element, I: SpIndex>(
    geometry: &Geometry,
    weights: Weights<'_>,
) -> Result<CsMatI<T, I, usize>, Error> {
    build(geometry, weights, Rows::Outputs)
}

/// Entries that W has (zeros that the weights hold are counted): Cin·Cout/groups·∏T.
pub fn non_zeros(geometry: &Geometry) -> u128 {
    let p = geometry.problem();
    let pairs: u128 = geometry.axes().iter().map(AxisGeometry::landing_pairs).product();
    p.in_channels() as u128 * p.group_out() as u128 * pairs
}

/// Bytes of Wᵀ with elements of `element` bytes and indices of `index` bytes, or an error above [`MAX_BYTES`].
pub fn transposed_bytes(geometry: &Geometry, element: usize, index: usize) -> Result<usize, Error> {
    bytes(geometry, image_len(geometry, Rows::Outputs), element, index)
}

#[derive(Clone, Copy, PartialEq)]
enum Rows {
    Inputs,
    Outputs,
}

/// Elements of one input or output image.
fn image_len(geometry: &Geometry, rows: Rows) -> usize {
    match rows {
        Rows::Inputs => geometry.input_plane() * geometry.problem().in_channels(),
        Rows::Outputs => geometry.output_plane() * geometry.problem().out_channels(),
    }
}

fn bytes(geometry: &Geometry, rows: usize, element: usize, index: usize) -> Result<usize, Error> {
    let entries = non_zeros(geometry);
    let bytes = (entries.saturating_mul((element + index) as u128))
        .saturating_add((rows as u128 + 1) * size_of::<usize>() as u128);
    match usize::try_from(bytes) {
        Ok(bytes) if bytes <= MAX_BYTES => Ok(bytes),
        _ => Err(Error::SizeOverflow {
            what: "weight matrix",
            detail: format!("{entries} non-zeros, {bytes} bytes (the limit is {MAX_BYTES})"),
        }),
    }
}

fn build<T: Element, I: SpIndex>(
    geometry: &Geometry,
    weights: Weights<'_>,
    rows: Rows,
) -> Result<CsMatI<T, I, usize>, Error> {
    let (kernel, _) = weights.typed::<T>()?;
    expect_len("weights", kernel.len(), geometry.weight_len())?;
    let (p, inputs, outputs) =
        (geometry.problem(), image_len(geometry, Rows::Inputs), image_len(geometry, Rows::Outputs));
    let (height, width, channels, others) = match rows {
        Rows::Inputs => (inputs, outputs, p.in_channels(), p.group_out()),
        Rows::Outputs => (outputs, inputs, p.out_channels(), p.group_in()),
    };
    bytes(geometry, height, size_of::<T>(), size_of::<I>())?;
    let too_wide = || Error::SizeOverflow { what: "weight matrix", detail: format!("{width} columns") };
    I::try_from_usize(width).ok_or_else(too_wide)?;

    let [axis_z, axis_y, axis_x] = geometry.axes();
    let partners = [Partners::new(axis_z, rows)?, Partners::new(axis_y, rows)?, Partners::new(axis_x, rows)?];
    let own = partners.each_ref().map(Partners::len);
    let entries = non_zeros(geometry) as usize; // below MAX_BYTES
    let mut starts = reserved("row starts", height + 1)?;
    let mut indices: Vec<I> = reserved("indices", entries)?;
    let mut data: Vec<T> = reserved("matrix entries", entries)?;
    starts.push(0);
    for row in 0..height {
        let (channel, position) = match p.layout() {
            Layout::Nchw => (row / (height / channels), row % (height / channels)),
            Layout::Nhwc => (row % channels, row / channels),
        };
        let [z, y, x] = [position / (own[1] * own[2]), position / own[2] % own[1], position % own[2]];
        let group = channel / (channels / p.groups());
        let mut entry = |other: usize, (oz, kz), (oy, ky), (ox, kx)| {
            let (at, ci, c) = match rows {
                Rows::Inputs => {
                    let at = geometry.output_at(0, group * others + other, [oz, oy, ox]);
                    (at, channel, other)
                }
                Rows::Outputs => {
                    let ci = group * others + other;
                    (geometry.input_at(0, ci, [oz, oy, ox]), ci, channel % p.group_out())
                }
            };
            indices.push(I::from_usize(at));
            data.push(kernel[geometry.weight_at(ci, c, [kz, ky, kx])]);
        };
        // In the order of the columns: channels outermost or innermost.
        let (outer, inner) = match p.layout() {
            Layout::Nchw => (others, 1),
            Layout::Nhwc => (1, others),
        };
        for other in 0..outer {
            for &pz in partners[0].of(z) {
                for &py in partners[1].of(y) {
                    for &px in partners[2].of(x) {
                        (0..inner).for_each(|i| entry(other + i, pz, py, px));
                    }
                }
            }
        }
        starts.push(data.len());
    }
    debug_assert_eq!(data.len(), entries);
    CsMatI::try_new((height, width), starts, indices, data).map_err(|(.., problem)| Error::SizeOverflow {
        what: "weight matrix",
        detail: format!("{height} × {width}: {problem}"),
    })
}

/// For every own index of one axis, the (other index, tap) pairs of its products, other indices ascending.
struct Partners {
    /// Where the pairs of every index begin, and the end of all.
    starts: Vec<usize>,
    pairs: Vec<(usize, usize)>,
}

impl Partners {
    fn new(axis: &AxisGeometry, rows: Rows) -> Result<Self, Error> {
        let (own, taps) = match rows {
            Rows::Inputs => (axis.axis.input, axis.axis.kernel),
            Rows::Outputs => (axis.output, axis.axis.kernel),
        };
        let index = |i: usize, k: usize| match rows {
            Rows::Inputs => (i, axis.output_index(i, k)),
            Rows::Outputs => (axis.output_index(i, k), i),
        };
        let mut starts = filled_vec("row starts", own + 1, 0)?;
        (0..taps).for_each(|k| axis.valid_inputs(k).for_each(|i| starts[index(i, k).0] += 1));
        let mut total = 0;
        for start in &mut starts {
            total += *start; // the end of each, for now
            *start = total;
        }
        let mut pairs = filled_vec("row entries", total, (0, 0))?;
        // Filled from the back, so the other indices must come in falling order: an input's outputs rise with the tap, an
        // output's inputs fall with it.
        for step in 0..taps {
            let k = if rows == Rows::Inputs { taps - 1 - step } else { step };
            for i in axis.valid_inputs(k) {
                let (own, other) = index(i, k);
                starts[own] -= 1;
                pairs[starts[own]] = (other, k);
            }
        }
        Ok(Self { starts, pairs })
    }

    fn len(&self) -> usize {
        self.starts.len() - 1
    }

    fn of(&self, own: usize) -> &[(usize, usize)] {
        &self.pairs[self.starts[own]..self.starts[own + 1]]
    }
}

fn reserved<V>(what: &'static str, len: usize) -> Result<Vec<V>, Error> {
    let mut data = Vec::new();
    data.try_reserve_exact(len).map_err(|_| Error::OutOfMemory { what, bytes: len * size_of::<V>() })?;
    Ok(data)
}
