//! Answers as they come in: where one ends, and what it was.

use crate::chunks::Chunks;

/// Longer heads than any server here sends.
const MAX_HEAD: usize = 64 * 1024;

/// What has come of the answer that is awaited.
#[derive(Debug, Default)]
pub struct Answer {
    /// A head that is not whole yet.
    head: Vec<u8>,
    body: Body,
    whole: Option<Verdict>,
    /// Whether the facts are wanted.
    notes: bool,
    facts: Facts,
}

/// What is to come of a body.
#[derive(Clone, Copy, Debug)]
enum Body {
    Bytes(u64),
    Chunks(Chunks),
}

/// An answer that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub status: u16,
    /// The server says that it closes the connection.
    pub closes: bool,
}

/// What a cache wants to know of an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// As it was sent, byte for byte.
    pub last_modified: Option<Box<[u8]>>,
    pub etag: Option<Box<[u8]>>,
    /// Seconds for which it may be used without asking; none: the server says nothing of the kind, or forbids it.
    pub fresh_for: Option<u64>,
    /// Bytes of its body, without the framing.
    pub body: u64,
}

/// What is no answer of HTTP with a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Answer {
    /// For a client that asks for the facts of each answer.
    pub fn noting() -> Self {
        Self { notes: true, ..Self::default() }
    }

    /// Takes the next bytes: how many belong to this answer, and the answer once it is whole. After that it is ready for the next.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(usize, Option<Verdict>), Malformed> {
        let mut used = 0;
        if self.whole.is_none() {
            let held = self.head.len();
            self.head.extend_from_slice(bytes);
            let Some(len) = self.read_head()? else {
                return if self.head.len() > MAX_HEAD { Err(Malformed) } else { Ok((bytes.len(), None)) };
            };
            used = len - held;
            self.head = Vec::new();
        }
        let bytes = &bytes[used..];
        let (len, content, is_whole) = match &mut self.body {
            Body::Bytes(left) => {
                let here = (*left).min(bytes.len() as u64);
                *left -= here;
                (here as usize, here, *left == 0)
            }
            Body::Chunks(chunks) => chunks.take(bytes)?,
        };
        self.facts.body += content;
        Ok((used + len, if is_whole { self.whole.take() } else { None }))
    }

    /// Of the answer that was whole last, if they are wanted.
    pub fn facts(&mut self) -> Facts {
        std::mem::take(&mut self.facts)
    }

    /// Something of the answer has come.
    pub fn has_begun(&self) -> bool {
        self.whole.is_some() || !self.head.is_empty()
    }

    /// What has come, and is no whole head, may become one.
    pub fn begins_as_answer(&self) -> bool {
        let len = self.head.len().min(5);
        self.head[..len] == b"HTTP/"[..len]
    }

    /// The length of the head, if it is whole.
    fn read_head(&mut self) -> Result<Option<usize>, Malformed> {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(len) = parsed.parse(&self.head).map_err(|_| Malformed)? else {
            return Ok(None);
        };
        let status = parsed.code.ok_or(Malformed)?;
        let fields = Fields(parsed.headers);
        self.body = match (fields.first("Content-Length"), fields.first("Transfer-Encoding")) {
            // Its length, if it states one, is that of the answer it stands for.
            _ if status == 304 || status == 204 => Body::Bytes(0),
            (_, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Body::Chunks(Chunks::START),
            (Some(digits), None) => Body::Bytes(number(digits).ok_or(Malformed)?),
            _ => return Err(Malformed),
        };
        self.facts = if self.notes { fields.facts() } else { Facts::default() };
        let closes = fields.first("Connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
        self.whole = Some(Verdict { status, closes });
        Ok(Some(len))
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::Bytes(0)
    }
}

/// The fields of a head.
struct Fields<'a>(&'a [httparse::Header<'a>]);

impl<'a> Fields<'a> {
    fn all(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    fn first(&self, name: &'static str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    fn facts(&self) -> Facts {
        let owned = |name| self.first(name).map(Into::into);
        Facts { last_modified: owned("Last-Modified"), etag: owned("ETag"), fresh_for: self.fresh_for(), body: 0 }
    }

    /// `max-age` less what the answer has aged on its way, unless it may not be kept or used without asking.
    fn fresh_for(&self) -> Option<u64> {
        let directives = self.all("Cache-Control").flat_map(|value| value.split(|byte| *byte == b','));
        let mut most = None;
        for directive in directives.map(<[u8]>::trim_ascii) {
            if directive.eq_ignore_ascii_case(b"no-store") || directive.eq_ignore_ascii_case(b"no-cache") {
                return None;
            }
            match directive.split_at_checked(8) {
                Some((name, seconds)) if name.eq_ignore_ascii_case(b"max-age=") => most = most.or(number(seconds)),
                _ => {}
            }
        }
        most.map(|most| most.saturating_sub(self.first("Age").and_then(number).unwrap_or(0)))
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+')).and_then(|text| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\
        HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n\
        HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nConnection: close\r\n\r\n";

    #[test]
    fn answers_end_where_they_end_however_they_are_cut() {
        for cut in 1..THREE.len() {
            let mut answer = Answer::default();
            let mut found = Vec::new();
            for mut piece in THREE.chunks(cut) {
                while !piece.is_empty() {
                    let (used, whole) = answer.take(piece).unwrap();
                    piece = &piece[used..];
                    found.extend(whole.map(|verdict| (verdict.status, verdict.closes, answer.facts().body)));
                }
            }
            assert_eq!(found, [(200, false, 5), (200, false, 2), (304, true, 0)], "in pieces of {cut}");
        }
    }

    #[test]
    fn what_has_no_length_is_malformed() {
        for text in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 5\r\n\r\n",
            "\x16\x03\x01\r\n\r\n",
        ] {
            assert_eq!(Answer::default().take(text.as_bytes()), Err(Malformed), "{text:?}");
        }
    }

    fn facts(fields: &str) -> Facts {
        let mut answer = Answer::noting();
        let text = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nhi");
        assert!(matches!(answer.take(text.as_bytes()), Ok((len, Some(_))) if len == text.len()));
        answer.facts()
    }

    #[test]
    fn a_cache_learns_what_it_wants_to_know() {
        let found =
            facts("last-modified:  Tue, 14 Nov 2023 22:13:20 GMT \r\nETag: W/\"x\"\r\nCache-Control: max-age=7\r\n");
        assert_eq!(found.last_modified.as_deref(), Some(&b"Tue, 14 Nov 2023 22:13:20 GMT"[..]));
        assert_eq!((found.etag.as_deref(), found.body), (Some(&b"W/\"x\""[..]), 2));
        let fresh_for = |fields| facts(fields).fresh_for;
        assert_eq!(found.fresh_for, Some(7));
        assert_eq!(fresh_for("Cache-Control: public, Max-Age=10, max-age=20\r\nAge: 3\r\n"), Some(7));
        assert_eq!(fresh_for("Cache-Control: public\r\nCache-Control: max-age=9\r\nAge: 30\r\n"), Some(0));
        assert_eq!(fresh_for("Cache-Control: max-age=9, no-cache\r\n"), None);
        assert_eq!(fresh_for("Cache-Control: s-maxage=9, max-age=soon\r\n"), None);
        assert_eq!(fresh_for(""), None);
    }
}
