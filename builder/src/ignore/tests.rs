//! What is ignored and what is not. Each row names the sentence it comes from: `ref` is the section
//! ".dockerignore files" of Docker's build-context documentation, `match` the grammar of Go's
//! filepath.Match, `moby` observed behaviour of moby/patternmatcher.

use proptest::prelude::*;

use super::*;

/// Rules (`;` between lines), path, whether it is ignored, source.
type Row = (&'static str, &'static str, bool, &'static str);

const ROWS: &[Row] = &[
    // Plain names.
    (
        "foo",
        "foo",
        true,
        "ref: a file or directory named foo is excluded",
    ),
    (
        "foo",
        "foo/bar",
        true,
        "ref: a directory that matches is excluded with everything below",
    ),
    ("foo", "foo/bar/baz", true, "ref: everything below"),
    (
        "foo",
        "bar/foo",
        false,
        "ref: patterns are relative to the root of the context",
    ),
    ("foo", "foobar", false, "match: the whole name has to match"),
    ("foo", "fo", false, "match: the whole name has to match"),
    ("foo/bar", "foo/bar", true, "ref: file in a directory"),
    ("foo/bar", "foo/bar/x", true, "ref: everything below"),
    (
        "foo/bar",
        "foo/baz",
        false,
        "ref: nothing else in the directory",
    ),
    ("foo/bar", "foo", false, "ref: not its parent"),
    ("/foo", "foo", true, "ref: a leading slash is disregarded"),
    (
        "/foo/bar",
        "foo/bar",
        true,
        "ref: a leading slash is disregarded",
    ),
    ("//foo", "foo", true, "ref: patterns are cleaned"),
    (
        "foo/",
        "foo",
        true,
        "ref: patterns are cleaned, so a trailing slash means nothing",
    ),
    ("foo/", "foo/x", true, "ref: trailing slash means nothing"),
    ("./foo", "foo", true, "ref: . elements are eliminated"),
    ("a/./b", "a/b", true, "ref: . elements are eliminated"),
    ("a/../b", "b", true, "ref: .. elements are eliminated"),
    ("a//b", "a/b", true, "ref: patterns are cleaned"),
    (
        ".",
        "a",
        false,
        "ref: . is the root itself, which is not excluded",
    ),
    ("/", "a", false, "moby: a lone slash matches nothing"),
    (
        "..",
        "a",
        false,
        "moby: outside of the context nothing matches",
    ),
    (
        "../a",
        "a",
        false,
        "moby: outside of the context nothing matches",
    ),
    // Blanks, comments, line ends.
    (
        "  foo  ",
        "foo",
        true,
        "ref: leading and trailing white space is trimmed",
    ),
    ("\tfoo\t", "foo", true, "ref: white space is trimmed"),
    (
        "#foo",
        "#foo",
        false,
        "ref: a line that starts with # is a comment",
    ),
    (
        " #foo",
        "#foo",
        true,
        "moby: the # is looked for before white space is trimmed",
    ),
    (";;foo;;", "foo", true, "ref: blank lines are ignored"),
    ("foo\r", "foo", true, "moby: CRLF line ends"),
    (
        "\u{feff}foo",
        "foo",
        true,
        "moby: a byte order mark is skipped",
    ),
    (
        "\u{feff}#foo;bar",
        "#foo",
        false,
        "moby: a byte order mark before a comment",
    ),
    (
        "foo bar",
        "foo bar",
        true,
        "moby: blanks inside belong to the name",
    ),
    // Single stars.
    (
        "*",
        "foo",
        true,
        "match: * is any run of characters but the separator",
    ),
    ("*", "foo/bar", true, "ref: a matching parent excludes"),
    ("*", ".hidden", true, "match: * matches a leading dot"),
    (
        "*.md",
        "a.md",
        true,
        "ref: *.md excludes markdown files in the root",
    ),
    (
        "*.md",
        "a/b.md",
        false,
        "match: * does not cross the separator",
    ),
    ("*.md", ".md", true, "match: * matches nothing too"),
    ("*.md", "a.mdx", false, "match: the whole name"),
    (
        "*/temp*",
        "somedir/temporary.txt",
        true,
        "ref: */temp* one level below",
    ),
    ("*/temp*", "somedir/temp", true, "ref: */temp*"),
    ("*/temp*", "temp", false, "ref: not at the root"),
    ("*/temp*", "a/b/temp", false, "ref: not two levels below"),
    ("*/temp*", "a/temp/x/y", true, "ref: below a match"),
    (
        "*/*/temp*",
        "somedir/subdir/temporary.txt",
        true,
        "ref: two levels below",
    ),
    (
        "*/*/temp*",
        "somedir/temporary.txt",
        false,
        "ref: exactly two levels",
    ),
    ("a*c", "abc", true, "match: *"),
    ("a*c", "ac", true, "match: * is any run, also none"),
    ("a*c", "ab/c", false, "match: * does not cross"),
    ("a*/b", "ax/b", true, "match: * inside a part"),
    (
        "foo/*",
        "foo",
        false,
        "moby: the directory itself does not match",
    ),
    ("foo/*", "foo/x", true, "match: *"),
    ("foo/*", "foo/x/y", true, "ref: below a match"),
    // Question marks.
    (
        "temp?",
        "tempa",
        true,
        "ref: temp? is a one-character extension of temp",
    ),
    ("temp?", "temp", false, "match: ? is exactly one character"),
    (
        "temp?",
        "tempab",
        false,
        "match: ? is exactly one character",
    ),
    ("temp?", "temp/", false, "match: ? is no separator"),
    ("a?b", "a/b", false, "match: ? is no separator"),
    (
        "a?b",
        "a\u{e9}b",
        true,
        "match: ? is one character, not one byte",
    ),
    // Double stars.
    (
        "**",
        "foo",
        true,
        "ref: ** matches any number of directories, also none",
    ),
    ("**", "a/b/c", true, "ref: **"),
    ("**/foo", "foo", true, "ref: also zero directories"),
    ("**/foo", "a/foo", true, "ref: **"),
    ("**/foo", "a/b/foo", true, "ref: **"),
    ("**/foo", "a/b/foo/c", true, "ref: below a match"),
    ("**/foo", "xfoo", false, "moby: **/name is a whole part"),
    ("**/foo", "a/xfoo", false, "moby: **/name is a whole part"),
    (
        "**foo",
        "xfoo",
        true,
        "moby: ** without a slash takes any prefix",
    ),
    ("**foo", "a/xfoo", true, "moby: ** without a slash"),
    (
        "**/*.go",
        "main.go",
        true,
        "ref: **/*.go in all directories, the root included",
    ),
    ("**/*.go", "a/b/main.go", true, "ref: **/*.go"),
    ("**/*.go", "a/main.goo", false, "ref: **/*.go"),
    ("foo/**", "foo", false, "moby: dir/** is what lies below"),
    ("foo/**", "foo/x", true, "moby: dir/**"),
    ("foo/**", "foo/x/y", true, "moby: dir/**"),
    (
        "foo/**",
        "foox",
        false,
        "moby: the slash belongs to the prefix",
    ),
    ("foo**", "foox", true, "moby: name** is a prefix"),
    ("foo**", "foo/x", true, "moby: name** is a prefix"),
    ("a/**/b", "a/b", true, "ref: ** is also zero directories"),
    ("a/**/b", "a/x/b", true, "ref: **"),
    ("a/**/b", "a/x/y/b", true, "ref: **"),
    ("a/**/b", "a/xb", false, "moby: the group ends with a slash"),
    ("a**b", "ab", true, "moby: ** inside a part: nothing"),
    (
        "a**b",
        "ax/b",
        true,
        "moby: ** inside a part: up to a slash",
    ),
    ("a**b", "axb", false, "moby: ** inside a part is not *"),
    ("a/**/*.txt", "a/x.txt", true, "moby: ** then *"),
    ("a/**/*.txt", "a/b/c/x.txt", true, "moby: ** then *"),
    (
        "**/node_modules/**",
        "node_modules/x",
        true,
        "moby: both ends",
    ),
    (
        "**/node_modules/**",
        "a/node_modules/x/y",
        true,
        "moby: both ends",
    ),
    (
        "**/node_modules/**",
        "node_modules",
        false,
        "moby: not the directory itself",
    ),
    ("**/a/**/b", "x/a/y/b", true, "moby: two double stars"),
    ("***", "a/b", true, "moby: three stars are ** and *"),
    ("**/**/foo", "foo", true, "moby: repeated **"),
    ("**/", "a/b", true, "ref: patterns are cleaned"),
    // Classes.
    ("[ab]", "a", true, "match: character class"),
    ("[ab]", "c", false, "match: character class"),
    ("[a-c]x", "bx", true, "match: range"),
    ("[a-c]x", "dx", false, "match: range"),
    ("[^a]x", "bx", true, "match: negated class"),
    ("[^a]x", "ax", false, "match: negated class"),
    ("[!a]x", "!x", true, "match: ! does not negate"),
    ("[!a]x", "bx", false, "match: ! does not negate"),
    ("a[.]b", "a.b", true, "moby: a dot in a class is a dot"),
    ("a[.]b", "axb", false, "moby: a dot in a class is a dot"),
    (
        "[*]",
        "*",
        false,
        "moby: a star in a class stays a wildcard",
    ),
    (
        "[*]",
        "[]",
        true,
        "moby: a star in a class stays a wildcard",
    ),
    (
        "[[:alpha:]]x",
        "bx",
        true,
        "moby: classes are those of regular expressions",
    ),
    (
        "[[:digit:]]",
        "b",
        false,
        "moby: classes are those of regular expressions",
    ),
    // Escapes and characters that mean something elsewhere.
    ("\\*", "*", true, "match: \\c matches the character c"),
    ("\\*", "a", false, "match: \\c matches the character c"),
    ("a\\?", "a?", true, "match: escape"),
    ("a\\[b", "a[b", true, "match: escape"),
    ("\\#foo", "#foo", true, "moby: an escaped # at the start"),
    ("\\!foo", "!foo", true, "moby: an escaped ! at the start"),
    (
        "\\d",
        "5",
        true,
        "moby: an escaped letter is that of regular expressions",
    ),
    (
        "\\d",
        "d",
        false,
        "moby: an escaped letter is that of regular expressions",
    ),
    ("a.b", "axb", false, "moby: a dot is a dot"),
    (
        "a.b*",
        "axb",
        false,
        "moby: a dot is a dot beside wildcards too",
    ),
    ("a+b*", "a+bc", true, "moby: plus is plus"),
    (
        "(a|b)*",
        "(a|b)",
        true,
        "moby: parentheses and bar are themselves",
    ),
    (
        "(a|b)*",
        "a",
        false,
        "moby: parentheses and bar are themselves",
    ),
    ("a{2}*", "a{2}", true, "moby: braces are themselves"),
    ("$a*", "$ab", true, "moby: dollar is dollar"),
    ("a^b", "a^b", true, "moby: ^ in a plain name"),
    (
        "a^b*",
        "a^b",
        false,
        "moby: ^ beside a wildcard matches nothing",
    ),
    ("한*", "한국어", true, "match: characters, not bytes"),
    // Exceptions.
    (
        "*.md;!README.md",
        "README.md",
        false,
        "ref: ! makes an exception",
    ),
    ("*.md;!README.md", "a.md", true, "ref: others stay excluded"),
    (
        "*.md;!README*.md;README-secret.md",
        "README-secret.md",
        true,
        "ref: the last line that matches decides",
    ),
    (
        "*.md;!README*.md;README-secret.md",
        "README-a.md",
        false,
        "ref: the last line that matches decides",
    ),
    (
        "*.md;README-secret.md;!README*.md",
        "README-secret.md",
        false,
        "ref: the middle line has no effect",
    ),
    (
        "!foo",
        "foo",
        false,
        "ref: an exception alone excludes nothing",
    ),
    (
        "!foo;foo",
        "foo",
        true,
        "ref: the last line that matches decides",
    ),
    (
        "foo;!foo/bar",
        "foo/bar",
        false,
        "ref: a file below an excluded directory comes back",
    ),
    ("foo;!foo/bar", "foo/baz", true, "ref: only that one"),
    (
        "foo;!foo/bar",
        "foo/bar/x",
        false,
        "ref: everything below the exception",
    ),
    (
        "foo;!foo/bar;foo/bar/x",
        "foo/bar/x",
        true,
        "ref: the last line that matches decides",
    ),
    (
        "*;!src",
        "src/main.rs",
        false,
        "ref: exclude all, bring back a directory",
    ),
    (
        "*;!src",
        "target/x",
        true,
        "ref: exclude all, bring back a directory",
    ),
    ("**;!src/**", "src/a/b", false, "moby: ** and exception"),
    (
        "*;!*/keep",
        "a/keep",
        false,
        "moby: exception with a wildcard",
    ),
    ("*;!**/*.go", "a/b/c.go", false, "moby: exception with **"),
    ("*;!**/*.go", "a/b/c.rs", true, "moby: exception with **"),
    (
        "foo;! foo",
        "foo",
        false,
        "moby: white space after ! is trimmed",
    ),
    (
        "foo;!/foo",
        "foo",
        false,
        "moby: a leading slash after ! is disregarded",
    ),
    ("foo;!foo/", "foo", false, "moby: exceptions are cleaned"),
    (
        "a/b;!a",
        "a/b",
        true,
        "moby: a walk skips an exception that changes nothing about the parent",
    ),
    (
        "a;a/b;!a",
        "a/b",
        false,
        "moby: an exception on a parent counts for what is below",
    ),
    (
        "a;!a/b;a/b/c;!a/b/c/d",
        "a/b/c/d",
        false,
        "ref: the last line that matches decides",
    ),
    (
        "a;!a/b;a/b/c;!a/b/c/d",
        "a/b/c/e",
        true,
        "ref: the last line that matches decides",
    ),
];

fn rules(text: &str) -> Result<IgnoreRules, IgnoreError> {
    IgnoreRules::parse(text.replace(';', "\n").as_bytes())
}

#[test]
fn rows_are_decided_as_documented() {
    assert!(ROWS.len() >= 100);
    for (text, path, expected, source) in ROWS {
        let rules = rules(text).unwrap();
        assert_eq!(
            rules.is_ignored(path),
            *expected,
            "{text:?} on {path:?} ({source})"
        );
    }
}

#[test]
fn bad_rules_are_refused_with_their_line() {
    for (text, message) in [
        ("a;!", "line 2: illegal exclusion pattern: \"!\""),
        ("! ", "line 1: illegal exclusion pattern: \"!\""),
        ("!/", "line 1: illegal exclusion pattern: \"!\""),
        ("[", "line 1: syntax error in pattern \"[\""),
        ("a;b;[a-", "line 3: syntax error in pattern \"[a-\""),
        ("[]a]", "line 1: syntax error in pattern \"[]a]\""),
        ("a\\", "line 1: syntax error in pattern \"a\\\\\""),
        ("!a[", "line 1: syntax error in pattern \"a[\""),
        ("\\y", "line 1: syntax error in pattern \"\\\\y\""),
    ] {
        assert_eq!(rules(text).unwrap_err().to_string(), message, "{text:?}");
    }
}

#[test]
fn the_deciding_line_is_named() {
    let rules = rules("# all;*;!src;src/*.tmp").unwrap();
    for (path, line) in [
        ("x", Some(2)),
        ("src", Some(3)),
        ("src/a.rs", Some(3)),
        ("src/a.tmp", Some(4)),
    ] {
        assert_eq!(
            rules.decide(path).rule.map(|rule| rule.line),
            line,
            "{path}"
        );
    }
    assert!(IgnoreRules::default().decide("x").rule.is_none());
}

#[test]
fn directories_are_pruned_only_when_nothing_below_can_come_back() {
    for (text, directory, expected) in [
        ("foo", "foo", true),
        ("foo", "bar", false),
        ("foo;!foo/bar", "foo", false),
        ("foo;!foo/bar", "foo/baz", true),
        ("foo;!bar", "foo", true),
        ("!foo/bar;foo", "foo", true),
        ("*;!src", "target", true),
        ("*;!src/*.rs", "target", true),
        ("*;!src/*.rs", "src", false),
        ("*;!src/*.rs", "src/x", true),
        ("*;!**/*.go", "target", false),
        ("*;!a*/b", "b", true),
        ("*;!a*/b", "ab", false),
        ("*;!a/**", "a", false),
        ("*;!a/**/b", "a/c", false),
        ("*;!a/**/b", "c", true),
        ("**/node_modules", "a/node_modules", true),
    ] {
        let rules = rules(text).unwrap();
        let mut matches = rules.root();
        for prefix in prefixes(directory) {
            matches = rules.descend(prefix, &matches).1;
        }
        assert_eq!(
            rules.can_prune(directory, &matches),
            expected,
            "{text:?} at {directory:?}"
        );
    }
}

#[test]
fn clean_is_go_clean() {
    for (path, expected) in [
        ("", "."),
        ("abc", "abc"),
        ("abc/def", "abc/def"),
        ("a/b/c", "a/b/c"),
        (".", "."),
        ("..", ".."),
        ("../..", "../.."),
        ("../../abc", "../../abc"),
        ("/abc", "/abc"),
        ("/", "/"),
        ("abc/", "abc"),
        ("abc/def/", "abc/def"),
        ("./", "."),
        ("../", ".."),
        ("/abc/", "/abc"),
        ("abc//def//ghi", "abc/def/ghi"),
        ("//abc", "/abc"),
        ("abc/./def", "abc/def"),
        ("/./abc/def", "/abc/def"),
        ("abc/def/ghi/../jkl", "abc/def/jkl"),
        ("abc/def/../..", "."),
        ("/abc/def/../..", "/"),
        ("abc/def/../../..", ".."),
        ("/../abc", "/abc"),
        ("abc/../../././../def", "../../def"),
    ] {
        assert_eq!(clean(path), expected, "{path:?}");
    }
}

#[test]
fn no_pattern_takes_exponential_time() {
    let path = format!("{}/b", "a/".repeat(100));
    for pattern in [
        "**/a/".repeat(60) + "c",
        "*a*".repeat(200),
        "a*".repeat(300) + "b",
        "[^/]*".repeat(200),
    ] {
        let rules = IgnoreRules::from_patterns([pattern.as_str()]).unwrap();
        let _ = rules.is_ignored(&path);
    }
}

proptest! {
    #[test]
    fn any_bytes_parse_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), path in "[a-c/.*]{0,20}") {
        if let Ok(rules) = IgnoreRules::parse(&bytes) {
            let _ = rules.is_ignored(&path);
        }
    }

    #[test]
    fn nothing_that_is_wanted_lies_below_a_pruned_directory(
        lines in prop::collection::vec("!?[a-c*/?]{1,6}", 1..5),
        path in "[a-c]{1,2}(/[a-c]{1,2}){0,3}",
    ) {
        if let Ok(rules) = IgnoreRules::parse(lines.join("\n").as_bytes()) {
            let mut matches = rules.root();
            for prefix in prefixes(&path) {
                matches = rules.descend(prefix, &matches).1;
                if prefix != path && rules.can_prune(prefix, &matches) {
                    prop_assert!(rules.is_ignored(&path));
                }
            }
        }
    }
}
