//! How many connections there may be: who is refused and how, and that every place is given back.
//!
//! Addresses of clients are counted in `budget_peers`, descriptors in `budget_descriptors`, and what
//! `--evict-idle` changes is in `budget_idle`.

use std::time::Duration;

use crate::{
    cases::{get, request, with_host},
    crowd::{Before, assert_shed, assert_told, descriptors, is_served, metric, noise, open, side_by_side},
    harness::{Conn, Server, Site, wait_until},
};

/// Far more than the sockets between server and client take, in a few answers.
const BIG: usize = 4 << 20;

fn big_site() -> Site {
    let site = Site::new();
    site.file("big.bin", noise(BIG));
    site
}

/// Connects so many and asks with each in turn, so that each has its place before the next one comes.
#[track_caller]
pub(crate) fn fill(server: &Server, places: usize) -> Vec<Conn> {
    let mut held = Vec::new();
    for _ in 0..places {
        let mut conn = server.connect();
        conn.assert_open();
        held.push(conn);
    }
    held
}

/// There are exactly so many places, all of them free. Those who have them now.
#[track_caller]
pub(crate) fn assert_places(server: &Server, places: usize) -> Vec<Conn> {
    wait_until("the places are given back", || open(server) == 0);
    let held = fill(server, places);
    assert_eq!(open(server), places as u64);
    assert_shed(&mut server.connect());
    held
}

/// What a client does that has a place and has been answered once, to lose it.
type End = fn(Conn);

const ENDS: [(&str, End); 16] = [
    ("closed", drop),
    ("reset", Conn::reset),
    ("half closed", |mut conn| {
        conn.shut_write();
        conn.assert_closed();
    }),
    ("closed with a request on its way", |mut conn| conn.send(get("/alive.txt"))),
    ("reset with a request on its way", |mut conn| {
        conn.send(get("/alive.txt"));
        conn.reset();
    }),
    ("closed in the middle of a head", |mut conn| conn.send("GET /alive.txt HTT")),
    ("reset in the middle of a head", |mut conn| {
        conn.send("GET /alive.txt HTT");
        conn.reset();
    }),
    ("half closed in the middle of a head", |mut conn| {
        conn.send("GET /alive.txt HTT");
        conn.shut_write();
        conn.rest();
    }),
    ("closed in the middle of a body", |mut conn| {
        conn.send(with_host("POST", "/alive.txt", &["Content-Length: 10"], "abc"));
    }),
    ("reset in the middle of a body", |mut conn| {
        conn.send(with_host("POST", "/alive.txt", &["Transfer-Encoding: chunked"], "a\r\nabc"));
        conn.reset();
    }),
    ("closed in the middle of an answer", |mut conn| conn.send(get("/big.bin").repeat(4))),
    ("reset in the middle of an answer", |mut conn| {
        conn.send(get("/big.bin").repeat(4));
        conn.reset();
    }),
    ("reset when the answer has begun to come", |mut conn| {
        conn.send(get("/big.bin").repeat(4));
        conn.recv();
        conn.reset();
    }),
    ("asked to close", |mut conn| {
        conn.send(with_host("GET", "/alive.txt", &["Connection: close"], ""));
        assert_eq!(conn.recv().status, 200);
        conn.assert_closed();
    }),
    ("refused for its framing", |mut conn| {
        conn.send(request("GET", "/alive.txt", &["X: y"], ""));
        assert_eq!(conn.recv().status, 400);
        conn.assert_closed();
    }),
    ("refused for its length", |mut conn| {
        conn.send(with_host("POST", "/alive.txt", &["Content-Length: 1000000"], "abc"));
        conn.recv();
        conn.assert_closed();
    }),
];

#[test]
fn a_place_is_given_back_however_the_connection_ends() {
    const PLACES: usize = 4;
    let site = big_site();
    let server = Server::builder(&site).flag("--max-connections", PLACES).start();
    let before = Before::of(&server);
    for (name, end) in ENDS {
        eprintln!("{name}");
        let held = assert_places(&server, PLACES);
        held.into_iter().for_each(end);
    }
    drop(assert_places(&server, PLACES));
    before.assert_over(&server, 4 << 20);
}

/// Each of the four that there may be ends by another deadline.
#[test]
fn a_place_is_given_back_when_time_is_up() {
    let site = big_site();
    let launch = Server::builder(&site).flag("--max-connections", 4).flag("--header-timeout", 2);
    let server = launch.flag("--keep-alive-timeout", 2).flag("--send-timeout", 2).start();
    let mut idle = server.connect();
    idle.assert_open();
    let silent = server.connect();
    let mut begun = server.connect();
    begun.send("GET /alive.txt HTT");
    let mut stuck = server.connect();
    stuck.send(get("/big.bin").repeat(4));
    wait_until("all four have a place", || open(&server) == 4);
    assert_shed(&mut server.connect());
    let _held = assert_places(&server, 4);
    drop((idle, silent, begun, stuck));
}

/// Those who are refused and stay take no place, whatever becomes of them.
#[test]
fn a_refused_client_takes_no_place() {
    let site = Site::new();
    let server = Server::builder(&site).workers(1).flag("--max-connections", 3).start();
    let before = Before::of(&server);
    for round in 0..3 {
        let held = assert_places(&server, 3);
        // More than linger at a time, none of which reads or goes.
        let mut refused: Vec<Conn> = (0..150).map(|_| server.connect()).collect();
        wait_until("all of them are refused", || {
            metric(&server, "cloudia_connections_shed_total") >= (round + 1) * 151
        });
        drop(held);
        let held = assert_places(&server, 3);
        match round {
            0 => refused.into_iter().for_each(Conn::reset),
            1 => drop(refused),
            _ => refused.iter_mut().for_each(assert_shed),
        }
        drop(held);
    }
    drop(assert_places(&server, 3));
    before.assert_over(&server, 2 << 20);
}

/// What they have sent lies unread when they are refused. A close would reset the connection then, and on its way to
/// many systems the reset overtakes the answer.
#[test]
fn a_refusal_reaches_those_who_have_spoken() {
    let site = Site::new();
    let server = Server::builder(&site).flag("--max-connections", 2).start();
    let _held = assert_places(&server, 2);
    let long = with_host("GET", "/alive.txt", &[&format!("X: {}", "x".repeat(12 << 10))], "");
    let upload = with_host("POST", "/alive.txt", &["Content-Length: 50000"], vec![b'x'; 50_000]);
    let requests = [get("/alive.txt"), long, upload, get("/alive.txt").repeat(400), b"\r\n".to_vec(), b"G".to_vec()];
    server.signal("STOP");
    let mut over: Vec<Conn> = (0..300).map(|_| server.connect()).collect();
    for (conn, request) in over.iter_mut().zip(requests.iter().cycle()) {
        conn.send(request);
    }
    server.signal("CONT");
    over.iter_mut().for_each(assert_shed);
}

/// As many as may linger do so, and say nothing. Those who come behind them have spoken.
#[test]
fn a_refusal_reaches_those_who_come_behind_a_crowd() {
    let site = Site::new();
    let server = Server::builder(&site).workers(1).flag("--max-connections", 2).start();
    let _held = assert_places(&server, 2);
    let _crowd: Vec<Conn> = (0..600).map(|_| server.connect()).collect();
    let long = with_host("GET", "/alive.txt", &[&format!("X: {}", "x".repeat(12 << 10))], "");
    server.signal("STOP");
    let mut over: Vec<Conn> = (0..100).map(|_| server.connect()).collect();
    over.iter_mut().for_each(|conn| conn.send(&long));
    server.signal("CONT");
    over.iter_mut().for_each(assert_shed);
}

/// Larger than any buffer, so that it is still being sent when the answer is.
#[test]
fn a_refusal_reaches_those_who_go_on_speaking() {
    let site = Site::new();
    let server = Server::builder(&site).flag("--max-connections", 2).start();
    let _held = assert_places(&server, 2);
    let upload = with_host("POST", "/alive.txt", &["Content-Length: 700000"], vec![b'x'; 700_000]);
    side_by_side(8, |_| {
        let mut conn = server.connect();
        conn.send(&upload);
        assert_shed(&mut conn);
    });
}

#[test]
fn in_a_flood_each_is_served_or_told() {
    const PLACES: usize = 10;
    let site = Site::new();
    let server = Server::builder(&site).flag("--max-connections", PLACES).start();
    let before = Before::of(&server);
    let held = assert_places(&server, PLACES);
    let told = metric(&server, "cloudia_connections_shed_total");
    let served: usize = side_by_side(6, |part| {
        let mut crowd: Vec<Conn> = (0..500).map(|_| server.connect()).collect();
        // Some wait for an answer without having asked.
        crowd.iter_mut().skip(part).step_by(3).for_each(|conn| conn.send(get("/alive.txt")));
        crowd.iter_mut().for_each(assert_told);
        crowd.len()
    })
    .into_iter()
    .sum();
    assert_eq!(metric(&server, "cloudia_connections_shed_total") - told, served as u64);
    for mut conn in held {
        conn.assert_open();
    }
    // Now with places that come and go.
    let kept: Vec<usize> = side_by_side(6, |_| {
        let mut crowd: Vec<Conn> = (0..100).map(|_| server.connect()).collect();
        crowd.iter_mut().filter_map(|conn| is_served(conn).then_some(())).count()
    });
    eprintln!("{kept:?} of 100 each were served");
    before.assert_over(&server, 4 << 20);
}

/// A worker has its turn of refusals; in between it serves.
#[test]
fn those_who_have_a_place_are_served_in_a_flood() {
    let site = Site::new();
    let server = Server::builder(&site).workers(1).flag("--max-connections", 1).start();
    let mut held = fill(&server, 1);
    server.signal("STOP");
    let mut crowd: Vec<Conn> = (0..2000).map(|_| server.connect()).collect();
    held[0].send(get("/alive.txt"));
    server.signal("CONT");
    assert_eq!(held[0].recv().status, 200);
    for _ in 0..20 {
        held[0].assert_open();
    }
    crowd.iter_mut().for_each(assert_shed);
}

#[test]
fn workers_may_be_more_than_cores() {
    let site = Site::new();
    let mut server = Server::builder(&site).workers(6).flag("--max-connections", 300).flag("--grace", 1).start();
    assert!(server.stdout().contains("6 workers, up to 300 connections"), "{}", server.stdout());
    let held = assert_places(&server, 300);
    let tables = descriptors(&server, "worker");
    assert!(tables.len() == 6 && tables.iter().sum::<usize>() >= 300, "{tables:?}");
    assert!(tables.iter().all(|count| *count < 150), "they share a table: {tables:?}");
    drop(held);
    let mut held = assert_places(&server, 300);
    server.signal("TERM");
    // Those that end themselves and those that are asked for.
    for conn in &mut held {
        conn.rest();
    }
    assert_eq!(server.wait().code(), Some(0));
}

/// The processor is left to others while nobody has a place to give and many wait for one.
#[test]
fn a_full_house_is_quiet() {
    let site = Site::new();
    let server = Server::builder(&site).flag("--max-connections", 5).start();
    let _held = assert_places(&server, 5);
    let crowd: Vec<Conn> = (0..300).map(|_| server.connect()).collect();
    wait_until("all are refused", || metric(&server, "cloudia_connections_shed_total") >= 301);
    crate::crowd::assert_rests(&server, Duration::from_secs(1));
    drop(crowd);
}

/// Who says nothing is the kernel's for a second; who speaks is served at once.
#[test]
fn connections_may_be_deferred() {
    let site = Site::new();
    for defers in [true, false] {
        let server = Server::builder(&site).workers(1).args(&[&format!("--defer-accept={defers}")]).start();
        let mut spoken = server.connect();
        let mut is_held_back = || {
            let before = metric(&server, "cloudia_connections_accepted_total");
            let _silent = server.connect();
            (0..3).for_each(|_| spoken.assert_open());
            metric(&server, "cloudia_connections_accepted_total") == before
        };
        if defers {
            wait_until("a silent connection is held back", is_held_back);
        } else {
            assert!(!is_held_back());
        }
    }
}
