//! A line cut into keyword, flags and arguments, before anyone asks what the arguments mean.

use std::ops::Range;

use super::ast::Flag;
use super::flags;
use super::heredoc;
use super::json::{self, JsonForm};
use super::lines::LogicalLine;
use super::words::{split_first, split_flags};

/// All keywords.
pub(super) const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// A line split at its keyword and flags; what the arguments mean is still open.
pub(super) struct Parts {
    pub(super) keyword: Range<usize>,
    /// The keyword in upper case, if it is one.
    pub(super) name: Option<&'static str>,
    pub(super) flags: Vec<Flag>,
    pub(super) arguments: Range<usize>,
    pub(super) escape: char,
}

impl Parts {
    pub(super) fn split(line: &LogicalLine<'_>, range: &Range<usize>, escape: char) -> Self {
        let (keyword, rest) = split_first(line, &line.trim(range));
        let (flags, arguments) = match rest {
            Some(rest) => {
                let (raw, arguments) = split_flags(line, &rest, escape);
                (flags::from_raw(line, &raw), line.trim(&arguments))
            }
            None => (Vec::new(), keyword.end..keyword.end),
        };
        let written = line.slice(&keyword);
        let name = KEYWORDS
            .into_iter()
            .find(|name| name.eq_ignore_ascii_case(written));
        Self {
            keyword,
            name,
            flags,
            arguments,
            escape,
        }
    }

    fn is_json(&self, line: &LogicalLine<'_>) -> bool {
        !matches!(json::read(line.slice(&self.arguments)), JsonForm::NotJson)
    }

    /// Here-documents that the line opens, if this instruction takes any.
    pub(super) fn openings(&self, line: &LogicalLine<'_>) -> Vec<heredoc::Opening> {
        if !line.text.contains("<<") {
            return Vec::new();
        }
        let takes = match self.name {
            Some("ONBUILD") => {
                let trigger = Self::split(line, &self.arguments, self.escape);
                matches!(trigger.name, Some("RUN" | "COPY" | "ADD")) && !trigger.is_json(line)
            }
            Some("RUN" | "COPY" | "ADD") => !self.is_json(line),
            _ => false,
        };
        if takes {
            heredoc::openings(&line.text)
        } else {
            Vec::new()
        }
    }
}
