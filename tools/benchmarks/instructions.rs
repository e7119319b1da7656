//! The pure core without a network, as often as it is told: for `tools/benchmarks/instructions`, which counts what it executes.
//!
//! ```text
//! instructions --list           name, requests of one turn, and what it is, separated by tabs
//! instructions CASE TURNS
//! ```
//!
//! A turn is what a worker does when a socket is ready: bytes of a client are received from memory, and what is to be sent is
//! gathered for the kernel, which does not exist here. The clock stands still. The first turn is checked: an answer with
//! another status would be counted in vain.

use std::{
    cell::{Cell, RefCell},
    error::Error,
    hint::black_box,
    io,
    process::ExitCode,
    sync::Arc,
};

use cloudia::{
    clock::{Clock, http_date},
    feed::quotes::{
        board::{Board, TableChange, When},
        table::Table,
        text::Charset,
    },
    limits::SEND_SLICES,
    serve::{Connection, Desk, Patience, Socket, Wait, output::Output},
    stats::{FeedStats, WorkerStats},
    store::{Bodies, Change, Entry, Store},
};

const NOW: u64 = 1_000_000_000;
/// When everything was last changed.
const STAMP: u64 = NOW - 100;

/// What Chrome sends for a script of the same site, but for Host.
const BROWSER: &str = "Connection: keep-alive\r\nsec-ch-ua-platform: \"Windows\"\r\n\
    User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36\r\n\
    sec-ch-ua: \"Google Chrome\";v=\"131\", \"Chromium\";v=\"131\", \"Not_A Brand\";v=\"24\"\r\nsec-ch-ua-mobile: ?0\r\n\
    Accept: */*\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: script\r\n\
    Referer: https://www.example.com/markets/overview\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-US,en;q=0.9\r\n";

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<()> {
    let store = store();
    let cases = cases(&store)?;
    let words: Vec<String> = std::env::args().skip(1).collect();
    match &words[..] {
        [word] if word == "--list" => {
            cases.iter().for_each(|case| println!("{}\t{}\t{}", case.name, case.count, case.what));
            Ok(())
        }
        [name, turns] => {
            let case = cases.iter().find(|case| case.name == *name).ok_or("no such case; see --list")?;
            case.run(&store, turns.parse()?)
        }
        _ => Err("usage: instructions --list, or instructions CASE TURNS".into()),
    }
}

/// One kind of request.
struct Case {
    name: &'static str,
    what: &'static str,
    /// Requests that come at once.
    count: usize,
    bytes: Vec<u8>,
    status: u16,
}

fn cases(store: &Store) -> Outcome<Vec<Case>> {
    let etag = store.get(b"scores.js").map(|entry| *entry.etag()).ok_or("the store is empty")?;
    let (etag, stamp) = (std::str::from_utf8(&etag)?, http_date(STAMP));
    let stamp = std::str::from_utf8(&stamp)?;
    let case = |name, what, status, target: &str, fields: &str| {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: www.example.com\r\n{BROWSER}{fields}\r\n").into_bytes();
        Case { name, what, count: 1, bytes, status }
    };
    let list = |count: usize| {
        let symbols: Vec<String> = (0..count).map(|number| format!("s_{number}")).collect();
        format!("/list={}?maxage=5", symbols.join(","))
    };
    let scores = "/scores.js?maxage=5";
    let poll = case("poll", "a poll of a 600-byte body: 200", 200, scores, "");
    let sixteen = poll.bytes.repeat(16);
    let bare = format!("GET {scores} HTTP/1.1\r\nHost: www.example.com\r\n\r\n").into_bytes();
    Ok(vec![
        poll,
        Case { name: "bare", what: "the same with no header field but Host: 200", count: 1, bytes: bare, status: 200 },
        case("revalidate-ims", "If-Modified-Since: 304", 304, scores, &format!("If-Modified-Since: {stamp}\r\n")),
        case("revalidate-inm", "If-None-Match: 304", 304, scores, &format!("If-None-Match: W/\"{etag}\"\r\n")),
        case("range", "a range of 100 bytes: 206", 206, scores, "Range: bytes=100-199\r\n"),
        case("missing", "a path that is not there: 404", 404, "/no/such/file.js", ""),
        case("list-5", "the same list of 5 quotes again: 200", 200, &list(5), ""),
        case("list-50", "the same list of 50 quotes again: 200", 200, &list(50), ""),
        Case { name: "pipeline", what: "16 polls at once: 200", count: 16, bytes: sixteen, status: 200 },
    ])
}

fn store() -> Arc<Store> {
    let store = Store::new();
    let content: Vec<u8> = (0..2048).map(|at| b"cloudia "[at % 8]).collect();
    // Nothing here inflates it.
    let bodies = Bodies { deflate: Some(vec![7; 600].into()), ..Bodies::identity(content.into()) };
    let entry = Entry::new("text/javascript; charset=utf-8", STAMP, bodies);
    store.apply([Change::Put(b"scores.js"[..].into(), Arc::new(entry))]);
    let store = Arc::new(store);
    let lines: String = (0..99).map(|n| format!("s_{n}=name {n},9.29,-0.05,{n},2026-11-20,15:00:00\n")).collect();
    let table = Arc::new(Table::parse(lines.into_bytes().into()));
    let mut board = Board::new(store.clone(), Arc::new(FeedStats::default()), Charset::Utf8, None);
    board.change(vec![(TableChange::Put("market".into(), table), When::Modified(STAMP))]);
    store
}

impl Case {
    fn run(&self, store: &Arc<Store>, turns: usize) -> Outcome<()> {
        let mut desk = Desk::new(store.clone(), Arc::new(WorkerStats::default()), Patience::from_secs(75, 10, 30));
        desk.clock = Clock::at(NOW);
        let mut connection = Connection::new(&desk);
        let memory = Memory { bytes: &self.bytes, taken: Cell::new(0), sent: RefCell::new(Some(Vec::new())) };
        for turn in 0..turns {
            memory.taken.set(0);
            while !memory.is_quiet() {
                if connection.on_ready(&memory, &mut desk) != Wait::Readable {
                    return Err("the connection does not wait for the next request".into());
                }
            }
            if turn == 0 {
                self.check(&memory.sent.take().unwrap_or_default())?;
            }
        }
        Ok(())
    }

    fn check(&self, sent: &[u8]) -> Outcome<()> {
        let expected = format!("HTTP/1.1 {} ", self.status);
        let count = memchr::memmem::find_iter(sent, expected.as_bytes()).count();
        if count != self.count || !sent.starts_with(expected.as_bytes()) {
            let text = String::from_utf8_lossy(&sent[..sent.len().min(400)]);
            return Err(format!("{}: {count} of {} answers are {}:\n{text}", self.name, self.count, self.status).into());
        }
        Ok(())
    }
}

/// A socket that holds what a client sends, and takes all that it is sent.
struct Memory<'b> {
    bytes: &'b [u8],
    taken: Cell<usize>,
    /// What was sent, as long as somebody wants to know.
    sent: RefCell<Option<Vec<u8>>>,
}

impl Socket for Memory<'_> {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = &self.bytes[self.taken.get()..];
        if left.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = left.len().min(buffer.len());
        buffer[..len].copy_from_slice(&left[..len]);
        self.taken.set(self.taken.get() + len);
        Ok(len)
    }

    fn send(&self, output: &Output) -> io::Result<usize> {
        let mut slices = [io::IoSlice::new(&[]); SEND_SLICES];
        let slices = black_box(output.slices(&mut slices));
        if let Some(sent) = &mut *self.sent.borrow_mut() {
            slices.iter().for_each(|slice| sent.extend_from_slice(slice));
        }
        Ok(output.len())
    }

    fn is_quiet(&self) -> bool {
        self.taken.get() == self.bytes.len()
    }

    fn shut_write(&self) {}

    fn shut(&self) {}
}
