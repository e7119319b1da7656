//! What the kernel is asked for, seen by strace: a request costs a wait, a look at what is ready, a receive and a send, and
//! nothing else. What is ready together shares the first two.
//!
//! The worker's clock ticks twice a second and is read then; that is all that is allowed besides.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::PathBuf,
    process::Command,
};

use crate::{
    cases::{get, get_with},
    harness::{Conn, OLD_DATE, Server, Site, wait_until},
};

/// A system call that has returned.
struct Call {
    thread: u32,
    at: f64,
    name: String,
    /// The whole of it, as strace shows it.
    text: String,
}

/// Whether processes may be traced here.
///
/// # Panics
/// When strace is missing or broken: then something can be done about it.
pub(crate) fn may_trace() -> bool {
    let tried = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output();
    let tried = tried.unwrap_or_else(|why| panic!("strace: {why}; tools/test installs it (apt-get install strace)"));
    let said = String::from_utf8_lossy(&tried.stderr);
    if said.contains("Operation not permitted") || said.contains("EPERM") {
        eprintln!("skipped: ptrace is forbidden here: {}", said.trim());
        return false;
    }
    assert!(tried.status.success(), "strace: {said}; tools/test installs it (apt-get install strace)");
    true
}

/// A server of one worker that is watched, and the file that tells of it.
fn watched(site: &Site) -> (Server, PathBuf) {
    let file = site.outside().join("trace");
    // With -D the server is our child as ever, and strace ends with it.
    let strace = ["strace", "-D", "-f", "-ttt", "-s", "64", "-o", file.to_str().unwrap()];
    let server = Server::builder(site).workers(1).under(&strace).start();
    (server, file)
}

/// What `scene` makes the server do, worker first, other threads second: from behind the receive of one request to
/// before the receive of another, both on the connection of the scene.
fn calls_during(site: &Site, scene: impl Fn(&mut Conn)) -> (String, Vec<Call>, Vec<Call>) {
    let (mut server, file) = watched(site);
    let mut conn = server.connect();
    // What is allocated once is allocated here.
    scene(&mut conn);
    conn.send(get("/begin"));
    assert_eq!(conn.recv().status, 404);
    scene(&mut conn);
    conn.send(get("/end"));
    assert_eq!(conn.recv().status, 404);
    drop(conn);
    let driver = if server.stdout().contains("io_uring") { "io_uring" } else { "epoll" };
    let last = format!("{} ", server.pid());
    assert_eq!(server.stop().code(), Some(0));
    let ended = |line: &str| line.starts_with(&last) && line.contains("+++ exited");
    wait_until("strace has written all", || fs::read_to_string(&file).unwrap().lines().any(ended));
    let calls = parse(&fs::read_to_string(&file).unwrap());
    let marked =
        |mark: &str| calls.iter().position(|call| call.name == "recvfrom" && call.text.contains(mark)).unwrap();
    let (begin, end) = (marked("GET /begin "), marked("GET /end "));
    let worker = calls[begin].thread;
    let inside = calls.into_iter().take(end).skip(begin + 1);
    let (of_worker, of_others) = inside.partition(|call| call.thread == worker);
    (driver.to_owned(), of_worker, of_others)
}

/// Lines such as `17 1700000000.123456 recvfrom(9, "GET /a"..., 32768, 0, NULL, NULL) = 32`. A call during which another
/// thread makes one is told in two lines, `… <unfinished ...>` and `17 … <... recvfrom resumed> …`.
fn parse(trace: &str) -> Vec<Call> {
    let mut begun: HashMap<u32, String> = HashMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        // The thread's number is padded.
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((at, text)) = rest.trim_start().split_once(' ') else { continue };
        let (thread, at): (u32, f64) = (thread.parse().unwrap(), at.parse().unwrap());
        if text.starts_with("---") || text.starts_with("+++") {
            continue;
        }
        if let Some(text) = text.strip_suffix("<unfinished ...>") {
            begun.insert(thread, text.to_owned());
            continue;
        }
        let text = match text.strip_prefix("<... ") {
            Some(rest) => begun.remove(&thread).unwrap_or_default() + rest,
            None => text.to_owned(),
        };
        let name = text.split('(').next().unwrap_or_default().to_owned();
        calls.push(Call { thread, at, name, text });
    }
    calls
}

fn tally(calls: &[Call]) -> BTreeMap<&str, usize> {
    let mut tally = BTreeMap::new();
    for call in calls {
        *tally.entry(call.name.as_str()).or_default() += 1;
    }
    tally
}

/// So many receives and sends, and nothing but waits and ticks besides.
#[track_caller]
fn assert_calls(driver: &str, calls: &[Call], receives: usize, sends: usize, send: &str) {
    let tally = tally(calls);
    println!("{driver}: {tally:?}");
    let count = |name: &str| tally.get(name).copied().unwrap_or(0);
    assert_eq!((count("recvfrom"), count(send)), (receives, sends), "{tally:?}");
    let secs = calls.last().unwrap().at - calls[0].at;
    let ticks = count("read");
    assert!(ticks as f64 <= 2.0 * secs + 2.0, "{ticks} ticks in {secs} s");
    let waits = ["io_uring_enter", "epoll_wait", "epoll_pwait", "poll"];
    assert!(driver == "io_uring" || count("io_uring_enter") == 0, "{tally:?}");
    let known = |name: &str| name == "recvfrom" || name == "read" || name == send || waits.contains(&name);
    let odd: Vec<&str> = calls.iter().filter(|call| !known(&call.name)).map(|call| call.text.as_str()).collect();
    assert!(odd.is_empty(), "{odd:?}");
    let waited: usize = waits.iter().map(|name| count(name)).sum();
    // One a wake-up, and a look at what is ready, which may be for nothing where that was no connection. monoio's epoll driver
    // asks before it waits and again when it is woken, which may be early.
    let most = if driver == "io_uring" { 2 } else { 6 };
    assert!(waited <= most * (receives + 1 + 2 * ticks), "{tally:?}");
}

#[test]
fn a_request_is_a_wait_a_receive_and_a_send() {
    if !may_trace() {
        return;
    }
    let site = Site::new();
    site.file("a.js", "var a = 1;\n".repeat(100));
    let requests = [
        get_with("/a.js?maxage=5", &["Accept-Encoding: gzip, deflate, br, zstd"]),
        get("/a.js"),
        get_with("/a.js", &[&format!("If-Modified-Since: {OLD_DATE}")]),
        get("/none"),
    ];
    let (driver, worker, others) = calls_during(&site, |conn| {
        for turn in 0..200 {
            conn.send(&requests[turn % requests.len()]);
            assert_eq!(conn.recv().status, [200, 200, 304, 404][turn % requests.len()]);
        }
    });
    // The answer to the first mark is sent here, and the last mark received behind.
    assert_calls(&driver, &worker, 200, 201, "sendto");
    println!("other threads: {:?}", tally(&others));
    assert!(others.len() <= 20, "other threads: {:?}", tally(&others));
}

#[test]
fn requests_that_come_together_are_one_receive_and_one_send() {
    if !may_trace() {
        return;
    }
    for count in [2, 10, 100] {
        let site = Site::new();
        let (driver, worker, _) = calls_during(&site, |conn| {
            conn.send(get("/alive.txt").repeat(count));
            for _ in 0..count {
                assert_eq!(conn.recv().text(), "alive\n");
            }
        });
        assert_calls(&driver, &worker, 1, 2, "sendto");
    }
}

#[test]
fn a_large_body_is_sent_from_where_it_lies() {
    if !may_trace() {
        return;
    }
    let site = Site::new();
    site.file("large.bin", vec![b'x'; 100_000]);
    let (driver, worker, _) = calls_during(&site, |conn| {
        for _ in 0..20 {
            conn.send(get("/large.bin"));
            assert_eq!(conn.recv().body.len(), 100_000);
        }
    });
    let tally = tally(&worker);
    println!("{driver}: {tally:?}");
    // The mark alone is one buffer. A full socket may cut an answer in two.
    assert_eq!((tally["recvfrom"], tally["sendto"]), (20, 1), "{tally:?}");
    assert!((20..=60).contains(&tally["sendmsg"]), "{tally:?}");
    let copies = ["pread64", "mmap", "open", "openat", "sendfile", "writev", "write"];
    assert!(!copies.iter().any(|name| tally.contains_key(name)), "{tally:?}");
}

#[test]
fn traces_are_understood() {
    let calls = parse(
        "7 1.5 recvfrom(9, \"GET /a HTTP\"..., 10, 0, NULL, NULL) = 3\n8  1.6 futex(0x1 <unfinished ...>\n\
         7 1.7 sendto(9, \"a (b) c\", 2, MSG_NOSIGNAL, NULL, 0) = 2\n7 1.8 --- SIGTERM {si_signo=SIGTERM} ---\n\
         8 1.9 <... futex resumed>) = 0\n7 2.0 +++ exited with 0 +++\n",
    );
    let seen: Vec<_> = calls.iter().map(|call| (call.thread, call.name.as_str())).collect();
    assert_eq!(seen, [(7, "recvfrom"), (7, "sendto"), (8, "futex")]);
    assert!(calls[0].text.contains("GET /a ") && (calls[2].at - 1.9).abs() < 1e-9);
}
