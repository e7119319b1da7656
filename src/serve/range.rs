//! `Range` to byte ranges (RFC 9110 §14). Pure.

use std::ops::Range;

use crate::limits::MAX_RANGES;

/// What a `Range` field asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Malformed or of another unit: there might as well be no `Range`.
    Nothing,
    /// So many or so much that the whole is cheaper.
    Whole,
    /// 416: nothing that the content has.
    Unsatisfiable,
    /// These.
    Ranges(Box<Ranges>),
}

/// Between one and [`MAX_RANGES`] ranges that neither overlap nor touch, in the order asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranges {
    list: [Range<usize>; MAX_RANGES],
    count: usize,
}

impl Ranges {
    fn new() -> Self {
        Self { list: [const { 0..0 }; MAX_RANGES], count: 0 }
    }

    /// The ranges.
    pub fn as_slice(&self) -> &[Range<usize>] {
        &self.list[..self.count]
    }

    /// Adds a range. Those that it overlaps or touches become one with it, in the place of the first of them.
    fn add(&mut self, mut new: Range<usize>) {
        let mut place = None;
        let mut kept = 0;
        for at in 0..self.count {
            let old = self.list[at].clone();
            if old.start <= new.end && new.start <= old.end {
                new = old.start.min(new.start)..old.end.max(new.end);
                if place.is_none() {
                    place = Some(kept);
                    kept += 1;
                }
            } else {
                self.list[kept] = old;
                kept += 1;
            }
        }
        let place = place.unwrap_or_else(|| {
            kept += 1;
            kept - 1
        });
        self.list[place] = new;
        self.count = kept;
    }
}

/// Reads the value of a `Range` field for a content of `len` bytes.
pub fn parse(value: &[u8], len: usize) -> Asked {
    let Some(set) = byte_set(value) else {
        return Asked::Nothing;
    };
    let items = set.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty());
    let mut ranges = Ranges::new();
    let (mut count, mut bytes) = (0_usize, 0_usize);
    for item in items {
        let Some(range) = range(item, len) else {
            return Asked::Nothing;
        };
        count += 1;
        // Past the cap only the form of what follows still matters.
        if count <= MAX_RANGES && !range.is_empty() {
            bytes = bytes.saturating_add(range.len());
            ranges.add(range);
        }
    }
    match count {
        0 => Asked::Nothing,
        _ if count > MAX_RANGES || bytes > len => Asked::Whole,
        _ if ranges.count == 0 => Asked::Unsatisfiable,
        _ => Asked::Ranges(Box::new(ranges)),
    }
}

fn byte_set(value: &[u8]) -> Option<&[u8]> {
    let (unit, set) = (value.get(..6)?, &value[6..]);
    unit.eq_ignore_ascii_case(b"bytes=").then_some(set)
}

/// `first-last`, `first-` or `-suffix` as a range of the content, empty if the content has nothing of it. None: malformed.
fn range(item: &[u8], len: usize) -> Option<Range<usize>> {
    let dash = item.iter().position(|byte| *byte == b'-')?;
    let (first, last) = (&item[..dash], &item[dash + 1..]);
    if first.is_empty() {
        return Some(len.saturating_sub(number(last)?)..len);
    }
    // Numbers that no integer holds are compared as well.
    if !last.is_empty() && magnitude(last) < magnitude(first) {
        return None;
    }
    let first = number(first)?;
    let last = if last.is_empty() { usize::MAX } else { number(last)? };
    Some(first.min(len)..last.saturating_add(1).min(len))
}

/// Orders digits as the numbers that they stand for.
fn magnitude(digits: &[u8]) -> (usize, &[u8]) {
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    (digits.len() - zeros, &digits[zeros..])
}

fn number(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_usize, |sum, digit| {
        digit.is_ascii_digit().then(|| sum.saturating_mul(10).saturating_add(usize::from(digit - b'0')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(value: &str) -> Option<Vec<Range<usize>>> {
        match parse(value.as_bytes(), 100) {
            Asked::Ranges(ranges) => Some(ranges.as_slice().to_vec()),
            _ => None,
        }
    }

    #[test]
    #[expect(clippy::single_range_in_vec_init, reason = "a list of one range is what is meant")]
    fn one_and_several() {
        for (value, expected) in [
            ("bytes=0-0", vec![0..1]),
            ("Bytes=10-19", vec![10..20]),
            ("bytes=90-", vec![90..100]),
            ("bytes=90-1000", vec![90..100]),
            ("bytes=-5", vec![95..100]),
            ("bytes=-99999999999999999999999", vec![0..100]),
            ("bytes=50-59, 0-9", vec![50..60, 0..10]),
            ("bytes=0-9,10-19", vec![0..20]),
            ("bytes=0-9,5-19,,", vec![0..20]),
            ("bytes=0-9,20-29,8-21", vec![0..30]),
            ("bytes=20-29,0-9,40-49,8-21", vec![0..30, 40..50]),
            ("bytes=0-9,200-", vec![0..10]),
        ] {
            assert_eq!(ranges(value), Some(expected), "{value}");
        }
    }

    #[test]
    #[expect(clippy::single_range_in_vec_init, reason = "a list of one range is what is meant")]
    fn all_else() {
        for value in ["bytes", "bytes=", "bytes=,", "lines=0-1", "bytes=a-b", "bytes=5-4", "bytes=0-1,x", "bytes=--1"] {
            assert_eq!(parse(value.as_bytes(), 100), Asked::Nothing, "{value}");
        }
        for value in ["bytes=100-", "bytes=-0", "bytes=200-300,400-"] {
            assert_eq!(parse(value.as_bytes(), 100), Asked::Unsatisfiable, "{value}");
        }
        assert_eq!(parse(b"bytes=0-,0-", 100), Asked::Whole);
        let many = |count: usize| format!("bytes={}", vec!["0-0"; count].join(","));
        assert_eq!(parse(many(33).as_bytes(), 100), Asked::Whole);
        assert_eq!(ranges(&many(32)), Some(vec![0..1]));
        assert_eq!(parse(b"bytes=0-", 0), Asked::Unsatisfiable);
    }
}
