//! The connection without a network: every cut, every short write, and no allocation.
//!
//! The socket is a script. Whatever cuts it makes, what the client sees must be what it sees uncut.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    sync::Arc,
};

use cloudia::{
    clock::Clock,
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

use crate::{alloc, harness::Rng};

const NOW: u64 = 1_000_000_000;

struct Script {
    incoming: RefCell<VecDeque<Vec<u8>>>,
    sent: RefCell<Vec<u8>>,
    /// Bytes that one send takes at the most; 0 is taken turns with.
    room: usize,
    full: Cell<bool>,
    write_is_shut: Cell<bool>,
}

impl Socket for Script {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut incoming = self.incoming.borrow_mut();
        let Some(mut piece) = incoming.pop_front() else { return Err(io::ErrorKind::WouldBlock.into()) };
        let len = piece.len().min(buffer.len());
        buffer[..len].copy_from_slice(&piece[..len]);
        if len < piece.len() {
            incoming.push_front(piece.split_off(len));
        }
        Ok(len)
    }

    fn send(&self, output: &Output) -> io::Result<usize> {
        assert!(!self.write_is_shut.get(), "a send after the last word");
        if self.room < usize::MAX && !self.full.replace(!self.full.get()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut slices = [io::IoSlice::new(&[]); SEND_SLICES];
        let mut room = self.room;
        let mut sent = 0;
        for slice in output.slices(&mut slices) {
            let len = slice.len().min(room);
            self.sent.borrow_mut().extend_from_slice(&slice[..len]);
            room -= len;
            sent += len;
        }
        Ok(sent)
    }

    fn is_quiet(&self) -> bool {
        self.incoming.borrow().is_empty()
    }

    fn shut_write(&self) {
        self.write_is_shut.set(true);
    }

    fn shut(&self) {}
}

fn store() -> Arc<Store> {
    let store = Store::new();
    let entry = |len: usize, stamp: u64| {
        let content: Vec<u8> = (0..len).map(|at| b"cloudia "[at % 8]).collect();
        let bodies = Bodies { deflate: Some(vec![7; len / 3].into()), ..Bodies::identity(content.into()) };
        Arc::new(Entry::new("text/plain; charset=utf-8", stamp, bodies))
    };
    store.apply([
        Change::Put(b"small.txt"[..].into(), entry(600, NOW - 100)),
        Change::Put(b"large.txt"[..].into(), entry(100_000, NOW - 100)),
        Change::Put(b"dir/index.html"[..].into(), entry(60, NOW)),
    ]);
    let store = Arc::new(store);
    let quotes: String = (0..99).map(|n| format!("s_{n}=name {n},9.29,-0.05,{n},2026-11-20,15:00:00\n")).collect();
    let table = Arc::new(Table::parse(quotes.into_bytes().into()));
    let mut board = Board::new(store.clone(), Arc::new(FeedStats::default()), Charset::Utf8, None);
    board.change(vec![(TableChange::Put("a.quotes".into(), table), When::Modified(NOW - 100))]);
    store
}

fn desk(store: &Arc<Store>) -> Desk {
    let mut desk = Desk::new(store.clone(), Arc::new(WorkerStats::default()), Patience::from_secs(75, 10, 30));
    desk.clock = Clock::at(NOW);
    desk
}

/// What the client is sent, and whether the connection is open afterwards.
fn converse(store: &Arc<Store>, pieces: &[&[u8]], room: usize) -> (Vec<u8>, bool) {
    let mut desk = desk(store);
    let mut connection = Connection::new(&desk);
    let script = Script {
        incoming: RefCell::new(pieces.iter().filter(|piece| !piece.is_empty()).map(|piece| piece.to_vec()).collect()),
        sent: RefCell::default(),
        room,
        full: Cell::new(false),
        write_is_shut: Cell::new(false),
    };
    let mut wait = Wait::Readable;
    while wait == Wait::Writable || (wait == Wait::Readable && !script.is_quiet()) {
        wait = connection.on_ready(&script, &mut desk);
    }
    let open = wait == Wait::Readable && !script.write_is_shut.get();
    (script.sent.into_inner(), open)
}

const REQUESTS: &[&str] = &[
    "GET /small.txt HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /small.txt?maxage=7 HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip, deflate, br\r\n\r\n",
    "GET /large.txt HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /large.txt HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n",
    "HEAD /large.txt HTTP/1.1\r\nHost: h\r\n\r\n",
    "\r\n\r\nGET /dir HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /dir/./ HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /none HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /small.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "GET /small.txt HTTP/1.1\r\nHost: h\r\nRange: bytes=0-9\r\n\r\n",
    "GET /large.txt HTTP/1.1\r\nHost: h\r\nRange: bytes=0-9, 50000-69999, -5\r\n\r\n",
    "GET /small.txt HTTP/1.1\r\nHost: h\r\nRange: bytes=600-\r\n\r\n",
    "GET /small.txt HTTP/1.1\r\nHost: h\r\nIf-None-Match: \"x\", *\r\n\r\n",
    "GET /small.txt HTTP/1.1\r\nHost: h\r\nIf-Modified-Since: Sun, 09 Sep 2001 01:45:00 GMT; length=6\r\n\r\n",
    "GET /small.txt HTTP/1.1\r\nHost: h\r\nIf-Match: \"x\"\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
    "POST /small.txt HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\nhello world",
    "GET /small.txt HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: t\r\n\r\n",
    "CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /list=s_1,s_2,s_1,unknown HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /list=s_1,s_2,s_3,s_4,s_5?maxage=7 HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip, deflate, br\r\n\r\n",
    "GET /list=s_1,s_2,s_3,s_4,s_5&rn=1 HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n",
    "HEAD /?rn=1&list=s_1%2Cs_9&format=json HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /rn=1&list=s_7,s_8&format=json HTTP/1.1\r\nHost: h\r\nAccept-Encoding: deflate\r\n\r\n",
    "GET /list=s_1 HTTP/1.1\r\nHost: h\r\nRange: bytes=4-9, -5\r\n\r\n",
    "GET /list=s_1 HTTP/1.1\r\nHost: h\r\nIf-Modified-Since: Sun, 09 Sep 2001 01:45:00 GMT\r\n\r\n",
    "POST /list=s_1 HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\n/list=x",
];

const LAST: &[&str] = &[
    "GET /small.txt HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    "GET /small.txt HTTP/1.0\r\n\r\n",
    "GET /small.txt HTTP/1.1\r\n\r\n",
    "GET /small.txt HTTP/1.1\nHost: h\n\n",
    "GET /../x HTTP/1.1\r\nHost: h\r\n\r\n",
    "HEAD /%zz HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /list=s_1,,s_2 HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /list=s_1,%0d&format=json HTTP/1.1\r\nHost: h\r\n\r\n",
    "BREW /small.txt HTTP/1.1\r\nHost: h\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "GET /small.txt HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
    "GET /small.txt HTTP/1.1\r\nHost: h\r\nContent-Length: 70000\r\n\r\nx",
    "PUT /small.txt HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
];

#[test]
fn no_cut_changes_an_answer() {
    let store = store();
    for request in REQUESTS.iter().chain(LAST).map(|request| request.as_bytes()) {
        let whole = converse(&store, &[request], usize::MAX);
        assert!(whole.0.starts_with(b"HTTP/1.1 "), "{}", request.escape_ascii());
        for cut in 1..request.len() {
            let (before, after) = request.split_at(cut);
            let cut_up = converse(&store, &[before, after], usize::MAX);
            assert!(cut_up == whole, "cut at {cut}: {}", request.escape_ascii());
        }
        let bytes: Vec<&[u8]> = request.chunks(1).collect();
        assert!(converse(&store, &bytes, usize::MAX) == whole, "byte by byte: {}", request.escape_ascii());
    }
}

#[test]
fn no_full_socket_changes_an_answer() {
    let store = store();
    let pipeline = REQUESTS.concat();
    let whole = converse(&store, &[pipeline.as_bytes()], usize::MAX);
    assert!(whole.1, "the pipeline leaves the connection open");
    for room in [1000, 4096, 65_537] {
        assert!(converse(&store, &[pipeline.as_bytes()], room) == whole, "{room} bytes a send");
    }
    let short = [REQUESTS[0], REQUESTS[1], REQUESTS[12], REQUESTS[16]].concat();
    let whole = converse(&store, &[short.as_bytes()], usize::MAX);
    for room in 1..50 {
        assert!(converse(&store, &[short.as_bytes()], room) == whole, "{room} bytes a send");
    }
}

/// Random pipelines, some of them damaged, in random pieces into sockets of random sizes.
#[test]
fn random_pipelines_in_random_pieces() {
    let store = store();
    let mut random = Rng::seeded();
    for _ in 0..400 {
        let mut input = Vec::new();
        for _ in 0..1 + random.below(20) {
            input.extend_from_slice(REQUESTS[random.below(REQUESTS.len())].as_bytes());
        }
        input.extend_from_slice(LAST[random.below(LAST.len())].as_bytes());
        for _ in 0..random.below(3) {
            let at = random.below(input.len());
            match random.below(3) {
                0 => input[at] = random.next() as u8,
                1 => drop(input.remove(at)),
                _ => input.insert(at, b"\r\n :,;\0\xff0"[random.below(9)]),
            }
        }
        let whole = converse(&store, &[&input], usize::MAX);
        let mut pieces = Vec::new();
        let mut rest = &input[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(1 + random.below(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        let room = [4000 + random.below(100_000), usize::MAX][random.below(2)];
        assert!(converse(&store, &pieces, room) == whole, "room {room}, pieces {pieces:?}");
    }
}

/// A hit of a held coding allocates nothing, nor does a poll that is answered 304.
#[test]
fn a_hit_allocates_nothing() {
    struct Replay<'r>(&'r [u8], Cell<bool>);
    impl Socket for Replay<'_> {
        fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.1.replace(true) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            buffer[..self.0.len()].copy_from_slice(self.0);
            Ok(self.0.len())
        }
        fn send(&self, output: &Output) -> io::Result<usize> {
            Ok(output.len())
        }
        fn is_quiet(&self) -> bool {
            true
        }
        fn shut_write(&self) {}
        fn shut(&self) {}
    }
    let store = store();
    let fifty: Vec<String> = (0..50).map(|n| format!("s_{n}")).collect();
    let fifty = fifty.join(",");
    let etag = store.get(b"small.txt").map(|entry| *entry.etag()).unwrap();
    let etag = std::str::from_utf8(&etag).unwrap();
    for request in [
        "GET /small.txt?maxage=5 HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\r\n".to_owned(),
        "GET /small.txt HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
        "GET /large.txt HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n".to_owned(),
        "GET /dir/ HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
        format!("GET /small.txt HTTP/1.1\r\nHost: h\r\nIf-None-Match: W/\"{etag}\"\r\n\r\n"),
        "GET /small.txt HTTP/1.1\r\nHost: h\r\nIf-Modified-Since: Sun, 09 Sep 2001 01:45:00 GMT\r\n\r\n".to_owned(),
        format!("GET /list={fifty}&maxage=5 HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip, deflate\r\n\r\n"),
        format!("GET /?rn=1&list={} HTTP/1.1\r\nHost: h\r\n\r\n", fifty.replace("s_", "%73_")),
        format!("HEAD /rn=1&list={fifty}&format=json HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n"),
        format!("GET /list={fifty} HTTP/1.1\r\nHost: h\r\nIf-Modified-Since: Sun, 09 Sep 2001 01:45:00 GMT\r\n\r\n"),
    ] {
        let mut desk = desk(&store);
        let mut connection = Connection::new(&desk);
        let replay = Replay(request.as_bytes(), Cell::new(false));
        let mut ten = || {
            let before = alloc::count();
            for _ in 0..10 {
                replay.1.set(false);
                assert_eq!(connection.on_ready(&replay, &mut desk), Wait::Readable);
            }
            alloc::count() - before
        };
        // The first ones may make room for the rest; and nobody is here to compress better what is popular, which would be
        // taken over once.
        ten();
        assert_eq!(ten(), 0, "{request}");
    }
}
