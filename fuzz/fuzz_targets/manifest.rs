//! Invariant: whatever the bytes, parsing a manifest or an index ends without a panic; what is
//! parsed keeps its bytes exactly and is described by them; no document is both kinds, whatever
//! media type it is served with.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wythe_layers::spec::{Digest, Document, MediaType};

fuzz_target!(|data: &[u8]| {
    let mut kinds = Vec::new();
    for served_as in [None, Some(MediaType::MANIFEST), Some(MediaType::INDEX)] {
        let Ok(document) = Document::parse(data.to_vec(), served_as.as_ref()) else {
            continue;
        };
        assert_eq!(document.bytes(), data);
        assert_eq!(document.descriptor().digest, Digest::of(data));
        assert_eq!(document.descriptor().size, data.len() as u64);
        kinds.push(matches!(document, Document::Index(_)));
    }
    kinds.dedup();
    assert!(kinds.len() <= 1);
});
