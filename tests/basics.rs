//! What tests need of no server: dates, a search, random numbers. The targets of `fuzz/` use it as well.

use std::{
    env,
    time::{SystemTime, UNIX_EPOCH},
};

pub(crate) fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, part)
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

/// Seconds since 1970 as an IMF-fixdate (RFC 9110 §5.6.7).
pub(crate) fn http_date(secs: u64) -> String {
    let (days, clock) = (secs / 86400, secs % 86400);
    let mut year = 1970;
    let mut left = days;
    while left >= year_days(year) {
        left -= year_days(year);
        year += 1;
    }
    let mut month = 0;
    while left >= month_days(year, month) {
        left -= month_days(year, month);
        month += 1;
    }
    format!(
        "{}, {:02} {} {year} {:02}:{:02}:{:02} GMT",
        DAYS[(days % 7) as usize],
        left + 1,
        MONTHS[month],
        clock / 3600,
        clock / 60 % 60,
        clock % 60,
    )
}

/// Seconds since 1970 from an IMF-fixdate in its one exact form.
pub(crate) fn parse_date(date: &str) -> Option<u64> {
    let words: Vec<&str> = date.split([' ', ':']).collect();
    let &[_, day, month, year, hour, minute, second, "GMT"] = words.as_slice() else {
        return None;
    };
    let number = |word: &str| word.parse::<u64>().ok();
    let (year, month) = (number(year)?, MONTHS.iter().position(|m| *m == month)?);
    let days = (1970..year).map(year_days).sum::<u64>()
        + (0..month).map(|m| month_days(year, m)).sum::<u64>()
        + number(day)?.checked_sub(1)?;
    let secs = days * 86400 + number(hour)? * 3600 + number(minute)? * 60 + number(second)?;
    (http_date(secs) == date).then_some(secs)
}

fn year_days(year: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    365 + u64::from(leap)
}

fn month_days(year: u64, month: usize) -> u64 {
    match month {
        1 => year_days(year) - 337,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

/// The seed of `CLOUDIA_TEST_SEED`, else a new one; printed.
pub(crate) fn seed() -> u64 {
    let given = env::var("CLOUDIA_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = given.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        u64::from(now.unwrap().subsec_nanos())
    });
    eprintln!("CLOUDIA_TEST_SEED={seed}");
    seed
}

/// SplitMix64: enough to scatter cuts, and the same everywhere for the same seed.
pub(crate) struct Rng(u64);

impl Rng {
    /// A new seed each time, printed so that a failure can be repeated with `CLOUDIA_TEST_SEED`.
    pub(crate) fn seeded() -> Rng {
        Rng(seed())
    }

    /// The same numbers in every run.
    pub(crate) fn with_seed(seed: u64) -> Rng {
        Rng(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to, but not including, `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

#[test]
fn dates_go_both_ways() {
    for secs in (0..4_000_000_000).step_by(7_654_321) {
        assert_eq!(parse_date(&http_date(secs)), Some(secs));
    }
    assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_eq!(http_date(1_700_000_000), "Tue, 14 Nov 2023 22:13:20 GMT");
}
