//! Invariant: whatever the bytes, decoding ends without a panic; plain bytes come out as they are;
//! what has failed or ended stays so; what is compressed from the bytes decodes to them again.
#![no_main]

use std::io::{Read, Write};

use libfuzzer_sys::fuzz_target;
use wythe_layers::stream::{Compression, Encoder, decode};

/// Both formats reach about 1:1000 and more; the rest is more of the same.
const MAX_OUTPUT_BYTES: u64 = 16 << 20;

fuzz_target!(|data: &[u8]| {
    let Ok(decoder) = decode(data) else { return };
    let mut decoder = decoder.take(MAX_OUTPUT_BYTES);
    let mut output = Vec::new();
    let outcome = decoder.read_to_end(&mut output);
    if Compression::sniff(data) == Compression::None {
        assert_eq!(output, data);
    }
    if decoder.limit() > 0 {
        let again = decoder.read(&mut [0; 16]);
        assert_eq!(outcome.is_ok(), again.is_ok());
        assert_eq!(again.unwrap_or(0), 0);
    }
    for compression in [Compression::Gzip, Compression::Zstd] {
        let mut encoder = Encoder::new(Vec::new(), compression, Some(1), 1).expect("valid");
        encoder.write_all(data).expect("memory does not fail");
        let bytes = encoder.finish().expect("memory does not fail");
        let mut back = Vec::new();
        decode(&bytes[..]).and_then(|mut d| d.read_to_end(&mut back)).expect("our own");
        assert_eq!(back, data);
    }
});
