//! What serving one small answer costs on this kernel at the very least: an epoll loop with `recv`, httparse and `send`.
//!
//! `floor 127.0.0.1:8080 app.js.gz` answers every request with the same answer, made once at the start
//! around the file's bytes; its head is of a real server's size. Benchmarks run it beside cloudia: what
//! cloudia costs above it is what cloudia adds to the kernel's own price.
//!
//! `--revalidate` answers a request that has If-None-Match or If-Modified-Since with a 304 made at the start, whatever they
//! say. `--threads N` has so many loops, each with a socket of its own that listens and a descriptor table of its own.
//!
//! All that would make it a server is left out. It never looks at a method, a path or (without `--revalidate`) a header,
//! never reads a request body, never honours `Connection: close`, never reads a clock (its `Date`
//! stands still), never times out, never answers an error (it hangs up on what does not parse),
//! never logs, counts or shuts down. What is left is correct: pipelined requests get one `send`, a
//! head may arrive in pieces, a slow reader is waited for and not read from meanwhile.

use std::io;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, accept_with, bind, listen, recv, send, socket_with,
    sockopt,
};

/// Room for what one `recv` brings; also the longest request head.
const INPUT: usize = 16 * 1024;
/// A browser sends 15 to 20 headers.
const HEADERS: usize = 64;
/// More than the benchmark's connections, so that one `epoll_wait` brings all that are ready.
const EVENTS: usize = 256;
/// Copies of an answer side by side: as many pipelined requests need one `send` and no copying.
const COPIES: usize = 16;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// Everything of one connection that outlives its turn. An idle one owns no heap memory.
struct Connection {
    socket: OwnedFd,
    /// Bytes of answers not sent yet; all of them are of one kind, so this is also the position in them.
    owed: usize,
    kind: Kind,
    /// What has arrived and is not answered: the piece of a head, or whole ones behind what is owed.
    piece: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Whole,
    NotModified,
}

/// An answer, `COPIES` times.
struct Answer {
    copies: Vec<u8>,
    len: usize,
}

impl Answer {
    fn new(one: &[u8]) -> Self {
        Self { len: one.len(), copies: one.repeat(COPIES) }
    }

    /// The next bytes for a connection that is owed this many.
    fn next(&self, owed: usize) -> &[u8] {
        let from = (self.len - owed % self.len) % self.len;
        &self.copies[from..self.copies.len().min(from + owed)]
    }
}

/// All that there is to say.
struct Answers {
    whole: Answer,
    not_modified: Answer,
    /// Whether a request's header lines are looked at.
    revalidates: bool,
}

impl Answers {
    fn around(body: &[u8], is_gzip: bool, revalidates: bool) -> Self {
        let kind = if is_gzip {
            "Content-Type: text/javascript; charset=utf-8\r\nContent-Encoding: gzip\r\n"
        } else {
            "Content-Type: application/octet-stream\r\n"
        };
        let common = "Server: floor\r\n\
             Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
             Vary: Accept-Encoding\r\n\
             Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
             ETag: \"0123456789abcdef-g\"\r\n\
             Cache-Control: public, max-age=60\r\n";
        let length = body.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\n{common}{kind}Content-Length: {length}\r\nX-Content-Type-Options: nosniff\r\n\r\n"
        );
        let not_modified = format!("HTTP/1.1 304 Not Modified\r\n{common}\r\n");
        Self {
            whole: Answer::new(&[head.as_bytes(), body].concat()),
            not_modified: Answer::new(not_modified.as_bytes()),
            revalidates,
        }
    }

    fn of(&self, kind: Kind) -> &Answer {
        match kind {
            Kind::Whole => &self.whole,
            Kind::NotModified => &self.not_modified,
        }
    }

    /// Counts the whole request heads that get one kind of answer. What is left behind them, and if nothing was counted,
    /// is no whole head.
    fn parse<'a>(&self, mut rest: &'a [u8]) -> Result<(usize, Kind, &'a [u8]), Errno> {
        let (mut requests, mut kind) = (0, Kind::Whole);
        while !rest.is_empty() {
            let mut headers = [const { MaybeUninit::uninit() }; HEADERS];
            let mut request = httparse::Request::new(&mut []);
            let head = match request.parse_with_uninit_headers(rest, &mut headers) {
                Ok(httparse::Status::Complete(head)) => head,
                Ok(httparse::Status::Partial) => break,
                Err(_) => return Err(Errno::PROTO),
            };
            let this = if self.revalidates && request.headers.iter().any(asks_again) {
                Kind::NotModified
            } else {
                Kind::Whole
            };
            if requests > 0 && this != kind {
                break;
            }
            (requests, kind, rest) = (requests + 1, this, &rest[head..]);
        }
        Ok((requests, kind, rest))
    }
}

fn asks_again(header: &httparse::Header<'_>) -> bool {
    header.name.eq_ignore_ascii_case("If-None-Match") || header.name.eq_ignore_ascii_case("If-Modified-Since")
}

impl Connection {
    /// Sends what is owed, then answers what has arrived. `AGAIN` means the rest waits for the next
    /// edge; any other error ends the connection.
    fn turn(&mut self, flags: EventFlags, input: &mut [u8], answers: &Answers) -> Result<(), Errno> {
        self.send_owed(answers)?;
        let mut held = self.piece.len();
        input[..held].copy_from_slice(&self.piece);
        loop {
            held = self.answer(&mut input[..], held, answers)?;
            let (got, _) = recv(&self.socket, &mut input[held..], RecvFlags::empty())?;
            if got == 0 {
                return Err(Errno::PIPE); // the peer has closed, or one head fills the whole buffer
            }
            held += got;
            // A short read has emptied the socket, and the next byte will be a new edge. The end of
            // the stream will not be one once it has been told.
            if held < INPUT && !flags.contains(EventFlags::RDHUP) {
                return self.answer(input, held, answers).map(drop);
            }
        }
    }

    /// Answers the whole heads among the first `held` bytes and keeps what is behind them, also at the front of `input`: its
    /// length.
    fn answer(&mut self, input: &mut [u8], held: usize, answers: &Answers) -> Result<usize, Errno> {
        let mut rest = &input[..held];
        let done = loop {
            let (requests, kind, behind) = answers.parse(rest)?;
            rest = behind;
            (self.owed, self.kind) = (requests * answers.of(kind).len, kind);
            let sent = self.send_owed(answers);
            if requests == 0 || sent.is_err() {
                break sent;
            }
        };
        self.piece.clear();
        self.piece.extend_from_slice(rest);
        let (from, left) = (held - rest.len(), rest.len());
        input.copy_within(from..held, 0);
        done.map(|()| left)
    }

    fn send_owed(&mut self, answers: &Answers) -> Result<(), Errno> {
        let answer = answers.of(self.kind);
        while self.owed > 0 {
            self.owed -= send(&self.socket, answer.next(self.owed), SendFlags::NOSIGNAL)?;
        }
        Ok(())
    }
}

fn main() -> io::Result<()> {
    let usage = || io::Error::other("usage: floor ADDR:PORT FILE [--revalidate] [--threads N]");
    let (mut plain, mut revalidates, mut threads) = (Vec::new(), false, 1);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--revalidate" => revalidates = true,
            "--threads" => threads = words.next().and_then(|count| count.parse().ok()).ok_or_else(usage)?,
            _ => plain.push(word),
        }
    }
    let [address, file] = &plain[..] else { return Err(usage()) };
    let address: SocketAddr = address.parse().map_err(|_| usage())?;
    let answers = Answers::around(&std::fs::read(file)?, file.ends_with(".gz"), revalidates);
    if threads == 1 {
        return serve(&listen_on(address, false)?, &answers);
    }
    thread::scope(|scope| {
        let loops: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    own_descriptors()?;
                    serve(&listen_on(address, true)?, &answers)
                })
            })
            .collect();
        loops.into_iter().try_for_each(|each| each.join().map_err(|_| io::Error::other("a thread panicked"))?)
    })
}

/// The listening socket; several threads share the port, and the kernel shares out what comes.
fn listen_on(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, shared)?;
    sockopt::set_tcp_nodelay(&socket, true)?; // accepted sockets inherit it
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Gives this thread a descriptor table of its own: the limit of a table is what bounds a server.
fn own_descriptors() -> io::Result<()> {
    // SAFETY: this thread has just begun and uses no descriptor but the standard streams, of which it gets copies. What it
    // opens from here on is known to itself alone.
    let result = unsafe { libc::unshare(libc::CLONE_FILES) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Answers whoever comes.
fn serve(listener: &TcpListener, answers: &Answers) -> io::Result<()> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, listener, key(listener), EventFlags::IN)?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut input = vec![0; INPUT];
    let mut events = [const { MaybeUninit::<Event>::uninit() }; EVENTS];
    loop {
        let ready = match epoll::wait(&epoll, &mut events[..], None) {
            Ok((ready, _)) => ready,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        for &mut Event { flags, data } in ready {
            if data == key(listener) {
                accept_all(listener, &epoll, &mut connections)?;
            } else if let Some(slot) = connections.get_mut(data.u64() as usize)
                && let Some(connection) = slot
                && let Err(error) = connection.turn(flags, &mut input, answers)
                && error != Errno::AGAIN
            {
                *slot = None;
            }
        }
    }
}

/// Takes every connection that waits. Its interest never changes afterwards: edges cost nothing
/// while there are none.
fn accept_all(listener: &TcpListener, epoll: &OwnedFd, connections: &mut Vec<Option<Connection>>) -> io::Result<()> {
    loop {
        let socket = match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(socket) => socket,
            Err(Errno::AGAIN) => return Ok(()),
            Err(Errno::INTR | Errno::CONNABORTED) => continue,
            Err(error) => return Err(error.into()),
        };
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(epoll, &socket, key(&socket), interest)?;
        let index = socket.as_raw_fd() as usize;
        if connections.len() <= index {
            connections.resize_with(index + 1, || None);
        }
        connections[index] = Some(Connection { socket, owed: 0, kind: Kind::Whole, piece: Vec::new() });
    }
}

/// The descriptor is the key of an event and the index of its connection.
fn key(socket: &impl AsRawFd) -> EventData {
    EventData::new_u64(socket.as_raw_fd() as u64)
}
