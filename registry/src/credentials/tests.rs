use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;

fn basic(username: &str, password: &str) -> Credential {
    Credential::Basic {
        username: username.into(),
        password: Secret::new(password),
    }
}

fn shown(credential: Option<Credential>) -> String {
    match credential {
        None => "-".into(),
        Some(Credential::Basic { username, password }) => {
            format!("{username}:{}", password.expose())
        }
        Some(Credential::IdentityToken(token)) => format!("identity {}", token.expose()),
        Some(Credential::RegistryToken(token)) => format!("registry {}", token.expose()),
    }
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn only(file: &Path) -> CredentialEnvironment {
    CredentialEnvironment {
        registry_auth_file: Some(file.to_owned()),
        ..CredentialEnvironment::default()
    }
}

/// A script that can be run at once. A process of its own writes it: nothing can be run while it is
/// open for writing, and what another test is just starting has copies of all that is open here.
pub(super) fn write_program(path: &Path, script: &str) {
    let mut writer = Command::new("/bin/sh")
        .args(["-c", "cat >\"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let text = format!("#!/bin/sh\n{script}\n");
    writer
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    assert!(writer.wait().unwrap().success());
}

/// A helper that keeps its secrets in a directory.
fn helper(directory: &Path, name: &str, script: &str) -> CredentialEnvironment {
    let program = directory.join(format!("docker-credential-{name}"));
    write_program(&program, script);
    let mut path = directory.as_os_str().to_owned();
    path.push(":/bin:/usr/bin");
    CredentialEnvironment {
        docker_config: Some(directory.join("docker")),
        path: Some(path),
        ..CredentialEnvironment::default()
    }
}

#[test]
fn the_longest_key_that_covers_a_name_counts() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("auth.json");
    // base64 of "user-a:pw:with:colons", "b:b", "hub:h"
    write(
        &file,
        r#"{"auths":{
            "reg.example":{"auth":"dXNlci1hOnB3OndpdGg6Y29sb25z"},
            "reg.example/team":{"username":"t","password":"p"},
            "reg.example/team/token":{"identitytoken":"idt","auth":"YjpiCg=="},
            "https://old.example/v1/":{"auth":"Yjpi"},
            "https://index.docker.io/v1/":{"auth":"aHViOmg"},
            "REG2.example:5000":{"registrytoken":"rt"},
            "empty.example":{}
        },"unknown":1}"#,
    );
    let environment = only(&file);
    for (name, expected) in [
        ("reg.example", "user-a:pw:with:colons"),
        ("reg.example/other/x", "user-a:pw:with:colons"),
        ("reg.example/teamwork", "user-a:pw:with:colons"),
        ("reg.example/team", "t:p"),
        ("reg.example/team/x", "t:p"),
        ("reg.example/team/token", "identity idt"),
        ("old.example/x", "b:b"),
        ("docker.io/library/ubuntu", "hub:h"),
        ("reg2.example:5000/x", "registry rt"),
        ("reg2.example/x", "-"),
        ("empty.example", "-"),
        ("example", "-"),
    ] {
        assert_eq!(shown(environment.find(name).unwrap()), expected, "{name}");
    }
}

#[test]
fn explicit_files_go_before_customary_ones() {
    let directory = tempfile::tempdir().unwrap();
    let d = directory.path();
    let entry =
        |user: &str| format!(r#"{{"auths":{{"r":{{"username":"{user}","password":"p"}}}}}}"#);
    let all = CredentialEnvironment {
        registry_auth_file: Some(d.join("explicit.json")),
        docker_config: Some(d.join("docker")),
        xdg_runtime_dir: Some(d.join("run")),
        home: Some(d.join("home")),
        path: None,
    };
    let found = |environment: &CredentialEnvironment| shown(environment.find("r").unwrap());
    assert_eq!(found(&all), "-");
    let rest = CredentialEnvironment {
        registry_auth_file: None,
        ..all.clone()
    };
    for (place, user) in [
        ("home/.docker/config.json", "1"),
        ("home/.config/containers/auth.json", "2"),
        ("run/containers/auth.json", "3"),
        ("docker/config.json", "4"),
    ] {
        write(&d.join(place), &entry(user));
        assert_eq!(found(&rest), format!("{user}:p"));
        assert_eq!(found(&all), "-", "an explicit file is the only one");
    }
    write(&d.join("explicit.json"), &entry("5"));
    assert_eq!(found(&all), "5:p");
}

#[test]
fn a_login_keeps_everything_else_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sub/config.json");
    let environment = only(&file);
    let stored = environment
        .store("reg.example:5000", &basic("me", "p:w"))
        .unwrap();
    assert_eq!(stored, Stored::File(file.clone()));
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    write(
        &file,
        r#"{"HttpHeaders":{"X":"y"},"auths":{"other":{"auth":"YjpiCg==","strange":[1]}},"psFormat":"z"}"#,
    );
    environment
        .store("docker.io", &basic("hub", "secret"))
        .unwrap();
    environment
        .store("other2", &Credential::IdentityToken(Secret::new("tok")))
        .unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    for kept in ["HttpHeaders", "strange", "psFormat", "index.docker.io/v1"] {
        assert!(text.contains(kept), "{kept}: {text}");
    }
    assert_eq!(
        shown(environment.find("docker.io/library/x").unwrap()),
        "hub:secret"
    );
    // An independent reader understands it.
    let bytes = std::fs::read(&file).unwrap();
    let read = |server| docker_credential::get_credential_from_reader(&*bytes, server).unwrap();
    assert_eq!(
        read("https://index.docker.io/v1/"),
        docker_credential::DockerCredential::UsernamePassword("hub".into(), "secret".into())
    );
    assert_eq!(
        read("other2"),
        docker_credential::DockerCredential::IdentityToken("tok".into())
    );
    assert_eq!(environment.erase("docker.io").unwrap().len(), 1);
    assert!(environment.erase("docker.io").unwrap().is_empty());
    assert_eq!(shown(environment.find("docker.io/x/y").unwrap()), "-");
    assert_eq!(
        std::fs::read_dir(file.parent().unwrap()).unwrap().count(),
        1,
        "no temporary files stay"
    );
}

#[test]
fn a_linked_file_stays_a_link() {
    let directory = tempfile::tempdir().unwrap();
    let real = directory.path().join("dotfiles/config.json");
    write(&real, "{}");
    let link = directory.path().join("config.json");
    std::os::unix::fs::symlink(&real, &link).unwrap();
    only(&link).store("r", &basic("u", "p")).unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(std::fs::read_to_string(&real).unwrap().contains("auths"));
}

#[test]
fn helpers_are_asked_told_and_made_to_forget() {
    let directory = tempfile::tempdir().unwrap();
    let d = directory.path();
    let script = format!(
        r#"cd {} || exit 1
case "$1" in
get) read -r server || :; f=$(echo "$server" | tr / _)
     if [ -f "$f.secret" ]; then cat "$f.secret"; else echo "credentials not found in native keychain"; exit 1; fi;;
store) cat > stored; cp stored reg.example.secret;;
erase) read -r server || :; rm "$(echo "$server" | tr / _).secret";;
esac"#,
        d.display()
    );
    let environment = helper(d, "test", &script);
    write(
        &d.join("docker/config.json"),
        r#"{"credsStore":"test","credHelpers":{"special.example":"test"}}"#,
    );
    assert_eq!(shown(environment.find("reg.example/x").unwrap()), "-");
    let stored = environment
        .store("reg.example", &basic("me", "pw"))
        .unwrap();
    assert_eq!(stored, Stored::Helper("test".into()));
    assert_eq!(shown(environment.find("reg.example/x/y").unwrap()), "me:pw");
    let text = std::fs::read_to_string(d.join("docker/config.json")).unwrap();
    assert!(text.contains("\"reg.example\": {}"), "{text}");
    assert!(!text.contains("pw"), "{text}");
    assert_eq!(
        environment.erase("reg.example").unwrap(),
        [Stored::Helper("test".into())]
    );
    assert_eq!(shown(environment.find("reg.example").unwrap()), "-");
    write(
        &d.join("special.example.secret"),
        r#"{"ServerURL":"special.example","Username":"<token>","Secret":"idt"}"#,
    );
    assert_eq!(
        shown(environment.find("special.example/x").unwrap()),
        "identity idt"
    );
}

#[test]
fn helpers_that_fail_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let d = directory.path();
    for (script, said) in [
        ("echo broken; exit 3", "broken"),
        ("exit 3", "exit status: 3"),
        ("echo nonsense", "not a credential"),
        ("exec 0<&-; yes", "yyyy"),
    ] {
        let environment = helper(d, "bad", script);
        write(&d.join("docker/config.json"), r#"{"credsStore":"bad"}"#);
        let error = environment.find("r.example").unwrap_err().to_string();
        assert!(error.contains("docker-credential-bad"), "{error}");
        assert!(error.contains(said), "{script}: {error}");
    }
    for name in ["absent", "../bad", "a/b"] {
        let environment = helper(d, "bad", "");
        write(
            &d.join("docker/config.json"),
            &format!(r#"{{"credsStore":"{name}"}}"#),
        );
        assert!(environment.find("r.example").is_err(), "{name}");
    }
}

#[test]
fn broken_files_are_refused_without_showing_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.json");
    let environment = only(&file);
    for text in [
        r#"{"auths":{"r":{"auth":"!!hunter2!!"}}}"#,
        r#"{"auths":{"r":{"auth":"aHVudGVyMg=="}}}"#,
        r#"{"auths":{"r":{"auth":7}}}"#,
        r#"{"auths":[]}"#,
        "hunter2",
    ] {
        write(&file, text);
        let error = environment.find("r").unwrap_err();
        let debug = format!("{error:?} {error}");
        assert!(!debug.contains("hunter2"), "{debug}");
        assert!(!debug.contains("aHVudGVyMg"), "{debug}");
    }
    write(&file, r#"{"auths":[1]}"#);
    assert!(environment.store("r", &basic("u", "p")).is_err());
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        r#"{"auths":[1]}"#,
        "a file that is not understood stays as it is"
    );
    write(&file, "  \n");
    assert_eq!(shown(environment.find("r").unwrap()), "-");
    environment.store("r", &basic("u", "p")).unwrap();
}
