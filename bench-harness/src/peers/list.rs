//! The one list of peers (`bench-harness/peers/peers.toml`), and which of them are installed here.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::live::{Candidate, Patience};
use super::process::Launch;
use crate::cli::Failure;
use crate::selection;

const LIST: &str = include_str!("../../peers/peers.toml");
/// Where `scripts/setup-peers.sh` installs, below the repository.
const FOLDER: &str = ".peers";
/// Names another place.
const VARIABLE: &str = "TCONV_PEERS";

/// A library to compare with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Its name in tables and on the command line.
    pub name: String,
    /// What it is.
    pub summary: String,
    /// Allocates its output in every call: its allocator is told to keep large blocks, and tables say so.
    #[serde(default)]
    pub allocates: bool,
    /// The ways in which it can be asked; each is measured on its own.
    pub modes: Vec<Mode>,
}

/// A way to ask a peer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mode {
    /// Its name.
    pub name: String,
    /// The order of axes of the tensors that it computes on: `nchw`, `nhwc`, or its own, `any`.
    pub layout: String,
}

/// Whether a peer can be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It was installed, in this version; its program starts like this.
    Installed {
        /// As its installer wrote it down.
        version: String,
        /// Without the mode, which is one more argument.
        launch: Launch,
    },
    /// Nobody tried to install it.
    Missing,
    /// It cannot be had here: why.
    Refused(String),
}

/// `peer.json`, as `scripts/setup-peers.sh` writes it.
#[derive(Debug, Deserialize)]
struct Installed {
    version: String,
    command: Vec<String>,
    #[serde(default)]
    env: std::collections::BTreeMap<String, String>,
}

/// glibc gives every large block back to the system when it is freed, and a call that allocates its output pays page faults
/// for all of it. With these it keeps them.
const KEEP_BLOCKS: [(&str, &str); 2] =
    [("MALLOC_MMAP_THRESHOLD_", "4294967296"), ("MALLOC_TRIM_THRESHOLD_", "8589934592")];

/// All peers.
pub fn all() -> Vec<Peer> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct List {
        peer: Vec<Peer>,
    }
    toml::from_str::<List>(LIST).unwrap_or_else(|e| unreachable!("tested: {e}")).peer
}

/// Where peers are installed: `TCONV_PEERS`, or `.peers` in this folder or one above it.
pub fn folder() -> PathBuf {
    if let Some(named) = std::env::var_os(VARIABLE).filter(|v| !v.is_empty()) {
        return named.into();
    }
    let here = std::env::current_dir().unwrap_or_default();
    let found = here.ancestors().map(|at| at.join(FOLDER)).find(|at| at.is_dir());
    found.unwrap_or_else(|| here.join(FOLDER))
}

impl Peer {
    /// Looks into the folder of peers.
    pub fn state(&self, folder: &Path) -> Result<State, Failure> {
        let own = folder.join(&self.name);
        if let Ok(reason) = std::fs::read_to_string(own.join("refused")) {
            return Ok(State::Refused(reason.trim().into()));
        }
        let path = own.join("peer.json");
        let Ok(text) = std::fs::read_to_string(&path) else { return Ok(State::Missing) };
        let Installed { version, command, env } =
            serde_json::from_str(&text).map_err(|e| Failure(format!("{}: {e}", path.display())))?;
        let command = command.into_iter().map(Into::into).collect();
        let env = env.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Ok(State::Installed { version, launch: Launch { command, env } })
    }

    fn candidate(&self, mode: &Mode, launch: &Launch) -> Candidate {
        let mut launch = launch.clone();
        launch.command.push(mode.name.clone().into());
        let mut settings = Vec::new();
        if self.allocates {
            launch.env.extend(KEEP_BLOCKS.map(|(name, value)| (name.into(), value.into())));
            settings.push("allocator keeps large blocks".into());
        }
        let (mode, layout) = (mode.name.clone(), mode.layout.clone());
        let name = format!("{}/{mode}", self.name);
        Candidate { name, mode, layout, settings, launch, patience: Patience::default() }
    }
}

/// The peers that `--peers` names: `none`, `all` that are installed, or names with or without a mode
/// (`onednn-3.2,pytorch/packed`). One that is named and not installed is a failure.
pub fn select(wanted: &str) -> Result<Vec<Candidate>, Failure> {
    select_from(&all(), &folder(), wanted)
}

fn select_from(peers: &[Peer], folder: &Path, wanted: &str) -> Result<Vec<Candidate>, Failure> {
    let mut chosen = Vec::new();
    for word in wanted.split(',').map(str::trim).filter(|w| !w.is_empty() && *w != "none") {
        let mut found = false;
        for peer in peers {
            let modes: Vec<&Mode> = peer
                .modes
                .iter()
                .filter(|mode| {
                    word == "all" || word == peer.name || word == format!("{}/{}", peer.name, mode.name)
                })
                .collect();
            if modes.is_empty() {
                continue;
            }
            found = true;
            match peer.state(folder)? {
                State::Installed { launch, .. } => {
                    let new = modes.into_iter().map(|mode| peer.candidate(mode, &launch));
                    chosen.extend(new.filter(|c| !chosen.contains(c)).collect::<Vec<_>>());
                }
                _ if word == "all" => {}
                State::Missing => {
                    let name = &peer.name;
                    let how = format!("scripts/setup-peers.sh {name}");
                    return Err(Failure(format!("peer {name} is not installed: run {how}")));
                }
                State::Refused(why) => {
                    return Err(Failure(format!("peer {} cannot be had here: {why}", peer.name)));
                }
            }
        }
        if !found && word != "all" {
            let modes =
                |p: &Peer| p.modes.iter().map(|m| format!("{}/{}", p.name, m.name)).collect::<Vec<_>>();
            let names: Vec<String> =
                peers.iter().flat_map(|p| [vec![p.name.clone()], modes(p)].concat()).collect();
            return Err(selection::unknown("peer", word, &names));
        }
    }
    if chosen.is_empty() && wanted.split(',').any(|w| w.trim() == "all") {
        let at = folder.display();
        return Err(Failure(format!("no peer is installed in {at}: run scripts/setup-peers.sh")));
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_good_and_its_names_are_unique() {
        let peers = all();
        for (i, peer) in peers.iter().enumerate() {
            assert!(!peer.modes.is_empty() && !peer.summary.is_empty(), "{}", peer.name);
            assert!(peers[..i].iter().all(|other| other.name != peer.name), "{}", peer.name);
            for (j, mode) in peer.modes.iter().enumerate() {
                assert!(["nchw", "nhwc", "any"].contains(&mode.layout.as_str()), "{mode:?}");
                assert!(peer.modes[..j].iter().all(|other| other.name != mode.name), "{mode:?}");
            }
        }
    }

    #[test]
    fn the_installer_knows_every_one() {
        let script = include_str!("../../../scripts/setup-peers.sh");
        let cases = script.lines().filter_map(|line| line.trim().split_once(") "));
        let known: Vec<&str> = cases.flat_map(|(names, _)| names.split('|').map(str::trim)).collect();
        for peer in all() {
            assert!(known.contains(&peer.name.as_str()), "{} is not in {known:?}", peer.name);
        }
    }

    #[test]
    fn names_choose_among_what_is_installed() {
        let folder = std::env::temp_dir().join(format!("tconv-list-{}", std::process::id()));
        let mode = |name: &str| Mode { name: name.into(), layout: "nchw".into() };
        let peer = |name: &str, allocates| Peer {
            name: name.into(),
            summary: "x".into(),
            allocates,
            modes: vec![mode("one"), mode("two")],
        };
        let peers = [peer("here", true), peer("refused", false), peer("missing", false)];
        for name in ["here", "refused"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        let json = r#"{"version":"9","command":["python","here.py"],"env":{"A":"b"}}"#;
        std::fs::write(folder.join("here/peer.json"), json).unwrap();
        std::fs::write(folder.join("refused/refused"), "no wheel for this CPU\n").unwrap();

        let select = |wanted: &str| select_from(&peers, &folder, wanted);
        let names = |wanted: &str| select(wanted).unwrap().into_iter().map(|c| c.name).collect::<Vec<_>>();
        assert_eq!(names("all"), ["here/one", "here/two"]);
        assert_eq!(names("here/two,here"), ["here/two", "here/one"]);
        assert_eq!(names("none"), [""; 0]);
        let one = &select("here/one").unwrap()[0];
        assert_eq!(one.launch.command, ["python", "here.py", "one"]);
        assert!(one.launch.env.contains(&("A".into(), "b".into())));
        assert!(one.launch.env.iter().any(|(name, _)| name == "MALLOC_MMAP_THRESHOLD_"));
        assert_eq!(one.settings.len(), 1);
        for (wanted, words) in [
            ("missing", "setup-peers.sh missing"),
            ("refused/one", "no wheel for this CPU"),
            ("her", "here"),
            ("here/three", "here/two"),
        ] {
            let Failure(message) = select(wanted).unwrap_err();
            assert!(message.contains(words), "{wanted}: {message}");
        }
        std::fs::write(folder.join("here/peer.json"), "{").unwrap();
        assert!(select("here").unwrap_err().0.contains("peer.json"));
        std::fs::remove_dir_all(folder.join("here")).unwrap();
        assert!(select("all").unwrap_err().0.contains("no peer is installed"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
