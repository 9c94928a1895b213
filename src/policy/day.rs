//! Calendar days, for `expires`. Nothing here reads a clock: the caller says which day it is.

use std::fmt;

/// A day in the Gregorian calendar, UTC, counted from 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Day(i64);

impl Day {
    /// The day that many days after 1970-01-01.
    pub const fn from_days(days: i64) -> Day {
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
        let mut parts = text.split('-');
        let mut number = |width: usize| {
            let part = parts.next()?;
            let digits = part.len() == width && part.bytes().all(|b| b.is_ascii_digit());
            if digits { part.parse::<i64>().ok() } else { None }
        };
        let (year, month, day) = (number(4)?, number(2)?, number(2)?);
        if parts.next().is_some() || !(1..=12).contains(&month) {
            return None;
        }
        let counted = Day(days_from_civil(year, month, day));
        (day >= 1 && counted.civil() == (year, month, day)).then_some(counted)
    }

    /// Year, month and day. The calendar repeats every 146,097 days (400 years).
    fn civil(self) -> (i64, i64, i64) {
        let shifted = self.0.saturating_add(719_468);
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        (year_of_era + era * 400 + i64::from(month <= 2), month, day)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * shifted_month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
}

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
        ] {
            assert_eq!(Day::parse(text), None, "{text}");
        }
        assert_eq!(Day::from_unix_seconds(-1).to_string(), "1969-12-31");
    }

    proptest::proptest! {
        #[test]
        fn writing_and_reading_agree(days in -700_000i64..2_900_000) {
            let day = Day::from_days(days);
            proptest::prop_assert_eq!(Day::parse(&day.to_string()), Some(day));
        }
    }
}
