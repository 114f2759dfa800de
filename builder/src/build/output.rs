//! Output of processes: cut into lines for the observer, the last ones kept for the error.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use wythe_layers::progress::{Event, Observer};

use crate::{OutputSink, OutputStream};

/// What an error shows.
const KEPT_LINES: usize = 20;
/// A line that never ends is cut here, in bytes.
const MAX_LINE_BYTES: usize = 8 << 10;

/// Cuts the output of one step into lines.
pub(super) struct Lines<'a> {
    id: String,
    observer: &'a dyn Observer,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    last: VecDeque<Vec<u8>>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(id: String, observer: &'a dyn Observer) -> Self {
        Self {
            id,
            observer,
            state: Mutex::default(),
        }
    }

    /// The last lines, also those without a line end.
    pub(super) fn finish(self) -> Vec<Vec<u8>> {
        let mut state = self
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        for rest in [
            std::mem::take(&mut state.stdout),
            std::mem::take(&mut state.stderr),
        ] {
            if !rest.is_empty() {
                tell(&self.id, self.observer, rest, &mut state.last);
            }
        }
        state.last.into()
    }
}

impl OutputSink for Lines<'_> {
    fn write(&self, stream: OutputStream, bytes: &[u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        let open = match stream {
            OutputStream::Stdout => &mut state.stdout,
            OutputStream::Stderr => &mut state.stderr,
        };
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            for part in text.chunks(MAX_LINE_BYTES) {
                if open.len() + part.len() > MAX_LINE_BYTES {
                    tell(
                        &self.id,
                        self.observer,
                        std::mem::take(open),
                        &mut state.last,
                    );
                }
                open.extend_from_slice(part);
            }
            if ended {
                if open.last() == Some(&b'\r') {
                    open.pop();
                }
                tell(
                    &self.id,
                    self.observer,
                    std::mem::take(open),
                    &mut state.last,
                );
            }
        }
    }
}

fn tell(id: &str, observer: &dyn Observer, line: Vec<u8>, last: &mut VecDeque<Vec<u8>>) {
    if last.len() == KEPT_LINES {
        last.pop_front();
    }
    last.push_back(line.clone());
    observer.event(Event::Output {
        id: id.to_owned(),
        line,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use wythe_layers::progress::Silent;

    #[test]
    fn lines_are_whole_however_they_are_cut() {
        let lines = Lines::new("1.1".into(), &Silent);
        for piece in ["a", "b\nc", "\r\n\nd"] {
            lines.write(OutputStream::Stdout, piece.as_bytes());
            lines.write(OutputStream::Stderr, b"");
        }
        assert_eq!(lines.finish(), [&b"ab"[..], b"c", b"", b"d"]);
    }

    #[test]
    fn an_endless_line_is_cut_and_only_the_last_lines_are_kept() {
        let lines = Lines::new("1.1".into(), &Silent);
        lines.write(OutputStream::Stderr, &vec![b'x'; MAX_LINE_BYTES * 30]);
        let kept = lines.finish();
        assert_eq!(kept.len(), KEPT_LINES);
        assert!(kept.iter().all(|line| line.len() <= MAX_LINE_BYTES));
    }
}
