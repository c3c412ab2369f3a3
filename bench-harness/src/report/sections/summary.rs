//! What was measured, on what, and how the runs went.

use maud::html;

use crate::format::{bytes, percent, plural, rate};
use crate::machine::Fingerprint;
use crate::report::section::{Block, Section};
use crate::report::study::{Setting, Study};
use crate::report::table::{Cell, Column, Table};
use crate::statistics::geometric_mean;

use super::rank::means_note;

pub(super) fn section(study: &Study<'_>) -> Section {
    let mut blocks = vec![tiles(study), Block::Table(settings(study)), Block::Table(runs(study))];
    if study.superseded > 0 {
        let layers = plural(study.superseded, "layer");
        blocks.push(Block::Text(format!(
            "{layers} were measured by several runs in the same setting: the last run counts, since figures of two runs are \
             never mixed."
        )));
    }
    blocks.push(Block::Table(machines(study)));
    Section { id: "summary".into(), title: "Summary".into(), blocks }
}

/// Geometric means of the best of each layer: rate, and share of peak.
fn best_of(setting: &Setting<'_>) -> (f64, f64) {
    let all = || setting.layers.iter().filter_map(|l| Some(l.best()?.1));
    (geometric_mean(all().map(|f| f.gflops)), geometric_mean(all().map(|f| f.share_of_peak)))
}

fn tiles(study: &Study<'_>) -> Block {
    let mut layers: Vec<&str> = study.settings.iter().flat_map(|s| s.layers.iter().map(|l| l.name)).collect();
    layers.sort_unstable();
    layers.dedup();
    let mut names: Vec<&str> =
        study.settings.iter().flat_map(|s| s.implementations.iter().copied()).collect();
    names.sort_unstable();
    names.dedup();
    let mut tiles = vec![
        (layers.len().to_string(), "layers".to_owned()),
        (names.len().to_string(), "implementations".to_owned()),
    ];
    for setting in study.settings.iter().take(2) {
        let (_, share) = best_of(setting);
        if share.is_finite() {
            tiles.push((percent(share), format!("of peak, best of each layer, {}", setting.title())));
        }
    }
    Block::Picture(html! {
        div.tiles { @for (figure, words) in tiles { div { b { (figure) } span { (words) } } } }
    })
}

fn settings(study: &Study<'_>) -> Table {
    let row = |setting: &Setting<'_>| {
        let (gflops, share) = best_of(setting);
        let measured = setting.layers.iter().filter(|l| l.best().is_some()).count();
        vec![
            Cell::text(setting.title()),
            Cell::number(measured as f64, measured.to_string()),
            Cell::number(setting.peak(), rate(setting.peak())),
            if measured > 0 { Cell::number(gflops, rate(gflops)) } else { Cell::none() },
            if measured > 0 { Cell::number(share, percent(share)) } else { Cell::none() },
            match setting.noise_floor() {
                Some(floor) => Cell::number(floor, format!("{:.2} %", 100.0 * floor)),
                None => Cell::none(),
            },
        ]
    };
    Table {
        id: "settings".into(),
        caption: format!(
            "Settings: geometric means over the layers, the best implementation of each{}",
            study.settings.iter().map(means_note).find(|note| !note.is_empty()).unwrap_or_default()
        ),
        columns: vec![
            Column::text("setting"),
            Column::number("layers"),
            Column::number("peak, GFLOP/s").help("Multiply-adds in registers, measured"),
            Column::number("best, GFLOP/s"),
            Column::number("of peak"),
            Column::number("noise floor")
                .help("Identical code against itself: root mean square distance from 1"),
        ],
        rows: study.settings.iter().map(row).collect(),
        ..Table::default()
    }
}

fn runs(study: &Study<'_>) -> Table {
    let row = |run: &crate::runs::RecordedRun| {
        let h = &run.header;
        let load = h.environment.load.map(|l| l[0]);
        let (state, wall) = match run.end {
            None => ("cut off", None),
            Some(end) => (if end.complete { "complete" } else { "interrupted" }, Some(end.wall_s)),
        };
        vec![
            Cell::text(&run.source),
            Cell::text(&h.command),
            Cell::text(state),
            wall.map_or_else(Cell::none, |s| Cell::number(s, format!("{s:.0} s"))),
            Cell::number(h.seed as f64, h.seed.to_string()),
            load.map_or_else(Cell::none, |l| Cell::number(l, format!("{l:.2}"))),
            Cell::text(match h.environment.pinned {
                Some(true) => "yes",
                Some(false) => "no",
                None => "unknown",
            }),
            Cell::text(&h.utc),
            Cell::text(&h.toolchain.commit),
            Cell::text(h.toolchain.rustc.split(" (").next().unwrap_or("")),
        ]
    };
    Table {
        id: "runs".into(),
        caption: "Runs that this report was made from".into(),
        columns: vec![
            Column::text("file"),
            Column::text("command"),
            Column::text("state"),
            Column::number("took"),
            Column::number("seed"),
            Column::number("load").help("Average over the minute before the run"),
            Column::text("pinned"),
            Column::text("began"),
            Column::text("commit"),
            Column::text("compiler"),
        ],
        rows: study.runs.iter().map(row).collect(),
        class: "wrap runs",
        ..Table::default()
    }
}

fn machines(study: &Study<'_>) -> Table {
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    let mut known: Vec<&Fingerprint> = Vec::new();
    for run in study.runs {
        let m = &run.header.machine;
        if known.contains(&m) {
            continue;
        }
        known.push(m);
        let caches: Vec<String> = m.caches.iter().map(|&b| bytes(b as f64)).collect();
        rows.push(vec![
            Cell::text(m.to_string()),
            Cell::text(match &run.header.environment.cpu {
                Some(name) => name.clone(),
                None => format!("{}, family {}, model {}", m.vendor, m.family, m.model),
            }),
            Cell::number(m.cores as f64, m.cores.to_string()),
            Cell::text(m.isas.join(", ")),
            Cell::text(caches.join(", ")),
        ]);
    }
    Table {
        id: "machine".into(),
        caption: "The machine, as the program found it".into(),
        columns: vec![
            Column::text("fingerprint"),
            Column::text("processor"),
            Column::number("cores"),
            Column::text("instruction sets"),
            Column::text("data caches, from level 1"),
        ],
        rows,
        class: "wrap",
        ..Table::default()
    }
}
