//! Connections that are ready at once, served side by side: first something is received from each, then all are answered,
//! then each is sent its answers.
//!
//! The kernel's way to receive, the way through this program and the kernel's way to send are each more code than a core
//! holds near it. Taken in turn for every request they push each other out; taken for sixteen requests at once each is
//! fetched once.

use std::{
    cell::{Cell, RefCell},
    io,
    task::Waker,
};

use super::{
    slots::Slots,
    socket::{Endpoint, Raw},
    told,
};
use crate::{
    limits::{DEFERRED_ANSWER, RECEIVE, SIDE_BY_SIDE},
    listen::trusted::Trusted,
    serve::{Desk, Socket, Wait, output::Output},
};

/// Connections that are ready.
pub struct Batch<S = Raw> {
    ready: Vec<(u32, S, Waker)>,
    /// What was received, one behind the other.
    inbox: Vec<u8>,
    received: Vec<(io::Result<usize>, usize)>,
    outbox: Outbox,
}

/// Answers that are to be sent.
#[derive(Default)]
struct Outbox {
    bytes: Vec<u8>,
    /// Whose they are, by the place among those that are served side by side, and where they end.
    ends: Vec<(usize, usize)>,
}

impl<S> Default for Batch<S> {
    fn default() -> Self {
        Self { ready: Vec::new(), inbox: Vec::new(), received: Vec::new(), outbox: Outbox::default() }
    }
}

impl<S: Endpoint> Batch<S> {
    /// Notes a connection that is ready. The waker is called when it has been served.
    pub fn push(&mut self, id: u32, socket: S, waker: Waker) {
        self.ready.push((id, socket, waker));
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// Serves all, at the time of the desk. What each of them then waits for is noted in its slot.
    pub fn serve(&mut self, slots: &mut Slots<S>, desk: &mut Desk, trusted: &Trusted) {
        let Self { ready, inbox, received, outbox } = self;
        for some in ready.chunks(SIDE_BY_SIDE) {
            receive(some, inbox, received);
            for (place, ((id, raw, _), (result, at))) in some.iter().zip(received.drain(..)).enumerate() {
                let Some(slot) = slots.get(*id) else { continue };
                let input = result.map(|len| &inbox[at..at + len]);
                let socket = Served { raw, place, input: Cell::new(Some(input)), outbox: RefCell::new(outbox) };
                slot.wait = slot.connection.on_ready(&socket, desk);
                if desk.refusals.is_some() {
                    told::tell(desk, trusted, slots.peer(*id));
                }
            }
            outbox.send(some, slots, desk);
        }
        ready.drain(..).for_each(|(_, _, waker)| waker.wake());
    }
}

fn receive<S: Socket>(some: &[(u32, S, Waker)], inbox: &mut Vec<u8>, received: &mut Vec<(io::Result<usize>, usize)>) {
    inbox.resize(SIDE_BY_SIDE * RECEIVE, 0);
    let mut at = 0;
    for (_, socket, _) in some {
        let result = socket.receive(&mut inbox[at..at + RECEIVE]);
        let len = result.as_ref().map_or(0, |len| *len);
        received.push((result, at));
        at += len;
    }
}

impl Outbox {
    fn send<S: Endpoint>(&mut self, some: &[(u32, S, Waker)], slots: &mut Slots<S>, desk: &mut Desk) {
        let mut start = 0;
        for (place, end) in self.ends.drain(..) {
            let (id, socket, _) = &some[place];
            let answers = &self.bytes[start..end];
            start = end;
            let Some(slot) = slots.get(*id) else { continue };
            match socket.send_bytes(answers) {
                Ok(sent) => {
                    if let Some(wait) = slot.connection.on_sent(answers, sent, desk) {
                        slot.wait = wait;
                    }
                }
                Err(_) => slot.wait = Wait::Closed,
            }
        }
        self.bytes.clear();
    }
}

/// A socket from which something was received, and whose answers are sent with those of others.
struct Served<'b, S> {
    raw: &'b S,
    place: usize,
    input: Cell<Option<io::Result<&'b [u8]>>>,
    outbox: RefCell<&'b mut Outbox>,
}

impl<S: Socket> Socket for Served<'_, S> {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.input.take() {
            Some(input) => {
                let input = input?;
                buffer[..input.len()].copy_from_slice(input);
                Ok(input.len())
            }
            None => self.raw.receive(buffer),
        }
    }

    fn send(&self, output: &Output) -> io::Result<usize> {
        self.raw.send(output)
    }

    fn send_later(&self, output: &Output) -> bool {
        let Some(answers) = output.contiguous().filter(|answers| answers.len() <= DEFERRED_ANSWER) else {
            return false;
        };
        let mut outbox = self.outbox.borrow_mut();
        outbox.bytes.extend_from_slice(answers);
        let end = outbox.bytes.len();
        outbox.ends.push((self.place, end));
        true
    }

    fn is_quiet(&self) -> bool {
        self.raw.is_quiet()
    }

    fn shut_write(&self) {
        self.raw.shut_write();
    }

    fn shut(&self) {
        self.raw.shut();
    }

    fn forget_unsent(&self) {
        self.raw.forget_unsent();
    }
}
