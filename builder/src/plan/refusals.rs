//! What is refused when a build is planned, and what is taken though it looks odd. Sources: as `anchor:
//! sentence in short` Docker's reference, as `plan` what BuildKit does where that is silent.

use std::collections::BTreeMap;

use super::plan;
use crate::parse::parse;
use crate::{BuildRequest, Error, InputFile};

/// Plans a file, images not being looked for; gives `line:column: message (hint)` of each mistake.
fn planned(text: &str, change: impl FnOnce(&mut BuildRequest)) -> Result<(), String> {
    let bytes = text.as_bytes().to_vec();
    let mut request = BuildRequest::new(InputFile {
        name: "D".into(),
        bytes: bytes.clone(),
    });
    change(&mut request);
    let file = parse(&bytes, "D").map_err(|error| error.to_string())?;
    match plan(&file, &request, &|_, _, _| Ok(None)) {
        Ok(_) => Ok(()),
        Err(Error::Dockerfile(error)) => {
            let each =
                |one: &crate::parse::Diagnostic| one.summary(&error.source).replace("D:", "");
            Err(error
                .diagnostics
                .iter()
                .map(each)
                .collect::<Vec<_>>()
                .join(" ; "))
        }
        Err(other) => Err(other.to_string()),
    }
}

const DIGITS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// An instruction (after `FROM scratch`), what is said, source. `%` stands for 64 digits.
#[rustfmt::skip]
const REFUSED: &[(&str, &str, &str)] = &[
    ("STOPSIGNAL 0", "2:12: invalid signal: 0", "stopsignal: a number of the kernel's table or a name"),
    ("STOPSIGNAL SIGTRM", "2:12: invalid signal: SIGTRM (did you mean `SIGTERM`?)", "stopsignal: SIG and a name"),
    ("STOPSIGNAL kil", "2:12: invalid signal: kil (did you mean `KILL`?)", "stopsignal: SIG and a name"),
    ("STOPSIGNAL SIGSIGTERM", "2:12: invalid signal: SIGSIGTERM", "stopsignal: SIG and a name"),
    ("STOPSIGNAL RTMIN+0", "2:12: invalid signal: RTMIN+0 (did you mean `RTMIN`?)", "plan: one spelling each"),
    ("STOPSIGNAL RTMIN+16", "2:12: invalid signal: RTMIN+16", "plan: one spelling each"),
    ("STOPSIGNAL RTMIN+03", "2:12: invalid signal: RTMIN+03", "plan: one spelling each"),
    ("STOPSIGNAL RTMAX-15", "2:12: invalid signal: RTMAX-15", "plan: one spelling each"),
    ("STOPSIGNAL 1.5", "2:12: invalid signal: 1.5", "stopsignal: a number or a name"),
    ("STOPSIGNAL 99999999999999999999", "2:12: invalid signal: 99999999999999999999", "plan: 64 bits"),
    ("STOPSIGNAL $none", "2:12: invalid signal: ", "environment-replacement: STOPSIGNAL"),
    ("EXPOSE x", "2:8: invalid containerPort: x", "expose: a port, and a protocol or not"),
    ("EXPOSE 65536", "2:8: invalid containerPort: 65536", "expose: a port"),
    ("EXPOSE -80", "2:8: invalid containerPort: -80", "expose: a port"),
    ("EXPOSE 80-", "2:8: invalid containerPort: 80-", "plan: a range has two ends"),
    ("EXPOSE 90-80", "2:8: invalid containerPort: 90-80", "plan: a range goes up"),
    ("EXPOSE 80/icmp", "2:8: invalid port: \"80/icmp\": invalid proto: icmp (did you mean `tcp`?)", "expose: tcp or udp"),
    ("EXPOSE /tcp", "2:8: invalid port: \"/tcp\": no port specified", "expose: a port"),
    ("EXPOSE 80,90", "2:8: invalid containerPort: 80,90", "expose: words"),
    ("EXPOSE [\"80\"]", "2:8: invalid containerPort: [80]", "expose: words, no array"),
    ("EXPOSE ${none:?port}", "2:8: none: port", "environment-replacement: EXPOSE"),
    ("VOLUME $none", "2:8: VOLUME specified can not be an empty string", "volume: a path"),
    ("VOLUME /a \"\"", "2:11: VOLUME specified can not be an empty string", "volume: a path"),
    ("WORKDIR ${none?}", "2:9: none: is not allowed to be unset", "environment-replacement: ${variable:?word}"),
    ("USER \"", "2:6: unexpected end of statement while looking for matching double-quote", "environment-replacement: USER"),
    ("ENV a=${none", "2:7: syntax error: missing '}'", "environment-replacement: ENV"),
    ("LABEL a=${none^^}", "2:9: unsupported modifier (^) in substitution", "environment-replacement: the modifiers that there are"),
    ("ARG a=${none:?must}", "2:7: none: must", "environment-replacement: ARG defaults are expanded"),
    ("ARG a=\"", "2:7: unexpected end of statement while looking for matching double-quote", "plan: quotes are closed"),
    ("COPY --chmod=9 a /", "2:14: invalid chmod parameter: '9'. it should be octal string and between 0 and 07777", "copy---chmod: octal"),
    ("COPY --chmod=17777 a /", "2:14: invalid chmod parameter: '17777'. it should be octal string and between 0 and 07777", "copy---chmod: octal"),
    ("COPY --chmod=0o755 a /", "2:14: invalid chmod parameter: '0o755'. it should be octal string and between 0 and 07777", "copy---chmod: octal"),
    ("COPY --chmod=0755,u+x a /", "2:14: invalid chmod parameter: '0755,u+x'. it should be octal string and between 0 and 07777", "copy---chmod: one or the other"),
    ("COPY --chmod=rwx a /", "2:14: invalid chmod parameter: 'rwx'", "copy---chmod: as chmod takes it"),
    ("COPY --chmod=u+x, a /", "2:14: invalid chmod parameter: 'u+x,'", "copy---chmod: as chmod takes it"),
    ("COPY --chmod=+755 a /", "2:14: invalid chmod parameter: '+755'", "copy---chmod: as chmod takes it"),
    ("COPY --chown=4294967295 a /", "2:6: invalid user \"4294967295\": there is nothing in the image yet to look it up in (give a number, or first copy an /etc/passwd and /etc/group)", "plan: beyond 31 bits it is a name"),
    ("COPY --chown=0:staff a /", "2:6: invalid user \"staff\": there is nothing in the image yet to look it up in (give a number, or first copy an /etc/passwd and /etc/group)", "copy---chown: names are looked up in the image"),
    ("USER me
WORKDIR /w", "3:1: invalid user \"me\": there is nothing in the image yet to look it up in (give a number, or first copy an /etc/passwd and /etc/group)", "plan: WORKDIR belongs to the user"),
    ("COPY https://x.example/a /", "2:6: source can't be a URL for COPY (ADD takes addresses)", "add-source: addresses are for ADD"),
    ("COPY https://x.example/a.git /", "2:6: source can't be a git ref for COPY (ADD takes addresses)", "add-source: repositories are for ADD"),
    ("COPY git@x.example:a/b /", "2:6: source can't be a git ref for COPY (ADD takes addresses)", "add-source: repositories are for ADD"),
    ("COPY <<a/b /x/\nc\na/b", "2:6: \"a/b\" cannot be the name of a file (the word after << is the name; put folders into the destination)", "here-documents: the delimiter is the file's name"),
    ("COPY <<. /x/\nc\n.", "2:6: \".\" cannot be the name of a file (the word after << is the name; put folders into the destination)", "here-documents: the delimiter is the file's name"),
    ("COPY <<E /x\n${none?}\nE", "2:6: none: is not allowed to be unset", "here-documents: variables in them are expanded"),
    ("ADD --checksum=sha256:00 https://x.example/a /", "2:16: invalid checksum digest length", "add---checksum: a digest"),
    ("ADD --checksum=md5:00 https://x.example/a /", "2:16: unsupported digest algorithm", "add---checksum: a digest"),
    ("ADD --checksum=% https://x.example/a /", "2:16: invalid checksum digest format", "add---checksum: algorithm and digits"),
    ("ADD --checksum=sha256:% a /", "2:16: checksum requires HTTP(S) or Git sources", "add---checksum: of remote sources"),
    ("ADD --checksum=sha256:% a b /", "2:16: checksum can't be specified for multiple sources (write an ADD for each source)", "plan: of one source"),
    ("ADD --checksum=sha256:% <<E /\nE", "2:16: checksum can't be specified for multiple sources (write an ADD for each source)", "plan: of one source, which is no here-document"),
    ("RUN --network=host x", "2:5: network.host is not allowed (allow it with --allow network.host)", "run---networkhost: needs the entitlement"),
    ("RUN --security=insecure x", "2:5: security.insecure is not allowed (allow it with --allow security.insecure)", "run---security: needs the entitlement"),
    ("RUN []", "2:1: RUN requires a command", "plan: something is run"),
    ("RUN --mount=type=bind x", "2:13: invalid mount target \"/\"", "run---mounttypebind: mount path; plan: else the working directory"),
    ("RUN --mount=type=cache,target=/ x", "2:13: invalid mount target \"/\"", "run---mounttypecache: mount path"),
    ("RUN --mount=type=tmpfs,target=.. x", "2:13: invalid mount target \"/\"", "run---mounttypetmpfs: mount path"),
    ("RUN --mount=type=secret,id=s,target=/ x", "2:13: invalid mount target \"/\"", "run---mounttypesecret: path of a file"),
    ("RUN --mount=type=ssh,target=/ x", "2:13: invalid mount target \"/\"", "run---mounttypessh: path of a socket"),
    ("RUN --mount=type=ssh,source=x x", "2:13: ssh does not support source", "run---mounttypessh: no such option"),
    ("RUN --mount=type=$x,target=/m x", "2:13: unsupported mount type \"\"", "run---mount: five types; values are expanded"),
    ("RUN --mount=from=0,target=/m x\nRUN --mount=from=Bad:Na:me,target=/m x", "3:13: invalid image reference \"Bad:Na:me\": the repository name must be lower case", "run---mounttypebind: stage, context or image"),
];

/// The same, all well.
#[rustfmt::skip]
const TAKEN: &[(&str, &str)] = &[
    ("STOPSIGNAL -1", "plan: any whole number but 0"),
    ("STOPSIGNAL +5", "plan: any whole number but 0"),
    ("STOPSIGNAL 9223372036854775807", "plan: 64 bits"),
    ("STOPSIGNAL term", "plan: with or without SIG, in any case"),
    ("STOPSIGNAL SIGRTMIN+15", "plan: real-time signals"),
    ("STOPSIGNAL RTMAX-14", "plan: real-time signals"),
    ("STOPSIGNAL ${x:-SIGTERM}", "environment-replacement: STOPSIGNAL"),
    ("EXPOSE 0 0080 +80 80-80 1-65535", "plan: Go's numbers"),
    ("EXPOSE 80/ 80/TCP 80/sctp", "plan: protocols in any case"),
    ("EXPOSE :80 8080:80 127.0.0.1::80 [::1]:8080:80", "plan: what Docker's -p takes"),
    ("EXPOSE $none", "plan: nothing is no port"),
    ("ENV P=\"80 90\"\nEXPOSE $P", "plan: words after expansion"),
    ("WORKDIR \"\"", "plan: stays where it is"),
    ("WORKDIR $none", "plan: stays where it is"),
    ("WORKDIR ../..", "plan: stops at the root"),
    ("USER $none", "plan: nobody in particular"),
    ("USER a:b:c", "plan: not looked at before a RUN"),
    ("ARG ${x:?y}", "plan: names are not expanded"),
    ("ARG \"x", "plan: names are not expanded"),
    ("ARG a=1 b=${a:?}", "plan: defaults see those before them"),
    ("ENV \"a b\"=c $x=1", "plan: any name will do"),
    ("VOLUME a . {}", "plan: any text but none"),
    ("COPY --chmod=00000000755 a /", "copy---chmod: octal"),
    ("COPY --chmod=$none a /", "copy---chmod: variables"),
    ("COPY --chmod=+ a /", "plan: as BSD's setmode takes it"),
    ("COPY --chmod=u=gx,o= a /", "plan: as BSD's setmode takes it"),
    ("COPY --chown=$none a /", "plan: as if it was not given"),
    ("COPY a /\nCOPY --chown=a:b:c a /", "plan: looked up when it runs"),
    ("COPY --chown=root:0 a /", "plan: root is 0 everywhere"),
    ("USER me\nWORKDIR /\nCOPY a /\nWORKDIR /w", "plan: / is there already"),
    ("COPY --exclude=$x a /", "plan: not expanded"),
    ("COPY <<../b /x/\nc\n../b", "plan: cleaned to b"),
    ("COPY HTTP://x.example/a http:/a git@a /", "plan: paths"),
    ("ADD --checksum= a /", "plan: as if it was not given"),
    ("ADD --checksum=$none a b /", "plan: as if it was not given"),
    ("ADD --checksum=sha256:% https://x.example/a /", "add---checksum: a digest"),
    ("ADD --checksum=sha256:% <<E https://x.example/a /\nE", "plan: here-documents do not count"),
    ("WORKDIR /w\nRUN --mount=type=bind x", "plan: the working directory is the target"),
    ("WORKDIR /w\nRUN --mount=type=cache,target= x", "plan: the working directory is the target"),
    ("RUN --mount=type=ssh --mount=type=secret,id=a/b x", "run---mounttypesecret: has a default"),
    ("RUN --mount=target=/m,from=x$ y", "parser: a dollar at the end is no variable"),
];

#[test]
fn what_buildkit_refuses_when_it_plans_is_refused() {
    for (instruction, expected, source) in REFUSED {
        let instruction = instruction.replace('%', DIGITS);
        let said = planned(&format!("FROM scratch\n{instruction}\n"), |_| ());
        assert_eq!(
            said,
            Err((*expected).to_owned()),
            "{instruction:?} ({source})"
        );
    }
}

#[test]
fn what_buildkit_takes_when_it_plans_is_taken() {
    for (instruction, source) in TAKEN {
        let instruction = instruction.replace('%', DIGITS);
        let text = format!("FROM scratch\n{instruction}\n");
        // The name that ends in a dollar is no image's; only the parser is asked.
        if source.starts_with("parser") {
            assert!(
                parse(text.as_bytes(), "D").is_ok(),
                "{instruction:?} ({source})"
            );
            continue;
        }
        assert_eq!(planned(&text, |_| ()), Ok(()), "{instruction:?} ({source})");
    }
}

/// What stands in a stage that is not needed is not looked at (multi-stage builds: such stages are skipped).
#[test]
fn mistakes_in_stages_that_nobody_needs_do_no_harm() {
    for (instruction, _, _) in REFUSED {
        let instruction = instruction.replace('%', DIGITS);
        // Names of stages and images are an exception: they decide what is needed.
        if instruction.contains("--from") || instruction.contains("from=") {
            continue;
        }
        let text = format!("FROM scratch\n{instruction}\nFROM scratch\nCOPY a /\n");
        assert_eq!(planned(&text, |_| ()), Ok(()), "{instruction:?}");
    }
}

/// A whole file, what is said (nothing: it is taken), source.
#[rustfmt::skip]
const FILES: &[(&str, &str, &str)] = &[
    // Bases, in every stage.
    ("FROM $x", "1:6: base name ($x) should not be blank", "from: an image; environment-replacement: FROM"),
    ("ARG BASE\nFROM $BSAE", "2:6: base name ($BSAE) should not be blank (did you mean `BASE`?)", "understand-how-arg-and-from-interact"),
    ("FROM $x AS a\nFROM scratch", "1:6: base name ($x) should not be blank", "plan: needed or not"),
    ("FROM ${x:?give} AS a\nFROM scratch", "1:6: x: give", "plan: needed or not"),
    ("ARG x=${y:?give}\nFROM scratch", "1:7: y: give", "arg: defaults may hold variables"),
    ("FROM UPPER AS a\nFROM scratch", "1:6: invalid image reference \"UPPER\": the repository name must be lower case", "from: an image; plan: needed or not"),
    ("FROM a:b:c AS x\nFROM scratch", "1:6: invalid image reference \"a:b:c\": the repository name has a character or a run of separators that is not allowed", "from: a tag or a digest"),
    ("FROM Scratch", "1:6: invalid image reference \"Scratch\": the repository name must be lower case", "plan: scratch is in small letters"),
    ("FROM scratch AS x\nCOPY --from=Bad:Na:me a /\nFROM scratch", "2:13: invalid image reference \"Bad:Na:me\": the repository name must be lower case", "copy---from: an image, stage or context; plan: needed or not"),
    ("FROM scratch AS base\nFROM scratch\nCOPY --from=Base/ a /", "3:13: invalid image reference \"Base/\": a part of the repository name is empty (did you mean `base`?)", "copy---from: an image, stage or context"),
    ("FROM \"scratch\"", "", "plan: quotes vanish"),
    // Platforms.
    ("FROM --platform=$x scratch", "1:17: empty platform value from expression $x", "from: a platform"),
    ("FROM --platform=$BUILDPLATFROM scratch", "1:17: empty platform value from expression $BUILDPLATFROM (did you mean `BUILDPLATFORM`?)", "automatic-platform-args-in-the-global-scope"),
    ("FROM --platform=foo scratch AS a\nFROM scratch", "1:17: invalid platform \"foo\": this is neither an operating system nor an architecture", "from: a platform; plan: needed or not"),
    ("FROM --platform=linux/adm64 scratch", "", "plan: any architecture"),
    ("FROM --platform=amd65 scratch", "1:17: invalid platform \"amd65\": this is neither an operating system nor an architecture (did you mean `amd64`?)", "from: a platform"),
    ("FROM --platform=linux/a/b/c scratch", "1:17: invalid platform \"linux/a/b/c\": expected os/architecture or os/architecture/variant", "from: a platform"),
    ("FROM --platform=a*b scratch", "1:17: invalid platform \"a*b\": expected os/architecture or os/architecture/variant", "from: a platform"),
    ("FROM --platform= scratch", "", "plan: as if it was not given"),
    ("FROM --platform=LINUX/AMD64 scratch", "", "plan: in any case"),
    ("FROM --platform=windows(10.0.1)/amd64 scratch", "", "plan: a version"),
    // Names of stages could be names of contexts.
    ("FROM scratch AS a-", "1:17: invalid name for build stage: \"a-\"", "from: a name; plan: as an image's"),
    ("FROM scratch AS a..b\nFROM scratch", "1:17: invalid name for build stage: \"a..b\"", "plan: needed or not"),
    ("FROM scratch AS a___b", "1:17: invalid name for build stage: \"a___b\"", "plan: as an image's"),
    ("FROM scratch AS a--b__c.d", "", "plan: as an image's"),
    ("FROM scratch AS scratch", "", "plan: lint says that this is reserved"),
    ("FROM scratch AS Context", "", "plan: lint says that this is reserved"),
    ("FROM scratch AS x\nFROM scratch AS x", "", "plan: lint says that this is one too many"),
    // Circles, in every stage.
    ("FROM scratch AS a\nCOPY --from=a x /", "2:13: circular dependency detected on stage: a", "copy---from: another stage"),
    ("FROM scratch\nCOPY --from=0 x /", "2:13: circular dependency detected on stage: stage-0", "copy---from: another stage"),
    ("FROM scratch\nCOPY --from=+0 x /", "2:13: circular dependency detected on stage: stage-0", "plan: Go's numbers"),
    ("FROM scratch AS a\nCOPY --from=A x /\nFROM scratch", "2:13: circular dependency detected on stage: a", "plan: in any case; needed or not"),
    ("FROM scratch AS a\nCOPY --from=b x /\nFROM scratch AS b\nCOPY --from=a x /\nFROM scratch", "2:13: circular dependency detected on stage: a", "plan: needed or not"),
    ("FROM scratch AS a\nRUN --mount=from=b,target=/m x\nFROM scratch AS b\nRUN --mount=from=a,target=/m x\nFROM scratch", "2:13: circular dependency detected on stage: a", "plan: through mounts too"),
    ("FROM scratch AS a\nRUN --mount=type=tmpfs,from=a,target=/m x", "2:24: circular dependency detected on stage: a", "plan: whatever the type"),
    ("FROM scratch AS a\nCOPY --from=b x /\nFROM scratch AS b\nCOPY --from=c x /\nFROM scratch AS c\nCOPY --from=a x /", "2:13: circular dependency detected on stage: a", "plan: of any length"),
    ("FROM scratch AS a\nFROM scratch AS a\nCOPY --from=a x /", "3:13: circular dependency detected on stage: a", "plan: the last of a name"),
    // What comes later cannot be used.
    ("FROM scratch AS a\nCOPY --from=b x /\nFROM scratch AS b\nFROM a", "2:13: cannot copy from stage \"b\", it needs to be defined before current stage \"a\"", "copy---from: an earlier stage"),
    ("FROM scratch AS a\nCOPY --from=1 x /\nFROM scratch AS b\nFROM a", "2:13: cannot copy from stage \"1\", it needs to be defined before current stage \"a\"", "copy---from: an earlier stage"),
    ("FROM scratch AS a\nRUN --mount=from=b,target=/m x\nFROM scratch AS b\nFROM a", "2:13: cannot mount from stage \"b\", it needs to be defined before current stage \"a\"", "run---mounttypebind: a stage"),
    ("FROM scratch AS a\nCOPY --from=b x /\nFROM scratch AS b", "", "plan: harmless where it is not needed"),
    ("FROM later\nFROM scratch AS later", "", "from: a name may be used below only; plan: an image of that name is"),
    // Several at once.
    ("FROM $x\nFROM --platform=foo Up AS a-", "1:6: base name ($x) should not be blank ; 2:17: invalid platform \"foo\": this is neither an operating system nor an architecture ; 2:21: invalid image reference \"Up\": the repository name must be lower case ; 2:27: invalid name for build stage: \"a-\"", "plan: all that is wrong"),
    // Triggers of a base, when they run.
    ("FROM scratch AS b\nONBUILD COPY a\nFROM b", "1:1: COPY requires at least two arguments, but only one was provided. Destination could not be determined", "onbuild: runs in the child"),
    ("FROM scratch AS b\nONBUILD NOPE a\nFROM b", "1:1: unknown instruction: NOPE (did you mean `COPY`?)", "onbuild: runs in the child"),
    ("FROM scratch AS b\nONBUILD EXPOSE x\nFROM b", "1:8: invalid containerPort: x", "onbuild: runs in the child"),
    ("FROM scratch AS b\nONBUILD COPY --from=c a /\nFROM b AS c", "1:13: cannot copy from stage \"c\", it needs to be defined before current stage \"c\"", "copy---from: another stage"),
    ("FROM scratch AS b\nONBUILD NOPE a\nFROM scratch", "", "onbuild: runs in the child"),
];

#[test]
fn rules_over_the_whole_file_hold() {
    for (text, expected, source) in FILES {
        let said = planned(text, |_| ()).err().unwrap_or_default();
        let said = said.replace("ONBUILD trigger of b:", "");
        assert_eq!(said, *expected, "{text:?} ({source})");
    }
}

#[test]
fn targets_are_stages() {
    let text = "FROM scratch AS one\nFROM scratch AS Two\nFROM scratch\n";
    for (target, expected) in [
        ("one", None),
        ("TWO", None),
        ("2", None),
        ("", None),
        (
            "tow",
            Some("2:17: target stage \"tow\" could not be found (did you mean `two`?)"),
        ),
        (
            "one ",
            Some("1:17: target stage \"one \" could not be found (did you mean `one`?)"),
        ),
        ("3", Some("target stage \"3\" could not be found")),
        ("-1", Some("target stage \"-1\" could not be found")),
        (
            "stage-0",
            Some("target stage \"stage-0\" could not be found"),
        ),
    ] {
        let said = planned(text, |request| request.target = Some(target.to_owned()));
        match expected {
            None => assert_eq!(said, Ok(()), "{target:?}"),
            Some(expected) => assert!(said.unwrap_err().contains(expected), "{target:?}"),
        }
    }
}

/// reference, §Predefined ARGs and §BuildKit built-in build args.
#[test]
fn build_arguments_are_looked_at() {
    let arguments = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    for (text, name, value, expected) in [
        ("FROM $a", "a", "scratch", ""),
        (
            "FROM $a",
            "a",
            "",
            "1:6: base name ($a) should not be blank",
        ),
        (
            "ARG a\nFROM $a",
            "a",
            "",
            "2:6: base name ($a) should not be blank",
        ),
        (
            "ARG a\nFROM $a",
            "a",
            "Up",
            "2:6: invalid image reference \"Up\": the repository name must be lower case",
        ),
        ("ARG a=${b:?}\nFROM scratch", "a", "1", ""),
        ("FROM scratch\nARG a=${b:?}", "a", "1", ""),
        (
            "FROM --platform=$BUILDPLATFORM scratch",
            "BUILDPLATFORM",
            "x",
            "1:17: invalid platform \"x\": this is neither an operating system nor an architecture",
        ),
        ("FROM scratch", "BUILDKIT_DOCKERFILE_CHECK", "skip=all", ""),
        (
            "FROM scratch",
            "BUILDKIT_DOCKERFILE_CHECK",
            "skp=all",
            "--build-arg BUILDKIT_DOCKERFILE_CHECK=skp=all: invalid check option \"skp\"",
        ),
        ("FROM scratch", "BUILDKIT_MULTI_PLATFORM", "true", ""),
        (
            "FROM scratch",
            "BUILDKIT_MULTI_PLATFORM",
            "maybe",
            "--build-arg BUILDKIT_MULTI_PLATFORM=maybe: expected true or false",
        ),
        ("FROM scratch", "BUILDKIT_DISABLE_FILEOP", "0", ""),
        (
            "FROM scratch",
            "BUILDKIT_DISABLE_FILEOP",
            "1",
            "--build-arg BUILDKIT_DISABLE_FILEOP=1: files were copied in another way once; that is gone",
        ),
    ] {
        // An argument that nothing declares is no variable of FROM.
        let declared = text.starts_with("ARG") || !text.contains("$a");
        let said = planned(text, |request| request.build_args = arguments(name, value));
        let said = said.err().unwrap_or_default();
        let expected = if declared {
            expected
        } else {
            "1:6: base name ($a) should not be blank"
        };
        assert_eq!(said, expected, "{text:?} {name}={value}");
    }
}

#[test]
fn ten_thousand_stages_are_looked_at_at_once() {
    let mut text = String::from("FROM scratch AS s0\n");
    for number in 1..10_000 {
        text.push_str(&format!(
            "FROM scratch AS s{number}\nCOPY --from=s{} a /\n",
            number - 1
        ));
    }
    assert_eq!(
        planned(&text, |request| request.target = Some("s1".into())),
        Ok(())
    );
    let closed = text.replacen(
        "FROM scratch AS s0\n",
        "FROM scratch AS s0\nCOPY --from=s9999 a /\n",
        1,
    );
    let said = planned(&closed, |_| ()).unwrap_err();
    assert!(
        said.starts_with("2:13: circular dependency"),
        "{}",
        said.len()
    );
}
