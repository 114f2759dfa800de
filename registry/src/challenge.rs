//! `WWW-Authenticate` (RFC 9110 §11.6.1): what a registry wants before it answers.
//!
//! Pure; the text comes from whoever answers on the other side. Never fails: what cannot be
//! understood is left out, and nothing after it is believed.

use std::collections::BTreeMap;

/// Longest header value looked at, in bytes; registries send some 200.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// One challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// `basic`, `bearer`, …: lower case.
    pub scheme: String,
    /// `realm`, `service`, `scope`, `error`, …: names in lower case. The first of a name counts.
    pub parameters: BTreeMap<String, String>,
}

impl Challenge {
    /// A parameter's value.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }
}

/// All challenges of one header value, in order.
pub fn parse_challenges(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    if header.len() > MAX_HEADER_BYTES {
        return challenges;
    }
    let mut rest = Cursor(header);
    loop {
        rest.skip(|b| matches!(b, b' ' | b'\t' | b','));
        if rest.0.is_empty() {
            return challenges;
        }
        let Some(word) = rest.token() else {
            return challenges;
        };
        if let Some(value) = rest.parameter_value() {
            let (Some(value), Some(challenge)) = (value, challenges.last_mut()) else {
                return challenges;
            };
            challenge
                .parameters
                .entry(word.to_ascii_lowercase())
                .or_insert(value);
        } else {
            challenges.push(Challenge {
                scheme: word.to_ascii_lowercase(),
                parameters: BTreeMap::new(),
            });
            rest.skip_token68();
        }
    }
}

struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn skip(&mut self, what: impl Fn(u8) -> bool) {
        self.take(what);
    }

    fn take(&mut self, what: impl Fn(u8) -> bool) -> &'a str {
        // Only ASCII bytes are taken, so the split is on a character's edge.
        let end = self
            .0
            .bytes()
            .position(|b| !b.is_ascii() || !what(b))
            .unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    fn token(&mut self) -> Option<&'a str> {
        let token = self.take(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        (!token.is_empty()).then_some(token)
    }

    /// What follows a word: `None` when the word is a scheme, `Some(None)` when it is a parameter
    /// whose value is broken.
    fn parameter_value(&mut self) -> Option<Option<String>> {
        let mut ahead = Cursor(self.0);
        ahead.skip(|b| matches!(b, b' ' | b'\t'));
        let value = ahead.0.strip_prefix('=')?;
        let mut ahead = Cursor(value);
        ahead.skip(|b| matches!(b, b' ' | b'\t'));
        let value = match ahead.0.strip_prefix('"') {
            Some(quoted) => {
                ahead.0 = quoted;
                ahead.quoted()
            }
            // Some servers send bare URLs here, so more than a token is taken.
            None => Some(ahead.take(|b| b.is_ascii_graphic() && b != b',').to_owned()),
        };
        self.0 = ahead.0;
        Some(value)
    }

    /// The rest of a quoted string whose opening quote is gone.
    fn quoted(&mut self) -> Option<String> {
        let mut value = String::new();
        let mut characters = self.0.chars();
        loop {
            match characters.next()? {
                '"' => {
                    self.0 = characters.as_str();
                    return Some(value);
                }
                '\\' => value.push(characters.next()?),
                other => value.push(other),
            }
        }
    }

    /// `Negotiate a87421000492aa874209af8bc028==`: one lump instead of parameters.
    fn skip_token68(&mut self) {
        let mut ahead = Cursor(self.0);
        ahead.skip(|b| b == b' ');
        let lump = ahead.take(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b));
        ahead.skip(|b| b == b'=');
        ahead.skip(|b| matches!(b, b' ' | b'\t'));
        if !lump.is_empty() && (ahead.0.is_empty() || ahead.0.starts_with(',')) {
            self.0 = ahead.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(header: &str) -> String {
        parse_challenges(header)
            .iter()
            .map(|c| format!("{}{:?}", c.scheme, c.parameters))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        for (header, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/a:pull,push""#,
                r#"bearer{"realm": "https://auth.docker.io/token", "scope": "repository:library/a:pull,push", "service": "registry.docker.io"}"#,
            ),
            (
                r#"Basic realm="Registry Realm""#,
                r#"basic{"realm": "Registry Realm"}"#,
            ),
            (
                r#"BASIC realm="a\"b", Bearer realm=https://x/y?z=1,service = s , Negotiate"#,
                r#"basic{"realm": "a\"b"} bearer{"realm": "https://x/y?z=1", "service": "s"} negotiate{}"#,
            ),
            (
                "Negotiate a87421==, Basic realm=\"x\"",
                r#"negotiate{} basic{"realm": "x"}"#,
            ),
            ("Basic", "basic{}"),
            (",, ,Basic realm=a", r#"basic{"realm": "a"}"#),
            (r#"Bearer realm="a",realm="b""#, r#"bearer{"realm": "a"}"#),
            (r#"Bearer realm="no end"#, "bearer{}"),
            (r#"realm="x", Basic"#, ""),
            ("\u{1f4a3}", ""),
            ("", ""),
        ] {
            assert_eq!(shown(header), expected, "{header}");
        }
        assert!(parse_challenges(&"Basic,".repeat(10_000)).is_empty());
    }

    proptest! {
        #[test]
        fn any_header_is_survived(header in ".{0,300}") {
            parse_challenges(&header);
        }

        #[test]
        fn quoted_values_come_back(value in "[ -~]{0,60}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let header = format!("Bearer realm=\"{quoted}\",service=s");
            let parsed = parse_challenges(&header);
            prop_assert_eq!(parsed[0].parameter("realm"), Some(value.as_str()));
            prop_assert_eq!(parsed[0].parameter("service"), Some("s"));
        }
    }
}
