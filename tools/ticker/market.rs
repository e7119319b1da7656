//! All instruments, and their lines: only what changed is written anew.

use crate::{
    calendar::Moment,
    names::{Symbols, company},
    quote::{Form, Quote},
    rng::Rng,
};

/// A market at one moment. What it does next follows from its seed and from what is asked of it.
#[derive(Debug)]
pub struct Market {
    entries: Vec<Entry>,
    /// Indexes into `entries` of those that walk. Shuffled a little further with each draw.
    walking: Vec<usize>,
    moment: Moment,
    rng: Rng,
}

/// A line of the table.
#[derive(Debug)]
pub struct Entry {
    /// `symbol=payload` and a line feed.
    line: String,
    /// Up to the equals sign and with it; 0 in a comment.
    head: usize,
    /// None: it stays as it is.
    quote: Option<(Quote, Form)>,
}

impl Entry {
    pub fn new(symbol: &str, quote: Quote, form: Form) -> Entry {
        let mut entry = Entry { line: format!("{symbol}="), head: symbol.len() + 1, quote: Some((quote, form)) };
        entry.write();
        entry
    }

    /// A line that stays as it is: a quote that is not understood, a comment.
    pub fn fixed(line: &str, head: usize) -> Entry {
        Entry { line: format!("{line}\n"), head, quote: None }
    }

    /// None in a comment.
    pub fn symbol(&self) -> Option<&str> {
        self.head.checked_sub(1).map(|end| &self.line[..end])
    }

    fn write(&mut self) {
        if let Some((quote, form)) = &self.quote {
            self.line.truncate(self.head);
            quote.write(*form, &mut self.line);
            self.line.push('\n');
        }
    }
}

impl Market {
    /// So many invented companies.
    pub fn invent(symbols: u32, form: Form, seed: u64) -> Market {
        let mut rng = Rng::new(seed);
        let mut given_out = Symbols::new();
        let prefix = if form == Form::Short { "s_" } else { "" };
        let entries = (0..symbols).map(|_| {
            let symbol = format!("{prefix}{}", given_out.next(&mut rng));
            let name = company(&mut rng);
            Entry::new(&symbol, Quote::invent(name, Moment::FIRST, &mut rng), form)
        });
        let entries = entries.collect();
        Market::of(entries, Moment::FIRST, rng)
    }

    /// These entries.
    pub fn of(entries: Vec<Entry>, moment: Moment, rng: Rng) -> Market {
        let walking = (0..entries.len()).filter(|at| entries[*at].quote.is_some()).collect();
        Market { entries, walking, moment, rng }
    }

    /// How many instruments walk.
    pub fn walking(&self) -> usize {
        self.walking.len()
    }

    /// Lets so many microseconds pass, in which `count` instruments change, all where a new day begins. Returns
    /// which, in no particular order.
    pub fn tick(&mut self, micros: u64, count: usize) -> &[usize] {
        let (moment, is_new_day) = self.moment.after(micros);
        self.moment = moment;
        let count = if is_new_day { self.walking.len() } else { count.min(self.walking.len()) };
        for place in 0..count {
            let other = place as u64 + self.rng.below((self.walking.len() - place) as u64);
            self.walking.swap(place, other as usize);
            let entry = &mut self.entries[self.walking[place]];
            if let Some((quote, _)) = &mut entry.quote {
                if is_new_day {
                    quote.new_day(moment, &mut self.rng);
                } else {
                    quote.step(moment, &mut self.rng);
                }
            }
            entry.write();
        }
        &self.walking[..count]
    }

    /// The line of an entry, with its line feed.
    pub fn line(&self, at: usize) -> &str {
        &self.entries[at].line
    }

    /// Every quote's line, in the order of the table.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().filter(|entry| entry.head > 0).map(|entry| entry.line.as_str())
    }

    /// The table as it stands in a file.
    pub fn table(&self) -> String {
        self.entries.iter().map(|entry| entry.line.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const SECOND: u64 = 1_000_000;

    fn fields(line: &str) -> Vec<&str> {
        line.trim_end().split_once('=').unwrap().1.split(',').collect()
    }

    fn number(field: &str) -> f64 {
        field.parse().unwrap()
    }

    /// The market after some ticks of half its instruments.
    fn walked(seed: u64, form: Form) -> String {
        let mut market = Market::invent(300, form, seed);
        let ticks = (0..20).map(|_| market.tick(SECOND, 150).len()).collect::<Vec<_>>();
        assert_eq!(ticks, [150; 20]);
        market.table()
    }

    #[test]
    fn a_seed_decides_every_byte() {
        for form in [Form::Full, Form::Short] {
            assert_eq!(walked(7, form), walked(7, form));
            assert_ne!(walked(7, form), walked(8, form));
        }
    }

    #[test]
    fn lines_are_what_the_format_allows_and_as_long_as_real_ones() {
        for (form, lengths, count) in [(Form::Full, 230..=290, 33), (Form::Short, 55..=90, 6)] {
            let mut market = Market::invent(5000, form, 3);
            let mut symbols = HashSet::new();
            for line in market.lines() {
                let (symbol, payload) = line.split_once('=').unwrap();
                assert!(symbols.insert(symbol.to_owned()), "{symbol} comes twice");
                assert!(symbol.len() <= 32 && symbol.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{line}");
                let payload = payload.strip_suffix('\n').unwrap();
                assert!(!payload.contains(|c: char| c.is_control() || "\"\\<".contains(c)), "{line}");
                assert_eq!(payload.split(',').count(), count, "{line}");
                let script = format!("var hq_str_{symbol}=\"{payload}\";");
                assert!(lengths.contains(&script.len()), "{}: {script}", script.len());
            }
            for _ in 0..30 {
                market.tick(SECOND, 5000);
            }
            assert!(market.lines().all(|line| lengths.contains(&(line.len() + r#"var hq_str_"";"#.len() - 1))));
        }
    }

    #[test]
    fn prices_stay_within_the_limits_of_the_day() {
        let mut market = Market::invent(60, Form::Full, 11);
        let mut days = HashSet::new();
        for _ in 0..4000 {
            market.tick(7 * SECOND, 60);
            for line in market.lines() {
                let fields = fields(line);
                let [open, previous, price, high, low, bid, ask] = [1, 2, 3, 4, 5, 6, 7].map(|at| number(fields[at]));
                let (bottom, top) = (previous * 0.9 - 0.001, previous * 1.1 + 0.001);
                assert!(bottom <= low && low <= price && price <= high && high <= top, "{line}");
                assert!(low <= open && open <= high && (bid == price || ask == price) && bid < ask, "{line}");
                days.insert(fields[30].to_owned());
            }
        }
        assert!(days.len() > 1, "a new day begins");
    }

    #[test]
    fn only_what_is_drawn_changes_and_its_volume_grows() {
        let mut market = Market::invent(100, Form::Full, 5);
        let mut seen: HashSet<usize> = HashSet::new();
        for _ in 0..200 {
            let before: Vec<String> = market.lines().map(str::to_owned).collect();
            let changed: HashSet<usize> = market.tick(SECOND, 7).iter().copied().collect();
            assert_eq!(changed.len(), 7);
            seen.extend(&changed);
            for (at, line) in before.iter().enumerate() {
                assert_eq!(line != market.line(at), changed.contains(&at), "{line}");
                let volumes = [line, market.line(at)].map(|line| number(fields(line)[8]));
                assert!(!changed.contains(&at) || volumes[0] < volumes[1], "{line}");
            }
        }
        assert_eq!(seen.len(), 100, "each comes to its turn");
    }
}
