//! The connections of a worker, by number.

use std::{collections::HashMap, net::IpAddr, os::fd::RawFd};

use super::{budget::Client, socket::Raw};
use crate::{
    limits::EVICTION_CANDIDATES,
    serve::{Connection, Patience, Tick, Wait},
};

/// The connections by number, with the numbers that are free.
#[derive(Default)]
pub(super) struct Slots {
    list: Vec<Option<Slot>>,
    free: Vec<u32>,
    /// Whose they are, by number, where clients are counted.
    clients: Vec<Option<Client>>,
    /// Where they come from, by number, where somebody wants to know; those of Unix sockets come from nowhere.
    sources: HashMap<u32, IpAddr>,
    /// Those that had been idle for longest when they were looked for, the longest last.
    idle: Vec<(Tick, u32)>,
    /// When they were looked for.
    looked: Option<Tick>,
}

/// One connection.
pub(super) struct Slot {
    pub(super) socket: RawFd,
    /// What it waits for, once it has been served.
    pub(super) wait: Wait,
    pub(super) place: Place,
    pub(super) connection: Connection,
}

/// Whether a connection counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It has a place in the budget.
    Counted,
    /// It was refused, and lingers.
    Refused,
    /// It has given its place to another.
    Ceded,
}

impl Slots {
    /// Takes in a connection. Its number.
    pub(super) fn insert(&mut self, slot: Slot, client: Option<Client>) -> u32 {
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
    pub(super) fn set_client(&mut self, id: u32, client: Client) {
        if self.clients.len() < self.list.len() {
            self.clients.resize(self.list.len(), None);
        }
        self.clients[id as usize] = Some(client);
    }

    /// Notes where a connection comes from.
    pub(super) fn set_source(&mut self, id: u32, source: IpAddr) {
        self.sources.insert(id, source);
    }

    /// Where a connection comes from, if that was noted.
    pub(super) fn source(&self, id: u32) -> Option<IpAddr> {
        self.sources.get(&id).copied()
    }

    pub(super) fn get(&mut self, id: u32) -> Option<&mut Slot> {
        self.list.get_mut(id as usize)?.as_mut()
    }

    /// Whose connection it is, once.
    pub(super) fn take_client(&mut self, id: u32) -> Option<Client> {
        self.clients.get_mut(id as usize)?.take()
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<Slot> {
        let slot = self.list.get_mut(id as usize)?.take()?;
        self.free.push(id);
        if !self.sources.is_empty() {
            self.sources.remove(&id);
        }
        Some(slot)
    }

    pub(super) fn len(&self) -> usize {
        self.list.len() - self.free.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Numbers, among which are those of all connections.
    pub(super) fn numbers(&self) -> std::ops::Range<u32> {
        0..self.list.len() as u32
    }

    /// All of them, with their numbers.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Slot)> {
        (0..).zip(&mut self.list).filter_map(|(id, slot)| Some((id, slot.as_mut()?)))
    }

    /// Closes the connection that has been idle for longest, but not one that became idle since the last tick. Its number, if
    /// there is one.
    ///
    /// A look through all of them finds many. There is at most one in a tick.
    pub(super) fn evict_longest_idle(&mut self, patience: &Patience, now: Tick) -> Option<u32> {
        loop {
            while let Some((since, id)) = self.idle.pop() {
                let Some(slot) = self.get(id) else { continue };
                let is_still_idle = slot.place == Place::Counted && slot.connection.idle_since(patience) == Some(since);
                if is_still_idle && slot.connection.close_if_idle(&Raw(slot.socket)) {
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
        let since = |slot: &Slot| slot.connection.idle_since(patience).filter(|since| *since < now);
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
