//! `SOURCE_DATE_EPOCH`: a number, or what it is the time of.
//!
//! The build argument goes before a global `ARG` of the Dockerfile. It is seconds since 1970, or
//! `context`, a named context, or a stage that is nothing but the `ADD` of one remote source; of
//! those it is when they were committed or last changed. Whatever it was, the build sees a number,
//! or that it is not set.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read;

use wythe_layers::tar::TarReader;
use wythe_layers::tree::EntryKind;

use super::Builder;
use super::repositories::Repositories;
use super::session::Mode;
use crate::copy::decompress;
use crate::parse::{
    Add, ArgDeclaration, Diagnostic, Dockerfile, Expander, GlobalScope, Instruction,
    InstructionKind, Span, Stage, Word,
};
use crate::plan::platform_args;
use crate::{
    BuildRequest, Cancel, Error, GitPlace, RemoteAnswer, RemoteRequest, Result, http_authorization,
};

/// The argument's name.
pub(crate) const NAME: &str = "SOURCE_DATE_EPOCH";

/// The request with the number in place of what it was; `None` when a probe would have to ask for it.
pub(super) fn resolve<'r>(
    builder: &Builder,
    request: &'r BuildRequest,
    file: &Dockerfile,
    mode: Mode,
) -> Result<Option<Cow<'r, BuildRequest>>> {
    let given = request.build_args.get(NAME);
    let mut span = Span::default();
    let value = match given {
        Some(value) => value.clone(),
        None => {
            let globals = globals(request, file)?;
            span = globals
                .declared
                .get(NAME)
                .map(|arg| arg.span)
                .unwrap_or_default();
            match globals.values.get(NAME) {
                Some(value) if !value.is_empty() => value.clone(),
                _ => return Ok(Some(Cow::Borrowed(request))),
            }
        }
    };
    let finder = Finder {
        builder,
        request,
        file,
        mode,
    };
    let seconds = match finder.find(&value) {
        Ok(Looked::Found(seconds)) => seconds,
        Ok(Looked::NotNow) => return Ok(None),
        Err(error @ (Error::Dockerfile(_) | Error::Cancelled)) => return Err(error),
        Err(error) if given.is_none() => {
            return Err(Error::step(
                &file.source,
                span,
                &format!("ARG {NAME}"),
                error,
            ));
        }
        Err(error) => return Err(error),
    };
    let mut request = request.clone();
    request.source_date_epoch = seconds;
    if given.is_some() {
        match seconds {
            Some(seconds) => request
                .build_args
                .insert(NAME.to_owned(), seconds.to_string()),
            None => request.build_args.remove(NAME),
        };
    }
    Ok(Some(Cow::Owned(request)))
}

fn globals(request: &BuildRequest, file: &Dockerfile) -> Result<GlobalScope> {
    let defaults = platform_args(request, "default");
    let expander = Expander::new(file.directives.escape);
    GlobalScope::evaluate(file, &defaults, &request.build_args, &expander)
        .map_err(|diagnostic| Error::at(&file.source, diagnostic))
}

enum Looked {
    /// `None`: what it names has no time.
    Found(Option<i64>),
    /// A server has to be asked.
    NotNow,
}

struct Finder<'a> {
    builder: &'a Builder,
    request: &'a BuildRequest,
    file: &'a Dockerfile,
    mode: Mode,
}

impl Finder<'_> {
    fn find(&self, value: &str) -> Result<Looked> {
        if value.is_empty() {
            return Ok(Looked::Found(None));
        }
        if let Ok(seconds) = value.parse() {
            return Ok(Looked::Found(Some(seconds)));
        }
        if value == "context" {
            return Ok(Looked::Found(self.request.context_time));
        }
        if let Some((name, _)) = self.request.named_context(value) {
            let time = self.request.named_context_times.get(name);
            return Ok(Looked::Found(time.copied()));
        }
        let stages = self.file.stages();
        let stage = stages.iter().find(|stage| {
            let name = stage.name();
            name.is_some_and(|name| name.eq_ignore_ascii_case(value))
        });
        let Some(stage) = stage else {
            return Err(Error::SourceDateEpoch {
                value: value.to_owned(),
            });
        };
        let source = self.stage_source(stage)?;
        if self.mode == Mode::Probe {
            return Ok(Looked::NotNow);
        }
        match source {
            Source::Git(place) => self.git(&place),
            Source::Http(url) => self.http(&url),
        }
        .map(Looked::Found)
    }

    /// The one remote source of a stage.
    fn stage_source(&self, stage: &Stage<'_>) -> Result<Source> {
        let refuse = |span: Span, message: &str| {
            Err(Error::at(
                &self.file.source,
                Diagnostic::error(span, format!("SOURCE_DATE_EPOCH stage {message}")),
            ))
        };
        let mut environment = globals(self.request, self.file)?.values;
        environment.remove(NAME);
        let words = Words {
            file: self.file,
            expander: Expander::new(self.file.directives.escape),
        };
        let base = &stage.from.image;
        if words.expand(base, &environment)? != "scratch" {
            return refuse(base.span, "must use FROM scratch");
        }
        let only = "must contain exactly one remote ADD";
        let mut source = None;
        for instruction in stage.body {
            match &instruction.kind {
                InstructionKind::Arg(arguments) => {
                    self.declare(arguments, &words, &mut environment)?;
                }
                InstructionKind::Add(_) if source.is_some() => {
                    return refuse(instruction.span, only);
                }
                InstructionKind::Add(add) => {
                    source = Some(words.source(add, instruction, &environment)?);
                }
                _ => {
                    let keyword = instruction.code.split_whitespace().next();
                    let keyword = keyword.unwrap_or_default().to_ascii_uppercase();
                    let message = format!(
                        "does not meet source-only requirements: unsupported {keyword} instruction"
                    );
                    return refuse(instruction.span, &message);
                }
            }
        }
        match source {
            Some(source) => Ok(source),
            None => refuse(stage.instruction.span, only),
        }
    }

    fn declare(
        &self,
        arguments: &[ArgDeclaration],
        words: &Words<'_>,
        environment: &mut BTreeMap<String, String>,
    ) -> Result<()> {
        for argument in arguments {
            let name = argument.name.value.clone();
            let value = match (self.request.build_args.get(&name), &argument.default) {
                (Some(given), _) => given.clone(),
                (None, Some(default)) => words.expand(default, environment)?,
                (None, None) => continue,
            };
            environment.insert(name, value);
        }
        Ok(())
    }

    /// When the commit was made.
    fn git(&self, place: &GitPlace) -> Result<Option<i64>> {
        let repositories = Repositories::new(self.builder, self.request);
        let cancel: &Cancel = &self.builder.cancel;
        let commit = repositories.find_commit(place, cancel)?;
        let checkout = repositories.checkout(place, &commit, cancel)?;
        Ok(Some(checkout.committed().seconds))
    }

    /// `Last-Modified`, else the time of the newest regular file of an archive.
    fn http(&self, url: &str) -> Result<Option<i64>> {
        let Some(remote) = &self.builder.remote else {
            let url = url.to_owned();
            return Err(Error::NoRemote { url });
        };
        let wanted = RemoteRequest {
            url,
            authorization: http_authorization(url, &self.request.secrets),
            ..RemoteRequest::default()
        };
        let failed = |source| Error::Remote {
            url: url.to_owned(),
            source,
        };
        match remote.open_http(&wanted).map_err(failed)? {
            RemoteAnswer::File(file) => Ok(match file.modified {
                Some(time) => Some(time.seconds),
                None => newest_file(file.body),
            }),
            RemoteAnswer::Unchanged => Ok(None),
        }
    }
}

enum Source {
    Http(String),
    Git(Box<GitPlace>),
}

struct Words<'a> {
    file: &'a Dockerfile,
    expander: Expander,
}

impl Words<'_> {
    fn expand(&self, word: &Word, environment: &BTreeMap<String, String>) -> Result<String> {
        let expanded = self.expander.word(word, environment);
        expanded.map(|expanded| expanded.text).map_err(|error| {
            let diagnostic = Diagnostic::error(word.span, error.to_string());
            Error::at(&self.file.source, diagnostic)
        })
    }

    fn source(
        &self,
        add: &Add,
        instruction: &Instruction,
        environment: &BTreeMap<String, String>,
    ) -> Result<Source> {
        let refuse = |span: Span, message: String| {
            Err(Error::at(
                &self.file.source,
                Diagnostic::error(span, message),
            ))
        };
        let files = &add.files;
        let mut paths = files.paths();
        let (Some(word), None, None) = (paths.next(), paths.next(), files.inline_files().next())
        else {
            let message = "SOURCE_DATE_EPOCH stage must contain exactly one remote ADD source";
            return refuse(instruction.span, message.to_owned());
        };
        let text = self.expand(word, environment)?;
        match GitPlace::parse(&text) {
            Err(error) => refuse(word.span, error.to_string()),
            Ok(Some(mut place)) => {
                if let Some(checksum) = &add.checksum {
                    place.checksum = Some(self.expand(checksum, environment)?);
                }
                Ok(Source::Git(Box::new(place)))
            }
            Ok(None) if text.starts_with("http://") || text.starts_with("https://") => {
                Ok(Source::Http(text))
            }
            Ok(None) => {
                let message = "SOURCE_DATE_EPOCH stage source must be a single HTTP(S) or Git ADD";
                refuse(word.span, message.to_owned())
            }
        }
    }
}

/// `None` where it is no archive, or none to its end.
fn newest_file(body: impl Read + Send) -> Option<i64> {
    let mut reader = TarReader::new(decompress(body).ok()?);
    let mut newest = None;
    while let Some((entry, _)) = reader.next_entry().ok()? {
        if matches!(entry.kind, EntryKind::File { .. }) {
            newest = newest.max(Some(entry.mtime.seconds));
        }
    }
    newest
}
