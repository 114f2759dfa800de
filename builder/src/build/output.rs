//! Output of processes: cut into lines for the observer, without the step's secrets; the last ones
//! are kept for the error.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use wythe_layers::progress::{Event, Observer};

use super::mask::Mask;
use crate::{OutputSink, OutputStream};

/// What an error shows.
const KEPT_LINES: usize = 20;
/// A line that never ends is cut here, in bytes.
const MAX_LINE_BYTES: usize = 8 << 10;

/// Cuts the output of one step into lines.
pub(super) struct Lines<'a> {
    id: String,
    observer: &'a dyn Observer,
    mask: Mask,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    last: VecDeque<Vec<u8>>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(id: String, observer: &'a dyn Observer, mask: Mask) -> Self {
        Self {
            id,
            observer,
            mask,
            state: Mutex::default(),
        }
    }

    /// The last lines, also those without a line end.
    pub(super) fn finish(self) -> Vec<Vec<u8>> {
        let mut state = self.lock();
        let state = &mut *state;
        for rest in [&mut state.stdout, &mut state.stderr] {
            if !rest.is_empty() {
                self.tell(std::mem::take(rest), &mut state.last);
            }
        }
        std::mem::take(&mut state.last).into()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes on what there is of a line that has become too long, but for the end of it that may
    /// be the beginning of a secret.
    fn cut(&self, open: &mut Vec<u8>, last: &mut VecDeque<Vec<u8>>) {
        let mut line = self.mask.hide(std::mem::take(open));
        let shown = line.len().saturating_sub(self.mask.overlap());
        *open = line.split_off(shown);
        for part in line.chunks(MAX_LINE_BYTES) {
            self.tell_hidden(part.to_vec(), last);
        }
    }

    fn tell(&self, line: Vec<u8>, last: &mut VecDeque<Vec<u8>>) {
        self.tell_hidden(self.mask.hide(line), last);
    }

    fn tell_hidden(&self, line: Vec<u8>, last: &mut VecDeque<Vec<u8>>) {
        if last.len() == KEPT_LINES {
            last.pop_front();
        }
        last.push_back(line.clone());
        self.observer.event(Event::Output {
            id: self.id.clone(),
            line,
        });
    }
}

impl OutputSink for Lines<'_> {
    fn write(&self, stream: OutputStream, bytes: &[u8]) {
        let mut state = self.lock();
        let State {
            stdout,
            stderr,
            last,
        } = &mut *state;
        let open = match stream {
            OutputStream::Stdout => stdout,
            OutputStream::Stderr => stderr,
        };
        let limit = MAX_LINE_BYTES + self.mask.overlap();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            for part in text.chunks(MAX_LINE_BYTES) {
                if open.len() + part.len() > limit {
                    self.cut(open, last);
                }
                open.extend_from_slice(part);
            }
            if ended {
                if open.last() == Some(&b'\r') {
                    open.pop();
                }
                self.tell(std::mem::take(open), last);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;
    use wythe_layers::progress::Silent;

    #[test]
    fn lines_are_whole_however_they_are_cut() {
        let lines = Lines::new("1.1".into(), &Silent, Mask::new(&[]));
        for piece in ["a", "b\nc", "\r\n\nd"] {
            lines.write(OutputStream::Stdout, piece.as_bytes());
            lines.write(OutputStream::Stderr, b"");
        }
        assert_eq!(lines.finish(), [&b"ab"[..], b"c", b"", b"d"]);
    }

    #[test]
    fn an_endless_line_is_cut_and_only_the_last_lines_are_kept() {
        let lines = Lines::new("1.1".into(), &Silent, Mask::new(&[]));
        lines.write(OutputStream::Stderr, &vec![b'x'; MAX_LINE_BYTES * 30]);
        let kept = lines.finish();
        assert_eq!(kept.len(), KEPT_LINES);
        assert!(kept.iter().all(|line| line.len() <= MAX_LINE_BYTES));
    }

    #[test]
    fn a_secret_is_hidden_wherever_the_output_is_cut() {
        let secret = "s3cr3t-".repeat(20);
        let mask = || Mask::new(&[Secret::new(secret.as_bytes())]);
        for before in [
            0,
            5,
            MAX_LINE_BYTES - 70,
            MAX_LINE_BYTES,
            MAX_LINE_BYTES * 2 - 3,
        ] {
            for piece_bytes in [1, 7, 4096, MAX_LINE_BYTES * 4] {
                let lines = Lines::new("1.1".into(), &Silent, mask());
                let text = format!("{}{secret}{}", "x".repeat(before), "y".repeat(9000));
                for piece in text.as_bytes().chunks(piece_bytes) {
                    lines.write(OutputStream::Stdout, piece);
                }
                let shown = String::from_utf8(lines.finish().concat()).unwrap();
                let expected = format!("{}***{}", "x".repeat(before), "y".repeat(9000));
                assert_eq!(shown, expected, "{before} {piece_bytes}");
            }
        }
    }
}
