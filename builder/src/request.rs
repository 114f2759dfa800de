//! What a build is asked to do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use wythe_layers::image::ImageSource;
use wythe_layers::spec::{Platform, Reference};
use wythe_layers::stream::Compression;
use wythe_layers::tree::RootDir;

use crate::parse::suggest::near;
use crate::path::clean_in_root;
use crate::{Error, Network, Result};

/// Everything that decides a build. Nothing else is read: no environment, no settings file.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// The Dockerfile.
    pub dockerfile: InputFile,
    /// What `COPY` and `ADD` read. Default: nothing.
    pub context: ContextSource,
    /// The ignore file that goes with the context. Default: none.
    pub ignore_file: Option<InputFile>,
    /// Further contexts by [`context_name`] (`--build-context`). Default: none.
    pub named_contexts: BTreeMap<String, NamedContext>,
    /// The stage to build, by name or index. Default: the last one.
    pub target: Option<String>,
    /// Values of `ARG`s (`--build-arg`; one without value is given the environment's by the caller).
    /// Default: none.
    pub build_args: BTreeMap<String, String>,
    /// Labels to add to the image. Default: none.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the manifest. Default: none.
    pub annotations: BTreeMap<String, String>,
    /// What the image is for. Default: this machine's platform.
    pub platform: Platform,
    /// Whether the platform was asked for: then the image's config has it, whatever the base's is.
    /// Default: no.
    pub platform_is_given: bool,
    /// What the build runs on. Default: this machine's platform.
    pub build_platform: Platform,
    /// What the cache may be used for. Default: everything.
    pub cache: CachePolicy,
    /// When base images are asked for at their source. Default: when they are not in the store.
    pub pull: PullPolicy,
    /// The network of `RUN`. Default: the executor's.
    pub network: Network,
    /// Entitlement for `RUN --security=insecure`. Default: no.
    pub allow_insecure: bool,
    /// Entitlement for `RUN --network=host`; not needed where [`BuildRequest::network`] is the host's.
    /// Default: no.
    pub allow_host_network: bool,
    /// Times after this second (since 1970) are written as this second, where neither the build
    /// argument `SOURCE_DATE_EPOCH` nor a global one of the Dockerfile says otherwise. Default: 0.
    pub source_date_epoch: Option<i64>,
    /// Whether that is done to files in new layers too, and not in the config alone. Without it the
    /// same build gives other layers each time it is really done. Default: yes.
    pub rewrite_timestamp: bool,
    /// What `SOURCE_DATE_EPOCH=context` means, in seconds since 1970. Default: nothing.
    pub context_time: Option<i64>,
    /// The same of named contexts, by their names. Default: nothing.
    pub named_context_times: BTreeMap<String, i64>,
    /// How much is done at once, at least 1. Default: the number of processors.
    pub jobs: usize,
    /// Names for the image, set once it is complete. Default: none.
    pub tags: Vec<Reference>,
    /// Compression of layers that are written straight into a blob. Default: gzip.
    pub compression: Compression,
    /// Secrets by id (`--secret`). Default: none.
    pub secrets: BTreeMap<String, Secret>,
    /// Agents by id (`--ssh`). Default: none.
    pub ssh: BTreeMap<String, Agent>,
    /// Additional lines of `/etc/hosts` in `RUN`: name, address. Default: none.
    pub extra_hosts: Vec<(String, String)>,
    /// Resource limits of `RUN`, each `NAME=SOFT[:HARD]`. Default: the builder's own.
    pub limits: Vec<String>,
    /// Size of `/dev/shm` in `RUN`, in bytes. Default: the executor's.
    pub shm_size_bytes: Option<u64>,
}

impl BuildRequest {
    /// Builds `dockerfile` with an empty context; everything else is the default.
    pub fn new(dockerfile: InputFile) -> Self {
        Self {
            dockerfile,
            context: ContextSource::Empty,
            ignore_file: None,
            named_contexts: BTreeMap::new(),
            target: None,
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            platform: Platform::host(),
            platform_is_given: false,
            build_platform: Platform::host(),
            cache: CachePolicy::default(),
            pull: PullPolicy::default(),
            network: Network::default(),
            allow_insecure: false,
            allow_host_network: false,
            source_date_epoch: None,
            rewrite_timestamp: true,
            context_time: None,
            named_context_times: BTreeMap::new(),
            jobs: std::thread::available_parallelism().map_or(1, usize::from),
            tags: Vec::new(),
            compression: Compression::default(),
            secrets: BTreeMap::new(),
            ssh: BTreeMap::new(),
            extra_hosts: Vec::new(),
            limits: Vec::new(),
            shm_size_bytes: None,
        }
    }

    /// Builds in a directory of this machine: reads the Dockerfile (`file`, else `Dockerfile`, else
    /// `Containerfile` in the directory) and the ignore file that goes with it
    /// (`<Dockerfile>.dockerignore` beside it, else the directory's `.dockerignore`).
    ///
    /// # Errors
    /// When a file cannot be read, or there is no Dockerfile.
    pub fn for_directory(directory: &Path, file: Option<&Path>) -> Result<Self> {
        let path = match file {
            Some(file) if file.ends_with("Dockerfile") && file.symlink_metadata().is_err() => {
                let lower = file.with_file_name("dockerfile");
                if lower.symlink_metadata().is_ok() {
                    lower
                } else {
                    file.to_owned()
                }
            }
            Some(file) => file.to_owned(),
            None => DOCKERFILE_NAMES
                .iter()
                .map(|name| directory.join(name))
                .find(|path| path.symlink_metadata().is_ok())
                .ok_or_else(|| Error::NoDockerfile {
                    directory: directory.to_owned(),
                })?,
        };
        let read = |path: &Path| InputFile::named(path, directory);
        let dockerfile = read(&path)?.ok_or_else(|| Error::MissingDockerfile {
            meant: meant(&path, directory),
            path: path.clone(),
        })?;
        let mut own = path.into_os_string();
        own.push(".dockerignore");
        let mut ignore_file = read(Path::new(&own))?;
        if ignore_file.is_none() {
            ignore_file = read(&directory.join(".dockerignore"))?;
        }
        Ok(Self {
            context: ContextSource::Directory(directory.to_owned()),
            ignore_file,
            ..Self::new(dockerfile)
        })
    }
}

impl BuildRequest {
    /// A named context, and the name that it has here; any spelling of an image's name finds it.
    /// `scratch` and `context` mean what they always do.
    #[must_use]
    pub fn named_context(&self, name: &str) -> Option<(&str, &NamedContext)> {
        if name.eq_ignore_ascii_case("scratch") || name.eq_ignore_ascii_case("context") {
            return None;
        }
        let contexts = &self.named_contexts;
        let found = contexts
            .get_key_value(name)
            .or_else(|| contexts.get_key_value(&context_name(name)));
        found.map(|(name, context)| (name.as_str(), context))
    }
}

/// The name of a named context: of an image's, its shortest form without `:latest`.
pub fn context_name(text: &str) -> String {
    let Ok(reference) = text.parse::<Reference>() else {
        return text.to_owned();
    };
    let name = reference.familiar();
    name.strip_suffix(":latest").unwrap_or(&name).to_owned()
}

/// The file that was meant by one that is not there: below the context, or of a name like it.
fn meant(path: &Path, directory: &Path) -> Option<PathBuf> {
    let below = directory.join(path);
    if path.is_relative() && below.is_file() {
        return Some(below);
    }
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .ok()?
        .take(MAX_NEAR_FILES)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    let near = near(
        path.file_name()?.to_str()?,
        names.iter().map(String::as_str),
    )?;
    Some(path.with_file_name(near))
}

/// In a folder with more files nobody remembers their names.
const MAX_NEAR_FILES: usize = 10_000;

/// In this order; the second as in BuildKit, which takes it for the first one where that is missing.
pub const DOCKERFILE_NAMES: [&str; 3] = ["Dockerfile", "dockerfile", "Containerfile"];

/// People write these by hand; BuildKit's own limit for a Dockerfile is 2 MiB.
const MAX_INPUT_BYTES: u64 = 16 << 20;

/// A file that the caller read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFile {
    /// As errors name it.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl InputFile {
    /// Reads a file of a context: links lead to places inside it only, as for `COPY`, and what is
    /// no regular file is refused. `None` when it is not there.
    ///
    /// # Errors
    /// When it cannot be read, is too large, or is a link that leads out.
    pub fn in_context(directory: &Path, path: &Path) -> Result<Option<Self>> {
        let shown = directory.join(path);
        let Some(inside) = clean_in_root(path.as_os_str().as_bytes()) else {
            return Err(Error::BadPath {
                path: path.display().to_string(),
            });
        };
        let name = path.display().to_string();
        match RootDir::open(directory)?.open_file_in_root(&inside) {
            Ok(file) => Self::read(file, name, &shown).map(Some),
            Err(wythe_layers::Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                if !shown.is_symlink() {
                    return Ok(None);
                }
                let leads_out = "it is a link that leads nowhere inside the build context";
                let source = std::io::Error::new(ErrorKind::NotFound, leads_out);
                Err(Error::io("open", &shown)(source))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a file that the user named; `None` when it is not there. One of the context is read as
    /// such.
    fn named(path: &Path, directory: &Path) -> Result<Option<Self>> {
        let absolute = |path: &Path| std::path::absolute(path).ok();
        if let (Some(path), Some(directory)) = (absolute(path), absolute(directory))
            && let Ok(inside) = path.strip_prefix(&directory)
            && inside
                .components()
                .all(|part| matches!(part, Component::Normal(_)))
        {
            return Self::in_context(&directory, inside);
        }
        match std::fs::File::open(path) {
            Ok(file) => Self::read(file, path.display().to_string(), path).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("open", path)(error)),
        }
    }

    fn read(file: std::fs::File, name: String, path: &Path) -> Result<Self> {
        use std::io::Read;
        let mut bytes = Vec::new();
        file.take(MAX_INPUT_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(Error::io("read", path))?;
        if bytes.len() as u64 > MAX_INPUT_BYTES {
            return Err(Error::InputTooLarge {
                name,
                max_bytes: MAX_INPUT_BYTES,
            });
        }
        Ok(Self { name, bytes })
    }
}

/// Where a context's files are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ContextSource {
    /// There are none.
    #[default]
    Empty,
    /// In a directory of this machine.
    Directory(PathBuf),
}

/// A context with a name of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory of this machine.
    Directory(PathBuf),
    /// An image.
    Image(Reference),
    /// An image that lies elsewhere than images do.
    Layout(ImageAt),
    /// No files at all.
    Empty,
}

/// An image and where it is.
#[derive(Clone)]
pub struct ImageAt {
    /// What it is called in messages, and asked for by.
    pub reference: Reference,
    /// Where it is: on this machine, for a probe asks it too.
    pub source: Arc<dyn ImageSource>,
}

impl fmt::Debug for ImageAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageAt")
            .field("reference", &self.reference)
            .finish_non_exhaustive()
    }
}

impl PartialEq for ImageAt {
    fn eq(&self, other: &Self) -> bool {
        self.reference == other.reference && Arc::ptr_eq(&self.source, &other.source)
    }
}

impl Eq for ImageAt {}

/// What the cache may be used for. Results are recorded in any case.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CachePolicy {
    /// For every step.
    #[default]
    Use,
    /// For none (`--no-cache`).
    Ignore,
    /// For none of these stages, by name or index (`--no-cache-filter`).
    IgnoreStages(BTreeSet<String>),
}

/// When base images are asked for at their source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// Always (`--pull`): what the store has may be old.
    Always,
    /// When they are not in the store.
    #[default]
    Missing,
    /// Never.
    Never,
}

/// What answers as the ssh agent of a step that asks for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agent {
    /// The socket of a running agent. Steps may list its keys and have it sign; they may not
    /// change it.
    Socket(PathBuf),
    /// A socket whose connections are passed on as they are (`raw=true`).
    RawSocket(PathBuf),
    /// Private keys, as their files have them, without passphrase.
    Keys(Vec<Secret>),
}

/// Bytes that are never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Wraps the bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes themselves.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}
