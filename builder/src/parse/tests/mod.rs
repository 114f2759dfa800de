//! Tests of the whole parser.

mod flags;
mod forms;
mod mounts;
mod rows;
mod shapes;
mod show;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use rows::{ERRORS, FORMS, MOUNTS};
use shapes::SHAPES;
use show::show;

fn read(text: &str) -> Dockerfile {
    parse(text.as_bytes(), "Dockerfile")
        .unwrap_or_else(|error| panic!("{text:?}: {}", error.render(Style::Plain)))
}

fn refuse(text: &str) -> ParseError {
    parse(text.as_bytes(), "Dockerfile").expect_err(text)
}

#[test]
fn every_form_of_every_instruction_is_read() {
    for (text, expected) in FORMS {
        let is_from = text.trim_start().to_uppercase().starts_with("FROM");
        let file = if is_from {
            read(text)
        } else {
            read(&format!("FROM x\n{text}"))
        };
        let shown: Vec<String> = file
            .instructions
            .iter()
            .skip(usize::from(!is_from))
            .map(show)
            .collect();
        assert_eq!(shown.join(" ; "), *expected, "{text:?}");
    }
}

#[test]
fn everything_buildkit_refuses_is_refused_with_place_and_reason() {
    for (text, expected) in ERRORS {
        let error = refuse(text);
        let shown: Vec<String> = error
            .diagnostics
            .iter()
            .map(|diagnostic| diagnostic.summary(&error.source).replace("Dockerfile:", ""))
            .collect();
        assert_eq!(shown.join(" ; "), *expected, "{text:?}");
    }
}

fn show_mount(mount: &Mount) -> String {
    let text = |name: &str, value: &Option<String>| {
        value
            .as_ref()
            .map(|value| format!(" {name}={value:?}"))
            .unwrap_or_default()
    };
    let number = |name: &str, value: Option<u32>| {
        value
            .map(|value| format!(" {name}={value}"))
            .unwrap_or_default()
    };
    [
        mount.kind.as_str().to_owned(),
        if mount.read_only { " ro" } else { " rw" }.to_owned(),
        text("from", &mount.from),
        text("source", &mount.source),
        text("target", &mount.target),
        text("id", &mount.id),
        text("env", &mount.env),
        mount
            .size_bytes
            .map(|size| format!(" size={size}"))
            .unwrap_or_default(),
        if mount.sharing == CacheSharing::Shared {
            String::new()
        } else {
            format!(" {:?}", mount.sharing)
        },
        if mount.required { " required" } else { "" }.to_owned(),
        mount
            .mode
            .map(|mode| format!(" mode={mode:o}"))
            .unwrap_or_default(),
        number("uid", mount.uid),
        number("gid", mount.gid),
    ]
    .concat()
}

#[test]
fn mounts_have_their_options_defaults_and_forbidden_combinations() {
    let environment = BTreeMap::from([
        ("T".to_owned(), "/t".to_owned()),
        ("K".to_owned(), "cache".to_owned()),
    ]);
    for (text, expected) in MOUNTS {
        let text = text.replace("\\\"", "\"");
        let shown = match mounts::resolved(&text, &environment) {
            Ok(mount) => show_mount(&mount),
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(shown, *expected, "{text:?}");
    }
}

#[test]
fn quoted_fields_of_a_mount_may_hold_commas() {
    for (text, target) in [
        ("type=cache,\"target=/a,b\"", "/a,b"),
        ("\"target=/a\"\"b\"", "/a\"b"),
    ] {
        let mount = RunMount::parse(Spanned::new(text.to_owned(), Span::default())).unwrap();
        assert_eq!(
            mount
                .resolve(|value| Ok(value.to_owned()))
                .unwrap()
                .target
                .unwrap(),
            target,
            "{text:?}"
        );
    }
}

#[test]
fn directives_hold_only_at_the_top() {
    for (text, escape, syntax, check) in [
        ("FROM a", '\\', None, None),
        ("# escape=`\nFROM a", '`', None, None),
        ("#escape = `  \nFROM a", '`', None, None),
        ("# ESCAPE=`\nFROM a", '`', None, None),
        ("  # escape=`\nFROM a", '`', None, None),
        ("\u{feff}# escape=`\nFROM a", '`', None, None),
        ("# escape=`\r\nFROM a\r\n", '`', None, None),
        (
            "# syntax=docker/dockerfile:1\n# escape=`\n# check=skip=all\nFROM a",
            '`',
            Some("docker/dockerfile:1"),
            Some("skip=all"),
        ),
        ("# unknown=1\n# escape=`\nFROM a", '\\', None, None),
        ("# a comment\n# escape=`\nFROM a", '\\', None, None),
        ("\n# escape=`\nFROM a", '\\', None, None),
        ("#\n# escape=`\nFROM a", '\\', None, None),
        ("# escape=\nFROM a", '\\', None, None),
        ("FROM a\n# escape=`\n", '\\', None, None),
        ("#!/bin/x\n# escape=`\nFROM a", '\\', None, None),
    ] {
        let directives = read(text).directives;
        let value = |word: Option<Spanned<String>>| word.map(|word| word.value);
        assert_eq!(directives.escape, escape, "{text:?}");
        assert_eq!(value(directives.syntax).as_deref(), syntax, "{text:?}");
        assert_eq!(value(directives.check).as_deref(), check, "{text:?}");
    }
}

#[test]
fn a_backtick_continues_lines_and_a_backslash_then_does_not() {
    let file = read("# escape=`\nFROM a\nRUN dir c:\\\nRUN a `\n  b\n");
    let shown: Vec<String> = file.instructions.iter().map(show).collect();
    assert_eq!(
        shown,
        [
            "FROM \"a\"",
            "RUN shell(\"dir c:\\\\\")",
            "RUN shell(\"a   b\")"
        ]
    );
}

#[test]
fn words_know_their_place_even_across_continuations() {
    let text = "FROM a\r\nCOPY --chown=x \\\r\n  # comment\r\n  one tw\\\r\no \\\r\n  three\r\n";
    let file = read(text);
    let InstructionKind::Copy(copy) = &file.instructions[1].kind else {
        panic!("not COPY")
    };
    let words: Vec<&Word> = copy
        .files
        .paths()
        .chain([&copy.files.destination])
        .collect();
    let shown: Vec<(&str, &str)> = words
        .iter()
        .map(|word| (word.value.as_str(), file.source.slice(word.span)))
        .collect();
    assert_eq!(
        shown,
        [("one", "one"), ("two", "tw\\\r\no"), ("three", "three")]
    );
    assert_eq!(
        file.source
            .position(copy.files.destination.span.start)
            .to_string(),
        "6:3"
    );
    assert_eq!(
        file.source.slice(file.instructions[1].flags[0].span),
        "--chown=x"
    );
    assert_eq!(file.source.lines(file.instructions[1].span), (2, 6));
    assert_eq!(file.instructions[1].line, 2);
}

#[test]
fn the_code_of_an_instruction_is_its_joined_line() {
    let file = read("FROM a\n  run --network=none \\\n # c\n  a \\\n b  \n");
    assert_eq!(file.instructions[1].code, "run --network=none   a  b");
    assert_eq!(file.instructions[1].keyword.value, "run");
    assert_eq!(file.instructions[1].name(), "RUN");
}

#[test]
fn comments_belong_to_the_instruction_below() {
    let file = read(
        "# one\nFROM a AS b\n# b is c\n\n# d\nFROM b AS b\n# x\n#\nARG y\n# y what it is\nARG y",
    );
    let comments: Vec<Vec<String>> = file
        .instructions
        .iter()
        .map(|one| one.comments.clone())
        .collect();
    assert_eq!(
        comments,
        [
            vec!["one"],
            vec!["b is c", "d"],
            vec![],
            vec!["y what it is"]
        ]
    );
    let InstructionKind::From(from) = &file.instructions[1].kind else {
        panic!("not FROM")
    };
    assert_eq!(from.description.as_deref(), Some("is c"));
    let InstructionKind::Arg(args) = &file.instructions[3].kind else {
        panic!("not ARG")
    };
    assert_eq!(args[0].description.as_deref(), Some("what it is"));
}

#[test]
fn messages_show_the_line_and_the_near_word() {
    let error = refuse("FROM alpine\n\nRUN --mont=type=cache,target=/c \\\n  make\nCOPPY a b\n");
    assert_eq!(
        error.render(Style::Plain),
        "\
error: unknown flag: --mont
 --> Dockerfile:3:5
  |
3 | RUN --mont=type=cache,target=/c \\
  |     ^^^^^^
  |
  = help: did you mean `--mount`?

error: unknown instruction: COPPY
 --> Dockerfile:5:1
  |
5 | COPPY a b
  | ^^^^^
  |
  = help: did you mean `COPY`?
"
    );
    assert_eq!(
        error.to_string(),
        "Dockerfile:3:5: unknown flag: --mont (did you mean `--mount`?) (and 1 more)"
    );
    assert!(error.render(Style::Colour).contains('\u{1b}'));
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let error = refuse("FROM a\n\u{1b}[31mX y\n");
    assert!(!error.render(Style::Plain).contains('\u{1b}'));
}

#[test]
fn one_mistake_makes_one_message() {
    let error = refuse("FROM a\nRUN x &&\n  y &&\n  z\nNOPE\nRUN ok\nNOPE\n");
    assert_eq!(error.diagnostics.len(), 2);
    assert_eq!(
        error.diagnostics[0].hint.as_deref(),
        Some("is a `\\` missing at the end of the line above?")
    );
}

#[test]
fn text_that_is_no_utf8_may_stand_in_comments_only() {
    let file = parse(b"# caf\xe9\nFROM a\n", "Dockerfile").unwrap();
    assert_eq!(file.instructions.len(), 1);
    let error = parse(b"FROM a\nRUN caf\xe9\n", "Dockerfile").unwrap_err();
    assert_eq!(
        error.to_string(),
        "Dockerfile:2:8: the text is not valid UTF-8"
    );
}

#[test]
fn empty_continuation_lines_and_bad_triggers_are_warnings() {
    let file = read("FROM a\nRUN x \\\n\n y\nONBUILD COPY z\n");
    let shown: Vec<String> = file
        .warnings
        .iter()
        .map(|warning| warning.summary(&file.source))
        .collect();
    assert_eq!(shown[0], "Dockerfile:3:1: Empty continuation line");
    assert!(
        shown[1].starts_with("Dockerfile:5:9: COPY requires at least two arguments"),
        "{}",
        shown[1]
    );
}

#[test]
fn triggers_are_read_back_from_a_config() {
    for text in [
        "RUN make",
        "COPY --from=x a b",
        "RUN <<EOF\na\nEOF",
        "copy a b",
    ] {
        assert!(parse_trigger(text, "trigger").is_ok(), "{text:?}");
    }
    for (text, message) in [
        (
            "RUN a\nRUN b",
            "onbuild trigger should be a single expression",
        ),
        ("", "onbuild trigger should be a single expression"),
        ("FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("NOPE", "unknown instruction: NOPE"),
    ] {
        assert_eq!(
            parse_trigger(text, "trigger").unwrap_err().diagnostics[0].message,
            message,
            "{text:?}"
        );
    }
}

#[test]
fn heredoc_commands_become_scripts() {
    for (text, expected) in [
        (
            "RUN <<EOF\na\nb\nEOF",
            RunScript::Shell("a\nb\n".to_owned()),
        ),
        ("RUN <<-EOF\n\ta\n\tEOF", RunScript::Shell("a\n".to_owned())),
        (
            "RUN <<\"E\"\n#!/bin/x\ny\nE",
            RunScript::File {
                name: "E",
                content: "#!/bin/x\ny\n".to_owned(),
            },
        ),
        (
            "RUN <<EOF cat\na\nEOF",
            RunScript::Shell("<<EOF cat\na\nEOF".to_owned()),
        ),
        (
            "RUN cat <<-A <<B\n\t1\nA\n2\nB",
            RunScript::Shell("cat <<-A <<B\n\t1\nA\n2\nB".to_owned()),
        ),
        ("RUN a b", RunScript::Shell("a b".to_owned())),
        ("RUN [\"a\", \"b\"]", RunScript::Exec(vec!["a", "b"])),
    ] {
        let file = read(&format!("FROM x\n{text}"));
        let InstructionKind::Run(run) = &file.instructions[1].kind else {
            panic!("not RUN")
        };
        assert_eq!(run.script(&file.instructions[1]), expected, "{text:?}");
    }
}

#[test]
fn stages_are_found_by_name_number_and_order() {
    let file =
        read("FROM a AS One\nFROM one AS two\nCOPY --from=ONE x y\nFROM b\nFROM two AS one\n");
    let stages = file.stages();
    let names: Vec<Option<&str>> = stages.iter().map(Stage::name).collect();
    assert_eq!(names, [Some("one"), Some("two"), None, Some("one")]);
    let word = |text: &str| Spanned::new(text.to_owned(), Span::default());
    assert_eq!(resolve_base(&stages, 1, "one"), StageRef::Stage(0));
    assert_eq!(
        resolve_base(&stages, 1, "One"),
        StageRef::Image,
        "bases are compared with case"
    );
    assert_eq!(
        resolve_base(&stages, 0, "one"),
        StageRef::Image,
        "only what stands above"
    );
    assert_eq!(
        resolve_base(&stages, 3, "0"),
        StageRef::Image,
        "FROM takes no numbers"
    );
    assert_eq!(
        resolve_copy_from(&stages, 2, &word("TWO")),
        Ok(StageRef::Stage(1))
    );
    assert_eq!(
        resolve_copy_from(&stages, 2, &word("1")),
        Ok(StageRef::Stage(1))
    );
    assert_eq!(
        resolve_copy_from(&stages, 2, &word("busybox")),
        Ok(StageRef::Image)
    );
    assert_eq!(
        resolve_mount_from(&stages, 2, &word("1")),
        Ok(StageRef::Image),
        "mounts take no numbers"
    );
    let message = |from: &str| {
        resolve_copy_from(&stages, 2, &word(from))
            .unwrap_err()
            .message
    };
    assert_eq!(
        message("2"),
        "cannot copy from stage \"2\", it needs to be defined before current stage \"stage-2\""
    );
    assert_eq!(
        message("one"),
        "cannot copy from stage \"one\", it needs to be defined before current stage \"stage-2\""
    );
    assert_eq!(message("9"), "invalid stage index 9");
    assert_eq!(find_target(&stages, None), Ok(3));
    assert_eq!(find_target(&stages, Some("TWO")), Ok(1));
    assert_eq!(find_target(&stages, Some("2")), Ok(2));
    assert_eq!(
        find_target(&stages, Some("tow")).unwrap_err().to_string(),
        "target stage \"tow\" could not be found (did you mean two?)"
    );
}

#[test]
fn only_what_a_target_needs_is_reachable() {
    let file = read(
        "ARG B=base\nFROM x AS base\nFROM x AS tools\nFROM $B AS app\nCOPY --from=tools a b\n\
         RUN --mount=from=lib,target=/l y\nFROM x AS lib\nFROM app\n",
    );
    let scope = GlobalScope::evaluate(
        &file,
        &BTreeMap::new(),
        &BTreeMap::new(),
        &Expander::new('\\'),
    )
    .unwrap();
    let error = reachable(&file.stages(), 4, &scope, &Expander::new('\\')).unwrap_err();
    assert_eq!(
        error.message,
        "cannot mount from stage \"lib\", it needs to be defined before current stage \"app\""
    );
    let file = read(
        "ARG B=base\nFROM x AS base\nFROM x AS tools\nFROM x AS no\nFROM $B AS app\nCOPY --from=tools a b\nFROM app\n",
    );
    let needed = reachable(&file.stages(), 4, &scope, &Expander::new('\\')).unwrap();
    assert_eq!(needed.into_iter().collect::<Vec<_>>(), [0, 1, 3, 4]);
}

#[test]
fn global_arguments_are_evaluated_in_order() {
    let file = read("ARG A=1\nARG B=$A$TARGETOS C\nARG A=2\nARG D=${C:-none}\nFROM x:$A\nARG A\n");
    let defaults = BTreeMap::from([("TARGETOS".to_owned(), "linux".to_owned())]);
    let given = BTreeMap::from([
        ("C".to_owned(), "cc".to_owned()),
        ("Z".to_owned(), "z".to_owned()),
    ]);
    let scope = GlobalScope::evaluate(&file, &defaults, &given, &Expander::new('\\')).unwrap();
    let value = |name: &str| scope.values.get(name).map(String::as_str);
    assert_eq!(
        (value("A"), value("B"), value("C"), value("D"), value("Z")),
        (Some("2"), Some("1linux"), Some("cc"), Some("cc"), None)
    );
    assert_eq!(
        scope.declared["B"]
            .depends_on
            .iter()
            .cloned()
            .collect::<Vec<_>>(),
        ["A", "TARGETOS"]
    );
}

#[test]
fn ports_are_read_as_buildkit_reads_them() {
    for (text, expected) in [
        ("80", "80/tcp"),
        ("80/udp", "80/udp"),
        ("80/TCP", "80/tcp"),
        ("80/", "80/tcp"),
        ("8000-8002", "8000/tcp 8001/tcp 8002/tcp"),
        ("8000-8001/sctp", "8000/sctp 8001/sctp"),
        ("8080:80", "80/tcp"),
        ("127.0.0.1:8080:80", "80/tcp"),
        ("[::1]:8080:80", "80/tcp"),
        ("::1:8080:80", "80/tcp"),
        ("8000-8001:80", "80/tcp"),
        ("0", "0/tcp"),
        ("", "invalid port: \"\": no port specified"),
        ("/tcp", "invalid port: \"/tcp\": no port specified"),
        ("80/foo", "invalid port: \"80/foo\": invalid proto: foo"),
        ("x", "invalid containerPort: x"),
        ("65536", "invalid containerPort: 65536"),
        ("90-80", "invalid containerPort: 90-80"),
        ("x:80", "invalid hostPort: x"),
        ("1.2.3:1:2", "invalid IP address: 1.2.3"),
        (
            "1-2:1-3",
            "invalid ranges specified for container and host Ports: 1-3 and 1-2",
        ),
    ] {
        let shown = match PortSpec::parse(text) {
            Ok(spec) => spec.exposed().collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expected, "{text:?}");
    }
}

#[test]
fn an_escape_character_that_ends_an_instruction_is_printed_so_that_it_does() {
    for text in [
        "FROM x\nARG a=b\\\u{c}\nARG c=d\n",
        "FROM x\nARG a=b\\\n\\",
        "FROM x\nRUN a \\\u{b}\nRUN b\n",
    ] {
        check_print(&read(text));
    }
}

#[test]
fn printing_is_stable_over_the_tables() {
    for (text, _) in FORMS {
        let is_from = text.trim_start().to_uppercase().starts_with("FROM");
        let file = if is_from {
            read(text)
        } else {
            read(&format!("# escape=\\\n# c\nFROM x\n{text}"))
        };
        check_print(&file);
    }
}

fn check_print(file: &Dockerfile) {
    let printed = file.print();
    let again = parse(printed.as_bytes(), "Dockerfile");
    let again = again.unwrap_or_else(|error| panic!("{printed:?}: {error}"));
    assert_eq!(again.print(), printed);
    let shown = |file: &Dockerfile| file.instructions.iter().map(show).collect::<Vec<_>>();
    if !file
        .instructions
        .iter()
        .any(|one| matches!(one.kind, InstructionKind::Onbuild(_)))
    {
        assert_eq!(shown(&again), shown(file), "{printed:?}");
    }
}

/// Found by fuzzing: lines that are not UTF-8, and references to stages that there are not, were each
/// reported, however many.
#[test]
fn a_report_is_bounded_whatever_is_wrong() {
    let text: fn(&str) -> Vec<u8> = |line| format!("FROM a\n{}", line.repeat(1000)).into_bytes();
    for bytes in [
        b"\xff\n".repeat(1000),
        text("COPY --from=7 a b\n"),
        text("RUN --nope a\n"),
        text("RUM a\nRUN b\n"),
        text("ENV \n"),
    ] {
        let error = parse(&bytes, "Dockerfile").unwrap_err();
        assert_eq!(
            error.diagnostics.len(),
            20,
            "{}",
            error.diagnostics[0].message
        );
    }
}

/// Nothing is timed: where something takes more than linear time, this takes minutes. The example
/// `dockerfile_shapes` measures.
#[test]
fn files_that_are_heavy_in_one_thing_are_read_linted_and_described() {
    let known = BTreeMap::new();
    for (name, make) in SHAPES {
        let text = make(32 * 1024);
        let file = match parse(text.as_bytes(), "Dockerfile") {
            Ok(file) => file,
            Err(error) => {
                assert!(error.diagnostics.len() <= 20, "{name}");
                let shown = error.render(Style::Plain);
                assert!(shown.len() < 64 * 1024, "{name}: {}", shown.len());
                continue;
            }
        };
        let printed = file.print();
        let again = parse(printed.as_bytes(), "Dockerfile").unwrap();
        assert!(again.print() == printed, "{name}");
        let result = lint::lint(&lint::LintInput {
            dockerfile: &file,
            options: lint::LintOptions::default(),
            defaults: &known,
            build_args: &known,
            ignore: None,
            stages: None,
            base: &|_, _| None,
        });
        let report = lint::LintReport::new(&file.source, &result);
        assert!(
            serde_json::to_vec(&report).unwrap().len() < 64 << 20,
            "{name}"
        );
        let _ = lint::outline(&lint::OutlineInput {
            dockerfile: &file,
            target: file.stages().len() - 1,
            defaults: &known,
            build_args: &known,
            base: &|_, _| None,
        });
    }
}

fn lines() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        "(RUN|COPY|ADD|ENV|LABEL|ARG|CMD|FROM|ONBUILD|HEALTHCHECK|VOLUME|USER|x)( --[a-z]{1,5}(=[a-z\"',=]{0,8})?)?( [a-z$\\{\\}\\[\\]\"'<#=\\\\ ]{0,12}){0,3}",
        "# ?(escape|syntax|check)=[`\\\\a]",
        "#[ a-z=]{0,6}",
        "(RUN|COPY) <<-?[\"']?[A-C][\"']? [a-z]",
        "[ \t]*[A-C]?[ \t\\\\]{0,3}",
        "\\PC{0,10}",
    ];
    prop::collection::vec(line, 0..12).prop_map(|lines| format!("FROM a\n{}", lines.join("\n")))
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Err(error) = parse(&bytes, "Dockerfile") {
            prop_assert!(!error.diagnostics.is_empty());
            let _ = error.render(Style::Plain);
        }
    }

    #[test]
    fn printing_what_was_read_is_stable(text in lines()) {
        match parse(text.as_bytes(), "Dockerfile") {
            Ok(file) => check_print(&file),
            Err(error) => { let _ = error.render(Style::Plain); }
        }
    }
}
