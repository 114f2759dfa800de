//! Errors as people read them: what failed, why, level by level, and what to do next.

use wythe_builder::parse::Style;
use wythe_builder::{Error, Network};

use super::{printable, stderr_line};

/// What a person can do about an error.
pub(crate) trait Hint {
    /// One sentence, or nothing.
    fn hint(&self) -> Option<String>;
}

/// How many of a failed step's last lines are shown again, so that nobody has to look for them.
const LAST_LINES: usize = 12;

/// Prints an error, its causes and its hints.
pub(crate) fn report(error: &anyhow::Error) {
    let chain: Vec<&(dyn std::error::Error + 'static)> = error.chain().collect();
    let mut said = String::new();
    for (depth, level) in chain.iter().enumerate() {
        let next = chain.get(depth + 1);
        let text = match build_error(*level) {
            // These point into a file; the excerpt says more than any list of causes.
            Some(Error::Dockerfile(parse)) => {
                stderr_line(parse.render(Style::Colour).trim_end());
                break;
            }
            Some(Error::Step { step, .. }) => {
                let cause = next.map_or_else(String::new, ToString::to_string);
                stderr_line(step.render(&cause, Style::Colour).trim_end());
                said = cause;
                continue;
            }
            Some(Error::ProcessFailed { last_lines, .. }) => {
                show_last_lines(last_lines);
                level.to_string()
            }
            _ => level.to_string(),
        };
        // A transparent wrapper says its cause's words; once is enough.
        if text == said {
            continue;
        }
        let lead = if depth == 0 { "error" } else { "  because" };
        stderr_line(&format!("{lead}: {}", multiline(&text)));
        said = text;
    }
    let mut hints: Vec<String> = chain.iter().filter_map(|level| hint_of(*level)).collect();
    hints.dedup();
    for hint in hints {
        stderr_line(&format!("hint: {}", multiline(&hint)));
    }
}

/// A level that is a build error, in a box (as the cause of another one) or not.
fn build_error<'a>(level: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    level
        .downcast_ref::<Error>()
        .or_else(|| level.downcast_ref::<Box<Error>>().map(Box::as_ref))
}

fn show_last_lines(lines: &[Vec<u8>]) {
    let first = lines.len().saturating_sub(LAST_LINES);
    for line in lines.iter().skip(first) {
        stderr_line(&format!(
            "  | {}",
            printable(&String::from_utf8_lossy(line))
        ));
    }
}

/// Line breaks of our own diagnostics stay; whatever else could move the cursor does not. Further
/// lines are indented, so that text of an image or a registry cannot pass for a line of ours.
fn multiline(text: &str) -> String {
    text.lines()
        .map(printable)
        .collect::<Vec<_>>()
        .join("\n    ")
}

fn hint_of(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<wythe_layers::Error>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<wythe_registry::Error>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<wythe_runtime::Error>() {
        return error.hint();
    }
    if let Some(error) = build_error(error) {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<crate::settings::NoSuchImage>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<std::io::Error>() {
        return error.hint();
    }
    None
}

impl Hint for std::io::Error {
    fn hint(&self) -> Option<String> {
        use std::io::ErrorKind;
        let text = match self.kind() {
            ErrorKind::StorageFull => {
                "the disk is full; free some space, or use another store with --root"
            }
            ErrorKind::QuotaExceeded => "your disk quota is used up; use another store with --root",
            ErrorKind::ReadOnlyFilesystem => "the disk is read-only; use another store with --root",
            _ => return None,
        };
        Some(text.to_owned())
    }
}

impl Hint for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::SourceMissing { hint, .. } => hint.clone(),
            Self::NoDockerfile { .. } => Some(
                "name it with --file, `-` being standard input; a first one may be as short as \
                 `FROM debian`"
                    .into(),
            ),
            Self::MissingDockerfile { meant, .. } => Some(match meant {
                Some(meant) => format!("did you mean {}?", meant.display()),
                None => "--file is relative to the current directory, not to the context".into(),
            }),
            Self::MissingGrant { kind: "secret", id } => {
                Some(format!("give it with --secret id={id},src=FILE"))
            }
            Self::MissingGrant { id, .. } => Some(format!("give it with --ssh {id}")),
            Self::ProcessFailed {
                last_lines,
                network: Network::Default,
                ..
            } if wythe_runtime::is_offline()
                && last_lines.iter().any(|line| tells_of_no_network(line)) =>
            {
                Some("this machine has no route to anywhere, and neither has a step".into())
            }
            _ => None,
        }
    }
}

/// Whether a line is what programs say when nothing outside can be reached.
fn tells_of_no_network(line: &[u8]) -> bool {
    const SAID: [&str; 9] = [
        "could not resolve",
        "bad address",
        "name resolution",
        "name or service not known",
        "network is unreachable",
        "network unreachable",
        "could not connect",
        "eai_again",
        "no such host",
    ];
    let line = String::from_utf8_lossy(line).to_lowercase();
    SAID.iter().any(|said| line.contains(said))
}

impl Hint for crate::settings::NoSuchImage {
    fn hint(&self) -> Option<String> {
        Some(format!(
            "`wythe images` lists what is there; `wythe pull {}` fetches it",
            self.reference.familiar()
        ))
    }
}

impl Hint for wythe_layers::Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::DigestMismatch { .. } | Self::SizeMismatch { .. } => Some(
                "what was sent is not what was asked for: try again, or ask who runs the registry"
                    .into(),
            ),
            Self::BlobMissing { .. } => Some("pull or build the image again".into()),
            _ => None,
        }
    }
}
