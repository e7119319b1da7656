//! `--max-connections-per-ip`: how many connections one IPv4 address or one /64 of IPv6 may have.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener},
    os::unix::net::UnixStream,
};

use crate::{
    cases::{get, request},
    crowd::{Before, assert_shed, from, is_served, metric, open, private, side_by_side, source},
    harness::{Conn, PATIENCE, Server, Site, wait_until},
    network::within,
};

const FLAG: &str = "--max-connections-per-ip";

/// So many from one address, each of them served.
fn fill(server: &Server, address: IpAddr, places: usize) -> Vec<Conn> {
    (0..places)
        .map(|_| {
            let mut conn = from(address, server.addr);
            conn.assert_open();
            conn
        })
        .collect()
}

/// Exactly so many may come from `address` now.
#[track_caller]
fn assert_places(server: &Server, address: IpAddr, places: usize) -> Vec<Conn> {
    let held = fill(server, address, places);
    for _ in 0..3 {
        assert_shed(&mut from(address, server.addr));
    }
    held
}

/// Whichever worker takes them in.
#[test]
fn each_address_has_its_own_places() {
    let site = Site::new();
    for workers in [1, 4] {
        let server = Server::builder(&site).workers(workers).flag(FLAG, 3).start();
        let before = Before::of(&server);
        for _ in 0..3 {
            let held: Vec<Vec<Conn>> = (0..5).map(|n| assert_places(&server, source(n), 3)).collect();
            assert_eq!(open(&server), 15);
            assert_eq!(assert_places(&server, "127.0.0.1".parse().unwrap(), 3).len(), 3);
            drop(held);
            wait_until("the places are given back", || open(&server) == 0);
        }
        assert_eq!(metric(&server, "cloudia_connections_shed_total"), 3 * 6 * 3);
        before.assert_over(&server, 2 << 20);
    }
}

#[test]
fn a_place_of_an_address_is_given_back() {
    let site = Site::new();
    let server = Server::builder(&site).workers(4).flag(FLAG, 2).flag("--header-timeout", 1).start();
    let (here, there) = (source(1), source(2));
    let ends: [fn(Conn); 4] = [
        drop,
        Conn::reset,
        |mut conn| {
            conn.send(request("GET", "/", &["X: y"], ""));
            assert_eq!(conn.recv().status, 400);
        },
        |mut conn| {
            conn.send("G");
            assert_eq!(conn.recv().status, 408);
        },
    ];
    let _others = assert_places(&server, there, 2);
    for end in ends {
        wait_until("the places are given back", || open(&server) == 2);
        assert_places(&server, here, 2).into_iter().for_each(end);
    }
    // Of those who were refused none has taken or given anything.
    wait_until("the places are given back", || open(&server) == 2);
    let mut held = assert_places(&server, here, 2);
    drop(held.pop());
    wait_until("one is given back", || open(&server) == 3);
    assert_places(&server, here, 1);
}

/// As many at once as one address likes, through all workers: never more than it may have, and all of them at last.
#[test]
fn an_address_that_storms_has_no_more_places() {
    let site = Site::new();
    let server = Server::builder(&site).workers(4).flag(FLAG, 10).start();
    for address in [source(7), source(8)] {
        let crowds = side_by_side(4, |_| {
            let mut crowd: Vec<Conn> = (0..100).map(|_| from(address, server.addr)).collect();
            let served = crowd.iter_mut().filter_map(|conn| is_served(conn).then_some(())).count();
            (served, crowd)
        });
        assert_eq!(crowds.iter().map(|(served, _)| served).sum::<usize>(), 10);
    }
    wait_until("the places are given back", || open(&server) == 0);
    drop(assert_places(&server, source(7), 10));
}

#[test]
fn the_whole_budget_counts_as_well() {
    let site = Site::new();
    let server = Server::builder(&site).flag(FLAG, 3).flag("--max-connections", 5).start();
    let first = assert_places(&server, source(1), 3);
    let mut second = fill(&server, source(2), 2);
    // There is no place at all: those who are refused for that have not used up their address.
    for n in 2..20 {
        assert_shed(&mut from(source(n), server.addr));
    }
    drop(first);
    wait_until("the places are given back", || open(&server) == 2);
    second.extend(assert_places(&server, source(2), 1));
    assert_eq!(fill(&server, source(3), 2).len(), 2);
    drop(second);
    wait_until("the places are given back", || open(&server) == 0);
    drop(assert_places(&server, source(2), 3));
}

/// Behind a proxy on the same machine everyone has one address, or none.
#[test]
fn unix_sockets_have_no_address() {
    let site = Site::new();
    let path = site.outside().join("s");
    let server = Server::builder(&site).flag("--listen", format!("unix:{}", path.display())).flag(FLAG, 1).start();
    let _held = assert_places(&server, source(1), 1);
    let mut streams: Vec<UnixStream> = (0..20).map(|_| UnixStream::connect(&path).unwrap()).collect();
    for stream in &mut streams {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&get("/alive.txt")).unwrap();
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).unwrap();
        assert_eq!(&begin, b"HTTP/1.1 200");
    }
}

/// Of addresses that came once nothing is kept.
#[test]
fn addresses_are_forgotten() {
    let site = Site::new();
    let server = Server::builder(&site).flag(FLAG, 2).start();
    let visit = |numbers: std::ops::Range<usize>| {
        for part in numbers.collect::<Vec<_>>().chunks(500) {
            let mut crowd: Vec<Conn> = part.iter().map(|n| from(source(*n), server.addr)).collect();
            crowd.iter_mut().for_each(Conn::assert_open);
            drop(crowd);
            wait_until("all are gone", || open(&server) == 0);
        }
    };
    // What the first connections leave to the heap is its own, and may be a quarter of a megabyte more on a busy
    // machine. 24,000 addresses that stay are at least 470 KB.
    visit(0..2000);
    let before = private(&server);
    visit(2000..26_000);
    let grown = private(&server).saturating_sub(before);
    assert!(grown < 400 << 10, "{grown} bytes for 24000 addresses that are gone");
}

#[test]
fn the_loopback_of_ipv6_is_an_address() {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no [::1]");
        return;
    }
    let site = Site::new();
    let server = Server::builder(&site).listen("[::1]:0").flag(FLAG, 2).start();
    let here = "::1".parse().unwrap();
    drop(assert_places(&server, here, 2));
    wait_until("the places are given back", || open(&server) == 0);
    drop(assert_places(&server, here, 2));
}

/// A household or a machine has a /64, and may use every address of it.
#[test]
fn ipv6_is_counted_by_64_bits() {
    within(&["-6 route add local fd51::/16 dev lo"], |network| {
        let site = Site::new();
        let launch = Server::builder(&site).listen("[::]:4000").admin("off").flag(FLAG, 2).workers(3);
        let mut server = launch.under(&network.words()).start();
        server.addr = "[fd51::1]:4000".parse::<SocketAddr>().unwrap();
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut held = fill(&server, at("fd51:0:0:1::1"), 1);
        held.extend(fill(&server, at("fd51:0:0:1:ffff:ffff:ffff:ffff"), 1));
        for same in ["fd51:0:0:1::1", "fd51:0:0:1::2", "fd51:0:0:1:8000::", "fd51:0:0:1:ffff:ffff:ffff:ffff"] {
            assert_shed(&mut from(at(same), server.addr));
        }
        // They differ in the last bit of the prefix, in its first, and in the middle.
        for other in ["fd51::1", "fd51:0:0:2::1", "fd51:8000:0:1::1", "fd51:0:1:1::1"] {
            held.extend(assert_places(&server, at(other), 2));
        }
        held.iter_mut().for_each(Conn::assert_open);
        drop(held);
        wait_until("the places are given back", || is_served(&mut from(at("fd51:0:0:1::9"), server.addr)));
    });
}
