//! The builder's processes, run by the runtime.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use wythe_builder::{
    Access, BoxError, Cancel, Executor, Exit, ExitStatus, MountSource, OutputSink, OutputStream,
    Process, ProcessMount, Security,
};
use wythe_layers::snapshot::Root;
use wythe_layers::tree::EntryPath;
use wythe_runtime::userns::{NoUserNamespace, Rung};
use wythe_runtime::{Bundle, CwdOwner, Degradation, MountSpec, Rootfs, Stream, launch};

use super::agent::Forwarder;
use super::networks::{Given, Networks};

/// How often a running step looks whether it is to stop.
const CANCEL_INTERVAL: Duration = Duration::from_millis(50);

/// Runs the processes of `RUN`.
#[derive(Debug)]
pub(crate) struct Processes {
    /// What `Network::Default` is.
    networks: Networks,
    /// Why nothing can be isolated here, where that is so.
    obstacle: Option<NoUserNamespace>,
    /// What was said already not to be as it should; it is so for every step of a kind.
    warned: Mutex<Vec<Degradation>>,
    /// Where sockets are made that are shown to processes.
    scratch: PathBuf,
}

impl Processes {
    pub(crate) fn new(networks: Networks, rung: &Rung, scratch: PathBuf) -> Self {
        let obstacle = match rung {
            Rung::NoNamespaces { reason } => Some(*reason),
            _ => None,
        };
        Self {
            networks,
            obstacle,
            scratch,
            warned: Mutex::default(),
        }
    }

    fn bundle(
        &self,
        root: &Root,
        process: &Process,
        given: &Given,
        forwarders: &mut Vec<Forwarder>,
    ) -> Result<Bundle, BoxError> {
        let mut bundle = Bundle::new(rootfs(root)?, &process.args);
        bundle.process.env = environment(&process.env);
        bundle.process.cwd = PathBuf::from(&process.cwd);
        bundle.process.cwd_owner = CwdOwner::User;
        bundle.process.user = process.user.parse()?;
        for limit in &process.limits {
            bundle.process.rlimits.push(limit.parse()?);
        }
        if let Some(bytes) = process.shm_size_bytes {
            bundle.shm_size_bytes = bytes;
        }
        if process.security == Security::Insecure {
            bundle.make_privileged();
        }
        // The same name on every machine: what a step writes must not depend on where it ran.
        bundle.hostname = Some(
            process
                .hostname
                .clone()
                .unwrap_or_else(|| "wythe".to_owned()),
        );
        given.fill(&mut bundle, &process.extra_hosts)?;
        // What a step writes there belongs to the image, as with BuildKit.
        bundle.etc.hostname = None;
        for wanted in &process.mounts {
            bundle
                .mounts
                .push(mount(wanted, &self.scratch, forwarders)?);
        }
        // A pipe that is at its end, as with BuildKit: there are programs that look whether it is
        // one, and read it then instead of what they would read in a terminal.
        bundle.stdio.stdin = Stream::Pipe;
        bundle.stdio.stdout = Stream::Pipe;
        bundle.stdio.stderr = Stream::Pipe;
        Ok(bundle)
    }
}

impl Processes {
    /// Says what is not as it should be, once.
    fn warn(&self, degradations: &[Degradation]) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        for degradation in degradations {
            if !warned.contains(degradation) {
                warned.push(*degradation);
                tracing::warn!("{degradation}");
            }
        }
    }
}

impl Executor for Processes {
    fn expect(&self, network: wythe_builder::Network) {
        if self.obstacle.is_none() && network == wythe_builder::Network::Default {
            self.networks.prepare();
        }
    }

    fn run(
        &self,
        root: &Root,
        process: &Process,
        output: &dyn OutputSink,
        cancel: &Cancel,
    ) -> Result<Exit, BoxError> {
        if let Some(reason) = self.obstacle {
            return Err(wythe_runtime::Error::NoUserNamespaces(reason).into());
        }
        // Ended, and their sockets removed, when the process has ended.
        let mut forwarders = Vec::new();
        let mut given = match process.network {
            wythe_builder::Network::Host => Given::Host,
            wythe_builder::Network::None => Given::Loopback,
            wythe_builder::Network::Default => self.networks.take()?,
        };
        if process.security == Security::Insecure {
            given.mark_changed();
        }
        let bundle = self.bundle(root, process, &given, &mut forwarders)?;
        let mut container = launch(bundle.validate()?)?;
        drop(container.stdin.take());
        self.warn(container.degradations());
        let created = container
            .created()
            .iter()
            .filter_map(|path| entry_path(path))
            .collect();
        let (stdout, stderr) = (container.stdout.take(), container.stderr.take());
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let err =
                stderr.map(|pipe| scope.spawn(|| copy_output(pipe, OutputStream::Stderr, output)));
            let program = container.program();
            let watcher = scope.spawn({
                let ended = &ended;
                move || {
                    while !ended.load(Ordering::Acquire) {
                        std::thread::park_timeout(CANCEL_INTERVAL);
                        if cancel.is_cancelled() {
                            let _ = rustix::process::pidfd_send_signal(
                                program,
                                rustix::process::Signal::KILL,
                            );
                        }
                    }
                }
            });
            if let Some(pipe) = stdout {
                copy_output(pipe, OutputStream::Stdout, output);
            }
            drop(err);
            ended.store(true, Ordering::Release);
            watcher.thread().unpark();
        });
        let status = match container.wait()? {
            wythe_runtime::ExitStatus::Code(code) => ExitStatus::Code(i32::from(code)),
            wythe_runtime::ExitStatus::Signal(number) => ExitStatus::Signal(number),
        };
        Ok(Exit { status, created })
    }
}

fn copy_output(mut pipe: File, stream: OutputStream, sink: &dyn OutputSink) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => sink.write(stream, buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                tracing::debug!(%error, "output of a step ended early");
                return;
            }
        }
    }
}

fn rootfs(root: &Root) -> Result<Rootfs, BoxError> {
    Ok(match root {
        Root::Detached(mount) => Rootfs::Detached(mount.try_clone()?),
        Root::Directory(path) => Rootfs::Directory(path.clone()),
    })
}

fn environment(pairs: &[String]) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
    let split = |pair: &String| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.into(), value.into())
    };
    pairs.iter().map(split).collect()
}

fn entry_path(path: &Path) -> Option<EntryPath> {
    use std::os::unix::ffi::OsStrExt as _;
    EntryPath::parse(path.as_os_str().as_bytes())
}

/// A file that is on no disk, ready to be read from its start.
fn memory_file(content: &[u8]) -> Result<OwnedFd, BoxError> {
    use std::io::{Seek as _, Write as _};
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::memfd_create("wythe", flags)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file.into())
}

fn mount(
    mount: &ProcessMount,
    scratch: &Path,
    forwarders: &mut Vec<Forwarder>,
) -> Result<MountSpec, BoxError> {
    let source = match &mount.source {
        MountSource::Directory(open) => {
            wythe_runtime::MountSource::Detached(open_subpath(open, &EntryPath::ROOT)?)
        }
        MountSource::Root {
            root: Root::Directory(path),
            subpath,
        } => wythe_runtime::MountSource::Bind(join_in_root(path, subpath)),
        MountSource::Root {
            root: Root::Detached(fd),
            subpath,
        } => wythe_runtime::MountSource::Image(open_subpath(fd, subpath)?),
        MountSource::Tmpfs { size_bytes } => wythe_runtime::MountSource::Tmpfs {
            size_bytes: *size_bytes,
            mode: None,
            may_execute: true,
        },
        MountSource::File {
            content,
            mode,
            uid,
            gid,
        } => wythe_runtime::MountSource::File {
            content: memory_file(content.expose())?,
            mode: *mode,
            uid: *uid,
            gid: *gid,
        },
        MountSource::Agent {
            agent,
            mode,
            uid,
            gid,
        } => {
            let forwarder = Forwarder::start(agent, scratch, *mode, (*uid, *gid))?;
            let socket = forwarder.socket().to_owned();
            forwarders.push(forwarder);
            wythe_runtime::MountSource::Bind(socket)
        }
    };
    let target = PathBuf::from(&mount.target);
    Ok(MountSpec {
        source,
        target,
        read_only: mount.access == Access::ReadOnly,
    })
}

fn join_in_root(root: &Path, subpath: &EntryPath) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    root.join(std::ffi::OsStr::from_bytes(subpath.as_bytes()))
}

/// A part of a mount that hangs nowhere, or of an open directory, as a mount of its own.
fn open_subpath(
    mount: &std::os::fd::OwnedFd,
    subpath: &EntryPath,
) -> Result<std::os::fd::OwnedFd, BoxError> {
    use rustix::mount::{OpenTreeFlags, open_tree};
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    if subpath.as_bytes().is_empty() {
        return Ok(open_tree(mount, "", flags | OpenTreeFlags::AT_EMPTY_PATH)?);
    }
    // Symlinks of the other root are resolved inside it.
    let inside = rustix::fs::openat2(
        mount,
        subpath.as_bytes(),
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
        rustix::fs::ResolveFlags::IN_ROOT | rustix::fs::ResolveFlags::NO_MAGICLINKS,
    )?;
    Ok(open_tree(
        &inside,
        "",
        flags | OpenTreeFlags::AT_EMPTY_PATH,
    )?)
}
