//! A table, once: for a page (it sorts there) and for Markdown.

use maud::{Markup, html};

use crate::output;

/// Columns, rows, and lines below that stay where they are.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Names it in links and markers.
    pub id: String,
    /// What it shows.
    pub caption: String,
    /// One for each cell of a row.
    pub columns: Vec<Column>,
    /// Sortable.
    pub rows: Vec<Vec<Cell>>,
    /// Means and the like: not sorted.
    pub foot: Vec<Vec<Cell>>,
    /// Further classes on the page.
    pub class: &'static str,
}

/// Head of a column.
#[derive(Debug, Clone)]
pub struct Column {
    title: String,
    help: &'static str,
    number: bool,
}

impl Column {
    /// Of words, to the left.
    pub fn text(title: impl Into<String>) -> Self {
        Self { title: title.into(), help: "", number: false }
    }

    /// Of numbers, to the right.
    pub fn number(title: impl Into<String>) -> Self {
        Self { title: title.into(), help: "", number: true }
    }

    /// Says more on hover.
    pub fn help(self, help: &'static str) -> Self {
        Self { help, ..self }
    }
}

/// One cell.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    text: String,
    value: Option<f64>,
    title: String,
    class: &'static str,
    picture: Option<Markup>,
}

impl Cell {
    /// Words, sorted as such.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// A number as it is shown, and by which it is sorted.
    pub fn number(value: f64, text: impl Into<String>) -> Self {
        Self { text: text.into(), value: value.is_finite().then_some(value), ..Self::default() }
    }

    /// Nothing to show; sorted last.
    pub fn none() -> Self {
        Self::text("–").class("none")
    }

    /// Says more on hover.
    pub fn title(self, title: impl Into<String>) -> Self {
        Self { title: title.into(), ..self }
    }

    /// Its look on the page.
    pub fn class(self, class: &'static str) -> Self {
        Self { class, ..self }
    }

    /// Drawn on the page below the text; Markdown has the text alone.
    pub fn picture(self, picture: Markup) -> Self {
        Self { picture: Some(picture), ..self }
    }
}

impl Table {
    /// For a terminal, where the first column names the rows and the others are figures.
    pub fn plain(&self) -> String {
        let head: Vec<&str> = self.columns.iter().map(|column| column.title.as_str()).collect();
        let mut table = output::table(&head, 1);
        table.add_rows(self.rows.iter().chain(&self.foot).map(|row| row.iter().map(|cell| &cell.text)));
        output::render(&table)
    }

    /// As GitHub renders it.
    pub fn markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let row = |row: &Vec<Cell>| line(row.iter().map(|cell| escaped(&cell.text)).collect());
        let mut text = line(self.columns.iter().map(|c| escaped(&c.title)).collect());
        text += &format!(
            "|{}|\n",
            self.columns.iter().map(|c| if c.number { "--:" } else { "---" }).collect::<Vec<_>>().join("|")
        );
        text.extend(self.rows.iter().chain(&self.foot).map(row));
        text
    }

    /// For the page. The box around it scrolls, the page does not; its caption stays.
    pub fn html(&self) -> Markup {
        html! {
            p.caption aria-hidden="true" { (self.caption) }
            div.scroll tabindex="0" role="region" aria-label=(self.caption) {
                table.(self.class) id=[(!self.id.is_empty()).then_some(&self.id)] {
                    thead { tr {
                        @for column in &self.columns {
                            th.n[column.number] scope="col" title=[(!column.help.is_empty()).then_some(column.help)] {
                                button type="button" { span { (column.title) } }
                            }
                        }
                    } }
                    tbody { @for row in &self.rows { tr { (self.cells(row)) } } }
                    @if !self.foot.is_empty() {
                        tfoot { @for row in &self.foot { tr { (self.cells(row)) } } }
                    }
                }
            }
        }
    }

    fn cells(&self, row: &[Cell]) -> Markup {
        html! {
            @for (i, (cell, column)) in row.iter().zip(&self.columns).enumerate() {
                @let title = (!cell.title.is_empty()).then_some(&cell.title);
                @if i == 0 {
                    th scope="row" title=[title] { (cell.text) }
                } @else {
                    td class=[class(column.number, cell.class)] data-v=[cell.value] title=[title] {
                        (cell.text)
                        @if let Some(picture) = &cell.picture { (picture) }
                    }
                }
            }
        }
    }
}

/// The classes of a cell.
fn class(number: bool, own: &str) -> Option<String> {
    let all: Vec<&str> = [own, if number { "n" } else { "" }].into_iter().filter(|c| !c.is_empty()).collect();
    (!all.is_empty()).then(|| all.join(" "))
}

/// What Markdown would take for a mark.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '*' | '_' | '`' | '<' | '\\' => out.extend(['\\', c]),
            '\n' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table {
            id: "t".into(),
            caption: "a <caption>".into(),
            columns: vec![Column::text("name"), Column::number("rate").help("per second")],
            rows: vec![
                vec![Cell::text("a_b|c"), Cell::number(1.5, "1.50*").title("say \"why\"")],
                vec![Cell::text("d"), Cell::none()],
            ],
            foot: vec![vec![Cell::text("mean"), Cell::number(f64::NAN, "?")]],
            class: "",
        }
    }

    #[test]
    fn markdown_marks_are_escaped() {
        let expected = "| name | rate |\n|---|--:|\n| a\\_b\\|c | 1.50\\* |\n| d | – |\n| mean | ? |\n";
        assert_eq!(table().markdown(), expected);
    }

    #[test]
    fn a_terminal_gets_columns() {
        assert_eq!(table().plain(), "name    rate\na_b|c  1.50*\nd          –\nmean       ?\n");
    }

    #[test]
    fn the_page_can_sort_and_nothing_breaks_out() {
        let html = table().html().into_string();
        assert!(
            html.contains("<td class=\"n\" data-v=\"1.5\" title=\"say &quot;why&quot;\">1.50*</td>"),
            "{html}"
        );
        assert!(html.contains(">a &lt;caption&gt;</p>"), "{html}");
        assert!(html.contains("<tfoot>") && !html.contains("NaN"), "{html}");
        assert!(html.contains("<td class=\"none n\">–</td>"), "{html}");
        assert_eq!(html.matches("<button").count(), 2);
    }
}
