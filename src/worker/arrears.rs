//! What clients in the middle of something make the server hold, and its bound.
//!
//! A client that does not take its answer holds a share of the version that it asked for, and perhaps requests and answers of
//! its own. While files change, every version may have such a client. Its deadline comes, but until then memory must not grow
//! with the rate of changes or the number of clients.

use std::collections::HashMap;

use super::{slots::Slots, socket::Raw};
use crate::{
    limits::{MAX_FILE, UNFINISHED_BYTES},
    serve::{Desk, Tick},
};

/// What the connections of a worker hold besides their places.
#[derive(Default)]
pub(super) struct Arrears {
    bytes: usize,
    /// Bodies that only connections hold, by where they lie: their bytes, and how many connections.
    pinned: HashMap<usize, (usize, u32), ahash::RandomState>,
    /// Connections that hold something worth to be taken from them, those that have been still for longest first.
    holders: Vec<(Tick, u32)>,
}

/// A connection that holds less on its own is not worth cutting.
const WORTH: usize = 4096;

impl Arrears {
    /// Counts what `slots` hold, and while that is over the bound cuts the connections that have been still for longest. The
    /// bytes that they hold then.
    pub(super) fn settle(&mut self, slots: &mut Slots, desk: &Desk) -> usize {
        (self.bytes, self.pinned) = (0, HashMap::default());
        self.holders.clear();
        for (id, slot) in slots.iter_mut() {
            let mut pins = false;
            let pinned = &mut self.pinned;
            let bytes = &mut self.bytes;
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
        if self.bytes > UNFINISHED_BYTES {
            self.holders.sort_unstable();
            self.cut(slots, desk);
        }
        self.bytes
    }

    fn cut(&mut self, slots: &mut Slots, desk: &Desk) {
        let mut bodies = self.pinned.len();
        for (_, id) in &self.holders {
            if self.bytes <= UNFINISHED_BYTES || (bodies == 1 && self.bytes <= MAX_FILE as usize) {
                break;
            }
            let Some(slot) = slots.get(*id) else { continue };
            let own = slot.connection.holds(|place, len| {
                if let Some((_, holders)) = self.pinned.get_mut(&place) {
                    *holders -= 1;
                    if *holders == 0 {
                        self.bytes -= len;
                        bodies -= 1;
                    }
                }
            });
            self.bytes -= own;
            slot.connection.abandon(&Raw(slot.socket));
            desk.count_cut();
        }
    }
}
