//! The snapshot of what feeders have brought: a restart serves it at once, and no end leaves half of it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    harness::{Server, Site, wait_until},
    quotes::{
        ask, assert_refused, full_quote, line, list, script, statements, symbols, table, tick_of, ticked,
        wait_for_quotes, with_settings,
    },
    quotes_socket::{Feeder, settings},
};

/// A site with its socket and its snapshot.
struct Place {
    site: Site,
    socket: PathBuf,
    snapshot: PathBuf,
}

impl Place {
    fn new() -> Place {
        let site = Site::new();
        let (socket, snapshot) = (site.outside().join("feed"), site.outside().join("kept.state"));
        Place { site, socket, snapshot }
    }

    fn settings(&self, snapshot: &Path) -> String {
        format!("{}snapshot = \"{}\"\n", settings(&self.socket), snapshot.display())
    }

    fn start(&self) -> Server {
        with_settings(&self.site, &self.settings(&self.snapshot)).start()
    }

    /// Feeds one batch and waits for it to be told as taken by the end of the connection.
    fn feed(&self, batch: &str) {
        let mut feeder = Feeder::to(&self.socket);
        feeder.send(format!("{batch}\n"));
        feeder.shut();
        assert_eq!(feeder.hear(), None);
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(&self.snapshot).unwrap_or_default()
    }

    /// Waits until the snapshot on disk has `part`.
    fn wait_for(&self, part: &str) {
        wait_until("the snapshot to be written", || String::from_utf8_lossy(&self.bytes()).contains(part));
    }
}

#[test]
fn a_restart_serves_the_same_at_once() {
    let place = Place::new();
    let mut payloads: Vec<String> =
        ["1", "", "a=b", "# x", " spaces ", "say \"hi\" \\n", "</script><!--", "绵世😀"].map(str::to_owned).into();
    payloads.extend(["\u{2028}\0\u{1}\t\u{1b}\u{7f}".to_owned(), "x\ry".to_owned(), full_quote(1)]);
    payloads.push("y".repeat(65_000));
    let names: Vec<String> = (0..payloads.len()).map(|n| format!("x{n}")).collect();
    let mut server = place.start();
    place.feed(&(table(names.iter().zip(&payloads)) + "dot.ted=1\n"));
    wait_for_quotes(&server, "x0", &[("x0", "1")]);
    let before = server.get(&list(&names), &[]);
    assert_eq!(server.stop().code(), Some(0));
    for _ in 0..2 {
        let mut server = place.start();
        let after = server.get(&list(&names), &[]);
        assert_eq!(after.get("etag"), before.get("etag"));
        assert!(after.body == before.body);
        let read = statements(&after.text());
        assert!(read.iter().map(|(_, payload)| payload).eq(&payloads));
        assert_eq!(server.get("/list=dot.ted&format=json", &[]).text(), "{\"dot.ted\":\"1\"}");
        assert_eq!(server.stop().code(), Some(0));
    }
}

/// What is fed at the very end is in it, also where the timer has not come yet.
#[test]
fn the_end_writes_what_the_timer_has_not() {
    let place = Place::new();
    for tick in 1..=4 {
        let mut server = place.start();
        let payload = tick.to_string();
        if tick > 1 {
            assert_eq!(ask(&server, "t"), line("t", tick - 1));
        }
        place.feed(&format!("t={tick}\nonly{tick}=x\n"));
        wait_for_quotes(&server, "t", &[("t", &payload)]);
        server.signal(["TERM", "INT", "HUP"][tick % 3]);
        assert_eq!(server.wait().code(), Some(0));
        assert!(String::from_utf8_lossy(&place.bytes()).contains(&format!("only{tick}")));
    }
    let server = place.start();
    assert_eq!(
        ask(&server, "t,only1,only2,only3,only4"),
        script(&[("t", "4"), ("only1", "x"), ("only2", "x"), ("only3", "x"), ("only4", "x")])
    );
}

#[test]
fn a_timer_writes_it_for_those_that_are_killed() {
    let place = Place::new();
    let mut server = place.start();
    place.feed("a=first\n");
    place.wait_for("first");
    place.feed("a=second\nb=1\n");
    place.wait_for("second");
    server.kill();
    let server = place.start();
    assert_eq!(ask(&server, "a,b"), script(&[("a", "second"), ("b", "1")]));
    drop(server);
    assert_eq!(ask(&place.start(), "a,b"), script(&[("a", "second"), ("b", "1")]));
}

/// Killed in the middle of it, again and again: what is there is whole, and of one batch.
#[test]
fn a_kill_leaves_a_whole_snapshot() {
    let place = Place::new();
    let symbols = symbols(2000);
    let batch = |tick: u64| table(symbols.iter().map(|symbol| (symbol, ticked(tick, symbol)))) + "\n";
    let few: Vec<String> = [0, 1999, 1000, 1].map(|n| symbols[n].clone()).into();
    let whole = list(&symbols[..600]);
    let mut tick = 0;
    for _ in 0..4 {
        let mut server = place.start();
        if tick > 0 {
            let kept = tick_of(&server.get(&list(&few), &[]), &few);
            assert!(kept <= tick && kept > 0);
            assert_eq!(tick_of(&server.get(&whole, &[]), &symbols[..600]), kept);
        }
        let mut feeder = Feeder::to(&place.socket);
        let before = place.bytes();
        // Fed on and on until one has been written, then killed at once.
        wait_until("a snapshot to be written", || {
            tick += 1;
            feeder.send(batch(tick));
            let now = place.bytes();
            let first = now.iter().position(|byte| *byte == b'=').is_some();
            assert!(!first || now.ends_with(b"\n"), "half a snapshot under its name");
            now != before
        });
        server.kill();
    }
}

#[test]
fn damaged_lines_are_skipped() {
    let place = Place::new();
    let mut server = place.start();
    place.feed(&table((0..20).map(|n| (format!("s{n}"), format!("payload{n}")))));
    wait_for_quotes(&server, "s19", &[("s19", "payload19")]);
    assert_eq!(server.stop().code(), Some(0));
    let sound = place.bytes();
    let damage = |at: &str, with: &[u8]| {
        let mut bytes = sound.clone();
        let start = crate::conn::find(&bytes, at.as_bytes()).expect("the line");
        bytes.splice(start..start + at.len(), with.iter().copied());
        fs::write(&place.snapshot, bytes).unwrap();
    };
    let others = |server: &Server| {
        let expected: Vec<(String, String)> = (10..15).map(|n| (format!("s{n}"), format!("payload{n}"))).collect();
        let expected: Vec<(&str, &str)> = expected.iter().map(|(s, p)| (s.as_str(), p.as_str())).collect();
        assert_eq!(ask(server, "s10,s11,s12,s13,s14"), script(&expected));
    };
    for (at, with) in
        [("payload17", &b"\xff\xfe"[..]), ("s17=", b"s 17="), ("s17=", b""), ("s17=payload17", b"\0\0\0\0")]
    {
        damage(at, with);
        let mut server = place.start();
        others(&server);
        assert_eq!(ask(&server, "s17"), line("s17", ""), "{at} {with:?}");
        server.kill();
    }
    // Cut anywhere, empty, and not text at all: it starts and takes feeders.
    for bytes in [&sound[..sound.len() / 2], &sound[..1], b"", &[0xff; 100_000], &[0; 1000]] {
        fs::write(&place.snapshot, bytes).unwrap();
        let mut server = place.start();
        place.feed("new=1\n");
        wait_for_quotes(&server, "new", &[("new", "1")]);
        server.kill();
    }
}

/// Neither the end nor the timer takes a batch that has not ended.
#[test]
fn an_unfinished_batch_is_no_part_of_it() {
    let place = Place::new();
    let mut server = place.start();
    let mut feeder = Feeder::to(&place.socket);
    feeder.send("a=1\n\na=2\nlost=1\n");
    wait_for_quotes(&server, "a", &[("a", "1")]);
    place.wait_for("a=1");
    feeder.send("lost=2\n");
    assert_eq!(server.stop().code(), Some(0));
    assert_eq!(ask(&place.start(), "a,lost"), script(&[("a", "1"), ("lost", "")]));
}

/// The user that the server becomes must be able to write it: that is found out at the start.
#[test]
fn a_snapshot_that_the_servers_user_cannot_write_is_refused() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let place = Place::new();
    let barred = place.site.outside().join("barred");
    fs::create_dir(&barred).unwrap();
    let snapshot = barred.join("kept");
    let ended = with_settings(&place.site, &place.settings(&snapshot)).flag("--user", "nobody").end();
    assert_refused(&ended, "not nobody's to write", 2, &[snapshot.to_str().unwrap(), "snapshot"]);
}

/// It holds what feeders brought, and nothing that tables did.
#[test]
fn tables_are_no_part_of_it() {
    let place = Place::new();
    for n in 0..4 {
        place.site.file(&format!("other{n}.txt"), "other");
    }
    place.site.file("q.quotes", "x=of the table\nt=1\n");
    let mut server = place.start();
    place.feed("x=of the socket\ns=1\n");
    wait_for_quotes(&server, "x,t,s", &[("x", "of the socket"), ("t", "1"), ("s", "1")]);
    assert_eq!(server.stop().code(), Some(0));
    place.site.file("q.quotes", "x=of the table again\nu=1\n");
    let mut server = place.start();
    assert_eq!(ask(&server, "x,t,u,s"), script(&[("x", "of the socket"), ("t", ""), ("u", "1"), ("s", "1")]));
    assert_eq!(server.stop().code(), Some(0));
    // Without it the table's come back.
    fs::remove_file(&place.snapshot).unwrap();
    assert_eq!(ask(&place.start(), "x,u,s"), script(&[("x", "of the table again"), ("u", "1"), ("s", "")]));
}

#[test]
fn nothing_is_left_beside_it() {
    let place = Place::new();
    let beside = place.site.outside().join("state");
    fs::create_dir(&beside).unwrap();
    let snapshot = beside.join("kept");
    for _ in 0..2 {
        let mut server = with_settings(&place.site, &place.settings(&snapshot)).start();
        place.feed("a=1\n");
        wait_for_quotes(&server, "a", &[("a", "1")]);
        assert_eq!(server.stop().code(), Some(0));
        let names: Vec<_> = fs::read_dir(&beside).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(names, ["kept"]);
    }
}

#[test]
fn a_snapshot_that_cannot_be_written_is_refused_at_the_start() {
    let place = Place::new();
    let missing = place.site.outside().join("missing/kept");
    let ended = with_settings(&place.site, &place.settings(&missing)).end();
    assert_refused(&ended, "its directory is missing", 2, &[missing.to_str().unwrap(), "snapshot"]);
    assert!(!fs::exists(&place.socket).unwrap(), "a refused start leaves its socket");
}

/// What was served after the snapshot was written, and in its second, is not what a restart serves: the one date is not
/// for both.
#[test]
fn a_restart_after_a_kill_reaches_those_who_saw_more() {
    let place = Place::new();
    for attempt in 0..4 {
        let mut server = place.start();
        let (kept, lost) = (format!("kept{attempt}"), format!("lost{attempt}"));
        place.feed(&format!("a={kept}\n"));
        place.wait_for(&kept);
        place.feed(&format!("a={lost}\n"));
        wait_for_quotes(&server, "a", &[("a", &lost)]);
        let mut date = String::new();
        wait_until("a date", || {
            let answer = server.get("/list=a", &[]);
            assert_eq!(answer.text(), line("a", &lost));
            date = answer.get("last-modified").unwrap_or_default().to_owned();
            !date.is_empty()
        });
        server.kill();
        let written = fs::metadata(&place.snapshot).unwrap().modified().unwrap();
        let is_same_second = crate::conn::parse_date(&date)
            == written.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_secs());
        let server = place.start();
        let answer = server.get("/list=a", &[&format!("If-Modified-Since: {date}")]);
        assert_eq!((answer.status, answer.text()), (200, line("a", &kept)), "{date} was of {lost}: {answer}");
        if is_same_second {
            return;
        }
        fs::remove_file(&place.snapshot).unwrap();
    }
}
