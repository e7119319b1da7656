//! Lists of quotes as the model answers them. How a list is compressed is the server's choice: whatever it sends must inflate
//! to the text.

use std::{collections::HashMap, io::Read, rc::Rc};

use cloudia::store::{Bodies, Entry};
use flate2::bufread::DeflateDecoder;

use super::public::Public;
use crate::model::{
    Answer, File,
    answer::{answer_file, error},
    head::Head,
    latin1, quotes,
};

/// What is asked for, if it is a list.
pub(super) fn asked(head: &Head) -> Option<quotes::Asked> {
    if head.method == "CONNECT" {
        return None;
    }
    quotes::read_target(&head.target)
}

/// The answers that may be given to a list, of which `sent` should be one.
pub(super) fn answers(
    head: &Head,
    asked: &quotes::Asked,
    public: &Public,
    texts: &mut Texts,
    sent: &Sent<'_>,
) -> Vec<Answer> {
    let site = &public.site;
    let Some(symbols) = &asked.symbols else { return vec![error(400, site)] };
    if !["GET", "HEAD"].contains(&head.method.as_str()) {
        let status = if head.method == "OPTIONS" { 204 } else { 405 };
        return vec![crate::model::answer::allow(status, site)];
    }
    let text = texts.get(symbols, asked.json, public);
    let (content, etag) = &*text;
    let is_known = symbols.iter().any(|symbol| public.market.payload(symbol).is_some());
    let stamp = symbols.iter().filter_map(|symbol| public.changed.get(symbol)).max();
    let max_age = asked.max_age.as_ref().and_then(|value| crate::model::number(value)).unwrap_or(1).min(60);
    let content_type = if asked.json { "application/json" } else { "text/javascript; charset=utf-8" };
    let stamp = stamp.copied().filter(|_| is_known).unwrap_or(u64::MAX);
    let mut answers = Vec::new();
    for deflate in sent.deflates(content, head.method == "HEAD") {
        let file =
            File { content: content.clone(), content_type, stamp, etag: etag.clone(), deflate, br: None, zstd: None };
        answers.push(answer_file(head, &file, max_age, site));
    }
    answers
}

/// The texts of lists, as long as no quote changes, with the tags that follow from them.
#[derive(Default)]
pub(super) struct Texts {
    version: u64,
    known: HashMap<(Vec<String>, bool), Rc<Text>>,
    escaped: HashMap<String, Rc<str>>,
}

/// A text and its tag.
type Text = (Vec<u8>, String);

impl Texts {
    fn get(&mut self, symbols: &[String], json: bool, public: &Public) -> Rc<Text> {
        if self.version != public.market_version {
            self.known.clear();
            self.version = public.market_version;
        }
        let escaped = &mut self.escaped;
        let mut escape = |payload: &str| match escaped.get(payload) {
            Some(known) => known.clone(),
            None => escaped.entry(payload.to_owned()).or_insert(quotes::escape(payload).into()).clone(),
        };
        let make = || {
            let text = public.market.text_by("hq_str_", symbols, json, &mut escape).into_bytes();
            let entry = Entry::new("", 0, Bodies::identity(text.clone().into()));
            Rc::new((text, latin1(entry.etag())))
        };
        self.known.entry((symbols.to_vec(), json)).or_insert_with(make).clone()
    }
}

/// The front of what was sent.
pub(super) struct Sent<'s> {
    head: &'s [u8],
    body: &'s [u8],
}

impl<'s> Sent<'s> {
    /// None: it has no whole head.
    pub(super) fn new(bytes: &'s [u8]) -> Option<Sent<'s>> {
        let len = memchr::memmem::find(bytes, b"\r\n\r\n")?;
        Some(Sent { head: &bytes[..len + 2], body: &bytes[len + 4..] })
    }

    /// The head has this line.
    pub(super) fn has(&self, line: &str) -> bool {
        memchr::memmem::find(self.head, format!("\r\n{line}\r\n").as_bytes()).is_some()
    }

    fn length(&self) -> Option<usize> {
        let at = memchr::memmem::find(self.head, b"\r\nContent-Length: ")? + 18;
        let digits = self.head[at..].split(|byte| *byte == b'\r').next()?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// The raw deflate streams that `content` may have, as far as can be seen here.
    fn deflates(&self, content: &[u8], to_head: bool) -> Vec<Option<Vec<u8>>> {
        let frame = if self.has("Content-Encoding: deflate") {
            Some((2, 4))
        } else if self.has("Content-Encoding: gzip") {
            Some((10, 8))
        } else {
            None
        };
        let Some(((before, behind), len)) = frame.zip(self.length()) else {
            if !self.has("Vary: Accept-Encoding") {
                return vec![None];
            }
            // One is there. It may be of any length, of which some matter: a zlib frame may make it smaller, and a gzip frame not.
            let brink = content.len().saturating_sub(18);
            return vec![Some(Vec::new()), Some(vec![0; brink])];
        };
        let stream = self.body.get(before..len.saturating_sub(behind)).filter(|_| !to_head);
        match stream {
            None => vec![Some(vec![0; len.saturating_sub(before + behind)])],
            Some(stream) => {
                let mut inflated = Vec::with_capacity(content.len());
                let read = DeflateDecoder::new(stream).read_to_end(&mut inflated);
                if read.is_ok() && inflated == content { vec![Some(stream.to_vec())] } else { vec![None] }
            }
        }
    }
}
