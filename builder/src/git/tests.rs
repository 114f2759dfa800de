use super::*;

fn parsed(text: &str) -> GitPlace {
    GitPlace::parse(text).unwrap().unwrap()
}

/// `REPOSITORY REF DIRECTORY`, `-` for none.
fn short(place: &GitPlace) -> String {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    format!(
        "{} {} {}",
        place.repository.0,
        or_dash(&place.name),
        or_dash(&place.directory)
    )
}

#[test]
fn every_form_of_an_address_is_understood() {
    // Dockerfile reference §Adding files from a Git repository; docker-build(1) §URL fragments and
    // §URL queries.
    for (text, expected) in [
        ("https://x.example/a.git", "https://x.example/a.git - -"),
        ("HTTPS://x.example/a.git", "https://x.example/a.git - -"),
        (
            "http://x.example:8080/a.git",
            "http://x.example:8080/a.git - -",
        ),
        ("https://x.example/.git", "https://x.example/.git - -"),
        ("https://x.example/a%2egit", "https://x.example/a%2egit - -"),
        (
            "https://x.example/a.git#main",
            "https://x.example/a.git main -",
        ),
        (
            "https://x.example/a.git#release/1.2",
            "https://x.example/a.git release/1.2 -",
        ),
        (
            "https://x.example/a.git#baz/qux:quux/quuz",
            "https://x.example/a.git baz/qux quux/quuz",
        ),
        (
            "https://x.example/a.git#:sub",
            "https://x.example/a.git - sub",
        ),
        (
            "https://x.example/a.git#main:",
            "https://x.example/a.git main -",
        ),
        ("https://x.example/a.git#", "https://x.example/a.git - -"),
        ("https://x.example/a.git?", "https://x.example/a.git - -"),
        (
            "https://x.example/a.git#ma%69n",
            "https://x.example/a.git main -",
        ),
        (
            "https://x.example/a.git?ref=v1&subdir=/s",
            "https://x.example/a.git v1 /s",
        ),
        (
            "https://x.example/a.git?subdir=/s#v1",
            "https://x.example/a.git v1 /s",
        ),
        (
            "https://x.example/a.git?subdir=a+b%2Fc",
            "https://x.example/a.git - a b/c",
        ),
        (
            "https://x.example/a.git?tag=v1",
            "https://x.example/a.git refs/tags/v1 -",
        ),
        (
            "https://x.example/a.git?tag=refs/tags/v1",
            "https://x.example/a.git refs/tags/v1 -",
        ),
        (
            "https://x.example/a.git?branch=v1",
            "https://x.example/a.git refs/heads/v1 -",
        ),
        (
            "https://x.example/a.git?tag=v1#refs/tags/v1",
            "https://x.example/a.git refs/tags/v1 -",
        ),
        (
            "https://x.example/a.git?ref=v1#v1",
            "https://x.example/a.git v1 -",
        ),
        (
            "https://u:p@x.example/a.git",
            "https://u:p@x.example/a.git - -",
        ),
        ("git://x.example/a", "git://x.example/a - -"),
        ("git://x.example/a#v1:d", "git://x.example/a v1 d"),
        ("ssh://git@x.example/a", "ssh://git@x.example/a - -"),
        (
            "ssh://git@x.example:2222/a.git?branch=b",
            "ssh://git@x.example:2222/a.git refs/heads/b -",
        ),
        ("git@x.example:a/b", "git@x.example:a/b - -"),
        ("git@x.example:a/b.git#v1:d", "git@x.example:a/b.git v1 d"),
        (
            "git@x.example:a/b.git?subdir=/d#v1",
            "git@x.example:a/b.git v1 /d",
        ),
        ("me_2@x-y.example:~/b", "me_2@x-y.example:~/b - -"),
    ] {
        assert_eq!(short(&parsed(text)), expected, "{text}");
    }
}

#[test]
fn what_is_no_repository_is_left_to_others() {
    for text in [
        "https://x.example/",
        "https://x.example/a",
        "https://x.example/a.git/",
        "https://x.example/a.git.bar",
        "https://x.example/a.tar#x.git",
        "https://x.example/a?x=.git",
        "x.example/a.git",
        "github.com/a/b",
        "./a.git",
        "../a.git",
        "a.git",
        ".git",
        "src/git@home",
        "@x:y",
        "git@:y",
        "git@x/y",
        "file:///etc/a.git",
        "ext::sh -c touch%20/tmp/x",
        "ftp://x.example/a.git",
        "https://x.example/a.git\n#x",
        "https://x.example/a.git#%zz",
    ] {
        assert_eq!(GitPlace::parse(text), Ok(None), "{text}");
    }
    let hub = GitPlace::parse_context("github.com/a/b?tag=v1#:d").unwrap();
    assert_eq!(
        short(&hub.unwrap()),
        "https://github.com/a/b refs/tags/v1 d"
    );
}

#[test]
fn what_contradicts_itself_is_refused() {
    for (query, message) in [
        ("?ref=v1#v2", "ref conflicts: \"v2\" vs \"v1\""),
        (
            "?ref=v1&tag=v2",
            "ref conflicts: \"v1\" vs \"refs/tags/v2\"",
        ),
        ("?tag=v1#refs/heads/main", "ref conflicts"),
        ("?branch=a#b", "ref conflicts: \"b\" vs \"refs/heads/a\""),
        ("?tag=v1&branch=v1", "branch conflicts with tag"),
        ("?subdir=a#:b", "subdir conflicts: \"b\" vs \"a\""),
        ("?ref=", "query \"ref\" has no value"),
        ("?subdir", "query \"subdir\" has no value"),
        ("?depth", "query \"depth\" has no value"),
        ("?ref=a&ref=a", "query \"ref\" has multiple values"),
        ("?submodules=maybe", "invalid submodules value: \"maybe\""),
        ("?keep-git-dir=2", "invalid keep-git-dir value: \"2\""),
        ("?fetch-by-commit=x", "invalid fetch-by-commit value: \"x\""),
        ("?mtime=now", "invalid mtime value: \"now\""),
        ("?depth=1", "unexpected query \"depth\""),
        ("#-x", "invalid git ref \"-x\""),
        ("#--upload-pack=touch", "invalid git ref"),
        ("?ref=--upload-pack%3Dtouch", "invalid git ref"),
        ("#a..b", "invalid git ref"),
        ("?ref=a%20b", "invalid git ref"),
        ("?ref=a%0Ab", "invalid git ref"),
        ("?ref=*", "invalid git ref"),
        ("?tag=v1^{}", "invalid git ref"),
    ] {
        for repository in [
            "https://x.example/a.git",
            "git@x.example:a",
            "git://x.example/a",
        ] {
            let text = format!("{repository}{query}");
            let error = GitPlace::parse(&text).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}

#[test]
fn switches_have_a_value_or_none() {
    for (query, keep, submodules, by_commit, times) in [
        ("", None, true, false, GitTimes::Checkout),
        ("?keep-git-dir", Some(true), true, false, GitTimes::Checkout),
        (
            "?keep-git-dir=",
            Some(true),
            true,
            false,
            GitTimes::Checkout,
        ),
        (
            "?keep-git-dir=True",
            Some(true),
            true,
            false,
            GitTimes::Checkout,
        ),
        (
            "?keep-git-dir=0",
            Some(false),
            true,
            false,
            GitTimes::Checkout,
        ),
        ("?submodules=f", None, false, false, GitTimes::Checkout),
        (
            "?submodules&fetch-by-commit",
            None,
            true,
            true,
            GitTimes::Checkout,
        ),
        (
            "?fetch-by-commit=false",
            None,
            true,
            false,
            GitTimes::Checkout,
        ),
        ("?mtime=commit", None, true, false, GitTimes::Commit),
        ("?mtime=checkout", None, true, false, GitTimes::Checkout),
        ("?x;y=z", None, true, false, GitTimes::Checkout),
    ] {
        let place = parsed(&format!("https://x.example/a.git{query}"));
        assert_eq!(place.keep_git_dir, keep, "{query}");
        assert_eq!(place.submodules, submodules, "{query}");
        assert_eq!(place.fetch_by_commit, by_commit, "{query}");
        assert_eq!(place.times, times, "{query}");
    }
}

#[test]
fn a_commit_is_known_where_the_address_says_it() {
    let (a, b) = ("a".repeat(40), "b".repeat(40));
    let known = |query: String| {
        let place = parsed(&format!("https://x.example/a.git{query}"));
        place
            .known_commit()
            .map(|known| known.map(|commit| (commit.commit, commit.reference)))
            .map_err(|error| error.to_string())
    };
    assert_eq!(known(String::new()), Ok(None));
    assert_eq!(known(format!("?commit={a}")), Ok(None));
    assert_eq!(known(format!("#{a}")), Ok(Some((a.clone(), None))));
    assert_eq!(known(format!("#{a}")[..20].to_owned()), Ok(None));
    assert_eq!(
        known(format!("?commit={}#{a}", &a[..7])),
        Ok(Some((a.clone(), None)))
    );
    let main = Some("refs/heads/main".to_owned());
    assert_eq!(
        known(format!("?fetch-by-commit&commit={a}#main")),
        Ok(Some((a.clone(), main)))
    );
    for (query, message) in [
        (format!("?commit={b}#{a}"), "expected checksum to match"),
        ("?commit=foobar".to_owned(), "expected hex commit hash"),
        ("?fetch-by-commit".to_owned(), "requires a full commit"),
        (
            format!("?fetch-by-commit&commit={}", &a[..9]),
            "requires a full commit",
        ),
    ] {
        let error = known(query.clone()).unwrap_err();
        assert!(error.contains(message), "{query}: {error}");
    }
    let place = parsed("https://x.example/a.git?commit=bb#v1");
    let tag = GitCommit {
        reference: None,
        object: a.clone(),
        commit: b,
    };
    assert_eq!(place.check(&tag), Ok(()));
    assert!(place.check(&GitCommit::only(&a, None)).is_err());
}

#[test]
fn directories_stay_inside_and_follow_no_link() {
    let top = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(top.path().join("a/b")).unwrap();
    std::fs::write(top.path().join("a/file"), "").unwrap();
    std::os::unix::fs::symlink("/etc", top.path().join("etc")).unwrap();
    std::os::unix::fs::symlink("a", top.path().join("link")).unwrap();
    let find = |directory: &str| {
        let place = parsed(&format!("git://x/a#main:{directory}"));
        let found = place.find_directory(top.path()).ok()?;
        Some(
            found
                .strip_prefix(top.path())
                .unwrap()
                .display()
                .to_string(),
        )
    };
    for (directory, expected) in [
        ("", Some("")),
        ("/", Some("")),
        (".", Some("")),
        ("a/b", Some("a/b")),
        ("/a/./b/", Some("a/b")),
        ("../../a", Some("a")),
        ("a/../../etc", None),
        ("etc", None),
        ("link", None),
        ("link/b", None),
        ("a/file", None),
        ("missing", None),
    ] {
        assert_eq!(find(directory), expected.map(str::to_owned), "{directory}");
    }
}

#[test]
fn secrets_belong_to_a_host_and_are_not_printed() {
    let secrets = |names: &[&str]| {
        let pairs = names.iter().map(|name| {
            let secret = Secret::new(format!("value of {name}"));
            ((*name).to_owned(), secret)
        });
        pairs.collect::<std::collections::BTreeMap<_, _>>()
    };
    let given = |text: &str, names: &[&str]| {
        let secrets = secrets(names);
        let found = parsed(text)
            .repository
            .authorization(|name| secrets.get(name))?;
        let header = String::from_utf8(found.header.expose().to_vec()).unwrap();
        let header = match header.strip_prefix("basic ") {
            Some(encoded) => {
                let plain = base64::engine::general_purpose::STANDARD.decode(encoded);
                String::from_utf8(plain.unwrap()).unwrap()
            }
            None => header,
        };
        Some(format!("{} {header}", found.scope))
    };
    let all = [
        "GIT_AUTH_HEADER",
        "GIT_AUTH_TOKEN",
        "GIT_AUTH_HEADER.x.example:1",
        "GIT_AUTH_TOKEN.x.example:1",
    ];
    let url = "https://x.example:1/a.git";
    for (names, expected) in [
        (&all[..], "value of GIT_AUTH_HEADER.x.example:1"),
        (
            &[all[0], all[3]],
            "x-access-token:value of GIT_AUTH_TOKEN.x.example:1",
        ),
        (&all[..2], "value of GIT_AUTH_HEADER"),
        (&all[1..2], "x-access-token:value of GIT_AUTH_TOKEN"),
    ] {
        assert_eq!(given(url, names), Some(format!("{url} {expected}")));
    }
    assert_eq!(given(url, &[]), None);
    assert_eq!(given("https://y.example/a.git", &all[2..]), None);
    assert_eq!(given("git://x.example:1/a.git", &all), None);
    assert_eq!(given("git@x.example:a", &all), None);
    assert_eq!(
        given("https://github.com/a/b.git", &all[1..2]),
        Some("https://github.com/ x-access-token:value of GIT_AUTH_TOKEN".to_owned())
    );
    let own = "https://us%65r:pass@x.example/a.git";
    assert_eq!(
        given(own, &[]),
        Some("https://x.example/ user:pass".to_owned())
    );
    let place = parsed(own);
    let printed = format!("{} {place:?} {:?}", place.repository, parsed(url));
    assert!(!printed.contains("pass"), "{printed}");
    assert_eq!(place.repository.address(), "https://x.example/a.git");
}

proptest::proptest! {
    #[test]
    fn no_address_panics_and_none_gets_past_the_rules(
        text in "(git://|ssh://|https?://|g@h:|)[ -~]{0,40}(\\.git|)(\\?[a-z=&%0-9;+-]{0,30}|)(#[ -~]{0,20}|)"
    ) {
        if let Ok(Some(place)) = GitPlace::parse(&text) {
            let address = place.repository.address();
            proptest::prop_assert!(!address.contains(char::is_control));
            if let Some(name) = &place.name {
                proptest::prop_assert!(!name.starts_with('-') && !name.contains(".."));
            }
            let inner = place.inner_directory().unwrap_or_default();
            proptest::prop_assert!(inner.split('/').all(|part| part != ".."));
            let _ = (place.known_commit(), place.repository.authorization(|_| None));
            // What is shown of it is understood again, to the same place.
            if place.repository.is_ssh() || !text.contains('@') {
                let again = GitPlace::parse(&address).unwrap();
                proptest::prop_assert_eq!(again.map(|a| a.repository), Some(place.repository));
            }
        }
    }
}
