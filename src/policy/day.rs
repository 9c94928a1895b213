//! Calendar days, for `expires`. Nothing here reads a clock: the caller says which day it is.

use std::fmt;

use jiff::Span;
use jiff::civil::{Date, date};

/// A day in the Gregorian calendar, UTC, counted from 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Day(i64);

impl Day {
    /// The day that many days after 1970-01-01.
    #[cfg(test)]
    const fn from_days(days: i64) -> Day {
        Day(days)
    }

    /// The day of a moment given in seconds since 1970-01-01T00:00:00Z.
    pub const fn from_unix_seconds(seconds: i64) -> Day {
        Day(seconds.div_euclid(86_400))
    }

    /// Days since 1970-01-01.
    pub const fn days(self) -> i64 {
        self.0
    }

    /// The day after.
    pub const fn next(self) -> Day {
        Day(self.0.saturating_add(1))
    }

    /// Reads `2027-01-31`; none if there is no such day.
    pub fn parse(text: &str) -> Option<Day> {
        let is_written_so = |(at, octet): (usize, u8)| match at {
            4 | 7 => octet == b'-',
            _ => octet.is_ascii_digit(),
        };
        // Other ways to write a day, and what has an hour behind it, are no days here.
        if text.len() != 10 || !text.bytes().enumerate().all(is_written_so) {
            return None;
        }
        let since = EPOCH.until(text.parse::<Date>().ok()?).ok()?;
        Some(Day(i64::from(since.get_days())))
    }

    /// The same in the calendar, which has years of four digits.
    fn civil(self) -> Date {
        EPOCH.saturating_add(Span::new().days(self.0.clamp(FIRST, LAST)))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.civil().fmt(f)
    }
}

const EPOCH: Date = date(1970, 1, 1);

/// 0000-01-01.
const FIRST: i64 = -719_528;

/// 9999-12-31.
const LAST: i64 = 2_932_896;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_days_that_exist_are_read() {
        assert_eq!(Day::parse("1970-01-01"), Some(Day::from_days(0)));
        assert_eq!(Day::parse("2027-01-31").map(Day::days), Some(20_849));
        assert_eq!(Day::parse("2028-02-29").map(|d| d.next().to_string()), Some("2028-03-01".to_owned()));
        for text in [
            "2027-02-29",
            "2027-13-01",
            "2027-00-10",
            "2027-1-1",
            "27-01-01",
            "2027-01-32",
            "2027-01-00",
            "",
            "2027-01-01-1",
            "20270101",
            "2027-01-01T00",
            "+027-01-01",
            "2027-W01-1",
        ] {
            assert_eq!(Day::parse(text), None, "{text}");
        }
        assert_eq!(Day::from_unix_seconds(-1).to_string(), "1969-12-31");
        assert_eq!(Day::from_days(i64::MAX).to_string(), "9999-12-31");
        assert_eq!(Day::from_days(i64::MIN).to_string(), "0000-01-01");
    }

    proptest::proptest! {
        #[test]
        fn writing_and_reading_agree(days in -700_000i64..2_900_000) {
            let day = Day::from_days(days);
            proptest::prop_assert_eq!(Day::parse(&day.to_string()), Some(day));
        }
    }
}
