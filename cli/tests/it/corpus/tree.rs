//! A file tree as text, one line an entry.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use wythe_layers::spec::Digest;

/// Files up to this length are shown, longer ones by digest.
const SHOWN_BYTES: usize = 400;

/// Path → `type mode uid:gid …`.
pub(crate) type Tree = BTreeMap<String, String>;

/// A root file system in a tar.
pub(crate) fn of_tar(path: &Path, known: &[(Digest, &str)]) -> Tree {
    let mut tree = Tree::new();
    let mut groups: Vec<Vec<String>> = Vec::new();
    let mut archive = tar::Archive::new(File::open(path).unwrap());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = absolute(&name);
        let header = entry.header().clone();
        let owner = format!(
            "{:04o} {}:{}",
            header.mode().unwrap() & 0o7777,
            header.uid().unwrap(),
            header.gid().unwrap()
        );
        let kind = header.entry_type();
        let link = entry.link_name_bytes();
        let link = link.map(|link| String::from_utf8_lossy(&link).into_owned());
        let line = match kind {
            tar::EntryType::Directory => format!("d {owner}"),
            tar::EntryType::Symlink => format!("l {owner} -> {}", link.unwrap()),
            tar::EntryType::Link => {
                let to = absolute(&link.unwrap());
                match groups.iter_mut().find(|group| group.contains(&to)) {
                    Some(group) => group.push(name),
                    None => groups.push(vec![to, name]),
                }
                continue;
            }
            tar::EntryType::Regular => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                file(&owner, &content, known)
            }
            _ => format!("special {owner}"),
        };
        tree.insert(name, line);
    }
    link_up(&mut tree, groups);
    tree
}

/// A root file system on disk, read as root.
pub(crate) fn of_directory(root: &Path, known: &[(Digest, &str)]) -> Tree {
    let mut tree = Tree::new();
    let mut names: BTreeMap<(u64, u64), Vec<String>> = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let name = absolute(&path.strip_prefix(root).unwrap().to_string_lossy());
            if metadata.is_dir() {
                folders.push(path.clone());
            } else if metadata.is_file() && metadata.nlink() > 1 {
                let inode = (metadata.dev(), metadata.ino());
                names.entry(inode).or_default().push(name.clone());
            }
            tree.insert(name, on_disk(&path, &metadata, known));
        }
    }
    link_up(&mut tree, names.into_values().collect());
    tree
}

fn on_disk(path: &Path, metadata: &Metadata, known: &[(Digest, &str)]) -> String {
    let owner = format!(
        "{:04o} {}:{}",
        metadata.mode() & 0o7777,
        metadata.uid(),
        metadata.gid()
    );
    let kind = metadata.file_type();
    if kind.is_dir() {
        format!("d {owner}")
    } else if kind.is_symlink() {
        format!(
            "l {owner} -> {}",
            std::fs::read_link(path).unwrap().display()
        )
    } else if kind.is_file() {
        file(&owner, &std::fs::read(path).unwrap(), known)
    } else {
        format!("special {owner}")
    }
}

/// Of the names of one file the first is the file.
fn link_up(tree: &mut Tree, groups: Vec<Vec<String>>) {
    for mut group in groups {
        let line = group.iter().find_map(|name| tree.remove(name)).unwrap();
        group.sort();
        let first = group.remove(0);
        for name in group {
            tree.insert(name, format!("h {first}"));
        }
        tree.insert(first, line);
    }
}

fn absolute(name: &str) -> String {
    format!("/{}", name.trim_start_matches("./").trim_matches('/'))
}

fn file(owner: &str, content: &[u8], known: &[(Digest, &str)]) -> String {
    let digest = Digest::of(content);
    if let Some((_, name)) = known.iter().find(|(known, _)| *known == digest) {
        return format!("f {owner} <{name}>");
    }
    match std::str::from_utf8(content) {
        Ok(text) if text.len() <= SHOWN_BYTES => format!("f {owner} {text:?}"),
        _ => format!("f {owner} {} bytes {digest}", content.len()),
    }
}

/// What a tree has, and lacks, beside its base.
pub(crate) fn beside(tree: &Tree, base: &Tree) -> Tree {
    let mut different: Tree = tree
        .iter()
        .filter(|(path, line)| base.get(*path) != Some(*line))
        .map(|(path, line)| (path.clone(), line.clone()))
        .collect();
    for path in base.keys().filter(|path| !tree.contains_key(*path)) {
        different.insert(path.clone(), "gone".to_owned());
    }
    different
}
