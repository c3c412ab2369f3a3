//! The messages: one JSON object on each line, a request on the peer's standard input, its reply on standard output.
//!
//! ```text
//! harness                          peer
//! {"do":"hello",…}            ──▶
//!                             ◀──  {"reply":"hello",…}
//! {"do":"prepare",…}          ──▶  makes its operator, packs weights, allocates, runs nothing
//!                             ◀──  {"reply":"prepared",…}   or {"reply":"declined",…}
//! {"do":"run","k":5}          ──▶  executes five times, back to back
//!                             ◀──  {"reply":"ran",…}
//! {"do":"fetch",…}            ──▶  writes the output of the last execution to a file
//!                             ◀──  {"reply":"fetched"}
//! {"do":"release"}            ──▶  frees what `prepare` made
//!                             ◀──  {"reply":"released"}
//! {"do":"bye"}                ──▶  ends
//! ```
//!
//! Tensor files hold bare numbers, little-endian, channels first: `[N, C, spatial…]`, weights `[Cin, Cout/groups, kernel…]`.
//! A peer that works in another order converts while it prepares and fetches: only execution is timed. Whatever goes wrong
//! is answered with `failed`; a peer then goes on with the next request.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tconv::{Activation, Descriptor, Geometry};

use crate::measure::Block;

/// Of these messages; both sides refuse another one.
pub const PROTOCOL: u32 = 1;

/// What the harness says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request {
    /// The first line.
    Hello {
        /// [`PROTOCOL`].
        protocol: u32,
        /// With how many threads to work: also in `OMP_NUM_THREADS` and its like when the peer started.
        threads: usize,
    },
    /// One problem to work on until `release`.
    Prepare(Box<Prepare>),
    /// Executes it, and reports how that went.
    Run {
        /// How many times.
        k: u32,
    },
    /// Asks for the output.
    Fetch {
        /// Where to write it.
        output: PathBuf,
    },
    /// The problem is done.
    Release,
    /// The session is done.
    Bye,
}

/// What a peer says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// To `hello`.
    Hello(Hello),
    /// To `prepare`.
    Prepared {
        /// Time to make the operator and pack its weights, without reading the files.
        plan_ns: f64,
        /// What the peer says of its own choice, such as the implementation that it took.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        implementation: Option<String>,
    },
    /// To `prepare`: the peer has no operator for this.
    Declined {
        /// Why.
        declined: String,
    },
    /// To `run`.
    Ran(Ran),
    /// To `fetch`.
    Fetched,
    /// To `release`.
    Released,
    /// To `bye`, if it answers at all.
    Bye,
    /// To anything: it could not be done.
    Failed {
        /// Why.
        failed: String,
    },
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// What the library calls itself.
    pub name: String,
    /// What the library says its version is.
    pub version: String,
    /// The threads that it works with.
    pub threads: usize,
}

/// How `k` executions went: a [`Block`] of the peer's own clocks and counters, of all its threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// Executions.
    pub runs: u32,
    /// Wall time of all of them.
    pub wall_ns: u64,
    /// CPU time of the process meanwhile.
    pub cpu_ns: u64,
    /// Involuntary context switches of the process meanwhile.
    pub switches: u64,
    /// Minor page faults of the process meanwhile.
    pub faults: u64,
}

impl From<Ran> for Block {
    fn from(ran: Ran) -> Self {
        Self {
            runs: ran.runs,
            wall: Duration::from_nanos(ran.wall_ns),
            cpu: Duration::from_nanos(ran.cpu_ns),
            switches: ran.switches,
            faults: ran.faults,
            ..Self::default()
        }
    }
}

impl From<Block> for Ran {
    fn from(block: Block) -> Self {
        Self {
            runs: block.runs,
            wall_ns: block.wall.as_nanos() as u64,
            cpu_ns: block.cpu.as_nanos() as u64,
            switches: block.switches,
            faults: block.faults,
        }
    }
}

/// A problem, stated twice: in one line, and in fields for those who do not want to parse it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prepare {
    /// All of it, as `tconv describe` takes it.
    pub descriptor: String,
    /// `f32` or `f64`: of all tensors and files.
    pub dtype: String,
    /// Images.
    pub batch: usize,
    /// Of the input.
    pub in_channels: usize,
    /// Of the output.
    pub out_channels: usize,
    /// Of channels.
    pub groups: usize,
    /// Spatial fields: a value for each axis, outermost first.
    pub input: Vec<usize>,
    /// Kernel size.
    pub kernel: Vec<usize>,
    /// Stride.
    pub stride: Vec<usize>,
    /// Outputs cropped at the beginning.
    pub padding_begin: Vec<usize>,
    /// Outputs cropped at the end.
    pub padding_end: Vec<usize>,
    /// Outputs added at the end.
    pub output_padding: Vec<usize>,
    /// 1 is dense.
    pub dilation: Vec<usize>,
    /// Output size that follows from the others.
    pub output: Vec<usize>,
    /// Whether a bias is added.
    pub bias: bool,
    /// `identity`, or an activation of the descriptor's grammar.
    pub activation: String,
    /// Where the tensors are.
    pub files: Files,
}

/// Tensors by file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// `[N, Cin, spatial…]`.
    pub input: PathBuf,
    /// `[Cin, Cout/groups, kernel…]`.
    pub weights: PathBuf,
    /// `[Cout]`.
    pub bias: Option<PathBuf>,
}

impl Prepare {
    /// States `descriptor`, whose geometry is `geometry`, with these files.
    pub fn new(descriptor: &Descriptor, geometry: &Geometry, files: Files) -> Self {
        let p = &descriptor.problem;
        let each = |of: &dyn Fn(&tconv::Axis) -> usize| p.spatial().iter().map(of).collect::<Vec<_>>();
        let activation = descriptor.epilogue.activation;
        let text = descriptor.to_string();
        Self {
            dtype: descriptor.dtype.name().into(),
            batch: p.batch(),
            in_channels: p.in_channels(),
            out_channels: p.out_channels(),
            groups: p.groups(),
            input: each(&|a| a.input),
            kernel: each(&|a| a.kernel),
            stride: each(&|a| a.stride),
            padding_begin: each(&|a| a.padding.0),
            padding_end: each(&|a| a.padding.1),
            output_padding: each(&|a| a.output_padding),
            dilation: each(&|a| a.dilation),
            output: geometry.output()[3 - p.rank()..].to_vec(),
            bias: descriptor.epilogue.bias,
            activation: match activation {
                Activation::Identity => "identity".into(),
                // An activation is the last field of a descriptor.
                _ => text.rsplit(':').next().unwrap_or_default().into(),
            },
            descriptor: text,
            files,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepare(text: &str) -> Prepare {
        let descriptor: Descriptor = text.parse().unwrap();
        let geometry = Geometry::new(&descriptor.problem).unwrap();
        let files = Files { input: "x".into(), weights: "w".into(), bias: None };
        Prepare::new(&descriptor, &geometry, files)
    }

    #[test]
    fn messages_are_one_line_and_read_back() {
        let hello = Hello { protocol: PROTOCOL, name: "a".into(), version: "1".into(), threads: 2 };
        let ran = Ran { runs: 2, wall_ns: 10, cpu_ns: 9, switches: 1, faults: 3 };
        for reply in [
            Reply::Hello(hello),
            Reply::Prepared { plan_ns: 1.5, implementation: None },
            Reply::Declined { declined: "groups".into() },
            Reply::Ran(ran),
            Reply::Fetched,
            Reply::Released,
            Reply::Bye,
            Reply::Failed { failed: "no\nmemory".into() },
        ] {
            let line = serde_json::to_string(&reply).unwrap();
            assert!(!line.contains('\n'), "{line}");
            assert_eq!(serde_json::from_str::<Reply>(&line).unwrap(), reply, "{line}");
        }
        for request in [
            Request::Hello { protocol: PROTOCOL, threads: 1 },
            Request::Prepare(Box::new(prepare("f32:nchw:1x2x3x3:o2:k2x2"))),
            Request::Run { k: 7 },
            Request::Fetch { output: "y".into() },
            Request::Release,
            Request::Bye,
        ] {
            let line = serde_json::to_string(&request).unwrap();
            assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request, "{line}");
        }
        assert_eq!(serde_json::to_string(&Request::Run { k: 3 }).unwrap(), r#"{"do":"run","k":3}"#);
        assert_eq!(Ran::from(Block::from(ran)), ran);
    }

    #[test]
    fn a_problem_is_stated_in_fields() {
        let p = prepare("f64:nhwc:2x4x5x6:o6:k3x4:s2x1:p1+0x1:op1x0:d1x2:g2:bias:leaky=0.1");
        assert_eq!((p.batch, p.in_channels, p.out_channels, p.groups), (2, 4, 6, 2));
        assert_eq!((&p.input[..], &p.kernel[..], &p.stride[..]), (&[5, 6][..], &[3, 4][..], &[2, 1][..]));
        assert_eq!((&p.padding_begin[..], &p.padding_end[..]), (&[1, 1][..], &[0, 1][..]));
        assert_eq!((&p.output[..], p.bias, p.activation.as_str()), (&[11, 10][..], true, "leaky=0.1"));
        assert_eq!(prepare("f32:nchw:1x2x9:o2:k2").activation, "identity");
    }
}
