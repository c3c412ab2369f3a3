//! Instruction sets as values: an [`Isa`] exists only where the CPU has the instructions.

use std::fmt;

use pulp::{Scalar128b, Simd, WithSimd};

use crate::error::Error;

/// The variable that forces an instruction set: `portable`, `avx2`, `avx512` or `neon`.
pub const ISA_VARIABLE: &str = "TCONV_ISA";

/// A proof that this CPU can run an instruction set.
#[derive(Clone, Copy)]
pub struct Isa(Token);

#[derive(Clone, Copy)]
enum Token {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    #[cfg(target_arch = "x86_64")]
    Avx512(pulp::x86::V4),
    #[cfg(target_arch = "aarch64")]
    Neon(pulp::aarch64::Neon),
}

impl Isa {
    /// Plain Rust, compiled for the baseline of the target. Everywhere.
    pub const PORTABLE: Self = Self(Token::Portable);

    /// All names, of any CPU.
    pub const NAMES: [&str; 4] = ["portable", "avx2", "avx512", "neon"];

    /// All that this CPU has, narrowest first.
    pub fn available() -> Vec<Self> {
        let mut all = vec![Self::PORTABLE];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(pulp::x86::V3::try_new().map(|t| Self(Token::Avx2(t))));
            all.extend(pulp::x86::V4::try_new().map(|t| Self(Token::Avx512(t))));
        }
        #[cfg(target_arch = "aarch64")]
        all.extend(pulp::aarch64::Neon::try_new().map(|t| Self(Token::Neon(t))));
        all
    }

    /// The widest available one, or the one that [`ISA_VARIABLE`] names.
    pub fn detect() -> Result<Self, Error> {
        match std::env::var(ISA_VARIABLE) {
            Ok(name) if !name.is_empty() => Self::by_name(&name),
            _ => Ok(*Self::available().last().expect("portable is always available")),
        }
    }

    /// By name; an error tells whether the name is unknown or the CPU lacks it.
    pub fn by_name(name: &str) -> Result<Self, Error> {
        let available = Self::available();
        if let Some(isa) = available.iter().find(|i| i.name() == name) {
            return Ok(*isa);
        }
        let known = Self::NAMES.contains(&name);
        Err(Error::Isa {
            name: name.into(),
            problem: if known { "this CPU lacks it" } else { "unknown" },
            available: available.iter().map(|i| i.name()).collect::<Vec<_>>().join(", "),
        })
    }

    /// `"portable"`, `"avx2"`, `"avx512"` or `"neon"`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Token::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Token::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Token::Avx512(_) => "avx512",
            #[cfg(target_arch = "aarch64")]
            Token::Neon(_) => "neon",
        }
    }

    /// Its place in [`Isa::NAMES`].
    pub fn number(self) -> usize {
        Self::NAMES.iter().position(|name| *name == self.name()).expect("all are listed")
    }

    /// f32 lanes of one vector.
    pub fn f32_lanes(self) -> usize {
        match self.0 {
            Token::Portable => Scalar128b::F32_LANES,
            #[cfg(target_arch = "x86_64")]
            Token::Avx2(_) => pulp::x86::V3::F32_LANES,
            #[cfg(target_arch = "x86_64")]
            Token::Avx512(_) => pulp::x86::V4::F32_LANES,
            #[cfg(target_arch = "aarch64")]
            Token::Neon(_) => pulp::aarch64::Neon::F32_LANES,
        }
    }

    /// Vector registers.
    pub fn registers(self) -> usize {
        match self.0 {
            Token::Portable => Scalar128b::REGISTER_COUNT,
            #[cfg(target_arch = "x86_64")]
            Token::Avx2(_) => pulp::x86::V3::REGISTER_COUNT,
            #[cfg(target_arch = "x86_64")]
            Token::Avx512(_) => pulp::x86::V4::REGISTER_COUNT,
            #[cfg(target_arch = "aarch64")]
            Token::Neon(_) => pulp::aarch64::Neon::REGISTER_COUNT,
        }
    }

    /// Whether there are vector instructions: portable lanes are loops, for which many tiles take long to compile and gain
    /// nothing.
    pub fn has_vectors(self) -> bool {
        !matches!(self.0, Token::Portable)
    }

    /// Runs `op` compiled for this instruction set. Enter inside each parallel task, never outside: what is
    /// not inlined into `op` is compiled for the baseline.
    #[inline]
    pub fn enter<Op: WithSimd>(self, op: Op) -> Op::Output {
        match self.0 {
            Token::Portable => Simd::vectorize(Scalar128b, op),
            #[cfg(target_arch = "x86_64")]
            Token::Avx2(t) => Simd::vectorize(t, op),
            #[cfg(target_arch = "x86_64")]
            Token::Avx512(t) => Simd::vectorize(t, op),
            #[cfg(target_arch = "aarch64")]
            Token::Neon(t) => Simd::vectorize(t, op),
        }
    }
}

/// [`Isa::has_vectors`] where it is known when compiling.
pub const fn has_vectors<S: Simd>() -> bool {
    // NEON has as long vectors, and twice as many.
    size_of::<S::f32s>() > 16 || S::REGISTER_COUNT > Scalar128b::REGISTER_COUNT
}

impl PartialEq for Isa {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}
impl Eq for Isa {}

impl fmt::Debug for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a plan will run: instruction set and number of threads, both fixed when the plan is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The instructions that kernels may use.
    pub isa: Isa,
    /// Tasks that run at the same time, 1 to [`Target::MOST_THREADS`]; a planner takes the nearest of these. The results
    /// are the same bits for any number.
    pub threads: usize,
}

impl Target {
    /// More threads than this are not used.
    pub const MOST_THREADS: usize = 1024;

    /// The best instruction set of this CPU and as many threads as the OS offers.
    pub fn detect() -> Result<Self, Error> {
        Ok(Self { isa: Isa::detect()?, threads: std::thread::available_parallelism().map_or(1, |n| n.get()) })
    }

    /// The same with another number of threads, or the nearest that is possible.
    pub fn with_threads(self, threads: usize) -> Self {
        Self { threads: threads.clamp(1, Self::MOST_THREADS), ..self }
    }
}
