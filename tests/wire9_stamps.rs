//! Wire sections 9 and 5, validators of quotes: stamps of symbols and of lists, tags, preconditions and 304.

use std::{collections::HashMap, time::Duration};

use crate::{
    cases::{Expect, case, check, get_with, status, with_host},
    conn::{http_date, parse_date},
    harness::{OLD, OLD_DATE, Response, Server, Site, at, now, wait_until},
    quotes::{ask, full_quote, list, script, symbols, table, wait_for_quotes, with_settings},
};

const LATER: &str = "Tue, 14 Nov 2023 22:13:21 GMT";
const EARLIER: &str = "Tue, 14 Nov 2023 22:13:19 GMT";

/// A site of enough files that one of them may go without an alarm.
fn site() -> Site {
    let site = Site::new();
    for n in 0..6 {
        site.file(&format!("other{n}.txt"), "other");
    }
    site
}

/// Seconds of `Last-Modified`, after making sure that their second is over.
fn last_modified(answer: &Response) -> Option<u64> {
    let modified = parse_date(answer.get("last-modified")?).expect("a sound Last-Modified");
    let date = parse_date(answer.get("date").expect("Date")).expect("a sound Date");
    assert!(modified < date, "the second of the stamp is not over: {answer}");
    Some(modified)
}

/// Waits until `/list=…` is sent with a stamp.
fn stamp(server: &Server, symbols: &str) -> u64 {
    let mut stamp = None;
    wait_until("Last-Modified is sent", || {
        stamp = last_modified(&server.get(&format!("/list={symbols}"), &[]));
        stamp.is_some()
    });
    stamp.unwrap()
}

fn etag(server: &Server, target: &str) -> String {
    server.get(target, &[]).get("etag").expect("an ETag").to_owned()
}

/// Whether a time of publication lies between two looks at the clock; a coarse clock may lag a tick.
#[track_caller]
fn assert_between(before: u64, stamp: u64, after: u64) {
    assert!((before - 1..=after).contains(&stamp), "{before} {stamp} {after}");
}

#[test]
fn at_the_first_load_the_stamp_is_the_tables_time() {
    let site = site();
    site.file("a.quotes", "a=1\nboth=a\n").file("b.quotes", "b=2\nboth=b\n").file("sub/c.quotes", "c=3\n");
    site.mtime("b.quotes", at(OLD + 50) + Duration::from_millis(999)).mtime("sub/c.quotes", at(OLD + 20));
    let before = now();
    let server = Server::start(&site);
    for (symbols, expected) in [
        ("a", OLD),
        ("b", OLD + 50),
        ("c", OLD + 20),
        ("a,b", OLD + 50),
        ("b,a,b", OLD + 50),
        ("a,c", OLD + 20),
        ("c,a,none", OLD + 20),
        ("none,a", OLD),
        ("both", OLD),
    ] {
        assert_eq!(stamp(&server, symbols), expected, "{symbols}");
        let json = server.get(&format!("/list={symbols}&format=json"), &[]);
        assert_eq!(last_modified(&json), Some(expected), "{symbols} in JSON");
    }
    assert!(before > OLD + 50);
}

/// Whatever order the tables are read in, a symbol that several of them have is of the time of the one that counts.
#[test]
fn at_the_first_load_the_stamp_is_of_the_table_that_counts() {
    for is_rising in [true, false] {
        let site = site();
        for n in 0..20 {
            let name = format!("{n:02}.quotes");
            site.file(&name, format!("both={n}\nonly{n}=1\n"));
            site.mtime(&name, at(OLD + if is_rising { n } else { 50 - n }));
        }
        let server = Server::start(&site);
        assert_eq!(ask(&server, "both"), script(&[("both", "0")]));
        assert_eq!(stamp(&server, "both"), if is_rising { OLD } else { OLD + 50 });
        assert_eq!(stamp(&server, "both,only19"), if is_rising { OLD + 19 } else { OLD + 50 });
    }
}

/// As reproducible images have it.
#[test]
fn a_table_of_1970_is_of_1970() {
    for seconds in [0, 1] {
        let site = site();
        site.file("a.quotes", "a=1\n").mtime("a.quotes", at(seconds)).mtime("other1.txt", at(seconds));
        let server = Server::start(&site);
        let of_file = server.get("/other1.txt", &[]).get("last-modified").map(str::to_owned);
        assert_eq!(server.get("/list=a", &[]).get("last-modified"), of_file.as_deref(), "{seconds}");
        assert_eq!(stamp(&server, "a"), seconds);
    }
}

#[test]
fn a_table_from_the_future_is_stamped_with_the_time_of_publication() {
    let site = site();
    site.file("a.quotes", "a=1\n").mtime("a.quotes", at(now() + 100_000));
    let before = now();
    let server = Server::start(&site);
    let after = now();
    assert_between(before, stamp(&server, "a"), after);
}

/// Whatever the time of the file says.
#[test]
fn a_change_is_stamped_with_the_time_of_publication() {
    let site = site();
    site.file("q.quotes", "a=1\nb=1\n");
    let server = Server::start(&site);
    for (tick, mtime) in [(2, OLD - 1000), (3, OLD), (4, OLD + 50), (5, now() + 100_000)] {
        let (before, payload) = (now(), tick.to_string());
        site.replace("q.quotes", format!("a={tick}\nb=1\n"), at(mtime));
        wait_for_quotes(&server, "a", &[("a", &payload)]);
        let after = now();
        assert_between(before, stamp(&server, "a"), after);
        assert_between(before, stamp(&server, "b,a"), after);
    }
}

#[test]
fn a_symbol_that_stays_the_same_keeps_its_stamp() {
    let site = site();
    site.file("q.quotes", "# first\nquiet=same\nbusy=1\ncalm=\"\\\n");
    let server = Server::start(&site);
    let since = format!("If-Modified-Since: {OLD_DATE}");
    let tag = etag(&server, "/list=quiet,calm");
    for tick in 2..6 {
        let payload = tick.to_string();
        // In another order, with other comments, other line ends.
        site.replace("q.quotes", format!("busy={tick}\r\ncalm=\"\\\n\n# {tick}\nquiet=same"), at(now()));
        wait_for_quotes(&server, "busy", &[("busy", &payload)]);
        check(
            &server,
            [
                case("quiet", get_with("/list=quiet", &[&since]), status(304).with("Last-Modified", OLD_DATE)),
                case("both", get_with("/list=quiet,calm", &[&since]), status(304).with("Last-Modified", OLD_DATE)),
                case("unknown too", get_with("/list=none,quiet", &[&since]), status(304)),
                case("JSON", get_with("/list=quiet&format=json", &[&since]), status(304)),
                case("with a busy one", get_with("/list=quiet,busy", &[&since]), status(200)),
                case("by tag", get_with("/list=quiet,calm", &[&format!("If-None-Match: {tag}")]), status(304)),
            ],
        );
    }
}

#[test]
fn a_touch_changes_nothing() {
    let site = site();
    site.file("q.quotes", "a=1\nb=2\n").file("z.quotes", "z=1\n");
    let server = Server::start(&site);
    let tag = etag(&server, "/list=a,b");
    site.mtime("q.quotes", at(now()));
    site.replace("q.quotes", "a=1\nb=2\n", at(now()));
    site.replace("q.quotes", "# now\nb=2\n\na=1\n", at(OLD + 500));
    // Whatever came of it has come before this.
    site.replace("z.quotes", "z=2\n", at(now()));
    wait_for_quotes(&server, "z", &[("z", "2")]);
    assert_eq!((stamp(&server, "a,b"), etag(&server, "/list=a,b")), (OLD, tag));
}

#[test]
fn a_removal_counts() {
    let site = site();
    site.file("q.quotes", "a=1\nb=2\nc=3\n");
    let server = Server::start(&site);
    let before = now();
    site.replace("q.quotes", "a=1\nc=3\n", at(OLD + 10));
    wait_for_quotes(&server, "a,b", &[("a", "1"), ("b", "")]);
    let after = now();
    assert_between(before, stamp(&server, "a,b"), after);
    assert_eq!(stamp(&server, "a,c"), OLD);
    // None of these is known.
    for symbols in ["b", "b,none", "none"] {
        let answer = server.get(&format!("/list={symbols}"), &[]);
        assert_eq!((answer.status, answer.get("last-modified")), (200, None), "{symbols}: {answer}");
    }
    let before = now();
    site.replace("q.quotes", "a=1\nb=2\nc=3\n", at(OLD + 20));
    wait_for_quotes(&server, "b", &[("b", "2")]);
    let after = now();
    assert_between(before, stamp(&server, "b"), after);
}

#[test]
fn a_table_that_goes_is_the_removal_of_its_symbols() {
    let site = site();
    site.file("a.quotes", "a=1\n").file("b.quotes", "b=2\n");
    let server = Server::start(&site);
    let before = now();
    site.remove("b.quotes");
    wait_for_quotes(&server, "a,b", &[("a", "1"), ("b", "")]);
    let after = now();
    assert_between(before, stamp(&server, "a,b"), after);
    assert_eq!(server.get("/list=b", &[]).get("last-modified"), None);
    let before = now();
    site.replace("b.quotes", "b=2\n", at(OLD));
    wait_for_quotes(&server, "b", &[("b", "2")]);
    let after = now();
    assert_between(before, stamp(&server, "b"), after);
}

/// Both tables have it with the same payload; it passes from the one to the other.
#[test]
fn a_symbol_that_changes_its_table_but_not_its_payload_is_unchanged() {
    let site = site();
    site.file("a.quotes", "x=1\ny=1\n").file("b.quotes", "x=1\n").file("c.quotes", "c=1\n");
    let server = Server::start(&site);
    site.replace("a.quotes", "y=2\n", at(now()));
    wait_for_quotes(&server, "y,x", &[("y", "2"), ("x", "1")]);
    assert_eq!(stamp(&server, "x"), OLD);
}

#[test]
fn no_stamp_no_conditions_by_date() {
    let site = site();
    site.file("q.quotes", "a=1\n");
    let server = Server::start(&site);
    let whole = || status(200).without("Last-Modified").body(script(&[("none", "")]));
    let rows = [OLD_DATE, EARLIER, "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 14 Nov 2053 22:13:20 GMT"];
    let cases = rows.iter().flat_map(|date| {
        ["If-Modified-Since", "If-Unmodified-Since"].map(|name| {
            let field = format!("{name}: {date}");
            case(field.clone(), get_with("/list=none", &[&field]), whole())
        })
    });
    check(&server, cases);
    let tag = etag(&server, "/list=none");
    let matched = format!("If-None-Match: {tag}");
    check(&server, [case("by tag", get_with("/list=none", &[&matched]), status(304).without("Last-Modified"))]);
    for date in rows {
        let range = get_with("/list=none", &["Range: bytes=0-2", &format!("If-Range: {date}")]);
        check(&server, [case("If-Range", range, whole())]);
    }
}

#[test]
fn preconditions() {
    let site = site();
    site.file("q.quotes", "a=1\nb=2\n");
    let server = Server::start(&site);
    let tag = etag(&server, "/list=a,b");
    let whole = || status(200).body(script(&[("a", "1"), ("b", "2")]));
    let fresh =
        || status(304).body("").without("Content-Length").with("ETag", tag.clone()).with("Last-Modified", OLD_DATE);
    let rows: Vec<(Vec<String>, Expect)> = vec![
        (vec![format!("If-None-Match: {tag}")], fresh()),
        (vec![format!("If-None-Match: W/{tag}")], fresh()),
        (vec![format!("If-None-Match: \"no\", {tag}")], fresh()),
        (vec!["If-None-Match: *".into()], fresh()),
        (vec!["If-None-Match: \"no\"".into()], whole()),
        (vec!["If-None-Match: \"no\"".into(), format!("If-Modified-Since: {OLD_DATE}")], whole()),
        (vec![format!("If-Modified-Since: {OLD_DATE}")], fresh()),
        (vec![format!("If-Modified-Since: {OLD_DATE}; length=6")], fresh()),
        (vec!["If-Modified-Since: Tuesday, 14-Nov-23 22:13:20 GMT".into()], fresh()),
        (vec![format!("If-Modified-Since: {LATER}")], whole()),
        (vec![format!("If-Modified-Since: {EARLIER}")], whole()),
        (vec![format!("If-Modified-Since: {OLD_DATE}"), format!("If-Modified-Since: {OLD_DATE}")], whole()),
        (vec![format!("If-Match: {tag}")], whole()),
        (vec!["If-Match: *".into()], whole()),
        (vec![format!("If-Match: W/{tag}")], status(412)),
        (vec!["If-Match: \"no\"".into()], status(412)),
        (vec![format!("If-Unmodified-Since: {OLD_DATE}")], whole()),
        (vec![format!("If-Unmodified-Since: {EARLIER}")], status(412)),
        (vec![format!("If-Match: {tag}"), format!("If-Unmodified-Since: {EARLIER}")], whole()),
        (vec!["If-Match: \"no\"".into(), format!("If-None-Match: {tag}")], status(412)),
        (vec![format!("If-None-Match: {tag}"), "Range: bytes=0-0".into()], fresh()),
        (vec!["If-None-Match: \"no\"".into(), "Range: bytes=0-0".into()], status(206).body("v")),
    ];
    let cases = rows.into_iter().flat_map(|(fields, expect)| {
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let name = fields.join(", ");
        let head = with_host("HEAD", "/list=a,b", &fields, "");
        let of_head = (!name.contains("Range") && !name.is_empty())
            .then(|| case(format!("HEAD {name}"), head, expect.clone().body("")));
        [Some(case(name, get_with("/list=a,b", &fields), expect)), of_head].into_iter().flatten()
    });
    check(&server, cases);
}

#[test]
fn tags_follow_the_content_alone() {
    let sites = [site(), site()];
    sites[0].file("one.quotes", "a=1\nb=2\nc=3\nd=1\n");
    sites[1].file("z.quotes", "c=3\nmore=9\n").file("sub/y.quotes", "b=2\nd=1\n").file("x.quotes", "a=1\n");
    sites[1].mtime("x.quotes", at(OLD + 77));
    let servers = sites.each_ref().map(Server::start);
    let targets = ["/list=a", "/list=a,b", "/list=b,a", "/list=a,b,c", "/list=a,a", "/list=a,none", "/list=none,a"];
    let json = ["/list=a&format=json", "/list=a,b&format=json", "/list=b,a&format=json", "/list=none&format=json"];
    let mut tags = HashMap::new();
    for target in targets.iter().chain(&json).chain(&["/list=none", "/list=d", "/list=a,d"]) {
        let [one, other] = servers.each_ref().map(|server| etag(server, target));
        assert_eq!(one, other, "{target}");
        assert!(one.len() > 2 && one.starts_with('"') && one.ends_with('"'), "{target}: {one}");
        let twin = tags.insert(one, *target);
        assert_eq!(twin, None, "the tag of {target}");
    }
    for same in ["/?list=a,b", "/rn=1&list=a,b&maxage=7", "/list=%61%2Cb?x"] {
        assert_eq!(etag(&servers[0], same), etag(&servers[1], "/list=a,b"), "{same}");
    }
    assert_eq!(etag(&servers[0], "/list=a,b,a&format=json"), etag(&servers[0], "/list=a,b&format=json"));
}

#[test]
fn tags_change_with_a_payload_and_come_back_with_it() {
    let site = site();
    site.file("q.quotes", "a=1\nb=2\n");
    let server = Server::start(&site);
    let first = etag(&server, "/list=a,b");
    site.replace("q.quotes", "a=2\nb=2\n", at(now()));
    wait_for_quotes(&server, "a", &[("a", "2")]);
    assert_ne!(etag(&server, "/list=a,b"), first);
    // Swapped payloads are other content.
    site.replace("q.quotes", "a=2\nb=1\n", at(now()));
    wait_for_quotes(&server, "b", &[("b", "1")]);
    assert_ne!(etag(&server, "/list=a,b"), first);
    site.replace("q.quotes", "a=1\nb=2\n", at(now()));
    wait_for_quotes(&server, "a,b", &[("a", "1"), ("b", "2")]);
    assert_eq!(etag(&server, "/list=a,b"), first);
}

#[test]
fn a_304_carries_what_a_cache_updates() {
    let site = site();
    let quotes = symbols(50).into_iter().enumerate().map(|(n, symbol)| (symbol, full_quote(n as u64)));
    site.file("q.quotes", table(quotes));
    let server = Server::start(&site);
    let path = list(&symbols(50)) + "&maxage=9";
    let tag = etag(&server, &path);
    for (coding, field) in [
        ("identity", format!("If-Modified-Since: {OLD_DATE}")),
        ("identity", format!("If-None-Match: W/{tag}")),
        ("gzip", format!("If-Modified-Since: {OLD_DATE}")),
        ("gzip", format!("If-None-Match: {tag}")),
        ("deflate", format!("If-None-Match: W/{tag}")),
    ] {
        let mut conn = server.connect();
        conn.send(get_with(&path, &[&field, &format!("Accept-Encoding: {coding}")]));
        let answer = conn.recv();
        assert_eq!(answer.status, 304, "{field} {coding}: {answer}");
        assert!(answer.get("date").is_some(), "{answer}");
        assert_eq!(answer.get("cache-control"), Some("max-age=9"), "{answer}");
        assert_eq!(answer.get("last-modified"), Some(OLD_DATE), "{answer}");
        assert_eq!(answer.get("vary"), Some("Accept-Encoding"), "{answer}");
        assert_eq!((answer.get("content-length"), answer.get("connection")), (None, None), "{answer}");
        let expected = if coding == "identity" { tag.clone() } else { format!("W/{tag}") };
        assert_eq!(answer.get("etag"), Some(expected.as_str()), "{answer}");
        conn.assert_open();
    }
}

/// Against `"h"`, whatever coding would be sent.
#[test]
fn if_match_is_against_the_strong_tag_of_a_coded_answer_too() {
    let site = site();
    let quotes = symbols(50).into_iter().enumerate().map(|(n, symbol)| (symbol, full_quote(n as u64)));
    site.file("q.quotes", table(quotes));
    let server = Server::start(&site);
    let path = list(&symbols(50));
    let tag = etag(&server, &path);
    let (strong, weak) = (format!("If-Match: {tag}"), format!("If-Match: W/{tag}"));
    for coding in ["gzip", "deflate"] {
        let accept = format!("Accept-Encoding: {coding}");
        let coded = status(200).with("Content-Encoding", coding).with("ETag", format!("W/{tag}"));
        check(
            &server,
            [
                case("strong", get_with(&path, &[&strong, &accept]), coded),
                case("weak", get_with(&path, &[&weak, &accept]), status(412)),
            ],
        );
    }
}

/// While the stamp's second is not over it is not said, and counts all the same for `If-Unmodified-Since`.
#[test]
fn a_stamp_is_withheld_while_its_second_runs() {
    let site = site();
    site.file("q.quotes", "a=1\nb=2\n");
    let server = Server::start(&site);
    site.replace("q.quotes", "a=2\nb=2\n", at(OLD + 5));
    wait_for_quotes(&server, "a", &[("a", "2")]);
    let late = "If-Unmodified-Since: Fri, 14 Nov 2053 22:13:20 GMT";
    let old = format!("If-Unmodified-Since: {OLD_DATE}");
    check(
        &server,
        [
            case("earlier", get_with("/list=a", &[&old]), status(412)),
            case("earlier, with a quiet one", get_with("/list=b,a", &[&old]), status(412)),
            case("of the quiet one", get_with("/list=b", &[&old]), status(200)),
            case("later", get_with("/list=a", &[late]), status(200)),
        ],
    );
    stamp(&server, "a");
}

/// Several versions a second, for seconds: no two contents ever go out under one `Last-Modified`, or under one tag, a 304
/// is for what its date was sent with, and a poller that knows nothing but dates is not stuck.
#[test]
fn no_two_versions_share_a_date() {
    let site = site();
    site.file("q.quotes", "a=0\nb=0\nquiet=1\n").file("r.quotes", "c=0\n");
    let server = Server::start(&site);
    let lists = ["a", "b", "a,b", "c,a", "quiet,b", "quiet"];
    let mut dates: HashMap<(&str, String), String> = HashMap::new();
    let mut tags: HashMap<String, String> = HashMap::new();
    let mut held: HashMap<&str, (String, String)> = HashMap::new();
    let mut look = |conn: &mut crate::harness::Conn| {
        for list in lists {
            let since = held.get(list).map(|(date, _)| format!("If-Modified-Since: {date}"));
            conn.send(get_with(format!("/list={list}"), since.as_deref().as_slice()));
            let answer = conn.recv();
            let now = answer.get("date").and_then(parse_date).expect("a Date");
            let Some(date) = last_modified(&answer).map(http_date) else { continue };
            if answer.status == 304 {
                assert!(held[list].0 == date && parse_date(&date) < Some(now), "{list}: {answer}");
                // What it holds is what is served: asked again without a condition, on this very connection.
                conn.send(get_with(format!("/list={list}"), &[]));
                let whole = conn.recv();
                assert!(whole.text() == held[list].1 || whole.get("last-modified") != Some(&date), "{list}: {whole}");
                continue;
            }
            let text = answer.text();
            let known = dates.entry((list, date.clone())).or_insert_with(|| text.clone());
            assert_eq!(*known, text, "{list}: two versions of {date}");
            held.insert(list, (date, text.clone()));
            let tag = answer.get("etag").expect("an ETag").to_owned();
            assert_eq!(*tags.entry(tag).or_insert_with(|| text.clone()), text, "{list}: one tag");
        }
    };
    let mut conn = server.connect();
    let end = now() + 4;
    let mut tick = 0;
    while now() < end {
        tick += 1;
        site.replace("q.quotes", format!("a={tick}\nb={}\nquiet=1\n", tick / 7), at(OLD + tick));
        if tick % 3 == 0 {
            site.replace("r.quotes", format!("c={}\n", tick % 2), at(OLD));
        }
        let payload = tick.to_string();
        wait_until("the tick", || {
            look(&mut conn);
            ask(&server, "a") == script(&[("a", &payload)])
        });
    }
    let payload = tick.to_string();
    wait_until("the poller to hold the last version", || {
        look(&mut conn);
        conn.send(get_with("/list=a", &[]));
        let answer = conn.recv();
        answer.text() == script(&[("a", &payload)]) && answer.get("last-modified").is_some()
    });
    look(&mut conn);
    assert_eq!(held["a"].1, script(&[("a", &payload)]));
    assert_eq!(held["quiet"].0, OLD_DATE);
}

/// A restart sends the dates of the tables again, so that pollers of the run before get 304 where nothing has changed.
#[test]
fn a_restart_knows_the_tables_times() {
    let site = site();
    site.file("q.quotes", "a=1\n");
    let since = format!("If-Modified-Since: {OLD_DATE}");
    for settings in ["", "[quotes]\nmaxage = 2\n"] {
        let mut server = with_settings(&site, settings).start();
        check(&server, [case("since", get_with("/list=a", &[&since]), status(304))]);
        assert_eq!(server.stop().code(), Some(0));
    }
}
