//! WHAT is computed: the front door, the checked problem, and all index arithmetic.

pub mod auto_pad;
pub mod descriptor;
pub mod epilogue;
pub mod geometry;
pub mod limits;
#[allow(clippy::module_inception)]
pub mod problem;
pub mod spec;
