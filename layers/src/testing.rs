//! What this crate's own tests share.

use crate::store::Store;
use crate::tar::TarWriter;
use crate::tree::{Entry, EntryKind, EntryPath, Flavour};

/// Whether a privileged test may run here. If not it is skipped loudly, or fails where
/// `WYTHE_REQUIRE` asks for `priv`.
pub(crate) fn privileged(test: &str, ability: &str) -> bool {
    let able = is_real_root() || inside_user_namespace().is_some();
    if !able {
        let required = std::env::var("WYTHE_REQUIRE").unwrap_or_default();
        assert!(!required.contains("priv"), "{test} needs {ability}");
        eprintln!("SKIPPED {test}: needs {ability}");
    }
    able
}

/// Root with all capabilities in the initial user namespace.
fn is_real_root() -> bool {
    let able = rustix::thread::capabilities(None).is_ok_and(|sets| {
        sets.effective
            .contains(rustix::thread::CapabilitySet::SYS_ADMIN)
    });
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let numbers: Vec<&str> = map.split_whitespace().collect();
    able && numbers == ["0", "0", "4294967295"]
}

/// A store of [`flavour`].
pub(crate) fn store() -> (tempfile::TempDir, Store) {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::open(&temp.path().join("store"), flavour()).unwrap();
    (temp, store)
}

/// The flavour that this process can keep.
pub(crate) fn flavour() -> Flavour {
    match inside_user_namespace() {
        Some(flavour) => flavour,
        None if is_real_root() => Flavour::Root,
        None => Flavour::SingleId,
    }
}

/// Tests run themselves again in a user namespace, with this set to its flavour.
pub(crate) const NAMESPACE_VARIABLE: &str = "WYTHE_TEST_USER_NAMESPACE";

/// Whether this process is such a run.
pub(crate) fn inside_user_namespace() -> Option<Flavour> {
    match std::env::var(NAMESPACE_VARIABLE).ok()?.as_str() {
        "sub-ids" => Some(Flavour::SubIds),
        _ => Some(Flavour::SingleId),
    }
}

/// A plain tar of entries with their contents.
pub(crate) fn tar_of(entries: &[(Entry, &str)]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for (entry, content) in entries {
        writer.append(entry, &mut content.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

fn entry(path: &str, mode: u32, kind: EntryKind) -> Entry {
    Entry {
        mode,
        ..Entry::new(EntryPath::parse(path.as_bytes()).unwrap(), kind)
    }
}

pub(crate) fn dir(path: &str, mode: u32) -> Entry {
    entry(path, mode, EntryKind::Directory)
}

pub(crate) fn file(path: &str, mode: u32, content: &str) -> Entry {
    let size = content.len() as u64;
    entry(path, mode, EntryKind::File { size })
}

pub(crate) fn symlink(path: &str, target: &str) -> Entry {
    let target = target.as_bytes().to_vec();
    entry(path, 0o777, EntryKind::Symlink { target })
}

pub(crate) fn link(path: &str, target: &str) -> Entry {
    let target = EntryPath::parse(target.as_bytes()).unwrap();
    entry(path, 0o644, EntryKind::HardLink { target })
}

pub(crate) fn whiteout(path: &str) -> Entry {
    entry(path, 0, EntryKind::Whiteout)
}

pub(crate) fn opaque(path: &str) -> Entry {
    entry(path, 0, EntryKind::OpaqueDirectory)
}
