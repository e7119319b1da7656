//! The answers to lists that were asked for lately: one cache for each worker, bounded, never stale.
//!
//! Pages ask for the same lists over and over, programs for lists that nobody asks for again. So what is asked for once goes
//! through a small queue, and only what is asked for again gets to stay (S3-FIFO: Yang et al., SOSP 2023). A
//! record is of one generation of the market; in a later one it holds only if none of its symbols has changed, and is
//! otherwise joined anew in its place.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use ahash::RandomState;

use crate::{
    limits::{LIST_BYTES, LIST_TURN, LISTS_REMEMBERED},
    store::{
        Entry,
        quotes::{
            Market, Quotes,
            improve::{Fate, Joined},
            line::Matcher,
        },
    },
};

/// The answers of one worker.
#[derive(Default)]
pub struct Lists {
    hasher: RandomState,
    /// By the hash of a list: the place of its record.
    places: HashMap<u64, u32, RandomState>,
    records: Vec<Option<Record>>,
    free: Vec<u32>,
    /// Asked for once, the newest last.
    new: VecDeque<u32>,
    /// Asked for again.
    kept: VecDeque<u32>,
    new_bytes: usize,
    kept_bytes: usize,
    /// Lists that were forgotten without having been asked for again.
    forgotten: Forgotten,
    /// The media types of answers, in JSON and as a script: a worker's own, whose references no other counts.
    types: [Option<Arc<str>>; 2],
    /// Bytes that were joined in this turn.
    joined: usize,
    /// For payloads that nobody has coded yet.
    pub(super) matcher: Matcher,
}

/// The answer to a list.
struct Record {
    hash: u64,
    list: Box<[u8]>,
    json: bool,
    answer: Answered,
    /// The market that it was last compared with.
    generation: u64,
    /// How often it was asked for lately, as far as that matters.
    uses: u8,
    is_kept: bool,
    bytes: usize,
    better: Better,
}

/// An answer, and what it was made of.
pub struct Answered {
    /// The answer.
    pub entry: Arc<Entry>,
    /// The numbers of its symbols.
    pub numbers: Box<[Option<u32>]>,
}

/// A better compression of a record's answer.
enum Better {
    /// The answer has been used so often.
    Unasked(u8),
    Waiting(Arc<Joined>),
    /// There is none, or it is the answer, or too many others wait.
    Done,
}

/// An answer that was used so often is compressed better at its next use: that takes as long as some ten joins, so it must
/// not be done for what changes before it is used again.
const POPULAR: u8 = 2;

/// Uses that are counted.
const MOST_USES: u8 = 3;
/// What a record takes besides its answer, list and numbers.
const RECORD: usize = 500;
/// The memory for lists which were asked for once: what a core has near it, since nearly all of it is written only.
const NEW_BYTES: usize = 512 * 1024;
/// An answer that is larger is not kept.
const MOST_BYTES: usize = LIST_BYTES / 16;

impl Lists {
    /// The media type of answers.
    pub fn content_type(&mut self, json: bool, market: &Market) -> Arc<str> {
        let terms = market.terms();
        let known = if json { &terms.json_type } else { &terms.script_type };
        self.types[usize::from(json)].get_or_insert_with(|| Arc::from(&**known)).clone()
    }

    /// Another connection has its turn.
    pub fn begin_turn(&mut self) {
        self.joined = 0;
    }

    /// Enough was joined for one connection.
    pub fn is_turn_over(&self) -> bool {
        self.joined >= LIST_TURN
    }

    /// Notes that an answer of so many bytes was joined.
    pub fn note_joined(&mut self, bytes: usize) {
        self.joined += bytes;
    }

    /// The answer to `list` in `market`, if it is here and as it would be made now.
    pub fn get(&mut self, list: &[u8], json: bool, market: &Market, quotes: &Quotes) -> Option<Arc<Entry>> {
        let record = self.record(list, json)?;
        if record.generation != market.generation() {
            if !record.holds(market) {
                return None;
            }
            record.generation = market.generation();
        }
        record.uses = (record.uses + 1).min(MOST_USES);
        let had = record.answer.entry.held_bytes();
        record.improve(quotes);
        let (entry, has) = (record.answer.entry.clone(), record.answer.entry.held_bytes());
        if has != had {
            let is_kept = record.is_kept;
            record.bytes = record.bytes + has - had;
            let bytes = self.bytes_of(is_kept);
            *bytes = *bytes + has - had;
        }
        Some(entry)
    }

    /// The numbers that the symbols of `list` had when it was answered last, if they hold in `market`.
    pub fn numbers(&mut self, list: &[u8], json: bool, market: &Market) -> Option<Box<[Option<u32>]>> {
        let record = self.record(list, json)?;
        (record.generation >= market.grown()).then(|| record.answer.numbers.clone())
    }

    /// Keeps the answer to `list`, in the place of the one before it if there is one.
    pub fn put(&mut self, list: &[u8], json: bool, answer: Answered, market: &Market) {
        let hash = self.hash(list, json);
        let bytes = RECORD + answer.entry.held_bytes() + list.len() + answer.numbers.len() * size_of::<Option<u32>>();
        if bytes > MOST_BYTES {
            // The record of it, if there is one, holds no more, and goes when its turn comes.
            return;
        }
        let old = self.places.get(&hash).and_then(|place| self.records[*place as usize].take());
        let is_kept = match &old {
            Some(old) => old.is_kept,
            None => self.forgotten.has(hash),
        };
        let uses = old.as_ref().map_or(0, |old| (old.uses + 1).min(MOST_USES));
        *self.bytes_of(is_kept) += bytes;
        *self.bytes_of(is_kept) -= old.as_ref().map_or(0, |old| old.bytes);
        let record = Record {
            hash,
            list: list.into(),
            json,
            answer,
            generation: market.generation(),
            uses,
            is_kept,
            bytes,
            better: Better::Unasked(0),
        };
        match self.places.get(&hash) {
            Some(place) => self.records[*place as usize] = Some(record),
            None => self.insert(record),
        }
        self.make_room();
    }

    fn insert(&mut self, record: Record) {
        let (hash, is_kept) = (record.hash, record.is_kept);
        let place = self.free.pop().unwrap_or_else(|| {
            self.records.push(None);
            // Each takes hundreds of bytes of a bounded memory.
            (self.records.len() - 1) as u32
        });
        self.records[place as usize] = Some(record);
        self.places.insert(hash, place);
        if is_kept { self.kept.push_back(place) } else { self.new.push_back(place) }
    }

    fn record(&mut self, list: &[u8], json: bool) -> Option<&mut Record> {
        let hash = self.hash(list, json);
        let record = self.records[*self.places.get(&hash)? as usize].as_mut()?;
        (*record.list == *list && record.json == json).then_some(record)
    }

    fn hash(&self, list: &[u8], json: bool) -> u64 {
        self.hasher.hash_one((list, json))
    }

    fn bytes_of(&mut self, is_kept: bool) -> &mut usize {
        if is_kept { &mut self.kept_bytes } else { &mut self.new_bytes }
    }

    fn make_room(&mut self) {
        loop {
            let from_new = self.new_bytes > NEW_BYTES && self.new.len() > 1;
            if !from_new && self.new_bytes + self.kept_bytes <= LIST_BYTES {
                break;
            }
            let Some(place) = (if from_new { self.new.pop_front() } else { self.kept.pop_front() }) else { break };
            let Some(record) = self.records[place as usize].as_mut() else { continue };
            let bytes = record.bytes;
            if record.uses == 0 {
                let hash = record.hash;
                self.records[place as usize] = None;
                self.places.remove(&hash);
                self.free.push(place);
                *self.bytes_of(!from_new) -= bytes;
                if from_new {
                    self.forgotten.note(hash);
                }
            } else if from_new {
                (record.uses, record.is_kept) = (0, true);
                self.new_bytes -= bytes;
                self.kept_bytes += bytes;
                self.kept.push_back(place);
            } else {
                record.uses -= 1;
                self.kept.push_back(place);
            }
        }
    }
}

/// The hashes of lists, in sets of a few that share their places: a later one takes an earlier one's where its set is full.
/// Whether a list is among them decides where it begins, no more.
#[derive(Default)]
struct Forgotten(Vec<u64>);

impl Forgotten {
    const SET: usize = 4;

    fn note(&mut self, hash: u64) {
        self.0.resize(LISTS_REMEMBERED, 0);
        let start = Self::start(hash);
        let set = &mut self.0[start..start + Self::SET];
        let place = set.iter().position(|known| [0, hash].contains(known));
        // The low bits have chosen the set.
        set[place.unwrap_or((hash >> 32) as usize % Self::SET)] = hash;
    }

    fn has(&self, hash: u64) -> bool {
        let start = Self::start(hash);
        self.0.get(start..start + Self::SET).is_some_and(|set| set.contains(&hash))
    }

    fn start(hash: u64) -> usize {
        hash as usize % (LISTS_REMEMBERED / Self::SET) * Self::SET
    }
}

impl Record {
    /// Nothing of it has changed since it was made.
    fn holds(&self, market: &Market) -> bool {
        let is_same = |number: &Option<u32>| number.is_none_or(|number| market.quote(number).since <= self.generation);
        self.generation >= market.grown() && self.answer.numbers.iter().all(is_same)
    }

    /// Asks for a better compression, or takes it.
    fn improve(&mut self, quotes: &Quotes) {
        match &mut self.better {
            Better::Done => {}
            Better::Unasked(uses) if *uses < POPULAR => *uses += 1,
            Better::Unasked(_) => {
                let joined = Joined::new(self.answer.entry.clone());
                let is_taken = self.answer.entry.varies() && quotes.improve(&joined);
                self.better = if is_taken { Better::Waiting(joined) } else { Better::Done };
            }
            Better::Waiting(joined) => match joined.fate() {
                Fate::Waiting => {}
                Fate::Best => self.better = Better::Done,
                Fate::Better(entry) => {
                    self.answer.entry = Arc::new(entry);
                    self.better = Better::Done;
                }
            },
        }
    }
}
