//! Wire section 8: what an answer looks like.

use std::sync::OnceLock;

use crate::cases::{case, check, get, get_with, request, status, with_host};
use crate::conn::parse_date;
use crate::harness::{OLD, OLD_DATE, Response, Server, Site, at, now, wait_until};
use crate::wire4_codings::gzip;

fn server() -> &'static Server {
    static SHARED: OnceLock<(Site, Server)> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let site = Site::new();
        site.file("a.txt", "0123456789")
            .file("c.js", "var a = 1;\n".repeat(400))
            .file("dir/index.html", "<p>")
            .file("m.js.mz", gzip(b"var m;"));
        for (name, _) in TYPES {
            site.file(&format!("types/{name}"), "x");
        }
        let server = Server::start(&site);
        (site, server)
    });
    &shared.1
}

/// Name → `Content-Type`, where there is no doubt about it.
const TYPES: &[(&str, &str)] = &[
    ("a.js", "text/javascript; charset=utf-8"),
    ("a.min.js", "text/javascript; charset=utf-8"),
    ("a.mjs", "text/javascript; charset=utf-8"),
    ("a.html", "text/html; charset=utf-8"),
    ("a.htm", "text/html; charset=utf-8"),
    ("a.css", "text/css; charset=utf-8"),
    ("a.txt", "text/plain; charset=utf-8"),
    ("a.csv", "text/csv; charset=utf-8"),
    ("a.png", "image/png"),
    ("a.jpg", "image/jpeg"),
    ("a.gif", "image/gif"),
    ("a.webp", "image/webp"),
    ("a.wasm", "application/wasm"),
    ("a.pdf", "application/pdf"),
    ("a.mp4", "video/mp4"),
    ("a.woff2", "font/woff2"),
];

/// The names of an answer's fields, in lower case and sorted.
fn names(answer: &Response) -> Vec<String> {
    let mut names: Vec<_> = answer.fields.iter().map(|(n, _)| n.to_ascii_lowercase()).collect();
    names.sort();
    names
}

/// What every 200 has.
const ALWAYS: [&str; 8] = [
    "cache-control",
    "content-length",
    "content-type",
    "date",
    "etag",
    "last-modified",
    "server",
    "x-content-type-options",
];

#[test]
fn a_200_has_these_fields_and_no_others() {
    let rows: [(&str, &[&str], &[&str]); 4] = [
        ("/a.txt", &[], &["accept-ranges"]),
        ("/c.js", &[], &["accept-ranges", "vary"]),
        ("/c.js", &["Accept-Encoding: gzip"], &["content-encoding", "vary"]),
        ("/c.js", &["Accept-Encoding: deflate"], &["content-encoding", "vary"]),
    ];
    for (path, fields, more) in rows {
        let answer = server().get(path, fields);
        assert_eq!(answer.status, 200);
        let mut expected = [&ALWAYS, more].concat();
        expected.sort_unstable();
        assert_eq!(names(&answer), expected, "{path} {fields:?}: {answer}");
        assert_eq!(answer.get("server"), Some("cloudia"));
        assert_eq!(answer.get("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.get("last-modified"), Some(OLD_DATE));
        assert_eq!(answer.get("cache-control"), Some("max-age=120"));
        let length = answer.body.len().to_string();
        assert_eq!(answer.get("content-length"), Some(length.as_str()));
    }
}

#[test]
fn date_is_now() {
    let since = format!("If-Modified-Since: {OLD_DATE}");
    for (path, field) in [
        ("/a.txt", "X: y"),
        ("/a.txt", "Range: bytes=0-0"),
        ("/a.txt", &since),
        ("/none", "X: y"),
        ("/dir", "X: y"),
        ("/a.txt", "If-Match: \"no\""),
    ] {
        let before = now();
        let answer = server().get(path, &[field]);
        let after = now();
        let date = answer.get("date").and_then(parse_date).expect("a sound Date");
        // A clock that is read once a batch may lag a little behind.
        assert!((before - 1..=after).contains(&date), "{before} {after}: {answer}");
    }
}

#[test]
fn a_206_has_what_a_200_would_have_had() {
    for range in ["Range: bytes=0-3", "Range: bytes=0-3,10-13"] {
        let answer = server().get("/c.js", &[range]);
        assert_eq!(answer.status, 206, "{range}");
        let whole = server().get("/c.js", &[]);
        for name in ["etag", "last-modified", "cache-control", "vary"] {
            assert_eq!(answer.get(name), whole.get(name), "{name} of {answer}");
        }
        assert!(answer.get("date").is_some(), "{answer}");
    }
}

#[test]
fn type_is_from_the_extension() {
    let cases = TYPES.iter().map(|(name, media)| {
        let expect = status(200).with("Content-Type", *media);
        case(*name, get(format!("/types/{name}")), expect)
    });
    check(server(), cases);
    for (path, media) in [("/m.js", "text/javascript"), ("/dir/", "text/html")] {
        let expect = status(200).with("Content-Type", format!("{media}; charset=utf-8"));
        check(server(), [case(path, get(path), expect)]);
    }
    let site = Site::new();
    for (name, media) in [("d.json", "application/json"), ("v.svg", "image/svg+xml")] {
        site.file(name, "{}");
        let server = Server::start(&site);
        let answer = server.get(&format!("/{name}"), &[]);
        assert!(answer.get("content-type").is_some_and(|t| t.starts_with(media)), "{answer}");
    }
}

/// One line of plain text; not stored, but for 404, which lives a second.
#[track_caller]
pub(crate) fn assert_plain_error(answer: &Response) {
    let text = answer.text();
    let line = text.strip_suffix('\n').unwrap_or(&text);
    assert!(!line.trim().is_empty() && !line.contains(['\n', '\r']), "{text:?}");
    let media = answer.get("content-type").unwrap_or_default();
    assert!(media.starts_with("text/plain"), "{answer}");
    let cache = match answer.status {
        404 => "max-age=1",
        _ => "no-store",
    };
    assert_eq!(answer.get("cache-control"), Some(cache), "{answer}");
    assert!(answer.get("date").and_then(parse_date).is_some(), "{answer}");
    for validator in ["etag", "last-modified", "content-encoding"] {
        assert_eq!(answer.get(validator), None, "{answer}");
    }
}

/// A request for each error that can be had at once.
fn errors(method: &str) -> Vec<(u16, Vec<u8>)> {
    let many: Vec<String> = (0..101).map(|n| format!("X{n}: y")).collect();
    vec![
        (400, request(method, "/a.txt", &["X: y"], "")),
        (400, with_host(method, "/../x", &[], "")),
        (404, with_host(method, "/none", &[], "")),
        (404, with_host(method, "/none?maxage=50", &[], "")),
        (412, with_host(method, "/a.txt", &["If-Match: \"no\""], "")),
        (414, with_host(method, "/".repeat(9000), &[], "")),
        (431, request(method, "/a.txt", &many, "")),
    ]
}

#[test]
fn errors_are_one_line_of_plain_text() {
    let more = [
        (405, with_host("POST", "/a.txt", &[], "")),
        (416, get_with("/a.txt", &["Range: bytes=50-"])),
        (501, with_host("FOO", "/a.txt", &[], "")),
        (505, b"GET /a.txt HTTP/2.0\r\nHost: h\r\n\r\n".to_vec()),
    ];
    for (code, request) in errors("GET").into_iter().chain(more) {
        let mut conn = server().connect();
        conn.send(request);
        let answer = conn.recv();
        assert_eq!(answer.status, code, "{answer}");
        assert_plain_error(&answer);
    }
}

#[test]
fn errors_have_no_body_for_head() {
    for (code, request) in errors("HEAD") {
        let mut conn = server().connect();
        conn.send(&request);
        let answer = conn.recv_head();
        assert_eq!(answer.status, code, "{answer}");
        if answer.get("connection") == Some("close") {
            conn.assert_closed();
        } else {
            conn.assert_open();
        }
    }
}

#[test]
fn body_of_404_is_404_html() {
    let page = format!("<h1>not here</h1>{}", "<p>sorry\n".repeat(200));
    let site = Site::new();
    site.file("404.html", &page).file("dir/index.html", "<p>");
    for n in 0..5 {
        site.file(&format!("other{n}.txt"), "other");
    }
    let server = Server::start(&site);
    for (target, fields) in [
        ("/none", &[][..]),
        ("/none?maxage=500", &[]),
        ("/dir/none/", &["Accept-Encoding: gzip"]),
        ("/none", &["Range: bytes=0-0"]),
        ("/none", &["Range: bytes=999999-"]),
        ("/none", &["If-None-Match: *"]),
        ("/none", &["If-Match: \"no\""]),
    ] {
        let answer = server.get(target, fields);
        assert_eq!(answer.status, 404, "{target} {fields:?}");
        assert_eq!(answer.decoded(), page.as_bytes(), "{target} {fields:?}");
        assert_eq!(answer.get("cache-control"), Some("max-age=1"), "{answer}");
        let media = answer.get("content-type");
        assert_eq!(media, Some("text/html; charset=utf-8"), "{answer}");
        assert_eq!(answer.get("content-range"), None, "{answer}");
    }
    check(
        &server,
        [
            case("HEAD", with_host("HEAD", "/none", &[], ""), status(404)),
            case("itself", get("/404.html"), status(200).body(page)),
            case("405 is plain", with_host("POST", "/none", &[], ""), status(405)),
        ],
    );
    site.replace("404.html", "new page", at(OLD + 5));
    wait_until("the new page is there", || server.get("/none", &[]).text() == "new page");
    site.remove("404.html");
    wait_until("the page is gone", || server.get("/404.html", &[]).status == 404);
    let answer = server.get("/none", &[]);
    assert_ne!(answer.text(), "new page");
    assert_plain_error(&answer);
}

#[test]
fn cookies_are_neither_read_nor_set() {
    for path in ["/a.txt", "/c.js", "/none", "/dir"] {
        let bare = server().get(path, &[]);
        let with = server().get(path, &["Cookie: a=b; session=1", "Cookie: c=d"]);
        assert_eq!(with.status, bare.status, "{path}");
        assert_eq!(with.body, bare.body, "{path}");
        assert_eq!(names(&with), names(&bare), "{path}");
        assert_eq!(with.get("vary"), bare.get("vary"), "{path}");
        assert_eq!(with.get("set-cookie"), None, "{path}");
    }
}

#[test]
fn nothing_a_client_sends_comes_back_in_an_error() {
    let probe = "<script>alert(1)</script>";
    let rows = [
        get_with("/%3Cscript%3Ealert(1)%3C/script%3E", &[]),
        get_with("/none?<script>alert(1)</script>", &[]),
        get_with("/none", &["Referer: <script>alert(1)</script>"]),
        request("GET", "/", &["Host: <script>alert(1)</script>"], ""),
    ];
    for request in rows {
        let mut conn = server().connect();
        conn.send(request);
        let answer = conn.recv();
        assert!(!answer.text().contains(probe), "{}", answer.text());
    }
}
