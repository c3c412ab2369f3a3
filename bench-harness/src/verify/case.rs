//! A case: a problem, where its numbers come from, and what the right answer is.

use std::sync::{Arc, OnceLock};

use tconv::{
    Activation, Dtype, Epilogue, Exactness, Geometry, Isa, Layout, Norms, Oracle, Structure, Tensor,
};

use super::judge::{Digest, Places, Rule, Truth};
use crate::data::{self, Numbers, Tensors};
use crate::golden;
use crate::sample;
use crate::workloads::{self, Workload};

/// Outputs that are checked of a large case.
const SAMPLES: usize = 4096;
/// Cases of at most this many multiply-adds are checked whole.
const WHOLE: u128 = 4_000_000;

/// Something with a known answer.
#[derive(Debug, Clone)]
pub struct Case {
    /// Bias and activation.
    pub epilogue: Epilogue,
    structure: Structure,
    geometry: Geometry,
    layout: Option<Layout>,
    dtype: Option<Dtype>,
    origin: Origin,
}

#[derive(Debug, Clone)]
enum Origin {
    Golden { set: Arc<golden::Set>, index: usize },
    Drawn { numbers: Numbers, seed: u64 },
}

impl Case {
    /// A case of a conformance set.
    pub fn golden(set: &Arc<golden::Set>, index: usize) -> Self {
        let case = &set.cases[index];
        Self {
            epilogue: Epilogue { bias: case.bias, ..Epilogue::NONE },
            structure: Structure::General,
            geometry: case.geometry.clone(),
            layout: None,
            dtype: None,
            origin: Origin::Golden { set: set.clone(), index },
        }
    }

    /// A workload with numbers drawn from a seed, checked against the oracle.
    pub fn drawn(workload: &Workload, numbers: Numbers, seed: u64) -> Result<Self, tconv::Error> {
        Ok(Self {
            epilogue: workload.epilogue,
            structure: workload.structure,
            geometry: Geometry::new(&workload.problem.with_layout(Layout::Nchw))?,
            layout: workload.dtype.map(|_| workload.problem.layout()),
            dtype: workload.dtype,
            origin: Origin::Drawn { numbers, seed },
        })
    }

    /// Useful multiply-adds.
    pub fn work(&self) -> u128 {
        self.geometry.multiply_adds()
    }

    /// The types to run it in.
    pub fn dtypes(&self, all: &[Dtype]) -> Vec<Dtype> {
        self.dtype.map_or_else(|| all.to_vec(), |one| vec![one])
    }

    /// The layouts to run it in.
    pub fn layouts(&self, all: &[Layout]) -> Vec<Layout> {
        self.layout.map_or_else(|| all.to_vec(), |one| vec![one])
    }

    /// The kind of check: as in the conformance set, or the kind of numbers for the oracle.
    pub fn kind(&self) -> &'static str {
        match &self.origin {
            Origin::Golden { set, index } => set.cases[*index].check.name(),
            Origin::Drawn { numbers: Numbers::Integer, .. } => "oracle-int",
            Origin::Drawn { numbers: Numbers::Real, .. } => "oracle-real",
        }
    }

    /// The name in the conformance set, or the descriptor.
    pub fn name(&self, dtype: Dtype, layout: Layout) -> String {
        match &self.origin {
            Origin::Golden { set, index } => set.cases[*index].id.clone(),
            Origin::Drawn { .. } => {
                let problem = self.geometry.problem().with_layout(layout);
                workloads::descriptor(problem, dtype, self.epilogue, self.structure)
            }
        }
    }

    /// A command that runs one kernel on this case again.
    pub fn reproduce(
        &self,
        kernel: &str,
        isa: Isa,
        dtype: Dtype,
        layout: Layout,
        threads: &[usize],
    ) -> String {
        let threads = threads.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let name = self.name(dtype, layout);
        let what = match &self.origin {
            Origin::Golden { set, .. } => {
                format!(
                    "--golden '{}' --case {name} --dtype {dtype} --layout {}",
                    set.directory.display(),
                    layout.name()
                )
            }
            Origin::Drawn { seed, .. } => format!("-w '{name}' --seed {seed}"),
        };
        format!("tconv verify {what} -k '^{kernel}$' --isa {} --threads {threads}", isa.name())
    }

    /// Makes inputs and truth.
    pub fn material(&self) -> Material<'_> {
        let geometry = self.geometry.clone();
        let (tensors, truth) = match &self.origin {
            Origin::Golden { set, index } => {
                let case = &set.cases[*index];
                let tensors = set.tensors(case);
                let truth = stored_truth(set, case, &tensors);
                (tensors, truth)
            }
            Origin::Drawn { numbers, seed } => {
                let tensors = Tensors::draw(&geometry, self.epilogue.bias, *numbers, *seed);
                let tensors = tensors.with_structure(&geometry, self.structure, *numbers, *seed);
                let exact = *numbers == Numbers::Integer
                    && data::integer_range(&geometry).is_some()
                    && matches!(self.epilogue.activation, Activation::Identity | Activation::Relu);
                let truth = oracle_truth(&geometry, &tensors, self.epilogue);
                (tensors, if exact { Truth { rule: Rule::Exact, ..truth } } else { truth })
            }
        };
        Material { case: self, geometry, tensors, truth, bounded: OnceLock::new(), normwise: OnceLock::new() }
    }
}

/// The inputs of a case and its right answer, made once for all kernels; in NCHW.
#[derive(Debug)]
pub struct Material<'a> {
    /// What it was made from.
    pub case: &'a Case,
    /// In NCHW.
    pub geometry: Geometry,
    /// Inputs.
    pub tensors: Tensors,
    truth: Truth,
    bounded: OnceLock<Truth>,
    normwise: OnceLock<Truth>,
}

impl Material<'_> {
    /// What a kernel of this exactness is compared with: one that only promises a bound cannot be held to equality.
    pub fn truth_for(&self, exactness: Exactness) -> &Truth {
        match (exactness, &self.truth.rule) {
            (Exactness::Normwise { .. }, _) => self.normwise.get_or_init(|| self.by_norms(exactness)),
            (Exactness::Bounded { .. }, Rule::Exact) => {
                self.bounded.get_or_init(|| oracle_truth(&self.geometry, &self.tensors, self.case.epilogue))
            }
            _ => &self.truth,
        }
    }

    /// The truth with the bound of norms: what is known stays, equality and checksums are not asked for.
    fn by_norms(&self, exactness: Exactness) -> Truth {
        let (g, weights) = (&self.geometry, self.tensors.weights());
        let norms = Norms::new(g, weights, Tensor::F32(&self.tensors.input));
        let (plane, channels) = (g.output_plane(), g.problem().out_channels());
        let [_, height, width] = g.output();
        let norm = |flat: usize| {
            let (channel, at) = (flat / plane, flat % plane);
            let position = [at / width / height, at / width % height, at % width];
            norms.at(channel / channels, channel % channels, position)
        };
        let known = self.truth.value.len();
        Truth {
            magnitude: match &self.truth.places {
                Places::All => (0..known).map(norm).collect(),
                Places::Some(places) => places.iter().map(|&flat| norm(flat)).collect(),
            },
            products: vec![exactness.roundings(0, g.problem().group_in()) - 1],
            rule: match &self.truth.rule {
                Rule::Exact => Rule::Bound,
                rule => rule.clone(),
            },
            digest: None,
            ..self.truth.clone()
        }
    }
}

/// The stored answer of a conformance case.
fn stored_truth(set: &golden::Set, case: &golden::Case, tensors: &Tensors) -> Truth {
    let whole = |value, magnitude, rule| Truth {
        places: Places::All,
        value,
        magnitude,
        products: vec![case.accumulation],
        rule,
        digest: None,
    };
    match &case.check {
        golden::Check::Int(y) => whole(set.values(y), Vec::new(), Rule::Exact),
        golden::Check::Real(y, a) => whole(set.values(y), set.values(a), Rule::Bound),
        golden::Check::Literal(y, a, tol) => {
            whole(set.values(y), set.values(a), Rule::Literal { tolerance: *tol })
        }
        golden::Check::Special(y) => {
            // Only the magnitudes are missing from the file; they matter where the output is finite.
            let epilogue = Epilogue { bias: case.bias, ..Epilogue::NONE };
            let magnitude = oracle_truth(&case.geometry, tensors, epilogue).magnitude;
            whole(set.values(y), magnitude, Rule::Special)
        }
        golden::Check::Proc(digest) => Truth {
            places: Places::Some(digest.samples.iter().map(|(i, _)| *i).collect()),
            value: digest.samples.iter().map(|(_, y)| *y as f64).collect(),
            digest: Some(Digest {
                seed: digest.seed,
                sum: digest.sum,
                abs_sum: digest.abs_sum,
                hash: digest.hash,
            }),
            ..whole(Vec::new(), Vec::new(), Rule::Exact)
        },
    }
}

/// What the f64 oracle says: about every output of a small case, else about a sample.
fn oracle_truth(geometry: &Geometry, tensors: &Tensors, epilogue: Epilogue) -> Truth {
    let whole = geometry.multiply_adds() <= WHOLE;
    let at_least = if whole { geometry.output_len() } else { SAMPLES };
    let oracle = Oracle::new(geometry, tensors.weights(), epilogue);
    let input = Tensor::F32(&tensors.input);
    let positions = sample::positions(geometry, at_least, 1);
    let exact: Vec<_> = positions.iter().map(|&(n, c, at)| oracle.at(input, n, c, at)).collect();
    Truth {
        places: match positions.len() == geometry.output_len() {
            true => Places::All, // sorted, so in the order of the output
            false => Places::Some(positions.iter().map(|&(n, c, at)| geometry.output_at(n, c, at)).collect()),
        },
        value: exact.iter().map(|e| e.value).collect(),
        magnitude: exact.iter().map(|e| e.magnitude).collect(),
        products: exact.iter().map(|e| e.products).collect(),
        rule: Rule::Bound,
        digest: None,
    }
}
