//! Our kernels against other libraries: for each layer the best of ours and the best peer, and each peer over all layers.

use super::rank::{plural, rate};
use crate::output;
use crate::record::{End, Figures, Measurement, Outcome};
use crate::statistics::{Interval, geometric_mean, verdict};

/// A comparison with peers, arranged for printing.
#[derive(Debug)]
pub struct Versus<'a> {
    noise_floor: f64,
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
    /// The fastest that computes in the layout of ours.
    same_layout: Option<(&'a str, &'a Figures)>,
    /// The fastest in whatever layout.
    any_layout: Option<(&'a str, &'a Figures)>,
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
    pub fn new(measurements: &'a [Measurement], end: &End) -> Option<Self> {
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
            Row {
                workload,
                ours: fastest(&|m| m.peer.is_none()),
                same_layout: fastest(&|m| m.peer.as_ref().is_some_and(|p| p.layout == m.layout)),
                any_layout: fastest(&|m| m.peer.is_some()),
            }
        };
        let rows = workloads.into_iter().map(row).collect();
        Some(Self { noise_floor: end.noise_floor.unwrap_or(0.0), layout, rows, peers })
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
            line(&head) + &rule + &rows.iter().map(|r| line(r)).collect::<String>()
        };
        let layers = table(&HEAD, self.layers());
        let peers = table(&PEER_HEAD, self.each_peer());
        format!("{layers}\n{peers}\n{}\n", self.legend().join("  \n"))
    }

    fn layers(&self) -> Vec<Vec<String>> {
        let mut lines: Vec<Vec<String>> = self.rows.iter().map(|row| self.layer(row)).collect();
        let mean = |of: &dyn Fn(&Row<'a>) -> Option<f64>| {
            let all: Vec<f64> = self.rows.iter().filter_map(of).collect();
            match all.len() {
                0 => (String::new(), String::new()),
                n => (format!("of {}", plural(n, "layer")), format!("{:.3}", geometric_mean(all))),
            }
        };
        let (same_count, same) = mean(&|row| Some(row.same_layout?.1.ratio_to_best_kernel?[0]));
        let (any_count, any) = mean(&|row| Some(row.any_layout?.1.ratio_to_best_kernel?[0]));
        let mut last = vec![String::new(); HEAD.len()];
        last[0] = "geometric mean".into();
        [last[3], last[5], last[8], last[9]] = [same_count, same, any_count, any];
        lines.push(last);
        lines
    }

    fn layer(&self, row: &Row<'a>) -> Vec<String> {
        let mut cells = vec![row.workload.to_owned()];
        match row.ours {
            Some((kernel, f)) => cells.extend([kernel.to_owned(), rate(f.gflops)]),
            None => cells.extend(["–".to_owned(), String::new()]),
        }
        for (peer, shows_rate) in [(row.same_layout, true), (row.any_layout, false)] {
            let Some((name, f)) = peer else {
                cells.extend(vec![String::new(); if shows_rate { 5 } else { 4 }]);
                continue;
            };
            cells.push(name.to_owned());
            cells.extend(shows_rate.then(|| rate(f.gflops)));
            match f.ratio_to_best_kernel {
                None => cells.extend([String::new(), String::new(), "not compared".into()]),
                Some([estimate, low, high]) => {
                    // Seen from our side: our time over the peer's.
                    let ours = Interval { estimate: 1.0 / estimate, low: 1.0 / high, high: 1.0 / low };
                    cells.extend([
                        format!("{estimate:.3}"),
                        format!("{low:.3}–{high:.3}"),
                        verdict(&ours, self.noise_floor).to_string(),
                    ]);
                }
            }
        }
        cells
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
        vec![
            format!(
                "Ours in {}. Ratio: time of the peer over the time of our best kernel, lower quartiles of the same rounds; \
                 above 1 ours is faster. 'Ours is' weighs the whole interval against the noise floor.",
                self.layout
            ),
            "Peers execute only: operator and weights prepared before, buffers reused where the library lets one; \
             every output was verified. Layout any: the library's own order of axes."
                .into(),
        ]
    }
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

    fn timed(ns: f64, ratio: Option<[f64; 3]>) -> serde_json::Value {
        json!({
            "median_ns": ns, "q1_ns": ns, "gflops": 1000.0 / ns, "share_of_peak": 0.5, "effective": false, "plan_ns": 1.0,
            "verified": true, "max_error_u": 1.0, "blocks": 8, "runs": 9, "clean_share": 1.0, "uses_dirty": false,
            "cpu_share": 1.0, "faults": 0, "stopped": "budget", "ratio_to_best_kernel": ratio,
        })
    }

    #[test]
    fn the_best_of_each_side_meet() {
        let all = [
            measurement("a", "slow", None, timed(20.0, None)),
            measurement("a", "quick", None, timed(10.0, None)),
            measurement("a", "dnn/nchw", Some("nchw"), timed(12.0, Some([1.2, 1.19, 1.21]))),
            measurement("a", "dnn/any", Some("any"), timed(8.0, Some([0.8, 0.79, 0.81]))),
            measurement("b", "quick", None, timed(10.0, None)),
            measurement("b", "dnn/nchw", Some("nchw"), json!({ "failed": "crashed" })),
            measurement("b", "dnn/any", Some("any"), timed(10.0, Some([1.0, 0.95, 1.05]))),
            measurement("c", "dnn/any", Some("any"), json!({ "declined": "groups" })),
        ];
        let end = End { complete: true, noise_floor: None, noise_workloads: 0, wall_s: 1.0 };
        let versus = Versus::new(&all, &end).unwrap();
        let lines = versus.layers();
        let a = ["a", "quick", "100", "dnn/nchw", "83.3", "1.200", "1.190–1.210", "FASTER", "dnn/any"];
        assert_eq!(lines[0], [&a[..], &["0.800", "0.790–0.810", "SLOWER"]].concat());
        let b = ["b", "quick", "100", "", "", "", "", "", "dnn/any", "1.000", "0.950–1.050", "UNRESOLVED"];
        assert_eq!(lines[1], b);
        assert_eq!(lines[2][..2], ["c", "–"]);
        assert_eq!([&lines[3][5], &lines[3][9]], ["1.200", "0.894"]);
        assert!(lines.iter().all(|l| l.len() == HEAD.len()));
        let peers = versus.each_peer();
        assert_eq!(peers[0], ["dnn/nchw", "3", "nchw", "1", "1.200", "1.200", "0", "1", ""]);
        assert_eq!(peers[1][3..8], ["2", "0.894", "0.800", "1", "0"]);
        assert!(versus.markdown().contains("| a | quick | 100 | dnn/nchw | 83.3 | 1.200 |"));
        assert!(Versus::new(&all[..2], &end).is_none());
    }
}
