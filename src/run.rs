//! From a configuration to a running server, and to its end.

mod events;
mod facts;
mod process;
mod quotes;
mod rights;
mod sockets;
mod takeover;

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
        mpsc::{self, Sender},
    },
    time::{Duration, Instant, SystemTime},
};

use events::Event;
use facts::Facts;
use parking_lot::FairMutex;
use quotes::Quotes;
use rights::Rights;
use sockets::Sockets;
use takeover::{Estate, Predecessor};

use crate::{
    admin::{self, Access, Overview, Token},
    config::{Admin, Config, IoChoice},
    feed::{Feed, Summary, quotes::board::Board},
    limits::DESCRIPTORS_RESERVED,
    listen::{Bound, Gate, Passed},
    serve::Patience,
    stats::{FeedStats, WorkerStats},
    store::Store,
    worker::{self, Budget, Control, Io, Order, Setup},
};

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It did not start: a line that names the thing and the remedy.
    #[error("{0}")]
    Start(String),
    /// It broke while it ran.
    #[error("{0}")]
    Broken(String),
}

/// Where in its life the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// The first load is not complete.
    Loading,
    /// It serves.
    Ready,
    /// It is about to stop.
    Draining,
}

/// The stage, for whoever asks.
#[derive(Default)]
pub struct StageCell(AtomicU8);

impl StageCell {
    /// The stage now.
    pub fn get(&self) -> Stage {
        match self.0.load(Ordering::Acquire) {
            0 => Stage::Loading,
            1 => Stage::Ready,
            _ => Stage::Draining,
        }
    }

    fn set(&self, stage: Stage) {
        self.0.store(stage as u8, Ordering::Release);
    }
}

/// Serves until a signal says to stop, or another server has taken over.
///
/// # Errors
/// [`Error`].
pub fn run(config: Config) -> Result<(), Error> {
    // Before anything opens a descriptor.
    let passed = Passed::by_systemd().map_err(|reason| Error::Start(format!("{reason}; pass listening sockets")))?;
    // Before there is another thread: rights are given up by each for itself.
    rights::forbid_new_ones();
    process::keep_large_bodies_apart();
    process::start_logging();
    let limit = process::raise_descriptor_limit();
    let program = std::env::current_exe();
    check_directory(&config.data)?;
    let (events, event) = mpsc::channel();
    let signals = events::catch_signals()?;
    let workers = config.workers.unwrap_or_else(|| process::allowed_cpus().len());
    let (sockets, names, predecessor) = sockets::bind(&config, workers, passed)?;
    let rights = rights::give_up(&config, &sockets)?;
    let _log = process::log_from_a_thread();
    // Before anything that takes time: a signal during the load is answered, too.
    events::hear(signals, events.clone())?;

    let server = Server::new(config, workers, limit, sockets, events)?;
    // A predecessor answers until it is replaced.
    if predecessor.is_none() {
        server.answer_admin()?;
    }
    let mut loaded = server.load(predecessor.is_some())?;
    if let Some(predecessor) = &predecessor {
        if events::is_to_stop(&event) {
            return Ok(());
        }
        if let Some(state) = predecessor.take()? {
            loaded.feed.inherit(state.stamps);
            loaded.quotes.inherit(state.fed);
        }
    }
    let Loaded { feed, summary, quotes, took } = loaded;
    let inquiry = feed.inquiry();
    start_feed(feed, server.events.clone())?;
    quotes.open()?;
    let controls = server.start_workers()?;
    if !events::wait_for_workers(&event, workers)? {
        return Ok(());
    }
    server.stage.set(Stage::Ready);
    let replaced = predecessor.map(Predecessor::done).transpose()?;
    if replaced.is_some() {
        server.sockets.claim_names();
        server.answer_admin()?;
    }
    // Nobody may be reading; that is no reason to stop.
    let _ = server.facts(summary, took, rights, replaced.as_deref()).print(&mut io::stdout().lock());
    process::warn_of_small_limits(limit, server.most.in_total);
    process::notify_ready();

    let passing = Arc::new(AtomicBool::new(false));
    let (sockets, events) = (server.sockets.clone(), server.events.clone());
    let estate = Estate { sockets, quotes: quotes.clone(), feed: inquiry, workers: controls.clone(), events };
    names.wait(estate, server.take_over_gate.clone(), passing.clone())?;
    let is_handed_over = events::wait_for_the_end(&event, &server.events, program)?;
    // A successor that has the sockets, and may be loading, is not to find them shut.
    let order = server.leave(&quotes, is_handed_over, is_handed_over || passing.load(Ordering::Acquire));
    events::drain(&event, &controls, order, Duration::from_secs(server.config.grace.into()));
    Ok(())
}

/// What there is from the beginning to the end.
struct Server {
    config: Config,
    workers: usize,
    io: Io,
    most: Most,
    sockets: Arc<Sockets>,
    access: Arc<Access>,
    store: Arc<Store>,
    feed_stats: Arc<FeedStats>,
    worker_stats: Vec<Arc<WorkerStats>>,
    stage: Arc<StageCell>,
    admin_gate: Arc<Gate>,
    take_over_gate: Arc<Gate>,
    events: Sender<Event>,
}

/// What the first load brought.
struct Loaded {
    feed: Feed,
    summary: Summary,
    quotes: Arc<Quotes>,
    took: Duration,
}

impl Server {
    fn new(config: Config, workers: usize, limit: u64, sockets: Sockets, events: Sender<Event>) -> Result<Self, Error> {
        let gate = || Gate::new().map(Arc::new).map_err(|error| start_error("a thread", &error));
        let most = Most::of(&config, limit, workers);
        let max = most.in_total;
        if let Some(asked) = config.max_connections.filter(|asked| *asked > max) {
            tracing::warn!("--max-connections {asked} is more than the descriptor limit allows: {max} it is");
        }
        let file = config.admin_token_file.as_deref().filter(|_| config.admin != Admin::Off);
        let token = file.map(Token::read).transpose().map_err(Error::Start)?;
        let access = Arc::new(Access { token, names: config.admin_names.clone() });
        Ok(Self {
            access,
            io: choose_io(config.io)?,
            most,
            workers,
            sockets: Arc::new(sockets),
            store: Arc::new(Store::with_terms(config.quotes.terms())),
            feed_stats: Arc::default(),
            worker_stats: (0..workers).map(|_| Arc::default()).collect(),
            stage: Arc::default(),
            admin_gate: gate()?,
            take_over_gate: gate()?,
            events,
            config,
        })
    }

    fn answer_admin(&self) -> Result<(), Error> {
        let Some(bound) = &self.sockets.admin else { return Ok(()) };
        let (workers, feed) = (self.worker_stats.clone(), self.feed_stats.clone());
        let overview = Overview::new(self.stage.clone(), workers, feed, self.store.clone(), SystemTime::now());
        admin::start(bound, self.access.clone(), overview, self.admin_gate.clone())
            .map_err(|error| start_error("the admin thread", &error))
    }

    /// Loads the data directory. `succeeds`: there is a server that is to be replaced.
    fn load(&self, succeeds: bool) -> Result<Loaded, Error> {
        let Self { config, store, feed_stats, .. } = self;
        let begun = Instant::now();
        let mut board = Board::new(store.clone(), feed_stats.clone(), config.quotes.charset, config.memory_limit);
        if succeeds {
            board.succeed();
        }
        let board = Arc::new(FairMutex::new(board));
        let snapshot = quotes::load_snapshot(config, &board)?;
        let memory_limit = config.memory_limit;
        let feed = Feed::load(config.data.clone(), store.clone(), board.clone(), feed_stats.clone(), memory_limit);
        let (feed, summary) = feed.map_err(|error| unreadable_directory(&config.data, &error))?;
        let took = begun.elapsed();
        process::give_back_memory();
        start_inflating(store.clone())?;
        let quotes = Quotes::start(config, store, self.sockets.feeders.as_ref(), board, snapshot)?;
        Ok(Loaded { feed, summary, quotes: Arc::new(quotes), took })
    }

    /// Starts the workers. How they are told to stop.
    fn start_workers(&self) -> Result<Vec<Arc<Control>>, Error> {
        let Self { config, workers, .. } = self;
        let cpus = process::allowed_cpus();
        let budget = Arc::new(Budget::new(self.most.in_total, config.max_connections_per_ip));
        let trusted = Arc::new(config.trusted_proxies.clone());
        let mut controls = Vec::with_capacity(*workers);
        for (number, stats) in self.worker_stats.iter().enumerate() {
            let control = Arc::new(Control::new().map_err(|error| start_error("a worker", &error))?);
            controls.push(control.clone());
            let [started, calm, discarded] = std::array::from_fn(|_| self.events.clone());
            let setup = Setup {
                cpu: cpus.get(number % cpus.len().max(1)).copied(),
                io: self.io,
                listeners: self.sockets.public.iter().flat_map(|bound| bound.listeners_of(number, *workers)).collect(),
                store: self.store.clone(),
                stats: stats.clone(),
                patience: Patience::from_secs(config.keep_alive_timeout, config.header_timeout, config.send_timeout),
                grace: Duration::from_secs(config.grace.into()),
                budget: budget.clone(),
                max_connections: self.most.of_a_worker,
                evicts_idle: config.evict_idle,
                trusted: trusted.clone(),
                tells_refused: config.log_refused,
                control,
                // The main thread waits for it.
                on_start: Box::new(move || drop(started.send(Event::WorkerStarted))),
                on_calm: Box::new(move || drop(calm.send(Event::Calm))),
                discard: Box::new(move |held| drop(discarded.send(Event::Discarded(held)))),
            };
            start_worker(number, setup, self.events.clone())?;
        }
        Ok(controls)
    }

    /// Gives up the place of the server, if need be `to_others` who have its sockets. What the workers are to do then.
    fn leave(&self, quotes: &Quotes, is_handed_over: bool, to_others: bool) -> Order {
        if !is_handed_over {
            self.stage.set(Stage::Draining);
            process::notify_stopping();
            quotes.close();
        }
        if to_others {
            self.admin_gate.close();
            self.sockets.all().for_each(Bound::leave_name);
            return Order::HandOver;
        }
        // The next server may take a name as soon as nobody listens behind it.
        self.take_over_gate.close();
        self.sockets.all().for_each(Bound::remove_name);
        Order::Drain
    }

    fn facts<'a>(
        &'a self,
        summary: Summary,
        took: Duration,
        rights: Rights,
        predecessor: Option<&'a str>,
    ) -> Facts<'a> {
        Facts {
            config: &self.config,
            summary,
            quotes: &self.feed_stats.quotes,
            loaded: took,
            io: self.io,
            workers: self.workers,
            bound: &self.sockets.public,
            rights,
            admin_url: self.sockets.admin.as_ref().map(Bound::url),
            max_connections: self.most.in_total,
            predecessor,
        }
    }
}

fn start_worker(number: usize, setup: Setup, events: Sender<Event>) -> Result<(), Error> {
    let work = move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker::run(setup)));
        let result = result.unwrap_or_else(|_| Err(io::Error::other("it panicked")));
        // The main thread may be past caring.
        let _ = events.send(Event::WorkerEnded(result));
    };
    let thread = std::thread::Builder::new().name(format!("worker-{number}"));
    thread.spawn(work).map(drop).map_err(|error| start_error("a worker", &error))
}

fn start_inflating(store: Arc<Store>) -> Result<(), Error> {
    let thread = std::thread::Builder::new().name("inflate".to_owned());
    let started = thread.spawn(move || store.identities().serve());
    started.map(drop).map_err(|error| start_error("the inflating thread", &error))
}

fn start_feed(feed: Feed, events: Sender<Event>) -> Result<(), Error> {
    let work = move || {
        // The hook has told of the panic.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| feed.run()));
        // The main thread may be past caring.
        let _ = events.send(Event::FeedEnded);
    };
    let thread = std::thread::Builder::new().name("feed".to_owned());
    thread.spawn(work).map(drop).map_err(|error| start_error("the feed thread", &error))
}

fn choose_io(choice: IoChoice) -> Result<Io, Error> {
    match (choice, worker::probe_uring()) {
        (IoChoice::Epoll, _) => Ok(Io::Epoll),
        (IoChoice::Auto | IoChoice::Uring, Ok(())) => Ok(Io::Uring),
        (IoChoice::Auto, Err(error)) => {
            tracing::warn!("io_uring is refused here ({error}); epoll is used, at some cost in CPU");
            Ok(Io::Epoll)
        }
        (IoChoice::Uring, Err(error)) => Err(Error::Start(format!(
            "io_uring is refused here ({error}); containers often forbid it: use --io auto, or allow io_uring_setup, \
             io_uring_enter and io_uring_register"
        ))),
    }
}

/// The most connections that there may be.
#[derive(Clone, Copy)]
struct Most {
    of_a_worker: usize,
    in_total: usize,
}

impl Most {
    /// What the descriptor limit leaves for connections, or less if less was asked for. It holds for each worker where each
    /// can have a table of its own, else for all together.
    fn of(config: &Config, limit: u64, workers: usize) -> Self {
        let possible = usize::try_from(limit - DESCRIPTORS_RESERVED.min(limit / 2)).unwrap_or(usize::MAX);
        let of_a_worker = if worker::probe_own_descriptors() { possible } else { possible.div_ceil(workers) };
        let possible = of_a_worker.saturating_mul(workers);
        Self { of_a_worker, in_total: config.max_connections.map_or(possible, |asked| asked.min(possible)) }
    }
}

fn check_directory(directory: &Path) -> Result<(), Error> {
    std::fs::read_dir(directory).map(drop).map_err(|error| unreadable_directory(directory, &error))
}

fn unreadable_directory(directory: &Path, error: &io::Error) -> Error {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => "make it, or name another with --data",
        io::ErrorKind::PermissionDenied => "give this user the right to read and search it (chmod a+rx)",
        io::ErrorKind::NotADirectory => "name a directory with --data",
        _ => "name another with --data",
    };
    Error::Start(format!("the data directory {} cannot be read: {error}; {remedy}", directory.display()))
}

fn start_error(what: &str, error: &io::Error) -> Error {
    Error::Start(format!("{what} cannot be started: {error}"))
}
