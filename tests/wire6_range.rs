//! Wire section 6: parts of an entry.

use std::sync::OnceLock;

use crate::cases::{Case, Expect, case, check, get_with, status, with_host};
use crate::conn::find;
use crate::harness::{OLD_DATE, Response, Rng, Server, Site};
use crate::wire4_codings::gzip;

/// The length of `/r.js`; a hundred bytes of it differ from their neighbours.
const LENGTH: usize = 100;

fn content() -> Vec<u8> {
    (0..LENGTH).map(|n| b' ' + (n % 90) as u8).collect()
}

/// Compressible, and long enough for that to pay.
fn long() -> Vec<u8> {
    let lines = (0..1000).map(|n| format!("var line_{n} = {};\n", n * n));
    lines.collect::<String>().into_bytes()
}

fn server() -> &'static Server {
    static SHARED: OnceLock<(Site, Server)> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let site = Site::new();
        site.file("r.js", content()).file("long.js", long()).file("m.js.mz", gzip(&long())).file("empty.txt", "");
        let server = Server::start(&site);
        (site, server)
    });
    &shared.1
}

fn whole() -> Expect {
    status(200).body(content()).without("Content-Range")
}

/// One part, both ends included.
fn part(first: usize, last: usize) -> Expect {
    status(206)
        .with("Content-Range", format!("bytes {first}-{last}/{LENGTH}"))
        .with("Content-Length", (last - first + 1).to_string())
        .with("Content-Type", "text/javascript; charset=utf-8")
        .without("Content-Encoding")
        .body(&content()[first..=last])
}

fn unsatisfiable() -> Expect {
    status(416).with("Content-Range", format!("bytes */{LENGTH}"))
}

fn ranged(range: &str, fields: &[&str], expect: Expect) -> Case {
    let range = format!("Range: {range}");
    let fields = [&[range.as_str()], fields].concat();
    let name = fields.join(", ");
    case(name, get_with("/r.js", &fields), expect)
}

fn check_ranges(rows: &[(&str, Expect)]) {
    let cases = rows.iter().map(|(range, e)| ranged(range, &[], e.clone()));
    check(server(), cases);
}

#[test]
fn one_range_is_a_206() {
    check_ranges(&[
        ("bytes=0-0", part(0, 0)),
        ("bytes=0-9", part(0, 9)),
        ("bytes=10-19", part(10, 19)),
        ("bytes=99-99", part(99, 99)),
        ("bytes=0-99", part(0, 99)),
        ("bytes=0-", part(0, 99)),
        ("bytes=50-", part(50, 99)),
        ("bytes=99-", part(99, 99)),
        ("bytes=-1", part(99, 99)),
        ("bytes=-10", part(90, 99)),
        ("bytes=-100", part(0, 99)),
        ("bytes=-101", part(0, 99)),
        ("bytes=90-100", part(90, 99)),
        ("bytes=90-1000", part(90, 99)),
        ("bytes=00-007", part(0, 7)),
        ("Bytes=0-9", part(0, 9)),
        ("BYTES=-10", part(90, 99)),
        ("bytes=0-99999999999999999999999999", part(0, 99)),
        ("bytes=5-18446744073709551616", part(5, 99)),
        ("bytes=-99999999999999999999999999", part(0, 99)),
        ("bytes=0-9,200-300", part(0, 9)),
        ("bytes=200-300,0-9", part(0, 9)),
        ("bytes=-0,5-5", part(5, 5)),
    ]);
}

#[test]
fn overlapping_and_adjacent_ranges_are_merged() {
    check_ranges(&[
        ("bytes=0-10,5-15", part(0, 15)),
        ("bytes=5-15,0-10", part(0, 15)),
        ("bytes=0-4,5-9", part(0, 9)),
        ("bytes=5-9,0-4", part(0, 9)),
        ("bytes=0-20,5-10", part(0, 20)),
        ("bytes=5-10,0-20", part(0, 20)),
        ("bytes=7-7,7-7", part(7, 7)),
        ("bytes=90-99,-10", part(90, 99)),
        ("bytes=95-,-10", part(90, 99)),
        ("bytes=0-3,8-11,4-7", part(0, 11)),
        ("bytes=0-9, 10-19,\t20-29", part(0, 29)),
        ("bytes=0-49,50-99", part(0, 99)),
    ]);
}

#[test]
fn nothing_to_send_is_416() {
    check_ranges(&[
        ("bytes=100-", unsatisfiable()),
        ("bytes=100-200", unsatisfiable()),
        ("bytes=500-600", unsatisfiable()),
        ("bytes=-0", unsatisfiable()),
        ("bytes=-00", unsatisfiable()),
        ("bytes=200-300,400-", unsatisfiable()),
        ("bytes=100-,-0", unsatisfiable()),
        ("bytes=99999999999999999999999999-", unsatisfiable()),
        ("bytes=18446744073709551616-18446744073709551617", unsatisfiable()),
    ]);
    let empty = get_with("/empty.txt", &["Range: bytes=0-"]);
    let expect = status(416).with("Content-Range", "bytes */0");
    check(server(), [case("an empty file", empty, expect)]);
}

#[test]
fn malformed_range_is_ignored() {
    let malformed = [
        "bytes=5-2",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=0-b",
        "bytes=1-2-3",
        "bytes=+1-2",
        "bytes=0x0-5",
        "bytes=0",
        "bytes=--5",
        "bytes=0-5,x",
        "bytes=0-5,9-7",
        "bytes=0-5;10-15",
        "bytes=,",
        "bytes 0-5",
        "bytes:0-5",
        "0-5",
        "",
        "byte=0-5",
        "lines=0-5",
        "seconds=1-2",
        "=0-5",
    ];
    check(server(), malformed.map(|range| ranged(range, &[], whole())));
    // Ignored entirely: it does not select identity either.
    let accept = "Accept-Encoding: gzip";
    for range in ["bytes=9-7", "lines=0-5"] {
        let answer = server().get("/long.js", &[&format!("Range: {range}"), accept]);
        assert_eq!(answer.status, 200, "{range}");
        assert_eq!(answer.get("content-encoding"), Some("gzip"), "{range}");
    }
}

/// The parts of a `multipart/byteranges` body: first, last and whole length as said, and the bytes.
fn parts(answer: &Response) -> Vec<(usize, usize, usize, Vec<u8>)> {
    let media = answer.get("content-type").expect("a Content-Type");
    let boundary = media.strip_prefix("multipart/byteranges; boundary=");
    let boundary = boundary.expect("multipart/byteranges").trim_matches('"');
    assert!((1..=70).contains(&boundary.len()), "{answer}");
    let delimiter = format!("\r\n--{boundary}");
    let body = [b"\r\n", answer.body.as_slice()].concat();
    let mut rest = body.as_slice();
    let mut parts = Vec::new();
    loop {
        assert!(rest.starts_with(delimiter.as_bytes()), "{answer}");
        rest = &rest[delimiter.len()..];
        if rest.starts_with(b"--") {
            assert!(matches!(&rest[2..], b"" | b"\r\n"), "bytes after the last part");
            return parts;
        }
        assert!(rest.starts_with(b"\r\n"), "{answer}");
        let end = find(rest, b"\r\n\r\n").expect("the head of a part");
        let head = String::from_utf8(rest[2..end].to_vec()).unwrap();
        let field = |name: &str| {
            let mut fields = head.split("\r\n").filter_map(|line| line.split_once(": "));
            fields.find(|(n, _)| n.eq_ignore_ascii_case(name)).expect(name).1
        };
        assert_eq!(field("content-type"), "text/javascript; charset=utf-8");
        let range = field("content-range").strip_prefix("bytes ").unwrap();
        let numbers: Vec<usize> = range.split(['-', '/']).map(|n| n.parse().unwrap()).collect();
        let (first, last) = (numbers[0], numbers[1]);
        rest = &rest[end + 4..];
        parts.push((first, last, numbers[2], rest[..=last - first].to_vec()));
        rest = &rest[last - first + 1..];
    }
}

/// Asks for several ranges and compares the parts, in their order.
fn check_multipart(range: &str, expected: &[(usize, usize)]) {
    let mut conn = server().connect();
    conn.send(get_with("/r.js", &[&format!("Range: {range}")]));
    let answer = conn.recv();
    assert_eq!(answer.status, 206, "{range}: {answer}");
    assert_eq!(answer.get("content-range"), None, "{range}: {answer}");
    assert_eq!(answer.get("last-modified"), Some(OLD_DATE), "{range}: {answer}");
    let parts = parts(&answer);
    let ranges: Vec<_> = parts.iter().map(|(first, last, ..)| (*first, *last)).collect();
    assert_eq!(ranges, expected, "{range}");
    for (first, last, length, bytes) in parts {
        assert_eq!(length, LENGTH, "{range}");
        assert_eq!(bytes, &content()[first..=last], "{range}");
    }
    conn.assert_open();
}

#[test]
fn several_ranges_are_multipart_in_the_order_asked() {
    check_multipart("bytes=0-1,10-11", &[(0, 1), (10, 11)]);
    check_multipart("bytes=10-11,0-1", &[(10, 11), (0, 1)]);
    check_multipart("bytes=0-0,2-2", &[(0, 0), (2, 2)]);
    check_multipart("bytes=0-0, -1", &[(0, 0), (99, 99)]);
    check_multipart("bytes=-1 ,\t0-0", &[(99, 99), (0, 0)]);
    check_multipart("bytes=50-59,0-9,98-", &[(50, 59), (0, 9), (98, 99)]);
    check_multipart("bytes=0-4,3-8,20-25", &[(0, 8), (20, 25)]);
    check_multipart("bytes=20-25,0-4,5-8", &[(20, 25), (0, 8)]);
    check_multipart("bytes=0-1,200-300,10-11,-0", &[(0, 1), (10, 11)]);
    check_multipart("bytes=0-0,,5-5", &[(0, 0), (5, 5)]);
}

#[test]
fn too_many_ranges_are_the_whole() {
    let ranges = |count: usize| {
        let ranges: Vec<String> = (0..count).map(|n| format!("{0}-{0}", n * 3)).collect();
        format!("bytes={}", ranges.join(","))
    };
    let expected: Vec<_> = (0..32).map(|n| (n * 3, n * 3)).collect();
    check_multipart(&ranges(32), &expected);
    check(server(), [ranged(&ranges(33), &[], whole())]);
}

#[test]
fn more_bytes_than_the_whole_are_the_whole() {
    check_ranges(&[
        ("bytes=0-99,0-0", whole()),
        ("bytes=0-60,40-99", whole()),
        ("bytes=0-,0-", whole()),
        ("bytes=0-,-1", whole()),
        ("bytes=10-89,0-20", whole()),
        ("bytes=0-50,51-99", part(0, 99)),
    ]);
    check_multipart("bytes=0-49,51-99", &[(0, 49), (51, 99)]);
}

#[test]
fn range_selects_identity_where_it_is_acceptable() {
    let body = &long()[10..20];
    let length = long().len();
    for accept in ["gzip", "deflate, br, zstd, *", "identity, gzip", "gzip;q=0", "identity;q=0.001, gzip"] {
        for path in ["/long.js", "/m.js"] {
            let fields = ["Range: bytes=10-19", &format!("Accept-Encoding: {accept}")];
            let expect = status(206)
                .without("Content-Encoding")
                .with("Content-Range", format!("bytes 10-19/{length}"))
                .with("Vary", "Accept-Encoding")
                .body(body);
            let name = format!("{path} [{accept}]");
            check(server(), [case(name, get_with(path, &fields), expect)]);
        }
    }
}

#[test]
fn range_is_ignored_where_identity_is_not_acceptable() {
    for (accept, coding) in [
        ("identity;q=0, gzip", Some("gzip")),
        ("*;q=0, gzip", Some("gzip")),
        ("deflate, identity;q=0", Some("deflate")),
        ("identity;q=0", None),
        ("*;q=0", None),
    ] {
        for range in ["bytes=10-19", "bytes=0-0,5-5", "bytes=9999999-"] {
            let accept = format!("Accept-Encoding: {accept}");
            let answer = server().get("/long.js", &[&format!("Range: {range}"), &accept]);
            assert_eq!(answer.status, 200, "{range} {accept}: {answer}");
            assert_eq!(answer.get("content-encoding"), coding, "{range} {accept}");
            assert_eq!(answer.decoded(), long(), "{range} {accept}");
        }
    }
}

#[test]
fn if_range_is_a_strong_tag_or_the_very_date() {
    let etag = server().get("/r.js", &[]).get("etag").unwrap().to_owned();
    let row = |value: &str, range, expect| ranged(range, &[&format!("If-Range: {value}")], expect);
    let first = "bytes=0-9";
    check(
        server(),
        [
            row(&etag, first, part(0, 9)),
            row(&etag, "bytes=100-", unsatisfiable()),
            row(&format!("W/{etag}"), first, whole()),
            row("\"no\"", first, whole()),
            row("*", first, whole()),
            row(OLD_DATE, first, part(0, 9)),
            row("Tue, 14 Nov 2023 22:13:19 GMT", first, whole()),
            row("Tue, 14 Nov 2023 22:13:21 GMT", first, whole()),
            row("Fri, 14 Nov 2053 22:13:20 GMT", first, whole()),
            row("yesterday", first, whole()),
            row("\"no\"", "bytes=100-", whole()),
            row("\"no\"", "bytes=0-0,5-5", whole()),
        ],
    );
    let alone = get_with("/r.js", &[&format!("If-Range: {etag}")]);
    check(server(), [case("without Range", alone, whole())]);
    let coded = server().get("/long.js", &["Accept-Encoding: gzip"]);
    let weak = format!("If-Range: {}", coded.get("etag").unwrap());
    let strong = weak.replace("W/", "");
    for (field, code) in [(weak, 200), (strong, 206)] {
        let fields = ["Range: bytes=0-9", &field, "Accept-Encoding: gzip"];
        check(server(), [case(&field, get_with("/long.js", &fields), status(code))]);
    }
}

#[test]
fn accept_ranges_is_on_200s_of_identity() {
    let identity = get_with("/long.js", &[]);
    let gzip = get_with("/long.js", &["Accept-Encoding: gzip"]);
    let head = with_host("HEAD", "/long.js", &[], "");
    let offered = status(200).with("Accept-Ranges", "bytes");
    check(
        server(),
        [
            case("identity", identity, offered.clone()),
            case("head", head, offered),
            case("coded", gzip, status(200).without("Accept-Ranges")),
        ],
    );
}

#[test]
fn range_is_for_get_of_what_is_there() {
    let range = ["Range: bytes=0-0"];
    let post = with_host("POST", "/r.js", &range, "");
    check(server(), [case("404", get_with("/none", &range), status(404)), case("405", post, status(405))]);
}

#[test]
fn any_range_is_that_slice() {
    let mut rng = Rng::seeded();
    let content = long();
    let mut conn = server().connect();
    for _ in 0..300 {
        let first = rng.below(content.len());
        let last = first + rng.below(content.len() - first);
        let path = ["/long.js", "/m.js"][rng.below(2)];
        conn.send(get_with(path, &[&format!("Range: bytes={first}-{last}")]));
        let answer = conn.recv();
        assert_eq!(answer.status, 206, "{first}-{last} of {path}");
        assert!(answer.body == content[first..=last], "{first}-{last} of {path}");
    }
}
