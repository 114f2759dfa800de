//! Invariant: whatever the bytes, reading ends, without a panic and without memory or output
//! out of proportion; each entry's content has the length that its entry says; no path leads out
//! of the root or has an empty part.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wythe_layers::tar::{Chunk, TarReader};
use wythe_layers::tree::EntryKind;

fuzz_target!(|data: &[u8]| {
    let mut data = data.to_vec();
    mend_checksums(&mut data);
    let mut reader = TarReader::new(&data[..]);
    while let Ok(Some((entry, mut content))) = reader.next_entry() {
        let path = entry.path.as_bytes();
        for part in path.split(|byte| *byte == b'/') {
            assert!(part != b".." && part != b"." && (!part.is_empty() || path.is_empty()));
            assert!(!part.contains(&0) && part.len() <= 255);
        }
        let mut length = 0u64;
        let complete = loop {
            match content.next_chunk() {
                Ok(Some(Chunk::Data(bytes))) => length += bytes.len() as u64,
                Ok(Some(Chunk::Hole(bytes))) => length += bytes,
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        if complete {
            let expected = match entry.kind {
                EntryKind::File { size } => size,
                EntryKind::Whiteout | EntryKind::OpaqueDirectory => continue,
                _ => 0,
            };
            assert_eq!(length, expected);
        }
    }
});

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
