//! The parts of a report, one file each: from a study to words, tables and pictures.

mod heat;
mod layers;
mod matrix;
mod noise;
mod rank;
mod roofline;
mod scaling;
mod summary;

use tconv::Error;

pub use rank::standings;

use super::section::Section;
use super::study::Study;

/// All sections, in the order of reading.
pub fn all(study: &Study<'_>) -> Result<Vec<Section>, Error> {
    let mut sections = vec![summary::section(study), rank::section(study), heat::section(study)];
    sections.extend([roofline::section(study), scaling::section(study), noise::section(study)]);
    sections.extend([matrix::section(study)?, layers::section(study)]);
    // What the runs say nothing about is not there.
    sections.retain(|section| !section.blocks.is_empty());
    Ok(sections)
}
