//! A machine on one sheet, kept in `results/machines`: what it is and what it can do at most.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tconv::{Dtype, Isa};

use super::{Environment, Fingerprint, Roofs, Toolchain};
use crate::cli::Failure;
use crate::measure::Crew;

/// Grows when a field changes its meaning or vanishes.
pub const SHEET_SCHEMA: u32 = 1;

/// One file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Sheet {
    /// [`SHEET_SCHEMA`].
    pub schema: u32,
    /// When it was measured: RFC 3339, UTC, whole seconds.
    pub utc: String,
    /// What identifies this kind of machine.
    #[schemars(with = "crate::machine::shape::Fingerprint")]
    pub machine: Fingerprint,
    /// How busy it was.
    pub environment: Environment,
    /// What built the program that measured.
    pub toolchain: Toolchain,
    /// Of every instruction set and type, on one thread and on all.
    pub roofs: Roofs,
    /// Root mean square distance from 1 of the ratio of identical code to itself, if that was measured too.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub noise_floor: Option<f64>,
}

impl Sheet {
    /// Measures the roofs on one thread and on `threads`. Takes about a second for each instruction set.
    pub fn measure(threads: usize, noise_floor: Option<f64>) -> Result<Self, Failure> {
        let machine = Fingerprint::capture();
        let roofs = roofs(threads, &machine.caches)?;
        Ok(Self {
            schema: SHEET_SCHEMA,
            utc: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            machine,
            environment: Environment::capture(),
            toolchain: Toolchain::of_this_build(),
            roofs,
            noise_floor,
        })
    }

    /// Writes it into a folder under the name of the machine.
    pub fn write(&self, folder: &Path) -> Result<PathBuf, Failure> {
        let path = folder.join(format!("{}.json", self.machine));
        let text = serde_json::to_string_pretty(self)? + "\n";
        let cannot = |e: std::io::Error| Failure(format!("cannot write {}: {e}", path.display()));
        std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, text)).map_err(cannot)?;
        Ok(path)
    }
}

/// The bandwidths are those of the widest instruction set: narrower loads only lower that of the first cache.
fn roofs(threads: usize, caches: &[usize]) -> Result<Roofs, Failure> {
    let mut counts = vec![1, threads];
    counts.dedup();
    let crews = counts.into_iter().map(Crew::new).collect::<Result<Vec<_>, _>>()?;
    let crews: Vec<&Crew> = crews.iter().collect();
    let isas = Isa::available();
    let of = |isa: &Isa| [Dtype::F32, Dtype::F64].map(|dtype| Roofs::peaks(*isa, dtype, &crews)).concat();
    let widest = isas.last().copied().unwrap_or(Isa::PORTABLE);
    Ok(Roofs { peaks: isas.iter().flat_map(of).collect(), read: Roofs::bandwidths(widest, &crews, caches)? })
}
