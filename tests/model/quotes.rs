//! Quotes, slow and obvious, from section 9 of the wire contract and from the format of `.quotes`.
//!
//! It is also what `fuzz/fuzz_targets/quotes.rs` compares with, so it needs nothing of the tests beside it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
};

use encoding_rs::{Encoding, GB18030, GBK};

const LONGEST_LINE: usize = 64 * 1024;
const LONGEST_SYMBOL: usize = 32;
const LONGEST_LIST: usize = 1000;

/// A line of a table or of a feeder, without its LF.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Blank,
    Comment,
    Quote(String, String),
    /// What cannot be used, with the symbol that is absent for it.
    Bad(Option<String>),
}

pub(crate) fn read_line(line: &[u8]) -> Line {
    let line = if line.ends_with(b"\r") { &line[..line.len() - 1] } else { line };
    if line.first() == Some(&b'#') {
        return Line::Comment;
    }
    if line.iter().all(|byte| [b' ', b'\t'].contains(byte)) {
        return Line::Blank;
    }
    let Some(equals) = line.iter().position(|byte| *byte == b'=') else { return Line::Bad(None) };
    let symbol = match String::from_utf8(line[..equals].to_vec()) {
        Ok(symbol) if is_symbol(&symbol, true) => symbol,
        _ => return Line::Bad(None),
    };
    match String::from_utf8(line[equals + 1..].to_vec()) {
        Ok(payload) if line.len() <= LONGEST_LINE => Line::Quote(symbol, payload),
        _ => Line::Bad(Some(symbol)),
    }
}

/// A `.quotes` file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) quotes: BTreeMap<String, String>,
    pub(crate) skipped: u64,
    /// From 1.
    pub(crate) first_skipped: Option<u64>,
}

pub(crate) fn read_table(text: &[u8]) -> Table {
    let mut table = Table::default();
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        match read_line(line) {
            Line::Blank | Line::Comment => {}
            Line::Quote(symbol, payload) => drop(table.quotes.insert(symbol, payload)),
            Line::Bad(symbol) => {
                table.quotes.remove(&symbol.unwrap_or_default());
                table.skipped += 1;
                table.first_skipped.get_or_insert(number);
            }
        }
    }
    table
}

/// What comes of the bytes of a feeder.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    Batch(Vec<(String, String)>),
    /// The number of a line that was skipped, from 1.
    Skipped(u64),
}

/// As long as no batch is too large.
pub(crate) fn read_batches(bytes: &[u8]) -> Vec<News> {
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    // What has not ended is no line.
    lines.pop();
    let (mut news, mut batch) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(lines) {
        match read_line(line) {
            Line::Blank if batch.is_empty() => {}
            Line::Blank => news.push(News::Batch(std::mem::take(&mut batch))),
            Line::Comment => {}
            Line::Quote(symbol, payload) => batch.push((symbol, payload)),
            Line::Bad(_) => news.push(News::Skipped(number)),
        }
    }
    news
}

fn is_symbol(symbol: &str, is_wide: bool) -> bool {
    let is_of_it = |c: char| c.is_ascii_alphanumeric() || "_$".contains(c) || (is_wide && ".-".contains(c));
    !symbol.is_empty() && symbol.len() <= LONGEST_SYMBOL && symbol.chars().all(is_of_it)
}

/// What a target asks for. No symbols: it is answered 400.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) symbols: Option<Vec<String>>,
    pub(crate) json: bool,
    /// The value of the first `maxage`.
    pub(crate) max_age: Option<String>,
}

/// The three forms of a target in origin-form, one character a byte. None: it does not ask for quotes.
pub(crate) fn read_target(target: &str) -> Option<Asked> {
    let marks = ['&', '?'];
    let (list, params): (&str, Vec<&str>) = if let Some(rest) = target.strip_prefix("/list=") {
        let mut items = rest.split(marks);
        (items.next()?, items.collect())
    } else if let Some(query) = target.strip_prefix("/?") {
        first_list(query.split('&').collect())?
    } else {
        let (before, behind) = target.strip_prefix('/')?.split_once('?').unwrap_or((target.get(1..)?, ""));
        let (list, mut params) = first_list(before.split('&').collect())?;
        params.extend(behind.split(marks));
        (list, params)
    };
    let json = params.contains(&"format=json");
    let symbols = decode(list).and_then(|list| {
        let symbols: Vec<String> = list.split(',').map(str::to_owned).collect();
        (symbols.len() <= LONGEST_LIST && symbols.iter().all(|symbol| is_symbol(symbol, json))).then_some(symbols)
    });
    let max_age = |param: &&str| match param.strip_prefix("maxage") {
        Some("") => Some(String::new()),
        Some(value) => value.strip_prefix('=').map(str::to_owned),
        None => None,
    };
    Some(Asked { symbols, json, max_age: params.iter().find_map(max_age) })
}

/// The first item that is a list, and the others.
fn first_list(items: Vec<&str>) -> Option<(&str, Vec<&str>)> {
    let at = items.iter().position(|item| item.starts_with("list="))?;
    let mut others = items.clone();
    Some((others.remove(at).strip_prefix("list=")?, others))
}

fn decode(list: &str) -> Option<String> {
    let mut pieces = list.split('%');
    let mut decoded = pieces.next()?.to_owned();
    for piece in pieces {
        let digits = piece.get(..2).filter(|digits| digits.chars().all(|c| c.is_ascii_hexdigit()))?;
        decoded.push(u8::from_str_radix(digits, 16).ok()?.into());
        decoded.push_str(&piece[2..]);
    }
    Some(decoded)
}

/// All tables and what came through the socket.
#[derive(Clone, Default)]
pub(crate) struct Quotes {
    /// By path.
    pub(crate) tables: BTreeMap<String, Table>,
    pub(crate) live: BTreeMap<String, String>,
}

impl Quotes {
    pub(crate) fn payload(&self, symbol: &str) -> Option<&String> {
        let mut tables = self.tables.values();
        self.live.get(symbol).or_else(|| tables.find_map(|table| table.quotes.get(symbol)))
    }

    /// Those that are known.
    pub(crate) fn symbols(&self) -> BTreeSet<String> {
        self.tables.values().flat_map(|table| table.quotes.keys()).chain(self.live.keys()).cloned().collect()
    }

    /// The answer in UTF-8.
    pub(crate) fn text(&self, prefix: &str, symbols: &[String], json: bool) -> String {
        self.text_by(prefix, symbols, json, escape)
    }

    /// The same, by an [`escape`] that may remember.
    pub(crate) fn text_by<E: Display + Default>(
        &self,
        prefix: &str,
        symbols: &[String],
        json: bool,
        mut escape: impl FnMut(&str) -> E,
    ) -> String {
        let mut text = String::new();
        let mut listed = Vec::new();
        for symbol in symbols {
            let payload = self.payload(symbol).map(|payload| escape(payload));
            if !json {
                text += &format!("var {prefix}{symbol}=\"{}\";\n", payload.unwrap_or_default());
            } else if !listed.contains(&symbol) {
                let comma = if listed.is_empty() { "{" } else { "," };
                let payload = payload.map_or("null".to_owned(), |payload| format!("\"{payload}\""));
                text += &format!("{comma}\"{symbol}\":{payload}");
                listed.push(symbol);
            }
        }
        if json { text + "}" } else { text }
    }
}

pub(crate) fn escape(payload: &str) -> String {
    let mut escaped = String::new();
    let chars: Vec<char> = payload.chars().collect();
    for (at, c) in chars.iter().enumerate() {
        let opens_markup = *c == '<' && matches!(chars.get(at + 1), Some('/' | '!'));
        if ['"', '\\'].contains(c) {
            escaped.push('\\');
            escaped.push(*c);
        } else if opens_markup || c.is_control() || ['\u{2028}', '\u{2029}'].contains(c) {
            escaped += &format!("\\u{:04x}", u32::from(*c));
        } else {
            escaped.push(*c);
        }
    }
    escaped
}

/// The charset of scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charset {
    Utf8,
    Gbk,
    Gb18030,
}

impl Charset {
    /// Whether `answer`, in this charset, is `text`: but for ASCII and the Chinese characters that every GBK has, a
    /// character may stand as `\uXXXX`, and one that GBK has no room for must.
    pub(crate) fn has(self, answer: &[u8], text: &str) -> bool {
        let encoding: &'static Encoding = match self {
            Charset::Utf8 => return answer == text.as_bytes(),
            Charset::Gbk => GBK,
            Charset::Gb18030 => GB18030,
        };
        let Some(decoded) = encoding.decode_without_bom_handling_and_without_replacement(answer) else { return false };
        let mut rest = &*decoded;
        for c in text.chars() {
            let is_plain = c.is_ascii() || ('\u{4e00}'..='\u{9fa5}').contains(&c);
            let is_beyond = self == Charset::Gbk && c > '\u{ffff}';
            rest = match rest.strip_prefix(c) {
                Some(after) if !is_beyond => after,
                _ if is_plain => return false,
                _ => {
                    let units =
                        c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
                    let Some(after) = rest.strip_prefix(&units) else { return false };
                    after
                }
            };
        }
        rest.is_empty()
    }
}
