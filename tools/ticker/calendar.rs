//! The market's own time: from half past nine to three on weekdays, with a pause at noon, whatever the clock on the wall says.
//! So that the same seed gives the same bytes at any time of the day.

use std::fmt;

use time::{Date, Month, Weekday};

const SECOND: u64 = 1_000_000;
const HOUR: u64 = 3600 * SECOND;
const OPENS: u64 = 9 * HOUR + HOUR / 2;
const NOON: u64 = 11 * HOUR + HOUR / 2;
const AFTER_NOON: u64 = 13 * HOUR;
const CLOSES: u64 = 15 * HOUR;

/// A moment in trading hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    day: Date,
    /// Microseconds of the day.
    micros: u64,
}

impl Moment {
    /// A Friday in the week of the sample feed, when trading begins.
    pub const FIRST: Moment = Moment { day: time::macros::date!(2026 - 11 - 20), micros: OPENS };

    /// From `2026-11-20` and `09:30:00`. Times out of hours are kept: they pass into the hours with the next step.
    pub fn read(date: &str, time: &str) -> Option<Moment> {
        let [year, month, dom] = three(date, '-')?;
        let [hours, minutes, seconds] = three(time, ':')?;
        let [month, dom] = [month, dom].map(|number| u8::try_from(number).ok());
        let month = Month::try_from(month?).ok()?;
        let day = Date::from_calendar_date(i32::try_from(year).ok()?, month, dom?).ok()?;
        (hours < 24 && minutes < 60 && seconds < 60)
            .then_some(Moment { day, micros: ((hours * 60 + minutes) * 60 + seconds) * SECOND })
    }

    /// So much later, and whether a new day has begun.
    pub fn after(self, micros: u64) -> (Moment, bool) {
        let mut next = Moment { micros: self.micros + micros, ..self };
        if self.micros < NOON && (NOON..AFTER_NOON).contains(&next.micros) {
            next.micros = AFTER_NOON;
        }
        if next.micros < CLOSES {
            return (next, false);
        }
        let is_open = |day: &Date| !matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday);
        let mut days = std::iter::successors(self.day.next_day(), |day| day.next_day());
        // Where the calendar ends, its last day goes on.
        (Moment { day: days.find(is_open).unwrap_or(self.day), micros: OPENS }, true)
    }
}

/// `2026-11-20,09:30:00`, the last fields but one of a quote.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.micros / SECOND;
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(f, "{},{hours:02}:{minutes:02}:{seconds:02}", self.day)
    }
}

fn three(text: &str, separator: char) -> Option<[u64; 3]> {
    let mut parts = text.split(separator).map(|part| part.parse().ok());
    let three = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(three)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_there_and_back() {
        for date in ["1970-01-01", "2000-02-29", "2026-11-20", "2100-03-01"] {
            let moment = Moment::read(date, "09:30:00").unwrap();
            assert_eq!(moment.micros, OPENS);
            assert_eq!(moment.to_string(), format!("{date},09:30:00"));
        }
        for (date, time) in [
            ("2026-11", "09:30:00"),
            ("2026-13-01", "09:30:00"),
            ("2026-02-29", "09:30:00"),
            ("x", ""),
            ("2026-11-20", "24:00:00"),
        ] {
            assert_eq!(Moment::read(date, time), None);
        }
    }

    #[test]
    fn trading_hours_end_at_noon_at_three_and_for_the_weekend() {
        let step = |date, time, seconds: u64| {
            let (next, is_new_day) = Moment::read(date, time).unwrap().after(seconds * SECOND);
            (next.to_string(), is_new_day)
        };
        assert_eq!(Moment::FIRST.to_string(), "2026-11-20,09:30:00");
        assert_eq!(step("2026-11-18", "09:30:00", 1), ("2026-11-18,09:30:01".to_owned(), false));
        assert_eq!(step("2026-11-18", "11:29:59", 1), ("2026-11-18,13:00:00".to_owned(), false));
        assert_eq!(step("2026-11-18", "14:59:59", 1), ("2026-11-19,09:30:00".to_owned(), true));
        for date in ["2026-11-20", "2026-11-21", "2026-11-22"] {
            assert_eq!(step(date, "14:59:59", 1), ("2026-11-23,09:30:00".to_owned(), true));
        }
        let halves = Moment::FIRST.after(SECOND / 2).0.after(SECOND / 2).0;
        assert_eq!(halves.to_string(), "2026-11-20,09:30:01");
    }
}
