//! The content of a file that is held compressed: whole, in parts, small and large, for many at once.

use std::thread;

use crate::harness::{Rng, Server, Site, wait_until};

/// Text that compresses well, and no two parts of it are alike.
fn text(len: usize) -> String {
    let mut text = String::with_capacity(len + 32);
    while text.len() < len {
        text.push_str(&format!("line {} of a long text\n", text.len()));
    }
    text.truncate(len);
    text
}

#[test]
fn the_content_comes_whole_and_in_parts() {
    let site = Site::new();
    let sizes = [300, 60_000, 70_000, 3_000_000];
    for size in sizes {
        site.file(&format!("{size}.txt"), text(size));
    }
    let server = Server::start(&site);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut rng = Rng::seeded();
                let mut conn = server.connect();
                for _ in 0..20 {
                    let size = sizes[rng.below(sizes.len())];
                    let (first, len) = (rng.below(size), 1 + rng.below(100_000));
                    let last = (first + len).min(size) - 1;
                    // Two at once: the second waits behind the content of the first.
                    conn.send(format!(
                        "GET /{size}.txt HTTP/1.1\r\nHost: h\r\n\r\n\
                         GET /{size}.txt HTTP/1.1\r\nHost: h\r\nRange: bytes={first}-{last}\r\n\r\n"
                    ));
                    let whole = conn.recv();
                    assert_eq!((whole.status, whole.text() == text(size)), (200, true), "{size}");
                    let part = conn.recv();
                    assert_eq!((part.status, part.text() == text(size)[first..=last]), (206, true), "{size} {first}");
                }
            });
        }
    });
}

#[test]
fn the_content_follows_the_file() {
    let site = Site::new();
    let server = Server::start(&site);
    for size in [200_000, 500_000, 90_000, 10] {
        site.file("a.txt", text(size));
        wait_until("the new content", || server.get("/a.txt", &[]).text() == text(size));
        assert_eq!(server.get("/a.txt", &["Range: bytes=-5"]).text(), text(size)[size - 5..]);
    }
}

/// A request whose body has come is answered at once, for its body is not kept.
#[test]
fn a_request_with_a_body_gets_the_content() {
    let site = Site::new();
    site.file("a.txt", text(400_000));
    let server = Server::start(&site);
    let mut conn = server.connect();
    conn.send(
        "GET /a.txt HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nabcdeGET /alive.txt HTTP/1.1\r\nHost: h\r\n\r\n",
    );
    assert_eq!(conn.recv().text(), text(400_000));
    assert_eq!(conn.recv().text(), "alive\n");
}
