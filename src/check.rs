//! `cloudia check`: what would be served, and what would be refused.

use std::{
    io::{self, Write},
    path::Path,
    sync::Arc,
};

use parking_lot::FairMutex;

use crate::{
    feed::{
        Feed,
        quotes::{
            board::{Board, SharedBoard},
            text::Charset,
        },
    },
    stats::{FeedStats, Rejection},
    store::{Coding, Entry, Store},
};

/// Says that `config`, which was checked, is good, and lists the contents of `data`. True: nothing of it is refused.
///
/// # Errors
/// In words, when the directory cannot be read.
pub fn check(config: Option<&Path>, data: Option<&Path>) -> Result<bool, String> {
    // Whoever closed the pipe has read enough.
    let mut out = io::stdout().lock();
    if let Some(config) = config {
        let _ = writeln!(out, "{} is good", config.display());
    }
    let Some(data) = data else {
        return Ok(true);
    };
    let (store, stats) = (Arc::new(Store::new()), Arc::new(FeedStats::default()));
    let board = Board::new(store.clone(), stats.clone(), Charset::default(), None);
    let board = Arc::new(FairMutex::new(board));
    Feed::load_once(data.to_owned(), store.clone(), board.clone(), stats.clone(), None)
        .map_err(|error| format!("the data directory {} cannot be read: {error}", data.display()))?;
    let (entries, rejections) = (store.entries(), stats.rejections.all());
    let _ = table(&mut out, &entries, rejections.iter());
    let skipped = quotes(&mut out, &board);
    Ok(rejections.is_empty() && skipped == 0)
}

/// Lists the tables. Lines that are skipped.
fn quotes(out: &mut impl Write, board: &SharedBoard) -> u64 {
    let mut skipped = 0;
    for (path, table) in board.lock().tables() {
        let first = table.first_skipped().map(|(line, bad)| format!(", the first is line {line}, which {bad}"));
        let (symbols, lines, first) = (table.len(), table.skipped(), first.unwrap_or_default());
        let _ = writeln!(out, "table {path:?}: {symbols} symbols, {lines} lines skipped{first}");
        skipped += lines;
    }
    skipped
}

fn table<'r>(
    out: &mut impl Write,
    entries: &[(Arc<[u8]>, Arc<Entry>)],
    rejections: impl ExactSizeIterator<Item = (&'r String, &'r Rejection)>,
) -> io::Result<()> {
    if !entries.is_empty() {
        writeln!(out, "{:>12} {:>12}  {:<24} {:<28} path", "bytes", "compressed", "codings", "type")?;
    }
    for (key, entry) in entries {
        let codings: Vec<&str> =
            Coding::ALL.iter().filter(|coding| entry.offers(**coding)).map(|coding| coding.name()).collect();
        let least = Coding::ALL.iter().map(|coding| entry.len(*coding)).min().unwrap_or_default();
        let path = String::from_utf8_lossy(key);
        let codings = codings.join(" ");
        writeln!(out, "{:>12} {least:>12}  {codings:<24} {:<28} /{path}", entry.identity_len(), entry.content_type())?;
    }
    let refused = rejections.len();
    for (path, rejection) in rejections {
        // Quoted: a name can hold anything, a line end as well.
        writeln!(out, "refused ({}): {path:?} {}", rejection.refusal.label(), rejection.reason)?;
    }
    let bytes: usize = entries.iter().map(|(_, entry)| entry.identity_len()).sum();
    let held: usize = entries.iter().map(|(_, entry)| entry.held_bytes()).sum();
    writeln!(out, "{} served, {bytes} bytes of content, {held} held; {refused} refused", entries.len())
}
