//! The bytes of a feeder to batches of payloads. Pure.
//!
//! A feeder sends lines as in a table. A blank line ends a batch, which is one version of the market; what a feeder that
//! dies leaves unfinished is never seen.

use super::table::{BadLine, TableLine};
use crate::{
    limits::{MAX_BATCH, MAX_TABLE_LINE},
    store::quotes::Symbol,
};

/// What a feeder has sent, as far as it is not dealt with.
#[derive(Default)]
pub struct Batcher {
    /// The part of a line.
    line: Vec<u8>,
    /// The line is longer than lines may be.
    is_too_long: bool,
    /// Lines that have ended.
    lines: u64,
    batch: Vec<(Symbol, Box<str>)>,
    bytes: usize,
    /// The batch is larger than batches may be.
    is_too_large: bool,
}

/// What has come of the bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// A batch, whole.
    Batch(Vec<(Symbol, Box<str>)>),
    /// A line that was skipped: its number, from 1, and why.
    Skipped(u64, Fault),
}

/// Why something of a feeder is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The line is none of a table.
    #[error("{0}")]
    Line(#[from] BadLine),
    /// With this line the batch has become larger than [`MAX_BATCH`].
    #[error("makes the batch larger than {MAX_BATCH} bytes; the whole batch is skipped")]
    Batch,
}

impl Batcher {
    /// Takes in bytes, however they were cut.
    pub fn take(&mut self, mut bytes: &[u8], mut news: impl FnMut(News)) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.part(&bytes[..end]);
            bytes = &bytes[end + 1..];
            self.lines += 1;
            let line = std::mem::take(&mut self.line);
            let line_is_too_long = std::mem::take(&mut self.is_too_long);
            self.end_line(&line, line_is_too_long, &mut news);
            self.line = line;
            self.line.clear();
        }
        self.part(bytes);
    }

    /// Lines of a batch that has not ended.
    pub fn unfinished(&self) -> usize {
        self.batch.len() + usize::from(!self.line.is_empty())
    }

    fn part(&mut self, bytes: &[u8]) {
        // One more, for the CR that is not part of the line.
        let room = MAX_TABLE_LINE + 2 - self.line.len();
        self.is_too_long |= bytes.len() > room;
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end_line(&mut self, line: &[u8], is_too_long: bool, news: &mut impl FnMut(News)) {
        let mut skip = |fault| news(News::Skipped(self.lines, fault));
        match TableLine::parse(line) {
            TableLine::Comment => {}
            _ if is_too_long => skip(BadLine::TooLong.into()),
            TableLine::Blank => {
                self.bytes = 0;
                let batch = std::mem::take(&mut self.batch);
                if !std::mem::take(&mut self.is_too_large) && !batch.is_empty() {
                    news(News::Batch(batch));
                }
            }
            TableLine::Bad(_, bad) => skip(bad.into()),
            TableLine::Quote(..) if self.is_too_large => {}
            TableLine::Quote(symbol, payload) => {
                self.bytes += size_of::<(Symbol, Box<str>)>() + payload.len();
                if self.bytes > MAX_BATCH {
                    (self.is_too_large, self.batch) = (true, Vec::new());
                    skip(Fault::Batch);
                } else if let Some(symbol) = Symbol::new(symbol) {
                    self.batch.push((symbol, payload.into()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(batcher: &mut Batcher, bytes: &[u8]) -> Vec<String> {
        let mut all = Vec::new();
        batcher.take(bytes, |news| {
            all.push(match news {
                News::Batch(batch) => batch
                    .iter()
                    .map(|(symbol, payload)| format!("{}={payload}", String::from_utf8_lossy(symbol.as_bytes())))
                    .collect::<Vec<_>>()
                    .join(" "),
                News::Skipped(number, fault) => format!("line {number}: {fault}"),
            });
        });
        all
    }

    #[test]
    fn batches_are_whole_however_they_are_cut() {
        let text = b"\n\n# c\na=1\r\nb=2\n\r\nbad\nc=3\n\nd=4\n \t\ne=5\n";
        let expected = ["a=1 b=2", "line 7: has no '='", "c=3", "d=4"];
        assert_eq!(take(&mut Batcher::default(), text), expected);
        for cut in 0..text.len() {
            let mut batcher = Batcher::default();
            let mut all = take(&mut batcher, &text[..cut]);
            all.extend(take(&mut batcher, &text[cut..]));
            assert_eq!(all, expected, "cut at {cut}");
            assert_eq!(batcher.unfinished(), 1);
        }
    }

    #[test]
    fn lines_and_batches_are_bounded() {
        let mut batcher = Batcher::default();
        let longest = [b"a=", &vec![b'x'; MAX_TABLE_LINE - 2][..]].concat();
        assert_eq!(take(&mut batcher, &[&longest[..], b"\r\n\n"].concat()).len(), 1);
        for _ in 0..100 {
            assert!(take(&mut batcher, &longest).is_empty());
        }
        assert!(batcher.line.len() <= MAX_TABLE_LINE + 2);
        let all = take(&mut batcher, b"\nb=1\n\n");
        assert_eq!(all, [format!("line 3: is longer than {MAX_TABLE_LINE} bytes"), "b=1".to_owned()]);

        assert_eq!(take(&mut batcher, b"half=1\n"), [""; 0]);
        let blank = [&b" ".repeat(MAX_TABLE_LINE + 2)[..], b"x=1\n"].concat();
        assert_eq!(take(&mut batcher, &blank).len(), 1, "no blank line");
        assert_eq!(take(&mut batcher, b"\n"), ["half=1"]);

        let line = [&longest[..], b"\n"].concat();
        let all = take(&mut batcher, &line.repeat(MAX_BATCH / line.len() + 3));
        assert!(matches!(&all[..], [only] if only.contains("the whole batch is skipped")), "{}", all.len());
        assert_eq!(take(&mut batcher, b"c=1\n\nd=1\n\n"), ["d=1"]);
    }
}
