//! Taking connections in, and turning them away where there are too many.
//!
//! Whoever is over a budget is told so with a 503, as fast as that costs a tenth of a core. It never spins on a lack of
//! descriptors, and never leaves the listen queue to itself for longer than a pause.

use std::{
    io,
    net::SocketAddr,
    os::fd::{BorrowedFd, OwnedFd, RawFd},
    rc::Rc,
    time::Duration,
};

use rustix::{
    event::{EventfdFlags, eventfd},
    net::Shutdown,
    time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec},
};

use super::{
    Worker,
    budget::Client,
    slots::{Place, Slot},
    socket::{Ready, Stream},
    told::{self, Peer},
};
use crate::{
    limits::{ACCEPTS_PER_TURN, BACKLOG, MAX_HEAD, REFUSAL_PAUSE, REFUSALS_IN_A_ROW, REFUSALS_LINGERING},
    listen::{self, Accept, Listener},
    serve::{Connection, Socket, Tick},
};

/// Accepts from `listener` until the worker drains.
pub(super) async fn accept(worker: Rc<Worker>, listener: Ready, is_proxied: bool, timer: Ready) {
    let mut refused = 0;
    while listener.readable().await.is_ok() && !worker.draining() {
        if worker.paused.get() {
            worker.resumed().await;
            continue;
        }
        refused += worker.accept_some((listener.raw(), is_proxied), ACCEPTS_PER_TURN, REFUSALS_IN_A_ROW - refused);
        if refused < REFUSALS_IN_A_ROW {
            worker.turn().await;
        } else {
            refused = 0;
            pause(&timer).await;
        }
    }
}

/// A timer that is not set.
pub(super) fn pause_timer() -> io::Result<OwnedFd> {
    Ok(rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?)
}

async fn pause(timer: &Ready) {
    const { assert!(REFUSAL_PAUSE.as_nanos() < Duration::from_secs(1).as_nanos()) };
    let value = Timespec { tv_sec: 0, tv_nsec: REFUSAL_PAUSE.subsec_nanos().into() };
    let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
    // SAFETY: `timer` owns the descriptor and outlives the borrow.
    let descriptor = unsafe { BorrowedFd::borrow_raw(timer.raw()) };
    // It takes no other value than the one above.
    if rustix::time::timerfd_settime(descriptor, TimerfdTimerFlags::empty(), &once).is_ok() {
        let _ = timer.readable().await;
        let _ = rustix::io::read(descriptor, &mut [0; 8]);
    }
}

impl Worker {
    /// Accepts what is waiting, `most` at the most, until so many `refusals`. How many of them there were; as many as that,
    /// where there is neither a descriptor nor a way to refuse.
    fn accept_some(self: &Rc<Self>, (listener, is_proxied): (RawFd, bool), most: usize, refusals: u32) -> u32 {
        // SAFETY: the listener's future owns the descriptor, and it or `drain`, which runs while that future waits, is
        // who calls this.
        let listener = unsafe { BorrowedFd::borrow_raw(listener) };
        let asks = is_proxied || self.budget.counts_clients() || self.tells_refused;
        let mut refused = 0;
        for _ in 0..most {
            if refused >= refusals {
                break;
            }
            match listen::accept(listener, asks) {
                Accept::Connection(socket, peer) => {
                    let is_open = match is_proxied {
                        true => self.may_introduce(peer) && self.open(socket, peer, true),
                        false => self.open(socket, peer, false),
                    };
                    refused += u32::from(!is_open);
                }
                Accept::Gone => {}
                Accept::Empty | Accept::Shut => break,
                Accept::Exhausted(error) => {
                    self.tell_of_exhaustion(&error);
                    if !self.refuse_with_reserve(listener) {
                        return refusals;
                    }
                    refused += 1;
                }
            }
        }
        refused
    }

    /// Everything that has connected, whoever it is, at the end, and then nothing more.
    pub(super) fn accept_last(self: &Rc<Self>, listener: &Listener) {
        self.accept_some((listener.socket, listener.is_proxied), BACKLOG as usize, u32::MAX);
        // SAFETY: as in `accept_some`.
        let listener = unsafe { BorrowedFd::borrow_raw(listener.socket) };
        // Ends the wait of the listener's future, which closes it.
        let _ = rustix::net::shutdown(listener, Shutdown::Both);
    }

    /// Takes a connection of `peer` in, or refuses it. `is_proxied`: that is a balancer, which is yet to say whose it is.
    fn open(self: &Rc<Self>, socket: OwnedFd, peer: Option<SocketAddr>, is_proxied: bool) -> bool {
        let client = peer.filter(|_| self.budget.counts_clients() && !is_proxied).map(Client::of);
        self.stats.accepted.add(1);
        let socket = Stream::from(socket);
        let within = self.admit(client);
        let lingers = within || self.lingering.get() < REFUSALS_LINGERING;
        let mut connection = Connection::new(&self.desk.borrow());
        if !within {
            self.refuse(&mut connection, &socket, Peer::of(peer));
            if !lingers {
                discard(&socket);
                return false;
            }
        }
        let place = if within { Place::Counted } else { Place::Refused };
        match place {
            Place::Counted => self.stats.open.add(1),
            _ => self.lingering.set(self.lingering.get() + 1),
        }
        let mut slot = Slot::new(socket, place, connection);
        slot.introduced = !(is_proxied && within);
        let mut slots = self.slots.borrow_mut();
        let id = slots.insert(slot, client.filter(|_| within));
        if self.tells_refused && peer.is_some() {
            slots.set_peer(id, Peer::of(peer));
        }
        drop(slots);
        self.settle(id);
        within
    }

    /// A place for a connection, if need be that of the one that has been idle for longest.
    fn admit(&self, client: Option<Client>) -> bool {
        if client.is_some_and(|client| !self.budget.take_of(client)) {
            return false;
        }
        let admitted = self.take_place() || (self.evicts_idle && self.evict_longest_idle());
        if !admitted && let Some(client) = client {
            self.budget.give_back_of(client);
        }
        admitted
    }

    fn take_place(&self) -> bool {
        (self.stats.open.get() as usize) < self.max_connections && self.budget.take()
    }

    fn give_back(&self, client: Option<Client>) {
        self.budget.give_back();
        if let Some(client) = client {
            self.budget.give_back_of(client);
        }
    }

    /// Closes the connection that has been idle for longest. Its place is the caller's: given back, another worker might be
    /// faster.
    fn evict_longest_idle(&self) -> bool {
        let (tick, patience) = {
            let desk = self.desk.borrow();
            (desk.tick, desk.patience)
        };
        let mut slots = self.slots.borrow_mut();
        let Some(id) = slots.evict_longest_idle(&patience, tick) else {
            return false;
        };
        if let Some(client) = slots.take_client(id) {
            self.budget.give_back_of(client);
        }
        if let Some(slot) = slots.get(id) {
            slot.place = Place::Ceded;
        }
        self.stats.open.sub(1);
        self.stats.evicted.add(1);
        true
    }

    /// Forgets a connection that has ended.
    pub(super) fn release(&self, id: u32) {
        let mut slots = self.slots.borrow_mut();
        let client = slots.take_client(id);
        let Some(slot) = slots.remove(id) else {
            return;
        };
        if !slot.introduced {
            self.begun.borrow_mut().remove(&id);
        }
        match slot.place {
            Place::Counted => {
                self.give_back(client);
                self.stats.open.sub(1);
            }
            Place::Refused => self.lingering.set(self.lingering.get() - 1),
            Place::Ceded => {}
        }
        drop(slots);
        self.end_if_drained();
    }

    /// Tells a client, `peer`, that there are too many.
    pub(super) fn refuse(&self, connection: &mut Connection, socket: &Stream, peer: Peer) {
        self.stats.shed.add(1);
        let mut desk = self.desk.borrow_mut();
        desk.clock.refresh();
        connection.refuse(socket, &mut desk);
        told::tell(&desk, &self.trusted, peer);
    }

    /// Descriptors have run out: the one in reserve accepts a connection, to tell it so, and is taken back. Whether there was
    /// one.
    fn refuse_with_reserve(&self, listener: BorrowedFd<'_>) -> bool {
        let mut reserve = self.reserve.borrow_mut();
        drop(reserve.take());
        let accepted = listen::accept(listener, self.tells_refused);
        let was_there = matches!(accepted, Accept::Connection(..));
        if let Accept::Connection(socket, peer) = accepted {
            self.stats.accepted.add(1);
            let socket = Stream::from(socket);
            let mut connection = Connection::new(&self.desk.borrow());
            self.refuse(&mut connection, &socket, Peer::of(peer));
            discard(&socket);
        }
        *reserve = reserve_descriptor();
        was_there
    }

    fn tell_of_exhaustion(&self, error: &io::Error) {
        let now = self.desk.borrow().tick;
        if self.told.replace(Some(now)).is_none_or(|told: Tick| told != now) {
            tracing::warn!("connections are refused: {error}; raise the descriptor limit (ulimit -n)");
        }
    }
}

/// What a client has already sent would make a reset of the close, and the 503 may get lost with it.
pub(super) fn discard(socket: &Stream) {
    let mut bytes = [0; 4096];
    for _ in 0..MAX_HEAD / bytes.len() {
        if !socket.receive(&mut bytes).is_ok_and(|received| received == bytes.len()) {
            break;
        }
    }
}

/// See [`Worker::reserve`].
pub(super) fn reserve_descriptor() -> Option<OwnedFd> {
    eventfd(0, EventfdFlags::CLOEXEC).ok()
}
