//! `Accept-Encoding` to a coding (RFC 9110 §12.5.3). Pure.

use super::request::Lines;
use crate::store::{Coding, Entry};

/// Among equal weights, the first of these is chosen.
const PREFERENCE: [Coding; 4] = [Coding::Br, Coding::Zstd, Coding::Deflate, Coding::Gzip];

/// The weights of a request, in thousandths. None: not listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weights {
    codings: [Option<u16>; 5],
    any: Option<u16>,
}

impl Weights {
    /// Reads the field. What is malformed in it is passed over, item by item.
    pub fn parse(lines: &Lines<'_, '_>) -> Self {
        let mut weights = Self::default();
        for item in lines.iter().flat_map(|line| line.split(|byte| *byte == b',')) {
            weights.note(item.trim_ascii());
        }
        weights
    }

    fn note(&mut self, item: &[u8]) {
        let (name, weight) = match item.iter().position(|byte| *byte == b';') {
            None => (item, Some(1000)),
            Some(semicolon) => (item[..semicolon].trim_ascii_end(), weight(item[semicolon + 1..].trim_ascii_start())),
        };
        let Some(weight) = weight else { return };
        let of_coding = match name.len() {
            1 if name == b"*" => &mut self.any,
            2 if name.eq_ignore_ascii_case(b"br") => &mut self.codings[Coding::Br.index()],
            4 if name.eq_ignore_ascii_case(b"gzip") => &mut self.codings[Coding::Gzip.index()],
            4 if name.eq_ignore_ascii_case(b"zstd") => &mut self.codings[Coding::Zstd.index()],
            6 if name.eq_ignore_ascii_case(b"x-gzip") => &mut self.codings[Coding::Gzip.index()],
            7 if name.eq_ignore_ascii_case(b"deflate") => &mut self.codings[Coding::Deflate.index()],
            8 if name.eq_ignore_ascii_case(b"identity") => &mut self.codings[Coding::Identity.index()],
            _ => return,
        };
        // A coding that is listed twice (`gzip` and `x-gzip` are one) counts at its best.
        *of_coding = (*of_coding).max(Some(weight));
    }

    /// Identity has not been refused.
    pub fn accepts_identity(&self) -> bool {
        self.codings[Coding::Identity.index()].or(self.any) != Some(0)
    }

    /// The coding in which `entry` is to be sent. Identity where nothing else is accepted, even if it was refused:
    /// an answer helps more than a 406.
    pub fn choose(&self, entry: &Entry) -> Coding {
        let mut best = (Coding::Identity, 0);
        for coding in PREFERENCE {
            let weight = self.codings[coding.index()].or(self.any).unwrap_or(0);
            if weight > best.1 && entry.offers(coding) {
                best = (coding, weight);
            }
        }
        match self.codings[Coding::Identity.index()] {
            Some(identity) if identity > best.1 => Coding::Identity,
            _ => best.0,
        }
    }
}

/// `q=0.5` in thousandths (RFC 9110 §12.4.2).
fn weight(parameter: &[u8]) -> Option<u16> {
    let [b'q' | b'Q', b'=', value @ ..] = parameter else {
        return None;
    };
    let (whole, fraction) = match value {
        [whole] | [whole, b'.'] => (*whole, &b""[..]),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (*whole, fraction),
        _ => return None,
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let places = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(3);
    let thousandths = places.fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    match whole {
        b'0' => Some(thousandths),
        b'1' if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Bodies;

    fn choose(entry: &Entry, field: &str) -> Coding {
        let mut weights = Weights::default();
        field.split(',').for_each(|item| weights.note(item.trim().as_bytes()));
        weights.choose(entry)
    }

    #[test]
    fn the_best_weight_wins_then_the_order() {
        let body = |len| Some(vec![0; len].into());
        let bodies = Bodies { identity: vec![0; 100].into(), deflate: body(10), br: body(9), zstd: body(9) };
        let all = Entry::new("text/plain", 0, bodies);
        let bodies = Bodies { identity: vec![0; 100].into(), deflate: body(10), ..Bodies::default() };
        let deflate = Entry::new("text/plain", 0, bodies);
        for (field, of_all, of_deflate) in [
            ("", Coding::Identity, Coding::Identity),
            ("gzip, deflate, br, zstd", Coding::Br, Coding::Deflate),
            ("gzip", Coding::Gzip, Coding::Gzip),
            ("x-gzip", Coding::Gzip, Coding::Gzip),
            ("GZIP;q=0.5, zstd;q=0.4", Coding::Gzip, Coding::Gzip),
            ("gzip;q=0.001", Coding::Gzip, Coding::Gzip),
            ("gzip;q=0", Coding::Identity, Coding::Identity),
            ("*", Coding::Br, Coding::Deflate),
            ("*;q=0", Coding::Identity, Coding::Identity),
            ("br;q=0, *", Coding::Zstd, Coding::Deflate),
            ("gzip;q=0.5, *;q=0.7, br;q=0", Coding::Zstd, Coding::Deflate),
            ("identity, gzip;q=0.5", Coding::Identity, Coding::Identity),
            ("identity;q=0.5, gzip;q=0.5", Coding::Gzip, Coding::Gzip),
            ("identity;q=0", Coding::Identity, Coding::Identity),
            ("gzip ; q=1.000", Coding::Gzip, Coding::Gzip),
            ("gzip;q=1.001, deflate;q=2, br;q=x, zstd;v=1", Coding::Identity, Coding::Identity),
            ("gzip;q=0, x-gzip", Coding::Gzip, Coding::Gzip),
        ] {
            assert_eq!((choose(&all, field), choose(&deflate, field)), (of_all, of_deflate), "{field}");
        }
    }
}
