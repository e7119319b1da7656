//! Wire section 7, through real sockets: wherever packets are cut and however requests are queued, the
//! answers are the same. A sample; the exhaustive form drives the exchange without sockets.

use std::sync::OnceLock;

use crate::cases::{Case, case, get, get_with, show, status, with_host};
use crate::conn::Conn;
use crate::harness::{OLD_DATE, Rng, Server, Site};

fn server() -> &'static Server {
    static SHARED: OnceLock<(Site, Server)> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let site = Site::new();
        site.file("a.txt", "0123456789").file("c.js", "var a = 1;\n".repeat(400)).file("dir/index.html", "<p>");
        let server = Server::start(&site);
        (site, server)
    });
    &shared.1
}

/// Requests of every shape, after which the connection goes on.
fn menu() -> Vec<Case> {
    let since = format!("If-Modified-Since: {OLD_DATE}");
    let whole = || status(200).body("0123456789");
    let script = "var a = 1;\n".repeat(400);
    let chunks = "3;x=y\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nT: u\r\n\r\n";
    vec![
        case("get", get("/a.txt"), whole()),
        case("decoded", get("/%61.txt?maxage=5"), whole().with("Cache-Control", "max-age=5")),
        case("absolute", get("http://h/a.txt"), whole()),
        case("head", with_host("HEAD", "/a.txt", &[], ""), status(200)),
        case("options", with_host("OPTIONS", "*", &[], ""), status(204)),
        case("gzip", get_with("/c.js", &["Accept-Encoding: gzip"]), status(200)),
        case("identity", get("/c.js"), status(200).body(script)),
        case("not modified", get_with("/a.txt", &[&since]), status(304)),
        case("range", get_with("/a.txt", &["Range: bytes=2-3"]), status(206).body("23")),
        case("ranges", get_with("/a.txt", &["Range: bytes=0-0,5-5"]), status(206)),
        case("redirect", get("/dir?x"), status(301).with("Location", "/dir/?x")),
        case("missing", get("/none"), status(404)),
        case("empty lines", [b"\r\n\r\n".to_vec(), get("/a.txt")].concat(), whole()),
        case("length", with_host("POST", "/", &["Content-Length: 9"], "GET / HTT"), status(405)),
        case("chunks", with_host("PUT", "/a.txt", &["Transfer-Encoding: chunked"], chunks), status(405)),
        case("get with a body", with_host("GET", "/a.txt", &["Content-Length: 2"], "\r\n"), whole()),
    ]
}

/// Requests that end their connection.
fn last_ones() -> Vec<Case> {
    let te = "Transfer-Encoding: chunked";
    vec![
        case("close", get_with("/a.txt", &["Connection: close"]), status(200).closes()),
        case("1.0", "GET /a.txt HTTP/1.0\r\n\r\n", status(200).closes()),
        case("no host", "GET /a.txt HTTP/1.1\r\nX: y\r\n\r\n", status(400)),
        case("unknown method", with_host("FOO", "/a.txt", &[], ""), status(501)),
        case("fold", get_with("/a.txt", &["X: a\r\n b"]), status(400)),
        case("lengths", with_host("POST", "/", &["Content-Length: 1", te], ""), status(400)),
        case("chunk", with_host("POST", "/", &[te], "2\r\nabc\r\n0\r\n\r\n"), status(400)),
        case("preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", status(505)),
    ]
}

#[track_caller]
fn judge(case: &Case, conn: &mut Conn, cuts: &[usize]) {
    if let Err(why) = case.judge(conn) {
        panic!("{} cut at {cuts:?}: {}\n{why}", case.name, show(&case.request));
    }
}

#[test]
fn request_may_be_cut_at_every_byte() {
    for case in menu() {
        let mut conn = server().connect();
        for cut in 1..case.request.len() {
            conn.send_cut(&case.request, &[cut]);
            judge(&case, &mut conn, &[cut]);
        }
    }
}

#[test]
fn last_request_may_be_cut_at_every_byte() {
    for case in last_ones() {
        for cut in 1..case.request.len() {
            let mut conn = server().connect();
            conn.send_cut(&case.request, &[cut]);
            judge(&case, &mut conn, &[cut]);
        }
    }
}

#[test]
fn request_may_be_cut_everywhere_at_once() {
    for case in menu().into_iter().chain(last_ones()) {
        let mut conn = server().connect();
        let cuts: Vec<usize> = (1..case.request.len()).collect();
        conn.send_cut(&case.request, &cuts);
        judge(&case, &mut conn, &cuts);
    }
}

#[test]
fn pipeline_may_be_cut_anywhere() {
    let mut rng = Rng::seeded();
    let (menu, last_ones) = (menu(), last_ones());
    for _ in 0..60 {
        let count = 1 + rng.below(100);
        let queue: Vec<&Case> = (0..count).map(|_| &menu[rng.below(menu.len())]).collect();
        let end = &last_ones[rng.below(last_ones.len())];
        let mut bytes: Vec<u8> = queue.iter().flat_map(|case| case.request.clone()).collect();
        bytes.extend_from_slice(&end.request);
        let mut cuts: Vec<usize> = (0..rng.below(12)).map(|_| rng.below(bytes.len())).collect();
        cuts.sort_unstable();
        let mut conn = server().connect();
        conn.send_cut(&bytes, &cuts);
        for (n, case) in queue.iter().enumerate() {
            if let Err(why) = case.judge_answer(&mut conn) {
                panic!("{}, number {n} of {count}, cut at {cuts:?}: {why}", case.name);
            }
        }
        judge(end, &mut conn, &cuts);
    }
}
