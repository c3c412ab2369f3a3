//! Roofs, measured: the most multiply-adds that registers allow, and the bandwidth of every level of memory.

use std::hint::black_box;
use std::time::{Duration, Instant};

use pulp::{Simd, WithSimd};
use serde::{Deserialize, Serialize};
use tconv::machine::scratch::{Bytes64, filled_vec};
use tconv::{Dtype, Error, Isa};

use crate::measure::Crew;

/// Independent chains of multiply-adds: more than latency × throughput of any known core, few enough for 16 registers.
const CHAINS: usize = 12;
/// Time for one roof: the best of many short samples, since anything that disturbs makes a sample slower.
const TIME: Duration = Duration::from_millis(40);
const SAMPLE: Duration = Duration::from_millis(1);

/// The peak rate of multiply-adds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Peak {
    /// Instruction set.
    pub isa: String,
    /// Element type.
    pub dtype: String,
    /// Cores at work.
    pub threads: usize,
    /// 2 · multiply-adds per nanosecond, all threads together.
    pub gflops: f64,
}

/// The bandwidth of reading a buffer again and again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Bandwidth {
    /// `"L1"`, `"L2"`, … or `"DRAM"`.
    pub level: String,
    /// Bytes of the buffer.
    pub bytes: usize,
    /// Threads that read, each a buffer of its own.
    pub threads: usize,
    /// Bytes per nanosecond of all threads.
    pub gbytes_per_s: f64,
}

/// All roofs of a machine that a run needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Roofs {
    /// For the instruction set and element type of the run, at each number of its threads.
    pub peaks: Vec<Peak>,
    /// Likewise, reading from each level of memory.
    pub read: Vec<Bandwidth>,
}

impl Roofs {
    /// Measures them on each of these crews. `caches`: bytes by level.
    pub fn measure(isa: Isa, dtype: Dtype, crews: &[&Crew], caches: &[usize]) -> Result<Self, Error> {
        Ok(Self { peaks: Self::peaks(isa, dtype, crews), read: Self::bandwidths(isa, crews, caches)? })
    }

    /// The peaks alone.
    pub fn peaks(isa: Isa, dtype: Dtype, crews: &[&Crew]) -> Vec<Peak> {
        let peak = |crew: &&Crew| Peak {
            isa: isa.name().into(),
            dtype: dtype.name().into(),
            threads: crew.threads(),
            gflops: fma_peak(isa, dtype, crew),
        };
        crews.iter().map(peak).collect()
    }

    /// The bandwidths alone.
    pub fn bandwidths(isa: Isa, crews: &[&Crew], caches: &[usize]) -> Result<Vec<Bandwidth>, Error> {
        let each = crews.iter().map(|crew| read_bandwidths(isa, crew, caches));
        Ok(each.collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// The peak of so many threads, in GFLOP/s; NaN where it was not measured.
    pub fn peak(&self, threads: usize) -> f64 {
        self.peaks.iter().find(|p| p.threads == threads).map_or(f64::NAN, |p| p.gflops)
    }
}

/// The peak of multiply-adds in GFLOP/s, over all threads of the crew. Takes about 50 ms.
///
/// Counted where it is used by kernels: fused where the instruction set fuses, else one multiplication and one addition.
pub fn fma_peak(isa: Isa, dtype: Dtype, crew: &Crew) -> f64 {
    let per_step = (2 * CHAINS * lanes(isa, dtype)) as f64;
    let run = |steps: usize| {
        let start = Instant::now();
        black_box(run_chains(isa, dtype, steps));
        start.elapsed()
    };
    best_rate(|steps| {
        // The slowest thread decides: all have the same work.
        let slowest = crew.everywhere(|| run(steps)).into_iter().max().unwrap_or_default();
        (per_step * steps as f64 * crew.threads() as f64, slowest)
    })
}

/// So many times a few multiply-adds on all chains, and a look at all of `data`.
pub(crate) fn burst(isa: Isa, times: usize, data: &[f32]) {
    for _ in 0..times {
        black_box(run_chains(isa, Dtype::F32, BURST_STEPS));
        black_box(isa.enter(Read(black_box(data))));
    }
}

/// Of the chains of a burst, each time: about as long as reading a few kilobytes.
const BURST_STEPS: usize = 32;

/// Lanes of one chain. The portable instruction set is measured on the registers that every CPU of its kind has.
fn lanes(isa: Isa, dtype: Dtype) -> usize {
    let bytes = if isa == Isa::PORTABLE { size_of::<Baseline>() } else { 4 * isa.f32_lanes() };
    bytes / dtype.size()
}

/// The sum over all chains and lanes after `steps`.
fn run_chains(isa: Isa, dtype: Dtype, steps: usize) -> f64 {
    match (dtype, isa == Isa::PORTABLE) {
        (Dtype::F32, false) => isa.enter(Chains32(steps)),
        (Dtype::F64, false) => isa.enter(Chains64(steps)),
        (Dtype::F32, true) => baseline32(steps),
        (Dtype::F64, true) => baseline64(steps),
    }
}

/// The best rate (per nanosecond) that `sample` shows within [`TIME`]. It is given a size, and answers work and time.
fn best_rate(mut sample: impl FnMut(usize) -> (f64, Duration)) -> f64 {
    let mut size = 1;
    while sample(size).1 < SAMPLE && size < 1 << 40 {
        size *= 2;
    }
    let (start, mut best) = (Instant::now(), 0.0f64);
    while best == 0.0 || start.elapsed() < TIME {
        let (work, time) = sample(size);
        best = best.max(work / time.as_nanos().max(1) as f64);
    }
    best
}

// Constants are hidden from the optimiser, or it would solve the recurrence, which neither overflows nor dies out.
macro_rules! chains {
    ($name:ident, $vector:ident, $splat:ident, $fma:ident, $add:ident, $sum:ident) => {
        /// So many times a fused multiply-add on every chain.
        struct $name(usize);

        impl WithSimd for $name {
            type Output = f64;

            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) -> f64 {
                let (a, b) = (simd.$splat(black_box(0.999)), simd.$splat(black_box(0.001)));
                let mut chains: [S::$vector; CHAINS] = std::array::from_fn(|_| simd.$splat(black_box(1.0)));
                for _ in 0..self.0 {
                    for chain in &mut chains {
                        *chain = simd.$fma(a, *chain, b);
                    }
                }
                let mut sum = simd.$splat(0.0);
                for chain in chains {
                    sum = simd.$add(sum, chain);
                }
                f64::from(simd.$sum(sum))
            }
        }
    };
}
chains!(Chains32, f32s, splat_f32s, mul_add_f32s, add_f32s, reduce_sum_f32s);
chains!(Chains64, f64s, splat_f64s, mul_add_f64s, add_f64s, reduce_sum_f64s);

// The baseline has no fused instruction, and left to itself the compiler keeps such chains in memory.
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64 as sse;
#[cfg(target_arch = "x86_64")]
type Baseline = [f32; 4];
#[cfg(not(target_arch = "x86_64"))]
type Baseline = f64;

macro_rules! baseline {
    ($name:ident, $type:ty, $splat:ident, $mul:ident, $add:ident) => {
        /// The same on the registers of the baseline: one multiplication and one addition.
        #[cfg(target_arch = "x86_64")]
        fn $name(steps: usize) -> f64 {
            // SAFETY: SSE2 is part of every x86-64 target.
            let chains = unsafe {
                let (a, b) = (sse::$splat(black_box(0.999)), sse::$splat(black_box(0.001)));
                let mut chains = [sse::$splat(black_box(1.0)); CHAINS];
                for _ in 0..steps {
                    for chain in &mut chains {
                        *chain = sse::$add(sse::$mul(a, *chain), b);
                    }
                }
                chains
            };
            bytemuck::cast_slice::<_, $type>(&chains).iter().map(|&x| f64::from(x)).sum()
        }

        /// The same in scalars: one multiplication and one addition.
        #[cfg(not(target_arch = "x86_64"))]
        fn $name(steps: usize) -> f64 {
            const LANES: usize = size_of::<Baseline>() / size_of::<$type>();
            let (a, b): ($type, $type) = (black_box(0.999), black_box(0.001));
            let mut chains: [$type; CHAINS * LANES] = [black_box(1.0); CHAINS * LANES];
            for _ in 0..steps {
                for chain in &mut chains {
                    *chain = a * *chain + b;
                }
            }
            chains.iter().map(|&x| f64::from(x)).sum()
        }
    };
}
baseline!(baseline32, f32, _mm_set1_ps, _mm_mul_ps, _mm_add_ps);
baseline!(baseline64, f64, _mm_set1_pd, _mm_mul_pd, _mm_add_pd);

/// Every thread reads a buffer of its own: of half of each cache (the last one is taken for shared), and of four times the
/// last, divided among them.
pub fn read_bandwidths(isa: Isa, crew: &Crew, caches: &[usize]) -> Result<Vec<Bandwidth>, Error> {
    let threads = crew.threads();
    let last = caches.last().copied().unwrap_or(32 << 20);
    let mut sizes: Vec<(String, usize)> = Vec::new();
    for (i, &bytes) in caches.iter().enumerate() {
        let sharers = if i + 1 == caches.len() { threads } else { 1 };
        sizes.push((format!("L{}", i + 1), bytes / 2 / sharers));
    }
    // A machine with hundreds of megabytes of cache would spend seconds here.
    sizes.push(("DRAM".into(), (4 * last).min(512 << 20) / threads));
    // Whole lines, so that no two threads read the same one.
    sizes.iter_mut().for_each(|(_, bytes)| *bytes = bytes.next_multiple_of(64));
    let most = sizes.iter().map(|s| s.1).max().unwrap_or(0);
    let units = (threads * most).div_ceil(64);
    let data: Vec<Bytes64> = filled_vec("bandwidth buffer", units, bytemuck::cast([1.0f32; 16]))?;
    let floats: &[f32] = bytemuck::cast_slice(&data);
    let measure = |(level, bytes): (String, usize)| {
        let read = |passes: usize| {
            let thread = rayon::current_thread_index().unwrap_or(0);
            let data = &floats[thread * bytes / 4..][..bytes / 4];
            let start = Instant::now();
            for _ in 0..passes {
                black_box(isa.enter(Read(black_box(data))));
            }
            start.elapsed()
        };
        let gbytes_per_s = best_rate(|passes| {
            let slowest = crew.everywhere(|| read(passes)).into_iter().max().unwrap_or_default();
            ((bytes * passes * threads) as f64, slowest)
        });
        Bandwidth { level, bytes, threads, gbytes_per_s }
    };
    Ok(sizes.into_iter().map(measure).collect())
}

/// Adds everything up, on enough chains to keep the loads busy.
struct Read<'a>(&'a [f32]);

impl WithSimd for Read<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let (vectors, _) = S::as_simd_f32s(self.0);
        let mut sums = [simd.splat_f32s(0.0); 8];
        let (chunks, _) = vectors.as_chunks::<8>();
        for chunk in chunks {
            for (sum, &vector) in sums.iter_mut().zip(chunk) {
                *sum = simd.add_f32s(*sum, vector);
            }
        }
        let total = sums.into_iter().fold(simd.splat_f32s(0.0), |a, b| simd.add_f32s(a, b));
        simd.reduce_sum_f32s(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The recurrence x ← 0.999·x + 0.001 keeps 1: a chain that was optimised away or skipped would not sum to this.
    #[test]
    fn chains_are_computed() {
        for isa in Isa::available() {
            for dtype in [Dtype::F32, Dtype::F64] {
                let mean = run_chains(isa, dtype, 10) / (CHAINS * lanes(isa, dtype)) as f64;
                assert!((mean - 1.0).abs() < 1e-5, "{isa:?} {dtype}: {mean}");
            }
        }
    }

    #[test]
    fn reading_reads_everything() {
        let data = vec![1.0f32; 4096];
        for isa in Isa::available() {
            assert_eq!(isa.enter(Read(&data)), 4096.0, "{isa:?}");
        }
    }

    #[test]
    fn the_best_sample_counts() {
        let mut calls = 0;
        let rate = best_rate(|size| {
            calls += 1;
            let slow = if calls % 2 == 0 { 2 } else { 1 };
            (size as f64, SAMPLE * (size as u32) * slow)
        });
        assert_eq!(rate, 1.0 / SAMPLE.as_nanos() as f64);
    }
}
