//! The spectra of the weights, once per plan: by realfft in f64, rounded once.

use realfft::RealFftPlanner;

use super::blocking::Blocking;
use super::fourier::point_of;
use crate::microkernels::vector::Float;
use crate::problem::geometry::Geometry;
use crate::problem::problem::Layout;

/// Output channel of the group and stride phase of a column; phase ρ has the taps ρ, ρ + S, …
pub fn column(geometry: &Geometry, b: &Blocking, column: usize) -> (usize, usize) {
    match geometry.problem().layout() {
        Layout::Nchw => (column / b.stride, column % b.stride),
        Layout::Nhwc => (column % b.group_out, column / b.group_out),
    }
}

/// Weights of one group in the order in which tiles read them: `[part][point][tile][input channel][column of the tile]`,
/// divided by what the transforms there and back leave (2·P).
pub fn pack_group<T: Float>(
    geometry: &Geometry,
    b: &Blocking,
    group: usize,
    weights: &[T],
    packed: &mut [T],
) {
    let transform = RealFftPlanner::<f64>::new().plan_fft_forward(b.length);
    let (mut taps, mut bins) = (transform.make_input_vec(), transform.make_output_vec());
    let mut scratch = transform.make_scratch_vec();
    let kernel = geometry.kernel_taps();
    let scale = 1.0 / (2 * b.length) as f64;
    for part in 0..b.parts() {
        let (first, columns) = (part * b.part, b.part_columns(part));
        let packed = &mut packed[b.points() * b.padded_in() * first..];
        for (at, vectors) in b.tiles(part) {
            let width = vectors * b.lanes;
            for ci in 0..b.group_in {
                for c in 0..width.min(b.columns.saturating_sub(first + at)) {
                    let (channel, phase) = column(geometry, b, first + at + c);
                    let from = geometry.weight_at(group * b.group_in + ci, channel, [0; 3]);
                    let of_phase = weights[from..from + kernel].iter().skip(phase).step_by(b.stride);
                    taps.fill(0.0);
                    taps.iter_mut().zip(of_phase).for_each(|(tap, w)| *tap = scale * w.to_f64());
                    transform
                        .process_with_scratch(&mut taps, &mut bins, &mut scratch)
                        .expect("buffers of the transform's own lengths");
                    let mut put = |point: usize, value: f64| {
                        let place = (point * columns + at) * b.padded_in() + ci * width + c;
                        packed[place] = T::from_f64(value);
                    };
                    put(0, bins[0].re);
                    put(1, bins[b.length / 2].re);
                    for (k, bin) in bins.iter().enumerate().take(b.length / 2).skip(1) {
                        put(point_of(k), bin.re);
                        put(point_of(k) + 1, bin.im - bin.re);
                        put(point_of(k) + 2, bin.re + bin.im);
                    }
                }
            }
        }
    }
}
