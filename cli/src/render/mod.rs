//! What people and scripts see. Standard output is data; standard error is for people.

pub(crate) mod errors;
pub(crate) mod progress;
pub(crate) mod table;

use std::io::Write as _;

use anyhow::Context as _;

/// Writes data to standard output. A closed pipe (`wythe images | head -1`) ends the command quietly.
pub(crate) fn stdout(text: &str) -> anyhow::Result<()> {
    stdout_bytes(text.as_bytes())
}

/// Writes bytes to standard output, exactly.
pub(crate) fn stdout_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}

/// Writes a line for people to standard error; nobody can be told when that fails.
pub(crate) fn stderr_line(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Writes a value as JSON and a newline.
pub(crate) fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value).context("cannot encode JSON")?;
    text.push('\n');
    stdout(&inert(&text))
}

/// JSON that no terminal obeys: what the encoder leaves as it is (it escapes the first 32 control
/// characters only) is escaped too. Such a character can only be inside a string.
fn inert(json: &str) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c != '\n' && is_unsafe(c) {
            let _ = write!(text, "\\u{:04x}", u32::from(c));
        } else {
            text.push(c);
        }
    }
    text
}

/// Whether a terminal might obey this character, or show others in another order because of it.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A size for people: `12.3 MB`, in powers of 1000 as Docker shows them.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let name = UNITS.get(unit).unwrap_or(&"B");
    match unit {
        0 => format!("{count} B"),
        _ if value < 9.995 => format!("{value:.2} {name}"),
        _ if value < 99.95 => format!("{value:.1} {name}"),
        _ => format!("{value:.0} {name}"),
    }
}

/// A time span for people.
pub(crate) fn seconds(span: std::time::Duration) -> String {
    let value = span.as_secs_f64();
    if value < 0.9995 {
        format!("{:.0} ms", value * 1000.0)
    } else if value < 60.0 {
        format!("{value:.1} s")
    } else {
        format!("{} min {:02} s", span.as_secs() / 60, span.as_secs() % 60)
    }
}

/// Text from an image, safe for a terminal: control characters are shown, not obeyed.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            if c != '\t' && is_unsafe(c) {
                c.escape_unicode().collect::<Vec<_>>()
            } else {
                vec![c]
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.00 kB"),
            (12_345, "12.3 kB"),
            (123_456, "123 kB"),
            (999_999, "1.00 MB"),
            (2_147_483_648, "2.15 GB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn escape_sequences_of_an_image_are_shown_not_obeyed() {
        assert_eq!(printable("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(printable("grün\t"), "grün\t");
        assert_eq!(printable("a\u{9b}2J\u{202e}b"), "a\\u{9b}2J\\u{202e}b");
    }

    #[test]
    fn hostile_labels_in_json_are_escaped_and_stay_what_they_are() {
        let label = "\u{1b}[2J\u{9b}2J\u{7f}\u{202e}grün\n";
        let text = inert(&serde_json::to_string(label).unwrap());
        assert!(!text.chars().any(is_unsafe), "{text:?}");
        assert!(text.contains("grün"));
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), label);
    }
}
