//! What the JSON schemas say of types of the library, which knows nothing of schemas.
#![allow(dead_code)] // never made, only described

/// Results of machines with equal fingerprints may be compared.
#[derive(schemars::JsonSchema)]
pub(crate) struct Fingerprint {
    /// Maker of the CPU.
    vendor: String,
    /// CPU family (x86) or architecture (ARM).
    family: String,
    /// CPU model (x86) or part (ARM).
    model: String,
    /// Instruction sets that the library can use, narrowest first.
    isas: Vec<String>,
    /// Bytes of data cache by level, from level 1.
    caches: Vec<usize>,
    /// Cores that the system shows.
    cores: usize,
}
