//! From a configuration to a running server, and to its end.

mod facts;
mod process;
mod quotes;

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant, SystemTime},
};

use facts::Facts;
use parking_lot::FairMutex;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{
    admin::{self, Overview},
    config::{Admin, Config, IoChoice},
    feed::{Feed, quotes::board::Board},
    limits::DESCRIPTORS_RESERVED,
    listen::{Address, Bound},
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

enum Event {
    Signal,
    FeedEnded,
    WorkerEnded(io::Result<()>),
}

/// Serves until a signal says to stop.
///
/// # Errors
/// [`Error`].
pub fn run(config: Config) -> Result<(), Error> {
    let _log = process::start_logging();
    let limit = process::raise_descriptor_limit();
    check_directory(&config.data)?;
    let (events, event) = mpsc::channel();
    // Before anything that takes time: a signal during the load is answered, too.
    catch_signals(events.clone())?;

    let workers = config.workers.unwrap_or_else(|| process::allowed_cpus().len());
    let (mut bound, admin) = bind(&config, workers)?;
    let feeders = quotes::listen(&config)?;
    if let Some(user) = &config.user {
        process::become_user(user)?;
    }
    let io = choose_io(config.io)?;

    let store = Arc::new(Store::with_terms(config.quotes.terms()));
    let feed_stats = Arc::new(FeedStats::default());
    let board = Board::new(store.clone(), feed_stats.clone(), config.quotes.charset, config.memory_limit);
    let board = Arc::new(FairMutex::new(board));
    let worker_stats: Vec<Arc<WorkerStats>> = (0..workers).map(|_| Arc::default()).collect();
    let stage = Arc::new(StageCell::default());
    let admin_url = admin.as_ref().map(Bound::url);
    if let Some(admin) = admin {
        let overview =
            Overview::new(stage.clone(), worker_stats.clone(), feed_stats.clone(), store.clone(), SystemTime::now());
        admin::start(admin, overview).map_err(|error| start_error("the admin thread", &error))?;
    }

    let begun = Instant::now();
    let snapshot = quotes::load_snapshot(&config, &board)?;
    let memory_limit = config.memory_limit;
    let (feed, summary) =
        Feed::load(config.data.clone(), store.clone(), board.clone(), feed_stats.clone(), memory_limit)
            .map_err(|error| unreadable_directory(&config.data, &error))?;
    let loaded = begun.elapsed();
    process::give_back_memory();
    start_feed(feed, events.clone())?;

    start_inflating(store.clone())?;
    quotes::start(&config, &store, feeders.as_ref(), &board, snapshot.as_ref())?;
    let most = Most::of(&config, limit, workers);
    let max_connections = most.in_total;
    if let Some(asked) = config.max_connections.filter(|asked| *asked > max_connections) {
        tracing::warn!("--max-connections {asked} is more than the descriptor limit allows: {max_connections} it is");
    }
    let controls = start_workers(&config, io, &bound, &store, worker_stats, most, &events)?;
    stage.set(Stage::Ready);
    let quotes = &feed_stats.quotes;
    let facts =
        Facts { config: &config, summary, quotes, loaded, io, workers, bound: &bound, admin_url, max_connections };
    // Nobody may be reading; that is no reason to stop.
    let _ = facts.print(&mut io::stdout().lock());
    process::warn_of_small_limits(limit, max_connections);

    bound.extend(feeders);
    wait_for_signal(&event)?;
    stage.set(Stage::Draining);
    quotes::end(&board, snapshot.as_ref());
    // The next server may take the names as soon as nobody listens behind them.
    bound.iter_mut().for_each(Bound::remove_name);
    drain(&event, &controls, Duration::from_secs(config.grace.into()));
    Ok(())
}

/// Listens on every address, for the workers and for the administrator.
fn bind(config: &Config, workers: usize) -> Result<(Vec<Bound>, Option<Bound>), Error> {
    let listen =
        |address: &Address| Bound::new(address, workers).map_err(|error| cannot_listen(address, &error, "--listen"));
    let bound = config.listen.iter().map(listen).collect::<Result<_, _>>()?;
    let admin = match config.admin {
        Admin::Off => None,
        Admin::At(address) => {
            let address = Address::Tcp(address);
            Some(Bound::new(&address, 1).map_err(|error| cannot_listen(&address, &error, "--admin"))?)
        }
    };
    Ok((bound, admin))
}

/// Waits for a signal.
fn wait_for_signal(event: &mpsc::Receiver<Event>) -> Result<(), Error> {
    match event.recv() {
        Ok(Event::Signal) | Err(_) => Ok(()),
        Ok(Event::WorkerEnded(result)) => {
            let reason = result.map_or_else(|error| error.to_string(), |()| "it ended by itself".to_owned());
            Err(Error::Broken(format!("a worker cannot go on: {reason}")))
        }
        // Going on would be serving what is no longer so.
        Ok(Event::FeedEnded) => Err(Error::Broken("the feed cannot go on, so that no change would be seen".to_owned())),
    }
}

/// Lets the workers finish.
fn drain(event: &mpsc::Receiver<Event>, controls: &[Arc<Control>], grace: Duration) {
    tracing::info!(
        "stopping: what is being answered has {} s to finish; another signal ends it at once",
        grace.as_secs()
    );
    controls.iter().for_each(|control| control.send(Order::Drain));
    let end = Instant::now() + grace;
    let mut running = controls.len();
    while running > 0 {
        match event.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(Event::WorkerEnded(_)) => running -= 1,
            Ok(Event::FeedEnded) => {}
            Ok(Event::Signal) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                break;
            }
        }
    }
    controls.iter().for_each(|control| control.send(Order::Stop));
}

/// Starts a worker for each of `stats`. How they are told to stop.
fn start_workers(
    config: &Config,
    io: Io,
    bound: &[Bound],
    store: &Arc<Store>,
    stats: Vec<Arc<WorkerStats>>,
    most: Most,
    events: &Sender<Event>,
) -> Result<Vec<Arc<Control>>, Error> {
    let cpus = process::allowed_cpus();
    let budget = Arc::new(Budget::new(most.in_total, config.max_connections_per_ip));
    let workers = stats.len();
    let mut controls = Vec::with_capacity(stats.len());
    for (number, stats) in stats.into_iter().enumerate() {
        let control = Arc::new(Control::new().map_err(|error| start_error("a worker", &error))?);
        controls.push(control.clone());
        let setup = Setup {
            cpu: cpus.get(number % cpus.len().max(1)).copied(),
            io,
            listeners: bound.iter().flat_map(|bound| bound.listeners_of(number, workers)).collect(),
            store: store.clone(),
            stats,
            patience: Patience::from_secs(config.keep_alive_timeout, config.header_timeout, config.send_timeout),
            grace: Duration::from_secs(config.grace.into()),
            budget: budget.clone(),
            max_connections: most.of_a_worker,
            evicts_idle: config.evict_idle,
            control,
        };
        start_worker(number, setup, events.clone())?;
    }
    Ok(controls)
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

fn catch_signals(events: Sender<Event>) -> Result<(), Error> {
    let mut signals =
        Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(|error| start_error("signal handling", &error))?;
    let listen = move || {
        for (count, _) in signals.forever().enumerate() {
            // The first one drains; the main thread hears of the second as well, unless it is still loading.
            if count > 0 || events.send(Event::Signal).is_err() {
                std::process::exit(0);
            }
        }
    };
    let thread = std::thread::Builder::new().name("signals".to_owned());
    thread.spawn(listen).map(drop).map_err(|error| start_error("the signal thread", &error))
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

fn cannot_listen(address: &Address, error: &io::Error, flag: &str) -> Error {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("another program, perhaps another cloudia, listens there; stop it, or name another with {flag}")
        }
        io::ErrorKind::PermissionDenied => {
            format!("ports below 1024 need root (which --user gives up again) or CAP_NET_BIND_SERVICE; or use {flag}")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine has no such address; name another with {flag}")
        }
        _ => format!("name another with {flag}"),
    };
    Error::Start(format!("cannot listen on {address}: {error}; {remedy}"))
}

fn start_error(what: &str, error: &io::Error) -> Error {
    Error::Start(format!("{what} cannot be started: {error}"))
}
