//! The build checks: of `--check`, of one file or of a folder of them, and in passing of a build.
//!
//! Nothing is fetched for them: of a base image is known what the store has.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use wythe_builder::ignore::IgnoreRules;
use wythe_builder::parse::{self, Dockerfile, Expander, GlobalScope, ParseError, lint};
use wythe_builder::{
    BuildRequest, DOCKERFILE_NAMES, Error, NamedContext, check_plan, platform_args,
};
use wythe_layers::image;
use wythe_layers::spec::{Platform, Reference};
use wythe_layers::store::Store;

use crate::settings::Settings;

/// The build argument that takes the place of a file's `# check=`.
const CHECK: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// A file and what is to be said about it.
pub(crate) struct Checked {
    pub(crate) dockerfile: Dockerfile,
    pub(crate) result: lint::LintResult,
    /// A warning is an error.
    pub(crate) error: bool,
}

impl Checked {
    /// Why the build of a file fails that wants none of its warnings.
    pub(crate) fn violation(&self) -> Option<String> {
        let warnings = &self.result.warnings;
        let rules: BTreeSet<&str> = warnings.iter().map(|one| one.rule.name).collect();
        let rules: Vec<&str> = rules.into_iter().collect();
        let is_one = self.error && !rules.is_empty();
        is_one.then(|| format!("lint violation found for rules: {}", rules.join(", ")))
    }
}

/// Which stages are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stages {
    All,
    /// Those that the target needs.
    OfTarget,
}

/// The store, if there is one: a check makes none.
pub(crate) fn store(settings: &Settings) -> Option<Store> {
    let exists = settings.root().is_ok_and(|root| root.is_dir());
    exists.then(|| settings.store().ok()).flatten()
}

/// Checks a file. The outer error is about the request, the inner one about the file.
pub(crate) fn check(
    request: &BuildRequest,
    store: Option<&Store>,
    stages: Stages,
) -> anyhow::Result<Result<Checked, ParseError>> {
    let dockerfile = match parse::parse(&request.dockerfile.bytes, &request.dockerfile.name) {
        Ok(dockerfile) => dockerfile,
        Err(error) => return Ok(Err(error)),
    };
    let ignore = request
        .ignore_file
        .as_ref()
        .map(|file| {
            IgnoreRules::parse(&file.bytes).with_context(|| format!("{} is not valid", file.name))
        })
        .transpose()?;
    let own = dockerfile.directives.check.as_ref();
    let written = request.build_args.get(CHECK).map(String::as_str);
    let options = match written.or(own.map(|text| text.value.as_str())) {
        Some(text) => lint::LintOptions::parse(text)?,
        None => lint::LintOptions::default(),
    };
    let error = options.error;
    let defaults = platform_arguments(request);
    let wanted = match stages {
        Stages::All => None,
        Stages::OfTarget => needed(&dockerfile, request, &defaults),
    };
    let images = Images::new(request, store);
    let mut result = lint::lint(&lint::LintInput {
        dockerfile: &dockerfile,
        options,
        defaults: &defaults,
        build_args: &request.build_args,
        ignore: ignore.as_ref(),
        stages: wanted.as_ref(),
        base: &|name, platform| images.get(name, platform),
    });
    if let (None, Stages::All, Err(Error::Dockerfile(error))) =
        (&result.error, stages, check_plan(&dockerfile, request))
    {
        result.error = error.diagnostics.into_iter().next();
    }
    Ok(Ok(Checked {
        dockerfile,
        result,
        error,
    }))
}

/// The stages that the target needs; `None` if that cannot be told, which the build will say.
fn needed(
    dockerfile: &Dockerfile,
    request: &BuildRequest,
    defaults: &BTreeMap<String, String>,
) -> Option<BTreeSet<usize>> {
    let stages = dockerfile.stages();
    let target = parse::find_target(&stages, request.target.as_deref()).ok()?;
    let expander = Expander::new(dockerfile.directives.escape);
    let scope = GlobalScope::evaluate(dockerfile, defaults, &request.build_args, &expander).ok()?;
    parse::reachable(&stages, target, &scope, &expander).ok()
}

/// Base images as far as the store has them.
pub(crate) struct Images<'a> {
    request: &'a BuildRequest,
    store: Option<&'a Store>,
    known: RefCell<BTreeMap<(String, String), Option<lint::BaseImage>>>,
}

impl<'a> Images<'a> {
    pub(crate) fn new(request: &'a BuildRequest, store: Option<&'a Store>) -> Self {
        Self {
            request,
            store,
            known: RefCell::default(),
        }
    }

    pub(crate) fn get(&self, name: &str, platform: Option<&Platform>) -> Option<lint::BaseImage> {
        let platform = platform.unwrap_or(&self.request.platform);
        let key = (name.to_owned(), platform.to_string());
        if let Some(known) = self.known.borrow().get(&key) {
            return known.clone();
        }
        let found = self.find(name, platform);
        self.known.borrow_mut().insert(key, found.clone());
        found
    }

    fn find(&self, name: &str, platform: &Platform) -> Option<lint::BaseImage> {
        let named = self.request.named_context(name);
        let reference: Reference = match named {
            None => name.parse().ok()?,
            Some((_, NamedContext::Image(reference))) => reference.clone(),
            // Files in the image's place say nothing about variables.
            Some(_) => return None,
        };
        let stored = image::open(self.store?, &reference, platform).ok()??;
        let config = stored.config.value();
        Some(lint::BaseImage {
            env: config.config.env.clone(),
            has_shell: config
                .config
                .shell
                .as_ref()
                .is_some_and(|shell| !shell.is_empty()),
            on_build: config.config.on_build.clone(),
            // Who puts an image in another's place has chosen it.
            platforms: named
                .is_none()
                .then(|| (config.platform(), platform.clone())),
        })
    }
}

/// The predefined arguments, as a build of the request's target has them.
pub(crate) fn platform_arguments(request: &BuildRequest) -> BTreeMap<String, String> {
    platform_args(request, request.target.as_deref().unwrap_or("default"))
}

/// Whether `--check` of this directory means its one Dockerfile.
pub(crate) fn has_default_file(directory: &Path) -> bool {
    DOCKERFILE_NAMES
        .iter()
        .any(|name| directory.join(name).symlink_metadata().is_ok())
}

/// All Dockerfiles below a directory, in order of their paths. Links are not followed, and hidden
/// directories are left out.
pub(crate) fn files_below(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut open = vec![directory.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = open.pop() {
        let context = || format!("cannot list {}", folder.display());
        for entry in std::fs::read_dir(&folder).with_context(context)? {
            let entry = entry.with_context(context)?;
            let kind = entry.file_type().with_context(context)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if kind.is_dir() && !name.starts_with('.') {
                open.push(entry.path());
            } else if kind.is_file() && is_dockerfile(&name) {
                files.push(entry.path());
            }
        }
    }
    if files.is_empty() {
        bail!("there is no Dockerfile in {} or below", directory.display());
    }
    files.sort();
    Ok(files)
}

/// `Dockerfile`, `Dockerfile.web`, `web.Dockerfile`; the same with `Containerfile`, in any case.
fn is_dockerfile(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["dockerfile", "containerfile"].iter().any(|kind| {
        let behind = name.strip_prefix(kind);
        let before = name.strip_suffix(kind);
        (behind.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            && !name.ends_with(".dockerignore"))
            || before.is_some_and(|rest| rest.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::is_dockerfile;

    #[test]
    fn dockerfiles_are_known_by_name() {
        for (name, expected) in [
            ("Dockerfile", true),
            ("dockerfile", true),
            ("Containerfile", true),
            ("Dockerfile.web", true),
            ("web.Dockerfile", true),
            ("web.dockerfile", true),
            ("Dockerfile.dockerignore", false),
            ("Dockerfile.web.dockerignore", false),
            ("Dockerfiles", false),
            ("MyDockerfile", false),
            (".dockerignore", false),
        ] {
            assert_eq!(is_dockerfile(name), expected, "{name}");
        }
    }
}
