//! One worker without its runtime: what its futures do around the connections, in the order that the schedule picks.
//!
//! Slots, batches, arrears and the budget are the server's own.

use std::{
    collections::BTreeMap,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use cloudia::{
    listen::trusted::Trusted,
    serve::{Connection, Desk, Wait, status::Status},
    stats::WorkerStats,
    worker::{
        self, Budget, Client as Address,
        arrears::Arrears,
        batch::Batch,
        slots::{Place, Slot, Slots},
    },
};

use super::{
    peer::{Call, Cause, Patience, Peer},
    pipe::{End, Weather},
    public::Public,
    reader::Reader,
    tally::{Event, Tally},
};

/// Half seconds that the end may take.
const GRACE: u32 = 20;
/// Connections that may linger with a 503.
const LINGERING: usize = 4;

pub(super) struct Host {
    number: usize,
    pub(super) desk: Desk,
    pub(super) stats: Arc<WorkerStats>,
    slots: Slots<End>,
    batch: Batch,
    arrears: Arrears,
    pub(super) patience: Patience,
    max_connections: usize,
    evicts_idle: bool,
    unfinished: usize,
    nudged: Arc<AtomicBool>,
    lingering: usize,
    draining: Option<u32>,
    /// The peers, by the numbers of their slots.
    owners: Vec<Option<usize>>,
    /// Half seconds that its ticks are late.
    pub(super) late: u32,
}

/// What a worker is made of.
pub(super) struct Terms {
    pub(super) patience: Patience,
    pub(super) max_connections: usize,
    pub(super) evicts_idle: bool,
    pub(super) unfinished: usize,
}

/// What all workers share with the world.
pub(super) struct Around<'w> {
    pub(super) public: &'w Public,
    pub(super) reader: &'w mut Reader,
    pub(super) tally: &'w Tally,
    pub(super) budget: &'w Budget,
    pub(super) max_of_all: usize,
    pub(super) peers: &'w mut Vec<Option<Peer>>,
}

impl Around<'_> {
    fn peer(&mut self, at: usize) -> &mut Peer {
        self.peers[at].as_mut().expect("a connection without a client")
    }

    fn settle(&mut self, at: usize, call: Call, draining: bool) {
        let Self { public, reader, tally, peers, .. } = self;
        let peer = peers[at].as_mut().expect("a connection without a client");
        peer.settle(call, draining, public, reader, tally);
    }
}

impl Host {
    pub(super) fn new(number: usize, public: &Public, terms: &Terms) -> Host {
        let stats = Arc::new(WorkerStats::default());
        let Patience { idle, head, send } = terms.patience;
        let patience = cloudia::serve::Patience::from_secs(idle, head, send);
        let mut desk = Desk::new(public.store.clone(), stats.clone(), patience);
        // Not the first tick of all, lest a deadline that is never set passes for one of 0.
        desk.tick = 1000;
        desk.clock = public.clock();
        let nudged = Arc::new(AtomicBool::default());
        let flag = nudged.clone();
        desk.nudge = Some(Arc::new(move || flag.store(true, Ordering::Relaxed)));
        Host {
            number,
            desk,
            stats,
            slots: Slots::default(),
            batch: Batch::default(),
            arrears: Arrears::with_bound(terms.unfinished),
            patience: terms.patience,
            max_connections: terms.max_connections,
            evicts_idle: terms.evicts_idle,
            unfinished: terms.unfinished,
            nudged,
            lingering: 0,
            draining: None,
            owners: Vec::new(),
            late: 0,
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// Connections that count.
    pub(super) fn open(&self) -> usize {
        self.stats.open.get() as usize
    }

    /// Takes a client in, or refuses it. `exhausted`: there are no descriptors but the one in reserve.
    pub(super) fn accept(&mut self, mut peer: Peer, address: Address, exhausted: bool, around: &mut Around<'_>) {
        self.desk.clock = around.public.clock();
        self.stats.accepted.add(1);
        around.tally.note(Event::Connected);
        let client = around.budget.counts_clients().then_some(address);
        let within = !exhausted && self.admit(client, around);
        let mut connection = Connection::new(&self.desk);
        let end = peer.end.clone();
        peer.begin();
        if !within {
            self.stats.shed.add(1);
            if exhausted {
                around.tally.note(Event::Exhausted);
            }
            connection.refuse(&end, &mut self.desk);
            peer.place = Place::Refused;
            peer.settle(Call::Refuse, false, around.public, around.reader, around.tally);
            assert!(
                peer.is_over || end.pipe().broken || end.pipe().outstanding() > 0,
                "it was not told of the refusal"
            );
        }
        if !within && (exhausted || self.lingering >= LINGERING) {
            peer.check_end(around.tally);
            return;
        }
        match within {
            true => self.stats.open.add(1),
            false => self.lingering += 1,
        }
        let place = if within { Place::Counted } else { Place::Refused };
        let slot = Slot::new(end, place, connection);
        let id = self.slots.insert(slot, client.filter(|_| within));
        (peer.id, peer.address) = (id, client.filter(|_| within));
        let free = around.peers.iter().position(Option::is_none).unwrap_or(around.peers.len());
        if free == around.peers.len() {
            around.peers.push(None);
        }
        around.peers[free] = Some(peer);
        if self.owners.len() <= id as usize {
            self.owners.resize(id as usize + 1, None);
        }
        assert_eq!(self.owners[id as usize].replace(free), None, "two connections have one number");
    }

    /// A place for a connection: it must be had exactly if there is one.
    fn admit(&mut self, client: Option<Address>, around: &mut Around<'_>) -> bool {
        let of_client = |peer: &&Peer| client.is_some() && peer.address == client;
        let held = around.peers.iter().flatten().filter(of_client).count();
        let may = client.is_none() || held < MAX_OF_CLIENT as usize;
        assert_eq!(client.is_none_or(|client| around.budget.take_of(client)), may, "{held} connections of one client");
        if !may {
            around.tally.note(Event::OverClient);
            return false;
        }
        let counted = around.peers.iter().flatten().filter(|peer| peer.place == Place::Counted);
        let (all, mine) =
            counted.fold((0, 0), |(all, mine), peer| (all + 1, mine + usize::from(peer.host == self.number)));
        assert_eq!(mine, self.open());
        let has_room = mine < self.max_connections && all < around.max_of_all;
        let admitted = mine < self.max_connections && around.budget.take();
        assert_eq!(admitted, has_room, "{all} connections, {mine} of this worker");
        let admitted = admitted || (self.evicts_idle && self.evict(around));
        if !admitted {
            around.tally.note(Event::OverBudget);
        }
        if !admitted && let Some(client) = client {
            around.budget.give_back_of(client);
        }
        admitted
    }

    /// Closes the connection that has been idle for longest, for another.
    fn evict(&mut self, around: &mut Around<'_>) -> bool {
        let Some(id) = self.slots.evict_longest_idle(&self.desk.patience, self.desk.tick) else { return false };
        if let Some(client) = self.slots.take_client(id) {
            around.budget.give_back_of(client);
        }
        self.slots.get(id).expect("an evicted connection has a slot").place = Place::Ceded;
        self.stats.open.sub(1);
        self.stats.evicted.add(1);
        around.tally.note(Event::Evicted);
        let at = self.owners[id as usize].expect("an evicted connection has a client");
        let since = around.peer(at).idle_since();
        let of_this = |peer: &&Peer| peer.host == self.number && peer.place == Place::Counted && peer.cause.is_none();
        // A worker that is late counts half a second less.
        let longest = around.peers.iter().flatten().filter(of_this).filter_map(Peer::evictable_since).min();
        let peer = around.peer(at);
        assert_eq!((peer.place, peer.cause), (Place::Counted, None));
        assert!(peer.end.pipe().shut && since.is_some(), "it is evicted and was not idle");
        assert!(
            longest.is_none_or(|longest| since <= Some(longest + 1)),
            "another was idle for longer: {longest:?} {since:?}"
        );
        (peer.place, peer.address, peer.cause) = (Place::Ceded, None, Some(Cause::Evicted));
        true
    }

    /// Serves these connections, side by side where they wait for bytes.
    pub(super) fn serve(&mut self, ats: &[usize], around: &mut Around<'_>) {
        self.desk.clock = around.public.clock();
        let draining = self.is_draining();
        let mut together = Vec::new();
        for &at in ats {
            let peer = around.peer(at);
            peer.begin();
            peer.nudged = false;
            if peer.wait == Wait::Readable {
                together.push(peer.id);
            }
        }
        if together.len() > 1 {
            around.tally.note(Event::SideBySide);
        }
        self.batch.serve(&together, &mut self.slots, &mut self.desk, &Trusted::default());
        for &at in ats {
            let peer = around.peer(at);
            let slot = self.slots.get(peer.id).expect("a connection has a slot");
            let wait = match peer.wait {
                Wait::Readable => slot.wait,
                _ => slot.connection.on_ready(&slot.socket, &mut self.desk),
            };
            around.peer(at).wait = wait;
            around.settle(at, Call::Serve, draining);
            self.served(at, around);
        }
    }

    fn served(&mut self, at: usize, around: &mut Around<'_>) {
        let tally = around.tally;
        let peer = around.peer(at);
        match peer.wait {
            Wait::Closed => return self.release(at, around),
            Wait::Writable => tally.note(Event::Blocked),
            Wait::Inflated => tally.note(Event::Inflated),
            Wait::Others => tally.note(Event::Yielded),
            Wait::Readable => {}
        }
        self.check(at, false, around);
    }

    /// What must hold of a connection that waits.
    pub(super) fn check(&mut self, at: usize, thoroughly: bool, around: &mut Around<'_>) {
        let peer = around.peer(at);
        let slot = self.slots.get(peer.id).expect("a connection has a slot");
        peer.check_wait(slot.connection.holds(|_, _| {}), thoroughly);
    }

    fn release(&mut self, at: usize, around: &mut Around<'_>) {
        let peer = around.peers[at].take().expect("it was there");
        peer.check_end(around.tally);
        self.owners[peer.id as usize] = None;
        let client = self.slots.take_client(peer.id);
        let slot = self.slots.remove(peer.id).expect("a connection has a slot");
        assert_eq!((client, slot.place), (peer.address, peer.place));
        match slot.place {
            Place::Counted => {
                around.budget.give_back();
                if let Some(client) = client {
                    around.budget.give_back_of(client);
                }
                self.stats.open.sub(1);
            }
            Place::Refused => self.lingering -= 1,
            Place::Ceded => {}
        }
        assert!(self.slots.remove(peer.id).is_none() && self.slots.get(peer.id).is_none());
    }

    /// So many ticks have passed.
    pub(super) fn tick(&mut self, count: u32, around: &mut Around<'_>) {
        self.desk.tick += count;
        self.desk.clock = around.public.clock();
        let half = around.public.half;
        let closing = self.draining.and_then(|since| worker::closing(since, GRACE, self.desk.tick));
        let ids = self.ids();
        assert_eq!(ids.len(), self.slots.iter_mut().count());
        assert_eq!(ids.len(), self.slots.len());
        for &(id, at) in &ids {
            let slot = self.slots.get(id).expect("a connection has a slot");
            let tally = around.tally;
            let peer = around.peer(at);
            if slot.connection.deadline() <= self.desk.tick {
                peer.check_due(&self.patience, half);
                peer.begin();
                let was_lingering = peer.end.pipe().write_is_shut;
                slot.connection.on_deadline(&slot.socket, &mut self.desk);
                let is_shut = peer.end.pipe().shut;
                if is_shut {
                    peer.cause = Some(Cause::Deadline);
                    tally.note(if was_lingering { Event::LingeredEnough } else { Event::TimedOut });
                    assert!(peer.end.pipe().forgotten, "the kernel keeps what nobody takes");
                } else {
                    // It lingers: what it waits for is bytes, whatever it was before.
                    assert!(peer.end.pipe().write_is_shut);
                }
                around.settle(at, Call::Deadline, false);
            } else if closing.is_some_and(|(turn, turns)| id % turns < turn)
                && slot.connection.close_if_idle(&slot.socket)
                && peer.cause.is_none()
            {
                peer.cause = Some(Cause::DrainClosed);
                around.tally.note(Event::DrainClosed);
            }
            around.peer(at).check_not_overdue(&self.patience, half, self.late);
        }
        self.cut(&ids, around);
        for &(id, at) in &ids {
            let is_over = self.slots.get(id).is_none_or(|slot| slot.connection.deadline() == u32::MAX);
            around.peer(at).nudged |= is_over;
        }
    }

    /// Cuts those that hold too much.
    fn cut(&mut self, ids: &[(u32, usize)], around: &mut Around<'_>) {
        let counted = self.arrears.count(&mut self.slots);
        assert_eq!(counted, self.held(), "bytes that connections hold");
        loop {
            let is_over = self.held() > self.unfinished;
            let Some(held) = self.arrears.cut_one(&mut self.slots, &self.desk) else { break };
            drop(held);
            assert!(is_over, "it is cut, and no more is held than may be");
            let cut = ids.iter().find(|(_, at)| {
                let peer = around.peer(*at);
                peer.end.pipe().shut && peer.cause.is_none()
            });
            let (_, at) = cut.expect("who was cut is shut");
            around.peer(*at).cause = Some(Cause::Abandoned);
            around.tally.note(Event::Abandoned);
        }
        // Who holds a little is not worth it.
        assert!(self.held() <= self.unfinished + 4096 * ids.len(), "more is held than may be");
    }

    /// Wakes those that wait for a content, if one has come.
    pub(super) fn hear_nudge(&mut self, around: &mut Around<'_>) {
        if self.nudged.swap(false, Ordering::Relaxed) {
            for at in self.owners.iter().flatten() {
                let peer = around.peer(*at);
                peer.nudged |= peer.wait == Wait::Inflated;
            }
        }
    }

    /// Accepts nobody any more, and tells everybody.
    pub(super) fn drain(&mut self, tally: &Tally) {
        if self.draining.is_none() {
            self.desk.draining = true;
            self.draining = Some(self.desk.tick);
            tally.note(Event::Drained);
        }
    }

    /// Cuts those that hold too much, as it does with every tick, and forgets the answers at hand with what they are made of.
    pub(super) fn tidy(&mut self, around: &mut Around<'_>) {
        let ids = self.ids();
        self.cut(&ids, around);
        let nobody = End::new(0, Weather::Calm, 10_000, &Rc::new(Tally::new()));
        Connection::new(&self.desk).refuse(&nobody, &mut self.desk);
        around.tally.note_status(503);
        around.tally.note_sent(nobody.pipe().accepted);
    }

    /// Where the bodies lie that connections hold besides those that the store has.
    pub(super) fn pinned(&mut self) -> Vec<usize> {
        let mut places = Vec::new();
        for (_, slot) in self.slots.iter_mut() {
            slot.connection.holds(|place, _| places.push(place));
        }
        places
    }

    /// Bytes that connections hold, a body once however many have it.
    fn held(&mut self) -> usize {
        let mut pinned = BTreeMap::new();
        let mut own = 0;
        for (_, slot) in self.slots.iter_mut() {
            own += slot.connection.holds(|place, len| _ = pinned.insert(place, len));
        }
        own + pinned.values().sum::<usize>()
    }

    fn ids(&self) -> Vec<(u32, usize)> {
        (0..).zip(&self.owners).filter_map(|(id, owner)| Some((id, (*owner)?))).collect()
    }

    /// What workers have counted in their lives, against what was seen of all of them.
    pub(super) fn check_counts(hosts: &[Host], tally: &Tally) {
        let sum = |count: &dyn Fn(&WorkerStats) -> u64| hosts.iter().map(|host| count(&host.stats)).sum::<u64>();
        for status in Status::ALL {
            assert_eq!(sum(&|stats| stats.requests(*status)), tally.status(status.code()), "{status:?}");
        }
        assert_eq!(sum(&|stats| stats.sent_bytes.get()), tally.sent(), "bytes");
        assert_eq!(sum(&|stats| stats.cut.get()), tally.count(Event::Abandoned));
        assert_eq!(sum(&|stats| stats.timed_out.get()), tally.count(Event::TimedOut));
        assert_eq!(sum(&|stats| stats.panics.get()), 0, "something panicked");
        assert_eq!(sum(&|stats| stats.open.get()), 0, "something is open");
    }
}

/// Connections of one client.
pub(super) const MAX_OF_CLIENT: u32 = 7;
