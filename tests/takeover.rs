//! A new cloudia takes the place of a running one: who is connected, who is about to be, and who polls notice nothing.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
};

use crate::{
    cases::{get, request, with_host},
    conn::Response,
    drain::last_refusal,
    harness::{Conn, Launch, Server, Site, own_address, wait_until},
    pollers::{Manner, Pollers},
    stop::{BIG, LONG_GRACE, ask_for_much, big_body, get_by, has_ipv6, read_slowly},
};

/// A site of which every answer to `/who.txt` tells whose it is.
pub(crate) fn site_of(who: &str) -> Site {
    let site = Site::new();
    site.file("who.txt", who);
    site
}

/// Where it can be found again, by whoever takes its place. It would wait for its connections for an hour.
pub(crate) fn founder(site: &Site) -> Launch {
    Server::builder(site).listen(own_address()).admin(own_address()).flag("--grace", LONG_GRACE)
}

/// A server that takes the place of `old` and would wait as long.
pub(crate) fn heir(old: &Server, site: &Site) -> Launch {
    old.successor(site).flag("--grace", LONG_GRACE)
}

/// The answer to `/who.txt` on a new connection.
pub(crate) fn who(addr: SocketAddr) -> String {
    let mut conn = Conn::to(addr);
    conn.send(request("GET", "/who.txt", &["Host: h", "Connection: close"], ""));
    conn.recv().text()
}

/// New connections, whatever worker they come to, are all `name`'s.
#[track_caller]
pub(crate) fn assert_all_are_of(addr: SocketAddr, name: &str) {
    for _ in 0..60 {
        assert_eq!(who(addr), name);
    }
}

/// Asks on and on until an answer says that it is the last, which it does soon after the new one is ready; its text.
#[track_caller]
pub(crate) fn until_it_drains(conn: &mut Conn) -> String {
    let mut last = None;
    wait_until("the last answer", || {
        conn.send(get("/who.txt"));
        let answer = conn.recv();
        let is_last = answer.get("connection") == Some("close");
        last = is_last.then(|| answer.text());
        is_last
    });
    conn.assert_closed();
    last.unwrap()
}

/// The sockets that listen on `addr`.
pub(crate) fn listeners(addr: SocketAddr) -> usize {
    let table = if addr.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    let port = format!(":{:04X}", addr.port());
    let ip = match addr {
        SocketAddr::V4(addr) => format!("{:08X}", u32::from_le_bytes(addr.ip().octets())),
        SocketAddr::V6(_) => String::new(),
    };
    let text = fs::read_to_string(table).unwrap();
    let is_listening = |line: &&str| {
        let mut words = line.split_whitespace().skip(1);
        words.next().is_some_and(|local| local.ends_with(&port) && local.starts_with(&ip)) && words.nth(1) == Some("0A")
    };
    text.lines().filter(is_listening).count()
}

/// How many descriptors all threads of the server have, each counted once for each table that holds it.
fn descriptors(server: &Server) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    tasks.flatten().map(|task| fs::read_dir(task.path().join("fd")).unwrap().count()).sum()
}

#[test]
fn pollers_notice_nothing() {
    let [site, next] = [site_of("old"), site_of("new")];
    let mut old = founder(&site).start();
    let pollers = [Manner::KeepAlive, Manner::Fresh].map(|manner| Pollers::start(old.addr, 40, manner));
    let new = heir(&old, &next).start();
    // All of the old one's connections have polled, so it ends, however long its grace.
    assert_eq!(old.wait().code(), Some(0));
    assert_all_are_of(old.addr, "new");
    pollers.iter().for_each(|pollers| pollers.wait_for_more(200));
    for pollers in pollers {
        let tally = pollers.noticed_nothing();
        assert!(tally.last_words > 0);
    }
    assert_eq!(old.stderr().matches("panicked").count() + new.stderr().matches("panicked").count(), 0);
    assert_eq!(listeners(new.addr), 2);
}

/// The old one finishes what it has begun; only what is asked on a new connection is for the new one.
#[test]
fn what_is_under_way_is_finished_by_the_old_one() {
    let [site, next] = [site_of("old"), site_of("new")];
    site.file("big.bin", big_body());
    let mut old = founder(&site).start();
    let mut idle: Vec<Conn> = (0..10).map(|_| old.connect()).collect();
    idle.iter_mut().for_each(Conn::assert_open);
    let mut head = old.connect();
    head.assert_open();
    head.send("GET /who.txt HTTP/1.1\r\nHo");
    let mut body = old.connect();
    body.send(with_host("POST", "/who.txt", &["Transfer-Encoding: chunked"], "2\r\nab\r\n"));
    let mut slow = ask_for_much(old.addr);
    let new = heir(&old, &next).start();
    assert_all_are_of(new.addr, "new");
    for conn in &mut idle {
        assert_eq!(until_it_drains(conn), "old");
    }
    head.send("st: h\r\n\r\n");
    let answer = head.recv();
    assert_eq!((answer.text().as_str(), answer.get("connection")), ("old", Some("close")), "{answer}");
    head.assert_closed();
    body.send("1\r\nc\r\n0\r\n\r\n");
    last_refusal(&mut body);
    assert!(read_slowly(&mut slow) == big_body(), "other bytes");
    slow.write_all(&get("/who.txt")).unwrap();
    let mut last = String::new();
    slow.read_to_string(&mut last).expect("the end of the connection");
    assert!(last.contains("\r\nConnection: close\r\n") && last.ends_with("\r\n\r\nold"), "{last}");
    drop((idle, head, body, slow));
    assert_eq!(old.wait().code(), Some(0));
    assert_all_are_of(new.addr, "new");
}

/// Batches of requests, each in one write, on connections that live across the change.
#[test]
fn pipelines_are_answered() {
    const BATCH: usize = 20;
    let [site, next] = [site_of("old"), site_of("new")];
    let mut old = founder(&site).start();
    let mut conns: Vec<Conn> = (0..10).map(|_| old.connect()).collect();
    let answer_all = |conn: &mut Conn| {
        conn.send(get("/alive.txt").repeat(BATCH));
        let answers: Vec<Response> = (0..BATCH).map(|_| conn.recv()).collect();
        assert!(answers.iter().all(|answer| answer.text() == "alive\n"));
        answers.iter().position(|answer| answer.get("connection") == Some("close"))
    };
    assert!(conns.iter_mut().all(|conn| answer_all(conn).is_none()));
    let new = heir(&old, &next).start();
    for conn in &mut conns {
        // All that came in one packet are answered, and only the last of them is called the last.
        wait_until("the old one drains", || {
            let last = answer_all(conn);
            assert!(last.is_none_or(|at| at == BATCH - 1), "{last:?}");
            last.is_some()
        });
        conn.assert_closed();
    }
    drop(conns);
    assert_eq!(old.wait().code(), Some(0));
    assert_all_are_of(new.addr, "new");
}

/// Those that the old one has not accepted when it is asked to give way, in every worker's queue.
#[test]
fn who_waits_in_the_queue_is_answered() {
    let queue = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let clients = queue.trim().parse::<usize>().unwrap().min(300);
    for (before, after) in [(1, 1), (3, 2), (1, 3)] {
        let [site, next] = [site_of("old"), site_of("new")];
        let mut old = founder(&site).workers(before).start();
        old.signal("STOP");
        let mut waiting: Vec<Conn> = (0..clients).map(|_| old.connect()).collect();
        waiting.iter_mut().step_by(2).for_each(|conn| conn.send(get("/alive.txt")));
        let new = heir(&old, &next).workers(after).begin();
        old.signal("CONT");
        let new = new.become_ready().unwrap();
        waiting.iter_mut().skip(1).step_by(2).for_each(|conn| conn.send(get("/alive.txt")));
        for conn in &mut waiting {
            assert_eq!(conn.recv().text(), "alive\n", "{before} to {after} workers");
        }
        drop(waiting);
        assert_eq!(old.wait().code(), Some(0));
        assert_all_are_of(new.addr, "new");
    }
}

/// A listener that is kept and not accepted from would let its share of the connections hang.
#[test]
fn the_number_of_workers_may_change() {
    let site = Site::new();
    let mut server = founder(&site).workers(1).start();
    let fresh = Pollers::start(server.addr, 8, Manner::Fresh);
    let kept = Pollers::start(server.addr, 16, Manner::KeepAlive);
    for workers in [3, 1, 2, 4, 1] {
        let next = heir(&server, &site).workers(workers).start();
        assert_eq!(server.wait().code(), Some(0));
        server = next;
        assert!(server.stdout().contains(&format!(" {workers} worker")), "{}", server.stdout());
        for _ in 0..60 {
            server.connect().assert_open();
        }
        fresh.wait_for_more(50);
    }
    fresh.noticed_nothing();
    kept.noticed_nothing();
}

#[test]
fn a_chain_leaves_nothing_behind() {
    let site = Site::new();
    let mut server = founder(&site).start();
    let pollers = [Manner::KeepAlive, Manner::Fresh].map(|manner| Pollers::start(server.addr, 20, manner));
    let mut held = Vec::new();
    for _ in 0..5 {
        let next = heir(&server, &site).start();
        assert_eq!(server.wait().code(), Some(0));
        server = next;
        pollers.iter().for_each(|pollers| pollers.wait_for_more(40));
    }
    pollers.into_iter().for_each(|pollers| drop(pollers.noticed_nothing()));
    for _ in 0..3 {
        let next = heir(&server, &site).start();
        assert_eq!(server.wait().code(), Some(0));
        server = next;
        held.push(descriptors(&server));
    }
    assert!(held.iter().all(|count| *count <= held[0] + 1), "descriptors pile up: {held:?}");
    assert_eq!(server.stop().code(), Some(0));
    assert_eq!(listeners(server.addr), 0);
}

#[test]
fn addresses_come_stay_and_go() {
    let [site, next] = [site_of("old"), site_of("new")];
    let [stays, goes, comes] = [own_address(), own_address(), own_address()];
    let mut old = founder(&site).listen(goes).flag("--listen", stays).start();
    let pollers = Pollers::start(stays, 20, Manner::Fresh);
    let new = heir(&old, &next).listen(comes).flag("--listen", stays).start();
    assert_eq!(old.wait().code(), Some(0));
    assert_all_are_of(stays, "new");
    assert_all_are_of(comes, "new");
    assert!(TcpStream::connect(goes).is_err(), "{goes} is still there");
    // Whoever wants it may have it.
    drop(TcpListener::bind(goes).expect("a free address"));
    pollers.noticed_nothing();
    let line = |addr| format!("listen   http://{addr}/\n");
    let said = new.stdout();
    assert!(said.contains(&line(stays)) && said.contains(&line(comes)) && !said.contains(&line(goes)), "{said}");
}

/// An address that the new one wants and cannot have is a reason for it to end; the old one stays.
#[test]
fn a_further_address_that_is_in_use_is_refused() {
    let site = Site::new();
    let mut old = founder(&site).start();
    let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = foreign.local_addr().unwrap();
    let pollers = Pollers::start(old.addr, 20, Manner::KeepAlive);
    let ended = heir(&old, &site).flag("--listen", taken).end();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains(&taken.to_string()) && ended.stderr.lines().count() == 1, "{ended:?}");
    assert!(old.is_running());
    pollers.wait_for_more(40);
    assert_eq!(pollers.noticed_nothing().last_words, 0, "the old one has begun to drain");
}

#[test]
fn ipv6_is_handed_over() {
    if !has_ipv6() {
        return;
    }
    let [site, next] = [site_of("old"), site_of("new")];
    let port = own_address().port();
    let mut old = founder(&site).listen(format!("[::1]:{port}")).start();
    let pollers = Pollers::start(old.addr, 10, Manner::Fresh);
    let new = heir(&old, &next).start();
    assert_eq!(old.wait().code(), Some(0));
    assert!(new.addr.is_ipv6());
    assert_all_are_of(new.addr, "new");
    pollers.noticed_nothing();
}

fn socket(site: &Site) -> (PathBuf, String) {
    let path = site.outside().join("s");
    let flag = format!("unix:{}", path.display());
    (path, flag)
}

/// Its name is there throughout, and goes with the last one.
#[test]
fn a_unix_socket_is_handed_over() {
    let site = Site::new();
    let (path, flag) = socket(&site);
    let mut server = founder(&site).flag("--listen", &flag).start();
    for workers in [3, 1] {
        let mut next = heir(&server, &site).flag("--listen", &flag).workers(workers).begin();
        wait_until("it is ready", || {
            assert!(get_by(&path).expect("it is there").ends_with("\r\n\r\nalive\n"));
            next.is_ready() || !next.server.is_running()
        });
        let next = next.become_ready().unwrap();
        assert_eq!(server.wait().code(), Some(0));
        assert!(path.exists(), "the old one has taken the name with it");
        for _ in 0..20 {
            assert!(get_by(&path).unwrap().ends_with("\r\n\r\nalive\n"));
        }
        server = next;
    }
    assert_eq!(server.stop().code(), Some(0));
    assert!(!path.exists(), "the name is left");
}

/// The new one does not listen there any more: so nobody does.
#[test]
fn a_unix_socket_that_is_not_wanted_goes() {
    let site = Site::new();
    let (path, flag) = socket(&site);
    let mut old = founder(&site).flag("--listen", &flag).start();
    let _new = heir(&old, &site).start();
    assert_eq!(old.wait().code(), Some(0));
    assert!(get_by(&path).is_err() && !path.exists(), "the name is left");
}

/// A server is found by its Unix socket as well.
#[test]
fn a_server_on_a_unix_socket_alone_is_found() {
    let [site, next] = [site_of("old"), site_of("new")];
    let (path, flag) = socket(&site);
    let launch = |site: &Site| Server::builder(site).listen(&flag).admin("off").flag("--grace", LONG_GRACE);
    let mut old = launch(&site).begin().become_ready().unwrap();
    let mut new = launch(&next).args(&["--take-over"]).begin().become_ready().unwrap();
    assert_eq!(old.wait().code(), Some(0));
    assert!(get_by(&path).unwrap().ends_with("\r\n\r\nalive\n"));
    assert_eq!(new.stop().code(), Some(0));
    assert!(!path.exists(), "the name is left");
}

#[test]
fn the_admin_listener_answers_throughout() {
    let [site, next] = [site_of("old"), site_of("new")];
    let mut old = founder(&site).start();
    let admin = old.admin.unwrap();
    let judge = || -> crate::pollers::Judge {
        Box::new(|answer| if answer.status == 200 { Ok(()) } else { Err(answer.to_string()) })
    };
    let pollers = ["/healthz", "/readyz"].map(|path| Pollers::judging(admin, 2, Manner::Fresh, path, judge));
    // What keeps the old one from ending while it drains.
    let mut idle = old.connect();
    idle.assert_open();
    let new = heir(&old, &next).start();
    assert_eq!(new.admin, Some(admin));
    pollers.iter().for_each(|pollers| pollers.wait_for_more(20));
    let pid = |server: &Server| format!("\"pid\":{}", server.pid());
    let status = new.admin_get("/status.json", &["Host: localhost"]).text();
    if status.contains("\"pid\"") {
        assert!(status.contains(&pid(&new)), "{status}");
    }
    assert_eq!(until_it_drains(&mut idle), "old");
    drop(idle);
    assert_eq!(old.wait().code(), Some(0));
    for pollers in pollers {
        pollers.noticed_nothing();
    }
    assert_eq!(new.admin_get("/readyz", &["Host: localhost"]).status, 200);
}

/// The admin listener may be switched off, switched on and moved.
#[test]
fn the_admin_listener_may_change() {
    let site = Site::new();
    let mut server = founder(&site).start();
    let first = server.admin.unwrap();
    let second = own_address().to_string();
    for admin in ["off", &second, "off", &first.to_string()] {
        let next = heir(&server, &site).admin(admin).start();
        assert_eq!(server.wait().code(), Some(0));
        server = next;
        assert_eq!(server.admin.map(|addr| addr.to_string()).as_deref().unwrap_or("off"), admin);
        match server.admin {
            Some(_) => assert_eq!(server.admin_get("/readyz", &["Host: localhost"]).status, 200),
            None => assert!(TcpStream::connect(first).is_err(), "the admin listener is still there"),
        }
    }
}

#[test]
fn where_nobody_is_it_just_starts() {
    let site = Site::new();
    for (flags, variable) in [(&["--take-over"][..], false), (&[], true)] {
        let mut launch = founder(&site).args(flags);
        if variable {
            launch = launch.env("CLOUDIA_TAKE_OVER", "true");
        }
        let mut server = launch.start();
        server.connect().assert_open();
        assert_eq!(server.stop().code(), Some(0));
    }
}

#[test]
fn the_environment_may_ask_for_it() {
    let [site, next] = [site_of("old"), site_of("new")];
    let mut old = founder(&site).start();
    let plain = || founder(&next).listen(old.addr).admin(old.admin.unwrap());
    let refused = plain().env("CLOUDIA_TAKE_OVER", "false").end();
    assert_eq!(refused.code, Some(2), "{refused:?}");
    let new = plain().env("CLOUDIA_TAKE_OVER", "true").start();
    assert_eq!(old.wait().code(), Some(0));
    assert_all_are_of(new.addr, "new");
}

/// Files that change all the while: a poller never gets back to an older version.
#[test]
fn files_that_change_meanwhile_are_followed() {
    let site = Site::new();
    site.file("n.txt", "0");
    let mut server = founder(&site).start();
    let judge = || -> crate::pollers::Judge {
        let mut seen = 0;
        Box::new(move |answer| {
            let number: u64 = answer.text().parse().map_err(|_| format!("no number: {}", answer.text()))?;
            let last = std::mem::replace(&mut seen, number);
            if number < last { Err(format!("{number} after {last}")) } else { Ok(()) }
        })
    };
    let pollers =
        [Manner::KeepAlive, Manner::Fresh].map(|manner| Pollers::judging(server.addr, 10, manner, "/n.txt", judge));
    let mut number = 0;
    for _ in 0..3 {
        let mut next = heir(&server, &site).begin();
        wait_until("it is ready", || {
            number += 1;
            site.replace("n.txt", number.to_string(), std::time::SystemTime::now());
            next.is_ready() || !next.server.is_running()
        });
        let next = next.become_ready().unwrap();
        assert_eq!(server.wait().code(), Some(0));
        server = next;
    }
    wait_until("the last version", || server.get("/n.txt", &[]).text() == number.to_string());
    pollers.into_iter().for_each(|pollers| drop(pollers.noticed_nothing()));
}

/// A large answer of the new one, so that nothing of its sockets is as the old one left it for its own purposes.
#[test]
fn large_answers_of_the_new_one_are_whole() {
    let site = Site::new();
    site.file("big.bin", big_body());
    let mut old = founder(&site).start();
    let new = heir(&old, &site).start();
    assert_eq!(old.wait().code(), Some(0));
    let mut slow = ask_for_much(new.addr);
    assert!(read_slowly(&mut slow) == big_body(), "other bytes");
    assert_eq!(new.get("/big.bin", &[]).body.len(), BIG);
}
