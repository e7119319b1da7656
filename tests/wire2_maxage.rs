//! Wire section 2: the page that embeds a URL says how long its copy lives.

use std::sync::OnceLock;

use crate::cases::{case, check, get, get_with, status, with_host};
use crate::harness::{OLD_DATE, Server, Site};

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

/// Query → seconds.
const QUERIES: &[(&str, u64)] = &[
    ("", 120),
    ("?", 120),
    ("?maxage=0", 0),
    ("?maxage=1", 1),
    ("?maxage=6000000", 6_000_000),
    ("?maxage=6000001", 6_000_001),
    ("?maxage=31535999", 31_535_999),
    ("?maxage=31536000", 31_536_000),
    ("?maxage=31536001", 31_536_000),
    ("?maxage=4294967296", 31_536_000),
    ("?maxage=18446744073709551616", 31_536_000),
    ("?maxage=18446744073709551621", 31_536_000),
    ("?maxage=99999999999999999999999999999999999999999999", 31_536_000),
    ("?maxage=007", 7),
    ("?maxage=0000000000000000000000000000000000005", 5),
    ("?maxage=", 120),
    ("?maxage=-1", 120),
    ("?maxage=+5", 120),
    ("?maxage=5s", 120),
    ("?maxage=5.0", 120),
    ("?maxage=0x10", 120),
    ("?maxage=abc", 120),
    ("?maxage=%35", 120),
    ("?maxage=5%20", 120),
    ("?maxage==5", 120),
    ("?%6daxage=5", 120),
    ("?maxage%3D5", 120),
    ("?Maxage=5", 120),
    ("?max-age=5", 120),
    ("?maxages=5", 120),
    ("?xmaxage=5", 120),
    ("?x=maxage=5", 120),
    ("?maxage=5&maxage=6", 5),
    ("?maxage=x&maxage=6", 120),
    ("?maxage=&maxage=6", 120),
    ("?maxage=5&maxage=x", 5),
    ("?x=1&maxage=7", 7),
    ("?1230015976759&maxage=7", 7),
    ("?maxage=7&1230015976759", 7),
    ("?&maxage=7", 7),
    ("?&&maxage=7&&", 7),
    ("?xmaxage=5&maxage=8", 8),
];

fn max_age(secs: u64) -> String {
    format!("max-age={secs}")
}

#[test]
fn maxage_in_200() {
    let cases = QUERIES.iter().map(|&(query, secs)| {
        let expect = status(200).with("Cache-Control", max_age(secs));
        case(query, get(format!("/a.txt{query}")), expect.body("0123456789"))
    });
    check(server(), cases);
}

#[test]
fn maxage_in_206() {
    let cases = QUERIES.iter().map(|&(query, secs)| {
        let request = get_with(format!("/a.txt{query}"), &["Range: bytes=1-2"]);
        let expect = status(206).with("Cache-Control", max_age(secs));
        case(query, request, expect.body("12"))
    });
    check(server(), cases);
}

#[test]
fn maxage_in_304() {
    let since = format!("If-Modified-Since: {OLD_DATE}");
    let cases = QUERIES.iter().map(|&(query, secs)| {
        let request = get_with(format!("/a.txt{query}"), &[&since]);
        let expect = status(304).with("Cache-Control", max_age(secs));
        case(query, request, expect)
    });
    check(server(), cases);
}

#[test]
fn maxage_in_the_answer_to_head() {
    let head = with_host("HEAD", "/a.txt?maxage=7", &[], "");
    let expect = status(200).with("Cache-Control", "max-age=7");
    check(server(), [case("HEAD", head, expect)]);
}

/// Section 8: 404 lives for a second whatever `maxage` says; other errors are not stored at all.
#[test]
fn maxage_is_not_for_errors() {
    let range = get_with("/a.txt?maxage=7", &["Range: bytes=10-"]);
    let unmet = get_with("/a.txt?maxage=7", &["If-Match: \"no\""]);
    let post = with_host("POST", "/a.txt?maxage=7", &[], "");
    let no_store = |code| status(code).with("Cache-Control", "no-store");
    check(
        server(),
        [
            case("404", get("/none?maxage=7"), status(404).with("Cache-Control", "max-age=1")),
            case("416", range, no_store(416)),
            case("412", unmet, no_store(412)),
            case("405", post, no_store(405)),
        ],
    );
}
