//! What an answer to a list of quotes costs by each means of joining and compressing it: bytes, and CPU time.
//!
//! ```text
//! joins [--quick] [--json FILE] TABLE.quotes...
//! ```
//!
//! For every table and for 1, 5, 50 and 500 symbols, lists are drawn at random, the same in every run. Each means answers
//! all of them, again and again; a sample is the CPU time of this thread for one turn over all lists, divided by their
//! number. Every means begins with the symbols and looks them up. Compressed answers are in a zlib frame, as `deflate`
//! sends them. Before anything is measured each answer is decompressed and compared with the lines one after the other.
//!
//! The last two are the server's own: `joined` is all that it does for a list that it does not have, from the target to an
//! answer with both frames and an `ETag`; `cached` is the same list once more, when its answer was compressed better. Neither
//! is an HTTP exchange: `tools/benchmarks/quotes` measures those.

use std::{
    collections::HashMap,
    error::Error,
    fmt::Write as _,
    fs,
    hint::black_box,
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use cloudia::{
    feed::quotes::{
        board::{Board, TableChange, When},
        table,
        text::Charset,
    },
    serve::quotes::{self, Asked, Lists},
    stats::WorkerStats,
    store::{Coding, Store, quotes::improve::Improver},
};
use flate2::{Compress, Compression, FlushCompress, Status, read::ZlibDecoder};
use libdeflater::{CompressionLvl, Compressor};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

const COUNTS: [usize; 4] = [1, 5, 50, 500];
const SEED: u64 = 7;
/// A sample turns over the lists until this much time has passed, so that the clock's own cost is nothing beside it.
const SAMPLE_NS: u64 = 2_000_000;
/// Answers that get better are as good as they get when they were the same in so many turns, with so much time between.
const SETTLED: usize = 20;
const TURN: Duration = Duration::from_millis(50);

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match arguments().and_then(|args| run(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("joins: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Args {
    samples: usize,
    json: Option<PathBuf>,
    tables: Vec<PathBuf>,
}

fn arguments() -> Outcome<Args> {
    let mut args = Args { samples: 15, json: None, tables: Vec::new() };
    let mut words = std::env::args_os().skip(1);
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--quick") => args.samples = 1,
            Some("--json") => args.json = Some(words.next().ok_or("--json needs a file")?.into()),
            _ => args.tables.push(word.into()),
        }
    }
    if args.tables.is_empty() {
        return Err("usage: joins [--quick] [--json FILE] TABLE.quotes...".into());
    }
    Ok(args)
}

fn run(args: &Args) -> Outcome<()> {
    let mut tables = Vec::new();
    for path in &args.tables {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let rows = measure(&Table::read(path)?, args.samples)?;
        println!("{}", markdown(&name, &rows)?);
        tables.push(json!({ "table": name, "rows": rows.iter().map(Row::json).collect::<Vec<_>>() }));
    }
    if let Some(path) = &args.json {
        let lists = COUNTS.map(lists_of);
        let report =
            json!({ "samples": args.samples, "symbols": COUNTS, "lists": lists, "seed": SEED, "tables": tables });
        fs::write(path, format!("{report:#}\n"))?;
    }
    Ok(())
}

/// How many lists of so many symbols: few enough to be done soon, too many for a processor to learn by heart. One list again
/// and again takes half of the time of new ones.
fn lists_of(count: usize) -> usize {
    (20_000 / count).clamp(40, 2000)
}

/// Symbols with their lines as they are sent, and a server's store of the same.
struct Table {
    symbols: Vec<String>,
    lines: HashMap<String, String, ahash::RandomState>,
    store: Arc<Store>,
}

/// A list, and the target that asks for it.
struct List<'t> {
    symbols: Vec<&'t str>,
    target: String,
}

impl Table {
    fn read(path: &Path) -> Outcome<Self> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let pairs = || text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
        let symbols: Vec<String> = pairs().map(|(symbol, _)| symbol.to_owned()).collect();
        if symbols.is_empty() {
            return Err(format!("{}: no symbols", path.display()).into());
        }
        let line = |(symbol, payload): (&str, &str)| format!("var hq_str_{symbol}=\"{payload}\";\n");
        let lines = pairs().map(|pair| (pair.0.to_owned(), line(pair))).collect();
        let store = Arc::new(Store::new());
        store.quotes().improve_with(Improver::start()?);
        let table = Arc::new(table::Table::parse(text.into_bytes().into()));
        let mut board = Board::new(store.clone(), Arc::default(), Charset::default(), None);
        board.change(vec![(TableChange::Put("market".into(), table), When::Now)]);
        Ok(Self { symbols, lines, store })
    }

    fn lists(&self, count: usize) -> Vec<List<'_>> {
        let mut dice = Dice(SEED);
        let mut draw = || self.symbols[dice.below(self.symbols.len())].as_str();
        let lists = (0..lists_of(count)).map(|_| {
            let symbols: Vec<&str> = (0..count).map(|_| draw()).collect();
            let target = format!("/list={}", symbols.join(","));
            List { symbols, target }
        });
        lists.collect()
    }

    /// The lines of a list, one after the other.
    fn join(&self, list: &List<'_>, out: &mut Vec<u8>) {
        out.clear();
        for line in list.symbols.iter().filter_map(|symbol| self.lines.get(*symbol)) {
            out.extend_from_slice(line.as_bytes());
        }
    }
}

/// How the answer of a list is made. False: it gave up.
type Answer<'t> = Box<dyn FnMut(&List<'t>, &mut Vec<u8>) -> bool + 't>;

/// A means under its name.
struct Means<'t> {
    name: &'static str,
    /// Its answers get better after they were asked for.
    improves: bool,
    answer: Answer<'t>,
}

fn means<'t>(table: &'t Table) -> Outcome<Vec<Means<'t>>> {
    let identity = |list: &List<'t>, out: &mut Vec<u8>| {
        table.join(list, out);
        true
    };
    let mut all = vec![Means { name: "identity", improves: false, answer: Box::new(identity) }];
    for (name, level) in [("flate2 1", 1), ("flate2 6", 6)] {
        all.push(Means { name, improves: false, answer: flate2(table, level) });
    }
    for (name, level) in [("libdeflate 1", 1), ("libdeflate 6", 6), ("libdeflate 8", 8), ("libdeflate 12", 12)] {
        all.push(Means { name, improves: false, answer: libdeflate(table, level)? });
    }
    for (name, is_known) in [("joined", false), ("cached", true)] {
        all.push(Means { name, improves: is_known, answer: server(table, is_known) });
    }
    Ok(all)
}

/// The state is kept from answer to answer, as a server would.
fn flate2<'t>(table: &'t Table, level: u32) -> Answer<'t> {
    let mut compress = Compress::new(Compression::new(level), true);
    let mut text = Vec::new();
    Box::new(move |list, out| {
        table.join(list, &mut text);
        compress.reset();
        out.clear();
        out.reserve(text.len() + 64);
        matches!(compress.compress_vec(&text, out, FlushCompress::Finish), Ok(Status::StreamEnd))
    })
}

fn libdeflate<'t>(table: &'t Table, level: i32) -> Outcome<Answer<'t>> {
    let level = CompressionLvl::new(level).map_err(|error| format!("{error:?}"))?;
    let mut compressor = Compressor::new(level);
    let mut text = Vec::new();
    Ok(Box::new(move |list, out| {
        table.join(list, &mut text);
        out.resize(compressor.zlib_compress_bound(text.len()), 0);
        let len = compressor.zlib_compress(&text, out).ok();
        out.truncate(len.unwrap_or(0));
        len.is_some()
    }))
}

/// What a worker does; if nothing is known, with a cache that has nothing.
fn server(table: &Table, is_known: bool) -> Answer<'_> {
    let (mut lists, mut scratch, stats) = (Lists::default(), Vec::new(), WorkerStats::default());
    let quotes = table.store.quotes();
    Box::new(move |list, out| {
        if !is_known {
            lists = Lists::default();
        }
        let Some(asked) = Asked::parse(list.target.as_bytes(), None) else { return false };
        let Ok(entry) = quotes::answer(&asked, quotes, &mut lists, &mut scratch, &stats) else { return false };
        out.clear();
        let coding = if entry.offers(Coding::Deflate) { Coding::Deflate } else { Coding::Identity };
        entry.payload(coding).slices().iter().for_each(|slice| out.extend_from_slice(slice));
        true
    })
}

/// What was measured of a means at a number of symbols.
struct Row {
    symbols: usize,
    means: &'static str,
    /// Mean bytes of a body.
    bytes: f64,
    /// CPU microseconds of an answer, sorted.
    cpu_us: Vec<f64>,
}

impl Row {
    fn median(&self) -> f64 {
        self.cpu_us[self.cpu_us.len() / 2]
    }

    fn json(&self) -> serde_json::Value {
        let least = self.cpu_us.first();
        let cpu_us = json!({ "median": self.median(), "min": least, "max": self.cpu_us.last() });
        json!({ "symbols": self.symbols, "means": self.means, "bytes": self.bytes, "cpu_us": cpu_us })
    }
}

fn measure(table: &Table, samples: usize) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    for count in COUNTS {
        let lists = table.lists(count);
        let mut all = means(table)?;
        let mut of_count = Vec::new();
        for means in &mut all {
            of_count.push(Row {
                symbols: count,
                means: means.name,
                bytes: check(table, means, &lists)?,
                cpu_us: vec![],
            });
        }
        // One sample of each in turn: what disturbs the machine meets all alike.
        for _ in 0..samples {
            for (means, row) in all.iter_mut().zip(&mut of_count) {
                row.cpu_us.push(sample(means, &lists)?);
            }
        }
        of_count.iter_mut().for_each(|row| row.cpu_us.sort_by(f64::total_cmp));
        rows.extend(of_count);
    }
    Ok(rows)
}

/// That each answer is right; the mean of their bytes.
fn check<'t>(table: &Table, means: &mut Means<'t>, lists: &[List<'t>]) -> Outcome<f64> {
    let (mut wanted, mut out) = (Vec::new(), Vec::new());
    let (mut total, mut same) = (0, 0);
    loop {
        let before = std::mem::take(&mut total);
        for list in lists {
            table.join(list, &mut wanted);
            let made = (means.answer)(list, &mut out);
            total += out.len();
            if !made || text_of(&out)? != wanted {
                return Err(format!("{} makes another answer of {}", means.name, list.target).into());
            }
        }
        same = if total == before { same + 1 } else { 0 };
        if !means.improves || same == SETTLED {
            return Ok(total as f64 / lists.len() as f64);
        }
        std::thread::sleep(TURN);
    }
}

fn text_of(answer: &[u8]) -> Outcome<Vec<u8>> {
    let mut text = Vec::new();
    if answer.starts_with(b"var ") {
        text.extend_from_slice(answer);
    } else {
        ZlibDecoder::new(answer).read_to_end(&mut text)?;
    }
    Ok(text)
}

/// CPU microseconds of an answer.
fn sample<'t>(means: &mut Means<'t>, lists: &[List<'t>]) -> Outcome<f64> {
    let (mut out, mut answers, start) = (Vec::new(), 0, now());
    loop {
        for list in lists {
            if !(means.answer)(black_box(list), &mut out) {
                return Err(format!("{} gave up", means.name).into());
            }
            black_box(&out);
        }
        answers += lists.len();
        let spent = now() - start;
        if spent >= SAMPLE_NS {
            return Ok(spent as f64 / 1000.0 / answers as f64);
        }
    }
}

/// CPU time of this thread in nanoseconds.
fn now() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn markdown(name: &str, rows: &[Row]) -> Outcome<String> {
    let mut text = format!("| {name}: bytes and CPU time of a list of |");
    for count in COUNTS {
        write!(text, " {count} |")?;
    }
    writeln!(text, "\n|---|{}", "---:|".repeat(COUNTS.len()))?;
    for first in rows.iter().filter(|row| row.symbols == COUNTS[0]) {
        write!(text, "| {} |", first.means)?;
        for row in rows.iter().filter(|row| row.means == first.means) {
            write!(text, " {:.0}, {:.2} µs |", row.bytes, row.median())?;
        }
        writeln!(text)?;
    }
    Ok(text)
}

/// SplitMix64: few lines, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}
