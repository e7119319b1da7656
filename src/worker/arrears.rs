//! What clients in the middle of something make the server hold, and its bound.
//!
//! A client that does not take its answer holds a share of the version that it asked for, and perhaps requests and answers of
//! its own. While files change, every version may have such a client. Its deadline comes, but until then memory must not grow
//! with the rate of changes or the number of clients.

use std::collections::HashMap;

use super::slots::Slots;
use crate::{
    limits::UNFINISHED_BYTES,
    serve::{Desk, Socket, Tick},
};

/// What the connections of a worker hold besides their places.
pub struct Arrears {
    /// The most that they may hold.
    bound: usize,
    bytes: usize,
    /// Bodies that only connections hold, by where they lie: their bytes, and how many connections.
    pinned: HashMap<usize, (usize, u32), ahash::RandomState>,
    /// Connections that hold something worth to be taken from them, those that have been still for longest last.
    holders: Vec<(Tick, u32)>,
}

/// A connection that holds less on its own is not worth cutting.
const WORTH: usize = 4096;

impl Default for Arrears {
    fn default() -> Self {
        Self::with_bound(UNFINISHED_BYTES)
    }
}

impl Arrears {
    /// Nothing is held, and so many bytes may be.
    pub fn with_bound(bound: usize) -> Self {
        Self { bound, bytes: 0, pinned: HashMap::default(), holders: Vec::new() }
    }

    /// Counts what `slots` hold. The bytes.
    pub fn count<S: Socket>(&mut self, slots: &mut Slots<S>) -> usize {
        (self.bytes, self.pinned) = (0, HashMap::default());
        self.holders.clear();
        for (id, slot) in slots.iter_mut() {
            let mut pins = false;
            let Self { bytes, pinned, .. } = self;
            let own = slot.connection.holds(|place, len| {
                pins = true;
                let body = pinned.entry(place).or_insert((len, 0));
                *bytes += if body.1 == 0 { len } else { 0 };
                body.1 += 1;
            });
            self.bytes += own;
            if pins || own > WORTH {
                self.holders.push((slot.connection.deadline(), id));
            }
        }
        self.holders.sort_unstable_by(|a, b| b.cmp(a));
        self.bytes
    }

    /// Cuts a connection, while what was counted is over the bound. What it held, to be freed elsewhere; None: there is none to
    /// cut. The others should have their turn before the next one.
    pub fn cut_one<S: Socket>(&mut self, slots: &mut Slots<S>, desk: &Desk) -> Option<Box<dyn Send>> {
        while self.bytes > self.bound {
            let (deadline, id) = self.holders.pop()?;
            let slot = slots.get(id).filter(|slot| slot.connection.deadline() == deadline);
            let Some(slot) = slot else { continue };
            let Self { bytes, pinned, .. } = self;
            let own = slot.connection.holds(|place, len| {
                let Some((_, holders)) = pinned.get_mut(&place) else { return };
                *holders = holders.saturating_sub(1);
                if *holders == 0 {
                    pinned.remove(&place);
                    *bytes = bytes.saturating_sub(len);
                }
            });
            self.bytes = self.bytes.saturating_sub(own);
            if let Some(held) = slot.connection.abandon(&slot.socket) {
                desk.count_cut();
                return Some(held);
            }
        }
        None
    }
}
