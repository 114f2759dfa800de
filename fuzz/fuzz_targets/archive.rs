//! Invariant: whatever the bytes, opening an image archive and resolving its images ends without
//! a panic, and nothing but its own entries is ever read.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use wythe_layers::image::ImageSource;
use wythe_layers::spec::{Platform, Reference};
use wythe_registry::Archive;

fuzz_target!(|data: &[u8]| {
    let Ok(archive) = Archive::open_stream(data, &std::env::temp_dir()) else {
        return;
    };
    let name: Reference = "x".parse().expect("valid");
    for image in archive.images().iter().take(4) {
        let source = archive.image(image);
        let Ok(resolved) = source.resolve(&name, &Platform::host()) else {
            continue;
        };
        for layer in resolved.manifest.layers.iter().take(4) {
            if let Ok(body) = source.open(&name, layer) {
                let mut read = Vec::new();
                let _ = body.take(1 << 20).read_to_end(&mut read);
                assert!(read.is_empty() || contains(data, &read) || data.starts_with(&[0x1f]));
            }
        }
    }
});

/// A plain archive's layers are parts of it.
fn contains(data: &[u8], part: &[u8]) -> bool {
    data.starts_with(&[0x28, 0xb5]) || data.windows(part.len()).any(|window| window == part)
}
