//! Short rows copied and zeroed in place: packing moves rows of a few vectors, where a call to the C library costs more than
//! the copy.

use pulp::Simd;

use super::vector::Float;
use crate::machine::prefetch;

/// `to` = `from`, of the same length.
#[inline(always)]
pub fn copy<T: Float, S: Simd>(simd: S, from: &[T], to: &mut [T]) {
    let _ = simd;
    let (lanes, len) = (T::lanes::<S>(), from.len());
    assert!(to.len() == len);
    if len < lanes {
        for (to, from) in to.iter_mut().zip(from) {
            *to = *from;
        }
        return;
    }
    let mut at = 0;
    while at < len {
        // The last vector starts earlier and copies some elements again.
        let start = at.min(len - lanes);
        // SAFETY: `lanes` elements from `start` on lie inside both.
        unsafe {
            let vector = from.as_ptr().add(start).cast::<T::Vector<S>>().read_unaligned();
            to.as_mut_ptr().add(start).cast::<T::Vector<S>>().write_unaligned(vector);
        }
        at = start + lanes;
    }
}

/// Groups of `group` values, each at the start of `padded` elements of `to`.
pub fn pad_groups<T: Copy>(values: &[T], group: usize, to: &mut [T], padded: usize) {
    for (values, to) in values.chunks_exact(group).zip(to.chunks_exact_mut(padded)) {
        to[..group].copy_from_slice(values);
    }
}

/// `to` = 0.
#[inline(always)]
pub fn zero<T: Float, S: Simd>(simd: S, to: &mut [T]) {
    let zero = T::splat(simd, T::default());
    for part in to.chunks_mut(T::lanes::<S>()) {
        T::store_partial(simd, part, zero);
    }
}

/// Copies `rows` rows of `len` elements and writes zeros behind each: `gaps` behind each but the last, and behind the last. By
/// whole vectors: up to a vector less one element more is overwritten. Without anything in `from`, there is nothing to
/// copy. The same rows `ahead` elements further on are asked for: they are read next.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // two matrices
pub fn copy_rows<T: Float, S: Simd>(
    simd: S,
    from: &[T],
    from_step: usize,
    ahead: usize,
    to: &mut [T],
    to_step: usize,
    [rows, len]: [usize; 2],
    gaps: [usize; 2],
) {
    let lanes = T::lanes::<S>();
    let vectors = |len: usize| len.div_ceil(lanes);
    let (copied, zeros) = (if from.is_empty() { 0 } else { vectors(len) }, gaps.map(vectors));
    // What a row writes: its vectors, then those of its zeros; the last row has zeros of its own.
    let written = |zeros: usize| (copied * lanes).max(len + zeros * lanes);
    let end = |rows: usize, zeros| if rows > 0 { (rows - 1) * to_step + written(zeros) } else { 0 };
    assert!(end(rows, zeros[1]).max(end(rows.saturating_sub(1), zeros[0])) <= to.len(), "{rows} rows");
    let zero = T::splat(simd, T::default());
    let line = 64 / size_of::<T>();
    let (mut source, mut target) = (from.as_ptr(), to.as_mut_ptr());
    for row in 0..rows {
        let left = from.len().saturating_sub(row * from_step);
        if copied * lanes <= left {
            for v in 0..copied {
                if v * lanes % line == 0 {
                    prefetch::read(source.wrapping_add(ahead + v * lanes));
                }
                // SAFETY: so many vectors are left in `from`, and room for them in `to`, as asserted.
                unsafe {
                    let vector = source.add(v * lanes).cast::<T::Vector<S>>().read_unaligned();
                    target.add(v * lanes).cast::<T::Vector<S>>().write_unaligned(vector);
                }
            }
        } else {
            // The very end of the input.
            to[row * to_step..][..len].copy_from_slice(&from[row * from_step..][..len]);
            target = to[row * to_step..].as_mut_ptr();
        }
        // The first vector on its own: the loop becomes a call, which costs more than a gap of a few elements.
        let zeros = zeros[usize::from(row + 1 == rows)];
        if zeros > 0 {
            // SAFETY: room for them, as asserted.
            unsafe { target.add(len).cast::<T::Vector<S>>().write_unaligned(zero) };
        }
        for v in 1..zeros {
            // SAFETY: as above.
            unsafe { target.add(len + v * lanes).cast::<T::Vector<S>>().write_unaligned(zero) };
        }
        (source, target) = (source.wrapping_add(from_step), target.wrapping_add(to_step));
    }
}

/// `len` zeros, by whole vectors: up to a vector less one element behind `len` is overwritten.
#[inline(always)]
pub fn zero_over<T: Float, S: Simd>(simd: S, to: &mut [T], len: usize) {
    let lanes = T::lanes::<S>();
    let zero = T::splat(simd, T::default());
    if len <= lanes {
        // Most often; the loop below becomes a call.
        if len > 0 {
            // SAFETY: the slice is a vector.
            unsafe { to[..lanes].as_mut_ptr().cast::<T::Vector<S>>().write_unaligned(zero) };
        }
        return;
    }
    for to in to[..len.next_multiple_of(lanes)].chunks_exact_mut(lanes) {
        // SAFETY: the chunk is a vector.
        unsafe { to.as_mut_ptr().cast::<T::Vector<S>>().write_unaligned(zero) };
    }
}
