//! `COPY` and `ADD`: sources, destination and flags, expanded.

use super::checksum;
use super::stage::{Words, parse_chown};
use super::{Chmod, Chown, CopySource, CopyStep, FileSource};
use crate::chmod::Symbolic;
use crate::parse::{Add, Copy, Diagnostic, InlineFile, Transfer, Word};
use crate::path::absolute_from;
use crate::{GitPlace, Result};

/// Largest octal mode.
const MAX_MODE: u32 = 0o7777;

/// Plans a `COPY`; also its history text.
pub(super) fn copy(
    copy: &Copy,
    from: FileSource,
    workdir: &str,
    words: &Words<'_>,
) -> Result<(CopyStep, String)> {
    let head = if copy.parents {
        "COPY --parents"
    } else {
        "COPY"
    };
    let (mut step, text) = transfer(&copy.files, from, head, workdir, words, Remote::Refused)?;
    step.parents = copy.parents;
    Ok((step, text))
}

/// Plans an `ADD`; also its history text.
pub(super) fn add(add: &Add, workdir: &str, words: &Words<'_>) -> Result<(CopyStep, String)> {
    let remote = Remote::Allowed {
        unpack: add.unpack.unwrap_or(false),
        keep_git_dir: add.keep_git_dir,
    };
    let (mut step, text) = transfer(
        &add.files,
        FileSource::Context,
        "ADD",
        workdir,
        words,
        remote,
    )?;
    step.unpack = add.unpack.unwrap_or(true);
    if let Some(word) = &add.checksum {
        let checksum = words.expand(word)?;
        if !checksum.is_empty() {
            set_checksum(&mut step, checksum, word, words)?;
        }
    }
    Ok((step, text))
}

/// A checksum is of one remote file or repository; here-documents beside it do not count.
fn set_checksum(
    step: &mut CopyStep,
    checksum: String,
    word: &Word,
    words: &Words<'_>,
) -> Result<()> {
    let refuse = |diagnostic: Diagnostic| Err(words.place.refuse(diagnostic));
    let mut paths = step
        .sources
        .iter_mut()
        .filter(|source| !matches!(source, CopySource::Inline { .. }));
    let (Some(only), None) = (paths.next(), paths.next()) else {
        let message = "checksum can't be specified for multiple sources";
        return refuse(Diagnostic::error(word.span, message).hint("write an ADD for each source"));
    };
    match only {
        CopySource::Http { .. } => {
            if let Some(problem) = checksum::problem(&checksum) {
                let diagnostic = Diagnostic::error(word.span, problem);
                return refuse(diagnostic.expected("sha256: and 64 digits, or sha384, sha512"));
            }
            step.checksum = Some(checksum);
        }
        CopySource::Git(place) => {
            if let Some(own) = place.checksum.as_ref().filter(|own| **own != checksum) {
                let message = format!("checksum mismatch {checksum:?} != {own:?}");
                return refuse(Diagnostic::error(word.span, message));
            }
            place.checksum = Some(checksum);
        }
        _ => {
            let message = "checksum requires HTTP(S) or Git sources";
            return refuse(Diagnostic::error(word.span, message));
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Remote {
    Refused,
    Allowed {
        unpack: bool,
        keep_git_dir: Option<bool>,
    },
}

fn transfer(
    files: &Transfer,
    from: FileSource,
    head: &str,
    workdir: &str,
    words: &Words<'_>,
    remote: Remote,
) -> Result<(CopyStep, String)> {
    let mut text = head.to_owned();
    let (chown, chmod) = flags(files, words, &mut text)?;
    let mut sources = Vec::new();
    for word in files.paths() {
        let path = words.expand(word)?;
        let source = source(path.clone(), word.span, remote, words)?;
        match &source {
            CopySource::Git(place) => {
                text.push_str(&format!(" {}", place.repository.hide_in(&path)))
            }
            _ => text.push_str(&format!(" {path}")),
        }
        sources.push(source);
    }
    for file in files.inline_files() {
        text.push_str(&format!(" <<{}", file.name));
        let content = if file.expand {
            words
                .expander
                .heredoc(&file.content, words.environment)
                .map_err(|error| words.place.error(file.span, error.to_string()))?
                .text
        } else {
            words
                .expander
                .charge(file.content.len())
                .map_err(|error| words.place.error(file.span, error.to_string()))?;
            file.content.to_string()
        };
        sources.push(CopySource::Inline {
            name: inline_name(file, words)?,
            content,
        });
    }
    let destination = words.expand(&files.destination)?;
    text.push_str(&format!(" {destination}"));
    let step = CopyStep {
        from,
        sources,
        destination: destination_path(workdir, &destination),
        chown,
        // As written: BuildKit expands the other flags, not this one.
        exclude: files
            .exclude
            .iter()
            .map(|word| word.value.clone())
            .collect(),
        parents: false,
        // With a mode BuildKit copies as if there was no --link: links in the image are followed.
        link: files.link && chmod.is_none(),
        chmod,
        unpack: false,
        checksum: None,
    };
    Ok((step, text))
}

fn flags(
    files: &Transfer,
    words: &Words<'_>,
    text: &mut String,
) -> Result<(Option<Chown>, Option<Chmod>)> {
    let mut chown = None;
    if let Some(word) = &files.chown {
        let owner = words.expand(word)?;
        if !owner.is_empty() {
            text.push_str(&format!(" --chown={owner}"));
            chown = Some(parse_chown(&owner));
        }
    }
    let mut chmod = None;
    if let Some(word) = &files.chmod {
        let mode = words.expand(word)?;
        if !mode.is_empty() {
            text.push_str(&format!(" --chmod={mode}"));
        }
        chmod = parse_chmod(&mode).map_err(|message| {
            words.place.refuse(
                Diagnostic::error(word.span, message).expected("such as 0755 or u=rwX,go=rX"),
            )
        })?;
    }
    Ok((chown, chmod))
}

/// The file that a here-document becomes: its name cleaned of `.` and `..`, which must leave one part.
fn inline_name(file: &InlineFile, words: &Words<'_>) -> Result<String> {
    let clean = absolute_from("/", &file.name);
    match clean.strip_prefix('/') {
        Some(name) if !name.is_empty() && !name.contains('/') => Ok(name.to_owned()),
        _ => {
            let message = format!("{:?} cannot be the name of a file", file.name);
            let diagnostic = Diagnostic::error(file.span, message)
                .hint("the word after << is the name; put folders into the destination");
            Err(words.place.refuse(diagnostic))
        }
    }
}

fn source(
    path: String,
    span: crate::parse::Span,
    remote: Remote,
    words: &Words<'_>,
) -> Result<CopySource> {
    let refuse = |message: &str| Err(words.place.error(span, message));
    let refuse_copy = |message: &str| {
        let diagnostic = Diagnostic::error(span, message);
        Err(words.place.refuse(diagnostic.hint("ADD takes addresses")))
    };
    let git = GitPlace::parse(&path).map_err(|error| words.place.error(span, error.to_string()))?;
    let is_http = path.starts_with("http://") || path.starts_with("https://");
    match (git, remote) {
        (Some(_), Remote::Refused) => refuse_copy("source can't be a git ref for COPY"),
        (None, Remote::Refused) if is_http => refuse_copy("source can't be a URL for COPY"),
        (Some(mut place), Remote::Allowed { keep_git_dir, .. }) => {
            match (place.keep_git_dir, keep_git_dir) {
                (Some(own), Some(flag)) if own != flag => {
                    return refuse("inconsistent keep-git-dir configuration");
                }
                (None, flag) => place.keep_git_dir = flag,
                _ => {}
            }
            Ok(CopySource::Git(place))
        }
        (None, Remote::Allowed { unpack, .. }) if is_http => {
            Ok(CopySource::Http { url: path, unpack })
        }
        (None, _) => Ok(CopySource::Path { text: path, span }),
    }
}

fn parse_chmod(text: &str) -> Result<Option<Chmod>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let octal = text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let mode = octal
        .then(|| u32::from_str_radix(text, 8).ok())
        .flatten()
        .filter(|mode| *mode <= MAX_MODE);
    if let Some(mode) = mode {
        return Ok(Some(Chmod::Octal(mode)));
    }
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(format!(
            "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
        ));
    }
    match Symbolic::parse(text) {
        Some(mode) => Ok(Some(Chmod::Symbolic(mode))),
        None => Err(format!("invalid chmod parameter: '{text}'")),
    }
}

/// Absolute, normalised; a final slash (also one that `.` implies) stays.
fn destination_path(workdir: &str, text: &str) -> String {
    let is_directory = text.is_empty()
        || text.ends_with('/')
        || text == "."
        || text == ".."
        || text.ends_with("/.")
        || text.ends_with("/..");
    let path = absolute_from(workdir, text);
    if is_directory && path != "/" {
        format!("{path}/")
    } else {
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_keep_their_final_slash() {
        for (workdir, text, expected) in [
            ("/app", ".", "/app/"),
            ("/app", "", "/app/"),
            ("/app", "x", "/app/x"),
            ("/app", "x/", "/app/x/"),
            ("/app", "/x", "/x"),
            ("/app", "../../..", "/"),
            ("", "x", "/x"),
            ("/", ".", "/"),
        ] {
            assert_eq!(destination_path(workdir, text), expected, "{text}");
        }
    }

    #[test]
    fn modes_are_octal_or_symbolic() {
        assert_eq!(parse_chmod("0755"), Ok(Some(Chmod::Octal(0o755))));
        assert_eq!(parse_chmod(""), Ok(None));
        assert!(matches!(parse_chmod("u+x"), Ok(Some(Chmod::Symbolic(_)))));
        for bad in ["9", "17777", "0888", "rwx"] {
            assert!(parse_chmod(bad).is_err(), "{bad}");
        }
    }
}
