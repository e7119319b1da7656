//! Counters. Each worker has its own, on its own cache lines, written with plain stores by that worker alone and summed
//! by whoever reads them.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{serve::status::Status, store::Coding};

/// A count that one thread writes and any thread reads.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning thread may call this: it is a load and a store, not a locked instruction.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Takes `n` away; for counts of what is there now. Only the owning thread may call this.
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(n), Relaxed);
    }

    /// Sets the count.
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The counters of one worker. The alignment keeps two workers' counters off each other's cache lines, and off the
/// neighbouring line that processors fetch along.
#[derive(Default)]
#[repr(align(128))]
pub struct WorkerStats {
    requests: [Counter; Status::ALL.len()],
    codings: [Counter; Coding::ALL.len()],
    /// Bytes handed to the kernel.
    pub sent_bytes: Counter,
    /// Connections accepted.
    pub accepted: Counter,
    /// Connections open now.
    pub open: Counter,
    /// Connections over the budget, answered 503.
    pub shed: Counter,
    /// Idle connections that gave their place to new ones.
    pub evicted: Counter,
    /// Connections that a balancer has introduced.
    pub proxy_accepted: Counter,
    /// Connections to where balancers connect, by somebody else.
    pub proxy_untrusted: Counter,
    /// Connections of balancers that began with something else than a header of the PROXY protocol.
    pub proxy_malformed: Counter,
    /// Connections in the middle of something, cut because together they held too much.
    pub cut: Counter,
    /// Connections cut by a deadline without an answer.
    pub timed_out: Counter,
    /// Lists of quotes that were joined.
    pub lists_joined: Counter,
    /// Lists of quotes whose answers were there.
    pub lists_cached: Counter,
    /// Handlers that panicked, each at the cost of its connection.
    pub panics: Counter,
}

impl WorkerStats {
    /// Counts an answer, and the coding of its body where it came from an entry.
    pub fn answered(&self, status: Status, coding: Option<Coding>) {
        self.requests[status.index()].add(1);
        if let Some(coding) = coding {
            self.codings[coding.index()].add(1);
        }
    }

    /// Answers with `status`.
    pub fn requests(&self, status: Status) -> u64 {
        self.requests[status.index()].get()
    }

    /// Bodies sent in `coding`.
    pub fn coding(&self, coding: Coding) -> u64 {
        self.codings[coding.index()].get()
    }
}

/// The counters of the feed.
#[derive(Default)]
pub struct FeedStats {
    /// Entries published now.
    pub entries: Counter,
    /// Bytes of their contents.
    pub content_bytes: Counter,
    /// Bytes held for them in all codings.
    pub held_bytes: Counter,
    /// Versions published since the start, those of the first load included.
    pub published: Counter,
    /// Versions whose compression was improved afterwards.
    pub improved: Counter,
    /// Names removed.
    pub removed: Counter,
    /// Rescans of the directory.
    pub rescans: Counter,
    /// Loads refused, by [`Refusal`].
    pub refused: [Counter; Refusal::ALL.len()],
    /// When the newest version was published, in seconds since 1970.
    pub newest: Counter,
    /// 1 while the data directory cannot be read and its last content is served.
    pub lost: Counter,
    /// How long changes took to become visible.
    pub visible: Visible,
    /// What is not believed now.
    pub rejections: Rejections,
    /// The quotes.
    pub quotes: QuoteStats,
}

/// The counters of the quotes. Whoever has the board writes them.
#[derive(Default)]
pub struct QuoteStats {
    /// Symbols that are known now.
    pub symbols: Counter,
    /// Tables, of files.
    pub tables: Counter,
    /// Versions of the market.
    pub versions: Counter,
    /// Lines of tables that were skipped.
    pub skipped_lines: Counter,
    /// Payloads that came through the socket.
    pub updates: Counter,
    /// Bytes that payloads take which came through the socket.
    pub fed_bytes: Counter,
    /// Lines of the socket that were skipped.
    pub skipped_updates: Counter,
}

/// Times from the news of a change to its new version.
pub struct Visible(Option<prometheus::Histogram>);

impl Visible {
    /// Seconds; a change is to be visible in some milliseconds, and is in 50.
    const BUCKETS: [f64; 11] = [0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0];
    const NAME: &str = "cloudia_change_visible_seconds";
    const HELP: &str = "Time from the news of a change to its new version being served.";

    /// Notes that a change took so long.
    pub fn note(&self, took: Duration) {
        if let Some(histogram) = &self.0 {
            histogram.observe(took.as_secs_f64());
        }
    }

    /// What was noted, as a metric.
    pub fn metric(&self) -> Option<&prometheus::Histogram> {
        self.0.as_ref()
    }
}

impl Default for Visible {
    fn default() -> Self {
        let options = prometheus::HistogramOpts::new(Self::NAME, Self::HELP).buckets(Self::BUCKETS.to_vec());
        // The options are constants of this type. Were they not sound, the metric would be missing, which a test sees.
        Self(prometheus::Histogram::with_opts(options).ok())
    }
}

/// Files that are not believed, with the reason, as long as that lasts.
#[derive(Default)]
pub struct Rejections(Mutex<BTreeMap<String, Rejection>>);

/// Why a file is not believed.
#[derive(Clone, Debug)]
pub struct Rejection {
    /// The kind.
    pub refusal: Refusal,
    /// In words that follow the file's name.
    pub reason: String,
    /// Since when, in seconds since 1970.
    pub since: u64,
}

impl Rejections {
    /// Files beyond this number are counted only.
    const MOST: usize = 10_000;

    /// Notes a file, relative to the data directory.
    pub fn note(&self, path: String, rejection: Rejection) {
        let mut files = self.files();
        let has_room = files.len() < Self::MOST;
        match files.get_mut(&path) {
            Some(known) if (known.refusal, &known.reason) == (rejection.refusal, &rejection.reason) => {}
            Some(known) => *known = rejection,
            None if has_room => drop(files.insert(path, rejection)),
            None => {}
        }
    }

    /// Forgets a file.
    pub fn forget(&self, path: &str) {
        self.files().remove(path);
    }

    /// Those that are noted, by path.
    pub fn all(&self) -> BTreeMap<String, Rejection> {
        self.files().clone()
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Rejection>> {
        // Nothing in here is left by halves.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a file is not published, or not used as a sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It could not be read.
    Unreadable,
    /// It is over the size limit.
    TooLarge,
    /// It changed while it was read, time and again.
    Unstable,
    /// It is not whole: it does not inflate to its end, or its checksum or length is wrong.
    Corrupt,
    /// It does not inflate to the bytes of the file beside it.
    Stale,
    /// Its name cannot be a URL path.
    Name,
    /// It is a link out of the data directory, or to a name that is never published.
    Link,
    /// The memory limit leaves no room for it.
    Memory,
}

impl Refusal {
    /// All of them, in the order of their discriminants.
    pub const ALL: &'static [Refusal] = &[
        Refusal::Unreadable,
        Refusal::TooLarge,
        Refusal::Unstable,
        Refusal::Corrupt,
        Refusal::Stale,
        Refusal::Name,
        Refusal::Link,
        Refusal::Memory,
    ];

    /// As a metric's label.
    pub const fn label(self) -> &'static str {
        match self {
            Refusal::Unreadable => "unreadable",
            Refusal::TooLarge => "too_large",
            Refusal::Unstable => "unstable",
            Refusal::Corrupt => "corrupt",
            Refusal::Stale => "stale",
            Refusal::Name => "name",
            Refusal::Link => "link",
            Refusal::Memory => "memory",
        }
    }
}

impl FeedStats {
    /// Counts a refusal.
    pub fn refuse(&self, refusal: Refusal) {
        self.refused[refusal as usize].add(1);
    }
}
