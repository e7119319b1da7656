//! Wire section 4: which bytes of an entry a client gets.

use std::io::Write;
use std::sync::OnceLock;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::cases::{case, check, get_with, status, with_host};
use crate::harness::{OLD_DATE, Rng, Server, Site};

/// Four hundred of these are the content of `/s.js`, which has every coding.
pub(crate) const SCRIPT: &[u8] = b"var a=1;\n";
/// Made by `brotli -q 11`.
pub(crate) const SCRIPT_BR: &[u8] =
    b"\xc1\x78\x70\xc0\x6f\xa4\x0e\x6b\xad\x85\x59\x2b\x80\x84\xd9\xe9\x98\x9d\x1e\x39\xf1\x5b\x30\x30\xb8\x00\xe0\xb6\x10";
/// Made by `zstd -19 --no-check`.
pub(crate) const SCRIPT_ZST: &[u8] =
    b"\x28\xb5\x2f\xfd\x60\x10\x0d\x85\x00\x00\x48\x76\x61\x72\x20\x61\x3d\x31\x3b\x0a\x01\x00\x04\xa6\x5f\x8e";
/// `aa` by `brotli -q 11`: longer than what it codes.
const TWO_BR: &[u8] = b"\x21\x04\x00\x04\x61\x61\x03";

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Bytes that no coder makes smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut rng = Rng::with_seed(1);
    std::iter::repeat_with(|| rng.next() as u8).take(length).collect()
}

fn server() -> &'static Server {
    static SHARED: OnceLock<(Site, Server)> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let site = Site::new();
        let script = SCRIPT.repeat(400);
        site.file("s.js", &script)
            .file("s.js.br", SCRIPT_BR)
            .file("s.js.zst", SCRIPT_ZST)
            .file("c.js", &script)
            .file("m.js.mz", gzip(&script))
            .file("tiny.txt", "hi")
            .file("two.txt", "aa")
            .file("two.txt.br", TWO_BR)
            .file("two.txt.gz", gzip(b"aa"))
            .file("little.txt.mz", gzip(b"hi"))
            .file("noise.txt", noise(4000));
        for n in 0..100 {
            site.file(&format!("n/{n}.txt"), "a".repeat(n));
        }
        let server = Server::start(&site);
        (site, server)
    });
    &shared.1
}

/// `Accept-Encoding` → coding, for an entry that has them all.
const CHOICES: &[(&str, Option<&str>)] = &[
    ("", None),
    ("br", Some("br")),
    ("zstd", Some("zstd")),
    ("deflate", Some("deflate")),
    ("gzip", Some("gzip")),
    ("GZip", Some("gzip")),
    ("identity", None),
    ("compress, foo", None),
    // Equal q: br, zstd, deflate, gzip.
    ("gzip, deflate, zstd, br", Some("br")),
    ("gzip, deflate, zstd", Some("zstd")),
    ("gzip, deflate", Some("deflate")),
    ("deflate, gzip", Some("deflate")),
    ("gzip;q=0.5, deflate;q=0.5", Some("deflate")),
    ("gzip,deflate,br", Some("br")),
    // Higher q first.
    ("gzip;q=1.0, deflate;q=0.9", Some("gzip")),
    ("br;q=0.1, gzip;q=0.2", Some("gzip")),
    ("br;q=0.001, gzip;q=0.002", Some("gzip")),
    ("gzip ; q=0.5 , deflate ; q=0.8", Some("deflate")),
    ("gzip;q=0.5,\tzstd;q=0.6", Some("zstd")),
    // Not acceptable.
    ("gzip;q=0", None),
    ("gzip;q=0.000", None),
    ("gzip;Q=0", None),
    ("gzip;q=0, deflate;q=0, zstd", Some("zstd")),
    ("gzip, deflate;q=0", Some("gzip")),
    // The rest at once.
    ("*", Some("br")),
    ("*;q=0.5", Some("br")),
    ("br;q=0, *", Some("zstd")),
    ("br;q=0, zstd;q=0, *", Some("deflate")),
    ("*;q=0, gzip", Some("gzip")),
    ("gzip, *;q=0.5", Some("gzip")),
    ("gzip;q=0.5, *", Some("br")),
    // Identity is last, unless listed with a higher q.
    ("gzip;q=0.001", Some("gzip")),
    ("identity, gzip", Some("gzip")),
    ("identity;q=0.5, gzip;q=0.5", Some("gzip")),
    ("identity;q=1, gzip;q=0.5", None),
    ("identity, br;q=0.9, zstd;q=0.9, *;q=0.9", None),
    ("*;q=0.5, identity", None),
    ("identity;q=0, gzip", Some("gzip")),
    ("identity;q=0, *;q=0.1", Some("br")),
    // Nothing acceptable: identity anyway.
    ("identity;q=0", None),
    ("*;q=0", None),
    ("identity;q=0, *;q=0", None),
    ("gzip;q=0, deflate;q=0, br;q=0, zstd;q=0, identity;q=0", None),
    ("identity;q=0, compress", None),
    // Empty list elements (RFC 9110 §5.6.1).
    (", gzip ,,", Some("gzip")),
];

#[test]
fn coding_is_chosen_by_quality() {
    let script = SCRIPT.repeat(400);
    let cases = CHOICES.iter().map(|&(accept, coding)| {
        let expect = match coding {
            None => status(200).without("Content-Encoding").body(script.clone()),
            Some("br") => status(200).with("Content-Encoding", "br").body(SCRIPT_BR),
            Some("zstd") => status(200).with("Content-Encoding", "zstd").body(SCRIPT_ZST),
            Some(other) => status(200).with("Content-Encoding", other),
        };
        let request = get_with("/s.js", &[&format!("Accept-Encoding: {accept}")]);
        case(format!("[{accept}]"), request, expect)
    });
    check(server(), cases);
    let none = server().get("/s.js", &[]);
    assert_eq!(none.get("content-encoding"), None, "without Accept-Encoding");
    assert_eq!(none.body, script);
}

#[test]
fn accept_encoding_may_stand_on_several_lines() {
    let lines = ["Accept-Encoding: gzip", "Accept-Encoding: br;q=0.5, deflate;q=0.1"];
    let answer = server().get("/s.js", &lines);
    assert_eq!(answer.get("content-encoding"), Some("gzip"));
    let lines = ["Accept-Encoding: gzip;q=0.2", "X: y", "accept-encoding: zstd"];
    let answer = server().get("/s.js", &lines);
    assert_eq!(answer.get("content-encoding"), Some("zstd"));
}

#[test]
fn only_held_codings_are_chosen() {
    for (accept, coding) in
        [("br", None), ("zstd", None), ("br, zstd, gzip", Some("gzip")), ("br, zstd, *;q=0.1", Some("deflate"))]
    {
        for path in ["/c.js", "/m.js"] {
            let answer = server().get(path, &[&format!("Accept-Encoding: {accept}")]);
            assert_eq!(answer.get("content-encoding"), coding, "{path} [{accept}]");
        }
    }
}

#[test]
fn deflate_and_gzip_hold_the_same_bytes() {
    for path in ["/s.js", "/c.js", "/m.js"] {
        let zlib = server().get(path, &["Accept-Encoding: deflate"]);
        let gzip = server().get(path, &["Accept-Encoding: gzip"]);
        let plain = server().get(path, &[]);
        assert_eq!(plain.body, SCRIPT.repeat(400), "{path}");
        for coded in [&zlib, &gzip] {
            assert_eq!(coded.decoded(), plain.body, "{path}");
            assert!(coded.body.len() < plain.body.len(), "{path}");
        }
        assert_eq!(zlib.raw_deflate(), gzip.raw_deflate(), "{path}");
    }
}

#[test]
fn x_gzip_is_gzip() {
    let gzip = server().get("/s.js", &["Accept-Encoding: gzip"]);
    for accept in ["x-gzip", "X-GZIP;q=0.5", "x-gzip, deflate;q=0.5"] {
        let answer = server().get("/s.js", &[&format!("Accept-Encoding: {accept}")]);
        let coding = answer.get("content-encoding");
        assert!(matches!(coding, Some("gzip" | "x-gzip")), "[{accept}]: {answer}");
        assert_eq!(answer.body, gzip.body, "[{accept}]");
    }
}

#[test]
fn identity_of_a_compressed_entry_is_inflated() {
    let answer = server().get("/m.js", &["Accept-Encoding: identity"]);
    assert_eq!(answer.get("content-length"), Some("3600"));
    assert_eq!(answer.body, SCRIPT.repeat(400));
    let head = with_host("HEAD", "/m.js", &[], "");
    let expect = status(200).with("Content-Length", "3600");
    check(server(), [case("its length is known to HEAD", head, expect)]);
}

#[test]
fn coding_that_is_not_smaller_is_not_offered() {
    let sizes = (0..100).map(|n| (format!("/n/{n}.txt"), n));
    let more = [("/tiny.txt", 2), ("/two.txt", 2), ("/little.txt", 2), ("/noise.txt", 4000)];
    let more = more.map(|(path, n)| (path.to_owned(), n));
    for (path, length) in sizes.chain(more) {
        for coding in ["br", "zstd", "deflate", "gzip", "*", "identity;q=0, *"] {
            let answer = server().get(&path, &[&format!("Accept-Encoding: {coding}")]);
            assert_eq!(answer.status, 200);
            let coded = answer.get("content-encoding").is_some();
            assert!(!coded || answer.body.len() < length, "{path} [{coding}]: {answer}");
            assert!(coded || answer.body.len() == length, "{path} [{coding}]: {answer}");
            assert!(length > 2 || !coded, "{path} [{coding}]: {answer}");
        }
    }
}

#[test]
fn vary_where_there_is_more_than_one_coding() {
    let since = format!("If-Modified-Since: {OLD_DATE}");
    let variants: [(&str, &[&str], u16); 7] = [
        ("plain", &[], 200),
        ("gzip", &["Accept-Encoding: gzip"], 200),
        ("nothing acceptable", &["Accept-Encoding: *;q=0"], 200),
        ("range", &["Range: bytes=0-0"], 206),
        ("ranges", &["Range: bytes=0-0,1-1"], 206),
        ("not modified", &[&since], 304),
        ("not modified, coded", &[&since, "Accept-Encoding: gzip"], 304),
    ];
    for (name, fields, code) in variants {
        let paths = ["/s.js", "/c.js", "/m.js"].map(|path| {
            let expect = status(code).with("Vary", "Accept-Encoding");
            case(format!("{path} {name}"), get_with(path, fields), expect)
        });
        check(server(), paths);
        let paths = ["/tiny.txt", "/two.txt", "/little.txt", "/noise.txt"].map(|path| {
            let expect = status(code).without("Vary");
            case(format!("{path} {name}"), get_with(path, fields), expect)
        });
        check(server(), paths);
    }
}
