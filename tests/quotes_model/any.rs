//! Any bytes to a small market and a target: what reads them does so as the contract says, and what is answered is the
//! obvious concatenation. `fuzz/fuzz_targets/quotes.rs` calls it with bytes that a fuzzer looks for.

use std::sync::Arc;

use cloudia::{
    feed::quotes::{
        batch::{Batcher, News},
        board::{Board, TableChange, When},
        table::Table,
        text::Charset,
    },
    serve::{
        quotes::{self, Asked, Lists},
        target::Target,
    },
    stats::{FeedStats, WorkerStats},
    store::{
        Store,
        quotes::{Symbol, Terms},
    },
};

use super::{check::Manner, contract};

/// Between the parts of what follows the target: a table, another one, what a feeder sends.
const SEPARATOR: u8 = 0x1e;

/// The first byte chooses the charset and the cuts, a line is the target, the rest the market.
pub(crate) fn check(data: &[u8]) {
    let [choice, data @ ..] = data else { return };
    let target_end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (target, market) = data.split_at(target_end);
    let mut parts = market.get(1..).unwrap_or_default().splitn(3, |byte| *byte == SEPARATOR);
    let mut part = || parts.next().unwrap_or_default();
    let (first, second, sent) = (part(), part(), part());
    same_table(first);
    same_table(second);
    let piece = 1 + usize::from(choice >> 3 & 7);
    same_batches(sent, piece);

    let (charset, of_the_contract) = match choice & 3 {
        0 => (Charset::Gbk, contract::Charset::Gbk),
        1 => (Charset::Gb18030, contract::Charset::Gb18030),
        _ => (Charset::Utf8, contract::Charset::Utf8),
    };
    let manner = Manner { prefix: ["hq_str_", "$"][usize::from(choice >> 2 & 1)], charset: of_the_contract };
    let store = Arc::new(Store::with_terms(Terms::new(manner.prefix, charset.name(), 1, 60)));
    let mut board = Board::new(store.clone(), Arc::new(FeedStats::default()), charset, None);
    let mut lists = Lists::default();
    let mut quotes = contract::Quotes::default();
    let mut ask = |quotes: &contract::Quotes| same_answer(target, &store, &mut lists, &manner, quotes);

    put(&mut board, &mut quotes, "b.quotes", first);
    ask(&quotes);
    // Of the symbols that both have, those of this one count.
    put(&mut board, &mut quotes, "a.quotes", second);
    ask(&quotes);
    Batcher::default().take(sent, |news| {
        if let News::Batch(batch) = news {
            for (symbol, payload) in &batch {
                quotes.live.insert(name(symbol), payload.to_string());
            }
            board.update(batch, When::Now).unwrap();
        }
    });
    ask(&quotes);
    ask(&quotes);
    quotes.tables.remove("a.quotes");
    board.change(vec![(TableChange::Remove("a.quotes".into()), When::Now)]);
    ask(&quotes);
}

fn put(board: &mut Board, quotes: &mut contract::Quotes, path: &str, text: &[u8]) {
    quotes.tables.insert(path.to_owned(), contract::read_table(text));
    board.change(vec![(TableChange::Put(path.into(), Arc::new(Table::parse(text.into()))), When::Now)]);
}

pub(crate) fn name(symbol: &Symbol) -> String {
    symbol.as_bytes().iter().copied().map(char::from).collect()
}

/// The table as the contract has it.
pub(crate) fn same_table(text: &[u8]) -> Arc<Table> {
    let table = Table::parse(text.into());
    let quotes = table.quotes().map(|(symbol, payload)| (name(symbol), payload.to_owned())).collect();
    let first_skipped = table.first_skipped().map(|(number, _)| number);
    let read = contract::Table { quotes, skipped: table.skipped(), first_skipped };
    assert_eq!(read, contract::read_table(text), "{}", text.escape_ascii());
    assert_eq!(table.is_empty(), read.quotes.is_empty());
    Arc::new(table)
}

/// The batches of a feeder, in pieces and in two at every place, as they are in one.
fn same_batches(sent: &[u8], piece: usize) {
    let expected = contract::read_batches(sent);
    let cuts = (0..sent.len().min(300)).map(|cut| vec![&sent[..cut], &sent[cut..]]);
    for pieces in cuts.chain([sent.chunks(piece).collect(), vec![sent]]) {
        assert_eq!(batches(&pieces), expected, "{}", sent.escape_ascii());
    }
}

pub(crate) fn batches(pieces: &[&[u8]]) -> Vec<contract::News> {
    let mut batcher = Batcher::default();
    let mut all = Vec::new();
    for piece in pieces {
        batcher.take(piece, |news| {
            all.push(match news {
                News::Batch(batch) => contract::News::Batch(
                    batch.iter().map(|(symbol, payload)| (name(symbol), payload.to_string())).collect(),
                ),
                News::Skipped(number, _) => contract::News::Skipped(number),
            });
        });
    }
    all
}

fn same_answer(target: &[u8], store: &Store, lists: &mut Lists, manner: &Manner, quotes: &contract::Quotes) {
    // Only origin-form asks for anything else than files in another way.
    let Ok(Target { authority: None, path, query }) = Target::parse(target) else { return };
    let text: String = target.iter().copied().map(char::from).collect();
    let asked = Asked::parse(path, query);
    let Some(expected) = contract::read_target(&text) else {
        assert_eq!(asked, None, "{text}");
        return;
    };
    let Some(asked) = asked else { panic!("not taken for a list: {text}") };
    assert_eq!(asked.json, expected.json, "{text}");
    let max_age = asked.max_age.map(|value| value.iter().copied().map(char::from).collect());
    assert_eq!(max_age, expected.max_age, "{text}");
    assert_eq!(quotes::check(&asked, &mut Vec::new()).is_ok(), expected.symbols.is_some(), "{text}");
    let answer = quotes::answer(&asked, store.quotes(), lists, &mut Vec::new(), &WorkerStats::default()).ok();
    if let Some(fault) = manner.fault(&expected, quotes, answer.as_deref()) {
        panic!("{text}: {fault}");
    }
}
