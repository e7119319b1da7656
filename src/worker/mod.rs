//! One core: its ring, its listeners, its connections and their deadlines.
//!
//! Connections are a table and their sockets one descriptor, which the runtime waits for beside the listeners, the timer and
//! orders; what happens when a socket is ready is a plain call into [`crate::serve`]. No timer is set per request: the worker
//! looks at its table of deadlines when its one timer ticks.

mod accept;
pub mod arrears;
pub mod batch;
mod budget;
mod control;
mod descriptors;
mod introduced;
pub mod poller;
pub mod slots;
pub mod socket;
pub mod told;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::poll_fn,
    io,
    os::fd::{BorrowedFd, OwnedFd},
    rc::Rc,
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};
use nix::sys::signal::SigSet;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use arrears::Arrears;
use batch::Batch;
pub use budget::{Budget, Client};
pub use control::{Control, Order};
pub use descriptors::probe_own_descriptors;
use descriptors::{own_descriptors, own_listener};
use poller::Poller;
use slots::Slots;
use socket::Ready;

use crate::{
    limits::{CALM_BYTES, CONNECTION_BYTES, LOOKS_PER_TURN, RING_ENTRIES, SIDE_BY_SIDE, TICKS_PER_SECOND},
    listen::{Listener, trusted::Trusted},
    serve::{Desk, Patience, Tick, Wait, refusals::Refusals},
    stats::WorkerStats,
    store::Store,
};

/// Which driver a worker waits with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// io_uring with the flags that the kernel knows.
    Uring,
    /// epoll.
    Epoll,
}

/// What one worker needs.
pub struct Setup {
    /// The processor to stay on.
    pub cpu: Option<usize>,
    /// How to wait.
    pub io: Io,
    /// A listener of each address.
    pub listeners: Vec<Listener>,
    /// What to serve.
    pub store: Arc<Store>,
    /// Where to count.
    pub stats: Arc<WorkerStats>,
    /// How long clients may take.
    pub patience: Patience,
    /// How long the end may take.
    pub grace: Duration,
    /// Connections of all workers.
    pub budget: Arc<Budget>,
    /// Connections of this one at the most.
    pub max_connections: usize,
    /// Over the budget, the connection that has been idle for longest is closed, instead of the new one being refused.
    pub evicts_idle: bool,
    /// Proxies whose word is taken.
    pub trusted: Arc<Trusted>,
    /// Who is refused is logged.
    pub tells_refused: bool,
    /// How the worker is told to stop.
    pub control: Arc<Control>,
    /// Called once, when it accepts.
    pub on_start: Box<dyn FnOnce() + Send>,
    /// Called with what is to be freed by another thread.
    pub discard: Box<dyn Fn(Box<dyn Send>) + Send>,
    /// Called when memory that a crowd took is free again, for the allocator to give back.
    pub on_calm: Box<dyn Fn() + Send>,
}

/// Finds out whether workers can use io_uring here.
///
/// # Errors
/// What the kernel says where they cannot: `EPERM` where a container forbids it, `ENOSYS` where it is not there.
pub fn probe_uring() -> io::Result<()> {
    // A ring belongs to the thread that made it.
    std::thread::scope(|scope| {
        scope.spawn(|| uring_runtime().map(drop)).join().unwrap_or_else(|_| Err(io::Error::other("the probe panicked")))
    })
}

/// Runs a worker on this thread until it is told to end.
///
/// # Errors
/// When its runtime or its timer cannot be made.
pub fn run(setup: Setup) -> io::Result<()> {
    if let Some(cpu) = setup.cpu {
        let mut cpus = rustix::thread::CpuSet::new();
        cpus.set(cpu);
        // Staying on one core is a gain, not a need.
        let _ = rustix::thread::sched_setaffinity(None, &cpus);
    }
    block_signals()?;
    let own = own_descriptors(&setup);
    let listeners = setup.listeners.iter().map(|listener| own_listener(*listener, own)).collect::<io::Result<_>>()?;
    match setup.io {
        Io::Uring => uring_runtime()?.block_on(serve(setup, listeners)),
        Io::Epoll => RuntimeBuilder::<LegacyDriver>::new().build()?.block_on(serve(setup, listeners)),
    }
}

/// Signals are for the other threads: their handler wakes a thread by a descriptor that this one is about to give up.
fn block_signals() -> io::Result<()> {
    SigSet::all().thread_block().map_err(io::Error::from)
}

/// A ring with the best flags that the kernel takes: they are worth a third of the CPU of a request, because completions
/// are then run by this thread when it waits, instead of by interrupting it.
fn uring_runtime() -> io::Result<Runtime<IoUringDriver>> {
    let mut best = io_uring::IoUring::builder();
    best.setup_single_issuer().setup_defer_taskrun().setup_coop_taskrun().setup_submit_all();
    let mut some = io_uring::IoUring::builder();
    some.setup_coop_taskrun().setup_submit_all();
    let mut result = Err(io::ErrorKind::Unsupported.into());
    for builder in [best, some, io_uring::IoUring::builder()] {
        result = RuntimeBuilder::<IoUringDriver>::new().with_entries(RING_ENTRIES).uring_builder(builder).build();
        // EINVAL is what a kernel answers to flags that it does not know.
        if !matches!(&result, Err(error) if error.raw_os_error() == Some(libc::EINVAL)) {
            break;
        }
    }
    result
}

struct Worker {
    desk: RefCell<Desk>,
    slots: RefCell<Slots>,
    stats: Arc<WorkerStats>,
    budget: Arc<Budget>,
    max_connections: usize,
    evicts_idle: bool,
    trusted: Arc<Trusted>,
    tells_refused: bool,
    listeners: Vec<Listener>,
    poller: Poller,
    batch: RefCell<Batch>,
    /// Memory for [`Worker::serve`].
    others: RefCell<Vec<u32>>,
    /// See [`Worker::turn`].
    giving_way: RefCell<Vec<Waker>>,
    relay: Cell<Option<Waker>>,
    /// A descriptor to give up when there is none left to accept with.
    reserve: RefCell<Option<OwnedFd>>,
    /// Connections that were refused and linger.
    lingering: Cell<usize>,
    /// When it was last said that there are no descriptors.
    told: Cell<Option<Tick>>,
    arrears: RefCell<Arrears>,
    /// The most bytes that connections have held since the last calm.
    peak: Cell<usize>,
    on_calm: Box<dyn Fn() + Send>,
    discard: Box<dyn Fn(Box<dyn Send>) + Send>,
    /// In ticks.
    grace: Tick,
    /// It accepts nothing for now.
    paused: Cell<bool>,
    on_resume: RefCell<Vec<Waker>>,
    /// Since when it drains.
    draining: Cell<Option<Tick>>,
    ended: Cell<bool>,
    on_end: Cell<Option<Waker>>,
    /// Connections that wait for a content.
    on_nudge: RefCell<Vec<u32>>,
    /// Headers of balancers that have come in part, by the connection.
    begun: RefCell<HashMap<u32, Vec<u8>>>,
}

async fn serve(setup: Setup, listeners: Vec<(OwnedFd, Listener)>) -> io::Result<()> {
    let Setup {
        store,
        stats,
        patience,
        grace,
        budget,
        max_connections,
        evicts_idle,
        trusted,
        tells_refused,
        control,
        on_start,
        on_calm,
        discard,
        ..
    } = setup;
    let timer = tick_timer()?;
    let worker = Rc::new(Worker {
        desk: RefCell::new(Desk::new(store, stats.clone(), patience)),
        slots: RefCell::default(),
        stats,
        budget,
        max_connections,
        evicts_idle,
        trusted,
        tells_refused,
        listeners: listeners.iter().map(|(_, listener)| *listener).collect(),
        poller: Poller::new()?,
        batch: RefCell::default(),
        others: RefCell::default(),
        giving_way: RefCell::default(),
        relay: Cell::new(None),
        reserve: RefCell::new(accept::reserve_descriptor()),
        lingering: Cell::new(0),
        told: Cell::new(None),
        arrears: RefCell::default(),
        peak: Cell::new(0),
        on_calm,
        discard,
        grace: u32::try_from(grace.as_secs()).unwrap_or(u32::MAX).saturating_mul(TICKS_PER_SECOND),
        paused: Cell::new(false),
        on_resume: RefCell::default(),
        draining: Cell::new(None),
        ended: Cell::new(false),
        on_end: Cell::new(None),
        on_nudge: RefCell::default(),
        begun: RefCell::default(),
    });
    let nudged = control.clone();
    worker.desk.borrow_mut().nudge = Some(Arc::new(move || nudged.nudge()));
    worker.desk.borrow_mut().refusals = tells_refused.then(Refusals::default);
    for (listener, Listener { is_proxied, .. }) in listeners {
        let timer = Ready::new(accept::pause_timer()?)?;
        monoio::spawn(accept::accept(worker.clone(), Ready::new(listener)?, is_proxied, timer));
    }
    monoio::spawn(relay(worker.clone()));
    monoio::spawn(converse(worker.clone(), Ready::new(worker.poller.descriptor()?)?));
    monoio::spawn(tick(worker.clone(), Ready::new(timer)?));
    monoio::spawn(obey(worker.clone(), control.clone(), Ready::new(control.event().try_clone()?)?));
    on_start();
    worker.end_has_come().await;
    Ok(())
}

async fn tick(worker: Rc<Worker>, timer: Ready) {
    let mut count = [0; 8];
    while timer.readable().await.is_ok() {
        // SAFETY: `timer` owns the descriptor and outlives the borrow.
        let descriptor = unsafe { BorrowedFd::borrow_raw(timer.raw()) };
        if rustix::io::read(descriptor, &mut count).is_ok() {
            worker.tick(u64::from_ne_bytes(count));
            while worker.cut_one() {
                worker.turn().await;
            }
        }
    }
}

async fn obey(worker: Rc<Worker>, control: Arc<Control>, event: Ready) {
    let mut count = [0; 8];
    while event.readable().await.is_ok() {
        let _ = rustix::io::read(control.event(), &mut count);
        let is_paused = control.is_paused();
        worker.pause(is_paused);
        control.note_paused(is_paused);
        match control.order() {
            order if order == Order::Drain as u8 => worker.drain(false),
            order if order == Order::HandOver as u8 => worker.drain(true),
            order if order == Order::Stop as u8 => worker.end(),
            _ => {}
        }
        worker.nudge();
    }
}

/// Wakes those that gave way, behind everything that has become ready with them.
async fn relay(worker: Rc<Worker>) {
    loop {
        poll_fn(|context| {
            if !worker.giving_way.borrow().is_empty() {
                return Poll::Ready(());
            }
            worker.relay.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
        worker.giving_way.borrow_mut().drain(..).for_each(Waker::wake);
    }
}

/// Serves the connections that are ready.
async fn converse(worker: Rc<Worker>, poller: Ready) {
    let mut ready = Vec::new();
    while poller.readable().await.is_ok() {
        for _ in 0..LOOKS_PER_TURN {
            worker.poller.ready(&mut ready);
            let found = ready.len();
            worker.serve(&mut ready);
            if found < SIDE_BY_SIDE / 2 {
                break;
            }
        }
        worker.turn().await;
    }
}

impl Worker {
    /// Serves these connections, whose waits are over: side by side those that have sent something, then the others.
    fn serve(&self, ready: &mut Vec<u32>) {
        self.desk.borrow_mut().clock.refresh();
        let mut others = self.others.take();
        let mut slots = self.slots.borrow_mut();
        ready.retain(|id| {
            let Some(slot) = slots.get(*id) else { return false };
            let has_sent = slot.wait == Wait::Readable && slot.introduced;
            if !has_sent {
                others.push(*id);
            }
            has_sent
        });
        self.batch.borrow_mut().serve(ready, &mut slots, &mut self.desk.borrow_mut(), &self.trusted);
        drop(slots);
        ready.drain(..).for_each(|id| self.settle(id));
        others.drain(..).for_each(|id| self.serve_other(id));
        self.others.replace(others);
    }

    /// Serves a connection that has not waited for a request: it has room to send again, or its turn, or has been introduced.
    fn serve_other(&self, id: u32) {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get(id) else { return };
        if !slot.introduced {
            drop(slots);
            return self.hear(id);
        }
        let mut desk = self.desk.borrow_mut();
        slot.wait = slot.connection.on_ready(&slot.socket, &mut desk);
        told::tell(&desk, &self.trusted, slots.peer(id));
        drop((slots, desk));
        self.settle(id);
    }

    /// Lets a connection wait for what it waits for, which may be nothing any more.
    fn settle(&self, id: u32) {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get(id) else { return };
        let is_over = slot.wait == Wait::Closed;
        if slot.wait == Wait::Inflated {
            self.on_nudge.borrow_mut().push(id);
        }
        // What the kernel has no room to wait for cannot be kept.
        if is_over || self.poller.watch(id, slot).is_err() {
            drop(slots);
            self.release(id);
        }
    }

    /// A content was inflated, whichever it was: those that wait for one look again, each when it is its turn.
    fn nudge(&self) {
        for id in self.on_nudge.take() {
            self.let_go_on(id);
        }
    }

    /// Ends the wait for a content.
    fn let_go_on(&self, id: u32) {
        if let Some(slot) = self.slots.borrow_mut().get(id).filter(|slot| slot.wait == Wait::Inflated) {
            slot.wait = Wait::Others;
        }
        self.settle(id);
    }

    fn tick(&self, count: u64) {
        let mut desk = self.desk.borrow_mut();
        desk.tick = desk.tick.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        desk.clock.refresh();
        let mut slots = self.slots.borrow_mut();
        told::begin_tick(&desk);
        let closing = self.draining.get().and_then(|since| closing(since, self.grace, desk.tick));
        for id in slots.numbers() {
            let Some(slot) = slots.get(id) else { continue };
            if slot.connection.deadline() <= desk.tick {
                slot.connection.on_deadline(&slot.socket, &mut desk);
                told::tell(&desk, &self.trusted, slots.peer(id));
            } else if closing.is_some_and(|(turn, turns)| id % turns < turn) {
                slot.connection.close_if_idle(&slot.socket);
            }
        }
        let held = self.arrears.borrow_mut().count(&mut slots) + slots.len() * CONNECTION_BYTES;
        if self.peak.get() > CALM_BYTES && held < self.peak.get() / 2 {
            (self.on_calm)();
            self.peak.set(0);
        }
        self.peak.set(self.peak.get().max(held));
        // Nothing is heard of their sockets.
        let mut is_over = |id: &mut u32| slots.get(*id).is_none_or(|slot| slot.connection.deadline() == Tick::MAX);
        let over: Vec<u32> = self.on_nudge.borrow_mut().extract_if(.., |id| is_over(id)).collect();
        drop((slots, desk));
        over.into_iter().for_each(|id| self.let_go_on(id));
    }

    fn cut_one(&self) -> bool {
        let held = self.arrears.borrow_mut().cut_one(&mut self.slots.borrow_mut(), &self.desk.borrow());
        let was_there = held.is_some();
        held.into_iter().for_each(&self.discard);
        was_there
    }

    /// Lets the other futures have their turn. On epoll a wait for what is ready already ends at once, so that a client
    /// which sends without a pause would keep the worker to itself.
    ///
    /// monoio puts a future that wakes itself in front of all others, so another one has to wake it: see [`relay`].
    fn turn(self: &Rc<Self>) -> impl Future<Output = ()> + use<'_> {
        let mut given = false;
        poll_fn(move |context| {
            if std::mem::replace(&mut given, true) {
                return Poll::Ready(());
            }
            self.giving_way.borrow_mut().push(context.waker().clone());
            self.wake_relay();
            Poll::Pending
        })
    }

    fn wake_relay(&self) {
        if let Some(relay) = self.relay.take() {
            relay.wake();
        }
    }

    /// Accepts nothing, or accepts again.
    fn pause(&self, paused: bool) {
        self.paused.set(paused);
        if !paused {
            self.on_resume.borrow_mut().drain(..).for_each(Waker::wake);
        }
    }

    async fn resumed(&self) {
        poll_fn(|context| {
            if !self.paused.get() {
                return Poll::Ready(());
            }
            self.on_resume.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    async fn end_has_come(&self) {
        poll_fn(|context| {
            if self.ended.get() {
                return Poll::Ready(());
            }
            self.on_end.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    fn draining(&self) -> bool {
        self.draining.get().is_some()
    }

    /// Accepts no more, lets every connection close with its next answer or when [`closing`] says so, and ends when none is
    /// left. Listeners that are shared with another process, as all are when they are `handed_over`, are left to that one.
    fn drain(self: &Rc<Self>, handed_over: bool) {
        if self.draining() {
            return;
        }
        let mut desk = self.desk.borrow_mut();
        desk.draining = true;
        self.draining.set(Some(desk.tick));
        drop(desk);
        for listener in self.listeners.iter().filter(|listener| !(handed_over || listener.lasts)) {
            // It has connected, so it is answered.
            self.accept_last(listener);
        }
        self.end_if_drained();
    }

    fn end_if_drained(&self) {
        if self.draining() && self.slots.borrow().is_empty() {
            self.end();
        }
    }

    fn end(&self) {
        for (_, slot) in self.slots.borrow_mut().iter_mut() {
            // No other answer is cut: what the kernel has of it whole, it sends.
            if slot.connection.is_answering() {
                slot.connection.abandon(&slot.socket);
            }
        }
        self.ended.set(true);
        if let Some(waker) = self.on_end.take() {
            waker.wake();
        }
    }
}

/// Of the connections that stay idle while a worker drains, those of the first so many numbers of so many are to be closed
/// now: none in the first half of the grace, when whoever polls has time to be told so with an answer, all before its end.
pub fn closing(since: Tick, grace: Tick, now: Tick) -> Option<(u32, u32)> {
    let first = grace / 2 + 1;
    let turns = grace.saturating_sub(first + 1).max(1);
    let turn = now.checked_sub(since.saturating_add(first))?;
    Some((turn + 1, turns))
}

fn tick_timer() -> io::Result<OwnedFd> {
    let timer =
        rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
    let period = Timespec { tv_sec: 0, tv_nsec: (1_000_000_000 / TICKS_PER_SECOND).into() };
    let every = Itimerspec { it_interval: period, it_value: period };
    rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &every)?;
    Ok(timer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        let slot = size_of::<Option<slots::Slot>>();
        assert!(slot <= CONNECTION_BYTES, "the slot of a connection takes {slot} bytes");
    }

    #[test]
    fn idle_connections_are_closed_in_the_second_half_of_the_grace() {
        for secs in [1, 2, 5, 30, 3600] {
            let grace = secs * TICKS_PER_SECOND;
            let parts: Vec<_> = (0..grace).map(|tick| closing(100, grace, 100 + tick)).collect();
            let half = grace as usize / 2;
            assert!(parts[..=half].iter().all(Option::is_none), "{secs}: {parts:?}");
            if secs > 1 {
                let (turn, turns) = parts[grace as usize - 1].unwrap();
                assert!(turn >= turns, "{secs}: {parts:?}");
            }
        }
    }
}
