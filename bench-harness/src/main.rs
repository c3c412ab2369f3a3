//! The harness on the built-in kernels.

fn main() -> std::process::ExitCode {
    tconv_bench::main_with(tconv::Registry::builtin())
}
