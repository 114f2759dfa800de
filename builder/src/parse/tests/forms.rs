//! Instruction × form: what a shell form, an exec form, a broken one and a here-document are to each
//! instruction. Sources as in [`flags`](super::flags).

use super::show::show;
use super::{parse, read};

/// What is written after the keyword.
const WRITTEN: [&str; 6] = [
    "a b",            // shell form
    "[\"a\", \"b\"]", // exec form
    "[\"a\", \"b\"",  // an exec form that is no JSON
    "[\"a\", 1]",     // JSON of other things than strings
    "<<E\nx\nE",      // a here-document
    "",               // nothing
];

const STRINGS: &str = "!when using JSON array syntax, arrays must be comprised of strings only";
const UNKNOWN_X: &str = "!unknown instruction: x";

/// Keyword, what is read of each of [`WRITTEN`] (`!`: what is said), source.
#[rustfmt::skip]
const FORMS: &[(&str, [&str; 6], &str)] = &[
    ("RUN", [
        "shell(\"a b\")", "exec[\"a\" \"b\"]", "shell(\"[\\\"a\\\", \\\"b\\\"\")", STRINGS,
        "shell(\"<<E\") 0<<E \"x\\n\"", "shell(\"\")",
    ], "run: shell form, exec form, here-documents; exec-form: JSON, so double quotes"),
    ("CMD", [
        "shell(\"a b\")", "exec[\"a\" \"b\"]", "shell(\"[\\\"a\\\", \\\"b\\\"\")", STRINGS, UNKNOWN_X, "shell(\"\")",
    ], "cmd: shell form, exec form; here-documents: RUN, COPY and ADD only"),
    ("ENTRYPOINT", [
        "shell(\"a b\")", "exec[\"a\" \"b\"]", "shell(\"[\\\"a\\\", \\\"b\\\"\")", STRINGS, UNKNOWN_X, "shell(\"\")",
    ], "entrypoint: exec form, shell form"),
    ("COPY", [
        "[\"a\"] -> \"b\"", "[\"a\"] -> \"b\"", "[\"[\\\"a\\\",\"] -> \"\\\"b\\\"\"", STRINGS,
        "!COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        "!COPY requires at least two arguments, but only one was provided. Destination could not be determined",
    ], "copy: words or a JSON array; the last one is the destination"),
    ("ADD", [
        "[\"a\"] -> \"b\"", "[\"a\"] -> \"b\"", "[\"[\\\"a\\\",\"] -> \"\\\"b\\\"\"", STRINGS,
        "!ADD requires at least two arguments, but only one was provided. Destination could not be determined",
        "!ADD requires at least two arguments, but only one was provided. Destination could not be determined",
    ], "add: words or a JSON array; the last one is the destination"),
    ("VOLUME", [
        "\"a\" \"b\"", "\"a\" \"b\"", "\"[\\\"a\\\",\" \"\\\"b\\\"\"", STRINGS, UNKNOWN_X,
        "!VOLUME requires at least one argument",
    ], "volume: a JSON array or words"),
    ("SHELL", [
        "!SHELL requires the arguments to be in JSON form", "\"a\" \"b\"",
        "!SHELL requires the arguments to be in JSON form", STRINGS,
        "!SHELL requires the arguments to be in JSON form", "!SHELL requires at least one argument",
    ], "shell: must be in JSON form"),
    ("HEALTHCHECK CMD", [
        "shell(\"a b\") None None None None None", "exec[\"a\" \"b\"] None None None None None",
        "shell(\"[\\\"a\\\", \\\"b\\\"\") None None None None None", STRINGS, UNKNOWN_X,
        "!Missing command after HEALTHCHECK CMD",
    ], "healthcheck: after CMD a shell command or an exec array"),
    ("HEALTHCHECK NONE", [
        "!HEALTHCHECK NONE takes no arguments", "!HEALTHCHECK NONE takes no arguments",
        "!HEALTHCHECK NONE takes no arguments", STRINGS, "!HEALTHCHECK NONE takes no arguments", "none",
    ], "healthcheck: NONE alone"),
    ("ONBUILD RUN", [
        "\"RUN a b\" RUN shell(\"a b\")", "\"RUN [\\\"a\\\", \\\"b\\\"]\" RUN exec[\"a\" \"b\"]",
        "\"RUN [\\\"a\\\", \\\"b\\\"\" RUN shell(\"[\\\"a\\\", \\\"b\\\"\")", STRINGS,
        "\"RUN <<E\\nx\\nE\" RUN shell(\"<<E\") 0<<E \"x\\n\"", "\"RUN\" RUN shell(\"\")",
    ], "onbuild: any instruction; here-documents too"),
    ("ONBUILD CMD", [
        "\"CMD a b\" CMD shell(\"a b\")", "\"CMD [\\\"a\\\", \\\"b\\\"]\" CMD exec[\"a\" \"b\"]",
        "\"CMD [\\\"a\\\", \\\"b\\\"\" CMD shell(\"[\\\"a\\\", \\\"b\\\"\")", STRINGS, UNKNOWN_X, "\"CMD\" CMD shell(\"\")",
    ], "onbuild: any instruction"),
    // The others know no array: it is text to them.
    ("ENV", [
        "legacy \"a\"=\"b\"", "legacy \"[\\\"a\\\",\"=\"\\\"b\\\"]\"", "legacy \"[\\\"a\\\",\"=\"\\\"b\\\"\"",
        "legacy \"[\\\"a\\\",\"=\"1]\"", "!ENV must have two arguments", "!ENV requires at least one argument",
    ], "env: key=value, or the old form with a blank"),
    ("LABEL", [
        "legacy \"a\"=\"b\"", "legacy \"[\\\"a\\\",\"=\"\\\"b\\\"]\"", "legacy \"[\\\"a\\\",\"=\"\\\"b\\\"\"",
        "legacy \"[\\\"a\\\",\"=\"1]\"", "!LABEL must have two arguments", "!LABEL requires at least one argument",
    ], "label: key=value"),
    ("ARG", [
        "\"a\" \"b\"", "\"[\\\"a\\\",\" \"\\\"b\\\"]\"", "\"[\\\"a\\\",\" \"\\\"b\\\"\"", "\"[\\\"a\\\",\" \"1]\"", UNKNOWN_X,
        "!ARG requires at least one argument",
    ], "arg: a name, and a default after ="),
    ("EXPOSE", [
        "\"a\" \"b\"", "\"[\\\"a\\\",\" \"\\\"b\\\"]\"", "\"[\\\"a\\\",\" \"\\\"b\\\"\"", "\"[\\\"a\\\",\" \"1]\"", UNKNOWN_X,
        "!EXPOSE requires at least one argument",
    ], "expose: ports; whether they are some is seen once variables are known"),
    ("USER", [
        "\"a b\"", "\"[\\\"a\\\", \\\"b\\\"]\"", "\"[\\\"a\\\", \\\"b\\\"\"", "\"[\\\"a\\\", 1]\"", UNKNOWN_X,
        "!USER requires exactly one argument",
    ], "user: the rest of the line"),
    ("WORKDIR", [
        "\"a b\"", "\"[\\\"a\\\", \\\"b\\\"]\"", "\"[\\\"a\\\", \\\"b\\\"\"", "\"[\\\"a\\\", 1]\"", UNKNOWN_X,
        "!WORKDIR requires exactly one argument",
    ], "workdir: the rest of the line"),
    ("STOPSIGNAL", [
        "\"a b\"", "\"[\\\"a\\\", \\\"b\\\"]\"", "\"[\\\"a\\\", \\\"b\\\"\"", "\"[\\\"a\\\", 1]\"", UNKNOWN_X,
        "!STOPSIGNAL requires exactly one argument",
    ], "stopsignal: a name or number; whether it is one is seen once variables are known"),
    ("MAINTAINER", [
        "\"a b\"", "\"[\\\"a\\\", \\\"b\\\"]\"", "\"[\\\"a\\\", \\\"b\\\"\"", "\"[\\\"a\\\", 1]\"", UNKNOWN_X,
        "!MAINTAINER requires exactly one argument",
    ], "maintainer-deprecated: the rest of the line"),
    ("FROM", [
        "!FROM requires either one or three arguments", "!FROM requires either one or three arguments",
        "!FROM requires either one or three arguments", "!FROM requires either one or three arguments",
        UNKNOWN_X, "!FROM requires either one or three arguments",
    ], "from: an image, and AS and a name or not"),
    ("ONBUILD", [
        "\"a b\" ?", "\"[\\\"a\\\", \\\"b\\\"]\" ?", "\"[\\\"a\\\", \\\"b\\\"\" ?", "\"[\\\"a\\\", 1]\" ?", UNKNOWN_X,
        "!ONBUILD requires at least one argument",
    ], "onbuild: an instruction; one that is none is a warning here"),
];

#[test]
fn every_instruction_reads_every_form() {
    for (keyword, expected, source) in FORMS {
        for (written, expected) in WRITTEN.iter().zip(expected) {
            let line = format!("{keyword} {written}");
            let text = format!("FROM x\n{}\n", line.trim_end());
            let Some(message) = expected.strip_prefix('!') else {
                let file = read(&text);
                let shown: Vec<String> = file.instructions.iter().skip(1).map(show).collect();
                let name = keyword.split(' ').next().unwrap();
                assert_eq!(
                    shown.join(" ; "),
                    format!("{name} {expected}"),
                    "{text:?} ({source})"
                );
                continue;
            };
            let Err(error) = parse(text.as_bytes(), "D") else {
                panic!("{text:?} was read ({source})");
            };
            let said = &error.diagnostics[0].message;
            assert!(said.starts_with(message), "{text:?} ({source}): {said}");
        }
    }
}
