//! Stores of sums in strips: a few neighbouring lanes, or the same lane of a few rows, are neighbouring outputs.

use pulp::Simd;

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

/// Gathers `count` strips: strip `i` from the elements `rows[..] + i` of `from`, to `to + i·to_step`.
///
/// # Safety
/// Every strip of `to` may be written, and nobody else accesses it meanwhile. Strips do not overlap.
#[inline(always)]
pub unsafe fn gather_strips<T: Float, S: Simd>(
    simd: S,
    from: &[T],
    rows: &[usize],
    to: *mut T,
    to_step: usize,
    count: usize,
) {
    let _ = simd;
    if count == 0 {
        return;
    }
    assert!(rows.iter().all(|row| row + count <= from.len()), "rows of {count} of {}", from.len());
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut))]
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    {
        use std::any::TypeId;

        let wide = TypeId::of::<(T, S)>() == TypeId::of::<(f32, pulp::x86::V4)>();
        let whole = count / x86::EIGHT;
        if whole > 0 && (wide || TypeId::of::<(T, S)>() == TypeId::of::<(f32, pulp::x86::V3)>()) {
            for (some, rows) in rows.chunks(x86::EIGHT).enumerate() {
                let (from, to) = (from.as_ptr().cast(), to.wrapping_add(some * x86::EIGHT).cast());
                // SAFETY: a value of type `S` exists only where its instructions do; the rows hold `count` elements, and the
                // caller allows the strips.
                unsafe {
                    if wide {
                        x86::gather_masked(from, rows, to, to_step, whole);
                    } else {
                        x86::gather(from, rows, to, to_step, whole);
                    }
                }
            }
            done = whole * x86::EIGHT;
        }
    }
    let from = from.as_ptr();
    // With a length known when compiled, every row has a pointer of its own.
    macro_rules! known {
        ($($n:literal)*) => {
            match rows.len() {
                $($n => {
                    let rows: [usize; $n] = std::array::from_fn(|l| rows[l]);
                    for i in done..count {
                        for l in 0..$n {
                            // SAFETY: read inside `from` by the assertion, written as the caller allows.
                            unsafe { *to.add(i * to_step + l) = *from.add(rows[l] + i) };
                        }
                    }
                })*
                _ => {
                    for i in done..count {
                        for (l, row) in rows.iter().enumerate() {
                            // SAFETY: as above.
                            unsafe { *to.add(i * to_step + l) = *from.add(row + i) };
                        }
                    }
                }
            }
        };
    }
    known!(1 2 3 4 5 6 7 8)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// Elements of a block, along both sides.
    pub const EIGHT: usize = 8;

    /// Eight elements of at most eight rows, turned: vector `i` begins with element `i` of each row.
    ///
    /// # Safety
    /// The CPU has AVX; eight elements may be read in each row, of which there is one at least.
    #[inline]
    #[target_feature(enable = "avx")]
    unsafe fn turned(from: *const f32, rows: &[usize]) -> [__m256; EIGHT] {
        // Rows that are not there repeat the first.
        // SAFETY: as promised.
        let row = |r: usize| unsafe { _mm256_loadu_ps(from.add(*rows.get(r).unwrap_or(&rows[0]))) };
        let pair = |a, b| (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let four = |r: usize| {
            let ((a, b), (c, d)) = (pair(row(r), row(r + 1)), pair(row(r + 2), row(r + 3)));
            let double = _mm256_castps_pd;
            let low = |a, b| _mm256_castpd_ps(_mm256_unpacklo_pd(double(a), double(b)));
            let high = |a, b| _mm256_castpd_ps(_mm256_unpackhi_pd(double(a), double(b)));
            [low(a, c), high(a, c), low(b, d), high(b, d)]
        };
        let (a, b) = (four(0), four(4));
        let low = |i: usize| _mm256_permute2f128_ps::<0x20>(a[i], b[i]);
        let high = |i: usize| _mm256_permute2f128_ps::<0x31>(a[i], b[i]);
        [low(0), low(1), low(2), low(3), high(0), high(1), high(2), high(3)]
    }

    /// Strips of `blocks` times eight positions.
    ///
    /// # Safety
    /// The CPU has AVX-512F and VL; so many elements may be read in each of the one to eight rows, and the strips written.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl")]
    pub unsafe fn gather_masked(
        from: *const f32,
        rows: &[usize],
        to: *mut f32,
        to_step: usize,
        blocks: usize,
    ) {
        let mask = (0xff_u32 >> (EIGHT - rows.len())) as __mmask8;
        for block in 0..blocks {
            let to = to.wrapping_add(block * EIGHT * to_step);
            // SAFETY: as promised.
            unsafe {
                for (i, strip) in turned(from.add(block * EIGHT), rows).into_iter().enumerate() {
                    _mm256_mask_storeu_ps(to.add(i * to_step), mask, strip);
                }
            }
        }
    }

    /// The same.
    ///
    /// # Safety
    /// The CPU has AVX; so many elements may be read in each of the one to eight rows, and the strips written.
    #[inline]
    #[target_feature(enable = "avx")]
    pub unsafe fn gather(from: *const f32, rows: &[usize], to: *mut f32, to_step: usize, blocks: usize) {
        for block in 0..blocks {
            let to = to.wrapping_add(block * EIGHT * to_step);
            // SAFETY: as promised.
            let turned = unsafe { turned(from.add(block * EIGHT), rows) };
            // Of strips that follow one another, each is written over by the next where it is too long.
            let mut done = 0;
            if to_step == rows.len() || rows.len() == EIGHT {
                let exact = rows.len() == EIGHT;
                done = if exact || block + 1 < blocks { EIGHT } else { 0 };
                for (i, strip) in turned[..done].iter().enumerate() {
                    // SAFETY: a strip and parts of those behind it.
                    unsafe { _mm256_storeu_ps(to.add(i * to_step), *strip) };
                }
            }
            let mut buffer = [[0.0_f32; EIGHT]; EIGHT];
            if done < EIGHT {
                for (to, strip) in buffer.iter_mut().zip(turned) {
                    // SAFETY: as long as a vector.
                    unsafe { _mm256_storeu_ps(to.as_mut_ptr(), strip) };
                }
            }
            macro_rules! known {
                ($($n:literal)*) => {
                    match rows.len() {
                        $($n => for (i, strip) in buffer.iter().enumerate().skip(done) {
                            // SAFETY: a strip.
                            unsafe {
                                let strip = strip.as_ptr().cast::<[f32; $n]>().read();
                                to.add(i * to_step).cast::<[f32; $n]>().write_unaligned(strip);
                            }
                        },)*
                        _ => unreachable!("one to eight rows"),
                    }
                };
            }
            known!(1 2 3 4 5 6 7 8);
        }
    }
}
