//! Freshness that can be seen: metrics, pages of entries, what is refused, what does not fit.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

use crate::harness::{Server, Site, wait_until};

fn status(server: &Server, query: &str) -> Value {
    let answer = server.admin_get(&format!("/status.json{query}"), &["Host: localhost"]);
    serde_json::from_slice(&answer.body).unwrap()
}

fn metric(server: &Server, name: &str) -> f64 {
    let text = server.admin_get("/metrics", &["Host: localhost"]).text();
    let line = text.lines().find(|line| line.split([' ', '{']).next() == Some(name));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

#[test]
fn entries_come_in_pages() {
    let site = Site::new();
    for number in 0..25 {
        site.file(&format!("f{number:02}.txt"), "some text ".repeat(number));
    }
    let server = Server::start(&site);
    let mut seen = BTreeSet::new();
    for page in 1..=3 {
        let entries = &status(&server, &format!("?page={page}&per_page=10"))["entries"];
        assert_eq!((&entries["total"], &entries["pages"]), (&26.into(), &3.into()));
        for entry in entries["list"].as_array().unwrap() {
            assert!(seen.insert(entry["path"].as_str().unwrap().to_owned()), "{entry} stands twice");
            assert!(entry["age_seconds"].as_u64().unwrap() > 1_000_000 && entry["is_last_good_version"] == false);
        }
    }
    assert_eq!(seen.len(), 26);
    for odd in ["?page=99", "?page=0", "?per_page=0", "?page=x", "?page=18446744073709551615&per_page=9999999"] {
        assert_eq!(status(&server, odd)["entries"]["total"], 26, "{odd}");
    }
}

#[test]
fn a_version_that_outlives_its_file_is_marked() {
    let site = Site::new();
    site.file("a.txt", "good");
    let server = Server::start(&site);
    let entry = |name: &str| {
        let status = status(&server, "");
        let list = status["entries"]["list"].as_array().unwrap().clone();
        list.into_iter().find(|entry| entry["path"] == name).unwrap()
    };
    assert_eq!(entry("/a.txt")["is_last_good_version"], false);
    std::fs::File::create(site.data().join("large")).unwrap().set_len(65 << 20).unwrap();
    std::fs::rename(site.data().join("large"), site.data().join("a.txt")).unwrap();
    wait_until("the refusal", || entry("/a.txt")["is_last_good_version"] == true);
    assert!(entry("/a.txt")["rejection"].as_str().unwrap().contains("limit"));
    assert_eq!(status(&server, "")["rejections"][0]["file"], "a.txt");
    assert_eq!(server.get("/a.txt", &[]).text(), "good");
    site.file("a.txt", "better");
    wait_until("the mark to go", || entry("/a.txt")["is_last_good_version"] == false);
    assert_eq!(status(&server, "")["rejections"].as_array().unwrap().len(), 0);
}

#[test]
fn ages_and_delays_are_measured() {
    let site = Site::new();
    let server = Server::start(&site);
    assert_eq!(metric(&server, "cloudia_change_visible_seconds_count"), 0.0);
    let oldest = metric(&server, "cloudia_oldest_entry_timestamp_seconds");
    site.replace("new.txt", "new", std::time::SystemTime::now());
    wait_until("the change", || server.get("/new.txt", &[]).status == 200);
    wait_until("its delay", || metric(&server, "cloudia_change_visible_seconds_count") >= 1.0);
    assert!(metric(&server, "cloudia_newest_entry_timestamp_seconds") > oldest);
    assert_eq!(metric(&server, "cloudia_oldest_entry_timestamp_seconds"), oldest);
}

#[test]
fn what_does_not_fit_is_refused_and_the_rest_is_served() {
    let site = Site::new();
    let noise = |seed: u32| -> Vec<u8> {
        let next = |x: &u32| Some(x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        std::iter::successors(Some(seed), next).take(300_000).map(|x| (x >> 24) as u8).collect()
    };
    for number in 0..5 {
        site.file(&format!("n{number}.bin"), noise(number));
    }
    let server = Server::builder(&site).flag("--memory-limit", "1M").start();
    let served = (0..5).filter(|number| server.get(&format!("/n{number}.bin"), &[]).status == 200).count();
    assert_eq!(served, 3, "of 300 kB each within a MiB");
    assert!(server.stderr().contains("--memory-limit"), "{}", server.stderr());
    assert_eq!(server.get("/alive.txt", &[]).status, 200);
    // A smaller version has room; a larger one has not, and the last one stays.
    site.file("n0.bin", "small");
    site.file("alive.txt", noise(9).repeat(3));
    wait_until("the smaller version", || server.get("/n0.bin", &[]).text() == "small");
    assert_eq!(server.get("/alive.txt", &[]).text(), "alive\n");
}

#[test]
fn check_lists_what_is_served_and_what_is_refused() {
    let site = Site::new();
    site.file("page.html", "<p>hello hello hello hello hello".repeat(20))
        .file("bad.js.mz", "junk")
        .file(".hidden", "x");
    let check = || {
        let run =
            Command::new(env!("CARGO_BIN_EXE_cloudia")).args(["check", "--data"]).arg(site.data()).output().unwrap();
        (run.status.code(), String::from_utf8(run.stdout).unwrap())
    };
    let (code, table) = check();
    assert_eq!(code, Some(1), "{table}");
    assert!(table.contains("/page.html") && table.contains("text/html") && table.contains("deflate"), "{table}");
    assert!(table.contains("refused (corrupt): \"bad.js.mz\""), "{table}");
    assert!(!table.contains("hidden"), "{table}");
    site.remove("bad.js.mz");
    assert_eq!(check().0, Some(0));
    let none =
        Command::new(env!("CARGO_BIN_EXE_cloudia")).args(["check", "--data", "/no/such/directory"]).output().unwrap();
    assert_eq!(none.status.code(), Some(1));
    assert!(String::from_utf8(none.stderr).unwrap().contains("/no/such/directory"));
}
