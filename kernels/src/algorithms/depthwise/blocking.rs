//! Every size that the kernel chooses: what a lane is, the padded rows, the pieces of work.

use std::ops::Range;

use super::passes::form;
use crate::contract::request::Request;
use crate::machine::roofs::Roofs;
use crate::machine::scratch::Scratch;
use crate::microkernels::row_pass::Form;
use crate::microkernels::row_tile::{Lanes, PAIR, max_vectors};
use crate::problem::problem::Layout;

/// Padded input rows of one worker, at most (bytes): they stay in the level-1 cache, beside what is read and written.
const RING_BYTES: usize = 16 << 10;
/// Outputs of all channels that are made before the next rows are begun (bytes): they stay in the level-2 cache.
const NEAR_BYTES: usize = 512 << 10;
/// A task that is shorter does not pay for its way to another thread (nanoseconds).
const GRAIN_NS: f64 = 10_000.0;
/// What a tile costs beside its products, in nanoseconds; more where each vector is stored on its own.
const TILE_NS: f64 = 50.0;
const TILE_NS_CHANNELS: f64 = 80.0;
/// Bytes per nanosecond of input and output, most of them written.
const BYTES_PER_NS: f64 = 40.0;
/// The same where whole rows are made, measured on Zen 4: of the first bytes, which stay in the last cache, and of the rest.
const CACHED_BYTES: f64 = 8e6;
const CACHED_BYTES_PER_NS: f64 = 90.0;
const DRAM_BYTES_PER_NS: f64 = 25.0;
/// Tasks for each thread, so that a slow core holds nobody up.
const TASKS_PER_THREAD: usize = 8;

/// The sizes, all fixed when the plan is made.
#[derive(Debug, Clone)]
pub struct Blocking {
    /// The pass that makes whole rows, where there is one.
    pub form: Option<Form>,
    /// Whether it reads input rows where they lie, not from the ring.
    pub in_place: bool,
    pub lanes_are: Lanes,
    /// Elements of one vector.
    pub lanes: usize,
    /// Vectors of the widest tile.
    pub vectors: usize,
    /// Elements of one position in a padded row.
    pub unit: usize,
    /// Input elements relative to a position q that any tap may read, along y and x.
    pub reach_y: Range<i64>,
    pub reach_x: Range<i64>,
    /// Padded rows for each tap along z: a power of 2. And positions that they are ahead.
    pub ring: usize,
    pub ahead: usize,
    /// Elements of a padded row, and those before its first input.
    pub pitch: usize,
    pub lead: usize,
    /// Element of a padded row that input 0 would be, relative to the first position of a piece.
    pub x_start: i64,
    /// Positions along x of one piece, and pieces along x.
    pub positions: usize,
    pub x_pieces: usize,
    /// Output rows (z and y) of one piece, and pieces along them.
    pub rows: usize,
    pub row_pieces: usize,
    /// Channels, or vectors of channels; so many of them lie side by side in a pass; and how many such sides there are.
    pub units: usize,
    pub side: usize,
    pub sides: usize,
    /// See [`Blocking::first_channel`].
    last_shift: usize,
    /// Pieces of one task.
    pub pieces: usize,
    pub tasks: usize,
    /// What a pass reads where there is no input row, and that with what it writes where there is no output row: elements
    /// before the padded rows. All of them; and those of the phases that wait for being interleaved.
    pub zeros: usize,
    pub spare: usize,
    pub rows_len: usize,
    pub phases_len: usize,
}

impl Blocking {
    pub fn new(request: &Request<'_>) -> Self {
        let (g, p) = (request.geometry, request.geometry.problem());
        let size = request.dtype.size();
        let lanes = request.target.isa.f32_lanes() * 4 / size;
        let vectors = max_vectors(request.target.isa.registers());
        let [az, ay, ax] = g.axes();
        let (reach_y, reach_x) = (ay.reach(), ax.reach());
        let span = |r: &Range<i64>| (r.end - r.start) as usize;
        let (lanes_are, unit, units) = match p.layout() {
            Layout::Nchw => (Lanes::Positions, 1, p.out_channels()),
            Layout::Nhwc => (Lanes::Channels, lanes, p.out_channels().div_ceil(lanes)),
        };

        let form = form(request);
        let in_place = form.is_some()
            && match lanes_are {
                Lanes::Positions => true,
                // Short vectors whose parts of lines lie far apart wait for them less where rows are copied first; but a
                // whole vector that others overlap is stored faster than a part of one.
                Lanes::Channels => {
                    let wide = request.target.isa.registers() >= 32 || p.out_channels() % lanes != 0;
                    wide && p.group_out() == 1 && p.out_channels() >= lanes
                }
            };

        // Along x: as many positions as the padded rows and the waiting phases allow, in equal parts.
        let depth = az.phases.iter().map(|p| p.taps).max().unwrap_or(0);
        // Rows are padded for the next pair, too: its loads then meet stores that have left the store buffer.
        let ahead = (2 * PAIR - 1).div_ceil(ay.axis.stride);
        let ring = (span(&reach_y) + ahead).min(g.input()[1].max(1)).next_power_of_two();
        let waiting =
            if lanes_are == Lanes::Positions && ax.axis.stride > PAIR { PAIR * ax.phases.len() } else { 0 };
        let all = ax.phases.iter().map(|p| p.outputs).max().unwrap_or(0);
        let least = if unit == 1 { vectors * lanes } else { vectors };
        let rows = if in_place { 1 } else { depth * ring };
        let most = (RING_BYTES / size / (rows * unit + waiting).max(1)).max(least);
        let x_pieces = all.div_ceil(most).max(1);
        let whole = if unit == 1 { lanes } else { 1 };
        let positions = all.div_ceil(x_pieces).next_multiple_of(whole).max(1);
        let x_pieces = all.div_ceil(positions);
        // The middle of what a position reads lies on a vector boundary.
        let middle = span(&reach_x) / 2;
        let lead = if unit == 1 { middle.next_multiple_of(lanes) - middle } else { 0 };
        let x_start = lead as i64 - reach_x.start * unit as i64;
        let pitch = (lead + (positions + span(&reach_x)) * unit).next_multiple_of(64 / size);

        // Whole rows are made many at a time.
        let mut ring = ring;
        while form.is_some() && !in_place && ring < g.input()[1] && 2 * ring * pitch * size <= RING_BYTES {
            ring *= 2;
        }

        let (zeros, dust) = match (form, lanes_are) {
            (None, _) => (0, 0),
            (_, Lanes::Channels) => (lanes, lanes),
            // A step of two vectors may begin where the positions end.
            (_, Lanes::Positions) => {
                let row = (positions + span(&reach_x) + 2 * lanes).next_multiple_of(64 / size);
                (row, PAIR * row)
            }
        };
        let spare = zeros + dust;

        let last_shift = if in_place { units * unit - p.out_channels() } else { 0 };

        let (output_rows, threads) = (az.output * ay.output, request.target.threads);
        let wanted = if threads == 1 {
            1
        } else {
            ((Self::predicted_ns(request) / GRAIN_NS) as usize).clamp(1, TASKS_PER_THREAD * threads)
        };
        let together = in_place && lanes_are == Lanes::Channels;
        let side = match together {
            // Channels that two units share are written by one pass.
            true if last_shift > 0 => units,
            // As few sides as feed all threads.
            true => {
                let others = p.batch() * x_pieces * output_rows.div_ceil(4 * PAIR);
                units.div_ceil(wanted.div_ceil(others.max(1)).clamp(1, units))
            }
            false => 1,
        };
        let sides = units.div_ceil(side.max(1));
        let outer = p.batch() * sides * x_pieces;
        // Vectors of channels share cache lines: all of them soon after one another.
        let near = if unit > 1 && sides > 1 {
            let row = (positions * ax.axis.stride * p.out_channels() * size).max(1);
            output_rows.div_ceil((NEAR_BYTES / row).max(4 * PAIR))
        } else {
            1
        };
        let row_pieces = wanted.div_ceil(outer.max(1)).max(near).min(output_rows.div_ceil(4 * PAIR)).max(1);
        let rows = output_rows.div_ceil(row_pieces).next_multiple_of(PAIR);
        let row_pieces = output_rows.div_ceil(rows);
        let pieces = (outer * row_pieces).div_ceil(wanted).max(1);
        Self {
            form,
            in_place,
            lanes_are,
            lanes,
            vectors,
            unit,
            reach_y,
            reach_x,
            ring,
            ahead,
            pitch,
            lead,
            x_start,
            positions,
            x_pieces,
            rows,
            row_pieces,
            units,
            side,
            sides,
            last_shift,
            pieces,
            tasks: (outer * row_pieces).div_ceil(pieces),
            zeros,
            spare,
            rows_len: spare + if in_place { 0 } else { depth * ring * pitch },
            phases_len: waiting * positions,
        }
    }

    /// Elements of one worker's scratch.
    pub fn slot(&self) -> usize {
        self.rows_len + self.phases_len
    }

    /// Workers of a run, and the scratch of all of them.
    pub fn workers(&self, request: &Request<'_>) -> (usize, Scratch) {
        Scratch::workers(request.target.threads, self.tasks, self.slot(), request.dtype)
    }

    /// Channels of the bias and of packed weights.
    pub fn channels(&self) -> usize {
        self.units * self.unit
    }

    /// The first channel of a unit: the last vector in place ends with the last channel, and so shares some with the one
    /// before, which makes the same of them.
    pub fn first_channel(&self, unit: usize) -> usize {
        let shift = if self.in_place && unit + 1 == self.units { self.last_shift } else { 0 };
        unit * self.unit - shift
    }

    /// Elements of the packed weights.
    pub fn packed_weights(&self, request: &Request<'_>) -> usize {
        self.channels() * request.geometry.kernel_taps()
    }

    /// The tile's name: `"avx512-2x2x4x16"` is 2 rows × 2 phases × 4 vectors of 16 lanes.
    pub fn name(&self, request: &Request<'_>) -> String {
        format!("{}-{PAIR}x{PAIR}x{}x{}", request.target.isa.name(), self.vectors, self.lanes)
    }

    /// Multiply-adds done: taps along z and y are exact, along x every position has all taps of its phase, and lanes fill
    /// whole vectors.
    pub fn multiply_adds(request: &Request<'_>) -> u128 {
        let (p, [az, ay, ax]) = (request.geometry.problem(), request.geometry.axes());
        let lanes = request.target.isa.f32_lanes() * 4 / request.dtype.size();
        let (whole_x, whole_c) = if p.layout() == Layout::Nchw { (lanes, 1) } else { (1, lanes) };
        let along_x: usize = ax.phases.iter().map(|p| p.taps * p.outputs.next_multiple_of(whole_x)).sum();
        let channels = p.batch() * p.out_channels().next_multiple_of(whole_c);
        channels as u128 * az.landing_pairs() * ay.landing_pairs() * along_x as u128
    }

    /// Nanoseconds on one thread: the products, what each tile costs beside them (measured on Zen 4), and the traffic.
    pub fn predicted_ns(request: &Request<'_>) -> f64 {
        let (g, p) = (request.geometry, request.geometry.problem());
        let roofs = Roofs::assumed(request.target.isa, request.dtype);
        let bytes = g.compulsory_elements() as f64 * request.dtype.size() as f64;
        let products_ns = roofs.compute_ns(Self::multiply_adds(request), 1.0);
        if form(request).is_some() {
            let cached = bytes.min(CACHED_BYTES);
            let traffic_ns = cached / CACHED_BYTES_PER_NS + (bytes - cached) / DRAM_BYTES_PER_NS;
            return 1000.0 + products_ns + traffic_ns;
        }
        let lanes = request.target.isa.f32_lanes() * 4 / request.dtype.size();
        let [az, ay, ax] = g.axes();
        let most = ax.phases.iter().map(|p| p.outputs).max().unwrap_or(0);
        let (units, positions, tile_ns) = match p.layout() {
            Layout::Nchw => (p.out_channels(), lanes, TILE_NS),
            Layout::Nhwc => (p.out_channels().div_ceil(lanes), 1, TILE_NS_CHANNELS),
        };
        let along_x = ax.phases.len().div_ceil(PAIR)
            * most.div_ceil(positions * max_vectors(request.target.isa.registers()));
        let rows = p.batch() * units * az.output * ay.output.div_ceil(PAIR);
        let tiles = rows as f64 * along_x as f64;
        1000.0 + products_ns + tiles * tile_ns + bytes / BYTES_PER_NS
    }
}
