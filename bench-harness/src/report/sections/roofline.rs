//! Every measurement under the measured roofs of its machine.

use maud::{Markup, html};

use crate::format::{bytes, count, percent, plural, rate};
use crate::machine::{Bandwidth, Peak};
use crate::record::{Figures, Measurement};
use crate::report::plot::{self, Frame, LOOKS};
use crate::report::section::{Block, Section};
use crate::report::study::{Layer, Setting, Study};
use crate::report::table::{Cell, Column, Table};
use crate::runs::RecordedRun;

const SIZE: (f64, f64) = (860.0, 470.0);

pub(super) fn section(study: &Study<'_>) -> Section {
    let mut blocks = vec![Block::Text(
        "To the right: operations for each byte of input, weights and output, which move at least once. Upwards: GFLOP/s. The \
         lines are measured on the machine of the run: the peak of multiply-adds in registers, and reading from each level of \
         memory. The best implementation of a layer is solid, the others are pale. Hollow: an effective rate: fewer \
         multiply-adds are done than the convention counts, so that it may lie above the peak."
            .into(),
    )];
    for setting in &study.settings {
        if let Some(chart) = chart(setting) {
            blocks.push(Block::Heading(setting.title()));
            blocks.push(Block::Picture(chart));
            blocks.push(Block::Table(effective(setting)));
        }
    }
    blocks.push(Block::Table(roofs(study)));
    Section { id: "roofline".into(), title: "Roofline".into(), blocks }
}

fn chart(setting: &Setting<'_>) -> Option<Markup> {
    let intensity = |layer: &Layer<'_>| layer.flops() / layer.bytes();
    let points: Vec<_> =
        setting.layers.iter().flat_map(|l| l.measured().map(move |(m, f)| (l, m, f))).collect();
    let all = &points.first()?.0.run.header.roofs.read;
    let read: Vec<&Bandwidth> = all.iter().filter(|b| b.threads == setting.key.threads).collect();
    let peak = setting.peak();
    let ridges = read.iter().map(|b| peak / b.gbytes_per_s);
    let xs: Vec<f64> = points.iter().map(|p| intensity(p.0)).chain(ridges).collect();
    let ys: Vec<f64> = points.iter().map(|p| p.2.gflops).chain([peak]).collect();
    let range = |values: &[f64], below: f64, above: f64| {
        let (low, high) =
            (values.iter().copied().reduce(f64::min)?, values.iter().copied().reduce(f64::max)?);
        (low > 0.0 && high.is_finite()).then_some((low / below, high * above))
    };
    let frame = Frame::new(SIZE, (range(&xs, 3.0, 1.5)?, true), (range(&ys, 1.5, 1.6)?, true));
    let id = format!("roof-{}", setting.slug());
    let mut series: Vec<(usize, &str)> = setting.implementations.iter().copied().enumerate().collect();
    series.retain(|(_, name)| points.iter().any(|p| p.1.kernel == **name));
    let content = html! {
        @for bandwidth in &read { (diagonal(&frame, bandwidth, peak)) }
        (plot::line("roof", [frame.x.to(peak_start(&read, peak, frame.x.values.0)), frame.y.to(peak)], [frame.x.at.1, frame.y.to(peak)]))
        text.roofname x=(plot::c(frame.x.at.1)) y=(plot::c(frame.y.to(peak) - 6.0)) text-anchor="end" {
            "peak " (rate(peak)) " GFLOP/s (" (setting.key.isa) ", " (plural(setting.key.threads, "thread")) ")"
        }
        @for &(look, name) in &series {
            g data-of=(format!("{id}-{look}")) {
                @for (layer, m, f) in points.iter().filter(|p| p.1.kernel == name) {
                    @let best = layer.best().is_some_and(|(best, _)| std::ptr::eq(best, *m));
                    @let class = match (best, f.effective) {
                        (true, false) => "best", (true, true) => "best hollow",
                        (false, false) => "pale", (false, true) => "pale hollow",
                    };
                    @let note = if f.effective { ", effective" } else { "" };
                    @let words = format!(
                        "{}, {name}: {} GFLOP/s at {} FLOP/byte{note}{}",
                        layer.name, rate(f.gflops), rate(intensity(layer)),
                        f.done_gflops().map_or(String::new(), |r| format!(", {} GFLOP/s done", rate(r)))
                    );
                    (plot::marker(look % LOOKS, class, [frame.x.to(intensity(layer)), frame.y.to(f.gflops)], Some(&words)))
                }
            }
        }
    };
    let names = read.iter().map(|b| format!("{} {} GB/s", b.level, rate(b.gbytes_per_s)));
    let names = format!("Sloping lines, reading: {}.", names.collect::<Vec<_>>().join(", "));
    let title = format!("Roofline, {}", setting.title());
    Some(html! {
        figure {
            (frame.draw(&title, ["FLOP for each byte", "GFLOP/s"], &content))
            (plot::legend(&id, &series))
            figcaption { (names) }
        }
    })
}

/// Every effective rate, with what stands behind it: arithmetic really done, bytes that move at least once.
fn effective(setting: &Setting<'_>) -> Table {
    let all = setting.layers.iter().flat_map(|l| l.measured().map(move |(m, f)| (l, m, f)));
    let row = |(layer, m, f): (&Layer<'_>, &Measurement, &Figures)| {
        let done = f.multiply_adds.map(|n| 2.0 * n);
        let cell = |value: Option<f64>, words: fn(f64) -> String| {
            value.map_or_else(Cell::none, |v| Cell::number(v, words(v)))
        };
        let best = layer.best().is_some_and(|(best, _)| std::ptr::eq(best, m));
        vec![
            Cell::text(layer.name),
            Cell::text(if best { format!("{} (best)", m.kernel) } else { m.kernel.clone() }),
            cell(Some(f.gflops), rate),
            cell(Some(f.share_of_peak), percent),
            cell(Some(layer.flops()), count),
            cell(done, count),
            cell(done.map(|done| layer.flops() / done), rate),
            cell(f.done_gflops(), rate),
            cell(f.done_gflops().map(|r| r / setting.peak()), percent),
            cell(Some(layer.bytes()), bytes),
            cell(Some(layer.bytes() / f.median_ns), rate),
        ]
    };
    Table {
        id: format!("effective-{}", setting.slug()),
        caption: "Effective rates: fewer multiply-adds are done than the convention counts, so that a rate may pass the peak; \
                  what is done never does"
            .into(),
        columns: vec![
            Column::text("layer"),
            Column::text("implementation"),
            Column::number("effective, GFLOP/s"),
            Column::number("of peak"),
            Column::number("FLOP counted").help("2·N·Cin·(Cout/groups)·∏kernel·∏input"),
            Column::number("FLOP done").help("Twice the multiply-adds that the kernel states"),
            Column::number("counted / done"),
            Column::number("done, GFLOP/s"),
            Column::number("done, of peak"),
            Column::number("bytes").help("Input, weights and output: what moves at least once"),
            Column::number("GB/s").help("These bytes by the time of a run"),
        ],
        rows: all.filter(|(_, _, f)| f.effective).map(row).collect(),
        ..Table::default()
    }
}

/// Where the first diagonal meets the peak.
fn peak_start(read: &[&Bandwidth], peak: f64, leftmost: f64) -> f64 {
    let fastest = read.iter().map(|b| b.gbytes_per_s).fold(0.0, f64::max);
    (peak / fastest).max(leftmost)
}

/// From the left or the bottom up to the peak, its name along the upper end.
fn diagonal(frame: &Frame, bandwidth: &Bandwidth, peak: f64) -> Markup {
    let speed = bandwidth.gbytes_per_s;
    let from = frame.x.values.0.max(frame.y.values.0 / speed);
    let to = peak / speed;
    if from >= to {
        return html! {};
    }
    let at = |x: f64| [frame.x.to(x), frame.y.to(x * speed)];
    let ([x1, y1], [x2, y2]) = (at(from), at(to));
    let angle = (y2 - y1).atan2(x2 - x1).to_degrees();
    let turn = format!("translate({} {}) rotate({})", plot::c(x2), plot::c(y2), plot::c(angle));
    html! {
        (plot::line("roof", [x1, y1], [x2, y2]))
        text.roofname transform=(turn) x="-8" y="-5" text-anchor="end" { (bandwidth.level) }
    }
}

fn roofs(study: &Study<'_>) -> Table {
    let mut levels: Vec<&str> = Vec::new();
    for b in study.runs.iter().flat_map(|r| &r.header.roofs.read) {
        if !levels.contains(&b.level.as_str()) {
            levels.push(&b.level);
        }
    }
    let mut columns = vec![
        Column::text("run"),
        Column::text("instruction set"),
        Column::text("type"),
        Column::number("threads"),
        Column::number("peak, GFLOP/s"),
    ];
    columns.extend(levels.iter().map(|level| Column::number(format!("{level}, GB/s"))));
    let row = |(run, p): (&RecordedRun, &Peak)| {
        let mut cells = vec![
            Cell::text(&run.source),
            Cell::text(&p.isa),
            Cell::text(&p.dtype),
            Cell::number(p.threads as f64, p.threads.to_string()),
            Cell::number(p.gflops, rate(p.gflops)),
        ];
        cells.extend(levels.iter().map(|level| {
            let read = &run.header.roofs.read;
            let found = read.iter().find(|b| b.level == **level && b.threads == p.threads);
            found.map_or_else(Cell::none, |b| Cell::number(b.gbytes_per_s, rate(b.gbytes_per_s)))
        }));
        cells
    };
    let peaks = study.runs.iter().flat_map(|run| run.header.roofs.peaks.iter().map(move |p| (run, p)));
    Table {
        id: "roofs".into(),
        caption: "Measured roofs: multiply-adds in registers, and reading from each level of memory, all threads together".into(),
        columns,
        rows: peaks.map(row).collect(),
        ..Table::default()
    }
}
