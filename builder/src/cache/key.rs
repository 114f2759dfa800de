//! Cache keys: a digest over named inputs, which are kept so that a miss can be explained.

use wythe_layers::spec::{Algorithm, Digest, Hasher};

/// Changed whenever a step of the same inputs would give another result than before.
const KEY_VERSION: &str = "2";

/// The key of a step: known before the work is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CacheKey {
    digest: Digest,
    inputs: Vec<(&'static str, String)>,
}

impl CacheKey {
    /// Its name in the index.
    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }

    /// What it was made of, in order.
    pub(crate) fn inputs(&self) -> &[(&'static str, String)] {
        &self.inputs
    }
}

/// Collects inputs.
#[derive(Debug)]
pub(crate) struct KeyBuilder {
    hasher: Hasher,
    inputs: Vec<(&'static str, String)>,
}

impl KeyBuilder {
    /// Begins the key of a step of this kind.
    pub(crate) fn new(kind: &str) -> Self {
        let mut builder = Self {
            hasher: Hasher::new(Algorithm::Sha256),
            inputs: Vec::new(),
        };
        builder.push("version", KEY_VERSION);
        builder.push("kind", kind);
        builder
    }

    /// Adds an input. Lengths are hashed too, so no two lists of inputs run together.
    pub(crate) fn push(&mut self, name: &'static str, value: impl Into<String>) {
        let value = value.into();
        self.hasher.update(&(name.len() as u64).to_le_bytes());
        self.hasher.update(name.as_bytes());
        self.hasher.update(&(value.len() as u64).to_le_bytes());
        self.hasher.update(value.as_bytes());
        self.inputs.push((name, value));
    }

    /// Adds an input for each value.
    pub(crate) fn extend<'a>(
        &mut self,
        name: &'static str,
        values: impl IntoIterator<Item = &'a String>,
    ) {
        for value in values {
            self.push(name, value.as_str());
        }
    }

    /// The key.
    pub(crate) fn finish(self) -> CacheKey {
        CacheKey {
            digest: self.hasher.finish(),
            inputs: self.inputs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_do_not_run_together() {
        let key = |pairs: &[(&'static str, &str)]| {
            let mut builder = KeyBuilder::new("run");
            for (name, value) in pairs {
                builder.push(name, *value);
            }
            builder.finish()
        };
        assert_eq!(key(&[("a", "b")]), key(&[("a", "b")]));
        for other in [
            &[("a", "bb")][..],
            &[("ab", "")],
            &[("a", ""), ("b", "")],
            &[("a", "b"), ("a", "b")],
            &[],
        ] {
            assert_ne!(
                key(&[("a", "b")]).digest(),
                key(other).digest(),
                "{other:?}"
            );
        }
    }
}
