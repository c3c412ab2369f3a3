//! What more threads bring: each layer with n threads against one.

use maud::{Markup, html};

use crate::format::{count, time};
use crate::report::plot::{self, Frame};
use crate::report::section::{Block, Section};
use crate::report::study::{Layer, Setting, Study};
use crate::report::table::{Cell, Column, Table};
use crate::statistics::geometric_mean;

const SIZE: (f64, f64) = (860.0, 380.0);

pub(super) fn section(study: &Study<'_>) -> Section {
    let mut blocks = Vec::new();
    for one in study.settings.iter().filter(|s| s.key.threads == 1) {
        for many in study.by_threads(one).into_iter().filter(|s| s.key.threads > 1) {
            let pairs = pairs(one, many);
            if pairs.is_empty() {
                continue;
            }
            blocks.push(Block::Heading(many.title()));
            blocks.extend(chart(many, &pairs).map(Block::Picture));
            blocks.push(Block::Table(table(many, &pairs)));
        }
    }
    if !blocks.is_empty() {
        let words = "Time with one thread over time with several, of the fastest implementation of each. The two may come \
                     from different runs: differences near the noise floor mean nothing here.";
        blocks.insert(0, Block::Text(words.into()));
    }
    Section { id: "scaling".into(), title: "Thread scaling".into(), blocks }
}

/// A layer in both settings, and the median times of the fastest in each.
struct Pair<'s> {
    layer: &'s Layer<'s>,
    one: (&'s str, f64),
    many: (&'s str, f64),
}

impl Pair<'_> {
    fn speedup(&self) -> f64 {
        self.one.1 / self.many.1
    }
}

fn pairs<'s>(one: &'s Setting<'_>, many: &'s Setting<'_>) -> Vec<Pair<'s>> {
    let fastest = |l: &'s Layer<'_>| l.best().map(|(m, f)| (m.kernel.as_str(), f.median_ns));
    let both = |layer: &'s Layer<'s>| {
        let (slow, quick) = (fastest(layer)?, fastest(many.layer(layer.name)?)?);
        Some(Pair { layer, one: slow, many: quick })
    };
    one.layers.iter().filter_map(both).collect()
}

fn chart(many: &Setting<'_>, pairs: &[Pair<'_>]) -> Option<Markup> {
    let threads = many.key.threads as f64;
    let flops = || pairs.iter().map(|p| p.layer.flops());
    let (least, most) = (flops().reduce(f64::min)?, flops().reduce(f64::max)?);
    let highest = pairs.iter().map(Pair::speedup).fold(threads, f64::max);
    let frame =
        Frame::new(SIZE, ((least / 1e6 / 2.0, most / 1e6 * 2.0), true), ((0.0, highest + 0.4), false));
    let (left, right) = frame.x.at;
    let content = html! {
        (plot::line("roof", [left, frame.y.to(threads)], [right, frame.y.to(threads)]))
        text.roofname x=(plot::c(right)) y=(plot::c(frame.y.to(threads) - 6.0)) text-anchor="end" { "all threads at full speed" }
        (plot::line("axis", [left, frame.y.to(1.0)], [right, frame.y.to(1.0)]))
        @for pair in pairs {
            @let words = format!("{}: {:.2}", pair.layer.name, pair.speedup());
            (plot::marker(0, "best", [frame.x.to(pair.layer.flops() / 1e6), frame.y.to(pair.speedup())], Some(&words)))
        }
    };
    let title = format!("Speed-up over one thread by the work of the layer, {}", many.title());
    Some(
        html! { figure { (frame.draw(&title, ["MFLOP of the layer", "speed-up over one thread"], &content)) } },
    )
}

fn table(many: &Setting<'_>, pairs: &[Pair<'_>]) -> Table {
    let row = |pair: &Pair<'_>| {
        let (layer, speedup) = (pair.layer, pair.speedup());
        vec![
            Cell::text(layer.name),
            Cell::number(layer.flops(), count(layer.flops())),
            Cell::text(pair.one.0),
            Cell::number(pair.one.1, time(pair.one.1)),
            Cell::text(pair.many.0),
            Cell::number(pair.many.1, time(pair.many.1)),
            Cell::number(speedup, format!("{speedup:.2}")),
        ]
    };
    let mean = geometric_mean(pairs.iter().map(Pair::speedup));
    let mut foot = vec![Cell::text("geometric mean")];
    foot.resize(6, Cell::text(""));
    foot.push(Cell::number(mean, format!("{mean:.2}")));
    let threads = many.key.threads;
    Table {
        id: format!("scaling-{}", many.slug()),
        caption: format!("One thread and {threads}"),
        columns: vec![
            Column::text("layer"),
            Column::number("FLOP"),
            Column::text("fastest, 1 thread"),
            Column::number("median, 1 thread"),
            Column::text(format!("fastest, {threads} threads")),
            Column::number(format!("median, {threads} threads")),
            Column::number("speed-up"),
        ],
        rows: pairs.iter().map(row).collect(),
        foot: vec![foot],
        ..Table::default()
    }
}
