//! Users, capabilities, system calls, limits.

use wythe_runtime::{CapabilityMask, Error, Refusal, Seccomp, Stage, userns};

use crate::fixture::{Fixture, run};
use crate::runner::tests;

tests![
    root_has_dockers_capabilities,
    capabilities_are_added_and_dropped,
    users_come_from_the_images_files,
    other_users_have_no_capabilities,
    privileged_containers_have_all_capabilities_for_everybody,
    unknown_users_are_refused,
    default_filter_refuses_what_docker_refuses,
    no_new_privileges_is_set_only_when_asked,
    limits_are_set,
    standard_signals_have_their_default_actions,
];

const NONE: [&str; 0] = [];

/// Whether IDs other than root's exist here.
fn has_more_ids() -> bool {
    !matches!(userns::detect(), userns::Rung::SingleId { .. })
}

fn status(
    fixture: &Fixture,
    change: impl FnOnce(&mut wythe_runtime::Process),
    field: &str,
) -> String {
    let mut bundle = fixture.shell(&format!("grep ^{field}: /proc/self/status | cut -f2"));
    change(&mut bundle.process);
    run(bundle).unwrap().stdout.trim().to_owned()
}

fn root_has_dockers_capabilities() {
    let fixture = Fixture::new();
    for (field, expected) in [
        ("CapEff", "00000000a80425fb"),
        ("CapPrm", "00000000a80425fb"),
        ("CapBnd", "00000000a80425fb"),
        ("CapInh", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("Seccomp", "2"),
    ] {
        assert_eq!(status(&fixture, |_| (), field), expected, "{field}");
    }
}

fn capabilities_are_added_and_dropped() {
    let fixture = Fixture::new();
    let mask = CapabilityMask::from_names(&["NET_ADMIN"], &["ALL"]).unwrap();
    for field in ["CapEff", "CapBnd"] {
        assert_eq!(
            status(&fixture, |process| process.capabilities = mask, field),
            "0000000000001000"
        );
    }
    let mut bundle = fixture.shell("chown 1:1 /tmp; echo $?");
    bundle.process.capabilities = CapabilityMask::from_names(&NONE, &["ALL"]).unwrap();
    assert_eq!(run(bundle).unwrap().stdout, "1\n");
}

fn users_come_from_the_images_files() {
    let fixture = Fixture::new();
    let rows = [
        ("", "0 0 0 /root"),
        ("root", "0 0 0 /root"),
        ("web", "33 34 34 40 /srv/web"),
        ("33", "33 34 34 40 /srv/web"),
        ("web:log", "33 40 40 /srv/web"),
        ("77:88", "77 88 88 /"),
    ];
    for (user, expected) in rows {
        let is_root = expected.starts_with("0 ");
        let mut bundle = fixture.shell("echo $(id -u) $(id -g) $(id -G) $HOME");
        bundle.process.user = user.parse().unwrap();
        match run(bundle) {
            Ok(output) => assert_eq!(output.stdout.trim(), expected, "{user}"),
            Err(Error::Launch { failure, .. }) if !is_root && !has_more_ids() => {
                assert_eq!(failure.stage, Stage::SetUser);
                assert_eq!(failure.refusal, Some(Refusal::UnmappedId));
            }
            Err(error) => panic!("{user}: {error:?}"),
        }
    }
}

fn other_users_have_no_capabilities() {
    if !has_more_ids() {
        return;
    }
    let fixture = Fixture::new();
    let web = |process: &mut wythe_runtime::Process| process.user = "web".parse().unwrap();
    assert_eq!(status(&fixture, web, "CapEff"), "0000000000000000");
    assert_eq!(status(&fixture, web, "CapPrm"), "0000000000000000");
    let mut bundle = fixture.shell("echo x > /etc/passwd; kill -0 1 && echo > /dev/stdout");
    bundle.process.user = "web".parse().unwrap();
    let output = run(bundle).unwrap();
    assert!(output.stderr.contains("denied"), "{}", output.stderr);
    assert_eq!(output.stdout, "\n");
}

fn privileged_containers_have_all_capabilities_for_everybody() {
    let fixture = Fixture::new();
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("CapPrm:"));
    let own = own.unwrap().trim();
    let users: &[&str] = if has_more_ids() {
        &["root", "web", "77:88"]
    } else {
        &["root"]
    };
    let script = "grep -e ^Cap -e ^Seccomp: /proc/self/status | cut -f2
        unshare --mount true && echo unshared
        grep -c -e ' /proc/' -e '/sys/firmware ' /proc/self/mountinfo";
    for user in users {
        let mut bundle = fixture.shell(script);
        bundle.process.user = user.parse().unwrap();
        bundle.make_privileged();
        let output = run(bundle).unwrap();
        let expected = format!("{own}\n{own}\n{own}\n{own}\n{own}\n0\nunshared\n0\n");
        assert_eq!(output.stdout, expected, "{user}: {}", output.stderr);
    }
}

fn unknown_users_are_refused() {
    let fixture = Fixture::new();
    for (user, refusal) in [
        ("ghost", Refusal::NoSuchUser),
        ("root:ghosts", Refusal::NoSuchGroup),
        ("-1", Refusal::NoSuchUser),
    ] {
        let mut bundle = fixture.shell("true");
        bundle.process.user = user.parse().unwrap();
        match run(bundle).map(|output| output.status) {
            Err(Error::Launch { failure, .. }) => assert_eq!(failure.refusal, Some(refusal)),
            other => panic!("{user}: {other:?}"),
        }
    }
}

fn default_filter_refuses_what_docker_refuses() {
    let fixture = Fixture::new();
    let script = "unshare -U true 2>/dev/null && echo userns
        mount -t tmpfs x /tmp 2>/dev/null && echo mount
        setpriv --list-caps > /dev/null; echo end";
    assert_eq!(fixture.output_of(script), "end\n");
    let mut bundle =
        fixture.shell("grep ^Seccomp: /proc/self/status | cut -f2; unshare -U true && echo userns");
    bundle.process.seccomp = Seccomp::Unconfined;
    assert_eq!(run(bundle).unwrap().stdout, "0\nuserns\n");
}

fn no_new_privileges_is_set_only_when_asked() {
    let fixture = Fixture::new();
    assert_eq!(status(&fixture, |_| (), "NoNewPrivs"), "0");
    assert_eq!(
        status(
            &fixture,
            |process| process.no_new_privileges = true,
            "NoNewPrivs"
        ),
        "1"
    );
    assert_eq!(
        status(
            &fixture,
            |process| process.no_new_privileges = true,
            "Seccomp"
        ),
        "2"
    );
}

fn limits_are_set() {
    let fixture = Fixture::new();
    let mut bundle =
        fixture.shell("ulimit -Sn; ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj");
    bundle.process.rlimits = vec!["nofile=100:200".parse().unwrap(), "core=0".parse().unwrap()];
    bundle.process.oom_score_adjust = Some(500);
    assert_eq!(run(bundle).unwrap().stdout, "100\n200\n0\n500\n");
}

fn standard_signals_have_their_default_actions() {
    let fixture = Fixture::new();
    for field in ["SigIgn", "SigBlk"] {
        assert_eq!(
            status(&fixture, |_| (), field),
            "0000000000000000",
            "{field}"
        );
    }
    let mut bundle = fixture.shell("grep -e ^SigIgn -e ^SigBlk /proc/self/status | cut -f2");
    bundle.init = true;
    assert_eq!(
        run(bundle).unwrap().stdout,
        "0000000000000000\n0000000000000000\n"
    );
}
