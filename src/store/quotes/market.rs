//! All symbols at one moment. A market never changes; the next one shares with it what is the same.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::{Hash, Hasher},
    sync::Arc,
};

use ahash::RandomState;

use super::{
    code::{Code, Counts},
    join::{self, Record, Shape},
    line::{self, Line, Matcher},
};
use crate::{
    limits::{LIST_AGE_CAP, LIST_AGE_DEFAULT, MAX_SYMBOL},
    store::Entry,
    sync::atomic::{AtomicU64, Ordering},
};

/// Symbols that are copied together when one of them changes.
const CHUNK: usize = 64;
/// Lines that a code is made from, and how many of them go into one answer.
const SAMPLE: usize = 512;
const SAMPLE_LIST: usize = 8;

/// The name of a symbol, where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol {
    len: u8,
    bytes: [u8; MAX_SYMBOL],
}

impl Symbol {
    /// None: it is too long.
    pub fn new(symbol: &[u8]) -> Option<Self> {
        let mut bytes = [0; MAX_SYMBOL];
        bytes.get_mut(..symbol.len())?.copy_from_slice(symbol);
        Some(Self { len: symbol.len() as u8, bytes })
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Borrow<[u8]> for Symbol {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Hash for Symbol {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

/// Whether `symbol` may be a symbol; `wide`: with the bytes that only JSON allows.
pub fn is_symbol(symbol: &[u8], wide: bool) -> bool {
    let is_narrow = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$');
    (1..=MAX_SYMBOL).contains(&symbol.len())
        && symbol.iter().all(|byte| is_narrow(*byte) || (wide && matches!(byte, b'.' | b'-')))
}

/// The moment in which something became visible. It is known only afterwards, and is the same for all that became so at once.
pub struct Publication(AtomicU64);

impl Publication {
    /// The stamp while the moment is not known: it is later than all others, so it is not sent.
    pub const PENDING: u64 = Entry::UNDATED - 1;

    /// Not known yet.
    pub fn pending() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(Self::PENDING)))
    }

    /// Seconds since 1970, or [`Publication::PENDING`].
    pub fn stamp(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Says when it was.
    pub fn settle(&self, stamp: u64) {
        self.0.store(stamp, Ordering::Release);
    }
}

/// A symbol at one moment.
#[derive(Clone, Default)]
pub struct Quote {
    /// None: it is unknown, and was not always.
    pub line: Option<Arc<Line>>,
    /// When it became what it is. None: it never was anything.
    pub published: Option<Arc<Publication>>,
    /// The market in which it became what it is.
    pub since: u64,
}

/// What the scripts of a market look like, and how long copies of its answers live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What each line of a script begins with: `var ` and the prefix.
    pub open: Box<[u8]>,
    /// The media type of a script, with its charset.
    pub script_type: Arc<str>,
    /// That of JSON.
    pub json_type: Arc<str>,
    /// `max-age` where the request does not say, in seconds.
    pub max_age: u32,
    /// The most that a request may say.
    pub max_age_cap: u32,
}

impl Terms {
    /// Terms with this prefix of names and this charset.
    pub fn new(prefix: &str, charset: &str, max_age: u32, max_age_cap: u32) -> Self {
        Self {
            open: format!("var {prefix}").into_bytes().into(),
            script_type: format!("text/javascript; charset={charset}").into(),
            json_type: "application/json".into(),
            max_age,
            max_age_cap,
        }
    }
}

impl Default for Terms {
    fn default() -> Self {
        Self::new("hq_str_", "utf-8", LIST_AGE_DEFAULT, LIST_AGE_CAP)
    }
}

/// All symbols at one moment.
#[derive(Clone)]
pub struct Market {
    /// Counts the markets.
    generation: u64,
    /// The generation in which the last symbol was added: until then the numbers of symbols hold.
    grown: u64,
    numbers: Arc<HashMap<Symbol, u32, RandomState>>,
    quotes: Vec<Arc<Vec<Quote>>>,
    code: Arc<Code>,
    terms: Arc<Terms>,
}

impl Market {
    /// A market without symbols.
    pub fn new(terms: Arc<Terms>) -> Self {
        Self {
            generation: 0,
            grown: 0,
            numbers: Arc::default(),
            quotes: Vec::new(),
            code: Arc::new(Code::new(&Counts::new())),
            terms,
        }
    }

    /// Which of the markets that follow each other it is.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The generation since which symbols have had their numbers, and unknown ones none.
    pub fn grown(&self) -> u64 {
        self.grown
    }

    /// The number of a symbol that is or was known.
    pub fn number(&self, symbol: &[u8]) -> Option<u32> {
        self.numbers.get(symbol).copied()
    }

    /// The symbol of a number that it gave.
    pub fn quote(&self, number: u32) -> &Quote {
        let number = number as usize;
        &self.quotes[number / CHUNK][number % CHUNK]
    }

    /// The code of all its lines.
    pub fn code(&self) -> &Code {
        &self.code
    }

    /// What its answers look like.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Becomes the next market.
    pub fn step(&mut self) {
        self.generation += 1;
    }

    /// The number of a symbol, given to it if it has none.
    pub fn add(&mut self, symbol: Symbol) -> u32 {
        if let Some(number) = self.number(symbol.as_bytes()) {
            return number;
        }
        let number = self.numbers.len() as u32;
        Arc::make_mut(&mut self.numbers).insert(symbol, number);
        self.grown = self.generation;
        if (number as usize).is_multiple_of(CHUNK) {
            self.quotes.push(Arc::new(Vec::with_capacity(CHUNK)));
        }
        if let Some(chunk) = self.quotes.last_mut() {
            Arc::make_mut(chunk).push(Quote::default());
        }
        number
    }

    /// Sets what a symbol is from this market on.
    pub fn set(&mut self, number: u32, line: Option<Arc<Line>>, published: Arc<Publication>) {
        let since = self.generation;
        *self.quote_mut(number) = Quote { line, published: Some(published), since };
    }

    fn quote_mut(&mut self, number: u32) -> &mut Quote {
        let number = number as usize;
        &mut Arc::make_mut(&mut self.quotes[number / CHUNK])[number % CHUNK]
    }

    /// Makes a new code of the lines as they are now. Bits and bytes of the payloads that it was made of.
    pub fn train(&mut self, matcher: &mut Matcher) -> Cost {
        let known = self.numbers.iter().filter_map(|(symbol, number)| {
            let line = self.quote(*number).line.as_ref()?;
            Some((*number, *symbol, line.clone()))
        });
        let mut known: Vec<(u32, Symbol, Arc<Line>)> = known.collect();
        known.sort_unstable_by_key(|(number, ..)| *number);
        let sample = sample(&known, SAMPLE).map(|(_, symbol, line)| (symbol.as_bytes(), Some(&**line)));
        let sample: Vec<Record<'_>> = sample.filter(|(_, line)| line.is_some_and(Line::is_codable)).collect();
        let (script, mut counts) = (Shape::script(&self.terms.open), Counts::new());
        for list in sample.chunks(SAMPLE_LIST) {
            join::count(list, &script, &mut counts, matcher);
            join::count(&list[..1], &join::JSON, &mut counts, matcher);
        }
        let code = Arc::new(Code::new(&counts));
        let cost = cost(&code, sample.iter().filter_map(|(_, line)| *line), matcher);
        // No line may be read in a code that is not its own, so nothing stands between these.
        let lines: Vec<_> = known.iter().map(|(number, _, line)| (*number, Arc::new(line.uncoded()))).collect();
        self.code = code;
        for (number, line) in lines {
            self.quote_mut(number).line = Some(line);
        }
        cost
    }

    /// What the payloads of lines take in the code.
    pub fn cost<'l>(&self, lines: impl Iterator<Item = &'l Line>, matcher: &mut Matcher) -> Cost {
        cost(&self.code, lines, matcher)
    }
}

fn cost<'l>(code: &Code, lines: impl Iterator<Item = &'l Line>, matcher: &mut Matcher) -> Cost {
    lines.filter(|line| line.is_codable()).fold(Cost::default(), |Cost { bits, bytes }, line| {
        let payload = line.script().text;
        Cost { bits: bits + line::cost(payload, code, matcher), bytes: bytes + payload.len() as u64 }
    })
}

/// About `most` of `all`, from everywhere, and without a step that something in them may be in time with.
pub fn sample<T>(all: &[T], most: usize) -> impl Iterator<Item = &T> {
    let step = all.len().div_ceil(most).max(1);
    all.chunks(step).enumerate().filter_map(move |(number, chunk)| chunk.get(number * 7919 % step).or(chunk.first()))
}

/// What payloads take in a code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Bits in the code.
    pub bits: u64,
    /// Bytes as they are.
    pub bytes: u64,
}

impl Cost {
    /// It is notably more than `other` for as much: a new code would serve better.
    pub fn is_worse_than(&self, other: &Self) -> bool {
        self.bits * other.bytes * 100 > other.bits * self.bytes * 108
    }
}
