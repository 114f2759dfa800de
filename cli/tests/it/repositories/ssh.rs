//! Repositories over ssh, from a real `sshd`.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::servers::Repository;
use crate::support::{Sandbox, fail, is_root, programs_here, succeed, unused_address, wait_for};

/// `sshd` of this user on loopback, and an agent with the one key that it knows.
struct Ssh {
    server: Child,
    agent: Child,
    socket: PathBuf,
    address: SocketAddr,
    user: String,
}

impl Ssh {
    fn new(sandbox: &Sandbox) -> Self {
        let folder = sandbox.path("ssh");
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["host", "user"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
            succeed(keygen.arg(folder.join(name)));
        }
        if is_root() {
            // Where root's sshd wants an empty directory.
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        let address = unused_address();
        let (ip, port) = (address.ip(), address.port());
        let shown = folder.display();
        let config = sandbox.file(
            "ssh/config",
            format!(
                "Port {port}\nListenAddress {ip}\nHostKey {shown}/host\nPidFile none\n\
                 AuthorizedKeysFile {shown}/user.pub\nStrictModes no\nUsePAM no\n\
                 PasswordAuthentication no\nPermitRootLogin yes\nSetEnv PATH={}\n",
                std::env::var("PATH").unwrap()
            ),
        );
        // It must be called by its whole path, for it calls itself.
        let server = Command::new("/usr/sbin/sshd")
            .args(["-D", "-f"])
            .arg(config)
            .arg("-E")
            .arg(folder.join("log"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("sshd", || std::net::TcpStream::connect(address).is_ok());
        let socket = folder.join("agent");
        let agent = Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(&socket)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("ssh-agent", || UnixStream::connect(&socket).is_ok());
        let mut add = Command::new("ssh-add");
        add.env("SSH_AUTH_SOCK", &socket).stderr(Stdio::null());
        succeed(add.arg("-q").arg(folder.join("user")));
        let user = succeed(Command::new("id").arg("-un")).trim().to_owned();
        Self {
            server,
            agent,
            socket,
            address,
            user,
        }
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        for child in [&mut self.server, &mut self.agent] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn peer_ssh_uses_the_agent_that_was_given_and_no_key() {
    if !programs_here(&["git", "ssh", "ssh-agent", "ssh-keygen"])
        || !std::path::Path::new("/usr/sbin/sshd").exists() && !programs_here(&["sshd"])
    {
        return;
    }
    let sandbox = Sandbox::new();
    let repository = Repository::new(&sandbox, "repo");
    repository.file("f", "x");
    repository.file("Dockerfile", "FROM scratch\nCOPY f /\n");
    repository.commit("one");
    let ssh = Ssh::new(&sandbox);
    let url = format!(
        "ssh://{}@{}{}",
        ssh.user,
        ssh.address,
        repository.directory.display()
    );
    sandbox.file("context/Dockerfile", format!("FROM scratch\nADD {url} /\n"));
    let agent = format!("default={}", ssh.socket.display());
    let build = ["build", "-q", "--no-cache", "context"];
    let with = |args: &[&str]| sandbox.wythe([args, &["--ssh", &agent]].concat());
    succeed(&mut with(&build));
    // A Dockerfile has no agent but the one that it was given, even if there is one.
    let (_, log) = fail(sandbox.wythe(build).env("SSH_AUTH_SOCK", &ssh.socket));
    assert!(log.contains("ssh agent \"default\" is required"), "{log}");
    // People who name a repository mean their own.
    let context = ["build", "-q", "--no-cache", &url];
    succeed(sandbox.wythe(context).env("SSH_AUTH_SOCK", &ssh.socket));
    let (_, log) = sandbox.fails(context);
    assert!(log.contains("SSH_AUTH_SOCK is not set"), "{log}");
    // Keys in the user's folder are not read: an agent without keys opens nothing.
    let home = sandbox.path(".ssh");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::copy(sandbox.path("ssh/user"), home.join("id_ed25519")).unwrap();
    let mut remove = Command::new("ssh-add");
    remove
        .env("SSH_AUTH_SOCK", &ssh.socket)
        .stderr(Stdio::null());
    succeed(remove.arg("-D"));
    let (_, log) = fail(&mut with(&build));
    assert!(log.contains("Permission denied"), "{log}");
    let mut add = Command::new("ssh-add");
    add.env("SSH_AUTH_SOCK", &ssh.socket).stderr(Stdio::null());
    succeed(add.arg("-q").arg(sandbox.path("ssh/user")));
    // A host that the user knows by another key is not that host; nothing is written there.
    let known = format!(
        "[{}]:{} {}",
        ssh.address.ip(),
        ssh.address.port(),
        std::fs::read_to_string(sandbox.path("ssh/user.pub")).unwrap()
    );
    let file = sandbox.file(".ssh/known_hosts", &known);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (_, log) = fail(&mut with(&build));
    assert!(
        log.contains("Host key verification failed") || log.contains("IDENTIFICATION"),
        "{log}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), known);
    std::fs::remove_file(&file).unwrap();
    succeed(&mut with(&build));
    assert!(!file.exists());
}
