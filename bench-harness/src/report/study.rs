//! Recorded runs arranged for reading: settings, their layers, and what every implementation did on each.

use rayon::prelude::*;
use tconv::{Descriptor, Geometry};

use crate::cli::Failure;
use crate::format::plural;
use crate::record::{Figures, Measurement, Outcome};
use crate::runs::RecordedRun;
use crate::statistics::{self, Interval, band};

/// All that a report is about.
#[derive(Debug)]
pub struct Study<'a> {
    /// As they were read.
    pub runs: &'a [RecordedRun],
    /// In the order in which they first appear.
    pub settings: Vec<Setting<'a>>,
    /// Layers that several runs measured in the same setting: the last run counts.
    pub superseded: usize,
}

/// What must be equal for figures to stand in one table.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// Fingerprint of the machine.
    pub machine: String,
    /// Instruction set that our kernels were planned for.
    pub isa: String,
    /// Element type.
    pub dtype: String,
    /// Order of the axes.
    pub layout: String,
    /// Of every plan.
    pub threads: usize,
    /// Cache mode.
    pub cache: String,
}

/// All layers that were measured in one way.
#[derive(Debug)]
pub struct Setting<'a> {
    /// In which way.
    pub key: Key,
    /// In the order of the runs.
    pub layers: Vec<Layer<'a>>,
    /// In the order in which they first appear.
    pub implementations: Vec<&'a str>,
}

/// One layer in one setting: all its measurements took turns in one run.
#[derive(Debug)]
pub struct Layer<'a> {
    /// Name of the workload.
    pub name: &'a str,
    /// The layer itself.
    pub descriptor: Descriptor,
    /// What follows from it.
    pub geometry: Geometry,
    /// Where it was measured.
    pub run: &'a RecordedRun,
    /// One for each implementation that came to its turn.
    pub entries: Vec<&'a Measurement>,
    to_best: Vec<Option<Ratio>>,
    to_best_peer: Option<Ratio>,
}

impl<'a> Study<'a> {
    /// Arranges the runs. A layer that this build cannot read is a failure that names it.
    pub fn new(runs: &'a [RecordedRun]) -> Result<Self, Failure> {
        let mut study = Self { runs, settings: Vec::new(), superseded: 0 };
        for run in runs {
            for measurement in &run.measurements {
                study.add(run, measurement)?;
            }
        }
        let layers: Vec<&mut Layer<'_>> = study.settings.iter_mut().flat_map(|s| &mut s.layers).collect();
        layers.into_par_iter().for_each(Layer::compare);
        Ok(study)
    }

    fn add(&mut self, run: &'a RecordedRun, measurement: &'a Measurement) -> Result<(), Failure> {
        let key = Key {
            machine: run.header.machine.to_string(),
            isa: run.header.roofs.peaks.first().map_or_else(String::new, |p| p.isa.clone()),
            dtype: measurement.dtype.clone(),
            layout: measurement.layout.clone(),
            threads: measurement.threads,
            cache: measurement.cache.clone(),
        };
        let at = self.settings.iter().position(|s| s.key == key).unwrap_or_else(|| {
            self.settings.push(Setting { key, layers: Vec::new(), implementations: Vec::new() });
            self.settings.len() - 1
        });
        let setting = &mut self.settings[at];
        if !setting.implementations.contains(&measurement.kernel.as_str()) {
            setting.implementations.push(&measurement.kernel);
        }
        let known = setting.layers.iter().position(|l| l.name == measurement.workload);
        match known {
            Some(i) if std::ptr::eq(setting.layers[i].run, run) => {
                setting.layers[i].entries.push(measurement);
            }
            _ => {
                let layer = Layer::new(run, measurement)?;
                match known {
                    None => setting.layers.push(layer),
                    Some(i) => {
                        // Ratios hold within one run: figures of two are never mixed.
                        setting.layers[i] = layer;
                        self.superseded += 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether any figure or reason is there.
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty()
    }

    /// The settings that differ from this one in the number of threads alone, in rising order.
    pub fn by_threads(&self, one: &Setting<'_>) -> Vec<&Setting<'a>> {
        let mut same: Vec<_> = self
            .settings
            .iter()
            .filter(|s| Key { threads: one.key.threads, ..s.key.clone() } == one.key)
            .collect();
        same.sort_by_key(|s| s.key.threads);
        same
    }
}

impl<'a> Setting<'a> {
    /// For headings.
    pub fn title(&self) -> String {
        let Key { dtype, layout, threads, cache, .. } = &self.key;
        let cache = cache_words(cache);
        format!("{}, {dtype}, {}, {cache}", layout.to_uppercase(), plural(*threads, "thread"))
    }

    /// For links and markers.
    pub fn slug(&self) -> String {
        let Key { dtype, layout, threads, cache, .. } = &self.key;
        let rest: String = [(dtype.as_str(), "f32"), (cache.as_str(), "warm")]
            .iter()
            .filter(|(value, usual)| value != usual)
            .map(|(value, _)| format!("-{value}"))
            .collect();
        format!("{layout}-{threads}t{rest}")
    }

    /// Measured peak of multiply-adds in GFLOP/s, of the first run.
    pub fn peak(&self) -> f64 {
        self.layers.first().map_or(f64::NAN, |l| l.run.header.roofs.peak(self.key.threads))
    }

    /// Half width around 1 that counts as no difference.
    pub fn band(&self) -> f64 {
        band(self.noise_floor().unwrap_or(0.0))
    }

    /// Of its layers; none where none was measured in rounds.
    pub fn noise_floor(&self) -> Option<f64> {
        let ratios: Vec<f64> = self.self_ratios().collect();
        (!ratios.is_empty()).then(|| statistics::noise_floor(&ratios))
    }

    /// Of each layer, the default kernel relative to itself.
    pub fn self_ratios(&self) -> impl Iterator<Item = f64> {
        let all = self.layers.iter().flat_map(|layer| &layer.entries).filter_map(|m| figures(m));
        all.filter_map(|f| f.ratio_to_itself).map(|ratio| ratio[0])
    }

    /// Whether other libraries took part.
    pub fn has_peers(&self) -> bool {
        self.layers.iter().flat_map(|l| &l.entries).any(|m| m.peer.is_some())
    }

    /// The layer of this name.
    pub fn layer(&self, name: &str) -> Option<&Layer<'a>> {
        self.layers.iter().find(|l| l.name == name)
    }
}

impl<'a> Layer<'a> {
    fn new(run: &'a RecordedRun, measurement: &'a Measurement) -> Result<Self, Failure> {
        let bad = |problem: String| {
            Failure(format!(
                "{}: {} ({}): {problem}",
                run.source, measurement.workload, measurement.descriptor
            ))
        };
        let descriptor: Descriptor = measurement.descriptor.parse().map_err(|e| bad(format!("{e}")))?;
        let geometry = Geometry::new(&descriptor.problem).map_err(|e| bad(e.to_string()))?;
        Ok(Self {
            name: &measurement.workload,
            descriptor,
            geometry,
            run,
            entries: vec![measurement],
            to_best: Vec::new(),
            to_best_peer: None,
        })
    }

    /// Operations by the convention of all tables.
    pub fn flops(&self) -> f64 {
        self.geometry.conventional_flops()
    }

    /// Input, weights and output.
    pub fn bytes(&self) -> f64 {
        self.geometry.compulsory_elements() as f64 * self.descriptor.dtype.size() as f64
    }

    /// What an implementation did.
    pub fn entry(&self, implementation: &str) -> Option<&'a Measurement> {
        self.entries.iter().copied().find(|m| m.kernel == implementation)
    }

    /// Its figures, if it has any.
    pub fn figures(&self, implementation: &str) -> Option<&'a Figures> {
        figures(self.entry(implementation)?)
    }

    /// All that have figures.
    pub fn measured(&self) -> impl Iterator<Item = (&'a Measurement, &'a Figures)> {
        self.entries.iter().filter_map(|&m| Some((m, figures(m)?)))
    }

    /// The one with the highest rate.
    pub fn best(&self) -> Option<(&'a Measurement, &'a Figures)> {
        self.best_of(|_| true)
    }

    /// Likewise, among some.
    pub fn best_of(&self, wanted: impl Fn(&Measurement) -> bool) -> Option<(&'a Measurement, &'a Figures)> {
        self.measured().filter(|(m, _)| wanted(m)).max_by(|a, b| a.1.gflops.total_cmp(&b.1.gflops))
    }

    /// The one that the planner would have chosen.
    pub fn default(&self) -> Option<(&'a Measurement, &'a Figures)> {
        self.measured().find(|(m, _)| m.default)
    }

    /// Its rate relative to the best; none without figures.
    pub fn to_best(&self, measurement: &Measurement) -> Option<&Ratio> {
        let at = self.entries.iter().position(|m| std::ptr::eq(*m, measurement))?;
        self.to_best.get(at)?.as_ref()
    }

    /// Rate of our best kernel relative to the best peer.
    pub fn to_best_peer(&self) -> Option<&Ratio> {
        self.to_best_peer.as_ref()
    }

    /// Everything that needs resampling.
    fn compare(&mut self) {
        let Some((best, _)) = self.best() else { return };
        self.to_best = self.entries.iter().map(|m| self.ratio(m, best)).collect();
        let (kernel, peer) = (self.best_of(|m| m.peer.is_none()), self.best_of(|m| m.peer.is_some()));
        self.to_best_peer = kernel.zip(peer).and_then(|((kernel, _), (peer, _))| self.ratio(kernel, peer));
    }

    /// Rate of one implementation relative to another: of the lower quartiles over their rounds where both took part in
    /// these, otherwise of the medians.
    fn ratio(&self, one: &Measurement, other: &Measurement) -> Option<Ratio> {
        let (a, b) = (figures(one)?, figures(other)?);
        // Rates are times the other way round.
        let measured = statistics::ratio(&[&a.rounds_ns], &[&b.rounds_ns], self.run.header.seed);
        let plain = a.gflops / b.gflops;
        Some(Ratio { estimate: measured.as_ref().map_or(plain, |r| r.interval.estimate), measured })
    }
}

/// A ratio of rates, perhaps from rounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Ratio {
    /// Above 1: the first is faster.
    pub estimate: f64,
    /// With its resamples.
    pub measured: Option<statistics::Ratio>,
}

impl Ratio {
    /// With 95 % confidence.
    pub fn interval(&self) -> Option<Interval> {
        self.measured.as_ref().map(|r| r.interval)
    }
}

/// What is said of a cache mode.
pub(super) fn cache_words(cache: &str) -> String {
    match cache {
        "weights" => "weights out of the caches".into(),
        other => format!("{other} caches"),
    }
}

/// The figures of a measurement, if it has any.
pub fn figures(measurement: &Measurement) -> Option<&Figures> {
    match &measurement.outcome {
        Outcome::Figures(figures) => Some(figures),
        _ => None,
    }
}
