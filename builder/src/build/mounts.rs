//! `RUN --mount`: each kind made ready before the process starts.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use wythe_layers::layer::{LayerStack, Purpose};
use wythe_layers::snapshot::Snapshot;
use wythe_layers::tree::EntryPath;

use super::session::Session;
use super::stage::{StageResult, Worker, write_layer};
use super::{cache_mount, materials};
use crate::copy::{self, Place, Settings};
use crate::path::clean_in_root;
use crate::plan::{CopyStep, FileSource, RunStep, SecretMount, SshMount, StepMount};
use crate::view::View;
use crate::{Access, Error, MountSource, ProcessMount, Result, Secret};

/// A mount's content in a snapshot of its own lies here when it is a single file.
const SINGLE: &str = "file";

/// What a process needs beside its root.
#[derive(Default)]
pub(super) struct Prepared {
    pub(super) mounts: Vec<ProcessMount>,
    /// Secrets given as variables.
    pub(super) env: Vec<String>,
    /// All secrets that the process is given.
    pub(super) secrets: Vec<Secret>,
    /// To be kept until the process has ended.
    pub(super) held: Vec<Held>,
}

/// Something that must outlive the process.
pub(super) enum Held {
    Snapshot(#[expect(dead_code, reason = "dropping it ends the snapshot")] Box<dyn Snapshot>),
    Lock(#[expect(dead_code, reason = "dropping it releases the lock")] File),
}

/// Makes the mounts of a step ready.
pub(super) fn prepare(worker: &Worker<'_>, step: &RunStep) -> Result<Prepared> {
    let mut prepared = Prepared::default();
    if let Some((path, content)) = &step.script {
        prepared.mounts.push(ProcessMount {
            target: path.clone(),
            source: MountSource::File {
                content: Secret::new(content.as_bytes()),
                mode: 0o755,
                uid: 0,
                gid: 0,
            },
            access: Access::ReadOnly,
        });
    }
    for mount in &step.mounts {
        match mount {
            StepMount::Bind {
                from,
                source,
                target,
                writable,
            } => bind(worker, from, source, target, *writable, &mut prepared)?,
            StepMount::Cache(mount) => cache_mount::prepare(worker, mount, &mut prepared)?,
            StepMount::Tmpfs {
                target,
                writable,
                size_bytes,
            } => prepared.mounts.push(ProcessMount {
                target: target.clone(),
                source: MountSource::Tmpfs {
                    size_bytes: *size_bytes,
                },
                access: access(*writable),
            }),
            StepMount::Secret(mount) => secret(worker.session, mount, &mut prepared)?,
            StepMount::Ssh(mount) => agent(worker.session, mount, &mut prepared)?,
        }
    }
    prepared.mounts = one_for_each_target(prepared.mounts);
    Ok(prepared)
}

/// Of several mounts with one target the last is made, in the place of the first (BuildKit).
fn one_for_each_target(mounts: Vec<ProcessMount>) -> Vec<ProcessMount> {
    let mut kept: Vec<ProcessMount> = Vec::with_capacity(mounts.len());
    let mut places = BTreeMap::new();
    for mount in mounts {
        let place = *places.entry(mount.target.clone()).or_insert(kept.len());
        match kept.get_mut(place) {
            Some(earlier) => *earlier = mount,
            None => kept.push(mount),
        }
    }
    kept
}

pub(super) fn access(writable: bool) -> Access {
    if writable {
        Access::ReadWrite
    } else {
        Access::ReadOnly
    }
}

/// Writes go to a layer of their own and are thrown away.
fn bind(
    worker: &Worker<'_>,
    from: &FileSource,
    source: &str,
    target: &str,
    writable: bool,
    prepared: &mut Prepared,
) -> Result<()> {
    let session = worker.session;
    let (stack, subpath) = match from {
        FileSource::Stage(stage) => stage_source(session, *stage, worker.stages, source)?,
        FileSource::Context | FileSource::Named(_) => context_layer(session, from, source)?,
    };
    let snapshotter = session.snapshotter()?;
    let snapshot = if writable {
        snapshotter.prepare(session.store, &stack)?
    } else {
        snapshotter.view(session.store, &stack)?
    };
    prepared.mounts.push(ProcessMount {
        target: target.to_owned(),
        source: MountSource::Root {
            root: snapshot.root()?,
            subpath,
        },
        access: access(writable),
    });
    prepared.held.push(Held::Snapshot(snapshot));
    Ok(())
}

/// What a mount shows of a stage: its files, and where in them, after links.
pub(super) fn stage_source(
    session: &Session<'_>,
    position: usize,
    stages: &[Option<StageResult>],
    source: &str,
) -> Result<(Arc<LayerStack>, EntryPath)> {
    let stage = stages.get(position).and_then(Option::as_ref);
    let layers = stage.map_or(&[][..], |stage| &stage.layers);
    let stack = materials::stack(session, position, layers)?;
    let path = stack.resolve(&clean(source)?, true)?;
    if !path.is_root() && stack.lookup(&path)?.is_none() {
        return Err(Error::SourceMissing {
            path: source.to_owned(),
            place: "the mount's source".to_owned(),
            hint: None,
        });
    }
    Ok((stack, path))
}

/// The files as a layer: what the ignore file hides stays hidden, and what changes during the
/// build does not change under the process.
pub(super) fn context_layer(
    session: &Session<'_>,
    from: &FileSource,
    source: &str,
) -> Result<(Arc<LayerStack>, EntryPath)> {
    let place = Place::Context(session.context(from)?);
    let path = clean(source)?;
    let is_file = place
        .lookup(&path)?
        .is_some_and(|found| !found.entry.kind.is_directory());
    let mut step = CopyStep::as_it_is(from.clone(), source);
    if is_file {
        step.destination = format!("/{SINGLE}");
    }
    let sources = copy::gather(&step, &place)?;
    let mut view = View::new(Arc::default(), Vec::new());
    let settings = Settings {
        destination: step.destination,
        owner: None,
        chmod: None,
        new_mtime: session.made_at(),
        scratch: session.scratch()?,
    };
    copy::apply(&mut view, sources, &settings)?;
    let record = write_layer(session, view.into_layer()?, Purpose::Tree)?;
    let layers = [record.diff_id];
    let stack = LayerStack::open(session.store, &layers)?.ok_or_else(|| {
        let [diff_id] = layers;
        wythe_layers::Error::BlobMissing {
            digest: diff_id.digest().clone(),
        }
    })?;
    let subpath = if is_file {
        clean(SINGLE)?
    } else {
        EntryPath::ROOT
    };
    Ok((Arc::new(stack), subpath))
}

pub(super) fn clean(text: &str) -> Result<EntryPath> {
    clean_in_root(text.as_bytes()).ok_or_else(|| Error::BadPath {
        path: text.to_owned(),
    })
}

fn secret(session: &Session<'_>, mount: &SecretMount, prepared: &mut Prepared) -> Result<()> {
    let Some(content) = session.request.secrets.get(&mount.id) else {
        if mount.required {
            return Err(Error::MissingGrant {
                kind: "secret",
                id: mount.id.clone(),
            });
        }
        if let Some(name) = &mount.env {
            prepared.env.push(format!("{name}="));
        }
        return Ok(());
    };
    prepared.secrets.push(content.clone());
    if let Some(name) = &mount.env {
        let value = String::from_utf8_lossy(content.expose());
        prepared.env.push(format!("{name}={value}"));
    }
    if let Some(target) = &mount.target {
        prepared.mounts.push(ProcessMount {
            target: target.clone(),
            source: MountSource::File {
                content: content.clone(),
                mode: mount.mode,
                uid: mount.uid,
                gid: mount.gid,
            },
            access: Access::ReadOnly,
        });
    }
    Ok(())
}

/// Forwards an agent.
fn agent(session: &Session<'_>, mount: &SshMount, prepared: &mut Prepared) -> Result<()> {
    let Some(agent) = session.request.ssh.get(&mount.id) else {
        if mount.required {
            return Err(Error::MissingGrant {
                kind: "ssh agent",
                id: mount.id.clone(),
            });
        }
        return Ok(());
    };
    prepared.mounts.push(ProcessMount {
        target: mount.target.clone(),
        source: MountSource::Agent {
            agent: agent.clone(),
            mode: mount.mode,
            uid: mount.uid,
            gid: mount.gid,
        },
        access: Access::ReadWrite,
    });
    Ok(())
}
