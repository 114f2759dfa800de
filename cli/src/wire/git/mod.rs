//! Repositories of other machines, by the `git` program.
//!
//! A repository is hostile input: the program gets no configuration of the user or the system, runs
//! no hook and no filter, asks for no password, reads no key, speaks only https, ssh, git and (as
//! Docker has it) plain http, in submodules and redirects too, and never sees an untrusted word
//! where an option could stand. What opens a repository is in the environment of the program, not
//! among its arguments, which everybody on the machine can read.

mod checkout;
mod refs;
mod run;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::NamedTempFile;
use wythe_builder::{
    Agent, Cancel, CheckedOut, GitAuthorization, GitCheckout, GitCommit, GitRemote, is_commit,
};

use super::agent::Forwarder;

/// Protocols that submodules may use (`GIT_ALLOW_PROTOCOL`).
const PROTOCOLS: &str = "https:http:ssh:git";

/// What `git` needs of the machine.
#[derive(Debug)]
pub(crate) struct Git {
    /// `PATH`, and proxies: everything else is left out.
    environment: Vec<(&'static str, OsString)>,
    /// Keys of hosts that the user knows already.
    known_hosts: Option<PathBuf>,
    /// Where temporary files are.
    scratch: PathBuf,
    /// Keys of hosts that this process has met.
    met_hosts: OnceLock<Option<NamedTempFile>>,
    /// The agent that has the keys of `--ssh`, once it was needed.
    keys: OnceLock<Option<Forwarder>>,
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
    /// A file of a checkout could not be changed.
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Someone asked to stop.
    Cancelled,
}

impl fmt::Display for GitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(_) => f.write_str("cannot start git, which repositories need"),
            Self::Failed { what, message } => write!(f, "git {what} failed: {message}"),
            Self::Refused { text, reason } => write!(f, "{text:?} is refused: {reason}"),
            Self::NoRef(name) => write!(f, "repository does not contain ref {name:?}"),
            Self::File { path, .. } => write!(f, "cannot change {}", path.display()),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl std::error::Error for GitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Start(source) | Self::File { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl Git {
    /// `home` is where the user's `.ssh/known_hosts` is looked for; nothing else of it is read.
    pub(crate) fn new(
        environment: Vec<(&'static str, OsString)>,
        home: Option<&Path>,
        scratch: PathBuf,
    ) -> Self {
        Self {
            environment,
            known_hosts: home.map(|home| home.join(".ssh/known_hosts")),
            scratch,
            met_hosts: OnceLock::new(),
            keys: OnceLock::new(),
        }
    }

    /// What a ref names now.
    pub(crate) fn find_commit(
        &self,
        remote: &GitRemote<'_>,
        cancel: &Cancel,
    ) -> Result<GitCommit, GitError> {
        let address = check_address(&remote.repository.address())?;
        let mut command = self.command(remote, Path::new("/"));
        command.arg("ls-remote");
        let Some(name) = remote.name else {
            command.args(["--symref", "--", &address, "HEAD"]);
            let listing = run::run(command, "ls-remote", cancel)?;
            return refs::default_branch(&listing)
                .ok_or_else(|| GitError::NoRef("HEAD".to_owned()));
        };
        check_name(name)?;
        // Patterns of ls-remote match the ends of refs; what is meant is chosen below.
        command.args(["--", &address, name, &format!("{name}^{{}}")]);
        let listing = run::run(command, "ls-remote", cancel)?;
        refs::choose(&listing, name).ok_or_else(|| GitError::NoRef(name.to_owned()))
    }

    /// Puts the files of a commit into an empty directory.
    pub(crate) fn checkout(
        &self,
        wanted: &GitCheckout<'_>,
        into: &Path,
        cancel: &Cancel,
    ) -> Result<CheckedOut, GitError> {
        let address = check_address(&wanted.remote.repository.address())?;
        for word in [&wanted.commit.commit, &wanted.commit.object] {
            if !is_commit(word) {
                return Err(GitError::Refused {
                    text: word.clone(),
                    reason: "it is not a commit",
                });
            }
        }
        if let Some(name) = &wanted.commit.reference {
            check_name(name)?;
        }
        checkout::checkout(self, wanted, &address, into, cancel)
    }

    fn command(&self, remote: &GitRemote<'_>, directory: &Path) -> Command {
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
            ("GIT_SSH_VARIANT", "ssh"),
            (
                "GIT_ALLOW_PROTOCOL",
                protocols(&remote.repository.address()),
            ),
            ("GIT_LFS_SKIP_SMUDGE", "1"),
            // Neither hooks of this machine, nor any in the image.
            ("GIT_TEMPLATE_DIR", ""),
            ("GIT_CEILING_DIRECTORIES", "/"),
            ("HOME", "/nonexistent"),
            ("LC_ALL", "C"),
        ] {
            command.env(name, value);
        }
        let agent = remote.ssh_agent.and_then(|agent| self.socket(agent));
        command.env("GIT_SSH_COMMAND", self.ssh(agent.is_some()));
        if let Some(agent) = agent {
            command.env("SSH_AUTH_SOCK", agent);
        }
        if let Some(authorization) = &remote.authorization {
            authorize(&mut command, authorization);
        }
        for setting in [
            "core.hooksPath=/dev/null",
            "core.fsmonitor=false",
            "core.symlinks=true",
            "core.autocrlf=false",
            "core.logAllRefUpdates=false",
            "core.attributesFile=/dev/null",
            "core.excludesFile=/dev/null",
            "credential.helper=",
            "protocol.allow=never",
            "protocol.https.allow=always",
            "protocol.http.allow=always",
            "protocol.ssh.allow=always",
            "protocol.git.allow=always",
            "advice.detachedHead=false",
            "gc.auto=0",
            "maintenance.auto=false",
            "pack.writeReverseIndex=false",
            "safe.bareRepository=explicit",
            "safe.directory=*",
        ] {
            command.args(["-c", setting]);
        }
        command
    }

    /// Where ssh finds the agent. There is only one for repositories.
    fn socket(&self, agent: &Agent) -> Option<PathBuf> {
        if let Agent::Socket(path) | Agent::RawSocket(path) = agent {
            return Some(path.clone());
        }
        let keys = self.keys.get_or_init(|| {
            let started = Forwarder::start(agent, &self.scratch, 0o600, (0, 0));
            started
                .inspect_err(|error| tracing::warn!(%error, "the keys of --ssh cannot be used"))
                .ok()
        });
        keys.as_ref().map(Forwarder::socket)
    }

    /// `GIT_SSH_COMMAND`, which a shell reads. No key of the user is touched; keys of hosts that
    /// the user knows count, others are taken as they are, as BuildKit does, but kept for the
    /// next connection only.
    fn ssh(&self, has_agent: bool) -> String {
        let met = self.met_hosts.get_or_init(|| {
            let file = tempfile::Builder::new()
                .prefix("wythe-hosts-")
                .tempfile_in(&self.scratch);
            file.ok()
        });
        let files = met.iter().map(NamedTempFile::path);
        let files: Vec<String> = files
            .chain(self.known_hosts.as_deref())
            .filter_map(Path::to_str)
            .filter(|path| !path.contains(['\'', '"', '\\', '\n']))
            .map(|path| format!("\"{}\"", path.replace('%', "%%")))
            .collect();
        let known = if files.is_empty() {
            "/dev/null".to_owned()
        } else {
            files.join(" ")
        };
        let agent = if has_agent { "SSH_AUTH_SOCK" } else { "none" };
        format!(
            "ssh -F /dev/null -o BatchMode=yes -o IdentityFile=none -o IdentityAgent={agent} \
             -o ClearAllForwardings=yes -o ControlPath=none -o UpdateHostKeys=no \
             -o StrictHostKeyChecking=accept-new -o 'UserKnownHostsFile={known}'"
        )
    }
}

/// What a repository may be reached by, redirects included: from https to nothing less.
fn protocols(address: &str) -> &'static str {
    match address.split_once("://") {
        Some(("https", _)) => "https",
        Some(("http", _)) => "http:https",
        Some(("git", _)) => "git",
        _ => "ssh",
    }
}

/// Gives the header to requests below its scope. git repeats it to wherever it was redirected, so
/// there it follows nobody.
fn authorize(command: &mut Command, authorization: &GitAuthorization) {
    use std::os::unix::ffi::OsStringExt as _;
    let scope = &authorization.scope;
    let mut header = b"Authorization: ".to_vec();
    header.extend_from_slice(authorization.header.expose());
    let header = OsString::from_vec(header);
    for (number, (key, value)) in [
        (format!("http.{scope}.extraHeader"), header),
        (format!("http.{scope}.followRedirects"), "false".into()),
    ]
    .into_iter()
    .enumerate()
    {
        command.env(format!("GIT_CONFIG_KEY_{number}"), key);
        command.env(format!("GIT_CONFIG_VALUE_{number}"), value);
    }
    command.env("GIT_CONFIG_COUNT", "2");
}

/// Addresses come out of Dockerfiles: none may be an option, a helper (`ext::`) or a local path.
fn check_address(address: &str) -> Result<String, GitError> {
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
        let (user, host) = host.rsplit_once('@').unwrap_or(("", host));
        // CVE-2017-1000117: a host that ssh takes for an option.
        if host.is_empty() || host.starts_with('-') || user.starts_with('-') {
            return refuse("it has no host");
        }
        return Ok(address.to_owned());
    }
    match address.split_once(':') {
        Some((host, path))
            if host.contains('@')
                && !host.contains("@-")
                && !path.starts_with(':')
                && !host.contains('/') =>
        {
            Ok(address.to_owned())
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
            "git@-oProxyCommand=x:y",
            "-oProxyCommand=x@y:z",
            "ssh://-oProxyCommand=x/a",
            "ssh://-oProxyCommand=x@y/a",
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
    fn a_repository_is_reached_by_nothing_less_than_its_address_says() {
        for (address, expected) in [
            ("https://x.example/a.git", "https"),
            ("http://x.example/a.git", "http:https"),
            ("git://x.example/a", "git"),
            ("ssh://git@x.example/a", "ssh"),
            ("git@x.example:a", "ssh"),
        ] {
            let place = wythe_builder::GitPlace::parse(address).unwrap().unwrap();
            let remote = GitRemote {
                repository: &place.repository,
                name: None,
                authorization: None,
                ssh_agent: None,
            };
            let git = Git::new(Vec::new(), None, "/nonexistent".into());
            let command = git.command(&remote, Path::new("/"));
            let name = std::ffi::OsStr::new("GIT_ALLOW_PROTOCOL");
            let found = command.get_envs().find(|(known, _)| *known == name);
            assert_eq!(found.unwrap().1, Some(expected.as_ref()), "{address}");
        }
    }

    #[test]
    fn ssh_reads_no_key_and_quotes_what_the_shell_sees() {
        let git = Git::new(
            Vec::new(),
            Some(Path::new("/home/a b%c")),
            "/nonexistent".into(),
        );
        let command = git.ssh(false);
        assert!(command.contains("-o IdentityFile=none -o IdentityAgent=none"));
        assert!(command.ends_with("-o 'UserKnownHostsFile=\"/home/a b%%c/.ssh/known_hosts\"'"));
        assert!(git.ssh(true).contains("-o IdentityAgent=SSH_AUTH_SOCK"));
        let odd = Git::new(
            Vec::new(),
            Some(Path::new("/x'; touch y; '")),
            "/nonexistent".into(),
        );
        assert!(odd.ssh(true).ends_with("-o 'UserKnownHostsFile=/dev/null'"));
    }
}
