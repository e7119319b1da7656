//! `Range` (wire section 6, RFC 9110 §14).

use super::{number, trim};

/// What a `Range` asks for.
#[derive(PartialEq, Eq)]
pub(crate) enum Asked {
    /// Nothing that can be read.
    Nothing,
    /// So much that the whole is sent.
    Whole,
    /// Nothing that the content has.
    Unsatisfiable,
    /// The first byte and the one behind the last, of each.
    Ranges(Vec<(usize, usize)>),
}

/// Reads the value of the field for a content of `len` bytes.
pub(crate) fn read(value: &str, len: usize) -> Asked {
    let Some((unit, set)) = value.split_once('=') else {
        return Asked::Nothing;
    };
    if !unit.eq_ignore_ascii_case("bytes") {
        return Asked::Nothing;
    }
    let items: Vec<&str> = set.split(',').map(trim).filter(|item| !item.is_empty()).collect();
    let ranges: Option<Vec<(usize, usize)>> = items.iter().map(|item| read_range(item, len)).collect();
    let Some(mut ranges) = ranges else {
        return Asked::Nothing;
    };
    if ranges.is_empty() {
        return Asked::Nothing;
    }
    let bytes: usize = ranges.iter().map(|(start, end)| end - start).sum();
    if ranges.len() > 32 || bytes > len {
        return Asked::Whole;
    }
    ranges.retain(|(start, end)| start < end);
    if ranges.is_empty() {
        return Asked::Unsatisfiable;
    }
    while merge_two(&mut ranges) {}
    Asked::Ranges(ranges)
}

/// Empty where the content has nothing of it. None: malformed.
fn read_range(item: &str, len: usize) -> Option<(usize, usize)> {
    let (first, last) = item.split_once('-')?;
    let within = |position: u128| position.min(len as u128) as usize;
    if first.is_empty() {
        return Some((len - within(number(last)?), len));
    }
    let first = number(first)?;
    if last.is_empty() {
        return Some((within(first), len));
    }
    let last = number(last)?;
    if last < first {
        return None;
    }
    Some((within(first), within(last.saturating_add(1))))
}

/// Makes one of the first two that overlap or touch, in the place of the former.
fn merge_two(ranges: &mut Vec<(usize, usize)>) -> bool {
    for former in 0..ranges.len() {
        for latter in former + 1..ranges.len() {
            let (a, b) = (ranges[former], ranges[latter]);
            if a.0 <= b.1 && b.0 <= a.1 {
                ranges[former] = (a.0.min(b.0), a.1.max(b.1));
                ranges.remove(latter);
                return true;
            }
        }
    }
    false
}
