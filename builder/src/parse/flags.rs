//! `--flags`: which instruction takes which, and how their values are read.

use super::Diagnostic;
use super::ast::Flag;
use super::lines::LogicalLine;
use super::span::{Spanned, Word};
use super::suggest::near;
use super::words::RawFlag;

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FlagValue {
    /// Nothing, `true` or `false`.
    Boolean,
    /// One text.
    Text,
    /// A text, any number of times.
    List,
}

use FlagValue::{Boolean, List, Text};

/// The flags of each instruction; those not named take none.
const FLAGS: &[(&str, &[(&str, FlagValue)])] = &[
    (
        "ADD",
        &[
            ("chown", Text),
            ("chmod", Text),
            ("link", Boolean),
            ("keep-git-dir", Boolean),
            ("checksum", Text),
            ("unpack", Boolean),
            ("exclude", List),
        ],
    ),
    (
        "COPY",
        &[
            ("chown", Text),
            ("from", Text),
            ("chmod", Text),
            ("link", Boolean),
            ("exclude", List),
            ("parents", Boolean),
        ],
    ),
    ("FROM", &[("platform", Text)]),
    (
        "HEALTHCHECK",
        &[
            ("interval", Text),
            ("timeout", Text),
            ("start-period", Text),
            ("start-interval", Text),
            ("retries", Text),
        ],
    ),
    (
        "RUN",
        &[("mount", List), ("network", Text), ("security", Text)],
    ),
];

fn known(instruction: &str) -> &'static [(&'static str, FlagValue)] {
    FLAGS
        .iter()
        .find(|(name, _)| *name == instruction)
        .map_or(&[], |(_, flags)| flags)
}

/// Gives lexed flags their places and cuts them at `=`.
pub(super) fn from_raw(line: &LogicalLine<'_>, raw: &[RawFlag]) -> Vec<Flag> {
    raw.iter()
        .map(|flag| {
            let written = line.slice(&flag.range);
            let (name, value) = match flag.text.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (flag.text.as_str(), None),
            };
            let cut = written
                .find('=')
                .map_or(flag.range.end, |at| flag.range.start + at);
            let value_start = (cut + 1).min(flag.range.end);
            Flag {
                name: Spanned::new(
                    name.strip_prefix("--").unwrap_or(name).to_owned(),
                    line.place(&(flag.range.start..cut)),
                ),
                value: value.map(|value| {
                    Spanned::new(value.to_owned(), line.place(&(value_start..flag.range.end)))
                }),
                span: line.place(&flag.range),
            }
        })
        .collect()
}

/// The flags of one instruction, checked against what it takes.
pub(super) struct Flags<'a> {
    flags: &'a [Flag],
}

impl<'a> Flags<'a> {
    /// # Errors
    /// An unknown, repeated or valueless flag, or a boolean that is none.
    pub(super) fn check(instruction: &str, flags: &'a [Flag]) -> Result<Self, Diagnostic> {
        let known = known(instruction);
        for (at, flag) in flags.iter().enumerate() {
            let name = flag.name.value.as_str();
            let Some((_, kind)) = known.iter().find(|(own, _)| *own == name) else {
                return Err(unknown(instruction, flag));
            };
            let earlier = flags.iter().take(at).find(|other| other.name == flag.name);
            if let (Some(earlier), Text | Boolean) = (earlier, kind) {
                return Err(Diagnostic::error(
                    flag.span,
                    format!("duplicate flag specified: --{name}"),
                )
                .label(earlier.span, "given here already"));
            }
            check_value(flag, *kind)?;
        }
        Ok(Self { flags })
    }

    fn find(&self, name: &str) -> Option<&'a Flag> {
        self.flags.iter().find(|flag| flag.name.value == name)
    }

    /// The value of a text flag, which may be empty.
    pub(super) fn given(&self, name: &str) -> Option<&'a Word> {
        self.find(name)?.value.as_ref()
    }

    /// The value of a text flag; an empty one counts as not given.
    pub(super) fn text(&self, name: &str) -> Option<Word> {
        self.find(name)?
            .value
            .clone()
            .filter(|value| !value.value.is_empty())
    }

    pub(super) fn boolean(&self, name: &str) -> Option<bool> {
        let flag = self.find(name)?;
        Some(
            flag.value
                .as_ref()
                .is_none_or(|value| value.value.eq_ignore_ascii_case("true")),
        )
    }

    pub(super) fn list(&self, name: &str) -> Vec<Word> {
        self.flags
            .iter()
            .filter(|flag| flag.name.value == name)
            .filter_map(|flag| flag.value.clone())
            .collect()
    }
}

fn check_value(flag: &Flag, kind: FlagValue) -> Result<(), Diagnostic> {
    let name = flag.name.value.as_str();
    match (&flag.value, kind) {
        (None, Boolean) | (Some(_), Text | List) => Ok(()),
        (None, Text | List) => Err(missing(flag)),
        (Some(value), Boolean) if value.value.is_empty() => Err(missing(flag)),
        (Some(value), Boolean) => {
            if value.value.eq_ignore_ascii_case("true") || value.value.eq_ignore_ascii_case("false")
            {
                return Ok(());
            }
            let message = format!(
                "expecting boolean value for flag --{name}, not: {}",
                value.value
            );
            Err(Diagnostic::error(value.span, message).expected("`true` or `false`"))
        }
    }
}

fn missing(flag: &Flag) -> Diagnostic {
    let name = &flag.name.value;
    Diagnostic::error(flag.span, format!("missing a value on flag: --{name}"))
        .expected(format!("write --{name}=…"))
}

fn unknown(instruction: &str, flag: &Flag) -> Diagnostic {
    let name = flag.name.value.as_str();
    let names = known(instruction).iter().map(|(name, _)| *name);
    let diagnostic = Diagnostic::error(flag.name.span, format!("unknown flag: --{name}"));
    if let Some(near) = near(name, names.clone()) {
        return diagnostic.did_you_mean(Some(format!("--{near}")));
    }
    let owners: Vec<&str> = FLAGS
        .iter()
        .filter(|(_, flags)| flags.iter().any(|(own, _)| *own == name))
        .map(|(instruction, _)| *instruction)
        .collect();
    if !owners.is_empty() {
        return diagnostic.note(format!("--{name} is a flag of {}", owners.join(" and ")));
    }
    let names: Vec<String> = names.map(|name| format!("--{name}")).collect();
    if names.is_empty() {
        diagnostic.note(format!(
            "{instruction} takes no flags; a `--` of its own before the arguments ends the flags"
        ))
    } else {
        diagnostic.note(format!("{instruction} takes {}", names.join(", ")))
    }
}
