//! A root file system made of the host's own programs: an almost empty directory with the host's
//! /usr mounted into it read-only. Nothing is compiled, nothing is fetched.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use wythe_runtime::{
    Bundle, Container, Error, ExitStatus, MountSource, MountSpec, Rootfs, Stream, launch,
};

pub(crate) const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv/web:/bin/sh\n";
pub(crate) const GROUP: &str = "root:x:0:\nwww:x:34:\nlog:x:40:web\n";

pub(crate) struct Fixture {
    dir: TempDir,
}

pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) created: Vec<PathBuf>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let fixture = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let root = fixture.root();
        for directory in ["usr", "etc", "tmp", "srv/web"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
            let host = Path::new("/").join(name);
            if host.is_symlink() {
                symlink(fs::read_link(host).unwrap(), root.join(name)).unwrap();
            } else if host.is_dir() {
                fs::create_dir(root.join(name)).unwrap();
            }
        }
        fs::write(root.join("etc/passwd"), PASSWD).unwrap();
        fs::write(root.join("etc/group"), GROUP).unwrap();
        fs::create_dir(fixture.host()).unwrap();
        fs::write(fixture.host().join("secret"), "secret of the host\n").unwrap();
        fixture
    }

    /// The container's root.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// A directory of the host that no container may change.
    pub(crate) fn host(&self) -> PathBuf {
        self.dir.path().join("host")
    }

    pub(crate) fn bundle(&self, args: &[&str]) -> Bundle {
        let mut bundle = Bundle::new(Rootfs::Directory(self.root()), args);
        for name in ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
            let host = Path::new("/").join(name);
            if host.is_dir() && !host.is_symlink() {
                bundle
                    .mounts
                    .push(bind(&host, host.to_str().unwrap(), true));
            }
        }
        bundle.stdio.stdout = Stream::Pipe;
        bundle.stdio.stderr = Stream::Pipe;
        bundle
    }

    pub(crate) fn shell(&self, script: &str) -> Bundle {
        self.bundle(&["/bin/sh", "-c", script])
    }

    /// Runs a script with every default; it must succeed.
    pub(crate) fn output_of(&self, script: &str) -> String {
        let output = run(self.shell(script)).unwrap();
        assert_eq!(
            output.status,
            ExitStatus::Code(0),
            "{script}: {}",
            output.stderr
        );
        output.stdout
    }
}

pub(crate) fn bind(source: &Path, target: &str, read_only: bool) -> MountSpec {
    let source = MountSource::Bind(source.to_path_buf());
    MountSpec {
        source,
        target: target.into(),
        read_only,
    }
}

pub(crate) fn start(bundle: Bundle) -> Result<Container, Error> {
    launch(bundle.validate()?)
}

/// Runs a bundle to its end. What it prints must fit into a pipe.
pub(crate) fn run(bundle: Bundle) -> Result<Output, Error> {
    let mut container = start(bundle)?;
    let read = |stream: Option<fs::File>| {
        let mut text = String::new();
        stream.map(|mut stream| stream.read_to_string(&mut text).unwrap());
        text
    };
    let (stdout, stderr) = (read(container.stdout.take()), read(container.stderr.take()));
    let created = container.created().to_vec();
    Ok(Output {
        status: container.wait()?,
        stdout,
        stderr,
        created,
    })
}

/// Everything below a directory: path, then mode, owner, size and content. `usr` is left out.
pub(crate) fn snapshot(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![directory.to_path_buf()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let mut line = format!(
            "{:o} {}:{} {}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.size()
        );
        if meta.is_dir() {
            todo.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if meta.is_file() && meta.size() < 1 << 20 {
            line += &fs::read_to_string(&path).unwrap();
        }
        found.insert(path, line);
    }
    found
}
