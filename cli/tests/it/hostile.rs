//! Attacks with the real binary. Each test asserts that the host has not changed.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::run::shell;
use crate::support::Sandbox;

/// A directory of the host that nobody may change, with a file in it.
fn host(sandbox: &Sandbox) -> PathBuf {
    sandbox.file("host/canary", "alive");
    sandbox.path("host")
}

/// Names, modes, sizes and times of a directory and all below it.
fn picture(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(path) = todo.pop() {
        let stat = std::fs::symlink_metadata(&path).unwrap();
        let line = format!(
            "{:o} {}:{} {} {}.{}",
            stat.mode(),
            stat.uid(),
            stat.gid(),
            stat.size(),
            stat.mtime(),
            stat.mtime_nsec()
        );
        if stat.is_dir() {
            let children = std::fs::read_dir(&path).unwrap();
            todo.extend(children.map(|child| child.unwrap().path()));
        }
        found.insert(path, line);
    }
    found
}

#[test]
fn hostile_links_in_a_cache_mount_do_not_lead_to_the_host() {
    let Some(sandbox) = shell() else { return };
    let host = host(&sandbox);
    let before = picture(&host);
    let outside = host.display();
    sandbox.file(
        "context/Dockerfile",
        format!(
            "FROM shell\nRUN --mount=type=cache,id=c,target=/c ln -s {outside} /c/absolute && ln -s ../../../../../../../../../../../..{outside} /c/relative && ln -s /proc/self/root{outside} /c/magic && ln -s {outside}/made /c/dangling\n"
        ),
    );
    sandbox.ok(["build", "-q", "context"]);
    for source in [
        "absolute",
        "relative",
        "magic",
        "dangling",
        "absolute/new",
        "../../../../../host",
    ] {
        let dockerfile = format!(
            "FROM shell\nRUN --mount=type=cache,id=c,source={source},target=/x ls -a /x; echo owned > /x/owned; rm -rf /x/canary\n"
        );
        sandbox.file("context/Dockerfile", dockerfile);
        // Shown inside the cache or refused, never outside.
        let output = sandbox
            .wythe(["build", "--no-cache", "--progress", "plain", "context"])
            .output()
            .unwrap();
        let shown = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!shown.contains("panicked"), "{shown}");
        assert!(!shown.contains("| canary"), "{source}: {shown}");
        assert_eq!(picture(&host), before, "{source}");
    }
}
