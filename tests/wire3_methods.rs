//! Wire section 3: methods, and what becomes of a request's body.

use std::sync::OnceLock;

use crate::cases::{Expect, case, check, get, get_with, request, status, with_host};
use crate::harness::{OLD_DATE, Server, Site};

/// The longest body that is read and thrown away.
const BODY_CAP: usize = 64 * 1024;

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

/// The refusal of a method that is known.
fn not_allowed() -> Expect {
    status(405).with("Allow", "GET, HEAD, OPTIONS")
}

/// A chunked body of so many bytes in chunks of at most 1000.
fn chunked(length: usize) -> Vec<u8> {
    let mut body = Vec::new();
    let mut left = length;
    while left > 0 {
        let size = left.min(1000);
        body.extend_from_slice(format!("{size:x}\r\n").as_bytes());
        body.extend(std::iter::repeat_n(b'x', size));
        body.extend_from_slice(b"\r\n");
        left -= size;
    }
    body.extend_from_slice(b"0\r\n\r\n");
    body
}

#[test]
fn head_is_the_head_of_get() {
    let paths = ["/a.txt", "/a.txt?maxage=5", "/c.js", "/dir/", "/dir", "/none"];
    let since = format!("If-Modified-Since: {OLD_DATE}");
    let variants: [&[&str]; 5] =
        [&[], &["Accept-Encoding: gzip"], &["Accept-Encoding: deflate"], &[&since], &["If-Match: \"no\""]];
    for path in paths {
        for fields in variants {
            let of_get = server().get(path, fields);
            let mut conn = server().connect();
            conn.send(with_host("HEAD", path, fields, ""));
            let of_head = conn.recv_head();
            assert_eq!(of_head.status, of_get.status, "{path} {fields:?}");
            for (name, value) in &of_get.fields {
                if name.eq_ignore_ascii_case("date") {
                    continue;
                }
                let got = of_head.get(name);
                assert_eq!(got, Some(value.as_str()), "{name} of {path} {fields:?}");
            }
            assert_eq!(of_head.fields.len(), of_get.fields.len(), "{of_head}");
            conn.assert_open();
        }
    }
}

#[test]
fn head_is_without_range() {
    let expect = || status(200).with("Content-Length", "10").without("Content-Range");
    check(
        server(),
        [
            case("satisfiable", with_host("HEAD", "/a.txt", &["Range: bytes=0-3"], ""), expect()),
            case("unsatisfiable", with_host("HEAD", "/a.txt", &["Range: bytes=50-"], ""), expect()),
        ],
    );
}

#[test]
fn options_says_what_is_allowed() {
    let expect = || status(204).with("Allow", "GET, HEAD, OPTIONS").without("Content-Length");
    let options = |name: &str, target: &str, fields: &[&str], body: &str| {
        case(name, with_host("OPTIONS", target, fields, body), expect())
    };
    check(
        server(),
        [
            options("a file", "/a.txt", &[], ""),
            options("the server", "*", &[], ""),
            options("nothing there", "/none", &[], ""),
            options("absolute", "http://h/a.txt", &[], ""),
            options("with a body", "/a.txt", &["Content-Length: 2"], "ab"),
            options("preconditions are not for it", "/a.txt", &["If-Match: \"no\""], ""),
            options("nor ranges", "/a.txt", &["Range: bytes=50-"], ""),
        ],
    );
}

#[test]
fn other_known_methods_are_405() {
    let mut cases = Vec::new();
    for method in ["POST", "PUT", "DELETE", "TRACE", "PATCH"] {
        for target in ["/a.txt", "/none", "/dir", "http://h/a.txt"] {
            let name = format!("{method} {target}");
            cases.push(case(name, with_host(method, target, &[], ""), not_allowed()));
        }
        let name = format!("{method} with a precondition");
        let request = with_host(method, "/a.txt", &["If-Match: \"no\""], "");
        cases.push(case(name, request, not_allowed()));
    }
    let connect = request("CONNECT", "h:443", &["Host: h:443"], "");
    cases.push(case("CONNECT", connect, not_allowed()));
    check(server(), cases);
}

#[test]
fn other_tokens_are_501() {
    let unknown =
        ["FOO", "get", "Get", "GETT", "GE", "G", "PROPFIND", "M-SEARCH", "PURGE", "options", "!#$%&'*+-.^_`|~"];
    let cases = unknown.map(|method| case(method, with_host(method, "/a.txt", &[], ""), status(501)));
    check(server(), cases);
    let none = with_host("FOO", "/none", &[], "");
    check(server(), [case("before 404", none, status(501))]);
}

#[test]
fn what_is_no_token_is_400() {
    let wrong = ["G@T", "GET(", "G,T", "\"GET\"", "", "G\x01T", "G\u{e9}T"];
    check(server(), wrong.map(|method| case(method, with_host(method, "/a.txt", &[], ""), status(400))));
}

/// A request with a body in both framings.
fn with_bodies(method: &str, length: usize, expect: &Expect) -> [crate::cases::Case; 2] {
    let by_length = with_host(method, "/a.txt", &[&format!("Content-Length: {length}")], "x".repeat(length));
    let by_chunks = with_host(method, "/a.txt", &["Transfer-Encoding: chunked"], chunked(length));
    [
        case(format!("{method}, {length} by length"), by_length, expect.clone()),
        case(format!("{method}, {length} by chunks"), by_chunks, expect.clone()),
    ]
}

#[test]
fn body_is_thrown_away_up_to_64_kib() {
    for length in [0, 1, 5, 1000, 4096, BODY_CAP - 1, BODY_CAP] {
        check(server(), with_bodies("GET", length, &status(200).body("0123456789")));
        check(server(), with_bodies("HEAD", length, &status(200)));
        check(server(), with_bodies("OPTIONS", length, &status(204)));
        check(server(), with_bodies("POST", length, &not_allowed()));
        check(server(), with_bodies("PUT", length, &not_allowed()));
    }
    let one_chunk = [b"10000\r\n".as_slice(), &[b'x'; BODY_CAP], b"\r\n0\r\n\r\n"].concat();
    let request = with_host("POST", "/a.txt", &["Transfer-Encoding: chunked"], one_chunk);
    check(server(), [case("one chunk of 64 KiB", request, not_allowed())]);
}

#[test]
fn body_is_never_taken_for_a_request() {
    let inner = String::from_utf8(get("/none")).unwrap();
    let length = inner.len();
    let by_length = with_host("POST", "/a.txt", &[&format!("Content-Length: {length}")], &inner);
    let by_chunks = format!("{length:X};ext=\"a\"\r\n{inner}\r\n0\r\nTrailer: x\r\n\r\n");
    let by_chunks = with_host("GET", "/a.txt", &["Transfer-Encoding: chunked"], by_chunks);
    check(
        server(),
        [case("by length", by_length, not_allowed()), case("by chunks", by_chunks, status(200).body("0123456789"))],
    );
}

#[test]
fn longer_body_gets_its_answer_and_the_end() {
    for length in [BODY_CAP + 1, 2 * BODY_CAP, 500_000] {
        check(server(), with_bodies("GET", length, &status(200).body("0123456789").closes()));
        check(server(), with_bodies("POST", length, &not_allowed().closes()));
    }
    for length in ["65537", "1000000000", "18446744073709551615"] {
        let field = format!("Content-Length: {length}");
        let announced = with_host("POST", "/a.txt", &[&field], "");
        let name = format!("{length} announced, none sent");
        check(server(), [case(name, announced, not_allowed().closes())]);
    }
    let field = format!("Content-Length: 1{}", "0".repeat(30));
    let absurd = with_host("POST", "/a.txt", &[&field], "");
    // No integer holds it: too long, or malformed, but not wrapped round.
    check(server(), [case(field, absurd, status(405).or(400).closes())]);
}

#[test]
fn expectation_with_a_body_gets_the_answer_and_the_end() {
    let expect = "Expect: 100-continue";
    let waiting = with_host("POST", "/a.txt", &[expect, "Content-Length: 5"], "");
    let chunked = with_host("PUT", "/a.txt", &[expect, "Transfer-Encoding: chunked"], "");
    let sent = with_host("GET", "/a.txt", &[expect, "Content-Length: 5"], "hello");
    let any_case = with_host("POST", "/a.txt", &["expect: 100-Continue", "Content-Length: 5"], "");
    check(
        server(),
        [
            case("by length", waiting, not_allowed().closes()),
            case("by chunks", chunked, not_allowed().closes()),
            case("sent all the same", sent, status(200).body("0123456789").closes()),
            case("in any case", any_case, not_allowed().closes()),
            case("no body", get_with("/a.txt", &[expect]), status(200)),
        ],
    );
}
