//! All tables to one market: which table a symbol belongs to, what of it is new, and the swap.
//!
//! It is the only writer of the market. Tables come from files, and lines from the socket; the socket's win, then the
//! table whose path sorts first. It opens no file and waits for nothing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use ahash::RandomState;
use parking_lot::FairMutex;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    table::Table,
    text::{Charset, escape},
};
use crate::{
    clock::unix_now,
    limits::{MAX_FED, MAX_SYMBOLS},
    stats::FeedStats,
    store::{
        Store,
        quotes::{
            Market, Publication, Symbol,
            join::Shape,
            line::{Line, Matcher},
            market::{self, Cost},
        },
    },
};

/// A board that several threads write to in turn, none of which serves.
pub type SharedBoard = Arc<FairMutex<Board>>;

/// All that symbols are taken from.
pub struct Board {
    store: Arc<Store>,
    stats: Arc<FeedStats>,
    charset: Charset,
    memory_limit: u64,
    /// Where the time is read, in seconds since 1970.
    clock: Box<dyn Fn() -> u64 + Send>,
    is_closed: bool,
    is_successor: bool,
    /// The market that is published next; between changes it is the one that is.
    next: Market,
    /// The market before: a worker that still reads it must not be the one who gives its memory back.
    retired: Option<Arc<Market>>,
    /// By path.
    tables: BTreeMap<Arc<str>, Arc<Table>>,
    /// What came through the socket.
    live: HashMap<Symbol, Box<str>, RandomState>,
    /// By number.
    symbols: Vec<Listed>,
    /// The latest stamp that was given.
    last_stamp: u64,
    /// It was given while the clock was behind it, and has not been sent since.
    is_ahead: bool,
    /// Symbols that have a line.
    known: u64,
    trained: Trained,
    matcher: Matcher,
    told: Told,
}

/// A symbol, and who has it: the first of them counts.
struct Listed {
    symbol: Symbol,
    holders: Vec<Holder>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Holder {
    Live,
    Table(Arc<str>),
}

/// When the code was made.
struct Trained {
    /// So many symbols there were.
    symbols: usize,
    /// What the payloads that it was made of take in it.
    cost: Cost,
    /// Not before this moment is it made again because lines have become different.
    next: Instant,
}

/// A new code makes new lines of all symbols, so that is not done more often than this.
const TRAIN: Duration = Duration::from_secs(60);

/// What was said, so that it is said once.
#[derive(Default)]
struct Told {
    /// Tables that have symbols which others have as well.
    shared: BTreeSet<Arc<str>>,
    /// Of each table, the first line that was skipped.
    skipped: HashMap<Arc<str>, u64>,
    is_full: bool,
}

/// Why a batch is not published, nor any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no memory for it.
    #[error(
        "there is no room for this batch: all payloads take at most {MAX_FED} bytes, and what --memory-limit leaves"
    )]
    NoRoom,
    /// There are too many symbols.
    #[error("there have been {MAX_SYMBOLS} symbols since the start: there is no room for others")]
    NoPlace,
    /// The server is about to stop, and what it knows is being kept.
    #[error("the server is about to stop: send this batch to the next one")]
    Closed,
}

/// Bytes that a payload takes which came through the socket: as it came, as a line, coded, and in tables.
fn fed_bytes(payload: &str) -> u64 {
    3 * payload.len() as u64 + 300
}

/// A change of a table.
pub enum TableChange {
    /// The table at this path is this one from now on.
    Put(Arc<str>, Arc<Table>),
    /// The table at this path is gone.
    Remove(Arc<str>),
}

/// When a change is to have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum When {
    /// When it becomes visible.
    Now,
    /// At this time, in seconds since 1970, as long as nobody has been served: when its file was written.
    Modified(u64),
}

impl Board {
    /// A board without tables over `store`, whose scripts are in `charset`. Payloads that come through the socket and
    /// all that is held for files take at most `memory_limit` bytes.
    pub fn new(store: Arc<Store>, stats: Arc<FeedStats>, charset: Charset, memory_limit: Option<u64>) -> Self {
        let next = Market::clone(&store.quotes().load());
        Self {
            store,
            stats,
            charset,
            memory_limit: memory_limit.unwrap_or(u64::MAX),
            clock: Box::new(unix_now),
            is_closed: false,
            is_successor: false,
            next,
            retired: None,
            tables: BTreeMap::new(),
            live: HashMap::default(),
            symbols: Vec::new(),
            last_stamp: 0,
            is_ahead: false,
            known: 0,
            trained: Trained { symbols: 0, cost: Cost::default(), next: Instant::now() },
            matcher: Matcher::default(),
            told: Told::default(),
        }
    }

    /// The same board by another clock.
    pub fn with_clock(self, clock: impl Fn() -> u64 + Send + 'static) -> Self {
        Self { clock: Box::new(clock), ..self }
    }

    /// Publishes changes of tables, all at once, each as of its own time.
    pub fn change(&mut self, changes: Vec<(TableChange, When)>) {
        self.next.step();
        let mut touched = Vec::new();
        for (change, when) in changes {
            let when = if self.is_successor { When::Now } else { when };
            match change {
                TableChange::Put(path, table) => self.put(path, table, when, &mut touched),
                TableChange::Remove(path) => self.remove(&path, &mut touched),
            }
        }
        self.stats.quotes.tables.set(self.tables.len() as u64);
        self.publish(touched);
    }

    /// Publishes payloads that came through the socket, all at once.
    ///
    /// # Errors
    /// [`Refused`]; then none of them is published.
    pub fn update(&mut self, batch: Vec<(Symbol, Box<str>)>, when: When) -> Result<(), Refused> {
        if self.is_closed {
            return Err(Refused::Closed);
        }
        let strangers = batch.iter().filter(|(symbol, _)| self.next.number(symbol.as_bytes()).is_none()).count();
        if self.symbols.len() + strangers > MAX_SYMBOLS {
            return Err(Refused::NoPlace);
        }
        let new = batch.iter().map(|(_, payload)| fed_bytes(payload));
        let old = batch.iter().filter_map(|(symbol, _)| self.live.get(symbol)).map(|payload| fed_bytes(payload));
        let bytes = (self.stats.quotes.fed_bytes.get() + new.sum::<u64>()).saturating_sub(old.sum());
        if bytes > MAX_FED || self.stats.held_bytes.get() + bytes > self.memory_limit {
            return Err(Refused::NoRoom);
        }
        self.next.step();
        self.stats.quotes.updates.add(batch.len() as u64);
        let mut touched = Vec::with_capacity(batch.len());
        for (symbol, payload) in batch {
            if let Some(number) = self.number(symbol) {
                self.hold(number, Holder::Live);
                let fed = &self.stats.quotes.fed_bytes;
                fed.add(fed_bytes(&payload));
                if let Some(old) = self.live.insert(symbol, payload) {
                    fed.sub(fed_bytes(&old));
                }
                touched.push((number, when));
            }
        }
        self.publish(touched);
        Ok(())
    }

    /// Publishes nothing more that comes through the socket.
    pub fn close(&mut self) {
        self.is_closed = true;
    }

    /// Publishes what comes through the socket again.
    pub fn open(&mut self) {
        self.is_closed = false;
    }

    /// Another server has served these symbols until now, so that the time of a table's file says nothing of when its symbols
    /// changed for clients: tables are as of when they become visible.
    pub fn succeed(&mut self) {
        self.is_successor = true;
    }

    /// Counts lines of the socket that were skipped.
    pub fn skip(&mut self, lines: u64) {
        self.stats.quotes.skipped_updates.add(lines);
    }

    /// How many payloads have come through the socket.
    pub fn updates(&self) -> u64 {
        self.stats.quotes.updates.get()
    }

    /// The last payload of each symbol that came through the socket.
    pub fn live(&self) -> impl Iterator<Item = (Symbol, &str)> {
        self.live.iter().map(|(symbol, payload)| (*symbol, &**payload))
    }

    /// The tables of files, by path.
    pub fn tables(&self) -> impl Iterator<Item = (&str, &Table)> {
        self.tables.iter().map(|(path, table)| (&**path, &**table))
    }

    fn put(&mut self, path: Arc<str>, table: Arc<Table>, when: When, touched: &mut Vec<(u32, When)>) {
        self.tell_of_skipped(&path, &table);
        let old = self.tables.insert(path.clone(), table.clone());
        let is_like = old.as_ref().is_some_and(|old| table.is_like(old));
        let mut shared = Shared::default();
        touched.reserve(table.len());
        for symbol in table.symbols() {
            let Some(number) = self.number(*symbol) else {
                self.stats.quotes.skipped_lines.add(1);
                continue;
            };
            let holder = Holder::Table(path.clone());
            if !is_like && old.as_ref().is_none_or(|old| !old.contains(symbol)) {
                self.hold(number, holder.clone());
            }
            shared.note(symbol, &self.symbols[number as usize].holders, &path);
            // Where another one has it, that one's time counts.
            if self.symbols[number as usize].holders.first() == Some(&holder) {
                touched.push((number, when));
            }
        }
        for symbol in old.iter().filter(|_| !is_like).flat_map(|old| old.symbols()) {
            if !table.contains(symbol) {
                self.let_go(symbol, &path, touched);
            }
        }
        self.tell_of_shared(path, shared);
    }

    fn remove(&mut self, path: &Arc<str>, touched: &mut Vec<(u32, When)>) {
        let Some(old) = self.tables.remove(path) else { return };
        for symbol in old.symbols() {
            self.let_go(symbol, path, touched);
        }
        self.told.skipped.remove(path);
        self.told.shared.remove(path);
    }

    /// The number of a symbol; None: there are too many of them.
    fn number(&mut self, symbol: Symbol) -> Option<u32> {
        if let Some(number) = self.next.number(symbol.as_bytes()) {
            return Some(number);
        }
        if self.symbols.len() == MAX_SYMBOLS {
            if !std::mem::replace(&mut self.told.is_full, true) {
                tracing::error!("there have been {MAX_SYMBOLS} symbols since the start: further ones are not served");
            }
            return None;
        }
        self.symbols.push(Listed { symbol, holders: Vec::new() });
        Some(self.next.add(symbol))
    }

    fn hold(&mut self, number: u32, holder: Holder) {
        let holders = &mut self.symbols[number as usize].holders;
        if let Err(at) = holders.binary_search(&holder) {
            holders.insert(at, holder);
        }
    }

    fn let_go(&mut self, symbol: &Symbol, path: &Arc<str>, touched: &mut Vec<(u32, When)>) {
        if let Some(number) = self.next.number(symbol.as_bytes()) {
            self.symbols[number as usize].holders.retain(|holder| *holder != Holder::Table(path.clone()));
            touched.push((number, When::Now));
        }
    }

    /// Makes what has changed of the symbols that were touched visible.
    fn publish(&mut self, touched: Vec<(u32, When)>) {
        let mut publications: HashMap<When, Arc<Publication>, RandomState> = HashMap::default();
        let mut changed = Vec::with_capacity(touched.len());
        // Whoever came to have a symbol last is who has it.
        for (number, when) in touched.into_iter().rev() {
            let payload = self.payload(number);
            let hash = payload.map(|payload| xxh3_64(payload.as_bytes()));
            let old = &self.next.quote(number).line;
            if old.as_ref().map(|line| line.hash()) == hash {
                continue;
            }
            let line = payload.map(|payload| Arc::new(self.line(&self.symbols[number as usize].symbol, payload)));
            self.known = self.known + u64::from(line.is_some()) - u64::from(old.is_some());
            self.next.set(number, line, publications.entry(when).or_insert_with(Publication::pending).clone());
            changed.push(number);
        }
        if !changed.is_empty() {
            self.fit_code(&changed);
            self.swap(&publications);
        }
    }

    /// Makes a new code, and new lines for it, where there are many more symbols than when the last one was made, or lines
    /// have become different.
    fn fit_code(&mut self, changed: &[u32]) {
        const SAMPLE: usize = 64;
        let grown = self.symbols.len() >= 2 * self.trained.symbols.max(1);
        // Some lines may differ from the others for good; many are what the code is for.
        let is_much = changed.len() >= SAMPLE && changed.len() as u64 * 2 > self.known;
        let mut is_worse = || {
            let lines = market::sample(changed, SAMPLE).filter_map(|number| self.next.quote(*number).line.as_deref());
            self.next.cost(lines, &mut self.matcher).is_worse_than(&self.trained.cost)
        };
        if grown || (is_much && Instant::now() >= self.trained.next && is_worse()) {
            let cost = self.next.train(&mut self.matcher);
            self.trained = Trained { symbols: self.symbols.len(), cost, next: Instant::now() + TRAIN };
        }
    }

    /// Swaps the market in, then says when that was: had the clock been read before, the second could have ended in between,
    /// and what was there until then could have been sent under its stamp.
    fn swap(&mut self, publications: &HashMap<When, Arc<Publication>, RandomState>) {
        self.retired = Some(self.store.quotes().store(Arc::new(self.next.clone())));
        let now = (self.clock)();
        let published = self.stamp(now);
        for (when, publication) in publications {
            let stamp = match when {
                When::Now => published,
                When::Modified(modified) => (*modified).min(now),
            };
            publication.settle(stamp);
            self.last_stamp = self.last_stamp.max(stamp);
        }
        self.is_ahead = now < self.last_stamp;
        self.stats.quotes.versions.add(1);
        self.stats.quotes.symbols.set(self.known);
    }

    /// The stamp of what is published at `now`. A clock that was set back must not bring a stamp back that was sent: until
    /// it has followed, all is published under the next one, which is not sent before.
    fn stamp(&self, now: u64) -> u64 {
        match self.last_stamp {
            last if now >= last => now,
            last if self.is_ahead => last,
            last => last + 1,
        }
    }

    /// The payload that counts.
    fn payload(&self, number: u32) -> Option<&str> {
        let Listed { symbol, holders } = &self.symbols[number as usize];
        match holders.first()? {
            Holder::Live => self.live.get(symbol).map(|payload| &**payload),
            Holder::Table(path) => self.tables.get(path)?.payload(symbol),
        }
    }

    fn line(&self, symbol: &Symbol, payload: &str) -> Line {
        let escaped = escape(payload);
        let script = self.charset.encode(&escaped);
        let Shape { open, middle, close, .. } = Shape::script(&self.next.terms().open);
        let start = open.len() + symbol.as_bytes().len() + middle.len();
        let text = [open, symbol.as_bytes(), middle, &script, close].concat();
        let json = (self.charset.is_legacy() && *script != *escaped.as_bytes()).then(|| escaped.as_bytes().into());
        Line::new(xxh3_64(payload.as_bytes()), text.into(), start..start + script.len(), json)
    }

    fn tell_of_skipped(&mut self, path: &Arc<str>, table: &Table) {
        self.stats.quotes.skipped_lines.add(table.skipped());
        let Some((number, bad)) = table.first_skipped() else {
            self.told.skipped.remove(path);
            return;
        };
        if self.told.skipped.insert(path.clone(), number) != Some(number) {
            let skipped = table.skipped();
            tracing::warn!("{path:?}: lines that are skipped: {skipped}; the first is line {number}, which {bad}");
        }
    }

    fn tell_of_shared(&mut self, path: Arc<str>, shared: Shared) {
        let Some((holder, symbol)) = shared.first else {
            return;
        };
        let (count, symbol) = (shared.count, String::from_utf8_lossy(symbol.as_bytes()).into_owned());
        if !self.told.shared.insert(path.clone()) {
            return;
        }
        match holder {
            Holder::Live => tracing::warn!(
                "{path:?} has symbols that feeders have sent, {count} in all, such as {symbol}: what feeders send counts"
            ),
            Holder::Table(other) => {
                let first = if path < other { &path } else { &other };
                tracing::warn!(
                    "{path:?} has symbols that other tables have, {count} in all, such as {symbol} of {other:?}: that of \
                     {first:?} counts, whose path sorts first"
                );
            }
        }
    }
}

/// Symbols of a table that others have as well.
#[derive(Default)]
struct Shared {
    count: usize,
    /// The first of them, and who has it.
    first: Option<(Holder, Symbol)>,
}

impl Shared {
    fn note(&mut self, symbol: &Symbol, holders: &[Holder], path: &str) {
        let is_other = |holder: &&Holder| !matches!(holder, Holder::Table(other) if **other == *path);
        if let Some(other) = holders.iter().find(is_other) {
            self.count += 1;
            self.first.get_or_insert_with(|| (other.clone(), *symbol));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(memory_limit: Option<u64>) -> Board {
        Board::new(Arc::new(Store::new()), Arc::default(), Charset::Utf8, memory_limit)
    }

    fn batch(payloads: &[(&str, &str)]) -> Vec<(Symbol, Box<str>)> {
        payloads
            .iter()
            .map(|(symbol, payload)| (Symbol::new(symbol.as_bytes()).unwrap(), Box::from(*payload)))
            .collect()
    }

    /// A stamp that may have been sent is not given again, and one that cannot have been does not run away.
    #[test]
    fn stamps_while_the_clock_is_behind() {
        let mut board = board(None);
        board.last_stamp = 1000;
        for (now, stamp) in
            [(1000, 1000), (1001, 1001), (990, 1002), (991, 1002), (1001, 1002), (1002, 1002), (1003, 1003)]
        {
            assert_eq!(board.stamp(now), stamp, "at {now}");
            board.last_stamp = stamp;
            board.is_ahead = now < stamp;
        }
    }

    #[test]
    fn a_batch_fits_as_a_whole_or_not_at_all() {
        let mut board = board(Some(2000));
        let payload = "x".repeat(300);
        assert_eq!(board.update(batch(&[("a", &payload)]), When::Now), Ok(()));
        assert_eq!(board.update(batch(&[("b", "1"), ("c", &payload)]), When::Now), Err(Refused::NoRoom));
        assert_eq!(
            board.update(batch(&[("a", "1"), ("c", &payload)]), When::Now),
            Ok(()),
            "what it replaces makes room"
        );
        assert_eq!(board.live().count(), 2);
        assert_eq!(board.stats.quotes.fed_bytes.get(), fed_bytes("1") + fed_bytes(&payload));
    }

    /// Lines of another kind than most are no reason for a new code each time that they change.
    #[test]
    fn codes_are_not_made_over_and_over() {
        let mut board = board(None);
        let names: Vec<String> = (0..1000).map(|number| format!("s{number}")).collect();
        let digits = "1,2,3,4,5,6,7,8,9,0,1,2,3,4,5";
        board.update(batch(&names.iter().map(|name| (&**name, digits)).collect::<Vec<_>>()), When::Now).unwrap();
        let code = |board: &Board| std::ptr::from_ref(board.next.code());
        let first = code(&board);
        for tick in 0..5 {
            let other = format!("Qx{tick}Zy%$#@!~abcdefgh^&*()_+{{}}|");
            let few: Vec<_> = names.iter().take(400).map(|name| (&**name, &*other)).collect();
            board.update(batch(&few), When::Now).unwrap();
        }
        assert_eq!(code(&board), first);
        board.trained.next = Instant::now();
        let all: Vec<_> = names.iter().map(|name| (&**name, "Qx Zy%$#@!~abcdefgh^&*()_+{}|")).collect();
        board.update(batch(&all), When::Now).unwrap();
        let second = code(&board);
        assert_ne!(second, first, "when most have become different it is time");
        board.update(batch(&names.iter().map(|name| (&**name, digits)).collect::<Vec<_>>()), When::Now).unwrap();
        assert_eq!(code(&board), second, "but not again at once");
    }
}
