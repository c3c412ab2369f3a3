//! WHAT is computed: the front door, the checked problem, and all index arithmetic.

pub mod epilogue;
pub mod geometry;
#[allow(clippy::module_inception)]
pub mod problem;
