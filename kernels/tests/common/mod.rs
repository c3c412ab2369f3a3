//! Shared by the integration tests.
#![allow(dead_code)] // each test crate uses its part

pub mod golden;
pub mod random;

use tconv::{ISA_VARIABLE, Isa};

/// The variable that names an instruction set which must be among those tested: a skipped path is a failure.
pub const REQUIRE_VARIABLE: &str = "TCONV_REQUIRE_ISA";

/// The instruction sets to test: the one that `TCONV_ISA` forces, or all of this CPU.
pub fn isas() -> Vec<Isa> {
    let isas = match std::env::var(ISA_VARIABLE) {
        Ok(name) if !name.is_empty() => vec![Isa::by_name(&name).expect(ISA_VARIABLE)],
        _ => Isa::available(),
    };
    if let Ok(required) = std::env::var(REQUIRE_VARIABLE) {
        assert!(
            required.is_empty() || isas.iter().any(|isa| isa.name() == required),
            "{REQUIRE_VARIABLE}={required}, but only {isas:?} would be tested"
        );
    }
    isas
}
