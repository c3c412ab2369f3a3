//! Other builds of this program: a commit of its repository, built in a worktree of its own and kept.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cli::Failure;
use crate::selection;

/// The program `tconv` of a commit. It is built at most once: `target/builds/<commit>/tconv`.
pub fn of_commit(reference: &str) -> Result<PathBuf, Failure> {
    let root = PathBuf::from(git(Path::new("."), ["rev-parse", "--show-toplevel"])?);
    let commit = resolve(&root, reference)?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let builds = target.join("builds");
    let folder = builds.join(&commit);
    let program = folder.join(format!("tconv{}", std::env::consts::EXE_SUFFIX));
    if program.is_file() {
        return Ok(program);
    }
    eprintln!("tconv: building {reference} ({commit}) …");
    let worktree = Worktree::new(&root, folder.join("source"), &commit)?;
    // Dependencies are mostly those of other commits: one folder for all.
    let output = builds.join("cargo");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--locked", "--quiet", "--package", "tconv-bench", "--bin", "tconv"])
        .arg("--target-dir")
        .arg(&output)
        .current_dir(&worktree.path)
        .stdout(Stdio::null())
        .status()?;
    if !built.success() {
        return Err(Failure(format!("{reference} ({commit}) does not build")));
    }
    let made = output.join("release").join(format!("tconv{}", std::env::consts::EXE_SUFFIX));
    // Whole or not at all: another run may look for it.
    let beside = folder.join("tconv.part");
    std::fs::copy(made, &beside)?;
    std::fs::rename(&beside, &program)?;
    Ok(program)
}

/// The full name of a commit; what is none is a failure that names the nearest branches and tags.
fn resolve(root: &Path, reference: &str) -> Result<String, Failure> {
    let commit = git(
        root,
        ["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{reference}^{{commit}}")],
    );
    commit.map_err(|_| {
        let names = git(root, ["for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/tags"]);
        let names = names.unwrap_or_default();
        selection::unknown("commit", reference, &names.lines().collect::<Vec<_>>())
    })
}

/// Sources of a commit, removed in the end.
struct Worktree<'a> {
    root: &'a Path,
    path: PathBuf,
}

impl<'a> Worktree<'a> {
    fn new(root: &'a Path, path: PathBuf, commit: &str) -> Result<Self, Failure> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let worktree = Self { root, path };
        let args = ["worktree", "add", "--quiet", "--force", "--detach"].map(OsStr::new);
        git(root, args.into_iter().chain([worktree.path.as_os_str(), commit.as_ref()]))?;
        Ok(worktree)
    }
}

impl Drop for Worktree<'_> {
    fn drop(&mut self) {
        // What stays is only in the way of nobody.
        let args = ["worktree", "remove", "--force"].map(OsStr::new);
        let _ = git(self.root, args.into_iter().chain([self.path.as_os_str()]));
    }
}

/// What git answers, without the last line feed.
fn git(folder: &Path, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<String, Failure> {
    let output = Command::new("git").arg("-C").arg(folder).args(args).output();
    let output = output.map_err(|e| Failure(format!("git: {e}")))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(Failure(format!("git: {}", message.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
