//! One core: its ring, its listeners, its connections and their deadlines.
//!
//! A connection's future does nothing but wait; what happens when its socket is ready is a plain call into
//! [`crate::serve`], so nothing lives across a wait but the future's few words. No timer is set per request: the worker
//! looks at its table of deadlines when its one timer ticks.

mod batch;
mod control;
mod socket;

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
    rc::Rc,
    sync::Arc,
    task::{Poll, Waker},
};

use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};
use nix::sys::signal::SigSet;
use rustix::{
    event::{EventfdFlags, eventfd},
    time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec},
};

use batch::Batch;
pub use control::{Budget, Control, Order};
use socket::{Raw, Ready};

use crate::{
    limits::{ACCEPTS_PER_TURN, BACKLOG, RING_ENTRIES, SHED_LINGERING, TICKS_PER_SECOND},
    listen::{self, Accept},
    serve::{Connection, Desk, Patience, Socket, Tick, Wait},
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
    pub listeners: Vec<OwnedFd>,
    /// What to serve.
    pub store: Arc<Store>,
    /// Where to count.
    pub stats: Arc<WorkerStats>,
    /// How long clients may take.
    pub patience: Patience,
    /// Connections of all workers.
    pub budget: Arc<Budget>,
    /// How the worker is told to stop.
    pub control: Arc<Control>,
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
    own_descriptors(&setup);
    match setup.io {
        Io::Uring => uring_runtime()?.block_on(serve(setup)),
        Io::Epoll => RuntimeBuilder::<LegacyDriver>::new().build()?.block_on(serve(setup)),
    }
}

/// Signals are for the other threads: their handler wakes a thread by a descriptor that this one is about to give up.
fn block_signals() -> io::Result<()> {
    SigSet::all().thread_block().map_err(io::Error::from)
}

/// Gives this thread a descriptor table of its own, with the standard streams and what `setup` holds.
///
/// In a table that threads share, every system call on a socket counts references to it with atomic operations; alone in
/// its table, a thread is spared them. That is 3 % of a request.
fn own_descriptors(setup: &Setup) {
    let mut kept: Vec<RawFd> = setup.listeners.iter().map(AsRawFd::as_raw_fd).collect();
    kept.push(setup.control.event().as_raw_fd());
    kept.sort_unstable();
    let mut first = 3;
    for end in kept.into_iter().chain([RawFd::MAX]) {
        if first < end {
            // SAFETY: it closes descriptors, after it has given this thread a copy of the table in the same call, so none
            // that another thread uses. This thread uses none but the kept ones: it has only just begun, with `setup`.
            // Where the kernel does not know the flag (before 5.9), or forbids it, it closes nothing, and the table stays
            // shared.
            unsafe { libc::close_range(first as u32, end as u32 - 1, libc::CLOSE_RANGE_UNSHARE as i32) };
        }
        first = first.max(end.saturating_add(1));
    }
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
    listeners: Vec<RawFd>,
    /// Connections that are ready.
    batch: RefCell<Batch>,
    /// See [`Worker::turn`].
    giving_way: RefCell<Vec<Waker>>,
    relay: Cell<Option<Waker>>,
    /// A descriptor to give up when there is none left to accept with.
    reserve: RefCell<Option<OwnedFd>>,
    shed: Cell<usize>,
    draining: Cell<bool>,
    ended: Cell<bool>,
    on_end: Cell<Option<Waker>>,
    on_tick: RefCell<Vec<Waker>>,
    /// Connections that wait for a content.
    on_nudge: RefCell<Vec<(u32, Waker)>>,
}

/// The connections by number, with the numbers that are free.
#[derive(Default)]
struct Slots {
    list: Vec<Option<Slot>>,
    free: Vec<u32>,
}

struct Slot {
    socket: RawFd,
    /// What it waits for, once it has been served.
    wait: Wait,
    shed: bool,
    connection: Connection,
}

async fn serve(setup: Setup) -> io::Result<()> {
    let Setup { listeners, store, stats, patience, budget, control, .. } = setup;
    let timer = tick_timer()?;
    let worker = Rc::new(Worker {
        desk: RefCell::new(Desk::new(store, stats.clone(), patience)),
        slots: RefCell::default(),
        stats,
        budget,
        listeners: listeners.iter().map(AsRawFd::as_raw_fd).collect(),
        batch: RefCell::default(),
        giving_way: RefCell::default(),
        relay: Cell::new(None),
        reserve: RefCell::new(reserve_descriptor()),
        shed: Cell::new(0),
        draining: Cell::new(false),
        ended: Cell::new(false),
        on_end: Cell::new(None),
        on_tick: RefCell::default(),
        on_nudge: RefCell::default(),
    });
    let nudged = control.clone();
    worker.desk.borrow_mut().nudge = Some(Arc::new(move || nudged.nudge()));
    for listener in listeners {
        monoio::spawn(accept(worker.clone(), Ready::new(listener)?));
    }
    monoio::spawn(relay(worker.clone()));
    monoio::spawn(tick(worker.clone(), Ready::new(timer)?));
    monoio::spawn(obey(worker.clone(), control.clone(), Ready::new(control.event().try_clone()?)?));
    poll_fn(|context| {
        if worker.ended.get() {
            return Poll::Ready(());
        }
        worker.on_end.set(Some(context.waker().clone()));
        Poll::Pending
    })
    .await;
    Ok(())
}

async fn accept(worker: Rc<Worker>, listener: Ready) {
    while listener.readable().await.is_ok() && !worker.draining.get() {
        if worker.accept_some(listener.raw(), ACCEPTS_PER_TURN).is_break() {
            worker.next_tick().await;
        }
        worker.turn().await;
    }
}

async fn tick(worker: Rc<Worker>, timer: Ready) {
    let mut count = [0; 8];
    while timer.readable().await.is_ok() {
        // SAFETY: `timer` owns the descriptor and outlives the borrow.
        let descriptor = unsafe { BorrowedFd::borrow_raw(timer.raw()) };
        if rustix::io::read(descriptor, &mut count).is_ok() {
            worker.tick(u64::from_ne_bytes(count));
        }
    }
}

async fn obey(worker: Rc<Worker>, control: Arc<Control>, event: Ready) {
    let mut count = [0; 8];
    while event.readable().await.is_ok() {
        let _ = rustix::io::read(control.event(), &mut count);
        match control.order() {
            order if order == Order::Drain as u8 => worker.drain(),
            order if order == Order::Stop as u8 => worker.end(),
            _ => {}
        }
        worker.on_nudge.borrow_mut().drain(..).for_each(|(_, waker)| waker.wake());
    }
}

/// Serves the connections that are ready, behind everything that has become ready with them, and wakes those that gave way.
async fn relay(worker: Rc<Worker>) {
    loop {
        poll_fn(|context| {
            if !(worker.batch.borrow().is_empty() && worker.giving_way.borrow().is_empty()) {
                return Poll::Ready(());
            }
            worker.relay.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
        worker.batch.borrow_mut().serve(&mut worker.slots.borrow_mut(), &mut worker.desk.borrow_mut());
        worker.giving_way.borrow_mut().drain(..).for_each(Waker::wake);
    }
}

/// The whole life of a connection. Its size is memory that every idle connection holds; a test holds it.
#[expect(clippy::manual_async_fn, reason = "an async fn holds its arguments twice, this block what it captures once")]
fn converse(worker: Rc<Worker>, socket: Ready, id: u32) -> impl Future<Output = ()> {
    async move {
        let mut wait = Wait::Readable;
        loop {
            let ready = match wait {
                Wait::Readable => socket.readable().await.is_ok(),
                Wait::Writable => socket.writable().await.is_ok(),
                Wait::Inflated => worker.nudged(id).await,
                // By way of the ring, which would not be looked at while there is always something to do.
                Wait::Others => socket.writable().await.is_ok(),
                Wait::Closed => break,
            };
            if !ready {
                break;
            }
            wait = if wait == Wait::Readable {
                worker.served(id, socket.raw()).await
            } else {
                worker.turn().await;
                worker.on_ready(id)
            };
        }
        worker.release(id);
    }
}

impl Worker {
    /// Accepts what is waiting, `most` at the most. Break: there is no descriptor left, so it is no use to go on at once.
    fn accept_some(self: &Rc<Self>, listener: RawFd, most: usize) -> std::ops::ControlFlow<()> {
        // SAFETY: the listener's future owns the descriptor, and it or `drain`, which runs while that future waits, is
        // who calls this.
        let listener = unsafe { BorrowedFd::borrow_raw(listener) };
        for _ in 0..most {
            match listen::accept(listener) {
                Accept::Connection(socket) => self.open(socket),
                Accept::Gone => {}
                Accept::Empty | Accept::Shut => break,
                Accept::Exhausted(error) => {
                    self.shed_with_reserve(listener);
                    tracing::warn!("connections are refused: {error}; raise the descriptor limit (ulimit -n)");
                    return std::ops::ControlFlow::Break(());
                }
            }
        }
        std::ops::ControlFlow::Continue(())
    }

    fn open(self: &Rc<Self>, socket: OwnedFd) {
        self.stats.accepted.add(1);
        let raw = socket.as_raw_fd();
        let within = self.budget.take();
        let lingers = within || self.shed.get() < SHED_LINGERING;
        let mut connection = Connection::new(&self.desk.borrow());
        if !within {
            self.stats.shed.add(1);
            self.desk.borrow_mut().clock.refresh();
            connection.shed(&Raw(raw), &mut self.desk.borrow_mut());
        }
        if !lingers {
            return;
        }
        let Ok(socket) = Ready::new(socket) else {
            if within {
                self.budget.give_back();
            }
            return;
        };
        match within {
            true => self.stats.open.add(1),
            false => self.shed.set(self.shed.get() + 1),
        }
        let id = self.slots.borrow_mut().insert(Slot { socket: raw, wait: Wait::Readable, shed: !within, connection });
        monoio::spawn(converse(self.clone(), socket, id));
    }

    /// Descriptors have run out: the one in reserve accepts a connection, to tell it so, and is taken back.
    fn shed_with_reserve(&self, listener: BorrowedFd<'_>) {
        let mut reserve = self.reserve.borrow_mut();
        drop(reserve.take());
        if let Accept::Connection(socket) = listen::accept(listener) {
            self.stats.accepted.add(1);
            self.stats.shed.add(1);
            let mut desk = self.desk.borrow_mut();
            desk.clock.refresh();
            Connection::new(&desk).shed(&Raw(socket.as_raw_fd()), &mut desk);
        }
        *reserve = reserve_descriptor();
    }

    fn on_ready(&self, id: u32) -> Wait {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get(id) else {
            return Wait::Closed;
        };
        let mut desk = self.desk.borrow_mut();
        desk.clock.refresh();
        slot.connection.on_ready(&Raw(slot.socket), &mut desk)
    }

    fn release(&self, id: u32) {
        let Some(slot) = self.slots.borrow_mut().remove(id) else {
            return;
        };
        if slot.shed {
            self.shed.set(self.shed.get() - 1);
        } else {
            self.budget.give_back();
            self.stats.open.sub(1);
        }
        self.end_if_drained();
    }

    fn tick(&self, count: u64) {
        let mut desk = self.desk.borrow_mut();
        desk.tick = desk.tick.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        desk.clock.refresh();
        let mut slots = self.slots.borrow_mut();
        for slot in slots.list.iter_mut().flatten() {
            if slot.connection.deadline() <= desk.tick {
                slot.connection.on_deadline(&Raw(slot.socket), &mut desk);
            }
        }
        let mut is_over = |id: u32| slots.get(id).is_none_or(|slot| slot.connection.deadline() == Tick::MAX);
        self.on_nudge.borrow_mut().extract_if(.., |(id, _)| is_over(*id)).for_each(|(_, waker)| waker.wake());
        self.on_tick.borrow_mut().drain(..).for_each(Waker::wake);
    }

    /// Serves a connection from which there is something to receive, with all others that are ready. What it waits for then.
    fn served(self: &Rc<Self>, id: u32, socket: RawFd) -> impl Future<Output = Wait> + use<'_> {
        let mut noted = false;
        poll_fn(move |context| {
            if std::mem::replace(&mut noted, true) {
                return Poll::Ready(self.slots.borrow_mut().get(id).map_or(Wait::Closed, |slot| slot.wait));
            }
            self.batch.borrow_mut().push(id, socket, context.waker().clone());
            self.wake_relay();
            Poll::Pending
        })
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

    /// Ends with the next nudge, whomever it was for, or when the deadline of the connection has passed.
    fn nudged(self: &Rc<Self>, id: u32) -> impl Future<Output = bool> + use<'_> {
        let mut waited = false;
        poll_fn(move |context| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(true);
            }
            self.on_nudge.borrow_mut().push((id, context.waker().clone()));
            Poll::Pending
        })
    }

    async fn next_tick(&self) {
        let tick = self.desk.borrow().tick;
        poll_fn(|context| {
            if self.desk.borrow().tick != tick || self.draining.get() {
                return Poll::Ready(());
            }
            self.on_tick.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Takes in what has already connected, closes the listeners and every idle connection, and ends when the others do.
    fn drain(self: &Rc<Self>) {
        if self.draining.replace(true) {
            return;
        }
        self.desk.borrow_mut().draining = true;
        for listener in &self.listeners {
            let _ = self.accept_some(*listener, BACKLOG as usize);
            // Ends the wait of the listener's future, which closes it.
            Raw(*listener).shut();
        }
        for slot in self.slots.borrow_mut().list.iter_mut().flatten() {
            slot.connection.on_drain(&Raw(slot.socket));
        }
        self.end_if_drained();
    }

    fn end_if_drained(&self) {
        if self.draining.get() && self.slots.borrow().is_empty() {
            self.end();
        }
    }

    fn end(&self) {
        self.ended.set(true);
        if let Some(waker) = self.on_end.take() {
            waker.wake();
        }
    }
}

impl Slots {
    fn insert(&mut self, slot: Slot) -> u32 {
        match self.free.pop() {
            Some(id) => {
                self.list[id as usize] = Some(slot);
                id
            }
            None => {
                self.list.push(Some(slot));
                // Descriptors are 32-bit numbers, and each slot has one.
                (self.list.len() - 1) as u32
            }
        }
    }

    fn get(&mut self, id: u32) -> Option<&mut Slot> {
        self.list.get_mut(id as usize)?.as_mut()
    }

    fn remove(&mut self, id: u32) -> Option<Slot> {
        let slot = self.list.get_mut(id as usize)?.take()?;
        self.free.push(id);
        Some(slot)
    }

    fn is_empty(&self) -> bool {
        self.free.len() == self.list.len()
    }
}

fn reserve_descriptor() -> Option<OwnedFd> {
    eventfd(0, EventfdFlags::CLOEXEC).ok()
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
        fn size_of_future<F>(_: impl FnOnce(Rc<Worker>, Ready, u32) -> F) -> usize {
            size_of::<F>()
        }
        let future = size_of_future(converse);
        assert!(future <= 128, "the future of a connection takes {future} bytes");
        let slot = size_of::<Option<Slot>>();
        assert!(slot <= 24, "the slot of a connection takes {slot} bytes");
    }
}
