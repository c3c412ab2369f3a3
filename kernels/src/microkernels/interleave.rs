//! Interleaving of S rows into one: `to[S·i + s] = from[s][i]`. Puts the stride phases of an output row side by side.
//!
//! Two rows take one shuffle for each output vector, four rows two; pulp has no such shuffle: std::arch behind one function. Many
//! rows are strips, gathered eight at a time.

use std::any::TypeId;

use pulp::Simd;

use super::strips::gather_strips;
use super::vector::Float;

/// Rows that turn together.
const TOGETHER: usize = 8;

/// Writes `S·count` elements; row `s` starts at `from[s · step]` and holds at least `count` elements.
///
/// `to` must hold exactly `strides · count` elements.
#[inline(always)]
pub fn interleave<T: Float, S: Simd>(
    simd: S,
    strides: usize,
    from: &[T],
    step: usize,
    count: usize,
    to: &mut [T],
) {
    assert!(to.len() == strides * count && from.len() >= (strides - 1) * step + count);
    if count == 0 {
        return;
    }
    let lanes = T::lanes::<S>();
    let mut done = 0;
    match strides {
        1 => return to.copy_from_slice(&from[..count]),
        2 | 4 if count >= lanes && has_zip::<T, S>() => {
            while done < count {
                // The last vectors of a row start earlier and write some elements again: the same values.
                let at = done.min(count - lanes);
                // SAFETY: `lanes` elements at `at` lie inside every row, and their interleaving inside `to`.
                unsafe {
                    let from = from.as_ptr().add(at);
                    let to = to.as_mut_ptr().add(strides * at);
                    if strides == 2 {
                        let (low, high) = zip::<T, S>(load(from), load(from.add(step)));
                        store(to, low);
                        store(to.add(lanes), high);
                    } else {
                        let (even_low, even_high) = zip::<T, S>(load(from), load(from.add(2 * step)));
                        let (odd_low, odd_high) = zip::<T, S>(load(from.add(step)), load(from.add(3 * step)));
                        let (a, b) = zip::<T, S>(even_low, odd_low);
                        let (c, d) = zip::<T, S>(even_high, odd_high);
                        store(to, a);
                        store(to.add(lanes), b);
                        store(to.add(2 * lanes), c);
                        store(to.add(3 * lanes), d);
                    }
                }
                done = at + lanes;
            }
        }
        3 if count >= lanes && is::<T, S, f32>(Wide::Avx512) => {
            while done < count {
                let at = done.min(count - lanes);
                // SAFETY: as above.
                unsafe { three(from.as_ptr().add(at).cast(), step, to.as_mut_ptr().add(3 * at).cast()) };
                done = at + lanes;
            }
        }
        5.. => {
            // A few rows at a time turn in registers.
            let mut first = 0;
            while first < strides {
                let some = (strides - first).min(TOGETHER);
                let rows: [usize; TOGETHER] = std::array::from_fn(|r| (first + r) * step);
                // SAFETY: strip `i` is `to[strides · i + first..][..some]`, inside `to`, which is borrowed mutably; strips of one call
                // do not overlap.
                unsafe {
                    let to = to.as_mut_ptr().add(first);
                    gather_strips(simd, from, &rows[..some], to, strides, count);
                }
                first += some;
            }
            return;
        }
        _ => {}
    }
    for s in 0..strides {
        for i in done..count {
            to[strides * i + s] = from[s * step + i];
        }
    }
}

/// The first and the second half of `a₀ b₀ a₁ b₁ …`.
#[inline(always)]
pub fn interleave_pair<T: Float, S: Simd>(_: S, a: T::Vector<S>, b: T::Vector<S>) -> [T::Vector<S>; 2] {
    if has_zip::<T, S>() {
        // SAFETY: it exists.
        let (low, high) = unsafe { zip::<T, S>(a, b) };
        return [low, high];
    }
    let (from, mut both) = ([a, b], [a, b]);
    let (a, b) = bytemuck::cast_slice::<_, T>(&from).split_at(T::lanes::<S>());
    for ((to, a), b) in bytemuck::cast_slice_mut::<_, T>(&mut both).chunks_exact_mut(2).zip(a).zip(b) {
        (to[0], to[1]) = (*a, *b);
    }
    both
}

/// The `Z` (1, 2 or 4) vectors of `a₀ b₀ … a₁ b₁ …`, in order.
#[inline(always)]
pub fn interleave_vectors<T: Float, S: Simd, const Z: usize>(
    simd: S,
    rows: [T::Vector<S>; Z],
) -> [T::Vector<S>; Z] {
    let pair = |a, b| interleave_pair::<T, S>(simd, a, b);
    let mut all = rows;
    match Z {
        1 => {}
        2 => [all[0], all[1 % Z]] = pair(rows[0], rows[1 % Z]),
        4 => {
            let [even_low, even_high] = pair(rows[0], rows[2 % Z]);
            let [odd_low, odd_high] = pair(rows[1 % Z], rows[3 % Z]);
            [all[0], all[1 % Z]] = pair(even_low, odd_low);
            [all[2 % Z], all[3 % Z]] = pair(even_high, odd_high);
        }
        _ => unreachable!("{Z} vectors"),
    }
    all
}

/// # Safety
/// A vector may be read there.
#[inline(always)]
unsafe fn load<T: Float, V: bytemuck::Pod>(from: *const T) -> V {
    // SAFETY: as promised.
    unsafe { from.cast::<V>().read_unaligned() }
}

/// # Safety
/// A vector may be written there.
#[inline(always)]
unsafe fn store<T: Float, V: bytemuck::Pod>(to: *mut T, value: V) {
    // SAFETY: as promised.
    unsafe { to.cast::<V>().write_unaligned(value) }
}

#[derive(PartialEq)]
#[allow(dead_code)] // each target has some of them
enum Wide {
    Avx2,
    Avx512,
    Neon,
}

/// Whether `S` is that instruction set and `T` that type.
#[inline(always)]
fn is<T: Float, S: Simd, E: Float>(wide: Wide) -> bool {
    let simd = TypeId::of::<S>();
    let same = match wide {
        #[cfg(target_arch = "x86_64")]
        Wide::Avx2 => simd == TypeId::of::<pulp::x86::V3>(),
        #[cfg(target_arch = "x86_64")]
        Wide::Avx512 => simd == TypeId::of::<pulp::x86::V4>(),
        #[cfg(target_arch = "aarch64")]
        Wide::Neon => simd == TypeId::of::<pulp::aarch64::Neon>(),
        #[allow(unreachable_patterns)]
        _ => false,
    };
    same && TypeId::of::<T>() == TypeId::of::<E>()
}

/// Whether [`zip`] exists.
#[inline(always)]
fn has_zip<T: Float, S: Simd>() -> bool {
    is::<T, S, T>(Wide::Avx2) || is::<T, S, T>(Wide::Avx512) || is::<T, S, T>(Wide::Neon)
}

/// The elements of both in turn: first half, second half.
///
/// # Safety
/// [`has_zip`].
#[inline(always)]
unsafe fn zip<T: Float, S: Simd>(a: T::Vector<S>, b: T::Vector<S>) -> (T::Vector<S>, T::Vector<S>) {
    // SAFETY: a value of type `S` exists only where its instructions do; `cast_any` checks the sizes.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        {
            if is::<T, S, f32>(Wide::Avx512) {
                let (low, high) = x86::zip_f32_16(cast_any(a), cast_any(b));
                return (cast_any(low), cast_any(high));
            } else if is::<T, S, f64>(Wide::Avx512) {
                let (low, high) = x86::zip_f64_8(cast_any(a), cast_any(b));
                return (cast_any(low), cast_any(high));
            } else if is::<T, S, f32>(Wide::Avx2) {
                let (low, high) = x86::zip_f32_8(cast_any(a), cast_any(b));
                return (cast_any(low), cast_any(high));
            } else if is::<T, S, f64>(Wide::Avx2) {
                let (low, high) = x86::zip_f64_4(cast_any(a), cast_any(b));
                return (cast_any(low), cast_any(high));
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            use std::arch::aarch64::*;
            if is::<T, S, f32>(Wide::Neon) {
                let (a, b): (float32x4_t, float32x4_t) = (cast_any(a), cast_any(b));
                return (cast_any(vzip1q_f32(a, b)), cast_any(vzip2q_f32(a, b)));
            } else if is::<T, S, f64>(Wide::Neon) {
                let (a, b): (float64x2_t, float64x2_t) = (cast_any(a), cast_any(b));
                return (cast_any(vzip1q_f64(a, b)), cast_any(vzip2q_f64(a, b)));
            }
        }
        unreachable!("no zip for this instruction set")
    }
}

/// Between a pulp vector and the register type of the same instruction set.
///
/// # Safety
/// Both are plain data of the same size.
#[inline(always)]
unsafe fn cast_any<A: Copy, B: Copy>(a: A) -> B {
    assert!(size_of::<A>() == size_of::<B>());
    // SAFETY: the same size, any bits are valid.
    unsafe { std::mem::transmute_copy(&a) }
}

/// Three rows of 16 f32.
///
/// # Safety
/// AVX-512F; 16 elements of three rows are readable, 48 elements writable.
#[inline(always)]
unsafe fn three(from: *const f32, step: usize, to: *mut f32) {
    // SAFETY: as promised.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        x86::three_f32_16(from, step, to)
    };
    #[cfg(not(target_arch = "x86_64"))]
    unreachable!("{from:?} {step} {to:?}")
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// # Safety
    /// The CPU has AVX-512F.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub unsafe fn zip_f32_16(a: __m512, b: __m512) -> (__m512, __m512) {
        let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        let high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        (_mm512_permutex2var_ps(a, low, b), _mm512_permutex2var_ps(a, high, b))
    }

    /// # Safety
    /// The CPU has AVX-512F.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub unsafe fn zip_f64_8(a: __m512d, b: __m512d) -> (__m512d, __m512d) {
        let low = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
        let high = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
        (_mm512_permutex2var_pd(a, low, b), _mm512_permutex2var_pd(a, high, b))
    }

    /// # Safety
    /// The CPU has AVX.
    #[inline]
    #[target_feature(enable = "avx")]
    pub unsafe fn zip_f32_8(a: __m256, b: __m256) -> (__m256, __m256) {
        let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        (_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high))
    }

    /// # Safety
    /// The CPU has AVX.
    #[inline]
    #[target_feature(enable = "avx")]
    pub unsafe fn zip_f64_4(a: __m256d, b: __m256d) -> (__m256d, __m256d) {
        let (low, high) = (_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b));
        (_mm256_permute2f128_pd::<0x20>(low, high), _mm256_permute2f128_pd::<0x31>(low, high))
    }

    /// # Safety
    /// The CPU has AVX-512F; 16 elements of three rows are readable, 48 writable.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub unsafe fn three_f32_16(from: *const f32, step: usize, to: *mut f32) {
        // Output element e comes from row e % 3, element e / 3: rows 0 and 1 first, then row 2 over them.
        const fn first(vector: i32) -> [i32; 16] {
            let mut index = [0; 16];
            let mut i = 0;
            while i < 16 {
                let e = vector * 16 + i;
                index[i as usize] = e / 3 + if e % 3 == 1 { 16 } else { 0 };
                i += 1;
            }
            index
        }
        const fn second(vector: i32) -> [i32; 16] {
            let mut index = [0; 16];
            let mut i = 0;
            while i < 16 {
                let e = vector * 16 + i;
                index[i as usize] = if e % 3 == 2 { 16 + e / 3 } else { i };
                i += 1;
            }
            index
        }
        const FIRST: [[i32; 16]; 3] = [first(0), first(1), first(2)];
        const SECOND: [[i32; 16]; 3] = [second(0), second(1), second(2)];
        // SAFETY: as promised.
        unsafe {
            let row = |s: usize| _mm512_loadu_ps(from.add(s * step));
            let (a, b, c) = (row(0), row(1), row(2));
            for vector in 0..3 {
                let index = |table: &[i32; 16]| _mm512_loadu_si512(table.as_ptr().cast());
                let both = _mm512_permutex2var_ps(a, index(&FIRST[vector]), b);
                let all = _mm512_permutex2var_ps(both, index(&SECOND[vector]), c);
                _mm512_storeu_ps(to.add(16 * vector), all);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::isa::Isa;
    use pulp::WithSimd;

    struct Check<T>(std::marker::PhantomData<T>, usize, usize);
    impl<T: Float> WithSimd for Check<T> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let (strides, count) = (self.1, self.2);
            let step = count + 5;
            let from: Vec<T> = (0..strides * step).map(|i| T::from_f64(i as f64)).collect();
            let mut to = vec![T::from_f64(-1.0); strides * count];
            interleave(simd, strides, &from, step, count, &mut to);
            for (e, value) in to.iter().enumerate() {
                let expected = (e % strides * step + e / strides) as f64;
                assert_eq!(value.to_f64(), expected, "element {e} of {strides} × {count}");
            }
        }
    }

    #[test]
    fn interleaves_every_size_in_every_instruction_set() {
        for isa in Isa::available() {
            for strides in 1..19 {
                for count in [1, 2, 4, 5, 8, 15, 16, 17, 33, 64] {
                    isa.enter(Check::<f32>(std::marker::PhantomData, strides, count));
                    isa.enter(Check::<f64>(std::marker::PhantomData, strides, count));
                }
            }
        }
    }
}
