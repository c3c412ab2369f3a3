//! Transposition of lanes × lanes blocks: from "pixels of channel vectors" to "channels of pixel rows". With accumulators
//! dumped in output order, this interleaves the stride phases for free.
//!
//! 128-bit pieces are gathered by memory-operand inserts, so that only the shuffles inside 128-bit lanes remain: 2 for each
//! output vector instead of 4. pulp has no transpositions: std::arch, behind one function.

use std::any::TypeId;

use pulp::Simd;

use super::vector::Float;
use crate::machine::parallel::SharedOutput;

/// A place for a matrix: row `r` starts at `start + r·step` of the output.
#[derive(Clone, Copy)]
pub struct Rows<'a, T> {
    /// The memory, shared with other tasks.
    pub output: SharedOutput<'a, T>,
    /// First element of row 0.
    pub start: usize,
    /// Distance of the rows.
    pub step: usize,
}

/// Writes the transpose of `from` (`columns` rows of at least `rows` elements, at distance `from_step`) to `to`.
///
/// # Safety
/// Nobody else accesses `columns` elements at the start of each of the `rows` rows of `to` meanwhile.
#[inline(always)]
pub unsafe fn transpose<T: Float, S: Simd>(
    simd: S,
    from: &[T],
    from_step: usize,
    to: Rows<'_, T>,
    rows: usize,
    columns: usize,
) {
    let lanes = T::lanes::<S>();
    let mut row = 0;
    while row < rows {
        let height = lanes.min(rows - row);
        let mut column = 0;
        while column < columns {
            // The last block of a long row starts earlier and writes some elements again: the same values.
            let at = if columns >= lanes { column.min(columns - lanes) } else { column };
            let width = lanes.min(columns - at);
            let place = Rows { start: to.start + row * to.step + at, ..to };
            // SAFETY: a part of the region that the caller gave.
            unsafe { block::<T, S>(simd, &from[at * from_step + row..], from_step, place, height, width) };
            column = at + width;
        }
        row += height;
    }
}

/// One block of at most lanes × lanes.
///
/// # Safety
/// As for [`transpose`].
#[inline(always)]
unsafe fn block<T: Float, S: Simd>(
    simd: S,
    from: &[T],
    from_step: usize,
    to: Rows<'_, T>,
    height: usize,
    width: usize,
) {
    let lanes = T::lanes::<S>();
    // So much is read of each row of `from`: its last 128-bit piece may be longer than what is wanted, packed buffers are padded.
    let read = height.next_multiple_of(16 / size_of::<T>());
    if width == lanes && from.len() >= (lanes - 1) * from_step + read {
        // SAFETY: as promised by the caller; `slice_ptr` checks the bounds of the whole region.
        unsafe {
            let region = to.output.slice_ptr(to.start, (height - 1) * to.step + lanes);
            if height == lanes {
                wide::<T, S, true>(simd, from, from_step, region, to.step, lanes);
            } else {
                wide::<T, S, false>(simd, from, from_step, region, to.step, height);
            }
        }
    } else {
        for r in 0..height {
            // SAFETY: as promised by the caller.
            let row = unsafe { to.output.slice_mut(to.start + r * to.step, width) };
            for (c, value) in row.iter_mut().enumerate() {
                *value = from[c * from_step + r];
            }
        }
    }
}

/// `height` ≤ lanes rows of a vector each; `WHOLE`: as many as lanes.
///
/// # Safety
/// `from` holds `lanes` rows of `height` elements, in whole 128-bit pieces, at distance `from_step`; `to` may be written at `lanes`
/// elements of `height` rows at distance `to_step`.
#[inline(always)]
unsafe fn wide<T: Float, S: Simd, const WHOLE: bool>(
    _: S,
    from: &[T],
    from_step: usize,
    to: *mut T,
    to_step: usize,
    height: usize,
) {
    let lanes = T::lanes::<S>();
    let read = height.next_multiple_of(16 / size_of::<T>());
    assert!((1..=lanes).contains(&height) && from.len() >= (lanes - 1) * from_step + read);
    let is = |other: TypeId| TypeId::of::<(T, S)>() == other;
    #[cfg(target_arch = "x86_64")]
    {
        use pulp::x86::{V3, V4};
        let from = from.as_ptr();
        // SAFETY: the sizes are as promised; a value of type `S` proves the instructions.
        unsafe {
            if is(TypeId::of::<(f32, V4)>()) {
                return x86::f32_16::<WHOLE>(from.cast(), from_step, to.cast(), to_step, height);
            } else if is(TypeId::of::<(f64, V4)>()) {
                return x86::f64_8::<WHOLE>(from.cast(), from_step, to.cast(), to_step, height);
            } else if is(TypeId::of::<(f32, V3)>()) {
                return x86::f32_8::<WHOLE>(from.cast(), from_step, to.cast(), to_step, height);
            } else if is(TypeId::of::<(f64, V3)>()) {
                return x86::f64_4::<WHOLE>(from.cast(), from_step, to.cast(), to_step, height);
            }
        }
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        if is(TypeId::of::<(f32, pulp::aarch64::Neon)>()) {
            return neon::f32_4::<WHOLE>(from.as_ptr().cast(), from_step, to.cast(), to_step, height);
        }
    }
    let _ = is;
    for r in 0..height {
        for c in 0..lanes {
            // SAFETY: inside both blocks.
            unsafe { *to.add(r * to_step + c) = *from.get_unchecked(c * from_step + r) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// Up to 16 rows of 16 f32.
    ///
    /// # Safety
    /// As for [`super::wide`]; the CPU has AVX-512F.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub unsafe fn f32_16<const WHOLE: bool>(
        from: *const f32,
        from_step: usize,
        to: *mut f32,
        to_step: usize,
        height: usize,
    ) {
        let height = if WHOLE { 16 } else { height };
        // SAFETY: rows and columns below 16, as promised.
        unsafe {
            for quarter in 0..height.div_ceil(4) {
                // Rows i, 4 + i, 8 + i, 12 + i of four columns, one in each 128-bit lane.
                let gather = |i: usize| {
                    let at = |r: usize| _mm_loadu_ps(from.add(r * from_step + 4 * quarter));
                    let v = _mm512_castps128_ps512(at(i));
                    let v = _mm512_insertf32x4::<1>(v, at(4 + i));
                    let v = _mm512_insertf32x4::<2>(v, at(8 + i));
                    _mm512_insertf32x4::<3>(v, at(12 + i))
                };
                let (a, b, c, d) = (gather(0), gather(1), gather(2), gather(3));
                let (ab_low, ab_high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
                let (cd_low, cd_high) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
                let pair = |low, high| (_mm512_castps_pd(low), _mm512_castps_pd(high));
                let ((al, cl), (ah, ch)) = (pair(ab_low, cd_low), pair(ab_high, cd_high));
                let to = to.add(4 * quarter * to_step);
                _mm512_storeu_ps(to, _mm512_castpd_ps(_mm512_unpacklo_pd(al, cl)));
                if 4 * quarter + 1 < height {
                    _mm512_storeu_ps(to.add(to_step), _mm512_castpd_ps(_mm512_unpackhi_pd(al, cl)));
                }
                if 4 * quarter + 2 < height {
                    _mm512_storeu_ps(to.add(2 * to_step), _mm512_castpd_ps(_mm512_unpacklo_pd(ah, ch)));
                }
                if 4 * quarter + 3 < height {
                    _mm512_storeu_ps(to.add(3 * to_step), _mm512_castpd_ps(_mm512_unpackhi_pd(ah, ch)));
                }
            }
        }
    }

    /// Up to 8 rows of 8 f64.
    ///
    /// # Safety
    /// As for [`super::wide`]; the CPU has AVX-512F and DQ.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    pub unsafe fn f64_8<const WHOLE: bool>(
        from: *const f64,
        from_step: usize,
        to: *mut f64,
        to_step: usize,
        height: usize,
    ) {
        let height = if WHOLE { 8 } else { height };
        // SAFETY: rows and columns below 8, as promised.
        unsafe {
            for quarter in 0..height.div_ceil(2) {
                let gather = |i: usize| {
                    let at = |r: usize| _mm_loadu_pd(from.add(r * from_step + 2 * quarter));
                    let v = _mm512_castpd128_pd512(at(i));
                    let v = _mm512_insertf64x2::<1>(v, at(2 + i));
                    let v = _mm512_insertf64x2::<2>(v, at(4 + i));
                    _mm512_insertf64x2::<3>(v, at(6 + i))
                };
                let (even, odd) = (gather(0), gather(1));
                let to = to.add(2 * quarter * to_step);
                _mm512_storeu_pd(to, _mm512_unpacklo_pd(even, odd));
                if 2 * quarter + 1 < height {
                    _mm512_storeu_pd(to.add(to_step), _mm512_unpackhi_pd(even, odd));
                }
            }
        }
    }

    /// Up to 8 rows of 8 f32.
    ///
    /// # Safety
    /// As for [`super::wide`]; the CPU has AVX.
    #[inline]
    #[target_feature(enable = "avx")]
    pub unsafe fn f32_8<const WHOLE: bool>(
        from: *const f32,
        from_step: usize,
        to: *mut f32,
        to_step: usize,
        height: usize,
    ) {
        let height = if WHOLE { 8 } else { height };
        // SAFETY: rows and columns below 8, as promised.
        unsafe {
            for half in 0..height.div_ceil(4) {
                let gather = |i: usize| {
                    let at = |r: usize| _mm_loadu_ps(from.add(r * from_step + 4 * half));
                    _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(at(i)), at(4 + i))
                };
                let (a, b, c, d) = (gather(0), gather(1), gather(2), gather(3));
                let (ab_low, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
                let (cd_low, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
                let pair = |low, high| (_mm256_castps_pd(low), _mm256_castps_pd(high));
                let ((al, cl), (ah, ch)) = (pair(ab_low, cd_low), pair(ab_high, cd_high));
                let to = to.add(4 * half * to_step);
                _mm256_storeu_ps(to, _mm256_castpd_ps(_mm256_unpacklo_pd(al, cl)));
                if 4 * half + 1 < height {
                    _mm256_storeu_ps(to.add(to_step), _mm256_castpd_ps(_mm256_unpackhi_pd(al, cl)));
                }
                if 4 * half + 2 < height {
                    _mm256_storeu_ps(to.add(2 * to_step), _mm256_castpd_ps(_mm256_unpacklo_pd(ah, ch)));
                }
                if 4 * half + 3 < height {
                    _mm256_storeu_ps(to.add(3 * to_step), _mm256_castpd_ps(_mm256_unpackhi_pd(ah, ch)));
                }
            }
        }
    }

    /// Up to 4 rows of 4 f64.
    ///
    /// # Safety
    /// As for [`super::wide`]; the CPU has AVX.
    #[inline]
    #[target_feature(enable = "avx")]
    pub unsafe fn f64_4<const WHOLE: bool>(
        from: *const f64,
        from_step: usize,
        to: *mut f64,
        to_step: usize,
        height: usize,
    ) {
        let height = if WHOLE { 4 } else { height };
        // SAFETY: rows and columns below 4, as promised.
        unsafe {
            for half in 0..height.div_ceil(2) {
                let gather = |i: usize| {
                    let at = |r: usize| _mm_loadu_pd(from.add(r * from_step + 2 * half));
                    _mm256_insertf128_pd::<1>(_mm256_castpd128_pd256(at(i)), at(2 + i))
                };
                let (even, odd) = (gather(0), gather(1));
                let to = to.add(2 * half * to_step);
                _mm256_storeu_pd(to, _mm256_unpacklo_pd(even, odd));
                if 2 * half + 1 < height {
                    _mm256_storeu_pd(to.add(to_step), _mm256_unpackhi_pd(even, odd));
                }
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use std::arch::aarch64::*;

    /// Up to 4 rows of 4 f32.
    ///
    /// # Safety
    /// As for [`super::wide`].
    #[inline]
    #[target_feature(enable = "neon")]
    pub unsafe fn f32_4<const WHOLE: bool>(
        from: *const f32,
        from_step: usize,
        to: *mut f32,
        to_step: usize,
        height: usize,
    ) {
        let height = if WHOLE { 4 } else { height };
        // SAFETY: rows and columns below 4, as promised.
        unsafe {
            let row = |r: usize| vld1q_f32(from.add(r * from_step));
            let (a, b, c, d) = (row(0), row(1), row(2), row(3));
            let wide = |v| vreinterpretq_f64_f32(v);
            let narrow = |v| vreinterpretq_f32_f64(v);
            let (ab_even, ab_odd) = (wide(vtrn1q_f32(a, b)), wide(vtrn2q_f32(a, b)));
            let (cd_even, cd_odd) = (wide(vtrn1q_f32(c, d)), wide(vtrn2q_f32(c, d)));
            vst1q_f32(to, narrow(vtrn1q_f64(ab_even, cd_even)));
            if 1 < height {
                vst1q_f32(to.add(to_step), narrow(vtrn1q_f64(ab_odd, cd_odd)));
            }
            if 2 < height {
                vst1q_f32(to.add(2 * to_step), narrow(vtrn2q_f64(ab_even, cd_even)));
            }
            if 3 < height {
                vst1q_f32(to.add(3 * to_step), narrow(vtrn2q_f64(ab_odd, cd_odd)));
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
            let (rows, columns) = (self.1, self.2);
            let (from_step, step) = (rows.next_multiple_of(16) + 16, columns + 3);
            let from: Vec<T> = (0..columns * from_step).map(|i| T::from_f64(i as f64)).collect();
            let mut output = vec![T::from_f64(-1.0); rows * step];
            let to = Rows { output: SharedOutput::new(&mut output), start: 1, step };
            // SAFETY: this is the only access.
            unsafe { transpose(simd, &from, from_step, to, rows, columns) };
            for (i, value) in output.iter().enumerate() {
                let (r, c) = (i / step, (i % step).wrapping_sub(1));
                let expected = if c < columns { (c * from_step + r) as f64 } else { -1.0 };
                assert_eq!(value.to_f64(), expected, "row {r} column {c} of {rows} × {columns}");
            }
        }
    }

    #[test]
    fn transposes_every_size_in_every_instruction_set() {
        for isa in Isa::available() {
            for rows in [1, 3, 4, 8, 15, 16, 17, 33] {
                for columns in [1, 2, 5, 8, 15, 16, 17, 31, 40] {
                    isa.enter(Check::<f32>(std::marker::PhantomData, rows, columns));
                    isa.enter(Check::<f64>(std::marker::PhantomData, rows, columns));
                }
            }
        }
    }
}
