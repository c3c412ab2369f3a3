//! A program that answers lines with lines: started, stopped while it is not its turn, and never waited for without end.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::protocol::{Reply, Request};

/// How a program is started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Launch {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// Variables beside those of this process.
    pub env: Vec<(OsString, OsString)>,
}

/// What a program did instead of answering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It could not be started.
    Start(String),
    /// It ended: how, and its last words on standard error.
    Crashed(String),
    /// It did not answer in time.
    Hung {
        /// What it was asked.
        asked: &'static str,
        /// How long it was waited for.
        waited: Duration,
    },
    /// It answered something else.
    Nonsense(String),
    /// It said that it could not.
    Failed(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(why) => write!(f, "does not start: {why}"),
            Self::Crashed(how) => write!(f, "crashed: {how}"),
            Self::Hung { asked, waited } => {
                write!(f, "hangs: no answer to '{asked}' within {:.1} s", waited.as_secs_f64())
            }
            Self::Nonsense(line) => write!(f, "breaks the protocol: {line}"),
            Self::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

/// What is kept of standard error, and of a line that is no answer.
const LAST_WORDS: u64 = 400;
/// How long a program may take to end by itself.
const FAREWELL: Duration = Duration::from_secs(2);

/// A running program. Between two requests it is stopped (SIGSTOP): whatever its threads would do, they disturb nobody.
#[derive(Debug)]
pub struct Process {
    child: Child,
    requests: ChildStdin,
    /// Lines, as a thread reads them; it ends with the program's standard output.
    lines: Receiver<String>,
    errors: File,
}

impl Process {
    /// Starts it. Its standard error goes to `errors`, of which the end is quoted when it crashes.
    pub fn start(launch: &Launch, errors: File) -> Result<Self, Trouble> {
        let cannot = |e: std::io::Error| Trouble::Start(e.to_string());
        let (program, arguments) =
            launch.command.split_first().ok_or_else(|| Trouble::Start("no command is given".into()))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .envs(launch.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors.try_clone().map_err(cannot)?);
        detach(&mut command);
        let name = program.to_string_lossy();
        let mut child = command.spawn().map_err(|e| Trouble::Start(format!("{name}: {e}")))?;
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Trouble::Start("its pipes are missing".into()));
        };
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(answers).split(b'\n') {
                let Ok(line) = line else { break };
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, requests, lines, errors })
    }

    /// Wakes it, asks, waits for the answer, and stops it again.
    pub fn ask(&mut self, request: &Request, patience: Duration) -> Result<Reply, Trouble> {
        let mut line = serde_json::to_string(request).map_err(|e| Trouble::Nonsense(e.to_string()))?;
        line.push('\n');
        self.signal(Signal::Continue);
        if self.requests.write_all(line.as_bytes()).and_then(|()| self.requests.flush()).is_err() {
            return Err(self.crashed());
        }
        let answer = match self.lines.recv_timeout(patience) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Disconnected) => return Err(self.crashed()),
            Err(RecvTimeoutError::Timeout) => {
                return Err(Trouble::Hung { asked: name(request), waited: patience });
            }
        };
        self.signal(Signal::Stop);
        match serde_json::from_str(&answer) {
            Ok(Reply::Failed { failed }) => Err(Trouble::Failed(failed)),
            Ok(reply) => Ok(reply),
            Err(error) => {
                let start: String = answer.chars().take(LAST_WORDS as usize).collect();
                Err(Trouble::Nonsense(format!("{error}: {start}")))
            }
        }
    }

    /// How it ended, with its last words.
    fn crashed(&mut self) -> Trouble {
        let status = match self.wait(FAREWELL) {
            Some(status) => status.to_string(),
            None => "closed its output".into(),
        };
        let words = self.last_words();
        Trouble::Crashed(if words.is_empty() { status } else { format!("{status}: {words}") })
    }

    fn last_words(&mut self) -> String {
        let mut text = Vec::new();
        // Best effort: what cannot be read is not quoted.
        let _ = self
            .errors
            .seek(SeekFrom::End(0))
            .and_then(|end| self.errors.seek(SeekFrom::Start(end.saturating_sub(LAST_WORDS))))
            .and_then(|_| self.errors.read_to_end(&mut text));
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        lines[lines.len().saturating_sub(3)..].join(" / ")
    }

    fn wait(&mut self, patience: Duration) -> Option<std::process::ExitStatus> {
        let start = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if start.elapsed() < patience => std::thread::sleep(Duration::from_millis(5)),
                _ => return None,
            }
        }
    }

    fn signal(&self, signal: Signal) {
        #[cfg(unix)]
        {
            let number = match signal {
                Signal::Stop => libc::SIGSTOP,
                Signal::Continue => libc::SIGCONT,
            };
            // SAFETY: sends a signal, which touches no memory of this process; the child is waited for only when nothing is
            // sent any more, so that its number is still its own.
            unsafe { libc::kill(self.child.id() as libc::pid_t, number) };
        }
        #[cfg(not(unix))]
        let _ = signal;
    }
}

#[derive(Debug, Clone, Copy)]
enum Signal {
    Stop,
    Continue,
}

impl Drop for Process {
    /// Says good-bye; who does not go is killed.
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::Continue);
            let _ = serde_json::to_string(&Request::Bye)
                .map(|bye| self.requests.write_all(format!("{bye}\n").as_bytes()));
            if self.wait(FAREWELL).is_none() {
                let _ = self.child.kill();
            }
        }
        let _ = self.child.wait();
    }
}

/// Keeps the terminal's Ctrl-C from it (the run ends in order), and ends it with this process, however that ends: a stopped
/// program would not even see its input close.
fn detach(command: &mut Command) {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    #[cfg(target_os = "linux")]
    // SAFETY: runs in the new process before it becomes the program, and only makes a system call that takes numbers.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(command, || {
            match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
}

fn name(request: &Request) -> &'static str {
    match request {
        Request::Hello { .. } => "hello",
        Request::Prepare(_) => "prepare",
        Request::Run { .. } => "run",
        Request::Fetch { .. } => "fetch",
        Request::Release => "release",
        Request::Bye => "bye",
    }
}
