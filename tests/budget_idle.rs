//! `--evict-idle`: over the budget, the connection that has been idle longest goes, and the new one is served.

use std::{thread, time::Duration};

use crate::{
    budget::fill,
    cases::{get, with_host},
    crowd::{Before, assert_shed, from, is_served, metric, noise, open, side_by_side, source},
    harness::{Conn, Launch, Server, Site, wait_until},
};

const EVICTED: &str = "cloudia_connections_evicted_total";
const SHED: &str = "cloudia_connections_shed_total";

/// Longer than any clock of the server rounds: of two connections one has been idle longer.
const A_WHILE: Duration = Duration::from_millis(1200);

fn launch(site: &Site, places: usize) -> Launch {
    Server::builder(site).args(&["--evict-idle"]).flag("--max-connections", places)
}

#[test]
fn the_longest_idle_goes_first() {
    let site = Site::new();
    let server = launch(&site, 3).workers(1).start();
    let mut first = fill(&server, 1).remove(0);
    thread::sleep(A_WHILE);
    let mut second = fill(&server, 1).remove(0);
    thread::sleep(A_WHILE);
    let mut third = fill(&server, 1).remove(0);
    // The one that came first was last to ask.
    first.assert_open();
    let mut next = fill(&server, 1).remove(0);
    second.assert_closed();
    assert_eq!((metric(&server, EVICTED), metric(&server, SHED), open(&server)), (1, 0, 3));
    thread::sleep(A_WHILE);
    next.assert_open();
    first.assert_open();
    let last = fill(&server, 1).remove(0);
    third.assert_closed();
    assert_eq!((metric(&server, EVICTED), metric(&server, SHED), open(&server)), (2, 0, 3));
    [next, first, last].iter_mut().for_each(Conn::assert_open);
}

/// Whichever worker a newcomer comes to, and however many come at once.
#[test]
fn idle_connections_make_room_on_every_worker() {
    const PLACES: usize = 200;
    let site = Site::new();
    let server = launch(&site, PLACES).workers(4).start();
    let before = Before::of(&server);
    let held = fill(&server, PLACES);
    thread::sleep(A_WHILE);
    let mut newcomers: Vec<Conn> = (0..PLACES / 2).map(|_| server.connect()).collect();
    for (number, conn) in newcomers.iter_mut().enumerate() {
        assert!(is_served(conn), "number {number} is refused");
    }
    assert_eq!((metric(&server, EVICTED), metric(&server, SHED)), (PLACES as u64 / 2, 0));
    assert_eq!(open(&server), PLACES as u64);
    newcomers.iter_mut().for_each(Conn::assert_open);
    drop((held, newcomers));
    before.assert_over(&server, 2 << 20);
}

/// Each is in the middle of something of its own; then there is nobody to make room.
#[test]
fn who_is_in_the_middle_of_something_stays() {
    let site = Site::new();
    let body = noise(4 << 20);
    site.file("big.bin", &body);
    let server = launch(&site, 6).workers(1).start();
    let mut busy = fill(&server, 4);
    busy.push(server.connect());
    busy.push(server.connect());
    busy[0].send("GET /alive.txt HTTP/1.1\r\nHo");
    busy[1].send(with_host("POST", "/alive.txt", &["Content-Length: 10"], "abc"));
    busy[2].send(with_host("POST", "/alive.txt", &["Transfer-Encoding: chunked"], "a\r\nabc"));
    busy[3].send(get("/big.bin").repeat(4));
    busy[4].send("GET /alive.txt HTTP/1.1\r\nHo");
    busy[5].send(get("/big.bin").repeat(4));
    thread::sleep(A_WHILE);
    for _ in 0..10 {
        assert_shed(&mut server.connect());
    }
    assert_eq!((metric(&server, EVICTED), open(&server)), (0, 6));
    for number in [0, 4] {
        busy[number].send("st: h\r\n\r\n");
        assert_eq!(busy[number].recv().text(), "alive\n");
    }
    busy[1].send("0123456");
    busy[2].send("0123456\r\n0\r\n\r\n");
    for number in [1, 2] {
        assert_eq!(busy[number].recv().status, 405);
        busy[number].assert_open();
    }
    for number in [3, 5] {
        for _ in 0..4 {
            assert!(busy[number].recv().body == body, "other bytes");
        }
        busy[number].assert_open();
    }
}

/// Its request has arrived, though the server may not have looked yet when it needs the place.
#[test]
fn who_has_asked_is_not_idle() {
    let site = Site::new();
    for workers in [1, 2] {
        let server = launch(&site, 20).workers(workers).start();
        for _ in 0..5 {
            wait_until("all are gone", || open(&server) == 0);
            let mut held = fill(&server, 20);
            server.signal("STOP");
            held.iter_mut().for_each(|conn| conn.send(get("/alive.txt")));
            let mut newcomers: Vec<Conn> = (0..20).map(|_| server.connect()).collect();
            newcomers.iter_mut().for_each(|conn| conn.send(get("/alive.txt")));
            server.signal("CONT");
            for conn in &mut held {
                assert_eq!(conn.recv().status, 200, "evicted with a request");
            }
            for conn in &mut newcomers {
                let answer = conn.recv();
                assert!([200, 503].contains(&answer.status), "{answer}");
            }
        }
    }
}

/// One address does not get at the places of others by asking for more than its own.
#[test]
fn an_address_over_its_own_limit_evicts_nobody() {
    let site = Site::new();
    // With more workers the last one to come might find one without a connection that could make room.
    let server = launch(&site, 3).workers(1).flag("--max-connections-per-ip", 2).start();
    let mut held: Vec<Conn> = [1, 1, 2].map(|n| from(source(n), server.addr)).into();
    held.iter_mut().for_each(Conn::assert_open);
    for _ in 0..10 {
        assert_shed(&mut from(source(1), server.addr));
    }
    held.iter_mut().for_each(Conn::assert_open);
    assert_eq!((metric(&server, EVICTED), metric(&server, SHED), open(&server)), (0, 10, 3));
    thread::sleep(A_WHILE);
    // Another address has a right to a place.
    let mut other = from(source(3), server.addr);
    other.assert_open();
    assert_eq!((metric(&server, EVICTED), open(&server)), (1, 3));
}

/// The place of an evicted one is given back to its address as well.
#[test]
fn an_evicted_address_may_come_again() {
    let site = Site::new();
    let server = launch(&site, 4).workers(1).flag("--max-connections-per-ip", 2).start();
    let two = |number| -> Vec<Conn> {
        (0..2)
            .map(|_| {
                let mut conn = from(source(number), server.addr);
                conn.assert_open();
                conn
            })
            .collect()
    };
    let mut gone = two(1);
    thread::sleep(A_WHILE);
    let mut held = two(2);
    held.extend(two(3));
    gone.iter_mut().for_each(Conn::assert_closed);
    thread::sleep(A_WHILE);
    held.extend(two(1));
    assert_shed(&mut from(source(1), server.addr));
    assert_eq!((metric(&server, EVICTED), metric(&server, SHED), open(&server)), (4, 1, 4));
}

#[test]
fn a_storm_of_newcomers_is_served() {
    let site = Site::new();
    let server = launch(&site, 50).start();
    let before = Before::of(&server);
    let served: usize = side_by_side(4, |_| {
        let mut crowd: Vec<Conn> = (0..200).map(|_| server.connect()).collect();
        let answered = crowd.iter_mut().filter_map(|conn| {
            conn.send(get("/alive.txt"));
            // Some have been let go for being silent.
            conn.try_recv(false).ok().filter(|answer| answer.status == 200)
        });
        answered.count()
    })
    .into_iter()
    .sum();
    eprintln!("{served} of 800 were served");
    assert!(served >= 50);
    before.assert_over(&server, 4 << 20);
}
