//! What is legal but unwise: BuildKit's 22 build checks.
//!
//! [`RULES`] is the list as data, [`LintOptions`] what `# check=` and the command line say, and
//! [`lint`] runs the rules over a parsed file. Nothing is fetched: what only the base image knows comes
//! in through [`LintInput::base`], and a rule that needs it stays silent where it is unknown.

mod input;
mod names;
mod options;
mod outline;
mod report;
mod reporter;
#[cfg(test)]
mod rows;
mod rules;
mod run;
#[cfg(test)]
mod tests;
mod triggers;
mod warning;

pub use input::{BaseImage, BaseLookup, LintInput};
pub use options::{LintOptions, OptionsError};
pub use outline::{Outline, OutlineArg, OutlineInput, OutlineMount, outline};
pub use report::{
    LintReport, LintSource, Location, Point, Range, ReportError, ReportWarning, Target, TargetList,
    targets,
};
pub use rules::{RULES, Rule, rule};
pub use run::lint;
pub use warning::{LintResult, LintWarning};
