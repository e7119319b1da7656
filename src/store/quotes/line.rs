//! One symbol's line: its text, made in advance, and the payload coded so that it joins with others. Pure.
//!
//! A payload is coded when it is first asked for, by whoever needs it: a tick is visible at once, and what nobody reads costs nothing.
//! Payloads are coded apart, with matches inside themselves. Their last bytes are always literals: what the ends of two
//! lines have in common (dates, times) can then be cut off one and made part of the match that spans from line to line.

use std::ops::Range;

use once_cell::race::OnceBox;

use crate::limits::MAX_CODED;

use super::{
    bits::{BitRun, BitWriter},
    code::{Code, Counts, FARTHEST, MATCH},
};

/// The last bytes of a payload that are coded as literals.
pub const TAIL: usize = 32;
/// A shorter match costs about what its literals do: four digits are 14 bits.
const SHORTEST: usize = 5;
/// Earlier places that are tried for a match.
const TRIES: usize = 4;

/// The line of a symbol.
pub struct Line {
    /// Of the payload as it was published: it tells whether another one is the same.
    hash: u64,
    script: Form,
    /// Where the script's charset is not UTF-8, the payload for JSON.
    json: Option<Form>,
}

/// A payload in one charset, within what surrounds it.
struct Form {
    text: Box<[u8]>,
    payload: Range<u32>,
    /// In the code of the markets that it is in. None inside: it is too long, or a byte of it has no code.
    coded: OnceBox<Option<BitRun>>,
}

/// A payload as it is written.
#[derive(Clone, Copy)]
pub struct Payload<'l> {
    /// Its bytes: escaped, in the charset of the answer.
    pub text: &'l [u8],
    coded: Option<&'l OnceBox<Option<BitRun>>>,
}

impl Line {
    /// A line whose payload, as it was published, has `hash`: the script's text, with the place of the payload in it, and
    /// the payload for JSON where that is not the same bytes.
    pub fn new(hash: u64, script: Box<[u8]>, payload: Range<usize>, json: Option<Box<[u8]>>) -> Self {
        let payload = payload.start as u32..payload.end as u32;
        let whole = |text: Box<[u8]>| Form { payload: 0..text.len() as u32, text, coded: OnceBox::new() };
        Self { hash, script: Form { text: script, payload, coded: OnceBox::new() }, json: json.map(whole) }
    }

    /// As [`Line::new`] made it, for a market with another code.
    pub fn uncoded(&self) -> Self {
        let copy = |form: &Form| Form { text: form.text.clone(), payload: form.payload.clone(), coded: OnceBox::new() };
        Self { hash: self.hash, script: copy(&self.script), json: self.json.as_ref().map(copy) }
    }

    /// The hash of the payload as it was published.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The whole line of a script.
    pub fn text(&self) -> &[u8] {
        &self.script.text
    }

    /// The payload within a script is short enough to be coded.
    pub fn is_codable(&self) -> bool {
        is_codable(self.script().text)
    }

    /// The payload within a script.
    pub fn script(&self) -> Payload<'_> {
        self.script.as_payload()
    }

    /// The payload within JSON.
    pub fn json(&self) -> Payload<'_> {
        self.json.as_ref().unwrap_or(&self.script).as_payload()
    }
}

impl Form {
    fn as_payload(&self) -> Payload<'_> {
        let text = &self.text[self.payload.start as usize..self.payload.end as usize];
        Payload { text, coded: Some(&self.coded) }
    }
}

impl Payload<'static> {
    /// That of an unknown symbol.
    pub const EMPTY: Self = Payload { text: b"", coded: None };
}

impl Payload<'_> {
    /// Bytes at its end that it has in common with `other`, as far as they can be cut off.
    pub fn common_tail(&self, other: &Payload<'_>) -> usize {
        let pairs = self.text.iter().rev().zip(other.text.iter().rev()).take(TAIL);
        pairs.take_while(|(a, b)| a == b).count()
    }

    /// Appends its bits but for the last `cut` bytes, at most those of [`Payload::common_tail`]. False: it has none.
    pub fn append(&self, cut: usize, code: &Code, matcher: &mut Matcher, out: &mut BitWriter) -> bool {
        let Some(coded) = self.coded else {
            return true;
        };
        let Some(bits) = coded.get_or_init(|| Box::new(encode(self.text, code, matcher))) else {
            return false;
        };
        let tail = code.literals_len(&self.text[self.text.len() - cut..]);
        out.append(bits, bits.len() - tail);
        true
    }
}

/// None: it is too long, or there is a byte in it that has no code.
fn encode(payload: &[u8], code: &Code, matcher: &mut Matcher) -> Option<BitRun> {
    if !is_codable(payload) {
        return None;
    }
    let mut out = BitWriter::with_capacity(payload.len() / 2);
    let mut coded = true;
    matcher.tokens(payload, |token| match token {
        Token::Literal(byte) => coded &= code.literal(byte, &mut out),
        Token::Match(len, distance) => code.matched(len, distance, &mut out),
    });
    coded.then(|| out.into_run())
}

/// It is not too long.
fn is_codable(payload: &[u8]) -> bool {
    payload.len() <= MAX_CODED
}

/// Bits of a payload in `code`.
pub fn cost(payload: &[u8], code: &Code, matcher: &mut Matcher) -> u64 {
    encode(payload, code, matcher).map_or(0, |bits| bits.len().into())
}

/// Counts what the coding of a payload but for its last `cut` bytes takes.
pub fn count(payload: &[u8], cut: usize, counts: &mut Counts, matcher: &mut Matcher) {
    let mut left = payload.len() - cut.min(TAIL);
    matcher.tokens(payload, |token| match token {
        Token::Literal(byte) if left > 0 => {
            counts.literals(&[byte]);
            left -= 1;
        }
        Token::Literal(_) => {}
        Token::Match(len, distance) => {
            counts.matched(len, distance);
            left -= len;
        }
    });
}

enum Token {
    Literal(u8),
    /// Length and distance.
    Match(usize, usize),
}

/// Finds repetitions inside payloads. Its memory serves one after the other.
pub struct Matcher {
    /// By hash, the last place that has it, counted from 1.
    last: [u32; 512],
    /// By place, the one before it with the same hash.
    before: Vec<u32>,
}

impl Default for Matcher {
    fn default() -> Self {
        Self { last: [0; 512], before: Vec::new() }
    }
}

impl Matcher {
    fn tokens(&mut self, payload: &[u8], mut sink: impl FnMut(Token)) {
        let (matched, tail) = payload.split_at(payload.len().saturating_sub(TAIL));
        self.last.fill(0);
        self.before.clear();
        let mut at = 0;
        while at < matched.len() {
            let (len, distance) = self.longest(matched, at);
            if len < SHORTEST {
                sink(Token::Literal(matched[at]));
                self.note(matched, at);
                at += 1;
            } else {
                sink(Token::Match(len, distance));
                (at..at + len).for_each(|at| self.note(matched, at));
                at += len;
            }
        }
        tail.iter().for_each(|byte| sink(Token::Literal(*byte)));
    }

    fn note(&mut self, text: &[u8], at: usize) {
        let slot = hash(text, at).map(|hash| &mut self.last[hash]);
        self.before.push(slot.map_or(0, |slot| std::mem::replace(slot, at as u32 + 1)));
    }

    fn longest(&self, text: &[u8], at: usize) -> (usize, usize) {
        let mut best = (0, 0);
        let mut place = hash(text, at).map_or(0, |hash| self.last[hash]) as usize;
        let rest = &text[at..text.len().min(at + MATCH.end())];
        for _ in 0..TRIES {
            if place == 0 || at + 1 - place > FARTHEST || best.0 == rest.len() {
                break;
            }
            // A longer match has the same byte where the best one ends.
            if text[place - 1 + best.0] == rest[best.0] {
                let len = common_len(&text[place - 1..], rest);
                if len > best.0 {
                    best = (len, at + 1 - place);
                }
            }
            place = self.before[place - 1] as usize;
        }
        best
    }
}

/// Bytes that two texts have in common at their beginning.
fn common_len(a: &[u8], b: &[u8]) -> usize {
    let mut len = 0;
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        let difference = word(a) ^ word(b);
        if difference != 0 {
            return len + difference.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    len + a[len..].iter().zip(&b[len..]).take_while(|(a, b)| a == b).count()
}

/// The first eight bytes.
fn word(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn hash(text: &[u8], at: usize) -> Option<usize> {
    let word = u32::from_le_bytes(*text.get(at..)?.first_chunk()?);
    Some((word.wrapping_mul(0x9e37_79b1) >> 23) as usize)
}
