use std::fmt;

use jiff::civil::Date;
use thiserror::Error;

/// The day a person was born, in the proleptic Gregorian calendar, 0001-01-01 or later.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DateOfBirth(Date);

/// Why a text is no [`DateOfBirth`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DateError {
    /// The text is not of the form `YYYY-MM-DD`.
    #[error("dateOfBirth must be written YYYY-MM-DD, such as 1815-12-10")]
    Form,
    /// The form is right, but the calendar has no such day.
    #[error("dateOfBirth is not a real date: write a date from 0001-01-01 on")]
    NoSuchDay,
    /// The day is today or later.
    #[error("dateOfBirth must be before today")]
    NotPast,
}

impl DateOfBirth {
    /// Parses exactly ten bytes `YYYY-MM-DD` that name a real day from 0001-01-01 to the day before `today`.
    ///
    /// # Errors
    ///
    /// Says whether the form, the day, or its place in time is wrong.
    ///
    /// ```
    /// use dob_api::domain::{DateError, DateOfBirth};
    ///
    /// let today = jiff::civil::date(2026, 11, 22);
    /// assert!(DateOfBirth::parse("1815-12-10", today).is_ok());
    /// assert_eq!(DateOfBirth::parse("2026-11-22", today), Err(DateError::NotPast));
    /// ```
    pub fn parse(text: &str, today: Date) -> Result<Self, DateError> {
        let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *text.as_bytes() else {
            return Err(DateError::Form);
        };
        if ![y1, y2, y3, y4, m1, m2, d1, d2].iter().all(u8::is_ascii_digit) {
            return Err(DateError::Form);
        }
        let digit = |byte: u8| (byte - b'0').cast_signed();
        let two = |tens, ones| digit(tens) * 10 + digit(ones);
        let year = i16::from(two(y1, y2)) * 100 + i16::from(two(y3, y4));
        let date = Date::new(year, two(m1, m2), two(d1, d2)).map_err(|_| DateError::NoSuchDay)?;
        if year == 0 {
            return Err(DateError::NoSuchDay);
        }
        if date >= today {
            return Err(DateError::NotPast);
        }
        Ok(Self(date))
    }

    /// Takes a day as a store returns it; `None` for one before 0001-01-01, which something else must have written.
    #[must_use]
    pub fn from_stored(date: Date) -> Option<Self> {
        (date.year() > 0).then_some(Self(date))
    }

    /// The calendar day.
    #[must_use]
    pub fn date(self) -> Date {
        self.0
    }

    /// Days from `today` until the next birthday: 0 on the day itself, 366 at the most.
    ///
    /// Born on 29 February: 1 March in common years. Each year is computed from the day of birth itself, because
    /// adding years one by one would clamp to 28 February and drift.
    #[must_use]
    pub fn days_until_birthday(self, today: Date) -> i64 {
        let this_year = self.birthday_in(today.year());
        let next = if this_year >= today { this_year } else { self.birthday_in(today.year() + 1) };
        next.duration_since(today).as_hours() / 24
    }

    fn birthday_in(self, year: i16) -> Date {
        Date::new(year, self.0.month(), self.0.day()).or_else(|_| Date::new(year, 3, 1)).unwrap_or(Date::MAX)
    }
}

/// Hides the day: dates of birth pass through places that log.
impl fmt::Debug for DateOfBirth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DateOfBirth(…)")
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    const TODAY: Date = date(2026, 11, 22);

    #[test]
    fn only_ten_bytes_that_name_a_real_past_day_are_accepted() {
        let cases = [
            ("1815-12-10", Ok(date(1815, 12, 10))),
            ("2026-11-21", Ok(date(2026, 11, 21))),
            ("0001-01-01", Ok(date(1, 1, 1))),
            ("2000-02-29", Ok(date(2000, 2, 29))),
            ("2026-11-22", Err(DateError::NotPast)),
            ("2026-11-23", Err(DateError::NotPast)),
            ("9999-12-31", Err(DateError::NotPast)),
            ("0000-01-01", Err(DateError::NoSuchDay)),
            ("1900-02-29", Err(DateError::NoSuchDay)),
            ("2000-02-30", Err(DateError::NoSuchDay)),
            ("2000-13-01", Err(DateError::NoSuchDay)),
            ("2000-00-10", Err(DateError::NoSuchDay)),
            ("2000-01-00", Err(DateError::NoSuchDay)),
            ("", Err(DateError::Form)),
            ("20000229", Err(DateError::Form)),
            ("+002000-02-29", Err(DateError::Form)),
            ("-002000-02-29", Err(DateError::Form)),
            ("2000-02-29T00:00", Err(DateError::Form)),
            ("2000-02-29[u-ca=hebrew]", Err(DateError::Form)),
            ("2000-2-9", Err(DateError::Form)),
            (" 2000-2-09", Err(DateError::Form)),
            ("2000/02/29", Err(DateError::Form)),
            ("2000-02-2９", Err(DateError::Form)),
            ("29-02-2000", Err(DateError::Form)),
            ("２000-2-9", Err(DateError::Form)),
        ];
        for (text, expected) in cases {
            assert_eq!(DateOfBirth::parse(text, TODAY).map(DateOfBirth::date), expected, "{text:?}");
        }
    }

    #[test]
    fn days_are_counted_to_the_next_birthday() {
        let cases = [
            (date(1990, 11, 22), date(2026, 11, 22), 0),
            (date(1990, 11, 23), date(2026, 11, 22), 1),
            (date(1990, 11, 21), date(2026, 11, 22), 364),
            (date(1990, 1, 1), date(2026, 12, 31), 1),
            (date(1990, 12, 31), date(2026, 1, 1), 364),
            (date(1990, 3, 2), date(2023, 3, 3), 365),
            (date(1, 1, 1), date(2026, 1, 1), 0),
            // 29 February: the day itself in leap years, 1 March in common ones.
            (date(2000, 2, 29), date(2024, 2, 29), 0),
            (date(2000, 2, 29), date(2024, 2, 28), 1),
            (date(2000, 2, 29), date(2024, 3, 1), 365),
            (date(2000, 2, 29), date(2023, 2, 28), 1),
            (date(2000, 2, 29), date(2023, 3, 1), 0),
            (date(2000, 2, 29), date(2023, 3, 2), 364),
            (date(2000, 2, 29), date(1900, 3, 1), 0),
            (date(2000, 2, 29), date(2100, 2, 28), 1),
            (date(2000, 2, 28), date(2023, 2, 28), 0),
            (date(2000, 3, 1), date(2024, 2, 29), 1),
        ];
        for (born, today, days) in cases {
            assert_eq!(DateOfBirth(born).days_until_birthday(today), days, "born {born}, today {today}");
        }
    }

    #[test]
    fn no_day_of_400_years_is_further_than_366_days_from_a_birthday() {
        let born = [date(1999, 1, 1), date(1999, 12, 31), date(2000, 2, 28), date(2000, 2, 29), date(2000, 3, 1)];
        for born in born.map(DateOfBirth) {
            let mut expected = born.days_until_birthday(date(2000, 1, 1));
            for today in date(2000, 1, 1).series(jiff::Span::new().days(1)).take(146_097) {
                let days = born.days_until_birthday(today);
                assert!(days == expected || expected == -1 && (364..=365).contains(&days), "{today}");
                expected = days - 1;
            }
        }
    }
}
