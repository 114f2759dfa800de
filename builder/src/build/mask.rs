//! Secrets in the output of the step that was given them: hidden before anybody sees the line.

use aho_corasick::{AhoCorasick, BuildError, MatchKind};

use crate::Secret;

/// What stands where a secret was.
const HIDDEN: &[u8] = b"***";
/// A shorter secret is not hidden, in bytes: it would be found everywhere and hides nothing.
const MIN_SECRET_BYTES: usize = 4;
/// The same for one line of several: such files have lines like `{` and `"type": "x"`.
const MIN_LINE_BYTES: usize = 8;

/// Finds secrets in lines of output. Their content is looked for as it is, line by line; what a
/// program made of it (base64, part of it) is not known.
pub(super) struct Mask {
    /// `None` when there is nothing to hide. An error for more than it can look for (some hundred
    /// million bytes): then everything is hidden.
    finder: Option<Result<AhoCorasick, BuildError>>,
    longest: usize,
}

impl Mask {
    /// Hides these.
    pub(super) fn new(secrets: &[Secret]) -> Self {
        let patterns: Vec<&[u8]> = secrets.iter().flat_map(lines_to_hide).collect();
        let longest = patterns.iter().map(|line| line.len()).max().unwrap_or(0);
        let finder = (!patterns.is_empty()).then(|| {
            AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .build(&patterns)
        });
        Self { finder, longest }
    }

    /// The line without the secrets in it.
    pub(super) fn hide(&self, line: Vec<u8>) -> Vec<u8> {
        match &self.finder {
            Some(Ok(finder)) if finder.is_match(&line) => {
                let hidden = vec![HIDDEN; finder.patterns_len()];
                finder.replace_all_bytes(&line, &hidden)
            }
            Some(Err(_)) => HIDDEN.to_vec(),
            _ => line,
        }
    }

    /// How many bytes of a line that goes on may be the beginning of a secret.
    pub(super) fn overlap(&self) -> usize {
        self.longest.saturating_sub(1)
    }
}

fn lines_to_hide(secret: &Secret) -> impl Iterator<Item = &[u8]> {
    let content = secret.expose().trim_ascii();
    let min = if content.contains(&b'\n') {
        MIN_LINE_BYTES
    } else {
        MIN_SECRET_BYTES
    };
    content
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(move |line| line.len() >= min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_line_by_line() {
        let secrets = [
            "hunter2\n",
            "abc",
            "{\n  \"key\": \"k-123\"\r\n}\n",
            "hunter2-long",
        ];
        let mask = Mask::new(&secrets.map(Secret::new));
        for (line, expected) in [
            ("", ""),
            ("hunter2", "***"),
            (
                "+ curl -u me:hunter2 https://hunter2-long/",
                "+ curl -u me:*** https://***/",
            ),
            ("hunter hunter22", "hunter ***2"),
            ("abc { }", "abc { }"),
            ("got:   \"key\": \"k-123\"", "got:   ***"),
        ] {
            let hidden = mask.hide(line.into());
            assert_eq!(String::from_utf8(hidden).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn nothing_is_hidden_where_nothing_is_secret() {
        for secrets in [vec![], vec![Secret::new("")], vec![Secret::new(" \n")]] {
            let mask = Mask::new(&secrets);
            assert_eq!(mask.hide(b"a line".to_vec()), b"a line");
            assert_eq!(mask.overlap(), 0);
        }
    }
}
