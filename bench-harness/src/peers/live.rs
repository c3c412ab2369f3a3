//! A started peer: asked in turn with our kernels, started again where it fell over, given up where it does nothing else.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tconv::{Descriptor, Element, Geometry};

use super::process::{Launch, Process, Trouble};
use super::protocol::{Files, Hello, PROTOCOL, Prepare, Reply, Request};
use crate::data;
use crate::measure::{Block, Contender};
use crate::record::PeerRecord;

/// A peer that may be started: one of its modes, in a process of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// `peer/mode`, as it stands in tables.
    pub name: String,
    /// What the mode is called.
    pub mode: String,
    /// The order of axes in which it computes: `nchw`, `nhwc`, or its own (`any`).
    pub layout: String,
    /// What was set for it and not for others, for the reader of a table.
    pub settings: Vec<String>,
    /// How it is started.
    pub launch: Launch,
    /// How long it is waited for.
    pub patience: Patience,
}

/// How long a peer may take before it counts as hanging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// To start: large libraries are loaded from disk.
    pub start: Duration,
    /// To prepare, which may compile code, and to write an output.
    pub prepare: Duration,
    /// For the first execution, and beside `Patience::SLOWDOWN` times the expected time of later ones.
    pub run: Duration,
}

impl Patience {
    /// A machine under load is no hanging peer.
    const SLOWDOWN: u32 = 50;
}

impl Default for Patience {
    fn default() -> Self {
        let [start, prepare, run] = [120, 90, 30].map(Duration::from_secs);
        Self { start, prepare, run }
    }
}

/// After so many failures without a figure in between, a peer is not started again.
const LIVES: u32 = 3;

/// A candidate with its process.
#[derive(Debug)]
pub struct Live {
    candidate: Candidate,
    threads: usize,
    folder: PathBuf,
    process: Option<Process>,
    hello: Option<Hello>,
    failures: u32,
    /// What went wrong with the problem that is prepared now.
    trouble: Option<Trouble>,
    /// The longest execution so far of the problem that is prepared now.
    slowest: Duration,
}

/// What a peer made of a problem.
#[derive(Debug, Clone, PartialEq)]
pub enum Prepared {
    /// It is ready.
    Ready {
        /// Time to make the operator and pack the weights.
        plan_ns: f64,
        /// What the peer says of its own choice.
        implementation: Option<String>,
    },
    /// It has no operator for this.
    Declined(String),
}

impl Live {
    /// Not started before the first problem. `folder` is for files of this run.
    pub fn new(candidate: Candidate, threads: usize, folder: &Path) -> Self {
        Self {
            candidate,
            threads,
            folder: folder.to_owned(),
            process: None,
            hello: None,
            failures: 0,
            trouble: None,
            slowest: Duration::ZERO,
        }
    }

    /// What it was made of.
    pub fn candidate(&self) -> &Candidate {
        &self.candidate
    }

    /// What the records say of it.
    pub fn record(&self, implementation: Option<String>) -> PeerRecord {
        PeerRecord {
            mode: self.candidate.mode.clone(),
            layout: self.candidate.layout.clone(),
            version: self.hello.as_ref().map(|h| h.version.clone()),
            settings: self.candidate.settings.clone(),
            implementation,
        }
    }

    /// Prepares a problem; starts the program if it does not run.
    pub fn prepare(&mut self, problem: &Prepare) -> Result<Prepared, Trouble> {
        self.trouble = None;
        self.slowest = Duration::ZERO;
        if self.failures >= LIVES {
            return Err(Trouble::Start(format!("it was given up after {LIVES} failures")));
        }
        self.start()?;
        let patience = self.candidate.patience.prepare;
        match self.ask(&Request::Prepare(Box::new(problem.clone())), patience)? {
            Reply::Prepared { plan_ns, implementation } => Ok(Prepared::Ready { plan_ns, implementation }),
            Reply::Declined { declined } => Ok(Prepared::Declined(declined)),
            other => Err(self.nonsense("prepare", &other)),
        }
    }

    /// Executes `k` times.
    pub fn execute(&mut self, k: u32) -> Result<Block, Trouble> {
        let patience = self.candidate.patience.run + self.slowest * k.saturating_mul(Patience::SLOWDOWN);
        match self.ask(&Request::Run { k }, patience)? {
            Reply::Ran(ran) if ran.runs == k => {
                let block = Block::from(ran);
                self.within_its_threads(&block)?;
                self.slowest = self.slowest.max(block.wall / k.max(1));
                Ok(block)
            }
            other => Err(self.nonsense("run", &other)),
        }
    }

    /// What it says of its threads may be wrong: a runtime below it may not have heard.
    fn within_its_threads(&mut self, block: &Block) -> Result<(), Trouble> {
        let own = block.wall * self.threads as u32;
        // Half as much again, and a millisecond: threads that only look after the others take some time, too.
        if block.cpu <= own + own / 2 + Duration::from_millis(1) {
            return Ok(());
        }
        let (threads, cpu, wall) = (self.threads, block.cpu, block.wall);
        Err(self.fell(Trouble::Failed(format!(
            "it took {cpu:?} of processor time in {wall:?}: more than {threads} threads can"
        ))))
    }

    /// The output of the last execution, in the layout of `geometry`.
    pub fn fetch<T: Element>(&mut self, geometry: &Geometry) -> Result<Vec<T>, Trouble> {
        let path = self.folder.join("output");
        let request = Request::Fetch { output: path.clone() };
        match self.ask(&request, self.candidate.patience.prepare)? {
            Reply::Fetched => {}
            other => return Err(self.nonsense("fetch", &other)),
        }
        let bytes =
            std::fs::read(&path).map_err(|e| Trouble::Failed(format!("its output is missing: {e}")))?;
        let _ = std::fs::remove_file(&path);
        let expected = geometry.output_len() * size_of::<T>();
        if bytes.len() != expected {
            let got = bytes.len();
            return Err(Trouble::Failed(format!("its output has {got} bytes: expected {expected}")));
        }
        let problem = geometry.problem();
        let mut values = vec![T::default(); geometry.output_len()];
        bytemuck::cast_slice_mut::<T, u8>(&mut values).copy_from_slice(&bytes);
        Ok(data::to_layout(values, problem.layout(), problem.out_channels(), geometry.output_plane()))
    }

    /// Frees the problem; a peer that fails at it is started anew next time. What had figures is forgiven.
    pub fn release(&mut self) {
        if self.process.is_none() || self.trouble.is_some() {
            return;
        }
        match self.ask(&Request::Release, self.candidate.patience.prepare) {
            Ok(Reply::Released) => self.failures = 0,
            Ok(other) => drop(self.nonsense("release", &other)),
            Err(_) => {}
        }
    }

    /// Starts the program, if it does not run.
    pub fn start(&mut self) -> Result<(), Trouble> {
        if self.process.is_some() {
            return Ok(());
        }
        let errors = self.errors().map_err(|e| Trouble::Start(e.to_string()))?;
        let mut launch = self.candidate.launch.clone();
        // The same for all, in the words of each threading library.
        for name in [
            "OMP_NUM_THREADS",
            "OMP_THREAD_LIMIT",
            "MKL_NUM_THREADS",
            "DPCPP_CPU_NUM_CUS",
            "RAYON_NUM_THREADS",
            "TF_NUM_INTRAOP_THREADS",
        ] {
            launch.env.push((name.into(), self.threads.to_string().into()));
        }
        match Process::start(&launch, errors) {
            Ok(process) => self.process = Some(process),
            Err(trouble) => return Err(self.fell(trouble)),
        }
        let hello = Request::Hello { protocol: PROTOCOL, threads: self.threads };
        match self.ask(&hello, self.candidate.patience.start)? {
            Reply::Hello(hello) if hello.protocol != PROTOCOL => {
                let other = hello.protocol;
                Err(self.fell(Trouble::Nonsense(format!("it speaks version {other}: expected {PROTOCOL}"))))
            }
            Reply::Hello(hello) if hello.threads != self.threads => {
                let (got, asked) = (hello.threads, self.threads);
                Err(self
                    .fell(Trouble::Failed(format!("it works with {got} threads: {asked} were asked for"))))
            }
            Reply::Hello(hello) => {
                self.hello = Some(hello);
                Ok(())
            }
            other => Err(self.nonsense("hello", &other)),
        }
    }

    /// A file for standard error, read and written.
    fn errors(&self) -> std::io::Result<File> {
        let name = format!("{}.stderr", self.candidate.name.replace('/', "-"));
        let path = self.folder.join(name);
        File::options().create(true).append(true).read(true).open(path)
    }

    fn ask(&mut self, request: &Request, patience: Duration) -> Result<Reply, Trouble> {
        let Some(process) = &mut self.process else {
            return Err(self.trouble.clone().unwrap_or_else(|| Trouble::Start("it does not run".into())));
        };
        process.ask(request, patience).map_err(|trouble| self.fell(trouble))
    }

    /// Ends the program and remembers why: whatever state it is in, nobody wants to measure it.
    fn fell(&mut self, trouble: Trouble) -> Trouble {
        self.process = None;
        self.failures += 1;
        self.trouble = Some(trouble.clone());
        trouble
    }

    fn nonsense(&mut self, asked: &str, reply: &Reply) -> Trouble {
        let reply = serde_json::to_string(reply).unwrap_or_default();
        self.fell(Trouble::Nonsense(format!("'{asked}' was answered with {reply}")))
    }
}

impl Contender for Live {
    fn name(&self) -> &str {
        &self.candidate.name
    }

    /// After a failure the block is dirty and takes no time; [`Contender::failure`] tells.
    fn run(&mut self, k: u32) -> Block {
        self.execute(k).unwrap_or(Block { runs: k, switches: 1, ..Block::default() })
    }

    fn failure(&self) -> Option<String> {
        self.trouble.as_ref().map(Trouble::to_string)
    }

    fn shares_buffers(&self) -> bool {
        false
    }
}

/// Writes the tensors of one workload for all peers, channels first.
pub fn write_tensors<T: Element>(
    folder: &Path,
    descriptor: &Descriptor,
    geometry: &Geometry,
    (input, weights, bias): (&[T], &[T], Option<&[T]>),
) -> std::io::Result<Prepare> {
    let problem = geometry.problem();
    let write = |name: &str, values: &[T]| {
        let path = folder.join(name);
        std::fs::write(&path, bytemuck::cast_slice(values)).map(|()| path)
    };
    let channels = problem.in_channels();
    let input = data::from_layout(input.to_vec(), problem.layout(), channels, geometry.input_plane());
    let files = Files {
        input: write("input", &input)?,
        weights: write("weights", weights)?,
        bias: bias.map(|bias| write("bias", bias)).transpose()?,
    };
    Ok(Prepare::new(descriptor, geometry, files))
}
