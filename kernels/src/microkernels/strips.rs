//! Stores of sums in strips: a few neighbouring lanes, or the same lane of a few rows, are neighbouring outputs.

use super::vector::Float;

/// Copies `count` strips of `len` elements: strip `i` from `from[i·from_step..]` to `to + i·to_step`.
///
/// # Safety
/// Every strip of `to` may be written, and nobody else accesses it meanwhile.
#[inline(always)]
pub unsafe fn copy_strips<T: Float>(
    from: &[T],
    from_step: usize,
    to: *mut T,
    to_step: usize,
    len: usize,
    count: usize,
) {
    if count == 0 {
        return;
    }
    assert!((count - 1) * from_step + len <= from.len(), "{count} strips of {len} at distance {from_step}");
    let from = from.as_ptr();
    // Whole vectors and the pieces that divide them move in registers; a length known when compiled is what it takes.
    macro_rules! known {
        ($($n:literal)*) => {
            match len {
                $($n => {
                    for i in 0..count {
                        // SAFETY: read inside `from` by the assertion, written as the caller allows.
                        unsafe {
                            let strip = from.add(i * from_step).cast::<[T; $n]>().read_unaligned();
                            to.add(i * to_step).cast::<[T; $n]>().write_unaligned(strip);
                        }
                    }
                })*
                _ => {
                    for i in 0..count {
                        for l in 0..len {
                            // SAFETY: as above.
                            unsafe { *to.add(i * to_step + l) = *from.add(i * from_step + l) };
                        }
                    }
                }
            }
        };
    }
    known!(2 4 8 16)
}

/// Gathers `count` strips of `len` elements: strip `i` from element `i` of `len` rows of `from` at distance `from_step`, to
/// `to + i·to_step`.
///
/// # Safety
/// Every strip of `to` may be written, and nobody else accesses it meanwhile.
#[inline(always)]
pub unsafe fn gather_strips<T: Float>(
    from: &[T],
    from_step: usize,
    to: *mut T,
    to_step: usize,
    len: usize,
    count: usize,
) {
    if count == 0 || len == 0 {
        return;
    }
    assert!((len - 1) * from_step + count <= from.len(), "{len} rows of {count} at distance {from_step}");
    let from = from.as_ptr();
    // With a length known when compiled, every row has a pointer of its own.
    macro_rules! known {
        ($($n:literal)*) => {
            match len {
                $($n => {
                    for i in 0..count {
                        for l in 0..$n {
                            // SAFETY: read inside `from` by the assertion, written as the caller allows.
                            unsafe { *to.add(i * to_step + l) = *from.add(l * from_step + i) };
                        }
                    }
                })*
                _ => {
                    for i in 0..count {
                        for l in 0..len {
                            // SAFETY: as above.
                            unsafe { *to.add(i * to_step + l) = *from.add(l * from_step + i) };
                        }
                    }
                }
            }
        };
    }
    known!(1 2 3 4 5 6 7 8)
}
