//! Requests at random: from a grammar, so that they get past the first line, and then damaged.

use super::values::{self, any_file, one_in, pick};
use crate::{
    harness::Rng,
    model::{File, Site},
};

/// A request before it is written down.
struct Draft {
    /// What stands before the request line.
    blank: &'static str,
    method: &'static str,
    target: String,
    version: &'static str,
    /// Lines, each with one character a byte and without its end.
    fields: Vec<String>,
    body: Vec<u8>,
}

/// A request that a connection survives.
pub(crate) fn tame(rng: &mut Rng, site: &Site) -> Vec<u8> {
    draft(rng, site).written()
}

/// A request in which one thing or another is wrong, or final.
pub(crate) fn wild(rng: &mut Rng, site: &Site) -> Vec<u8> {
    let mut draft = draft(rng, site);
    for _ in 0..1 + rng.below(2) {
        spoil(rng, &mut draft);
    }
    draft.written()
}

/// A wild request close to one of the bounds: 16 KiB of head, 8 KiB of target, 100 fields.
pub(crate) fn oversized(rng: &mut Rng, site: &Site) -> Vec<u8> {
    let mut draft = draft(rng, site);
    if one_in(rng, 3) {
        spoil(rng, &mut draft);
    }
    let less_or_more = rng.below(7);
    match rng.below(4) {
        0 => {
            let path_len = draft.target.len().min(8000);
            draft.target.push_str(&"x".repeat(8 * 1024 - 3 + less_or_more - path_len));
        }
        1 => {
            let count = if one_in(rng, 3) { rng.below(97) } else { 97 + less_or_more };
            let missing = count.saturating_sub(draft.fields.len());
            for n in 0..missing {
                draft.put(rng, format!("X{n}: y"));
            }
        }
        2 => draft.put(rng, format!("X: {}", "x".repeat(20_000))),
        _ => {
            let bare = draft.written().len() - draft.body.len() - draft.blank.len() + "X: \r\n".len();
            draft.put(rng, format!("X: {}", "x".repeat((16 * 1024 - 3 + less_or_more).saturating_sub(bare))));
        }
    }
    draft.written()
}

fn draft(rng: &mut Rng, site: &Site) -> Draft {
    let (path, file) = any_file(rng, site);
    let mut draft = Draft {
        blank: if one_in(rng, 12) { "\r\n\r\n" } else { "" },
        method: match rng.below(24) {
            0..3 => "HEAD",
            3 => "OPTIONS",
            4 => pick(rng, &["POST", "PUT", "DELETE", "TRACE", "PATCH", "CONNECT"]),
            _ => "GET",
        },
        target: values::target(rng, path),
        version: pick(rng, &["1.1", "1.1", "1.1", "1.1", "1.1", "1.0", "1.2", "1.9"]),
        fields: Vec::new(),
        body: Vec::new(),
    };
    let host = pick(rng, &["h", "h:80", "", "www.example.com", "[::1]:8080", "192.0.2.1", "a%2fb", "H:", "[v1.x:y]"]);
    draft.put_field(rng, "Host", host);
    if draft.version == "1.0" {
        let options = pick(rng, &["keep-alive", "Keep-Alive", "x, keep-alive", "keep-alive,,y"]);
        draft.put_field(rng, "Connection", options);
    }
    if draft.method == "OPTIONS" && one_in(rng, 3) {
        draft.target = "*".into();
    }
    add_conditions(rng, &mut draft, file, site.now);
    add_junk(rng, &mut draft);
    if one_in(rng, 10) {
        add_body(rng, &mut draft);
    }
    draft
}

fn add_conditions(rng: &mut Rng, draft: &mut Draft, file: &File, now: u64) {
    if !one_in(rng, 3) {
        let value = values::accept_encoding(rng);
        draft.put_field(rng, "Accept-Encoding", &value);
        if one_in(rng, 8) {
            let value = values::accept_encoding(rng);
            draft.put_field(rng, "accept-encoding", &value);
        }
    }
    let count = if one_in(rng, 3) { 1 + rng.below(3) } else { 0 };
    for _ in 0..count {
        let (name, value) = match rng.below(4) {
            0 => ("If-Match", values::tags(rng, file)),
            1 => ("If-None-Match", values::tags(rng, file)),
            2 => ("If-Modified-Since", values::date(rng, file, now)),
            _ => ("If-Unmodified-Since", values::date(rng, file, now)),
        };
        draft.put_field(rng, name, &value);
    }
    if one_in(rng, 4) {
        let value = values::range(rng, file.content.len());
        draft.put_field(rng, "Range", &value);
        if one_in(rng, 12) {
            draft.put_field(rng, "RANGE", &value);
        }
        if one_in(rng, 3) {
            let value = if one_in(rng, 2) { values::tag(rng, file) } else { values::date(rng, file, now) };
            draft.put_field(rng, "If-Range", &value);
        }
    }
}

fn add_junk(rng: &mut Rng, draft: &mut Draft) {
    for _ in 0..rng.below(3) {
        let line = pick(
            rng,
            &[
                "X-Forwarded-For: 192.0.2.1, 192.0.2.2",
                "Cookie: a=b; c=\"d\"",
                "User-Agent: x (y; z)",
                "X:",
                "X-High: \u{e9}\u{ff}\u{80}",
                "X-Tab: a\tb",
                "!#$%&'*+-.^_`|~: token",
                "If-Matches: \"x\"",
                "Connection: upgrade, x",
                "Expect: 100-continue",
                "Content-Length: 0",
                "Content-Length: 000",
                "Upgrade: h2c",
            ],
        );
        draft.put(rng, line.into());
    }
}

impl Draft {
    /// Puts a line somewhere among the others.
    fn put(&mut self, rng: &mut Rng, line: String) {
        let at = rng.below(self.fields.len() + 1);
        self.fields.insert(at, line);
    }

    fn put_field(&mut self, rng: &mut Rng, name: &str, value: &str) {
        let before = pick(rng, &[" ", " ", " ", " ", "", "  ", "\t", " \t "]);
        let behind = pick(rng, &["", "", "", "", " ", "\t", " \t"]);
        self.put(rng, format!("{name}:{before}{value}{behind}"));
    }

    fn remove(&mut self, name: &str) {
        self.fields.retain(|line| !line.to_ascii_lowercase().starts_with(name));
    }

    fn written(&self) -> Vec<u8> {
        let line = format!("{}{} {} HTTP/{}\r\n", self.blank, self.method, self.target, self.version);
        let fields: String = self.fields.iter().map(|field| format!("{field}\r\n")).collect();
        // One character a byte.
        let mut bytes: Vec<u8> = format!("{line}{fields}\r\n").chars().map(|c| c as u8).collect();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// A sound body, by length or in chunks. What it holds looks like a request.
fn add_body(rng: &mut Rng, draft: &mut Draft) {
    let len = match rng.below(30) {
        0 => 64 * 1024 - 1 + rng.below(2),
        1..5 => rng.below(5000),
        _ => rng.below(100),
    };
    let content: Vec<u8> =
        b"GET /inner HTTP/1.1\r\nHost: h\r\n\r\n0\r\n\r\n".iter().copied().cycle().take(len).collect();
    draft.remove("expect");
    draft.remove("content-length");
    if draft.version == "1.0" || one_in(rng, 2) {
        draft.put_field(rng, "Content-Length", &len.to_string());
        if one_in(rng, 10) {
            draft.put_field(rng, "content-length", &format!("0{len}"));
        }
        draft.body = content;
    } else {
        let coding = pick(rng, &["chunked", "Chunked"]);
        draft.put_field(rng, "Transfer-Encoding", coding);
        draft.body = chunked(rng, &content);
    }
}

fn chunked(rng: &mut Rng, content: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    let mut rest = content;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(1 + rng.below(rest.len()));
        let extension = pick(rng, &["", "", "", ";a", ";a=\"b;c\"", " \t; x", ";"]);
        let size = match rng.below(3) {
            0 => format!("{:X}", chunk.len()),
            1 => format!("00{:x}", chunk.len()),
            _ => format!("{:x}", chunk.len()),
        };
        body.extend_from_slice(format!("{size}{extension}\r\n").as_bytes());
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
        rest = after;
    }
    body.extend_from_slice(pick(rng, &["0\r\n", "0\r\n", "000;last\r\n"]).as_bytes());
    body.extend_from_slice(pick(rng, &["", "", "X: y\r\n", "X:\r\nY: \u{e9}\r\n"]).as_bytes());
    if one_in(rng, 12) {
        let len = 4000 + rng.below(200);
        body.extend_from_slice(format!("X: {}\r\n", "t".repeat(len)).as_bytes());
    }
    body.extend_from_slice(b"\r\n");
    body
}

/// Does one of the things that a connection does not survive, or does not survive as it is.
fn spoil(rng: &mut Rng, draft: &mut Draft) {
    match rng.below(20) {
        0 => {
            let hosts =
                ["a b", "h:65536", "h:x", "[::1", "u@h", "h%zz", "h:80:80", "\u{e9}", "[v1.]", "[]:1", "h:065535"];
            let host = pick(rng, &hosts);
            draft.remove("host");
            draft.put_field(rng, "Host", host);
        }
        1 => draft.remove("host"),
        2 => draft.put_field(rng, "host", "h"),
        3 | 13..16 => {
            let options =
                ["close", "Close", "x, close", "close,keep-alive", "closed", "clo se", "\"close\"", "x close"];
            let options = pick(rng, &options);
            draft.put_field(rng, "Connection", options);
        }
        4 | 16 => {
            draft.version =
                pick(rng, &["1.0", "2.0", "0.9", "3.0", "9.9", "1.", "1", "11", "1.11", "1.1 ", "x.1", "1.x"])
        }
        5 => {
            draft.method =
                pick(rng, &["FOO", "get", "GETT", "GE", "!", "G@T", "PRI", "PROPFIND", "", "HEAD\t", "HEADS"])
        }
        6 => spoil_target(rng, draft),
        7 | 8 => spoil_framing(rng, draft),
        9 | 17 => spoil_body(rng, draft),
        10 => spoil_field(rng, draft),
        11 => {
            add_body(rng, draft);
            let value = pick(rng, &["100-continue", "100-Continue", "200-ok", "100-continue, x", "x,100-continue", ""]);
            draft.put_field(rng, "Expect", value);
        }
        12 if !draft.fields.is_empty() => {
            let again = draft.fields[rng.below(draft.fields.len())].clone();
            draft.put(rng, again);
        }
        _ => draft.blank = pick(rng, &["\r\n", "\n", "\r", "\r\r\n", "\n\r\n", " ", "\r\n \r\n"]),
    }
}

const TARGETS: &[&str] = &[
    "/..",
    "%2fa.txt",
    "/../a.txt",
    "/dir/../../a.txt",
    "//../a.txt",
    "/%2e%2e/a.txt",
    "/x/..%2f../a.txt",
    "/%",
    "/%4",
    "/%zz",
    "/%00",
    "/a%0a",
    "/%7f",
    "/a.txt#",
    "/a.txt?x#y",
    "/\u{e9}",
    "/a b",
    "/\t",
    "a.txt",
    "*",
    "*x",
    "h:80",
    "?x",
    "",
    "http://h",
    "HTTPS://H?maxage=5",
    "http://h/../a.txt",
    "http:///a.txt",
    "http://:80/a.txt",
    "http://u@h/a.txt",
    "http://h:99999/",
    "http://[::1/",
    "http://h%zz/",
    "http:/a.txt",
    "ftp://h/a.txt",
    "http://",
    "http://h/a.txt#",
];

fn spoil_target(rng: &mut Rng, draft: &mut Draft) {
    draft.target = pick(rng, TARGETS).into();
}

const LENGTHS: &[&str] = &[
    "5",
    "5",
    "005",
    "0",
    "6",
    "5, 5",
    "5,",
    "-1",
    "+5",
    "",
    "5 5",
    "0x5",
    "five",
    "65536",
    "65537",
    "1000000000000",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999",
];

fn spoil_framing(rng: &mut Rng, draft: &mut Draft) {
    let codings = ["chunked", "CHUNKED", "gzip", "gzip, chunked", "chunked, gzip", "chunked, chunked", "", "identity"];
    for _ in 0..1 + rng.below(2) {
        if one_in(rng, 3) {
            let coding = pick(rng, &codings);
            draft.put_field(rng, "Transfer-Encoding", coding);
        } else {
            let length = pick(rng, LENGTHS);
            draft.put_field(rng, "Content-Length", length);
        }
    }
    draft.body = pick(rng, &["", "hello", "5\r\nhello\r\n0\r\n\r\n", "0\r\n\r\n"]).into();
}

/// Each behind a head that promises chunks.
const CHUNKS: &[&str] = &[
    "zz\r\n",
    "\r\n",
    "-5\r\nhello",
    "0x5\r\nhello",
    " 5\r\nhello",
    "5\nhello",
    "5\r\nhello\n0\r\n\r\n",
    "5\r\nhelloo\r\n0",
    "5\r\nhello\r\n0\r\n\n",
    "5 \r\nhello",
    "5;a\rb",
    "5;\u{1}\r\n",
    "0\r\n x\r\n\r\n",
    "0\r\nX : y\r\n",
    "0\r\nX: \u{7f}\r\n",
    "fffffffffffffffff\r\n",
    "00000000000000000\r\n",
    "0000000000000000\r\n\r\n",
    "10001\r\n",
    "ffffffffffffffff\r\n",
    "5\r\nhel",
    "0\r\n",
    "5;",
    "5",
    "0\r\nX",
    "0\r\nX: y",
    "5 ",
    "5;a\r",
];

fn spoil_body(rng: &mut Rng, draft: &mut Draft) {
    draft.remove("content-length");
    draft.remove("transfer-encoding");
    draft.remove("expect");
    match rng.below(4) {
        0 => {
            let len = 64 * 1024 - 1 + rng.below(4);
            draft.put_field(rng, "Content-Length", &len.to_string());
            draft.body = vec![b'x'; len];
            return;
        }
        1 => {
            let len = 64 * 1024 - 1 + rng.below(4);
            draft.body = chunked(rng, &vec![b'x'; len]);
        }
        2 => {
            let half = "x".repeat(2 * 1024 - 3);
            let more = "x".repeat(rng.below(5));
            draft.body = format!("1;{half}\r\nx\r\n0\r\nX:{half}{more}\r\n\r\n").into();
        }
        _ => draft.body = pick(rng, CHUNKS).chars().map(|c| c as u8).collect(),
    }
    draft.put_field(rng, "Transfer-Encoding", "chunked");
}

const LINES: &[&str] = &[
    " X: y",
    "\tX: y",
    " ",
    "X : y",
    "X\t: y",
    ": y",
    ":",
    "y",
    "X Y: z",
    "X\u{80}: y",
    "X(: y",
    "X\0: y",
    "X: a\0b",
    "X: a\rb",
    "X: a\nY: b",
    "X: a\r",
    "X: a\n",
    "X:\n",
    "X: \u{1}",
    "X: \u{7f}",
    "X: y\r\n z",
    "X: y\r\n ",
    "\n",
    "X: y\r\n\r\nY: z",
    "Content-Length : 5",
    "Host\t: h",
];

fn spoil_field(rng: &mut Rng, draft: &mut Draft) {
    let line = pick(rng, LINES);
    draft.put(rng, line.into());
}

/// Changes, adds, takes out or doubles a few bytes.
pub(crate) fn damage(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..1 + rng.below(3) {
        if bytes.is_empty() {
            return;
        }
        // Where most of the meaning is, or anywhere.
        let at = if one_in(rng, 2) { rng.below(bytes.len().min(200)) } else { rng.below(bytes.len()) };
        let odd = pick(rng, b"\r\n :,;\t\0\x7f\x80\xff/?#%.=\"*-019azAZ");
        match rng.below(8) {
            0 => bytes[at] = rng.next() as u8,
            1 => bytes[at] ^= 1 << rng.below(8),
            2 => bytes[at] = odd,
            3 => drop(bytes.remove(at)),
            4 => bytes.truncate(at),
            5 => {
                let end = bytes.len().min(at + 1 + rng.below(30));
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            6 => confuse_line_ends(rng, bytes),
            _ => bytes.insert(at, odd),
        }
    }
}

/// Makes one line end like no line may end.
fn confuse_line_ends(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let ends: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"\r\n")).collect();
    if !ends.is_empty() {
        let at = pick(rng, &ends);
        let end = pick(rng, &[&b"\n"[..], b"\r", b"", b"\n\r", b"\r\r\n", b"\r\n\n", b"\r\n "]);
        bytes.splice(at..at + 2, end.iter().copied());
    }
}
