//! `/metrics` as Python's Prometheus client reads it, and that it counts what was done.

use std::{
    collections::BTreeMap,
    io::Write,
    process::{Command, Stdio},
    sync::OnceLock,
};

use crate::{
    cases::{get, get_with, with_host},
    harness::{Conn, OLD_DATE, Server, Site, at, wait_until},
};

/// Prints `type name` for each family and `name{label=value} number` for each sample, and refuses what is ill-formed.
const READ: &str = "
import math, sys
from prometheus_client.parser import text_string_to_metric_families
seen = set()
for family in text_string_to_metric_families(sys.stdin.read()):
    assert family.documentation.strip(), family.name + ' has no help'
    assert family.type in ('counter', 'gauge', 'histogram'), family
    assert family.samples, family.name + ' has no samples'
    assert family.name not in seen, family.name + ' stands twice'
    seen.add(family.name)
    print('TYPE', family.type, family.name)
    for sample in family.samples:
        labels = ','.join(k + '=' + v for k, v in sorted(sample.labels.items()))
        key = (sample.name, labels)
        assert key not in seen, key
        seen.add(key)
        assert sample.value >= 0 and math.isfinite(sample.value), sample
        print(sample.name + '{' + labels + '}', int(sample.value))
";

/// A Python that has the client: Debian's package belongs to Debian's own.
fn python() -> &'static str {
    static FOUND: OnceLock<&str> = OnceLock::new();
    FOUND.get_or_init(|| {
        let has = |python: &&str| {
            let tried = Command::new(python).args(["-c", "import prometheus_client.parser"]).output();
            tried.is_ok_and(|tried| tried.status.success())
        };
        let found = ["python3", "/usr/bin/python3"].into_iter().find(has);
        found.expect("tools/test installs Python's Prometheus client (apt-get install python3-prometheus-client)")
    })
}

/// What the server counts now, as the foreign parser reads it.
struct Counts {
    types: BTreeMap<String, String>,
    samples: BTreeMap<String, u64>,
}

impl Counts {
    fn of(server: &Server) -> Counts {
        let answer = server.admin_get("/metrics", &["Host: localhost"]);
        assert_eq!(answer.status, 200);
        let mut reader = Command::new(python());
        let reader = reader.args(["-c", READ]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = reader.spawn().unwrap();
        child.stdin.take().unwrap().write_all(&answer.body).unwrap();
        let read = child.wait_with_output().unwrap();
        assert!(read.status.success(), "{}\n{}", String::from_utf8_lossy(&read.stderr), answer.text());
        let mut counts = Counts { types: BTreeMap::new(), samples: BTreeMap::new() };
        for line in String::from_utf8(read.stdout).unwrap().lines() {
            let (name, value) = line.rsplit_once(' ').unwrap();
            match name.strip_prefix("TYPE ") {
                Some(kind) => drop(counts.types.insert(value.to_owned(), kind.to_owned())),
                None => drop(counts.samples.insert(name.to_owned(), value.parse().unwrap())),
            }
        }
        counts
    }

    #[track_caller]
    fn get(&self, name: &str) -> u64 {
        *self.samples.get(name).unwrap_or_else(|| panic!("there is no {name} in {:?}", self.samples))
    }

    /// The sum over a family's labels.
    fn sum(&self, family: &str) -> u64 {
        let of_family = |(name, _): &(&String, &u64)| name.split('{').next() == Some(family);
        self.samples.iter().filter(of_family).map(|(_, value)| value).sum()
    }

    fn status(&self, status: u16) -> u64 {
        self.get(&format!("cloudia_requests_total{{status={status}}}"))
    }

    fn coding(&self, coding: &str) -> u64 {
        self.get(&format!("cloudia_bodies_total{{coding={coding}}}"))
    }
}

fn site() -> Site {
    let site = Site::new();
    site.file("a.js", "var a = 1;\n".repeat(100)).file("b.txt", "b").file("dir/index.html", "<p>");
    site
}

#[test]
fn a_foreign_parser_reads_it() {
    let site = site();
    let server = Server::start(&site);
    let counts = Counts::of(&server);
    for (name, kind) in [
        ("cloudia_requests", "counter"),
        ("cloudia_bodies", "counter"),
        ("cloudia_sent_bytes", "counter"),
        ("cloudia_connections_accepted", "counter"),
        ("cloudia_connections_open", "gauge"),
        ("cloudia_entries", "gauge"),
        ("cloudia_reloads", "counter"),
        ("cloudia_rejected_loads", "counter"),
        ("cloudia_ready", "gauge"),
    ] {
        assert_eq!(counts.types.get(name).map(String::as_str), Some(kind), "{name} in {:?}", counts.types);
    }
    assert!(counts.types.keys().all(|name| name.starts_with("cloudia_") || name.starts_with("process_")));
    assert_eq!((counts.get("cloudia_ready{}"), counts.get("cloudia_entries{}")), (1, 4));
    assert_eq!(counts.get(&format!("cloudia_build_info{{version={}}}", env!("CARGO_PKG_VERSION"))), 1);
    for status in [200, 206, 301, 304, 400, 404, 405, 408, 412, 414, 416, 431, 501, 503, 505] {
        assert_eq!(counts.status(status), 0, "{status} is there before it is first said");
    }
}

#[test]
fn answers_are_counted_by_status() {
    let site = site();
    let server = Server::start(&site);
    let requests = [
        (200, get("/b.txt")),
        (204, with_host("OPTIONS", "*", &[], "")),
        (206, get_with("/b.txt", &["Range: bytes=0-0"])),
        (301, get("/dir")),
        (304, get_with("/b.txt", &[&format!("If-Modified-Since: {OLD_DATE}")])),
        (400, get("/%zz")),
        (404, get("/none")),
        (405, with_host("DELETE", "/b.txt", &[], "")),
        (412, get_with("/b.txt", &["If-Match: \"x\""])),
        (414, get("/x".repeat(5000))),
        (416, get_with("/b.txt", &["Range: bytes=9-"])),
        (431, get_with("/b.txt", &[&format!("X: {}", "x".repeat(20_000))])),
        (501, with_host("BREW", "/b.txt", &[], "")),
        (505, b"GET / HTTP/2.0\r\n\r\n".to_vec()),
    ];
    let before = Counts::of(&server);
    for (times, (status, request)) in requests.iter().enumerate() {
        for _ in 0..=times {
            let mut conn = server.connect();
            conn.send(request);
            assert_eq!(conn.recv().status, *status);
        }
    }
    let after = Counts::of(&server);
    for (times, (status, _)) in requests.iter().enumerate() {
        assert_eq!(after.status(*status) - before.status(*status), times as u64 + 1, "{status}");
    }
    let all = (1..=requests.len() as u64).sum::<u64>();
    assert_eq!(after.sum("cloudia_requests_total") - before.sum("cloudia_requests_total"), all);
    let accepted = "cloudia_connections_accepted_total";
    assert_eq!(after.sum(accepted) - before.sum(accepted), all);
}

#[test]
fn bodies_are_counted_by_coding() {
    let site = site();
    let server = Server::start(&site);
    let before = Counts::of(&server);
    for (times, coding) in [(3, "gzip"), (5, "deflate"), (7, "identity")] {
        for _ in 0..times {
            let answer = server.get("/a.js", &[&format!("Accept-Encoding: {coding}")]);
            assert_eq!(answer.get("content-encoding").unwrap_or("identity"), coding);
        }
    }
    // No bodies of entries: these are answers of other kinds, or none.
    let mut conn = server.connect();
    conn.send(with_host("HEAD", "/a.js", &[], ""));
    assert_eq!(conn.recv_head().status, 200);
    assert_eq!(server.get("/a.js", &["If-None-Match: *"]).status, 304);
    let after = Counts::of(&server);
    for (times, coding) in [(3, "gzip"), (5, "deflate"), (7, "identity"), (0, "br"), (0, "zstd")] {
        assert_eq!(after.coding(coding) - before.coding(coding), times, "{coding}");
    }
}

/// To the byte, over one connection and many, small answers and large.
#[test]
fn bytes_are_counted() {
    let site = site();
    site.file("large.bin", vec![b'x'; 1 << 20]);
    let server = Server::start(&site);
    let mut taken = 0;
    for requests in [get("/b.txt"), get("/large.bin").repeat(3), [get("/none"), get("/%zz")].concat()] {
        let mut conn = server.connect();
        conn.send(requests);
        conn.shut_write();
        taken += conn.rest().len();
    }
    assert!(taken > 3 << 20);
    assert_eq!(Counts::of(&server).sum("cloudia_sent_bytes_total"), taken as u64);
}

#[test]
fn connections_are_counted() {
    let site = site();
    let server = Server::builder(&site).workers(2).flag("--max-connections", 10).start();
    let mut held: Vec<Conn> = (0..10).map(|_| server.connect()).collect();
    held.iter_mut().for_each(Conn::assert_open);
    for _ in 0..3 {
        let mut over = server.connect();
        over.send(get("/b.txt"));
        assert_eq!(over.recv().status, 503);
    }
    let full = Counts::of(&server);
    assert_eq!(full.sum("cloudia_connections_open"), 10);
    assert_eq!(full.sum("cloudia_connections_accepted_total"), 13);
    assert_eq!((full.get("cloudia_connections_shed_total{}"), full.status(503)), (3, 3));
    held.truncate(4);
    wait_until("six are gone", || Counts::of(&server).sum("cloudia_connections_open") == 4);
    assert_eq!(Counts::of(&server).sum("cloudia_connections_accepted_total"), 13);
}

#[test]
fn connections_that_are_cut_are_counted() {
    let site = site();
    let server = Server::builder(&site).flag("--header-timeout", 1).start();
    let (mut silent, mut begun) = (server.connect(), server.connect());
    begun.send("GET");
    silent.assert_closed();
    assert_eq!(begun.recv().status, 408);
    let counts = Counts::of(&server);
    assert_eq!((counts.get("cloudia_connections_timed_out_total{}"), counts.status(408)), (1, 1));
}

#[test]
fn the_feed_is_counted() {
    let site = site();
    let server = Server::start(&site);
    let before = Counts::of(&server);
    assert_eq!((before.get("cloudia_entries{}"), before.get("cloudia_reloads_total{}")), (4, 4));
    assert_eq!(before.get("cloudia_content_bytes{}"), 1100 + 1 + 3 + 6);
    for version in 1..=5 {
        let text = format!("version {version}");
        site.replace("b.txt", &text, at(1_700_000_000 + version));
        wait_until("it is published", || server.get("/b.txt", &[]).text() == text);
    }
    site.file("new.txt", "new");
    wait_until("it is there", || server.get("/new.txt", &[]).status == 200);
    site.remove("a.js");
    wait_until("it is gone", || server.get("/a.js", &[]).status == 404);
    site.file("bad.txt.mz", "no deflate");
    let corrupt = "cloudia_rejected_loads_total{reason=corrupt}";
    wait_until("it is refused", || Counts::of(&server).get(corrupt) > before.get(corrupt));
    // What is served is counted a moment later.
    let mut after = Counts::of(&server);
    wait_until("the removal is counted", || {
        after = Counts::of(&server);
        after.get("cloudia_removals_total{}") == 1
    });
    assert_eq!(after.get("cloudia_entries{}"), 4);
    assert_eq!(after.get("cloudia_content_bytes{}"), 3 + 3 + 6 + "version 5".len() as u64);
    let reloads = "cloudia_reloads_total{}";
    assert_eq!(after.get(reloads) - before.get(reloads), 6);
    assert!(after.get("cloudia_last_publication_timestamp_seconds{}") >= before.get("process_start_time_seconds{}"));
}
