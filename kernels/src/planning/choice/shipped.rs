//! Choices that were measured before a release and compiled in.

use std::sync::OnceLock;

use super::database::Choices;
use crate::machine::fingerprint::Fingerprint;
use crate::machine::isa::Isa;

/// Written by `scripts/ship-choices.py` from `results/runs`.
#[cfg(feature = "shipped-choices")]
const TEXT: &str = include_str!("shipped.jsonl");
#[cfg(not(feature = "shipped-choices"))]
const TEXT: &str = "";

/// The shipped choices of the machine most like this one that was recorded with this instruction set, read once; none without the
/// feature `shipped-choices`. Where the two are not of one kind, they count as measured elsewhere.
pub fn shipped(isa: Isa) -> &'static Choices {
    static SHIPPED: [OnceLock<Choices>; Isa::NAMES.len()] = [const { OnceLock::new() }; Isa::NAMES.len()];
    SHIPPED[isa.number()].get_or_init(|| {
        let Some(machine) = Fingerprint::recorded(isa) else { return Choices::default() };
        let ours: String = TEXT.lines().filter(|l| l.contains(machine)).flat_map(|l| [l, "\n"]).collect();
        let choices = Choices::of_machine(ours.as_bytes(), machine);
        if machine == Fingerprint::here() { choices } else { choices.of_other_machine() }
    })
}
