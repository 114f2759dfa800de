//! `RUN --mount=type=cache`: directories of the store that outlive the build.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use wythe_layers::spec::Digest;
use wythe_layers::tree::{Applier, ApplyOptions, Dir, EntryKind, EntryPath, Name, RootDir};

use super::keys::origin;
use super::materials;
use super::mounts::{Held, Prepared, access, clean, context_layer};
use super::session::Session;
use super::stage::Worker;
use crate::parse::CacheSharing;
use crate::path::display;
use crate::plan::{CacheMount, CacheRoot, FileSource};
use crate::{Error, MountSource, ProcessMount, Result};

/// A directory of the store that outlives the build, one for each id.
///
/// ```text
/// STORE/cache/v1/mounts/<digest of the id>/<n>/{lock,data/}   n > 0: private ones
/// ```
pub(super) fn prepare(
    worker: &Worker<'_>,
    mount: &CacheMount,
    prepared: &mut Prepared,
) -> Result<()> {
    let (from, source) = (&mount.from, &mount.source);
    let session = worker.session;
    let namespace = session.request.build_args.get("BUILDKIT_CACHE_MOUNT_NS");
    let mut full = format!("{}\0{}", namespace.map_or("", String::as_str), mount.id);
    // What a cache began as tells it from others of its name, as with BuildKit.
    if let Some(from) = from {
        full.push_str(&format!("\0{} {source}", origin(from, worker.stages)));
    }
    // A directory that the source has keeps its owner and mode.
    let made = mount.made.filter(|_| source == "/");
    if let Some(CacheRoot { mode, uid, gid }) = made {
        full.push_str(&format!("\0{mode:o} {uid}:{gid}"));
    }
    let directory = session
        .store
        .root()
        .join("cache/v1/mounts")
        .join(Digest::of(full.as_bytes()).hex());
    let (slot, lock) = lock_slot(session, &directory, mount.sharing)?;
    let data = slot.join("data");
    if !data.exists() {
        let from = from.as_ref().map(|from| (from, source.as_str()));
        make_cache(worker, &slot, &data, from, made)?;
    }
    let subpath = if from.is_none() {
        clean(source)?
    } else {
        EntryPath::ROOT
    };
    let shown = open_inside(&RootDir::open(&data)?, &subpath)?;
    let shown = shown.as_fd().try_clone_to_owned();
    prepared.mounts.push(ProcessMount {
        target: mount.target.clone(),
        source: MountSource::Directory(shown.map_err(Error::io("open", &data))?),
        access: access(mount.writable),
    });
    prepared.held.push(Held::Lock(lock));
    Ok(())
}

/// Opens a directory of a cache, made if it is not there.
///
/// Processes of earlier builds have written the cache, and others may be writing it now: its
/// symbolic links lead to places inside of it only, and what is mounted is what was opened.
fn open_inside(cache: &RootDir, path: &EntryPath) -> Result<Dir> {
    let is_absent = |error: &wythe_layers::Error| matches!(error, wythe_layers::Error::Io { source, .. } if source.kind() == ErrorKind::NotFound);
    match cache.open_dir_in_root(path) {
        Err(error) if is_absent(&error) => {}
        other => return Ok(other?),
    }
    if let (Some(parent), Some(name)) = (path.parent(), Name::of(path)) {
        let parent = open_inside(cache, &parent)?;
        match parent.create_dir(name) {
            Ok(()) => parent.set_mode(name, 0o755)?,
            // Another build was faster; or a link that leads nowhere, which is refused below.
            Err(wythe_layers::Error::Io { source, .. })
                if source.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(cache.open_dir_in_root(path)?)
}

/// A cache directory and its lock, as the kind of sharing asks: together, alone after waiting, or
/// alone in one that nobody uses.
fn lock_slot(
    session: &Session<'_>,
    directory: &Path,
    sharing: CacheSharing,
) -> Result<(PathBuf, File)> {
    let open = |slot: &Path| {
        std::fs::create_dir_all(slot).map_err(Error::io("create", slot))?;
        let path = slot.join("lock");
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).open(&path);
        file.map_err(Error::io("open", &path))
    };
    let mut number = 0_u32;
    loop {
        let slot = directory.join(number.to_string());
        let lock = open(&slot)?;
        let tried = match sharing {
            CacheSharing::Shared => lock.try_lock_shared(),
            CacheSharing::Locked | CacheSharing::Private => lock.try_lock(),
        };
        match tried {
            Ok(()) => return Ok((slot, lock)),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", &slot)(error)),
        }
        if sharing == CacheSharing::Private {
            number += 1;
        } else {
            session.check_cancelled()?;
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

fn make_cache(
    worker: &Worker<'_>,
    slot: &Path,
    data: &Path,
    from: Option<(&FileSource, &str)>,
    made: Option<CacheRoot>,
) -> Result<()> {
    // Made beside its place, so that one that is there is whole.
    let fresh = tempfile::tempdir_in(slot).map_err(Error::io("create a directory in", slot))?;
    let seeded = match from {
        Some((from, source)) => seed(worker, fresh.path(), from, source)?,
        None => None,
    };
    let CacheRoot { mode, uid, gid } = made.or(seeded).unwrap_or(CacheRoot {
        mode: 0o755,
        uid: 0,
        gid: 0,
    });
    if (uid, gid) != (0, 0) {
        // Where only one id is to be had, the directory is that one's, and usable as it is.
        match std::os::unix::fs::chown(fresh.path(), Some(uid), Some(gid)) {
            Ok(()) => {}
            Err(error) => tracing::debug!(%error, uid, gid, "cache mount keeps its owner"),
        }
    }
    // After the owner: changing that takes bits away.
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(fresh.path(), permissions)
        .map_err(Error::io("set the mode of", fresh.path()))?;
    // A plain rename would replace an empty directory that someone else mounts already.
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, fresh.path(), CWD, data, RenameFlags::NOREPLACE) {
        Ok(()) => {
            let _ = fresh.keep();
            Ok(())
        }
        // Someone sharing it was faster.
        Err(_) if data.exists() => Ok(()),
        Err(errno) => Err(Error::io("create", data)(errno.into())),
    }
}

/// Fills a new cache with the files of a stage or context; gives what the source says of the
/// directory itself.
fn seed(
    worker: &Worker<'_>,
    into: &Path,
    from: &FileSource,
    source: &str,
) -> Result<Option<CacheRoot>> {
    let session = worker.session;
    let (stack, top) = match from {
        FileSource::Stage(stage) => {
            let layers = worker.stages.get(*stage).and_then(Option::as_ref);
            let layers = layers.map_or(&[][..], |stage| &stage.layers);
            let stack = materials::stack(session, *stage, layers)?;
            let top = stack.resolve(&clean(source)?, true)?;
            (stack, top)
        }
        FileSource::Context | FileSource::Named(_) => context_layer(session, from, source)?,
    };
    let told = stack.lookup(&top)?.map(|found| found.entry.clone());
    if told
        .as_ref()
        .is_some_and(|entry| !entry.kind.is_directory())
    {
        return Err(Error::NotADirectory {
            path: source.to_owned(),
        });
    }
    let root = RootDir::open(into)?;
    let options = ApplyOptions::default();
    let mut applier = Applier::new(root, session.store.flavour(), options)?;
    let mut directories = vec![top.clone()];
    while let Some(directory) = directories.pop() {
        for found in stack.read_dir(&directory)? {
            if found.entry.kind.is_directory() {
                directories.push(found.entry.path.clone());
            }
            let mut entry = found.entry.clone();
            let Some(path) = entry.path.strip_prefix(&top) else {
                continue;
            };
            let bad = || Error::BadPath {
                path: display(&path),
            };
            let is_file = matches!(
                entry.kind,
                EntryKind::File { .. } | EntryKind::HardLink { .. }
            );
            entry.path = EntryPath::parse(path.as_bytes()).ok_or_else(bad)?;
            if is_file {
                let mut file = stack.open_file(&found)?;
                let size = file.metadata().map_err(Error::io("stat", into))?.len();
                entry.kind = EntryKind::File { size };
                applier.apply(entry, &mut file)?;
            } else {
                applier.apply(entry, &mut std::io::empty())?;
            }
        }
    }
    applier.finish()?;
    Ok(told.map(|entry| CacheRoot {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
    }))
}
