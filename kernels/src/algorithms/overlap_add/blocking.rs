//! Every size that the kernel chooses: how columns are tiled, how many pixels at once, how many rows are kept.

use std::ops::Range;

use crate::contract::request::Request;
use crate::machine::roofs::Roofs;
use crate::machine::scratch::{Scratch, spread};
use crate::microkernels::column_tile;
use crate::microkernels::pixel_tile::max_columns;
use crate::problem::geometry::{AxisGeometry, Geometry};
use crate::problem::problem::{Axis, Layout};

/// Columns of one band where it is cut along x (bytes): they stay in the level-2 cache, beside weights and inputs.
const COLUMN_BYTES: usize = 128 << 10;
/// Inputs that are copied at once, channels first (bytes): they stay there, too, while all columns read them.
const PANEL_BYTES: usize = 128 << 10;
/// Vectors of a panel, at most.
pub const MOST_PANEL_VECTORS: usize = 16;
/// Weights beyond are fetched again for the next pixels (bytes).
const WEIGHT_BYTES: f64 = 1e6;
/// Slabs of a chunk, at most.
const MOST_CHUNK: usize = 64;
/// A task that is shorter does not pay for its way to another thread (nanoseconds).
const GRAIN_NS: f64 = 10_000.0;
/// Tasks for each thread, so that a slow core holds nobody up.
const TASKS_PER_THREAD: usize = 4;

/// The sizes, all fixed when the plan is made.
#[derive(Debug, Clone)]
pub struct Blocking {
    pub layout: Layout,
    pub lanes: usize,
    /// Pixels come in multiples of so many.
    pub unit: usize,
    registers: usize,
    /// The outermost axis with more than one input: bands are cut there. A slab is one input of it.
    pub cut: usize,
    /// Pixels of a slab.
    pub inner: usize,
    /// Sums of a pixel: output channels × taps; and with idle lanes.
    pub columns: usize,
    padded_columns: usize,
    /// Slabs that are multiplied at once; so many of these chunks are kept in the ring, each with room for so many pixels.
    pub chunk: usize,
    pub ring_chunks: usize,
    pub chunk_pixels: usize,
    /// Channels first: pixels that are copied at once.
    pub panel_pixels: usize,
    /// Outputs of a band along the cut axis, and bands of an image.
    pub band_outputs: usize,
    pub bands: usize,
    pub tasks: usize,
    /// Distance of the columns (channels first) or of the pixels (channels last).
    pub pitch: usize,
    /// Elements of the parts of a worker's scratch: columns, panel, phases that wait for being interleaved.
    pub columns_len: usize,
    pub panel_len: usize,
    pub phase_pitch: usize,
    pub phases_len: usize,
}

impl Blocking {
    pub fn new(request: &Request<'_>) -> Self {
        let (g, p) = (request.geometry, request.geometry.problem());
        let size = request.dtype.size();
        let lanes = request.target.isa.f32_lanes() * 4 / size;
        let registers = request.target.isa.registers();
        let layout = p.layout();
        let input = g.input();
        let cut = (0..3).find(|&axis| input[axis] > 1).unwrap_or(2);
        let inner: usize = input[cut + 1..].iter().product();
        let columns = p.out_channels() * g.kernel_taps();
        let axis = &g.axes()[cut].axis;
        let (slabs, stride, output) = (axis.input, axis.stride, g.output()[cut]);
        let halo = ((axis.kernel - 1).saturating_mul(axis.dilation) / stride).min(slabs);
        let unit = match layout {
            Layout::Nchw => 2 * lanes,
            Layout::Nhwc => column_tile::MOST_PIXELS,
        };
        let padded_columns = match layout {
            Layout::Nchw => columns,
            Layout::Nhwc => columns.next_multiple_of(lanes),
        };

        let threads = request.target.threads;
        let positions = output.div_ceil(stride);
        let wanted = if threads == 1 {
            1
        } else {
            let work = Self::products_ns(request);
            ((work / GRAIN_NS) as usize).clamp(1, (TASKS_PER_THREAD * threads).div_ceil(p.batch().max(1)))
        };
        // Along x a band is a chunk of its own, and multiplies again what the one before it has had. Other axes have rings, and
        // bands for other threads only.
        let most = if cut == 2 {
            let columns = COLUMN_BYTES / size / padded_columns.max(1);
            columns.saturating_sub(halo + 1).max(4 * halo).max(unit)
        } else {
            positions
        };
        let bands = positions.div_ceil(most).max(wanted.min(positions.div_ceil(4 * (halo + 1)))).max(1);
        let band_outputs = positions.div_ceil(bands).saturating_mul(stride);
        let bands = output.div_ceil(band_outputs.max(1));
        let chunk = if cut == 2 {
            (band_outputs / stride + halo + 1).min(slabs)
        } else {
            // As few idle lanes as may be; then as few slabs.
            let padded = |chunk: usize| {
                let whole = (slabs / chunk).saturating_mul((chunk * inner).next_multiple_of(unit));
                whole.saturating_add((slabs % chunk * inner).next_multiple_of(unit))
            };
            let near =
                |chunk: &usize| *chunk == 1 || chunk.saturating_mul(inner) <= MOST_PANEL_VECTORS * lanes;
            (1..=slabs.min(MOST_CHUNK)).filter(near).min_by_key(|&chunk| padded(chunk)).unwrap_or(1)
        };
        let ring_chunks = if cut == 2 { 1 } else { 1 + halo.div_ceil(chunk) };
        let chunk_pixels = match layout {
            Layout::Nchw => chunk.saturating_mul(inner).next_multiple_of(unit),
            // The last tile of pixels may have fewer.
            Layout::Nhwc => chunk.saturating_mul(inner).saturating_add(unit),
        };
        let ring = ring_chunks.saturating_mul(chunk_pixels);
        let (pitch, columns_len) = match layout {
            Layout::Nchw => {
                let pitch = spread(ring, size);
                (pitch, pitch.saturating_mul(columns))
            }
            Layout::Nhwc => (padded_columns, ring.saturating_mul(padded_columns)),
        };
        let panel_pixels = PANEL_BYTES / size / p.in_channels().max(1) / unit * unit;
        let panel_pixels =
            panel_pixels.clamp(unit, MOST_PANEL_VECTORS * lanes).min(chunk_pixels.next_multiple_of(unit));
        let stride_x = g.axes()[2].phases.len();
        let waits = layout == Layout::Nchw && stride_x > 1;
        let width = if cut == 2 { band_outputs.min(output) } else { g.output()[2] };
        let phase_pitch = if waits { width.div_ceil(stride_x).next_multiple_of(lanes) } else { 0 };
        Self {
            layout,
            lanes,
            unit,
            registers,
            cut,
            inner,
            columns,
            padded_columns,
            chunk,
            ring_chunks,
            chunk_pixels,
            panel_pixels,
            band_outputs,
            bands,
            tasks: p.batch() * bands,
            pitch,
            columns_len,
            panel_len: match layout {
                // What is copied ends with a whole vector.
                Layout::Nchw => p.in_channels().saturating_mul(panel_pixels).saturating_add(lanes),
                Layout::Nhwc => 0,
            },
            phase_pitch,
            phases_len: if waits { stride_x.saturating_mul(phase_pitch) } else { 0 },
        }
    }

    /// Elements of one worker's scratch, its parts on whole cache lines.
    pub fn slot(&self) -> usize {
        let all = self.parts().iter().fold(0, |all: usize, &part| all.saturating_add(part));
        all.min(usize::MAX >> 16) // in bytes it fits, too
    }

    /// Elements of its parts: columns, panel, phases.
    pub fn parts(&self) -> [usize; 3] {
        [self.columns_len, self.panel_len, self.phases_len].map(|len| len.saturating_add(15) / 16 * 16)
    }

    /// Workers of a run, and the scratch of all of them.
    pub fn workers(&self, request: &Request<'_>) -> (usize, Scratch) {
        Scratch::workers(request.target.threads, self.tasks, self.slot(), request.dtype)
    }

    /// Columns, or vectors of them; how many tiles they make; columns in one of them.
    fn tiling(&self) -> (usize, usize, usize) {
        let (most, unit) = match self.layout {
            Layout::Nchw => (max_columns(self.registers), 1),
            Layout::Nhwc => (column_tile::max_vectors(self.registers), self.lanes),
        };
        let all = self.padded_columns / unit;
        (all, all.div_ceil(most), unit)
    }

    /// Tiles side by side, as their first column and their width: columns in the tile's rows (channels first) or whole vectors of them.
    /// Of nearly equal width, the wider ones first.
    pub fn tiles(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let (all, tiles, unit) = self.tiling();
        let (width, wider) = (all / tiles, all % tiles);
        (0..tiles).map(move |t| {
            let first = t * width + t.min(wider);
            first * unit..(first + width + usize::from(t < wider)) * unit
        })
    }

    /// Elements of the packed weights.
    pub fn packed_weights(&self, in_channels: usize) -> usize {
        in_channels.saturating_mul(self.padded_columns)
    }

    /// Where a slab of a band lies in the ring: its first pixel. `slab` is counted from the band's first.
    #[inline(always)]
    pub fn place(&self, slab: usize) -> usize {
        slab / self.chunk % self.ring_chunks * self.chunk_pixels + slab % self.chunk * self.inner
    }

    /// Outputs of band `band` along the cut axis, and the slabs that they read.
    pub fn band(&self, geometry: &Geometry, band: usize) -> (Range<usize>, Range<usize>) {
        let axis = &geometry.axes()[self.cut];
        let outputs = band * self.band_outputs..((band + 1) * self.band_outputs).min(axis.output);
        (outputs.clone(), slabs_of(axis, outputs))
    }

    /// The tile's name: `"avx512-14x32"` is 14 columns × 32 pixels, `"avx512-8x48"` 8 pixels × 48 columns.
    pub fn name(&self, request: &Request<'_>) -> String {
        let isa = request.target.isa.name();
        let (all, tiles, _) = self.tiling();
        let widest = all.div_ceil(tiles);
        match self.layout {
            Layout::Nchw => format!("{isa}-{widest}x{}", 2 * self.lanes),
            Layout::Nhwc => {
                format!("{isa}-{}x{}", column_tile::pixels(self.registers, widest), widest * self.lanes)
            }
        }
    }

    /// Pixels × columns × input channels, idle lanes included.
    pub fn multiply_adds(&self, request: &Request<'_>) -> u128 {
        self.pixels(request)
            .saturating_mul(self.packed_weights(request.geometry.problem().in_channels()) as u128)
    }

    /// Pixels that are multiplied, of all images.
    fn pixels(&self, request: &Request<'_>) -> u128 {
        let g = request.geometry;
        // All bands but the first and the last few have the same slabs: the middle one stands for them.
        let (_, slabs) = self.band(g, self.bands / 2);
        let pixels = |slabs: usize| (slabs as u128 * self.inner as u128).next_multiple_of(self.unit as u128);
        let band = (slabs.len() / self.chunk) as u128 * pixels(self.chunk) + pixels(slabs.len() % self.chunk);
        band * self.bands as u128 * g.problem().batch() as u128
    }

    /// Nanoseconds of the products of one image at the peak.
    fn products_ns(request: &Request<'_>) -> f64 {
        let (g, roofs) = (request.geometry, Roofs::assumed(request.target.isa, request.dtype));
        roofs.compute_ns((g.weight_len() as u128).saturating_mul(g.input_plane() as u128), 1.0)
    }

    /// Nanoseconds of all work on one thread: products; what a column of a pixel costs until it is added, and each row or run that is
    /// added; copies; weights that leave the cache before the next pixels. Fitted to 55 timings of one Emerald Rapids core
    /// (root mean square of the logarithm .13 channels first, .17 channels last).
    pub fn work_ns(&self, request: &Request<'_>, roofs: &Roofs) -> f64 {
        let (g, p) = (request.geometry, request.geometry.problem());
        let size = request.dtype.size() as f64;
        let (taps, channels) = (g.kernel_taps() as f64, p.out_channels() as f64);
        let pixels = p.batch() as f64 * g.input_plane() as f64;
        let columns = pixels * self.columns as f64 * size / 4.0;
        let products = roofs.compute_ns(self.multiply_adds(request), 1.0);
        let multiplied = self.pixels(request) as f64;
        let (at_once, work) = match self.layout {
            Layout::Nchw => {
                let copied = 2.0 * multiplied * p.in_channels() as f64 * size;
                let rows = pixels / g.input()[2] as f64 * channels * taps;
                let outputs = g.output_len() as f64 * size / 4.0;
                let adding = 0.11 * columns + 15.0 * rows + 0.4 * outputs;
                (self.panel_pixels, 0.96 * products + 3.4 * copied / roofs.l2 + adding)
            }
            Layout::Nhwc => {
                let axis = &g.axes()[2].axis;
                let runs = taps / axis.kernel as f64 * axis.kernel.div_ceil(taps_of_run(axis)) as f64;
                let at_once = self.chunk.saturating_mul(self.inner);
                (at_once, 0.81 * products + 0.39 * columns + 2.3 * pixels * runs)
            }
        };
        let weights = self.packed_weights(p.in_channels()) as f64 * size;
        let again = if weights > WEIGHT_BYTES { multiplied / at_once.max(1) as f64 * weights } else { 0.0 };
        work + again / (2.0 * roofs.dram)
    }

    /// Part of the time of moving all tensors that is not hidden behind the products; fitted as above.
    pub fn waiting(&self) -> f64 {
        match self.layout {
            Layout::Nchw => 0.1,
            Layout::Nhwc => 0.45,
        }
    }
}

/// Taps along an axis whose outputs lie side by side, no more than the stride: those of neighbouring inputs do not overlap.
pub fn taps_of_run(axis: &Axis) -> usize {
    if axis.dilation == 1 { axis.stride.min(axis.kernel) } else { 1 }
}

/// The inputs of an axis that these outputs read.
fn slabs_of(axis: &AxisGeometry, outputs: Range<usize>) -> Range<usize> {
    let first = axis.inputs_landing_in(axis.axis.kernel - 1, outputs.clone()).start;
    first..axis.inputs_landing_in(0, outputs).end.max(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::isa::{Isa, Target};
    use crate::machine::tensor::Dtype;
    use crate::problem::epilogue::Epilogue;
    use crate::problem::problem::{Accuracy, Problem};

    /// Bands cover all outputs; whenever an output is written, the ring still has all that it reads.
    #[test]
    fn the_ring_keeps_what_outputs_read() {
        let mut rng = fastrand::Rng::with_seed(1);
        for round in 0..3000 {
            let axis = |rng: &mut fastrand::Rng| Axis {
                dilation: rng.usize(1..4),
                padding: (rng.usize(0..3), rng.usize(0..3)),
                ..Axis::new(rng.usize(1..40), rng.usize(1..9), rng.usize(1..5))
            };
            let axes: Vec<Axis> = (0..rng.usize(1..4)).map(|_| axis(&mut rng)).collect();
            let layout = if round % 2 == 0 { Layout::Nchw } else { Layout::Nhwc };
            let Ok(problem) = Problem::new(1, rng.usize(1..200), rng.usize(1..5), 1, &axes, layout) else {
                continue;
            };
            let Ok(geometry) = Geometry::new(&problem) else { continue };
            let request = Request {
                geometry: &geometry,
                dtype: Dtype::F32,
                epilogue: Epilogue::default(),
                accuracy: Accuracy::Strict,
                target: Target { isa: Isa::PORTABLE, threads: rng.usize(1..5) },
                weights: None,
            };
            let b = Blocking::new(&request);
            let axis = &geometry.axes()[b.cut];
            assert!(b.bands * b.band_outputs >= axis.output && (b.bands - 1) * b.band_outputs < axis.output);
            for band in 0..b.bands {
                let (outputs, slabs) = b.band(&geometry, band);
                for output in outputs {
                    let read = slabs_of(axis, output..output + 1);
                    assert!(read.is_empty() || slabs.start <= read.start && read.end <= slabs.end);
                    if read.is_empty() {
                        continue;
                    }
                    // The chunk that completes it, and the oldest one that it reads.
                    let chunk = |slab: usize| (slab - slabs.start) / b.chunk;
                    let newest =
                        ((output + axis.axis.padding.0) / axis.axis.stride).clamp(slabs.start, slabs.end - 1);
                    assert!(
                        chunk(newest) - chunk(read.start) < b.ring_chunks,
                        "{problem:?}: output {output}"
                    );
                }
            }
            let tiles: Vec<_> = b.tiles().collect();
            assert!(tiles.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert!(tiles[0].start == 0 && tiles[tiles.len() - 1].end >= b.columns);
        }
    }
}
