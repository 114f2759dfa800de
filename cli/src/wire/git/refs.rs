//! What `git ls-remote` lists.

use wythe_builder::{GitCommit, is_commit};

/// The ref that a name means: written out first, then a branch, then a tag, as `git checkout` and
/// BuildKit prefer them.
pub(super) fn choose(listing: &str, name: &str) -> Option<GitCommit> {
    let below = |prefix: &str| format!("{prefix}{}", name.strip_prefix(prefix).unwrap_or(name));
    let object = |wanted: &str| {
        let mut lines = listing.lines().filter_map(|line| line.split_once('\t'));
        let found = lines.find(|(object, found)| *found == wanted && is_commit(object));
        found.map(|(object, _)| object.to_owned())
    };
    ["refs/", "refs/heads/", "refs/tags/"]
        .into_iter()
        .find_map(|prefix| {
            let full = below(prefix);
            let found = object(&full)?;
            // What an annotated tag marks.
            let commit = object(&format!("{full}^{{}}"));
            Some(GitCommit {
                commit: commit.unwrap_or_else(|| found.clone()),
                object: found,
                reference: Some(full),
            })
        })
}

/// The branch that `HEAD` is, else the commit that it is.
pub(super) fn default_branch(listing: &str) -> Option<GitCommit> {
    let find = |wanted: &dyn Fn(&str) -> bool| {
        let mut lines = listing.lines().filter_map(|line| line.split_once('\t'));
        let found = lines.find(|(what, name)| *name == "HEAD" && wanted(what));
        found.map(|(what, _)| what.to_owned())
    };
    let commit = find(&is_commit)?;
    let reference = find(&|what| what.starts_with("ref: refs/heads/"));
    let reference = reference.and_then(|text| text.strip_prefix("ref: ").map(str::to_owned));
    Some(GitCommit {
        reference: reference.filter(|name| super::check_name(name).is_ok()),
        object: commit.clone(),
        commit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_goes_before_a_tag_and_a_tag_means_its_commit() {
        let (a, b, c) = ("a".repeat(40), "b".repeat(40), "c".repeat(40));
        let listing = format!(
            "{a}\trefs/heads/v1\n{b}\trefs/tags/v1\n{c}\trefs/tags/v1^{{}}\n{b}\trefs/heads/x/v1\n\
             {b}\trefs/tags/only\n{c}\trefs/tags/only^{{}}\n{a}\trefs/pull/1/head\n{c}\trefs/tags/light\n"
        );
        for (name, expected) in [
            ("v1", Some(("refs/heads/v1", &a, &a))),
            ("refs/heads/v1", Some(("refs/heads/v1", &a, &a))),
            ("refs/tags/v1", Some(("refs/tags/v1", &b, &c))),
            ("tags/v1", Some(("refs/tags/v1", &b, &c))),
            ("heads/v1", Some(("refs/heads/v1", &a, &a))),
            ("only", Some(("refs/tags/only", &b, &c))),
            ("light", Some(("refs/tags/light", &c, &c))),
            ("pull/1/head", Some(("refs/pull/1/head", &a, &a))),
            ("refs/pull/1/head", Some(("refs/pull/1/head", &a, &a))),
            ("v2", None),
            ("1/head", None),
            ("HEAD", None),
        ] {
            let found = choose(&listing, name);
            let expected = expected.map(|(reference, object, commit)| GitCommit {
                reference: Some(reference.to_owned()),
                object: object.clone(),
                commit: commit.clone(),
            });
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn the_default_branch_is_what_head_is() {
        let a = "a".repeat(40);
        let found = |listing: &str| default_branch(listing).map(|found| found.reference);
        let main = Some("refs/heads/main".to_owned());
        assert_eq!(
            found(&format!("ref: refs/heads/main\tHEAD\n{a}\tHEAD\n")),
            Some(main)
        );
        assert_eq!(found(&format!("{a}\tHEAD\n")), Some(None));
        let hostile = format!("ref: refs/heads/../../x\tHEAD\n{a}\tHEAD\n");
        assert_eq!(found(&hostile), Some(None));
        assert_eq!(found("ref: refs/heads/main\tHEAD\n"), None);
        assert_eq!(found(""), None);
    }
}
