//! How the outputs of one position lie in vectors.
//!
//! Position j of a row owns the outputs `width·j − crop .. width·(j + 1) − crop` of every run. A run is one output
//! channel's row where channels come first (`width` = stride), or the whole row with all its channels where they come
//! last (`width` = stride · channels): neighbours of a run are neighbours in memory.

use std::ops::Range;

use crate::microkernels::strip_tile::MOST_STRIPS;
use crate::problem::geometry::Geometry;
use crate::problem::problem::Layout;

/// The columns of the product: `runs` × `width` outputs of one position, cut into vectors.
#[derive(Debug, Clone, Copy)]
pub struct Columns {
    /// Elements of one vector.
    pub lanes: usize,
    /// Runs of one group of channels.
    pub runs: usize,
    /// Outputs of a run that belong to one position.
    pub width: usize,
    /// Outputs that position 0 owns before the row begins.
    pub crop: usize,
    /// Outputs of a run.
    pub row: usize,
    /// Distance of the runs in memory.
    pub run_step: usize,
    /// Outputs of one run in one vector; a vector holds as many runs as fit.
    pub piece: usize,
}

/// What a vector holds: `piece` outputs from `offset` on, of `runs` runs from `first_run` on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Held {
    pub first_run: usize,
    pub runs: usize,
    pub offset: usize,
    /// Outputs of each run.
    pub len: usize,
}

impl Columns {
    pub fn new(geometry: &Geometry, lanes: usize) -> Self {
        let (x, p) = (&geometry.axes()[2], geometry.problem());
        let (runs, scale) = match p.layout() {
            Layout::Nchw => (p.group_out(), 1),
            Layout::Nhwc => (1, p.out_channels()),
        };
        let width = x.axis.stride * scale;
        Self {
            lanes,
            runs,
            width,
            crop: x.axis.padding.0 * scale,
            row: x.output * scale,
            run_step: geometry.output_plane(),
            piece: width.min(lanes),
        }
    }

    /// Runs that share a vector.
    pub fn runs_per_vector(&self) -> usize {
        self.lanes / self.piece
    }

    /// Whether a vector is cut into pieces that the tile stores from its registers: 1, 2 or 4 that fill it.
    pub fn divides(&self) -> bool {
        let pieces = self.runs_per_vector();
        pieces * self.piece == self.lanes && [1, 2, MOST_STRIPS].contains(&pieces)
    }

    /// Vectors that hold one run, or the few runs that share a vector.
    pub fn parts(&self) -> usize {
        self.width.div_ceil(self.piece)
    }

    /// Vectors of one position.
    pub fn vectors(&self) -> usize {
        self.parts() * self.runs.div_ceil(self.runs_per_vector())
    }

    /// What vector `v` holds. Pairs of vectors hold the same part of neighbouring runs, so that they are cropped alike;
    /// the pairs of the same runs follow one another, since they share cache lines of the output. Runs without a partner
    /// come last.
    pub fn held(&self, v: usize) -> Held {
        let pair = 2 * self.parts();
        let (place, part) = if v < self.vectors() / pair * pair {
            (v / pair * 2 + v % 2, v % pair / 2)
        } else {
            (v / pair * 2, v % pair)
        };
        let (first_run, offset) = (place * self.runs_per_vector(), part * self.piece);
        Held {
            first_run,
            runs: self.runs_per_vector().min(self.runs - first_run),
            offset,
            len: self.piece.min(self.width - offset),
        }
    }

    /// The positions that own at least one output inside the row, for vector `v`.
    pub fn positions(&self, v: usize) -> Range<usize> {
        let held = self.held(v);
        let end = held.offset + held.len;
        let first = (self.crop + 1).saturating_sub(end).div_ceil(self.width);
        first..(self.crop + self.row).saturating_sub(held.offset).div_ceil(self.width).max(first)
    }

    /// The positions whose outputs of vector `v` lie inside the row, all of them.
    pub fn whole_positions(&self, v: usize) -> Range<usize> {
        let held = self.held(v);
        let first = self.crop.saturating_sub(held.offset).div_ceil(self.width);
        let room = (self.crop + self.row).checked_sub(held.offset + held.len);
        first..room.map_or(0, |room| room / self.width + 1).max(first)
    }

    /// Positions of a row.
    pub fn all_positions(&self) -> usize {
        (self.row + self.crop).div_ceil(self.width)
    }

    /// Real columns, and lanes that stand for them.
    pub fn filling(&self) -> (usize, usize) {
        (self.runs * self.width, self.vectors() * self.lanes)
    }
}
