//! Streams: what must hold whatever the threads, the cuts and the ends of the input.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::Error;
use crate::spec::{Descriptor, Digest};

/// Bytes that compress somewhat, the same on every machine.
fn sample(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if state & 3 == 0 {
            bytes.extend_from_slice(&state.to_le_bytes());
        } else {
            bytes.extend_from_slice(b"words of text, ");
        }
    }
    bytes.truncate(length);
    bytes
}

/// Words of a small vocabulary: much the same stands everywhere, so the compressor has a choice of
/// matches up to the very end of a block.
fn word_salad(length: usize) -> Vec<u8> {
    let noise = sample(1 << 16);
    let words: Vec<&[u8]> = (0..500)
        .map(|at| &noise[at * 100..at * 100 + 3 + at % 11])
        .collect();
    let mut state = 88_172_645_463_325_252u64;
    let mut bytes = Vec::with_capacity(length + 16);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(words[(state % 500) as usize]);
    }
    bytes.truncate(length);
    bytes
}

/// zlib-rs looks at the remains of an earlier block behind the end of the present one, and takes
/// other matches for it. So a compressor must not be used twice.
#[test]
fn a_block_does_not_depend_on_the_blocks_before_it_on_the_same_thread() {
    let input = word_salad(24 * MIB);
    for level in [1, 6] {
        let one = encode(&input, Compression::Gzip, Some(level), 1, MIB);
        let three = encode(&input, Compression::Gzip, Some(level), 3, MIB);
        assert!(one == three, "level {level}");
    }
}

fn encode(
    input: &[u8],
    compression: Compression,
    level: Option<u8>,
    threads: usize,
    cut: usize,
) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new(), compression, level, threads).unwrap();
    for part in input.chunks(cut) {
        encoder.write_all(part).unwrap();
        encoder.flush().unwrap();
    }
    encoder.finish().unwrap()
}

fn decoded(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut output = Vec::new();
    decode(bytes)?.read_to_end(&mut output)?;
    Ok(output)
}

fn descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor::new(
        Compression::None.layer_media_type(),
        Digest::of(bytes),
        bytes.len() as u64,
    )
}

const MIB: usize = 1 << 20;

#[test]
fn compressed_bytes_do_not_depend_on_threads_or_cuts() {
    let whole = sample(9 * MIB + 5);
    let lengths = [
        0,
        1,
        1000,
        131_072,
        MIB - 1,
        MIB,
        MIB + 1,
        2 * MIB,
        8 * MIB,
        whole.len(),
    ];
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        for length in lengths {
            let input = &whole[..length];
            let expected = encode(input, compression, None, 1, MIB);
            assert_eq!(
                decoded(&expected).unwrap(),
                input,
                "{compression:?} {length}"
            );
            for (threads, cut) in [(1, 4093), (2, 1 << 16), (3, 777_777), (8, 16 * MIB)] {
                assert!(
                    encode(input, compression, None, threads, cut) == expected,
                    "{compression:?}, {length} bytes, {threads} threads, cut at {cut}"
                );
            }
        }
    }
}

/// A change here changes the digest of every layer that is pushed: it needs a line in the
/// changelog, and never happens by an update of a library unnoticed.
#[test]
fn compressed_bytes_are_pinned() {
    let input = sample(3 * MIB);
    let golden = [
        (Compression::Gzip, None, &input[..0], "ac73670af3ab"),
        (Compression::Gzip, None, &input[..], "5203fb5c58b4"),
        (Compression::Gzip, Some(1), &input[..], "368ed1f5d2e4"),
        (Compression::Gzip, Some(9), &input[..], "4ebfa103c3db"),
        (Compression::Zstd, None, &input[..0], "f96deff18160"),
        (Compression::Zstd, None, &input[..], "c3af44d34623"),
        (Compression::Zstd, Some(10), &input[..], "d1e58e193013"),
    ];
    let mut wrong = Vec::new();
    for (compression, level, input, expected) in golden {
        let bytes = encode(input, compression, level, 2, MIB);
        let actual = Digest::of(&bytes).short().to_owned();
        if actual != expected {
            wrong.push(format!(
                "{compression:?} {level:?}: {expected} is now {actual}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_gzip_header_says_nothing_of_time_or_system() {
    let bytes = encode(b"x", Compression::Gzip, None, 1, 1);
    assert_eq!(bytes[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
}

#[test]
fn levels_and_threads_that_cannot_be_are_refused() {
    for (compression, level, threads) in [
        (Compression::Gzip, Some(10), 1),
        (Compression::Zstd, Some(0), 1),
        (Compression::Zstd, Some(23), 1),
        (Compression::Gzip, None, 0),
    ] {
        let error = Encoder::new(Vec::new(), compression, level, threads).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}

/// Fails after so many bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let count = bytes.len().min(self.0);
        self.0 -= count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_sink_is_an_error_and_stays_one() {
    let input = sample(8 * MIB);
    for compression in [Compression::Gzip, Compression::Zstd] {
        for threads in [1, 4] {
            let mut encoder = Encoder::new(Full(300_000), compression, None, threads).unwrap();
            let failed = input
                .chunks(MIB)
                .find_map(|part| encoder.write_all(part).err());
            let error = match failed {
                Some(error) => {
                    assert!(encoder.write_all(b"x").is_err());
                    assert!(encoder.finish().is_err());
                    error
                }
                // Threads may hold all of it back until the end.
                None => encoder.finish().map(|_| ()).expect_err("8 MiB do not fit"),
            };
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        }
    }
}

fn own_threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Not a test of its own: what the next test does where no other test has threads.
#[test]
#[ignore = "started by dropped_encoders_leave_no_threads"]
fn child_that_drops_encoders() {
    let before = own_threads();
    for _ in 0..5 {
        let mut encoder = Encoder::new(Vec::new(), Compression::Gzip, None, 8).unwrap();
        encoder.write_all(&sample(3 * MIB / 2)).unwrap();
        assert!(own_threads() > before);
    }
    // A thread that was waited for is listed a moment longer.
    let started = Instant::now();
    while own_threads() > before {
        assert!(started.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn dropped_encoders_leave_no_threads() {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "--ignored", "--test-threads=1"]);
    let output = child
        .arg("stream::tests::child_that_drops_encoders")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

#[test]
fn everything_people_compress_with_is_decoded() {
    let plain = sample(300_000);
    let gzip = encode(&plain, Compression::Gzip, None, 1, MIB);
    let zstd = encode(&plain, Compression::Zstd, None, 1, MIB);
    let skippable = |body: &[u8]| {
        let mut frame = vec![0x50, 0x2a, 0x4d, 0x18];
        frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
        frame.extend_from_slice(body);
        frame
    };
    let twice = [&plain[..], &plain[..]].concat();
    let cases: [(&str, Vec<u8>, &[u8]); 9] = [
        ("nothing", vec![], b""),
        ("one byte", vec![0x1f], &[0x1f]),
        ("plain", plain.clone(), &plain),
        ("gzip", gzip.clone(), &plain),
        ("two gzip members", [&gzip[..], &gzip].concat(), &twice),
        ("zstd", zstd.clone(), &plain),
        ("two zstd frames", [&zstd[..], &zstd].concat(), &twice),
        (
            "a skippable frame first",
            [&skippable(b"hello"), &zstd[..]].concat(),
            &plain,
        ),
        (
            "zstd:chunked: frames, then tables in skippable frames",
            [&zstd[..], &zstd, &skippable(&[0; 5000]), &skippable(b"")].concat(),
            &twice,
        ),
    ];
    for (name, bytes, expected) in cases {
        assert!(decoded(&bytes).unwrap() == expected, "{name}");
    }
}

#[test]
fn broken_streams_are_errors_that_stay() {
    let plain = sample(300_000);
    for compression in [Compression::Gzip, Compression::Zstd] {
        let good = encode(&plain, compression, None, 1, MIB);
        let mut flipped = good.clone();
        let middle = good.len() / 2;
        flipped[middle] ^= 0x55;
        let mut trailed = good.clone();
        trailed.extend_from_slice(b"garbage");
        for (name, bytes) in [
            ("cut in the middle", &good[..middle]),
            ("cut by one", &good[..good.len() - 1]),
            ("only the magic", &good[..4]),
            ("a flipped bit", &flipped),
            ("garbage behind", &trailed),
        ] {
            let mut decoder = decode(bytes).unwrap();
            let mut sink = Vec::new();
            assert!(
                decoder.read_to_end(&mut sink).is_err(),
                "{compression:?} {name}"
            );
            assert!(
                decoder.read(&mut [0; 16]).is_err(),
                "{compression:?} {name}"
            );
        }
    }
}

#[test]
fn zstd_windows_beyond_the_limit_are_refused() {
    // A frame header that asks for a window of 2 GiB: exponent 21, mantissa 0.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0, 0];
    assert!(decoded(&frame).is_err());
}

#[test]
fn verified_blobs_pass_and_others_fail_for_good() {
    let bytes = sample(100_000);
    let right = descriptor(&bytes);
    let mut read = Vec::new();
    VerifyingReader::new(&bytes[..], &right)
        .read_to_end(&mut read)
        .unwrap();
    assert_eq!(read, bytes);

    let mut wrong_digest = right.clone();
    wrong_digest.digest = Digest::of(b"other");
    let mut too_small = right.clone();
    too_small.size -= 1;
    too_small.digest = Digest::of(&bytes[..bytes.len() - 1]);
    let mut too_large = right.clone();
    too_large.size += 1;
    let mut empty = descriptor(b"");
    empty.digest = Digest::of(b"other");
    for (name, descriptor, input, is_digest) in [
        ("digest", &wrong_digest, &bytes[..], true),
        ("longer", &too_small, &bytes[..], false),
        ("shorter", &too_large, &bytes[..], false),
        ("empty, wrong digest", &empty, &[][..], true),
        ("not empty", &descriptor(b""), &bytes[..], false),
    ] {
        let mut reader = VerifyingReader::new(input, descriptor);
        let mut read = Vec::new();
        for _ in 0..2 {
            let error = Error::read("blob")(reader.read_to_end(&mut read).unwrap_err());
            let digest = matches!(error, Error::DigestMismatch { .. });
            let size = matches!(error, Error::SizeMismatch { .. });
            assert!(if is_digest { digest } else { size }, "{name}: {error}");
        }
        assert!(read.len() as u64 <= descriptor.size, "{name}");
    }
}

#[test]
fn a_verdict_is_seen_through_decoders_and_threads() {
    let plain = sample(3 * MIB);
    for compression in [Compression::Gzip, Compression::Zstd] {
        let blob = encode(&plain, compression, None, 1, MIB);
        let mut descriptor = descriptor(&blob);
        descriptor.digest = Digest::of(b"another");
        let verified = VerifyingReader::new(io::Cursor::new(blob), &descriptor);
        let ahead = ReadAhead::new(verified).unwrap();
        let mut decoder = ReadAhead::new(decode(ahead).unwrap()).unwrap();
        let error = io::copy(&mut decoder, &mut io::sink()).unwrap_err();
        let error = Error::read("blob")(error);
        assert!(matches!(error, Error::DigestMismatch { .. }), "{error:?}");
        assert!(decoder.read(&mut [0; 1]).is_err());
    }
}

#[test]
fn reading_ahead_changes_nothing() {
    for length in [0, 1, 256 << 10, (256 << 10) + 1, 3 * MIB] {
        let bytes = sample(length);
        let (mut owned, mut scoped) = (Vec::new(), Vec::new());
        ReadAhead::new(io::Cursor::new(bytes.clone()))
            .unwrap()
            .read_to_end(&mut owned)
            .unwrap();
        std::thread::scope(|scope| {
            ReadAhead::scoped(scope, &bytes[..])
                .unwrap()
                .read_to_end(&mut scoped)
                .unwrap();
        });
        assert!(owned == bytes && scoped == bytes);
    }
}

/// Endless, and tells when it is dropped.
struct Endless(Arc<AtomicBool>);

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(buffer.len())
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_dropped_read_ahead_ends_its_thread() {
    let dropped = Arc::new(AtomicBool::new(false));
    let mut ahead = ReadAhead::new(Endless(Arc::clone(&dropped))).unwrap();
    ahead.read_exact(&mut [0; 100]).unwrap();
    drop(ahead);
    assert!(dropped.load(Ordering::SeqCst));

    let dropped = Arc::new(AtomicBool::new(false));
    // The scope waits for the thread, so a test that returns has seen it end.
    std::thread::scope(|scope| {
        drop(ReadAhead::scoped(scope, Endless(Arc::clone(&dropped))).unwrap());
    });
    assert!(dropped.load(Ordering::SeqCst));
}

struct Panics;

impl Read for Panics {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        panic!("the disk is on fire")
    }
}

#[test]
fn a_panic_of_the_source_is_an_error() {
    let error = ReadAhead::new(Panics).unwrap().read(&mut [0]).unwrap_err();
    assert!(error.to_string().contains("on fire"), "{error}");
    std::thread::scope(|scope| {
        let mut ahead = ReadAhead::scoped(scope, Panics).unwrap();
        assert!(ahead.read(&mut [0]).is_err());
    });
}

#[test]
fn digests_of_what_passes() {
    let bytes = sample(100_000);
    let mut reader = DigestReader::new(&bytes[..]);
    let mut writer = DigestWriter::new(io::sink());
    io::copy(&mut reader, &mut writer).unwrap();
    let (_, read, read_bytes) = reader.finish();
    let (_, written, written_bytes) = writer.finish();
    assert_eq!(read, Digest::of(&bytes));
    assert_eq!(read, written);
    assert_eq!((read_bytes, written_bytes), (100_000, 100_000));
}

/// The programs that others compress with read what we write.
#[test]
fn peer_gzip_and_zstd_read_our_streams() {
    let plain = sample(3 * MIB);
    for (compression, program) in [
        (Compression::Gzip, "gzip"),
        (Compression::Gzip, "pigz"),
        (Compression::Zstd, "zstd"),
    ] {
        let bytes = encode(&plain, compression, None, 2, MIB);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        let run = std::process::Command::new(program)
            .arg("-dc")
            .stdin(file)
            .output();
        let Ok(output) = run else {
            let required = std::env::var("WYTHE_REQUIRE").unwrap_or_default();
            assert!(!required.contains("peer"), "{program} is not installed");
            eprintln!("SKIPPED peer_gzip_and_zstd_read_our_streams: needs {program}");
            continue;
        };
        assert!(output.status.success(), "{program}: {output:?}");
        assert!(output.stdout == plain, "{program}");
    }
}
