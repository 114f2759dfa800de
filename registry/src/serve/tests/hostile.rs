//! Clients that lie, stall and flood. Each test ends by asking whether the others are still served.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// For the limit that a test is about; all others stay so long that none of them can be meant.
const SOON: Duration = Duration::from_millis(300);

#[test]
fn names_that_leave_the_store_are_refused_and_nothing_is_touched() {
    let server = TestServer::start();
    let outside = server.store.root().parent().unwrap().join("outside");
    std::fs::write(&outside, "secret").unwrap();
    for path in [
        "/v2/../../outside",
        "/v2/a/blobs/../../../outside",
        "/v2/a/blobs/sha256:..%2f..%2f..%2foutside",
        "/v2/%2e%2e/%2e%2e/manifests/outside",
        "/v2/a/blobs/uploads/..%2f..%2foutside",
        "/v2/a/blobs/uploads/..",
        "/v2/a/manifests/..%2foutside",
        "//v2/a/tags/list",
        "/v2/a/tags/list%00",
    ] {
        for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH"] {
            let answer = server.send(method, path, &[], b"x");
            assert!(
                (400..500).contains(&answer.status),
                "{method} {path}: {answer:?}"
            );
            assert!(!String::from_utf8_lossy(&answer.body).contains("secret"));
        }
    }
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "secret");
    assert!(server.store.blobs().list().unwrap().is_empty());
    assert_eq!(server.leftovers(), 0);
}

#[test]
fn on_loopback_other_host_names_are_refused() {
    let server = TestServer::with(ServeOptions {
        allowed_hosts: vec!["registry.test".to_owned()],
        ..ServeOptions::default()
    });
    let ask = |host: &str| server.send("GET", "/v2/", &[("Host", host)], b"").status;
    for host in [
        "localhost:5000",
        "LOCALHOST",
        "127.0.0.1",
        "[::1]:5000",
        "a.localhost",
        "registry.test:80",
    ] {
        assert_eq!(ask(host), 200, "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:5000",
        "localhost.evil.example",
        "",
    ] {
        assert_eq!(ask(host), 421, "{host}");
    }
}

#[test]
fn huge_heads_are_refused() {
    let server = TestServer::start();
    let long = "x".repeat(200_000);
    for head in [
        format!("GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX-Long: {long}\r\n\r\n"),
        format!("GET /v2/{long}/tags/list HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ] {
        let mut stream = server.connect();
        // The server closes without reading on, so the answer itself may be lost.
        let _ = stream.write_all(head.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    }
    assert_eq!(server.request("GET", "/v2/").status, 200);
}

#[test]
fn a_head_that_never_ends_is_cut_off() {
    let server = TestServer::with(ServeOptions {
        header_timeout: SOON,
        ..ServeOptions::default()
    });
    let mut stream = server.connect();
    stream
        .write_all(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX: ")
        .unwrap();
    // An end, not the end of this client's own patience.
    let ended = stream.read_to_end(&mut Vec::new());
    let is_cut = ended
        .as_ref()
        .map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |_| true);
    assert!(is_cut, "{ended:?}");
}

#[test]
fn an_upload_that_stalls_is_ended_and_can_be_taken_up() {
    let server = TestServer::with(ServeOptions {
        body_idle_timeout: SOON,
        ..ServeOptions::default()
    });
    let path = server.begin("a");
    let mut stream = server.connect();
    let head = format!(
        "PATCH {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 10\r\n\r\n01234"
    );
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(Answer::read(&mut stream).status, 408);
    assert_eq!(server.request("GET", &path).header("range"), "0-4");
    let rest = server.send("PATCH", &path, &[("Content-Range", "5-9")], b"56789");
    assert_eq!(rest.header("range"), "0-9");
}

#[test]
fn an_upload_whose_client_left_can_be_taken_up() {
    let server = TestServer::start();
    let path = server.begin("a");
    drop(server.hang(&path));
    eventually("the upload is free", || {
        server.request("GET", &path).status != 409
    });
    assert_eq!(server.request("GET", &path).header("range"), "0-4");
}

/// Sets its flag when dropped: also when a test fails, so that its threads end.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn to_ask_how_far_an_upload_is_turns_no_writer_away() {
    let server = TestServer::start();
    let path = server.begin("a");
    let written = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let end = SetOnDrop(&written);
        for _ in 0..2 {
            scope.spawn(|| {
                while !written.load(Ordering::Relaxed) {
                    let status = server.request("GET", &path).status;
                    assert!([204, 409].contains(&status), "{status}");
                }
            });
        }
        let statuses: Vec<u16> = (0..300)
            .map(|_| server.send("PATCH", &path, &[], b"0").status)
            .collect();
        drop(end);
        assert_eq!(statuses, [202; 300]);
    });
    assert_eq!(server.request("GET", &path).header("range"), "0-299");
}

#[test]
fn blobs_over_the_limit_are_refused() {
    let server = TestServer::with(ServeOptions {
        max_blob_bytes: 1000,
        ..ServeOptions::default()
    });
    let path = server.begin("a");
    let answer = server.send("PATCH", &path, &[], &[0; 3000]);
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (413, "SIZE_INVALID")
    );
    assert_eq!(server.send("PATCH", &path, &[], &[0; 1000]).status, 202);
    let answer = server.send("PATCH", &path, &[], &[0; 1]);
    assert_eq!(answer.status, 413);
}

#[test]
fn uploads_are_bounded_in_number() {
    let server = TestServer::start();
    let mut refused = None;
    for _ in 0..300 {
        let answer = server.request("POST", "/v2/a/blobs/uploads/");
        if answer.status != 202 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.unwrap();
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (429, "TOOMANYREQUESTS")
    );
    assert_eq!(server.request("GET", "/v2/").status, 200);
}

/// Asks for a large blob and reads nothing; what answers has begun to.
fn slow_reader(server: &TestServer, content: &[u8]) -> TcpStream {
    let digest = Digest::of(content);
    let get = format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut stream = server.connect();
    stream.write_all(get.as_bytes()).unwrap();
    assert_eq!(stream.peek(&mut [0]).unwrap(), 1);
    stream
}

#[test]
fn slow_readers_hold_nobody_up() {
    let server = TestServer::with(ServeOptions {
        disk_threads: 2,
        write_stall_timeout: 10 * PATIENCE,
        ..ServeOptions::default()
    });
    let content = vec![3; 32 << 20];
    server.store.blobs().put(&content).unwrap();
    // More of them than there are threads for the disk; each takes what the kernel buffers.
    let slow: Vec<_> = (0..8).map(|_| slow_reader(&server, &content)).collect();
    let path = format!("/v2/a/blobs/{}", Digest::of(&content));
    assert_eq!(server.request("HEAD", &path).status, 200);
    assert_eq!(server.request("GET", &path).body.len(), content.len());
    drop(slow);
}

#[test]
fn slow_readers_are_cut_off() {
    let server = TestServer::with(ServeOptions {
        max_connections: 1,
        write_stall_timeout: SOON,
        ..ServeOptions::default()
    });
    let content = vec![3; 32 << 20];
    server.store.blobs().put(&content).unwrap();
    let mut slow = slow_reader(&server, &content);
    // The next one's turn comes when the slow one is gone.
    assert_eq!(server.request("GET", "/v2/").status, 200);
    let mut all = Vec::new();
    let _ = slow.read_to_end(&mut all);
    assert!(all.len() < content.len(), "cut off");
}

#[test]
fn connections_over_the_limit_wait_their_turn() {
    let server = TestServer::with(ServeOptions {
        max_connections: 4,
        header_timeout: SOON,
        ..ServeOptions::default()
    });
    let idle: Vec<_> = (0..8).map(|_| server.connect()).collect();
    // Idle ones are cut off, so the ninth gets its turn.
    assert_eq!(server.request("GET", "/v2/").status, 200);
    drop(idle);
}

#[test]
fn a_shutdown_lets_requests_finish() {
    // On an address that no other test takes a port of, once the port is free again.
    let mut server = TestServer::at(
        "127.0.0.2:0",
        ServeOptions {
            grace: 10 * PATIENCE,
            ..ServeOptions::default()
        },
    );
    let path = server.begin("a");
    let idle = server.connect();
    let mut finishing = server.hang(&path);
    server.shutdown.trigger();
    eventually("nobody listens any more", || {
        TcpStream::connect(server.address).is_err()
    });
    finishing.write_all(b"56789").unwrap();
    assert_eq!(Answer::read(&mut finishing).status, 202);
    server.stop();
    assert_eq!(server.leftovers(), 0);
    drop(idle);
}

#[test]
fn a_shutdown_does_not_wait_for_ever() {
    let mut server = TestServer::with(ServeOptions {
        grace: SOON,
        body_idle_timeout: 10 * PATIENCE,
        ..ServeOptions::default()
    });
    let path = server.begin("a");
    let hanging = server.hang(&path);
    server.shutdown.trigger();
    let thread = server.thread.as_ref().unwrap();
    eventually("the server has ended", || thread.is_finished());
    server.stop();
    assert_eq!(server.leftovers(), 0);
    drop(hanging);
}

#[test]
fn one_blob_from_many_clients_at_once() {
    let server = TestServer::start();
    let content = vec![9; 400_000];
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| server.upload("a", &content));
        }
    });
    assert_eq!(server.store.blobs().list().unwrap().len(), 1);
    assert_eq!(server.leftovers(), 0);
}
