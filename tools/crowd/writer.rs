//! Clients whose attack is what they send, and when.

use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;

use crate::{
    args::{Common, Mode},
    engine::Script,
    pool::{Moved, Pool, Stage, name_of},
};

/// What is sent at once of what has no end.
const BLOCK: usize = 16 * 1024;

/// Clients that send.
pub struct Writer {
    way: Way,
    /// What is sent first and what is sent after it again and again; the clients take them in turn.
    texts: Vec<Text>,
    next: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// A byte at each visit.
    Drip,
    /// All in equal pieces, the last when the server's patience is about over.
    Late(Duration),
    /// As much as is taken, and nothing is read.
    Deaf,
    /// A block at each visit, until so many bytes were sent.
    Flood(u64),
}

struct Text {
    first: Vec<u8>,
    /// At least one byte.
    then: Vec<u8>,
}

impl Writer {
    pub fn new(common: &Common, mode: &Mode) -> Self {
        let (way, texts) = match *mode {
            Mode::SlowBody { .. } => {
                let first = common.head("POST", common.path()) + "Content-Length: 60000\r\n\r\n";
                (Way::Drip, vec![Text::new(first, "a")])
            }
            Mode::LateHead { header_timeout } => {
                let first = common.head("GET", common.path()) + "\r\n";
                (Way::Late(Duration::from_secs_f64(header_timeout)), vec![Text::new(first, "\r\n")])
            }
            Mode::NeverRead => (Way::Deaf, vec![Text::block("", common.head("GET", common.path()) + "\r\n")]),
            Mode::Garbage { bytes } => (Way::Flood(bytes), garbage(common)),
            _ => (Way::Drip, vec![Text::new(common.head("GET", common.path()), "X-Slow: as can be\r\n")]),
        };
        Self { way, texts, next: 0 }
    }

    fn text(&self, pool: &Pool, slot: usize) -> &Text {
        &self.texts[pool.number(slot) as usize % self.texts.len()]
    }

    /// Sends what is due now. `step` counts the bytes that were sent.
    fn write(&self, pool: &mut Pool, slot: usize) {
        let text = self.text(pool, slot);
        let sent = pool.lines[slot].step;
        let bytes = match self.way {
            // A body that drips is preceded by its head as a whole.
            Way::Drip if sent == 0 && text.then.len() == 1 => &text.first[..],
            Way::Drip => &text.from(sent)[..1],
            Way::Late(patience) => text.until(sent, self.late(pool, slot, patience)),
            Way::Deaf => text.from(sent),
            Way::Flood(most) if sent >= most => {
                pool.reset(slot);
                return;
            }
            Way::Flood(_) => text.from(sent),
        };
        if bytes.is_empty() {
            return;
        }
        match pool.send(slot, bytes) {
            Moved::Bytes(moved) => pool.lines[slot].step += moved as u64,
            Moved::Nothing => {}
            Moved::End | Moved::Broken(_) if self.way == Way::Deaf => {
                pool.count_end(Moved::End);
                pool.close(slot);
            }
            // The answer that explains it may still be there.
            Moved::End | Moved::Broken(_) => {
                read(pool, slot);
                pool.close(slot);
            }
        }
    }

    /// Which share of the head is to be sent by now. Some are a second early, some as much late, the others between.
    fn late(&self, pool: &Pool, slot: usize, patience: Duration) -> f64 {
        let earlier = f64::from(pool.number(slot) % 21) / 10.0 - 1.0;
        let age = pool.lines[slot].since.map_or(0.0, |since| since.elapsed().as_secs_f64());
        age / (patience.as_secs_f64() + earlier).max(0.1)
    }
}

impl Script for Writer {
    fn act(&mut self, pool: &mut Pool, _: Instant) {
        let slot = self.next;
        self.next = (slot + 1) % pool.lines.len();
        let reads = if self.way == Way::Deaf { EventFlags::empty() } else { EventFlags::IN };
        match pool.lines[slot].stage {
            Stage::Closed => {
                pool.open(slot, reads | EventFlags::OUT | EventFlags::RDHUP);
            }
            Stage::Connecting => {}
            Stage::Open | Stage::Asked => self.write(pool, slot),
        }
    }

    fn ready(&mut self, pool: &mut Pool, slot: usize, flags: EventFlags) {
        match pool.lines[slot].stage {
            Stage::Closed => {}
            Stage::Connecting => match pool.connected(slot, flags) {
                Ok(()) => self.write(pool, slot),
                Err(error) => pool.counts.fail(name_of(error.raw_os_error())),
            },
            _ if self.way == Way::Deaf => {
                if flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
                    pool.count_end(Moved::End);
                    pool.close(slot);
                }
            }
            _ => {
                // Whoever was late has had its answer, and comes again.
                if read(pool, slot) > 0 && matches!(self.way, Way::Late(_)) {
                    pool.close(slot);
                }
            }
        }
    }
}

/// Takes in the answers that have come, and the end of the connection. How many there were.
fn read(pool: &mut Pool, slot: usize) -> usize {
    let mut count = 0;
    loop {
        match pool.receive(slot, usize::MAX) {
            Moved::Nothing => return count,
            Moved::Bytes(got) => {
                let (mut at, mut statuses) = (0, Vec::new());
                let (answer, bytes) = pool.received(slot, got);
                while at < got {
                    let Ok((used, whole)) = answer.take(&bytes[at..]) else { break };
                    at += used;
                    statuses.extend(whole.map(|verdict| verdict.status));
                }
                if at < got {
                    pool.counts.fail("malformed");
                }
                count += statuses.len();
                for status in statuses {
                    *pool.counts.answers.entry(status).or_default() += 1;
                }
            }
            over => {
                pool.count_end(over);
                pool.close(slot);
                return count;
            }
        }
    }
}

impl Text {
    fn new(first: impl Into<Vec<u8>>, then: impl Into<Vec<u8>>) -> Self {
        Self { first: first.into(), then: then.into() }
    }

    /// `piece` as often as a block holds it.
    fn block(first: impl Into<Vec<u8>>, piece: impl Into<Vec<u8>>) -> Self {
        let piece = piece.into();
        Self::new(first, piece.repeat((BLOCK / piece.len()).max(1)))
    }

    /// What follows when so many bytes were sent.
    fn from(&self, sent: u64) -> &[u8] {
        match usize::try_from(sent) {
            Ok(sent) if sent < self.first.len() => &self.first[sent..],
            _ => &self.then[((sent - self.first.len() as u64) % self.then.len() as u64) as usize..],
        }
    }

    /// What is between the bytes that were sent and a share of the first text; nothing if that is sent.
    fn until(&self, sent: u64, share: f64) -> &[u8] {
        let len = self.first.len();
        let sent = usize::try_from(sent).unwrap_or(len).min(len);
        let end = ((share * len as f64) as usize).clamp(sent, len);
        // Something is sent at once: it is a head that trickles, not a silence.
        &self.first[sent..end.max(1)]
    }
}

/// Garbage of five kinds: noise, requests for nothing with much in them, blank lines, a body of chunks, a line without an end.
fn garbage(common: &Common) -> Vec<Text> {
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        // Knuth's; any will do, as long as it is the same every time.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(BLOCK)
    .collect();
    let missing: String = (0..20).map(|number| format!("X-Garbage-{number}: {number}\r\n")).collect();
    vec![
        Text::new("", noise),
        Text::block("", common.head("GET", "/no/such/file") + &missing + "\r\n"),
        Text::block("", "\r\n"),
        Text::block(common.head("POST", common.path()) + "Transfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n"),
        Text::block(common.head("GET", common.path()) + "X-Long: ", "a"),
    ]
}
