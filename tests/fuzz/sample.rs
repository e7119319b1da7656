//! A store with a file of every kind, and the same as the model describes it.

use std::{collections::HashMap, io::Write, sync::Arc};

use cloudia::{
    feed::quotes::{
        board::{Board, TableChange, When},
        table::Table,
        text::Charset,
    },
    stats::FeedStats,
    store::{Bodies, Change, Entry, Store},
};
use flate2::{Compression, write::DeflateEncoder};

use crate::model::{
    File, Site, latin1,
    quotes::{Quotes, read_table},
};

/// In the 2020s, so that a year of two digits is no riddle.
pub(crate) const NOW: u64 = 1_700_000_000;

pub(crate) struct Sample {
    pub(crate) site: Site,
    pub(crate) store: Arc<Store>,
}

impl Sample {
    /// With or without a `/404.html`.
    pub(crate) fn new(with_page: bool) -> Sample {
        let mut sample = Sample {
            site: Site { now: NOW, files: HashMap::new(), quotes: Quotes::default() },
            store: Arc::new(Store::new()),
        };
        let plain = "text/plain; charset=utf-8";
        let html = "text/html; charset=utf-8";
        let script = "text/javascript; charset=utf-8";
        sample
            .add("/index.html", text(500), html, NOW - 100, "deflate")
            .add("/a.txt", b"0123456789".to_vec(), plain, NOW - 100, "")
            .add("/s.js", text(3000), script, NOW - 1, "deflate br zstd")
            .add("/c.js", text(2000), script, NOW - 86_400, "deflate zstd")
            .add("/b.css", text(900), "text/css; charset=utf-8", NOW - 90_000_000, "br")
            // A zlib frame makes it smaller, a gzip frame does not.
            .add("/brink.txt", vec![b'a'; 20], plain, NOW - 5, "deflate")
            .add("/tiny.txt", b"hi".to_vec(), plain, NOW - 5, "deflate br zstd")
            .add("/empty.txt", Vec::new(), plain, NOW - 5, "")
            .add("/new.txt", text(300), plain, NOW, "deflate")
            .add("/ahead.txt", text(310), plain, NOW + 5, "deflate")
            .add("/old.txt", text(320), plain, 0, "deflate")
            .add("/large.txt", text(150_000), plain, NOW - 7, "deflate")
            .add("/image.png", text(6000), "image/png", NOW - 7, "")
            .add("/dir/index.html", text(60), html, NOW - 9, "")
            .add("/dir/b.txt", text(70), plain, NOW - 9, "deflate")
            .add("/deep/er/d.txt", text(80), plain, NOW - 9, "deflate")
            .add("/sp ace.txt", text(90), plain, NOW - 9, "")
            .add("/ü.txt", text(91), plain, NOW - 9, "")
            .add("/50%/index.html", text(92), html, NOW - 9, "")
            .add("/we?ird #1/index.html", text(93), html, NOW - 9, "")
            .add("/a&b=c;d,e:f@g/index.html", text(94), html, NOW - 9, "")
            .add("/\\evil/ü\"<>/index.html", text(95), html, NOW - 9, "");
        if with_page {
            sample.add("/404.html", text(700), html, NOW - 3, "deflate br");
        }
        sample
    }

    /// Some symbols, with everything that is escaped.
    pub(crate) fn with_quotes(mut self) -> Sample {
        let mut text: String = (0..60).map(|n| format!("s_{n}=name {n},9.29,-0.05,{n},15:00:00\n")).collect();
        text += "$=</a>\"\\\u{1}\u{2028}\nempty=\nsh.1-x=\u{7ef5}\u{4e16}\n";
        self.site.quotes.tables.insert("a.quotes".to_owned(), read_table(text.as_bytes()));
        let mut board = Board::new(self.store.clone(), Arc::new(FeedStats::default()), Charset::Utf8, None);
        let table = Arc::new(Table::parse(text.into_bytes().into()));
        board.change(vec![(TableChange::Put("a.quotes".into(), table), When::Modified(NOW - 50))]);
        self
    }

    /// The codings' bytes are made up, but for deflate: nobody looks into them.
    fn add(
        &mut self,
        path: &str,
        content: Vec<u8>,
        content_type: &'static str,
        stamp: u64,
        codings: &str,
    ) -> &mut Sample {
        let held = |coding: &str, body: Vec<u8>| codings.contains(coding).then_some(body);
        let deflate = held("deflate", deflate(&content));
        let br = held("br", vec![b'b'; content.len() / 4 + 1]);
        let zstd = held("zstd", vec![b'z'; content.len() / 3 + 1]);
        let boxed = |body: &Option<Vec<u8>>| body.clone().map(Into::into);
        let bodies =
            Bodies { identity: content.clone().into(), deflate: boxed(&deflate), br: boxed(&br), zstd: boxed(&zstd) };
        let entry = Arc::new(Entry::new(content_type, stamp, bodies));
        let etag = latin1(entry.etag());
        self.store.apply([Change::Put(path.trim_start_matches('/').as_bytes().into(), entry)]);
        let file = File { content, content_type, stamp, etag, deflate, br, zstd };
        self.site.files.insert(latin1(path.as_bytes()), Arc::new(file));
        self
    }
}

/// So many bytes of lines, no two of which are equal, so that a part of it cannot be taken for another.
fn text(len: usize) -> Vec<u8> {
    let lines: String = (0..=len / 7).map(|n| format!("line {n}\n")).collect();
    lines.into_bytes()[..len].to_vec()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
