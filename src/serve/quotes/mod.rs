//! Lists of quotes: from the symbols of a target to an entry like any other, so that negotiation, preconditions and ranges
//! are those of files. Pure but for the cache of the worker.

mod list;
mod lists;

use std::{collections::HashSet, sync::Arc};

pub use list::Asked;
use lists::Answered;
pub use lists::Lists;

use super::target::{self, BadTarget};
use crate::{
    limits::{MAX_CODED, MAX_LIST_ANSWER},
    stats::WorkerStats,
    store::{
        Bodies, Entry, Held,
        quotes::{
            Market, Publication, Quotes,
            join::{self, JSON, Record, Shape},
        },
    },
};

/// The symbols of a target, checked.
///
/// # Errors
/// [`BadTarget`] if it lists anything but symbols, or too many, or none.
pub fn check(asked: &Asked<'_>, scratch: &mut Vec<u8>) -> Result<(), BadTarget> {
    list::symbols(target::decode(asked.list, scratch)?, asked.json).map(drop)
}

/// The answer to a list: one version of all its symbols.
///
/// # Errors
/// As [`check`]; and if the answer would be larger than [`MAX_LIST_ANSWER`].
pub fn answer(
    asked: &Asked<'_>,
    quotes: &Quotes,
    lists: &mut Lists,
    scratch: &mut Vec<u8>,
    stats: &WorkerStats,
) -> Result<Held, BadTarget> {
    let list = target::decode(asked.list, scratch)?;
    let market = quotes.load();
    if let Some(entry) = lists.get(list, asked.json, &market, quotes) {
        stats.lists_cached.add(1);
        return Ok(Held::own(entry));
    }
    let symbols = list::symbols(list, asked.json)?;
    let numbers = lists
        .numbers(list, asked.json, &market)
        .unwrap_or_else(|| symbols.iter().map(|symbol| market.number(symbol)).collect());
    let entry = Arc::new(join(&symbols, &numbers, asked.json, &market, lists)?);
    lists.note_joined(entry.identity_len());
    // Its stamp will be another one in a moment.
    if entry.stamp() != Publication::PENDING {
        lists.put(list, asked.json, Answered { entry: entry.clone(), numbers }, &market);
    }
    stats.lists_joined.add(1);
    Ok(Held::own(entry))
}

fn join(
    symbols: &[&[u8]],
    numbers: &[Option<u32>],
    json: bool,
    market: &Market,
    lists: &mut Lists,
) -> Result<Entry, BadTarget> {
    let terms = market.terms();
    let shape = if json { JSON } else { Shape::script(&terms.open) };
    let mut records: Vec<Record<'_>> = Vec::with_capacity(symbols.len());
    let mut listed = HashSet::new();
    let mut stamp = 0;
    let mut is_dated = false;
    for (symbol, number) in symbols.iter().zip(numbers) {
        let quote = number.map(|number| market.quote(number));
        stamp = stamp.max(quote.and_then(|quote| quote.published.as_ref()).map_or(0, |published| published.stamp()));
        let line = quote.and_then(|quote| quote.line.as_deref());
        is_dated |= line.is_some();
        // In JSON a name stands once.
        if !json || listed.insert(*symbol) {
            records.push((symbol, line));
        }
    }
    if join::len(&records, &shape) > MAX_LIST_ANSWER {
        return Err(BadTarget);
    }
    let bodies = Bodies {
        deflate: join::deflate(&records, &shape, market.code(), &mut lists.matcher).map(Vec::into_boxed_slice),
        ..Bodies::identity(join::identity(&records, &shape).into())
    };
    let content_type = lists.content_type(json, market);
    let entry = Entry::new(content_type, if is_dated { stamp } else { Entry::UNDATED }, bodies);
    // Payloads that are too long to be coded are compressed when they are asked for again.
    let is_uncoded = entry.deflate_body().is_none() && entry.identity_len() > MAX_CODED;
    Ok(if is_uncoded { entry.varying() } else { entry })
}
