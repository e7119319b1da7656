//! Wire section 7: what happens to clients that say nothing, too little, or take nothing.
//!
//! The servers here have limits of one second. The tests look at how a connection ends, not when; only
//! that it does not end at once, and within the patience of the harness.

use std::thread;
use std::time::{Duration, Instant};

use crate::cases::{get, with_host};
use crate::harness::{Conn, Server, Site, wait_until};
use crate::wire8_answers::assert_plain_error;

/// Longer than a limit of one second and the one that meeting it may take.
const OVER: Duration = Duration::from_millis(2500);

/// So many answers of so many bytes that no socket buffer takes them all.
const MANY: usize = 24;
const BIG: usize = 4 << 20;

/// A server where only this limit is short.
fn server(site: &Site, limit: &str) -> Server {
    Server::builder(site).flag(limit, 1).start()
}

/// Runs `wait`, which must not return at once.
fn not_at_once<T>(wait: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let value = wait();
    assert!(start.elapsed() > Duration::from_millis(100), "at once");
    value
}

/// Waits for several at the same time; a failure of one is a failure of all.
fn side_by_side<T: Send>(each: impl IntoIterator<Item = T>, wait: impl Fn(T) + Sync) {
    thread::scope(|scope| {
        for one in each {
            let wait = &wait;
            scope.spawn(move || wait(one));
        }
    });
}

/// What was begun gets 408 and the end.
fn assert_timed_out(conn: &mut Conn) {
    let answer = conn.recv();
    assert_eq!(answer.status, 408, "{answer}");
    assert_eq!(answer.get("connection"), Some("close"), "{answer}");
    assert_plain_error(&answer);
    conn.assert_closed();
}

#[test]
fn silent_first_request_is_closed_silently() {
    let site = Site::new();
    let server = server(&site, "--header-timeout");
    let mut conn = server.connect();
    not_at_once(|| conn.assert_closed());
}

#[test]
fn first_request_that_stops_is_408() {
    let site = Site::new();
    let server = server(&site, "--header-timeout");
    side_by_side(["G", "GET /alive.txt HT", "GET /alive.txt HTTP/1.1\r\nHost: h\r\n"], |part| {
        let mut conn = server.connect();
        conn.send(part);
        not_at_once(|| assert_timed_out(&mut conn));
    });
}

#[test]
fn later_request_that_stops_is_408() {
    let site = Site::new();
    let server = server(&site, "--header-timeout");
    side_by_side([false, true], |pipelined| {
        let mut conn = server.connect();
        if pipelined {
            conn.send([get("/alive.txt"), b"GET /al".to_vec()].concat());
            assert_eq!(conn.recv().status, 200);
        } else {
            conn.assert_open();
            conn.send("GET /alive.txt HT");
        }
        not_at_once(|| assert_timed_out(&mut conn));
    });
}

/// The clock runs from accept or from the first byte; more bytes do not wind it back.
#[test]
fn request_that_trickles_is_408() {
    let site = Site::new();
    let server = server(&site, "--header-timeout");
    side_by_side([false, true], |later| {
        let mut conn = server.connect();
        if later {
            conn.assert_open();
        }
        conn.send("GET /alive.txt HTTP/1.1\r\nHost: h\r\nX: ");
        for _ in 0..OVER.as_millis() / 100 {
            conn.send("x");
            thread::sleep(Duration::from_millis(100));
        }
        let answer = conn.recv();
        assert_eq!(answer.status, 408, "{answer}");
    });
}

#[test]
fn body_that_stops_is_cut() {
    let site = Site::new();
    let server = server(&site, "--header-timeout");
    let by_length = with_host("POST", "/alive.txt", &["Content-Length: 10"], "abc");
    let by_chunks = with_host("POST", "/alive.txt", &["Transfer-Encoding: chunked"], "a\r\nabc");
    side_by_side([by_length, by_chunks], |request| {
        let mut conn = server.connect();
        conn.send(request);
        let end = not_at_once(|| conn.rest());
        // It may have been answered before its body had come.
        assert!(!end.starts_with(b"HTTP/1.1 2"), "{}", end.escape_ascii());
        assert!(conn.closed().is_ok());
    });
}

/// After a refusal the server hears the client out, but neither for ever nor whatever it sends.
#[test]
fn draining_is_bounded() {
    let site = Site::new();
    let server = Server::start(&site);
    side_by_side([b"x".to_vec(), vec![b'x'; 256 * 1024]], |more| {
        let mut conn = server.connect();
        conn.send("GET / HTTP/1.1\r\n\r\n");
        assert_eq!(conn.recv().status, 400);
        conn.assert_closed();
        wait_until("it no longer listens", || conn.try_send(&more).is_err());
    });
}

#[test]
fn header_timeout_is_not_for_idle_connections() {
    let site = Site::new();
    let server = server(&site, "--header-timeout");
    let mut conn = server.connect();
    conn.assert_open();
    thread::sleep(OVER);
    conn.assert_open();
}

#[test]
fn idle_connection_is_closed_silently() {
    let site = Site::new();
    let server = server(&site, "--keep-alive-timeout");
    let mut conn = server.connect();
    conn.assert_open();
    not_at_once(|| conn.assert_closed());
}

#[test]
fn idle_timeout_is_from_the_last_answer() {
    let site = Site::new();
    let server = Server::builder(&site).flag("--keep-alive-timeout", 2).start();
    let mut conn = server.connect();
    let start = Instant::now();
    // Together longer than the limit and its second, each far shorter.
    while start.elapsed() < Duration::from_millis(3500) {
        conn.assert_open();
        thread::sleep(Duration::from_millis(250));
    }
    conn.assert_open();
}

#[test]
fn idle_timeout_is_not_for_first_requests() {
    let site = Site::new();
    let server = server(&site, "--keep-alive-timeout");
    let mut silent = server.connect();
    let mut begun = server.connect();
    begun.send("GET /alive.txt HTTP/1.1\r\n");
    thread::sleep(OVER);
    silent.assert_open();
    begun.send("Host: h\r\n\r\n");
    assert_eq!(begun.recv().status, 200);
}

fn big_site() -> Site {
    let site = Site::new();
    site.file("big.bin", vec![b'x'; BIG]);
    site
}

#[test]
fn client_that_takes_nothing_is_cut() {
    let site = big_site();
    let server = server(&site, "--send-timeout");
    let mut conn = server.connect();
    conn.send(get("/big.bin").repeat(MANY));
    not_at_once(|| {
        // A server that has closed answers further bytes with a reset.
        wait_until("the connection is cut", || conn.try_send("\r\n").is_err());
    });
    let taken = conn.rest().len();
    assert!(taken < BIG * MANY, "all of it came");
    server.connect().assert_open();
}

#[test]
fn client_that_takes_some_all_the_time_is_not_cut() {
    let site = big_site();
    let server = server(&site, "--send-timeout");
    let mut conn = server.connect();
    conn.send(get("/big.bin").repeat(MANY));
    for _ in 0..MANY {
        assert_eq!(conn.recv().body.len(), BIG);
        thread::sleep(OVER / MANY as u32);
    }
    conn.assert_open();
}
