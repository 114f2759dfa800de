//! `ADD --checksum` of a file: `algorithm:digits`, checked before anything is fetched.

/// The algorithms that are known, with their digits.
const ALGORITHMS: [(&str, usize); 3] = [("sha256", 64), ("sha384", 96), ("sha512", 128)];

/// What is wrong with `text`, if something is; BuildKit's words.
pub(super) fn problem(text: &str) -> Option<&'static str> {
    const FORMAT: &str = "invalid checksum digest format";
    let Some((algorithm, digits)) = text
        .split_once(':')
        .filter(|(algorithm, digits)| !algorithm.is_empty() && !digits.is_empty())
    else {
        return Some(FORMAT);
    };
    let Some((_, length)) = ALGORITHMS.iter().find(|(name, _)| *name == algorithm) else {
        let plausible = is_algorithm(algorithm) && digits.bytes().all(is_digest_byte);
        return Some(if plausible {
            "unsupported digest algorithm"
        } else {
            FORMAT
        });
    };
    if digits.len() != *length {
        return Some("invalid checksum digest length");
    }
    let hexadecimal = digits
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (!hexadecimal).then_some(FORMAT)
}

/// Parts of small letters and digits with one separator between them (image-spec descriptor.md §Digests).
fn is_algorithm(text: &str) -> bool {
    text.split(['.', '+', '_', '-']).all(|part| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    })
}

fn is_digest_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'=' | b'_' | b'-')
}

#[cfg(test)]
mod tests {
    use super::problem;

    /// reference, add#checksum: the digest is written as `algorithm:digits`.
    #[test]
    fn checksums_are_digests() {
        let digits = |count| "0".repeat(count);
        for good in [
            format!("sha256:{}", digits(64)),
            format!("sha384:{}", digits(96)),
            format!("sha512:{}", digits(128)),
        ] {
            assert_eq!(problem(&good), None, "{good}");
        }
        for (bad, reason) in [
            ("sha256", "format"),
            ("sha256:", "format"),
            (":00", "format"),
            ("", "format"),
            ("sha256:00", "length"),
            ("sha512:00", "length"),
            ("md5:00", "algorithm"),
            ("foo+bar:x=", "algorithm"),
            ("foo++bar:x", "format"),
            ("SHA256:00", "format"),
            ("md5:a b", "format"),
        ] {
            let said = problem(bad).unwrap_or_default();
            assert!(said.ends_with(reason), "{bad}: {said}");
        }
        let upper = format!("sha256:{}", "A".repeat(64));
        assert_eq!(problem(&upper), Some("invalid checksum digest format"));
    }
}
