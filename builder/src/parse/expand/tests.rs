//! Expansion. Each group of rows names the sentence of Docker's reference (section "Environment
//! replacement") that it comes from.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Input and text, or input and message.
type Row = (&'static str, Result<&'static str, &'static str>);

#[rustfmt::skip]
const ROWS: &[(&str, &[Row])] = &[
    ("`$variable_name` or `${variable_name}`", &[
        ("$A", Ok("apple")),
        ("${A}", Ok("apple")),
        ("$A$A", Ok("appleapple")),
        ("${A}${A}", Ok("appleapple")),
        ("x$A", Ok("xapple")),
        ("${A}x", Ok("applex")),
        ("x${A}y", Ok("xappley")),
        ("$A.txt", Ok("apple.txt")),
        ("$A-x", Ok("apple-x")),
        ("$A/x", Ok("apple/x")),
        ("${A}_x", Ok("apple_x")),
        ("$A_x", Ok("")),
        ("$none", Ok("")),
        ("${none}", Ok("")),
        ("x${none}y", Ok("xy")),
        ("$E", Ok("")),
        ("${E}", Ok("")),
        ("x${E}y", Ok("xy")),
        ("$S", Ok("two words")),
        ("\"$S\"", Ok("two words")),
        ("$U", Ok("한국어")),
        ("${U}!", Ok("한국어!")),
        ("$P", Ok("/usr/local/lib/libfoo.so.1.2")),
        ("$D", Ok("$A")),
        ("${D}", Ok("$A")),
        ("$1", Ok("")),
        ("a$1b", Ok("ab")),
        ("$12x", Ok("x")),
        ("$@", Ok("")),
        ("$*", Ok("")),
        ("$#", Ok("")),
        ("$?", Ok("")),
        ("$!", Ok("")),
        ("$-x", Ok("x")),
        ("$$", Ok("")),
        ("$$A", Ok("A")),
        ("$", Ok("$")),
        ("a$", Ok("a$")),
        ("$ A", Ok("$ A")),
        ("$.", Ok("$.")),
        ("$/", Ok("$/")),
        ("$'A'", Ok("$A")),
        ("$\"A\"", Ok("$A")),
        ("${A }", Err("unsupported modifier ( ) in substitution")),
    ]),
    ("Escaping is possible by adding a \\ before the variable", &[
        ("\\$A", Ok("$A")),
        ("\\${A}", Ok("${A}")),
        ("x\\$A", Ok("x$A")),
        ("\\\\$A", Ok("\\apple")),
        ("\\\\\\$A", Ok("\\$A")),
        ("\\a", Ok("a")),
        ("\\\\", Ok("\\")),
        ("a\\", Ok("a")),
        ("\\\\\\", Ok("\\")),
        ("\\\"", Ok("\"")),
        ("\\'", Ok("'")),
        ("a\\ b", Ok("a b")),
        ("\\한", Ok("한")),
        ("\\{A}", Ok("{A}")),
        ("$A\\$A", Ok("apple$A")),
    ]),
    ("single quotes keep their content as it is", &[
        ("'$A'", Ok("$A")),
        ("'${A}'", Ok("${A}")),
        ("'a b'", Ok("a b")),
        ("''", Ok("")),
        ("'\\'", Ok("\\")),
        ("'a\\nb'", Ok("a\\nb")),
        ("'\"'", Ok("\"")),
        ("x'y'z", Ok("xyz")),
        ("'a''b'", Ok("ab")),
        ("'$A'$A", Ok("$Aapple")),
        ("'", Err("unexpected end of statement while looking for matching single-quote")),
        ("a'b", Err("unexpected end of statement while looking for matching single-quote")),
        ("'a'b'", Err("unexpected end of statement while looking for matching single-quote")),
        ("'한'", Ok("한")),
    ]),
    ("double quotes expand variables and take escapes of \", $ and \\ only", &[
        ("\"$A\"", Ok("apple")),
        ("\"${A}\"", Ok("apple")),
        ("\"a b\"", Ok("a b")),
        ("\"\"", Ok("")),
        ("\"'\"", Ok("'")),
        ("\"'$A'\"", Ok("'apple'")),
        ("\"\\\"\"", Ok("\"")),
        ("\"\\$A\"", Ok("$A")),
        ("\"\\\\\"", Ok("\\")),
        ("\"\\a\"", Ok("\\a")),
        ("\"\\n\"", Ok("\\n")),
        ("\"a\\\\nb\"", Ok("a\\nb")),
        ("\"x\"y\"z\"", Ok("xyz")),
        ("\"$A\"'$A'", Ok("apple$A")),
        ("\"", Err("unexpected end of statement while looking for matching double-quote")),
        ("a\"b", Err("unexpected end of statement while looking for matching double-quote")),
        ("\"\\\"", Err("unexpected end of statement while looking for matching double-quote")),
        ("\"${none:-a b}\"", Ok("a b")),
        ("\"${none:-\"a\"}\"", Ok("a")),
        ("\"${none:-'a'}\"", Ok("a")),
        ("\"$S\"$S", Ok("two wordstwo words")),
        ("\"$\"", Ok("$")),
        ("\"$ \"", Ok("$ ")),
        ("\"a\\", Err("unexpected end of statement while looking for matching double-quote")),
    ]),
    ("`${variable:-word}`: the value if set and not empty, else word", &[
        ("${A:-b}", Ok("apple")),
        ("${E:-b}", Ok("b")),
        ("${none:-b}", Ok("b")),
        ("${none:-}", Ok("")),
        ("${none:-$A}", Ok("apple")),
        ("${none:-${A}}", Ok("apple")),
        ("${none:-${E:-${A}}}", Ok("apple")),
        ("${none:-a b}", Ok("a b")),
        ("${none:-'a b'}", Ok("a b")),
        ("${none:-\"a b\"}", Ok("a b")),
        ("${none:-\"$A\"}", Ok("apple")),
        ("${none:-'$A'}", Ok("$A")),
        ("${none:-\\}}", Ok("}")),
        ("${none:-a\\}b}", Ok("a}b")),
        ("${none:-\\$A}", Ok("$A")),
        ("${none:-\\\\}", Ok("\\")),
        ("${none:-:-}", Ok(":-")),
        ("${none:--}", Ok("-")),
        ("${none:-/x/y}", Ok("/x/y")),
        ("${none:-한}", Ok("한")),
        ("x${none:-b}y", Ok("xby")),
        ("${A:-${none:-c}}", Ok("apple")),
        ("${none:-b", Err("syntax error: missing '}'")),
        ("${none:-'b}", Err("syntax error: missing '}'")),
        ("${none:-${A}", Err("syntax error: missing '}'")),
    ]),
    ("`${variable-word}`: the value if set, even if empty, else word", &[
        ("${A-b}", Ok("apple")),
        ("${E-b}", Ok("")),
        ("${none-b}", Ok("b")),
        ("${none-}", Ok("")),
        ("${none-$A}", Ok("apple")),
        ("${none-${none-c}}", Ok("c")),
        ("${none-\"a b\"}", Ok("a b")),
    ]),
    ("`${variable:+word}`: word if set and not empty, else nothing", &[
        ("${A:+b}", Ok("b")),
        ("${E:+b}", Ok("")),
        ("${none:+b}", Ok("")),
        ("${A:+}", Ok("")),
        ("${A:+$A$A}", Ok("appleapple")),
        ("${A:+${none:-c}}", Ok("c")),
        ("${A:+'$A'}", Ok("$A")),
        ("${A:+\"a b\"}", Ok("a b")),
        ("${A:+a\\}b}", Ok("a}b")),
        ("x${E:+b}y", Ok("xy")),
        ("--opt${A:+=$A}", Ok("--opt=apple")),
    ]),
    ("`${variable+word}`: word if set, even if empty, else nothing", &[
        ("${A+b}", Ok("b")),
        ("${E+b}", Ok("b")),
        ("${none+b}", Ok("")),
        ("${E+$A}", Ok("apple")),
        ("${none+$A}", Ok("")),
    ]),
    ("`${variable:?word}` and `${variable?word}`: an error if there is no value", &[
        ("${A:?b}", Ok("apple")),
        ("${A?b}", Ok("apple")),
        ("${E?b}", Ok("")),
        ("${E:?b}", Err("E: b")),
        ("${E:?}", Err("E: is not allowed to be empty")),
        ("${none:?b}", Err("none: b")),
        ("${none:?}", Err("none: is not allowed to be unset")),
        ("${none?b}", Err("none: b")),
        ("${none?}", Err("none: is not allowed to be unset")),
        ("${none:?need $A}", Err("none: need apple")),
        ("${none:?'a b'}", Err("none: a b")),
        ("${A:?${none:?x}}", Err("none: x")),
        ("${none:-${none:?deep}}", Err("none: deep")),
    ]),
    ("`${variable#pattern}`: the shortest match is taken off the start", &[
        ("${A#a}", Ok("pple")),
        ("${A#ap}", Ok("ple")),
        ("${A#p}", Ok("apple")),
        ("${A#*}", Ok("apple")),
        ("${A#*p}", Ok("ple")),
        ("${A#?}", Ok("pple")),
        ("${A#??}", Ok("ple")),
        ("${A#??????}", Ok("apple")),
        ("${A#apple}", Ok("")),
        ("${A#applepie}", Ok("apple")),
        ("${A#}", Ok("apple")),
        ("${P#/}", Ok("usr/local/lib/libfoo.so.1.2")),
        ("${P#*/}", Ok("usr/local/lib/libfoo.so.1.2")),
        ("${P#/usr/}", Ok("local/lib/libfoo.so.1.2")),
        ("${P#*.}", Ok("so.1.2")),
        ("${P#*lib}", Ok("/libfoo.so.1.2")),
        ("${E#a}", Ok("")),
        ("${none#a}", Ok("")),
        ("${U#?}", Ok("국어")),
        ("${U#한}", Ok("국어")),
        ("${G#a\\*}", Ok("b?c")),
        ("${G#*\\?}", Ok("c")),
        ("${G#\\\\}", Ok("a*b?c")),
        ("${B#\\\\}", Ok("a\\b\\c")),
        ("${B#*\\\\}", Ok("b\\c")),
        ("${A#$I}", Ok("pple")),
        ("${A#${I}?}", Ok("ple")),
        ("${A#'a'}", Ok("pple")),
        ("${A#\"a\"}", Ok("pple")),
        ("${L#*i}", Ok("ne1\nline2")),
        ("${L#line1?}", Ok("line1\nline2")),
        ("${A#\\x}", Err("invalid pattern (\\x) in substitution: invalid escape '\\x'")),
        ("${A#\\", Err("syntax error: missing '}'")),
    ]),
    ("`${variable##pattern}`: the longest match is taken off the start", &[
        ("${A##*p}", Ok("le")),
        ("${A##*}", Ok("")),
        ("${A##a}", Ok("pple")),
        ("${P##*/}", Ok("libfoo.so.1.2")),
        ("${P##*.}", Ok("2")),
        ("${P##*lib}", Ok("foo.so.1.2")),
        ("${P##/*/}", Ok("libfoo.so.1.2")),
        ("${P##?*/}", Ok("libfoo.so.1.2")),
        ("${U##*국}", Ok("어")),
        ("${E##*}", Ok("")),
        ("${none##*}", Ok("")),
        ("${L##*n}", Ok("e1\nline2")),
        ("${L##*}", Ok("\nline2")),
        ("${G##*\\*}", Ok("b?c")),
    ]),
    ("`${variable%pattern}`: the shortest match is taken off the end", &[
        ("${A%e}", Ok("appl")),
        ("${A%le}", Ok("app")),
        ("${A%p}", Ok("apple")),
        ("${A%*}", Ok("apple")),
        ("${A%p*}", Ok("ap")),
        ("${A%?}", Ok("appl")),
        ("${A%}", Ok("apple")),
        ("${P%/*}", Ok("/usr/local/lib")),
        ("${P%.*}", Ok("/usr/local/lib/libfoo.so.1")),
        ("${P%lib*}", Ok("/usr/local/lib/")),
        ("${P%.so*}", Ok("/usr/local/lib/libfoo")),
        ("${U%?}", Ok("한국")),
        ("${U%어}", Ok("한국")),
        ("${G%\\?c}", Ok("a*b")),
        ("${E%a}", Ok("")),
        ("${none%a}", Ok("")),
        ("${A%'e'}", Ok("appl")),
        ("${L%l*}", Ok("line1\n")),
        ("${A%\\y}", Err("invalid pattern (\\y) in substitution: invalid escape '\\y'")),
    ]),
    ("`${variable%%pattern}`: the longest match is taken off the end", &[
        ("${A%%p*}", Ok("a")),
        ("${A%%*}", Ok("")),
        ("${A%%e}", Ok("appl")),
        ("${P%%/*}", Ok("")),
        ("${P%%.*}", Ok("/usr/local/lib/libfoo")),
        ("${P%%lib*}", Ok("/usr/local/")),
        ("${P%%/local*}", Ok("/usr")),
        ("${U%%국*}", Ok("한")),
        ("${E%%*}", Ok("")),
        ("${none%%*}", Ok("")),
        ("${L%%l*}", Ok("line1\n")),
        ("${L%%i*}", Ok("line1\nl")),
    ]),
    ("`${variable/pattern/replacement}`: the first match, as long as possible, is replaced", &[
        ("${A/p/b}", Ok("abple")),
        ("${A/pp/b}", Ok("able")),
        ("${A/x/b}", Ok("apple")),
        ("${A/p/}", Ok("aple")),
        ("${A/a*/b}", Ok("b")),
        ("${A/*/b}", Ok("b")),
        ("${A/?/b}", Ok("bpple")),
        ("${A/l?/b}", Ok("appb")),
        ("${A//b}", Err("syntax error: missing '/' in ${}")),
        ("${P/\\//_}", Ok("_usr/local/lib/libfoo.so.1.2")),
        ("${P/lib/LIB}", Ok("/usr/local/LIB/libfoo.so.1.2")),
        ("${P/\\/*\\//X}", Ok("Xlibfoo.so.1.2")),
        ("${P/.*./X}", Ok("/usr/local/lib/libfooX2")),
        ("${A/p/$A}", Ok("aappleple")),
        ("${A/$I/b}", Ok("bpple")),
        ("${A/p/a b}", Ok("aa bple")),
        ("${A/p/'x y'}", Ok("ax yple")),
        ("${A/p/\"x\"}", Ok("axple")),
        ("${A/p/\\}}", Ok("a\\}ple")),
        ("${A/p/&}", Ok("a&ple")),
        ("${A/p/$1}", Ok("aple")),
        ("${U/국/x}", Ok("한x어")),
        ("${E/a/b}", Ok("")),
        ("${none/a/b}", Ok("")),
        ("${E/*/b}", Ok("b")),
        ("${L/1?l/x}", Ok("line1\nline2")),
        ("${A/p", Err("syntax error: missing '/' in ${}")),
        ("${A/p/", Err("syntax error: missing '}'")),
        ("${A/p/b", Err("syntax error: missing '}'")),
        ("${A/\\x/b}", Err("invalid pattern (\\x) in substitution: invalid escape '\\x'")),
        ("${S/ /_}", Ok("two_words")),
    ]),
    ("`${variable//pattern/replacement}`: every match is replaced", &[
        ("${A//p/b}", Ok("abble")),
        ("${A//?/b}", Ok("bbbbb")),
        ("${A//*/b}", Ok("b")),
        ("${A//x/b}", Ok("apple")),
        ("${A//p/}", Ok("ale")),
        ("${P//\\//_}", Ok("_usr_local_lib_libfoo.so.1.2")),
        ("${P//./_}", Ok("/usr/local/lib/libfoo_so_1_2")),
        ("${P//lib/}", Ok("/usr/local//foo.so.1.2")),
        ("${P//\\/?/X}", Ok("XsrXocalXibXibfoo.so.1.2")),
        ("${S// /_}", Ok("two_words")),
        ("${S//o/00}", Ok("tw00 w00rds")),
        ("${U//?/x}", Ok("xxx")),
        ("${E//?/x}", Ok("")),
        ("${E//*/x}", Ok("x")),
        ("${none//a/b}", Ok("")),
        ("${A///-}", Ok("-a-p-p-l-e-")),
        ("${A//pp/p}", Ok("aple")),
        ("${G//\\*/S}", Ok("aSb?c")),
        ("${G//\\?/Q}", Ok("a*bQc")),
        ("${B//\\\\/\\/}", Ok("a\\/b\\/c")),
        ("${L//l*e/x}", Ok("x1\nx2")),
        ("${L//*/x}", Ok("x\nx")),
        ("${A//p/${A}}", Ok("aappleapplele")),
        ("${A//[ap]/x}", Ok("apple")),
    ]),
    ("nested and combined", &[
        ("$A$E$none$S", Ok("appletwo words")),
        ("\"${A}-${none:-\"x y\"}\"", Ok("apple-x y")),
        ("${A:+${A#a}}", Ok("pple")),
        ("${none:-${A%e}}", Ok("appl")),
        ("${none:-${A/p/${none:-q}}}", Ok("aqple")),
        ("${A:-${none?x}}", Err("none: x")),
        ("/opt/${A}/${none:-bin}", Ok("/opt/apple/bin")),
        ("$A='$A'\"$A\"", Ok("apple=$Aapple")),
        ("${P##*/}:${P%/*}", Ok("libfoo.so.1.2:/usr/local/lib")),
        ("a${A:+b${A:+c${A:+d}}}", Ok("abcd")),
    ]),
    ("anything else between the braces is an error", &[
        ("${}", Err("syntax error: bad substitution")),
        ("${", Err("syntax error: missing '}'")),
        ("${A", Err("syntax error: missing '}'")),
        ("${{A}}", Err("syntax error: bad substitution")),
        ("${:A}", Err("syntax error: bad substitution")),
        ("${:-A}", Err("syntax error: bad substitution")),
        ("${A:b}", Err("unsupported modifier (:b) in substitution")),
        ("${A:}", Err("syntax error: missing '}'")),
        ("${A:#a}", Err("unsupported modifier (:#) in substitution")),
        ("${A:%a}", Err("unsupported modifier (:%) in substitution")),
        ("${A!b}", Err("unsupported modifier (!) in substitution")),
        ("${A=b}", Err("unsupported modifier (=) in substitution")),
        ("${A,b}", Err("unsupported modifier (,) in substitution")),
        ("${A^b}", Err("unsupported modifier (^) in substitution")),
        ("${A@b}", Err("unsupported modifier (@) in substitution")),
        ("${A b}", Err("unsupported modifier ( ) in substitution")),
        ("${#A}", Err("unsupported modifier (A) in substitution")),
        ("${!A}", Err("unsupported modifier (A) in substitution")),
        ("${A[0]}", Err("unsupported modifier ([) in substitution")),
        ("${A:0:1}", Err("unsupported modifier (:0) in substitution")),
        ("${.}", Err("unsupported modifier (.) in substitution")),
        ("a${}b", Err("syntax error: bad substitution")),
        ("\"${\"", Err("unsupported modifier (\") in substitution")),
    ]),
    ("here-document words and other characters are text", &[
        ("<<EOF", Ok("<<EOF")),
        ("<< EOF", Ok("<< EOF")),
        ("a<b", Ok("a<b")),
        ("a>b|c&d;e", Ok("a>b|c&d;e")),
        ("`date`", Ok("`date`")),
        ("$(date)", Ok("$(date)")),
        ("~/x", Ok("~/x")),
        ("a=b", Ok("a=b")),
        ("{a,b}", Ok("{a,b}")),
        ("*.txt", Ok("*.txt")),
        ("[a-z]", Ok("[a-z]")),
        ("#x", Ok("#x")),
        ("a\tb", Ok("a\tb")),
    ]),
];

fn environment() -> BTreeMap<String, String> {
    [
        ("A", "apple"),
        ("B", "a\\b\\c"),
        ("D", "$A"),
        ("E", ""),
        ("G", "a*b?c"),
        ("I", "a"),
        ("L", "line1\nline2"),
        ("P", "/usr/local/lib/libfoo.so.1.2"),
        ("S", "two words"),
        ("U", "한국어"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

#[test]
fn rows_expand_as_the_reference_says() {
    let environment = environment();
    let mut count = 0;
    for (source, rows) in ROWS {
        for (input, expected) in *rows {
            let found = Expander::new('\\').word(input, &environment);
            let found = found
                .map(|expanded| expanded.text)
                .map_err(|error| error.to_string());
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(found, expected, "{input:?} ({source})");
            count += 1;
        }
    }
    assert!(count >= 250, "{count}");
}

#[test]
fn a_backtick_can_be_the_escape_character() {
    for (input, expected) in [
        ("`$A", "$A"),
        ("\\$A", "\\apple"),
        ("c:\\dir\\`$A", "c:\\dir\\$A"),
        ("\"`\"\"", "\""),
        ("\"\\n\"", "\\n"),
        ("``", "`"),
        ("${none:-`}}", "}"),
    ] {
        assert_eq!(
            Expander::new('`').word(input, &environment()).unwrap().text,
            expected,
            "{input:?}"
        );
    }
}

#[test]
fn words_are_cut_at_blanks_after_expansion_unless_quoted() {
    let environment = environment();
    for (input, expected) in [
        ("a", vec!["a"]),
        ("a b", vec!["a", "b"]),
        ("  a   b  ", vec!["a", "b"]),
        ("$S", vec!["two", "words"]),
        ("\"$S\"", vec!["two words"]),
        ("x$S", vec!["xtwo", "words"]),
        ("'a b' c", vec!["a b", "c"]),
        ("a\\ b", vec!["a b"]),
        ("$none", vec![]),
        ("$none $E", vec![]),
        ("\"\"", vec![]),
        ("a$none b", vec!["a", "b"]),
        ("${none:-80 443}/tcp", vec!["80", "443/tcp"]),
        ("80${none:-80}", vec!["8080"]),
        ("", vec![]),
    ] {
        assert_eq!(
            Expander::new('\\').words(input, &environment).unwrap().0,
            expected,
            "{input:?}"
        );
    }
}

#[test]
fn heredoc_bodies_keep_quotes_and_lose_backslashes() {
    for (input, expected) in [
        ("$A\n", "apple\n"),
        ("'$A' \"$A\"\n", "'apple' \"apple\"\n"),
        ("it's\n", "it's\n"),
        ("\\$A\n", "$A\n"),
        ("a\\\\b\n", "a\\b\n"),
        ("a\\nb\n", "anb\n"),
        ("${none:-x 'y'}\n", "x 'y'\n"),
        ("<<EOF $A\n", "<<EOF apple\n"),
    ] {
        assert_eq!(
            Expander::new('\\')
                .heredoc(input, &environment())
                .unwrap()
                .text,
            expected,
            "{input:?}"
        );
    }
}

#[test]
fn names_that_were_asked_for_are_reported() {
    let names = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(",");
    for (input, used, unset) in [
        ("plain", "", ""),
        ("$A", "A", ""),
        ("$none", "", "none"),
        ("$A$none$E", "A,E", "none"),
        ("${none:-$A}", "A", "none"),
        ("${A:-$other}", "A", "other"),
        ("${A#$I}", "A,I", ""),
        ("${A/$I/$none}", "A,I", "none"),
        ("'$A'", "", ""),
        ("\\$A", "", ""),
        ("\"$A\"", "A", ""),
    ] {
        let expanded = Expander::new('\\').word(input, &environment()).unwrap();
        assert_eq!(
            (names(&expanded.used), names(&expanded.unset)),
            (used.to_owned(), unset.to_owned()),
            "{input:?}"
        );
    }
}

#[test]
fn display_leaves_unset_variables_and_quotes() {
    for (input, expected) in [
        ("RUN echo $A", "RUN echo apple"),
        ("RUN echo $none", "RUN echo $none"),
        ("RUN echo ${none}", "RUN echo ${none}"),
        ("RUN echo ${none:-x}", "RUN echo ${none:-x}"),
        ("RUN echo ${none/a/b}", "RUN echo ${none/a/b}"),
        ("RUN echo \"$A\" '$A'", "RUN echo \"apple\" '$A'"),
    ] {
        assert_eq!(
            Expander::new('\\').display(input, &environment()).unwrap(),
            expected,
            "{input:?}"
        );
    }
}

#[test]
fn many_matches_in_one_long_line_take_linear_time() {
    let environment = BTreeMap::from([("v".to_owned(), "a".repeat(1 << 20))]);
    let expand = |text: &str| Expander::new('\\').word(text, &environment);
    // A square of this length would take hours, and so would this test.
    assert_eq!(expand("${v//a/bb}").unwrap().text.len(), 2 << 20);
    assert!(matches!(
        expand("${v//a*?b/x}"),
        Err(ExpandError::TooCostly) | Ok(_)
    ));
}

#[test]
fn the_last_entry_of_a_list_counts() {
    let list = ["A=1".to_owned(), "A=2".to_owned(), "AB=3".to_owned()];
    assert_eq!(
        Expander::new('\\')
            .word("$A$AB$B", list.as_slice())
            .unwrap()
            .text,
        "23"
    );
}

#[test]
fn bombs_are_refused() {
    let big = BTreeMap::from([("x".to_owned(), "a".repeat(64 * 1024))]);
    let expand = |word: &str| Expander::new('\\').word(word, &big);
    let long = "b".repeat(64 * 1024);
    assert_eq!(
        expand(&format!("${{x//a/{long}}}")),
        Err(ExpandError::TooLarge)
    );
    assert_eq!(expand(&"$x".repeat(1000)), Err(ExpandError::TooLarge));
    let deep = format!(
        "{}{}",
        "${n:-".repeat(MAX_NESTING + 1),
        "}".repeat(MAX_NESTING + 1)
    );
    assert_eq!(expand(&deep), Err(ExpandError::Nesting));
    let allowed = format!(
        "{}x{}",
        "${n:-".repeat(MAX_NESTING),
        "}".repeat(MAX_NESTING)
    );
    assert_eq!(expand(&allowed).unwrap().text, "x");
    // Quadratic at most, and then refused.
    assert_eq!(
        expand(&format!("${{x#*{}b}}", "a".repeat(32 * 1024))),
        Err(ExpandError::TooCostly)
    );
    assert!(expand(&format!("${{x#{}b}}", "*a".repeat(1000))).is_ok());
}

proptest! {
    #[test]
    fn any_text_expands_or_is_refused(text in "[A${}:+?#%/*'\"\\\\` a-]{0,40}") {
        let environment = environment();
        let _ = Expander::new('\\').word(&text, &environment);
        let _ = Expander::new('`').words(&text, &environment);
        let _ = Expander::new('\\').heredoc(&text, &environment);
        let _ = Expander::new('\\').display(&text, &environment);
    }

    #[test]
    fn quoted_text_comes_out_as_it_went_in(text in "[^']{0,40}") {
        let quoted = format!("'{text}'");
        prop_assert_eq!(Expander::new('\\').word(&quoted, &EmptyEnvironment).unwrap().text, text);
    }

    #[test]
    fn trims_agree_with_trying_every_length(value in "[ab]{0,8}", pattern in "[ab*?]{0,6}") {
        // The obvious definition: the shortest or longest start that the whole pattern matches.
        fn whole(pattern: &[char], text: &[char]) -> bool {
            match pattern.split_first() {
                None => text.is_empty(),
                Some(('*', rest)) => (0..=text.len()).any(|at| whole(rest, &text[at..])),
                Some((one, rest)) => text.split_first().is_some_and(|(first, left)| (*one == '?' || one == first) && whole(rest, left)),
            }
        }
        let characters: Vec<char> = pattern.chars().collect();
        let text: Vec<char> = value.chars().collect();
        let lengths: Vec<usize> = (0..=text.len()).filter(|length| whole(&characters, &text[..*length])).collect();
        let environment = BTreeMap::from([("v".to_owned(), value.clone())]);
        let expand = |sign: &str| Expander::new('\\').word(&format!("${{v{sign}{pattern}}}"), &environment).unwrap().text;
        prop_assert_eq!(expand("#"), value[lengths.first().copied().unwrap_or(0)..].to_owned());
        prop_assert_eq!(expand("##"), value[lengths.last().copied().unwrap_or(0)..].to_owned());
        let ends: Vec<usize> = (0..=text.len()).rev().filter(|start| whole(&characters, &text[*start..])).collect();
        prop_assert_eq!(expand("%"), value[..ends.first().copied().unwrap_or(text.len())].to_owned());
        prop_assert_eq!(expand("%%"), value[..ends.last().copied().unwrap_or(text.len())].to_owned());
    }
}
