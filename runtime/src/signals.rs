//! Standing in for a container in the foreground: signals, terminal, end.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use crate::bundle::TerminalSize;
use crate::error::{Error, Result};
use crate::launch::{Container, ExitStatus};
use crate::sys::SignalCatcher;
use crate::tty::{self, RawMode};

/// What a container's program is told when the caller is. Missing are those that cannot be caught,
/// those that tell of a fault of our own, and SIGCHLD, SIGPIPE, SIGTSTP, SIGTTIN, SIGTTOU, which
/// are about the caller's own children, pipes and terminal.
const FORWARDED: [Signal; 15] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGCONT,
    Signal::SIGURG,
    Signal::SIGXCPU,
    Signal::SIGXFSZ,
    Signal::SIGWINCH,
    Signal::SIGPWR,
];

/// After this many SIGINTs and SIGTERMs the program is killed: as process 1 of its namespace it is
/// spared by those that it does not handle, and nobody should have to look for its ID.
const IMPATIENCE: u32 = 3;

/// Bytes moved at once between the two terminals.
const BUFFER_BYTES: usize = 16 * 1024;

/// Waits for a container as if the calling process were its program: passes signals on and, where
/// the container has a terminal, joins it to the caller's standard input and output, which are put
/// into raw mode (if they are a terminal) until the end.
///
/// Made before the container is launched, so that no signal is missed in between. Only one can
/// exist at a time.
pub struct Relay {
    catcher: SignalCatcher,
    asked_to_end: Cell<u32>,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").finish_non_exhaustive()
    }
}

/// Whether the caller's standard input is given to a container's terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Yes (`-i`).
    Attached,
    /// No: the program waits for input that never comes.
    Detached,
}

impl Relay {
    /// Starts to hold signals back.
    ///
    /// # Errors
    /// There is one already.
    pub fn install() -> Result<Self> {
        let catcher = SignalCatcher::install(&FORWARDED).map_err(Error::io("catch", "signals"))?;
        Ok(Self {
            catcher,
            asked_to_end: Cell::new(0),
        })
    }

    /// The size of the caller's terminal, for [`Process::terminal`](crate::Process::terminal).
    pub fn terminal_size() -> Option<TerminalSize> {
        tty::size(io::stdin()).or_else(|| tty::size(io::stdout()))
    }

    /// Waits for the program's end.
    ///
    /// # Errors
    /// The monitor was killed, or the caller's own terminal failed.
    pub fn wait(self, mut container: Container, input: Input) -> Result<ExitStatus> {
        let terminal = container.terminal.take();
        let raw_mode = match (&terminal, input) {
            (Some(_), Input::Attached) => {
                RawMode::enter(io::stdin()).map_err(Error::io("set up", "terminal"))?
            }
            _ => None,
        };
        let result = self.serve(&container, terminal, input);
        drop(raw_mode);
        result.map_err(Error::io("join", "terminal"))?;
        container.wait_for_report()
    }

    /// Until the program has ended and its terminal has nothing more to show.
    fn serve(
        &self,
        container: &Container,
        mut terminal: Option<OwnedFd>,
        input: Input,
    ) -> io::Result<()> {
        let stdin = io::stdin();
        let mut reads_input = terminal.is_some() && input == Input::Attached;
        let mut to_program: Vec<u8> = Vec::new();
        let mut has_ended = false;
        while !has_ended || terminal.is_some() {
            let mut polled = vec![PollFd::new(self, PollFlags::IN)];
            let program = container.program();
            // Not asked once it has ended: it would be ready for ever.
            let interest = if has_ended {
                PollFlags::empty()
            } else {
                PollFlags::IN
            };
            polled.push(PollFd::from_borrowed_fd(program, interest));
            if let Some(terminal) = &terminal {
                let wants_to_write = !to_program.is_empty();
                let mut interest = PollFlags::IN;
                interest.set(PollFlags::OUT, wants_to_write);
                polled.push(PollFd::new(terminal, interest));
                if reads_input && !wants_to_write {
                    polled.push(PollFd::new(&stdin, PollFlags::IN));
                }
            }
            // After the end, what the terminal still holds is read without waiting: a process that
            // outlives the program keeps it open.
            let now = rustix::event::Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            let ready = match rustix::event::poll(&mut polled, has_ended.then_some(&now)) {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            if has_ended && ready == 0 {
                break;
            }
            let events: Vec<PollFlags> = polled.iter().map(PollFd::revents).collect();
            drop(polled);
            let event = |index: usize| events.get(index).copied().unwrap_or(PollFlags::empty());
            let readable = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
            if event(0).intersects(readable) {
                self.forward(container, terminal.as_ref())?;
            }
            has_ended |= !has_ended && event(1).intersects(readable);
            if let Some(outer) = &terminal {
                if event(2).intersects(PollFlags::OUT) && !to_program.is_empty() {
                    let written = rustix::io::write(outer, &to_program)?;
                    to_program.drain(..written);
                }
                if event(3).intersects(readable) {
                    let mut buffer = vec![0; BUFFER_BYTES];
                    let read = rustix::io::retry_on_intr(|| rustix::io::read(&stdin, &mut buffer))
                        .unwrap_or(0);
                    reads_input = read > 0;
                    buffer.truncate(read);
                    to_program = buffer;
                }
                if event(2).intersects(readable) && !show(outer)? {
                    terminal = None;
                }
            }
        }
        Ok(())
    }

    /// Passes on every signal caught so far.
    fn forward(&self, container: &Container, terminal: Option<&OwnedFd>) -> io::Result<()> {
        let mut numbers = [0; 64];
        let read = match rustix::io::read(self.catcher.reader(), &mut numbers) {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            other => other?,
        };
        for &number in numbers.iter().take(read) {
            let number = i32::from(number);
            if number == libc::SIGWINCH
                && let Some(terminal) = terminal
                && let Some(size) = Self::terminal_size()
            {
                // The kernel tells the program itself.
                let _ = tty::set_size(terminal, size);
                continue;
            }
            let _ = container.kill(number);
            if matches!(number, libc::SIGINT | libc::SIGTERM) {
                let asked = self.asked_to_end.get().saturating_add(1);
                self.asked_to_end.set(asked);
                if asked >= IMPATIENCE {
                    let _ = container.kill(libc::SIGKILL);
                }
            }
        }
        Ok(())
    }
}

impl AsFd for Relay {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.catcher.reader()
    }
}

/// Copies what the terminal has to the standard output; `false` at its end.
fn show(terminal: &OwnedFd) -> io::Result<bool> {
    let mut buffer = [0; BUFFER_BYTES];
    let read = match rustix::io::read(terminal, &mut buffer) {
        // What reading gives once every process has closed the other side.
        Err(Errno::IO) => return Ok(false),
        Err(Errno::INTR | Errno::AGAIN) => return Ok(true),
        other => other?,
    };
    let mut rest = buffer.get(..read).unwrap_or_default();
    while !rest.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(io::stdout(), rest))?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(read > 0)
}
