//! f32 and f64 over pulp's vectors: what the tiles need, under one name for both types.

use std::ops::Range;

use pulp::{MemMask, Simd};

use crate::machine::tensor::Element;

/// An element type with vectors in every instruction set.
pub trait Float: Element {
    /// One vector register of instruction set `S`.
    type Vector<S: Simd>: bytemuck::Pod + std::fmt::Debug + Send + Sync;

    /// Some lanes of a vector.
    type Mask<S: Simd>: Copy + std::fmt::Debug;

    /// Elements of one vector.
    fn lanes<S: Simd>() -> usize {
        size_of::<Self::Vector<S>>() / size_of::<Self>()
    }

    /// All lanes the same.
    fn splat<S: Simd>(simd: S, value: Self) -> Self::Vector<S>;

    /// a + b.
    fn add<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;

    /// a − b.
    fn sub<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;

    /// a · b.
    fn mul<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;

    /// a · b + c, fused where the instruction set fuses.
    fn mul_add<S: Simd>(
        simd: S,
        a: Self::Vector<S>,
        b: Self::Vector<S>,
        c: Self::Vector<S>,
    ) -> Self::Vector<S>;

    /// `yes` where a < b, else `no`; also where one of them is NaN.
    fn select_less<S: Simd>(
        simd: S,
        a: Self::Vector<S>,
        b: Self::Vector<S>,
        yes: Self::Vector<S>,
        no: Self::Vector<S>,
    ) -> Self::Vector<S>;

    /// The first elements of a slice, which holds at least a vector.
    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &[Self]) -> Self::Vector<S> {
        let _ = simd;
        bytemuck::pod_read_unaligned(bytemuck::cast_slice(&from[..Self::lanes::<S>()]))
    }

    /// The first `to.len()` lanes (at most all).
    fn store_partial<S: Simd>(simd: S, to: &mut [Self], value: Self::Vector<S>);

    /// The lanes `lanes`, lane i to `to + i`.
    ///
    /// # Safety
    /// The places of these lanes may be written; `to` itself may lie outside.
    unsafe fn store_lanes<S: Simd>(simd: S, lanes: Range<usize>, to: *mut Self, value: Self::Vector<S>);

    /// The lanes of the mask, lane i to `to + i`.
    ///
    /// # Safety
    /// As for [`Float::store_lanes`].
    unsafe fn store_masked<S: Simd>(simd: S, mask: Self::Mask<S>, to: *mut Self, value: Self::Vector<S>);

    /// The lanes `lanes`.
    fn mask<S: Simd>(simd: S, lanes: Range<usize>) -> Self::Mask<S>;

    /// Lane i from `from + i` where the mask has it, else 0.
    ///
    /// # Safety
    /// The elements of these lanes may be read; `from` itself may lie outside.
    unsafe fn load_masked<S: Simd>(simd: S, mask: Self::Mask<S>, from: *const Self) -> Self::Vector<S>;
}

/// Whether mul_add is a library call there: then it is a multiplication and an addition.
fn emulates_fma<S: Simd>() -> bool {
    std::any::TypeId::of::<S>() == std::any::TypeId::of::<pulp::Scalar128b>()
}

macro_rules! float {
    ($type:ty, $vector:ident, $splat:ident, $add:ident, $sub:ident, $mul:ident, $mul_add:ident, $less:ident,
     $select:ident, $store:ident, $between:ident, $mask_store:ident, $mask:ident, $mask_load:ident) => {
        impl Float for $type {
            type Vector<S: Simd> = S::$vector;
            type Mask<S: Simd> = S::$mask;

            #[inline(always)]
            fn splat<S: Simd>(simd: S, value: Self) -> Self::Vector<S> {
                simd.$splat(value)
            }
            #[inline(always)]
            fn add<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S> {
                simd.$add(a, b)
            }
            #[inline(always)]
            fn sub<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S> {
                simd.$sub(a, b)
            }
            #[inline(always)]
            fn mul<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S> {
                simd.$mul(a, b)
            }
            #[inline(always)]
            fn mul_add<S: Simd>(
                simd: S,
                a: Self::Vector<S>,
                b: Self::Vector<S>,
                c: Self::Vector<S>,
            ) -> Self::Vector<S> {
                if emulates_fma::<S>() { simd.$add(simd.$mul(a, b), c) } else { simd.$mul_add(a, b, c) }
            }
            #[inline(always)]
            fn select_less<S: Simd>(
                simd: S,
                a: Self::Vector<S>,
                b: Self::Vector<S>,
                yes: Self::Vector<S>,
                no: Self::Vector<S>,
            ) -> Self::Vector<S> {
                simd.$select(simd.$less(a, b), yes, no)
            }
            #[inline(always)]
            fn store_partial<S: Simd>(simd: S, to: &mut [Self], value: Self::Vector<S>) {
                simd.$store(to, value)
            }
            #[inline(always)]
            unsafe fn store_lanes<S: Simd>(
                simd: S,
                lanes: Range<usize>,
                to: *mut Self,
                value: Self::Vector<S>,
            ) {
                // SAFETY: as promised by the caller.
                unsafe { Self::store_masked(simd, Self::mask(simd, lanes), to, value) }
            }
            #[inline(always)]
            unsafe fn store_masked<S: Simd>(
                simd: S,
                mask: Self::Mask<S>,
                to: *mut Self,
                value: Self::Vector<S>,
            ) {
                // Of the mask alone: with lanes would come a call.
                // SAFETY: as promised by the caller.
                unsafe { simd.$mask_store(MemMask::new(mask), to, value) }
            }
            #[inline(always)]
            fn mask<S: Simd>(simd: S, lanes: Range<usize>) -> Self::Mask<S> {
                simd.$between(lanes.start as _, lanes.end as _).mask()
            }
            #[inline(always)]
            unsafe fn load_masked<S: Simd>(
                simd: S,
                mask: Self::Mask<S>,
                from: *const Self,
            ) -> Self::Vector<S> {
                // SAFETY: as promised by the caller.
                unsafe { simd.$mask_load(MemMask::new(mask), from) }
            }
        }
    };
}
float!(
    f32,
    f32s,
    splat_f32s,
    add_f32s,
    sub_f32s,
    mul_f32s,
    mul_add_f32s,
    less_than_f32s,
    select_f32s,
    partial_store_f32s,
    mask_between_m32s,
    mask_store_ptr_f32s,
    m32s,
    mask_load_ptr_f32s
);
float!(
    f64,
    f64s,
    splat_f64s,
    add_f64s,
    sub_f64s,
    mul_f64s,
    mul_add_f64s,
    less_than_f64s,
    select_f64s,
    partial_store_f64s,
    mask_between_m64s,
    mask_store_ptr_f64s,
    m64s,
    mask_load_ptr_f64s
);
