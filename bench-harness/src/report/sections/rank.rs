//! Who is how fast: over all layers, and on each.

use crate::format::{percent, plural, rate};
use crate::report::section::{Block, Section};
use crate::report::study::{Layer, Ratio, Setting, Study, figures};
use crate::report::table::{Cell, Column, Table};
use crate::statistics::{Interval, geometric_mean};

pub(super) fn section(study: &Study<'_>) -> Section {
    let mut blocks = vec![Block::Text(
        "Rates are GFLOP/s by the median time of one execution: weights packed before, buffers touched before. Every \
         implementation counts the same operations, 2·N·Cin·(Cout/groups)·∏kernel·∏input, those that padding crops included. \
         Ratios are of rates, from the lower quartiles of interleaved rounds, with 95 % intervals."
            .into(),
    )];
    for setting in &study.settings {
        blocks.push(Block::Heading(setting.title()));
        blocks.push(Block::Table(standings(setting)));
        blocks.push(Block::Table(layers(setting)));
    }
    Section { id: "rank".into(), title: "Ranking".into(), blocks }
}

/// The layers on which every general implementation (one with figures for more than half of the layers) has figures, and
/// these: means over different layers do not compare.
fn common<'s, 'a>(setting: &'s Setting<'a>) -> (Vec<&'a str>, Vec<&'s Layer<'a>>) {
    let covered = |name: &str| setting.layers.iter().filter(|l| l.figures(name).is_some()).count();
    let mut general = setting.implementations.clone();
    general.retain(|name| 2 * covered(name) > setting.layers.len());
    let on_all = |l: &&Layer<'_>| !general.is_empty() && general.iter().all(|k| l.figures(k).is_some());
    let layers = setting.layers.iter().filter(on_all).collect();
    (general, layers)
}

/// The geometric mean of an implementation's ratio to the best of each layer.
fn mean_ratio<'s, 'a: 's>(layers: impl IntoIterator<Item = &'s Layer<'a>>, name: &str) -> Option<Ratio> {
    let mut ratios = Vec::new();
    for layer in layers {
        let (Some(own), Some((best, _))) = (layer.entry(name), layer.best()) else { continue };
        ratios.extend(layer.ratio(own, best));
    }
    if ratios.is_empty() {
        return None;
    }
    let estimate = geometric_mean(ratios.iter().map(|r| r.estimate));
    // Errors of the layers are independent: their runs do not overlap.
    let of = |pick: fn(&Interval) -> f64| {
        let logs = ratios.iter().map(|r| r.interval.map_or(0.0, |i| (pick(&i) / r.estimate).ln().powi(2)));
        logs.sum::<f64>().sqrt() / ratios.len() as f64
    };
    let (low, high) = (estimate * (-of(|i| i.low)).exp(), estimate * of(|i| i.high).exp());
    let known = ratios.iter().any(|r| r.interval.is_some());
    Some(Ratio { estimate, interval: known.then_some(Interval { estimate, low, high }) })
}

/// `0.93 [0.92–0.94]`
pub(super) fn ratio_cell(ratio: Option<Ratio>) -> Cell {
    match ratio {
        None => Cell::none(),
        Some(r) => Cell::number(r.estimate, ratio_text(&r)),
    }
}

fn ratio_text(ratio: &Ratio) -> String {
    let digits = |x: f64| if x < 0.0995 { format!("{x:.3}") } else { format!("{x:.2}") };
    match &ratio.interval {
        None => digits(ratio.estimate),
        Some(i) => format!("{} [{}–{}]", digits(ratio.estimate), digits(i.low), digits(i.high)),
    }
}

fn standings(setting: &Setting<'_>) -> Table {
    let (general, common) = common(setting);
    let row = |name: &&str| {
        let own = setting.layers.iter().filter(|l| l.figures(name).is_some()).count();
        let best = setting.layers.iter().filter(|l| l.best().is_some_and(|(m, _)| m.kernel == *name)).count();
        let mean = |of: fn(&crate::record::Figures) -> f64| {
            geometric_mean(common.iter().filter_map(|l| Some(of(l.figures(name)?))))
        };
        let everywhere = general.contains(name) && !common.is_empty();
        vec![
            Cell::text(*name),
            ratio_cell(everywhere.then(|| mean_ratio(common.iter().copied(), name)).flatten()),
            ratio_cell(mean_ratio(&setting.layers, name)),
            Cell::number(own as f64, own.to_string()),
            Cell::number(best as f64, best.to_string()),
            if everywhere {
                Cell::number(mean(|f| f.gflops), rate(mean(|f| f.gflops)))
            } else {
                Cell::none()
            },
            if everywhere {
                Cell::number(mean(|f| f.share_of_peak), percent(mean(|f| f.share_of_peak)))
            } else {
                Cell::none()
            },
        ]
    };
    let mut rows: Vec<(f64, Vec<Cell>)> = setting
        .implementations
        .iter()
        .map(|name| (mean_ratio(&setting.layers, name).map_or(0.0, |r| r.estimate), row(name)))
        .collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    Table {
        id: format!("standings-{}", setting.slug()),
        caption: format!(
            "Implementations over all layers; common: the {} that every implementation with figures for more than half of \
             the layers has",
            plural(common.len(), "layer")
        ),
        columns: vec![
            Column::text("implementation"),
            Column::number("ratio to the best, common").help("Geometric mean, with a 95 % interval"),
            Column::number("ratio to the best, own layers")
                .help("Over the layers that it takes: not comparable between rows"),
            Column::number("layers"),
            Column::number("best on"),
            Column::number("GFLOP/s, common"),
            Column::number("of peak, common"),
        ],
        rows: rows.into_iter().map(|(_, row)| row).collect(),
        ..Table::default()
    }
}

fn layers(setting: &Setting<'_>) -> Table {
    let row = |layer: &Layer<'_>| {
        let mut cells = vec![Cell::text(layer.name)];
        let Some((best, f)) = layer.best() else {
            cells.resize(8, Cell::none());
            return cells;
        };
        let second = layer.best_of(|m| m.kernel != best.kernel).map(|(m, _)| m);
        let default = layer.default().map(|(m, _)| m);
        let versus = |m| layer.ratio(m, best);
        cells.extend([
            Cell::text(&best.kernel).title(best.variant.as_deref().unwrap_or_default()),
            Cell::number(f.gflops, format!("{}{}", rate(f.gflops), if f.effective { "*" } else { "" })),
            Cell::number(f.share_of_peak, percent(f.share_of_peak)),
            second.map_or_else(Cell::none, |m| Cell::text(&m.kernel)),
            ratio_cell(second.and_then(versus)),
            default.map_or_else(Cell::none, |m| Cell::text(&m.kernel)),
            ratio_cell(default.and_then(versus)),
        ]);
        cells
    };
    let effective = setting.layers.iter().filter_map(|l| figures(l.best()?.0)).any(|f| f.effective);
    let star = "; * effective rate: fewer multiply-adds are done than counted, so that it may pass the peak";
    Table {
        id: format!("layers-{}", setting.slug()),
        caption: format!("Every layer{}", if effective { star } else { "" }),
        columns: vec![
            Column::text("layer"),
            Column::text("best"),
            Column::number("GFLOP/s"),
            Column::number("of peak"),
            Column::text("second"),
            Column::number("to the best").help("Rate of the second relative to the best"),
            Column::text("planner's choice").help("Among the measured kernels"),
            Column::number("choice to the best").help("Rate of the planner's choice relative to the best"),
        ],
        rows: setting.layers.iter().map(row).collect(),
        ..Table::default()
    }
}
