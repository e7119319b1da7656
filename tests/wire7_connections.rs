//! Wire section 7: how long a connection lives, pipelines, and heads of every shape that must be read.

use std::net::{SocketAddr, TcpStream};
use std::process;
use std::sync::OnceLock;
use std::thread;

use crate::cases::{case, check, get, get_with, request, status, with_host};
use crate::harness::{Conn, OLD_DATE, Server, Site, wait_until};
use crate::wire8_answers::assert_plain_error;

fn server() -> &'static Server {
    static SHARED: OnceLock<(Site, Server)> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let site = Site::new();
        site.file("a.txt", "0123456789")
            .file("dir/index.html", "<p>")
            .file("big.txt", "0123456789abcde\n".repeat(64 * 1024));
        let server = Server::start(&site);
        (site, server)
    });
    &shared.1
}

/// A GET in another version, with exactly these fields.
fn versioned(version: &str, fields: &[&str]) -> Vec<u8> {
    let mut fields = fields.join("\r\n");
    if !fields.is_empty() {
        fields.push_str("\r\n");
    }
    format!("GET /a.txt {version}\r\n{fields}\r\n").into_bytes()
}

#[test]
fn http_1_1_persists_unless_told_to_close() {
    let said = |fields: &[&str], expect| case(fields.join(", "), get_with("/a.txt", fields), expect);
    let stays = || status(200).body("0123456789");
    let closes = || stays().closes();
    check(
        server(),
        [
            said(&[], stays()),
            said(&["Connection: keep-alive"], stays()),
            said(&["Connection: upgrade"], stays()),
            said(&["Connection: x-close"], stays()),
            said(&["Connection: "], stays()),
            said(&["Connection: close"], closes()),
            said(&["connection: CLOSE"], closes()),
            said(&["Connection: foo, close"], closes()),
            said(&["Connection: close ,foo"], closes()),
            said(&["Connection: keep-alive, close"], closes()),
            said(&["Connection: keep-alive", "Connection: close"], closes()),
        ],
    );
}

#[test]
fn close_is_for_every_answer() {
    let since = format!("If-Modified-Since: {OLD_DATE}");
    let close = |name: &str, method: &str, target: &str, field: &str, code| {
        let request = with_host(method, target, &[field, "Connection: close"], "");
        case(name, request, status(code).closes())
    };
    check(
        server(),
        [
            close("HEAD", "HEAD", "/a.txt", "X: y", 200),
            close("OPTIONS", "OPTIONS", "/a.txt", "X: y", 204),
            close("206", "GET", "/a.txt", "Range: bytes=0-0", 206),
            close("301", "GET", "/dir", "X: y", 301),
            close("304", "GET", "/a.txt", &since, 304),
            close("404", "GET", "/none", "X: y", 404),
            close("405", "POST", "/a.txt", "X: y", 405),
            close("412", "GET", "/a.txt", "If-Match: \"no\"", 412),
            close("416", "GET", "/a.txt", "Range: bytes=50-", 416),
        ],
    );
}

#[test]
fn errors_that_are_not_of_framing_persist() {
    let stays = |name: &str, method: &str, target: &str, field: &str, code| {
        case(name, with_host(method, target, &[field], ""), status(code))
    };
    check(
        server(),
        [
            stays("301", "GET", "/dir", "X: y", 301),
            stays("404", "GET", "/none", "X: y", 404),
            stays("405", "POST", "/a.txt", "X: y", 405),
            stays("412", "GET", "/a.txt", "If-Match: \"no\"", 412),
            stays("416", "GET", "/a.txt", "Range: bytes=50-", 416),
        ],
    );
}

#[test]
fn http_1_0_persists_only_when_asked() {
    let closes = || status(200).body("0123456789").closes();
    let kept = || status(200).with("Connection", "keep-alive");
    let row = |name: &str, fields: &[&str], expect| case(name, versioned("HTTP/1.0", fields), expect);
    check(
        server(),
        [
            row("bare", &[], closes()),
            row("with Host", &["Host: h"], closes()),
            row("keep-alive", &["Connection: keep-alive"], kept()),
            row("in any case", &["Connection: Keep-Alive"], kept()),
            row("in a list", &["Connection: foo, keep-alive"], kept()),
            row("close", &["Connection: close"], closes()),
        ],
    );
    let mut conn = server().connect();
    for _ in 0..5 {
        conn.send(versioned("HTTP/1.0", &["Connection: keep-alive"]));
        assert_eq!(conn.recv().get("connection"), Some("keep-alive"));
    }
    conn.send(versioned("HTTP/1.0", &[]));
    assert_eq!(conn.recv().status, 200);
    conn.assert_closed();
}

#[test]
fn versions_from_1_2_to_1_9_count_as_1_1() {
    for minor in 2..=9 {
        let version = format!("HTTP/1.{minor}");
        let bad = versioned(&version, &[]);
        let close = versioned(&version, &["Host: h", "Connection: close"]);
        check(
            server(),
            [
                case(version.clone(), versioned(&version, &["Host: h"]), status(200)),
                case(format!("{version}, close"), close, status(200).closes()),
                case(format!("{version} without Host"), bad, status(400)),
            ],
        );
    }
}

#[test]
fn requests_are_not_counted() {
    let mut conn = server().connect();
    for _ in 0..50 {
        conn.send(get("/a.txt").repeat(100));
        for _ in 0..100 {
            assert_eq!(conn.recv().text(), "0123456789");
        }
    }
    conn.assert_open();
}

#[test]
fn pipeline_is_answered_in_order() {
    let mut conn = server().connect();
    let pipeline = [
        get("/a.txt"),
        with_host("HEAD", "/a.txt", &[], ""),
        get("/none"),
        with_host("POST", "/a.txt", &["Content-Length: 3"], "abc"),
        with_host("OPTIONS", "*", &[], ""),
        get_with("/a.txt", &["Range: bytes=3-4"]),
        get("/dir"),
        with_host("PUT", "/a.txt", &["Transfer-Encoding: chunked"], "1\r\nx\r\n0\r\n\r\n"),
        get_with("/a.txt", &[&format!("If-Modified-Since: {OLD_DATE}")]),
        get("/dir/"),
    ];
    conn.send(pipeline.concat());
    assert_eq!(conn.recv().text(), "0123456789");
    assert_eq!(conn.recv_head().status, 200);
    for code in [404, 405, 204] {
        assert_eq!(conn.recv().status, code);
    }
    assert_eq!(conn.recv().text(), "34");
    for code in [301, 405, 304] {
        assert_eq!(conn.recv().status, code);
    }
    assert_eq!(conn.recv().text(), "<p>");
    conn.assert_open();
}

#[test]
fn pipeline_of_big_answers_comes_whole() {
    let body = "0123456789abcde\n".repeat(64 * 1024);
    let mut conn = server().connect();
    conn.send([get("/big.txt"), get("/a.txt")].concat().repeat(10));
    for _ in 0..10 {
        assert!(conn.recv().text() == body);
        assert_eq!(conn.recv().text(), "0123456789");
    }
    conn.assert_open();
}

#[test]
fn pipeline_ends_where_a_request_says_close() {
    let last = get_with("/a.txt", &["Connection: close"]);
    let mut conn = server().connect();
    conn.send([get("/dir/"), last, get("/a.txt"), get("/a.txt")].concat());
    assert_eq!(conn.recv().text(), "<p>");
    assert_eq!(conn.recv().get("connection"), Some("close"));
    conn.assert_closed();
}

#[test]
fn client_that_closes_its_sending_half_gets_its_answers() {
    let one = get("/a.txt");
    let many = [get("/big.txt"), get("/a.txt")].concat().repeat(4);
    for (requests, count) in [(one, 1), (many, 8)] {
        let mut conn = server().connect();
        conn.send(&requests);
        conn.shut_write();
        for _ in 0..count {
            assert_eq!(conn.recv().status, 200);
        }
        conn.assert_closed();
    }
    let mut conn = server().connect();
    conn.assert_open();
    conn.shut_write();
    conn.assert_closed();
    let mut conn = server().connect();
    conn.send([get("/a.txt"), b"GET /a.txt HTT".to_vec()].concat());
    conn.shut_write();
    assert_eq!(conn.recv().status, 200);
    conn.rest();
}

/// A request that ends in a field that matters, after so many fields of so much junk.
fn after_junk(count: usize, each: usize) -> Vec<u8> {
    let junk: Vec<String> = (0..count).map(|n| format!("X-Junk-{n}: {}", "j".repeat(each))).collect();
    let mut fields: Vec<&str> = junk.iter().map(String::as_str).collect();
    let since = format!("If-Modified-Since: {OLD_DATE}");
    fields.extend(["Host: h", &since]);
    request("GET", "/a.txt", &fields, "")
}

#[test]
fn head_is_read_whatever_stands_before_the_fields_that_matter() {
    let row = |count, each| case(format!("{count} of {each}"), after_junk(count, each), status(304));
    check(server(), [row(0, 0), row(1, 2000), row(1, 16_000), row(10, 1400), row(98, 0), row(98, 150)]);
}

#[test]
fn head_is_read_however_many_packets_it_takes() {
    let request = after_junk(2, 2000);
    let mut conn = server().connect();
    let cuts: Vec<usize> = (1..request.len()).step_by(41).collect();
    conn.send_cut(&request, &cuts);
    assert_eq!(conn.recv().status, 304);
    let request = get("/a.txt");
    let cuts: Vec<usize> = (1..request.len()).collect();
    conn.send_cut(&request, &cuts);
    assert_eq!(conn.recv().text(), "0123456789");
    conn.assert_open();
}

#[test]
fn empty_lines_before_a_request_line_are_skipped() {
    let after = |lines: usize| [b"\r\n".repeat(lines), get("/a.txt")].concat();
    let row = |lines| case(format!("{lines} lines"), after(lines), status(200).body("0123456789"));
    check(server(), [row(1), row(2), row(20)]);
    let mut conn = server().connect();
    conn.send([after(0), after(1), after(3)].concat());
    for _ in 0..3 {
        assert_eq!(conn.recv().status, 200);
    }
    let post = with_host("POST", "/a.txt", &["Content-Length: 3"], "abc\r\n");
    conn.send([post, get("/a.txt")].concat());
    assert_eq!(conn.recv().status, 405);
    assert_eq!(conn.recv().status, 200);
}

#[test]
fn fields_may_be_odd_but_sound() {
    let row = |field: &[u8]| {
        let request = request("GET", "/a.txt", &[b"Host: h", field], "");
        case(field.escape_ascii().to_string(), request, status(200))
    };
    check(
        server(),
        [
            row(b"X:y"),
            row(b"X:"),
            row(b"X:   "),
            row(b"X:\ty\t"),
            row(b"X: a\tb"),
            row(b"X: a : b"),
            row(b"X: caf\xc3\xa9"),
            row(b"X: \x80\xff"),
            row(b"!#$%&'*+-.^_`|~: x"),
            row(b"cookie: a=b; c"),
            row(b"Content-Length: 0"),
            row(b"CONTENT-LENGTH:0"),
        ],
    );
    let tight = request("GET", "/a.txt", &["hOST:h"], "");
    check(server(), [case("Host in any case", tight, status(200))]);
}

/// One worker, so that the budget is one pool.
fn small_server(site: &Site) -> Server {
    Server::builder(site).workers(1).flag("--max-connections", 4).start()
}

#[test]
fn over_the_budget_is_503() {
    let site = Site::new();
    let server = small_server(&site);
    let mut held: Vec<Conn> = (0..4).map(|_| server.connect()).collect();
    for conn in &mut held {
        conn.assert_open();
    }
    for _ in 0..3 {
        let mut over = server.connect();
        over.send(get("/alive.txt"));
        let answer = over.recv();
        assert_eq!(answer.status, 503);
        assert_eq!(answer.get("retry-after"), Some("1"), "{answer}");
        assert_eq!(answer.get("connection"), Some("close"), "{answer}");
        assert_plain_error(&answer);
        over.assert_closed();
    }
    for conn in &mut held {
        conn.assert_open();
    }
    drop(held);
    wait_until("there is room again", || {
        let mut conn = server.connect();
        conn.send(get("/alive.txt"));
        conn.try_recv(false).is_ok_and(|answer| answer.status == 200)
    });
}

#[test]
fn nothing_is_accepted_before_the_first_load_is_complete() {
    let site = Site::new();
    for n in 0..2000 {
        site.file(&format!("many/{n}.js"), format!("var n = {n};\n").repeat(100));
    }
    site.file("zzz.txt", "last");
    // A loopback address of our own, so that the port can be known before.
    let [_, _, high, low] = process::id().to_be_bytes();
    let addr = SocketAddr::from(([127, 77, high, low], 18_080));
    let early = thread::spawn(move || {
        let mut stream = None;
        wait_until("the server accepts", || {
            stream = TcpStream::connect(addr).ok();
            stream.is_some()
        });
        drop(stream);
        let mut conn = Conn::to(addr);
        conn.send([get("/zzz.txt"), get("/many/1999.js")].concat());
        (conn.recv().status, conn.recv().status)
    });
    let server = Server::builder(&site).listen(addr).start();
    assert_eq!(server.addr, addr);
    assert_eq!(early.join().unwrap(), (200, 200));
}
