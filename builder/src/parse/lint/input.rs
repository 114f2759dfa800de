//! What the rules are asked about, and what is known beside the file itself.

use std::collections::{BTreeMap, BTreeSet};

use wythe_layers::spec::Platform;

use super::super::ast::Dockerfile;
use super::options::LintOptions;
use crate::ignore::IgnoreRules;

/// What is known about a base image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseImage {
    /// `NAME=value` of its config.
    pub env: Vec<String>,
    /// Whether its config sets a shell.
    pub has_shell: bool,
    /// Its triggers.
    pub on_build: Vec<String>,
    /// The platform it was found with, and the one that was wanted.
    pub platforms: Option<(Platform, Platform)>,
}

impl BaseImage {
    /// Its environment, name by name.
    pub(super) fn variables(&self) -> impl Iterator<Item = (String, String)> {
        let pairs = self.env.iter().filter_map(|entry| entry.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned()))
    }
}

/// What is known about the image a `FROM` names, after expansion, for the platform it names.
pub type BaseLookup<'a> = dyn Fn(&str, Option<&Platform>) -> Option<BaseImage> + 'a;

/// What is to be checked, and in which light.
pub struct LintInput<'a> {
    /// The file.
    pub dockerfile: &'a Dockerfile,
    /// Options of the command line and the file's `# check=` together.
    pub options: LintOptions,
    /// The platform arguments.
    pub defaults: &'a BTreeMap<String, String>,
    /// `--build-arg`.
    pub build_args: &'a BTreeMap<String, String>,
    /// The rules of the context, if it has a file of them.
    pub ignore: Option<&'a IgnoreRules>,
    /// Numbers of the stages to walk. Default: all.
    pub stages: Option<&'a BTreeSet<usize>>,
    /// What is known about base images.
    pub base: &'a BaseLookup<'a>,
}
