//! What must not be printed: passwords and tokens, and the parts of URLs that carry them.

use std::fmt;

use reqwest::Url;

/// A password or a token. `Debug` and `Display` never show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself: only for putting it on the wire or into a credentials file.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// A URL for people: without user, password, query and fragment (a query may be a signature).
#[derive(Clone, PartialEq, Eq)]
pub struct SafeUrl(String);

impl SafeUrl {
    /// Scheme, host, port and path.
    pub(crate) fn of(url: &Url) -> Self {
        let mut safe = url.clone();
        // Neither can fail on a URL with a host; on others there is nothing to remove.
        let _ = safe.set_username("");
        let _ = safe.set_password(None);
        safe.set_query(None);
        safe.set_fragment(None);
        Self(safe.to_string())
    }
}

impl fmt::Debug for SafeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SafeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_never_printed() {
        let secret = Secret::new("hunter2");
        assert!(!format!("{secret:?} {secret}").contains("hunter2"));
        let url = Url::parse("https://user:hunter2@host:1/path?sig=hunter2#hunter2").unwrap();
        let safe = SafeUrl::of(&url);
        assert_eq!(format!("{safe}"), "https://host:1/path");
        assert_eq!(format!("{safe:?}"), "https://host:1/path");
    }
}
