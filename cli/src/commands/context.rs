//! The build context in all its forms, made a directory.
//!
//! What is not a directory already (a stream, an archive, an address) goes into a temporary one
//! that is removed when the build is over, however it ends. Archives are hostile: they are unpacked
//! by the same code as layers, which never leaves the directory.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;
use wythe_builder::{Cancel, GitCheckout, RemoteAnswer, RemoteRequest, RemoteSource};
use wythe_layers::tar::TarReader;
use wythe_layers::tree::{Applier, ApplyOptions, Flavour, NoLower, RootDir};

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

/// A directory of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GitPlace {
    /// Its address.
    pub(crate) repository: String,
    /// Branch, tag, other ref or commit.
    pub(crate) name: Option<String>,
    /// A directory in it.
    pub(crate) directory: Option<String>,
    /// What the commit's name must begin with.
    pub(crate) checksum: Option<String>,
    /// Whether `.git` stays.
    pub(crate) keep_git_dir: bool,
    /// Whether submodules are there.
    pub(crate) submodules: bool,
}

/// What came of a place.
#[derive(Debug)]
pub(crate) enum Found {
    /// A directory; of a temporary one, its keeper.
    Directory(PathBuf, Option<TempDir>),
    /// A Dockerfile alone.
    Dockerfile(Vec<u8>),
}

impl Place {
    /// Understands a context argument.
    pub(crate) fn parse(text: &Path) -> anyhow::Result<Self> {
        if text == Path::new("-") {
            return Ok(Self::Stdin);
        }
        if let Some(text) = text.to_str() {
            if is_git(text) {
                return GitPlace::parse(text).map(Self::Git);
            }
            if text.starts_with("http://") || text.starts_with("https://") {
                return Ok(Self::Http(text.to_owned()));
            }
        }
        if text.is_file() {
            return Ok(Self::Archive(text.to_owned()));
        }
        let shown = text.display();
        ensure!(
            text.is_dir(),
            "the build context {shown} is not a directory"
        );
        Ok(Self::Directory(text.to_owned()))
    }

    /// Whether there is anything to be fetched or unpacked.
    pub(crate) fn is_directory(&self) -> bool {
        matches!(self, Self::Directory(_))
    }

    /// Fetches and unpacks what there is.
    pub(crate) fn get(&self, settings: &Settings, cancel: &Cancel) -> anyhow::Result<Found> {
        match self {
            Self::Directory(path) => Ok(Found::Directory(path.clone(), None)),
            Self::Stdin => {
                let shown = "cannot use the build context from standard input";
                content(settings, std::io::stdin(), cancel).context(shown)
            }
            Self::Archive(path) => {
                let shown = || format!("cannot use the build context {}", path.display());
                let file = File::open(path).with_context(shown)?;
                match content(settings, file, cancel).with_context(shown)? {
                    found @ Found::Directory(..) => Ok(found),
                    Found::Dockerfile(_) => bail!(
                        "the build context {} is neither a directory nor an archive",
                        path.display()
                    ),
                }
            }
            Self::Http(url) => {
                let remote = wire::remote(settings)?;
                let wanted = RemoteRequest {
                    url,
                    ..RemoteRequest::default()
                };
                let safe = url.split(['?', '#']).next().unwrap_or_default();
                let shown = || format!("cannot get the build context {safe}");
                let answer = remote.open_http(&wanted);
                match answer
                    .map_err(anyhow::Error::from_boxed)
                    .with_context(shown)?
                {
                    RemoteAnswer::File(file) => {
                        content(settings, file.body, cancel).with_context(shown)
                    }
                    RemoteAnswer::Unchanged => bail!("{}", shown()),
                }
            }
            Self::Git(git) => {
                let shown = || format!("cannot get the build context {}", git.repository);
                git.get(settings, cancel).with_context(shown)
            }
        }
    }
}

impl GitPlace {
    /// `REPOSITORY[#REF[:DIRECTORY]]` and `REPOSITORY?ref=…&subdir=…` (docker-build(1) §Git).
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let (rest, fragment) = match text.split_once('#') {
            Some((rest, fragment)) => (rest, Some(fragment)),
            None => (text, None),
        };
        let (repository, query) = match rest.split_once('?') {
            Some((repository, query)) => (repository, Some(query)),
            None => (rest, None),
        };
        let repository = match repository.strip_prefix("github.com/") {
            Some(path) => format!("https://github.com/{path}"),
            None => repository.to_owned(),
        };
        let mut place = Self {
            repository,
            name: None,
            directory: None,
            checksum: None,
            keep_git_dir: false,
            submodules: true,
        };
        if let Some(query) = query {
            ensure!(
                fragment.is_none(),
                "{text}: give a query or a fragment, not both"
            );
            for part in query.split('&').filter(|part| !part.is_empty()) {
                let (key, value) = part.split_once('=').unwrap_or((part, ""));
                place.set(key, value).with_context(|| text.to_owned())?;
            }
        }
        if let Some(fragment) = fragment {
            let (name, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
            place.name = Some(name.to_owned()).filter(|name| !name.is_empty());
            place.directory = Some(directory.to_owned()).filter(|path| !path.is_empty());
        }
        Ok(place)
    }

    fn set(&mut self, key: &str, value: &str) -> anyhow::Result<()> {
        let is_on = || match value {
            "" | "1" | "true" => Ok(true),
            "0" | "false" => Ok(false),
            _ => Err(anyhow::anyhow!("{key}={value} is neither true nor false")),
        };
        let name = match key {
            "ref" => value.to_owned(),
            "branch" => format!("refs/heads/{value}"),
            "tag" => format!("refs/tags/{value}"),
            "commit" | "checksum" => {
                self.checksum = Some(value.to_owned());
                return Ok(());
            }
            "subdir" => {
                self.directory = Some(value.to_owned());
                return Ok(());
            }
            "keep-git-dir" => {
                self.keep_git_dir = is_on()?;
                return Ok(());
            }
            "submodules" => {
                self.submodules = is_on()?;
                return Ok(());
            }
            _ => bail!(
                "{key:?} is none of ref, branch, tag, commit, checksum, subdir, keep-git-dir, submodules"
            ),
        };
        ensure!(
            self.name.is_none(),
            "ref, branch and tag exclude each other"
        );
        self.name = Some(name);
        Ok(())
    }

    fn get(&self, settings: &Settings, cancel: &Cancel) -> anyhow::Result<Found> {
        let remote = wire::remote(settings)?;
        let whole = |text: &&String| matches!(text.len(), 40 | 64);
        let commit = match (&self.name, self.checksum.as_ref().filter(whole)) {
            (None, Some(commit)) => commit.clone(),
            (name, _) => remote
                .find_commit(&self.repository, name.as_deref())
                .map_err(anyhow::Error::from_boxed)?,
        };
        if let Some(expected) = &self.checksum {
            ensure!(
                expected.len() >= 7 && commit.starts_with(expected.as_str()),
                "it is at the commit {commit}, not {expected}"
            );
        }
        let directory = temporary(settings)?;
        let wanted = GitCheckout {
            repository: &self.repository,
            name: self.name.as_deref(),
            commit: &commit,
            keep_git_dir: self.keep_git_dir,
            submodules: self.submodules,
        };
        remote
            .checkout(&wanted, directory.path(), cancel)
            .map_err(anyhow::Error::from_boxed)?;
        let mut top = directory.path().to_owned();
        if let Some(below) = &self.directory {
            // A link of the repository may lead out of it: none is followed.
            top = below_without_links(directory.path(), below)?;
        }
        Ok(Found::Directory(top, Some(directory)))
    }
}

fn below_without_links(top: &Path, below: &str) -> anyhow::Result<PathBuf> {
    let mut path = top.to_owned();
    for component in Path::new(below).components() {
        match component {
            std::path::Component::Normal(name) => path.push(name),
            std::path::Component::RootDir | std::path::Component::CurDir => continue,
            _ => bail!("the directory {below:?} leaves the repository"),
        }
        let kind = std::fs::symlink_metadata(&path);
        let is_directory = kind.is_ok_and(|found| found.is_dir());
        ensure!(
            is_directory,
            "{below:?} is not a directory of the repository"
        );
    }
    Ok(path)
}

/// Addresses of repositories, as Docker tells them from files.
pub(crate) fn is_git(text: &str) -> bool {
    let scheme = text.starts_with("git://") || text.starts_with("ssh://");
    let scp = text.starts_with("git@") && text.contains(':');
    let github = text.starts_with("github.com/");
    let http = text.starts_with("http://") || text.starts_with("https://");
    let bare = text.split(['#', '?']).next().unwrap_or(text);
    scheme || scp || github || (http && bare.ends_with(".git"))
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

/// An archive, unpacked, or else a Dockerfile; told by its content.
fn content(
    settings: &Settings,
    reader: impl Read + Send,
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
            return Ok(Found::Dockerfile(head));
        }
    }
    let directory = temporary(settings)?;
    let whole = std::io::Cursor::new(head).chain(reader);
    unpack(wythe_builder::decompress(whole)?, directory.path())?;
    Ok(Found::Directory(
        directory.path().to_owned(),
        Some(directory),
    ))
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
fn unpack(stream: impl Read, directory: &Path) -> anyhow::Result<()> {
    let root = RootDir::open(directory)?;
    let options = ApplyOptions {
        lower: Some(&NoLower),
        ..ApplyOptions::default()
    };
    let mut applier = Applier::new(root, Flavour::SingleId, options)?;
    let mut reader = TarReader::new(stream);
    while let Some((entry, mut content)) = reader.next_entry()? {
        if entry.kind.is_mark() {
            // In a layer it would hide a file; here it is an odd name.
            continue;
        }
        applier.apply(entry, &mut content)?;
    }
    applier.finish()?;
    Ok(())
}
