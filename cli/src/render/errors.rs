//! Errors as people read them: what failed, why, level by level, and what to do next.

use super::{printable, stderr_line};

/// What a person can do about an error.
pub(crate) trait Hint {
    /// One sentence, or nothing.
    fn hint(&self) -> Option<String>;
}

/// Prints an error, its causes and its hints.
pub(crate) fn report(error: &anyhow::Error) {
    let levels: Vec<String> = error.chain().map(ToString::to_string).collect();
    let mut said: Option<&str> = None;
    for (depth, level) in levels.iter().enumerate() {
        // A transparent wrapper says its cause's words; once is enough.
        if said == Some(level.as_str()) {
            continue;
        }
        said = Some(level);
        match depth {
            0 => stderr_line(&format!("error: {}", multiline(level))),
            _ => stderr_line(&format!("  because: {}", multiline(level))),
        }
    }
    let mut hints: Vec<String> = error.chain().filter_map(hint_of).collect();
    hints.dedup();
    for hint in hints {
        stderr_line(&format!("hint: {hint}"));
    }
}

/// Line breaks of our own diagnostics stay; whatever else could move the cursor does not.
fn multiline(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
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
