//! Clients that mean harm, or might as well: they say nothing, too little, too much, or go without a word.
//!
//! Each comes in hundreds. What is looked at is not time: whether the others are served, what the server
//! holds for each while it lasts, and that nothing of it is left. Those that do not read are in
//! `hostile_readers`.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::fd::AsRawFd,
    thread,
    time::Duration,
};

use crate::{
    cases::{get, with_host},
    crowd::{Before, dial, metric, noise, open, side_by_side, stall},
    harness::{Conn, Rng, Server, Site, wait_until},
    network::{ask_in_the_name_of_others, half_open, within},
};

/// Bytes of memory that a client may cost which has sent little or nothing.
const EACH: usize = 1024;

/// What an allocator keeps of what was there.
const KEPT: usize = 2 << 20;

fn server(site: &Site, flags: &[(&str, u32)]) -> Server {
    flags.iter().fold(Server::builder(site), |launch, (flag, value)| launch.flag(flag, value)).start()
}

/// Those who are there do not cost more than so much each, and others are served.
#[track_caller]
fn assert_cheap(before: &Before, server: &Server, clients: usize, each: usize) {
    before.assert_sound(server);
    let grown = before.grown(server);
    eprintln!("{} bytes each of {clients}", grown / clients);
    assert!(grown <= clients * each + (256 << 10), "{grown} bytes of memory for {clients} clients");
}

#[test]
fn silent_clients_are_cheap_and_cut() {
    const CLIENTS: usize = 800;
    let site = Site::new();
    let server = server(&site, &[("--header-timeout", 5)]);
    let before = Before::warm(&server);
    let mut silent: Vec<Conn> = (0..CLIENTS).map(|_| server.connect()).collect();
    wait_until("all have a place", || open(&server) >= CLIENTS as u64);
    assert_cheap(&before, &server, CLIENTS, EACH);
    silent.iter_mut().for_each(Conn::assert_closed);
    assert_eq!(metric(&server, "cloudia_connections_timed_out_total"), CLIENTS as u64);
    before.assert_over(&server, KEPT);
}

/// One byte at a time of a head that never ends: every one of them gets its 408.
#[test]
fn heads_that_trickle_are_cheap_and_end() {
    const CLIENTS: usize = 500;
    let site = Site::new();
    let server = server(&site, &[("--header-timeout", 5)]);
    let before = Before::warm(&server);
    let head = get("/alive.txt?slowly,very,slowly");
    let mut slow: Vec<Conn> = (0..CLIENTS).map(|_| server.connect()).collect();
    // Half of them have asked before.
    slow.iter_mut().step_by(2).for_each(Conn::assert_open);
    for byte in &head[..10] {
        slow.iter_mut().for_each(|conn| conn.send([*byte]));
    }
    wait_until("all have a place", || open(&server) >= CLIENTS as u64);
    assert_cheap(&before, &server, CLIENTS, EACH);
    for byte in &head[10..20] {
        slow.iter_mut().for_each(|conn| conn.send([*byte]));
    }
    for conn in &mut slow {
        let answer = conn.recv();
        assert_eq!((answer.status, answer.get("connection")), (408, Some("close")), "{answer}");
        conn.assert_closed();
    }
    before.assert_over(&server, KEPT);
}

/// As much of a head as there may be costs that much, and only as long as it is waited for.
#[test]
fn long_heads_are_given_back() {
    const CLIENTS: usize = 400;
    let site = Site::new();
    let server = server(&site, &[("--header-timeout", 5)]);
    let before = Before::warm(&server);
    let long = format!("GET /alive.txt HTTP/1.1\r\nHost: h\r\nX: {}", "x".repeat(15 << 10));
    let mut slow: Vec<Conn> = (0..CLIENTS).map(|_| server.connect()).collect();
    slow.iter_mut().for_each(|conn| conn.send(&long));
    wait_until("all have a place", || open(&server) >= CLIENTS as u64);
    assert_cheap(&before, &server, CLIENTS, 17 << 10);
    for conn in &mut slow {
        assert_eq!(conn.recv().status, 408);
        conn.assert_closed();
    }
    before.assert_over(&server, KEPT);
}

/// The body counts for nothing, so nothing of it is held; when it stops, so does its connection.
#[test]
fn bodies_that_trickle_are_cheap_and_end() {
    const CLIENTS: usize = 500;
    let site = Site::new();
    let server = server(&site, &[("--header-timeout", 4)]);
    let before = Before::warm(&server);
    let by_length = with_host("POST", "/alive.txt", &["Content-Length: 60000"], "");
    let by_chunks = with_host("POST", "/alive.txt", &["Transfer-Encoding: chunked"], "ea60\r\n");
    let mut slow: Vec<Conn> = (0..CLIENTS).map(|_| server.connect()).collect();
    for (conn, request) in slow.iter_mut().zip([by_length, by_chunks].iter().cycle()) {
        conn.send(request);
    }
    let body = noise(100);
    for part in body.chunks(10) {
        slow.iter_mut().for_each(|conn| conn.send(part));
    }
    wait_until("all have a place", || open(&server) >= CLIENTS as u64);
    assert_cheap(&before, &server, CLIENTS, EACH);
    for conn in &mut slow {
        // The answer may have come before the body did.
        let end = conn.rest();
        assert!(!end.starts_with(b"HTTP/1.1 2"), "{}", end.escape_ascii());
    }
    before.assert_over(&server, KEPT);
}

/// What comes in time is answered, what comes late is refused; near the deadline it is one of both, and once.
#[test]
fn heads_that_end_about_when_time_is_up() {
    const CLIENTS: usize = 300;
    let site = Site::new();
    let server = server(&site, &[("--header-timeout", 1)]);
    let before = Before::warm(&server);
    let request = get("/alive.txt");
    let (head, end) = request.split_at(request.len() - 1);
    let mut slow: Vec<Conn> = (0..CLIENTS).map(|_| server.connect()).collect();
    slow.iter_mut().step_by(2).for_each(Conn::assert_open);
    slow.iter_mut().for_each(|conn| conn.send(head));
    let mut statuses = [0; 2];
    for conn in &mut slow {
        conn.send(end);
        thread::sleep(Duration::from_millis(8));
    }
    for conn in &mut slow {
        let answer = conn.recv();
        match answer.status {
            200 => {
                assert_eq!(answer.text(), "alive\n");
                statuses[0] += 1;
                conn.assert_open();
            }
            408 => {
                assert_eq!(answer.get("connection"), Some("close"), "{answer}");
                statuses[1] += 1;
                conn.assert_closed();
            }
            _ => panic!("{answer}"),
        }
    }
    eprintln!("{statuses:?} in time and late");
    drop(slow);
    before.assert_over(&server, KEPT);
}

/// Connections that are reset in every state that they can be in, many at once.
#[test]
fn resets_leave_nothing() {
    let site = Site::new();
    site.file("big.bin", noise(1 << 20));
    let server = server(&site, &[]);
    let scenes: [&dyn Fn(&mut Conn); 8] = [
        &|_| {},
        &|conn| conn.send("G"),
        &|conn| conn.send(get("/alive.txt")),
        &Conn::assert_open,
        &|conn| conn.send(get("/big.bin")),
        &|conn| conn.send(get("/big.bin").repeat(8)),
        &|conn| conn.send(with_host("POST", "/alive.txt", &["Content-Length: 5000"], "abc")),
        &|conn| conn.send("nonsense\r\n\r\n"),
    ];
    let storm = || {
        for scene in scenes {
            let mut crowd: Vec<Conn> = (0..150).map(|_| server.connect()).collect();
            crowd.iter_mut().for_each(scene);
            crowd.into_iter().for_each(Conn::reset);
        }
    };
    // What the first storm makes the allocator keep is not what a storm costs.
    storm();
    let before = Before::warm(&server);
    for _ in 0..4 {
        storm();
        server.connect().assert_open();
    }
    before.assert_over(&server, KEPT);
}

/// Reset before they are accepted: the server is held while they come and go.
#[test]
fn resets_in_the_queue_leave_nothing() {
    let site = Site::new();
    let server = server(&site, &[]);
    let before = Before::warm(&server);
    for round in 0..4 {
        server.signal("STOP");
        let mut crowd: Vec<Conn> = (0..300).map(|_| server.connect()).collect();
        if round % 2 == 1 {
            crowd.iter_mut().for_each(|conn| conn.send(get("/alive.txt")));
        }
        // One in ten stays.
        let (stay, go): (Vec<_>, Vec<_>) = crowd.into_iter().enumerate().partition(|(number, _)| number % 10 == 0);
        go.into_iter().for_each(|(_, conn)| conn.reset());
        server.signal("CONT");
        for (_, mut conn) in stay {
            if round % 2 == 1 {
                assert_eq!(conn.recv().status, 200);
            }
            conn.assert_open();
        }
    }
    before.assert_over(&server, KEPT);
}

#[test]
fn connections_that_come_and_go_leave_nothing() {
    let site = Site::new();
    let server = server(&site, &[]);
    let churn = |rounds: usize| {
        side_by_side(4, |part| {
            let mut rng = Rng::with_seed(part as u64);
            for _ in 0..rounds {
                let mut conn = server.connect();
                match rng.below(4) {
                    0 => {}
                    1 => conn.assert_open(),
                    2 => conn.send(get("/alive.txt")),
                    _ => {
                        conn.send(with_host("GET", "/alive.txt", &["Connection: close"], ""));
                        assert_eq!(conn.recv().status, 200);
                        conn.assert_closed();
                    }
                }
            }
        })
    };
    churn(100);
    let before = Before::warm(&server);
    churn(1000);
    before.assert_over(&server, KEPT);
}

/// Their machines were switched off: the server is told nothing, and finds out by its deadlines.
#[test]
fn clients_that_vanish_are_cut() {
    const CLIENTS: usize = 300;
    let site = Site::new();
    site.file("big.bin", noise(4 << 20));
    let server = server(&site, &[("--header-timeout", 4), ("--keep-alive-timeout", 4), ("--send-timeout", 4)]);
    let before = Before::warm(&server);
    let mut crowd: Vec<TcpStream> = Vec::new();
    for number in 0..CLIENTS {
        let mut stream = dial(server.addr, None, None).unwrap();
        match number % 3 {
            0 => {}
            1 => stream.write_all(b"GET /alive.txt HTT").unwrap(),
            _ => {
                stream.write_all(&get("/alive.txt")).unwrap();
                stream.read_exact(&mut [0; 12]).unwrap();
            }
        }
        crowd.push(stream);
    }
    crowd.extend((0..20).map(|_| stall(server.addr, &get("/big.bin"))));
    wait_until("all have a place", || open(&server) >= crowd.len() as u64);
    let vanished = crowd.iter().all(vanish);
    if !vanished {
        eprintln!("skipped: only an administrator of the network can make a client vanish");
        return;
    }
    drop(crowd);
    before.assert_over(&server, KEPT);
}

/// From now on the kernel says nothing for this socket, not even when it is closed.
fn vanish(stream: &TcpStream) -> bool {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open for the whole call, and the option's value is a `c_int` that the call only reads.
    let set = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_REPAIR,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    set == 0
}

/// A client that sends and sends, and reads so that the server can go on. How much was taken of it.
fn pour(server: &Server, bytes: &[u8], most: usize) -> usize {
    let mut stream = dial(server.addr, None, None).unwrap();
    let mut reader = stream.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut chunk = [0; 64 << 10];
            while matches!(reader.read(&mut chunk), Ok(1..)) {}
        });
        let mut sent = 0;
        while sent < most {
            match stream.write(&bytes[sent % bytes.len()..]) {
                Ok(taken) => sent += taken,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        stream.shutdown(Shutdown::Write).ok();
        sent
    })
}

/// 256 MiB in all: what is no request, what is a request for nothing, empty lines, bodies that nobody wants.
#[test]
fn garbage_costs_nothing_but_time() {
    const MEGABYTES: usize = 32;
    let site = Site::new();
    let server = server(&site, &[]);
    let fields: Vec<String> = (0..14).map(|n| format!("X-Garbage-{n}: {}", "g".repeat(1000))).collect();
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    let chunked = with_host("POST", "/", &["Transfer-Encoding: chunked"], "8000\r\n");
    let chunked = [chunked, vec![b'x'; 0x8000], b"\r\n0\r\n\r\n".to_vec()].concat();
    let kinds = [
        noise(1 << 20),
        vec![b'x'; 1 << 20],
        b"\r\n".repeat(1 << 19),
        with_host("GET", format!("/none?{}", "n".repeat(1000)), &fields, ""),
        with_host("GET", format!("/{}", "n".repeat(8000)), &[], "").repeat(8),
        with_host("POST", "/none", &["Content-Length: 60000"], vec![0; 60_000]),
        chunked,
        b"GET /\xff HTTP/1.1\r\n\r\n".repeat(1000),
    ];
    kinds.iter().for_each(|kind| assert!(pour(&server, kind, 1 << 20) > 0));
    let before = Before::warm(&server);
    let poured = side_by_side(kinds.len(), |part| {
        let mut poured = 0;
        // What is refused is begun again on another connection.
        while poured < MEGABYTES << 20 {
            poured += pour(&server, &kinds[part], (MEGABYTES << 20) - poured);
            before.assert_sound(&server);
        }
        poured
    });
    assert!(poured.iter().sum::<usize>() >= 256 << 20);
    before.assert_over(&server, KEPT);
}

/// They open a connection and are silent, faster than they are cut, for as long as the others need to be served.
#[test]
fn newcomers_are_served_while_silent_ones_keep_coming() {
    let site = Site::new();
    let server = server(&site, &[("--header-timeout", 1)]);
    let before = Before::warm(&server);
    let mut silent: Vec<Conn> = Vec::new();
    for _ in 0..100 {
        silent.extend((0..15).map(|_| server.connect()));
        server.connect().assert_open();
        thread::sleep(Duration::from_millis(10));
    }
    silent.iter_mut().for_each(Conn::assert_closed);
    before.assert_over(&server, KEPT);
}

/// The machines that are said to ask never answer. The kernel keeps these to itself, and lets the others through.
#[test]
fn half_open_connections_keep_nobody_out() {
    within(&["route add 10.0.0.0/8 dev lo"], |network| {
        let site = Site::new();
        let server = Server::builder(&site).under(&network.words()).start();
        let before = Before::warm(&server);
        let SocketAddr::V4(address) = server.addr else { unreachable!() };
        for _ in 0..3 {
            ask_in_the_name_of_others(address, 10_000);
            wait_until("they are half open", || half_open(address.port()) > 500);
            eprintln!("{} are half open", half_open(address.port()));
            let mut honest: Vec<Conn> = (0..100).map(|_| server.connect()).collect();
            honest.iter_mut().for_each(Conn::assert_open);
        }
        assert_eq!(before.grown(&server) / (1 << 20), 0);
        before.assert_over(&server, KEPT);
    });
}
