//! A date as the body writes it: exactly the days of the calendar before today, and a birthday within a year.
#![no_main]

#[path = "../../tests/support/calendar.rs"]
#[allow(dead_code)]
mod calendar;

use dob_api::domain::{DateOfBirth, greeting};
use jiff::civil::Date;
use libfuzzer_sys::fuzz_target;

/// A day of the calendar from 10 bytes, by the letter.
fn day(text: &str) -> Option<Date> {
    let [y, yy, yyy, yyyy, b'-', m, mm, b'-', d, dd] = text.as_bytes() else { return None };
    let digit = |byte: &u8| (b'0'..=b'9').contains(byte).then(|| i16::from(byte - b'0'));
    let year = digit(y)? * 1000 + digit(yy)? * 100 + digit(yyy)? * 10 + digit(yyyy)?;
    let (month, day) = (digit(m)? * 10 + digit(mm)?, digit(d)? * 10 + digit(dd)?);
    Date::new(year, month as i8, day as i8).ok().filter(|_| year > 0)
}

// The number of today's day since 0001-01-01, and the text.
fuzz_target!(|input: (u32, &str)| {
    let (number, text) = input;
    let first = jiff::civil::date(1, 1, 1);
    let today = first + jiff::Span::new().days(number % 3_652_000);
    let expected = day(text).filter(|day| *day < today);
    let parsed = DateOfBirth::parse(text, today).ok();
    assert_eq!(parsed.map(DateOfBirth::date), expected, "{text:?} on {today}");
    if let Some(parsed) = parsed {
        let name = "Ada".parse().expect("a name");
        assert_eq!(greeting(&name, parsed, today), calendar::greeting_on(today, "Ada", parsed.date()));
    }
});
