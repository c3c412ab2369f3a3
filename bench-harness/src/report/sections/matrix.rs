//! The matrix W of d2l 14.10.3 as a picture, beside the kernel that multiplies by it.

use maud::{Markup, html};
use tconv::reference::weight_matrix::{non_zeros, transposed_bytes, weight_matrix};
use tconv::{Descriptor, Error, Geometry, Weights};

use super::heat::shade;
use super::rank::ratio_cell;
use crate::format::{bytes, count, plural, rate};
use crate::record::Outcome;
use crate::report::plot;
use crate::report::section::{Block, Section};
use crate::report::study::{Layer, Setting, Study};
use crate::report::table::{Cell, Column, Table};

const SPARSE: &str = "sparse-csr";
/// Kernel 2 × 2 on 2 × 2 inputs: 3 × 3 outputs.
const EXAMPLE: &str = "f32:nchw:1x1x2x2:o1:k2x2";
const EXAMPLE_KERNEL: [f32; 4] = [1.0, 2.0, 3.0, 4.0];
/// The largest matrix that is built for a picture.
const MOST_ENTRIES: u128 = 4_000_000;
/// Cells of a density map along its longer side, at most.
const CELLS: usize = 96;

pub(super) fn section(study: &Study<'_>) -> Result<Section, Error> {
    let mut blocks = vec![
        Block::Text(
            "A transposed convolution is the product Wᵀ·x of a sparse matrix and the input as one column. W has a row for each \
             input and a column for each output; the convolution that this one transposes is W·z."
                .into(),
        ),
        Block::Heading("Kernel 2 × 2 on 2 × 2 inputs, as in d2l 14.10.3".into()),
        example()?,
    ];
    let sparse: Vec<&Setting<'_>> =
        study.settings.iter().filter(|s| s.implementations.contains(&SPARSE)).collect();
    let layers = sparse.iter().flat_map(|s| &s.layers);
    let largest = layers
        .filter(|l| non_zeros(&l.geometry) <= MOST_ENTRIES)
        .reduce(|a, b| if non_zeros(&b.geometry) > non_zeros(&a.geometry) { b } else { a });
    if let Some(layer) = largest {
        blocks.push(Block::Heading(format!("{} ({})", layer.name, layer.descriptor)));
        blocks.push(density(&layer.geometry)?);
    }
    for setting in sparse {
        blocks.push(Block::Heading(format!("The kernel {SPARSE}: {}", setting.title())));
        blocks.push(Block::Table(table(setting)));
    }
    Ok(Section { id: "matrix".into(), title: "The matrix W".into(), blocks })
}

/// Entries by row: column and value.
type Rows = Vec<Vec<(usize, f32)>>;

/// W and its transpose, with their width.
fn matrices(geometry: &Geometry, kernel: &[f32]) -> Result<[(Rows, usize); 2], Error> {
    let w = weight_matrix::<f32>(geometry, Weights::new(kernel))?;
    let rows: Rows = w.outer_iterator().map(|row| row.iter().map(|(at, &v)| (at, v)).collect()).collect();
    let mut transposed = vec![Vec::new(); w.cols()];
    for (i, row) in rows.iter().enumerate() {
        row.iter().for_each(|&(at, value)| transposed[at].push((i, value)));
    }
    let height = rows.len();
    Ok([(rows, w.cols()), (transposed, height)])
}

/// Exactly: where entries are, and what they are.
fn example() -> Result<Block, Error> {
    let descriptor: Descriptor = EXAMPLE.parse()?;
    let [w, transposed] = matrices(&Geometry::new(&descriptor.problem)?, &EXAMPLE_KERNEL)?;
    let size = |(rows, width): &(Rows, usize)| format!("{} × {width}", rows.len());
    Ok(Block::Picture(html! {
        p { "The kernel is ((1, 2), (3, 4)). Left: where W and Wᵀ have entries; right: the entries." }
        div.matrices {
            @for (name, matrix) in [("W", &w), ("Wᵀ", &transposed)] {
                (picture(&format!("Spy plot of {name}"), &format!("{name}, {}: entries", size(matrix)), matrix, false))
                (picture(&format!("Heat map of {name}"), &format!("{name}, {}: values", size(matrix)), matrix, true))
            }
        }
    }))
}

/// Dots where entries are, or shaded cells with their values.
fn picture(title: &str, caption: &str, (rows, width): &(Rows, usize), values: bool) -> Markup {
    const CELL: f64 = 24.0;
    let most = rows.iter().flatten().fold(0.0f32, |most, &(_, v)| most.max(v.abs()));
    let (right, bottom) = (*width as f64 * CELL, rows.len() as f64 * CELL);
    html! {
        figure {
            svg.matrix viewBox=(format!("-1 -1 {} {}", right + 2.0, bottom + 2.0)) width=(right + 2.0) role="img" aria-label=(title) {
                @for (i, row) in rows.iter().enumerate() { @for &(at, value) in row {
                    @let (x, y) = (at as f64 * CELL, i as f64 * CELL);
                    @if values {
                        rect class=(shade(f64::from(value.abs() / most))) x=(x) y=(y) width=(CELL) height=(CELL) {}
                        text class=(shade(f64::from(value.abs() / most))) x=(x + CELL / 2.0) y=(y + CELL / 2.0 + 5.0) text-anchor="middle" { (value) }
                    } @else {
                        rect.dot x=(x + 5.0) y=(y + 5.0) width=(CELL - 10.0) height=(CELL - 10.0) {}
                    }
                } }
                @for i in 0..=*width { (plot::line("grid", [i as f64 * CELL, 0.0], [i as f64 * CELL, bottom])) }
                @for i in 0..=rows.len() { (plot::line("grid", [0.0, i as f64 * CELL], [right, i as f64 * CELL])) }
            }
            figcaption { (caption) }
        }
    }
}

/// For a matrix that no screen can show: the part of each cell that has entries.
fn density(geometry: &Geometry) -> Result<Block, Error> {
    let [w, transposed] = matrices(geometry, &vec![1.0; geometry.weight_len()])?;
    let caption = |name: &str, (rows, width): &(Rows, usize)| {
        let entries = rows.iter().map(Vec::len).sum::<usize>() as f64;
        let part = entries / (rows.len() as f64 * *width as f64);
        format!("{name}: {} × {width}, {} entries, {:.3} %", rows.len(), count(entries), 100.0 * part)
    };
    Ok(Block::Picture(html! {
        p { "Density: the darker a cell, the more of it is entries, relative to the fullest cell." }
        div.matrices { @for (name, matrix) in [("W", &w), ("Wᵀ", &transposed)] {
            figure {
                (density_map(&format!("Density map of {name}"), matrix))
                figcaption { (caption(name, matrix)) }
            }
        } }
    }))
}

fn density_map(title: &str, (rows, width): &(Rows, usize)) -> Markup {
    const CELL: usize = 4;
    let height = rows.len();
    // Cells of a power of two of entries: most planes are multiples of these, so that no false pattern arises.
    let side = height.max(*width).div_ceil(CELLS).next_power_of_two();
    let (across, down) = (width.div_ceil(side), height.div_ceil(side));
    let mut counts = vec![0usize; across * down];
    for (i, row) in rows.iter().enumerate() {
        row.iter().for_each(|&(at, _)| counts[i / side * across + at / side] += 1);
    }
    let most = counts.iter().copied().max().unwrap_or(1).max(1);
    // One path for each shade.
    let mut shades: Vec<(&str, String)> = Vec::new();
    for (i, &found) in counts.iter().enumerate().filter(|(_, found)| **found > 0) {
        let class = shade(found as f64 / most as f64);
        let square = format!("M{} {}h{CELL}v{CELL}h-{CELL}z", i % across * CELL, i / across * CELL);
        match shades.iter_mut().find(|(known, _)| *known == class) {
            Some((_, path)) => path.push_str(&square),
            None => shades.push((class, square)),
        }
    }
    let (right, bottom) = (across * CELL, down * CELL);
    html! {
        svg.matrix viewBox=(format!("-1 -1 {} {}", right + 2, bottom + 2)) width=(right + 2) role="img" aria-label=(title) {
            rect.frame x="0" y="0" width=(right) height=(bottom) {}
            @for (class, path) in shades { path class=(class) d=(path) {} }
        }
    }
}

fn table(setting: &Setting<'_>) -> Table {
    let row = |layer: &Layer<'_>| {
        let (g, p) = (&layer.geometry, layer.geometry.problem());
        let (rows, columns) = (p.in_channels() * g.input_plane(), p.out_channels() * g.output_plane());
        let entries = non_zeros(g) as f64;
        let density = entries / (rows as f64 * columns as f64);
        let mut cells = vec![
            Cell::text(layer.name),
            Cell::number(rows as f64, format!("{rows} × {columns}")),
            Cell::number(entries, count(entries)),
            Cell::number(density, format!("{:.3} %", 100.0 * density)),
            match transposed_bytes(g, layer.descriptor.dtype.size(), 4) {
                Ok(size) => Cell::number(size as f64, bytes(size as f64)),
                Err(_) => Cell::text("over the limit"),
            },
        ];
        let entry = layer.entry(SPARSE);
        match entry.map(|m| &m.outcome) {
            Some(Outcome::Figures(f)) => {
                cells.push(Cell::number(f.gflops, rate(f.gflops)));
                cells.push(ratio_cell(entry.and_then(|m| layer.to_best(m))));
            }
            Some(Outcome::Declined { .. }) => cells.extend([Cell::text("declined"), Cell::none()]),
            Some(Outcome::Skipped { .. }) => cells.extend([Cell::text("skipped"), Cell::none()]),
            _ => cells.extend([Cell::none(), Cell::none()]),
        }
        cells
    };
    Table {
        id: format!("matrix-{}", setting.slug()),
        caption: format!("W of one image, for {}", plural(setting.layers.len(), "layer")),
        columns: vec![
            Column::text("layer"),
            Column::number("W").help("Rows: inputs; columns: outputs"),
            Column::number("entries"),
            Column::number("density"),
            Column::number("memory of Wᵀ").help("Compressed rows, indices of 32 bits"),
            Column::number("GFLOP/s"),
            Column::number("ratio to the best"),
        ],
        rows: setting.layers.iter().map(row).collect(),
        ..Table::default()
    }
}
