//! Every size that the kernel chooses: pieces along x, bands of rows, what a lane is.

use std::ops::Range;

use crate::contract::request::Request;
use crate::machine::roofs::Roofs;
use crate::machine::scratch::Scratch;
use crate::problem::geometry::Geometry;
use crate::problem::problem::Layout;

/// Widened rows of one worker (bytes): they stay in the level-1 cache, beside what is written.
const RING_BYTES: usize = 24 << 10;
/// Vectors that are made before they are read: the loads then meet stores that have left the store buffer. And rows, at most.
const VECTORS_AHEAD: usize = 64;
const ROWS_AHEAD: usize = 8;
/// Rows that tell which inputs are not finite, of one worker (bytes).
const SUSPECT_BYTES: usize = 128 << 10;
/// A task that is shorter does not pay for its way to another thread (nanoseconds).
const GRAIN_NS: f64 = 10_000.0;
/// Tasks for each thread, so that a slow core holds nobody up.
const TASKS_PER_THREAD: usize = 8;
/// Rows of a band at least: it widens again what the one before it had.
const BAND_ROWS: usize = 16;
/// Positions of a piece at least, where a position is many elements.
const LEAST_POSITIONS: usize = 4;
/// Strides up to this are interleaved from phases; beyond, a vector holds neighbouring outputs of one position.
const MOST_INTERLEAVED: usize = 4;
/// Inputs that meet an output along x, where phases are interleaved in registers: those that there is code for.
const SPANS: Range<usize> = 2..4;
/// Bytes per nanosecond of input and output, measured on Zen 4: of the first bytes, which stay in the last cache, and of the
/// rest. And the part of the peak that the passes reach beside their loads.
const CACHED_BYTES: f64 = 8e6;
const CACHED_BYTES_PER_NS: f64 = 60.0;
const DRAM_BYTES_PER_NS: f64 = 20.0;
const SHARE_OF_PEAK: f64 = 0.5;

/// How a row is widened along x.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Widening {
    /// Channels first: lanes are positions, phases are interleaved, through memory.
    Phases,
    /// Channels first: the same in registers; `span` inputs meet the outputs of a position.
    Interleaved {
        /// Inputs that any of them may read.
        span: usize,
    },
    /// Channels first: lanes are the outputs of one position, `span` inputs meet them.
    Outputs {
        /// Inputs that any of them may read.
        span: usize,
    },
    /// Channels last: lanes are channels.
    Channels,
}

/// The sizes, all fixed when the plan is made.
#[derive(Debug, Clone)]
pub struct Blocking {
    pub widening: Widening,
    /// Elements of one vector.
    pub lanes: usize,
    /// Elements of one position: 1, or all output channels.
    pub unit: usize,
    /// Channels that each piece goes through, one after another; pieces for all channels.
    pub channels: usize,
    pub units: usize,
    /// Whether a group has several input channels, only one of which each output channel reads.
    pub diagonal: bool,
    /// Inputs relative to a position that any tap may read, along y and x.
    pub reach_y: Range<i64>,
    pub reach_x: Range<i64>,
    /// Planes along z that meet in one output.
    pub depth: usize,
    /// Widened rows at hand (a power of two), and elements of one.
    pub ring: usize,
    pub wide: usize,
    /// Rows that are made at once.
    pub ahead: usize,
    /// Elements of a padded row of inputs.
    pub narrow: usize,
    /// Elements of a phase that waits for being interleaved, and how many wait.
    pub waiting: usize,
    pub phases: usize,
    /// Positions along x of one piece, and pieces along x.
    pub positions: usize,
    pub x_pieces: usize,
    /// Output rows of one band, and bands.
    pub rows: usize,
    pub bands: usize,
    /// Rows of one band that tell which inputs are not finite (of one plane).
    pub suspects: usize,
    /// Pieces in all, of one task, and tasks.
    pub pieces: usize,
    pub pieces_per_task: usize,
    pub tasks: usize,
}

impl Blocking {
    pub fn new(request: &Request<'_>) -> Self {
        let (g, p) = (request.geometry, request.geometry.problem());
        let size = request.dtype.size();
        let lanes = request.target.isa.f32_lanes() * 4 / size;
        let [az, ay, ax] = g.axes();
        let (reach_y, reach_x) = (ay.reach(), ax.reach());
        let span = |r: &Range<i64>| (r.end - r.start) as usize;
        let diagonal = p.group_in() > 1;
        let step = ax.phases.first().map_or(1, |phase| phase.input_step);
        let (widening, unit, channels, units) = match p.layout() {
            Layout::Nhwc => (Widening::Channels, p.out_channels(), 1, 1),
            Layout::Nchw => {
                let span = span(&reach_x);
                let whole = ax.phases.len() == ax.axis.stride;
                let widening = match ax.axis.stride {
                    1 | 2 | 4 if step == 1 && whole && SPANS.contains(&span) => {
                        Widening::Interleaved { span }
                    }
                    stride if stride > MOST_INTERLEAVED && step == 1 => Widening::Outputs { span },
                    _ => Widening::Phases,
                };
                // The channels of a group share what tells which of its inputs are not finite.
                let channels = if diagonal { p.group_out() } else { 1 };
                (widening, 1, channels, p.out_channels() / channels)
            }
        };

        let wide_vectors = (ax.output.saturating_mul(unit)).div_ceil(lanes);
        let ahead = (VECTORS_AHEAD / wide_vectors).clamp(1, ROWS_AHEAD);
        let ring = (span(&reach_y).max(1) + ahead - 1).min(g.input()[1]).next_power_of_two();
        let all = ax.phases.iter().map(|p| p.outputs).max().unwrap_or(0).max(1);
        let least = if unit == 1 { lanes } else { LEAST_POSITIONS };
        let stride = ax.axis.stride;
        let wide_position = stride.min(ax.output).saturating_mul(unit);
        let most = (RING_BYTES / size / ring.saturating_mul(wide_position).max(1)).max(least);
        let x_pieces = all.div_ceil(most);
        let positions = all.div_ceil(x_pieces).next_multiple_of(if unit == 1 { lanes.min(all) } else { 1 });
        let x_pieces = all.div_ceil(positions);
        let line = 64 / size;
        // A store of whole vectors reaches beyond the last output.
        let over = match widening {
            Widening::Outputs { .. } | Widening::Interleaved { .. } => ax.phases.len() * lanes,
            _ => lanes,
        };
        let wide = (positions.saturating_mul(stride).min(ax.output) * unit + over).next_multiple_of(line);
        // Taps far apart make rows that nobody has room for: `slot` says so.
        let narrow = (positions.saturating_add(span(&reach_x))).saturating_mul(unit).min(usize::MAX / 256);
        let narrow = (narrow + lanes).next_multiple_of(line);
        let waiting = positions.next_multiple_of(lanes);
        let phases = match widening {
            Widening::Phases if stride > 1 => ax.phases.len(),
            _ => 0,
        };
        let depth = az.phases.iter().map(|p| p.taps).max().unwrap_or(0);

        let height = ay.output;
        let outer = p.batch() * units * az.output * x_pieces;
        let wanted = match request.target.threads {
            1 => 1,
            threads => {
                ((Self::predicted_ns(request) / GRAIN_NS) as usize).clamp(1, TASKS_PER_THREAD * threads)
            }
        };
        let mut bands = wanted.div_ceil(outer.max(1)).min(height.div_ceil(BAND_ROWS)).max(1);
        let span_y = span(&reach_y);
        let suspects = |bands: usize| {
            let rows = height.div_ceil(bands);
            (rows.div_ceil(ay.axis.stride) + span_y).min(g.input()[1])
        };
        let told = diagonal && p.layout() == Layout::Nchw;
        let too_many = |rows: usize| (rows * depth).saturating_mul(narrow) > SUSPECT_BYTES / size;
        while told && bands < height && too_many(suspects(bands)) {
            bands = (2 * bands).min(height);
        }
        let rows = height.div_ceil(bands);
        let bands = height.div_ceil(rows);
        let pieces = outer * bands;
        let pieces_per_task = pieces.div_ceil(wanted).max(1);
        Self {
            widening,
            lanes,
            unit,
            channels,
            units,
            diagonal,
            reach_y,
            reach_x,
            depth,
            ring,
            wide,
            ahead,
            narrow,
            waiting,
            phases,
            positions,
            x_pieces,
            rows,
            bands,
            suspects: if told { suspects(bands) } else { 0 },
            pieces,
            pieces_per_task,
            tasks: pieces.div_ceil(pieces_per_task),
        }
    }

    /// Elements of one worker's scratch.
    pub fn slot(&self) -> usize {
        self.parts().iter().fold(0, |sum, part| sum.saturating_add(*part).min(isize::MAX as usize / 64))
    }

    /// Elements of each part of the scratch: rows, what is added to one, phases, suspects, the ring.
    pub fn parts(&self) -> [usize; 5] {
        [
            self.ahead.saturating_mul(self.narrow),
            self.narrow,
            self.waiting.saturating_mul(self.phases),
            (self.suspects * self.depth).saturating_mul(self.narrow),
            self.ring.saturating_mul(self.wide),
        ]
    }

    /// Workers of a run, and the scratch of all of them.
    pub fn workers(&self, request: &Request<'_>) -> (usize, Scratch) {
        Scratch::workers(request.target.threads, self.tasks, self.slot(), request.dtype)
    }

    /// Elements of packed factors and bias.
    pub fn packed_elements(&self, geometry: &Geometry) -> usize {
        let [kz, ky, _] = geometry.kernel();
        self.z_line(kz) + self.x_line(geometry) + (ky + 1) * self.period_most()
    }

    /// Elements of all factors along z, of `taps` taps.
    pub fn z_line(&self, taps: usize) -> usize {
        match self.widening {
            Widening::Channels => taps * self.padded(),
            _ => taps * self.units * self.channels,
        }
    }

    /// Elements of all factors along x.
    pub fn x_line(&self, geometry: &Geometry) -> usize {
        let [_, _, kx] = geometry.kernel();
        let channels = geometry.problem().out_channels();
        match self.widening {
            Widening::Phases => kx * channels,
            Widening::Outputs { span } | Widening::Interleaved { span } => {
                channels * span * self.columns(geometry)
            }
            Widening::Channels => kx * self.padded(),
        }
    }

    /// Outputs of one position, padded to vectors.
    pub fn columns(&self, geometry: &Geometry) -> usize {
        geometry.axes()[2].phases.len().next_multiple_of(self.lanes)
    }

    /// Channels of a position, padded to vectors.
    pub fn padded(&self) -> usize {
        self.unit.next_multiple_of(self.lanes)
    }

    /// Vectors after which channels and lanes come together again, where a position is many channels.
    pub fn period(&self) -> usize {
        let (mut a, mut b) = (self.unit, self.lanes);
        while b > 0 {
            (a, b) = (b, a % b);
        }
        self.unit / a
    }

    /// Elements of the factors of one tap along y.
    fn period_most(&self) -> usize {
        if self.unit > 1 { self.period() * self.lanes } else { self.units * self.channels }
    }

    /// `"avx512-x16"`: lanes along x or channels; `-diagonal` where most of the stored weights are zeros.
    pub fn name(&self, request: &Request<'_>) -> String {
        let lanes_are = match self.widening {
            Widening::Phases | Widening::Interleaved { .. } => "x",
            Widening::Outputs { .. } => "s",
            Widening::Channels => "c",
        };
        let kind = if self.diagonal { "-diagonal" } else { "" };
        format!("{}-{lanes_are}{}{kind}", request.target.isa.name(), self.lanes)
    }

    /// Multiply-adds done: the inputs of all planes that meet an output along z, then along x, then along y.
    pub fn multiply_adds(geometry: &Geometry) -> u128 {
        let (p, [az, ay, ax]) = (geometry.problem(), geometry.axes());
        let [_, height, width] = geometry.input().map(|n| n as u128);
        let along_z = if az.axis.kernel > 1 { az.landing_pairs() * height * width } else { 0 };
        let along_x = az.output as u128 * height * ax.landing_pairs();
        let along_y = az.output as u128 * ax.output as u128 * ay.landing_pairs();
        (p.batch() * p.out_channels()) as u128 * (along_z + along_x + along_y)
    }

    /// Nanoseconds on one thread: products, and the traffic of inputs and outputs.
    pub fn predicted_ns(request: &Request<'_>) -> f64 {
        let (g, size) = (request.geometry, request.dtype.size());
        let roofs = Roofs::assumed(request.target.isa, request.dtype);
        let bytes = (g.input_len() + g.output_len()) as f64 * size as f64;
        let cached = bytes.min(CACHED_BYTES);
        let traffic = cached / CACHED_BYTES_PER_NS + (bytes - cached) / DRAM_BYTES_PER_NS;
        1000.0 + roofs.compute_ns(Self::multiply_adds(g), SHARE_OF_PEAK) + traffic
    }
}
