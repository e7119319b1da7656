//! The world that a seed makes, and the schedule: what happens next is picked at random, and nothing else decides it.

use std::{cell::Cell, rc::Rc};

use cloudia::worker::{Budget, Client as Address};

use super::{
    client::{Appetite, Client, Move, Requests},
    host::{Around, Host, MAX_OF_CLIENT, Terms},
    peer::{Patience, Peer},
    pipe::{End, Weather},
    public::Public,
    reader::Reader,
    tally::{Event, Tally},
};
use crate::{
    fuzz::values::{one_in, pick},
    harness::Rng,
};

/// Steps that a world lasts before it runs dry: short enough to be repeated in a moment.
pub(super) const STEPS: u64 = 10_000;

/// Steps that are told of after a failure.
const TOLD: usize = 40;

thread_local! {
    /// The last steps: a failure tells of them.
    static TRACE: Cell<Vec<(u64, &'static str, usize)>> = const { Cell::new(Vec::new()) };
}

pub(super) struct World {
    rng: Rng,
    public: Public,
    hosts: Vec<Host>,
    peers: Vec<Option<Peer>>,
    budget: Budget,
    max_of_all: usize,
    requests: Requests,
    weather: Weather,
    /// Connections that it is meant to have.
    crowd: usize,
    unfinished: usize,
    drains_at: u64,
    tally: Rc<Tally>,
    pub(super) steps: u64,
    /// What was done and seen, in a number.
    pub(super) digest: u64,
}

impl World {
    pub(super) fn new(seed: u64, tally: &Rc<Tally>) -> World {
        TRACE.set(Vec::new());
        let mut rng = Rng::with_seed(seed);
        let room = pick(&mut rng, &[80_000, 200_000, 2_000_000]);
        let public = Public::new(&mut rng, room, tally);
        let unfinished = pick(&mut rng, &[60_000, 400_000, 64 << 20]);
        let terms = Terms {
            patience: Patience {
                idle: pick(&mut rng, &[2, 5, 20, 75]),
                head: pick(&mut rng, &[1, 3, 10]),
                send: pick(&mut rng, &[1, 3, 30, 30]),
            },
            max_connections: pick(&mut rng, &[4, 12, 100]),
            evicts_idle: one_in(&mut rng, 2),
            unfinished,
        };
        let hosts = (0..1 + rng.below(3)).map(|number| Host::new(number, &public, &terms)).collect();
        let per_client = (!one_in(&mut rng, 3)).then_some(MAX_OF_CLIENT);
        let max_of_all = pick(&mut rng, &[5, 11, 30]);
        World {
            weather: pick(&mut rng, &[Weather::Calm, Weather::Rough, Weather::Stormy, Weather::Stormy]),
            crowd: pick(&mut rng, &[3, 8, 16, 50]),
            drains_at: if one_in(&mut rng, 2) { STEPS - 1000 - rng.below(2000) as u64 } else { u64::MAX },
            rng,
            public,
            hosts,
            peers: Vec::new(),
            budget: Budget::new(max_of_all, per_client),
            max_of_all,
            requests: Requests::default(),
            unfinished,
            tally: tally.clone(),
            steps: 0,
            digest: seed,
        }
    }

    fn trace(&mut self, what: &'static str, who: usize) {
        self.steps += 1;
        self.digest =
            (self.digest ^ who as u64 ^ what.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
        let mut trace = TRACE.take();
        if trace.len() == 2 * TOLD {
            trace.drain(..TOLD);
        }
        trace.push((self.steps, what, who));
        TRACE.set(trace);
    }

    /// Everything that a schedule does: a life, and an end.
    pub(super) fn live(&mut self, reader: &mut Reader) {
        while self.steps < STEPS {
            // Where nothing can be done of what was picked, something else is.
            if self.steps >= self.drains_at {
                self.drains_at = u64::MAX;
                self.hosts.iter_mut().for_each(|host| host.drain(&self.tally));
            }
            self.step(reader);
            if self.steps.is_multiple_of(512) {
                self.settle(reader);
            }
        }
        self.run_dry(reader);
        self.check_at_end();
    }

    fn step(&mut self, reader: &mut Reader) {
        let wanted = self.crowd.saturating_sub(self.peers.iter().flatten().count());
        match self.rng.below(100) {
            0..3 if wanted > 0 => self.connect(reader),
            0..2 => self.connect(reader),
            3..36 => self.say(),
            36..58 => self.read(),
            58..88 => self.serve(reader),
            88..91 => self.wake_without_cause(reader),
            91..94 => self.inflate(reader),
            94..96 => {
                self.trace("a file changes", 0);
                self.public.change_file(&mut self.rng, &self.tally);
            }
            96 => {
                self.trace("quotes change", 0);
                self.public.change_quotes(&mut self.rng, &self.tally);
            }
            _ => self.pass(reader),
        }
    }

    /// One of the peers of which `holds` is true.
    fn any(&mut self, holds: impl Fn(&Peer) -> bool) -> Option<usize> {
        let count = self.peers.len();
        let first = self.rng.below(count.max(1));
        (0..count).map(|at| (first + at) % count).find(|at| self.peers[*at].as_ref().is_some_and(&holds))
    }

    /// Calls a worker.
    fn on<R>(&mut self, host: usize, reader: &mut Reader, call: impl FnOnce(&mut Host, &mut Around<'_>) -> R) -> R {
        let Self { public, tally, budget, max_of_all, peers, hosts, .. } = self;
        call(&mut hosts[host], &mut Around { public, reader, tally, budget, max_of_all: *max_of_all, peers })
    }

    fn connect(&mut self, reader: &mut Reader) {
        let at = self.rng.below(self.hosts.len());
        if self.hosts[at].is_draining() {
            return self.pass(reader);
        }
        self.trace("connects to worker", at);
        let room = pick(&mut self.rng, &[3000, 16_384, 70_000, 400_000, 400_000]);
        let end = End::new(self.rng.next(), self.weather, room, &self.tally);
        let peer = Peer::new(end, Client::new(&mut self.rng), at, self.public.half);
        let addresses = ["192.0.2.1:1", "192.0.2.2:1", "[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8:0:1::]:1"];
        let address = Address::of(pick(&mut self.rng, &addresses).parse().unwrap());
        let exhausted = one_in(&mut self.rng, 40);
        self.on(at, reader, |host, around| host.accept(peer, address, exhausted, around));
    }

    fn say(&mut self) {
        let can_speak = |peer: &Peer| {
            let pipe = peer.end.pipe();
            !pipe.fin && !pipe.reset && pipe.waiting() < 200_000 && peer.client.has_plans()
        };
        let Some(at) = self.any(can_speak) else { return };
        let peer = self.peers[at].as_mut().unwrap();
        if one_in(&mut self.rng, 700) && self.weather == Weather::Stormy {
            peer.end.pipe_mut().reset = true;
            self.tally.note(Event::ClientReset);
            return self.trace("resets", at);
        }
        let (next, begun) = peer.client.next(&mut self.rng, &mut self.requests, &self.public);
        if begun > 1 {
            self.tally.note(Event::Pipelined);
        }
        match next {
            Move::Send(bytes) => {
                if peer.client.is_bytewise() {
                    self.tally.note(Event::SentBytewise);
                }
                peer.end.pipe_mut().arrive(&bytes);
                self.digest ^= bytes.len() as u64;
                self.trace("speaks", at);
            }
            Move::Close => {
                peer.end.pipe_mut().fin = true;
                self.tally.note(Event::HalfClosed);
                self.trace("closes its half", at);
            }
            Move::Nothing => self.trace("falls silent", at),
        }
    }

    fn read(&mut self) {
        let can_read = |peer: &Peer| {
            let pipe = peer.end.pipe();
            let sees_end = pipe.write_is_shut && !pipe.fin;
            (pipe.unread > 0 || sees_end) && peer.client.appetite != Appetite::Never
        };
        let Some(at) = self.any(can_read) else { return };
        let peer = self.peers[at].as_ref().unwrap();
        let most = match peer.client.appetite {
            Appetite::All => usize::MAX,
            _ => 1 + self.rng.below(6000),
        };
        if most < usize::MAX {
            self.tally.note(Event::ReadSlowly);
        }
        let mut pipe = peer.end.pipe_mut();
        pipe.read(most);
        if pipe.unread == 0 && pipe.write_is_shut && one_in(&mut self.rng, 2) {
            pipe.fin = true;
        }
        drop(pipe);
        self.trace("reads", at);
    }

    /// Some of those that are ready, in any order.
    fn serve(&mut self, reader: &mut Reader) {
        let host = self.rng.below(self.hosts.len());
        let mut ready = self.ready(host);
        if ready.is_empty() {
            return;
        }
        let count = 1 + self.rng.below(ready.len());
        for at in 0..count {
            let other = at + self.rng.below(ready.len() - at);
            ready.swap(at, other);
        }
        ready.truncate(count);
        ready.iter().for_each(|at| self.trace("is served", *at));
        self.on(host, reader, |host, around| host.serve(&ready, around));
    }

    fn ready(&self, host: usize) -> Vec<usize> {
        let is_ready = |peer: &Peer| peer.host == host && peer.is_ready();
        (0..self.peers.len()).filter(|at| self.peers[*at].as_ref().is_some_and(is_ready)).collect()
    }

    /// A wait may end for nothing.
    fn wake_without_cause(&mut self, reader: &mut Reader) {
        let Some(at) = self.any(|_| true) else { return };
        self.trace("is served for nothing", at);
        self.tally.note(Event::SpuriousWake);
        let host = self.peers[at].as_ref().unwrap().host;
        self.on(host, reader, |host, around| host.serve(&[at], around));
    }

    fn inflate(&mut self, reader: &mut Reader) {
        if !self.public.store.identities().serve_one() {
            return;
        }
        self.trace("a content is inflated", 0);
        for host in 0..self.hosts.len() {
            self.on(host, reader, Host::hear_nudge);
        }
    }

    /// Half a second passes. A worker may be so busy that it is late.
    fn pass(&mut self, reader: &mut Reader) {
        self.trace("half a second passes", 0);
        self.tally.note(Event::Ticked);
        self.public.pass(1);
        for host in 0..self.hosts.len() {
            if self.hosts[host].late == 0 && one_in(&mut self.rng, 12) {
                self.hosts[host].late = 1;
                self.tally.note(Event::TickMissed);
                continue;
            }
            let count = 1 + std::mem::take(&mut self.hosts[host].late);
            self.on(host, reader, |host, around| host.tick(count, around));
        }
    }

    /// Serves all that is ready until nothing is: then each must wait for what its client has not done.
    fn settle(&mut self, reader: &mut Reader) {
        for _ in 0..2000 {
            let mut is_quiet = true;
            while self.public.store.identities().serve_one() {}
            for host in 0..self.hosts.len() {
                self.on(host, reader, Host::hear_nudge);
                let ready = self.ready(host);
                is_quiet &= ready.is_empty();
                ready.iter().for_each(|at| self.trace("is served", *at));
                self.on(host, reader, |host, around| host.serve(&ready, around));
            }
            if is_quiet {
                self.check_quiet(reader);
                return self.check_memory(reader);
            }
        }
        panic!("it does not come to rest");
    }

    fn check_quiet(&mut self, reader: &mut Reader) {
        for at in 0..self.peers.len() {
            if let Some(peer) = &self.peers[at] {
                let host = peer.host;
                assert!(peer.wait != cloudia::serve::Wait::Inflated, "it waits for a content that nobody inflates");
                self.on(host, reader, |host, around| host.check(at, true, around));
            }
        }
    }

    /// Versions that only readers hold are no more than they may be.
    fn check_memory(&mut self, reader: &mut Reader) {
        for host in 0..self.hosts.len() {
            self.on(host, reader, Host::tidy);
        }
        let pinned: Vec<usize> = self.hosts.iter_mut().flat_map(Host::pinned).collect();
        self.public.check_pinned(&pinned);
        let (bytes, most) = (self.public.lingering_bytes(), self.unfinished * self.hosts.len());
        assert!(bytes <= most, "{bytes} bytes of old versions are held, {most} may be");
    }

    /// No client says anything more; some of them read what there is. All connections end.
    fn run_dry(&mut self, reader: &mut Reader) {
        for peer in self.peers.iter_mut().flatten() {
            peer.client.fall_silent();
        }
        for round in 0..2000 {
            self.settle(reader);
            if self.peers.iter().all(Option::is_none) {
                return;
            }
            for at in 0..self.peers.len() {
                if self.peers[at].as_ref().is_some_and(|peer| peer.client.appetite != Appetite::Never) {
                    self.peers[at].as_ref().unwrap().end.pipe_mut().read(if round < 10 { usize::MAX } else { 5000 });
                }
            }
            self.pass(reader);
        }
        panic!(
            "connections stay for ever: {:?}",
            self.peers.iter().flatten().map(|peer| peer.wait).collect::<Vec<_>>()
        );
    }

    /// Nobody is there: nothing may be left.
    fn check_at_end(&mut self) {
        Host::check_counts(&self.hosts, &self.tally);
        assert_eq!(self.public.lingering_bytes(), 0, "versions that nobody reads are still there");
        let places = (0..=self.max_of_all).filter(|_| self.budget.take()).count();
        assert_eq!(places, self.max_of_all, "not all places have come back");
    }
}

/// Says how a failure is repeated.
pub(super) struct Told(pub(super) u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let trace = TRACE.take();
            for (step, what, who) in &trace[trace.len().saturating_sub(TOLD)..] {
                eprintln!("{step}: {who} {what}");
            }
            eprintln!("CLOUDIA_TEST_SEED={} CLOUDIA_TEST_STEPS=1", self.0);
        }
    }
}
