//! Paths as `COPY` and `WORKDIR` write them.

use wythe_layers::tree::{EntryPath, without_parents};

/// Normalises as `chroot` would see it: `..` stops at the root. `None` where the bytes cannot be a
/// path (NUL, over-long).
pub(crate) fn clean_in_root(bytes: &[u8]) -> Option<EntryPath> {
    EntryPath::parse(&without_parents(bytes))
}

/// `text` seen from the directory `base`: absolute as it is, else below it.
pub(crate) fn absolute_from(base: &str, text: &str) -> String {
    let joined = if text.starts_with('/') {
        text.to_owned()
    } else {
        format!("{base}/{text}")
    };
    let path = without_parents(joined.as_bytes());
    // Whole parts of what was text are text.
    format!("/{}", String::from_utf8_lossy(&path))
}

/// For messages and keys, with a leading slash.
pub(crate) fn display(path: &EntryPath) -> String {
    format!("/{}", String::from_utf8_lossy(path.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_never_leave_the_root() {
        for (text, expected) in [
            ("", ""),
            (".", ""),
            ("/", ""),
            ("../../etc/passwd", "etc/passwd"),
            ("/a/./b//c/", "a/b/c"),
            ("a/../../b", "b"),
        ] {
            let path = clean_in_root(text.as_bytes()).unwrap();
            assert_eq!(path.as_bytes(), expected.as_bytes(), "{text}");
            assert_eq!(absolute_from("/", text), format!("/{expected}"));
        }
        assert_eq!(clean_in_root(b"a\0b"), None);
        assert_eq!(absolute_from("/w", "../x"), "/x");
        assert_eq!(absolute_from("/w", "x/."), "/w/x");
        assert_eq!(absolute_from("/w", "/x"), "/x");
    }
}
