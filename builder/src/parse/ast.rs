//! What a Dockerfile says, instruction by instruction, before any variable is expanded.
//!
//! Every value that BuildKit expands later is a [`Word`] (text as written, plus its place); what is
//! fixed by the grammar (flags with a closed set of values, durations) is already parsed. Order is
//! the order of the file everywhere.

use std::sync::Arc;
use std::time::Duration;

use super::mount::RunMount;
use super::span::{SourceText, Span, Spanned, Word};
use super::stages::Stages;
use super::{Diagnostic, stages};

/// A parsed Dockerfile: at least one instruction.
#[derive(Clone, Debug)]
pub struct Dockerfile {
    /// Name and text it was read from; spans point into it.
    pub source: SourceText,
    /// What the comments at the very top set.
    pub directives: Directives,
    /// All instructions, those before the first `FROM` included.
    pub instructions: Vec<Instruction>,
    /// What was accepted although it should not be relied on (empty continuation lines, triggers
    /// that no child build could parse). Lint reports them under their rule names.
    pub warnings: Vec<Diagnostic>,
}

impl Dockerfile {
    /// The stages, each from its `FROM` to the next one.
    #[must_use]
    pub fn stages(&self) -> Stages<'_> {
        stages::split(&self.instructions)
    }

    /// The `ARG` instructions before the first `FROM`.
    pub(crate) fn global_args(&self) -> impl Iterator<Item = &Instruction> {
        self.instructions
            .iter()
            .take_while(|instruction| !matches!(instruction.kind, InstructionKind::From(_)))
    }
}

/// Parser directives (`# name=value` on the first lines).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives {
    /// `# syntax=`: kept for display; the language is native, nothing is fetched.
    pub syntax: Option<Spanned<String>>,
    /// `# escape=`: a backslash or a backtick. Default: backslash.
    pub escape: char,
    /// `# check=`: the text after the sign, for [`lint`](super::lint).
    pub check: Option<Spanned<String>>,
}

impl Default for Directives {
    fn default() -> Self {
        Self {
            syntax: None,
            escape: '\\',
            check: None,
        }
    }
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What it asks for.
    pub kind: InstructionKind,
    /// The keyword as the user wrote it (`RUN`, `run`).
    pub keyword: Spanned<String>,
    /// The logical line: continuations joined, comment lines gone, ends trimmed; flags are still in
    /// it, bodies of here-documents are not. History texts are derived from this.
    pub code: String,
    /// Flags as written, in order.
    pub flags: Vec<Flag>,
    /// Here-documents in the order in which they are opened.
    pub heredocs: Vec<Heredoc>,
    /// From the keyword to the end of the last line, bodies of here-documents included.
    pub span: Span,
    /// Number of the first line, from 1.
    pub line: usize,
    /// Comments directly above, without `#` and outer blanks; an empty comment clears them.
    pub comments: Vec<String>,
}

impl Instruction {
    /// The keyword in upper case.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.kind.name()
    }

    /// The instruction's place without its here-documents.
    #[must_use]
    pub(crate) fn code_span(&self) -> Span {
        let end = self
            .heredocs
            .first()
            .map_or(self.span.end, |body| body.span.start.saturating_sub(1));
        Span::new(self.span.start, end)
    }
}

/// `--name` or `--name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// Without the dashes.
    pub name: Spanned<String>,
    /// After `=`, quotes removed; `None` when there is no `=`.
    pub value: Option<Spanned<String>>,
    /// Dashes to end of value.
    pub span: Span,
}

/// A here-document and its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter without quotes; also the file's name for `COPY` and `ADD`.
    pub name: String,
    /// The number before `<<`. Default: 0.
    pub descriptor: u32,
    /// Whether variables in the body are expanded: true unless a part of the delimiter was quoted.
    pub expand: bool,
    /// `<<-`: leading tabs are taken off each line where the body is used.
    pub strip_tabs: bool,
    /// The body as written, line ends included, the delimiter line not.
    pub content: String,
    /// The body's place in the source.
    pub span: Span,
}

impl Heredoc {
    /// The body, without leading tabs if `<<-` asked for that.
    #[must_use]
    pub fn text(&self) -> String {
        if !self.strip_tabs {
            return self.content.clone();
        }
        self.content
            .split_inclusive('\n')
            .map(|line| line.trim_start_matches('\t'))
            .collect()
    }
}

/// The instructions of the language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstructionKind {
    /// `FROM`
    From(Box<From>),
    /// `RUN`
    Run(Run),
    /// `COPY`
    Copy(Box<Copy>),
    /// `ADD`
    Add(Box<Add>),
    /// `ENV`: keys and values are both expanded.
    Env(Vec<Pair>),
    /// `LABEL`: keys and values are both expanded.
    Label(Vec<Pair>),
    /// `ARG`
    Arg(Vec<ArgDeclaration>),
    /// `CMD`
    Cmd(CommandLine),
    /// `ENTRYPOINT`
    Entrypoint(CommandLine),
    /// `SHELL`: never expanded.
    Shell(Vec<Spanned<String>>),
    /// `EXPOSE`: each is expanded and then split into words.
    Expose(Vec<Word>),
    /// `VOLUME`
    Volume(Vec<Word>),
    /// `USER`
    User(Word),
    /// `WORKDIR`
    Workdir(Word),
    /// `STOPSIGNAL`
    Stopsignal(Word),
    /// `MAINTAINER`: never expanded.
    Maintainer(Spanned<String>),
    /// `HEALTHCHECK`
    Healthcheck(Healthcheck),
    /// `ONBUILD`
    Onbuild(Onbuild),
}

impl InstructionKind {
    /// The keyword in upper case.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::From(_) => "FROM",
            Self::Run(_) => "RUN",
            Self::Copy(_) => "COPY",
            Self::Add(_) => "ADD",
            Self::Env(_) => "ENV",
            Self::Label(_) => "LABEL",
            Self::Arg(_) => "ARG",
            Self::Cmd(_) => "CMD",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Shell(_) => "SHELL",
            Self::Expose(_) => "EXPOSE",
            Self::Volume(_) => "VOLUME",
            Self::User(_) => "USER",
            Self::Workdir(_) => "WORKDIR",
            Self::Stopsignal(_) => "STOPSIGNAL",
            Self::Maintainer(_) => "MAINTAINER",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Onbuild(_) => "ONBUILD",
        }
    }
}

/// `FROM [--platform=…] image [AS name]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    /// Image, stage or `scratch`; expanded with the global arguments.
    pub image: Word,
    /// `--platform`, expanded with the global arguments.
    pub platform: Option<Word>,
    /// The stage's name in lower case (names do not depend on case).
    pub name: Option<Spanned<String>>,
    /// The `AS` keyword and the name as they were written.
    pub written_as: Option<(String, String)>,
    /// What a comment `# <name> <text>` above says about the stage.
    pub description: Option<String>,
}

/// The command of `RUN`, `CMD`, `ENTRYPOINT` and `HEALTHCHECK`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// The JSON form: run as it stands. May be empty.
    Exec(Vec<Spanned<String>>),
    /// Everything else: one string for the shell. May be empty.
    Shell(Spanned<String>),
}

/// `RUN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The command; not expanded by the builder. Its here-documents are the instruction's.
    pub command: CommandLine,
    /// `--mount`, not yet validated: see [`RunMount::resolve`].
    pub mounts: Vec<RunMount>,
    /// `--network`. Default: [`Network::Default`].
    pub network: Network,
    /// `--security`. Default: [`Security::Sandbox`].
    pub security: Security,
}

/// `RUN --network`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// As the builder decides.
    #[default]
    Default,
    /// Loopback alone.
    None,
    /// The host's.
    Host,
}

/// `RUN --security`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// The usual confinement.
    #[default]
    Sandbox,
    /// All capabilities; only with the user's permission.
    Insecure,
}

/// What `COPY` and `ADD` have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// In the order written. Plain sources go before inline files when they are applied.
    pub sources: Vec<TransferSource>,
    /// Destination.
    pub destination: Word,
    /// `--chown`, expanded.
    pub chown: Option<Word>,
    /// `--chmod`, expanded.
    pub chmod: Option<Word>,
    /// `--link`. Default: false.
    pub link: bool,
    /// `--exclude` patterns; not expanded.
    pub exclude: Vec<Word>,
}

impl Transfer {
    /// The sources that are paths or addresses.
    pub fn paths(&self) -> impl Iterator<Item = &Word> {
        self.sources.iter().filter_map(|source| match source {
            TransferSource::Path(word) => Some(word),
            TransferSource::Inline(_) => None,
        })
    }

    /// The sources whose content stands in the Dockerfile.
    pub(crate) fn inline_files(&self) -> impl Iterator<Item = &InlineFile> {
        self.sources.iter().filter_map(|source| match source {
            TransferSource::Path(_) => None,
            TransferSource::Inline(file) => Some(file),
        })
    }
}

/// One source of `COPY` or `ADD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferSource {
    /// A path, pattern, address or git repository.
    Path(Word),
    /// A here-document.
    Inline(InlineFile),
}

/// A file that stands in the Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InlineFile {
    /// File name: the delimiter.
    pub name: String,
    /// Content, leading tabs already off where `<<-` asked for it. Several files may share one.
    pub content: Arc<str>,
    /// Whether variables in the content are expanded ([`Expander::heredoc`](super::Expander::heredoc)).
    pub expand: bool,
    /// The place of the `<<` word.
    pub span: Span,
}

/// `COPY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Sources, destination and shared flags.
    pub files: Transfer,
    /// `--from`: stage, stage number, image or named context; not expanded.
    pub from: Option<Word>,
    /// `--parents`. Default: false.
    pub parents: bool,
}

/// `ADD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    /// Sources, destination and shared flags.
    pub files: Transfer,
    /// `--checksum`, expanded.
    pub checksum: Option<Word>,
    /// `--keep-git-dir`; `None` when not given.
    pub keep_git_dir: Option<bool>,
    /// `--unpack`; `None` when not given: local archives are unpacked, remote ones are not.
    pub unpack: Option<bool>,
}

/// One `key=value` of `ENV` or `LABEL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Before the first `=`.
    pub key: Word,
    /// After it.
    pub value: Word,
    /// Written in the old form `KEY value`, where the rest of the line is the value.
    pub legacy: bool,
}

/// One `name[=default]` of `ARG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgDeclaration {
    /// The name; never expanded.
    pub name: Word,
    /// The default; `None` when there is no `=`.
    pub default: Option<Word>,
    /// What a comment `# <name> <text>` above says about it.
    pub description: Option<String>,
}

/// `HEALTHCHECK`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Healthcheck {
    /// `NONE`: switches an inherited check off.
    None,
    /// `CMD …`.
    Command(Box<HealthcheckCommand>),
}

/// `HEALTHCHECK CMD`. A duration of zero means "as inherited", as does `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthcheckCommand {
    /// What to run.
    pub command: CommandLine,
    /// `--interval`
    pub interval: Option<Duration>,
    /// `--timeout`
    pub timeout: Option<Duration>,
    /// `--start-period`
    pub start_period: Option<Duration>,
    /// `--start-interval`
    pub start_interval: Option<Duration>,
    /// `--retries`
    pub retries: Option<u32>,
}

/// `ONBUILD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Onbuild {
    /// What goes into the image config: the trigger's logical line, bodies of here-documents after it.
    /// [`parse_trigger`](super::parse_trigger) reads it back.
    pub expression: String,
    /// The trigger; `None` when a child build could not parse it.
    pub trigger: Option<Box<Instruction>>,
    /// Why it could not: only a warning here, for this image itself builds.
    pub problem: Option<Box<Diagnostic>>,
}
