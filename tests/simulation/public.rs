//! What is published, in the store and as the model has it, and how it changes.

use std::{
    collections::{BTreeMap, HashMap},
    io::Write,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use cloudia::{
    clock::Clock,
    feed::quotes::{
        board::{Board, TableChange, When},
        table::Table,
        text::Charset,
    },
    stats::FeedStats,
    store::{
        Bodies, Change, Entry, Store,
        identities::Identities,
        quotes::{Symbol, Terms},
    },
};
use flate2::{Compression, write::DeflateEncoder};

use super::tally::{Event, Tally};
use crate::{
    fuzz::values::{one_in, pick},
    harness::Rng,
    model::{File, Site, latin1, quotes as contract},
};

/// In the 2020s, so that a year of two digits is no riddle.
const START: u64 = 1_700_000_000;

const PLAIN: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The first one is always there.
const PATHS: [(&str, &str); 12] = [
    ("/index.html", HTML),
    ("/a.txt", PLAIN),
    ("/s.js", SCRIPT),
    ("/404.html", HTML),
    ("/large.txt", PLAIN),
    ("/dir/index.html", HTML),
    ("/dir/b.txt", PLAIN),
    ("/sp ace.txt", PLAIN),
    ("/image.png", "image/png"),
    ("/new.txt", PLAIN),
    ("/deep/er/d.txt", PLAIN),
    ("/old.js", SCRIPT),
];

/// A content in every coding. What is no deflate is made up: nobody looks into it.
struct Content {
    identity: Vec<u8>,
    /// Two streams of the same content.
    deflate: [Vec<u8>; 2],
    br: Vec<u8>,
    zstd: Vec<u8>,
}

/// Made once: compressing takes longer than all the rest.
fn contents() -> &'static [Content] {
    static CONTENTS: OnceLock<Vec<Content>> = OnceLock::new();
    CONTENTS.get_or_init(|| {
        let lens = [0, 2, 10, 60, 61, 300, 301, 900, 901, 2500, 3000, 4090, 4200, 6000, 6001, 20_000];
        let large = [30_000, 66_000, 70_000, 70_001, 150_000];
        let texts = lens.into_iter().chain(large).enumerate().map(|(number, len)| text(number, len));
        // A zlib frame makes it smaller, a gzip frame does not.
        let brinks = [b'a', b'b'].map(|byte| vec![byte; 20]);
        texts.chain(brinks).map(Content::new).collect()
    })
}

/// So many bytes of lines, no two of which are equal, so that a part of it cannot be taken for another.
fn text(number: usize, len: usize) -> Vec<u8> {
    let lines: String = (0..=len / 8).map(|line| format!("{number}: line {line}\n")).collect();
    lines.into_bytes()[..len].to_vec()
}

impl Content {
    fn new(identity: Vec<u8>) -> Content {
        let deflate = [Compression::fast(), Compression::best()].map(|level| {
            let mut encoder = DeflateEncoder::new(Vec::new(), level);
            encoder.write_all(&identity).unwrap();
            encoder.finish().unwrap()
        });
        let made_up =
            |byte: u8, share: usize| identity.iter().map(|b| b ^ byte).take(identity.len() / share + 1).collect();
        Content { deflate, br: made_up(0x55, 4), zstd: made_up(0x2a, 3), identity }
    }
}

/// What of a content one version has.
#[derive(Clone, Copy)]
struct Version {
    content: usize,
    deflate: Option<usize>,
    br: bool,
    zstd: bool,
    compact: bool,
}

/// What is published.
pub(super) struct Public {
    pub(super) store: Arc<Store>,
    pub(super) site: Site,
    versions: HashMap<&'static str, Version>,
    /// The latest stamp of each path that is or was there.
    stamps: HashMap<&'static str, u64>,
    current: HashMap<&'static str, Arc<Entry>>,
    /// Entries that the store has no longer, and their bytes.
    retired: Vec<(Weak<Entry>, usize)>,
    pub(super) market: contract::Quotes,
    /// Grows with each change of it, also over several worlds.
    pub(super) market_version: u64,
    /// When each symbol that is or was known became what it is.
    pub(super) changed: BTreeMap<String, u64>,
    board: Board,
    now: Arc<AtomicU64>,
    /// Half seconds since the start.
    pub(super) half: u32,
}

/// Symbols that may be known: fewer than a new code needs, since when that is made hangs on the system's clock.
const SYMBOLS: usize = 50;

impl Public {
    /// A store with some of its files and quotes, and room for so many bytes of inflated contents.
    pub(super) fn new(rng: &mut Rng, room: usize, tally: &Tally) -> Public {
        let store = Arc::new(Store::with_identities(Terms::default(), Identities::with_room(room)));
        store.identities().defer();
        let now = Arc::new(AtomicU64::new(START));
        let clock = now.clone();
        let board = Board::new(store.clone(), Arc::new(FeedStats::default()), Charset::Utf8, None)
            .with_clock(move || clock.load(Ordering::Relaxed));
        let mut public = Public {
            store,
            site: Site { now: START, files: HashMap::new(), quotes: contract::Quotes::default() },
            versions: HashMap::new(),
            stamps: HashMap::new(),
            current: HashMap::new(),
            retired: Vec::new(),
            market: contract::Quotes::default(),
            market_version: rng.next(),
            changed: BTreeMap::new(),
            board,
            now,
            half: 0,
        };
        for (path, _) in PATHS {
            if path == PATHS[0].0 || !one_in(rng, 4) {
                public.put(rng, path);
            }
        }
        for _ in 0..4 {
            public.change_quotes(rng, tally);
        }
        public.feed(vec![(symbol(LONG), long_payload(rng))]);
        public.pass(2);
        public
    }

    pub(super) fn clock(&self) -> Clock {
        Clock::at(self.site.now)
    }

    /// So many half seconds pass.
    pub(super) fn pass(&mut self, halves: u32) {
        self.half += halves;
        self.site.now = START + u64::from(self.half / 2);
        self.now.store(self.site.now, Ordering::Relaxed);
    }

    /// Changes, adds or removes a file.
    pub(super) fn change_file(&mut self, rng: &mut Rng, tally: &Tally) {
        let path = if one_in(rng, 4) { "/large.txt" } else { pick(rng, &PATHS).0 };
        let is_there = self.versions.contains_key(path);
        match rng.below(8) {
            0 if is_there && path != PATHS[0].0 => {
                self.remove(path);
                tally.note(Event::FileRemoved);
            }
            1 | 2 if is_there => {
                self.improve(rng, path);
                tally.note(Event::FileImproved);
            }
            _ => {
                self.put(rng, path);
                tally.note(Event::FilePut);
            }
        }
    }

    /// Another content for `path`, under the stamp that it must have.
    fn put(&mut self, rng: &mut Rng, path: &'static str) {
        let all = contents();
        let old = self.versions.get(path).map(|version| version.content);
        let content = loop {
            let large = path == "/large.txt" || one_in(rng, 12);
            let content = if large { all.len() - 8 + rng.below(6) } else { rng.below(all.len()) };
            if Some(content) != old && (large || all[content].identity.len() <= 6001) {
                break content;
            }
        };
        let version = Version {
            content,
            deflate: (!one_in(rng, 3)).then(|| rng.below(2)),
            br: one_in(rng, 3),
            zstd: one_in(rng, 4),
            compact: one_in(rng, 2),
        };
        // The time of the file, unless it would not be later than the version before.
        let modified = if one_in(rng, 3) { self.site.now - rng.below(100) as u64 } else { self.site.now };
        let last = self.stamps.get(path).copied();
        let stamp = if last.is_some_and(|last| modified <= last) { self.site.now } else { modified };
        self.publish(path, version, stamp);
    }

    /// The same content in other codings: it stays the same version.
    fn improve(&mut self, rng: &mut Rng, path: &'static str) {
        let Some(version) = self.versions.get(path).copied() else { return };
        let stamp = self.stamps[path];
        let deflate = Some(rng.below(2));
        self.publish(path, Version { deflate, br: version.br || one_in(rng, 4), ..version }, stamp);
    }

    fn publish(&mut self, path: &'static str, version: Version, stamp: u64) {
        let content = &contents()[version.content];
        let content_type = PATHS.iter().find(|(known, _)| *known == path).map_or(PLAIN, |(_, media)| media);
        let deflate = version.deflate.map(|level| content.deflate[level].clone());
        let br = version.br.then(|| content.br.clone());
        let zstd = version.zstd.then(|| content.zstd.clone());
        let boxed = |body: &Option<Vec<u8>>| body.clone().map(Into::into);
        let identity = content.identity.clone();
        let bodies =
            Bodies { identity: identity.clone().into(), deflate: boxed(&deflate), br: boxed(&br), zstd: boxed(&zstd) };
        let entry = Entry::new(content_type, stamp, bodies);
        let entry = Arc::new(if version.compact { entry.compact() } else { entry });
        let etag = latin1(entry.etag());
        self.retire(path);
        self.store.apply([Change::Put(key(path), entry.clone())]);
        self.versions.insert(path, version);
        self.stamps.insert(path, stamp);
        self.current.insert(path, entry);
        let file = File { content: identity, content_type, stamp, etag, deflate, br, zstd };
        self.site.files.insert(path.to_owned(), Arc::new(file));
    }

    fn remove(&mut self, path: &'static str) {
        self.retire(path);
        self.store.apply([Change::Remove(key(path))]);
        self.versions.remove(path);
        self.site.files.remove(path);
    }

    fn retire(&mut self, path: &'static str) {
        if let Some(old) = self.current.remove(path) {
            self.retired.push((Arc::downgrade(&old), old.held_bytes()));
        }
    }

    /// Bytes of versions that are served no longer, and are there all the same.
    pub(super) fn lingering_bytes(&mut self) -> usize {
        self.retired.retain(|(entry, _)| entry.strong_count() > 0);
        self.retired.iter().map(|(_, bytes)| bytes).sum()
    }

    /// The bodies that connections hold besides those that the store has lie at these places: all that are there, and no other.
    pub(super) fn check_pinned(&self, pinned: &[usize]) {
        let old = self.retired.iter().filter(|(entry, _)| entry.strong_count() > 0);
        for (entry, bytes) in old {
            assert!(
                pinned.contains(&(entry.as_ptr() as usize)),
                "{bytes} bytes of an old version are not accounted for"
            );
        }
        let is_current = |place: &usize| self.current.values().any(|entry| Arc::as_ptr(entry) as usize == *place);
        assert!(!pinned.iter().any(is_current), "what the store has is taken for a reader's");
    }

    /// Changes some quotes at once.
    pub(super) fn change_quotes(&mut self, rng: &mut Rng, tally: &Tally) {
        let was = self.payloads();
        match rng.below(6) {
            0 => {
                let path = pick(rng, &["a.quotes", "b.quotes"]);
                self.market.tables.remove(path);
                self.board.change(vec![(TableChange::Remove(path.into()), When::Now)]);
            }
            1 | 2 => {
                let path = pick(rng, &["a.quotes", "b.quotes"]);
                let lines: String =
                    (0..rng.below(30)).map(|_| format!("{}={}\n", any_symbol(rng), payload(rng))).collect();
                self.market.tables.insert(path.to_owned(), contract::read_table(lines.as_bytes()));
                let table = Arc::new(Table::parse(lines.into_bytes().into()));
                self.board.change(vec![(TableChange::Put(path.into(), table), When::Now)]);
            }
            _ => {
                let mut batch: Vec<(String, String)> =
                    (0..1 + rng.below(6)).map(|_| (any_symbol(rng), payload(rng))).collect();
                let long = batch.iter_mut().filter(|(name, _)| *name == symbol(LONG));
                long.for_each(|(_, payload)| *payload = long_payload(rng));
                self.feed(batch);
            }
        }
        self.note_changes(was);
        tally.note(Event::QuotesChanged);
    }

    /// What a feeder sends.
    fn feed(&mut self, batch: Vec<(String, String)>) {
        let was = self.payloads();
        self.market.live.extend(batch.iter().cloned());
        let batch = batch.iter().map(|(name, text)| (Symbol::new(name.as_bytes()).unwrap(), text.as_str().into()));
        self.board.update(batch.collect(), When::Now).unwrap();
        self.note_changes(was);
    }

    fn payloads(&self) -> BTreeMap<String, Option<String>> {
        (0..SYMBOLS).map(symbol).map(|symbol| (symbol.clone(), self.market.payload(&symbol).cloned())).collect()
    }

    fn note_changes(&mut self, was: BTreeMap<String, Option<String>>) {
        for (symbol, payload) in was {
            if self.market.payload(&symbol) != payload.as_ref() {
                self.changed.insert(symbol, self.site.now);
            }
        }
        self.market_version += 1;
    }
}

fn long_payload(rng: &mut Rng) -> String {
    format!("{:03}", rng.below(1000)).repeat(200)
}

fn key(path: &str) -> Arc<[u8]> {
    path.trim_start_matches('/').as_bytes().into()
}

fn symbol(number: usize) -> String {
    match number % 5 {
        // Only JSON can ask for this one.
        0 => format!("x-{number}.hk"),
        1 if number == LONG => "l".to_owned(),
        1 => format!("$s_{number}"),
        _ => format!("sh{:06}", 600_000 + number * 3),
    }
}

/// The number of a symbol that has a short name, and a long payload whenever it changes.
const LONG: usize = 1;

pub(super) fn any_symbol(rng: &mut Rng) -> String {
    symbol(rng.below(SYMBOLS))
}

fn payload(rng: &mut Rng) -> String {
    let price = 100 + rng.below(9000);
    match rng.below(30) {
        0 => String::new(),
        1 => pick(rng, &["\"", "</script>", "\\", "<!--", "\u{2028}"]).to_owned(),
        2 => format!("{price},").repeat(rng.below(150)),
        _ => format!("绵世股份,{}.{:02},2026-11-20,15:00:00,00", price / 100, price % 100),
    }
}
