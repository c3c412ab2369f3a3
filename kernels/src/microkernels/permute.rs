//! The lanes of a vector in any order, by a vector of indices. pulp has no such permutation: std::arch, behind one function.

use std::any::TypeId;

use pulp::Simd;

use super::vector::Float;

/// What the index of a 32-bit word counts: bytes where the instruction permutes bytes, else words.
const UNIT: u32 = if cfg!(target_arch = "aarch64") { 4 } else { 1 };

/// Writes the indices for [`permute`] by which lane i of the result is lane `from[i]`; both are one vector long.
pub fn write_indices<T: Float>(from: &[usize], to: &mut [T]) {
    let per_element = size_of::<T>() / 4;
    let words: &mut [u32] = bytemuck::cast_slice_mut(to);
    for (words, &from) in words.chunks_exact_mut(per_element).zip(from) {
        for (part, word) in words.iter_mut().enumerate() {
            let at = (from * per_element + part) as u32 * UNIT;
            *word = if UNIT == 1 { at } else { at * 0x0101_0101 + 0x0302_0100 };
        }
    }
}

/// Lane i of the result is lane `from[i]` of `table`, for indices that [`write_indices`] made of `from`.
#[inline(always)]
pub fn permute<T: Float, S: Simd>(_: S, indices: T::Vector<S>, table: T::Vector<S>) -> T::Vector<S> {
    let is = |other: TypeId| TypeId::of::<S>() == other;
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;
        // SAFETY: a value of type `S` exists only where its instructions do; `cast` checks the sizes.
        unsafe {
            if is(TypeId::of::<pulp::x86::V4>()) {
                return cast(_mm512_permutexvar_ps(cast(indices), cast(table)));
            } else if is(TypeId::of::<pulp::x86::V3>()) {
                return cast(_mm256_permutevar8x32_ps(cast(table), cast(indices)));
            }
        }
    }
    #[cfg(target_arch = "aarch64")]
    if is(TypeId::of::<pulp::aarch64::Neon>()) {
        use std::arch::aarch64::vqtbl1q_u8;
        // SAFETY: as above.
        return unsafe { cast(vqtbl1q_u8(cast(table), cast(indices))) };
    }
    let _ = is;
    let (from, indices, mut result) = ([table], [indices], [table]);
    let (from, indices): (&[u32], &[u32]) = (bytemuck::cast_slice(&from), bytemuck::cast_slice(&indices));
    let to: &mut [u32] = bytemuck::cast_slice_mut(&mut result);
    for (to, index) in to.iter_mut().zip(indices) {
        *to = from[((index & 255) / UNIT) as usize % from.len()];
    }
    result[0]
}

/// Between a pulp vector and the register type of the same instruction set.
///
/// # Safety
/// Both are plain data.
#[inline(always)]
unsafe fn cast<A: Copy, B: Copy>(a: A) -> B {
    assert!(size_of::<A>() == size_of::<B>());
    // SAFETY: the same size, any bits are valid.
    unsafe { std::mem::transmute_copy(&a) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::isa::Isa;
    use pulp::WithSimd;

    struct Check<T>(std::marker::PhantomData<T>);
    impl<T: Float> WithSimd for Check<T> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let lanes = T::lanes::<S>();
            let table: Vec<T> = (0..lanes).map(|i| T::from_f64(1.5 + i as f64)).collect();
            for (a, b) in [(1, 0), (lanes - 1, 0), (3, 1), (0, lanes - 1), (5, 2)] {
                let from: Vec<usize> = (0..lanes).map(|i| (a * i + b) % lanes).collect();
                let mut indices = vec![T::default(); lanes];
                write_indices(&from, &mut indices);
                let got = [permute::<T, S>(simd, T::load(simd, &indices), T::load(simd, &table))];
                for (got, from) in bytemuck::cast_slice::<_, T>(&got).iter().zip(from) {
                    assert_eq!(got.to_f64(), 1.5 + from as f64);
                }
            }
        }
    }

    #[test]
    fn permutes_in_every_instruction_set() {
        for isa in Isa::available() {
            isa.enter(Check::<f32>(std::marker::PhantomData));
            isa.enter(Check::<f64>(std::marker::PhantomData));
        }
    }
}
