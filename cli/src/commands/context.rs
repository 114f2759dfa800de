//! The build context in all its forms, made a directory.
//!
//! What is not a directory already (a stream, an archive, an address) goes into a temporary one
//! that is removed when the build is over, however it ends. Archives are hostile: they are unpacked
//! by the same code as layers, which never leaves the directory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;
use wythe_builder::{
    Agent, Cancel, GitCheckout, GitPlace, GitRemote, GitTimes, RemoteAnswer, RemoteRequest,
    RemoteSource, Secret,
};
use wythe_layers::tar::TarReader;
use wythe_layers::tree::{Applier, ApplyOptions, EntryKind, Flavour, NoLower, RootDir};

use crate::settings::Settings;
use crate::wire;

/// Enough to tell an archive from a Dockerfile, in bytes: one tar header.
const HEAD_BYTES: usize = 512;
/// Largest Dockerfile that is read from a pipe or an address, in bytes: people type them.
const MAX_DOCKERFILE_BYTES: u64 = 16 << 20;

/// Where a context is, by what was given on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A directory of this machine.
    Directory(PathBuf),
    /// An archive of this machine.
    Archive(PathBuf),
    /// Standard input: an archive, or a Dockerfile alone.
    Stdin,
    /// A repository.
    Git(GitPlace),
    /// A file over http or https: an archive, or a Dockerfile alone.
    Http(String),
}

/// What came of a place.
#[derive(Debug)]
pub(crate) enum Found {
    /// Files.
    Directory(Files),
    /// A Dockerfile alone.
    Dockerfile(Vec<u8>, Option<i64>),
}

/// Files of a place.
#[derive(Debug)]
pub(crate) struct Files {
    /// Where they are.
    pub(crate) directory: PathBuf,
    /// Of a temporary directory, its keeper.
    pub(crate) keeper: Option<TempDir>,
    /// When they came to be, in seconds since 1970, for `SOURCE_DATE_EPOCH=context`: only what is
    /// from elsewhere has such a time.
    pub(crate) time: Option<i64>,
}

/// What opens places of other machines.
#[derive(Debug, Default)]
pub(crate) struct Access {
    /// `--secret`.
    pub(crate) secrets: BTreeMap<String, Secret>,
    /// The agent, for repositories over ssh.
    pub(crate) ssh_agent: Option<Agent>,
    /// Files of repositories get the commit's time.
    pub(crate) commit_times: bool,
}

impl Place {
    /// Understands a context argument.
    pub(crate) fn parse(text: &Path) -> anyhow::Result<Self> {
        if text == Path::new("-") {
            return Ok(Self::Stdin);
        }
        if text.is_dir() {
            return Ok(Self::Directory(text.to_owned()));
        }
        if let Some(text) = text.to_str() {
            if let Some(place) = GitPlace::parse_context(text).with_context(|| text.to_owned())? {
                return Ok(Self::Git(place));
            }
            if text.starts_with("http://") || text.starts_with("https://") {
                return Ok(Self::Http(text.to_owned()));
            }
        }
        if text.is_file() {
            return Ok(Self::Archive(text.to_owned()));
        }
        bail!("the build context {} is not a directory", text.display())
    }

    /// Whether there is anything to be fetched or unpacked.
    pub(crate) fn is_directory(&self) -> bool {
        matches!(self, Self::Directory(_))
    }

    /// Fetches and unpacks what there is.
    pub(crate) fn get(
        &self,
        settings: &Settings,
        access: &Access,
        cancel: &Cancel,
    ) -> anyhow::Result<Found> {
        match self {
            Self::Directory(path) => Ok(Found::Directory(Files {
                directory: path.clone(),
                keeper: None,
                time: None,
            })),
            Self::Stdin => {
                let shown = "cannot use the build context from standard input";
                content(settings, std::io::stdin(), Time::None, cancel).context(shown)
            }
            Self::Archive(path) => {
                let shown = || format!("cannot use the build context {}", path.display());
                let file = File::open(path).with_context(shown)?;
                match content(settings, file, Time::None, cancel).with_context(shown)? {
                    found @ Found::Directory(..) => Ok(found),
                    Found::Dockerfile(..) => bail!(
                        "the build context {} is neither a directory nor an archive",
                        path.display()
                    ),
                }
            }
            Self::Http(url) => {
                let safe = url.split(['?', '#']).next().unwrap_or_default();
                let shown = || format!("cannot get the build context {safe}");
                http(settings, url, access, cancel).with_context(shown)
            }
            Self::Git(place) => {
                let shown = || format!("cannot get the build context {}", place.repository);
                git(settings, place, access, cancel).with_context(shown)
            }
        }
    }
}

fn http(settings: &Settings, url: &str, access: &Access, cancel: &Cancel) -> anyhow::Result<Found> {
    let wanted = RemoteRequest {
        url,
        authorization: wythe_builder::http_authorization(url, &access.secrets),
        ..RemoteRequest::default()
    };
    let answer = wire::remote(settings)?.open_http(&wanted);
    match answer.map_err(anyhow::Error::from_boxed)? {
        RemoteAnswer::File(file) => {
            let time = match file.modified {
                Some(time) => Time::Known(time.seconds),
                None => Time::Newest,
            };
            content(settings, file.body, time, cancel)
        }
        RemoteAnswer::Unchanged => bail!("the server says that nothing changed"),
    }
}

fn git(
    settings: &Settings,
    place: &GitPlace,
    access: &Access,
    cancel: &Cancel,
) -> anyhow::Result<Found> {
    let remote = wire::remote(settings)?;
    let is_ssh = place.repository.is_ssh();
    let ask = GitRemote {
        repository: &place.repository,
        name: place.name.as_deref(),
        authorization: place
            .repository
            .authorization(|name| access.secrets.get(name)),
        ssh_agent: access.ssh_agent.as_ref().filter(|_| is_ssh),
    };
    ensure!(
        !is_ssh || ask.ssh_agent.is_some(),
        "it is reached by ssh, and there is no agent: SSH_AUTH_SOCK is not set"
    );
    let commit = match place.known_commit()? {
        Some(commit) => commit,
        None => remote
            .find_commit(&ask, cancel)
            .map_err(anyhow::Error::from_boxed)?,
    };
    place.check(&commit)?;
    let directory = temporary(settings)?;
    let wanted = GitCheckout {
        remote: ask,
        commit: &commit,
        keep_git_dir: place.keeps_git_dir(),
        submodules: place.submodules,
        times: if access.commit_times {
            GitTimes::Commit
        } else {
            place.times
        },
    };
    let done = remote
        .checkout(&wanted, directory.path(), cancel)
        .map_err(anyhow::Error::from_boxed)?;
    Ok(Found::Directory(Files {
        directory: place.find_directory(directory.path())?,
        keeper: Some(directory),
        time: Some(done.committed.seconds),
    }))
}

fn temporary(settings: &Settings) -> anyhow::Result<TempDir> {
    let scratch = wire::scratch(settings);
    let made = tempfile::Builder::new()
        .prefix("wythe-context-")
        .tempdir_in(&scratch);
    made.with_context(|| format!("cannot create a directory in {}", scratch.display()))
}

/// A reader that ends with an error once someone asked to stop.
struct Stoppable<'a, R> {
    inner: R,
    cancel: &'a Cancel,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(std::io::Error::other(wythe_builder::Error::Cancelled));
        }
        self.inner.read(buffer)
    }
}

/// What time a context has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Time {
    /// Anything of this machine: none.
    None,
    /// What the server says.
    Known(i64),
    /// Of an archive whose server does not say, that of its newest file.
    Newest,
}

impl Time {
    fn known(self) -> Option<i64> {
        match self {
            Self::Known(seconds) => Some(seconds),
            Self::None | Self::Newest => None,
        }
    }
}

/// An archive, unpacked, or else a Dockerfile; told by its content.
fn content(
    settings: &Settings,
    reader: impl Read + Send,
    time: Time,
    cancel: &Cancel,
) -> anyhow::Result<Found> {
    let mut reader = BufReader::with_capacity(
        128 << 10,
        Stoppable {
            inner: reader,
            cancel,
        },
    );
    let compressed = {
        let head = reader.fill_buf()?;
        ensure!(!head.is_empty(), "it is empty");
        [&b"\x1f\x8b"[..], b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\0"]
            .iter()
            .any(|magic| head.starts_with(magic))
    };
    // A pipe gives less than a block at times.
    let mut head = Vec::new();
    if !compressed {
        let limit = u64::try_from(HEAD_BYTES).unwrap_or(u64::MAX);
        reader.by_ref().take(limit).read_to_end(&mut head)?;
        if !is_tar(&head) {
            reader
                .take(MAX_DOCKERFILE_BYTES + 1)
                .read_to_end(&mut head)?;
            ensure!(
                head.len() as u64 <= MAX_DOCKERFILE_BYTES,
                "it is no archive, and larger than any Dockerfile"
            );
            return Ok(Found::Dockerfile(head, time.known()));
        }
    }
    let directory = temporary(settings)?;
    let whole = std::io::Cursor::new(head).chain(reader);
    let newest = unpack(wythe_builder::decompress(whole)?, directory.path())?;
    Ok(Found::Directory(Files {
        directory: directory.path().to_owned(),
        keeper: Some(directory),
        time: if time == Time::Newest {
            newest
        } else {
            time.known()
        },
    }))
}

/// `ustar` of POSIX and GNU, or an old header whose checksum is right.
fn is_tar(head: &[u8]) -> bool {
    let (Some(magic), Some(sum)) = (head.get(257..262), head.get(148..156)) else {
        return false;
    };
    if magic == b"ustar" {
        return true;
    }
    let text = String::from_utf8_lossy(sum);
    let expected = u64::from_str_radix(text.trim_matches(['\0', ' ']), 8);
    let actual = head.iter().enumerate().map(|(at, byte)| match at {
        148..156 => u64::from(b' '),
        _ => u64::from(*byte),
    });
    head.len() == HEAD_BYTES && expected.is_ok_and(|expected| expected == actual.sum::<u64>())
}

/// Applies an archive's entries below a directory: owners and devices are nobody's business here.
/// The time of the newest regular file.
fn unpack(stream: impl Read, directory: &Path) -> anyhow::Result<Option<i64>> {
    let root = RootDir::open(directory)?;
    let options = ApplyOptions {
        lower: Some(&NoLower),
        ..ApplyOptions::default()
    };
    let mut applier = Applier::new(root, Flavour::SingleId, options)?;
    let mut reader = TarReader::new(stream);
    let mut newest = None;
    while let Some((entry, mut content)) = reader.next_entry()? {
        if matches!(entry.kind, EntryKind::File { .. }) {
            newest = newest.max(Some(entry.mtime.seconds));
        }
        if entry.kind.is_mark() {
            // In a layer it would hide a file; here it is an odd name.
            continue;
        }
        applier.apply(entry, &mut content)?;
    }
    applier.finish()?;
    Ok(newest)
}
