//! Who is how fast: over all layers, and on each.

use crate::format::{percent, plural, rate};
use crate::record::{Figures, Measurement};
use crate::report::section::{Block, Section};
use crate::report::study::{Layer, Ratio, Setting, Study};
use crate::report::table::{Cell, Column, Table};
use crate::statistics::{Interval, geometric_mean, geometric_mean_ratio, verdicts};

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
        if setting.has_peers() {
            blocks.push(Block::Table(peers(setting)));
        }
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

/// The geometric mean of an implementation's ratio to the best of each layer, with an interval by a bootstrap of two levels
/// where all layers had rounds.
fn mean_ratio<'s, 'a: 's>(layers: impl IntoIterator<Item = &'s Layer<'a>>, name: &str) -> Option<Mean> {
    let found = layers.into_iter().filter_map(|l| Some((l.to_best(l.entry(name)?)?, l.run.header.seed)));
    let (ratios, seeds): (Vec<&Ratio>, Vec<u64>) = found.unzip();
    let seed = *seeds.first()?;
    let measured: Option<Vec<_>> = ratios.iter().map(|r| r.measured.as_ref()).collect();
    let interval = measured.and_then(|all| geometric_mean_ratio(&all, seed));
    Some(Mean { estimate: geometric_mean(ratios.iter().map(|r| r.estimate)), interval })
}

/// A mean of ratios.
struct Mean {
    estimate: f64,
    interval: Option<Interval>,
}

/// `0.93 [0.92–0.94]`
pub(super) fn ratio_cell(ratio: Option<&Ratio>) -> Cell {
    ratio.map_or_else(Cell::none, |r| interval_cell(r.estimate, r.interval()))
}

fn mean_cell(mean: Option<Mean>) -> Cell {
    mean.map_or_else(Cell::none, |m| interval_cell(m.estimate, m.interval))
}

fn interval_cell(estimate: f64, interval: Option<Interval>) -> Cell {
    let digits = |x: f64| if x < 0.0995 { format!("{x:.3}") } else { format!("{x:.2}") };
    // What is compared with itself has no width.
    let text = match interval.filter(|i| i.low < i.high) {
        None => digits(estimate),
        Some(i) => format!("{} [{}–{}]", digits(estimate), digits(i.low), digits(i.high)),
    };
    Cell::number(estimate, text)
}

/// Every implementation over all layers.
pub fn standings(setting: &Setting<'_>) -> Table {
    let (general, common) = common(setting);
    let row = |name: &&str| {
        let own = setting.layers.iter().filter(|l| l.figures(name).is_some()).count();
        let best = setting.layers.iter().filter(|l| l.best().is_some_and(|(m, _)| m.kernel == *name)).count();
        let mean = |of: fn(&Figures) -> f64| {
            geometric_mean(common.iter().filter_map(|l| Some(of(l.figures(name)?))))
        };
        let everywhere = general.contains(name) && !common.is_empty();
        vec![
            Cell::text(*name),
            mean_cell(everywhere.then(|| mean_ratio(common.iter().copied(), name)).flatten()),
            mean_cell(mean_ratio(&setting.layers, name)),
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
             the layers has{}",
            plural(common.len(), "layer"),
            means_note(setting)
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

/// For a caption: why a rate may lie above the peak, where one of these is effective.
pub(super) fn effective_note<'f>(figures: impl IntoIterator<Item = &'f Figures>) -> &'static str {
    match figures.into_iter().any(|f| f.effective) {
        true => "; * effective rate: fewer multiply-adds are done than counted, so that it may pass the peak",
        false => "",
    }
}

/// The same where means hide which.
pub(super) fn means_note(setting: &Setting<'_>) -> &'static str {
    match setting.layers.iter().flat_map(Layer::measured).any(|(_, f)| f.effective) {
        true => {
            "; some rates are effective (fewer multiply-adds are done than counted), so that a mean may pass the peak"
        }
        false => "",
    }
}

/// A rate, marked where it is effective.
pub(super) fn rate_cell(f: &Figures) -> Cell {
    Cell::number(f.gflops, rate(f.gflops) + f.mark())
}

fn layers(setting: &Setting<'_>) -> Table {
    let row = |layer: &Layer<'_>| {
        let mut cells = vec![Cell::text(layer.name)];
        let Some((best, f)) = layer.best() else {
            cells.resize(10, Cell::none());
            return cells;
        };
        let second = layer.best_of(|m| m.kernel != best.kernel).map(|(m, _)| m);
        let default = layer.default().map(|(m, _)| m);
        let versus = |m| layer.to_best(m);
        cells.extend([
            Cell::text(&best.kernel).title(best.variant.as_deref().unwrap_or_default()),
            rate_cell(f),
            Cell::number(f.share_of_peak, percent(f.share_of_peak)),
            f.done_gflops().map_or_else(Cell::none, |r| Cell::number(r, rate(r))),
            Cell::number(layer.bytes() / f.median_ns, rate(layer.bytes() / f.median_ns)),
            second.map_or_else(Cell::none, |m| Cell::text(&m.kernel)),
            ratio_cell(second.and_then(versus)),
            default.map_or_else(Cell::none, |m| Cell::text(&m.kernel)),
            ratio_cell(default.and_then(versus)),
        ]);
        cells
    };
    Table {
        id: format!("layers-{}", setting.slug()),
        caption: format!(
            "Every layer{}",
            effective_note(setting.layers.iter().filter_map(|l| Some(l.best()?.1)))
        ),
        columns: vec![
            Column::text("layer"),
            Column::text("best"),
            Column::number("GFLOP/s"),
            Column::number("of peak"),
            Column::number("done, GFLOP/s")
                .help("Of the multiply-adds really done: never above the peak; peers do not tell"),
            Column::number("GB/s").help("Input, weights and output, moved once, by the time of a run"),
            Column::text("second"),
            Column::number("to the best").help("Rate of the second relative to the best"),
            Column::text("planner's choice").help("Among the measured kernels"),
            Column::number("choice to the best").help("Rate of the planner's choice relative to the best"),
        ],
        rows: setting.layers.iter().map(row).collect(),
        ..Table::default()
    }
}

/// Our best kernel against the best peer, layer by layer; verdicts by Benjamini and Hochberg over all of them.
fn peers(setting: &Setting<'_>) -> Table {
    let pairs: Vec<_> = setting
        .layers
        .iter()
        .filter_map(|l| Some((l, l.best_of(|m| m.peer.is_none())?, l.best_of(|m| m.peer.is_some())?)))
        .collect();
    // Verdicts are about times: the other way round.
    let invert = |i: Interval| Interval { estimate: 1.0 / i.estimate, low: 1.0 / i.high, high: 1.0 / i.low };
    let known: Vec<(&str, Interval)> =
        pairs.iter().filter_map(|(l, ..)| Some((l.name, invert(l.to_best_peer()?.interval()?)))).collect();
    let judged = verdicts(
        &known.iter().map(|(_, interval)| *interval).collect::<Vec<_>>(),
        setting.noise_floor().unwrap_or(0.0),
    );
    let verdict = |name: &str| {
        let at = known.iter().position(|(known, _)| *known == name);
        at.map_or_else(Cell::none, |i| Cell::text(judged[i].to_string()))
    };
    let row = |(layer, (ours, f), (peer, g)): &(&Layer<'_>, Found<'_>, Found<'_>)| {
        vec![
            Cell::text(layer.name),
            Cell::text(&ours.kernel),
            rate_cell(f),
            Cell::text(&peer.kernel)
                .title(peer.peer.as_ref().and_then(|p| p.version.clone()).unwrap_or_default()),
            Cell::number(g.gflops, rate(g.gflops)),
            ratio_cell(layer.to_best_peer()),
            verdict(layer.name),
        ]
    };
    Table {
        id: format!("peers-{}", setting.slug()),
        caption: format!(
            "Our best kernel and the best peer{}",
            effective_note(pairs.iter().map(|(_, (_, f), _)| *f))
        ),
        columns: vec![
            Column::text("layer"),
            Column::text("ours"),
            Column::number("GFLOP/s, ours"),
            Column::text("peer"),
            Column::number("GFLOP/s, peer"),
            Column::number("ours to the peer").help("Ratio of rates: above 1 ours is faster"),
            Column::text("ours is"),
        ],
        rows: pairs.iter().map(row).collect(),
        ..Table::default()
    }
}

/// A measurement and its figures.
type Found<'a> = (&'a Measurement, &'a Figures);
