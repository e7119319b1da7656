//! Who may come to a listener for balancers, how many, for how long, and what becomes of it when the server is replaced.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::net::UnixStream,
    path::Path,
};

use crate::{
    cases::{get, request},
    crowd::{assert_shed, from, metric, open, source},
    edge_proxy::{Edge, ended_without_a_word, headers, v1, v2},
    harness::{Conn, PATIENCE, Server, Site, own_address, wait_until},
    network::within,
    stop::LONG_GRACE,
    takeover::{site_of, until_it_drains},
};

const PER_IP: &str = "--max-connections-per-ip";

#[track_caller]
fn assert_ended_without_a_word(conn: &mut Conn) {
    ended_without_a_word(conn).unwrap_or_else(|why| panic!("{why}"));
}

fn client(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, number)
}

/// So many of one source, each of them served.
fn fill(edge: &Edge, header: &[u8], places: usize) -> Vec<Conn> {
    (0..places)
        .map(|_| {
            let mut conn = edge.say(header);
            conn.assert_open();
            conn
        })
        .collect()
}

/// Exactly so many of one source.
#[track_caller]
fn assert_places(edge: &Edge, header: &[u8], places: usize) -> Vec<Conn> {
    let held = fill(edge, header, places);
    for _ in 0..3 {
        assert_shed(&mut edge.say(header));
    }
    held
}

#[test]
fn each_source_has_its_own_places() {
    let site = Site::new();
    for workers in [1, 4] {
        let edge = Edge::with(Server::builder(&site).workers(workers).flag(PER_IP, 3), "127.0.0.1");
        let held: Vec<Vec<Conn>> = (0..5).map(|n| assert_places(&edge, &v2(client(n)), 3)).collect();
        assert_eq!(open(&edge.server), 15);
        assert_eq!(metric(&edge.server, "cloudia_connections_shed_total"), 15);
        // In the other version they are the same.
        assert_shed(&mut edge.say(v1(client(2))));
        drop(held);
        wait_until("the places are given back", || open(&edge.server) == 0);
        drop(assert_places(&edge, &v1(client(2)), 3));
    }
}

#[test]
fn of_ipv6_the_first_half_counts_and_what_is_mapped_is_ipv4() {
    let site = Site::new();
    let edge = Edge::with(Server::builder(&site).flag(PER_IP, 2), "127.0.0.1");
    let v6 = |text: &str| v2(text.parse::<Ipv6Addr>().unwrap());
    let _one = fill(&edge, &v6("2001:db8:1:1::1"), 1);
    let _two = fill(&edge, &v6("2001:db8:1:1:ffff::2"), 1);
    assert_shed(&mut edge.say(v6("2001:db8:1:1::3")));
    let _other = assert_places(&edge, &v6("2001:db8:1:2::1"), 2);
    let _mapped = fill(&edge, &v6("::ffff:203.0.113.9"), 1);
    let _plain = fill(&edge, &v1(client(9)), 1);
    assert_shed(&mut edge.say(v6("::ffff:203.0.113.9")));
    assert_shed(&mut edge.say(v2(client(9))));
    // A whole /64 of mapped addresses is no client.
    drop(fill(&edge, &v6("::ffff:203.0.113.10"), 2));
}

/// A client that comes on both ways is one client; the balancer itself is none.
#[test]
fn the_source_counts_and_the_balancer_does_not() {
    let site = Site::new();
    let edge = Edge::with(Server::builder(&site).flag(PER_IP, 2), "127.0.0.1");
    let here = source(3);
    let mut direct = from(here, edge.server.addr);
    direct.assert_open();
    let _through = fill(&edge, &v2(here), 1);
    assert_shed(&mut edge.say(v2(here)));
    assert_shed(&mut from(here, edge.server.addr));
    // Twenty connections of one balancer, and it has places of its own where it comes as a client.
    let unknown = b"PROXY UNKNOWN\r\n";
    let _checks = fill(&edge, unknown, 10);
    let _clients: Vec<Vec<Conn>> = (0..10).map(|n| fill(&edge, &v2(client(n)), 1)).collect();
    let mut plain: Vec<Conn> = (0..2).map(|_| edge.server.connect()).collect();
    plain.iter_mut().for_each(Conn::assert_open);
    assert_shed(&mut edge.server.connect());
}

#[test]
fn a_place_of_a_source_is_given_back() {
    let site = Site::new();
    let edge = Edge::with(Server::builder(&site).flag(PER_IP, 2).flag("--header-timeout", 1), "127.0.0.1");
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
    for end in ends {
        assert_places(&edge, &v2(client(1)), 2).into_iter().for_each(end);
        wait_until("the places are given back", || open(&edge.server) == 0);
    }
    // So are those of headers behind which nothing comes.
    for _ in 0..5 {
        let mut silent = edge.say(v2(client(1)));
        assert_ended_without_a_word(&mut silent);
    }
    drop(assert_places(&edge, &v2(client(1)), 2));
}

/// What X-Forwarded-For says is for the log at most.
#[test]
fn forwarded_for_does_not_count() {
    let site = Site::new();
    let edge = Edge::with(Server::builder(&site).flag(PER_IP, 1), "127.0.0.1");
    let claim = |conn: &mut Conn, n: u8| {
        let fields = [format!("X-Forwarded-For: 203.0.113.{n}"), format!("Forwarded: for=203.0.113.{n}")];
        conn.send(request("GET", "/alive.txt", &["Host: h", &fields[0], &fields[1]], ""));
    };
    // All of them say the same client, and none is refused for it.
    let _held: Vec<Conn> = (0..5)
        .map(|n| {
            let mut conn = edge.say(v2(client(100 + n)));
            claim(&mut conn, 1);
            assert_eq!(conn.recv().status, 200);
            conn
        })
        .collect();
    // The same source under other names is refused.
    let mut conn = edge.say(v2(client(100)));
    claim(&mut conn, 77);
    assert_eq!(conn.recv().status, 503);
    let mut plain = edge.server.connect();
    claim(&mut plain, 1);
    assert_eq!(plain.recv().status, 200);
    let mut plain = edge.server.connect();
    claim(&mut plain, 2);
    assert_eq!(plain.recv().status, 503);
}

#[test]
fn who_is_not_trusted_is_closed_at_once() {
    let site = Site::new();
    let launch = || Server::builder(&site).flag("--header-timeout", 600);
    for (trusted, yes, no) in [
        ("127.80.0.5", vec![source(5)], vec![source(4), source(6), "127.0.0.1".parse().unwrap()]),
        ("127.80.0.0/24", vec![source(0), source(255)], vec![source(256), "127.79.255.255".parse().unwrap()]),
        (
            "127.80.0.0/31,10.0.0.0/8,::1,127.80.1.0/24",
            vec![source(0), source(1), source(256)],
            vec![source(2), source(512)],
        ),
        ("10.0.0.0/8", vec![], vec![source(0), "127.0.0.1".parse().unwrap()]),
        ("0.0.0.0/0", vec![source(0), "127.0.0.1".parse().unwrap()], vec![]),
    ] {
        let edge = Edge::with(launch(), trusted);
        for peer in &yes {
            let mut conn = from(*peer, edge.proxy);
            conn.send(v1(client(1)));
            conn.assert_open();
        }
        for peer in &no {
            for said in [&b""[..], &v1(client(1)), &v2(client(1)), b"PROXY UNKNOWN\r\n", &get("/alive.txt")] {
                let mut conn = from(*peer, edge.proxy);
                conn.send(said);
                ended_without_a_word(&mut conn).unwrap_or_else(|why| panic!("{peer} of {trusted}: {why}"));
            }
            // On the other listener nobody has to be trusted.
            from(*peer, edge.server.addr).assert_open();
        }
        let counted = (edge.headers("accepted"), edge.headers("untrusted"), edge.headers("malformed"));
        assert_eq!(counted, (yes.len() as u64, 5 * no.len() as u64, 0), "{trusted}");
        wait_until("all have ended", || open(&edge.server) == 0);
    }
}

/// A network of one kind says nothing of addresses of the other.
#[test]
fn trust_knows_both_kinds_of_addresses() {
    let addresses =
        ["addr add 10.7.0.1/24 dev lo", "addr add fd07::1/64 dev lo nodad", "addr add fd08::1/64 dev lo nodad"];
    within(&addresses, |network| {
        let site = Site::new();
        let launch = Server::builder(&site).under(&network.words()).listen("127.0.0.1:8001").admin("127.0.0.1:8002");
        let trusted = "10.7.0.0/24,fd07::/64";
        let launch = launch.flag("--listen-proxy", "[::]:8003").flag("--listen-proxy", "0.0.0.0:8003");
        let server = launch.flag("--trusted-proxies", trusted).start();
        let v4 = SocketAddr::from((Ipv4Addr::new(10, 7, 0, 1), 8003));
        let v6 = |text: &str| SocketAddr::from((text.parse::<Ipv6Addr>().unwrap(), 8003));
        let cases: [(IpAddr, SocketAddr, bool); 5] = [
            ("10.7.0.1".parse().unwrap(), v4, true),
            ("127.0.0.1".parse().unwrap(), SocketAddr::from(([127, 0, 0, 1], 8003)), false),
            ("fd07::1".parse().unwrap(), v6("fd07::1"), true),
            ("fd08::1".parse().unwrap(), v6("fd08::1"), false),
            ("::1".parse().unwrap(), v6("::1"), false),
        ];
        for (peer, to, is_trusted) in cases {
            let mut conn = from(peer, to);
            conn.send(v2(client(1)));
            if is_trusted {
                conn.assert_open();
            } else {
                assert_ended_without_a_word(&mut conn);
            }
        }
        assert_eq!((headers(&server, "accepted"), headers(&server, "untrusted")), (2, 3));
    });
}

/// Bytes that trickle do not help: it is the whole header that has to have come.
#[test]
fn a_header_that_does_not_come_whole_is_closed_without_an_answer() {
    let site = Site::new();
    let edge = Edge::with(Server::builder(&site).flag("--header-timeout", 1), "127.0.0.1");
    let (one, two) = (v1(client(1)), v2(client(1)));
    let parts = [&b""[..], b"P", &one[..one.len() - 1], &two[..3], &two[..12], &two[..16], &two[..two.len() - 1]];
    let mut conns: Vec<Conn> = parts.iter().map(|part| edge.say(part)).collect();
    for conn in &mut conns {
        assert_ended_without_a_word(conn);
    }
    let mut trickling = edge.say("PROXY UNKNOWN ");
    while trickling.ended().is_none() {
        trickling.send("x");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_ended_without_a_word(&mut trickling);
    wait_until("all have ended", || open(&edge.server) == 0);
    assert_eq!(edge.headers("accepted"), 0);
}

/// Once the header has come it is a connection like any other: silence is closed silently, half a request is told.
#[test]
fn the_first_request_has_the_time_that_is_left() {
    let site = Site::new();
    let edge = Edge::with(Server::builder(&site).flag("--header-timeout", 1), "127.0.0.1");
    let mut silent = edge.say(v1(client(1)));
    let mut half = edge.say([v1(client(1)), b"GET / HTT".to_vec()].concat());
    silent.assert_closed();
    let answer = half.recv();
    assert_eq!(answer.status, 408, "{answer}");
    half.assert_closed();
}

/// A connection that has not said whose it is has no source, and counts among all the same.
#[test]
fn the_whole_budget_counts_as_well() {
    let site = Site::new();
    let edge = Edge::with(Server::builder(&site).flag("--max-connections", 3), "127.0.0.1");
    let held: Vec<Conn> = (0..3).map(|_| Conn::to(edge.proxy)).collect();
    wait_until("they have come", || open(&edge.server) == 3);
    assert_shed(&mut edge.server.connect());
    drop(held);
    wait_until("they are gone", || open(&edge.server) == 0);
    drop(fill(&edge, &v2(client(1)), 3));
}

#[test]
fn a_unix_socket_may_be_one_and_needs_nobody_to_be_named() {
    let site = Site::new();
    let path = site.outside().join("balancer");
    let name = format!("unix:{}", path.display());
    let mut server = Server::builder(&site).flag("--listen-proxy", name).flag(PER_IP, 1).start();
    let served = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        let mut begin = [0; 12];
        let status = stream.read_exact(&mut begin).ok().map(|()| String::from_utf8_lossy(&begin[9..]).into_owned());
        (stream, status)
    };
    let ask = |header: Vec<u8>| [header, get("/alive.txt")].concat();
    let (_held, status) = served(&ask(v2(client(1))));
    assert_eq!(status.as_deref(), Some("200"));
    assert_eq!(served(&ask(v2(client(1)))).1.as_deref(), Some("503"));
    assert_eq!(served(&ask(v1(client(2)))).1.as_deref(), Some("200"));
    let unknown: Vec<_> = (0..3).map(|_| served(&ask(b"PROXY UNKNOWN\r\n".to_vec()))).collect();
    assert!(unknown.iter().all(|(_, status)| status.as_deref() == Some("200")));
    assert_eq!(served(&get("/alive.txt")).1, None);
    assert_eq!((headers(&server, "malformed"), headers(&server, "untrusted")), (1, 0));
    drop(unknown);
    assert_eq!(server.stop().code(), Some(0));
    assert!(!path.exists());
}

/// Neither side of a take-over takes a request without a header there, and what is open goes on.
#[test]
fn a_take_over_keeps_the_listener_what_it_is() {
    let [site, next] = [site_of("old"), site_of("new")];
    let launch = Server::builder(&site).listen(own_address()).admin(own_address()).flag("--grace", LONG_GRACE);
    let mut edge = Edge::with(launch.flag(PER_IP, 2), "127.0.0.1");
    let mut conn = edge.say(v2(client(1)));
    conn.assert_open();
    let mut late = Conn::to(edge.proxy);
    wait_until("both have come", || open(&edge.server) == 2);
    let again = |launch: crate::harness::Launch| {
        launch.flag("--listen-proxy", edge.proxy).flag("--trusted-proxies", "127.0.0.1").flag(PER_IP, 2)
    };
    let new = again(edge.server.successor(&next)).start();
    for _ in 0..40 {
        let mut conn =
            edge.say([v2(client(7)), request("GET", "/who.txt", &["Host: h", "Connection: close"], "")].concat());
        assert_eq!(conn.recv().text(), "new");
        assert_ended_without_a_word(&mut edge.say(get("/who.txt")));
    }
    assert_eq!(headers(&new, "malformed"), 40);
    // One that had come before, and says only now whose it is.
    late.send([v1(client(3)), get("/who.txt")].concat());
    assert_eq!(late.recv().text(), "old");
    assert_eq!(until_it_drains(&mut conn), "old");
    drop(late);
    assert_eq!(edge.server.wait().code(), Some(0));
    drop(assert_places(&Edge { server: new, proxy: edge.proxy }, &v2(client(1)), 2));
}

/// What the new one is told counts, not what the socket was.
#[test]
fn a_listener_may_become_one_by_a_take_over() {
    let [site, next] = [site_of("old"), site_of("new")];
    let (plain, other) = (own_address(), own_address());
    let mut old = Server::builder(&site).listen(plain).flag("--listen", other).admin(own_address()).start();
    Conn::to(other).assert_open();
    let new = Server::builder(&next).listen(plain).admin(old.admin.unwrap()).args(&["--take-over"]);
    let new = new.flag("--listen-proxy", other).flag("--trusted-proxies", "127.0.0.1").start();
    assert_eq!(old.wait().code(), Some(0));
    for _ in 0..20 {
        let mut bare = Conn::to(other);
        bare.send(get("/who.txt"));
        assert_ended_without_a_word(&mut bare);
        let mut conn = Conn::to(other);
        conn.send([v2(client(1)), get("/who.txt")].concat());
        assert_eq!(conn.recv().text(), "new");
    }
    assert_eq!(headers(&new, "malformed"), 20);
}

#[test]
fn connections_without_a_header_do_not_hold_up_the_end() {
    let site = Site::new();
    let mut edge = Edge::with(Server::builder(&site).flag("--grace", 1), "127.0.0.1");
    let mut conns: Vec<Conn> = ["", "PROXY", "PROXY UNKNOWN\r\n"].iter().map(|said| edge.say(said)).collect();
    wait_until("they have come", || open(&edge.server) == 3);
    assert_eq!(edge.server.stop().code(), Some(0));
    conns.iter_mut().for_each(assert_ended_without_a_word);
}

#[test]
fn whom_to_trust_must_be_said_and_be_addresses() {
    let site = Site::new();
    let refused = |flags: &[&str], word: &str| {
        let ended = Server::builder(&site).args(flags).end();
        assert_eq!(ended.code, Some(2), "{flags:?}: {ended:?}");
        assert!(ended.stderr.lines().count() == 1 && ended.stderr.contains(word), "{flags:?}: {}", ended.stderr);
    };
    refused(&["--listen-proxy", "127.0.0.1:0"], "--trusted-proxies");
    refused(&["--listen-proxy", "unix:/tmp/x", "--listen-proxy", "127.0.0.1:0"], "--trusted-proxies");
    for wrong in [
        "10.0.0.0/33",
        "::/129",
        "10.0.0/8",
        "localhost",
        "10.0.0.1:80",
        "10.0.0.0/",
        "/8",
        "10.0.0.0/-1",
        "10.0.0.0/+8",
        "1.2.3.4,,5.6.7.8",
    ] {
        refused(&["--listen-proxy", "127.0.0.1:0", "--trusted-proxies", wrong], "trusted-proxies");
    }
    refused(&["--listen-proxy", "nonsense", "--trusted-proxies", "127.0.0.1"], "nonsense");
}

/// Who has asked for a listener behind a balancer alone has not asked for one in front of it.
#[test]
fn alone_it_is_the_only_listener() {
    let site = Site::new();
    let proxy = own_address();
    let data = site.data().display().to_string();
    let flags = ["serve", "--data", &data, "--admin", "off", "--trusted-proxies", "127.0.0.0/8", "--listen-proxy"];
    let server = Server::builder(&site).bare().args(&flags).args(&[&proxy.to_string()]).start();
    let mut conn = Conn::to(proxy);
    conn.send(v2(client(1)));
    conn.assert_open();
    let inodes = listening(Path::new(&format!("/proc/{}", server.pid())));
    let ours: Vec<&SocketAddr> = inodes.iter().filter(|addr| addr.port() != proxy.port()).collect();
    assert!(ours.is_empty(), "it listens on {ours:?}");
}

/// The IPv4 addresses that a process listens on, and those of IPv6 by their port alone.
fn listening(process: &Path) -> Vec<SocketAddr> {
    let tasks = std::fs::read_dir(process.join("task")).unwrap().flatten();
    let descriptors = tasks.flat_map(|task| std::fs::read_dir(task.path().join("fd")).into_iter().flatten().flatten());
    let links: Vec<String> =
        descriptors.filter_map(|fd| Some(std::fs::read_link(fd.path()).ok()?.to_string_lossy().into_owned())).collect();
    let mut found = Vec::new();
    for table in ["net/tcp", "net/tcp6"] {
        for line in std::fs::read_to_string(process.join(table)).unwrap_or_default().lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if words[3] == "0A" && links.contains(&format!("socket:[{}]", words[9])) {
                let port = u16::from_str_radix(words[1].rsplit(':').next().unwrap(), 16).unwrap();
                found.push(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
            }
        }
    }
    assert!(!found.is_empty());
    found
}
