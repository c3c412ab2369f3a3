//! Remembers which compiler built the harness and how: results name it.

use std::process::Command;

fn main() {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let rustc = Command::new(variable("RUSTC")).arg("--version").output();
    let rustc = rustc.ok().and_then(|o| String::from_utf8(o.stdout).ok()).unwrap_or_default();
    // Flags are separated by the unit separator there, since they may hold blanks.
    let flags = variable("CARGO_ENCODED_RUSTFLAGS").replace('\u{1f}', " ");
    println!("cargo::rustc-env=TCONV_BUILD_RUSTC={}", rustc.trim());
    println!("cargo::rustc-env=TCONV_BUILD_TARGET={}", variable("TARGET"));
    println!("cargo::rustc-env=TCONV_BUILD_OPT_LEVEL={}", variable("OPT_LEVEL"));
    println!("cargo::rustc-env=TCONV_BUILD_FLAGS={flags}");
    println!("cargo::rerun-if-changed=build.rs");
}
