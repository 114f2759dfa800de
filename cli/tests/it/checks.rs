//! `build --check` and `--call`, and the warnings in passing of a build.

use std::process::Command;

use crate::support::Sandbox;

/// Exit code, standard output, standard error.
fn outcome(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn a_check_says_what_it_found_and_exits_accordingly() {
    let sandbox = Sandbox::new();
    for (dockerfile, code, words) in [
        ("FROM scratch\nLABEL a=b\n", 0, &["no warnings found"][..]),
        (
            "FROM scratch as Base\nMAINTAINER x\n",
            1,
            &["StageNameCasing", "Dockerfile:2", "3 warnings found"],
        ),
        ("FROM scratch\nUSER ${x:?is needed}\n", 1, &["x: is needed"]),
    ] {
        sandbox.context(dockerfile);
        let (found, stdout, stderr) = outcome(&mut sandbox.wythe(["build", "--check", "context"]));
        assert_eq!(found, Some(code), "{dockerfile:?}: {stdout}{stderr}");
        for word in words {
            assert!(
                stdout.contains(word),
                "{dockerfile:?} lacks {word}: {stdout}"
            );
        }
        let ignoring = ["build", "--call=check,ignorestatus", "context"];
        assert_eq!(outcome(&mut sandbox.wythe(ignoring)).0, Some(0));
    }
    sandbox.context("FROM scratch\nRUM a\n");
    let json = ["build", "--call=check,format=json", "context"];
    let (code, stdout, _) = outcome(&mut sandbox.wythe(json));
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(code, Some(1));
    assert_eq!(report["buildError"]["message"], "unknown instruction: RUM");
    assert_eq!(
        report["buildError"]["location"]["ranges"][0]["start"]["line"],
        2
    );
}

#[test]
fn a_check_of_a_directory_takes_all_dockerfiles_below_it() {
    let sandbox = Sandbox::new();
    sandbox.file("many/a/Dockerfile", "FROM scratch\nCOPY left-out /\n");
    sandbox.file("many/a/.dockerignore", "left-out\n");
    sandbox.file("many/web.Dockerfile", "FROM scratch\nMAINTAINER x\n");
    sandbox.file("many/b/Containerfile.test", "FROM scratch\nRUM a\n");
    sandbox.file("many/.hidden/Dockerfile", "nothing\n");
    sandbox.file("many/readme.md", "nothing\n");
    let (code, stdout, stderr) = outcome(&mut sandbox.wythe(["build", "--check", "many"]));
    assert_eq!(code, Some(1), "{stderr}");
    for word in [
        "CopyIgnoredFile",
        "many/a/Dockerfile:2",
        "MaintainerDeprecated",
        "many/web.Dockerfile:2",
        "many/b/Containerfile.test:2",
        "3 files, 2 warnings found, 1 files cannot be built",
    ] {
        assert!(stdout.contains(word), "{word} is missing:\n{stdout}");
    }
    let json = sandbox
        .wythe(["build", "--call=check,format=json", "many"])
        .output();
    let reports: serde_json::Value = serde_json::from_slice(&json.unwrap().stdout).unwrap();
    let names: Vec<&str> = reports
        .as_array()
        .unwrap()
        .iter()
        .map(|report| report["sources"][0]["filename"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "many/a/Dockerfile",
            "many/b/Containerfile.test",
            "many/web.Dockerfile"
        ]
    );
    sandbox.file("empty/readme.md", "nothing\n");
    let (_, _, stderr) = outcome(&mut sandbox.wythe(["build", "--check", "empty"]));
    assert!(stderr.contains("there is no Dockerfile in"), "{stderr}");
}

#[test]
fn a_build_warns_once_and_a_file_may_make_that_an_error() {
    let sandbox = Sandbox::new();
    sandbox.context("FROM scratch AS Unneeded\nFROM scratch\nMAINTAINER x\nLABEL a=$b\n");
    let mut build = sandbox.wythe(["build", "-t", "app", "context"]);
    for _ in ["built", "cached"] {
        let (code, _, stderr) = outcome(&mut build);
        assert_eq!(code, Some(0), "{stderr}");
        assert_eq!(
            stderr.matches("(MaintainerDeprecated)").count(),
            1,
            "{stderr}"
        );
        assert!(
            stderr
                .contains("warning: Dockerfile:4: Usage of undefined variable '$b' (UndefinedVar)"),
            "{stderr}"
        );
    }
    let (_, _, stderr) = outcome(&mut sandbox.wythe(["build", "-q", "context"]));
    assert_eq!(stderr, "");
    let skipping = "BUILDKIT_DOCKERFILE_CHECK=skip=all";
    let args = ["build", "--build-arg", skipping, "context"];
    let (_, _, stderr) = outcome(&mut sandbox.wythe(args));
    assert!(!stderr.contains("warning:"), "{stderr}");

    sandbox.context("# check=error=true\nFROM scratch\nMAINTAINER x\n");
    let args = ["build", "--call=check,format=json", "context"];
    let (_, stdout, _) = outcome(&mut sandbox.wythe(args));
    assert!(stdout.contains("\"lint violation found"), "{stdout}");
    let (code, error) = sandbox.fails(["build", "-t", "strict", "context"]);
    assert_eq!(code, 1);
    assert!(
        error.contains("lint violation found for rules: MaintainerDeprecated"),
        "{error}"
    );
    assert!(!sandbox.ok(["images"]).contains("strict"));
}

#[test]
fn a_check_knows_the_variables_of_base_images_in_the_store_and_fetches_none() {
    let sandbox = Sandbox::new();
    sandbox.context("FROM scratch\nENV KNOWN=1\n");
    sandbox.ok(["build", "-t", "base", "context"]);
    sandbox.context("FROM base\nENV A=$KNOWN B=$KNOWM C=$PATH\n");
    let (code, stdout, _) = outcome(&mut sandbox.wythe(["build", "--check", "context"]));
    assert_eq!(code, Some(1), "{stdout}");
    assert!(
        stdout.contains("'$KNOWM'") && stdout.contains("$KNOWN?)"),
        "{stdout}"
    );
    assert!(stdout.contains("1 warning found"), "{stdout}");
    sandbox.context("FROM registry.invalid/unknown\nENV A=$B\n");
    sandbox.ok(["build", "--check", "context"]);
    // An image that is put in its place is known just so.
    let named = "registry.invalid/unknown=docker-image://base";
    let args = ["build", "--check", "--build-context", named, "context"];
    let (code, stdout, _) = outcome(&mut sandbox.wythe(args));
    assert!(code == Some(1) && stdout.contains("'$B'"), "{stdout}");
    // Of another platform it is chosen, not met with.
    let args = [&args[..], &["--platform=linux/s390x"]].concat();
    let (_, stdout, _) = outcome(&mut sandbox.wythe(args));
    assert!(!stdout.contains("Platform"), "{stdout}");
}

#[test]
fn a_check_refuses_what_no_stage_could_be_built_of() {
    let sandbox = Sandbox::new();
    sandbox.context("FROM scratch AS a\nCOPY --from=b /x /\nFROM a AS b\nCOPY --from=b /x /\n");
    for call in ["--check", "--call=outline"] {
        let (code, stdout, stderr) = outcome(&mut sandbox.wythe(["build", call, "context"]));
        assert_eq!(code, Some(1), "{call}");
        let said = format!("{stdout}{stderr}");
        assert!(said.contains("circular dependency detected"), "{said}");
    }
    // In a stage that nobody asks about such a mistake does no harm.
    sandbox.context("FROM scratch AS a\nSTOPSIGNAL 0\nFROM scratch AS b\nEXPOSE 1\n");
    let call = "--call=outline";
    let (_, error) = sandbox.fails(["build", call, "--target=a", "context"]);
    assert!(error.contains("invalid signal: 0"), "{error}");
    sandbox.ok(["build", call, "context"]);
}

#[test]
fn outline_and_targets_have_the_options_of_docker() {
    let sandbox = Sandbox::new();
    sandbox.context("# V which one\nARG V=1\nFROM scratch AS one\nARG V\nFROM one\n");
    for (call, field) in [("outline", "args"), ("targets", "targets")] {
        let call = format!("--call={call},format=json");
        let text = sandbox.ok(["build", call.as_str(), "context"]);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(json[field].is_array(), "{text}");
    }
    for bad in ["--call=guess", "--call=check,format=xml"] {
        let (_, error) = sandbox.fails(["build", bad, "context"]);
        assert!(error.contains("is none of"), "{error}");
    }
}
