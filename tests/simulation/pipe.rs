//! A socket that is made up: what the client's bytes and the server's become on their way, and all that can go wrong there.
//!
//! It sees every byte that the server means to send, also those that the kernel does not take, and holds the server to them:
//! what is sent later must be exactly what was left over.

use std::{
    cell::{Ref, RefCell, RefMut},
    io,
    rc::Rc,
};

use cloudia::{
    limits::SEND_SLICES,
    serve::{Socket, output::Output},
    worker::socket::Endpoint,
};

use super::tally::{Event, Tally};
use crate::harness::Rng;

/// How much goes wrong on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weather {
    /// Nothing but a full socket.
    Calm,
    /// Calls are interrupted, bring nothing after all, or fall short.
    Rough,
    /// The connection may break as well.
    Stormy,
}

/// The server's end of a connection.
#[derive(Clone)]
pub(super) struct End(Rc<RefCell<Pipe>>);

/// One connection, both ways.
pub(super) struct Pipe {
    rng: Rng,
    weather: Weather,
    tally: Rc<Tally>,
    /// What has arrived; the first `taken` bytes of it have been received.
    incoming: Vec<u8>,
    taken: usize,
    /// The client sends nothing more.
    pub(super) fin: bool,
    /// The client has reset the connection.
    pub(super) reset: bool,
    /// The server was told that the connection is broken.
    pub(super) broken: bool,
    /// The server was told that nothing more comes.
    pub(super) told_of_end: bool,
    /// What was received and is not answered yet.
    pub(super) stream: Vec<u8>,
    pub(super) received: u64,
    /// Bytes that the kernel still takes.
    room: usize,
    /// What the server means to send, as far as it was seen, from where neither judge nor client have been.
    promised: Vec<u8>,
    /// Bytes at its front that the kernel has taken.
    given: usize,
    /// Bytes at its front that were judged.
    judged: usize,
    /// Bytes that the server means to send, in all.
    pub(super) produced: u64,
    /// Bytes of these that have been seen.
    seen: u64,
    /// Bytes that the kernel has taken, in all.
    pub(super) accepted: u64,
    /// Bytes that the client has not read.
    pub(super) unread: usize,
    pub(super) write_is_shut: bool,
    pub(super) shut: bool,
    pub(super) forgotten: bool,
    /// What the server has done that no server may.
    pub(super) violation: Option<String>,
}

impl End {
    pub(super) fn new(seed: u64, weather: Weather, room: usize, tally: &Rc<Tally>) -> End {
        End(Rc::new(RefCell::new(Pipe {
            rng: Rng::with_seed(seed),
            weather,
            tally: tally.clone(),
            incoming: Vec::new(),
            taken: 0,
            fin: false,
            reset: false,
            broken: false,
            told_of_end: false,
            stream: Vec::new(),
            received: 0,
            room,
            promised: Vec::new(),
            given: 0,
            judged: 0,
            produced: 0,
            seen: 0,
            accepted: 0,
            unread: 0,
            write_is_shut: false,
            shut: false,
            forgotten: false,
            violation: None,
        })))
    }

    pub(super) fn pipe(&self) -> Ref<'_, Pipe> {
        self.0.borrow()
    }

    pub(super) fn pipe_mut(&self) -> RefMut<'_, Pipe> {
        self.0.borrow_mut()
    }
}

impl Pipe {
    /// Bytes that have arrived and were not received.
    pub(super) fn waiting(&self) -> usize {
        self.incoming.len() - self.taken
    }

    /// Bytes that the server means to send and the kernel has not taken.
    pub(super) fn outstanding(&self) -> u64 {
        self.produced - self.accepted
    }

    /// The kernel would wake who waits to receive.
    pub(super) fn is_readable(&self) -> bool {
        self.waiting() > 0 || self.fin || self.reset || self.broken || self.shut
    }

    /// The kernel would wake who waits to send.
    pub(super) fn is_writable(&self) -> bool {
        self.room > 0 || self.reset || self.broken || self.shut
    }

    /// Bytes of the client arrive.
    pub(super) fn arrive(&mut self, bytes: &[u8]) {
        if self.shut {
            // They cross the reset on their way.
            return;
        }
        if self.taken == self.incoming.len() {
            self.incoming.clear();
            self.taken = 0;
        }
        self.incoming.extend_from_slice(bytes);
    }

    /// The client reads up to so many bytes.
    pub(super) fn read(&mut self, most: usize) {
        let len = self.unread.min(most);
        self.unread -= len;
        self.room += len;
    }

    /// What was seen and is not judged.
    pub(super) fn to_judge(&self) -> &[u8] {
        &self.promised[self.judged..]
    }

    /// More is on its way than was seen.
    pub(super) fn is_partly_unseen(&self) -> bool {
        self.seen < self.produced
    }

    /// The next so many bytes are right.
    pub(super) fn judge(&mut self, len: usize) {
        self.judged += len;
        self.forget_done();
    }

    /// Nothing came behind the last request, not even an empty line.
    pub(super) fn received_is_answered(&self) -> bool {
        self.stream.is_empty()
    }

    fn forget_done(&mut self) {
        let done = self.judged.min(self.given);
        if done == self.promised.len() {
            self.promised.clear();
            (self.judged, self.given) = (0, 0);
        }
    }

    fn offend(&mut self, what: impl Into<String>) {
        self.violation.get_or_insert(what.into());
    }

    /// What goes wrong with a call.
    fn fault(&mut self) -> Option<io::Error> {
        if self.weather == Weather::Calm {
            return None;
        }
        match self.rng.below(48) {
            0 | 1 => {
                self.tally.note(Event::Interrupted);
                return Some(io::ErrorKind::Interrupted.into());
            }
            2..5 => {
                self.tally.note(Event::WouldBlock);
                return Some(io::ErrorKind::WouldBlock.into());
            }
            _ => {}
        }
        if self.weather != Weather::Stormy || self.rng.below(150) > 0 {
            return None;
        }
        self.broken = true;
        let (event, errno) = [
            (Event::NoBuffers, libc::ENOBUFS),
            (Event::ConnectionReset, libc::ECONNRESET),
            (Event::BrokenPipe, libc::EPIPE),
        ][self.rng.below(3)];
        self.tally.note(event);
        Some(io::Error::from_raw_os_error(errno))
    }

    /// Notes what the server means to send, and takes some of it. It may be that not all of the `len` bytes are in `slices`.
    fn take<'s>(&mut self, slices: impl Iterator<Item = &'s [u8]> + Clone, len: usize) -> io::Result<usize> {
        if self.write_is_shut || self.shut {
            self.offend("a send after the last word");
        }
        if self.outstanding() == 0 {
            self.produced += len as u64;
        } else if self.outstanding() != len as u64 {
            self.offend(format!("{} bytes were left to send, now they are {len}", self.outstanding()));
            return Ok(0);
        }
        let seen: usize = slices.clone().map(<[u8]>::len).sum();
        self.look_at(slices.clone());
        if self.broken || self.reset {
            self.broken = true;
            return Err(io::Error::from_raw_os_error([libc::EPIPE, libc::ECONNRESET][self.rng.below(2)]));
        }
        if let Some(error) = self.fault() {
            return Err(error);
        }
        if self.room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut most = self.room;
        if self.weather != Weather::Calm && self.rng.below(4) == 0 {
            most = most.min(self.rng.below(seen + 1));
            self.tally.note(if most == 0 { Event::NothingSent } else { Event::ShortSend });
        }
        let taken = seen.min(most);
        self.hold_to_promise(slices, taken);
        self.given += taken;
        self.accepted += taken as u64;
        self.tally.note_sent(taken as u64);
        self.unread += taken;
        self.room -= taken;
        self.forget_done();
        Ok(taken)
    }

    /// Adds to the promise what was not seen before.
    fn look_at<'s>(&mut self, slices: impl Iterator<Item = &'s [u8]>) {
        let mut known = self.promised.len() - self.given;
        for slice in slices {
            let old = slice.len().min(known);
            known -= old;
            self.seen += (slice.len() - old) as u64;
            self.promised.extend_from_slice(&slice[old..]);
        }
    }

    fn hold_to_promise<'s>(&mut self, slices: impl Iterator<Item = &'s [u8]>, mut len: usize) {
        let mut at = self.given;
        for slice in slices {
            let here = slice.len().min(len);
            if self.promised[at..at + here] != slice[..here] {
                self.offend(format!("what is sent is not what was left over, {} bytes on", at - self.given));
                return;
            }
            at += here;
            len -= here;
        }
    }
}

impl Socket for End {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut pipe = self.pipe_mut();
        if buffer.is_empty() {
            pipe.offend("no room to receive into");
        }
        if let Some(error) = pipe.fault() {
            return Err(error);
        }
        if pipe.reset || pipe.broken {
            pipe.broken = true;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if pipe.waiting() == 0 {
            if !(pipe.fin || pipe.shut) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            pipe.told_of_end = true;
            return Ok(0);
        }
        let mut len = pipe.waiting().min(buffer.len());
        if pipe.weather != Weather::Calm && pipe.rng.below(6) == 0 {
            len = 1 + pipe.rng.below(len);
            pipe.tally.note(Event::ShortReceive);
        }
        let at = pipe.taken;
        buffer[..len].copy_from_slice(&pipe.incoming[at..at + len]);
        // What comes behind the last word is thrown away.
        if !pipe.write_is_shut {
            pipe.stream.extend_from_slice(&buffer[..len]);
        }
        pipe.taken += len;
        pipe.received += len as u64;
        Ok(len)
    }

    fn send(&self, output: &Output) -> io::Result<usize> {
        let mut slices = [io::IoSlice::new(&[]); SEND_SLICES];
        let slices = output.slices(&mut slices);
        self.pipe_mut().take(slices.iter().map(|slice| &**slice), output.len())
    }

    fn is_quiet(&self) -> bool {
        !self.pipe().is_readable()
    }

    fn shut_write(&self) {
        self.pipe_mut().write_is_shut = true;
    }

    fn shut(&self) {
        self.pipe_mut().shut = true;
    }

    fn forget_unsent(&self) {
        self.pipe_mut().forgotten = true;
    }
}

impl Endpoint for End {
    fn send_bytes(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut pipe = self.pipe_mut();
        pipe.tally.note(Event::Deferred);
        loop {
            match pipe.take(std::iter::once(bytes), bytes.len()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                taken => return taken,
            }
        }
    }
}
