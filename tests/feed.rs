//! The feed from outside: what editors and publishers do to the data directory, and what is then served.

use std::{
    io::Write,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use flate2::{Compression, write::GzEncoder};

use crate::harness::{Server, Site, at, wait_until};

pub(crate) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn shows(server: &Server, path: &str, text: &str) -> bool {
    let answer = server.get(path, &[]);
    answer.status == 200 && answer.text() == text
}

pub(crate) fn wait_for(server: &Server, path: &str, text: &str) {
    wait_until(&format!("{path} to be {text:?}"), || shows(server, path, text));
}

pub(crate) fn wait_for_404(server: &Server, path: &str) {
    wait_until(&format!("{path} to be gone"), || server.get(path, &[]).status == 404);
}

/// A site with enough files that one that goes is not more than half of them.
fn site() -> Site {
    let site = Site::new();
    for name in ["a.txt", "b.txt", "c.txt", "dir/d.txt", "dir/e.txt"] {
        site.file(name, name);
    }
    site
}

#[test]
fn files_are_created_rewritten_replaced_and_deleted() {
    let site = site();
    let server = Server::start(&site);
    site.file("new.txt", "new");
    wait_for(&server, "/new.txt", "new");
    site.file("a.txt", "rewritten in place");
    wait_for(&server, "/a.txt", "rewritten in place");
    site.replace("a.txt", "renamed over", at(1_000_000_000));
    wait_for(&server, "/a.txt", "renamed over");
    site.remove("a.txt");
    wait_for_404(&server, "/a.txt");
    site.file("a.txt", "again");
    wait_for(&server, "/a.txt", "again");
    assert!(shows(&server, "/b.txt", "b.txt"));
}

#[test]
fn directories_are_made_moved_and_removed() {
    let site = site();
    let server = Server::start(&site);
    for round in 0..5 {
        site.file(&format!("made{round}/deep/er/f.txt"), "f");
    }
    for round in 0..5 {
        wait_for(&server, &format!("/made{round}/deep/er/f.txt"), "f");
    }
    std::fs::rename(site.data().join("made0"), site.data().join("moved")).unwrap();
    wait_for(&server, "/moved/deep/er/f.txt", "f");
    wait_for_404(&server, "/made0/deep/er/f.txt");
    std::fs::remove_dir_all(site.data().join("made1")).unwrap();
    wait_for_404(&server, "/made1/deep/er/f.txt");
    std::fs::remove_file(site.data().join("b.txt")).unwrap();
    site.file("b.txt/index.html", "a directory now");
    wait_until("a directory in a file's place", || server.get("/b.txt", &[]).status == 301);
}

#[test]
fn sidecars_come_before_or_after_their_file() {
    let site = site();
    let server = Server::start(&site);
    let deflated = |path: &str| {
        let answer = server.get(path, &["Accept-Encoding: gzip"]);
        (answer.get("content-encoding") == Some("gzip")).then(|| answer.raw_deflate().to_vec())
    };
    let content = "the same line again and again\n".repeat(50);
    // Stored blocks: nobody would compress so, so it is told from the server's own.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content.as_bytes()).unwrap();
    let fast = encoder.finish().unwrap();
    let body_of = |gzip: &[u8]| gzip[10..gzip.len() - 8].to_vec();

    site.file("before.txt.mz", &fast);
    wait_for(&server, "/before.txt", &content);
    assert_eq!(server.get("/before.txt.mz", &[]).status, 404);
    site.file("before.txt", &content);
    wait_until("the sidecar beside its file", || deflated("/before.txt") == Some(body_of(&fast)));

    site.file("after.txt", &content);
    wait_for(&server, "/after.txt", &content);
    site.file("after.txt.gz", &fast);
    wait_until("the sidecar after its file", || deflated("/after.txt") == Some(body_of(&fast)));
    assert_eq!(server.get("/after.txt.gz", &[]).status, 404, "a sidecar is hidden");
    site.remove("after.txt");
    wait_for_404(&server, "/after.txt");
    wait_until("an archive of its own", || server.get("/after.txt.gz", &[]).status == 200);
}

#[test]
fn a_stale_mz_is_ignored_and_does_not_come_back() {
    let site = site();
    site.file("x.txt", "new content").file("x.txt.mz", gzip(b"old content"));
    let server = Server::start(&site);
    assert!(shows(&server, "/x.txt", "new content"));
    site.remove("x.txt");
    wait_for_404(&server, "/x.txt");
    site.file("x.txt.mz", gzip(b"newest content"));
    wait_for(&server, "/x.txt", "newest content");
    assert!(server.stderr().contains("x.txt.mz"), "it is told of");
}

#[test]
fn what_cannot_be_believed_keeps_its_last_version() {
    let site = site();
    site.file("m.txt.mz", gzip(b"good"));
    let server = Server::start(&site);
    let whole = gzip("longer ".repeat(100).as_bytes());
    for bad in [&whole[..whole.len() - 5], &[&whole[..], b"junk"].concat(), b"junk", &whole[10..whole.len() - 8]] {
        let told = || server.stderr().matches("m.txt.mz").count();
        let before = told();
        site.replace("m.txt.mz", bad, at(1_500_000_000));
        wait_until("the refusal to be told", || told() > before);
        assert!(shows(&server, "/m.txt", "good"));
    }
    site.replace("m.txt.mz", gzip(b"better"), at(1_500_000_000));
    wait_for(&server, "/m.txt", "better");
}

#[test]
fn the_directory_itself_may_vanish_and_come_back() {
    let site = site();
    let server = Server::start(&site);
    let aside = site.outside().join("aside");
    std::fs::rename(site.data(), &aside).unwrap();
    wait_until("the loss to be told", || server.stderr().contains("last content is still served"));
    assert!(shows(&server, "/a.txt", "a.txt"));
    std::fs::rename(&aside, site.data()).unwrap();
    site.file("a.txt", "back");
    wait_for(&server, "/a.txt", "back");
}

#[test]
fn links_are_followed_inside_and_refused_outside() {
    let site = site();
    std::fs::write(site.outside().join("secret.txt"), "secret").unwrap();
    site.file("..one/v.txt", "one").file("..two/v.txt", "two").file(".hidden/h.txt", "h");
    site.link("..data", "..one").link("v.txt", "..data/v.txt").link("out.txt", site.outside().join("secret.txt"));
    site.link("loop", ".").link("self", "self").link("dangling", "nowhere");
    let server = Server::start(&site);
    assert!(shows(&server, "/v.txt", "one"));
    for path in ["/out.txt", "/self", "/dangling", "/.hidden/h.txt", "/..one/v.txt"] {
        assert_ne!(server.get(path, &[]).status, 200, "{path}");
    }
    // As Kubernetes publishes: the link to the directory is swapped.
    site.link("..data_tmp", "..two");
    std::fs::rename(site.data().join("..data_tmp"), site.data().join("..data")).unwrap();
    wait_for(&server, "/v.txt", "two");
}

#[test]
fn odd_files_are_skipped_and_the_rest_is_served() {
    let site = site();
    let made = Command::new("mkfifo").arg(site.data().join("pipe.txt")).status().unwrap();
    assert!(made.success());
    let _socket = std::os::unix::net::UnixListener::bind(site.data().join("socket.txt")).unwrap();
    use std::os::unix::ffi::OsStrExt;
    std::fs::write(site.data().join(std::ffi::OsStr::from_bytes(b"bad\xff.txt")), "x").unwrap();
    std::fs::File::create(site.data().join("large.bin")).unwrap().set_len(65 << 20).unwrap();
    let server = Server::start(&site);
    assert!(shows(&server, "/a.txt", "a.txt"));
    for path in ["/pipe.txt", "/socket.txt", "/bad%FF.txt", "/large.bin"] {
        assert_eq!(server.get(path, &[]).status, 404, "{path}");
    }
    assert!(server.stderr().contains("large.bin") && server.stderr().contains("bad"));
}

/// Files are replaced, and rewritten in place, while 50 connections read them: what is read is always one version, whole.
#[test]
fn no_answer_is_torn() {
    let version = |number: usize| {
        let line = format!("version {number:06}\n");
        line.repeat(400 + number % 7 * 300)
    };
    let is_whole = |text: &str| {
        let number: usize = text.get(8..14).and_then(|digits| digits.parse().ok()).expect("a version");
        text == version(number)
    };
    let site = site();
    site.file("renamed.txt", version(0)).file("rewritten.txt", version(0));
    let server = Server::start(&site);
    let stop = Arc::new(AtomicBool::new(false));
    thread::scope(|scope| {
        for reader in 0..50 {
            let (server, stop) = (&server, stop.clone());
            scope.spawn(move || {
                let path = ["/renamed.txt", "/rewritten.txt"][reader % 2];
                let coding = ["gzip", "deflate", "identity"][reader % 3];
                let mut conn = server.connect();
                while !stop.load(Ordering::Relaxed) {
                    conn.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\nAccept-Encoding: {coding}\r\n\r\n"));
                    let answer = conn.recv();
                    assert_eq!(answer.status, 200);
                    let text = String::from_utf8(answer.decoded()).unwrap();
                    assert!(is_whole(&text), "{path} in {coding}: torn");
                }
            });
        }
        for number in 1..300 {
            site.replace("renamed.txt", version(number), std::time::SystemTime::now());
            site.file("rewritten.txt", version(number));
        }
        wait_for(&server, "/renamed.txt", &version(299));
        wait_for(&server, "/rewritten.txt", &version(299));
        stop.store(true, Ordering::Relaxed);
    });
}
