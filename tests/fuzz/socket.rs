//! A connection over a socket that is made up: it cuts what it brings and takes what it likes.

use std::{
    cell::{Cell, RefCell},
    io,
    sync::Arc,
};

use cloudia::{
    clock::Clock,
    limits::SEND_SLICES,
    serve::{Connection, Desk, Patience, Socket, Wait, forwarded, output::Output, refusals::Refusals},
    stats::WorkerStats,
    store::Store,
};

use crate::{basics::Rng, model::End};

/// How a socket treats the connection.
pub(crate) enum Manner {
    /// It brings everything at once and takes everything at once.
    Smooth,
    /// It brings pieces, takes a few bytes or none, and is interrupted, all at random.
    Rough(Rng),
}

impl Manner {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Manner::Smooth => "all at once",
            Manner::Rough(_) => "in pieces",
        }
    }
}

/// What a client saw.
pub(crate) struct Seen {
    pub(crate) sent: Vec<u8>,
    /// The client has closed its own sending half.
    ended: bool,
    /// The sending half was closed.
    write_is_shut: bool,
    /// With which status the last refusal was noted.
    refused: Option<u16>,
    wait: Wait,
}

impl Seen {
    /// What is wrong with what was noted of the last answer, if that is of `status`.
    pub(crate) fn fault_in_notes(&self, status: Option<u16>) -> Option<String> {
        let expected = status.filter(|status| [400, 414, 431, 501, 505].contains(status));
        (self.refused != expected).then(|| format!("noted {:?}, expected {expected:?}", self.refused))
    }

    /// What is wrong with the end of the connection. A client that ends first learns less of it.
    pub(crate) fn fault_at_end(&self, expected: End) -> Option<String> {
        let Seen { ended, write_is_shut, wait, .. } = *self;
        let is_right = match expected {
            End::Open => !write_is_shut && wait == if ended { Wait::Closed } else { Wait::Readable },
            // Whether what the client sends on is drained depends on when it comes.
            End::Closed => write_is_shut || wait == Wait::Closed,
            End::Drained => write_is_shut && wait == if ended { Wait::Closed } else { Wait::Readable },
        };
        (!is_right)
            .then(|| format!("expected {expected:?}, got {wait:?}, shut: {write_is_shut}, client ended: {ended}"))
    }
}

struct Scripted<'s> {
    stream: &'s [u8],
    at: Cell<usize>,
    /// The client closes its sending half behind the last byte.
    ends: bool,
    rng: Option<RefCell<Rng>>,
    sent: RefCell<Vec<u8>>,
    write_is_shut: Cell<bool>,
}

impl Scripted<'_> {
    /// A number below `bound`, or `smooth`.
    fn any(&self, bound: usize, smooth: usize) -> usize {
        self.rng.as_ref().map_or(smooth, |rng| rng.borrow_mut().below(bound))
    }
}

impl Socket for Scripted<'_> {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.stream[self.at.get()..];
        if rest.is_empty() {
            return if self.ends { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let len = match self.any(10, 9) {
            0 => return Err(io::ErrorKind::Interrupted.into()),
            1 => return Err(io::ErrorKind::WouldBlock.into()),
            2..5 => 1 + self.any(40, 0),
            5..8 => 1 + self.any(3000, 0),
            _ => usize::MAX,
        };
        let len = len.min(rest.len()).min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        self.at.set(self.at.get() + len);
        Ok(len)
    }

    fn send(&self, output: &Output) -> io::Result<usize> {
        assert!(!self.write_is_shut.get(), "a send after the last word");
        let mut room = match self.any(12, 11) {
            0 => return Err(io::ErrorKind::Interrupted.into()),
            1 | 2 => return Err(io::ErrorKind::WouldBlock.into()),
            3 => 1 + self.any(20, 0),
            4..7 => 1 + self.any(60_000, 0),
            _ => usize::MAX,
        };
        let mut slices = [io::IoSlice::new(&[]); SEND_SLICES];
        let mut sent = self.sent.borrow_mut();
        let before = sent.len();
        for slice in output.slices(&mut slices) {
            let len = slice.len().min(room);
            sent.extend_from_slice(&slice[..len]);
            room -= len;
        }
        Ok(sent.len() - before)
    }

    fn is_quiet(&self) -> bool {
        self.at.get() == self.stream.len() && !self.ends
    }

    fn shut_write(&self) {
        self.write_is_shut.set(true);
    }

    fn shut(&self) {}
}

/// Brings `stream` to a connection over `store` at the time `now` until it has no more to say to it.
pub(crate) fn converse(stream: &[u8], store: &Arc<Store>, now: u64, manner: Manner) -> Seen {
    let stats = Arc::new(WorkerStats::default());
    let mut desk = Desk::new(store.clone(), stats.clone(), Patience::from_secs(75, 10, 30));
    desk.clock = Clock::at(now);
    let refusals = Refusals::default();
    refusals.begin_tick();
    desk.refusals = Some(refusals);
    let mut rng = match manner {
        Manner::Smooth => None,
        Manner::Rough(rng) => Some(rng),
    };
    let socket = Scripted {
        stream,
        at: Cell::new(0),
        ends: rng.as_mut().is_some_and(|rng| rng.below(4) == 0),
        rng: rng.map(RefCell::new),
        sent: RefCell::default(),
        write_is_shut: Cell::new(false),
    };
    let mut connection = Connection::new(&desk);
    let mut wait = Wait::Readable;
    while matches!(wait, Wait::Writable | Wait::Others) || (wait == Wait::Readable && !socket.is_quiet()) {
        wait = connection.on_ready(&socket, &mut desk);
    }
    assert_eq!(stats.panics.get(), 0, "a panic");
    let refusal = desk.refusals.as_ref().and_then(Refusals::take);
    if let Some(refusal) = &refusal {
        forwarded::client(&refusal.head, |_| false);
    }
    let refused = refusal.map(|refusal| refusal.status.code());
    let (ended, write_is_shut) = (socket.ends, socket.write_is_shut.get());
    Seen { sent: socket.sent.into_inner(), ended, write_is_shut, refused, wait }
}
