//! Wire section 9, the charset of a script: `gbk` and `gb18030` as Python's codecs read them.

use crate::{
    cases::{case, check, get, status},
    harness::{Server, Site},
    quotes::{ask, full_quote, line, list, python, run_python, statements, symbols, table, with_settings},
};

/// Every character of the Basic Multilingual Plane that a payload may hold, a row of 256 each, and some beyond it: the
/// symbols are `u00` to `uff` and `beyond`.
fn every_character() -> Vec<(String, String)> {
    let row = |row: u32| {
        let all = (row << 8..(row + 1) << 8).filter_map(char::from_u32);
        // What ends a line, in either way, is no part of a payload; a space at the end of each keeps the CR inside.
        let payload: String = all.filter(|c| *c != '\n').chain([' ']).collect();
        (format!("u{row:02x}"), payload)
    };
    let rows = (0..0x100).map(row).filter(|(_, payload)| payload != " ");
    let beyond = "\u{10000}\u{10ffff}\u{1f600}\u{20000}\u{2a6d6}\u{1d11e}\u{e0041}\u{fffff}".to_owned();
    rows.chain([("beyond".to_owned(), beyond)]).collect()
}

fn server(charset: &str, quotes: &[(String, String)]) -> (Site, Server) {
    let site = Site::new();
    site.file("q.quotes", table(quotes.iter().map(|(symbol, payload)| (symbol, payload))));
    let server = with_settings(&site, &format!("[quotes]\ncharset = \"{charset}\"\n")).start();
    (site, server)
}

/// All of `quotes` in one answer, as text that Python has decoded and a script engine has read.
fn read(server: &Server, charset: &str, quotes: &[(String, String)]) -> Vec<(String, String)> {
    let symbols: Vec<&str> = quotes.iter().map(|(symbol, _)| symbol.as_str()).collect();
    let answer = server.get(&list(&symbols), &[]);
    assert_eq!(answer.get("content-type"), Some(format!("text/javascript; charset={charset}").as_str()));
    let text = python(&[(charset, &answer.body)]).remove(0);
    statements(std::str::from_utf8(&text).unwrap())
}

#[test]
fn every_character_comes_back_by_pythons_codecs() {
    let quotes = every_character();
    for charset in ["gbk", "gb18030", "utf-8"] {
        let (_site, server) = server(charset, &quotes);
        // A row at a time, so that one bad row does not hide the others.
        let bodies: Vec<Vec<u8>> = quotes.iter().map(|(symbol, _)| server.get(&list(&[symbol]), &[]).body).collect();
        let texts = python(&bodies.iter().map(|body| (charset, body.as_slice())).collect::<Vec<_>>());
        let mut wrong = Vec::new();
        for ((symbol, payload), text) in quotes.iter().zip(texts) {
            let text = String::from_utf8(text).unwrap();
            let read = std::panic::catch_unwind(|| statements(&text).remove(0));
            match read {
                Ok(read) if read == (format!("hq_str_{symbol}"), payload.clone()) => {}
                Ok((_, read)) => {
                    let differ = read.chars().zip(payload.chars()).find(|(got, expected)| got != expected);
                    wrong.push(format!("{symbol}: {differ:?}"));
                }
                Err(_) => wrong.push(format!("{symbol}: cannot be read")),
            }
        }
        assert!(wrong.is_empty(), "{charset}: {wrong:#?}");
        assert!(read(&server, charset, &quotes).iter().map(|(_, payload)| payload).eq(quotes.iter().map(|(_, p)| p)));
    }
}

/// What the codec has is sent in it; what it lacks, and nothing else, as `\uXXXX`.
#[test]
fn what_the_charset_has_is_not_escaped() {
    const ENCODE: &str = "
import sys
codec, text = sys.stdin.buffer.read().decode().split('|', 1)
sys.stdout.buffer.write(text.encode(codec))
";
    let common = "绵世股份，上证指数。深圳；ＡＢＣ　《》αβγабв①②〇".to_owned();
    for charset in ["gbk", "gb18030"] {
        let (_site, server) = server(charset, &[("x".to_owned(), common.clone())]);
        let expected = run_python(ENCODE, format!("{charset}|{}", line("x", &common)).as_bytes());
        assert_eq!(server.get("/list=x", &[]).body, expected, "{charset}");
    }
    let lacking = [("한", "\\ud55c"), ("é한😀", ""), ("\u{2603}", "\\u2603"), ("😀", "\\ud83d\\ude00")];
    for (payload, escaped) in lacking {
        let (_site, server) = server("gbk", &[("x".to_owned(), payload.to_owned())]);
        let answer = server.get("/list=x", &[]);
        if !escaped.is_empty() {
            assert_eq!(answer.text().to_ascii_lowercase(), line("x", escaped), "{payload}");
        }
    }
    // GB18030 has them all.
    let (_site, server) = server("gb18030", &[("x".to_owned(), "한😀\u{2603}".to_owned())]);
    assert!(!server.get("/list=x", &[]).body.contains(&b'\\'));
}

/// A backslash or a quote that is the second byte of a character escapes nothing: it was escaped before it was encoded.
#[test]
fn escaped_first_then_encoded() {
    // Of each, the second byte in GBK is a backslash.
    let payload = "誠乗\\俓\"昞<\u{2028}/</script>\u{1}".to_owned();
    for charset in ["gbk", "gb18030"] {
        let quotes = [("x".to_owned(), payload.clone())];
        let (_site, server) = server(charset, &quotes);
        assert_eq!(read(&server, charset, &quotes), [("hq_str_x".to_owned(), payload.clone())], "{charset}");
    }
}

#[test]
fn json_is_always_utf_8() {
    for charset in ["gbk", "gb18030", "utf-8"] {
        let (_site, server) = server(charset, &[("x".to_owned(), "绵世😀".to_owned())]);
        let json = status(200).with("Content-Type", "application/json").body("{\"x\":\"绵世😀\"}");
        check(&server, [case(charset, get("/list=x&format=json"), json)]);
        let media = format!("text/javascript; charset={charset}");
        let none = status(200).with("Content-Type", media).body(line("none", ""));
        check(&server, [case(charset, get("/list=none"), none)]);
    }
}

#[test]
fn codings_of_another_charset() {
    let quotes: Vec<(String, String)> =
        symbols(50).into_iter().enumerate().map(|(n, symbol)| (symbol, full_quote(n as u64))).collect();
    let (_site, server) = server("gbk", &quotes);
    let path = list(&symbols(50));
    let identity = server.get(&path, &[]).body;
    assert!(std::str::from_utf8(&identity).is_err(), "it is GBK");
    for coding in ["gzip", "deflate"] {
        let answer = server.get(&path, &[&format!("Accept-Encoding: {coding}")]);
        assert_eq!(answer.get("content-encoding"), Some(coding));
        assert_eq!(python(&[(coding, &answer.body)])[0], identity, "{coding}");
    }
    assert_eq!(read(&server, "gbk", &quotes).len(), 50);
}

/// A table is UTF-8 whatever the answers are, and files are untouched.
#[test]
fn the_charset_is_of_answers_alone() {
    let site = Site::new();
    site.file("q.quotes", b"utf8=\xe7\xbb\xb5\ngbk=\xc3\xe0\n").file("a.js", "绵");
    let server = with_settings(&site, "[quotes]\ncharset = \"gbk\"\n").start();
    let file = server.get("/a.js", &[]);
    assert_eq!((file.get("content-type"), file.text().as_str()), (Some("text/javascript; charset=utf-8"), "绵"));
    assert_eq!(server.get("/list=utf8", &[]).body, b"var hq_str_utf8=\"\xc3\xe0\";\n");
    assert_eq!(ask(&server, "gbk"), line("gbk", ""));
}
