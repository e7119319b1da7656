//! The market's own time: from half past nine to three on weekdays, with a pause at noon, whatever the clock on the wall says.
//! So that the same seed gives the same bytes at any time of the day.

use std::fmt;

const SECOND: u64 = 1_000_000;
const HOUR: u64 = 3600 * SECOND;
const OPENS: u64 = 9 * HOUR + HOUR / 2;
const NOON: u64 = 11 * HOUR + HOUR / 2;
const AFTER_NOON: u64 = 13 * HOUR;
const CLOSES: u64 = 15 * HOUR;

/// A moment in trading hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Days since 1970-01-01, which was a Thursday.
    day: u64,
    /// Microseconds of the day.
    micros: u64,
}

impl Moment {
    /// A day in the week of the sample feed, when trading begins.
    pub const FIRST: Moment = Moment { day: 20_777, micros: OPENS };

    /// From `2026-11-20` and `09:30:00`. Times out of hours are kept: they pass into the hours with the next step.
    pub fn read(date: &str, time: &str) -> Option<Moment> {
        let [year, month, dom] = three(date, '-')?;
        let [hours, minutes, seconds] = three(time, ':')?;
        let is_sound = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&dom);
        (is_sound && hours < 24 && minutes < 60 && seconds < 60)
            .then(|| Moment { day: day_of(year, month, dom), micros: ((hours * 60 + minutes) * 60 + seconds) * SECOND })
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
        let next_day = match self.day % 7 {
            1 => 3, // A Friday.
            2 => 2,
            _ => 1,
        };
        (Moment { day: self.day + next_day, micros: OPENS }, true)
    }
}

/// `2026-11-20,09:30:00`, the last fields but one of a quote.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, dom) = date_of(self.day);
        let seconds = self.micros / SECOND;
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{dom:02},{hours:02}:{minutes:02}:{seconds:02}")
    }
}

fn three(text: &str, separator: char) -> Option<[u64; 3]> {
    let mut parts = text.split(separator).map(|part| part.parse().ok());
    let three = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(three)
}

/// Of the Gregorian calendar, in years that begin in March: the leap day comes last.
fn day_of(year: u64, month: u64, dom: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + dom - 1 - TO_1970
}

/// Days from 0000-03-01 to 1970-01-01.
const TO_1970: u64 = 719_468;
const DAYS_OF_400_YEARS: u64 = 146_097;

fn date_of(day: u64) -> (u64, u64, u64) {
    let day = day + TO_1970;
    let (era, of_era) = (day / DAYS_OF_400_YEARS, day % DAYS_OF_400_YEARS);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / (DAYS_OF_400_YEARS - 1)) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let dom = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    (era * 400 + year, month, dom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_of_every_kind_of_year_there_and_back() {
        for (date, day) in [("1970-01-01", 0), ("2000-02-29", 11_016), ("2026-11-20", 20_777), ("2100-03-01", 47_541)] {
            let moment = Moment::read(date, "09:30:00").unwrap();
            assert_eq!(moment, Moment { day, micros: OPENS });
            assert_eq!(moment.to_string(), format!("{date},09:30:00"));
        }
        for day in 0..100_000 {
            let (year, month, dom) = date_of(day);
            assert_eq!(day_of(year, month, dom), day);
        }
        for (date, time) in [("2026-11", "09:30:00"), ("2026-13-01", "09:30:00"), ("x", ""), ("2026-11-20", "24:00:00")]
        {
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
