//! What a run is expected to take.

use super::blocking::Blocking;
use crate::contract::request::{Cost, Request};
use crate::machine::roofs::Roofs;
use crate::microkernels::grouped_tile::Shape;

impl Blocking {
    /// The tile's name: `"avx512-11x16"` is up to 11 positions (of one or two phases) × 16 channels.
    pub fn name(&self, request: &Request<'_>) -> String {
        let isa = request.target.isa;
        let shapes = self.units.iter().flat_map(|u| &u.chunks).map(|c| c.shape);
        let widest = shapes.filter_map(|s| s.widths(isa.registers()).last()).max().unwrap_or(&1);
        format!("{}-{widest}x{}", isa.name(), self.lanes)
    }

    /// Multiply-adds done, and the tiles that do them: taps along z and y are exact, along x every position has all taps
    /// of its phase, and so has the partner of a phase that has one position more.
    fn work(&self, request: &Request<'_>) -> (u128, u128) {
        let axes = request.geometry.axes();
        let phases = &axes[2].phases;
        let (mut products, mut tiles) = (0, 0);
        for task in 0..self.axes[2].tasks() {
            let x = self.axes[2].positions_of(task);
            for unit in &self.units {
                let times = unit.times(phases, &x);
                let times = (times.end - times.start) as usize;
                for chunk in &unit.chunks {
                    products += (times * chunk.shape.products()) as u128;
                    let step = phases[unit.phases.0].input_step;
                    for residue in 0..step.min(times) {
                        tiles += self.tiles(chunk.shape, (times - residue).div_ceil(step)) as u128;
                    }
                }
            }
        }
        let images = (request.geometry.problem().batch() * self.vectors) as u128;
        let rows = (axes[0].output * axes[1].output) as u128;
        let pairs = axes[0].landing_pairs() * axes[1].landing_pairs();
        let channels = (self.group_in * self.lanes) as u128;
        (images * channels * pairs * products, images * rows * tiles)
    }

    /// See [`Cost`].
    pub fn cost(&self, request: &Request<'_>) -> Cost {
        let (g, size) = (request.geometry, request.dtype.size());
        let roofs = Roofs::assumed(request.target.isa, request.dtype);
        let (multiply_adds, tiles) = self.work(request);
        let threads = request.target.threads as f64;
        let call = if threads > 1.0 { 3000.0 } else { 150.0 };
        let packed =
            |a: usize| self.axes[a].tasks() * self.axes[a].span(self.axes[a].step, Some(g.input()[a]));
        let rows = g.problem().batch() * self.vectors * packed(0) * packed(1) * self.axes[2].tasks();
        let vectors = rows * self.span * self.pixel_vectors;
        // Fitted to a timing of grouped layers: as for the kernel with one group in the lanes, but that outputs cost less; packing
        // goes by vectors.
        let work = roofs.compute_ns(multiply_adds, 1.08)
            + 8.0 * tiles as f64
            + 1.0 / self.lanes as f64 * g.output_len() as f64
            + 4.0 * vectors as f64;
        let moved = (g.compulsory_elements() * size as u128) as f64;
        Cost {
            nanoseconds: call + work / threads + roofs.dram_ns(moved),
            scratch_bytes: self.workers(request).1.bytes,
            packed_bytes: (self.packed_weights() + self.vectors * self.vector_indices()) * size,
            multiply_adds,
        }
    }

    /// Number of tiles for so many positions.
    fn tiles(&self, shape: Shape, mut left: usize) -> usize {
        let mut tiles = 0;
        while left > 0 {
            left -= self.width(shape, left);
            tiles += 1;
        }
        tiles
    }
}
