//! Clients that ask for much and take nothing of it: what is held for them, and until when.

use std::{
    io::Read,
    net::TcpStream,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::{
    cases::{get, get_with},
    crowd::{Before, dial, metric, noise, open, side_by_side, stall, stuff},
    harness::{OLD, Rng, Server, Site, at, wait_until},
    quotes::{list, table},
};

/// Bytes of memory that a reader may cost, whatever it reads.
const EACH: usize = 1024;

/// What an allocator keeps of what was there.
const KEPT: usize = 2 << 20;

/// Bytes of contents that are kept inflated (see docs/ARCHITECTURE.md, Memory).
const INFLATED: usize = 64 << 20;

/// What the connections of a worker may hold that nobody else does.
const UNFINISHED: usize = 64 << 20;

/// Bytes of an answer.
const MUCH: usize = 1 << 20;

/// Six bits of each byte are by chance: compressed it is three quarters of this, and no coding makes it small.
fn text(len: usize) -> Vec<u8> {
    let mut rng = Rng::with_seed(3);
    (0..len.div_ceil(8))
        .flat_map(|_| rng.next().to_le_bytes())
        .take(len)
        .map(|byte| b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-"[usize::from(byte & 63)])
        .collect()
}

/// A text of which every coding takes a megabyte, in all codings, and bytes that are sent as they are. Nothing is
/// compressed by the server, which would take memory of its own at times of its own.
fn coded_site() -> Site {
    let site = Site::new();
    site.file("noise.bin", noise(MUCH)).file("text.txt", text(MUCH * 3 / 2));
    let file = site.data().join("text.txt");
    for (program, flags) in [("brotli", &["-q", "1", "-k"][..]), ("zstd", &["-q", "-1", "-k"]), ("gzip", &["-1", "-k"])]
    {
        let made = Command::new(program).args(flags).arg(&file).status();
        assert!(made.expect("tools/test installs it").success(), "{program}");
    }
    site
}

/// Readers of a megabyte in every coding, all at once.
#[test]
fn a_stalled_reader_costs_little_in_every_coding() {
    const READERS: usize = 100;
    let site = coded_site();
    let server = Server::start(&site);
    let codings = ["br", "zstd", "deflate", "gzip", "identity"];
    let mut requests: Vec<_> =
        codings.map(|coding| (coding, get_with("/text.txt", &[&format!("Accept-Encoding: {coding}")]))).into();
    requests.push(("bytes", get("/noise.bin")));
    requests.push(("a range", get_with("/text.txt", &["Range: bytes=5-1400000"])));
    requests.push(("ranges", get_with("/text.txt", &["Range: bytes=5-700000,700010-1400000"])));
    let warm: Vec<TcpStream> = requests
        .iter()
        .filter(|(name, _)| !name.contains("range"))
        .flat_map(|(_, request)| (0..10).map(|_| stall(server.addr, request)).collect::<Vec<_>>())
        .collect();
    drop(warm);
    let before = Before::warm(&server);
    let mut held = Vec::new();
    for (name, request) in &requests {
        let begun = before.grown(&server);
        let handed = metric(&server, "cloudia_sent_bytes_total");
        for _ in 0..READERS {
            held.push(stall(server.addr, request));
        }
        wait_until("all have a place", || open(&server) >= held.len() as u64);
        let each = before.grown(&server).saturating_sub(begun) / READERS;
        let handed = (metric(&server, "cloudia_sent_bytes_total") - handed) as usize / READERS;
        eprintln!("{name}: {each} bytes of memory and {handed} in the kernel each");
        // The allocator and the tables of the server grow by steps, so that this is only roughly what each costs.
        assert!(each <= 4 * EACH, "{name}: {each} bytes of memory each");
        // More than that is unsent would be the kernel's memory for nothing; what it sends ahead is a window.
        assert!(handed < 64 << 10, "{name}: {handed} bytes in the kernel each");
    }
    before.assert_sound(&server);
    let grown = before.grown(&server);
    assert!(grown <= held.len() * EACH + (128 << 10), "{grown} bytes of memory for {} readers", held.len());
    drop(held);
    before.assert_over(&server, KEPT);
}

/// Lines that compress well, and differ from file to file.
fn lines(number: usize, len: usize) -> Vec<u8> {
    let line = format!("{number} of many files, each of which is one line again and again\n");
    line.bytes().cycle().take(len).collect()
}

/// Many large files, each wanted as it is by a reader that then stalls: what is inflated for them has its bound.
#[test]
fn stalled_readers_of_many_files_do_not_hold_what_was_inflated() {
    const FILES: usize = 96;
    let site = Site::new();
    for number in 0..FILES {
        site.file(&format!("{number}.txt"), lines(number, MUCH));
    }
    let server = Server::start(&site);
    let before = Before::warm(&server);
    let mut held = Vec::new();
    for round in 0..2 {
        for number in 0..FILES {
            held.push(stall(server.addr, &get(format!("/{number}.txt"))));
        }
        let grown = before.grown(&server);
        eprintln!("round {round}: {} kB for {} readers", grown >> 10, held.len());
        // One content is being inflated while others are kept, and one is being sent. What made room while it was being read
        // is held for its readers, within the bound of unfinished answers.
        let most = INFLATED + 2 * UNFINISHED + 8 * MUCH + held.len() * EACH;
        assert!(grown <= most, "{grown} bytes for {} readers of {FILES} files", held.len());
    }
    before.assert_sound(&server);
    // Those who were only slow get the whole, and what they get is right.
    for (number, stream) in held.iter_mut().enumerate().step_by(29) {
        let wanted = lines(number % FILES, MUCH);
        let mut rest = vec![0; MUCH];
        let mut read = Vec::new();
        // The head is shorter than that.
        while read.len() < wanted.len() || !read.ends_with(&wanted) {
            let taken = stream.read(&mut rest).unwrap();
            assert!(taken > 0 && read.len() < wanted.len() + 1024, "other bytes, or cut, after {} bytes", read.len());
            read.extend_from_slice(&rest[..taken]);
        }
    }
    drop(held);
    before.assert_over(&server, INFLATED + 16 * MUCH);
}

/// Bytes of answers to lists that a worker keeps.
const LISTS: usize = 32 << 20;

/// Every reader asks for a list of its own, of a megabyte, and stalls: what is joined for them has its bound.
#[test]
fn stalled_readers_of_many_lists_do_not_hold_what_was_joined() {
    const READERS: usize = 160;
    const WORKERS: usize = 2;
    let site = Site::new();
    let text = String::from_utf8(text(MUCH)).unwrap();
    let payloads = (0..1000).map(|n| &text[n * 1000..][..1000]);
    site.file("all.quotes", table((0..1000).map(|n| format!("s{n}")).zip(payloads)));
    let symbols: Vec<String> = (0..1000).map(|n| format!("s{n}")).collect();
    let server = Server::builder(&site).workers(WORKERS as u32).start();
    let before = Before::warm(&server);
    let mut held = Vec::new();
    for number in 0..READERS {
        let mut asked = symbols.clone();
        asked.rotate_left(number);
        held.push(stall(server.addr, &get(list(&asked))));
    }
    // Whoever holds too much is cut at the next tick.
    let mut grown = 0;
    wait_until("what is too much is given back", || {
        grown = before.grown(&server);
        grown <= WORKERS * (LISTS + UNFINISHED) + 16 * MUCH
    });
    eprintln!("{} kB for {READERS} readers", grown >> 10);
    before.assert_sound(&server);
    drop(held);
    before.assert_over(&server, WORKERS * LISTS + 16 * MUCH);
}

/// They are cut when the send timeout is over, and nothing is held for them any more.
#[test]
fn stalled_readers_are_cut() {
    const READERS: usize = 300;
    let site = Site::new();
    site.file("noise.bin", noise(MUCH));
    let server = Server::builder(&site).flag("--send-timeout", 2).start();
    let before = Before::warm(&server);
    let held: Vec<TcpStream> = (0..READERS).map(|_| stall(server.addr, &get("/noise.bin"))).collect();
    before.assert_over(&server, KEPT);
    assert_eq!(metric(&server, "cloudia_connections_timed_out_total"), READERS as u64);
    drop(held);
}

/// A pipeline that is never read: what is received and not yet answered has a bound, and so has what is not yet sent.
#[test]
fn pipelines_that_never_read_are_bounded_and_cut() {
    const CLIENTS: usize = 50;
    let site = Site::new();
    site.file("noise.bin", noise(MUCH)).file("small.bin", noise(700)).file("middle.bin", noise(20_000));
    let list = [get("/alive.txt"), get("/small.bin"), get("/middle.bin"), get("/none")].concat();
    let kinds = [
        ("small", get("/small.bin").repeat(2000)),
        ("large", get("/noise.bin").repeat(2000)),
        ("errors", get("/none").repeat(2000)),
        ("mixed", list.repeat(500)),
    ];
    side_by_side(kinds.len(), |kind| {
        let (name, request) = &kinds[kind];
        let server = Server::builder(&site).flag("--send-timeout", 3).start();
        let before = Before::warm(&server);
        let mut crowd: Vec<TcpStream> = (0..CLIENTS).map(|_| dial(server.addr, None, Some(4096)).unwrap()).collect();
        let stuffed: usize = thread::scope(|scope| {
            let stuff = |part: &mut [TcpStream]| part.iter_mut().map(|one| stuff(one, request, 8 << 20)).sum::<usize>();
            let parts: Vec<_> = crowd.chunks_mut(CLIENTS / 5).map(|part| scope.spawn(move || stuff(part))).collect();
            parts.into_iter().map(|part| part.join().unwrap()).sum()
        });
        let grown = before.grown(&server) / CLIENTS;
        eprintln!("{name}: {grown} bytes each, of {} that it sent", stuffed / CLIENTS);
        // A batch of answers, and a receive with the head before it.
        assert!(grown <= 192 << 10, "{name}: {grown} bytes each");
        before.assert_over(&server, KEPT);
        drop(crowd);
    });
}

/// A file changes all the time, and somebody stalls in each of its versions: they hold no more of them than their
/// deadlines allow, and in the end nothing.
#[test]
fn old_versions_are_held_no_longer_than_their_readers_may_take() {
    const SIZE: usize = 512 << 10;
    let site = Site::new();
    let first = noise(SIZE);
    let version = |number: usize| {
        let mut bytes = first.clone();
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        bytes
    };
    site.file("news.bin", version(0));
    let server = Server::builder(&site).flag("--send-timeout", 1).start();
    let before = Before::warm(&server);
    let end = Instant::now() + Duration::from_secs(4);
    let (versions, most_open, most_held) = thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut number = 0;
            while Instant::now() < end {
                number += 1;
                site.replace("news.bin", version(number), at(OLD + number as u64));
                thread::sleep(Duration::from_millis(8));
            }
            number
        });
        let mut readers = Vec::new();
        let mut most = (0, 0);
        while !publisher.is_finished() {
            let open = open(&server) as usize;
            // The kernel's memory has its bound as well: more of them would slow down everyone on this machine.
            if open < 250 {
                readers.extend((0..5).map(|_| stall(server.addr, &get("/news.bin"))));
            }
            let held = before.grown(&server);
            assert!(held <= (open + 25) * SIZE + (8 << 20), "{held} bytes for {open} readers");
            most = (most.0.max(open), most.1.max(held));
        }
        eprintln!("{} readers in all", readers.len());
        (publisher.join().unwrap(), most.0, most.1)
    });
    let published = metric(&server, "cloudia_reloads_total");
    eprintln!("{published} of {versions} versions; at most {most_open} readers at once, and {} kB", most_held >> 10);
    wait_until("the last is there", || server.get("/news.bin", &[]).body == version(versions));
    before.assert_over(&server, 16 << 20);
}
