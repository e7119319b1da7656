//! One instrument: what is known of it, how its price walks, and how it is written.

use std::fmt::{self, Display, Write};

use crate::{calendar::Moment, rng::Rng};

/// How a quote is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// Everything with five levels of the book, about 250 bytes
    Full,
    /// Name, price, change, percent, volume, amount, about 70 bytes
    Short,
}

/// Levels of the book on each side.
const LEVELS: usize = 5;
/// The field of the date in the full form; the time comes after it.
const MOMENT_AT: usize = 10 + 4 * LEVELS;

/// Prices and amounts are in hundredths of a yuan, volumes in shares.
#[derive(Clone, Debug)]
pub struct Quote {
    pub name: String,
    pub open: i64,
    /// Of the day before; what the limits of the day follow from. Above 0.
    pub previous: i64,
    pub price: i64,
    pub high: i64,
    pub low: i64,
    pub volume: i64,
    pub amount: i64,
    /// Shares that wait at each price, from the best on. An index has no book.
    pub book: Option<Book>,
    pub moment: Moment,
}

/// Bids below the price, asks above it, a tick apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    best_bid: i64,
    bids: [i64; LEVELS],
    asks: [i64; LEVELS],
}

/// A table may hold any number. Those beyond ten million yuan a share, or a thousand billion shares or yuan, are not
/// understood, so that no sum leaves its type.
const MOST_PRICE: i64 = 1_000_000_000;
const MOST_SUM: i64 = 100_000_000_000_000;

/// Shares are traded by the hundred.
const LOT: i64 = 100;

impl Quote {
    /// An invented company at the opening of a day.
    pub fn invent(name: String, moment: Moment, rng: &mut Rng) -> Quote {
        // Many cheap shares and few dear ones: each octave from 2 to 128 yuan is as likely.
        let octave = 200 << rng.below(6);
        let previous = octave + rng.below(octave as u64) as i64;
        let open = within_limits(previous, previous + previous * rng.between(-20, 20) / 1000);
        let mut quote = Quote {
            name,
            open,
            previous,
            price: open,
            high: open,
            low: open,
            volume: 0,
            amount: 0,
            book: Some(Book { best_bid: open, ..Book::default() }),
            moment,
        };
        // As if it were some time after the opening: no field is zero, and the day has a span.
        for _ in 0..32 {
            quote.trade(1000, rng);
        }
        quote
    }

    /// A trade or some at another price or the same one. The volume grows, so the line is never the same as before.
    pub fn step(&mut self, moment: Moment, rng: &mut Rng) {
        self.moment = moment;
        self.trade(40, rng);
    }

    /// The next day begins at the price of the last.
    pub fn new_day(&mut self, moment: Moment, rng: &mut Rng) {
        self.previous = self.price;
        let open = within_limits(self.previous, self.previous + self.previous * rng.between(-10, 10) / 1000);
        (self.open, self.price, self.high, self.low) = (open, open, open, open);
        (self.volume, self.amount) = (0, 0);
        self.step(moment, rng);
    }

    /// What a payload says, and in which form. Its book is made up anew.
    pub fn read(payload: &str, rng: &mut Rng) -> Option<(Quote, Form, Option<Moment>)> {
        let fields: Vec<&str> = payload.split(',').map(str::trim).collect();
        let (mut quote, form, moment) = if fields.len() > MOMENT_AT + 1 {
            let (quote, moment) = Quote::read_full(&fields)?;
            (quote, Form::Full, Some(moment))
        } else {
            (Quote::read_short(&fields)?, Form::Short, None)
        };
        let is_sound = (1..MOST_PRICE).contains(&quote.previous)
            && (1..MOST_PRICE).contains(&quote.price)
            && (0..MOST_SUM).contains(&quote.volume)
            && (0..MOST_SUM).contains(&quote.amount);
        if let Some(book) = &mut quote.book {
            book.refresh(quote.price, rng);
        }
        is_sound.then_some((quote, form, moment))
    }

    fn read_full(fields: &[&str]) -> Option<(Quote, Moment)> {
        let moment = Moment::read(fields[MOMENT_AT], fields[MOMENT_AT + 1])?;
        let quote = Quote {
            name: fields[0].to_owned(),
            open: cents(fields[1])?,
            previous: cents(fields[2])?,
            price: cents(fields[3])?,
            high: cents(fields[4])?,
            low: cents(fields[5])?,
            volume: fields[8].parse().ok()?,
            amount: cents(fields[9])?,
            book: (cents(fields[6])? > 0).then(Book::default),
            moment,
        };
        Some((quote, moment))
    }

    fn read_short(fields: &[&str]) -> Option<Quote> {
        let &[name, price, change, _, lots, ten_thousands] = fields else { return None };
        let price = cents(price)?;
        Some(Quote {
            name: name.to_owned(),
            open: price,
            previous: price.checked_sub(cents(change)?)?,
            price,
            high: price,
            low: price,
            volume: lots.parse::<i64>().ok()?.checked_mul(LOT)?,
            amount: ten_thousands.parse::<i64>().ok()?.checked_mul(1_000_000)?,
            // Not written in this form.
            book: None,
            moment: Moment::FIRST,
        })
    }

    fn trade(&mut self, most_lots: i64, rng: &mut Rng) {
        // A tick or two for what is cheap, up to a thousandth for what is dear; and a pull back to where the day began,
        // or most of a long walk would lie at the limits.
        let reach = 2.max(self.previous / 1000);
        let pull = (self.previous - self.price) / 64;
        self.price = within_limits(self.previous, self.price + rng.between(-reach, reach) + pull);
        self.high = self.high.max(self.price);
        self.low = self.low.min(self.price);
        // The cheaper the share, the more of them change hands.
        let lots = 1 + rng.below(most_lots as u64 * 20_000 / self.previous.clamp(100, 20_000) as u64) as i64;
        self.volume = self.volume.saturating_add(lots * LOT);
        self.amount = self.amount.saturating_add(lots * LOT * self.price);
        if let Some(book) = &mut self.book {
            book.refresh(self.price, rng);
        }
    }

    /// The payload of this form.
    pub fn write(&self, form: Form, line: &mut String) {
        // Writing into a string cannot fail.
        let _ = match form {
            Form::Full => self.write_full(line),
            Form::Short => self.write_short(line),
        };
    }

    fn write_full(&self, line: &mut String) -> fmt::Result {
        let (bid, ask) = self.book.as_ref().map_or((0, 0), |book| (book.best_bid, book.best_bid + 1));
        line.write_str(&self.name)?;
        for price in [self.open, self.previous, self.price, self.high, self.low, bid, ask] {
            write!(line, ",{}", Milli(price))?;
        }
        write!(line, ",{},{}", self.volume, Milli(self.amount))?;
        for level in 0..LEVELS {
            self.write_level(|book| (book.bids[level], book.best_bid - level as i64), line)?;
        }
        for level in 0..LEVELS {
            self.write_level(|book| (book.asks[level], book.best_bid + 1 + level as i64), line)?;
        }
        write!(line, ",{},00", self.moment)
    }

    fn write_level(&self, level: impl FnOnce(&Book) -> (i64, i64), line: &mut String) -> fmt::Result {
        let (shares, price) = self.book.as_ref().map_or((0, 0), level);
        write!(line, ",{},{}", shares, Milli(price.max(0)))
    }

    fn write_short(&self, line: &mut String) -> fmt::Result {
        let change = self.price - self.previous;
        // Rounded, not cut off.
        let percent = (change * 20_000 + change.signum() * self.previous) / (2 * self.previous);
        write!(line, "{},{},{},{}", self.name, Cents(self.price), Cents(change), Cents(percent))?;
        write!(line, ",{},{}", self.volume / LOT, self.amount / 1_000_000)
    }
}

impl Book {
    fn refresh(&mut self, price: i64, rng: &mut Rng) {
        // The last trade met the best bid or the best ask.
        self.best_bid = price - rng.below(2) as i64;
        for shares in self.bids.iter_mut().chain(&mut self.asks) {
            // What waits is mostly what waited before.
            if *shares == 0 || rng.below(3) == 0 {
                *shares = LOT * rng.between(1, 4000);
            }
        }
    }
}

/// A day's prices stay within a tenth of the close before, and above nothing.
fn within_limits(previous: i64, price: i64) -> i64 {
    let span = previous / 10;
    price.clamp((previous - span).max(1), previous + span)
}

/// Hundredths, of `14.33`, `14.330` and `14`; what is beyond the second decimal is cut off.
fn cents(text: &str) -> Option<i64> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() || ![whole, part].iter().all(|part| part.bytes().all(|b| b.is_ascii_digit())) {
        return None;
    }
    let part = format!("{part}00");
    let cents = whole.parse::<i64>().ok()?.checked_mul(100)?.checked_add(part[..2].parse().ok()?)?;
    Some(sign * cents)
}

/// Hundredths with two decimals.
struct Cents(i64);

impl Display for Cents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}.{:02}", self.0.unsigned_abs() / 100, self.0.unsigned_abs() % 100)
    }
}

/// Hundredths with three decimals.
struct Milli(i64);

impl Display for Milli {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}0", Cents(self.0))
    }
}
