//! Lines to one answer: their text one after the other, and the same as one deflate stream without compressing anything.
//! Pure.
//!
//! The stream is one block in the market's code. What stands between two payloads (the end of one line, the
//! beginning of the next) is a match with what stood between the two before; the ends that payloads have in common are
//! part of it, and so are the beginnings of symbols.

use super::{
    bits::BitWriter,
    code::{Code, Counts, FARTHEST, MATCH},
    line::{self, Line, Matcher, Payload},
};

/// A shorter match costs what its literals do.
const SHORTEST: usize = 4;

/// What surrounds symbols and payloads.
pub struct Shape<'s> {
    /// Before everything.
    pub start: &'s [u8],
    /// Before each symbol.
    pub open: &'s [u8],
    /// Between symbol and payload.
    pub middle: &'s [u8],
    /// After each payload but the last.
    pub close: &'s [u8],
    /// After the last payload.
    pub end: &'s [u8],
    /// After an unknown symbol instead of the middle; None: its payload is empty.
    pub unknown: Option<&'s [u8]>,
    /// The answer is JSON.
    pub is_json: bool,
}

/// JSON.
pub const JSON: Shape<'static> = Shape {
    start: b"{",
    open: b"\"",
    middle: b"\":\"",
    close: b"\",",
    end: b"\"}",
    unknown: Some(b"\":null"),
    is_json: true,
};

impl<'s> Shape<'s> {
    /// A script; `open` is `var ` and the prefix.
    pub fn script(open: &'s [u8]) -> Self {
        Self { start: b"", open, middle: b"=\"", close: b"\";\n", end: b"\";\n", unknown: None, is_json: false }
    }

    /// The payload of a record; None: what is said of unknown symbols.
    fn payload<'l>(&self, line: Option<&'l Line>) -> Option<Payload<'l>> {
        match line {
            Some(line) if self.is_json => Some(line.json()),
            Some(line) => Some(line.script()),
            None if self.unknown.is_some() => None,
            None => Some(Payload::EMPTY),
        }
    }

    /// Bytes of a record with what follows it.
    fn len(&self, symbol: &[u8], payload: Option<&Payload<'_>>) -> usize {
        let rest = match (payload, self.unknown) {
            (Some(payload), _) => self.middle.len() + payload.text.len() + self.close.len(),
            // A comma follows it, or the end without its quote.
            (None, unknown) => unknown.unwrap_or_default().len() + 1,
        };
        self.open.len() + symbol.len() + rest
    }
}

/// A symbol that was asked for, and its line if it is known.
pub type Record<'l> = (&'l [u8], Option<&'l Line>);

/// Bytes of the answer.
pub fn len(records: &[Record<'_>], shape: &Shape<'_>) -> usize {
    let lens = records.iter().map(|(symbol, line)| shape.len(symbol, shape.payload(*line).as_ref()));
    shape.start.len() + lens.sum::<usize>()
}

/// The text of the answer.
pub fn identity(records: &[Record<'_>], shape: &Shape<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(len(records, shape));
    out.extend_from_slice(shape.start);
    for (at, (symbol, line)) in records.iter().enumerate() {
        let is_last = at + 1 == records.len();
        match (line, shape.payload(*line)) {
            // It has been put together once and for all.
            (Some(line), _) if !shape.is_json => out.extend_from_slice(line.text()),
            (_, Some(payload)) => {
                let close = if is_last { shape.end } else { shape.close };
                [shape.open, symbol, shape.middle, payload.text, close]
                    .iter()
                    .for_each(|part| out.extend_from_slice(part));
            }
            (_, None) => {
                let close = unquoted(if is_last { shape.end } else { shape.close });
                [shape.open, symbol, shape.unknown.unwrap_or_default(), close]
                    .iter()
                    .for_each(|part| out.extend_from_slice(part));
            }
        }
    }
    out
}

/// The answer as one raw deflate stream. None: some payload could not be coded.
pub fn deflate(records: &[Record<'_>], shape: &Shape<'_>, code: &Code, matcher: &mut Matcher) -> Option<Vec<u8>> {
    let mut writer = Writer { code, matcher, out: BitWriter::with_capacity(128 + records.len() * 96), coded: true };
    writer.out.append(code.header(), u32::MAX);
    walk(records, shape, &mut writer);
    code.end(&mut writer.out);
    writer.coded.then(|| writer.out.into_bytes())
}

/// Counts what the answer takes, to make a code from.
pub fn count(records: &[Record<'_>], shape: &Shape<'_>, counts: &mut Counts, matcher: &mut Matcher) {
    walk(records, shape, &mut Counter { counts, matcher });
}

/// What is done with the parts of an answer.
trait Sink {
    fn literals(&mut self, bytes: &[u8]);
    fn matched(&mut self, len: usize, distance: usize);
    /// A payload without its last `cut` bytes.
    fn payload(&mut self, payload: &Payload<'_>, cut: usize);
}

struct Writer<'c> {
    code: &'c Code,
    matcher: &'c mut Matcher,
    out: BitWriter,
    coded: bool,
}

impl Sink for Writer<'_> {
    fn literals(&mut self, bytes: &[u8]) {
        self.coded &= self.code.literals(bytes, &mut self.out);
    }

    fn matched(&mut self, len: usize, distance: usize) {
        self.code.matched(len, distance, &mut self.out);
    }

    fn payload(&mut self, payload: &Payload<'_>, cut: usize) {
        self.coded &= payload.append(cut, self.code, self.matcher, &mut self.out);
    }
}

struct Counter<'c> {
    counts: &'c mut Counts,
    matcher: &'c mut Matcher,
}

impl Sink for Counter<'_> {
    fn literals(&mut self, bytes: &[u8]) {
        self.counts.literals(bytes);
    }

    fn matched(&mut self, len: usize, distance: usize) {
        self.counts.matched(len, distance);
    }

    fn payload(&mut self, payload: &Payload<'_>, cut: usize) {
        line::count(payload.text, cut, self.counts, self.matcher);
    }
}

/// The record before, of which the last `cut` bytes of the payload and what follows it have not been written.
struct Before<'l> {
    symbol: &'l [u8],
    payload: Payload<'l>,
    cut: usize,
    /// There is one before it, too, so that what stands between the two can be repeated.
    follows: bool,
}

fn walk(records: &[Record<'_>], shape: &Shape<'_>, sink: &mut impl Sink) {
    sink.literals(shape.start);
    let mut before: Option<Before<'_>> = None;
    for (at, (symbol, line)) in records.iter().enumerate() {
        let common = pass(before.as_ref(), symbol, shape, sink);
        sink.literals(&symbol[common..]);
        before = match shape.payload(*line) {
            Some(payload) => {
                sink.literals(shape.middle);
                let cut = before.as_ref().map_or(0, |before| payload.common_tail(&before.payload));
                sink.payload(&payload, cut);
                Some(Before { symbol, payload, cut, follows: before.is_some() })
            }
            None => {
                sink.literals(shape.unknown.unwrap_or_default());
                let is_last = at + 1 == records.len();
                sink.literals(unquoted(if is_last { shape.end } else { shape.close }));
                None
            }
        };
    }
    if let Some(Before { payload, cut, .. }) = before {
        sink.literals(&payload.text[payload.text.len() - cut..]);
        sink.literals(shape.end);
    }
}

/// Writes what is left of the record before, and the opening of the one with `symbol`. How much of that is written, too.
fn pass(before: Option<&Before<'_>>, symbol: &[u8], shape: &Shape<'_>, sink: &mut impl Sink) -> usize {
    let Some(Before { symbol: last, payload, cut, follows }) = before else {
        sink.literals(shape.open);
        return 0;
    };
    let common = symbol.iter().zip(*last).take_while(|(a, b)| a == b).count();
    // What was written just before the record itself: the end of another one, or nothing.
    let ending = if *follows { cut + shape.close.len() } else { 0 };
    let (len, distance) = (ending + shape.open.len() + common, shape.len(last, Some(payload)));
    let fits = (SHORTEST..=*MATCH.end()).contains(&len) && distance <= FARTHEST;
    if !(fits && *follows) {
        sink.literals(&payload.text[payload.text.len() - cut..]);
        sink.literals(shape.close);
    }
    if fits {
        sink.matched(len, distance);
        return common;
    }
    sink.literals(shape.open);
    0
}

/// What follows a value without quotes.
fn unquoted(close: &[u8]) -> &[u8] {
    close.strip_prefix(b"\"").unwrap_or(close)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use flate2::{Decompress, FlushDecompress, Status};

    use super::*;
    use crate::store::quotes::{Market, Publication, Symbol, Terms};

    fn inflate(stream: &[u8]) -> Option<Vec<u8>> {
        let mut content = Vec::with_capacity(1 << 22);
        let status = Decompress::new(false).decompress_vec(stream, &mut content, FlushDecompress::Finish).ok()?;
        (status == Status::StreamEnd).then_some(content)
    }

    fn market(quotes: &[(&str, &str)]) -> Market {
        let mut market = Market::new(Arc::new(Terms::default()));
        for (symbol, payload) in quotes {
            let text = format!("var hq_str_{symbol}=\"{payload}\";\n").into_bytes();
            let start = 13 + symbol.len();
            let line = Line::new(0, text.into(), start..start + payload.len(), None);
            let number = market.add(Symbol::new(symbol.as_bytes()).unwrap());
            market.set(number, Some(Arc::new(line)), Publication::pending());
        }
        market.train(&mut Matcher::default());
        market
    }

    fn both(market: &Market, symbols: &[&str]) {
        let mut expected = [String::new(), String::from("{")];
        let quotes: Vec<_> = symbols.iter().map(|symbol| market.number(symbol.as_bytes())).collect();
        let lines = quotes.iter().map(|number| number.and_then(|number| market.quote(number).line.as_deref()));
        let records: Vec<Record<'_>> = symbols.iter().map(|symbol| symbol.as_bytes()).zip(lines).collect();
        for (symbol, line) in &records {
            let symbol = std::str::from_utf8(symbol).unwrap();
            let payload = line.map(|line| std::str::from_utf8(line.script().text).unwrap());
            expected[0].push_str(&format!("var hq_str_{symbol}=\"{}\";\n", payload.unwrap_or_default()));
            let json = payload.map_or("null".to_owned(), |payload| format!("\"{payload}\""));
            let comma = if expected[1].len() > 1 { "," } else { "" };
            expected[1].push_str(&format!("{comma}\"{symbol}\":{json}"));
        }
        expected[1].push('}');
        let terms = Terms::default();
        for (shape, expected) in [Shape::script(&terms.open), JSON].iter().zip(expected) {
            assert_eq!(len(&records, shape), expected.len());
            assert_eq!(identity(&records, shape), expected.as_bytes());
            let deflate = deflate(&records, shape, market.code(), &mut Matcher::default()).unwrap();
            assert_eq!(inflate(&deflate).as_deref(), Some(expected.as_bytes()), "{symbols:?}");
        }
    }

    #[test]
    fn every_list_inflates_to_its_text() {
        let long = "0123456789".repeat(400);
        let shared = format!("x{}", "same ending in all of them, longer than a tail may be".repeat(2));
        let quotes = [
            ("a", "1,2,3,2026-11-20,15:00:00,00"),
            ("ab", "9,8,7,2026-11-20,15:00:00,00"),
            ("abc", ""),
            ("b", "绵世股份,9.29,9.29,9.29,9.290,9.29,2026-11-20,15:00:00,00"),
            ("long", &long),
            ("s1", &shared),
            ("s2", &shared[1..]),
            ("$_Z9", "\\u0000\\\""),
            ("endless", &long.repeat(2)),
        ];
        let market = market(&quotes);
        let symbols = ["a", "ab", "abc", "b", "long", "s1", "s2", "$_Z9", "unknown", "Q"];
        for first in symbols {
            both(&market, &[first]);
            for second in symbols {
                both(&market, &[first, second]);
                for third in symbols {
                    both(&market, &[first, second, third]);
                    both(&market, &[first, second, third, first, second]);
                }
            }
        }
        let line = market.quote(market.number(b"endless").unwrap()).line.as_deref();
        assert_eq!(deflate(&[(b"endless", line)], &JSON, market.code(), &mut Matcher::default()), None, "too long");
    }
}
