//! Preconditions (RFC 9110 §13). Pure.

use super::request::{Lines, Request};
use crate::{clock::parse_http_date, store::Entry};

/// What the preconditions of a GET or HEAD say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Answer as if there were none.
    Holds,
    /// 304: the client has this version.
    NotModified,
    /// 412: the client wants another version than this.
    Failed,
}

/// Evaluates the preconditions in the order of RFC 9110 §13.2.2. `now` is in seconds since 1970.
pub fn evaluate(request: &Request<'_, '_>, entry: &Entry, now: u64) -> Precondition {
    if request.if_match.is_present() {
        if !lists(&request.if_match, entry, Comparison::Strong) {
            return Precondition::Failed;
        }
    } else if let Some(date) = request.if_unmodified_since.value().and_then(read_date)
        && entry.is_dated()
        && entry.stamp() > date
    {
        return Precondition::Failed;
    }
    let unchanged = if request.if_none_match.is_present() {
        lists(&request.if_none_match, entry, Comparison::Weak)
    } else {
        request.if_modified_since.value().is_some_and(|date| is_last_modified(date, entry, now))
    };
    if unchanged { Precondition::NotModified } else { Precondition::Holds }
}

/// `If-Range`: the client's part is of this version, so ranges of it may be sent. A strong entity tag, or exactly the
/// date of `Last-Modified`.
pub fn if_range_holds(validator: &[u8], entry: &Entry, now: u64) -> bool {
    match entity_tag(validator) {
        Some((tag, rest)) => rest.is_empty() && !tag.weak && tag.opaque == entry.etag(),
        None => is_last_modified(validator, entry, now),
    }
}

/// The date is the one that this entry's `Last-Modified` would show now. An older or newer one is of another version:
/// after a rollback the new version is the older one.
fn is_last_modified(value: &[u8], entry: &Entry, now: u64) -> bool {
    let Some(last_modified) = entry.last_modified(now) else {
        return false;
    };
    // Most clients echo what they were sent; spares the parsing.
    value == last_modified || read_date(value) == Some(entry.stamp())
}

/// A date, without the parameters that some browsers append (`; length=6`).
fn read_date(value: &[u8]) -> Option<u64> {
    let date = value.split(|byte| *byte == b';').next()?;
    parse_http_date(date.trim_ascii())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// The list holds `*` or an entity tag that matches the entry's. The content's strong tag is compared whatever coding
/// would be sent: the codings of one version are equal in content.
fn lists(lines: &Lines<'_, '_>, entry: &Entry, comparison: Comparison) -> bool {
    lines.iter().any(|line| list_has(line, entry, comparison))
}

fn list_has(mut list: &[u8], entry: &Entry, comparison: Comparison) -> bool {
    loop {
        list = list.trim_ascii_start();
        list = match (list, entity_tag(list)) {
            ([], _) => return false,
            ([b',', rest @ ..], _) => rest,
            ([b'*'], _) => return true,
            ([b'*', rest @ ..], _) if rest.trim_ascii_start().starts_with(b",") => return true,
            (_, Some((tag, rest))) => {
                if tag.opaque == entry.etag() && (comparison == Comparison::Weak || !tag.weak) {
                    return true;
                }
                rest
            }
            // Not a tag: on to the next item.
            _ => list.iter().position(|byte| *byte == b',').map_or(&[][..], |comma| &list[comma..]),
        };
    }
}

struct EntityTag<'b> {
    weak: bool,
    opaque: &'b [u8],
}

/// The entity tag at the front of `value`, and what follows it.
fn entity_tag(value: &[u8]) -> Option<(EntityTag<'_>, &[u8])> {
    let (weak, quoted) = match value {
        [b'W', b'/', quoted @ ..] => (true, quoted),
        _ => (false, value),
    };
    let [b'"', rest @ ..] = quoted else {
        return None;
    };
    let end = memchr::memchr(b'"', rest)?;
    Some((EntityTag { weak, opaque: &rest[..end] }, &rest[end + 1..]))
}
