//! Running `git` to its end, or until someone asks to stop.

use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use wythe_builder::Cancel;

use super::GitError;

/// How often a running `git` is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Longest answer of `ls-remote` that is read, in bytes: repositories with many refs have megabytes.
const MAX_REFS_BYTES: u64 = 64 << 20;
/// Of what git says on standard error, this much is shown, in bytes.
const MAX_MESSAGE_BYTES: u64 = 4096;

/// Standard output of a run that succeeded.
pub(super) fn run(
    mut command: Command,
    what: &'static str,
    cancel: &Cancel,
) -> Result<String, GitError> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // It starts helpers, which are to end with it.
        .process_group(0);
    let mut child = command.spawn().map_err(GitError::Start)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let read = |pipe: Option<&mut dyn io::Read>, limit: u64| {
        let mut text = Vec::new();
        if let Some(pipe) = pipe {
            let _ = pipe.take(limit).read_to_end(&mut text);
            // The rest must go somewhere, or git waits for ever.
            let _ = io::copy(pipe, &mut io::sink());
        }
        String::from_utf8_lossy(&text).into_owned()
    };
    let (status, output, message) = std::thread::scope(|scope| {
        let output = scope.spawn(move || {
            let mut stdout = stdout;
            read(stdout.as_mut().map(|pipe| pipe as _), MAX_REFS_BYTES)
        });
        let message = scope.spawn(move || {
            let mut stderr = stderr;
            read(stderr.as_mut().map(|pipe| pipe as _), MAX_MESSAGE_BYTES)
        });
        let status = wait(&mut child, cancel);
        (
            status,
            output.join().unwrap_or_default(),
            message.join().unwrap_or_default(),
        )
    });
    let status = status
        .map_err(GitError::Start)?
        .ok_or(GitError::Cancelled)?;
    if status.success() {
        return Ok(output);
    }
    if status.code() == Some(127) {
        return Err(GitError::Start(io::ErrorKind::NotFound.into()));
    }
    let message: Vec<&str> = message.lines().map(str::trim).collect();
    Err(GitError::Failed {
        what,
        message: message.join("; ").escape_debug().to_string(),
    })
}

/// `None` when it was ended because of `cancel`.
fn wait(child: &mut Child, cancel: &Cancel) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if cancel.is_cancelled() {
            if let Ok(group) = i32::try_from(child.id()) {
                killpg(Pid::from_raw(group), Signal::SIGKILL)?;
            }
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
