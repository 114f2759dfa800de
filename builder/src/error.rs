//! Everything that can go wrong in a build.

use std::io;
use std::path::{Path, PathBuf};

use wythe_layers::spec::Reference;
use wythe_layers::tree::EntryPath;

use crate::parse::{Diagnostic, ParseError, SourceText, Span};
use crate::path::display;
use crate::{ExitStatus, Network};

/// An error of the outside: of an executor, of a remote source.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// This crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in a build. Each message is of its own level only; the cause is in
/// `source()`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The Dockerfile cannot be used; [`ParseError::render`] shows the lines.
    #[error("{0}")]
    Dockerfile(Box<ParseError>),
    /// A step failed; the cause says why.
    #[error("{step}")]
    Step {
        /// Which.
        step: Box<StepPlace>,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// A process of a step did not succeed.
    #[error("the process ended with {status}")]
    ProcessFailed {
        /// How it ended.
        status: ExitStatus,
        /// Its last lines of output.
        last_lines: Vec<Vec<u8>>,
        /// What it had of the network.
        network: Network,
    },
    /// A process could not be run at all.
    #[error("cannot run a process")]
    Executor {
        /// Why not.
        #[source]
        source: BoxError,
    },
    /// The build has a `RUN`, and nothing that runs processes was given.
    #[error("this build runs processes, and nothing here can run them")]
    NoExecutor,
    /// The build needs a remote file, and nothing that gets them was given.
    #[error("cannot get {url}: remote files are not available here")]
    NoRemote {
        /// The address.
        url: String,
    },
    /// A remote file could not be had.
    #[error("cannot get {url}")]
    Remote {
        /// The address.
        url: String,
        /// Why not.
        #[source]
        source: BoxError,
    },
    /// A repository is not as a place in it says.
    #[error("cannot use the repository {repository}")]
    Git {
        /// Which.
        repository: crate::GitRepository,
        /// Why not.
        #[source]
        source: crate::GitPlaceError,
    },
    /// `SOURCE_DATE_EPOCH` is no number and names nothing.
    #[error("invalid SOURCE_DATE_EPOCH: {value}")]
    SourceDateEpoch {
        /// What it is.
        value: String,
    },
    /// A remote file is not the one that was asked for.
    #[error("{url} has the digest {actual}, not {expected}")]
    ChecksumMismatch {
        /// The address.
        url: String,
        /// From `--checksum`.
        expected: String,
        /// Of what came.
        actual: String,
    },
    /// An image is not in the store and may not, or cannot, be fetched.
    #[error("image {reference} is not in the store")]
    NoImage {
        /// The image.
        reference: Box<Reference>,
    },
    /// The store, a layer or an image is not as it should be, or cannot be reached.
    #[error(transparent)]
    Layers(#[from] wythe_layers::Error),
    /// An operation on a file failed.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried, as a verb: `open`, `rename`, …
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// There is no Dockerfile where one was looked for.
    #[error("no Dockerfile or Containerfile in {}", directory.display())]
    NoDockerfile {
        /// Where.
        directory: PathBuf,
    },
    /// The Dockerfile that was asked for is not there.
    #[error("there is no Dockerfile {}", path.display())]
    MissingDockerfile {
        /// Which.
        path: PathBuf,
        /// One that is there and looks like it.
        meant: Option<PathBuf>,
    },
    /// An input file is larger than any real one.
    #[error("{name} is larger than {max_bytes} bytes")]
    InputTooLarge {
        /// Which.
        name: String,
        /// The limit.
        max_bytes: u64,
    },
    /// Ignore rules cannot be used.
    #[error("{name} cannot be used")]
    IgnoreRules {
        /// The file, or the flag.
        name: String,
        /// Why not.
        #[source]
        source: crate::ignore::IgnoreError,
    },
    /// Symlinks go round in circles.
    #[error("too many symlinks in {}", display(path))]
    LinkLoop {
        /// Where it began.
        path: EntryPath,
    },
    /// A file of the context changed while it was used.
    #[error("{} changed during the build", path.display())]
    ContextChanged {
        /// Which.
        path: PathBuf,
    },
    /// A source of `COPY` or `ADD` is not there.
    #[error("{path} is not in {place}")]
    SourceMissing {
        /// As it was written.
        path: String,
        /// The build context, a stage, an image.
        place: String,
        /// Names that are there and look alike; why it may not be seen.
        hint: Option<String>,
    },
    /// A source that cannot be copied.
    #[error("{path} is a {kind}, which cannot be copied")]
    SourceSpecial {
        /// As it was written.
        path: String,
        /// `socket`, …
        kind: &'static str,
    },
    /// A directory was to be made where something else is.
    #[error("{path} is not a directory")]
    NotADirectory {
        /// In the image.
        path: String,
    },
    /// A directory was to be copied over something else.
    #[error("cannot copy a directory to {path}, which is not one")]
    DirectoryOverFile {
        /// In the image.
        path: String,
    },
    /// A file was to be copied over a directory.
    #[error("cannot replace the directory {path} with a file")]
    FileOverDirectory {
        /// In the image.
        path: String,
    },
    /// A path that cannot be one.
    #[error("{path:?} cannot be a path")]
    BadPath {
        /// As it was written.
        path: String,
    },
    /// A file of the image that is larger than any real one.
    #[error("{path} in the image is larger than {max_bytes} bytes")]
    ImageFileTooLarge {
        /// Which.
        path: &'static str,
        /// The limit.
        max_bytes: u64,
    },
    /// An archive of `ADD` cannot be used.
    #[error("cannot unpack {name}: {reason}")]
    Archive {
        /// Which.
        name: String,
        /// Why not.
        reason: String,
    },
    /// A secret or agent that a step requires was not given.
    #[error("{kind} {id:?} is required and was not given")]
    MissingGrant {
        /// `secret` or `ssh agent`.
        kind: &'static str,
        /// Its id.
        id: String,
    },
    /// A build argument that means something to the builder has a value that means nothing.
    #[error("--build-arg {name}={value}: {reason}")]
    BuildArgument {
        /// Its name.
        name: &'static str,
        /// What was given.
        value: String,
        /// Why not.
        reason: String,
    },
    /// Something that this version does not do.
    #[error("{what} is not supported yet")]
    Unsupported {
        /// What.
        what: String,
    },
    /// Someone asked to stop.
    #[error("the build was cancelled")]
    Cancelled,
}

impl Error {
    /// For `map_err`: an I/O error with the operation and the path.
    pub fn io(operation: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            operation,
            path: path.as_ref().to_path_buf(),
            source,
        }
    }

    /// The error of a step, with its place.
    pub(crate) fn step(source: &SourceText, span: Span, text: &str, error: Self) -> Self {
        Self::Step {
            step: Box::new(StepPlace {
                source: source.clone(),
                span,
                text: text.to_owned(),
            }),
            source: Box::new(error),
        }
    }

    /// An error at a place in the Dockerfile.
    pub(crate) fn at(source: &SourceText, diagnostic: Diagnostic) -> Self {
        Self::Dockerfile(Box::new(ParseError {
            source: source.clone(),
            diagnostics: vec![diagnostic],
        }))
    }
}

impl From<ParseError> for Error {
    fn from(error: ParseError) -> Self {
        Self::Dockerfile(Box::new(error))
    }
}

/// Where a step stands.
#[derive(Debug, Clone)]
pub struct StepPlace {
    /// The file it is from, and its text.
    pub source: SourceText,
    /// Its instruction.
    pub span: Span,
    /// The instruction as shown to people.
    pub text: String,
}

impl StepPlace {
    /// File, line and excerpt with `message` at the instruction, ready for a terminal.
    pub fn render(&self, message: &str, style: crate::parse::Style) -> String {
        Diagnostic::error(self.span, message).render(&self.source, style)
    }
}

impl std::fmt::Display for StepPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let line = self.source.position(self.span.start).line;
        write!(f, "{}:{line}: {} failed", self.source.name(), self.text)
    }
}

/// An error with its causes, as one text.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
