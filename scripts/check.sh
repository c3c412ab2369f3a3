#!/usr/bin/env bash
# The test command: everything that must hold before a change is kept. `.ci/run` calls it too.
#
#   scripts/check.sh            all of it
#   scripts/check.sh --quick    without the narrower instruction sets, the disassembly and NEON
#
# Stops at the first step that fails. Last line: the sum of the test runners' results.
set -euo pipefail
cd "$(dirname "$0")/.."

quick=no
case "${1-}" in
    '') ;;
    --quick) quick=yes ;;
    *) echo "usage: scripts/check.sh [--quick]" >&2; exit 2 ;;
esac

# One target folder for all steps; what the caller forces on single runs is not for the whole.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
# Everything is built once, from nothing: what speeds the next build only costs here.
export CARGO_TERM_COLOR=never CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0 RUST_BACKTRACE=1
unset TCONV_ISA TCONV_REQUIRE_ISA
mkdir -p "$CARGO_TARGET_DIR"
readonly log="$CARGO_TARGET_DIR/check.log"
: >"$log"

# ---- steps -----------------------------------------------------------------------------------------------------------

current=start
step() { # TITLE COMMAND…
    current=$1
    local since=$SECONDS
    printf '\n=== %s\n' "$current"
    "${@:2}" 2>&1 | tee -a "$log"
    printf '=== %s: %d s\n' "$current" $((SECONDS - since))
    current=
}

finish() {
    local status=$? passed failed
    read -r passed failed < <(awk '/^test result:/ { p += $4; f += $6 } END { print p + 0, f + 0 }' "$log")
    printf '\n=== Results of the test runners\n'
    grep '^test result:' "$log" || true
    if ((status != 0)); then
        printf '\nFAILED in the step "%s"\n' "$current"
        ((failed > 0)) || failed=1
    fi
    printf '\n%d s in all\n%d passed, %d failed\n' "$SECONDS" "$passed" "$failed"
}
trap finish EXIT

# The program that the tests have built: optimised, and it checks its arithmetic.
tconv() { "$CARGO_TARGET_DIR/debug/tconv" "$@"; }

docs() { RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps; }

tests_native() { TCONV_REQUIRE_ISA=$best cargo test --locked --workspace; }

tests_on() { # ISA
    TCONV_ISA=$1 TCONV_REQUIRE_ISA=$1 cargo test --locked --package tconv --package tconv-bench --lib --bins --tests
}

# Files with unsafe code and no proof in docs/unsafe.md.
unsafe_code() {
    local file missing=0
    while read -r file; do
        grep -qF "$file" docs/unsafe.md || { echo "docs/unsafe.md does not name $file"; missing=1; }
    done < <(grep -rlw --include='*.rs' unsafe kernels/src bench-harness/src examples)
    return $missing
}

# A kernel of another crate: planned, verified and ranked beside ours. It builds with the versions of our lock file.
outside_kernel() {
    local manifest=examples/outside-kernel/Cargo.toml
    cp Cargo.lock examples/outside-kernel/Cargo.lock
    cargo fmt --check --manifest-path "$manifest"
    cargo clippy --quiet --manifest-path "$manifest" --all-targets -- -D warnings
    cargo test --quiet --manifest-path "$manifest"
    local run=(cargo run --quiet --manifest-path "$manifest" --)
    "${run[@]}"
    "${run[@]}" verify --fuzz 50 -k gather
    "${run[@]}" rank -w d2l -k 'gather|scatter' --budget 2
}

# The library's own tests run the stored part on every instruction set.
stored_golden() { TCONV_REQUIRE_ISA=$best tconv verify --golden kernels/tests/data/golden --isa "$best"; }

# Kernels without code of their own for an instruction set do the same on each: once is enough.
readonly references='^(scatter|gemm-col2im|sparse-csr|zero-insert)$'

whole_golden() {
    local isa
    TCONV_REQUIRE_ISA=$best tconv verify --golden ../shared/conformance --isa "$best"
    for isa in "${isas[@]::${#isas[@]}-1}"; do
        TCONV_REQUIRE_ISA=$isa tconv verify --golden ../shared/conformance --isa "$isa" --except "$references"
    done
}

neon() {
    local status=0 tests=(--lib --test conformance)
    # Every kernel on every kind of layer takes six minutes under emulation: beside the whole golden set only.
    [[ ! -d ../shared/conformance ]] || tests+=(--test kernels)
    scripts/neon.sh --package tconv "${tests[@]}" || status=$?
    # 3: its tools cannot be had here, and it said why. Where they can, it fails if no test ran.
    ((status == 3)) || return "$status"
}

# Shipped choices follow from the recorded runs; where these could be repeated, choices are judged on them.
choices() {
    scripts/ship-choices.py --check
    cargo check --quiet --locked --package tconv --no-default-features
    if [[ $best == avx512 ]]; then
        tconv choose --audit results/runs/*.jsonl --worst 40%
        tconv choose --audit results/runs/*.jsonl --held-out results/audit/*.jsonl
    else
        echo "The runs that choices are judged by are of AVX-512: they cannot be judged on this machine."
    fi
}

# Of the build that people use: a missed inline or a bounds check in an inner loop costs several times the speed.
inner_loops() {
    cargo build --quiet --release --locked --package tconv-bench
    scripts/check_asm.py "$CARGO_TARGET_DIR/release/tconv" | grep hot
}

report_page() {
    local status=0
    scripts/check-report.sh "$CARGO_TARGET_DIR/debug/tconv" || status=$?
    # 3: no browser can be had here, and it said so.
    ((status == 3)) || return "$status"
}

# ---- the machine -----------------------------------------------------------------------------------------------------

# Instruction sets that this CPU has, narrowest first, independently of the library's own detection: where that
# misses one, the tests that require it fail.
isas=(portable)
has() { local flag; for flag in "$@"; do grep -qw -m 1 "$flag" /proc/cpuinfo 2>/dev/null || return 1; done; }
case $(uname -m) in
    x86_64)
        ! has avx2 fma bmi1 bmi2 f16c || isas+=(avx2)
        ! has avx2 fma avx512f avx512bw avx512cd avx512dq avx512vl || isas+=(avx512)
        ;;
    aarch64 | arm64) isas+=(neon) ;;
esac
readonly best=${isas[-1]}
echo "Instruction sets here: ${isas[*]}"
[[ $(uname -m) != x86_64 || $best == avx512 ]] || echo "This CPU has no AVX-512: that path is not tested on this machine."

# ---- what is checked -------------------------------------------------------------------------------------------------

step "Format" cargo fmt --all --check
step "Lints" cargo clippy --locked --workspace --all-targets -- -D warnings
step "Documentation" docs
step "Unsafe code is accounted for" unsafe_code
step "Tests, $best" tests_native
if [[ $quick == no ]]; then
    for isa in "${isas[@]::${#isas[@]}-1}"; do
        step "Tests, $isa" tests_on "$isa"
    done
fi
step "A kernel outside the workspace" outside_kernel
step "Choices" choices
step "Report in a browser" report_page
if [[ -d ../shared/conformance ]]; then
    step "Golden set, all of it" whole_golden
else
    step "Golden set, stored part" stored_golden
fi
if [[ $quick == no && $best != neon ]]; then
    step "Inner loops" inner_loops
    step "NEON, emulated" neon
fi
