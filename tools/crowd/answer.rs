//! Answers as they come in: where one ends, and what it was.

/// Longer heads than any server here sends.
const MAX_HEAD: usize = 64 * 1024;

/// What has come of the answer that is awaited.
#[derive(Debug, Default)]
pub struct Answer {
    /// A head that is not whole yet.
    head: Vec<u8>,
    /// Bytes of its body that are to come.
    left: u64,
    whole: Option<Verdict>,
}

/// An answer that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub status: u16,
    /// The server says that it closes the connection.
    pub closes: bool,
}

/// What is no answer of HTTP with a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Answer {
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
        let body = self.left.min((bytes.len() - used) as u64);
        self.left -= body;
        let whole = if self.left == 0 { self.whole.take() } else { None };
        Ok((used + body as usize, whole))
    }

    /// Something of the answer has come.
    pub fn has_begun(&self) -> bool {
        self.whole.is_some() || !self.head.is_empty()
    }

    /// The length of the head, if it is whole.
    fn read_head(&mut self) -> Result<Option<usize>, Malformed> {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(len) = parsed.parse(&self.head).map_err(|_| Malformed)? else {
            return Ok(None);
        };
        let status = parsed.code.ok_or(Malformed)?;
        let value = |name: &str| {
            parsed.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
        };
        self.left = match value("Content-Length") {
            Some(digits) => std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(Malformed)?,
            None if status == 304 || status == 204 => 0,
            None => return Err(Malformed),
        };
        let closes = value("Connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
        self.whole = Some(Verdict { status, closes });
        Ok(Some(len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n";

    #[test]
    fn answers_end_where_they_end_however_they_are_cut() {
        for cut in 1..TWO.len() {
            let mut answer = Answer::default();
            let mut found = Vec::new();
            for mut piece in TWO.chunks(cut) {
                while !piece.is_empty() {
                    let (used, whole) = answer.take(piece).unwrap();
                    piece = &piece[used..];
                    found.extend(whole);
                }
            }
            let expected = [Verdict { status: 200, closes: false }, Verdict { status: 304, closes: true }];
            assert_eq!(found, expected, "in pieces of {cut}");
        }
    }

    #[test]
    fn what_has_no_length_is_malformed() {
        assert_eq!(Answer::default().take(b"HTTP/1.1 200 OK\r\n\r\n"), Err(Malformed));
        assert_eq!(Answer::default().take(b"\x16\x03\x01\r\n\r\n"), Err(Malformed));
    }
}
