//! Choices for programs that ship: a Rust module of pins, or JSON.

use std::collections::HashSet;

use serde_json::{Value, json};
use tconv::Fingerprint;

use super::Answer;
use crate::format::{plural, time};

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// A module for a program that uses the library
    Rust,
    /// For everybody else
    Json,
}

/// Grows when a field changes its meaning or vanishes.
const SCHEMA: u32 = 1;

/// The module.
pub fn rust(answers: &[Answer], command: &str) -> String {
    let mut names = Names::default();
    let constants: Vec<String> = answers.iter().map(|a| names.constant(&a.layer)).collect();
    let mut text = format!(
        "//! Kernels of {}, chosen on {}.\n//!\n//!     {command}\n//!\n\
         //! A pin plans exactly this kernel and variant with this rounding, or fails and says what is gone. Where only the speed\n\
         //! of the kernel has changed since, the plan carries a warning.\n\n\
         use tconv::Pin;\n",
        plural(answers.len(), "layer"),
        Fingerprint::here(),
    );
    for (answer, constant) in answers.iter().zip(&constants) {
        let pick = answer.pick();
        let revisions = pick.kernel.revisions();
        text += &format!(
            "\n/// {}: {}, {}.\n\
             pub const {constant}: Pin = Pin {{\n\
             \x20   layer: {:?},\n\
             \x20   problem: {:?},\n\
             \x20   isa: {:?},\n\
             \x20   threads: {},\n\
             \x20   kernel: {:?},\n\
             \x20   variant: {:?},\n\
             \x20   numerics: {},\n\
             \x20   speed: {},\n\
             }};\n",
            answer.layer.replace('\n', " "),
            pick.estimate.source,
            time(pick.estimate.nanoseconds),
            answer.layer,
            answer.descriptor.to_string(),
            answer.target.isa.name(),
            answer.target.threads,
            pick.kernel.name(),
            pick.variant,
            revisions.numerics,
            revisions.speed,
        );
    }
    let list: String = constants.iter().map(|name| format!("    &{name},\n")).collect();
    text + &format!(
        "\n/// All of them, in the order of the model.\n#[rustfmt::skip]\npub const ALL: [&Pin; {}] = [\n{list}];\n",
        answers.len()
    )
}

/// The same for other programs.
pub fn json(answers: &[Answer], command: &str) -> Value {
    let layer = |answer: &Answer| {
        let pick = answer.pick();
        let revisions = pick.kernel.revisions();
        json!({
            "layer": answer.layer,
            "problem": answer.descriptor.to_string(),
            "isa": answer.target.isa.name(),
            "threads": answer.target.threads,
            "kernel": pick.kernel.name(),
            "variant": pick.variant,
            "numerics": revisions.numerics,
            "speed": revisions.speed,
            "source": pick.estimate.source.to_string(),
            "ns": [pick.estimate.nanoseconds, pick.estimate.low, pick.estimate.high],
            "scratch_bytes": pick.scratch_bytes,
        })
    };
    json!({
        "schema": SCHEMA,
        "machine": Fingerprint::here(),
        "command": command,
        "layers": answers.iter().map(layer).collect::<Vec<_>>(),
    })
}

/// Constants of a module: legal and unique.
#[derive(Default)]
struct Names(HashSet<String>);

impl Names {
    /// `/up1/up/ConvTranspose` becomes `UP1_UP_CONVTRANSPOSE`.
    fn constant(&mut self, layer: &str) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        let mut name = String::new();
        for c in layer.chars().map(plain) {
            if c != '_' || !name.is_empty() && !name.ends_with('_') {
                name.push(c);
            }
        }
        let name = name.trim_end_matches('_');
        let name = match name.chars().next() {
            Some(c) if !c.is_ascii_digit() && name != "ALL" => name.to_owned(),
            _ => format!("LAYER_{name}"),
        };
        let (mut unique, mut number) = (name.clone(), 2);
        while !self.0.insert(unique.clone()) {
            unique = format!("{name}_{number}");
            number += 1;
        }
        unique
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_legal_and_unique() {
        let mut names = Names::default();
        let made =
            ["/up1/up/ConvTranspose", "up1.up.ConvTranspose", "3", "", "all", "ä"].map(|n| names.constant(n));
        assert_eq!(
            made,
            ["UP1_UP_CONVTRANSPOSE", "UP1_UP_CONVTRANSPOSE_2", "LAYER_3", "LAYER_", "LAYER_ALL", "LAYER__2"]
        );
    }
}
