//! Sockets that a service manager has opened (`LISTEN_FDS`, sd_listen_fds(3)): they are used, never shut, and handed over.

use std::{
    fs::File,
    io::{IoSlice, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::{UnixDatagram, UnixListener, UnixStream},
    },
    path::PathBuf,
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::{
    cases::{get, request},
    harness::{Conn, Launch, Server, Site, Starting, own_address, wait_until},
    pollers::{Manner, Pollers},
    quotes::assert_refused,
    stop::{LONG_GRACE, get_by, has_ipv6},
    takeover::{assert_all_are_of, founder, heir, site_of},
    takeover_signal::Family,
};

/// Takes descriptors from the socket named by its first word, and becomes its further words with them, from 3 on. Its second
/// word is what `LISTEN_PID` is to be where it is not to be this process.
const MANAGER: &str = "
import fcntl, os, socket, sys
place = socket.socket(socket.AF_UNIX)
place.connect(sys.argv[1])
_, taken, _, _ = socket.recv_fds(place, 1, 16)
place.close()
high = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 64) for number in taken]
for number in taken:
    os.close(number)
for to, number in enumerate(high, 3):
    os.dup2(number, to, inheritable=True)
os.environ['LISTEN_PID'] = sys.argv[2] or str(os.getpid())
os.environ['LISTEN_FDS'] = str(len(high))
os.execv(sys.argv[3], sys.argv[3:])
";

/// Starts it with these sockets passed.
fn activate(site: &Site, launch: Launch, sockets: &[BorrowedFd], pid: &str) -> Starting {
    let path = site.outside().join("manager");
    std::fs::remove_file(&path).ok();
    let place = UnixListener::bind(&path).unwrap();
    let starting = launch.under(&["/usr/bin/python3", "-c", MANAGER, path.to_str().unwrap(), pid]).begin();
    let (stream, _) = place.accept().unwrap();
    let mut room = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    assert!(control.push(SendAncillaryMessage::ScmRights(sockets)));
    sendmsg(&stream, &[IoSlice::new(b"x")], &mut control, SendFlags::empty()).unwrap();
    starting
}

#[track_caller]
fn activated(site: &Site, launch: Launch, sockets: &[BorrowedFd]) -> Server {
    activate(site, launch, sockets, "").become_ready().unwrap_or_else(|why| panic!("{why}"))
}

/// No address is asked for on the command line.
fn only_what_is_passed(site: &Site) -> Launch {
    let data = site.data().to_str().unwrap();
    let launch = Server::builder(site).bare().args(&["--data", data, "--admin", "127.0.0.1:0", "--workers", "2"]);
    let launch = launch.flag("--grace", LONG_GRACE);
    match std::env::var("CLOUDIA_TEST_IO") {
        Ok(io) => launch.flag("--io", io),
        Err(_) => launch,
    }
}

fn listening() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(own_address()).unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

fn lines(server: &Server) -> Vec<String> {
    server.stdout().lines().filter(|line| line.starts_with("listen")).map(str::to_owned).collect()
}

#[test]
fn a_passed_socket_is_served() {
    let site = Site::new();
    for workers in ["1", "3"] {
        for named in [true, false] {
            let (listener, addr) = listening();
            let mut launch = only_what_is_passed(&site).env("CLOUDIA_WORKERS", workers);
            if named {
                launch = founder(&site).listen(addr).workers(workers.parse().unwrap());
            }
            let mut server = activated(&site, launch, &[listener.as_fd()]);
            assert_eq!(lines(&server), [format!("listen   http://{addr}/")]);
            let pollers = [Manner::KeepAlive, Manner::Fresh].map(|manner| Pollers::start(addr, 20, manner));
            pollers.iter().for_each(|pollers| pollers.wait_for_more(50));
            for pollers in pollers {
                pollers.noticed_nothing();
            }
            assert_eq!(server.stop().code(), Some(0));
        }
    }
}

/// What the server leaves in the queue is the next one's, or its manager's.
#[test]
fn a_passed_socket_goes_on_listening() {
    let site = Site::new();
    let (listener, addr) = listening();
    let mut server = activated(&site, only_what_is_passed(&site), &[listener.as_fd()]);
    let mut idle = Conn::to(addr);
    idle.assert_open();
    assert_eq!(server.admin_get("/readyz", &["Host: localhost"]).status, 200);
    server.signal("TERM");
    crate::stop::wait_until_it_drains(&server);
    // A worker that has not heard of the end yet may take one of them, and must not be held by it.
    let mut waiting: Vec<Conn> = (0..20).map(|_| Conn::to(addr)).collect();
    waiting.iter_mut().for_each(|conn| conn.send(request("GET", "/alive.txt", &["Host: h", "Connection: close"], "")));
    crate::stop::last_answer(&mut idle);
    drop(idle);
    assert_eq!(server.wait().code(), Some(0));
    let mut next = activated(&site, only_what_is_passed(&site), &[listener.as_fd()]);
    for conn in &mut waiting {
        assert_eq!(conn.recv().text(), "alive\n");
    }
    drop(waiting);
    assert_eq!(next.stop().code(), Some(0));
    // And the manager can still take connections itself.
    listener.set_nonblocking(true).unwrap();
    let _client = TcpStream::connect(addr).unwrap();
    wait_until("the manager accepts", || listener.accept().is_ok());
}

#[test]
fn passed_sockets_and_addresses_are_side_by_side() {
    let site = Site::new();
    let (first, passed) = listening();
    let (second, also) = listening();
    let own = own_address();
    let launch = founder(&site).listen(own).flag("--listen", passed);
    let mut server = activated(&site, launch, &[first.as_fd(), second.as_fd()]);
    for addr in [own, passed, also] {
        Conn::to(addr).assert_open();
        assert!(lines(&server).contains(&format!("listen   http://{addr}/")), "{}", server.stdout());
    }
    assert_eq!(lines(&server).len(), 3);
    assert_eq!(server.stop().code(), Some(0));
    assert!(TcpStream::connect(own).is_err());
    assert!(TcpStream::connect(passed).is_ok() && TcpStream::connect(also).is_ok());
}

/// Its name is the manager's, who will pass it to the next one.
#[test]
fn a_passed_unix_socket_keeps_its_name() {
    let site = Site::new();
    let path = site.outside().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let flag = format!("unix:{}", path.display());
    for named in [false, true] {
        let launch = if named { founder(&site).listen(&flag).admin("off") } else { only_what_is_passed(&site) };
        let mut server = activated(&site, launch, &[listener.as_fd()]);
        assert_eq!(lines(&server), [format!("listen   {flag}")]);
        for _ in 0..10 {
            assert!(get_by(&path).unwrap().ends_with("\r\n\r\nalive\n"));
        }
        assert_eq!(server.stop().code(), Some(0));
        assert!(path.exists(), "the manager's name is removed");
        assert!(UnixStream::connect(&path).is_ok());
    }
}

#[test]
fn a_passed_ipv6_socket_is_served() {
    if !has_ipv6() {
        return;
    }
    let site = Site::new();
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let server = activated(&site, only_what_is_passed(&site), &[listener.as_fd()]);
    assert_eq!(server.addr, listener.local_addr().unwrap());
    server.connect().assert_open();
}

/// One line that says which descriptor is wrong.
#[test]
fn what_cannot_be_served_is_refused() {
    let site = Site::new();
    let (good, _) = listening();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let local = UnixDatagram::bind(site.outside().join("datagrams")).unwrap();
    let file = File::create(site.outside().join("file")).unwrap();
    let (_, addr) = listening();
    let silent = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&silent, &own_address()).unwrap();
    let (peer, _other) = UnixStream::pair().unwrap();
    let wrong: [(&str, BorrowedFd); 5] = [
        ("UDP", datagrams.as_fd()),
        ("Unix datagrams", local.as_fd()),
        ("a file", file.as_fd()),
        ("a socket that does not listen", silent.as_fd()),
        ("a connection", peer.as_fd()),
    ];
    for (what, descriptor) in wrong {
        for (sockets, number) in [(&[descriptor][..], "3"), (&[good.as_fd(), descriptor], "4")] {
            for launch in [only_what_is_passed(&site), founder(&site).listen(addr)] {
                let ended = ended(activate(&site, launch, sockets, ""));
                assert_refused(&ended, what, 2, &["LISTEN_FDS", number]);
            }
        }
    }
}

/// How one that does not become ready ends.
fn ended(starting: Starting) -> crate::harness::Ended {
    let mut server = starting.server;
    let code = server.wait().code();
    let mut said = String::new();
    wait_until("what it has said", || {
        said = server.stderr();
        said.ends_with('\n')
    });
    crate::harness::Ended { code, stdout: server.stdout(), stderr: said }
}

/// They were meant for another process, from which the variables were inherited.
#[test]
fn what_was_passed_to_another_is_ignored() {
    let site = Site::new();
    let (listener, passed) = listening();
    for pid in ["1", "4194303"] {
        let mut server = activate(&site, founder(&site), &[listener.as_fd()], pid)
            .become_ready()
            .unwrap_or_else(|why| panic!("{why}"));
        assert_ne!(server.addr, passed);
        assert_eq!(lines(&server).len(), 1, "{pid}: {}", server.stdout());
        server.connect().assert_open();
        assert_eq!(server.stop().code(), Some(0));
    }
}

/// The manager's socket goes from one to the next as any other, and stays the manager's.
#[test]
fn an_activated_one_is_taken_over() {
    let [site, next] = [site_of("old"), site_of("new")];
    let (listener, addr) = listening();
    let mut old = activated(&site, only_what_is_passed(&site), &[listener.as_fd()]);
    let pollers = [Manner::KeepAlive, Manner::Fresh].map(|manner| Pollers::start(addr, 20, manner));
    let mut new = heir(&old, &next).workers(3).start();
    assert_eq!(old.wait().code(), Some(0));
    assert_all_are_of(addr, "new");
    let third = activated(&site, only_what_is_passed(&site).args(&["--take-over"]), &[listener.as_fd()]);
    assert_eq!(new.wait().code(), Some(0));
    assert_all_are_of(addr, "old");
    for pollers in pollers {
        pollers.noticed_nothing();
    }
    drop(third);
    assert!(TcpStream::connect(addr).is_ok(), "the manager's socket is shut");
}

/// The variables name another process then, and the sockets come from the old one.
#[test]
fn an_activated_one_starts_itself_anew() {
    let site = Site::new();
    let (listener, addr) = listening();
    let mut server = activated(&site, only_what_is_passed(&site), &[listener.as_fd()]);
    let family = Family::of(site.data().display());
    let pollers = Pollers::start(addr, 20, Manner::Fresh);
    server.signal("USR2");
    let mut pid = family.heir_of(server.pid());
    assert_eq!(server.wait().code(), Some(0));
    family.signal("USR2", pid);
    pid = family.heir_of(pid);
    pollers.wait_for_more(40);
    pollers.noticed_nothing();
    family.stop(pid);
    let mut stream = TcpStream::connect(addr).expect("the manager's socket is shut");
    stream.write_all(&get("/alive.txt")).unwrap();
}

/// Where the socket and the feeders' are passed by path, the server's own paths are as they were.
#[test]
fn nothing_is_left_of_the_manager() {
    let site = Site::new();
    let (listener, _) = listening();
    let server = activated(&site, only_what_is_passed(&site), &[listener.as_fd()]);
    let environment: PathBuf = format!("/proc/{}/fd/3", server.pid()).into();
    // It belongs to the workers, or is at a number of its own; what a child would inherit is closed on exec.
    let flags = std::fs::read_to_string(format!("/proc/{}/fdinfo/3", server.pid())).unwrap_or_default();
    let flags = flags.lines().find_map(|line| line.strip_prefix("flags:\t")).map(|octal| u32::from_str_radix(octal, 8));
    if let Some(Ok(flags)) = flags {
        assert!(flags & 0o2_000_000 != 0, "{} is inherited by programs it starts", environment.display());
    }
}
