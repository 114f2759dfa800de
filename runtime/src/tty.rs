//! The caller's own terminal: raw while a container's terminal stands behind it, and as it was
//! before in every case but SIGKILL.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::termios::{self, OptionalActions, Termios};

use crate::bundle::TerminalSize;

/// A terminal in raw mode; dropping it (also while panicking) puts the old mode back.
pub(crate) struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Switches; `None` where the descriptor is no terminal.
    pub(crate) fn enter(terminal: impl AsFd) -> io::Result<Option<Self>> {
        let terminal = terminal.as_fd().try_clone_to_owned()?;
        if !termios::isatty(&terminal) {
            return Ok(None);
        }
        let before = termios::tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(Some(Self { terminal, before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// The size of a terminal, if it is one.
pub(crate) fn size(terminal: impl AsFd) -> Option<TerminalSize> {
    let size = termios::tcgetwinsize(terminal).ok()?;
    Some(TerminalSize {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}

/// Sets the size of a terminal.
pub(crate) fn set_size(terminal: impl AsFd, size: TerminalSize) -> io::Result<()> {
    let size = termios::Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(termios::tcsetwinsize(terminal, size)?)
}
