//! How far the figures can be trusted: dirty blocks, and identical code against itself.

use crate::format::percent;
use crate::measure::Stopped;
use crate::report::plot;
use crate::report::section::{Block, Section};
use crate::report::study::{Layer, Setting, Study};
use crate::report::table::{Cell, Column, Table};
use crate::statistics::median;

pub(super) fn section(study: &Study<'_>) -> Section {
    let mut blocks = vec![
        Block::Text(
            "A block of runs during which the scheduler took the processor away is dirty, and does not count; where fewer than \
             30 % are clean, all count, and the figures say so. In every sitting the planner's choice is measured twice, as if \
             it were two kernels: how far its ratio to itself is from 1 is the noise. The noise floor is the root mean square \
             of that over the layers; a difference counts as one from 1 %, or twice the noise floor where that is more."
                .into(),
        ),
        Block::Table(overview(study)),
    ];
    for setting in &study.settings {
        let table = layers(setting);
        if !table.rows.is_empty() {
            blocks
                .push(Block::Fold(format!("Layer by layer: {}", setting.title()), vec![Block::Table(table)]));
        }
    }
    Section { id: "noise".into(), title: "Noise".into(), blocks }
}

fn overview(study: &Study<'_>) -> Table {
    let row = |setting: &Setting<'_>| {
        let all = || setting.layers.iter().flat_map(|l| l.measured()).map(|(_, f)| f);
        let clean: Vec<f64> = all().filter(|f| f.stopped != Stopped::Once).map(|f| f.clean_share).collect();
        let number = |n: usize| Cell::number(n as f64, n.to_string());
        let mut cells = vec![Cell::text(setting.title())];
        cells.push(
            setting.noise_floor().map_or_else(Cell::none, |x| Cell::number(x, format!("{:.2} %", 100.0 * x))),
        );
        cells.push(Cell::number(setting.band(), format!("± {:.2} %", 100.0 * setting.band())));
        if clean.is_empty() {
            cells.extend([Cell::none(), Cell::none()]);
        } else {
            let worst = clean.iter().copied().fold(1.0, f64::min);
            cells
                .extend([median(&clean), worst].map(|share| Cell::number(1.0 - share, percent(1.0 - share))));
        }
        cells.push(number(all().filter(|f| f.uses_dirty).count()));
        cells.push(number(all().filter(|f| f.stopped == Stopped::Precise).count()));
        cells.push(number(all().filter(|f| f.stopped == Stopped::Budget).count()));
        cells.push(number(all().filter(|f| f.stopped == Stopped::Once).count()));
        cells
    };
    Table {
        id: "noise-overview".into(),
        caption: "Noise of every setting".into(),
        columns: vec![
            Column::text("setting"),
            Column::number("noise floor"),
            Column::number("no difference within").help("Smaller differences count as none"),
            Column::number("dirty, median").help("Part of the blocks"),
            Column::number("dirty, worst"),
            Column::number("from dirty blocks").help("Figures for which too few blocks were clean"),
            Column::number("precise").help("Rounds ended because every ratio was known well enough"),
            Column::number("out of time").help("Rounds ended with the budget"),
            Column::number("run once").help("Too slow for rounds"),
        ],
        rows: study.settings.iter().map(row).collect(),
        ..Table::default()
    }
}

fn layers(setting: &Setting<'_>) -> Table {
    let row = |layer: &Layer<'_>| {
        let (m, f) = layer.default()?;
        let [estimate, low, high] = f.ratio_to_itself?;
        let dirty = 1.0 - f.clean_share;
        Some(vec![
            Cell::text(layer.name),
            Cell::text(&m.kernel),
            Cell::number((estimate - 1.0).abs(), format!("{estimate:.3} [{low:.3}–{high:.3}]"))
                .picture(plot::strip_around_one([estimate, low, high], 2.0 * setting.band())),
            Cell::number(dirty, percent(dirty)).picture(plot::bars(&[dirty], 1.0)),
            Cell::number(f.blocks as f64, f.blocks.to_string()),
            Cell::number(f.runs as f64, f.runs.to_string()),
            Cell::number(f.faults as f64, f.faults.to_string()),
        ])
    };
    Table {
        id: format!("noise-{}", setting.slug()),
        caption: format!(
            "Identical code against itself; the strip ends at ± {:.1} %",
            200.0 * setting.band()
        ),
        columns: vec![
            Column::text("layer"),
            Column::text("planner's choice"),
            Column::number("ratio to itself").help("Sorted by the distance from 1"),
            Column::number("dirty blocks"),
            Column::number("blocks"),
            Column::number("runs"),
            Column::number("page faults"),
        ],
        rows: setting.layers.iter().filter_map(row).collect(),
        ..Table::default()
    }
}
