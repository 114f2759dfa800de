//! Invariant: what the reader yields, the writer takes (but for files whose content is missing),
//! and reading that gives the same entries again.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use wythe_layers::tar::{TarReader, TarWriter};
use wythe_layers::tree::{Entry, EntryKind};

/// Holes would make the output large.
const MAX_CONTENT_BYTES: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let mut data = data.to_vec();
    mend_checksums(&mut data);
    let (first, _) = read(&data);
    let mut writer = TarWriter::new(Vec::new());
    for (entry, content) in &first {
        writer.append(entry, &mut &content[..]).expect("what was read can be written");
    }
    let bytes = writer.finish().expect("memory does not fail");
    let (second, complete) = read(&bytes);
    assert!(complete);
    assert_eq!(first, second);
});

fn read(data: &[u8]) -> (Vec<(Entry, Vec<u8>)>, bool) {
    let mut reader = TarReader::new(data);
    let mut entries = Vec::new();
    loop {
        match reader.next_entry() {
            Ok(Some((entry, mut content))) => {
                if matches!(entry.kind, EntryKind::File { size } if size > MAX_CONTENT_BYTES) {
                    return (entries, false);
                }
                let mut bytes = Vec::new();
                if content.read_to_end(&mut bytes).is_err() {
                    return (entries, false);
                }
                if matches!(entry.kind, EntryKind::Whiteout | EntryKind::OpaqueDirectory) {
                    bytes.clear();
                }
                entries.push((entry, bytes));
            }
            Ok(None) => return (entries, true),
            Err(_) => return (entries, false),
        }
    }
}

/// Gives every block that has a checksum-like field a right checksum.
fn mend_checksums(data: &mut [u8]) {
    for block in data.chunks_exact_mut(512) {
        if block[154..156] == *b"\0 " {
            let rest = block[..148].iter().chain(&block[156..]);
            let sum: u32 = rest.map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
            block[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
        }
    }
}
