//! One case of the corpus: the text format, and writing its files to disk.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::succeed;

/// A case as its file tells it.
pub(crate) struct Case {
    pub(crate) name: String,
    /// The image that the final stage is built on; the golden tree shows what differs from it.
    pub(crate) base: Option<String>,
    /// More arguments for `build`.
    pub(crate) build: Vec<String>,
    /// Arguments of builds that go first.
    pub(crate) first: Vec<Vec<String>>,
    sections: Vec<Section>,
}

struct Section {
    path: String,
    mode: u32,
    kind: Kind,
}

enum Kind {
    File(Vec<u8>),
    Directory,
    Symlink(String),
    HardLink(String),
}

/// All cases, by name.
pub(crate) fn all() -> Vec<Case> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "case"))
        .collect();
    files.sort();
    let only = std::env::var("WYTHE_CORPUS").unwrap_or_default();
    files
        .iter()
        .map(|path| Case::read(path))
        .filter(|case| case.name.contains(&only))
        .collect()
}

/// Where the corpus lies.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/corpus")
}

impl Case {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let mut case = Self {
            name,
            base: None,
            build: Vec::new(),
            first: Vec::new(),
            sections: Vec::new(),
        };
        for line in text.split_inclusive('\n') {
            let heading = line
                .strip_prefix("-- ")
                .and_then(|line| line.trim_end().strip_suffix(" --"));
            match (heading, case.sections.last_mut()) {
                (Some(heading), _) => case.sections.push(Section::parse(heading)),
                (None, Some(section)) => section.append(line),
                (None, None) => case.header(line),
            }
        }
        case
    }

    fn header(&mut self, line: &str) {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        match line.trim_end().split_once(": ") {
            Some(("base", name)) => self.base = Some(name.to_owned()),
            Some(("build", args)) => self.build = words(args),
            Some(("first", args)) => self.first.push(words(args)),
            _ => assert!(
                line.starts_with('#') || line.trim().is_empty(),
                "{}: {line}",
                self.name
            ),
        }
    }

    /// Writes the files below `folder`: the context to `context/`, what starts with `^/` beside it.
    pub(crate) fn write(&self, folder: &Path) {
        let context = folder.join("context");
        std::fs::create_dir_all(&context).unwrap();
        let mut archives: Vec<(&str, PathBuf)> = Vec::new();
        for section in &self.sections {
            let path = match section.path.split_once('!') {
                Some((archive, member)) => {
                    let staged = folder.join("archives").join(archive);
                    if !archives.iter().any(|(known, _)| *known == archive) {
                        archives.push((archive, staged.clone()));
                    }
                    staged.join(member)
                }
                None => match section.path.strip_prefix("^/") {
                    Some(path) => folder.join(path),
                    None => context.join(&section.path),
                },
            };
            section.write(&path, &context);
        }
        for (archive, staged) in archives {
            let archive = context.join(archive);
            std::fs::create_dir_all(archive.parent().unwrap()).unwrap();
            pack(&staged, &archive);
        }
    }
}

impl Section {
    fn parse(heading: &str) -> Self {
        let (path, kind) = if let Some((path, target)) = heading.split_once(" -> ") {
            (path, Kind::Symlink(target.to_owned()))
        } else if let Some((path, other)) = heading.split_once(" = ") {
            (path, Kind::HardLink(other.to_owned()))
        } else {
            (heading, Kind::File(Vec::new()))
        };
        let mut words = path.split(" @");
        let path = words.next().unwrap().to_owned();
        let mut section = Self {
            mode: if path.ends_with('/') { 0o755 } else { 0o644 },
            kind: if path.ends_with('/') {
                Kind::Directory
            } else {
                kind
            },
            path,
        };
        for mark in words {
            match mark {
                "bom" => section.append("\u{feff}"),
                mode => section.mode = u32::from_str_radix(mode, 8).expect(mode),
            }
        }
        section
    }

    /// `\r` at the end of a line of the case stands for a carriage return.
    fn append(&mut self, line: &str) {
        match &mut self.kind {
            Kind::File(content) => match line.strip_suffix("\\r\n") {
                Some(line) => content.extend_from_slice(format!("{line}\r\n").as_bytes()),
                None => content.extend_from_slice(line.as_bytes()),
            },
            _ => assert!(line.trim().is_empty(), "{}: has no content", self.path),
        }
    }

    fn write(&self, path: &Path, context: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match &self.kind {
            Kind::File(content) => std::fs::write(path, content).unwrap(),
            Kind::Directory => std::fs::create_dir_all(path).unwrap(),
            Kind::Symlink(target) => return symlink(target, path).unwrap(),
            Kind::HardLink(other) => {
                let other = match other.split_once('!') {
                    Some((archive, member)) => {
                        let folder = context.parent().unwrap();
                        folder.join("archives").join(archive).join(member)
                    }
                    None => context.join(other),
                };
                return std::fs::hard_link(other, path).unwrap();
            }
        }
        std::fs::set_permissions(path, Permissions::from_mode(self.mode)).unwrap();
    }
}

/// Packs a folder with the machine's tar; the name's end says how it is compressed.
fn pack(folder: &Path, archive: &Path) {
    let mut tar = Command::new("tar");
    tar.args([
        "--sort=name",
        "--owner=7:7",
        "--group=8:8",
        "--mtime=@0",
        "--auto-compress",
    ]);
    tar.arg("-cf").arg(archive).arg("-C").arg(folder);
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    succeed(tar.args(names));
}
