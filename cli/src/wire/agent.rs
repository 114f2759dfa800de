//! An ssh agent, shown to the processes of a step.
//!
//! The agent's own socket is not mounted: agents talk only to processes of their own user, and
//! `mode`, `uid` and `gid` of the mount would change a socket that is not ours. So the step gets a
//! socket made for it, and whoever connects there is connected to the agent. It ends with the step.

use std::fs::Permissions;
use std::io;
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tempfile::TempDir;
use wythe_builder::BoxError;

/// Connections at once: a step that opens more waits for none and gets none.
const MAX_CONNECTIONS: usize = 64;

/// A socket whose connections go on to another one.
#[derive(Debug)]
pub(super) struct Forwarder {
    directory: TempDir,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    /// Listens in a new directory of `scratch`; owner and mode are the socket's.
    pub(super) fn start(
        agent: &Path,
        scratch: &Path,
        mode: u32,
        (uid, gid): (u32, u32),
    ) -> Result<Self, BoxError> {
        let is_socket = std::fs::metadata(agent)
            .map_err(|error| format!("cannot use the ssh agent {}: {error}", agent.display()))?
            .file_type()
            .is_socket();
        if !is_socket {
            let shown = agent.display();
            return Err(format!("{shown} is not the socket of an ssh agent").into());
        }
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
                let (agent, ended) = (agent.to_owned(), Arc::clone(&ended));
                move || serve(&listener, &agent, &ended)
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

fn serve(listener: &UnixListener, agent: &Path, ended: &Arc<AtomicBool>) {
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
        let (agent, open) = (agent.to_owned(), Arc::clone(&open));
        let spawned = std::thread::Builder::new().spawn(move || {
            if let Err(error) = forward(&inside, &agent) {
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
