//! `wythe build`, end to end.

use crate::support::{Sandbox, containers};

const MULTI_STAGE: &str = "\
FROM scratch AS write
ARG GREETING=hello
ENV GREETING=$GREETING
COPY --chmod=0755 greet /bin/greet
WORKDIR /srv
RUN [\"/bin/greet\", \"--write\", \"greeting.txt\", \"GREETING\"]

FROM scratch AS unneeded
RUN [\"/this/does/not/exist\"]

FROM scratch
COPY --from=write /bin/greet /bin/greet
COPY --from=write /srv/greeting.txt /greeting.txt
ENTRYPOINT [\"/bin/greet\"]
CMD [\"--read\", \"/greeting.txt\"]
";

#[test]
fn a_multi_stage_build_runs() {
    if !containers() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.context(MULTI_STAGE);
    sandbox.ok(["build", "-t", "app", "context"]);
    assert_eq!(sandbox.ok(["run", "--rm", "app"]), "hello\n");
    sandbox.ok([
        "build",
        "-t",
        "app",
        "--build-arg",
        "GREETING=moin",
        "context",
    ]);
    assert_eq!(sandbox.ok(["run", "--rm", "app"]), "moin\n");
}

#[test]
fn the_second_build_finds_everything_cached_and_gives_the_same_image() {
    if !containers() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.context(MULTI_STAGE);
    let first = sandbox.ok(["build", "-q", "-t", "app", "context"]);
    let second = sandbox.ok(["build", "-q", "-t", "app", "context"]);
    assert_eq!(first, second);
    let output = sandbox
        .wythe(["build", "-t", "app", "context"])
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(log.contains("cached"), "{log}");
    assert!(!log.contains(" ms\n  |"), "{log}");
}

#[test]
fn two_stores_give_the_same_bytes() {
    if !containers() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.context(MULTI_STAGE);
    let archive = |store: &str, name: &str| {
        let output = format!("type=oci,dest={name}");
        crate::support::succeed(
            &mut sandbox.wythe_on(store, ["build", "-t", "app", "-o", &output, "context"]),
        );
        std::fs::read(sandbox.path(name)).unwrap()
    };
    assert!(
        archive("one", "1.tar") == archive("two", "2.tar"),
        "the archives differ"
    );
}

#[test]
fn files_only_builds_need_no_namespace() {
    let sandbox = Sandbox::new();
    sandbox.context("FROM scratch\nCOPY greet /greet\nENTRYPOINT [\"/greet\"]\n");
    sandbox.ok([
        "build",
        "-t",
        "app",
        "--output",
        "type=oci,dest=app.tar",
        "context",
    ]);
    assert!(std::fs::metadata(sandbox.path("app.tar")).unwrap().len() > 1000);
}
