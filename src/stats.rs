//! Counters. Each worker has its own, on its own cache lines, written with plain stores by that worker alone and summed
//! by whoever reads them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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
    /// Connections cut by a deadline without an answer.
    pub timed_out: Counter,
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
