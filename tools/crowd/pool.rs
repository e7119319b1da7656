//! The sockets of one thread and what waits for them.

use std::{
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{
        PollFd, PollFlags, Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
    io::Errno,
    net::{RecvFlags, SendFlags, sockopt},
};

use crate::{answer::Answer, args::Common, counts::Counts, sockets, sockets::Special};

/// What is received at once.
const BUFFER: usize = 64 * 1024;

/// Connections by slot.
pub struct Pool {
    pub lines: Vec<Line>,
    pub counts: Counts,
    common: Common,
    special: Special,
    /// The number of its first connection among those of all threads.
    first: u32,
    epoll: OwnedFd,
    buffer: Vec<u8>,
}

/// One connection, or the place for it.
#[derive(Debug, Default)]
pub struct Line {
    socket: Option<OwnedFd>,
    pub stage: Stage,
    /// When it began to connect.
    pub since: Option<Instant>,
    /// What its mode has done with it so far.
    pub step: u64,
    pub answer: Answer,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    #[default]
    Closed,
    Connecting,
    Open,
    /// Something was asked.
    Asked,
}

/// What came of an attempt to send or to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    Bytes(usize),
    /// Not now.
    Nothing,
    /// The other side has closed.
    End,
    /// The connection is reset, or was never made.
    Broken(Errno),
}

impl Pool {
    pub fn new(common: Common, special: Special, first: u32, size: u32) -> io::Result<Self> {
        Ok(Self {
            lines: (0..size).map(|_| Line::default()).collect(),
            counts: Counts::default(),
            common,
            special,
            first,
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            buffer: vec![0; BUFFER],
        })
    }

    /// The server.
    pub fn addr(&self) -> SocketAddr {
        self.common.addr
    }

    /// The number of a slot among those of all threads.
    pub fn number(&self, slot: usize) -> u32 {
        self.first + slot as u32
    }

    /// Begins to connect. Where that fails it is counted, and the slot stays closed.
    pub fn open(&mut self, slot: usize, interest: EventFlags) -> bool {
        self.try_open(slot, interest).map_err(|how| self.counts.fail(how)).is_ok()
    }

    /// The same, but why it fails is for the caller to count.
    pub fn try_open(&mut self, slot: usize, interest: EventFlags) -> Result<(), &'static str> {
        let number = self.number(slot);
        let line = &mut self.lines[slot];
        *line = Line { since: Some(Instant::now()), stage: Stage::Connecting, ..Line::default() };
        let opened = sockets::connect(self.common.addr, self.common.source(number), self.special).and_then(|socket| {
            epoll::add(&self.epoll, &socket, EventData::new_u64(slot as u64), interest | EventFlags::ET)?;
            Ok(socket)
        });
        match opened {
            Ok(socket) => {
                self.lines[slot].socket = Some(socket);
                Ok(())
            }
            Err(error) => {
                self.lines[slot].stage = Stage::Closed;
                Err(name_of(error.raw_os_error().unwrap_or(0)))
            }
        }
    }

    /// Notes that a connection which was being made is open now. False: it cannot be made, which is for the caller to count.
    pub fn connected(&mut self, slot: usize, flags: EventFlags) -> Result<(), Errno> {
        let error = match &self.lines[slot].socket {
            Some(socket) if flags.intersects(EventFlags::ERR | EventFlags::HUP) => {
                sockopt::socket_error(socket).ok().and_then(Result::err)
            }
            _ => None,
        };
        if let Some(error) = error {
            self.close(slot);
            return Err(error);
        }
        self.lines[slot].stage = Stage::Open;
        self.counts.connected += 1;
        Ok(())
    }

    pub fn close(&mut self, slot: usize) {
        self.lines[slot] = Line::default();
    }

    /// Closes it without a farewell.
    pub fn reset(&mut self, slot: usize) {
        if let Some(socket) = self.lines[slot].socket.take() {
            sockets::reset(socket);
        }
        self.close(slot);
    }

    pub fn send(&mut self, slot: usize, bytes: &[u8]) -> Moved {
        let Some(socket) = &self.lines[slot].socket else {
            return Moved::End;
        };
        match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => {
                self.counts.sent_bytes += sent as u64;
                Moved::Bytes(sent)
            }
            Err(Errno::AGAIN | Errno::INTR) => Moved::Nothing,
            Err(error) => Moved::Broken(error),
        }
    }

    /// Receives at most `most` bytes, into [`Pool::received`].
    pub fn receive(&mut self, slot: usize, most: usize) -> Moved {
        let Some(socket) = &self.lines[slot].socket else {
            return Moved::End;
        };
        let most = most.min(BUFFER);
        match rustix::net::recv(socket, &mut self.buffer[..most], RecvFlags::empty()) {
            Ok((0, _)) => Moved::End,
            Ok((got, _)) => {
                self.counts.received_bytes += got as u64;
                Moved::Bytes(got)
            }
            Err(Errno::AGAIN | Errno::INTR) => Moved::Nothing,
            Err(error) => Moved::Broken(error),
        }
    }

    /// The line of a slot, and what was received last.
    pub fn received(&mut self, slot: usize, bytes: usize) -> (&mut Answer, &[u8]) {
        (&mut self.lines[slot].answer, &self.buffer[..bytes])
    }

    /// Receives and forgets all that has come. False: the connection is over, and was closed and counted.
    pub fn discard(&mut self, slot: usize) -> bool {
        loop {
            match self.receive(slot, BUFFER) {
                Moved::Bytes(_) => {}
                Moved::Nothing => return true,
                over => {
                    self.count_end(over);
                    self.close(slot);
                    return false;
                }
            }
        }
    }

    /// Counts the end of a connection.
    pub fn count_end(&mut self, how: Moved) {
        match how {
            Moved::Broken(_) => self.counts.reset_by_server += 1,
            _ => self.counts.closed_by_server += 1,
        }
    }

    /// Waits until something is ready, at most until `until`.
    pub fn wait(&self, ready: &mut Vec<Event>, until: Instant) -> io::Result<()> {
        let left = until.saturating_duration_since(Instant::now()).min(Duration::from_secs(1));
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        ready.clear();
        // epoll's own wait counts in milliseconds, which is more than an answer takes.
        let waited = rustix::event::poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&left))
            .and_then(|_| epoll::wait(&self.epoll, rustix::buffer::spare_capacity(ready), Some(&Timespec::default())));
        match waited {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What was counted, once all is over. Nothing of the connections is left to the kernel.
    pub fn finish(mut self) -> Counts {
        self.counts.open =
            self.lines.iter().filter(|line| matches!(line.stage, Stage::Open | Stage::Asked)).count() as u64;
        (0..self.lines.len()).for_each(|slot| self.reset(slot));
        self.counts
    }
}

/// The kernel's name of an error that connections end with.
pub fn name_of(errno: i32) -> &'static str {
    match errno {
        libc::ECONNREFUSED => "refused",
        libc::ECONNRESET | libc::EPIPE => "reset",
        libc::ETIMEDOUT => "timed out",
        libc::EADDRNOTAVAIL => "no port left",
        libc::EMFILE | libc::ENFILE => "no descriptor left",
        libc::ENOBUFS | libc::ENOMEM => "no memory left",
        _ => "other",
    }
}
