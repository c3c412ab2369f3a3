//! `tconv serve`: one kernel as a program that answers the live protocol, as other libraries do. `tconv compare` asks other
//! builds of this program in this way.

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use tconv::machine::scratch::filled_vec;
use tconv::{Bytes64, Descriptor, Dtype, Element, Geometry, Plan, Planner, Registry, Target, Weights};

use crate::cli::{Context, Failure, Outcome};
use crate::data;
use crate::machine::Toolchain;
use crate::measure::{Block, Crew, slowed};
use crate::peers::protocol::{Files, Hello, PROTOCOL, Ran, Reply, Request};
use crate::selection;

/// What to serve.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Reads a request from every line of standard input, and answers with a line on standard output."
)]
pub struct Args {
    /// The kernel to answer with (default: what the planner chooses)
    #[arg(short, long, value_name = "NAME")]
    kernel: Option<String>,
}

/// Runs the command: until `bye`, or until nobody asks any more.
pub fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    let mut registry = context.registry.clone();
    if let Some(name) = &args.kernel {
        registry = slowed::with_slowed(registry, name);
        if registry.get(name).is_none() {
            let names: Vec<&str> = context.registry.iter().map(|k| k.name()).collect();
            return Err(selection::unknown("kernel", name, &names));
        }
    }
    let mut server = Server { registry, kernel: args.kernel.clone(), crew: Crew::new(1)?, ready: None };
    let mut answers = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let reply = match serde_json::from_str(&line?) {
            Ok(Request::Bye) => break,
            Ok(request) => server.answer(request).unwrap_or_else(|Failure(failed)| Reply::Failed { failed }),
            Err(error) => Reply::Failed { failed: format!("not a request: {error}") },
        };
        let line = serde_json::to_string(&reply)? + "\n";
        answers.write_all(line.as_bytes()).and_then(|()| answers.flush())?;
    }
    Ok(Outcome::Good)
}

struct Server {
    registry: Registry,
    kernel: Option<String>,
    crew: Crew,
    /// What `prepare` made.
    ready: Option<Box<dyn Ready>>,
}

impl Server {
    fn answer(&mut self, request: Request) -> Result<Reply, Failure> {
        match request {
            Request::Hello { threads, .. } => {
                self.crew = Crew::new(threads)?;
                let version = Toolchain::of_this_build().commit;
                Ok(Reply::Hello(Hello { protocol: PROTOCOL, name: "tconv".into(), version, threads }))
            }
            Request::Prepare(problem) => {
                self.ready = None;
                let descriptor: Descriptor = problem.descriptor.parse()?;
                match descriptor.dtype {
                    Dtype::F32 => self.prepare::<f32>(&descriptor, &problem.files),
                    Dtype::F64 => self.prepare::<f64>(&descriptor, &problem.files),
                }
            }
            Request::Run { k } => Ok(Reply::Ran(Ran::from(self.ready()?.run(k)))),
            Request::Fetch { output } => {
                self.ready()?.fetch(&output)?;
                Ok(Reply::Fetched)
            }
            Request::Release => {
                self.ready = None;
                Ok(Reply::Released)
            }
            Request::Bye => Ok(Reply::Bye),
        }
    }

    fn ready(&mut self) -> Result<&mut (dyn Ready + 'static), Failure> {
        self.ready.as_deref_mut().ok_or_else(|| Failure("nothing is prepared".into()))
    }

    fn prepare<T: Element>(&mut self, descriptor: &Descriptor, files: &Files) -> Result<Reply, Failure> {
        let (problem, epilogue) = (&descriptor.problem, descriptor.epilogue);
        let geometry = Geometry::new(problem)?;
        let input = read::<T>(&files.input, geometry.input_len())?;
        let weights = read::<T>(&files.weights, geometry.weight_len())?;
        let bias = files.bias.as_ref().map(|file| read::<T>(file, problem.out_channels())).transpose()?;
        let mut given = Weights::new(&weights);
        if let Some(bias) = &bias {
            given = given.with_bias(bias);
        }
        let target = Target::detect()?.with_threads(self.crew.threads());
        let mut planner = Planner::new().with_registry(self.registry.clone()).on(target);
        if let Some(name) = &self.kernel {
            planner = planner.only(name, None);
        }
        let start = Instant::now();
        let plan = match self.crew.install(|| planner.plan::<T>(problem, given, epilogue)) {
            Ok(plan) => plan,
            Err(tconv::Error::NoKernel { reasons }) => return Ok(Reply::Declined { declined: reasons }),
            Err(error) => return Err(error.into()),
        };
        let plan_ns = start.elapsed().as_nanos() as f64;
        let implementation = Some(format!("{} {}", plan.name(), plan.variant().name()));
        let (layout, channels) = (problem.layout(), problem.in_channels());
        let output = filled_vec("output", geometry.output_len(), T::from_f64(f64::NAN))?;
        let mut scratch = plan.scratch().allocate()?;
        scratch.iter_mut().for_each(|line| *line = bytemuck::cast([f32::NAN; 16]));
        self.ready = Some(Box::new(Tensors {
            crew: Crew::new(self.crew.threads())?,
            input: data::to_layout(input, layout, channels, geometry.input_plane()),
            plan,
            output,
            scratch,
        }));
        Ok(Reply::Prepared { plan_ns, implementation })
    }
}

/// A prepared problem, of either type.
trait Ready {
    fn run(&mut self, k: u32) -> Block;
    /// Writes the output, channels first.
    fn fetch(&self, path: &Path) -> Result<(), Failure>;
}

struct Tensors<T: Element> {
    crew: Crew,
    plan: Plan<T>,
    input: Vec<T>,
    output: Vec<T>,
    scratch: Vec<Bytes64>,
}

impl<T: Element> Ready for Tensors<T> {
    fn run(&mut self, k: u32) -> Block {
        let Self { crew, plan, input, output, scratch } = self;
        crew.time(k, || plan.execute_with(input, output, scratch).expect("lengths come from the plan"))
    }

    fn fetch(&self, path: &Path) -> Result<(), Failure> {
        let (geometry, problem) = (self.plan.geometry(), self.plan.geometry().problem());
        let (layout, channels) = (problem.layout(), problem.out_channels());
        let output = data::from_layout(self.output.clone(), layout, channels, geometry.output_plane());
        std::fs::write(path, bytemuck::cast_slice::<T, u8>(&output))
            .map_err(|e| Failure(format!("cannot write {}: {e}", path.display())))
    }
}

/// The numbers of a file, of which there must be so many.
fn read<T: Element>(path: &Path, len: usize) -> Result<Vec<T>, Failure> {
    let bytes = std::fs::read(path).map_err(|e| Failure(format!("cannot read {}: {e}", path.display())))?;
    let expected = len * size_of::<T>();
    if bytes.len() != expected {
        let (name, got) = (path.display(), bytes.len());
        return Err(Failure(format!("{name} has {got} bytes: expected {expected}")));
    }
    let mut values = filled_vec("tensor of a file", len, T::default())?;
    bytemuck::cast_slice_mut::<T, u8>(&mut values).copy_from_slice(&bytes);
    Ok(values)
}
