//! The connections of a worker, by number.

use std::collections::HashMap;

use super::{budget::Client, poller::Interest, socket::Stream, told::Peer};
use crate::{
    limits::EVICTION_CANDIDATES,
    serve::{Connection, Patience, Socket, Tick, Wait},
};

/// The connections by number, with the numbers that are free. Their sockets are the kernel's, but where a simulation has its own.
pub struct Slots<S = Stream> {
    list: Vec<Option<Slot<S>>>,
    free: Vec<u32>,
    /// Whose they are, by number, where clients are counted.
    clients: Vec<Option<Client>>,
    /// Where they come from, by number, where somebody wants to know; those of Unix sockets come from nowhere.
    peers: HashMap<u32, Peer>,
    /// Those that had been idle for longest when they were looked for, the longest last.
    idle: Vec<(Tick, u32)>,
    /// When they were looked for.
    looked: Option<Tick>,
}

/// One connection.
pub struct Slot<S = Stream> {
    /// Its socket.
    pub socket: S,
    /// What it waits for.
    pub wait: Wait,
    /// What is to be heard of its socket.
    pub interest: Interest,
    /// Whose it is is known, or will not be said by itself.
    pub introduced: bool,
    /// Whether it counts.
    pub place: Place,
    /// What is known of it.
    pub connection: Connection,
}

impl<S> Slot<S> {
    /// A connection that nothing has come from.
    pub fn new(socket: S, place: Place, connection: Connection) -> Self {
        Self { socket, wait: Wait::Readable, interest: Interest::Nothing, introduced: true, place, connection }
    }
}

/// Whether a connection counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It has a place in the budget.
    Counted,
    /// It was refused, and lingers.
    Refused,
    /// It has given its place to another.
    Ceded,
}

impl<S> Default for Slots<S> {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            free: Vec::new(),
            clients: Vec::new(),
            peers: HashMap::new(),
            idle: Vec::new(),
            looked: None,
        }
    }
}

impl<S: Socket> Slots<S> {
    /// Takes in a connection. Its number.
    pub fn insert(&mut self, slot: Slot<S>, client: Option<Client>) -> u32 {
        let id = match self.free.pop() {
            Some(id) => {
                self.list[id as usize] = Some(slot);
                id
            }
            None => {
                self.list.push(Some(slot));
                // Descriptors are 32-bit numbers, and each slot has one.
                (self.list.len() - 1) as u32
            }
        };
        if let Some(client) = client {
            self.set_client(id, client);
        }
        id
    }

    /// Notes whose connection it is.
    pub fn set_client(&mut self, id: u32, client: Client) {
        if self.clients.len() < self.list.len() {
            self.clients.resize(self.list.len(), None);
        }
        self.clients[id as usize] = Some(client);
    }

    /// Notes where a connection comes from.
    pub fn set_peer(&mut self, id: u32, peer: Peer) {
        self.peers.insert(id, peer);
    }

    /// Where a connection comes from, if that was noted.
    pub fn peer(&self, id: u32) -> Peer {
        self.peers.get(&id).copied().unwrap_or_default()
    }

    /// A connection by its number.
    pub fn get(&mut self, id: u32) -> Option<&mut Slot<S>> {
        self.list.get_mut(id as usize)?.as_mut()
    }

    /// Whose connection it is, once.
    pub fn take_client(&mut self, id: u32) -> Option<Client> {
        self.clients.get_mut(id as usize)?.take()
    }

    /// Takes a connection out; its number is free then.
    pub fn remove(&mut self, id: u32) -> Option<Slot<S>> {
        let slot = self.list.get_mut(id as usize)?.take()?;
        self.free.push(id);
        if !self.peers.is_empty() {
            self.peers.remove(&id);
        }
        Some(slot)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len() - self.free.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Numbers, among which are those of all connections.
    pub fn numbers(&self) -> std::ops::Range<u32> {
        0..self.list.len() as u32
    }

    /// All of them, with their numbers.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Slot<S>)> {
        (0..).zip(&mut self.list).filter_map(|(id, slot)| Some((id, slot.as_mut()?)))
    }

    /// Closes the connection that has been idle for longest, but not one that became idle since the last tick. Its number, if
    /// there is one.
    ///
    /// A look through all of them finds many. There is at most one in a tick.
    pub fn evict_longest_idle(&mut self, patience: &Patience, now: Tick) -> Option<u32> {
        loop {
            while let Some((since, id)) = self.idle.pop() {
                let Some(slot) = self.get(id) else { continue };
                let is_still_idle = slot.place == Place::Counted && slot.connection.idle_since(patience) == Some(since);
                if is_still_idle && slot.connection.close_if_idle(&slot.socket) {
                    return Some(id);
                }
            }
            if self.looked.replace(now) == Some(now) {
                return None;
            }
            self.look_for_idle(patience, now);
        }
    }

    fn look_for_idle(&mut self, patience: &Patience, now: Tick) {
        let mut idle = std::mem::take(&mut self.idle);
        let since = |slot: &Slot<S>| slot.connection.idle_since(patience).filter(|since| *since < now);
        idle.extend(
            self.iter_mut()
                .filter(|(_, slot)| slot.place == Place::Counted)
                .filter_map(|(id, slot)| since(slot).map(|since| (since, id))),
        );
        if idle.len() > EVICTION_CANDIDATES {
            idle.select_nth_unstable(EVICTION_CANDIDATES);
            idle.truncate(EVICTION_CANDIDATES);
        }
        idle.sort_unstable_by(|a, b| b.cmp(a));
        self.idle = idle;
    }
}
