//! A `.quotes` table read, to walk on from it.

use std::collections::HashMap;

use crate::{
    calendar::Moment,
    market::{Entry, Market},
    quote::Quote,
    rng::Rng,
};

/// The market of a table, and the numbers of the lines whose quotes stay as they are because they are in neither form.
///
/// Comments stay where they are. Lines that the format does not allow are left out. Of a symbol that comes twice the last
/// line counts.
pub fn read(text: &str, seed: u64) -> (Market, Vec<usize>) {
    let mut rng = Rng::new(seed);
    let (mut entries, mut fixed, mut moments) = (Vec::new(), Vec::new(), Vec::new());
    for (at, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            entries.push(Entry::fixed(line, 0));
            continue;
        }
        let Some((symbol, payload)) = line.split_once('=').filter(|(symbol, _)| is_symbol(symbol)) else { continue };
        if let Some((quote, form, moment)) = Quote::read(payload, &mut rng) {
            moments.extend(moment);
            entries.push(Entry::new(symbol, quote, form));
        } else {
            fixed.push(at + 1);
            entries.push(Entry::fixed(line, symbol.len() + 1));
        }
    }
    let last: HashMap<String, usize> =
        entries.iter().enumerate().filter_map(|(at, entry)| Some((entry.symbol()?.to_owned(), at))).collect();
    let mut at = 0..;
    entries.retain(|entry| {
        let at = at.next();
        entry.symbol().is_none_or(|symbol| last.get(symbol).copied() == at)
    });
    let moment = moments.into_iter().max().unwrap_or(Moment::FIRST);
    (Market::of(entries, moment, rng), fixed)
}

fn is_symbol(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_$.-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quote::Form;

    #[test]
    fn a_market_that_was_written_walks_on() {
        for form in [Form::Full, Form::Short] {
            let invented = Market::invent(50, form, 9).table();
            let (mut market, fixed) = read(&invented, 4);
            assert_eq!((market.walking(), fixed), (50, vec![]));
            let untouched = market.table();
            let of_line = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
            for (before, after) in invented.lines().zip(untouched.lines()) {
                let (before, after) = (of_line(before), of_line(after));
                // The book is made up anew, all else is kept.
                let kept =
                    if form == Form::Full { [0..6, 8..10, 30..33].to_vec() } else { [0..6, 0..0, 0..0].to_vec() };
                kept.into_iter().for_each(|range| assert_eq!(before[range.clone()], after[range]));
            }
            assert_eq!(market.tick(1_000_000, 50).len(), 50);
            assert_ne!(market.table(), untouched);
        }
    }

    #[test]
    fn comments_and_what_is_not_understood_stay() {
        let quote = "云港航运,9.29,-0.05,-0.54,170945,16418";
        let text = format!("# a market\r\n\nodd=1,2\na={quote}\nno symbol={quote}\nb=x\na={quote}\r\n# the end\n");
        let (mut market, fixed) = read(&text, 1);
        assert_eq!((market.walking(), fixed), (1, vec![3, 6]));
        assert_eq!(market.table(), format!("# a market\n\nodd=1,2\nb=x\na={quote}\n# the end\n"));
        assert_eq!(market.lines().count(), 3);
        assert_eq!(market.tick(1_000_000, 9).len(), 1);
        let table = market.table();
        assert!(table.starts_with("# a market\n\nodd=1,2\nb=x\na=云港航运,") && !table.contains(quote), "{table}");
    }

    #[test]
    fn an_index_has_no_book() {
        let book = ",0,0.000".repeat(10);
        let text = format!("i=灯笼综指,3100.5,3094.66,3111,3120,3090.1,0,0,21000,88.5{book},2026-11-20,10:00:00,00\n");
        let (mut market, fixed) = read(&text, 1);
        assert_eq!(fixed, Vec::<usize>::new());
        market.tick(5_000_000, 1);
        let line = market.line(0);
        assert!(
            line.ends_with(&format!("{book},2026-11-20,10:00:05,00\n")) && line.contains(",0.000,0.000,"),
            "{line}"
        );
    }

    #[test]
    fn nonsense_is_refused_as_a_quote() {
        let short =
            [",,,,,", "n,1.0,2.0,0,1,1", "n,-1,-2,0,1,1", "n,9e9,0,0,1,1", "n,1,0,0,-1,1", "n,1.\u{20ac},0,0,1,1"];
        let large = [
            "n,99999999,0,0,1,1",
            "n,1,0,0,99999999999999999,1",
            "n,1,0,0,1,999999999",
            "n,1,-92233720368547758,0,1,1",
        ];
        for payload in ["", "n"].into_iter().chain(short).chain(large) {
            let (market, fixed) = read(&format!("a={payload}"), 1);
            assert_eq!((market.walking(), fixed), (0, vec![1]), "{payload}");
        }
    }
}
