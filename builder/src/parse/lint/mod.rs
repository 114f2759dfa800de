//! What is legal but unwise: BuildKit's 22 build checks.
//!
//! [`RULES`] is the list as data, [`LintOptions`] what `# check=` and the command line say, and
//! [`lint`] runs the rules over a parsed file. Nothing is fetched: what only the base image knows comes
//! in through [`LintInput::base`], and a rule that needs it stays silent where it is unknown.

mod names;
mod options;
mod report;
#[cfg(test)]
mod rows;
mod rules;
mod run;
#[cfg(test)]
mod tests;

pub use options::{LintOptions, OptionsError};
pub use report::{
    LintReport, LintSource, Location, Outline, OutlineArg, OutlineMount, Point, Range, ReportError,
    ReportWarning, Target, TargetList, outline, targets,
};
pub use rules::{RULES, Rule, rule};
pub use run::{BaseImage, LintInput, LintResult, LintWarning, lint};
