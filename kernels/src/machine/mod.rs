//! WHERE it runs: instruction sets, typed memory, threads, and the roofs of the machine.

pub mod fingerprint;
pub mod isa;
pub(crate) mod measured;
pub mod parallel;
pub mod prefetch;
pub mod roofs;
pub mod scratch;
pub mod tensor;
