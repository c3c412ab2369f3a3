//! Remembers which compiler built the harness, how, and from which commit: results name it.

use std::path::Path;
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
    println!("cargo::rustc-env=TCONV_BUILD_COMMIT={}", commit());
    println!("cargo::rerun-if-changed=build.rs");
}

/// The commit, with a `+` where what is built from differs from it. Looked up again when either may have changed.
fn commit() -> String {
    let sources = ["src", "../kernels/src", "../Cargo.lock"];
    let Some(head) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".into() };
    let log = git(&["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"]).unwrap_or_default();
    for path in sources.into_iter().chain([log.as_str()]).filter(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={path}");
    }
    let changes = git(&[&["status", "--porcelain", "--"][..], &sources].concat());
    head + if changes.is_none_or(|changes| changes.is_empty()) { "" } else { "+" }
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
