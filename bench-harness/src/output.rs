//! Where results go: tables for people on standard output, JSON lines for programs on request.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::cli::Failure;

/// The options that every command shares.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct OutputArgs {
    /// Print JSON lines to standard output instead of a table
    #[arg(long)]
    pub json: bool,
    /// Write JSON lines to this file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

impl OutputArgs {
    /// Opens the file, if one is named.
    pub fn open(&self) -> Result<JsonLines, Failure> {
        let file = match &self.output {
            None => None,
            Some(path) => Some((path.clone(), File::create(path).map_err(|e| cannot_write(path, e))?)),
        };
        Ok(JsonLines { stdout: self.json, file })
    }
}

/// A sink of JSON lines. Every line is written whole and at once: an interrupted run leaves a valid file.
#[derive(Debug)]
pub struct JsonLines {
    stdout: bool,
    file: Option<(PathBuf, File)>,
}

impl JsonLines {
    /// Writes also to a file that must not be there yet: recorded runs are never overwritten. Makes its folders.
    pub fn add_new_file(&mut self, path: &Path) -> Result<(), Failure> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| cannot_write(path, e))?;
        }
        let file = File::create_new(path).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => {
                Failure(format!("{} is there already: recorded runs are not overwritten", path.display()))
            }
            _ => cannot_write(path, e),
        })?;
        self.file = Some((path.to_owned(), file));
        Ok(())
    }

    /// Writes one record to wherever the caller asked for.
    pub fn write(&mut self, record: &impl Serialize) -> Result<(), Failure> {
        if !self.stdout && self.file.is_none() {
            return Ok(());
        }
        let mut line = serde_json::to_string(record)?;
        line.push('\n');
        if self.stdout {
            print(&line)?;
        }
        if let Some((path, file)) = &mut self.file {
            file.write_all(line.as_bytes()).map_err(|e| cannot_write(path, e))?;
        }
        Ok(())
    }
}

fn cannot_write(path: &Path, error: std::io::Error) -> Failure {
    Failure(format!("cannot write {}: {error}", path.display()))
}

/// Writes text for people to standard output. A reader that has gone away (`| head`) is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(cannot_write(Path::new("standard output"), e)),
        _ => Ok(()),
    }
}

/// An empty table in the house style; columns from `first_number` on are numbers, to the right.
pub fn table(header: &[&str], first_number: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.iter().copied());
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
        if column.index >= first_number {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The table as text without trailing blanks, with a last newline.
pub fn render(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}
