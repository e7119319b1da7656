//! Connections that a balancer introduces: each begins with a header of the PROXY protocol, which says whose it is.
//!
//! Only the header is taken from the socket; the first byte behind it is the connection's first. Whoever is not trusted, or
//! brings no header, is closed without an answer.

use std::{io, net::SocketAddr};

use super::{Worker, accept::discard, budget::Client, slots::Place, socket::Stream, told::Peer};
use crate::{
    limits::{MAX_PROXY_HEADER, REFUSALS_LINGERING},
    listen::proxy::{self, Parsed},
    serve::Socket,
};

/// What a balancer has said.
enum Heard {
    /// Not all of the header.
    More,
    /// The header.
    Source(Option<SocketAddr>),
    /// Something else.
    Malformed,
    /// Nothing more.
    End,
}

/// Takes the header from the socket, as far as it has come. `begun`: what came of it before.
fn hear(socket: &Stream, begun: &mut Vec<u8>) -> Heard {
    let mut bytes = [0; MAX_PROXY_HEADER];
    let before = begun.len();
    let peeked = match socket.peek(&mut bytes[before..]) {
        Ok(0) => return Heard::End,
        Ok(peeked) => peeked,
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            return Heard::More;
        }
        Err(_) => return Heard::End,
    };
    bytes[..before].copy_from_slice(begun);
    let (taken, heard) = match proxy::parse(&bytes[..before + peeked]) {
        Parsed::Partial => {
            begun.extend_from_slice(&bytes[before..before + peeked]);
            (peeked, Heard::More)
        }
        Parsed::Complete { len, source } => (len - before, Heard::Source(source)),
        Parsed::Malformed => return Heard::Malformed,
    };
    match socket.receive(&mut bytes[..taken]) {
        Ok(received) if received == taken => heard,
        // What was there a moment ago is gone.
        _ => Heard::End,
    }
}

impl Worker {
    /// Whether who connects from `peer` may say whose connections it brings.
    pub(super) fn may_introduce(&self, peer: Option<SocketAddr>) -> bool {
        let is_trusted = self.trusted.contains_peer(peer);
        if !is_trusted {
            self.stats.proxy_untrusted.add(1);
            self.tell_of_proxy("not among --trusted-proxies", Peer::of(peer));
        }
        is_trusted
    }

    /// A connection that is yet to be introduced has said something, or has ended.
    pub(super) fn hear(&self, id: u32) {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get(id) else { return };
        let mut begun = self.begun.borrow_mut().remove(&id).unwrap_or_default();
        match hear(&slot.socket, &mut begun) {
            Heard::More if begun.is_empty() => {}
            Heard::More => {
                self.begun.borrow_mut().insert(id, begun);
            }
            Heard::Source(source) => {
                slot.introduced = true;
                drop(slots);
                self.introduce(id, source);
            }
            Heard::Malformed => {
                self.stats.proxy_malformed.add(1);
                self.tell_of_proxy("no PROXY header, as --listen-proxy demands", slots.peer(id));
                drop(slots);
                self.release(id);
            }
            Heard::End => {
                drop(slots);
                self.release(id);
            }
        }
    }

    /// It is known whose connection it is; only now is it known whether that client may have one more.
    fn introduce(&self, id: u32, source: Option<SocketAddr>) {
        self.stats.proxy_accepted.add(1);
        let mut slots = self.slots.borrow_mut();
        let peer = source.map_or_else(|| slots.peer(id).behind(), |source| Peer::Address(source.ip()));
        if self.tells_refused {
            slots.set_peer(id, peer);
        }
        let Some(source) = source else { return };
        // Whoever has given its place to another one is about to be closed, and counts for nobody.
        let has_place = slots.get(id).is_some_and(|slot| slot.place == Place::Counted);
        if !self.budget.counts_clients() || !has_place {
            return;
        }
        let client = Client::of(source);
        if self.budget.take_of(client) {
            slots.set_client(id, client);
            return;
        }
        let Some(slot) = slots.get(id) else { return };
        let lingers = self.lingering.get() < REFUSALS_LINGERING;
        slot.place = Place::Refused;
        self.budget.give_back();
        self.stats.open.sub(1);
        self.lingering.set(self.lingering.get() + 1);
        self.refuse(&mut slot.connection, &slot.socket, peer);
        if !lingers {
            discard(&slot.socket);
            slot.socket.shut();
        }
    }
}
