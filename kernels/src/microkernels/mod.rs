//! Register tiles over pulp, generic in the instruction set, and what surrounds them: packing, activations, stores.

pub mod activation;
pub mod column_tile;
pub mod copy;
pub mod direct_tile;
pub mod errand;
pub mod grouped_tile;
pub mod interleave;
pub mod matmul;
pub mod permute;
pub mod phase_tile;
pub mod pixel_tile;
pub mod places;
pub mod point_tile;
pub mod register;
pub mod row_pass;
pub mod row_tile;
pub mod slab;
pub mod small_tile;
pub mod strip_tile;
pub mod strips;
pub mod tile;
pub mod transpose;
pub mod vector;
