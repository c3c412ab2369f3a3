//! What a report is made of: sections of words, tables and pictures, rendered as a page and as Markdown.

use maud::{Markup, html};

use super::table::Table;

/// A part of the report that can be linked to, and spliced into a document.
#[derive(Debug)]
pub struct Section {
    /// Names it in links and markers.
    pub id: String,
    /// Its heading.
    pub title: String,
    /// In order.
    pub blocks: Vec<Block>,
}

/// One thing after another.
#[derive(Debug)]
pub enum Block {
    /// A heading inside a section.
    Heading(String),
    /// A paragraph of plain words.
    Text(String),
    /// Something to type.
    Command(String),
    /// Both renderings show it.
    Table(Table),
    /// The page shows it; Markdown shows the tables that it was drawn from.
    Picture(Markup),
    /// Closed on the page until somebody asks; printed open.
    Fold(String, Vec<Block>),
}

impl Section {
    /// For the page.
    pub fn html(&self) -> Markup {
        html! {
            section id=(self.id) {
                h2 { (self.title) }
                (page(&self.blocks))
            }
        }
    }

    /// For Markdown, headings from this level on.
    pub fn markdown(&self, level: usize) -> String {
        format!("{} {}\n\n{}", "#".repeat(level), self.title, markdown(&self.blocks, level + 1))
    }

    /// Its blocks for Markdown, without the heading.
    pub fn content(&self, level: usize) -> String {
        markdown(&self.blocks, level)
    }

    /// Every table in it.
    pub fn tables(&self) -> Vec<&Table> {
        let mut found = Vec::new();
        tables(&self.blocks, &mut found);
        found
    }
}

fn tables<'a>(blocks: &'a [Block], found: &mut Vec<&'a Table>) {
    for block in blocks {
        match block {
            Block::Table(table) => found.push(table),
            Block::Fold(_, inner) => tables(inner, found),
            _ => {}
        }
    }
}

fn page(blocks: &[Block]) -> Markup {
    html! {
        @for block in blocks {
            @match block {
                Block::Heading(title) => h3 { (title) },
                Block::Text(words) => p { (words) },
                Block::Command(command) => pre tabindex="0" { code { (command) } },
                Block::Table(table) => (table.html()),
                Block::Picture(picture) => (picture),
                Block::Fold(title, inner) => details { summary { (title) } (page(inner)) },
            }
        }
    }
}

fn markdown(blocks: &[Block], level: usize) -> String {
    let mut text = String::new();
    for block in blocks {
        match block {
            Block::Heading(title) => text += &format!("{} {title}\n\n", "#".repeat(level)),
            Block::Text(words) => text += &format!("{}\n\n", words.replace('*', "\\*")),
            Block::Command(command) => text += &format!("    {command}\n\n"),
            Block::Table(table) => text += &format!("{}\n\n{}\n", table.caption, table.markdown()),
            Block::Picture(_) => {}
            Block::Fold(title, inner) => {
                text += &format!("{} {title}\n\n{}", "#".repeat(level), markdown(inner, level + 1));
            }
        }
    }
    text
}
