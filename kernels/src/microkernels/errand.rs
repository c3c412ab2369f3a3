//! Rows that are copied between the steps of register tiles: there, nothing waits for them to come.

use pulp::Simd;

use super::copy::copy;
use super::vector::Float;
use crate::machine::prefetch;

/// What is left to copy: some rows of some windows. Rows follow one another where they go. Distances in elements.
#[derive(Debug, Clone, Copy)]
pub struct Errand<T> {
    from: *const T,
    to: *mut T,
    /// Rows left.
    rows: usize,
    /// From one row of a window to the next.
    step: usize,
    /// Rows left of this window, and of a whole one.
    here: usize,
    window: usize,
    /// From the row that would follow a window back to the first of the next.
    back: usize,
    /// Rows are asked for so many before they are copied, and those of the next errand lie so far from these.
    lead: usize,
    next: usize,
}

impl<T: Float> Errand<T> {
    /// Nothing to copy.
    pub const NONE: Self = Self {
        from: std::ptr::null(),
        to: std::ptr::null_mut(),
        rows: 0,
        step: 0,
        here: 0,
        window: 0,
        back: 0,
        lead: 0,
        next: 0,
    };

    /// Copies `width` elements of each of `window` rows, at distance `step`, of each of `windows` windows, each `back` before the
    /// one before it, to the begin of `to`. Rows are asked for `lead` rows before; the next errand's lie `next` further on. Panics where any
    /// of it lies outside.
    ///
    /// # Safety
    /// Until all of it is copied, nobody else accesses so much of `to`, and nobody writes to `from`.
    pub unsafe fn new(
        from: &[T],
        start: usize,
        to: &mut [T],
        width: usize,
        [windows, window]: [usize; 2],
        [step, back]: [usize; 2],
        (lead, next): (usize, usize),
    ) -> Self {
        assert!(windows > 0 && window > 0 && (windows - 1) * back <= start && (window == 1 || width <= step));
        assert!(start + (window - 1) * step + width <= from.len() && windows * window * width <= to.len());
        let (back, rows) = (window * step + back, windows * window);
        let lead = lead.min(rows);
        let next = next.wrapping_sub((rows - lead) * step);
        let (from, to) = (from.as_ptr().wrapping_add(start), to.as_mut_ptr());
        Self { from, to, rows, step, here: window, window, back, lead, next }
    }

    /// Whether rows are left.
    #[inline(always)]
    pub fn is_left(&self) -> bool {
        self.rows > 0
    }

    /// Copies the next row, and asks for the one that will be copied then.
    ///
    /// # Safety
    /// There is one, of V vectors.
    #[inline(always)]
    pub unsafe fn copy_row<S: Simd, const V: usize>(&mut self) {
        let lanes = T::lanes::<S>();
        let ahead = if self.rows > self.lead { self.lead * self.step } else { self.next };
        for v in 0..V {
            let (from, to) = (self.from.wrapping_add(v * lanes), self.to.wrapping_add(v * lanes));
            // SAFETY: a row that is left, which lies inside as `new` found; nobody else accesses it, as promised there.
            unsafe {
                to.cast::<T::Vector<S>>().write_unaligned(from.cast::<T::Vector<S>>().read_unaligned())
            };
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
        while self.is_left() {
            // SAFETY: as above.
            unsafe {
                let from = std::slice::from_raw_parts(self.from, width);
                copy(simd, from, std::slice::from_raw_parts_mut(self.to, width));
            }
            self.step(width);
        }
    }

    #[inline(always)]
    fn step(&mut self, width: usize) {
        self.from = self.from.wrapping_add(self.step);
        self.to = self.to.wrapping_add(width);
        self.rows -= 1;
        self.here -= 1;
        if self.here == 0 {
            self.from = self.from.wrapping_sub(self.back);
            self.here = self.window;
        }
    }
}
