//! Cache keys of steps.
//!
//! What is below a step goes in as the chain ID of its layers, not as the key of the step before:
//! a step that ran again and gave the same files lets everything after it stay cached.

use wythe_layers::spec::{ChainId, DiffId};

use super::mounts;
use super::session::Session;
use super::stage::StageResult;
use crate::cache::{CacheKey, KeyBuilder};
use crate::copy::{self, Place, Source};
use crate::plan::{
    CacheMount, Chmod, Chown, CopySource, CopyStep, FileSource, NameOrId, RunStep, SecretMount,
    SshMount, StepMount, WorkdirStep,
};
use crate::{Network, Result, Security};

/// The name of a stack of layers.
pub(super) fn chain(layers: &[DiffId]) -> String {
    ChainId::of(layers).map_or_else(|| "scratch".to_owned(), |chain| chain.to_string())
}

fn begin(session: &Session<'_>, kind: &str, parent: Option<&[DiffId]>) -> KeyBuilder {
    let mut key = KeyBuilder::new(kind);
    if let Some(parent) = parent {
        key.push("parent", chain(parent));
    }
    let clamp = session.clamp.map(|clamp| clamp.seconds.to_string());
    key.push("clamp", clamp.unwrap_or_default());
    key
}

/// `WORKDIR`.
pub(super) fn workdir(session: &Session<'_>, step: &WorkdirStep, parent: &[DiffId]) -> CacheKey {
    let mut key = begin(session, "workdir", Some(parent));
    key.push("path", step.path.as_str());
    push_chown(&mut key, step.owner.as_ref());
    key.finish()
}

/// `COPY` and `ADD` by what they read: content. `None` when that cannot be known cheaply enough.
pub(super) fn copy_content(
    session: &Session<'_>,
    step: &CopyStep,
    parent: &[DiffId],
    sources: &mut [Source],
) -> Result<Option<CacheKey>> {
    let mut key = begin_copy(session, step, parent);
    if !copy::inputs(sources, &mut key, session.jobs(), session.hash_limit())? {
        return Ok(None);
    }
    Ok(Some(key.finish()))
}

/// `COPY --from` by the names of the source's layers: known without opening them.
pub(super) fn copy_by_name(
    session: &Session<'_>,
    step: &CopyStep,
    parent: &[DiffId],
    from: &[DiffId],
) -> CacheKey {
    let mut key = begin_copy(session, step, parent);
    key.push("from", chain(from));
    for source in &step.sources {
        match source {
            CopySource::Path { text, .. } => key.push("path", text.as_str()),
            CopySource::Inline { name, content } => {
                key.push("inline", name.as_str());
                key.push("content", content.as_str());
            }
            CopySource::Http { url, .. } => key.push("url", url.as_str()),
            CopySource::Git(place) => key.push("repository", place.repository.to_string()),
        }
    }
    key.extend("exclude", &step.exclude);
    key.finish()
}

/// `ADD https://… --checksum`: known without asking the server.
pub(super) fn copy_by_checksum(
    session: &Session<'_>,
    step: &CopyStep,
    parent: &[DiffId],
    checksum: &str,
) -> CacheKey {
    let mut key = begin_copy(session, step, parent);
    key.push("checksum", checksum);
    for source in &step.sources {
        if let CopySource::Http { url, unpack } = source {
            key.push("url", url.as_str());
            key.push("unpack", unpack.to_string());
        }
    }
    key.finish()
}

fn begin_copy(session: &Session<'_>, step: &CopyStep, parent: &[DiffId]) -> KeyBuilder {
    // A linked layer does not depend on what is below, unless names are looked up there.
    let named = step.chown.as_ref().is_some_and(Chown::has_names);
    let independent = step.link && !named;
    let mut key = begin(session, "copy", (!independent).then_some(parent));
    key.push("destination", step.destination.as_str());
    push_chown(&mut key, step.chown.as_ref());
    if let Some(mode) = &step.chmod {
        key.push("chmod", chmod(mode));
    }
    for (name, flag) in [
        ("parents", step.parents),
        ("link", step.link),
        ("unpack", step.unpack),
    ] {
        if flag {
            key.push("flag", name);
        }
    }
    key
}

fn chmod(mode: &Chmod) -> String {
    match mode {
        Chmod::Octal(mode) => format!("{mode:o}"),
        Chmod::Symbolic(mode) => format!("{mode:?}"),
    }
}

fn push_chown(key: &mut KeyBuilder, chown: Option<&Chown>) {
    let text = |who: &NameOrId| match who {
        NameOrId::Name(name) => format!("name {name}"),
        NameOrId::Id(id) => format!("id {id}"),
    };
    if let Some(chown) = chown {
        key.push("user", text(&chown.user));
        if let Some(group) = &chown.group {
            key.push("group", text(group));
        }
    }
}

/// How a key speaks of files of other stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// By the names of the stage's layers: known without opening them.
    Name,
    /// By what is read of them, where that is a part.
    Content,
}

/// `RUN`. `None` when a context that it mounts cannot be hashed cheaply enough.
pub(super) fn run(
    session: &Session<'_>,
    step: &RunStep,
    parent: &[DiffId],
    stages: &[Option<StageResult>],
    by: By,
) -> Result<Option<CacheKey>> {
    let mut key = begin(session, "run", Some(parent));
    key.push("platform", session.request.platform.to_string());
    key.extend("arg", &step.args);
    key.extend("env", step.env.iter());
    key.push("cwd", step.cwd.as_str());
    key.push("user", step.user.as_str());
    key.push(
        "network",
        match step.network {
            Network::Default => "default",
            Network::None => "none",
            Network::Host => "host",
        },
    );
    if step.security == Security::Insecure {
        key.push("security", "insecure");
    }
    if let Some((path, content)) = &step.script {
        key.push("script", path.as_str());
        key.push("content", content.as_str());
    }
    if let Some(hostname) = &step.hostname {
        key.push("hostname", hostname.as_str());
    }
    key.extend("limit", &session.request.limits);
    if let Some(bytes) = session.request.shm_size_bytes {
        key.push("shm", bytes.to_string());
    }
    for (name, address) in &session.request.extra_hosts {
        key.push("host", format!("{name} {address}"));
    }
    for mount in &step.mounts {
        if !push_mount(session, mount, stages, by, &mut key)? {
            return Ok(None);
        }
    }
    Ok(Some(key.finish()))
}

/// What of a mount changes the result. Not: the content of caches and secrets.
fn push_mount(
    session: &Session<'_>,
    mount: &StepMount,
    stages: &[Option<StageResult>],
    by: By,
    key: &mut KeyBuilder,
) -> Result<bool> {
    match mount {
        StepMount::Bind {
            from,
            source,
            target,
            writable,
        } => {
            key.push("bind", format!("{target} writable {writable}"));
            key.push("source", source.as_str());
            let (place, source) = match from {
                FileSource::Stage(stage) => {
                    let part = match by {
                        By::Content => part_of_stage(session, *stage, stages, source)?,
                        By::Name => None,
                    };
                    let Some(part) = part else {
                        key.push("from", origin(from, stages));
                        return Ok(true);
                    };
                    part
                }
                FileSource::Context | FileSource::Named(_) => {
                    (Place::Context(session.context(from)?), source.clone())
                }
            };
            let step = CopyStep::as_it_is(from.clone(), &source);
            let mut sources = copy::gather(&step, &place)?;
            let (jobs, limit) = (session.jobs(), session.hash_limit());
            return copy::inputs(&mut sources, key, jobs, limit);
        }
        StepMount::Cache(mount) => {
            let CacheMount {
                id,
                target,
                source,
                writable,
                ..
            } = mount;
            key.push("cache", format!("{id} {target} {source} {writable}"));
            if let Some(from) = &mount.from {
                key.push("from", origin(from, stages));
            }
        }
        StepMount::Tmpfs {
            target,
            writable,
            size_bytes,
        } => key.push("tmpfs", format!("{target} {writable} {size_bytes:?}")),
        StepMount::Secret(mount) => {
            let SecretMount {
                id,
                target,
                env,
                required,
                mode,
                uid,
                gid,
            } = mount;
            let text = format!("{id} {target:?} {env:?} {required} {mode:o} {uid}:{gid}");
            key.push("secret", text);
        }
        StepMount::Ssh(mount) => {
            let SshMount {
                id,
                target,
                required,
                mode,
                uid,
                gid,
            } = mount;
            let text = format!("{id} {target} {required} {mode:o} {uid}:{gid}");
            key.push("ssh", text);
        }
    }
    Ok(true)
}

/// Where to read what a mount shows of a stage; `None` for all of it, and for a path that would be
/// read as a pattern.
fn part_of_stage(
    session: &Session<'_>,
    stage: usize,
    stages: &[Option<StageResult>],
    source: &str,
) -> Result<Option<(Place, String)>> {
    let (stack, path) = mounts::stage_source(session, stage, stages, source)?;
    let text = std::str::from_utf8(path.as_bytes()).ok();
    let plain = text.filter(|text| !text.is_empty() && !text.contains(['*', '?', '[', '\\']));
    Ok(plain.map(|text| (Place::Layers(stack, String::new()), text.to_owned())))
}

/// Names what a mount shows: a stage by its layers, a context by its name.
pub(super) fn origin(from: &FileSource, stages: &[Option<StageResult>]) -> String {
    match from {
        FileSource::Stage(stage) => {
            let stage = stages.get(*stage).and_then(Option::as_ref);
            stage.map_or_else(String::new, |stage| chain(&stage.layers))
        }
        FileSource::Context => "context".to_owned(),
        FileSource::Named(name) => format!("context {name}"),
    }
}
