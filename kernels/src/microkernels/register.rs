//! Vectors that stay in a register, where the compiler would rather read memory again for every use; and the other way round.

use std::any::TypeId;

use pulp::Simd;

use super::vector::Float;

/// The same vector, in a register. A load whose uses lie behind branches is otherwise repeated in each of them, as an operand
/// of the multiply-add: more loads than the load ports have room for.
#[inline(always)]
pub fn in_register<T: Float, S: Simd>(_: S, vector: T::Vector<S>) -> T::Vector<S> {
    #[cfg(target_arch = "x86_64")]
    if TypeId::of::<S>() == TypeId::of::<pulp::x86::V4>() {
        // SAFETY: a value of type `S` proves the instructions; both are 64 bytes of plain data.
        unsafe {
            let held = x86::hold(std::mem::transmute_copy(&vector));
            return std::mem::transmute_copy(&held);
        }
    }
    let _ = TypeId::of::<S>;
    vector
}

/// The same address, of which the compiler does not know that: what is read there is read again, as an operand of the instruction that
/// needs it, where a tile has no register left to keep it.
#[inline(always)]
pub fn anew<T>(address: *const T) -> *const T {
    #[cfg(target_arch = "x86_64")]
    {
        let mut number = address.addr();
        // SAFETY: no instruction at all.
        unsafe {
            std::arch::asm!("/* {0} */", inout(reg) number, options(pure, nomem, nostack, preserves_flags))
        };
        address.with_addr(number)
    }
    #[cfg(not(target_arch = "x86_64"))]
    address
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::{asm, x86_64::__m512};

    /// Nothing, of which the compiler knows only that it wants a register.
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub fn hold(mut vector: __m512) -> __m512 {
        // SAFETY: no instruction at all.
        unsafe { asm!("/* {0} */", inout(zmm_reg) vector, options(pure, nomem, nostack, preserves_flags)) };
        vector
    }
}
