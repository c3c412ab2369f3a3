//! `tconv report`: recorded runs as a page, as Markdown, and as tables of a document.

use std::path::{Path, PathBuf};

use crate::cli::{Context, Failure, Outcome};
use crate::report::section::Section;
use crate::report::study::Study;
use crate::report::{page, sections, splice};
use crate::{output, runs, selection};

/// What to report, and where.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("where").required(true).multiple(true))]
pub struct Args {
    /// Recorded runs (of a layer that two measured in the same setting, the last counts)
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write index.html and report.md into this folder
    #[arg(short, long, value_name = "DIR", group = "where")]
    output: Option<PathBuf>,
    /// Rewrite the tables between the markers of this Markdown file
    #[arg(long, value_name = "FILE", group = "where")]
    splice: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args, _: &Context) -> Result<Outcome, Failure> {
    let recorded = runs::read_all(&args.files)?;
    let study = Study::new(&recorded)?;
    if study.is_empty() {
        return Err(Failure("these runs hold no measurements".into()));
    }
    let sections = sections::all(&study)?;
    if let Some(folder) = &args.output {
        std::fs::create_dir_all(folder)
            .map_err(|e| Failure(format!("cannot make {}: {e}", folder.display())))?;
        write(&folder.join("index.html"), &page::html(&study, &sections))?;
        write(&folder.join("report.md"), &page::markdown(&study, &sections))?;
        output::print(&format!("{}\n", folder.join("index.html").display()))?;
    }
    if let Some(path) = &args.splice {
        write(path, &spliced(path, &study, &sections)?)?;
    }
    Ok(Outcome::Good)
}

/// The document with every marked part rewritten. Nothing is written where a marker is not understood.
fn spliced(path: &Path, study: &Study<'_>, sections: &[Section]) -> Result<String, Failure> {
    let name = path.display();
    let named = |Failure(problem): Failure| Failure(format!("{name}: {problem}"));
    let mut document =
        std::fs::read_to_string(path).map_err(|e| Failure(format!("cannot read {name}: {e}")))?;
    let markers = splice::names(&document);
    if markers.is_empty() {
        return Err(named(Failure("has no marker such as <!-- tconv:rank:begin -->".into())));
    }
    for marker in markers {
        let unknown = || named(selection::unknown("part of the report", &marker, &page::parts(sections)));
        let content = page::part(study, sections, &marker).ok_or_else(unknown)?;
        document = splice::splice(&document, &marker, &content).map_err(named)?;
    }
    Ok(document)
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|e| Failure(format!("cannot write {}: {e}", path.display())))
}
