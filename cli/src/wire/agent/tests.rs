//! OpenSSH's own programs as clients, and its agent behind.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

use super::*;

/// Whether OpenSSH is there; where CI requires peers its absence is a failure.
fn openssh(test: &str) -> bool {
    let there = Command::new("ssh-keygen").arg("-?").output().is_ok();
    let required = std::env::var("WYTHE_REQUIRE").is_ok_and(|list| list.contains("peer"));
    assert!(there || !required, "{test} needs ssh-keygen");
    if !there {
        eprintln!("SKIPPED {test}: needs ssh-keygen");
    }
    there
}

struct Scene {
    directory: TempDir,
}

impl Scene {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run<A: AsRef<OsStr>>(&self, socket: &Path, program: &str, args: &[A]) -> Output {
        let mut command = Command::new(program);
        command
            .args(args)
            .env("SSH_AUTH_SOCK", socket)
            .current_dir(self.directory.path());
        command.stdin(Stdio::null()).output().unwrap()
    }

    fn ok(&self, socket: &Path, program: &str, args: &[&str]) -> String {
        let output = self.run(socket, program, args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success(),
            "{program} {args:?}: {text}{errors}"
        );
        text
    }

    /// Makes a key pair `name`, `name.pub`.
    fn key(&self, name: &str, args: &[&str]) {
        let args = [&["-q", "-f", name, "-C", name], args].concat();
        self.ok(Path::new(""), "ssh-keygen", &args);
    }

    fn forward(&self, agent: &Agent) -> Forwarder {
        Forwarder::start(agent, self.directory.path(), 0o600, (0, 0)).unwrap()
    }

    /// Signs with what is behind the socket, and has the signature checked.
    fn signs(&self, socket: &Path, key: &str) {
        let public = format!("{key}.pub");
        std::fs::write(self.path("message"), "to be signed").unwrap();
        let _ = std::fs::remove_file(self.path("message.sig"));
        // Without the private key's file, so that nobody else can have signed.
        let aside = self.path("aside");
        std::fs::rename(self.path(key), &aside).unwrap();
        self.ok(
            socket,
            "ssh-keygen",
            &["-q", "-Y", "sign", "-n", "file", "-f", &public, "message"],
        );
        std::fs::rename(&aside, self.path(key)).unwrap();
        let mut check = Command::new("ssh-keygen");
        check.args(["-Y", "check-novalidate", "-n", "file", "-s", "message.sig"]);
        check
            .stdin(File::open(self.path("message")).unwrap())
            .current_dir(self.directory.path());
        let output = check.output().unwrap();
        assert!(output.status.success(), "{key}: {output:?}");
    }
}

#[test]
fn peer_openssh_signs_with_keys_from_files() {
    if !openssh("peer_openssh_signs_with_keys_from_files") {
        return;
    }
    let scene = Scene::new();
    let kinds: [(&str, &[&str]); 7] = [
        ("ed25519", &["-N", "", "-t", "ed25519"]),
        ("p256", &["-N", "", "-t", "ecdsa", "-b", "256"]),
        ("p384", &["-N", "", "-t", "ecdsa", "-b", "384"]),
        ("p521", &["-N", "", "-t", "ecdsa", "-b", "521"]),
        ("rsa", &["-N", "", "-t", "rsa", "-b", "2048"]),
        (
            "rsa-pkcs1",
            &["-N", "", "-t", "rsa", "-b", "2048", "-m", "PEM"],
        ),
        (
            "rsa-pkcs8",
            &["-N", "", "-t", "rsa", "-b", "2048", "-m", "PKCS8"],
        ),
    ];
    for (name, args) in kinds {
        scene.key(name, args);
    }
    let paths = kinds.map(|(name, _)| scene.path(name));
    let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    let forwarder = scene.forward(&agent(&paths, false).unwrap());
    let socket = forwarder.socket();
    let list = scene.ok(&socket, "ssh-add", &["-L"]);
    for (name, _) in kinds {
        let public = std::fs::read_to_string(scene.path(&format!("{name}.pub"))).unwrap();
        let blob = public.split(' ').nth(1).unwrap();
        assert!(list.contains(blob), "{name}: {list}");
        scene.signs(&socket, name);
    }
    scene.key("other", &["-N", "", "-t", "ed25519"]);
    assert!(!scene.run(&socket, "ssh-add", &["other"]).status.success());
    assert_eq!(scene.ok(&socket, "ssh-add", &["-L"]), list);
}

#[test]
fn peer_openssh_keys_whose_number_begins_with_zeros_sign() {
    if !openssh("peer_openssh_keys_whose_number_begins_with_zeros_sign") {
        return;
    }
    let scene = Scene::new();
    // One of four is such a key.
    let name = (0..200)
        .map(|number| format!("p521-{number}"))
        .find(|name| {
            scene.key(name, &["-N", "", "-t", "ecdsa", "-b", "521"]);
            let file = std::fs::read_to_string(scene.path(name)).unwrap();
            short_scalar::lengthened(&file).is_some()
        })
        .unwrap();
    let forwarder = scene.forward(&agent(&[&scene.path(&name)], false).unwrap());
    scene.signs(&forwarder.socket(), &name);
}

#[test]
fn peer_openssh_agent_is_asked_and_not_changed() {
    if !openssh("peer_openssh_agent_is_asked_and_not_changed") {
        return;
    }
    let scene = Scene::new();
    scene.key("mine", &["-N", "", "-t", "ed25519"]);
    scene.key("theirs", &["-N", "", "-t", "ed25519"]);
    let real = scene.path("agent");
    let mut daemon = Command::new("ssh-agent")
        .args(["-D", "-a"])
        .arg(&real)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while UnixStream::connect(&real).is_err() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    scene.ok(&real, "ssh-add", &["-q", "mine"]);
    let before = scene.ok(&real, "ssh-add", &["-L"]);

    let forwarder = scene.forward(&agent(&[&real], false).unwrap());
    let socket = forwarder.socket();
    assert_eq!(scene.ok(&socket, "ssh-add", &["-L"]), before);
    scene.signs(&socket, "mine");
    // What a hostile step might try.
    for args in [&["-D"][..], &["-d", "mine"], &["theirs"], &["-X"]] {
        assert!(
            !scene.run(&socket, "ssh-add", args).status.success(),
            "{args:?}"
        );
    }
    assert_eq!(scene.ok(&real, "ssh-add", &["-L"]), before);

    // raw=true passes everything on.
    let raw = scene.forward(&agent(&[&real], true).unwrap());
    scene.ok(&raw.socket(), "ssh-add", &["-D", "-q"]);
    assert!(!scene.run(&real, "ssh-add", &["-L"]).status.success());
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[test]
fn what_is_neither_socket_nor_usable_key_is_refused_without_showing_it() {
    let scene = Scene::new();
    let secret = "AAAAsecretsecret";
    let texts = [
        ("empty", String::new(), "neither a socket nor a private key"),
        (
            "text",
            secret.to_owned(),
            "neither a socket nor a private key",
        ),
        (
            "broken",
            format!(
                "-----BEGIN OPENSSH PRIVATE KEY-----\n{secret}\n-----END OPENSSH PRIVATE KEY-----\n"
            ),
            "cannot be read",
        ),
        (
            "ec",
            format!("-----BEGIN EC PRIVATE KEY-----\n{secret}\n-----END EC PRIVATE KEY-----\n"),
            "ssh-keygen -p",
        ),
        (
            "locked",
            format!(
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n{secret}\n-----END RSA PRIVATE KEY-----\n"
            ),
            "passphrase",
        ),
        (
            "locked8",
            format!(
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\n{secret}\n-----END ENCRYPTED PRIVATE KEY-----\n"
            ),
            "passphrase",
        ),
    ];
    for (name, text, expected) in texts {
        std::fs::write(scene.path(name), text).unwrap();
        let path = scene.path(name);
        let error = format!("{:#}", agent(&[&path], false).unwrap_err());
        assert!(error.contains(expected), "{name}: {error}");
        assert!(error.contains(&*path.to_string_lossy()), "{name}: {error}");
        assert!(!error.contains("secret"), "{name}: {error}");
        assert!(agent(&[&path], true).is_err(), "{name}");
    }
    let missing = scene.path("missing");
    assert!(format!("{:#}", agent(&[&missing], false).unwrap_err()).contains("No such file"));
    let socket = scene.path("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let text = scene.path("text");
    assert!(agent(&[&socket, &text], false).is_err());
}
