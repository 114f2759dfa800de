//! GNU tar and Python's tarfile beside us.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use super::roundtrip::{content_of, file, read, samples, write};
use crate::tree::{Entry, EntryKind};

/// Runs a program; `None`, loudly, when it is not there.
fn run(test: &str, command: &mut Command) -> Option<Output> {
    match command.env("LC_ALL", "C.UTF-8").output() {
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{command:?}: {errors}");
            Some(output)
        }
        Err(_) => {
            let required = std::env::var("WYTHE_REQUIRE").unwrap_or_default();
            let program = command.get_program().display();
            assert!(!required.contains("peer"), "{program} is not installed");
            eprintln!("SKIPPED {test}: needs {program}");
            None
        }
    }
}

/// A tree with what an ordinary user can make.
fn make_tree(root: &Path) {
    let deep = root.join("deep/".repeat(60));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file with spaces"), b"deep").unwrap();
    fs::write(root.join("n".repeat(200)), [5; 1500]).unwrap();
    fs::write(root.join("empty"), b"").unwrap();
    fs::write(
        root.join(std::ffi::OsStr::from_bytes(b"umlaut-\xc3\xa4\n")),
        b"x",
    )
    .unwrap();
    symlink("../out/there", root.join("link")).unwrap();
    symlink("t".repeat(200), root.join("long-link")).unwrap();
    fs::hard_link(root.join("empty"), root.join("linked")).unwrap();
    nix::unistd::mkfifo(
        &root.join("fifo"),
        nix::sys::stat::Mode::from_bits_truncate(0o600),
    )
    .unwrap();
    let mut sparse = File::create(root.join("sparse")).unwrap();
    for at in 0..30u64 {
        let text = format!("segment {at}");
        sparse
            .write_all_at(text.as_bytes(), (at + 1) * 1_000_000)
            .unwrap();
    }
    sparse.seek(SeekFrom::Start(40_000_000)).unwrap();
    sparse.write_all(b"end").unwrap();
    sparse.set_len(41_000_000).unwrap();
}

fn sparse_content() -> Vec<u8> {
    let mut content = vec![0; 41_000_000];
    for at in 0..30usize {
        let text = format!("segment {at}");
        let start = (at + 1) * 1_000_000;
        content[start..start + text.len()].copy_from_slice(text.as_bytes());
    }
    content[40_000_000..40_000_003].copy_from_slice(b"end");
    content
}

#[test]
fn peer_tar_archives_of_every_format_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    make_tree(&root);
    let formats: [&[&str]; 6] = [
        &["--format=gnu", "--sparse"],
        &["--format=gnu"],
        &["--format=pax", "--sparse", "--sparse-version=0.0"],
        &["--format=pax", "--sparse", "--sparse-version=0.1"],
        &["--format=pax", "--sparse", "--sparse-version=1.0"],
        &["--format=pax"],
    ];
    let mut first: Option<Vec<(Entry, Vec<u8>)>> = None;
    for format in formats {
        let mut command = Command::new("tar");
        command
            .args(format)
            .args(["--sort=name", "-C"])
            .arg(&root)
            .args(["-cf", "-", "."]);
        let Some(output) = run("peer_tar_archives_of_every_format_are_read", &mut command) else {
            return;
        };
        let mut entries = read(&output.stdout).unwrap();
        for (entry, _) in &mut entries {
            // The old formats have no fractions.
            entry.mtime.nanoseconds = 0;
        }
        let sparse = entries
            .iter()
            .find(|(entry, _)| entry.path.as_bytes() == b"sparse");
        assert!(sparse.unwrap().1 == sparse_content(), "{format:?}");
        match &first {
            None => first = Some(entries),
            Some(first) => assert!(*first == entries, "{format:?}"),
        }
    }
    let first = first.unwrap();
    let links = first
        .iter()
        .filter(|(entry, _)| matches!(entry.kind, EntryKind::HardLink { .. }));
    assert_eq!(links.count(), 1);
    assert_eq!(first.len(), 70);
}

fn write_file(entries: &[Entry]) -> tempfile::NamedTempFile {
    let mut archive = tempfile::NamedTempFile::new().unwrap();
    archive.write_all(&write(entries)).unwrap();
    archive
}

#[test]
fn peer_tar_reads_what_we_write() {
    let archive = write_file(&samples());
    let mut command = Command::new("tar");
    command.args([
        "--null",
        "--quoting-style=literal",
        "--show-transformed-names",
        "-tf",
    ]);
    let Some(output) = run("peer_tar_reads_what_we_write", command.arg(archive.path())) else {
        return;
    };
    let names: Vec<&[u8]> = output.stdout.split(|byte| *byte == b'\n').collect();
    for (entry, name) in samples().iter().zip(names) {
        let name = name.strip_suffix(b"/").unwrap_or(name);
        let expected = if entry.path.is_root() {
            b"."
        } else {
            entry.path.as_bytes()
        };
        assert_eq!(name, expected);
    }

    // Content, times and links, as they come out on disk.
    let target = tempfile::tempdir().unwrap();
    let plain: Vec<Entry> = samples()
        .into_iter()
        .filter(|entry| {
            let far = !(0..4_000_000_000).contains(&entry.mtime.seconds);
            !far && !matches!(
                entry.kind,
                EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. }
            )
        })
        .collect();
    let archive = write_file(&plain);
    let mut command = Command::new("tar");
    command
        .args(["--no-same-owner", "-C"])
        .arg(target.path())
        .arg("-xf")
        .arg(archive.path());
    run("peer_tar_reads_what_we_write", &mut command);
    for entry in &plain {
        let path = target.path().join(entry.path.as_path());
        match &entry.kind {
            EntryKind::File { .. } => {
                assert_eq!(fs::read(&path).unwrap(), content_of(entry));
                let time = fs::metadata(&path).unwrap().modified().unwrap();
                let time = time.duration_since(std::time::UNIX_EPOCH).unwrap();
                assert_eq!(time.as_secs() as i64, entry.mtime.seconds, "{entry:?}");
                assert_eq!(time.subsec_nanos(), entry.mtime.nanoseconds, "{entry:?}");
            }
            EntryKind::Symlink { target } => {
                let link = fs::read_link(&path).unwrap();
                assert_eq!(link.as_os_str().as_bytes(), target);
            }
            _ => {}
        }
    }
}

#[test]
fn peer_python_reads_what_we_write() {
    const PROGRAM: &str = "
import sys, tarfile, os
for m in tarfile.open(sys.argv[1], 'r:'):
    name = os.fsencode(m.name).hex()
    link = os.fsencode(m.linkname).hex()
    print(name or '-', m.type.decode(), m.size, m.mode, m.uid, m.gid, m.devmajor, m.devminor, link or '-')
";
    let mut entries = samples();
    entries.push(file("umlaut-\u{e4}-".repeat(20).as_bytes(), 3));
    let archive = write_file(&entries);
    let mut command = Command::new("python3");
    command.args(["-c", PROGRAM]).arg(archive.path());
    let Some(output) = run("peer_python_reads_what_we_write", &mut command) else {
        return;
    };
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let lines = String::from_utf8(output.stdout).unwrap();
    assert_eq!(lines.lines().count(), entries.len());
    for (entry, line) in entries.iter().zip(lines.lines()) {
        let (kind, size, device, link): (_, _, _, &[u8]) = match &entry.kind {
            EntryKind::File { size } => ('0', *size, (0, 0), b""),
            EntryKind::HardLink { target } => ('1', 0, (0, 0), target.as_bytes()),
            EntryKind::Symlink { target } => ('2', 0, (0, 0), target),
            EntryKind::CharDevice { major, minor } => ('3', 0, (*major, *minor), b""),
            // Python does not know the records for large device numbers.
            EntryKind::BlockDevice { .. } => continue,
            EntryKind::Directory => ('5', 0, (0, 0), b""),
            _ => ('6', 0, (0, 0), b""),
        };
        let name = if entry.path.is_root() {
            b"."
        } else {
            entry.path.as_bytes()
        };
        let link = if link.is_empty() {
            "-".into()
        } else {
            hex(link)
        };
        let expected = format!(
            "{} {kind} {size} {} {} {} {} {} {link}",
            hex(name),
            entry.mode,
            entry.uid,
            entry.gid,
            device.0,
            device.1,
        );
        assert_eq!(line, expected);
    }
}
