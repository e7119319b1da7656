//! The text of a `.quotes` file to a table. Pure.

use std::ops::Range;

use ahash::RandomState;
use indexmap::IndexMap;
use memchr::{memchr, memchr_iter};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    limits::MAX_TABLE_LINE,
    store::quotes::{Symbol, is_symbol},
};

/// What a `.quotes` file says.
pub struct Table {
    hash: u64,
    text: Box<[u8]>,
    /// In the order of the file, in which the lines of the version before lie in memory as well.
    lines: IndexMap<Symbol, Range<u32>, RandomState>,
    skipped: u64,
    /// The number of the first line that was skipped, from 1, and why it was.
    first_skipped: Option<(u64, BadLine)>,
}

/// Why a line is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    /// There is no `=` in it.
    #[error("has no '='")]
    NoPayload,
    /// What stands before the `=` is no symbol.
    #[error("does not begin with a symbol (1 to 32 letters, digits, '_', '$', '.' or '-') before the '='")]
    Symbol,
    /// It is longer than [`MAX_TABLE_LINE`].
    #[error("is longer than {MAX_TABLE_LINE} bytes")]
    TooLong,
    /// Its payload is not UTF-8.
    #[error("is not UTF-8")]
    Charset,
}

/// A line of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableLine<'t> {
    /// Nothing.
    Blank,
    /// What follows a `#`.
    Comment,
    /// A symbol and its payload.
    Quote(&'t [u8], &'t str),
    /// What it is cannot be used. The symbol, where it has one.
    Bad(Option<&'t [u8]>, BadLine),
}

impl<'t> TableLine<'t> {
    /// Reads a line without its LF.
    pub fn parse(line: &'t [u8]) -> Self {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.starts_with(b"#") {
            return TableLine::Comment;
        }
        if line.iter().all(|byte| matches!(byte, b' ' | b'\t')) {
            return TableLine::Blank;
        }
        let Some(equals) = memchr(b'=', line) else {
            return TableLine::Bad(None, BadLine::NoPayload);
        };
        let (symbol, payload) = (&line[..equals], &line[equals + 1..]);
        if !is_symbol(symbol, true) {
            return TableLine::Bad(None, BadLine::Symbol);
        }
        if line.len() > MAX_TABLE_LINE {
            return TableLine::Bad(Some(symbol), BadLine::TooLong);
        }
        match std::str::from_utf8(payload) {
            Ok(payload) => TableLine::Quote(symbol, payload),
            Err(_) => TableLine::Bad(Some(symbol), BadLine::Charset),
        }
    }
}

impl Table {
    /// Reads the text of a file. Every text is a table; lines that are none are counted.
    pub fn parse(text: Box<[u8]>) -> Self {
        const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
        /// Lines are longer than this in nearly all tables, so that memory for them is had at once.
        const SHORT: usize = 100;
        let start = if text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        let mut table = Self {
            hash: xxh3_64(&text),
            text: Box::default(),
            lines: IndexMap::with_capacity_and_hasher(text.len() / SHORT, RandomState::new()),
            skipped: 0,
            first_skipped: None,
        };
        let mut at = start;
        for (number, end) in memchr_iter(b'\n', &text[start..]).map(|end| start + end).chain([text.len()]).enumerate() {
            if let Err(bad) = table.note(&text[at..end], at) {
                table.skipped += 1;
                table.first_skipped.get_or_insert((number as u64 + 1, bad));
            }
            at = end + 1;
        }
        table.text = text;
        table
    }

    fn note(&mut self, line: &[u8], at: usize) -> Result<(), BadLine> {
        match TableLine::parse(line) {
            TableLine::Blank | TableLine::Comment => {}
            TableLine::Quote(name, payload) => {
                // Files are smaller than 4 GiB.
                let start = (at + name.len() + 1) as u32;
                if let Some(symbol) = Symbol::new(name) {
                    self.lines.insert(symbol, start..start + payload.len() as u32);
                }
            }
            TableLine::Bad(name, bad) => {
                // The last line of a symbol counts, and this one says nothing.
                if let Some(name) = name {
                    self.lines.swap_remove(name);
                }
                return Err(bad);
            }
        }
        Ok(())
    }

    /// A hash of the text.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Bytes of the text.
    pub fn text_len(&self) -> usize {
        self.text.len()
    }

    /// Lines that were skipped.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The first of them: its number, from 1, and why it was skipped.
    pub fn first_skipped(&self) -> Option<(u64, BadLine)> {
        self.first_skipped
    }

    /// How many symbols it has.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// It has no symbols.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The payload of a symbol, as it was published.
    pub fn payload(&self, symbol: &Symbol) -> Option<&str> {
        self.lines.get(symbol).map(|range| self.slice(range))
    }

    /// It has this symbol.
    pub fn contains(&self, symbol: &Symbol) -> bool {
        self.lines.contains_key(symbol)
    }

    /// It has the same symbols as `other`, in the same order: most rewrites do.
    pub fn is_like(&self, other: &Table) -> bool {
        self.lines.len() == other.lines.len() && self.lines.keys().eq(other.lines.keys())
    }

    /// Its symbols.
    pub fn symbols(&self) -> impl Iterator<Item = &Symbol> {
        self.lines.keys()
    }

    /// All symbols with their payloads.
    pub fn quotes(&self) -> impl Iterator<Item = (&Symbol, &str)> {
        self.lines.iter().map(|(symbol, range)| (symbol, self.slice(range)))
    }

    fn slice(&self, range: &Range<u32>) -> &str {
        // Only what was checked is in the table.
        std::str::from_utf8(&self.text[range.start as usize..range.end as usize]).unwrap_or_default()
    }

    /// Bytes that it takes, with the lines that are made of it: the text, each payload as text and coded, and tables.
    pub fn held_bytes(&self) -> usize {
        self.text.len() * 3 + self.lines.len() * 300
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &[u8]) -> (Vec<(String, String)>, u64) {
        let table = Table::parse(text.into());
        let text = |symbol: &Symbol| String::from_utf8_lossy(symbol.as_bytes()).into_owned();
        let mut quotes: Vec<_> = table.quotes().map(|(symbol, payload)| (text(symbol), payload.to_owned())).collect();
        quotes.sort();
        (quotes, table.skipped())
    }

    #[test]
    fn lines_and_what_is_skipped() {
        let long = [b"a=", &vec![b'x'; MAX_TABLE_LINE - 2][..]].concat();
        let longer = [&long[..], b"x"].concat();
        for (text, expected, skipped) in [
            (&b""[..], &[][..], 0),
            (b"a=1", &[("a", "1")], 0),
            (b"a=1\nb=2\n", &[("a", "1"), ("b", "2")], 0),
            (b"a=1\r\nb=\r\n", &[("a", "1"), ("b", "")], 0),
            (b"\xef\xbb\xbfa=1\n", &[("a", "1")], 0),
            (b"# c\n\n \t\n#a=1\na=b=c\n", &[("a", "b=c")], 0),
            (b"a=1\na=2\n", &[("a", "2")], 0),
            (b"a=1\na=\xff\nb=\xff\nb=1", &[("b", "1")], 2),
            (b"a\n=1\n a=1\na b=1\n\xc3\xa4=1\nx.y-z=1\n", &[("x.y-z", "1")], 5),
            (b"a=\0\x7f\r\r\n", &[("a", "\0\u{7f}\r")], 0),
            (&long, &[("a", std::str::from_utf8(&long[2..]).unwrap())], 0),
            (&longer, &[], 1),
        ] {
            let expected: Vec<_> = expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            assert_eq!(table(text), (expected, skipped), "{}", String::from_utf8_lossy(&text[..text.len().min(40)]));
        }
    }
}
