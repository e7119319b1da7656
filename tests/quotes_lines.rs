//! The lines of a `.quotes` table: what each means, which are skipped, and that the rest of the table is loaded.

use crate::{
    harness::{Server, Site, at, now},
    quotes::{ask, full_quote, line, metric, script, statements, table, wait_for_quotes},
};

/// A server over one table, which skipped `skipped` lines.
#[track_caller]
fn serve(bytes: impl AsRef<[u8]>, skipped: u64) -> (Site, Server) {
    let site = Site::new();
    site.file("q.quotes", bytes);
    let server = Server::start(&site);
    assert_eq!(skips(&server), skipped, "lines skipped");
    (site, server)
}

fn skips(server: &Server) -> u64 {
    metric(server, "cloudia_quote_lines_skipped_total{source=\"table\"}")
}

/// The payload of a symbol; None: it is unknown.
fn payload(server: &Server, symbol: &str) -> Option<String> {
    let text = server.get(&format!("/list={symbol}&format=json"), &[]).text();
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    value[symbol].as_str().map(str::to_owned)
}

/// A table, and what it makes of some symbols.
#[track_caller]
fn check(bytes: impl AsRef<[u8]>, skipped: u64, expected: &[(&str, Option<&str>)]) {
    let shown = String::from_utf8_lossy(bytes.as_ref()).chars().take(200).collect::<String>();
    let (_site, server) = serve(bytes, skipped);
    for (symbol, expected) in expected {
        assert_eq!(payload(&server, symbol).as_deref(), *expected, "{symbol} of {shown:?}");
    }
}

#[test]
fn line_ends() {
    let both = [("a", Some("1")), ("b", Some("2"))];
    for text in ["a=1\nb=2\n", "a=1\r\nb=2\r\n", "a=1\nb=2", "a=1\r\nb=2", "a=1\r\nb=2\n", "\n\na=1\n\n\r\nb=2\r\n\r\n"]
    {
        check(text, 0, &both);
    }
}

#[test]
fn comments_and_blank_lines() {
    let text = "# a comment\n#a=0\n\n#\n\r\na=1 # no comment\n#=\n# \u{0} \u{7f}\nb=#2\n#last";
    check(text, 0, &[("a", Some("1 # no comment")), ("b", Some("#2"))]);
}

#[test]
fn payloads_are_what_stands_behind_the_first_equals_sign() {
    let text = "a=b=c\nb==\nc= x \nd=\ne=\"x\"\nf=,\ng=a\tb\nh=\u{feff}x\n";
    let expected = [("a", "b=c"), ("b", "="), ("c", " x "), ("d", ""), ("e", "\"x\""), ("f", ","), ("g", "a\tb")];
    check(text, 0, &expected.map(|(symbol, payload)| (symbol, Some(payload))));
    check(text, 0, &[("h", Some("\u{feff}x"))]);
}

/// A payload of nothing is known, unlike a symbol that is not there.
#[test]
fn an_empty_payload_is_known() {
    let (_site, server) = serve("a=\n", 0);
    assert_eq!(server.get("/list=a,b&format=json", &[]).text(), "{\"a\":\"\",\"b\":null}");
    assert!(server.get("/list=a", &[]).get("last-modified").is_some());
}

#[test]
fn symbols_are_those_of_the_json_form() {
    let longest = "x".repeat(32);
    let text = format!("{longest}=1\na.b=2\na-b=3\n.=4\n-=5\n$=6\n_=7\n0=8\nAa=9\n..=10\n");
    let known = [
        (longest.as_str(), "1"),
        ("a.b", "2"),
        ("a-b", "3"),
        (".", "4"),
        ("-", "5"),
        ("$", "6"),
        ("_", "7"),
        ("0", "8"),
        ("Aa", "9"),
        ("..", "10"),
    ];
    check(&text, 0, &known.map(|(symbol, payload)| (symbol, Some(payload))));
    check(&text, 0, &[("aA", None), ("aa", None)]);
}

/// Each is skipped and counted; what stands before and behind it is loaded.
#[test]
fn lines_that_break_the_rules() {
    let long = "x".repeat(33);
    let bad: Vec<Vec<u8>> = [
        &b"no equals sign"[..],
        b"=no symbol",
        b"=",
        b" a=1",
        b"x =1",
        b"x\t=1",
        b"x,y=1",
        b"x/y=1",
        b"x&y=1",
        b"x%41=1",
        b"\"x\"=1",
        b"x\0=1",
        b"x\x7f=1",
        b"\xef\xbb\xbfx=1",
        "绵=1".as_bytes(),
        b"x\xff=1",
        b"\xff",
        b"\xff=\xff",
        format!("{long}=1").as_bytes(),
    ]
    .map(<[u8]>::to_vec)
    .into();
    for bad in &bad {
        let text = [b"before=1\n", bad.as_slice(), b"\nafter=2\n"].concat();
        check(&text, 1, &[("before", Some("1")), ("after", Some("2"))]);
    }
    let all = [&b"before=1\n"[..], &bad.join(&b'\n'), b"\nafter=2\n"].concat();
    check(&all, bad.len() as u64, &[("before", Some("1")), ("after", Some("2"))]);
    let (_site, server) = serve(&all, bad.len() as u64);
    assert_eq!(metric(&server, "cloudia_quote_symbols"), 2);
}

#[test]
fn payloads_that_are_not_utf_8() {
    let bad: [&[u8]; 7] = [
        b"\xff",
        b"\xc3",
        b"\xe7\xbb",
        b"\xc3\xe0\xca\xc0",
        b"ok until here\x80",
        // A surrogate, and beyond Unicode.
        b"\xed\xa0\xbd",
        b"\xf4\x90\x80\x80",
    ];
    for bad in bad {
        let text = [b"before=1\nx=", bad, b"\nafter=2\n"].concat();
        check(&text, 1, &[("before", Some("1")), ("x", None), ("after", Some("2"))]);
    }
    // An overlong NUL.
    check(b"x=\xc0\x80\na=1\n", 1, &[("x", None), ("a", Some("1"))]);
}

#[test]
fn of_a_symbol_that_comes_twice_the_last_line_counts() {
    check("a=1\na=2\n", 0, &[("a", Some("2"))]);
    check("a=1\nb=1\na=2\nb=2\na=3\n", 0, &[("a", Some("3")), ("b", Some("2"))]);
    check("a=1\na=\n", 0, &[("a", Some(""))]);
    // If that one is bad, the symbol is absent.
    check(b"a=1\na=\xff\nb=1\n", 1, &[("a", None), ("b", Some("1"))]);
    check(b"a=\xff\na=2\nb=1\n", 1, &[("a", Some("2")), ("b", Some("1"))]);
    check(b"a=1\na=\xff\na=3\n", 1, &[("a", Some("3"))]);
    let long = format!("a=1\na={}\nb=1\n", "x".repeat(65_535));
    check(long, 1, &[("a", None), ("b", Some("1"))]);
}

/// Of a line, its end does not count.
#[test]
fn lines_have_64_kib_at_the_most() {
    for end in ["\n", "\r\n"] {
        let payload_of = |length: usize| "x".repeat(length - "long=".len());
        let fits = payload_of(65_536);
        let text = format!("before=1{end}long={fits}{end}after=2{end}");
        check(text, 0, &[("before", Some("1")), ("long", Some(&fits)), ("after", Some("2"))]);
        for length in [65_537, 65_538, 65_539, 200_000, 5_000_000] {
            let text = format!("before=1{end}long={}{end}after=2{end}", payload_of(length));
            check(text, 1, &[("before", Some("1")), ("long", None), ("after", Some("2"))]);
        }
    }
    // Also as the last line, without an end, and as one that has no symbol at all.
    check(format!("a=1\nlong={}", "x".repeat(65_531)), 0, &[("a", Some("1")), ("long", Some(&"x".repeat(65_531)))]);
    check(format!("a=1\nlong={}", "x".repeat(65_532)), 1, &[("a", Some("1")), ("long", None)]);
    check(format!("a=1\n{}\nb=2\n", "x".repeat(100_000)), 1, &[("a", Some("1")), ("b", Some("2"))]);
}

/// A line of 64 KiB of what takes six bytes each in a script.
#[test]
fn a_long_line_of_escapes() {
    let payload = "\u{1}".repeat(60_000);
    let (_site, server) = serve(format!("a={payload}\n"), 0);
    let text = ask(&server, "a");
    assert!(statements(&text) == [("hq_str_a".to_owned(), payload.clone())]);
    assert!(crate::quotes_lines::payload(&server, "a") == Some(payload));
}

#[test]
fn control_bytes_are_kept() {
    let controls: String = (1..0x20_u8).chain([0x7f]).filter(|byte| *byte != b'\n').map(char::from).collect();
    let payload = format!("\u{0}{controls}end");
    check(format!("a={payload}\nb=1\n"), 0, &[("a", Some(&payload)), ("b", Some("1"))]);
    // A CR is the line's end only right before the LF.
    check("a=1\r2\nb=3\r\r\nc=4\n", 0, &[("a", Some("1\r2")), ("b", Some("3\r")), ("c", Some("4"))]);
}

#[test]
fn an_empty_table() {
    for text in ["", "\n", "# nothing\n", "\r\n\r\n"] {
        let (site, server) = serve(text, 0);
        assert_eq!(ask(&server, "a"), line("a", ""));
        assert_eq!(metric(&server, "cloudia_quote_symbols"), 0);
        site.replace("q.quotes", "a=1\n", at(now()));
        wait_for_quotes(&server, "a", &[("a", "1")]);
    }
}

#[test]
fn a_table_that_is_not_text_at_all() {
    let mut rng = crate::harness::Rng::seeded();
    let noise: Vec<u8> = (0..300_000).map(|_| rng.next() as u8).collect();
    let site = Site::new();
    site.file("noise.quotes", &noise).file("zeros.quotes", vec![0; 200_000]).file("first.quotes", "a=1\n");
    let server = Server::start(&site);
    assert_eq!(ask(&server, "a"), line("a", "1"));
    assert!(skips(&server) > 0);
    server.connect().assert_open();
}

/// Counted at each reading, and a good table again when it is mended.
#[test]
fn bad_lines_come_and_go() {
    let (site, server) = serve("a=1\nb=1\n", 0);
    site.replace("q.quotes", b"a=2\nb=\xff\n", at(now()));
    wait_for_quotes(&server, "a,b", &[("a", "2"), ("b", "")]);
    assert_eq!(skips(&server), 1);
    crate::harness::wait_until("a line that says so", || server.stderr().contains("q.quotes"));
    site.replace("q.quotes", "a=3\nb=3\n", at(now()));
    wait_for_quotes(&server, "a,b", &[("a", "3"), ("b", "3")]);
    assert_eq!(skips(&server), 1);
}

#[test]
fn a_table_with_10_000_symbols() {
    let quotes = |tick: u64| table((0..10_000).map(|n| (format!("s{n}"), full_quote(n + tick % 2))));
    let (site, server) = serve(quotes(0), 0);
    assert_eq!(metric(&server, "cloudia_quote_symbols"), 10_000);
    let payloads = [0, 9_999, 5_000, 1].map(|n| (format!("s{n}"), full_quote(n)));
    let expected: Vec<(&str, &str)> =
        payloads.iter().map(|(symbol, payload)| (symbol.as_str(), payload.as_str())).collect();
    assert_eq!(ask(&server, "s0,s9999,s5000,s1"), script(&expected));
    let all: Vec<String> = (0..1000).map(|n| format!("s{}", n * 7)).collect();
    let text = ask(&server, &all.join(","));
    for (n, (name, payload)) in statements(&text).into_iter().enumerate() {
        assert_eq!((name, payload), (format!("hq_str_s{}", n * 7), full_quote(n as u64 * 7)));
    }
    site.replace("q.quotes", quotes(1), at(now()));
    wait_for_quotes(&server, "s9999", &[("s9999", &full_quote(10_000))]);
}
