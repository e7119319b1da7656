//! The time between the signal and the end: what each kind of connection gets to know, and when the end comes.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::{
    cases::{get, get_with, request, with_host},
    harness::{Conn, Server, Site, wait_until},
    stop::{BIG, LONG_GRACE, ask_for_much, big_body, big_site, last_answer, patient, read_slowly},
    stop::{wait_until_it_drains, wait_until_refused},
};

/// The connection has ended, in good order, without being asked for anything.
fn has_ended(conn: &mut Conn) -> bool {
    match conn.ended() {
        Some(Ok(())) => true,
        Some(Err(why)) => panic!("{why}"),
        None => false,
    }
}

#[test]
fn the_next_answer_of_each_connection_is_its_last() {
    let site = Site::new();
    let mut server = patient(&site);
    let mut idle: Vec<Conn> = (0..40).map(|_| server.connect()).collect();
    // Half of them have never said anything.
    idle.iter_mut().take(20).for_each(Conn::assert_open);
    server.signal("TERM");
    wait_until_refused(server.addr);
    idle.iter_mut().for_each(last_answer);
    drop(idle);
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(server.stderr().matches("panicked").count(), 0);
}

/// Whatever the answer is.
#[test]
fn every_kind_of_answer_may_be_the_last() {
    let site = Site::new();
    let mut server = patient(&site);
    let tag = server.get("/alive.txt", &[]).get("etag").expect("a tag").to_owned();
    let not_modified = get_with("/alive.txt", &[&format!("If-None-Match: {tag}")]);
    let table = [
        (get("/none"), 404),
        (get("/list=none"), 200),
        (not_modified, 304),
        (get_with("/alive.txt", &["Range: bytes=1-2"]), 206),
        (with_host("OPTIONS", "/alive.txt", &[], ""), 204),
        (with_host("POST", "/alive.txt", &["Content-Length: 3"], "abc"), 405),
        (with_host("BREW", "/alive.txt", &[], ""), 501),
        (b"GET /alive.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_vec(), 200),
    ];
    let mut idle: Vec<Conn> = table.iter().map(|_| server.connect()).collect();
    let mut head = server.connect();
    idle.iter_mut().for_each(Conn::assert_open);
    head.assert_open();
    server.signal("TERM");
    wait_until_refused(server.addr);
    for (conn, (request, status)) in idle.iter_mut().zip(&table) {
        conn.send(request);
        let answer = conn.recv();
        assert_eq!((answer.status, answer.get("connection")), (*status, Some("close")), "{answer}");
        conn.assert_closed();
    }
    head.send(with_host("HEAD", "/alive.txt", &[], ""));
    assert_eq!(head.recv_head().get("connection"), Some("close"));
    head.assert_closed();
    drop((idle, head));
    assert_eq!(server.wait().code(), Some(0));
}

/// A client that has asked for much more than it may have learns where the answers end: in order, not by a reset.
#[test]
fn what_follows_the_last_answer_is_not_answered_by_a_reset() {
    let site = Site::new();
    let mut server = patient(&site);
    let mut conns: Vec<Conn> = (0..8).map(|_| server.connect()).collect();
    conns.iter_mut().for_each(Conn::assert_open);
    server.signal("TERM");
    wait_until_refused(server.addr);
    for conn in &mut conns {
        conn.send(get("/alive.txt").repeat(500));
        let mut answers = 0;
        loop {
            let answer = conn.recv();
            answers += 1;
            assert_eq!(answer.text(), "alive\n");
            if answer.get("connection") == Some("close") {
                break;
            }
        }
        assert!((1..=500).contains(&answers));
        conn.assert_closed();
    }
    drop(conns);
    assert_eq!(server.wait().code(), Some(0));
}

/// Who says nothing is closed in the second half of the grace and not before; who is in the middle of a request is not idle.
#[test]
fn idle_connections_are_closed_in_the_second_half() {
    let site = Site::new();
    let mut server = Server::builder(&site).flag("--grace", 4).start();
    let mut idle: Vec<Conn> = (0..30).map(|_| server.connect()).collect();
    idle.iter_mut().take(15).for_each(Conn::assert_open);
    let mut asking: Vec<Conn> = (0..4).map(|_| server.connect()).collect();
    asking.iter_mut().for_each(|conn| conn.send("GET /alive.txt HTTP/1.1\r\nHo"));
    let mut posting = server.connect();
    posting.send(with_host("POST", "/alive.txt", &["Content-Length: 4"], "ab"));
    let begun = Instant::now();
    server.signal("TERM");
    // The first that is closed: the others have a part of the second half left to ask in.
    wait_until("an idle connection is closed", || idle.iter_mut().any(has_ended));
    assert!(begun.elapsed() >= Duration::from_secs(2), "closed after {:?}", begun.elapsed());
    for conn in &mut asking {
        conn.send("st: h\r\n\r\n");
        let answer = conn.recv();
        assert_eq!((answer.text().as_str(), answer.get("connection")), ("alive\n", Some("close")), "{answer}");
        conn.assert_closed();
    }
    posting.send("cd");
    last_refusal(&mut posting);
    idle.iter_mut().for_each(Conn::assert_closed);
    drop((asking, posting, idle));
    assert_eq!(server.wait().code(), Some(0));
}

/// The answer to a POST, and the end.
#[track_caller]
pub(crate) fn last_refusal(conn: &mut Conn) {
    let answer = conn.recv();
    assert_eq!((answer.status, answer.get("connection")), (405, Some("close")), "{answer}");
    conn.assert_closed();
}

/// A body may be on its way, in pieces or chunks, when the signal comes.
#[test]
fn a_body_on_its_way_is_read() {
    let site = Site::new();
    let mut server = patient(&site);
    let mut counted = server.connect();
    counted.send(with_host("POST", "/alive.txt", &["Content-Length: 6"], "ab"));
    let mut chunked = server.connect();
    chunked.send(with_host("POST", "/alive.txt", &["Transfer-Encoding: chunked"], "2\r\nab\r\n"));
    server.signal("TERM");
    wait_until_refused(server.addr);
    counted.send("cdef");
    last_refusal(&mut counted);
    chunked.send("1\r\nc\r\n0\r\n\r\n");
    last_refusal(&mut chunked);
    drop((counted, chunked));
    assert_eq!(server.wait().code(), Some(0));
}

/// The administrator sees it drain until the end; the process is well, and not ready.
#[test]
fn the_admin_listener_answers_until_the_end() {
    let site = big_site();
    let mut server = patient(&site);
    let mut slow = ask_for_much(server.addr);
    server.signal("TERM");
    wait_until_it_drains(&server);
    wait_until_refused(server.addr);
    assert_eq!(server.admin_get("/healthz", &["Host: localhost"]).status, 200);
    assert_eq!(server.admin_get("/readyz", &["Host: localhost"]).status, 503);
    let metrics = server.admin_get("/metrics", &["Host: localhost"]).text();
    assert!(metrics.contains("cloudia_connections_evicted_total"), "{metrics}");
    assert!(read_slowly(&mut slow) == big_body());
    drop(slow);
    assert_eq!(server.wait().code(), Some(0));
}

/// The last connection goes, and the process with it, however much of the grace is left.
#[test]
fn it_ends_with_its_last_connection() {
    let site = Site::new();
    let mut server = patient(&site);
    let mut idle: Vec<Conn> = (0..10).map(|_| server.connect()).collect();
    idle.iter_mut().for_each(Conn::assert_open);
    server.signal("TERM");
    wait_until_refused(server.addr);
    drop(idle);
    assert_eq!(server.wait().code(), Some(0));
    // Where there is none it does not wait at all.
    assert_eq!(patient(&site).stop().code(), Some(0));
}

#[test]
fn a_second_signal_does_not_wait_for_idle_connections() {
    let site = Site::new();
    for [first, second] in [["TERM", "TERM"], ["INT", "TERM"]] {
        let mut server = patient(&site);
        let mut idle: Vec<Conn> = (0..4).map(|_| server.connect()).collect();
        idle.iter_mut().for_each(Conn::assert_open);
        server.signal(first);
        wait_until_it_drains(&server);
        server.signal(second);
        assert_eq!(server.wait().code(), Some(0));
    }
}

/// A request that is not whole does not hold the end up beyond the grace.
#[test]
fn half_a_request_is_cut_at_the_end_of_the_grace() {
    let site = Site::new();
    let mut server = Server::builder(&site).flag("--grace", 1).start();
    let mut conn = server.connect();
    conn.assert_open();
    conn.send("GET /alive.txt HTTP/1.1\r\n");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    conn.rest();
}

/// What had connected before the signal is taken in, and is answered also when it asks only later.
#[test]
fn who_had_connected_may_ask_later() {
    let queue = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let clients = queue.trim().parse::<usize>().unwrap().min(300);
    let site = Site::new();
    let mut server = Server::builder(&site).workers(2).flag("--grace", LONG_GRACE).start();
    server.signal("STOP");
    let mut waiting: Vec<Conn> = (0..clients).map(|_| server.connect()).collect();
    server.signal("TERM");
    server.signal("CONT");
    wait_until_it_drains(&server);
    waiting.iter_mut().for_each(last_answer);
    drop(waiting);
    assert_eq!(server.wait().code(), Some(0));
}

/// The head of a large answer is sent long before its last byte.
#[test]
fn a_last_answer_that_is_large_is_whole() {
    let site = big_site();
    let mut server = patient(&site);
    let mut conn = server.connect();
    conn.assert_open();
    server.signal("TERM");
    wait_until_refused(server.addr);
    conn.send(request("GET", "/big.bin", &["Host: h"], ""));
    let answer = conn.recv();
    assert_eq!((answer.body.len(), answer.get("connection")), (BIG, Some("close")));
    assert!(answer.body == big_body(), "other bytes");
    conn.assert_closed();
    drop(conn);
    assert_eq!(server.wait().code(), Some(0));
}
