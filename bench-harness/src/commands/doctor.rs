//! `tconv doctor`: what this machine is, what may disturb measurements on it, and what they can tell now.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tconv::{Descriptor, Isa, Planner, Target};

use super::measure::results;
use crate::cli::{Context, Failure, Outcome};
use crate::format::{bytes, percent, rate};
use crate::machine::{CpuTime, Environment, Fingerprint, Sheet, Toolchain};
use crate::measure::duel::Duel;
use crate::measure::{Crew, Sitting, run};
use crate::output::{self, OutputArgs};
use crate::peers::{self, State};
use crate::statistics::{self, Interval};

/// What to look at.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Measure a kernel against itself for a few seconds: what is the smallest change that can be told now?
    #[arg(long)]
    noise: bool,
    /// Measure the roofs of every instruction set and write them to results/machines
    #[arg(long)]
    calibrate: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// How long other work is watched.
const WATCH: Duration = Duration::from_millis(500);
/// For each layer that shows the noise.
const SITTING: Duration = Duration::from_secs(3);
/// Layers of the noise, with what limits them.
const LAYERS: [(&str, &str); 2] = [
    ("in the caches", "f32:nchw:1x64x16x16:o64:k4x4:s2x2:p1x1"),
    ("beyond the caches", "f32:nchw:1x32x256x256:o16:k2x2:s2x2"),
];

/// All that is found.
#[derive(Debug, Serialize)]
struct Findings {
    fingerprint: String,
    machine: Fingerprint,
    isa_used: &'static str,
    /// That this process may use at the same time.
    usable_threads: usize,
    environment: Environment,
    /// Part of the processors' time that others used while this program waited.
    busy_share: Option<f64>,
    /// Part of it that a hypervisor gave to others.
    steal_share: Option<f64>,
    toolchain: Toolchain,
    peers: Vec<PeerFound>,
    noise: Vec<Noise>,
    roofs: Option<Sheet>,
}

#[derive(Debug, Serialize)]
struct PeerFound {
    peer: String,
    state: &'static str,
    detail: String,
}

/// One kernel against itself.
#[derive(Debug, Serialize)]
struct Noise {
    layer: &'static str,
    descriptor: &'static str,
    seconds: f64,
    clean_share: f64,
    /// Nothing where the machine left too few rounds for a ratio.
    #[serde(flatten)]
    told: Option<Told>,
}

/// What the rounds of one kernel against itself say.
#[derive(Debug, Serialize)]
struct Told {
    /// Root mean square distance from 1 of the ratio to itself.
    noise_floor: f64,
    /// Of the ratio's interval.
    half_width: f64,
    /// A difference of this share would be told in this time: the band of no difference and half the interval.
    resolvable: f64,
}

impl Told {
    fn new(ratio: Interval, mut self_ratios: Vec<f64>) -> Self {
        self_ratios.push(ratio.estimate);
        let noise_floor = statistics::noise_floor(&self_ratios);
        let half_width = ratio.half_width();
        Self { noise_floor, half_width, resolvable: statistics::band(noise_floor) + half_width }
    }
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    let mut lines = args.output.open()?;
    let environment = Environment::capture();
    let (busy_share, steal_share) = watch().unzip();
    let machine = Fingerprint::capture();
    let usable_threads = usable(&environment, machine.cores);
    let noise = if args.noise { noise(context)? } else { Vec::new() };
    let ratios: Vec<f64> = noise.iter().flat_map(|n| &n.told).map(|told| 1.0 + told.noise_floor).collect();
    let floor = (!ratios.is_empty()).then(|| statistics::noise_floor(&ratios));
    let roofs = args.calibrate.then(|| Sheet::measure(usable_threads, floor)).transpose()?;
    let findings = Findings {
        fingerprint: machine.to_string(),
        machine,
        isa_used: Isa::detect()?.name(),
        usable_threads,
        environment,
        busy_share,
        steal_share,
        toolchain: Toolchain::of_this_build(),
        peers: found_peers()?,
        noise,
        roofs,
    };
    lines.write(&findings)?;
    let written = findings.roofs.as_ref().map(|sheet| sheet.write(&results("machines"))).transpose()?;
    if !args.output.json {
        output::print(&text(&findings, written.as_deref()))?;
    }
    Ok(Outcome::Good)
}

/// Shares of the processors' time in which something ran, and that a hypervisor took, while this program sleeps.
fn watch() -> Option<(f64, f64)> {
    let then = CpuTime::now()?;
    std::thread::sleep(WATCH);
    let (steal, busy) = CpuTime::now()?.shares_since(then);
    Some((busy, steal))
}

/// Processors that this process may use and has the time for.
fn usable(environment: &Environment, cores: usize) -> usize {
    let allowed = environment.allowed_cpus.unwrap_or(cores).max(1);
    let quota = environment.quota_cpus.map_or(allowed, |quota| quota.ceil() as usize);
    allowed.min(quota.max(1)).min(Target::MOST_THREADS)
}

fn found_peers() -> Result<Vec<PeerFound>, Failure> {
    let folder = peers::list::folder();
    let found = |peer: peers::Peer| -> Result<PeerFound, Failure> {
        let (state, detail) = match peer.state(&folder)? {
            State::Installed { version, .. } => ("installed", version),
            State::Missing => ("not installed", format!("scripts/setup-peers.sh {}", peer.name)),
            State::Refused(why) => ("not to be had", why),
        };
        Ok(PeerFound { peer: peer.name, state, detail })
    };
    peers::list::all().into_iter().map(found).collect()
}

/// The planner's choice against itself.
fn noise(context: &Context) -> Result<Vec<Noise>, Failure> {
    run::listen_for_interruption();
    let target = Target::detect()?.with_threads(1);
    let planner = Planner::new().with_registry(context.registry.clone()).on(target);
    let crew = Crew::new(1)?;
    let mut all = Vec::new();
    for (layer, text) in LAYERS {
        let descriptor: Descriptor = text.parse()?;
        let explained = planner.explain(&descriptor.problem, descriptor.dtype, descriptor.epilogue, None)?;
        let chosen = explained.iter().find(|verdict| verdict.answer.is_ok());
        let name = chosen.ok_or_else(|| Failure(format!("no kernel takes {text}")))?.kernel.name();
        let duel = Duel {
            descriptor,
            planner: &planner,
            crew: &crew,
            sitting: Sitting { budget: SITTING, precision: 0.0, seed: 1 },
            interrupted: &run::interrupted,
        };
        let figures =
            duel.kernels::<f32>([name, name])?.map_err(|problem| Failure(format!("{problem:?}")))?;
        all.push(Noise {
            layer,
            descriptor: text,
            seconds: SITTING.as_secs_f64(),
            clean_share: figures.clean_share.iter().sum::<f64>() / 2.0,
            told: figures.ratio.map(|ratio| Told::new(ratio.interval, figures.self_ratios)),
        });
    }
    Ok(all)
}

fn text(f: &Findings, written: Option<&Path>) -> String {
    let not_visible = || "not visible".to_owned();
    let shown = |value: Option<String>| value.unwrap_or_else(not_visible);
    let e = &f.environment;
    let cpus = |n: usize| if n == 1 { "1 processor".to_owned() } else { format!("{n} processors") };
    let caches = f.machine.caches.iter().enumerate().map(|(i, &b)| format!("L{} {}", i + 1, bytes(b as f64)));
    let caches: Vec<String> = caches.collect();
    let mut rows: Vec<[String; 2]> = Vec::new();
    let mut row = |name: &str, value: String| rows.push([name.to_owned(), value]);
    row("machine", f.fingerprint.clone());
    row("cpu", shown(e.cpu.clone()));
    row("system", e.os.clone());
    row("instruction sets", format!("{}; used: {}", f.machine.isas.join(" "), f.isa_used));
    row("caches", if caches.is_empty() { not_visible() } else { caches.join(", ") });
    row(
        "processors",
        format!(
            "{} online, {} allowed, quota {}",
            f.machine.cores,
            e.allowed_cpus.map_or_else(not_visible, |n| n.to_string()),
            e.quota_cpus.map_or("none".into(), |quota| format!("{quota:.1}"))
        ),
    );
    row("usable", cpus(f.usable_threads));
    row("governor", shown(e.governor.clone()));
    row("load", shown(e.load.map(|[one, five, fifteen]| format!("{one:.2} {five:.2} {fifteen:.2}"))));
    row(
        "others at work",
        shown(f.busy_share.map(|share| format!("{} of the processors' time", percent(share)))),
    );
    row("steal", shown(f.steal_share.map(|share| format!("{} of the processors' time", percent(share)))));
    let t = &f.toolchain;
    row("built from", format!("tconv {} {}", t.tconv, t.commit));
    row("built by", format!("{}, -O{} {}", t.rustc, t.opt_level, t.flags).trim_end().to_owned());
    for peer in &f.peers {
        row(&format!("peer {}", peer.peer), format!("{}: {}", peer.state, peer.detail));
    }
    for n in &f.noise {
        let clean = percent(n.clean_share);
        let told = match &n.told {
            Some(told) => format!(
                "changes from {:.1} % on are told in {:.0} s, by extrapolation {:.1} % in 30 s (noise floor {:.2} %, clean blocks {clean})",
                100.0 * told.resolvable,
                n.seconds,
                100.0 * (statistics::band(told.noise_floor) + told.half_width * (n.seconds / 30.0).sqrt()),
                100.0 * told.noise_floor,
            ),
            None => {
                format!("nothing can be told in {:.0} s: too few rounds (clean blocks {clean})", n.seconds)
            }
        };
        row(&format!("noise {}", n.layer), told);
    }
    if let Some(sheet) = &f.roofs {
        for p in &sheet.roofs.peaks {
            let name = format!("peak {} {} {}t", p.isa, p.dtype, p.threads);
            row(&name, format!("{} GFLOP/s of multiply-adds", rate(p.gflops)));
        }
        for b in &sheet.roofs.read {
            row(&format!("read {} {}t", b.level, b.threads), format!("{} GB/s", rate(b.gbytes_per_s)));
        }
    }
    if let Some(path) = written {
        row("written", path.display().to_string());
    }
    let mut table = output::table(&["", ""], 2);
    table.add_rows(rows);
    let mut text = output::render(&table).trim_start_matches(['\n', ' ']).to_owned();
    for warning in warnings(f) {
        text += &format!("\n! {warning}");
    }
    text + if warnings(f).is_empty() { "" } else { "\n" }
}

/// What a reader should know before trusting a measurement made now.
fn warnings(f: &Findings) -> Vec<String> {
    let mut all = Vec::new();
    if f.busy_share.is_some_and(|share| share > 0.1) {
        all.push("other programs are at work: intervals are wider, and small changes stay unresolved");
    }
    if f.steal_share.is_some_and(|share| share > 0.01) {
        all.push("the hypervisor gives time to others: no program inside can see or avoid that");
    }
    if f.environment.quota_cpus.is_some_and(|quota| quota < f.environment.allowed_cpus.unwrap_or(1) as f64) {
        all.push("a control group limits the time: runs on all processors are throttled");
    }
    if f.environment.governor.as_deref().is_some_and(|governor| governor != "performance") {
        all.push("the frequency follows the load: the first seconds are slower");
    }
    if f.toolchain.opt_level != "3" {
        all.push("this program was built without full optimisation: its figures mean little");
    }
    if f.isa_used != f.machine.isas.last().map_or("", String::as_str) {
        all.push("a narrower instruction set than this CPU has is used: TCONV_ISA is set");
    }
    all.into_iter().map(str::to_owned).collect()
}
