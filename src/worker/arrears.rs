//! What clients in the middle of something make the server hold, and its bound.
//!
//! A client that does not take its answer holds a share of the version that it asked for, and perhaps requests and answers of
//! its own. While files change, every version may have such a client. Its deadline comes, but until then memory must not grow
//! with the rate of changes or the number of clients.

use std::collections::HashMap;

use super::{slots::Slots, socket::Raw};
use crate::{
    limits::UNFINISHED_BYTES,
    serve::{Desk, Tick},
};

/// What the connections of a worker hold besides their places.
#[derive(Default)]
pub(super) struct Arrears {
    bytes: usize,
    /// Bodies that only connections hold, by where they lie: their bytes, and how many connections.
    pinned: HashMap<usize, (usize, u32), ahash::RandomState>,
    /// Connections that hold something worth to be taken from them, those that have been still for longest last.
    holders: Vec<(Tick, u32)>,
}

/// A connection that holds less on its own is not worth cutting.
const WORTH: usize = 4096;

impl Arrears {
    /// Counts what `slots` hold. The bytes.
    pub(super) fn count(&mut self, slots: &mut Slots) -> usize {
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
    pub(super) fn cut_one(&mut self, slots: &mut Slots, desk: &Desk) -> Option<Box<dyn Send>> {
        while self.bytes > UNFINISHED_BYTES {
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
            if let Some(held) = slot.connection.abandon(&Raw(slot.socket)) {
                desk.count_cut();
                return Some(held);
            }
        }
        None
    }
}
