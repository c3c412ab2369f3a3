//! Hints that memory is wanted soon. No access: any address will do, and nothing changes but the time.

/// Asks for a cache line to read, into the level-1 cache.
#[inline(always)]
pub fn read<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: prefetching faults on no address, and SSE is part of x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Asks for a cache line to read, into the level-2 cache: it is wanted later than what the level-1 cache holds now.
#[inline(always)]
pub fn read_later<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: prefetching faults on no address, and SSE is part of x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Asks for a cache line to write, so that the store need not wait for it. Named as an instruction: the compiler's own hint
/// becomes one to read where its target lacks a feature that no instruction set here implies. Processors of x86-64
/// without the instruction pass over it.
#[inline(always)]
pub fn write<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: prefetching faults on no address and changes no memory, no register and no flag.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) address.addr(), options(nomem, nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Asks for `len` elements to read, into the level-1 cache: every line that they touch.
#[inline(always)]
pub fn run<T>(from: *const T, len: usize) {
    let end = from.wrapping_add(len);
    let mut line = from.wrapping_byte_sub(from.addr() % 64);
    while line < end {
        read(line);
        line = line.wrapping_byte_add(64);
    }
}

/// Asks for a matrix to read, `len` elements of each of `rows` rows at distance `step`, into the level-2 cache.
#[inline(always)]
pub fn rows<T>(from: &[T], step: usize, [rows, len]: [usize; 2]) {
    for row in 0..rows {
        for at in (0..len).step_by(64 / size_of::<T>()) {
            read_later(from.as_ptr().wrapping_add(row * step + at));
        }
    }
}
