//! The server a second time: slow, obvious, and written from the wire contract alone.
//!
//! [`talk`] takes all the bytes of a client and says what it must be sent for them, [`next`] takes one request after the other. Everything is a string with one
//! character a byte, a list or a map; nothing is shared with `src/serve`, and nothing here is fast. Where the contract
//! leaves a choice, a comment says which one was made.

pub(crate) mod answer;
mod body;
pub(crate) mod head;
pub(crate) mod quotes;
pub(crate) mod range;
mod target;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use body::Reading;
use head::{Framing, Head, Verdict};

/// What is published, and the time.
pub(crate) struct Site {
    /// Seconds since 1970.
    pub(crate) now: u64,
    /// By decoded path, one character a byte.
    pub(crate) files: HashMap<String, Arc<File>>,
    /// In UTF-8, under the usual prefix.
    pub(crate) quotes: quotes::Quotes,
}

/// One version of one path.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) content: Vec<u8>,
    pub(crate) content_type: &'static str,
    /// Seconds since 1970.
    pub(crate) stamp: u64,
    /// Without quotes.
    pub(crate) etag: String,
    /// The content as a raw deflate stream.
    pub(crate) deflate: Option<Vec<u8>>,
    pub(crate) br: Option<Vec<u8>>,
    pub(crate) zstd: Option<Vec<u8>>,
}

/// All that a client is sent.
pub(crate) struct Talk {
    pub(crate) answers: Vec<Answer>,
    pub(crate) end: End,
}

/// What becomes of the connection after the last answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It waits for more of the client's bytes.
    Open,
    /// It ends.
    Closed,
    /// It ends, and what the client still sends is drained first.
    Drained,
}

#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `Content-Type` and `Content-Length` of several ranges are left out: they hang on the boundary.
    pub(crate) fields: BTreeMap<String, String>,
    pub(crate) body: Body,
}

#[derive(Clone)]
pub(crate) enum Body {
    Bytes(Vec<u8>),
    /// This raw deflate stream in a zlib frame; it decodes to the other bytes.
    Zlib(Vec<u8>, Vec<u8>),
    /// This raw deflate stream in a gzip frame; it decodes to the other bytes.
    Gzip(Vec<u8>, Vec<u8>),
    /// `multipart/byteranges` of a file: first byte and the one behind the last.
    Parts(Box<File>, Vec<(usize, usize)>),
    /// A list that reads so. What it is validated by is not known here, so the status is any that fits.
    List {
        text: String,
        to_head: bool,
    },
}

/// The answers to the bytes of a whole connection.
pub(crate) fn talk(stream: &[u8], site: &Site) -> Talk {
    let mut answers = Vec::new();
    let mut at = 0;
    loop {
        let Some((request, len)) = next(&stream[at..]) else { return Talk { answers, end: End::Open } };
        let (answer, end) = request.answer(site);
        answers.push(answer);
        if end != End::Open {
            return Talk { answers, end };
        }
        at += len;
    }
}

/// A request as far as it has come, once it can be answered.
pub(crate) enum Request {
    /// It came as a whole.
    Whole(Head),
    /// Its body is not read.
    Unread(Head),
    /// It is refused for the way it is framed.
    Refused { status: u16, to_head: bool },
}

/// The request at the front of a stream, and its bytes. None: more bytes are needed.
pub(crate) fn next(stream: &[u8]) -> Option<(Request, usize)> {
    let (head, len) = match head::read(stream) {
        Verdict::Partial { .. } => return None,
        Verdict::Refused { status, to_head } => return Some((Request::Refused { status, to_head }, stream.len())),
        Verdict::Whole { head, len } => (head, len),
    };
    let reading = match head.framing() {
        Framing::None => Reading::Whole(0),
        // The client waits for a word before it sends its body: it gets the last one.
        _ if head.expects_continue() => Reading::TooLong,
        framing => body::read(framing, &stream[len..]),
    };
    match reading {
        // Nothing is answered before the body has come.
        Reading::Unfinished => None,
        Reading::Malformed => Some((Request::Refused { status: 400, to_head: head.method == "HEAD" }, stream.len())),
        Reading::TooLong => Some((Request::Unread(head), stream.len())),
        Reading::Whole(body) => Some((Request::Whole(head), len + body)),
    }
}

impl Request {
    /// What it is answered, and what becomes of the connection.
    pub(crate) fn answer(&self, site: &Site) -> (Answer, End) {
        self.answer_by(site, |head| answer::answer(head, site))
    }

    /// The same, where `answer` says what is answered to a sound head.
    pub(crate) fn answer_by(&self, site: &Site, answer: impl FnOnce(&Head) -> Answer) -> (Answer, End) {
        match self {
            Request::Refused { status, to_head } => (refusal(*status, *to_head, site), End::Drained),
            Request::Unread(head) => (answer(head).closing().for_method(head.method == "HEAD"), End::Drained),
            Request::Whole(head) => {
                let (answer, end) = persist(head, answer(head));
                (answer.for_method(head.method == "HEAD"), end)
            }
        }
    }
}

/// The last word to what is no request, or none in time, or too much.
pub(crate) fn refusal(status: u16, to_head: bool, site: &Site) -> Answer {
    let answer = answer::error(status, site).closing().for_method(to_head);
    if status == 503 { answer.with("Retry-After", "1") } else { answer }
}

/// Section 7: which connections go on, and how the answer says so.
fn persist(head: &Head, mut answer: Answer) -> (Answer, End) {
    if answer.status == 400 {
        return (answer.closing(), End::Drained);
    }
    if !head.persists() {
        return (answer.closing(), End::Closed);
    }
    if head.is_1_0() {
        answer.fields.insert("Connection".into(), "keep-alive".into());
    }
    (answer, End::Open)
}

impl Answer {
    pub(crate) fn closing(mut self) -> Answer {
        self.fields.insert("Connection".into(), "close".into());
        self
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Answer {
        self.fields.insert(name.into(), value.into());
        self
    }

    /// The answer to HEAD is the head alone.
    fn for_method(mut self, to_head: bool) -> Answer {
        if let Body::List { to_head: of_list, .. } = &mut self.body {
            *of_list = to_head;
        } else if to_head {
            self.body = Body::Bytes(Vec::new());
        }
        self
    }
}

pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        304 => "Not Modified",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        412 => "Precondition Failed",
        414 => "URI Too Long",
        416 => "Range Not Satisfiable",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        other => panic!("the model knows no {other}"),
    }
}

/// One character a byte, so that strings can be taken apart without a thought to UTF-8.
pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// Bytes to read one by one.
struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What a field value may hold: visible ASCII, space, tab and all from 0x80 up.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Digits alone, as a number; more than fits is the largest that does.
pub(crate) fn number(digits: &str) -> Option<u128> {
    if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u128::MAX))
}

/// Without the spaces and tabs around it.
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}
