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
    /// Comments above the table, each with its line end.
    header: String,
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
    /// Up to the equals sign and with it.
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
        Market::of(String::new(), entries, Moment::FIRST, rng)
    }

    /// These entries under these comments.
    pub fn of(header: String, entries: Vec<Entry>, moment: Moment, rng: Rng) -> Market {
        let walking = (0..entries.len()).filter(|at| entries[*at].quote.is_some()).collect();
        Market { header, entries, walking, moment, rng }
    }

    /// How many instruments walk.
    pub fn walking(&self) -> usize {
        self.walking.len()
    }

    /// Lets so many milliseconds pass, in which `count` instruments change, all where a new day begins. Returns
    /// which, in no particular order.
    pub fn tick(&mut self, millis: u64, count: usize) -> &[usize] {
        let (moment, is_new_day) = self.moment.after(millis);
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

    /// Every line, in the order of the table.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.line.as_str())
    }

    /// The table as it stands in a file.
    pub fn table(&self) -> String {
        let mut table = self.header.clone();
        table.reserve(self.entries.iter().map(|entry| entry.line.len()).sum());
        table.extend(self.lines());
        table
    }
}
