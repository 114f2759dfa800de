//! Paths as `COPY` and `WORKDIR` write them.

use wythe_layers::tree::EntryPath;

/// Normalises as `chroot` would see it: `..` stops at the root. `None` where the bytes cannot be a
/// path (NUL, over-long).
pub(crate) fn clean_in_root(bytes: &[u8]) -> Option<EntryPath> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in bytes.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    EntryPath::parse(&parts.join(&b'/'))
}

/// `text` seen from the directory `base`: absolute as it is, else below it.
pub(crate) fn absolute_from(base: &str, text: &str) -> String {
    let joined = if text.starts_with('/') {
        text.to_owned()
    } else {
        format!("{base}/{text}")
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
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
