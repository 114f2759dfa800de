//! Dockerfiles of a given size, each heavy in one thing: what makes a careless reader slow.
//!
//! Used by the tests and, through its path, by the example that measures.

use std::fmt::Write as _;

/// A name and what makes a text of about so many bytes.
pub(crate) type Shape = (&'static str, fn(usize) -> String);

/// `prefix`, then pieces until `bytes` are reached, then `suffix`.
fn filled(
    bytes: usize,
    prefix: &str,
    suffix: &str,
    mut piece: impl FnMut(usize, &mut String),
) -> String {
    let mut text = String::with_capacity(bytes + 64);
    text.push_str(prefix);
    let mut number = 0;
    while text.len() + suffix.len() < bytes {
        piece(number, &mut text);
        number += 1;
    }
    text.push_str(suffix);
    text
}

fn repeated(bytes: usize, prefix: &str, piece: &str, suffix: &str) -> String {
    filled(bytes, prefix, suffix, |_, text| text.push_str(piece))
}

fn numbered(bytes: usize, prefix: &str, suffix: &str, piece: fn(usize) -> String) -> String {
    filled(bytes, prefix, suffix, |number, text| {
        text.push_str(&piece(number));
    })
}

/// Two halves, each of half the size: the second one can use what the first one declares.
fn halves(
    bytes: usize,
    prefix: &str,
    first: fn(usize) -> String,
    middle: &str,
    second: fn(usize) -> String,
) -> String {
    let start = numbered(bytes / 2, prefix, middle, first);
    numbered(bytes, &start, "\n", second)
}

/// Bytes that look random and are always the same.
fn noise(bytes: usize) -> String {
    let mut state: u32 = 1;
    filled(bytes, "", "\n", |_, text| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let character = char::from_u32(32 + (state >> 16) % 95).unwrap_or(' ');
        text.push(if (state >> 8).is_multiple_of(40) {
            '\n'
        } else {
            character
        });
    })
}

fn nested(bytes: usize) -> String {
    let depth = bytes / 7;
    let mut text = String::from("FROM scratch\nENV a=");
    text.push_str(&"${a:-".repeat(depth));
    text.push_str(&"}".repeat(depth));
    text.push('\n');
    text
}

fn one_body_for_many(bytes: usize) -> String {
    let openings = repeated(bytes / 2, "FROM scratch\nCOPY", " <<A", " /x/\n");
    let names = openings.matches("<<A").count();
    let mut text = openings;
    text.push_str(&"A\n".repeat(names.saturating_sub(1)));
    repeated(bytes, &text, "some text\n", "A\n")
}

/// A file of so many lines that one warning for each is said of all of them.
fn warnings_over_lines(bytes: usize) -> String {
    numbered(bytes, "FROM scratch\nENV a=1", "\n", |number| {
        format!(" \\\n b{number}=$c{number}")
    })
}

/// What each writes stands in its name.
#[rustfmt::skip]
pub(crate) const SHAPES: &[Shape] = &[
    ("one long command", |n| repeated(n, "FROM scratch\nRUN ", "a", "\n")),
    ("one long word of backslashes", |n| repeated(n, "FROM scratch\nRUN ", "\\", "a\n")),
    ("words of COPY", |n| repeated(n, "FROM scratch\nCOPY", " a", " /x/\n")),
    ("strings of a JSON array", |n| repeated(n, "FROM scratch\nCMD [\"a\"", ",\"a\"", "]\n")),
    ("escapes in a JSON string", |n| repeated(n, "FROM scratch\nCMD [\"", "\\u00e9", "\"]\n")),
    ("open JSON arrays", |n| repeated(n, "FROM scratch\nCMD ", "[", "\n")),
    ("commands that are nearly JSON", |n| repeated(n, "FROM scratch\n", "RUN [\"a\" b]\n", "")),
    ("pairs of one ENV", |n| numbered(n, "FROM scratch\nENV", "\n", |i| format!(" a{i}=b"))),
    ("pairs of one LABEL", |n| numbered(n, "FROM scratch\nLABEL", "\n", |i| format!(" a{i}=b"))),
    ("names of one ARG", |n| numbered(n, "FROM scratch\nARG", "\n", |i| format!(" a{i}=b"))),
    ("lines of ENV", |n| numbered(n, "FROM scratch\n", "", |i| format!("ENV a{i}=b\n"))),
    ("one ENV again and again", |n| repeated(n, "FROM scratch\n", "ENV a=b\n", "")),
    ("lines of ARG before FROM", |n| numbered(n, "", "FROM scratch\n", |i| format!("ARG a{i}=b\n"))),
    ("an ARG that uses all before it", |n| halves(n, "", |i| format!("ARG a{i}=\n"), "ARG x=\n", |i| format!("ARG x=$x$a{i}\n")) + "FROM scratch\n"),
    ("ARG and what uses it", |n| halves(n, "FROM scratch\n", |i| format!("ARG a{i}=b\n"), "", |i| format!("LABEL a=$a{i}\n"))),
    ("RUN after many ENV", |n| halves(n, "FROM scratch\n", |i| format!("ENV a{i}=b\n"), "", |_| "RUN a\n".to_owned())),
    ("a value that grows", |n| repeated(n, "FROM scratch\nENV x=a\n", "ENV x=${x}aaaaaaaa\n", "")),
    ("arguments never declared", |n| halves(n, "FROM scratch\n", |i| format!("ENV a{i}=b\n"), "", |i| format!("USER $b{i}\n"))),
    ("stages", |n| numbered(n, "FROM scratch\n", "", |i| format!("FROM scratch AS s{i}\n"))),
    ("stages on stages", |n| numbered(n, "FROM scratch AS s0\n", "", |i| format!("FROM s{i} AS s{}\n", i + 1))),
    ("stages on stages with ENV", |n| numbered(n, "FROM scratch AS s0\n", "", |i| format!("FROM s{i} AS s{}\nENV a{i}=b\n", i + 1))),
    ("stages on one that has much", |n| halves(n, "FROM scratch AS s\n", |i| format!("ENV a{i}=b\n"), "", |i| format!("FROM s AS t{i}\nENV a=c\n"))),
    ("COPY from stages", |n| numbered(n, "FROM scratch AS s0\n", "", |i| format!("FROM scratch AS s{}\nCOPY --from=s{i} a a\n", i + 1))),
    ("COPY from stages by number", |n| halves(n, "", |i| format!("FROM scratch AS s{i}\n"), "FROM scratch\n", |i| format!("COPY --from={} a a\n", i % 1000))),
    ("mounts from stages", |n| halves(n, "", |i| format!("FROM scratch AS s{i}\n"), "FROM scratch\n", |i| format!("RUN --mount=from=s{},target=/a b\n", i % 1000))),
    ("flags of RUN", |n| repeated(n, "FROM scratch\nRUN", " --mount=type=cache,target=/a", " b\n")),
    ("flags of COPY", |n| repeated(n, "FROM scratch\nCOPY", " --exclude=a", " b c\n")),
    ("flags that are unknown", |n| repeated(n, "FROM scratch\nCOPY", " --exclud=a", " b c\n")),
    ("keys of a mount", |n| repeated(n, "FROM scratch\nRUN --mount=type=cache,target=/a", ",id=a", " b\n")),
    ("short here-documents", |n| repeated(n, "FROM scratch\n", "COPY <<E /x\nE\n", "")),
    ("here-documents of one line", |n| { let text = numbered(n / 2, "FROM scratch\nRUN", "\n", |i| format!(" <<E{i}")); let names = text.matches("<<").count(); (0..names).fold(text, |mut text, i| { let _ = writeln!(text, "E{i}"); text }) }),
    ("one body for many names", one_body_for_many),
    ("a long here-document", |n| repeated(n, "FROM scratch\nENV a=b\nCOPY <<E /x\n", "$a ${a:-b} 'c'\n", "E\n")),
    ("here-documents never closed", |n| repeated(n, "FROM scratch\n", "RUN <<E\n", "")),
    ("continued lines", |n| repeated(n, "FROM scratch\nRUN a", " \\\n a", "\n")),
    ("continued lines with comments", |n| repeated(n, "FROM scratch\nRUN a", " \\\n# b\n\n a", "\n")),
    ("continued words", |n| repeated(n, "FROM scratch\nENV a=b", " \\\n c=d", "\n")),
    ("a word in pieces", |n| repeated(n, "FROM scratch\nUSER a", "\\\nb", "\n")),
    ("comments", |n| repeated(n, "FROM scratch\n", "# a\n", "")),
    ("comments above names", |n| { let text = numbered(n / 2, "", "ARG a=b", |i| format!("# c{i} d\n")); numbered(n, &text, "\nFROM scratch\n", |i| format!(" a{i}=b")) }),
    ("comments above secrets", |n| { let text = numbered(n / 2, "FROM scratch\n", "ENV a=b", |i| format!("# c{i} d\n")); numbered(n, &text, "\n", |i| format!(" a{i}_token=b")) }),
    ("rules left out", |n| { let text = numbered(n / 2, "# check=skip=a", "\nFROM scratch\n", |i| format!(",a{i}")); numbered(n, &text, "", |i| format!("ENV a{i} b\n")) }),
    ("nested substitutions", nested),
    ("substitutions", |n| repeated(n, "FROM scratch\nENV a=b\nENV c=", "${a:-b}", "\n")),
    ("substitutions never closed", |n| repeated(n, "FROM scratch\nENV c=", "${a:-b", "\n")),
    ("patterns", |n| repeated(n, "FROM scratch\nENV a=bbbbbbbb\nENV c=", "${a##*b*b*c}", "\n")),
    ("patterns on a long value", |n| { let text = repeated(n / 2, "FROM scratch\nENV a=", "b", "\n"); repeated(n, &text, "LABEL c=${a%%*b*b*c}\n", "") }),
    ("quotes", |n| repeated(n, "FROM scratch\nENV a=", "\"b\"'c'", "\n")),
    ("quotes never closed", |n| repeated(n, "FROM scratch\nENV a=", "'", "\"\n")),
    ("ports", |n| numbered(n, "FROM scratch\nEXPOSE", "\n", |i| format!(" {}", 1 + i % 65535))),
    ("ranges of ports", |n| repeated(n, "FROM scratch\n", "EXPOSE 1-65535\n", "")),
    ("volumes", |n| numbered(n, "FROM scratch\nVOLUME", "\n", |i| format!(" /a{i}"))),
    ("relative folders", |n| repeated(n, "FROM scratch\n", "WORKDIR a\n", "")),
    ("triggers", |n| repeated(n, "FROM scratch\n", "ONBUILD RUN a\n", "")),
    ("triggers that cannot work", |n| repeated(n, "FROM scratch\n", "ONBUILD RUM a\n", "")),
    ("a trigger of triggers", |n| repeated(n, "FROM scratch\n", "ONBUILD ", "RUN a\n")),
    ("commands of which one counts", |n| repeated(n, "FROM scratch\n", "CMD a\n", "")),
    ("warnings over many lines", warnings_over_lines),
    ("wrong casing", |n| repeated(n, "FROM scratch\n", "rUN a\n", "")),
    ("names used twice", |n| repeated(n, "", "FROM scratch as A\n", "")),
    ("CRLF", |n| repeated(n, "FROM scratch\r\n", "RUN a\r\n", "")),
    ("empty lines", |n| repeated(n, "FROM scratch\n", "\n", "RUN a\n")),
    ("blanks", |n| repeated(n, "FROM scratch\nRUN a", " ", "b\n")),
    ("short instructions", |n| repeated(n, "FROM scratch\n", "RUN a\n", "")),
    ("unknown instructions", |n| repeated(n, "FROM scratch\n", "RUM a\nRUN b\n", "")),
    ("unknown words", |n| repeated(n, "", "xyz\n", "")),
    ("one unknown word", |n| repeated(n, "", "x", "\n")),
    ("a pair without =", |n| repeated(n, "FROM scratch\nENV a=b ", "x", "\n")),
    ("noise", noise),
    ("what is not UTF-8 made visible", |n| repeated(n, "FROM scratch\nRUN ", "\u{fffd}", "\n")),
];
