//! col2im: from the column matrix into the output. Bias first, then every entry at its place, then the activation.

use crate::machine::parallel::SharedOutput;
use crate::machine::tensor::Element;
use crate::microkernels::activation::activate;
use crate::problem::epilogue::Activation;
use crate::problem::geometry::Geometry;
use crate::problem::problem::Layout;

#[derive(Clone, Copy)]
pub(super) struct Col2im<'a> {
    pub geometry: &'a Geometry,
    pub activation: Activation,
    /// The taps that have rows in the column matrix, per axis.
    pub live: &'a [Vec<usize>; 3],
}

impl Col2im<'_> {
    /// Writes the output channels `first..first + bias.len()` of image `n`.
    ///
    /// # Safety
    /// Nobody else reads or writes these channels of this image meanwhile.
    pub unsafe fn add<T: Element>(
        &self,
        column: &[T],
        n: usize,
        first: usize,
        bias: &[T],
        output: SharedOutput<'_, T>,
    ) {
        let (plane, start) = (self.geometry.output_plane(), self.geometry.output_at(n, first, [0; 3]));
        match self.geometry.problem().layout() {
            Layout::Nchw => {
                // SAFETY: successive channels are one range; exclusive by the caller's promise.
                let planes = unsafe { output.slice_mut(start, bias.len() * plane) };
                let rows = column.len() / bias.len();
                for (c, (plane, &bias)) in planes.chunks_exact_mut(plane).zip(bias).enumerate() {
                    plane.fill(bias);
                    self.add_plane(&column[c * rows..][..rows], plane);
                    activate(self.activation, plane);
                }
            }
            Layout::Nhwc => {
                let channels = self.geometry.problem().out_channels();
                // SAFETY: these channels of one pixel of this image: exclusive by the caller's promise, and only one
                // such slice is alive at a time.
                let pixel = |at: usize| unsafe { output.slice_mut(start + at * channels, bias.len()) };
                (0..plane).for_each(|at| pixel(at).copy_from_slice(bias));
                self.add_pixels(column, bias.len(), pixel);
                (0..plane).for_each(|at| activate(self.activation, pixel(at)));
            }
        }
    }

    /// One output channel: `column` is `[taps][∏I]`. Input rows outside, taps inside: the few output rows that an input
    /// row reaches stay in the cache.
    fn add_plane<T: Element>(&self, column: &[T], plane: &mut [T]) {
        let ([depth, height, width], [_, out_height, out_width]) =
            (self.geometry.input(), self.geometry.output());
        let [axis_z, axis_y, axis_x] = self.geometry.axes();
        let stride = axis_x.axis.stride;
        for (iz, iy) in (0..depth).flat_map(|iz| (0..height).map(move |iy| (iz, iy))) {
            let from = (iz * height + iy) * width;
            self.taps_landing(iz, iy, |tap, kz, ky| {
                let row = axis_z.output_index(iz, kz) * out_height + axis_y.output_index(iy, ky);
                let row = &mut plane[row * out_width..][..out_width];
                for (x, &kx) in self.live[2].iter().enumerate() {
                    let inputs = axis_x.valid_inputs(kx);
                    let to = &mut row[axis_x.output_index(inputs.start, kx)..];
                    let entries = &column[(tap + x) * depth * height * width + from..][inputs];
                    if stride == 1 {
                        to.iter_mut().zip(entries).for_each(|(y, &v)| *y += v);
                    } else {
                        to.iter_mut().step_by(stride).zip(entries).for_each(|(y, &v)| *y += v);
                    }
                }
            });
        }
    }

    /// All channels of the block: `column` is `[∏I][taps][channels]`.
    fn add_pixels<'o, T: Element>(
        &self,
        column: &[T],
        channels: usize,
        pixel: impl Fn(usize) -> &'o mut [T],
    ) {
        let ([depth, height, width], [_, out_height, out_width]) =
            (self.geometry.input(), self.geometry.output());
        let [axis_z, axis_y, axis_x] = self.geometry.axes();
        let taps: usize = self.live.iter().map(Vec::len).product();
        for (iz, iy) in (0..depth).flat_map(|iz| (0..height).map(move |iy| (iz, iy))) {
            self.taps_landing(iz, iy, |tap, kz, ky| {
                let row = axis_z.output_index(iz, kz) * out_height + axis_y.output_index(iy, ky);
                for (x, &kx) in self.live[2].iter().enumerate() {
                    for ix in axis_x.valid_inputs(kx) {
                        let from = ((iz * height + iy) * width + ix) * taps + tap + x;
                        let entries = &column[from * channels..][..channels];
                        let to = pixel(row * out_width + axis_x.output_index(ix, kx));
                        to.iter_mut().zip(entries).for_each(|(y, &v)| *y += v);
                    }
                }
            });
        }
    }

    /// Every (kz, ky) through which input row (iz, iy) lands in the output, with the number of its first tap.
    fn taps_landing(&self, iz: usize, iy: usize, mut visit: impl FnMut(usize, usize, usize)) {
        let [axis_z, axis_y, _] = self.geometry.axes();
        let [live_z, live_y, live_x] = self.live;
        for (z, &kz) in live_z.iter().enumerate().filter(|(_, k)| axis_z.valid_inputs(**k).contains(&iz)) {
            for (y, &ky) in live_y.iter().enumerate().filter(|(_, k)| axis_y.valid_inputs(**k).contains(&iy))
            {
                visit((z * live_y.len() + y) * live_x.len(), kz, ky);
            }
        }
    }
}
