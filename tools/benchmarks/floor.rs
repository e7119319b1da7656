//! The bare floor: the least that any HTTP server on this kernel does for a keep-alive GET.
//!
//! ```text
//! floor 127.0.0.1:8080 app.js.gz
//! ```
//!
//! One thread and one edge-triggered epoll. A turn of a connection is `epoll_wait`, `recv`,
//! httparse, `send`. Every well-formed request head gets the same answer, made once at the start
//! around the file's bytes, which must be gzip already; its head is of a real server's size.
//! Benchmarks run it beside cloudia: what cloudia costs above it is what cloudia adds to the
//! kernel's own price.
//!
//! All that would make it a server is left out. It never looks at a method, a path or a header,
//! never reads a request body, never honours `Connection: close`, never reads a clock (its `Date`
//! stands still), never times out, never answers an error (it hangs up on what does not parse),
//! never logs, counts or shuts down. What is left is correct: pipelined requests get one `send`, a
//! head may arrive in pieces, a slow reader is waited for and not read from meanwhile.

use std::io;
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send, sockopt};

/// Room for what one `recv` brings; also the longest request head.
const INPUT: usize = 16 * 1024;
/// A browser sends 15 to 20 headers.
const HEADERS: usize = 64;
/// More than the benchmark's connections, so that one `epoll_wait` brings all that are ready.
const EVENTS: usize = 256;
/// Copies of the answer side by side: as many pipelined requests need one `send` and no copying.
const COPIES: usize = 16;

/// Everything of one connection that outlives its turn. An idle one owns no heap memory.
struct Connection {
    socket: OwnedFd,
    /// Bytes of answers not sent yet; all answers are alike, so this is also the position in them.
    owed: usize,
    /// The piece of a request head that has arrived.
    piece: Vec<u8>,
}

/// The one answer, `COPIES` times.
struct Answer {
    copies: Vec<u8>,
    len: usize,
}

impl Answer {
    fn around(body: &[u8]) -> Self {
        let head = format!(
            "HTTP/1.1 200 OK\r\n\
             Server: floor\r\n\
             Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
             Content-Type: text/javascript; charset=utf-8\r\n\
             Content-Encoding: gzip\r\n\
             Vary: Accept-Encoding\r\n\
             Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
             ETag: \"0123456789abcdef-g\"\r\n\
             Cache-Control: public, max-age=60\r\n\
             Content-Length: {}\r\n\
             X-Content-Type-Options: nosniff\r\n\r\n",
            body.len()
        );
        let one = [head.as_bytes(), body].concat();
        Self { len: one.len(), copies: one.repeat(COPIES) }
    }

    /// The next bytes for a connection that is owed this many.
    fn next(&self, owed: usize) -> &[u8] {
        let from = (self.len - owed % self.len) % self.len;
        &self.copies[from..self.copies.len().min(from + owed)]
    }
}

impl Connection {
    /// Sends what is owed, then answers what has arrived. `AGAIN` means the rest waits for the next
    /// edge; any other error ends the connection.
    fn turn(&mut self, flags: EventFlags, input: &mut [u8], answer: &Answer) -> Result<(), Errno> {
        self.send_owed(answer)?;
        loop {
            let held = self.piece.len();
            input[..held].copy_from_slice(&self.piece);
            let (got, _) = recv(&self.socket, &mut input[held..], RecvFlags::empty())?;
            if got == 0 {
                return Err(Errno::PIPE); // the peer has closed, or one head fills the whole buffer
            }
            let arrived = &input[..held + got];
            let (requests, rest) = parse(arrived)?;
            self.piece.clear();
            self.piece.extend_from_slice(rest);
            self.owed = requests * answer.len;
            self.send_owed(answer)?;
            // A short read has emptied the socket, and the next byte will be a new edge. The end of
            // the stream will not be one once it has been told.
            if arrived.len() < INPUT && !flags.contains(EventFlags::RDHUP) {
                return Ok(());
            }
        }
    }

    fn send_owed(&mut self, answer: &Answer) -> Result<(), Errno> {
        while self.owed > 0 {
            self.owed -= send(&self.socket, answer.next(self.owed), SendFlags::NOSIGNAL)?;
        }
        Ok(())
    }
}

/// Counts the whole request heads and returns what is left after them.
fn parse(mut rest: &[u8]) -> Result<(usize, &[u8]), Errno> {
    let mut requests = 0;
    while !rest.is_empty() {
        let mut headers = [const { MaybeUninit::uninit() }; HEADERS];
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(rest, &mut headers) {
            Ok(httparse::Status::Complete(head)) => rest = &rest[head..],
            Ok(httparse::Status::Partial) => break,
            Err(_) => return Err(Errno::PROTO),
        }
        requests += 1;
    }
    Ok((requests, rest))
}

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, file] = &args[..] else {
        return Err(io::Error::other("usage: floor ADDR:PORT FILE.gz"));
    };
    let answer = Answer::around(&std::fs::read(file)?);
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    sockopt::set_tcp_nodelay(&listener, true)?; // accepted sockets inherit it

    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, key(&listener), EventFlags::IN)?;
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
            if data == key(&listener) {
                accept_all(&listener, &epoll, &mut connections)?;
            } else if let Some(slot) = connections.get_mut(data.u64() as usize)
                && let Some(connection) = slot
                && let Err(error) = connection.turn(flags, &mut input, &answer)
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
        connections[index] = Some(Connection { socket, owed: 0, piece: Vec::new() });
    }
}

/// The descriptor is the key of an event and the index of its connection.
fn key(socket: &impl AsRawFd) -> EventData {
    EventData::new_u64(socket.as_raw_fd() as u64)
}
