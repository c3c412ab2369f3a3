//! The table of a ranking: a row for each layer, a column for each kernel.

use std::collections::BTreeMap;

use tconv::{Descriptor, Geometry};

use super::study::cache_words;
use crate::output;
use crate::record::{End, Figures, Header, Measurement, Outcome};
use crate::statistics::geometric_mean;

/// A ranking, arranged for printing.
#[derive(Debug)]
pub struct Ranking<'a> {
    header: &'a Header,
    end: &'a End,
    kernels: Vec<&'a str>,
    /// Workloads in the order of the run; a measurement for each kernel that came to its turn.
    rows: Vec<(&'a str, BTreeMap<&'a str, &'a Measurement>)>,
}

impl<'a> Ranking<'a> {
    /// Arranges measurements of one layout, type and number of threads; of our kernels only.
    pub fn new(header: &'a Header, measurements: &'a [Measurement], end: &'a End) -> Self {
        let mut kernels: Vec<&str> = Vec::new();
        let mut rows: Vec<(&str, BTreeMap<&str, &Measurement>)> = Vec::new();
        for m in measurements.iter().filter(|m| m.peer.is_none()) {
            if !kernels.contains(&m.kernel.as_str()) {
                kernels.push(&m.kernel);
            }
            if rows.last().is_none_or(|(workload, _)| *workload != m.workload) {
                rows.push((&m.workload, BTreeMap::new()));
            }
            if let Some((_, row)) = rows.last_mut() {
                row.insert(&m.kernel, m);
            }
        }
        Self { header, end, kernels, rows }
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let (head, body) = self.cells();
        let mut table = output::table(&head.iter().map(String::as_str).collect::<Vec<_>>(), 1);
        table.add_rows(body);
        format!("{}\n{}", output::render(&table), self.legend().join("\n") + "\n")
    }

    /// For a README, with the command and the machine.
    pub fn markdown(&self) -> String {
        let (head, body) = self.cells();
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = format!("`{}` on {}:\n\n", self.header.command, self.header.machine);
        text += &line(&head);
        text += &format!("|---|{}\n", "--:|".repeat(head.len() - 1));
        // A star would begin emphasis.
        body.iter().for_each(|row| text += &line(row).replace('*', "\\*"));
        let legend = self.legend().into_iter().map(|l| l.replace('*', "\\*"));
        text + "\n" + &legend.collect::<Vec<_>>().join("  \n") + "\n"
    }

    fn cells(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let mut head = vec!["layer".to_owned()];
        head.extend(self.kernels.iter().map(|k| k.to_string()));
        head.extend(["best", "of peak", "done", "GB/s"].map(String::from));
        let mut body: Vec<Vec<String>> = self.rows.iter().map(|(name, row)| self.row(name, row)).collect();
        body.extend(self.means());
        (head, body)
    }

    fn row(&self, name: &str, row: &BTreeMap<&str, &Measurement>) -> Vec<String> {
        let best = best(row);
        let mut cells = vec![name.to_owned()];
        cells.extend(self.kernels.iter().map(|kernel| match row.get(kernel).map(|m| &m.outcome) {
            None => String::new(),
            Some(Outcome::Figures(f)) => {
                let ratio = best.map_or(1.0, |(_, best)| f.gflops / best.gflops);
                format!("{}{}{} {ratio:.2}", if f.runs == 1 { "~" } else { "" }, rate(f.gflops), f.mark())
            }
            Some(Outcome::Declined { .. }) => "declined".into(),
            Some(Outcome::Skipped { predicted_ns, .. }) => format!("skipped, {}", seconds(*predicted_ns)),
            Some(Outcome::Wrong { .. }) => "WRONG".into(),
            Some(Outcome::Failed { .. }) => "FAILED".into(),
        }));
        match best {
            None => cells.resize(cells.len() + 4, String::new()),
            Some((kernel, f)) => {
                let done = f.done_gflops().map_or_else(String::new, rate);
                let moved = row.get(kernel).and_then(|m| compulsory_bytes(m));
                let moved = moved.map_or_else(String::new, |bytes| rate(bytes / f.median_ns));
                cells.extend([kernel.to_owned(), percent(f.share_of_peak), done, moved]);
            }
        }
        cells
    }

    /// Geometric means over the layers for which every general kernel (one that declines at most a tenth of them)
    /// has figures: rates of different layers do not compare. The ratio to the best is also shown for all layers of each
    /// kernel.
    fn means(&self) -> Vec<Vec<String>> {
        let declines = |k: &&str| {
            let declined = |row: &BTreeMap<&str, &Measurement>| {
                matches!(row.get(k).map(|m| &m.outcome), Some(Outcome::Declined { .. }))
            };
            self.rows.iter().filter(|(_, row)| declined(row)).count()
        };
        let general: Vec<&str> =
            self.kernels.iter().copied().filter(|k| 10 * declines(k) <= self.rows.len()).collect();
        let common: Vec<_> = self
            .rows
            .iter()
            .filter(|(_, row)| !general.is_empty() && general.iter().all(|k| figures(row, k).is_some()))
            .collect();
        let line = |label: String, cell: &dyn Fn(&str) -> String, last: [String; 2]| {
            let mut cells = vec![label];
            cells.extend(self.kernels.iter().map(|k| cell(k)));
            cells.extend(last);
            cells.extend([String::new(), String::new()]);
            cells
        };
        let mut lines = Vec::new();
        if !common.is_empty() {
            let mean = |of: &dyn Fn(&Figures, &Figures) -> f64, kernel: &str| {
                let all = common.iter().filter_map(|(_, row)| Some(of(figures(row, kernel)?, best(row)?.1)));
                geometric_mean(all)
            };
            let of_best = |of: &dyn Fn(&Figures) -> f64| {
                geometric_mean(common.iter().filter_map(|(_, row)| Some(of(best(row)?.1))))
            };
            let rates = |k: &str| {
                if !general.contains(&k) {
                    return "–".to_owned();
                }
                let ratio = mean(&|f, best| f.gflops / best.gflops, k);
                format!("{} {ratio:.2}", rate(mean(&|f, _| f.gflops, k)))
            };
            let shares = |k: &str| {
                if general.contains(&k) {
                    percent(mean(&|f, _| f.share_of_peak, k))
                } else {
                    "–".to_owned()
                }
            };
            lines.push(line(
                format!("geomean of {}", plural(common.len(), "layer")),
                &rates,
                [rate(of_best(&|f| f.gflops)), percent(of_best(&|f| f.share_of_peak))],
            ));
            lines.push(line("share of peak".into(), &shares, Default::default()));
        }
        if common.len() < self.rows.len() {
            let own_layers = |k: &str| {
                let own = self
                    .rows
                    .iter()
                    .filter_map(|(_, row)| Some(figures(row, k)?.gflops / best(row)?.1.gflops));
                let own: Vec<f64> = own.collect();
                if own.is_empty() {
                    return String::new();
                }
                format!("({}) {:.2}", own.len(), geometric_mean(own.iter().copied()))
            };
            lines.push(line("ratio over own layers".into(), &own_layers, Default::default()));
        }
        lines
    }

    fn legend(&self) -> Vec<String> {
        let (h, end) = (self.header, self.end);
        let threads = self.rows.iter().flat_map(|(_, row)| row.values()).map(|m| m.threads).next();
        let peaks = &h.roofs.peaks;
        let peak = peaks.iter().find(|p| Some(p.threads) == threads).or(peaks.first());
        let any = self.rows.first().and_then(|(_, row)| row.values().next());
        let (layout, cache) = any.map_or(("", ""), |m| (m.layout.as_str(), m.cache.as_str()));
        let all = || self.rows.iter().flat_map(|(_, row)| row.values()).map(|m| &m.outcome);
        let any =
            |test: &dyn Fn(&Figures) -> bool| all().any(|o| matches!(o, Outcome::Figures(f) if test(f)));
        let mut lines = vec![
            "GFLOP/s by median time, and the ratio to the best; FLOPs counted as 2·N·Cin·(Cout/groups)·∏kernel·∏input."
                .to_owned(),
            peak.map_or(String::new(), |peak| {
                format!(
                    "{}, {layout}, {}, {}, weights packed before. Peak: {} GFLOP/s of multiply-adds, measured ({}).",
                    plural(peak.threads, "thread"),
                    peak.dtype,
                    cache_words(cache),
                    rate(peak.gflops),
                    peak.isa
                )
            }),
        ];
        if any(&|f| f.effective) {
            lines.push(
                "* effective rate: fewer multiply-adds are done than counted, so that it may pass the peak."
                    .into(),
            );
        }
        lines.push(
            "done: GFLOP/s of the multiply-adds that the best really does; GB/s: input, weights and output, moved once, by its time."
                .into(),
        );
        if let Some(accuracy) = &h.accuracy {
            lines.push(format!("Accuracy: {accuracy}."));
        }
        if any(&|f| f.runs == 1) {
            lines.push(
                "~ run once only: too slow for the budget; a larger --budget runs it more often.".into(),
            );
        }
        if all().any(|o| matches!(o, Outcome::Skipped { .. })) {
            lines.push(
                "skipped: the predicted time of one run does not fit; a larger --budget runs it.".into(),
            );
        }
        if any(&|f| f.uses_dirty) {
            let dirty = all().filter(|o| matches!(o, Outcome::Figures(f) if f.uses_dirty)).count();
            lines.push(format!("{dirty} of the figures come from disturbed blocks: the machine was busy."));
        }
        let pinned = match h.environment.pinned {
            Some(true) => "yes",
            Some(false) => "no",
            None => "unknown",
        };
        let load = h.environment.load.map_or("unknown".into(), |l| format!("{:.2}", l[0]));
        let noise = match end.noise_floor {
            None => "not measured".to_owned(),
            Some(floor) => format!("{:.2} % ({})", 100.0 * floor, plural(end.noise_workloads, "layer")),
        };
        lines.push(format!(
            "Noise floor {noise}, load {load}, pinned: {pinned}, seed {}, {}, {:.0} s{}.",
            h.seed,
            h.toolchain.rustc.split(" (").next().unwrap_or(""),
            end.wall_s,
            if end.complete { "" } else { "; interrupted, the rest is missing" },
        ));
        lines
    }
}

fn figures<'a>(row: &BTreeMap<&str, &'a Measurement>, kernel: &str) -> Option<&'a Figures> {
    match &row.get(kernel)?.outcome {
        Outcome::Figures(figures) => Some(figures),
        _ => None,
    }
}

/// What moves at least once.
fn compulsory_bytes(m: &Measurement) -> Option<f64> {
    let descriptor: Descriptor = m.descriptor.parse().ok()?;
    let geometry = Geometry::new(&descriptor.problem).ok()?;
    Some(geometry.compulsory_elements() as f64 * descriptor.dtype.size() as f64)
}

fn best<'a>(row: &BTreeMap<&'a str, &'a Measurement>) -> Option<(&'a str, &'a Figures)> {
    let all = row.keys().filter_map(|&kernel| Some((kernel, figures(row, kernel)?)));
    all.max_by(|a, b| a.1.gflops.total_cmp(&b.1.gflops))
}

/// Three significant digits.
fn rate(x: f64) -> String {
    match x {
        x if x >= 99.95 => format!("{x:.0}"),
        x if x >= 9.995 => format!("{x:.1}"),
        x if x >= 0.9995 => format!("{x:.2}"),
        x => format!("{x:.3}"),
    }
}

fn percent(x: f64) -> String {
    if x < 0.0995 { format!("{:.1} %", 100.0 * x) } else { format!("{:.0} %", 100.0 * x) }
}

fn seconds(ns: f64) -> String {
    format!("~{} s", rate(ns / 1e9))
}

fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tconv::{Dtype, Registry, Target};

    use super::*;
    use crate::measure::CacheMode;
    use crate::measure::run::Run;
    use crate::runs::RecordedRun;

    /// A real run of two kernels on two layers, then edited: figures come from nowhere else.
    fn outcome() -> RecordedRun {
        let descriptor: Descriptor = "f32:nchw:1x2x3x3:o2:k2x2:s2x2".parse().unwrap();
        let run = Run {
            workloads: ["one", "two", "three"].map(|name| (name.to_owned(), descriptor)).to_vec(),
            registry: &Registry::builtin(),
            kernels: vec!["scatter", "polyphase"],
            peers: Vec::new(),
            accuracy: tconv::Accuracy::default(),
            isa: Target::detect().unwrap().isa,
            threads: vec![1],
            caches: vec![CacheMode::Warm],
            dtype: Dtype::F32,
            budget: Duration::from_millis(1),
            precision: 1.0,
            seed: 1,
            shard: None,
            command: "tconv rank -w 'a|b'".into(),
        };
        let mut outcome = run.perform(&mut |_| Ok(())).unwrap_or_else(|e| panic!("{}", e.0));
        outcome.header.roofs.peaks[0].gflops = 100.0;
        for (i, m) in outcome.measurements.iter_mut().enumerate() {
            let gflops = [40.0, 80.0, 10.0, 5.0, 0.0, 2.0][i];
            m.outcome = match &m.outcome {
                _ if i == 4 => Outcome::Skipped { skipped: "too long".into(), predicted_ns: 3.2e9 },
                Outcome::Figures(f) => Outcome::Figures(Figures {
                    gflops,
                    share_of_peak: gflops / 100.0,
                    median_ns: 100.0,
                    multiply_adds: Some(72.0),
                    effective: i == 1,
                    runs: if i == 0 { 1 } else { 9 },
                    ..f.clone()
                }),
                other => panic!("{other:?}"),
            };
        }
        outcome
    }

    #[test]
    fn rates_ratios_means_and_reasons_are_in_the_table() {
        let outcome = outcome();
        let ranking = Ranking::new(&outcome.header, &outcome.measurements, outcome.end.as_ref().unwrap());
        let (head, body) = ranking.cells();
        assert_eq!(head, ["layer", "scatter", "polyphase", "best", "of peak", "done", "GB/s"]);
        // 18 + 16 + 72 elements move; edited runs take 100 ns and do 72 multiply-adds.
        assert_eq!(body[0], ["one", "~40.0 0.50", "80.0* 1.00", "polyphase", "80 %", "1.44", "4.24"]);
        assert_eq!(body[1], ["two", "10.0 1.00", "5.00 0.50", "scatter", "10 %", "1.44", "4.24"]);
        assert_eq!(body[2], ["three", "skipped, ~3.20 s", "2.00 1.00", "polyphase", "2.0 %", "1.44", "4.24"]);
        assert_eq!(body[3][..3], ["geomean of 2 layers", "20.0 0.71", "20.0 0.71"]);
        assert_eq!(body[4][..3], ["share of peak", "20 %", "20 %"]);
        assert_eq!(body[5][..3], ["ratio over own layers", "(2) 0.71", "(3) 0.79"]);
        let legend = ranking.legend().join("\n");
        for words in
            ["* effective", "done: GFLOP/s", "~ run once", "skipped:", "1 thread, nchw, f32", "100 GFLOP/s"]
        {
            assert!(legend.contains(words), "{words}: {legend}");
        }
    }

    #[test]
    fn markdown_escapes_its_stars() {
        let outcome = outcome();
        let text =
            Ranking::new(&outcome.header, &outcome.measurements, outcome.end.as_ref().unwrap()).markdown();
        assert!(text.starts_with("`tconv rank -w 'a|b'` on "), "{text}");
        assert!(
            text.contains("| one | ~40.0 0.50 | 80.0\\* 1.00 | polyphase | 80 % | 1.44 | 4.24 |"),
            "{text}"
        );
    }

    #[test]
    fn rates_have_three_digits() {
        assert_eq!(
            [0.1144, 0.9996, 9.994, 9.996, 99.96, 117.4].map(rate),
            ["0.114", "1.00", "9.99", "10.0", "100", "117"]
        );
    }
}
