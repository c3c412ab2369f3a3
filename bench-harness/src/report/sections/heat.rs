//! Workload × implementation at a glance, and why some cells are empty.

use crate::format::{percent, rate, time};
use crate::record::{Measurement, Outcome};
use crate::report::section::{Block, Section};
use crate::report::study::{Layer, Setting, Study};
use crate::report::table::{Cell, Column, Table};

use super::rank::{effective_note, rate_cell};

/// From here on a cell has the next shade.
const SHADES: [f64; 9] = [0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 0.95];
const CLASSES: [&str; 10] = ["h0", "h1", "h2", "h3", "h4", "h5", "h6", "h7", "h8", "h9"];

pub(super) fn section(study: &Study<'_>) -> Section {
    let mut blocks = vec![Block::Text(
        "Rate relative to the best of the layer: the darker, the closer. A dot: the implementation declined, and says why \
         when the pointer rests on it; all reasons are listed below."
            .into(),
    )];
    for setting in &study.settings {
        blocks.push(Block::Heading(setting.title()));
        blocks.push(Block::Table(table(setting)));
    }
    let reasons = reasons(study);
    if !reasons.rows.is_empty() {
        blocks.push(Block::Fold("Why there are no figures".into(), vec![Block::Table(reasons)]));
    }
    Section { id: "heat".into(), title: "Heat map".into(), blocks }
}

/// The class for a part of a maximum.
pub(super) fn shade(part: f64) -> &'static str {
    CLASSES[SHADES.iter().filter(|&&from| part >= from).count()]
}

fn table(setting: &Setting<'_>) -> Table {
    let mut columns = vec![Column::text("layer"), Column::number("GFLOP/s"), Column::number("of peak")];
    columns.extend(setting.implementations.iter().map(|name| Column::number(*name)));
    let row = |layer: &Layer<'_>| {
        let mut cells = vec![Cell::text(layer.name).title(layer.descriptor.to_string())];
        match layer.best() {
            Some((_, f)) => {
                cells.push(rate_cell(f));
                cells.push(Cell::number(f.share_of_peak, percent(f.share_of_peak)));
            }
            None => cells.extend([Cell::none(), Cell::none()]),
        }
        let best = layer.best().map_or(f64::NAN, |(_, f)| f.gflops);
        cells.extend(setting.implementations.iter().map(|name| cell(layer.entry(name), best)));
        cells
    };
    Table {
        id: format!("heat-{}", setting.slug()),
        caption: format!(
            "Best rate of each layer, and every implementation relative to it{}",
            effective_note(setting.layers.iter().filter_map(|l| Some(l.best()?.1)))
        ),
        columns,
        rows: setting.layers.iter().map(row).collect(),
        class: "heat",
        ..Table::default()
    }
}

fn cell(measurement: Option<&Measurement>, best: f64) -> Cell {
    let Some(m) = measurement else { return Cell::none() };
    match &m.outcome {
        Outcome::Figures(f) => {
            let part = f.gflops / best;
            let variant = m.variant.as_deref().unwrap_or_default();
            let words = format!("{} {variant}: {} GFLOP/s, {}", m.kernel, rate(f.gflops), time(f.median_ns));
            let digits = if part < 0.0995 { format!("{part:.3}") } else { format!("{part:.2}") };
            Cell::number(part, digits).class(shade(part)).title(words)
        }
        outcome => {
            let (short, class, reason) = without_figures(outcome);
            Cell::text(short).class(class).title(format!("{} {reason}", m.kernel))
        }
    }
}

/// A word for the cell, its class, and the reason. Figures have none of these.
fn without_figures(outcome: &Outcome) -> (&'static str, &'static str, String) {
    match outcome {
        Outcome::Figures(_) => ("", "", String::new()),
        Outcome::Declined { declined } => ("·", "declined", format!("declined: {declined}")),
        Outcome::Skipped { skipped, predicted_ns } => {
            ("skip", "declined", format!("skipped: {skipped} ({} predicted)", time(*predicted_ns)))
        }
        Outcome::Failed { failed } => ("FAILED", "wrong", format!("failed: {failed}")),
        Outcome::Wrong { wrong, repro, .. } => ("WRONG", "wrong", format!("is wrong: {wrong}; {repro}")),
    }
}

/// One line for each implementation and reason, with the layers that it holds for.
fn reasons(study: &Study<'_>) -> Table {
    let mut found: Vec<(&str, String, Vec<&str>)> = Vec::new();
    for m in study.settings.iter().flat_map(|s| &s.layers).flat_map(|l| &l.entries) {
        let (_, class, reason) = without_figures(&m.outcome);
        if class.is_empty() {
            continue;
        }
        match found.iter_mut().find(|(name, known, _)| *name == m.kernel && *known == reason) {
            Some((_, _, layers)) if layers.contains(&m.workload.as_str()) => {}
            Some((_, _, layers)) => layers.push(&m.workload),
            None => found.push((&m.kernel, reason, vec![&m.workload])),
        }
    }
    found.sort_by(|a, b| a.0.cmp(b.0));
    let row = |(name, reason, layers): (&str, String, Vec<&str>)| {
        let count = layers.len();
        let layers = layers.join(", ");
        vec![
            Cell::text(name),
            Cell::text(reason),
            Cell::number(count as f64, count.to_string()),
            Cell::text(layers),
        ]
    };
    Table {
        id: "reasons".into(),
        caption: "Declined, skipped, wrong or failed, in any setting".into(),
        columns: vec![
            Column::text("implementation"),
            Column::text("reason"),
            Column::number("layers"),
            Column::text("which"),
        ],
        rows: found.into_iter().map(row).collect(),
        class: "wrap",
        ..Table::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shades_rise() {
        assert_eq!([0.0, 0.02, 0.5, 0.949, 0.95, 1.0].map(shade), ["h0", "h1", "h6", "h8", "h9", "h9"]);
    }
}
