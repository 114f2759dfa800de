//! Where the rules put what they find, and what keeps them quiet.

use super::super::ast::Instruction;
use super::super::diagnostic::bounded;
use super::super::span::Span;
use super::options::LintOptions;
use super::rules::{Rule, rule};
use super::warning::LintWarning;

/// Collects warnings that the options let through.
pub(super) struct Reporter<'a> {
    options: &'a LintOptions,
    pub(super) warnings: Vec<LintWarning>,
    /// Nothing is to be said at the moment.
    pub(super) silent: bool,
    /// What the comments above an instruction switch off, by its line: read once, not for each warning.
    local: Option<(usize, LintOptions)>,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(options: &'a LintOptions) -> Self {
        Self {
            options,
            warnings: Vec::new(),
            silent: false,
            local: None,
        }
    }

    pub(super) fn report(&mut self, name: &'static str, instruction: &Instruction, detail: String) {
        self.report_at(name, Some(instruction), instruction.code_span(), detail);
    }

    /// For rules about the file as a whole, where comments above an instruction change nothing.
    pub(super) fn report_unlocal(
        &mut self,
        name: &'static str,
        instruction: &Instruction,
        detail: String,
    ) {
        if let Some(rule) = self.rule(name).filter(|rule| self.options.allows(rule)) {
            self.push(rule, instruction.code_span(), instruction.span, detail);
        }
    }

    pub(super) fn report_at(
        &mut self,
        name: &'static str,
        instruction: Option<&Instruction>,
        span: Span,
        detail: String,
    ) {
        let Some(rule) = self.rule(name) else { return };
        let allowed = match instruction.filter(|instruction| !instruction.comments.is_empty()) {
            None => self.options.allows(rule),
            Some(instruction) => self.options.allows_with(self.local(instruction), rule),
        };
        if allowed {
            let whole = instruction.filter(|one| one.code_span() == span);
            self.push(rule, span, whole.map_or(span, |one| one.span), detail);
        }
    }

    fn rule(&self, name: &str) -> Option<&'static Rule> {
        rule(name).filter(|_| !self.silent)
    }

    fn push(&mut self, rule: &'static Rule, span: Span, whole: Span, detail: String) {
        self.warnings.push(LintWarning {
            rule,
            detail: bounded(detail),
            span,
            whole,
        });
    }

    fn local(&mut self, instruction: &Instruction) -> &LintOptions {
        let line = instruction.line;
        if self.local.as_ref().is_none_or(|(known, _)| *known != line) {
            self.local = None;
        }
        let read = || (line, LintOptions::of_comments(&instruction.comments));
        &self.local.get_or_insert_with(read).1
    }
}
