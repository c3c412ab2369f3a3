//! Every size that the kernel chooses: the transform's length, blocks of windows, tasks, and the scratch that follows.

use std::ops::Range;

use super::fourier;
use crate::contract::request::{Cost, Declined, Request};
use crate::machine::roofs::Roofs;
use crate::machine::scratch::{self, Scratch, spread};
use crate::microkernels::slab::equal_parts;
use crate::microkernels::tile::max_pixels;
use crate::problem::geometry::{Geometry, Phase};
use crate::problem::problem::{Axis, Layout};

/// Lengths of the transform; the error bound is that of the longest.
pub const LENGTHS: [usize; 5] = [8, 16, 32, 64, 128];
/// With fewer taps in a phase, three products for two reals leave nothing to gain.
const LEAST_TAPS: usize = 3;
/// Fewer input channels than this leave the lanes of the transforms empty.
const LEAST_IN: usize = 16;
/// Neighbouring outputs that are stored at once, at least.
const LEAST_RUN: usize = 8;
/// Points of the inputs of one worker, at most (bytes): those of one point stay in the level-2 cache while its weights
/// stream by.
const POINT_BYTES: usize = 8 << 20;
/// Sums of one worker, at most (bytes).
const SUM_BYTES: usize = 1 << 20;
/// Vectors of columns in a full tile.
const VECTORS: usize = 2;

/// Nanoseconds for a vector that passes one level of a transform, for one that is staged, for one that is stored (fitted to
/// istft_1024 and its kin; AVX-512, one thread).
const LEVEL: f64 = 1.0;
const STAGED: f64 = 1.0;
const STORED: f64 = 3.0;
/// Share of the assumed peak at which products are made, and bytes per nanosecond at which weights come.
const SHARE: f64 = 1.05;
const STREAM: f64 = 14.0;

/// The sizes, all fixed when the plan is made.
///
/// A *column* is one stride phase of one output channel of a group, in the order in which the layout holds neighbouring
/// outputs: `[co][phase]` (NCHW) or `[phase][co]` (NHWC). A *row* is one window of one image.
#[derive(Debug, Clone)]
pub struct Blocking {
    /// Elements of one vector.
    pub lanes: usize,
    /// Windows of the widest tile.
    pub pixels: usize,
    /// P: inputs of a window.
    pub length: usize,
    /// R: taps of the longest phase. The first R − 1 sums of a window lack their earlier inputs.
    pub taps: usize,
    /// Positions of all phases, as the input that their first tap reads.
    pub positions: Range<i64>,
    /// Windows of one image.
    pub windows: usize,
    /// Rows of all images, and of one task.
    pub rows: usize,
    pub row_step: usize,
    pub group_in: usize,
    pub group_out: usize,
    pub groups: usize,
    pub stride: usize,
    /// Columns of a group; of a part, a whole number of tiles: sums of a part are made at once.
    pub columns: usize,
    pub part: usize,
    /// Parts of one task.
    pub parts_step: usize,
    /// Neighbouring columns that are neighbouring outputs.
    pub run: usize,
}

/// One task: some rows, some parts of the columns of one group.
#[derive(Debug, Clone)]
pub struct Task {
    pub rows: Range<usize>,
    pub group: usize,
    pub parts: Range<usize>,
}

/// Why the kernel does not take a geometry at all.
fn suits(g: &Geometry) -> Result<(), Declined> {
    let p = g.problem();
    let [z, y, x] = p.axes();
    let no = |reason: String| Err(Declined { reason });
    if [z, y].iter().any(|&a| *a != Axis::UNIT) {
        return no("takes one spatial axis".into());
    }
    if x.dilation != 1 {
        return no(format!("dilation {}: takes 1", x.dilation));
    }
    let taps = x.kernel.div_ceil(x.stride);
    if taps < LEAST_TAPS {
        return no(format!(
            "{taps} taps in a stride phase: too short, from {LEAST_TAPS} on a transform pays"
        ));
    }
    if taps > LENGTHS[LENGTHS.len() - 1] / 2 {
        return no(format!("{taps} taps in a stride phase: windows are at most {} long", LENGTHS[4]));
    }
    if p.group_in() < LEAST_IN {
        return no(format!(
            "{} input channels in a group: at least {LEAST_IN} fill the lanes of a transform",
            p.group_in()
        ));
    }
    if g.output()[2] < x.stride {
        return no(format!("{} outputs at stride {}: some phases are empty", g.output()[2], x.stride));
    }
    let run = run(g);
    if run < LEAST_RUN {
        return no(format!("{run} neighbouring outputs at a time: at least {LEAST_RUN}"));
    }
    Ok(())
}

/// Columns that are neighbours in the output.
fn run(g: &Geometry) -> usize {
    let (p, stride) = (g.problem(), g.axes()[2].axis.stride);
    match p.layout() {
        Layout::Nchw => stride,
        Layout::Nhwc if p.groups() == 1 => stride * p.group_out(),
        Layout::Nhwc => p.group_out(),
    }
}

impl Blocking {
    /// All lengths that suit, the cheapest on one thread first: lengths round differently, so their order may not depend on
    /// the number of threads.
    pub fn all(request: &Request<'_>) -> Result<Vec<Self>, Declined> {
        suits(request.geometry)?;
        let mut declined = None;
        let mut all: Vec<(f64, Self)> = Vec::with_capacity(LENGTHS.len());
        for length in LENGTHS {
            match Self::new(request, length) {
                Ok(blocking) => all.push((blocking.cost(request, 1).nanoseconds, blocking)),
                Err(reason) => declined = Some(reason),
            }
        }
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        match declined {
            Some(reason) if all.is_empty() => Err(reason),
            _ => Ok(all.into_iter().map(|(_, blocking)| blocking).collect()),
        }
    }

    fn new(request: &Request<'_>, length: usize) -> Result<Self, Declined> {
        let (g, p) = (request.geometry, request.geometry.problem());
        let size = request.dtype.size();
        let lanes = request.target.isa.f32_lanes() * 4 / size;
        let x = &g.axes()[2];
        let taps = x.axis.kernel.div_ceil(x.axis.stride);
        if length < 2 * taps {
            return Err(Declined::because(format!("windows of {length} for {taps} taps")));
        }
        let of_phases = |at: fn(&Phase) -> i64| x.phases.iter().map(at);
        let begin = of_phases(|p| p.base).min().unwrap_or(0);
        let end = of_phases(|p| p.base + p.outputs as i64).max().unwrap_or(0);
        let windows = ((end - begin) as usize).div_ceil(length - taps + 1);
        let columns = x.axis.stride * p.group_out();
        let mut blocking = Self {
            lanes,
            pixels: max_pixels(request.target.isa.registers()),
            length,
            taps,
            positions: begin..end,
            windows,
            rows: p.batch() * windows,
            row_step: 1,
            group_in: p.group_in(),
            group_out: p.group_out(),
            groups: p.groups(),
            stride: x.axis.stride,
            columns,
            part: 0,
            parts_step: 1,
            run: run(g),
        };
        let bytes = blocking.weights() * size as u128;
        if bytes > scratch::limit() as u128 {
            return Err(Declined::because(format!(
                "the weights' spectra take {bytes} bytes: the limit is {}",
                scratch::limit()
            )));
        }
        let most = POINT_BYTES / size / (blocking.points() * blocking.padded_in());
        blocking.row_step = equal_parts(blocking.rows, most.max(1));
        let tile = VECTORS * lanes;
        let most = SUM_BYTES / size / (blocking.points() * blocking.row_step) / tile;
        let tiles = columns.div_ceil(tile);
        let threads = request.target.threads;
        let others = blocking.rows.div_ceil(blocking.row_step) * blocking.groups;
        // Threads share the columns where there are too few rows; each makes the points of the inputs for itself.
        let wanted = if threads > 1 { (2 * threads).div_ceil(others.max(1)) } else { 1 };
        blocking.part = equal_parts(tiles, most.clamp(1, tiles.div_ceil(wanted))) * tile;
        blocking.parts_step = blocking.parts().div_ceil(wanted.min(blocking.parts()));
        Ok(blocking)
    }

    /// Points of a window.
    pub fn points(&self) -> usize {
        fourier::points(self.length)
    }

    /// Positions of a phase that one window makes.
    pub fn step(&self) -> usize {
        self.length - self.taps + 1
    }

    /// Input channels of one group, padded to whole vectors.
    pub fn padded_in(&self) -> usize {
        self.group_in.next_multiple_of(self.lanes)
    }

    /// Columns of one group, padded to whole vectors.
    pub fn padded_columns(&self) -> usize {
        self.columns.next_multiple_of(self.lanes)
    }

    /// Parts of the columns of one group.
    pub fn parts(&self) -> usize {
        self.columns.div_ceil(self.part)
    }

    /// Columns of a part, padded to whole vectors.
    pub fn part_columns(&self, part: usize) -> usize {
        (self.padded_columns() - part * self.part).min(self.part)
    }

    /// The tiles of a part: each first column relative to the part, and its vectors.
    pub fn tiles(&self, part: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (columns, lanes) = (self.part_columns(part), self.lanes);
        (0..columns).step_by(VECTORS * lanes).map(move |at| (at, ((columns - at) / lanes).min(VECTORS)))
    }

    /// Packed elements of one group.
    pub fn group_weights(&self) -> usize {
        self.points() * self.padded_in() * self.padded_columns()
    }

    /// Packed elements of all, which need not fit.
    fn weights(&self) -> u128 {
        let one = self.points() as u128 * self.padded_in() as u128 * self.padded_columns() as u128;
        one * self.groups as u128
    }

    /// Inputs that successive windows of one image read.
    pub fn reads(&self, windows: usize) -> usize {
        (windows - 1) * self.step() + self.length
    }

    /// Distance of the channels of staged inputs.
    pub fn pitch(&self, size: usize) -> usize {
        let most = self.reads(self.row_step.min(self.windows).max(1));
        spread(most.next_multiple_of(self.lanes), size)
    }

    /// Elements of one worker's buffers: staged inputs, the same by position, one transform, points, sums, outputs of a tile.
    pub fn buffers(&self, size: usize) -> [usize; 6] {
        let tile = VECTORS * self.lanes;
        [
            self.pitch(size) * self.lanes,
            self.pitch(size) * self.lanes,
            self.length * self.lanes,
            self.points() * self.padded_in() * self.row_step,
            self.points() * self.row_step * self.part.min(self.padded_columns()),
            self.step() * tile,
        ]
    }

    /// Tasks of a run.
    pub fn tasks(&self) -> usize {
        self.rows.div_ceil(self.row_step) * self.groups * self.parts().div_ceil(self.parts_step)
    }

    /// Task number `i`.
    pub fn task(&self, i: usize) -> Task {
        let shares = self.parts().div_ceil(self.parts_step);
        let (share, i) = (i % shares, i / shares);
        let (group, i) = (i % self.groups, i / self.groups);
        let part = share * self.parts_step;
        Task {
            rows: i * self.row_step..((i + 1) * self.row_step).min(self.rows),
            group,
            parts: part..(part + self.parts_step).min(self.parts()),
        }
    }

    /// Workers of a run, and the scratch of all of them.
    pub fn workers(&self, request: &Request<'_>) -> (usize, Scratch) {
        let slot = self.buffers(request.dtype.size()).iter().sum();
        Scratch::workers(request.target.threads, self.tasks(), slot, request.dtype)
    }

    /// The tile's name: `"avx512-fft16-14x32"` is windows of 16, tiles of 14 windows × 32 columns.
    pub fn name(&self, request: &Request<'_>) -> String {
        let tile = (VECTORS * self.lanes).min(self.padded_columns());
        format!("{}-fft{}-{}x{tile}", request.target.isa.name(), self.length, self.pixels)
    }

    /// What a run costs on some threads.
    pub fn cost(&self, request: &Request<'_>, threads: usize) -> Cost {
        let size = request.dtype.size();
        let roofs = Roofs::assumed(request.target.isa, request.dtype);
        let multiply_adds = self.weights() * self.rows as u128;
        let passes = self.rows.div_ceil(self.row_step) as f64;
        let streamed = passes * self.weights() as f64 * size as f64 / STREAM;
        let rows = (self.rows * self.groups) as f64 / self.lanes as f64;
        let levels = (self.length.trailing_zeros() + 2) as f64 * self.length as f64 * LEVEL;
        let vectors = rows
            * ((levels + STAGED * self.length as f64) * self.padded_in() as f64
                + (levels + STORED * self.step() as f64) * self.padded_columns() as f64);
        let moved = (request.geometry.compulsory_elements() * size as u128) as f64;
        Cost {
            nanoseconds: (roofs.compute_ns(multiply_adds, SHARE).max(streamed) + vectors) / threads as f64
                + roofs.dram_ns(moved),
            scratch_bytes: self.workers(request).1.bytes,
            packed_bytes: usize::try_from(self.weights() * size as u128).unwrap_or(usize::MAX),
            multiply_adds,
        }
    }
}
