//! An ssh agent, shown to the processes of a step.
//!
//! The agent's own socket is not mounted: agents talk only to processes of their own user, and
//! `mode`, `uid` and `gid` of the mount would change a socket that is not ours. So the step gets a
//! socket made for it, and whoever connects there has its questions passed on, as far as
//! [`protocol`] allows them, or answered from key files. It ends with the step.

mod keys;
mod protocol;
mod short_scalar;

use std::fs::{File, Permissions};
use std::io::{self, Read as _};
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use wythe_builder::{Agent, BoxError, Secret};

use keys::Keys;

/// Connections at once: a step that opens more waits for none and gets none.
const MAX_CONNECTIONS: usize = 64;

/// Longest key file, in bytes.
const MAX_KEY_BYTES: u64 = 100 * 1024;

/// Who answers behind a [`Forwarder`].
enum Answers {
    Socket(PathBuf),
    RawSocket(PathBuf),
    Keys(Keys),
}

/// A socket whose connections an agent answers.
#[derive(Debug)]
pub(super) struct Forwarder {
    directory: TempDir,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    /// Listens in a new directory of `scratch`; owner and mode are the socket's.
    pub(super) fn start(
        agent: &Agent,
        scratch: &Path,
        mode: u32,
        (uid, gid): (u32, u32),
    ) -> Result<Self, BoxError> {
        let answers = Arc::new(match agent {
            Agent::Socket(path) => Answers::Socket(existing(path)?),
            Agent::RawSocket(path) => Answers::RawSocket(existing(path)?),
            Agent::Keys(files) => Answers::Keys(Keys::parse(files)?),
        });
        let directory = tempfile::Builder::new()
            .prefix("wythe-agent-")
            .tempdir_in(scratch)?;
        let socket = socket_in(&directory);
        let listener = UnixListener::bind(&socket)?;
        if (uid, gid) != (0, 0) {
            // Refused where there is only one ID: then the step's processes are that one too.
            if let Err(error) = std::os::unix::fs::chown(&socket, Some(uid), Some(gid)) {
                tracing::debug!(%error, uid, gid, "the agent's socket keeps its owner");
            }
        }
        std::fs::set_permissions(&socket, Permissions::from_mode(mode & 0o7777))?;
        let ended = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new()
            .name("ssh-agent".into())
            .spawn({
                let ended = Arc::clone(&ended);
                move || serve(&listener, &answers, &ended)
            })?;
        Ok(Self {
            directory,
            ended,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub(super) fn socket(&self) -> PathBuf {
        socket_in(&self.directory)
    }
}

fn socket_in(directory: &TempDir) -> PathBuf {
    directory.path().join("socket")
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // Wakes the thread; if that is not possible it is not waiting either.
        let _ = UnixStream::connect(self.socket());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(listener: &UnixListener, answers: &Arc<Answers>, ended: &Arc<AtomicBool>) {
    let open = Arc::new(AtomicUsize::new(0));
    for inside in listener.incoming() {
        if ended.load(Ordering::Acquire) {
            return;
        }
        let inside = match inside {
            Ok(inside) => inside,
            Err(error) => {
                tracing::debug!(%error, "no more connections to the ssh agent");
                return;
            }
        };
        if open.fetch_add(1, Ordering::AcqRel) >= MAX_CONNECTIONS {
            open.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        let (answers, open) = (Arc::clone(answers), Arc::clone(&open));
        let spawned = std::thread::Builder::new().spawn(move || {
            if let Err(error) = answers.to(&inside) {
                tracing::debug!(%error, "a connection to the ssh agent ended early");
            }
            open.fetch_sub(1, Ordering::AcqRel);
        });
        if let Err(error) = spawned {
            tracing::debug!(%error, "no thread for a connection to the ssh agent");
            return;
        }
    }
}

impl Answers {
    /// Answers one connection until it ends.
    fn to(&self, inside: &UnixStream) -> io::Result<()> {
        match self {
            Self::Keys(keys) => protocol::answer(&mut &*inside, |message| keys.answer(message)),
            Self::RawSocket(agent) => forward(inside, agent),
            Self::Socket(agent) => {
                let outside = UnixStream::connect(agent)?;
                protocol::answer(&mut &*inside, |message| {
                    protocol::write(&mut &outside, message)?;
                    protocol::read(&mut &outside)?.ok_or(io::ErrorKind::UnexpectedEof.into())
                })
            }
        }
    }
}

fn existing(socket: &Path) -> Result<PathBuf, BoxError> {
    let metadata = std::fs::metadata(socket)
        .map_err(|error| format!("cannot use the ssh agent {}: {error}", socket.display()))?;
    if metadata.file_type().is_socket() {
        return Ok(socket.to_owned());
    }
    Err(format!("{} is not the socket of an ssh agent", socket.display()).into())
}

/// The agent that `--ssh ID=…` names: one socket, or key files.
///
/// # Errors
/// When a path is neither, when sockets and keys are mixed, and for keys that cannot be used.
pub(crate) fn agent(paths: &[&Path], raw: bool) -> anyhow::Result<Agent> {
    let mut keys = Vec::new();
    for path in paths {
        let metadata = std::fs::metadata(path).with_context(|| path.display().to_string())?;
        if metadata.file_type().is_socket() {
            ensure!(paths.len() == 1, "one socket, or only key files");
            let path = path.to_path_buf();
            return Ok(if raw {
                Agent::RawSocket(path)
            } else {
                Agent::Socket(path)
            });
        }
        ensure!(
            !raw,
            "raw=true is for a socket, and {} is none",
            path.display()
        );
        let key = read_key(path).with_context(|| path.display().to_string())?;
        keys.push(key);
    }
    Ok(Agent::Keys(keys))
}

fn read_key(path: &Path) -> anyhow::Result<Secret> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_KEY_BYTES)
        .read_to_end(&mut bytes)?;
    let key = Secret::new(bytes);
    // Said now, not by the first step that asks.
    Keys::parse(std::slice::from_ref(&key))?;
    Ok(key)
}

/// Copies both ways until both sides are done.
fn forward(inside: &UnixStream, agent: &Path) -> io::Result<()> {
    let outside = UnixStream::connect(agent)?;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = io::copy(&mut &*inside, &mut &outside);
            let _ = outside.shutdown(Shutdown::Write);
        });
        let result = io::copy(&mut &outside, &mut &*inside);
        // The agent has hung up: whoever still writes learns it.
        let _ = inside.shutdown(Shutdown::Both);
        result.map(|_| ())
    })
}

#[cfg(test)]
mod tests;
