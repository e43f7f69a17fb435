//! A date as the body writes it: exactly the days of the calendar before today, and a birthday within a year.

use dob_api::domain::{DateOfBirth, greeting};
use jiff::civil::Date;

use crate::calendar;

/// A day of the calendar from 10 bytes, by the letter.
fn day(text: &str) -> Option<Date> {
    let [y, yy, yyy, yyyy, b'-', m, mm, b'-', d, dd] = text.as_bytes() else { return None };
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| i16::from(byte - b'0'));
    let year = digit(y)? * 1000 + digit(yy)? * 100 + digit(yyy)? * 10 + digit(yyyy)?;
    let (month, day) = (digit(m)? * 10 + digit(mm)?, digit(d)? * 10 + digit(dd)?);
    Date::new(year, month as i8, day as i8).ok().filter(|_| year > 0)
}

/// An input is the number of today's day since 0001-01-01 in four bytes, and the date.
pub fn run(input: &[u8]) {
    let Some((number, Ok(text))) = input.split_first_chunk().map(|(number, text)| (number, std::str::from_utf8(text)))
    else {
        return;
    };
    let number = u32::from_le_bytes(*number);
    let first = jiff::civil::date(1, 1, 1);
    let today = first + jiff::Span::new().days(number % 3_649_000);
    let expected = day(text).filter(|day| *day < today);
    let parsed = DateOfBirth::parse(text, today).ok();
    assert_eq!(parsed.map(DateOfBirth::date), expected, "{text:?} on {today}");
    if let Some(parsed) = parsed {
        let name = "Ada".parse().expect("a name");
        assert_eq!(greeting(&name, parsed, today), calendar::greeting_on(today, "Ada", parsed.date()));
    }
}
