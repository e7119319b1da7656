//! Wire section 10: the admin listener, and that it is the only place for what it shows.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::{process, thread};

use crate::cases::{case, check, get, request, status};
use crate::harness::{Conn, Response, Server, Site, wait_until};

/// A name that would be markup if a page showed it raw.
const NASTY: &str = "<img src=x onerror=alert(1)>\"'&\\";

fn server() -> &'static Server {
    static SHARED: OnceLock<(Site, Server)> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let site = Site::new();
        site.file("a.txt", "0123456789")
            .file("index.html", "<p>index of the data")
            .file("404.html", "<p>404 of the data")
            .file(&format!("{NASTY}.js"), "var a;")
            // Refused, so that whatever names bad files names them.
            .file(&format!("{NASTY}.css.mz"), "no deflate")
            .file("line\nbreak\".js.mz", "no deflate");
        let server = Server::start(&site);
        (site, server)
    });
    &shared.1
}

const PAGES: [&str; 5] = ["/healthz", "/readyz", "/metrics", "/status.json", "/status"];

fn admin(path: &str) -> Response {
    server().admin_get(path, &["Host: localhost"])
}

#[test]
fn pages_are_there() {
    for path in PAGES {
        let answer = admin(path);
        assert_eq!(answer.status, 200, "{path}: {answer}");
        assert!(!answer.body.is_empty(), "{path}");
    }
    let media = |path| admin(path).get("content-type").unwrap_or_default().to_owned();
    assert!(media("/status").starts_with("text/html"), "{}", media("/status"));
    assert!(media("/status.json").starts_with("application/json"));
    let metrics = media("/metrics");
    let prometheus = ["text/plain", "application/openmetrics-text"];
    assert!(prometheus.iter().any(|m| metrics.starts_with(m)), "{metrics}");
}

/// Name with labels → value; fails on a line that is no sample and no comment.
fn samples() -> BTreeMap<String, f64> {
    let text = admin("/metrics").text();
    let lines = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    let samples = lines.map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?}"));
        let bare = name.split('{').next().unwrap();
        let sound = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b':';
        assert!(!bare.is_empty() && bare.bytes().all(sound), "{line:?}");
        assert!(bare == name || name.ends_with('}'), "{line:?}");
        let value = value.parse().unwrap_or_else(|_| panic!("{line:?}"));
        (name.to_owned(), value)
    });
    samples.collect()
}

#[test]
fn metrics_count_requests() {
    let count = || -> f64 {
        let all = samples();
        let requests = all.iter().filter(|(name, _)| name.contains("requests"));
        requests.map(|(_, value)| value).sum()
    };
    let before = count();
    for _ in 0..10 {
        assert_eq!(server().get("/a.txt", &[]).status, 200);
    }
    wait_until("ten more requests are counted", || count() >= before + 10.0);
}

#[test]
fn status_json_is_json() {
    let text = admin("/status.json").text();
    let rest = json(text.trim_ascii()).unwrap_or_else(|at| panic!("no JSON at {at:?} in {text}"));
    assert_eq!(rest, "", "after the value in {text}");
    assert!(text.trim_ascii().starts_with('{'), "{text}");
}

/// What follows a JSON value (RFC 8259), or where it is none.
fn json(text: &str) -> Result<&str, &str> {
    let text = text.trim_ascii_start();
    match text.bytes().next() {
        Some(b'{') => json_items(&text[1..], '}', |item| {
            let rest = json_string(item.trim_ascii_start())?.trim_ascii_start();
            json(rest.strip_prefix(':').ok_or(rest)?)
        }),
        Some(b'[') => json_items(&text[1..], ']', json),
        Some(b'"') => json_string(text),
        _ => {
            let end = text.find([',', ']', '}', ' ', '\n']).unwrap_or(text.len());
            let word = &text[..end];
            let sound = matches!(word, "true" | "false" | "null") || word.parse::<f64>().is_ok();
            if sound { Ok(&text[end..]) } else { Err(text) }
        }
    }
}

fn json_items(mut text: &str, close: char, item: fn(&str) -> Result<&str, &str>) -> Result<&str, &str> {
    if let Some(rest) = text.trim_ascii_start().strip_prefix(close) {
        return Ok(rest);
    }
    loop {
        text = item(text)?.trim_ascii_start();
        if let Some(rest) = text.strip_prefix(close) {
            return Ok(rest);
        }
        text = text.strip_prefix(',').ok_or(text)?;
    }
}

fn json_string(text: &str) -> Result<&str, &str> {
    let inner = text.strip_prefix('"').ok_or(text)?;
    let mut bytes = inner.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Ok(&inner[at + 1..]),
            b'\\' => match bytes.next() {
                Some((_, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' | b'u')) => {}
                _ => return Err(&inner[at..]),
            },
            0..=0x1f => return Err(text),
            _ => {}
        }
    }
    Err(text)
}

#[test]
fn everything_shown_is_escaped() {
    for path in ["/status", "/status.json", "/metrics", "/readyz", "/healthz"] {
        let answer = admin(path);
        let html = answer.get("content-type").is_some_and(|media| media.starts_with("text/html"));
        assert!(!html || !answer.text().contains("<img"), "{path}: {}", answer.text());
    }
    let probe = "/status?<img src=x>".replace(' ', "%20");
    for path in [&probe, "/<img>", "/%3Cimg%3E"] {
        assert!(!admin(path).text().contains("<img"), "{path}");
    }
    samples();
}

#[test]
fn nothing_of_the_data_directory_is_there() {
    for path in ["/a.txt", "/index.html", "/404.html", "/dir/", "/alive.txt"] {
        let answer = admin(path);
        assert_eq!(answer.status, 404, "{path}");
        assert!(!answer.text().contains("of the data"), "{path}");
    }
    assert!(!admin("/").text().contains("of the data"));
}

#[test]
fn public_listeners_know_none_of_it() {
    check(server(), PAGES.map(|path| case(path, get(path), status(404).body("<p>404 of the data"))));
}

#[test]
fn there_is_no_cors() {
    let origin = "Origin: http://evil.example";
    for path in PAGES {
        let answer = server().admin_get(path, &["Host: localhost", origin]);
        let mut conn = Conn::to(server().admin.unwrap());
        let ask = "Access-Control-Request-Method: GET";
        conn.send(request("OPTIONS", path, &["Host: localhost", origin, ask], ""));
        for answer in [answer, conn.recv()] {
            let mut names = answer.fields.iter().map(|(name, _)| name.to_ascii_lowercase());
            assert!(!names.any(|name| name.starts_with("access-control-")), "{answer}");
        }
    }
}

#[test]
fn host_is_localhost_or_an_ip_literal() {
    let known = [
        "localhost",
        "LocalHost",
        "localhost:9180",
        "127.0.0.1",
        "127.0.0.1:9180",
        "192.0.2.1:80",
        "[::1]",
        "[::1]:9180",
        "[2001:db8::1]",
    ];
    let strange = [
        "evil.example",
        "evil.example:9180",
        "localhost.evil.example",
        "evil-localhost",
        "127.0.0.1.evil.example",
        "127.0.0.1.example:80",
        "cloudia",
        "1.2.3.4.5",
        "",
    ];
    for path in PAGES.iter().chain(&["/none"]) {
        for host in known {
            let answer = server().admin_get(path, &[&format!("Host: {host}")]);
            assert_ne!(answer.status, 403, "{path} on {host:?}");
        }
        for host in strange {
            let answer = server().admin_get(path, &[&format!("Host: {host}")]);
            assert_eq!(answer.status, 403, "{path} on {host:?}");
        }
    }
    // RFC 9112 §3.2.2: the host of an absolute target stands instead of the field.
    let answer = server().admin_get("http://evil.example/status", &["Host: localhost"]);
    assert_eq!(answer.status, 403);
}

/// Whatever is ready serves; before that it is 503, or nobody is there yet.
#[test]
fn readyz_is_200_only_after_the_first_load() {
    let site = Site::new();
    for n in 0..1000 {
        site.file(&format!("many/{n}.js"), format!("var n = {n};\n").repeat(100));
    }
    let [_, _, high, low] = process::id().to_be_bytes();
    let [public, admin] = [18_081, 18_082].map(|port| SocketAddr::from(([127, 77, high, low], port)));
    let early = thread::spawn(move || {
        wait_until("it is ready", || {
            if TcpStream::connect(admin).is_err() {
                return false;
            }
            let mut conn = Conn::to(admin);
            conn.send(request("GET", "/readyz", &["Host: localhost"], ""));
            let status = conn.recv().status;
            assert!(matches!(status, 200 | 503), "{status}");
            status == 200
        });
        let mut conn = Conn::to(public);
        conn.send(get("/many/999.js"));
        assert_eq!(conn.recv().status, 200);
    });
    let _server = Server::builder(&site).listen(public).admin(admin).start();
    early.join().unwrap();
}

#[test]
fn readyz_is_503_while_draining() {
    let site = Site::new();
    site.file("big.bin", vec![b'x'; 4 << 20]);
    let mut server = Server::builder(&site).flag("--grace", 3).start();
    assert_eq!(server.admin_get("/readyz", &["Host: localhost"]).status, 200);
    // Its answers do not fit into any buffer, so there is something to wait for.
    let mut slow = server.connect();
    slow.send(get("/big.bin").repeat(24));
    assert_eq!(slow.recv().status, 200);
    server.signal("TERM");
    let admin = server.admin.unwrap();
    wait_until("it is no longer ready", || {
        let mut conn = Conn::to(admin);
        conn.send(request("GET", "/readyz", &["Host: localhost"], ""));
        conn.recv().status == 503
    });
    let mut conn = Conn::to(admin);
    conn.send(request("GET", "/healthz", &["Host: localhost"], ""));
    assert_eq!(conn.recv().status, 200);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn admin_may_be_off() {
    let site = Site::new();
    let mut server = Server::builder(&site).admin("off").start();
    assert_eq!(server.admin, None);
    server.connect().assert_open();
    assert!(server.stop().success());
}
