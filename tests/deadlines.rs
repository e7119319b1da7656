//! Wire section 7: every deadline of a connection, without a network and without waiting.
//!
//! The desk's clock is turned by hand. A deadline of n seconds is not met before n seconds are over, and is met
//! within one second more.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    sync::Arc,
};

use cloudia::{
    limits::{SEND_SLICES, TICKS_PER_SECOND},
    serve::{Connection, Desk, Patience, Socket, Wait, output::Output},
    stats::WorkerStats,
    store::{Bodies, Change, Entry, Store},
};

use crate::cases::{get, get_with, with_host};

/// The defaults.
const IDLE: u32 = 75;
const HEAD: u32 = 10;
const SEND: u32 = 30;

/// What an answer may take however steadily it goes, besides a second for each 4 KiB.
const ANSWER: u32 = 60;
const BYTES_PER_SECOND: usize = 4096;

const LARGE: usize = 100 * BYTES_PER_SECOND;

/// A client: what it has sent and not yet been received, and how much it takes.
#[derive(Default)]
struct Client {
    incoming: RefCell<VecDeque<u8>>,
    /// Bytes that the socket takes before it is full.
    room: Cell<usize>,
    taken: RefCell<Vec<u8>>,
    write_is_shut: Cell<bool>,
    shut: Cell<bool>,
}

impl Socket for Client {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut incoming = self.incoming.borrow_mut();
        if incoming.is_empty() {
            return if self.shut.get() { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let len = incoming.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(incoming.drain(..len)) {
            *to = from;
        }
        Ok(len)
    }

    fn send(&self, output: &Output) -> io::Result<usize> {
        assert!(!self.write_is_shut.get(), "a send after the last word");
        if self.room.get() == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut slices = [io::IoSlice::new(&[]); SEND_SLICES];
        let mut sent = 0;
        for slice in output.slices(&mut slices) {
            let len = slice.len().min(self.room.get());
            self.taken.borrow_mut().extend_from_slice(&slice[..len]);
            self.room.set(self.room.get() - len);
            sent += len;
        }
        Ok(sent)
    }

    fn is_quiet(&self) -> bool {
        self.incoming.borrow().is_empty()
    }

    fn shut_write(&self) {
        self.write_is_shut.set(true);
    }

    fn shut(&self) {
        self.shut.set(true);
    }
}

/// One connection at a desk whose clock a test turns.
struct Scene {
    desk: Desk,
    stats: Arc<WorkerStats>,
    connection: Connection,
    client: Client,
    wait: Wait,
}

/// How a connection stands.
#[derive(Debug, PartialEq)]
enum Fate {
    Open,
    /// Closed without a word.
    Cut,
    /// Told with this status that it is the end.
    Told(u16),
}

impl Scene {
    /// Just accepted, by a client that takes everything.
    fn new() -> Scene {
        Scene::with(Patience::from_secs(IDLE, HEAD, SEND))
    }

    fn with(patience: Patience) -> Scene {
        let stats = Arc::new(WorkerStats::default());
        let mut desk = Desk::new(store(), stats.clone(), patience);
        // Not the first tick of all, lest a deadline that is never set passes for one of 0.
        desk.tick = 1000;
        let connection = Connection::new(&desk);
        let client = Client { room: Cell::new(usize::MAX), ..Client::default() };
        Scene { desk, stats, connection, client, wait: Wait::Readable }
    }

    /// After its first answer.
    fn idle() -> Scene {
        let mut scene = Scene::new();
        scene.say(get("/small.txt"));
        assert_eq!(scene.answers(), [200]);
        scene.client.taken.borrow_mut().clear();
        scene
    }

    /// With a large answer that begins, to a client that takes `room` bytes of it.
    fn writing(room: usize) -> Scene {
        let mut scene = Scene::idle();
        scene.client.room.set(room);
        scene.say(get("/large.txt"));
        assert_eq!(scene.wait, Wait::Writable);
        scene
    }

    /// The client sends.
    fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.client.incoming.borrow_mut().extend(bytes.as_ref());
        self.run();
    }

    /// The client takes up to so many bytes more.
    fn take(&mut self, bytes: usize) {
        self.client.room.set(self.client.room.get().saturating_add(bytes));
        self.run();
    }

    /// Calls the connection as long as what it waits for is there.
    fn run(&mut self) {
        loop {
            let ready = match self.wait {
                Wait::Readable => !self.client.is_quiet() || self.client.shut.get(),
                Wait::Writable => self.client.room.get() > 0 || self.client.shut.get(),
                Wait::Inflated | Wait::Others => unreachable!("nothing here is inflated elsewhere or takes long"),
                Wait::Closed => false,
            };
            if !ready {
                return;
            }
            self.wait = self.connection.on_ready(&self.client, &mut self.desk);
        }
    }

    /// Time passes, tick by tick, as the worker would see it.
    fn pass_ticks(&mut self, ticks: u32) {
        for _ in 0..ticks {
            self.desk.tick += 1;
            if self.wait != Wait::Closed && self.connection.deadline() <= self.desk.tick {
                self.connection.on_deadline(&self.client, &mut self.desk);
                self.run();
            }
        }
    }

    fn pass(&mut self, secs: u32) {
        self.pass_ticks(secs * TICKS_PER_SECOND);
    }

    fn answers(&self) -> Vec<u16> {
        let taken = self.client.taken.borrow();
        let text = String::from_utf8_lossy(&taken);
        text.match_indices("HTTP/1.1 ").map(|(at, found)| text[at + found.len()..][..3].parse().unwrap()).collect()
    }

    fn fate(&self) -> Fate {
        if self.client.write_is_shut.get() {
            return self.answers().last().map_or(Fate::Cut, |status| Fate::Told(*status));
        }
        if self.wait == Wait::Closed || self.client.shut.get() { Fate::Cut } else { Fate::Open }
    }

    /// From now on it is open for so many seconds, and a second later it has met its fate.
    #[track_caller]
    fn assert_ends_after(&mut self, secs: u32, fate: Fate) {
        self.pass(secs);
        assert_eq!(self.fate(), Fate::Open, "before {secs} s");
        self.pass(1);
        assert_eq!(self.fate(), fate, "after {secs} s and the one it may take");
    }
}

fn store() -> Arc<Store> {
    let store = Store::new();
    for (name, len) in [("/small.txt", 600), ("/large.txt", LARGE)] {
        let entry = Entry::new("text/plain", 1_000_000_000, Bodies::identity(vec![b'x'; len].into()));
        store.apply([Change::Put(name.trim_start_matches('/').as_bytes().into(), Arc::new(entry))]);
    }
    Arc::new(store)
}

#[test]
fn a_silent_client_is_cut_without_a_word() {
    let mut scene = Scene::new();
    scene.assert_ends_after(HEAD, Fate::Cut);
    assert!(scene.client.taken.borrow().is_empty());
    assert_eq!(scene.stats.timed_out.get(), 1);
}

/// For the first request the clock runs from accept, whenever the first byte comes and however many follow.
#[test]
fn the_first_head_has_its_time_from_accept() {
    for silent in [0, 1, 5, 9] {
        let mut scene = Scene::new();
        scene.pass(silent);
        for _ in silent..HEAD {
            scene.say("G");
            assert_eq!(scene.fate(), Fate::Open);
            scene.pass(1);
        }
        scene.pass(1);
        assert_eq!(scene.fate(), Fate::Told(408), "first byte after {silent} s");
        assert_eq!(scene.answers(), [408]);
    }
}

#[test]
fn a_later_head_has_its_time_from_its_first_byte() {
    for idle in [0, 1, 40, IDLE - 1] {
        let mut scene = Scene::idle();
        scene.pass(idle);
        scene.say("GET /small.txt HTTP/1.1\r\n");
        for _ in 1..HEAD {
            scene.pass(1);
            scene.say("X: y\r\n");
            assert_eq!(scene.fate(), Fate::Open, "idle {idle} s");
        }
        scene.pass(2);
        assert_eq!(scene.fate(), Fate::Told(408), "idle {idle} s");
    }
}

/// A head that came behind a whole request begins with that request's answer.
#[test]
fn a_head_behind_a_request_is_a_later_one() {
    let mut scene = Scene::new();
    scene.pass(HEAD - 1);
    scene.say([get("/small.txt"), b"GET /small.txt HT".to_vec()].concat());
    assert_eq!(scene.answers(), [200]);
    scene.assert_ends_after(HEAD, Fate::Told(408));
}

#[test]
fn a_head_in_time_is_answered() {
    for secs in [0, 1, HEAD - 1] {
        let mut scene = Scene::idle();
        scene.say("GET /small.txt HTTP/1.1\r\n");
        scene.pass(secs);
        scene.say("Host: h\r\n\r\n");
        assert_eq!(scene.answers(), [200]);
        scene.assert_ends_after(IDLE, Fate::Cut);
    }
}

#[test]
fn empty_lines_win_no_time() {
    let mut scene = Scene::new();
    for _ in 0..HEAD {
        scene.say("\r\n");
        scene.pass(1);
    }
    scene.pass(1);
    assert_ne!(scene.fate(), Fate::Open);
    let mut scene = Scene::idle();
    for _ in 0..IDLE {
        scene.say("\r\n");
        scene.pass(1);
    }
    scene.pass(1);
    assert_ne!(scene.fate(), Fate::Open);
}

#[test]
fn an_idle_client_is_cut_without_a_word() {
    let mut scene = Scene::idle();
    scene.assert_ends_after(IDLE, Fate::Cut);
    assert!(scene.client.taken.borrow().is_empty());
    assert_eq!(scene.stats.timed_out.get(), 1);
}

#[test]
fn idleness_begins_with_the_last_answer() {
    let mut scene = Scene::idle();
    for request in [get("/small.txt"), get("/none"), get_with("/small.txt", &["If-None-Match: *"])] {
        scene.pass(IDLE - 1);
        scene.say(request);
    }
    assert_eq!(scene.answers(), [200, 404, 304]);
    scene.assert_ends_after(IDLE, Fate::Cut);
    // An answer that took long: it is idle from its last byte.
    let mut scene = Scene::writing(1000);
    scene.pass(SEND - 1);
    scene.take(usize::MAX);
    assert_eq!(scene.wait, Wait::Readable);
    scene.assert_ends_after(IDLE, Fate::Cut);
}

#[test]
fn a_body_that_stops_is_cut() {
    for fields in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let mut scene = Scene::idle();
        scene.say(with_host("POST", "/small.txt", &[fields], "5\r\nhello\r\n"));
        scene.pass(HEAD - 1);
        assert_eq!(scene.fate(), Fate::Open);
        scene.say("5\r\nhello\r\n");
        scene.pass(HEAD);
        assert_eq!(scene.fate(), Fate::Open, "each part of a body has its own time");
        scene.pass(1);
        assert_ne!(scene.fate(), Fate::Open, "{fields}");
        // It is answered once, now or before.
        assert_eq!(scene.answers().len(), 1, "{:?}", scene.answers());
    }
}

/// A body earns no more time than an answer of the most that is read of one.
#[test]
fn a_body_that_trickles_is_cut() {
    let mut scene = Scene::idle();
    scene.say(with_host("POST", "/small.txt", &["Content-Length: 60000"], ""));
    let mut secs = 0;
    while scene.fate() == Fate::Open && secs < 1000 {
        scene.say("x");
        scene.pass(1);
        secs += 1;
    }
    let most = ANSWER + 64 * 1024 / BYTES_PER_SECOND as u32 + 1;
    assert!((HEAD..=most).contains(&secs), "{secs} s");
}

#[test]
fn a_client_that_takes_nothing_is_cut() {
    for room in [0, 1, 1000, LARGE / 2] {
        let mut scene = Scene::writing(room);
        scene.assert_ends_after(SEND, Fate::Cut);
        assert_eq!(scene.client.taken.borrow().len(), room);
        assert_eq!(scene.stats.timed_out.get(), 1);
    }
}

#[test]
fn each_byte_taken_is_a_sign_of_life() {
    let mut scene = Scene::writing(0);
    for _ in 0..3 {
        scene.pass(SEND - 1);
        scene.take(1);
        assert_eq!(scene.fate(), Fate::Open);
    }
    scene.assert_ends_after(SEND, Fate::Cut);
}

/// 60 s and a second for every 4 KiB, from when the answer could not go at once.
#[test]
fn an_answer_that_takes_too_long_is_cut() {
    let most = ANSWER + (LARGE / BYTES_PER_SECOND) as u32;
    for (room, step) in [(0, 1), (0, 1000), (LARGE / 4, 1), (0, BYTES_PER_SECOND / 2)] {
        let mut scene = Scene::writing(room);
        for _ in 0..most {
            scene.take(step);
            assert_eq!(scene.fate(), Fate::Open, "{room} and {step} bytes");
            scene.pass(1);
        }
        // The head counts for a second at the most.
        scene.take(step);
        scene.pass(2);
        assert_eq!(scene.fate(), Fate::Cut, "{room} and {step} bytes a second");
        assert!(scene.client.taken.borrow().len() < LARGE);
    }
}

#[test]
fn an_answer_that_goes_at_4_kib_a_second_is_finished() {
    for (every, step) in [(1, BYTES_PER_SECOND), (10, 10 * BYTES_PER_SECOND), (SEND - 1, 32 * BYTES_PER_SECOND)] {
        let mut scene = Scene::writing(0);
        while scene.wait == Wait::Writable {
            scene.pass(every);
            assert_eq!(scene.fate(), Fate::Open);
            scene.take(step);
        }
        assert_eq!(scene.wait, Wait::Readable);
        assert!(scene.client.taken.borrow().ends_with(&vec![b'x'; LARGE]));
    }
}

/// Each answer of a pipeline has its own time.
#[test]
fn a_slow_pipeline_is_finished() {
    let mut scene = Scene::idle();
    scene.client.room.set(0);
    scene.say(get("/large.txt").repeat(5));
    let mut secs = 0;
    while scene.wait == Wait::Writable {
        scene.pass(1);
        assert_eq!(scene.fate(), Fate::Open, "after {secs} s");
        scene.take(BYTES_PER_SECOND);
        secs += 1;
    }
    assert_eq!(scene.answers(), [200; 5]);
    assert!(secs > 5 * LARGE / BYTES_PER_SECOND);
}

#[test]
fn the_last_word_lingers_for_two_seconds() {
    let mut scene = Scene::idle();
    scene.say("nonsense\r\n\r\n");
    assert_eq!(scene.fate(), Fate::Told(400));
    scene.pass(1);
    scene.say("more of it");
    assert_eq!(scene.wait, Wait::Readable);
    scene.pass(2);
    assert_eq!(scene.wait, Wait::Closed);
    assert_eq!(scene.stats.timed_out.get(), 0, "it was answered");
    // However much of it comes, up to 1 MiB.
    let mut scene = Scene::idle();
    scene.say("nonsense\r\n\r\n");
    scene.say(vec![b'x'; 1 << 20]);
    assert_eq!(scene.wait, Wait::Readable);
    scene.say("x");
    assert_eq!(scene.wait, Wait::Closed);
}

#[test]
fn one_that_is_over_the_budget_lingers_as_well() {
    let mut scene = Scene::new();
    scene.connection.refuse(&scene.client, &mut scene.desk);
    assert_eq!(scene.fate(), Fate::Told(503));
    scene.say(get("/small.txt"));
    assert_eq!(scene.answers(), [503]);
    scene.pass(3);
    assert_eq!(scene.wait, Wait::Closed);
}

#[test]
fn settings_are_heeded() {
    let patience = || Patience::from_secs(4, 3, 2);
    Scene::with(patience()).assert_ends_after(3, Fate::Cut);
    let mut begun = Scene::with(patience());
    begun.say("G");
    begun.assert_ends_after(3, Fate::Told(408));
    let mut idle = Scene::with(patience());
    idle.say(get("/small.txt"));
    idle.assert_ends_after(4, Fate::Cut);
    let mut writing = Scene::with(patience());
    writing.client.room.set(0);
    writing.say(get("/large.txt"));
    writing.assert_ends_after(2, Fate::Cut);
}

/// A tick may come the moment after a deadline is set, or be counted late and several at once.
#[test]
fn ticks_may_come_late() {
    let mut scene = Scene::idle();
    scene.desk.tick += 100 * TICKS_PER_SECOND;
    assert!(scene.connection.deadline() <= scene.desk.tick);
    scene.pass_ticks(1);
    assert_eq!(scene.fate(), Fate::Cut);
    assert_eq!(scene.connection.deadline(), u32::MAX, "it is cut once");
}

#[test]
fn draining_closes_what_has_nothing_to_wait_for() {
    let drain = |scene: &mut Scene| {
        scene.desk.draining = true;
        scene.connection.close_if_idle(&scene.client);
        scene.run();
    };
    for mut scene in [Scene::new(), Scene::idle()] {
        drain(&mut scene);
        assert_eq!(scene.wait, Wait::Closed);
    }
    let mut begun = Scene::idle();
    begun.say("GET /small.txt HTTP/1.1\r\n");
    drain(&mut begun);
    assert_eq!(begun.fate(), Fate::Open);
    begun.say("Host: h\r\n\r\n");
    assert_eq!(begun.fate(), Fate::Told(200));
    let mut writing = Scene::writing(1000);
    drain(&mut writing);
    assert_eq!(writing.fate(), Fate::Open);
    writing.take(usize::MAX);
    assert_eq!(writing.fate(), Fate::Open, "it has not been told yet that nothing follows");
    assert!(writing.client.taken.borrow().ends_with(&vec![b'x'; LARGE]));
}
