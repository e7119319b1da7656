//! Request and store to [`Answer`]: every status of a well-formed request is decided here. Pure.

use std::ops::Range;

use super::{
    conditional::{self, Precondition},
    negotiate::Weights,
    quotes::{self, Asked as List, Lists},
    range::{self, Asked, Ranges},
    request::{Method, Once, Request},
    status::Status,
    target::{self, BadTarget, Target},
};
use crate::{
    limits::{MAX_AGE_CAP, MAX_AGE_DEFAULT},
    stats::WorkerStats,
    store::{Coding, Entry, Held, Store, quotes::Terms},
};

/// What to answer.
pub enum Answer {
    /// An answer made of an entry.
    Entry {
        /// The version.
        entry: Held,
        /// The coding that was selected.
        coding: Coding,
        /// `max-age`, in seconds.
        max_age: u32,
        /// How much of it.
        extent: Extent,
    },
    /// 301 to this location.
    Moved(Vec<u8>),
    /// 404, with the data directory's own page if it has one.
    Missing(Option<(Held, Coding)>),
    /// 204 with `Allow`.
    Options,
    /// 416 for a content of this many bytes.
    Unsatisfiable(usize),
    /// Any other status without an entry.
    Plain(Status),
}

impl Answer {
    /// The entry whose content, rather than a coding of it, goes out.
    pub fn content(&self) -> Option<&Held> {
        match self {
            Answer::Entry { extent: Extent::NotModified, .. } => None,
            Answer::Entry { entry, coding: Coding::Identity, .. } => Some(entry),
            Answer::Missing(Some((page, Coding::Identity))) => Some(page),
            _ => None,
        }
    }
}

/// How much of an entry is answered.
pub enum Extent {
    /// 200.
    Whole,
    /// 206 with one range.
    Part(Range<usize>),
    /// 206 with several.
    Parts(Box<Ranges>),
    /// 304.
    NotModified,
}

/// Memory that outlives an answer, so that making one allocates nothing; and the lists that were answered lately.
#[derive(Default)]
pub struct Scratch {
    path: Vec<u8>,
    key: Vec<u8>,
    lists: Lists,
}

impl Scratch {
    /// Another connection has its turn.
    pub fn begin_turn(&mut self) {
        self.lists.begin_turn();
    }

    /// So much was joined for one connection that others have waited for long enough.
    pub fn is_turn_over(&self) -> bool {
        self.lists.is_turn_over()
    }
}

/// Answers `request` from `store` at the time `now`, in seconds since 1970. The order is that of RFC 9110: syntax,
/// method, resource, preconditions, range.
pub fn answer(
    request: &Request<'_, '_>,
    store: &Store,
    now: u64,
    scratch: &mut Scratch,
    stats: &WorkerStats,
) -> Answer {
    match request.method {
        // Its target is an authority, which no path can be read from.
        Method::Connect => return Answer::Plain(Status::MethodNotAllowed),
        Method::Options if request.target == b"*" => return Answer::Options,
        _ => {}
    }
    let Ok(target) = Target::parse(request.target) else {
        return Answer::Plain(Status::BadRequest);
    };
    if let Some(list) = List::parse(target.path, target.query) {
        return answer_list(request, &list, store, now, scratch, stats);
    }
    let Scratch { path, key, .. } = scratch;
    let Ok(path) = target::decode(target.path, path) else {
        return Answer::Plain(Status::BadRequest);
    };
    let found = match find(store, path, key) {
        Ok(found) => found,
        Err(BadTarget) => return Answer::Plain(Status::BadRequest),
    };
    match request.method {
        Method::Get | Method::Head => {}
        Method::Options => return Answer::Options,
        Method::Connect | Method::Other => return Answer::Plain(Status::MethodNotAllowed),
    }
    let weights = Weights::parse(&request.accept_encoding);
    match found {
        Found::Entry(entry) => {
            let max_age = max_age(target.max_age(), MAX_AGE_DEFAULT, MAX_AGE_CAP);
            answer_entry(request, entry, &weights, max_age, now)
        }
        Found::Directory(path) => Answer::Moved(location(&path, target.query)),
        Found::Nothing => Answer::Missing(store.get(b"404.html").map(|page| {
            let coding = weights.choose(&page);
            (page, coding)
        })),
    }
}

/// Answers a list of quotes.
fn answer_list(
    request: &Request<'_, '_>,
    list: &List<'_>,
    store: &Store,
    now: u64,
    scratch: &mut Scratch,
    stats: &WorkerStats,
) -> Answer {
    let Scratch { path, lists, .. } = scratch;
    match request.method {
        Method::Get | Method::Head => {}
        _ if quotes::check(list, path).is_err() => return Answer::Plain(Status::BadRequest),
        Method::Options => return Answer::Options,
        Method::Connect | Method::Other => return Answer::Plain(Status::MethodNotAllowed),
    }
    let quotes = store.quotes();
    match quotes::answer(list, quotes, lists, path, stats) {
        Ok(entry) => {
            let Terms { max_age: default, max_age_cap: cap, .. } = *quotes.terms();
            answer_entry(
                request,
                entry,
                &Weights::parse(&request.accept_encoding),
                max_age(list.max_age, default, cap),
                now,
            )
        }
        Err(BadTarget) => Answer::Plain(Status::BadRequest),
    }
}

fn answer_entry(request: &Request<'_, '_>, entry: Held, weights: &Weights, max_age: u32, now: u64) -> Answer {
    let asked = match request.range.value() {
        Some(value) if request.method == Method::Get && weights.accepts_identity() => {
            range::parse(value, entry.identity_len())
        }
        _ => Asked::Nothing,
    };
    // Ranges count the bytes of the content, so they select it.
    let coding = if asked == Asked::Nothing { weights.choose(&entry) } else { Coding::Identity };
    let extent = match conditional::evaluate(request, &entry, now) {
        Precondition::Failed => return Answer::Plain(Status::PreconditionFailed),
        Precondition::NotModified => Extent::NotModified,
        Precondition::Holds if !range_applies(request, &entry, now) => Extent::Whole,
        Precondition::Holds => match asked {
            Asked::Nothing | Asked::Whole => Extent::Whole,
            Asked::Unsatisfiable => return Answer::Unsatisfiable(entry.identity_len()),
            Asked::Ranges(ranges) => match ranges.as_slice() {
                [only] => Extent::Part(only.clone()),
                _ => Extent::Parts(ranges),
            },
        },
    };
    Answer::Entry { entry, coding, max_age, extent }
}

fn range_applies(request: &Request<'_, '_>, entry: &Entry, now: u64) -> bool {
    match request.if_range {
        Once::Absent => true,
        Once::Value(validator) => conditional::if_range_holds(validator, entry, now),
        Once::Repeated => false,
    }
}

enum Found {
    Entry(Held),
    /// There is an index one level below this path, which lacks its slash.
    Directory(Vec<u8>),
    Nothing,
}

/// Looks `path` up as it is, then in its normal form.
fn find(store: &Store, path: &[u8], key: &mut Vec<u8>) -> Result<Found, BadTarget> {
    if let Some(entry) = find_exact(store, path, key) {
        return Ok(Found::Entry(entry));
    }
    let normal = target::normalise(path)?;
    if let Some(entry) = normal.as_deref().and_then(|normal| find_exact(store, normal, key)) {
        return Ok(Found::Entry(entry));
    }
    let path = normal.unwrap_or_else(|| path.to_vec());
    if !path.ends_with(b"/") && store.contains(index_key(&path, b"/index.html", key)) {
        return Ok(Found::Directory(path));
    }
    Ok(Found::Nothing)
}

fn find_exact(store: &Store, path: &[u8], key: &mut Vec<u8>) -> Option<Held> {
    if path.ends_with(b"/") { store.get(index_key(path, b"index.html", key)) } else { store.get(path.get(1..)?) }
}

fn index_key<'k>(path: &[u8], index: &[u8], key: &'k mut Vec<u8>) -> &'k [u8] {
    key.clear();
    // A key has no slash in front.
    key.extend_from_slice(path.get(1..).unwrap_or_default());
    key.extend_from_slice(index);
    key
}

/// A normal path begins with exactly one slash, so the location can name no other host.
fn location(path: &[u8], query: Option<&[u8]>) -> Vec<u8> {
    let mut location = Vec::with_capacity(path.len() + 1);
    target::encode(path, &mut location);
    location.push(b'/');
    if let Some(query) = query {
        location.push(b'?');
        location.extend_from_slice(query);
    }
    location
}

/// The page says how long its copy may live. Anything but digits is as good as nothing.
fn max_age(asked: Option<&[u8]>, default: u32, cap: u32) -> u32 {
    let digits = asked.filter(|value| !value.is_empty() && value.iter().all(u8::is_ascii_digit));
    digits.map_or(default, |digits| {
        let digit = |sum: u32, digit: &u8| sum.saturating_mul(10).saturating_add(u32::from(digit - b'0'));
        digits.iter().fold(0, digit).min(cap)
    })
}
