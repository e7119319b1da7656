//! One symbol's line, made in advance: its text, and the payload coded so that it joins with others. Pure.
//!
//! Payloads are coded apart, with matches inside themselves. Their last bytes are always literals: what the ends of two
//! lines have in common (dates, times) can then be cut off one and made part of the match that spans from line to line.

use std::ops::Range;

use super::{
    bits::{BitRun, BitWriter},
    code::{Code, Counts, FARTHEST, MATCH},
};

/// The last bytes of a payload that are coded as literals.
pub const TAIL: usize = 32;
/// A shorter match costs about what its literals do: four digits are 14 bits.
const SHORTEST: usize = 5;
/// Earlier places that are tried for a match.
const TRIES: usize = 8;

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
    coded: Option<Coded>,
}

/// A payload in the code of a market.
#[derive(Default)]
struct Coded {
    bits: BitRun,
    /// So many of its last bytes are literals.
    tail: u8,
}

/// A payload as it is written.
#[derive(Clone, Copy)]
pub struct Payload<'l> {
    /// Its bytes: escaped, in the charset of the answer.
    pub text: &'l [u8],
    coded: Option<&'l Coded>,
}

impl Line {
    /// A line whose payload, as it was published, has `hash`: the script's text, with the place of the payload in it, and
    /// the payload for JSON where that is not the same bytes. It is not coded yet.
    pub fn new(hash: u64, script: Box<[u8]>, payload: Range<usize>, json: Option<Box<[u8]>>) -> Self {
        let payload = payload.start as u32..payload.end as u32;
        let whole = |text: Box<[u8]>| Form { payload: 0..text.len() as u32, text, coded: None };
        Self { hash, script: Form { text: script, payload, coded: None }, json: json.map(whole) }
    }

    /// Codes the payload in `code`. The bits that it takes.
    pub fn encode(&mut self, code: &Code, matcher: &mut Matcher) -> u64 {
        for form in [Some(&mut self.script), self.json.as_mut()].into_iter().flatten() {
            form.coded = encode(form.payload(), code, matcher);
        }
        self.script.coded.as_ref().map_or(0, |coded| coded.bits.len().into())
    }

    /// As [`Line::new`] made it.
    pub fn uncoded(&self) -> Self {
        let copy = |form: &Form| Form { text: form.text.clone(), payload: form.payload.clone(), coded: None };
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
    fn payload(&self) -> &[u8] {
        &self.text[self.payload.start as usize..self.payload.end as usize]
    }

    fn as_payload(&self) -> Payload<'_> {
        Payload { text: self.payload(), coded: self.coded.as_ref() }
    }
}

impl Payload<'static> {
    /// That of an unknown symbol.
    pub const EMPTY: Self = Payload { text: b"", coded: None };
}

impl Payload<'_> {
    /// Bytes at its end that it has in common with `other`, as far as they can be cut off.
    pub fn common_tail(&self, other: &Payload<'_>) -> usize {
        let most = self.coded.map_or(0, |coded| usize::from(coded.tail));
        let pairs = self.text.iter().rev().zip(other.text.iter().rev()).take(most);
        pairs.take_while(|(a, b)| a == b).count()
    }

    /// Appends its bits but for the last `cut` bytes, at most those of [`Payload::common_tail`]. False: it has none.
    pub fn append(&self, cut: usize, code: &Code, out: &mut BitWriter) -> bool {
        match self.coded {
            Some(Coded { bits, .. }) => {
                let tail = code.literals_len(&self.text[self.text.len() - cut..]);
                out.append(bits, bits.len() - tail);
                true
            }
            None => self.text.is_empty(),
        }
    }
}

/// None: there is a byte in it that has no code.
fn encode(payload: &[u8], code: &Code, matcher: &mut Matcher) -> Option<Coded> {
    let mut out = BitWriter::with_capacity(payload.len() / 2);
    let mut coded = true;
    matcher.tokens(payload, |token| match token {
        Token::Literal(byte) => coded &= code.literal(byte, &mut out),
        Token::Match(len, distance) => code.matched(len, distance, &mut out),
    });
    coded.then(|| Coded { bits: out.into_run(), tail: payload.len().min(TAIL) as u8 })
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
            if place == 0 || at + 1 - place > FARTHEST {
                break;
            }
            let len = text[place - 1..].iter().zip(rest).take_while(|(a, b)| a == b).count();
            if len > best.0 {
                best = (len, at + 1 - place);
            }
            place = self.before[place - 1] as usize;
        }
        best
    }
}

fn hash(text: &[u8], at: usize) -> Option<usize> {
    let four = text.get(at..at + 4)?;
    let word = u32::from_le_bytes([four[0], four[1], four[2], four[3]]);
    Some((word.wrapping_mul(0x9e37_79b1) >> 23) as usize)
}
