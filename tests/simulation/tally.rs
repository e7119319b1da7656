//! What has happened in a simulation, counted: a schedule in which something never happens proves nothing of it.

use std::cell::Cell;

macro_rules! events {
    ($($event:ident)*) => {
        /// What is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Event { $($event),* }

        impl Event {
            pub(super) const ALL: &[Event] = &[$(Event::$event),*];
        }
    };
}

events! {
    // Of sockets.
    Interrupted WouldBlock ShortReceive ShortSend NothingSent NoBuffers ConnectionReset BrokenPipe SpuriousWake
    // Of clients.
    Connected Pipelined HalfClosed ClientReset ReadSlowly SentBytewise
    // Of the world.
    FilePut FileRemoved FileImproved QuotesChanged Ticked TickMissed Drained
    // Of workers.
    SideBySide Deferred Blocked Inflated Yielded Evicted Abandoned TimedOut DrainClosed OverBudget OverClient Exhausted Lingered LingeredEnough
    // Of answers.
    Answered ListAnswered ToldOfTheEnd CutShort SeenInParts
}

/// The counts of one run, which takes place on one thread.
pub(super) struct Tally {
    events: Vec<Cell<u64>>,
    statuses: Vec<Cell<u64>>,
    /// Bytes that kernels have taken.
    sent: Cell<u64>,
}

impl Tally {
    pub(super) fn new() -> Tally {
        let zeros = |len: usize| (0..len).map(|_| Cell::new(0)).collect();
        Tally { events: zeros(Event::ALL.len()), statuses: zeros(600), sent: Cell::new(0) }
    }

    pub(super) fn note(&self, event: Event) {
        let count = &self.events[event as usize];
        count.set(count.get() + 1);
    }

    pub(super) fn count(&self, event: Event) -> u64 {
        self.events[event as usize].get()
    }

    pub(super) fn note_status(&self, status: u16) {
        let count = &self.statuses[usize::from(status)];
        count.set(count.get() + 1);
    }

    pub(super) fn note_sent(&self, bytes: u64) {
        self.sent.set(self.sent.get() + bytes);
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// How often a status was answered.
    pub(super) fn status(&self, status: u16) -> u64 {
        self.statuses[usize::from(status)].get()
    }

    /// Adds what has happened in one world.
    pub(super) fn add(&self, world: &Tally) {
        let both = self.events.iter().chain(&self.statuses).zip(world.events.iter().chain(&world.statuses));
        both.for_each(|(sum, one)| sum.set(sum.get() + one.get()));
        self.sent.set(self.sent.get() + world.sent.get());
    }

    /// The statuses that were answered, and how often.
    pub(super) fn statuses(&self) -> impl Iterator<Item = (u16, u64)> {
        (0..).zip(&self.statuses).map(|(status, count)| (status, count.get())).filter(|(_, count)| *count > 0)
    }

    /// What never happened.
    pub(super) fn missing(&self) -> Vec<Event> {
        Event::ALL.iter().copied().filter(|event| self.count(*event) == 0).collect()
    }

    /// A line for people.
    pub(super) fn summary(&self) -> String {
        let events = Event::ALL.iter().map(|event| format!("{event:?} {}", self.count(*event)));
        let statuses = self.statuses().map(|(status, count)| format!("{status}: {count}"));
        format!("{}; {}", events.collect::<Vec<_>>().join(", "), statuses.collect::<Vec<_>>().join(", "))
    }
}
