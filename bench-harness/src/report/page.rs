//! The whole report: one HTML file that needs nothing else, and the same tables as Markdown.

use maud::{DOCTYPE, PreEscaped, html};

use super::section::Section;
use super::study::Study;
use crate::format::plural;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
const TITLE: &str = "Transposed convolutions: a measured comparison";

/// One file without any reference to another.
pub fn html(study: &Study<'_>, sections: &[Section]) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (TITLE) }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (TITLE) }
                    p.origin { (origin(study)) }
                }
                nav aria-label="Sections" {
                    @for section in sections { a href=(format!("#{}", section.id)) { (section.title) } }
                }
                main { @for section in sections { (section.html()) } }
                footer { p { "Made by tconv " (env!("CARGO_PKG_VERSION")) " from recorded runs; nothing in it was typed by hand." } }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string() + "\n"
}

/// The same without pictures.
pub fn markdown(study: &Study<'_>, sections: &[Section]) -> String {
    let mut text = format!("# {TITLE}\n\n{}\n\n", origin(study));
    text.extend(sections.iter().map(|section| section.markdown(2)));
    text.trim_end().to_owned() + "\n"
}

/// What a marker of this name stands for: a section, or one of its tables. With the commands and the machine.
pub fn part(study: &Study<'_>, sections: &[Section], name: &str) -> Option<String> {
    let content = match sections.iter().find(|s| s.id == name) {
        Some(section) => section.content(3),
        None => {
            let table = sections.iter().flat_map(Section::tables).find(|t| t.id == name)?;
            format!("{}\n\n{}", table.caption, table.markdown())
        }
    };
    Some(format!("{}\n\n{content}", origin(study)))
}

/// Every name that [`part`] knows.
pub fn parts(sections: &[Section]) -> Vec<String> {
    let tables = sections.iter().flat_map(Section::tables).map(|t| t.id.clone());
    sections.iter().map(|s| s.id.clone()).chain(tables).filter(|id| !id.is_empty()).collect()
}

/// The commands and the machines behind everything; commands that differ in numbers or files are told by the first.
fn origin(study: &Study<'_>) -> String {
    let mut machines: Vec<String> = study.runs.iter().map(|run| run.header.machine.to_string()).collect();
    machines.dedup();
    let command = study.runs.first().map_or("", |run| run.header.command.as_str());
    let more = match study.runs.len() {
        0 | 1 => String::new(),
        n => format!(" and {} more (see the table of runs)", plural(n - 1, "run")),
    };
    format!("From {command}{more}, on {}.", machines.join(", "))
}
