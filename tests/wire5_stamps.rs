//! Wire section 5, what a version is stamped with: `Last-Modified` and `ETag`, and that no two versions
//! ever share one.
//!
//! Files change here under a running server, so these tests wait, for a second to be over or for the
//! change to be seen, but never for a time that is only likely to be enough.

use std::fs;

use crate::cases::{case, check, get_with, status};
use crate::conn::parse_date;
use crate::harness::{OLD, OLD_DATE, Response, Server, Site, at, now, wait_until};

/// Seconds of `Last-Modified`, after making sure that their second is over.
fn last_modified(answer: &Response) -> Option<u64> {
    let modified = parse_date(answer.get("last-modified")?).expect("a sound Last-Modified");
    let date = parse_date(answer.get("date").expect("Date")).expect("a sound Date");
    assert!(modified < date, "the second of the stamp is not over: {answer}");
    Some(modified)
}

/// Waits until `path` has that body.
fn wait_for(server: &Server, path: &str, body: &str) {
    wait_until(&format!("{path} is {body:?}"), || {
        let answer = server.get(path, &[]);
        last_modified(&answer);
        answer.body == body.as_bytes()
    });
}

/// Waits until `path` is sent with a stamp.
fn stamp(server: &Server, path: &str) -> u64 {
    let mut stamp = None;
    wait_until("Last-Modified is sent", || {
        stamp = last_modified(&server.get(path, &[]));
        stamp.is_some()
    });
    stamp.unwrap()
}

fn etag(server: &Server, path: &str) -> String {
    let answer = server.get(path, &[]);
    answer.get("etag").expect("an ETag").to_owned()
}

/// Whether a time of publication lies between two looks at the clock; a coarse clock may lag a tick.
fn published_between(before: u64, stamp: u64, after: u64) -> bool {
    (before - 1..=after).contains(&stamp)
}

/// A site of enough files that one of them may go without an alarm.
fn site() -> Site {
    let site = Site::new();
    for n in 0..5 {
        site.file(&format!("other{n}.txt"), "other");
    }
    site.file("a.txt", "one");
    site
}

#[test]
fn stamp_is_the_mtime() {
    let site = site();
    site.mtime("a.txt", at(OLD) + std::time::Duration::from_millis(999));
    let server = Server::start(&site);
    assert_eq!(server.get("/a.txt", &[]).get("last-modified"), Some(OLD_DATE));
    assert_eq!(server.get("/other1.txt", &[]).get("last-modified"), Some(OLD_DATE));
    site.replace("a.txt", "two", at(OLD + 50));
    wait_for(&server, "/a.txt", "two");
    assert_eq!(stamp(&server, "/a.txt"), OLD + 50);
}

#[test]
fn stamp_is_at_most_the_time_of_publication() {
    let site = site();
    site.mtime("a.txt", at(now() + 100_000));
    let before = now();
    let server = Server::start(&site);
    let after = now();
    let first = stamp(&server, "/a.txt");
    assert!(published_between(before, first, after), "{before} {first} {after}");
    site.replace("a.txt", "two", at(now() + 200_000));
    wait_for(&server, "/a.txt", "two");
    let after = now();
    let second = stamp(&server, "/a.txt");
    assert!((first + 1..=after).contains(&second), "{first} {second} {after}");
}

/// A new version whose mtime is not later than the last stamp is stamped with the time of publication.
fn check_restamped(mtime: u64, path: &str) {
    let site = site();
    let server = Server::start(&site);
    let old = stamp(&server, "/a.txt");
    let before = now();
    site.replace("a.txt", "two", at(mtime));
    wait_for(&server, path, "two");
    let after = now();
    let new = stamp(&server, path);
    assert!(new > old, "{old} {new}");
    assert!(published_between(before, new, after), "{before} {new} {after}");
    let fields = [format!("If-Modified-Since: {OLD_DATE}")];
    let answer = server.get(path, &[&fields[0]]);
    assert_eq!((answer.status, answer.text().as_str()), (200, "two"));
}

#[test]
fn rollback_is_stamped_with_the_time_of_publication() {
    check_restamped(OLD - 1000, "/a.txt");
}

#[test]
fn preserved_mtime_is_stamped_with_the_time_of_publication() {
    check_restamped(OLD, "/a.txt");
}

#[test]
fn file_made_again_is_stamped_with_the_time_of_publication() {
    let site = site();
    let server = Server::start(&site);
    let old = stamp(&server, "/a.txt");
    site.remove("a.txt");
    wait_until("a.txt is gone", || server.get("/a.txt", &[]).status == 404);
    let before = now();
    site.replace("a.txt", "two", at(OLD - 10));
    wait_for(&server, "/a.txt", "two");
    let after = now();
    let new = stamp(&server, "/a.txt");
    assert!(new > old, "{old} {new}");
    assert!(published_between(before, new, after), "{before} {new} {after}");
}

#[test]
fn versions_in_quick_succession_never_share_a_stamp() {
    let site = site();
    let server = Server::start(&site);
    let mut sent: Vec<(u64, String)> = Vec::new();
    for n in 0..60 {
        let text = format!("version {n}");
        site.replace("a.txt", &text, at(now()));
        // Not every version need be seen, but whatever is seen with a stamp has it alone.
        wait_until("some later version is there", || {
            let answer = server.get("/a.txt", &[]);
            if let Some(stamp) = last_modified(&answer) {
                sent.push((stamp, answer.text()));
            }
            answer.text() == text
        });
        std::thread::sleep(std::time::Duration::from_millis(37));
    }
    let text = server.get("/a.txt", &[]).text();
    sent.push((stamp(&server, "/a.txt"), text));
    sent.sort();
    sent.dedup();
    for pair in sent.windows(2) {
        assert_ne!(pair[0].0, pair[1].0, "two versions under one Last-Modified");
    }
}

#[test]
fn touch_changes_nothing() {
    let site = site();
    let server = Server::start(&site);
    let tag = etag(&server, "/a.txt");
    site.mtime("a.txt", at(OLD + 500));
    site.replace("a.txt", "one", at(OLD + 600));
    // What happened in this directory before the sentinel has been seen with it or before.
    for sentinel in ["first.txt", "second.txt"] {
        site.replace(sentinel, "seen", at(OLD));
        wait_for(&server, &format!("/{sentinel}"), "seen");
        assert_eq!(server.get("/a.txt", &[]).get("last-modified"), Some(OLD_DATE));
        assert_eq!(etag(&server, "/a.txt"), tag);
    }
    let since = format!("If-Modified-Since: {OLD_DATE}");
    assert_eq!(server.get("/a.txt", &[&since]).status, 304);
}

#[test]
fn last_modified_is_left_out_while_its_second_lasts() {
    let site = site();
    let server = Server::start(&site);
    for n in 0..5 {
        let text = format!("now {n}");
        site.replace("a.txt", &text, at(now()));
        wait_for(&server, "/a.txt", &text);
        // Both clocks are one: while this second lasts, so does the stamp's.
        let second = now();
        let answer = server.get("/a.txt", &[]);
        let seen = last_modified(&answer);
        if now() == second && answer.get("date").and_then(parse_date) == Some(second) {
            assert!(seen.is_none_or(|stamp| stamp < second), "{answer}");
            if seen.is_none() {
                return;
            }
        }
        stamp(&server, "/a.txt");
    }
    panic!("five times published, never seen within the second");
}

/// 304 says that the date is the `Last-Modified` that would be sent, so it says which.
#[test]
fn no_304_by_date_while_last_modified_is_left_out() {
    let site = site();
    let server = Server::start(&site);
    for n in 0..2 {
        let text = format!("now {n}");
        site.replace("a.txt", &text, at(now()));
        wait_for(&server, "/a.txt", &text);
        let mut known = false;
        wait_until("the stamp is sent", || {
            let date = server.get("/a.txt", &[]).get("date").unwrap().to_owned();
            let answer = server.get("/a.txt", &[&format!("If-Modified-Since: {date}")]);
            let modified = answer.get("last-modified");
            match answer.status {
                200 => {
                    assert_ne!(modified, Some(date.as_str()), "{answer}");
                    known = modified.is_some();
                }
                304 => assert_eq!(modified, Some(date.as_str()), "{answer}"),
                _ => panic!("{answer}"),
            }
            known
        });
    }
}

#[test]
fn if_unmodified_since_is_judged_by_the_stamp_that_is_left_out() {
    let site = site();
    let server = Server::start(&site);
    site.replace("a.txt", "two", at(now()));
    wait_for(&server, "/a.txt", "two");
    // Whether Last-Modified is sent yet or not, the stamp is of today.
    let old = format!("If-Unmodified-Since: {OLD_DATE}");
    let late = "If-Unmodified-Since: Fri, 14 Nov 2053 22:13:20 GMT";
    check(
        &server,
        [
            case("earlier", get_with("/a.txt", &[&old]), status(412)),
            case("later", get_with("/a.txt", &[late]), status(200).body("two")),
        ],
    );
}

#[test]
fn etag_is_strong_on_identity_and_weak_on_codings() {
    let site = Site::new();
    site.file("c.js", "var a = 1;\n".repeat(400));
    let server = Server::start(&site);
    let strong = etag(&server, "/c.js");
    assert!(strong.len() > 2 && strong.starts_with('"') && strong.ends_with('"'), "{strong}");
    let opaque = |b: u8| b == 0x21 || (0x23..=0x7e).contains(&b);
    assert!(strong[1..strong.len() - 1].bytes().all(opaque), "{strong}");
    for coding in ["gzip", "deflate"] {
        let answer = server.get("/c.js", &[&format!("Accept-Encoding: {coding}")]);
        assert_eq!(answer.get("content-encoding"), Some(coding));
        let weak = format!("W/{strong}");
        assert_eq!(answer.get("etag"), Some(weak.as_str()), "{answer}");
    }
    let part = server.get("/c.js", &["Range: bytes=0-3"]);
    assert_eq!(part.get("etag"), Some(strong.as_str()), "{part}");
}

#[test]
fn etag_is_of_the_content_alone() {
    let sites = [Site::new(), Site::new()];
    sites[0].file("a.txt", "same").file("b.txt", "other");
    sites[1].file("a.txt", "same").mtime("a.txt", at(OLD + 77));
    fs::create_dir(sites[1].data().join("deep")).unwrap();
    sites[1].file("deep/a.js", "same").file("b.txt", "Other");
    let servers = sites.each_ref().map(Server::start);
    let tag = etag(&servers[0], "/a.txt");
    assert_eq!(etag(&servers[1], "/a.txt"), tag);
    assert_ne!(etag(&servers[0], "/b.txt"), tag);
    assert_ne!(etag(&servers[0], "/b.txt"), etag(&servers[1], "/b.txt"));
}

#[test]
fn etag_follows_the_content() {
    let site = site();
    let server = Server::start(&site);
    let one = etag(&server, "/a.txt");
    site.replace("a.txt", "two", at(OLD + 10));
    wait_for(&server, "/a.txt", "two");
    assert_ne!(etag(&server, "/a.txt"), one);
    site.replace("a.txt", "one", at(OLD + 20));
    wait_for(&server, "/a.txt", "one");
    assert_eq!(etag(&server, "/a.txt"), one);
}
