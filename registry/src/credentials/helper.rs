//! The docker-credential-helpers protocol: `docker-credential-NAME get|store|erase`, with an end.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Credential;
use crate::error::{Error, Result};
use crate::secret::Secret;

/// How long a helper may take: it may have to ask a person, or a cloud.
const PATIENCE: Duration = Duration::from_secs(60);
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
    let output = match run(helper, "get", server.as_bytes(), path)? {
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
    run(helper, "store", message.to_string().as_bytes(), path)?
        .map(|_| ())
        .map_err(|said| failed(helper, said))
}

/// Makes a helper forget; `false` when it kept nothing.
pub(super) fn erase(helper: &str, server: &str, path: Option<&OsStr>) -> Result<bool> {
    if get(helper, server, path)?.is_none() {
        return Ok(false);
    }
    run(helper, "erase", server.as_bytes(), path)?
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
    let stdin = child.stdin.take();
    let stdout = child.stdout.take();
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            // A helper that does not read its input may still answer.
            let _ = stdin.map(|mut pipe| pipe.write_all(input));
        });
        let reader = scope.spawn(move || {
            let mut output = Vec::new();
            let read = stdout.map(|pipe| pipe.take(MAX_ANSWER_BYTES).read_to_end(&mut output));
            read.transpose().map(|_| output)
        });
        let ended = wait(&mut child);
        let _ = writer.join();
        let output = reader.join();
        let status = ended
            .map_err(|error| failed(helper, format!("it cannot be waited for: {error}")))?
            .ok_or_else(|| failed(helper, format!("no answer in {} s", PATIENCE.as_secs())))?;
        let output = output
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
    })
}

/// Waits, and kills what does not end; `None` then.
fn wait(child: &mut Child) -> std::io::Result<Option<std::process::ExitStatus>> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begun.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(POLL);
    }
}
