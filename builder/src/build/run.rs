//! `RUN`: a root file system, a process in it, and the layer of what it changed.

use wythe_layers::snapshot::CommitOptions;

use super::mask::Mask;
use super::materials;
use super::mounts::{self, Prepared};
use super::output::Lines;
use super::stage::Worker;
use crate::cache::CachedResult;
use crate::plan::RunStep;
use crate::{Error, Process, Result};

/// Runs the process of a step and keeps what it changed.
pub(super) fn run(worker: &mut Worker<'_>, step: &RunStep) -> Result<CachedResult> {
    let session = worker.session;
    let Some(executor) = &session.builder.executor else {
        return Err(Error::NoExecutor);
    };
    let stack = materials::stack(session, worker.position, worker.layers)?;
    let snapshotter = session.snapshotter()?;
    let Prepared {
        mounts,
        env: secret_env,
        secrets,
        held,
    } = mounts::prepare(worker, step)?;
    let snapshot = snapshotter.prepare(session.store, &stack)?;
    let root = snapshot.root()?;
    let mut env = step.env.to_vec();
    env.extend(step.proxy_env.iter().cloned());
    env.extend(secret_env);
    let process = Process {
        args: step.args.clone(),
        env,
        cwd: step.cwd.clone(),
        user: step.user.clone(),
        network: step.network,
        security: step.security,
        mounts,
        hostname: step.hostname.clone(),
        extra_hosts: session.request.extra_hosts.clone(),
        limits: session.request.limits.clone(),
        shm_size_bytes: session.request.shm_size_bytes,
    };
    let mask = Mask::new(&secrets);
    let lines = Lines::new(worker.id(), session.builder.observer.as_ref(), mask);
    let exit = executor
        .run(&root, &process, &lines, &session.cancel)
        .map_err(|source| Error::Executor { source });
    let last_lines = lines.finish();
    let exit = exit?;
    let network = process.network;
    // Mounts of other stages end before their snapshots do.
    drop(process);
    drop(held);
    session.check_cancelled()?;
    if !exit.status.is_success() {
        return Err(Error::ProcessFailed {
            status: exit.status,
            last_lines,
            network,
        });
    }
    drop(root);
    let options = CommitOptions {
        clamp: session.clamp,
        ignore: exit.created.into_iter().collect(),
    };
    Ok(match snapshot.commit(&options)? {
        Some(record) => CachedResult::Layer(record.diff_id),
        None => CachedResult::Empty,
    })
}
