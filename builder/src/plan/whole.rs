//! Rules over the whole file that hold for stages nobody needs too: bases, platforms, names and circles.
//!
//! BuildKit looks at these before it knows what is needed. What stands inside of an instruction (modes,
//! ports, mounts) is looked at in the needed stages only.

use std::collections::{BTreeMap, BTreeSet};

use wythe_layers::spec::{Platform, Reference};

use super::stages::Planner;
use crate::parse::lint::LintOptions;
use crate::parse::mount::boolean;
use crate::parse::suggest::near;
use crate::parse::{
    Diagnostic, ExpandError, InstructionKind, PLATFORM_ARGS, ParseError, Span, Stage, StageRef,
    Word, find_stage, near_stage, resolve_base,
};
use crate::{Error, Result};

/// Platforms that people mean.
const PLATFORMS: [&str; 12] = [
    "linux/amd64",
    "linux/arm64",
    "linux/arm/v7",
    "linux/arm/v6",
    "linux/386",
    "linux/riscv64",
    "linux/ppc64le",
    "linux/s390x",
    "linux/loong64",
    "windows/amd64",
    "amd64",
    "arm64",
];

const CHECK: &str = "BUILDKIT_DOCKERFILE_CHECK";
const MULTI_PLATFORM: &str = "BUILDKIT_MULTI_PLATFORM";
const DISABLE_FILEOP: &str = "BUILDKIT_DISABLE_FILEOP";

/// More messages than this help nobody.
const MAX_DIAGNOSTICS: usize = 20;

/// What one stage needs of another, and the word that says so.
struct Need {
    stage: usize,
    span: Span,
}

/// Build arguments that are for the builder itself (reference, §BuildKit built-in build args).
///
/// # Errors
/// A value that means nothing.
pub(super) fn check_build_args(given: &BTreeMap<String, String>) -> Result<()> {
    let refuse = |name: &'static str, value: &str, reason: String| {
        Err(Error::BuildArgument {
            name,
            value: value.to_owned(),
            reason,
        })
    };
    let value = |name: &str| given.get(name).map(String::as_str);
    if let Some(options) = value(CHECK)
        && let Err(error) = LintOptions::parse(options)
    {
        return refuse(CHECK, options, error.to_string());
    }
    if let Some(switch) = value(MULTI_PLATFORM).filter(|switch| !switch.is_empty())
        && boolean(switch).is_none()
    {
        return refuse(MULTI_PLATFORM, switch, "expected true or false".to_owned());
    }
    if let Some(switch) = value(DISABLE_FILEOP)
        && boolean(switch) == Some(true)
    {
        let reason = "files were copied in another way once; that is gone".to_owned();
        return refuse(DISABLE_FILEOP, switch, reason);
    }
    Ok(())
}

impl Planner<'_> {
    /// # Errors
    /// Everything that is wrong, at once.
    pub(super) fn check_whole(&self) -> Result<()> {
        let mut found = Vec::new();
        let mut needs: Vec<Vec<Need>> = Vec::new();
        for stage in &self.stages {
            found.extend(self.check_stage(stage));
            let mut own = Vec::new();
            for word in sources(stage) {
                match self.stage_of(&word) {
                    Some(stage) => own.push(Need {
                        stage,
                        span: word.span,
                    }),
                    None => found.extend(self.check_image(&word.value, word.span, stage.index)),
                }
            }
            needs.push(own);
            if found.len() >= MAX_DIAGNOSTICS {
                break;
            }
        }
        if found.is_empty() {
            found.extend(self.circle(&needs));
        }
        if found.is_empty() {
            return Ok(());
        }
        found.sort_by_key(Diagnostic::span);
        Err(Error::from(ParseError {
            source: self.file.source.clone(),
            diagnostics: found,
        }))
    }

    /// All that is wrong with one `FROM`.
    fn check_stage(&self, stage: &Stage<'_>) -> Vec<Diagnostic> {
        let mut found: Vec<Diagnostic> = self.stage_platform(stage).err().into_iter().collect();
        match self.base_name(stage) {
            Ok(base) if resolve_base(&self.stages, stage.index, &base) == StageRef::Image => {
                found.extend(self.check_image(&base, stage.from.image.span, stage.index));
            }
            base => found.extend(base.err()),
        }
        found.extend(check_name(stage).err());
        found
    }

    /// The expanded name of what a stage is built on.
    pub(super) fn base_name(&self, stage: &Stage<'_>) -> Result<String, Diagnostic> {
        let word = &stage.from.image;
        let name = self.expand_global(word)?;
        if name.is_empty() {
            let message = format!("base name ({}) should not be blank", word.value);
            return Err(Diagnostic::error(word.span, message)
                .expected("no such argument has a value")
                .did_you_mean(self.near_argument(word)));
        }
        Ok(name)
    }

    /// `FROM --platform`, or what the build is for.
    pub(super) fn stage_platform(&self, stage: &Stage<'_>) -> Result<Platform, Diagnostic> {
        let Some(word) = &stage.from.platform else {
            return Ok(self.request.platform.clone());
        };
        let text = self.expand_global(word)?;
        if text.is_empty() {
            let message = format!("empty platform value from expression {}", word.value);
            return Err(
                Diagnostic::error(word.span, message).did_you_mean(self.near_argument(word))
            );
        }
        text.parse::<Platform>().map_err(|error| {
            Diagnostic::error(word.span, error.to_string())
                .expected("such as linux/amd64")
                .did_you_mean(near(&text.to_lowercase(), PLATFORMS))
        })
    }

    fn expand_global(&self, word: &Word) -> Result<String, Diagnostic> {
        self.expander
            .word(&word.value, &self.global.values)
            .map(|expanded| expanded.text)
            .map_err(|error: ExpandError| Diagnostic::error(word.span, error.to_string()))
    }

    /// The argument that was meant by a word that is one variable.
    fn near_argument(&self, word: &Word) -> Option<String> {
        let name = word.trim_start_matches('$').trim_matches(['{', '}']);
        let declared = self.global.declared.keys().map(String::as_str);
        near(name, declared.chain(PLATFORM_ARGS))
    }

    /// The stage that `COPY --from` or `from=` of a mount names, wherever it stands.
    fn stage_of(&self, word: &Source<'_>) -> Option<usize> {
        if word.numbers
            && let Ok(number) = word.value.parse::<i64>()
        {
            // A number out of range did not parse.
            return usize::try_from(number).ok();
        }
        find_stage(&self.stages, &word.value).map(|stage| stage.index)
    }

    /// Whether an image can have this name.
    fn check_image(&self, name: &str, span: Span, index: usize) -> Option<Diagnostic> {
        if name == "scratch" || self.request.named_context(name).is_some() {
            return None;
        }
        let error = name.parse::<Reference>().err()?;
        let near = near_stage(self.stages.get(..index).unwrap_or_default(), name);
        Some(Diagnostic::error(span, error.to_string()).did_you_mean(near))
    }

    /// The first circle of stages that need each other. Bases make none: they stand above.
    fn circle(&self, needs: &[Vec<Need>]) -> Option<Diagnostic> {
        let mut done = BTreeSet::new();
        for start in 0..needs.len() {
            // The stages on the way, each with the place of the need to be followed next.
            let mut way = vec![(start, 0)];
            while let Some((stage, next)) = way.last_mut() {
                let stage = *stage;
                let need = needs.get(stage).and_then(|needs| needs.get(*next));
                *next += 1;
                let Some(need) = need.filter(|_| !done.contains(&stage)) else {
                    done.insert(stage);
                    way.pop();
                    continue;
                };
                if let Some(from) = way.iter().position(|(on_way, _)| *on_way == need.stage) {
                    return Some(self.circle_found(way.get(from..)?, needs));
                }
                if !done.contains(&need.stage) {
                    way.push((need.stage, 0));
                }
            }
        }
        None
    }

    fn circle_found(&self, way: &[(usize, usize)], needs: &[Vec<Need>]) -> Diagnostic {
        let place = |(stage, next): &(usize, usize)| {
            let need = needs.get(*stage)?.get(next.checked_sub(1)?)?;
            Some((self.shown(*stage), self.shown(need.stage), need.span))
        };
        let mut places = way.iter().filter_map(place);
        let (name, other, span) = places.next().unwrap_or_default();
        let message = format!("circular dependency detected on stage: {name}");
        let says = |name: &str, other: &str| format!("{name} needs {other}");
        let diagnostic = Diagnostic::error(span, message).expected(says(&name, &other));
        places.fold(diagnostic, |diagnostic, (name, other, span)| {
            diagnostic.label(span, says(&name, &other))
        })
    }

    fn shown(&self, index: usize) -> String {
        let name = self.stages.get(index).and_then(Stage::name);
        name.map_or_else(|| format!("stage-{index}"), str::to_owned)
    }
}

/// A name that stands in a stage.
struct Source<'a> {
    word: &'a Word,
    /// Whether a number is a stage.
    numbers: bool,
}

impl std::ops::Deref for Source<'_> {
    type Target = Word;

    fn deref(&self) -> &Word {
        self.word
    }
}

/// What a stage reads files from.
fn sources<'a>(stage: &Stage<'a>) -> impl Iterator<Item = Source<'a>> {
    stage.body.iter().flat_map(|instruction| {
        let (copied, mounts) = match &instruction.kind {
            InstructionKind::Copy(copy) => (copy.from.as_ref(), [].as_slice()),
            InstructionKind::Run(run) => (None, run.mounts.as_slice()),
            _ => (None, [].as_slice()),
        };
        let copied = copied.map(|word| Source {
            word,
            numbers: true,
        });
        let mounted = mounts.iter().filter_map(|mount| mount.from.as_ref());
        copied.into_iter().chain(mounted.map(|word| Source {
            word,
            numbers: false,
        }))
    })
}

/// A stage's name could be that of a named context, so it has to be one of an image.
fn check_name(stage: &Stage<'_>) -> Result<(), Diagnostic> {
    let Some(name) = &stage.from.name else {
        return Ok(());
    };
    name.value.parse::<Reference>().map(drop).map_err(|_| {
        Diagnostic::error(
            name.span,
            format!("invalid name for build stage: {:?}", name.value),
        )
        .expected("parts of letters and digits, with `.`, `_`, `__` or `-` between them")
    })
}
