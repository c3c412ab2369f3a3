//! Every layer by itself: all implementations with their intervals, plan and execution, memory, and how to repeat it.

use crate::format::{bytes, count, percent, plural, rate, time};
use crate::report::plot;
use crate::report::section::{Block, Section};
use crate::report::study::{Layer, Setting, Study};
use crate::report::table::{Cell, Column, Table};

use super::rank::{effective_note, rate_cell, ratio_cell};

pub(super) fn section(study: &Study<'_>) -> Section {
    let mut blocks = vec![Block::Text(
        "A fold for each layer. Strip: the rate relative to the best, from 0 to 1, with its 95 % interval. Bars: making the \
         plan, weights packed (upper), and one execution (lower), on one scale for each table."
            .into(),
    )];
    let mut names: Vec<&str> = Vec::new();
    for layer in study.settings.iter().flat_map(|s| &s.layers) {
        if !names.contains(&layer.name) {
            names.push(layer.name);
        }
    }
    blocks.extend(names.into_iter().map(|name| {
        let places: Vec<(&Setting<'_>, &Layer<'_>)> =
            study.settings.iter().filter_map(|s| Some((s, s.layer(name)?))).collect();
        fold(name, &places)
    }));
    Section { id: "layers".into(), title: "Layers".into(), blocks }
}

fn fold(name: &str, places: &[(&Setting<'_>, &Layer<'_>)]) -> Block {
    let mut blocks = Vec::new();
    let mut best = String::new();
    for (i, (setting, layer)) in places.iter().enumerate() {
        if i == 0 {
            if let Some((m, f)) = layer.best() {
                best = format!(
                    ": {}, {} GFLOP/s, {} of peak",
                    m.kernel,
                    rate(f.gflops),
                    percent(f.share_of_peak)
                );
            }
            blocks.push(Block::Text(facts(layer)));
        }
        blocks.push(Block::Heading(setting.title()));
        let table = table(setting, layer);
        if !table.rows.is_empty() {
            blocks.push(Block::Table(table));
        }
        blocks.push(Block::Command(repro(setting, layer)));
    }
    Block::Fold(format!("{name}{best}"), blocks)
}

fn facts(layer: &Layer<'_>) -> String {
    let g = &layer.geometry;
    let p = g.problem();
    let output: Vec<String> = g.output()[3 - p.rank()..].iter().map(usize::to_string).collect();
    let phases: usize = g.axes().iter().map(|a| a.phases.len()).product();
    format!(
        "{}: {} of {}, {}; {} FLOP by the convention, {} useful, {} of input, weights and output; {}.",
        layer.descriptor,
        plural(p.batch(), "output image"),
        plural(p.out_channels(), "channel"),
        output.join(" × "),
        count(layer.flops()),
        count(2.0 * g.multiply_adds() as f64),
        bytes(layer.bytes()),
        plural(phases, "phase"),
    )
}

/// A command that measures the same again.
fn repro(setting: &Setting<'_>, layer: &Layer<'_>) -> String {
    format!(
        "tconv rank -w '{}' --threads {} --seed {}",
        layer.descriptor, setting.key.threads, layer.run.header.seed
    )
}

fn table(setting: &Setting<'_>, layer: &Layer<'_>) -> Table {
    let longest = layer.measured().map(|(_, f)| f.plan_ns.max(f.median_ns)).fold(0.0, f64::max);
    let mut measured: Vec<_> = layer.measured().collect();
    measured.sort_by(|a, b| b.1.gflops.total_cmp(&a.1.gflops));
    let rows = measured.into_iter().map(|(m, f)| {
        let ratio = layer.to_best(m);
        let ratio_cell = ratio_cell(ratio);
        let name = if m.default { format!("{} (planner's choice)", m.kernel) } else { m.kernel.clone() };
        vec![
            Cell::text(name),
            Cell::text(m.variant.as_deref().unwrap_or("–")),
            rate_cell(f),
            Cell::number(f.share_of_peak, percent(f.share_of_peak)),
            f.multiply_adds.map_or_else(Cell::none, |n| Cell::number(n, count(2.0 * n))),
            f.done_gflops().map_or_else(Cell::none, |r| Cell::number(r, rate(r))),
            Cell::number(layer.bytes() / f.median_ns, rate(layer.bytes() / f.median_ns)),
            match ratio {
                Some(ratio) => ratio_cell.picture(plot::strip(ratio)),
                None => ratio_cell,
            },
            Cell::number(f.plan_ns, time(f.plan_ns)).picture(plot::bars(&[f.plan_ns, f.median_ns], longest)),
            Cell::number(f.median_ns, time(f.median_ns)),
            f.one_shot_ns.map_or_else(Cell::none, |ns| Cell::number(ns, time(ns))),
            f.scratch_bytes.map_or_else(Cell::none, |b| Cell::number(b as f64, bytes(b as f64))),
            Cell::number(f.max_error_u, format!("{:.2}", f.max_error_u)),
            Cell::number(1.0 - f.clean_share, percent(1.0 - f.clean_share)),
        ]
    });
    Table {
        caption: format!(
            "{}, {}{}",
            layer.name,
            setting.title(),
            effective_note(layer.measured().map(|(_, f)| f))
        ),
        columns: vec![
            Column::text("implementation"),
            Column::text("variant"),
            Column::number("GFLOP/s"),
            Column::number("of peak"),
            Column::number("FLOP done")
                .help("Twice the multiply-adds that the kernel says it does; peers do not tell"),
            Column::number("done, GFLOP/s").help("Of the multiply-adds really done: never above the peak"),
            Column::number("GB/s").help("Input, weights and output, moved once, by the time of a run"),
            Column::number("ratio to the best"),
            Column::number("plan").help("Weights packed"),
            Column::number("execution").help("Median of one run"),
            Column::number("one shot").help("From the problem to the result where nothing was prepared"),
            Column::number("scratch"),
            Column::number("error, u")
                .help("Largest error of the outputs that were checked, in units of u·Σ|x||w|"),
            Column::number("dirty").help("Part of the blocks"),
        ],
        rows: rows.collect(),
        ..Table::default()
    }
}
