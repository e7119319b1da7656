//! The market, the lists and their cache against [`contract`], in random steps: tables that are put, rewritten, moved and
//! removed, batches of a feeder, and lists that are asked for, the same ones again and again.
//!
//! The board reads the system's clock. So a stamp is only known to lie between two readings of it, and that two contents
//! never share a stamp whose second is over is seen where a second ends while a test runs.

pub(crate) mod any;
mod check;
mod values;
mod versions;

use std::{
    collections::{BTreeMap, HashMap},
    env,
    ops::RangeInclusive,
    sync::Arc,
};

use cloudia::{
    clock::unix_now,
    feed::quotes::{
        board::{Board, TableChange, When},
        text::Charset,
    },
    serve::{
        quotes::{self, Asked, Lists},
        target::Target,
    },
    stats::{FeedStats, QuoteStats, WorkerStats},
    store::{
        Entry, Etag, Held, Store,
        quotes::{Symbol, Terms, improve::Improver},
    },
};

use crate::{
    harness::{OLD, Rng, seed},
    model::quotes as contract,
};
use check::Manner;
use values::{one_in, pick};

/// Of some, so that lists have what is never known.
const SYMBOLS: usize = 120;
const PATHS: [&str; 4] = ["b.quotes", "a.quotes", "dir/b.quotes", "c.quotes"];

/// A market and what it must be.
struct World {
    store: Arc<Store>,
    board: Board,
    /// Of two workers.
    lists: [Lists; 2],
    stats: WorkerStats,
    of_the_board: Arc<FeedStats>,
    manner: Manner,
    quotes: contract::Quotes,
    /// Of each symbol that is or was known: between which seconds it became what it is.
    changed: BTreeMap<String, RangeInclusive<u64>>,
    /// By list: what was sent under which date.
    sent: HashMap<(String, bool), HashMap<u64, Etag>>,
    contents: HashMap<Etag, Vec<u8>>,
    tags: HashMap<Vec<u8>, Etag>,
    /// Lists that are asked for again.
    popular: Vec<(String, bool)>,
}

impl World {
    fn new(rng: &mut Rng) -> World {
        let (charset, of_the_contract) = pick(
            rng,
            &[
                (Charset::Utf8, contract::Charset::Utf8),
                (Charset::Gbk, contract::Charset::Gbk),
                (Charset::Gb18030, contract::Charset::Gb18030),
            ],
        );
        let prefix = pick(rng, &["hq_str_", "q", "a_prefix_of_names_that_is_as_long_as_it_may_be"]);
        let world = World::with(prefix, charset, of_the_contract);
        if one_in(rng, 2) {
            world.store.quotes().improve_with(Improver::start().unwrap());
        }
        world
    }

    fn with(prefix: &'static str, charset: Charset, of_the_contract: contract::Charset) -> World {
        let store = Arc::new(Store::with_terms(Terms::new(prefix, charset.name(), 1, 60)));
        let of_the_board = Arc::new(FeedStats::default());
        World {
            board: Board::new(store.clone(), of_the_board.clone(), charset, None),
            of_the_board,
            store,
            lists: Default::default(),
            stats: WorkerStats::default(),
            manner: Manner { prefix, charset: of_the_contract },
            quotes: contract::Quotes::default(),
            changed: BTreeMap::new(),
            sent: HashMap::new(),
            contents: HashMap::new(),
            tags: HashMap::new(),
            popular: Vec::new(),
        }
    }

    /// Loads tables as a start does, in any order, each as of the time of its file.
    fn load(&mut self, rng: &mut Rng) {
        let mut changes = Vec::new();
        let mut modified = BTreeMap::new();
        for path in PATHS.into_iter().skip(rng.below(PATHS.len())) {
            let time = if one_in(rng, 6) { unix_now() + 100 } else { OLD + rng.next() % 1000 };
            let text = self.text_of(rng, path, 40);
            modified.insert(path, time);
            changes.push((self.put(path, &text), When::Modified(time)));
        }
        let before = unix_now();
        self.board.change(changes);
        let after = unix_now();
        for (path, table) in &self.quotes.tables {
            let time = modified[&**path];
            for symbol in table.quotes.keys() {
                // The table whose path sorts first has it.
                self.changed.entry(symbol.clone()).or_insert(time.min(before)..=time.min(after));
            }
        }
        self.ask_one_by_one();
    }

    /// Asks for each symbol alone: in a list the latest hides the others.
    fn ask_one_by_one(&mut self) {
        for symbol in self.changed.keys().cloned().collect::<Vec<_>>() {
            let entry = self.answer(&format!("/list={symbol}&format=json"), 0).unwrap();
            self.check_stamp(&entry, &[symbol]);
        }
    }

    /// Another text for the table at `path`: much of it as it was, and some `new` lines.
    fn text_of(&self, rng: &mut Rng, path: &str, new: usize) -> Vec<u8> {
        let mut quotes = Vec::new();
        for (symbol, payload) in self.quotes.tables.get(path).map(|table| &table.quotes).into_iter().flatten() {
            match rng.below(8) {
                0 => quotes.push((symbol.clone(), values::payload(rng))),
                1 if one_in(rng, 3) => {}
                _ => quotes.push((symbol.clone(), payload.clone())),
            }
        }
        for _ in 0..new {
            let symbol = values::symbol(rng, SYMBOLS);
            // As it is already, so that it may move without a change.
            let payload = self.quotes.payload(&symbol).filter(|_| one_in(rng, 2)).cloned();
            quotes.push((symbol, payload.unwrap_or_else(|| values::payload(rng))));
        }
        values::table(rng, &quotes)
    }

    fn put(&mut self, path: &str, text: &[u8]) -> TableChange {
        self.quotes.tables.insert(path.to_owned(), contract::read_table(text));
        TableChange::Put(path.into(), any::same_table(text))
    }

    /// Some change, published at once.
    fn step(&mut self, rng: &mut Rng) {
        let was = self.quotes.clone();
        let before = unix_now();
        if one_in(rng, 3) {
            let batch: Vec<(String, String)> =
                (0..[1, 3, 40][rng.below(3)]).map(|_| (values::symbol(rng, SYMBOLS), values::payload(rng))).collect();
            self.quotes.live.extend(batch.iter().cloned());
            let of_the_board = |(symbol, payload): &(String, String)| {
                (Symbol::new(symbol.as_bytes()).unwrap(), payload.as_str().into())
            };
            self.board.update(batch.iter().map(of_the_board).collect(), When::Now).unwrap();
        } else {
            let changes =
                (0..1 + rng.below(3)).flat_map(|_| self.change(rng)).map(|change| (change, When::Now)).collect();
            self.board.change(changes);
        }
        let after = unix_now();
        for symbol in was.symbols().into_iter().chain(self.quotes.symbols()) {
            if self.quotes.payload(&symbol) != was.payload(&symbol) {
                self.changed.insert(symbol, before..=after);
            }
        }
        let QuoteStats { symbols, tables, .. } = &self.of_the_board.quotes;
        assert_eq!(symbols.get(), self.quotes.symbols().len() as u64);
        assert_eq!(tables.get(), self.quotes.tables.len() as u64);
    }

    fn change(&mut self, rng: &mut Rng) -> Vec<TableChange> {
        let (path, other) = (pick(rng, &PATHS), pick(rng, &PATHS));
        match rng.below(8) {
            0 => {
                self.quotes.tables.remove(path);
                vec![TableChange::Remove(path.into())]
            }
            // Some of its symbols move to another table.
            1 if path != other => {
                let quotes = |path| self.quotes.tables.get(path).map(|table| table.quotes.clone()).unwrap_or_default();
                let (mut from, mut to) = (quotes(path), quotes(other));
                let moved: Vec<String> = from.keys().filter(|_| one_in(rng, 3)).cloned().collect();
                to.extend(moved.into_iter().filter_map(|symbol| from.remove_entry(&symbol)));
                let mut text = |quotes: BTreeMap<String, String>| values::table(rng, &Vec::from_iter(quotes));
                let (from, to) = (text(from), text(to));
                vec![self.put(path, &from), self.put(other, &to)]
            }
            _ => {
                let new = pick(rng, &[0, 3, 30]);
                let text = self.text_of(rng, path, new);
                vec![self.put(path, &text)]
            }
        }
    }

    /// Asks a worker for a list, as often as not one that was asked for before.
    fn ask(&mut self, rng: &mut Rng) {
        let (list, json) = if self.popular.is_empty() || one_in(rng, 3) {
            let new = any_list(rng);
            self.popular.push(new.clone());
            new
        } else {
            let lately = self.popular.len().min(5);
            self.popular[self.popular.len() - 1 - rng.below(lately)].clone()
        };
        let target = values::target(rng, &list, json);
        let expected = contract::read_target(&target).unwrap();
        // A worker reads its clock before it looks at the market.
        let now = unix_now();
        let answer = self.answer(&target, rng.below(2));
        if let Some(fault) = self.manner.fault(&expected, &self.quotes, answer.as_deref()) {
            panic!("{target}: {fault}");
        }
        if let (Some(entry), Some(symbols)) = (answer, expected.symbols) {
            self.check_stamp(&entry, &symbols);
            self.check_validators(&entry, (list, json), now);
        }
    }

    fn answer(&mut self, target: &str, worker: usize) -> Option<Held> {
        let target = Target::parse(target.as_bytes()).unwrap();
        let asked = Asked::parse(target.path, target.query).unwrap();
        quotes::answer(&asked, self.store.quotes(), &mut self.lists[worker], &mut Vec::new(), &self.stats).ok()
    }

    /// The stamp is that of the latest change among the symbols.
    fn check_stamp(&self, entry: &Entry, symbols: &[String]) {
        if !entry.is_dated() {
            return;
        }
        let changed = || symbols.iter().filter_map(|symbol| self.changed.get(symbol));
        let first = changed().map(|between| *between.start()).max().unwrap();
        let last = changed().map(|between| *between.end()).max().unwrap();
        assert!((first..=last).contains(&entry.stamp()), "{} is not in {first}..={last}: {symbols:?}", entry.stamp());
    }

    /// One tag for one content, and one content for one date of one list.
    fn check_validators(&mut self, entry: &Entry, list: (String, bool), now: u64) {
        let (content, tag) = (entry.identity().unwrap(), *entry.etag());
        let known = self.contents.entry(tag).or_insert_with(|| content.to_vec());
        assert_eq!(known, content, "one tag for two contents");
        assert_eq!(*self.tags.entry(content.to_vec()).or_insert(tag), tag, "two tags for one content");
        if entry.last_modified(now).is_some() {
            let sent = self.sent.entry(list).or_default().insert(entry.stamp(), tag);
            assert!(sent.is_none_or(|sent| sent == tag), "two contents under the stamp {}", entry.stamp());
        }
    }
}

/// Symbols with commas between them, most of them known, some of them twice; now and then it is no list.
fn any_list(rng: &mut Rng) -> (String, bool) {
    let json = one_in(rng, 3);
    let mut symbols: Vec<String> = Vec::new();
    for _ in 0..1 + [rng.below(12), rng.below(60), rng.below(300)][rng.below(40).saturating_sub(37)] {
        let symbol = match rng.below(10) {
            0 => values::symbol(rng, 2 * SYMBOLS),
            1 if !symbols.is_empty() => symbols[rng.below(symbols.len())].clone(),
            _ => values::symbol(rng, SYMBOLS),
        };
        if json || !symbol.contains('.') || one_in(rng, 50) {
            symbols.push(symbol);
        }
    }
    (symbols.join(","), json)
}

/// `CLOUDIA_TEST_ROUNDS` or `default`, each with its seed; the first has the seed that is printed.
fn rounds(default: u64) -> impl Iterator<Item = u64> {
    let rounds = env::var("CLOUDIA_TEST_ROUNDS").map_or(default, |rounds| rounds.parse().unwrap());
    let first = seed();
    (0..rounds).map(move |round| first.wrapping_add(round))
}

#[test]
fn markets_answer_as_the_contract_says() {
    let (mut cached, mut joined) = (0, 0);
    for seed in rounds(5) {
        let rng = &mut Rng::with_seed(seed);
        let said = SaidOnPanic(format!("CLOUDIA_TEST_SEED={seed} CLOUDIA_TEST_ROUNDS=1"));
        let mut world = World::new(rng);
        world.load(rng);
        for _ in 0..40 {
            for _ in 0..rng.below(9) {
                world.ask(rng);
            }
            world.step(rng);
        }
        world.ask_one_by_one();
        drop(said);
        cached += world.stats.lists_cached.get();
        joined += world.stats.lists_joined.get();
    }
    assert!(cached * 30 > joined && joined > 0, "{cached} answers were cached, {joined} joined");
}

struct SaidOnPanic(String);

impl Drop for SaidOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}

/// Repetitions at every kind of distance, up to the greatest that deflate has and beyond: inside a payload, and from one
/// line to the next.
#[test]
fn repetitions_are_repeated_from_any_distance() {
    const FARTHEST: usize = 32_768;
    let mut world = World::with("hq_str_", Charset::Utf8, contract::Charset::Utf8);
    let (word, tail) = ("a word of its own", "2026-11-20,15:00:00,00,2026-11-20");
    let powers = (2..15).flat_map(|power| [(1 << power), 3 << power >> 1]);
    let mut text = String::new();
    for distance in powers.chain([FARTHEST]).flat_map(|distance| [distance - 1, distance, distance + 1, distance + 2]) {
        let filler = "0".repeat(distance.saturating_sub(word.len()));
        text += &format!("in_{distance}={word}{filler}{word}{tail}\n");
        // A line has so many bytes besides its symbol and payload.
        let before = distance.saturating_sub("var hq_str_=\"\";\n".len());
        let symbol = format!("to_{distance}");
        text += &format!("{symbol}={}\n", "0".repeat(before.saturating_sub(symbol.len())));
    }
    let change = world.put("a.quotes", text.as_bytes());
    world.board.change(vec![(change, When::Now)]);
    for symbol in world.quotes.symbols() {
        let target = format!("/list={symbol},{symbol},{symbol}");
        let expected = contract::read_target(&target).unwrap();
        let answer = world.answer(&target, 0);
        if let Some(fault) = world.manner.fault(&expected, &world.quotes, answer.as_deref()) {
            panic!("{symbol}: {}", &fault[..fault.len().min(200)]);
        }
    }
}

/// Lines as long as they may be, and longer: a table and a feeder, cut where it hurts, have them alike.
#[test]
fn lines_end_where_they_end_however_long_they_are() {
    const LONGEST: usize = 64 * 1024;
    for (start, filling, end) in [("a=", "x", ""), ("#", "=", ""), ("", "b", "=1"), ("", " ", "c=1"), ("d=", "\r", "")]
    {
        for len in [LONGEST - 1, LONGEST, LONGEST + 1, LONGEST + 2, LONGEST + 3, LONGEST + 6] {
            let line = format!("{start}{}{end}", filling.repeat(len - start.len() - end.len()));
            for line_end in ["\n", "\r\n"] {
                let text = format!("a=1{line_end}{line}{line_end}b=2{line_end}{line_end}");
                any::same_table(text.as_bytes());
                let expected = contract::read_batches(text.as_bytes());
                for cut in [1000, len, len + 4, len + 5] {
                    let (before, after) = text.as_bytes().split_at(cut);
                    let is_same = any::batches(&[before, after]) == expected;
                    assert!(is_same, "{start:?} {filling:?} {end:?} of {len} bytes, cut at {cut}");
                }
            }
        }
    }
}

/// Markets and targets as [`any`] takes them, made of what they are made of.
#[test]
fn anything_is_read_as_the_contract_reads_it() {
    for (symbol, count) in [("a", 999), ("b", 1000), ("c", 1001), ("d", 4000)] {
        for format in ["", "&format=json"] {
            let list = vec![symbol; count].join(",");
            any::check(format!("\u{2}/list={list}{format}\na=1\nb=2\nc=3\nd=4").as_bytes());
        }
    }
    for seed in rounds(700) {
        let rng = &mut Rng::with_seed(seed);
        let said = SaidOnPanic(format!("CLOUDIA_TEST_SEED={seed} CLOUDIA_TEST_ROUNDS=1"));
        any::check(&any_input(rng));
        drop(said);
    }
}

fn any_input(rng: &mut Rng) -> Vec<u8> {
    const WORDS: &[&str] = &[
        "list=",
        "list=",
        "&",
        "?",
        "/",
        "/list=",
        "/?",
        ",",
        ",",
        "%2C",
        "%2c",
        "%26",
        "%",
        "%0",
        "a",
        "a",
        "b",
        "$",
        "x.y",
        "maxage",
        "maxage=",
        "5",
        "format=json",
        "format=",
        "\u{e4}",
        "_",
        "#",
    ];
    const LINES: &[&str] = &[
        "a=", "b=", "a", "$=", "x.y=", "=", "#", "\n", "\n", "\n", "\n\n", "\r", "\r\n", " ", "\t", "1", "9.29,",
        "9.29,", "绵世", "\u{2028}", "\"", "\\", "<", "/", "!", "😀", "\0", "\u{1e}", "\u{1e}", "\u{feff}",
    ];
    const ITEMS: &[&str] =
        &["maxage=5", "maxage", "maxage=", "maxage=7x", "maxages=1", "format=json", "format=js", "rn=1", "list=b", ""];
    let mut input = vec![rng.next() as u8];
    if one_in(rng, 2) {
        input.extend_from_slice(pick(rng, &["/", "/list=a", "/list=a,b,a", "/?list=b,a"]).as_bytes());
        for _ in 0..rng.below(8) {
            input.extend_from_slice(pick(rng, WORDS).as_bytes());
        }
    } else {
        input.extend_from_slice(pick(rng, &["/", "/?", "/x&", "/maxage=1&", "/?maxage&"]).as_bytes());
        for item in ["list=a,b", pick(rng, ITEMS), pick(rng, ITEMS), pick(rng, ITEMS)] {
            input.extend_from_slice(item.as_bytes());
            input.push(pick(rng, b"&&?"));
        }
    }
    input.push(b'\n');
    for _ in 0..rng.below(60) {
        input.extend_from_slice(pick(rng, LINES).as_bytes());
    }
    for _ in 0..rng.below(3) {
        let at = rng.below(input.len());
        input[at] = rng.next() as u8;
    }
    input
}
