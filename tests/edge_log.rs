//! `--log-refused`: what is refused has a line, which says who was refused, and there are never many.

use std::time::Instant;

use crate::{
    cases::{get, request},
    crowd::{from, source},
    edge_proxy::{Edge, v1, v2},
    harness::{Conn, Launch, Server, Site, wait_until},
};

/// As many as a worker writes in a second.
const PER_SECOND: usize = 10;

fn launch(site: &Site) -> Launch {
    Server::builder(site).workers(1).args(&["--log-refused"])
}

/// Asks for what no server does, with these fields; the answer is 501.
fn brew(conn: &mut Conn, fields: &[&str]) {
    let fields: Vec<&str> = ["Host: h"].iter().chain(fields).copied().collect();
    conn.send(request("BREW", "/pot", &fields, ""));
    assert_eq!(conn.recv().status, 501);
}

/// The lines that a server has written with this in them.
fn lines(server: &Server, word: &str) -> Vec<String> {
    server.stderr().lines().filter(|line| line.contains(word)).map(str::to_owned).collect()
}

#[track_caller]
fn await_line(server: &Server, words: &[&str]) -> String {
    let mut found = None;
    wait_until(&format!("a line has {words:?}"), || {
        found = lines(server, words[0]).into_iter().find(|line| words.iter().all(|word| line.contains(word)));
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn what_is_refused_has_a_line() {
    let site = Site::new();
    for (number, (status, bytes)) in [
        ("400", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("400", b"GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n".to_vec()),
        ("414", get("/x".repeat(5000))),
        ("431", request("GET", "/", &["Host: h", &format!("X: {}", "x".repeat(20_000))], "")),
        ("501", request("BREW", "/", &["Host: h"], "")),
        ("505", b"GET / HTTP/2.0\r\n\r\n".to_vec()),
    ]
    .into_iter()
    .enumerate()
    {
        let server = launch(&site).start();
        let peer = source(1000 + number);
        let mut conn = from(peer, server.addr);
        conn.send(bytes);
        assert_eq!(conn.recv().status.to_string(), status);
        await_line(&server, &[&peer.to_string(), status]);
    }
}

#[test]
fn connections_that_are_refused_have_one() {
    let site = Site::new();
    let edge = Edge::with(launch(&site).flag("--max-connections-per-ip", 1), "127.0.0.1");
    let mut held = from(source(1), edge.server.addr);
    held.assert_open();
    assert_eq!(from(source(1), edge.server.addr).recv().status, 503);
    await_line(&edge.server, &[&source(1).to_string()]);
    let mut through = edge.say(v2([198, 51, 100, 1]));
    through.assert_open();
    assert_eq!(edge.say(v2([198, 51, 100, 1])).recv().status, 503);
    await_line(&edge.server, &["198.51.100.1"]);
    edge.say("nonsense\r\n").rest();
    await_line(&edge.server, &["127.0.0.1", "PROXY header"]);
    from(source(2), edge.proxy).rest();
    await_line(&edge.server, &[&source(2).to_string(), "--trusted-proxies"]);
}

#[test]
fn without_it_there_is_none() {
    let site = Site::new();
    let edge = Edge::with(Server::builder(&site).flag("--max-connections-per-ip", 1), "127.0.0.1");
    brew(&mut from(source(5), edge.server.addr), &["X-Forwarded-For: 192.0.2.5"]);
    edge.say("nonsense\r\n").rest();
    from(source(6), edge.proxy).rest();
    wait_until("all are counted", || edge.headers("untrusted") == 1 && edge.headers("malformed") == 1);
    for word in ["127.80.", "192.0.2.5", "BREW", "501"] {
        assert!(lines(&edge.server, word).is_empty(), "{}", edge.server.stderr());
    }
}

/// Who may say in whose name it asks, and who may not.
#[test]
fn names_of_others_are_believed_of_those_who_are_trusted() {
    let site = Site::new();
    let trusted = "127.0.0.1,10.0.0.0/8,2001:db8:9::/48";
    // The fields, who is named then, and who must not be.
    let cases: &[(&[&str], &str, &str)] = &[
        (&["X-Forwarded-For: 192.0.2.1"], "192.0.2.1", "nobody"),
        (&["Forwarded: for=192.0.2.2"], "192.0.2.2", "nobody"),
        (&["Forwarded: For=\"[2001:db8::7]:4711\";proto=http;by=10.0.0.1"], "2001:db8::7", "nobody"),
        // What the client itself has claimed stands before what its proxy has added.
        (&["X-Forwarded-For: 192.0.2.66, 192.0.2.3"], "192.0.2.3", "192.0.2.66"),
        (&["X-Forwarded-For: 192.0.2.67, 192.0.2.4, 10.0.0.5"], "192.0.2.4", "192.0.2.67"),
        (&["X-Forwarded-For: 192.0.2.68", "X-Forwarded-For: 192.0.2.5"], "192.0.2.5", "192.0.2.68"),
        (&["Forwarded: for=192.0.2.69, for=192.0.2.6"], "192.0.2.6", "192.0.2.69"),
    ];
    for (fields, named, not) in cases {
        let server = launch(&site).flag("--trusted-proxies", trusted).start();
        brew(&mut server.connect(), fields);
        let line = await_line(&server, &["501"]);
        assert!(line.contains(named) && !line.contains(not), "{fields:?}: {line}");
    }
    // From others, and from a client that a balancer names.
    let edge = Edge::with(launch(&site), trusted);
    brew(&mut from(source(7), edge.server.addr), &["X-Forwarded-For: 192.0.2.70", "Forwarded: for=192.0.2.70"]);
    await_line(&edge.server, &["501", &source(7).to_string()]);
    let mut through = edge.say(v1([198, 51, 100, 8]));
    brew(&mut through, &["X-Forwarded-For: 192.0.2.71"]);
    await_line(&edge.server, &["501", "198.51.100.8"]);
    assert!(lines(&edge.server, "192.0.2.7").is_empty(), "{}", edge.server.stderr());
    // A balancer that does not say who it is has not said it of whoever writes the field either.
    for header in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
        brew(&mut edge.say(header), &["X-Forwarded-For: 192.0.2.72"]);
    }
    wait_until("both are told", || lines(&edge.server, "somebody behind 127.0.0.1").len() == 2);
    assert!(lines(&edge.server, "192.0.2.7").is_empty(), "{}", edge.server.stderr());
    // A balancer that names another proxy which is trusted, and that one names its client.
    let mut through = edge.say(v1([10, 1, 2, 3]));
    brew(&mut through, &["X-Forwarded-For: 192.0.2.80"]);
    await_line(&edge.server, &["501", "192.0.2.80"]);
}

/// What a client writes is not a line of the log, nor a command to a terminal.
#[test]
fn what_is_written_cannot_be_chosen() {
    let site = Site::new();
    let server = launch(&site).flag("--trusted-proxies", "127.0.0.1").start();
    let junk =
        ["X-Forwarded-For: \u{1b}[31mred, 1.2.3.4\u{9b}x", "X-Forwarded-For: not an address", "X-Forwarded-For: ,,,"];
    for field in junk {
        let mut conn = server.connect();
        conn.send(request("BREW", "/", &["Host: h", field], ""));
        assert!([400, 501].contains(&conn.recv().status));
    }
    let mut conn = server.connect();
    conn.send(format!("BREW /\u{1b}]0;title HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: {}\r\n\r\n", "9".repeat(5000)));
    conn.recv();
    await_line(&server, &["127.0.0.1"]);
    let said = server.stderr();
    assert!(said.bytes().all(|byte| byte == b'\n' || (b' '..0x7f).contains(&byte)), "{said:?}");
    assert!(said.lines().all(|line| line.len() < 500), "{said}");
}

/// However many are refused, there are ten lines a second; the rest is counted.
#[test]
fn a_storm_of_refusals_is_no_storm_of_lines() {
    let site = Site::new();
    let server = launch(&site).start();
    let began = Instant::now();
    for _ in 0..300 {
        let mut conn = server.connect();
        brew(&mut conn, &[]);
    }
    let seconds = began.elapsed().as_secs() as usize;
    let written = lines(&server, "501").len();
    assert!((1..=PER_SECOND * (seconds + 2)).contains(&written), "{written} lines in {seconds} s");
    assert!(written < 300);
    let mut conn = server.connect();
    wait_until("a line says how many there were more", || {
        conn = server.connect();
        brew(&mut conn, &[]);
        let said = server.stderr();
        said.lines().any(|line| line.ends_with(" more are refused"))
    });
}
