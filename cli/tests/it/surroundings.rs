//! What a step finds around it. The texts here are what BuildKit's steps find, word for word.

use crate::support::{Sandbox, busybox, peers, root};

/// Says it, as the first program of a step: what lies in /proc and /dev, and what is refused.
const LOOK: &str = "#!/bin/sh
{
id
tr '\\0' '\\n' </proc/1/environ | grep -v -e SHLVL= -e PWD= | sort
grep -e ^Umask -e ^Groups -e ^Cap -e ^NoNewPrivs -e ^Seccomp: /proc/self/status | tr '\\t' ' '
awk '{print \"session\", $6, \"terminal\", $7}' /proc/1/stat
stat -L -c '%F %a' /proc/self/fd/0
head -c 1 | wc -c
ls /dev | grep -v -e core -e mqueue | tr '\\n' ' '; echo
stat -c '%n %a %u %t:%T' /dev/null /dev/tty
awk '$5 ~ \"^/(proc|sys|dev/pts|dev/shm)($|/sys$)\" {print $5, $6}' /proc/self/mountinfo | sort -u
df -k /dev/shm | awk 'NR == 2 {print $2}'
cat /proc/self/personality
for file in /proc/sys/kernel/hostname /sys/kernel /new; do touch $file; done
mount -t tmpfs none /mnt
unshare -U true
/bin/su -c id root
} >\"/out/$1\" 2>&1 </proc/self/fd/0
rm -f /new
true
";

/// Where user, groups, capabilities and what follows from them stand in what the rest has.
fn expected(id: &str, home: &str, groups: &str, capabilities: &str, new: &str) -> String {
    format!(
        "{id}
A=1
B=2
HOME={home}
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
Umask: 0022
Groups: {groups} 
CapInh: 0000000000000000
CapPrm: {capabilities}
CapEff: {capabilities}
CapBnd: 00000000a80425fb
CapAmb: 0000000000000000
NoNewPrivs: 0
Seccomp: 2
session 1 terminal 0
fifo 600
0
fd full null ptmx pts random shm stderr stdin stdout tty urandom zero 
/dev/null 666 0 1:3
/dev/tty 666 0 5:0
/dev/pts rw,nosuid,noexec,relatime
/dev/shm rw,nosuid,nodev,noexec,relatime
/proc rw,nosuid,nodev,noexec,relatime
/proc/sys ro,nosuid,nodev,noexec,relatime
/sys ro,nosuid,nodev,noexec,relatime
65536
00000000
touch: /proc/sys/kernel/hostname: Read-only file system
touch: /sys/kernel: Read-only file system
{new}mount: permission denied (are you root?)
unshare: unshare(0x10000000): Operation not permitted
uid=0 gid=0(root) groups=0(root),40(quarry)
"
    )
}

#[test]
fn priv_a_step_finds_around_it_what_it_finds_with_buildkit() {
    if !root() || !peers(&["busybox"]) {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.file("context/look", LOOK);
    std::fs::copy(busybox(), sandbox.path("context/busybox")).unwrap();
    sandbox.file(
        "context/Dockerfile",
        "FROM scratch AS base
COPY --chmod=755 busybox /bin/busybox
RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]
RUN rm /bin/su && cp /bin/busybox /bin/su && chmod 4755 /bin/su && mkdir -m 1777 /out && mkdir /root /mnt
COPY <<passwd <<group /etc/
root::0:0:root:/root:/bin/sh
mason:x:1000:1001::/home/mason:/bin/sh
passwd
root:x:0:root
mason:x:1001:
quarry:x:40:root,mason
group
COPY --chmod=755 look /bin/look
ARG A=1
ENV B=2
WORKDIR /home/mason
RUN look root
USER mason
RUN look name
USER 1000
RUN look number
USER 1000:7
RUN look group
USER 4242
RUN look unknown
FROM scratch
COPY --from=base /out /
",
    );
    let out = sandbox.path("out");
    sandbox.ok(["build", "--output", out.to_str().unwrap(), "context"]);
    let none = "0000000000000000";
    let denied = "touch: /new: Permission denied\n";
    let mason = "uid=1000(mason) gid=1001(mason) groups=40(quarry),1001(mason)";
    for (name, text) in [
        (
            "root",
            expected(
                "uid=0 gid=0(root) groups=0(root),40(quarry)",
                "/root",
                "0 40",
                "00000000a80425fb",
                "",
            ),
        ),
        (
            "name",
            expected(mason, "/home/mason", "40 1001", none, denied),
        ),
        (
            "number",
            expected(mason, "/home/mason", "40 1001", none, denied),
        ),
        (
            "group",
            expected(
                "uid=1000(mason) gid=7 groups=7",
                "/home/mason",
                "7",
                none,
                denied,
            ),
        ),
        (
            "unknown",
            expected(
                "uid=4242 gid=0(root) groups=0(root)",
                "/",
                "0",
                none,
                denied,
            ),
        ),
    ] {
        let found = std::fs::read_to_string(out.join(name)).unwrap();
        assert_eq!(found, text, "{name}");
    }
}

#[test]
fn priv_programs_of_mounts_change_the_user_as_with_buildkit() {
    if !root() || !peers(&["busybox"]) {
        return;
    }
    let sandbox = Sandbox::new();
    std::fs::create_dir_all(sandbox.path("context")).unwrap();
    std::fs::copy(busybox(), sandbox.path("context/busybox")).unwrap();
    let steps = [
        ("stage", "type=bind,from=tools,source=/t,target=/m"),
        ("writable", "type=bind,from=tools,source=/t,target=/m,rw"),
        ("file", "type=bind,from=tools,source=/t/su,target=/m/su"),
        ("cache", "type=cache,from=tools,source=/t,target=/m"),
    ];
    let run = |(name, mount): &(&str, &str)| {
        format!("RUN --mount={mount} /m/su -c id root > /out/{name} 2>&1; true\n")
    };
    sandbox.file(
        "context/Dockerfile",
        "FROM scratch AS tools
COPY --chmod=4755 busybox /t/su
FROM scratch AS base
COPY --chmod=755 busybox /bin/busybox
RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]
COPY <<passwd /etc/passwd
root::0:0:root:/root:/bin/sh
passwd
RUN mkdir -m 1777 /out
USER 1000
"
        .to_owned()
            + &steps.iter().map(run).collect::<String>()
            + "FROM scratch\nCOPY --from=base /out /\n",
    );
    let out = sandbox.path("out");
    sandbox.ok(["build", "--output", out.to_str().unwrap(), "context"]);
    for (name, _) in steps {
        let found = std::fs::read_to_string(out.join(name)).unwrap();
        assert_eq!(found, "uid=0 gid=0 groups=0\n", "{name}");
    }
}
