//! Short rows copied and zeroed in place: packing moves rows of a few vectors, where a call to the C library costs more than
//! the copy.

use pulp::Simd;

use super::vector::Float;

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

/// `to` = 0.
#[inline(always)]
pub fn zero<T: Float, S: Simd>(simd: S, to: &mut [T]) {
    let zero = T::splat(simd, T::default());
    for part in to.chunks_mut(T::lanes::<S>()) {
        T::store_partial(simd, part, zero);
    }
}
