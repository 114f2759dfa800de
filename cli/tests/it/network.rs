//! The network of RUN, over real processes: pasta, in a machine of the test's own.
//!
//! That machine is a few namespaces: a "host" (network, mounts, processes) whose one way out is a
//! veth pair to a second network, "far", in which a web server and a name server answer. Nothing
//! beyond them is reached, and every process ends with the host's process ID namespace.

use std::path::Path;
use std::process::Command;

use crate::support::{Sandbox, WYTHE, busybox, containers, fail, peers, succeed};

const SHELL: &str = "FROM scratch AS base\nCOPY busybox /bin/busybox\n\
                     RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n";

/// A context, and a host to build it on; `None` where there can be none.
struct Host {
    sandbox: Sandbox,
}

impl Host {
    fn new(dockerfile: &str) -> Option<Self> {
        let programs = ["pasta", "python3", "ip", "nsenter", "ps", "busybox"];
        if !peers(&programs) {
            return None;
        }
        let sandbox = Sandbox::new();
        sandbox.file("context/Dockerfile", format!("{SHELL}{dockerfile}"));
        std::fs::copy(busybox(), sandbox.path("context/busybox")).unwrap();
        Some(Self { sandbox })
    }

    fn command(&self, script: &str) -> Command {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/network");
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--net", "--pid", "--fork", "--kill-child"])
            .args(["--mount-proc", "--propagation", "private"])
            .args(["bash", "-c", &format!(". $FIXTURES/host.sh\n{script}")])
            .current_dir(self.sandbox.path(""))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.sandbox.path(""))
            .env("FIXTURES", fixtures)
            .env("WYTHE", WYTHE);
        command
    }

    /// Runs a script on the host, which must succeed; what it printed.
    fn run(&self, script: &str) -> String {
        succeed(&mut self.command(script))
    }
}

#[test]
fn peer_a_step_reaches_the_outside_by_address_and_by_name() {
    let Some(host) = Host::new(
        "RUN wget -qO- http://198.51.100.1/ && wget -qO- 'http://[2001:db8::1]/'\n\
         RUN cat /etc/resolv.conf && wget -qO- http://far.test/\n\
         RUN ip -o link | wc -l\n",
    ) else {
        return;
    };
    let said = host.run(
        r#"
        online
        resolver 'nameserver 198.51.100.1' 'search a.test'
        wythe build --progress plain --no-cache context >one 2>&1 || { cat one; exit 1; }
        grep -q 'nameserver 198.51.100.1' one && grep -q 'search a.test' one || say 'resolv.conf'
        # A resolver of the host itself is reached through another address.
        umount /etc/resolv.conf
        resolver 'nameserver 127.0.0.53' 'options edns0'
        serve stub dns 127.0.0.53 198.51.100.1
        wythe build --progress plain --no-cache context >two 2>&1 || { cat two; exit 1; }
        grep -q 'nameserver 169.254.1.1' two && grep -q 'options edns0' two || say 'resolv.conf'
        for log in one two; do
          [ "$(grep -c '| far$' $log)" = 3 ] || { cat $log; say "$log: not everything was reached"; }
          ! grep -i warn $log || say 'a notice'
        done
        await none_left
        echo done
        "#,
    );
    assert!(said.ends_with("done\n"), "{said}");
}

#[test]
fn peer_every_rung_reaches_the_outside() {
    let Some(host) = Host::new("RUN wget -qO- http://198.51.100.1/\n") else {
        return;
    };
    if !peers(&["newuidmap", "setpriv"]) {
        return;
    }
    host.run(
        r#"
        online
        resolver 'nameserver 198.51.100.1'
        cp "$WYTHE" wythe; chmod 755 . wythe; chmod -R a+rX context
        mkdir device; mount -t tmpfs -o mode=755 tmpfs device
        mknod device/tun c 10 200; chmod 666 device/tun; mount --bind device/tun /dev/net/tun
        for kind in passwd subuid subgid; do cp /etc/$kind etc-$kind; done
        printf 'ranges:x:64998:64998::/:/bin/sh\nplain:x:64999:64999::/:/bin/sh\n' >>etc-passwd
        echo ranges:300000:65536 | tee -a etc-subuid >>etc-subgid
        for kind in passwd subuid subgid; do mount --bind etc-$kind /etc/$kind; done
        for uid in 64998 64999; do
          mkdir home-$uid; chown $uid:$uid home-$uid
          (cd home-$uid && HOME=$PWD setpriv --reuid=$uid --regid=$uid --clear-groups \
            ../wythe -D --root store build --network private --progress plain ../context) >log-$uid 2>&1 ||
            { cat log-$uid; exit 1; }
          grep -q '| far$' log-$uid || { cat log-$uid; say "$uid"; }
        done
        await none_left
        "#,
    );
}

#[test]
fn peer_a_container_reaches_nothing_of_the_host_itself() {
    let Some(host) = Host::new("") else {
        return;
    };
    let said = host.run(
        r#"
        online
        resolver 'nameserver 198.51.100.1'
        for address in 127.0.0.1 ::1; do
          serve tcp$address http $address 80 host
          serve udp$address echo $address 7
        done
        serve abstract abstract wythe-host
        # They are there for the host itself.
        python3 "$FIXTURES/attack.py" 198.51.100.1 198.51.100.2 >own
        for reached in 'tcp 127.0.0.1' 'udp 127.0.0.1' 'tcp ::1' 'udp ::1' 'the abstract socket'; do
          grep -qx "reached $reached" own || { cat own; say "no server: $reached"; }
        done
        wythe build -q -t app context >/dev/null 2>&1
        wythe run --rm --network private --cap-add ALL -v /usr:/usr:ro -v /lib:/lib:ro -v /lib64:/lib64:ro \
          -v "$FIXTURES:/fixtures:ro" app /usr/bin/python3 /fixtures/attack.py 198.51.100.1 198.51.100.2
        "#,
    );
    assert!(said.ends_with("done\n"), "{said}");
    // Its own gateway is far's web server, which is the outside.
    let reached: Vec<_> = said
        .lines()
        .filter(|line| line.starts_with("reached"))
        .collect();
    assert_eq!(reached, ["reached tcp 198.51.100.1"], "{said}");
}

#[test]
fn peer_steps_at_the_same_time_do_not_share_a_network() {
    let meet = |own: &str, other: &str| {
        format!(
            "FROM base AS {own}\n\
             RUN --mount=type=cache,target=/c readlink /proc/self/ns/net > /c/{own}.new; \
             nc -l -p 7000 & until netstat -ltn | grep -q :7000; do sleep 0.05; done; \
             mv /c/{own}.new /c/{own}; until [ -e /c/{other} ]; do sleep 0.05; done; \
             kill %1; ! cmp /c/{own} /c/{other}\n\
             RUN readlink /proc/self/ns/net > /{own} && ip -o link | grep -c eth0\n"
        )
    };
    let (left, right) = (meet("left", "right"), meet("right", "left"));
    let Some(host) = Host::new(&format!(
        "{left}{right}FROM base\nCOPY --from=left /left /\nCOPY --from=right /right /\n"
    )) else {
        return;
    };
    host.run(
        r#"
        online
        wythe build --jobs 2 --progress plain context >log 2>&1 || { cat log; exit 1; }
        [ "$(grep -c '| 1$' log)" = 2 ] || { cat log; say 'no network'; }
        await none_left
        "#,
    );
}

#[test]
fn peer_a_network_that_an_insecure_step_had_is_not_handed_on() {
    let Some(host) = Host::new(
        "RUN ip -o addr | grep -c 198.51.100.2\n\
         RUN --security=insecure ip addr add 203.0.113.9/32 dev lo && ip link set eth0 down\n\
         RUN ! ip -o addr | grep 203.0.113.9 && wget -qO- http://198.51.100.1/\n",
    ) else {
        return;
    };
    host.run(
        r#"
        online
        wythe build --allow security.insecure --progress plain context >log 2>&1 || { cat log; exit 1; }
        grep -q '| far$' log || { cat log; say 'no network'; }
        await none_left
        "#,
    );
}

#[test]
fn peer_whatever_ends_a_build_ends_its_network() {
    let Some(host) = Host::new("RUN echo running; sleep 1000\n") else {
        return;
    };
    host.run(
        r#"
        online
        for signal in KILL INT TERM; do
          setsid "$WYTHE" --root "$HOME/store" build --progress plain context >log 2>&1 & build=$!
          await grep -q '| running' log
          ! no_network_left >/dev/null || say 'no pasta'
          kill -$signal $build
          wait $build || true
          await none_left
        done
        # What pasta has of us: no variable, no file beyond its own, no privilege to gain any.
        setsid "$WYTHE" --root "$HOME/store" build --progress plain context >log 2>&1 & build=$!
        await grep -q '| running' log
        for pasta in $(ps -eo pid,comm | awk '$2 ~ /^pas/ {print $1}'); do
          [ -z "$(tr -d '\0' </proc/$pasta/environ)" ] || say 'environment'
          ls -l /proc/$pasta/fd >files
          ! grep -E 'store|context|memfd|ns/' files || say 'files'
        done
        # A pasta that dies takes its helpers along, and nothing else.
        pkill -KILL '^pas'
        await no_network_left
        kill -0 $build || say 'the build ended too'
        kill -KILL $build
        wait $build || true
        await none_left
        "#,
    );
}

#[test]
fn peer_a_pasta_that_dies_between_steps_is_replaced() {
    let Some(host) =
        Host::new("RUN echo running; sleep 1000 || true\nRUN wget -qO- http://198.51.100.1/\n")
    else {
        return;
    };
    host.run(
        r#"
        online
        wythe build --network private --progress plain context >log 2>&1 & build=$!
        await grep -q '| running' log
        pkill -KILL '^pas'
        await no_network_left
        await pkill -TERM -f '^sleep 1000'
        wait $build || { cat log; exit 1; }
        grep -q '| far$' log || { cat log; say 'no network'; }
        await none_left
        "#,
    );
}

#[test]
fn peer_without_pasta_steps_share_the_hosts_network_and_one_notice_says_so() {
    let Some(host) = Host::new(
        "RUN wget -qO- http://127.0.0.1/\nRUN --network=default ip -o addr | grep -c 198.51.100.2\n",
    ) else {
        return;
    };
    host.run(
        r#"
        online
        serve own http 127.0.0.1 80 host
        without() { PATH=/nowhere "$WYTHE" --root "$HOME/store" "$@"; }
        ! without build --network private context >log 2>&1 || say 'private without pasta'
        grep -q 'pasta is not installed' log && grep -q 'hint: install pasta' log || { cat log; say 'hint'; }
        without build --progress plain context >log 2>&1 || { cat log; exit 1; }
        grep -q '| host$' log || { cat log; say "not the host's"; }
        [ "$(grep -c 'pasta is not installed' log)" = 1 ] || { cat log; say 'one notice'; }
        # The network that a machine can give is no part of a key.
        wythe build context 2>&1 | grep -q 'nothing to do' || say 'another key'
        wythe build --network private context 2>&1 | grep -q 'nothing to do' || say 'another key'
        # Who needs no network hears of none.
        ! without build --network none --no-cache context >log 2>&1
        ! grep pasta log || say 'a notice'
        # A device that is not there, and a program that fails.
        mount -t tmpfs tmpfs /dev/net
        wythe build --no-cache context >log 2>&1 || { cat log; exit 1; }
        [ "$(grep -c '/dev/net/tun cannot be opened' log)" = 1 ] || { cat log; say 'one notice'; }
        umount /dev/net
        mkdir bin; printf '#!/bin/sh\necho first; echo no luck today >&2; exit 3\n' >bin/pasta; chmod +x bin/pasta
        PATH=$PWD/bin:$PATH wythe build --no-cache context >log 2>&1 || { cat log; exit 1; }
        [ "$(grep -c 'pasta does not start: no luck today' log)" = 1 ] || { cat log; say 'one notice'; }
        "#,
    );
}

/// A network in which there is nothing but loopback, as whoever runs the tests.
fn offline(sandbox: &Sandbox, script: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--net", "sh", "-ec", script])
        .current_dir(sandbox.path(""))
        .env("HOME", sandbox.path(""))
        .env_remove("WYTHE_BUILD_NETWORK")
        .env("WYTHE", WYTHE);
    command
}

#[test]
fn a_machine_that_is_offline_gives_loopback_and_says_so_only_when_it_matters() {
    if !containers() {
        return;
    }
    let sandbox = Sandbox::new();
    std::fs::create_dir_all(sandbox.path("context")).unwrap();
    std::fs::copy(busybox(), sandbox.path("context/busybox")).unwrap();
    sandbox.file("context/Dockerfile", format!("{SHELL}RUN ip -o link\n"));
    for mode in ["default", "private"] {
        let build = format!(
            "exec $WYTHE --root store build --no-cache --progress plain --network {mode} context 2>&1"
        );
        let log = succeed(&mut offline(&sandbox, &build));
        assert!(log.contains("| 1: lo: <LOOPBACK,UP"), "{log}");
        assert!(!log.contains("pasta") && !log.contains("| 2:"), "{log}");
    }
    sandbox.file(
        "context/Dockerfile",
        format!("{SHELL}RUN nc -w 5 192.0.2.1 80\n"),
    );
    let build = "exec $WYTHE --root store build context";
    let (_, log) = fail(&mut offline(&sandbox, build));
    assert!(log.contains("hint: this machine has no route"), "{log}");
    // Whoever asked for no network is told nothing.
    let build = "exec $WYTHE --root store build --network none context";
    let (_, log) = fail(&mut offline(&sandbox, build));
    assert!(
        log.contains("unreachable") && !log.contains("hint:"),
        "{log}"
    );
}

#[test]
fn a_private_network_is_an_error_where_there_is_no_pasta() {
    if !containers() || wythe_runtime::is_offline() {
        return;
    }
    let sandbox = Sandbox::new();
    std::fs::create_dir_all(sandbox.path("context")).unwrap();
    std::fs::copy(busybox(), sandbox.path("context/busybox")).unwrap();
    sandbox.file("context/Dockerfile", SHELL);
    let build = ["build", "--network", "private", "context"];
    let (_, log) = fail(sandbox.wythe(build).env("PATH", "/nowhere"));
    assert!(log.contains("because: pasta is not installed"), "{log}");
    assert!(log.contains("hint: install pasta"), "{log}");
    // Nothing is looked for where no step runs, or none with this network.
    sandbox.ok(["build", "--network", "none", "-t", "app", "context"]);
    sandbox.file(
        "context/Dockerfile",
        "FROM app\nCOPY Dockerfile /\nRUN --network=none test -e /Dockerfile\n",
    );
    succeed(sandbox.wythe(build).env("PATH", "/nowhere"));
    let run = ["run", "--rm", "--network", "private", "app", "true"];
    let (code, log) = fail(sandbox.wythe(run).env("PATH", "/nowhere"));
    assert!(
        code == 125 && log.contains("pasta is not installed"),
        "{log}"
    );
}
