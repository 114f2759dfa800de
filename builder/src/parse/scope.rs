//! Global build arguments: the `ARG` instructions before the first `FROM`.
//!
//! They are all that `FROM` can use. A stage sees one only after declaring it again.

use std::collections::{BTreeMap, BTreeSet};

use super::Diagnostic;
use super::ast::{Dockerfile, InstructionKind};
use super::expand::Expander;
use super::span::Span;

/// The names that are set for every `FROM` without being declared.
pub const PLATFORM_ARGS: [&str; 11] = [
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDOSVERSION",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETOSVERSION",
    "TARGETARCH",
    "TARGETVARIANT",
    "TARGETSTAGE",
];

/// Proxy arguments: may be given without being declared, and stay out of history and cache keys then.
pub const PROXY_ARGS: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// One declared global argument.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GlobalArg {
    /// Its value; `None` if it has neither default nor value.
    pub value: Option<String>,
    /// Names its default used.
    pub depends_on: BTreeSet<String>,
    /// From the comment above.
    pub description: Option<String>,
    /// Line of the declaration, from 1.
    pub line: usize,
    /// The name's place.
    pub span: Span,
}

/// The global arguments and what they came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GlobalScope {
    /// What `FROM` is expanded with: platform arguments and declared ones that have a value.
    pub values: BTreeMap<String, String>,
    /// Declared ones by name.
    pub declared: BTreeMap<String, GlobalArg>,
}

impl GlobalScope {
    /// Evaluates the declarations in order, on top of `defaults` (the platform arguments). A value in
    /// `build_args` takes the place of a default. The values are made by the file's `expander`.
    ///
    /// # Errors
    /// A default that cannot be expanded.
    pub fn evaluate(
        dockerfile: &Dockerfile,
        defaults: &BTreeMap<String, String>,
        build_args: &BTreeMap<String, String>,
        expander: &Expander,
    ) -> Result<Self, Diagnostic> {
        let mut scope = Self {
            values: defaults.clone(),
            declared: BTreeMap::new(),
        };
        for instruction in dockerfile.global_args() {
            let InstructionKind::Arg(declarations) = &instruction.kind else {
                continue;
            };
            for declaration in declarations {
                let name = &declaration.name.value;
                let mut arg = GlobalArg {
                    description: declaration.description.clone(),
                    line: instruction.line,
                    span: declaration.name.span,
                    ..GlobalArg::default()
                };
                if let Some(given) = build_args.get(name) {
                    arg.value = Some(given.clone());
                } else if let Some(default) = &declaration.default {
                    let expanded = expander
                        .word(&default.value, &scope.values)
                        .map_err(|error| Diagnostic::error(default.span, error.to_string()))?;
                    arg.value = Some(expanded.text);
                    arg.depends_on = expanded.used;
                    if arg.depends_on.remove(name)
                        && let Some(mut older) = scope.declared.remove(name)
                    {
                        older.depends_on.extend(arg.depends_on);
                        arg.depends_on = older.depends_on;
                    }
                }
                if let Some(value) = &arg.value {
                    scope.values.insert(name.clone(), value.clone());
                }
                scope.declared.insert(name.clone(), arg);
            }
        }
        Ok(scope)
    }
}
