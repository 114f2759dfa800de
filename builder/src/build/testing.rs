//! What tests of whole builds share: a context, a store, and an executor that understands a few
//! words.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use wythe_layers::layer::{Found, LayerStack};
use wythe_layers::snapshot::{CopySnapshotter, Root};
use wythe_layers::store::Store;
use wythe_layers::tree::{EntryKind, EntryPath, Flavour};

use crate::error::with_causes;
use crate::{
    BoxError, BuildRequest, BuildResult, Builder, Cancel, Executor, Exit, ExitStatus, MountSource,
    OutputSink, OutputStream, Process, Result,
};

/// Understands `write PATH TEXT`, `cat PATH` (into the output), `env NAME PATH`, `fail CODE`,
/// joined by `;`, in shell form. Counts what it ran.
#[derive(Default)]
pub(crate) struct FakeExecutor {
    ran: Mutex<Vec<String>>,
    pub(crate) running: AtomicUsize,
    pub(crate) most_at_once: AtomicUsize,
}

impl FakeExecutor {
    pub(crate) fn commands(&self) -> Vec<String> {
        std::mem::take(&mut *self.ran.lock().unwrap())
    }
}

impl Executor for FakeExecutor {
    fn run(
        &self,
        root: &Root,
        process: &Process,
        output: &dyn OutputSink,
        cancel: &Cancel,
    ) -> Result<Exit, BoxError> {
        let Root::Directory(root) = root else {
            return Err("only directories here".into());
        };
        let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(now, Ordering::SeqCst);
        let line = process.args.last().unwrap().clone();
        self.ran.lock().unwrap().push(line.clone());
        let mut code = 0;
        for command in line.split(';').map(str::trim) {
            let words: Vec<&str> = command.split_whitespace().collect();
            let at = |path: &str| root.join(path.trim_start_matches('/'));
            match words.as_slice() {
                ["write", path, text @ ..] => {
                    fs::create_dir_all(at(path).parent().unwrap())?;
                    fs::write(at(path), text.join(" "))?;
                }
                ["link", target, path] => {
                    fs::create_dir_all(at(path).parent().unwrap())?;
                    std::os::unix::fs::symlink(target, at(path))?;
                }
                ["copy", from, to] => {
                    fs::copy(at(from), at(to))?;
                }
                ["mounted", target, to] => {
                    let mount = process.mounts.iter().find(|m| m.target == *target);
                    let text = match &mount.ok_or("no such mount")?.source {
                        MountSource::File { content, .. } => content.expose().to_vec(),
                        MountSource::Root {
                            root: Root::Directory(root),
                            subpath,
                        } => {
                            let path = root.join(subpath.as_path());
                            if path.is_dir() {
                                let mut names: Vec<_> = fs::read_dir(path)?
                                    .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                                    .collect();
                                names.sort();
                                names.join(",").into_bytes()
                            } else {
                                fs::read(path)?
                            }
                        }
                        MountSource::Directory(open) => {
                            let path = format!("/proc/self/fd/{}", open.as_raw_fd());
                            fs::write(Path::new(&path).join("used"), "x")?;
                            b"path".to_vec()
                        }
                        other => format!("{other:?}").into_bytes(),
                    };
                    fs::write(at(to), text)?;
                }
                ["cat", path] => output.write(OutputStream::Stdout, &fs::read(at(path))?),
                ["env", name, path] => {
                    let value = process
                        .env
                        .iter()
                        .rev()
                        .find_map(|pair| pair.strip_prefix(&format!("{name}=")));
                    fs::write(at(path), value.unwrap_or("(unset)"))?;
                }
                ["say", text @ ..] => {
                    output.write(OutputStream::Stderr, text.join(" ").as_bytes());
                    output.write(OutputStream::Stderr, b"\n");
                }
                ["fail", number] => code = number.parse()?,
                ["wait"] => {
                    while !cancel.is_cancelled() {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                }
                ["together"] => {
                    let is_together = || self.most_at_once.load(Ordering::SeqCst) > 1;
                    eventually("another process runs", is_together);
                }
                ["true"] | [] => {}
                other => return Err(format!("cannot {other:?}").into()),
            }
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        Ok(Exit {
            status: ExitStatus::Code(code),
            created: Vec::new(),
        })
    }
}

/// Waits until something is so; only a failing test waits to the end, however busy the machine.
pub(crate) fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) struct Bench {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) executor: Arc<FakeExecutor>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("context")).unwrap();
        Self {
            directory,
            executor: Arc::default(),
        }
    }

    pub(crate) fn context(&self) -> PathBuf {
        self.directory.path().join("context")
    }

    pub(crate) fn write(&self, path: &str, text: &str) -> &Self {
        let path = self.context().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    pub(crate) fn store(&self) -> Store {
        let flavour = if rustix::process::geteuid().is_root() {
            Flavour::Root
        } else {
            Flavour::SingleId
        };
        Store::open(&self.directory.path().join("store"), flavour).unwrap()
    }

    pub(crate) fn builder(&self) -> Builder {
        Builder::new(self.store())
            .with_executor(Arc::clone(&self.executor) as Arc<dyn Executor>)
            .with_snapshotter(Arc::new(CopySnapshotter))
    }

    pub(crate) fn request(&self, dockerfile: &str) -> BuildRequest {
        let path = self.directory.path().join("Dockerfile");
        fs::write(&path, dockerfile).unwrap();
        let mut request = BuildRequest::for_directory(&self.context(), Some(&path)).unwrap();
        request.dockerfile.name = "Dockerfile".into();
        request.jobs = 2;
        request
    }

    pub(crate) fn build(&self, dockerfile: &str) -> BuildResult {
        let built = self.builder().build(&self.request(dockerfile));
        built.unwrap_or_else(|error| panic!("{}", with_causes(&error)))
    }

    pub(crate) fn fails(&self, dockerfile: &str) -> String {
        let error = self.builder().build(&self.request(dockerfile)).unwrap_err();
        with_causes(&error)
    }

    pub(crate) fn stack(&self, result: &BuildResult) -> LayerStack {
        let store = self.store();
        let image =
            wythe_layers::image::open_target(&store, &result.descriptor, &result.config.platform());
        let image = image.unwrap().unwrap();
        let silent = wythe_layers::progress::Silent;
        wythe_layers::image::stack(&store, &image, 1, &silent).unwrap()
    }

    pub(crate) fn names(&self, result: &BuildResult) -> Vec<String> {
        let stack = self.stack(result);
        let mut names = Vec::new();
        let mut directories = vec![EntryPath::ROOT];
        while let Some(directory) = directories.pop() {
            for found in stack.read_dir(&directory).unwrap() {
                names.push(String::from_utf8(found.entry.path.as_bytes().to_vec()).unwrap());
                if found.entry.kind == EntryKind::Directory {
                    directories.push(found.entry.path);
                }
            }
        }
        names.sort();
        names
    }

    /// Every path of the image: `d755 app`, `f644 app/x = text`, `l a -> b`.
    pub(crate) fn tree(&self, result: &BuildResult) -> Vec<String> {
        let stack = self.stack(result);
        let mut lines = Vec::new();
        list(&stack, &EntryPath::ROOT, &mut lines);
        lines
    }
}

fn list(stack: &LayerStack, directory: &EntryPath, lines: &mut Vec<String>) {
    for found in stack.read_dir(directory).unwrap() {
        lines.push(line(stack, &found));
        if found.entry.kind == EntryKind::Directory {
            list(stack, &found.entry.path, lines);
        }
    }
}

fn line(stack: &LayerStack, found: &Found) -> String {
    let entry = &found.entry;
    let path = String::from_utf8_lossy(entry.path.as_bytes()).into_owned();
    let owner = match (entry.uid, entry.gid) {
        (0, 0) => String::new(),
        (uid, gid) => format!(" {uid}:{gid}"),
    };
    match &entry.kind {
        EntryKind::Directory => format!("d{:o}{owner} {path}", entry.mode),
        EntryKind::Symlink { target } => {
            format!("l{owner} {path} -> {}", String::from_utf8_lossy(target))
        }
        EntryKind::Fifo => format!("p{:o}{owner} {path}", entry.mode),
        _ => {
            let mut text = String::new();
            let mut file = stack.open_file(found).unwrap();
            std::io::Read::read_to_string(&mut file, &mut text).unwrap();
            format!("f{:o}{owner} {path} = {text}", entry.mode)
        }
    }
}
