//! Bytes in → bytes out: one connection, from readiness to readiness.
//!
//! A [`Connection`] is a few bytes while it is idle. When its socket is ready the worker calls [`Connection::on_ready`],
//! which receives into the worker's [`Desk`], answers everything that arrived, and sends once. What cannot finish at once
//! (half a request, a full socket) moves to a small box, and back. Nothing here waits, and nothing knows the runtime:
//! sockets are a trait, so that a simulation can drive every path.
//!
//! It never touches the filesystem, never takes a lock, and reads the time only from the desk.

pub mod answer;
pub mod body;
pub mod conditional;
pub mod exchange;
pub mod forwarded;
pub mod negotiate;
pub mod output;
pub mod quotes;
pub mod range;
pub mod refusals;
pub mod request;
pub mod response;
pub mod status;
pub mod target;

use std::{io, ops::Range, panic::AssertUnwindSafe, sync::Arc};

use answer::Scratch;
use body::Discard;
use exchange::{Next, Site, Step};
use output::Output;
use refusals::Refusals;
use status::Status;

use crate::{
    clock::Clock,
    limits::{
        ANSWER_BASE_SECS, LINGER_BYTES, LINGER_SECS, MAX_DISCARDED_BODY, MAX_HEAD, RECEIVE, RECEIVES_PER_TURN,
        SEND_BATCH, SLOWEST_BYTES_PER_SECOND, TICKS_PER_SECOND,
    },
    stats::WorkerStats,
    store::{Store, identities::Nudge},
};

/// A connected socket that never blocks.
pub trait Socket {
    /// Receives into `buffer`; 0 is the end of the client's bytes.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has arrived.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Hands the front of `output` to the kernel, as much as it takes at once.
    ///
    /// # Errors
    /// `WouldBlock` when it takes nothing.
    fn send(&self, output: &Output) -> io::Result<usize>;

    /// Takes a copy of `output`, to send it a little later together with those of other connections. What has become of it is
    /// told by [`Connection::on_sent`]. False: it is to be sent now.
    fn send_later(&self, _output: &Output) -> bool {
        false
    }

    /// Nothing has arrived that was not received.
    fn is_quiet(&self) -> bool;

    /// Closes the sending half.
    fn shut_write(&self);

    /// Closes both halves, which ends every wait on the socket.
    fn shut(&self);

    /// Lets the kernel forget what the client has not taken, when the socket is closed.
    fn forget_unsent(&self) {}
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Bytes to receive.
    Readable,
    /// Room to send.
    Writable,
    /// A content that is being inflated.
    Inflated,
    /// The others: then it is this one's turn again.
    Others,
    /// Nothing any more; the socket is to be closed.
    Closed,
}

/// A deadline in ticks of the worker's clock.
pub type Tick = u32;

/// How long a connection may take, in ticks.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Between an answer and the next request.
    pub idle: Tick,
    /// For a head.
    pub head: Tick,
    /// Between two bytes of an answer.
    pub send: Tick,
}

impl Patience {
    /// From seconds. A deadline set within a tick is met at the end of one, so never early.
    pub fn from_secs(idle: u32, head: u32, send: u32) -> Self {
        Self { idle: ticks(idle), head: ticks(head), send: ticks(send) }
    }
}

const fn ticks(secs: u32) -> Tick {
    secs.saturating_mul(TICKS_PER_SECOND).saturating_add(1)
}

/// What the connections of one worker share.
pub struct Desk {
    /// The time of the batch at hand.
    pub clock: Clock,
    /// The worker's count of ticks.
    pub tick: Tick,
    /// The server is about to stop.
    pub draining: bool,
    /// Where it is noted what is refused, if anybody wants to know.
    pub refusals: Option<Refusals>,
    /// How whoever inflates a large content tells that it is done. Without it, contents are inflated at once.
    pub nudge: Option<Nudge>,
    store: Arc<Store>,
    stats: Arc<WorkerStats>,
    /// How long clients may take.
    pub patience: Patience,
    inbox: Box<[u8]>,
    out: Output,
    scratch: Scratch,
}

impl Desk {
    /// A desk over `store`.
    pub fn new(store: Arc<Store>, stats: Arc<WorkerStats>, patience: Patience) -> Self {
        let mut out = Output::default();
        out.buffer().reserve(2 * SEND_BATCH);
        Self {
            clock: Clock::now(),
            tick: 0,
            draining: false,
            refusals: None,
            nudge: None,
            store,
            stats,
            patience,
            inbox: vec![0; INBOX].into(),
            out,
            scratch: Scratch::default(),
        }
    }

    /// Counts a connection that was cut for what it held.
    pub fn count_cut(&self) {
        self.stats.cut.add(1);
    }

    fn after(&self, patience: Tick) -> Tick {
        self.tick.saturating_add(patience)
    }
}

/// What was kept of one turn's input, and what the next one receives.
const INBOX: usize = MAX_HEAD + 2 * RECEIVE;

/// One connection.
pub struct Connection {
    phase: Phase,
    deadline: Tick,
    rest: Option<Box<Rest>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Accepted, and nothing has come.
    Fresh,
    /// Answered, and nothing has come since.
    Idle,
    /// A head has come in part.
    Head,
    /// A body has come in part.
    Body,
    /// The socket is full.
    Writing,
    /// A content is being inflated, or others have their turn.
    Paused,
    /// Answered for the last time; what comes is thrown away.
    Lingering,
    /// The deadline has passed.
    Evicted,
}

/// What a connection needs only while it is in the middle of something.
#[derive(Default)]
struct Rest {
    /// The part of a head, or the head of a body's request, or requests that wait for room in the socket.
    input: Vec<u8>,
    body: Option<Discard>,
    unsent: Output,
    /// What to do once it is sent.
    next: Option<Next>,
    /// The phase ends at this tick whatever progress it makes.
    cap: Tick,
    drained: u32,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(desk: &Desk) -> Self {
        Self { phase: Phase::Fresh, deadline: desk.after(desk.patience.head), rest: None }
    }

    /// The tick at which [`Connection::on_deadline`] is due.
    pub fn deadline(&self) -> Tick {
        self.deadline
    }

    /// The socket is ready for what was waited for.
    pub fn on_ready(&mut self, socket: &impl Socket, desk: &mut Desk) -> Wait {
        desk.scratch.begin_turn();
        match self.phase {
            Phase::Evicted => Wait::Closed,
            Phase::Lingering => self.drain(socket, desk),
            Phase::Writing => self.resume(socket, desk),
            Phase::Paused => {
                // What is left may be no request: an empty line, or the beginning of a head.
                self.phase = Phase::Idle;
                self.deadline = desk.after(desk.patience.idle);
                let kept = self.unpack(desk);
                self.answer(kept, socket, desk)
            }
            Phase::Fresh | Phase::Idle | Phase::Head | Phase::Body => self.receive(socket, desk),
        }
    }

    /// The deadline has passed. A request that has come in part is answered 408; else the socket is shut, which ends the
    /// wait on it, and [`Connection::on_ready`] closes it.
    pub fn on_deadline(&mut self, socket: &impl Socket, desk: &mut Desk) {
        match self.phase {
            Phase::Head | Phase::Body => {
                let input = self.rest.as_mut().map(|rest| std::mem::take(&mut rest.input)).unwrap_or_default();
                self.reject(Status::RequestTimeout, &input, socket, desk);
            }
            Phase::Fresh | Phase::Idle | Phase::Writing | Phase::Paused | Phase::Lingering | Phase::Evicted => {
                if self.phase != Phase::Lingering {
                    desk.stats.timed_out.add(1);
                }
                // Whoever takes no byte for so long would leave the rest to the kernel, for minutes.
                socket.forget_unsent();
                self.evict(socket);
            }
        }
    }

    /// Since when nothing has come, if everything that had is answered.
    pub fn idle_since(&self, patience: &Patience) -> Option<Tick> {
        match self.phase {
            Phase::Fresh => Some(self.deadline.saturating_sub(patience.head)),
            Phase::Idle => Some(self.deadline.saturating_sub(patience.idle)),
            _ => None,
        }
    }

    /// Closes a connection that is idle. Whether it was.
    pub fn close_if_idle(&mut self, socket: &impl Socket) -> bool {
        let is_idle = matches!(self.phase, Phase::Fresh | Phase::Idle) && socket.is_quiet();
        if is_idle {
            self.evict(socket);
        }
        is_idle
    }

    /// Refuses a connection that is over the budget.
    pub fn refuse(&mut self, socket: &impl Socket, desk: &mut Desk) {
        self.reject(Status::ServiceUnavailable, b"", socket, desk);
    }

    fn reject(&mut self, status: Status, input: &[u8], socket: &impl Socket, desk: &mut Desk) {
        desk.out.clear();
        let Desk { store, clock, stats, draining, refusals, out, .. } = desk;
        let site = Site { store, clock, stats, draining: *draining, nudge: None, refusals: refusals.as_ref() };
        exchange::refuse(status, begins_with_head(input), input, &site, out);
        // A socket that takes nothing now has no one who reads at its other end.
        if let Ok(sent) = socket.send(&desk.out) {
            desk.stats.sent_bytes.add(sent as u64);
        }
        desk.out.clear();
        self.linger(socket, desk);
    }

    /// What it holds while it is in the middle of something: bytes of its own, and through `pinned` bodies that the store
    /// holds no longer, each with the place where it lies and its bytes.
    pub fn holds(&self, pinned: impl FnMut(usize, usize)) -> usize {
        let Some(rest) = &self.rest else { return 0 };
        rest.unsent.pins(pinned);
        size_of::<Rest>() + rest.input.capacity() + rest.unsent.own_bytes()
    }

    /// The socket has not taken all of an answer.
    pub fn is_answering(&self) -> bool {
        self.phase == Phase::Writing
    }

    /// Gives up on a client that is in the middle of something. What it held, for others to free: that can take as long as some
    /// requests.
    pub fn abandon(&mut self, socket: &impl Socket) -> Option<Box<dyn Send>> {
        let rest = self.rest.take()?;
        socket.forget_unsent();
        self.evict(socket);
        Some(rest)
    }

    /// Ends the wait on the socket, which closes it.
    fn evict(&mut self, socket: &impl Socket) {
        self.phase = Phase::Evicted;
        self.deadline = Tick::MAX;
        self.rest = None;
        socket.shut();
    }

    fn receive(&mut self, socket: &impl Socket, desk: &mut Desk) -> Wait {
        for _ in 0..RECEIVES_PER_TURN {
            let kept = self.unpack(desk);
            let received = match socket.receive(&mut desk.inbox[kept..kept + RECEIVE]) {
                // The client has nothing more to say, and everything whole it said is answered.
                Ok(0) => return Wait::Closed,
                Ok(received) => received,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Wait::Readable,
                    io::ErrorKind::Interrupted => continue,
                    _ => return Wait::Closed,
                },
            };
            let wait = self.answer(kept + received, socket, desk);
            if wait != Wait::Readable || self.phase == Phase::Lingering || received < RECEIVE {
                return wait;
            }
        }
        Wait::Readable
    }

    /// Puts what was kept of the input in front of the inbox. How many bytes that is.
    fn unpack(&mut self, desk: &mut Desk) -> usize {
        let input = self.rest.as_ref().map_or(&[][..], |rest| &rest.input);
        desk.inbox[..input.len()].copy_from_slice(input);
        input.len()
    }

    /// Answers the first `len` bytes of the inbox.
    fn answer(&mut self, len: usize, socket: &impl Socket, desk: &mut Desk) -> Wait {
        let mut body = self.rest.as_mut().and_then(|rest| rest.body.take());
        let mut at = 0;
        let mut answered = false;
        loop {
            desk.out.clear();
            let Some(step) = converse_caught(at..len, &mut body, desk) else {
                return Wait::Closed;
            };
            answered |= !desk.out.is_empty();
            at += step.consumed;
            // Nothing of the connection may be sent or shut before that.
            if step.next == Next::Read && !desk.out.is_empty() && len < RECEIVE && socket.send_later(&desk.out) {
                self.keep(at..at + step.kept, body, answered, desk);
                return Wait::Readable;
            }
            match send_all(socket, desk) {
                Sent::All => {}
                Sent::Until(sent) => {
                    return self.block(sent, at..at + step.kept, body, step.next, desk);
                }
                Sent::Failed => return Wait::Closed,
            }
            match step.next {
                Next::Read => {
                    self.keep(at..at + step.kept, body, answered, desk);
                    return Wait::Readable;
                }
                Next::Continue => {}
                Next::Inflate | Next::Yield => {
                    self.rest.get_or_insert_default().input = desk.inbox[at..at + step.kept].to_vec();
                    self.phase = Phase::Paused;
                    self.deadline = desk.after(desk.patience.send);
                    return if step.next == Next::Yield { Wait::Others } else { Wait::Inflated };
                }
                Next::Close => return Wait::Closed,
                Next::Linger => {
                    self.linger(socket, desk);
                    return self.drain(socket, desk);
                }
            }
        }
    }

    /// Everything whole is answered; sets down what is left, and for how long.
    fn keep(&mut self, input: Range<usize>, body: Option<Discard>, answered: bool, desk: &Desk) {
        let Patience { idle, head, .. } = desk.patience;
        if input.is_empty() {
            self.rest = None;
            if answered {
                self.phase = Phase::Idle;
                self.deadline = desk.after(idle);
            } else if self.phase == Phase::Fresh {
                // Empty lines: the client has said something, so that silence is no longer the answer to it.
                self.phase = Phase::Head;
            }
            return;
        }
        let phase = if body.is_some() { Phase::Body } else { Phase::Head };
        let begins = answered || self.phase != phase;
        let rest = self.rest.get_or_insert_default();
        rest.input.clear();
        rest.input.reserve_exact(input.len());
        rest.input.extend_from_slice(&desk.inbox[input]);
        rest.body = body;
        match phase {
            // Each part of a body earns its rest some time, within bounds.
            Phase::Body => {
                if begins {
                    rest.cap = desk.after(whole_patience(MAX_DISCARDED_BODY as usize));
                }
                self.deadline = desk.after(head).min(rest.cap);
            }
            // A head has one deadline: for the first request it began when the connection was accepted.
            _ if answered || self.phase == Phase::Idle => self.deadline = desk.after(head),
            _ => {}
        }
        self.phase = phase;
    }

    /// The socket is full. Everything that is not sent, and not yet answered, waits in the box.
    fn block(&mut self, sent: usize, input: Range<usize>, body: Option<Discard>, next: Next, desk: &mut Desk) -> Wait {
        let cap = desk.after(whole_patience(desk.out.len()));
        let rest = self.rest.get_or_insert_default();
        rest.body = body;
        rest.input = desk.inbox[input].to_vec();
        rest.unsent = desk.out.take_unsent(sent);
        rest.next = Some(next);
        rest.cap = cap;
        self.phase = Phase::Writing;
        self.deadline = desk.after(desk.patience.send).min(cap);
        Wait::Writable
    }

    /// Of `answers`, which were taken to be sent later, the first `sent` bytes have been. What is to be waited for if those are
    /// not all.
    pub fn on_sent(&mut self, answers: &[u8], sent: usize, desk: &mut Desk) -> Option<Wait> {
        desk.stats.sent_bytes.add(sent as u64);
        let rest = answers.get(sent..).filter(|rest| !rest.is_empty())?;
        let cap = desk.after(whole_patience(answers.len()));
        let state = self.rest.get_or_insert_default();
        state.unsent = Output::default();
        state.unsent.buffer().extend_from_slice(rest);
        (state.next, state.cap) = (None, cap);
        self.phase = Phase::Writing;
        self.deadline = desk.after(desk.patience.send).min(cap);
        Some(Wait::Writable)
    }

    /// The socket has room again.
    fn resume(&mut self, socket: &impl Socket, desk: &mut Desk) -> Wait {
        let Some(rest) = self.rest.as_mut() else {
            return Wait::Closed;
        };
        match socket.send(&rest.unsent) {
            Ok(sent) => {
                desk.stats.sent_bytes.add(sent as u64);
                self.deadline = desk.after(desk.patience.send).min(rest.cap);
                if sent < rest.unsent.len() {
                    rest.unsent = rest.unsent.take_unsent(sent);
                    return Wait::Writable;
                }
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => return Wait::Writable,
                _ => return Wait::Closed,
            },
        }
        rest.unsent = Output::default();
        self.phase = Phase::Idle;
        self.deadline = desk.after(desk.patience.idle);
        match rest.next.take() {
            Some(Next::Close) => Wait::Closed,
            Some(Next::Linger) => {
                self.linger(socket, desk);
                self.drain(socket, desk)
            }
            _ if rest.input.is_empty() => {
                self.rest = None;
                Wait::Readable
            }
            _ => {
                let kept = self.unpack(desk);
                self.answer(kept, socket, desk)
            }
        }
    }

    /// Says the last word: the client learns that nothing follows, and what it still sends is drained for a while.
    fn linger(&mut self, socket: &impl Socket, desk: &Desk) {
        socket.shut_write();
        self.phase = Phase::Lingering;
        self.deadline = desk.after(ticks(LINGER_SECS));
        self.rest = Some(Box::default());
    }

    fn drain(&mut self, socket: &impl Socket, desk: &mut Desk) -> Wait {
        let Some(rest) = self.rest.as_mut() else {
            return Wait::Closed;
        };
        for _ in 0..RECEIVES_PER_TURN {
            match socket.receive(&mut desk.inbox) {
                Ok(0) => return Wait::Closed,
                Ok(received) => {
                    rest.drained += received as u32;
                    if rest.drained > LINGER_BYTES {
                        return Wait::Closed;
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Wait::Readable,
                    io::ErrorKind::Interrupted => {}
                    _ => return Wait::Closed,
                },
            }
        }
        Wait::Readable
    }
}

/// Whether what has come of a request, behind empty lines, is of a HEAD.
fn begins_with_head(input: &[u8]) -> bool {
    let (lines, _) = input.as_chunks::<2>();
    let empty = lines.iter().take_while(|line| *line == b"\r\n").count();
    input[2 * empty..].starts_with(b"HEAD ")
}

/// How long `len` bytes may take, however steadily they come or go.
fn whole_patience(len: usize) -> Tick {
    let per_len = len / SLOWEST_BYTES_PER_SECOND as usize;
    ticks(ANSWER_BASE_SECS.saturating_add(u32::try_from(per_len).unwrap_or(u32::MAX)))
}

/// A panic costs the connection in whose bytes it lay, no other.
fn converse_caught(input: Range<usize>, body: &mut Option<Discard>, desk: &mut Desk) -> Option<Step> {
    let Desk { clock, store, stats, inbox, out, scratch, draining, nudge, refusals, .. } = desk;
    // There may be more in the socket than one receive brings.
    let draining = *draining && input.len() < RECEIVE;
    let site = Site { store, clock, stats, draining, nudge: nudge.as_ref(), refusals: refusals.as_ref() };
    let converse = || exchange::converse(&inbox[input], body, &site, scratch, out);
    // What a panic may leave half done is cleared before its next use: the output here, the scratch by its users.
    match std::panic::catch_unwind(AssertUnwindSafe(converse)) {
        Ok(step) => Some(step),
        Err(_) => {
            stats.panics.add(1);
            out.clear();
            None
        }
    }
}

enum Sent {
    All,
    /// The socket is full after this many bytes.
    Until(usize),
    Failed,
}

fn send_all(socket: &impl Socket, desk: &mut Desk) -> Sent {
    let len = desk.out.len();
    if len == 0 {
        return Sent::All;
    }
    loop {
        match socket.send(&desk.out) {
            Ok(sent) => {
                desk.stats.sent_bytes.add(sent as u64);
                return if sent == len { Sent::All } else { Sent::Until(sent) };
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => return Sent::Until(0),
                io::ErrorKind::Interrupted => {}
                _ => return Sent::Failed,
            },
        }
    }
}
