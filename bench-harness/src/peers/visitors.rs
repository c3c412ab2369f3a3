//! The peers of one run, and the folder of files through which they are given tensors.

use std::path::{Path, PathBuf};

use super::live::{Candidate, Live};

/// All peers of a run; they are started when they are first asked, or all before.
#[derive(Debug)]
pub struct Visitors {
    // Before the folder: the programs end first.
    all: Vec<Live>,
    folder: Option<Folder>,
}

impl Visitors {
    /// With `threads` threads each. Without candidates nothing is touched.
    pub fn new(candidates: &[Candidate], threads: usize) -> std::io::Result<Self> {
        if candidates.is_empty() {
            return Ok(Self { all: Vec::new(), folder: None });
        }
        let folder = Folder::new()?;
        let all = candidates.iter().map(|c| Live::new(c.clone(), threads, &folder.path)).collect();
        Ok(Self { all, folder: Some(folder) })
    }

    /// Starts them all, so that the first workload does not wait for it. Who does not start is asked again when there is
    /// work, and told about there.
    pub fn start(&mut self, tell: &dyn Fn(&str), interrupted: &dyn Fn() -> bool) {
        for live in &mut self.all {
            if interrupted() {
                break;
            }
            tell(&live.candidate().name);
            let _ = live.start();
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Each in its place.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Live> {
        self.all.iter_mut()
    }

    /// The place of one by name.
    pub fn place(&self, name: &str) -> usize {
        self.all.iter().position(|live| live.candidate().name == name).unwrap_or(self.all.len())
    }

    /// For tensors.
    pub fn folder(&self) -> &Path {
        self.folder.as_ref().map_or(Path::new(""), |f| &f.path)
    }
}

/// A folder for temporary files, nobody else's; removed with everything in it.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn new() -> std::io::Result<Self> {
        let mut number = 0;
        loop {
            let path = std::env::temp_dir().join(format!("tconv-{}-{number}", std::process::id()));
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                Err(e) => {
                    let at = path.display();
                    return Err(std::io::Error::new(e.kind(), format!("cannot make the folder {at}: {e}")));
                }
            }
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Temporary files that cannot be removed do no harm.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
