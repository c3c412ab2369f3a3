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
    /// The first of these, that have a tap more than the others; all, if all have as many.
    pub long: usize,
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
        let rest = x.axis.kernel % x.axis.stride;
        Self {
            lanes,
            runs,
            width,
            long: if rest == 0 { width } else { rest * scale },
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

    /// Whether no vector holds outputs of more taps than others of it have.
    pub fn is_even(&self) -> bool {
        self.long == self.width || self.piece == self.lanes
    }

    /// Vectors that hold one run, or the few runs that share a vector: those of the long outputs, and the others.
    fn parts_by_taps(&self) -> [usize; 2] {
        [self.long, self.width - self.long].map(|outputs| outputs.div_ceil(self.piece))
    }

    /// The same, of both kinds.
    pub fn parts(&self) -> usize {
        self.parts_by_taps().iter().sum()
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
        let (place, part) =
            if v < self.paired() { (v / pair * 2 + v % 2, v % pair / 2) } else { (v / pair * 2, v % pair) };
        let first_run = place * self.runs_per_vector();
        let [long, _] = self.parts_by_taps();
        let (offset, end) = match part.checked_sub(long) {
            None => (part * self.piece, self.long),
            Some(part) => (self.long + part * self.piece, self.width),
        };
        Held {
            first_run,
            runs: self.runs_per_vector().min(self.runs - first_run),
            offset,
            len: self.piece.min(end - offset),
        }
    }

    /// Vectors that have a partner.
    fn paired(&self) -> usize {
        let pair = 2 * self.parts();
        self.vectors() / pair * pair
    }

    /// Panels: pairs of vectors with as many taps, the last ones of either kind perhaps alone.
    pub fn panels(&self) -> usize {
        let (paired, [long, short]) = (self.paired(), self.parts_by_taps());
        let alone = if paired < self.vectors() { long.div_ceil(2) + short.div_ceil(2) } else { 0 };
        paired / 2 + alone
    }

    /// The vectors of panel `i`.
    pub fn panel(&self, i: usize) -> Range<usize> {
        let (paired, [long, _]) = (self.paired(), self.parts_by_taps());
        let (start, end) = match i.checked_sub(paired / 2) {
            None => (2 * i, paired),
            Some(i) if 2 * i < long => (paired + 2 * i, paired + long),
            Some(i) => (paired + long + 2 * (i - long.div_ceil(2)), self.vectors()),
        };
        start..(start + 2).min(end)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::problem::{Axis, Problem};

    /// Every column in one vector, panels of neighbouring vectors, no vector and no panel with columns of both kinds.
    #[test]
    fn vectors_hold_every_output_of_a_position_once() {
        for (layout, channels, kernel, stride) in [
            (Layout::Nchw, 1, 2048, 441),
            (Layout::Nchw, 3, 90, 40),
            (Layout::Nchw, 4, 90, 40),
            (Layout::Nchw, 5, 64, 32),
            (Layout::Nchw, 7, 8, 4),
            (Layout::Nhwc, 40, 7, 5),
            (Layout::Nhwc, 16, 16, 10),
            (Layout::Nhwc, 5, 16, 8),
        ] {
            let problem = Problem::new(1, 2, channels, 1, &[Axis::new(9, kernel, stride)], layout).unwrap();
            let c = Columns::new(&Geometry::new(&problem).unwrap(), 16);
            let (mut next, mut found) = (0, vec![0; c.runs * c.width]);
            for vectors in (0..c.panels()).map(|i| c.panel(i)) {
                assert!(vectors.start == next && (1..=2).contains(&vectors.len()), "{c:?} {vectors:?}");
                let kind = |v: usize| c.held(v).offset < c.long;
                assert!(vectors.clone().all(|v| kind(v) == kind(next)), "{c:?} {vectors:?}");
                next = vectors.end;
            }
            assert_eq!(next, c.vectors());
            for held in (0..c.vectors()).map(|v| c.held(v)) {
                assert!(held.offset >= c.long || held.offset + held.len <= c.long, "{c:?} {held:?}");
                for run in held.first_run..held.first_run + held.runs {
                    found[run * c.width..][held.offset..held.offset + held.len]
                        .iter_mut()
                        .for_each(|n| *n += 1);
                }
            }
            assert!(found.iter().all(|n| *n == 1), "{c:?}");
        }
    }
}
