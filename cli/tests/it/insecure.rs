//! `RUN --security=insecure`: what the machine's owner allows a step, and nobody else.

use std::path::{Path, PathBuf};

use crate::support::{Sandbox, busybox, containers, peers, root};

/// A context with a static busybox, whose stage `base` has it installed and a user.
fn context(sandbox: &Sandbox, steps: &str) -> PathBuf {
    let dockerfile = format!(
        "FROM scratch AS base\n\
         COPY --chmod=755 busybox /bin/busybox\n\
         RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n\
         RUN mkdir -m 1777 /out /tmp && mkdir /mnt\n\
         {steps}\
         FROM scratch\nCOPY --from=base /out /\n"
    );
    sandbox.file("context/Dockerfile", dockerfile);
    let context = sandbox.path("context");
    std::fs::copy(busybox(), context.join("busybox")).unwrap();
    context
}

/// Builds with the entitlement; the folder that the steps wrote into.
fn build(sandbox: &Sandbox, context: &Path) -> PathBuf {
    let out = sandbox.path("out");
    let output = format!("type=local,dest={}", out.display());
    let context = context.to_str().unwrap();
    let allow = ["--allow", "security.insecure"];
    let args = ["build", allow[0], allow[1], "--output", &output, context];
    sandbox.ok(args);
    out
}

#[test]
fn priv_insecure_steps_attach_files_and_mount_them() {
    if !root() || !peers(&["busybox"]) {
        return;
    }
    if !Path::new("/dev/loop-control").exists() {
        eprintln!("SKIPPED priv_insecure_steps_attach_files_and_mount_them: needs loop devices");
        return;
    }
    let sandbox = Sandbox::new();
    // The same as another user, who has the capabilities too.
    let step = |name: &str| {
        format!(
            "RUN --security=insecure set -e; \
             mount -t tmpfs none /mnt; echo in memory > /mnt/file; cp /mnt/file /out/{name}; umount /mnt; \
             dd if=/dev/zero of=/tmp/disk-{name} bs=1M count=2 2>/dev/null; \
             for try in 1 2 3 4 5 6 7 8; do \
             device=$(losetup -f); losetup $device /tmp/disk-{name} && break; done; trap \"losetup -d $device\" EXIT; \
             echo on a disk > /tmp/text; dd if=/tmp/text of=$device 2>/dev/null; sync; \
             head -n 1 /tmp/disk-{name} >> /out/{name}; rm /tmp/text\n"
        )
    };
    let context = context(
        &sandbox,
        &format!("{}USER 1000\n{}", step("root"), step("user")),
    );
    let out = build(&sandbox, &context);
    for name in ["root", "user"] {
        let text = std::fs::read_to_string(out.join(name)).unwrap();
        assert_eq!(text, "in memory\non a disk\n", "{name}");
    }
}

#[test]
fn priv_only_insecure_steps_have_the_machine() {
    if !root() || !peers(&["busybox"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let look = "grep -e ^Cap -e ^Seccomp: /proc/self/status; \
        for name in loop0 loop-control kmsg fuse net/tun; do ls /dev/$name; done 2>/dev/null; \
        grep -o ' /sys r[ow]' /proc/self/mountinfo; \
        grep -c ' /proc/' /proc/self/mountinfo; \
        mount -t tmpfs none /mnt 2>/dev/null && echo mounted && umount /mnt; \
        unshare -U true 2>/dev/null && echo unshared; \
        mknod /tmp/node c 1 3 2>/dev/null && (: > /tmp/node) 2>/dev/null && echo opened; rm -f /tmp/node; true";
    let mut steps = String::new();
    for (user, number) in [("root", 0), ("user", 1000)] {
        steps += &format!("USER {number}\n");
        steps += &format!("RUN --security=insecure ({look}) > /out/insecure-{user}\n");
        steps += &format!("RUN --security=sandbox ({look}) > /out/sandbox-{user}\n");
        steps += &format!("RUN ({look}) > /out/default-{user}\n");
    }
    let context = context(&sandbox, &steps);
    let out = build(&sandbox, &context);
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("CapPrm:"));
    let own = own.unwrap().trim();
    let devices = "/dev/loop0\n/dev/loop-control\n/dev/kmsg\n/dev/fuse\n/dev/net/tun\n";
    let all = format!(
        "CapInh:\t{own}\nCapPrm:\t{own}\nCapEff:\t{own}\nCapBnd:\t{own}\nCapAmb:\t{own}\n\
         Seccomp:\t0\n{devices} /sys rw\n0\nmounted\nunshared\nopened\n"
    );
    assert_eq!(read("insecure-root"), all);
    assert_eq!(read("insecure-user"), all);
    for user in ["root", "user"] {
        let found = read(&format!("default-{user}"));
        assert_eq!(found, read(&format!("sandbox-{user}")));
        let held = if user == "root" {
            "00000000a80425fb"
        } else {
            "0000000000000000"
        };
        let expected = format!(
            "CapInh:\t0000000000000000\nCapPrm:\t{held}\nCapEff:\t{held}\n\
             CapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\nSeccomp:\t2\n /sys ro\n"
        );
        let masks = found.strip_prefix(&expected);
        let masks = masks.unwrap_or_else(|| panic!("{user}: {found}"));
        assert!(
            masks.trim().parse::<u32>().is_ok_and(|count| count > 4),
            "{found}"
        );
    }
}

#[test]
fn insecure_steps_are_refused_unless_they_are_allowed() {
    if !containers() {
        return;
    }
    let sandbox = Sandbox::new();
    let dockerfile = "FROM scratch\nRUN --security=insecure [\"/greet\"]\n";
    sandbox.file("context/Dockerfile", dockerfile);
    let context = sandbox.path("context");
    let message = sandbox.fails(["build", context.to_str().unwrap()]).1;
    assert!(message.contains("--allow security.insecure"), "{message}");
}
