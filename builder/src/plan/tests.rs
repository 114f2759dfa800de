//! What one file can make a plan hold.

use super::*;
use crate::parse::parse;
use crate::request::{BuildRequest, InputFile};

fn planned(text: &str) -> Result<BuildPlan, String> {
    let request = BuildRequest::new(InputFile {
        name: "Dockerfile".to_owned(),
        bytes: text.as_bytes().to_vec(),
    });
    let file = parse(text.as_bytes(), "Dockerfile").map_err(|error| error.to_string())?;
    let plan = plan(&file, &request, &|_, _, _| Ok(None)).map_err(|error| error.to_string())?;
    plan.ok_or_else(|| "an image is missing".to_owned())
}

#[test]
fn a_small_file_cannot_make_a_large_plan() {
    let many = |prefix: &str, line: &str, count: usize| format!("{prefix}\n{}", line.repeat(count));
    for (text, message) in [
        (
            many("FROM scratch", "EXPOSE 1-65535\n", 100),
            "the history of this stage is larger than",
        ),
        (
            format!("FROM scratch\nEXPOSE{}", " 1-65535".repeat(10)),
            "EXPOSE with more than 262144 ports",
        ),
        (
            many("FROM scratch", "WORKDIR abcdefgh\n", 2000),
            "the history of this stage is larger than",
        ),
        (
            many("FROM scratch\nENV a=aaaaaaaa", "ENV a=$a$a\n", 30),
            "larger than",
        ),
        (
            format!(
                "FROM scratch AS s0\n{}\n{}",
                (0..2000)
                    .map(|at| format!("LABEL l{at}=\n"))
                    .collect::<String>(),
                (0..3000)
                    .map(|at| format!("FROM s{at} AS s{}\n", at + 1))
                    .collect::<String>()
            ),
            "more than 4194304 variables, labels, ports and volumes together",
        ),
    ] {
        let error = planned(&text).unwrap_err();
        assert!(error.contains(message), "{error:.300}");
    }
}

/// Each command sees the variables as they were, and a stage below another one adds nothing to it.
#[test]
fn ten_thousand_stages_and_variables_are_planned() {
    let mut text = String::from("FROM scratch AS s0\n");
    for at in 0..10_000 {
        text.push_str(&format!("FROM s{at} AS s{}\nENV v{at}={at}\n", at + 1));
    }
    text.push_str("RUN [\"a\"]\nENV v3=x\nRUN [\"a\"]\nRUN [\"b\"]\n");
    let plan = planned(&text).unwrap();
    let last = &plan.stages[plan.target];
    let envs: Vec<_> = last
        .steps
        .iter()
        .filter_map(|step| match &step.action {
            Action::Run(run) => Some(&run.env),
            _ => None,
        })
        .collect();
    assert_eq!(envs[0].len(), 10_001, "and PATH");
    assert!(envs[0].contains(&"v3=3".to_owned()) && envs[1].contains(&"v3=x".to_owned()));
    assert!(Arc::ptr_eq(envs[1], envs[2]));
    assert_eq!(last.env.len(), 10_001);
    assert_eq!(last.env.get(4).map(String::as_str), Some("v3=x"));
    assert_eq!(plan.stages[2].env.len(), 3);
}

/// A mount in short: kind, where, and what else decides it.
fn mount_text(mount: &StepMount) -> String {
    match mount {
        StepMount::Bind {
            source,
            target,
            writable,
            ..
        } => format!("bind {source} {target} {writable}"),
        StepMount::Cache(mount) => {
            let CacheMount {
                id, target, source, ..
            } = mount;
            let made = mount.made.map_or("-".to_owned(), |made| {
                format!("{:o} {}:{}", made.mode, made.uid, made.gid)
            });
            format!("cache {id} {target} {source} {made}")
        }
        StepMount::Tmpfs {
            target, writable, ..
        } => format!("tmpfs {target} {writable}"),
        StepMount::Secret(mount) => {
            let target = mount.target.as_deref().unwrap_or("-");
            let env = mount.env.as_deref().unwrap_or("-");
            format!("secret {} {target} {env} {:o}", mount.id, mount.mode)
        }
        StepMount::Ssh(mount) => format!("ssh {} {} {:o}", mount.id, mount.target, mount.mode),
    }
}

/// Reference, §RUN --mount; where it is silent, as BuildKit does.
#[test]
fn mounts_get_their_defaults_places_and_order() {
    for (flags, expected) in [
        ("target=/a", "bind / /a false"),
        ("target=a/../b", "bind / /w/b false"),
        ("source=s", "bind /s /w false"),
        ("source=../s/.,target=/a,rw", "bind /s /a true"),
        ("type=tmpfs,target=/t", "tmpfs /t true"),
        ("type=tmpfs,target=/t,ro", "tmpfs /t false"),
        ("type=cache,target=/c/", "cache /c /c / -"),
        ("type=cache,target=c", "cache c /w/c / -"),
        ("type=cache,target=./c/../d", "cache d /w/d / -"),
        ("type=cache,target=/c,id=x,mode=700", "cache x /c / 700 0:0"),
        ("type=cache,target=/c,uid=7", "cache /c /c / 755 7:0"),
        ("type=secret,id=s", "secret s /run/secrets/s - 400"),
        ("type=secret,id=a/b", "secret a/b /run/secrets/b - 400"),
        ("type=secret,src=s", "secret s /run/secrets/s - 400"),
        ("type=secret,target=/x/y", "secret y /x/y - 400"),
        ("type=secret,id=s,target=y", "secret s /w/y - 400"),
        ("type=secret,id=s,env=E", "secret s - E 400"),
        (
            "type=secret,id=s,env=E,target=/y,mode=0644",
            "secret s /y E 644",
        ),
        ("type=ssh", "ssh default /run/buildkit/ssh_agent.0 600"),
        (
            "type=secret,id=s --mount=type=ssh --mount=target=/m/in --mount=type=ssh,id=b --mount=target=/m",
            "bind / /m false, bind / /m/in false, secret s /run/secrets/s - 400, \
             ssh default /run/buildkit/ssh_agent.0 600, ssh b /run/buildkit/ssh_agent.1 600",
        ),
    ] {
        let plan = planned(&format!(
            "FROM scratch\nWORKDIR /w\nRUN --mount={flags} true\n"
        ));
        let plan = plan.unwrap();
        let Action::Run(run) = &plan.stages[plan.target].steps[1].action else {
            panic!("{flags}");
        };
        let mounts: Vec<String> = run.mounts.iter().map(mount_text).collect();
        assert_eq!(mounts.join(", "), expected, "{flags}");
    }
}
