//! Connections that are ready at once, served side by side: first something is received from each, then all are answered,
//! then each is sent its answers.
//!
//! The kernel's way to receive, the way through this program and the kernel's way to send are each more code than a core
//! holds near it. Taken in turn for every request they push each other out; taken for sixteen requests at once each is
//! fetched once.

use std::{
    cell::{Cell, RefCell},
    io,
};

use super::{
    slots::{Slot, Slots},
    socket::Endpoint,
    told,
};
use crate::{
    limits::{DEFERRED_ANSWER, RECEIVE, SIDE_BY_SIDE},
    listen::trusted::Trusted,
    serve::{Desk, Socket, Wait, output::Output},
};

/// What is kept from one time to the next: memory.
#[derive(Default)]
pub struct Batch {
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

impl Batch {
    /// Serves the connections `ready`, from which there is something to receive, at the time of the desk. What each of them then
    /// waits for is noted in its slot.
    pub fn serve<S: Endpoint>(&mut self, ready: &[u32], slots: &mut Slots<S>, desk: &mut Desk, trusted: &Trusted) {
        let Self { inbox, received, outbox } = self;
        inbox.resize(SIDE_BY_SIDE * RECEIVE, 0);
        for some in ready.chunks(SIDE_BY_SIDE) {
            receive(some, slots, inbox, received);
            for (place, (id, (result, at))) in some.iter().zip(received.drain(..)).enumerate() {
                let Some(Slot { socket, connection, wait, .. }) = slots.get(*id) else { continue };
                let input = result.map(|len| &inbox[at..at + len]);
                let socket = Served { socket, place, input: Cell::new(Some(input)), outbox: RefCell::new(outbox) };
                *wait = connection.on_ready(&socket, desk);
                if desk.refusals.is_some() {
                    told::tell(desk, trusted, slots.peer(*id));
                }
            }
            outbox.send(some, slots, desk);
        }
    }
}

fn receive<S: Socket>(
    some: &[u32],
    slots: &mut Slots<S>,
    inbox: &mut [u8],
    received: &mut Vec<(io::Result<usize>, usize)>,
) {
    let mut at = 0;
    for id in some {
        let result = match slots.get(*id) {
            Some(slot) => slot.socket.receive(&mut inbox[at..at + RECEIVE]),
            None => Ok(0),
        };
        let len = result.as_ref().map_or(0, |len| *len);
        received.push((result, at));
        at += len;
    }
}

impl Outbox {
    fn send<S: Endpoint>(&mut self, some: &[u32], slots: &mut Slots<S>, desk: &mut Desk) {
        let mut start = 0;
        for (place, end) in self.ends.drain(..) {
            let answers = &self.bytes[start..end];
            start = end;
            let Some(slot) = slots.get(some[place]) else { continue };
            match slot.socket.send_bytes(answers) {
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
    socket: &'b S,
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
            None => self.socket.receive(buffer),
        }
    }

    fn send(&self, output: &Output) -> io::Result<usize> {
        self.socket.send(output)
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
        self.socket.is_quiet()
    }

    fn shut_write(&self) {
        self.socket.shut_write();
    }

    fn shut(&self) {
        self.socket.shut();
    }

    fn forget_unsent(&self) {
        self.socket.forget_unsent();
    }
}
