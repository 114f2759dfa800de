//! Times of files: steps see when a file really changed, as `make` and the like need it; what
//! leaves the store has the epoch's, so that it does not depend on when it was built.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime};

use crate::support::{Sandbox, busybox, containers};

/// Builds only what is older than its source, as `make` and `cargo` do: once with what it has built
/// kept in a cache mount, once with it in a layer below the source.
const DOCKERFILE: &str = "FROM scratch
COPY busybox /bin/busybox
RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]
RUN echo placeholder > /built
COPY source /source
RUN if [ /source -nt /built ]; then cp /source /built; fi
RUN --mount=type=cache,target=/cache \\
    if [ ! -e /cache/built ] || [ /source -nt /cache/built ]; then cp /source /cache/built; fi; \\
    cp /cache/built /built-in-cache
";

fn sandbox() -> Option<Sandbox> {
    if !containers() {
        return None;
    }
    let sandbox = Sandbox::new();
    sandbox.file("context/Dockerfile", DOCKERFILE);
    std::fs::copy(busybox(), sandbox.path("context/busybox")).unwrap();
    Some(sandbox)
}

/// Writes the source, changed so many seconds from now.
fn write_source(sandbox: &Sandbox, content: &str, seconds: i64) {
    let path = sandbox.file("context/source", content);
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let changed = if seconds < 0 {
        SystemTime::now() - distance
    } else {
        SystemTime::now() + distance
    };
    let file = File::options().append(true).open(path).unwrap();
    file.set_modified(changed).unwrap();
}

#[test]
fn what_changed_after_it_was_built_is_built_again() {
    let Some(sandbox) = sandbox() else { return };
    // Distances that no clock blurs and no build takes.
    for (content, seconds) in [("one", 100_000), ("two", 200_000)] {
        write_source(&sandbox, content, seconds);
        sandbox.ok(["build", "-q", "-t", "app", "context"]);
        for built in ["/built", "/built-in-cache"] {
            let shown = sandbox.ok(["run", "--rm", "app", "/bin/cat", built]);
            assert_eq!(shown, content, "{built}");
        }
    }
}

#[test]
fn what_leaves_the_store_does_not_say_when_it_was_built() {
    let Some(first) = sandbox() else { return };
    let Some(second) = sandbox() else { return };
    let written = |sandbox: &Sandbox, seconds: i64| {
        write_source(sandbox, "one", seconds);
        let outputs = ["type=oci,dest=app.oci", "type=tar,dest=app.tar", "files"];
        let outputs = outputs.iter().flat_map(|output| ["-o", output]);
        let args = ["build", "-q", "-t", "app"].into_iter().chain(outputs);
        sandbox.ok(args.chain(["context"]));
        ["app.oci", "app.tar"].map(|name| std::fs::read(sandbox.path(name)).unwrap())
    };
    assert!(written(&first, 100) == written(&second, 200));
    for name in ["built", "source", "bin/busybox", "bin"] {
        let metadata = std::fs::metadata(first.path("files").join(name)).unwrap();
        assert_eq!(metadata.mtime(), 0, "{name}");
    }
}

#[test]
fn times_stay_in_the_layers_where_that_is_asked_for() {
    let Some(sandbox) = sandbox() else { return };
    write_source(&sandbox, "one", -100_000);
    let changed = std::fs::metadata(sandbox.path("context/source")).unwrap();
    let time = |flags: &[&str]| {
        let args = ["build", "-q", "-o", "files"].iter().chain(flags);
        sandbox.ok(args.chain(&["context"]));
        let metadata = std::fs::metadata(sandbox.path("files/source")).unwrap();
        std::fs::remove_dir_all(sandbox.path("files")).unwrap();
        metadata.mtime()
    };
    assert_eq!(time(&["--rewrite-timestamp=false"]), changed.mtime());
    assert_eq!(time(&[]), 0);
    assert_eq!(
        time(&["-o", "type=oci,dest=app.oci,rewrite-timestamp=false"]),
        changed.mtime()
    );
    let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=1000"];
    assert_eq!(time(&epoch), 1000);
    let (_, message) = sandbox.fails([
        "build",
        "--rewrite-timestamp",
        "-o",
        "type=oci,dest=app.oci,rewrite-timestamp=false",
        "context",
    ]);
    assert!(message.contains("rewrite-timestamp"), "{message}");
}
