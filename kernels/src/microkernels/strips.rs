//! Stores of sums whose neighbouring lanes are neighbouring outputs: strips of a few lanes, one after the other.

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
