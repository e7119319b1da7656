//! Many clients at once: where they come from, how they behave, and what a server holds while they are
//! there and after they are gone.

use std::{
    fs,
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    thread,
    time::Duration,
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};

use crate::{
    cases::get,
    harness::{Conn, PATIENCE, Rng, Server, wait_until},
    wire8_answers::assert_plain_error,
};

/// The receive buffer of a client that stalls, so that what is not taken stays with the server.
const WINDOW: usize = 4096;

/// A loopback address by its last two bytes; every one of 127/8 is this machine's.
pub(crate) fn source(number: usize) -> IpAddr {
    let [high, low] = u16::try_from(number).unwrap().to_be_bytes();
    Ipv4Addr::new(127, 80, high, low).into()
}

/// Bytes that do not compress, so that they are held and sent as they are.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut rng = Rng::with_seed(len as u64);
    (0..len.div_ceil(8)).flat_map(|_| rng.next().to_le_bytes()).take(len).collect()
}

/// Connects from an address of this machine, with a receive buffer that is set before the window is told.
pub(crate) fn dial(to: SocketAddr, from: Option<IpAddr>, window: Option<usize>) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    if let Some(window) = window {
        sockopt::set_socket_recv_buffer_size(&socket, window)?;
    }
    if let Some(from) = from {
        if from.is_ipv6() {
            // Whole networks may be this machine's without each of their addresses being told.
            sockopt::set_ipv6_freebind(&socket, true)?;
        }
        bind(&socket, &SocketAddr::new(from, 0))?;
    }
    connect(&socket, &to)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A client at an address of its own.
pub(crate) fn from(source: IpAddr, to: SocketAddr) -> Conn {
    Conn::over(dial(to, Some(source), None).expect("the server accepts"))
}

/// A client that asks, sees the answer begin, and takes no more of it.
pub(crate) fn stall(to: SocketAddr, request: &[u8]) -> TcpStream {
    let mut stream = dial(to, None, Some(WINDOW)).expect("the server accepts");
    stream.write_all(request).unwrap();
    let mut begin = [0; 10];
    stream.read_exact(&mut begin).expect("the answer begins");
    assert_eq!(&begin, b"HTTP/1.1 2", "{}", begin.escape_ascii());
    stream
}

/// `conn` is told that there is no room, in full, then it is the end, and no reset follows.
#[track_caller]
pub(crate) fn assert_shed(conn: &mut Conn) {
    assert_told(conn);
    conn.assert_not_reset();
}

/// The same in a flood, where not everyone who is told is heard out: a request that comes late is answered by a reset.
#[track_caller]
pub(crate) fn assert_told(conn: &mut Conn) {
    let answer = conn.recv();
    assert_eq!(answer.status, 503, "{answer}");
    assert_eq!(answer.get("retry-after"), Some("1"), "{answer}");
    assert_eq!(answer.get("connection"), Some("close"), "{answer}");
    assert_plain_error(&answer);
    conn.assert_closed();
}

/// Whether `conn` is served or refused. It is one of both, whole, and in good time.
#[track_caller]
pub(crate) fn is_served(conn: &mut Conn) -> bool {
    conn.send(get("/alive.txt"));
    let answer = conn.recv();
    match answer.status {
        200 => true,
        503 => {
            assert_eq!(answer.get("retry-after"), Some("1"), "{answer}");
            conn.assert_closed();
            false
        }
        _ => panic!("{answer}"),
    }
}

/// Runs `scene` as often as there are `parts`, side by side.
pub(crate) fn side_by_side<T: Send>(parts: usize, scene: impl Fn(usize) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let scene = &scene;
        let running: Vec<_> = (0..parts).map(|part| scope.spawn(move || scene(part))).collect();
        running.into_iter().map(|part| part.join().expect("a part that ends well")).collect()
    })
}

/// The sum of a metric over its labels.
#[track_caller]
pub(crate) fn metric(server: &Server, name: &str) -> u64 {
    let text = server.admin_get("/metrics", &["Host: localhost"]).text();
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name).filter(|rest| rest.starts_with([' ', '{']))?;
        rest.rsplit(' ').next()?.parse::<u64>().ok()
    });
    let samples: Vec<u64> = samples.collect();
    assert!(!samples.is_empty(), "no {name} in\n{text}");
    samples.iter().sum()
}

/// Connections that the server counts as open.
pub(crate) fn open(server: &Server) -> u64 {
    metric(server, "cloudia_connections_open")
}

/// Bytes of memory that the server has written to. What is merely mapped is no measure here: pages of the program become
/// its own whenever the last other server of the test run ends.
pub(crate) fn private(server: &Server) -> usize {
    let rollup = fs::read_to_string(process(server).join("smaps_rollup")).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// Processor time that the server has taken.
pub(crate) fn processor(server: &Server) -> Duration {
    let stat = fs::read_to_string(process(server).join("stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    // USER_HZ, which is 100 wherever Linux runs.
    Duration::from_millis(ticks * 10)
}

/// Descriptors of each thread that is named like this. Threads that share a table each count it.
pub(crate) fn descriptors(server: &Server, named: &str) -> Vec<usize> {
    let threads = fs::read_dir(process(server).join("task")).unwrap().flatten();
    let of = |path: PathBuf| {
        let name = fs::read_to_string(path.join("comm")).ok()?;
        name.starts_with(named).then(|| fs::read_dir(path.join("fd")).ok().map(Iterator::count))?
    };
    threads.filter_map(|thread| of(thread.path())).collect()
}

fn process(server: &Server) -> PathBuf {
    PathBuf::from(format!("/proc/{}", server.pid()))
}

/// How a server was before an attack.
pub(crate) struct Before {
    private: usize,
    descriptors: usize,
    panics: u64,
}

impl Before {
    /// After the first fifty clients: what those cost, whoever they are, is not what each costs.
    pub(crate) fn warm(server: &Server) -> Before {
        let mut warm: Vec<Conn> = (0..50).map(|_| server.connect()).collect();
        warm.iter_mut().for_each(Conn::assert_open);
        warm.iter_mut().step_by(2).for_each(|conn| conn.send("G"));
        drop(warm);
        Before::of(server)
    }

    pub(crate) fn of(server: &Server) -> Before {
        server.connect().assert_open();
        wait_until("nobody is there", || open(server) == 0);
        let descriptors = descriptors(server, "worker").iter().sum();
        Before { private: private(server), descriptors, panics: metric(server, "cloudia_panics_total") }
    }

    /// Bytes of memory that have come since, for the server's alone.
    pub(crate) fn grown(&self, server: &Server) -> usize {
        private(server).saturating_sub(self.private)
    }

    /// All clients are gone: so are their places, their descriptors, and their memory but for `bytes`, which the
    /// allocator keeps; and nothing has broken.
    #[track_caller]
    pub(crate) fn assert_over(&self, server: &Server, bytes: usize) {
        let mut left = 0;
        wait_until("the places are given back", || {
            left = open(server);
            left == 0
        });
        self.assert_sound(server);
        wait_until("the descriptors are given back", || {
            descriptors(server, "worker").iter().sum::<usize>() <= self.descriptors
        });
        let mut grown = 0;
        let mut tries = 0;
        wait_until("the memory is given back or will not be", || {
            grown = self.grown(server);
            tries += 1;
            grown <= bytes || tries > 100
        });
        assert!(grown <= bytes, "{grown} bytes of memory are left");
    }

    /// It serves, and nothing has broken.
    #[track_caller]
    pub(crate) fn assert_sound(&self, server: &Server) {
        server.connect().assert_open();
        assert_eq!(metric(server, "cloudia_panics_total"), self.panics, "{}", server.stderr());
        let said = server.stderr();
        assert!(!said.contains("panicked") && !said.contains("ERROR"), "{said}");
    }
}

/// Sends as much of `bytes`, again and again, as the peer takes without reading anything. How much that was.
pub(crate) fn stuff(stream: &mut TcpStream, bytes: &[u8], most: usize) -> usize {
    stream.set_nonblocking(true).unwrap();
    let (mut sent, mut refusals) = (0, 0);
    while sent < most {
        let from = sent % bytes.len();
        match stream.write(&bytes[from..]) {
            Ok(taken) => (sent, refusals) = (sent + taken, 0),
            Err(e) if e.kind() == ErrorKind::WouldBlock && refusals < 20 => {
                refusals += 1;
                // The server may be about to take more; if it is not noticed, less is stuffed.
                thread::sleep(Duration::from_millis(5));
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    stream.set_nonblocking(false).unwrap();
    sent
}

/// While nothing is asked of it for so long, it takes next to no processor time.
#[track_caller]
pub(crate) fn assert_rests(server: &Server, long: Duration) {
    let before = processor(server);
    thread::sleep(long);
    let taken = processor(server).saturating_sub(before);
    assert!(taken < long / 5, "{taken:?} of processor time in {long:?}");
}
