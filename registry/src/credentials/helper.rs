//! The docker-credential-helpers protocol: `docker-credential-NAME get|store|erase`, with an end.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::Credential;
use crate::error::{Error, Result};
use crate::secret::Secret;

/// How long a helper may take: it may have to ask a person, or a cloud.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the output may stay open after the helper has ended.
const GRACE: Duration = Duration::from_secs(2);
/// Largest answer read, in bytes.
const MAX_ANSWER_BYTES: u64 = 1 << 20;
/// How often a running helper is looked at.
const POLL: Duration = Duration::from_millis(5);
/// The user name by which a helper says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// The credential that a helper keeps for `server`; `None` when it keeps none.
pub(super) fn get(helper: &str, server: &str, path: Option<&OsStr>) -> Result<Option<Credential>> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let output = match run(helper, "get", server.as_bytes(), path, PATIENCE)? {
        Ok(output) => output,
        // Every helper says absence in these words; there is no code for it.
        Err(said) if said.to_ascii_lowercase().contains("credentials not found") => {
            return Ok(None);
        }
        Err(said) => return Err(failed(helper, said)),
    };
    let answer: Answer = serde_json::from_slice(&output)
        .map_err(|_| failed(helper, "its answer is not a credential".into()))?;
    if answer.username.is_empty() && answer.secret.is_empty() {
        return Ok(None);
    }
    Ok(Some(if answer.username == TOKEN_USER {
        Credential::IdentityToken(Secret::new(answer.secret))
    } else {
        Credential::Basic {
            username: answer.username,
            password: Secret::new(answer.secret),
        }
    }))
}

/// Gives a helper a credential to keep.
pub(super) fn store(
    helper: &str,
    server: &str,
    credential: &Credential,
    path: Option<&OsStr>,
) -> Result<()> {
    let (username, secret) = match credential {
        Credential::Basic { username, password } => (username.as_str(), password),
        Credential::IdentityToken(token) | Credential::RegistryToken(token) => (TOKEN_USER, token),
    };
    let message = serde_json::json!({
        "ServerURL": server,
        "Username": username,
        "Secret": secret.expose(),
    });
    run(
        helper,
        "store",
        message.to_string().as_bytes(),
        path,
        PATIENCE,
    )?
    .map(|_| ())
    .map_err(|said| failed(helper, said))
}

/// Makes a helper forget; `false` when it kept nothing.
pub(super) fn erase(helper: &str, server: &str, path: Option<&OsStr>) -> Result<bool> {
    if get(helper, server, path)?.is_none() {
        return Ok(false);
    }
    run(helper, "erase", server.as_bytes(), path, PATIENCE)?
        .map(|_| true)
        .map_err(|said| failed(helper, said))
}

fn failed(helper: &str, reason: String) -> Error {
    Error::Helper {
        helper: program(helper),
        reason,
    }
}

fn program(helper: &str) -> String {
    format!("docker-credential-{helper}")
}

/// Runs a helper: its output, or what it said when it failed.
fn run(
    helper: &str,
    verb: &str,
    input: &[u8],
    path: Option<&OsStr>,
    patience: Duration,
) -> Result<std::result::Result<Vec<u8>, String>> {
    if helper.is_empty() || helper.contains('/') {
        return Err(failed(helper, "its name is not a program's".into()));
    }
    let mut command = Command::new(program(helper));
    command
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let mut child = command.spawn().map_err(|error| {
        failed(
            helper,
            match error.kind() {
                std::io::ErrorKind::NotFound => "it is not installed".into(),
                _ => format!("it cannot be started: {error}"),
            },
        )
    })?;
    // The threads are not waited for without end: a helper's own child may hold the pipes open.
    let stdin = child.stdin.take();
    let input = input.to_vec();
    // A helper that does not read its input may still answer.
    std::thread::spawn(move || stdin.map(|mut pipe| pipe.write_all(&input)));
    let stdout = child.stdout.take();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut output = Vec::new();
        let read = stdout.map(|pipe| pipe.take(MAX_ANSWER_BYTES).read_to_end(&mut output));
        // Nobody listens any more when the helper took too long.
        let _ = sender.send(read.transpose().map(|_| output));
    });
    let status = wait(&mut child, patience)
        .map_err(|error| failed(helper, format!("it cannot be waited for: {error}")))?
        .ok_or_else(|| failed(helper, format!("no answer in {} s", patience.as_secs())))?;
    let output = receiver
        .recv_timeout(GRACE)
        .ok()
        .and_then(std::result::Result::ok)
        .ok_or_else(|| failed(helper, "its answer cannot be read".into()))?;
    if status.success() {
        return Ok(Ok(output));
    }
    let said = String::from_utf8_lossy(&output);
    let said: String = said.chars().filter(|c| !c.is_control()).take(300).collect();
    Ok(Err(if said.is_empty() {
        status.to_string()
    } else {
        said
    }))
}

/// Waits, and kills what does not end; `None` then.
fn wait(
    child: &mut Child,
    patience: Duration,
) -> std::io::Result<Option<std::process::ExitStatus>> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begun.elapsed() > patience {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::write_program;
    use super::*;

    #[test]
    fn helpers_that_hang_are_ended() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("docker-credential-slow");
        let mut path = directory.path().as_os_str().to_owned();
        path.push(":/bin:/usr/bin");
        for (script, patience, said) in [
            ("exec sleep 1000", Duration::from_millis(200), "no answer"),
            // What is said shows that nobody waited for the end of the output.
            ("sleep 30 & exit 0", PATIENCE, "cannot be read"),
        ] {
            write_program(&program, script);
            let error = run("slow", "get", b"x", Some(&path), patience).unwrap_err();
            assert!(error.to_string().contains(said), "{script}: {error}");
        }
    }
}
