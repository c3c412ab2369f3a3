//! The inputs that the next task on this thread packs: asked for while the tiles of this one run.

use std::ops::Range;

use super::axis::PositionAxis;
use super::pack::{Place, Window};
use super::run::PreparedPixelLanes;
use crate::microkernels::pixel_tile::Hints;
use crate::microkernels::vector::Float;
use crate::problem::problem::Layout;

/// Inputs in all (bytes) from which on they are asked for: fewer stay in the level-2 cache by themselves.
const WORTH: usize = 1 << 20;

/// Lines of some rows of the input, a tap's worth (one line for each channel of a tile's loop) after another.
pub struct Ahead<T> {
    hints: Hints<T>,
    /// Taps' worth that are left in this row, and those of a whole one.
    left: usize,
    of_row: usize,
    /// Where this row begins, the distance of the next, and how many follow.
    row: *const T,
    step: usize,
    rows: usize,
}

impl<T: Float> Ahead<T> {
    /// Nothing.
    fn none(input: &[T]) -> Self {
        Self { hints: Hints::none(input), left: 0, of_row: 0, row: input.as_ptr(), step: 0, rows: 0 }
    }

    /// What `next` packs, but for rows that `own` has packed just now.
    pub fn new(plan: &PreparedPixelLanes<T>, own: &Place, next: Option<&Place>, input: &[T]) -> Self {
        let (g, b) = (&plan.geometry, &plan.blocking);
        let p = g.problem();
        let [az, ay, ax] = &*b.axes;
        let Some(next) = next.filter(|_| b.parts == 1 && size_of_val(input) >= WORTH) else {
            return Self::none(input);
        };
        let read = |axis: &PositionAxis, positions: &Range<usize>| Window::new(axis, positions).inside;
        let planes = next.z..next.z + 1;
        let (z, mut y, x) = (read(az, &planes), read(ay, &next.y), read(ax, &next.x));
        if (own.n, own.group, own.z, &own.x) == (next.n, next.group, next.z, &next.x) {
            y.start = y.start.max(read(ay, &own.y).end);
        }
        if z.is_empty() || y.is_empty() || x.is_empty() {
            return Self::none(input);
        }
        let start = g.input_at(next.n, next.group * b.group_in, [z.start, y.start, x.start]);
        // Whole rows lie one after another.
        let (len, rows) = if x.len() == ax.input { (x.len() * y.len(), 1) } else { (x.len(), y.len()) };
        let line = 64 / size_of::<T>();
        let (steps, of_row, step) = match p.layout() {
            Layout::Nchw => ([line, g.input_plane()], len.div_ceil(line), ax.input),
            Layout::Nhwc => {
                let (channels, worth) = (p.in_channels(), line * b.group_in);
                ([worth, line], (len * channels).div_ceil(worth), ax.input * channels)
            }
        };
        let at = input[start..].as_ptr();
        Self { hints: Hints { at, steps }, left: of_row, of_row, row: at, step, rows: rows - 1 }
    }

    /// For a tile of so many taps.
    pub fn next(&mut self, taps: usize, none: Hints<T>) -> Hints<T> {
        if self.left == 0 {
            if self.rows == 0 {
                return none;
            }
            self.rows -= 1;
            self.row = self.row.wrapping_add(self.step);
            (self.hints.at, self.left) = (self.row, self.of_row);
        }
        let hints = self.hints;
        self.left = self.left.saturating_sub(taps);
        self.hints.at = hints.at.wrapping_add(taps * hints.steps[0]);
        hints
    }
}
