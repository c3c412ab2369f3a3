//! Our kernels against other libraries: for each layer the best of ours and the best peer, and each peer over all layers.

use crate::format::{plural, rate};
use crate::output;
use crate::record::{End, Figures, Measurement, Outcome};
use crate::statistics::{self, Interval, Verdict, geometric_mean, geometric_mean_ratio, verdicts};

/// A comparison with peers, arranged for printing.
#[derive(Debug)]
pub struct Versus<'a> {
    noise_floor: f64,
    /// Of the bootstraps.
    seed: u64,
    /// The layout of our kernels.
    layout: &'a str,
    rows: Vec<Row<'a>>,
    /// Every measurement of a peer, in the order of the run.
    peers: Vec<&'a Measurement>,
}

#[derive(Debug)]
struct Row<'a> {
    workload: &'a str,
    ours: Option<(&'a str, &'a Figures)>,
    /// The fastest that computes in the layout of ours, and the fastest in whatever layout.
    rivals: [Option<Rival<'a>>; 2],
}

/// A peer beside our best kernel.
#[derive(Debug)]
struct Rival<'a> {
    name: &'a str,
    figures: &'a Figures,
    /// Its time over ours, where both were in the same rounds.
    ratio: Option<statistics::Ratio>,
}

const HEAD: [&str; 12] = [
    "layer",
    "ours",
    "GFLOP/s",
    "best peer, same layout",
    "GFLOP/s",
    "ratio",
    "95 % CI",
    "ours is",
    "best peer, any layout",
    "ratio",
    "95 % CI",
    "ours is",
];
const PEER_HEAD: [&str; 9] = [
    "peer",
    "version",
    "layout",
    "layers",
    "mean ratio",
    "worst for us",
    "declined",
    "wrong or failed",
    "settings of its own",
];

impl<'a> Versus<'a> {
    /// Arranges measurements of one layout, type and number of threads; `None` where no peer was asked.
    pub fn new(measurements: &'a [Measurement], end: &End, seed: u64) -> Option<Self> {
        let peers: Vec<&Measurement> = measurements.iter().filter(|m| m.peer.is_some()).collect();
        let layout = peers.first()?.layout.as_str();
        let mut workloads: Vec<&str> = Vec::new();
        for m in measurements {
            if !workloads.contains(&m.workload.as_str()) {
                workloads.push(&m.workload);
            }
        }
        let row = |workload| {
            let here = || measurements.iter().filter(move |m| m.workload == workload);
            let fastest = |of: &dyn Fn(&Measurement) -> bool| {
                let candidates = here().filter(|m| of(m)).filter_map(|m| Some((&*m.kernel, figures(m)?)));
                candidates.min_by(|a, b| a.1.q1_ns.total_cmp(&b.1.q1_ns))
            };
            let ours = fastest(&|m| m.peer.is_none());
            let rival = |(name, figures): (&'a str, &'a Figures)| {
                let ratio = ours
                    .and_then(|(_, ours)| statistics::ratio(&[&ours.rounds_ns], &[&figures.rounds_ns], seed));
                Rival { name, figures, ratio }
            };
            let same_layout = fastest(&|m| m.peer.as_ref().is_some_and(|p| p.layout == m.layout));
            let any_layout = fastest(&|m| m.peer.is_some());
            Row { workload, ours, rivals: [same_layout.map(rival), any_layout.map(rival)] }
        };
        let rows = workloads.into_iter().map(row).collect();
        Some(Self { noise_floor: end.noise_floor.unwrap_or(0.0), seed, layout, rows, peers })
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let render = |head: &[&str], first_number, rows: Vec<Vec<String>>| {
            let mut table = output::table(head, first_number);
            table.add_rows(rows);
            output::render(&table)
        };
        let layers = render(&HEAD, 2, self.layers());
        let peers = render(&PEER_HEAD, 3, self.each_peer());
        format!("{layers}\n{peers}\n{}\n", self.legend().join("\n"))
    }

    /// For a README.
    pub fn markdown(&self) -> String {
        let table = |head: &[&str], rows: Vec<Vec<String>>| {
            let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
            let head: Vec<String> = head.iter().map(|h| h.to_string()).collect();
            let rule = format!("|---|{}\n", "--:|".repeat(head.len() - 1));
            // A star would begin emphasis.
            line(&head) + &rule + &rows.iter().map(|r| line(r)).collect::<String>().replace('*', "\\*")
        };
        let layers = table(&HEAD, self.layers());
        let peers = table(&PEER_HEAD, self.each_peer());
        format!("{layers}\n{peers}\n{}\n", self.legend().join("  \n").replace('*', "\\*"))
    }

    fn layers(&self) -> Vec<Vec<String>> {
        let mut last = vec!["geometric mean".to_owned(), String::new(), String::new()];
        let mut lines: Vec<Vec<String>> = self.rows.iter().map(Self::ours).collect();
        for (side, shows_rate) in [(0, true), (1, false)] {
            let rivals: Vec<Option<&Rival<'_>>> = self.rows.iter().map(|r| r.rivals[side].as_ref()).collect();
            let judged = self.judge(&rivals);
            for ((line, rival), verdict) in lines.iter_mut().zip(&rivals).zip(judged) {
                line.push(rival.map_or(String::new(), |r| r.name.to_owned()));
                if shows_rate {
                    line.push(rival.map_or(String::new(), |r| rate(r.figures.gflops)));
                }
                line.extend(cells(rival.and_then(|r| r.ratio.as_ref()).map(|r| r.interval)));
                line.push(match (rival, verdict) {
                    (None, _) => String::new(),
                    (Some(_), None) => "not compared".into(),
                    (Some(_), Some(verdict)) => verdict.to_string(),
                });
            }
            let ratios: Vec<&statistics::Ratio> =
                rivals.iter().filter_map(|r| r.as_ref()?.ratio.as_ref()).collect();
            last.push(if ratios.is_empty() {
                String::new()
            } else {
                format!("of {}", plural(ratios.len(), "layer"))
            });
            if shows_rate {
                last.push(String::new());
            }
            last.extend(cells(geometric_mean_ratio(&ratios, self.seed)));
            last.push(String::new());
        }
        lines.push(last);
        lines
    }

    fn ours(row: &Row<'_>) -> Vec<String> {
        let (kernel, gflops) =
            row.ours.map_or(("–", String::new()), |(kernel, f)| (kernel, rate(f.gflops) + f.mark()));
        vec![row.workload.to_owned(), kernel.to_owned(), gflops]
    }

    /// How ours stands to each rival: all claims of one column are weighed together.
    fn judge(&self, rivals: &[Option<&Rival<'_>>]) -> Vec<Option<Verdict>> {
        // Seen from our side: our time over the peer's.
        let ours = |r: &&Rival<'_>| {
            let Interval { estimate, low, high } = r.ratio.as_ref()?.interval;
            Some(Interval { estimate: 1.0 / estimate, low: 1.0 / high, high: 1.0 / low })
        };
        let known: Vec<Option<Interval>> = rivals.iter().map(|r| r.as_ref().and_then(ours)).collect();
        let mut judged =
            verdicts(&known.iter().flatten().copied().collect::<Vec<_>>(), self.noise_floor).into_iter();
        known.iter().map(|k| k.and_then(|_| judged.next())).collect()
    }

    fn each_peer(&self) -> Vec<Vec<String>> {
        let mut names: Vec<&str> = Vec::new();
        for m in &self.peers {
            if !names.contains(&m.kernel.as_str()) {
                names.push(&m.kernel);
            }
        }
        let line = |name: &str| {
            let own: Vec<&Measurement> = self.peers.iter().copied().filter(|m| m.kernel == name).collect();
            let records = || own.iter().filter_map(|m| m.peer.as_ref());
            let ratios: Vec<f64> =
                own.iter().filter_map(|m| Some(figures(m)?.ratio_to_best_kernel?[0])).collect();
            let worst = ratios.iter().copied().fold(f64::INFINITY, f64::min);
            let number = |x: f64| if x.is_finite() { format!("{x:.3}") } else { "–".into() };
            let count = |of: &dyn Fn(&Outcome) -> bool| own.iter().filter(|m| of(&m.outcome)).count();
            vec![
                name.to_owned(),
                records().find_map(|p| p.version.clone()).unwrap_or_else(|| "–".into()),
                records().next().map_or(String::new(), |p| p.layout.clone()),
                count(&|o| matches!(o, Outcome::Figures(_))).to_string(),
                number(geometric_mean(ratios.iter().copied())),
                number(worst),
                count(&|o| matches!(o, Outcome::Declined { .. })).to_string(),
                count(&|o| matches!(o, Outcome::Wrong { .. } | Outcome::Failed { .. })).to_string(),
                records().next().map_or(String::new(), |p| p.settings.join(", ")),
            ]
        };
        names.into_iter().map(line).collect()
    }

    fn legend(&self) -> Vec<String> {
        let mut lines = vec![
            format!(
                "Ours in {}. Ratio: time of the peer over the time of our best kernel, lower quartiles of the same rounds; \
                 above 1 ours is faster. 'Ours is' weighs the whole interval against the noise floor.",
                self.layout
            ),
            "Peers execute only: operator and weights prepared before, buffers reused where the library lets one; \
             every output was verified. Layout any: the library's own order of axes."
                .into(),
        ];
        if self.rows.iter().any(|row| row.ours.is_some_and(|(_, f)| f.effective)) {
            lines.push(
                "* effective rate: fewer multiply-adds are done than counted, so that it may pass the peak."
                    .into(),
            );
        }
        lines
    }
}

/// A ratio and its interval.
fn cells(ratio: Option<Interval>) -> [String; 2] {
    ratio.map_or_else(Default::default, |r| {
        [format!("{:.3}", r.estimate), format!("{:.3}–{:.3}", r.low, r.high)]
    })
}

fn figures(m: &Measurement) -> Option<&Figures> {
    match &m.outcome {
        Outcome::Figures(figures) => Some(figures),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn measurement(
        workload: &str,
        kernel: &str,
        layout: Option<&str>,
        outcome: serde_json::Value,
    ) -> Measurement {
        let mut value = json!({
            "workload": workload, "descriptor": "d", "kernel": kernel, "variant": null, "default": false,
            "layout": "nchw", "dtype": "f32", "isa": "avx2", "threads": 1, "cache": "warm",
        });
        let fields = value.as_object_mut().unwrap();
        if let Some(layout) = layout {
            fields.insert("peer".into(), json!({ "mode": "m", "layout": layout, "version": "3" }));
        }
        fields.extend(outcome.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    /// Five rounds at each of these times.
    fn timed(rounds: [f64; 4]) -> serde_json::Value {
        let ns = rounds[0];
        json!({
            "median_ns": ns, "q1_ns": ns, "quantiles_ns": vec![ns; 7], "gflops": 1000.0 / ns, "share_of_peak": 0.5,
            "effective": false, "plan_ns": 1.0, "verified": true, "max_error_u": 1.0, "blocks": 4, "runs": 9,
            "clean_share": 1.0, "uses_dirty": false, "cpu_share": 1.0, "faults": 0, "stopped": "budget",
            "ratio_to_best_kernel": [1.5, 1.4, 1.6], "rounds_ns": rounds.repeat(5),
        })
    }

    fn once(ns: f64) -> serde_json::Value {
        let mut value = timed([ns; 4]);
        value["rounds_ns"] = json!([]);
        value
    }

    #[test]
    fn the_best_of_each_side_meet() {
        let all = [
            measurement("a", "slow", None, timed([20.0; 4])),
            measurement("a", "quick", None, timed([10.0; 4])),
            measurement("a", "dnn/nchw", Some("nchw"), timed([12.0; 4])),
            measurement("a", "dnn/any", Some("any"), timed([8.0; 4])),
            measurement("b", "quick", None, timed([10.0; 4])),
            measurement("b", "dnn/nchw", Some("nchw"), json!({ "failed": "crashed" })),
            measurement("b", "dnn/any", Some("any"), timed([10.0, 8.0, 12.0, 10.0])),
            measurement("c", "dnn/any", Some("any"), json!({ "declined": "groups" })),
            measurement("d", "quick", None, timed([10.0; 4])),
            measurement("d", "dnn/any", Some("any"), once(50.0)),
        ];
        let end =
            End { complete: true, noise_floor: None, noise_workloads: 0, steal_share: None, wall_s: 1.0 };
        let versus = Versus::new(&all, &end, 1).unwrap();
        let lines = versus.layers();
        let a = ["a", "quick", "100", "dnn/nchw", "83.3", "1.200", "1.200–1.200", "FASTER", "dnn/any"];
        assert_eq!(lines[0], [&a[..], &["0.800", "0.800–0.800", "SLOWER"]].concat());
        // Between 8 and 12 lies everything.
        assert_eq!(lines[1][..10], ["b", "quick", "100", "", "", "", "", "", "dnn/any", "0.950"]);
        assert_eq!(lines[1][11], "UNRESOLVED");
        assert_eq!(lines[2][..2], ["c", "–"]);
        assert_eq!(lines[3][8..], ["dnn/any", "", "", "not compared"]);
        assert_eq!([&lines[4][3], &lines[4][5], &lines[4][8]], ["of 1 layer", "1.200", "of 2 layers"]);
        let mean = (0.8f64 * 0.95).sqrt();
        assert_eq!(lines[4][9], format!("{mean:.3}"));
        assert!(lines.iter().all(|l| l.len() == HEAD.len()));
        let peers = versus.each_peer();
        assert_eq!(peers[0], ["dnn/nchw", "3", "nchw", "1", "1.500", "1.500", "0", "1", ""]);
        assert_eq!(peers[1][3..8], ["3", "1.500", "1.500", "1", "0"]);
        assert!(versus.markdown().contains("| a | quick | 100 | dnn/nchw | 83.3 | 1.200 |"));
        assert!(Versus::new(&all[..2], &end, 1).is_none());
    }
}
