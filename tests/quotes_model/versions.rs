//! Readers on other threads while versions are swapped: an answer is of one version of each table.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use cloudia::{
    clock::unix_now,
    feed::quotes::{
        board::{Board, TableChange, When},
        table::Table,
        text::Charset,
    },
    serve::quotes::{self, Asked, Lists},
    stats::{FeedStats, WorkerStats},
    store::{
        Coding, Etag, Store,
        quotes::{Symbol, improve::Improver},
    },
};

use super::rounds;
use crate::harness::Rng;

/// Symbols of each source: two tables and a feeder.
const SYMBOLS: usize = 150;
const SOURCES: [&str; 3] = ["a", "b", "live"];
const TICKS: u64 = 160;

/// Every payload begins with the tick that it is of.
fn payload(tick: u64, number: usize) -> String {
    format!("{tick};{},{},2026-11-20", number as u64 * 7919 % (tick + 5), "9.29,".repeat(number % 9))
}

fn table(source: &str, tick: u64) -> TableChange {
    let lines = (0..SYMBOLS).map(|number| format!("{source}_{number}={}\n", payload(tick, number)));
    TableChange::Put(source.into(), Arc::new(Table::parse(lines.collect::<String>().into_bytes().into())))
}

#[test]
fn no_answer_mixes_two_versions() {
    let store = Arc::new(Store::new());
    store.quotes().improve_with(Improver::start().unwrap());
    let mut board = Board::new(store.clone(), Arc::new(FeedStats::default()), Charset::Utf8, None);
    board.change(vec![(table("a", 0), When::Modified(1)), (table("b", 0), When::Modified(1))]);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = rounds(3)
            .take(3)
            .map(|seed| {
                let (store, done) = (&store, &done);
                scope.spawn(move || Reader::new(store, seed).read(done))
            })
            .collect();
        for tick in 1..=TICKS {
            match tick % 3 {
                // Those of both tables become visible together.
                0 => board.change(vec![(table("a", tick), When::Now), (table("b", tick), When::Now)]),
                1 => board.change(vec![(table("a", tick), When::Now)]),
                _ => {
                    let symbol = |number| Symbol::new(format!("live_{number}").as_bytes()).unwrap();
                    let batch = (0..SYMBOLS).map(|number| (symbol(number), payload(tick, number).into()));
                    board.update(batch.collect(), When::Now).unwrap();
                }
            }
        }
        done.store(true, Ordering::Release);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
}

struct Reader<'s> {
    store: &'s Store,
    rng: Rng,
    lists: Lists,
    stats: WorkerStats,
    /// By source: the latest that was seen.
    ticks: HashMap<String, u64>,
    /// By list and date: which content was sent.
    sent: HashMap<(String, u64), Etag>,
}

impl Reader<'_> {
    fn new(store: &Store, seed: u64) -> Reader<'_> {
        Reader {
            store,
            rng: Rng::with_seed(seed),
            lists: Lists::default(),
            stats: WorkerStats::default(),
            ticks: HashMap::new(),
            sent: HashMap::new(),
        }
    }

    /// How many answers it has looked at.
    fn read(mut self, done: &AtomicBool) -> u64 {
        let lists: Vec<String> = (0..8).map(|_| self.any_list()).collect();
        let mut answers = 0;
        // It looks once more when all is done.
        let mut last = false;
        while !last {
            last = done.load(Ordering::Acquire);
            for list in lists.iter().cloned().chain([self.any_list()]) {
                self.ask(&list);
                answers += 1;
            }
        }
        let last = (TICKS - TICKS % 3, TICKS - (TICKS - 2) % 3);
        assert_eq!(self.ticks.get("b").copied(), Some(last.0));
        assert_eq!(self.ticks.get("live").copied(), Some(last.1));
        answers
    }

    fn any_list(&mut self) -> String {
        let mut symbols = SOURCES.map(|source| format!("{source}_0")).to_vec();
        for _ in 0..self.rng.below(40) {
            symbols.push(format!("{}_{}", SOURCES[self.rng.below(3)], self.rng.below(SYMBOLS)));
        }
        symbols.join(",")
    }

    fn ask(&mut self, list: &str) {
        let asked = Asked { list: list.as_bytes(), max_age: None, json: false };
        let now = unix_now();
        let entry =
            quotes::answer(&asked, self.store.quotes(), &mut self.lists, &mut Vec::new(), &self.stats).ok().unwrap();
        let content = String::from_utf8(entry.identity().unwrap().to_vec()).unwrap();
        if entry.offers(Coding::Deflate) {
            assert_eq!(inflate(&entry.payload(Coding::Deflate).slices().concat()), content);
        }
        let mut ticks = HashMap::new();
        for (line, symbol) in content.lines().zip(list.split(',')) {
            let source = symbol.split('_').next().unwrap().to_owned();
            let (before, payload) = line.split_once("=\"").unwrap();
            assert_eq!(before, format!("var hq_str_{symbol}"));
            let tick: u64 = payload.split(';').next().unwrap().parse().unwrap_or_default();
            let first = *ticks.entry(source).or_insert(tick);
            assert_eq!(first, tick, "two versions of one table: {content}");
        }
        // A table that changed together with this one is as late.
        let both = (ticks["a"].max(ticks["b"]) / 3, ticks["b"] / 3);
        assert_eq!(both.0, both.1, "{ticks:?}");
        for (source, tick) in ticks {
            let before = self.ticks.insert(source, tick);
            assert!(before.is_none_or(|before| before <= tick), "{before:?} came before {tick}");
        }
        if entry.last_modified(now).is_some() {
            let sent = self.sent.insert((list.to_owned(), entry.stamp()), *entry.etag());
            assert!(sent.is_none_or(|sent| sent == *entry.etag()), "two contents under the stamp {}", entry.stamp());
        }
    }
}

fn inflate(zlib: &[u8]) -> String {
    let mut content = String::new();
    let mut decoder = flate2::bufread::ZlibDecoder::new(zlib);
    std::io::Read::read_to_string(&mut decoder, &mut content).unwrap();
    content
}
