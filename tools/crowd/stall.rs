//! Readers that ask for much and take nothing, or next to nothing.

use std::time::Instant;

use rustix::event::epoll::EventFlags;

use crate::{
    args::Common,
    engine::Script,
    pool::{Moved, Pool, Stage, name_of},
};

/// Not whether there is something to read: that is what they do not care for.
const INTEREST: EventFlags = EventFlags::OUT.union(EventFlags::RDHUP);

/// Readers that stall.
pub struct Staller {
    /// A request for each file.
    requests: Vec<Vec<u8>>,
    trickle: usize,
    next: usize,
}

impl Staller {
    pub fn new(common: &Common, trickle: u32, files: u32) -> Self {
        let request = |file: u32| {
            let path = common.path().replace("{}", &file.to_string());
            (common.head("GET", &path) + "\r\n").into_bytes()
        };
        Self { requests: (0..files.max(1)).map(request).collect(), trickle: trickle as usize, next: 0 }
    }
}

impl Script for Staller {
    fn act(&mut self, pool: &mut Pool, _: Instant) {
        let slot = self.next;
        self.next = (slot + 1) % pool.lines.len();
        match pool.lines[slot].stage {
            Stage::Closed => {
                pool.open(slot, INTEREST);
            }
            Stage::Asked if self.trickle > 0 => {
                if let over @ (Moved::End | Moved::Broken(_)) = pool.receive(slot, self.trickle) {
                    pool.count_end(over);
                    pool.close(slot);
                }
            }
            _ => {}
        }
    }

    fn ready(&mut self, pool: &mut Pool, slot: usize, flags: EventFlags) {
        match pool.lines[slot].stage {
            Stage::Connecting => match pool.connected(slot, flags) {
                Ok(()) => {
                    pool.counts.requests += 1;
                    pool.lines[slot].stage = Stage::Asked;
                    let request = &self.requests[pool.number(slot) as usize % self.requests.len()];
                    pool.send(slot, request);
                }
                Err(error) => pool.counts.fail(name_of(error.raw_os_error())),
            },
            // A reader that trickles finds the end of the stream where it reads it.
            Stage::Asked if flags.intersects(EventFlags::HUP | EventFlags::ERR) => {
                pool.count_end(Moved::Broken(rustix::io::Errno::CONNRESET));
                pool.close(slot);
            }
            Stage::Asked if flags.contains(EventFlags::RDHUP) && self.trickle == 0 => {
                pool.count_end(Moved::End);
                pool.close(slot);
            }
            _ => {}
        }
    }
}
