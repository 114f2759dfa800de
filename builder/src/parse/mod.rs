//! The Dockerfile language: text in, instructions with their places out.
//!
//! Four steps, each usable alone and none of them doing I/O:
//! [`parse`] reads a whole file; [`Expander`] replaces variables in a [`Word`] against an
//! [`Environment`]; [`RunMount::resolve`] turns a `--mount` into a [`Mount`]; [`lint`] says what is
//! legal but unwise. BuildKit's parser is the reference for what is accepted.

mod ast;
mod diagnostic;
mod directive;
mod duration;
mod expand;
mod flags;
mod heredoc;
mod instruction;
mod json;
mod lines;
pub mod lint;
pub(crate) mod mount;
mod parts;
mod ports;
mod print;
mod reader;
mod scope;
mod script;
pub(crate) mod signal;
mod size;
mod span;
mod stages;
pub(crate) mod suggest;
#[cfg(test)]
mod tests;
mod variables;
mod words;

pub use ast::{
    Add, ArgDeclaration, CommandLine, Copy, Directives, Dockerfile, Flag, From, Healthcheck,
    HealthcheckCommand, Heredoc, InlineFile, Instruction, InstructionKind, Network, Onbuild, Pair,
    Run, Security, Transfer, TransferSource,
};
pub use diagnostic::{Diagnostic, Label, ParseError, Severity, Style};
pub use expand::{
    EmptyEnvironment, Environment, ExpandError, Expanded, Expander, MAX_EXPANDED_BYTES,
    MAX_EXPANDED_BYTES_OF_FILE, MAX_NESTING,
};
pub use mount::{CacheSharing, Mount, MountType, RunMount};
pub use ports::{PortError, PortSpec};
pub use scope::{GlobalArg, GlobalScope, PLATFORM_ARGS, PROXY_ARGS};
pub use script::RunScript;
pub use span::{Position, SourceText, Span, Spanned, Word};
pub use stages::{Stage, StageRef, Stages, UnknownTarget, find_target, reachable};
pub(crate) use stages::{
    find_stage, near_stage, resolve_base, resolve_copy_from, resolve_mount_from,
};

/// Parses a whole Dockerfile. `name` is what messages call it.
///
/// # Errors
/// Everything found wrong with it, as one value that can be rendered.
pub fn parse(bytes: &[u8], name: &str) -> Result<Dockerfile, ParseError> {
    reader::parse(bytes, name)
}

/// Parses one `ONBUILD` trigger as it stands in an image config (escape character: backslash).
///
/// # Errors
/// What is wrong with it, or that it is not exactly one instruction.
pub fn parse_trigger(
    expression: &str,
    name: &str,
) -> Result<(SourceText, Instruction), ParseError> {
    reader::parse_trigger(expression, name)
}
