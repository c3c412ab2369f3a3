#!/usr/bin/env bash
# Builds the library's tests for aarch64 and runs them under emulation: NEON without a second machine.
#
#   scripts/neon.sh [arguments of `cargo test`]     default: all tests of the library, NEON required
#
# The tools (a Rust compiler with the aarch64 standard library, a cross linker, qemu) are Debian packages, downloaded by
# name and unpacked below target/neon; nothing is installed, and no setting of the system changes.
# Exit 0: passed. 1: failed. 3: the tools cannot be had here; the reason is printed.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly triple=aarch64-unknown-linux-gnu
readonly home="${CARGO_TARGET_DIR:-$PWD/target}/neon"
readonly root="$home/root"

unavailable() {
    echo "NEON: not available here: $*"
    exit 3
}

# Everything that apt knows and fetches stays in a folder of ours: lists for both architectures, archives.
apt_options=(
    -o APT::Architectures::=amd64 -o APT::Architectures::=arm64
    -o Dir::State::lists="$home/apt/lists" -o Dir::Cache="$home/apt"
    -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=1
    -o Acquire::Retries=3 -o Acquire::http::Timeout=30
)

depends() { # PACKAGE PATTERN: the first dependency whose name begins so
    apt-cache "${apt_options[@]}" depends "$1" | sed -n "s/^  Depends: \($2[^ ]*\)$/\1/p" | head -n 1
}

fetch_tools() {
    [[ $(uname -s) == Linux && $(uname -m) == x86_64 ]] || unavailable "the tools are packages for x86-64 Linux"
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || unavailable "no apt-get"
    rm -rf "$home" && mkdir -p "$home"/apt/{lists,archives}/partial "$root"

    apt-get -q "${apt_options[@]}" update >"$home/log" 2>&1 || unavailable "apt-get update failed: $(tail -n 1 "$home/log")"
    local library llvm
    library=$(depends libstd-rust-web-dev libstd-rust-web-) || true
    [[ -n $library ]] || unavailable "no package rustc-web"
    llvm=$(depends "$library" libllvm)
    # The linker and the emulator with all that they need and this system lacks …
    apt-get -q "${apt_options[@]}" install --yes --no-install-recommends --download-only \
        gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static >>"$home/log" 2>&1 &&
        # … and the compiler: alone, since it would displace another one.
        (cd "$home/apt/archives" && apt-get -q "${apt_options[@]}" download rustc-web "$library" \
            ${llvm:+"$llvm"} libstd-rust-web-dev libstd-rust-web-dev:arm64) >>"$home/log" 2>&1 ||
        unavailable "packages could not be fetched: $(tail -n 1 "$home/log")"

    local package
    for package in "$home"/apt/archives/*.deb; do
        dpkg-deb -x "$package" "$root"
    done
    rm -rf "$home/apt"
    touch "$home/ready"
}

[[ -e $home/ready ]] || fetch_tools

# A linker that this system has already is not among the packages: both places count.
export PATH="$root/usr/bin:$PATH"
export LD_LIBRARY_PATH="$root/usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export RUSTC="$root/usr/bin/rustc" RUSTDOC="$root/usr/bin/rustdoc"
# What was said to the other compiler is not for this one.
unset RUSTFLAGS RUSTDOCFLAGS RUSTC_WRAPPER RUSTUP_TOOLCHAIN
sysroot=/
[[ -d $root/usr/aarch64-linux-gnu ]] && sysroot=$root
# A linker that knows its folder: flags would not reach the doctests.
printf '#!/bin/sh\nexec aarch64-linux-gnu-gcc --sysroot=%q "$@"\n' "$sysroot" >"$home/linker"
chmod +x "$home/linker"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER="$home/linker"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -L ${sysroot%/}/usr/aarch64-linux-gnu"
export CARGO_TARGET_DIR="$home/build"
# The portable kernels are tested where they run quickly.
export TCONV_ISA=neon TCONV_REQUIRE_ISA=neon

"$RUSTC" --version >/dev/null 2>&1 || unavailable "the compiler of the packages does not start: $("$RUSTC" --version 2>&1 | tail -n 1)"
[[ -d $($RUSTC --print sysroot)/lib/rustlib/$triple ]] || unavailable "no standard library for $triple in the packages"
echo "NEON: $("$RUSTC" --version), $(qemu-aarch64-static --version | head -n 1)"

[[ $# -gt 0 ]] || set -- --package tconv
cargo test --locked --target "$triple" "$@" 2>&1 | tee "$home/tests.log"
grep -q '^test result: ok\. [1-9]' "$home/tests.log" || { echo "NEON: no test ran"; exit 1; }
