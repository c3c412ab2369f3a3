//! A safe door to the crate matrixmultiply: C = A·B on slices, with any strides.
//!
//! It picks its instruction set by itself, whatever the plan's target says, and packs into memory that it allocates.
//! One element of C has the same bits wherever it lies in C: its sum runs over the inner dimension in a fixed order, so
//! that C may be cut into tasks of any size.

use crate::machine::tensor::Element;

/// What one call costs beside the arithmetic (an allocation, small packing), in nanoseconds: for cost models.
pub const CALL_NS: f64 = 300.0;

/// What a call takes to pack A (m × k) once for each 1024 columns of B, and B (k × n), in nanoseconds: with few columns or few rows it
/// takes longer than the arithmetic. Fitted to timings of four kinds of machines.
pub fn packing_ns(m: f64, k: f64, n: f64) -> f64 {
    const COLUMNS: f64 = 1024.0;
    const OF_A: f64 = 0.65;
    const OF_B: f64 = 0.3;
    OF_A * m * k * (n / COLUMNS).ceil().max(1.0) + OF_B * k * n
}

/// Types that matrixmultiply multiplies.
pub trait MatMul: Element {
    /// C ← A·B without a look at what C held.
    ///
    /// # Safety
    /// `a`, `b` and `c` are valid at `row·rs + column·cs` for every element of the matrices m × k, k × n and m × n;
    /// the elements of `c` are distinct, and nobody else reads or writes them meanwhile.
    #[allow(clippy::too_many_arguments)]
    unsafe fn gemm(
        m: usize,
        k: usize,
        n: usize,
        a: (*const Self, [isize; 2]),
        b: (*const Self, [isize; 2]),
        c: (*mut Self, [isize; 2]),
    );
}

macro_rules! matmul {
    ($type:ty, $gemm:ident) => {
        impl MatMul for $type {
            unsafe fn gemm(
                m: usize,
                k: usize,
                n: usize,
                (a, [rsa, csa]): (*const Self, [isize; 2]),
                (b, [rsb, csb]): (*const Self, [isize; 2]),
                (c, [rsc, csc]): (*mut Self, [isize; 2]),
            ) {
                // SAFETY: the caller's promise is the one that matrixmultiply asks for; beta = 0 reads no C.
                unsafe {
                    matrixmultiply::$gemm(m, k, n, 1.0, a, rsa, csa, b, rsb, csb, 0.0, c, rsc, csc);
                }
            }
        }
    };
}
matmul!(f32, sgemm);
matmul!(f64, dgemm);

/// A matrix inside a slice: element (r, c) is `data[r·row + c·column]`.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a, T> {
    /// Where it lies; element (0, 0) first.
    pub data: &'a [T],
    /// Distance of successive rows.
    pub row: usize,
    /// Distance of successive columns.
    pub column: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// Rows of `width` elements, one after the other.
    pub fn rows_of(data: &'a [T], width: usize) -> Self {
        Self { data, row: width, column: 1 }
    }

    /// The same elements, rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Self { row: self.column, column: self.row, ..self }
    }

    fn covers(&self, rows: usize, columns: usize) -> bool {
        let last = |n: usize, step: usize| (n - 1).checked_mul(step);
        rows == 0
            || columns == 0
            || last(rows, self.row)
                .zip(last(columns, self.column))
                .and_then(|(r, c)| r.checked_add(c))
                .is_some_and(|at| at < self.data.len())
    }
}

/// C = A·B with A of `m` × `k`, B of `k` × `n`; C has `m` rows of `n` elements, one after the other, and is overwritten
/// without being read. Panics when a slice is too short.
pub fn multiply<T: MatMul>([m, k, n]: [usize; 3], a: Matrix<'_, T>, b: Matrix<'_, T>, c: &mut [T]) {
    assert!(a.covers(m, k) && b.covers(k, n), "operands are shorter than {m} × {k} × {n}");
    assert_eq!(Some(c.len()), m.checked_mul(n), "C of {m} × {n}");
    let signed = |x: usize| isize::try_from(x).expect("a stride inside a slice");
    // SAFETY: A and B cover their elements by the assertion; C is exactly m·n distinct elements, borrowed mutably.
    unsafe {
        T::gemm(
            m,
            k,
            n,
            (a.data.as_ptr(), [signed(a.row), signed(a.column)]),
            (b.data.as_ptr(), [signed(b.row), signed(b.column)]),
            (c.as_mut_ptr(), [signed(n), 1]),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_strides_and_a_dirty_c() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]; // 2 × 3
        let b = [1.0, 0.0, 2.0, 1.0, 0.0, 3.0]; // 3 × 2
        let mut c = [f64::NAN; 4];
        multiply([2, 3, 2], Matrix::rows_of(&a, 3), Matrix::rows_of(&b, 2), &mut c);
        assert_eq!(c, [5.0, 11.0, 14.0, 23.0]);
        let (at, bt) = ([1.0, 4.0, 2.0, 5.0, 3.0, 6.0], [1.0, 2.0, 0.0, 0.0, 1.0, 3.0]);
        c.fill(f64::INFINITY);
        let (at, bt) = (Matrix::rows_of(&at, 2), Matrix::rows_of(&bt, 3));
        multiply([2, 3, 2], at.transposed(), bt.transposed(), &mut c);
        assert_eq!(c, [5.0, 11.0, 14.0, 23.0]);
    }

    #[test]
    #[should_panic(expected = "shorter")]
    fn a_short_operand_is_refused() {
        multiply([2, 3, 2], Matrix::rows_of(&[0f32; 5], 3), Matrix::rows_of(&[0f32; 6], 2), &mut [0f32; 4]);
    }
}
