//! Repositories of other machines, by the `git` program.
//!
//! A repository is hostile input: the program gets no configuration of the user or the system, runs
//! no hook, asks for no password, speaks only https, ssh, git and (as Docker has it) plain http,
//! in submodules and redirects too, and never sees an untrusted word where an option could stand.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use wythe_builder::{Cancel, GitCheckout};

/// How often a running `git` is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Longest answer of `ls-remote` that is read, in bytes: repositories with many refs have megabytes.
const MAX_REFS_BYTES: u64 = 64 << 20;
/// Of what git says on standard error, this much is shown, in bytes.
const MAX_MESSAGE_BYTES: u64 = 4096;

/// What `git` needs of the environment.
#[derive(Debug)]
pub(crate) struct Git {
    /// `PATH`, and proxies: everything else is left out.
    environment: Vec<(&'static str, OsString)>,
}

/// `git` did not do what was asked.
#[derive(Debug)]
pub(crate) enum GitError {
    /// It could not be started.
    Start(io::Error),
    /// It failed.
    Failed {
        /// What was tried.
        what: &'static str,
        /// What it says.
        message: String,
    },
    /// An address or a name that is not one.
    Refused {
        /// The word.
        text: String,
        /// Why.
        reason: &'static str,
    },
    /// The repository lacks the ref.
    NoRef(String),
    /// Someone asked to stop.
    Cancelled,
}

impl fmt::Display for GitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(_) => f.write_str("cannot start git, which repositories need"),
            Self::Failed { what, message } => write!(f, "git {what} failed: {message}"),
            Self::Refused { text, reason } => write!(f, "{text:?} is refused: {reason}"),
            Self::NoRef(name) => write!(f, "the repository has no ref {name:?}"),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl std::error::Error for GitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Start(source) => Some(source),
            _ => None,
        }
    }
}

impl Git {
    pub(crate) fn new(environment: Vec<(&'static str, OsString)>) -> Self {
        Self { environment }
    }

    /// The commit that a ref names.
    pub(crate) fn find_commit(
        &self,
        repository: &str,
        name: Option<&str>,
    ) -> Result<String, GitError> {
        check_address(repository)?;
        let name = name.unwrap_or("HEAD");
        check_name(name)?;
        if is_commit(name) {
            return Ok(name.to_owned());
        }
        let mut command = self.command(Path::new("/"));
        command.args(["ls-remote", "--", repository]);
        // Patterns of ls-remote match the ends of refs; what is meant is chosen below.
        command.args([name.to_owned(), format!("{name}^{{}}")]);
        let listing = run(command, "ls-remote", &Cancel::default())?;
        choose_ref(&listing, name).ok_or_else(|| GitError::NoRef(name.to_owned()))
    }

    /// Puts the files of a commit into an empty directory.
    pub(crate) fn checkout(
        &self,
        wanted: &GitCheckout<'_>,
        into: &Path,
        cancel: &Cancel,
    ) -> Result<(), GitError> {
        check_address(wanted.repository)?;
        if !is_commit(wanted.commit) {
            return Err(GitError::Refused {
                text: wanted.commit.to_owned(),
                reason: "it is not a commit",
            });
        }
        let git = |args: &[&str], what| {
            let mut command = self.command(into);
            command.args(args);
            run(command, what, cancel)
        };
        git(
            &[
                "init",
                "--quiet",
                "--template=",
                "--initial-branch=main",
                ".",
            ],
            "init",
        )?;
        git(
            &["remote", "add", "--", "origin", wanted.repository],
            "remote add",
        )?;
        let fetch = [
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-recurse-submodules",
            "--update-shallow",
        ];
        let shallow = [&fetch[..], &["--depth=1", "--", "origin", wanted.commit]].concat();
        if let Err(error) = git(&shallow, "fetch") {
            if matches!(error, GitError::Cancelled | GitError::Start(_)) {
                return Err(error);
            }
            // Old servers give only what a ref names, "dumb" ones nothing in part.
            let all = ["--", "origin", "+refs/*:refs/wythe/*"];
            git(&[&fetch[..], &all].concat(), "fetch")?;
        }
        git(
            &[
                "checkout",
                "--quiet",
                "--force",
                "--detach",
                wanted.commit,
                "--",
            ],
            "checkout",
        )?;
        if wanted.submodules {
            let update = [
                "submodule",
                "update",
                "--init",
                "--recursive",
                "--quiet",
                "--depth=1",
            ];
            git(&update, "submodule update")?;
        }
        if !wanted.keep_git_dir {
            remove_git_dirs(into)?;
        }
        Ok(())
    }

    fn command(&self, directory: &Path) -> Command {
        // Files get the modes that Docker's have, whatever this process's mask is.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "umask 022; exec git \"$@\"", "git"]);
        command.env_clear().current_dir(directory);
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        for (name, value) in [
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", "true"),
            ("SSH_ASKPASS", "true"),
            ("GIT_SSH_COMMAND", "ssh -F /dev/null -o BatchMode=yes"),
            ("GIT_ALLOW_PROTOCOL", "https:http:ssh:git"),
            ("GIT_LFS_SKIP_SMUDGE", "1"),
            ("GIT_CEILING_DIRECTORIES", "/"),
            ("HOME", "/nonexistent"),
            ("LC_ALL", "C"),
        ] {
            command.env(name, value);
        }
        for setting in [
            "core.hooksPath=/dev/null",
            "core.fsmonitor=false",
            "core.symlinks=true",
            "core.autocrlf=false",
            "credential.helper=",
            "protocol.allow=never",
            "protocol.https.allow=always",
            "protocol.http.allow=always",
            "protocol.ssh.allow=always",
            "protocol.git.allow=always",
            "advice.detachedHead=false",
            "gc.auto=0",
            "safe.directory=*",
        ] {
            command.args(["-c", setting]);
        }
        command
    }
}

/// Runs to the end, or until `cancel`; standard output.
fn run(mut command: Command, what: &'static str, cancel: &Cancel) -> Result<String, GitError> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(GitError::Start)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let read = |pipe: Option<&mut dyn io::Read>, limit: u64| {
        let mut text = Vec::new();
        if let Some(pipe) = pipe {
            let _ = pipe.take(limit).read_to_end(&mut text);
            // The rest must go somewhere, or git waits for ever.
            let _ = io::copy(pipe, &mut io::sink());
        }
        String::from_utf8_lossy(&text).into_owned()
    };
    let (status, output, message) = std::thread::scope(|scope| {
        let output = scope.spawn(move || {
            let mut stdout = stdout;
            read(stdout.as_mut().map(|pipe| pipe as _), MAX_REFS_BYTES)
        });
        let message = scope.spawn(move || {
            let mut stderr = stderr;
            read(stderr.as_mut().map(|pipe| pipe as _), MAX_MESSAGE_BYTES)
        });
        let status = wait(&mut child, cancel);
        (
            status,
            output.join().unwrap_or_default(),
            message.join().unwrap_or_default(),
        )
    });
    let status = status
        .map_err(GitError::Start)?
        .ok_or(GitError::Cancelled)?;
    if status.success() {
        return Ok(output);
    }
    if status.code() == Some(127) {
        return Err(GitError::Start(io::ErrorKind::NotFound.into()));
    }
    let message: Vec<&str> = message.lines().map(str::trim).collect();
    Err(GitError::Failed {
        what,
        message: message.join("; ").escape_debug().to_string(),
    })
}

/// `None` when it was ended because of `cancel`.
fn wait(child: &mut Child, cancel: &Cancel) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if cancel.is_cancelled() {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Takes away `.git` of the checkout and of its submodules.
fn remove_git_dirs(top: &Path) -> Result<(), GitError> {
    let mut todo = vec![top.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(&directory).map_err(GitError::Start)? {
            let entry = entry.map_err(GitError::Start)?;
            let kind = entry.file_type().map_err(GitError::Start)?;
            let path: PathBuf = entry.path();
            match (entry.file_name() == ".git", kind.is_dir()) {
                (true, true) => std::fs::remove_dir_all(&path).map_err(GitError::Start)?,
                (true, false) => std::fs::remove_file(&path).map_err(GitError::Start)?,
                (false, true) => todo.push(path),
                (false, false) => {}
            }
        }
    }
    Ok(())
}

/// The commit of a ref among lines of `ls-remote`, in the order in which git itself looks (gitrevisions(7));
/// of an annotated tag what it marks.
fn choose_ref(listing: &str, name: &str) -> Option<String> {
    let find = |wanted: &str| {
        listing.lines().find_map(|line| {
            let (commit, found) = line.split_once('\t')?;
            (found == wanted && is_commit(commit)).then(|| commit.to_owned())
        })
    };
    ["", "refs/", "refs/tags/", "refs/heads/"]
        .iter()
        .map(|prefix| format!("{prefix}{name}"))
        .find_map(|full| find(&format!("{full}^{{}}")).or_else(|| find(&full)))
}

/// Whether this is a commit's full name.
fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64)
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Addresses come out of Dockerfiles: none may be an option, a helper (`ext::`) or a local path.
fn check_address(address: &str) -> Result<(), GitError> {
    let refuse = |reason| {
        let (text, reason) = (address.to_owned(), reason);
        Err(GitError::Refused { text, reason })
    };
    if address.starts_with('-') || address.chars().any(char::is_control) {
        return refuse("it is no address");
    }
    let schemes = ["https://", "http://", "ssh://", "git://"];
    if let Some(rest) = schemes
        .iter()
        .find_map(|scheme| address.strip_prefix(scheme))
    {
        let host = rest.split('/').next().unwrap_or_default();
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        // CVE-2017-1000117: a host that ssh takes for an option.
        if host.is_empty() || host.starts_with('-') {
            return refuse("it has no host");
        }
        return Ok(());
    }
    match address.split_once(':') {
        Some((host, path))
            if host.contains('@') && !path.starts_with(':') && !host.contains('/') =>
        {
            Ok(())
        }
        _ => refuse("repositories are reached by https, http, ssh or git"),
    }
}

/// Refs come out of Dockerfiles too (git-check-ref-format(1)).
fn check_name(name: &str) -> Result<(), GitError> {
    let bad = name.is_empty()
        || name.starts_with('-')
        || name.contains("..")
        || name
            .chars()
            .any(|c| c.is_control() || " ~^:?*[\\".contains(c));
    if !bad {
        return Ok(());
    }
    Err(GitError::Refused {
        text: name.to_owned(),
        reason: "it is not the name of a ref",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_refs_are_no_options_and_no_helpers() {
        for good in [
            "https://x.example/a.git",
            "ssh://git@x.example/a.git",
            "git@x.example:a/b.git",
            "git://x.example/a",
        ] {
            assert!(check_address(good).is_ok(), "{good}");
        }
        for bad in [
            "--upload-pack=touch /tmp/x",
            "ext::sh -c touch% /tmp/x",
            "git@x::y",
            "ssh://-oProxyCommand=x/a",
            "ssh://git@-oProxyCommand=x/a",
            "file:///etc",
            "/etc",
            "../x",
            "https:///x",
            "https://x\n/y",
        ] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
        for bad in ["", "-x", "a..b", "a b", "a:b", "x^{}", "a\n"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_tag_goes_before_a_branch_and_means_its_commit() {
        let (a, b, c) = ("a".repeat(40), "b".repeat(40), "c".repeat(40));
        let listing = format!(
            "{a}\trefs/heads/v1\n{b}\trefs/tags/v1\n{c}\trefs/tags/v1^{{}}\n{b}\trefs/heads/x/v1\n"
        );
        assert_eq!(choose_ref(&listing, "v1"), Some(c));
        assert_eq!(choose_ref(&listing, "refs/heads/v1"), Some(a));
        assert_eq!(choose_ref(&listing, "v2"), None);
    }
}
