//! What clients ask for and how: pipelines of all kinds of requests, cut anywhere, and answers that are read or not.

use std::rc::Rc;

use super::public::{Public, any_symbol};
use crate::{
    conn::http_date,
    fuzz::{
        grammar,
        values::{self, one_in, pick},
    },
    harness::Rng,
};

/// Requests of one run: most are sent again and again, as they are by pages that poll.
#[derive(Default)]
pub(super) struct Requests {
    tame: Vec<Rc<[u8]>>,
}

const REMEMBERED: usize = 96;

impl Requests {
    /// One that a connection survives, and its answers do not tell from another's.
    fn tame(&mut self, rng: &mut Rng, public: &Public) -> Rc<[u8]> {
        if self.tame.len() == REMEMBERED && !one_in(rng, 8) {
            return self.tame[rng.below(REMEMBERED)].clone();
        }
        let request: Rc<[u8]> = match rng.below(8) {
            0 if one_in(rng, 10) => ranges(rng).into(),
            2 if one_in(rng, 2) => large(rng).into(),
            0 | 1 => list(rng, public).into(),
            _ => grammar::tame(rng, &public.site).into(),
        };
        // A long body takes its time whenever it is sent.
        if request.len() < 4000 {
            if self.tame.len() < REMEMBERED {
                self.tame.push(request.clone());
            } else {
                let place = rng.below(REMEMBERED);
                self.tame[place] = request.clone();
            }
        }
        request
    }

    /// What a client sends next, and how many requests that is, more or less.
    pub(super) fn pipeline(&mut self, rng: &mut Rng, public: &Public) -> (Vec<u8>, usize) {
        if one_in(rng, 1200) {
            return (burst(rng), 4);
        }
        let count = match rng.below(50) {
            0 => 20 + rng.below(60),
            1..10 => 2 + rng.below(6),
            _ => 1,
        };
        let mut bytes = Vec::new();
        for _ in 0..count {
            match rng.below(40 * count) {
                0 => bytes.extend(grammar::oversized(rng, &public.site)),
                1..5 => bytes.extend(grammar::wild(rng, &public.site)),
                _ => bytes.extend_from_slice(&self.tame(rng, public)),
            }
        }
        if one_in(rng, 60) {
            grammar::damage(rng, &mut bytes);
        }
        (bytes, count)
    }
}

/// Lists of which so much is joined at once that others have their turn before the rest, which may be no request.
fn burst(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..4 {
        let list = ",l".repeat(300 + number);
        let head = format!("GET /list=l{list}&rn={number} HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n");
        bytes.extend_from_slice(head.as_bytes());
    }
    bytes.extend_from_slice(pick(rng, &[&b""[..], b"\r\n", b"\r", b"GE"]));
    bytes
}

/// As many ranges as one answer may have, each large enough to be sent from where it lies: more pieces than the kernel takes at
/// once.
fn ranges(rng: &mut Rng) -> Vec<u8> {
    let (step, len) = (4600, 4100 + rng.below(400));
    let ranges: Vec<String> = (0..32).map(|number| format!("{}-{}", number * step, number * step + len)).collect();
    format!("GET /large.txt HTTP/1.1\r\nHost: h\r\nRange: bytes={}\r\n\r\n", ranges.join(",")).into_bytes()
}

/// The content that is sent from where it lies, whatever its version.
fn large(rng: &mut Rng) -> Vec<u8> {
    let coding = pick(rng, &["", "", "Accept-Encoding: gzip\r\n", "Accept-Encoding: br, deflate\r\n"]);
    format!("GET /large.txt?maxage=3 HTTP/1.1\r\nHost: h\r\n{coding}\r\n").into_bytes()
}

/// A list of quotes, asked for as pages ask for it.
fn list(rng: &mut Rng, public: &Public) -> Vec<u8> {
    let json = one_in(rng, 3);
    let count = match rng.below(60) {
        0 => 300,
        1..10 => 40,
        _ => 1 + rng.below(8),
    };
    let mut symbols: Vec<String> = Vec::new();
    while symbols.len() < count {
        let symbol = if one_in(rng, 12) { "unknown".to_owned() } else { any_symbol(rng) };
        // With the bytes that only JSON allows it would be 400.
        if json || !symbol.contains('-') || one_in(rng, 800) {
            symbols.push(symbol);
        }
    }
    let list = symbols.join(",");
    let format = if json { "&format=json" } else { "" };
    let age = pick(rng, &["", "", "&maxage=7", "&maxage=600", "&maxage=x"]);
    let target = match rng.below(4) {
        0 => format!("/?rn=1{age}&list={list}{format}"),
        1 => format!("/rn=2&list={list}{format}{age}"),
        _ => format!("/list={list}{format}{age}"),
    };
    let method = pick(rng, &["GET", "GET", "GET", "GET", "GET", "GET", "HEAD", "OPTIONS", "POST"]);
    let mut fields = String::from("Host: h\r\n");
    if !one_in(rng, 4) {
        fields += &format!("Accept-Encoding: {}\r\n", values::accept_encoding(rng));
    }
    let changed = symbols.iter().filter_map(|symbol| public.changed.get(symbol)).max().copied().unwrap_or(0);
    match rng.below(8) {
        0..3 => fields += &format!("If-Modified-Since: {}\r\n", http_date(changed)),
        3 => fields += "If-None-Match: \"x\", W/\"y\"\r\n",
        4 => {
            fields +=
                &format!("Range: {}\r\n", pick(rng, &["bytes=0-9", "bytes=-5", "bytes=3-20, 30-", "bytes=90000-"]))
        }
        _ => {}
    }
    format!("{method} {target} HTTP/1.1\r\n{fields}\r\n").into_bytes()
}

/// How a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Talk {
    /// All that it has.
    AtOnce,
    /// Pieces of some hundred bytes.
    Pieces,
    /// Byte by byte, at times.
    Bytes,
}

/// How a client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Appetite {
    All,
    Some,
    Never,
}

/// A client's ways.
pub(super) struct Client {
    talk: Talk,
    pub(super) appetite: Appetite,
    /// What it is about to send.
    bytes: Vec<u8>,
    at: usize,
    /// Pipelines that it will send after that.
    pipelines: usize,
    /// It closes its sending half behind the last of them.
    closes: bool,
}

/// What a client does next.
pub(super) enum Move {
    Send(Vec<u8>),
    Close,
    Nothing,
}

impl Client {
    pub(super) fn new(rng: &mut Rng) -> Client {
        Client {
            talk: pick(rng, &[Talk::AtOnce, Talk::AtOnce, Talk::Pieces, Talk::Pieces, Talk::Bytes]),
            appetite: pick(rng, &[Appetite::All, Appetite::All, Appetite::All, Appetite::Some, Appetite::Never]),
            bytes: Vec::new(),
            at: 0,
            pipelines: if one_in(rng, 10) { 0 } else { 1 + rng.below(12) },
            closes: one_in(rng, 2),
        }
    }

    /// It may have something to say.
    pub(super) fn has_plans(&self) -> bool {
        self.at < self.bytes.len() || self.pipelines > 0 || self.closes
    }

    /// It says nothing more.
    pub(super) fn fall_silent(&mut self) {
        self.at = self.bytes.len();
        (self.pipelines, self.closes) = (0, false);
    }

    pub(super) fn is_bytewise(&self) -> bool {
        self.talk == Talk::Bytes
    }

    /// The next thing that it does, and of how many requests that is the beginning.
    pub(super) fn next(&mut self, rng: &mut Rng, requests: &mut Requests, public: &Public) -> (Move, usize) {
        let mut begun = 0;
        if self.at == self.bytes.len() {
            if self.pipelines == 0 {
                let closes = std::mem::take(&mut self.closes);
                return (if closes { Move::Close } else { Move::Nothing }, 0);
            }
            self.pipelines -= 1;
            (self.bytes, begun) = requests.pipeline(rng, public);
            self.at = 0;
        }
        let left = self.bytes.len() - self.at;
        let most = match self.talk {
            // A long pipeline would keep it busy for ever.
            Talk::Bytes if left < 100 || one_in(rng, 2) => 1 + rng.below(3),
            Talk::Bytes => left,
            Talk::Pieces if left > 10_000 => 1 + rng.below(left),
            Talk::Pieces => 1 + rng.below(500),
            Talk::AtOnce => left,
        };
        let piece = self.bytes[self.at..self.at + most.min(left)].to_vec();
        self.at += piece.len();
        (Move::Send(piece), begun)
    }
}
