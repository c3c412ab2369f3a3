//! The tables of a ranking on a terminal and in a README: for every setting of some runs, fresh or read back.

use crate::cli::Failure;
use crate::record::{End, Header, Measurement};
use crate::report::rank::Ranking;
use crate::report::sections;
use crate::report::study::{Setting, Study};
use crate::report::versus::Versus;
use crate::runs::RecordedRun;

/// What is shown of one setting.
#[derive(Debug)]
struct Part {
    title: String,
    header: Header,
    measurements: Vec<Measurement>,
    end: End,
    /// Every implementation over all layers, with intervals.
    standings: String,
}

/// All settings of some runs.
#[derive(Debug)]
pub struct Board {
    parts: Vec<Part>,
}

impl Board {
    /// Arranges runs. Of a layer that two measured in one setting, the last counts.
    pub fn new(runs: &[RecordedRun]) -> Result<Self, Failure> {
        let study = Study::new(runs)?;
        Ok(Self { parts: study.settings.iter().filter_map(Part::new).collect() })
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        if self.parts.is_empty() {
            return "Nothing was measured.\n".into();
        }
        self.each(|part| {
            let mut text = Ranking::new(&part.header, &part.measurements, &part.end).text();
            text += &format!("\n{}", part.standings);
            if let Some(versus) = Versus::new(&part.measurements, &part.end, part.header.seed) {
                text += &format!("\n{}", versus.text());
            }
            text
        })
    }

    /// For a README, with the commands and the machine.
    pub fn markdown(&self) -> String {
        self.each(|part| {
            let mut text = Ranking::new(&part.header, &part.measurements, &part.end).markdown();
            if let Some(versus) = Versus::new(&part.measurements, &part.end, part.header.seed) {
                text += &format!("\n{}", versus.markdown());
            }
            text
        })
    }

    /// One after the other, each under its title where there are several.
    fn each(&self, show: impl Fn(&Part) -> String) -> String {
        let titled = |part: &Part| match self.parts.len() {
            1 => show(part),
            _ => format!("### {}\n\n{}", part.title, show(part)),
        };
        self.parts.iter().map(titled).collect::<Vec<_>>().join("\n")
    }
}

impl Part {
    fn new(setting: &Setting<'_>) -> Option<Self> {
        let mut runs: Vec<&RecordedRun> = Vec::new();
        for layer in &setting.layers {
            if !runs.iter().any(|run| std::ptr::eq(*run, layer.run)) {
                runs.push(layer.run);
            }
        }
        let mut header = runs.first()?.header.clone();
        header.command = runs.iter().map(|run| run.header.command.as_str()).collect::<Vec<_>>().join("; ");
        let end = End {
            complete: runs.iter().all(|run| run.complete()),
            noise_floor: setting.noise_floor(),
            noise_workloads: setting.self_ratios().count(),
            steal_share: None,
            wall_s: runs.iter().filter_map(|run| run.end).map(|end| end.wall_s).sum(),
        };
        let entries = setting.layers.iter().flat_map(|layer| &layer.entries);
        Some(Self {
            title: setting.title(),
            header,
            measurements: entries.map(|&m| m.clone()).collect(),
            end,
            standings: sections::standings(setting).plain(),
        })
    }
}
