//! Wire section 5, what a request says of validators: preconditions, 304 and 412.

use std::sync::OnceLock;

use crate::cases::{Expect, case, check, get_with, status, with_host};
use crate::harness::{OLD_DATE, Server, Site};

/// [`OLD_DATE`] in the two obsolete forms (RFC 9110 §5.6.7).
const OLD_RFC850: &str = "Tuesday, 14-Nov-23 22:13:20 GMT";
const OLD_ASCTIME: &str = "Tue Nov 14 22:13:20 2023";
const EARLIER: &str = "Tue, 14 Nov 2023 22:13:19 GMT";
const LATER: &str = "Tue, 14 Nov 2023 22:13:21 GMT";

struct Shared {
    server: Server,
    /// What stands between the quotes of the `ETag` of `/a.txt`.
    tag: String,
    /// The same of `/c.js`, which has codings.
    coded_tag: String,
    _site: Site,
}

fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let site = Site::new();
        site.file("a.txt", "0123456789").file("c.js", "var a = 1;\n".repeat(400));
        let server = Server::start(&site);
        let tag = |path| {
            let answer = server.get(path, &[]);
            let tag = answer.get("etag").expect("an ETag").to_owned();
            tag.trim_matches('"').to_owned()
        };
        Shared { tag: tag("/a.txt"), coded_tag: tag("/c.js"), server, _site: site }
    })
}

fn whole() -> Expect {
    status(200).body("0123456789")
}

fn not_modified() -> Expect {
    status(304).body("")
}

/// A table of fields for `GET /a.txt`: `H` in a field stands for its tag.
fn check_fields(rows: &[(&[&str], Expect)]) {
    let shared = shared();
    let cases = rows.iter().map(|(fields, expect)| {
        let name = fields.join(", ");
        let fields: Vec<String> = fields.iter().map(|f| f.replace("\"H\"", &quoted(&shared.tag))).collect();
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        case(name, get_with("/a.txt", &fields), expect.clone())
    });
    check(&shared.server, cases);
}

fn quoted(tag: &str) -> String {
    format!("\"{tag}\"")
}

fn since(date: &str) -> String {
    format!("If-Modified-Since: {date}")
}

fn unless(date: &str) -> String {
    format!("If-Unmodified-Since: {date}")
}

#[test]
fn if_match_is_strong() {
    check_fields(&[
        (&["If-Match: \"H\""], whole()),
        (&["If-Match: *"], whole()),
        (&["If-Match: \"no\", \"H\""], whole()),
        (&["If-Match: \"H\",\"no\""], whole()),
        (&["If-Match: \"a,b\", \"H\""], whole()),
        (&["If-Match: \"no\"", "If-Match: \"H\""], whole()),
        (&["If-Match: \"no\""], status(412)),
        (&["If-Match: \"no\", \"nor this\""], status(412)),
        (&["If-Match: W/\"H\""], status(412)),
        (&["If-Match: \"no\"", "If-Match: \"nor this\""], status(412)),
        (&["If-Match: \"no\", W/\"H\", \"H\""], whole()),
    ]);
}

/// Against `"h"`, whatever coding would be sent.
#[test]
fn if_match_is_against_the_strong_tag_of_a_coded_answer_too() {
    let strong = format!("If-Match: \"{}\"", shared().coded_tag);
    let weak = format!("If-Match: W/\"{}\"", shared().coded_tag);
    let gzip = "Accept-Encoding: gzip";
    check(
        &shared().server,
        [
            case("strong, coded", get_with("/c.js", &[&strong, gzip]), status(200).with("Content-Encoding", "gzip")),
            case("weak, coded", get_with("/c.js", &[&weak, gzip]), status(412)),
            case("weak, identity", get_with("/c.js", &[&weak]), status(412)),
        ],
    );
}

#[test]
fn if_unmodified_since_is_412_for_an_earlier_date() {
    check_fields(&[
        (&[&unless(OLD_DATE)], whole()),
        (&[&unless(LATER)], whole()),
        (&[&unless(EARLIER)], status(412)),
        (&[&unless(OLD_RFC850)], whole()),
        (&[&unless(OLD_ASCTIME)], whole()),
        (&[&unless("Tuesday, 14-Nov-23 22:13:19 GMT")], status(412)),
        (&[&unless("Tue Nov 14 22:13:19 2023")], status(412)),
        (&[&unless("Sunday, 06-Nov-94 08:49:37 GMT")], status(412)),
        (&[&unless("Sun Nov  6 08:49:37 1994")], status(412)),
        (&[&unless(&format!("{OLD_DATE}; length=6"))], whole()),
        (&[&unless(&format!("{EARLIER}; length=6"))], status(412)),
        (&[&unless("yesterday")], whole()),
        (&[&unless("0")], whole()),
    ]);
}

#[test]
fn if_none_match_is_weak() {
    check_fields(&[
        (&["If-None-Match: \"H\""], not_modified()),
        (&["If-None-Match: W/\"H\""], not_modified()),
        (&["If-None-Match: *"], not_modified()),
        (&["If-None-Match: \"no\", \"H\""], not_modified()),
        (&["If-None-Match: \"no\",W/\"H\" , \"nor this\""], not_modified()),
        (&["If-None-Match: \"a,b\", \"H\""], not_modified()),
        (&["If-None-Match: \"no\"", "If-None-Match: \"H\""], not_modified()),
        (&["If-None-Match: \"H\"", "If-None-Match: \"no\""], not_modified()),
        (&["If-None-Match: \"no\""], whole()),
        (&["If-None-Match: W/\"no\", \"nor this\""], whole()),
        (&["If-None-Match: \"\""], whole()),
    ]);
}

#[test]
fn if_modified_since_is_304_for_the_stamp_alone() {
    check_fields(&[
        (&[&since(OLD_DATE)], not_modified()),
        (&[&since(OLD_RFC850)], not_modified()),
        (&[&since(OLD_ASCTIME)], not_modified()),
        (&[&since(&format!("{OLD_DATE}; length=6"))], not_modified()),
        (&[&since(&format!("{OLD_DATE}; length=10"))], not_modified()),
        (&[&since(LATER)], whole()),
        (&[&since("Fri, 14 Nov 2053 22:13:20 GMT")], whole()),
        (&[&since(&format!("{LATER}; length=6"))], whole()),
        (&[&since(EARLIER)], whole()),
        (&[&since("Tuesday, 14-Nov-23 22:13:21 GMT")], whole()),
        (&[&since("Tue Nov 14 22:13:21 2023")], whole()),
        (&[&since("Thu, 01 Jan 1970 00:00:00 GMT")], whole()),
        (&[&since("yesterday")], whole()),
        (&[&since("")], whole()),
        (&[&since("1700000000")], whole()),
    ]);
}

#[test]
fn dates_that_stand_twice_count_as_absent() {
    check_fields(&[
        (&[&since(OLD_DATE), &since(OLD_DATE)], whole()),
        (&[&since(OLD_DATE), &since(LATER)], whole()),
        (&[&since(LATER), "X: y", &since(OLD_DATE)], whole()),
        (&[&unless(EARLIER), &unless(EARLIER)], whole()),
        (&[&unless(EARLIER), &unless(OLD_DATE)], whole()),
    ]);
}

#[test]
fn ranges_that_stand_twice_give_the_whole() {
    let date = format!("If-Range: {OLD_DATE}");
    check_fields(&[
        (&["Range: bytes=0-0", "Range: bytes=0-0"], whole()),
        (&["Range: bytes=0-0", "Range: bytes=2-3"], whole()),
        (&["Range: bytes=50-", "Range: bytes=50-"], whole()),
        (&["Range: bytes=0-0", "If-Range: \"H\"", "If-Range: \"H\""], whole()),
        (&["Range: bytes=0-0", &date, &date], whole()),
        (&["Range: bytes=0-0", "If-Range: \"H\"", &date], whole()),
    ]);
}

#[test]
fn preconditions_stand_in_the_order_of_rfc_9110() {
    let early = unless(EARLIER);
    let same = since(OLD_DATE);
    let range = "Range: bytes=0-0";
    check_fields(&[
        // 1, 2: If-Match makes If-Unmodified-Since void.
        (&["If-Match: \"H\"", &early], whole()),
        (&["If-Match: \"no\"", &unless(OLD_DATE)], status(412)),
        (&["If-Match: *", &early], whole()),
        // 1, 2 before 3, 4.
        (&["If-Match: \"no\"", "If-None-Match: \"H\""], status(412)),
        (&["If-None-Match: \"H\"", "If-Match: \"no\""], status(412)),
        (&["If-Match: \"H\"", "If-None-Match: \"H\""], not_modified()),
        (&["If-Match: \"H\"", &same], not_modified()),
        (&[&early, "If-None-Match: \"H\""], status(412)),
        (&[&early, &same], status(412)),
        (&[&unless(OLD_DATE), &same], not_modified()),
        // 3: If-None-Match makes If-Modified-Since void.
        (&["If-None-Match: \"no\"", &same], whole()),
        (&[&same, "If-None-Match: \"no\""], whole()),
        (&["If-None-Match: \"H\"", &since(LATER)], not_modified()),
        (&["If-None-Match: \"H\"", &since(OLD_DATE), &since(OLD_DATE)], not_modified()),
        // 5: Range last.
        (&["If-Match: \"no\"", range], status(412)),
        (&[&early, range], status(412)),
        (&["If-None-Match: \"H\"", range], not_modified()),
        (&[&same, range], not_modified()),
        (&[&same, "Range: bytes=50-"], not_modified()),
        (&["If-Match: \"H\"", range], status(206).body("0")),
        (&["If-None-Match: \"no\"", range], status(206).body("0")),
        (&[&since(LATER), range], status(206).body("0")),
    ]);
}

#[test]
fn preconditions_hold_for_head() {
    let tag = &shared().tag;
    let head = |fields: &[&str]| with_host("HEAD", "/a.txt", fields, "");
    check(
        &shared().server,
        [
            case("since", head(&[&since(OLD_DATE)]), not_modified()),
            case("none match", head(&[&format!("If-None-Match: \"{tag}\"")]), not_modified()),
            case("match", head(&["If-Match: \"no\""]), status(412)),
            case("unmodified", head(&[&unless(EARLIER)]), status(412)),
        ],
    );
}

/// RFC 9110 §13.2.1: they are for what would have been a 2xx.
#[test]
fn preconditions_are_not_for_what_fails_anyway() {
    let rows: [&[&str]; 5] =
        [&["If-Match: *"], &["If-Match: \"no\""], &["If-None-Match: *"], &[&unless(EARLIER)], &[&since(OLD_DATE)]];
    let cases = rows.map(|fields| case(fields[0], get_with("/none", fields), status(404)));
    check(&shared().server, cases);
}

#[test]
fn a_304_carries_what_a_cache_updates_and_no_more_bytes() {
    let tag = &shared().coded_tag;
    let rows = [
        (None, since(OLD_DATE)),
        (None, format!("If-None-Match: \"{tag}\"")),
        (None, format!("If-None-Match: W/\"{tag}\"")),
        (Some("gzip"), since(OLD_DATE)),
        (Some("deflate"), format!("If-None-Match: W/\"{tag}\"")),
        (Some("gzip"), format!("If-None-Match: \"{tag}\"")),
    ];
    for (coding, precondition) in rows {
        let accept = format!("Accept-Encoding: {}", coding.unwrap_or("identity"));
        let mut conn = shared().server.connect();
        conn.send(get_with("/c.js?maxage=9", &[&precondition, &accept]));
        let answer = conn.recv();
        assert_eq!(answer.status, 304, "{precondition} {accept}");
        assert!(answer.get("date").is_some(), "{answer}");
        assert_eq!(answer.get("cache-control"), Some("max-age=9"), "{answer}");
        assert_eq!(answer.get("last-modified"), Some(OLD_DATE), "{answer}");
        assert_eq!(answer.get("vary"), Some("Accept-Encoding"), "{answer}");
        assert_eq!(answer.get("content-length"), None, "{answer}");
        assert_eq!(answer.get("connection"), None, "{answer}");
        let expected = match coding {
            None => format!("\"{tag}\""),
            Some(_) => format!("W/\"{tag}\""),
        };
        assert_eq!(answer.get("etag"), Some(expected.as_str()), "{answer}");
        conn.assert_open();
    }
}
