//! What a token is asked for (distribution `token/scope`): resources and actions on them.

use std::collections::{BTreeMap, BTreeSet};

/// A set of scopes, merged by resource and in one fixed order, so that it can be a cache key.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Scopes(BTreeMap<String, BTreeSet<String>>);

impl Scopes {
    /// Reading a repository.
    pub(crate) fn pull(repository: &str) -> Self {
        Self::default().with(repository, &["pull"])
    }

    /// Reading and writing a repository.
    pub(crate) fn push(repository: &str) -> Self {
        Self::default().with(repository, &["pull", "push"])
    }

    /// Reading and deleting from a repository.
    pub(crate) fn delete(repository: &str) -> Self {
        Self::default().with(repository, &["pull", "delete"])
    }

    /// These and reading another repository: what a cross-repository mount needs.
    pub(crate) fn and_pull(&self, repository: &str) -> Self {
        self.clone().with(repository, &["pull"])
    }

    fn with(mut self, repository: &str, actions: &[&str]) -> Self {
        self.0
            .entry(format!("repository:{repository}"))
            .or_default()
            .extend(actions.iter().map(|&action| action.to_owned()));
        self
    }

    /// These and those of a challenge (`repository:a:pull,push repository:b:pull`).
    pub(crate) fn and_text(&self, text: &str) -> Self {
        let mut merged = self.clone();
        for scope in text.split_ascii_whitespace() {
            // The name may hold a port, so the actions follow the last colon.
            let Some((resource, actions)) = scope.rsplit_once(':') else {
                continue;
            };
            if !resource.contains(':') {
                continue;
            }
            merged.0.entry(resource.to_owned()).or_default().extend(
                actions
                    .split(',')
                    .filter(|action| !action.is_empty())
                    .map(str::to_owned),
            );
        }
        merged
    }

    /// Each as the token service wants it.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.0
            .iter()
            .map(|(resource, actions)| {
                let actions: Vec<_> = actions.iter().map(String::as_str).collect();
                format!("{resource}:{}", actions.join(","))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_merge_by_resource() {
        let scopes = Scopes::push("b")
            .and_pull("a")
            .and_text("repository:b:delete registry:catalog:* nonsense x:y repository:h:1/c:pull");
        assert_eq!(
            scopes.texts(),
            [
                "registry:catalog:*",
                "repository:a:pull",
                "repository:b:delete,pull,push",
                "repository:h:1/c:pull",
            ]
        );
        assert_eq!(
            Scopes::pull("x"),
            Scopes::pull("x").and_text("repository:x:pull")
        );
    }
}
