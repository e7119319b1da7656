//! Wire section 7: what is refused, with which status, and that the refusal arrives.

use std::sync::OnceLock;

use crate::cases::{Case, case, check, get, request, status, with_host};
use crate::harness::{Server, Site};

const HEAD_CAP: usize = 16 * 1024;
const TARGET_CAP: usize = 8 * 1024;

fn server() -> &'static Server {
    static SHARED: OnceLock<(Site, Server)> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let site = Site::new();
        site.file("a.txt", "0123456789");
        let server = Server::start(&site);
        (site, server)
    });
    &shared.1
}

/// Bytes as they are → 400.
fn bad(raw: &[u8]) -> Case {
    case(raw.escape_ascii().to_string(), raw, status(400))
}

/// A request that is sound but for one field → 400.
fn bad_field(field: &[u8]) -> Case {
    let request = request("GET", "/a.txt", &[b"Host: h", field], "");
    case(field.escape_ascii().to_string(), request, status(400))
}

/// A head of exactly so many bytes, blank line included.
fn head_of(length: usize) -> Vec<u8> {
    let bare = request("GET", "/a.txt", &["Host: h", "X: "], "").len();
    let filler = format!("X: {}", "x".repeat(length - bare));
    let request = request("GET", "/a.txt", &["Host: h", &filler], "");
    assert_eq!(request.len(), length);
    request
}

#[test]
fn head_over_16_kib_is_431() {
    let endless = [b"GET /a.txt HTTP/1.1\r\nHost: h\r\nX: ".as_slice(), &[b'x'; 100_000]].concat();
    check(
        server(),
        [
            case("at the cap", head_of(HEAD_CAP), status(200)),
            case("one more", head_of(HEAD_CAP + 1), status(431)),
            case("much more", head_of(10 * HEAD_CAP), status(431)),
            case("endless", endless, status(431)),
        ],
    );
}

#[test]
fn target_over_8_kib_is_414() {
    let target = |length: usize| format!("/a.txt?{}", "x".repeat(length - "/a.txt?".len()));
    let endless = [b"GET /".as_slice(), &[b'x'; 12_000]].concat();
    check(
        server(),
        [
            case("at the cap", get(target(TARGET_CAP)), status(200)),
            case("one more", get(target(TARGET_CAP + 1)), status(414)),
            case("path alone", get("/".repeat(TARGET_CAP + 1)), status(414)),
            case("absolute", get(format!("http://h{}", target(TARGET_CAP))), status(414)),
            // Over both caps; either says why.
            case("over both", get(target(3 * TARGET_CAP)), status(414).or(431)),
            case("endless", [endless, vec![b'x'; 20_000]].concat(), status(414).or(431)),
        ],
    );
}

#[test]
fn over_100_fields_is_431() {
    let fields = |count: usize| {
        let fields: Vec<String> = (1..count).map(|n| format!("X{n}: y")).collect();
        let mut fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        fields.push("Host: h");
        request("GET", "/a.txt", &fields, "")
    };
    check(
        server(),
        [
            case("100", fields(100), status(200)),
            case("101", fields(101), status(431)),
            case("1000", fields(1000), status(431)),
        ],
    );
}

#[test]
fn bare_lf_is_400() {
    check(
        server(),
        [
            bad(b"GET /a.txt HTTP/1.1\nHost: h\n\n"),
            bad(b"GET /a.txt HTTP/1.1\nHost: h\r\n\r\n"),
            bad(b"GET /a.txt HTTP/1.1\r\nHost: h\n\r\n"),
            bad(b"GET /a.txt HTTP/1.1\r\nHost: h\r\n\n"),
            bad(b"GET /a.txt HTTP/1.1\r\nHost: h\nX: y\r\n\r\n"),
            bad(b"GET /a.txt HTTP/1.1\r\nX: y\nHost: h\r\n\r\n"),
            bad(b"GET /a.txt HTTP/1.0\n\n"),
            bad(b"\nGET /a.txt HTTP/1.1\r\nHost: h\r\n\r\n"),
        ],
    );
}

#[test]
fn garbled_request_line_is_400() {
    let line = |line: &str| bad(format!("{line}\r\nHost: h\r\n\r\n").as_bytes());
    check(
        server(),
        [
            line("GET /a.txt"),
            line("GET"),
            line("GET  /a.txt HTTP/1.1"),
            line("GET /a.txt  HTTP/1.1"),
            line("GET /a.txt HTTP/1.1 "),
            line(" GET /a.txt HTTP/1.1"),
            line("GET\t/a.txt\tHTTP/1.1"),
            line("GET /a.txt http/1.1"),
            line("GET /a.txt HTTP/1"),
            line("GET /a.txt HTTP/1."),
            line("GET /a.txt HTTP/1.1x"),
            line("GET /a.txt HTTP/1.10"),
            line("GET /a.txt HTTP/11.1"),
            line("GET /a.txt HTTP/x.1"),
            line("GET /a.txt HTTP 1.1"),
            line("GET /a.txt HTTPS/1.1"),
            line("GET /a.txt ICY/1.1"),
            line("GET /a.txt /1.1"),
            line("GET /a.txt \u{1}HTTP/1.1"),
            line("hello"),
            bad(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
        ],
    );
}

#[test]
fn other_versions_are_505() {
    let version = |version: &str| {
        let request = format!("GET /a.txt {version}\r\nHost: h\r\n\r\n");
        case(version, request, status(505))
    };
    check(
        server(),
        [
            version("HTTP/2.0"),
            version("HTTP/2.1"),
            version("HTTP/3.0"),
            version("HTTP/9.9"),
            version("HTTP/0.9"),
            case("no Host", "GET /a.txt HTTP/2.0\r\n\r\n", status(505)),
            case("preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", status(505)),
            case(
                "preface and settings",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".as_slice(),
                status(505),
            ),
        ],
    );
}

#[test]
fn host_is_one_and_sound() {
    let with = |host: &str| case(host, request("GET", "/a.txt", &[host], ""), status(200));
    let without = |hosts: &[&str]| case(hosts.join(", "), request("GET", "/a.txt", hosts, ""), status(400));
    let sound = [
        "Host: h",
        "Host:h",
        "Host:  h  ",
        "Host: ",
        "Host:",
        "Host: h:80",
        "Host: h:65535",
        "Host: h:0",
        "Host: www.example.com",
        "Host: a-b_c.example.",
        "Host: 192.0.2.1",
        "Host: 192.0.2.1:8080",
        "Host: [::1]",
        "Host: [::1]:80",
        "Host: [2001:db8::1]:65535",
        "Host: [::ffff:192.0.2.1]",
    ];
    check(server(), sound.map(with));
    let malformed = [
        "Host: a b",
        "Host: a/b",
        "Host: http://h",
        "Host: h:65536",
        "Host: h:99999",
        "Host: h:x",
        "Host: h:-1",
        "Host: h:80:80",
        "Host: h:80 80",
        "Host: [::1",
        "Host: ::1]",
        "Host: [zz]",
        "Host: []",
        "Host: [::1]x",
        "Host: [::1]:x",
        "Host: ::1",
        "Host: u@h",
        "Host: h?",
        "Host: h#",
        "Host: h\\",
        "Host: <h>",
        "Host: \"h\"",
        "Host: h%zz",
        "Host: h:184467440737095516",
        "Host: h\u{e9}",
    ];
    check(server(), malformed.map(|host| without(&[host])));
    check(
        server(),
        [
            without(&[]),
            without(&["X: y"]),
            without(&["Host: h", "Host: h"]),
            without(&["Host: h", "Host: other"]),
            without(&["Host: h", "X: y", "host: "]),
        ],
    );
}

#[test]
fn malformed_fields_are_400() {
    check(
        server(),
        [
            // obs-fold
            bad_field(b"X: a\r\n b"),
            bad_field(b"X: a\r\n\tb"),
            bad_field(b"X: a\r\n "),
            bad(b"GET /a.txt HTTP/1.1\r\nHost:\r\n h\r\n\r\n"),
            bad(b"GET /a.txt HTTP/1.1\r\n Host: h\r\n\r\n"),
            bad(b"GET /a.txt HTTP/1.1\r\n \r\nHost: h\r\n\r\n"),
            // a space before the colon
            bad_field(b"X : y"),
            bad_field(b"X\t: y"),
            bad_field(b"Content-Length : 0"),
            bad_field(b" X: y"),
            bad_field(b"X Y: z"),
            // no name
            bad_field(b": y"),
            bad_field(b"y"),
            bad_field(b"X\x80: y"),
            bad_field(b"X\xc3\xa9: y"),
            bad_field(b"X(Y): z"),
            bad_field(b"\"X\": y"),
            bad_field(b"X\0: y"),
        ],
    );
}

#[test]
fn control_bytes_in_a_field_are_400() {
    let controls = (0..=0x1f_u8).chain([0x7f]).filter(|b| *b != b'\t' && *b != b'\n');
    for control in controls {
        let inside = [b"X: a", [control].as_slice(), b"b"].concat();
        let first = [b"X: ", [control].as_slice(), b"b"].concat();
        let last = [b"X: a", [control].as_slice()].concat();
        check(server(), [bad_field(&inside), bad_field(&first)]);
        if control != b'\r' {
            check(server(), [bad_field(&last)]);
        }
    }
    check(server(), [bad(b"GET /a.txt HTTP/1.1\r\r\nHost: h\r\n\r\n"), bad_field(b"X: a\r")]);
}

/// A POST with these framing fields and that body → 400.
fn bad_body(fields: &[&str], body: &str) -> Case {
    let name = format!("{} {}", fields.join(", "), body.escape_debug());
    case(name, with_host("POST", "/a.txt", fields, body), status(400))
}

#[test]
fn malformed_lengths_are_400() {
    let lengths = ["-1", "+5", "5, 5", "5,5", "5, 6", "5,", "5 5", "0x5", "5.0", "5;", "five", "", "\u{b5}5"];
    check(server(), lengths.map(|l| bad_body(&[&format!("Content-Length: {l}")], "hello")));
    check(
        server(),
        [
            bad_body(&["Content-Length: 5", "Content-Length: 6"], "hello"),
            bad_body(&["Content-Length: 0", "Content-Length: 5"], "hello"),
            bad_body(&["Content-Length: 5", "Content-Length: x"], "hello"),
        ],
    );
}

#[test]
fn transfer_encoding_is_one_chunked_or_400() {
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    let codings = [
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "chunked, identity",
        "identity",
        "chunked;q=1",
        "chunked x",
        "xchunked",
        "chunkedx",
        "\"chunked\"",
        "",
        "\u{b}chunked",
    ];
    check(server(), codings.map(|c| bad_body(&[&format!("Transfer-Encoding: {c}")], chunks)));
    let chunked = "Transfer-Encoding: chunked";
    check(
        server(),
        [
            bad_body(&[chunked, chunked], chunks),
            bad_body(&[chunked, "Transfer-Encoding: identity"], chunks),
            bad_body(&[chunked, "Transfer-Encoding: "], chunks),
            bad_body(&[chunked, "Content-Length: 5"], chunks),
            bad_body(&["Content-Length: 15", chunked], chunks),
            bad_body(&["Content-Length: 0", chunked], chunks),
            bad(b"POST /a.txt HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            bad(b"GET /a.txt HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ],
    );
    let any_case = with_host("POST", "/a.txt", &["transfer-encoding: Chunked"], chunks);
    check(server(), [case("in any case", any_case, status(405))]);
}

fn chunked(body: &str) -> Vec<u8> {
    with_host("POST", "/a.txt", &["Transfer-Encoding: chunked"], body)
}

#[test]
fn malformed_chunks_are_400() {
    let bodies = [
        "zz\r\n",
        "\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhelloo\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n;x\r\n\r\n",
        "g\r\n",
        "fffffffffffffffff\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "5,\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
    ];
    check(server(), bodies.map(|body| bad_body(&["Transfer-Encoding: chunked"], body)));
}

#[test]
fn chunks_may_be_odd_but_sound() {
    let bodies = [
        "0\r\n\r\n",
        "000\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "a\r\n0123456789\r\n0\r\n\r\n",
        "A\r\n0123456789\r\n0\r\n\r\n",
        "00005\r\nhello\r\n0\r\n\r\n",
        "5;a\r\nhello\r\n0;b=c\r\n\r\n",
        "5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n",
        "2\r\n\r\n\r\n0\r\n\r\n",
        "1\r\nx\r\n0\r\nTrailer: y\r\nOther: z\r\n\r\n",
    ];
    check(server(), bodies.map(|body| case(body.escape_debug().to_string(), chunked(body), status(405))));
}

#[test]
fn chunk_extensions_and_trailers_are_4_kib_in_sum() {
    let x = |count: usize| "x".repeat(count);
    let extension = |count| format!("5;{}\r\nhello\r\n0\r\n\r\n", x(count));
    let trailer = |count| format!("5\r\nhello\r\n0\r\nX: {}\r\n\r\n", x(count));
    let both = |count| format!("5;{0}\r\nhello\r\n0\r\nX: {0}\r\n\r\n", x(count));
    let many = |count| format!("{}0\r\n\r\n", format!("1;{}\r\nx\r\n", x(100)).repeat(count));
    check(
        server(),
        [
            case("extension of 3 KiB", chunked(&extension(3000)), status(405)),
            case("extension of 5 KiB", chunked(&extension(5000)), status(400)),
            case("trailer of 3 KiB", chunked(&trailer(3000)), status(405)),
            case("trailer of 5 KiB", chunked(&trailer(5000)), status(400)),
            case("both, 3 KiB", chunked(&both(1500)), status(405)),
            case("both, 5 KiB", chunked(&both(2500)), status(400)),
            case("many, 3 KiB", chunked(&many(30)), status(405)),
            case("many, 5 KiB", chunked(&many(50)), status(400)),
        ],
    );
}

#[test]
fn what_follows_a_refusal_is_not_answered() {
    let refusals = [
        (b"GET /a.txt HTTP/1.1\r\n\r\n".to_vec(), 400),
        (with_host("FOO", "/a.txt", &[], ""), 501),
        (get("/".repeat(TARGET_CAP + 1)), 414),
        (head_of(HEAD_CAP + 1), 431),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 505),
        (chunked("zz\r\n"), 400),
    ];
    for (refused, code) in refusals {
        let mut conn = server().connect();
        conn.send([get("/a.txt"), refused, get("/a.txt"), get("/a.txt")].concat());
        assert_eq!(conn.recv().text(), "0123456789", "before {code}");
        assert_eq!(conn.recv().status, code);
        conn.assert_closed();
    }
}

/// What the client still sends is drained, so that no reset overtakes the answer.
#[test]
fn refusal_arrives_although_the_client_sends_on() {
    let junk = vec![b'j'; 600_000];
    let refusals = [
        (b"GET /a.txt HTTP/1.1\r\n\r\n".to_vec(), 400),
        (with_host("FOO", "/a.txt", &[], ""), 501),
        (head_of(HEAD_CAP + 1), 431),
        (get("/".repeat(TARGET_CAP + 1)), 414),
        (b"GET /a.txt HTTP/3.0\r\n\r\n".to_vec(), 505),
        (with_host("POST", "/a.txt", &["Content-Length: 600000"], ""), 405),
    ];
    for (refused, code) in refusals {
        for _ in 0..5 {
            let mut conn = server().connect();
            conn.send([refused.as_slice(), &junk].concat());
            let answer = conn.recv();
            assert_eq!(answer.status, code);
            assert_eq!(answer.get("connection"), Some("close"), "{answer}");
            conn.assert_closed();
        }
    }
}
