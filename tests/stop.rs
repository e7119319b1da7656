//! How it ends and starts again: signals, the grace, restarts, and the names of Unix sockets.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::net::sockopt;

use crate::{
    cases::{get, request},
    harness::{Conn, PATIENCE, Server, Site, own_address, wait_until},
};

/// Longer than any test waits: what ends before it did not wait for it.
pub(crate) const LONG_GRACE: u32 = 3600;

/// Far more than goes between a server that keeps 128 KiB unsent and a client that buffers [`NARROW`].
pub(crate) const BIG: usize = 4 << 20;
pub(crate) const NARROW: usize = 64 << 10;

pub(crate) fn big_body() -> Vec<u8> {
    (0..BIG / 8).flat_map(|at| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect()
}

pub(crate) fn big_site() -> Site {
    let site = Site::new();
    site.file("big.bin", big_body());
    site
}

/// On an address that nobody else is given, so that it is refused for good once the server no longer listens.
pub(crate) fn patient(site: &Site) -> Server {
    Server::builder(site).listen(own_address()).flag("--grace", LONG_GRACE).start()
}

/// Connects, and asks for what the sockets do not take.
pub(crate) fn ask_for_much(addr: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap();
    sockopt::set_socket_recv_buffer_size(&stream, NARROW).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&get("/big.bin")).unwrap();
    // The answer has begun.
    stream.read_exact(&mut [0; 12]).unwrap();
    stream
}

/// The next answer is the connection's last, and says so: its worker hears of the end, or is about to.
#[track_caller]
pub(crate) fn last_answer(conn: &mut Conn) {
    wait_until("an answer is the last", || {
        conn.send(get("/alive.txt"));
        let answer = conn.recv();
        assert_eq!(answer.text(), "alive\n", "{answer}");
        answer.get("connection") == Some("close")
    });
    conn.assert_closed();
}

pub(crate) fn wait_until_it_drains(server: &Server) {
    let admin = server.admin.unwrap();
    wait_until("it drains", || {
        let mut conn = Conn::to(admin);
        conn.send(request("GET", "/readyz", &["Host: localhost"], ""));
        conn.recv().status == 503
    });
}

pub(crate) fn wait_until_refused(addr: SocketAddr) {
    wait_until("it no longer accepts", || TcpStream::connect(addr).is_err());
}

/// Reads what follows the 12 bytes of [`ask_for_much`], a little at a time, up to the body's last byte.
pub(crate) fn read_slowly(stream: &mut TcpStream) -> Vec<u8> {
    let mut taken = Vec::new();
    let mut chunk = vec![0; 32 << 10];
    let mut whole = usize::MAX;
    while taken.len() < whole {
        let room = chunk.len().min(whole - taken.len());
        let read = stream.read(&mut chunk[..room]).unwrap();
        assert!(read > 0, "cut after {} bytes", taken.len());
        taken.extend_from_slice(&chunk[..read]);
        if let (usize::MAX, Some(end)) = (whole, crate::conn::find(&taken, b"\r\n\r\n")) {
            whole = end + 4 + BIG;
        }
        thread::sleep(Duration::from_millis(1));
    }
    taken.split_off(whole - BIG)
}

#[test]
fn an_answer_under_way_is_finished() {
    for signal in ["TERM", "INT"] {
        let site = big_site();
        let mut server = patient(&site);
        let mut slow = ask_for_much(server.addr);
        server.signal(signal);
        wait_until_refused(server.addr);
        assert!(read_slowly(&mut slow) == big_body(), "{signal}: other bytes");
        drop(slow);
        assert_eq!(server.wait().code(), Some(0), "{signal}");
        assert_eq!(server.stderr().matches("panicked").count(), 0);
    }
}

/// The head of the answer was sent before the signal, so the client keeps its connection: its next request is answered.
#[test]
fn the_request_after_a_finished_answer_is_the_last() {
    let site = big_site();
    let mut server = patient(&site);
    let mut slow = ask_for_much(server.addr);
    server.signal("TERM");
    wait_until_refused(server.addr);
    assert!(read_slowly(&mut slow) == big_body(), "other bytes");
    slow.write_all(&get("/alive.txt")).unwrap();
    let mut last = String::new();
    slow.read_to_string(&mut last).expect("the end of the connection");
    assert!(last.contains("\r\nConnection: close\r\n") && last.ends_with("\r\n\r\nalive\n"), "{last}");
    drop(slow);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn pipelined_requests_that_had_come_are_answered() {
    let site = big_site();
    let mut server = patient(&site);
    let mut slow = TcpStream::connect(server.addr).unwrap();
    sockopt::set_socket_recv_buffer_size(&slow, NARROW).unwrap();
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    slow.write_all(&[get("/big.bin"), get("/alive.txt")].concat()).unwrap();
    slow.read_exact(&mut [0; 12]).unwrap();
    server.signal("TERM");
    wait_until_refused(server.addr);
    assert!(read_slowly(&mut slow) == big_body(), "other bytes");
    let mut second = String::new();
    slow.read_to_string(&mut second).expect("the end of the connection");
    assert!(second.contains("\r\nConnection: close\r\n") && second.ends_with("\r\n\r\nalive\n"), "{second}");
    drop(slow);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_client_that_never_reads_is_cut_at_the_end_of_the_grace() {
    let site = big_site();
    let mut server = Server::builder(&site).flag("--grace", 1).start();
    let mut stuck = ask_for_much(server.addr);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    let mut rest = Vec::new();
    // It ends in a reset or in order, but it ends.
    stuck.read_to_end(&mut rest).ok();
    assert!(rest.len() < BIG, "all of it came");
}

#[test]
fn no_grace_is_no_wait() {
    let site = big_site();
    let mut server = Server::builder(&site).flag("--grace", 0).start();
    let _stuck = ask_for_much(server.addr);
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for [first, second] in [["TERM", "TERM"], ["INT", "INT"], ["TERM", "INT"], ["INT", "TERM"]] {
        let site = big_site();
        let mut server = patient(&site);
        let _stuck = ask_for_much(server.addr);
        server.signal(first);
        wait_until_it_drains(&server);
        server.signal(second);
        assert_eq!(server.wait().code(), Some(0), "{first}, {second}");
    }
}

#[test]
fn half_a_request_may_become_whole() {
    let site = Site::new();
    let mut server = patient(&site);
    let mut conn = server.connect();
    conn.assert_open();
    conn.send("GET /alive.txt HTTP/1.1\r\nHo");
    server.signal("TERM");
    wait_until_refused(server.addr);
    conn.send("st: h\r\n\r\n");
    let answer = conn.recv();
    assert_eq!((answer.text().as_str(), answer.get("connection")), ("alive\n", Some("close")), "{answer}");
    conn.assert_closed();
    drop(conn);
    assert_eq!(server.wait().code(), Some(0));
}

/// The server is held while clients connect and the signal comes, so it finds all of them when it goes on.
#[test]
fn connections_that_had_come_are_answered() {
    let queue = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let clients = queue.trim().parse::<usize>().unwrap().min(400);
    let site = Site::new();
    let mut server = Server::builder(&site).workers(1).flag("--grace", LONG_GRACE).start();
    server.signal("STOP");
    let mut waiting: Vec<Conn> = (0..clients).map(|_| server.connect()).collect();
    waiting.iter_mut().for_each(|conn| conn.send(get("/alive.txt")));
    server.signal("TERM");
    server.signal("CONT");
    let answered =
        waiting.iter_mut().filter_map(|conn| conn.try_recv(false).ok()).filter(|answer| answer.status == 200);
    assert_eq!(answered.count(), clients);
    drop(waiting);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn it_starts_again_at_once_where_it_was_killed() {
    let site = Site::new();
    let addr = own_address();
    for round in 0..24 {
        let mut server = Server::builder(&site).listen(addr).start();
        let mut open: Vec<Conn> = (0..20).map(|_| server.connect()).collect();
        open.iter_mut().for_each(Conn::assert_open);
        // The server is first to close some: they stay in TIME_WAIT.
        let close = || request("GET", "/alive.txt", &["Host: h", "Connection: close"], "");
        open.iter_mut().take(5).for_each(|conn| conn.send(close()));
        open.iter_mut().take(5).for_each(|conn| drop(conn.recv()));
        if round % 4 == 0 {
            drop(open);
            assert_eq!(server.stop().code(), Some(0));
        } else {
            server.kill();
        }
    }
}

pub(crate) fn has_ipv6() -> bool {
    let has = std::net::TcpListener::bind("[::1]:0").is_ok();
    if !has {
        eprintln!("skipped: this machine has no [::1]");
    }
    has
}

#[test]
fn ipv6_is_beside_ipv4() {
    if !has_ipv6() {
        return;
    }
    let site = Site::new();
    let mut server = Server::builder(&site).listen("[::1]:0").admin("[::1]:0").start();
    assert!(server.addr.is_ipv6() && server.admin.is_some_and(|admin| admin.is_ipv6()));
    server.connect().assert_open();
    assert_eq!(server.admin_get("/readyz", &["Host: [::1]"]).status, 200);
    assert!(server.stdout().contains(&format!("open http://[::1]:{}/", server.addr.port())));
    assert_eq!(server.stop().code(), Some(0));
    // The unspecified address of IPv6 leaves that of IPv4 alone.
    let six = Server::builder(&site).listen("[::]:0").start();
    assert!(six.stdout().contains(&format!("http://[::1]:{}/", six.addr.port())), "{}", six.stdout());
    let mut four = own_address();
    four.set_port(six.addr.port());
    Server::builder(&site).listen(four).start().connect().assert_open();
}

/// One GET over a Unix socket.
pub(crate) fn get_by(path: &Path) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&request("GET", "/alive.txt", &["Host: h", "Connection: close"], ""))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[track_caller]
pub(crate) fn assert_serves(path: &Path) {
    let answer = get_by(path).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nalive\n"), "{answer}");
}

fn socket(site: &Site) -> (PathBuf, String) {
    let path = site.outside().join("s");
    let flag = format!("unix:{}", path.display());
    (path, flag)
}

#[test]
fn it_listens_in_several_places() {
    let site = Site::new();
    let (path, flag) = socket(&site);
    let [first, second, third] = [own_address(), own_address(), own_address()];
    let launch = Server::builder(&site).listen(first).flag("--listen", second).flag("--listen", third);
    let mut server = launch.flag("--listen", &flag).start();
    for addr in [first, second, third] {
        Conn::to(addr).assert_open();
        assert!(server.stdout().contains(&format!("listen   http://{addr}/\n")), "{}", server.stdout());
    }
    for _ in 0..20 {
        assert_serves(&path);
    }
    assert_eq!(server.stop().code(), Some(0));
    for addr in [first, second, third] {
        assert!(TcpStream::connect(addr).is_err(), "{addr}");
    }
    assert!(get_by(&path).is_err());
    assert!(!path.exists(), "the socket's name is left");
}

/// The first worker that stops shuts the socket for all: the others must still hear that they are to stop.
#[test]
fn workers_that_share_a_socket_all_stop() {
    let site = Site::new();
    let (path, flag) = socket(&site);
    for _ in 0..10 {
        let launch = Server::builder(&site).listen(own_address()).flag("--listen", &flag).workers(4);
        let mut server = launch.flag("--grace", LONG_GRACE).start();
        assert_serves(&path);
        let mut idle: Vec<Conn> = (0..8).map(|_| server.connect()).collect();
        idle.iter_mut().for_each(Conn::assert_open);
        server.signal("TERM");
        wait_until_refused(server.addr);
        idle.iter_mut().for_each(last_answer);
        drop(idle);
        assert_eq!(server.wait().code(), Some(0));
    }
}

/// The first server listens on TCP as well, for that is how the harness knows it.
#[test]
fn a_socket_that_a_killed_server_left_is_taken_over() {
    let site = Site::new();
    let (path, flag) = socket(&site);
    for _ in 0..12 {
        let mut server = Server::builder(&site).flag("--listen", &flag).start();
        assert_serves(&path);
        server.kill();
        assert!(path.exists(), "the name outlives it");
    }
    let mut server = Server::builder(&site).flag("--listen", &flag).start();
    assert_serves(&path);
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn a_socket_of_a_living_server_is_not() {
    let site = Site::new();
    let (path, flag) = socket(&site);
    let server = Server::builder(&site).flag("--listen", &flag).start();
    let late = Server::builder(&site).flag("--listen", &flag).end();
    assert_eq!(late.code, Some(2), "{late:?}");
    assert!(late.stderr.contains(path.to_str().unwrap()) && late.stderr.lines().count() == 1, "{late:?}");
    for _ in 0..20 {
        assert_serves(&path);
    }
    drop(server);
}

/// A new server may come while the old one still finishes an answer. When the old one ends, the name is the new one's.
#[test]
fn a_socket_is_not_taken_from_the_next_server() {
    let site = big_site();
    let (path, flag) = socket(&site);
    let old = Server::builder(&site).listen(own_address()).flag("--listen", &flag);
    let mut old = old.flag("--grace", LONG_GRACE).start();
    let mut slow = ask_for_much(old.addr);
    old.signal("TERM");
    wait_until_refused(old.addr);
    let mut next = Server::builder(&site).flag("--listen", &flag).start();
    assert_serves(&path);
    read_slowly(&mut slow);
    drop(slow);
    assert_eq!(old.wait().code(), Some(0));
    assert_serves(&path);
    assert_eq!(next.stop().code(), Some(0));
    assert!(!path.exists(), "the socket's name is left");
}

#[test]
fn a_start_that_is_refused_leaves_nothing() {
    let site = Site::new();
    let (path, flag) = socket(&site);
    let other = Server::start(&site);
    let refused = Server::builder(&site).listen(&flag).admin(other.addr).end();
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(!path.exists(), "a name without a server is left");
    let names: Vec<_> = fs::read_dir(site.outside()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["data"]);
}
