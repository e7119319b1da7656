//! The time as answers need it: whole seconds, and the `Date` made from them once a second.
//!
//! The pure parts take a [`Clock`] as an argument and never read the system's.

use std::{
    cell::Cell,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Length of an IMF-fixdate (RFC 9110 §5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
pub const DATE_LEN: usize = 29;

/// An IMF-fixdate.
pub type HttpDate = [u8; DATE_LEN];

/// A moment in whole seconds since 1970 with its `Date`.
#[derive(Clone, Copy)]
pub struct Clock {
    secs: u64,
    date: HttpDate,
}

impl Clock {
    /// The clock at `secs` seconds since 1970.
    pub fn at(secs: u64) -> Self {
        Self { secs, date: http_date(secs) }
    }

    /// The system's time.
    pub fn now() -> Self {
        Self::at(unix_now())
    }

    /// Reads the system's time again; the date is made anew only when the second has changed.
    pub fn refresh(&mut self) {
        let secs = unix_now();
        if secs != self.secs {
            *self = Self::at(secs);
        }
    }

    /// Seconds since 1970.
    pub fn secs(&self) -> u64 {
        self.secs
    }

    /// The value of a `Date` field.
    pub fn date(&self) -> &HttpDate {
        &self.date
    }
}

/// Seconds since 1970 by the system's clock; 0 before 1970.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// `secs` as an IMF-fixdate. Past the year 9999, which the format cannot say, it is the last second of that year.
pub fn http_date(secs: u64) -> HttpDate {
    thread_local! {
        /// What changes at the same time is dated one after the other.
        static LAST: Cell<(u64, HttpDate)> = const { Cell::new((0, *b"Thu, 01 Jan 1970 00:00:00 GMT")) };
    }
    let (last, date) = LAST.get();
    if last == secs {
        return date;
    }
    let date = format_date(secs);
    LAST.set((secs, date));
    date
}

fn format_date(secs: u64) -> HttpDate {
    const LAST: u64 = 253_402_300_799;
    let mut date = [b' '; DATE_LEN];
    let text = httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_secs(secs.min(LAST))).to_string();
    for (to, from) in date.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    date
}

/// Reads any of the three date forms of RFC 9110 §5.6.7, in seconds since 1970. None for anything else.
pub fn parse_http_date(value: &[u8]) -> Option<u64> {
    let time = httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_are_one_moment() {
        for form in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(parse_http_date(form.as_bytes()), Some(784_111_777), "{form}");
        }
        assert_eq!(&http_date(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn a_date_past_the_format_is_its_last() {
        assert_eq!(&http_date(u64::MAX), b"Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
