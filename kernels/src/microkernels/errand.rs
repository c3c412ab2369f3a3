//! Rows that are copied between the steps of register tiles: there, nothing waits for them to come.

use pulp::Simd;

use super::copy::copy;
use super::vector::Float;
use crate::machine::prefetch;

/// The rows of an errand: some windows of equally many. Distances in elements.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// Where the first row begins.
    pub start: usize,
    /// Its elements that lie together: all, or so many at the end of an image. The others begin `jump` behind the row's begin.
    pub together: usize,
    /// See `together`.
    pub jump: usize,
    /// Rows of a window, and from one to the next.
    pub rows: usize,
    /// See `rows`.
    pub step: usize,
    /// Windows, each so far before the one before it; of several, rows lie together.
    pub windows: usize,
    /// See `windows`.
    pub back: usize,
    /// From these rows to those of the next errand, for hints alone.
    pub next: usize,
}

/// What is left to copy. Rows follow one another where they go.
#[derive(Debug, Clone, Copy)]
pub struct Errand<T> {
    source: Source,
    from: *const T,
    to: *mut T,
    /// Rows left, of all and of this window.
    rows: usize,
    here: usize,
    /// Rows are asked for so many before they are copied, the last ones' of the next errand.
    lead: usize,
}

impl<T: Float> Errand<T> {
    /// Nothing to copy.
    pub const NONE: Self = Self {
        source: Source { start: 0, together: 0, jump: 0, rows: 0, step: 0, windows: 0, back: 0, next: 0 },
        from: std::ptr::null(),
        to: std::ptr::null_mut(),
        rows: 0,
        here: 0,
        lead: 0,
    };

    /// Copies rows of `width` elements to the begin of `to`, and asks for them `lead` rows before. Panics where any of it lies outside.
    ///
    /// # Safety
    /// Until all of it is copied, nobody else accesses so much of `to`, and nobody writes to `from`.
    pub unsafe fn new(from: &[T], source: Source, to: &mut [T], width: usize, lead: usize) -> Self {
        let Source { start, together, jump, rows: window, step, windows, back, .. } = source;
        let rows = windows * window;
        assert!(rows > 0 && rows * width <= to.len() && (windows - 1) * back <= start);
        let end = if together < width { jump + width - together } else { width };
        assert!(together <= jump && windows == 1 || together == width);
        assert!(start + (window - 1) * step + end <= from.len());
        let (from, to) = (from.as_ptr().wrapping_add(start), to.as_mut_ptr());
        Self { source, from, to, rows, here: window, lead: lead.min(rows) }
    }

    /// Whether rows are left.
    #[inline(always)]
    pub fn is_left(&self) -> bool {
        self.rows > 0
    }

    /// Copies the next row, and asks for one that will be copied later.
    ///
    /// # Safety
    /// There is one, of V vectors.
    #[inline(always)]
    pub unsafe fn copy_row<S: Simd, const V: usize>(&mut self, simd: S) {
        let (lanes, Source { together, jump, step, next, .. }) = (T::lanes::<S>(), self.source);
        let ahead = if self.rows > self.lead {
            self.lead * step
        } else {
            next.wrapping_sub((self.source.windows * self.source.rows - self.lead) * step)
        };
        let second = self.from.wrapping_add(jump).wrapping_sub(together);
        for v in 0..V {
            let (at, to) = (v * lanes, self.to.wrapping_add(v * lanes));
            let from = if at + lanes <= together { self.from } else { second }.wrapping_add(at);
            // SAFETY: a row that is left, which lies inside as `new` found; nobody else accesses it, as promised there. A vector of
            // both parts of a row is read from both: before the second part lies the first, and behind the first the second.
            unsafe {
                to.cast::<T::Vector<S>>().write_unaligned(from.cast::<T::Vector<S>>().read_unaligned());
                if at < together && together < at + lanes {
                    let first = self.from.wrapping_add(at).cast::<T::Vector<S>>().read_unaligned();
                    T::store_lanes(simd, 0..together - at, to, first);
                }
            }
            prefetch::read(from.wrapping_add(ahead));
        }
        self.step(V * lanes);
    }

    /// Copies the rows that are left, of `width` elements.
    ///
    /// # Safety
    /// They have so many.
    #[inline(always)]
    pub unsafe fn copy_rows<S: Simd>(&mut self, simd: S, width: usize) {
        let Source { together, jump, .. } = self.source;
        while self.is_left() {
            // SAFETY: as above.
            unsafe {
                let first = std::slice::from_raw_parts(self.from, together);
                let second = std::slice::from_raw_parts(self.from.wrapping_add(jump), width - together);
                copy(simd, first, std::slice::from_raw_parts_mut(self.to, together));
                let to = self.to.wrapping_add(together);
                copy(simd, second, std::slice::from_raw_parts_mut(to, width - together));
            }
            self.step(width);
        }
    }

    #[inline(always)]
    fn step(&mut self, width: usize) {
        let Source { rows, step, back, .. } = self.source;
        self.from = self.from.wrapping_add(step);
        self.to = self.to.wrapping_add(width);
        self.rows -= 1;
        self.here -= 1;
        if self.here == 0 {
            self.from = self.from.wrapping_sub(rows * step + back);
            self.here = rows;
        }
    }
}
