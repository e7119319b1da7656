//! Request bodies, read to be thrown away (RFC 9112 §6, §7.1). Pure.
//!
//! A body says nothing to this server, but where it ends is where the next request begins.

use super::request::{Body, is_token};
use crate::limits::{MAX_CHUNK_DIGITS, MAX_CHUNK_EXTRAS, MAX_DISCARDED_BODY};

/// How far a body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All bytes belong to it and there are more to come.
    More,
    /// It ended after this many bytes.
    Done(usize),
    /// It is longer than what is read for the connection's sake.
    TooLong,
    /// It is not framed as it says.
    Malformed,
}

/// The reading of one body.
#[derive(Clone, Copy, Debug)]
pub enum Discard {
    /// This many bytes to go.
    Length(u64),
    /// Chunks.
    Chunked(Chunks),
}

/// The reading of a chunked body.
#[derive(Clone, Copy, Debug)]
pub struct Chunks {
    step: Step,
    /// Bytes of content so far, with those of the chunk at hand.
    content: u64,
    /// Bytes of extensions and trailers so far.
    extras: u32,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Size {
        size: u64,
        digits: u32,
    },
    /// White space that may stand between the size and the `;` of an extension.
    SizeEnd {
        size: u64,
    },
    Extension {
        size: u64,
    },
    SizeLf {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
}

enum Outcome {
    Next(Step),
    Done,
    TooLong,
    Malformed,
}

impl Discard {
    /// Begins a body. None: there is none. A length over the cap is found out by the first [`Discard::feed`].
    pub fn new(body: Body) -> Option<Self> {
        match body {
            Body::None => None,
            Body::Length(length) => Some(Discard::Length(length)),
            Body::Chunked => {
                Some(Discard::Chunked(Chunks { step: Step::Size { size: 0, digits: 0 }, content: 0, extras: 0 }))
            }
        }
    }

    /// Reads the next bytes of the body, which may be followed by those of another request.
    pub fn feed(&mut self, bytes: &[u8]) -> Progress {
        match self {
            Discard::Length(left) if *left > MAX_DISCARDED_BODY => Progress::TooLong,
            Discard::Length(left) => match usize::try_from(*left) {
                Ok(whole) if whole <= bytes.len() => Progress::Done(whole),
                _ => {
                    *left -= bytes.len() as u64;
                    Progress::More
                }
            },
            Discard::Chunked(chunks) => chunks.feed(bytes),
        }
    }
}

impl Chunks {
    fn feed(&mut self, bytes: &[u8]) -> Progress {
        let mut at = 0;
        while at < bytes.len() {
            if let Step::Data { left } = self.step {
                let here = left.min((bytes.len() - at) as u64);
                at += here as usize;
                self.step = if here == left { Step::DataCr } else { Step::Data { left: left - here } };
                continue;
            }
            match self.next(bytes[at]) {
                Outcome::Next(step) => self.step = step,
                Outcome::Done => return Progress::Done(at + 1),
                Outcome::TooLong => return Progress::TooLong,
                Outcome::Malformed => return Progress::Malformed,
            }
            at += 1;
        }
        Progress::More
    }

    fn next(&mut self, byte: u8) -> Outcome {
        let next = match (self.step, byte) {
            (Step::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < MAX_CHUNK_DIGITS => {
                let digit = (byte as char).to_digit(16).unwrap_or(0);
                Step::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (Step::Size { digits: 0, .. }, _) => return Outcome::Malformed,
            (Step::Size { size, .. } | Step::SizeEnd { size }, b';') => Step::Extension { size },
            (Step::Size { size, .. } | Step::SizeEnd { size }, b' ' | b'\t') => Step::SizeEnd { size },
            (Step::Size { size, .. } | Step::Extension { size }, b'\r') => Step::SizeLf { size },
            (Step::Extension { size }, byte) if is_text(byte) => Step::Extension { size },
            (Step::SizeLf { size: 0 }, b'\n') => Step::TrailerStart,
            (Step::SizeLf { size }, b'\n') => {
                self.content = self.content.saturating_add(size);
                if self.content > MAX_DISCARDED_BODY {
                    return Outcome::TooLong;
                }
                Step::Data { left: size }
            }
            (Step::DataCr, b'\r') => Step::DataLf,
            (Step::DataLf, b'\n') => Step::Size { size: 0, digits: 0 },
            (Step::TrailerStart, b'\r') => Step::LastLf,
            (Step::TrailerStart, byte) if is_token(byte) => Step::TrailerName,
            (Step::TrailerName, byte) if is_token(byte) => Step::TrailerName,
            (Step::TrailerName, b':') => Step::TrailerValue,
            (Step::TrailerValue, b'\r') => Step::TrailerLf,
            (Step::TrailerValue, byte) if is_text(byte) => Step::TrailerValue,
            (Step::TrailerLf, b'\n') => Step::TrailerStart,
            (Step::LastLf, b'\n') => return Outcome::Done,
            _ => return Outcome::Malformed,
        };
        let is_extra = matches!(
            next,
            Step::SizeEnd { .. } | Step::Extension { .. } | Step::TrailerName | Step::TrailerValue | Step::TrailerLf
        );
        if is_extra || matches!(self.step, Step::TrailerLf) {
            self.extras += 1;
            if self.extras > MAX_CHUNK_EXTRAS {
                return Outcome::Malformed;
            }
        }
        Outcome::Next(next)
    }
}

/// What may stand in a field value or an extension.
const fn is_text(byte: u8) -> bool {
    !byte.is_ascii_control() || byte == b'\t'
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the body whole and cut at every byte; the outcome must be one.
    fn discard(body: Body, bytes: &[u8]) -> Progress {
        let whole = Discard::new(body).map_or(Progress::Done(0), |mut discard| discard.feed(bytes));
        for cut in 0..bytes.len() {
            let Some(mut discard) = Discard::new(body) else {
                break;
            };
            let cut_up = match discard.feed(&bytes[..cut]) {
                Progress::More => match discard.feed(&bytes[cut..]) {
                    Progress::Done(len) => Progress::Done(cut + len),
                    other => other,
                },
                other => other,
            };
            assert_eq!(cut_up, whole, "cut at {cut} of {:?}", String::from_utf8_lossy(bytes));
        }
        whole
    }

    #[test]
    fn lengths() {
        assert_eq!(discard(Body::None, b"abc"), Progress::Done(0));
        assert_eq!(discard(Body::Length(2), b"abc"), Progress::Done(2));
        assert_eq!(discard(Body::Length(4), b"abc"), Progress::More);
        assert_eq!(discard(Body::Length(MAX_DISCARDED_BODY + 1), b""), Progress::TooLong);
    }

    #[test]
    fn chunks() {
        for (bytes, expected) in [
            ("0\r\n\r\n", Progress::Done(5)),
            ("5\r\nhello\r\n0\r\n\r\nGET", Progress::Done(15)),
            ("5;a=b;c=\"d\"\r\nhello\r\n000\r\nX-T: 1\r\nY:\r\n\r\n", Progress::Done(39)),
            ("A \t;x\r\n0123456789\r\n0\r\n\r\n", Progress::Done(24)),
            ("5\r\nhel", Progress::More),
            ("", Progress::More),
            ("\r\n", Progress::Malformed),
            ("g\r\n", Progress::Malformed),
            ("5\nhello", Progress::Malformed),
            ("5\r\nhello0\r\n", Progress::Malformed),
            ("5 \r\nhello", Progress::Malformed),
            ("-1\r\n", Progress::Malformed),
            ("0x5\r\n", Progress::Malformed),
            ("5;\x01\r\n", Progress::Malformed),
            ("0\r\nbad trailer\r\n", Progress::Malformed),
            ("0\r\n folded\r\n", Progress::Malformed),
            ("0\r\na: b\n\r\n", Progress::Malformed),
            ("00000000000000000\r\n", Progress::Malformed),
            ("10001\r\n", Progress::TooLong),
            ("ffffffffffffffff\r\n", Progress::TooLong),
        ] {
            assert_eq!(discard(Body::Chunked, bytes.as_bytes()), expected, "{bytes:?}");
        }
        let extras = |len: usize| format!("1;{}\r\nx\r\n0\r\nT:{}\r\n\r\n", "e".repeat(len), "t".repeat(len));
        assert!(matches!(discard(Body::Chunked, extras(2000).as_bytes()), Progress::Done(_)));
        assert_eq!(discard(Body::Chunked, extras(2100).as_bytes()), Progress::Malformed);
    }
}
