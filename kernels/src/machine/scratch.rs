//! Aligned memory that refuses instead of aborting, and the caller-owned scratch of a plan.

use std::ops::{Deref, DerefMut};

use crate::error::Error;
use crate::machine::tensor::{Dtype, Element};
use crate::problem::limits::Limits;

/// 64 bytes, aligned to a cache line: the unit of scratch.
#[derive(Debug, Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
pub struct Bytes64([u8; 64]);

/// The next distance of rows, in elements, at which rows that are read one after another do not fall into the same few
/// sets of the caches: not an even number of cache lines.
pub fn spread(distance: usize, element_size: usize) -> usize {
    let line = 64 / element_size;
    if distance.is_multiple_of(2 * line) { distance + line } else { distance }
}

/// How much scratch a plan needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scratch {
    /// Bytes, over all threads of the plan; a multiple of 64.
    pub bytes: usize,
}

impl Scratch {
    /// None at all.
    pub const NONE: Self = Self { bytes: 0 };

    /// Room for `count` slots of `elements` elements each, every slot on cache lines of its own.
    pub fn slots<T: Element>(count: usize, elements: usize) -> Self {
        Self { bytes: count * slot_units::<T>(elements) * 64 }
    }

    /// For the workers of [`crate::machine::parallel::run_scratch`], and how many they are: no more than `threads`, than there
    /// are tasks, or than [`limit`] has room for; at least one. A slot has `elements` elements.
    pub fn workers(threads: usize, tasks: usize, elements: usize, dtype: Dtype) -> (usize, Self) {
        let slot = (elements * dtype.size()).next_multiple_of(64);
        let count = threads.min(tasks).min(limit() / slot.max(1)).max(1);
        (count, Self { bytes: count * slot })
    }

    /// The same in units of [`Bytes64`].
    pub fn units(self) -> usize {
        self.bytes.div_ceil(64)
    }

    /// Allocates it, zeroed.
    pub fn allocate(self) -> Result<Vec<Bytes64>, Error> {
        // Zeroed by the system's own means: a loop over values is compiled for the baseline, and small layers wait for it.
        bytemuck::allocation::try_zeroed_vec(self.units())
            .map_err(|()| Error::OutOfMemory { what: "scratch", bytes: self.bytes })
    }
}

/// The most scratch that a kernel asks for, in bytes: a quarter of the physical memory, so that input, weights and
/// output have room beside it. A kernel that needs more declines.
pub fn limit() -> usize {
    Limits::default().max_bytes / 4
}

fn slot_units<T: Element>(elements: usize) -> usize {
    (elements * size_of::<T>()).div_ceil(64)
}

/// Scratch cut into the equal slots of [`Scratch::slots`]; contents are whatever was there.
pub fn slots<T: Element>(scratch: &mut [Bytes64], elements: usize) -> impl Iterator<Item = &mut [T]> {
    scratch
        .chunks_exact_mut(slot_units::<T>(elements).max(1))
        .map(move |units| &mut bytemuck::cast_slice_mut::<Bytes64, T>(units)[..elements])
}

/// A vector of `len` copies of `value`, or [`Error::OutOfMemory`].
pub fn filled_vec<T: Clone>(what: &'static str, len: usize, value: T) -> Result<Vec<T>, Error> {
    let mut data = Vec::new();
    data.try_reserve_exact(len)
        .map_err(|_| Error::OutOfMemory { what, bytes: len.saturating_mul(size_of::<T>()) })?;
    data.resize(len, value);
    Ok(data)
}

/// Elements that start on a cache line: packed weights, or tensors as frameworks keep them.
#[derive(Debug)]
pub struct AlignedVec<T> {
    /// Zeroed by the system where it is large: pages come when they are first written, and are not written twice.
    memory: Vec<T>,
    /// Where the first cache line begins.
    start: usize,
    len: usize,
}

impl<T: Element> AlignedVec<T> {
    /// `len` zeros for packed weights, or [`Error::OutOfMemory`].
    pub fn zeroed(what: &'static str, len: usize) -> Result<Self, Error> {
        let mut this = Self::tensor(what, len)?;
        ask_for_pages(&mut this.memory);
        Ok(this)
    }

    /// `len` zeros for a tensor, or [`Error::OutOfMemory`]: in pages like any other memory.
    pub fn tensor(what: &'static str, len: usize) -> Result<Self, Error> {
        const LINE: usize = 64;
        let before = LINE / size_of::<T>() - 1;
        let memory: Vec<T> = len
            .checked_add(before)
            .and_then(|len| bytemuck::allocation::try_zeroed_vec(len).ok())
            .ok_or_else(|| Error::OutOfMemory { what, bytes: len.saturating_mul(size_of::<T>()) })?;
        let address = memory.as_ptr().addr();
        let start = (address.next_multiple_of(LINE) - address) / size_of::<T>();
        Ok(Self { memory, start, len })
    }
}

/// Asks for the pages of large memory before it is first touched: all at once they take half the time that one by one they do.
/// Huge ones, if they fit: weights that are streamed then miss the TLB less often.
fn ask_for_pages<T>(memory: &mut [T]) {
    const WORTH: usize = 64 << 10;
    const HUGE: usize = 2 << 20;
    #[cfg(target_os = "linux")]
    if size_of_val(memory) >= WORTH {
        // SAFETY: it asks for a number.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4 << 10).max(1);
        let start = memory.as_ptr().addr().next_multiple_of(page);
        let end = (memory.as_ptr().addr() + size_of_val(memory)) / page * page;
        let len = end.saturating_sub(start);
        let advise = |advice| {
            // SAFETY: whole pages inside memory that the caller borrows mutably; neither advice changes contents, and a refusal is
            // no harm: pages then come when they are touched.
            unsafe { libc::madvise(start as *mut libc::c_void, len, advice) };
        };
        if len >= HUGE {
            advise(libc::MADV_HUGEPAGE);
        }
        advise(libc::MADV_POPULATE_WRITE);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (memory, WORTH, HUGE);
}

impl<T: Element> Deref for AlignedVec<T> {
    type Target = [T];
    #[inline]
    fn deref(&self) -> &[T] {
        &self.memory[self.start..][..self.len]
    }
}

impl<T: Element> DerefMut for AlignedVec<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.memory[self.start..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_vectors_begin_on_cache_lines() {
        for len in [0, 1, 15, 16, 17, 5000, 3 << 20] {
            let (tensor, packed) =
                (AlignedVec::<f32>::tensor("tensor", len), AlignedVec::<f64>::zeroed("packed", len));
            let (tensor, packed) = (tensor.unwrap(), packed.unwrap());
            assert_eq!((tensor.len(), packed.len()), (len, len));
            assert_eq!((tensor.as_ptr().addr() % 64, packed.as_ptr().addr() % 64), (0, 0));
            assert!(tensor.iter().all(|&x| x == 0.0) && packed.iter().all(|&x| x == 0.0));
        }
    }
}
