//! Quotes from programs: lines over a Unix socket, batches, errors, and what wins over what.

use std::{
    io::{ErrorKind, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    thread,
};

use crate::{
    harness::{OLD, PATIENCE, Server, Site, at, now, wait_until},
    quotes::{
        ask, full_quote, list, metric, never_mixed, script, statements, symbols, table, tick_of, ticked,
        wait_for_quotes, with_settings,
    },
};

/// A program that feeds quotes.
pub(crate) struct Feeder {
    stream: UnixStream,
    said: Vec<u8>,
}

impl Feeder {
    pub(crate) fn to(path: &Path) -> Feeder {
        Feeder::over(UnixStream::connect(path).expect("the server accepts feeders"))
    }

    pub(crate) fn over(stream: UnixStream) -> Feeder {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Feeder { stream, said: Vec::new() }
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server reads");
    }

    /// Whether the server still takes lines.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// As much as is taken without a wait; false: not all of it.
    pub(crate) fn send_what_fits(&mut self, bytes: &[u8]) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let mut rest = bytes;
        while let Ok(taken @ 1..) = self.stream.write(rest) {
            rest = &rest[taken..];
        }
        self.stream.set_nonblocking(false).unwrap();
        rest.is_empty()
    }

    /// The next line that the server says; None at the end of the connection.
    pub(crate) fn hear(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.said.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.said.drain(..=end).collect();
                return Some(String::from_utf8(line).expect("UTF-8").trim_end_matches('\n').to_owned());
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    assert!(self.said.is_empty(), "half a line: {:?}", String::from_utf8_lossy(&self.said));
                    return None;
                }
                Ok(n) => self.said.extend_from_slice(&chunk[..n]),
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                    return None;
                }
                Err(error) => panic!("silence: {error}"),
            }
        }
    }

    /// The server ends the connection in good order and has said nothing before: it has taken all that was sent.
    pub(crate) fn ends_in_order(&mut self) -> bool {
        self.said.is_empty() && self.stream.read(&mut [0; 64]).is_ok_and(|read| read == 0)
    }

    /// The server complains about line `number`.
    #[track_caller]
    pub(crate) fn assert_error(&mut self, number: usize) {
        let line = self.hear().expect("an error");
        let start = format!("error: line {number}: ");
        assert!(line.starts_with(&start) && line.len() > start.len(), "{line:?} is not about line {number}");
        assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
    }

    /// The server has said nothing.
    #[track_caller]
    pub(crate) fn assert_silence(&mut self) {
        self.stream.set_nonblocking(true).unwrap();
        let mut chunk = [0; 4096];
        let heard = self.stream.read(&mut chunk);
        self.stream.set_nonblocking(false).unwrap();
        match heard {
            Err(error) if error.kind() == ErrorKind::WouldBlock && self.said.is_empty() => {}
            heard => panic!("{heard:?}: {:?}", String::from_utf8_lossy(&chunk)),
        }
    }

    /// Says that no more will come.
    pub(crate) fn shut(&mut self) {
        self.stream.shutdown(Shutdown::Write).ok();
    }
}

/// A site, and where the socket of its server is.
pub(crate) fn site() -> (Site, PathBuf) {
    let site = Site::new();
    let socket = site.outside().join("feed");
    (site, socket)
}

/// The lines of a configuration file that name a socket.
pub(crate) fn settings(socket: &Path) -> String {
    format!("[quotes]\nsocket = \"{}\"\n", socket.display())
}

pub(crate) fn start(site: &Site, socket: &Path) -> Server {
    with_settings(site, &settings(socket)).start()
}

fn skips(server: &Server) -> u64 {
    metric(server, "cloudia_quote_lines_skipped_total{source=\"socket\"}")
}

#[test]
fn a_batch_is_visible_after_its_blank_line() {
    let (site, socket) = site();
    let server = start(&site, &socket);
    let (mut feeder, mut other) = (Feeder::to(&socket), Feeder::to(&socket));
    feeder.send("a=1\nb=1\n");
    // Another's batch goes by meanwhile.
    other.send("z=1\n\n");
    wait_for_quotes(&server, "z,a,b", &[("z", "1"), ("a", ""), ("b", "")]);
    feeder.send("c=1\n");
    other.send("z=2\n\n");
    wait_for_quotes(&server, "z,a,b,c", &[("z", "2"), ("a", ""), ("b", ""), ("c", "")]);
    feeder.send("\n");
    wait_for_quotes(&server, "a,b,c", &[("a", "1"), ("b", "1"), ("c", "1")]);
    // A later batch changes what it names and nothing else.
    feeder.send("b=2\n\n");
    wait_for_quotes(&server, "a,b,c", &[("a", "1"), ("b", "2"), ("c", "1")]);
    feeder.send("c=\nd=new\n\n");
    wait_for_quotes(&server, "a,b,c,d", &[("a", "1"), ("b", "2"), ("c", ""), ("d", "new")]);
    assert_eq!(server.get("/list=c,none&format=json", &[]).text(), "{\"c\":\"\",\"none\":null}");
    feeder.assert_silence();
    assert_eq!(skips(&server), 0);
}

#[test]
fn batches_in_any_packets() {
    let (site, socket) = site();
    let server = start(&site, &socket);
    let mut feeder = Feeder::to(&socket);
    let batches: String = (1..=100).map(|n| format!("a={n}\nb={n}\nc{n}=x\n\n")).collect();
    feeder.send(&batches);
    wait_for_quotes(&server, "a,b,c1,c100", &[("a", "100"), ("b", "100"), ("c1", "x"), ("c100", "x")]);
    for byte in "a=bytewise\nb=绵世\n\n".bytes() {
        feeder.send([byte]);
    }
    wait_for_quotes(&server, "a,b", &[("a", "bytewise"), ("b", "绵世")]);
    // The last line of a batch counts.
    feeder.send("a=1\na=2\nb=1\na=3\n\n");
    wait_for_quotes(&server, "a,b", &[("a", "3"), ("b", "1")]);
    feeder.assert_silence();
}

#[test]
fn a_batch_is_one_version() {
    let (site, socket) = site();
    let server = start(&site, &socket);
    let mut feeder = Feeder::to(&socket);
    let versions = || metric(&server, "cloudia_quote_versions_total");
    let before = versions();
    for tick in 1..=5 {
        let payload = tick.to_string();
        feeder.send(format!("a={tick}\nb={tick}\nc=same\n\n"));
        wait_for_quotes(&server, "a,b", &[("a", &payload), ("b", &payload)]);
    }
    wait_until("five versions", || versions() == before + 5);
    // Nothing in these changes anything.
    feeder.send("\n\n\na=5\nc=same\n\n\n");
    feeder.send("d=1\n\n");
    wait_for_quotes(&server, "d", &[("d", "1")]);
    assert_eq!(versions(), before + 6);
    feeder.assert_silence();
}

#[test]
fn no_answer_is_of_two_batches() {
    let ((site, socket), symbols) = (site(), symbols(200));
    let server = start(&site, &socket);
    let batch = |tick: u64| table(symbols.iter().map(|symbol| (symbol, ticked(tick, symbol)))) + "\n";
    let mut feeder = Feeder::to(&socket);
    feeder.send(batch(0));
    wait_until("the first tick", || ask(&server, &symbols[0]).contains("tick0"));
    assert_eq!(tick_of(&server.get(&list(&symbols), &[]), &symbols), 0);
    never_mixed(&server, &symbols, 150, |tick| {
        // In two packets, so that half a batch is there to be seen.
        let text = batch(tick);
        let (front, back) = text.split_at(text.len() / 2);
        feeder.send(front);
        thread::yield_now();
        feeder.send(back);
    });
    feeder.assert_silence();
}

#[test]
fn a_bad_line_is_told_of_and_the_rest_goes_on() {
    let (site, socket) = site();
    let server = start(&site, &socket);
    let mut feeder = Feeder::to(&socket);
    let long = format!("{}=1", "x".repeat(33));
    let bad: [&[u8]; 14] = [
        b"no equals sign",
        b"=1",
        b" a=1",
        b"a =1",
        b"a,b=1",
        b"a/b=1",
        b"a\0=1",
        b"\xef\xbb\xbfa=1",
        "绵=1".as_bytes(),
        b"\xff=1",
        b"a=\xff",
        b"a=\xe7\xbb",
        long.as_bytes(),
        b"\"\\</script>",
    ];
    feeder.send("good=1\n\n");
    let mut lines = 2;
    for (count, bad) in bad.iter().enumerate() {
        // Told at once: the batch has not ended.
        feeder.send([b"good=2\n", *bad, b"\n"].concat());
        feeder.assert_error(lines + 2);
        feeder.send(format!("rest={count}\n\n"));
        lines += 4;
        let payload = count.to_string();
        wait_for_quotes(&server, "rest,good,a", &[("rest", &payload), ("good", "2"), ("a", "")]);
        assert_eq!(skips(&server), count as u64 + 1);
    }
    feeder.assert_silence();
}

/// Several bad lines of one packet are each told of, in order, with the number of the line in its own connection.
#[test]
fn errors_count_the_lines_of_their_connection() {
    let (site, socket) = site();
    let server = start(&site, &socket);
    let mut feeders = [Feeder::to(&socket), Feeder::to(&socket)];
    for feeder in &mut feeders {
        feeder.send("bad\na=1\nbad\n\n\nbad\na=2\n\nbad\n");
        for number in [1, 3, 6, 9] {
            feeder.assert_error(number);
        }
        feeder.assert_silence();
    }
    assert_eq!(skips(&server), 8);
}

#[test]
fn an_unfinished_batch_is_thrown_away() {
    let (site, socket) = site();
    let server = start(&site, &socket);
    for (number, unfinished) in ["a=1\n", "a=1", "b=1\na=1\n", "ok=1\n\na=1\n", "a", "ok=1\n\n="].iter().enumerate() {
        let mut feeder = Feeder::to(&socket);
        feeder.send(unfinished);
        feeder.shut();
        let line = feeder.hear().unwrap_or_else(|| panic!("{unfinished:?}: no error"));
        assert!(line.starts_with("error: "), "{line:?}");
        while let Some(line) = feeder.hear() {
            assert!(line.starts_with("error: "), "{line:?}");
        }
        let mut next = Feeder::to(&socket);
        next.send(format!("next={number}\n\n"));
        let payload = number.to_string();
        wait_for_quotes(&server, "next,a,b", &[("next", &payload), ("a", ""), ("b", "")]);
    }
    wait_for_quotes(&server, "ok", &[("ok", "1")]);
}

#[test]
fn a_feeder_that_ends_after_a_batch_is_told_nothing() {
    let (site, socket) = site();
    let server = start(&site, &socket);
    for (number, text) in ["a=1\n\n", "a=2\n\n\n", "", "\n", "a=3\nb=3\n\n"].iter().enumerate() {
        let mut feeder = Feeder::to(&socket);
        feeder.send(text);
        feeder.shut();
        assert_eq!(feeder.hear(), None, "feeder {number}");
    }
    wait_for_quotes(&server, "a,b", &[("a", "3"), ("b", "3")]);
    // What one has brought stays when it has gone.
    site.file("q.quotes", "c=1\n");
    wait_for_quotes(&server, "c,a,b", &[("c", "1"), ("a", "3"), ("b", "3")]);
}

#[test]
fn the_socket_wins_over_every_table() {
    let (site, socket) = site();
    for n in 0..5 {
        site.file(&format!("other{n}.txt"), "other");
    }
    site.file("a.quotes", "x=of a\na=1\n").file("b.quotes", "x=of b\nb=1\n");
    let server = start(&site, &socket);
    wait_for_quotes(&server, "x,a,b", &[("x", "of a"), ("a", "1"), ("b", "1")]);
    let mut feeder = Feeder::to(&socket);
    feeder.send("x=of the socket\ns=1\n\n");
    wait_for_quotes(&server, "x,a,b,s", &[("x", "of the socket"), ("a", "1"), ("b", "1"), ("s", "1")]);
    wait_until("a warning", || server.stderr().contains("a.quotes") && server.stderr().contains("b.quotes"));
    // Tables change, come and go, and x is not theirs.
    site.replace("a.quotes", "x=of a again\na=2\n", at(OLD + 50));
    wait_for_quotes(&server, "a,x", &[("a", "2"), ("x", "of the socket")]);
    site.replace("0.quotes", "x=of 0\nz=1\ns=of 0\n", at(now()));
    wait_for_quotes(&server, "z,x,s", &[("z", "1"), ("x", "of the socket"), ("s", "1")]);
    feeder.send("z=2\n\n");
    wait_for_quotes(&server, "z", &[("z", "2")]);
    site.remove("0.quotes").remove("a.quotes");
    wait_for_quotes(&server, "a,x,z,b,s", &[("a", ""), ("x", "of the socket"), ("z", "2"), ("b", "1"), ("s", "1")]);
    feeder.assert_silence();
}

#[test]
fn payloads_are_made_safe() {
    let (site, socket) = site();
    let server = start(&site, &socket);
    let mut feeder = Feeder::to(&socket);
    let payloads = [
        "say \"hi\" \\",
        "</script><!--",
        "\u{2028}\u{2029}",
        "\0\u{1}\t\u{1b}\u{7f}",
        "绵世股份😀",
        "a=b,c",
        "# not a comment",
        " spaces ",
        "",
    ];
    let batch = table(payloads.iter().enumerate().map(|(n, payload)| (format!("x{n}"), payload)));
    feeder.send(batch + "dot.ted=1\nda-shed=2\n\n");
    let names: Vec<String> = (0..payloads.len()).map(|n| format!("x{n}")).collect();
    wait_until("the batch", || ask(&server, "x1").contains("script"));
    let read = statements(&ask(&server, &names.join(",")));
    assert!(read.iter().map(|(_, payload)| payload.as_str()).eq(payloads), "{read:?}");
    assert_eq!(server.get("/list=dot.ted,da-shed&format=json", &[]).text(), "{\"dot.ted\":\"1\",\"da-shed\":\"2\"}");
    feeder.assert_silence();
}

#[test]
fn the_charset_is_for_the_socket_too() {
    let (site, socket) = site();
    let server = with_settings(&site, &(settings(&socket) + "charset = \"gbk\"\nprefix = \"v_\"\n")).start();
    Feeder::to(&socket).send("x=绵한\n\n");
    let expected = b"var v_x=\"\xc3\xe0\\ud55c\";\n";
    wait_until("the batch", || server.get("/list=x", &[]).body == expected);
}

#[test]
fn an_unchanged_symbol_keeps_its_stamp() {
    let (site, socket) = site();
    let server = start(&site, &socket);
    let mut feeder = Feeder::to(&socket);
    let before = now();
    feeder.send("quiet=1\nbusy=0\n\n");
    let mut date = None;
    wait_until("a date", || {
        date = server.get("/list=quiet", &[]).get("last-modified").map(str::to_owned);
        date.is_some()
    });
    let date = date.unwrap();
    assert!(crate::conn::parse_date(&date).is_some_and(|stamp| (before - 1..=now()).contains(&stamp)), "{date}");
    for tick in 1..4 {
        feeder.send(format!("busy={tick}\nquiet=1\n\n"));
        let payload = tick.to_string();
        wait_for_quotes(&server, "busy", &[("busy", &payload)]);
        let answer = server.get("/list=quiet,none", &[&format!("If-Modified-Since: {date}")]);
        assert_eq!((answer.status, answer.get("last-modified")), (304, Some(date.as_str())), "{answer}");
    }
}

#[test]
fn many_feeders_at_once() {
    let (site, socket) = site();
    let server = start(&site, &socket);
    thread::scope(|scope| {
        for number in 0..16 {
            let socket = &socket;
            scope.spawn(move || {
                let mut feeder = Feeder::to(socket);
                for tick in 0..=50 {
                    feeder.send(format!("f{number}={tick}\ng{number}={tick}\nshared={number}\n\n"));
                    if tick % 10 == 3 {
                        feeder.send("bad\n");
                        feeder.assert_error((tick * 4 + 5) + tick / 10);
                    }
                }
                feeder.shut();
                assert_eq!(feeder.hear(), None);
            });
        }
    });
    let names: Vec<String> = (0..16).flat_map(|n| [format!("f{n}"), format!("g{n}")]).collect();
    let expected: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "50")).collect();
    wait_until("all of them", || ask(&server, &names.join(",")) == script(&expected));
    assert_eq!(skips(&server), 16 * 5);
}

#[test]
fn a_batch_of_10_000_symbols() {
    let (site, socket) = site();
    let server = start(&site, &socket);
    let mut feeder = Feeder::to(&socket);
    feeder.send(table((0..10_000).map(|n| (format!("s{n}"), full_quote(n)))) + "\n");
    let last = full_quote(9_999);
    wait_for_quotes(&server, "s9999", &[("s9999", &last)]);
    assert_eq!(metric(&server, "cloudia_quote_symbols"), 10_000);
    feeder.assert_silence();
}
