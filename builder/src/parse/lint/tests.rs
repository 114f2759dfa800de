//! Good and bad examples for each rule; the examples follow the pages of the rules.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::ignore::IgnoreRules;
use crate::parse::{SourceText, parse};

fn platform_args() -> BTreeMap<String, String> {
    crate::parse::PLATFORM_ARGS
        .iter()
        .map(|name| {
            let value = if name.ends_with("PLATFORM") {
                "linux/amd64"
            } else if name.ends_with("ARCH") {
                "amd64"
            } else {
                "linux"
            };
            ((*name).to_owned(), value.to_owned())
        })
        .collect()
}

fn base(name: &str, _: Option<&wythe_layers::spec::Platform>) -> Option<BaseImage> {
    match name {
        known if known == "known" || known.starts_with("known:") => Some(BaseImage {
            env: vec!["PATH=/bin".to_owned()],
            ..BaseImage::default()
        }),
        "shelled" => Some(BaseImage {
            has_shell: true,
            ..BaseImage::default()
        }),
        "triggered" => Some(BaseImage {
            env: vec!["PATH=/bin".to_owned(), "V=1".to_owned()],
            on_build: ["ARG A=$V", "ENV B $A", "SHELL [\"/s\"]", "WORKDIR w"]
                .map(Into::into)
                .to_vec(),
            ..BaseImage::default()
        }),
        "arm" => Some(BaseImage {
            platforms: Some(("linux/arm64".parse().ok()?, "linux/amd64".parse().ok()?)),
            ..BaseImage::default()
        }),
        _ => None,
    }
}

fn run(text: &str, ignore: Option<&str>, options: LintOptions) -> (SourceText, LintResult) {
    let dockerfile =
        parse(text.as_bytes(), "Dockerfile").unwrap_or_else(|error| panic!("{text:?}: {error}"));
    let ignore = ignore.map(|text| IgnoreRules::parse(text.as_bytes()).unwrap());
    let (defaults, build_args) = (platform_args(), BTreeMap::new());
    let result = lint(&LintInput {
        dockerfile: &dockerfile,
        options,
        defaults: &defaults,
        build_args: &build_args,
        ignore: ignore.as_ref(),
        stages: None,
        base: &base,
    });
    (dockerfile.source, result)
}

/// `line:rule` of each warning; the directive at the top of the text counts.
fn found(text: &str, ignore: Option<&str>) -> Vec<String> {
    let dockerfile = parse(text.as_bytes(), "Dockerfile").unwrap();
    let options = dockerfile
        .directives
        .check
        .map(|check| LintOptions::parse(&check.value).unwrap());
    let (source, result) = run(text, ignore, options.unwrap_or_default());
    assert!(result.error.is_none(), "{text:?}: {:?}", result.error);
    result
        .warnings
        .iter()
        .map(|warning| {
            format!(
                "{}:{}",
                source.position(warning.span.start).line,
                warning.rule.name
            )
        })
        .collect()
}

/// Text and warnings; `|` parts the warnings.
const CASES: &[(&str, &str)] = &[
    // StageNameCasing
    ("FROM known AS BuilderBase", "1:StageNameCasing"),
    ("FROM known AS builder-base", ""),
    // FromAsCasing
    ("FROM known as b", "1:FromAsCasing"),
    ("from known AS b", "1:FromAsCasing"),
    ("from known as b", ""),
    ("From known As b", "1:ConsistentInstructionCasing"),
    // NoEmptyContinuation
    ("FROM known\nRUN a \\\n\n  b", "3:NoEmptyContinuation"),
    ("FROM known\nRUN a \\\n# comment\n  b", ""),
    // ConsistentInstructionCasing
    ("FROM known\nrun a\nRUN b", "2:ConsistentInstructionCasing"),
    ("from known\nrun a\nRUN b", "3:ConsistentInstructionCasing"),
    ("FROM known\nRuN a", "2:ConsistentInstructionCasing"),
    ("arg A\nFROM known\nRUN b", ""),
    // DuplicateStageName
    ("FROM known AS a\nFROM known AS a", "2:DuplicateStageName"),
    ("FROM known AS a\nFROM known AS b", ""),
    // ReservedStageName
    ("FROM known AS scratch", "1:ReservedStageName"),
    ("FROM known AS context", "1:ReservedStageName"),
    ("FROM known AS contexts", ""),
    // JSONArgsRecommended
    ("FROM known\nCMD a b", "2:JSONArgsRecommended"),
    ("FROM known\nENTRYPOINT a b", "2:JSONArgsRecommended"),
    ("FROM known\nCMD [\"a\"]\nENTRYPOINT [\"b\"]", ""),
    ("FROM known\nSHELL [\"/bin/bash\", \"-c\"]\nCMD a b", ""),
    ("FROM shelled\nCMD a b", ""),
    ("FROM known AS a\nSHELL [\"x\"]\nFROM a\nCMD b", ""),
    // MaintainerDeprecated
    ("FROM known\nMAINTAINER a", "2:MaintainerDeprecated"),
    ("FROM known\nLABEL org.opencontainers.image.authors=a", ""),
    // UndefinedArgInFrom
    ("FROM known${X}", "1:UndefinedArgInFrom"),
    ("ARG X\nFROM known${X}", ""),
    ("ARG X=\nFROM known${X}", ""),
    (
        "FROM --platform=${PLAT:-linux/amd64} known AS amd64",
        "1:UndefinedArgInFrom",
    ),
    ("FROM known${TARGETVARIANT#linux}", ""),
    // WorkdirRelativePath
    ("FROM known\nWORKDIR a", "2:WorkdirRelativePath"),
    ("FROM known\nWORKDIR /a\nWORKDIR b", ""),
    ("FROM known\nWORKDIR a\nWORKDIR b", "2:WorkdirRelativePath"),
    ("FROM known AS a\nWORKDIR /x\nFROM a\nWORKDIR y", ""),
    // UndefinedVar
    ("FROM known\nCOPY $x /y", "2:UndefinedVar"),
    ("FROM known\nARG x\nCOPY $x /y", ""),
    ("FROM known\nENV x=a\nCOPY $x /y", ""),
    ("FROM known\nENV P=$PATH:/a", ""),
    ("FROM scratch\nENV P=$PATH:/a", ""),
    ("FROM scratch\nENV P=$x:/a", "2:UndefinedVar"),
    ("FROM unknown\nENV P=$PATH:/a", ""),
    ("ARG x=1\nFROM known\nCOPY $x /y", "3:UndefinedVar"),
    ("FROM known AS a\nARG x\nFROM a\nCOPY $x /y", ""),
    ("FROM known\nRUN echo $x", ""),
    (
        "FROM known\nRUN --mount=type=cache,target=$x y",
        "2:UndefinedVar",
    ),
    ("FROM known\nENV a=1 b=$a", "2:UndefinedVar"),
    ("FROM known\nCOPY <<E /x\n$y\nE", "2:UndefinedVar"),
    ("FROM known\nCOPY <<\"E\" /x\n$y\nE", ""),
    // MultipleInstructionsDisallowed
    (
        "FROM known\nCMD [\"a\"]\nCMD [\"b\"]",
        "2:MultipleInstructionsDisallowed",
    ),
    (
        "FROM known\nENTRYPOINT [\"a\"]\nENTRYPOINT [\"b\"]",
        "2:MultipleInstructionsDisallowed",
    ),
    (
        "FROM known\nHEALTHCHECK NONE\nHEALTHCHECK CMD a",
        "2:MultipleInstructionsDisallowed",
    ),
    ("FROM known AS a\nCMD [\"a\"]\nFROM a\nCMD [\"b\"]", ""),
    // LegacyKeyValueFormat
    ("FROM known\nENV a b", "2:LegacyKeyValueFormat"),
    ("FROM known\nLABEL a b", "2:LegacyKeyValueFormat"),
    ("FROM known\nENV a=b\nLABEL a=b", ""),
    // InvalidBaseImagePlatform
    ("FROM arm", "1:InvalidBaseImagePlatform"),
    // RedundantTargetPlatform
    (
        "FROM --platform=$TARGETPLATFORM known",
        "1:RedundantTargetPlatform",
    ),
    (
        "FROM --platform=${TARGETPLATFORM} known",
        "1:RedundantTargetPlatform",
    ),
    ("FROM --platform=$BUILDPLATFORM known", ""),
    // SecretsUsedInArgOrEnv
    ("FROM known\nENV password=a", "2:SecretsUsedInArgOrEnv"),
    (
        "FROM known\nARG AWS_SECRET_ACCESS_KEY",
        "2:SecretsUsedInArgOrEnv",
    ),
    ("FROM known\nENV GIT_TOKEN=", "2:SecretsUsedInArgOrEnv"),
    (
        "FROM known\nENV a=1 apikey=2 auth=3",
        "2:SecretsUsedInArgOrEnv|2:SecretsUsedInArgOrEnv",
    ),
    (
        "FROM known\nARG PUBLIC_KEY\nARG TOKEN_FILE\nARG KEY_VERSION\nARG monkey\nARG SECRETARY",
        "",
    ),
    // InvalidDefaultArgInFrom
    ("ARG TAG\nFROM known:${TAG}", "2:InvalidDefaultArgInFrom"),
    ("ARG TAG=latest\nFROM known:${TAG}", ""),
    ("ARG TAG\nFROM known:${TAG:-latest}", ""),
    // FromPlatformFlagConstDisallowed
    (
        "FROM --platform=linux/amd64 known",
        "1:FromPlatformFlagConstDisallowed",
    ),
    ("FROM --platform=linux/amd64 known AS build-amd64", ""),
    ("FROM --platform=linux/arm64 known AS linux-build", ""),
    // InvalidDefinitionDescription
    (
        "# check=experimental=InvalidDefinitionDescription\n# bar this\nARG foo=1\nFROM known",
        "3:InvalidDefinitionDescription",
    ),
    (
        "# check=experimental=all\n# bad\nFROM known AS b",
        "3:InvalidDefinitionDescription",
    ),
    (
        "# check=experimental=all\n# foo this\nARG foo=1\nFROM known",
        "",
    ),
    (
        "# check=experimental=all\n# bad\n#\nARG foo=1\nFROM known",
        "",
    ),
    ("# a comment\n# bad\nARG foo=1\nFROM known", ""),
    // ExposeProtoCasing
    ("FROM known\nEXPOSE 80/TcP", "2:ExposeProtoCasing"),
    ("FROM known\nEXPOSE 80/tcp", ""),
    // ExposeInvalidFormat
    (
        "FROM known\nEXPOSE 127.0.0.1:80:80",
        "2:ExposeInvalidFormat",
    ),
    ("FROM known\nEXPOSE 8080:80", "2:ExposeInvalidFormat"),
    ("FROM known\nEXPOSE 80 443/udp", ""),
    // What switches rules off.
    ("# check=skip=StageNameCasing\nFROM known AS B", ""),
    (
        "# check=skip=StageNameCasing,FromAsCasing\nFROM known as B",
        "",
    ),
    ("# check=skip=all\nFROM known as B\nMAINTAINER x", ""),
    (
        "# check=skip=FromAsCasing\nFROM known as B",
        "2:StageNameCasing",
    ),
    (
        "FROM known\n# check=skip=SecretsUsedInArgOrEnv\nENV password=a\nENV token=b",
        "4:SecretsUsedInArgOrEnv",
    ),
    (
        "FROM known\n# check=skip=all // because\nENV password=a",
        "",
    ),
];

#[test]
fn each_rule_speaks_on_bad_and_is_silent_on_good_examples() {
    for (text, expected) in CASES {
        assert_eq!(found(text, None).join("|"), *expected, "{text:?}");
    }
}

/// What lay beside each of the rows.
const IGNORED: &str = "ignored.txt\ndir/*.md\ndir/sub\n";

#[test]
fn warnings_are_those_that_buildkit_gives() {
    let mut different = Vec::new();
    for (text, expected) in super::rows::ROWS {
        let dockerfile = parse(text.as_bytes(), "Dockerfile").unwrap();
        let check = dockerfile.directives.check;
        let options = check.map(|check| LintOptions::parse(&check.value).unwrap());
        let (source, result) = run(text, Some(IGNORED), options.unwrap_or_default());
        let mut said: Vec<(usize, &str)> = result
            .warnings
            .iter()
            .map(|one| (source.position(one.span.start).line, one.rule.name))
            .collect();
        said.sort_unstable();
        let said: Vec<String> = said
            .iter()
            .map(|(line, rule)| format!("{line}:{rule}"))
            .collect();
        if said.join("|") != *expected {
            different.push(format!("{text:?}\n  {said:?}\n  {expected}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn each_rule_has_a_bad_example() {
    let mut spoken: BTreeSet<String> = CASES
        .iter()
        .flat_map(|(text, _)| found(text, None))
        .collect();
    spoken.extend(found("FROM known\nCOPY a b", Some("a")));
    for rule in &RULES {
        assert!(
            spoken
                .iter()
                .any(|one| one.ends_with(&format!(":{}", rule.name))),
            "{}",
            rule.name
        );
    }
}

#[test]
fn each_rule_has_its_section_in_the_docs() {
    let page = include_str!("../../../../docs/lint-rules.md");
    for rule in &RULES {
        assert!(
            page.contains(&format!("\n## {}\n", rule.name)),
            "{}",
            rule.name
        );
    }
}

#[test]
fn ignored_sources_are_noticed() {
    for (rules, text, expected) in [
        ("a", "COPY a /x", "2:CopyIgnoredFile"),
        ("a", "ADD a /x", "2:CopyIgnoredFile"),
        ("a", "COPY a/b /x", "2:CopyIgnoredFile"),
        ("a", "COPY ./a /x", "2:CopyIgnoredFile"),
        ("a", "COPY b /x", ""),
        ("a", "COPY --from=known a /x", ""),
        ("a", "ADD https://a/a /x", ""),
        ("git@a:b", "ADD git@a:b /x", ""),
        ("a\n!a/b", "COPY a /x", ""),
        ("a", "COPY . /x", ""),
        ("*", "COPY . /x", "2:CopyIgnoredFile"),
        ("**", "COPY / /x", "2:CopyIgnoredFile"),
    ] {
        assert_eq!(
            found(&format!("FROM known\n{text}"), Some(rules)).join("|"),
            expected,
            "{rules:?} {text:?}"
        );
    }
}

#[test]
fn details_are_those_of_buildkit() {
    for (text, expected) in [
        ("FROM known AS Foo", "Stage name 'Foo' should be lowercase"),
        (
            "FROM known as foo",
            "'as' and 'FROM' keywords' casing do not match",
        ),
        (
            "FROM known\nrun x\nRUN y",
            "Command 'run' should match the case of the command majority (uppercase)",
        ),
        (
            "FROM known\nENV FOO=1\nCOPY $FO /x",
            "Usage of undefined variable '$FO' (did you mean $FOO?)",
        ),
        (
            "FROM known$BUILDPLATFROM",
            "FROM argument 'BUILDPLATFROM' is not declared (did you mean BUILDPLATFORM?)",
        ),
        (
            "FROM known\nENV k v",
            "\"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
        ),
        (
            "FROM known\nARG token",
            "Do not use ARG or ENV instructions for sensitive data (ARG \"token\")",
        ),
        (
            "FROM known\nEXPOSE 80/UDP",
            "Defined protocol '80/UDP' in EXPOSE instruction should be lowercase",
        ),
        (
            "FROM known\nWORKDIR x/y",
            "Relative workdir \"x/y\" can have unexpected results if the base image changes",
        ),
        (
            "FROM arm",
            "Base image arm was pulled with platform \"linux/arm64\", expected \"linux/amd64\" for current build",
        ),
    ] {
        let (_, result) = run(text, None, LintOptions::default());
        assert_eq!(result.warnings[0].detail, expected, "{text:?}");
    }
}

#[test]
fn options_are_read_or_refused() {
    let options = LintOptions::parse("skip=A, B;error=true;experimental=all").unwrap();
    assert_eq!(
        options.skip.len(),
        2,
        "a blank ends the options: {options:?}"
    );
    let options = LintOptions::parse("skip=A,B;error=1;experimental=C // why").unwrap();
    assert!(options.error && options.skip.contains("B") && options.experimental.contains("C"));
    assert_eq!(LintOptions::parse("").unwrap(), LintOptions::default());
    for (text, message) in [
        ("skip", "invalid check option \"skip\""),
        ("foo=1", "invalid check option \"foo\""),
        (
            "error=yes",
            "failed to parse check option \"error=yes\": not a boolean",
        ),
    ] {
        assert_eq!(LintOptions::parse(text).unwrap_err().to_string(), message);
    }
}

#[test]
fn a_file_that_cannot_be_built_is_an_error() {
    for (text, message) in [
        ("ARG X\nFROM $X", "base name ($X) should not be blank"),
        (
            "FROM --platform=$X known",
            "empty platform value from expression $X",
        ),
        (
            "FROM known\nRUN --mount=type=nope x",
            "unsupported mount type \"nope\"",
        ),
        ("FROM known\nEXPOSE x", "invalid containerPort: x"),
        (
            "FROM known\nENV a=\"b",
            "unexpected end of statement while looking for matching double-quote",
        ),
        ("FROM known\nUSER ${x:?must}", "x: must"),
    ] {
        let (_, result) = run(text, None, LintOptions::default());
        assert_eq!(result.error.unwrap().message, message, "{text:?}");
    }
}

#[test]
fn the_report_has_the_shape_of_buildkits() {
    let (source, result) = run("FROM known\nMAINTAINER x\n", None, LintOptions::default());
    let report = LintReport::new(&source, &result);
    assert_eq!(report.status(), 1);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "warnings": [{
                "ruleName": "MaintainerDeprecated",
                "description": "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
                "url": "https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/",
                "detail": "Maintainer instruction is deprecated in favor of using label",
                "location": {"ranges": [{"start": {"line": 2}, "end": {"line": 2}}]},
            }],
            "sources": [{"filename": "Dockerfile", "language": "Dockerfile", "data": "RlJPTSBrbm93bgpNQUlOVEFJTkVSIHgK"}],
        })
    );
    let (source, result) = run("FROM known\n", None, LintOptions::default());
    assert_eq!(LintReport::new(&source, &result).status(), 0);
}

#[test]
fn targets_and_outline_describe_a_file() {
    let text = "\
# VERSION which one
ARG VERSION=1
ARG UNUSED=2
# base the start
FROM known:$VERSION AS base
# MODE how
ARG MODE=fast
RUN --mount=type=secret,id=s,required --mount=type=ssh x
FROM known AS other
ARG OTHER
FROM --platform=$BUILDPLATFORM base AS app
ARG VERSION
ENV A=$VERSION
";
    let file = parse(text.as_bytes(), "Dockerfile").unwrap();
    let list = serde_json::to_value(targets(&file)).unwrap();
    assert_eq!(
        list["targets"],
        serde_json::json!([
            {"name": "base", "description": "the start", "base": "known:$VERSION", "location": {"ranges": [{"start": {"line": 5}, "end": {"line": 5}}]}},
            {"name": "other", "base": "known", "location": {"ranges": [{"start": {"line": 9}, "end": {"line": 9}}]}},
            {"name": "app", "default": true, "base": "base", "platform": "$BUILDPLATFORM", "location": {"ranges": [{"start": {"line": 11}, "end": {"line": 11}}]}},
        ])
    );
    let outline = outline(&OutlineInput {
        dockerfile: &file,
        target: 2,
        defaults: &platform_args(),
        build_args: &BTreeMap::new(),
        base: &base,
    })
    .unwrap();
    let args: Vec<(&str, &str, &str)> = outline
        .args
        .iter()
        .map(|arg| {
            (
                arg.name.as_str(),
                arg.value.as_str(),
                arg.description.as_str(),
            )
        })
        .collect();
    assert_eq!(
        args,
        [("VERSION", "1", "which one"), ("MODE", "fast", "how")]
    );
    assert_eq!(
        (
            outline.secrets[0].name.as_str(),
            outline.secrets[0].required
        ),
        ("s", true)
    );
    assert_eq!(outline.ssh[0].name, "default");
    assert_eq!(outline.name, "app");
}

#[test]
fn an_outline_has_the_arguments_of_the_base() {
    let text = "FROM known AS x\nONBUILD ARG C\nFROM triggered AS a\nARG D=$B$PATH\nFROM x\n";
    let file = parse(text.as_bytes(), "Dockerfile").unwrap();
    for (target, expected) in [(1, "A=1@3 D=1/bin@4"), (2, "C=@5")] {
        let outline = outline(&OutlineInput {
            dockerfile: &file,
            target,
            defaults: &platform_args(),
            build_args: &BTreeMap::new(),
            base: &base,
        });
        let args = outline.unwrap().args;
        let args: Vec<String> = args
            .iter()
            .map(|arg| {
                format!(
                    "{}={}@{}",
                    arg.name, arg.value, arg.location.ranges[0].start.line
                )
            })
            .collect();
        assert_eq!(args.join(" "), expected);
    }
}

#[test]
fn a_warning_is_about_all_lines_of_an_instruction() {
    for rule in ["ConsistentInstructionCasing", "UndefinedVar"] {
        let text = "FROM known\ncopy <<E /$x\na\nE\nENV a=b\nENV c=d\n";
        let (source, result) = run(text, None, LintOptions::default());
        let warning = result
            .warnings
            .iter()
            .find(|one| one.rule.name == rule)
            .unwrap();
        assert_eq!(source.lines(warning.whole), (2, 4), "{rule}");
    }
}

#[test]
fn what_no_build_would_take_is_an_error() {
    for (text, expected) in [
        (
            "FROM known\nSTOPSIGNAL nothing",
            Some("invalid signal: nothing"),
        ),
        (
            "FROM known\nARG S=0\nSTOPSIGNAL $S",
            Some("invalid signal: 0"),
        ),
        ("FROM unknown\nSTOPSIGNAL $S", None),
    ] {
        let (_, result) = run(text, None, LintOptions::default());
        let error = result.error.map(|error| error.message);
        assert_eq!(error.as_deref(), expected, "{text}");
    }
}
