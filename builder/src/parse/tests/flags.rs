//! Instruction × flag: which takes which, and in which spelling. Each row names what it comes from:
//! `anchor: sentence in short` is Docker's reference, `parser` what BuildKit's parser does where the
//! reference is silent.

use super::{parse, refuse};

/// Each instruction with arguments that are right for it.
const INSTRUCTIONS: [(&str, &str); 18] = [
    ("ADD", "a b"),
    ("ARG", "a=1"),
    ("CMD", "a"),
    ("COPY", "a b"),
    ("ENTRYPOINT", "a"),
    ("ENV", "a=1"),
    ("EXPOSE", "80"),
    ("FROM", "a"),
    ("HEALTHCHECK", "CMD a"),
    ("LABEL", "a=1"),
    ("MAINTAINER", "a"),
    ("ONBUILD", "RUN a"),
    ("RUN", "a"),
    ("SHELL", "[\"a\"]"),
    ("STOPSIGNAL", "9"),
    ("USER", "a"),
    ("VOLUME", "/a"),
    ("WORKDIR", "/a"),
];

/// Flag, a value that is right for it (none: it is a switch), the instructions that take it, source.
type Row = (
    &'static str,
    Option<&'static str>,
    &'static [&'static str],
    &'static str,
);

#[rustfmt::skip]
const FLAGS: &[Row] = &[
    ("from", Some("x"), &["COPY"], "copy---from: files of an image, a stage or a named context"),
    ("chmod", Some("755"), &["ADD", "COPY"], "copy---chmod: octal or symbolic; add---chmod: see COPY"),
    ("chown", Some("1:2"), &["ADD", "COPY"], "copy---chown: names or numbers; add---chown: see COPY"),
    ("link", None, &["ADD", "COPY"], "copy---link: in COPY and ADD; a boolean may follow"),
    ("parents", None, &["COPY"], "copy: table of options"),
    ("exclude", Some("*.md"), &["ADD", "COPY"], "copy---exclude: a pattern; add---exclude: see COPY"),
    ("checksum", Some("sha256:00"), &["ADD"], "add: table of options"),
    ("keep-git-dir", None, &["ADD"], "add: table of options"),
    ("unpack", None, &["ADD"], "add: table of options"),
    ("platform", Some("linux/amd64"), &["FROM"], "from: may be given for images of several platforms"),
    ("mount", Some("type=tmpfs,target=/t"), &["RUN"], "run: table of options"),
    ("network", Some("none"), &["RUN"], "run: table of options"),
    ("security", Some("sandbox"), &["RUN"], "run: table of options"),
    ("device", Some("x"), &[], "run---device: only in the labs channel, which this is not"),
    ("interval", Some("1s"), &["HEALTHCHECK"], "healthcheck: options before CMD"),
    ("timeout", Some("1s"), &["HEALTHCHECK"], "healthcheck: options before CMD"),
    ("start-period", Some("1s"), &["HEALTHCHECK"], "healthcheck: options before CMD"),
    ("start-interval", Some("1s"), &["HEALTHCHECK"], "healthcheck: options before CMD"),
    ("retries", Some("3"), &["HEALTHCHECK"], "healthcheck: options before CMD"),
    ("nonsense", None, &[], "parser: unknown flags are refused"),
    ("nonsense", Some("x"), &[], "parser: unknown flags are refused"),
];

/// BuildKit's parser never looks at flags here.
const DEAF: [&str; 2] = ["ARG", "STOPSIGNAL"];

fn file(instruction: &str, flags: &str, arguments: &str) -> String {
    let first = if instruction == "FROM" {
        ""
    } else {
        "FROM b\n"
    };
    format!("{first}{instruction} {flags} {arguments}\n")
}

#[test]
fn every_instruction_takes_its_flags_and_no_others() {
    for (instruction, arguments) in INSTRUCTIONS {
        for (flag, value, takers, source) in FLAGS {
            let written = match value {
                Some(value) => format!("--{flag}={value}"),
                None => format!("--{flag}"),
            };
            let text = file(instruction, &written, arguments);
            let said = parse(text.as_bytes(), "Dockerfile").map_err(|error| error.to_string());
            if takers.contains(&instruction) || DEAF.contains(&instruction) {
                assert!(said.is_ok(), "{text:?} ({source}): {said:?}");
                continue;
            }
            let line = text.lines().count();
            let column = instruction.len() + 2;
            let expected = format!("Dockerfile:{line}:{column}: unknown flag: --{flag}");
            let said = said.expect_err(&text);
            assert!(said.starts_with(&expected), "{text:?} ({source}): {said}");
        }
    }
}

#[test]
fn a_flag_is_known_by_the_instruction_that_takes_it() {
    for (flag, value, takers, source) in FLAGS {
        for taker in *takers {
            let arguments = INSTRUCTIONS.iter().find(|(name, _)| name == taker);
            let arguments = arguments.map(|(_, arguments)| *arguments).unwrap();
            let place = format!("{}:{}", 1 + usize::from(*taker != "FROM"), taker.len() + 2);
            let message = |flags: &str| {
                parse(file(taker, flags, arguments).as_bytes(), "D").map_err(|e| e.to_string())
            };
            let twice = |flag: &str| message(&format!("{flag} {flag}"));
            let shown = format!("--{flag} of {taker} ({source})");
            match value {
                Some(value) => {
                    // Without a value; with one in either kind of quotes; twice.
                    let missing = format!("D:{place}: missing a value on flag: --{flag}");
                    assert_eq!(message(&format!("--{flag}")).unwrap_err(), missing);
                    assert!(message(&format!("--{flag}=\"{value}\"")).is_ok(), "{shown}");
                    assert!(message(&format!("--{flag}='{value}'")).is_ok(), "{shown}");
                    let twice = twice(&format!("--{flag}={value}"));
                    if ["exclude", "mount"].contains(flag) {
                        assert!(twice.is_ok(), "{shown}: {twice:?}");
                    } else {
                        let said = twice.expect_err(&shown);
                        assert!(said.contains("duplicate flag specified"), "{shown}: {said}");
                    }
                }
                None => {
                    for good in ["", "=true", "=false", "=TRUE", "=False"] {
                        assert!(
                            message(&format!("--{flag}{good}")).is_ok(),
                            "{shown} {good}"
                        );
                    }
                    for bad in ["1", "0", "yes", "t", "$x"] {
                        let said = message(&format!("--{flag}={bad}")).expect_err(&shown);
                        let expected =
                            format!("expecting boolean value for flag --{flag}, not: {bad}");
                        assert!(said.contains(&expected), "{shown}: {said}");
                    }
                    let said = message(&format!("--{flag}=")).expect_err(&shown);
                    assert!(said.contains("missing a value"), "{shown}: {said}");
                    let said = twice(&format!("--{flag}")).expect_err(&shown);
                    assert!(said.contains("duplicate flag specified"), "{shown}: {said}");
                }
            }
        }
    }
}

/// What stands where flags do (after `FROM b`), and what is read or said; source.
#[rustfmt::skip]
const SPELLINGS: &[(&str, Result<(), &str>, &str)] = &[
    ("COPY -- --link b", Ok(()), "parser: a lone -- ends the flags"),
    ("COPY --link -- --from b", Ok(()), "parser: a lone -- ends the flags"),
    ("COPY a --link b", Ok(()), "parser: flags stand before the first argument only"),
    ("COPY \"--link\" b", Ok(()), "parser: what begins with a quote is no flag"),
    ("COPY \\--link b", Ok(()), "parser: what begins with an escape is no flag"),
    ("COPY -f b", Ok(()), "parser: one dash makes no flag"),
    ("COPY --li\"nk\" a b", Ok(()), "parser: quotes vanish in a flag"),
    ("COPY --li\\nk a b", Ok(()), "parser: escapes vanish in a flag"),
    ("COPY --\"link\" a b", Ok(()), "parser: quotes vanish in a flag"),
    ("COPY --chown=\"a b\" a b", Ok(()), "parser: a quoted value may hold blanks"),
    ("COPY --chown= a b", Ok(()), "parser: an empty text is as if it was not given"),
    ("COPY --chown=$x --chmod=${y:-7} a b", Ok(()), "environment-replacement: flags of ADD and COPY"),
    ("COPY --exclude= a b", Ok(()), "parser: an empty text is a text"),
    ("COPY \\\n  --link \\\n  a b", Ok(()), "format: lines may be continued"),
    ("RUN --network=none", Ok(()), "parser: a RUN may be empty"),
    ("RUN -- --network=none", Ok(()), "parser: a lone -- ends the flags"),
    ("HEALTHCHECK --nonsense NONE", Ok(()), "parser: NONE is not asked for flags"),
    ("ARG --x a", Ok(()), "parser: ARG is not asked for flags"),
    ("STOPSIGNAL --x 9", Ok(()), "parser: STOPSIGNAL is not asked for flags"),
    ("COPY --LINK a b", Err("2:6: unknown flag: --LINK"), "parser: flags are in small letters"),
    ("COPY --=x a b", Err("2:6: unknown flag: --"), "parser: a flag has a name"),
    ("COPY --link --link=false a b", Err("2:13: duplicate flag specified: --link"), "parser: once each"),
    ("COPY --chown=\"a b", Err("2:1: COPY requires at least two arguments, but only one was provided. Destination could not be determined"), "parser: a quote that is not closed takes all the rest"),
    ("RUN --network= a", Err("2:15: invalid network mode \"\""), "run---network: default, none or host"),
    ("RUN --network=$x a", Err("2:15: invalid network mode \"$x\""), "run---network: default, none or host; not expanded"),
    ("RUN --network=NONE a", Err("2:15: invalid network mode \"NONE\""), "run---network: default, none or host"),
    ("RUN --network=hsot a", Err("2:15: invalid network mode \"hsot\" (did you mean `host`?)"), "run---network: default, none or host"),
    ("RUN --security= a", Err("2:16: security \"\" is not valid"), "run---security: insecure or sandbox"),
    ("RUN --security=none a", Err("2:16: security \"none\" is not valid"), "run---security: insecure or sandbox"),
    ("RUN --mount= a", Err("2:13: failed to parse csv mounts: EOF"), "run---mount: options are given"),
    ("HEALTHCHECK --nonsense CMD a", Err("2:13: unknown flag: --nonsense"), "healthcheck: options before CMD"),
    ("HEALTHCHECK CMD --interval=1s", Ok(()), "healthcheck: what follows CMD is the command"),
];

#[test]
fn flags_are_spelt_in_these_ways() {
    for (text, expected, source) in SPELLINGS {
        let whole = format!("FROM b\n{text}\n");
        match expected {
            Ok(()) => {
                let read = parse(whole.as_bytes(), "Dockerfile");
                assert!(read.is_ok(), "{text:?} ({source}): {}", read.unwrap_err());
            }
            Err(expected) => {
                let error = refuse(&whole);
                let said = error.to_string().replace("Dockerfile:", "");
                assert!(said.starts_with(expected), "{text:?} ({source}): {said}");
            }
        }
    }
}
