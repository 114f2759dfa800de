//! The whole suite again, as others: needs root to become them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use wythe_runtime::userns::{Rung, detect};

use crate::runner::{skip, tests};

tests![
    priv_everything_passes_for_a_user_with_one_id,
    priv_everything_passes_for_a_user_with_many_ids,
    priv_no_user_namespaces_is_a_clear_error,
];

/// Nobody's ID, with no line in /etc/subuid.
const LONELY_ID: u32 = 54_321;

/// Runs this binary as someone else, to the end; its output is shown if it fails.
fn run_as(uid: u32, expected_rung: &str, wrap: &[&str]) -> Option<String> {
    // The build directory may be closed to others.
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let copy = dir.path().join("it");
    fs::copy("/proc/self/exe", &copy).unwrap();
    fs::set_permissions(&copy, PermissionsExt::from_mode(0o755)).unwrap();
    let id = uid.to_string();
    let mut args = vec!["--reuid", &id, "--regid", &id, "--clear-groups", "--"];
    args.extend(wrap);
    let output = Command::new("setpriv")
        .args(args)
        .arg(&copy)
        .current_dir("/")
        .env_remove("WYTHE_REQUIRE")
        .env_remove("TMPDIR")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(
        text.contains(expected_rung) || errors.contains(expected_rung),
        "{text}\n{errors}"
    );
    Some(text)
}

fn priv_everything_passes_for_a_user_with_one_id() {
    if detect() != Rung::RootWithNamespaces {
        return skip("priv_everything_passes_for_a_user_with_one_id", "root");
    }
    run_as(
        LONELY_ID,
        "user namespace with a single ID: /etc/subuid has no range",
        &[],
    );
}

/// A user who has ranges.
fn user_with_ranges() -> Option<u32> {
    let owners = |file| fs::read_to_string(file).unwrap_or_default();
    let (users, groups) = (owners("/etc/subuid"), owners("/etc/subgid"));
    owners("/etc/passwd").lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, uid) = (fields.next()?, fields.nth(1)?.parse().ok()?);
        let has_line = |text: &str| {
            text.lines()
                .any(|line| line.starts_with(&format!("{name}:")))
        };
        (uid != 0 && has_line(&users) && has_line(&groups)).then_some(uid)
    })
}

fn priv_everything_passes_for_a_user_with_many_ids() {
    let name = "priv_everything_passes_for_a_user_with_many_ids";
    if detect() != Rung::RootWithNamespaces {
        return skip(name, "root");
    }
    let has_program = fs::exists("/usr/bin/newuidmap").unwrap_or(false);
    match user_with_ranges() {
        Some(uid) if has_program => drop(run_as(uid, "user namespace with 6", &[])),
        _ => skip(name, "newuidmap and a user in /etc/subuid"),
    }
}

fn priv_no_user_namespaces_is_a_clear_error() {
    if detect() != Rung::RootWithNamespaces {
        return skip("priv_no_user_namespaces_is_a_clear_error", "root");
    }
    // A limit of our own namespace: nobody else is touched by it.
    let wrap = [
        "unshare",
        "--user",
        "--map-root-user",
        "sh",
        "-c",
        "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set -all --inh-caps -all \"$0\"",
    ];
    run_as(LONELY_ID, "SKIPPED everything", &wrap);
}
