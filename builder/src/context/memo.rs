//! What is remembered of a context directory's files, so that an unchanged one is not read again.
//!
//! One file per context directory, read once and written at most once per build:
//! ```text
//! wythe-context-1\n
//! per file: path length u32, path, device u64, inode u64, size u64,
//!           mtime i64+u32, ctime i64+u32, SHA-256 32 bytes          (little endian)
//! SHA-256 of all of the above, 32 bytes
//! ```
//! What cannot be read is forgotten, never an error. A file that was changed shortly before it was
//! hashed is not trusted: a second change may have left the same times (git calls this racy).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use wythe_layers::spec::Digest;
use wythe_layers::tree::EntryPath;

use crate::Result;
use crate::cache::{read_bounded, write_atomically};

const MAGIC: &[u8] = b"wythe-context-1\n";
const DIGEST_BYTES: usize = 32;
/// Some millions of files.
const MAX_MEMO_BYTES: u64 = 1 << 30;
/// Coarsest clock tick of a kernel whose file times have nanoseconds.
const FINE_SLACK_NS: i128 = 50_000_000;
/// For file systems that keep whole or double seconds.
const COARSE_SLACK_NS: i128 = 2_100_000_000;

/// What of a file tells that it is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Stamp {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    pub(crate) mtime: (i64, u32),
    pub(crate) ctime: (i64, u32),
}

impl Stamp {
    /// Whether a change after `now` would show in these times.
    fn is_settled(&self, now: i128) -> bool {
        let nanoseconds =
            |(seconds, rest): (i64, u32)| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        let newest = nanoseconds(self.mtime).max(nanoseconds(self.ctime));
        let coarse = self.mtime.1 == 0 && self.ctime.1 == 0;
        newest
            + if coarse {
                COARSE_SLACK_NS
            } else {
                FINE_SLACK_NS
            }
            < now
    }
}

/// Now, in nanoseconds since 1970: to be asked before a file's stamp is taken.
pub(crate) fn now() -> i128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |duration| {
        i128::try_from(duration.as_nanos()).unwrap_or(0)
    })
}

/// The remembered digests of one context directory.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    path: Option<PathBuf>,
    known: BTreeMap<EntryPath, (Stamp, Digest)>,
    changed: bool,
}

impl Memo {
    /// Reads what is remembered at `path`.
    pub(crate) fn load(path: &Path) -> Self {
        let bytes = read_bounded(path, MAX_MEMO_BYTES).ok().flatten();
        Self {
            path: Some(path.to_owned()),
            known: bytes.and_then(|bytes| decode(&bytes)).unwrap_or_default(),
            changed: false,
        }
    }

    /// The digest of a file that still has the same stamp.
    pub(crate) fn get(&self, path: &EntryPath, stamp: &Stamp) -> Option<Digest> {
        let (known, digest) = self.known.get(path)?;
        (known == stamp).then(|| digest.clone())
    }

    /// Remembers a digest; `hashed_at` is [`now`] from before the stamp was taken.
    pub(crate) fn put(&mut self, path: &EntryPath, stamp: Stamp, digest: Digest, hashed_at: i128) {
        if stamp.is_settled(hashed_at) {
            self.known.insert(path.clone(), (stamp, digest));
            self.changed = true;
        }
    }

    /// Forgets files below `directory` that `exists` does not know.
    pub(crate) fn retain(&mut self, mut exists: impl FnMut(&EntryPath) -> bool) {
        let before = self.known.len();
        self.known.retain(|path, _| exists(path));
        self.changed |= self.known.len() != before;
    }

    /// Whether anything is to be written.
    pub(crate) fn is_changed(&self) -> bool {
        self.changed
    }

    /// Writes it if anything is new.
    pub(crate) fn save(&mut self) -> Result<()> {
        let Some(path) = self.path.as_ref().filter(|_| self.changed) else {
            return Ok(());
        };
        write_atomically(path, &encode(&self.known))?;
        self.changed = false;
        Ok(())
    }
}

fn encode(known: &BTreeMap<EntryPath, (Stamp, Digest)>) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for (path, (stamp, digest)) in known {
        let Some(digest) = from_hex(digest.hex()) else {
            continue;
        };
        let Ok(length) = u32::try_from(path.as_bytes().len()) else {
            continue;
        };
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(path.as_bytes());
        for number in [stamp.device, stamp.inode, stamp.size] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for (seconds, rest) in [stamp.mtime, stamp.ctime] {
            bytes.extend_from_slice(&seconds.to_le_bytes());
            bytes.extend_from_slice(&rest.to_le_bytes());
        }
        bytes.extend_from_slice(&digest);
    }
    let sum = from_hex(Digest::of(&bytes).hex()).unwrap_or([0; DIGEST_BYTES]);
    bytes.extend_from_slice(&sum);
    bytes
}

fn decode(bytes: &[u8]) -> Option<BTreeMap<EntryPath, (Stamp, Digest)>> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST_BYTES)?)?;
    if from_hex(Digest::of(body).hex())? != sum {
        return None;
    }
    let mut rest = body.strip_prefix(MAGIC)?;
    let mut known = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_le_bytes(take(&mut rest)?);
        let (path, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        rest = after;
        let stamp = Stamp {
            device: u64::from_le_bytes(take(&mut rest)?),
            inode: u64::from_le_bytes(take(&mut rest)?),
            size: u64::from_le_bytes(take(&mut rest)?),
            mtime: (
                i64::from_le_bytes(take(&mut rest)?),
                u32::from_le_bytes(take(&mut rest)?),
            ),
            ctime: (
                i64::from_le_bytes(take(&mut rest)?),
                u32::from_le_bytes(take(&mut rest)?),
            ),
        };
        let digest = to_digest(&take::<DIGEST_BYTES>(&mut rest)?)?;
        known.push((EntryPath::parse(path)?, (stamp, digest)));
    }
    Some(known.into_iter().collect())
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn from_hex(hex: &str) -> Option<[u8; DIGEST_BYTES]> {
    let mut bytes = [0; DIGEST_BYTES];
    if hex.len() != 2 * DIGEST_BYTES {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(bytes)
}

fn to_digest(bytes: &[u8; DIGEST_BYTES]) -> Option<Digest> {
    let mut text = String::with_capacity(7 + 2 * DIGEST_BYTES);
    text.push_str("sha256:");
    for byte in bytes {
        // Not `write!`: with a file each, formatting was a twentieth of a no-op rebuild.
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16)?);
        }
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(size: u64) -> Stamp {
        Stamp {
            device: 1,
            inode: 2,
            size,
            mtime: (-3, 5),
            ctime: (100, 7),
        }
    }

    #[test]
    fn digests_survive_a_round_trip_and_a_torn_file_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("memo");
        let file = EntryPath::parse(b"a/b").unwrap();
        let mut memo = Memo::load(&path);
        memo.put(&file, stamp(1), Digest::of(b"x"), now());
        assert!(memo.is_changed());
        memo.save().unwrap();
        assert!(!memo.is_changed());

        let again = Memo::load(&path);
        assert_eq!(again.get(&file, &stamp(1)), Some(Digest::of(b"x")));
        assert_eq!(again.get(&file, &stamp(2)), None);
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(Memo::load(&path).known.is_empty(), "cut at {cut}");
        }
        let mut flipped = whole.clone();
        flipped[20] ^= 1;
        std::fs::write(&path, &flipped).unwrap();
        assert!(Memo::load(&path).known.is_empty());
    }

    #[test]
    fn a_file_changed_just_now_is_not_trusted() {
        let second = 1_000_000_000;
        let fine = Stamp {
            mtime: (10, 1),
            ctime: (10, 1),
            ..stamp(1)
        };
        assert!(!fine.is_settled(10 * second + 2));
        assert!(fine.is_settled(11 * second));
        let coarse = Stamp {
            mtime: (10, 0),
            ctime: (10, 0),
            ..stamp(1)
        };
        assert!(!coarse.is_settled(12 * second));
        assert!(coarse.is_settled(13 * second));
        let future = Stamp {
            mtime: (100, 1),
            ctime: (10, 1),
            ..stamp(1)
        };
        assert!(!future.is_settled(50 * second));
    }
}
