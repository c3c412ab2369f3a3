//! `tconv describe`: what a layer is made of, and what every kernel would do with it.

use std::path::PathBuf;

use serde_json::{Value, json};
use tconv::reference::weight_matrix::non_zeros;
use tconv::{Descriptor, Dtype, Geometry, Isa, Layout, Limits, Planner, Target};

use crate::cli::{Context, Failure, Outcome};
use crate::format::{bytes, count, time};
use crate::output::{self, OutputArgs};
use crate::workloads::{self, Workload};

/// Which layer, on which target.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A workload by name (or those that match a regular expression), or a descriptor
    #[arg(value_name = "WORKLOAD|DESCRIPTOR")]
    workload: String,
    /// Workloads of this TOML file instead of the built-in ones
    #[arg(long, value_name = "FILE")]
    workloads: Option<PathBuf>,
    /// The element type, where no descriptor fixes it
    #[arg(long, default_value = "f32", value_parser = workloads::dtype_argument)]
    dtype: Dtype,
    /// The layout, where no descriptor fixes it
    #[arg(long, default_value = "nchw", value_parser = workloads::layout_argument)]
    layout: Layout,
    /// The instruction set instead of the best one (or the one that TCONV_ISA names)
    #[arg(long, value_name = "NAME")]
    isa: Option<String>,
    /// Threads that kernels may use
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    let isa = match &args.isa {
        Some(name) => Isa::by_name(name)?,
        None => Isa::detect()?,
    };
    let planner = Planner::new()
        .with_registry(context.registry.clone())
        .on(Target { isa, threads: usize::from(args.threads) });
    let all = match &args.workloads {
        Some(path) => workloads::load(path)?,
        None => workloads::zoo(),
    };
    let chosen = match all.iter().find(|w| w.name == args.workload) {
        Some(named) => vec![named.clone()],
        None => workloads::select(all, Some(&args.workload))?,
    };
    let mut lines = args.output.open()?;
    for (i, workload) in chosen.into_iter().enumerate() {
        let dtype = workload.dtype.unwrap_or(args.dtype);
        let layout = if workload.dtype.is_some() { workload.problem.layout() } else { args.layout };
        let workload = Workload { problem: workload.problem.with_layout(layout), ..workload };
        let geometry = Geometry::new(&workload.problem)?;
        let facts = Facts::new(&geometry, dtype);
        let candidates = candidates(&planner, &workload, dtype)?;
        lines.write(&json!({
            "workload": workload.name,
            "descriptor": workload.descriptor(dtype),
            "isa": isa.name(),
            "threads": args.threads,
            "facts": facts.json(),
            "kernels": candidates.iter().map(Candidate::json).collect::<Vec<_>>(),
        }))?;
        if !args.output.json {
            let gap = if i > 0 { "\n" } else { "" };
            let kernels = kernels_text(&candidates, facts.multiply_adds);
            output::print(&format!("{gap}{}\n{kernels}", facts.text(&workload, dtype)))?;
        }
    }
    Ok(Outcome::Good)
}

/// What follows from the sizes alone.
struct Facts {
    output: Vec<usize>,
    multiply_adds: u128,
    conventional_gflop: f64,
    bytes: [u128; 3],
    flops_per_byte: f64,
    matrix: [u128; 2],
    non_zeros: u128,
    /// For each axis: phases, fewest taps of a phase, most.
    phases: Vec<[usize; 3]>,
}

impl Facts {
    fn new(geometry: &Geometry, dtype: Dtype) -> Self {
        let p = geometry.problem();
        let bytes = [geometry.input_len(), geometry.weight_len(), geometry.output_len()]
            .map(|elements| elements as u128 * dtype.size() as u128);
        let multiply_adds = geometry.multiply_adds();
        let spatial = &geometry.axes()[3 - p.rank()..];
        Self {
            output: spatial.iter().map(|a| a.output).collect(),
            multiply_adds,
            conventional_gflop: geometry.conventional_flops() * 1e-9,
            bytes,
            flops_per_byte: 2.0 * multiply_adds as f64 / bytes.iter().sum::<u128>().max(1) as f64,
            matrix: [(p.in_channels(), geometry.input_plane()), (p.out_channels(), geometry.output_plane())]
                .map(|(channels, plane)| channels as u128 * plane as u128),
            non_zeros: non_zeros(geometry),
            phases: spatial
                .iter()
                .map(|a| {
                    let taps = || a.phases.iter().map(|phase| phase.taps);
                    [a.phases.len(), taps().min().unwrap_or(0), taps().max().unwrap_or(0)]
                })
                .collect(),
        }
    }

    /// Bytes of the tensors, where this machine's memory does not hold them: such a layer can only be looked at.
    fn too_large(&self) -> Option<u128> {
        let sum = self.bytes.iter().sum();
        (sum > Limits::default().max_bytes as u128).then_some(sum)
    }

    fn uneven(&self) -> bool {
        self.phases.iter().any(|[_, fewest, most]| fewest != most)
    }

    fn json(&self) -> Value {
        json!({
            "output": self.output,
            "multiply_adds": self.multiply_adds as f64,
            "conventional_gflop": self.conventional_gflop,
            "input_bytes": self.bytes[0],
            "weight_bytes": self.bytes[1],
            "output_bytes": self.bytes[2],
            "exceeds_memory": self.too_large().is_some(),
            "flops_per_byte": self.flops_per_byte,
            "matrix_rows": self.matrix[0],
            "matrix_columns": self.matrix[1],
            "matrix_non_zeros": self.non_zeros as f64,
            "phases": self.phases.iter().map(|p| p[0]).collect::<Vec<_>>(),
            "fewest_taps": self.phases.iter().map(|p| p[1]).collect::<Vec<_>>(),
            "most_taps": self.phases.iter().map(|p| p[2]).collect::<Vec<_>>(),
            "uneven_overlap": self.uneven(),
        })
    }

    fn text(&self, workload: &Workload, dtype: Dtype) -> String {
        let p = &workload.problem;
        let descriptor = workload.descriptor(dtype);
        let list = |values: &[usize]| values.iter().map(usize::to_string).collect::<Vec<_>>().join(" × ");
        let column = |k: usize| self.phases.iter().map(|phase| phase[k]).collect::<Vec<_>>();
        let mut text = String::new();
        if workload.name != descriptor {
            text += &format!("{}: {}\n", workload.name, workload.source);
        }
        let (most, fewest) = (list(&column(2)), list(&column(1)));
        let taps = if most == fewest { most } else { format!("{fewest} to {most}") };
        let [input, weights, output] = self.bytes.map(|b| bytes(b as f64));
        let dense = self.matrix[0] as f64 * self.matrix[1] as f64;
        text += &format!(
            "{descriptor}\n\
             output           {} images of {} channels, {}\n\
             multiply-adds    {} useful; {:.3} GFLOP by the convention of the tables\n\
             memory           {input} input, {weights} weights, {output} output\n\
             intensity        {:.1} FLOP for each byte that must move\n\
             W of one image   {} × {}, {} non-zeros ({:.3} %)\n\
             phases           {} of {taps} taps\n",
            p.batch(),
            p.out_channels(),
            list(&self.output),
            count(self.multiply_adds as f64),
            self.conventional_gflop,
            self.flops_per_byte,
            self.matrix[0],
            self.matrix[1],
            count(self.non_zeros as f64),
            100.0 * self.non_zeros as f64 / dense,
            list(&column(0)),
        );
        if let Some(sum) = self.too_large() {
            let (sum, held) = (bytes(sum as f64), bytes(Limits::default().max_bytes as f64));
            text += &format!(
                "too large        {sum} for the tensors, {held} of memory here: it can be planned, not run\n"
            );
        }
        if self.uneven() {
            text += "uneven overlap   the stride does not divide the kernel: some outputs collect more taps than their \
                     neighbours\n                 (checkerboard artifacts)\n";
        }
        text
    }
}

/// One kernel's answer.
struct Candidate {
    kernel: &'static str,
    allocates: bool,
    remark: Option<String>,
    answer: Result<(String, tconv::Cost), String>,
}

fn candidates(planner: &Planner, workload: &Workload, dtype: Dtype) -> Result<Vec<Candidate>, Failure> {
    let Workload { problem, epilogue, structure, .. } = *workload;
    let verdicts = planner.explain_descriptor(&Descriptor { problem, dtype, epilogue, structure })?;
    let candidate = |v: tconv::Verdict| Candidate {
        kernel: v.kernel.name(),
        allocates: v.kernel.guarantees().allocates_in_run,
        remark: v.remark,
        answer: v.answer.map(|(variant, cost)| (variant.to_string(), cost)).map_err(|d| d.reason),
    };
    Ok(verdicts.into_iter().map(candidate).collect())
}

impl Candidate {
    fn json(&self) -> Value {
        match &self.answer {
            Err(reason) => json!({ "kernel": self.kernel, "declined": reason }),
            Ok((variant, cost)) => json!({
                "kernel": self.kernel,
                "variant": variant,
                "predicted_ns": cost.nanoseconds,
                "scratch_bytes": cost.scratch_bytes,
                "packed_bytes": cost.packed_bytes,
                "multiply_adds": cost.multiply_adds as f64,
                "allocates_in_run": self.allocates,
                "remark": self.remark,
            }),
        }
    }
}

fn kernels_text(candidates: &[Candidate], useful: u128) -> String {
    let header =
        ["kernel", "variant", "allocates", "predicted", "scratch", "packed", "multiply-adds", "of useful"];
    let mut table = output::table(&header, 3);
    let (mut remarks, mut declined) = (String::new(), String::new());
    for c in candidates {
        if let Some(remark) = &c.remark {
            remarks += &format!("{}: {remark}\n", c.kernel);
        }
        match &c.answer {
            Err(reason) => declined += &format!("{} declines: {reason}\n", c.kernel),
            Ok((variant, cost)) => {
                table.add_row([
                    c.kernel.to_owned(),
                    variant.clone(),
                    if c.allocates { "in run" } else { "no" }.to_owned(),
                    time(cost.nanoseconds),
                    bytes(cost.scratch_bytes as f64),
                    bytes(cost.packed_bytes as f64),
                    count(cost.multiply_adds as f64),
                    format!("{:.2}", cost.multiply_adds as f64 / useful.max(1) as f64),
                ]);
            }
        }
    }
    output::render(&table) + &remarks + &declined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_of_a_known_layer() {
        let zoo = workloads::zoo();
        let facts = |name: &str| {
            let w = zoo.iter().find(|w| w.name == name).expect("in the zoo");
            Facts::new(&Geometry::new(&w.problem).expect("legal"), Dtype::F32)
        };
        // Nothing cropped: every input meets all four taps of every output channel.
        let unet = facts("unet_up4");
        assert_eq!(unet.output, [392, 392]);
        assert_eq!(unet.multiply_adds, 128 * 64 * 4 * 196 * 196);
        assert_eq!(unet.non_zeros, unet.multiply_adds);
        assert_eq!(unet.bytes, [128 * 196 * 196 * 4, 128 * 64 * 4 * 4, 64 * 392 * 392 * 4]);
        assert_eq!((unet.phases.as_slice(), unet.uneven()), (&[[2, 1, 1], [2, 1, 1]][..], false));
        // k3 s2: one tap here, two there.
        assert!(facts("stylegan2_up").uneven());
    }
}
