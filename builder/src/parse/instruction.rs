//! From a logical line to an instruction: one function a keyword.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::Diagnostic;
use super::ast::{
    Add, ArgDeclaration, CommandLine, Copy, From, Healthcheck, HealthcheckCommand, Heredoc,
    InlineFile, Instruction, InstructionKind, Network, Onbuild, Pair, Run, Security, Transfer,
    TransferSource,
};
use super::flags::Flags;
use super::heredoc;
use super::json::{self, JsonForm};
use super::lines::LogicalLine;
use super::mount::RunMount;
use super::parts::{KEYWORDS, Parts};
use super::span::{Span, Spanned, Word};
use super::suggest::{near, near_any_case};
use super::words::{split_blanks, split_first, split_quoted};
use super::{duration, expand};

/// One line with its here-documents, on its way to becoming an [`Instruction`].
pub(super) struct Source<'a> {
    pub(super) line: &'a LogicalLine<'a>,
    pub(super) heredocs: &'a [Heredoc],
    /// From the keyword to the end of the last here-document.
    pub(super) span: Span,
}

impl Source<'_> {
    fn word(&self, range: &Range<usize>) -> Word {
        Spanned::new(self.line.slice(range).to_owned(), self.line.place(range))
    }

    /// Builds the instruction that `parts` begins.
    pub(super) fn instruction(
        &self,
        parts: &Parts,
        comments: &[String],
    ) -> Result<Instruction, Diagnostic> {
        let builder = Builder {
            source: self,
            parts,
            comments,
        };
        let kind = builder.kind()?;
        let whole = self.line.trim(&(parts.keyword.start..self.line.text.len()));
        Ok(Instruction {
            kind,
            keyword: self.word(&parts.keyword),
            code: self.line.slice(&whole).to_owned(),
            flags: parts.flags.clone(),
            heredocs: self.heredocs.to_vec(),
            span: Span::new(self.line.place(&parts.keyword).start, self.span.end),
            line: self.line.number,
            comments: comments.to_vec(),
        })
    }
}

struct Builder<'a> {
    source: &'a Source<'a>,
    parts: &'a Parts,
    comments: &'a [String],
}

impl Builder<'_> {
    fn kind(&self) -> Result<InstructionKind, Diagnostic> {
        let Some(name) = self.parts.name else {
            return Err(self.unknown());
        };
        Ok(match name {
            "FROM" => InstructionKind::From(Box::new(self.from()?)),
            "RUN" => InstructionKind::Run(self.run()?),
            "COPY" => InstructionKind::Copy(Box::new(self.copy()?)),
            "ADD" => InstructionKind::Add(Box::new(self.add()?)),
            "ENV" => InstructionKind::Env(self.pairs(name)?),
            "LABEL" => InstructionKind::Label(self.pairs(name)?),
            "ARG" => InstructionKind::Arg(self.arg()?),
            "CMD" => InstructionKind::Cmd(self.plain_command(name)?),
            "ENTRYPOINT" => InstructionKind::Entrypoint(self.plain_command(name)?),
            "SHELL" => InstructionKind::Shell(self.shell()?),
            "EXPOSE" => InstructionKind::Expose(self.expose()?),
            "VOLUME" => InstructionKind::Volume(self.volume()?),
            "USER" => InstructionKind::User(self.single(name)?),
            "WORKDIR" => InstructionKind::Workdir(self.single(name)?),
            "MAINTAINER" => InstructionKind::Maintainer(self.single(name)?),
            "STOPSIGNAL" => InstructionKind::Stopsignal(self.single(name)?),
            "HEALTHCHECK" => InstructionKind::Healthcheck(self.healthcheck()?),
            _ => InstructionKind::Onbuild(self.onbuild()?),
        })
    }

    fn line(&self) -> &LogicalLine<'_> {
        self.source.line
    }

    fn arguments(&self) -> &Range<usize> {
        &self.parts.arguments
    }

    fn has_arguments(&self) -> bool {
        !self.arguments().is_empty()
    }

    /// An error about the instruction as a whole.
    fn error(&self, message: impl Into<String>) -> Diagnostic {
        let end = if self.has_arguments() {
            self.arguments().end
        } else {
            self.parts.keyword.end
        };
        Diagnostic::error(self.line().place(&(self.parts.keyword.start..end)), message)
    }

    fn error_at(&self, range: &Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(self.line().place(range), message)
    }

    fn at_least_one(&self, name: &str) -> Diagnostic {
        self.error(format!("{name} requires at least one argument"))
    }

    fn unknown(&self) -> Diagnostic {
        let written = self.line().slice(&self.parts.keyword);
        self.error_at(
            &self.parts.keyword,
            format!("unknown instruction: {written}"),
        )
        .did_you_mean(near_any_case(written, KEYWORDS))
    }

    fn flags(&self, name: &str) -> Result<Flags<'_>, Diagnostic> {
        Flags::check(name, &self.parts.flags)
    }

    /// The JSON strings, if the arguments are the exec form.
    fn exec_form(&self) -> Result<Option<Vec<Word>>, Diagnostic> {
        self.exec_form_of(self.arguments())
    }

    fn exec_form_of(&self, range: &Range<usize>) -> Result<Option<Vec<Word>>, Diagnostic> {
        let at = |inner: &Range<usize>| range.start + inner.start..range.start + inner.end;
        match json::read(self.line().slice(range)) {
            JsonForm::NotJson => Ok(None),
            JsonForm::Strings(items) => Ok(Some(
                items
                    .into_iter()
                    .map(|(value, place)| Spanned::new(value, self.line().place(&at(&place))))
                    .collect(),
            )),
            JsonForm::OtherElement(place) => Err(self
                .error_at(
                    &at(&place),
                    "when using JSON array syntax, arrays must be comprised of strings only",
                )
                .grammar()
                .expected("not a string")),
        }
    }

    fn command(&self, range: &Range<usize>) -> Result<CommandLine, Diagnostic> {
        Ok(match self.exec_form_of(range)? {
            Some(items) => CommandLine::Exec(items),
            None => CommandLine::Shell(self.source.word(range)),
        })
    }

    fn plain_command(&self, name: &str) -> Result<CommandLine, Diagnostic> {
        let command = self.command(self.arguments())?;
        self.flags(name)?;
        Ok(command)
    }

    /// The whole rest of the line as one word.
    fn single(&self, name: &str) -> Result<Word, Diagnostic> {
        if !self.has_arguments() {
            return Err(self.error(format!("{name} requires exactly one argument")));
        }
        if name != "STOPSIGNAL" {
            self.flags(name)?;
        }
        Ok(self.source.word(self.arguments()))
    }

    /// JSON strings, or the words between blanks.
    fn list(&self) -> Result<Vec<Word>, Diagnostic> {
        if let Some(items) = self.exec_form()? {
            return Ok(items);
        }
        Ok(split_blanks(self.line(), self.arguments())
            .iter()
            .map(|range| self.source.word(range))
            .collect())
    }

    fn from(&self) -> Result<From, Diagnostic> {
        let words = split_blanks(self.line(), self.arguments());
        let (image, name) = match words.as_slice() {
            [image] => (image, None),
            [image, keyword, name] if self.line().slice(keyword).eq_ignore_ascii_case("as") => {
                (image, Some((keyword, name)))
            }
            other => {
                let diagnostic = self.error("FROM requires either one or three arguments");
                let diagnostic =
                    diagnostic.note("FROM [--platform=<platform>] <image> [AS <name>]");
                let is_comment = |word: &Range<usize>| self.line().slice(word).starts_with('#');
                return Err(match other {
                    words if words.iter().skip(1).any(is_comment) => {
                        diagnostic.hint("a comment stands on a line of its own")
                    }
                    [_, keyword, _] => {
                        diagnostic.did_you_mean(near_any_case(self.line().slice(keyword), ["AS"]))
                    }
                    _ => diagnostic,
                });
            }
        };
        let stage = name.map(|(_, name)| self.stage_name(name)).transpose()?;
        let flags = self.flags("FROM")?;
        let slice = |range: &Range<usize>| self.line().slice(range).to_owned();
        Ok(From {
            image: self.source.word(image),
            platform: flags.text("platform"),
            description: stage
                .as_ref()
                .and_then(|stage| descriptions(self.comments).remove(stage.value.as_str()))
                .map(str::to_owned),
            name: stage,
            written_as: name.map(|(keyword, name)| (slice(keyword), slice(name))),
        })
    }

    fn stage_name(&self, range: &Range<usize>) -> Result<Spanned<String>, Diagnostic> {
        let written = self.line().slice(range);
        let lower = written.to_lowercase();
        let good = lower.starts_with(|first: char| first.is_ascii_lowercase())
            && lower.chars().all(|next| {
                next.is_ascii_lowercase() || next.is_ascii_digit() || "-_.".contains(next)
            });
        if !good {
            let message = format!(
                "invalid name for build stage: {written:?}, name can't start with a number or contain symbols"
            );
            return Err(self
                .error_at(range, message)
                .expected("a letter, then letters, digits, `-`, `_` or `.`"));
        }
        Ok(Spanned::new(lower, self.line().place(range)))
    }

    fn run(&self) -> Result<Run, Diagnostic> {
        let command = self.command(self.arguments())?;
        let flags = self.flags("RUN")?;
        let network = choice(
            &flags,
            "network",
            &[
                ("default", Network::Default),
                ("none", Network::None),
                ("host", Network::Host),
            ],
            |mode| format!("invalid network mode {mode:?}"),
        )?;
        let security = choice(
            &flags,
            "security",
            &[
                ("sandbox", Security::Sandbox),
                ("insecure", Security::Insecure),
            ],
            |mode| format!("security {mode:?} is not valid"),
        )?;
        let mounts = flags
            .list("mount")
            .into_iter()
            .map(RunMount::parse)
            .collect::<Result<_, _>>()?;
        Ok(Run {
            command,
            mounts,
            network,
            security,
        })
    }

    fn transfer(
        &self,
        name: &str,
        flags: &Flags<'_>,
        mut words: Vec<Word>,
    ) -> Result<Transfer, Diagnostic> {
        let destination = words.pop().ok_or_else(|| self.no_destination(name))?;
        if heredoc::opening(&destination.value).is_some() {
            return Err(Diagnostic::error(
                destination.span,
                format!("{name} cannot accept a heredoc as a destination"),
            ));
        }
        // Two bodies of one name: the last one counts for both.
        let bodies: BTreeMap<&str, Arc<str>> = self
            .source
            .heredocs
            .iter()
            .map(|body| (body.name.as_str(), body.text().into()))
            .collect();
        let sources = words
            .into_iter()
            .map(|word| match heredoc::opening(&word.value) {
                None => TransferSource::Path(word),
                Some(opening) => TransferSource::Inline(InlineFile {
                    content: bodies
                        .get(opening.name.as_str())
                        .cloned()
                        .unwrap_or_default(),
                    name: opening.name,
                    expand: opening.expand,
                    span: word.span,
                }),
            })
            .collect();
        Ok(Transfer {
            sources,
            destination,
            chown: flags.text("chown"),
            chmod: flags.text("chmod"),
            link: flags.boolean("link").unwrap_or(false),
            exclude: flags.list("exclude"),
        })
    }

    fn no_destination(&self, name: &str) -> Diagnostic {
        self.error(format!(
            "{name} requires at least two arguments, but only one was provided. Destination could not be determined"
        ))
    }

    fn transfer_words(&self, name: &str) -> Result<Vec<Word>, Diagnostic> {
        let words = self.list()?;
        if words.len() < 2 {
            Err(self.no_destination(name))
        } else {
            Ok(words)
        }
    }

    fn copy(&self) -> Result<Copy, Diagnostic> {
        let words = self.transfer_words("COPY")?;
        let flags = self.flags("COPY")?;
        let from = flags.text("from");
        if let Some(from) = &from {
            let plain = expand::Expander::new(self.parts.escape)
                .word(&from.value, &expand::EmptyEnvironment);
            match plain {
                Ok(plain) if plain.text == from.value => {}
                Ok(_) => {
                    let message = "variable expansion is not supported for --from, define a new stage with FROM \
                                   using ARG from global scope as a workaround";
                    return Err(Diagnostic::error(from.span, message));
                }
                Err(error) => return Err(Diagnostic::error(from.span, error.to_string())),
            }
        }
        Ok(Copy {
            files: self.transfer("COPY", &flags, words)?,
            from,
            parents: flags.boolean("parents").unwrap_or(false),
        })
    }

    fn add(&self) -> Result<Add, Diagnostic> {
        let words = self.transfer_words("ADD")?;
        let flags = self.flags("ADD")?;
        Ok(Add {
            files: self.transfer("ADD", &flags, words)?,
            checksum: flags.text("checksum"),
            keep_git_dir: flags.boolean("keep-git-dir"),
            unpack: flags.boolean("unpack"),
        })
    }

    fn pairs(&self, name: &str) -> Result<Vec<Pair>, Diagnostic> {
        let words = split_quoted(self.line(), self.arguments(), self.parts.escape);
        let Some(first) = words.first() else {
            self.flags(name)?;
            return Err(self.at_least_one(name));
        };
        if !self.line().slice(first).contains('=') {
            let (key, rest) = split_first(self.line(), self.arguments());
            let rest = rest.ok_or_else(|| {
                self.error(format!("{name} must have two arguments"))
                    .grammar()
                    .hint(format!("write `{name} key=value`"))
            })?;
            self.flags(name)?;
            let (key, value) = (self.source.word(&key), self.source.word(&rest));
            return Ok(vec![Pair {
                key,
                value,
                legacy: true,
            }]);
        }
        let pairs = words
            .iter()
            .map(|word| self.pair(name, word))
            .collect::<Result<Vec<_>, _>>()?;
        self.flags(name)?;
        Ok(pairs)
    }

    fn pair(&self, name: &str, word: &Range<usize>) -> Result<Pair, Diagnostic> {
        let text = self.line().slice(word);
        let Some(at) = text.find('=') else {
            let message =
                format!("Syntax error - can't find = in {text:?}. Must be of the form: name=value");
            return Err(self
                .error_at(word, message)
                .grammar()
                .hint("put a value that has blanks in double quotes".to_owned()));
        };
        if at == 0 {
            return Err(self.error_at(word, format!("{name} names can not be blank")));
        }
        let cut = word.start + at;
        Ok(Pair {
            key: self.source.word(&(word.start..cut)),
            value: self.source.word(&(cut + 1..word.end)),
            legacy: false,
        })
    }

    fn arg(&self) -> Result<Vec<ArgDeclaration>, Diagnostic> {
        let words = split_quoted(self.line(), self.arguments(), self.parts.escape);
        if words.is_empty() {
            return Err(self.at_least_one("ARG"));
        }
        let descriptions = descriptions(self.comments);
        words
            .iter()
            .map(|word| {
                let at = self.line().slice(word).find('=');
                if at == Some(0) {
                    return Err(self.error_at(word, "ARG names can not be blank"));
                }
                let cut = at.map_or(word.end, |at| word.start + at);
                let name = self.source.word(&(word.start..cut));
                Ok(ArgDeclaration {
                    description: descriptions
                        .get(name.value.as_str())
                        .map(|text| (*text).to_owned()),
                    name,
                    default: at.map(|_| self.source.word(&(cut + 1..word.end))),
                })
            })
            .collect()
    }

    fn shell(&self) -> Result<Vec<Word>, Diagnostic> {
        let items = self.exec_form()?;
        self.flags("SHELL")?;
        match items {
            Some(items) if !items.is_empty() => Ok(items),
            None if self.has_arguments() => Err(self
                .error_at(
                    self.arguments(),
                    "SHELL requires the arguments to be in JSON form",
                )
                .hint("write SHELL [\"executable\", \"parameter\"], with double quotes")),
            _ => Err(self.at_least_one("SHELL")),
        }
    }

    fn expose(&self) -> Result<Vec<Word>, Diagnostic> {
        if !self.has_arguments() {
            return Err(self.at_least_one("EXPOSE"));
        }
        self.flags("EXPOSE")?;
        Ok(split_blanks(self.line(), self.arguments())
            .iter()
            .map(|range| self.source.word(range))
            .collect())
    }

    fn volume(&self) -> Result<Vec<Word>, Diagnostic> {
        let mut words = self.list()?;
        if words.is_empty() {
            return Err(self.at_least_one("VOLUME"));
        }
        self.flags("VOLUME")?;
        for word in &mut words {
            word.value = word.value.trim().to_owned();
            if word.value.is_empty() {
                return Err(Diagnostic::error(
                    word.span,
                    "VOLUME specified can not be an empty string",
                ));
            }
        }
        Ok(words)
    }

    fn healthcheck(&self) -> Result<Healthcheck, Diagnostic> {
        if !self.has_arguments() {
            return Err(self.at_least_one("HEALTHCHECK"));
        }
        let text = self.line().slice(self.arguments());
        let length = text.find(char::is_whitespace).unwrap_or(text.len());
        let kind = self.arguments().start..self.arguments().start + length;
        let rest = self.line().trim(&(kind.end..self.arguments().end));
        let command = self.command(&rest)?;
        let written = self.line().slice(&kind);
        if written.eq_ignore_ascii_case("NONE") {
            let nothing = match &command {
                CommandLine::Exec(items) => items.is_empty(),
                CommandLine::Shell(text) => text.is_empty(),
            };
            if !nothing {
                return Err(self.error_at(&rest, "HEALTHCHECK NONE takes no arguments"));
            }
            return Ok(Healthcheck::None);
        }
        let flags = self.flags("HEALTHCHECK")?;
        if !written.eq_ignore_ascii_case("CMD") {
            let message = format!(
                "Unknown type {:?} in HEALTHCHECK (try CMD)",
                written.to_uppercase()
            );
            let near = near_any_case(written, ["CMD", "NONE"]);
            return Err(self.error_at(&kind, message).did_you_mean(near));
        }
        let empty = match &command {
            CommandLine::Exec(items) => items.is_empty(),
            CommandLine::Shell(text) => text.is_empty(),
        };
        if empty {
            return Err(self.error("Missing command after HEALTHCHECK CMD"));
        }
        Ok(Healthcheck::Command(Box::new(HealthcheckCommand {
            command,
            interval: interval(&flags, "interval")?,
            timeout: interval(&flags, "timeout")?,
            start_period: interval(&flags, "start-period")?,
            start_interval: interval(&flags, "start-interval")?,
            retries: retries(&flags)?,
        })))
    }

    fn onbuild(&self) -> Result<Onbuild, Diagnostic> {
        if !self.has_arguments() {
            return Err(self.at_least_one("ONBUILD"));
        }
        self.flags("ONBUILD")?;
        let parts = Parts::split(self.line(), self.arguments(), self.parts.escape);
        match parts.name {
            Some("ONBUILD") => {
                return Err(self.error_at(
                    &parts.keyword,
                    "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
                ));
            }
            Some(name @ ("MAINTAINER" | "FROM")) => {
                return Err(self.error_at(
                    &parts.keyword,
                    format!("{name} isn't allowed as an ONBUILD trigger"),
                ));
            }
            _ => {}
        }
        // Everything behind the keyword, blanks at the end included: it becomes part of the config.
        let after = self
            .line()
            .slice(&(self.parts.keyword.end..self.line().text.len()))
            .trim_start();
        let mut expression = after.to_owned();
        for body in self.source.heredocs {
            expression.push('\n');
            expression.push_str(&body.content);
            expression.push_str(&body.name);
        }
        let trigger = self.source.instruction(&parts, &[]);
        Ok(match trigger {
            Ok(trigger) => Onbuild {
                expression,
                trigger: Some(Box::new(trigger)),
                problem: None,
            },
            // What cannot even be cut into words is an error here and now, as it is in BuildKit.
            Err(problem) if problem.grammar => return Err(problem),
            Err(problem) => Onbuild {
                expression,
                trigger: None,
                problem: Some(Box::new(problem)),
            },
        })
    }
}

/// What comments `# <name> <text>` say about names; the first one of a name counts.
fn descriptions(comments: &[String]) -> BTreeMap<&str, &str> {
    let parts = comments.iter().rev();
    parts
        .filter_map(|comment| comment.split_once(' '))
        .collect()
}

/// The value of a flag that takes one of few words; the default without it. An empty word is none of
/// them.
fn choice<T: Clone + Default>(
    flags: &Flags<'_>,
    name: &str,
    choices: &[(&str, T)],
    message: impl Fn(&str) -> String,
) -> Result<T, Diagnostic> {
    let Some(value) = flags.given(name) else {
        return Ok(T::default());
    };
    if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == value.value) {
        return Ok(choice.clone());
    }
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let diagnostic = Diagnostic::error(value.span, message(&value.value));
    Err(match near(&value.value, words.iter().copied()) {
        Some(near) => diagnostic.did_you_mean(Some(near)),
        None => diagnostic.expected(format!("one of {}", words.join(", "))),
    })
}

fn interval(flags: &Flags<'_>, name: &str) -> Result<Option<Duration>, Diagnostic> {
    let Some(value) = flags.text(name) else {
        return Ok(None);
    };
    let (negative, size) = duration::parse(&value.value).map_err(|message| {
        Diagnostic::error(value.span, message).expected("such as 30s or 1m30s")
    })?;
    if negative || (!size.is_zero() && size < Duration::from_millis(1)) {
        return Err(Diagnostic::error(
            value.span,
            format!("Interval {name:?} cannot be less than 1ms"),
        ));
    }
    Ok((!size.is_zero()).then_some(size))
}

fn retries(flags: &Flags<'_>) -> Result<Option<u32>, Diagnostic> {
    let Some(value) = flags.text("retries") else {
        return Ok(None);
    };
    let number: i32 = value.value.parse().map_err(|_| {
        Diagnostic::error(
            value.span,
            format!("invalid value for --retries: {:?}", value.value),
        )
        .expected("a whole number")
    })?;
    let number = u32::try_from(number).map_err(|_| {
        Diagnostic::error(
            value.span,
            format!("--retries cannot be negative ({number})"),
        )
    })?;
    Ok(Some(number))
}
