//! The rules of the Dockerfile reference, §COPY and §ADD, row by row, through whole builds.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::build::testing::Bench;
use crate::error::with_causes;

fn bench() -> Bench {
    let bench = Bench::new();
    bench
        .write("a.txt", "A")
        .write("b.txt", "B")
        .write("c.md", "C")
        .write("arr[0].txt", "ARR")
        .write("dir/x", "X")
        .write("dir/sub/y", "Y")
        .write("other/x", "X2")
        .write("deep/one/f.txt", "F1")
        .write("deep/two/f.txt", "F2");
    let context = bench.context();
    symlink("a.txt", context.join("link")).unwrap();
    symlink("dir", context.join("dirlink")).unwrap();
    symlink("../../../../etc/hostname", context.join("out")).unwrap();
    symlink("nowhere", context.join("dangling")).unwrap();
    fs::set_permissions(context.join("dir/sub"), fs::Permissions::from_mode(0o700)).unwrap();
    bench
}

/// The comments name what the rows below them come from: as `anchor: sentence in short` Docker's reference
/// (ADD's anchors say the same), as `files` what BuildKit does where that is silent.
#[test]
fn destinations_follow_the_reference() {
    let bench = bench();
    for (instructions, expected) in [
        // destination: a trailing slash means a directory, none a file of that name; missing directories are
        // made; what does not begin with / is relative to the working directory
        ("COPY a.txt /x", &["f644 x = A"][..]),
        ("COPY a.txt /x/", &["d755 x", "f644 x/a.txt = A"]),
        (
            "COPY a.txt /p/q/x",
            &["d755 p", "d755 p/q", "f644 p/q/x = A"],
        ),
        ("WORKDIR /w\nCOPY a.txt .", &["d755 w", "f644 w/a.txt = A"]),
        ("WORKDIR /w\nCOPY a.txt x", &["d755 w", "f644 w/x = A"]),
        (
            "WORKDIR /w\nCOPY a.txt ../up/",
            &["d755 up", "f644 up/a.txt = A", "d755 w"],
        ),
        ("ADD a.txt /x", &["f644 x = A"]),
        ("ADD a.txt /x/", &["d755 x", "f644 x/a.txt = A"]),
        ("COPY a.txt /x/.", &["d755 x", "f644 x/a.txt = A"]),
        ("COPY a.txt //x//y", &["d755 x", "f644 x/y = A"]),
        ("COPY a.txt .", &["f644 a.txt = A"]),
        ("COPY a.txt \"\"", &["f644 a.txt = A"]),
        (
            "WORKDIR /w\nCOPY a.txt $none",
            &["d755 w", "f644 w/a.txt = A"],
        ),
        ("COPY a.txt /../../x", &["f644 x = A"]),
        (
            "WORKDIR a\nWORKDIR b\nCOPY a.txt ./c/",
            &["d755 a", "d755 a/b", "d755 a/b/c", "f644 a/b/c/a.txt = A"],
        ),
        // copying-from-the-build-context: ../ and a leading slash of a source mean nothing, nor does a
        // trailing one
        ("COPY ../../a.txt /", &["f644 a.txt = A"]),
        ("COPY /a.txt /", &["f644 a.txt = A"]),
        ("COPY dir/sub/ /d", &["d755 d", "f644 d/y = Y"]),
        ("COPY dir/../a.txt /x", &["f644 x = A"]),
        ("COPY ./dir/./sub/. /d", &["d755 d", "f644 d/y = Y"]),
        // copying-from-the-build-context: of a directory the contents are copied, merged with what is there,
        // file by file; files: what is made on the way is 0755
        (
            "COPY dir /d",
            &["d755 d", "d700 d/sub", "f644 d/sub/y = Y", "f644 d/x = X"],
        ),
        ("COPY dir/sub /d/", &["d755 d", "f644 d/y = Y"]),
        (
            "COPY dir other /d/",
            &["d755 d", "d700 d/sub", "f644 d/sub/y = Y", "f644 d/x = X2"],
        ),
        (
            "COPY a.txt dir/sub /d/",
            &["d755 d", "f644 d/a.txt = A", "f644 d/y = Y"],
        ),
        // pattern-matching: Go's filepath.Match; files: a pattern that nothing matches copies nothing
        (
            "COPY *.txt /d/",
            &[
                "d755 d",
                "f644 d/a.txt = A",
                "f644 d/arr[0].txt = ARR",
                "f644 d/b.txt = B",
            ],
        ),
        (
            "COPY ?.txt /d/",
            &["d755 d", "f644 d/a.txt = A", "f644 d/b.txt = B"],
        ),
        ("COPY arr[[]0].txt /d", &["f644 d = ARR"]),
        ("COPY deep/*/f.txt /d/", &["d755 d", "f644 d/f.txt = F2"]),
        ("COPY none* a.txt /d/", &["d755 d", "f644 d/a.txt = A"]),
        (
            "COPY [\"a.txt\", \"/with space/\"]",
            &["d755 with space", "f644 with space/a.txt = A"],
        ),
        // files: a link as source is followed, one inside a directory is kept
        ("COPY link /d/", &["d755 d", "f644 d/link = A"]),
        (
            "COPY dirlink /d/",
            &["d755 d", "d700 d/sub", "f644 d/sub/y = Y", "f644 d/x = X"],
        ),
        // files: of several files of one name the last one stays; a star is one part, however many there are
        ("COPY deep/*/f.txt /d", &["f644 d = F2"]),
        ("COPY **/f.txt **/x /d/", &["d755 d", "f644 d/x = X2"]),
        // copy---chmod: octal or symbolic; copy---chown: names or numbers, a lone user's number is the group's too
        ("COPY --chmod=600 a.txt /x", &["f600 x = A"]),
        (
            "COPY --chmod=u=rwx,go= dir /d",
            &["d755 d", "d700 d/sub", "f700 d/sub/y = Y", "f700 d/x = X"],
        ),
        ("COPY --chmod=4711 dir/sub /d", &["d711 d", "f4711 d/y = Y"]),
        (
            "COPY --chown=5:6 dir/sub /p/d",
            &["d755 5:6 p", "d755 5:6 p/d", "f644 5:6 p/d/y = Y"],
        ),
        // files: names that the image does not know are root's
        (
            "COPY b.txt /b\nCOPY --chown=who:what a.txt /x",
            &["f644 b = B", "f644 x = A"],
        ),
        (
            "COPY b.txt /b\nCOPY --chown=5:what a.txt /x",
            &["f644 b = B", "f644 5:5 x = A"],
        ),
        ("COPY --chown=7 a.txt /x", &["f644 7:7 x = A"]),
        // destination: an existing directory takes the file, slash or not; files: links on the way and at the end
        // are followed inside the image
        (
            "COPY dir /d\nCOPY a.txt /d",
            &[
                "d755 d",
                "f644 d/a.txt = A",
                "d700 d/sub",
                "f644 d/sub/y = Y",
                "f644 d/x = X",
            ],
        ),
        (
            "RUN link /real /l\nCOPY a.txt /l/",
            &["l l -> /real", "d755 real", "f644 real/a.txt = A"],
        ),
        (
            "COPY dir /real\nRUN link real /l\nCOPY dir/x /l",
            &[
                "l l -> real",
                "d755 real",
                "d700 real/sub",
                "f644 real/sub/y = Y",
                "f644 real/x = X",
            ],
        ),
        (
            "RUN link ../../../x /l\nCOPY a.txt /l",
            &["l l -> ../../../x", "f644 x = A"],
        ),
        // files: below the destination a file replaces a link
        (
            "RUN link /etc/passwd /d/x\nCOPY dir /d",
            &["d755 d", "d700 d/sub", "f644 d/sub/y = Y", "f644 d/x = X"],
        ),
        // copy---exclude, copy---parents (with the pivot /./), copy---link
        (
            "COPY --exclude=*.txt --exclude=deep --exclude=**/x . /d",
            &[
                "d755 d",
                "l d/dangling -> nowhere",
                "d755 d/dir",
                "d700 d/dir/sub",
                "f644 d/dir/sub/y = Y",
                "l d/dirlink -> dir",
                "l d/link -> a.txt",
                "d755 d/other",
                "l d/out -> ../../../../etc/hostname",
                "f644 d/c.md = C",
            ],
        ),
        (
            "COPY --parents deep/*/f.txt /d/",
            &[
                "d755 d",
                "d755 d/deep",
                "d755 d/deep/one",
                "f644 d/deep/one/f.txt = F1",
                "d755 d/deep/two",
                "f644 d/deep/two/f.txt = F2",
            ],
        ),
        (
            "COPY --parents deep/./one/f.txt /d/",
            &["d755 d", "d755 d/one", "f644 d/one/f.txt = F1"],
        ),
        // files: a directory that exists takes the source's mode
        (
            "RUN write /d/dir/sub/keep K\nCOPY --parents dir/sub/y /d/",
            &[
                "d755 d",
                "d755 d/dir",
                "d700 d/dir/sub",
                "f644 d/dir/sub/keep = K",
                "f644 d/dir/sub/y = Y",
            ],
        ),
        (
            "COPY --parents **/f.txt /d/",
            &[
                "d755 d",
                "d755 d/deep",
                "d755 d/deep/one",
                "f644 d/deep/one/f.txt = F1",
                "d755 d/deep/two",
                "f644 d/deep/two/f.txt = F2",
            ],
        ),
        (
            "RUN write /d/keep K\nCOPY --link a.txt /d/",
            &["d755 d", "f644 d/a.txt = A", "f644 d/keep = K"],
        ),
    ] {
        let dockerfile = format!("FROM scratch\n{instructions}\n");
        let result = bench.builder().build(&bench.request(&dockerfile));
        let result =
            result.unwrap_or_else(|error| panic!("{instructions}: {}", with_causes(&error)));
        let mut tree = bench.tree(&result);
        let mut expected: Vec<String> = expected.iter().map(|&line| line.to_owned()).collect();
        tree.sort();
        expected.sort();
        assert_eq!(tree, expected, "{instructions}");
    }
}

#[test]
fn what_cannot_be_copied_is_refused() {
    let bench = bench();
    let socket = bench.context().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for (instructions, expected) in [
        ("COPY dangling /", "dangling is not in the build context"),
        ("COPY dangl* /", "/dangling is not in the build context"),
        ("COPY out /", "out is not in the build context"),
        ("COPY socket /", "is a socket, which"),
        (
            "COPY dir /d\nCOPY dir/x /d/sub\nCOPY a.txt /d/sub/x\nCOPY other /d/sub/y",
            "not",
        ),
        (
            "RUN link /etc /d/sub\nCOPY dir /d",
            "/d/sub, which is not one",
        ),
        (
            "COPY dir /d\nCOPY deep/one /d\nRUN write /e/f.txt/z z\nCOPY deep/one /e",
            "cannot replace the directory /e/f.txt",
        ),
        (
            "RUN link loop /loop\nCOPY a.txt /loop/",
            "too many symlinks",
        ),
        ("COPY --chmod=99 a.txt /", "invalid chmod parameter"),
    ] {
        let error = bench.fails(&format!("FROM scratch\n{instructions}\n"));
        assert!(error.contains(expected), "{instructions}: {error}");
    }
    // Inside a directory it is left out; a pipe is copied.
    fs::create_dir(bench.context().join("with")).unwrap();
    fs::rename(socket, bench.context().join("with/socket")).unwrap();
    let pipe = bench.context().join("with/pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, pipe, 0o600.into()).unwrap();
    bench.write("with/file", "x");
    let result = bench.build("FROM scratch\nCOPY with /w\n");
    assert_eq!(
        bench.tree(&result),
        ["d755 w", "f644 w/file = x", "p600 w/pipe"]
    );
}

#[test]
fn names_are_looked_up_in_the_target_image() {
    let bench = bench();
    bench
        .write("etc/passwd", "root:x:0:0::/:\napp:x:1000:1001::/:\n")
        .write("etc/group", "root:x:0:\nstaff:x:50:app\n");
    let result = bench.build(
        "FROM scratch\nCOPY etc /etc\nCOPY --chown=app a.txt /1\nCOPY --chown=app:staff a.txt /2\nCOPY --chown=3:staff a.txt /3\nUSER app\nWORKDIR /home\n",
    );
    let tree = bench.tree(&result);
    for line in [
        "f644 1000:1001 1 = A",
        "f644 1000:50 2 = A",
        "f644 3:50 3 = A",
        "d755 1000:1001 home",
    ] {
        assert!(tree.contains(&line.to_owned()), "{line}: {tree:?}");
    }
}

#[test]
fn hard_links_stay_links() {
    let bench = bench();
    fs::hard_link(bench.context().join("dir/x"), bench.context().join("dir/z")).unwrap();
    let result = bench.build("FROM scratch AS a\nCOPY dir /d\nFROM scratch\nCOPY --from=a /d /e\n");
    let layer = &result.config.rootfs.diff_ids[0];
    let entries = wythe_layers::layer::entries(&bench.store(), layer)
        .unwrap()
        .unwrap();
    let links = entries
        .entries()
        .iter()
        .filter(|entry| matches!(entry.kind, wythe_layers::tree::EntryKind::HardLink { .. }));
    assert_eq!(links.count(), 1);
}

/// `path`, kind (`f` text, `d`, `l` target, `h` target), owner.
fn tar(entries: &[(&str, char, &str, u32)]) -> Vec<u8> {
    use wythe_layers::tree::{Entry, EntryKind, EntryPath};
    let mut writer = wythe_layers::tar::TarWriter::new(Vec::new());
    for (path, kind, text, owner) in entries {
        let kind = match kind {
            'd' => EntryKind::Directory,
            'l' => EntryKind::Symlink {
                target: text.as_bytes().to_vec(),
            },
            'h' => EntryKind::HardLink {
                target: EntryPath::parse(text.as_bytes()).unwrap(),
            },
            _ => EntryKind::File {
                size: text.len() as u64,
            },
        };
        let mut entry = Entry::new(EntryPath::parse(path.as_bytes()).unwrap(), kind);
        entry.mode = 0o640;
        entry.uid = *owner;
        entry.gid = *owner;
        writer.append(&entry, &mut text.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

fn compressed(program: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut child = std::process::Command::new(program)
        .arg("-c")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .ok()?;
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    Some(child.wait_with_output().unwrap().stdout)
}

#[test]
fn archives_are_known_by_content_and_unpacked() {
    let bench = bench();
    let plain = tar(&[
        ("bin", 'd', "", 0),
        ("bin/sh", 'f', "shell", 0),
        ("bin/bash", 'h', "bin/sh", 0),
        ("lib", 'l', "usr/lib", 0),
        ("usr", 'd', "", 0),
        ("usr/lib", 'd', "", 0),
        ("lib/libc", 'f', "libc", 7),
    ]);
    let expected = [
        "d755 r",
        "d640 r/bin",
        "f640 r/bin/bash = shell",
        "f640 r/bin/sh = shell",
        "l r/lib -> usr/lib",
        "d640 r/usr",
        "d640 r/usr/lib",
        "f640 7:7 r/usr/lib/libc = libc",
    ];
    for program in ["cat", "gzip", "bzip2", "xz", "zstd"] {
        let Some(bytes) = (if program == "cat" {
            Some(plain.clone())
        } else {
            compressed(program, &plain)
        }) else {
            eprintln!("SKIPPED archives_are_known_by_content_and_unpacked: needs {program}");
            continue;
        };
        // The name says nothing.
        fs::write(bench.context().join("archive"), bytes).unwrap();
        let result = bench.build("FROM scratch\nADD archive /r/\n");
        assert_eq!(bench.tree(&result), expected, "{program}");
        let copied = bench.build("FROM scratch\nCOPY archive /\n");
        assert_eq!(copied.config.rootfs.diff_ids.len(), 1);
    }
    let kept = bench.build("FROM scratch\nADD --unpack=false archive /r/\nADD a.txt /\n");
    assert!(bench.stack(&kept).trees().len() == 2);
    let owned = bench.build("FROM scratch\nADD --chown=9:9 archive /r/\n");
    assert!(
        bench
            .tree(&owned)
            .contains(&"f640 9:9 r/bin/sh = shell".to_owned())
    );
}

#[test]
fn archive_entries_replace_what_is_there_and_never_leave_the_image() {
    let bench = bench();
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("victim"), "untouched").unwrap();
    let target = host.path().to_str().unwrap();
    let links = [
        ("esc", 'l', target, 0),
        ("up", 'l', "../../../../..", 0),
        ("up/top", 'f', "t", 0),
        ("was-dir", 'f', "now a file", 0),
        ("was-link", 'd', "", 0),
    ];
    let leaves = [("esc/victim", 'f', "taken", 0)];
    let dockerfile =
        "FROM scratch\nRUN write /was-dir/in x\nRUN link /etc /was-link\nADD archive /\n";
    // The link leads to nothing in the image, or to a directory of the image's own.
    for made in [&[][..], &[(target, 'd', "", 0)]] {
        let archive = tar(&[made, &links, &leaves].concat());
        fs::write(bench.context().join("archive"), archive).unwrap();
        let outcome = bench.builder().build(&bench.request(dockerfile));
        let host_file = host.path().join("victim");
        assert_eq!(fs::read_to_string(host_file).unwrap(), "untouched");
        let Ok(result) = outcome else {
            let error = with_causes(&outcome.unwrap_err());
            assert!(
                error.contains("leads nowhere") && made.is_empty(),
                "{error}"
            );
            continue;
        };
        let tree = bench.tree(&result);
        let inside = format!("f640 {}/victim = taken", target.trim_start_matches('/'));
        for line in [
            inside.as_str(),
            "f640 top = t",
            "f640 was-dir = now a file",
            "d640 was-link",
        ] {
            assert!(tree.contains(&line.to_owned()), "{line}: {tree:?}");
        }
    }
    let bad = tar(&[("x", 'f', "x", 0), ("l", 'h', "etc/shadow", 0)]);
    fs::write(bench.context().join("archive"), bad).unwrap();
    let error = bench.fails("FROM scratch\nADD archive /\n");
    assert!(error.contains("hard link"), "{error}");
    let mut torn = tar(&[("x", 'f', &"x".repeat(5000), 0)]);
    torn.truncate(2000);
    fs::write(bench.context().join("archive"), torn).unwrap();
    let error = bench.fails("FROM scratch\nADD archive /\n");
    assert!(error.contains("cannot unpack archive"), "{error}");
}

#[test]
fn a_file_that_only_looks_compressed_is_copied() {
    let bench = bench();
    let Some(bytes) = compressed("gzip", b"not a tar at all") else {
        eprintln!("SKIPPED a_file_that_only_looks_compressed_is_copied: needs gzip");
        return;
    };
    fs::write(bench.context().join("log.gz"), &bytes).unwrap();
    fs::write(
        bench.context().join("cut.xz"),
        b"\xfd7zXZ\0rubbish that goes on and on",
    )
    .unwrap();
    let result = bench.build("FROM scratch\nADD log.gz cut.xz a.txt /d/\n");
    let names: Vec<_> = bench.names(&result);
    assert_eq!(names, ["d", "d/a.txt", "d/cut.xz", "d/log.gz"]);
}

mod remote {
    use super::*;
    use crate::{BoxError, RemoteAnswer, RemoteFile, RemoteRequest, RemoteSource};
    use std::sync::Arc;

    struct Web;

    impl RemoteSource for Web {
        fn open_http(&self, wanted: &RemoteRequest<'_>) -> Result<RemoteAnswer, BoxError> {
            if wanted.url.contains("gone") {
                return Err("404".into());
            }
            if wanted.etag == Some("\"one\"") {
                return Ok(RemoteAnswer::Unchanged);
            }
            Ok(RemoteAnswer::File(RemoteFile {
                name: None,
                etag: Some("\"one\"".to_owned()),
                last_modified: None,
                modified: None,
                body: Box::new(std::io::Cursor::new(b"remote".to_vec())),
            }))
        }
    }

    #[test]
    fn remote_files_are_verified_and_get_mode_0600() {
        let bench = bench();
        let builder = || bench.builder().with_remote(Arc::new(Web));
        let build =
            |text: &str| builder().build(&bench.request(&format!("FROM scratch\n{text}\n")));
        let result = build("ADD https://x.example/d/file?q /in/").unwrap();
        assert_eq!(bench.tree(&result), ["d755 in", "f600 in/file = remote"]);
        // Known by its etag, and still there for a step that was never done.
        let result = build("ADD https://x.example/d/file?q /in/").unwrap();
        assert_eq!(bench.tree(&result), ["d755 in", "f600 in/file = remote"]);
        let result = build("ADD https://x.example/d/file?q /other").unwrap();
        assert_eq!(bench.tree(&result), ["f600 other = remote"]);
        let sum = wythe_layers::spec::Digest::of(b"remote");
        let good = format!("ADD --checksum={sum} https://x.example/f /g");
        assert_eq!(bench.tree(&build(&good).unwrap()), ["f600 g = remote"]);
        // With a checksum the next build need not ask.
        let request = bench.request(&format!("FROM scratch\n{good}\n"));
        assert!(bench.builder().probe(&request).unwrap().is_some());
        let other = wythe_layers::spec::Digest::of(b"other");
        let bad = build(&format!("ADD --checksum={other} https://x.example/f /g")).unwrap_err();
        assert!(
            with_causes(&bad).contains("has the digest"),
            "{}",
            with_causes(&bad)
        );
        let gone = build("ADD https://x.example/gone /g").unwrap_err();
        assert!(with_causes(&gone).contains("404"), "{}", with_causes(&gone));
    }
}
