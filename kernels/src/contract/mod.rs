//! PROMISES: what a kernel may ask, must answer, and guarantees.

pub mod kernel;
pub mod request;
pub mod searched;
pub mod separable;
