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

#[cfg(test)]
mod tests {
    use pulp::{Simd, WithSimd};

    use super::{Errand, Source};
    use crate::machine::isa::Isa;

    /// Copies some rows as a tile does and the others at once, and compares all with the definition.
    struct Check<'a> {
        input: &'a [f32],
        source: Source,
        width: usize,
        one_by_one: usize,
    }

    impl WithSimd for Check<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self { input, source, width, one_by_one } = self;
            let rows = source.windows * source.rows;
            let mut to = vec![0.0f32; rows * width + 1];
            // SAFETY: nobody else has the vector; the rows are as wide as said.
            unsafe {
                let mut errand = Errand::new(input, source, &mut to[..rows * width], width, 3);
                for _ in 0..one_by_one.min(rows) {
                    match width / S::F32_LANES {
                        1 => errand.copy_row::<S, 1>(simd),
                        _ => errand.copy_row::<S, 3>(simd),
                    }
                }
                errand.copy_rows(simd, width);
                assert!(!errand.is_left());
            }
            for (row, to) in to.chunks_exact(width).enumerate() {
                let (window, row) = (row / source.rows, row % source.rows);
                let begin = source.start + row * source.step - window * source.back;
                for (i, &to) in to.iter().enumerate() {
                    let jump = if i < source.together { 0 } else { source.jump - source.together };
                    assert_eq!(
                        to,
                        input[begin + i + jump],
                        "row {row} of window {window}, element {i}: {source:?}"
                    );
                }
            }
            assert_eq!(to[rows * width], 0.0, "written behind the last row");
        }
    }

    #[test]
    fn rows_of_windows_and_of_two_images_are_copied() {
        let input: Vec<f32> = (0..4096).map(|i| i as f32 + 1.0).collect();
        for isa in Isa::available() {
            for (vectors, one_by_one) in [(1, 0), (1, 4), (3, 5), (3, 100)] {
                let width = vectors * isa.f32_lanes();
                let plane = width + 9;
                let all = Source {
                    start: 7,
                    together: width,
                    jump: 0,
                    rows: 5,
                    step: plane,
                    windows: 1,
                    back: 0,
                    next: width,
                };
                let check = |source| isa.enter(Check { input: &input, source, width, one_by_one });
                check(all);
                check(Source { start: 40, windows: 3, back: 20, ..all });
                for together in [1, width / 2, width - 1] {
                    check(Source { together, jump: 6 * plane, ..all });
                }
            }
        }
    }
}
